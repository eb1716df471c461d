/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-wire.c - line ends, dots and octet counts, over all block borders.  */
#include "check.h"
#include "mail/wire.h"

#include <stdlib.h>

struct text {
  const char *at;
  size_t len;
};

#define TEXT(literal)                                                          \
  { literal, sizeof literal - 1 }

static const struct {
  struct text in, out;
  uint64_t octets;
} cases[] = {
    {TEXT(""), TEXT(".\r\n"), 0},
    {TEXT("a"), TEXT("a\r\n.\r\n"), 3},
    {TEXT("a\n"), TEXT("a\r\n.\r\n"), 3},
    {TEXT("a\r\n"), TEXT("a\r\n.\r\n"), 3},
    {TEXT("a\r"), TEXT("a\r\n.\r\n"), 3},
    {TEXT("\n"), TEXT("\r\n.\r\n"), 2},
    {TEXT("\r"), TEXT("\r\n.\r\n"), 2},
    {TEXT("\r\r\n"), TEXT("\r\n\r\n.\r\n"), 4},
    {TEXT("\n\r"), TEXT("\r\n\r\n.\r\n"), 4},
    {TEXT("a\r\nb\nc\rd"), TEXT("a\r\nb\r\nc\r\nd\r\n.\r\n"), 12},
    {TEXT("."), TEXT("..\r\n.\r\n"), 3},
    {TEXT(".\n"), TEXT("..\r\n.\r\n"), 3},
    {TEXT("..\n"), TEXT("...\r\n.\r\n"), 4},
    {TEXT("a.\n.b\n"), TEXT("a.\r\n..b\r\n.\r\n"), 8},
    {TEXT("a\n.\nMAIL FROM:<x>\n"), TEXT("a\r\n..\r\nMAIL FROM:<x>\r\n.\r\n"),
     21},
    {TEXT("a\r.\rRSET\r"), TEXT("a\r\n..\r\nRSET\r\n.\r\n"), 12},
    {TEXT("a\r\n.\rRSET"), TEXT("a\r\n..\r\nRSET\r\n.\r\n"), 12},
    {TEXT("a\n.\r\nRSET"), TEXT("a\r\n..\r\nRSET\r\n.\r\n"), 12},
    {TEXT("a\0b\n\0"), TEXT("a\0b\r\n\0\r\n.\r\n"), 8},
    {TEXT("\xff\x80.\n"), TEXT("\xff\x80.\r\n.\r\n"), 5},
};

/* Convert IN in blocks of STEP octets into pieces of ROOM octets.  */
static size_t convert(struct text in, size_t step, size_t room, char *out,
                      uint64_t *octets) {
  struct smn_wire wire;
  size_t to = 0;
  smn_wire_init(&wire, true);
  for (size_t from = 0; from < in.len;) {
    size_t n = in.len - from < step ? in.len - from : step, used = 0;
    to += smn_wire_encode(&wire, in.at + from, n, &used, out + to, room);
    from += used;
  }
  to += smn_wire_end(&wire, out + to);
  *octets = wire.octets;
  return to;
}

static uint64_t count(struct text in, size_t step) {
  struct smn_wire wire;
  smn_wire_init(&wire, true);
  for (size_t from = 0; from < in.len; from += step)
    smn_wire_count(&wire, in.at + from,
                   in.len - from < step ? in.len - from : step);
  smn_wire_count_end(&wire);
  return wire.octets;
}

/* Lines of 998 octets and of 999, in blocks of any size.  */
static void check_long_lines(void) {
  static const char *const ends[] = {"\n", "\r\n", "\r"};
  static const size_t steps[] = {1, 2, 7, 997, 998, 999, 1000, 4096};
  char in[4096];
  for (size_t e = 0; e < 3; e++)
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++)
      for (size_t before = 0; before < 3; before++)
        for (size_t len = 997; len < 1001; len++) {
          size_t to = 0;
          for (size_t i = 0; i < before; i++, to += 999) {
            memset(in + to, 'x', 998);
            in[to + 998] = ends[e][0];
          }
          memset(in + to, 'y', len);
          to += len;
          memcpy(in + to, ends[e], strlen(ends[e]));
          to += strlen(ends[e]);
          struct smn_wire wire;
          smn_wire_init(&wire, true);
          for (size_t from = 0; from < to; from += steps[s])
            smn_wire_count(&wire, in + from,
                           to - from < steps[s] ? to - from : steps[s]);
          smn_wire_count_end(&wire);
          CHECK(wire.long_line == (len > 998));
        }
}

static void check_table(void) {
  char out[128];
  uint64_t octets = 0;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (size_t step = 1; step <= cases[i].in.len + 1; step++) {
      for (size_t room = 4; room < 8; room++) {
        size_t len = convert(cases[i].in, step, room, out, &octets);
        CHECK(len == cases[i].out.len && !memcmp(out, cases[i].out.at, len));
        CHECK_INT(octets, cases[i].octets);
      }
      CHECK_INT(count(cases[i].in, step), cases[i].octets);
    }
}

/* What RFC 5321 says, an octet at a time.  */
static size_t reference(struct text in, char *out) {
  size_t to = 0;
  bool start = true;
  for (size_t i = 0; i < in.len; i++) {
    char c = in.at[i];
    if (c == '\r' || c == '\n') {
      if (c == '\n' && i > 0 && in.at[i - 1] == '\r')
        continue;
      out[to++] = '\r';
      out[to++] = '\n';
      start = true;
    } else {
      if (start && c == '.')
        out[to++] = '.';
      out[to++] = c;
      start = false;
    }
  }
  if (!start) {
    out[to++] = '\r';
    out[to++] = '\n';
  }
  memcpy(out + to, ".\r\n", 3);
  return to + 3;
}

static void check_random(void) {
  static const char alphabet[] = "\r\n.\n.a\0b\xffxyz";
  static char in[4096], out[16384], want[16384];
  unsigned seed = 4711;
  for (int round = 0; round < 400; round++) {
    size_t len = (size_t)round * 7 % sizeof in;
    for (size_t i = 0; i < len; i++) {
      seed = seed * 1103515245 + 12345;
      in[i] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
    }
    struct text text = {in, len};
    uint64_t octets = 0;
    size_t want_len = reference(text, want);
    size_t got = convert(text, 1 + seed % 97, 4 + seed % 61, out, &octets);
    CHECK(got == want_len && !memcmp(out, want, got));
    CHECK_INT(count(text, 1 + seed % 89), octets);
  }
}

static void check_unstuffed(void) {
  struct smn_wire wire;
  char out[32];
  size_t used = 0;
  smn_wire_init(&wire, false);
  size_t n = smn_wire_encode(&wire, ".\n.", 3, &used, out, sizeof out);
  n += smn_wire_end(&wire, out + n);
  CHECK(n == 6 && !memcmp(out, ".\r\n.\r\n", 6));
  CHECK_INT(wire.octets, 6);
}

int main(void) {
  check_table();
  check_long_lines();
  check_random();
  check_unstuffed();
  return check_done("test-wire");
}
