/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sasl.h - SASL mechanisms: the choice, and one exchange (RFC 4422, 4954).
   The one file that knows GNU SASL.  A struct smn_sasl is owned by the session
   that made it and used by its thread alone.  Challenges are untrusted;
   responses and all that is built from the password live in secret buffers
   or are wiped before their memory goes back.  */
#ifndef SMN_SASL_H
#define SMN_SASL_H

#include "buf.h"
#include "error.h"
#include <stdbool.h>
#include <stddef.h>

#define SMN_SASL_ITERATIONS_MAX 1000000 /* of PBKDF2 that a server may ask */
#define SMN_SASL_RESPONSE_MAX 12288     /* one base64 response (RFC 4954 4) */

struct smn_credentials {
  const char *user;               /* UTF-8; passes as it is, "user@realm" too */
  const char *authzid;            /* NULL: act as the user */
  const struct smn_buf *password; /* secret; UTF-8 */
};

/* Write into ORDER (SIZE octets) the mechanisms to try, in this order,
   separated by spaces: those that the server OFFERED (as in struct
   smn_capabilities), that we know, and that WANTED (any case) names, in its
   order; NULL or "" stands for SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN.
   Returns how many there are.  */
size_t smn_sasl_choose(const char *offered, const char *wanted, char *order,
                       size_t size);

/* The mechanism hands the password itself to the server.  */
bool smn_sasl_plaintext(const char *mechanism);

struct smn_sasl;

/* Begin MECHANISM with *CREDENTIALS, which are borrowed for the life of
   *SASL.  SMN_UNSUPPORTED: not a mechanism that we know; SMN_AUTH: the user
   name or password cannot be used with it (SASLprep).  */
enum smn_kind smn_sasl_start(struct smn_sasl **sasl, const char *mechanism,
                             const struct smn_credentials *credentials,
                             struct smn_error *err);

/* The initial response into *RESPONSE (a secret buffer, cleared first), in
   base64 without line breaks, "=" for an empty one; *HAS is false when the
   mechanism waits for the server to speak first.  */
enum smn_kind smn_sasl_first(struct smn_sasl *sasl, struct smn_buf *response,
                             bool *has, struct smn_error *err);

/* Answer the text of a 334 reply, base64 of LEN octets at CHALLENGE, with
   *RESPONSE as above (empty for an empty response).  SMN_AUTH with a reason
   when the server lies (bad base64, wrong nonce or signature, too many
   iterations, more steps than the mechanism has): the caller sends "*".  */
enum smn_kind smn_sasl_next(struct smn_sasl *sasl, const char *challenge,
                            size_t len, struct smn_buf *response,
                            struct smn_error *err);

/* The server said 235: SMN_AUTH if the mechanism had still to verify the
   server (SCRAM).  */
enum smn_kind smn_sasl_finish(const struct smn_sasl *sasl,
                              struct smn_error *err);

void smn_sasl_free(struct smn_sasl *sasl); /* wipes; NULL is harmless */

#endif
