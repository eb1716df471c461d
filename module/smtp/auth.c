/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth.c - the dialogue of AUTH (RFC 4954): mechanisms in turn.  */
#include "smtp/auth.h"
#include "base/redact.h"

#include <stdio.h>
#include <string.h>

#define AUTH_LINE_MAX 510 /* RFC 5321 4.5.3.1.4, without CRLF */
#define AUTH_STEPS_MAX 8  /* challenges before a server is looping */

/* One mechanism under way.  */
struct exchange {
  const struct smn_auth *auth;
  const char *mechanism;
  struct smn_sasl *sasl;
  struct smn_buf response; /* secret: base64 */
  struct smn_error *err;   /* that of the result */
  bool sent;               /* AUTH went out */
};

/* Send AUTH, with the initial response where it fits on the line.  *HELD tells
   that it did not and waits for the first 334.  */
static enum smn_kind begin(struct exchange *x, bool *held) {
  struct smn_buf *command = x->auth->command;
  bool has = false;
  char shown[64];
  *held = false;
  enum smn_kind kind = smn_sasl_first(x->sasl, &x->response, &has, x->err);
  if (kind != SMN_OK)
    return kind;
  if (has)
    smn_redact_add_response(x->auth->needles, x->response.data,
                            x->response.len);
  *held = has && strlen("AUTH ") + strlen(x->mechanism) + 1 + x->response.len >
                     AUTH_LINE_MAX;
  bool inlined = has && !*held;
  snprintf(shown, sizeof shown, "AUTH %s%s", x->mechanism,
           inlined ? " " SMN_OMITTED : "");
  smn_buf_clear(command);
  if (!smn_buf_add_string(command, "AUTH ") ||
      !smn_buf_add_string(command, x->mechanism) ||
      (inlined && (!smn_buf_add_string(command, " ") ||
                   !smn_buf_add(command, x->response.data, x->response.len))))
    return smn_fail(x->err, SMN_USAGE, "the credentials are too long");
  x->sent = true;
  return x->auth->exchange(x->auth->session, shown);
}

