/* SPDX-License-Identifier: GPL-3.0-or-later */
/* connect.h - a connected socket, to whichever address answers first.
   RFC 8305.  The caller owns the descriptor, which is non-blocking and
   close-on-exec; any thread.  */
#ifndef SMN_CONNECT_H
#define SMN_CONNECT_H

#include "base/error.h"
#include <netdb.h>
#include <stdbool.h>

/* Connect to one of FOUND: the families take turns, beginning with that of the
   first, a new attempt begins every 250 ms or when one has failed, and the
   first that succeeds ends the others.  SOURCE (NULL: the system decides) is
   the address, in digits, to connect from.  TIMEOUT_MS bounds each attempt;
   CANCEL_FD (-1: none) becoming readable ends all.  *LOOPBACK tells whether the
   other end is this machine.  When none succeeds, *err tells of each address
   and why.  */
enum smn_kind smn_connect(int *fd, const struct addrinfo *found,
                          const char *source, int timeout_ms, int cancel_fd,
                          bool *loopback, struct smn_error *err);

/* SOURCE is an address that smn_connect can take.  */
bool smn_connect_source_valid(const char *source);

#endif
