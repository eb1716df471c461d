/* SPDX-License-Identifier: GPL-3.0-or-later */
/* early.h - capabilities of servers that take commands before their greeting.
   Exim's PIPECONNECT: who has seen it offered may send EHLO, and what follows
   it, on the next connection without waiting for greeting and reply, relying on
   the capabilities of before.  Any thread; of this process, never on disk.  */
#ifndef SMN_EARLY_H
#define SMN_EARLY_H

#include "mail/job.h"
#include "smtp/reply.h"

/* Fill *CAPS with what SERVER offered last, under TLS if ENCRYPTED; false if
   nothing may leave early.  What was offered in clear is remembered only for a
   server without TLS by the user's own wish.  */
bool smn_early_recall(const struct smn_server *server, bool encrypted,
                      struct smn_capabilities *caps);

/* SERVER has just offered *CAPS.  */
void smn_early_note(const struct smn_server *server, bool encrypted,
                    const struct smn_capabilities *caps);

/* SERVER did not keep to what it had offered: nothing leaves early any more. */
void smn_early_ban(const struct smn_server *server);

#endif
