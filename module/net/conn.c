/* SPDX-License-Identifier: GPL-3.0-or-later */
/* conn.c - a connection, plain or TLS: connect, read a line, write.  */
#include "net/conn.h"
#include "base/wait.h"
#include "net/connect.h"
#include "net/io.h"
#include "net/proxy.h"
#include "net/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INPUT 16384 /* one TLS record, and two lines at least */

/* Records of TLS between two with content.  A server has a few at most: tickets
   after the handshake, a new key now and then.  */
#define BARREN_MAX 128

struct smn_conn {
  int fd;
  int cancel_fd;
  int timeout_ms;
  int64_t deadline_ms; /* for reading */
  bool loopback;
  bool encrypted; /* the handshake has succeeded */
  struct smn_tls *tls;
  int barren; /* records without content since the last with some */
  struct smn_error broken; /* why nothing can be read any more, or SMN_OK */
  size_t written;          /* octets of the last write that have left */
  bool cut;                /* it has failed, and must not be finished */
  size_t from, to;         /* what of input is read and not yet asked for */
  char input[INPUT];
};

/* Connect */

/* The address of the local socket FILE.  */
static enum smn_kind connect_local(struct smn_conn *c, const char *file,
                                   struct smn_error *err) {
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  const struct addrinfo found = {.ai_family = AF_UNIX,
                                 .ai_socktype = SOCK_STREAM,
                                 .ai_addr = (struct sockaddr *)&local,
                                 .ai_addrlen = sizeof local};
  if (strlen(file) >= sizeof local.sun_path)
    return smn_fail(err, SMN_USAGE,
                    "the name of the local socket is longer than %zu octets",
                    sizeof local.sun_path - 1);
  memcpy(local.sun_path, file, strlen(file) + 1);
  err->stage = SMN_STAGE_CONNECT;
  return smn_connect(&c->fd, &found, NULL, c->timeout_ms, c->cancel_fd,
                     &c->loopback, err);
}

static enum smn_kind connect_host(struct smn_conn *c, const char *host,
                                  int port, const char *source,
                                  struct smn_error *err) {
  struct addrinfo *found = NULL;
  err->stage = SMN_STAGE_RESOLVE;
  enum smn_kind kind =
      smn_resolve(host, port, c->timeout_ms, c->cancel_fd, &found, err);
  if (kind != SMN_OK)
    return kind;
  err->stage = SMN_STAGE_CONNECT;
  kind = smn_connect(&c->fd, found, source, c->timeout_ms, c->cancel_fd,
                     &c->loopback, err);
  freeaddrinfo(found);
  return kind;
}

static enum smn_kind connect_by_proxy(struct smn_conn *c,
                                      const struct smn_conn_to *to,
                                      struct smn_error *err) {
  struct smn_proxy proxy;
  if (!smn_proxy_parse(&proxy, to->proxy))
    return smn_fail(err, SMN_USAGE, "the proxy is not %s", SMN_PROXY_USAGE);
  enum smn_kind kind = connect_host(c, proxy.host, proxy.port, to->source, err);
  if (kind == SMN_OK)
    kind = smn_proxy_connect(&proxy, c->fd, to->host, to->port, c->timeout_ms,
                             c->cancel_fd, err);
  c->loopback = false;
  if (kind == SMN_OK || kind == SMN_CANCELLED)
    return kind;
  const struct smn_error why = *err;
  return smn_fail(err, kind, "proxy %s, port %d: %.1600s", proxy.host,
                  proxy.port, why.text);
}

enum smn_kind smn_conn_open(struct smn_conn **conn,
                            const struct smn_conn_to *to, int timeout_ms,
                            int cancel_fd, struct smn_error *err) {
  const char *file = smn_conn_local(to->host);
  struct smn_conn *c = calloc(1, sizeof *c);
  *conn = NULL;
  if (!c)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  *c = (struct smn_conn){
      .fd = -1, .cancel_fd = cancel_fd, .timeout_ms = timeout_ms};
  smn_conn_deadline(c, timeout_ms);
  enum smn_kind kind =
      file        ? connect_local(c, file, err)
      : to->proxy ? connect_by_proxy(c, to, err)
                  : connect_host(c, to->host, to->port, to->source, err);
  if (kind == SMN_OK)
    *conn = c;
  else {
    if (c->fd >= 0)
      close(c->fd);
    free(c);
  }
  return kind;
}

