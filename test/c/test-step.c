/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-step.c - each operation on the files of the outbox, what it syncs, in
   which order it deletes, and what it says when one file fails.
   fsync and unlinkat stand here before those of the system.  */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* strerrorname_np */
#endif
#include "certs.h"
#include "check.h"
#include "folder.h"
#include "mail/step.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __linux__

#define NOTED 64

/* Under the lock: syncs may be side by side.  */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
  ino_t synced[NOTED];
  size_t syncs;
  ino_t fails; /* to be synced, with EIO */
  char deleted[NOTED][32];
  size_t deletions;
} noted;

int fsync(int fd) {
  struct stat stat = {.st_ino = 0};
  fstat(fd, &stat);
  pthread_mutex_lock(&lock);
  bool fails = stat.st_ino == noted.fails;
  if (noted.syncs < NOTED)
    noted.synced[noted.syncs++] = stat.st_ino;
  pthread_mutex_unlock(&lock);
  if (fails) {
    errno = EIO;
    return -1;
  }
  return (int)syscall(SYS_fsync, fd);
}

int unlinkat(int directory, const char *name, int flags) {
  if (noted.deletions < NOTED)
    snprintf(noted.deleted[noted.deletions++], sizeof noted.deleted[0], "%s",
             name);
  return (int)syscall(SYS_unlinkat, directory, name, flags);
}

static void begin(void) { memset(&noted, 0, sizeof noted); }

static ino_t inode_of(const char *name) {
  struct stat stat = {.st_ino = 0};
  char *path = in_folder(name);
  CHECK_INT(lstat(path, &stat), 0);
  free(path);
  return stat.st_ino;
}

static int times_synced(const char *name) {
  int times = 0;
  ino_t inode = inode_of(name);
  for (size_t i = 0; i < noted.syncs; i++)
    times += noted.synced[i] == inode;
  return times;
}

static bool exists(const char *name) {
  struct stat stat;
  char *path = in_folder(name);
  bool there = lstat(path, &stat) == 0;
  free(path);
  return there;
}

