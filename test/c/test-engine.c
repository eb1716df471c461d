/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-engine.c - jobs in a queue, sessions that are kept, wishes to cancel.
   The server is the scripted peer, in a thread of its own; the test goes on
   when an event has come, never after a while.  */
#include "check.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "folder.h"
#include "peer-run.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define REST                                                                   \
  "C: RCPT TO:<b@example.org>\nS: 250 x\nC: DATA\nS: 354 x\ndata\nS: 250 x\n"
#define MAIL "C: MAIL FROM:<a@example.org>*\nS: 250 x\n" REST
#define HELLO "S: 220 x\nC: EHLO *\nS: 250 x\n"
#define PIPELINES "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250 PIPELINING\n"

#define LIMITED "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250 LIMITS MAILMAX=2\n"
#define OFFER "S: 250-x\nS: 250-PIPELINING\nS: 250 PIPECONNECT\n"
#define OFFERED "S: 220 x\nC: EHLO *\n" OFFER
#define FLIGHT "C: MAIL *\nC: RCPT *\nC: DATA\n"
#define TAKEN "S: 250 x\nS: 250 x\nS: 354 x\ndata\nS: 250 x\nC: QUIT\n"

static char message[64];
static int wake[2];

struct server {
  struct peer peer;
  pthread_t thread;
  const char *script;
  int listening, port;
  bool behaved;
  char *log;
  size_t size;
};

static void *serve(void *argument) {
  struct server *server = argument;
  server->behaved = peer_run(&server->peer, server->listening, server->script);
  return NULL;
}

static struct server *make(const char *script) {
  struct server *server = calloc(1, sizeof *server);
  server->script = script;
  server->peer.timeout_ms = 10000;
  server->peer.log = open_memstream(&server->log, &server->size);
  server->listening = peer_listen("127.0.0.1", &server->port);
  return server;
}

static struct server *start(struct server *server) {
  CHECK_INT(pthread_create(&server->thread, NULL, serve, server), 0);
  return server;
}

/* What is remembered of a server is remembered by its port, and so none is
   used twice: they stay open until the end.  */
static int ports[100];
static size_t port_count;

/* The server has seen all that its script says.  */
static void stop(struct server *server, const char *name) {
  pthread_join(server->thread, NULL);
  if (server->listening >= 0 && CHECK(port_count < 100))
    ports[port_count++] = server->listening;
  fclose(server->peer.log);
  if (!CHECK(server->behaved))
    printf("%s: %s\n%s", name, server->peer.why, server->log);
  free(server->log);
  free(server);
}

/* A second connection to the server of ONE, with another SCRIPT.  */
static struct server *beside(const struct server *one, const char *script) {
  struct server *server = calloc(1, sizeof *server);
  server->script = script;
  server->peer.timeout_ms = 10000;
  server->peer.log = open_memstream(&server->log, &server->size);
  server->listening = dup(one->listening);
  return start(server);
}

static struct smn_job *make_job(const struct server *server, int idle_ms) {
  struct smn_job *job = smn_job_new();
  job->server.host = strdup("127.0.0.1");
  job->server.port = server->port;
  job->server.helo = strdup("client.example");
  job->server.timeout_ms = 10000;
  job->server.idle_ms = idle_ms;
  job->server.max_sessions = 1;
  job->server.stream = SMN_STREAM_PLAIN;
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof(char *));
  job->recipients[0] = strdup("b@example.org");
  job->file = strdup(message);
  return job;
}

static long submit_job(struct smn_job *job) {
  struct smn_error err = {.kind = SMN_OK};
  long id = 0;
  CHECK_INT(smn_engine_submit(job, &id, &err), SMN_OK);
  return id;
}

static long submit(const struct server *server, int idle_ms) {
  return submit_job(make_job(server, idle_ms));
}

/* The same for an account with two sessions.  */
static long submit_two(const struct server *server) {
  struct smn_job *job = make_job(server, 10000);
  job->server.max_sessions = 2;
  return submit_job(job);
}

/* What came of the job whose event came last, in words.  */
static char reason[2048];

/* Wait for COUNT outcomes; their kinds go to KINDS in the order of ids from
   FIRST on.  */
