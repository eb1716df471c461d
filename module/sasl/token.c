/* SPDX-License-Identifier: GPL-3.0-or-later */
/* token.c - OAUTHBEARER (RFC 7628) and XOAUTH2.  */
#include "sasl/token.h"
#include "base/ascii.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEPARATOR "\001" /* kvsep */
#define WORDS_MAX 1024   /* of a refusal */

struct token {
  struct smn_exchange exchange;
  bool refused;
  struct smn_buf words; /* of the refusal */
};

/* No octet of a token ends a part of the message.  */
static bool printable(const char *text, size_t len) {
  for (size_t i = 0; i < len; i++)
    if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
      return false;
  return true;
}

static bool add_bearer(struct smn_buf *out, const struct smn_credentials *c) {
  char port[16];
  snprintf(port, sizeof port, "%d", c->port);
  const char *name = c->authzid ? c->authzid : c->user;
  /* The gs2-header names the user to act as (RFC 5801, section 4).  */
  return smn_buf_add_string(out, "n,") &&
         (!name ||
          (smn_buf_add_string(out, "a=") && smn_saslname_add(out, name))) &&
         smn_buf_add_string(out, ",") &&
         smn_buf_add_string(out, SEPARATOR "host=") &&
         smn_buf_add_string(out, c->host ? c->host : "") &&
         smn_buf_add_string(out, SEPARATOR "port=") &&
         smn_buf_add_string(out, port) && smn_buf_add_string(out, SEPARATOR);
}

static bool add_xoauth2(struct smn_buf *out, const struct smn_credentials *c) {
  return smn_buf_add_string(out, "user=") &&
         smn_buf_add_string(out, c->user ? c->user : "") &&
         smn_buf_add_string(out, SEPARATOR);
}

static enum smn_kind message(const struct smn_credentials *c,
                             bool (*add_head)(struct smn_buf *,
                                              const struct smn_credentials *),
                             struct smn_buf *out, struct smn_error *err) {
  if (!printable(c->password->data, c->password->len))
    return smn_fail(err, SMN_AUTH, "the token contains a control character");
  if (add_head(out, c) && smn_buf_add_string(out, "auth=Bearer ") &&
      smn_buf_add(out, c->password->data, c->password->len) &&
      smn_buf_add_string(out, SEPARATOR SEPARATOR))
    return SMN_OK;
  return smn_fail(err, SMN_AUTH, "the token is too long to send");
}

static enum smn_kind first_bearer(struct smn_exchange *x, struct smn_buf *out,
                                  struct smn_error *err) {
  return message(x->credentials, add_bearer, out, err);
}

static enum smn_kind first_xoauth2(struct smn_exchange *x, struct smn_buf *out,
                                   struct smn_error *err) {
  return message(x->credentials, add_xoauth2, out, err);
}

/* A challenge after the token is the server's refusal, whose reply it wants to
   be asked for: by nothing, */
static enum smn_kind next_xoauth2(struct smn_exchange *exchange,
                                  const char *challenge, size_t len,
                                  struct smn_buf *out, struct smn_error *err) {
  struct token *x = (struct token *)exchange;
  (void)out;
  (void)err;
  x->refused = true;
  smn_token_words(challenge, len, &x->words);
  return SMN_OK;
}

/* or by kvsep (RFC 7628 3.2.3).  */
static enum smn_kind next_bearer(struct smn_exchange *x, const char *challenge,
                                 size_t len, struct smn_buf *out,
                                 struct smn_error *err) {
  if (!smn_buf_add_string(out, SEPARATOR))
    return smn_fail(err, SMN_SYSTEM, "no memory");
  return next_xoauth2(x, challenge, len, out, err);
}

static enum smn_kind finish(const struct smn_exchange *x,
                            struct smn_error *err) {
  return ((const struct token *)x)->refused
             ? smn_fail(err, SMN_AUTH,
                        "%s: the server accepts the token that it has refused",
                        x->mechanism->name)
             : SMN_OK;
}

static const char *refusal(const struct smn_exchange *x, size_t *len) {
  const struct smn_buf *words = &((const struct token *)x)->words;
  *len = words->len;
  return words->len ? words->data : "";
}

static void end(struct smn_exchange *exchange) {
  struct token *x = (struct token *)exchange;
  smn_buf_free(&x->words);
  free(x);
}

