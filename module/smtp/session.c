/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.c - the dialogue with one server, from greeting to QUIT.  */
#include "smtp/session.h"
#include "smtp/auth.h"
#include "smtp/dialogue.h"
#include "smtp/early.h"
#include "smtp/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Connect, greet, TLS */

static void tls_options(const struct smn_session *s,
                        struct smn_tls_options *options) {
  const struct smn_server *server = &s->task->job->server;
  *options = (struct smn_tls_options){
      /* Whoever listens on a local socket is this machine.  */
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
static enum smn_kind load_trust(struct smn_session *s) {
  struct smn_tls_options options;
  if (s->task->job->server.stream == SMN_STREAM_PLAIN)
    return SMN_OK;
  tls_options(s, &options);
  return smn_trust_load(&s->trust, &options,
                        &s->task->result->passphrase_wanted, s->err);
}

static enum smn_kind start_tls(struct smn_session *s) {
  struct smn_tls_options options;
  tls_options(s, &options);
  s->err->stage = SMN_STAGE_HANDSHAKE;
  enum smn_kind kind = smn_conn_start_tls(s->conn, &options, s->err);
  if (smn_conn_tls_info(s->conn))
    s->seen = smn_seen_new(smn_conn_tls_info(s->conn));
  return kind;
}

static enum smn_kind greeting(struct smn_session *s) {
  s->err->stage = SMN_STAGE_GREETING;
  enum smn_kind kind = smn_dialogue_read(s, 1);
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, 220);
  if (kind == SMN_OK && s->task->job->probe)
    s->task->result->greeting = smn_dialogue_words(s);
  return kind;
}

/* The lines of EHLO behind the first, each quoted, with '\n' between.  */
static char *capability_lines(const struct smn_session *s) {
  const char *at = s->reply.text.data;
  const char *end = at + s->reply.text.len;
  size_t size = s->reply.text.len * 4 + 1, to = 0;
  char *lines = calloc(1, size);
  for (bool first = true; lines && at < end; first = false) {
    const char *lf = memchr(at, '\n', (size_t)(end - at));
    size_t len = (size_t)((lf ? lf : end) - at);
    if (!first) {
      smn_quote(lines + to, size - to, at, len);
      to += strlen(lines + to);
      if (lf)
        lines[to++] = '\n';
    }
    at += len + 1;
  }
  return lines;
}

/* EHLO before its turn, if the server has allowed that; what follows goes along
   and relies on what was offered then.  A probe wants to see all.  */
static bool hello_early(struct smn_session *s) {
  const struct smn_server *server = &s->task->job->server;
  char line[SMN_COMMAND_MAX];
  if (s->task->job->probe || s->plain_dialogue || smn_server_lmtp(server) ||
      !smn_early_recall(server, smn_conn_encrypted(s->conn), &s->caps))
    return false;
  snprintf(line, sizeof line, "EHLO %s", server->helo);
  s->hello_owed = smn_dialogue_add(s, line) == SMN_OK;
  return s->hello_owed;
}

/* EHLO, and HELO for a server that is older than it; LHLO for LMTP, which has
   always had it.  */
static enum smn_kind hello(struct smn_session *s) {
  bool lmtp = smn_server_lmtp(&s->task->job->server);
  const char *name = s->task->job->server.helo;
  memset(&s->caps, 0, sizeof s->caps);
  s->err->stage = SMN_STAGE_EHLO;
  enum smn_kind kind =
      smn_dialogue_command(s, lmtp ? "LHLO " : "EHLO ", name, NULL);
  if (kind != SMN_OK)
    return kind;
  if (s->reply.code == 250) {
    smn_capabilities_parse(&s->caps, &s->reply);
    smn_capabilities_avoid(&s->caps, s->task->job->server.avoid);
    smn_early_note(&s->task->job->server, smn_conn_encrypted(s->conn),
                   &s->caps);
    if (s->task->job->probe) {
      free(s->task->result->capabilities);
      s->task->result->capabilities = capability_lines(s);
    }
    return SMN_OK;
  }
  if (lmtp || s->reply.code / 100 != 5 || s->reply.code == 554)
    return smn_dialogue_unexpected(s);
  kind = smn_dialogue_command(s, "HELO ", name, NULL);
  return kind == SMN_OK ? smn_dialogue_expect(s, 250) : kind;
}

/* A name that is gone was forged before TLS, or the server thinks less of the
   channel than it did: nothing follows from it, but it is worth a word.  */
static void note_lost_mechanisms(struct smn_session *s, const char *before) {
  const char *now = s->caps.mechanisms;
  char lost[256] = "";
  for (const char *at = before; *at;) {
    size_t len = strcspn(at, " "), have = strlen(lost);
    bool kept = false;
    for (const char *word = now; *word && !kept;) {
      size_t n = strcspn(word, " ");
      kept = n == len && memcmp(word, at, len) == 0;
      word += n + (word[n] == ' ');
    }
    if (!kept)
      snprintf(lost + have, sizeof lost - have, "%s%.*s", have ? " " : "",
               (int)len, at);
    at += len + (at[len] == ' ');
  }
  if (lost[0])
    snprintf(s->notes, sizeof s->notes,
             "after STARTTLS the server no longer offers %s, but %.200s", lost,
             now[0] ? now : "no mechanism");
}

static enum smn_kind secure(struct smn_session *s) {
  enum smn_stream stream = s->task->job->server.stream;
  if (stream == SMN_STREAM_PLAIN || stream == SMN_STREAM_TLS)
    return SMN_OK;
  s->err->stage = SMN_STAGE_STARTTLS;
  if (!s->caps.starttls) {
    if (stream == SMN_STREAM_AUTO)
      return SMN_OK;
    return smn_fail(s->err, SMN_UNSUPPORTED,
                    "STARTTLS is required, and the server does not offer it");
  }
  enum smn_kind kind = smn_dialogue_command(s, "STARTTLS", NULL, NULL);
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, 220);
  if (kind != SMN_OK)
    return kind;
  const struct smn_capabilities before = s->caps;
  kind = start_tls(s);
  if (kind == SMN_OK && !hello_early(s))
    kind = hello(s);
  if (kind == SMN_OK)
    note_lost_mechanisms(s, before.mechanisms);
  return kind;
}