static void await(int count, long first, enum smn_kind *kinds) {
  while (count > 0) {
    struct pollfd waiting = {.fd = wake[0], .events = POLLIN};
    char octet;
    bool more;
    if (!CHECK(poll(&waiting, 1, 15000) > 0 && read(wake[0], &octet, 1) == 1))
      return;
    size_t events = 0;
    for (const struct smn_event *event = smn_events_borrow(SIZE_MAX, &more);
         event; event = event->next) {
      events++;
      if (event->type == SMN_EVENT_DONE && event->id >= first) {
        kinds[event->id - first] =
            event->result ? event->result->error.kind : event->kind;
        snprintf(reason, sizeof reason, "%s",
                 event->result ? event->result->error.text
                 : event->text ? event->text
                               : "");
        count--;
      }
    }
    smn_events_delivered(events);
  }
}

/* The script may await that all messages are there.  */
static void check_kept(const char *name, const char *script, int mails) {
  enum smn_kind kinds[8] = {SMN_OK};
  int ends[2] = {-1, -1};
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct server *server = make(script);
  server->peer.cancel_fd = ends[0];
  start(server);
  long first = submit(server, 10000);
  for (int i = 1; i < mails; i++)
    submit(server, 10000);
  CHECK(write(ends[1], "", 1) == 1);
  await(mails, first, kinds);
  for (int i = 0; i < mails; i++)
    CHECK_INT(kinds[i], SMN_OK);
  CHECK(smn_engine_shutdown(5000)); /* says QUIT */
  stop(server, name);
  close(ends[0]);
  close(ends[1]);
}

/* One mail after the other, each when the last one is done.  */
static void check_idle(void) {
  enum smn_kind kind = SMN_SYSTEM;
  struct server *server = start(make(HELLO MAIL MAIL "C: QUIT\n"));
  for (int i = 0; i < 2; i++) {
    long id = submit(server, 10000);
    await(1, id, &kind);
    CHECK_INT(kind, SMN_OK);
  }
  CHECK(smn_engine_shutdown(5000));
  stop(server, "idle");
}

/* A look at the server has a connection of its own, also between messages for
   the same account: the one that sends them must not take it for a message.  */
static void check_probe(void) {
  enum smn_kind kinds[3] = {SMN_SYSTEM, SMN_SYSTEM, SMN_SYSTEM};
  int ends[2] = {-1, -1};
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct server *server = make("await\n" HELLO MAIL "C: QUIT\nnext\n" HELLO
                               "C: QUIT\nnext\n" HELLO MAIL "C: QUIT\n");
  server->peer.cancel_fd = ends[0];
  start(server);
  long first = submit(server, 10000);
  struct smn_job *job = make_job(server, 10000);
  job->probe = true;
  free(job->file);
  job->file = NULL;
  submit_job(job);
  submit(server, 10000);
  CHECK(write(ends[1], "", 1) == 1);
  await(3, first, kinds);
  for (int i = 0; i < 3; i++)
    CHECK_INT(kinds[i], SMN_OK);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "probe");
  close(ends[0]);
  close(ends[1]);
}

/* The server has closed meanwhile: that is nobody's failure.  */
static void check_closed_while_idle(void) {
  enum smn_kind kind = SMN_SYSTEM;
  struct server *server =
      start(make(HELLO MAIL "close\nnext\n" HELLO MAIL "C: QUIT\n"));
  for (int i = 0; i < 2; i++) {
    long id = submit(server, 10000);
    await(1, id, &kind);
    CHECK_INT(kind, SMN_OK);
  }
  CHECK(smn_engine_shutdown(5000));
  stop(server, "closed while idle");
}

/* It closes when the next MAIL comes: once more, on a fresh connection.  */
static void check_421_on_reuse(void) {
  enum smn_kind kinds[2] = {SMN_SYSTEM, SMN_SYSTEM};
  struct server *server = start(make(
      HELLO MAIL "C: MAIL *\nS: 421 x\nclose\nnext\n" HELLO MAIL "C: QUIT\n"));
  long first = submit(server, 10000);
  submit(server, 10000);
  await(2, first, kinds);
  CHECK_INT(kinds[0], SMN_OK);
  CHECK_INT(kinds[1], SMN_OK);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "421 on reuse");
}

/* A refused mail does not harm the next: RSET.  */
static void check_refused_between(void) {
  enum smn_kind kinds[3] = {SMN_SYSTEM, SMN_SYSTEM, SMN_SYSTEM};
  struct server *server = start(
      make(HELLO MAIL "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 550 x\nC: RSET\n"
                      "S: 250 x\n" MAIL "C: QUIT\n"));
  long first = submit(server, 10000);
  submit(server, 10000);
  submit(server, 10000);
  await(3, first, kinds);
  CHECK_INT(kinds[0], SMN_OK);
  CHECK_INT(kinds[1], SMN_REPLY);
  CHECK_INT(kinds[2], SMN_OK);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "refused between");
}

