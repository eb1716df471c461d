/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-tls.c - sessions that are resumed, and handshakes that are cut off.  */
#include "certs.h"
#include "check.h"
#include "folder.h"
#include "net/conn.h"
#include "net/tickets.h"
#include "net/trust.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Resumption: one server, which keeps its key, and many clients.  */

struct server {
  int listening, port;
  gnutls_datum_t key;
  const char *script;
  struct peer *peer;
};

static void *serve(void *argument) {
  struct server *server = argument;
  (void)peer_run(server->peer, server->listening, server->script);
  return NULL;
}

/* What a client is like; NULL: as all others.  */
struct client {
  const char *what; /* for people */
  const char *certificate;
  const char *host, *priority, *pin, *trust, *own;
  bool starttls, crl, forgetful;
  bool resumed;
  enum smn_kind kind;
};

static char **one(char *text) {
  char **list = calloc(2, sizeof *list);
  list[0] = text;
  return list;
}

static char *pin_of(const char *name) {
  unsigned char digest[32];
  size_t size = sizeof digest;
  char *text = calloc(1, 65), *file = in_folder(name);
  gnutls_datum_t pem = {NULL, 0};
  gnutls_x509_crt_t crt = NULL;
  CHECK(gnutls_load_file(file, &pem) == 0 && gnutls_x509_crt_init(&crt) == 0 &&
        gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == 0);
  gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &size);
  for (size_t i = 0; i < size; i++)
    snprintf(text + 2 * i, 3, "%02x", digest[i]);
  gnutls_x509_crt_deinit(crt);
  gnutls_free(pem.data);
  free(file);
  return text;
}

static struct smn_job *make_job(const struct client *client, int port) {
  struct smn_job *job = smn_job_new();
  struct smn_server *server = &job->server;
  job->probe = true;
  server->host = strdup(client->host ? client->host : "localhost");
  server->port = port;
  server->helo = strdup("client.example");
  server->timeout_ms = 20000;
  server->stream = client->starttls ? SMN_STREAM_STARTTLS : SMN_STREAM_TLS;
  server->priority = client->priority ? strdup(client->priority) : NULL;
  server->trustfiles = one(in_folder(client->trust ? client->trust : "ca.pem"));
  server->crlfiles = client->crl ? one(in_folder("crl.pem")) : NULL;
  server->pins = client->pin ? one(pin_of(client->pin)) : NULL;
  if (client->own) {
    server->cert_file = in_folder("client.pem");
    server->key_file = in_folder("client.key");
  }
  return job;
}

/* The caller frees *RESULT.  */
static void visit_for(struct server *server, const struct client *client,
                      struct smn_result *into) {
  char script[512], *log = NULL;
  size_t size = 0;
  const char *certificate = client->certificate ? client->certificate : "good";
  const char *option = client->own ? " client" : "";
  const struct smn_observer observer = {.cancel_fd = -1};
  pthread_t thread;
  struct peer *peer = calloc(1, sizeof *peer);
  snprintf(script, sizeof script,
           client->starttls
               ? "S: 220 hi\nC: EHLO *\nS: 250-hi\nS: 250 STARTTLS\n"
                 "C: STARTTLS\nS: 220 go\ntls %s%s\nC: EHLO *\nS: 250 hi\n"
               : "tls %s%s\nS: 220 hi\nC: EHLO *\nS: 250 hi\n",
           certificate, option);
  peer->certs = folder;
  peer->timeout_ms = 20000;
  peer->log = open_memstream(&log, &size);
  peer->ticket_key = server->key;
  server->peer = peer;
  server->script = script;
  if (client->forgetful)
    smn_tls_forget();
  CHECK(pthread_create(&thread, NULL, serve, server) == 0);
  struct smn_job *job = make_job(client, server->port);
  CHECK(smn_result_init(into, job));
  CHECK_INT(smn_session_run(job, &observer, into), client->kind);
  pthread_join(thread, NULL);
  fclose(peer->log);
  const struct smn_tls_info *tls = smn_result_tls(into);
  bool good = CHECK(peer->resumed == client->resumed);
  good = CHECK(tls->resumed == client->resumed) && good;
  good = CHECK((client->kind == SMN_OK) ==
               (tls->certificate.reasons[0] == '\0')) &&
         good;
  good = CHECK(tls->certificate.present) && good;
  good = CHECK(tls->certificate.pinned ==
               (client->pin && client->kind == SMN_OK)) &&
         good;
  if (!good)
    printf("  %s: %s\n%s\n", client->what, into->error.text, log);
  smn_job_free(job);
  free(peer);
  free(log);
}

