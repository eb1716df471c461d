/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls.c - TLS over a connected, non-blocking socket, by GnuTLS.  */
#include "tls.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Nothing below TLS 1.2, whatever the priority string allows.  */
#define AT_LEAST_TLS12 "-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1"

struct smn_tls {
  gnutls_session_t session;
  gnutls_certificate_credentials_t credentials;
  char *host; /* A-label, or an address without brackets */
  bool is_address;
  unsigned char address[sizeof(struct in6_addr)];
  unsigned address_len;
  char *priority; /* as the user gave it; NULL: the default */
  bool up;        /* the handshake is done */
  struct smn_tls_info info;
};

bool smn_tls_idna(const char *name, char *out, size_t size) {
  gnutls_datum_t ascii = {NULL, 0};
  if (gnutls_idna_map(name, (unsigned)strlen(name), &ascii, 0) != 0)
    return false;
  bool fits = ascii.size > 0 && ascii.size < size;
  if (fits)
    snprintf(out, size, "%s", ascii.data);
  gnutls_free(ascii.data);
  return fits;
}

/* Preparation */

static enum smn_kind unusable(struct smn_error *err, const char *what,
                              const char *file, int code) {
  return smn_fail(err, SMN_FILE, "cannot use the %s %s: %s", what, file,
                  gnutls_strerror(code));
}

static enum smn_kind load_files(struct smn_tls *tls,
                                const struct smn_tls_options *options,
                                struct smn_error *err) {
  gnutls_certificate_credentials_t cred = tls->credentials;
  int code;
  /* A system without a store of its own relies on trustfiles.  */
  (void)gnutls_certificate_set_x509_system_trust(cred);
  for (char *const *f = options->trustfiles; f && *f; f++) {
    code =
        gnutls_certificate_set_x509_trust_file(cred, *f, GNUTLS_X509_FMT_PEM);
    if (code < 0)
      return unusable(err, "trust file", *f, code);
  }
  for (char *const *f = options->crlfiles; f && *f; f++) {
    code = gnutls_certificate_set_x509_crl_file(cred, *f, GNUTLS_X509_FMT_PEM);
    if (code < 0)
      return unusable(err, "revocation list", *f, code);
  }
  if (!options->cert_file || !options->key_file)
    return SMN_OK;
  code = gnutls_certificate_set_x509_key_file(
      cred, options->cert_file, options->key_file, GNUTLS_X509_FMT_PEM);
  if (code < 0)
    return smn_fail(err, SMN_FILE,
                    "cannot use the client certificate %s with the key %s: %s",
                    options->cert_file, options->key_file,
                    gnutls_strerror(code));
  return SMN_OK;
}

static enum smn_kind set_priority(struct smn_tls *tls, const char *priority,
                                  struct smn_error *err) {
  const char *at = NULL;
  int code;
  if (!priority || !*priority)
    code = gnutls_set_default_priority_append(tls->session, AT_LEAST_TLS12, &at,
                                              0);
  else {
    size_t size = strlen(priority) + sizeof ":" AT_LEAST_TLS12;
    tls->priority = strdup(priority);
    char *whole = malloc(size);
    if (!tls->priority || !whole) {
      free(whole);
      return smn_fail(err, SMN_SYSTEM, "no memory");
    }
    snprintf(whole, size, "%s:%s", priority, AT_LEAST_TLS12);
    code = gnutls_priority_set_direct(tls->session, whole, &at);
    free(whole);
  }
  if (code == 0)
    return SMN_OK;
  return smn_fail(err, SMN_USAGE,
                  "gnutls-algorithm-priority \"%s\" cannot be used: %s",
                  priority ? priority : "", gnutls_strerror(code));
}

