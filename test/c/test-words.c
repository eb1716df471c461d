/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-words.c - the words of every short line, beside those of strtok.  */
#include "base/words.h"
#include "check.h"

#include <stdlib.h>
#include <strings.h>

#define LONGEST 7

static unsigned long wrong;

static void compare(const char *line) {
  char copy[LONGEST + 1];
  struct smn_word rest = smn_words(line), word;
  snprintf(copy, sizeof copy, "%s", line);
  for (char *want = strtok(copy, " \t"); want; want = strtok(NULL, " \t")) {
    bool found = smn_words_next(&rest, &word);
    wrong += !found || word.len != strlen(want) ||
             memcmp(word.at, want, word.len) != 0 || word.at < line ||
             word.at + word.len > line + strlen(line);
    wrong += !found || !smn_words_have(line, word) ||
             smn_word_is(word, "AB") != (strcasecmp(want, "ab") == 0);
  }
  wrong += smn_words_next(&rest, &word);
  wrong += smn_words_next(&rest, &word);
  wrong += smn_words_have(line, smn_words("c"));
}

int main(void) {
  static const char alphabet[] = " \taB";
  char line[LONGEST + 1] = "";
  struct smn_word rest = smn_words(NULL), word;
  CHECK(!smn_words_next(&rest, &word));
  CHECK(!smn_words_have(NULL, smn_words("a")));
  for (size_t len = 0; len <= LONGEST; len++)
    for (unsigned i = 0; i < 1u << 2 * len; i++) {
      for (size_t at = 0; at < len; at++)
        line[at] = alphabet[i >> 2 * at & 3];
      line[len] = '\0';
      compare(line);
    }
  CHECK_INT(wrong, 0);
  CHECK(smn_words_have("x ab  C", smn_words("c")));
  CHECK(!smn_words_have("x abc", smn_words("ab")));
  return check_done("test-words");
}
