/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-proxy.c - URLs of proxies, and what proxies answer.
   The first line is the URL (an empty one stands for a good one), the rest is
   what the proxy says.  */
#include "fuzz.h"
#include "net/proxy.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static void connect_by(const struct smn_proxy *proxy, const struct input *in) {
  struct smn_error err = {.kind = SMN_OK};
  char text[65536];
  int ends[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  size_t len = in->len < 60000 ? in->len : 60000;
  if (len)
    REQUIRE(write(ends[1], in->at, len) == (ssize_t)len);
  shutdown(ends[1], SHUT_WR);
  enum smn_kind kind = smn_proxy_connect(proxy, ends[0], "mail.example.org",
                                         587, 1000, -1, &err);
  if (kind != SMN_OK) {
    REQUIRE(err.kind == kind);
    require_shown(err.text, sizeof err.text);
    REQUIRE(!strstr(err.text, "proxy-password"));
  }
  /* What was asked has no line of its own in a name.  */
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  (void)!read(ends[1], text, sizeof text);
  close(ends[0]);
  close(ends[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  static const char *const good[] = {"socks5://user:proxy-password@p:1080",
                                     "http://user:proxy-password@p:3128",
                                     "socks5://p:1080", "http://p:3128"};
  struct input in = {octets, len};
  struct smn_proxy proxy;
  size_t url_len;
  char *url = take_line(&in, &url_len);
  if (smn_proxy_parse(&proxy, url)) {
    require_shown(proxy.host, sizeof proxy.host);
    REQUIRE(proxy.port > 0 && proxy.port < 65536);
    connect_by(&proxy, &in);
  } else if (url_len < 2) {
    REQUIRE(
        smn_proxy_parse(&proxy, good[url_len ? (unsigned char)url[0] % 4 : 0]));
    connect_by(&proxy, &in);
  }
  free(url);
  return 0;
}
