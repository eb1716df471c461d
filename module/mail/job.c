/* SPDX-License-Identifier: GPL-3.0-or-later */
/* job.c - the nouns: server and job.  */
#include "mail/job.h"
#include "base/ascii.h"
#include "base/redact.h"
#include "net/conn.h"
#include "net/connect.h"
#include "net/proxy.h"
#include "sasl/mechanisms.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_MAX 1000 /* far above RFC 5321 4.5.3.1, far below a line */

struct smn_job *smn_job_new(void) {
  return calloc(1, sizeof(struct smn_job));
}

static void free_list(char **list) {
  for (char **at = list; at && *at; at++)
    free(*at);
  free(list);
}

/* The texts and lists of a server, so that each is copied, compared and freed
   in one place.  */
static const size_t texts[] = {
    offsetof(struct smn_server, host),
    offsetof(struct smn_server, source),
    offsetof(struct smn_server, helo),
    offsetof(struct smn_server, avoid),
    offsetof(struct smn_server, user),
    offsetof(struct smn_server, authzid),
    offsetof(struct smn_server, mechanisms),
    offsetof(struct smn_server, priority),
    offsetof(struct smn_server, key_file),
    offsetof(struct smn_server, cert_file),
};
static const size_t lists[] = {
    offsetof(struct smn_server, trustfiles),
    offsetof(struct smn_server, crlfiles),
    offsetof(struct smn_server, pins),
};
static const size_t secrets[] = {
    offsetof(struct smn_server, password),
    offsetof(struct smn_server, proxy),
    offsetof(struct smn_server, passphrase),
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static char **text_of(const struct smn_server *server, size_t i) {
  return (char **)((char *)(size_t)server + texts[i]);
}

static char ***list_of(const struct smn_server *server, size_t i) {
  return (char ***)((char *)(size_t)server + lists[i]);
}

static struct smn_buf *secret_of(const struct smn_server *server, size_t i) {
  return (struct smn_buf *)((char *)(size_t)server + secrets[i]);
}

static void clear_server(struct smn_server *server) {
  for (size_t i = 0; i < COUNT(texts); i++)
    free(*text_of(server, i));
  for (size_t i = 0; i < COUNT(lists); i++)
    free_list(*list_of(server, i));
  for (size_t i = 0; i < COUNT(secrets); i++)
    smn_buf_free(secret_of(server, i));
}

void smn_server_free(struct smn_server *server) {
  if (server)
    clear_server(server);
  free(server);
}

static bool copy_text(char **text) { return !*text || (*text = strdup(*text)); }

static bool copy_list(char ***list) {
  size_t count = 0;
  char **from = *list;
  if (!from)
    return true;
  while (from[count])
    count++;
  *list = calloc(count + 1, sizeof **list);
  for (size_t i = 0; *list && i < count; i++)
    if (!((*list)[i] = strdup(from[i])))
      return false;
  return *list != NULL;
}

static bool copy_secret(struct smn_buf *secret) {
  const struct smn_buf from = *secret;
  *secret = (struct smn_buf){.data = NULL};
  return !from.data || (smn_buf_init_secret(secret, from.max) &&
                        smn_buf_add(secret, from.data, from.len));
}

struct smn_server *smn_server_copy(const struct smn_server *server) {
  struct smn_server *copy = malloc(sizeof *copy);
  bool good = true;
  if (!copy)
    return NULL;
  *copy = *server;
  /* Each is copied or nulled, so that half a copy can be freed.  */
  for (size_t i = 0; i < COUNT(texts); i++)
    good = copy_text(text_of(copy, i)) && good;
  for (size_t i = 0; i < COUNT(lists); i++)
    good = copy_list(list_of(copy, i)) && good;
  for (size_t i = 0; i < COUNT(secrets); i++)
    good = copy_secret(secret_of(copy, i)) && good;
  if (good)
    return copy;
  smn_server_free(copy);
  return NULL;
}

/* The password of a proxy stands in its URL, escaped.  */
static void hide_proxy(const struct smn_buf *url, struct smn_buf *needles) {
  struct smn_proxy proxy;
  struct smn_buf plain;
  if (url->len == 0 || !smn_proxy_parse(&proxy, url->data) || !proxy.password)
    return;
  smn_redact_add(needles, proxy.password, proxy.password_len);
  if (!smn_buf_init_secret(&plain, proxy.password_len + 1))
    return;
  const char *end = proxy.password + proxy.password_len;
  for (const char *at = proxy.password; at < end; at++) {
    bool escape = *at == '%' && end - at > 2;
    char octet =
        escape ? (char)(smn_ascii_hex(at[1]) * 16 + smn_ascii_hex(at[2])) : *at;
    (void)!smn_buf_add(&plain, &octet, 1); /* it fits */
    at += escape ? 2 : 0;
  }
  smn_redact_add(needles, plain.data, plain.len);
  smn_buf_free(&plain);
}

void smn_server_hide(const struct smn_server *server, struct smn_buf *needles) {
  smn_redact_add(needles, server->password.data, server->password.len);
  smn_redact_add(needles, server->passphrase.data, server->passphrase.len);
  hide_proxy(&server->proxy, needles);
}

static const char lmtp[] = "lmtp:";

bool smn_server_lmtp(const struct smn_server *server) {
  return strncmp(server->host, lmtp, sizeof lmtp - 1) == 0;
}

const char *smn_server_name(const struct smn_server *server) {
  return server->host + (smn_server_lmtp(server) ? sizeof lmtp - 1 : 0);
}

static bool same_text(const char *a, const char *b) {
  return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_list(char *const *a, char *const *b) {
  if (!a || !b)
    return (!a || !*a) && (!b || !*b);
  while (*a && *b && strcmp(*a, *b) == 0) {
    a++;
    b++;
  }
  return !*a && !*b;
}

bool smn_server_same(const struct smn_server *a, const struct smn_server *b) {
  bool same = a->port == b->port && a->stream == b->stream &&
              a->cleartext == b->cleartext &&
              a->authenticate == b->authenticate && a->token == b->token &&
              a->if_offered == b->if_offered &&
              a->min_prime_bits == b->min_prime_bits;
  for (size_t i = 0; same && i < COUNT(texts); i++)
    same = same_text(*text_of(a, i), *text_of(b, i));
  for (size_t i = 0; same && i < COUNT(lists); i++)
    same = same_list(*list_of(a, i), *list_of(b, i));
  for (size_t i = 0; same && i < COUNT(secrets); i++) {
    const struct smn_buf *x = secret_of(a, i), *y = secret_of(b, i);
    same = x->len == y->len &&
           (x->len == 0 || memcmp(x->data, y->data, x->len) == 0);
  }
  return same;
}

void smn_job_borrow(struct smn_job *job, const struct smn_server *server) {
  struct smn_server *own = &job->server;
  clear_server(own);
  for (size_t i = 0; i < COUNT(texts); i++)
    *text_of(own, i) = *text_of(server, i);
  for (size_t i = 0; i < COUNT(lists); i++)
    *list_of(own, i) = *list_of(server, i);
  for (size_t i = 0; i < COUNT(secrets); i++)
    *secret_of(own, i) = *secret_of(server, i);
}

void smn_job_return(struct smn_job *job) {
  memset(&job->server, 0, sizeof job->server);
}

struct smn_job *smn_job_addressees(const struct smn_job *job) {
  struct smn_job *copy = smn_job_new();
  if (!copy)
    return NULL;
  copy->id = job->id;
  copy->recipients = job->recipients;
  if (copy_list(&copy->recipients))
    return copy;
  smn_job_free(copy);
  return NULL;
}

void smn_job_free(struct smn_job *job) {
  if (!job)
    return;
  clear_server(&job->server);
  free(job->sender);
  free_list(job->recipients);
  free(job->file);
  free(job->entry);
  free(job->wishes.notify);
  free(job->wishes.ret);
  free(job->wishes.envid);
  free(job->wishes.deliver_by);
  free(job);
}

/* Checks: the command line belongs to us, never to a value */

static enum smn_kind refuse(struct smn_error *err, const char *field,
                            const char *value, const char *why) {
  char quoted[512];
  smn_quote(quoted, sizeof quoted, value ? value : "",
            value ? strlen(value) : 0);
  return smn_fail(err, SMN_USAGE, "%s \"%s\" %s", field, quoted, why);
}

static bool control(unsigned char c) { return c < 0x20 || c == 0x7f; }

/* A value without blanks and controls that is not empty.  */
static enum smn_kind check_word(struct smn_error *err, const char *field,
                                const char *value) {
  if (!value || !*value)
    return smn_fail(err, SMN_USAGE, "the %s is missing", field);
  for (const char *at = value; *at; at++)
    if (control((unsigned char)*at) || *at == ' ')
      return refuse(err, field, value, "holds a space or control character");
  return strlen(value) > ADDRESS_MAX ? refuse(err, field, value, "is too long")
                                     : SMN_OK;
}

/* A Mailbox as far as it could break out of <>: quotes are balanced, and
   outside of them there is no blank or angle bracket.  */
static enum smn_kind check_address(struct smn_error *err, const char *field,
                                   const char *address) {
  bool quoted = false;
  if (strlen(address) > ADDRESS_MAX)
    return refuse(err, field, address, "is too long");
  for (const char *at = address; *at; at++) {
    if (control((unsigned char)*at))
      return refuse(err, field, address, "holds a control character");
    if (quoted && *at == '\\' && at[1] && !control((unsigned char)at[1]))
      at++;
    else if (*at == '"')
      quoted = !quoted;
    else if (!quoted && (*at == '<' || *at == '>' || *at == ' '))
      return refuse(err, field, address,
                    "holds a space or angle bracket outside of quotes");
  }
  return quoted ? refuse(err, field, address, "has an unbalanced quote")
                : SMN_OK;
}

bool smn_server_secretless(const struct smn_server *server) {
  return server->mechanisms ? smn_mechanisms_secretless(server->mechanisms)
                            : server->cert_file || server->key_file;
}

/* A token may do without a user.  */
static enum smn_kind check_credentials(const struct smn_server *server,
                                       struct smn_error *err) {
  if (server->password.data ? server->user || server->token
                            : smn_server_secretless(server))
    return smn_credentials_check(server->user, server->authzid,
                                 &server->password, err);
  return smn_fail(err, SMN_USAGE, "user or password is missing");
}

static enum smn_kind check_server(const struct smn_server *server,
                                  struct smn_error *err) {
  enum smn_kind kind = check_word(err, "server", server->host);
  if (kind == SMN_OK)
    kind = check_word(err, "server", smn_server_name(server));
  if (kind == SMN_OK && server->helo)
    kind = check_word(err, "EHLO name", server->helo);
  if (kind == SMN_OK && server->source &&
      !smn_connect_source_valid(server->source))
    kind = refuse(err, "source address", server->source,
                  "is not an address in digits");
  struct smn_proxy proxy;
  if (kind == SMN_OK && server->proxy.len > 0 &&
      (strlen(server->proxy.data) != server->proxy.len ||
       !smn_proxy_parse(&proxy, server->proxy.data)))
    kind = smn_fail(err, SMN_USAGE, "the proxy is not %s", SMN_PROXY_USAGE);
  if (kind == SMN_OK && !smn_conn_local(smn_server_name(server)) &&
      (server->port < 1 || server->port > 65535))
    kind = smn_fail(err, SMN_USAGE, "port %d is not between 1 and 65535",
                    server->port);
  if (kind == SMN_OK && server->timeout_ms < 1)
    kind = smn_fail(err, SMN_USAGE, "the timeout is not positive");
  for (char **pin = server->pins; kind == SMN_OK && pin && *pin; pin++)
    if (!smn_tls_pin_valid(*pin))
      kind = refuse(err, "pin", *pin, "is not a SHA-256 in 64 hex digits");
  return kind == SMN_OK && server->authenticate ? check_credentials(server, err)
                                                : kind;
}

/* "NEVER", or each of the others at most once.  */
static bool notify_valid(const char *notify) {
  static const char *const words[] = {"SUCCESS", "FAILURE", "DELAY"};
  bool seen[COUNT(words)] = {false};
  if (strcmp(notify, "NEVER") == 0)
    return true;
  for (;;) {
    size_t len = strcspn(notify, ","), i = 0;
    while (i < COUNT(words) &&
           (strlen(words[i]) != len || strncmp(words[i], notify, len) != 0))
      i++;
    if (i == COUNT(words) || seen[i])
      return false;
    seen[i] = true;
    if (!notify[len])
      return true;
    notify += len + 1;
  }
}

/* RFC 2852 4: by-time, nine digits at most, and mode.  */
static bool deliver_by_valid(const char *by) {
  bool late = *by == '-';
  size_t digits = strspn(by + late, "0123456789");
  const char *mode = by + late + digits;
  if (digits == 0 || digits > 9 || mode[0] != ';' ||
      (mode[1] != 'N' && mode[1] != 'R'))
    return false;
  if (mode[1] == 'R' && (late || strspn(by, "0") == digits))
    return false; /* it would come back at once */
  return mode[2] == '\0' || (mode[2] == 'T' && mode[3] == '\0');
}

/* RFC 3461 4.4: at most 100 octets as xtext.  */
static bool envid_valid(const char *envid) {
  size_t octets = 0;
  for (; *envid; envid++) {
    if (*envid < ' ' || *envid > '~')
      return false;
    octets += *envid == ' ' || *envid == '+' || *envid == '=' ? 3 : 1;
  }
  return octets > 0 && octets <= 100;
}

static enum smn_kind check_wishes(const struct smn_wishes *wishes,
                                  struct smn_error *err) {
  if (wishes->notify && !notify_valid(wishes->notify))
    return refuse(err, "NOTIFY", wishes->notify,
                  "is neither NEVER nor a list of SUCCESS, FAILURE and DELAY");
  if (wishes->ret && strcmp(wishes->ret, "FULL") != 0 &&
      strcmp(wishes->ret, "HDRS") != 0)
    return refuse(err, "RET", wishes->ret, "is neither FULL nor HDRS");
  if (wishes->envid && !envid_valid(wishes->envid))
    return refuse(err, "ENVID", wishes->envid,
                  "is not 1 to 100 octets of printable ASCII");
  if (wishes->deliver_by && !deliver_by_valid(wishes->deliver_by))
    return refuse(err, "BY", wishes->deliver_by,
                  "is not a number of seconds with ;R or ;N behind it");
  return SMN_OK;
}

enum smn_kind smn_job_check(const struct smn_job *job, struct smn_error *err) {
  enum smn_kind kind = check_server(&job->server, err);
  if (kind != SMN_OK || job->probe)
    return kind;
  if (!job->sender)
    return smn_fail(err, SMN_USAGE, "the sender is missing");
  if (!job->file)
    return smn_fail(err, SMN_USAGE, "the file of the message is missing");
  if (!job->recipients || !job->recipients[0])
    return smn_fail(err, SMN_USAGE, "there is no recipient");
  kind = check_wishes(&job->wishes, err);
  if (kind == SMN_OK)
    kind = check_address(err, "sender", job->sender);
  for (char **at = job->recipients; kind == SMN_OK && *at; at++)
    kind = **at ? check_address(err, "recipient", *at)
                : smn_fail(err, SMN_USAGE, "a recipient is empty");
  return kind;
}
