/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bench-bare.c - as little as a client can do: the ceiling.
   bench-bare STREAM PORT CA FILE MAILS [nosize]: as bench-engine.c, with GnuTLS
   alone: blocking sockets, full records, the same conversion of line ends and
   dots, commands in one flight, and no care for anything.  It announces the
   SIZE, for which the file has to be read twice, unless told not to.  Shares no
   code with the module.  */
#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECORD 16384
#define BLOCK 262144

static int fd;
static gnutls_session_t tls;
static char in[65536];
static size_t in_len;

static void put(const char *octets, size_t len) {
  while (len > 0) {
    ssize_t n =
        tls ? gnutls_record_send(tls, octets, len) : write(fd, octets, len);
    if (n <= 0)
      exit(1);
    octets += n;
    len -= (size_t)n;
  }
}

static void await_reply(void) {
  for (;;) {
    char *lf = memchr(in, '\n', in_len);
    if (lf) {
      bool last = in[3] == ' ';
      if (in[0] > '3')
        exit(1);
      in_len -= (size_t)(lf + 1 - in);
      memmove(in, lf + 1, in_len);
      if (last)
        return;
      continue;
    }
    ssize_t n = tls ? gnutls_record_recv(tls, in + in_len, sizeof in - in_len)
                    : read(fd, in + in_len, sizeof in - in_len);
    if (tls && (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED))
      continue;
    if (n <= 0)
      exit(1);
    in_len += (size_t)n;
  }
}

static void command(const char *line) {
  put(line, strlen(line));
  await_reply();
}

static void begin_tls(const char *ca) {
  gnutls_certificate_credentials_t credentials;
  int code;
  gnutls_certificate_allocate_credentials(&credentials);
  gnutls_certificate_set_x509_trust_file(credentials, ca, GNUTLS_X509_FMT_PEM);
  gnutls_init(&tls, GNUTLS_CLIENT);
  gnutls_set_default_priority(tls);
  gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, credentials);
  gnutls_session_set_verify_cert(tls, "localhost", 0);
  gnutls_transport_set_int(tls, fd);
  do
    code = gnutls_handshake(tls);
  while (code < 0 && !gnutls_error_is_fatal(code));
  if (code < 0)
    exit(1);
}

static double now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static char block[BLOCK], envelope[256];

/* The file has LF alone at the ends of its lines.  */
static void write_envelope(const char *file, bool size) {
  char parameter[64] = "";
  unsigned long long octets = 0;
  int message = size ? open(file, O_RDONLY) : -1;
  ssize_t n;
  while (size && (n = read(message, block, sizeof block)) > 0) {
    octets += (unsigned long long)n;
    memset(block + n, 0, (size_t)(-n & 127));
    for (ssize_t i = 0; i < n; i += 128) {
      unsigned char lf = 0;
      for (int j = 0; j < 128; j++)
        lf = (unsigned char)(lf + (block[i + j] == '\n'));
      octets += lf;
    }
  }
  if (size) {
    close(message);
    snprintf(parameter, sizeof parameter, " SIZE=%llu", octets);
  }
  snprintf(envelope, sizeof envelope,
           "MAIL FROM:<alice@example.org>%s\r\n"
           "RCPT TO:<bob@example.org>\r\nDATA\r\n",
           parameter);
}

static void send_mail(const char *file, bool last, bool size) {
  static char out[3 * BLOCK];
  int message = open(file, O_RDONLY);
  size_t len = 0;
  bool begin = true;
  ssize_t n;
  for (int i = 0; i < 3; i++)
    await_reply();
  while ((n = read(message, block, sizeof block)) > 0) {
    const char *at = block, *end = block + n;
    while (at < end) {
      const char *lf = memchr(at, '\n', (size_t)(end - at));
      size_t span = (size_t)((lf ? lf : end) - at);
      if (begin && *at == '.')
        out[len++] = '.';
      memcpy(out + len, at, span);
      len += span;
      at += span;
      begin = lf;
      if (lf) {
        out[len++] = '\r';
        out[len++] = '\n';
        at++;
      }
    }
    size_t full = len - len % RECORD;
    put(out, full);
    len -= full;
    memmove(out, out + full, len);
  }
  close(message);
  memcpy(out + len, ".\r\n", 3);
  len += 3;
  if (!last) {
    write_envelope(file, size);
    memcpy(out + len, envelope, strlen(envelope));
    len += strlen(envelope);
  }
  put(out, len);
  await_reply();
}

int main(int argc, char **argv) {
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (argc < 6)
    return 64;
  double start = now_ms();
  long mails = strtol(argv[5], NULL, 10);
  at.sin_port = htons((uint16_t)strtol(argv[2], NULL, 10));
  fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
    return 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  if (strcmp(argv[1], "tls") == 0)
    begin_tls(argv[3]);
  await_reply();
  command("EHLO client.example\r\n");
  if (strcmp(argv[1], "starttls") == 0) {
    command("STARTTLS\r\n");
    begin_tls(argv[3]);
    command("EHLO client.example\r\n");
  }
  command("AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n");
  write_envelope(argv[4], argc == 6);
  put(envelope, strlen(envelope));
  for (long i = 1; i <= mails; i++) {
    send_mail(argv[4], i == mails, argc == 6);
    printf("%.3f\n", now_ms() - start);
  }
  put("QUIT\r\n", 6);
  return 0;
}