static void make_file(const char *name) {
  char *path = in_folder(name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
  free(path);
}

static void make_folder(const char *name) {
  char *path = in_folder(name);
  CHECK_INT(mkdir(path, 0700), 0);
  free(path);
}

/* Do TYPE to FILE, and TO or OCTETS; *ERRNUM and *ERR as there.  */
static enum smn_kind run(enum smn_step_type type, const char *file,
                         const char *to, const char *octets,
                         struct smn_error *err, int *errnum) {
  struct smn_step step = {.type = type,
                          .file = in_folder(file),
                          .to = to ? in_folder(to) : NULL,
                          .octets = octets ? strdup(octets) : NULL,
                          .len = octets ? strlen(octets) : 0};
  enum smn_kind kind = smn_step_run(&step, err, errnum);
  smn_step_clear(&step);
  CHECK(!step.file && !step.to && !step.octets);
  return kind;
}

static void good(enum smn_step_type type, const char *file, const char *to,
                 const char *octets) {
  struct smn_error err = {.kind = SMN_OK};
  int errnum = -1;
  if (!CHECK(run(type, file, to, octets, &err, &errnum) == SMN_OK))
    printf("  %s: %s\n", file, err.text);
  CHECK_INT(errnum, 0);
}

/* It fails with WANT, and its text ends the name by NAME.  */
static void bad(enum smn_step_type type, const char *file, const char *to,
                int want, const char *name) {
  struct smn_error err = {.kind = SMN_OK};
  char part[64];
  int errnum = 0;
  CHECK_INT(run(type, file, to, "x", &err, &errnum), SMN_FILE);
  CHECK_INT(errnum, want);
  snprintf(part, sizeof part, "%s: ", name);
  if (!CHECK(strstr(err.text, part) != NULL))
    printf("  %s: %s\n", name, err.text);
}

static const char *const parts[] = {"message", "message.el", "state",
                                    "draft",   "receipt",    "one",
                                    "two",     "three",      "four"};
#define PARTS (sizeof parts / sizeof *parts)

/* An entry with COUNT of the parts, and what is no part of it.  */
static void make_entry(size_t count) {
  char name[64];
  make_folder("entry");
  for (size_t i = 0; i < count; i++) {
    snprintf(name, sizeof name, "entry/%s", parts[i]);
    make_file(name);
  }
  make_file("entry/lock");
  char *link = in_folder("entry/link");
  CHECK_INT(symlink("/etc/passwd", link), 0);
  free(link);
}

/* As many as are synced side by side, fewer and more.  */
static void check_sync_all(void) {
  for (size_t count = 0; count <= PARTS; count++) {
    char name[64];
    make_entry(count);
    begin();
    good(SMN_STEP_SYNC_ALL, "entry", NULL, NULL);
    CHECK_INT(noted.syncs, count + 1);
    CHECK_INT(times_synced("entry"), 1);
    CHECK_INT(times_synced("entry/lock"), 0);
    for (size_t i = 0; i < count; i++) {
      snprintf(name, sizeof name, "entry/%s", parts[i]);
      CHECK_INT(times_synced(name), 1);
    }
    for (size_t i = 0; i < count; i++) {
      snprintf(name, sizeof name, "entry/%s", parts[i]);
      begin();
      noted.fails = inode_of(name);
      bad(SMN_STEP_SYNC_ALL, "entry", NULL, EIO, name);
    }
    begin();
    noted.fails = inode_of("entry");
    bad(SMN_STEP_SYNC_ALL, "entry", NULL, EIO, "entry");
    begin();
    good(SMN_STEP_REMOVE, "entry", NULL, NULL);
  }
  bad(SMN_STEP_SYNC_ALL, "entry", NULL, ENOENT, "entry");
}

/* Whoever looks at what is half removed still sees what became of it.  */
static void check_remove(void) {
  make_entry(PARTS);
  begin();
  good(SMN_STEP_REMOVE, "entry", NULL, NULL);
  CHECK(!exists("entry"));
  /* Lock and link, and the folder itself.  */
  CHECK_INT(noted.deletions, PARTS + 2 + 1);
  CHECK_STRING(noted.deleted[PARTS + 1], "receipt");
  good(SMN_STEP_REMOVE, "entry", NULL, NULL);
  make_entry(PARTS);
  make_folder("entry/folder");
  begin();
  bad(SMN_STEP_REMOVE, "entry", NULL, EISDIR, "entry/folder");
  CHECK(exists("entry/receipt"));
  char *path = in_folder("entry/folder");
  CHECK_INT(rmdir(path), 0);
  free(path);
  good(SMN_STEP_REMOVE, "entry", NULL, NULL);
}

static void check_write(void) {
  struct stat stat_of;
  char octets[16] = "", *path = in_folder("file");
  for (int i = 0; i < 2; i++) {
    begin();
    good(SMN_STEP_WRITE, "file", NULL, i ? "again" : "first");
    CHECK_INT(times_synced("file"), 1);
    CHECK(!exists("file.new"));
  }
  int fd = open(path, O_RDONLY);
  CHECK(fd >= 0 && read(fd, octets, sizeof octets - 1) == 5);
  CHECK_STRING(octets, "again");
  CHECK(fstat(fd, &stat_of) == 0 && (stat_of.st_mode & 0777) == 0600);
  close(fd);
  bad(SMN_STEP_WRITE, "none/file", NULL, ENOENT, "none/file");
  begin();
  good(SMN_STEP_SYNC, "file", NULL, NULL);
  CHECK_INT(times_synced("file"), 1);
  begin();
  good(SMN_STEP_SYNC, ".", NULL, NULL);
  CHECK_INT(times_synced("."), 1);
  bad(SMN_STEP_SYNC, "none", NULL, ENOENT, "none");
  good(SMN_STEP_RENAME, "file", "other", NULL);
  CHECK(!exists("file") && exists("other"));
  bad(SMN_STEP_RENAME, "file", "other", ENOENT, "file");
  good(SMN_STEP_DELETE, "other", NULL, NULL);
  good(SMN_STEP_DELETE, "other", NULL, NULL);
  CHECK(!exists("other"));
  make_folder("folder");
  bad(SMN_STEP_DELETE, "folder", NULL, EISDIR, "folder");
  good(SMN_STEP_REMOVE, "folder", NULL, NULL);
  free(path);
}

static void check_names(void) {
  CHECK_STRING(smn_step_errno_name(ENOSPC), "ENOSPC");
  CHECK(!smn_step_errno_name(0) && !smn_step_errno_name(EDOM));
#if defined __GLIBC__ && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 32)
  for (int errnum = 1; errnum < 200; errnum++) {
    const char *name = smn_step_errno_name(errnum);
    if (name)
      CHECK_STRING(name, strerrorname_np(errnum));
  }
#endif
}

#endif

int main(void) {
#ifdef __linux__
  if (!mkdtemp(folder))
    return 70;
  check_sync_all();
  check_remove();
  check_write();
  check_names();
  certs_remove(folder);
#endif
  return check_done("test-step");
}
