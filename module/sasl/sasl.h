/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sasl.h - SASL mechanisms: the choice, and one exchange (RFC 4422, 4954).
   SCRAM and the token mechanisms have files of their own, GNU SASL does the
   others.  A struct smn_sasl is owned by the session that made it and used by
   its thread alone.  Challenges are untrusted; responses and all that is built
   from the password live in secret buffers or are wiped before their memory
   goes back.  */
#ifndef SMN_SASL_H
#define SMN_SASL_H

#include "base/buf.h"
#include "base/error.h"
#include "net/tls.h"
#include <stdbool.h>
#include <stddef.h>

#define SMN_SASL_RESPONSE_MAX 12288 /* one base64 response (RFC 4954 4) */

struct smn_credentials {
  const char *user;               /* UTF-8; passes as it is, "user@realm" too;
                                     NULL where the mechanism needs none */
  const char *authzid;            /* NULL: act as the user */
  const struct smn_buf *password; /* secret; UTF-8, or a token; may be empty */
  const char *host;               /* of the server, and its port: for tokens,
                                     GSSAPI and DIGEST-MD5 */
  int port;
  int timeout_ms; /* of what the mechanism itself waits for (GSSAPI) */
  int cancel_fd;  /* readable: stop waiting; -1: never */
  const struct smn_binding *binding; /* NULL: nothing to bind to */
  bool server_binds;                 /* it offers a mechanism with -PLUS */
};

/* What there is to authenticate with.  */
struct smn_sasl_means {
  bool secret;      /* a password or token */
  bool token;       /* it is a token */
  bool certificate; /* the client has shown one to TLS */
  bool binding;     /* the channel can be bound */
};

/* Write into ORDER (SIZE octets) the mechanisms to try, in this order,
   separated by spaces: those that the server OFFERED (as in struct
   smn_capabilities), that we know, that *MEANS allow, and that WANTED (any
   case) names, in its order.  WANTED may be NULL or "".  A password then stands
   for SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5
   PLAIN LOGIN, a token for OAUTHBEARER XOAUTH2, a certificate alone for
   EXTERNAL.  Returns how many there are.  */
size_t smn_sasl_choose(const char *offered, const char *wanted,
                       const struct smn_sasl_means *means, char *order,
                       size_t size);

/* The mechanism hands the password itself to the server.  */
bool smn_sasl_plaintext(const char *mechanism);

/* The mechanism hands a token to the server.  */
bool smn_sasl_token(const char *mechanism);

/* One of the names in LIST, separated by spaces, needs neither password nor
   token.  */
bool smn_sasl_list_secretless(const char *list);

/* It is SCRAM, and it binds the channel.  */
bool smn_sasl_scram(const char *mechanism);
bool smn_sasl_binds(const char *mechanism);

/* One of the names in LIST, separated by spaces, binds the channel.  */
bool smn_sasl_list_binds(const char *list);

struct smn_sasl;

/* Begin MECHANISM with *CREDENTIALS, which are borrowed for the life of
   *SASL.  SMN_UNSUPPORTED: not a mechanism that we know, or one without which
   GNU SASL was built; SMN_AUTH: the user name or password cannot be used with
   it (SASLprep).  */
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
   server (SCRAM, DIGEST-MD5), or if it had refused the token before.  */
enum smn_kind smn_sasl_finish(const struct smn_sasl *sasl,
                              struct smn_error *err);

/* Why the server refused the token: its words, raw and untrusted, "" while it
   has not, with *LEN octets.  */
const char *smn_sasl_refusal(const struct smn_sasl *sasl, size_t *len);

void smn_sasl_free(struct smn_sasl *sasl); /* wipes; NULL is harmless */

/* Append NAME as a saslname (RFC 5801 4): "=2C" for ",", "=3D" for "=".  */
bool smn_sasl_add_name(struct smn_buf *buf, const char *name)
    __attribute__((warn_unused_result));

#endif
