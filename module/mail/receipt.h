/* SPDX-License-Identifier: GPL-3.0-or-later */
/* receipt.h - what came of an attempt, on disk beside its message.
   A receipt is one Lisp plist in the file "receipt" of the entry's directory,
   replaced as a whole and durable when a function here returns SMN_OK.  It
   belongs to the holder of the entry's claim; any thread, one at a time.
   Text of the server stands in it escaped, secrets never do.  */
#ifndef SMN_RECEIPT_H
#define SMN_RECEIPT_H

#include "mail/result.h"

/* Make all files of the directory ENTRY, the directory itself and its place in
   its parent survive a power failure.  SMN_FILE names what failed.  */
enum smn_kind smn_receipt_sync(const char *entry, struct smn_error *err);

/* Note that the end of data of JOB is about to go out: from here on the outcome
   is unknown until smn_receipt_write.  On failure nothing must be sent.  */
enum smn_kind smn_receipt_doubt(const struct smn_job *job,
                                const struct smn_result *result,
                                struct smn_error *err);

/* Note what came of JOB.  */
enum smn_kind smn_receipt_write(const struct smn_job *job,
                                const struct smn_result *result,
                                struct smn_error *err);

#endif
