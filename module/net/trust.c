/* SPDX-License-Identifier: GPL-3.0-or-later */
/* trust.c - what TLS trusts and shows.  */
#include "net/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/pkcs11.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PEM_HEAD                                                               \
  65536 /* octets of a file in which "-----BEGIN" has to stand                 \
         */

struct smn_trust {
  gnutls_certificate_credentials_t credentials;
  bool keyed;  /* a key of the client was read: its octets were on the heap */
  bool system; /* its authorities are among those that are trusted */
  const struct smn_buf *passphrase; /* borrowed; NULL: none, or no longer */
  bool asked;                       /* a token wanted its PIN */
  bool refused;                     /* a token refused it */
  bool few_left;                    /* and will lock itself soon */
};

gnutls_certificate_credentials_t
smn_trust_credentials(struct smn_trust *trust) {
  return trust->credentials;
}

void smn_trust_settle(struct smn_trust *trust) { trust->passphrase = NULL; }

void smn_trust_free(struct smn_trust *trust) {
  if (!trust)
    return;
  gnutls_certificate_free_credentials(trust->credentials);
  if (trust->keyed)
    smn_scrub_heap(SIZE_MAX);
  free(trust);
}

static enum smn_kind unusable(struct smn_error *err, const char *what,
                              const char *file, int code) {
  return smn_fail(err, SMN_FILE, "cannot use the %s %s: %s", what, file,
                  gnutls_strerror(code));
}

static enum smn_kind load_authorities(struct smn_trust *trust,
                                      const struct smn_tls_options *options,
                                      struct smn_error *err) {
  gnutls_certificate_credentials_t cred = trust->credentials;
  int code;
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
  return SMN_OK;
}

bool smn_trust_add_system(struct smn_trust *trust) {
  if (trust->system)
    return false;
  trust->system = true;
  return gnutls_certificate_set_x509_system_trust(trust->credentials) > 0;
}

/* Client key */

struct pair {
  const char *cert, *key; /* file names or pkcs11: URIs; maybe the same */
  bool pem, encrypted;    /* the file of the key, if it is one */
};

static bool is_uri(const char *name) {
  return strncmp(name, "pkcs11:", strlen("pkcs11:")) == 0;
}

/* NAME as it may be shown: behind "?" a URI may tell a PIN (RFC 7512 2.4).  */
static int shown(const char *name) {
  return (int)(is_uri(name) ? strcspn(name, "?") : strlen(name));
}

/* Called by GnuTLS when a token wants its PIN.  */
static int give_pin(void *userdata, int attempt, const char *url,
                    const char *label, unsigned flags, char *pin, size_t max) {
  struct smn_trust *trust = userdata;
  const struct smn_buf *passphrase = trust->passphrase;
  (void)url;
  (void)label;
  trust->asked = true;
  trust->few_left = flags & (GNUTLS_PIN_FINAL_TRY | GNUTLS_PIN_COUNT_LOW);
  trust->refused = attempt > 0 || (flags & GNUTLS_PIN_WRONG);
  if (trust->refused || !passphrase || passphrase->len == 0 ||
      passphrase->len >= max)
    return -1;
  memcpy(pin, passphrase->data, passphrase->len);
  pin[passphrase->len] = '\0';
  return 0;
}

/* What kind of file the key stands in; *pair is told.  */
static enum smn_kind look_into(struct pair *pair, struct smn_error *err) {
  static const char begin[] = "-----BEGIN ";
  enum smn_kind kind = SMN_OK;
  char *head = calloc(1, PEM_HEAD);
  int fd = open(pair->key, O_RDONLY | O_CLOEXEC);
  ssize_t len = head && fd >= 0 ? read(fd, head, PEM_HEAD - 1) : -1;
  if (!head)
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  else if (len < 0)
    kind = smn_fail_errno(err, SMN_FILE, errno, "cannot read the client key %s",
                          pair->key);
  else {
    /* The text of a PEM file ends before any NUL.  */
    pair->pem = strstr(head, begin) != NULL;
    pair->encrypted = strstr(head, "BEGIN ENCRYPTED ") != NULL ||
                      strstr(head, "Proc-Type: 4,ENCRYPTED") != NULL;
  }
  if (fd >= 0)
    close(fd);
  if (head)
    smn_wipe(head, PEM_HEAD);
  free(head);
  return kind;
}

