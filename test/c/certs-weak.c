/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certs-weak.c - certificates that are too weak, and forms of a key.  */
#include "certs-weak.h"

#include <gnutls/pkcs12.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY 86400

struct pair {
  gnutls_x509_crt_t crt;
  gnutls_x509_privkey_t key;
};

static void free_pair(struct pair *pair) {
  gnutls_x509_crt_deinit(pair->crt);
  gnutls_x509_privkey_deinit(pair->key);
}

static bool save(const char *directory, const char *file, const char *mode,
                 const gnutls_datum_t *data) {
  char path[512];
  snprintf(path, sizeof path, "%s/%s", directory, file);
  FILE *out = fopen(path, mode);
  bool good = out && fwrite(data->data, 1, data->size, out) == data->size;
  return out && fclose(out) == 0 && good;
}

static bool load_pair(const char *directory, const char *name,
                      struct pair *pair) {
  char path[512];
  gnutls_datum_t crt = {NULL, 0}, key = {NULL, 0};
  *pair = (struct pair){NULL, NULL};
  snprintf(path, sizeof path, "%s/%s.pem", directory, name);
  bool good = gnutls_load_file(path, &crt) == 0;
  snprintf(path, sizeof path, "%s/%s.key", directory, name);
  good = good && gnutls_load_file(path, &key) == 0 &&
         gnutls_x509_crt_init(&pair->crt) == 0 &&
         gnutls_x509_privkey_init(&pair->key) == 0 &&
         gnutls_x509_crt_import(pair->crt, &crt, GNUTLS_X509_FMT_PEM) == 0 &&
         gnutls_x509_privkey_import(pair->key, &key, GNUTLS_X509_FMT_PEM) == 0;
  gnutls_free(crt.data);
  gnutls_free(key.data);
  return good;
}

/* Servers */

static const struct server {
  const char *name, *dns;
  gnutls_pk_algorithm_t algorithm;
  unsigned bits, usage;
  gnutls_digest_algorithm_t digest;
} servers[] = {
    {"rsa", "localhost", GNUTLS_PK_RSA, 2048,
     GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_ENCIPHERMENT,
     GNUTLS_DIG_SHA256},
    {"rsa-1024", "localhost", GNUTLS_PK_RSA, 1024, GNUTLS_KEY_DIGITAL_SIGNATURE,
     GNUTLS_DIG_SHA256},
    {"sha1", "localhost", GNUTLS_PK_ECDSA, 256, GNUTLS_KEY_DIGITAL_SIGNATURE,
     GNUTLS_DIG_SHA1},
    {"usage", "localhost", GNUTLS_PK_ECDSA, 256, GNUTLS_KEY_CRL_SIGN,
     GNUTLS_DIG_SHA256},
    {"wildcard-good", "*.test.localhost", GNUTLS_PK_ECDSA, 256,
     GNUTLS_KEY_DIGITAL_SIGNATURE, GNUTLS_DIG_SHA256},
};

#define SERVERS (sizeof servers / sizeof *servers)

static bool export_pair(const char *directory, const char *name,
                        const struct pair *pair) {
  char file[64];
  gnutls_datum_t crt = {NULL, 0}, key = {NULL, 0};
  bool good =
      gnutls_x509_crt_export2(pair->crt, GNUTLS_X509_FMT_PEM, &crt) == 0 &&
      gnutls_x509_privkey_export2(pair->key, GNUTLS_X509_FMT_PEM, &key) == 0;
  snprintf(file, sizeof file, "%s.pem", name);
  good = good && save(directory, file, "w", &crt);
  snprintf(file, sizeof file, "%s.key", name);
  good = good && save(directory, file, "w", &key);
  gnutls_free(crt.data);
  gnutls_free(key.data);
  return good;
}

static bool make_server(const char *directory, size_t i,
                        const struct pair *ca) {
  const struct server *s = &servers[i];
  const unsigned char serial = (unsigned char)(100 + i);
  struct pair own = {NULL, NULL};
  time_t now = time(NULL);
  bool good =
      gnutls_x509_privkey_init(&own.key) == 0 &&
      gnutls_x509_crt_init(&own.crt) == 0 &&
      gnutls_x509_privkey_generate(
          own.key, s->algorithm,
          s->algorithm == GNUTLS_PK_RSA
              ? s->bits
              : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1),
          0) == 0 &&
      gnutls_x509_crt_set_version(own.crt, 3) == 0 &&
      gnutls_x509_crt_set_serial(own.crt, &serial, 1) == 0 &&
      gnutls_x509_crt_set_dn(own.crt, "CN=localhost", NULL) == 0 &&
      gnutls_x509_crt_set_activation_time(own.crt, now - DAY) == 0 &&
      gnutls_x509_crt_set_expiration_time(own.crt, now + 30 * DAY) == 0 &&
      gnutls_x509_crt_set_key(own.crt, own.key) == 0 &&
      gnutls_x509_crt_set_subject_alt_name(own.crt, GNUTLS_SAN_DNSNAME, s->dns,
                                           (unsigned)strlen(s->dns),
                                           GNUTLS_FSAN_APPEND) == 0 &&
      gnutls_x509_crt_set_key_usage(own.crt, s->usage) == 0 &&
      gnutls_x509_crt_set_key_purpose_oid(own.crt, GNUTLS_KP_TLS_WWW_SERVER,
                                          0) == 0 &&
      gnutls_x509_crt_sign2(own.crt, ca->crt, ca->key, s->digest, 0) == 0 &&
      export_pair(directory, s->name, &own);
  free_pair(&own);
  return good;
}

