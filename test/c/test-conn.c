/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-conn.c - resolving, connecting, reading lines and writing, without TLS.
   The servers are sockets of this process on the loopback interface.  Names
   that end in ".test" are answered here, in place of the system's resolver, so
   that nothing leaves the machine; the rest goes to the real getaddrinfo.  */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif
#include "base/wait.h"
#include "check.h"
#include "fds.h"
#include "net/address.h"
#include "net/conn.h"
#include "net/resolve.h"
#include "smtp/reply.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { SHORT_MS = 60, LONG_MS = 20000 };

/* The resolver */

/* A look-up of slow.test ends when this descriptor becomes readable.  */
static int slow_fd = -1;

/* Under the lock, because the look-ups run in threads of their own.  */
static pthread_mutex_t asked_lock = PTHREAD_MUTEX_INITIALIZER;
static char asked[256];
static bool asked_with_sigterm_blocked;

static const struct {
  const char *name;
  const char *addresses[6];
  int status;
} names[] = {
    {"one.test", {"127.0.0.1"}, 0},
    {"second.test", {"127.0.0.2", "127.0.0.1"}, 0},
    {"none.test", {"127.0.0.2", "127.0.0.3"}, 0},
    {"both.test", {"::1", "127.0.0.1"}, 0},
    {"any.test", {"::1", "0.0.0.0"}, 0},
    {"turns.test",
     {"::1", "::ffff:127.0.0.4", "127.0.0.2", "127.0.0.3", "127.0.0.5"},
     0},
    {"slow.test", {"127.0.0.1"}, 0},
    {"unknown.test", {NULL}, EAI_NONAME},
    {"silent.test", {NULL}, EAI_AGAIN},
    {"broken.test", {NULL}, EAI_SYSTEM},
    {"xn--bcher-kva.test", {"127.0.0.1"}, 0},
};

static void note_question(const char *host) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  pthread_mutex_lock(&asked_lock);
  snprintf(asked, sizeof asked, "%s", host);
  asked_with_sigterm_blocked = sigismember(&mask, SIGTERM) == 1;
  pthread_mutex_unlock(&asked_lock);
}

int getaddrinfo(const char *host, const char *port,
                const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *,
              struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  size_t i = 0, count = sizeof names / sizeof *names;
  while (i < count && strcmp(names[i].name, host) != 0)
    i++;
  if ((i == count && strncmp(host, "refused-", 8) != 0) ||
      (hints->ai_flags & AI_NUMERICHOST))
    return real(host, port, hints, found);
  note_question(host);
  int refused;
  if (sscanf(host, "refused-%d.test", &refused) == 1) {
    for (; refused >= 0; refused--) {
      int status =
          real(refused ? "127.0.0.2" : "127.0.0.1", port, hints, found);
      if (status != 0)
        return status;
      found = &(*found)->ai_next;
    }
    return 0;
  }
  if (strcmp(host, "slow.test") == 0)
    poll(&(struct pollfd){.fd = slow_fd, .events = POLLIN}, 1, LONG_MS);
  for (const char *const *a = names[i].addresses; *a; a++) {
    int status = real(*a, port, hints, found);
    if (status != 0)
      return status;
    found = &(*found)->ai_next;
  }
  errno = EMFILE;
  return names[i].status;
}

/* Helpers */

/* A socket at ADDRESS and PORT, or -1 if another process has the port there. */
static int bind_at(const char *address, int port) {
  struct sockaddr_in in = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)port)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(fd >= 0 && inet_pton(AF_INET, address, &in.sin_addr) == 1);
  if (bind(fd, (const struct sockaddr *)&in, sizeof in) == 0)
    return fd;
  CHECK_INT(errno, EADDRINUSE);
  close(fd);
  return -1;
}

static int port_of(int fd) {
  struct sockaddr_in in = {.sin_port = 0};
  socklen_t size = sizeof in;
  CHECK(getsockname(fd, (struct sockaddr *)&in, &size) == 0);
  return ntohs(in.sin_port);
}

static int listen_on(const char *address, int backlog, int *port) {
  int fd = bind_at(address, 0);
  CHECK(listen(fd, backlog) == 0);
  *port = port_of(fd);
  return fd;
}

/* Listens at FIRST, and binds *OTHER to the same port at SECOND: a port of the
   kernel's choice that nobody else has at either.  */
static int listen_on_both(const char *first, int backlog, const char *second,
                          int *other, int *port) {
  int taken[64], fd, count = 0;
  while ((fd = listen_on(first, backlog, port)),
         (*other = bind_at(second, *port)) < 0 && CHECK(count < 64))
    taken[count++] = fd; /* kept, so that the next port is another */
  while (count > 0)
    close(taken[--count]);
  return fd;
}

/* A port where nobody listens, at no address.  It stays bound, so that no other
   process gets it in the meantime.  */
