/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certificate.c - what the server showed, and whether it may be believed.  */
#include "net/certificate.h"
#include "base/ascii.h"
#include "net/trust.h"

#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHA256_DIGITS 64

/* Description */

/* Write the LEN octets in digits into OUT, after PREFIX and with SEPARATOR
   between them, as far as there is room.  */
static void hex(char *out, size_t size, const char *prefix,
                const char *separator, const unsigned char *bytes, size_t len) {
  size_t to = strlen(prefix), room = strlen(separator) + 3;
  memcpy(out, prefix, to + 1);
  for (size_t i = 0; i < len && to + room <= size; i++)
    to += (size_t)snprintf(out + to, size - to, "%s%02x", i ? separator : "",
                           bytes[i]);
}

/* Names of the server are untrusted, and may be long.  */
static void quote_name(char *out, size_t size, gnutls_datum_t *name) {
  if (name->data)
    smn_quote(out, size, (const char *)name->data, name->size);
  gnutls_free(name->data);
  name->data = NULL;
}

static void describe(struct smn_certificate *info, gnutls_x509_crt_t crt) {
  gnutls_datum_t name = {NULL, 0};
  unsigned char digest[32];
  size_t size = sizeof digest;
  info->present = true;
  (void)gnutls_x509_crt_get_dn3(crt, &name, 0);
  quote_name(info->subject, sizeof info->subject, &name);
  (void)gnutls_x509_crt_get_issuer_dn3(crt, &name, 0);
  quote_name(info->issuer, sizeof info->issuer, &name);
  info->not_before = gnutls_x509_crt_get_activation_time(crt);
  info->not_after = gnutls_x509_crt_get_expiration_time(crt);
  if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &size) ==
      0)
    hex(info->sha256, sizeof info->sha256, "", "", digest, size);
  size = sizeof digest;
  if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, digest, &size) ==
      0)
    hex(info->spki_sha256, sizeof info->spki_sha256, "", "", digest, size);
}

static void copy_word(char *out, size_t size, const char *word) {
  snprintf(out, size, "%s", word ? word : "");
}

/* Distinguished names in the order that Emacs shows them.  */
static void old_names(struct smn_link *link, gnutls_x509_crt_t crt) {
  gnutls_datum_t name = {NULL, 0};
  (void)gnutls_x509_crt_get_issuer_dn2(crt, &name);
  quote_name(link->issuer, sizeof link->issuer, &name);
  (void)gnutls_x509_crt_get_dn2(crt, &name);
  quote_name(link->subject, sizeof link->subject, &name);
}

static void add_pem(struct smn_certificate *info, struct smn_link *link,
                    gnutls_x509_crt_t crt) {
  const struct smn_link *before = link > info->chain ? link - 1 : NULL;
  size_t from = before ? before->pem + before->pem_len : 0;
  size_t size = sizeof info->pems - from;
  link->pem = from;
  if (gnutls_x509_crt_export(crt, GNUTLS_X509_FMT_PEM, info->pems + from,
                             &size) == 0)
    link->pem_len = size;
}

/* One certificate, told by the words of Emacs's gnutls-peer-status.  */
static void describe_link(struct smn_certificate *info, gnutls_x509_crt_t crt) {
  struct smn_link *link = &info->chain[info->chain_len++];
  unsigned char octets[64];
  size_t size = sizeof octets;
  unsigned bits = 0;
  link->version = gnutls_x509_crt_get_version(crt);
  if (gnutls_x509_crt_get_serial(crt, octets, &size) == 0)
    hex(link->serial, sizeof link->serial, "", ":", octets, size);
  old_names(link, crt);
  link->not_before = gnutls_x509_crt_get_activation_time(crt);
  link->not_after = gnutls_x509_crt_get_expiration_time(crt);
  int algorithm = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
  if (algorithm >= 0) {
    copy_word(link->key_algorithm, sizeof link->key_algorithm,
              gnutls_pk_algorithm_get_name((gnutls_pk_algorithm_t)algorithm));
    copy_word(link->security_level, sizeof link->security_level,
              gnutls_sec_param_get_name(gnutls_pk_bits_to_sec_param(
                  (gnutls_pk_algorithm_t)algorithm, bits)));
  }
  int signature = gnutls_x509_crt_get_signature_algorithm(crt);
  if (signature >= 0)
    copy_word(link->signature_algorithm, sizeof link->signature_algorithm,
              gnutls_sign_get_name((gnutls_sign_algorithm_t)signature));
  size = sizeof octets;
  if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA1, octets, &size) ==
      0)
    hex(link->key_id, sizeof link->key_id, "sha1:", ":", octets, size);
  size = sizeof octets;
  if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, octets, &size) ==
      0)
    hex(link->key_id_sha256, sizeof link->key_id_sha256, "sha256:", ":", octets,
        size);
  size = sizeof octets;
  if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA1, octets, &size) == 0)
    hex(link->id, sizeof link->id, "sha1:", ":", octets, size);
  add_pem(info, link, crt);
}

