/* SPDX-License-Identifier: GPL-3.0-or-later */
/* state.c - the state of a connection: what is owed, what waits, what is half
   said.  */
#include "smtp/state.h"

#include <stdlib.h>
#include <string.h>

void smn_state_init(struct smn_state *state) {
  *state = (struct smn_state){.phase = SMN_PHASE_NONE};
  smn_buf_init(&state->flight, SMN_FLIGHT_MAX);
}

void smn_state_free(struct smn_state *state) {
  free(state->owed);
  smn_buf_free(&state->flight);
  smn_state_init(state);
}

void smn_state_end(struct smn_state *state) {
  state->phase = SMN_PHASE_NONE;
  state->first = state->count = state->unsent = state->cut = 0;
  smn_buf_clear(&state->flight);
  state->open = state->content = state->chunk = state->several = false;
  state->speaker = NULL;
}

/* The ring */

static struct smn_owed *at(const struct smn_state *state, size_t number) {
  return &state->owed[(state->first + number) % state->room];
}

/* Make room for one reply more.  */
static bool reserve(struct smn_state *state) {
  if (state->count < state->room)
    return true;
  size_t room = state->room ? 2 * state->room : 16;
  struct smn_owed *owed = malloc(room * sizeof *owed);
  if (!owed)
    return false;
  for (size_t i = 0; state->room > 0 && i < state->count; i++)
    owed[i] = *at(state, i);
  free(state->owed);
  state->owed = owed;
  state->room = room;
  state->first = 0;
  return true;
}

static void push(struct smn_state *state, const struct smn_owed *owed) {
  *at(state, state->count++) = *owed;
}

const struct smn_owed *smn_state_next(const struct smn_state *state) {
  return state->count ? at(state, 0) : NULL;
}

/* What may be said */

bool smn_state_begin(struct smn_state *state, const struct smn_task *task) {
  smn_state_end(state);
  if (!reserve(state))
    return false;
  push(state, &(struct smn_owed){.asked = SMN_ASKED_NOTHING, .task = task});
  state->phase = SMN_PHASE_UP;
  return true;
}

bool smn_state_settled(const struct smn_state *state) {
  return state->phase == SMN_PHASE_UP && state->count == 0 &&
         state->flight.len == 0 && !state->content && !state->chunk;
}

bool smn_state_belongs(const struct smn_state *state,
                       const struct smn_task *task) {
  return state->phase == SMN_PHASE_UP && state->speaker == task &&
         !state->content && !state->chunk &&
         smn_state_owes(state, task) == state->count;
}

/* No reply is owed but to what comes before AUTH or MAIL.  */
static bool introduction(const struct smn_state *state) {
  for (size_t i = 0; i < state->count; i++)
    if (at(state, i)->asked > SMN_ASKED_EHLO)
      return false;
  return !state->speaker && !state->open;
}

/* The envelope of another message is answered and its content is said: only
   replies to that are owed, and the last of them is that to its end.  */
static bool all_said(const struct smn_state *state,
                     const struct smn_task *task) {
  if (state->count == 0 || !state->speaker || state->speaker == task ||
      state->content || state->several ||
      (state->last != SMN_ASKED_LAST && state->last != SMN_ASKED_END))
    return false;
  for (size_t i = 0; i < state->count; i++)
    if (at(state, i)->task != state->speaker ||
        at(state, i)->asked < SMN_ASKED_CHUNK)
      return false;
  return true;
}