/* The same when the next one comes later: what was refused is not to be mixed
   with it.  */
static void check_refused_before_idle(void) {
  enum smn_kind kind = SMN_SYSTEM;
  struct server *server =
      start(make(HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 550 x\nC: RSET\n"
                       "S: 250 x\n" MAIL "C: QUIT\n"));
  await(1, submit(server, 10000), &kind);
  CHECK_INT(kind, SMN_REPLY);
  await(1, submit(server, 10000), &kind);
  CHECK_INT(kind, SMN_OK);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "refused before idle");
}

/* Where nobody gets in, each is told so, and nobody tries again.  */
static void check_shared_failure(void) {
  enum smn_kind kinds[3] = {SMN_SYSTEM, SMN_SYSTEM, SMN_SYSTEM};
  int ends[2] = {-1, -1};
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct server *server = make("await\nS: 554 x\nC: QUIT\n");
  server->peer.cancel_fd = ends[0];
  start(server);
  long first = submit(server, 0);
  submit(server, 0);
  submit(server, 0);
  CHECK(write(ends[1], "", 1) == 1); /* all three are there */
  await(3, first, kinds);
  for (int i = 0; i < 3; i++)
    CHECK_INT(kinds[i], SMN_REPLY);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "shared failure");
  close(ends[0]);
  close(ends[1]);
}

/* What waits is cancelled at once, what is sent as soon as may be; the one
   behind it goes out.  */
static void check_cancel(void) {
  enum smn_kind kinds[3] = {SMN_SYSTEM, SMN_SYSTEM, SMN_SYSTEM};
  int ends[2] = {-1, -1};
  char octet = 0;
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct server *server = make("cancel\nstall\nnext\n" HELLO MAIL "C: QUIT\n");
  server->peer.cancel_fd = ends[0];
  start(server);
  long first = submit(server, 0);
  submit(server, 0);
  submit(server, 0);
  CHECK(read(ends[1], &octet, 1) == 1); /* the first is under way */
  CHECK(smn_engine_cancel(first + 1));
  await(1, first, kinds);
  CHECK_INT(kinds[1], SMN_CANCELLED);
  CHECK(smn_engine_cancel(first));
  await(2, first, kinds);
  CHECK_INT(kinds[0], SMN_CANCELLED);
  CHECK_INT(kinds[2], SMN_OK);
  CHECK(!smn_engine_cancel(first));
  CHECK(smn_engine_shutdown(5000));
  stop(server, "cancel");
  close(ends[0]);
  close(ends[1]);
}

/* The commands of the second have left while the first waits for the answer to
   its end: to cancel the second must leave the first alone, and is told before
   the first is answered.  */
static void check_cancel_ahead(void) {
  enum smn_kind kinds[2] = {SMN_SYSTEM, SMN_SYSTEM};
  int ends[2] = {-1, -1};
  char octet = 0;
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  struct server *server = make(
      PIPELINES FLIGHT "S: 250 x\nS: 250 x\nawait\nS: 354 x\n"
                       "data\nC: MAIL *\nC: RCPT *\nC: DATA\ncancel\nawait\n"
                       "S: 250 x\nS: 250 x\nS: 250 x\nS: 354 x\nstall\n");
  server->peer.cancel_fd = ends[0];
  start(server);
  long first = submit(server, 10000);
  submit(server, 10000);
  CHECK(write(ends[1], "", 1) == 1);
  CHECK(read(ends[1], &octet, 1) == 1);
  CHECK(smn_engine_cancel(first + 1));
  await(1, first + 1, &kinds[1]);
  CHECK_INT(kinds[1], SMN_CANCELLED);
  CHECK(!smn_engine_cancel(first + 1));
  CHECK(write(ends[1], &octet, 1) == 1);
  await(1, first, kinds);
  CHECK_INT(kinds[0], SMN_OK);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "cancel ahead");
  close(ends[0]);
  close(ends[1]);
}

/* The message of the second is a FIFO.  The wish to cancel the first must not
   get lost when the second is over.  */
