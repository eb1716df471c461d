/* SPDX-License-Identifier: GPL-3.0-or-later */
/* report.c - an event as a list.  */
#include "emacs/report.h"
#include "base/words.h"
#include "mail/step.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static emacs_value octets(emacs_env *env, const char *text) {
  return smn_lisp_octets(env, text, text ? strlen(text) : 0);
}

static emacs_value integer(emacs_env *env, intmax_t number) {
  return env->make_integer(env, number);
}

/* The words of TEXT as a list of keywords.  */
static emacs_value keywords(emacs_env *env, const char *text) {
  struct smn_lisp_list list = {.count = 0};
  struct smn_word rest = smn_words(text), word;
  char name[64];
  while (smn_words_next(&rest, &word)) {
    snprintf(name, sizeof name, ":%.*s", (int)word.len, word.at);
    smn_lisp_add(&list, smn_lisp_symbol(env, name));
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
  smn_lisp_add_pair(env, &list, ":public-key-id-sha256",
                    octets(env, link->key_id_sha256));
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

emacs_value smn_report_event(emacs_env *env, const struct smn_event *event) {
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
  case SMN_EVENT_NETWORK:
    smn_lisp_add(&list, smn_lisp_symbol(env, "network"));
    break;
  }
  return smn_lisp_list(env, &list);
}
