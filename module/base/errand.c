/* SPDX-License-Identifier: GPL-3.0-or-later */
/* errand.c - a call that cannot be interrupted.  */
#include "base/errand.h"
#include "base/wait.h"

#include <errno.h>
#include <unistd.h>

void smn_errand_release(struct smn_errand *errand) {
  pthread_mutex_lock(&errand->lock);
  bool last = --errand->holders == 0;
  pthread_mutex_unlock(&errand->lock);
  if (!last)
    return;
  pthread_mutex_destroy(&errand->lock);
  errand->end(errand);
}

/* One octet wakes the waiting thread; closing the pipe would not, if a fork of
   Emacs had just then inherited it.  */
static void *run(void *argument) {
  struct smn_errand *errand = argument;
  errand->run(errand);
  pthread_mutex_lock(&errand->lock); /* publishes what it has brought back */
  pthread_mutex_unlock(&errand->lock);
  while (write(errand->done_fd, "", 1) < 0 && errno == EINTR)
    continue;
  close(errand->done_fd);
  smn_errand_release(errand);
  return NULL;
}

enum smn_kind smn_errand_start(struct smn_errand *errand,
                               struct smn_error *err) {
  int ends[2] = {-1, -1}, errnum = 0;
  pthread_t thread;
  errand->abandoned = false;
  errand->holders = 2;
  pthread_mutex_init(&errand->lock, NULL);
  if (smn_pipe(ends)) {
    errand->wait_fd = ends[0];
    errand->done_fd = ends[1];
    errnum = smn_thread_start(&thread, run, errand);
    if (errnum == 0) {
      pthread_detach(thread);
      return SMN_OK;
    }
    close(ends[0]);
    close(ends[1]);
    smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  } else
    smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
  errand->holders = 1;
  smn_errand_release(errand);
  return SMN_SYSTEM;
}

enum smn_kind smn_errand_wait(struct smn_errand *errand, int timeout_ms,
                              int cancel_fd, struct smn_error *err) {
  enum smn_kind kind = smn_wait(errand->wait_fd, SMN_WAIT_READ,
                                smn_now_ms() + timeout_ms, cancel_fd, err);
  close(errand->wait_fd);
  pthread_mutex_lock(&errand->lock);
  errand->abandoned = kind != SMN_OK;
  pthread_mutex_unlock(&errand->lock);
  if (kind != SMN_OK)
    smn_errand_release(errand);
  return kind;
}
