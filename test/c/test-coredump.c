/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-coredump.c - what a core dump tells after a mail was sent.
   The client is a child process that ends by SIGABRT while the job is still
   there; the server and the maker of the certificates are others.  The needles
   are kept disguised here, not to be found themselves.  Where the system writes
   no core file into the folder at hand this is skipped.  A sanitizer keeps what
   was freed, and so this runs without.  */
#include "certs-weak.h"
#include "certs.h"
#include "check.h"
#include "folder.h"
#include "needle.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PASSWORD "correct-horse-4711-battery"
#define SCRIPT                                                                 \
  "tls good%s\nS: 220 x\nC: EHLO *\nS: 250-x\nS: 250 AUTH %s\nauth %s %s %s\n" \
  "C: MAIL *\nS: 250 x\nC: RCPT *\nS: 250 x\nC: DATA\nS: 354 x\ndata\n"        \
  "S: 250 x\nC: QUIT\n"

#define STALLED                                                                \
  "tls good%s\nS: 220 x\nC: EHLO *\nS: 250-x\nS: 250 AUTH %s\nC: AUTH *\n"     \
  "stall\n"

/* The client sends its mail, and leaves a secret behind that nobody has wiped;
   or gives up during AUTH.  */
enum manner { SEND, SEND_AND_LEAVE, CANCEL };

enum { NEEDLES = 5 }; /* password, its base64 at any offset, passphrase */

static struct needle needles[NEEDLES];

/* Base64 of the password behind SHIFT other octets, without the ends that these
   and what follows have a part in.  */
static void disguise_base64(struct needle *needle, unsigned shift) {
  char text[64] = "xx";
  gnutls_datum_t encoded = {NULL, 0};
  snprintf(text + shift, sizeof text - shift, "%s", PASSWORD);
  const gnutls_datum_t raw = {(unsigned char *)text, (unsigned)strlen(text)};
  if (CHECK(gnutls_base64_encode2(&raw, &encoded) == 0))
    disguise(needle, (char *)encoded.data + 4, encoded.size - 8);
  explicit_bzero(text, sizeof text);
  explicit_bzero(encoded.data, encoded.size);
  gnutls_free(encoded.data);
}

static bool reveal(struct smn_buf *buf, const struct needle *needle) {
  if (!smn_buf_init_secret(buf, 128))
    return false;
  char *room = smn_buf_reserve(buf, needle->len);
  for (size_t i = 0; i < needle->len; i++)
    room[i] = (char)(needle->octets[i] ^ DISGUISE);
  buf->len = needle->len;
  return true;
}

/* Processes */

static void serve(int listening, const char *mechanism, enum manner manner) {
  static struct peer peer = {.timeout_ms = 10000, .certs = folder};
  char script[1024];
  bool external = strcmp(mechanism, "EXTERNAL") == 0;
  peer.log = fopen("/dev/null", "w");
  if (manner == CANCEL)
    snprintf(script, sizeof script, STALLED, external ? " client" : "",
             mechanism);
  else
    snprintf(script, sizeof script, SCRIPT, external ? " client" : "",
             mechanism, mechanism, external ? "-" : "user", PASSWORD);
  _exit(peer_run(&peer, listening, script) ? 0 : 1);
}

static struct smn_job *make_job(int port, const char *mechanism) {
  struct smn_job *job = smn_job_new();
  struct smn_server *s = &job->server;
  bool external = strcmp(mechanism, "EXTERNAL") == 0;
  s->host = strdup("localhost");
  s->port = port;
  s->helo = strdup("client.example");
  s->timeout_ms = 10000;
  s->stream = SMN_STREAM_TLS;
  s->trustfiles = calloc(2, sizeof *s->trustfiles);
  s->trustfiles[0] = in_folder("ca.pem");
  s->authenticate = s->trace = true;
  s->user = strdup("user");
  s->mechanisms = strdup(mechanism);
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof *job->recipients);
  job->recipients[0] = strdup("b@example.org");
  job->file = in_folder("ca.pem");
  if (external) {
    s->cert_file = in_folder("client.pem");
    s->key_file = in_folder("client-encrypted.key");
  }
  if (external ? !reveal(&s->passphrase, &needles[NEEDLES - 1])
               : !reveal(&s->password, &needles[0]))
    _exit(3);
  return job;
}

static int give_up[2];

static void on_trace(void *context, bool from_server, const char *text,
                     size_t len) {
  const enum manner *manner = context;
  if (*manner == CANCEL && !from_server && len > 4 &&
      memcmp(text, "AUTH", 4) == 0 && write(give_up[1], "", 1) != 1)
    _exit(3);
}

