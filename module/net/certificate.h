/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certificate.h - what the server showed, and whether it may be believed.
   All that the server presents is untrusted.  RFC 5280, 6125, 9525.  */
#ifndef SMN_CERTIFICATE_H
#define SMN_CERTIFICATE_H

#include "net/address.h"
#include "net/tls.h"
#include <gnutls/gnutls.h>

/* What must be certified, and by what.  */
struct smn_certificate_wish {
  const struct smn_address *host;
  char *const *pins;       /* SHA-256 in hex; NULL or empty: none */
  struct smn_trust *trust; /* of the session */
};

/* Fill *INFO from what the server of SESSION, whose handshake is done, has
   shown, and verify it: by a pin, if there are any, and else by chain, host,
   purpose, stapled OCSP and CRL.  SMN_CERTIFICATE tells why it does not
   verify.  */
enum smn_kind smn_certificate_verify(gnutls_session_t session,
                                     const struct smn_certificate_wish *wish,
                                     struct smn_certificate *info,
                                     struct smn_error *err);

#endif
