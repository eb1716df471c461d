/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-orders.c - the state of a connection, in every order of what is said and
   heard.
   Whatever the state allows is said for three messages, in all orders, and a
   model of a server gives every answer that it may give.  Each situation is
   visited once.  The model keeps who has a transaction and for whom; a message
   that it takes must be the sender's own, for its own recipients alone.  */
#include "check.h"
#include "smtp/state.h"

#include <stdint.h>
#include <stdlib.h>

#define TASKS 3
#define OWED_MAX 16
#define NOBODY 255

struct smn_task {
  int number;
};

static struct smn_task tasks[TASKS] = {{0}, {1}, {2}};

/* How servers differ.  */
struct manner {
  bool lmtp;  /* it answers the end of data for each recipient */
  bool keeps; /* a refused end of data leaves the transaction as it was */
  bool takes; /* DATA is welcome without a recipient */
  bool terse; /* LMTP with one answer, as of SMTP */
};

/* What was said of one message.  */
struct said {
  uint8_t mail, rcpt, chunk;
};

/* A server, and what has been said to it.  Octets only, without padding.  */
struct model {
  uint8_t sender, recipients; /* of the transaction: NOBODY; a bit for each */
  uint8_t count[TASKS];       /* its recipients, by message */
  uint8_t content;            /* whose it takes, or NOBODY */
  uint8_t gone;               /* it has said goodbye */
  uint8_t more;               /* answers that LMTP still owes */
  uint8_t hello, auth, rset;  /* said, of the session */
  struct said said[TASKS];
};

/* One situation.  */
struct owed {
  uint8_t asked, task, recipient, at;
};

struct place {
  uint8_t phase, count, unsent, flight, cut, flags, speaker, last;
  struct owed owed[OWED_MAX];
  struct model model;
};

_Static_assert(sizeof(struct place) == 8 + OWED_MAX * 4 + 8 + TASKS + 3 * TASKS,
               "octets alone can be compared");

/* All that were found, in their order, and a table of them.  */
#define PLACES_MAX (1u << 18)
#define TABLE (1u << 19)
static struct place *places;
static uint32_t *table;
static uint32_t found;

static struct manner manner;
static unsigned long wrong, taken;

static void blame(const char *what) {
  if (wrong++ < 5)
    printf("%s (lmtp %d, keeps %d, takes %d, terse %d)\n", what, manner.lmtp,
           manner.keeps, manner.takes, manner.terse);
}

static uint8_t number_of(const struct smn_task *task) {
  return task ? (uint8_t)task->number : NOBODY;
}

static const struct smn_task *task_of(uint8_t number) {
  return number == NOBODY ? NULL : &tasks[number];
}

static void end_transaction(struct model *m) {
  m->sender = NOBODY;
  m->recipients = 0;
  memset(m->count, 0, sizeof m->count);
}

/* Places */

static void write_place(struct place *p, const struct smn_state *state,
                        const struct model *model) {
  memset(p, 0, sizeof *p);
  p->phase = (uint8_t)state->phase;
  p->count = (uint8_t)state->count;
  p->unsent = (uint8_t)state->unsent;
  p->flight = (uint8_t)state->flight.len;
  p->cut = (uint8_t)state->cut;
  p->flags = (uint8_t)(state->several | state->open << 1 | state->content << 2 |
                       state->chunk << 3);
  p->speaker = number_of(state->speaker);
  p->last = (uint8_t)state->last;
  for (size_t i = 0; i < state->count; i++) {
    const struct smn_owed *o = &state->owed[(state->first + i) % state->room];
    p->owed[i] = (struct owed){(uint8_t)o->asked, number_of(o->task),
                               (uint8_t)o->recipient, (uint8_t)o->at};
  }
  p->model = *model;
}

/* STATE has room for OWED_MAX replies.  */
static void read_place(const struct place *p, struct smn_state *state) {
  state->phase = (enum smn_phase)p->phase;
  state->first = 0;
  state->count = p->count;
  state->unsent = p->unsent;
  state->flight.len = p->flight;
  state->cut = p->cut;
  state->lmtp = manner.lmtp;
  state->several = p->flags & 1;
  state->open = p->flags >> 1 & 1;
  state->content = p->flags >> 2 & 1;
  state->chunk = p->flags >> 3 & 1;
  state->speaker = task_of(p->speaker);
  state->last = (enum smn_asked)p->last;
  for (size_t i = 0; i < p->count; i++)
    state->owed[i] = (struct smn_owed){(enum smn_asked)p->owed[i].asked,
                                       task_of(p->owed[i].task),
                                       p->owed[i].recipient, p->owed[i].at};
}

