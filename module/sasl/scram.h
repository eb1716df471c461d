/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scram.h - the client's side of SCRAM (RFC 5802, 7677, 9266).
   It stands here because the client of GNU SASL 2.2 cannot say that it could
   bind the channel to a server that offers no -PLUS (the flag "y"), and keeps
   the password and what is derived from it where they are not wiped.  Strings
   are prepared by GNU SASL, keys derived by GnuTLS.  */
#ifndef SMN_SCRAM_H
#define SMN_SCRAM_H

#include "sasl/exchange.h"

/* PBKDF2's iterations that a server may ask for.  Fewer than RFC 5802 (5.1) and
   7677 (4) want from it would let a false one guess the password from what the
   client answers; Cyrus SASL refuses them, too.  More would be a burden.  */
#define SMN_SCRAM_ITERATIONS_MIN 4096
#define SMN_SCRAM_ITERATIONS_MAX 1000000

enum smn_kind smn_scram_sha_1_start(struct smn_exchange **x,
                                    const struct smn_mechanism *mechanism,
                                    const struct smn_credentials *credentials,
                                    struct smn_error *err);
enum smn_kind smn_scram_sha_256_start(struct smn_exchange **x,
                                      const struct smn_mechanism *mechanism,
                                      const struct smn_credentials *credentials,
                                      struct smn_error *err);

#endif
