/* SPDX-License-Identifier: GPL-3.0-or-later */
/* redact.c - take secrets out of text that a server may have echoed.  */
#include "base/redact.h"

#include <gnutls/gnutls.h>
#include <string.h>

#define NEEDLE_MIN 3

void smn_redact_add(struct smn_buf *needles, const char *bytes, size_t len) {
  if (len < NEEDLE_MIN || memchr(bytes, '\0', len))
    return;
  if (smn_buf_add(needles, bytes, len))
    needles->len++; /* the NUL that always follows the content */
}

void smn_redact_add_encoded(struct smn_buf *needles, const char *bytes,
                            size_t len) {
  gnutls_datum_t raw = {(unsigned char *)(size_t)bytes, (unsigned)len};
  gnutls_datum_t encoded = {NULL, 0};
  smn_redact_add(needles, bytes, len);
  if (len && gnutls_base64_encode2(&raw, &encoded) == 0) {
    smn_redact_add(needles, (char *)encoded.data, encoded.size);
    smn_wipe(encoded.data, encoded.size);
    gnutls_free(encoded.data);
  }
}

static size_t needle_at(const struct smn_buf *needles, const char *text,
                        size_t len) {
  const char *needle = needles->data;
  const char *end = needle + needles->len;
  for (; needle && needle < end; needle += strlen(needle) + 1) {
    size_t n = strlen(needle);
    if (n <= len && memcmp(text, needle, n) == 0)
      return n;
  }
  return 0;
}

size_t smn_redact(const struct smn_buf *needles, const char *text, size_t len,
                  char *out) {
  static const char mark[] = SMN_OMITTED;
  size_t from = 0, to = 0;
  while (from < len) {
    size_t found =
        needles->len ? needle_at(needles, text + from, len - from) : 0;
    if (found) {
      size_t n = sizeof mark - 1 < found ? sizeof mark - 1 : found;
      memcpy(out + to, mark, n);
      from += found;
      to += n;
    } else
      out[to++] = text[from++];
  }
  return to;
}

void smn_redact_add_response(struct smn_buf *needles, const char *base64,
                             size_t len) {
  smn_redact_add(needles, base64, len);
  gnutls_datum_t encoded = {(unsigned char *)base64, (unsigned)len};
  gnutls_datum_t raw = {NULL, 0};
  if (encoded.size == 0 || gnutls_base64_decode2(&encoded, &raw) != 0)
    return;
  size_t at = raw.size;
  while (at > 0 && raw.data[at - 1] != ' ')
    at--;
  if (at > 0)
    smn_redact_add(needles, (char *)raw.data + at, raw.size - at);
  smn_wipe(raw.data, raw.size);
  gnutls_free(raw.data);
}