/* Forget of P what cannot matter any more, so that fewer places differ.  */
static void simplify(struct place *p, const struct smn_state *state) {
  struct model *m = &p->model;
  for (uint8_t t = 0; t < TASKS; t++)
    if (m->said[t].mail && p->speaker != t &&
        smn_state_owes(state, &tasks[t]) == 0)
      m->said[t] = (struct said){1, 9, 9};
  if (m->said[0].mail)
    m->hello = m->auth = 9;
  if (p->phase != SMN_PHASE_UP || m->gone) {
    memset(m->said, 0, sizeof m->said);
    m->hello = m->auth = m->rset = 0;
  }
  if (m->gone) {
    end_transaction(m);
    m->content = NOBODY;
    m->more = 0;
  }
}

static void visit(const struct smn_state *state, const struct model *model) {
  struct place p;
  uint32_t hash = 2166136261u;
  if (state->count >= OWED_MAX || found == PLACES_MAX) {
    blame("more than there is room for");
    return;
  }
  write_place(&p, state, model);
  simplify(&p, state);
  for (size_t i = 0; i < sizeof p; i++)
    hash = (hash ^ ((const uint8_t *)&p)[i]) * 16777619u;
  for (uint32_t slot = hash % TABLE;; slot = (slot + 1) % TABLE) {
    if (table[slot] == 0) {
      places[found++] = p;
      table[slot] = found;
      return;
    }
    if (memcmp(&places[table[slot] - 1], &p, sizeof p) == 0)
      return;
  }
}

/* The server */

/* The message of NUMBER has been taken.  */
static void take(struct model *m, uint8_t number) {
  taken++;
  if (m->sender != number || m->recipients != 1 << number)
    blame("a message for another one's recipients");
}

/* All answers to an end of data, or to a last chunk; they end by 0.  */
static const int *end_codes(const struct model *m) {
  static const int any[] = {250, 552, 421, 0}, again[] = {250, 552, 0},
                   none[] = {503, 0};
  if (m->sender == NOBODY || m->recipients == 0)
    return none;
  return m->more ? again : any;
}

static const int *codes_of(const struct model *m, const struct owed *owed) {
  static const int greeting[] = {220, 554, 421, 0}, hello[] = {250, 502, 0},
                   tls[] = {454, 421, 0}, auth[] = {235, 334, 535, 0},
                   rset[] = {250, 502, 421, 0}, mail[] = {250, 550, 421, 0},
                   rcpt[] = {250, 550, 521, 421, 0},
                   data[] = {354, 554, 250, 0}, chunk[] = {250, 552, 421, 0},
                   no[] = {503, 0}, empty[] = {554, 0};
  bool open = m->sender != NOBODY;
  switch ((enum smn_asked)owed->asked) {
  case SMN_ASKED_NOTHING:
    return greeting;
  case SMN_ASKED_EHLO:
    return hello;
  case SMN_ASKED_STARTTLS:
    return tls;
  case SMN_ASKED_AUTH:
    return open ? no : auth;
  case SMN_ASKED_RSET:
    return rset;
  case SMN_ASKED_MAIL:
    return open ? no : mail;
  case SMN_ASKED_RCPT:
    return open ? rcpt : no;
  case SMN_ASKED_DATA:
    return !open ? no : m->recipients || manner.takes ? data : empty;
  case SMN_ASKED_CHUNK:
    return open && m->recipients ? chunk : no;
  default:
    return end_codes(m);
  }
}

static void hear_end(struct model *m, const struct owed *owed, int code) {
  if (code / 100 == 2)
    take(m, owed->task);
  if (manner.lmtp && m->more == 0 && m->sender != NOBODY)
    m->more = m->count[owed->task];
  if (m->more > 0)
    m->more--;
  if ((m->more == 0 || manner.terse) && m->sender != NOBODY &&
      (code / 100 == 2 || manner.lmtp || !manner.keeps))
    end_transaction(m);
  m->content = NOBODY;
}

