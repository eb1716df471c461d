/* SPDX-License-Identifier: GPL-3.0-or-later */
/* module.c - what Lisp sees: the primitives, plist -> job, event -> list.
   Main thread only.  Every primitive converts and checks all of its arguments,
   looks once for a pending exit, and then acts; none blocks, prompts or
   prints.  Text of the server leaves as unibyte strings.  */
#include "emacs/credentials.h"
#include "emacs/lisp.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "mail/claim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int plugin_is_GPL_compatible;
EXPORT int emacs_module_init(struct emacs_runtime *runtime);

/* A hash of the sources, made by the build.  Lisp reads it from the file before
   it loads the module, and refuses one that was built from other sources.  */
static const char abi_mark[] = "smtpmail-native-module-abi=" SMN_ABI;

/* plist -> job */

static emacs_value get(emacs_env *env, emacs_value plist, const char *key) {
  return smn_lisp_plist_get(env, plist, key);
}

/* A string, or NULL for nil.  */
static char *get_string(emacs_env *env, emacs_value plist, const char *key) {
  emacs_value value = get(env, plist, key);
  return smn_lisp_true(env, value) ? smn_lisp_string(env, value, key + 1)
                                   : NULL;
}

static char **get_strings(emacs_env *env, emacs_value plist, const char *key) {
  emacs_value value = get(env, plist, key);
  return smn_lisp_true(env, value) ? smn_lisp_strings(env, value, key + 1)
                                   : NULL;
}

static bool get_bool(emacs_env *env, emacs_value plist, const char *key) {
  return smn_lisp_true(env, get(env, plist, key));
}

/* An integer from 0 to INT_MAX; 0 for nil.  */
static int get_int(emacs_env *env, emacs_value plist, const char *key) {
  emacs_value value = get(env, plist, key);
  if (!smn_lisp_true(env, value))
    return 0;
  intmax_t number = smn_lisp_is(env, "fixnump", value)
                        ? env->extract_integer(env, value)
                        : -1;
  if (smn_lisp_ok(env) && (number < 0 || number > INT32_MAX))
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A number of the job is not a small positive integer");
  return smn_lisp_ok(env) ? (int)number : 0;
}

/* Seconds of the system's clock; 0 for nil.  */
static int64_t get_time(emacs_env *env, emacs_value plist, const char *key) {
  emacs_value value = get(env, plist, key);
  return smn_lisp_true(env, value) ? env->extract_integer(env, value) : 0;
}

static enum smn_stream get_stream(emacs_env *env, emacs_value plist) {
  emacs_value value = get(env, plist, ":stream");
  if (!smn_lisp_true(env, value))
    return SMN_STREAM_AUTO;
  if (smn_lisp_eq(env, value, "plain"))
    return SMN_STREAM_PLAIN;
  if (smn_lisp_eq(env, value, "starttls"))
    return SMN_STREAM_STARTTLS;
  if (smn_lisp_eq(env, value, "ssl") || smn_lisp_eq(env, value, "tls"))
    return SMN_STREAM_TLS;
  smn_lisp_signal(env, "smtpmail-native-usage-error",
                  "smtpmail-stream-type must be nil, starttls, plain, ssl or "
                  "tls");
  return SMN_STREAM_STARTTLS;
}

static enum smn_cleartext get_cleartext(emacs_env *env, emacs_value plist) {
  emacs_value value = get(env, plist, ":cleartext");
  if (!smn_lisp_true(env, value))
    return SMN_CLEARTEXT_NEVER;
  return smn_lisp_eq(env, value, "t") ? SMN_CLEARTEXT_ALWAYS
                                      : SMN_CLEARTEXT_LOOPBACK;
}

/* Credentials in PLIST go before the classic variables, and :auth nil means to
   use none at all.  */
static void get_credentials(emacs_env *env, emacs_value plist,
                            struct smn_server *server) {
  bool wanted = get_bool(env, plist, ":auth");
  emacs_value password = get(env, plist, ":password");
  emacs_value passphrase = get(env, plist, ":passphrase");
  server->key_file = get_string(env, plist, ":key");
  server->cert_file = get_string(env, plist, ":cert");
  server->token = get_bool(env, plist, ":token");
  if (smn_lisp_true(env, passphrase))
    smn_lisp_secret(env, passphrase, "passphrase", &server->passphrase);
  server->authzid = get_string(env, plist, ":authzid");
  /* Without a password the user is that of the classic entry.  */
  if (wanted && smn_lisp_true(env, password)) {
    server->user = get_string(env, plist, ":user");
    server->authenticate =
        smn_lisp_secret(env, password, "password", &server->password);
  }
  if (smn_lisp_ok(env) && server->host)
    smn_credentials_fill(env, server, wanted);
  if (smn_lisp_ok(env) && wanted && smn_server_secretless(server))
    server->authenticate = true;
}

