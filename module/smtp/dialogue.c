/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialogue.c - commands out, replies in, and no secret in what is shown.  */
#include "smtp/dialogue.h"
#include "base/redact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AFTER_DATA 10      /* times the timeout for the reply to the content */
#define LAST_WORDS_MS 1000 /* for the rest of a reply that has begun */

bool smn_dialogue_pipelined(const struct smn_session *s) {
  return s->caps.pipelining && !s->plainly;
}

static struct smn_error *error_of(const struct smn_task *task) {
  return &task->result->error;
}

static enum smn_stage stage_of(enum smn_asked asked) {
  static const enum smn_stage stages[] = {
      [SMN_ASKED_NOTHING] = SMN_STAGE_GREETING,
      [SMN_ASKED_EHLO] = SMN_STAGE_EHLO,
      [SMN_ASKED_STARTTLS] = SMN_STAGE_STARTTLS,
      [SMN_ASKED_AUTH] = SMN_STAGE_AUTH,
      [SMN_ASKED_RSET] = SMN_STAGE_MAIL,
      [SMN_ASKED_MAIL] = SMN_STAGE_MAIL,
      [SMN_ASKED_RCPT] = SMN_STAGE_RCPT,
      [SMN_ASKED_DATA] = SMN_STAGE_DATA,
      [SMN_ASKED_CHUNK] = SMN_STAGE_CONTENT,
      [SMN_ASKED_LAST] = SMN_STAGE_END_OF_DATA,
      [SMN_ASKED_END] = SMN_STAGE_END_OF_DATA,
  };
  return stages[asked];
}

/* What is shown */

void smn_dialogue_trace(const struct smn_session *s,
                        const struct smn_task *task, bool from_server,
                        const char *text, size_t len) {
  const struct smn_observer *observer = task->observer;
  char shown[2 * SMN_LINE_MAX];
  if (!task->job->server.trace || !observer->trace)
    return;
  observer->trace(
      observer->context, from_server, shown,
      smn_redact(&s->needles, text, len, false, shown, sizeof shown));
}

/* A challenge may hold a secret at any offset of its base64, and tells nothing
   to a reader of the trace.  */
static void trace_reply(const struct smn_session *s,
                        const struct smn_task *task, const char *line,
                        size_t len) {
  static const char challenge[] = "334 " SMN_OMITTED;
  if (len > 4 && memcmp(line, "334", 3) == 0)
    smn_dialogue_trace(s, task, true, challenge, sizeof challenge - 1);
  else
    smn_dialogue_trace(s, task, true, line, len);
}

char *smn_dialogue_words(const struct smn_session *s) {
  return smn_result_shown(&s->needles, 0, s->reply.text.data,
                          s->reply.text.len);
}

char *smn_dialogue_reply(const struct smn_session *s) {
  return smn_result_shown(&s->needles, s->reply.code, s->reply.text.data,
                          s->reply.text.len);
}

/* One reply */

/* What has come of a reply to ASKED whose rest does not come, for KIND.  A
   refusal has begun with its code: the rest would only explain it.  */
static enum smn_kind cut_short(struct smn_session *s, enum smn_asked asked,
                               enum smn_kind kind) {
  bool content = asked == SMN_ASKED_LAST || asked == SMN_ASKED_END;
  bool refusal = s->reply.lines > 0 && s->reply.code >= 400;
  smn_state_worsen(&s->state, SMN_PHASE_LOST);
  return refusal && (kind != SMN_CANCELLED || content) ? SMN_OK : kind;
}

/* Read a reply to ASKED.  It stays as it is: a capability may be spelled like
   the password.  Secrets are taken out of what leaves the session, trace and
   result.  */
