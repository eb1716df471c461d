/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-job.c - what a job may hold, and never a line of commands.
   One line each: the name for EHLO, the sender, the envelope identifier, and
   the recipients.  */
#include "fuzz.h"
#include "mail/job.h"

/* What goes on a line of its own may hold nothing that ends it, nor the
   brackets around it.  */
static void check_address(const char *address) {
  bool quoted = false;
  for (const char *at = address; *at; at++) {
    REQUIRE(*at != '\r' && *at != '\n');
    if (quoted && *at == '\\' && at[1])
      at++;
    else if (*at == '"')
      quoted = !quoted;
    REQUIRE(quoted || *at != '>');
  }
  REQUIRE(!quoted && strlen(address) <= 1000);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct input in = {octets, len};
  struct smn_error err = {.kind = SMN_OK};
  struct smn_job *job = smn_job_new();
  size_t used, count = 0;
  job->server.host = strdup("mail.example.org");
  job->server.port = 587;
  job->server.timeout_ms = 1000;
  job->file = strdup("/nonexistent");
  job->server.helo = take_line(&in, &used);
  job->sender = take_line(&in, &used);
  job->wishes.envid = take_line(&in, &used);
  job->recipients = calloc(9, sizeof *job->recipients);
  while (count < 8 && in.len > 0)
    job->recipients[count++] = take_line(&in, &used);
  if (smn_job_check(job, &err) == SMN_OK) {
    REQUIRE(count > 0 && !strpbrk(job->server.helo, "\r\n"));
    REQUIRE(!strpbrk(job->wishes.envid, "\r\n"));
    check_address(job->sender);
    for (size_t i = 0; i < count; i++)
      check_address(job->recipients[i]);
  } else {
    REQUIRE(err.kind == SMN_USAGE);
    require_shown(err.text, sizeof err.text);
  }
  smn_job_free(job);
  return 0;
}
