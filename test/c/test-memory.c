/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-memory.c - the core's memory does not grow with the message.
   Each mail is sent by a child process of its own, whose peak is compared with
   that for a small one.  A sanitizer has memory for itself, and so this runs
   without.  */
#include "certs.h"
#include "check.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SMALL 1024L
#define MIB 1048576L
#define GROWTH_KIB 2048 /* that a message of any size may cost */

static char folder[] = "/tmp/smtpmail-native-XXXXXX";

static char *in_folder(const char *name) {
  char path[600];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return strdup(path);
}

/* In a process of its own: play the server, and end.  */
static void serve(int listening, bool tls) {
  static struct peer peer = {.timeout_ms = 60000, .certs = folder};
  char script[512];
  peer.log = fopen("/dev/null", "w");
  snprintf(script, sizeof script,
           "%sS: 220 x\nC: EHLO *\nS: 250-x\nS: 250 SIZE\nC: MAIL *\n"
           "S: 250 x\nC: RCPT *\nS: 250 x\nC: DATA\nS: 354 x\ndata\n"
           "S: 250 x\nC: QUIT\n",
           tls ? "tls good\n" : "");
  _exit(peer_run(&peer, listening, script) ? 0 : 1);
}

static struct smn_job *make_job(int port, bool tls) {
  struct smn_job *job = smn_job_new();
  job->server.host = strdup("127.0.0.1");
  job->server.port = port;
  job->server.helo = strdup("client.example");
  job->server.timeout_ms = 60000;
  job->server.stream = tls ? SMN_STREAM_TLS : SMN_STREAM_PLAIN;
  job->server.trustfiles = calloc(2, sizeof(char *));
  job->server.trustfiles[0] = in_folder("ca.pem");
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof(char *));
  job->recipients[0] = strdup("b@example.org");
  job->file = in_folder("message");
  return job;
}

/* In a process of its own: send the mail, and end by telling whether it is
   sent.  */
static void send_mail(int port, bool tls) {
  const struct smn_observer observer = {.cancel_fd = -1};
  struct smn_result result;
  struct smn_job *job = make_job(port, tls);
  _exit(smn_result_init(&result, job) &&
                smn_session_run(job, &observer, &result) == SMN_OK
            ? 0
            : 1);
}

/* The peak of resident memory in KiB of a process that sends OCTETS.  */
static long peak(long octets, bool tls) {
  int port = 0, status = -1;
  char *file = in_folder("message");
  FILE *out = fopen(file, "w");
  for (long i = 0; out && i < octets; i += 64)
    fprintf(out, "%063ld\n", i);
  CHECK(out && fclose(out) == 0);
  free(file);
  int listening = peer_listen("127.0.0.1", &port);
  pid_t server = fork();
  if (server == 0)
    serve(listening, tls);
  pid_t client = fork();
  if (client == 0)
    send_mail(port, tls);
  struct rusage used = {.ru_maxrss = 0};
  CHECK(wait4(client, &status, 0, &used) == client && status == 0);
  CHECK(waitpid(server, &status, 0) == server && status == 0);
  close(listening);
  return used.ru_maxrss;
}

static void check_growth(bool tls) {
  static const long sizes[] = {25 * MIB, 100 * MIB};
  long small = peak(SMALL, tls);
  CHECK(small > 0);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    long large = peak(sizes[i], tls);
    printf("%s: %ld KiB of memory for 1 KiB, %ld KiB for %ld MiB\n",
           tls ? "TLS" : "plain", small, large, sizes[i] / MIB);
    CHECK(large - small <= GROWTH_KIB);
  }
}

static void remove_folder(void) {
  struct dirent **entries = NULL;
  int count = scandir(folder, &entries, NULL, NULL);
  for (int i = 0; i < count; i++) {
    char *file = in_folder(entries[i]->d_name);
    unlink(file);
    free(file);
    free(entries[i]);
  }
  free(entries);
  rmdir(folder);
}

int main(void) {
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  fflush(stdout);
  check_growth(false);
  check_growth(true);
  remove_folder();
  return check_done("test-memory");
}