static enum smn_kind read_reply(struct smn_session *s,
                                const struct smn_task *task,
                                enum smn_asked asked) {
  enum smn_kind kind = SMN_OK;
  struct smn_error *err = error_of(task);
  smn_reply_clear(&s->reply);
  s->reply.greeting = asked == SMN_ASKED_NOTHING;
  while (kind == SMN_OK && !s->reply.complete) {
    const char *line;
    size_t len;
    kind = smn_conn_read_line(s->conn, &line, &len, err);
    if (kind == SMN_OK) {
      trace_reply(s, task, line, len);
      kind = smn_reply_line(&s->reply, line, len, err);
    }
  }
  s->rested = false;
  if (kind == SMN_OK && s->reply.broken)
    smn_state_worsen(&s->state, SMN_PHASE_LOST);
  return kind == SMN_OK ? SMN_OK : cut_short(s, asked, kind);
}

enum smn_kind smn_dialogue_unexpected(struct smn_session *s,
                                      const struct smn_task *task) {
  return smn_reply_unexpected(&s->reply, error_of(task));
}

enum smn_kind smn_dialogue_expect(struct smn_session *s,
                                  const struct smn_task *task, int wanted) {
  int code = s->reply.code;
  if (code == wanted || code / 100 == wanted)
    return SMN_OK;
  return smn_dialogue_unexpected(s, task);
}

/* Commands out */

enum smn_kind smn_dialogue_ask(struct smn_session *s,
                               const struct smn_task *task,
                               enum smn_asked asked, size_t recipient,
                               const char *line) {
  struct smn_error *err = error_of(task);
  err->stage = stage_of(asked);
  if (line && strpbrk(line, "\r\n"))
    return smn_fail(err, SMN_USAGE, "a command must not hold CR or LF");
  switch (smn_state_ask(&s->state, asked, task, recipient, line)) {
  case SMN_ASK_NO_MEMORY:
    return smn_fail(err, SMN_SYSTEM, "no memory");
  case SMN_ASK_OUT_OF_TURN:
    return smn_fail(err, SMN_PROTOCOL,
                    "the connection is not ready for the next command");
  case SMN_ASK_DONE:
    break;
  }
  if (line)
    smn_dialogue_trace(s, task, false, line, strlen(line));
  return SMN_OK;
}

/* The server speaks although no reply is owed.  It may say goodbye at any time
   (RFC 5321 3.8); anything else could be taken for the reply to what is about
   to leave.  */
static enum smn_kind out_of_turn(struct smn_session *s,
                                 const struct smn_task *task) {
  struct smn_error *err = error_of(task);
  smn_conn_deadline(s->conn, LAST_WORDS_MS);
  enum smn_kind kind = read_reply(s, task, SMN_ASKED_RSET);
  smn_state_worsen(&s->state, SMN_PHASE_LOST);
  if (kind == SMN_TIMEOUT)
    return smn_fail(err, SMN_PROTOCOL, "the server spoke out of turn");
  if (kind != SMN_OK)
    return kind;
  if (s->reply.code == 421)
    return smn_dialogue_unexpected(s, task);
  char *words = smn_dialogue_reply(s);
  kind = smn_fail(err, SMN_PROTOCOL, "the server spoke out of turn: %.1024s",
                  words ? words : "");
  free(words);
  return kind;
}

/* The server speaks, or closes, while it should take content, which goes no
   further.  A reply is that to the end of data, before its time.  */
static void interrupt(struct smn_session *s, const struct smn_task *task) {
  bool owed = s->state.count > 0 || smn_state_interrupted(&s->state, task);
  smn_state_worsen(&s->state, owed ? SMN_PHASE_PARTING : SMN_PHASE_LOST);
}

/* Nothing that is there to be read could be taken for the reply to what leaves
   now.  */
static enum smn_kind check_silence(struct smn_session *s,
                                   const struct smn_task *task) {
  const struct smn_owed *next = smn_state_next(&s->state);
  if (smn_state_awaited(&s->state) > 0 || !smn_conn_has_input(s->conn))
    return SMN_OK;
  if (!s->state.content && !(next && next->asked == SMN_ASKED_END))
    return out_of_turn(s, task);
  interrupt(s, task);
  return smn_fail(error_of(task), SMN_PROTOCOL,
                  "the server spoke in the middle of the message");
}

