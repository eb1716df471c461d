/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rules.c - the model: what the commands mean, and which of them may come.
   The rules of RFC 5321, 2920, 3030, 2033, 3207, 1870 and 9422, as far as a
   client has to keep them; and what the server knows when it has taken a
   message.  */
#include "server-inside.h"

#include "judge.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is said of the order of commands when QUIT comes.  */
#define AT_QUIT PLACES

/* Lines that are no commands, until the server leaves.  */
#define ERRORS_MAX 20

#define IDLE_MS 2000 /* after which a connection has been idle */

/* Acts */

const struct act *server_act(enum place place) {
  static const struct act none;
  const struct act *found = &none;
  const struct plan *plan = truths.plan;
  for (unsigned i = 0; i < plan->acts; i++)
    if (plan->act[i].place == place && plan->act[i].nth == model.reached[place])
      found = &plan->act[i];
  model.reached[place]++;
  return found;
}

static void lie(struct conn *c) {
  c->lied = true;
  if (c->mail_job >= 0)
    truths.job[c->mail_job].weak = true;
}

/* What the server means, when it would say GOOD.  */
static int meaning(const struct act *act, int good) {
  switch (act->kind) {
  case ACT_REFUSE:
  case ACT_ODD_REFUSAL:
    return act->code;
  case ACT_LEAVE:
    return act->arg & 4 ? 521 : 421;
  case ACT_CLOSE:
  case ACT_CUT:
  case ACT_SILENCE:
  case ACT_CODE:
  case ACT_JUNK_INSTEAD:
  case ACT_NO_REPLY:
  case ACT_MISMATCH:
  case ACT_LONG:
    return act->arg & 1 ? 554 : good;
  default:
    return good;
  }
}

/* Faults of files */

static void change_file(unsigned j) {
  char name[700];
  size_t len;
  char *text = plan_content(truths.plan, j, 1, &len);
  snprintf(name, sizeof name, "%s/j%u/message", model.folder, j);
  int fd = open(name, O_WRONLY | O_CLOEXEC);
  if (fd >= 0 && (ftruncate(fd, (off_t)len) != 0 ||
                  pwrite(fd, text, len, 0) != (ssize_t)len))
    abort();
  if (fd >= 0)
    close(fd);
  free(text);
}

static void reach(struct conn *c, enum place place) {
  char name[700], gone[700];
  if (c->mail_job < 0)
    return;
  unsigned j = (unsigned)c->mail_job;
  const struct plan_job *job = &truths.plan->job[j];
  if (job->fault_at != place || model.faulted[j] ||
      model.fault_seen[j]++ != job->fault_nth)
    return;
  switch (job->fault) {
  case FILE_SHRINKS:
  case FILE_GROWS:
  case FILE_CHANGES:
    change_file(j);
    break;
  case FILE_ENTRY_GOES:
    snprintf(name, sizeof name, "%s/j%u", model.folder, j);
    snprintf(gone, sizeof gone, "%s/j%u.gone", model.folder, j);
    if (rename(name, gone) != 0)
      return;
    break;
  case FILE_NO_SYNC:
    model.sync_errno = EIO;
    break;
  default:
    return;
  }
  model.faulted[j] = true;
  note("-- the file of job %u changes", j);
}

/* Replies */

/* CODE before each line of TEXT.  */
static char *format(int code, const char *text) {
  char *out = malloc(strlen(text) + 6 * 64 + 16), *to = out;
  while (*text) {
    size_t len = strcspn(text, "\n");
    bool last = !text[len] || !text[len + 1];
    to += sprintf(to, "%03d%c%.*s\r\n", code, last ? ' ' : '-', (int)len, text);
    text += len + (text[len] == '\n');
  }
  return out;
}

static const char *junk(unsigned arg) {
  static const char *const texts[] = {
      "garbage\r\n", "\r\n",        "25\r\n",     "250-more\r\n", "999 x\r\n",
      "250\tx\r\n",  "abc def\r\n", "354 go\r\n", "\x1b[0m\r\n",  "-1 x\r\n"};
  return texts[arg % 10];
}

/* One of those lines, which may be the begin of a longer reply.  */
static struct unit *queue_junk(struct conn *c, unsigned arg) {
  const char *line = junk(arg);
  struct unit *u = server_queue(c, line, strlen(line));
  u->counts = strncmp(line, "250-", 4) != 0;
  return u;
}

static struct unit *queue_text(struct conn *c, int code, const char *text) {
  char echo[400];
  if (code >= 400 && truths.plan->echo) {
    snprintf(echo, sizeof echo,
             "%.200s\nS3cret-pw UzNjcmV0LXB3 AHVzZXIAUzNjcmV0LXB3", text);
    text = echo;
  }
  char *whole = format(code, text);
  struct unit *u = server_queue(c, whole, strlen(whole));
  free(whole);
  return u;
}