/* An address may stand in brackets; a name goes out in its A-label form.  */
static enum smn_kind set_host(struct smn_tls *tls, const char *host,
                              struct smn_error *err) {
  char name[256];
  size_t len = strlen(host);
  bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
  if (len >= sizeof name)
    return smn_fail(err, SMN_USAGE, "the server's name is too long");
  snprintf(name, sizeof name, "%.*s", (int)(bracketed ? len - 2 : len),
           host + bracketed);
  if (inet_pton(AF_INET, name, tls->address) == 1)
    tls->address_len = 4;
  else if (inet_pton(AF_INET6, name, tls->address) == 1)
    tls->address_len = 16;
  tls->is_address = tls->address_len > 0;
  if (!tls->is_address && !smn_tls_idna(host, name, sizeof name))
    return smn_fail(err, SMN_USAGE, "%s is not a domain name", host);
  tls->host = strdup(name);
  if (!tls->host)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  if (!tls->is_address)
    gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, name, strlen(name));
  return SMN_OK;
}

enum smn_kind smn_tls_new(struct smn_tls **tls,
                          const struct smn_tls_options *options, int fd,
                          struct smn_error *err) {
  enum smn_kind kind;
  *tls = calloc(1, sizeof **tls);
  struct smn_tls *t = *tls;
  if (!t || gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK |
                                         GNUTLS_NO_SIGNAL) != 0) {
    free(t);
    *tls = NULL;
    return smn_fail(err, SMN_SYSTEM, "no memory");
  }
  if (gnutls_certificate_allocate_credentials(&t->credentials) != 0)
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  else
    kind = load_files(t, options, err);
  if (kind == SMN_OK)
    kind = set_priority(t, options->priority, err);
  if (kind == SMN_OK)
    kind = set_host(t, options->host, err);
  if (kind != SMN_OK) {
    smn_tls_free(t);
    *tls = NULL;
    return kind;
  }
  if (options->min_prime_bits > 0)
    gnutls_dh_set_prime_bits(t->session, (unsigned)options->min_prime_bits);
  gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, t->credentials);
  gnutls_transport_set_int(t->session, fd);
  return SMN_OK;
}

void smn_tls_free(struct smn_tls *tls) {
  if (!tls)
    return;
  gnutls_deinit(tls->session);
  if (tls->credentials)
    gnutls_certificate_free_credentials(tls->credentials);
  free(tls->host);
  free(tls->priority);
  free(tls);
}

/* What the server showed */

static void hex(char *out, const unsigned char *bytes, size_t len) {
  for (size_t i = 0; i < len; i++)
    snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

static void copy_name(char *out, size_t size, const gnutls_datum_t *name) {
  smn_quote(out, size, (const char *)name->data, name->size);
}

static void describe(struct smn_certificate *info, gnutls_x509_crt_t crt) {
  gnutls_datum_t name = {NULL, 0};
  unsigned char digest[32];
  size_t size = sizeof digest;
  info->present = true;
  if (gnutls_x509_crt_get_dn3(crt, &name, 0) == 0) {
    copy_name(info->subject, sizeof info->subject, &name);
    gnutls_free(name.data);
  }
  if (gnutls_x509_crt_get_issuer_dn3(crt, &name, 0) == 0) {
    copy_name(info->issuer, sizeof info->issuer, &name);
    gnutls_free(name.data);
  }
  info->not_before = gnutls_x509_crt_get_activation_time(crt);
  info->not_after = gnutls_x509_crt_get_expiration_time(crt);
  if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &size) ==
      0)
    hex(info->sha256, digest, size);
  size = sizeof digest;
  if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, digest, &size) ==
      0)
    hex(info->spki_sha256, digest, size);
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

static void add_reason(struct smn_certificate *info, const char *reason,
                       size_t len) {
  size_t have = strlen(info->reasons);
  char quoted[256];
  smn_quote(quoted, sizeof quoted, reason, len);
  snprintf(info->reasons + have, sizeof info->reasons - have, "%s%s",
           have ? "; " : "", quoted);
}

/* GnuTLS words the status as sentences, each ended by ". ".  */
static void add_status(struct smn_certificate *info, unsigned status) {
  gnutls_datum_t text = {NULL, 0};
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509,
                                                   &text, 0) != 0) {
    add_reason(info, "verification failed", strlen("verification failed"));
    return;
  }
  const char *at = (const char *)text.data;
  while (at && *at) {
    const char *dot = strstr(at, ". ");
    size_t len = dot ? (size_t)(dot - at) : strlen(at);
    if (len && !dot && at[len - 1] == '.')
      len--;
    if (len)
      add_reason(info, at, len);
    at = dot ? dot + 2 : NULL;
  }
  gnutls_free(text.data);
}