static void get_server(emacs_env *env, emacs_value plist,
                       struct smn_server *server) {
  server->host = get_string(env, plist, ":host");
  server->source = get_string(env, plist, ":source");
  emacs_value proxy = get(env, plist, ":proxy");
  if (smn_lisp_true(env, proxy))
    smn_lisp_secret(env, proxy, "proxy", &server->proxy);
  server->port = smn_credentials_port(env, get(env, plist, ":port"));
  server->helo = get_string(env, plist, ":helo");
  server->avoid = get_string(env, plist, ":avoid");
  server->stream = get_stream(env, plist);
  server->cleartext = get_cleartext(env, plist);
  server->timeout_ms = get_int(env, plist, ":timeout-ms");
  server->idle_ms = get_int(env, plist, ":idle-ms");
  server->max_sessions = get_int(env, plist, ":max-sessions");
  server->trace = get_bool(env, plist, ":trace");
  server->mechanisms = get_string(env, plist, ":mechanisms");
  server->if_offered = get_bool(env, plist, ":if-offered");
  server->trustfiles = get_strings(env, plist, ":trustfiles");
  server->crlfiles = get_strings(env, plist, ":crlfiles");
  server->priority = get_string(env, plist, ":priority");
  server->min_prime_bits = get_int(env, plist, ":min-prime-bits");
  server->pins = get_strings(env, plist, ":pins");
  get_credentials(env, plist, server);
}

static struct smn_job *get_job(emacs_env *env, emacs_value plist) {
  struct smn_job *job = smn_job_new();
  if (!job) {
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
    return NULL;
  }
  get_server(env, plist, &job->server);
  job->probe = get_bool(env, plist, ":probe");
  job->utf8 = get_bool(env, plist, ":utf-8");
  job->binary = get_bool(env, plist, ":binary");
  job->chunking = get_bool(env, plist, ":chunking");
  job->partial = get_bool(env, plist, ":partial");
  job->durable = get_bool(env, plist, ":durable");
  job->entry = get_string(env, plist, ":entry");
  job->attempt = get_int(env, plist, ":attempt");
  job->sender = get_string(env, plist, ":sender");
  job->recipients = get_strings(env, plist, ":recipients");
  job->file = get_string(env, plist, ":file");
  job->wishes.notify = get_string(env, plist, ":notify");
  job->wishes.ret = get_string(env, plist, ":ret");
  job->wishes.envid = get_string(env, plist, ":envid");
  job->wishes.deliver_by = get_string(env, plist, ":deliver-by");
  job->wishes.require_tls = get_bool(env, plist, ":require-tls");
  job->wishes.release = get_time(env, plist, ":release");
  if (smn_lisp_ok(env))
    return job;
  smn_job_free(job);
  return NULL;
}

