/* SPDX-License-Identifier: GPL-3.0-or-later */
/* redact.h - take secrets out of text that a server may have echoed.
   The needles, each ended by a NUL, stand one behind the other in a secret
   buffer, which belongs to a session and is used by its thread alone.  */
#ifndef SMN_REDACT_H
#define SMN_REDACT_H

#include "base/buf.h"

#define SMN_OMITTED "<omitted>"

/* Never show the LEN octets at BYTES.  What is shorter than three octets would
   blot out all text, and what holds a NUL or finds no room is passed over.  */
void smn_redact_add(struct smn_buf *needles, const char *bytes, size_t len);

/* The same, and for their base64, too.  */
void smn_redact_add_encoded(struct smn_buf *needles, const char *bytes,
                            size_t len);

/* Copy TEXT of LEN octets into OUT (the same place, or LEN octets) with
   SMN_OMITTED for each needle, cut where it would be longer; returns the
   length, at most LEN.  */
size_t smn_redact(const struct smn_buf *needles, const char *text, size_t len,
                  char *out);

/* Add what a client answers in AUTH, the LEN octets of BASE64, and the last
   word of it decoded: the digest of CRAM-MD5.  */
void smn_redact_add_response(struct smn_buf *needles, const char *base64,
                             size_t len);

#endif