static enum smn_kind open_session(struct smn_session *s) {
  const struct smn_server *server = &s->task->job->server;
  const struct smn_conn_to to = {.host = smn_server_name(server),
                                 .port = server->port,
                                 .source = server->source,
                                 .proxy = server->proxy.len ? server->proxy.data
                                                            : NULL};
  enum smn_kind kind = load_trust(s);
  if (kind == SMN_OK)
    kind = smn_conn_open(&s->conn, &to, server->timeout_ms,
                         s->task->observer->cancel_fd, s->err);
  if (kind == SMN_OK && server->stream == SMN_STREAM_TLS)
    kind = start_tls(s);
  if (kind == SMN_OK && hello_early(s))
    s->greeting_owed = true;
  else {
    if (kind == SMN_OK)
      kind = greeting(s);
    if (kind == SMN_OK)
      kind = hello(s);
  }
  return kind == SMN_OK ? secure(s) : kind;
}

/* AUTH */

static bool may_show_secrets(const struct smn_session *s) {
  if (smn_conn_encrypted(s->conn))
    return true;
  switch (s->task->job->server.cleartext) {
  case SMN_CLEARTEXT_ALWAYS:
    return true;
  case SMN_CLEARTEXT_LOOPBACK:
    return smn_conn_loopback(s->conn);
  case SMN_CLEARTEXT_NEVER:
    break;
  }
  return false;
}

static enum smn_kind exchange(void *session, const char *shown) {
  struct smn_session *s = session;
  enum smn_kind kind = smn_dialogue_send(s, shown);
  return kind == SMN_OK ? smn_dialogue_read(s, 1) : kind;
}

static enum smn_kind authenticate(struct smn_session *s) {
  struct smn_tls *tls = smn_conn_tls(s->conn);
  struct smn_binding binding;
  if (!s->task->job->server.authenticate)
    return SMN_OK;
  s->err->stage = SMN_STAGE_AUTH;
  struct smn_auth auth = {
      .server = &s->task->job->server,
      .offered = s->caps.mechanisms,
      .cancel_fd = s->task->observer->cancel_fd,
      .encrypted = smn_conn_encrypted(s->conn),
      .may_show_secrets = may_show_secrets(s),
      .certificate =
          s->task->job->server.cert_file || s->task->job->server.key_file,
      .binding = tls && smn_tls_binding(tls, &binding) ? &binding : NULL,
      .reply = &s->reply,
      .command = &s->command,
      .needles = &s->needles,
      .result = s->task->result,
      .exchange = exchange,
      .session = s,
  };
  enum smn_kind kind = smn_auth_run(&auth);
  memcpy(s->mechanism, s->task->result->mechanism, sizeof s->mechanism);
  return kind;
}

/* One mail after the other */

/* Leave politely where the server listens.  */
static void quit(struct smn_session *s) {
  struct smn_error ignored;
  if (!s->conn || !s->listening)
    return;
  smn_dialogue_trace(s, false, "QUIT", 4);
  (void)smn_conn_write(s->conn, "QUIT\r\n", 6, &ignored);
}

