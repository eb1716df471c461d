/* SPDX-License-Identifier: GPL-3.0-or-later */
/* exchange.h - what every mechanism is: an exchange of messages (RFC 4422).
   The lowest file of this layer.  A mechanism implements struct
   smn_exchange_operations, its file ends with a function that starts it, and
   mechanisms.c has its name and properties.  An exchange is used by one thread.
   Messages are as the mechanism defines them, before base64; those of the
   server are untrusted, those of the client secret.  */
#ifndef SMN_EXCHANGE_H
#define SMN_EXCHANGE_H

#include "base/buf.h"
#include "base/error.h"
#include "net/tls.h"
#include <stdbool.h>
#include <stddef.h>

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
  const struct smn_binding *binding; /* of the channel; NULL: there is none */
  bool could_bind;   /* SCRAM without -PLUS says that it would have bound the
                        channel if the server had offered that */
  const char *nonce; /* of the client of SCRAM, for the vectors of the RFCs;
                        NULL: a random one */
};

struct smn_mechanism;
struct smn_exchange;

/* OUT is an empty secret buffer.  SMN_AUTH, with a reason, when the server lies
   or the credentials cannot be used, and with the code 535 when it refuses them
   in words of the mechanism.  */
struct smn_exchange_operations {
  /* The initial response; only called where the mechanism has one.  */
  enum smn_kind (*first)(struct smn_exchange *x, struct smn_buf *out,
                         struct smn_error *err);
  /* Answer the LEN octets at CHALLENGE, which a NUL follows.  */
  enum smn_kind (*next)(struct smn_exchange *x, const char *challenge,
                        size_t len, struct smn_buf *out, struct smn_error *err);
  /* The server has accepted: may it?  NULL: always.  */
  enum smn_kind (*finish)(const struct smn_exchange *x, struct smn_error *err);
  /* Why the server refuses, in its own words: raw, untrusted, *LEN octets.
     NULL: it has no place for them.  */
  const char *(*refusal)(const struct smn_exchange *x, size_t *len);
  /* Wipe all that is secret, and give back X.  */
  void (*free)(struct smn_exchange *x);
};

/* The head of each mechanism's own struct.  */
struct smn_exchange {
  const struct smn_exchange_operations *operations;
  const struct smn_mechanism *mechanism;
  const struct smn_credentials *credentials; /* borrowed for its life */
};

struct smn_mechanism {
  const char *name;
  /* Make *X.  SMN_UNSUPPORTED: not with the libraries of this machine;
     SMN_AUTH: not with these credentials.  */
  enum smn_kind (*start)(struct smn_exchange **x,
                         const struct smn_mechanism *mechanism,
                         const struct smn_credentials *credentials,
                         struct smn_error *err);
  int challenges;  /* that it answers at most */
  int proof;       /* the number of the response that is made of the secret */
  bool speaks;     /* it has an initial response, which is the first */
  bool text;       /* its challenges are read as they stand, not as base64 */
  bool scram;      /* the server proves itself, and learns no password */
  bool binds;      /* the TLS channel */
  bool digest;     /* some servers that offer it keep no secret for it */
  bool plaintext;  /* it hands the password to the server */
  bool token;      /* it hands a token to the server */
  bool secretless; /* it needs neither */
  bool by_name;    /* it is used only where it is asked for */
};

/* A format for the name of a mechanism.  */
#define SMN_UNPROVED                                                           \
  "%s: the server accepted the login without proving that it knows the "       \
  "password"

/* SMN_USAGE for a user name with a control character (NUL ends a string in C:
   code that makes one of other text must check for it), or a password with NUL.
   All but PASSWORD may be NULL.  */
enum smn_kind smn_credentials_check(const char *user, const char *authzid,
                                    const struct smn_buf *password,
                                    struct smn_error *err);

/* Append NAME as a saslname (RFC 5801 4): "=2C" for ",", "=3D" for "=".  */
bool smn_saslname_add(struct smn_buf *buf, const char *name)
    __attribute__((warn_unused_result));

#endif
