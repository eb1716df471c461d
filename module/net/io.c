/* SPDX-License-Identifier: GPL-3.0-or-later */
/* io.c - one step of reading or writing, and the wait between two.  */
#include "net/io.h"
#include "base/wait.h"

#include <errno.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL /* the workers' signal mask does the same */
#define MSG_NOSIGNAL 0
#endif

/* A call on a socket has failed with ERRNUM.  */
static enum smn_io hindered(int errnum, enum smn_io want,
                            struct smn_error *err) {
  if (errnum == EAGAIN || errnum == EWOULDBLOCK || errnum == EINTR)
    return want;
  smn_fail_errno(err, SMN_NETWORK, errnum, "connection lost");
  return SMN_IO_FAILED;
}

enum smn_io smn_io_receive(int fd, void *into, size_t len, size_t *moved,
                           struct smn_error *err) {
  ssize_t n = recv(fd, into, len, 0);
  if (n < 0)
    return hindered(errno, SMN_IO_WANT_READ, err);
  *moved = (size_t)n;
  return n == 0 ? SMN_IO_END : SMN_IO_DONE;
}

enum smn_io smn_io_send(int fd, const void *from, size_t len, size_t *moved,
                        struct smn_error *err) {
  ssize_t n = send(fd, from, len, MSG_NOSIGNAL);
  if (n < 0)
    return hindered(errno, SMN_IO_WANT_WRITE, err);
  *moved = (size_t)n;
  return SMN_IO_DONE;
}

enum smn_kind smn_io_wait(enum smn_io step, int fd, int64_t deadline_ms,
                          int cancel_fd, struct smn_error *err) {
  switch (step) {
  case SMN_IO_DONE:
    return SMN_OK;
  case SMN_IO_FAILED:
    return err->kind;
  case SMN_IO_END:
    return smn_fail(err, SMN_NETWORK, "the server closed the connection");
  case SMN_IO_BARREN:
  case SMN_IO_WANT_READ:
  case SMN_IO_WANT_WRITE:
    break;
  }
  if (step == SMN_IO_BARREN || smn_now_ms() >= deadline_ms)
    return smn_go_on(deadline_ms, cancel_fd, err);
  return smn_wait(fd, step == SMN_IO_WANT_READ ? SMN_WAIT_READ : SMN_WAIT_WRITE,
                  deadline_ms, cancel_fd, err);
}