static void check_cancel_before_unreadable(void) {
  enum smn_kind kinds[2] = {SMN_SYSTEM, SMN_SYSTEM};
  char fifo[80];
  int ends[2] = {-1, -1}, writer = -1;
  char octet = 0;
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  snprintf(fifo, sizeof fifo, "%s/fifo", folder);
  CHECK_INT(mkfifo(fifo, 0600), 0);
  struct server *server =
      make(PIPELINES FLIGHT "S: 250 x\nS: 250 x\ncancel\nS: 354 x\nstall\n");
  server->peer.cancel_fd = ends[0];
  start(server);
  long first = submit(server, 10000);
  struct smn_job *job = make_job(server, 10000);
  free(job->file);
  job->file = strdup(fifo);
  submit_job(job);
  CHECK(read(ends[1], &octet, 1) == 1);
  /* One that waits for the other end of the FIFO has to be let go.  */
  for (int i = 0; i < 1500 && writer < 0; i++) {
    struct pollfd waiting = {.fd = wake[0], .events = POLLIN};
    if (poll(&waiting, 1, 10) > 0)
      break;
    writer = open(fifo, O_WRONLY | O_NONBLOCK);
  }
  CHECK(smn_engine_cancel(first));
  if (writer >= 0)
    close(writer);
  await(2, first, kinds);
  CHECK_INT(kinds[0], SMN_CANCELLED);
  CHECK_INT(kinds[1], SMN_FILE);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "cancel before an unreadable message");
  unlink(fifo);
  close(ends[0]);
  close(ends[1]);
}

/* The server lets one connection in.  A second one gives back what it has
   taken, and no third is tried; REFUSE: it is not even accepted.  */
static void check_crowded(bool refuse) {
  enum { JOBS = 40 };
  enum smn_kind kinds[JOBS];
  char script[JOBS * 120];
  int ends[2] = {-1, -1};
  char octet = 0;
  memset(kinds, -1, sizeof kinds);
  CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  int len = snprintf(script, sizeof script, "%s",
                     HELLO "C: MAIL *\ncancel\nawait\nS: 250 x\n" REST);
  for (int i = 1; i < JOBS; i++)
    len += snprintf(script + len, sizeof script - (size_t)len, "%s", MAIL);
  snprintf(script + len, sizeof script - (size_t)len, "C: QUIT\n");
  struct server *one = make(script);
  one->peer.cancel_fd = ends[0];
  struct server *other = NULL;
  long first = submit_two(start(one));
  CHECK(read(ends[1], &octet, 1) == 1); /* it is in */
  if (refuse) {
    close(one->listening);
    one->listening = -1;
  } else
    other = beside(one, "S: 421 too many\nclose\n");
  for (int i = 1; i < JOBS; i++)
    submit_two(one);
  if (other)
    stop(other, "crowded, the second");
  CHECK(write(ends[1], &octet, 1) == 1);
  await(JOBS, first, kinds);
  for (int i = 0; i < JOBS; i++)
    CHECK_INT(kinds[i], SMN_OK);
  CHECK(smn_engine_shutdown(5000));
  stop(one, "crowded");
  close(ends[0]);
  close(ends[1]);
}

/* Nobody is let in: all of them are told so.  */
static void check_crowded_out(void) {
  enum { JOBS = 40 };
  enum smn_kind kinds[JOBS];
  struct server *server = make("S: 421 x\nclose\nnext\nS: 421 x\nclose\n");
  memset(kinds, -1, sizeof kinds);
  long first = submit_two(server);
  for (int i = 1; i < JOBS; i++)
    submit_two(server);
  start(server);
  await(JOBS, first, kinds);
  for (int i = 0; i < JOBS; i++)
    CHECK_INT(kinds[i], SMN_REPLY);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "crowded out");
}

/* In a process of its own: without the means for a worker a job is deferred,
   and the next one works when they are there again.  */
static bool deferred(int resource, const char *what, bool root) {
  enum smn_kind kind = SMN_OK;
  struct rlimit before, none;
  if (!root && geteuid() == 0 && setuid(65534) != 0) /* root is not bound */
    return false;
  getrlimit(resource, &before);
  none = (struct rlimit){1, before.rlim_max};
  struct server *server = make("");
  setrlimit(resource, &none);
  long id = submit(server, 0);
  setrlimit(resource, &before);
  await(1, id, &kind);
  CHECK_INT(kind, SMN_SYSTEM);
  if (!CHECK(strstr(reason, what)))
    printf("  %s\n", reason);
  CHECK(!smn_engine_cancel(id));
  return smn_engine_shutdown(0) && check_failed == 0;
}