/* Content stands in the middle of its flight.  */
static enum smn_kind write_all(struct smn_session *s,
                               const struct smn_task *task, char *octets,
                               size_t len) {
  const struct smn_buf *flight = &s->state.flight;
  const size_t before = s->state.cut, after = flight->len - before;
  if (!octets)
    return smn_conn_write(s->conn, flight->data, flight->len, error_of(task));
  if (flight->len) {
    memcpy(octets - before, flight->data, before);
    memcpy(octets + len, flight->data + before, after);
  }
  return smn_conn_write(s->conn, octets - before, before + len + after,
                        error_of(task));
}

/* Note what has come of writing.  */
static enum smn_kind written(struct smn_session *s, const struct smn_task *task,
                             enum smn_kind kind) {
  smn_state_left(&s->state);
  if (kind == SMN_OK)
    return SMN_OK;
  s->broken = *error_of(task);
  if (kind == SMN_CANCELLED)
    smn_state_worsen(&s->state, SMN_PHASE_LOST);
  else
    interrupt(s, task);
  return kind;
}

enum smn_kind smn_dialogue_write(struct smn_session *s,
                                 const struct smn_task *task, char *octets,
                                 size_t len) {
  if (s->state.flight.len + len == 0)
    return SMN_OK;
  const size_t end = s->state.cut + len;
  s->content_left = false;
  smn_conn_heed(s->conn, task->observer->cancel_fd);
  enum smn_kind kind = check_silence(s, task);
  if (kind != SMN_OK)
    return kind;
  kind = write_all(s, task, octets, len);
  s->content_left = kind == SMN_OK || smn_conn_written(s->conn) >= end;
  return written(s, task, kind);
}

/* Replies in */

static enum smn_kind read_owed(struct smn_session *s,
                               const struct smn_task *task,
                               struct smn_owed *owed) {
  const struct smn_owed *next = smn_state_next(&s->state);
  struct smn_error *err = error_of(task);
  bool content = next && next->asked >= SMN_ASKED_LAST;
  if (!next || next->task != task || s->state.phase == SMN_PHASE_LOST ||
      s->state.phase == SMN_PHASE_NONE) {
    smn_state_worsen(&s->state, SMN_PHASE_LOST);
    return smn_fail(err, SMN_PROTOCOL, "no reply is due");
  }
  err->stage = stage_of(next->asked);
  if (s->broken.kind != SMN_OK && !smn_conn_has_input(s->conn)) {
    smn_state_worsen(&s->state, SMN_PHASE_LOST);
    *err = s->broken;
    return err->kind;
  }
  smn_conn_heed(s->conn, task->observer->cancel_fd);
  smn_conn_deadline(s->conn, s->broken.kind != SMN_OK
                                 ? LAST_WORDS_MS
                                 : (int64_t)task->job->server.timeout_ms *
                                       (content ? AFTER_DATA : 1));
  enum smn_kind kind = read_reply(s, task, next->asked);
  if (kind == SMN_OK)
    *owed = smn_state_answered(&s->state, s->reply.code);
  else if (s->broken.kind != SMN_OK) {
    *err = s->broken;
    kind = err->kind;
  }
  return kind;
}

static enum smn_kind confirm_hello(struct smn_session *s,
                                   const struct smn_task *task) {
  struct smn_capabilities caps;
  enum smn_kind kind = smn_dialogue_expect(s, task, 250);
  if (kind != SMN_OK)
    return kind;
  smn_capabilities_parse(&caps, &s->reply);
  smn_capabilities_avoid(&caps, task->job->server.avoid);
  return memcmp(&caps, &s->caps, sizeof caps) == 0
             ? SMN_OK
             : smn_fail(error_of(task), SMN_PROTOCOL,
                        "the server offers something else than before");
}

/* Let the flight leave before its replies are read.  */
static enum smn_kind let_go(struct smn_session *s,
                            const struct smn_task *task) {
  return s->state.phase == SMN_PHASE_UP ? smn_dialogue_write(s, task, NULL, 0)
                                        : SMN_OK;
}

