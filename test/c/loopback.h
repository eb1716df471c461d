/* SPDX-License-Identifier: GPL-3.0-or-later */
/* loopback.h - sockets of the loopback interface, and connections of the core
   to them. Whoever opens one closes it.  */
#ifndef LOOPBACK_H
#define LOOPBACK_H

#include "base/wait.h"
#include "check.h"
#include "fds.h"
#include "net/conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHORT_MS = 60, LONG_MS = 20000 };

/* A socket at ADDRESS and PORT, or -1 if another process has the port there. */
static inline int bind_at(const char *address, int port) {
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

static inline int port_of(int fd) {
  struct sockaddr_in in = {.sin_port = 0};
  socklen_t size = sizeof in;
  CHECK(getsockname(fd, (struct sockaddr *)&in, &size) == 0);
  return ntohs(in.sin_port);
}

static inline int listen_on(const char *address, int backlog, int *port) {
  int fd = bind_at(address, 0);
  CHECK(listen(fd, backlog) == 0);
  *port = port_of(fd);
  return fd;
}

/* Listens at FIRST, and binds *OTHER to the same port at SECOND: a port of the
   kernel's choice that nobody else has at either.  */
static inline int listen_on_both(const char *first, int backlog,
                                 const char *second, int *other, int *port) {
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
static inline int closed_port(void) {
  static int fd = -1;
  if (fd < 0)
    fd = bind_at("0.0.0.0", 0);
  return port_of(fd);
}

static inline enum smn_kind open_at(struct smn_conn **conn, const char *host,
                                    int port, int timeout_ms, int cancel_fd,
                                    struct smn_error *err) {
  const struct smn_conn_to to = {.host = host, .port = port};
  return smn_conn_open(conn, &to, timeout_ms, cancel_fd, err);
}

/* A look-up's helper closes its own a moment after it has answered.  */
static inline int wait_for_fds(int count) {
  int64_t end = smn_now_ms() + LONG_MS;
  while (count_fds() != count && smn_now_ms() < end)
    poll(NULL, 0, 1);
  return count_fds();
}

static inline bool contains(const char *text, const char *part) {
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

static inline void pair_open(struct pair *p, int timeout_ms) {
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

static inline void pair_close(struct pair *p) {
  smn_conn_close(p->conn);
  if (p->server >= 0)
    close(p->server);
  close(p->cancel[0]);
  close(p->cancel[1]);
}

static inline void say(const struct pair *p, const void *bytes, size_t len) {
  CHECK_INT(send(p->server, bytes, len, MSG_NOSIGNAL), len);
}

/* Close with unread octets still there, which resets the connection.  */
static inline void reset(struct pair *p) {
  setsockopt(p->server, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0},
             sizeof(struct linger));
  close(p->server);
  p->server = -1;
}

#endif
