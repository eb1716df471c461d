/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transaction.c - one message through a session: MAIL, RCPT, DATA or BDAT.
   The first failure is the verdict, and what follows it only repeats it.  A
   transaction that was refused goes on to read what it is owed, so that the
   connection can be used again.  */
#include "smtp/transaction.h"
#include "base/wait.h"
#include "mail/receipt.h"
#include "smtp/parameters.h"
#include "smtp/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(SMN_BLOCK_ROOM >= SMN_FLIGHT_MAX, "a flight finds room");

#define PROGRESS_MS 100 /* between two reports */
#define WINDOW                                                                 \
  64 /* commands under way; their replies must fit into the                    \
        buffers between us, or both sides would wait */
#define FLIGHT_FULL                                                            \
  16384                /* octets of commands after which no more is added      \
                        */
#define CHUNKS_AHEAD 4 /* BDATs under way */

struct smn_transaction {
  const struct smn_task *task;
  struct smn_content content;
  bool durable;
  struct smn_plan plan;
  size_t asked;             /* commands of the envelope: MAIL is number 0 */
  size_t refused;           /* recipients */
  bool farewell;            /* a recipient was refused with the connection */
  bool barred;              /* it was refused, for any recipient */
  bool ended;               /* the end of data has left */
  bool taken;               /* a reply of success to that has come */
  bool unclear;             /* one that is neither success nor refusal */
  struct smn_error verdict; /* the first failure; SMN_OK: none so far */
  int64_t reported_ms;
};

enum smn_kind smn_transaction_new(struct smn_transaction **t,
                                  struct smn_session *s,
                                  const struct smn_task *task) {
  struct smn_error *err = &task->result->error;
  const struct smn_job *job = task->job;
  struct smn_transaction *made = calloc(1, sizeof *made);
  *t = NULL;
  if (!made)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  made->task = task;
  made->durable = job->durable || !job->entry;
  made->content.fd = -1;
  enum smn_kind kind = smn_job_check(job, err);
  if (kind == SMN_OK)
    kind = smn_content_open(&made->content, job->file, job->binary, &s->blocks,
                            err);
  if (kind == SMN_OK)
    *t = made;
  else
    smn_transaction_free(made, s);
  return kind;
}

void smn_transaction_free(struct smn_transaction *t, struct smn_session *s) {
  if (t)
    smn_content_close(&t->content, &s->blocks);
  free(t);
}

const struct smn_task *smn_transaction_task(const struct smn_transaction *t) {
  return t->task;
}

static struct smn_error *error_of(const struct smn_transaction *t) {
  return &t->task->result->error;
}

enum smn_kind smn_transaction_keep(struct smn_transaction *t) {
  if (smn_cancelled(t->task->observer->cancel_fd))
    return smn_fail(error_of(t), SMN_CANCELLED, "cancelled");
  if (t->durable)
    return SMN_OK;
  enum smn_kind kind = smn_receipt_sync(t->task->job->entry, error_of(t));
  t->durable = kind == SMN_OK;
  return kind;
}

static void forget_answer(struct smn_recipient_result *r) {
  free(r->text);
  *r = (struct smn_recipient_result){.address = r->address};
}

void smn_transaction_restart(struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  for (size_t i = 0; i < result->recipient_count; i++)
    forget_answer(&result->recipients[i]);
  result->more = false;
  result->eight_bit_unsupported = result->release_unsupported = false;
  result->notes[0] = '\0';
  t->asked = t->refused = 0;
  t->farewell = t->barred = false;
  t->verdict.kind = SMN_OK;
}

/* The error in the result is that of the last step; the first one counts.  */
static enum smn_kind fail(struct smn_transaction *t, enum smn_kind kind) {
  if (kind == SMN_OK || t->verdict.kind != SMN_OK)
    return kind;
  t->verdict = *error_of(t);
  if (!t->ended && t->verdict.stage == SMN_STAGE_END_OF_DATA)
    t->verdict.stage = SMN_STAGE_CONTENT; /* it did not come to that */
  return kind;
}

static bool failed(const struct smn_transaction *t) {
  return t->verdict.kind != SMN_OK;
}

