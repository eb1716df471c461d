/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth.c - who the user is (RFC 4954): mechanisms in turn.  */
#include "sasl/worked.h"
#include "smtp/auth-one.h"

#include <stdio.h>
#include <string.h>

/* The course of all attempts on one connection.  */
struct course {
  const struct smn_auth *auth;
  struct smn_credentials credentials;
  const struct smn_mechanism *tried; /* the last one, NULL at first */
  struct smn_attempt attempt;        /* what came of it */
  bool server_binds; /* it offers channel binding, as far as is known */
  bool known;        /* what comes of this password was known before */
  bool refused;      /* the password, or what was made of it */
  bool transition;   /* another mechanism may work from the next time on */
  bool stopped;      /* by a refusal without TLS, before the last mechanism */
  int tests;         /* of it by the server: accounts are locked after few */
};

static bool is(const struct smn_mechanism *mechanism, const char *name) {
  return mechanism == smn_mechanism(name);
}

/* What may follow

   A mechanism that is refused as such makes room for any other one.  A password
   that is refused makes room for one more try with it where servers are known
   to need that: those that keep no secret for CRAM-MD5 or DIGEST-MD5, and those
   that take LOGIN and refuse PLAIN.  A server that has tested a password by
   SCRAM has no such excuse.  All of this holds inside TLS, where the server is
   known to be the right one.  In clear anyone may have forged the refusal, and
   so it is the end.  */

static bool second_try(const struct course *course,
                       const struct smn_mechanism *next) {
  const struct smn_mechanism *tried = course->tried;
  if (course->known || course->tests > 1)
    return false;
  return tried->digest ? next->plaintext
                       : is(tried, "PLAIN") && is(next, "LOGIN");
}

static bool may_follow(const struct course *course,
                       const struct smn_mechanism *next) {
  const struct smn_mechanism *tried = course->tried;
  if (!tried)
    return true;
  if (course->attempt.sent && !course->auth->encrypted)
    return false;
  switch (course->attempt.refusal) {
  case SMN_REFUSED_MECHANISM:
    return course->tests < 2 && (!course->refused || next->plaintext);
  case SMN_REFUSED_PASSWORD:
    return second_try(course, next);
  case SMN_REFUSED_TRANSITION:
    return !tried->plaintext && is(next, "PLAIN");
  case SMN_REFUSED_FIRST:
    /* Only by the word of the user, whose list has a weaker one in it; a
       disagreement about channel binding would meet each SCRAM alike.  */
    return course->auth->server->mechanisms && !tried->binds &&
           !(course->credentials.could_bind && next->scram);
  case SMN_REFUSED_NOTHING:
    break;
  }
  return false;
}

/* What is learned from an attempt.  */
static void learn(struct course *course) {
  const struct smn_attempt *attempt = &course->attempt;
  course->tests += attempt->tested;
  course->refused |= attempt->refusal == SMN_REFUSED_PASSWORD;
  course->transition |= attempt->refusal == SMN_REFUSED_TRANSITION;
  /* A server that takes -PLUS back never knew it, or is to learn by the flag
     "y" that another one says so in its name.  */
  if (course->tried->binds && attempt->refusal == SMN_REFUSED_MECHANISM)
    course->server_binds = false;
}

/* The client says "y" when it would bind and believes that the server cannot;
   not when the user has named mechanisms, and none with -PLUS.  */
static bool could_bind(const struct course *course) {
  const char *wanted = course->auth->server->mechanisms;
  return course->auth->binding && !course->server_binds &&
         (!wanted || smn_mechanisms_bind(wanted));
}

/* Texts */

/* Put before the server's words that MECHANISM WAS refused, and after them what
   the user can do about it.  */
static void explain(struct smn_error *err,
                    const struct smn_mechanism *mechanism, const char *was,
                    const char *advice) {
  const struct smn_error refusal = *err;
  char before[128] = "";
  if (refusal.kind == SMN_REPLY)
    snprintf(before, sizeof before, "%s %s: %d ", mechanism->name, was,
             refusal.code);
  smn_fail(err, refusal.kind, "%s%s%s", before, refusal.text, advice);
  err->code = refusal.code;
  memcpy(err->enhanced, refusal.enhanced, sizeof err->enhanced);
}

static const char *advice_on_first(const struct course *course) {
  if (course->tried->binds)
    return "; channel binding does not work with this server, to do without "
           "it, name mechanisms without -PLUS";
  if (course->credentials.could_bind)
    return "; the server may know channel binding without offering it, or "
           "someone between you and the server removed -PLUS from its list of "
           "mechanisms; to do without channel binding, name this mechanism and "
           "none with -PLUS";
  return "; the user may be unknown, or have no password for this mechanism";
}

static const char *advice_on_transition(const struct course *course) {
  if (!course->auth->encrypted)
    return "; the server wants one login by PLAIN, which needs TLS";
  return "; the server wants one login by PLAIN, which it does not offer or "
         "you do not want";
}

static void explain_refusal(const struct course *course,
                            struct smn_error *err) {
  const struct smn_mechanism *tried = course->tried;
  switch (course->attempt.refusal) {
  case SMN_REFUSED_MECHANISM:
    explain(err, tried, "was refused",
            course->stopped ? "; no other mechanism is tried without TLS" : "");
    break;
  case SMN_REFUSED_FIRST:
    explain(err, tried, "was refused before any password was tested",
            advice_on_first(course));
    break;
  case SMN_REFUSED_PASSWORD:
    /* To the client a wrong password looks the same as a server that has heard
       "y" and knows channel binding.  */
    if (tried->scram && course->credentials.could_bind)
      explain(err, tried, "was refused",
              " (either the password is wrong, or someone between you and the "
              "server removed -PLUS from its list of mechanisms)");
    break;
  case SMN_REFUSED_TRANSITION:
    explain(err, tried, "was refused", advice_on_transition(course));
    break;
  case SMN_REFUSED_NOTHING:
    break;
  }
}

