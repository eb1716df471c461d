/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialogue.c - commands out, replies in, and no secret in what is shown.  */
#include "smtp/dialogue.h"
#include "base/redact.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void smn_dialogue_focus(struct smn_session *s, const struct smn_task *task) {
  s->task = task;
  s->err = task ? &task->result->error : &s->nobodys;
  if (s->conn)
    smn_conn_heed(s->conn, task ? task->observer->cancel_fd : -1);
}

/* Lines out and in */

void smn_dialogue_trace(const struct smn_session *s, bool from_server,
                        const char *text, size_t len) {
  if (!s->task || !s->task->job->server.trace)
    return;
  const struct smn_observer *observer = s->task->observer;
  char shown[2 * SMN_LINE_MAX];
  if (observer->trace)
    observer->trace(
        observer->context, from_server, shown,
        smn_redact(&s->needles, text, len, false, shown, sizeof shown));
}

/* A challenge may hold a secret at any offset of its base64, and tells nobody
   anything that reads a trace.  */
static void trace_reply(const struct smn_session *s, const char *line,
                        size_t len) {
  static const char challenge[] = "334 " SMN_OMITTED;
  if (len > 4 && memcmp(line, "334", 3) == 0)
    smn_dialogue_trace(s, true, challenge, sizeof challenge - 1);
  else
    smn_dialogue_trace(s, true, line, len);
}

/* The reply stays as it is: a capability may be spelled like the password.
   Secrets are taken out of what leaves the session, trace and result.  */
static enum smn_kind read_reply(struct smn_session *s, int factor) {
  enum smn_kind kind = SMN_OK;
  smn_reply_clear(&s->reply);
  smn_conn_deadline(s->conn, (int64_t)s->task->job->server.timeout_ms * factor);
  while (kind == SMN_OK && !s->reply.complete) {
    const char *line;
    size_t len;
    kind = smn_conn_read_line(s->conn, &line, &len, s->err);
    if (kind == SMN_OK) {
      trace_reply(s, line, len);
      kind = smn_reply_line(&s->reply, line, len, s->err);
    }
  }
  return kind;
}

static enum smn_kind read_owed_hello(struct smn_session *s) {
  struct smn_capabilities caps;
  s->err->stage = SMN_STAGE_EHLO;
  s->hello_owed = false;
  enum smn_kind kind = read_reply(s, 1);
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, 250);
  if (kind != SMN_OK)
    return kind;
  smn_capabilities_parse(&caps, &s->reply);
  smn_capabilities_avoid(&caps, s->task->job->server.avoid);
  return memcmp(&caps, &s->caps, sizeof caps) == 0
             ? SMN_OK
             : smn_fail(s->err, SMN_PROTOCOL,
                        "the server offers something else than before");
}

static enum smn_kind read_owed(struct smn_session *s) {
  const enum smn_stage stage = s->err->stage;
  enum smn_kind kind = SMN_OK;
  if (s->greeting_owed) {
    s->err->stage = SMN_STAGE_GREETING;
    s->greeting_owed = false;
    kind = read_reply(s, 1);
    if (kind == SMN_OK)
      kind = smn_dialogue_expect(s, 220);
  }
  if (kind == SMN_OK && s->hello_owed)
    kind = read_owed_hello(s);
  if (kind == SMN_OK)
    s->err->stage = stage;
  else
    s->early_failed = true;
  return kind;
}

enum smn_kind smn_dialogue_read(struct smn_session *s, int factor) {
  enum smn_kind kind =
      s->greeting_owed || s->hello_owed ? read_owed(s) : SMN_OK;
  return kind == SMN_OK ? read_reply(s, factor) : kind;
}

enum smn_kind smn_dialogue_unexpected(struct smn_session *s) {
  return smn_reply_unexpected(&s->reply, s->err);
}

enum smn_kind smn_dialogue_expect(struct smn_session *s, int wanted) {
  int code = s->reply.code;
  if (code == wanted || code / 100 == wanted)
    return SMN_OK;
  return smn_dialogue_unexpected(s);
}

enum smn_kind smn_dialogue_send(struct smn_session *s, const char *shown) {
  size_t len = s->command.len;
  if (len && (memchr(s->command.data, '\r', len) ||
              memchr(s->command.data, '\n', len) ||
              memchr(s->command.data, '\0', len)))
    return smn_fail(s->err, SMN_USAGE, "a command must not hold CR, LF or NUL");
  smn_dialogue_trace(s, false, shown ? shown : s->command.data,
                     shown ? strlen(shown) : len);
  if (!smn_buf_add_string(&s->command, "\r\n"))
    return smn_fail(s->err, SMN_USAGE, "command longer than %d octets",
                    SMN_COMMAND_MAX);
  enum smn_kind kind = smn_dialogue_flush(s);
  if (kind == SMN_OK)
    kind = smn_conn_write(s->conn, s->command.data, s->command.len, s->err);
  smn_buf_clear(&s->command);
  return kind;
}

enum smn_kind smn_dialogue_command(struct smn_session *s, const char *a,
                                   const char *b, const char *c) {
  const char *parts[] = {a, b, c};
  smn_buf_clear(&s->command);
  for (size_t i = 0; i < 3; i++)
    if (parts[i] && !smn_buf_add_string(&s->command, parts[i]))
      return smn_fail(s->err, SMN_USAGE, "command longer than %d octets",
                      SMN_COMMAND_MAX);
  enum smn_kind kind = smn_dialogue_send(s, NULL);
  return kind == SMN_OK ? smn_dialogue_read(s, 1) : kind;
}

enum smn_kind smn_dialogue_add(struct smn_session *s, const char *text) {
  if (strpbrk(text, "\r\n"))
    return smn_fail(s->err, SMN_USAGE, "a command must not hold CR or LF");
  smn_dialogue_trace(s, false, text, strlen(text));
  if (!smn_buf_add_string(&s->flight, text) ||
      !smn_buf_add_string(&s->flight, "\r\n"))
    return smn_fail(s->err, SMN_SYSTEM, "no memory");
  return SMN_OK;
}

enum smn_kind smn_dialogue_flush(struct smn_session *s) {
  if (s->flight.len == 0)
    return SMN_OK;
  enum smn_kind kind =
      smn_conn_write(s->conn, s->flight.data, s->flight.len, s->err);
  s->flight.len = 0;
  return kind;
}

char *smn_dialogue_words(const struct smn_session *s) {
  return smn_result_shown(&s->needles, 0, s->reply.text.data,
                          s->reply.text.len);
}

char *smn_dialogue_reply(const struct smn_session *s) {
  return smn_result_shown(&s->needles, s->reply.code, s->reply.text.data,
                          s->reply.text.len);
}
