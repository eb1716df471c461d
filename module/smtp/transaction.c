/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transaction.c - one mail through a session: MAIL, RCPT, DATA or BDAT.
   The commands of an envelope are numbered: 0 is MAIL, then come the RCPTs, and
   behind them DATA where it may leave before the RCPTs are answered.  They
   leave in flights as large as the server allows, and every reply is read and
   matched by its number.  */
#include "smtp/transaction.h"
#include "base/ascii.h"
#include "base/wait.h"
#include "mail/receipt.h"
#include "smtp/parameters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AFTER_DATA 10   /* times the timeout behind the end of data */
#define PROGRESS_MS 100 /* between two reports */
#define WINDOW                                                                 \
  64 /* commands under way; their replies must fit into the                    \
        buffers between us, or both sides would wait */
#define FLIGHT_MAX (SMN_COMMANDS_MAX / 2) /* octets of commands of one mail */
#define CHUNKS_AHEAD 4                    /* BDATs under way */

struct smn_transaction {
  const struct smn_task *task;
  struct smn_content content;
  size_t recipients; /* so many of them at a time, the first ones */
  size_t count;      /* commands of the envelope */
  size_t sent, answered;
  bool data_ahead;  /* DATA is one of them */
  bool chunked;     /* BDAT instead of DATA */
  bool chunk_ahead; /* which leaves before the envelope is answered */
  size_t refused;   /* recipients */
  size_t chunks;    /* BDATs without reply */
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
  made->content.fd = -1;
  enum smn_kind kind = smn_job_check(job, err);
  if (kind == SMN_OK && job->entry && !job->durable)
    kind = smn_receipt_sync(job->entry, err);
  if (kind == SMN_OK)
    kind = smn_content_open(&made->content, job->file, job->binary, &s->blocks,
                            err);
  if (kind == SMN_OK)
    *t = made;
  else
    smn_transaction_free(made);
  return kind;
}

void smn_transaction_free(struct smn_transaction *t) {
  if (t)
    smn_content_close(&t->content);
  free(t);
}

const struct smn_task *smn_transaction_task(const struct smn_transaction *t) {
  return t->task;
}

bool smn_transaction_begun(const struct smn_transaction *t) {
  return t->sent > 0;
}

void smn_transaction_restart(struct smn_transaction *t) {
  t->sent = t->answered = t->refused = t->chunks = 0;
}

/* Commands of the envelope */

/* Write the command NUMBER of the envelope into LINE.  */
static enum smn_kind write_command(struct smn_session *s,
                                   const struct smn_transaction *t,
                                   size_t number, char *line, size_t size) {
  const struct smn_result *result = t->task->result;
  s->err->stage = number == 0 ? SMN_STAGE_MAIL : SMN_STAGE_RCPT;
  if (number == 0)
    return smn_parameters_mail(s, &t->content, line, size);
  if (number <= t->recipients)
    return smn_parameters_rcpt(s, result->recipients[number - 1].address, line,
                               size);
  snprintf(line, size, "DATA");
  return SMN_OK;
}

static bool pipelined(const struct smn_session *s) {
  return s->caps.pipelining && !s->plain_dialogue;
}

static const char *domain_of(const char *address) {
  const char *at = strrchr(address, '@');
  return at ? at + 1 : "";
}

/* The domain of the recipient NUMBER is none of those before it.  */
static bool new_domain(const struct smn_result *result, size_t number) {
  const char *domain = domain_of(result->recipients[number].address);
  for (size_t i = 0; i < number; i++) {
    const char *other = domain_of(result->recipients[i].address);
    if (smn_ascii_same(domain, strlen(domain), other, strlen(other)))
      return false;
  }
  return true;
}