void smn_conn_heed(struct smn_conn *conn, int cancel_fd) {
  conn->cancel_fd = cancel_fd;
}

const char *smn_conn_local(const char *host) {
  static const char word[] = "unix:";
  if (strncmp(host, word, sizeof word - 1) == 0)
    host += sizeof word - 1;
  return *host == '/' ? host : NULL;
}

/* TLS */

/* STEP, unless the server has sent too many records without an octet for us:
   they would cost it little, and us a thread.  */
static enum smn_io bounded(struct smn_conn *c, enum smn_io step,
                           struct smn_error *err) {
  if (step == SMN_IO_DONE)
    c->barren = 0;
  if (step != SMN_IO_BARREN || ++c->barren <= BARREN_MAX)
    return step;
  smn_fail(err, SMN_TLS,
           "the server sent more than %d records of TLS without content",
           BARREN_MAX);
  return SMN_IO_FAILED;
}

enum smn_kind smn_conn_start_tls(struct smn_conn *conn,
                                 const struct smn_tls_options *options,
                                 struct smn_error *err) {
  if (conn->from < conn->to) {
    char quoted[256];
    smn_quote(quoted, sizeof quoted, conn->input + conn->from,
              conn->to - conn->from);
    return smn_fail(err, SMN_PROTOCOL,
                    "unencrypted data after the reply to STARTTLS; someone may "
                    "be tampering with the connection: \"%s\"",
                    quoted);
  }
  enum smn_kind kind = smn_tls_new(&conn->tls, options, conn->fd, err);
  int64_t deadline_ms = smn_now_ms() + conn->timeout_ms;
  while (kind == SMN_OK && !conn->encrypted) {
    enum smn_io step = bounded(conn, smn_tls_handshake(conn->tls, err), err);
    conn->encrypted = step == SMN_IO_DONE;
    kind = smn_io_wait(step, conn->fd, deadline_ms, conn->cancel_fd, err);
  }
  return kind;
}

bool smn_conn_encrypted(const struct smn_conn *conn) { return conn->encrypted; }

bool smn_conn_loopback(const struct smn_conn *conn) { return conn->loopback; }

const struct smn_tls_info *smn_conn_tls_info(const struct smn_conn *conn) {
  return conn->tls ? smn_tls_info(conn->tls) : NULL;
}

struct smn_tls *smn_conn_tls(struct smn_conn *conn) {
  return conn->tls;
}

/* Read */

void smn_conn_deadline(struct smn_conn *conn, int64_t ms) {
  conn->deadline_ms = smn_now_ms() + ms;
}

/* One step of reading.  What comes is added to the input, whose content moves
   to its start.  A failure is kept: the caller may only have looked for input.
 */
static enum smn_io take(struct smn_conn *c) {
  size_t moved = 0;
  if (c->broken.kind != SMN_OK)
    return SMN_IO_FAILED;
  memmove(c->input, c->input + c->from, c->to - c->from);
  c->to -= c->from;
  c->from = 0;
  char *into = c->input + c->to;
  const size_t room = INPUT - c->to;
  enum smn_io step =
      c->encrypted ? smn_tls_read(c->tls, into, room, &moved, &c->broken)
                   : smn_io_receive(c->fd, into, room, &moved, &c->broken);
  step = bounded(c, step, &c->broken);
  if (step == SMN_IO_END)
    smn_io_wait(step, c->fd, 0, -1, &c->broken);
  c->to += moved;
  return step;
}

/* Wait until there is more.  What is there counts even if this thread comes
   late: a computer may have slept meanwhile.  */
static enum smn_kind fill(struct smn_conn *c, struct smn_error *err) {
  for (;;) {
    enum smn_io step = take(c);
    if (step == SMN_IO_DONE)
      return SMN_OK;
    if (c->broken.kind != SMN_OK)
      return smn_fail(err, c->broken.kind, "%s", c->broken.text);
    enum smn_kind kind =
        smn_io_wait(step, c->fd, c->deadline_ms, c->cancel_fd, err);
    if (kind != SMN_OK)
      return kind;
  }
}

