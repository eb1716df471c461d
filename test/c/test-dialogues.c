/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-dialogues.c - play every script of a folder against the core.
   test-dialogues PATH: a folder with *.smtp files, or one of them.  The server
   runs in a thread of its own; what the script's lines `client' and `expect'
   say is told in test/peer/README.org.  In every dialogue, no text that the
   core lets out may hold a secret.  */
#include "certs.h"
#include "check.h"
#include "folder.h"
#include "peer-run.h"
#include "sasl/worked.h"
#include "smtp/session.h"

#include <dirent.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct dialogue {
  const char *name;
  char *script;
  char client[4096], expect[1024]; /* the words of these lines */
  struct peer *peer;
  int listening, port;
  bool behaved;
  FILE *trace; /* all that the core says */
  char file[600];
  struct smn_job *job;
  struct smn_result result;
};

/* KEY=VALUE in the line TEXT; VALUE may stand in quotes, with escapes.  False
   without.  */
static bool word(const char *text, const char *key, char *out, size_t size) {
  size_t len = strlen(key);
  for (const char *at = text; (at = strstr(at, key)); at += len) {
    if (at[len] != '=' || (at > text && at[-1] != ' '))
      continue;
    at += len + 1;
    bool quoted = *at == '"';
    size_t to = 0;
    for (at += quoted; *at && *at != (quoted ? '"' : ' '); at++) {
      char c = *at;
      unsigned value = 0;
      if (c == '\\' && at[1]) {
        c = *++at;
        if (c == 'x' && sscanf(at + 1, "%2x", &value) == 1) {
          c = (char)value;
          at += 2;
        } else
          c = c == 'n' ? '\n' : c == 'r' ? '\r' : c == '0' ? '\1' : c;
      }
      if (to + 1 < size)
        out[to++] = c;
    }
    out[to] = '\0';
    return true;
  }
  return false;
}

/* The words of all lines of SCRIPT that begin with VERB.  */
static void lines_of(const char *script, const char *verb, char *out,
                     size_t size) {
  size_t len = strlen(verb), to = 0;
  for (const char *at = script; *at;) {
    size_t n = strcspn(at, "\n");
    if (n > len && strncmp(at, verb, len) == 0 && at[len] == ' ')
      to += (size_t)snprintf(out + to, size - to, "%.*s", (int)(n - len),
                             at + len);
    at += n + (at[n] == '\n');
  }
}

static char *copy(const char *text) { return text ? strdup(text) : NULL; }

static char **list(const char *text) {
  char **items = calloc(64, sizeof *items);
  char *whole = strdup(text), *rest = NULL;
  size_t count = 0;
  for (char *one = strtok_r(whole, ",", &rest); one && count < 63;
       one = strtok_r(NULL, ",", &rest))
    items[count++] = strdup(one);
  free(whole);
  return items;
}

static char *file_of(const char *name, const char *suffix) {
  char path[1200];
  snprintf(path, sizeof path, "%s/%s.%s", folder, name, suffix);
  return strdup(path);
}

/* A pin for the certificate NAME, as people write it, or "NAME/key" for its
   public key; anything else is taken as it is.  */
static char *pin_for(char *name) {
  char *slash = strchr(name, '/'), *file, text[96] = "";
  unsigned char digest[32];
  size_t size = sizeof digest;
  gnutls_datum_t pem = {NULL, 0};
  gnutls_x509_crt_t crt = NULL;
  if (slash)
    *slash = '\0';
  file = file_of(name, "pem");
  if (gnutls_load_file(file, &pem) == 0 && gnutls_x509_crt_init(&crt) == 0 &&
      gnutls_x509_crt_import(crt, &pem, GNUTLS_X509_FMT_PEM) == 0) {
    if (slash)
      gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, digest, &size);
    else
      gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &size);
    for (size_t i = 0; i < size; i++)
      snprintf(text + strlen(text), 4, slash ? "%s%02x" : "%s%02X",
               slash || i == 0 ? "" : ":", digest[i]);
  } else
    snprintf(text, sizeof text, "%s", name);
  gnutls_x509_crt_deinit(crt);
  gnutls_free(pem.data);
  free(file);
  return strdup(text);
}

/* The value of KEY in the line of the client, NULL without.  */
static char *optional(const struct dialogue *d, const char *key) {
  char value[1024];
  return word(d->client, key, value, sizeof value) ? strdup(value) : NULL;
}

static void fill_client_key(struct dialogue *d) {
  struct smn_server *server = &d->job->server;
  char value[1024];
  server->avoid = optional(d, "avoid");
  if (word(d->client, "cert", value, sizeof value)) {
    server->cert_file = file_of(value, "pem");
    server->key_file = file_of(value, "key");
  }
  if (word(d->client, "key", value, sizeof value)) {
    free(server->key_file);
    server->key_file = file_of(value, "key");
  }
  if (word(d->client, "file", value, sizeof value)) {
    char *dot = strchr(value, '.');
    CHECK(dot != NULL);
    if (dot)
      *dot = '\0';
    server->cert_file = file_of(value, dot ? dot + 1 : "");
  }
  if (word(d->client, "passphrase", value, sizeof value))
    CHECK(smn_buf_init_secret(&server->passphrase, 256) &&
          smn_buf_add_string(&server->passphrase, value));
  if (!word(d->client, "pins", value, sizeof value))
    return;
  server->pins = list(value);
  for (char **pin = server->pins; *pin; pin++) {
    char *name = *pin;
    *pin = pin_for(name);
    free(name);
  }
}

static enum smn_stream stream_of(const char *name) {
  static const char *const names[] = {"auto", "plain", "starttls", "tls"};
  for (int i = 0; i < 4; i++)
    if (strcmp(name, names[i]) == 0)
      return (enum smn_stream)i;
  return SMN_STREAM_AUTO;
}

static void fill_server(struct dialogue *d) {
  struct smn_server *server = &d->job->server;
  char value[1024];
  server->host =
      copy(word(d->client, "host", value, sizeof value) ? value : "localhost");
  server->port = d->port;
  if (!word(d->client, "helo", value, sizeof value))
    server->helo = copy("client.example");
  else if (strcmp(value, "none") != 0)
    server->helo = copy(value);
  server->trace = true;
  server->timeout_ms = word(d->client, "timeout", value, sizeof value)
                           ? (int)(atof(value) * 1000)
                           : 60000;
  server->cleartext = SMN_CLEARTEXT_LOOPBACK;
  if (word(d->client, "cleartext", value, sizeof value))
    server->cleartext = SMN_CLEARTEXT_NEVER;
  if (word(d->client, "stream", value, sizeof value))
    server->stream = stream_of(value);
  if (word(d->client, "mechanisms", value, sizeof value))
    server->mechanisms = copy(value);
  if (word(d->client, "priority", value, sizeof value))
    server->priority = copy(value);
  server->trustfiles = calloc(2, sizeof *server->trustfiles);
  if (!word(d->client, "trust", value, sizeof value))
    server->trustfiles[0] = file_of("ca", "pem");
  if (word(d->client, "crl", value, sizeof value)) {
    server->crlfiles = calloc(2, sizeof *server->crlfiles);
    server->crlfiles[0] = file_of("crl", "pem");
  }
  fill_client_key(d);
  if (word(d->client, "authzid", value, sizeof value))
    server->authzid = copy(value);
  server->authenticate = smn_server_secretless(server);
  if (!word(d->client, "user", value, sizeof value))
    return;
  server->user = copy(value);
  server->authenticate = true;
  server->token = word(d->client, "token", value, sizeof value);
  CHECK(word(d->client, "password", value, sizeof value));
  CHECK(smn_buf_init_secret(&server->password, 1024) &&
        smn_buf_add_string(&server->password, value));
}

/* message="..." (\0 stands for NUL), or size=LINES of 70 octets.  */
static void write_message(struct dialogue *d) {
  char value[2048];
  snprintf(d->file, sizeof d->file, "%s/message", folder);
  FILE *out = fopen(d->file, "w");
  CHECK(out != NULL);
  if (!out)
    return;
  if (word(d->client, "size", value, sizeof value))
    for (long i = atol(value); i > 0; i--)
      fprintf(out, "%068ld\n", i);
  else if (word(d->client, "message", value, sizeof value))
    for (const char *at = value; *at; at++)
      fputc(*at == '\1' ? '\0' : *at, out);
  else
    fputs("Subject: test\n\nbody\n", out);
  fclose(out);
}

static void make_job(struct dialogue *d) {
  char value[2048];
  d->job = smn_job_new();
  fill_server(d);
  write_message(d);
  d->job->probe = word(d->client, "probe", value, sizeof value);
  d->job->partial = word(d->client, "partial", value, sizeof value);
  d->job->utf8 = word(d->client, "utf8", value, sizeof value);
  d->job->binary = word(d->client, "binary", value, sizeof value);
  d->job->chunking = word(d->client, "chunking", value, sizeof value);
  d->job->sender = copy(word(d->client, "sender", value, sizeof value)
                            ? value
                            : "alice@example.org");
  d->job->recipients = list(word(d->client, "recipients", value, sizeof value)
                                ? value
                                : "bob@example.org");
  d->job->file = copy(d->file);
  d->job->wishes = (struct smn_wishes){
      .notify = optional(d, "notify"),
      .ret = optional(d, "ret"),
      .envid = optional(d, "envid"),
      .deliver_by = optional(d, "by"),
      .require_tls = word(d->client, "require-tls", value, sizeof value),
      .release = word(d->client, "later", value, sizeof value)
                     ? (int64_t)time(NULL) + strtol(value, NULL, 10)
                     : 0,
  };
  if (word(d->client, "nofile", value, sizeof value))
    unlink(d->file);
}

static void on_trace(void *context, bool from_server, const char *text,
                     size_t len) {
  struct dialogue *d = context;
  fprintf(d->trace, "%c ", from_server ? '<' : '>');
  fwrite(text, 1, len, d->trace);
  fputc('\n', d->trace);
}

static void *serve(void *argument) {
  struct dialogue *d = argument;
  d->behaved = peer_run(d->peer, d->listening, d->script);
  return NULL;
}

/* Results */

static void expect_word(const struct dialogue *d, const char *key,
                        const char *got, bool *good) {
  char value[512];
  if (!word(d->expect, key, value, sizeof value))
    return;
  bool same = strcmp(key, "text") == 0 || strcmp(key, "notes") == 0
                  ? strstr(got, value) != NULL
                  : strcmp(got, value) == 0;
  if (same)
    return;
  printf("%s: %s is \"%s\", expected \"%s\"\n", d->name, key, got, value);
  *good = false;
}

static bool as_expected(const struct dialogue *d) {
  const struct smn_result *r = &d->result;
  const struct smn_error *err = &r->error;
  char code[16], octets[32], accepted[32];
  char delivered[32];
  size_t taken = 0, told = 0;
  bool good = true;
  for (size_t i = 0; i < r->recipient_count; i++)
    taken += r->recipients[i].accepted, told += r->recipients[i].delivered;
  snprintf(delivered, sizeof delivered, "%zu", told);
  snprintf(code, sizeof code, "%d", err->code);
  snprintf(octets, sizeof octets, "%lu", (unsigned long)r->octets);
  snprintf(accepted, sizeof accepted, "%zu", taken);
  if (!strstr(d->expect, "kind="))
    printf("%s: no line `expect kind=...'\n", d->name), good = false;
  expect_word(d, "kind", smn_kind_name(err->kind), &good);
  expect_word(d, "stage", smn_stage_name(err->stage), &good);
  expect_word(d, "code", code, &good);
  expect_word(d, "enhanced", err->enhanced, &good);
  expect_word(d, "text", err->text, &good);
  expect_word(d, "octets", octets, &good);
  expect_word(d, "accepted", accepted, &good);
  expect_word(d, "delivered", delivered, &good);
  expect_word(d, "mechanism", r->mechanism, &good);
  expect_word(d, "token-refused", r->token_refused ? "yes" : "no", &good);
  expect_word(d, "password-untested", r->password_untested ? "yes" : "no",
              &good);
  expect_word(d, "passphrase-wanted", r->passphrase_wanted ? "yes" : "no",
              &good);
  expect_word(d, "pinned", smn_result_tls(r)->certificate.pinned ? "yes" : "no",
              &good);
  expect_word(d, "warnings", smn_result_tls(r)->certificate.warnings, &good);
  expect_word(d, "notes", r->notes, &good);
  expect_word(d, "more", r->more ? "yes" : "no", &good);
  expect_word(d, "release-unsupported", r->release_unsupported ? "yes" : "no",
              &good);
  expect_word(d, "doubt", r->in_doubt ? "yes" : "no", &good);
  expect_word(d, "tls", smn_result_tls(r)->protocol, &good);
  expect_word(d, "reasons",
              smn_result_tls(r)->certificate.reasons[0] ? "yes" : "no", &good);
  expect_word(d, "capabilities", r->capabilities ? r->capabilities : "none",
              &good);
  if (!strstr(d->expect, "doubt=") && r->in_doubt)
    printf("%s: in doubt\n", d->name), good = false;
  return good;
}

