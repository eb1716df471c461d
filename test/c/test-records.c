/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-records.c - records of TLS that hold nothing for us: tickets, new keys,
   warnings, wishes for another handshake, empty records; some at the wrong
   time, and floods of them.  */
#include "base/wait.h"
#include "certs.h"
#include "check.h"
#include "fds.h"
#include "folder.h"
#include "net/conn.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SHORT_MS = 60, LONG_MS = 20000 };

static const char tls12[] = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
static const char tls13[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3";

/* The server */

struct server {
  int listening, port, fd;
  const char *priority;
  gnutls_session_t tls;
  gnutls_certificate_credentials_t credentials;
  gnutls_datum_t key; /* of tickets */
};

static void server_init(struct server *server, const char *priority) {
  *server = (struct server){.fd = -1, .priority = priority};
  server->listening = peer_listen("127.0.0.1", &server->port);
  char *pem = in_folder("good.pem"), *key = in_folder("good.key");
  CHECK(gnutls_session_ticket_key_generate(&server->key) == 0 &&
        gnutls_certificate_allocate_credentials(&server->credentials) == 0 &&
        gnutls_certificate_set_x509_key_file(server->credentials, pem, key,
                                             GNUTLS_X509_FMT_PEM) == 0);
  free(pem);
  free(key);
}

static void server_free(struct server *server) {
  gnutls_deinit(server->tls);
  gnutls_certificate_free_credentials(server->credentials);
  gnutls_free(server->key.data);
  if (server->fd >= 0)
    close(server->fd);
  close(server->listening);
}

static void *shake_hands(void *argument) {
  struct server *server = argument;
  int code;
  server->fd = accept(server->listening, NULL, NULL);
  gnutls_init(&server->tls,
              GNUTLS_SERVER | GNUTLS_NO_SIGNAL | GNUTLS_NO_AUTO_SEND_TICKET);
  gnutls_priority_set_direct(server->tls, server->priority, NULL);
  gnutls_credentials_set(server->tls, GNUTLS_CRD_CERTIFICATE,
                         server->credentials);
  gnutls_session_ticket_enable_server(server->tls, &server->key);
  gnutls_transport_set_int(server->tls, server->fd);
  gnutls_handshake_set_timeout(server->tls, LONG_MS);
  do
    code = gnutls_handshake(server->tls);
  while (code < 0 && !gnutls_error_is_fatal(code));
  return NULL;
}

/* What comes is unimportant, and so is a client that has gone: false.  */
static bool send_record(struct server *server, char what) {
  switch (what) {
  case 'k': /* a new key */
    return gnutls_session_key_update(server->tls, 0) == 0;
  case 'K': /* the same, and the client is to take one, too */
    return gnutls_session_key_update(server->tls, GNUTLS_KU_PEER) == 0;
  case 't':
    return gnutls_session_ticket_send(server->tls, 1, 0) == 0;
  case 'w':
    return gnutls_alert_send(server->tls, GNUTLS_AL_WARNING,
                             GNUTLS_A_NO_RENEGOTIATION) == 0;
  case 'r': /* HelloRequest */
    return gnutls_rehandshake(server->tls) == 0;
  case 'e': /* an empty record, which TLS 1.3 can fill with zeroes */
    return gnutls_record_send2(server->tls, "", 0, 1, 0) == 0;
  default:
    return check_that(false, __FILE__, __LINE__, "a record that is known");
  }
}

static bool send_text(struct server *server, const char *text) {
  size_t len = strlen(text);
  return gnutls_record_send(server->tls, text, len) == (ssize_t)len;
}

static ssize_t receive(struct server *server, char *into, size_t len) {
  ssize_t n;
  do
    n = gnutls_record_recv(server->tls, into, len);
  while (n < 0 && !gnutls_error_is_fatal((int)n));
  return n;
}

/* One connection, whose two ends are driven by turns.  */

struct pair {
  struct server server;
  struct smn_conn *conn;
  int client; /* the descriptor inside conn */
  int cancel[2];
  struct smn_error err;
};

static void pair_open(struct pair *p, const char *priority) {
  pthread_t thread;
  char *trustfiles[] = {in_folder("ca.pem"), NULL};
  const struct smn_tls_options options = {.host = "localhost",
                                          .trustfiles = trustfiles};
  *p = (struct pair){.conn = NULL};
  server_init(&p->server, priority);
  const struct smn_conn_to to = {.host = "127.0.0.1", .port = p->server.port};
  CHECK(pipe(p->cancel) == 0);
  CHECK(pthread_create(&thread, NULL, shake_hands, &p->server) == 0);
  CHECK_INT(smn_conn_open(&p->conn, &to, LONG_MS, p->cancel[0], &p->err),
            SMN_OK);
  CHECK_INT(smn_conn_start_tls(p->conn, &options, &p->err), SMN_OK);
  pthread_join(thread, NULL);
  p->client = other_end(p->server.fd);
  smn_conn_deadline(p->conn, LONG_MS);
  free(trustfiles[0]);
}

static void pair_close(struct pair *p) {
  smn_conn_close(p->conn);
  server_free(&p->server);
  close(p->cancel[0]);
  close(p->cancel[1]);
}

static void await_octets(struct pair *p) {
  struct smn_error err;
  CHECK_INT(
      smn_wait(p->client, SMN_WAIT_READ, smn_now_ms() + LONG_MS, -1, &err),
      SMN_OK);
}

static bool await_input(struct pair *p) {
  int64_t end = smn_now_ms() + LONG_MS;
  while (!smn_conn_has_input(p->conn) && smn_now_ms() < end)
    await_octets(p);
  return smn_conn_has_input(p->conn);
}

static bool reads(struct pair *p, const char *want) {
  const char *line = "";
  size_t len = 0;
  return CHECK(smn_conn_read_line(p->conn, &line, &len, &p->err) == SMN_OK) &&
         CHECK(len == strlen(want) && memcmp(line, want, len) == 0);
}

/* What both say after what came is heard.  */
static bool still_talk(struct pair *p) {
  char got[16] = "";
  return CHECK(smn_conn_write(p->conn, "NOOP\r\n", 6, &p->err) == SMN_OK) &&
         CHECK(receive(&p->server, got, sizeof got) == 6) &&
         CHECK(strcmp(got, "NOOP\r\n") == 0) &&
         CHECK(send_text(&p->server, "250 a\r\n")) && reads(p, "250 a");
}

static const struct {
  const char *priority, *records;
} quiet[] = {
    {tls13, ""},  {tls13, "k"}, {tls13, "K"}, {tls13, "t"},    {tls13, "e"},
    {tls12, "w"}, {tls12, "r"}, {tls12, ""},  {tls12, "wrwr"}, {tls13, "tkeKt"},
};

/* Readable is not the same as spoken to.  */
static void test_idle(void) {
  for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++) {
    struct pair p;
    pair_open(&p, quiet[i].priority);
    bool good = CHECK(!smn_conn_has_input(p.conn));
    for (const char *r = quiet[i].records; *r; r++) {
      good = CHECK(send_record(&p.server, *r)) && good;
      await_octets(&p);
      good = CHECK(!smn_conn_has_input(p.conn)) && good;
    }
    good = still_talk(&p) && good;
    CHECK(write(p.cancel[1], "", 1) == 1);
    CHECK(!smn_conn_has_input(p.conn));
    CHECK(smn_conn_cancelled(p.conn));
    if (!good)
      printf("  %s, records %s\n", quiet[i].priority, quiet[i].records);
    pair_close(&p);
  }
}

