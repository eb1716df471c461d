/* SPDX-License-Identifier: GPL-3.0-or-later */
/* trust.h - what TLS trusts and shows: authorities, revocation lists, the
   client's key and certificate.  All of it is loaded before the connection is
   made, so that a file that cannot be used bothers no server.  A struct
   smn_trust is owned by its session and used by its thread only.  */
#ifndef SMN_TRUST_H
#define SMN_TRUST_H

#include "base/buf.h"
#include "net/tls.h"
#include <gnutls/gnutls.h>

struct smn_trust;

/* Load what *OPTIONS names.  SMN_FILE for what cannot be read or used, *err
   names it; *PASSPHRASE_WANTED tells that it is the passphrase of the key, or
   the PIN of its token, that is missing or wrong.  A PIN is tried once: a token
   locks itself after a few wrong ones.  */
enum smn_kind smn_trust_load(struct smn_trust **trust,
                             const struct smn_tls_options *options,
                             bool *passphrase_wanted, struct smn_error *err);

gnutls_certificate_credentials_t smn_trust_credentials(struct smn_trust *trust);

/* Trust the system's authorities, too; false if nothing is gained by that. They
   take longer to load than all the rest of a handshake takes, and so come in
   when the others do not suffice.  */
bool smn_trust_add_system(struct smn_trust *trust);

/* The passphrase may go: it is not asked for again.  */
void smn_trust_settle(struct smn_trust *trust);

void smn_trust_free(struct smn_trust *trust); /* NULL is harmless */

#endif
