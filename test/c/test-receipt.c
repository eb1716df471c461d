/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-receipt.c - receipts and claims, on a good disk and on bad ones.  */
#include "base/redact.h"
#include "check.h"
#include "folder.h"
#include "mail/claim.h"
#include "mail/receipt.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *path(const char *name) {
  static char made[2][256];
  static int which;
  which = !which;
  snprintf(made[which], sizeof made[which], "%s/%s", folder, name);
  return made[which];
}

static void put(const char *name, const char *text) {
  FILE *out = fopen(path(name), "w");
  if (CHECK(out != NULL)) {
    fputs(text, out);
    fclose(out);
  }
}

static char *get(const char *name) {
  static char text[1 << 20];
  FILE *in = fopen(path(name), "r");
  size_t len = in ? fread(text, 1, sizeof text - 1, in) : 0;
  if (in)
    fclose(in);
  text[len] = '\0';
  return text;
}

static struct smn_job *make_job(size_t recipients) {
  char address[64];
  struct smn_job *job = smn_job_new();
  job->entry = strdup(folder);
  job->attempt = 7;
  job->recipients = calloc(recipients + 1, sizeof *job->recipients);
  for (size_t i = 0; i < recipients; i++) {
    snprintf(address, sizeof address, "r%zu@example.org", i);
    job->recipients[i] = strdup(address);
  }
  return job;
}

/* What is written */

static void check_text(void) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_result result;
  struct smn_job *job = make_job(2);
  CHECK(smn_result_init(&result, job));
  result.error.kind = SMN_REPLY;
  result.error.stage = SMN_STAGE_RCPT;
  result.error.code = 550;
  snprintf(result.error.text, sizeof result.error.text,
           "a \"quote\", a \\\\ and \xc3\xa4\xff");
  snprintf(result.error.enhanced, sizeof result.error.enhanced, "5.1.1");
  result.octets = 12345678901u;
  result.token_refused = true;
  snprintf(result.notes, sizeof result.notes, "noted");
  result.recipients[0].accepted = true;
  result.recipients[0].code = 250;
  result.recipients[1].code = 550;
  result.recipients[1].text = strdup("\"");
  CHECK_INT(smn_receipt_write(job, &result, &err), SMN_OK);
  char *text = get("receipt");
  CHECK(strncmp(text, "(:attempt 7\n :partial nil\n :time ", 33) == 0);
  CHECK(strstr(text, "\n :kind reply\n :stage rcpt\n :code 550\n"));
  CHECK(
      strstr(text, ":text \"a \\\"quote\\\", a \\\\\\\\ and \xc3\xa4\xff\"\n"));
  CHECK(strstr(text, "\n :in-doubt nil\n :octets 12345678901\n :reply nil\n"));
  /* Every key of a result, in its form.  */
  struct smn_value value;
  const char *name;
  char line[64];
  for (size_t i = 0; (name = smn_result_value(&result, i, &value)); i++) {
    snprintf(line, sizeof line, "\n %s ", name);
    CHECK((strstr(text, line) != NULL) == !value.fleeting);
  }
  CHECK(strstr(text, "\n :passphrase-wanted nil\n") &&
        strstr(text, "\n :token-refused t\n") &&
        strstr(text, "\n :notes \"noted\"\n") &&
        strstr(text, "\n :more nil\n"));
  CHECK(strstr(text, "\n  (\"r0@example.org\" t 250 \"\" nil)"
                     "\n  (\"r1@example.org\" nil 550 \"\" \"\\\"\")))\n"));
  struct stat stat_of;
  CHECK_INT(stat(path("receipt"), &stat_of), 0);
  CHECK_INT(stat_of.st_mode & 0777, 0600);
  CHECK(access(path("receipt.new"), F_OK) != 0);
  smn_result_free(&result);
  smn_job_free(job);
}