/* A reply that comes right behind such a record is seen with it.  */
static void test_reply_behind(void) {
  for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++) {
    struct pair p;
    pair_open(&p, quiet[i].priority);
    setsockopt(p.server.fd, IPPROTO_TCP, TCP_CORK, &(int){1}, sizeof(int));
    bool good = true;
    for (const char *r = quiet[i].records; *r; r++)
      good = CHECK(send_record(&p.server, *r)) && good;
    good = CHECK(send_text(&p.server, "552 full\r\n")) && good;
    setsockopt(p.server.fd, IPPROTO_TCP, TCP_CORK, &(int){0}, sizeof(int));
    await_octets(&p);
    good = CHECK(smn_conn_has_input(p.conn)) && good;
    good = reads(&p, "552 full") && good;
    good = CHECK(!smn_conn_has_input(p.conn)) && still_talk(&p) && good;
    if (!good)
      printf("  %s, records %s\n", quiet[i].priority, quiet[i].records);
    pair_close(&p);
  }
}

/* The end, and what is wrong, is input; and is told again by each reading.  */
static void test_end_is_input(void) {
  for (int how = 0; how < 4; how++) {
    struct pair p;
    const char *line;
    size_t len;
    pair_open(&p, how & 1 ? tls12 : tls13);
    if (how < 2)
      CHECK_INT(gnutls_bye(p.server.tls, GNUTLS_SHUT_WR), 0);
    else
      CHECK_INT(send(p.server.fd, "\25\3\3\0\2\1\1", 7, MSG_NOSIGNAL), 7);
    CHECK(await_input(&p));
    for (int i = 0; i < 2; i++) {
      CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err),
                how < 2 ? SMN_NETWORK : SMN_TLS);
      CHECK(strstr(p.err.text, how < 2 ? "closed the connection" : "TLS: "));
      CHECK(smn_conn_has_input(p.conn));
    }
    pair_close(&p);
  }
}

