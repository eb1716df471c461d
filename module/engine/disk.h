/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk.h - the threads that work on the files of the outbox.
   Tasks run in the order in which they were handed in, and no connection holds
   them up.  What follows SMN_STEP_ASIDE, and SMN_STEP_REMOVE at the end of a
   task, is the work of two other threads, in the same order, and holds no task
   up either.  Those that wait share the syncs of a directory.  A thread is
   started for the first task and ends after the last one.  Main thread
   only.  */
#ifndef SMN_DISK_H
#define SMN_DISK_H

#include "mail/step.h"
#include <stddef.h>

/* Hand in a task: COUNT STEPS, run in their order until one fails.  The array
   is on the heap, and on SMN_OK belongs to the task, whose *ID is that of one
   SMN_EVENT_DISK.  SMN_SYSTEM: too many wait, or there is no memory or
   thread.  */
enum smn_kind smn_disk_submit(struct smn_step *steps, size_t count, long *id,
                              struct smn_error *err);

/* Free COUNT STEPS that were not handed in.  */
void smn_disk_discard(struct smn_step *steps, size_t count);

/* Wait until all tasks are done, at most TIMEOUT_MS; false when some are
   not.  */
bool smn_disk_finish(int timeout_ms);

#endif