static enum smn_kind check_readable(const char *file, struct smn_error *err) {
  int fd = open(file, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return smn_fail_errno(err, SMN_FILE, errno,
                          "cannot read the client certificate %s", file);
  close(fd);
  return SMN_OK;
}

static bool about_passphrase(const struct smn_trust *trust,
                             const struct pair *pair, int code) {
  switch (code) {
  case GNUTLS_E_CERTIFICATE_KEY_MISMATCH:
  case GNUTLS_E_FILE_ERROR:
  case GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE:
    return false;
  case GNUTLS_E_DECRYPTION_FAILED:
  case GNUTLS_E_MAC_VERIFY_FAILED:
  case GNUTLS_E_PKCS11_PIN_ERROR:
  case GNUTLS_E_PKCS11_PIN_EXPIRED:
  case GNUTLS_E_PKCS11_PIN_LOCKED:
    return true;
  default: /* a wrong passphrase may turn the key into anything */
    return pair->encrypted || trust->asked;
  }
}

static enum smn_kind key_failed(const struct smn_trust *trust,
                                const struct pair *pair, int code,
                                bool *passphrase_wanted,
                                struct smn_error *err) {
  const char *cert = pair->cert, *key = pair->key;
  const char *secret = is_uri(key) ? "PIN" : "passphrase";
  if (code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
    return smn_fail(
        err, SMN_FILE,
        "the client certificate %.*s does not belong to the key %.*s",
        shown(cert), cert, shown(key), key);
  if (!about_passphrase(trust, pair, code))
    return smn_fail(err, SMN_FILE,
                    "cannot use the client certificate %.*s with the key %.*s: "
                    "%s",
                    shown(cert), cert, shown(key), key, gnutls_strerror(code));
  *passphrase_wanted = true;
  if (code == GNUTLS_E_PKCS11_PIN_LOCKED)
    return smn_fail(err, SMN_FILE, "the PIN of the client key %.*s is locked",
                    shown(key), key);
  if (!trust->passphrase || trust->passphrase->len == 0)
    return smn_fail(err, SMN_FILE, "the client key %.*s needs a %s", shown(key),
                    key, secret);
  return smn_fail(err, SMN_FILE, "the %s for the client key %.*s is wrong%s",
                  secret, shown(key), key,
                  trust->few_left ? "; the token locks itself soon" : "");
}

static enum smn_kind load_key(struct smn_trust *trust,
                              const struct smn_tls_options *options,
                              bool *passphrase_wanted, struct smn_error *err) {
  struct pair pair = {
      .cert = options->cert_file ? options->cert_file : options->key_file,
      .key = options->key_file ? options->key_file : options->cert_file,
      .pem = true,
  };
  if (!pair.cert)
    return SMN_OK;
  enum smn_kind kind = is_uri(pair.key) ? SMN_OK : look_into(&pair, err);
  if (kind == SMN_OK && !is_uri(pair.cert))
    kind = check_readable(pair.cert, err);
  if (kind != SMN_OK)
    return kind;
  const char *passphrase = trust->passphrase && trust->passphrase->len
                               ? trust->passphrase->data
                               : NULL;
  trust->keyed = true;
  gnutls_certificate_set_pin_function(trust->credentials, give_pin, trust);
  int code =
      pair.pem || strcmp(pair.cert, pair.key) != 0
          ? gnutls_certificate_set_x509_key_file2(
                trust->credentials, pair.cert, pair.key, GNUTLS_X509_FMT_PEM,
                is_uri(pair.key) ? NULL : passphrase, 0)
          : gnutls_certificate_set_x509_simple_pkcs12_file(
                trust->credentials, pair.cert, GNUTLS_X509_FMT_DER, passphrase);
  return code < 0 ? key_failed(trust, &pair, code, passphrase_wanted, err)
                  : SMN_OK;
}

enum smn_kind smn_trust_load(struct smn_trust **trust,
                             const struct smn_tls_options *options,
                             bool *passphrase_wanted, struct smn_error *err) {
  struct smn_trust *t = calloc(1, sizeof *t);
  *trust = NULL;
  *passphrase_wanted = false;
  if (!t || gnutls_certificate_allocate_credentials(&t->credentials) != 0) {
    free(t);
    return smn_fail(err, SMN_SYSTEM, "no memory");
  }
  t->passphrase = options->passphrase;
  enum smn_kind kind = load_authorities(t, options, err);
  if (kind == SMN_OK)
    kind = load_key(t, options, passphrase_wanted, err);
  if (kind == SMN_OK)
    *trust = t;
  else
    smn_trust_free(t);
  return kind;
}
