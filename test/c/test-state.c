/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-state.c - what may be said on a connection, against a model of a server.
   Random walks: whatever the state allows is said, in any order, for three
   messages; the model takes the commands in their order and answers as it
   likes.  No command of one message may ever meet the transaction of another,
   and each reply must be known for what it answers.  */
#include "check.h"
#include "smtp/state.h"

#include <stdlib.h>

#define WALKS 3000
#define STEPS 200
#define TASKS 3

struct smn_task {
  int number;
};

static struct smn_task tasks[TASKS] = {{0}, {1}, {2}};

static unsigned seed = 1;

static unsigned pick(unsigned below) {
  seed = seed * 1103515245 + 12345;
  return seed >> 16 & 0x7fff ? (seed >> 16 & 0x7fff) % below : 0;
}

/* The server.  */
struct model {
  struct smn_owed heard[4 * STEPS]; /* commands, in their order */
  size_t count, answered, left;     /* LEFT of COUNT have been sent */
  const struct smn_task *transaction;
  const struct smn_task *content;
  bool greeted;
};

static int either(int good, int bad) { return pick(4) ? good : bad; }

/* The answer of the server to OWED, by what it has heard so far.  */
static int answer(struct model *m, const struct smn_owed *owed) {
  bool mine = m->transaction == owed->task;
  int code = 250;
  if (owed->asked >= SMN_ASKED_RCPT)
    CHECK(mine || !m->transaction);
  switch (owed->asked) {
  case SMN_ASKED_NOTHING:
    return either(220, 554);
  case SMN_ASKED_MAIL:
    CHECK(!m->transaction);
    code = either(250, 550);
    m->transaction = code == 250 ? owed->task : NULL;
    return code;
  case SMN_ASKED_RCPT:
    return mine ? either(250, 550) : 503;
  case SMN_ASKED_DATA:
    code = mine ? either(354, 554) : 503;
    m->content = code == 354 ? owed->task : NULL;
    return code;
  case SMN_ASKED_CHUNK:
    return mine ? either(250, 552) : 503;
  case SMN_ASKED_LAST:
    code = mine ? either(250, 552) : 503;
    m->transaction = code == 250 ? NULL : m->transaction;
    return code;
  case SMN_ASKED_END:
    CHECK(m->content == owed->task);
    m->content = m->transaction = NULL;
    return either(250, 550);
  case SMN_ASKED_RSET:
    CHECK(!m->content);
    m->transaction = NULL;
    return either(250, 421);
  default:
    CHECK(!m->transaction && !m->content);
    return either(250, 550);
  }
}

static void hear(struct smn_state *state, struct model *m) {
  const struct smn_owed *sent = &m->heard[m->answered++];
  int code = pick(40) ? answer(m, sent) : 421;
  struct smn_owed owed = smn_state_answered(state, code);
  CHECK(owed.asked == sent->asked && owed.task == sent->task &&
        owed.recipient == sent->recipient);
  if (state->phase != SMN_PHASE_UP)
    return;
  /* It forgets what it was asked ahead only when that is of no use.  */
  CHECK_INT(state->content, m->content != NULL && state->count == 0);
}

static void say(struct smn_state *state, struct model *m) {
  enum smn_asked asked = (enum smn_asked)pick(SMN_ASKED_END + 1);
  const struct smn_task *task = &tasks[pick(TASKS)];
  size_t recipient = pick(100);
  bool may = smn_state_may(state, asked, task);
  enum smn_ask done = smn_state_ask(state, asked, task, recipient, "x");
  CHECK_INT(done == SMN_ASK_DONE, may);
  if (!may)
    return;
  m->heard[m->count++] = (struct smn_owed){asked, task, recipient, 0};
  CHECK(!smn_state_settled(state));
}

static void leave(struct smn_state *state, struct model *m) {
  smn_state_left(state);
  m->left = m->count;
  CHECK_INT(state->flight.len, 0);
}

static void withdraw(struct smn_state *state, struct model *m) {
  const struct smn_task *task = &tasks[pick(TASKS)];
  smn_state_withdraw(state, task);
  while (m->count > m->left && m->heard[m->count - 1].task == task)
    m->count--;
}

/* A message is settled when nothing is owed to it.  */
static void forget(struct smn_state *state, const struct model *m) {
  const struct smn_task *task = &tasks[pick(TASKS)];
  if (smn_state_owes(state, task) > 0 || m->content == task)
    return;
  smn_state_forget(state, task);
  CHECK(state->speaker != task);
}

static void walk(struct smn_state *state) {
  struct model m = {.count = 1, .left = 1};
  m.heard[0].task = &tasks[0];
  CHECK(smn_state_begin(state, &tasks[0]));
  for (int i = 0; i < STEPS && state->phase == SMN_PHASE_UP; i++) {
    CHECK_INT(state->count, m.count - m.answered);
    CHECK_INT(smn_state_awaited(state), m.left - m.answered);
    switch (pick(8)) {
    case 0:
      leave(state, &m);
      break;
    case 1:
      withdraw(state, &m);
      break;
    case 2:
      forget(state, &m);
      break;
    case 3:
    case 4:
      if (smn_state_awaited(state) > 0)
        hear(state, &m);
      break;
    default:
      say(state, &m);
    }
  }
  smn_state_end(state);
}

/* A task that is settled while it is owed something ends the connection.  */
static void check_forget(struct smn_state *state) {
  CHECK(smn_state_begin(state, &tasks[0]));
  (void)smn_state_answered(state, 220);
  CHECK(smn_state_ask(state, SMN_ASKED_MAIL, &tasks[0], 0, "MAIL") ==
        SMN_ASK_DONE);
  smn_state_left(state);
  smn_state_forget(state, &tasks[0]);
  CHECK_INT(state->phase, SMN_PHASE_LOST);
  CHECK_INT(state->count, 0);
  CHECK(!smn_state_settled(state));
  smn_state_end(state);
}

/* An envelope may leave before the server has introduced itself, content may
   not.  */
static void check_content_waits(void) {
  struct smn_state state;
  struct smn_task *task = &tasks[0];
  smn_state_init(&state);
  CHECK(smn_state_begin(&state, task));
  for (enum smn_asked asked = SMN_ASKED_EHLO; asked <= SMN_ASKED_RCPT; asked++)
    if (asked == SMN_ASKED_EHLO || asked >= SMN_ASKED_MAIL)
      CHECK_INT(smn_state_ask(&state, asked, task, 0, "x"), SMN_ASK_DONE);
  smn_state_left(&state);
  for (int i = 0; i < 2; i++) { /* the greeting, EHLO */
    CHECK(!smn_state_may(&state, SMN_ASKED_CHUNK, task));
    CHECK(!smn_state_may(&state, SMN_ASKED_LAST, task));
    smn_state_answered(&state, i == 0 ? 220 : 250);
  }
  CHECK(smn_state_may(&state, SMN_ASKED_CHUNK, task));
  CHECK(smn_state_may(&state, SMN_ASKED_LAST, task));
  smn_state_free(&state);
}

int main(void) {
  check_content_waits();
  struct smn_state state;
  smn_state_init(&state);
  for (int i = 0; i < WALKS; i++)
    walk(&state);
  check_forget(&state);
  smn_state_free(&state);
  return check_done("test-state");
}
