/* SPDX-License-Identifier: GPL-3.0-or-later */
/* report.h - an event as a list.
   Main thread only, inside a call from Lisp.  */
#ifndef SMN_REPORT_H
#define SMN_REPORT_H

#include "emacs/lisp.h"
#include "engine/events.h"

/* EVENT as (ID KIND . PLIST).  Text of the server is unibyte.  */
emacs_value smn_report_event(emacs_env *env, const struct smn_event *event);

#endif
