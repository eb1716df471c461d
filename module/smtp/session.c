/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.c - the dialogue with one server, from greeting to QUIT.  */
#include "smtp/session.h"
#include "base/words.h"
#include "smtp/auth.h"
#include "smtp/dialogue.h"
#include "smtp/early.h"
#include "smtp/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Connect, greet, TLS */

static void tls_options(const struct smn_session *s,
                        const struct smn_server *server,
                        struct smn_tls_options *options) {
  *options = (struct smn_tls_options){
      /* The other end of a local socket is this machine.  */
      .host = smn_conn_local(smn_server_name(server)) ? "localhost"
                                                      : smn_server_name(server),
      .port = server->port,
      .trustfiles = server->trustfiles,
      .crlfiles = server->crlfiles,
      .priority = server->priority,
      .min_prime_bits = server->min_prime_bits,
      .key_file = server->key_file,
      .cert_file = server->cert_file,
      .passphrase = &server->passphrase,
      .pins = server->pins,
      .trust = s->trust,
  };
}

/* Files are read first: what cannot be used bothers no server.  */
static enum smn_kind load_trust(struct smn_session *s,
                                const struct smn_task *task) {
  struct smn_tls_options options;
  if (task->job->server.stream == SMN_STREAM_PLAIN)
    return SMN_OK;
  tls_options(s, &task->job->server, &options);
  return smn_trust_load(&s->trust, &options, &task->result->passphrase_wanted,
                        &task->result->error);
}

/* What was learned in clear may have been forged (RFC 3207 6).  */
static enum smn_kind start_tls(struct smn_session *s,
                               const struct smn_task *task) {
  struct smn_tls_options options;
  memset(&s->caps, 0, sizeof s->caps);
  tls_options(s, &task->job->server, &options);
  task->result->error.stage = SMN_STAGE_HANDSHAKE;
  enum smn_kind kind =
      smn_conn_start_tls(s->conn, &options, &task->result->error);
  if (smn_conn_tls_info(s->conn))
    s->seen = smn_seen_new(smn_conn_tls_info(s->conn));
  if (kind != SMN_OK)
    smn_state_worsen(&s->state, SMN_PHASE_LOST);
  return kind;
}

static enum smn_kind greeting(struct smn_session *s,
                              const struct smn_task *task) {
  struct smn_owed owed;
  enum smn_kind kind = smn_dialogue_read(s, task, &owed);
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, task, 220);
  if (kind == SMN_OK && task->job->probe)
    task->result->greeting = smn_dialogue_words(s);
  return kind;
}

/* The lines of EHLO after the first, each quoted, with '\n' between.  */
static char *capability_lines(const struct smn_session *s) {
  size_t size = s->reply.text.len * 4 + 1, to = 0, at = 0, len;
  char *lines = calloc(1, size);
  const char *line;
  (void)smn_reply_next_line(&s->reply, &at, &line, &len);
  while (lines && smn_reply_next_line(&s->reply, &at, &line, &len)) {
    if (to)
      lines[to++] = '\n';
    smn_quote(lines + to, size - to, line, len);
    to += strlen(lines + to);
  }
  return lines;
}

/* The name for EHLO (RFC 5321 4.1.1.1).  LITERAL is room for an address.  */
static const char *own_name(const struct smn_session *s,
                            const struct smn_server *server,
                            char literal[SMN_LITERAL_MAX]) {
  if (server->helo)
    return server->helo;
  smn_conn_literal(s->conn, literal);
  return literal;
}

/* EHLO before its turn, if the server has allowed that; what follows goes along
   and relies on what was offered then.  A probe wants to see all.  */
static bool hello_early(struct smn_session *s, const struct smn_task *task) {
  const struct smn_server *server = &task->job->server;
  char line[SMN_COMMAND_MAX], literal[SMN_LITERAL_MAX];
  if (task->job->probe || s->plainly || smn_server_lmtp(server) ||
      !smn_early_recall(server, smn_conn_encrypted(s->conn), &s->caps))
    return false;
  snprintf(line, sizeof line, "EHLO %s", own_name(s, server, literal));
  s->early = smn_dialogue_ask(s, task, SMN_ASKED_EHLO, 0, line) == SMN_OK;
  return s->early;
}

