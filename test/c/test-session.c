/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-session.c - several messages on one connection, and what goes wrong
   between them.
   A scene has letters, named A, B and so on, the script of the server, and what
   comes of it: one word for each letter that is done or given back, in order.
   Each scene is played in clear and inside TLS.  The server calls back into the
   scene at a certain step, so that no test depends on time.  */
#include "certs.h"
#include "check.h"
#include "fds.h"
#include "folder.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LETTERS 4
#define TIMEOUT_MS 10000

/* What a session is given of a letter.  */
struct parcel {
  struct smn_job *job;
  struct smn_result result;
  struct smn_observer observer;
  struct smn_task task;
};

struct letter {
  char name;
  bool later;    /* fetched only when those before are done */
  bool waits;    /* fetched only when the server has called `go' */
  bool fetched;  /* and not given back */
  int cancel_at; /* the question whether it is wanted that is answered by no */
  int stop_at;   /* the one after whose answer, yes, a cancel comes */
  int questions;
  bool cancelled;
  char file[96], entry[96];
  struct parcel *parcel;
};

struct scene {
  const char *name;
  const char *letters; /* lines of a name and options, see make_letter */
  const char *script;
  const char *want; /* "A ok; B reply 550 rcpt 0/1; " */
  const char *took; /* whose messages the server has got whole, NULL: any */
  char only;        /* 'c' in clear, 't' inside TLS, 'n' in clear and with
                       small buffers, 0 both */
};

/* A scene that is played.  */
struct play {
  const struct scene *scene;
  struct letter letters[LETTERS];
  int count, at; /* AT is the next to be fetched */
  bool plainly;
  int wish[2]; /* an octet in it cancels CURRENT */
  sem_t go;
  pthread_mutex_t lock;
  const struct letter *current; /* under lock, as is each letter's cancelled */
  struct peer peer;
  int listening, port;
  char *script, *log;
  size_t log_size;
  bool behaved;
  char got[512];
};

static struct letter *letter_of(const struct smn_task *task) {
  return task->observer->context;
}

static struct letter *by_name(struct play *play, char name) {
  for (int i = 0; i < play->count; i++)
    if (play->letters[i].name == name)
      return &play->letters[i];
  return NULL;
}

/* What the session asks */

