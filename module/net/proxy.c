/* SPDX-License-Identifier: GPL-3.0-or-later */
/* proxy.c - through a proxy to a server: SOCKS 5 and HTTP CONNECT.
   Not one octet is read ahead: the server may have spoken already.  */
#include "net/proxy.h"
#include "base/wait.h"
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MESSAGE_MAX 4096 /* octets of one that we send */
#define HEADER_MAX 16384 /* octets of an answer of HTTP */

#ifndef MSG_NOSIGNAL /* where it is missing the workers' mask does the same */
#define MSG_NOSIGNAL 0
#endif

/* URL */

static int hex_digit(char c) {
  static const char digits[] = "0123456789abcdef";
  const char *at =
      c ? strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;
  return at ? (int)(at - digits) : -1;
}

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
    if (at[i] == '%' &&
        (i + 2 >= len || hex_digit(at[i + 1]) < 0 || hex_digit(at[i + 2]) < 0))
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

static enum smn_kind broken(struct way *way) {
  return smn_fail_errno(way->err, SMN_NETWORK, errno, "the connection broke");
}

static bool not_now(void) {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static enum smn_kind write_message(struct way *way) {
  size_t sent = 0;
  enum smn_kind kind = SMN_OK;
  while (kind == SMN_OK && sent < way->message.len) {
    ssize_t n = send(way->fd, way->message.data + sent, way->message.len - sent,
                     MSG_NOSIGNAL);
    if (n >= 0)
      sent += (size_t)n;
    else if (!not_now())
      kind = broken(way);
    else
      kind = smn_wait(way->fd, SMN_WAIT_WRITE, way->deadline_ms, way->cancel_fd,
                      way->err);
  }
  smn_buf_clear(&way->message);
  return kind;
}

static enum smn_kind read_octets(struct way *way, unsigned char *into,
                                 size_t len) {
  enum smn_kind kind = SMN_OK;
  while (kind == SMN_OK && len > 0) {
    ssize_t n = recv(way->fd, into, len, 0);
    if (n > 0) {
      into += n;
      len -= (size_t)n;
    } else if (n == 0)
      kind = smn_fail(way->err, SMN_NETWORK, "it closed the connection");
    else if (!not_now())
      kind = broken(way);
    else
      kind = smn_wait(way->fd, SMN_WAIT_READ, way->deadline_ms, way->cancel_fd,
                      way->err);
    /* Whoever drips is not waited for any longer than who is silent.  */
    if (kind == SMN_OK && len > 0 && smn_now_ms() >= way->deadline_ms)
      kind = smn_fail(way->err, SMN_TIMEOUT, "no answer in time");
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
      c = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
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
    kind = smn_fail(way->err, SMN_NETWORK, "it refuses user and password");
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

static bool add_destination(struct way *way, const char *host, int port) {
  unsigned char address[16];
  size_t len = strlen(host);
  bool good = add_octet(way, SOCKS) && add_octet(way, 1) && add_octet(way, 0);
  if (inet_pton(AF_INET, host, address) == 1)
    good = good && add_octet(way, 1) && smn_buf_add(&way->message, address, 4);
  else if (inet_pton(AF_INET6, host, address) == 1)
    good = good && add_octet(way, 4) && smn_buf_add(&way->message, address, 16);
  else
    good = good && len <= SOCKS_FIELD_MAX && add_octet(way, 3) &&
           add_octet(way, (int)len) && smn_buf_add(&way->message, host, len);
  return good && add_octet(way, port >> 8) && add_octet(way, port & 0xff);
}

static enum smn_kind socks(struct way *way, const char *host, int port) {
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

static enum smn_kind http_answer(struct way *way) {
  char *header = calloc(1, HEADER_MAX);
  size_t len = 0;
  int code = 0;
  enum smn_kind kind =
      header ? SMN_OK : smn_fail(way->err, SMN_SYSTEM, "no memory");
  while (kind == SMN_OK &&
         !(len >= 4 && !memcmp(header + len - 4, "\r\n\r\n", 4))) {
    kind = len + 1 < HEADER_MAX
               ? read_octets(way, (unsigned char *)header + len, 1)
               : smn_fail(way->err, SMN_PROTOCOL, "its answer has no end");
    len++;
  }
  if (kind == SMN_OK && sscanf(header, "HTTP/1.%*1d %3d", &code) != 1)
    kind = smn_fail(way->err, SMN_PROTOCOL, "it does not speak HTTP");
  if (kind == SMN_OK && code / 100 != 2)
    kind =
        smn_fail(way->err, SMN_NETWORK,
                 "it does not connect to the server: HTTP status %d%s", code,
                 code == 407 ? ", user or password is wrong or missing" : "");
  free(header);
  return kind;
}

static enum smn_kind http(struct way *way, const char *host, int port) {
  char line[600];
  const char *format = strchr(host, ':') ? "CONNECT [%s]:%d HTTP/1.1\r\n"
                                           "Host: [%s]:%d\r\n"
                                         : "CONNECT %s:%d HTTP/1.1\r\n"
                                           "Host: %s:%d\r\n";
  snprintf(line, sizeof line, format, host, port, host, port);
  if (!smn_buf_add_string(&way->message, line) || !add_credentials(way) ||
      !smn_buf_add_string(&way->message, "\r\n"))
    return too_long(way);
  enum smn_kind kind = write_message(way);
  return kind == SMN_OK ? http_answer(way) : kind;
}

/* HOST without brackets, in its A-label form.  */
static bool write_host(const char *host, char *out, size_t size) {
  unsigned char address[16];
  size_t len = strlen(host);
  bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
  if (len >= size)
    return false;
  snprintf(out, size, "%.*s", (int)(len - 2 * bracketed), host + bracketed);
  return inet_pton(AF_INET, out, address) == 1 ||
         inet_pton(AF_INET6, out, address) == 1 ||
         smn_tls_idna(host, out, size);
}

enum smn_kind smn_proxy_connect(const struct smn_proxy *proxy, int fd,
                                const char *host, int port, int timeout_ms,
                                int cancel_fd, struct smn_error *err) {
  struct way way = {.proxy = proxy,
                    .fd = fd,
                    .cancel_fd = cancel_fd,
                    .deadline_ms = smn_now_ms() + timeout_ms,
                    .err = err};
  char name[256];
  if (!write_host(host, name, sizeof name))
    return smn_fail(err, SMN_RESOLVE, "%.300s is not a domain name", host);
  if (!smn_buf_init_secret(&way.message, MESSAGE_MAX))
    return smn_fail(err, SMN_SYSTEM, "no memory");
  enum smn_kind kind =
      proxy->http ? http(&way, name, port) : socks(&way, name, port);
  smn_buf_free(&way.message);
  return kind;
}