static void note_offer(struct smn_session *s, const struct smn_task *task) {
  const struct smn_server *server = &task->job->server;
  smn_capabilities_parse(&s->caps, &s->reply);
  smn_capabilities_avoid(&s->caps, server->avoid);
  smn_early_note(server, smn_conn_encrypted(s->conn), &s->caps);
  if (!task->job->probe)
    return;
  free(task->result->capabilities);
  task->result->capabilities = capability_lines(s);
}

/* EHLO, and HELO for a server that is older than it; LHLO for LMTP, which has
   always had it.  */
static enum smn_kind hello(struct smn_session *s, const struct smn_task *task) {
  bool lmtp = smn_server_lmtp(&task->job->server);
  s->state.lmtp = lmtp;
  char literal[SMN_LITERAL_MAX];
  const char *name = own_name(s, &task->job->server, literal);
  memset(&s->caps, 0, sizeof s->caps);
  enum smn_kind kind = smn_dialogue_command(s, task, SMN_ASKED_EHLO,
                                            lmtp ? "LHLO " : "EHLO ", name);
  if (kind != SMN_OK)
    return kind;
  if (s->reply.code == 250) {
    note_offer(s, task);
    return SMN_OK;
  }
  if (lmtp || s->reply.code / 100 != 5 || s->reply.code == 554 ||
      s->state.phase != SMN_PHASE_UP)
    return smn_dialogue_unexpected(s, task);
  kind = smn_dialogue_command(s, task, SMN_ASKED_EHLO, "HELO ", name);
  return kind == SMN_OK ? smn_dialogue_expect(s, task, 250) : kind;
}

/* A name that is gone was forged before TLS, or the server thinks less of the
   channel than it did: nothing follows from it, but it is worth a note.  */
static void note_lost_mechanisms(struct smn_session *s, const char *before) {
  const char *now = s->caps.mechanisms;
  struct smn_word rest = smn_words(before), word;
  char lost[256] = "";
  while (smn_words_next(&rest, &word)) {
    size_t have = strlen(lost);
    if (!smn_words_have(now, word))
      snprintf(lost + have, sizeof lost - have, "%s%.*s", have ? " " : "",
               (int)word.len, word.at);
  }
  if (lost[0])
    snprintf(s->notes, sizeof s->notes,
             "after STARTTLS the server no longer offers %s, but %.200s", lost,
             now[0] ? now : "no mechanism");
}

static enum smn_kind secure(struct smn_session *s,
                            const struct smn_task *task) {
  enum smn_stream stream = task->job->server.stream;
  if (stream == SMN_STREAM_PLAIN || stream == SMN_STREAM_TLS)
    return SMN_OK;
  if (!s->caps.starttls) {
    if (stream == SMN_STREAM_AUTO)
      return SMN_OK;
    task->result->error.stage = SMN_STAGE_STARTTLS;
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    "STARTTLS is required, and the server does not offer it");
  }
  enum smn_kind kind =
      smn_dialogue_command(s, task, SMN_ASKED_STARTTLS, "STARTTLS", NULL);
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, task, 220);
  if (kind != SMN_OK)
    return kind;
  const struct smn_capabilities before = s->caps;
  kind = start_tls(s, task);
  if (kind == SMN_OK && !hello_early(s, task))
    kind = hello(s, task);
  if (kind == SMN_OK)
    note_lost_mechanisms(s, before.mechanisms);
  return kind;
}