/* Something that nobody has asked for.  */
static struct unit *queue_extra(struct conn *c, const struct act *act) {
  lie(c);
  struct unit *u = act->kind == ACT_JUNK ? queue_junk(c, act->arg)
                                         : queue_text(c, act->code, "unasked");
  u->octetwise = false;
  u->lie = true;
  return u;
}

/* The reply CODE TEXT of a server that lies as ACT says.  */
static struct unit *answer_lie(struct conn *c, const struct act *act, int code,
                               const char *text) {
  static char wide[9000];
  struct unit *u;
  lie(c);
  switch (act->kind) {
  case ACT_EXTRA_BEFORE:
    queue_extra(c, act)->with_next = true;
    u = queue_text(c, code, text);
    u->octetwise = false;
    break;
  case ACT_JUNK_INSTEAD:
    u = queue_junk(c, act->arg);
    break;
  case ACT_NO_REPLY:
    return NULL;
  case ACT_MISMATCH:
    u = queue_text(c, code, "one\ntwo");
    memcpy(strchr(u->octets, '\n') + 1, act->arg & 2 ? "250" : "550", 3);
    break;
  case ACT_LONG:
    memset(wide, 'w', sizeof wide - 1);
    u = queue_text(c, code, wide);
    break;
  default:
    u = queue_text(c, act->code, text);
  }
  u->lie = true;
  return u;
}

/* The reply CODE TEXT, or less of it, and then the end.  */
static struct unit *answer_last(struct conn *c, const struct act *act, int code,
                                const char *text) {
  bool whole = act->kind == ACT_LEAVE || act->kind == ACT_CLOSE_AFTER;
  struct unit *u = whole || act->kind == ACT_CUT ? queue_text(c, code, text)
                                                 : server_queue(c, "", 0);
  u->close = true;
  u->reset = act->kind != ACT_CUT && act->arg & 8;
  if (act->kind == ACT_CUT)
    u->cut = 1 + act->arg % (unsigned)u->len;
  return whole ? u : NULL;
}

/* A refusal whose second line contradicts it: the connection is out of step,
   but nothing false is said of the message.  By LMTP nobody could tell for
   which recipient.  */
static struct unit *answer_oddly(struct conn *c, const struct act *act,
                                 int code) {
  struct unit *u = queue_text(c, code, act->arg & 2 ? "no\nway" : "no\nno");
  memcpy(strchr(u->octets, '\n') + 1, act->arg & 4 ? "451" : "xyz", 3);
  u->lie = truths.plan->lmtp;
  if (u->lie)
    lie(c);
  c->lied = true;
  return u;
}

/* The reply CODE TEXT, in the shape that ACT gives it; NULL if it does not
   leave whole.  */
static struct unit *answer(struct conn *c, const struct act *act, int code,
                           const char *text) {
  char lines[400];
  struct unit *u;
  if (act->kind == ACT_REFUSE && (code == 421 || code == 521))
    c->untold = true; /* and yet it goes on */
  if (c->closed)
    return NULL;
  switch (act->kind) {
  case ACT_NONE:
  case ACT_REFUSE:
  case ACT_INJECT:
    return queue_text(c, code, text);
  case ACT_LEAVE:
  case ACT_CLOSE_AFTER:
  case ACT_CLOSE:
  case ACT_CUT:
    return answer_last(c, act, code, text);
  case ACT_SILENCE:
    server_queue(c, "", 0)->due_ms = WORLD_NEVER;
    return NULL;
  case ACT_DELAY:
    u = queue_text(c, code, text);
    if (u->due_ms != WORLD_NEVER)
      u->due_ms += act->arg % (act->arg & 1 ? 9000 : 400000);
    return u;
  case ACT_LINES:
    snprintf(lines, sizeof lines, "one\n\n%.300s", text);
    return queue_text(c, code, lines);
  case ACT_ODD_REFUSAL:
    return answer_oddly(c, act, code);
  case ACT_EXTRA:
  case ACT_JUNK:
    u = queue_text(c, code, text);
    u->with_next = true;
    u->octetwise = false;
    (void)queue_extra(c, act);
    return u;
  default:
    return answer_lie(c, act, code, text);
  }
}

static void owe(struct conn *c, enum place place) {
  if (c->owed < OWED_MAX)
    c->kinds[c->owed] = (unsigned char)place;
  c->owed++;
}