/* What the replies mean */

static void note_recipient(const struct smn_session *s,
                           struct smn_recipient_result *r) {
  r->code = s->reply.code;
  r->accepted = r->code / 100 == 2;
  memcpy(r->enhanced, s->reply.enhanced, sizeof r->enhanced);
  free(r->text);
  r->text = smn_dialogue_words(s);
}

/* Every refused recipient with its reply, permanent ones deciding.  */
static enum smn_kind refused_recipients(const struct smn_transaction *t) {
  const struct smn_result *result = t->task->result;
  const struct smn_recipient_result *decisive = NULL;
  struct smn_error *err = error_of(t);
  char *text = err->text;
  size_t size = sizeof err->text;
  int n = snprintf(text, size, "%zu of %zu recipients refused", t->refused,
                   t->plan.recipients);
  for (size_t i = 0; i < result->recipient_count; i++) {
    const struct smn_recipient_result *r = &result->recipients[i];
    if (r->accepted || r->code == 0)
      continue;
    if (!decisive || (decisive->code < 500 && r->code >= 500))
      decisive = r;
    if (n >= 0 && (size_t)n < size)
      n += snprintf(text + n, size - (size_t)n, "; <%s>: %d %s", r->address,
                    r->code, r->text ? r->text : "");
  }
  err->stage = SMN_STAGE_RCPT;
  err->enhanced[0] = '\0';
  err->code = 0;
  if (decisive) {
    err->code = decisive->code;
    memcpy(err->enhanced, decisive->enhanced, sizeof err->enhanced);
  }
  return err->kind = SMN_REPLY;
}

/* RFC 5321 4.5.3.1.10: too many recipients, which a client tells from other
   refusals, and for which servers also said 552.  OpenSMTPD says 451 4.5.3.  */
static bool too_many(const struct smn_recipient_result *r) {
  if (r->enhanced[0])
    return strcmp(r->enhanced + 1, ".5.3") == 0;
  return r->code == 452 || r->code == 552;
}

/* The message goes once more to those who were too many.  */
static void put_off(struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  if (t->refused == t->plan.recipients)
    return;
  for (size_t i = 0; i < t->plan.recipients; i++) {
    const struct smn_recipient_result *r = &result->recipients[i];
    if (!r->accepted && !too_many(r))
      return;
  }
  for (size_t i = 0; i < t->plan.recipients; i++)
    if (!result->recipients[i].accepted)
      forget_answer(&result->recipients[i]);
  t->refused = 0;
  result->more = true;
}

/* All recipients are answered for.  */
static void judge_recipients(struct smn_transaction *t) {
  if (t->refused)
    put_off(t);
  if (t->refused &&
      (!t->task->job->partial || t->refused == t->plan.recipients))
    fail(t, refused_recipients(t));
}

static void note_rcpt(struct smn_session *s, struct smn_transaction *t,
                      size_t number) {
  struct smn_recipient_result *r = &t->task->result->recipients[number];
  note_recipient(s, r);
  t->refused += !r->accepted;
  t->farewell =
      t->farewell || r->code == 421 || r->code == 521 || s->reply.broken;
  if (!r->accepted && r->code < 400)
    fail(t, smn_dialogue_unexpected(s, t->task));
  else if (number + 1 == t->plan.recipients)
    judge_recipients(t);
}

/* DATA left with the envelope, and no recipient was accepted.  An end of data
   at once lets the server refuse what it has to, and then the connection is of
   use again.  */
static void send_nothing(struct smn_session *s,
                         const struct smn_transaction *t) {
  (void)smn_dialogue_ask(s, t->task, SMN_ASKED_END, 0, ".");
}

static void note_data(struct smn_session *s, struct smn_transaction *t) {
  if (s->reply.code == 354 && t->refused == t->plan.recipients)
    send_nothing(s, t);
  else if (!failed(t)) {
    t->barred = s->reply.code >= 400;
    fail(t, smn_dialogue_expect(s, t->task, 354));
  }
}

/* A reply to the end of data that has not left: the server refuses what it has
   seen so far, or (failed) nothing was to be sent.  */
