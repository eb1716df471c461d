/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-parameters.c - MAIL and RCPT for everything that a server may offer and
   a message may want. Whatever is offered and wanted is asked for, once, and
   nothing else; what is wanted and not offered is refused here or told, by what
   it is.  REQUIRETLS is left to the dialogues, since it depends on the
   connection.  */
#include "check.h"
#include "smtp/parameters.h"

#include <stdlib.h>
#include <time.h>

enum offer {
  SIZE = 1,
  LIMIT = 2, /* of size, too low */
  EIGHT = 4,
  BINARY = 8,
  CHUNKS = 16,
  UTF8 = 32,
  DSN = 64,
  BY = 128,
  MINIMUM = 256, /* of BY, too high */
  HOLD = 512,
  BRIEF = 1024, /* HOLD, not for so long */
  OFFERS = 2048
};

enum wish {
  EIGHT_BIT = 1,
  RAW = 2,
  REPORT = 4,
  RETURN_BY = 8,
  NOTIFY_BY = 16,
  LATER = 32,
  WISHES = 64
};

/* Addresses, as they are with and without SMTPUTF8; NULL: not at all.  */
static const struct {
  const char *address, *ascii;
} addresses[] = {
    {"a@x.example", "a@x.example"},
    {"a@\xc3\xa4.example", "a@xn--4ca.example"},
    {"\xc3\xa4@x.example", NULL},
    {"", ""},
};
#define ADDRESSES (sizeof addresses / sizeof *addresses)

static struct smn_session session;
static char *recipients[] = {"b+c=d@x.example", NULL};
static unsigned long wrong;

/* What has to stand in a line, a space before each.  */
struct words {
  char text[1024];
  size_t count;
};

static void want(struct words *words, bool is_wanted, const char *word) {
  if (!is_wanted)
    return;
  size_t len = strlen(words->text);
  snprintf(words->text + len, sizeof words->text - len, " %s", word);
  words->count++;
}

/* LINE is COMMAND with WORDS in any order.  HOLDFOR may be a second less.  */
static bool is_line(char *line, const char *command,
                    const struct words *words) {
  size_t len = strlen(command), count = 0;
  if (strncmp(line, command, len) != 0 || (line[len] && line[len] != ' '))
    return false;
  for (char *word = strtok(line + len, " "); word; word = strtok(NULL, " ")) {
    char spaced[300];
    snprintf(spaced, sizeof spaced, " %s", word);
    if (strcmp(word, "HOLDFOR=499") == 0)
      snprintf(spaced, sizeof spaced, " HOLDFOR=500");
    count += strstr(words->text, spaced) != NULL;
    if (!strstr(words->text, spaced))
      return false;
  }
  return count == words->count;
}

static void offer(unsigned offers) {
  session.caps = (struct smn_capabilities){
      .esmtp = true,
      .size = offers & SIZE,
      .size_limit = offers & LIMIT ? 10 : 0,
      .eightbitmime = offers & EIGHT,
      .binarymime = offers & BINARY,
      .chunking = offers & CHUNKS,
      .smtputf8 = offers & UTF8,
      .dsn = offers & DSN,
      .deliverby = offers & BY,
      .deliverby_min = offers & MINIMUM ? 100 : 0,
      .futurerelease = offers & HOLD,
      .futurerelease_max = offers & BRIEF ? 100 : 1000,
  };
}

static struct smn_job wish(unsigned wishes, const char *sender) {
  bool report = wishes & REPORT;
  return (struct smn_job){
      .sender = (char *)(size_t)sender,
      .recipients = recipients,
      .binary = wishes & RAW,
      .chunking = true,
      .wishes = {.notify = report ? "FAILURE,DELAY" : NULL,
                 .ret = report ? "HDRS" : NULL,
                 .envid = report ? "a+b" : NULL,
                 .deliver_by = wishes & RETURN_BY   ? "60;R"
                               : wishes & NOTIFY_BY ? "60;N"
                                                    : NULL,
                 .release = wishes & LATER ? (int64_t)time(NULL) + 500 : 0},
  };
}

/* The message cannot go to this server as it is.  */
static bool impossible(unsigned offers, unsigned wishes, size_t sender) {
  bool size = (offers & SIZE) && (offers & LIMIT);
  bool body = wishes & RAW         ? !(offers & BINARY) || !(offers & CHUNKS)
              : wishes & EIGHT_BIT ? !(offers & EIGHT)
                                   : false;
  bool by = (wishes & (RETURN_BY | NOTIFY_BY)) &&
            (!(offers & BY) || ((wishes & RETURN_BY) && (offers & MINIMUM)));
  bool later = (wishes & LATER) && (!(offers & HOLD) || (offers & BRIEF));
  return size || body || by || later ||
         (!addresses[sender].ascii && !(offers & UTF8));
}