static void note(struct play *play, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void note(struct play *play, const char *format, ...) {
  size_t len = strlen(play->got);
  va_list args;
  va_start(args, format);
  vsnprintf(play->got + len, sizeof play->got - len, format, args);
  va_end(args);
}

static void await_go(struct play *play, const struct letter *letter) {
  struct timespec until;
  if (!letter->waits)
    return;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += TIMEOUT_MS / 1000;
  CHECK_INT(sem_timedwait(&play->go, &until), 0);
}

/* Those before AT are fetched; when one of them was given back, also some
   behind it.  */
static bool any_left(struct play *play) {
  while (play->at < play->count && play->letters[play->at].fetched)
    play->at++;
  return play->at < play->count;
}

static const struct smn_task *take(struct play *play) {
  struct letter *letter = &play->letters[play->at++];
  await_go(play, letter);
  letter->fetched = true;
  return &letter->parcel->task;
}

static const struct smn_task *on_next(void *context) {
  struct play *play = context;
  if (!any_left(play) || play->letters[play->at].later || play->plainly)
    return NULL;
  return take(play);
}

static bool stop(struct play *play, struct letter *letter) {
  pthread_mutex_lock(&play->lock);
  letter->cancelled = true;
  bool good = write(play->wish[1], "", 1) == 1;
  pthread_mutex_unlock(&play->lock);
  return good;
}

static bool on_begin(void *context, const struct smn_task *task) {
  struct play *play = context;
  struct letter *letter = letter_of(task);
  int question = ++letter->questions;
  pthread_mutex_lock(&play->lock);
  play->current = letter;
  bool wanted = !letter->cancelled && question != letter->cancel_at;
  pthread_mutex_unlock(&play->lock);
  if (wanted && question == letter->stop_at)
    CHECK(stop(play, letter));
  return wanted;
}

/* A wish ends with the letter that it was for.  */
static void let_go(struct play *play, const struct letter *letter) {
  struct pollfd wish = {.fd = play->wish[0], .events = POLLIN};
  char octet;
  pthread_mutex_lock(&play->lock);
  if (play->current == letter)
    while (poll(&wish, 1, 0) > 0 && read(play->wish[0], &octet, 1) == 1)
      continue;
  pthread_mutex_unlock(&play->lock);
}

/* A task is gone when it is done: nothing may look at it afterwards.  */
static void free_task(struct letter *letter) {
  smn_result_free(&letter->parcel->result);
  smn_job_free(letter->parcel->job);
  free(letter->parcel);
  letter->parcel = NULL;
}

static void on_done(void *context, const struct smn_task *task) {
  struct play *play = context;
  struct letter *letter = letter_of(task);
  const struct smn_result *r = task->result;
  size_t accepted = 0;
  for (size_t i = 0; i < r->recipient_count; i++)
    accepted += r->recipients[i].accepted;
  note(play, "%c %s", letter->name, smn_kind_name(r->error.kind));
  if (r->error.kind == SMN_REPLY)
    note(play, " %d", r->error.code);
  if (r->error.kind != SMN_OK)
    note(play, " %s", smn_stage_name(r->error.stage));
  if (r->recipient_count > 1)
    note(play, " %zu/%zu", accepted, r->recipient_count);
  if (r->error.kind == SMN_OK && strcmp(r->reply, "250 taken") != 0)
    note(play, " by \"%s\"", r->reply);
  note(play, "%s; ", r->in_doubt ? " doubt" : "");
  let_go(play, letter);
  free_task(letter);
}

static bool on_back(void *context, const struct smn_task *task,
                    enum smn_back why) {
  static const char *const words[] = {"again", "plainly", "unwanted"};
  struct play *play = context;
  struct letter *letter = letter_of(task);
  note(play, "%c %s; ", letter->name, words[why]);
  if (why == SMN_BACK_UNWANTED)
    return false;
  smn_result_clear(task->result);
  let_go(play, letter);
  play->at = (int)(letter - play->letters);
  letter->fetched = false;
  play->plainly = play->plainly || why == SMN_BACK_PLAINLY;
  return true;
}

/* What the server does to the scene: call VERB NAME */

static void lengthen(const char *file) {
  FILE *out = fopen(file, "a");
  fputs("one line more\n", out);
  fclose(out);
}

static bool narrow(int fd, int buffer) {
  static const int small = 1;
  return setsockopt(fd, SOL_SOCKET, buffer, &small, sizeof small) == 0;
}

/* The client cannot go on to write.  */
static bool await_full(int fd) {
  struct pollfd room = {.fd = fd, .events = POLLOUT};
  int left = TIMEOUT_MS;
  while (left-- > 0 && poll(&room, 1, 0) != 0)
    poll(NULL, 0, 1);
  return left > 0;
}

static bool on_call(void *context, const char *words) {
  struct play *play = context;
  struct letter *letter = by_name(play, words[strlen(words) - 1]);
  if (strcmp(words, "go") == 0)
    return sem_post(&play->go) == 0;
  if (strcmp(words, "narrow") == 0)
    return narrow(other_end(play->peer.fd), SO_SNDBUF);
  if (strcmp(words, "full") == 0)
    return await_full(other_end(play->peer.fd));
  if (!letter)
    return false;
  if (strncmp(words, "shorten", 7) == 0)
    return truncate(letter->file, 40) == 0;
  if (strncmp(words, "lengthen", 8) == 0)
    lengthen(letter->file);
  else if (strncmp(words, "remove", 6) == 0)
    return unlink(letter->file) == 0;
  else
    return strncmp(words, "stop", 4) == 0 && stop(play, letter);
  return true;
}

/* Letters */

static char *option(const char *line, const char *key) {
  char pattern[32];
  snprintf(pattern, sizeof pattern, " %s=", key);
  const char *at = strstr(line, pattern);
  return at ? strndup(at + strlen(pattern), strcspn(at + strlen(pattern), " "))
            : NULL;
}

static bool has(const char *line, const char *word) {
  size_t len = strlen(word);
  for (const char *at = line; (at = strstr(at, word)); at += len)
    if (at[-1] == ' ' && (at[len] == ' ' || at[len] == '\0'))
      return true;
  return false;
}

static long number(const char *line, const char *key) {
  char *value = option(line, key);
  long n = value ? strtol(value, NULL, 10) : 0;
  free(value);
  return n;
}

static char **recipients_of(const char *line) {
  char **list = calloc(256, sizeof *list);
  char *value = option(line, "to"), *rest = value;
  size_t count = 0;
  long many = number(line, "many");
  for (long i = 0; i < many; i++) {
    list[count] = malloc(160);
    snprintf(list[count++], 160, "%0120ld@example.org", i);
  }
  for (char *one = value ? strtok_r(value, ",", &rest) : NULL; one;
       one = strtok_r(NULL, ",", &rest))
    list[count++] = strdup(one);
  if (count == 0)
    list[0] = strdup("bob@example.org");
  free(value);
  return list;
}

static void write_message(const struct letter *letter, const char *line) {
  FILE *out = fopen(letter->file, "w");
  fprintf(out, "Subject: %c\n\n%s\n", letter->name,
          has(line, "eight") ? "\303\274" : "body");
  for (long i = number(line, "size"); i > 0; i--)
    fprintf(out, "%068ld\n", i);
  fclose(out);
}

/* Options: later, waits, size=LINES, eight (8-bit octets), chunks, partial,
   lmtp, dsn, entry, durable, nofile, auto, auth, to=A,B or many=N recipients,
   cancel=N, stop=N.  */
static void make_letter(struct play *play, const char *line, bool tls) {
  struct letter *letter = &play->letters[play->count++];
  struct parcel *parcel = letter->parcel = calloc(1, sizeof *parcel);
  struct smn_job *job = parcel->job = smn_job_new();
  struct smn_server *server = &job->server;
  letter->name = line[0];
  letter->later = has(line, "later");
  letter->waits = has(line, "waits");
  letter->cancel_at = (int)number(line, "cancel");
  letter->stop_at = (int)number(line, "stop");
  snprintf(letter->file, sizeof letter->file, "%s/%c.msg", folder,
           letter->name);
  write_message(letter, line);
  if (has(line, "nofile"))
    unlink(letter->file);
  if (has(line, "entry")) {
    snprintf(letter->entry, sizeof letter->entry, "%s/%c.entry", folder,
             letter->name);
    CHECK_INT(mkdir(letter->entry, 0700), 0);
    job->entry = strdup(letter->entry);
  }
  job->durable = has(line, "durable");
  server->host = strdup(has(line, "lmtp") ? "lmtp:localhost" : "localhost");
  server->port = play->port;
  server->helo = strdup("client.example");
  server->timeout_ms = TIMEOUT_MS;
  server->cleartext = SMN_CLEARTEXT_LOOPBACK;
  server->stream = tls                 ? SMN_STREAM_TLS
                   : has(line, "auto") ? SMN_STREAM_AUTO
                                       : SMN_STREAM_PLAIN;
  server->trustfiles = calloc(2, sizeof(char *));
  server->trustfiles[0] = malloc(128);
  snprintf(server->trustfiles[0], 128, "%s/ca.pem", folder);
  if (has(line, "auth")) {
    server->authenticate = true;
    server->user = strdup("alice");
    CHECK(smn_buf_init_secret(&server->password, 64) &&
          smn_buf_add_string(&server->password, "tanstaaftanstaaf"));
  }
  job->sender = strdup("alice@example.org");
  job->recipients = recipients_of(line);
  job->file = strdup(letter->file);
  job->chunking = has(line, "chunks");
  job->partial = has(line, "partial");
  if (has(line, "dsn"))
    job->wishes.notify = strdup("SUCCESS,FAILURE,DELAY");
  parcel->observer =
      (struct smn_observer){.context = letter, .cancel_fd = play->wish[0]};
  CHECK(smn_result_init(&parcel->result, job));
  parcel->task = (struct smn_task){job, &parcel->observer, &parcel->result};
}

static void make_letters(struct play *play, bool tls) {
  for (const char *at = play->scene->letters; *at;) {
    char line[256];
    size_t len = strcspn(at, "\n");
    snprintf(line, sizeof line, "%.*s", (int)len, at);
    make_letter(play, line, tls);
    at += len + (at[len] == '\n');
  }
}

static void free_letter(struct letter *letter) {
  char receipt[128];
  if (letter->parcel) /* it was never done */
    free_task(letter);
  unlink(letter->file);
  if (!letter->entry[0])
    return;
  snprintf(receipt, sizeof receipt, "%s/receipt", letter->entry);
  unlink(receipt);
  rmdir(letter->entry);
}

/* The play */

static void *serve(void *context) {
  struct play *play = context;
  play->behaved = peer_run(&play->peer, play->listening, play->script);
  return NULL;
}

/* SCRIPT, with TLS at the begin of each connection.  */
static char *secured(const char *script) {
  static const char begin[] = "tls good\n", next[] = "next\n";
  char *out = NULL;
  size_t size = 0;
  FILE *to = open_memstream(&out, &size);
  fputs(begin, to);
  for (const char *at = script; *at;) {
    size_t len = strcspn(at, "\n") + 1;
    fwrite(at, 1, len, to);
    if (len == sizeof next - 1 && strncmp(at, next, len) == 0)
      fputs(begin, to);
    at += len;
  }
  fclose(to);
  return out;
}

/* As the engine does.  */
static void send_all(struct play *play) {
  struct smn_supply supply = {.context = play,
                              .next = on_next,
                              .begin = on_begin,
                              .done = on_done,
                              .back = on_back};
  struct smn_session *s = NULL;
  while (any_left(play)) {
    const struct smn_task *first = take(play);
    if (s && (play->plainly || !smn_session_alive(s))) {
      smn_session_close(s);
      s = NULL;
    }
    if (!s)
      s = smn_session_new(play->plainly);
    if (play->plainly)
      supply.back = NULL;
    smn_session_serve(s, first, &supply);
  }
  smn_session_close(s);
}

/* The names of the letters that have been delivered, in order.  */
static void look_at_delivered(const struct play *play, const char *deliver,
                              char *took, size_t size) {
  took[0] = '\0';
  for (int i = 1; i <= play->peer.messages; i++) {
    char file[160], line[64] = "";
    snprintf(file, sizeof file, "%s/%04d.eml", deliver, i);
    FILE *in = fopen(file, "r");
    if (!in)
      continue;
    size_t len = strlen(took);
    if (fgets(line, sizeof line, in) && len + 1 < size) {
      took[len] = strncmp(line, "Subject: ", 9) == 0 ? line[9] : '?';
      took[len + 1] = '\0';
    }
    fclose(in);
    unlink(file);
  }
  rmdir(deliver);
}

static void play_scene(const struct scene *scene, bool tls) {
  struct play *play = calloc(1, sizeof *play);
  pthread_t thread;
  char deliver[96], took[64];
  play->scene = scene;
  snprintf(deliver, sizeof deliver, "%s/took", folder);
  mkdir(deliver, 0700);
  CHECK_INT(pipe(play->wish), 0);
  CHECK_INT(sem_init(&play->go, 0, 0), 0);
  pthread_mutex_init(&play->lock, NULL);
  play->peer =
      (struct peer){.certs = folder,
                    .deliver = deliver,
                    .timeout_ms = TIMEOUT_MS,
                    .own_clients = true,
                    .call = on_call,
                    .context = play,
                    .log = open_memstream(&play->log, &play->log_size)};
  play->listening = peer_listen("127.0.0.1", &play->port);
  if (scene->only == 'n')
    CHECK(narrow(play->listening, SO_RCVBUF));
  play->script = tls ? secured(scene->script) : strdup(scene->script);
  make_letters(play, tls);
  CHECK_INT(pthread_create(&thread, NULL, serve, play), 0);
  send_all(play);
  pthread_join(thread, NULL);
  fclose(play->peer.log);
  look_at_delivered(play, deliver, took, sizeof took);
  bool good = play->behaved && strcmp(play->got, scene->want) == 0 &&
              (!scene->took || strcmp(took, scene->took) == 0);
  if (!CHECK(good))
    printf("%s%s\n  got  %s\n  want %s\n  took %s, %s\n  server: %s\n%s",
           scene->name, tls ? " (TLS)" : "", play->got, scene->want, took,
           scene->took ? scene->took : "-", play->peer.why, play->log);
  for (int i = 0; i < play->count; i++)
    free_letter(&play->letters[i]);
  close(play->listening);
  close(play->wish[0]);
  close(play->wish[1]);
  pthread_mutex_destroy(&play->lock);
  sem_destroy(&play->go);
  free(play->script);
  free(play->log);
  free(play);
}

/* Scripts */

#define HELLO "S: 220 x\nC: EHLO *\nS: 250 x\n"
#define PIPELINES "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250 PIPELINING\n"
#define LHLO "S: 220 x\nC: LHLO *\nS: 250-x\nS: 250 PIPELINING\n"
#define CHUNKS "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250 CHUNKING\n"
#define BOTH                                                                   \
  "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\nS: 250 CHUNKING\n"
#define ENVELOPE "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\n"
#define MAIL ENVELOPE "C: DATA\nS: 354 x\ndata\nS: 250 taken\n"
#define FLIGHT "C: MAIL *\nC: RCPT *\nC: DATA\n"
#define AGREED "S: 250 x\nS: 250 x\nS: 354 x\n"
#define RSET "C: RSET\nS: 250 x\n"
#define QUIT "C: QUIT\n"
#define NEXT "next\n"

#define OFFER                                                                  \
  "S: 250-x\nS: 250-PIPELINING\nS: 250-AUTH PLAIN\nS: 250 PIPECONNECT\n"
#define OFFERED "S: 220 x\nC: EHLO *\n" OFFER

/* Files that cannot be read */

static const struct scene files[] = {
    {"a message that is gone, on a kept connection",
     "A\nB later nofile\nC later\n", HELLO MAIL MAIL QUIT,
     "A ok; B file queued; C ok; ", "AC", 0},
    {"refused at its end, and the next comes later", "A\nB later\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\ndata\nS: 554 x\n" RSET MAIL QUIT,
     "A reply 554 end-of-data; B ok; ", "AB", 0},
    {"a message that is gone comes last", "A\nB later nofile\n",
     HELLO MAIL QUIT, "A ok; B file queued; ", "A", 0},
    {"a message that is gone, between two", "A\nB nofile\nC\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT "S: 250 taken\n" AGREED
                             "data\nS: 250 taken\n" QUIT,
     "B file queued; A ok; C ok; ", "AC", 0},
    {"shorter between two chunks", "A chunks size=20000\nB chunks\n",
     CHUNKS ENVELOPE "chunk\ncall shorten A\nS: 250 x\nchunks\n" RSET ENVELOPE
                     "bdat\nS: 250 taken\n" QUIT,
     "A file content; B ok; ", "B", 0},
    {"longer between two chunks", "A chunks size=20000\nB chunks\n",
     CHUNKS ENVELOPE "chunk\ncall lengthen A\nS: 250 x\n"
                     "chunks\n" RSET ENVELOPE "bdat\nS: 250 taken\n" QUIT,
     "A file content; B ok; ", "B", 0},
    {"shorter between chunks, pipelined", "A chunks size=40000\nB chunks\n",
     BOTH "C: MAIL *\nC: RCPT *\ntimes 4 chunk\ncall shorten A\n"
          "times 6 S: 250 x\nchunks\n" RSET
          "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n" QUIT,
     "A file content; B ok; ", "B", 0},
    {"shorter between chunks, the next is refused",
     "A chunks size=40000\nB chunks\n",
     BOTH "C: MAIL *\nC: RCPT *\ntimes 4 chunk\ncall shorten A\n"
          "times 6 S: 250 x\nchunks\n" RSET
          "C: MAIL *\nC: RCPT *\nchunk\nS: 250 x\nS: 550 x\nS: 503 x\n" QUIT,
     "A file content; B reply 550 rcpt; ", "", 0},
    {"shorter in the middle of DATA", "A size=300000\nB\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\nswallow 100000\ncall shorten A\n"
                    "stall\n" NEXT HELLO MAIL QUIT,
     "A file content; B ok; ", "B", 0},
};

/* What has been said, and what has not */

static const struct scene turns[] = {
    {"more recipients than a flight holds", "A chunks partial dsn many=60\n",
     "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\nS: 250-DSN\n"
     "S: 250 CHUNKING\nC: MAIL *\nS: 250 x\ntimes 60 C: RCPT * | S: 250 x\n"
     "bdat\nS: 250 taken\n" QUIT,
     "A ok 60/60; ", "A", 0},
    {"the next goes ahead", "A\nB\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT "S: 250 taken\n" AGREED
                             "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 0},
    {"the end of large data does not wait for the next",
     "A size=20000\nB waits\n",
     PIPELINES FLIGHT AGREED "data\ncall go\n" FLIGHT "S: 250 taken\n" AGREED
                             "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 0},
    {"what is durable goes ahead", "A entry\nB entry durable\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT "S: 250 taken\n" AGREED
                             "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 0},
    {"what is not durable waits for its turn", "A\nB entry\n",
     PIPELINES FLIGHT AGREED "data\nalone\nS: 250 taken\n" FLIGHT AGREED
                             "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 0},
    {"the first is refused when the next has begun", "A\nB\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT "S: 550 x\nS: 503 nested\n"
                             "S: 250 x\nS: 354 x\n" NEXT HELLO MAIL QUIT,
     "A reply 550 end-of-data; B ok; ", NULL, 0},
    {"the server leaves when the next has begun", "A\nB\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT
                             "S: 421 x\nclose\n" NEXT HELLO MAIL QUIT,
     "A reply 421 end-of-data; B ok; ", NULL, 0},
    {"it leaves without a word when the next has begun", "A\nB\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT "close\n" NEXT HELLO MAIL QUIT,
     "A network end-of-data doubt; B ok; ", NULL, 0},
    {"no chunk follows a recipient that is not answered, for the next",
     "A chunks\nB chunks to=b@example.org,c@example.org\n",
     BOTH "C: MAIL *\nC: RCPT *\nbdat\nalone\ntimes 2 S: 250 x\nS: 250 taken\n"
          "C: MAIL *\nC: RCPT *\nC: RCPT *\ntimes 3 S: 250 x\nbdat\n"
          "S: 250 taken\n" QUIT,
     "A ok; B ok 2/2; ", "AB", 0},
    {"the last chunk is refused when the next has begun",
     "A chunks to=b@example.org,c@example.org\n"
     "B chunks to=b@example.org,c@example.org\n",
     BOTH "C: MAIL *\nC: RCPT *\nC: RCPT *\ntimes 3 S: 250 x\nchunk\n"
          "C: MAIL *\nC: RCPT *\nC: RCPT *\nS: 552 x\nS: 503 x\n"
          "stall\n" NEXT HELLO
          "C: MAIL *\nS: 250 x\ntimes 2 C: RCPT * | S: 250 x\nC: DATA\n"
          "S: 354 x\ndata\nS: 250 taken\n" QUIT,
     "A reply 552 end-of-data 2/2; B ok 2/2; ", "B", 0},
    {"a connection that has rested gets no chunk ahead",
     "A chunks\nB later chunks\nC chunks\n",
     BOTH "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n"
          "C: MAIL *\nC: RCPT *\nalone\ntimes 2 S: 250 x\nbdat\nS: 250 taken\n"
          "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n" QUIT,
     "A ok; B ok; C ok; ", "ABC", 0},
    {"LMTP, refused for one, and the next", "A lmtp to=b@x,c@x\nB lmtp\n",
     LHLO
     "C: MAIL *\nC: RCPT *\nC: RCPT *\ntimes 3 S: 250 x\nC: DATA\nS: 354 x\n"
     "data\nalone\nS: 250 taken\nS: 550 x\nC: MAIL *\nC: RCPT *\n"
     "times 2 S: 250 x\nC: DATA\nS: 354 x\ndata\nS: 250 taken\n" QUIT,
     "A ok 1/2; B ok; ", NULL, 0},
    {"LMTP, one reply too few, and the next", "A lmtp to=b@x,c@x\nB lmtp\n",
     LHLO "C: MAIL *\nC: RCPT *\nC: RCPT *\ntimes 3 S: 250 x\n"
          "C: DATA\nS: 354 x\ndata\nS: 550 x\nalone\nclose\n" NEXT LHLO
          "C: MAIL *\nC: RCPT *\ntimes 2 S: 250 x\nC: DATA\nS: 354 x\n"
          "data\nS: 250 taken\n" QUIT,
     "A network end-of-data 1/2 doubt; B ok; ", NULL, 0},
    {"LMTP, one recipient, and the next", "A lmtp\nB lmtp\n",
     LHLO "C: MAIL *\nC: RCPT *\ntimes 2 S: 250 x\nC: DATA\nS: 354 x\ndata\n"
          "C: MAIL *\nC: RCPT *\nS: 250 taken\ntimes 2 S: 250 x\nC: DATA\n"
          "S: 354 x\ndata\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 0},
    {"an offer in clear is not relied on", "A auto\nB later waits auto\n",
     OFFERED FLIGHT AGREED "data\nS: 250 taken\nclose\ncall go\n" NEXT
                           "S: 220 x\nC: EHLO *\nalone\n" OFFER FLIGHT AGREED
                           "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 'c'},
    {"nor is a password sent on it", "A auto auth\nB later waits auto auth\n",
     OFFERED "C: AUTH PLAIN *\nS: 235 x\n" FLIGHT AGREED
             "data\nS: 250 taken\nclose\ncall go\n" NEXT
             "S: 220 x\nC: EHLO *\nalone\n" OFFER
             "C: AUTH PLAIN *\nS: 235 x\n" FLIGHT AGREED
             "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 'c'},
    {"where the user wants no TLS it is, but for a password",
     "A auth\nB later waits auth\n",
     OFFERED "C: AUTH PLAIN *\nS: 235 x\n" FLIGHT AGREED
             "data\nS: 250 taken\nclose\ncall go\n" NEXT
             "C: EHLO *\nalone\nS: 220 x\n" OFFER
             "C: AUTH PLAIN *\nS: 235 x\n" FLIGHT AGREED
             "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 'c'},
    {"an offer has changed while the next is waiting", "A\nB later waits\nC\n",
     OFFERED FLIGHT AGREED
     "data\nS: 250 taken\nclose\ncall go\n" NEXT
     "C: EHLO *\nS: 220 x\nS: 250 x\nstall\n" NEXT PIPELINES FLIGHT AGREED
     "data\n" FLIGHT "S: 250 taken\n" AGREED "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; C ok; ", "ABC", 0},
    {"an offer inside TLS is", "A auth\nB later waits auth\n",
     OFFERED "C: AUTH PLAIN *\nS: 235 x\n" FLIGHT AGREED
             "data\nS: 250 taken\nclose\ncall go\n" NEXT
             "C: EHLO *\nC: AUTH PLAIN *\nS: 220 x\n" OFFER
             "S: 235 x\n" FLIGHT AGREED "data\nS: 250 taken\n" QUIT,
     "A ok; B ok; ", "AB", 't'},
};

/* The wish to cancel */

static const struct scene wishes[] = {
    {"before the content", "A cancel=1\nB\n", HELLO ENVELOPE RSET MAIL QUIT,
     "A cancelled rcpt; B ok; ", "B", 0},
    {"before the end of data", "A cancel=2\nB\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\ngone\n" NEXT HELLO MAIL QUIT,
     "A cancelled content; B ok; ", "B", 0},
    {"after the mark of doubt", "A entry cancel=3\nB\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\ngone\n" NEXT HELLO MAIL QUIT,
     "A cancelled content; B ok; ", "B", 0},
    {"before the last chunk", "A chunks cancel=2\nB chunks\n",
     CHUNKS ENVELOPE RSET ENVELOPE "bdat\nS: 250 taken\n" QUIT,
     "A cancelled content; B ok; ", "B", 0},
    {"before a chunk that goes ahead", "A chunks cancel=1\nB chunks\n",
     BOTH "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n" QUIT,
     "A cancelled rcpt; B ok; ", "B", 0},
    {"when it is on its way, the next being large",
     "A stop=1\nB eight size=20000\n",
     "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\nS: 250-8BITMIME\n"
     "S: 250 SIZE\n" FLIGHT AGREED "gone\n" NEXT
     "S: 220 x\nC: EHLO *\nS: 250-x\nS: 250-PIPELINING\nS: 250-8BITMIME\n"
     "S: 250 SIZE\nC: MAIL * SIZE=1400018 BODY=8BITMIME\nC: RCPT *\nC: "
     "DATA\n" AGREED "data\nS: 250 taken\n" QUIT,
     "A cancelled content; B ok; ", "B", 0},
    {"while the reply is awaited", "A\nB\n",
     HELLO ENVELOPE
     "C: DATA\nS: 354 x\ndata\ncall stop A\nstall\n" NEXT HELLO MAIL QUIT,
     "A cancelled end-of-data doubt; B ok; ", NULL, 0},
    {"of the next, while it has begun", "A\nB cancel=1\nC\n",
     PIPELINES FLIGHT AGREED "data\n" FLIGHT "S: 250 taken\n" AGREED
                             "gone\n" NEXT HELLO MAIL QUIT,
     "A ok; B cancelled data; C ok; ", "AC", 0},
};

/* What nothing has asked for */

static const struct scene unasked[] = {
    {"after the greeting", "A\n", "raw 220 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol ehlo; ", "", 0},
    {"after EHLO", "A\n",
     "S: 220 x\nC: EHLO *\nraw 250 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol mail; ", "", 0},
    {"after EHLO, before AUTH", "A auth\n",
     "S: 220 x\nC: EHLO *\nraw 250-x\\r\\n250 AUTH PLAIN\\r\\n235 x\\r\\n\n"
     "gone\n",
     "A protocol auth; ", "", 0},
    {"after MAIL", "A\n", HELLO "C: MAIL *\nraw 250 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol rcpt; ", "", 0},
    {"after RCPT", "A\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\nraw 250 x\\r\\n354 x\\r\\n\ngone\n",
     "A protocol data; ", "", 0},
    {"after RCPT, with chunks", "A chunks\n",
     CHUNKS "C: MAIL *\nS: 250 x\nC: RCPT *\nraw 250 x\\r\\n250 x\\r\\n\n"
            "gone\n",
     "A protocol content; ", "", 0},
    {"after DATA", "A\n",
     HELLO ENVELOPE "C: DATA\nraw 354 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol content; ", "", 0},
    {"after DATA, to a message of many blocks", "A size=20000\n",
     HELLO ENVELOPE "C: DATA\nraw 354 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol content; ", "", 0},
    {"after DATA, pipelined", "A\n",
     PIPELINES FLIGHT
     "raw 250 x\\r\\n250 x\\r\\n354 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol content; ", "", 0},
    {"after DATA, of the next", "A\nB\n",
     PIPELINES FLIGHT AGREED
     "data\n" FLIGHT
     "raw 250 taken\\r\\n250 x\\r\\n250 x\\r\\n354 x\\r\\n250 x\\r\\n\ngone\n",
     "A ok; B protocol content; ", "A", 0},
    {"a refusal after DATA", "A\n",
     HELLO ENVELOPE "C: DATA\nraw 354 x\\r\\n552 x\\r\\n\ngone\n",
     "A reply 552 content; ", "", 0},
    {"between two chunks", "A chunks size=20000\n",
     CHUNKS ENVELOPE "chunk\nraw 250 x\\r\\n250 x\\r\\n\ngone\n",
     "A protocol content; ", "", 0},
    {"to chunks that have not left yet", "A chunks size=40000\n",
     BOTH "C: MAIL *\nC: RCPT *\ntimes 4 chunk\n"
          "raw 250 x\\r\\n250 x\\r\\n250 x\\r\\n250 x\\r\\n250 x\\r\\n250 "
          "x\\r\\n250 x\\r\\n250 x\\r\\n\nstall\n",
     "A protocol content; ", "", 0},
    {"goodbye, between two messages", "A\nB\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\ndata\nraw 250 taken\\r\\n421 x\\r\\n\n"
                    "close\n" NEXT HELLO MAIL QUIT,
     "A ok; B again; B ok; ", "AB", 0},
    {"goodbye, in the middle", "A\n",
     HELLO "C: MAIL *\nraw 250 x\\r\\n421 x\\r\\n\nclose\n",
     "A reply 421 rcpt; ", "", 0},
    {"after RSET", "A to=b@x,c@x\nB\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\nC: RCPT *\nS: 550 x\n"
           "C: RSET\nraw 250 x\\r\\n250 x\\r\\n\ngone\n" NEXT HELLO MAIL QUIT,
     "A reply 550 rcpt 1/2; B again; B ok; ", "B", 0},
};

/* Refusals */

#define SAID HELLO ENVELOPE "C: DATA\nS: 354 x\ndata\n"
#define OTHERS NEXT HELLO MAIL QUIT

static const struct scene refusals[] = {
    {"550-, then no reply", "A\nB\n",
     SAID "raw 550-no\\r\\nwhat\\r\\n\nstall\n" OTHERS,
     "A reply 550 end-of-data; B ok; ", NULL, 0},
    {"550-, then 450", "A\nB\n",
     SAID "raw 550-no\\r\\n450 x\\r\\n\nstall\n" OTHERS,
     "A reply 550 end-of-data; B ok; ", NULL, 0},
    {"450-, then 550", "A\nB\n",
     SAID "raw 450-no\\r\\n550 x\\r\\n\nstall\n" OTHERS,
     "A reply 550 end-of-data; B ok; ", NULL, 0},
    {"550-, then nothing", "A\nB\n", SAID "raw 550-no\\r\\n\nclose\n" OTHERS,
     "A reply 550 end-of-data; B ok; ", NULL, 0},
    {"550-, then 250", "A\nB\n",
     SAID "raw 550-no\\r\\n250 x\\r\\n\nstall\n" OTHERS,
     "A protocol end-of-data doubt; B ok; ", NULL, 0},
    {"250-, then 550", "A\nB\n",
     SAID "raw 250-no\\r\\n550 x\\r\\n\nstall\n" OTHERS,
     "A protocol end-of-data doubt; B ok; ", NULL, 0},
    {"250-, then no reply", "A\nB\n",
     SAID "raw 250-no\\r\\nwhat\\r\\n\nstall\n" OTHERS,
     "A protocol end-of-data doubt; B ok; ", NULL, 0},
    {"550- to RCPT, then no reply", "A\nB\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\n"
           "raw 550-no\\r\\nwhat\\r\\n\nstall\n" OTHERS,
     "A reply 550 rcpt; B ok; ", NULL, 0},
    {"550- to one RCPT of two, then no reply", "A partial to=b@x,c@x\nB\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\n"
           "raw 550-no\\r\\nwhat\\r\\n\nstall\n" OTHERS,
     "A reply 550 rcpt 0/2; B ok; ", NULL, 0},
    {"552 to a chunk, then 450 in the same", "A chunks size=20000\nB\n",
     CHUNKS ENVELOPE "chunk\nraw 552-no\\r\\n450 x\\r\\n\nstall\n" OTHERS,
     "A reply 552 content; B ok; ", NULL, 0},
    {"552 to a chunk, and it closes", "A chunks size=40000\nB\n",
     CHUNKS ENVELOPE "C: BDAT *\nswallow 1000\nS: 552 x\nclose\n" OTHERS,
     "A reply 552 content; B ok; ", NULL, 0},
    {"552 to a chunk, and it closes, pipelined", "A chunks size=40000\nB\n",
     BOTH "C: MAIL *\nC: RCPT *\nC: BDAT *\nswallow 1000\nS: 250 x\n"
          "S: 250 x\nS: 552 x\nclose\n" OTHERS,
     "A reply 552 content; B ok; ", NULL, 0},
    {"552 to content, and it closes", "A size=100000\nB\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\nswallow 1000\nS: 552 x\nclose\n" OTHERS,
     "A reply 552 content; B ok; ", NULL, 0},
    {"it closes in the middle of content", "A size=100000\nB\n",
     HELLO ENVELOPE "C: DATA\nS: 354 x\nswallow 1000\nclose\n" OTHERS,
     "A network content; B ok; ", NULL, 0},
    {"521 to a recipient, and it closes", "A\nB\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 521 x\nclose\n" OTHERS,
     "A reply 521 rcpt; B ok; ", NULL, 0},
    {"521 to one of three, and it closes", "A partial to=b@x,c@x,d@x\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\nC: RCPT *\nS: 521 x\n"
           "close\n",
     "A reply 521 rcpt 1/3; ", NULL, 0},
    {"521 to one of three, pipelined", "A partial to=b@x,c@x,d@x\n",
     PIPELINES "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 x\n"
               "S: 250 x\nS: 521 x\nclose\n",
     "A reply 521 rcpt 1/3; ", NULL, 0},
    {"521 to one of three, and it stays", "A partial to=b@x,c@x,d@x\n",
     HELLO "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\nC: RCPT *\nS: 521 x\n"
           "C: RCPT *\nS: 250 x\nC: DATA\nS: 354 x\ndata\nS: 250 taken\n" QUIT,
     "A ok 2/3; ", NULL, 0},
    {"it takes no more on this connection", "A\nB\nC\n",
     HELLO MAIL "C: MAIL *\nS: 452 4.5.3 too many messages\n" QUIT NEXT HELLO
         MAIL MAIL QUIT,
     "A ok; B again; B ok; C ok; ", "ABC", 0},
    {"nor on the next one", "A\nB\n",
     HELLO MAIL "C: MAIL *\nS: 452 4.5.3 too many messages\n" QUIT NEXT HELLO
                "C: MAIL *\nS: 452 4.5.3 too many messages\n" QUIT,
     "A ok; B again; B reply 452 mail; ", "A", 0},
    {"it takes no more, and both have begun", "A\nB\nC\n",
     PIPELINES FLIGHT AGREED
     "data\n" FLIGHT "S: 250 taken\n"
     "S: 452 x\ntimes 2 S: 503 x\n" QUIT NEXT PIPELINES FLIGHT AGREED
     "data\n" FLIGHT "S: 250 taken\n" AGREED "data\nS: 250 taken\n" QUIT,
     "A ok; B again; C ok; B ok; ", "ACB", 0},
    {"one recipient is too many for it", "A\nB\n",
     HELLO MAIL "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 452 4.5.3 x\n" QUIT,
     "A ok; B reply 452 rcpt; ", "A", 0},
    {"521 to the second message is not tried again", "A\nB\n",
     HELLO MAIL "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 521 x\nclose\n",
     "A ok; B reply 521 rcpt; ", NULL, 0},
    {"421 to a recipient, then the chunk is taken", "A chunks\nB chunks\n",
     BOTH
     "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n"
     "C: MAIL *\nC: RCPT *\nbdat\nS: 250 taken\nS: 421 x\nS: 250 x\nclose\n",
     "A ok; B protocol end-of-data doubt; ", "AB", 0},
    {"421 to one of two, then the chunk is taken",
     "A chunks partial to=b@x,c@x\n",
     BOTH "C: MAIL *\nC: RCPT *\nC: RCPT *\nbdat\nS: 250 taken\nS: 250 x\n"
          "S: 421 x\nS: 250 taken\nclose\n",
     "A ok 1/2; ", "A", 0},
    {"421 to one of two, when some chunks have left",
     "A chunks partial size=40000 to=b@x,c@x\nB\n",
     BOTH "C: MAIL *\nC: RCPT *\nC: RCPT *\ntimes 4 chunk\nS: 250 x\n"
          "S: 250 x\nS: 421 x\nstall\n" OTHERS,
     "A reply 421 rcpt 1/2; B ok; ", "B", 0},
    {"421 to one of three, and it stays silent",
     "A partial to=b@x,c@x,d@x\nB\n",
     PIPELINES "C: MAIL *\nC: RCPT *\nC: RCPT *\nC: RCPT *\nC: DATA\nS: 250 x\n"
               "S: 421 x\nstall\n" OTHERS,
     "A reply 421 rcpt 0/3; B ok; ", "B", 0},
    {"it breaks when the end of data has left, and not all of the next",
     "A\nB many=80\n",
     PIPELINES FLIGHT
     "call narrow\n" AGREED "call full\nreset\n" NEXT HELLO
     "C: MAIL *\nS: 250 x\ntimes 80 C: RCPT * | S: 250 x\nC: DATA\nS: 354 x\n"
     "data\nS: 250 taken\n" QUIT,
     "A network end-of-data doubt; B ok 80/80; ", NULL, 'n'},
    {"421 to the only recipient, and it closes", "A chunks\nB chunks\n",
     BOTH "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n"
          "C: MAIL *\nC: RCPT *\nchunk\nS: 250 x\nS: 421 x\nclose\n" NEXT BOTH
          "C: MAIL *\nC: RCPT *\nbdat\ntimes 2 S: 250 x\nS: 250 taken\n" QUIT,
     "A ok; B again; B ok; ", "AB", 0},
    {"the greeting turns into 521", "A\n",
     "raw 220-x\\r\\n521 x\\r\\n\nstall\n", "A reply 521 greeting; ", NULL, 0},
    {"no connection more", "A\nB\n", "S: 421 x\nclose\n",
     "A unwanted; A reply 421 greeting; B unwanted; B reply 421 greeting; ",
     NULL, 0},
    {"no connection more, without a word", "A\n", "close\n",
     "A unwanted; A network greeting; ", NULL, 0},
};

static void play_all(const struct scene *scenes, size_t count,
                     const char *which) {
  for (size_t i = 0; i < count; i++)
    for (int tls = 0; tls < 2; tls++)
      if ((!which || strstr(scenes[i].name, which)) &&
          (!scenes[i].only || tls == (scenes[i].only == 't')))
        play_scene(&scenes[i], tls);
}

#define PLAY_ALL(scenes, which)                                                \
  play_all(scenes, sizeof scenes / sizeof *scenes, which)

/* A second argument is a part of the names of the scenes to play.  */
int main(int argc, char **argv) {
  const char *which = argc > 2 ? argv[2] : NULL;
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  PLAY_ALL(files, which);
  PLAY_ALL(turns, which);
  PLAY_ALL(wishes, which);
  PLAY_ALL(unasked, which);
  PLAY_ALL(refusals, which);
  certs_remove(folder);
  return check_done("test-session");
}
