/* SPDX-License-Identifier: GPL-3.0-or-later */
/* parameters.c - MAIL and RCPT, with what a message asks for.  */
#include "smtp/parameters.h"
#include "net/address.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define XTEXT_MAX (3 * 1000 + 1) /* of an address, each octet as "+XX" */

static bool is_ascii(const char *text) {
  while (*text && (unsigned char)*text < 128)
    text++;
  return !*text;
}

static bool needs_utf8(const struct smn_job *job) {
  bool needs = job->utf8 || !is_ascii(job->sender);
  for (char **at = job->recipients; *at && !needs; at++)
    needs = !is_ascii(*at);
  return needs;
}

/* Write ADDRESS into OUT as it goes to a server, which may not know SMTPUTF8:
   then its domain has an A-label form, while a local part has none.  */
static enum smn_kind write_address(const struct smn_session *s,
                                   const struct smn_task *task,
                                   const char *address, char *out,
                                   size_t size) {
  const char *at = strrchr(address, '@');
  int local = at ? (int)(at + 1 - address) : (int)strlen(address);
  char domain[256] = "", quoted[512];
  if (s->caps.smtputf8 || is_ascii(address)) {
    snprintf(out, size, "%s", address);
    return SMN_OK;
  }
  snprintf(out, size, "%.*s", local, address);
  if (is_ascii(out) && at && smn_address_idna(at + 1, domain, sizeof domain)) {
    snprintf(out, size, "%.*s%s", local, address, domain);
    return SMN_OK;
  }
  smn_quote(quoted, sizeof quoted, address, strlen(address));
  return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                  "the server does not take addresses that are not ASCII "
                  "(SMTPUTF8), such as %s",
                  quoted);
}

/* RFC 3461 4: what is no printable ASCII, "+" and "=" as "+XX".  */
static void write_xtext(const char *text, char out[XTEXT_MAX]) {
  size_t to = 0;
  for (; *text && to + 4 < XTEXT_MAX; text++) {
    unsigned char c = (unsigned char)*text;
    if (c > ' ' && c < 127 && c != '+' && c != '=')
      out[to++] = (char)c;
    else {
      snprintf(out + to, 4, "+%02X", c);
      to += 3;
    }
  }
  out[to] = '\0';
}

/* Append to LINE; the caller has seen to it that there is room.  */
static void append(char *line, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void append(char *line, size_t size, const char *format, ...) {
  size_t len = strlen(line);
  va_list args;
  va_start(args, format);
  vsnprintf(line + len, size - len, format, args);
  va_end(args);
}

/* What is worth a word although it is no failure.  */
static void note(const struct smn_task *task, const char *text) {
  char *notes = task->result->notes;
  size_t noted = strlen(notes);
  if (!strstr(notes, text))
    snprintf(notes + noted, sizeof task->result->notes - noted, "%s%s",
             noted ? "; " : "", text);
}

/* RFC 6152, and RFC 3030 3 for what must not be converted.  */
static enum smn_kind add_body(const struct smn_session *s,
                              const struct smn_task *task,
                              const struct smn_content *content, char *line,
                              size_t size) {
  const struct smn_capabilities *caps = &s->caps;
  bool able = content->raw
                  ? caps->binarymime && caps->chunking && task->job->chunking
                  : !content->eight_bit || caps->eightbitmime;
  if (!able) {
    task->result->eight_bit_unsupported = true;
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    content->raw ? "the message is binary, and cannot go as "
                                   "it is (BINARYMIME, CHUNKING)"
                                 : "the message has 8-bit octets, and the "
                                   "server does not take them (8BITMIME)");
  }
  if (content->raw)
    append(line, size, " BODY=BINARYMIME");
  else if (content->eight_bit)
    append(line, size, " BODY=8BITMIME");
  if (content->long_line)
    note(task, "a line of the message has more than 998 bytes, and a server "
               "may break it");
  return SMN_OK;
}

static bool wants_report(const struct smn_wishes *wishes) {
  return wishes->notify || wishes->ret || wishes->envid;
}

/* What may be left out without harm is: RFC 3461 5.2.2 has the next server
   report failures as it always does.  */
static void add_report(const struct smn_session *s, const struct smn_task *task,
                       const struct smn_wishes *wishes, char *line,
                       size_t size) {
  char envid[XTEXT_MAX];
  if (!wants_report(wishes))
    return;
  if (!s->caps.dsn) {
    note(task, "the server makes no delivery reports on demand (DSN)");
    return;
  }
  if (wishes->ret)
    append(line, size, " RET=%s", wishes->ret);
  if (wishes->envid) {
    write_xtext(wishes->envid, envid);
    append(line, size, " ENVID=%s", envid);
  }
}

