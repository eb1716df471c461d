/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plan.h - all that one dialogue consists of, as a seed decides it.  */
#ifndef PLAN_H
#define PLAN_H

#include "random.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define JOBS_MAX 6
#define ACTS_MAX 3
#define RCPTS_MAX 64

/* Where a server may do something else than it should.  */
enum place {
  AT_CONNECT, /* the connection is refused */
  AT_GREETING,
  AT_EHLO,
  AT_STARTTLS,
  AT_AUTH,
  AT_MAIL,
  AT_RCPT,
  AT_DATA,
  AT_CONTENT, /* in the middle of it */
  AT_CHUNK,   /* BDAT, not the last */
  AT_END,     /* the final dot, BDAT LAST */
  AT_RSET,
  AT_IDLE, /* nothing is owed, some time after an end of data */
  PLACES
};

enum act_kind {
  ACT_NONE,
  /* The server keeps the rules.  */
  ACT_REFUSE, /* with code */
  ACT_LEAVE,  /* with the code 421 or 521, and closes */
  ACT_CLOSE,  /* without a word */
  ACT_CLOSE_AFTER,
  ACT_CUT, /* closes in the middle of the reply */
  ACT_SILENCE,
  ACT_DELAY,
  ACT_LINES,
  ACT_ODD_REFUSAL, /* a first line of refusal, and a second that is none */
  /* It does not.  */
  ACT_CODE, /* another code than it means */
  ACT_EXTRA,
  ACT_EXTRA_BEFORE,
  ACT_JUNK,
  ACT_JUNK_INSTEAD,
  ACT_NO_REPLY,
  ACT_MISMATCH,
  ACT_LONG,
  ACT_INJECT, /* octets behind the reply to STARTTLS */
  ACTS
};
#define ACT_FIRST_LIE ACT_CODE

struct act {
  enum place place;
  unsigned nth; /* time that the place is reached, from 0 */
  enum act_kind kind;
  int code;
  unsigned arg;
};

enum file_fault {
  FILE_GOOD,
  FILE_MISSING,
  FILE_FOLDER,
  FILE_FIFO,
  FILE_SHRINKS,
  FILE_GROWS,
  FILE_CHANGES,
  FILE_ENTRY_GOES, /* its entry is renamed away */
  FILE_NO_SYNC,    /* fsync fails */
  FILE_FAULTS
};

struct plan_job {
  unsigned recipients;
  unsigned pad; /* octets that make its addresses long */
  bool partial, chunking, binary, entry, dsn, authenticate;
  unsigned content, size; /* kind, octets */
  enum file_fault fault;
  enum place fault_at; /* the place at which it comes about */
  unsigned fault_nth;
  unsigned after_ms;    /* submitted so long after the one before */
  unsigned cancel_tick; /* system calls after its submission, 0: never */
};

struct offer { /* what EHLO tells */
  bool pipelining, chunking, pipeconnect, size, eightbitmime, dsn, smtputf8,
      binarymime, enhanced, odd;
  unsigned size_limit, mail_max, rcpt_max;
  const char *mechanisms; /* NULL: no AUTH */
};

enum tls { TLS_NONE, TLS_STARTTLS, TLS_IMPLICIT };

struct plan {
  uint64_t seed;
  bool by_session; /* without the engine */
  bool lmtp, plainly;
  enum tls tls;
  bool plain_stream;         /* the client never wants TLS */
  struct offer offer, later; /* later: on all connections but the first */
  unsigned eager, yield;     /* of the world */
  unsigned octets;    /* percentage of replies that come octet by octet */
  unsigned joined;    /* percentage of replies that wait for the next one */
  unsigned slow_ms;   /* how long the server thinks */
  unsigned void_send; /* percentage of dialogues with sends into the void */
  unsigned short_send;
  unsigned rekey; /* percentage of steps in which TLS speaks by itself */
  bool echo;      /* refusals repeat the password */
  unsigned idle_ms, sessions;
  unsigned shutdown_tick; /* 0: at the end */
  unsigned jobs, acts;
  struct plan_job job[JOBS_MAX];
  struct act act[ACTS_MAX];
};

void plan_make(struct plan *plan, uint64_t seed);
void plan_print(const struct plan *plan, FILE *out);

extern const char *const place_names[], *const act_names[];

/* The content of job J of PLAN as it stands in the file (VERSION 0) or in the
   changed file (1), to be freed; and as it has to arrive, without doubled dots.
 */
char *plan_content(const struct plan *plan, unsigned j, unsigned version,
                   size_t *len);
char *plan_arrives(const struct plan *plan, unsigned j, unsigned version,
                   size_t *len);

/* Write the address of recipient R of job J into OUT, of 600 octets.  */
void plan_recipient(const struct plan *plan, unsigned j, unsigned r, char *out);

#endif
