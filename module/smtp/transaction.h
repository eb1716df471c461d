/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transaction.h - one mail through a session: MAIL, RCPT, DATA or BDAT.
   RFC 5321 3.3, 1870 (SIZE), 2920 (PIPELINING), 3030 (CHUNKING), 6152
   (8BITMIME), 6531 (SMTPUTF8), 3461 (DSN), 8689 (REQUIRETLS).  A transaction
   borrows its task and belongs to the thread of the session.  Whoever calls
   has put its task into focus.  */
#ifndef SMN_TRANSACTION_H
#define SMN_TRANSACTION_H

#include "smtp/dialogue.h"

struct smn_transaction;

/* Open and measure the message of TASK, and make its entry durable: what cannot
   be read or kept bothers no server.  On failure the result of TASK says why
   and there is nothing to free.  */
enum smn_kind smn_transaction_new(struct smn_transaction **t,
                                  struct smn_session *s,
                                  const struct smn_task *task);
void smn_transaction_free(struct smn_transaction *t); /* NULL is harmless */

const struct smn_task *smn_transaction_task(const struct smn_transaction *t);

/* Commands of it have left.  */
bool smn_transaction_begun(const struct smn_transaction *t);

/* Agree on the envelope with the server, and on whether the content may come.
   Commands that have left already are not sent again.  Where a chunk may go
   with the commands, they wait for it, and smn_transaction_end reads the
   answers.  */
enum smn_kind smn_transaction_envelope(struct smn_session *s,
                                       struct smn_transaction *t);

/* Send the content, but for the last block of it.  On any failure the end of
   data was not sent, so nothing is delivered.  */
enum smn_kind smn_transaction_content(struct smn_session *s,
                                      struct smn_transaction *t);

/* Send the rest and the end of data, in one flight with the first commands of
   NEXT (NULL: none), and read the reply to the end.  From here on a failure
   leaves the outcome in doubt, as the result then tells.  */
enum smn_kind smn_transaction_end(struct smn_session *s,
                                  struct smn_transaction *t,
                                  struct smn_transaction *next);

/* The connection on which commands of T may have left is no more, and nothing
   of its content was sent: begin anew.  */
void smn_transaction_restart(struct smn_transaction *t);

#endif