/* RFC 9525: a common name says nothing about hosts; GnuTLS would still take it
   where there is no subject alternative name.  */
static bool names_no_host(gnutls_x509_crt_t crt) {
  for (unsigned i = 0;; i++) {
    char name[1024];
    size_t size = sizeof name;
    unsigned type = 0;
    int code =
        gnutls_x509_crt_get_subject_alt_name2(crt, i, name, &size, &type, NULL);
    if (code == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
      return true;
    if (type == GNUTLS_SAN_DNSNAME || type == GNUTLS_SAN_IPADDRESS)
      return false;
    if (code < 0 && code != GNUTLS_E_SHORT_MEMORY_BUFFER)
      return true;
  }
}

/* Add TEXT to the list OUT; what does not fit is cut.  */
static void add_item(char *out, size_t size, const char *separator,
                     const char *text) {
  size_t have = strlen(out);
  snprintf(out + have, size - have, "%s%s", have ? separator : "", text);
}

/* TEXT is ours, or has been quoted.  */
static void add_reason(struct smn_certificate *info, const char *text) {
  add_item(info->reasons, sizeof info->reasons, "; ", text);
}

/* GnuTLS words the status as sentences, each ended by ". ".  */
static void add_status(struct smn_certificate *info, unsigned status) {
  gnutls_datum_t text = {NULL, 0};
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509,
                                                   &text, 0) != 0) {
    add_reason(info, "verification failed");
    return;
  }
  for (char *at = (char *)text.data, *next; at && *at; at = next) {
    char *dot = strstr(at, ". ");
    next = dot ? dot + 2 : NULL;
    size_t len = dot ? (size_t)(dot - at) : strlen(at);
    if (len && at[len - 1] == '.')
      len--;
    at[len] = '\0';
    if (len)
      add_reason(info, at);
  }
  gnutls_free(text.data);
}

/* Weaknesses */

/* "uses insecure algorithm" says neither where nor which.  */
static void add_weakness(struct smn_certificate *info, gnutls_x509_crt_t crt,
                         const struct smn_link *link) {
  char why[512];
  unsigned bits = 0;
  int algorithm = gnutls_x509_crt_get_pk_algorithm(crt, &bits);
  int signature = gnutls_x509_crt_get_signature_algorithm(crt);
  if (algorithm >= 0 &&
      gnutls_pk_bits_to_sec_param((gnutls_pk_algorithm_t)algorithm, bits) <
          GNUTLS_SEC_PARAM_MEDIUM) {
    snprintf(why, sizeof why, "the %s key of %.200s has only %u bits",
             link->key_algorithm, link->subject, bits);
    add_reason(info, why);
  }
  /* What signs itself proves nothing by its signature.  */
  if (signature >= 0 && strcmp(link->issuer, link->subject) != 0 &&
      !gnutls_sign_is_secure2((gnutls_sign_algorithm_t)signature,
                              GNUTLS_SIGN_FLAG_SECURE_FOR_CERTS)) {
    snprintf(why, sizeof why, "%.200s is signed by %s, which is broken",
             link->subject, link->signature_algorithm);
    add_reason(info, why);
  }
}