void server_greet(struct conn *c) {
  const struct act *act = server_act(AT_GREETING);
  int code = meaning(act, 220);
  owe(c, AT_GREETING);
  c->early = model.early[c->encrypted];
  c->refuses = code != 220;
  (void)answer(c, act, code, "server.example ready");
}

/* 421 to nobody, and what else comes by itself.  */
void server_idle(struct conn *c) {
  const enum act_kind kind = c->idle_kind;
  const struct act extra = {.kind = kind == ACT_JUNK ? ACT_JUNK : ACT_EXTRA,
                            .code = 250};
  struct unit *u;
  c->idle_kind = ACT_NONE;
  if (kind < ACT_FIRST_LIE && (c->units || c->owed != c->emitted))
    return; /* not idle any more */
  switch (kind) {
  case ACT_CLOSE:
  case ACT_CLOSE_AFTER:
  case ACT_CUT:
    server_close(c, false);
    break;
  case ACT_SILENCE:
    c->silent = true;
    break;
  case ACT_REFUSE:
  case ACT_LEAVE:
  case ACT_DELAY:
  case ACT_LINES:
  case ACT_ODD_REFUSAL:
    u = queue_text(c, 421, "idle for too long");
    u->close = true;
    break;
  default:
    (void)queue_extra(c, &extra);
  }
}

/* Order */

static bool early_allowed(const struct conn *c) {
  return c->early && (c->encrypted || truths.plan->plain_stream);
}

/* What the client may go by when it has seen SEEN replies.  */
static const struct offer *relied(const struct conn *c, unsigned seen) {
  static const struct offer nothing;
  if (c->offer && seen > c->hello)
    return c->offer;
  return c->offer && early_allowed(c) ? c->early
         : c->offer                   ? c->offer
                                      : &nothing;
}

static bool may_lead(unsigned kind, bool early) {
  switch (kind) {
  case AT_MAIL:
  case AT_RCPT:
  case AT_RSET:
  case AT_CHUNK:
  case AT_END:
    return true;
  case AT_GREETING:
  case AT_EHLO:
    return early;
  default:
    return false;
  }
}

/* A command of PLACE has left when SEEN replies could have been seen.  */
static void check_turn(struct conn *c, enum place place, unsigned seen) {
  if (place != AT_QUIT && seen > c->owed)
    broken("%u: a command or an end of data (%s) leaves although a reply that "
           "nobody asked for is there",
           c->number, place_names[place]);
  if (c->lied || seen >= c->owed || (place == AT_QUIT && c->closed))
    return;
  bool early = early_allowed(c);
  bool may = place == AT_MAIL || place == AT_RCPT || place == AT_DATA ||
             place == AT_RSET || place == AT_CHUNK || place == AT_QUIT ||
             ((place == AT_EHLO || place == AT_AUTH) && early);
  may = place == AT_QUIT ||
        (may && (relied(c, seen)->pipelining || place == AT_EHLO));
  for (unsigned i = seen; i < c->owed && may; i++)
    may = i >= OWED_MAX || may_lead(c->kinds[i], early) ||
          (place == AT_QUIT && c->kinds[i] != AT_DATA);
  if (!may)
    broken("%u: %s leaves although %u replies are owed", c->number,
           place == AT_QUIT ? "quit" : place_names[place], c->owed - seen);
}

/* Session commands */

/* The lines of the reply to EHLO.  */
static void write_offer(const struct conn *c, const struct offer *o, char *text,
                        size_t size) {
  snprintf(text, size, "server.example\n%s%s%s%s%s%s%s%s%s%sAUTH %s\nHELP",
           o->pipelining ? "PIPELINING\n" : "", o->chunking ? "CHUNKING\n" : "",
           o->pipeconnect ? "PIPECONNECT\n" : "",
           o->eightbitmime ? "8bitmime\n" : "", o->dsn ? "DSN\n" : "",
           o->smtputf8 ? "SMTPUTF8\n" : "", o->binarymime ? "BINARYMIME\n" : "",
           o->enhanced ? "ENHANCEDSTATUSCODES\n" : "",
           truths.plan->tls == TLS_STARTTLS && !c->encrypted ? "STARTTLS\n"
                                                             : "",
           o->odd ? "SIZES 12\nPIPELININGS\nX- =\n\nLIMITS FOO=1 =2 X\n" : "",
           o->mechanisms);
  char *end = text + strlen(text);
  size_t room = size - strlen(text);
  if (o->size)
    end += snprintf(end, room, "\nSIZE %u", o->size_limit);
  if (o->mail_max || o->rcpt_max) {
    room = size - strlen(text);
    end += snprintf(end, room, "\nLIMITS");
    if (o->mail_max)
      end += sprintf(end, " MAILMAX=%u", o->mail_max);
    if (o->rcpt_max)
      end += sprintf(end, " RCPTMAX=%u", o->rcpt_max);
  }
}

