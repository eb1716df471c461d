/* SPDX-License-Identifier: GPL-3.0-or-later */
/* plan.c - how a message goes through a connection.  */
#include "smtp/plan.h"
#include "base/ascii.h"

#include <string.h>

static const char *domain_of(const char *address) {
  const char *at = strrchr(address, '@');
  return at ? at + 1 : "";
}

/* The domain of the recipient NUMBER is none of those before it.  */
static bool new_domain(char *const *recipients, size_t number) {
  const char *domain = domain_of(recipients[number]);
  for (size_t i = 0; i < number; i++) {
    const char *other = domain_of(recipients[i]);
    if (smn_ascii_same(domain, strlen(domain), other, strlen(other)))
      return false;
  }
  return true;
}

/* How many of the recipients one message may have, by RFC 9422.  */
static size_t take_recipients(const struct smn_capabilities *caps,
                              char *const *recipients) {
  size_t count = 0, domains = 0;
  for (; recipients[count]; count++) {
    if (caps->rcpt_max && count >= caps->rcpt_max)
      break;
    if (!caps->rcpt_domain_max)
      continue;
    domains += new_domain(recipients, count);
    if (domains > caps->rcpt_domain_max)
      break;
  }
  return count;
}

/* Where all who are accepted get the message, DATA or the first chunk need not
   wait for the answers; otherwise those who are accepted would get an empty
   one, or all of it although others do not.  LMTP says nothing to an end of
   data that is for no recipient.  A chunk that leaves ahead must not have to
   leave again: so it does not rely on an offer of before, nor on a connection
   that may be gone.  */
void smn_plan_make(struct smn_plan *plan, const struct smn_job *job,
                   const struct smn_capabilities *caps, bool pipelined,
                   bool confirmed) {
  size_t recipients = take_recipients(caps, job->recipients);
  bool chunked = job->chunking && caps->chunking;
  bool ahead = pipelined && (recipients == 1 || job->partial) &&
               !smn_server_lmtp(&job->server);
  *plan = (struct smn_plan){
      .recipients = recipients,
      .commands = 1 + recipients + (ahead && !chunked),
      .data_ahead = ahead && !chunked,
      .chunked = chunked,
      .chunk_ahead = ahead && chunked && confirmed,
  };
}
