/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tls.h - TLS over a connected, non-blocking socket, by GnuTLS.
   The one file that knows GnuTLS's sessions and certificates.  A struct smn_tls
   is owned by its connection and used by one thread at a time; it borrows the
   descriptor.  All that the server presents is untrusted.  Nothing here
   waits: the caller polls and calls again.  RFC 8446, 5246, 6125, 6066.  */
#ifndef SMN_TLS_H
#define SMN_TLS_H

#include "base/buf.h"
#include "base/error.h"
#include "net/io.h"
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct smn_trust;

#define SMN_TLS_RECORD 16384 /* octets in a full one, RFC 8446 5.1 */

/* All strings are borrowed for the call and may be NULL; the lists end with
   NULL.  File names are in the file system's own octets.  */
struct smn_tls_options {
  const char *host;        /* the name or address that must be certified */
  int port;                /* a session with the same server, port and all else
                              here may be resumed; 0: never */
  char *const *trustfiles; /* PEM, besides the system's */
  char *const *crlfiles;   /* PEM */
  const char *priority;    /* gnutls-algorithm-priority */
  int min_prime_bits;      /* 0: GnuTLS decides */
  const char *key_file;    /* client certificate: PEM files, a PKCS#12 file, */
  const char *cert_file;   /* or pkcs11: URIs; one stands for both */
  const struct smn_buf *passphrase; /* of the key, or PIN; secret, may be
                                       empty */
  char *const *pins;       /* SHA-256 of certificate or public key, in hex;
                              replace all other verification */
  struct smn_trust *trust; /* loaded from the above, see trust.h; NULL: to be
                              loaded now */
};

#define SMN_CHAIN_MAX 6    /* certificates that are told of */
#define SMN_PEMS_MAX 24576 /* octets of PEM */

/* What the server showed; all text is quoted (smn_quote) and bounded.  */
struct smn_certificate {
  bool present;
  char reasons[512]; /* why it does not verify, "" when it does */
  char subject[256];
  char issuer[256];
  time_t not_before, not_after;
  char sha256[65];      /* of the certificate, lower-case hex */
  char spki_sha256[65]; /* of its public key (SubjectPublicKeyInfo) */
  bool pinned;          /* accepted for one of the pins */
  char warnings[256];   /* as Emacs names them: "expired invalid" */
  int chain_len;        /* of the chain, as far as there is room */
  struct smn_link {
    int version;
    char serial[80]; /* hex, as "01:ab" */
    char issuer[256], subject[256];
    time_t not_before, not_after;
    char key_algorithm[32], security_level[32], signature_algorithm[32];
    char key_id[80], id[80]; /* "sha1:01:ab..." of public key, certificate */
    char key_id_sha256[112]; /* "sha256:01:ab..." */
    size_t pem, pem_len;     /* where it stands in pems */
  } chain[SMN_CHAIN_MAX];
  char pems[SMN_PEMS_MAX];
};

/* What ties an exchange to the TLS channel that it goes through.  */
struct smn_binding {
  const char *type; /* "tls-exporter" or "tls-unique" */
  unsigned char octets[64];
  size_t len;
};

struct smn_tls_info {
  char protocol[16]; /* "TLS1.3", "" while there is no TLS */
  char cipher[64];   /* "AES-256-GCM" */
  char mac[32];
  char key_exchange[32];
  bool resumed; /* the certificate is that of an earlier connection */
  bool encrypt_then_mac, safe_renegotiation;
  int prime_bits; /* of Diffie-Hellman, 0 without */
  struct smn_certificate certificate;
};

struct smn_tls;

/* Load what *OPTIONS names and prepare a client session on FD.  SMN_FILE for a
   file that cannot be read or used, SMN_USAGE for a priority string that
   GnuTLS does not take; *err names it.  On SMN_OK the caller owns *TLS.  */
enum smn_kind smn_tls_new(struct smn_tls **tls,
                          const struct smn_tls_options *options, int fd,
                          struct smn_error *err);

/* Each of the following makes one step.  SMN_IO_BARREN is a record that only
   TLS is interested in: a ticket, a new key, a warning, an empty record, or the
   wish for another handshake, which is ignored (RFC 5246 7.4.1.1).  Failures
   are SMN_TLS, SMN_CERTIFICATE, or SMN_NETWORK for a connection that ended or
   broke under TLS.  */

/* Go on with the handshake; verification (chain, host, stapled OCSP, CRL) is
   part of it.  */
enum smn_io smn_tls_handshake(struct smn_tls *tls, struct smn_error *err);

/* Move octets, as smn_io_receive and smn_io_send do.  WANT_READ means that
   all records that are there whole have been read.  After WANT_WRITE repeat
   smn_tls_write with the same arguments, and do not read before it is done.  A
   missing close_notify makes smn_tls_read fail with SMN_NETWORK.  */
enum smn_io smn_tls_read(struct smn_tls *tls, void *into, size_t len,
                         size_t *moved, struct smn_error *err);
enum smn_io smn_tls_write(struct smn_tls *tls, const void *from, size_t len,
                          size_t *moved, struct smn_error *err);

/* Say close_notify if that needs no waiting.  */
void smn_tls_bye(struct smn_tls *tls);

/* Valid as long as TLS; filled by the handshake, a failed one included.  */
const struct smn_tls_info *smn_tls_info(const struct smn_tls *tls);

/* What ties an exchange to this channel: tls-exporter (RFC 9266) for TLS 1.3,
   tls-unique (RFC 5929) for TLS 1.2 with the extended master secret, without
   which it could be had on two channels at once.  False: nothing may be
   used.  */
bool smn_tls_binding(struct smn_tls *tls, struct smn_binding *binding);

/* Forget all sessions that could be resumed.  Any thread.  */
void smn_tls_forget(void);

void smn_tls_free(struct smn_tls *tls); /* NULL is harmless */

/* PIN is the SHA-256 of something: 64 digits, in any case, maybe with
   colons.  */
bool smn_tls_pin_valid(const char *pin);

#endif