/* The client may not have read what it was told.  */
static bool some_are_cancelled(void) {
  for (unsigned j = 0; j < truths.plan->jobs; j++)
    if (truths.plan->job[j].cancel_tick)
      return true;
  return false;
}

static void on_hello(struct conn *c, const char *line) {
  const struct plan *plan = truths.plan;
  const struct offer *o = c->number == 0 ? &plan->offer : &plan->later;
  bool helo = strncmp(line, "HELO", 4) == 0;
  const struct act *act = server_act(AT_EHLO);
  int code = c->refuses ? 503 : meaning(act, 250);
  static const struct offer nothing;
  char text[700];
  if (!c->lied && (strncmp(line, "LHLO", 4) == 0) != plan->lmtp)
    broken("the wrong greeting: %.40s", line);
  c->hello = c->owed;
  owe(c, AT_EHLO);
  c->offer = helo ? &nothing : o;
  c->job = c->mail_job = -1;
  if (helo || code != 250) {
    (void)answer(c, act, code, "server.example");
    return;
  }
  if (o->pipeconnect && o->pipelining)
    model.early[c->encrypted] = o;
  else if (!some_are_cancelled())
    model.early[c->encrypted] = NULL;
  write_offer(c, o, text, sizeof text);
  (void)answer(c, act, code, text);
}

static void on_starttls(struct conn *c) {
  const struct act *act = server_act(AT_STARTTLS);
  int code = meaning(act, 220);
  owe(c, AT_STARTTLS);
  struct unit *u = answer(c, act->kind == ACT_INJECT ? &(struct act){0} : act,
                          code, "go ahead");
  if (!u || code != 220 || u->lie || u->close)
    return;
  u->octetwise = false;
  if (act->kind == ACT_INJECT) {
    struct unit *more = queue_text(c, 250, "injected\nSIZE 1");
    u->with_next = true;
    more->starts_tls = more->lie = true;
    c->injected = true;
    lie(c);
  } else if (u->next)
    c->injected = u->next->starts_tls = true;
  else
    u->starts_tls = true;
  c->offer = NULL;
}

static void on_auth(struct conn *c, const char *line) {
  static const char *const expected[] = {"UzNjcmV0LXB3", "dXNlcg=="};
  const struct act *act = server_act(AT_AUTH);
  int code = meaning(act, 235);
  owe(c, AT_AUTH);
  bool good = true;
  if (c->state == SECRET)
    good = c->secrets && strcmp(line, expected[--c->secrets]) == 0;
  else if (strcmp(line, "AUTH LOGIN") == 0)
    c->secrets = 2;
  else
    good = strcmp(line, "AUTH PLAIN AHVzZXIAUzNjcmV0LXB3") == 0;
  if (!c->lied && !good && code == 235)
    broken("AUTH with other secrets: %.60s", line);
  c->state = code == 235 && c->secrets ? SECRET : COMMAND;
  if (c->state == SECRET)
    code = 334;
  else
    c->secrets = 0;
  (void)answer(c, act, code, code == 334 ? "VXNlcm5hbWU6" : "done");
}

static void reset(struct conn *c) {
  c->job = c->mail_job = -1;
  c->recipients = 0;
  c->asked = 0;
  c->chunked = c->chunk_failed = c->answered = false;
  c->body_len = 0;
}

static void on_rset(struct conn *c) {
  const struct act *act = server_act(AT_RSET);
  int code = meaning(act, 250);
  owe(c, AT_RSET);
  if (code == 250) {
    server_check_rest(c);
    reset(c);
  }
  (void)answer(c, act, code, "reset");
}

/* Envelope */

static void check_parameters(struct conn *c, const char *line, unsigned j,
                             const struct offer *o) {
  const char *size = strstr(line, " SIZE=");
  const struct plan_job *job = &truths.plan->job[j];
  bool eight = strstr(line, " BODY=8BITMIME"),
       binary = strstr(line, " BODY=BINARYMIME");
  if (c->lied)
    return;
  if ((size && !o->size) || (eight && !o->eightbitmime) ||
      (binary && !o->binarymime) || (strstr(line, " RET=") && !o->dsn) ||
      (strstr(line, " SMTPUTF8") && !o->smtputf8))
    broken("a parameter that was not offered: %.200s", line);
  if (o->mail_max && c->mails > o->mail_max)
    broken("%u: more messages than LIMITS MAILMAX", c->number);
  if (job->fault != FILE_GOOD)
    return;
  size_t len = model.arrives[j][0].len;
  if (o->size && (!size || strtoul(size + 6, NULL, 10) != len))
    if (!job->binary)
      broken("another SIZE than %zu: %.200s", len, line);
  if (o->size_limit && o->size && len > o->size_limit && !job->binary)
    broken("MAIL although the message is larger than SIZE");
  if (!binary && eight != model.eight_bit[j])
    broken("8-bit octets and BODY do not agree: %.200s", line);
}

