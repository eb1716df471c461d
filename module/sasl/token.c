/* SPDX-License-Identifier: GPL-3.0-or-later */
/* token.c - messages of OAUTHBEARER (RFC 7628) and XOAUTH2.  */
#include "sasl/token.h"

#include <stdio.h>
#include <string.h>

#define SEPARATOR "\001" /* kvsep */

/* Nothing below a space ends up in a message whose parts such an octet
   ends.  */
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
  /* The gs2-header names whom to act as (RFC 5801 4).  */
  return smn_buf_add_string(out, "n,") &&
         (!name ||
          (smn_buf_add_string(out, "a=") && smn_sasl_add_name(out, name))) &&
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

enum smn_kind smn_token_message(bool bearer,
                                const struct smn_credentials *credentials,
                                struct smn_buf *out, struct smn_error *err) {
  const struct smn_credentials *c = credentials;
  const char *user = c->user ? c->user : "";
  if (!printable(user, strlen(user)) ||
      (c->authzid && !printable(c->authzid, strlen(c->authzid))))
    return smn_fail(err, SMN_AUTH, "the user name holds a control character");
  if (c->password->len == 0)
    return smn_fail(err, SMN_AUTH, "the token is empty");
  if (!printable(c->password->data, c->password->len))
    return smn_fail(err, SMN_AUTH, "the token holds a control character");
  if ((bearer ? add_bearer(out, c) : add_xoauth2(out, c)) &&
      smn_buf_add_string(out, "auth=Bearer ") &&
      smn_buf_add(out, c->password->data, c->password->len) &&
      smn_buf_add_string(out, SEPARATOR SEPARATOR))
    return SMN_OK;
  return smn_fail(err, SMN_AUTH, "the token is too long to send");
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
    char c = *r->at;
    unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 16;
    if (digit == 16)
      return '?';
    value = value << 4 | digit;
  }
  return value;
}

/* Behind the opening quote.  */
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

/* The string at hand is a key: a colon comes behind it.  */
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
