/* SPDX-License-Identifier: GPL-3.0-or-later */
/* wire.c - a message as RFC 5321 4.5.2 wants it on the wire.
   The hot path of large mails: spans between line ends are found by memchr and
   moved by memcpy, only line ends and leading dots are looked at singly.  */
#include "wire.h"

#include <string.h>

void smn_wire_init(struct smn_wire *wire, bool stuff) {
  *wire = (struct smn_wire){.stuff = stuff};
}

/* How many of the LEN octets at IN come before the next CR or LF.  CR_AT is
   where the next CR is known to be, so that text without any is not searched
   again for each line.  */
static size_t span(const char *in, size_t len, const char **cr_at) {
  if (!*cr_at || *cr_at < in) {
    const char *cr = memchr(in, '\r', len);
    *cr_at = cr ? cr : in + len;
  }
  size_t before_cr = (size_t)(*cr_at - in);
  const char *lf = memchr(in, '\n', before_cr);
  return lf ? (size_t)(lf - in) : before_cr;
}

size_t smn_wire_encode(struct smn_wire *wire, const char *in, size_t in_len,
                       size_t *used, char *out, size_t out_size) {
  const char *end = in + in_len, *at = in, *cr_at = NULL;
  size_t to = 0;
  while (at < end && out_size - to >= 2) {
    if (*at == '\r' || *at == '\n') {
      bool pair = *at == '\n' && wire->after_cr;
      wire->after_cr = *at++ == '\r';
      if (pair)
        continue;
      out[to++] = '\r';
      out[to++] = '\n';
      wire->octets += 2;
      wire->mid_line = false;
      continue;
    }
    wire->after_cr = false;
    if (!wire->mid_line && wire->stuff && *at == '.')
      out[to++] = '.';
    wire->mid_line = true;
    size_t n = span(at, (size_t)(end - at), &cr_at);
    if (n > out_size - to)
      n = out_size - to;
    memcpy(out + to, at, n);
    at += n;
    to += n;
    wire->octets += n;
  }
  *used = (size_t)(at - in);
  return to;
}

size_t smn_wire_end(struct smn_wire *wire, char *out) {
  size_t to = 0;
  if (wire->mid_line) {
    memcpy(out, "\r\n", 2);
    to = 2;
    wire->octets += 2;
    wire->mid_line = false;
  }
  if (wire->stuff) {
    memcpy(out + to, ".\r\n", 3);
    to += 3;
  }
  return to;
}

void smn_wire_count(struct smn_wire *wire, const char *in, size_t in_len) {
  const char *end = in + in_len, *at = in, *cr_at = NULL;
  while (at < end) {
    if (*at == '\r' || *at == '\n') {
      bool pair = *at == '\n' && wire->after_cr;
      wire->after_cr = *at++ == '\r';
      wire->octets += pair ? 0 : 2;
      wire->mid_line = false;
      continue;
    }
    size_t n = span(at, (size_t)(end - at), &cr_at);
    wire->octets += n;
    wire->mid_line = true;
    wire->after_cr = false;
    at += n;
  }
}

void smn_wire_count_end(struct smn_wire *wire) {
  if (wire->mid_line)
    wire->octets += 2;
  wire->mid_line = false;
}