/* How many of the recipients one mail may have, by RFC 9422.  */
static size_t take_recipients(const struct smn_capabilities *caps,
                              const struct smn_result *result) {
  size_t count = result->recipient_count, domains = 0;
  if (caps->rcpt_max && count > caps->rcpt_max)
    count = (size_t)caps->rcpt_max;
  for (size_t i = 0; caps->rcpt_domain_max && i < count; i++) {
    domains += new_domain(result, i);
    if (domains > caps->rcpt_domain_max)
      return i;
  }
  return count;
}

/* Where everybody who is accepted is to get the mail, DATA or the first chunk
   need not wait for the answers; else those who are accepted would get an empty
   one, or all of it although others do not.  LMTP says nothing to an end of
   data that is for nobody.  And what relies on an offer of before may have to
   be sent again, which a chunk that is the last must not be.  */
static void plan(const struct smn_session *s, struct smn_transaction *t) {
  const struct smn_job *job = t->task->job;
  struct smn_result *result = t->task->result;
  t->recipients = take_recipients(&s->caps, result);
  result->more = t->recipients < result->recipient_count;
  bool ahead = pipelined(s) && (t->recipients == 1 || job->partial) &&
               !smn_server_lmtp(&job->server);
  t->chunked = job->chunking && s->caps.chunking;
  t->data_ahead = ahead && !t->chunked;
  t->count = 1 + t->recipients + t->data_ahead;
  t->chunk_ahead = ahead && t->chunked && t->count <= WINDOW && !s->hello_owed;
}

/* Add the commands that may leave now to the flight.  On failure none of T has
   been added.  */
static enum smn_kind add_commands(struct smn_session *s,
                                  struct smn_transaction *t) {
  size_t window = pipelined(s) ? WINDOW : 1;
  size_t before = s->flight.len, sent = t->sent;
  char line[SMN_COMMAND_MAX];
  enum smn_kind kind = SMN_OK;
  if (sent == 0) {
    kind =
        smn_content_measured(&t->content, t->task->observer->cancel_fd, s->err);
    t->task->result->octets = t->content.octets;
    plan(s, t);
  }
  if (sent - t->answered > window / 2)
    return SMN_OK; /* a flight of many is cheaper than many of one */
  while (kind == SMN_OK && sent < t->count && sent - t->answered < window &&
         s->flight.len - before < FLIGHT_MAX - sizeof line) {
    kind = write_command(s, t, sent++, line, sizeof line);
    if (kind == SMN_OK)
      kind = smn_dialogue_add(s, line);
  }
  if (kind == SMN_OK)
    t->sent = sent;
  else
    s->flight.len = before;
  return kind;
}

/* Replies to them */

static void note_recipient(struct smn_session *s,
                           struct smn_recipient_result *r) {
  r->code = s->reply.code;
  r->accepted = r->code / 100 == 2;
  memcpy(r->enhanced, s->reply.enhanced, sizeof r->enhanced);
  free(r->text);
  r->text = smn_dialogue_words(s);
}

/* Every refused recipient with its reply, permanent ones deciding.  */
static enum smn_kind refused_recipients(struct smn_session *s,
                                        const struct smn_transaction *t) {
  const struct smn_result *result = t->task->result;
  const struct smn_recipient_result *decisive = NULL;
  char *text = s->err->text;
  size_t size = sizeof s->err->text;
  int n = snprintf(text, size, "%zu of %zu recipients refused", t->refused,
                   t->recipients);
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
  s->err->stage = SMN_STAGE_RCPT;
  s->err->enhanced[0] = '\0';
  s->err->code = 0;
  if (decisive) {
    s->err->code = decisive->code;
    memcpy(s->err->enhanced, decisive->enhanced, sizeof s->err->enhanced);
  }
  return s->err->kind = SMN_REPLY;
}

/* DATA went out, and now nobody is to get anything: an end of data at once,
   which the server has to refuse, since it has accepted no recipient.  */
static enum smn_kind send_nothing(struct smn_session *s) {
  enum smn_kind kind = smn_dialogue_add(s, ".");
  if (kind == SMN_OK)
    kind = smn_dialogue_flush(s);
  return kind == SMN_OK ? smn_dialogue_read(s, AFTER_DATA) : kind;
}