static enum smn_kind open_session(struct smn_session *s,
                                  const struct smn_task *task) {
  const struct smn_server *server = &task->job->server;
  struct smn_error *err = &task->result->error;
  const struct smn_conn_to to = {.host = smn_server_name(server),
                                 .port = server->port,
                                 .source = server->source,
                                 .proxy = server->proxy.len ? server->proxy.data
                                                            : NULL};
  enum smn_kind kind = load_trust(s, task);
  if (kind == SMN_OK)
    kind = smn_conn_open(&s->conn, &to, server->timeout_ms,
                         task->observer->cancel_fd, err);
  if (kind == SMN_OK && !smn_state_begin(&s->state, task))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  if (kind == SMN_OK && server->stream == SMN_STREAM_TLS)
    kind = start_tls(s, task);
  if (kind == SMN_OK && !hello_early(s, task)) {
    kind = greeting(s, task);
    if (kind == SMN_OK)
      kind = hello(s, task);
  }
  return kind == SMN_OK ? secure(s, task) : kind;
}

/* AUTH */

static bool may_show_secrets(const struct smn_session *s,
                             const struct smn_server *server) {
  if (smn_conn_encrypted(s->conn))
    return true;
  switch (server->cleartext) {
  case SMN_CLEARTEXT_ALWAYS:
    return true;
  case SMN_CLEARTEXT_LOOPBACK:
    return smn_conn_loopback(s->conn);
  case SMN_CLEARTEXT_NEVER:
    break;
  }
  return false;
}

/* What the dialogue of AUTH needs to call back.  */
struct speaker {
  struct smn_session *s;
  const struct smn_task *task;
};

static enum smn_kind exchange(void *context, const char *shown) {
  const struct speaker *speaker = context;
  return smn_dialogue_secret(speaker->s, speaker->task, shown);
}

/* No secret follows in clear what is only remembered.  */
static enum smn_kind authenticate(struct smn_session *s,
                                  const struct smn_task *task) {
  const struct smn_server *server = &task->job->server;
  struct speaker speaker = {s, task};
  struct smn_binding binding;
  if (!server->authenticate)
    return SMN_OK;
  if (s->early && !smn_conn_encrypted(s->conn)) {
    enum smn_kind kind = smn_dialogue_confirm(s, task);
    if (kind != SMN_OK)
      return kind;
  }
  struct smn_tls *tls = smn_conn_tls(s->conn);
  task->result->error.stage = SMN_STAGE_AUTH;
  struct smn_auth auth = {
      .server = server,
      .offered = s->caps.mechanisms,
      .cancel_fd = task->observer->cancel_fd,
      .encrypted = smn_conn_encrypted(s->conn),
      .may_show_secrets = may_show_secrets(s, server),
      .certificate = server->cert_file || server->key_file,
      .binding = tls && smn_tls_binding(tls, &binding) ? &binding : NULL,
      .reply = &s->reply,
      .command = &s->command,
      .needles = &s->needles,
      .result = task->result,
      .exchange = exchange,
      .session = &speaker,
  };
  enum smn_kind kind = smn_auth_run(&auth);
  memcpy(s->mechanism, task->result->mechanism, sizeof s->mechanism);
  return kind;
}

/* The connection */

/* Say goodbye, where that is heard; TASK (or NULL) sees it.  */
static void quit(struct smn_session *s, const struct smn_task *task) {
  struct smn_error ignored;
  if (!s->conn || !smn_state_settled(&s->state))
    return;
  if (task)
    smn_dialogue_trace(s, task, false, "QUIT", 4);
  (void)smn_conn_write(s->conn, "QUIT\r\n", 6, &ignored);
  smn_state_worsen(&s->state, SMN_PHASE_LOST);
}

static void end_connection(struct smn_session *s) {
  smn_conn_close(s->conn);
  smn_trust_free(s->trust);
  smn_state_end(&s->state);
  s->conn = NULL;
  s->trust = NULL;
  s->mechanism[0] = s->notes[0] = '\0';
  smn_seen_release(s->seen);
  s->seen = NULL;
  s->early = s->rested = false;
  s->broken.kind = SMN_OK;
  s->mails = 0;
  s->full = false;
}

static enum smn_kind connect_for(struct smn_session *s,
                                 const struct smn_task *task) {
  quit(s, task);
  end_connection(s);
  smn_buf_clear(&s->needles);
  smn_server_hide(&task->job->server, &s->needles);
  enum smn_kind kind = open_session(s, task);
  return kind == SMN_OK ? authenticate(s, task) : kind;
}

