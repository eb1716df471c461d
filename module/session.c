/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.c - the dialogue with one server, from greeting to QUIT.
   One thread owns the struct smn_session; job and observer are borrowed.
   Replies are untrusted: they reach the observer and the result only with the
   secrets of this session taken out, because a server may echo them.  */
#include "session.h"
#include "auth.h"
#include "conn.h"
#include "redact.h"
#include "reply.h"
#include "trust.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_MAX 16384      /* longer than any line that we may send */
#define BLOCK 65536            /* octets of the file that are read at once */
#define AFTER_DATA 10          /* times the timeout behind the end of data */
#define PROGRESS_OCTETS 262144 /* between two reports */

struct smn_session {
  const struct smn_job *job;
  const struct smn_observer *observer;
  struct smn_result *result;
  struct smn_error *err; /* that of the result */
  struct smn_trust *trust;
  struct smn_conn *conn;
  struct smn_reply reply;
  struct smn_capabilities caps;
  struct smn_buf command; /* secret: the line that is being sent */
  struct smn_buf needles; /* secret: what is never to be shown */
};

/* Copy TEXT into OUT (the same place, or LEN octets) without any secret.  */
static size_t redact(const struct smn_session *s, const char *text, size_t len,
                     char *out) {
  return smn_redact(&s->needles, text, len, out);
}

/* Lines out and in */

static void trace(const struct smn_session *s, bool from_server,
                  const char *text, size_t len) {
  if (s->job->server.trace && s->observer->trace)
    s->observer->trace(s->observer->context, from_server, text, len);
}

/* A challenge may hold a secret at any offset of its base64, and tells nobody
   anything that reads a trace.  */
static void trace_reply(const struct smn_session *s, const char *line,
                        size_t len) {
  static const char challenge[] = "334 " SMN_OMITTED;
  char shown[SMN_LINE_MAX];
  if (len > 4 && memcmp(line, "334", 3) == 0)
    trace(s, true, challenge, sizeof challenge - 1);
  else
    trace(s, true, shown, redact(s, line, len, shown));
}

/* The parser sees the raw line, since a challenge may look like anything; what
   others get to see is redacted.  */
static enum smn_kind read_reply_within(struct smn_session *s, int timeout_ms) {
  enum smn_kind kind = SMN_OK;
  smn_reply_clear(&s->reply);
  smn_conn_deadline(s->conn, timeout_ms);
  while (kind == SMN_OK && !s->reply.complete) {
    const char *line;
    size_t len;
    kind = smn_conn_read_line(s->conn, &line, &len, s->err);
    if (kind == SMN_OK) {
      trace_reply(s, line, len);
      kind = smn_reply_line(&s->reply, line, len, s->err);
    }
  }
  if (s->reply.code != 334) {
    char *text = s->reply.text.data;
    s->reply.text.len = redact(s, text, s->reply.text.len, text);
  }
  if (kind == SMN_PROTOCOL) {
    char *text = s->err->text;
    text[redact(s, text, strlen(text), text)] = '\0';
  }
  return kind;
}

static enum smn_kind read_reply(struct smn_session *s) {
  return read_reply_within(s, s->job->server.timeout_ms);
}

static enum smn_kind unexpected(struct smn_session *s) {
  return smn_reply_unexpected(&s->reply, s->err);
}

/* WANTED is a code, or the first digit of a class of codes.  */
static enum smn_kind expect(struct smn_session *s, int wanted) {
  int code = s->reply.code;
  if (code == wanted || code / 100 == wanted)
    return SMN_OK;
  return unexpected(s);
}

/* Send what stands in s->command; the trace shows SHOWN instead, if given.  */
static enum smn_kind send_command(struct smn_session *s, const char *shown) {
  size_t len = s->command.len;
  if (len && (memchr(s->command.data, '\r', len) ||
              memchr(s->command.data, '\n', len) ||
              memchr(s->command.data, '\0', len)))
    return smn_fail(s->err, SMN_USAGE, "a command must not hold CR, LF or NUL");
  trace(s, false, shown ? shown : s->command.data, shown ? strlen(shown) : len);
  if (!smn_buf_add_string(&s->command, "\r\n"))
    return smn_fail(s->err, SMN_USAGE, "command longer than %d octets",
                    COMMAND_MAX);
  enum smn_kind kind =
      smn_conn_write(s->conn, s->command.data, s->command.len, s->err);
  smn_buf_clear(&s->command);
  return kind;
}

