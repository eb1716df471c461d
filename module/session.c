/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.c - the dialogue with one server, from greeting to QUIT.  */
#include "session.h"
#include "dialogue.h"
#include "sasl.h"
#include "transaction.h"

#include <gnutls/gnutls.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUTH_LINE_MAX 510 /* RFC 5321 4.5.3.1.4, without CRLF */
#define AUTH_STEPS_MAX 8  /* challenges before a server is looping */
#define FLIGHT_MAX 65536  /* octets of commands that leave together */

static const char omitted[] = "<omitted>";

/* Secrets of AUTH */

static void add_password_needles(struct smn_session *s) {
  const struct smn_buf *password = &s->task->job->server.password;
  smn_dialogue_hide(s, password->data, password->len);
  gnutls_datum_t raw = {(unsigned char *)password->data,
                        (unsigned)password->len};
  gnutls_datum_t encoded = {NULL, 0};
  if (raw.size && gnutls_base64_encode2(&raw, &encoded) == 0) {
    smn_dialogue_hide(s, (char *)encoded.data, encoded.size);
    smn_wipe(encoded.data, encoded.size);
    gnutls_free(encoded.data);
  }
}

/* The response itself, and its last word decoded: the digest of CRAM-MD5.  */
static void add_response_needles(struct smn_session *s) {
  smn_dialogue_hide(s, s->response.data, s->response.len);
  gnutls_datum_t encoded = {(unsigned char *)s->response.data,
                            (unsigned)s->response.len};
  gnutls_datum_t raw = {NULL, 0};
  if (encoded.size == 0 || gnutls_base64_decode2(&encoded, &raw) != 0)
    return;
  size_t at = raw.size;
  while (at > 0 && raw.data[at - 1] != ' ')
    at--;
  if (at > 0)
    smn_dialogue_hide(s, (char *)raw.data + at, raw.size - at);
  smn_wipe(raw.data, raw.size);
  gnutls_free(raw.data);
}

/* Connect, greet, TLS */

static enum smn_kind start_tls(struct smn_session *s) {
  const struct smn_server *server = &s->task->job->server;
  const struct smn_tls_options options = {
      .host = server->host,
      .trustfiles = server->trustfiles,
      .crlfiles = server->crlfiles,
      .priority = server->priority,
      .min_prime_bits = server->min_prime_bits,
      .key_file = server->key_file,
      .cert_file = server->cert_file,
  };
  s->err->stage = SMN_STAGE_HANDSHAKE;
  enum smn_kind kind = smn_conn_start_tls(s->conn, &options, s->err);
  if (smn_conn_tls_info(s->conn))
    s->tls = *smn_conn_tls_info(s->conn);
  return kind;
}

static enum smn_kind greeting(struct smn_session *s) {
  s->err->stage = SMN_STAGE_GREETING;
  enum smn_kind kind = smn_dialogue_read(s, 1);
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, 220);
  if (kind == SMN_OK && s->task->job->probe)
    s->task->result->greeting =
        smn_dialogue_quoted(s->reply.text.data, s->reply.text.len);
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

/* EHLO, and HELO for a server that is older than it.  */
static enum smn_kind hello(struct smn_session *s) {
  const char *name = s->task->job->server.helo;
  memset(&s->caps, 0, sizeof s->caps);
  s->err->stage = SMN_STAGE_EHLO;
  enum smn_kind kind = smn_dialogue_command(s, "EHLO ", name, NULL);
  if (kind != SMN_OK)
    return kind;
  if (s->reply.code == 250) {
    smn_capabilities_parse(&s->caps, &s->reply);
    if (s->task->job->probe) {
      free(s->task->result->capabilities);
      s->task->result->capabilities = capability_lines(s);
    }
    return SMN_OK;
  }
  if (s->reply.code / 100 != 5 || s->reply.code == 554)
    return smn_dialogue_unexpected(s);
  kind = smn_dialogue_command(s, "HELO ", name, NULL);
  return kind == SMN_OK ? smn_dialogue_expect(s, 250) : kind;
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
  if (kind == SMN_OK)
    kind = start_tls(s);
  return kind == SMN_OK ? hello(s) : kind;
}

