/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bench-engine.c - the engine as a program, without Emacs.
   bench-engine STREAM PORT CA FILE MAILS [chunking]: send FILE so many times in
   one session to 127.0.0.1, with AUTH PLAIN, STREAM being plain, starttls or
   tls.  It prints the milliseconds until the server has taken each mail, from
   the start, and then the KiB that it has used at most.  */
#include "base/wait.h"
#include "engine/engine.h"
#include "engine/events.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static struct smn_job *make_job(char **argv, bool chunking) {
  struct smn_job *job = smn_job_new();
  struct smn_server *server = &job->server;
  server->host = strdup("127.0.0.1");
  server->port = (int)strtol(argv[2], NULL, 10);
  server->helo = strdup("client.example");
  server->timeout_ms = 60000;
  server->idle_ms = 10000;
  server->max_sessions = 1;
  server->stream = strcmp(argv[1], "tls") == 0        ? SMN_STREAM_TLS
                   : strcmp(argv[1], "starttls") == 0 ? SMN_STREAM_STARTTLS
                                                      : SMN_STREAM_PLAIN;
  server->cleartext = SMN_CLEARTEXT_LOOPBACK;
  server->trustfiles = calloc(2, sizeof(char *));
  server->trustfiles[0] = strdup(argv[3]);
  server->authenticate = true;
  server->user = strdup("alice");
  if (!smn_buf_init_secret(&server->password, 16) ||
      !smn_buf_add_string(&server->password, "secret"))
    exit(70);
  job->sender = strdup("alice@example.org");
  job->recipients = calloc(2, sizeof(char *));
  job->recipients[0] = strdup("bob@example.org");
  job->file = strdup(argv[4]);
  job->chunking = chunking;
  return job;
}

int main(int argc, char **argv) {
  int wake[2];
  struct smn_error err;
  long id;
  if (argc < 6 || !smn_pipe(wake))
    return 64;
  double start = now_ms();
  smn_events_wake(wake[1]);
  long left = strtol(argv[5], NULL, 10);
  for (long i = 0; i < left; i++)
    if (smn_engine_submit(make_job(argv, argc > 6), &id, &err) != SMN_OK)
      return 70;
  while (left > 0) {
    struct pollfd waiting = {.fd = wake[0], .events = POLLIN};
    char octet;
    bool more;
    if (poll(&waiting, 1, -1) < 0 || read(wake[0], &octet, 1) != 1)
      return 70;
    size_t events = 0;
    for (const struct smn_event *event = smn_events_borrow(SIZE_MAX, &more);
         event; event = event->next) {
      events++;
      if (event->type == SMN_EVENT_DONE) {
        left--;
        if (event->result->error.kind != SMN_OK) {
          fprintf(stderr, "%s\n", event->result->error.text);
          return 1;
        }
        printf("%.3f\n", now_ms() - start);
      }
    }
    smn_events_delivered(events);
  }
  smn_engine_shutdown(5000);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  printf("peak %ld\n", used.ru_maxrss);
  return 0;
}
