/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-conn.c - reading lines and writing, without TLS.
   The servers are sockets of this process on the loopback interface.  */
#include "loopback.h"
#include "smtp/reply.h"

#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

/* Read */

#define LINE(text)                                                             \
  { text, sizeof text - 1 }

static void test_lines(void) {
  static const struct {
    const char *bytes;
    size_t len;
  } sent = LINE("220 a\r\nb\n\r\n\nx\ry\r\r\nn\0l\r\n\xc3\xa9\n"),
    want[] = {LINE("220 a"),  LINE("b"),    LINE(""),        LINE(""),
              LINE("x\ry\r"), LINE("n\0l"), LINE("\xc3\xa9")};
  struct pair p;
  pair_open(&p, LONG_MS);
  CHECK(!smn_conn_has_input(p.conn));
  say(&p, sent.bytes, sent.len);
  for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
    const char *line;
    size_t len;
    if (!CHECK(smn_conn_read_line(p.conn, &line, &len, &p.err) == SMN_OK))
      break;
    CHECK_INT(len, want[i].len);
    CHECK(len == want[i].len && memcmp(line, want[i].bytes, len) == 0);
  }
  CHECK(!smn_conn_has_input(p.conn));
  pair_close(&p);
}

/* What is left of one read is there before the socket is asked.  */
static void test_has_input(void) {
  struct pair p;
  const char *line;
  size_t len;
  pair_open(&p, LONG_MS);
  say(&p, "a\nb", 3);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK(smn_conn_has_input(p.conn));
  CHECK(write(p.cancel[1], "", 1) == 1);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_CANCELLED);
  CHECK(smn_conn_has_input(p.conn));
  pair_close(&p);
  pair_open(&p, LONG_MS);
  shutdown(p.server, SHUT_WR);
  CHECK(smn_wait(p.client, SMN_WAIT_READ, smn_now_ms() + LONG_MS, -1, &p.err) ==
        SMN_OK);
  CHECK(smn_conn_has_input(p.conn));
  pair_close(&p);
}

static void test_line_length(void) {
  static const struct {
    size_t octets; /* without the end */
    const char *end;
    enum smn_kind kind;
  } cases[] = {
      {SMN_LINE_MAX - 2, "\r\n", SMN_OK},
      {SMN_LINE_MAX - 1, "\n", SMN_OK},
      {SMN_LINE_MAX - 1, "\r\n", SMN_PROTOCOL},
      {SMN_LINE_MAX, "\n", SMN_PROTOCOL},
      {SMN_LINE_MAX, "", SMN_PROTOCOL}, /* told without waiting for more */
      {SMN_LINE_MAX - 1, "", SMN_TIMEOUT},
  };
  static char text[SMN_LINE_MAX];
  memset(text, 'x', sizeof text);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    /* A line before it, so that the long one begins inside the buffer.  */
    for (int before = 0; before < 2; before++) {
      struct pair p;
      const char *line;
      size_t len = 0;
      pair_open(&p, LONG_MS);
      if (before)
        say(&p, "250 hello\r\n", 11);
      say(&p, text, cases[i].octets);
      say(&p, cases[i].end, strlen(cases[i].end));
      if (before)
        CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
      if (cases[i].kind == SMN_TIMEOUT)
        smn_conn_deadline(p.conn, SHORT_MS);
      if (!CHECK(smn_conn_read_line(p.conn, &line, &len, &p.err) ==
                 cases[i].kind))
        printf("  case %zu: %s\n", i, p.err.text);
      else if (cases[i].kind == SMN_OK)
        CHECK(len == cases[i].octets && memcmp(line, text, len) == 0);
      pair_close(&p);
    }
  }
}

static void *write_pieces(void *argument) {
  const struct pair *p = argument;
  for (const char *c = "250-drip\r\n250 drop\r\n"; *c; c++)
    if (send(p->server, c, 1, MSG_NOSIGNAL) != 1)
      break;
  return NULL;
}

