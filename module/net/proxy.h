/* SPDX-License-Identifier: GPL-3.0-or-later */
/* proxy.h - through a proxy to a server: SOCKS 5 (RFC 1928, 1929) and HTTP
   CONNECT (RFC 9110 9.3.6).  Names are resolved by the proxy.  All that it says
   is untrusted.  Any thread; nothing is owned here but for a call.  */
#ifndef SMN_PROXY_H
#define SMN_PROXY_H

#include "base/buf.h"
#include "base/error.h"
#include <stdbool.h>

#define SMN_PROXY_USAGE                                                        \
  "socks5://[USER:PASSWORD@]HOST:PORT or http://[USER:PASSWORD@]HOST:PORT, "   \
  "with octets of special meaning as %XX"

/* Parts of an URL; USER and PASSWORD point into it, still encoded.  */
struct smn_proxy {
  bool http;
  const char *user, *password; /* NULL: none */
  size_t user_len, password_len;
  char host[256]; /* without brackets */
  int port;
};

/* Take URL apart; false if it is no proxy (SMN_PROXY_USAGE).  An error must not
   show it: it may hold a password.  */
bool smn_proxy_parse(struct smn_proxy *proxy, const char *url);

/* Ask PROXY, to which the non-blocking FD is connected, for HOST and PORT,
   within TIMEOUT_MS.  On SMN_OK the next octet of FD is the server's.  */
enum smn_kind smn_proxy_connect(const struct smn_proxy *proxy, int fd,
                                const char *host, int port, int timeout_ms,
                                int cancel_fd, struct smn_error *err);

#endif