static int closed_port(void) {
  static int fd = -1;
  if (fd < 0)
    fd = bind_at("0.0.0.0", 0);
  return port_of(fd);
}

static enum smn_kind open_at(struct smn_conn **conn, const char *host, int port,
                             int timeout_ms, int cancel_fd,
                             struct smn_error *err) {
  const struct smn_conn_to to = {.host = host, .port = port};
  return smn_conn_open(conn, &to, timeout_ms, cancel_fd, err);
}

/* A look-up's helper closes its own a moment after it has answered.  */
static int wait_for_fds(int count) {
  int64_t end = smn_now_ms() + LONG_MS;
  while (count_fds() != count && smn_now_ms() < end)
    poll(NULL, 0, 1);
  return count_fds();
}

static bool contains(const char *text, const char *part) {
  if (strstr(text, part))
    return true;
  printf("  not in \"%s\":\n", text);
  return false;
}

/* A connection and the server's end of it.  */
struct pair {
  struct smn_conn *conn;
  int server, client; /* client: the descriptor inside conn */
  int cancel[2];
  struct smn_error err;
};

static void pair_open(struct pair *p, int timeout_ms) {
  int port;
  *p = (struct pair){.server = -1};
  int listener = listen_on("127.0.0.1", 4, &port);
  CHECK(pipe(p->cancel) == 0);
  CHECK_INT(
      open_at(&p->conn, "127.0.0.1", port, timeout_ms, p->cancel[0], &p->err),
      SMN_OK);
  p->server = accept(listener, NULL, NULL);
  CHECK(p->server >= 0);
  p->client = other_end(p->server);
  close(listener);
  smn_conn_deadline(p->conn, timeout_ms);
}

static void pair_close(struct pair *p) {
  smn_conn_close(p->conn);
  if (p->server >= 0)
    close(p->server);
  close(p->cancel[0]);
  close(p->cancel[1]);
}

static void say(const struct pair *p, const void *bytes, size_t len) {
  CHECK_INT(send(p->server, bytes, len, MSG_NOSIGNAL), len);
}

/* Close with unread octets still there, which resets the connection.  */
static void reset(struct pair *p) {
  setsockopt(p->server, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
             sizeof(struct linger));
  close(p->server);
  p->server = -1;
}

/* Threads */

/* The thread that started this one counts checks at the same time.  */
static void *note_stack(void *size) {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstacksize(&attributes, size);
    pthread_attr_destroy(&attributes);
  }
  return NULL;
}

/* As where the system is stingy; and what it gives by itself is not cut.  */
static void test_thread_stack(void) {
  pthread_attr_t before, changed;
  CHECK_INT(pthread_getattr_default_np(&before), 0);
  for (size_t size = 131072; size <= 4194304; size *= 32) {
    size_t got = 0;
    pthread_t thread;
    pthread_attr_init(&changed);
    pthread_attr_setstacksize(&changed, size);
    CHECK_INT(pthread_setattr_default_np(&changed), 0);
    pthread_attr_destroy(&changed);
    CHECK_INT(smn_thread_start(&thread, note_stack, &got), 0);
    pthread_join(thread, NULL);
    CHECK(got >= 1048576 && got >= size);
  }
  CHECK_INT(pthread_setattr_default_np(&before), 0);
  pthread_attr_destroy(&before);
}

/* Resolve */

