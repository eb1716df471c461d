/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-token.c - a client key that never leaves its token (PKCS#11).
   The token is one of SoftHSM's, in a folder of its own; without SoftHSM this
   is skipped.  */
#include "certs.h"
#include "check.h"
#include "folder.h"
#include "peer-run.h"
#include "smtp/session.h"

#include <gnutls/pkcs11.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define LABEL "smtpmail-native"
#define TOKEN "pkcs11:token=" LABEL
#define KEY TOKEN ";object=client;type=private"
#define CERT TOKEN ";object=client;type=cert"
#define PIN "4711-0815"
#define OWNER_PIN "12345678"

static void write_file(const char *name, const char *text) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *out = fopen(path, "w");
  CHECK(out && fputs(text, out) >= 0 && fclose(out) == 0);
}

static void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  CHECK_INT(system(command), 0);
}

/* False without SoftHSM.  */
static bool make_token(void) {
  return system("softhsm2-util --init-token --free --label " LABEL
                " --so-pin " OWNER_PIN " --pin " PIN " >/dev/null 2>&1") == 0;
}

/* The pair `client' of certs.h into a new token.  */
static bool fill_token(void) {
  char path[128];
  gnutls_datum_t pem = {NULL, 0};
  static const unsigned char octet = 1;
  const gnutls_datum_t id = {(unsigned char *)(size_t)&octet, 1};
  static const char into[] = TOKEN "?pin-value=" PIN;
  gnutls_x509_crt_t crt = NULL;
  gnutls_x509_privkey_t key = NULL;
  snprintf(path, sizeof path, "%s/client.pem", folder);
  bool good = gnutls_load_file(path, &pem) == 0 &&
              gnutls_x509_crt_init(&crt) == 0 &&
              gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == 0;
  gnutls_free(pem.data);
  pem.data = NULL;
  snprintf(path, sizeof path, "%s/client.key", folder);
  good = good && gnutls_load_file(path, &pem) == 0 &&
         gnutls_x509_privkey_init(&key) == 0 &&
         gnutls_x509_privkey_import(key, &pem, GNUTLS_X509_FMT_PEM) == 0 &&
         gnutls_pkcs11_copy_x509_crt2(into, crt, "client", &id,
                                      GNUTLS_PKCS11_OBJ_FLAG_LOGIN) == 0 &&
         gnutls_pkcs11_copy_x509_privkey2(
             into, key, "client", &id, GNUTLS_KEY_DIGITAL_SIGNATURE,
             GNUTLS_PKCS11_OBJ_FLAG_MARK_SENSITIVE |
                 GNUTLS_PKCS11_OBJ_FLAG_LOGIN) == 0;
  gnutls_free(pem.data);
  gnutls_x509_crt_deinit(crt);
  gnutls_x509_privkey_deinit(key);
  return good;
}

static struct {
  struct peer peer;
  int listening;
  bool behaved;
} server;

static void *serve(void *unused) {
  (void)unused;
  server.behaved =
      peer_run(&server.peer, server.listening,
               "tls good client\nS: 220 x\nC: EHLO *\nS: 250-x\n"
               "S: 250 AUTH EXTERNAL\nauth EXTERNAL - -\nC: QUIT\n");
  return NULL;
}

static struct smn_job *make_job(int port, const char *cert, const char *key,
                                const char *pin) {
  char path[128];
  struct smn_job *job = smn_job_new();
  struct smn_server *s = &job->server;
  snprintf(path, sizeof path, "%s/ca.pem", folder);
  s->host = strdup("localhost");
  s->port = port;
  s->helo = strdup("client.example");
  s->timeout_ms = 10000;
  s->stream = SMN_STREAM_TLS;
  s->trustfiles = calloc(2, sizeof *s->trustfiles);
  s->trustfiles[0] = strdup(path);
  s->authenticate = true;
  s->cert_file = strdup(cert);
  s->key_file = key ? strdup(key) : NULL;
  if (pin)
    CHECK(smn_buf_init_secret(&s->passphrase, 64) &&
          smn_buf_add_string(&s->passphrase, pin));
  job->sender = strdup("a@example.org");
  job->recipients = calloc(2, sizeof *job->recipients);
  job->recipients[0] = strdup("b@example.org");
  job->file = strdup(path);
  return job;
}

/* WORDS stand in the error; NULL: all is well up to MAIL, which nobody
   answers.  */
static void check_key(const char *cert, const char *key, const char *pin,
                      const char *words) {
  const struct smn_observer observer = {.cancel_fd = -1};
  struct smn_result result;
  pthread_t thread;
  int port = 0;
  server.peer.certs = folder;
  server.peer.timeout_ms = 10000;
  server.listening = peer_listen("127.0.0.1", &port);
  struct smn_job *job = make_job(port, cert, key, pin);
  if (!words)
    CHECK_INT(pthread_create(&thread, NULL, serve, NULL), 0);
  CHECK(smn_result_init(&result, job));
  (void)smn_session_run(job, &observer, &result);
  if (!words) {
    pthread_join(thread, NULL);
    CHECK_STRING(result.mechanism, "EXTERNAL");
  } else {
    CHECK_INT(result.error.kind, SMN_FILE);
    CHECK(result.passphrase_wanted == (strstr(words, "PIN") != NULL));
    CHECK(strstr(result.error.text, words) != NULL);
    CHECK(strstr(result.error.text, PIN) == NULL);
  }
  if (check_failed)
    printf("%s\n", result.error.text);
  smn_result_free(&result);
  smn_job_free(job);
  close(server.listening);
}

int main(void) {
  char path[128], text[256];
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  snprintf(path, sizeof path, "%s/softhsm2.conf", folder);
  snprintf(text, sizeof text, "directories.tokendir = %s\n", folder);
  write_file("softhsm2.conf", text);
  setenv("SOFTHSM2_CONF", path, 1);
  server.peer.log = fopen("/dev/null", "w");
  if (make_token()) {
    CHECK(fill_token());
    snprintf(path, sizeof path, "%s/client.pem", folder);
    check_key(path, KEY, NULL, "needs a PIN");
    check_key(path, KEY, "wrong", "PIN for the client key " KEY " is wrong");
    check_key(path, KEY "?pin-value=0-" PIN, "wrong",
              "PIN for the client key " KEY " is wrong");
    check_key(path, KEY, PIN, NULL);
    check_key(CERT, KEY, PIN, NULL);
    check_key(TOKEN ";object=client", NULL, PIN, NULL);
    snprintf(text, sizeof text, "%s/client.key", folder);
    check_key(CERT, text, NULL, NULL);
    snprintf(text, sizeof text, "%s/good.key", folder);
    check_key(CERT, text, NULL, "does not belong to the key");
    snprintf(text, sizeof text, "%s/good.pem", folder);
    check_key(text, KEY, PIN, "does not belong to the key");
    check_key(path, TOKEN ";object=nothing;type=private", PIN, "cannot use");
  } else {
    puts("   SKIPPED  no-SoftHSM-for-PKCS#11");
  }
  fclose(server.peer.log);
  gnutls_pkcs11_deinit();
  remove_folder();
  return check_done("test-token");
}