/* The server has gone without reading all, and has said why before.  */
static void test_refusal_before_reset(void) {
  static char block[65536];
  for (int i = 0; i < 2; i++) {
    struct pair p;
    enum smn_kind kind = SMN_OK;
    pair_open(&p, i ? tls12 : tls13);
    CHECK_INT(smn_conn_write(p.conn, block, sizeof block, &p.err), SMN_OK);
    CHECK(send_text(&p.server, "552 full\r\n"));
    close(p.server.fd); /* much is unread, so this resets */
    p.server.fd = -1;
    while (kind == SMN_OK)
      kind = smn_conn_write(p.conn, block, sizeof block, &p.err);
    CHECK_INT(kind, SMN_NETWORK);
    CHECK(smn_conn_has_input(p.conn));
    reads(&p, "552 full");
    CHECK(smn_conn_has_input(p.conn));
    pair_close(&p);
  }
}

/* An alert that GnuTLS has no name for.  */
static void test_new_alert(void) {
  struct pair p;
  const char *line;
  size_t len;
  pair_open(&p, tls12);
  CHECK_INT(gnutls_alert_send(p.server.tls, GNUTLS_AL_FATAL,
                              (gnutls_alert_description_t)200),
            0);
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_TLS);
  CHECK_STRING(p.err.text, "TLS: the server sent the alert \"unknown\"");
  pair_close(&p);
}

/* Floods */

/* Send as many records as the client takes, PAUSE_MS apart.  */
struct flood {
  struct server *server;
  char what;
  int pause_ms;
  int stop; /* a descriptor */
};

static void *flood(void *argument) {
  const struct flood *f = argument;
  struct pollfd stop = {.fd = f->stop, .events = POLLIN};
  while (poll(&stop, 1, f->pause_ms) == 0 && send_record(f->server, f->what))
    continue;
  return NULL;
}

