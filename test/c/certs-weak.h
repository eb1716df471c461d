/* SPDX-License-Identifier: GPL-3.0-or-later */
/* certs-weak.h - certificates that are too weak, and the forms that the key of
   a client may have.  */
#ifndef CERTS_WEAK_H
#define CERTS_WEAK_H

#include <stdbool.h>

#define CERTS_PASSPHRASE "open-sesame-4711"

/* Beside what certs_make has written into DIRECTORY, signed by its authority
   and good for localhost: rsa (2,048 bits), rsa-1024, sha1 (signed with it),
   usage (may only sign revocation lists), wildcard-good (*.test.localhost).
   And of its client: client-encrypted.key and client-old.key (PEM, with
   CERTS_PASSPHRASE), client-both.pem (with its key), client.p12 (with it, too),
   client-open.p12 (without).  False when that fails.  */
bool certs_make_weak(const char *directory);

#endif