static void visit(struct server *server, const struct client *client) {
  struct smn_result result;
  visit_for(server, client, &result);
  smn_result_free(&result);
}

static void copy_file(const char *from, const char *to) {
  gnutls_datum_t content = {NULL, 0};
  char *in = in_folder(from), *out = in_folder(to);
  CHECK(gnutls_load_file(in, &content) == 0);
  FILE *stream = fopen(out, "w");
  CHECK(stream &&
        fwrite(content.data, 1, content.size, stream) == content.size);
  if (stream)
    fclose(stream);
  gnutls_free(content.data);
  free(in);
  free(out);
}

static void test_resumption(void) {
  static const char tls12[] = "NORMAL:-VERS-ALL:+VERS-TLS1.2";
  static const struct client clients[] = {
      {.what = "first"},
      {.what = "second", .resumed = true},
      {.what = "third, by the ticket of the second", .resumed = true},
      {.what = "STARTTLS", .starttls = true, .resumed = true},
      {.what = "another priority", .priority = "NORMAL"},
      {.what = "the same priority", .priority = "NORMAL", .resumed = true},
      {.what = "a pin", .pin = "good.pem"},
      {.what = "the same pin", .pin = "good.pem", .resumed = true},
      {.what = "another name", .host = "127.0.0.1"},
      {.what = "the same name", .host = "127.0.0.1", .resumed = true},
      {.what = "a revocation list", .crl = true},
      {.what = "the same list", .crl = true, .resumed = true},
      {.what = "a client certificate", .own = "client"},
      {.what = "the same client", .own = "client", .resumed = true},
      {.what = "forgotten", .forgetful = true},
      {.what = "TLS 1.2", .priority = tls12},
      {.what = "TLS 1.2 again", .priority = tls12},
      {.what = "staple", .certificate = "must-stapled", .trust = "two.pem"},
      {.what = "staple again",
       .certificate = "must-stapled",
       .trust = "two.pem",
       .resumed = true},
      {.what = "trust", .trust = "trust.pem"},
      {.what = "the same trust", .trust = "trust.pem", .resumed = true},
  };
  /* The server resumes it, and yet it does not verify any more.  */
  static const struct client distrust = {.what = "distrust",
                                         .trust = "trust.pem",
                                         .resumed = true,
                                         .kind = SMN_CERTIFICATE};
  static const struct client still = {.what = "distrust, no ticket left",
                                      .trust = "trust.pem",
                                      .kind = SMN_CERTIFICATE};
  struct server server = {.port = 0};
  server.listening = peer_listen("127.0.0.1", &server.port);
  CHECK(gnutls_session_ticket_key_generate(&server.key) == 0);
  copy_file("ca.pem", "trust.pem");
  copy_file("ca.pem", "two.pem");
  for (size_t i = 0; i < sizeof clients / sizeof *clients; i++)
    visit(&server, &clients[i]);
  copy_file("selfsigned.pem", "trust.pem");
  visit(&server, &distrust);
  visit(&server, &still);
  gnutls_free(server.key.data);
  close(server.listening);
  smn_tls_forget();
}

static bool harmless(const char *text) {
  for (; *text; text++)
    if ((unsigned char)*text < ' ' || *text == 0x7f)
      return false;
  return true;
}