static void on_mail(struct conn *c, const char *line, unsigned seen) {
  unsigned j = JOBS_MAX;
  const struct act *act = server_act(AT_MAIL);
  int code = c->refuses ? 503 : meaning(act, 250);
  if (sscanf(line, "MAIL FROM:<sender.j%u@fuzz.example>", &j) != 1 ||
      j >= truths.plan->jobs) {
    if (!c->lied)
      broken("what is no MAIL: %.200s", line);
    owe(c, AT_MAIL);
    (void)answer(c, act, 501, "what?");
    return;
  }
  c->mails++;
  /* A connection that nobody has heard of for a while may be gone without a
     word.  */
  c->woken =
      seen == c->owed && c->mails > 1 && world_now_ms() - c->spoke_ms > IDLE_MS;
  c->woken_at = c->owed;
  if (!c->lied && c->job >= 0)
    broken("%u: MAIL within the transaction of job %d", c->number, c->job);
  check_parameters(c, line, j, relied(c, seen));
  server_check_rest(c);
  reset(c);
  c->mail_job = (int)j;
  if (c->lied)
    truths.job[j].weak = true;
  memset(truths.job[j].rcpt_codes, 0, sizeof truths.job[j].rcpt_codes);
  truths.job[j].refused = false;
  owe(c, AT_MAIL);
  reach(c, AT_MAIL);
  if (code == 250)
    c->job = (int)j;
  (void)answer(c, act, code, "sender ok");
}

static void on_rcpt(struct conn *c, const char *line, unsigned seen) {
  unsigned j = JOBS_MAX, r = RCPTS_MAX;
  const struct act *act = server_act(AT_RCPT);
  int code = meaning(act, 250);
  const struct offer *o = relied(c, seen);
  owe(c, AT_RCPT);
  reach(c, AT_RCPT);
  bool parsed = sscanf(line, "RCPT TO:<r%u.j%u-", &r, &j) == 2 &&
                j < truths.plan->jobs && r < truths.plan->job[j].recipients;
  if (!c->lied && (!parsed || (int)j != c->mail_job))
    broken("%u: a recipient of another job than %d: %.200s", c->number,
           c->mail_job, line);
  if (!c->lied && o->rcpt_max && ++c->asked > o->rcpt_max)
    broken("%u: more recipients than LIMITS RCPTMAX", c->number);
  if (!c->lied && !o->dsn && (strstr(line, "NOTIFY=") || strstr(line, "ORCPT")))
    broken("a parameter that was not offered: %.200s", line);
  if (c->job < 0 || !parsed || (int)j != c->mail_job)
    code = code == 250 ? 503 : code;
  else if (code == 250)
    c->recipients |= 1ull << r;
  struct unit *u = answer(c, act, code, "recipient");
  if (parsed)
    truths.job[j].rcpt_codes[r] = u && !u->lie ? code : 0;
}

static void on_data(struct conn *c) {
  const struct act *act = server_act(AT_DATA);
  int code = meaning(act, 354);
  c->data = c->owed;
  owe(c, AT_DATA);
  reach(c, AT_DATA);
  if (c->job < 0)
    code = 503;
  else if (!c->recipients && rng_chance(&model.rng, 70))
    code = 554;
  if (c->chunked && !c->lied)
    broken("%u: DATA after BDAT", c->number);
  (void)answer(c, act, code, "data");
  if (code != 354)
    return;
  c->state = CONTENT;
  c->line_start = true;
  c->body_len = 0;
  c->answered = false;
}

/* Content */

static void add_body(struct conn *c, const char *octets, size_t len) {
  if (c->body_len + len > c->body_max) {
    c->body_max = 2 * (c->body_len + len);
    c->body = realloc(c->body, c->body_max);
  }
  if (len)
    memcpy(c->body + c->body_len, octets, len);
  c->body_len += len;
  if (c->mail_job >= 0)
    truths.job[c->mail_job].begun = true;
}