/* The error as it leaves here: 4yz is the server's trouble, and so is 421; the
   rest is about the mechanisms, as long as no password was tested, or else
   about the credentials.  */
static enum smn_kind conclude(const struct course *course, enum smn_kind kind) {
  struct smn_result *result = course->auth->result;
  const struct smn_attempt *attempt = &course->attempt;
  const bool binding = attempt->refusal == SMN_REFUSED_FIRST &&
                       (course->tried->binds || course->credentials.could_bind);
  if (kind == SMN_OK)
    return kind;
  explain_refusal(course, &result->error);
  if (kind == SMN_REPLY && result->error.code >= 500)
    kind = SMN_AUTH;
  if (kind != SMN_AUTH && kind != SMN_UNSUPPORTED)
    return kind;
  if (course->tests == 0 && attempt->sent && !course->tried->secretless &&
      (binding || attempt->refusal == SMN_REFUSED_MECHANISM))
    kind = SMN_UNSUPPORTED;
  result->password_untested = course->tests == 0 && !attempt->unusable &&
                              course->credentials.password->len > 0;
  return result->error.kind = kind;
}

/* What is kept of it

   Only what TLS has carried is kept, and of no token, which comes and goes.  */

static bool keeps(const struct course *course) {
  return course->auth->encrypted && course->credentials.password->len > 0 &&
         !course->auth->server->token;
}

/* What this password has worked with goes before what it may have failed with:
   mechanisms of its own kind, none that is stronger.  */
static void prefer(const struct smn_mechanism *order[], size_t count,
                   const struct smn_mechanism *worked) {
  size_t from = 0, to = 0;
  while (from < count && order[from] != worked)
    from++;
  while (to < from && !order[to]->digest && !order[to]->plaintext)
    to++;
  if (from == count)
    return;
  for (; from > to; from--)
    order[from] = order[from - 1];
  order[to] = worked;
}

static void recall(struct course *course, const struct smn_mechanism *order[],
                   size_t count) {
  const struct smn_mechanism *worked = NULL;
  if (!keeps(course))
    return;
  course->known = smn_worked_recall(&course->credentials, &worked);
  if (worked)
    prefer(order, count, worked);
}

static void keep(const struct course *course, enum smn_kind kind) {
  const struct smn_mechanism *tried = course->tried;
  if (!keeps(course))
    return;
  if (kind == SMN_OK && !course->transition && !tried->secretless &&
      !tried->token)
    smn_worked_note(&course->credentials, tried);
  else if (kind != SMN_OK && course->tests > 1)
    smn_worked_note(&course->credentials, NULL);
}

/* Mechanisms in turn */

static enum smn_kind in_turn(struct course *course,
                             const struct smn_mechanism *order[],
                             size_t count) {
  struct smn_result *result = course->auth->result;
  const struct smn_mechanism *first = NULL;
  enum smn_kind kind = SMN_AUTH;
  recall(course, order, count);
  for (size_t i = 0; i < count; i++) {
    if (!may_follow(course, order[i])) {
      course->stopped = !course->auth->encrypted;
      continue;
    }
    course->tried = order[i];
    course->credentials.could_bind = could_bind(course);
    kind = smn_auth_one(course->auth, order[i], &course->credentials,
                        &course->attempt);
    learn(course);
    if (course->attempt.refusal == SMN_REFUSED_FIRST)
      first = order[i];
  }
  keep(course, kind);
  if (kind != SMN_OK)
    return conclude(course, kind);
  smn_fail(&result->error, SMN_OK, "%s", ""); /* what was refused before */
  snprintf(result->mechanism, sizeof result->mechanism, "%s",
           course->tried->name);
  if (first)
    snprintf(result->notes, sizeof result->notes,
             "%s was refused before any password was tested, and %s was used",
             first->name, course->tried->name);
  return kind;
}

static enum smn_kind nothing_common(const struct smn_auth *auth) {
  const char *wanted = auth->server->mechanisms;
  return smn_fail(&auth->result->error, SMN_UNSUPPORTED,
                  "no common mechanism: the server offers %s, %s%s%s",
                  auth->offered[0] ? auth->offered : "none",
                  wanted                ? "and you want "
                  : auth->server->token ? "and none of them supports tokens"
                                        : "and none of them is supported here",
                  wanted ? wanted : "",
                  wanted && smn_mechanisms_bind(wanted) && !auth->binding
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
  struct course course = {
      .auth = auth,
      .credentials = {.user = server->user,
                      .authzid = server->authzid,
                      .password = &server->password,
                      .host = smn_server_name(server),
                      .port = server->port,
                      .timeout_ms = server->timeout_ms,
                      .cancel_fd = auth->cancel_fd,
                      .binding = auth->binding},
      .server_binds = smn_mechanisms_bind(auth->offered),
  };
  const struct smn_mechanism *order[SMN_MECHANISMS];
  /* A relay that knows no AUTH says 530 if it wants one after all.  */
  if (!auth->offered[0] && (!server->mechanisms || server->if_offered))
    return SMN_OK;
  size_t count =
      smn_mechanisms_choose(auth->offered, server->mechanisms, &means, order);
  if (count == 0)
    return !means.secret && !server->mechanisms ? SMN_OK : nothing_common(auth);
  if (means.secret && !auth->may_show_secrets)
    return smn_fail(
        &auth->result->error, SMN_CLEARTEXT,
        "the connection is not encrypted, so no password or token was sent");
  return in_turn(&course, order, count);
}
