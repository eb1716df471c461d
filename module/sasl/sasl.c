/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sasl.c - one exchange as SMTP carries it, in base64 (RFC 4954).  */
#include "sasl/sasl.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#define CHALLENGE_MAX 8192 /* octets, in base64; none of ours needs as many */

struct smn_sasl {
  struct smn_exchange *exchange;
  struct smn_buf raw; /* secret: a response before base64 */
  int challenges;
};

static enum smn_kind check(const struct smn_mechanism *mechanism,
                           const struct smn_credentials *c,
                           struct smn_error *err) {
  enum smn_kind kind =
      smn_credentials_check(c->user, c->authzid, c->password, err);
  if (kind != SMN_OK || mechanism->secretless)
    return kind;
  if (mechanism->token)
    return c->password->len ? SMN_OK
                            : smn_fail(err, SMN_AUTH, "the token is empty");
  return c->user && c->password->data
             ? SMN_OK
             : smn_fail(err, SMN_AUTH, "%s needs a user and a password",
                        mechanism->name);
}

enum smn_kind smn_sasl_start(struct smn_sasl **sasl,
                             const struct smn_mechanism *mechanism,
                             const struct smn_credentials *credentials,
                             struct smn_error *err) {
  *sasl = NULL;
  enum smn_kind kind = check(mechanism, credentials, err);
  if (kind != SMN_OK)
    return kind;
  struct smn_sasl *s = calloc(1, sizeof *s);
  if (!s || !smn_buf_init_secret(&s->raw, SMN_SASL_RESPONSE_MAX)) {
    free(s);
    return smn_fail(err, SMN_SYSTEM, "no memory");
  }
  kind = mechanism->start(&s->exchange, mechanism, credentials, err);
  if (kind == SMN_OK)
    *sasl = s;
  else {
    smn_buf_free(&s->raw);
    free(s);
    smn_scrub_heap(credentials->password->len);
  }
  return kind;
}

void smn_sasl_free(struct smn_sasl *sasl) {
  if (!sasl)
    return;
  size_t len = sasl->exchange->credentials->password->len;
  sasl->exchange->operations->free(sasl->exchange);
  smn_buf_free(&sasl->raw);
  free(sasl);
  smn_scrub_heap(len);
}

/* What stands in sasl->raw goes into *RESPONSE, in base64, unless a step of
   KIND has failed.  */
static enum smn_kind encode(struct smn_sasl *sasl, enum smn_kind kind,
                            struct smn_buf *response, struct smn_error *err) {
  if (kind == SMN_OK && sasl->raw.len &&
      !smn_buf_add_base64(response, sasl->raw.data, sasl->raw.len))
    kind = smn_fail(err, SMN_AUTH, "the credentials are too long to send");
  smn_buf_clear(&sasl->raw);
  smn_scrub_heap(sasl->exchange->credentials->password->len);
  return kind;
}

enum smn_kind smn_sasl_first(struct smn_sasl *sasl, struct smn_buf *response,
                             bool *has, struct smn_error *err) {
  struct smn_exchange *x = sasl->exchange;
  smn_buf_clear(response);
  *has = false;
  if (!x->mechanism->speaks)
    return SMN_OK;
  enum smn_kind kind =
      encode(sasl, x->operations->first(x, &sasl->raw, err), response, err);
  if (kind == SMN_OK && response->len == 0 && !smn_buf_add(response, "=", 1))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  *has = kind == SMN_OK;
  return kind;
}

/* A copy of the challenge, decoded, which a NUL follows: libraries want it.
   NULL with *err set.  */
static char *decode(const struct smn_mechanism *mechanism,
                    const char *challenge, size_t *len, struct smn_error *err) {
  gnutls_datum_t text = {(unsigned char *)(size_t)challenge, (unsigned)*len};
  gnutls_datum_t raw = {NULL, 0};
  bool encoded = *len && !mechanism->text;
  if (encoded && (strcspn(challenge, "\r\n \t") != *len ||
                  gnutls_base64_decode2(&text, &raw) != 0)) {
    smn_fail(err, SMN_AUTH, "%s: the server's challenge is not base64",
             mechanism->name);
    return NULL;
  }
  const gnutls_datum_t *from = encoded ? &raw : &text;
  char *message = calloc(1, from->size + 1);
  if (!message)
    smn_fail(err, SMN_SYSTEM, "no memory");
  else if (from->size)
    memcpy(message, from->data, from->size);
  *len = from->size;
  gnutls_free(raw.data);
  return message;
}

enum smn_kind smn_sasl_next(struct smn_sasl *sasl, const char *challenge,
                            size_t len, struct smn_buf *response,
                            struct smn_error *err) {
  struct smn_exchange *x = sasl->exchange;
  const char *name = x->mechanism->name;
  smn_buf_clear(response);
  if (++sasl->challenges > x->mechanism->challenges)
    return smn_fail(err, SMN_AUTH,
                    "%s: unexpected extra challenge from the "
                    "server",
                    name);
  if (len > CHALLENGE_MAX)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server's challenge is longer than %d octets", name,
                    CHALLENGE_MAX);
  char *message = decode(x->mechanism, challenge, &len, err);
  if (!message)
    return err->kind;
  enum smn_kind kind = x->operations->next(x, message, len, &sasl->raw, err);
  free(message);
  return encode(sasl, kind, response, err);
}

enum smn_kind smn_sasl_finish(const struct smn_sasl *sasl,
                              struct smn_error *err) {
  const struct smn_exchange *x = sasl->exchange;
  return x->operations->finish ? x->operations->finish(x, err) : SMN_OK;
}

const char *smn_sasl_refusal(const struct smn_sasl *sasl, size_t *len) {
  const struct smn_exchange *x = sasl->exchange;
  *len = 0;
  return x->operations->refusal ? x->operations->refusal(x, len) : "";
}
