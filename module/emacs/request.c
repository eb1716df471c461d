/* SPDX-License-Identifier: GPL-3.0-or-later */
/* request.c - the plist that describes a job.  */
#include "emacs/request.h"
#include "emacs/credentials.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type {
  FLAG,    /* bool */
  NUMBER,  /* int */
  SECONDS, /* int64_t */
  TEXT,    /* char * */
  TEXTS,   /* char ** */
  SECRET,  /* struct smn_buf */
  OTHER    /* converted by a function of its own */
};

#define OF(member) offsetof(struct smn_job, member)

/* Every key that a job may have.  */
static const struct {
  const char *key;
  enum type type;
  size_t offset;
} keys[] = {
    {":host", TEXT, OF(server.host)},
    {":port", OTHER, 0},
    {":source", TEXT, OF(server.source)},
    {":proxy", SECRET, OF(server.proxy)},
    {":helo", TEXT, OF(server.helo)},
    {":avoid", TEXT, OF(server.avoid)},
    {":stream", OTHER, 0},
    {":cleartext", OTHER, 0},
    {":timeout-ms", NUMBER, OF(server.timeout_ms)},
    {":idle-ms", NUMBER, OF(server.idle_ms)},
    {":max-sessions", NUMBER, OF(server.max_sessions)},
    {":trace", FLAG, OF(server.trace)},
    {":mechanisms", TEXT, OF(server.mechanisms)},
    {":if-offered", FLAG, OF(server.if_offered)},
    {":trustfiles", TEXTS, OF(server.trustfiles)},
    {":crlfiles", TEXTS, OF(server.crlfiles)},
    {":priority", TEXT, OF(server.priority)},
    {":min-prime-bits", NUMBER, OF(server.min_prime_bits)},
    {":pins", TEXTS, OF(server.pins)},
    {":key", TEXT, OF(server.key_file)},
    {":cert", TEXT, OF(server.cert_file)},
    {":passphrase", SECRET, OF(server.passphrase)},
    {":authzid", TEXT, OF(server.authzid)},
    {":token", FLAG, OF(server.token)},
    {":auth", OTHER, 0},
    {":user", OTHER, 0},
    {":password", OTHER, 0},
    {":probe", FLAG, OF(probe)},
    {":utf-8", FLAG, OF(utf8)},
    {":binary", FLAG, OF(binary)},
    {":chunking", FLAG, OF(chunking)},
    {":partial", FLAG, OF(partial)},
    {":durable", FLAG, OF(durable)},
    {":entry", TEXT, OF(entry)},
    {":attempt", NUMBER, OF(attempt)},
    {":sender", TEXT, OF(sender)},
    {":recipients", TEXTS, OF(recipients)},
    {":file", TEXT, OF(file)},
    {":notify", TEXT, OF(wishes.notify)},
    {":ret", TEXT, OF(wishes.ret)},
    {":envid", TEXT, OF(wishes.envid)},
    {":deliver-by", TEXT, OF(wishes.deliver_by)},
    {":require-tls", FLAG, OF(wishes.require_tls)},
    {":release", SECONDS, OF(wishes.release)},
};

#define KEYS (sizeof keys / sizeof *keys)

/* The values of a plist, in the order of the keys; NULL where one is missing
   or nil.  */
struct values {
  emacs_value of[KEYS];
};

static void usage(emacs_env *env, const char *format, const char *name) {
  char text[256];
  snprintf(text, sizeof text, format, name);
  smn_lisp_signal(env, "smtpmail-native-usage-error", text);
}

/* The number of the key that VALUE is; KEYS, with a signal pending, for any
   other.  */
static size_t find_key(emacs_env *env, emacs_value value) {
  char *name =
      smn_lisp_string(env, smn_lisp_call(env, "symbol-name", 1, &value), "key");
  size_t i = 0;
  if (!name)
    return KEYS;
  while (i < KEYS && strcmp(keys[i].key, name) != 0)
    i++;
  if (i == KEYS)
    usage(env, "A job has no key %.100s", name);
  free(name);
  return i;
}

/* As in `plist-get' the first value of a key counts.  */
static void get_values(emacs_env *env, emacs_value plist,
                       struct values *values) {
  bool seen[KEYS] = {false};
  size_t length = smn_lisp_length(env, plist, "A job");
  memset(values, 0, sizeof *values);
  if (length % 2 != 0)
    usage(env, "%s", "A job has a key without a value");
  for (; smn_lisp_ok(env) && length > 0; length -= 2) {
    size_t i = find_key(env, smn_lisp_car(env, plist));
    plist = smn_lisp_cdr(env, plist);
    emacs_value value = smn_lisp_car(env, plist);
    plist = smn_lisp_cdr(env, plist);
    if (i < KEYS && !seen[i] && smn_lisp_true(env, value))
      values->of[i] = value;
    if (i < KEYS)
      seen[i] = true;
  }
}