static void note_premature(struct smn_session *s, struct smn_transaction *t) {
  if (!failed(t))
    fail(t, smn_dialogue_unexpected(s, t->task));
}

/* RFC 2033 4.2: a reply for each recipient that RCPT has accepted.  */
static void note_lmtp_end(struct smn_session *s, struct smn_transaction *t,
                          size_t number) {
  struct smn_recipient_result *r = &t->task->result->recipients[number];
  note_recipient(s, r);
  r->delivered = r->accepted;
  t->refused += !r->accepted;
  if (t->refused == t->plan.recipients)
    fail(t, refused_recipients(t));
}

static void note_end(struct smn_session *s, struct smn_transaction *t,
                     size_t number) {
  struct smn_result *result = t->task->result;
  bool good = s->reply.code / 100 == 2;
  if (!t->ended) {
    note_premature(s, t);
    return;
  }
  if (!good && s->reply.code < 400) {
    t->unclear = true;
    fail(t, smn_dialogue_unexpected(s, t->task));
    return;
  }
  if (good) {
    t->taken = true;
    free(result->reply);
    result->reply = smn_dialogue_reply(s);
  }
  if (smn_server_lmtp(&t->task->job->server))
    note_lmtp_end(s, t, number);
  else if (!good)
    fail(t, smn_dialogue_unexpected(s, t->task));
}

/* Read the next reply to T, and note what it means.  Other than SMN_OK: no more
   can be read, which is the verdict if there is none yet.  */
static enum smn_kind hear(struct smn_session *s, struct smn_transaction *t) {
  struct smn_owed owed = {.asked = SMN_ASKED_NOTHING};
  enum smn_kind kind = smn_dialogue_read(s, t->task, &owed);
  if (kind != SMN_OK) {
    if (t->farewell && !t->ended && kind != SMN_CANCELLED)
      kind = refused_recipients(t);
    return fail(t, kind);
  }
  switch (owed.asked) {
  case SMN_ASKED_MAIL:
  case SMN_ASKED_CHUNK:
    kind = smn_dialogue_expect(s, t->task, 2);
    t->barred = t->barred || kind == SMN_REPLY;
    fail(t, kind);
    break;
  case SMN_ASKED_RCPT:
    if (!failed(t))
      note_rcpt(s, t, owed.recipient);
    break;
  case SMN_ASKED_DATA:
    note_data(s, t);
    break;
  case SMN_ASKED_LAST:
  case SMN_ASKED_END:
    note_end(s, t, owed.recipient);
    break;
  default:
    break;
  }
  return SMN_OK;
}

/* Read all that T is owed.  */
static void hear_all(struct smn_session *s, struct smn_transaction *t) {
  while (smn_state_owes(&s->state, t->task) && hear(s, t) == SMN_OK)
    continue;
}

/* Envelope */

/* Write the command NUMBER of the envelope into LINE.  */
static enum smn_kind write_command(struct smn_session *s,
                                   const struct smn_transaction *t,
                                   size_t number, char *line, size_t size) {
  const struct smn_result *result = t->task->result;
  error_of(t)->stage = number == 0 ? SMN_STAGE_MAIL : SMN_STAGE_RCPT;
  if (number == 0)
    return smn_parameters_mail(s, t->task, &t->content, line, size);
  if (number <= t->plan.recipients)
    return smn_parameters_rcpt(
        s, t->task, result->recipients[number - 1].address, line, size);
  snprintf(line, size, "DATA");
  return SMN_OK;
}

static enum smn_kind ask_command(struct smn_session *s,
                                 struct smn_transaction *t) {
  char line[SMN_COMMAND_MAX];
  size_t number = t->asked;
  enum smn_asked asked = number == 0                    ? SMN_ASKED_MAIL
                         : number <= t->plan.recipients ? SMN_ASKED_RCPT
                                                        : SMN_ASKED_DATA;
  enum smn_kind kind = write_command(s, t, number, line, sizeof line);
  if (kind == SMN_OK)
    kind = smn_dialogue_ask(s, t->task, asked, number ? number - 1 : 0, line);
  t->asked += kind == SMN_OK;
  return kind;
}

/* Ask as much of the envelope as may leave now.  A flight of many is cheaper
   than many of one.  */
