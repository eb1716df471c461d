/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transaction.c - one mail through a session: MAIL, RCPT, DATA or BDAT.
   The commands of an envelope are numbered: 0 is MAIL, then come the RCPTs, and
   behind them DATA where it may leave before the RCPTs are answered.  They
   leave in flights as large as the server allows, and every reply is read and
   matched by its number.  */
#include "transaction.h"
#include "receipt.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 65536        /* octets of the file that are read at once */
#define CHUNK_BLOCK 262144 /* the same, where each waits for a reply (BDAT) */
#define AFTER_DATA 10      /* times the timeout behind the end of data */
#define PROGRESS_OCTETS 262144 /* between two reports */
#define WINDOW                                                                 \
  64 /* commands under way; their replies must fit into the                    \
        buffers between us, or both sides would wait */
#define FLIGHT_MAX 32768 /* octets of commands that leave together */
#define CHUNKS_AHEAD 4   /* BDATs under way */

struct smn_transaction {
  const struct smn_task *task;
  int fd;
  uint64_t total;  /* octets of the file */
  uint64_t octets; /* of the message, as SIZE counts */
  bool eight_bit;  /* some octet is above 127 */
  size_t count;    /* commands of the envelope */
  size_t sent, answered;
  bool data_ahead;         /* DATA is one of them */
  bool chunked;            /* BDAT instead of DATA */
  size_t refused;          /* recipients */
  size_t chunks;           /* BDATs without reply */
  uint64_t done, reported; /* octets of the file */
  struct smn_wire wire;
  size_t block;
  char *in, *out; /* BLOCK octets; what is still to be written */
  size_t len;     /* octets in out */
  bool ended;     /* the file has been read to its end */
};

/* The message */

static enum smn_kind open_file(struct smn_transaction *t,
                               struct smn_error *err) {
  struct stat stat;
  const char *file = t->task->job->file;
  t->fd = open(file, O_RDONLY | O_CLOEXEC);
  if (t->fd < 0 || fstat(t->fd, &stat) != 0)
    return smn_fail_errno(err, SMN_FILE, errno, "cannot open %s", file);
  if (!S_ISREG(stat.st_mode))
    return smn_fail(err, SMN_FILE, "%s is not a regular file", file);
  t->total = (uint64_t)stat.st_size;
  return SMN_OK;
}

/* Read at most BLOCK octets of the file into t->in; *LEN 0 at its end.  */
static enum smn_kind read_block(struct smn_transaction *t, size_t *len,
                                struct smn_error *err) {
  ssize_t n;
  do
    n = read(t->fd, t->in, t->block);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return smn_fail_errno(err, SMN_FILE, errno, "cannot read %s",
                          t->task->job->file);
  *len = (size_t)n;
  return SMN_OK;
}

static bool has_eight_bit(const char *bytes, size_t len) {
  unsigned char seen = 0;
  for (size_t i = 0; i < len; i++)
    seen |= (unsigned char)bytes[i];
  return seen > 127;
}

/* Count the octets of the file as SIZE announces them, and look for 8-bit
   ones.  */
static enum smn_kind measure(struct smn_transaction *t, struct smn_error *err) {
  struct smn_wire wire;
  size_t len = 0;
  smn_wire_init(&wire, true);
  enum smn_kind kind = read_block(t, &len, err);
  while (kind == SMN_OK && len > 0) {
    smn_wire_count(&wire, t->in, len);
    t->eight_bit = t->eight_bit || has_eight_bit(t->in, len);
    kind = read_block(t, &len, err);
  }
  smn_wire_count_end(&wire);
  t->octets = t->task->result->octets = wire.octets;
  if (kind == SMN_OK && lseek(t->fd, 0, SEEK_SET) != 0)
    kind = smn_fail_errno(err, SMN_FILE, errno, "cannot read %s",
                          t->task->job->file);
  return kind;
}

