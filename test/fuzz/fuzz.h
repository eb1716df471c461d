/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz.h - what the targets of libFuzzer share.
   A target is one function that takes any octets; a rule that it finds broken
   ends the program.  replay.c plays the corpora without clang.  */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len);

#define REQUIRE(rule)                                                          \
  do                                                                           \
    if (!(rule)) {                                                             \
      fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #rule);       \
      abort();                                                                 \
    }                                                                          \
  while (0)

/* What is left of an input, taken piece by piece.  */
struct input {
  const uint8_t *at;
  size_t len;
};

static inline unsigned take_octet(struct input *in) {
  if (in->len == 0)
    return 0;
  in->len--;
  return *in->at++;
}

/* The octets up to the next line feed, which is dropped; a copy that ends with
   NUL, to be freed.  */
static inline char *take_line(struct input *in, size_t *len) {
  const uint8_t *lf = in->len ? memchr(in->at, '\n', in->len) : NULL;
  *len = lf ? (size_t)(lf - in->at) : in->len;
  char *line = malloc(*len + 1);
  if (*len)
    memcpy(line, in->at, *len);
  line[*len] = '\0';
  in->at += *len + (lf != NULL);
  in->len -= *len + (lf != NULL);
  return line;
}

/* TEXT is what people may be shown: ended, without control characters.  */
static inline void require_shown(const char *text, size_t size) {
  size_t len = strnlen(text, size);
  REQUIRE(len < size);
  for (size_t i = 0; i < len; i++)
    REQUIRE((unsigned char)text[i] >= ' ' && text[i] != 127);
}

#endif
