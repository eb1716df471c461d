/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worked.h - which mechanism a password has worked with, in this process.
   Some servers refuse a good password with one mechanism and accept it with
   another.  One try too many may lock an account, so what has come of the tries
   is kept: in a bounded table, under a keyed hash of server, user and password,
   never the password itself.  Any thread may call.  */
#ifndef SMN_WORKED_H
#define SMN_WORKED_H

#include "sasl/exchange.h"

#define SMN_WORKED_MAX 64 /* the one that was used least lately makes room */

/* True if something is known of these credentials (host, port, user, authzid,
   password): *MECHANISM has worked last, or, if NULL, no second one has.  */
bool smn_worked_recall(const struct smn_credentials *credentials,
                       const struct smn_mechanism **mechanism);

/* Keep that.  MECHANISM is one of the table.  */
void smn_worked_note(const struct smn_credentials *credentials,
                     const struct smn_mechanism *mechanism);

/* Forget all of it.  */
void smn_worked_forget(void);

#endif