/* Read the reply to the command NUMBER of the envelope.  *VERDICT becomes the
   first failure that is one of the whole mail; the return value is SMN_OK as
   long as replies can be read.  */
static enum smn_kind read_answer(struct smn_session *s,
                                 struct smn_transaction *t, size_t number,
                                 enum smn_kind *verdict) {
  struct smn_result *result = t->task->result;
  struct smn_error first = *s->err;
  s->err->stage = number == 0               ? SMN_STAGE_MAIL
                  : number <= t->recipients ? SMN_STAGE_RCPT
                                            : SMN_STAGE_DATA;
  enum smn_kind kind = smn_dialogue_read(s, 1);
  if (kind != SMN_OK) {
    if (*verdict != SMN_OK)
      *s->err = first;
    return *verdict = *verdict == SMN_OK ? kind : *verdict;
  }
  bool last = s->reply.code == 421; /* the server has closed */
  if (*verdict != SMN_OK) {
    *s->err = first; /* what follows a refusal only repeats it */
    if (s->reply.code == 354)
      return SMN_PROTOCOL;
    return last ? SMN_NETWORK : SMN_OK;
  }
  if (number == 0)
    *verdict = smn_dialogue_expect(s, 2);
  else if (number <= t->recipients) {
    struct smn_recipient_result *r = &result->recipients[number - 1];
    note_recipient(s, r);
    t->refused += !r->accepted;
    if (r->code < 400 && !r->accepted)
      *verdict = smn_dialogue_unexpected(s);
    else if (last)
      *verdict = refused_recipients(s, t);
  } else if (t->refused == t->recipients) {
    *verdict = refused_recipients(s, t);
    if (s->reply.code == 354) {
      first = *s->err;
      kind = send_nothing(s);
      *s->err = first;
      return kind;
    }
  } else
    *verdict = smn_dialogue_expect(s, 354);
  if (number == 0 && *verdict == SMN_OK)
    s->dirty = true;
  if (*verdict == SMN_PROTOCOL)
    return SMN_PROTOCOL;
  return last ? SMN_NETWORK : SMN_OK;
}

/* RFC 5321 4.5.3.1.10: too many recipients, which a client is to tell from
   other refusals, and for which servers also said 552.  */
static bool too_many(const struct smn_recipient_result *r) {
  return (r->code == 452 || r->code == 552) &&
         (!r->enhanced[0] || strcmp(r->enhanced + 1, ".5.3") == 0);
}

/* The mail is to be sent once more to those who were too many.  */
static void put_off(struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  if (t->refused == t->recipients)
    return;
  for (size_t i = 0; i < t->recipients; i++) {
    const struct smn_recipient_result *r = &result->recipients[i];
    if (!r->accepted && !too_many(r))
      return;
  }
  for (size_t i = 0; i < t->recipients; i++) {
    struct smn_recipient_result *r = &result->recipients[i];
    if (r->accepted)
      continue;
    free(r->text);
    *r = (struct smn_recipient_result){.address = r->address};
  }
  t->refused = 0;
  result->more = true;
}

/* Send what has not left yet and read all answers, until the envelope is
   agreed upon or refused.  */
static enum smn_kind settle_envelope(struct smn_session *s,
                                     struct smn_transaction *t) {
  const enum smn_stage stage = s->err->stage;
  enum smn_kind verdict = SMN_OK, readable = SMN_OK;
  s->listening = false;
  do {
    if (verdict == SMN_OK) {
      verdict = add_commands(s, t);
      if (verdict == SMN_OK)
        verdict = readable = smn_dialogue_flush(s);
    }
    if (t->answered < t->sent && readable == SMN_OK)
      readable = read_answer(s, t, t->answered++, &verdict);
  } while (readable == SMN_OK && (t->answered < t->sent ||
                                  (verdict == SMN_OK && t->sent < t->count)));
  if (verdict == SMN_OK && t->refused)
    put_off(t);
  if (verdict == SMN_OK && t->refused &&
      (!t->task->job->partial || t->refused == t->recipients))
    verdict = refused_recipients(s, t);
  s->listening = readable == SMN_OK;
  if (verdict == SMN_OK)
    s->err->stage = stage;
  return verdict;
}

