/* SPDX-License-Identifier: GPL-3.0-or-later */
/* proxy.c - through a proxy to a server: SOCKS 5 and HTTP CONNECT.
   Not one octet is read ahead: the server may have spoken already.  */
#include "net/proxy.h"
#include "base/ascii.h"
#include "base/wait.h"
#include "net/address.h"
#include "net/io.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MESSAGE_MAX 4096 /* octets of one that we send */
#define HEADER_MAX 16384 /* octets of an answer of HTTP */
#define INTERIM_MAX 8    /* answers of HTTP before the one that counts */

/* URL */

/* The port in TEXT up to LEN, or 0.  */
static int parse_port(const char *text, size_t len) {
  int port = 0;
  for (size_t i = 0; i < len; i++) {
    if (text[i] < '0' || text[i] > '9' || port > 6553)
      return 0;
    port = port * 10 + (text[i] - '0');
  }
  return port <= 65535 ? port : 0;
}

static bool parse_host(struct smn_proxy *proxy, const char *at, size_t len) {
  const char *end = at + len, *colon = end;
  while (colon > at && *colon != ':')
    colon--;
  bool bracketed = *at == '[' && colon > at && colon[-1] == ']';
  const char *from = at + bracketed, *to = colon - bracketed;
  if (to <= from || (size_t)(to - from) >= sizeof proxy->host ||
      (!bracketed && memchr(from, ':', (size_t)(to - from))) ||
      memchr(from, '/', (size_t)(to - from)))
    return false;
  snprintf(proxy->host, sizeof proxy->host, "%.*s", (int)(to - from), from);
  proxy->port = parse_port(colon + 1, (size_t)(end - colon - 1));
  return proxy->port > 0;
}

static bool parse_user(struct smn_proxy *proxy, const char *at, size_t len) {
  const char *colon = memchr(at, ':', len);
  proxy->user = at;
  proxy->user_len = colon ? (size_t)(colon - at) : len;
  proxy->password = colon ? colon + 1 : "";
  proxy->password_len = colon ? len - proxy->user_len - 1 : 0;
  return proxy->user_len > 0;
}

/* Every % is followed by two digits.  */
static bool well_encoded(const char *at, size_t len) {
  for (size_t i = 0; i < len; i++)
    if (at[i] == '%' && (i + 2 >= len || smn_ascii_hex(at[i + 1]) < 0 ||
                         smn_ascii_hex(at[i + 2]) < 0))
      return false;
  return true;
}

bool smn_proxy_parse(struct smn_proxy *proxy, const char *url) {
  static const struct {
    const char *begin;
    bool http;
  } schemes[] = {
      {"socks5://", false}, {"socks5h://", false}, {"http://", true}};
  size_t i = 0, count = sizeof schemes / sizeof *schemes;
  *proxy = (struct smn_proxy){.port = 0};
  while (i < count &&
         strncmp(url, schemes[i].begin, strlen(schemes[i].begin)) != 0)
    i++;
  if (i == count)
    return false;
  proxy->http = schemes[i].http;
  const char *at = url + strlen(schemes[i].begin);
  for (const char *c = at; *c; c++)
    if ((unsigned char)*c <= ' ' || *c == 0x7f)
      return false;
  size_t len = strlen(at);
  if (len > 0 && at[len - 1] == '/')
    len--;
  size_t user = len;
  while (user > 0 && at[user - 1] != '@')
    user--;
  if (user > 0 &&
      !(well_encoded(at, user - 1) && parse_user(proxy, at, user - 1)))
    return false;
  return len > user && parse_host(proxy, at + user, len - user);
}

/* Octets */

struct way {
  const struct smn_proxy *proxy;
  int fd, cancel_fd;
  int64_t deadline_ms;
  struct smn_buf message; /* secret: it may hold the password */
  struct smn_error *err;
};

/* What to do after STEP, which was not the last one.  A proxy that drips gets
   no more time than one that is silent.  */
static enum smn_kind await(struct way *way, enum smn_io step) {
  if (step == SMN_IO_END)
    return smn_fail(way->err, SMN_NETWORK, "it closed the connection");
  if (step == SMN_IO_DONE)
    return smn_go_on(way->deadline_ms, way->cancel_fd, way->err);
  return smn_io_wait(step, way->fd, way->deadline_ms, way->cancel_fd, way->err);
}

static enum smn_kind write_message(struct way *way) {
  enum smn_kind kind = SMN_OK;
  size_t sent = 0;
  while (kind == SMN_OK && sent < way->message.len) {
    size_t moved = 0;
    enum smn_io step = smn_io_send(way->fd, way->message.data + sent,
                                   way->message.len - sent, &moved, way->err);
    sent += moved;
    if (sent < way->message.len)
      kind = await(way, step);
  }
  smn_buf_clear(&way->message);
  return kind;
}

