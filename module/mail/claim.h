/* SPDX-License-Identifier: GPL-3.0-or-later */
/* claim.h - who may work on an entry of the outbox.
   A claim is a lock on a file.  The kernel lets go of it when this Emacs ends,
   however it ends, and it excludes other processes as well as a second claim
   from here.  A claim has a number above 0 from the moment that a caller wants
   it, so that the main thread can let go of one that another thread is still
   taking.  Any thread.  */
#ifndef SMN_CLAIM_H
#define SMN_CLAIM_H

#include "base/error.h"
#include <stdbool.h>

/* The number of a new claim, which holds nothing yet; 0 without memory.  */
int smn_claim_new(void);

/* Let CLAIM hold FILE, which is created when it is missing (its directory is
   not).  SMN_OK: *HELD tells whether it does; it does not when another holds
   FILE, or the holder has just removed FILE.  SMN_FILE: it cannot
   be locked; *err says why.  Where CLAIM was released meanwhile the lock is
   given up again, and all is well: *HELD is true.  */
enum smn_kind smn_claim_hold(int claim, const char *file, bool *held,
                             struct smn_error *err);

/* Claim by FILE at once.  SMN_OK: *CLAIM is the number of the claim that holds
   it, or 0 if none does.  */
enum smn_kind smn_claim_take(const char *file, int *claim,
                             struct smn_error *err);

/* Let go; false if there is no such CLAIM.  */
bool smn_claim_release(int claim);

#endif
