/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plan.h - how a message goes through a connection.
   It is made from what the server offers and what the job asks for, and from
   nothing that is said later.  No I/O; any thread.  */
#ifndef SMN_PLAN_H
#define SMN_PLAN_H

#include "mail/job.h"
#include "smtp/reply.h"

struct smn_plan {
  size_t recipients; /* so many of them at a time, the first ones */
  size_t commands;   /* of the envelope: MAIL, the RCPTs, maybe DATA */
  bool data_ahead;   /* DATA leaves before the RCPTs are answered */
  bool chunked;      /* BDAT instead of DATA */
  bool chunk_ahead;  /* it leaves before the RCPTs are answered */
};

/* PIPELINED: commands may leave ahead at all.  CONFIRMED: what was offered is
   what this connection offers, and it has been heard from lately, so that
   content may leave ahead.  */
void smn_plan_make(struct smn_plan *plan, const struct smn_job *job,
                   const struct smn_capabilities *caps, bool pipelined,
                   bool confirmed);

#endif
