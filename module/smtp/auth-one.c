/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth-one.c - the dialogue of AUTH with one mechanism (RFC 4954).  */
#include "smtp/auth-one.h"
#include "base/redact.h"
#include "sasl/sasl.h"

#include <stdio.h>
#include <string.h>

#define AUTH_LINE_MAX 510 /* RFC 5321 4.5.3.1.4, without CRLF */

struct exchange {
  const struct smn_auth *auth;
  const struct smn_mechanism *mechanism;
  struct smn_attempt *attempt;
  struct smn_sasl *sasl;
  struct smn_buf response; /* secret: base64 */
  struct smn_error *err;   /* that of the result */
  bool held;               /* the initial response waits for the first 334 */
  int responses;           /* that have been sent */
};

/* Send the command; RESPONDS: it holds a response.  */
static enum smn_kind tell(struct exchange *x, const char *shown,
                          bool responds) {
  x->attempt->sent = true;
  if (responds && ++x->responses >= x->mechanism->proof)
    x->attempt->shown = !x->mechanism->secretless;
  return x->auth->exchange(x->auth->session, shown);
}

/* AUTH, with the initial response where it fits on the line.  */
static enum smn_kind begin(struct exchange *x) {
  struct smn_buf *command = x->auth->command;
  const char *name = x->mechanism->name;
  bool has = false;
  char shown[64];
  enum smn_kind kind = smn_sasl_first(x->sasl, &x->response, &has, x->err);
  if (kind != SMN_OK)
    return kind;
  smn_redact_add_response(x->auth->needles, x->response.data, x->response.len);
  x->held = has && strlen("AUTH ") + strlen(name) + 1 + x->response.len >
                       AUTH_LINE_MAX;
  bool inlined = has && !x->held;
  snprintf(shown, sizeof shown, "AUTH %s%s", name,
           inlined ? " " SMN_OMITTED : "");
  smn_buf_clear(command);
  if (!smn_buf_add_string(command, "AUTH ") ||
      !smn_buf_add_string(command, name) ||
      (inlined && (!smn_buf_add_string(command, " ") ||
                   !smn_buf_add(command, x->response.data, x->response.len))))
    return smn_fail(x->err, SMN_USAGE, "the credentials are too long");
  return tell(x, shown, inlined);
}

/* Answer 334.  */
static enum smn_kind respond(struct exchange *x) {
  const struct smn_buf *challenge = &x->auth->reply->text;
  struct smn_buf *command = x->auth->command;
  enum smn_kind kind = SMN_OK;
  if (!x->held) {
    kind = smn_sasl_next(x->sasl, challenge->data ? challenge->data : "",
                         challenge->len, &x->response, x->err);
    smn_redact_add_response(x->auth->needles, x->response.data,
                            x->response.len);
  }
  x->held = false;
  smn_buf_clear(command);
  if (kind == SMN_OK && x->response.len &&
      !smn_buf_add(command, x->response.data, x->response.len))
    kind = smn_fail(x->err, SMN_USAGE, "the credentials are too long");
  return kind;
}

/* "*" ends the exchange (RFC 4954 4); its reply tells nothing new, so *err
   stays as it is.  */
static void cancel(struct exchange *x) {
  struct smn_error kept = *x->err;
  smn_buf_clear(x->auth->command);
  if (smn_buf_add_string(x->auth->command, "*"))
    (void)x->auth->exchange(x->auth->session, NULL);
  *x->err = kept;
}

/* A mechanism answers only so many challenges, so this ends.  */
static enum smn_kind run(struct exchange *x) {
  const struct smn_reply *reply = x->auth->reply;
  enum smn_kind kind = begin(x);
  while (kind == SMN_OK && reply->code == 334) {
    kind = respond(x);
    if (kind != SMN_OK) {
      cancel(x);
      return kind;
    }
    kind = tell(x, x->response.len ? SMN_OMITTED : "", true);
  }
  if (kind == SMN_OK && reply->code != 235)
    kind = smn_reply_unexpected(reply, x->err);
  return kind == SMN_OK ? smn_sasl_finish(x->sasl, x->err) : kind;
}