/* The server is out of step, or gone.  */
static void end_connection(struct smn_session *s) {
  smn_conn_close(s->conn);
  smn_trust_free(s->trust);
  s->conn = NULL;
  s->trust = NULL;
  s->mechanism[0] = s->notes[0] = '\0';
  smn_seen_release(s->seen);
  s->seen = NULL;
  s->listening = s->dirty = false;
  s->greeting_owed = s->hello_owed = s->early_failed = false;
  s->flight.len = 0;
  s->mails = 0;
}

static enum smn_kind connect_for(struct smn_session *s,
                                 const struct smn_task *task) {
  end_connection(s);
  smn_dialogue_focus(s, task);
  smn_buf_clear(&s->needles);
  smn_server_hide(&task->job->server, &s->needles);
  enum smn_kind kind = open_session(s);
  if (kind == SMN_OK && !task->job->probe)
    kind = authenticate(s);
  s->listening = s->conn && (kind == SMN_OK || kind == SMN_UNSUPPORTED ||
                             kind == SMN_CLEARTEXT || kind == SMN_AUTH ||
                             (kind == SMN_REPLY && s->err->code != 421));
  return kind;
}

/* Is KIND about one mail, so that the connection may go on with another?  */
static bool only_this_mail(const struct smn_session *s, enum smn_kind kind) {
  return s->listening &&
         (kind == SMN_OK || kind == SMN_UNSUPPORTED || kind == SMN_TOO_LARGE ||
          kind == SMN_USAGE || kind == SMN_FILE ||
          (kind == SMN_REPLY && s->err->code != 421));
}

/* See to it that a mail that was begun, and is over, is forgotten before T,
   whenever that comes: its recipients must not get T.  Commands of T that have
   left were heard in a state that they were not meant for.  */
static bool cleared(struct smn_session *s, const struct smn_transaction *t) {
  if (!s->dirty)
    return true;
  s->dirty = false;
  smn_dialogue_focus(s, smn_transaction_task(t));
  return !smn_transaction_begun(t) &&
         smn_dialogue_command(s, "RSET", NULL, NULL) == SMN_OK &&
         smn_dialogue_expect(s, 2) == SMN_OK;
}

/* What KIND, a failure before anything was delivered, says of the connection
   and not of the mail.  */
static bool deserves_another(const struct smn_session *s,
                             const struct smn_task *task, enum smn_kind kind) {
  enum smn_stage stage = task->result->error.stage;
  bool connection = kind == SMN_NETWORK || kind == SMN_PROTOCOL ||
                    kind == SMN_TIMEOUT ||
                    (kind == SMN_REPLY && task->result->error.code == 421);
  bool early = stage == SMN_STAGE_MAIL || stage == SMN_STAGE_RCPT ||
               stage == SMN_STAGE_DATA;
  bool reused = s->mails > 1;
  bool broke = s->caps.pipelining && !s->plain_dialogue &&
               !(kind == SMN_REPLY || kind == SMN_TIMEOUT);
  return connection && early && !task->result->in_doubt && (reused || broke);
}

/* Commands have left before the greeting, and KIND says that this was no good:
   the same again, in step.  No content has followed them.  */
static bool retreat(struct smn_session *s, enum smn_kind kind) {
  bool early = s->early_failed || s->greeting_owed || s->hello_owed;
  if (kind == SMN_OK || kind == SMN_CANCELLED || !early)
    return false;
  smn_early_ban(&s->task->job->server);
  end_connection(s);
  return true;
}