static void test_resolve_table(void) {
  static const struct {
    const char *host;
    enum smn_kind kind;
    const char *text; /* part of the error, or the address that is found */
  } cases[] = {
      {"127.0.0.1", SMN_OK, "127.0.0.1"},
      {"::1", SMN_OK, "::1"},
      {"[::1]", SMN_OK, "::1"},
      {"[127.0.0.1]", SMN_OK, "127.0.0.1"},
      {"::ffff:127.0.0.1", SMN_OK, "::ffff:127.0.0.1"},
      {"fe80::1%lo", SMN_OK, "fe80::1%lo"},
      {"localhost", SMN_OK, NULL},
      {"one.test", SMN_OK, "127.0.0.1"},
      {"b\xc3\xbc"
       "cher.test",
       SMN_OK, "127.0.0.1"},
      {"unknown.test", SMN_RESOLVE, "unknown.test"},
      {"silent.test", SMN_RESOLVE, "the name service does not answer"},
      {"broken.test", SMN_RESOLVE, "Too many open files"},
      {"", SMN_RESOLVE, "not a domain name"},
      {"a b.test", SMN_RESOLVE, "not a domain name"},
      {"one.test/", SMN_RESOLVE, "not a domain name"},
      {"[one.test]", SMN_RESOLVE, "not a domain name"},
      {"one.test%lo", SMN_RESOLVE, "not a domain name"},
      {"\xff\xfe.test", SMN_RESOLVE, "not a domain name"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct addrinfo *found = NULL;
    struct smn_error err = {0};
    char name[128] = "";
    if (!CHECK(smn_resolve(cases[i].host, 25, LONG_MS, -1, &found, &err) ==
               cases[i].kind))
      printf("  host \"%s\": %s\n", cases[i].host, err.text);
    if (cases[i].kind != SMN_OK) {
      CHECK_INT(err.kind, cases[i].kind);
      CHECK(contains(err.text, cases[i].text));
      continue;
    }
    if (!CHECK(found != NULL))
      continue;
    getnameinfo(found->ai_addr, found->ai_addrlen, name, sizeof name, NULL, 0,
                NI_NUMERICHOST);
    if (cases[i].text)
      CHECK_STRING(name, cases[i].text);
    CHECK_INT(found->ai_socktype, SOCK_STREAM);
    freeaddrinfo(found);
  }
}

static void test_address(void) {
  static const struct {
    const char *host, *text; /* text: NULL when it is no server */
    int family;
    unsigned char last; /* octet */
  } cases[] = {
      {"127.0.0.7", "127.0.0.7", AF_INET, 7},
      {"[127.0.0.7]", "127.0.0.7", AF_INET, 7},
      {"::7", "::7", AF_INET6, 7},
      {"[::7]", "::7", AF_INET6, 7},
      {"fe80::7%eth0", "fe80::7", AF_INET6, 7},
      {"[fe80::7%eth0]", "fe80::7", AF_INET6, 7},
      {"mail.example", "mail.example", AF_UNSPEC, 0},
      {"_x-y.example.", "_x-y.example.", AF_UNSPEC, 0},
      {"b\xc3\xbc"
       "cher.example",
       "xn--bcher-kva.example", AF_UNSPEC, 0},
      {"127.0.0.7%eth0", NULL, AF_UNSPEC, 0},
      {"mail.example%eth0", NULL, AF_UNSPEC, 0},
      {"[mail.example]", NULL, AF_UNSPEC, 0},
      {"[]", NULL, AF_UNSPEC, 0},
      {"", NULL, AF_UNSPEC, 0},
      {"a b", NULL, AF_UNSPEC, 0},
      {"a\r\nb", NULL, AF_UNSPEC, 0},
      {"a/b", NULL, AF_UNSPEC, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_address address;
    bool good = CHECK(smn_address_read(&address, cases[i].host) ==
                      (cases[i].text != NULL));
    if (good && cases[i].text) {
      CHECK_STRING(address.text, cases[i].text);
      CHECK_INT(address.family, cases[i].family);
      good = CHECK(address.len == 0 ||
                   address.octets[address.len - 1] == cases[i].last);
    }
    if (!good)
      printf("  %s\n", cases[i].host);
  }
  char much[300];
  struct smn_address address;
  memset(much, 'x', sizeof much - 1);
  much[sizeof much - 1] = '\0';
  CHECK(!smn_address_read(&address, much));
}

static void test_resolve_in_thread(void) {
  struct addrinfo *found = NULL;
  struct smn_error err;
  CHECK_INT(smn_resolve("B\xc3\x9c"
                        "CHER.test",
                        25, LONG_MS, -1, &found, &err),
            SMN_OK);
  freeaddrinfo(found);
  pthread_mutex_lock(&asked_lock);
  CHECK_STRING(asked, "xn--bcher-kva.test");
  CHECK(asked_with_sigterm_blocked);
  pthread_mutex_unlock(&asked_lock);
}

/* The name service does not answer: the wait ends, the helper goes on.  */
static void test_resolve_slow(void) {
  int cancel[2] = {-1, -1}, slow[2] = {-1, -1};
  struct addrinfo *found = NULL;
  struct smn_error err;
  CHECK(pipe(cancel) == 0 && pipe(slow) == 0);
  slow_fd = slow[0];
  int64_t begin = smn_now_ms();
  CHECK_INT(smn_resolve("slow.test", 25, SHORT_MS, cancel[0], &found, &err),
            SMN_TIMEOUT);
  CHECK(smn_now_ms() - begin >= SHORT_MS);
  CHECK(write(cancel[1], "", 1) == 1);
  CHECK_INT(smn_resolve("slow.test", 25, LONG_MS, cancel[0], &found, &err),
            SMN_CANCELLED);
  CHECK(smn_now_ms() - begin < LONG_MS);
  CHECK(found == NULL);
  /* From here on both look-ups end, and so does any later one at once.  */
  CHECK(write(slow[1], "", 1) == 1);
  CHECK_INT(smn_resolve("slow.test", 25, LONG_MS, -1, &found, &err), SMN_OK);
  freeaddrinfo(found);
  close(cancel[0]);
  close(cancel[1]);
}

/* Connect */

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
  closed_port(); /* opens the one descriptor that stays */
  int fds = count_fds();
  test_thread_stack();
  test_resolve_table();
  test_address();
  test_resolve_in_thread();
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
  test_resolve_slow();
  CHECK_INT(wait_for_fds(fds + 2), fds + 2); /* slow_fd and its other end */
  return check_done("test-conn");
}
