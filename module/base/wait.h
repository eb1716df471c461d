/* SPDX-License-Identifier: GPL-3.0-or-later */
/* wait.h - waiting for a descriptor, a deadline or the wish to stop; and the
   threads and pipes that such waits need.  Owns nothing; any thread.  */
#ifndef SMN_WAIT_H
#define SMN_WAIT_H

#include "base/error.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum smn_wait_for { SMN_WAIT_READ, SMN_WAIT_WRITE };

/* Milliseconds of a clock that is never set.  */
int64_t smn_now_ms(void);

/* Wait until FD is ready (or broken: the next call on it tells), CANCEL_FD (-1:
   none) becomes readable, or the clock passes DEADLINE_MS.  SMN_OK,
   SMN_CANCELLED (which wins) or SMN_TIMEOUT.  FD may be -1.  */
enum smn_kind smn_wait(int fd, enum smn_wait_for what, int64_t deadline_ms,
                       int cancel_fd, struct smn_error *err);

/* Neither is it time to stop nor wished: CANCEL_FD (-1: none) is not readable
   and the clock has not passed DEADLINE_MS.  Does not wait.  SMN_OK,
   SMN_CANCELLED (which wins) or SMN_TIMEOUT.  */
enum smn_kind smn_go_on(int64_t deadline_ms, int cancel_fd,
                        struct smn_error *err);

/* CANCEL_FD (-1: none) is readable.  Does not wait.  */
bool smn_cancelled(int cancel_fd);

/* A close-on-exec pipe; false with errno set.  */
bool smn_pipe(int ends[2]);

/* A non-blocking, close-on-exec socket, or -1 with errno set.  */
int smn_socket(int family, int type, int protocol);

/* Set FD_CLOEXEC and O_NONBLOCK.  */
bool smn_set_nonblocking(int fd);

/* Start RUN(ARGUMENT) with all signals blocked but those of a fault: Emacs
   handles its signals in its own thread, and a crash here still reaches its
   handler, which saves the user's buffers.  Returns 0 or an errno.  */
int smn_thread_start(pthread_t *thread, void *(*run)(void *), void *argument);

/* Prepare CONDITION for smn_condition_wait.  */
void smn_condition_init(pthread_cond_t *condition);

/* As pthread_cond_wait, until the clock of smn_now_ms passes DEADLINE_MS at
   the latest; false then.  The caller looks at what it waits for again.  */
bool smn_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
                        int64_t deadline_ms);

#endif
