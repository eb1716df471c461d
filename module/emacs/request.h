/* SPDX-License-Identifier: GPL-3.0-or-later */
/* request.h - the plist that describes a job.
   Main thread only, inside a call from Lisp.  */
#ifndef SMN_REQUEST_H
#define SMN_REQUEST_H

#include "emacs/lisp.h"
#include "mail/job.h"

/* The job that PLIST describes, which has copies of all; the caller owns it.
   NULL with a signal pending: for what cannot be converted, and for a key that
   no job has, since Lisp asks by it for something that would not happen.  */
struct smn_job *smn_request_job(emacs_env *env, emacs_value plist);

#endif
