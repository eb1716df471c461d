/* SPDX-License-Identifier: GPL-3.0-or-later */
/* faulty-disk.c - a disk of which the n-th operation fails.
   With LD_PRELOAD=faulty-disk.so FAULT_ROOT=DIRECTORY FAULT_LOG=FILE a program
   asks for a fault by an unlink of the name
     /FAULT/ERROR/N/once   the N-th operation below DIRECTORY fails with ERROR
     /FAULT/ERROR/N/on     it and all that follow
     /FAULT/off            no more; appends "total COUNT" to FILE
   Only operations that can fail with ERROR count, in whichever thread, and for
   EAGAIN those that begin a thread or a process; with N = 0 none fails.  SHORT
   is no error: reads and writes do half of what they are asked for.  What fails
   first appends "CALL PATH" to FILE.  Shares no code with the module.  */
#include "preload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  OPEN = 1,   /* without creating anything */
  CREATE = 2, /* open that may */
  WRITE = 4,
  READ = 8,
  SYNC = 16,
  NAME = 32, /* a new name: rename, link, mkdir */
  REMOVE = 64,
  LOOK = 128, /* stat, access, readlink */
  LIST = 256, /* opendir, readdir */
  LOCK = 512,
  CLOSE = 1024,
  CHANGE = 2048, /* chmod, utimensat, truncate */
  START = 4096,  /* a thread, a process */
};

static const struct {
  const char *name;
  int errnum; /* 0 for short reads and writes */
  int calls;
} errors[] = {
    {"ENOSPC", ENOSPC, CREATE | WRITE | SYNC | NAME | CHANGE},
    {"EDQUOT", EDQUOT, CREATE | WRITE | SYNC | NAME | CLOSE},
    {"EIO", EIO, ~(START | LOCK)},
    {"EROFS", EROFS, CREATE | NAME | REMOVE | CHANGE},
    {"EACCES", EACCES, OPEN | CREATE | NAME | REMOVE | LIST},
    {"EMFILE", EMFILE, OPEN | CREATE | LIST},
    {"ENOMEM", ENOMEM, OPEN | CREATE | NAME | REMOVE | LOOK | LIST},
    {"EINTR", EINTR, OPEN | CREATE | WRITE | READ | SYNC | LOCK},
    {"ENOLCK", ENOLCK, LOCK},
    {"EAGAIN", EAGAIN, START},
    {"SHORT", 0, WRITE | READ},
};

static struct {
  pthread_mutex_t lock;
  int error; /* of errors, -1 for none */
  long count, at;
  bool on, told;
} fault = {.lock = PTHREAD_MUTEX_INITIALIZER, .error = -1};

static void tell(const char *first, const char *second) {
  const char *log = getenv("FAULT_LOG");
  char line[PATH_MAX + 64];
  int len = snprintf(line, sizeof line, "%s %s\n", first, second);
  int fd =
      log ? REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)
          : -1;
  if (fd < 0 || REAL(write)(fd, line, (size_t)len) != len)
    abort();
  REAL(close)(fd);
}

/* Take an order that is part of NAME; return false if there is none.  */
static bool ordered(const char *name) {
  static const char start[] = "/FAULT/";
  char error[16], how[8], total[32];
  long at;
  if (strncmp(name, start, sizeof start - 1) != 0)
    return false;
  name += sizeof start - 1;
  pthread_mutex_lock(&fault.lock);
  if (fault.error >= 0 && strcmp(name, "off") == 0) {
    snprintf(total, sizeof total, "%ld", fault.count);
    tell("total", total);
  }
  fault.error = -1;
  if (sscanf(name, "%15[^/]/%ld/%7s", error, &at, how) == 3)
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
      if (strcmp(errors[i].name, error) == 0) {
        fault.error = (int)i;
        fault.at = at;
        fault.on = strcmp(how, "on") == 0;
        fault.count = 0;
        fault.told = false;
      }
  pthread_mutex_unlock(&fault.lock);
  return true;
}

/* Is it the turn of CALL to fail, which is one of CALLS?  PATH may be NULL.  */
static bool fails(int calls, const char *call, const char *path) {
  const char *root = getenv("FAULT_ROOT");
  int errnum = errno;
  bool result = false;
  pthread_mutex_lock(&fault.lock);
  if (fault.error >= 0 && (errors[fault.error].calls & calls) != 0 &&
      (calls == START ||
       (path && root && strncmp(path, root, strlen(root)) == 0))) {
    fault.count++;
    result = fault.at > 0 &&
             (fault.on ? fault.count >= fault.at : fault.count == fault.at);
    if (result && !fault.told) {
      fault.told = true;
      tell(call, path ? path : "");
    }
    errnum = result ? errors[fault.error].errnum : errnum;
  }
  pthread_mutex_unlock(&fault.lock);
  errno = errnum;
  return result;
}

