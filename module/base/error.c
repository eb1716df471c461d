/* SPDX-License-Identifier: GPL-3.0-or-later */
/* error.c - kinds and stages of failure.  */
#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const char *const kind_names[] = {
    [SMN_OK] = "ok",
    [SMN_SYSTEM] = "system",
    [SMN_USAGE] = "usage",
    [SMN_FILE] = "file",
    [SMN_RESOLVE] = "resolve",
    [SMN_NETWORK] = "network",
    [SMN_TIMEOUT] = "timeout",
    [SMN_CANCELLED] = "cancelled",
    [SMN_PROTOCOL] = "protocol",
    [SMN_TLS] = "tls",
    [SMN_CERTIFICATE] = "certificate",
    [SMN_UNSUPPORTED] = "unsupported",
    [SMN_TOO_LARGE] = "too-large",
    [SMN_CLEARTEXT] = "cleartext",
    [SMN_AUTH] = "auth",
    [SMN_REPLY] = "reply",
};

static const char *const stage_names[] = {
    [SMN_STAGE_QUEUED] = "queued",
    [SMN_STAGE_RESOLVE] = "resolve",
    [SMN_STAGE_CONNECT] = "connect",
    [SMN_STAGE_GREETING] = "greeting",
    [SMN_STAGE_EHLO] = "ehlo",
    [SMN_STAGE_STARTTLS] = "starttls",
    [SMN_STAGE_HANDSHAKE] = "handshake",
    [SMN_STAGE_AUTH] = "auth",
    [SMN_STAGE_MAIL] = "mail",
    [SMN_STAGE_RCPT] = "rcpt",
    [SMN_STAGE_DATA] = "data",
    [SMN_STAGE_CONTENT] = "content",
    [SMN_STAGE_END_OF_DATA] = "end-of-data",
    [SMN_STAGE_QUIT] = "quit",
};

const char *smn_kind_name(enum smn_kind kind) { return kind_names[kind]; }

const char *smn_stage_name(enum smn_stage stage) { return stage_names[stage]; }

static void set(struct smn_error *err, enum smn_kind kind, const char *format,
                va_list args) {
  err->kind = kind;
  err->code = 0;
  err->enhanced[0] = '\0';
  vsnprintf(err->text, sizeof err->text, format, args);
}

enum smn_kind smn_fail(struct smn_error *err, enum smn_kind kind,
                       const char *format, ...) {
  va_list args;
  va_start(args, format);
  set(err, kind, format, args);
  va_end(args);
  return kind;
}

enum smn_kind smn_fail_errno(struct smn_error *err, enum smn_kind kind,
                             int errnum, const char *format, ...) {
  va_list args;
  va_start(args, format);
  set(err, kind, format, args);
  va_end(args);
  size_t len = strlen(err->text);
  char words[256] = "";
  if (strerror_r(errnum, words, sizeof words) != 0)
    snprintf(words, sizeof words, "error %d", errnum);
  snprintf(err->text + len, sizeof err->text - len, ": %s", words);
  return kind;
}

/* One octet as it is shown; returns its length, at most 4.  */
static size_t quote_octet(char shown[5], unsigned char c) {
  static const char hex[] = "0123456789abcdef";
  shown[0] = '\\';
  shown[2] = '\0';
  if (c == '\n')
    shown[1] = 'n';
  else if (c == '\t')
    shown[1] = 't';
  else if (c == '\\')
    shown[1] = '\\';
  else if (c < 0x20 || c == 0x7f) {
    shown[1] = 'x';
    shown[2] = hex[c >> 4];
    shown[3] = hex[c & 15];
    return 4;
  } else {
    shown[0] = (char)c;
    return 1;
  }
  return 2;
}

/* Where to cut TEXT, of which AT octets may stay and NEXT follows these: not
   within a character of UTF-8.  */
static size_t boundary(const char *text, size_t at, unsigned char next) {
  for (size_t back = 0; back < 4 && back <= at; back++) {
    if ((next & 0xc0) != 0x80)
      return at - back;
    if (back < at)
      next = (unsigned char)text[at - back - 1];
  }
  return at; /* it is not UTF-8 */
}

char *smn_quote(char *out, size_t size, const char *bytes, size_t len) {
  static const char cut[] = "...";
  size_t to = 0, safe = 0; /* safe: where the mark of a cut still fits */
  for (size_t from = 0; from < len; from++) {
    char shown[5];
    size_t n = quote_octet(shown, (unsigned char)bytes[from]);
    if (to + n >= size) {
      to = boundary(out, safe,
                    (unsigned char)(safe < to ? out[safe] : bytes[from]));
      for (size_t i = 0; i + 1 < sizeof cut && to + 1 < size; i++)
        out[to++] = cut[i];
      break;
    }
    memcpy(out + to, shown, n);
    to += n;
    if (to + sizeof cut <= size)
      safe = to;
  }
  out[to] = '\0';
  return out;
}