static void ask_envelope(struct smn_session *s, struct smn_transaction *t) {
  size_t window = smn_dialogue_pipelined(s) ? WINDOW : 1;
  if (smn_state_owes(&s->state, t->task) > window / 2)
    return;
  while (!failed(t) && t->asked < t->plan.commands &&
         s->state.phase == SMN_PHASE_UP &&
         smn_state_owes(&s->state, t->task) < window &&
         s->state.flight.len < FLIGHT_FULL)
    fail(t, ask_command(s, t));
}

/* Decide how the message goes through this very connection.  */
static void plan(struct smn_session *s, struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  smn_plan_make(&t->plan, t->task->job, &s->caps, smn_dialogue_pipelined(s),
                !s->early && !s->rested);
  result->octets = t->content.octets;
  result->more = t->plan.recipients < result->recipient_count;
}

/* A chunk that may go with the commands makes them wait for it: that costs no
   round trip more.  */
void smn_transaction_ahead(struct smn_session *s, struct smn_transaction *t) {
  if (!smn_dialogue_pipelined(s) || !t->durable ||
      !smn_content_ready(&t->content) ||
      !smn_state_may(&s->state, SMN_ASKED_MAIL, t->task) ||
      fail(t, smn_content_measured(&t->content, -1, error_of(t))) != SMN_OK)
    return;
  plan(s, t);
  if (!t->plan.chunk_ahead)
    ask_envelope(s, t);
  if (failed(t)) {
    smn_state_withdraw(&s->state, t->task);
    smn_transaction_restart(t); /* it is found out again in its turn */
  }
}

static enum smn_kind start(struct smn_session *s, struct smn_transaction *t) {
  enum smn_kind kind = smn_content_measured(
      &t->content, t->task->observer->cancel_fd, error_of(t));
  if (kind == SMN_OK)
    plan(s, t);
  return fail(t, kind);
}

/* 421 to a recipient ends the message, also for those who were accepted.  */
static bool over(const struct smn_session *s, const struct smn_transaction *t) {
  return t->farewell && s->state.phase != SMN_PHASE_UP;
}

static void check_parting(const struct smn_session *s,
                          struct smn_transaction *t) {
  if (failed(t) || s->state.phase == SMN_PHASE_UP)
    return;
  if (t->refused)
    refused_recipients(t);
  else
    *error_of(t) = s->broken;
  fail(t, error_of(t)->kind);
}

/* All of the envelope has been asked, and content may go along.  */
static bool goes_along(const struct smn_transaction *t) {
  return t->plan.chunk_ahead && t->asked == t->plan.commands;
}

enum smn_kind smn_transaction_begin(struct smn_session *s,
                                    struct smn_transaction *t) {
  if (t->asked == 0 && start(s, t) == SMN_OK)
    ask_envelope(s, t);
  if (failed(t) || goes_along(t))
    return t->verdict.kind;
  enum smn_kind kind = smn_dialogue_write(s, t->task, NULL, 0);
  /* What the server has said before tells more.  */
  return s->state.phase == SMN_PHASE_PARTING ? SMN_OK : fail(t, kind);
}

bool smn_transaction_small(const struct smn_transaction *t) {
  return t->content.size <= SMN_BLOCK;
}

enum smn_kind smn_transaction_envelope(struct smn_session *s,
                                       struct smn_transaction *t) {
  while (!failed(t) && !goes_along(t) && !over(s, t) &&
         smn_state_owes(&s->state, t->task) && hear(s, t) == SMN_OK)
    ask_envelope(s, t);
  check_parting(s, t);
  return t->verdict.kind;
}

/* Content */

/* The user has not cancelled it.  */
static enum smn_kind wanted(const struct smn_transaction *t,
                            const struct smn_supply *supply) {
  struct smn_error ignored;
  bool still = supply->begin ? supply->begin(supply->context, t->task)
                             : smn_wait(-1, SMN_WAIT_READ, smn_now_ms(),
                                        t->task->observer->cancel_fd,
                                        &ignored) != SMN_CANCELLED;
  return still ? SMN_OK : smn_fail(error_of(t), SMN_CANCELLED, "cancelled");
}