static enum smn_kind refuse_certificate(struct smn_tls *tls,
                                        struct smn_error *err) {
  const struct smn_certificate *c = &tls->info.certificate;
  char from[32] = "?", to[32] = "?";
  struct tm tm;
  if (gmtime_r(&c->not_before, &tm))
    strftime(from, sizeof from, "%Y-%m-%d %H:%M", &tm);
  if (gmtime_r(&c->not_after, &tm))
    strftime(to, sizeof to, "%Y-%m-%d %H:%M", &tm);
  return smn_fail(err, SMN_CERTIFICATE,
                  "the certificate does not verify for %s: %s (subject %s, "
                  "issuer %s, valid from %s to %s UTC, SHA-256 fingerprint %s)",
                  tls->host, c->reasons, c->subject, c->issuer, from, to,
                  c->sha256);
}

static enum smn_kind verify(struct smn_tls *tls, struct smn_error *err) {
  struct smn_certificate *info = &tls->info.certificate;
  unsigned chain_len = 0, status = 0;
  const gnutls_datum_t *chain =
      gnutls_certificate_get_peers(tls->session, &chain_len);
  gnutls_x509_crt_t crt;
  if (!chain || chain_len == 0 || gnutls_x509_crt_init(&crt) != 0)
    return smn_fail(err, SMN_TLS, "the server showed no certificate");
  int code = gnutls_x509_crt_import(crt, chain, GNUTLS_X509_FMT_DER);
  bool nameless = false;
  if (code == 0) {
    describe(info, crt);
    nameless = names_no_host(crt);
  }
  gnutls_x509_crt_deinit(crt);
  if (code != 0)
    return smn_fail(err, SMN_TLS, "the server's certificate is malformed: %s",
                    gnutls_strerror(code));
  gnutls_typed_vdata_st wanted[2] = {
      {.type = tls->is_address ? GNUTLS_DT_IP_ADDRESS : GNUTLS_DT_DNS_HOSTNAME,
       .data = tls->is_address ? tls->address : (unsigned char *)tls->host,
       .size = tls->is_address ? tls->address_len : 0},
      {.type = GNUTLS_DT_KEY_PURPOSE_OID,
       .data = (unsigned char *)GNUTLS_KP_TLS_WWW_SERVER},
  };
  code = gnutls_certificate_verify_peers(tls->session, wanted, 2, &status);
  if (code < 0)
    return smn_fail(err, SMN_TLS, "the certificate cannot be verified: %s",
                    gnutls_strerror(code));
  if (status != 0)
    add_status(info, status);
  if (nameless) {
    static const char why[] = "it has no subject alternative name";
    add_reason(info, why, sizeof why - 1);
  }
  return info->reasons[0] ? refuse_certificate(tls, err) : SMN_OK;
}

/* Steps */

static enum smn_tls_result want(const struct smn_tls *tls) {
  return gnutls_record_get_direction(tls->session) ? SMN_TLS_WANT_WRITE
                                                   : SMN_TLS_WANT_READ;
}

/* A step went wrong for good; CODE says how.  */
static enum smn_tls_result failed(const struct smn_tls *tls, int code,
                                  struct smn_error *err) {
  const char *during = tls->up ? "TLS" : "TLS handshake";
  switch (code) {
  case GNUTLS_E_PREMATURE_TERMINATION:
    smn_fail(err, SMN_NETWORK,
             "the server closed the connection without ending TLS");
    break;
  case GNUTLS_E_PULL_ERROR:
  case GNUTLS_E_PUSH_ERROR:
    smn_fail(err, SMN_NETWORK, "the connection broke during TLS");
    break;
  case GNUTLS_E_FATAL_ALERT_RECEIVED:
    smn_fail(err, SMN_TLS, "%s: the server sent the alert \"%s\"%s%s", during,
             gnutls_alert_get_name(gnutls_alert_get(tls->session)),
             tls->priority ? "; gnutls-algorithm-priority is " : "",
             tls->priority ? tls->priority : "");
    break;
  default:
    smn_fail(err, SMN_TLS, "%s: %s%s%s", during, gnutls_strerror(code),
             tls->priority ? "; gnutls-algorithm-priority is " : "",
             tls->priority ? tls->priority : "");
  }
  return SMN_TLS_FAILED;
}