/* Send the concatenation of A to D (NULL: nothing) and read the reply.  */
static enum smn_kind command(struct smn_session *s, const char *a,
                             const char *b, const char *c, const char *d) {
  const char *parts[] = {a, b, c, d};
  smn_buf_clear(&s->command);
  for (size_t i = 0; i < 4; i++)
    if (parts[i] && !smn_buf_add_string(&s->command, parts[i]))
      return smn_fail(s->err, SMN_USAGE, "command longer than %d octets",
                      COMMAND_MAX);
  enum smn_kind kind = send_command(s, NULL);
  return kind == SMN_OK ? read_reply(s) : kind;
}

static char *quoted_copy(const char *bytes, size_t len) {
  size_t size = len * 4 + 1;
  char *copy = malloc(size);
  return copy ? smn_quote(copy, size, bytes, len) : NULL;
}

/* "CODE TEXT" of the reply at hand, quoted; NULL without memory.  */
static char *reply_copy(const struct smn_session *s) {
  size_t size = s->reply.text.len * 4 + 8;
  char *copy = malloc(size);
  if (!copy)
    return NULL;
  int n = snprintf(copy, size, "%d ", s->reply.code);
  smn_quote(copy + n, size - (size_t)n, s->reply.text.data, s->reply.text.len);
  return copy;
}

/* Connect, greet, TLS */