/* Emacs's names, see gnutls-peer-status-warning-describe.  */
static const struct {
  unsigned flag;
  const char *name;
} warnings[] = {
    {GNUTLS_CERT_INVALID, "invalid"},
    {GNUTLS_CERT_REVOKED, "revoked"},
    {GNUTLS_CERT_SIGNER_NOT_FOUND, "unknown-ca"},
    {GNUTLS_CERT_SIGNER_NOT_CA, "not-ca"},
    {GNUTLS_CERT_INSECURE_ALGORITHM, "insecure"},
    {GNUTLS_CERT_NOT_ACTIVATED, "not-activated"},
    {GNUTLS_CERT_EXPIRED, "expired"},
    {GNUTLS_CERT_SIGNATURE_FAILURE, "signature-failure"},
    {GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED, "revocation-data-superseded"},
    {GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE,
     "revocation-data-issued-in-future"},
    {GNUTLS_CERT_SIGNER_CONSTRAINTS_FAILURE, "signer-constraints-failure"},
    {GNUTLS_CERT_PURPOSE_MISMATCH, "purpose-mismatch"},
    {GNUTLS_CERT_MISSING_OCSP_STATUS, "missing-ocsp-status"},
    {GNUTLS_CERT_INVALID_OCSP_STATUS, "invalid-ocsp-status"},
    {GNUTLS_CERT_UNEXPECTED_OWNER, "no-host-match"},
};

static void add_warnings(struct smn_certificate *info, unsigned status,
                         bool own_issuer) {
  char *out = info->warnings;
  const size_t size = sizeof info->warnings;
  /* A wrong name by itself leaves the certificate valid for Emacs, which looks
     at names on its own.  */
  if (status == (GNUTLS_CERT_INVALID | GNUTLS_CERT_UNEXPECTED_OWNER))
    status = GNUTLS_CERT_UNEXPECTED_OWNER;
  if (own_issuer)
    add_item(out, size, " ", "self-signed");
  for (size_t i = 0; i < sizeof warnings / sizeof *warnings; i++)
    if (status & warnings[i].flag)
      add_item(out, size, " ", warnings[i].name);
}

/* Verdict */

static void dates(const struct smn_certificate *c, char from[32], char to[32]) {
  struct tm tm;
  snprintf(from, 32, "?");
  snprintf(to, 32, "?");
  if (gmtime_r(&c->not_before, &tm))
    strftime(from, 32, "%Y-%m-%d %H:%M", &tm);
  if (gmtime_r(&c->not_after, &tm))
    strftime(to, 32, "%Y-%m-%d %H:%M", &tm);
}

static enum smn_kind refuse(const char *host, const struct smn_certificate *c,
                            struct smn_error *err) {
  char from[32], to[32];
  dates(c, from, to);
  return smn_fail(err, SMN_CERTIFICATE,
                  "the certificate for %s cannot be verified: %s (subject %s, "
                  "issuer %s, valid from %s to %s UTC, SHA-256 fingerprint %s)",
                  host, c->reasons, c->subject, c->issuer, from, to, c->sha256);
}

/* The digits of PIN, or nothing.  */
static bool normalise(const char *pin, char digits[SHA256_DIGITS + 1]) {
  size_t len = 0;
  for (const char *at = pin; *at; at++) {
    if (*at == ':')
      continue;
    if (smn_ascii_hex(*at) < 0 || len == SHA256_DIGITS)
      return false;
    digits[len++] = *at >= 'A' && *at <= 'F' ? (char)(*at - 'A' + 'a') : *at;
  }
  digits[len] = '\0';
  return len == SHA256_DIGITS;
}

bool smn_tls_pin_valid(const char *pin) {
  char digits[SHA256_DIGITS + 1];
  return normalise(pin, digits);
}

static enum smn_kind match_pins(const struct smn_certificate_wish *wish,
                                struct smn_certificate *info,
                                struct smn_error *err) {
  char digits[SHA256_DIGITS + 1];
  for (char *const *pin = wish->pins; *pin; pin++)
    if (normalise(*pin, digits) && (strcmp(digits, info->sha256) == 0 ||
                                    strcmp(digits, info->spki_sha256) == 0)) {
      info->pinned = true;
      return SMN_OK;
    }
  add_reason(info, "none of its pins matches");
  return smn_fail(err, SMN_CERTIFICATE,
                  "the certificate does not match your pin for %s "
                  "(subject %s, issuer %s, SHA-256 fingerprint %s, of its "
                  "public key %s)",
                  wish->host->text, info->subject, info->issuer, info->sha256,
                  info->spki_sha256);
}

