/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls.c - TLS over a connected, non-blocking socket, by GnuTLS.  */
#include "net/tls.h"
#include "base/wait.h"
#include "net/address.h"
#include "net/certificate.h"
#include "net/tickets.h"
#include "net/trust.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL /* where it is missing the workers' mask does the same */
#define MSG_NOSIGNAL 0
#endif

/* Nothing below TLS 1.2, whatever the priority string allows.  */
#define AT_LEAST_TLS12 "-VERS-SSL3.0:-VERS-TLS1.0:-VERS-TLS1.1"

/* 112 bits, as RSA of 2,048 bits has, which no public authority has signed less
   than since 2014, and which is the floor of other programs, too: GnuTLS by
   itself would still take 1,024.  A priority string may set another one.  */
#define AT_LEAST_112_BITS "%PROFILE_MEDIUM"

/* For how long a server need not show its certificate, and what is stapled to
   it, again.  */
#define RESUME_MS (12 * 3600 * 1000LL)

struct smn_tls {
  gnutls_session_t session;
  int fd;     /* borrowed */
  bool dry;   /* the last look at fd has found nothing to read, */
  int errnum; /* or this */
  int lost;   /* why nothing leaves any more, or 0 */
  struct smn_trust *trust;
  struct smn_trust *own_trust; /* the same, if it was not given */
  char *const *pins;           /* borrowed */
  struct smn_address host;
  char *priority; /* as the user gave it; NULL: the default */
  bool up;        /* the handshake is done */
  bool resumable; /* the key is set, and no ticket was kept yet */
  struct smn_ticket_key key;
  int64_t shown_ms;   /* when the server has shown its certificate, */
  int64_t offered_ms; /* and when it had for the ticket that is offered */
  struct smn_tls_info info;
};

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

static enum smn_kind set_host(struct smn_tls *tls, const char *host,
                              struct smn_error *err) {
  const char *name = tls->host.text;
  if (!smn_address_read(&tls->host, host))
    return smn_fail(err, SMN_USAGE, "%.300s is not a domain name", host);
  if (tls->host.len == 0)
    gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, name, strlen(name));
  return SMN_OK;
}

/* Resumption */

static void digest_text(gnutls_hash_hd_t hash, const char *text) {
  const char *shown = text ? text : "";
  gnutls_hash(hash, shown, strlen(shown) + 1);
}

static void digest_list(gnutls_hash_hd_t hash, char *const *list) {
  for (; list && *list; list++)
    digest_text(hash, *list);
  digest_text(hash, NULL);
}

/* Digest all that one may rely on in a session with *OPTIONS, the certificate
   that the client shows as it is in memory now.  */
static bool make_key(struct smn_tls *tls,
                     const struct smn_tls_options *options) {
  gnutls_hash_hd_t hash;
  gnutls_datum_t own = {NULL, 0};
  const int numbers[] = {options->port, options->min_prime_bits};
  if (gnutls_hash_init(&hash, GNUTLS_DIG_SHA256) != 0)
    return false;
  gnutls_hash(hash, numbers, sizeof numbers);
  digest_text(hash, tls->host.text);
  digest_text(hash, options->priority);
  digest_text(hash, options->key_file);
  digest_text(hash, options->cert_file);
  digest_list(hash, options->trustfiles);
  digest_list(hash, options->crlfiles);
  digest_list(hash, options->pins);
  if (gnutls_certificate_get_crt_raw(smn_trust_credentials(tls->trust), 0, 0,
                                     &own) == 0)
    gnutls_hash(hash, own.data, own.size);
  gnutls_hash_deinit(hash, tls->key.digest);
  return true;
}

/* Without a ticket, or with one that the server refuses, a full handshake
   follows.  */
static void offer_ticket(struct smn_tls *tls) {
  struct smn_ticket ticket;
  tls->shown_ms = smn_now_ms();
  if (!tls->resumable || !smn_tickets_take(&tls->key, &ticket))
    return;
  if (tls->shown_ms - ticket.shown_ms < RESUME_MS &&
      gnutls_session_set_data(tls->session, ticket.session.data,
                              ticket.session.len) == 0)
    tls->offered_ms = ticket.shown_ms;
  smn_buf_free(&ticket.session);
}

/* Tickets come some time after the handshake.  To ask GnuTLS for what has not
   come would wait.  */
static void keep_ticket(struct smn_tls *tls) {
  gnutls_datum_t data = {NULL, 0};
  if (!tls->resumable ||
      gnutls_protocol_get_version(tls->session) < GNUTLS_TLS1_3 ||
      !(gnutls_session_get_flags(tls->session) & GNUTLS_SFLAGS_SESSION_TICKET))
    return;
  tls->resumable = false;
  if (gnutls_session_get_data2(tls->session, &data) != 0)
    return;
  smn_tickets_put(&tls->key, data.data, data.size, tls->shown_ms);
  smn_wipe(data.data, data.size);
  gnutls_free(data.data);
}