/* Say what came of TASK, and forget it.  */
static void settle(struct smn_session *s, const struct smn_task *task,
                   const struct smn_supply *supply, enum smn_kind kind) {
  struct smn_result *result = task->result;
  bool again =
      kind != SMN_OK && supply->back && deserves_another(s, task, kind);
  if (kind == SMN_OK)
    result->error.kind = SMN_OK;
  memcpy(result->mechanism, s->mechanism, sizeof result->mechanism);
  size_t noted = strlen(result->notes);
  if (s->notes[0])
    snprintf(result->notes + noted, sizeof result->notes - noted, "%s%s",
             noted ? "; " : "", s->notes);
  snprintf(result->offered, sizeof result->offered, "%s", s->caps.mechanisms);
  smn_result_redact(result, &s->needles);
  smn_seen_redact(s->seen, &s->needles);
  result->seen = smn_seen_hold(s->seen);
  smn_dialogue_focus(s, NULL);
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

/* It has carried as many mails as the server wants on one connection.  */
static bool worn_out(const struct smn_session *s) {
  return s->caps.mail_max && s->mails >= s->caps.mail_max;
}

/* Deliver T.  Where the server lets commands be sent ahead, *NEXT is begun.  */
static enum smn_kind deliver(struct smn_session *s, struct smn_transaction *t,
                             const struct smn_supply *supply,
                             struct smn_transaction **next) {
  const struct smn_task *task = smn_transaction_task(t);
  smn_dialogue_focus(s, task);
  s->mails++;
  enum smn_kind kind = smn_transaction_envelope(s, t);
  smn_result_redact(task->result, &s->needles); /* a receipt may be written */
  if (kind == SMN_OK && supply->begin &&
      !supply->begin(supply->context, task)) {
    s->listening = false; /* it waits for content that does not come */
    kind = smn_fail(s->err, SMN_CANCELLED, "cancelled");
  }
  if (kind == SMN_OK)
    kind = smn_transaction_content(s, t);
  if (kind != SMN_OK)
    return kind;
  if (s->caps.pipelining && !s->plain_dialogue && !worn_out(s))
    *next = fetch(s, supply);
  return smn_transaction_end(s, t, *next);
}

/* The server has turned this connection away, and may like another better.  */
static bool unwanted(const struct smn_error *err) {
  switch (err->stage) {
  case SMN_STAGE_CONNECT:
    return err->kind == SMN_NETWORK;
  case SMN_STAGE_GREETING:
  case SMN_STAGE_EHLO:
    return err->kind == SMN_NETWORK ||
           (err->kind == SMN_REPLY && err->code < 500);
  default:
    return err->kind == SMN_REPLY && err->code == 421;
  }
}

/* The server cannot be used, for T and for all that SUPPLY has: to try each
   again would cost a timeout each, or lock the account of the user.  */
static void give_up(struct smn_session *s, struct smn_transaction *t,
                    const struct smn_supply *supply, enum smn_kind kind) {
  const struct smn_error err = *s->err;
  if (unwanted(&err) && supply->back &&
      supply->back(supply->context, smn_transaction_task(t),
                   SMN_BACK_UNWANTED)) {
    smn_dialogue_focus(s, NULL);
    smn_transaction_free(t);
    return;
  }
  while (t) {
    const struct smn_task *task = smn_transaction_task(t);
    task->result->error = err;
    settle(s, task, supply, kind);
    smn_transaction_free(t);
    t = kind == SMN_CANCELLED ? NULL : fetch(s, supply);
  }
}

static void serve_mails(struct smn_session *s, struct smn_transaction *t,
                        const struct smn_supply *supply) {
  while (t) {
    const struct smn_task *task = smn_transaction_task(t);
    struct smn_transaction *next = NULL;
    if (!cleared(s, t)) {
      end_connection(s);
      smn_transaction_restart(t);
    }
    enum smn_kind kind = s->conn ? SMN_OK : connect_for(s, task);
    if (retreat(s, kind))
      kind = connect_for(s, task);
    if (kind != SMN_OK) {
      quit(s);
      give_up(s, t, supply, kind);
      end_connection(s);
      return;
    }
    kind = deliver(s, t, supply, &next);
    if (retreat(s, kind)) {
      smn_transaction_restart(t);
      continue;
    }
    bool usable = only_this_mail(s, kind) && !worn_out(s);
    if (!usable)
      quit(s);
    settle(s, task, supply, kind);
    smn_transaction_free(t);
    t = next ? next : fetch(s, supply);
    if (!usable) {
      end_connection(s);
      if (t)
        smn_transaction_restart(t);
    }
  }
}

void smn_session_serve(struct smn_session *s, const struct smn_task *first,
                       const struct smn_supply *supply) {
  smn_dialogue_focus(s, first);
  if (!first->job->probe) {
    serve_mails(s, prepare(s, first, supply), supply);
    return;
  }
  enum smn_kind kind = smn_job_check(first->job, s->err);
  if (kind == SMN_OK)
    kind = connect_for(s, first);
  /* It has not said who it is, and so is of no use to a mail.  */
  quit(s);
  settle(s, first, supply, kind);
  end_connection(s);
}

/* Its own life */

struct smn_session *smn_session_new(bool plainly) {
  struct smn_session *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->plain_dialogue = plainly;
  smn_reply_init(&s->reply);
  smn_buf_init(&s->flight, SMN_COMMANDS_MAX);
  if (smn_blocks_init(&s->blocks) &&
      smn_buf_init_secret(&s->command, SMN_COMMAND_MAX) &&
      smn_buf_init_secret(&s->needles, 8 * SMN_COMMAND_MAX))
    return s;
  smn_session_close(s);
  return NULL;
}

bool smn_session_alive(struct smn_session *s) {
  return s->conn && s->listening && !smn_conn_has_input(s->conn);
}

void smn_session_close(struct smn_session *s) {
  if (!s)
    return;
  quit(s);
  end_connection(s);
  smn_buf_free(&s->needles);
  smn_buf_free(&s->command);
  smn_buf_free(&s->flight);
  smn_blocks_free(&s->blocks);
  smn_reply_free(&s->reply);
  free(s);
}

/* One job alone */

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
    smn_dialogue_focus(s, &task);
    smn_session_close(s);
    if (again)
      smn_result_clear(result);
  } while (again);
  return result->error.kind;
}
