/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file.c - files and directories that survive a loss of power.  */
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opening a FIFO or a device must not wait.  */
#define SAFE (O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

static int open_at(int directory, const char *name, int flags) {
  int fd;
  do
    fd = openat(directory, name, flags | SAFE, 0600);
  while (fd < 0 && errno == EINTR);
  return fd;
}

int smn_file_open_directory(int directory, const char *name, bool follow) {
  return open_at(directory, name,
                 O_RDONLY | O_DIRECTORY | (follow ? 0 : O_NOFOLLOW));
}

int smn_file_open_regular(int directory, const char *name) {
  struct stat stat;
  int fd = open_at(directory, name, O_RDONLY | O_NOFOLLOW);
  if (fd < 0)
    return -1;
  bool good = fstat(fd, &stat) == 0;
  if (good && S_ISREG(stat.st_mode))
    return fd;
  if (good)
    errno = EINVAL;
  (void)smn_file_close(fd, false);
  return -1;
}

enum smn_kind smn_file_open_named(const char *file, const char *what, int *fd,
                                  uint64_t *size, struct smn_error *err) {
  struct stat stat;
  *fd = open_at(AT_FDCWD, file, O_RDONLY);
  if (*fd < 0 || fstat(*fd, &stat) != 0)
    smn_fail_errno(err, SMN_FILE, errno, "cannot read the %s %s", what, file);
  else if (!S_ISREG(stat.st_mode))
    smn_fail(err, SMN_FILE, "cannot read the %s %s: not a regular file", what,
             file);
  else {
    *size = (uint64_t)stat.st_size;
    return SMN_OK;
  }
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
  return SMN_FILE;
}

int smn_file_read_all(int fd, struct smn_buf *content) {
  size_t room;
  while ((room = content->max - content->len) > 0) {
    char *into = smn_buf_reserve(content, room);
    if (!into)
      return ENOMEM;
    ssize_t n = read(fd, into, room);
    if (n == 0) {
      *into = '\0';
      return 0;
    }
    if (n > 0)
      content->len += (size_t)n;
    else if (errno != EINTR)
      return errno;
  }
  return EFBIG;
}

enum smn_kind smn_file_load(const char *file, const char *what, size_t max,
                            bool secret, struct smn_buf *content,
                            struct smn_error *err) {
  int fd;
  uint64_t size;
  smn_buf_init(content, 0);
  enum smn_kind kind = smn_file_open_named(file, what, &fd, &size, err);
  if (kind != SMN_OK)
    return kind;
  if (size > max)
    kind = smn_fail(err, SMN_FILE,
                    "cannot read the %s %s: it is larger than %zu octets", what,
                    file, max);
  else if (secret && !smn_buf_init_secret(content, (size_t)size + 1))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  else {
    if (!secret)
      smn_buf_init(content, (size_t)size + 1);
    int errnum = smn_file_read_all(fd, content);
    if (errnum)
      kind = smn_fail_errno(err, SMN_FILE, errnum, "cannot read the %s %s",
                            what, file);
  }
  close(fd);
  return kind;
}

/* Its owner decides what it says, and no one else may.  */
bool smn_file_ours(const struct stat *stat) {
  return stat->st_uid == geteuid() && !(stat->st_mode & (S_IWGRP | S_IWOTH));
}

int smn_file_create(int directory, const char *name) {
  return open_at(directory, name, O_WRONLY | O_CREAT | O_EXCL);
}

bool smn_file_write_all(int fd, const void *bytes, size_t len) {
  const char *at = bytes;
  while (len > 0) {
    ssize_t n = write(fd, at, len);
    if (n < 0 && errno != EINTR)
      return false;
    if (n > 0) {
      at += n;
      len -= (size_t)n;
    }
  }
  return true;
}

bool smn_file_sync(int fd) {
  int status;
#ifdef F_FULLFSYNC
  /* There fsync leaves it in the disk's cache; a file system without this
     command has fsync only.  */
  do
    status = fcntl(fd, F_FULLFSYNC);
  while (status == -1 && errno == EINTR);
  if (status != -1)
    return true;
#endif
  do
    status = fsync(fd);
  while (status != 0 && errno == EINTR);
  return status == 0;
}

bool smn_file_sync_directory(int fd) {
  return smn_file_sync(fd) || errno == EINVAL || errno == ENOTSUP;
}

bool smn_file_sync_names(const char *path) {
  int fd = smn_file_open_directory(AT_FDCWD, path, true);
  return fd >= 0 && smn_file_close(fd, smn_file_sync_directory(fd));
}

bool smn_file_close(int fd, bool good) {
  int before = errno;
  /* After EINTR the descriptor is gone; what was synced is safe.  */
  if (close(fd) != 0 && errno != EINTR && good)
    return false;
  errno = before;
  return good;
}

bool smn_file_replace(int directory, const char *name, const char *temporary,
                      const void *bytes, size_t len) {
  /* What a crash or another program has left there is not written through.  */
  if (unlinkat(directory, temporary, 0) != 0 && errno != ENOENT)
    return false;
  int fd = smn_file_create(directory, temporary);
  if (fd < 0)
    return false;
  bool good = smn_file_write_all(fd, bytes, len) && smn_file_sync(fd);
  good = smn_file_close(fd, good) &&
         renameat(directory, temporary, directory, name) == 0;
  if (!good) {
    int errnum = errno;
    (void)unlinkat(directory, temporary, 0);
    errno = errnum;
  }
  return good;
}

bool smn_file_each(int directory, smn_file_visit *visit, void *context) {
  /* A stream owns its descriptor; this one has its own place, too.  */
  int fd = smn_file_open_directory(directory, ".", false);
  DIR *stream = fd < 0 ? NULL : fdopendir(fd);
  const struct dirent *entry = NULL;
  bool good = stream != NULL;
  while (good) {
    errno = 0;
    entry = readdir(stream);
    if (!entry) {
      good = errno == 0;
      break;
    }
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
      good = visit(directory, entry->d_name, context);
  }
  int errnum = errno;
  if (stream)
    closedir(stream);
  else if (fd >= 0)
    close(fd);
  errno = errnum;
  return good;
}
