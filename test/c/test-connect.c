/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-connect.c - connections to one of several addresses, and to local
   sockets.  */
#include "names.h"

#include "loopback.h"

#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/un.h>

static void test_connect_properties(void) {
  struct pair p;
  pair_open(&p, LONG_MS);
  int on = 0;
  socklen_t size = sizeof on;
  CHECK(fcntl(p.client, F_GETFD) & FD_CLOEXEC);
  CHECK(fcntl(p.client, F_GETFL) & O_NONBLOCK);
  CHECK(getsockopt(p.client, IPPROTO_TCP, TCP_NODELAY, &on, &size) == 0 && on);
  CHECK_INT(p.err.stage, SMN_STAGE_CONNECT);
  CHECK(!smn_conn_encrypted(p.conn));
  CHECK(smn_conn_tls_info(p.conn) == NULL);
  CHECK(smn_conn_tls(p.conn) == NULL);
  pair_close(&p);
  smn_conn_close(NULL);
}

static void test_loopback(void) {
  static const struct {
    const char *host;
    bool loopback;
  } cases[] = {
      {"127.0.0.1", true},
      {"127.8.9.10", true},
      {"one.test", true},
      {"::ffff:127.0.0.1", true},
      /* Comes to this machine too, but says nothing of the kind.  */
      {"0.0.0.0", false},
  };
  int port;
  int listener = listen_on("0.0.0.0", 16, &port);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_conn *conn;
    struct smn_error err = {0};
    if (CHECK(open_at(&conn, cases[i].host, port, LONG_MS, -1, &err) ==
              SMN_OK)) {
      if (!CHECK(smn_conn_loopback(conn) == cases[i].loopback))
        printf("  host %s\n", cases[i].host);
    } else
      printf("  host %s: %s\n", cases[i].host, err.text);
    smn_conn_close(conn);
  }
  close(listener);
}

static void test_connect_fails(void) {
  static const struct {
    const char *host;
    enum smn_kind kind;
    enum smn_stage stage;
    const char *text[2];
  } cases[] = {
      {"127.0.0.1",
       SMN_NETWORK,
       SMN_STAGE_CONNECT,
       {"127.0.0.1: ", "Connection refused"}},
      {"none.test",
       SMN_NETWORK,
       SMN_STAGE_CONNECT,
       {"127.0.0.2: ", "; 127.0.0.3: "}},
      {"unknown.test", SMN_RESOLVE, SMN_STAGE_RESOLVE, {"unknown.test", ""}},
  };
  int port = closed_port();
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_conn *conn = (void *)&port;
    struct smn_error err = {0};
    CHECK_INT(open_at(&conn, cases[i].host, port, LONG_MS, -1, &err),
              cases[i].kind);
    CHECK(conn == NULL);
    CHECK_INT(err.kind, cases[i].kind);
    CHECK_INT(err.stage, cases[i].stage);
    CHECK(contains(err.text, cases[i].text[0]));
    CHECK(contains(err.text, cases[i].text[1]));
  }
}

static void test_connect_next_address(void) {
  int port, closed;
  struct smn_conn *conn;
  struct smn_error err;
  int listener = listen_on_both("127.0.0.1", 4, "127.0.0.2", &closed, &port);
  CHECK_INT(open_at(&conn, "second.test", port, LONG_MS, -1, &err), SMN_OK);
  CHECK(smn_conn_loopback(conn));
  smn_conn_close(conn);
  close(closed);
  close(listener);
}

/* An answer of DNS may be long, the patience with it is not.  */
static void test_connect_many_addresses(void) {
  int port, closed;
  struct smn_conn *conn;
  struct smn_error err;
  int listener = listen_on_both("127.0.0.1", 4, "127.0.0.2", &closed, &port);
  CHECK_INT(open_at(&conn, "refused-63.test", port, LONG_MS, -1, &err), SMN_OK);
  smn_conn_close(conn);
  CHECK_INT(open_at(&conn, "refused-64.test", port, LONG_MS, -1, &err),
            SMN_NETWORK);
  close(closed);
  close(listener);
}

/* Connections to a listener whose queue is full stay pending.  */
static int fill_queue(const char *address, int port, int *fds, int max) {
  struct sockaddr_in in = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, address, &in.sin_addr);
  for (int i = 0; i < max; i++) {
    fds[i] = socket(AF_INET, SOCK_STREAM, 0);
    smn_set_nonblocking(fds[i]);
    connect(fds[i], (const struct sockaddr *)&in, sizeof in);
    if (poll(&(struct pollfd){.fd = fds[i], .events = POLLOUT}, 1, 200) == 0)
      return i + 1;
  }
  return max;
}