enum smn_kind smn_transaction_new(struct smn_transaction **t,
                                  const struct smn_task *task) {
  struct smn_error *err = &task->result->error;
  const struct smn_job *job = task->job;
  struct smn_transaction *made = calloc(1, sizeof *made);
  *t = NULL;
  if (!made)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  made->task = task;
  made->fd = -1;
  made->block = job->chunking ? CHUNK_BLOCK : BLOCK;
  made->in = malloc(made->block);
  /* A line that is one dot and LF doubles.  */
  made->out = malloc(2 * made->block + FLIGHT_MAX + 64);
  enum smn_kind kind = made->in && made->out
                           ? smn_job_check(job, err)
                           : smn_fail(err, SMN_SYSTEM, "no memory");
  if (kind == SMN_OK && job->entry)
    kind = smn_receipt_sync(job->entry, err);
  if (kind == SMN_OK)
    kind = open_file(made, err);
  if (kind == SMN_OK)
    kind = measure(made, err);
  if (kind == SMN_OK)
    *t = made;
  else
    smn_transaction_free(made);
  return kind;
}

void smn_transaction_free(struct smn_transaction *t) {
  if (!t)
    return;
  if (t->fd >= 0)
    close(t->fd);
  if (t->in)
    smn_wipe(t->in, t->block);
  if (t->out)
    smn_wipe(t->out, 2 * t->block);
  free(t->in);
  free(t->out);
  free(t);
}

const struct smn_task *smn_transaction_task(const struct smn_transaction *t) {
  return t->task;
}

void smn_transaction_restart(struct smn_transaction *t) {
  t->sent = t->answered = t->refused = 0;
}

/* Commands of the envelope */

static bool is_ascii(const char *text) {
  return !has_eight_bit(text, strlen(text));
}

static bool needs_utf8(const struct smn_job *job) {
  bool needs = !is_ascii(job->sender);
  for (char **at = job->recipients; *at && !needs; at++)
    needs = !is_ascii(*at);
  return needs;
}

/* Write ADDRESS into OUT as it goes to a server, which may not know SMTPUTF8:
   then its domain has an A-label form, while a local part has none.  */
static enum smn_kind write_address(struct smn_session *s, const char *address,
                                   char *out, size_t size) {
  const char *at = strrchr(address, '@');
  int local = at ? (int)(at + 1 - address) : (int)strlen(address);
  char domain[256] = "", quoted[512];
  if (s->caps.smtputf8 || is_ascii(address)) {
    snprintf(out, size, "%s", address);
    return SMN_OK;
  }
  snprintf(out, size, "%.*s", local, address);
  if (is_ascii(out) && at && smn_tls_idna(at + 1, domain, sizeof domain)) {
    snprintf(out, size, "%.*s%s", local, address, domain);
    return SMN_OK;
  }
  smn_quote(quoted, sizeof quoted, address, strlen(address));
  return smn_fail(s->err, SMN_UNSUPPORTED,
                  "the server does not take addresses that are not ASCII "
                  "(SMTPUTF8), such as %s",
                  quoted);
}

static enum smn_kind write_mail(struct smn_session *s,
                                const struct smn_transaction *t, char *line,
                                size_t size) {
  const struct smn_job *job = t->task->job;
  char sender[2048], parameter[32] = "";
  if (s->caps.size) {
    if (s->caps.size_limit && t->octets > s->caps.size_limit)
      return smn_fail(s->err, SMN_TOO_LARGE,
                      "the message has %" PRIu64
                      " octets, the server takes %" PRIu64,
                      t->octets, s->caps.size_limit);
    snprintf(parameter, sizeof parameter, " SIZE=%" PRIu64, t->octets);
  }
  enum smn_kind kind = write_address(s, job->sender, sender, sizeof sender);
  snprintf(line, size, "MAIL FROM:<%s>%s%s%s", sender, parameter,
           t->eight_bit && s->caps.eightbitmime ? " BODY=8BITMIME" : "",
           s->caps.smtputf8 && needs_utf8(job) ? " SMTPUTF8" : "");
  return kind;
}

static enum smn_kind write_rcpt(struct smn_session *s, const char *address,
                                char *line, size_t size) {
  char recipient[2048];
  enum smn_kind kind = write_address(s, address, recipient, sizeof recipient);
  snprintf(line, size, "RCPT TO:<%s>", recipient);
  return kind;
}

/* Write the command NUMBER of the envelope into LINE.  */
static enum smn_kind write_command(struct smn_session *s,
                                   const struct smn_transaction *t,
                                   size_t number, char *line, size_t size) {
  const struct smn_result *result = t->task->result;
  s->err->stage = number == 0 ? SMN_STAGE_MAIL : SMN_STAGE_RCPT;
  if (number == 0)
    return write_mail(s, t, line, size);
  if (number <= result->recipient_count)
    return write_rcpt(s, result->recipients[number - 1].address, line, size);
  snprintf(line, size, "DATA");
  return SMN_OK;
}

