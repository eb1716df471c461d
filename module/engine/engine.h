/* SPDX-License-Identifier: GPL-3.0-or-later */
/* engine.h - jobs in worker threads, events back.
   The one file that starts sessions in threads.  Every function may be called
   from the main thread at any time and none of them waits, but for
   smn_engine_shutdown, which is bounded.  Jobs handed in belong to the engine;
   what comes of them are events, see events.h.  */
#ifndef SMN_ENGINE_H
#define SMN_ENGINE_H

#include "mail/job.h"

/* Take JOB (freed on failure too), give it an id and start it.  */
enum smn_kind smn_engine_submit(struct smn_job *job, long *id,
                                struct smn_error *err);

/* Ask the job to stop; false if there is none under way by that ID.  Its
   event still comes.  */
bool smn_engine_cancel(long id);

/* Give all jobs half of TIMEOUT_MS to end by themselves, cancel those that do
   not, and wait for the rest of the time, also for what the disk thread has
   to do and for the watch of the network; false when something is left.  The
   engine can be used again afterwards.  */
bool smn_engine_shutdown(int timeout_ms);

#endif
