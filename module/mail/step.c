/* SPDX-License-Identifier: GPL-3.0-or-later */
/* step.c - one operation on the files of the outbox.  */
#include "mail/step.h"
#include "base/abreast.h"
#include "base/file.h"
#include "base/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHOWN 1024  /* octets of a file name in an error */
#define SYNCS_MAX 8 /* files that are synced side by side */

void smn_step_clear(struct smn_step *step) {
  free(step->file);
  free(step->to);
  free(step->octets);
  for (size_t i = 0; i < step->part_count; i++) {
    free(step->parts[i].name);
    free(step->parts[i].octets);
  }
  free(step->parts);
  memset(step, 0, sizeof *step);
}

const char *smn_step_errno_name(int errnum) {
  static const struct {
    int errnum;
    const char *name;
  } names[] = {
      {EACCES, "EACCES"},
      {EBUSY, "EBUSY"},
      {EDQUOT, "EDQUOT"},
      {EEXIST, "EEXIST"},
      {EFBIG, "EFBIG"},
      {EINVAL, "EINVAL"},
      {EIO, "EIO"},
      {EISDIR, "EISDIR"},
      {ELOOP, "ELOOP"},
      {EMFILE, "EMFILE"},
      {EMLINK, "EMLINK"},
      {ENAMETOOLONG, "ENAMETOOLONG"},
      {ENFILE, "ENFILE"},
      {ENODEV, "ENODEV"},
      {ENOENT, "ENOENT"},
      {ENOMEM, "ENOMEM"},
      {ENOSPC, "ENOSPC"},
      {ENOTDIR, "ENOTDIR"},
      {ENXIO, "ENXIO"},
      {EPERM, "EPERM"},
      {EROFS, "EROFS"},
      {ESTALE, "ESTALE"},
      {ETIMEDOUT, "ETIMEDOUT"},
      {EXDEV, "EXDEV"},
      {ENOTEMPTY, "ENOTEMPTY"}, /* EEXIST where the two are one */
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i].errnum == errnum)
      return names[i].name;
  return NULL;
}

/* A walk through a directory, and the entry at which it failed.  */
struct walk {
  char *name;
  size_t size;
  bool any; /* something was done */
};

static bool stopped_at(const struct walk *walk, const char *name) {
  snprintf(walk->name, walk->size, "%s", name);
  return false;
}

/* What is to be synced in a directory; the last of it is the directory.  */
struct syncs {
  int directory;
  struct walk *walk;
  size_t count;
  char names[SYNCS_MAX][256];
  int errnums[SYNCS_MAX + 1]; /* 0 for good; each by the thread that syncs */
};

static bool sync_file(int directory, const char *name) {
  struct stat stat;
  if (fstatat(directory, name, &stat, AT_SYMLINK_NOFOLLOW) != 0)
    return errno == ENOENT;
  if (!S_ISREG(stat.st_mode))
    return true;
  int fd = smn_file_open_regular(directory, name);
  if (fd < 0) /* a temporary one of Lisp is gone by now */
    return errno == ENOENT;
  return smn_file_close(fd, smn_file_sync(fd));
}

static void do_sync_one(size_t i, void *context) {
  struct syncs *syncs = context;
  bool good = i < syncs->count ? sync_file(syncs->directory, syncs->names[i])
                               : smn_file_sync_directory(syncs->directory);
  syncs->errnums[i] = good ? 0 : errno ? errno : EIO;
}

static bool note_name(int directory, const char *name, void *context) {
  struct syncs *syncs = context;
  if (strcmp(name, "lock") == 0)
    return true;
  /* An entry has a handful of files, and no long names.  */
  if (syncs->count == SYNCS_MAX || strlen(name) >= sizeof *syncs->names)
    return sync_file(directory, name) || stopped_at(syncs->walk, name);
  memcpy(syncs->names[syncs->count++], name, strlen(name) + 1);
  return true;
}

bool smn_step_sync_all(int directory, char *name, size_t size) {
  struct walk walk = {.name = name, .size = size};
  struct syncs syncs = {.directory = directory, .walk = &walk};
  int64_t begin = smn_now_ms();
  name[0] = '\0';
  if (!smn_file_each(directory, note_name, &syncs))
    return false;
  smn_abreast(syncs.count + 1, do_sync_one, &syncs, smn_slow_since(begin));
  for (size_t i = 0; i <= syncs.count; i++)
    if (syncs.errnums[i]) {
      errno = syncs.errnums[i];
      return stopped_at(&walk, i < syncs.count ? syncs.names[i] : "");
    }
  return true;
}

static bool do_create(const struct smn_step *step, struct walk *walk) {
  return smn_create(step->file, step->to, step->claim, step->parts,
                    step->part_count, walk->name, walk->size);
}

static bool do_area(const struct smn_step *step, struct walk *walk) {
  (void)walk;
  return smn_create_area(step->file);
}

static bool do_write(const struct smn_step *step, struct walk *walk) {
  size_t size = strlen(step->file) + sizeof ".new";
  char *temporary = malloc(size);
  (void)walk;
  if (!temporary)
    return false;
  snprintf(temporary, size, "%s.new", step->file);
  bool good = smn_file_replace(AT_FDCWD, step->file, temporary, step->octets,
                               step->len);
  free(temporary);
  return good;
}

