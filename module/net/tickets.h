/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tickets.h - TLS sessions that may be resumed (RFC 8446 2.2), of this process
   and never on disk.  Any thread; the cache owns what it is given, in secret
   memory.  A ticket is used once, so that an observer cannot tell by it that
   two connections belong together.  */
#ifndef SMN_TICKETS_H
#define SMN_TICKETS_H

#include "base/buf.h"
#include <stdint.h>

#define SMN_TICKETS_MAX 32 /* the oldest go first */

/* All that a session stands for, digested: SHA-256.  */
struct smn_ticket_key {
  unsigned char digest[32];
};

/* What GnuTLS needs to resume a session, and when (smn_now_ms) the server has
   last shown its certificate for it.  */
struct smn_ticket {
  struct smn_buf session; /* secret */
  int64_t shown_ms;
};

/* Keep a copy of the LEN octets SESSION for KEY; without memory it is lost.  */
void smn_tickets_put(const struct smn_ticket_key *key, const void *session,
                     size_t len, int64_t shown_ms);

/* Take the youngest ticket for KEY out of the cache.  False: there is none;
   else the caller frees ticket->session.  */
bool smn_tickets_take(const struct smn_ticket_key *key,
                      struct smn_ticket *ticket);

/* Wipe them all.  */
void smn_tickets_forget(void);

#endif
