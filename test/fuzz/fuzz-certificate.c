/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-certificate.c - what is told of a certificate, which may hold anything.
   The input is one in DER or PEM.  The file is included, since its door asks
   for a session that is up.  */
#include "fuzz.h"
#include "net/certificate.c"

#include <gnutls/x509.h>

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  static struct smn_certificate info;
  gnutls_datum_t data = {(unsigned char *)(size_t)octets, (unsigned)len};
  gnutls_x509_crt_t crt = NULL;
  gnutls_x509_crt_init(&crt);
  memset(&info, 0, sizeof info);
  bool pem = len > 10 && memcmp(octets, "-----BEGIN", 10) == 0;
  if (gnutls_x509_crt_import(
          crt, &data, pem ? GNUTLS_X509_FMT_PEM : GNUTLS_X509_FMT_DER) == 0) {
    describe(&info, crt);
    for (int i = 0; i < SMN_CHAIN_MAX; i++)
      describe_link(&info, crt);
    (void)names_no_host(crt);
    require_shown(info.subject, sizeof info.subject);
    require_shown(info.issuer, sizeof info.issuer);
    require_shown(info.sha256, sizeof info.sha256);
    REQUIRE(info.chain_len <= SMN_CHAIN_MAX);
    for (int i = 0; i < info.chain_len; i++) {
      const struct smn_link *link = &info.chain[i];
      require_shown(link->subject, sizeof link->subject);
      require_shown(link->serial, sizeof link->serial);
      REQUIRE(link->pem + link->pem_len <= SMN_PEMS_MAX);
    }
  }
  gnutls_x509_crt_deinit(crt);
  return 0;
}
