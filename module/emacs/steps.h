/* SPDX-License-Identifier: GPL-3.0-or-later */
/* steps.h - what the disk is to do, as a list.
   Main thread only, inside a call from Lisp.  */
#ifndef SMN_STEPS_H
#define SMN_STEPS_H

#include "emacs/lisp.h"
#include "mail/step.h"

/* The *COUNT steps of LIST, for smn_disk_submit or smn_disk_discard.  NULL with
   a signal pending.  */
struct smn_step *smn_steps_get(emacs_env *env, emacs_value list, size_t *count);

#endif
