/* SPDX-License-Identifier: GPL-3.0-or-later */
/* peer.h - a scripted SMTP server for the tests.
   A script is parsed once and may be run by several threads; a dialogue and
   its report belong to the one thread that runs it.  Nothing here shares code
   with module/, so that no mistake is made twice.  The script language is told
   in test/peer/README.org.  Every wait is bounded.  */
#ifndef PEER_H
#define PEER_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* peer-text.c: growing octets, always followed by a NUL that LEN does not
   count; all-zero is empty.  Without memory the program ends.  */

struct peer_text {
  char *data;
  size_t len, cap;
};

void peer_text_add(struct peer_text *text, const char *bytes, size_t len);
void peer_text_print(struct peer_text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void peer_text_cut(struct peer_text *text, size_t len); /* from the front */
void peer_text_free(struct peer_text *text);

/* Write the LEN BYTES with control characters escaped.  */
void peer_text_show(FILE *out, const char *bytes, size_t len);

/* Memory or the end of the program.  */
void *peer_alloc(size_t count, size_t size);

/* peer-script.c */

/* `key', `key=value', `key~value' or `key!~value'; op is 0, '=', '~' or '!'.
   A quoted word has its text in key.  */
struct peer_word {
  struct peer_text key, value;
  char op;
};

enum peer_verb {
  PEER_SAY,     /* S: */
  PEER_HEAR,    /* C: */
  PEER_SEND,    /* send TEXT times=N */
  PEER_GARBAGE, /* garbage N */
  PEER_DRIP,    /* drip DURATION TEXT */
  PEER_TLS,     /* tls NAME ... */
  PEER_AUTH,    /* auth MECHANISM USER PASSWORD ... */
  PEER_DATA,    /* data [N] */
  PEER_STALL,   /* stall */
  PEER_HOLD,    /* hold DURATION */
  PEER_PAUSE,   /* pause DURATION */
  PEER_DELAY,   /* delay DURATION */
  PEER_RATE,    /* rate N */
  PEER_DROP,    /* drop */
  PEER_CLOSE,   /* close */
  PEER_RESET,   /* reset */
  PEER_HALF,    /* half-close */
  PEER_CLOSED,  /* closed */
  PEER_CANCEL,  /* cancel */
  PEER_REPEAT,  /* repeat [N] */
  PEER_END      /* end */
};

struct peer_step {
  enum peer_verb verb;
  int line;
  struct peer_text text; /* decoded; of C: the raw pattern */
  long number;           /* -1 when not given */
  int ms;
  size_t other; /* of repeat its end, of end its repeat */
  struct peer_word *words;
  size_t word_count;
};

struct peer_script {
  char *name; /* as in messages */
  struct peer_step *steps;
  size_t step_count;
  struct peer_word *client; /* for the runner */
  size_t client_count;
  struct peer_word *expect;
  size_t expect_count;
};

/* Read FILE; on failure NULL, and WHY (SIZE octets) names the line.  */
struct peer_script *peer_script_read(const char *file, char *why, size_t size);
void peer_script_free(struct peer_script *script);

/* The value of KEY among the words of a step, NULL without.  A key without a
   value has "".  */
const char *peer_step_option(const struct peer_step *step, const char *key);

/* PATTERN: `*' stands for any octets, \ quotes.  */
bool peer_match(const char *pattern, const char *text, size_t len);

/* "300ms", "2s" -> milliseconds; "64", "25M", "64K" -> number; -1: neither.  */
int peer_duration(const char *text);
long peer_number(const char *text);

/* peer-link.c: one accepted connection, plain or TLS.  */

enum peer_event { PEER_GOT, PEER_CLOSED_BY_CLIENT, PEER_LATE, PEER_BROKEN };

struct peer_link {
  int fd;
  int over_fd; /* readable: the client has returned; -1: never */
  int timeout_ms;
  long rate; /* octets a second that are read, 0: no limit */
  bool gone; /* the client no longer takes what we write */
  gnutls_session_t tls;
  gnutls_certificate_credentials_t credentials;
  struct peer_text in;
  uint64_t octets_in, octets_out, turns;
  bool wrote; /* since the last read: a turn */
  char why[256];
};

/* What `tls' may ask for.  */
struct peer_tls {
  const char *directory, *name, *priority;
  bool ask, require; /* a client certificate */
};

void peer_link_init(struct peer_link *link, int fd, int over_fd,
                    int timeout_ms);
/* Add to link->in what has come; waits for at least one octet.  */
enum peer_event peer_link_read(struct peer_link *link);
/* Octets that the client no longer takes are lost without a word: reading
   will tell.  PEER_LATE when it takes none of them in time.  */
enum peer_event peer_link_write(struct peer_link *link, const char *bytes,
                                size_t len);
/* PEER_BROKEN with link->why when the handshake fails.  */
enum peer_event peer_link_tls(struct peer_link *link,
                              const struct peer_tls *wish);
/* The certified name of the client, "" without a certificate.  */
void peer_link_client(struct peer_link *link, char *name, size_t size);
/* Wait MS; ends early when the client has returned.  */
void peer_link_wait(struct peer_link *link, int ms);
enum peer_ending { PEER_GRACEFUL, PEER_TRUNCATED, PEER_RST };
void peer_link_close(struct peer_link *link, enum peer_ending ending);

/* peer-dialogue.c */

struct peer_options {
  const char *certificates; /* directory of certs.h */
  int timeout_ms;
  int delay_ms;  /* before each reply */
  long rate;     /* of reading, 0: no limit */
  int over_fd;   /* readable: the client has returned; -1: never */
  int cancel_fd; /* written by the step `cancel'; -1: refused */
  FILE *log;     /* the transcript */
};

struct peer_report {
  struct peer_text why; /* empty: the client behaved as scripted */
  struct peer_text *messages;
  size_t message_count;
  struct peer_text secrets; /* all that AUTH brought, one a line */
  uint64_t octets_in, octets_out;
  uint64_t turns; /* how often the line changed direction to us */
};

/* Accept one connection on LISTENING and run SCRIPT over it.  True when the
   client behaved; the caller frees *REPORT in any case.  */
bool peer_serve(const struct peer_script *script,
                const struct peer_options *options, int listening,
                struct peer_report *report);
void peer_report_free(struct peer_report *report);

/* A socket that listens on ADDRESS ("127.0.0.1" or "::1"); *PORT 0 lets the
   kernel choose and is set.  -1 on failure.  */
int peer_listen(const char *address, int *port);

/* For peer-dialogue.c and peer-sasl.c alone.  */

struct peer {
  const struct peer_script *script;
  const struct peer_options *options;
  struct peer_report *report;
  struct peer_link link;
  struct peer_text out; /* not yet written, so that lines go together */
  struct peer_text line;
  bool secret; /* the next line answers a 334 */
  bool over;   /* the connection has ended */
  int delay_ms;
  long *rounds; /* per step, of `repeat' */
};

/* Note why the dialogue failed at STEP; the first reason stays.  False.  */
bool peer_fault(struct peer *peer, const struct peer_step *step,
                const char *format, ...) __attribute__((format(printf, 3, 4)));
void peer_say(struct peer *peer, const char *bytes, size_t len);
bool peer_flush(struct peer *peer, const struct peer_step *step);
/* Read a line, without its CRLF, into peer->line.  PEER_BROKEN: one that does
   not end with CRLF, or too long; the fault is noted.  */
enum peer_event peer_hear(struct peer *peer, const struct peer_step *step);

/* peer-sasl.c: the step `auth', verified by GNU SASL.  */
bool peer_auth(struct peer *peer, const struct peer_step *step);

#endif
