/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ascii.h - letters without regard to case, whatever the locale: keywords,
   mechanisms and hosts are ASCII (RFC 5321 2.4).  Any thread.  */
#ifndef SMN_ASCII_H
#define SMN_ASCII_H

#include <stdbool.h>
#include <stddef.h>

static inline char smn_ascii_upper(char c) {
  return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static inline bool smn_ascii_letter(char c) {
  return smn_ascii_upper(c) >= 'A' && smn_ascii_upper(c) <= 'Z';
}

static inline bool smn_ascii_digit(char c) { return c >= '0' && c <= '9'; }

/* The value of a hexadecimal digit, -1 for anything else.  */
static inline int smn_ascii_hex(char c) {
  char upper = smn_ascii_upper(c);
  return smn_ascii_digit(c)             ? c - '0'
         : upper >= 'A' && upper <= 'F' ? upper - 'A' + 10
                                        : -1;
}

/* The A_LEN octets at A and the B_LEN octets at B are the same word.  */
static inline bool smn_ascii_same(const char *a, size_t a_len, const char *b,
                                  size_t b_len) {
  if (a_len != b_len)
    return false;
  for (size_t i = 0; i < a_len; i++)
    if (smn_ascii_upper(a[i]) != smn_ascii_upper(b[i]))
      return false;
  return true;
}

#endif
