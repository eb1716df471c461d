/* SPDX-License-Identifier: GPL-3.0-or-later */
/* drive.h - the two ways into the core: the engine with its threads, and a
   session with the supply of this folder.  */
#ifndef DRIVE_H
#define DRIVE_H

#include "judge.h"
#include "plan.h"

struct drive {
  const struct plan *plan;
  const char *folder; /* of the certificates and the jobs */
  const char *socket; /* where the server listens */
  int port;           /* another for each run: what the core remembers of a
                         server is told apart by it */
  struct outcome outcomes[JOBS_MAX];
  bool stopped; /* the engine was shut down on the way */
};

/* Do all that the plan wants; each job gets its outcome.  */
void drive_engine(struct drive *drive);
void drive_session(struct drive *drive);
/* A system call of the core: a wish to cancel may be due.  */
void drive_tick(void);

/* The job J, to be freed, its file made.  */
struct smn_job *drive_job(const struct drive *drive, unsigned j);
/* Remove the files of all jobs.  */
void drive_clean(const struct drive *drive);

/* For the longest that J jobs may take.  */
int64_t drive_limit_ms(const struct plan *plan);

#define DRIVE_TIMEOUT_MS 10000

#endif
