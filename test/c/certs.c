/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certs.c - certificates for the tests, made afresh.  */
#include "certs.h"
#include "certs-weak.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

enum staple { NO_STAPLE, GOOD, REVOKED, STALE, FORGED };

struct leaf {
  const char *name;
  const char *dns; /* NULL: none */
  const char *ip4, *ip6;
  int from, to; /* days from now */
  bool selfsigned, client;
  enum staple staple; /* the response of OCSP beside it */
  bool must_staple;
  const char *cn; /* NULL: the usual one */
};

static const struct leaf leaves[] = {
    {"good", "localhost", "127.0.0.1", "::1", .from = -1, .to = 30},
    {"expired", "localhost", "127.0.0.1", "::1", .from = -30, .to = -1},
    {"notyet", "localhost", "127.0.0.1", "::1", .from = 10, .to = 30},
    {"wronghost", "other.example", NULL, NULL, .from = -1, .to = 30},
    {"selfsigned", "localhost", "127.0.0.1", "::1", .from = -1, .to = 30,
     .selfsigned = true},
    {"ip", NULL, "127.0.0.1", NULL, .from = -1, .to = 30},
    {"cnonly", NULL, NULL, NULL, .from = -1, .to = 30},
    {"wildcard", "*.example.org", NULL, NULL, .from = -1, .to = 30},
    {"revoked", "localhost", "127.0.0.1", "::1", .from = -1, .to = 30},
    {"clientonly", "localhost", NULL, NULL, .from = -1, .to = 30,
     .client = true},
    {"strange", "other.example", NULL, NULL, .from = -1, .to = 30,
     .cn = "evil\r\n\t250 ok\033[31m"},
    {"client", "client.example", NULL, NULL, .from = -1, .to = 30,
     .client = true},
    {"stapled", "localhost", NULL, NULL, .from = -1, .to = 30, .staple = GOOD},
    {"stapled-revoked", "localhost", NULL, NULL, .from = -1, .to = 30,
     .staple = REVOKED},
    {"stapled-stale", "localhost", NULL, NULL, .from = -1, .to = 30,
     .staple = STALE},
    {"stapled-forged", "localhost", NULL, NULL, .from = -1, .to = 30,
     .staple = FORGED},
    {"must-staple", "localhost", NULL, NULL, .from = -1, .to = 30,
     .must_staple = true},
    {"must-stapled", "localhost", NULL, NULL, .from = -1, .to = 30,
     .staple = GOOD, .must_staple = true},
};

#define LEAVES (sizeof leaves / sizeof *leaves)

static bool save(const char *directory, const char *name, const char *suffix,
                 const gnutls_datum_t *pem) {
  char file[512];
  snprintf(file, sizeof file, "%s/%s.%s", directory, name, suffix);
  FILE *out = fopen(file, "w");
  bool good = out && fwrite(pem->data, 1, pem->size, out) == pem->size;
  return out && fclose(out) == 0 && good;
}

static bool save_pair(const char *directory, const char *name,
                      gnutls_x509_crt_t crt, gnutls_x509_privkey_t key) {
  gnutls_datum_t pem = {NULL, 0};
  bool good = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &pem) == 0 &&
              save(directory, name, "pem", &pem);
  gnutls_free(pem.data);
  pem.data = NULL;
  good = good &&
         gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem) == 0 &&
         save(directory, name, "key", &pem);
  gnutls_free(pem.data);
  return good;
}

static bool new_key(gnutls_x509_privkey_t *key) {
  return gnutls_x509_privkey_init(key) == 0 &&
         gnutls_x509_privkey_generate(
             *key, GNUTLS_PK_ECDSA,
             GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) == 0;
}