static void report(struct smn_transaction *t) {
  const struct smn_observer *observer = t->task->observer;
  int64_t now_ms = smn_now_ms();
  if (!observer->progress || now_ms - t->reported_ms < PROGRESS_MS)
    return;
  t->reported_ms = now_ms;
  observer->progress(observer->context, t->content.done, t->content.size);
}

/* Write the flight and the first LEN octets of the blocks; LAST: with them the
   end of data leaves.  What the server has said is believed before a
   failure.  */
static enum smn_kind write_octets(struct smn_session *s,
                                  struct smn_transaction *t, size_t len,
                                  bool last) {
  struct smn_blocks *blocks = &s->blocks;
  enum smn_kind kind = smn_dialogue_write(s, t->task, blocks->out, len);
  t->ended = last && s->content_left;
  if (kind == SMN_OK) {
    blocks->len -= len;
    memmove(blocks->out, blocks->out + len, blocks->len);
    return SMN_OK;
  }
  const struct smn_error why = *error_of(t);
  if (s->state.phase == SMN_PHASE_PARTING)
    hear_all(s, t);
  *error_of(t) = why;
  return fail(t, kind);
}

/* Wait until one more chunk may leave.  A refusal that is here already saves
   the rest.  */
static void await_turn(struct smn_session *s, struct smn_transaction *t) {
  size_t ahead = smn_dialogue_pipelined(s) ? CHUNKS_AHEAD : 1;
  while (!failed(t) && !over(s, t) &&
         (smn_state_chunks(&s->state, t->task) >= ahead ||
          smn_dialogue_pending(s)) &&
         hear(s, t) == SMN_OK)
    continue;
  check_parting(s, t);
}

/* Send what stands in the blocks as a chunk that is not the last.  */
static enum smn_kind send_chunk(struct smn_session *s,
                                struct smn_transaction *t) {
  char line[64];
  size_t len = s->blocks.len;
  snprintf(line, sizeof line, "BDAT %zu", len);
  enum smn_kind kind = smn_dialogue_ask(s, t->task, SMN_ASKED_CHUNK, 0, line);
  return kind == SMN_OK ? write_octets(s, t, len, false) : fail(t, kind);
}

/* Send a block that is not the last: whole as a chunk, or as it is, a rest that
   fills no record staying where it is.  */
static enum smn_kind send_block(struct smn_session *s,
                                struct smn_transaction *t) {
  size_t len = s->blocks.len;
  if (smn_dialogue_cancelled(s, t->task))
    return fail(t, smn_fail(error_of(t), SMN_CANCELLED, "cancelled"));
  if (!t->plan.chunked)
    return write_octets(s, t, len - len % SMN_TLS_RECORD, false);
  if (len == 0)
    return SMN_OK;
  await_turn(s, t);
  return failed(t) ? t->verdict.kind : send_chunk(s, t);
}

/* DATA, unless it left with the envelope.  */
static enum smn_kind begin_data(struct smn_session *s,
                                struct smn_transaction *t) {
  if (t->plan.chunked || t->plan.data_ahead)
    return SMN_OK;
  enum smn_kind kind = smn_dialogue_ask(s, t->task, SMN_ASKED_DATA, 0, "DATA");
  if (fail(t, kind) == SMN_OK)
    (void)hear(s, t);
  return t->verdict.kind;
}

enum smn_kind smn_transaction_content(struct smn_session *s,
                                      struct smn_transaction *t,
                                      const struct smn_supply *supply) {
  struct smn_content *content = &t->content;
  if (fail(t, wanted(t, supply)) != SMN_OK || begin_data(s, t) != SMN_OK)
    return t->verdict.kind;
  s->blocks.len = 0;
  smn_content_begin(content, !t->plan.chunked);
  for (;;) {
    error_of(t)->stage = SMN_STAGE_CONTENT;
    enum smn_kind kind = smn_content_fill(content, &s->blocks, error_of(t));
    if (fail(t, kind) != SMN_OK || content->ended)
      return kind;
    kind = send_block(s, t);
    if (kind != SMN_OK)
      return kind;
    report(t);
  }
}

/* End of data */