void smn_tls_forget(void) { smn_tickets_forget(); }

/* Called by GnuTLS for the octets of the server.  A socket that has none is
   noted: GnuTLS asks to be called again after records for its own use, too.  */
static ssize_t pull(gnutls_transport_ptr_t pointer, void *into, size_t len) {
  struct smn_tls *tls = pointer;
  ssize_t n = recv(tls->fd, into, len, 0);
  tls->dry = n < 0 && errno != EINTR;
  tls->errnum = n < 0 ? errno : 0;
  if (n < 0)
    gnutls_transport_set_errno(tls->session, tls->errnum);
  return n;
}

/* GnuTLS reads no more once writing has failed, and the server may have said
   why.  So what cannot leave counts as written, and smn_tls_write fails.  */
static ssize_t push(gnutls_transport_ptr_t pointer, const giovec_t *pieces,
                    int count) {
  struct smn_tls *tls = pointer;
  const struct msghdr message = {.msg_iov = (struct iovec *)pieces,
                                 .msg_iovlen = (size_t)count};
  ssize_t n = tls->lost ? -1 : sendmsg(tls->fd, &message, MSG_NOSIGNAL);
  if (n >= 0)
    return n;
  if (!tls->lost && (errno == EAGAIN || errno == EINTR || !tls->up)) {
    gnutls_transport_set_errno(tls->session, errno);
    return -1;
  }
  if (!tls->lost)
    tls->lost = errno;
  n = 0;
  for (int i = 0; i < count; i++)
    n += (ssize_t)pieces[i].iov_len;
  return n;
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
  t->fd = fd;
  gnutls_transport_set_ptr(t->session, t);
  gnutls_transport_set_pull_function(t->session, pull);
  gnutls_transport_set_vec_push_function(t->session, push);
  t->resumable = options->port > 0 && make_key(t, options);
  offer_ticket(t);
  return SMN_OK;
}

void smn_tls_free(struct smn_tls *tls) {
  if (!tls)
    return;
  gnutls_deinit(tls->session);
  smn_trust_free(tls->own_trust);
  free(tls->priority);
  free(tls);
}

/* Steps */

/* The step that is left with CODE, which is not the end.  */
static enum smn_io again(const struct smn_tls *tls, int code) {
  if (code != GNUTLS_E_AGAIN)
    return SMN_IO_BARREN;
  if (gnutls_record_get_direction(tls->session))
    return SMN_IO_WANT_WRITE;
  return tls->dry ? SMN_IO_WANT_READ : SMN_IO_BARREN;
}

static bool may_go_on(int code) {
  return code == GNUTLS_E_AGAIN || code == GNUTLS_E_INTERRUPTED ||
         code == GNUTLS_E_WARNING_ALERT_RECEIVED ||
         code == GNUTLS_E_REHANDSHAKE;
}

/* What the server's alert means, or "".  */
static const char *alert_hint(gnutls_alert_description_t alert) {
  switch (alert) {
  case GNUTLS_A_PROTOCOL_VERSION:
    return "; it supports neither TLS 1.2 nor 1.3, and Emacs refuses older "
           "versions";
  case GNUTLS_A_HANDSHAKE_FAILURE:
  case GNUTLS_A_INSUFFICIENT_SECURITY:
    return "; there is no common cipher suite";
  case GNUTLS_A_CERTIFICATE_REQUIRED:
  case GNUTLS_A_BAD_CERTIFICATE:
  case GNUTLS_A_UNKNOWN_CA:
    return "; it did not accept the client certificate";
  default:
    return "";
  }
}

static const char *code_hint(int code) {
  switch (code) {
  case GNUTLS_E_UNSUPPORTED_VERSION_PACKET:
    return "; the server supports neither TLS 1.2 nor 1.3, and Emacs refuses "
           "older versions";
  case GNUTLS_E_NO_CIPHER_SUITES:
  case GNUTLS_E_NO_PRIORITIES_WERE_SET:
  case GNUTLS_E_UNWANTED_ALGORITHM:
  case GNUTLS_E_INSUFFICIENT_SECURITY:
    return "; no cipher suite is both common and strong enough";
  case GNUTLS_E_DH_PRIME_UNACCEPTABLE:
    return "; its Diffie-Hellman group is too small";
  default:
    return "";
  }
}

/* GnuTLS calls a record that ends with the connection one of a wrong length. */
static bool cut_off(const struct smn_tls *tls, int code) {
  char octet;
  return code == GNUTLS_E_UNEXPECTED_PACKET_LENGTH &&
         recv(tls->fd, &octet, 1, MSG_PEEK) == 0;
}