static bool pipelined(const struct smn_session *s) {
  return s->caps.pipelining && !s->plain_dialogue;
}

/* Where everybody who is accepted is to get the mail, DATA need not wait for
   the answers; else those who are accepted would get an empty one.  */
static void plan(const struct smn_session *s, struct smn_transaction *t) {
  const struct smn_job *job = t->task->job;
  size_t recipients = t->task->result->recipient_count;
  bool alone = recipients == 1 || job->partial;
  t->chunked = job->chunking && s->caps.chunking;
  /* LMTP says nothing to an end of data that is for nobody.  */
  t->data_ahead =
      pipelined(s) && alone && !t->chunked && !smn_server_lmtp(&job->server);
  t->count = 1 + recipients + t->data_ahead;
  smn_wire_init(&t->wire, !t->chunked);
}

/* Add the commands that may leave now to the flight.  On failure none of T has
   been added.  */
static enum smn_kind add_commands(struct smn_session *s,
                                  struct smn_transaction *t) {
  size_t window = pipelined(s) ? WINDOW : 1;
  size_t before = s->flight.len, sent = t->sent;
  char line[SMN_COMMAND_MAX];
  enum smn_kind kind = SMN_OK;
  if (sent == 0)
    plan(s, t);
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
  r->text = smn_dialogue_quoted(s->reply.text.data, s->reply.text.len);
}

