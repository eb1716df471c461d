/* SPDX-License-Identifier: GPL-3.0-or-later */
/* result.h - what came of a job.
   A result belongs to the thread of the session until it is complete, and then
   to its receiver; the addresses in it are borrowed from the job.  All text of
   the server stands quoted in it (smn_quote), and is untrusted.  */
#ifndef SMN_RESULT_H
#define SMN_RESULT_H

#include "mail/job.h"
#include <stdatomic.h>

/* What a server has shown by TLS: large, immutable, and shared by the results
   of a session.  Each holder lets go of it once.  Any thread.  */
struct smn_seen {
  atomic_int holders;
  struct smn_tls_info tls;
};
struct smn_seen *smn_seen_new(const struct smn_tls_info *tls); /* or NULL */
struct smn_seen *smn_seen_hold(struct smn_seen *seen); /* NULL is harmless */
void smn_seen_release(struct smn_seen *seen);

/* Take NEEDLES (redact.h) out of the names in SEEN before it is shared; once it
   is, nothing is done.  Certificates in PEM are what they are.  */
void smn_seen_redact(struct smn_seen *seen, const struct smn_buf *needles);

struct smn_recipient_result {
  const char *address; /* borrowed from the job */
  bool accepted;       /* the server took RCPT, and did not refuse later */
  bool delivered;      /* LMTP: it has said so for this one */
  int code;            /* 0: RCPT was not reached */
  char enhanced[16];
  char *text; /* quoted, NULL without a reply */
};

/* What came of a job.  error.kind is SMN_OK when the server has taken the mail
   for every recipient that it accepted (all, unless the job is partial), or
   the probe worked.  in_doubt: the end of data went out, or may have, and no
   reply came; error tells why.  */
struct smn_result {
  struct smn_error error;
  bool in_doubt;
  uint64_t octets;        /* of the message, as SIZE counts; 0 if not reached */
  char *reply;            /* the reply to the end of data, quoted, or NULL */
  char *greeting;         /* probe: quoted */
  char *capabilities;     /* probe: the lines of EHLO, quoted, '\n' between */
  char mechanism[32];     /* that succeeded, "" without */
  bool token_refused;     /* AUTH failed because of the token */
  bool password_untested; /* AUTH failed before the server had looked at the
                             password or token: it may well be right */
  bool passphrase_wanted; /* SMN_FILE: that of the client key is missing or
                             wrong */
  bool release_unsupported;   /* SMN_UNSUPPORTED: the server does not keep the
                                 mail until then */
  bool eight_bit_unsupported; /* SMN_UNSUPPORTED: the message has 8-bit octets,
                                 or is binary, and has to be encoded */
  bool more; /* SMN_OK: the server takes fewer recipients at a time; those with
                code 0 are for another mail */
  char notes[512];    /* what went well and yet should be shown, "" without */
  char offered[1024]; /* mechanisms that the server offered last */
  char *unrecorded;   /* why the receipt could not be written, or NULL */
  struct smn_seen *seen; /* of the server by TLS, or NULL */
  size_t recipient_count;
  struct smn_recipient_result *recipients;
};

/* Prepare *RESULT for JOB (one entry per recipient).  False: no memory.  */
bool smn_result_init(struct smn_result *result, const struct smn_job *job);
void smn_result_free(struct smn_result *result);
void smn_result_clear(struct smn_result *result); /* as if just initialised */

/* What the server has shown by TLS; empty without TLS.  Valid as long as
   RESULT.  */
const struct smn_tls_info *smn_result_tls(const struct smn_result *result);

/* Take the secrets out of every text in *RESULT that the server may have
   written.  Addresses are ours.  */
void smn_result_redact(struct smn_result *result,
                       const struct smn_buf *needles);

/* The LEN octets of a reply as they are shown: after CODE and a space unless
   that is 0, without the secrets in NEEDLES, quoted, and cut when they are more
   than any sensible reply has.  Secrets go first, since a cut could leave the
   beginning of one.  To be freed; NULL without memory.  */
char *smn_result_shown(const struct smn_buf *needles, int code,
                       const char *bytes, size_t len);

/* A result as a list of keys and values, which is what a receipt and an event
   are made of.  */
enum smn_value_type { SMN_VALUE_SYMBOL, SMN_VALUE_NUMBER, SMN_VALUE_TEXT };

struct smn_value {
  enum smn_value_type type;
  const char *text; /* symbol or text; a text may be NULL */
  int64_t number;
  bool fleeting; /* it has no place in a receipt */
};

/* The key number I of a result, with a colon, and its value; NULL after the
   last.  Recipients and TLS are not among them.  */
const char *smn_result_value(const struct smn_result *result, size_t i,
                             struct smn_value *value);

/* Element I of what is told of a recipient; false after the last.  */
bool smn_recipient_value(const struct smn_recipient_result *recipient, size_t i,
                         struct smn_value *value);

#endif
