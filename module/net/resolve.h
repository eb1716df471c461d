/* SPDX-License-Identifier: GPL-3.0-or-later */
/* resolve.h - names to addresses within a deadline.
   getaddrinfo cannot be interrupted, so it runs in a thread of its own, which
   goes on by itself, and cleans up, when the wait ends first.  */
#ifndef SMN_RESOLVE_H
#define SMN_RESOLVE_H

#include "base/error.h"
#include <netdb.h>

/* Look up HOST (a name, IDN in UTF-8 too, or an address, also in brackets) and
   PORT for a stream connection.  Waits at most TIMEOUT_MS milliseconds, or
   until CANCEL_FD (-1: none) is readable.  SMN_RESOLVE, SMN_TIMEOUT,
   SMN_CANCELLED, SMN_SYSTEM on failure.  On SMN_OK the caller frees *FOUND with
   freeaddrinfo.  */
enum smn_kind smn_resolve(const char *host, int port, int timeout_ms,
                          int cancel_fd, struct addrinfo **found,
                          struct smn_error *err);

#endif
