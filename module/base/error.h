/* SPDX-License-Identifier: GPL-3.0-or-later */
/* error.h - kinds and stages of failure.
   Protocol code reports (kind, stage, code, text); what that means for a
   message is decided in Lisp only.  No memory is owned here: a struct smn_error
   belongs to its caller and is used by one thread at a time.  */
#ifndef SMN_ERROR_H
#define SMN_ERROR_H

#include <stdarg.h>
#include <stddef.h>

enum smn_kind {
  SMN_OK,
  SMN_SYSTEM,      /* no memory, no thread, no descriptor */
  SMN_USAGE,       /* the caller's own argument cannot be used */
  SMN_FILE,        /* the message or a key cannot be read */
  SMN_RESOLVE,     /* the name has no address */
  SMN_NETWORK,     /* refused, unreachable, reset, closed too early */
  SMN_TIMEOUT,     /* a wait passed its deadline */
  SMN_CANCELLED,   /* the user's wish */
  SMN_PROTOCOL,    /* the server does not speak RFC 5321 */
  SMN_TLS,         /* the handshake or a record failed */
  SMN_CERTIFICATE, /* the server's certificate does not verify */
  SMN_UNSUPPORTED, /* the server does not offer what is required */
  SMN_TOO_LARGE,   /* the message exceeds the SIZE that was announced */
  SMN_CLEARTEXT,   /* a secret would travel unencrypted */
  SMN_AUTH,        /* the credentials or the exchange failed */
  SMN_REPLY        /* a well-formed refusal: see code and text */
};

/* Where a session stood; it only reports, it never steers.  */
enum smn_stage {
  SMN_STAGE_QUEUED,
  SMN_STAGE_RESOLVE,
  SMN_STAGE_CONNECT,
  SMN_STAGE_GREETING,
  SMN_STAGE_EHLO,
  SMN_STAGE_STARTTLS,
  SMN_STAGE_HANDSHAKE,
  SMN_STAGE_AUTH,
  SMN_STAGE_MAIL,
  SMN_STAGE_RCPT,
  SMN_STAGE_DATA,
  SMN_STAGE_CONTENT,
  SMN_STAGE_END_OF_DATA,
  SMN_STAGE_QUIT
};

struct smn_error {
  enum smn_kind kind;
  enum smn_stage
      stage;         /* set by the code that begins a stage, not by smn_fail */
  int code;          /* reply code, 0 without a reply */
  char enhanced[16]; /* enhanced status code (RFC 3463), or "" */
  char text[2048];   /* one line; octets of the server are escaped */
};

/* Set kind and text of *ERR (never its stage), clear its code, and return
   KIND.  FORMAT is ours; text of the server is passed through smn_quote
   first.  Too long a text is cut.  */
enum smn_kind smn_fail(struct smn_error *err, enum smn_kind kind,
                       const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same, with ": " and the system's words for ERRNUM after it.  */
enum smn_kind smn_fail_errno(struct smn_error *err, enum smn_kind kind,
                             int errnum, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Write the LEN untrusted BYTES into OUT (SIZE octets, always ended by NUL):
   control characters and backslash become \n, \t, \\ or \xNN, octets from
   0x80 stay.  What does not fit is cut, between two characters, and marked by
   "...".  Returns OUT.  */
char *smn_quote(char *out, size_t size, const char *bytes, size_t len);

/* Lower-case names, the very symbols that Lisp sees ("too-large", "rcpt").  */
const char *smn_kind_name(enum smn_kind kind);
const char *smn_stage_name(enum smn_stage stage);

#endif
