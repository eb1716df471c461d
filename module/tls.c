/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls.c - TLS over a connected, non-blocking socket, by GnuTLS.  */
#include "tls.h"
#include "certificate.h"
#include "trust.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Nothing below TLS 1.2, whatever the priority string allows.  */
#define AT_LEAST_TLS12 "-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1"

/* 112 bits, as RSA of 2,048 bits has, which no public authority has signed less
   than since 2014, and which is the floor of other programs, too: GnuTLS by
   itself would still take 1,024.  A priority string may set another one.  */
#define AT_LEAST_112_BITS "%PROFILE_MEDIUM"

struct smn_tls {
  gnutls_session_t session;
  struct smn_trust *trust;
  struct smn_trust *own_trust; /* the same, if it was not given */
  char *const *pins;           /* borrowed */
  char *host;                  /* A-label, or an address without brackets */
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

static enum smn_kind set_priority(struct smn_tls *tls, const char *priority,
                                  struct smn_error *err) {
  const char *at = NULL;
  int code;
  if (!priority || !*priority)
    code = gnutls_set_default_priority_append(
        tls->session, AT_LEAST_TLS12 ":" AT_LEAST_112_BITS, &at, 0);
  else {
    size_t size =
        strlen(priority) + sizeof "::" AT_LEAST_TLS12 AT_LEAST_112_BITS;
    tls->priority = strdup(priority);
    char *whole = malloc(size);
    if (!tls->priority || !whole) {
      free(whole);
      return smn_fail(err, SMN_SYSTEM, "no memory");
    }
    snprintf(whole, size, "%s:%s%s", priority, AT_LEAST_TLS12,
             strstr(priority, "%PROFILE_") ? "" : ":" AT_LEAST_112_BITS);
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
  enum smn_kind kind = SMN_OK;
  bool ignored;
  *tls = calloc(1, sizeof **tls);
  struct smn_tls *t = *tls;
  if (!t || gnutls_init(&t->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK |
                                         GNUTLS_NO_SIGNAL) != 0) {
    free(t);
    *tls = NULL;
    return smn_fail(err, SMN_SYSTEM, "no memory");
  }
  t->pins = options->pins;
  if (!options->trust)
    kind = smn_trust_load(&t->own_trust, options, &ignored, err);
  t->trust = options->trust ? options->trust : t->own_trust;
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
  gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE,
                         smn_trust_credentials(t->trust));
  gnutls_transport_set_int(t->session, fd);
  return SMN_OK;
}

void smn_tls_free(struct smn_tls *tls) {
  if (!tls)
    return;
  gnutls_deinit(tls->session);
  smn_trust_free(tls->own_trust);
  free(tls->host);
  free(tls->priority);
  free(tls);
}

/* Steps */

static enum smn_tls_result want(const struct smn_tls *tls) {
  return gnutls_record_get_direction(tls->session) ? SMN_TLS_WANT_WRITE
                                                   : SMN_TLS_WANT_READ;
}

/* What the server's alert means, or "".  */
static const char *alert_hint(gnutls_alert_description_t alert) {
  switch (alert) {
  case GNUTLS_A_PROTOCOL_VERSION:
    return ", it speaks neither TLS 1.2 nor 1.3, and older versions are "
           "refused here";
  case GNUTLS_A_HANDSHAKE_FAILURE:
  case GNUTLS_A_INSUFFICIENT_SECURITY:
    return ", there is no common cipher suite";
  case GNUTLS_A_CERTIFICATE_REQUIRED:
  case GNUTLS_A_BAD_CERTIFICATE:
  case GNUTLS_A_UNKNOWN_CA:
    return ", it is not content with the client's certificate";
  default:
    return "";
  }
}

static const char *code_hint(int code) {
  switch (code) {
  case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
    return ", the server speaks neither TLS 1.2 nor 1.3, and older versions "
           "are refused here";
  case GNUTLS_E_NO_CIPHER_SUITES:
  case GNUTLS_E_NO_PRIORITIES_WERE_SET:
  case GNUTLS_E_UNWANTED_ALGORITHM:
  case GNUTLS_E_INSUFFICIENT_SECURITY:
    return ", no cipher suite is left that is common and strong enough";
  case GNUTLS_E_DH_PRIME_UNACCEPTABLE:
    return ", its Diffie-Hellman group is too small";
  default:
    return "";
  }
}

/* A step went wrong for good; CODE says how.  */
static enum smn_tls_result failed(const struct smn_tls *tls, int code,
                                  struct smn_error *err) {
  const char *during = tls->up ? "TLS" : "TLS handshake";
  const char *given = tls->priority ? "; gnutls-algorithm-priority is " : "";
  const char *priority = tls->priority ? tls->priority : "";
  switch (code) {
  case GNUTLS_E_PREMATURE_TERMINATION:
    smn_fail(err, SMN_NETWORK,
             "the server closed the connection without ending TLS");
    break;
  case GNUTLS_E_PULL_ERROR:
  case GNUTLS_E_PUSH_ERROR:
    smn_fail(err, SMN_NETWORK, "the connection broke during TLS");
    break;
  case GNUTLS_E_FATAL_ALERT_RECEIVED: {
    gnutls_alert_description_t alert = gnutls_alert_get(tls->session);
    smn_fail(err, SMN_TLS, "%s: the server sent the alert \"%s\"%s%s%s", during,
             gnutls_alert_get_name(alert), alert_hint(alert), given, priority);
    break;
  }
  default:
    smn_fail(err, SMN_TLS, "%s: %s%s%s%s", during, gnutls_strerror(code),
             code_hint(code), given, priority);
  }
  return SMN_TLS_FAILED;
}

/* What both sides have agreed upon, told by Emacs's names.  */
static void describe_session(struct smn_tls *tls) {
  gnutls_session_t session = tls->session;
  struct smn_tls_info *info = &tls->info;
  const gnutls_kx_algorithm_t kx = gnutls_kx_get(session);
  snprintf(info->protocol, sizeof info->protocol, "%s",
           gnutls_protocol_get_name(gnutls_protocol_get_version(session)));
  snprintf(info->cipher, sizeof info->cipher, "%s",
           gnutls_cipher_get_name(gnutls_cipher_get(session)));
  snprintf(info->mac, sizeof info->mac, "%s",
           gnutls_mac_get_name(gnutls_mac_get(session)));
  snprintf(info->key_exchange, sizeof info->key_exchange, "%s",
           gnutls_kx_get_name(kx));
  info->encrypt_then_mac = gnutls_session_etm_status(session);
  info->safe_renegotiation = gnutls_safe_renegotiation_status(session);
  if (kx == GNUTLS_KX_DHE_RSA || kx == GNUTLS_KX_DHE_DSS)
    info->prime_bits = gnutls_dh_get_prime_bits(session);
}

static enum smn_kind verify(struct smn_tls *tls, struct smn_error *err) {
  const struct smn_certificate_wish wish = {
      .host = tls->host,
      .address = tls->is_address ? tls->address : NULL,
      .address_len = tls->address_len,
      .pins = tls->pins,
  };
  return smn_certificate_verify(tls->session, &wish, &tls->info.certificate,
                                err);
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
  smn_trust_settle(tls->trust);
  describe_session(tls);
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
