/* SPDX-License-Identifier: GPL-3.0-or-later */
/* needle.h - what must not be found in memory, disguised, not to be found
   itself.  */
#ifndef NEEDLE_H
#define NEEDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define DISGUISE 0x55

struct needle {
  unsigned char octets[512];
  size_t len;
};

/* LEN, at most 512, octets of TEXT.  */
static inline void disguise(struct needle *needle, const void *text,
                            size_t len) {
  needle->len = len;
  for (size_t i = 0; i < len; i++)
    needle->octets[i] = ((const unsigned char *)text)[i] ^ DISGUISE;
}

/* NEEDLE stands in the LEN octets at AT.  */
static inline bool holds(const unsigned char *at, size_t len,
                         const struct needle *needle) {
  const unsigned char *end = at + len;
  while ((size_t)(end - at) >= needle->len &&
         (at = memchr(at, needle->octets[0] ^ DISGUISE,
                      (size_t)(end - at) - needle->len + 1))) {
    size_t n = 0;
    while (n < needle->len && (at[n] ^ DISGUISE) == needle->octets[n])
      n++;
    if (n == needle->len)
      return true;
    at++;
  }
  return false;
}

#endif