static const char send_doc[] =
    "Copy the job that PLIST describes, start it, and return its integer id.\n"
    "The outcome comes as an event.  Strings are encoded, and nil is as good\n"
    "as no value.  PLIST has\n"
    ":host, :port       string, and what `find-auth' takes\n"
    "                   A :host that is a file name, alone or behind unix:, "
    "is\n"
    "                   a local socket; lmtp: before either makes it LMTP\n"
    ":source            address in digits to connect from\n"
    ":proxy             socks5://[USER:PASSWORD@]HOST:PORT or http://...: who\n"
    "                   resolves the name of :host and connects to it\n"
    ":stream            nil (STARTTLS if offered), plain, starttls, tls, ssl\n"
    ":helo              the name for EHLO\n"
    ":avoid             names of extensions, in upper case and separated by\n"
    "                   spaces, that are not used even if they are offered\n"
    ":timeout-ms        of each wait\n"
    ":cleartext         where secrets go unencrypted: nil, loopback, t\n"
    ":trace             non-nil: events tell of every line\n"
    ":trustfiles        list of PEM files, beside the system's authorities\n"
    ":crlfiles          list of PEM files\n"
    ":priority          as `gnutls-algorithm-priority'; without %PROFILE in\n"
    "                   it less than 112 bits are refused\n"
    ":min-prime-bits    as `gnutls-min-prime-bits'\n"
    ":pins              list of SHA-256 fingerprints (hex, maybe with colons)\n"
    "                   of the server's certificate or public key; a match\n"
    "                   replaces all other verification, and without one the\n"
    "                   server is refused\n"
    ":key, :cert        of the client: PEM files, one PKCS#12 file, or "
    "pkcs11:\n"
    "                   URIs; one of the two may stand for both\n"
    ":passphrase        of the key, or PIN of its token\n"
    ":auth              non-nil: authenticate, by what follows\n"
    ":user, :password   with no :password they come from\n"
    "                   `smtpmail-auth-credentials'; none is needed where\n"
    "                   the certificate (EXTERNAL) or GSSAPI tells who it is\n"
    ":token             non-nil: the password is an OAuth 2.0 token\n"
    ":authzid           whom to act as, if not as the user\n"
    ":mechanisms        string of names, separated by spaces, to be tried in\n"
    "                   this order; nil: the strongest first.  GSSAPI,\n"
    "                   DIGEST-MD5 and NTLM are only used when named here\n"
    ":if-offered        non-nil: a server that offers no mechanism at all "
    "gets\n"
    "                   the message without authentication\n"
    ":idle-ms           for which the connection is kept for further mails\n"
    ":max-sessions      for one account at a time\n"
    ":sender, :recipients, :file   string, list of strings, file name\n"
    ":notify, :ret, :envid   what RFC 3461 has for NOTIFY, RET and ENVID\n"
    ":require-tls       non-nil: REQUIRETLS (RFC 8689), or it is not sent\n"
    ":deliver-by        by-value of RFC 2852, as \"3600;R\"\n"
    ":release           time in seconds before which the server is to keep\n"
    "                   it (RFC 4865)\n"
    ":partial           non-nil: those get the mail whom the server accepts\n"
    ":chunking          non-nil: BDAT where it is offered\n"
    ":utf-8             non-nil: its header is not ASCII (SMTPUTF8)\n"
    ":binary            non-nil: the octets of :file go as they are, which\n"
    "                   takes :chunking and a server with BINARYMIME\n"
    ":entry             directory in the outbox: its receipt tells of the\n"
    "                   attempt :attempt\n"
    ":durable           non-nil: the files of :entry have been synced; if "
    "nil,\n"
    "                   that is done first\n"
    ":probe             non-nil: look at the server, and send nothing\n"
    "An entry of `smtpmail-starttls-credentials' makes STARTTLS a must.\n"
    "Signal `smtpmail-native-usage-error' for what cannot be used.\n"
    "\n(fn PLIST)";

static emacs_value Fsend(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  struct smn_error err = {.kind = SMN_OK};
  long id = 0;
  (void)count;
  (void)unused;
  struct smn_job *job = get_job(env, args[0]);
  if (!job)
    return NULL;
  enum smn_kind kind = smn_job_check(job, &err);
  if (kind != SMN_OK)
    smn_job_free(job);
  else
    kind = smn_engine_submit(job, &id, &err);
  if (kind == SMN_OK)
    return env->make_integer(env, id);
  smn_lisp_signal(env,
                  kind == SMN_USAGE ? "smtpmail-native-usage-error"
                                    : "smtpmail-native-error",
                  err.text);
  return NULL;
}

/* event -> list */

static emacs_value octets(emacs_env *env, const char *text) {
  return smn_lisp_octets(env, text, text ? strlen(text) : 0);
}

static emacs_value integer(emacs_env *env, intmax_t number) {
  return env->make_integer(env, number);
}

/* The words of TEXT as a list of keywords.  */
static emacs_value keywords(emacs_env *env, const char *text) {
  struct smn_lisp_list list = {.count = 0};
  char name[64];
  while (*text) {
    size_t len = strcspn(text, " ");
    snprintf(name, sizeof name, ":%.*s", (int)len, text);
    smn_lisp_add(&list, smn_lisp_symbol(env, name));
    text += len + (text[len] == ' ');
  }
  return smn_lisp_list(env, &list);
}