static bool armed(void) {
  return __atomic_load_n(&fault.error, __ATOMIC_RELAXED) >= 0;
}

static bool fails_fd(int calls, const char *call, int fd) {
  char link[64], path[PATH_MAX];
  int errnum = errno;
  if (!armed())
    return false;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
  errno = errnum;
  if (len <= 0)
    return false;
  path[len] = '\0';
  return fails(calls, call, path);
}

static bool fails_name(int calls, const char *call, int at, const char *name) {
  if (!armed())
    return false;
  if (name[0] == '/')
    return fails(calls, call, name);
  if (at != AT_FDCWD)
    return fails_fd(calls, call, at);
  char path[PATH_MAX];
  return getcwd(path, sizeof path) && fails(calls, call, path);
}

/* Opening */

#define OPENING(flags) ((flags) & (O_CREAT | O_TMPFILE) ? CREATE : OPEN)

#define DEFINE_OPEN(name)                                                      \
  EXPORT int name(const char *path, int flags, ...) {                          \
    MODE if (fails_name(OPENING(flags), "open", AT_FDCWD, path)) return -1;    \
    return REAL(name)(path, flags, mode);                                      \
  }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)

#define DEFINE_OPENAT(name)                                                    \
  EXPORT int name(int at, const char *path, int flags, ...) {                  \
    MODE if (fails_name(OPENING(flags), "open", at, path)) return -1;          \
    return REAL(name)(at, path, flags, mode);                                  \
  }
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* The file is closed all the same.  */
EXPORT int close(int fd) {
  bool bad = fails_fd(CLOSE, "close", fd);
  int errnum = errno, status = REAL(close)(fd);
  if (bad)
    errno = errnum;
  return bad ? -1 : status;
}

/* Content */

EXPORT ssize_t write(int fd, const void *octets, size_t len) {
  if (fails_fd(WRITE, "write", fd)) {
    if (errno != 0)
      return -1;
    len = len > 1 ? len / 2 : len;
  }
  return REAL(write)(fd, octets, len);
}

EXPORT ssize_t read(int fd, void *octets, size_t len) {
  if (fails_fd(READ, "read", fd)) {
    if (errno != 0)
      return -1;
    len = len > 1 ? len / 2 : len;
  }
  return REAL(read)(fd, octets, len);
}

#define DEFINE_PREAD(name, type)                                               \
  EXPORT ssize_t name(int fd, void *octets, size_t len, type at) {             \
    if (fails_fd(READ, "read", fd)) {                                          \
      if (errno != 0)                                                          \
        return -1;                                                             \
      len = len > 1 ? len / 2 : len;                                           \
    }                                                                          \
    return REAL(name)(fd, octets, len, at);                                    \
  }
DEFINE_PREAD(pread, off_t)
DEFINE_PREAD(pread64, off64_t)

/* Emacs copies by it where it can; a program that sees it fail writes.  */
EXPORT ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at,
                               size_t len, unsigned flags) {
  if (!armed())
    return REAL(copy_file_range)(in, in_at, out, out_at, len, flags);
  errno = EXDEV;
  return -1;
}

EXPORT int ftruncate(int fd, off_t length) {
  return fails_fd(CHANGE, "truncate", fd) ? -1 : REAL(ftruncate)(fd, length);
}

EXPORT int ftruncate64(int fd, off64_t length) {
  return fails_fd(CHANGE, "truncate", fd) ? -1 : REAL(ftruncate64)(fd, length);
}

EXPORT int fsync(int fd) {
  return fails_fd(SYNC, "sync", fd) ? -1 : REAL(fsync)(fd);
}

EXPORT int fdatasync(int fd) {
  return fails_fd(SYNC, "sync", fd) ? -1 : REAL(fdatasync)(fd);
}

EXPORT int fchmod(int fd, mode_t mode) {
  return fails_fd(CHANGE, "chmod", fd) ? -1 : REAL(fchmod)(fd, mode);
}

EXPORT int fchmodat(int at, const char *name, mode_t mode, int flags) {
  return fails_name(CHANGE, "chmod", at, name)
             ? -1
             : REAL(fchmodat)(at, name, mode, flags);
}

EXPORT int flock(int fd, int operation) {
  return fails_fd(LOCK, "lock", fd) ? -1 : REAL(flock)(fd, operation);
}

/* Looking */

#define DEFINE_LOOK(name, type)                                                \
  EXPORT int name(const char *path, struct type *into) {                       \
    return fails_name(LOOK, "stat", AT_FDCWD, path) ? -1                       \
                                                    : REAL(name)(path, into);  \
  }
