/* SPDX-License-Identifier: GPL-3.0-or-later */
/* create.h - a new entry of the outbox, from its directory to its name.
   The caller owns all that is pointed to.  Any thread.  The directories above
   another program may have made it, and so they are checked first.  */
#ifndef SMN_CREATE_H
#define SMN_CREATE_H

#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>

/* A file of the entry.  */
struct smn_part {
  char *name; /* without a directory */
  char *octets;
  size_t len;
};

/* Make the directory DIRECTORY, which must not be there; let CLAIM hold its
   file "lock"; write COUNT PARTS into it, each of mode 0600; and rename it to
   TARGET unless that is NULL.  The directory that holds DIRECTORY, the one that
   holds TARGET and the one above are made when missing, and their names are
   durable then; they must be ours, and no one else may write to them.  Nothing
   else is synced.  On failure errno tells why, FAILED, of SIZE octets, which
   file was worked on, and nothing is left of the entry.  */
bool smn_create(const char *directory, const char *target, int claim,
                const struct smn_part *parts, size_t count, char *failed,
                size_t size);

/* Make the directory NAME and what is missing above it, durably, unless it is
   there.  False with errno if that fails, or if it may not be trusted (EPERM:
   it is not ours, or others may write to it).  */
bool smn_create_area(const char *name);

#endif
