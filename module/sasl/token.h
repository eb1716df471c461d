/* SPDX-License-Identifier: GPL-3.0-or-later */
/* token.h - OAUTHBEARER (RFC 7628) and XOAUTH2.  */
#ifndef SMN_TOKEN_H
#define SMN_TOKEN_H

#include "sasl/exchange.h"

enum smn_kind smn_bearer_start(struct smn_exchange **x,
                               const struct smn_mechanism *mechanism,
                               const struct smn_credentials *credentials,
                               struct smn_error *err);
enum smn_kind smn_xoauth2_start(struct smn_exchange **x,
                                const struct smn_mechanism *mechanism,
                                const struct smn_credentials *credentials,
                                struct smn_error *err);

/* Append to *OUT, until it is full, the words of the error that the server
   tells in JSON ("status invalid_token, scope mail"), decoded but not quoted;
   anything else as it stands.  */
void smn_token_words(const char *json, size_t len, struct smn_buf *out);

#endif
