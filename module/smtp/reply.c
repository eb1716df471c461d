/* SPDX-License-Identifier: GPL-3.0-or-later */
/* reply.c - SMTP replies and capabilities.  All input is untrusted.  */
#include "smtp/reply.h"
#include "base/ascii.h"

#include <string.h>

static bool digit(char c) { return c >= '0' && c <= '9'; }

void smn_reply_init(struct smn_reply *reply) {
  memset(reply, 0, sizeof *reply);
  smn_buf_init(&reply->text, SMN_REPLY_MAX);
}

void smn_reply_clear(struct smn_reply *reply) {
  smn_buf_clear(&reply->text);
  reply->code = reply->lines = 0;
  reply->enhanced[0] = '\0';
  reply->complete = false;
}

void smn_reply_free(struct smn_reply *reply) { smn_buf_free(&reply->text); }

static enum smn_kind not_a_reply(const char *why, const char *line, size_t len,
                                 struct smn_error *err) {
  char quoted[512];
  smn_quote(quoted, sizeof quoted, line, len);
  return smn_fail(err, SMN_PROTOCOL, "%s: \"%s\"", why, quoted);
}

/* Digits of a number of at most three, 0 if there is none.  */
static size_t number(const char *text, size_t len) {
  size_t n = 0;
  while (n < len && n < 3 && digit(text[n]))
    n++;
  return n;
}

/* RFC 3463 2: class "." subject "." detail, then a space or the end.  */
static void find_enhanced(struct smn_reply *reply, const char *text,
                          size_t len) {
  if (len < 5 || text[0] != '0' + reply->code / 100 || text[1] != '.' ||
      reply->code / 100 == 3)
    return;
  size_t subject = number(text + 2, len - 2);
  size_t at = 2 + subject;
  if (subject == 0 || at >= len || text[at] != '.')
    return;
  size_t detail = number(text + at + 1, len - at - 1);
  size_t end = at + 1 + detail;
  if (detail == 0 || (end < len && text[end] != ' '))
    return;
  memcpy(reply->enhanced, text, end);
  reply->enhanced[end] = '\0';
}

enum smn_kind smn_reply_line(struct smn_reply *reply, const char *line,
                             size_t len, struct smn_error *err) {
  if (len < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' ||
      line[1] > '5' || !digit(line[2]))
    return not_a_reply("not a reply", line, len, err);
  if (len > 3 && line[3] != ' ' && line[3] != '-')
    return not_a_reply("no space or hyphen behind the reply code", line, len,
                       err);
  int code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
  if (reply->lines > 0 && code != reply->code)
    return not_a_reply("the lines of one reply differ in their codes", line,
                       len, err);
  const char *text = len > 3 ? line + 4 : line + len;
  size_t text_len = len > 3 ? len - 4 : 0;
  if (++reply->lines > SMN_REPLY_LINES)
    return smn_fail(err, SMN_PROTOCOL, "a reply of more than %d lines",
                    SMN_REPLY_LINES);
  if ((reply->lines > 1 && !smn_buf_add(&reply->text, "\n", 1)) ||
      !smn_buf_add(&reply->text, text, text_len))
    return smn_fail(err, SMN_PROTOCOL, "a reply of more than %d octets",
                    SMN_REPLY_MAX);
  reply->code = code;
  if (reply->lines == 1)
    find_enhanced(reply, text, text_len);
  reply->complete = len == 3 || line[3] == ' ';
  return SMN_OK;
}

enum smn_kind smn_reply_fail(const struct smn_reply *reply,
                             struct smn_error *err) {
  char quoted[1536];
  smn_quote(quoted, sizeof quoted, reply->text.data ? reply->text.data : "",
            reply->text.len);
  smn_fail(err, SMN_REPLY, "%s", quoted);
  err->code = reply->code;
  memcpy(err->enhanced, reply->enhanced, sizeof err->enhanced);
  return SMN_REPLY;
}

enum smn_kind smn_reply_unexpected(const struct smn_reply *reply,
                                   struct smn_error *err) {
  if (reply->code >= 400)
    return smn_reply_fail(reply, err);
  char quoted[512];
  smn_quote(quoted, sizeof quoted, reply->text.data ? reply->text.data : "",
            reply->text.len);
  smn_fail(err, SMN_PROTOCOL, "reply out of step: %d %s", reply->code, quoted);
  err->code = reply->code;
  return SMN_PROTOCOL;
}

/* Capabilities */

struct word {
  const char *at;
  size_t len;
};

/* The next word of *REST, ended by a space or tab; length 0 at the end.  */
static struct word next_word(struct word *rest) {
  while (rest->len && (*rest->at == ' ' || *rest->at == '\t')) {
    rest->at++;
    rest->len--;
  }
  struct word word = {rest->at, 0};
  while (rest->len && *rest->at != ' ' && *rest->at != '\t') {
    rest->at++;
    rest->len--;
    word.len++;
  }
  return word;
}

static bool same(struct word word, const char *keyword) {
  return smn_ascii_same(word.at, word.len, keyword, strlen(keyword));
}

/* RFC 4422 3.1.  */
static bool mechanism_name(struct word word) {
  if (word.len < 1 || word.len > 20)
    return false;
  for (size_t i = 0; i < word.len; i++) {
    char c = word.at[i];
    if (!smn_ascii_letter(c) && !digit(c) && c != '-' && c != '_')
      return false;
  }
  return true;
}

static bool listed(const char *list, struct word word) {
  struct word rest = {list, strlen(list)};
  for (struct word one = next_word(&rest); one.len; one = next_word(&rest))
    if (smn_ascii_same(one.at, one.len, word.at, word.len))
      return true;
  return false;
}

