/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-token.c - the JSON in which a server refuses a token.  */
#include "fuzz.h"
#include "sasl/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct smn_buf words;
  char *json = malloc(len + 1); /* a NUL follows, as in a challenge */
  if (len)
    memcpy(json, octets, len);
  json[len] = '\0';
  smn_buf_init(&words, 200);
  smn_token_words(json, len, &words);
  REQUIRE(words.len <= 200);
  smn_buf_free(&words);
  free(json);
  return 0;
}
