/* SPDX-License-Identifier: GPL-3.0-or-later */
/* engine.h - jobs in worker threads, events back.
   The one file that starts sessions in threads.  Every function may be called
   from the main thread at any time and none of them waits, but for
   smn_engine_shutdown, which is bounded.  Jobs handed in belong to the engine,
   events handed out belong to the caller.  */
#ifndef SMN_ENGINE_H
#define SMN_ENGINE_H

#include "mail/job.h"

enum smn_event_type { SMN_EVENT_TRACE, SMN_EVENT_PROGRESS, SMN_EVENT_DONE };

struct smn_event {
  struct smn_event *next;
  long id;
  enum smn_event_type type;
  bool from_server; /* trace */
  char *text;       /* trace: one line, raw octets */
  size_t len;
  uint64_t sent, total;     /* progress */
  struct smn_job *job;      /* done: for the addresses in result */
  struct smn_result result; /* done */
};

/* Take JOB (freed on failure too), give it an id and start it.  */
enum smn_kind smn_engine_submit(struct smn_job *job, long *id,
                                struct smn_error *err);

/* Ask the job to stop; false if there is none under way by that ID.  Its
   event still comes.  */
bool smn_engine_cancel(long id);

/* All events so far, in order, as a list; NULL when there are none.  */
struct smn_event *smn_engine_events(void);
void smn_event_free(struct smn_event *event);

/* Write one octet to FD whenever events begin to wait.  The engine owns FD,
   makes it non-blocking and close-on-exec, and closes the one before.
   -1 for none.  */
void smn_engine_wake(int fd);

/* Give all jobs half of TIMEOUT_MS to end by themselves, cancel those that do
   not, and wait for the rest of the time; false when threads were left behind.
   The engine can be used again afterwards.  */
bool smn_engine_shutdown(int timeout_ms);

#endif