static void add_mechanisms(struct smn_capabilities *caps, struct word rest) {
  for (struct word one = next_word(&rest); one.len; one = next_word(&rest)) {
    size_t len = strlen(caps->mechanisms);
    if (!mechanism_name(one) || listed(caps->mechanisms, one) ||
        len + one.len + 2 > sizeof caps->mechanisms)
      continue;
    if (len)
      caps->mechanisms[len++] = ' ';
    for (size_t i = 0; i < one.len; i++)
      caps->mechanisms[len++] = smn_ascii_upper(one.at[i]);
    caps->mechanisms[len] = '\0';
  }
}

/* A number; an absurd one is as large as may be, and what is none is 0.  */
static uint64_t value(struct word number) {
  uint64_t n = 0;
  for (size_t i = 0; i < number.len; i++) {
    if (!digit(number.at[i]))
      return 0;
    if (n > (UINT64_MAX - 9) / 10)
      n = UINT64_MAX;
    else
      n = n * 10 + (uint64_t)(number.at[i] - '0');
  }
  return n;
}

static const struct {
  const char *keyword;
  size_t offset;
} flags[] = {
    {"STARTTLS", offsetof(struct smn_capabilities, starttls)},
    {"PIPELINING", offsetof(struct smn_capabilities, pipelining)},
    {"8BITMIME", offsetof(struct smn_capabilities, eightbitmime)},
    {"SMTPUTF8", offsetof(struct smn_capabilities, smtputf8)},
    {"DSN", offsetof(struct smn_capabilities, dsn)},
    {"CHUNKING", offsetof(struct smn_capabilities, chunking)},
    {"BINARYMIME", offsetof(struct smn_capabilities, binarymime)},
    {"REQUIRETLS", offsetof(struct smn_capabilities, requiretls)},
    {"ENHANCEDSTATUSCODES",
     offsetof(struct smn_capabilities, enhancedstatuscodes)},
    {"SIZE", offsetof(struct smn_capabilities, size)},
    {"PIPECONNECT", offsetof(struct smn_capabilities, pipeconnect)},
    {"DELIVERBY", offsetof(struct smn_capabilities, deliverby)},
    {"FUTURERELEASE", offsetof(struct smn_capabilities, futurerelease)},
};

#define FLAGS (sizeof flags / sizeof *flags)

static bool *flag(struct smn_capabilities *caps, size_t i) {
  return (bool *)((char *)caps + flags[i].offset);
}

/* RFC 9422 4: words NAME=NUMBER; unknown ones mean nothing.  */
static void set_limits(struct smn_capabilities *caps, struct word rest) {
  static const struct {
    const char *name;
    size_t offset;
  } limits[] = {
      {"MAILMAX", offsetof(struct smn_capabilities, mail_max)},
      {"RCPTMAX", offsetof(struct smn_capabilities, rcpt_max)},
      {"RCPTDOMAINMAX", offsetof(struct smn_capabilities, rcpt_domain_max)},
  };
  for (struct word one = next_word(&rest); one.len; one = next_word(&rest)) {
    const char *equals = memchr(one.at, '=', one.len);
    if (!equals)
      continue;
    struct word name = {one.at, (size_t)(equals - one.at)};
    struct word number = {equals + 1, one.len - name.len - 1};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
      if (same(name, limits[i].name))
        *(uint64_t *)((char *)caps + limits[i].offset) = value(number);
  }
}

static void parse_line(struct smn_capabilities *caps, struct word line) {
  struct word rest = line;
  struct word keyword = next_word(&rest);
  for (size_t i = 0; i < FLAGS; i++)
    if (same(keyword, flags[i].keyword))
      *flag(caps, i) = true;
  if (same(keyword, "SIZE"))
    caps->size_limit = value(next_word(&rest));
  else if (same(keyword, "DELIVERBY"))
    caps->deliverby_min = value(next_word(&rest));
  else if (same(keyword, "FUTURERELEASE"))
    caps->futurerelease_max = value(next_word(&rest));
  else if (same(keyword, "LIMITS"))
    set_limits(caps, rest);
  struct word head = {line.at, line.len < 5 ? line.len : 5};
  if (same(keyword, "AUTH"))
    add_mechanisms(caps, rest);
  else if (same(head, "AUTH=")) /* as servers wrote it before RFC 2554 */
    add_mechanisms(caps, (struct word){line.at + 5, line.len - 5});
}

void smn_capabilities_parse(struct smn_capabilities *caps,
                            const struct smn_reply *reply) {
  memset(caps, 0, sizeof *caps);
  caps->esmtp = true;
  const char *at = reply->text.data;
  const char *end = at ? at + reply->text.len : NULL;
  for (bool first = true; at && at < end; first = false) {
    const char *lf = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((lf ? lf : end) - at);
    if (!first)
      parse_line(caps, (struct word){at, len});
    at += len + 1;
  }
}

void smn_capabilities_avoid(struct smn_capabilities *caps, const char *names) {
  struct word rest = {names, names ? strlen(names) : 0};
  for (struct word one = next_word(&rest); one.len; one = next_word(&rest)) {
    for (size_t i = 0; i < FLAGS; i++)
      if (same(one, flags[i].keyword))
        *flag(caps, i) = false;
    if (same(one, "SIZE"))
      caps->size_limit = 0;
    if (same(one, "LIMITS"))
      caps->mail_max = caps->rcpt_max = caps->rcpt_domain_max = 0;
  }
}
