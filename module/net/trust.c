/* SPDX-License-Identifier: GPL-3.0-or-later */
/* trust.c - what TLS trusts and shows.  */
#include "net/trust.h"
#include "base/file.h"

#include <gnutls/abstract.h>
#include <gnutls/pkcs11.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 1048576   /* octets of a key with its certificates */
#define CHAIN_MAX 16      /* certificates that the client shows */
#define LIST_MAX 67108864 /* of authorities or revocations */

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

static bool is_uri(const char *name) {
  return strncmp(name, "pkcs11:", strlen("pkcs11:")) == 0;
}

static gnutls_datum_t datum(const struct smn_buf *content) {
  return (gnutls_datum_t){(unsigned char *)content->data,
                          (unsigned)content->len};
}

/* One of the ways in which GnuTLS takes a list.  */
typedef int take_list(gnutls_certificate_credentials_t credentials,
                      const gnutls_datum_t *list, gnutls_x509_crt_fmt_t format);

/* Load the FILES, each of which is a WHAT.  */
static enum smn_kind load_lists(const struct smn_trust *trust,
                                char *const *files, const char *what,
                                take_list *take, struct smn_error *err) {
  enum smn_kind kind = SMN_OK;
  for (; kind == SMN_OK && files && *files; files++) {
    struct smn_buf content;
    kind = smn_file_load(*files, what, LIST_MAX, false, &content, err);
    if (kind == SMN_OK) {
      const gnutls_datum_t list = datum(&content);
      int code = take(trust->credentials, &list, GNUTLS_X509_FMT_PEM);
      if (code < 0)
        kind = smn_fail(err, SMN_FILE, "cannot use the %s %s: %s", what, *files,
                        gnutls_strerror(code));
    }
    smn_buf_free(&content);
  }
  return kind;
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
  struct smn_buf cert_octets, key_octets; /* of the files; one for both, if they
                                             are the same */
  bool pem, encrypted; /* the file of the key, if it is one */
};

/* NAME as it may be shown: after "?" a URI may tell a PIN (RFC 7512 2.4).  */
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

static bool same_file(const struct pair *pair) {
  return strcmp(pair->cert, pair->key) == 0;
}

/* Read the files, and see what that of the key is.  */
static enum smn_kind read_pair(struct pair *pair, struct smn_error *err) {
  enum smn_kind kind = SMN_OK;
  pair->pem = true;
  if (!is_uri(pair->key)) {
    kind = smn_file_load(pair->key, "client key", KEY_MAX, true,
                         &pair->key_octets, err);
    if (kind != SMN_OK)
      return kind;
    /* The text of a PEM file ends before any NUL.  */
    const char *text = pair->key_octets.data;
    pair->pem = strstr(text, "-----BEGIN ") != NULL;
    pair->encrypted = strstr(text, "BEGIN ENCRYPTED ") != NULL ||
                      strstr(text, "Proc-Type: 4,ENCRYPTED") != NULL;
  }
  if (!is_uri(pair->cert) && !same_file(pair))
    kind = smn_file_load(pair->cert, "client certificate", KEY_MAX, false,
                         &pair->cert_octets, err);
  return kind;
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
  return smn_fail(
      err, SMN_FILE, "the %s for the client key %.*s is wrong%s", secret,
      shown(key), key,
      trust->few_left ? "; few tries are left before the token locks" : "");
}

/* Use PAIR, of which one half is a file and the other in a token.  */
static int use_halves(struct smn_trust *trust, const struct pair *pair,
                      const char *passphrase) {
  gnutls_pcert_st chain[CHAIN_MAX];
  unsigned count = CHAIN_MAX;
  gnutls_privkey_t key = NULL;
  const gnutls_datum_t key_file = datum(&pair->key_octets);
  const gnutls_datum_t cert_file = datum(&pair->cert_octets);
  int code = is_uri(pair->cert)
                 ? gnutls_pcert_list_import_x509_file(chain, &count, pair->cert,
                                                      GNUTLS_X509_FMT_PEM,
                                                      give_pin, trust, 0)
                 : gnutls_pcert_list_import_x509_raw(chain, &count, &cert_file,
                                                     GNUTLS_X509_FMT_PEM,
                                                     GNUTLS_X509_CRT_LIST_SORT);
  if (code < 0)
    return code;
  code = gnutls_privkey_init(&key);
  if (code == 0) {
    gnutls_privkey_set_pin_function(key, give_pin, trust);
    code = is_uri(pair->key)
               ? gnutls_privkey_import_url(key, pair->key, 0)
               : gnutls_privkey_import_x509_raw(
                     key, &key_file, GNUTLS_X509_FMT_PEM, passphrase, 0);
  }
  if (code == 0)
    code = gnutls_certificate_set_key(trust->credentials, NULL, 0, chain,
                                      (int)count, key);
  if (code < 0) { /* else the credentials own them */
    gnutls_privkey_deinit(key);
    for (unsigned i = 0; i < count; i++)
      gnutls_pcert_deinit(&chain[i]);
  }
  return code;
}

static int use_pair(struct smn_trust *trust, const struct pair *pair) {
  const char *passphrase = trust->passphrase && trust->passphrase->len
                               ? trust->passphrase->data
                               : NULL;
  const gnutls_datum_t key = datum(&pair->key_octets);
  const gnutls_datum_t cert = same_file(pair) ? key : datum(&pair->cert_octets);
  if (is_uri(pair->cert) != is_uri(pair->key))
    return use_halves(trust, pair, passphrase);
  if (is_uri(pair->cert))
    return gnutls_certificate_set_x509_key_file2(trust->credentials, pair->cert,
                                                 pair->key, GNUTLS_X509_FMT_PEM,
                                                 NULL, 0);
  if (same_file(pair) && !pair->pem)
    return gnutls_certificate_set_x509_simple_pkcs12_mem(
        trust->credentials, &key, GNUTLS_X509_FMT_DER, passphrase);
  return gnutls_certificate_set_x509_key_mem2(
      trust->credentials, &cert, &key, GNUTLS_X509_FMT_PEM, passphrase, 0);
}

static enum smn_kind load_key(struct smn_trust *trust,
                              const struct smn_tls_options *options,
                              bool *passphrase_wanted, struct smn_error *err) {
  struct pair pair = {
      .cert = options->cert_file ? options->cert_file : options->key_file,
      .key = options->key_file ? options->key_file : options->cert_file,
  };
  if (!pair.cert)
    return SMN_OK;
  enum smn_kind kind = read_pair(&pair, err);
  if (kind == SMN_OK) {
    trust->keyed = true;
    gnutls_certificate_set_pin_function(trust->credentials, give_pin, trust);
    int code = use_pair(trust, &pair);
    if (code < 0)
      kind = key_failed(trust, &pair, code, passphrase_wanted, err);
  }
  smn_buf_free(&pair.key_octets);
  smn_buf_free(&pair.cert_octets);
  return kind;
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
  enum smn_kind kind = load_lists(t, options->trustfiles, "trust file",
                                  gnutls_certificate_set_x509_trust_mem, err);
  if (kind == SMN_OK)
    kind = load_lists(t, options->crlfiles, "revocation list",
                      gnutls_certificate_set_x509_crl_mem, err);
  if (kind == SMN_OK)
    kind = load_key(t, options, passphrase_wanted, err);
  if (kind == SMN_OK)
    *trust = t;
  else
    smn_trust_free(t);
  return kind;
}