/* Commands have left before the greeting, and what KIND says of them is no
   good: the same again, in step.  No content has followed them.  */
static bool retreat(struct smn_session *s, const struct smn_task *task,
                    enum smn_kind kind) {
  if (kind == SMN_OK || kind == SMN_CANCELLED || !s->early)
    return false;
  smn_early_ban(&task->job->server);
  end_connection(s);
  return true;
}

/* It has carried as many messages as the server wants on one connection.  */
static bool worn_out(const struct smn_session *s) {
  return s->full || (s->caps.mail_max && s->mails >= s->caps.mail_max);
}

/* OpenSMTPD takes 100 messages on one connection, and says so to the next by
   the code for too many recipients (RFC 5321 4.5.3.1.10).  Where it means a
   full disk, another connection only hears it again.  */
static bool says_full(const struct smn_session *s, const struct smn_error *err,
                      enum smn_kind kind) {
  return kind == SMN_REPLY && err->stage == SMN_STAGE_MAIL &&
         err->code == 452 && s->mails > 1 &&
         (!err->enhanced[0] || strcmp(err->enhanced, "4.5.3") == 0);
}

/* A message that was begun, and is over, must be forgotten before the next: its
   recipients must not get that.  */
static bool cleared(struct smn_session *s, const struct smn_task *task) {
  return !s->state.open || (smn_dialogue_command(s, task, SMN_ASKED_RSET,
                                                 "RSET", NULL) == SMN_OK &&
                            s->reply.code / 100 == 2);
}

/* Make a connection that T may use, or go on to use.  */
static enum smn_kind ready(struct smn_session *s, struct smn_transaction *t) {
  const struct smn_task *task = smn_transaction_task(t);
  if (s->conn && smn_state_belongs(&s->state, task))
    return SMN_OK;
  if (s->conn && smn_state_settled(&s->state) && !worn_out(s) &&
      cleared(s, task))
    return SMN_OK;
  smn_transaction_restart(t);
  enum smn_kind kind = connect_for(s, task);
  return retreat(s, task, kind) ? connect_for(s, task) : kind;
}

/* What came of a task */

/* What KIND, a failure before the server had the message, says of the
   connection and not of the message.  */
static bool deserves_another(const struct smn_session *s,
                             const struct smn_task *task, enum smn_kind kind) {
  const struct smn_result *result = task->result;
  enum smn_stage stage = result->error.stage;
  bool connection = kind == SMN_NETWORK || kind == SMN_PROTOCOL ||
                    kind == SMN_TIMEOUT ||
                    (kind == SMN_REPLY && result->error.code == 421) ||
                    says_full(s, &result->error, kind);
  bool early = stage == SMN_STAGE_MAIL || stage == SMN_STAGE_RCPT ||
               stage == SMN_STAGE_DATA;
  bool reused = s->mails > 1;
  bool broke =
      smn_dialogue_pipelined(s) && kind != SMN_REPLY && kind != SMN_TIMEOUT;
  return connection && early && !result->in_doubt && (reused || broke);
}

/* Nothing refers to TASK any more.  */
static void let_go(struct smn_session *s, const struct smn_task *task) {
  smn_state_forget(&s->state, task);
  if (s->conn)
    smn_conn_heed(s->conn, -1);
}

/* Say what came of TASK, and let go of it.  */
static void settle(struct smn_session *s, const struct smn_task *task,
                   const struct smn_supply *supply, enum smn_kind kind) {
  struct smn_result *result = task->result;
  if (kind == SMN_OK)
    smn_fail(&result->error, SMN_OK, "%s", ""); /* of an earlier try */
  bool again = supply->back && deserves_another(s, task, kind);
  memcpy(result->mechanism, s->mechanism, sizeof result->mechanism);
  size_t noted = strlen(result->notes);
  if (s->notes[0])
    snprintf(result->notes + noted, sizeof result->notes - noted, "%s%s",
             noted ? "; " : "", s->notes);
  snprintf(result->offered, sizeof result->offered, "%s", s->caps.mechanisms);
  smn_result_redact(result, &s->needles);
  smn_seen_redact(s->seen, &s->needles);
  result->seen = smn_seen_hold(s->seen);
  let_go(s, task);
  if (!again ||
      !supply->back(supply->context, task,
                    s->mails <= 1 ? SMN_BACK_PLAINLY : SMN_BACK_AGAIN))
    supply->done(supply->context, task);
}

