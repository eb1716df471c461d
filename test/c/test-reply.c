/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-reply.c - replies, enhanced status codes and capabilities.  */
#include "check.h"
#include "net/conn.h"
#include "smtp/reply.h"

/* Feed LINES, separated by '\n'; stops at the first that is refused.  */
static enum smn_kind feed(struct smn_reply *reply, const char *lines,
                          struct smn_error *err) {
  enum smn_kind kind = SMN_OK;
  smn_reply_clear(reply);
  while (*lines && kind == SMN_OK) {
    size_t len = strcspn(lines, "\n");
    kind = smn_reply_line(reply, lines, len, err);
    lines += len + (lines[len] == '\n');
  }
  return kind;
}

static const struct {
  const char *lines;
  int code; /* 0: refused */
  const char *enhanced, *text;
  bool complete;
} replies[] = {
    {"220 hello", 220, "", "hello", true},
    {"250", 250, "", "", true},
    {"250 ", 250, "", "", true},
    {"250-a\n250 b", 250, "", "a\nb", true},
    {"250-a\n250-", 250, "", "a\n", false},
    {"250-a\n250", 250, "", "a\n", true},
    {"550 5.7.1 no", 550, "5.7.1", "5.7.1 no", true},
    {"550 5.7.1", 550, "5.7.1", "5.7.1", true},
    {"550 5.700.123 no", 550, "5.700.123", "5.700.123 no", true},
    {"550 4.7.1 no", 550, "", "4.7.1 no", true},
    {"550 5.7.1x no", 550, "", "5.7.1x no", true},
    {"550 5.7 no", 550, "", "5.7 no", true},
    {"550 5.1234.1 no", 550, "", "5.1234.1 no", true},
    {"250 2.example", 250, "", "2.example", true},
    {"354 3.0.0 go", 354, "", "3.0.0 go", true},
    {"421-4.3.2 a\n421 4.3.2 b", 421, "4.3.2", "4.3.2 a\n4.3.2 b", true},
    {"599 x", 0, "", "", false},
    {"199 x", 0, "", "", false},
    {"660 x", 0, "", "", false},
    {"25", 0, "", "", false},
    {"", 0, "", "", false},
    {"2500", 0, "", "", false},
    {"250x", 0, "", "", false},
    {" 250 x", 0, "", "", false},
    {"-50 x", 0, "", "", false},
    {"HTTP/1.1 400 Bad", 0, "", "", false},
    {"250-a\n550 b", 0, "", "", false},
    {"250-a\n251 b", 0, "", "", false},
    {"250\tx", 0, "", "", false},
    /* A refusal stays one, whatever follows, and the more lasting code counts;
       but what says that all is well contradicts it.  */
    {"550-5.1.1 a\n450 b", 550, "5.1.1", "5.1.1 a\nb", true},
    {"450-4.1.1 a\n550 5.2.2 b", 550, "5.2.2", "4.1.1 a\n5.2.2 b", true},
    {"450-a\n550-5.2.2 b\n450 c", 550, "5.2.2", "a\n5.2.2 b\nc", true},
    {"450-a\n550-5.2.2 b", 550, "5.2.2", "a\n5.2.2 b", false},
    {"550-a\nwhat", 550, "", "a\nwhat", true},
    {"550-a\n55", 550, "", "a\n55", true},
    {"550-a\n550x", 550, "", "a\n550x", true},
    {"550-a\n250 b", 0, "", "", false},
    {"550-a\n354 b", 0, "", "", false},
    {"250-a\nwhat", 0, "", "", false},
    {"250-a\n450 b", 0, "", "", false},
};

/* The same of a greeting, where a refusal may still come.  */
static void check_greeting(struct smn_reply *reply, struct smn_error *err) {
  static const struct {
    const char *lines[3];
    int code; /* 0: refused */
  } greetings[] = {
      {{"220-a", "521 b"}, 521}, {{"220-a", "421-b", "421 c"}, 421},
      {{"220-a", "220 b"}, 220}, {{"220-a", "250 b"}, 0},
      {{"220-a", "what"}, 0},
  };
  for (size_t i = 0; i < sizeof greetings / sizeof *greetings; i++) {
    enum smn_kind kind = SMN_OK;
    smn_reply_clear(reply);
    reply->greeting = true;
    for (int n = 0; n < 3 && greetings[i].lines[n] && kind == SMN_OK; n++)
      kind = smn_reply_line(reply, greetings[i].lines[n],
                            strlen(greetings[i].lines[n]), err);
    CHECK_INT(kind, greetings[i].code ? SMN_OK : SMN_PROTOCOL);
    if (kind != SMN_OK)
      continue;
    CHECK_INT(reply->code, greetings[i].code);
    CHECK(reply->complete);
    CHECK_INT(reply->broken, greetings[i].code >= 400);
  }
}