/* The content so far is the begin of that of the job (WHOLE: all of it).  */
static bool agrees(const struct conn *c, int j, bool whole) {
  if (j < 0)
    return c->body_len == 0;
  for (unsigned v = 0; v < (model.faulted[j] ? 2 : 1); v++) {
    const struct arrives *a = &model.arrives[j][v];
    if (c->body_len <= a->len && (!whole || c->body_len == a->len) &&
        (c->body_len == 0 || memcmp(c->body, a->octets, c->body_len) == 0))
      return true;
  }
  return false;
}

/* What was half sent and is forgotten.  A file that changes may give anything,
   but nothing of others.  */
void server_check_rest(struct conn *c) {
  char token[32];
  if (c->lied || c->body_len == 0)
    return;
  if (agrees(c, c->mail_job, false))
    return;
  if (c->mail_job >= 0 && model.faulted[c->mail_job]) {
    int len = snprintf(token, sizeof token, "X-Job: j%d.", c->mail_job);
    if (c->body_len < (size_t)len || memcmp(c->body, token, (size_t)len) == 0)
      return;
  }
  broken("%u: the content of job %d holds something else", c->number,
         c->mail_job);
}

/* Some recipients are left out.  May they be?  */
static bool may_leave_out(int j, uint64_t taken) {
  const struct plan_job *job = &truths.plan->job[j];
  for (unsigned r = 0; r < job->recipients; r++) {
    int code = truths.job[j].rcpt_codes[r];
    if (!(taken >> r & 1) && code && code != 452 && code != 552 &&
        !job->partial)
      return false;
  }
  return true;
}

/* The server takes the message of the transaction for RECIPIENTS.  */
static int take(struct conn *c, uint64_t recipients) {
  struct truth *t = &truths.job[c->job];
  bool exact = agrees(c, c->job, true);
  if (!c->lied && !exact)
    broken("%u: job %d arrives with another content (%zu octets)", c->number,
           c->job, c->body_len);
  if (!c->lied && !may_leave_out(c->job, c->recipients))
    broken("%u: job %d is not partial, and goes to some only", c->number,
           c->job);
  if (t->taken == TAKINGS_MAX)
    return TAKINGS_MAX - 1;
  t->takings[t->taken] = (struct taking){.conn = c->number,
                                         .recipients = recipients,
                                         .exact = exact,
                                         .weak = c->lied};
  note("%u -- job %d is taken for %#llx", c->number, c->job,
       (unsigned long long)recipients);
  return (int)t->taken++;
}

/* The replies to the end of data: one, or by LMTP one for each recipient.  */
static void answer_end(struct conn *c) {
  bool lmtp = truths.plan->lmtp;
  int j = c->mail_job, taking = -1;
  uint64_t taken = 0;
  bool able = c->job >= 0 && c->recipients && !c->chunk_failed;
  const struct act *acts[RCPTS_MAX];
  int codes[RCPTS_MAX];
  unsigned count = 0;
  for (unsigned r = 0; r < (lmtp && c->recipients ? RCPTS_MAX : 1); r++) {
    if (lmtp && c->recipients && !(c->recipients >> r & 1))
      continue;
    const struct act *act = acts[count] = server_act(AT_END);
    int code = able ? meaning(act, 250) : 554;
    if (code == 250)
      taken |= lmtp ? 1ull << r : c->recipients;
    codes[count++] = code;
  }
  if (taken)
    taking = take(c, taken);
  for (unsigned i = 0; i < count; i++) {
    owe(c, AT_END);
    struct unit *u =
        answer(c, acts[i], codes[i], codes[i] == 250 ? "queued" : "not taken");
    if (!u || i + 1 < count)
      continue;
    u->job = j;
    u->taking = taking;
    u->refusal = !taken;
    u->code = able && acts[i]->kind == ACT_REFUSE && !lmtp ? codes[i] : 0;
  }
  if (taking >= 0 && c->lied)
    for (unsigned i = 0; i < count; i++)
      if (acts[i]->kind >= ACT_ODD_REFUSAL && acts[i]->kind != ACT_EXTRA &&
          acts[i]->kind != ACT_JUNK)
        truths.job[c->job].takings[taking].weak = true;
}

static void end_of_data(struct conn *c) {
  if (c->mail_job >= 0)
    truths.job[c->mail_job].end_seen = true;
  /* After a lie the client may have been done with it, and what goes to nobody
     leaves no doubt.  */
  if (c->mail_job >= 0 && c->recipients && !c->closed && !c->lied)
    judge_doubt((unsigned)c->mail_job);
  reach(c, AT_END);
  c->state = COMMAND;
  if (c->closed) {
    owe(c, AT_END);
    reset(c);
    return;
  }
  if (!c->answered)
    answer_end(c);
  server_check_rest(c);
  reset(c);
  const struct act *idle = server_act(AT_IDLE);
  if (idle->kind && !c->closed) {
    c->idle_kind = idle->kind;
    c->idle_ms = world_now_ms() + idle->arg % 15000;
  }
}