/* What a certificate says of itself is shown, and does nothing else.  */
static void test_strange_names(void) {
  static const struct client clients[] = {
      {.what = "names", .certificate = "strange", .kind = SMN_CERTIFICATE},
      {.what = "names and a pin",
       .certificate = "strange",
       .pin = "good.pem",
       .kind = SMN_CERTIFICATE},
  };
  struct server server = {.port = 0};
  server.listening = peer_listen("127.0.0.1", &server.port);
  for (size_t i = 0; i < sizeof clients / sizeof *clients; i++) {
    struct smn_result result;
    visit_for(&server, &clients[i], &result);
    const struct smn_certificate *shown = &smn_result_tls(&result)->certificate;
    CHECK(strstr(result.error.text, "evil\\x0d\\n\\t250 ok\\x1b[31m"));
    CHECK(harmless(result.error.text));
    CHECK(harmless(shown->reasons) && harmless(shown->subject));
    CHECK(harmless(shown->chain[0].subject));
    smn_result_free(&result);
  }
  close(server.listening);
}

/* A local socket is this machine, and shows a certificate for it.  */
static void test_local_socket(void) {
  char name[128];
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  struct server server = {.port = 0};
  snprintf(local.sun_path, sizeof local.sun_path, "%s/socket", folder);
  snprintf(name, sizeof name, "unix:%s", local.sun_path);
  const struct client good = {.what = "local socket", .host = name};
  const struct client bad = {.what = "local socket, other name",
                             .host = local.sun_path,
                             .certificate = "wronghost",
                             .kind = SMN_CERTIFICATE};
  server.listening = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK(bind(server.listening, (struct sockaddr *)&local, sizeof local) == 0 &&
        listen(server.listening, 4) == 0);
  visit(&server, &good);
  visit(&server, &bad);
  close(server.listening);
}

static void test_tickets(void) {
  struct smn_ticket_key key = {.digest = {0}};
  struct smn_ticket ticket;
  for (unsigned char i = 0; i <= SMN_TICKETS_MAX; i++) {
    key.digest[0] = i;
    smn_tickets_put(&key, &i, 1, i);
  }
  CHECK(smn_tickets_take(&key, &ticket));
  CHECK_INT(ticket.shown_ms, SMN_TICKETS_MAX);
  CHECK(ticket.session.secret && ticket.session.len == 1 &&
        ticket.session.data[0] == SMN_TICKETS_MAX);
  smn_buf_free(&ticket.session);
  CHECK(!smn_tickets_take(&key, &ticket)); /* once */
  key.digest[0] = 0;
  CHECK(!smn_tickets_take(&key, &ticket)); /* the oldest had to go */
  key.digest[0] = 1;
  smn_tickets_put(&key, "y", 1, 99);
  CHECK(smn_tickets_take(&key, &ticket));
  CHECK_INT(ticket.shown_ms, 99); /* the youngest first */
  smn_buf_free(&ticket.session);
  smn_tickets_forget();
  CHECK(!smn_tickets_take(&key, &ticket));
}

/* Handshakes that are cut off */

struct cut {
  int listening, fd;
  const char *priority;
  long left, sent; /* octets of the server */
};

/* Send what may be sent, and then close the connection.  */
static ssize_t push_some(gnutls_transport_ptr_t pointer, const void *bytes,
                         size_t len) {
  struct cut *cut = pointer;
  size_t some = (long)len < cut->left ? len : (size_t)cut->left;
  if (send(cut->fd, bytes, some, MSG_NOSIGNAL) != (ssize_t)some)
    return -1;
  cut->left -= (long)some;
  cut->sent += (long)some;
  if (some < len)
    shutdown(cut->fd, SHUT_WR);
  return some < len ? -1 : (ssize_t)len;
}

static ssize_t pull(gnutls_transport_ptr_t pointer, void *into, size_t len) {
  return recv(((const struct cut *)pointer)->fd, into, len, 0);
}