static void check_doubt(void) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_result result;
  struct smn_job *job = make_job(1);
  CHECK(smn_result_init(&result, job));
  CHECK_INT(smn_receipt_doubt(job, &result, &err), SMN_OK);
  CHECK(strstr(get("receipt"), "\n :in-doubt t\n"));
  CHECK(strstr(get("receipt"), "\n :kind network\n"));
  CHECK(!result.in_doubt);
  CHECK_INT(result.error.kind, SMN_OK);
  CHECK_INT(smn_receipt_write(job, &result, &err), SMN_OK);
  CHECK(strstr(get("receipt"), "\n :in-doubt nil\n"));
  CHECK(strstr(get("receipt"), "\n :kind ok\n"));
  smn_result_free(&result);
  smn_job_free(job);
}

static void check_many(void) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_result result;
  struct smn_job *job = make_job(10000);
  CHECK(smn_result_init(&result, job));
  CHECK_INT(smn_receipt_write(job, &result, &err), SMN_OK);
  const char *text = get("receipt");
  CHECK(strstr(text, "\n  (\"r9999@example.org\" nil 0 \"\" nil)))\n"));
  smn_result_free(&result);
  smn_job_free(job);
}

/* A server may say a lot to each of many.  */
static void check_long_replies(void) {
  static char reply[65536];
  static const struct smn_buf none;
  enum { MANY = 64 };
  struct smn_error err = {.kind = SMN_OK};
  struct smn_result result;
  struct smn_job *job = make_job(MANY);
  CHECK(smn_result_init(&result, job));
  memset(reply, '\x01', sizeof reply); /* four octets each when shown */
  for (size_t i = 0; i < MANY; i++)
    result.recipients[i].text = smn_result_shown(&none, 0, reply, sizeof reply);
  result.reply = smn_result_shown(&none, 250, reply, sizeof reply);
  size_t len = strlen(result.reply);
  CHECK(len > 500 && len <= 512 && strcmp(result.reply + len - 3, "...") == 0);
  CHECK(strncmp(result.reply, "250 \\x01\\x01", 12) == 0);
  CHECK(strlen(result.recipients[MANY - 1].text) <= 512);
  /* The cut leaves no beginning of a secret.  */
  struct smn_buf needles;
  CHECK(smn_buf_init_secret(&needles, 256));
  smn_redact_add(&needles, "pass-word-4711", 14);
  memset(reply, 'x', sizeof reply);
  memcpy(reply + 495, " pass-word-4711 ", 16);
  char *text = smn_result_shown(&needles, 0, reply, sizeof reply);
  CHECK(strstr(text, "x <omitted") && !strstr(text, "pa"));
  free(text);
  smn_buf_free(&needles);
  CHECK_INT(smn_receipt_write(job, &result, &err), SMN_OK);
  CHECK(
      strstr(get("receipt"), "\n  (\"r63@example.org\" nil 0 \"\" \"\\\\x01"));
  smn_result_free(&result);
  smn_job_free(job);
}

/* What cannot be written */

static enum smn_kind write_in(const char *entry, struct smn_error *err) {
  struct smn_result result;
  struct smn_job *job = make_job(1000);
  free(job->entry);
  job->entry = strdup(entry);
  CHECK(smn_result_init(&result, job));
  enum smn_kind kind = smn_receipt_write(job, &result, err);
  smn_result_free(&result);
  smn_job_free(job);
  return kind;
}

static void check_no_entry(void) {
  struct smn_error err = {.kind = SMN_OK};
  CHECK_INT(write_in(path("nowhere"), &err), SMN_FILE);
  CHECK(strstr(err.text, "cannot write") && strstr(err.text, "No such file"));
  CHECK_INT(write_in(path("receipt"), &err), SMN_FILE);
  CHECK_INT(smn_receipt_sync(path("nowhere"), &err), SMN_FILE);
  CHECK(strstr(err.text, "No such file"));
}

/* No file may grow: the disk is as good as full.  What stood there stays.  */
static void check_full(void) {
  struct smn_error err = {.kind = SMN_OK};
  struct rlimit before, none = {0, 0};
  put("receipt", "old");
  getrlimit(RLIMIT_FSIZE, &before);
  none.rlim_max = before.rlim_max;
  none.rlim_cur = 4096;
  signal(SIGXFSZ, SIG_IGN);
  fflush(stdout);
  CHECK_INT(setrlimit(RLIMIT_FSIZE, &none), 0);
  enum smn_kind kind = write_in(folder, &err);
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK_INT(kind, SMN_FILE);
  CHECK(strstr(err.text, "File too large"));
  CHECK_STRING(get("receipt"), "old");
  CHECK_INT(write_in(folder, &err), SMN_OK);
}