/* The mark on the disk takes a while, in which a wish to cancel can still be
   granted.  */
static enum smn_kind mark_doubt(struct smn_session *s,
                                const struct smn_transaction *t,
                                const struct smn_supply *supply) {
  const struct smn_job *job = t->task->job;
  enum smn_kind kind = wanted(t, supply);
  if (kind == SMN_OK && job->entry) {
    smn_result_redact(t->task->result, &s->needles);
    kind = smn_receipt_doubt(job, t->task->result, error_of(t));
  }
  return kind == SMN_OK && job->entry ? wanted(t, supply) : kind;
}

/* Owe the reply to the end of data, or those of LMTP.  */
static enum smn_kind ask_end(struct smn_session *s, struct smn_transaction *t) {
  const struct smn_result *result = t->task->result;
  bool lmtp = smn_server_lmtp(&t->task->job->server);
  char line[64];
  bool first = true;
  enum smn_kind kind = SMN_OK;
  snprintf(line, sizeof line, "BDAT %zu LAST", s->blocks.len);
  for (size_t i = 0; kind == SMN_OK && i < (lmtp ? t->plan.recipients : 1);
       i++) {
    if (lmtp && !result->recipients[i].accepted)
      continue;
    if (!first && !smn_state_also(&s->state, i))
      kind = smn_fail(error_of(t), SMN_SYSTEM, "no memory");
    else if (first)
      kind = smn_dialogue_ask(s, t->task,
                              t->plan.chunked ? SMN_ASKED_LAST : SMN_ASKED_END,
                              i, t->plan.chunked ? line : NULL);
    first = false;
  }
  return kind;
}

static void trace_end(const struct smn_session *s,
                      const struct smn_transaction *t) {
  char shown[64];
  snprintf(shown, sizeof shown, "<%" PRIu64 " octets of message>",
           t->content.wire.octets);
  smn_dialogue_trace(s, t->task, false, shown, strlen(shown));
  if (!t->plan.chunked)
    smn_dialogue_trace(s, t->task, false, ".", 1);
}

enum smn_kind smn_transaction_end(struct smn_session *s,
                                  struct smn_transaction *t,
                                  const struct smn_supply *supply,
                                  struct smn_transaction *next) {
  enum smn_kind kind = smn_content_finish(&t->content, &s->blocks, error_of(t));
  if (fail(t, kind) != SMN_OK)
    return kind;
  if (t->plan.chunked)
    await_turn(s, t);
  if (failed(t))
    return t->verdict.kind;
  kind = mark_doubt(s, t, supply);
  if (kind == SMN_OK)
    kind = ask_end(s, t);
  if (fail(t, kind) != SMN_OK)
    return kind;
  trace_end(s, t);
  if (next)
    smn_transaction_ahead(s, next);
  return write_octets(s, t, s->blocks.len, true);
}

/* Outcome */

/* Some recipient may get the message, as far as the answers go.  */
static bool for_anyone(const struct smn_transaction *t) {
  const struct smn_result *result = t->task->result;
  for (size_t i = 0; !t->barred && i < t->plan.recipients; i++) {
    const struct smn_recipient_result *r = &result->recipients[i];
    if (r->accepted ? !r->delivered : r->code == 0)
      return true;
  }
  return false;
}

enum smn_kind smn_transaction_outcome(struct smn_session *s,
                                      struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  smn_state_withdraw(&s->state, t->task);
  if (t->ended ||
      (s->state.phase == SMN_PHASE_UP && t->verdict.kind != SMN_CANCELLED))
    hear_all(s, t);
  bool lmtp = smn_server_lmtp(&t->task->job->server);
  bool open = t->unclear || smn_state_owes(&s->state, t->task) > 0;
  bool contradiction = t->taken && failed(t) && !lmtp;
  result->in_doubt = t->ended && (contradiction || (open && for_anyone(t)));
  if (!failed(t))
    return SMN_OK;
  if (contradiction)
    smn_fail(&result->error, SMN_PROTOCOL,
             "the server has refused the message and then taken it: %.1800s",
             t->verdict.text);
  else
    result->error = t->verdict;
  return result->error.kind;
}