static enum smn_kind read_octets(struct way *way, unsigned char *into,
                                 size_t len) {
  enum smn_kind kind = SMN_OK;
  while (kind == SMN_OK && len > 0) {
    size_t moved = 0;
    enum smn_io step = smn_io_receive(way->fd, into, len, &moved, way->err);
    into += moved;
    len -= moved;
    if (len > 0)
      kind = await(way, step);
  }
  return kind;
}

static bool add_octet(struct way *way, int octet) {
  const unsigned char c = (unsigned char)octet;
  return smn_buf_add(&way->message, &c, 1);
}

/* Add the LEN octets at TEXT, decoded.  */
static bool add_decoded(struct smn_buf *out, const char *text, size_t len) {
  bool good = true;
  for (size_t i = 0; good && i < len; i++) {
    char c = text[i];
    if (c == '%') {
      c = (char)(smn_ascii_hex(text[i + 1]) * 16 + smn_ascii_hex(text[i + 2]));
      i += 2;
    }
    good = smn_buf_add(out, &c, 1);
  }
  return good;
}

static enum smn_kind too_long(struct way *way) {
  return smn_fail(way->err, SMN_USAGE,
                  "user, password or server's name is too long for it");
}

/* SOCKS 5 */

enum { SOCKS = 5, SOCKS_PASSWORD = 1, SOCKS_FIELD_MAX = 255 };

/* A field of RFC 1929: its length, and itself.  */
static bool add_field(struct way *way, const char *text, size_t len) {
  size_t at = way->message.len;
  if (!add_octet(way, 0) || !add_decoded(&way->message, text, len))
    return false;
  size_t octets = way->message.len - at - 1;
  way->message.data[at] = (char)(unsigned char)octets;
  return octets > 0 && octets <= SOCKS_FIELD_MAX;
}

static enum smn_kind socks_login(struct way *way) {
  const struct smn_proxy *proxy = way->proxy;
  unsigned char answer[2];
  if (!add_octet(way, SOCKS_PASSWORD) ||
      !add_field(way, proxy->user, proxy->user_len) ||
      !add_field(way, proxy->password, proxy->password_len))
    return smn_fail(way->err, SMN_USAGE,
                    "its user and password must have 1 to %d octets",
                    SOCKS_FIELD_MAX);
  enum smn_kind kind = write_message(way);
  if (kind == SMN_OK)
    kind = read_octets(way, answer, sizeof answer);
  if (kind == SMN_OK && answer[1] != 0)
    kind = smn_fail(way->err, SMN_NETWORK,
                    "it refused the user name and password");
  return kind;
}

static enum smn_kind socks_greet(struct way *way) {
  const bool known = way->proxy->user != NULL;
  static const char greeting[] = {SOCKS, 2, 0, 2}, anonymous[] = {SOCKS, 1, 0};
  unsigned char answer[2];
  if (!(known ? smn_buf_add(&way->message, greeting, sizeof greeting)
              : smn_buf_add(&way->message, anonymous, sizeof anonymous)))
    return too_long(way);
  enum smn_kind kind = write_message(way);
  if (kind == SMN_OK)
    kind = read_octets(way, answer, sizeof answer);
  if (kind != SMN_OK)
    return kind;
  if (answer[0] != SOCKS)
    return smn_fail(way->err, SMN_PROTOCOL, "it does not speak SOCKS 5");
  if (answer[1] == 2 && known)
    return socks_login(way);
  if (answer[1] == 0)
    return SMN_OK;
  return smn_fail(way->err, SMN_NETWORK,
                  known ? "it takes no password (method %d)"
                        : "it wants user and password (method %d)",
                  answer[1]);
}

static enum smn_kind socks_refusal(struct way *way, int code) {
  static const char *const words[] = {
      "",
      "general failure",
      "not allowed by its rules",
      "network unreachable",
      "host unreachable",
      "connection refused",
      "TTL expired",
      "command not supported",
      "address type not supported",
  };
  bool known = code > 0 && (size_t)code < sizeof words / sizeof *words;
  return smn_fail(way->err, SMN_NETWORK, "it cannot connect to the server: %s",
                  known ? words[code] : "unknown reason");
}

static bool add_destination(struct way *way, const struct smn_address *host,
                            int port) {
  size_t len = strlen(host->text);
  bool good = add_octet(way, SOCKS) && add_octet(way, 1) && add_octet(way, 0);
  if (host->len > 0)
    good = good && add_octet(way, host->family == AF_INET ? 1 : 4) &&
           smn_buf_add(&way->message, host->octets, host->len);
  else
    good = good && len <= SOCKS_FIELD_MAX && add_octet(way, 3) &&
           add_octet(way, (int)len) &&
           smn_buf_add(&way->message, host->text, len);
  return good && add_octet(way, port >> 8) && add_octet(way, port & 0xff);
}

