/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sasl.h - one exchange as SMTP carries it, in base64 (RFC 4954).
   A struct smn_sasl is owned by the session that made it and used by its
   thread. Challenges are untrusted; responses and all that is built from the
   password live in secret buffers or are wiped before their memory goes back.
 */
#ifndef SMN_SASL_H
#define SMN_SASL_H

#include "sasl/mechanisms.h"

#define SMN_SASL_RESPONSE_MAX 12288 /* one base64 response (RFC 4954 4) */

struct smn_sasl;

/* Begin MECHANISM with *CREDENTIALS, which are borrowed for the life of
   *SASL.  SMN_UNSUPPORTED: GNU SASL was built without it; SMN_AUTH: the user
   name or password cannot be used with it (SASLprep), SMN_USAGE: or with any
   (smn_credentials_check).  */
enum smn_kind smn_sasl_start(struct smn_sasl **sasl,
                             const struct smn_mechanism *mechanism,
                             const struct smn_credentials *credentials,
                             struct smn_error *err);

/* The initial response into *RESPONSE (a secret buffer, cleared first), in
   base64 without line breaks, "=" for an empty one; *HAS is false when the
   mechanism waits for the server to speak first.  */
enum smn_kind smn_sasl_first(struct smn_sasl *sasl, struct smn_buf *response,
                             bool *has, struct smn_error *err);

/* Answer the text of a 334 reply, base64 of LEN octets at CHALLENGE, with
   *RESPONSE as above (empty for an empty response).  SMN_AUTH with a reason
   when the server lies (bad base64, wrong nonce or signature, a count of
   iterations out of bounds, more steps than the mechanism has): the caller
   sends "*".  */
enum smn_kind smn_sasl_next(struct smn_sasl *sasl, const char *challenge,
                            size_t len, struct smn_buf *response,
                            struct smn_error *err);

/* The server said 235: SMN_AUTH if the mechanism had still to verify the
   server (SCRAM, DIGEST-MD5), or if it had refused the token before.  */
enum smn_kind smn_sasl_finish(const struct smn_sasl *sasl,
                              struct smn_error *err);

/* Why the server refused the token: its words, raw and untrusted, "" while it
   has not, with *LEN octets.  */
const char *smn_sasl_refusal(const struct smn_sasl *sasl, size_t *len);

void smn_sasl_free(struct smn_sasl *sasl); /* wipes; NULL is harmless */

#endif
