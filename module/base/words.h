/* SPDX-License-Identifier: GPL-3.0-or-later */
/* words.h - the words of a line, between spaces and tabs.
   They point into the line, which is borrowed and may be untrusted.  Any
   thread.  */
#ifndef SMN_WORDS_H
#define SMN_WORDS_H

#include <stdbool.h>
#include <stddef.h>

struct smn_word {
  const char *at;
  size_t len;
};

/* All of the string TEXT; NULL is empty.  */
struct smn_word smn_words(const char *text);

/* Take the next word off *REST into *WORD; false at the end.  */
bool smn_words_next(struct smn_word *rest, struct smn_word *word);

/* WORD is NAME, in any case of ASCII letters; it is one of those in LIST.  */
bool smn_word_is(struct smn_word word, const char *name);
bool smn_words_have(const char *list, struct smn_word word);

#endif
