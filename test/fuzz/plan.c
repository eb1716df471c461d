/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plan.c - all that one dialogue consists of, as a seed decides it.  */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

const char *const place_names[] = {
    "connect", "greeting", "ehlo",  "starttls", "auth", "mail", "rcpt",
    "data",    "content",  "chunk", "end",      "rset", "idle"};
const char *const act_names[] = {
    "none",     "refuse",   "leave",        "close", "close-after",
    "cut",      "silence",  "delay",        "lines", "odd-refusal",
    "code",     "extra",    "extra-before", "junk",  "junk-instead",
    "no-reply", "mismatch", "long",         "inject"};
static const char *const fault_names[] = {"good",    "missing",    "folder",
                                          "fifo",    "shrinks",    "grows",
                                          "changes", "entry-goes", "no-sync"};

static bool chance(struct rng *rng, unsigned percent) {
  return rng_chance(rng, percent);
}

/* Server */

static void make_offer(struct offer *offer, struct rng *rng, bool lmtp) {
  static const char *const mechanisms[] = {"PLAIN", "LOGIN", "PLAIN LOGIN"};
  *offer = (struct offer){
      .pipelining = chance(rng, lmtp ? 90 : 65),
      .chunking = chance(rng, 50),
      .pipeconnect = chance(rng, 20),
      .size = chance(rng, 70),
      .eightbitmime = chance(rng, 85),
      .dsn = chance(rng, 50),
      .smtputf8 = chance(rng, 30),
      .binarymime = chance(rng, 30),
      .enhanced = chance(rng, 50),
      .odd = chance(rng, 10),
      .mechanisms = mechanisms[rng_below(rng, 3)],
  };
  if (chance(rng, 10))
    offer->size_limit = 100 + rng_below(rng, 40000);
  if (chance(rng, 12))
    offer->mail_max = 1 + rng_below(rng, 3);
  if (chance(rng, 12))
    offer->rcpt_max = 1 + rng_below(rng, 4);
}

static int refusal(struct rng *rng) {
  static const int codes[] = {450, 451, 452, 454, 550, 552,
                              553, 554, 500, 503, 421, 521};
  return codes[rng_below(rng, sizeof codes / sizeof *codes)];
}

static int any_code(struct rng *rng) {
  static const int codes[] = {250, 251, 220, 221, 235, 334, 354, 354,
                              250, 451, 550, 421, 200, 300, 559};
  return codes[rng_below(rng, sizeof codes / sizeof *codes)];
}

static void make_act(struct act *act, struct rng *rng) {
  static const enum place places[] = {
      AT_CONNECT, AT_GREETING, AT_EHLO,  AT_STARTTLS, AT_AUTH,    AT_MAIL,
      AT_MAIL,    AT_RCPT,     AT_RCPT,  AT_RCPT,     AT_DATA,    AT_DATA,
      AT_CONTENT, AT_CHUNK,    AT_CHUNK, AT_END,      AT_END,     AT_END,
      AT_END,     AT_END,      AT_RSET,  AT_IDLE,     AT_CONTENT, AT_DATA};
  act->place = places[rng_below(rng, sizeof places / sizeof *places)];
  act->nth = rng_below(rng, 10) < 5 ? 0 : rng_below(rng, 6);
  act->arg = rng_below(rng, 1u << 20);
  act->kind = chance(rng, 60)
                  ? 1 + rng_below(rng, ACT_FIRST_LIE - 1)
                  : ACT_FIRST_LIE + rng_below(rng, ACTS - ACT_FIRST_LIE);
  if (act->kind == ACT_INJECT)
    act->place = AT_STARTTLS;
  act->code = act->kind < ACT_FIRST_LIE ? refusal(rng) : any_code(rng);
}

/* Jobs */

static unsigned make_size(struct rng *rng) {
  unsigned die = rng_below(rng, 1000);
  return die < 700   ? rng_below(rng, 400)
         : die < 900 ? rng_below(rng, 20000)
         : die < 990 ? rng_below(rng, 300000)
         : die < 998 ? 262144 + rng_below(rng, 600000)
                     : 1048576 + rng_below(rng, 100000);
}

static void make_fault(struct plan_job *job, struct rng *rng) {
  static const enum place places[] = {AT_MAIL,  AT_RCPT,    AT_DATA,
                                      AT_CHUNK, AT_CONTENT, AT_END};
  job->fault = 1 + rng_below(rng, FILE_FAULTS - 1);
  if (job->fault == FILE_FIFO && chance(rng, 70))
    job->fault = FILE_GROWS;
  job->fault_at = places[rng_below(rng, 6)];
  job->fault_nth = chance(rng, 60) ? 0 : rng_below(rng, 5);
  if (job->fault == FILE_ENTRY_GOES || job->fault == FILE_NO_SYNC)
    job->entry = true;
}