static void test_connect_waits(void) {
  int port, cancel[2], fds[16];
  struct smn_conn *conn;
  struct smn_error err;
  int listener = listen_on("127.0.0.1", 0, &port);
  int count = fill_queue("127.0.0.1", port, fds, 16);
  CHECK(count < 16);
  CHECK(pipe(cancel) == 0);
  int64_t begin = smn_now_ms();
  CHECK_INT(open_at(&conn, "127.0.0.1", port, SHORT_MS, cancel[0], &err),
            SMN_TIMEOUT);
  CHECK(smn_now_ms() - begin >= SHORT_MS);
  CHECK(contains(err.text, "127.0.0.1: no reply in time"));
  CHECK(write(cancel[1], "", 1) == 1);
  CHECK_INT(open_at(&conn, "127.0.0.1", port, LONG_MS, cancel[0], &err),
            SMN_CANCELLED);
  CHECK(conn == NULL);
  CHECK(smn_now_ms() - begin < LONG_MS);
  for (int i = 0; i < count; i++)
    close(fds[i]);
  close(cancel[0]);
  close(cancel[1]);
  close(listener);
}

/* Happy Eyeballs */

static void test_other_family(void) {
  int port;
  struct smn_conn *conn;
  struct smn_error err;
  int listener = listen_on("127.0.0.1", 4, &port);
  CHECK_INT(open_at(&conn, "both.test", port, LONG_MS, -1, &err), SMN_OK);
  CHECK(smn_conn_loopback(conn));
  smn_conn_close(conn);
  close(listener);
}

/* Whoever wins tells whether it is this machine, not whoever was tried: nobody
   answers at ::1 where the rest is IPv4.  */
static void test_winner_is_told(void) {
  int port;
  struct smn_conn *conn;
  struct smn_error err;
  int listener = listen_on("0.0.0.0", 4, &port);
  CHECK_INT(open_at(&conn, "any.test", port, LONG_MS, -1, &err), SMN_OK);
  CHECK(!smn_conn_loopback(conn));
  smn_conn_close(conn);
  close(listener);
}

static void test_families_take_turns(void) {
  static const char *const order[] = {
      "::1: ", "; 127.0.0.2: ", "; ::ffff:127.0.0.4: ", "; 127.0.0.3: ",
      "; 127.0.0.5: "};
  struct smn_conn *conn;
  struct smn_error err;
  CHECK_INT(open_at(&conn, "turns.test", closed_port(), LONG_MS, -1, &err),
            SMN_NETWORK);
  const char *at = err.text;
  for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
    const char *found = at ? strstr(at, order[i]) : NULL;
    if (!CHECK(found != NULL))
      printf("  %s in \"%s\"\n", order[i], err.text);
    at = found;
  }
}

/* The first address does not answer; the second begins beside it, and when it
   has won, nothing of the first is left.  */
static void test_silent_address_first(void) {
  int port, second, fds[16], other[16];
  struct smn_conn *conn;
  struct smn_error err;
  int listener = listen_on_both("127.0.0.2", 0, "127.0.0.1", &second, &port);
  CHECK(listen(second, 0) == 0);
  int count = fill_queue("127.0.0.2", port, fds, 16);
  CHECK(count < 16);
  int before = count_fds();
  int64_t begin = smn_now_ms();
  CHECK_INT(open_at(&conn, "second.test", port, LONG_MS, -1, &err), SMN_OK);
  CHECK(smn_now_ms() - begin >= 250);
  CHECK(smn_now_ms() - begin < LONG_MS);
  CHECK_INT(wait_for_fds(before + 1), before + 1);
  smn_conn_close(conn);
  /* Both are silent: each has its own time, and they end together.  */
  int others = fill_queue("127.0.0.1", port, other, 16);
  CHECK(others < 16);
  CHECK_INT(open_at(&conn, "second.test", port, 300, -1, &err), SMN_TIMEOUT);
  CHECK(contains(err.text, "127.0.0.2: no reply in time; "
                           "127.0.0.1: no reply in time"));
  int cancel[2];
  CHECK(pipe(cancel) == 0 && write(cancel[1], "", 1) == 1);
  before = count_fds();
  CHECK_INT(open_at(&conn, "second.test", port, LONG_MS, cancel[0], &err),
            SMN_CANCELLED);
  CHECK_INT(wait_for_fds(before), before);
  close(cancel[0]);
  close(cancel[1]);
  for (int i = 0; i < count; i++)
    close(fds[i]);
  for (int i = 0; i < others; i++)
    close(other[i]);
  close(listener);
  close(second);
}

/* Source address */