static void test_pieces(void) {
  struct pair p;
  pthread_t thread;
  const char *line;
  size_t len;
  pair_open(&p, LONG_MS);
  setsockopt(p.server, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  CHECK(pthread_create(&thread, NULL, write_pieces, &p) == 0);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK(len == 8 && memcmp(line, "250-drip", len) == 0);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK(len == 8 && memcmp(line, "250 drop", len) == 0);
  pthread_join(thread, NULL);
  pair_close(&p);
}

/* One line each few milliseconds, until told to stop.  */
struct drip {
  int fd, stop;
};

static void *drip(void *argument) {
  const struct drip *d = argument;
  while (poll(&(struct pollfd){.fd = d->stop, .events = POLLIN}, 1, 5) == 0)
    if (send(d->fd, "x\n", 2, MSG_NOSIGNAL) != 2)
      break;
  return NULL;
}

/* Lines come in time, but the deadline is one for all of them.  */
static void test_drip_ends(void) {
  struct pair p;
  pthread_t thread;
  int stop[2];
  const char *line;
  size_t len;
  enum smn_kind kind;
  pair_open(&p, LONG_MS);
  CHECK(pipe(stop) == 0);
  struct drip d = {p.server, stop[0]};
  CHECK(pthread_create(&thread, NULL, drip, &d) == 0);
  int64_t begin = smn_now_ms();
  smn_conn_deadline(p.conn, SHORT_MS);
  do
    kind = smn_conn_read_line(p.conn, &line, &len, &p.err);
  while (kind == SMN_OK && smn_now_ms() - begin < LONG_MS);
  CHECK_INT(kind, SMN_TIMEOUT);
  CHECK(smn_now_ms() - begin >= SHORT_MS);
  smn_conn_deadline(p.conn, LONG_MS);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK(write(stop[1], "", 1) == 1);
  pthread_join(thread, NULL);
  close(stop[0]);
  close(stop[1]);
  pair_close(&p);
}

static void test_read_ends(void) {
  struct pair p;
  const char *line;
  size_t len;
  pair_open(&p, LONG_MS);
  smn_conn_deadline(p.conn, SHORT_MS);
  int64_t begin = smn_now_ms();
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_TIMEOUT);
  CHECK(smn_now_ms() - begin >= SHORT_MS);
  CHECK(smn_now_ms() - begin < LONG_MS);
  smn_conn_deadline(p.conn, LONG_MS);
  /* The end of the stream is no end of line.  */
  say(&p, "421 bye\r\n421 b", 14);
  shutdown(p.server, SHUT_WR);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_NETWORK);
  CHECK(contains(p.err.text, "closed"));
  pair_close(&p);
  pair_open(&p, LONG_MS);
  reset(&p);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_NETWORK);
  pair_close(&p);
}

/* A reply that came in time is not lost when this thread is late.  */
static void test_late_reader(void) {
  struct pair p;
  const char *line;
  size_t len = 0;
  pair_open(&p, LONG_MS);
  say(&p, "250 a\r\n250 b", 12);
  CHECK_INT(
      smn_wait(p.client, SMN_WAIT_READ, smn_now_ms() + LONG_MS, -1, &p.err),
      SMN_OK);
  smn_conn_deadline(p.conn, 0);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK_INT(len, 5);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_TIMEOUT);
  pair_close(&p);
}

static void *cancel_soon(void *argument) {
  const struct pair *p = argument;
  poll(NULL, 0, 20); /* most likely, the other thread waits by then */
  (void)!write(p->cancel[1], "", 1);
  return NULL;
}

static void test_cancel(void) {
  struct pair p;
  pthread_t thread;
  const char *line;
  size_t len, big = 64u << 20;
  char *bytes = calloc(1, big);
  for (int writing = 0; writing < 2; writing++) {
    pair_open(&p, LONG_MS);
    int64_t begin = smn_now_ms();
    CHECK(pthread_create(&thread, NULL, cancel_soon, &p) == 0);
    CHECK_INT(writing ? smn_conn_write(p.conn, bytes, big, &p.err)
                      : smn_conn_read_line(p.conn, &line, &len, &p.err),
              SMN_CANCELLED);
    CHECK_INT(p.err.kind, SMN_CANCELLED);
    CHECK(smn_now_ms() - begin < LONG_MS);
    pthread_join(thread, NULL);
    pair_close(&p);
  }
  free(bytes);
}

static void ignore_signal(int signum) { (void)signum; }

struct disturbance {
  pthread_t victim;
  const struct pair *pair;
};

static void *disturb(void *argument) {
  const struct disturbance *d = argument;
  for (int i = 0; i < 20; i++) {
    pthread_kill(d->victim, SIGUSR1);
    poll(NULL, 0, 1);
  }
  send(d->pair->server, "220 calm\r\n", 10, MSG_NOSIGNAL);
  return NULL;
}

static void test_signals(void) {
  struct pair p;
  pthread_t thread;
  const char *line;
  size_t len = 0;
  struct sigaction action = {.sa_handler = ignore_signal}, before;
  sigaction(SIGUSR1, &action, &before);
  pair_open(&p, LONG_MS);
  struct disturbance d = {pthread_self(), &p};
  CHECK(pthread_create(&thread, NULL, disturb, &d) == 0);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK_INT(len, 8);
  pthread_join(thread, NULL);
  pair_close(&p);
  sigaction(SIGUSR1, &before, NULL);
}

/* Write */

struct reader {
  int fd;
  size_t chunk;
  int pause_ms;
  size_t got;
  bool intact;
};