/* A directory may be reached through a link, such as that of a user who
   keeps the outbox elsewhere.  */
static bool do_sync(const struct smn_step *step, struct walk *walk) {
  (void)walk;
  if (smn_file_sync_names(step->file))
    return true;
  if (errno != ENOTDIR)
    return false;
  int fd = smn_file_open_regular(AT_FDCWD, step->file);
  return fd >= 0 && smn_file_close(fd, smn_file_sync(fd));
}

static bool do_sync_all(const struct smn_step *step, struct walk *walk) {
  int fd = smn_file_open_directory(AT_FDCWD, step->file, true);
  return fd >= 0 &&
         smn_file_close(fd, smn_step_sync_all(fd, walk->name, walk->size));
}

/* What is appended in one write is whole, whoever writes at the same time.  */
static bool append(int fd, const struct smn_step *step, bool *full) {
  struct stat stat_;
  if (fstat(fd, &stat_) != 0)
    return false;
  if (!S_ISREG(stat_.st_mode) || !smn_file_ours(&stat_)) {
    errno = EPERM;
    return false;
  }
  *full = stat_.st_size > 0 && step->limit > 0 &&
          (uintmax_t)stat_.st_size + step->len > (uintmax_t)step->limit;
  if (*full)
    return true;
  ssize_t n = write(fd, step->octets, step->len);
  if (n >= 0 && (size_t)n < step->len)
    errno = ENOSPC;
  return n >= 0 && (size_t)n == step->len;
}

static bool open_and_append(const struct smn_step *step, bool *full) {
  int fd = open(step->file,
                O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600);
  return fd >= 0 && smn_file_close(fd, append(fd, step, full));
}

/* Where two processes find it too long at the same time, the second one only
   moves a short one away: a few lines more are in FILE.1 than need be.  */
static bool do_append(const struct smn_step *step, struct walk *walk) {
  bool full = false;
  (void)walk;
  if (!open_and_append(step, &full))
    return false;
  if (!full)
    return true;
  size_t size = strlen(step->file) + sizeof ".1";
  char *old = malloc(size);
  if (!old)
    return false;
  snprintf(old, size, "%s.1", step->file);
  bool good = rename(step->file, old) == 0 || errno == ENOENT;
  free(old);
  return good && open_and_append(step, &full) && !full;
}

static bool do_rename(const struct smn_step *step, struct walk *walk) {
  (void)walk;
  return rename(step->file, step->to) == 0;
}

static bool gone(int directory, const char *name, int flags) {
  return unlinkat(directory, name, flags) == 0 || errno == ENOENT;
}

static bool do_delete(const struct smn_step *step, struct walk *walk) {
  (void)walk;
  return gone(AT_FDCWD, step->file, 0);
}

static bool remove_entry(int directory, const char *name, void *context) {
  struct walk *walk = context;
  if (strcmp(name, "receipt") == 0)
    return true;
  walk->any = true;
  return gone(directory, name, 0) || stopped_at(walk, name);
}

/* Some systems pass entries over when others are removed under way: walk until
   there are none.  */
static bool do_remove(const struct smn_step *step, struct walk *walk) {
  int fd = smn_file_open_directory(AT_FDCWD, step->file, false);
  if (fd < 0)
    return errno == ENOENT;
  bool good = true;
  do {
    walk->any = false;
    good = smn_file_each(fd, remove_entry, walk);
  } while (good && walk->any);
  if (good && !gone(fd, "receipt", 0))
    good = stopped_at(walk, "receipt");
  return smn_file_close(fd, good) && gone(AT_FDCWD, step->file, AT_REMOVEDIR);
}

enum smn_kind smn_step_run(const struct smn_step *step, struct smn_error *err,
                           int *errnum) {
  static const struct {
    const char *verb;
    bool (*run)(const struct smn_step *step, struct walk *walk);
  } operations[] = {
      [SMN_STEP_CREATE] = {"write", do_create},
      [SMN_STEP_AREA] = {"use", do_area},
      [SMN_STEP_WRITE] = {"write", do_write},
      [SMN_STEP_SYNC] = {"sync", do_sync},
      [SMN_STEP_SYNC_ALL] = {"sync", do_sync_all},
      [SMN_STEP_RENAME] = {"rename", do_rename},
      [SMN_STEP_DELETE] = {"delete", do_delete},
      [SMN_STEP_REMOVE] = {"delete", do_remove},
      [SMN_STEP_APPEND] = {"write to", do_append},
  };
  char name[256] = "", shown[SHOWN], shown_name[SHOWN];
  struct walk walk = {.name = name, .size = sizeof name};
  *errnum = 0;
  if (operations[step->type].run(step, &walk))
    return SMN_OK;
  *errnum = errno;
  smn_quote(shown, sizeof shown, step->file, strlen(step->file));
  smn_quote(shown_name, sizeof shown_name, name, strlen(name));
  return smn_fail_errno(err, SMN_FILE, *errnum, "cannot %s %s%s%s",
                        operations[step->type].verb, shown, *name ? "/" : "",
                        shown_name);
}