bool smn_state_may(const struct smn_state *state, enum smn_asked asked,
                   const struct smn_task *task) {
  bool mine = state->speaker == task;
  if (state->phase != SMN_PHASE_UP ||
      state->content != (asked == SMN_ASKED_END))
    return false;
  switch (asked) {
  case SMN_ASKED_NOTHING:
    return false;
  case SMN_ASKED_EHLO:
  case SMN_ASKED_AUTH:
    return introduction(state);
  case SMN_ASKED_STARTTLS:
    return smn_state_settled(state) && !state->speaker && !state->open;
  case SMN_ASKED_RSET:
    return smn_state_settled(state);
  case SMN_ASKED_MAIL:
    return (smn_state_settled(state) && !state->open) || introduction(state) ||
           all_said(state, task);
  case SMN_ASKED_RCPT:
    return mine &&
           (state->last == SMN_ASKED_MAIL || state->last == SMN_ASKED_RCPT);
  case SMN_ASKED_DATA:
    return mine && state->last == SMN_ASKED_RCPT;
  case SMN_ASKED_CHUNK:
  case SMN_ASKED_LAST:
    /* Content never relies on what is not confirmed yet.  Nor on the end of a
       message before: if that is refused, the transaction may stay, and it
       would go to the recipients of that one.  */
    return mine &&
           (state->last == SMN_ASKED_RCPT ||
            (state->last == SMN_ASKED_CHUNK && !state->chunk)) &&
           (state->count == 0 || (at(state, 0)->asked > SMN_ASKED_EHLO &&
                                  at(state, 0)->task == task));
  case SMN_ASKED_END:
    return mine && state->last == SMN_ASKED_DATA;
  }
  return false;
}

/* What is said */

static bool add_line(struct smn_buf *flight, const char *line) {
  size_t before = flight->len;
  if (smn_buf_add_string(flight, line) && smn_buf_add_string(flight, "\r\n"))
    return true;
  flight->len = before;
  return false;
}

enum smn_ask smn_state_ask(struct smn_state *state, enum smn_asked asked,
                           const struct smn_task *task, size_t recipient,
                           const char *line) {
  const struct smn_owed owed = {asked, task, recipient, state->flight.len};
  if (!smn_state_may(state, asked, task))
    return SMN_ASK_OUT_OF_TURN;
  if (!reserve(state) || (line && !add_line(&state->flight, line)))
    return SMN_ASK_NO_MEMORY;
  push(state, &owed);
  state->unsent++;
  if (asked == SMN_ASKED_MAIL) {
    state->speaker = task;
    state->several = false;
  }
  if (asked >= SMN_ASKED_MAIL)
    state->last = asked;
  if (asked >= SMN_ASKED_CHUNK)
    state->cut = state->flight.len;
  state->chunk =
      state->chunk || asked == SMN_ASKED_CHUNK || asked == SMN_ASKED_LAST;
  state->content = false;
  return SMN_ASK_DONE;
}

bool smn_state_also(struct smn_state *state, size_t recipient) {
  if (!reserve(state))
    return false;
  struct smn_owed owed = *at(state, state->count - 1);
  owed.recipient = recipient;
  push(state, &owed);
  state->unsent++;
  state->several = true;
  return true;
}

bool smn_state_interrupted(struct smn_state *state,
                           const struct smn_task *task) {
  if (!reserve(state))
    return false;
  push(state, &(struct smn_owed){.asked = SMN_ASKED_END, .task = task});
  smn_state_worsen(state, SMN_PHASE_PARTING);
  return true;
}

void smn_state_left(struct smn_state *state) {
  state->unsent = state->cut = 0;
  state->chunk = false;
  smn_buf_clear(&state->flight);
}

/* What was said before is known by the reply that is owed for it; where none
   is, no command of an envelope may follow.  */
void smn_state_withdraw(struct smn_state *state, const struct smn_task *task) {
  while (state->unsent && at(state, state->count - 1)->task == task) {
    const struct smn_owed withdrawn = *at(state, state->count - 1);
    state->count--;
    state->unsent--;
    state->flight.len = withdrawn.at;
    if (withdrawn.asked >= SMN_ASKED_CHUNK) {
      state->chunk = false;
      state->cut = 0;
      state->content = withdrawn.asked == SMN_ASKED_END;
    }
    const struct smn_owed *before =
        state->count ? at(state, state->count - 1) : NULL;
    state->last = before ? before->asked : SMN_ASKED_NOTHING;
    if (withdrawn.asked == SMN_ASKED_MAIL)
      state->speaker =
          before && before->asked >= SMN_ASKED_MAIL ? before->task : NULL;
  }
}

