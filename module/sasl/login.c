/* SPDX-License-Identifier: GPL-3.0-or-later */
/* login.c - LOGIN, which no RFC defines.  */
#include "sasl/login.h"
#include "base/ascii.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#define PROMPT_MAX 256 /* octets of base64 that can be a prompt */

enum field { UNCLEAR, USER, PASSWORD };

struct login {
  struct smn_exchange exchange;
  bool user_sent, password_sent;
};

static bool mentions(const char *text, size_t len, const char *word) {
  size_t n = strlen(word);
  for (size_t at = 0; at + n <= len; at++)
    if (smn_ascii_same(text + at, n, word, n))
      return true;
  return false;
}

/* What a prompt asks for, when it says one thing and not the other.  */
static enum field named(const char *prompt, size_t len) {
  bool user = mentions(prompt, len, "user") || mentions(prompt, len, "login");
  bool password = mentions(prompt, len, "pass") || mentions(prompt, len, "pwd");
  return user == password ? UNCLEAR : user ? USER : PASSWORD;
}

/* The same for a prompt in base64, with blanks in it or without padding.  */
static enum field named_in_base64(const char *prompt, size_t len) {
  unsigned char digits[PROMPT_MAX + 4];
  gnutls_datum_t encoded = {digits, 0}, raw = {NULL, 0};
  for (size_t at = 0; at < len && encoded.size < PROMPT_MAX; at++)
    if (!strchr(" \t\r\n=", prompt[at]))
      digits[encoded.size++] = (unsigned char)prompt[at];
  while (encoded.size % 4)
    digits[encoded.size++] = '=';
  if (encoded.size == 0 || gnutls_base64_decode2(&encoded, &raw) != 0)
    return UNCLEAR;
  enum field field = named((char *)raw.data, raw.size);
  gnutls_free(raw.data);
  return field;
}

/* Each is sent once: a prompt that is not understood, or asks again for what it
   has, means the other one.  */
static enum field wanted(const struct login *x, const char *prompt,
                         size_t len) {
  enum field field = named(prompt, len);
  if (field == UNCLEAR)
    field = named_in_base64(prompt, len);
  if (field == PASSWORD ? x->password_sent : x->user_sent)
    field = field == PASSWORD ? USER : PASSWORD;
  return field == PASSWORD ? PASSWORD : USER;
}

static enum smn_kind next(struct smn_exchange *exchange, const char *challenge,
                          size_t len, struct smn_buf *out,
                          struct smn_error *err) {
  struct login *x = (struct login *)exchange;
  const struct smn_credentials *c = exchange->credentials;
  bool user = wanted(x, challenge, len) == USER;
  *(user ? &x->user_sent : &x->password_sent) = true;
  if (user ? smn_buf_add_string(out, c->user)
           : smn_buf_add(out, c->password->data, c->password->len))
    return SMN_OK;
  return smn_fail(err, SMN_AUTH, "the credentials are too long to send");
}

static void end(struct smn_exchange *x) { free(x); }

static const struct smn_exchange_operations operations = {.next = next,
                                                          .free = end};

enum smn_kind smn_login_start(struct smn_exchange **exchange,
                              const struct smn_mechanism *mechanism,
                              const struct smn_credentials *credentials,
                              struct smn_error *err) {
  struct login *x = calloc(1, sizeof *x);
  if (!x)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  x->exchange = (struct smn_exchange){&operations, mechanism, credentials};
  *exchange = &x->exchange;
  return SMN_OK;
}