static emacs_value certificate_plist(emacs_env *env,
                                     const struct smn_certificate *c) {
  struct smn_lisp_list list = {.count = 0};
  if (!c->present)
    return smn_lisp_nil(env);
  smn_lisp_add_pair(env, &list, ":reasons", octets(env, c->reasons));
  smn_lisp_add_pair(env, &list, ":subject", octets(env, c->subject));
  smn_lisp_add_pair(env, &list, ":issuer", octets(env, c->issuer));
  smn_lisp_add_pair(env, &list, ":not-before", integer(env, c->not_before));
  smn_lisp_add_pair(env, &list, ":not-after", integer(env, c->not_after));
  smn_lisp_add_pair(env, &list, ":sha256", octets(env, c->sha256));
  smn_lisp_add_pair(env, &list, ":spki-sha256", octets(env, c->spki_sha256));
  smn_lisp_add_pair(env, &list, ":pinned", smn_lisp_bool(env, c->pinned));
  return smn_lisp_list(env, &list);
}

static emacs_value day(emacs_env *env, time_t when) {
  char text[32] = "";
  struct tm tm;
  if (gmtime_r(&when, &tm))
    strftime(text, sizeof text, "%Y-%m-%d", &tm);
  return octets(env, text);
}

/* One certificate as `gnutls-peer-status' tells of it.  */
static emacs_value link_plist(emacs_env *env, const struct smn_certificate *c,
                              const struct smn_link *link) {
  struct smn_lisp_list list = {.count = 0};
  smn_lisp_add_pair(env, &list, ":version", integer(env, link->version));
  smn_lisp_add_pair(env, &list, ":serial-number", octets(env, link->serial));
  smn_lisp_add_pair(env, &list, ":issuer", octets(env, link->issuer));
  smn_lisp_add_pair(env, &list, ":valid-from", day(env, link->not_before));
  smn_lisp_add_pair(env, &list, ":valid-to", day(env, link->not_after));
  smn_lisp_add_pair(env, &list, ":subject", octets(env, link->subject));
  smn_lisp_add_pair(env, &list, ":public-key-algorithm",
                    octets(env, link->key_algorithm));
  smn_lisp_add_pair(env, &list, ":certificate-security-level",
                    octets(env, link->security_level));
  smn_lisp_add_pair(env, &list, ":signature-algorithm",
                    octets(env, link->signature_algorithm));
  smn_lisp_add_pair(env, &list, ":public-key-id", octets(env, link->key_id));
  smn_lisp_add_pair(env, &list, ":certificate-id", octets(env, link->id));
  smn_lisp_add_pair(env, &list, ":pem",
                    smn_lisp_octets(env, c->pems + link->pem, link->pem_len));
  return smn_lisp_list(env, &list);
}

/* What `gnutls-peer-status' would say of this server.  */
static emacs_value peer_plist(emacs_env *env, const struct smn_tls_info *tls) {
  const struct smn_certificate *c = &tls->certificate;
  struct smn_lisp_list list = {.count = 0}, chain = {.count = 0};
  for (int i = 0; i < c->chain_len; i++)
    smn_lisp_add(&chain, link_plist(env, c, &c->chain[i]));
  smn_lisp_add_pair(env, &list, ":warnings", keywords(env, c->warnings));
  smn_lisp_add_pair(env, &list, ":certificates", smn_lisp_list(env, &chain));
  smn_lisp_add_pair(env, &list, ":resumed", smn_lisp_bool(env, tls->resumed));
  smn_lisp_add_pair(env, &list, ":certificate",
                    c->chain_len ? chain.items[0] : smn_lisp_nil(env));
  smn_lisp_add_pair(env, &list, ":key-exchange",
                    octets(env, tls->key_exchange));
  smn_lisp_add_pair(env, &list, ":protocol", octets(env, tls->protocol));
  smn_lisp_add_pair(env, &list, ":cipher", octets(env, tls->cipher));
  smn_lisp_add_pair(env, &list, ":mac", octets(env, tls->mac));
  smn_lisp_add_pair(env, &list, ":encrypt-then-mac",
                    smn_lisp_bool(env, tls->encrypt_then_mac));
  smn_lisp_add_pair(env, &list, ":safe-renegotiation",
                    smn_lisp_bool(env, tls->safe_renegotiation));
  if (tls->prime_bits)
    smn_lisp_add_pair(env, &list, ":diffie-hellman-prime-bits",
                      integer(env, tls->prime_bits));
  return smn_lisp_list(env, &list);
}

