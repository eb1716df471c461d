/* SPDX-License-Identifier: GPL-3.0-or-later */
/* wait.c - waits that end; threads and pipes for them.  */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pipe2 */
#endif
#include "base/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STACK_MIN ((size_t)1048576)

int64_t smn_now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

enum smn_kind smn_wait(int fd, enum smn_wait_for what, int64_t deadline_ms,
                       int cancel_fd, struct smn_error *err) {
  struct pollfd fds[2] = {
      {.fd = cancel_fd, .events = POLLIN},
      {.fd = fd, .events = what == SMN_WAIT_READ ? POLLIN : POLLOUT},
  };
  for (;;) {
    int64_t left = deadline_ms - smn_now_ms();
    if (left < 0)
      left = 0;
    int n = poll(fds, 2, left > INT_MAX ? INT_MAX : (int)left);
    if (n < 0 && errno != EINTR && errno != EAGAIN)
      return smn_fail_errno(err, SMN_SYSTEM, errno, "cannot wait");
    if (n > 0 && fds[0].revents)
      return smn_fail(err, SMN_CANCELLED, "cancelled");
    if (n > 0)
      return SMN_OK;
    if (n == 0 && smn_now_ms() >= deadline_ms)
      return smn_fail(err, SMN_TIMEOUT, "no reply in time");
  }
}

bool smn_cancelled(int cancel_fd) {
  struct pollfd cancel = {.fd = cancel_fd, .events = POLLIN};
  return poll(&cancel, 1, 0) > 0;
}

enum smn_kind smn_go_on(int64_t deadline_ms, int cancel_fd,
                        struct smn_error *err) {
  if (smn_cancelled(cancel_fd))
    return smn_fail(err, SMN_CANCELLED, "cancelled");
  if (smn_now_ms() >= deadline_ms)
    return smn_fail(err, SMN_TIMEOUT, "no reply in time");
  return SMN_OK;
}

bool smn_set_nonblocking(int fd) {
  int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 &&
         fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

/* macOS has no pipe2; there, a program that Emacs starts in between inherits
   the pipe.  */
bool smn_pipe(int ends[2]) {
#ifdef __APPLE__
  if (pipe(ends) != 0)
    return false;
  if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 &&
      fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0)
    return true;
  int errnum = errno;
  close(ends[0]);
  close(ends[1]);
  errno = errnum;
  return false;
#else
  return pipe2(ends, O_CLOEXEC) == 0;
#endif
}

int smn_socket(int family, int type, int protocol) {
#ifdef SOCK_CLOEXEC
  return socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
#else
  int fd = socket(family, type, protocol);
  if (fd < 0 || smn_set_nonblocking(fd))
    return fd;
  int errnum = errno;
  close(fd);
  errno = errnum;
  return -1;
#endif
}

/* Room for what a resolver's or a token's library needs: musl gives a thread
   128 KB by itself, macOS 512 KB.  What the system gives is never made less. */
static void ask_for_stack(pthread_attr_t *attributes) {
  size_t size = 0;
  if (pthread_attr_getstacksize(attributes, &size) == 0 && size < STACK_MIN)
    (void)pthread_attr_setstacksize(attributes, STACK_MIN);
}

int smn_thread_start(pthread_t *thread, void *(*run)(void *), void *argument) {
  sigset_t blocked, before;
  sigfillset(&blocked);
  sigdelset(&blocked, SIGSEGV);
  sigdelset(&blocked, SIGBUS);
  sigdelset(&blocked, SIGFPE);
  sigdelset(&blocked, SIGILL);
  pthread_attr_t attributes;
  int errnum = pthread_attr_init(&attributes);
  if (errnum)
    return errnum;
  ask_for_stack(&attributes);
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  errnum = pthread_create(thread, &attributes, run, argument);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return errnum;
}

/* macOS cannot choose the clock of a condition, but can wait for a span.  */
void smn_condition_init(pthread_cond_t *condition) {
#ifdef __APPLE__
  pthread_cond_init(condition, NULL);
#else
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(condition, &attributes);
  pthread_condattr_destroy(&attributes);
#endif
}

bool smn_condition_wait(pthread_cond_t *condition, pthread_mutex_t *lock,
                        int64_t deadline_ms) {
#ifdef __APPLE__
  int64_t ms = deadline_ms - smn_now_ms();
  if (ms < 0)
    ms = 0;
#else
  int64_t ms = deadline_ms;
#endif
  struct timespec time = {.tv_sec = (time_t)(ms / 1000),
                          .tv_nsec = (long)(ms % 1000) * 1000000};
#ifdef __APPLE__
  return pthread_cond_timedwait_relative_np(condition, lock, &time) == 0;
#else
  return pthread_cond_timedwait(condition, lock, &time) == 0;
#endif
}
