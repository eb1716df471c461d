/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certs.h - certificates for the tests, made afresh.
   One authority signs all of them but the self-signed one.  */
#ifndef CERTS_H
#define CERTS_H

#include <stdbool.h>

/* Write into DIRECTORY: ca.pem, crl.pem, and NAME.pem with NAME.key for
   good (localhost, 127.0.0.1, ::1), expired, notyet, wronghost, selfsigned,
   ip (127.0.0.1 alone), cnonly, wildcard (*.example.org), revoked, clientonly
   (no server may use it), strange (its common name has control characters) and
   client; with a response of OCSP in NAME.ocsp,
   stapled, stapled-revoked, stapled-stale, stapled-forged (not signed by the
   authority) and must-stapled; and must-staple, which has none but has to.
   What is too weak: certs-weak.h.
   False when that fails.  */
bool certs_make(const char *directory);

/* Delete DIRECTORY and the files in it.  */
void certs_remove(const char *directory);

#endif