/* What is heard */

void smn_state_worsen(struct smn_state *state, enum smn_phase phase) {
  if (state->phase != SMN_PHASE_NONE && state->phase < phase)
    state->phase = phase;
}

/* CODE can be an answer to ASKED at all.  */
static bool sensible(enum smn_asked asked, int code) {
  switch (code / 100) {
  case 2:
    return asked != SMN_ASKED_DATA;
  case 3:
    return (asked == SMN_ASKED_DATA && code == 354) ||
           (asked == SMN_ASKED_AUTH && code == 334);
  default:
    return code >= 400;
  }
}

/* What OWED, answered by CODE, does to the transaction of the server.  */
static void note_transaction(struct smn_state *state,
                             const struct smn_owed *owed, int code) {
  bool good = code / 100 == 2, refused;
  switch (owed->asked) {
  case SMN_ASKED_MAIL:
    state->open = state->open || good;
    break;
  case SMN_ASKED_DATA:
    state->content = code == 354;
    break;
  case SMN_ASKED_CHUNK:
  case SMN_ASKED_LAST:
    if (good)
      state->open = state->open && owed->asked == SMN_ASKED_CHUNK;
    else if (state->speaker != owed->task)
      /* RFC 3030 2: only RSET makes an end of it, and MAIL is there first.  */
      smn_state_worsen(state, SMN_PHASE_LOST);
    break;
  case SMN_ASKED_END:
    /* Postfix keeps the transaction when a rule for the end of data refuses
       (smtpd_end_of_data_restrictions): MAIL would be "nested", and content
       go to the recipients of before.  LMTP answers once for each recipient,
       and goes on.  */
    refused = !good && !state->lmtp;
    state->open = state->open && refused;
    if (refused && state->speaker != owed->task)
      smn_state_worsen(state, SMN_PHASE_LOST);
    break;
  case SMN_ASKED_RSET:
    state->open = false;
    if (!good)
      smn_state_worsen(state, SMN_PHASE_LOST);
    break;
  default:
    break;
  }
}

/* RFC 5321 3.8, RFC 7504: the server closes the connection.  Some say 521 of
   one recipient and stay.  */
static bool goodbye(enum smn_asked asked, int code) {
  return code == 421 || (code == 521 && asked != SMN_ASKED_RCPT);
}

struct smn_owed smn_state_answered(struct smn_state *state, int code) {
  const struct smn_owed owed = *at(state, 0);
  state->first = (state->first + 1) % state->room;
  state->count--;
  if (state->unsent > state->count)
    state->unsent = state->count; /* it is answered before it has left */
  if (!sensible(owed.asked, code))
    smn_state_worsen(state, SMN_PHASE_LOST);
  else if (goodbye(owed.asked, code))
    smn_state_worsen(state, SMN_PHASE_PARTING);
  note_transaction(state, &owed, code);
  return owed;
}

/* Counting */

size_t smn_state_owes(const struct smn_state *state,
                      const struct smn_task *task) {
  size_t owes = 0;
  for (size_t i = 0; i < state->count; i++)
    owes += at(state, i)->task == task;
  return owes;
}

size_t smn_state_awaited(const struct smn_state *state) {
  return state->count - state->unsent;
}

size_t smn_state_chunks(const struct smn_state *state,
                        const struct smn_task *task) {
  size_t chunks = 0;
  for (size_t i = 0; i < state->count; i++)
    chunks +=
        at(state, i)->task == task && at(state, i)->asked == SMN_ASKED_CHUNK;
  return chunks;
}

void smn_state_forget(struct smn_state *state, const struct smn_task *task) {
  smn_state_withdraw(state, task);
  if (smn_state_owes(state, task) ||
      (state->speaker == task && (state->content || state->chunk))) {
    smn_state_worsen(state, SMN_PHASE_LOST);
    state->first = state->count = state->unsent = 0;
    smn_buf_clear(&state->flight);
  }
  if (state->speaker == task)
    state->speaker = NULL;
}