static enum smn_kind ask_gnutls(gnutls_session_t session,
                                const struct smn_certificate_wish *wish,
                                unsigned *status, struct smn_error *err) {
  struct smn_address host = *wish->host; /* GnuTLS wants no constant */
  gnutls_typed_vdata_st wanted[2] = {
      {.type = host.len ? GNUTLS_DT_IP_ADDRESS : GNUTLS_DT_DNS_HOSTNAME,
       .data = host.len ? host.octets : (unsigned char *)host.text,
       .size = host.len},
      {.type = GNUTLS_DT_KEY_PURPOSE_OID,
       .data = (unsigned char *)GNUTLS_KP_TLS_WWW_SERVER},
  };
  int code = gnutls_certificate_verify_peers(session, wanted, 2, status);
  if (code >= 0 && *status != 0 && smn_trust_add_system(wish->trust))
    code = gnutls_certificate_verify_peers(session, wanted, 2, status);
  return code < 0
             ? smn_fail(err, SMN_TLS, "the certificate cannot be verified: %s",
                        gnutls_strerror(code))
             : SMN_OK;
}

/* Describe the chain; *LEAF is the caller's to free.  */
static enum smn_kind import(gnutls_session_t session, gnutls_x509_crt_t *leaf,
                            struct smn_certificate *info,
                            struct smn_error *err) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
  if (!chain || count == 0)
    return smn_fail(err, SMN_TLS, "the server presented no certificate");
  for (unsigned i = 0; i < count && i < SMN_CHAIN_MAX; i++) {
    gnutls_x509_crt_t crt;
    if (gnutls_x509_crt_init(&crt) != 0)
      return smn_fail(err, SMN_SYSTEM, "no memory");
    int code = gnutls_x509_crt_import(crt, &chain[i], GNUTLS_X509_FMT_DER);
    if (code == 0)
      describe_link(info, crt);
    if (i == 0 && code == 0) {
      describe(info, crt);
      *leaf = crt;
    } else
      gnutls_x509_crt_deinit(crt);
    if (i == 0 && code != 0)
      return smn_fail(err, SMN_TLS, "the server's certificate is malformed: %s",
                      gnutls_strerror(code));
  }
  return SMN_OK;
}

/* Tell which certificate of the chain is the weak one.  */
static void add_weaknesses(gnutls_session_t session,
                           struct smn_certificate *info) {
  unsigned count = 0;
  const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
  for (unsigned i = 0; i < count && i < (unsigned)info->chain_len; i++) {
    gnutls_x509_crt_t crt;
    if (gnutls_x509_crt_init(&crt) != 0)
      return;
    if (gnutls_x509_crt_import(crt, &chain[i], GNUTLS_X509_FMT_DER) == 0)
      add_weakness(info, crt, &info->chain[i]);
    gnutls_x509_crt_deinit(crt);
  }
}

static void judge(gnutls_session_t session, gnutls_x509_crt_t leaf,
                  unsigned status, struct smn_certificate *info) {
  if (status != 0)
    add_status(info, status);
  if (status & GNUTLS_CERT_INSECURE_ALGORITHM)
    add_weaknesses(session, info);
  if (names_no_host(leaf)) {
    add_reason(info, "it has no subject alternative name");
    status |= GNUTLS_CERT_UNEXPECTED_OWNER;
  }
  add_warnings(info, status, gnutls_x509_crt_check_issuer(leaf, leaf) != 0);
}

enum smn_kind smn_certificate_verify(gnutls_session_t session,
                                     const struct smn_certificate_wish *wish,
                                     struct smn_certificate *info,
                                     struct smn_error *err) {
  gnutls_x509_crt_t leaf = NULL;
  unsigned status = 0;
  enum smn_kind kind = import(session, &leaf, info, err);
  if (kind == SMN_OK && wish->pins && wish->pins[0])
    kind = match_pins(wish, info, err);
  else if (kind == SMN_OK) {
    kind = ask_gnutls(session, wish, &status, err);
    if (kind == SMN_OK)
      judge(session, leaf, status, info);
    if (kind == SMN_OK && info->reasons[0])
      kind = refuse(wish->host->text, info, err);
  }
  if (leaf)
    gnutls_x509_crt_deinit(leaf);
  return kind;
}