enum smn_kind smn_dialogue_confirm(struct smn_session *s,
                                   const struct smn_task *task) {
  struct smn_owed owed = {.asked = SMN_ASKED_NOTHING};
  enum smn_kind kind = let_go(s, task);
  while (kind == SMN_OK && s->early) {
    kind = read_owed(s, task, &owed);
    if (kind == SMN_OK && owed.asked == SMN_ASKED_NOTHING)
      kind = smn_dialogue_expect(s, task, 220);
    else if (kind == SMN_OK) {
      kind = confirm_hello(s, task);
      s->early = kind != SMN_OK;
    }
  }
  if (kind != SMN_OK) /* what has left relied on something else */
    smn_state_worsen(&s->state, SMN_PHASE_LOST);
  return kind;
}

enum smn_kind smn_dialogue_read(struct smn_session *s,
                                const struct smn_task *task,
                                struct smn_owed *owed) {
  enum smn_kind kind =
      s->early ? smn_dialogue_confirm(s, task) : let_go(s, task);
  if (kind != SMN_OK && (s->early || s->state.phase != SMN_PHASE_PARTING))
    return kind;
  return read_owed(s, task, owed);
}

bool smn_dialogue_cancelled(const struct smn_session *s,
                            const struct smn_task *task) {
  smn_conn_heed(s->conn, task->observer->cancel_fd);
  return smn_conn_cancelled(s->conn);
}

bool smn_dialogue_pending(const struct smn_session *s) {
  return smn_state_awaited(&s->state) > 0 && smn_conn_has_input(s->conn);
}

enum smn_kind smn_dialogue_command(struct smn_session *s,
                                   const struct smn_task *task,
                                   enum smn_asked asked, const char *a,
                                   const char *b) {
  char line[SMN_COMMAND_MAX];
  struct smn_owed owed;
  if (snprintf(line, sizeof line, "%s%s", a, b ? b : "") >= (int)sizeof line)
    return smn_fail(error_of(task), SMN_USAGE, "command longer than %d octets",
                    SMN_COMMAND_MAX);
  enum smn_kind kind = smn_dialogue_ask(s, task, asked, 0, line);
  return kind == SMN_OK ? smn_dialogue_read(s, task, &owed) : kind;
}

/* The flight is no place for a secret: the line leaves by itself.  */
static enum smn_kind write_secret(struct smn_session *s,
                                  const struct smn_task *task) {
  enum smn_kind kind = let_go(s, task);
  if (kind == SMN_OK)
    kind = check_silence(s, task);
  if (kind != SMN_OK)
    return kind;
  kind =
      smn_conn_write(s->conn, s->command.data, s->command.len, error_of(task));
  return written(s, task, kind);
}

enum smn_kind smn_dialogue_secret(struct smn_session *s,
                                  const struct smn_task *task,
                                  const char *shown) {
  struct smn_buf *command = &s->command;
  struct smn_error *err = error_of(task);
  struct smn_owed owed;
  if (command->len && (memchr(command->data, '\r', command->len) ||
                       memchr(command->data, '\n', command->len) ||
                       memchr(command->data, '\0', command->len)))
    return smn_fail(err, SMN_USAGE, "a command must not hold CR, LF or NUL");
  if (!shown)
    smn_dialogue_trace(s, task, false, command->data, command->len);
  else
    smn_dialogue_trace(s, task, false, shown, strlen(shown));
  if (!smn_buf_add_string(command, "\r\n"))
    return smn_fail(err, SMN_USAGE, "command longer than %d octets",
                    SMN_COMMAND_MAX);
  enum smn_kind kind = smn_dialogue_ask(s, task, SMN_ASKED_AUTH, 0, NULL);
  if (kind == SMN_OK)
    kind = write_secret(s, task);
  smn_buf_clear(command);
  if (kind == SMN_OK || s->state.phase == SMN_PHASE_PARTING)
    kind = smn_dialogue_read(s, task, &owed);
  return kind;
}