static const struct {
  const char *what, *priority;
  char record;
  int pause_ms, deadline_ms;
  bool cancel;
  enum smn_kind kind;
  const char *text;
} floods[] = {
    {"warnings", tls12, 'w', 0, LONG_MS, false, SMN_TLS, "128 records"},
    {"wishes", tls12, 'r', 0, LONG_MS, false, SMN_TLS, "128 records"},
    {"empty records", tls13, 'e', 0, LONG_MS, false, SMN_TLS, "128 records"},
    {"tickets", tls13, 't', 0, LONG_MS, false, SMN_TLS, "128 records"},
    {"keys", tls13, 'k', 0, LONG_MS, false, SMN_TLS, ""},
    {"warnings by drops", tls12, 'w', 5, SHORT_MS, false, SMN_TIMEOUT, ""},
    {"tickets by drops", tls13, 't', 5, SHORT_MS, false, SMN_TIMEOUT, ""},
    {"warnings and a cancel", tls12, 'w', 5, LONG_MS, true, SMN_CANCELLED, ""},
    {"tickets and a cancel", tls13, 't', 5, LONG_MS, true, SMN_CANCELLED, ""},
};

static void test_floods(void) {
  for (size_t i = 0; i < sizeof floods / sizeof *floods; i++) {
    struct pair p;
    int stop[2] = {-1, -1};
    pthread_t thread;
    const char *line;
    size_t len;
    pair_open(&p, floods[i].priority);
    CHECK(pipe(stop) == 0);
    struct flood f = {.server = &p.server,
                      .what = floods[i].record,
                      .pause_ms = floods[i].pause_ms,
                      .stop = stop[0]};
    CHECK(pthread_create(&thread, NULL, flood, &f) == 0);
    if (floods[i].cancel)
      CHECK(write(p.cancel[1], "", 1) == 1);
    smn_conn_deadline(p.conn, floods[i].deadline_ms);
    int64_t begin = smn_now_ms();
    if (!CHECK(smn_conn_read_line(p.conn, &line, &len, &p.err) ==
               floods[i].kind) ||
        !CHECK(strstr(p.err.text, floods[i].text) != NULL))
      printf("  %s: %s\n", floods[i].what, p.err.text);
    CHECK(smn_now_ms() - begin < LONG_MS);
    CHECK(write(stop[1], "", 1) == 1);
    smn_conn_close(p.conn);
    p.conn = NULL;
    pthread_join(thread, NULL);
    close(stop[0]);
    close(stop[1]);
    pair_close(&p);
  }
}

/* The same while nobody reads, and only looks.  */
static void test_flood_is_input(void) {
  struct pair p;
  const char *line;
  size_t len;
  pair_open(&p, tls12);
  for (int i = 0; i < 200; i++)
    CHECK(send_record(&p.server, 'w'));
  CHECK(await_input(&p));
  CHECK_INT(smn_conn_read_line(p.conn, &line, &len, &p.err), SMN_TLS);
  pair_close(&p);
  /* Many are well, if there is a reply now and then.  */
  pair_open(&p, tls12);
  for (int i = 0; i < 300; i++) {
    CHECK(send_record(&p.server, 'w'));
    if (i % 100 == 99 && CHECK(send_text(&p.server, "250 b\r\n")))
      reads(&p, "250 b");
  }
  CHECK(still_talk(&p));
  pair_close(&p);
}

/* A flood of warnings in clear instead of a handshake.  */
struct raw_flood {
  int fd, stop, pause_ms;
};

static void *raw_flood(void *argument) {
  const struct raw_flood *f = argument;
  static const char warning[] = "\25\3\3\0\2\1\132";
  struct pollfd stop = {.fd = f->stop, .events = POLLIN};
  while (poll(&stop, 1, f->pause_ms) == 0 &&
         send(f->fd, warning, sizeof warning - 1, MSG_NOSIGNAL) > 0)
    continue;
  return NULL;
}

