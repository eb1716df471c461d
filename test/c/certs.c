/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certs.c - certificates for the tests, made afresh.  */
#include "certs.h"
#include "certs-weak.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY 86400

struct leaf {
  const char *name;
  const char *dns; /* NULL: none */
  const char *ip4, *ip6;
  int from, to; /* days from now */
  bool selfsigned, client;
};

static const struct leaf leaves[] = {
    {"good", "localhost", "127.0.0.1", "::1", -1, 30, false, false},
    {"expired", "localhost", "127.0.0.1", "::1", -30, -1, false, false},
    {"notyet", "localhost", "127.0.0.1", "::1", 10, 30, false, false},
    {"wronghost", "other.example", NULL, NULL, -1, 30, false, false},
    {"selfsigned", "localhost", "127.0.0.1", "::1", -1, 30, true, false},
    {"ip", NULL, "127.0.0.1", NULL, -1, 30, false, false},
    {"cnonly", NULL, NULL, NULL, -1, 30, false, false},
    {"wildcard", "*.example.org", NULL, NULL, -1, 30, false, false},
    {"revoked", "localhost", "127.0.0.1", "::1", -1, 30, false, false},
    {"clientonly", "localhost", NULL, NULL, -1, 30, false, true},
    {"client", "client.example", NULL, NULL, -1, 30, false, true},
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

static bool make_leaf(const char *directory, size_t i, gnutls_x509_crt_t ca,
                      gnutls_x509_privkey_t ca_key, gnutls_x509_crl_t crl) {
  const struct leaf *leaf = &leaves[i];
  gnutls_x509_privkey_t key = NULL;
  gnutls_x509_crt_t crt = NULL;
  const char *cn = leaf->client ? "test client" : "localhost";
  bool good =
      new_key(&key) &&
      new_crt(&crt, key, cn, (unsigned char)(i + 2), leaf->from, leaf->to) &&
      add_names(crt, leaf) &&
      gnutls_x509_crt_sign2(crt, leaf->selfsigned ? crt : ca,
                            leaf->selfsigned ? key : ca_key, GNUTLS_DIG_SHA256,
                            0) == 0 &&
      save_pair(directory, leaf->name, crt, key);
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