static emacs_value tls_plist(emacs_env *env, const struct smn_tls_info *tls) {
  struct smn_lisp_list list = {.count = 0};
  if (!tls->protocol[0] && !tls->certificate.present)
    return smn_lisp_nil(env);
  smn_lisp_add_pair(env, &list, ":protocol", octets(env, tls->protocol));
  smn_lisp_add_pair(env, &list, ":cipher", octets(env, tls->cipher));
  smn_lisp_add_pair(env, &list, ":resumed", smn_lisp_bool(env, tls->resumed));
  smn_lisp_add_pair(env, &list, ":certificate",
                    certificate_plist(env, &tls->certificate));
  smn_lisp_add_pair(env, &list, ":peer", peer_plist(env, tls));
  return smn_lisp_list(env, &list);
}

static emacs_value lisp_value(emacs_env *env, const struct smn_value *value) {
  switch (value->type) {
  case SMN_VALUE_SYMBOL:
    return smn_lisp_symbol(env, value->text);
  case SMN_VALUE_NUMBER:
    return integer(env, value->number);
  case SMN_VALUE_TEXT:
    break;
  }
  return octets(env, value->text);
}

static emacs_value recipient_list(emacs_env *env,
                                  const struct smn_result *result) {
  emacs_value list = smn_lisp_nil(env);
  for (size_t i = result->recipient_count; i-- > 0;) {
    struct smn_lisp_list one = {.count = 0};
    struct smn_value value;
    for (size_t k = 0; smn_recipient_value(&result->recipients[i], k, &value);
         k++)
      smn_lisp_add(&one, lisp_value(env, &value));
    emacs_value cells[] = {smn_lisp_list(env, &one), list};
    list = smn_lisp_call(env, "cons", 2, cells);
  }
  return list;
}

static void add_result(emacs_env *env, struct smn_lisp_list *list,
                       const struct smn_result *result) {
  struct smn_value value;
  const char *key;
  for (size_t i = 0; (key = smn_result_value(result, i, &value)); i++)
    smn_lisp_add_pair(env, list, key, lisp_value(env, &value));
  smn_lisp_add_pair(env, list, ":tls", tls_plist(env, smn_result_tls(result)));
  smn_lisp_add_pair(env, list, ":recipients", recipient_list(env, result));
}

static void add_done(emacs_env *env, struct smn_lisp_list *list,
                     const struct smn_event *event) {
  struct smn_result never;
  if (event->result) {
    add_result(env, list, event->result);
    return;
  }
  if (!smn_result_init(&never, event->job))
    memset(&never, 0, sizeof never); /* without recipients */
  smn_fail(&never.error, event->kind, "%s", event->text ? event->text : "");
  add_result(env, list, &never);
  smn_result_free(&never);
}

static void add_disk(emacs_env *env, struct smn_lisp_list *list,
                     const struct smn_event *event) {
  smn_lisp_add_pair(env, list, ":kind",
                    smn_lisp_symbol(env, event->failed ? "file" : "ok"));
  if (!event->failed)
    return;
  smn_lisp_add_pair(env, list, ":text", octets(env, event->text));
  smn_lisp_add_pair(env, list, ":step", integer(env, event->step));
  smn_lisp_add_pair(env, list, ":errno",
                    octets(env, smn_step_errno_name(event->errnum)));
}

static emacs_value event_list(emacs_env *env, const struct smn_event *event) {
  struct smn_lisp_list list = {.count = 0};
  smn_lisp_add(&list, integer(env, event->id));
  switch (event->type) {
  case SMN_EVENT_TRACE:
    smn_lisp_add(&list, smn_lisp_symbol(env, "trace"));
    smn_lisp_add_pair(env, &list, ":from-server",
                      smn_lisp_bool(env, event->from_server));
    smn_lisp_add_pair(env, &list, ":text",
                      smn_lisp_octets(env, event->text, event->len));
    break;
  case SMN_EVENT_PROGRESS:
    smn_lisp_add(&list, smn_lisp_symbol(env, "progress"));
    smn_lisp_add_pair(env, &list, ":sent", integer(env, (intmax_t)event->sent));
    smn_lisp_add_pair(env, &list, ":total",
                      integer(env, (intmax_t)event->total));
    break;
  case SMN_EVENT_DONE:
    smn_lisp_add(&list, smn_lisp_symbol(env, "done"));
    add_done(env, &list, event);
    break;
  case SMN_EVENT_DISK:
    smn_lisp_add(&list, smn_lisp_symbol(env, "disk"));
    add_disk(env, &list, event);
    break;
  }
  return smn_lisp_list(env, &list);
}

#define EVENTS_MAX 100 /* that are handed out at once, if Lisp does not say */