enum smn_kind smn_transaction_envelope(struct smn_session *s,
                                       struct smn_transaction *t) {
  if (t->sent == 0) {
    enum smn_kind kind = add_commands(s, t);
    if (kind != SMN_OK || t->chunk_ahead)
      return kind;
  }
  return settle_envelope(s, t);
}

/* Content */

/* The server speaks while it should listen: a refusal, most likely.  */
static enum smn_kind early_reply(struct smn_session *s) {
  enum smn_kind kind = smn_dialogue_read(s, 1);
  return kind == SMN_OK ? smn_dialogue_unexpected(s) : kind;
}

/* A write failed; a server that closed may have said why before.  */
static enum smn_kind broken_write(struct smn_session *s, enum smn_kind kind) {
  struct smn_error kept = *s->err;
  if (kind != SMN_NETWORK)
    return kind;
  if (smn_conn_has_input(s->conn) && smn_dialogue_read(s, 1) == SMN_OK &&
      s->reply.code >= 400)
    return smn_reply_fail(&s->reply, s->err);
  *s->err = kept;
  return kind;
}

static void report(struct smn_transaction *t) {
  const struct smn_observer *observer = t->task->observer;
  int64_t now_ms = smn_now_ms();
  if (!observer->progress || now_ms - t->reported_ms < PROGRESS_MS)
    return;
  t->reported_ms = now_ms;
  observer->progress(observer->context, t->content.done, t->content.size);
}

static enum smn_kind read_chunk_reply(struct smn_session *s,
                                      struct smn_transaction *t) {
  t->chunks--;
  enum smn_kind kind = smn_dialogue_read(s, 1);
  return kind == SMN_OK ? smn_dialogue_expect(s, 2) : kind;
}

/* See to it that one more chunk may leave.  A refusal that is here already
   saves the rest.  */
static enum smn_kind await_turn(struct smn_session *s,
                                struct smn_transaction *t) {
  size_t ahead = pipelined(s) ? CHUNKS_AHEAD : 1;
  enum smn_kind kind = SMN_OK;
  if (t->answered < t->sent && t->chunks > 0 &&
      (t->chunks >= ahead || smn_conn_has_input(s->conn)))
    kind = settle_envelope(s, t);
  while (kind == SMN_OK && t->chunks >= ahead)
    kind = read_chunk_reply(s, t);
  return kind;
}

/* KIND has ended the mail, whose chunks have left whole: each still has a
   reply.  Then the server listens again, and nothing is in doubt, unless it has
   taken the last chunk for whomever.  */
static enum smn_kind drain_chunks(struct smn_session *s,
                                  struct smn_transaction *t,
                                  enum smn_kind kind) {
  const struct smn_error first = *s->err;
  struct smn_result *result = t->task->result;
  bool readable = s->reply.code != 421;
  if (kind != SMN_REPLY)
    return kind;
  for (; readable && t->chunks > 0; t->chunks--) {
    bool last = result->in_doubt && t->chunks == 1;
    readable = smn_dialogue_read(s, last ? AFTER_DATA : 1) == SMN_OK &&
               s->reply.code != 421;
  }
  s->listening = readable;
  *s->err = first;
  if (result->in_doubt && readable && s->reply.code / 100 == 2) {
    s->listening = false;
    return smn_fail(
        s->err, SMN_PROTOCOL,
        "the server has refused the mail and then taken it: %.1800s",
        first.text);
  }
  result->in_doubt = false;
  return kind;
}

/* Write what stands in blocks.out: as a chunk that is not the last, or as it
   is, a rest that fills no record staying there.  */
