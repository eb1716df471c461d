/* SPDX-License-Identifier: GPL-3.0-or-later */
/* receipt.c - what came of an attempt, on disk beside its message.
   Order is all: content, fsync, rename, fsync of the directory.  The names of
   the plist are those of the event that tells Lisp the same.  */
#include "mail/receipt.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* A file system that cannot sync a directory has no need of it.  */
static bool sync_directory(int fd) {
  return fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP;
}

static bool sync_file(int directory, const char *file) {
  struct stat stat;
  if (strcmp(file, "lock") == 0)
    return true; /* it means nothing once the power is gone */
  if (fstatat(directory, file, &stat, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT; /* a temporary one of Lisp, gone by now */
  if (!S_ISREG(stat.st_mode))
    return true;
  int fd = openat(directory, file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0)
    return errno == ENOENT;
  bool good = fsync(fd) == 0;
  int errnum = errno;
  close(fd);
  errno = errnum;
  return good;
}

static enum smn_kind sync_files(const char *entry, struct smn_error *err) {
  DIR *stream = opendir(entry);
  enum smn_kind kind = SMN_OK;
  if (!stream)
    return failed(err, "read", entry, "");
  for (struct dirent *e = readdir(stream); e && kind == SMN_OK;
       e = readdir(stream))
    if (!sync_file(dirfd(stream), e->d_name))
      kind = failed(err, "make durable", entry, e->d_name);
  if (kind == SMN_OK && !sync_directory(dirfd(stream)))
    kind = failed(err, "make durable", entry, "");
  closedir(stream);
  return kind;
}

enum smn_kind smn_receipt_sync(const char *entry, struct smn_error *err) {
  enum smn_kind kind = sync_files(entry, err);
  if (kind != SMN_OK)
    return kind;
  int directory = open(entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int parent = directory < 0 ? -1
                             : openat(directory, "..",
                                      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0 || !sync_directory(parent))
    kind = failed(err, "make durable", entry, "..");
  if (parent >= 0)
    close(parent);
  if (directory >= 0)
    close(directory);
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

static bool write_all(int fd, const char *bytes, size_t len) {
  while (len > 0) {
    ssize_t n = write(fd, bytes, len);
    if (n < 0 && errno != EINTR)
      return false;
    if (n > 0) {
      bytes += n;
      len -= (size_t)n;
    }
  }
  return true;
}

static bool replace(int directory, const struct smn_buf *content) {
  int fd = openat(directory, name_new,
                  O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0)
    return false;
  bool good = write_all(fd, content->data, content->len) && fsync(fd) == 0;
  int errnum = errno;
  if (close(fd) != 0 && good) {
    errnum = errno;
    good = false;
  }
  good = good && renameat(directory, name_new, directory, name) == 0;
  if (good)
    return sync_directory(directory);
  if (errnum != 0)
    errno = errnum;
  return false;
}

enum smn_kind smn_receipt_write(const struct smn_job *job,
                                const struct smn_result *result,
                                struct smn_error *err) {
  struct smn_buf content;
  enum smn_kind kind = SMN_OK;
  smn_buf_init(&content, RECEIPT_MAX);
  int directory = open(job->entry, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (!print(&content, job, result))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  else if (directory < 0 || !replace(directory, &content))
    kind = failed(err, "write", job->entry, name);
  if (directory >= 0)
    close(directory);
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