static const char events_doc[] =
    "Append what has happened to QUEUE; return t if more is waiting.\n"
    "QUEUE is a cons cell whose cdr is a list of events.  At most MAX are\n"
    "appended, or 100 if MAX is nil.  An event is (ID KIND . PLIST), with KIND "
    "one\n"
    "of `trace', `progress', `done' and `disk'.  Text is unibyte and "
    "untrusted.\n"
    "An event leaves the module when it is in QUEUE: a quit or an error loses\n"
    "none and brings none twice.\n"
    "\n(fn QUEUE &optional MAX)";

/* Return how many events may be handed out.  */
static size_t get_max(emacs_env *env, ptrdiff_t count, emacs_value *args) {
  if (count < 2 || !smn_lisp_true(env, args[1]))
    return EVENTS_MAX;
  intmax_t max = env->extract_integer(env, args[1]);
  if (smn_lisp_ok(env) && max < 1)
    smn_lisp_signal(env, "smtpmail-native-usage-error", "MAX is not positive");
  return smn_lisp_ok(env) && (uintmax_t)max < SIZE_MAX ? (size_t)max : SIZE_MAX;
}

static emacs_value Fevents(emacs_env *env, ptrdiff_t count, emacs_value *args,
                           void *unused) {
  size_t max = get_max(env, count, args), converted = 0;
  bool more = false;
  (void)unused;
  if (smn_lisp_ok(env) && !smn_lisp_is(env, "consp", args[0]))
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "QUEUE is not a cons cell");
  if (!smn_lisp_ok(env))
    return NULL;
  const struct smn_event *event = smn_events_borrow(max, &more);
  emacs_value list = smn_lisp_nil(env);
  for (; event && converted < max; event = event->next, converted++) {
    emacs_value cells[] = {event_list(env, event), list};
    list = smn_lisp_call(env, "cons", 2, cells);
  }
  /* The one step that counts: once it is done they are Lisp's, even if Emacs
     quits while this function returns.  */
  emacs_value lists[] = {args[0], smn_lisp_call(env, "nreverse", 1, &list)};
  (void)smn_lisp_call(env, "nconc", 2, lists);
  smn_events_delivered(smn_lisp_ok(env) ? converted : 0);
  return smn_lisp_bool(env, more);
}

/* Steps for the disk */

/* An operand of a step: an absolute file name in its own octets.  */
static char *get_file(emacs_env *env, emacs_value value) {
  char *file = smn_lisp_string(env, value, "A file of a step");
  if (file && file[0] != '/')
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A file name of a step is not absolute");
  return file;
}

static const struct {
  const char *name;
  enum smn_step_type type;
  bool to, octets; /* a second operand */
} steps[] = {
    {"write", SMN_STEP_WRITE, false, true},
    {"sync", SMN_STEP_SYNC, false, false},
    {"sync-all", SMN_STEP_SYNC_ALL, false, false},
    {"rename", SMN_STEP_RENAME, true, false},
    {"delete", SMN_STEP_DELETE, false, false},
    {"remove", SMN_STEP_REMOVE, false, false},
};

/* LIST -> *STEP; with a signal pending what was made must be cleared.  */
static void get_step(emacs_env *env, emacs_value list, struct smn_step *step) {
  emacs_value name = smn_lisp_car(env, list);
  size_t i = 0, count = sizeof steps / sizeof *steps;
  while (i < count && !smn_lisp_eq(env, name, steps[i].name))
    i++;
  if (!smn_lisp_ok(env))
    return;
  if (i == count) {
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A step has no operation that is known");
    return;
  }
  step->type = steps[i].type;
  list = smn_lisp_cdr(env, list);
  step->file = get_file(env, smn_lisp_car(env, list));
  list = smn_lisp_cdr(env, list);
  if (steps[i].to || steps[i].octets) {
    emacs_value second = smn_lisp_car(env, list);
    list = smn_lisp_cdr(env, list);
    if (steps[i].to)
      step->to = get_file(env, second);
    else
      step->octets =
          smn_lisp_copy(env, second, "The content of a file", &step->len);
  }
  if (smn_lisp_true(env, list))
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A step has too many operands");
}

