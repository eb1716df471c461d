/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-secrets.c - what the heap still holds after a mail was sent.
   The server is a child process, so that only the core can have left anything.
   It also works out what only it can know, such as the proof of SCRAM, and
   tells it by a pipe.  The needles are kept disguised here, not to be found
   themselves.  A sanitizer keeps freed memory as it was, and so this runs
   without.  */
#include "certs.h"
#include "check.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "folder.h"
#include "needle.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PASSWORD "correct-horse-4711-battery"
#define BASE64 "Y29ycmVjdC1ob3JzZS00NzExLWJhdHRlcnk="
#define PLAIN "AHVzZXIAY29ycmVjdC1ob3JzZS00NzExLWJhdHRlcnk="

#define NEEDLES 16

struct haystack {
  struct needle needles[NEEDLES];
  int count;
};

static void add(struct haystack *h, const void *bytes, size_t len) {
  struct needle *needle = &h->needles[h->count];
  if (!CHECK(len >= 12 && len <= sizeof needle->octets && h->count < NEEDLES))
    return;
  h->count++;
  disguise(needle, bytes, len);
}

/* The needles in the memory FROM to TO, page by page: the guard of a stack may
   stand in one mapping with it and cannot be read.  Pages overlap by more than
   a needle.  */
static unsigned search_range(const struct haystack *h, int memory,
                             unsigned long from, unsigned long to) {
  static unsigned char page[1 << 16];
  const size_t lap = sizeof h->needles->octets;
  const unsigned long small = 4096;
  unsigned found = 0;
  size_t have = 0; /* octets of the end of the page before, at its beginning */
  while (from < to) {
    size_t want = sizeof page - have;
    if (want > to - from)
      want = to - from;
    ssize_t got = pread(memory, page + have, want, (off_t)from);
    if (got <= 0) {
      from += small;
      have = 0;
      continue;
    }
    size_t len = have + (size_t)got;
    for (int i = 0; i < h->count; i++)
      if (holds(page, len, &h->needles[i]))
        found |= 1U << i;
    from += (unsigned long)got;
    have = len < lap ? len : lap;
    memmove(page, page + len - have, have);
  }
  gnutls_memset(page, 0, sizeof page);
  return found;
}

/* Which of the needles, a bit for each, stand in the heap and in anonymous
   memory, which is where threads have their heaps and stacks.  */
static unsigned search(const struct haystack *h) {
  FILE *maps = fopen("/proc/self/maps", "r");
  int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  char line[512];
  unsigned found = 0;
  CHECK(maps && memory >= 0);
  while (maps && fgets(line, sizeof line, maps)) {
    unsigned long from, to;
    char mode[8], path[256] = "";
    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, mode, path) >=
            3 &&
        strncmp(mode, "rw", 2) == 0 && (!path[0] || !strcmp(path, "[heap]")))
      found |= search_range(h, memory, from, to);
  }
  if (maps)
    fclose(maps);
  if (memory >= 0)
    close(memory);
  return found;
}

/* What the server can work out

   SCRAM: the salted password and the key of the client, which are as good as
   the password (RFC 5802 3), from the server's first message.  */
static void add_scram_keys(struct haystack *h, const char *challenge,
                           bool sha256) {
  gnutls_mac_algorithm_t mac = sha256 ? GNUTLS_MAC_SHA256 : GNUTLS_MAC_SHA1;
  const char *salt = strstr(challenge, ",s="),
             *count = strstr(challenge, ",i=");
  const gnutls_datum_t password = {(void *)PASSWORD, strlen(PASSWORD)};
  gnutls_datum_t raw = {NULL, 0};
  unsigned char salted[32], key[32];
  if (!CHECK(salt && count))
    return;
  gnutls_datum_t text = {(void *)(size_t)(salt + 3),
                         (unsigned)(count - salt - 3)};
  CHECK(gnutls_base64_decode2(&text, &raw) == 0);
  size_t len = gnutls_hmac_get_len(mac);
  CHECK(gnutls_pbkdf2(mac, &password, &raw, (unsigned)atoi(count + 3), salted,
                      len) == 0 &&
        gnutls_hmac_fast(mac, salted, len, "Client Key", 10, key) == 0);
  add(h, salted, len);
  add(h, key, len);
  gnutls_free(raw.data);
}

/* The response to a challenge as it was sent, as it was meant, and the part of
   it that is made of the password.  */
