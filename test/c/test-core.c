/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-core.c - buffers, error texts and the checks of a job.  */
#include "base/buf.h"
#include "base/wait.h"
#include "check.h"
#include "mail/result.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* buf */

static void check_bounds(bool secret) {
  struct smn_buf buf;
  if (secret)
    CHECK(smn_buf_init_secret(&buf, 10));
  else
    smn_buf_init(&buf, 10);
  CHECK(smn_buf_add_string(&buf, "0123456"));
  CHECK(!smn_buf_add_string(&buf, "7890"));
  CHECK_STRING(buf.data, "0123456");
  CHECK(smn_buf_add_string(&buf, "789"));
  CHECK(!smn_buf_add(&buf, "x", 1));
  CHECK(smn_buf_add(&buf, "", 0));
  smn_buf_consume(&buf, 8);
  CHECK_STRING(buf.data, "89");
  CHECK_INT(buf.len, 2);
  CHECK_INT(buf.data[5], 0);
  smn_buf_clear(&buf);
  CHECK_INT(buf.len, 0);
  CHECK_STRING(buf.data, "");
  CHECK(smn_buf_reserve(&buf, 10) != NULL);
  CHECK(smn_buf_reserve(&buf, 11) == NULL);
  smn_buf_free(&buf);
  smn_buf_free(&buf);
  CHECK(buf.data == NULL);
}

static void check_growth(void) {
  struct smn_buf buf;
  smn_buf_init(&buf, 100000);
  for (int i = 0; i < 100000; i++)
    if (!smn_buf_add(&buf, "x", 1))
      break;
  CHECK_INT(buf.len, 100000);
  CHECK(!smn_buf_add(&buf, "x", 1));
  CHECK_INT(strlen(buf.data), 100000);
  smn_buf_free(&buf);
}

static void check_secret_stays(void) {
  struct smn_buf buf;
  CHECK(smn_buf_init_secret(&buf, 100000));
  const char *place = buf.data;
  while (smn_buf_add_string(&buf, "secret"))
    continue;
  CHECK(buf.data == place);
  smn_buf_free(&buf);
}

/* error */

static const struct {
  const char *bytes;
  size_t len, size;
  const char *quoted;
} quotes[] = {
    {"", 0, 10, ""},
    {"abc", 3, 10, "abc"},
    {"a\nb\tc", 5, 20, "a\\nb\\tc"},
    {"\\", 1, 10, "\\\\"},
    {"\x1b[0m\x7f", 5, 20, "\\x1b[0m\\x7f"},
    {"a\0b", 3, 20, "a\\x00b"},
    {"\xc3\xa4", 2, 20, "\xc3\xa4"},
    {"\r\n", 2, 20, "\\x0d\\n"},
    {"%s%n", 4, 20, "%s%n"},
    {"abcdefgh", 8, 8, "abcd..."},
    {"abcdefg", 7, 8, "abcdefg"},
    {"abc\x01zzz", 7, 8, "abc..."},
    {"ab\xc3\xa4zzzz", 8, 8, "ab\xc3\xa4..."},
    {"abc\xc3\xa4zzz", 8, 8, "abc..."},
    {"ab\xe2\x82\xacxyz", 8, 8, "ab..."},
    {"\xf0\x9f\x93\xa7yyyy", 8, 8, "\xf0\x9f\x93\xa7..."},
    {"a\xf0\x9f\x93\xa7yyy", 8, 8, "a..."},
    {"a\xa7\xa7\xa7\xa7\xa7\xa7\xa7", 8, 8, "a\xa7\xa7\xa7..."},
    {"abc", 3, 3, ".."},
    {"abc", 3, 1, ""},
};

static void check_quotes(void) {
  char out[64];
  for (size_t i = 0; i < sizeof quotes / sizeof *quotes; i++)
    CHECK_STRING(smn_quote(out, quotes[i].size, quotes[i].bytes, quotes[i].len),
                 quotes[i].quoted);
}

static void check_errors(void) {
  struct smn_error err = {.stage = SMN_STAGE_RCPT, .code = 550};
  CHECK_INT(smn_fail(&err, SMN_TLS, "%d of %s", 1, "x"), SMN_TLS);
  CHECK_INT(err.kind, SMN_TLS);
  CHECK_INT(err.stage, SMN_STAGE_RCPT);
  CHECK_INT(err.code, 0);
  CHECK_STRING(err.text, "1 of x");
  smn_fail_errno(&err, SMN_NETWORK, ECONNREFUSED, "cannot connect");
  CHECK_STRING(err.text, "cannot connect: Connection refused");
  smn_fail(&err, SMN_TLS, "%0*d", (int)sizeof err.text + 10, 1);
  CHECK_INT(strlen(err.text), sizeof err.text - 1);
  CHECK_STRING(smn_kind_name(SMN_TOO_LARGE), "too-large");
  CHECK_STRING(smn_stage_name(SMN_STAGE_END_OF_DATA), "end-of-data");
  for (int kind = SMN_OK; kind <= SMN_REPLY; kind++)
    CHECK(smn_kind_name(kind) != NULL);
  for (int stage = SMN_STAGE_QUEUED; stage <= SMN_STAGE_QUIT; stage++)
    CHECK(smn_stage_name(stage) != NULL);
}

/* job */

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

static void check_results(void) {
  struct smn_job *job = make_job("a@x", "b@y");
  struct smn_result result;
  CHECK(smn_result_init(&result, job));
  CHECK_INT(result.recipient_count, 1);
  CHECK_STRING(result.recipients[0].address, "b@y");
  CHECK(!result.recipients[0].accepted && !result.in_doubt);
  smn_result_free(&result);
  smn_result_free(&result);
  smn_job_free(job);
  smn_job_free(NULL);
}

/* wait */

static void check_waits(void) {
  struct smn_error err = {.kind = SMN_OK};
  int ends[2] = {-1, -1}, cancel[2] = {-1, -1};
  CHECK(smn_pipe(ends) && smn_pipe(cancel));
  CHECK_INT(
      smn_wait(ends[0], SMN_WAIT_READ, smn_now_ms() + 20, cancel[0], &err),
      SMN_TIMEOUT);
  CHECK_INT(write(ends[1], "", 1), 1);
  CHECK_INT(smn_wait(ends[0], SMN_WAIT_READ, smn_now_ms(), cancel[0], &err),
            SMN_OK);
  CHECK_INT(write(cancel[1], "", 1), 1);
  CHECK_INT(
      smn_wait(ends[0], SMN_WAIT_READ, smn_now_ms() + 60000, cancel[0], &err),
      SMN_CANCELLED);
  for (int i = 0; i < 2; i++) {
    close(ends[i]);
    close(cancel[i]);
  }
}

int main(void) {
  check_bounds(false);
  check_bounds(true);
  check_growth();
  check_secret_stays();
  check_quotes();
  check_errors();
  check_envelopes();
  check_servers();
  check_results();
  check_waits();
  return check_done("test-core");
}