/* A certificate for CN, good for the days FROM to TO, not yet signed.  */
static bool new_crt(gnutls_x509_crt_t *crt, gnutls_x509_privkey_t key,
                    const char *cn, unsigned char serial, int from, int to) {
  time_t now = time(NULL);
  return gnutls_x509_crt_init(crt) == 0 &&
         gnutls_x509_crt_set_version(*crt, 3) == 0 &&
         gnutls_x509_crt_set_serial(*crt, &serial, 1) == 0 &&
         gnutls_x509_crt_set_dn_by_oid(*crt, GNUTLS_OID_X520_COMMON_NAME, 0, cn,
                                       (unsigned)strlen(cn)) == 0 &&
         gnutls_x509_crt_set_activation_time(*crt, now + from * DAY) == 0 &&
         gnutls_x509_crt_set_expiration_time(*crt, now + to * DAY) == 0 &&
         gnutls_x509_crt_set_key(*crt, key) == 0;
}

static bool add_address(gnutls_x509_crt_t crt, int family, const char *text) {
  unsigned char address[16];
  if (!text)
    return true;
  return inet_pton(family, text, address) == 1 &&
         gnutls_x509_crt_set_subject_alt_name(
             crt, GNUTLS_SAN_IPADDRESS, address, family == AF_INET ? 4 : 16,
             GNUTLS_FSAN_APPEND) == 0;
}

static bool add_names(gnutls_x509_crt_t crt, const struct leaf *leaf) {
  return (!leaf->dns ||
          gnutls_x509_crt_set_subject_alt_name(
              crt, GNUTLS_SAN_DNSNAME, leaf->dns, (unsigned)strlen(leaf->dns),
              GNUTLS_FSAN_APPEND) == 0) &&
         add_address(crt, AF_INET, leaf->ip4) &&
         add_address(crt, AF_INET6, leaf->ip6) &&
         gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE) ==
             0 &&
         gnutls_x509_crt_set_key_purpose_oid(
             crt,
             leaf->client ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER,
             0) == 0;
}

/* RFC 7633: the status of the certificate has to come with it.  */
static bool add_must_staple(gnutls_x509_crt_t crt, const struct leaf *leaf) {
  static const unsigned char status_request[] = {0x30, 3, 0x02, 1, 5};
  return !leaf->must_staple || gnutls_x509_crt_set_extension_by_oid(
                                   crt, "1.3.6.1.5.5.7.1.24", status_request,
                                   sizeof status_request, 0) == 0;
}

/* A response of OCSP (RFC 6960 4.2.1)

   GnuTLS can only read one.  DER is written from the inside: what was put
   behind FROM becomes the content of a value with TAG.  */
struct der {
  unsigned char at[1024];
  size_t len;
};

static void put(struct der *der, const void *bytes, size_t len) {
  memcpy(der->at + der->len, bytes, len);
  der->len += len;
}

static void wrap(struct der *der, size_t from, unsigned char tag) {
  size_t len = der->len - from, size = 0;
  unsigned char head[4] = {tag};
  if (len > 255)
    head[++size] = 0x82;
  else if (len > 127)
    head[++size] = 0x81;
  if (len > 255)
    head[++size] = (unsigned char)(len >> 8);
  head[++size] = (unsigned char)len;
  size++;
  memmove(der->at + from + size, der->at + from, len);
  memcpy(der->at + from, head, size);
  der->len += size;
}

static void put_time(struct der *der, int days) {
  char text[32];
  time_t when = time(NULL) + days * DAY;
  struct tm tm;
  size_t from = der->len;
  strftime(text, sizeof text, "%Y%m%d%H%M%SZ", gmtime_r(&when, &tm));
  put(der, text, strlen(text));
  wrap(der, from, 0x18);
}

/* The SHA-1 of BYTES, as all responders name an issuer.  */
static bool put_hash(struct der *der, const void *bytes, size_t len) {
  unsigned char hash[20];
  size_t from = der->len;
  bool good = gnutls_hash_fast(GNUTLS_DIG_SHA1, bytes, len, hash) == 0;
  put(der, hash, sizeof hash);
  wrap(der, from, 0x04);
  return good;
}

/* A coordinate has 32 octets, while NUMBER may have one more, which is zero,
   or, once in some hundred keys, fewer.  */
static void put_coordinate(unsigned char out[32],
                           const gnutls_datum_t *number) {
  size_t size = number->size < 32 ? number->size : 32;
  memcpy(out + 32 - size, number->data + number->size - size, size);
}