static void test_source(void) {
  static const struct {
    const char *host, *source;
    enum smn_kind kind;
    const char *text; /* of the error, or the address that the server sees */
  } cases[] = {
      {"127.0.0.1", "127.0.0.9", SMN_OK, "127.0.0.9"},
      {"both.test", "127.0.0.9", SMN_OK, "127.0.0.9"},
      {"127.0.0.1", "::1", SMN_NETWORK, "a different family"},
      {"127.0.0.1", "192.0.2.1", SMN_NETWORK, "from the source address"},
      {"127.0.0.1", "localhost", SMN_USAGE, "\"localhost\""},
  };
  int port;
  int listener = listen_on("127.0.0.1", 4, &port);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_conn *conn;
    struct smn_error err = {0};
    const struct smn_conn_to to = {
        .host = cases[i].host, .port = port, .source = cases[i].source};
    CHECK_INT(smn_conn_open(&conn, &to, LONG_MS, -1, &err), cases[i].kind);
    if (cases[i].kind != SMN_OK) {
      CHECK(contains(err.text, cases[i].text));
      continue;
    }
    struct sockaddr_in in;
    socklen_t size = sizeof in;
    char seen[INET_ADDRSTRLEN] = "";
    int fd = accept(listener, (struct sockaddr *)&in, &size);
    inet_ntop(AF_INET, &in.sin_addr, seen, sizeof seen);
    CHECK_STRING(seen, cases[i].text);
    close(fd);
    smn_conn_close(conn);
  }
  close(listener);
}

/* Local sockets */

static void *accept_soon(void *argument) {
  poll(NULL, 0, 50); /* most likely, the other thread waits by then */
  close(accept(*(const int *)argument, NULL, NULL));
  return NULL;
}

/* Fill the queue of the local socket at ADDRESS.  */
static int fill_local(const struct sockaddr_un *address, int *fds, int max) {
  int count = 0;
  while (count < max) {
    fds[count] = socket(AF_UNIX, SOCK_STREAM, 0);
    smn_set_nonblocking(fds[count]);
    if (connect(fds[count++], (const struct sockaddr *)address,
                sizeof *address) != 0)
      break;
  }
  return count;
}

static void test_local_socket(void) {
  char folder[] = "/tmp/smn-conn-XXXXXX", name[64];
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  struct smn_conn *conn;
  struct smn_error err = {0};
  int fds[16];
  pthread_t thread;
  CHECK(mkdtemp(folder) != NULL);
  snprintf(local.sun_path, sizeof local.sun_path, "%s/s", folder);
  snprintf(name, sizeof name, "unix:%s/s", folder);
  CHECK_INT(open_at(&conn, name, 0, LONG_MS, -1, &err), SMN_NETWORK);
  CHECK(contains(err.text, local.sun_path));
  CHECK(contains(err.text, "No such file"));
  int listener = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(listener, (struct sockaddr *)&local, sizeof local) == 0 &&
        listen(listener, 0) == 0);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(open_at(&conn, i ? name : local.sun_path, 0, LONG_MS, -1, &err),
              SMN_OK);
    CHECK(smn_conn_loopback(conn));
    close(accept(listener, NULL, NULL));
    smn_conn_close(conn);
  }
  /* A full queue is waited for.  */
  int count = fill_local(&local, fds, 16);
  CHECK(count < 16);
  CHECK_INT(open_at(&conn, name, 0, SHORT_MS, -1, &err), SMN_TIMEOUT);
  CHECK(pthread_create(&thread, NULL, accept_soon, &listener) == 0);
  CHECK_INT(open_at(&conn, name, 0, LONG_MS, -1, &err), SMN_OK);
  smn_conn_close(conn);
  pthread_join(thread, NULL);
  for (int i = 0; i < count; i++)
    close(fds[i]);
  close(listener);
  unlink(local.sun_path);
  rmdir(folder);
  char much[200] = "/";
  memset(much + 1, 'x', sizeof much - 2);
  CHECK_INT(open_at(&conn, much, 0, LONG_MS, -1, &err), SMN_USAGE);
  CHECK(smn_conn_local("unix:relative") == NULL);
  CHECK(smn_conn_local("mail.example.org") == NULL);
}

int main(void) {
  closed_port(); /* opens the one descriptor that stays */
  int fds = count_fds();
  test_connect_properties();
  test_loopback();
  test_connect_fails();
  test_connect_next_address();
  test_connect_many_addresses();
  test_connect_waits();
  test_other_family();
  test_winner_is_told();
  test_families_take_turns();
  test_silent_address_first();
  test_source();
  test_local_socket();
  CHECK_INT(wait_for_fds(fds), fds);
  return check_done("test-connect");
}
