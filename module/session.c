/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.c - the dialogue with one server, from greeting to QUIT.
   One thread owns the struct smn_session; job and observer are borrowed.
   Replies are untrusted: they reach the observer and the result only with the
   secrets of this session taken out, because a server may echo them.  */
#include "session.h"
#include "conn.h"
#include "reply.h"
#include "sasl.h"
#include "wire.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_MAX 16384      /* longer than any line that we may send */
#define AUTH_LINE_MAX 510      /* RFC 5321 4.5.3.1.4, without CRLF */
#define AUTH_STEPS_MAX 8       /* challenges before a server is looping */
#define BLOCK 65536            /* octets of the file that are read at once */
#define AFTER_DATA 10          /* times the timeout behind the end of data */
#define NEEDLE_MIN 3           /* shorter secrets would blot out all text */
#define PROGRESS_OCTETS 262144 /* between two reports */

static const char omitted[] = "<omitted>";

struct smn_session {
  const struct smn_job *job;
  const struct smn_observer *observer;
  struct smn_result *result;
  struct smn_error *err; /* that of the result */
  struct smn_conn *conn;
  struct smn_reply reply;
  struct smn_capabilities caps;
  struct smn_buf command;  /* secret: the line that is being sent */
  struct smn_buf response; /* secret: what AUTH sends, base64 */
  struct smn_buf needles;  /* secret: NUL-terminated, never to be shown */
};

/* Secrets in text of the server */

static void add_needle(struct smn_session *s, const char *bytes, size_t len) {
  if (len < NEEDLE_MIN || memchr(bytes, '\0', len))
    return;
  if (smn_buf_add(&s->needles, bytes, len))
    s->needles.len++; /* the NUL that always follows the content */
}

static void add_password_needles(struct smn_session *s) {
  const struct smn_buf *password = &s->job->server.password;
  add_needle(s, password->data, password->len);
  gnutls_datum_t raw = {(unsigned char *)password->data,
                        (unsigned)password->len};
  gnutls_datum_t encoded = {NULL, 0};
  if (raw.size && gnutls_base64_encode2(&raw, &encoded) == 0) {
    add_needle(s, (char *)encoded.data, encoded.size);
    smn_wipe(encoded.data, encoded.size);
    gnutls_free(encoded.data);
  }
}

/* The response itself, and its last word decoded: the digest of CRAM-MD5.  */
static void add_response_needles(struct smn_session *s) {
  add_needle(s, s->response.data, s->response.len);
  gnutls_datum_t encoded = {(unsigned char *)s->response.data,
                            (unsigned)s->response.len};
  gnutls_datum_t raw = {NULL, 0};
  if (encoded.size == 0 || gnutls_base64_decode2(&encoded, &raw) != 0)
    return;
  size_t at = raw.size;
  while (at > 0 && raw.data[at - 1] != ' ')
    at--;
  if (at > 0)
    add_needle(s, (char *)raw.data + at, raw.size - at);
  smn_wipe(raw.data, raw.size);
  gnutls_free(raw.data);
}

static bool needle_at(const struct smn_session *s, const char *text, size_t len,
                      size_t *found) {
  const char *needle = s->needles.data;
  const char *end = needle + s->needles.len;
  for (; needle && needle < end; needle += strlen(needle) + 1) {
    size_t n = strlen(needle);
    if (n <= len && memcmp(text, needle, n) == 0) {
      *found = n;
      return true;
    }
  }
  return false;
}

/* Copy TEXT into OUT (at least LEN octets) without any secret.  A needle is
   cut down to what fits where "<omitted>" is longer than it.  */
static size_t redact(const struct smn_session *s, const char *text, size_t len,
                     char *out) {
  size_t from = 0, to = 0, found = 0;
  while (from < len) {
    if (s->needles.len && needle_at(s, text + from, len - from, &found)) {
      size_t n = sizeof omitted - 1 < found ? sizeof omitted - 1 : found;
      memcpy(out + to, omitted, n);
      from += found;
      to += n;
    } else
      out[to++] = text[from++];
  }
  return to;
}

/* Lines out and in */

static enum smn_kind stage(struct smn_session *s, enum smn_stage stage) {
  s->err->stage = stage;
  return SMN_OK;
}

static void trace(const struct smn_session *s, bool from_server,
                  const char *text, size_t len) {
  if (s->job->server.trace && s->observer->trace)
    s->observer->trace(s->observer->context, from_server, text, len);
}

static enum smn_kind read_reply_within(struct smn_session *s, int timeout_ms) {
  enum smn_kind kind = SMN_OK;
  char shown[SMN_LINE_MAX];
  smn_reply_clear(&s->reply);
  smn_conn_deadline(s->conn, timeout_ms);
  while (kind == SMN_OK && !s->reply.complete) {
    const char *line;
    size_t len;
    kind = smn_conn_read_line(s->conn, &line, &len, s->err);
    if (kind != SMN_OK)
      break;
    size_t shown_len = redact(s, line, len, shown);
    trace(s, true, shown, shown_len);
    kind = smn_reply_line(&s->reply, shown, shown_len, s->err);
  }
  return kind;
}

static enum smn_kind read_reply(struct smn_session *s) {
  return read_reply_within(s, s->job->server.timeout_ms);
}

/* The reply is no success: a refusal, or something out of step.  */
static enum smn_kind unexpected(struct smn_session *s) {
  if (s->reply.code >= 400)
    return smn_reply_fail(&s->reply, s->err);
  char quoted[512];
  smn_quote(quoted, sizeof quoted, s->reply.text.data, s->reply.text.len);
  int code = s->reply.code;
  smn_fail(s->err, SMN_PROTOCOL, "reply out of step: %d %s", code, quoted);
  s->err->code = code;
  return SMN_PROTOCOL;
}

/* WANTED is a code, or the first digit of a class of codes.  */
static enum smn_kind expect(struct smn_session *s, int wanted) {
  int code = s->reply.code;
  if (code == wanted || code / 100 == wanted)
    return SMN_OK;
  return unexpected(s);
}

/* Send what stands in s->command; the trace shows SHOWN instead, if given.  A
   server that says good-bye before it closes is heard.  */
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
