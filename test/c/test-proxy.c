/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-proxy.c - through SOCKS 5 and HTTP proxies, good and bad ones.  */
#include "base/wait.h"
#include "check.h"
#include "fds.h"
#include "net/conn.h"
#include "net/proxy.h"
#include "peer-run.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SHORT_MS = 100, LONG_MS = 20000 };

/* URL */

static void test_urls(void) {
  static const struct {
    const char *url;
    bool valid, http;
    const char *user, *password, *host;
    int port;
  } cases[] = {
      {"socks5://p.example:1080", true, false, NULL, NULL, "p.example", 1080},
      {"socks5h://[::1]:9050/", true, false, NULL, NULL, "::1", 9050},
      {"http://tim:a%3Ab@10.0.0.1:3128", true, true, "tim", "a%3Ab", "10.0.0.1",
       3128},
      {"http://tim:p@ss@p:1", true, true, "tim", "p@ss", "p", 1},
      {"socks5://tim@p:65535", true, false, "tim", "", "p", 65535},
      {.url = ""},
      {.url = "p.example:1080"},
      {.url = "socks4://p:1080"},
      {.url = "https://p:1080"},
      {.url = "socks5://"},
      {.url = "socks5://p"},
      {.url = "socks5://:1080"},
      {.url = "socks5://[]:1080"},
      {.url = "socks5://::1:1080"},
      {.url = "socks5://p:0"},
      {.url = "socks5://p:65536"},
      {.url = "socks5://p:99999999999999999999"},
      {.url = "socks5://p:1080x"},
      {.url = "socks5://p:"},
      {.url = "socks5://@p:1080"},
      {.url = "socks5://a%4@p:1080"},
      {.url = "socks5://a:%zz@p:1080"},
      {.url = "socks5://a b@p:1080"},
      {.url = "http://p/path:80"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_proxy proxy;
    if (!CHECK(smn_proxy_parse(&proxy, cases[i].url) == cases[i].valid))
      printf("  %s\n", cases[i].url);
    if (!cases[i].valid)
      continue;
    CHECK(proxy.http == cases[i].http);
    CHECK_STRING(proxy.host, cases[i].host);
    CHECK_INT(proxy.port, cases[i].port);
    CHECK((proxy.user != NULL) == (cases[i].user != NULL));
    if (!proxy.user || !cases[i].user)
      continue;
    CHECK(proxy.user_len == strlen(cases[i].user) &&
          !memcmp(proxy.user, cases[i].user, proxy.user_len));
    CHECK(proxy.password_len == strlen(cases[i].password) &&
          !memcmp(proxy.password, cases[i].password, proxy.password_len));
  }
}

/* Dialogues */

struct octets {
  const char *bytes;
  size_t len;
};

#define OCTETS(text)                                                           \
  { text, sizeof text - 1 }

struct dialogue {
  const char *what, *scheme, *host;
  struct octets steps[8]; /* the client's and the proxy's in turn */
  enum smn_kind kind;
  const char *text;
  bool stalls;
};

#define TO_EXAMPLE "\5\1\0\3\14mail.example\2\113"
#define GOOD "\5\0\0\1\0\0\0\0\0\0"
#define CONNECT                                                                \
  "CONNECT mail.example:587 HTTP/1.1\r\nHost: mail.example:587\r\n"

#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static const struct dialogue dialogues[] = {
    {.what = "SOCKS, and the server speaks at once",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"), OCTETS(TO_EXAMPLE),
               OCTETS(GOOD "220 hi\r\n")}},
    {.what = "IDN",
     .scheme = "socks5://",
     .host = "b\xc3\xbc"
             "cher.example",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"),
               OCTETS("\5\1\0\3\25xn--bcher-kva.example\2\113"),
               OCTETS("\5\0\0\3\4name\0\0"
                      "220 hi\r\n")}},
    {.what = "IPv4 address",
     .scheme = "socks5://",
     .host = "127.0.0.1",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"),
               OCTETS("\5\1\0\1\177\0\0\1\2\113"), OCTETS(GOOD "220 hi\r\n")}},
    {.what = "IPv6 address",
     .scheme = "socks5://",
     .host = "[::1]",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"),
               OCTETS("\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\2\113"),
               OCTETS("\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                      "220 hi\r\n")}},
    {.what = "password",
     .scheme = "socks5://tim:se%63ret@",
     .steps = {OCTETS("\5\2\0\2"), OCTETS("\5\2"), OCTETS("\1\3tim\6secret"),
               OCTETS("\1\0"), OCTETS(TO_EXAMPLE), OCTETS(GOOD "220 hi\r\n")}},
    {.what = "password that nobody wants",
     .scheme = "socks5://tim:secret@",
     .steps = {OCTETS("\5\2\0\2"), OCTETS("\5\0"), OCTETS(TO_EXAMPLE),
               OCTETS(GOOD "220 hi\r\n")}},
    {.what = "wrong password",
     .scheme = "socks5://tim:secret@",
     .steps = {OCTETS("\5\2\0\2"), OCTETS("\5\2"), OCTETS("\1\3tim\6secret"),
               OCTETS("\1\1")},
     .kind = SMN_NETWORK,
     .text = "refused the user name and password"},
    {.what = "password is demanded",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\377")},
     .kind = SMN_NETWORK,
     .text = "wants user and password"},
    {.what = "password method that was not offered",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\2")},
     .kind = SMN_NETWORK,
     .text = "wants user and password"},
    {.what = "refused",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"), OCTETS(TO_EXAMPLE),
               OCTETS("\5\5\0\1\0\0\0\0\0\0")},
     .kind = SMN_NETWORK,
     .text = "connection refused"},
    {.what = "unknown reason",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"), OCTETS(TO_EXAMPLE),
               OCTETS("\5\377\0\1\0\0\0\0\0\0")},
     .kind = SMN_NETWORK,
     .text = "unknown reason"},
    {.what = "no SOCKS",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("HTTP/1.1 400 Bad\r\n\r\n")},
     .kind = SMN_PROTOCOL,
     .text = "does not speak SOCKS"},
    {.what = "strange address",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"), OCTETS(TO_EXAMPLE),
               OCTETS("\5\0\0\7\0\0")},
     .kind = SMN_PROTOCOL,
     .text = "does not speak SOCKS"},
    {.what = "closed in the middle",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5\0"), OCTETS(TO_EXAMPLE),
               OCTETS("\5\0\0\1\0")},
     .kind = SMN_NETWORK,
     .text = "closed the connection"},
    {.what = "silent",
     .scheme = "socks5://",
     .steps = {OCTETS("\5\1\0"), OCTETS("\5")},
     .stalls = true,
     .kind = SMN_TIMEOUT,
     .text = "no reply in time"},
    {.what = "CONNECT, and the server speaks at once",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"),
               OCTETS("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n"
                      "220 hi\r\n")}},
    {.what = "CONNECT to an address",
     .scheme = "http://",
     .host = "::1",
     .steps = {OCTETS("CONNECT [::1]:587 HTTP/1.1\r\nHost: [::1]:587\r\n\r\n"),
               OCTETS("HTTP/1.0 200 OK\r\n\r\n220 hi\r\n")}},
    {.what = "CONNECT to an address with a zone, which is ours",
     .scheme = "http://",
     .host = "[fe80::1%eth0]",
     .steps = {OCTETS("CONNECT [fe80::1]:587 HTTP/1.1\r\n"
                      "Host: [fe80::1]:587\r\n\r\n"),
               OCTETS("HTTP/1.0 200 OK\r\n\r\n220 hi\r\n")}},
    {.what = "CONNECT, and the proxy speaks in between",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"),
               OCTETS("HTTP/1.1 100 Continue\r\n\r\n"
                      "HTTP/1.1 103 x\r\nLink: y\r\n\r\n"
                      "HTTP/1.1 200 OK\r\n\r\n220 hi\r\n")}},
    {.what = "CONNECT, and the proxy speaks in between for ever",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"),
               OCTETS(CONTINUE CONTINUE CONTINUE CONTINUE CONTINUE CONTINUE
                          CONTINUE CONTINUE CONTINUE)},
     .kind = SMN_NETWORK,
     .text = "HTTP status 100"},
    {.what = "CONNECT to what would be a header",
     .scheme = "http://",
     .host = "a HTTP/1.1",
     .kind = SMN_RESOLVE,
     .text = "a HTTP/1.1 is not a domain name"},
    {.what = "CONNECT with a password",
     .scheme = "http://tim:se%63ret@",
     .steps = {OCTETS(CONNECT "Proxy-Authorization: Basic "
                              "dGltOnNlY3JldA==\r\n\r\n"),
               OCTETS("HTTP/1.1 200 OK\r\n\r\n220 hi\r\n")}},
    {.what = "CONNECT, password demanded",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"), OCTETS("HTTP/1.1 407 No\r\n\r\n")},
     .kind = SMN_NETWORK,
     .text = "407 (user name or password"},
    {.what = "CONNECT refused",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"), OCTETS("HTTP/1.1 403 No\r\n\r\n")},
     .kind = SMN_NETWORK,
     .text = "HTTP status 403"},
    {.what = "no HTTP",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"), OCTETS("220 hi\r\n\r\n")},
     .kind = SMN_PROTOCOL,
     .text = "does not speak HTTP"},
    {.what = "closed in the middle of HTTP",
     .scheme = "http://",
     .steps = {OCTETS(CONNECT "\r\n"), OCTETS("HTTP/1.1 200 OK\r\n")},
     .kind = SMN_NETWORK,
     .text = "closed the connection"},
    {.what = "user without password, which SOCKS does not have",
     .scheme = "socks5://tim@",
     .steps = {OCTETS("\5\2\0\2"), OCTETS("\5\2")},
     .kind = SMN_USAGE,
     .text = "1 to 255 octets"},
};