static void check_deferred(void) {
  static const struct {
    int resource;
    const char *what;
    bool root;
  } means[] = {{RLIMIT_NPROC, "cannot start a thread: ", false},
               {RLIMIT_NOFILE, "cannot make a pipe: ", true}};
  for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
    int status = -1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
      bool good = deferred(means[i].resource, means[i].what, means[i].root);
      fflush(stdout);
      _exit(good ? 0 : 1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  }
}

/* Each of COUNT mails on a connection of its own, the last one's kind being
   LAST.  */
static void check_early(const char *name, const char *script, int count,
                        enum smn_kind last) {
  enum smn_kind kind = SMN_SYSTEM;
  struct server *server = start(make(script));
  for (int i = 1; i <= count; i++) {
    await(1, submit(server, 0), &kind);
    CHECK_INT(kind, i < count ? SMN_OK : last);
    CHECK(smn_engine_shutdown(5000)); /* ends the connection */
  }
  stop(server, name);
}

/* In clear, AUTH waits for the reply to EHLO, although that left before the
   greeting.  */
static void check_early_auth(void) {
  enum smn_kind kind = SMN_SYSTEM;
  struct server *server =
      start(make("S: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\n"
                 "S: 250-AUTH PLAIN\nS: 250 PIPECONNECT\nC: AUTH PLAIN *\nS: "
                 "235 x\n" FLIGHT TAKEN "next\nC: EHLO *\nS: 220 x\nS: 250-x\n"
                 "S: 250-PIPELINING\nS: 250-AUTH PLAIN\nS: 250 PIPECONNECT\n"
                 "C: AUTH PLAIN *\nS: 235 x\n" FLIGHT TAKEN));
  for (int i = 0; i < 2; i++) {
    struct smn_job *job = make_job(server, 0);
    job->server.authenticate = true;
    job->server.cleartext = SMN_CLEARTEXT_LOOPBACK;
    job->server.user = strdup("alice");
    CHECK(smn_buf_init_secret(&job->server.password, 16) &&
          smn_buf_add_string(&job->server.password, "secret"));
    await(1, submit_job(job), &kind);
    CHECK_INT(kind, SMN_OK);
    CHECK(smn_engine_shutdown(5000));
  }
  stop(server, "early AUTH");
}

/* Shutdown ends what does not end by itself.  */
static void check_shutdown(void) {
  enum smn_kind kinds[2] = {SMN_SYSTEM, SMN_SYSTEM};
  struct server *server = start(make("stall\n"));
  long first = submit(server, 0);
  submit(server, 0);
  CHECK(smn_engine_shutdown(3000));
  await(2, first, kinds);
  CHECK_INT(kinds[0], SMN_CANCELLED);
  CHECK_INT(kinds[1], SMN_CANCELLED);
  stop(server, "shutdown");
}

/* Whatever happens in between, each job has one outcome.  */
/* What came of a job with an entry stands in its receipt when that is told.  */
static void check_receipt(void) {
  enum smn_kind kinds[1] = {SMN_SYSTEM};
  char text[4096] = "", *receipt = in_folder("receipt");
  struct server *server = start(make(HELLO MAIL "C: QUIT\n"));
  struct smn_job *job = make_job(server, 0);
  job->entry = strdup(folder);
  job->attempt = 3;
  await(1, submit_job(job), kinds);
  CHECK_INT(kinds[0], SMN_OK);
  FILE *in = fopen(receipt, "r");
  if (CHECK(in != NULL)) {
    CHECK(fread(text, 1, sizeof text - 1, in) > 0);
    fclose(in);
  }
  CHECK(strstr(text, "(:attempt 3\n") && strstr(text, "\n :kind ok\n") &&
        strstr(text, "\n :in-doubt nil\n"));
  unlink(receipt);
  free(receipt);
  CHECK(smn_engine_shutdown(5000));
  stop(server, "receipt");
}

