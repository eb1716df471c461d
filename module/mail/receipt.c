/* SPDX-License-Identifier: GPL-3.0-or-later */
/* receipt.c - what came of an attempt, on disk beside its message.
   Order is all: content, fsync, rename, fsync of the directory.  The names of
   the plist are those of the event that tells Lisp the same.  */
#include "mail/receipt.h"
#include "base/file.h"
#include "mail/step.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Octets of a receipt beside its recipients, and for each of these, whose
   address and reply may be escaped.  */
#define HEAD_MAX 65536
#define RECIPIENT_MAX 4096

static const char name[] = "receipt", name_new[] = "receipt.new";

/* Durability */

static enum smn_kind failed(struct smn_error *err, const char *what,
                            const char *directory, const char *file) {
  return smn_fail_errno(err, SMN_FILE, errno, "cannot %s %s/%s", what,
                        directory, file);
}

static enum smn_kind sync_files(int directory, const char *entry,
                                struct smn_error *err) {
  char name_of[256];
  return smn_step_sync_all(directory, name_of, sizeof name_of)
             ? SMN_OK
             : failed(err, "make durable", entry, name_of);
}

static enum smn_kind sync_parent(int directory, const char *entry,
                                 struct smn_error *err) {
  int parent = smn_file_open_directory(directory, "..", false);
  return parent >= 0 && smn_file_close(parent, smn_file_sync_directory(parent))
             ? SMN_OK
             : failed(err, "make durable", entry, "..");
}

enum smn_kind smn_receipt_sync(const char *entry, struct smn_error *err) {
  int directory = smn_file_open_directory(AT_FDCWD, entry, true);
  if (directory < 0)
    return failed(err, "read", entry, "");
  enum smn_kind kind = sync_files(directory, entry, err);
  if (kind == SMN_OK)
    kind = sync_parent(directory, entry, err);
  (void)smn_file_close(directory, true);
  return kind;
}

/* The plist */

/* A Lisp string, nil for NULL.  What it holds is escaped for people already, so
   that only two characters can mean something to the reader.  */
static bool add_string(struct smn_buf *out, const char *text) {
  if (!text)
    return smn_buf_add_string(out, "nil");
  bool good = smn_buf_add(out, "\"", 1);
  while (good && *text) {
    size_t plain = strcspn(text, "\"\\");
    good = smn_buf_add(out, text, plain);
    text += plain;
    if (good && *text)
      good = smn_buf_add(out, "\\", 1) && smn_buf_add(out, text++, 1);
  }
  return good && smn_buf_add(out, "\"", 1);
}

static bool add_value(struct smn_buf *out, const struct smn_value *value) {
  char digits[32];
  if (value->type == SMN_VALUE_TEXT)
    return add_string(out, value->text);
  if (value->type == SMN_VALUE_SYMBOL)
    return smn_buf_add_string(out, value->text);
  snprintf(digits, sizeof digits, "%" PRId64, value->number);
  return smn_buf_add_string(out, digits);
}

static bool add_recipient(struct smn_buf *out,
                          const struct smn_recipient_result *r) {
  struct smn_value value;
  bool good = smn_buf_add_string(out, "\n  (");
  for (size_t i = 0; good && smn_recipient_value(r, i, &value); i++)
    good = (i == 0 || smn_buf_add(out, " ", 1)) && add_value(out, &value);
  return good && smn_buf_add(out, ")", 1);
}

static bool print(struct smn_buf *out, const struct smn_job *job,
                  const struct smn_result *result) {
  char first[128];
  struct smn_value value;
  const char *key;
  snprintf(first, sizeof first, "(:attempt %d\n :partial %s\n :time %" PRId64,
           job->attempt, job->partial ? "t" : "nil", (int64_t)time(NULL));
  bool good = smn_buf_add_string(out, first);
  for (size_t i = 0; good && (key = smn_result_value(result, i, &value)); i++)
    if (!value.fleeting)
      good = smn_buf_add_string(out, "\n ") && smn_buf_add_string(out, key) &&
             smn_buf_add(out, " ", 1) && add_value(out, &value);
  good = good && smn_buf_add_string(out, "\n :recipients (");
  for (size_t i = 0; good && i < result->recipient_count; i++)
    good = add_recipient(out, &result->recipients[i]);
  return good && smn_buf_add_string(out, "))\n");
}

/* Replacing */

static bool replace(int directory, const struct smn_buf *content) {
  return smn_file_replace(directory, name, name_new, content->data,
                          content->len) &&
         smn_file_sync_directory(directory);
}

enum smn_kind smn_receipt_write(const struct smn_job *job,
                                const struct smn_result *result,
                                struct smn_error *err) {
  struct smn_buf content;
  enum smn_kind kind = SMN_OK;
  smn_buf_init(&content, HEAD_MAX + RECIPIENT_MAX * result->recipient_count);
  int directory = smn_file_open_directory(AT_FDCWD, job->entry, true);
  int errnum = errno;
  if (!print(&content, job, result))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  else if (directory < 0 || !replace(directory, &content)) {
    errno = directory < 0 ? errnum : errno;
    kind = failed(err, "write", job->entry, name);
  }
  if (directory >= 0)
    (void)smn_file_close(directory, true);
  smn_buf_free(&content);
  return kind;
}

enum smn_kind smn_receipt_doubt(const struct smn_job *job,
                                const struct smn_result *result,
                                struct smn_error *err) {
  struct smn_result doubt = *result;
  smn_fail(&doubt.error, SMN_NETWORK,
           "Emacs ended before the server had answered");
  doubt.in_doubt = true;
  doubt.more = false;
  return smn_receipt_write(job, &doubt, err);
}