/* The password, its base64, and what AUTH sent, as the server saw it.  */
static bool keeps_secrets(const struct dialogue *d, const char *said) {
  const struct smn_buf *password = &d->job->server.password;
  if (strstr(d->client, "weak="))
    return true; /* a word of the server's own */
  gnutls_datum_t raw = {(void *)password->data, (unsigned)password->len};
  gnutls_datum_t encoded = {NULL, 0};
  if (raw.size == 0)
    return true;
  gnutls_base64_encode2(&raw, &encoded);
  bool good = !strstr(said, password->data) &&
              !strstr(said, (const char *)encoded.data) &&
              !strstr(said, "AHRpbQB0YW5zdGFhZnRhbnN0YWFm") &&
              !strstr(said, "b913a602c7eda7a495b4e6e7334d3890") &&
              !strstr(said, "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
  gnutls_free(encoded.data);
  if (!good)
    printf("%s: a secret got out\n", d->name);
  return good;
}

/* All that the result tells, where secrets are looked for.  */
static void print_result(const struct dialogue *d) {
  const struct smn_result *r = &d->result;
  const struct smn_certificate *shown = &smn_result_tls(r)->certificate;
  const char *const texts[] = {r->error.text,   r->reply,       r->greeting,
                               r->capabilities, r->notes,       r->offered,
                               shown->reasons,  shown->subject, shown->issuer};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    fprintf(d->trace, "%s\n", texts[i] ? texts[i] : "");
  for (int i = 0; i < shown->chain_len; i++)
    fprintf(d->trace, "%s\n%s\n", shown->chain[i].subject,
            shown->chain[i].issuer);
  for (size_t i = 0; i < r->recipient_count; i++)
    fprintf(d->trace, "%s\n",
            r->recipients[i].text ? r->recipients[i].text : "");
}

static void run(struct dialogue *d) {
  smn_worked_forget(); /* a port may come back */
  char *log = NULL, *trace = NULL;
  size_t log_size = 0, trace_size = 0;
  pthread_t thread;
  int cancel[2] = {-1, -1};
  CHECK_INT(pipe(cancel), 0);
  const struct smn_observer observer = {
      .context = d, .trace = on_trace, .cancel_fd = cancel[0]};
  lines_of(d->script, "client", d->client, sizeof d->client);
  lines_of(d->script, "expect", d->expect, sizeof d->expect);
  d->peer = calloc(1, sizeof *d->peer);
  d->peer->certs = folder;
  d->peer->timeout_ms = 90000;
  d->peer->own_clients = true;
  d->peer->cancel_fd = cancel[1];
  d->peer->log = open_memstream(&log, &log_size);
  d->trace = open_memstream(&trace, &trace_size);
  d->listening = peer_listen("127.0.0.1", &d->port);
  make_job(d);
  bool silent = strstr(d->client, "nofile") != NULL ||
                strstr(d->client, "noserver") != NULL;
  if (!silent)
    CHECK_INT(pthread_create(&thread, NULL, serve, d), 0);
  CHECK(smn_result_init(&d->result, d->job));
  char runs[8] = "1"; /* of the job, one after the other */
  word(d->client, "runs", runs, sizeof runs);
  for (int i = atoi(runs); i > 0; i--) {
    smn_result_clear(&d->result);
    (void)smn_session_run(d->job, &observer, &d->result);
  }
  if (!silent)
    pthread_join(thread, NULL);
  close(d->listening);
  close(cancel[0]);
  close(cancel[1]);
  print_result(d);
  fclose(d->peer->log);
  fclose(d->trace);
  bool good = as_expected(d);
  good = keeps_secrets(d, trace) && good;
  if (!silent && !d->behaved) {
    printf("%s: the client misbehaved, %s\n", d->name, d->peer->why);
    good = false;
  }
  if (!CHECK(good))
    printf("--- server of %s\n%s--- client\n%s\n", d->name, log, trace);
  smn_result_free(&d->result);
  smn_job_free(d->job);
  unlink(d->file);
  free(d->peer);
  free(log);
  free(trace);
}

static void run_file(const char *path, const char *name) {
  struct dialogue d = {.name = name, .script = peer_read_file(path)};
  if (CHECK(d.script != NULL))
    run(&d);
  free(d.script);
}

static bool is_folder(const char *path) {
  struct stat stat_of;
  return stat(path, &stat_of) == 0 && S_ISDIR(stat_of.st_mode);
}

static bool is_script(const char *path) {
  const char *dot = strrchr(path, '.');
  return dot && strcmp(dot, ".smtp") == 0;
}

static int is_seen(const struct dirent *entry) {
  return entry->d_name[0] != '.';
}

/* All scripts below PATH, named as from PATH + ROOT on.  */
static void run_folder(const char *path, size_t root) {
  struct dirent **entries = NULL;
  int count = scandir(path, &entries, is_seen, alphasort);
  CHECK(count > 0);
  for (int i = 0; i < count; i++) {
    char file[1024];
    snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
    if (is_folder(file))
      run_folder(file, root);
    else if (is_script(file))
      run_file(file, file + root);
    free(entries[i]);
  }
  free(entries);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "test/peer";
  if (!mkdtemp(folder) || !certs_make(folder))
    return 70;
  if (is_folder(path))
    run_folder(path, strlen(path) + 1);
  else
    run_file(path, strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
  certs_remove(folder);
  return check_done("test-dialogues");
}