static void test_handshake_floods(void) {
  static const struct {
    int pause_ms, timeout_ms;
    bool cancel;
    enum smn_kind kind;
  } cases[] = {
      {0, LONG_MS, false, SMN_TLS},
      {5, SHORT_MS, false, SMN_TIMEOUT},
      {5, LONG_MS, true, SMN_CANCELLED},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int port = 0, stop[2] = {-1, -1}, cancel[2] = {-1, -1};
    const struct smn_tls_options options = {.host = "localhost"};
    struct smn_conn *conn;
    struct smn_error err;
    pthread_t thread;
    int listening = peer_listen("127.0.0.1", &port);
    const struct smn_conn_to to = {.host = "127.0.0.1", .port = port};
    CHECK(pipe(stop) == 0 && pipe(cancel) == 0);
    CHECK_INT(smn_conn_open(&conn, &to, cases[i].timeout_ms, cancel[0], &err),
              SMN_OK);
    struct raw_flood f = {accept(listening, NULL, NULL), stop[0],
                          cases[i].pause_ms};
    CHECK(pthread_create(&thread, NULL, raw_flood, &f) == 0);
    if (cases[i].cancel)
      CHECK(write(cancel[1], "", 1) == 1);
    int64_t begin = smn_now_ms();
    if (!CHECK(smn_conn_start_tls(conn, &options, &err) == cases[i].kind))
      printf("  case %zu: %s\n", i, err.text);
    CHECK(smn_now_ms() - begin < LONG_MS);
    CHECK(!smn_conn_encrypted(conn));
    CHECK(write(stop[1], "", 1) == 1);
    smn_conn_close(conn);
    pthread_join(thread, NULL);
    close(f.fd);
    close(listening);
    close(stop[0]);
    close(stop[1]);
    close(cancel[0]);
    close(cancel[1]);
  }
}

/* Whole sessions */

enum { LINES = 10000, MESSAGE = 70 * LINES };

/* A record that has left in part: the rest of it stays here.  */

/* Wish to cancel as soon as the buffers between both ends are full.  */
static void *cancel_when_full(void *argument) {
  const struct pair *p = argument;
  struct pollfd room = {.fd = p->client, .events = POLLOUT};
  while (poll(&room, 1, 0) != 0)
    poll(NULL, 0, 1);
  CHECK(write(p->cancel[1], "", 1) == 1);
  return NULL;
}

/* Take what is on its way to the server, as it is.  True: it ends in the middle
   of a record.  */
static bool drain(const struct pair *p) {
  static unsigned char all[8 * MESSAGE];
  size_t len = 0, at = 0;
  int unread = 0;
  while (len < sizeof all) {
    ssize_t n = recv(p->server.fd, all + len, sizeof all - len, MSG_DONTWAIT);
    if (n > 0)
      len += (size_t)n;
    else if (ioctl(p->client, TIOCOUTQ, &unread) != 0 || unread == 0)
      break;
  }
  while (at + 5 <= len)
    at += 5 + (size_t)(all[at + 3] << 8 | all[at + 4]);
  return at != len;
}

