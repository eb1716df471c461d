/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-memory.c - the core's memory does not grow with the message, and little
   with jobs and events that wait.
   Each message is sent by a child process of its own, whose peak is compared
   with that for a small one.  A sanitizer has memory for itself, and so this
   runs without.  */
#include "certs.h"
#include "check.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "folder.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#define SMALL 1024L
#define MIB 1048576L
#define GROWTH_KIB 2048 /* that a message of any size may cost */

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

static void make_message(long octets) {
  char *file = in_folder("message");
  FILE *out = fopen(file, "w");
  for (long i = 0; out && i < octets; i += 64)
    fprintf(out, "%063ld\n", i);
  CHECK(out && fclose(out) == 0);
  free(file);
}

/* The peak of resident memory in KiB of a process that sends OCTETS.  */
static long peak(long octets, bool tls) {
  int port = 0, status = -1;
  make_message(octets);
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

/* What waits.  Bounds are of octets that were allocated, for one of MANY.  */

#define MANY 2000
#define JOB_MAX 1536  /* a job in the queue, with its texts */
#define EVENT_MAX 192 /* a line of a trace of 60 octets, or a progress */
#define DONE_MAX 4608 /* what came of a job, with TLS */

/* 0 where the C library does not tell.  */
static size_t allocated(void) {
#ifdef __GLIBC__
  return mallinfo2().uordblks;
#else
  return 0;
#endif
}

static void check_each(const char *what, size_t before, long bound) {
  long each = ((long)allocated() - (long)before) / MANY;
  printf("%s: %ld octets each\n", what, each);
  CHECK(each <= bound);
}

static void check_events(void) {
  char line[60];
  bool more;
  memset(line, 'x', sizeof line);
  size_t before = allocated();
  for (long i = 1; i <= MANY; i++)
    smn_events_trace(i, true, line, sizeof line);
  check_each("a trace event", before, EVENT_MAX);
  CHECK(smn_events_borrow(MANY, &more) && !more);
  smn_events_delivered(MANY);
  before = allocated();
  for (long i = 1; i <= MANY; i++)
    smn_events_progress(i, 1, 2);
  check_each("a progress event", before, EVENT_MAX);
  CHECK(smn_events_borrow(MANY, &more) && !more);
  smn_events_delivered(MANY);
  CHECK(allocated() <= before + 4096);
}

/* With a password, each copy of which would take a page.  */
static struct smn_job *queued_job(int port) {
  struct smn_job *job = make_job(port, true);
  job->server.authenticate = true;
  job->server.user = strdup("alice");
  job->server.max_sessions = 1;
  job->server.idle_ms = 10000;
  CHECK(smn_buf_init_secret(&job->server.password, 16) &&
        smn_buf_add_string(&job->server.password, "secret"));
  return job;
}

/* Jobs for a server that does not answer, until they are cancelled.  */
static void check_queue(void) {
  struct smn_error err;
  long first = 0, id = 0;
  int port = 0;
  bool more;
  int listening = peer_listen("127.0.0.1", &port);
  CHECK_INT(smn_engine_submit(queued_job(port), &first, &err), SMN_OK);
  size_t before = allocated();
  for (int i = 0; i < MANY; i++)
    CHECK_INT(smn_engine_submit(queued_job(port), &id, &err), SMN_OK);
  check_each("a job in the queue", before, JOB_MAX);
  for (long i = first + 1; i <= id; i++)
    CHECK(smn_engine_cancel(i));
  check_each("a job that was cancelled", before, JOB_MAX);
  CHECK(smn_engine_shutdown(0) || smn_engine_shutdown(10000));
  CHECK(smn_events_borrow(MANY + 1, &more) && !more);
  smn_events_delivered(MANY + 1);
  close(listening);
}

/* Play the server to MANY messages on one connection, in a process of its
   own.  */
static void serve_many(int listening) {
  static const char hello[] = "tls good\nS: 220 x\nC: EHLO *\nS: 250 x\n";
  static const char mail[] = "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\n"
                             "C: DATA\nS: 354 x\ndata\nS: 250 x\n";
  static struct peer peer = {.timeout_ms = 60000, .certs = folder};
  char *script = malloc(sizeof hello + (MANY + 1) * sizeof mail + 16);
  size_t at = sizeof hello - 1;
  memcpy(script, hello, at);
  for (int i = 0; i <= MANY; i++, at += sizeof mail - 1)
    memcpy(script + at, mail, sizeof mail);
  memcpy(script + at, "C: QUIT\n", sizeof "C: QUIT\n");
  peer.log = fopen("/dev/null", "w");
  _exit(peer_run(&peer, listening, script) ? 0 : 1);
}

/* Outcomes that nobody fetches.  */
static void check_done_events(void) {
  struct smn_error err;
  long id = 0;
  int port = 0, status = -1;
  bool more;
  int listening = peer_listen("127.0.0.1", &port);
  pid_t server = fork();
  if (server == 0)
    serve_many(listening);
  size_t before = allocated();
  for (int i = 0; i <= MANY; i++) {
    struct smn_job *job = make_job(port, true);
    job->server.max_sessions = 1;
    job->server.idle_ms = 10000;
    CHECK_INT(smn_engine_submit(job, &id, &err), SMN_OK);
  }
  CHECK(smn_engine_shutdown(60000));
  CHECK(waitpid(server, &status, 0) == server && status == 0);
  check_each("an outcome", before, DONE_MAX);
  size_t good = 0;
  for (const struct smn_event *event = smn_events_borrow(SIZE_MAX, &more);
       event; event = event->next)
    good += event->type == SMN_EVENT_DONE && event->result &&
            event->result->error.kind == SMN_OK && event->result->seen;
  CHECK_INT(good, MANY + 1);
  smn_events_delivered(SIZE_MAX);
  close(listening);
}

int main(void) {
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  fflush(stdout);
  check_growth(false);
  check_growth(true);
  make_message(SMALL);
  check_events();
  check_queue();
  check_done_events();
  certs_remove(folder);
  return check_done("test-memory");
}
