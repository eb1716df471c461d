/* SPDX-License-Identifier: GPL-3.0-or-later */
/* token.h - messages of OAUTHBEARER (RFC 7628) and XOAUTH2.
   No I/O.  What the server says is untrusted.  */
#ifndef SMN_TOKEN_H
#define SMN_TOKEN_H

#include "sasl/sasl.h"

/* Append to *OUT (a secret buffer) the client's first message, which holds the
   token.  SMN_AUTH for a user or token that would break out of its place.  */
enum smn_kind smn_token_message(bool bearer,
                                const struct smn_credentials *credentials,
                                struct smn_buf *out, struct smn_error *err);

/* Append to *OUT, until it is full, the words of the error that the server
   tells in JSON ("status invalid_token, scope mail"), decoded but not quoted;
   anything else as it stands.  */
void smn_token_words(const char *json, size_t len, struct smn_buf *out);

#endif
