/* SPDX-License-Identifier: GPL-3.0-or-later */
/* judge.h - what the client says of a job, against what the server knows.  */
#ifndef JUDGE_H
#define JUDGE_H

#include "mail/result.h"
#include "plan.h"

struct outcome {
  unsigned count; /* how often it was told */
  bool submitted, cancelled;
  enum smn_kind kind;
  enum smn_stage stage;
  bool in_doubt, more;
  int code;
  uint64_t accepted;
  char text[300];
  int64_t submitted_ms, cancelled_ms, told_ms;
};

/* Note what RESULT says of job J; NULL for one that was never begun, for the
   reason KIND.  */
void judge_note(struct outcome *outcome, unsigned j, enum smn_kind kind,
                const struct smn_result *result);

/* The receipt of job J, if it has one, says the same as RESULT; NULL as above.
   In its own time: before another outcome is drawn.  */
void judge_receipt(unsigned j, const struct smn_result *result);

/* The end of data of job J has come: what is on the disk says that it may have
   arrived, should nothing else be written any more.  */
void judge_doubt(unsigned j);

/* Judge all OUTCOMES of a plan, when the server has read all.  STOPPED: the
   engine was shut down on the way.  */
void judge(const struct plan *plan, const struct outcome *outcomes,
           bool stopped);

/* No text that the core lets out holds the password.  */
void judge_text(const char *text, size_t len);

#endif