/* The value of KEY, which is one of ours; NULL for nil.  */
static emacs_value value_of(const struct values *values, const char *key) {
  size_t i = 0;
  while (strcmp(keys[i].key, key) != 0)
    i++;
  return values->of[i];
}

/* An integer from 0 to INT_MAX.  */
static int get_int(emacs_env *env, emacs_value value, const char *key) {
  intmax_t number = smn_lisp_is(env, "fixnump", value)
                        ? env->extract_integer(env, value)
                        : -1;
  if (smn_lisp_ok(env) && (number < 0 || number > INT32_MAX))
    usage(env, "%s of a job is not a small positive integer", key);
  return smn_lisp_ok(env) ? (int)number : 0;
}

/* Put VALUE into the place AT, which the job owns.  */
static void convert(emacs_env *env, emacs_value value, const char *key,
                    enum type type, void *at) {
  switch (type) {
  case FLAG:
    *(bool *)at = true;
    break;
  case NUMBER:
    *(int *)at = get_int(env, value, key);
    break;
  case SECONDS:
    *(int64_t *)at = env->extract_integer(env, value);
    break;
  case TEXT:
    *(char **)at = smn_lisp_string(env, value, key + 1);
    break;
  case TEXTS:
    *(char ***)at = smn_lisp_strings(env, value, key + 1);
    break;
  case SECRET:
    (void)smn_lisp_secret(env, value, key + 1, at);
    break;
  case OTHER:
    break;
  }
}

static enum smn_stream get_stream(emacs_env *env, emacs_value value) {
  if (!value)
    return SMN_STREAM_AUTO;
  if (smn_lisp_eq(env, value, "plain"))
    return SMN_STREAM_PLAIN;
  if (smn_lisp_eq(env, value, "starttls"))
    return SMN_STREAM_STARTTLS;
  if (smn_lisp_eq(env, value, "ssl") || smn_lisp_eq(env, value, "tls"))
    return SMN_STREAM_TLS;
  usage(env, "%s",
        "smtpmail-stream-type must be nil, starttls, plain, ssl or tls");
  return SMN_STREAM_STARTTLS;
}

static enum smn_cleartext get_cleartext(emacs_env *env, emacs_value value) {
  if (!value)
    return SMN_CLEARTEXT_NEVER;
  return smn_lisp_eq(env, value, "t") ? SMN_CLEARTEXT_ALWAYS
                                      : SMN_CLEARTEXT_LOOPBACK;
}

/* Credentials in the plist go before the classic variables, and :auth nil means
   to use none at all.  */
static void get_credentials(emacs_env *env, const struct values *values,
                            struct smn_server *server) {
  emacs_value password = value_of(values, ":password");
  emacs_value user = value_of(values, ":user");
  bool wanted = value_of(values, ":auth") != NULL;
  /* Without a password the user is that of the classic entry.  */
  if (wanted && password) {
    server->user = user ? smn_lisp_string(env, user, "user") : NULL;
    server->authenticate =
        smn_lisp_secret(env, password, "password", &server->password);
  }
  if (smn_lisp_ok(env) && server->host)
    smn_credentials_fill(env, server, wanted);
  if (smn_lisp_ok(env) && wanted && smn_server_secretless(server))
    server->authenticate = true;
}

static void fill(emacs_env *env, const struct values *values,
                 struct smn_job *job) {
  emacs_value port = value_of(values, ":port");
  for (size_t i = 0; i < KEYS && smn_lisp_ok(env); i++)
    if (values->of[i])
      convert(env, values->of[i], keys[i].key, keys[i].type,
              (char *)job + keys[i].offset);
  job->server.port = port ? smn_credentials_port(env, port) : 0;
  job->server.stream = get_stream(env, value_of(values, ":stream"));
  job->server.cleartext = get_cleartext(env, value_of(values, ":cleartext"));
  get_credentials(env, values, &job->server);
}

struct smn_job *smn_request_job(emacs_env *env, emacs_value plist) {
  struct values values;
  struct smn_job *job = smn_job_new();
  if (!job) {
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
    return NULL;
  }
  get_values(env, plist, &values);
  if (smn_lisp_ok(env))
    fill(env, &values, job);
  if (smn_lisp_ok(env))
    return job;
  smn_job_free(job);
  return NULL;
}
