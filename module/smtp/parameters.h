/* SPDX-License-Identifier: GPL-3.0-or-later */
/* parameters.h - MAIL and RCPT, with what a message asks for besides its
   delivery.
   RFC 1870 (SIZE), 2852 (DELIVERBY), 3030 (BINARYMIME), 3461 (DSN), 4865
   (FUTURERELEASE), 6152 (8BITMIME), 6531 (SMTPUTF8), 8689 (REQUIRETLS).  Called
   by the thread of the session, whose capabilities decide; what a server cannot
   do and the message insists on is SMN_UNSUPPORTED, before anything is sent. */
#ifndef SMN_PARAMETERS_H
#define SMN_PARAMETERS_H

#include "smtp/dialogue.h"

/* Write MAIL for TASK, whose message is CONTENT, into LINE.  */
enum smn_kind smn_parameters_mail(const struct smn_session *s,
                                  const struct smn_task *task,
                                  const struct smn_content *content, char *line,
                                  size_t size);

/* Write RCPT for ADDRESS, one of TASK, into LINE.  */
enum smn_kind smn_parameters_rcpt(const struct smn_session *s,
                                  const struct smn_task *task,
                                  const char *address, char *line, size_t size);

#endif