static void add_response(struct haystack *h, const char *line,
                         const char *raw) {
  const char *proof = strstr(raw, ",p=");
  const char *secret = proof ? proof + 3 : strrchr(raw, ' ');
  if (!CHECK(secret != NULL))
    return;
  secret += !proof;
  add(h, line, strlen(line));
  add(h, raw, strlen(raw));
  add(h, secret, strlen(secret));
  if (proof) {
    gnutls_datum_t text = {(void *)(size_t)secret, (unsigned)strlen(secret)};
    gnutls_datum_t octets = {NULL, 0};
    CHECK(gnutls_base64_decode2(&text, &octets) == 0);
    add(h, octets.data, octets.size);
    gnutls_free(octets.data);
  }
}

/* Read LOG, the server's transcript, which this overwrites.  */
static void work_out(struct haystack *h, char *log, const char *mechanism) {
  char *rest = NULL;
  bool scram = strncmp(mechanism, "SCRAM", 5) == 0;
  bool challenged = false;
  if (!scram && strcmp(mechanism, "CRAM-MD5") != 0)
    return;
  for (char *line = strtok_r(log, "\n", &rest); line && h->count < 4;
       line = strtok_r(NULL, "\n", &rest)) {
    bool challenge = strncmp(line, "S: 334 ", 7) == 0;
    char *text = line + (challenge ? 7 : 3);
    gnutls_datum_t encoded = {(void *)text, (unsigned)strlen(text)};
    gnutls_datum_t raw = {NULL, 0};
    if ((challenge || challenged) &&
        CHECK(gnutls_base64_decode2(&encoded, &raw) == 0)) {
      char said[512];
      snprintf(said, sizeof said, "%.*s", (int)raw.size, (char *)raw.data);
      gnutls_free(raw.data);
      if (!challenge)
        add_response(h, text, said);
      else if (scram)
        add_scram_keys(h, said, strstr(mechanism, "256") != NULL);
    }
    if (challenged)
      return;
    challenged = challenge;
  }
}

/* The server */

static void serve(int listening, const char *mechanism, enum smn_stream stream,
                  int tell) {
  static struct peer peer = {.timeout_ms = 10000, .certs = folder};
  static struct haystack known;
  char script[1024], *log = NULL;
  size_t size = 0;
  check_failed = 0;
  peer.log = open_memstream(&log, &size);
  snprintf(script, sizeof script,
           "%sS: 220 x\nC: EHLO *\n%sS: 250-x\nS: 250 AUTH %s\n"
           "auth %s user %s\nC: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\n"
           "C: DATA\nS: 354 x\ndata\nS: 250 x\nC: QUIT\n",
           stream == SMN_STREAM_TLS ? "tls good\n" : "",
           stream == SMN_STREAM_STARTTLS
               ? "S: 250-x\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 x\n"
                 "tls good\nC: EHLO *\n"
               : "",
           mechanism, mechanism, PASSWORD);
  bool good = peer_run(&peer, listening, script);
  work_out(&known, log, mechanism);
  good = good && check_failed == 0 &&
         write(tell, &known, sizeof known) == sizeof known;
  if (!good)
    printf("%s: %s\n%s\n", mechanism, peer.why, log);
  fflush(stdout);
  _exit(good ? 0 : 1);
}

/* The client */

static struct smn_job *make_job(int port, enum smn_stream stream,
                                const struct needle *password) {
  struct smn_job *job = smn_job_new();
  job->server.host = strdup("127.0.0.1");
  job->server.port = port;
  job->server.helo = strdup("client.example");
  job->server.timeout_ms = 10000;
  job->server.stream = stream;
  job->server.cleartext = SMN_CLEARTEXT_LOOPBACK;
  job->server.trace = true;
  job->server.trustfiles = calloc(2, sizeof(char *));
  job->server.trustfiles[0] = in_folder("ca.pem");
  job->server.authenticate = true;
  job->server.user = strdup("user");
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof(char *));
  job->recipients[0] = strdup("b@example.org");
  job->file = in_folder("message");
  CHECK(smn_buf_init_secret(&job->server.password, 128));
  char *room = smn_buf_reserve(&job->server.password, password->len);
  for (size_t i = 0; i < password->len; i++)
    room[i] = (char)(password->octets[i] ^ DISGUISE);
  job->server.password.len = password->len;
  return job;
}

static void send_here(struct smn_job *job, const char *mechanism) {
  const struct smn_observer observer = {.cancel_fd = -1};
  struct smn_result result;
  CHECK(smn_result_init(&result, job));
  CHECK_INT(smn_session_run(job, &observer, &result), SMN_OK);
  CHECK_STRING(result.mechanism, mechanism);
  smn_result_free(&result);
  smn_job_free(job);
}

