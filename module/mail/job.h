/* SPDX-License-Identifier: GPL-3.0-or-later */
/* job.h - the nouns: server and job.
   A job is a deep copy of all that a delivery needs.  It is built by one
   thread and handed over whole; its holder owns everything in it and
   frees it.  Secrets are in secret buffers, here and nowhere else.  */
#ifndef SMN_JOB_H
#define SMN_JOB_H

#include "base/buf.h"
#include "base/error.h"
#include "net/tls.h"
#include <stdbool.h>
#include <stdint.h>

enum smn_stream {
  SMN_STREAM_AUTO,     /* STARTTLS when offered, else clear */
  SMN_STREAM_PLAIN,    /* never TLS */
  SMN_STREAM_STARTTLS, /* STARTTLS or nothing */
  SMN_STREAM_TLS       /* implicit TLS */
};

enum smn_cleartext { /* where secrets may travel unencrypted */
                     SMN_CLEARTEXT_NEVER,
                     SMN_CLEARTEXT_LOOPBACK,
                     SMN_CLEARTEXT_ALWAYS
};

/* How to talk with a server, and as which user.  Strings are NULL when absent,
   lists end with NULL.  */
struct smn_server {
  char *host; /* or a local socket, see conn.h; "lmtp:" may stand before */
  int port;
  char *source;         /* address to connect from, NULL: the system decides */
  struct smn_buf proxy; /* secret: URL that may hold a password; empty: none */
  char *helo;           /* the name for EHLO; NULL: the address of this end */
  char *avoid; /* extensions that are not used even if they are offered: names
                  in upper case, separated by spaces */
  enum smn_stream stream;
  enum smn_cleartext cleartext;
  int timeout_ms; /* of each wait; ten times that behind the end of data */
  int idle_ms;    /* for which a session is kept for further jobs */
  int max_sessions;
  bool trace;
  bool authenticate; /* what follows, or the client certificate, is to be
                        used */
  bool token;        /* the password is a token (OAuth 2.0) */
  char *user;        /* UTF-8 */
  char *authzid;     /* UTF-8 */
  struct smn_buf password;
  char *mechanisms; /* wanted, separated by spaces; NULL: the default */
  bool if_offered;  /* they bind only a server that offers some */
  char **trustfiles;
  char **crlfiles;
  char *priority;
  int min_prime_bits;
  char *key_file; /* of the client: file or pkcs11: URI */
  char *cert_file;
  struct smn_buf passphrase; /* of the key, or PIN of its token */
  char **pins;               /* SHA-256 of the server's certificate or key */
};

/* What a mail asks for beside its delivery; NULL, 0 and false: nothing.  */
struct smn_wishes {
  char *notify;     /* RFC 3461: "NEVER", or a list such as "FAILURE,DELAY" */
  char *ret;        /* "FULL" or "HDRS" */
  char *envid;      /* the envelope identifier, printable ASCII */
  char *deliver_by; /* RFC 2852: a by-value such as "3600;R" */
  int64_t release;  /* RFC 4865: when it may be delivered, in seconds of the
                       system's clock */
  bool require_tls; /* RFC 8689 */
};

struct smn_job {
  long id;
  bool probe;    /* only look at the server: greeting, EHLO, TLS, and AUTH if
                    the job has credentials */
  bool utf8;     /* the header of the message is not ASCII */
  bool binary;   /* the octets of the message must go as they are */
  bool chunking; /* BDAT where the server offers it */
  bool partial;  /* those who are accepted get the mail if others are not */
  bool durable;  /* the entry has been made so */
  char *entry;   /* directory in the outbox, for the receipt, or NULL */
  int attempt;   /* number of this try, for the receipt */
  struct smn_server server;
  char *sender;      /* "" for the null reverse-path */
  char **recipients; /* at least one, unless probe */
  char *file;        /* holds the octets to be sent */
  struct smn_wishes wishes;
};

/* A deep copy, NULL without memory; and its end, which wipes the password.  */
struct smn_server *smn_server_copy(const struct smn_server *server);
void smn_server_free(struct smn_server *server);

/* It speaks LMTP (RFC 2033); and its host without the word that says so.  */
bool smn_server_lmtp(const struct smn_server *server);
const char *smn_server_name(const struct smn_server *server);

/* A session with A would be one with B: the same in all that matters.  */
bool smn_server_same(const struct smn_server *a, const struct smn_server *b);

/* Add all secrets of SERVER to what is never to be shown (redact.h).  */
void smn_server_hide(const struct smn_server *server, struct smn_buf *needles);

/* A certificate for EXTERNAL, or a mechanism by name, may do without a
   password.  */
bool smn_server_secretless(const struct smn_server *server);

/* Let the texts, lists and secrets of JOB's server be those of SERVER, which is
   the same and stays until smn_job_return: after that JOB has none.  */
void smn_job_borrow(struct smn_job *job, const struct smn_server *server);
void smn_job_return(struct smn_job *job);

/* An empty job, or NULL without memory; smn_job_free wipes the password.  */
struct smn_job *smn_job_new(void);
void smn_job_free(struct smn_job *job);

/* A job with the id and the recipients of JOB and nothing else, NULL without
   memory.  */
struct smn_job *smn_job_addressees(const struct smn_job *job);

/* Refuse what must not be put on a command line (CR, LF, NUL, for addresses
   also what RFC 5321 4.1.2 has no place for: control characters, '<' or '>'
   outside quotes, unbalanced quotes, more than 1,000 octets) and what is
   missing.  SMN_USAGE names the field and quotes it.  */
enum smn_kind smn_job_check(const struct smn_job *job, struct smn_error *err);

#endif
