/* SPDX-License-Identifier: GPL-3.0-or-later */
/* words.c - the words of a line, between spaces and tabs.  */
#include "base/words.h"
#include "base/ascii.h"

#include <string.h>

struct smn_word smn_words(const char *text) {
  return (struct smn_word){text, text ? strlen(text) : 0};
}

static bool blank(char c) { return c == ' ' || c == '\t'; }

bool smn_words_next(struct smn_word *rest, struct smn_word *word) {
  while (rest->len && blank(*rest->at)) {
    rest->at++;
    rest->len--;
  }
  *word = (struct smn_word){rest->at, 0};
  while (rest->len && !blank(*rest->at)) {
    rest->at++;
    rest->len--;
    word->len++;
  }
  return word->len > 0;
}

bool smn_word_is(struct smn_word word, const char *name) {
  return smn_ascii_same(word.at, word.len, name, strlen(name));
}

bool smn_words_have(const char *list, struct smn_word word) {
  struct smn_word rest = smn_words(list), one;
  while (smn_words_next(&rest, &one))
    if (smn_ascii_same(one.at, one.len, word.at, word.len))
      return true;
  return false;
}