static void check_link(void) {
  struct smn_error err = {.kind = SMN_OK};
  put("elsewhere", "precious");
  unlink(path("receipt.new"));
  CHECK_INT(symlink("elsewhere", path("receipt.new")), 0);
  CHECK_INT(write_in(folder, &err), SMN_OK);
  CHECK_STRING(get("elsewhere"), "precious");
  CHECK_INT(symlink("nowhere", path("dangling")), 0);
  CHECK_INT(smn_receipt_sync(folder, &err), SMN_OK);
}

/* Claims */

static void check_claims(void) {
  struct smn_error err = {.kind = SMN_OK};
  int first = 0, second = 0;
  CHECK_INT(smn_claim_take(path("lock"), &first, &err), SMN_OK);
  CHECK(first > 0);
  CHECK_INT(smn_claim_take(path("lock"), &second, &err), SMN_OK);
  CHECK_INT(second, 0);
  /* Whoever looks at the file and closes it takes nothing away.  */
  close(open(path("lock"), O_RDONLY));
  CHECK_INT(smn_claim_take(path("lock"), &second, &err), SMN_OK);
  CHECK_INT(second, 0);
  CHECK(smn_claim_release(first));
  CHECK(!smn_claim_release(first));
  CHECK(!smn_claim_release(0));
  CHECK_INT(smn_claim_take(path("lock"), &second, &err), SMN_OK);
  CHECK(second > first);
  CHECK(smn_claim_release(second));
}

static void check_claim_files(void) {
  struct smn_error err = {.kind = SMN_OK};
  int claim = 1;
  CHECK_INT(smn_claim_take(path("gone/lock"), &claim, &err), SMN_OK);
  CHECK_INT(claim, 0);
  CHECK_INT(smn_claim_take(path("receipt/lock"), &claim, &err), SMN_FILE);
  CHECK(strstr(err.text, "cannot lock"));
  CHECK_INT(mkfifo(path("fifo"), 0600), 0);
  claim = 1;
  CHECK_INT(smn_claim_take(path("fifo"), &claim, &err), SMN_FILE);
  CHECK_INT(claim, 0);
  unlink(path("fifo"));
  CHECK_INT(symlink("lock", path("link")), 0);
  CHECK_INT(smn_claim_take(path("link"), &claim, &err), SMN_FILE);
  CHECK_INT(claim, 0);
}

/* The kernel lets go of what the dead have claimed.  */
static void check_killed(void) {
  struct smn_error err = {.kind = SMN_OK};
  int ready[2], claim = 0;
  char octet = 0;
  CHECK_INT(pipe(ready), 0);
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) {
    int own = 0;
    (void)smn_claim_take(path("lock"), &own, &err);
    octet = own > 0;
    (void)!write(ready[1], &octet, 1);
    pause();
    _exit(0);
  }
  CHECK_INT(read(ready[0], &octet, 1), 1);
  CHECK_INT(octet, 1);
  CHECK_INT(smn_claim_take(path("lock"), &claim, &err), SMN_OK);
  CHECK_INT(claim, 0);
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  CHECK_INT(smn_claim_take(path("lock"), &claim, &err), SMN_OK);
  CHECK(claim > 0);
  CHECK(smn_claim_release(claim));
  close(ready[0]);
  close(ready[1]);
}

static void clean(void) {
  static const char *const names[] = {"receipt", "receipt.new", "elsewhere",
                                      "lock",    "link",        "dangling"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    unlink(path(names[i]));
  rmdir(folder);
}

int main(void) {
  if (!mkdtemp(folder)) {
    perror(folder);
    return 1;
  }
  check_text();
  check_doubt();
  check_many();
  check_long_replies();
  check_no_entry();
  check_full();
  check_link();
  check_claims();
  check_claim_files();
  check_killed();
  clean();
  return check_done("test-receipt");
}