static bool cut_record(const char *priority) {
  static const char content[4 * MESSAGE];
  static const int small = 65536;
  struct pair p;
  pthread_t thread;
  char rest[1000];
  pair_open(&p, priority);
  setsockopt(p.client, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
  setsockopt(p.server.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  CHECK(pthread_create(&thread, NULL, cancel_when_full, &p) == 0);
  CHECK_INT(smn_conn_write(p.conn, content, sizeof content, &p.err),
            SMN_CANCELLED);
  pthread_join(thread, NULL);
  CHECK(smn_conn_written(p.conn) < sizeof content);
  bool cut = drain(&p);
  smn_conn_close(p.conn);
  p.conn = NULL;
  CHECK_INT(recv(p.server.fd, rest, sizeof rest, 0), 0);
  pair_close(&p);
  return cut;
}

static void test_cut_record(void) {
  const char *const priorities[] = {tls12, tls13};
  for (int i = 0; i < 2; i++) {
    int tries = 0;
    while (!cut_record(priorities[i]) && ++tries < 20)
      continue;
    CHECK(tries < 20);
  }
}

/* Where the server sends its records.  */
enum place { AT_MAIL, AT_DATA, IN_CONTENT, AT_END, PLACES };

struct shop {
  struct server server;
  const char *records;
  enum place place;
  size_t got; /* octets of the content */
  int lines;  /* of it that came as they were sent */
};

static void send_records(struct shop *shop, enum place place) {
  for (const char *r = shop->records; place == shop->place && *r; r++)
    send_record(&shop->server, *r);
}

/* The next line; true for any but the one that ends the content.  */
static bool next_line(struct shop *shop, char *line, size_t size) {
  size_t len = 0;
  while (len + 1 < size && receive(&shop->server, line + len, 1) == 1)
    if (line[len++] == '\n')
      break;
  line[len] = '\0';
  return len > 0 && strcmp(line, ".\r\n") != 0;
}

static void take_content(struct shop *shop) {
  static char line[2000];
  size_t before = 0;
  while (next_line(shop, line, sizeof line)) {
    char sent[100];
    snprintf(sent, sizeof sent, "%069d\r\n", shop->lines);
    shop->lines += strcmp(line, sent) == 0;
    shop->got += strlen(line);
    if (before < MESSAGE / 3 && shop->got >= MESSAGE / 3)
      send_records(shop, IN_CONTENT);
    before = shop->got;
  }
}

static void *serve(void *argument) {
  struct shop *shop = argument;
  struct server *server = &shop->server;
  char line[2000];
  shake_hands(server);
  send_text(server, "220 hi\r\n");
  while (next_line(shop, line, sizeof line)) {
    if (strncmp(line, "MAIL", 4) == 0)
      send_records(shop, AT_MAIL);
    if (strncmp(line, "DATA", 4) != 0) {
      send_text(server, "250 ok\r\n");
      continue;
    }
    send_text(server, "354 go\r\n");
    send_records(shop, AT_DATA);
    take_content(shop);
    send_records(shop, AT_END);
    send_text(server, "250 taken\r\n");
  }
  return NULL;
}

static char *write_message(void) {
  char *file = in_folder("message");
  FILE *out = fopen(file, "w");
  if (CHECK(out != NULL)) {
    fprintf(out, "Subject: x\n\n");
    for (int i = 0; i < LINES; i++)
      fprintf(out, "%069d\n", i);
    fclose(out);
  }
  return file;
}

static struct smn_job *make_job(int port, const char *message) {
  struct smn_job *job = smn_job_new();
  struct smn_server *server = &job->server;
  server->host = strdup("localhost");
  server->port = port;
  server->helo = strdup("client.example");
  server->timeout_ms = LONG_MS;
  server->stream = SMN_STREAM_TLS;
  server->trustfiles = calloc(2, sizeof *server->trustfiles);
  server->trustfiles[0] = in_folder("ca.pem");
  job->file = strdup(message);
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof *job->recipients);
  job->recipients[0] = strdup("b@example.org");
  return job;
}

static void test_sessions(void) {
  char *message = write_message();
  for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++)
    for (enum place place = 0; place < PLACES; place++) {
      const struct smn_observer observer = {.cancel_fd = -1};
      struct shop shop = {.records = quiet[i].records, .place = place};
      struct smn_result result;
      pthread_t thread;
      server_init(&shop.server, quiet[i].priority);
      struct smn_job *job = make_job(shop.server.port, message);
      CHECK(smn_result_init(&result, job));
      CHECK(pthread_create(&thread, NULL, serve, &shop) == 0);
      bool good = CHECK(smn_session_run(job, &observer, &result) == SMN_OK);
      pthread_join(thread, NULL);
      good = CHECK(!result.in_doubt) && good;
      good = CHECK(shop.lines == LINES) && good;
      if (!good)
        printf("  %s, records %s at %d: %s\n", quiet[i].priority,
               quiet[i].records, place, result.error.text);
      smn_result_free(&result);
      smn_job_free(job);
      server_free(&shop.server);
    }
  free(message);
}

int main(void) {
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  test_idle();
  test_reply_behind();
  test_end_is_input();
  test_refusal_before_reset();
  test_new_alert();
  test_floods();
  test_flood_is_input();
  test_handshake_floods();
  test_cut_record();
  test_sessions();
  smn_tls_forget();
  certs_remove(folder);
  return check_done("test-records");
}