/* The server hears OWED and answers CODE.  */
static void serve(struct model *m, const struct owed *owed, int code) {
  if (m->content != NOBODY &&
      (owed->asked != SMN_ASKED_END || owed->task != m->content))
    blame("a command that is content");
  if (owed->asked == SMN_ASKED_END && m->content == NOBODY && m->more == 0)
    blame("content that is commands");
  m->gone = code == 421;
  switch ((enum smn_asked)owed->asked) {
  case SMN_ASKED_RSET:
    if (code == 250)
      end_transaction(m);
    break;
  case SMN_ASKED_MAIL:
    if (code == 250)
      m->sender = owed->task;
    break;
  case SMN_ASKED_RCPT:
    if (code == 250) {
      m->recipients |= (uint8_t)(1 << owed->task);
      m->count[owed->task]++;
    }
    break;
  case SMN_ASKED_DATA:
    if (code == 354)
      m->content = owed->task;
    break;
  case SMN_ASKED_LAST:
  case SMN_ASKED_END:
    hear_end(m, owed, code);
    break;
  default:
    break;
  }
}

/* The steps */

static void check_place(const struct smn_state *state, const struct model *m) {
  size_t may = 0;
  for (int asked = 0; asked <= SMN_ASKED_END; asked++)
    for (int t = 0; t < TASKS; t++)
      may += smn_state_may(state, (enum smn_asked)asked, &tasks[t]);
  if (state->phase != SMN_PHASE_UP && may)
    blame("something may be said to nobody");
  if (!smn_state_settled(state)) {
    if (state->phase == SMN_PHASE_UP && state->count == 0 && !state->speaker)
      blame("nothing is owed to anybody, and no message may follow");
    return;
  }
  if (m->gone)
    blame("another message may go to a server that is gone");
  if (m->content != NOBODY)
    blame("settled in the middle of content");
  if (m->more)
    blame("settled before all recipients of LMTP are answered");
  if (!state->open && m->sender != NOBODY)
    blame("settled with an envelope that nobody knows of");
  if (!smn_state_may(state, SMN_ASKED_RSET, &tasks[0]) ||
      (!state->open && !smn_state_may(state, SMN_ASKED_MAIL, &tasks[0])))
    blame("settled, and nothing may be said");
}

/* ASKED may be said so often, for the orders to be finitely many.  */
static bool count_said(struct model *m, enum smn_asked asked, uint8_t number) {
  struct said *said = &m->said[number];
  switch (asked) {
  case SMN_ASKED_EHLO:
    return number == 0 && m->hello++ < 1;
  case SMN_ASKED_STARTTLS:
  case SMN_ASKED_AUTH:
    return number == 0 && m->auth++ < 2;
  case SMN_ASKED_RSET:
    return number == 0 && m->rset++ < 1;
  case SMN_ASKED_MAIL: /* those before have been sent before */
    return (number == 0 || m->said[number - 1].mail) && said->mail++ < 1;
  case SMN_ASKED_RCPT:
    return said->rcpt++ < 2;
  case SMN_ASKED_CHUNK:
    return said->chunk++ < 2;
  default:
    return true;
  }
}

/* LMTP answers once for each recipient that it has taken; who these are has to
   be known then.  */
static bool owe_each(struct smn_state *state, const struct model *m,
                     enum smn_asked asked, uint8_t number) {
  if (!manner.lmtp || (asked != SMN_ASKED_LAST && asked != SMN_ASKED_END))
    return true;
  if (m->count[number] == 0)
    return false;
  for (uint8_t i = 1; i < m->count[number]; i++)
    CHECK(smn_state_also(state, i));
  return true;
}

static void say(const struct place *p, struct smn_state *state,
                enum smn_asked asked, uint8_t number) {
  struct model m = p->model;
  read_place(p, state);
  if (!smn_state_may(state, asked, &tasks[number])) {
    if (smn_state_ask(state, asked, &tasks[number], 0, NULL) !=
        SMN_ASK_OUT_OF_TURN)
      blame("said what may not be said");
    return;
  }
  bool last = asked == SMN_ASKED_LAST || asked == SMN_ASKED_END;
  if (!count_said(&m, asked, number) ||
      (manner.lmtp && last && smn_state_owes(state, &tasks[number])))
    return;
  if (smn_state_ask(state, asked, &tasks[number], m.said[number].rcpt,
                    asked == SMN_ASKED_END ? NULL : "") != SMN_ASK_DONE)
    blame("not said what may be said");
  if (smn_state_settled(state))
    blame("settled with a command that waits");
  if (owe_each(state, &m, asked, number))
    visit(state, &m);
}

