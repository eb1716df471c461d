/* SPDX-License-Identifier: GPL-3.0-or-later */
/* abreast.h - calls that wait side by side instead of one after the other.
   Owns nothing; any thread.  */
#ifndef SMN_ABREAST_H
#define SMN_ABREAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Call RUN(I, CONTEXT) for each I below COUNT, and return when all have
   returned.  ABREAST: each in a thread of its own, as far as threads can be
   had; they share CONTEXT, and each works on its own part of it.  Else, and for
   what gets no thread, one after the other in this one.  */
void smn_abreast(size_t count, void (*run)(size_t i, void *context),
                 void *context, bool abreast);

/* What began at BEGIN_MS of smn_now_ms, an operation on a disk, took so long
   that others are better done abreast.  */
bool smn_slow_since(int64_t begin_ms);

#endif
