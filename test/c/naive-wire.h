/* SPDX-License-Identifier: GPL-3.0-or-later */
/* naive-wire.h - what RFC 5321 4.5.2 makes of a message, an octet at a time,
   without any thought of blocks.  */
#ifndef NAIVE_WIRE_H
#define NAIVE_WIRE_H

#include <stdbool.h>
#include <stddef.h>

/* Write the LEN octets at IN, as they go to a server, into OUT, which has room
   for 2 * LEN + 5; STUFF: with doubled dots and the end.  Returns the octets,
   *SIZE is what SIZE= counts.  */
static inline size_t naive_wire(const char *in, size_t len, bool stuff,
                                char *out, size_t *size) {
  size_t to = 0, dots = 0;
  bool start = true;
  for (size_t i = 0; i < len; i++) {
    bool end = in[i] == '\r' || in[i] == '\n';
    if (in[i] == '\r' && i + 1 < len && in[i + 1] == '\n')
      i++;
    if (start && in[i] == '.' && stuff) {
      out[to++] = '.';
      dots++;
    }
    out[to++] = end ? '\r' : in[i];
    if (end)
      out[to++] = '\n';
    start = end;
  }
  if (!start) {
    out[to++] = '\r';
    out[to++] = '\n';
  }
  *size = to - dots;
  if (stuff) {
    out[to++] = '.';
    out[to++] = '\r';
    out[to++] = '\n';
  }
  return to;
}

#endif
