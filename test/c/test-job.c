/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-job.c - the checks of a job.  */
#include "check.h"
#include "mail/job.h"

#include <stdlib.h>

static struct smn_job *make_job(const char *sender, const char *recipient) {
  struct smn_job *job = smn_job_new();
  job->server.host = strdup("localhost");
  job->server.helo = strdup("client.example");
  job->server.port = 25;
  job->server.timeout_ms = 1000;
  job->sender = strdup(sender);
  job->file = strdup("/dev/null");
  job->recipients = calloc(2, sizeof *job->recipients);
  job->recipients[0] = strdup(recipient);
  return job;
}

static const struct {
  const char *sender, *recipient;
  bool good;
} envelopes[] = {
    {"a@x", "b@y", true},
    {"", "b@y", true},
    {"a@x", "", false},
    {"a@x", "\"b c\"@y", true},
    {"a@x", "\"b\\\" >c\"@y", true},
    {"a@x", "b c@y", false},
    {"a@x", "b@y> SIZE=1", false},
    {"a@x", "b@y>\r\nDATA", false},
    {"a@x\nRSET", "b@y", false},
    {"a@x\r", "b@y", false},
    {"<a@x>", "b@y", false},
    {"a@x", "\"b@y", false},
    {"a@x", "\"b\\", false},
    {"a@x", "\"b\\\n\"@y", false},
    {"j\xc3\xb6rg@x", "b@y", true},
    {"a@x", "b\x7f@y", false},
    {"a@x", "postmaster", true},
    {"a@x", "b@[127.0.0.1]", true},
};

static void check_envelopes(void) {
  struct smn_error err = {.kind = SMN_OK};
  for (size_t i = 0; i < sizeof envelopes / sizeof *envelopes; i++) {
    struct smn_job *job = make_job(envelopes[i].sender, envelopes[i].recipient);
    CHECK_INT(smn_job_check(job, &err), envelopes[i].good ? SMN_OK : SMN_USAGE);
    smn_job_free(job);
  }
}

static void replace(char **field, const char *value) {
  free(*field);
  *field = value ? strdup(value) : NULL;
}

static void check_servers(void) {
  static const struct {
    const char *host, *helo;
    int port, timeout_ms;
  } bad[] = {
      {NULL, "c", 25, 1},     {"", "c", 25, 1},  {"a b", "c", 25, 1},
      {"a\r\nb", "c", 25, 1}, {"h", "", 25, 1},  {"h", "c d", 25, 1},
      {"h", "c\r", 25, 1},    {"h", "c", 0, 1},  {"h", "c", 65536, 1},
      {"h", "c", -1, 1},      {"h", "c", 25, 0},
  };
  struct smn_error err = {.kind = SMN_OK};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    struct smn_job *job = make_job("a@x", "b@y");
    replace(&job->server.host, bad[i].host);
    replace(&job->server.helo, bad[i].helo);
    job->server.port = bad[i].port;
    job->server.timeout_ms = bad[i].timeout_ms;
    CHECK_INT(smn_job_check(job, &err), SMN_USAGE);
    smn_job_free(job);
  }
}

int main(void) {
  check_envelopes();
  check_servers();
  return check_done("test-job");
}