static void make_job(struct plan_job *job, struct rng *rng, bool chunking) {
  static const unsigned counts[] = {1, 1, 1, 2, 2, 3, 4, 5};
  *job = (struct plan_job){
      .recipients = counts[rng_below(rng, 8)],
      .partial = chance(rng, 50),
      .chunking = chance(rng, 90) ? chunking : !chunking,
      .binary = chance(rng, 4),
      .entry = chance(rng, 50),
      .dsn = chance(rng, 20),
      .authenticate = false,
      .content = rng_below(rng, 6),
      .size = make_size(rng),
      .after_ms = chance(rng, 60)   ? 0
                  : chance(rng, 50) ? rng_below(rng, 50)
                                    : rng_below(rng, 20000),
  };
  if (chance(rng, 3)) {
    job->recipients = 20 + rng_below(rng, RCPTS_MAX - 20);
    job->pad = rng_below(rng, 200);
  }
  if (chance(rng, 8))
    make_fault(job, rng);
  if (chance(rng, 12))
    job->cancel_tick = 1 + rng_below(rng, chance(rng, 50) ? 60 : 400);
}

void plan_make(struct plan *plan, uint64_t seed) {
  static const unsigned percents[] = {0, 0, 10, 50, 100};
  static const unsigned act_counts[] = {0, 0, 1, 1, 1, 2, 2, 3};
  struct rng own = {seed * 0x2545f4914f6cdd1d}, *rng = &own;
  (void)rng_next(rng);
  *plan = (struct plan){.seed = seed, .by_session = seed % 4 == 3};
  plan->lmtp = chance(rng, 15);
  plan->plainly = chance(rng, 5);
  plan->tls = chance(rng, 55)   ? TLS_NONE
              : chance(rng, 50) ? TLS_STARTTLS
                                : TLS_IMPLICIT;
  plan->plain_stream = plan->tls == TLS_NONE && chance(rng, 60);
  make_offer(&plan->offer, rng, plan->lmtp);
  plan->later = plan->offer;
  if (chance(rng, 10))
    make_offer(&plan->later, rng, plan->lmtp);
  plan->eager = percents[rng_below(rng, 5)];
  plan->yield = percents[rng_below(rng, 4)];
  plan->octets = chance(rng, 15) ? percents[rng_below(rng, 5)] : 0;
  plan->joined = percents[rng_below(rng, 5)];
  plan->slow_ms = chance(rng, 70) ? 0 : rng_below(rng, 500);
  plan->void_send = chance(rng, 50) ? 100 : 0;
  plan->short_send = chance(rng, 20) ? 30 : 0;
  plan->rekey = chance(rng, 30) ? 20 : 0;
  plan->idle_ms = chance(rng, 70) ? 30000 : rng_below(rng, 3000);
  plan->sessions = chance(rng, 80) ? 1 : 2;
  plan->jobs = 1 + rng_below(rng, chance(rng, 70) ? 3 : JOBS_MAX);
  bool chunking = chance(rng, 50), authenticate = chance(rng, 20);
  plan->echo = authenticate && chance(rng, 50);
  for (unsigned j = 0; j < plan->jobs; j++) {
    make_job(&plan->job[j], rng, chunking);
    plan->job[j].authenticate = authenticate;
  }
  plan->job[0].after_ms = 0;
  if (chance(rng, 3))
    plan->shutdown_tick = 1 + rng_below(rng, 300);
  plan->acts = act_counts[rng_below(rng, 8)];
  for (unsigned i = 0; i < plan->acts; i++)
    make_act(&plan->act[i], rng);
}

static void print_offer(const struct offer *o, const char *name, FILE *out) {
  fprintf(out, "%s:%s%s%s%s%s%s%s%s%s limit=%u mails=%u rcpts=%u auth=%s\n",
          name, o->pipelining ? " PIPELINING" : "",
          o->chunking ? " CHUNKING" : "", o->pipeconnect ? " PIPECONNECT" : "",
          o->size ? " SIZE" : "", o->eightbitmime ? " 8BITMIME" : "",
          o->dsn ? " DSN" : "", o->smtputf8 ? " SMTPUTF8" : "",
          o->binarymime ? " BINARYMIME" : "", o->odd ? " odd" : "",
          o->size_limit, o->mail_max, o->rcpt_max, o->mechanisms);
}