static void check_replies(struct smn_reply *reply, struct smn_error *err) {
  for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
    enum smn_kind kind = feed(reply, replies[i].lines, err);
    if (replies[i].lines[0] == '\0')
      kind = smn_reply_line(reply, "", 0, err);
    CHECK_INT(kind, replies[i].code ? SMN_OK : SMN_PROTOCOL);
    if (kind != SMN_OK)
      continue;
    CHECK_INT(reply->code, replies[i].code);
    CHECK_STRING(reply->enhanced, replies[i].enhanced);
    CHECK_STRING(reply->text.data, replies[i].text);
    CHECK_INT(reply->complete, replies[i].complete);
  }
}

static void check_limits(struct smn_reply *reply, struct smn_error *err) {
  static char line[SMN_LINE_MAX];
  enum smn_kind kind = SMN_OK;
  smn_reply_clear(reply);
  for (int i = 0; i < SMN_REPLY_LINES; i++)
    kind = smn_reply_line(reply, "250-x", 5, err);
  CHECK_INT(kind, SMN_OK);
  CHECK_INT(smn_reply_line(reply, "250 x", 5, err), SMN_PROTOCOL);
  memset(line, 'x', sizeof line);
  memcpy(line, "250-", 4);
  smn_reply_clear(reply);
  int taken = 0;
  while (smn_reply_line(reply, line, sizeof line, err) == SMN_OK)
    taken++;
  CHECK_INT(taken, SMN_REPLY_MAX / SMN_LINE_MAX);
  CHECK(reply->text.len <= SMN_REPLY_MAX);
}

static void check_errors(struct smn_reply *reply, struct smn_error *err) {
  CHECK_INT(smn_reply_line(reply, "a\0\x1b[2J", 6, err), SMN_PROTOCOL);
  CHECK(strstr(err->text, "a\\x00\\x1b[2J") != NULL);
  feed(reply, "550-5.1.1 no\n550 such\tuser", err);
  CHECK_INT(smn_reply_fail(reply, err), SMN_REPLY);
  CHECK_INT(err->code, 550);
  CHECK_STRING(err->enhanced, "5.1.1");
  CHECK_STRING(err->text, "5.1.1 no\\nsuch\\tuser");
}

static const struct {
  const char *lines;
  bool starttls, pipelining, size;
  uint64_t limit;
  const char *mechanisms;
} offers[] = {
    {"250 x", false, false, false, 0, ""},
    {"250 STARTTLS", false, false, false, 0, ""},
    {"250-x\n250 STARTTLS", true, false, false, 0, ""},
    {"250-x\n250-starttls\n250 PipeLining", true, true, false, 0, ""},
    {"250-x\n250 STARTTLSX", false, false, false, 0, ""},
    {"250-x\n250 SIZE", false, false, true, 0, ""},
    {"250-x\n250 SIZE 0", false, false, true, 0, ""},
    {"250-x\n250 size 35882577", false, false, true, 35882577, ""},
    {"250-x\n250 SIZE 12x", false, false, true, 0, ""},
    {"250-x\n250 SIZE 99999999999999999999999", false, false, true, UINT64_MAX,
     ""},
    {"250-x\n250 AUTH PLAIN LOGIN", false, false, false, 0, "PLAIN LOGIN"},
    {"250-x\n250 auth plain  login ", false, false, false, 0, "PLAIN LOGIN"},
    {"250-x\n250 AUTH=PLAIN LOGIN", false, false, false, 0, "PLAIN LOGIN"},
    {"250-x\n250-AUTH PLAIN\n250 AUTH=PLAIN CRAM-MD5", false, false, false, 0,
     "PLAIN CRAM-MD5"},
    {"250-x\n250 AUTH PL@IN abcdefghijklmnopqrstuv X_Y-1", false, false, false,
     0, "X_Y-1"},
    {"250-x\n250 AUTH", false, false, false, 0, ""},
    {"250-x\n250 AUTHX PLAIN", false, false, false, 0, ""},
};

static void check_capabilities(struct smn_reply *reply, struct smn_error *err) {
  struct smn_capabilities caps;
  for (size_t i = 0; i < sizeof offers / sizeof *offers; i++) {
    feed(reply, offers[i].lines, err);
    memset(&caps, 0xff, sizeof caps);
    smn_capabilities_parse(&caps, reply);
    CHECK_INT(caps.starttls, offers[i].starttls);
    CHECK_INT(caps.pipelining, offers[i].pipelining);
    CHECK_INT(caps.size, offers[i].size);
    CHECK_INT(caps.size_limit, offers[i].limit);
    CHECK_STRING(caps.mechanisms, offers[i].mechanisms);
    CHECK(!caps.chunking && !caps.dsn && !caps.smtputf8);
  }
}

int main(void) {
  struct smn_reply reply;
  struct smn_error err = {.kind = SMN_OK};
  smn_reply_init(&reply);
  check_greeting(&reply, &err);
  check_replies(&reply, &err);
  check_limits(&reply, &err);
  check_errors(&reply, &err);
  check_capabilities(&reply, &err);
  smn_reply_free(&reply);
  return check_done("test-reply");
}