static enum smn_kind write_block(struct smn_session *s,
                                 struct smn_transaction *t) {
  struct smn_blocks *blocks = &s->blocks;
  size_t len = blocks->len;
  enum smn_kind kind = SMN_OK;
  if (smn_conn_cancelled(s->conn))
    return smn_fail(s->err, SMN_CANCELLED, "cancelled");
  if (t->chunked && len > 0) {
    char line[64];
    snprintf(line, sizeof line, "BDAT %zu", len);
    kind = await_turn(s, t);
    if (kind == SMN_OK)
      kind = smn_dialogue_add(s, line);
    if (kind == SMN_OK)
      kind = smn_dialogue_flush(s);
    t->chunks += kind == SMN_OK;
  } else if (!t->chunked) {
    len -= len % SMN_TLS_RECORD;
    if (smn_conn_has_input(s->conn))
      return early_reply(s);
  }
  if (kind == SMN_OK) {
    s->listening = false;
    kind = smn_conn_write(s->conn, blocks->out, len, s->err);
  }
  if (kind == SMN_OK)
    s->listening = t->chunked;
  blocks->len -= len;
  memmove(blocks->out, blocks->out + len, blocks->len);
  return kind;
}

/* DATA, unless it left with the envelope.  */
static enum smn_kind begin_data(struct smn_session *s,
                                const struct smn_transaction *t) {
  s->err->stage = SMN_STAGE_DATA;
  if (t->chunked || t->data_ahead)
    return SMN_OK;
  enum smn_kind kind = smn_dialogue_command(s, "DATA", NULL, NULL);
  return kind == SMN_OK ? smn_dialogue_expect(s, 354) : kind;
}

enum smn_kind smn_transaction_content(struct smn_session *s,
                                      struct smn_transaction *t) {
  struct smn_content *content = &t->content;
  enum smn_kind kind = begin_data(s, t);
  if (kind != SMN_OK)
    return kind;
  s->err->stage = SMN_STAGE_CONTENT;
  s->listening = t->chunked;
  s->blocks.len = 0;
  kind = smn_content_begin(content, !t->chunked, s->err);
  if (kind == SMN_OK)
    kind = smn_content_fill(content, &s->blocks, s->err);
  while (kind == SMN_OK && !content->ended) {
    kind = write_block(s, t);
    if (kind != SMN_OK)
      return t->chunked && s->listening ? drain_chunks(s, t, kind)
                                        : broken_write(s, kind);
    report(t);
    kind = smn_content_fill(content, &s->blocks, s->err);
  }
  return kind;
}

/* End of data */

/* The end of a chunked message is the chunk that says LAST.  */
static enum smn_kind add_end(struct smn_session *s, struct smn_transaction *t) {
  struct smn_blocks *blocks = &s->blocks;
  struct smn_wire *wire = &t->content.wire;
  char shown[64];
  blocks->len += smn_wire_end(wire, blocks->out + blocks->len);
  if (wire->octets != t->content.octets)
    return smn_fail(s->err, SMN_FILE,
                    "%s has %" PRIu64 " octets instead of %" PRIu64
                    ", it was changed",
                    t->content.file, wire->octets, t->content.octets);
  snprintf(shown, sizeof shown, "<%" PRIu64 " octets of message>",
           wire->octets);
  smn_dialogue_trace(s, false, shown, strlen(shown));
  enum smn_kind kind =
      t->task->job->entry
          ? smn_receipt_doubt(t->task->job, t->task->result, s->err)
          : SMN_OK;
  if (kind == SMN_OK && !t->chunked)
    smn_dialogue_trace(s, false, ".", 1);
  if (kind == SMN_OK && t->chunked) {
    snprintf(shown, sizeof shown, "BDAT %zu LAST", blocks->len);
    kind = smn_dialogue_add(s, shown);
    t->chunks++;
  }
  return kind;
}