void plan_print(const struct plan *p, FILE *out) {
  static const char *const tls[] = {"clear", "STARTTLS", "TLS"};
  fprintf(out,
          "%s%s, %s%s%s; eager=%u yield=%u octets=%u joined=%u slow=%u void=%u "
          "short=%u rekey=%u%s idle=%u sessions=%u shutdown=%u\n",
          p->by_session ? "a session, " : "", p->lmtp ? "LMTP" : "SMTP",
          tls[p->tls], p->plain_stream ? " only" : "",
          p->plainly ? ", plainly" : "", p->eager, p->yield, p->octets,
          p->joined, p->slow_ms, p->void_send, p->short_send, p->rekey,
          p->echo ? " echo" : "", p->idle_ms, p->sessions, p->shutdown_tick);
  print_offer(&p->offer, "offer", out);
  print_offer(&p->later, "later", out);
  for (unsigned j = 0; j < p->jobs; j++) {
    const struct plan_job *job = &p->job[j];
    fprintf(out,
            "job %u: recipients=%u pad=%u%s%s%s%s%s%s content=%u size=%u "
            "after=%u cancel=%u",
            j, job->recipients, job->pad, job->partial ? " partial" : "",
            job->chunking ? " chunking" : "", job->binary ? " binary" : "",
            job->entry ? " entry" : "", job->dsn ? " dsn" : "",
            job->authenticate ? " auth" : "", job->content, job->size,
            job->after_ms, job->cancel_tick);
    if (job->fault)
      fprintf(out, " fault=%s at %s %u", fault_names[job->fault],
              place_names[job->fault_at], job->fault_nth);
    fputc('\n', out);
  }
  for (unsigned i = 0; i < p->acts; i++)
    fprintf(out, "act %u: %s at %s %u, code %d, arg %u\n", i,
            act_names[p->act[i].kind], place_names[p->act[i].place],
            p->act[i].nth, p->act[i].code, p->act[i].arg);
}

/* Content */

char *plan_content(const struct plan *plan, unsigned j, unsigned version,
                   size_t *len) {
  static const char *const alphabets[] = {"abcdefgh \n",
                                          "ab\n.\n.\r\n.",
                                          "a\r\n.\r\nRSET\r\nMAIL FROM:<x>\r\n",
                                          "\xc3\xa4\xff"
                                          "b\n",
                                          "a\rb\nc\r\nd\0e",
                                          "abcdefghijklmnopqrstuvwxyz"};
  static const unsigned lens[] = {10, 9, 27, 5, 10, 26};
  const struct plan_job *job = &plan->job[j];
  struct rng rng = {plan->seed ^ (j * 7919 + 1)};
  size_t size = job->size, want = 0;
  if (version == 1 && job->fault == FILE_SHRINKS)
    size = size > 20 ? size / 2 : 0;
  if (version == 1 && job->fault == FILE_GROWS)
    size += 1 + size / 3;
  char *text = malloc(size + 64);
  want = (size_t)snprintf(text, 64, "X-Job: j%u.\n\n", j);
  while (want < size)
    text[want++] = alphabets[job->content][rng_below(&rng, lens[job->content])];
  if (version == 1 && job->fault == FILE_CHANGES)
    text[want - 1] = text[want - 1] == 'Z' ? 'Y' : 'Z';
  if (version == 1 && job->fault == FILE_SHRINKS && size == 0)
    want = 0;
  *len = want;
  return text;
}

char *plan_arrives(const struct plan *plan, unsigned j, unsigned version,
                   size_t *len) {
  size_t have, to = 0;
  char *text = plan_content(plan, j, version, &have);
  if (plan->job[j].binary) {
    *len = have;
    return text;
  }
  char *out = malloc(2 * have + 4);
  for (size_t i = 0; i < have; i++) {
    bool end = text[i] == '\r' || text[i] == '\n';
    if (text[i] == '\r' && i + 1 < have && text[i + 1] == '\n')
      i++;
    out[to++] = end ? '\r' : text[i];
    if (end)
      out[to++] = '\n';
  }
  if (to > 0 && out[to - 1] != '\n') {
    out[to++] = '\r';
    out[to++] = '\n';
  }
  free(text);
  *len = to;
  return out;
}

void plan_recipient(const struct plan *plan, unsigned j, unsigned r,
                    char *out) {
  char pad[256];
  memset(pad, 'x', sizeof pad);
  snprintf(out, 600, "r%u.j%u-%.*s@d%u.example", r, j,
           (int)(plan->job[j].pad % 256), pad, r % 3);
}