/* End by SIGABRT with the job still there.  */
static void send_and_abort(int port, const char *mechanism,
                           enum manner manner) {
  struct rlimit limit;
  struct smn_result result;
  if (chdir(folder) != 0 || pipe(give_up) != 0 ||
      getrlimit(RLIMIT_CORE, &limit) != 0)
    _exit(3);
  limit.rlim_cur = limit.rlim_max;
  if (limit.rlim_max == 0)
    limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
  (void)setrlimit(RLIMIT_CORE, &limit);
  const struct smn_observer observer = {
      .context = &manner, .trace = on_trace, .cancel_fd = give_up[0]};
  struct smn_job *job = make_job(port, mechanism);
  if (!smn_result_init(&result, job) ||
      smn_session_run(job, &observer, &result) !=
          (manner == CANCEL ? SMN_CANCELLED : SMN_OK) ||
      (manner != CANCEL && strcmp(result.mechanism, mechanism) != 0))
    _exit(2);
  if (manner == SEND_AND_LEAVE) {
    volatile char *left = malloc(128); /* a compiler may not leave it out */
    for (size_t i = 0; left && i < needles[0].len; i++)
      left[i] = (char)(needles[0].octets[i] ^ DISGUISE);
  }
  abort();
}

/* The core file, as memory; NULL without.  It is gone from the folder.  */
static unsigned char *take_core(size_t *size) {
  struct stat stat_of;
  char path[400] = "";
  unsigned char *core = MAP_FAILED;
  DIR *dir = opendir(folder);
  for (struct dirent *entry; dir && (entry = readdir(dir));)
    if (strncmp(entry->d_name, "core", 4) == 0)
      snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
  if (dir)
    closedir(dir);
  int fd = path[0] ? open(path, O_RDONLY) : -1;
  if (fd >= 0 && fstat(fd, &stat_of) == 0 && stat_of.st_size > 0) {
    *size = (size_t)stat_of.st_size;
    core = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
  }
  if (fd >= 0) {
    close(fd);
    unlink(path);
  }
  return core == MAP_FAILED ? NULL : core;
}

/* How many needles a core dump holds, -1 without one.  */
static int dump(const char *mechanism, enum manner manner) {
  int port = 0, status = 0, found = -1;
  size_t size = 0;
  int listening = peer_listen("127.0.0.1", &port);
  fflush(stdout);
  pid_t server = fork();
  if (server == 0)
    serve(listening, mechanism, manner);
  close(listening);
  pid_t client = fork();
  if (client == 0)
    send_and_abort(port, mechanism, manner);
  CHECK(waitpid(client, &status, 0) == client);
  if (!CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT))
    printf("%s: exit status %d\n", mechanism, WEXITSTATUS(status));
  CHECK(waitpid(server, &status, 0) == server && status == 0);
  unsigned char *core = take_core(&size);
  for (int i = 0; core && i < NEEDLES; i++) {
    found += i == 0;
    if (holds(core, size, &needles[i])) {
      if (manner != SEND_AND_LEAVE)
        printf("%s: needle %d stands in the core dump\n", mechanism, i);
      found++;
    }
  }
  if (core)
    munmap(core, size);
  return found;
}

int main(void) {
  static const char *const mechanisms[] = {
      "PLAIN",       "LOGIN",         "CRAM-MD5",
      "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-1-PLUS",
      "DIGEST-MD5",  "OAUTHBEARER",   "SCRAM-SHA-256-PLUS",
      "XOAUTH2",     "EXTERNAL"};
  int status = 1;
  if (!mkdtemp(folder))
    return 70;
  pid_t maker = fork();
  if (maker == 0)
    _exit(certs_make(folder) ? 0 : 1);
  CHECK(waitpid(maker, &status, 0) == maker && status == 0);
  disguise(&needles[0], PASSWORD, strlen(PASSWORD));
  for (unsigned shift = 0; shift < 3; shift++)
    disguise_base64(&needles[1 + shift], shift);
  disguise(&needles[NEEDLES - 1], CERTS_PASSPHRASE, strlen(CERTS_PASSPHRASE));
  /* The search does find what is there.  */
  int left = dump("CRAM-MD5", SEND_AND_LEAVE);
  if (left < 0)
    puts("   SKIPPED  no-core-file-on-this-system");
  else {
    CHECK_INT(left, 1);
    for (size_t i = 0; i < sizeof mechanisms / sizeof *mechanisms; i++)
      for (int manner = SEND; manner <= CANCEL; manner += CANCEL)
        CHECK_INT(dump(mechanisms[i], (enum manner)manner), 0);
  }
  certs_remove(folder);
  return check_done("test-coredump");
}