enum smn_tls_result smn_tls_handshake(struct smn_tls *tls,
                                      struct smn_error *err) {
  int code;
  do
    code = gnutls_handshake(tls->session);
  while (code == GNUTLS_E_INTERRUPTED ||
         (code == GNUTLS_E_WARNING_ALERT_RECEIVED));
  if (code == GNUTLS_E_AGAIN)
    return want(tls);
  if (code < 0)
    return failed(tls, code, err);
  tls->up = true;
  snprintf(tls->info.protocol, sizeof tls->info.protocol, "%s",
           gnutls_protocol_get_name(gnutls_protocol_get_version(tls->session)));
  snprintf(tls->info.cipher, sizeof tls->info.cipher, "%s",
           gnutls_cipher_get_name(gnutls_cipher_get(tls->session)));
  return verify(tls, err) == SMN_OK ? SMN_TLS_DONE : SMN_TLS_FAILED;
}

enum smn_tls_result smn_tls_read(struct smn_tls *tls, void *into, size_t len,
                                 size_t *moved, struct smn_error *err) {
  ssize_t n;
  do
    n = gnutls_record_recv(tls->session, into, len);
  while (n == GNUTLS_E_INTERRUPTED || n == GNUTLS_E_WARNING_ALERT_RECEIVED);
  if (n > 0) {
    *moved = (size_t)n;
    return SMN_TLS_DONE;
  }
  if (n == 0)
    return SMN_TLS_END;
  return n == GNUTLS_E_AGAIN ? want(tls) : failed(tls, (int)n, err);
}

enum smn_tls_result smn_tls_write(struct smn_tls *tls, const void *from,
                                  size_t len, size_t *moved,
                                  struct smn_error *err) {
  ssize_t n;
  do
    n = gnutls_record_send(tls->session, from, len);
  while (n == GNUTLS_E_INTERRUPTED);
  if (n >= 0) {
    *moved = (size_t)n;
    return SMN_TLS_DONE;
  }
  return n == GNUTLS_E_AGAIN ? want(tls) : failed(tls, (int)n, err);
}

bool smn_tls_pending(const struct smn_tls *tls) {
  return gnutls_record_check_pending(tls->session) > 0;
}

void smn_tls_bye(struct smn_tls *tls) {
  if (tls->up)
    (void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

const struct smn_tls_info *smn_tls_info(const struct smn_tls *tls) {
  return &tls->info;
}

#define EXPORTER_LABEL "EXPORTER-Channel-Binding"
#define EXPORTER_OCTETS 32

bool smn_tls_binding(struct smn_tls *tls, struct smn_binding *binding) {
  gnutls_datum_t unique = {NULL, 0};
  if (!tls->up)
    return false;
  if (gnutls_protocol_get_version(tls->session) >= GNUTLS_TLS1_3) {
    binding->type = "tls-exporter";
    binding->len = EXPORTER_OCTETS;
    return gnutls_prf_rfc5705(tls->session, sizeof EXPORTER_LABEL - 1,
                              EXPORTER_LABEL, 0, NULL, EXPORTER_OCTETS,
                              (char *)binding->octets) == 0;
  }
  if (!gnutls_session_ext_master_secret_status(tls->session) ||
      gnutls_session_channel_binding(tls->session, GNUTLS_CB_TLS_UNIQUE,
                                     &unique) != 0)
    return false;
  bool fits = unique.size > 0 && unique.size <= sizeof binding->octets;
  binding->type = "tls-unique";
  binding->len = fits ? unique.size : 0;
  if (fits)
    memcpy(binding->octets, unique.data, unique.size);
  gnutls_free(unique.data);
  return fits;
}
