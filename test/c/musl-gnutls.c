/* SPDX-License-Identifier: GPL-3.0-or-later */
/* musl-gnutls.c - the little of GnuTLS that the pure parts of the core need.
   There is no GnuTLS for musl beside one for glibc; tests that link with this
   run under both (tools/musl).  */
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

gnutls_free_function gnutls_free = free;

void gnutls_memset(void *data, int c, size_t size) {
  memset(data, c, size);
  __asm__ volatile("" : : "r"(data) : "memory");
}

int gnutls_base64_encode2(const gnutls_datum_t *data, gnutls_datum_t *result) {
  (void)data;
  (void)result;
  return GNUTLS_E_UNIMPLEMENTED_FEATURE;
}