static const char disk_doc[] =
    "Hand STEPS to the thread that works on the disk; return an integer id.\n"
    "All that is handed in is done in its order, and no connection holds it "
    "up.\n"
    "STEPS is a list; the first step that fails ends it.  A step is\n"
    "(write FILE OCTETS)   replace FILE by a new one of mode 0600, which is\n"
    "                      synced before it is renamed; its directory is "
    "not\n"
    "(sync FILE)           sync a regular file or a directory\n"
    "(sync-all DIRECTORY)  sync the regular files in it, then itself\n"
    "(rename FROM TO)\n"
    "(delete FILE)         a missing one is fine\n"
    "(remove DIRECTORY)    delete its files, \"receipt\" last, then itself;\n"
    "                      a missing one is fine; links are not followed\n"
    "File names are absolute, and encoded.  When all is done, or a step has\n"
    "failed, one event comes: (ID disk :kind ok), or\n"
    "(ID disk :kind file :text TEXT :step N :errno NAME), where N counts "
    "from\n"
    "0 and NAME is a string such as \"ENOSPC\", or nil for an unusual error.\n"
    "\n(fn STEPS)";

static emacs_value Fdisk(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  struct smn_error err = {.kind = SMN_OK};
  long id = 0;
  (void)count;
  (void)unused;
  size_t length = smn_lisp_length(env, args[0], "STEPS"), made = 0;
  struct smn_step *all = calloc(length + 1, sizeof *all);
  if (!all)
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
  for (emacs_value list = args[0]; smn_lisp_ok(env) && made < length; made++) {
    get_step(env, smn_lisp_car(env, list), &all[made]);
    list = smn_lisp_cdr(env, list);
  }
  if (smn_lisp_ok(env) && smn_disk_submit(all, length, &id, &err) == SMN_OK)
    return env->make_integer(env, id);
  if (all)
    smn_disk_discard(all, length);
  if (err.kind != SMN_OK)
    smn_lisp_signal(env, "smtpmail-native-error", err.text);
  return NULL;
}

/* The other primitives */

static emacs_value find_credentials(emacs_env *env, emacs_value *args,
                                    enum smn_credentials which) {
  char *host = smn_lisp_string(env, args[0], "HOST");
  int port = smn_credentials_port(env, args[1]);
  emacs_value entry =
      host ? smn_credentials_find(env, which, host, port) : NULL;
  free(host);
  return smn_lisp_ok(env) ? entry : NULL;
}

static const char find_auth_doc[] =
    "Return the first entry of `smtpmail-auth-credentials' for HOST and PORT.\n"
    "HOST is a string, compared without regard to case; PORT an integer, a\n"
    "decimal string or the name of a service.  The value is the entry itself,\n"
    "or nil.  Signal `smtpmail-native-usage-error' for a malformed entry.\n"
    "\n(fn HOST PORT)";

static emacs_value Ffind_auth(emacs_env *env, ptrdiff_t count,
                              emacs_value *args, void *unused) {
  (void)count;
  (void)unused;
  return find_credentials(env, args, SMN_CREDENTIALS_AUTH);
}

static const char find_starttls_doc[] =
    "Return the first entry of `smtpmail-starttls-credentials' for HOST and "
    "PORT.\n"
    "All is as in `smtpmail-native-module-find-auth'.\n"
    "\n(fn HOST PORT)";

static emacs_value Ffind_starttls(emacs_env *env, ptrdiff_t count,
                                  emacs_value *args, void *unused) {
  (void)count;
  (void)unused;
  return find_credentials(env, args, SMN_CREDENTIALS_STARTTLS);
}

static const char port_doc[] =
    "Return the port that SERVICE means, an integer, or nil if it means none.\n"
    "SERVICE is an integer, a decimal string, or the name of a service of "
    "mail\n"
    "or of the services database of this machine.\n"
    "\n(fn SERVICE)";

