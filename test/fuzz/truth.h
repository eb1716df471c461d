/* SPDX-License-Identifier: GPL-3.0-or-later */
/* truth.h - what the server knows of each job, and what broke a rule.  */
#ifndef TRUTH_H
#define TRUTH_H

#include "plan.h"
#include <stdio.h>

#define TAKINGS_MAX 16

/* The server has taken responsibility for a message.  */
struct taking {
  unsigned conn;
  uint64_t recipients; /* for whom: bits */
  bool exact;          /* the content is that of the job, whole */
  bool told;           /* the reply has left, whole and true, before a close */
  bool weak;           /* a lie before it may have led the client astray */
};

struct truth {
  struct taking takings[TAKINGS_MAX];
  unsigned taken;
  bool begun;    /* content may have been sent */
  bool end_seen; /* an end of data has come, or BDAT LAST has begun */
  bool cut_off;  /* the server went away while content came */
  bool refused;  /* the last word on it, whole and true: a refusal of the
                    end of data (for all of its recipients) */
  bool weak;     /* a lie on a connection that has seen a command of it */
  int code;      /* of the refusal */
  int rcpt_codes[RCPTS_MAX]; /* the last true ones, 0: none */
};

struct truths {
  const struct plan *plan;
  const char *folder; /* of the jobs */
  struct truth job[JOBS_MAX];
  FILE *transcript;
  int64_t begin_ms;
  char why[400]; /* the first rule that was broken, "" for none */
};

extern struct truths truths;

/* A rule is broken.  */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A line of the transcript, with the time.  */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