/* What stands in the flight goes behind, or before, what stands in blocks.out,
   so that all of it leaves in one piece.  */
static void join_flight(struct smn_session *s, bool before) {
  struct smn_blocks *blocks = &s->blocks;
  size_t n = s->flight.len;
  if (n == 0)
    return;
  if (before) {
    memmove(blocks->out + n, blocks->out, blocks->len);
    memcpy(blocks->out, s->flight.data, n);
  } else
    memcpy(blocks->out + blocks->len, s->flight.data, n);
  blocks->len += n;
  s->flight.len = 0;
}

/* The first commands of NEXT; if they cannot be made, that is found out again
   when it is its turn.  A chunk that may go with them makes them wait for it:
   that costs no round trip more.  */
static void look_ahead(struct smn_session *s, struct smn_transaction *t,
                       struct smn_transaction *next) {
  if (!next)
    return;
  smn_dialogue_focus(s, next->task);
  plan(s, next);
  if (!next->chunk_ahead)
    (void)add_commands(s, next);
  smn_dialogue_focus(s, t->task);
  join_flight(s, false);
}

/* RFC 2033 4.2: a reply for each recipient that RCPT has accepted, in their
   order.  Those for whom none has come stay in doubt.  */
static enum smn_kind read_ends(struct smn_session *s,
                               struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  bool open = true;
  for (size_t i = 0; i < result->recipient_count; i++) {
    struct smn_recipient_result *r = &result->recipients[i];
    if (!r->accepted)
      continue;
    enum smn_kind kind = smn_dialogue_read(s, AFTER_DATA);
    if (kind == SMN_OK && s->reply.code / 100 != 2 && s->reply.code < 400)
      kind = smn_dialogue_unexpected(s);
    if (kind != SMN_OK)
      return kind;
    note_recipient(s, r);
    r->delivered = r->accepted;
    t->refused += !r->accepted;
    open = open && s->reply.code != 421;
    if (r->delivered) {
      free(result->reply);
      result->reply = smn_dialogue_reply(s);
    }
  }
  s->listening = open;
  s->dirty = false;
  result->in_doubt = false;
  return t->refused < t->recipients ? SMN_OK : refused_recipients(s, t);
}

static enum smn_kind read_end(struct smn_session *s,
                              struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  enum smn_kind kind = SMN_OK;
  if (t->answered < t->sent)
    kind = settle_envelope(s, t);
  while (kind == SMN_OK && t->chunks > 1)
    kind = read_chunk_reply(s, t);
  if (kind != SMN_OK)
    return drain_chunks(s, t, kind); /* RFC 3030 2: all of it has failed */
  s->listening = false;
  if (smn_server_lmtp(&t->task->job->server))
    return read_ends(s, t);
  kind = smn_dialogue_read(s, AFTER_DATA);
  if (kind != SMN_OK)
    return kind;
  s->listening = s->reply.code != 421;
  s->dirty = false;
  if (s->reply.code / 100 == 2) {
    result->in_doubt = false;
    result->reply = smn_dialogue_reply(s);
    return SMN_OK;
  }
  result->in_doubt = s->reply.code < 400;
  return smn_dialogue_unexpected(s);
}

enum smn_kind smn_transaction_end(struct smn_session *s,
                                  struct smn_transaction *t,
                                  struct smn_transaction *next) {
  s->err->stage = SMN_STAGE_END_OF_DATA;
  enum smn_kind kind = t->chunked ? await_turn(s, t) : SMN_OK;
  if (kind != SMN_OK)
    return drain_chunks(s, t, kind);
  s->listening = false;
  kind = add_end(s, t);
  if (kind != SMN_OK)
    return kind;
  join_flight(s, true);
  look_ahead(s, t, next);
  t->task->result->in_doubt = true;
  kind = smn_conn_write(s->conn, s->blocks.out, s->blocks.len, s->err);
  return kind == SMN_OK ? read_end(s, t) : kind;
}
