/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-plan.c - the plan for every short list of recipients and every offer,
   against what RFC 9422, RFC 2920 and RFC 3030 say in words.  */
#include "check.h"
#include "smtp/plan.h"

#include <stdlib.h>
#include <string.h>

#define LONGEST 5

/* Four domains, two of them the same.  */
static char *addresses[] = {"a@x", "b@X", "c@y", "d"};

static const char *domain(const char *address) {
  const char *at = strchr(address, '@');
  return !at ? "" : at[1] == 'X' ? "x" : at + 1;
}

/* The first COUNT of RECIPIENTS are not too many for CAPS.  */
static bool fit(const struct smn_capabilities *caps, char *const *recipients,
                size_t count) {
  size_t domains = 0;
  for (size_t i = 0; i < count; i++) {
    bool seen = false;
    for (size_t k = 0; k < i; k++)
      seen = seen || strcmp(domain(recipients[i]), domain(recipients[k])) == 0;
    domains += !seen;
  }
  return (!caps->rcpt_max || count <= caps->rcpt_max) &&
         (!caps->rcpt_domain_max || domains <= caps->rcpt_domain_max);
}

/* The most of them that fit.  */
static size_t most(const struct smn_capabilities *caps,
                   char *const *recipients) {
  size_t all = 0, count = 0;
  while (recipients[all])
    all++;
  while (count < all && fit(caps, recipients, count + 1))
    count++;
  return count;
}

static bool agrees(const struct smn_job *job,
                   const struct smn_capabilities *caps, bool pipelined,
                   bool confirmed) {
  struct smn_plan plan;
  smn_plan_make(&plan, job, caps, pipelined, confirmed);
  bool chunked = job->chunking && caps->chunking;
  /* Whoever is accepted gets what has left, so that must be as wanted.  */
  bool ahead = pipelined && (plan.recipients == 1 || job->partial) &&
               strcmp(job->server.host, "lmtp:h") != 0;
  return plan.recipients == most(caps, job->recipients) &&
         plan.chunked == chunked && plan.data_ahead == (ahead && !chunked) &&
         plan.chunk_ahead == (ahead && chunked && confirmed) &&
         plan.commands == 1 + plan.recipients + plan.data_ahead;
}

/* All lists of LEN, for all that is offered and wanted: bits of WAY.  */
static unsigned long disagreements(size_t len) {
  char *recipients[LONGEST + 1] = {NULL};
  struct smn_job job = {.recipients = recipients};
  struct smn_capabilities caps = {.esmtp = true};
  unsigned long wrong = 0;
  for (unsigned i = 0; i < 1u << 2 * len; i++) {
    for (size_t at = 0; at < len; at++)
      recipients[at] = addresses[i >> 2 * at & 3];
    for (unsigned way = 0; way < 1u << 10; way++) {
      job.chunking = way & 1;
      caps.chunking = way & 2;
      job.partial = way & 4;
      job.server.host = way & 8 ? "lmtp:h" : "h";
      caps.rcpt_max = way >> 6 & 3;
      caps.rcpt_domain_max = way >> 8 & 3;
      wrong += !agrees(&job, &caps, way & 16, way & 32);
    }
  }
  return wrong;
}

int main(void) {
  for (size_t len = 1; len <= LONGEST; len++)
    CHECK_INT(disagreements(len), 0);
  return check_done("test-plan");
}
