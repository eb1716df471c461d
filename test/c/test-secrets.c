/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-secrets.c - what the heap still holds after a mail was sent.
   The server is a child process, so that only the core can have left anything.
   The needles are kept disguised here, not to be found themselves.  A
   sanitizer keeps freed memory as it was, and so this runs without.  */
#include "check.h"
#include "peer-run.h"
#include "session.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISGUISE 0x55
#define PASSWORD "correct-horse-4711-battery"
#define BASE64 "Y29ycmVjdC1ob3JzZS00NzExLWJhdHRlcnk="
#define PLAIN "AHVzZXIAY29ycmVjdC1ob3JzZS00NzExLWJhdHRlcnk="

struct needle {
  unsigned char octets[128];
  size_t len;
};

static void disguise(struct needle *needle, const char *text) {
  needle->len = strlen(text);
  for (size_t i = 0; i < needle->len; i++)
    needle->octets[i] = (unsigned char)text[i] ^ DISGUISE;
}

static bool holds(const unsigned char *at, size_t len,
                  const struct needle *needle) {
  for (size_t i = 0; i + needle->len <= len; i++) {
    size_t n = 0;
    while (n < needle->len && (at[i + n] ^ DISGUISE) == needle->octets[n])
      n++;
    if (n == needle->len)
      return true;
  }
  return false;
}

/* How many of the needles stand in the heap and in anonymous memory.  */
static int search(const struct needle *needles, int count) {
  FILE *maps = fopen("/proc/self/maps", "r");
  char line[512];
  int found = 0;
  while (maps && fgets(line, sizeof line, maps)) {
    unsigned long from, to;
    char mode[8], path[256] = "";
    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, mode, path) <
            3 ||
        strncmp(mode, "rw", 2) != 0 || (path[0] && strcmp(path, "[heap]") != 0))
      continue;
    for (int i = 0; i < count; i++)
      if (holds((const unsigned char *)from, to - from, &needles[i])) {
        printf("needle %d stands in %s", i, line);
        found++;
      }
  }
  if (maps)
    fclose(maps);
  return found;
}

static void serve(int listening, const char *mechanism) {
  static struct peer peer = {.timeout_ms = 10000};
  char script[1024];
  peer.log = fopen("/dev/null", "w");
  snprintf(script, sizeof script,
           "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250 AUTH %s\nauth %s user %s\n"
           "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\nC: DATA\nS: 354 x\n"
           "data\nS: 250 x\nC: QUIT\n",
           mechanism, mechanism, PASSWORD);
  _exit(peer_run(&peer, listening, script) ? 0 : 1);
}

static struct smn_job *make_job(int port, const char *file,
                                const struct needle *password) {
  struct smn_job *job = smn_job_new();
  job->server.host = strdup("127.0.0.1");
  job->server.port = port;
  job->server.helo = strdup("client.example");
  job->server.timeout_ms = 10000;
  job->server.cleartext = SMN_CLEARTEXT_LOOPBACK;
  job->server.authenticate = true;
  job->server.user = strdup("user");
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof(char *));
  job->recipients[0] = strdup("b@example.org");
  job->file = strdup(file);
  CHECK(smn_buf_init_secret(&job->server.password, 128));
  char *room = smn_buf_reserve(&job->server.password, password->len);
  for (size_t i = 0; i < password->len; i++)
    room[i] = (char)(password->octets[i] ^ DISGUISE);
  job->server.password.len = password->len;
  return job;
}

static void check_mechanism(const char *mechanism, const char *file,
                            const struct needle *needles, int count) {
  const struct smn_observer observer = {.cancel_fd = -1};
  struct smn_result result;
  int port = 0, status = -1;
  int listening = peer_listen("127.0.0.1", &port);
  pid_t child = fork();
  if (child == 0)
    serve(listening, mechanism);
  struct smn_job *job = make_job(port, file, &needles[0]);
  CHECK(smn_result_init(&result, job));
  CHECK_INT(smn_session_run(job, &observer, &result), SMN_OK);
  CHECK_STRING(result.mechanism, mechanism);
  smn_result_free(&result);
  smn_job_free(job);
  close(listening);
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK_INT(search(needles, count), 0);
}

int main(void) {
  static const char *const mechanisms[] = {"PLAIN", "LOGIN", "CRAM-MD5",
                                           "SCRAM-SHA-1", "SCRAM-SHA-256"};
  static struct needle needles[3];
  char file[] = "/tmp/smtpmail-native-XXXXXX";
  int fd = mkstemp(file);
  disguise(&needles[0], PASSWORD);
  disguise(&needles[1], BASE64);
  disguise(&needles[2], PLAIN);
  CHECK(fd >= 0 && write(fd, "x\n", 2) == 2);
  for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++)
    check_mechanism(mechanisms[i], file, needles, 3);
  /* The search does find what is there.  */
  char *left = malloc(64);
  snprintf(left, 64, "%s", PASSWORD);
  CHECK_INT(search(needles, 1), 1);
  free(left);
  close(fd);
  unlink(file);
  return check_done("test-secrets");
}