static enum smn_kind add_require_tls(const struct smn_session *s,
                                     const struct smn_task *task,
                                     const struct smn_wishes *wishes,
                                     char *line, size_t size) {
  if (!wishes->require_tls)
    return SMN_OK;
  if (!smn_conn_encrypted(s->conn))
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    "the message requires TLS all the way (REQUIRETLS), and "
                    "this connection is not encrypted");
  if (!s->caps.requiretls)
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    "the message requires TLS all the way (REQUIRETLS), and "
                    "the server does not promise that");
  append(line, size, " REQUIRETLS");
  return SMN_OK;
}

static enum smn_kind add_deliver_by(const struct smn_session *s,
                                    const struct smn_task *task,
                                    const struct smn_wishes *wishes, char *line,
                                    size_t size) {
  if (!wishes->deliver_by)
    return SMN_OK;
  if (!s->caps.deliverby)
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    "the message must be delivered within a time (DELIVERBY), "
                    "and the server does not offer that");
  long long seconds = strtoll(wishes->deliver_by, NULL, 10);
  if (strstr(wishes->deliver_by, ";R") &&
      seconds < (long long)s->caps.deliverby_min)
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    "the message must be delivered within %lld seconds or come "
                    "back, and the server takes no less than %" PRIu64,
                    seconds, s->caps.deliverby_min);
  append(line, size, " BY=%s", wishes->deliver_by);
  return SMN_OK;
}

/* RFC 4865 4: an interval does not depend on the clock of the server.  */
static enum smn_kind add_release(const struct smn_session *s,
                                 const struct smn_task *task,
                                 const struct smn_wishes *wishes, char *line,
                                 size_t size) {
  int64_t left = wishes->release - (int64_t)time(NULL);
  if (wishes->release == 0 || left <= 0)
    return SMN_OK;
  if (!s->caps.futurerelease || (uint64_t)left > s->caps.futurerelease_max) {
    task->result->release_unsupported = true;
    return smn_fail(&task->result->error, SMN_UNSUPPORTED,
                    "the server does not keep a message for %" PRId64
                    " seconds (FUTURERELEASE)",
                    left);
  }
  append(line, size, " HOLDFOR=%" PRId64, left);
  return SMN_OK;
}

enum smn_kind smn_parameters_mail(const struct smn_session *s,
                                  const struct smn_task *task,
                                  const struct smn_content *content, char *line,
                                  size_t size) {
  const struct smn_job *job = task->job;
  char sender[2048];
  enum smn_kind kind =
      write_address(s, task, job->sender, sender, sizeof sender);
  if (kind != SMN_OK)
    return kind;
  snprintf(line, size, "MAIL FROM:<%s>", sender);
  if (s->caps.size) {
    if (s->caps.size_limit && content->octets > s->caps.size_limit)
      return smn_fail(&task->result->error, SMN_TOO_LARGE,
                      "the message has %" PRIu64
                      " octets, the server takes %" PRIu64,
                      content->octets, s->caps.size_limit);
    append(line, size, " SIZE=%" PRIu64, content->octets);
  }
  kind = add_body(s, task, content, line, size);
  if (kind != SMN_OK)
    return kind;
  if (s->caps.smtputf8 && needs_utf8(job))
    append(line, size, " SMTPUTF8");
  add_report(s, task, &job->wishes, line, size);
  kind = add_require_tls(s, task, &job->wishes, line, size);
  if (kind == SMN_OK)
    kind = add_deliver_by(s, task, &job->wishes, line, size);
  return kind == SMN_OK ? add_release(s, task, &job->wishes, line, size) : kind;
}

/* With a report goes the address as the user gave it, since aliases on the way
   change it (RFC 3461 4.2); one that is not ASCII has another form there, RFC
   6533 3.  */
enum smn_kind smn_parameters_rcpt(const struct smn_session *s,
                                  const struct smn_task *task,
                                  const char *address, char *line,
                                  size_t size) {
  const struct smn_wishes *wishes = &task->job->wishes;
  char recipient[2048], original[XTEXT_MAX];
  enum smn_kind kind =
      write_address(s, task, address, recipient, sizeof recipient);
  snprintf(line, size, "RCPT TO:<%s>", recipient);
  if (!s->caps.dsn || !wants_report(wishes))
    return kind;
  if (wishes->notify)
    append(line, size, " NOTIFY=%s", wishes->notify);
  if (is_ascii(address)) {
    write_xtext(address, original);
    append(line, size, " ORCPT=rfc822;%s", original);
  }
  return kind;
}
