/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-redact.c - no secret comes out of the one place that hides them.
   The first line is the secret, the rest the text of a server, in which the
   secret stands wherever there is a 0x01.  */
#include "base/redact.h"
#include "fuzz.h"

#include <stdbool.h>

/* Letters are found in any case, so it suffices to look for it as it is.  */
static bool holds(const char *text, size_t len, const char *secret,
                  size_t secret_len) {
  for (size_t i = 0; i + secret_len <= len; i++)
    if (memcmp(text + i, secret, secret_len) == 0)
      return true;
  return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct input in = {octets, len};
  struct smn_buf needles;
  size_t secret_len, to = 0, count = 0;
  char *secret = take_line(&in, &secret_len);
  for (size_t i = 0; i < in.len; i++)
    count += in.at[i] == 1;
  size_t size = in.len + count * (secret_len + 1) + 1;
  if (secret_len > 200 || size > 100000) {
    free(secret);
    return 0;
  }
  char *text = malloc(size), *out = malloc(8 * size + 100);
  for (size_t i = 0; i < in.len; i++)
    if (in.at[i] == 1) {
      memcpy(text + to, secret, secret_len);
      to += secret_len;
    } else
      text[to++] = (char)in.at[i];
  REQUIRE(smn_buf_init_secret(&needles, 100000));
  smn_redact_add(&needles, secret, secret_len);
  size_t out_len = smn_redact(&needles, text, to, false, out, 8 * size + 100);
  REQUIRE(out_len <= 8 * size + 100);
  /* One that reads like a word may stand within a word: redact.h.  */
  bool strong = secret_len >= 16;
  /* What is put in its place may be a part of it.  */
  if (strong && !memchr(secret, '<', secret_len))
    REQUIRE(!holds(out, out_len, secret, secret_len));
  smn_buf_free(&needles);
  free(secret);
  free(text);
  free(out);
  return 0;
}