struct proxy {
  int listening;
  const struct dialogue *dialogue;
  bool good;
};

static void *play(void *argument) {
  struct proxy *proxy = argument;
  const struct octets *step = proxy->dialogue->steps;
  char got[512];
  int fd = accept(proxy->listening, NULL, NULL);
  proxy->good = fd >= 0;
  for (; proxy->good && step->bytes; step += 2) {
    proxy->good =
        recv(fd, got, step[0].len, MSG_WAITALL) == (ssize_t)step[0].len &&
        memcmp(got, step[0].bytes, step[0].len) == 0;
    if (proxy->good)
      (void)send(fd, step[1].bytes, step[1].len, MSG_NOSIGNAL);
  }
  if (!proxy->dialogue->stalls)
    shutdown(fd, SHUT_WR);
  /* Whoever is done sends nothing more.  */
  while (recv(fd, got, sizeof got, 0) > 0)
    proxy->good = false;
  close(fd);
  return NULL;
}

static void run(const struct dialogue *dialogue, int listening, int port) {
  struct proxy proxy = {.listening = listening, .dialogue = dialogue};
  char url[128];
  snprintf(url, sizeof url, "%s127.0.0.1:%d", dialogue->scheme, port);
  const struct smn_conn_to to = {.host = dialogue->host ? dialogue->host
                                                        : "mail.example",
                                 .port = 587,
                                 .proxy = url};
  struct smn_conn *conn;
  struct smn_error err = {0};
  const char *line;
  size_t len = 0;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, play, &proxy) == 0);
  bool good =
      CHECK(smn_conn_open(&conn, &to, dialogue->stalls ? SHORT_MS : LONG_MS, -1,
                          &err) == dialogue->kind);
  if (conn) {
    CHECK(!smn_conn_loopback(conn));
    good = CHECK(smn_conn_read_line(conn, &line, &len, &err) == SMN_OK) && good;
    CHECK(len == 6 && memcmp(line, "220 hi", 6) == 0);
  } else {
    snprintf(url, sizeof url, "proxy 127.0.0.1, port %d: ", port);
    good = CHECK(strncmp(err.text, url, strlen(url)) == 0) && good;
    good = CHECK(dialogue->text && strstr(err.text, dialogue->text)) && good;
    CHECK(strstr(err.text, "secret") == NULL);
    CHECK_INT(err.kind, dialogue->kind);
    CHECK_INT(err.stage, SMN_STAGE_CONNECT);
  }
  smn_conn_close(conn);
  pthread_join(thread, NULL);
  good = CHECK(proxy.good) && good;
  if (!good)
    printf("  %s: %s\n", dialogue->what, err.text);
}

