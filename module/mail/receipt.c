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

#define RECEIPT_MAX                                                            \
  (16 << 20) /* thousands of recipients, each with a reply                     \
              */

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

static bool add_key_string(struct smn_buf *out, const char *key,
                           const char *text) {
  return smn_buf_add_string(out, key) && add_string(out, text) &&
         smn_buf_add(out, "\n", 1);
}

/* KEY VALUE, for what is no string: our own words and numbers.  */
static bool add_key(struct smn_buf *out, const char *key, const char *value) {
  return smn_buf_add_string(out, key) && smn_buf_add_string(out, value) &&
         smn_buf_add(out, "\n", 1);
}

static bool add_key_number(struct smn_buf *out, const char *key,
                           uint64_t number) {
  char digits[32];
  snprintf(digits, sizeof digits, "%" PRIu64, number);
  return add_key(out, key, digits);
}

static bool add_recipient(struct smn_buf *out,
                          const struct smn_recipient_result *r) {
  char middle[32];
  snprintf(middle, sizeof middle, " %s %d ",
           r->delivered  ? "delivered"
           : r->accepted ? "t"
                         : "nil",
           r->code);
  return smn_buf_add_string(out, "\n  (") && add_string(out, r->address) &&
         smn_buf_add_string(out, middle) && add_string(out, r->enhanced) &&
         smn_buf_add(out, " ", 1) && add_string(out, r->text) &&
         smn_buf_add(out, ")", 1);
}

static bool print(struct smn_buf *out, const struct smn_job *job,
                  const struct smn_result *result) {
  const struct smn_error *err = &result->error;
  bool good = smn_buf_add_string(out, "(") &&
              add_key_number(out, ":attempt ", (uint64_t)job->attempt) &&
              add_key(out, " :partial ", job->partial ? "t" : "nil") &&
              add_key_number(out, " :time ", (uint64_t)time(NULL)) &&
              add_key(out, " :kind ", smn_kind_name(err->kind)) &&
              add_key(out, " :stage ", smn_stage_name(err->stage)) &&
              add_key_number(out, " :code ", (uint64_t)err->code) &&
              add_key_string(out, " :enhanced ", err->enhanced) &&
              add_key_string(out, " :text ", err->text) &&
              add_key(out, " :in-doubt ", result->in_doubt ? "t" : "nil") &&
              add_key_number(out, " :octets ", result->octets) &&
              add_key_string(out, " :reply ", result->reply) &&
              add_key_string(out, " :mechanism ", result->mechanism) &&
              add_key_string(out, " :offered ", result->offered) &&
              add_key(out, " :password-untested ",
                      result->password_untested ? "t" : "nil") &&
              add_key(out, " :more ", result->more ? "t" : "nil") &&
              add_key(out, " :release-unsupported ",
                      result->release_unsupported ? "t" : "nil") &&
              add_key(out, " :eight-bit-unsupported ",
                      result->eight_bit_unsupported ? "t" : "nil") &&
              smn_buf_add_string(out, " :recipients (");
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
  smn_buf_init(&content, RECEIPT_MAX);
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