/* CertID: the certificate with SERIAL that CA has signed.  */
static bool put_id(struct der *der, gnutls_x509_crt_t ca, unsigned char serial,
                   const gnutls_datum_t *name) {
  static const unsigned char sha1[] = {0x30, 0x09, 0x06, 0x05, 0x2b, 0x0e,
                                       0x03, 0x02, 0x1a, 0x05, 0x00};
  gnutls_datum_t x = {NULL, 0}, y = {NULL, 0};
  unsigned char point[65] = {4};
  size_t from = der->len;
  bool good = gnutls_x509_crt_get_pk_ecc_raw(ca, NULL, &x, &y) == 0;
  if (good) {
    put_coordinate(point + 1, &x);
    put_coordinate(point + 33, &y);
  }
  put(der, sha1, sizeof sha1);
  good = good && put_hash(der, name->data, name->size) &&
         put_hash(der, point, sizeof point);
  put(der, (const unsigned char[]){0x02, 1, serial}, 3);
  wrap(der, from, 0x30);
  gnutls_free(x.data);
  gnutls_free(y.data);
  return good;
}

/* ResponseData, by which CA says of the certificate with SERIAL what STAPLE
   is.  */
static bool put_data(struct der *der, gnutls_x509_crt_t ca,
                     unsigned char serial, enum staple staple) {
  gnutls_datum_t name = {NULL, 0};
  bool good = gnutls_x509_crt_get_raw_dn(ca, &name) == 0;
  if (!good)
    return false;
  put(der, name.data, name.size);
  wrap(der, 0, 0xa1);
  put_time(der, staple == STALE ? -20 : -1);
  size_t from = der->len;
  good = put_id(der, ca, serial, &name);
  size_t at = der->len;
  if (staple == REVOKED)
    put_time(der, -2);
  wrap(der, at, staple == REVOKED ? 0xa1 : 0x80);
  put_time(der, staple == STALE ? -20 : -1);
  at = der->len;
  put_time(der, staple == STALE ? -10 : 10);
  wrap(der, at, 0xa0);
  wrap(der, from, 0x30); /* SingleResponse */
  wrap(der, from, 0x30);
  wrap(der, 0, 0x30);
  gnutls_free(name.data);
  return good;
}

static bool sign(struct der *der, gnutls_x509_privkey_t signer) {
  static const unsigned char ecdsa_sha256[] = {
      0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};
  gnutls_datum_t signature = {NULL, 0};
  const gnutls_datum_t data = {der->at, (unsigned)der->len};
  gnutls_privkey_t key = NULL;
  bool good = gnutls_privkey_init(&key) == 0 &&
              gnutls_privkey_import_x509(key, signer, 0) == 0 &&
              gnutls_privkey_sign_data(key, GNUTLS_DIG_SHA256, 0, &data,
                                       &signature) == 0;
  if (good) {
    put(der, ecdsa_sha256, sizeof ecdsa_sha256);
    size_t from = der->len;
    put(der, "", 1); /* no unused bits */
    put(der, signature.data, signature.size);
    wrap(der, from, 0x03);
    wrap(der, 0, 0x30);
  }
  gnutls_free(signature.data);
  gnutls_privkey_deinit(key);
  return good;
}

static bool save_staple(const char *directory, const struct leaf *leaf,
                        unsigned char serial, gnutls_x509_crt_t ca,
                        gnutls_x509_privkey_t signer) {
  static const unsigned char basic[] = {0x06, 0x09, 0x2b, 0x06, 0x01, 0x05,
                                        0x05, 0x07, 0x30, 0x01, 0x01};
  struct der der = {.len = 0}, whole = {.len = 0};
  if (!put_data(&der, ca, serial, leaf->staple) || !sign(&der, signer))
    return false;
  put(&whole, basic, sizeof basic);
  put(&whole, der.at, der.len);
  wrap(&whole, sizeof basic, 0x04);
  wrap(&whole, 0, 0x30);
  wrap(&whole, 0, 0xa0);
  memmove(whole.at + 3, whole.at, whole.len);
  memcpy(whole.at, (const unsigned char[]){0x0a, 1, 0}, 3); /* successful */
  whole.len += 3;
  wrap(&whole, 0, 0x30);
  const gnutls_datum_t file = {whole.at, (unsigned)whole.len};
  return save(directory, leaf->name, "ocsp", &file);
}