static const struct smn_exchange_operations bearer = {first_bearer, next_bearer,
                                                      finish, refusal, end},
                                            xoauth2 = {first_xoauth2,
                                                       next_xoauth2, finish,
                                                       refusal, end};

static enum smn_kind start(const struct smn_exchange_operations *operations,
                           struct smn_exchange **exchange,
                           const struct smn_mechanism *mechanism,
                           const struct smn_credentials *credentials,
                           struct smn_error *err) {
  struct token *x = calloc(1, sizeof *x);
  if (!x)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  x->exchange = (struct smn_exchange){operations, mechanism, credentials};
  smn_buf_init(&x->words, WORDS_MAX);
  *exchange = &x->exchange;
  return SMN_OK;
}

enum smn_kind smn_bearer_start(struct smn_exchange **x,
                               const struct smn_mechanism *mechanism,
                               const struct smn_credentials *credentials,
                               struct smn_error *err) {
  return start(&bearer, x, mechanism, credentials, err);
}

enum smn_kind smn_xoauth2_start(struct smn_exchange **x,
                                const struct smn_mechanism *mechanism,
                                const struct smn_credentials *credentials,
                                struct smn_error *err) {
  return start(&xoauth2, x, mechanism, credentials, err);
}

/* JSON, as far as an error needs it: keys and scalars in their order.  */

struct reader {
  const char *at, *end;
  struct smn_buf *out;
};

static void put(struct reader *r, const char *bytes, size_t len) {
  (void)!smn_buf_add(r->out, bytes, len); /* what does not fit is cut */
}

static void put_character(struct reader *r, unsigned c) {
  char utf8[4];
  if (c < 0x80)
    utf8[0] = (char)c, put(r, utf8, 1);
  else if (c < 0x800) {
    utf8[0] = (char)(0xc0 | c >> 6);
    utf8[1] = (char)(0x80 | (c & 0x3f));
    put(r, utf8, 2);
  } else if (c >= 0xd800 && c < 0xe000)
    put(r, "?", 1); /* half of a pair; no error of a server needs the other */
  else {
    utf8[0] = (char)(0xe0 | c >> 12);
    utf8[1] = (char)(0x80 | (c >> 6 & 0x3f));
    utf8[2] = (char)(0x80 | (c & 0x3f));
    put(r, utf8, 3);
  }
}

static unsigned hex_digits(struct reader *r) {
  unsigned value = 0;
  for (int i = 0; i < 4 && r->at < r->end; i++, r->at++) {
    int digit = smn_ascii_hex(*r->at);
    if (digit < 0)
      return '?';
    value = value << 4 | (unsigned)digit;
  }
  return value;
}

/* After the opening quote.  */
static void put_string(struct reader *r) {
  static const char escapes[] = "bfnrt", octets[] = "\b\f\n\r\t";
  while (r->at < r->end && *r->at != '"') {
    char c = *r->at++;
    if (c != '\\' || r->at == r->end) {
      put(r, &c, 1);
      continue;
    }
    c = *r->at++;
    const char *found = c ? strchr(escapes, c) : NULL;
    if (c == 'u')
      put_character(r, hex_digits(r));
    else
      put(r, found ? &octets[found - escapes] : &c, 1);
  }
  r->at += r->at < r->end;
}

static bool blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* The string at hand is a key: a colon follows it.  */
static bool is_key(const struct reader *r) {
  const char *at = r->at;
  while (at < r->end && *at != '"')
    at += *at == '\\' && at + 1 < r->end ? 2 : 1;
  at += at < r->end;
  while (at < r->end && blank(*at))
    at++;
  return at < r->end && *at == ':';
}

void smn_token_words(const char *json, size_t len, struct smn_buf *out) {
  struct reader r = {json, json + len, out};
  if (len == 0 || json[0] != '{') {
    put(&r, json, len);
    return;
  }
  while (r.at < r.end) {
    char c = *r.at++;
    if (strchr("{}[]:,", c) || blank(c))
      continue;
    bool key = c == '"' && is_key(&r);
    if (out->len)
      put(&r, ", ", key ? 2 : 0), put(&r, " ", key ? 0 : 1);
    if (c == '"')
      put_string(&r);
    else {
      const char *from = r.at - 1;
      while (r.at < r.end && !strchr("{}[]:,\"", *r.at) && !blank(*r.at))
        r.at++;
      put(&r, from, (size_t)(r.at - from));
    }
  }
}
