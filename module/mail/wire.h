/* SPDX-License-Identifier: GPL-3.0-or-later */
/* wire.h - a message as RFC 5321 4.5.2 wants it on the wire.
   Any newline (LF, CRLF, lone CR) becomes CRLF and a leading dot is doubled,
   whatever the borders of the blocks; NUL and 8-bit octets pass.  No I/O, no
   memory of its own.  */
#ifndef SMN_WIRE_H
#define SMN_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many octets a line may have, without its end (RFC 5322 2.1.1).  */
#define SMN_WIRE_LINE_MAX 998

struct smn_wire {
  bool mid_line;  /* something but a line end came last */
  bool after_cr;  /* a CR came last: an LF now belongs to it */
  bool stuff;     /* double leading dots (DATA); false for BDAT */
  bool eight_bit; /* counted: some octet is above 127 */
  bool
      long_line; /* counted: some line has more than SMN_WIRE_LINE_MAX octets */
  size_t line;   /* counted: octets of the last line so far */
  uint64_t octets; /* size so far as RFC 1870 counts it: with CRLF, without
                      doubled dots and the end */
};

void smn_wire_init(struct smn_wire *wire, bool stuff);

/* Convert from the IN_LEN octets at IN into OUT (OUT_SIZE >= 4 octets).  Stops
   when the input is used up or the output cannot take more; *USED is set to
   the octets of input that were taken.  Returns the octets written.  */
size_t smn_wire_encode(struct smn_wire *wire, const char *in, size_t in_len,
                       size_t *used, char *out, size_t out_size);

/* Write the missing CRLF of an unfinished last line, if any, and with stuff
   the one final "." CRLF, into OUT (at least 5 octets).  Returns the octets
   written.  */
size_t smn_wire_end(struct smn_wire *wire, char *out);

/* Add the IN_LEN octets at IN to wire->octets without writing anything: what
   SIZE= announces; and look for 8-bit octets, for BODY=8BITMIME, and for lines
   that are too long.  Ends by
   smn_wire_count_end, for an unfinished line.  */
void smn_wire_count(struct smn_wire *wire, const char *in, size_t in_len);
void smn_wire_count_end(struct smn_wire *wire);

#endif