static enum smn_kind respond(struct exchange *x) {
  struct smn_buf *command = x->auth->command;
  smn_buf_clear(command);
  if (x->response.len &&
      !smn_buf_add(command, x->response.data, x->response.len))
    return smn_fail(x->err, SMN_USAGE, "the credentials are too long");
  return x->auth->exchange(x->auth->session,
                           x->response.len ? SMN_OMITTED : "");
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

static enum smn_kind run(struct exchange *x) {
  const struct smn_reply *reply = x->auth->reply;
  bool held;
  enum smn_kind kind = begin(x, &held);
  for (int step = 0; kind == SMN_OK && reply->code == 334; step++) {
    if (step == AUTH_STEPS_MAX)
      kind = smn_fail(x->err, SMN_AUTH, "%s: the server asks without end",
                      x->mechanism);
    else if (!held) {
      kind = smn_sasl_next(x->sasl, reply->text.data, reply->text.len,
                           &x->response, x->err);
      smn_redact_add_response(x->auth->needles, x->response.data,
                              x->response.len);
    }
    held = false;
    if (kind != SMN_OK) {
      cancel(x);
      return kind;
    }
    kind = respond(x);
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
  char words[1024], quoted[1024];
  size_t len = 0;
  const char *raw = smn_sasl_refusal(x->sasl, &len);
  if (kind != SMN_REPLY || refusal.code < 500 ||
      (len == 0 && refusal.code != 535))
    return kind;
  len = smn_redact(x->auth->needles, raw, len, true, words, sizeof words);
  smn_quote(quoted, sizeof quoted, words, len);
  smn_fail(x->err, SMN_AUTH, "%s: the server refuses the token%s%s; %d %.900s",
           x->mechanism, len ? ": " : "", quoted, refusal.code, refusal.text);
  x->err->code = refusal.code;
  memcpy(x->err->enhanced, refusal.enhanced, sizeof refusal.enhanced);
  x->auth->result->token_refused = true;
  return SMN_AUTH;
}

/* A wrong password looks the same to the client as a server that has heard the
   flag "y" and knows channel binding.  */
static void hint_at_downgrade(struct smn_error *err) {
  size_t have = strlen(err->text);
  snprintf(err->text + have, sizeof err->text - have,
           " (either the password is wrong, or somebody on the way has taken "
           "-PLUS from the server's list of mechanisms)");
}

/* The course of all exchanges of one session.  */
struct course {
  const struct smn_auth *auth;
  bool server_binds;   /* the server knows channel binding */
  bool fell_back;      /* to a mechanism that shows the password */
  bool plaintext_only; /* only such a one may follow */
  bool no_plaintext;   /* no such one may follow */
  bool sent;           /* the server has heard of the last one */
};

static enum smn_kind auth_by(struct course *course, const char *mechanism) {
  const struct smn_auth *auth = course->auth;
  const struct smn_server *server = auth->server;
  const struct smn_credentials credentials = {
      .user = server->user,
      .authzid = server->authzid,
      .password = &server->password,
      .host = smn_server_name(server),
      .port = server->port,
      .timeout_ms = server->timeout_ms,
      .cancel_fd = auth->cancel_fd,
      .binding = auth->binding,
      .server_binds = course->server_binds,
  };
  struct exchange x = {
      .auth = auth, .mechanism = mechanism, .err = &auth->result->error};
  if (!smn_buf_init_secret(&x.response, SMN_SASL_RESPONSE_MAX))
    return smn_fail(x.err, SMN_SYSTEM, "no memory");
  enum smn_kind kind = smn_sasl_start(&x.sasl, mechanism, &credentials, x.err);
  if (kind == SMN_OK) {
    kind = run(&x);
    if (smn_sasl_token(mechanism))
      kind = token_refused(&x, kind);
  }
  course->sent = x.sent;
  if (kind == SMN_REPLY && x.err->code == 535 && smn_sasl_scram(mechanism) &&
      !smn_sasl_binds(mechanism) && auth->binding && !course->server_binds)
    hint_at_downgrade(x.err);
  smn_sasl_free(x.sasl);
  smn_buf_free(&x.response);
  smn_buf_clear(auth->command);
  return kind;
}

/* May the next of the mechanisms be tried after this refusal?  A mechanism that
   is refused makes room for any other, but SCRAM only inside TLS for one that
   shows the password.  A password that is refused makes room, once, for one
   that shows it to a server whose name TLS has proved, if it was a digest that
   some servers hold no secret for (CRAM-MD5); who offers SCRAM holds one.  */
static bool next_mechanism(struct course *course, const char *refused) {
  const struct smn_error *err = &course->auth->result->error;
  if (err->kind == SMN_UNSUPPORTED)
    return true;
  /* It was no password that was refused, or there is no ticket.  */
  if (smn_sasl_list_secretless(refused) &&
      ((err->kind == SMN_REPLY && err->code == 535) ||
       (err->kind == SMN_AUTH && !course->sent)))
    return true;
  if (err->kind != SMN_REPLY)
    return false;
  if (err->code == 504 || err->code == 534) {
    /* A server that takes it back never knew it, or is to learn by the flag
       "y" that somebody says so in its name.  */
    if (smn_sasl_binds(refused))
      course->server_binds = false;
    if (smn_sasl_scram(refused) && !course->auth->encrypted)
      course->no_plaintext = true;
    return true;
  }
  if (err->code != 535 || course->fell_back || smn_sasl_plaintext(refused) ||
      smn_sasl_scram(refused) || !course->auth->encrypted)
    return false;
  return course->fell_back = course->plaintext_only = true;
}

static bool passed_over(const struct course *course, const char *mechanism) {
  return smn_sasl_plaintext(mechanism) ? course->no_plaintext
                                       : course->plaintext_only;
}

static enum smn_kind auth_in_order(const struct smn_auth *auth, char *order) {
  struct smn_result *result = auth->result;
  struct course course = {.auth = auth,
                          .server_binds = smn_sasl_list_binds(auth->offered)};
  enum smn_kind kind = SMN_AUTH;
  for (char *mechanism = order, *end; *mechanism; mechanism = end) {
    end = mechanism + strcspn(mechanism, " ");
    if (*end)
      *end++ = '\0';
    if (passed_over(&course, mechanism))
      continue;
    kind = auth_by(&course, mechanism);
    if (kind == SMN_OK) {
      snprintf(result->mechanism, sizeof result->mechanism, "%.31s", mechanism);
      break;
    }
    if (!next_mechanism(&course, mechanism))
      break;
  }
  /* 4yz is the server's trouble, and so is 421; the rest is ours.  */
  if (kind == SMN_REPLY && result->error.code >= 500)
    kind = result->error.kind = SMN_AUTH;
  return kind;
}

static enum smn_kind nothing_common(const struct smn_auth *auth) {
  const char *wanted = auth->server->mechanisms;
  return smn_fail(&auth->result->error, SMN_UNSUPPORTED,
                  "no common mechanism: the server offers %s, wanted is %s%s",
                  auth->offered[0] ? auth->offered : "none",
                  wanted                ? wanted
                  : auth->server->token ? "one for a token"
                                        : "any that is known here",
                  wanted && smn_sasl_list_binds(wanted) && !auth->binding
                      ? " (without TLS there is no channel to bind to)"
                      : "");
}

enum smn_kind smn_auth_run(const struct smn_auth *auth) {
  const struct smn_server *server = auth->server;
  const struct smn_sasl_means means = {
      .secret = server->password.len > 0,
      .token = server->token,
      .certificate = auth->certificate && auth->encrypted,
      .binding = auth->binding != NULL,
  };
  char order[256];
  /* A relay that knows no AUTH says 530 if it wants one after all.  */
  if (!auth->offered[0] && (!server->mechanisms || server->if_offered))
    return SMN_OK;
  if (smn_sasl_choose(auth->offered, server->mechanisms, &means, order,
                      sizeof order) == 0)
    return !means.secret && !server->mechanisms ? SMN_OK : nothing_common(auth);
  if (means.secret && !auth->may_show_secrets)
    return smn_fail(&auth->result->error, SMN_CLEARTEXT,
                    "the connection is not encrypted, nothing secret was sent");
  smn_redact_add(auth->needles, server->password.data, server->password.len);
  return auth_in_order(auth, order);
}