/* The next job whose message can be read; the others are told so.  */
static struct smn_transaction *prepare(struct smn_session *s,
                                       const struct smn_task *task,
                                       const struct smn_supply *supply) {
  struct smn_transaction *t = NULL;
  while (task && smn_transaction_new(&t, s, task) != SMN_OK) {
    supply->done(supply->context, task);
    task = supply->next ? supply->next(supply->context) : NULL;
  }
  return t;
}

static struct smn_transaction *fetch(struct smn_session *s,
                                     const struct smn_supply *supply) {
  return supply->next ? prepare(s, supply->next(supply->context), supply)
                      : NULL;
}

/* The server has turned this connection away, and may like another better.  */
static bool unwanted(const struct smn_error *err) {
  switch (err->stage) {
  case SMN_STAGE_CONNECT:
    return err->kind == SMN_NETWORK;
  case SMN_STAGE_HANDSHAKE:
  case SMN_STAGE_GREETING:
  case SMN_STAGE_EHLO:
    return err->kind == SMN_NETWORK ||
           (err->kind == SMN_REPLY && err->code < 500);
  default:
    return err->kind == SMN_REPLY && err->code == 421;
  }
}

/* The server cannot be used, for T and NEXT (or NULL) and for all that SUPPLY
   has: to try each again would cost a timeout each, or lock the account of the
   user.  What the supply takes back it keeps from this session.  */
static void give_up(struct smn_session *s, struct smn_transaction *t,
                    struct smn_transaction *next,
                    const struct smn_supply *supply, enum smn_kind kind) {
  const struct smn_error err = smn_transaction_task(t)->result->error;
  bool offer = unwanted(&err) && supply->back;
  while (t) {
    const struct smn_task *task = smn_transaction_task(t);
    let_go(s, task);
    bool taken =
        offer && supply->back(supply->context, task, SMN_BACK_UNWANTED);
    if (!taken) {
      task->result->error = err;
      settle(s, task, supply, kind);
    }
    smn_transaction_free(t, s);
    t = next || taken ? next : fetch(s, supply);
    next = NULL;
  }
}

/* One message after the other */

/* The message after T may be begun before T is answered.  */
static bool may_look_ahead(const struct smn_session *s) {
  return smn_dialogue_pipelined(s) && !worn_out(s);
}

/* Deliver T.  Where the server lets commands be sent ahead, *NEXT is read while
   the answers to the envelope of a small message are awaited, and begun with
   the end of data; if there is none by then, or T is large, as soon as that has
   left.  So the end of data never waits for it.  */
static enum smn_kind deliver(struct smn_session *s, struct smn_transaction *t,
                             const struct smn_supply *supply,
                             struct smn_transaction **next) {
  s->mails++;
  enum smn_kind kind = smn_transaction_begin(s, t);
  if (kind == SMN_OK && !*next && may_look_ahead(s) && smn_transaction_small(t))
    *next = fetch(s, supply);
  if (kind == SMN_OK)
    kind = smn_transaction_envelope(s, t);
  if (kind == SMN_OK)
    kind = smn_transaction_content(s, t, supply);
  if (kind == SMN_OK)
    kind = smn_transaction_end(s, t, supply, *next);
  if (kind == SMN_OK && may_look_ahead(s) && !*next) {
    *next = fetch(s, supply);
    if (*next)
      smn_transaction_ahead(s, *next);
  }
  kind = smn_transaction_outcome(s, t);
  s->full =
      s->full || says_full(s, &smn_transaction_task(t)->result->error, kind);
  return kind;
}