/* By a worker of the engine, whose memory outlives the job.  */
static void send_by_engine(struct smn_job *job, const char *mechanism) {
  struct smn_error err = {0};
  int wake[2] = {-1, -1};
  long id = 0;
  bool done = false;
  CHECK_INT(pipe(wake), 0);
  smn_events_wake(wake[1]);
  CHECK_INT(smn_engine_submit(job, &id, &err), SMN_OK);
  while (!done) {
    struct pollfd waiting = {.fd = wake[0], .events = POLLIN};
    char octet;
    bool more;
    if (!CHECK(poll(&waiting, 1, 15000) > 0 && read(wake[0], &octet, 1) == 1))
      break;
    size_t events = 0;
    for (const struct smn_event *event = smn_events_borrow(SIZE_MAX, &more);
         event; event = event->next) {
      events++;
      if (event->type == SMN_EVENT_DONE) {
        done = true;
        CHECK_INT(event->result->error.kind, SMN_OK);
        CHECK_STRING(event->result->mechanism, mechanism);
      }
    }
    smn_events_delivered(events);
  }
  CHECK(smn_engine_shutdown(5000));
  smn_events_wake(-1);
  close(wake[0]);
}

/* Wait for the end of all other threads: until then they own what they own, and
   their stacks may vanish under a search.  */
static void await_threads(void) {
  bool alone = false;
  for (int i = 0; i < 5000 && !alone; i++) {
    struct stat tasks; /* a link for each thread, and two */
    alone = stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 3;
    if (!alone)
      (void)poll(NULL, 0, 1);
  }
  CHECK(alone);
}

/* The search does find what is there.  */
static void check_search(const struct haystack *h) {
  size_t size = sizeof h->needles;
  unsigned char *left = malloc(size), *at = left;
  for (int i = 0; left && i < h->count; i++)
    for (size_t n = 0; n < h->needles[i].len; n++)
      *at++ = h->needles[i].octets[n] ^ DISGUISE;
  CHECK_INT(search(h), (1U << h->count) - 1);
  gnutls_memset(left, 0, size);
  free(left);
}

static void check_send(const char *mechanism, enum smn_stream stream,
                       bool engine, const struct haystack *given) {
  static struct haystack known, all;
  int port = 0, status = -1, tell[2] = {-1, -1};
  int listening = peer_listen("127.0.0.1", &port);
  CHECK_INT(pipe(tell), 0);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0)
    serve(listening, mechanism, stream, tell[1]);
  close(tell[1]);
  (engine ? send_by_engine
          : send_here)(make_job(port, stream, &given->needles[0]), mechanism);
  close(listening);
  CHECK_INT(read(tell[0], &known, sizeof known), sizeof known);
  close(tell[0]);
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  all = *given;
  for (int i = 0; i < known.count; i++)
    all.needles[all.count++] = known.needles[i];
  CHECK_INT(known.count, strncmp(mechanism, "SCRAM", 5) == 0  ? 6
                         : strcmp(mechanism, "CRAM-MD5") == 0 ? 3
                                                              : 0);
  await_threads();
  unsigned left = search(&all);
  if (!CHECK(left == 0))
    printf("  needles %x of %s, stream %d, %s\n", left, mechanism, (int)stream,
           engine ? "by the engine" : "here");
  check_search(&all);
}

int main(void) {
  static const char *const mechanisms[] = {"PLAIN", "LOGIN", "CRAM-MD5",
                                           "SCRAM-SHA-1", "SCRAM-SHA-256"};
  static const enum smn_stream streams[] = {
      SMN_STREAM_PLAIN, SMN_STREAM_STARTTLS, SMN_STREAM_TLS};
  static struct haystack given;
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  char *message = in_folder("message");
  FILE *out = fopen(message, "w");
  CHECK(out && fputs("x\n", out) >= 0 && fclose(out) == 0);
  free(message);
  add(&given, PASSWORD, strlen(PASSWORD));
  add(&given, BASE64, strlen(BASE64));
  add(&given, PLAIN, strlen(PLAIN));
  for (size_t i = 0; i < 3 * sizeof mechanisms / sizeof *mechanisms; i++) {
    check_send(mechanisms[i / 3], streams[i % 3], false, &given);
    check_send(mechanisms[i / 3], streams[i % 3], true, &given);
  }
  certs_remove(folder);
  return check_done("test-secrets");
}
