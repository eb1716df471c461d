/* SPDX-License-Identifier: GPL-3.0-or-later */
/* reply.h - SMTP replies and capabilities (RFC 5321 4.2, RFC 3463, RFC 2034).
   No I/O.  Every octet that comes in here is untrusted.  A struct smn_reply
   belongs to one session and is used by its thread.  */
#ifndef SMN_REPLY_H
#define SMN_REPLY_H

#include "base/buf.h"
#include "base/error.h"
#include <stdbool.h>
#include <stdint.h>

#define SMN_REPLY_MAX 65536 /* octets of one reply */
#define SMN_REPLY_LINES 100 /* lines of one reply */

struct smn_reply {
  int code;            /* 200 to 559; 0 while no line has come, or when what
                          has come contradicts itself */
  char enhanced[16];   /* of the first line, "" without one; class agrees with
                          the code */
  struct smn_buf text; /* the lines without codes, joined by '\n', raw */
  int lines;
  bool complete;
  bool broken;   /* it is a refusal that does not end as a reply does, so that
                    nothing may follow it on this connection */
  bool greeting; /* set by the reader: a reply that begins well may yet turn
                    into a refusal */
};

void smn_reply_init(struct smn_reply *reply);
void smn_reply_clear(struct smn_reply *reply); /* ready for the next reply */
void smn_reply_free(struct smn_reply *reply);

/* Take one line without its line end.  SMN_OK: look at reply->complete;
   SMN_PROTOCOL: not a reply (bad or mismatching code, bad separator, too many
   lines or octets), *err quotes the line.  When the first line is a refusal,
   one that is followed by another (the more lasting code counts) or by what is
   no reply is complete, and broken.  */
enum smn_kind smn_reply_line(struct smn_reply *reply, const char *line,
                             size_t len, struct smn_error *err);

/* The lines of the text one by one: begin with *AT 0; false at the end.  */
bool smn_reply_next_line(const struct smn_reply *reply, size_t *at,
                         const char **line, size_t *len);

/* Fill *err from a complete refusal: SMN_REPLY, its code, enhanced code and
   quoted text.  Returns SMN_REPLY.  */
enum smn_kind smn_reply_fail(const struct smn_reply *reply,
                             struct smn_error *err);

/* The same for a complete reply that is no success: a refusal, or else
   SMN_PROTOCOL, since it is out of step.  */
enum smn_kind smn_reply_unexpected(const struct smn_reply *reply,
                                   struct smn_error *err);

struct smn_capabilities {
  bool esmtp; /* EHLO was accepted */
  bool starttls, pipelining, eightbitmime, smtputf8, dsn, chunking, binarymime,
      requiretls, enhancedstatuscodes, pipeconnect, deliverby, futurerelease;
  bool size;                  /* SIZE was offered */
  uint64_t size_limit;        /* 0: no fixed limit */
  uint64_t deliverby_min;     /* seconds, 0: any */
  uint64_t futurerelease_max; /* seconds */
  uint64_t mail_max;          /* LIMITS (RFC 9422): of a session, 0: none */
  uint64_t rcpt_max, rcpt_domain_max; /* and of a message */
  char mechanisms[1024]; /* upper case, single spaces between, each once */
};

/* Read the lines after the first of a 250 reply to EHLO.  Keywords match in
   any case; "AUTH=" is taken like "AUTH " and both add up; what is malformed
   or unknown is passed over.  Forgets what *caps held before.  */
void smn_capabilities_parse(struct smn_capabilities *caps,
                            const struct smn_reply *reply);

/* Forget what NAMES, extensions in upper case and separated by spaces, NULL for
   none, says that the server does badly.  */
void smn_capabilities_avoid(struct smn_capabilities *caps, const char *names);

#endif