static void check_one_outcome(void) {
  enum { JOBS = 400 };
  static int outcomes[JOBS];
  bool more;
  size_t events = 0;
  long first = 0;
  struct server *server = make("");
  close(server->listening); /* connections are refused */
  for (int i = 0; i < JOBS; i++) {
    struct smn_job *job = make_job(server, i % 5 == 0 ? 10000 : 0);
    job->server.max_sessions = 3;
    if (i % 4 == 0) { /* of another account */
      free(job->server.helo);
      job->server.helo = strdup("other.example");
    }
    long id = submit_job(job);
    first = first ? first : id;
    if (i % 3 == 0)
      (void)smn_engine_cancel(id);
    if (i % 7 == 0)
      (void)smn_engine_cancel(id - 2);
    if (i % 50 == 49)
      (void)smn_engine_shutdown(i % 100 == 49 ? 0 : 1);
  }
  CHECK(smn_engine_shutdown(20000));
  for (const struct smn_event *event = smn_events_borrow(SIZE_MAX, &more);
       event; event = event->next) {
    events++;
    if (event->type == SMN_EVENT_DONE && CHECK(event->id >= first) &&
        CHECK(event->id < first + JOBS))
      outcomes[event->id - first]++;
  }
  smn_events_delivered(events);
  for (int i = 0; i < JOBS; i++)
    CHECK_INT(outcomes[i], 1);
  fclose(server->peer.log);
  free(server->log);
  free(server);
}

int main(void) {
  FILE *out;
  CHECK(mkdtemp(folder) && pipe(wake) == 0);
  snprintf(message, sizeof message, "%s/message", folder);
  out = fopen(message, "w");
  fputs("Subject: x\n\nx\n", out);
  fclose(out);
  smn_events_wake(wake[1]);
  check_deferred();
  check_receipt();
  check_kept("kept", HELLO MAIL MAIL MAIL "C: QUIT\n", 3);
  check_kept("pipelined",
             PIPELINES
             "C: MAIL *\nC: RCPT *\nC: DATA\nS: 250 x\nS: 250 x\nawait\n"
             "S: 354 x\ndata\nC: MAIL *\nC: RCPT *\nflight\nC: "
             "DATA\nS: 250 x\n"
             "S: 250 x\nS: 250 x\nS: 354 x\ndata\nS: 250 x\nC: QUIT\n",
             2);
  check_kept("MAILMAX",
             LIMITED MAIL MAIL "C: QUIT\nnext\n" LIMITED MAIL "C: QUIT\n", 3);
  check_kept("MAILMAX, pipelined",
             "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\n"
             "S: 250 LIMITS MAILMAX=1\n" FLIGHT TAKEN
             "next\nS: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\n"
             "S: 250 LIMITS MAILMAX=1\n" FLIGHT TAKEN,
             2);
  check_early("early",
              OFFERED FLIGHT TAKEN
              "next\nC: EHLO *\n" FLIGHT "S: 220 x\n" OFFER TAKEN
              "next\nC: EHLO *\n" FLIGHT "S: 220 x\n" OFFER TAKEN,
              3, SMN_OK);
  /* The server has changed; from now on all is in step.  */
  check_early("early, changed",
              OFFERED FLIGHT TAKEN
              "next\nC: EHLO *\n" FLIGHT "S: 220 x\nS: 250 x\nstall\n"
              "next\n" OFFERED FLIGHT TAKEN "next\n" OFFERED FLIGHT TAKEN,
              3, SMN_OK);
  check_early("early, closed",
              OFFERED FLIGHT TAKEN "next\nclose\nnext\n" OFFERED FLIGHT TAKEN,
              2, SMN_OK);
  check_early("early, not welcome",
              OFFERED FLIGHT TAKEN
              "next\nC: EHLO *\nS: 554 x\nstall\nnext\nS: 554 x\nC: QUIT\n",
              2, SMN_REPLY);
  check_early("early, 421 to MAIL",
              OFFERED FLIGHT TAKEN "next\nC: EHLO *\n" FLIGHT "S: 220 x\n" OFFER
                                   "S: 421 x\nclose\n",
              2, SMN_REPLY);
  check_early_auth();
  check_idle();
  check_probe();
  check_closed_while_idle();
  check_421_on_reuse();
  check_refused_between();
  check_refused_before_idle();
  check_shared_failure();
  check_cancel();
  check_cancel_ahead();
  check_cancel_before_unreadable();
  check_crowded(false);
  check_crowded(true);
  check_crowded_out();
  check_shutdown();
  check_one_outcome();
  smn_events_wake(-1);
  close(wake[0]);
  while (port_count > 0)
    close(ports[--port_count]);
  unlink(message);
  rmdir(folder);
  return check_done("test-engine");
}
