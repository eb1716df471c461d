/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-wire.c - a message in blocks, and what arrives.
   The first octets of the input say how large the blocks and the pieces of
   output are, and whether dots are doubled.  */
#include "fuzz.h"
#include "mail/wire.h"
#include "naive-wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct input in = {octets, len};
  bool stuff = take_octet(&in) & 1;
  size_t block = 1 + take_octet(&in), room = 4 + take_octet(&in);
  const char *text = (const char *)in.at;
  char *want = malloc(2 * in.len + 8), *got = malloc(2 * in.len + 300);
  size_t size, to = 0, used;
  size_t want_len = naive_wire(text, in.len, stuff, want, &size);
  struct smn_wire wire, counted;
  smn_wire_init(&wire, stuff);
  smn_wire_init(&counted, stuff);
  for (size_t from = 0; from < in.len; from += used) {
    size_t n = in.len - from < block ? in.len - from : block;
    to += smn_wire_encode(&wire, text + from, n, &used, got + to, room);
    REQUIRE(used > 0 && used <= n && to <= 2 * in.len + 2);
    smn_wire_count(&counted, text + from, used);
  }
  to += smn_wire_end(&wire, got + to);
  smn_wire_count_end(&counted);
  REQUIRE(to == want_len && memcmp(got, want, to) == 0);
  REQUIRE(wire.octets == size && counted.octets == size);
  bool eight_bit = false;
  for (size_t i = 0; i < in.len; i++)
    eight_bit |= in.at[i] > 127;
  REQUIRE(counted.eight_bit == eight_bit);
  free(want);
  free(got);
  return 0;
}