static void hear(const struct place *p, struct smn_state *state) {
  /* The terse one answers the next command already.  */
  const struct owed *sent = &p->owed[manner.terse ? p->model.more : 0];
  if (sent >= &p->owed[p->count - p->unsent])
    return;
  for (const int *codes = codes_of(&p->model, sent); *codes; codes++) {
    struct model m = p->model;
    read_place(p, state);
    serve(&m, sent, *codes);
    struct smn_owed owed = smn_state_answered(state, *codes);
    if (owed.asked != (enum smn_asked)sent->asked ||
        number_of(owed.task) != sent->task || owed.recipient != sent->recipient)
      blame("an answer to something else");
    visit(state, &m);
  }
}

static void withdraw(const struct place *p, struct smn_state *state,
                     uint8_t number) {
  size_t rest = p->count;
  read_place(p, state);
  while (rest > (size_t)(p->count - p->unsent) &&
         p->owed[rest - 1].task == number)
    rest--;
  smn_state_withdraw(state, &tasks[number]);
  if (state->count != rest ||
      state->unsent != rest - (size_t)(p->count - p->unsent))
    blame("not withdrawn what has not left, or more");
  visit(state, &p->model);
}

static void forget(const struct place *p, struct smn_state *state,
                   uint8_t number) {
  read_place(p, state);
  smn_state_forget(state, &tasks[number]);
  if (state->speaker == &tasks[number] || smn_state_owes(state, &tasks[number]))
    blame("it is not forgotten");
  visit(state, &p->model);
}

/* The server refuses in the middle of the content.  */
static void interrupt(const struct place *p, struct smn_state *state) {
  struct model m = p->model;
  read_place(p, state);
  if (!state->content || state->count > 0 || m.content == NOBODY)
    return;
  CHECK(smn_state_interrupted(state, &tasks[m.content]));
  struct smn_owed owed = smn_state_answered(state, 552);
  if (owed.asked != SMN_ASKED_END || number_of(owed.task) != m.content)
    blame("a refusal of something else");
  visit(state, &m);
}

static void go_on(const struct place *p, struct smn_state *state) {
  read_place(p, state);
  check_place(state, &p->model);
  if (!p->model.gone)
    hear(p, state);
  if (p->unsent > 0 && p->phase == SMN_PHASE_UP) {
    read_place(p, state);
    smn_state_left(state);
    visit(state, &p->model);
  }
  interrupt(p, state);
  for (uint8_t t = 0; t < TASKS; t++) {
    for (int asked = 0; asked <= SMN_ASKED_END; asked++)
      say(p, state, (enum smn_asked)asked, t);
    if (p->unsent > 0)
      withdraw(p, state, t);
    if (p->speaker == t || smn_state_owes(state, &tasks[t]))
      forget(p, state, t);
  }
}

static void explore(struct smn_state *state) {
  struct model m = {.sender = NOBODY, .content = NOBODY};
  found = 0;
  taken = 0;
  memset(table, 0, TABLE * sizeof *table);
  CHECK(smn_state_begin(state, &tasks[0]));
  smn_state_left(state);
  visit(state, &m);
  for (uint32_t i = 0; i < found; i++) {
    const struct place p = places[i];
    go_on(&p, state);
  }
  CHECK(taken > 0);
  smn_state_end(state);
  if (getenv("V"))
    printf("%u situations, %lu messages taken\n", found, taken);
}

int main(void) {
  struct smn_state state;
  places = malloc(PLACES_MAX * sizeof *places);
  table = malloc(TABLE * sizeof *table);
  smn_state_init(&state);
  CHECK(places && table && smn_buf_reserve(&state.flight, 255));
  for (int i = 0; places && table && i < 9; i++) {
    manner = (struct manner){i & 1 || i == 8, i & 2, i & 4, i == 8};
    explore(&state);
  }
  CHECK_INT(wrong, 0);
  smn_state_free(&state);
  free(places);
  free(table);
  return check_done("test-orders");
}
