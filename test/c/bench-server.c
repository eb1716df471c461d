/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bench-server.c - an SMTP server that costs as little as may be.
   bench-server [CERTS [starttls]]: with the folder CERTS (certs.h) TLS from the
   start, or STARTTLS.  It takes any user and any mail, from any number of
   clients, a process each, and keeps nothing.  The first line of output is
   "port N"; one line follows for each connection that has ended: "mails N
   octets N", octets being those that have arrived on the wire.  It ends when
   its standard input does.  Shares no code with the module.  */
#define _GNU_SOURCE /* memmem */
#include "fork-server.h"

#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static gnutls_certificate_credentials_t credentials;
static gnutls_datum_t ticket_key;
static bool starttls;

struct client {
  int fd;
  gnutls_session_t tls; /* NULL without */
  char in[1 << 20];
  size_t len;
  char out[16384]; /* replies that leave together */
  int mails;
  unsigned long long octets; /* that have arrived */
};

static struct client client;

static void leave(void) {
  char line[96];
  int len = snprintf(line, sizeof line, "mails %d octets %llu\n", client.mails,
                     client.octets);
  if (write(1, line, (size_t)len) != len)
    _exit(1);
  _exit(0);
}

static void say(void) {
  size_t len = strlen(client.out), sent = 0;
  while (sent < len) {
    ssize_t n = client.tls ? gnutls_record_send(client.tls, client.out + sent,
                                                len - sent)
                           : write(client.fd, client.out + sent, len - sent);
    if (n <= 0)
      leave();
    sent += (size_t)n;
  }
  client.out[0] = '\0';
}

static void answer(const char *text) {
  if (strlen(client.out) + strlen(text) + 1 > sizeof client.out)
    say();
  memcpy(client.out + strlen(client.out), text, strlen(text) + 1);
}

static ssize_t pull(gnutls_transport_ptr_t ignored, void *into, size_t len) {
  (void)ignored;
  ssize_t n = read(client.fd, into, len);
  if (n > 0)
    client.octets += (unsigned long long)n;
  return n;
}

/* Read more, with what was answered sent before.  */
static void more(void) {
  ssize_t n;
  say();
  do
    n = client.tls
            ? gnutls_record_recv(client.tls, client.in + client.len,
                                 sizeof client.in - client.len)
            : pull(NULL, client.in + client.len, sizeof client.in - client.len);
  while (client.tls && (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED));
  if (n <= 0)
    leave();
  client.len += (size_t)n;
}

static void drop(size_t n) {
  client.len -= n;
  memmove(client.in, client.in + n, client.len);
}

static void begin_tls(void) {
  int code;
  gnutls_init(&client.tls, GNUTLS_SERVER);
  gnutls_set_default_priority(client.tls);
  gnutls_credentials_set(client.tls, GNUTLS_CRD_CERTIFICATE, credentials);
  gnutls_session_ticket_enable_server(client.tls, &ticket_key);
  gnutls_transport_set_int(client.tls, client.fd);
  gnutls_transport_set_pull_function(client.tls, pull);
  do
    code = gnutls_handshake(client.tls);
  while (code < 0 && !gnutls_error_is_fatal(code));
  if (code < 0)
    leave();
}

static void take_data(void) {
  static const char end[] = "\r\n.\r\n";
  size_t seen = 0;
  while (client.len < 3)
    more();
  if (memcmp(client.in, ".\r\n", 3) == 0) {
    drop(3);
    return;
  }
  for (;;) {
    char *found = memmem(client.in + seen, client.len - seen, end, 5);
    if (found) {
      drop((size_t)(found + 5 - client.in));
      return;
    }
    if (client.len > sizeof client.in / 2)
      drop(client.len - 4);
    seen = client.len > 4 ? client.len - 4 : 0;
    more();
  }
}

static void take_chunk(size_t octets) {
  while (octets > 0) {
    if (client.len == 0)
      more();
    size_t n = client.len < octets ? client.len : octets;
    drop(n);
    octets -= n;
  }
}

static bool is(const char *command) {
  return strncasecmp(client.in, command, strlen(command)) == 0;
}

static void obey(size_t len) {
  if (is("EHLO")) {
    answer("250-bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n"
           "250-CHUNKING\r\n250-SIZE\r\n");
    if (starttls && !client.tls)
      answer("250-STARTTLS\r\n");
    answer("250 AUTH PLAIN\r\n");
    drop(len);
  } else if (is("STARTTLS")) {
    drop(len);
    answer("220 go\r\n");
    say();
    begin_tls();
  } else if (is("AUTH PLAIN\r")) {
    drop(len);
    answer("334 \r\n");
    while (!memchr(client.in, '\n', client.len))
      more();
    drop((size_t)((char *)memchr(client.in, '\n', client.len) + 1 - client.in));
    answer("235 welcome\r\n");
  } else if (is("AUTH")) {
    drop(len);
    answer("235 welcome\r\n");
  } else if (is("DATA")) {
    drop(len);
    answer("354 go\r\n");
    take_data();
    client.mails++;
    answer("250 taken\r\n");
  } else if (is("BDAT")) {
    size_t octets = strtoul(client.in + 5, NULL, 10);
    client.mails += memmem(client.in, len, "LAST", 4) != NULL;
    drop(len);
    take_chunk(octets);
    answer("250 taken\r\n");
  } else if (is("QUIT")) {
    answer("221 bye\r\n");
    say();
    leave();
  } else {
    drop(len);
    answer("250 fine\r\n");
  }
}

static void serve(int fd) {
  client.fd = fd;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  if (credentials && !starttls)
    begin_tls();
  answer("220 bench.example ESMTP\r\n");
  for (;;) {
    const char *lf;
    while (!(lf = memchr(client.in, '\n', client.len)))
      more();
    obey((size_t)(lf + 1 - client.in));
  }
}

static void load(const char *certs) {
  char cert[512], key[512];
  snprintf(cert, sizeof cert, "%s/good.pem", certs);
  snprintf(key, sizeof key, "%s/good.key", certs);
  if (gnutls_certificate_allocate_credentials(&credentials) != 0 ||
      gnutls_certificate_set_x509_key_file(credentials, cert, key,
                                           GNUTLS_X509_FMT_PEM) < 0 ||
      gnutls_session_ticket_key_generate(&ticket_key) != 0)
    exit(70);
}

int main(int argc, char **argv) {
  if (argc > 1)
    load(argv[1]);
  starttls = argc > 2;
  return fork_server(serve);
}
