/* SPDX-License-Identifier: GPL-3.0-or-later */
/* events.h - what the threads have to tell, in order, until it is delivered.
   Threads post events; the main thread borrows some, passes them on, and only
   then says that they are delivered, which frees them.  Nothing else removes
   an event: one that could not be passed on is lent again.  */
#ifndef SMN_EVENTS_H
#define SMN_EVENTS_H

#include "mail/result.h"

enum smn_event_type {
  SMN_EVENT_TRACE,
  SMN_EVENT_PROGRESS,
  SMN_EVENT_DONE,
  SMN_EVENT_DISK,
  SMN_EVENT_NETWORK /* there may be a network again */
};

struct smn_event {
  struct smn_event *next;
  long id;
  enum smn_event_type type;
  char *text; /* trace: one line, raw octets; done without a result and disk:
                 why, or NULL */
  union {
    struct { /* trace */
      size_t len;
      bool from_server;
    };
    struct { /* progress */
      uint64_t sent, total;
    };
    struct { /* done */
      struct smn_job *job;
      struct smn_result *result; /* NULL: it was never begun; kind tells why */
      enum smn_kind kind;
    };
    struct { /* disk: the step that failed, from 0, and why */
      bool failed;
      int step, errnum;
    };
  };
};

/* A fresh id for what is handed to the engine, above 0.  Any thread.  */
long smn_events_id(void);

/* An event that can be posted, NULL without memory.  Any thread.  */
struct smn_event *smn_event_new(long id, enum smn_event_type type);
void smn_event_free(struct smn_event *event);

/* Post EVENT, which belongs to the list from here on.  Any thread.  */
void smn_events_post(struct smn_event *event);

/* Post a line of the dialogue of job ID.  Without memory it is left out.  Any
   thread.  */
void smn_events_trace(long id, bool from_server, const char *text, size_t len);

/* Post how far the job ID has got.  One that still waits is brought up to date
   instead of being followed by another.  Any thread.  */
void smn_events_progress(long id, uint64_t sent, uint64_t total);

/* Post that the watch ID has news, unless one still waits.  Without memory it
   is left out.  Any thread.  */
void smn_events_network(long id);

/* The oldest events as a list, of which the caller may take MAX; NULL when
   there are none.  They stay in the list and do not change until
   smn_events_delivered.  *MORE tells whether others wait.  Main thread.  */
const struct smn_event *smn_events_borrow(size_t max, bool *more);

/* The COUNT first of those that were borrowed have been passed on: free them.
   What is left wakes Emacs again, and so 0 is good for those that could not be
   passed on.  Main thread.  */
void smn_events_delivered(size_t count);

/* Write one octet to FD whenever events begin to wait.  The list owns FD,
   makes it non-blocking and close-on-exec, and closes the one before.
   -1 for none.  */
void smn_events_wake(int fd);

#endif