static void test_dialogues(void) {
  int port = 0;
  int listening = peer_listen("127.0.0.1", &port);
  int fds = count_fds();
  for (size_t i = 0; i < sizeof dialogues / sizeof *dialogues; i++)
    run(&dialogues[i], listening, port);
  CHECK_INT(count_fds(), fds);
  close(listening);
}

/* A proxy that drips, or floods, is left in time, and a cancel is heard.  */
static void *drip(void *argument) {
  int fd = accept(*(const int *)argument, NULL, NULL);
  while (send(fd, "x", 1, MSG_NOSIGNAL) == 1)
    poll(NULL, 0, 5);
  close(fd);
  return NULL;
}

static void *flood(void *argument) {
  static const char much[4096] = {'x'};
  int fd = accept(*(const int *)argument, NULL, NULL);
  while (send(fd, much, sizeof much, MSG_NOSIGNAL) > 0)
    continue;
  close(fd);
  return NULL;
}

static void test_ends(void) {
  int port = 0, cancel[2];
  int listening = peer_listen("127.0.0.1", &port);
  char url[64];
  struct smn_conn *conn;
  struct smn_error err = {0};
  pthread_t thread;
  snprintf(url, sizeof url, "http://127.0.0.1:%d", port);
  const struct smn_conn_to to = {.host = "m.example", .port = 25, .proxy = url};
  CHECK(pthread_create(&thread, NULL, drip, &listening) == 0);
  CHECK_INT(smn_conn_open(&conn, &to, SHORT_MS, -1, &err), SMN_TIMEOUT);
  pthread_join(thread, NULL);
  CHECK(pthread_create(&thread, NULL, flood, &listening) == 0);
  CHECK_INT(smn_conn_open(&conn, &to, LONG_MS, -1, &err), SMN_PROTOCOL);
  CHECK(strstr(err.text, "incomplete") != NULL);
  pthread_join(thread, NULL);
  CHECK(pipe(cancel) == 0 && write(cancel[1], "", 1) == 1);
  CHECK_INT(smn_conn_open(&conn, &to, LONG_MS, cancel[0], &err), SMN_CANCELLED);
  close(cancel[0]);
  close(cancel[1]);
  close(listening);
  CHECK_INT(smn_conn_open(&conn, &to, LONG_MS, -1, &err), SMN_NETWORK);
  CHECK(strstr(err.text, "proxy 127.0.0.1, port ") &&
        strstr(err.text, "Connection refused"));
  const struct smn_conn_to bad = {
      .host = "m.example", .port = 25, .proxy = "tim:secret@p:1"};
  CHECK_INT(smn_conn_open(&conn, &bad, LONG_MS, -1, &err), SMN_USAGE);
  CHECK(strstr(err.text, "socks5://") && !strstr(err.text, "secret"));
}

int main(void) {
  test_urls();
  test_dialogues();
  test_ends();
  return check_done("test-proxy");
}