/* The connection can be used for another message, or NEXT has begun to.  */
static bool usable(const struct smn_session *s,
                   const struct smn_transaction *next) {
  return (smn_state_settled(&s->state) && !worn_out(s)) ||
         (next && smn_state_belongs(&s->state, smn_transaction_task(next)));
}

static void serve_mails(struct smn_session *s, struct smn_transaction *t,
                        const struct smn_supply *supply) {
  struct smn_transaction *next = NULL;
  while (t) {
    const struct smn_task *task = smn_transaction_task(t);
    enum smn_kind kind = smn_transaction_keep(t);
    bool kept = kind == SMN_OK;
    if (kept)
      kind = ready(s, t);
    if (kept && kind != SMN_OK && kind != SMN_CANCELLED) {
      quit(s, task);
      give_up(s, t, next, supply, kind);
      end_connection(s);
      return;
    }
    if (kind == SMN_OK)
      kind = deliver(s, t, supply, &next);
    if (retreat(s, task, kind))
      continue;
    if (!usable(s, next))
      quit(s, task);
    settle(s, task, supply, kind);
    smn_transaction_free(t, s);
    if (!usable(s, next))
      end_connection(s);
    t = next ? next : fetch(s, supply);
    next = NULL;
  }
}

void smn_session_serve(struct smn_session *s, const struct smn_task *first,
                       const struct smn_supply *supply) {
  struct smn_error *err = &first->result->error;
  s->rested = s->conn != NULL;
  if (!first->job->probe) {
    serve_mails(s, prepare(s, first, supply), supply);
    return;
  }
  enum smn_kind kind = smn_job_check(first->job, err);
  if (kind == SMN_OK)
    kind = connect_for(s, first);
  quit(s, first);
  settle(s, first, supply, kind);
  end_connection(s);
}

/* Its own life */

struct smn_session *smn_session_new(bool plainly) {
  struct smn_session *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->plainly = plainly;
  smn_reply_init(&s->reply);
  smn_state_init(&s->state);
  if (smn_blocks_init(&s->blocks) &&
      smn_buf_init_secret(&s->command, SMN_COMMAND_MAX) &&
      smn_buf_init_secret(&s->needles, 8 * SMN_COMMAND_MAX))
    return s;
  smn_session_close(s);
  return NULL;
}

bool smn_session_alive(struct smn_session *s) {
  return smn_state_settled(&s->state) && !smn_conn_has_input(s->conn);
}

static void close_session(struct smn_session *s, const struct smn_task *task) {
  quit(s, task);
  end_connection(s);
  smn_buf_free(&s->needles);
  smn_buf_free(&s->command);
  smn_blocks_free(&s->blocks);
  smn_state_free(&s->state);
  smn_reply_free(&s->reply);
  free(s);
}

void smn_session_close(struct smn_session *s) {
  if (s)
    close_session(s, NULL);
}

/* One job */

static void keep(void *context, const struct smn_task *task) {
  (void)context;
  (void)task;
}

static bool note_back(void *context, const struct smn_task *task,
                      enum smn_back why) {
  (void)task;
  if (why == SMN_BACK_UNWANTED)
    return false;
  *(int *)context = why == SMN_BACK_PLAINLY ? 2 : 1;
  return true;
}

enum smn_kind smn_session_run(const struct smn_job *job,
                              const struct smn_observer *observer,
                              struct smn_result *result) {
  const struct smn_task task = {job, observer, result};
  int again = 0;
  struct smn_supply supply = {
      .context = &again, .done = keep, .back = note_back};
  do {
    struct smn_session *s = smn_session_new(again == 2);
    if (!s)
      return smn_fail(&result->error, SMN_SYSTEM, "no memory");
    if (again)
      supply.back = NULL;
    again = 0;
    smn_session_serve(s, &task, &supply);
    close_session(s, &task);
    if (again)
      smn_result_clear(result);
  } while (again);
  return result->error.kind;
}