static bool make_leaf(const char *directory, size_t i, gnutls_x509_crt_t ca,
                      gnutls_x509_privkey_t ca_key, gnutls_x509_crl_t crl) {
  const struct leaf *leaf = &leaves[i];
  gnutls_x509_privkey_t key = NULL;
  gnutls_x509_crt_t crt = NULL;
  const char *cn = leaf->cn       ? leaf->cn
                   : leaf->client ? "test client"
                                  : "localhost";
  bool good =
      new_key(&key) &&
      new_crt(&crt, key, cn, (unsigned char)(i + 2), leaf->from, leaf->to) &&
      add_names(crt, leaf) && add_must_staple(crt, leaf) &&
      gnutls_x509_crt_sign2(crt, leaf->selfsigned ? crt : ca,
                            leaf->selfsigned ? key : ca_key, GNUTLS_DIG_SHA256,
                            0) == 0 &&
      save_pair(directory, leaf->name, crt, key);
  if (good && leaf->staple != NO_STAPLE)
    good = save_staple(directory, leaf, (unsigned char)(i + 2), ca,
                       leaf->staple == FORGED ? key : ca_key);
  if (good && strcmp(leaf->name, "revoked") == 0)
    good = gnutls_x509_crl_set_crt(crl, crt, time(NULL) - DAY) == 0;
  gnutls_x509_crt_deinit(crt);
  gnutls_x509_privkey_deinit(key);
  return good;
}

static bool save_crl(const char *directory, gnutls_x509_crl_t crl,
                     gnutls_x509_crt_t ca, gnutls_x509_privkey_t ca_key) {
  gnutls_datum_t pem = {NULL, 0};
  time_t now = time(NULL);
  bool good =
      gnutls_x509_crl_set_version(crl, 2) == 0 &&
      gnutls_x509_crl_set_this_update(crl, now - DAY) == 0 &&
      gnutls_x509_crl_set_next_update(crl, now + 30 * DAY) == 0 &&
      gnutls_x509_crl_sign2(crl, ca, ca_key, GNUTLS_DIG_SHA256, 0) == 0 &&
      gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem) == 0 &&
      save(directory, "crl", "pem", &pem);
  gnutls_free(pem.data);
  return good;
}

bool certs_make(const char *directory) {
  gnutls_x509_privkey_t ca_key = NULL;
  gnutls_x509_crt_t ca = NULL;
  gnutls_x509_crl_t crl = NULL;
  bool good =
      new_key(&ca_key) && new_crt(&ca, ca_key, "test authority", 1, -60, 60) &&
      gnutls_x509_crt_set_basic_constraints(ca, 1, -1) == 0 &&
      gnutls_x509_crt_set_key_usage(ca, GNUTLS_KEY_KEY_CERT_SIGN |
                                            GNUTLS_KEY_CRL_SIGN) == 0 &&
      gnutls_x509_crt_sign2(ca, ca, ca_key, GNUTLS_DIG_SHA256, 0) == 0 &&
      save_pair(directory, "ca", ca, ca_key) && gnutls_x509_crl_init(&crl) == 0;
  for (size_t i = 0; good && i < LEAVES; i++)
    good = make_leaf(directory, i, ca, ca_key, crl);
  good = good && save_crl(directory, crl, ca, ca_key) &&
         certs_make_weak(directory);
  gnutls_x509_crl_deinit(crl);
  gnutls_x509_crt_deinit(ca);
  gnutls_x509_privkey_deinit(ca_key);
  return good;
}

void certs_remove(const char *directory) {
  struct dirent **entries = NULL;
  int count = scandir(directory, &entries, NULL, NULL);
  for (int i = 0; i < count; i++) {
    char file[600];
    snprintf(file, sizeof file, "%s/%s", directory, entries[i]->d_name);
    unlink(file);
    free(entries[i]);
  }
  free(entries);
  rmdir(directory);
}