static emacs_value Fport(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  (void)count;
  (void)unused;
  int port = smn_credentials_port(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return port ? env->make_integer(env, port) : env->intern(env, "nil");
}

static const char cancel_doc[] =
    "Ask the job ID to stop; return nil if it is not under way.\n"
    "The outcome still arrives as an event.\n"
    "\n(fn ID)";

static emacs_value Fcancel(emacs_env *env, ptrdiff_t count, emacs_value *args,
                           void *unused) {
  (void)count;
  (void)unused;
  intmax_t id = env->extract_integer(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return smn_lisp_bool(env, smn_engine_cancel((long)id));
}

static const char open_doc[] =
    "Let the module wake Emacs by output of the pipe process PROCESS.\n"
    "The octets mean nothing; `smtpmail-native-module-events' tells the rest.\n"
    "\n(fn PROCESS)";

static emacs_value Fopen(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  (void)count;
  (void)unused;
  int fd = env->open_channel(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  smn_events_wake(fd);
  return smn_lisp_nil(env);
}

static const char claim_doc[] =
    "Claim the entry of the outbox whose lock is FILE, for this Emacs alone.\n"
    "Return an integer for `smtpmail-native-module-release', or nil if "
    "another\n"
    "holds it.  The claim ends with this Emacs.  FILE is encoded; it is made\n"
    "if it is missing.  Signal `smtpmail-native-error' if it cannot be "
    "locked.\n"
    "\n(fn FILE)";

static emacs_value Fclaim(emacs_env *env, ptrdiff_t count, emacs_value *args,
                          void *unused) {
  struct smn_error err;
  int claim = 0;
  (void)count;
  (void)unused;
  char *file = smn_lisp_string(env, args[0], "FILE");
  if (!file)
    return NULL;
  enum smn_kind kind = smn_claim_take(file, &claim, &err);
  free(file);
  if (kind != SMN_OK) {
    smn_lisp_signal(env, "smtpmail-native-error", err.text);
    return NULL;
  }
  return claim ? integer(env, claim) : smn_lisp_nil(env);
}

static const char release_doc[] =
    "Let go of CLAIM, a value of `smtpmail-native-module-claim'.\n"
    "Return nil if it is not held.\n"
    "\n(fn CLAIM)";

static emacs_value Frelease(emacs_env *env, ptrdiff_t count, emacs_value *args,
                            void *unused) {
  (void)count;
  (void)unused;
  intmax_t claim = env->extract_integer(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return smn_lisp_bool(env, smn_claim_release((int)claim));
}

static const char shutdown_doc[] =
    "Wait at most MS milliseconds for all jobs to end.\n"
    "After half of that time those that are left are cancelled.  Return nil "
    "if\n"
    "some did not end.\n"
    "\n(fn MS)";

static emacs_value Fshutdown(emacs_env *env, ptrdiff_t count, emacs_value *args,
                             void *unused) {
  (void)count;
  (void)unused;
  intmax_t ms = env->extract_integer(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return smn_lisp_bool(env, smn_engine_shutdown(ms < 0       ? 0
                                                : ms > 60000 ? 60000
                                                             : (int)ms));
}

static const char abi_doc[] =
    "Return the hash of the sources that the module was built from.\n"
    "\n(fn)";

static emacs_value Fabi(emacs_env *env, ptrdiff_t count, emacs_value *args,
                        void *unused) {
  (void)count;
  (void)args;
  (void)unused;
  const char *abi = strchr(abi_mark, '=') + 1;
  return env->make_string(env, abi, (ptrdiff_t)strlen(abi));
}

int emacs_module_init(struct emacs_runtime *runtime) {
  static const struct {
    const char *name;
    ptrdiff_t min, max; /* arguments */
    smn_lisp_function *function;
    const char *doc;
  } primitives[] = {
      {"smtpmail-native-module-find-auth", 2, 2, Ffind_auth, find_auth_doc},
      {"smtpmail-native-module-port", 1, 1, Fport, port_doc},
      {"smtpmail-native-module-find-starttls", 2, 2, Ffind_starttls,
       find_starttls_doc},
      {"smtpmail-native-module-send", 1, 1, Fsend, send_doc},
      {"smtpmail-native-module-cancel", 1, 1, Fcancel, cancel_doc},
      {"smtpmail-native-module-claim", 1, 1, Fclaim, claim_doc},
      {"smtpmail-native-module-release", 1, 1, Frelease, release_doc},
      {"smtpmail-native-module-disk", 1, 1, Fdisk, disk_doc},
      {"smtpmail-native-module-events", 1, 2, Fevents, events_doc},
      {"smtpmail-native-module-open", 1, 1, Fopen, open_doc},
      {"smtpmail-native-module-shutdown", 1, 1, Fshutdown, shutdown_doc},
      {"smtpmail-native-module-abi", 0, 0, Fabi, abi_doc},
  };
  if (runtime->size < (ptrdiff_t)sizeof *runtime)
    return 1;
  emacs_env *env = runtime->get_environment(runtime);
  if (env->size < (ptrdiff_t)sizeof(struct emacs_env_28))
    return 2;
  for (size_t i = 0; i < sizeof primitives / sizeof *primitives; i++)
    smn_lisp_defun(env, primitives[i].name, primitives[i].min,
                   primitives[i].max, primitives[i].function,
                   primitives[i].doc);
  emacs_value feature = env->intern(env, "smtpmail-native-module");
  smn_lisp_call(env, "provide", 1, &feature);
  return 0;
}