static void tls_options(const struct smn_session *s,
                        struct smn_tls_options *options) {
  const struct smn_server *server = &s->job->server;
  *options = (struct smn_tls_options){
      .host = server->host,
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
  if (s->job->server.stream == SMN_STREAM_PLAIN)
    return SMN_OK;
  tls_options(s, &options);
  return smn_trust_load(&s->trust, &options, &s->result->passphrase_wanted,
                        s->err);
}

static enum smn_kind start_tls(struct smn_session *s) {
  struct smn_tls_options options;
  tls_options(s, &options);
  s->err->stage = SMN_STAGE_HANDSHAKE;
  enum smn_kind kind = smn_conn_start_tls(s->conn, &options, s->err);
  if (smn_conn_tls_info(s->conn))
    s->result->tls = *smn_conn_tls_info(s->conn);
  return kind;
}

static enum smn_kind greeting(struct smn_session *s) {
  s->err->stage = SMN_STAGE_GREETING;
  enum smn_kind kind = read_reply(s);
  if (kind == SMN_OK)
    kind = expect(s, 220);
  if (kind == SMN_OK && s->job->probe)
    s->result->greeting = quoted_copy(s->reply.text.data, s->reply.text.len);
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
  const char *name = s->job->server.helo;
  memset(&s->caps, 0, sizeof s->caps);
  s->err->stage = SMN_STAGE_EHLO;
  enum smn_kind kind = command(s, "EHLO ", name, NULL, NULL);
  if (kind != SMN_OK)
    return kind;
  if (s->reply.code == 250) {
    smn_capabilities_parse(&s->caps, &s->reply);
    if (s->job->probe) {
      free(s->result->capabilities);
      s->result->capabilities = capability_lines(s);
    }
    return SMN_OK;
  }
  if (s->reply.code / 100 != 5 || s->reply.code == 554)
    return unexpected(s);
  kind = command(s, "HELO ", name, NULL, NULL);
  return kind == SMN_OK ? expect(s, 250) : kind;
}

/* A name that is gone was forged before TLS, or the server thinks less of the
   channel than it did: nothing follows from it, but it is worth a word.  */
static void note_lost_mechanisms(struct smn_session *s, const char *before) {
  struct smn_result *result = s->result;
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
    snprintf(result->notes, sizeof result->notes,
             "after STARTTLS the server no longer offers %s, but %.200s", lost,
             now[0] ? now : "no mechanism");
}

static enum smn_kind secure(struct smn_session *s) {
  enum smn_stream stream = s->job->server.stream;
  if (stream == SMN_STREAM_PLAIN || stream == SMN_STREAM_TLS)
    return SMN_OK;
  s->err->stage = SMN_STAGE_STARTTLS;
  if (!s->caps.starttls) {
    if (stream == SMN_STREAM_AUTO)
      return SMN_OK;
    return smn_fail(s->err, SMN_UNSUPPORTED,
                    "STARTTLS is required, and the server does not offer it");
  }
  enum smn_kind kind = command(s, "STARTTLS", NULL, NULL, NULL);
  if (kind == SMN_OK)
    kind = expect(s, 220);
  if (kind != SMN_OK)
    return kind;
  const struct smn_capabilities before = s->caps;
  kind = start_tls(s);
  if (kind == SMN_OK)
    kind = hello(s);
  if (kind == SMN_OK)
    note_lost_mechanisms(s, before.mechanisms);
  return kind;
}

static enum smn_kind open_session(struct smn_session *s) {
  const struct smn_server *server = &s->job->server;
  enum smn_kind kind = load_trust(s);
  if (kind == SMN_OK)
    kind = smn_conn_open(&s->conn, server->host, server->port,
                         server->timeout_ms, s->observer->cancel_fd, s->err);
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
  switch (s->job->server.cleartext) {
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
  enum smn_kind kind = send_command(s, shown);
  return kind == SMN_OK ? read_reply(s) : kind;
}

static enum smn_kind authenticate(struct smn_session *s) {
  struct smn_tls *tls = smn_conn_tls(s->conn);
  struct smn_binding binding;
  if (!s->job->server.authenticate)
    return SMN_OK;
  s->err->stage = SMN_STAGE_AUTH;
  struct smn_auth auth = {
      .server = &s->job->server,
      .offered = s->caps.mechanisms,
      .cancel_fd = s->observer->cancel_fd,
      .encrypted = smn_conn_encrypted(s->conn),
      .may_show_secrets = may_show_secrets(s),
      .certificate = s->job->server.cert_file || s->job->server.key_file,
      .binding = tls && smn_tls_binding(tls, &binding) ? &binding : NULL,
      .reply = &s->reply,
      .command = &s->command,
      .needles = &s->needles,
      .result = s->result,
      .exchange = exchange,
      .session = s,
  };
  return smn_auth_run(&auth);
}

/* MAIL, RCPT */

/* Read at most BLOCK octets of the file into INTO; *LEN 0 at its end.  */
static enum smn_kind read_block(struct smn_session *s, int fd, char *into,
                                size_t *len) {
  ssize_t n;
  do
    n = read(fd, into, BLOCK);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return smn_fail_errno(s->err, SMN_FILE, errno, "cannot read %s",
                          s->job->file);
  *len = (size_t)n;
  return SMN_OK;
}

/* Count the octets of the file as SIZE announces them.  */
static enum smn_kind measure(struct smn_session *s, int fd) {
  struct smn_wire wire;
  size_t len = 0;
  char *block = malloc(BLOCK);
  if (!block)
    return smn_fail(s->err, SMN_SYSTEM, "no memory");
  smn_wire_init(&wire, true);
  enum smn_kind kind = read_block(s, fd, block, &len);
  while (kind == SMN_OK && len > 0) {
    smn_wire_count(&wire, block, len);
    kind = read_block(s, fd, block, &len);
  }
  smn_wire_count_end(&wire);
  s->result->octets = wire.octets;
  if (kind == SMN_OK && lseek(fd, 0, SEEK_SET) != 0)
    kind =
        smn_fail_errno(s->err, SMN_FILE, errno, "cannot read %s", s->job->file);
  free(block);
  return kind;
}

static enum smn_kind mail_from(struct smn_session *s) {
  char size[32] = "";
  s->err->stage = SMN_STAGE_MAIL;
  if (s->caps.size) {
    if (s->caps.size_limit && s->result->octets > s->caps.size_limit)
      return smn_fail(s->err, SMN_TOO_LARGE,
                      "the message has %" PRIu64
                      " octets, the server takes %" PRIu64,
                      s->result->octets, s->caps.size_limit);
    snprintf(size, sizeof size, " SIZE=%" PRIu64, s->result->octets);
  }
  enum smn_kind kind = command(s, "MAIL FROM:<", s->job->sender, ">", size);
  return kind == SMN_OK ? expect(s, 2) : kind;
}

/* Every refused recipient with its reply, permanent ones deciding.  */
static enum smn_kind refused_recipients(struct smn_session *s, size_t refused) {
  const struct smn_result *result = s->result;
  const struct smn_recipient_result *decisive = NULL;
  char *text = s->err->text;
  size_t size = sizeof s->err->text;
  int n = snprintf(text, size, "%zu of %zu recipients refused", refused,
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
  if (decisive) {
    s->err->code = decisive->code;
    memcpy(s->err->enhanced, decisive->enhanced, sizeof s->err->enhanced);
  }
  return s->err->kind = SMN_REPLY;
}

static enum smn_kind rcpt_to(struct smn_session *s) {
  struct smn_result *result = s->result;
  size_t refused = 0;
  s->err->stage = SMN_STAGE_RCPT;
  for (size_t i = 0; i < result->recipient_count; i++) {
    struct smn_recipient_result *r = &result->recipients[i];
    enum smn_kind kind = command(s, "RCPT TO:<", r->address, ">", NULL);
    if (kind != SMN_OK)
      return kind;
    r->code = s->reply.code;
    r->accepted = r->code / 100 == 2;
    memcpy(r->enhanced, s->reply.enhanced, sizeof r->enhanced);
    r->text = quoted_copy(s->reply.text.data, s->reply.text.len);
    if (r->code < 400 && !r->accepted)
      return unexpected(s);
    refused += !r->accepted;
    if (r->code == 421) /* the server has closed: it hears no further one */
      break;
  }
  return refused ? refused_recipients(s, refused) : SMN_OK;
}

/* DATA */

/* The server speaks while it should listen: a refusal, most likely.  */
static enum smn_kind early_reply(struct smn_session *s) {
  enum smn_kind kind = read_reply(s);
  if (kind != SMN_OK)
    return kind;
  return unexpected(s);
}

/* A write failed; a server that closed may have said why before.  */
static enum smn_kind broken_write(struct smn_session *s, enum smn_kind kind) {
  struct smn_error kept = *s->err;
  if (kind != SMN_NETWORK)
    return kind;
  if (smn_conn_has_input(s->conn) && read_reply(s) == SMN_OK &&
      s->reply.code >= 400)
    return smn_reply_fail(&s->reply, s->err);
  *s->err = kept;
  return kind;
}

struct content {
  int fd;
  uint64_t total, done, reported; /* octets of the file */
  struct smn_wire wire;
  size_t len; /* octets in out that are still to be written */
  char in[BLOCK];
  char out[2 * BLOCK + 8]; /* a line that is one dot and LF doubles */
};

static void report(const struct smn_session *s, struct content *c) {
  if (!s->observer->progress || c->done - c->reported < PROGRESS_OCTETS)
    return;
  c->reported = c->done;
  s->observer->progress(s->observer->context, c->done, c->total);
}

/* Convert one block of the file into c->out; *END at the end of the file.  */
static enum smn_kind fill(struct smn_session *s, struct content *c, bool *end) {
  size_t len = 0, used = 0, from = 0;
  enum smn_kind kind = read_block(s, c->fd, c->in, &len);
  if (kind != SMN_OK)
    return kind;
  *end = len == 0;
  c->len = 0;
  while (from < len) {
    c->len += smn_wire_encode(&c->wire, c->in + from, len - from, &used,
                              c->out + c->len, sizeof c->out - c->len);
    from += used;
  }
  c->done += len;
  if (*end && c->done != c->total)
    return smn_fail(s->err, SMN_FILE, "%s changed while it was read",
                    s->job->file);
  return SMN_OK;
}

/* Send the file but for the end.  On any failure the end of data was not sent,
   so nothing is delivered.  */
static enum smn_kind send_content(struct smn_session *s, struct content *c) {
  bool end = false;
  s->err->stage = SMN_STAGE_CONTENT;
  enum smn_kind kind = fill(s, c, &end);
  while (kind == SMN_OK && !end) {
    if (smn_conn_has_input(s->conn))
      return early_reply(s);
    kind = smn_conn_write(s->conn, c->out, c->len, s->err);
    if (kind != SMN_OK)
      return broken_write(s, kind);
    report(s, c);
    kind = fill(s, c, &end);
  }
  return kind;
}

static enum smn_kind send_end(struct smn_session *s, struct content *c) {
  char shown[64];
  s->err->stage = SMN_STAGE_END_OF_DATA;
  c->len = smn_wire_end(&c->wire, c->out);
  s->result->octets = c->wire.octets;
  snprintf(shown, sizeof shown, "<%" PRIu64 " octets of message>",
           c->wire.octets);
  trace(s, false, shown, strlen(shown));
  trace(s, false, ".", 1);
  s->result->in_doubt = true;
  enum smn_kind kind = smn_conn_write(s->conn, c->out, c->len, s->err);
  if (kind == SMN_OK)
    kind = read_reply_within(s, s->job->server.timeout_ms * AFTER_DATA);
  if (kind != SMN_OK)
    return kind;
  if (s->reply.code / 100 == 2) {
    s->result->in_doubt = false;
    s->result->reply = reply_copy(s);
    return SMN_OK;
  }
  s->result->in_doubt = s->reply.code < 400;
  return unexpected(s);
}

static enum smn_kind data(struct smn_session *s, int fd, uint64_t total) {
  s->err->stage = SMN_STAGE_DATA;
  enum smn_kind kind = command(s, "DATA", NULL, NULL, NULL);
  if (kind == SMN_OK)
    kind = expect(s, 354);
  if (kind != SMN_OK)
    return kind;
  struct content *c = calloc(1, sizeof *c);
  if (!c)
    return smn_fail(s->err, SMN_SYSTEM, "no memory");
  c->fd = fd;
  c->total = total;
  smn_wire_init(&c->wire, true);
  kind = send_content(s, c);
  if (kind == SMN_OK)
    kind = send_end(s, c);
  smn_wipe(c, sizeof *c);
  free(c);
  return kind;
}

/* One job */

static enum smn_kind open_file(struct smn_session *s, int *fd,
                               uint64_t *total) {
  struct stat stat;
  *fd = open(s->job->file, O_RDONLY | O_CLOEXEC);
  if (*fd < 0 || fstat(*fd, &stat) != 0)
    return smn_fail_errno(s->err, SMN_FILE, errno, "cannot open %s",
                          s->job->file);
  if (!S_ISREG(stat.st_mode))
    return smn_fail(s->err, SMN_FILE, "%s is not a regular file", s->job->file);
  *total = (uint64_t)stat.st_size;
  return SMN_OK;
}

/* The file is opened and measured first: what cannot be read bothers no
   server.  */
static enum smn_kind deliver(struct smn_session *s) {
  int fd = -1;
  uint64_t total = 0;
  enum smn_kind kind = open_file(s, &fd, &total);
  if (kind == SMN_OK)
    kind = measure(s, fd);
  if (kind == SMN_OK)
    kind = open_session(s);
  if (kind == SMN_OK)
    kind = authenticate(s);
  if (kind == SMN_OK)
    kind = mail_from(s);
  if (kind == SMN_OK)
    kind = rcpt_to(s);
  if (kind == SMN_OK)
    kind = data(s, fd, total);
  if (fd >= 0)
    close(fd);
  return kind;
}

/* Leave politely where the server still listens for a command.  */
static void quit(struct smn_session *s) {
  struct smn_error ignored;
  enum smn_kind kind = s->err->kind;
  bool listens = kind == SMN_OK || kind == SMN_UNSUPPORTED ||
                 kind == SMN_TOO_LARGE || kind == SMN_CLEARTEXT ||
                 kind == SMN_AUTH ||
                 (kind == SMN_REPLY && s->err->code != 421 &&
                  s->err->stage != SMN_STAGE_CONTENT);
  if (!s->conn || !listens)
    return;
  trace(s, false, "QUIT", 4);
  (void)smn_conn_write(s->conn, "QUIT\r\n", 6, &ignored);
}

enum smn_kind smn_session_run(const struct smn_job *job,
                              const struct smn_observer *observer,
                              struct smn_result *result) {
  struct smn_session session = {
      .job = job,
      .observer = observer,
      .result = result,
      .err = &result->error,
  };
  struct smn_session *s = &session;
  enum smn_kind kind;
  smn_reply_init(&s->reply);
  if (!smn_buf_init_secret(&s->command, COMMAND_MAX) ||
      !smn_buf_init_secret(&s->needles, 8 * COMMAND_MAX))
    kind = smn_fail(s->err, SMN_SYSTEM, "no memory");
  else if ((kind = smn_job_check(job, s->err)) == SMN_OK)
    kind = job->probe ? open_session(s) : deliver(s);
  if (kind == SMN_OK)
    s->err->kind = SMN_OK;
  quit(s);
  smn_conn_close(s->conn);
  smn_trust_free(s->trust);
  smn_buf_free(&s->needles);
  smn_buf_free(&s->command);
  smn_reply_free(&s->reply);
  return kind;
}