enum smn_kind smn_conn_read_line(struct smn_conn *conn, const char **line,
                                 size_t *len, struct smn_error *err) {
  size_t seen = 0; /* octets that hold no LF */
  for (;;) {
    const char *begin = conn->input + conn->from;
    size_t have = conn->to - conn->from;
    const char *lf = memchr(begin + seen, '\n', have - seen);
    size_t octets = lf ? (size_t)(lf + 1 - begin) : have;
    if (octets > SMN_LINE_MAX || (!lf && octets == SMN_LINE_MAX))
      return smn_fail(err, SMN_PROTOCOL, "a line of more than %d octets",
                      SMN_LINE_MAX);
    if (lf) {
      conn->from += octets;
      *line = begin;
      *len = octets - (octets > 1 && begin[octets - 2] == '\r' ? 2 : 1);
      return SMN_OK;
    }
    seen = have;
    enum smn_kind kind = fill(conn, err);
    if (kind != SMN_OK)
      return kind;
  }
}

bool smn_conn_has_input(struct smn_conn *conn) {
  enum smn_io step = SMN_IO_BARREN;
  while (conn->from == conn->to && step == SMN_IO_BARREN)
    step = take(conn);
  return conn->from < conn->to || conn->broken.kind != SMN_OK;
}

bool smn_conn_cancelled(const struct smn_conn *conn) {
  return smn_cancelled(conn->cancel_fd);
}

/* Write */

static enum smn_kind write_some(struct smn_conn *c, const char *from,
                                size_t len, size_t *moved,
                                struct smn_error *err) {
  int64_t deadline_ms = smn_now_ms() + c->timeout_ms;
  for (;;) {
    enum smn_io step = c->encrypted
                           ? smn_tls_write(c->tls, from, len, moved, err)
                           : smn_io_send(c->fd, from, len, moved, err);
    if (step == SMN_IO_DONE)
      return SMN_OK;
    enum smn_kind kind =
        smn_io_wait(step, c->fd, deadline_ms, c->cancel_fd, err);
    if (kind != SMN_OK)
      return kind;
  }
}

/* Records of TLS are written one by one; let the system gather them into full
   segments, or with GATHER false let all leave.  */
static void gather(const struct smn_conn *c, bool gather) {
#ifdef TCP_CORK
  (void)setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &(int){gather}, sizeof(int));
#else
  (void)c;
  (void)gather;
#endif
}

enum smn_kind smn_conn_write(struct smn_conn *conn, const void *bytes,
                             size_t len, struct smn_error *err) {
  const char *from = bytes;
  bool records = conn->encrypted && len > SMN_TLS_RECORD;
  enum smn_kind kind = SMN_OK;
  conn->written = 0;
  if (records)
    gather(conn, true);
  while (kind == SMN_OK && len > 0) {
    size_t moved = 0;
    kind = write_some(conn, from, len, &moved, err);
    from += moved;
    len -= moved;
    conn->written += moved;
    if (kind == SMN_OK && len > 0 && smn_conn_cancelled(conn))
      kind = smn_fail(err, SMN_CANCELLED, "cancelled");
  }
  if (records)
    gather(conn, false);
  conn->cut = kind != SMN_OK;
  return kind;
}

size_t smn_conn_written(const struct smn_conn *conn) { return conn->written; }

void smn_conn_literal(const struct smn_conn *conn,
                      char literal[SMN_LITERAL_MAX]) {
  struct sockaddr_storage own;
  socklen_t len = sizeof own;
  char text[INET6_ADDRSTRLEN];
  const struct sockaddr_in *in = (const void *)&own;
  const struct sockaddr_in6 *in6 = (const void *)&own;
  snprintf(literal, SMN_LITERAL_MAX, "localhost");
  if (getsockname(conn->fd, (struct sockaddr *)&own, &len) != 0)
    return;
  if (own.ss_family == AF_INET &&
      inet_ntop(AF_INET, &in->sin_addr, text, sizeof text))
    snprintf(literal, SMN_LITERAL_MAX, "[%s]", text);
  else if (own.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) &&
           inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], text, sizeof text))
    snprintf(literal, SMN_LITERAL_MAX, "[%s]", text);
  else if (own.ss_family == AF_INET6 &&
           inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text))
    snprintf(literal, SMN_LITERAL_MAX, "[IPv6:%s]", text);
}

void smn_conn_close(struct smn_conn *conn) {
  if (!conn)
    return;
  /* The rest of a record would leave with close_notify.  */
  if (conn->encrypted && !conn->cut)
    smn_tls_bye(conn->tls);
  smn_tls_free(conn->tls);
  close(conn->fd);
  smn_wipe(conn->input, sizeof conn->input);
  free(conn);
}