/* The server refused the token: tell in its own words why, and that it was the
   token, for which there may be a fresh one.  */
static enum smn_kind token_refused(const struct exchange *x,
                                   enum smn_kind kind) {
  struct smn_error refusal = *x->err;
  char quoted[1024];
  size_t len = 0;
  const char *raw = smn_sasl_refusal(x->sasl, &len);
  if (kind != SMN_REPLY || refusal.code < 500 ||
      (len == 0 && refusal.code != 535))
    return kind;
  smn_quote(quoted, sizeof quoted, raw, len);
  smn_fail(x->err, SMN_AUTH, "%s: the server refused the token%s%s; %d %s",
           x->mechanism->name, len ? ": " : "", quoted, refusal.code,
           refusal.text);
  x->err->code = refusal.code;
  memcpy(x->err->enhanced, refusal.enhanced, sizeof refusal.enhanced);
  x->auth->result->token_refused = true;
  return SMN_AUTH;
}

/* What a refusal means.  RFC 5321 4.2.2 and RFC 4954 6 have the codes; 550 and
   553 are what some servers say instead.  */

/* The server did not come to look at what it got.  */
static bool about_command(int code) {
  return (code >= 500 && code <= 504) || code == 530 || code == 538;
}

static bool about_mechanism(int code) {
  return (about_command(code) && code != 530) || code == 534 || code == 550;
}

static bool about_password(int code) { return code == 535 || code == 553; }

static enum smn_refusal refusal_of(const struct exchange *x,
                                   enum smn_kind kind) {
  const struct smn_mechanism *mechanism = x->mechanism;
  const struct smn_attempt *attempt = x->attempt;
  int code = kind == SMN_REPLY || kind == SMN_AUTH ? x->err->code : 0;
  if (kind == SMN_UNSUPPORTED)
    return SMN_REFUSED_MECHANISM;
  /* No password was refused there, or there is no ticket.  */
  if (mechanism->secretless &&
      (about_password(code) || (kind == SMN_AUTH && !attempt->sent)))
    return SMN_REFUSED_MECHANISM;
  if (code == 432)
    return SMN_REFUSED_TRANSITION;
  if (x->auth->result->token_refused)
    return SMN_REFUSED_PASSWORD;
  if (about_mechanism(code))
    /* What was made of a password is compared before such a code can come.  */
    return attempt->shown && !mechanism->plaintext && !mechanism->token
               ? SMN_REFUSED_PASSWORD
               : SMN_REFUSED_MECHANISM;
  if (!about_password(code))
    return SMN_REFUSED_NOTHING;
  return attempt->shown     ? SMN_REFUSED_PASSWORD
         : mechanism->scram ? SMN_REFUSED_FIRST
                            : SMN_REFUSED_MECHANISM;
}

enum smn_kind smn_auth_one(const struct smn_auth *auth,
                           const struct smn_mechanism *mechanism,
                           const struct smn_credentials *credentials,
                           struct smn_attempt *attempt) {
  struct exchange x = {.auth = auth,
                       .mechanism = mechanism,
                       .attempt = attempt,
                       .err = &auth->result->error};
  *attempt = (struct smn_attempt){.sent = false};
  if (!smn_buf_init_secret(&x.response, SMN_SASL_RESPONSE_MAX))
    return smn_fail(x.err, SMN_SYSTEM, "no memory");
  enum smn_kind kind = smn_sasl_start(&x.sasl, mechanism, credentials, x.err);
  if (kind == SMN_OK) {
    kind = run(&x);
    if (mechanism->token)
      kind = token_refused(&x, kind);
  }
  attempt->unusable = kind == SMN_AUTH && !attempt->sent;
  attempt->refusal = refusal_of(&x, kind);
  attempt->tested =
      attempt->refusal == SMN_REFUSED_PASSWORD ||
      (attempt->shown && x.err->code >= 500 && !about_command(x.err->code));
  smn_sasl_free(x.sasl);
  smn_buf_free(&x.response);
  smn_buf_clear(auth->command);
  return kind;
}
