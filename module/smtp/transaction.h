/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transaction.h - one message through a session: MAIL, RCPT, DATA or BDAT.
   RFC 5321 3.3, 1870 (SIZE), 2920 (PIPELINING), 3030 (CHUNKING), 6152
   (8BITMIME), 6531 (SMTPUTF8), 3461 (DSN), 8689 (REQUIRETLS).  A transaction
   borrows its task and belongs to the thread of the session.  Its steps are
   called in the order in which they stand here; a step that fails makes the
   ones after it needless, but for the outcome, which is drawn last and once.
 */
#ifndef SMN_TRANSACTION_H
#define SMN_TRANSACTION_H

#include "smtp/dialogue.h"

struct smn_transaction;

/* Open and measure the message of TASK: what cannot be read bothers no server.
   On failure the result of TASK says why and there is nothing to free.  */
enum smn_kind smn_transaction_new(struct smn_transaction **t,
                                  struct smn_session *s,
                                  const struct smn_task *task);

/* NULL is harmless.  */
void smn_transaction_free(struct smn_transaction *t, struct smn_session *s);

const struct smn_task *smn_transaction_task(const struct smn_transaction *t);

/* It is its turn: make the entry of the message durable, if it is not.  What
   cannot be kept is not sent, nor what was cancelled meanwhile.  */
enum smn_kind smn_transaction_keep(struct smn_transaction *t);

/* The connection on which commands of T may have left is no more, and nothing
   that T has sent counts: begin again.  */
void smn_transaction_restart(struct smn_transaction *t);

/* Ask the first commands ahead, while replies to the message before are still
   awaited, if that costs no waiting and the state of the connection allows
   it.  They leave with what is written next, or when a reply is read.  */
void smn_transaction_ahead(struct smn_session *s, struct smn_transaction *t);

/* Ask as much of the envelope as may leave now, unless that is done, and let it
   leave, unless content may go along.  */
enum smn_kind smn_transaction_begin(struct smn_session *s,
                                    struct smn_transaction *t);

/* Its content is no more than one block, so that it leaves at once.  */
bool smn_transaction_small(const struct smn_transaction *t);

/* Agree on the envelope with the server.  Where a chunk may go along, the
   answers may be read later.  */
enum smn_kind smn_transaction_envelope(struct smn_session *s,
                                       struct smn_transaction *t);

/* Send the content, but for the last block of it, if SUPPLY wants that: it is
   asked, or where it cannot tell, the observer's CANCEL_FD is.  */
enum smn_kind smn_transaction_content(struct smn_session *s,
                                      struct smn_transaction *t,
                                      const struct smn_supply *supply);

/* Send the rest and the end of data, if SUPPLY still wants that, together with
   the first commands of NEXT (or NULL).  From SMN_OK on the server may have the
   message.  */
enum smn_kind smn_transaction_end(struct smn_session *s,
                                  struct smn_transaction *t,
                                  const struct smn_supply *supply,
                                  struct smn_transaction *next);

/* Read what is still owed, as far as that may matter, and draw the outcome into
   the result of the task, whose kind is returned.  It is in doubt when the end
   of data has left, and no refusal and no acceptance of it was read.  */
enum smn_kind smn_transaction_outcome(struct smn_session *s,
                                      struct smn_transaction *t);

#endif
