/* SPDX-License-Identifier: GPL-3.0-or-later */
/* redact.h - take secrets out of text that a server may have echoed.
   The needles are the secrets themselves, in one secret buffer that a session
   owns and its thread uses.  A needle is found as it is (letters in any case),
   with some of its octets escaped (%XX, +XX, =XX, \xXX, \uXXXX, \n), as
   hexadecimal digits, and anywhere inside base64.  What is found becomes
   SMN_OMITTED, whatever its length; matches that overlap or touch become one.
   The first eight octets of a longer secret count as the secret.

   Where the server's own words and a weak secret meet, hiding would tell more
   than it hides.  So a secret that reads like a word (fewer than 6 octets, or
   fewer than 16 letters with digits only at the end) is found between borders
   of words only, and one that is a word of SMTP's replies is found only in its
   encoded forms.  Fewer than 3 octets are no secret.  */
#ifndef SMN_REDACT_H
#define SMN_REDACT_H

#include "base/buf.h"

#define SMN_OMITTED "<omitted>"

/* Never show the LEN octets at SECRET, which may hold NUL.  When there is no
   room for it, nothing is shown any more: all text becomes SMN_OMITTED.  */
void smn_redact_add(struct smn_buf *needles, const char *secret, size_t len);

/* Never show the LEN octets of BASE64 that answer a challenge, nor the digest
   in them: the last word of CRAM-MD5's response, "p=" of SCRAM's,
   "response=" of DIGEST-MD5's.  */
void smn_redact_add_response(struct smn_buf *needles, const char *base64,
                             size_t len);

/* Copy TEXT of LEN octets to OUT, another place, without the secrets.  What
   does not fit into SIZE octets is cut; a mark is whole or not there, and text
   before it gives way to it.  CUT: TEXT itself
   was cut, so that the beginning of a secret may be its end.  Returns the
   length.  */
size_t smn_redact(const struct smn_buf *needles, const char *text, size_t len,
                  bool cut, char *out, size_t size);

/* The same in place, for a string in a field of SIZE octets and for one from
   malloc (NULL is harmless).  Without memory nothing of a text that holds a
   secret is left.  */
void smn_redact_field(const struct smn_buf *needles, char *text, size_t size);
void smn_redact_string(const struct smn_buf *needles, char **text);

#endif
