/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scram.h - the client's side of SCRAM (RFC 5802, 7677, 9266).
   It stands here because the client of GNU SASL 2.2 cannot say that it could
   bind the channel to a server that offers no -PLUS (the flag "y"), and keeps
   the password and what is derived from it where they are not wiped.  Strings
   are prepared by GNU SASL, keys derived by GnuTLS.  A struct smn_scram is used
   by one thread; what the server says is untrusted.  */
#ifndef SMN_SCRAM_H
#define SMN_SCRAM_H

#include "sasl/sasl.h"

#define SMN_SCRAM_ITERATIONS_MAX 1000000 /* of PBKDF2 that a server may ask */

struct smn_scram;

/* Prepare the user name and draw a nonce.  NAME is that of the mechanism, also
   for errors; *CREDENTIALS is borrowed for the life of *SCRAM.  */
enum smn_kind smn_scram_new(struct smn_scram **scram, const char *name,
                            const struct smn_credentials *credentials,
                            struct smn_error *err);

/* Append the next message of the client to *OUT (a secret buffer), in answer
   to the LEN octets at MESSAGE: none, server-first, server-final (with which
   smn_scram_proved becomes true, and nothing is left to say).  SMN_AUTH, with a
   reason, when the server lies or refuses.  */
enum smn_kind smn_scram_step(struct smn_scram *scram, const char *message,
                             size_t len, struct smn_buf *out,
                             struct smn_error *err);

/* The server has shown that it knows the password.  */
bool smn_scram_proved(const struct smn_scram *scram);

void smn_scram_free(struct smn_scram *scram); /* wipes; NULL is harmless */

#endif