/* The server refuses what it has not read yet.  */
static void refuse_early(struct conn *c, const struct act *act) {
  if (c->state == CHUNK) {
    c->chunk_failed = true;
    return;
  }
  c->answered = true;
  owe(c, AT_END);
  c->owed--; /* it is owed when the end has come */
  struct unit *u = queue_text(c, act->code, "no more of this");
  /* By LMTP some servers give one reply for all, which is for the first.  */
  u->job = truths.plan->lmtp ? -1 : c->mail_job;
  u->refusal = true;
  u->close = act->arg & 1;
}

/* The server does something while content comes.  */
static void disturb(struct conn *c) {
  const struct act *act = server_act(AT_CONTENT);
  reach(c, AT_CONTENT);
  if (c->closed || c->answered || !act->kind)
    return;
  switch (act->kind) {
  case ACT_REFUSE:
  case ACT_LEAVE:
  case ACT_LINES:
  case ACT_ODD_REFUSAL:
    refuse_early(c, act);
    return;
  case ACT_CLOSE:
  case ACT_CLOSE_AFTER:
  case ACT_CUT:
    server_close(c, act->arg & 8);
    return;
  case ACT_SILENCE:
    c->silent = true;
    return;
  case ACT_DELAY:
    c->spoke_ms = c->deaf_until_ms = world_now_ms() + act->arg % 30000;
    return;
  default:
    (void)queue_extra(c, act);
  }
}

static void drop(struct conn *c, size_t len) {
  c->in += len;
  c->in_len -= len;
  c->in_at += len;
}

/* Take a piece of a line in DATA.  */
static bool take_line(struct conn *c) {
  const char *lf = memchr(c->in, '\n', c->in_len);
  size_t len = lf ? (size_t)(lf + 1 - c->in) : c->in_len, from = 0;
  if (c->line_start && c->in[0] == '.' && len < 3 && !lf)
    return false;
  unsigned seen = server_seen(c, c->in_at);
  if (c->line_start && len == 3 && memcmp(c->in, ".\r\n", 3) == 0) {
    if (!c->lied && seen <= c->data)
      broken("%u: an end of data before the reply to DATA", c->number);
    check_turn(c, AT_END, seen);
    if (c->answered)
      c->owed++;
    note("%u C: . (%zu octets)", c->number, c->body_len);
    drop(c, 3);
    end_of_data(c);
    return true;
  }
  if (!c->lied && seen <= c->data)
    broken("%u: content before the reply to DATA", c->number);
  if (c->line_start && c->in[0] == '.')
    from = 1;
  add_body(c, c->in + from, len - from);
  c->line_start = lf != NULL;
  if (lf && !c->lied && (c->body_len < 2 || c->body[c->body_len - 2] != '\r'))
    broken("%u: a bare LF in DATA", c->number);
  drop(c, len);
  return true;
}

static bool take_content(struct conn *c) {
  bool any = false;
  if (c->in_len > 0)
    disturb(c);
  while (c->state == CONTENT && c->in_len > 0 && take_line(c))
    any = true;
  return any;
}

static void end_chunk(struct conn *c) {
  if (c->last) {
    end_of_data(c);
    return;
  }
  const struct act *act = server_act(AT_CHUNK);
  int code = meaning(act, 250);
  c->state = COMMAND;
  owe(c, AT_CHUNK);
  if (c->job < 0 || !c->recipients || c->chunk_failed)
    code = code == 250 ? 503 : code;
  c->chunk_failed |= code != 250;
  (void)answer(c, act, code, "chunk");
}

static bool take_chunk(struct conn *c) {
  size_t len = c->in_len < c->chunk_left ? c->in_len : (size_t)c->chunk_left;
  if (c->chunk_left > 0 && len == 0)
    return false;
  if (len > 0)
    disturb(c);
  add_body(c, c->in, len);
  drop(c, len);
  c->chunk_left -= len;
  if (c->chunk_left == 0)
    end_chunk(c);
  return true;
}