static bool agrees(unsigned offers, unsigned wishes, size_t sender) {
  struct smn_job job = wish(wishes, addresses[sender].address);
  struct smn_result result = {.in_doubt = false};
  const struct smn_task task = {.job = &job, .result = &result};
  const struct smn_content content = {
      .octets = 4711, .eight_bit = wishes & EIGHT_BIT, .raw = wishes & RAW};
  char line[SMN_COMMAND_MAX] = "", command[100];
  struct words words = {.count = 0};
  offer(offers);
  enum smn_kind kind =
      smn_parameters_mail(&session, &task, &content, line, sizeof line);
  if (impossible(offers, wishes, sender))
    return kind == SMN_TOO_LARGE || kind == SMN_UNSUPPORTED;
  bool ascii = addresses[sender].ascii &&
               strcmp(addresses[sender].ascii, addresses[sender].address) == 0;
  snprintf(command, sizeof command, "MAIL FROM:<%s>",
           offers & UTF8 ? addresses[sender].address : addresses[sender].ascii);
  want(&words, offers & SIZE, "SIZE=4711");
  want(&words, wishes & RAW, "BODY=BINARYMIME");
  want(&words, (wishes & EIGHT_BIT) && !(wishes & RAW), "BODY=8BITMIME");
  want(&words, (offers & UTF8) && !ascii, "SMTPUTF8");
  want(&words, (wishes & REPORT) && (offers & DSN), "RET=HDRS");
  want(&words, (wishes & REPORT) && (offers & DSN), "ENVID=a+2Bb");
  want(&words, wishes & RETURN_BY, "BY=60;R");
  want(&words, (wishes & NOTIFY_BY) && !(wishes & RETURN_BY), "BY=60;N");
  want(&words, wishes & LATER, "HOLDFOR=500");
  /* What is left out without harm is told.  */
  bool told = strstr(result.notes, "DSN") != NULL;
  return kind == SMN_OK && told == ((wishes & REPORT) && !(offers & DSN)) &&
         is_line(line, command, &words);
}

static void check_mail(void) {
  for (unsigned offers = 0; offers < OFFERS; offers++)
    for (unsigned wishes = 0; wishes < WISHES; wishes++)
      for (size_t sender = 0; sender < ADDRESSES; sender++)
        if (!agrees(offers, wishes, sender) && wrong++ < 5)
          printf("offers %x, wishes %x, sender %zu\n", offers, wishes, sender);
  CHECK_INT(wrong, 0);
}

static void check_rcpt(void) {
  static const struct {
    const char *address;
    unsigned offers, wishes;
    const char *line; /* NULL: unsupported */
  } cases[] = {
      {"b@x", 0, 0, "RCPT TO:<b@x>"},
      {"b@x", DSN, 0, "RCPT TO:<b@x>"},
      {"b@x", 0, REPORT, "RCPT TO:<b@x>"},
      {"b+c=d@x", DSN, REPORT,
       "RCPT TO:<b+c=d@x> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b+2Bc+3Dd@x"},
      {"\"b c\"@x", DSN, REPORT,
       "RCPT TO:<\"b c\"@x> NOTIFY=FAILURE,DELAY ORCPT=rfc822;\"b+20c\"@x"},
      {"b@\xc3\xa4.example", DSN, REPORT,
       "RCPT TO:<b@xn--4ca.example> NOTIFY=FAILURE,DELAY"},
      {"\xc3\xa4@x", DSN | UTF8, REPORT,
       "RCPT TO:<\xc3\xa4@x> NOTIFY=FAILURE,DELAY"},
      {"\xc3\xa4@x", DSN, REPORT, NULL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_job job = wish(cases[i].wishes, "a@x");
    struct smn_result result = {.in_doubt = false};
    const struct smn_task task = {.job = &job, .result = &result};
    char line[SMN_COMMAND_MAX] = "";
    offer(cases[i].offers);
    CHECK_INT(smn_parameters_rcpt(&session, &task, cases[i].address, line,
                                  sizeof line),
              cases[i].line ? SMN_OK : SMN_UNSUPPORTED);
    if (cases[i].line)
      CHECK_STRING(line, cases[i].line);
  }
}

int main(void) {
  check_mail();
  check_rcpt();
  return check_done("test-parameters");
}
