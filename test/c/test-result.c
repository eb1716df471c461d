/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-result.c - a result knows the recipients of its job.  */
#include "check.h"
#include "mail/result.h"

#include <stdlib.h>

int main(void) {
  struct smn_job *job = smn_job_new();
  struct smn_result result;
  job->recipients = calloc(3, sizeof *job->recipients);
  job->recipients[0] = strdup("b@y");
  job->recipients[1] = strdup("c@y");
  CHECK(smn_result_init(&result, job));
  CHECK_INT(result.recipient_count, 2);
  CHECK_STRING(result.recipients[0].address, "b@y");
  CHECK_STRING(result.recipients[1].address, "c@y");
  CHECK(!result.recipients[0].accepted && !result.in_doubt);
  result.in_doubt = result.recipients[1].accepted = true;
  result.recipients[1].code = 250;
  result.recipients[1].text = strdup("fine");
  smn_result_clear(&result);
  CHECK(!result.recipients[1].accepted && !result.in_doubt);
  CHECK_INT(result.recipients[1].code, 0);
  CHECK(!result.recipients[1].text);
  CHECK_STRING(result.recipients[1].address, "c@y");
  smn_result_free(&result);
  smn_result_free(&result);
  smn_job_free(job);
  smn_job_free(NULL);
  return check_done("test-result");
}
