/* SPDX-License-Identifier: GPL-3.0-or-later */
/* recorder.c - what a program does to the files in a directory, in its order.
   With LD_PRELOAD=recorder.so RECORD_ROOT=DIRECTORY RECORD_LOG=FILE each call
   that changes or syncs something in DIRECTORY appends one line to FILE:
     f create INODE PATH           a new file; "truncate" for one that was there
     f write INODE PATH OFFSET HEX
     f truncate INODE PATH LENGTH
     f rename INODE FROM TO
     f unlink INODE PATH
     f mkdir INODE PATH            f rmdir INODE PATH
     f sync INODE PATH             of a file or a directory
     f mark NAME                   an unlink of /MARK/NAME, a word of the scene
   A sync of a PATH with RECORD_FAIL, if that is set, fails as on a bad disk.
   PATH is relative to DIRECTORY.  Only calls that succeed are told, one at a
   time, so that the order of lines is that of the calls.  Another program may
   append lines to FILE, too.  Shares no code with the module.  */
#include "preload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Names */

/* The part of PATH below the root, or NULL.  */
static const char *below(const char *path) {
  const char *root = getenv("RECORD_ROOT");
  size_t len = root ? strlen(root) : 0;
  while (len > 1 && root[len - 1] == '/')
    len--;
  if (len == 0 || strncmp(path, root, len) != 0)
    return NULL;
  return path[len] == '/' ? path + len + 1 : path[len] ? NULL : ".";
}

static const char *of_fd(int fd, char path[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t len = readlink(link, path, PATH_MAX - 1);
  if (len <= 0)
    return NULL;
  path[len] = '\0';
  return below(path);
}

static const char *of_name(int directory, const char *name,
                           char path[PATH_MAX]) {
  if (name[0] == '/')
    return below(name);
  char base[PATH_MAX];
  if (directory == AT_FDCWD) {
    if (!getcwd(base, sizeof base))
      return NULL;
  } else if (!of_fd(directory, base))
    return NULL;
  if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
    return NULL;
  return below(path);
}

static uintmax_t inode_at(int directory, const char *name) {
  struct stat stat;
  return fstatat(directory, name, &stat, AT_SYMLINK_NOFOLLOW) == 0
             ? (uintmax_t)stat.st_ino
             : 0;
}

static uintmax_t inode_of(int fd) {
  struct stat stat;
  return fstat(fd, &stat) == 0 ? (uintmax_t)stat.st_ino : 0;
}

/* Lines */

static void put(const char *line, size_t len) {
  const char *file = getenv("RECORD_LOG");
  int fd =
      file ? REAL(open)(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)
           : -1;
  if (fd < 0 || REAL(write)(fd, line, len) != (ssize_t)len)
    abort(); /* a record with gaps proves nothing */
  REAL(close)(fd);
}

__attribute__((format(printf, 1, 2))) static void note(const char *format,
                                                       ...) {
  char line[3 * PATH_MAX];
  va_list arguments;
  int errnum = errno;
  va_start(arguments, format);
  int len = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (len < 0 || (size_t)len >= sizeof line)
    abort();
  put(line, (size_t)len);
  errno = errnum;
}

static void note_write(int fd, const char *path, off_t offset,
                       const void *octets, size_t len) {
  static const char digits[] = "0123456789abcdef";
  int errnum = errno;
  size_t size = 2 * len + PATH_MAX + 100;
  char *line = malloc(size);
  if (!line)
    abort();
  int at = snprintf(line, size, "f write %ju %s %jd ", inode_of(fd), path,
                    (intmax_t)offset);
  for (size_t i = 0; i < len; i++) {
    unsigned char octet = ((const unsigned char *)octets)[i];
    line[at++] = digits[octet >> 4];
    line[at++] = digits[octet & 15];
  }
  line[at++] = '\n';
  put(line, (size_t)at);
  free(line);
  errno = errnum;
}

/* Opening */

static int opened(int directory, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  const char *shown = of_name(directory, name, path);
  bool changes = shown && (flags & (O_CREAT | O_TRUNC)) != 0;
  if (!changes)
    return REAL(openat)(directory, name, flags, mode);
  pthread_mutex_lock(&lock);
  bool there = inode_at(directory, name) != 0;
  int fd = REAL(openat)(directory, name, flags, mode);
  if (fd >= 0 && !there)
    note("f create %ju %s\n", inode_of(fd), shown);
  else if (fd >= 0 && (flags & O_TRUNC))
    note("f truncate %ju %s 0\n", inode_of(fd), shown);
  pthread_mutex_unlock(&lock);
  return fd;
}

EXPORT int open(const char *name, int flags, ...) {
  MODE return opened(AT_FDCWD, name, flags, mode);
}

EXPORT int open64(const char *name, int flags, ...) {
  MODE return opened(AT_FDCWD, name, flags, mode);
}

EXPORT int openat(int directory, const char *name, int flags, ...) {
  MODE return opened(directory, name, flags, mode);
}

EXPORT int openat64(int directory, const char *name, int flags, ...) {
  MODE return opened(directory, name, flags, mode);
}

/* Content */

EXPORT ssize_t write(int fd, const void *octets, size_t len) {
  char path[PATH_MAX];
  int errnum = errno;
  const char *shown = of_fd(fd, path);
  errno = errnum;
  if (!shown)
    return REAL(write)(fd, octets, len);
  pthread_mutex_lock(&lock);
  ssize_t written = REAL(write)(fd, octets, len);
  if (written > 0)
    note_write(fd, shown, lseek(fd, 0, SEEK_CUR) - written, octets,
               (size_t)written);
  pthread_mutex_unlock(&lock);
  return written;
}

/* Emacs copies by it where it can; a program that sees it fail writes.  */
EXPORT ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at,
                               size_t len, unsigned flags) {
  char path[PATH_MAX];
  if (!of_fd(out, path))
    return REAL(copy_file_range)(in, in_at, out, out_at, len, flags);
  errno = EXDEV;
  return -1;
}

