/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gsasl.c - the mechanisms that GNU SASL does.  */
#include "sasl/gsasl.h"

#include <stdlib.h>
#include <string.h>

/* GNU SASL keeps properties in memory of its own until the session ends, and
   so the octets there may be overwritten.  */
static void wipe_property(Gsasl_session *session, Gsasl_property property) {
  const char *value = gsasl_property_fast(session, property);
  if (value) {
    union {
      const char *given;
      char *owned;
    } memory = {value};
    smn_wipe(memory.owned, strlen(value));
  }
}

static enum smn_kind failed(const struct smn_exchange *x, int code,
                            struct smn_error *err) {
  const char *name = x->mechanism->name;
  if (code == GSASL_UNKNOWN_MECHANISM)
    return smn_fail(err, SMN_UNSUPPORTED,
                    "%s: GNU SASL was built without this mechanism", name);
  return smn_fail(err, SMN_AUTH, "%s: %s", name, gsasl_strerror(code));
}

static enum smn_kind step(struct smn_exchange *exchange, const char *input,
                          size_t len, struct smn_buf *out,
                          struct smn_error *err) {
  struct smn_gsasl *x = (struct smn_gsasl *)exchange;
  char *output = NULL;
  size_t output_len = 0;
  int code = GSASL_OK;
  enum smn_kind kind = x->step(x, input, len, &output, &output_len, &code, err);
  if (kind != SMN_OK)
    return kind;
  if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
    kind = failed(exchange, code, err);
  else if (output_len && !smn_buf_add(out, output, output_len))
    kind = smn_fail(err, SMN_AUTH, "the credentials are too long to send");
  x->proved = code == GSASL_OK;
  if (output) {
    smn_wipe(output, output_len);
    gsasl_free(output);
  }
  return kind;
}

static enum smn_kind first(struct smn_exchange *x, struct smn_buf *out,
                           struct smn_error *err) {
  return step(x, NULL, 0, out, err);
}

static void end(struct smn_exchange *exchange) {
  struct smn_gsasl *x = (struct smn_gsasl *)exchange;
  if (x->session) {
    wipe_property(x->session, GSASL_PASSWORD);
    gsasl_finish(x->session);
  }
  if (x->context)
    gsasl_done(x->context);
  free(x);
}

static const struct smn_exchange_operations operations = {
    .first = first, .next = step, .free = end};

/* The library counts a missing property as an error of its own, so an absent
   one is just not set.  */
static int set(struct smn_gsasl *x, Gsasl_property property,
               const char *value) {
  return value ? gsasl_property_set(x->session, property, value) : GSASL_OK;
}

static int prepare(struct smn_gsasl *x) {
  const struct smn_credentials *c = x->exchange.credentials;
  int code = gsasl_init(&x->context);
  if (code == GSASL_OK)
    code = gsasl_client_start(x->context, x->exchange.mechanism->name,
                              &x->session);
  if (code == GSASL_OK)
    code = set(x, GSASL_AUTHID, c->user);
  if (code == GSASL_OK)
    code = set(x, GSASL_AUTHZID, c->authzid);
  if (code == GSASL_OK)
    code = set(x, GSASL_SERVICE, "smtp");
  if (code == GSASL_OK)
    code = set(x, GSASL_HOSTNAME, c->host);
  if (code == GSASL_OK && !x->exchange.mechanism->secretless)
    code = gsasl_property_set_raw(x->session, GSASL_PASSWORD, c->password->data,
                                  c->password->len);
  return code;
}

enum smn_kind smn_gsasl_start_with(smn_gsasl_step *made_by,
                                   struct smn_exchange **exchange,
                                   const struct smn_mechanism *mechanism,
                                   const struct smn_credentials *credentials,
                                   struct smn_error *err) {
  struct smn_gsasl *x = calloc(1, sizeof *x);
  if (!x)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  x->exchange = (struct smn_exchange){&operations, mechanism, credentials};
  x->step = made_by;
  int code = prepare(x);
  if (code == GSASL_OK) {
    *exchange = &x->exchange;
    return SMN_OK;
  }
  enum smn_kind kind = failed(&x->exchange, code, err);
  end(&x->exchange);
  return kind;
}

static enum smn_kind step_here(struct smn_gsasl *x, const char *input,
                               size_t len, char **output, size_t *output_len,
                               int *code, struct smn_error *err) {
  (void)err;
  *code = gsasl_step(x->session, input, len, output, output_len);
  return SMN_OK;
}

enum smn_kind smn_gsasl_start(struct smn_exchange **x,
                              const struct smn_mechanism *mechanism,
                              const struct smn_credentials *credentials,
                              struct smn_error *err) {
  return smn_gsasl_start_with(step_here, x, mechanism, credentials, err);
}

/* DIGEST-MD5: rspauth (RFC 2831 2.1.3) */

static enum smn_kind proved(const struct smn_exchange *x,
                            struct smn_error *err) {
  return ((const struct smn_gsasl *)x)->proved
             ? SMN_OK
             : smn_fail(err, SMN_AUTH, SMN_UNPROVED, x->mechanism->name);
}

static const struct smn_exchange_operations digest_operations = {
    .first = first, .next = step, .finish = proved, .free = end};

enum smn_kind smn_digest_start(struct smn_exchange **x,
                               const struct smn_mechanism *mechanism,
                               const struct smn_credentials *credentials,
                               struct smn_error *err) {
  enum smn_kind kind = smn_gsasl_start(x, mechanism, credentials, err);
  if (kind == SMN_OK)
    (*x)->operations = &digest_operations;
  return kind;
}
