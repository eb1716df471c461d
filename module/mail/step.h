/* SPDX-License-Identifier: GPL-3.0-or-later */
/* step.h - one operation on the files of the outbox, as Lisp asks for it.
   File names are absolute, in the file system's own octets.  A step owns all
   that it points to; any thread, one at a time.  */
#ifndef SMN_STEP_H
#define SMN_STEP_H

#include "base/error.h"
#include "mail/create.h"
#include <stdbool.h>

enum smn_step_type {
  SMN_STEP_CREATE, /* smn_create: the entry FILE with PARTS, held by CLAIM, and
                      renamed to TO unless that is NULL */
  SMN_STEP_AREA,   /* smn_create_area: the directory FILE */
  SMN_STEP_WRITE,  /* replace FILE by one of mode 0600 with OCTETS; its
                      content is durable, the rename after SMN_STEP_SYNC of
                      the directory */
  SMN_STEP_SYNC,   /* make FILE, a regular file or a directory, durable */
  SMN_STEP_SYNC_ALL, /* each regular file in the directory FILE, then itself */
  SMN_STEP_RENAME,   /* FILE to TO */
  SMN_STEP_DELETE,   /* FILE; a missing one is fine */
  SMN_STEP_REMOVE,   /* the directory FILE with its files, "receipt" last; a
                        missing one is fine */
  SMN_STEP_APPEND, /* OCTETS to FILE, a log of mode 0600 that several processes
                      write; one that would get longer than LIMIT octets
                      becomes FILE.1 before */
  SMN_STEP_ASIDE   /* for disk.h: what follows holds up no later task */
};

struct smn_step {
  enum smn_step_type type;
  char *file;
  char *to;
  char *octets;
  size_t len; /* of octets */
  long limit; /* of SMN_STEP_APPEND */
  int claim;
  struct smn_part *parts;
  size_t part_count;
};

/* Do STEP.  SMN_FILE: *err says what failed, and *ERRNUM why.  */
enum smn_kind smn_step_run(const struct smn_step *step, struct smn_error *err,
                           int *errnum);

void smn_step_clear(struct smn_step *step);

/* "ENOSPC" for ENOSPC; NULL for what a disk does not say.  */
const char *smn_step_errno_name(int errnum);

/* Make each regular file in the open DIRECTORY durable but "lock", which means
   nothing once the power is gone, and then the directory.  On failure errno
   and NAME, of SIZE octets, tell what failed; "" is the directory.  */
bool smn_step_sync_all(int directory, char *name, size_t size);

#endif