/* A step went wrong for good; CODE says how.  */
static enum smn_io failed(const struct smn_tls *tls, int code,
                          struct smn_error *err) {
  const char *during = tls->up ? "TLS" : "TLS handshake";
  const char *given = tls->priority ? "; gnutls-algorithm-priority is " : "";
  const char *priority = tls->priority ? tls->priority : "";
  if (cut_off(tls, code))
    code = GNUTLS_E_PREMATURE_TERMINATION;
  switch (code) {
  case GNUTLS_E_PREMATURE_TERMINATION:
    smn_fail(err, SMN_NETWORK,
             "the server closed the connection without ending TLS");
    break;
  case GNUTLS_E_PULL_ERROR:
    smn_fail_errno(err, SMN_NETWORK, tls->errnum, "connection lost during TLS");
    break;
  case GNUTLS_E_PUSH_ERROR:
    smn_fail(err, SMN_NETWORK, "connection lost during TLS");
    break;
  case GNUTLS_E_FATAL_ALERT_RECEIVED: {
    gnutls_alert_description_t alert = gnutls_alert_get(tls->session);
    const char *name = gnutls_alert_get_name(alert);
    smn_fail(err, SMN_TLS, "%s: the server sent the alert \"%s\"%s%s%s", during,
             name ? name : "unknown", alert_hint(alert), given, priority);
    break;
  }
  default:
    smn_fail(err, SMN_TLS, "%s: %s%s%s%s", during, gnutls_strerror(code),
             code_hint(code), given, priority);
  }
  return SMN_IO_FAILED;
}

/* NAME may be NULL: GnuTLS has none for what is new to it.  */
static void copy_word(char *out, size_t size, const char *name) {
  snprintf(out, size, "%s", name ? name : "");
}

/* What both sides have agreed upon, told by Emacs's names.  */
static void describe_session(struct smn_tls *tls) {
  gnutls_session_t session = tls->session;
  struct smn_tls_info *info = &tls->info;
  const gnutls_kx_algorithm_t kx = gnutls_kx_get(session);
  copy_word(info->protocol, sizeof info->protocol,
            gnutls_protocol_get_name(gnutls_protocol_get_version(session)));
  copy_word(info->cipher, sizeof info->cipher,
            gnutls_cipher_get_name(gnutls_cipher_get(session)));
  copy_word(info->mac, sizeof info->mac,
            gnutls_mac_get_name(gnutls_mac_get(session)));
  copy_word(info->key_exchange, sizeof info->key_exchange,
            gnutls_kx_get_name(kx));
  info->resumed = gnutls_session_is_resumed(session);
  if (info->resumed)
    tls->shown_ms = tls->offered_ms;
  info->encrypt_then_mac = gnutls_session_etm_status(session);
  info->safe_renegotiation = gnutls_safe_renegotiation_status(session);
  if (kx == GNUTLS_KX_DHE_RSA || kx == GNUTLS_KX_DHE_DSS)
    info->prime_bits = gnutls_dh_get_prime_bits(session);
}

static enum smn_kind verify(struct smn_tls *tls, struct smn_error *err) {
  const struct smn_certificate_wish wish = {
      .host = &tls->host,
      .pins = tls->pins,
      .trust = tls->trust,
  };
  return smn_certificate_verify(tls->session, &wish, &tls->info.certificate,
                                err);
}

enum smn_io smn_tls_handshake(struct smn_tls *tls, struct smn_error *err) {
  int code = gnutls_handshake(tls->session);
  if (may_go_on(code))
    return again(tls, code);
  if (code < 0)
    return failed(tls, code, err);
  tls->up = true;
  smn_trust_settle(tls->trust);
  describe_session(tls);
  return verify(tls, err) == SMN_OK ? SMN_IO_DONE : SMN_IO_FAILED;
}

enum smn_io smn_tls_read(struct smn_tls *tls, void *into, size_t len,
                         size_t *moved, struct smn_error *err) {
  ssize_t n = gnutls_record_recv(tls->session, into, len);
  if (n > 0) {
    *moved = (size_t)n;
    keep_ticket(tls);
    return SMN_IO_DONE;
  }
  if (n == 0)
    return SMN_IO_END;
  return may_go_on((int)n) ? again(tls, (int)n) : failed(tls, (int)n, err);
}

enum smn_io smn_tls_write(struct smn_tls *tls, const void *from, size_t len,
                          size_t *moved, struct smn_error *err) {
  ssize_t n = gnutls_record_send(tls->session, from, len);
  if (tls->lost) {
    smn_fail_errno(err, SMN_NETWORK, tls->lost,
                   "the connection broke during TLS");
    return SMN_IO_FAILED;
  }
  if (n >= 0) {
    *moved = (size_t)n;
    return SMN_IO_DONE;
  }
  if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED)
    return SMN_IO_WANT_WRITE;
  return failed(tls, (int)n, err);
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
