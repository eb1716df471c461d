/* SPDX-License-Identifier: GPL-3.0-or-later */
/* drive.c - the jobs of a plan, as the core wants them.  */
#include "drive.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_file(const char *name, const char *octets, size_t len) {
  int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || write(fd, octets, len) != (ssize_t)len)
    abort();
  close(fd);
}

static void make_file(const struct drive *drive, unsigned j, const char *name) {
  size_t len;
  switch (drive->plan->job[j].fault) {
  case FILE_MISSING:
    return;
  case FILE_FOLDER:
    mkdir(name, 0700);
    return;
  case FILE_FIFO:
    mkfifo(name, 0600);
    return;
  default: {
    char *octets = plan_content(drive->plan, j, 0, &len);
    write_file(name, octets, len);
    free(octets);
  }
  }
}

static char *print(const char *format, const char *text, unsigned number) {
  char out[900];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
  snprintf(out, sizeof out, format, text, number);
#pragma GCC diagnostic pop
  return strdup(out);
}

static void fill_server(const struct drive *drive, const struct plan_job *from,
                        struct smn_server *server) {
  const struct plan *plan = drive->plan;
  server->host = print(plan->lmtp ? "lmtp:%s" : "%s", drive->socket, 0);
  server->port = drive->port;
  server->helo = strdup("client.example");
  server->stream = plan->plain_stream          ? SMN_STREAM_PLAIN
                   : plan->tls == TLS_NONE     ? SMN_STREAM_AUTO
                   : plan->tls == TLS_IMPLICIT ? SMN_STREAM_TLS
                   : plan->seed & 1            ? SMN_STREAM_AUTO
                                               : SMN_STREAM_STARTTLS;
  server->cleartext = SMN_CLEARTEXT_LOOPBACK;
  server->timeout_ms = DRIVE_TIMEOUT_MS;
  server->idle_ms = (int)plan->idle_ms;
  server->max_sessions = (int)plan->sessions;
  server->trace = plan->seed & 2;
  server->trustfiles = calloc(2, sizeof *server->trustfiles);
  server->trustfiles[0] = print("%s/ca.pem", drive->folder, 0);
  if (!from->authenticate)
    return;
  server->authenticate = true;
  server->user = strdup("user");
  server->mechanisms = strdup("PLAIN LOGIN");
  if (!smn_buf_init_secret(&server->password, 64) ||
      !smn_buf_add_string(&server->password, "S3cret-pw"))
    abort();
}

struct smn_job *drive_job(const struct drive *drive, unsigned j) {
  const struct plan_job *from = &drive->plan->job[j];
  struct smn_job *job = smn_job_new();
  char address[600];
  char *entry = print("%s/j%u", drive->folder, j);
  mkdir(entry, 0700);
  job->id = (long)j;
  job->binary = from->binary;
  job->chunking = from->chunking;
  job->partial = from->partial;
  job->attempt = 1;
  job->file = print("%s/message", entry, 0);
  make_file(drive, j, job->file);
  snprintf(address, sizeof address, "sender.j%u@fuzz.example", j);
  job->sender = strdup(address);
  job->recipients = calloc(from->recipients + 1, sizeof *job->recipients);
  for (unsigned r = 0; r < from->recipients; r++) {
    plan_recipient(drive->plan, j, r, address);
    job->recipients[r] = strdup(address);
  }
  if (from->dsn)
    job->wishes.notify = strdup("FAILURE,DELAY");
  if (from->entry)
    job->entry = entry;
  else
    free(entry);
  fill_server(drive, from, &job->server);
  return job;
}

static void remove_tree(const char *name) {
  char command[900];
  static const char *const files[] = {"message", "receipt", "receipt.new",
                                      "receipt.tmp"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    snprintf(command, sizeof command, "%s/%s", name, files[i]);
    if (unlink(command) != 0 && errno == EISDIR)
      rmdir(command);
  }
  if (rmdir(name) == 0 || errno == ENOENT)
    return;
  snprintf(command, sizeof command, "rm -rf %s", name);
  if (system(command) != 0)
    abort();
}

void drive_clean(const struct drive *drive) {
  char name[700];
  for (unsigned j = 0; j < drive->plan->jobs; j++) {
    snprintf(name, sizeof name, "%s/j%u", drive->folder, j);
    remove_tree(name);
    if (drive->plan->job[j].fault != FILE_ENTRY_GOES)
      continue;
    snprintf(name, sizeof name, "%s/j%u.gone", drive->folder, j);
    remove_tree(name);
  }
}

int64_t drive_limit_ms(const struct plan *plan) {
  int64_t replies = 0;
  for (unsigned j = 0; j < plan->jobs; j++)
    replies +=
        30 + 4 * (int64_t)plan->job[j].recipients * (plan->lmtp ? 10 : 1);
  return replies * 2 * DRIVE_TIMEOUT_MS + 5000 * 100;
}