DEFINE_LOOK(stat, stat)
DEFINE_LOOK(stat64, stat64)
DEFINE_LOOK(lstat, stat)
DEFINE_LOOK(lstat64, stat64)

#define DEFINE_LOOK_FD(name, type)                                             \
  EXPORT int name(int fd, struct type *into) {                                 \
    return fails_fd(LOOK, "fstat", fd) ? -1 : REAL(name)(fd, into);            \
  }
DEFINE_LOOK_FD(fstat, stat)
DEFINE_LOOK_FD(fstat64, stat64)

#define DEFINE_LOOK_AT(name, type)                                             \
  EXPORT int name(int at, const char *path, struct type *into, int flags) {    \
    return fails_name(LOOK, "stat", at, path)                                  \
               ? -1                                                            \
               : REAL(name)(at, path, into, flags);                            \
  }
DEFINE_LOOK_AT(fstatat, stat)
DEFINE_LOOK_AT(fstatat64, stat64)

EXPORT int faccessat(int at, const char *path, int mode, int flags) {
  return fails_name(LOOK, "access", at, path)
             ? -1
             : REAL(faccessat)(at, path, mode, flags);
}

EXPORT ssize_t readlinkat(int at, const char *path, char *into, size_t size) {
  return fails_name(LOOK, "readlink", at, path)
             ? -1
             : REAL(readlinkat)(at, path, into, size);
}

EXPORT DIR *fdopendir(int fd) {
  return fails_fd(LIST, "list", fd) ? NULL : REAL(fdopendir)(fd);
}

EXPORT DIR *opendir(const char *name) {
  return fails_name(LIST, "list", AT_FDCWD, name) ? NULL : REAL(opendir)(name);
}

EXPORT struct dirent *readdir(DIR *stream) {
  return fails_fd(LIST, "readdir", dirfd(stream)) ? NULL
                                                  : REAL(readdir)(stream);
}

EXPORT struct dirent64 *readdir64(DIR *stream) {
  return fails_fd(LIST, "readdir", dirfd(stream)) ? NULL
                                                  : REAL(readdir64)(stream);
}

/* Names */

EXPORT int mkdir(const char *path, mode_t mode) {
  return fails_name(NAME, "mkdir", AT_FDCWD, path) ? -1
                                                   : REAL(mkdir)(path, mode);
}

EXPORT int mkdirat(int at, const char *path, mode_t mode) {
  return fails_name(NAME, "mkdir", at, path) ? -1
                                             : REAL(mkdirat)(at, path, mode);
}

EXPORT int rmdir(const char *path) {
  return fails_name(REMOVE, "rmdir", AT_FDCWD, path) ? -1 : REAL(rmdir)(path);
}

EXPORT int unlink(const char *path) {
  if (ordered(path))
    return 0;
  return fails_name(REMOVE, "unlink", AT_FDCWD, path) ? -1 : REAL(unlink)(path);
}

EXPORT int unlinkat(int at, const char *path, int flags) {
  return fails_name(REMOVE, "unlink", at, path)
             ? -1
             : REAL(unlinkat)(at, path, flags);
}

static bool fails_rename(int from_at, const char *from, int to_at,
                         const char *to) {
  return fails_name(NAME, "rename", to_at, to) ||
         fails_name(NAME, "rename", from_at, from);
}

EXPORT int rename(const char *from, const char *to) {
  return fails_rename(AT_FDCWD, from, AT_FDCWD, to) ? -1
                                                    : REAL(rename)(from, to);
}

EXPORT int renameat(int from_at, const char *from, int to_at, const char *to) {
  return fails_rename(from_at, from, to_at, to)
             ? -1
             : REAL(renameat)(from_at, from, to_at, to);
}

EXPORT int renameat2(int from_at, const char *from, int to_at, const char *to,
                     unsigned flags) {
  return fails_rename(from_at, from, to_at, to)
             ? -1
             : REAL(renameat2)(from_at, from, to_at, to, flags);
}

/* Emacs asks the kernel itself for a rename that replaces nothing.  */
EXPORT long syscall(long number, ...) {
  long argument[6];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; i++)
    argument[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_renameat2)
    return renameat2((int)argument[0], (const char *)argument[1],
                     (int)argument[2], (const char *)argument[3],
                     (unsigned)argument[4]);
  return REAL(syscall)(number, argument[0], argument[1], argument[2],
                       argument[3], argument[4], argument[5]);
}

/* Threads and processes */

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*start)(void *), void *argument) {
  return fails(START, "pthread_create", NULL)
             ? EAGAIN
             : REAL(pthread_create)(thread, attr, start, argument);
}

EXPORT pid_t fork(void) {
  return fails(START, "fork", NULL) ? -1 : REAL(fork)();
}
