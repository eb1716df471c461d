/* SPDX-License-Identifier: GPL-3.0-or-later */
/* reply.c - SMTP replies and capabilities.  All input is untrusted.  */
#include "smtp/reply.h"
#include "base/ascii.h"
#include "base/words.h"

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
  reply->complete = reply->broken = reply->greeting = false;
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

/* The code that LINE begins with, 0 if that is none.  */
static int code_of(const char *line, size_t len) {
  if (len < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' ||
      line[1] > '5' || !digit(line[2]))
    return 0;
  return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

static enum smn_kind add_text(struct smn_reply *reply, const char *text,
                              size_t len, struct smn_error *err) {
  if (reply->lines == SMN_REPLY_LINES)
    return smn_fail(err, SMN_PROTOCOL, "a reply of more than %d lines",
                    SMN_REPLY_LINES);
  if ((reply->lines > 0 && !smn_buf_add(&reply->text, "\n", 1)) ||
      !smn_buf_add(&reply->text, text, len))
    return smn_fail(err, SMN_PROTOCOL, "a reply of more than %d octets",
                    SMN_REPLY_MAX);
  reply->lines++;
  return SMN_OK;
}

/* A line whose code is not that of those before it.  A refusal that is followed
   by another, or by what is no reply at all, is still one; only of a greeting
   it is known that some servers think better of it.  */
static enum smn_kind contradiction(struct smn_reply *reply, int code,
                                   const char *line, size_t len,
                                   struct smn_error *err) {
  bool refusal = reply->code >= 400 && (code == 0 || code >= 400);
  bool turned = reply->greeting && reply->code < 300 && code >= 400;
  if (!refusal && !turned) {
    reply->code = 0; /* it means nothing */
    return not_a_reply("the lines of one reply differ in their codes", line,
                       len, err);
  }
  reply->broken = true;
  reply->complete = code == 0;
  if (turned || code / 100 > reply->code / 100) {
    reply->code = code;
    reply->enhanced[0] = '\0';
  }
  return SMN_OK;
}

enum smn_kind smn_reply_line(struct smn_reply *reply, const char *line,
                             size_t len, struct smn_error *err) {
  int code = code_of(line, len);
  bool ends = len == 3 || (len > 3 && line[3] == ' ');
  const char *wrong = code == 0 ? "not a reply" : NULL;
  if (code != 0 && !ends && line[3] != '-')
    wrong = "no space or hyphen after the reply code";
  if (wrong && (reply->lines == 0 || reply->code < 400))
    return not_a_reply(wrong, line, len, err);
  if (wrong)
    code = 0;
  enum smn_kind kind = SMN_OK;
  if (reply->lines > 0 && code != reply->code)
    kind = contradiction(reply, code, line, len, err);
  const size_t prefix = code == 0 ? 0 : len > 3 ? 4 : 3;
  if (kind == SMN_OK)
    kind = add_text(reply, line + prefix, len - prefix, err);
  if (kind != SMN_OK)
    return kind;
  if (reply->lines == 1)
    reply->code = code;
  if (code == reply->code && (reply->lines == 1 || reply->broken) &&
      !reply->enhanced[0])
    find_enhanced(reply, line + prefix, len - prefix);
  reply->complete = reply->complete || ends;
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

/* RFC 4422 3.1.  */
static bool mechanism_name(struct smn_word word) {
  if (word.len < 1 || word.len > 20)
    return false;
  for (size_t i = 0; i < word.len; i++) {
    char c = word.at[i];
    if (!smn_ascii_letter(c) && !digit(c) && c != '-' && c != '_')
      return false;
  }
  return true;
}

static void add_mechanisms(struct smn_capabilities *caps,
                           struct smn_word rest) {
  struct smn_word one;
  while (smn_words_next(&rest, &one)) {
    size_t len = strlen(caps->mechanisms);
    if (!mechanism_name(one) || smn_words_have(caps->mechanisms, one) ||
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
static uint64_t value(struct smn_word number) {
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

static uint64_t next_value(struct smn_word *rest) {
  struct smn_word number;
  smn_words_next(rest, &number);
  return value(number);
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
static void set_limits(struct smn_capabilities *caps, struct smn_word rest) {
  static const struct {
    const char *name;
    size_t offset;
  } limits[] = {
      {"MAILMAX", offsetof(struct smn_capabilities, mail_max)},
      {"RCPTMAX", offsetof(struct smn_capabilities, rcpt_max)},
      {"RCPTDOMAINMAX", offsetof(struct smn_capabilities, rcpt_domain_max)},
  };
  struct smn_word one;
  while (smn_words_next(&rest, &one)) {
    const char *equals = memchr(one.at, '=', one.len);
    if (!equals)
      continue;
    struct smn_word name = {one.at, (size_t)(equals - one.at)};
    struct smn_word number = {equals + 1, one.len - name.len - 1};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
      if (smn_word_is(name, limits[i].name))
        *(uint64_t *)((char *)caps + limits[i].offset) = value(number);
  }
}

static void parse_line(struct smn_capabilities *caps, struct smn_word line) {
  struct smn_word rest = line, keyword;
  smn_words_next(&rest, &keyword);
  for (size_t i = 0; i < FLAGS; i++)
    if (smn_word_is(keyword, flags[i].keyword))
      *flag(caps, i) = true;
  if (smn_word_is(keyword, "SIZE"))
    caps->size_limit = next_value(&rest);
  else if (smn_word_is(keyword, "DELIVERBY"))
    caps->deliverby_min = next_value(&rest);
  else if (smn_word_is(keyword, "FUTURERELEASE"))
    caps->futurerelease_max = next_value(&rest);
  else if (smn_word_is(keyword, "LIMITS"))
    set_limits(caps, rest);
  struct smn_word head = {line.at, line.len < 5 ? line.len : 5};
  if (smn_word_is(keyword, "AUTH"))
    add_mechanisms(caps, rest);
  else if (smn_word_is(head, "AUTH=")) /* as servers wrote it before RFC 2554 */
    add_mechanisms(caps, (struct smn_word){line.at + 5, line.len - 5});
}

bool smn_reply_next_line(const struct smn_reply *reply, size_t *at,
                         const char **line, size_t *len) {
  if (*at >= reply->text.len)
    return false;
  *line = reply->text.data + *at;
  const char *lf = memchr(*line, '\n', reply->text.len - *at);
  *len = lf ? (size_t)(lf - *line) : reply->text.len - *at;
  *at += *len + 1;
  return true;
}

void smn_capabilities_parse(struct smn_capabilities *caps,
                            const struct smn_reply *reply) {
  const char *line;
  size_t at = 0, len;
  memset(caps, 0, sizeof *caps);
  caps->esmtp = true;
  (void)smn_reply_next_line(reply, &at, &line, &len); /* a greeting */
  while (smn_reply_next_line(reply, &at, &line, &len))
    parse_line(caps, (struct smn_word){line, len});
}

void smn_capabilities_avoid(struct smn_capabilities *caps, const char *names) {
  struct smn_word rest = smn_words(names);
  struct smn_word one;
  while (smn_words_next(&rest, &one)) {
    for (size_t i = 0; i < FLAGS; i++)
      if (smn_word_is(one, flags[i].keyword))
        *flag(caps, i) = false;
    if (smn_word_is(one, "SIZE"))
      caps->size_limit = 0;
    if (smn_word_is(one, "LIMITS"))
      caps->mail_max = caps->rcpt_max = caps->rcpt_domain_max = 0;
  }
}
