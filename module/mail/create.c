/* SPDX-License-Identifier: GPL-3.0-or-later */
/* create.c - a new entry of the outbox.
   Each operation may take long: a directory of a network, a disk that sleeps.
   The first one tells, and what does not depend on each other is then done side
   by side.  */
#include "mail/create.h"
#include "base/abreast.h"
#include "base/file.h"
#include "base/wait.h"
#include "mail/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The directory that holds NAME, to be freed; NULL without memory.  */
static char *above(const char *name) {
  const char *slash = strrchr(name, '/');
  return slash && slash > name ? strndup(name, (size_t)(slash - name))
                               : strdup(slash ? "/" : ".");
}

/* NAME may be a link of the user, who keeps the outbox elsewhere.  */
static bool trusted(const char *name) {
  struct stat stat_;
  if (stat(name, &stat_) != 0)
    return false;
  if (!S_ISDIR(stat_.st_mode))
    errno = ENOTDIR;
  else if (!smn_file_ours(&stat_))
    errno = EPERM;
  else
    return true;
  return false;
}

/* Make NAME and what is missing above it.  Another process may do so at the
   same time.  Returns how many were made, -1 for failure.  */
static int make_path(const char *name) {
  if (mkdir(name, 0700) == 0)
    return 1;
  if (errno == EEXIST)
    return 0;
  char *parent = errno == ENOENT ? above(name) : NULL;
  int made = parent && strcmp(parent, name) != 0 ? make_path(parent) : -1;
  if (made >= 0 && mkdir(name, 0700) == 0)
    made++;
  else if (made >= 0 && errno != EEXIST)
    made = -1;
  int errnum = errno;
  free(parent);
  errno = errnum;
  return made;
}

/* Make the names of NAME and of MADE - 1 directories above it durable.  */
static bool sync_names(const char *name, int made) {
  char *at = strdup(name), *next;
  bool good = at != NULL;
  for (; good && made > 0; made--, at = next) {
    next = above(at);
    good = next && smn_file_sync_names(next);
    int errnum = errno;
    free(at);
    errno = errnum;
  }
  free(at);
  return good;
}

bool smn_create_area(const char *name) {
  if (trusted(name))
    return true;
  int made = errno == ENOENT ? make_path(name) : -1;
  return made >= 0 && sync_names(name, made) && trusted(name);
}

/* What is done before the rename, in any order: the lock, the areas, the
   parts.  */
struct work {
  const char *directory;
  int claim;
  const struct smn_part *parts;
  char *areas[3];
  int made[3];          /* directories, that one and above it; -1: failed */
  pthread_mutex_t lock; /* of what follows */
  int errnum;           /* of the first failure, 0 for none */
  char *failed;
  size_t size;
};

static void fail(struct work *work, const char *name, int errnum) {
  pthread_mutex_lock(&work->lock);
  if (!work->errnum) {
    work->errnum = errnum ? errnum : EIO;
    snprintf(work->failed, work->size, "%s", name);
  }
  pthread_mutex_unlock(&work->lock);
}

static char *path_in(const char *directory, const char *name) {
  size_t size = strlen(directory) + strlen(name) + 2;
  char *path = malloc(size);
  if (path)
    snprintf(path, size, "%s/%s", directory, name);
  return path;
}

static void take_claim(struct work *work) {
  struct smn_error err;
  bool held = false;
  char *file = path_in(work->directory, "lock");
  errno = ENOMEM;
  if (!file || smn_claim_hold(work->claim, file, &held, &err) != SMN_OK ||
      !held)
    fail(work, "lock", errno);
  free(file);
}

static void write_part(struct work *work, const struct smn_part *part) {
  char *file = path_in(work->directory, part->name);
  int fd = file ? smn_file_create(AT_FDCWD, file) : -1;
  bool good = fd >= 0 && smn_file_write_all(fd, part->octets, part->len);
  if (fd < 0 || !smn_file_close(fd, good))
    fail(work, part->name, errno);
  free(file);
}

/* One that was made here needs no look, but its name a sync.  */
static void look_at_area(struct work *work, size_t i) {
  if (!work->areas[i])
    fail(work, "", ENOMEM);
  else if (work->made[i] > 0 ? !sync_names(work->areas[i], work->made[i])
                             : !smn_create_area(work->areas[i]))
    fail(work, "..", errno);
}

static void make_area(size_t i, void *context) {
  struct work *work = context;
  work->made[i] = work->areas[i] ? make_path(work->areas[i]) : -1;
}

#define AREAS (sizeof((struct work *)NULL)->areas / sizeof(char *))

static void do_one(size_t i, void *context) {
  struct work *work = context;
  if (i == 0)
    take_claim(work);
  else if (i > AREAS)
    write_part(work, &work->parts[i - AREAS - 1]);
  else
    look_at_area(work, i - 1);
}

/* Delete what was made.  No one else writes here.  */
static void clear(const char *directory, const struct smn_part *parts,
                  size_t count) {
  for (size_t i = 0; i <= count; i++) {
    char *file = path_in(directory, i < count ? parts[i].name : "lock");
    if (file)
      (void)unlink(file);
    free(file);
  }
  (void)rmdir(directory);
}

/* Make the directory of WORK, which must be new, and what is missing above
   it.  */
static bool make_directory(struct work *work, int64_t begin) {
  if (mkdir(work->directory, 0700) == 0)
    return true;
  if (errno != ENOENT)
    return false;
  /* Not the last, which is above both.  */
  smn_abreast(2, make_area, work, smn_slow_since(begin));
  return mkdir(work->directory, 0700) == 0;
}

bool smn_create(const char *directory, const char *target, int claim,
                const struct smn_part *parts, size_t count, char *failed,
                size_t size) {
  char *area = above(directory), *queue = above(target ? target : directory);
  struct work work = {.directory = directory,
                      .claim = claim,
                      .parts = parts,
                      .areas = {area, queue, queue ? above(queue) : NULL},
                      .lock = PTHREAD_MUTEX_INITIALIZER,
                      .failed = failed,
                      .size = size};
  int64_t begin = smn_now_ms();
  failed[0] = '\0';
  if (!make_directory(&work, begin))
    work.errnum = errno;
  else {
    smn_abreast(1 + AREAS + count, do_one, &work, smn_slow_since(begin));
    if (!work.errnum && target && rename(directory, target) != 0)
      work.errnum = errno;
    if (work.errnum)
      clear(directory, parts, count);
  }
  for (size_t i = 0; i < AREAS; i++)
    free(work.areas[i]);
  pthread_mutex_destroy(&work.lock);
  errno = work.errnum;
  return !work.errnum;
}