static void on_bdat(struct conn *c, const char *line, unsigned seen) {
  unsigned long long len = 0;
  char word[8] = "";
  int parts = sscanf(line, "BDAT %llu %7s", &len, word);
  if (!c->lied && c->woken && seen <= c->woken_at)
    broken("%u: content leaves with the first commands after a pause",
           c->number);
  reach(c, AT_CHUNK);
  if (parts < 1 || (parts == 2 && strcmp(word, "LAST") != 0) ||
      len > 10000000) {
    if (!c->lied)
      broken("what is no BDAT: %.60s", line);
    owe(c, AT_CHUNK);
    return;
  }
  if (!c->chunked)
    c->body_len = 0;
  c->chunked = true;
  c->last = parts == 2;
  c->chunk_left = len;
  c->state = CHUNK;
  if (c->mail_job >= 0) {
    truths.job[c->mail_job].begun = true;
    truths.job[c->mail_job].end_seen |= c->last;
  }
  if (len == 0)
    end_chunk(c);
}

/* Lines */

static enum place place_of(const char *line) {
  static const struct {
    const char *verb;
    enum place place;
  } verbs[] = {
      {"EHLO ", AT_EHLO},        {"LHLO ", AT_EHLO}, {"HELO ", AT_EHLO},
      {"STARTTLS", AT_STARTTLS}, {"AUTH ", AT_AUTH}, {"MAIL ", AT_MAIL},
      {"RCPT ", AT_RCPT},        {"DATA", AT_DATA},  {"BDAT ", AT_CHUNK},
      {"RSET", AT_RSET},         {"QUIT", AT_QUIT}};
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    if (strncmp(line, verbs[i].verb, strlen(verbs[i].verb)) == 0)
      return verbs[i].place;
  return AT_CONNECT;
}

/* The last reply.  */
static void leave(struct conn *c, enum place place, int code) {
  owe(c, place);
  c->state = GONE;
  struct unit *u = answer(c, &(struct act){.kind = ACT_NONE}, code, "bye");
  if (u)
    u->close = true;
}

static void on_line(struct conn *c, const char *line, uint64_t at) {
  unsigned seen = server_seen(c, at);
  enum place place = place_of(line);
  if (c->state == SECRET && place != AT_QUIT)
    place = AT_AUTH;
  note("%u C: %.90s", c->number, line);
  if (place == AT_CONNECT) {
    if (!c->lied)
      broken("%u: what is no command: %.200s", c->number, line);
    if (++c->errors == ERRORS_MAX) {
      leave(c, AT_RSET, 421);
      return;
    }
    owe(c, AT_RSET);
    (void)answer(c, &(struct act){.kind = ACT_NONE}, 500, "what?");
    return;
  }
  check_turn(c, place, seen);
  if (place == AT_QUIT)
    leave(c, AT_IDLE, 221);
  else if (place == AT_EHLO)
    on_hello(c, line);
  else if (place == AT_STARTTLS)
    on_starttls(c);
  else if (place == AT_AUTH)
    on_auth(c, line);
  else if (place == AT_RSET)
    on_rset(c);
  else if (place == AT_MAIL)
    on_mail(c, line, seen);
  else if (place == AT_RCPT)
    on_rcpt(c, line, seen);
  else if (place == AT_DATA)
    on_data(c);
  else
    on_bdat(c, line, seen);
}

static bool take_command(struct conn *c) {
  static char line[32768];
  const char *lf = memchr(c->in, '\n', c->in_len);
  size_t len = lf ? (size_t)(lf - c->in) : 0;
  uint64_t at = c->in_at;
  if (!lf)
    return false;
  if (len == 0 || c->in[len - 1] != '\r') {
    if (!c->lied)
      broken("%u: a command ends by a bare LF", c->number);
    len++;
  }
  snprintf(line, sizeof line, "%.*s", (int)len - 1, c->in);
  drop(c, (size_t)(lf + 1 - c->in));
  on_line(c, line, at);
  return true;
}

void server_feed(struct conn *c, const char *octets, size_t len) {
  if (c->in_len > 0)
    memmove(c->buffer, c->in, c->in_len);
  if (c->in_len + len > c->in_max) {
    c->in_max = 2 * (c->in_len + len);
    c->buffer = realloc(c->buffer, c->in_max);
  }
  c->in = c->buffer;
  if (len)
    memcpy(c->in + c->in_len, octets, len);
  c->in_len += len;
}

/* Understand what has come.  */
bool server_process(struct conn *c) {
  bool any = false, more = true;
  if (c->processing)
    return false;
  c->processing = true;
  while (more && c->in_len > 0 &&
         (c->closed || c->deaf_until_ms <= world_now_ms())) {
    switch (c->state) {
    case COMMAND:
    case SECRET:
      more = take_command(c);
      break;
    case CONTENT:
      more = take_content(c);
      break;
    case CHUNK:
      more = take_chunk(c);
      break;
    case GONE:
      if (!c->lied)
        broken("%u: octets come after QUIT", c->number);
      drop(c, c->in_len);
      break;
    }
    any |= more;
  }
  c->processing = false;
  return any;
}