static unsigned char octet_at(size_t i) {
  return (unsigned char)(i ^ (i >> 8) ^ (i >> 16));
}

static void *read_all(void *argument) {
  struct reader *r = argument;
  static char bytes[65536];
  ssize_t n;
  r->intact = true;
  while ((n = recv(r->fd, bytes, r->chunk, 0)) > 0) {
    for (ssize_t i = 0; i < n; i++)
      r->intact &= (unsigned char)bytes[i] == octet_at(r->got + (size_t)i);
    r->got += (size_t)n;
    if (r->pause_ms)
      poll(NULL, 0, r->pause_ms);
  }
  return NULL;
}

static void write_to_reader(size_t len, int timeout_ms, struct reader *r) {
  struct pair p;
  pthread_t thread;
  char *bytes = malloc(len);
  pair_open(&p, timeout_ms);
  if (r->pause_ms) { /* no buffer takes it all at once */
    setsockopt(p.client, SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int));
    setsockopt(p.server, SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
  }
  for (size_t i = 0; bytes && i < len; i++)
    bytes[i] = (char)octet_at(i);
  r->fd = p.server;
  CHECK(pthread_create(&thread, NULL, read_all, r) == 0);
  CHECK_INT(smn_conn_write(p.conn, bytes, len, &p.err), SMN_OK);
  smn_conn_close(p.conn);
  p.conn = NULL;
  pthread_join(thread, NULL);
  CHECK_INT(r->got, len);
  CHECK(r->intact);
  pair_close(&p);
  free(bytes);
}

static void test_write(void) {
  struct reader fast = {.chunk = 65536};
  write_to_reader(5000001, LONG_MS, &fast);
  /* The whole takes longer than the timeout, no step of it does.  */
  struct reader slow = {.chunk = 16384, .pause_ms = 20};
  int64_t begin = smn_now_ms();
  write_to_reader(2000001, 1000, &slow);
  CHECK(smn_now_ms() - begin > 1000);
}

static void test_write_stalls(void) {
  struct pair p;
  size_t big = 64u << 20;
  char *bytes = calloc(1, big);
  pair_open(&p, SHORT_MS);
  int64_t begin = smn_now_ms();
  CHECK_INT(smn_conn_write(p.conn, bytes, big, &p.err), SMN_TIMEOUT);
  CHECK(smn_now_ms() - begin >= SHORT_MS);
  CHECK(smn_now_ms() - begin < LONG_MS);
  pair_close(&p);
  free(bytes);
}

static void *leave_with_reply(void *argument) {
  struct pair *p = argument;
  char bytes[1000];
  recv(p->server, bytes, sizeof bytes, 0);
  send(p->server, "421 4.3.2 going down\r\n", 22, MSG_NOSIGNAL);
  close(p->server); /* most octets are unread, so this resets */
  return NULL;
}

/* Writing fails because the server went; why it went can still be read.  */
static void test_reply_before_close(void) {
  struct pair p;
  pthread_t thread;
  const char *line;
  size_t len = 0, big = 64u << 20;
  char *bytes = calloc(1, big);
  pair_open(&p, LONG_MS);
  CHECK(pthread_create(&thread, NULL, leave_with_reply, &p) == 0);
  CHECK_INT(smn_conn_write(p.conn, bytes, big, &p.err), SMN_NETWORK);
  pthread_join(thread, NULL);
  p.server = -1;
  CHECK(smn_conn_has_input(p.conn));
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK_INT(len, 20);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_NETWORK);
  /* No SIGPIPE: the default would end the program.  */
  CHECK_INT(smn_conn_write(p.conn, bytes, big, &p.err), SMN_NETWORK);
  pair_close(&p);
  free(bytes);
}

/* RFC 3207, section 6.  */
static void test_octets_before_tls(void) {
  static const struct smn_tls_options options = {.host = "localhost"};
  struct pair p;
  const char *line;
  size_t len;
  pair_open(&p, LONG_MS);
  say(&p, "220 go\r\n250 EVIL\r\n", 18);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_OK);
  CHECK_INT(smn_conn_start_tls(p.conn, &options, &p.err), SMN_PROTOCOL);
  CHECK(contains(p.err.text, "250 EVIL\\x0d\\n"));
  CHECK(!smn_conn_encrypted(p.conn));
  pair_close(&p);
}

int main(void) {
  int fds = count_fds();
  test_lines();
  test_has_input();
  test_line_length();
  test_pieces();
  test_drip_ends();
  test_read_ends();
  test_late_reader();
  test_cancel();
  test_signals();
  test_write();
  test_write_stalls();
  test_reply_before_close();
  test_octets_before_tls();
  CHECK_INT(wait_for_fds(fds), fds);
  return check_done("test-conn");
}
