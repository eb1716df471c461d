/* SPDX-License-Identifier: GPL-3.0-or-later */
/* claim.h - who may work on an entry of the outbox.
   A claim is a lock on a file.  The kernel lets go of it when this Emacs ends,
   however it ends, and it excludes other processes as well as a second claim
   from here.  Main thread only.  */
#ifndef SMN_CLAIM_H
#define SMN_CLAIM_H

#include "base/error.h"
#include <stdbool.h>

/* Claim by FILE, which is created when it is missing (its directory is not).
   SMN_OK: *CLAIM is a number above 0 to be released, or 0 when another holds
   it or the file has just been removed by whoever held it.  SMN_FILE: cannot
   be locked; *err says why.  */
enum smn_kind smn_claim_take(const char *file, int *claim,
                             struct smn_error *err);

/* Let go; false if CLAIM is none that is held.  */
bool smn_claim_release(int claim);

#endif