static enum smn_kind open_session(struct smn_session *s) {
  const struct smn_server *server = &s->task->job->server;
  enum smn_kind kind =
      smn_conn_open(&s->conn, server->host, server->port, server->timeout_ms,
                    s->task->observer->cancel_fd, s->err);
  if (kind == SMN_OK && server->stream == SMN_STREAM_TLS)
    kind = start_tls(s);
  if (kind == SMN_OK)
    kind = greeting(s);
  if (kind == SMN_OK)
    kind = hello(s);
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

/* Send AUTH, with the initial response where it fits on the line.  *HELD tells
   that it did not and waits for the first 334.  */
static enum smn_kind begin_auth(struct smn_session *s, struct smn_sasl *sasl,
                                const char *mechanism, bool *held) {
  bool has = false;
  char shown[64];
  *held = false;
  enum smn_kind kind = smn_sasl_first(sasl, &s->response, &has, s->err);
  if (kind != SMN_OK)
    return kind;
  if (has)
    add_response_needles(s);
  *held = has && strlen("AUTH ") + strlen(mechanism) + 1 + s->response.len >
                     AUTH_LINE_MAX;
  bool inlined = has && !*held;
  snprintf(shown, sizeof shown, "AUTH %s%s%s", mechanism, inlined ? " " : "",
           inlined ? omitted : "");
  smn_buf_clear(&s->command);
  if (!smn_buf_add_string(&s->command, "AUTH ") ||
      !smn_buf_add_string(&s->command, mechanism) ||
      (inlined &&
       (!smn_buf_add_string(&s->command, " ") ||
        !smn_buf_add(&s->command, s->response.data, s->response.len))))
    return smn_fail(s->err, SMN_USAGE, "the credentials are too long");
  kind = smn_dialogue_send(s, shown);
  return kind == SMN_OK ? smn_dialogue_read(s, 1) : kind;
}

static enum smn_kind send_response(struct smn_session *s) {
  smn_buf_clear(&s->command);
  if (s->response.len &&
      !smn_buf_add(&s->command, s->response.data, s->response.len))
    return smn_fail(s->err, SMN_USAGE, "the credentials are too long");
  enum smn_kind kind = smn_dialogue_send(s, s->response.len ? omitted : "");
  return kind == SMN_OK ? smn_dialogue_read(s, 1) : kind;
}

/* "*" ends the exchange (RFC 4954 4); its reply tells nothing new, so *err
   stays as it is.  */
static void cancel_auth(struct smn_session *s) {
  struct smn_error kept = *s->err;
  smn_buf_clear(&s->command);
  if (smn_buf_add_string(&s->command, "*") &&
      smn_dialogue_send(s, NULL) == SMN_OK)
    (void)smn_dialogue_read(s, 1);
  *s->err = kept;
}

static enum smn_kind run_auth(struct smn_session *s, struct smn_sasl *sasl,
                              const char *mechanism) {
  bool held;
  enum smn_kind kind = begin_auth(s, sasl, mechanism, &held);
  for (int step = 0; kind == SMN_OK && s->reply.code == 334; step++) {
    if (step == AUTH_STEPS_MAX)
      kind = smn_fail(s->err, SMN_AUTH, "%s: the server asks without end",
                      mechanism);
    else if (!held) {
      kind = smn_sasl_next(sasl, s->reply.text.data, s->reply.text.len,
                           &s->response, s->err);
      add_response_needles(s);
    }
    held = false;
    if (kind != SMN_OK) {
      cancel_auth(s);
      return kind;
    }
    kind = send_response(s);
  }
  if (kind == SMN_OK)
    kind = smn_dialogue_expect(s, 235);
  return kind == SMN_OK ? smn_sasl_finish(sasl, s->err) : kind;
}

static enum smn_kind auth_by(struct smn_session *s, const char *mechanism) {
  const struct smn_server *server = &s->task->job->server;
  const struct smn_credentials credentials = {
      .user = server->user,
      .authzid = server->authzid,
      .password = &server->password,
  };
  struct smn_sasl *sasl = NULL;
  enum smn_kind kind = smn_sasl_start(&sasl, mechanism, &credentials, s->err);
  if (kind == SMN_OK)
    kind = run_auth(s, sasl, mechanism);
  smn_sasl_free(sasl);
  smn_buf_clear(&s->response);
  smn_buf_clear(&s->command);
  return kind;
}

/* May the next of the mechanisms be tried after this refusal?  A mechanism that
   is refused makes room for any other; a password that is refused only, once,
   for one that shows it to a server whose name TLS has proved, since a server
   may hold no secret for challenges.  */
static bool next_mechanism(const struct smn_session *s, const char *refused,
                           bool *fell_back, bool *plaintext_only) {
  int code = s->err->code;
  if (s->err->kind != SMN_REPLY)
    return false;
  if (code == 504 || code == 534)
    return true;
  if (code != 535 || *fell_back || smn_sasl_plaintext(refused) ||
      !smn_conn_encrypted(s->conn))
    return false;
  return *fell_back = *plaintext_only = true;
}

static enum smn_kind auth_in_order(struct smn_session *s, char *order) {
  bool fell_back = false, plaintext_only = false;
  enum smn_kind kind = SMN_AUTH;
  for (char *mechanism = order, *end; *mechanism; mechanism = end) {
    end = mechanism + strcspn(mechanism, " ");
    if (*end)
      *end++ = '\0';
    if (plaintext_only && !smn_sasl_plaintext(mechanism))
      continue;
    kind = auth_by(s, mechanism);
    if (kind == SMN_OK) {
      snprintf(s->mechanism, sizeof s->mechanism, "%s", mechanism);
      break;
    }
    if (!next_mechanism(s, mechanism, &fell_back, &plaintext_only))
      break;
  }
  /* 4yz is the server's trouble, and so is 421; the rest is ours.  */
  if (kind == SMN_REPLY && s->err->code >= 500)
    kind = s->err->kind = SMN_AUTH;
  return kind;
}

static enum smn_kind authenticate(struct smn_session *s) {
  const struct smn_server *server = &s->task->job->server;
  char order[256];
  if (!server->authenticate)
    return SMN_OK;
  s->err->stage = SMN_STAGE_AUTH;
  /* A relay that knows no AUTH says 530 if it wants one after all.  */
  if (!s->caps.mechanisms[0] && !server->mechanisms)
    return SMN_OK;
  if (smn_sasl_choose(s->caps.mechanisms, server->mechanisms, order,
                      sizeof order) == 0)
    return smn_fail(s->err, SMN_UNSUPPORTED,
                    "no common mechanism: the server offers %s, wanted is %s",
                    s->caps.mechanisms[0] ? s->caps.mechanisms : "none",
                    server->mechanisms ? server->mechanisms
                                       : "any that is known here");
  if (!may_show_secrets(s))
    return smn_fail(s->err, SMN_CLEARTEXT,
                    "the connection is not encrypted, nothing secret was sent");
  add_password_needles(s);
  return auth_in_order(s, order);
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
  s->conn = NULL;
  s->listening = s->dirty = false;
  s->mails = 0;
}

static enum smn_kind connect_for(struct smn_session *s,
                                 const struct smn_task *task) {
  end_connection(s);
  smn_dialogue_focus(s, task);
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

/* Forget a mail that was begun; its task is over already.  */
static bool reset(struct smn_session *s, const struct smn_task *task) {
  if (!s->dirty)
    return true;
  s->dirty = false;
  smn_dialogue_focus(s, task);
  return smn_dialogue_command(s, "RSET", NULL, NULL) == SMN_OK &&
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

/* Say what came of TASK, and forget it.  */
static void settle(struct smn_session *s, const struct smn_task *task,
                   const struct smn_supply *supply, enum smn_kind kind) {
  struct smn_result *result = task->result;
  bool again =
      kind != SMN_OK && supply->back && deserves_another(s, task, kind);
  if (kind == SMN_OK)
    result->error.kind = SMN_OK;
  snprintf(result->mechanism, sizeof result->mechanism, "%s", s->mechanism);
  snprintf(result->offered, sizeof result->offered, "%s", s->caps.mechanisms);
  result->tls = s->tls;
  smn_dialogue_focus(s, NULL);
  if (again)
    supply->back(supply->context, task, s->mails <= 1);
  else
    supply->done(supply->context, task);
}

/* The next job whose message can be read; the others are told so.  */
static struct smn_transaction *prepare(const struct smn_task *task,
                                       const struct smn_supply *supply) {
  struct smn_transaction *t = NULL;
  while (task && smn_transaction_new(&t, task) != SMN_OK) {
    supply->done(supply->context, task);
    task = supply->next ? supply->next(supply->context) : NULL;
  }
  return t;
}

static struct smn_transaction *fetch(const struct smn_supply *supply) {
  return supply->next ? prepare(supply->next(supply->context), supply) : NULL;
}

/* Deliver T.  Where the server lets commands be sent ahead, *NEXT is begun.  */
static enum smn_kind deliver(struct smn_session *s, struct smn_transaction *t,
                             const struct smn_supply *supply,
                             struct smn_transaction **next) {
  const struct smn_task *task = smn_transaction_task(t);
  smn_dialogue_focus(s, task);
  s->mails++;
  enum smn_kind kind = smn_transaction_envelope(s, t);
  if (kind == SMN_OK && supply->begin &&
      !supply->begin(supply->context, task)) {
    s->listening = false; /* it waits for content that does not come */
    kind = smn_fail(s->err, SMN_CANCELLED, "cancelled");
  }
  if (kind == SMN_OK)
    kind = smn_transaction_content(s, t);
  if (kind != SMN_OK)
    return kind;
  if (s->caps.pipelining && !s->plain_dialogue)
    *next = fetch(supply);
  return smn_transaction_end(s, t, *next);
}

/* The server cannot be used, for T and for all that SUPPLY has: to try each
   again would cost a timeout each, or lock the account of the user.  */
static void give_up(struct smn_session *s, struct smn_transaction *t,
                    const struct smn_supply *supply, enum smn_kind kind) {
  const struct smn_error err = *s->err;
  while (t) {
    const struct smn_task *task = smn_transaction_task(t);
    task->result->error = err;
    settle(s, task, supply, kind);
    smn_transaction_free(t);
    t = kind == SMN_CANCELLED ? NULL : fetch(supply);
  }
}

static void serve_mails(struct smn_session *s, struct smn_transaction *t,
                        const struct smn_supply *supply) {
  while (t) {
    const struct smn_task *task = smn_transaction_task(t);
    struct smn_transaction *next = NULL;
    enum smn_kind kind = s->conn ? SMN_OK : connect_for(s, task);
    if (kind != SMN_OK) {
      quit(s);
      give_up(s, t, supply, kind);
      end_connection(s);
      return;
    }
    kind = deliver(s, t, supply, &next);
    bool usable = only_this_mail(s, kind);
    if (!usable)
      quit(s);
    settle(s, task, supply, kind);
    smn_transaction_free(t);
    t = next ? next : fetch(supply);
    /* RSET is for the next mail; nobody needs it before QUIT.  */
    if (usable && t)
      usable = reset(s, smn_transaction_task(t));
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
    serve_mails(s, prepare(first, supply), supply);
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
  smn_buf_init(&s->flight, FLIGHT_MAX);
  if (smn_buf_init_secret(&s->command, SMN_COMMAND_MAX) &&
      smn_buf_init_secret(&s->response, SMN_SASL_RESPONSE_MAX) &&
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
  smn_conn_close(s->conn);
  smn_buf_free(&s->needles);
  smn_buf_free(&s->response);
  smn_buf_free(&s->command);
  smn_buf_free(&s->flight);
  smn_reply_free(&s->reply);
  free(s);
}

/* One job alone */

static void keep(void *context, const struct smn_task *task) {
  (void)context;
  (void)task;
}

static void note_back(void *context, const struct smn_task *task,
                      bool plainly) {
  (void)task;
  *(int *)context = plainly ? 2 : 1;
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
