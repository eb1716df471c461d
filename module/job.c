/* SPDX-License-Identifier: GPL-3.0-or-later */
/* job.c - the nouns: server, job, result.  */
#include "job.h"
#include "sasl.h"

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

void smn_job_forget(struct smn_job *job) {
  smn_buf_free(&job->server.password);
  smn_buf_free(&job->server.passphrase);
}

void smn_job_free(struct smn_job *job) {
  if (!job)
    return;
  struct smn_server *server = &job->server;
  smn_job_forget(job);
  free(server->host);
  free(server->helo);
  free(server->user);
  free(server->authzid);
  free(server->mechanisms);
  free_list(server->trustfiles);
  free_list(server->crlfiles);
  free(server->priority);
  free(server->key_file);
  free(server->cert_file);
  free_list(server->pins);
  free(job->sender);
  free_list(job->recipients);
  free(job->file);
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
  return server->mechanisms ? smn_sasl_list_secretless(server->mechanisms)
                            : server->cert_file || server->key_file;
}

/* A token may do without a user.  */
static enum smn_kind check_credentials(const struct smn_server *server,
                                       struct smn_error *err) {
  if (server->password.data ? server->user || server->token
                            : smn_server_secretless(server))
    return SMN_OK;
  return smn_fail(err, SMN_USAGE, "user or password is missing");
}

static enum smn_kind check_server(const struct smn_server *server,
                                  struct smn_error *err) {
  enum smn_kind kind = check_word(err, "server", server->host);
  if (kind == SMN_OK)
    kind = check_word(err, "EHLO name", server->helo);
  if (kind == SMN_OK && (server->port < 1 || server->port > 65535))
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
  kind = check_address(err, "sender", job->sender);
  for (char **at = job->recipients; kind == SMN_OK && *at; at++)
    kind = **at ? check_address(err, "recipient", *at)
                : smn_fail(err, SMN_USAGE, "a recipient is empty");
  return kind;
}

bool smn_result_init(struct smn_result *result, const struct smn_job *job) {
  memset(result, 0, sizeof *result);
  size_t count = 0;
  while (job->recipients && job->recipients[count])
    count++;
  if (count == 0)
    return true;
  result->recipients = calloc(count, sizeof *result->recipients);
  if (!result->recipients)
    return false;
  for (size_t i = 0; i < count; i++)
    result->recipients[i].address = job->recipients[i];
  result->recipient_count = count;
  return true;
}

void smn_result_free(struct smn_result *result) {
  for (size_t i = 0; i < result->recipient_count; i++)
    free(result->recipients[i].text);
  free(result->recipients);
  free(result->reply);
  free(result->greeting);
  free(result->capabilities);
  memset(result, 0, sizeof *result);
}
