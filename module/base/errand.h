/* SPDX-License-Identifier: GPL-3.0-or-later */
/* errand.h - a call that cannot be interrupted, and whose end is not awaited
   beyond a deadline: it runs in a thread of its own, and is ended by
   that thread or by the waiting one, the last that lets go of it.  */
#ifndef SMN_ERRAND_H
#define SMN_ERRAND_H

#include "base/error.h"
#include <pthread.h>
#include <stdbool.h>

/* The first member of what the call needs and brings back.  */
struct smn_errand {
  void (*run)(struct smn_errand *errand); /* the call, in its own thread */
  void (*end)(struct smn_errand *errand); /* frees all of it */
  bool abandoned; /* for end: what the call brought back was not taken */
  pthread_mutex_t lock;
  int holders; /* under lock */
  int wait_fd; /* the ends of a pipe: the waiting side's, */
  int done_fd; /* and the thread's */
};

/* Start ERRAND, whose run and end are set and which is on the heap.  On failure
   it is released, with abandoned false.  */
enum smn_kind smn_errand_start(struct smn_errand *errand,
                               struct smn_error *err);

/* Wait for it.  SMN_OK: what it has brought back is the caller's, which then
   calls smn_errand_release.  On failure it is abandoned, and not the caller's
   any more.  */
enum smn_kind smn_errand_wait(struct smn_errand *errand, int timeout_ms,
                              int cancel_fd, struct smn_error *err);

void smn_errand_release(struct smn_errand *errand);

#endif
