/* SPDX-License-Identifier: GPL-3.0-or-later */
/* io.h - one step of reading or writing, which never waits, and the wait
   between two steps.  All waiting of this layer is here, so that each loop over
   steps ends at its deadline and hears a cancel, also when the peer keeps the
   descriptor ready without ever sending what is asked for.  Nothing is owned;
   any thread.  */
#ifndef SMN_IO_H
#define SMN_IO_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smn_io {
  SMN_IO_DONE,
  SMN_IO_WANT_READ,  /* wait until the descriptor is readable, */
  SMN_IO_WANT_WRITE, /* or writable, and repeat the step */
  SMN_IO_BARREN,     /* something came, but not what was asked for: repeat */
  SMN_IO_END,        /* reading: the peer has ended the stream */
  SMN_IO_FAILED      /* *err is set */
};

/* Read at most LEN octets of the non-blocking socket FD; *MOVED tells how many
   after SMN_IO_DONE.  */
enum smn_io smn_io_receive(int fd, void *into, size_t len, size_t *moved,
                           struct smn_error *err);

/* Write at most LEN octets; the same.  Raises no SIGPIPE.  */
enum smn_io smn_io_send(int fd, const void *from, size_t len, size_t *moved,
                        struct smn_error *err);

/* After STEP, which was not the last one: SMN_OK when it may be repeated, or
   why not.  The deadline counts even if FD is ready.  */
enum smn_kind smn_io_wait(enum smn_io step, int fd, int64_t deadline_ms,
                          int cancel_fd, struct smn_error *err);

#endif