static int truncated(int fd, off_t length) {
  char path[PATH_MAX];
  const char *shown = of_fd(fd, path);
  pthread_mutex_lock(&lock);
  int status = REAL(ftruncate)(fd, length);
  if (status == 0 && shown)
    note("f truncate %ju %s %jd\n", inode_of(fd), shown, (intmax_t)length);
  pthread_mutex_unlock(&lock);
  return status;
}

EXPORT int ftruncate(int fd, off_t length) { return truncated(fd, length); }

EXPORT int ftruncate64(int fd, off64_t length) { return truncated(fd, length); }

/* Syncs */

static int synced(int fd, int (*sync)(int)) {
  char path[PATH_MAX];
  const char *shown = of_fd(fd, path), *part = getenv("RECORD_FAIL");
  if (shown && part && strstr(shown, part)) {
    errno = EIO;
    return -1;
  }
  pthread_mutex_lock(&lock);
  int status = sync(fd);
  if (status == 0 && shown)
    note("f sync %ju %s\n", inode_of(fd), shown);
  pthread_mutex_unlock(&lock);
  return status;
}

EXPORT int fsync(int fd) { return synced(fd, REAL(fsync)); }

EXPORT int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

/* Names in directories */

static int renamed(int from_at, const char *from, int to_at, const char *to,
                   unsigned flags) {
  char from_path[PATH_MAX], to_path[PATH_MAX];
  const char *old = of_name(from_at, from, from_path);
  const char *new = of_name(to_at, to, to_path);
  pthread_mutex_lock(&lock);
  int status = REAL(renameat2)(from_at, from, to_at, to, flags);
  if (status == 0 && (old || new))
    note("f rename %ju %s %s\n", inode_at(to_at, to), old ? old : "-",
         new ? new : "-");
  pthread_mutex_unlock(&lock);
  return status;
}

EXPORT int rename(const char *from, const char *to) {
  return renamed(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int renameat(int from_at, const char *from, int to_at, const char *to) {
  return renamed(from_at, from, to_at, to, 0);
}

EXPORT int renameat2(int from_at, const char *from, int to_at, const char *to,
                     unsigned flags) {
  return renamed(from_at, from, to_at, to, flags);
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
    return renamed((int)argument[0], (const char *)argument[1],
                   (int)argument[2], (const char *)argument[3],
                   (unsigned)argument[4]);
  return REAL(syscall)(number, argument[0], argument[1], argument[2],
                       argument[3], argument[4], argument[5]);
}

static int unlinked(int directory, const char *name, int flags) {
  static const char mark[] = "/MARK/";
  char path[PATH_MAX];
  const char *shown = of_name(directory, name, path);
  pthread_mutex_lock(&lock);
  uintmax_t inode = shown ? inode_at(directory, name) : 0;
  int status = REAL(unlinkat)(directory, name, flags);
  if (status == 0 && shown)
    note("f %s %ju %s\n", flags & AT_REMOVEDIR ? "rmdir" : "unlink", inode,
         shown);
  else if (strncmp(name, mark, sizeof mark - 1) == 0)
    note("f mark %s\n", name + sizeof mark - 1);
  pthread_mutex_unlock(&lock);
  return status;
}

EXPORT int unlink(const char *name) { return unlinked(AT_FDCWD, name, 0); }

EXPORT int unlinkat(int directory, const char *name, int flags) {
  return unlinked(directory, name, flags);
}

EXPORT int rmdir(const char *name) {
  return unlinked(AT_FDCWD, name, AT_REMOVEDIR);
}

static int made(int directory, const char *name, mode_t mode) {
  char path[PATH_MAX];
  const char *shown = of_name(directory, name, path);
  pthread_mutex_lock(&lock);
  int status = REAL(mkdirat)(directory, name, mode);
  if (status == 0 && shown)
    note("f mkdir %ju %s\n", inode_at(directory, name), shown);
  pthread_mutex_unlock(&lock);
  return status;
}

EXPORT int mkdir(const char *name, mode_t mode) {
  return made(AT_FDCWD, name, mode);
}

EXPORT int mkdirat(int directory, const char *name, mode_t mode) {
  return made(directory, name, mode);
}
