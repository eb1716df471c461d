/* SPDX-License-Identifier: GPL-3.0-or-later */
/* wire.c - a message as RFC 5321 4.5.2 wants it on the wire.
   The hot path of large mails: spans between line ends are found by memchr and
   moved by memcpy, only line ends and leading dots are looked at singly.  */
#include "mail/wire.h"

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
    size_t n = span(at, (size_t)(end - at), &cr_at);
    if (n > out_size - to)
      n = out_size - to;
    memcpy(out + to, at, n);
    at += n;
    to += n;
    wire->octets += n;
    wire->mid_line = true;
    /* What nearly every line ends with is not worth another turn.  */
    if (at < end && *at == '\n' && out_size - to >= 2) {
      at++;
      out[to++] = '\r';
      out[to++] = '\n';
      wire->octets += 2;
      wire->mid_line = false;
    }
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

/* The octets of a group are looked at without a branch, so that the compiler
   makes vectors of them.  */
#define GROUP 128

struct looks {
  size_t lf;               /* how many */
  unsigned char cr, eight; /* nonzero: there is one; bit 7: there is one */
};

static void look(struct looks *looks, const char *in, size_t len) {
  unsigned char lf = 0, cr = 0, eight = 0; /* GROUP fits into an octet */
  for (size_t i = 0; i < len; i++) {
    lf = (unsigned char)(lf + (in[i] == '\n'));
    cr |= in[i] == '\r';
    eight |= (unsigned char)in[i];
  }
  looks->lf += lf;
  looks->cr |= cr;
  looks->eight |= eight;
}

static void count_line_ends(struct smn_wire *wire, const char *in, size_t len) {
  for (const char *at = in, *end = in + len; at < end; at++) {
    bool pair = *at == '\n' && wire->after_cr;
    bool newline = *at == '\r' || *at == '\n';
    wire->after_cr = *at == '\r';
    wire->octets += pair ? 0 : newline ? 2 : 1;
  }
}

static size_t line_start(const char *in, size_t from, size_t to) {
  while (to > from && in[to - 1] != '\r' && in[to - 1] != '\n')
    to--;
  return to;
}

/* A line that is not too long ends in every SMN_WIRE_LINE_MAX + 1 octets, so
   that only the octets of its last line need to be looked at.  */
static void measure_lines(struct smn_wire *wire, const char *in, size_t len) {
  size_t start = 0;
  while (!wire->long_line && len - start + wire->line > SMN_WIRE_LINE_MAX) {
    size_t next =
        line_start(in, start, start + SMN_WIRE_LINE_MAX + 1 - wire->line);
    wire->long_line = next == start;
    wire->line = 0;
    start = next;
  }
  size_t last = line_start(in, start, len);
  wire->line = last > start ? len - last : wire->line + (len - start);
}

void smn_wire_count(struct smn_wire *wire, const char *in, size_t in_len) {
  struct looks looks = {.lf = 0};
  size_t at = 0;
  if (in_len == 0)
    return;
  for (; in_len - at >= GROUP; at += GROUP)
    look(&looks, in + at, GROUP);
  look(&looks, in + at, in_len - at);
  if (looks.cr || wire->after_cr)
    count_line_ends(wire, in, in_len);
  else
    wire->octets += in_len + looks.lf;
  wire->eight_bit = wire->eight_bit || looks.eight > 127;
  if (!wire->long_line)
    measure_lines(wire, in, in_len);
  wire->mid_line = in[in_len - 1] != '\r' && in[in_len - 1] != '\n';
}

void smn_wire_count_end(struct smn_wire *wire) {
  if (wire->mid_line)
    wire->octets += 2;
  wire->mid_line = false;
}