static enum smn_kind socks(struct way *way, const struct smn_address *host,
                           int port) {
  unsigned char answer[4], bound[256 + 2], len = 0;
  enum smn_kind kind = socks_greet(way);
  if (kind != SMN_OK)
    return kind;
  if (!add_destination(way, host, port))
    return too_long(way);
  kind = write_message(way);
  if (kind == SMN_OK)
    kind = read_octets(way, answer, sizeof answer);
  if (kind != SMN_OK)
    return kind;
  if (answer[0] != SOCKS)
    return smn_fail(way->err, SMN_PROTOCOL, "it does not speak SOCKS 5");
  if (answer[1] != 0)
    return socks_refusal(way, answer[1]);
  if (answer[3] == 3)
    kind = read_octets(way, &len, 1);
  else if (answer[3] == 1 || answer[3] == 4)
    len = answer[3] == 1 ? 4 : 16;
  else
    return smn_fail(way->err, SMN_PROTOCOL, "it does not speak SOCKS 5");
  return kind == SMN_OK ? read_octets(way, bound, (size_t)len + 2) : kind;
}

/* HTTP */

static bool add_credentials(struct way *way) {
  const struct smn_proxy *proxy = way->proxy;
  struct smn_buf plain;
  if (!proxy->user)
    return true;
  bool good =
      smn_buf_init_secret(&plain, MESSAGE_MAX) &&
      add_decoded(&plain, proxy->user, proxy->user_len) &&
      smn_buf_add(&plain, ":", 1) &&
      add_decoded(&plain, proxy->password, proxy->password_len) &&
      smn_buf_add_string(&way->message, "Proxy-Authorization: Basic ") &&
      smn_buf_add_base64(&way->message, plain.data, plain.len) &&
      smn_buf_add_string(&way->message, "\r\n");
  smn_buf_free(&plain);
  return good;
}

/* Read the header of an answer into HEADER, and *CODE from it.  */
static enum smn_kind http_header(struct way *way, char header[HEADER_MAX],
                                 int *code) {
  size_t len = 0;
  enum smn_kind kind = SMN_OK;
  while (kind == SMN_OK &&
         !(len >= 4 && !memcmp(header + len - 4, "\r\n\r\n", 4))) {
    kind = len + 1 < HEADER_MAX
               ? read_octets(way, (unsigned char *)header + len, 1)
               : smn_fail(way->err, SMN_PROTOCOL, "its reply is incomplete");
    len++;
  }
  if (kind != SMN_OK)
    return kind;
  header[len] = '\0';
  return sscanf(header, "HTTP/1.%*1d %3d", code) == 1
             ? SMN_OK
             : smn_fail(way->err, SMN_PROTOCOL, "it does not speak HTTP");
}

/* What it says in between (RFC 9110 15.2) is passed over, a few times.  */
static enum smn_kind http_answer(struct way *way) {
  char *header = malloc(HEADER_MAX);
  int code = 0, interim = 0;
  enum smn_kind kind =
      header ? SMN_OK : smn_fail(way->err, SMN_SYSTEM, "no memory");
  do
    if (kind == SMN_OK)
      kind = http_header(way, header, &code);
  while (kind == SMN_OK && code / 100 == 1 && interim++ < INTERIM_MAX);
  free(header);
  if (kind == SMN_OK && code / 100 != 2)
    kind = smn_fail(
        way->err, SMN_NETWORK,
        "it refused to connect to the server: HTTP status %d%s", code,
        code == 407 ? " (user name or password wrong or missing)" : "");
  return kind;
}

static enum smn_kind http(struct way *way, const struct smn_address *host,
                          int port) {
  char line[600];
  const char *format = host->family == AF_INET6 ? "CONNECT [%s]:%d HTTP/1.1\r\n"
                                                  "Host: [%s]:%d\r\n"
                                                : "CONNECT %s:%d HTTP/1.1\r\n"
                                                  "Host: %s:%d\r\n";
  snprintf(line, sizeof line, format, host->text, port, host->text, port);
  if (!smn_buf_add_string(&way->message, line) || !add_credentials(way) ||
      !smn_buf_add_string(&way->message, "\r\n"))
    return too_long(way);
  enum smn_kind kind = write_message(way);
  return kind == SMN_OK ? http_answer(way) : kind;
}

enum smn_kind smn_proxy_connect(const struct smn_proxy *proxy, int fd,
                                const char *host, int port, int timeout_ms,
                                int cancel_fd, struct smn_error *err) {
  struct way way = {.proxy = proxy,
                    .fd = fd,
                    .cancel_fd = cancel_fd,
                    .deadline_ms = smn_now_ms() + timeout_ms,
                    .err = err};
  struct smn_address name;
  if (!smn_address_read(&name, host))
    return smn_fail(err, SMN_RESOLVE, "%.300s is not a domain name", host);
  if (!smn_buf_init_secret(&way.message, MESSAGE_MAX))
    return smn_fail(err, SMN_SYSTEM, "no memory");
  enum smn_kind kind =
      proxy->http ? http(&way, &name, port) : socks(&way, &name, port);
  smn_buf_free(&way.message);
  return kind;
}