/* Every refused recipient with its reply, permanent ones deciding.  */
static enum smn_kind refused_recipients(struct smn_session *s,
                                        const struct smn_transaction *t) {
  const struct smn_result *result = t->task->result;
  const struct smn_recipient_result *decisive = NULL;
  char *text = s->err->text;
  size_t size = sizeof s->err->text;
  int n = snprintf(text, size, "%zu of %zu recipients refused", t->refused,
                   result->recipient_count);
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
  s->err->stage = number == 0                         ? SMN_STAGE_MAIL
                  : number <= result->recipient_count ? SMN_STAGE_RCPT
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
  else if (number <= result->recipient_count) {
    struct smn_recipient_result *r = &result->recipients[number - 1];
    note_recipient(s, r);
    t->refused += !r->accepted;
    if (r->code < 400 && !r->accepted)
      *verdict = smn_dialogue_unexpected(s);
    else if (last)
      *verdict = refused_recipients(s, t);
  } else if (t->refused == result->recipient_count) {
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

enum smn_kind smn_transaction_envelope(struct smn_session *s,
                                       struct smn_transaction *t) {
  const struct smn_result *result = t->task->result;
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
  if (verdict == SMN_OK && t->refused &&
      (!t->task->job->partial || t->refused == result->recipient_count))
    verdict = refused_recipients(s, t);
  s->listening = readable == SMN_OK;
  return verdict;
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
  if (!observer->progress || t->done - t->reported < PROGRESS_OCTETS)
    return;
  t->reported = t->done;
  observer->progress(observer->context, t->done, t->total);
}

/* Convert one block of the file into t->out; t->ended at its end.  */
static enum smn_kind fill(struct smn_session *s, struct smn_transaction *t) {
  size_t len = 0, used = 0, from = 0;
  enum smn_kind kind = read_block(t, &len, s->err);
  if (kind != SMN_OK)
    return kind;
  while (from < len) {
    t->len += smn_wire_encode(&t->wire, t->in + from, len - from, &used,
                              t->out + t->len, 2 * t->block + 8 - t->len);
    from += used;
  }
  t->done += len;
  t->ended = len == 0 || t->done >= t->total;
  if (t->ended && t->done != t->total)
    return smn_fail(s->err, SMN_FILE, "%s changed while it was read",
                    t->task->job->file);
  return SMN_OK;
}

static enum smn_kind read_chunk_reply(struct smn_session *s,
                                      struct smn_transaction *t) {
  t->chunks--;
  enum smn_kind kind = smn_dialogue_read(s, 1);
  return kind == SMN_OK ? smn_dialogue_expect(s, 2) : kind;
}

/* Write what stands in t->out as it is, or as a chunk that is not the last.  */
static enum smn_kind write_block(struct smn_session *s,
                                 struct smn_transaction *t) {
  enum smn_kind kind = SMN_OK;
  if (t->chunked && t->len > 0) {
    char line[64];
    size_t ahead = pipelined(s) ? CHUNKS_AHEAD : 1;
    snprintf(line, sizeof line, "BDAT %zu", t->len);
    kind = smn_dialogue_add(s, line);
    if (kind == SMN_OK)
      kind = smn_dialogue_flush(s);
    t->chunks++;
    while (kind == SMN_OK && t->chunks >= ahead && t->chunks > 1)
      kind = read_chunk_reply(s, t);
  } else if (!t->chunked && smn_conn_has_input(s->conn))
    return early_reply(s);
  if (kind == SMN_OK)
    kind = smn_conn_write(s->conn, t->out, t->len, s->err);
  t->len = 0;
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
  enum smn_kind kind = begin_data(s, t);
  if (kind != SMN_OK)
    return kind;
  s->err->stage = SMN_STAGE_CONTENT;
  s->listening = t->chunked;
  kind = fill(s, t);
  while (kind == SMN_OK && !t->ended) {
    kind = write_block(s, t);
    if (kind != SMN_OK)
      return broken_write(s, kind);
    report(t);
    kind = fill(s, t);
  }
  return kind;
}

/* End of data */

/* The end of a chunked message is the chunk that says LAST.  */
static enum smn_kind add_end(struct smn_session *s, struct smn_transaction *t) {
  char shown[64];
  t->len += smn_wire_end(&t->wire, t->out + t->len);
  t->task->result->octets = t->wire.octets;
  snprintf(shown, sizeof shown, "<%" PRIu64 " octets of message>",
           t->wire.octets);
  smn_dialogue_trace(s, false, shown, strlen(shown));
  enum smn_kind kind =
      t->task->job->entry
          ? smn_receipt_doubt(t->task->job, t->task->result, s->err)
          : SMN_OK;
  if (kind == SMN_OK && !t->chunked)
    smn_dialogue_trace(s, false, ".", 1);
  if (kind == SMN_OK && t->chunked) {
    snprintf(shown, sizeof shown, "BDAT %zu LAST", t->len);
    kind = smn_dialogue_add(s, shown);
    t->chunks++;
  }
  return kind;
}

/* What stands in the flight goes behind, or before, what stands in t->out, so
   that all of it leaves in one piece.  */
static void join_flight(struct smn_session *s, struct smn_transaction *t,
                        bool before) {
  size_t n = s->flight.len;
  if (n == 0)
    return;
  if (before) {
    memmove(t->out + n, t->out, t->len);
    memcpy(t->out, s->flight.data, n);
  } else
    memcpy(t->out + t->len, s->flight.data, n);
  t->len += n;
  s->flight.len = 0;
}

/* The first commands of NEXT; if they cannot be made, that is found out again
   when it is its turn.  */
static void look_ahead(struct smn_session *s, struct smn_transaction *t,
                       struct smn_transaction *next) {
  if (!next)
    return;
  smn_dialogue_focus(s, next->task);
  (void)add_commands(s, next);
  smn_dialogue_focus(s, t->task);
  join_flight(s, t, false);
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
  return t->refused < result->recipient_count ? SMN_OK
                                              : refused_recipients(s, t);
}

static enum smn_kind read_end(struct smn_session *s,
                              struct smn_transaction *t) {
  struct smn_result *result = t->task->result;
  enum smn_kind kind = SMN_OK;
  while (kind == SMN_OK && t->chunks > 1)
    kind = read_chunk_reply(s, t);
  if (kind == SMN_REPLY) /* RFC 3030 2: all of the mail has failed */
    result->in_doubt = false;
  if (kind == SMN_OK && smn_server_lmtp(&t->task->job->server))
    return read_ends(s, t);
  if (kind == SMN_OK)
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
  s->listening = false;
  enum smn_kind kind = add_end(s, t);
  if (kind != SMN_OK)
    return kind;
  join_flight(s, t, true);
  look_ahead(s, t, next);
  t->task->result->in_doubt = true;
  kind = smn_conn_write(s->conn, t->out, t->len, s->err);
  return kind == SMN_OK ? read_end(s, t) : kind;
}