static void *serve_cut(void *argument) {
  struct cut *cut = argument;
  char octet, *pem = in_folder("good.pem"), *key = in_folder("good.key");
  gnutls_certificate_credentials_t credentials;
  gnutls_session_t tls;
  int code;
  cut->fd = accept(cut->listening, NULL, NULL);
  gnutls_certificate_allocate_credentials(&credentials);
  gnutls_certificate_set_x509_key_file(credentials, pem, key,
                                       GNUTLS_X509_FMT_PEM);
  gnutls_init(&tls, GNUTLS_SERVER);
  gnutls_priority_set_direct(tls, cut->priority, NULL);
  gnutls_credentials_set(tls, GNUTLS_CRD_CERTIFICATE, credentials);
  gnutls_transport_set_ptr(tls, cut);
  gnutls_transport_set_push_function(tls, push_some);
  gnutls_transport_set_pull_function(tls, pull);
  do
    code = gnutls_handshake(tls);
  while (code < 0 && !gnutls_error_is_fatal(code));
  while (recv(cut->fd, &octet, 1, 0) > 0) /* no reset, but an end */
    continue;
  gnutls_deinit(tls);
  gnutls_certificate_free_credentials(credentials);
  close(cut->fd);
  free(pem);
  free(key);
  return NULL;
}

/* Let the server send OCTETS; returns how many it has sent.  */
static long shake_hands(int listening, int port, const char *priority,
                        long octets, struct smn_trust *trust,
                        struct smn_error *err) {
  struct cut cut = {
      .listening = listening, .priority = priority, .left = octets};
  const struct smn_conn_to to = {.host = "127.0.0.1", .port = port};
  const struct smn_tls_options options = {.host = "localhost", .trust = trust};
  struct smn_conn *conn;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, serve_cut, &cut) == 0);
  CHECK_INT(smn_conn_open(&conn, &to, 20000, -1, err), SMN_OK);
  err->kind = SMN_OK;
  (void)smn_conn_start_tls(conn, &options, err);
  smn_conn_close(conn);
  pthread_join(thread, NULL);
  return cut.sent;
}

static void test_cut_off(void) {
  static const char *const priorities[] = {"NORMAL:-VERS-ALL:+VERS-TLS1.3",
                                           "NORMAL:-VERS-ALL:+VERS-TLS1.2"};
  char *trustfiles[] = {in_folder("ca.pem"), NULL};
  const struct smn_tls_options options = {.trustfiles = trustfiles};
  struct smn_error err = {0};
  struct smn_trust *trust = NULL;
  bool ignored;
  int port = 0;
  int listening = peer_listen("127.0.0.1", &port);
  CHECK_INT(smn_trust_load(&trust, &options, &ignored, &err), SMN_OK);
  for (int i = 0; i < 2; i++) {
    long total =
        shake_hands(listening, port, priorities[i], 1000000, trust, &err);
    CHECK_INT(err.kind, SMN_OK);
    for (long n = 0; n < total; n += n < 60 || total - n < 10 ? 1 : 37) {
      (void)shake_hands(listening, port, priorities[i], n, trust, &err);
      if (!CHECK(err.kind == SMN_NETWORK))
        printf("  %ld of %ld octets: %s\n", n, total, err.text);
    }
  }
  close(listening);
  smn_trust_free(trust);
  free(trustfiles[0]);
}

/* What is no TLS is told as such, though the connection ends behind it.  */
static void test_no_tls(void) {
  static const char *const greetings[] = {"220 mail.example.org\r\n",
                                          "220 a\r\n", "554 no\r\n"};
  struct smn_error err = {0};
  int port = 0;
  int listening = peer_listen("127.0.0.1", &port);
  for (int i = 0; i < 3; i++) {
    const struct smn_conn_to to = {.host = "127.0.0.1", .port = port};
    const struct smn_tls_options options = {.host = "localhost"};
    struct smn_conn *conn;
    CHECK_INT(smn_conn_open(&conn, &to, 20000, -1, &err), SMN_OK);
    int fd = accept(listening, NULL, NULL);
    size_t len = strlen(greetings[i]);
    CHECK_INT(send(fd, greetings[i], len, MSG_NOSIGNAL), len);
    shutdown(fd, SHUT_WR);
    if (!CHECK(smn_conn_start_tls(conn, &options, &err) == SMN_TLS))
      printf("  %s: %s\n", greetings[i], err.text);
    smn_conn_close(conn);
    close(fd);
  }
  close(listening);
}

int main(void) {
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  test_tickets();
  test_resumption();
  test_strange_names();
  test_local_socket();
  test_cut_off();
  test_no_tls();
  certs_remove(folder);
  return check_done("test-tls");
}