/* The key of the client */

static bool save_pkcs8(const char *directory, const char *file,
                       gnutls_x509_privkey_t key, unsigned flags) {
  gnutls_datum_t pem = {NULL, 0};
  bool good =
      gnutls_x509_privkey_export2_pkcs8(key, GNUTLS_X509_FMT_PEM,
                                        CERTS_PASSPHRASE, flags, &pem) == 0 &&
      save(directory, file, "w", &pem);
  gnutls_free(pem.data);
  return good;
}

static bool add_bag(gnutls_pkcs12_t p12, const gnutls_datum_t *data,
                    gnutls_pkcs12_bag_type_t type, const gnutls_datum_t *id,
                    const char *passphrase) {
  gnutls_pkcs12_bag_t bag = NULL;
  bool good =
      gnutls_pkcs12_bag_init(&bag) == 0 &&
      gnutls_pkcs12_bag_set_data(bag, type, data) == 0 &&
      gnutls_pkcs12_bag_set_key_id(bag, 0, id) == 0 &&
      (!passphrase || gnutls_pkcs12_bag_encrypt(
                          bag, passphrase, GNUTLS_PKCS_PBES2_AES_256) == 0) &&
      gnutls_pkcs12_set_bag(p12, bag) == 0;
  gnutls_pkcs12_bag_deinit(bag);
  return good;
}

static bool save_pkcs12(const char *directory, const char *file,
                        const struct pair *client, const char *passphrase) {
  gnutls_datum_t crt = {NULL, 0}, key = {NULL, 0}, out = {NULL, 0};
  unsigned char octets[20];
  gnutls_datum_t id = {octets, sizeof octets};
  size_t size = sizeof octets;
  gnutls_pkcs12_t p12 = NULL;
  bool good =
      gnutls_pkcs12_init(&p12) == 0 &&
      gnutls_x509_privkey_get_key_id(client->key, 0, octets, &size) == 0 &&
      gnutls_x509_crt_export2(client->crt, GNUTLS_X509_FMT_DER, &crt) == 0 &&
      gnutls_x509_privkey_export2_pkcs8(
          client->key, GNUTLS_X509_FMT_DER, passphrase,
          passphrase ? GNUTLS_PKCS_PBES2_AES_256 : GNUTLS_PKCS_PLAIN,
          &key) == 0 &&
      add_bag(p12, &crt, GNUTLS_BAG_CERTIFICATE, &id, passphrase) &&
      add_bag(p12, &key,
              passphrase ? GNUTLS_BAG_PKCS8_ENCRYPTED_KEY
                         : GNUTLS_BAG_PKCS8_KEY,
              &id, NULL) &&
      gnutls_pkcs12_generate_mac(p12, passphrase ? passphrase : "") == 0 &&
      gnutls_pkcs12_export2(p12, GNUTLS_X509_FMT_DER, &out) == 0 &&
      save(directory, file, "w", &out);
  gnutls_free(crt.data);
  gnutls_free(key.data);
  gnutls_free(out.data);
  gnutls_pkcs12_deinit(p12);
  return good;
}

static bool save_both(const char *directory, const struct pair *client) {
  gnutls_datum_t crt = {NULL, 0}, key = {NULL, 0};
  bool good =
      gnutls_x509_crt_export2(client->crt, GNUTLS_X509_FMT_PEM, &crt) == 0 &&
      gnutls_x509_privkey_export2(client->key, GNUTLS_X509_FMT_PEM, &key) ==
          0 &&
      save(directory, "client-both.pem", "w", &key) &&
      save(directory, "client-both.pem", "a", &crt);
  gnutls_free(crt.data);
  gnutls_free(key.data);
  return good;
}

bool certs_make_weak(const char *directory) {
  struct pair ca = {NULL, NULL}, client = {NULL, NULL};
  bool good = load_pair(directory, "ca", &ca) &&
              load_pair(directory, "client", &client) &&
              save_pkcs8(directory, "client-encrypted.key", client.key,
                         GNUTLS_PKCS_PBES2_AES_256) &&
              save_pkcs8(directory, "client-old.key", client.key,
                         GNUTLS_PKCS_PKCS12_3DES) &&
              save_both(directory, &client) &&
              save_pkcs12(directory, "client.p12", &client, CERTS_PASSPHRASE) &&
              save_pkcs12(directory, "client-open.p12", &client, NULL);
  for (size_t i = 0; good && i < SERVERS; i++)
    good = make_server(directory, i, &ca);
  free_pair(&ca);
  free_pair(&client);
  return good;
}
