/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slow-disk.c - a disk that sleeps, or is at the other end of a network.
   With LD_PRELOAD=slow-disk.so SLOW_ROOT=DIRECTORY SLOW_MS=N each call that
   asks for something in DIRECTORY takes N ms longer, in whichever thread.  With
   SLOW_LOG=FILE it appends one line to FILE, too:
     main CALL PATH     by the first thread of the program
     thread CALL PATH   by another one
   Shares no code with the module.  */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *call, const char *path) {
  const char *log = getenv("SLOW_LOG");
  char line[PATH_MAX + 64];
  int fd =
      log ? REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)
          : -1;
  int len =
      snprintf(line, sizeof line, "%s %s %s\n",
               syscall(SYS_gettid) == getpid() ? "main" : "thread", call, path);
  if (log && (fd < 0 || REAL(write)(fd, line, (size_t)len) != len))
    abort();
  if (fd >= 0)
    REAL(close)(fd);
}

static void wait_at(const char *call, const char *path) {
  const char *root = getenv("SLOW_ROOT"), *ms = getenv("SLOW_MS");
  size_t len = root ? strlen(root) : 0;
  int errnum = errno;
  if (len > 0 && strncmp(path, root, len) == 0) {
    long delay = ms ? strtol(ms, NULL, 10) : 0;
    struct timespec left = {delay / 1000, delay % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0)
      ;
    tell(call, path);
  }
  errno = errnum;
}

static void wait_for_fd(const char *call, int fd) {
  char link[64], path[PATH_MAX];
  int errnum = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = REAL(readlink)(link, path, sizeof path - 1);
  errno = errnum;
  if (len > 0) {
    path[len] = '\0';
    wait_at(call, path);
  }
}

static void wait_for_name(const char *call, int directory, const char *name) {
  if (name[0] == '/' || directory == AT_FDCWD)
    wait_at(call, name);
  else
    wait_for_fd(call, directory);
}

/* Opening */

#define OPEN(name)                                                             \
  EXPORT int name(const char *path, int flags, ...) {                          \
    MODE wait_for_name("open", AT_FDCWD, path);                                \
    return REAL(name)(path, flags, mode);                                      \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                           \
  EXPORT int name(int at, const char *path, int flags, ...) {                  \
    MODE wait_for_name("open", at, path);                                      \
    return REAL(name)(at, path, flags, mode);                                  \
  }
OPENAT(openat)
OPENAT(openat64)

/* Looking */

#define LOOK(name, type)                                                       \
  EXPORT int name(const char *path, struct type *into) {                       \
    wait_for_name("stat", AT_FDCWD, path);                                     \
    return REAL(name)(path, into);                                             \
  }
LOOK(stat, stat)
LOOK(stat64, stat64)
LOOK(lstat, stat)
LOOK(lstat64, stat64)

#define LOOK_AT(name, type)                                                    \
  EXPORT int name(int at, const char *path, struct type *into, int flags) {    \
    wait_for_name("stat", at, path);                                           \
    return REAL(name)(at, path, into, flags);                                  \
  }
LOOK_AT(fstatat, stat)
LOOK_AT(fstatat64, stat64)

EXPORT int faccessat(int at, const char *path, int mode, int flags) {
  wait_for_name("access", at, path);
  return REAL(faccessat)(at, path, mode, flags);
}

EXPORT ssize_t readlink(const char *path, char *into, size_t size) {
  wait_for_name("readlink", AT_FDCWD, path);
  return REAL(readlink)(path, into, size);
}

EXPORT ssize_t readlinkat(int at, const char *path, char *into, size_t size) {
  wait_for_name("readlink", at, path);
  return REAL(readlinkat)(at, path, into, size);
}

/* Changing */

EXPORT int mkdir(const char *path, mode_t mode) {
  wait_for_name("mkdir", AT_FDCWD, path);
  return REAL(mkdir)(path, mode);
}

EXPORT int rmdir(const char *path) {
  wait_for_name("rmdir", AT_FDCWD, path);
  return REAL(rmdir)(path);
}

EXPORT int unlink(const char *path) {
  wait_for_name("unlink", AT_FDCWD, path);
  return REAL(unlink)(path);
}

EXPORT int unlinkat(int at, const char *path, int flags) {
  wait_for_name("unlink", at, path);
  return REAL(unlinkat)(at, path, flags);
}

EXPORT int rename(const char *from, const char *to) {
  wait_for_name("rename", AT_FDCWD, to);
  return REAL(rename)(from, to);
}

EXPORT int renameat(int from_at, const char *from, int to_at, const char *to) {
  wait_for_name("rename", to_at, to);
  return REAL(renameat)(from_at, from, to_at, to);
}

EXPORT int renameat2(int from_at, const char *from, int to_at, const char *to,
                     unsigned int flags) {
  wait_for_name("rename", to_at, to);
  return REAL(renameat2)(from_at, from, to_at, to, flags);
}

EXPORT ssize_t write(int fd, const void *octets, size_t len) {
  wait_for_fd("write", fd);
  return REAL(write)(fd, octets, len);
}

EXPORT int fsync(int fd) {
  wait_for_fd("sync", fd);
  return REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd) {
  wait_for_fd("sync", fd);
  return REAL(fdatasync)(fd);
}
