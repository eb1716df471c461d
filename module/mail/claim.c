/* SPDX-License-Identifier: GPL-3.0-or-later */
/* claim.c - who may work on an entry of the outbox.
   flock and not fcntl: the latter's locks are lost as soon as anything in this
   process closes the file, and do not exclude a second claim from here.  */
#include "mail/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t claims_lock = PTHREAD_MUTEX_INITIALIZER;

static struct claim {
  struct claim *next;
  int number;
  int fd; /* -1: it holds nothing */
} * claims;

static int last_number;

static int lock(int fd) {
  int status;
  do
    status = flock(fd, LOCK_EX | LOCK_NB);
  while (status != 0 && errno == EINTR);
  return status;
}

/* A new or an old lock, -1 with errno for anything but a regular file.  */
static int open_lock(const char *file) {
  struct stat stat;
  int fd;
  do
    fd = open(file, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC,
              0600);
  while (fd < 0 && errno == EINTR);
  if (fd < 0 || (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)))
    return fd;
  close(fd);
  errno = EINVAL;
  return -1;
}

/* FILE is still what FD has open: not removed, not replaced.  */
static bool in_place(const char *file, int fd) {
  struct stat opened, named;
  return fstat(fd, &opened) == 0 && stat(file, &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

int smn_claim_new(void) {
  struct claim *made = malloc(sizeof *made);
  int number = 0;
  if (made) {
    pthread_mutex_lock(&claims_lock);
    number = ++last_number;
    *made = (struct claim){claims, number, -1};
    claims = made;
    pthread_mutex_unlock(&claims_lock);
  }
  return number;
}

/* Under lock: where the CLAIM is in the list, or the NULL at its end.  */
static struct claim **find(int claim) {
  struct claim **at = &claims;
  while (*at && (*at)->number != claim)
    at = &(*at)->next;
  return at;
}

/* FD is the CLAIM's; one that was released meanwhile has no use for it.  */
static void give(int claim, int fd) {
  pthread_mutex_lock(&claims_lock);
  struct claim *found = *find(claim);
  if (found)
    found->fd = fd;
  pthread_mutex_unlock(&claims_lock);
  if (!found)
    close(fd);
}

enum smn_kind smn_claim_hold(int claim, const char *file, bool *held,
                             struct smn_error *err) {
  enum smn_kind kind = SMN_OK;
  int fd = open_lock(file);
  *held = false;
  if (fd < 0) {
    /* The one who held it has just taken the directory away.  */
    if (errno != ENOENT)
      kind = smn_fail_errno(err, SMN_FILE, errno, "cannot lock %s", file);
  } else if (lock(fd) != 0) {
    if (errno != EWOULDBLOCK)
      kind = smn_fail_errno(err, SMN_FILE, errno, "cannot lock %s", file);
  } else if (in_place(file, fd)) {
    give(claim, fd);
    *held = true;
    return SMN_OK;
  }
  if (fd >= 0)
    close(fd);
  return kind;
}

enum smn_kind smn_claim_take(const char *file, int *claim,
                             struct smn_error *err) {
  bool held;
  *claim = smn_claim_new();
  if (!*claim)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  enum smn_kind kind = smn_claim_hold(*claim, file, &held, err);
  if (!held) {
    smn_claim_release(*claim);
    *claim = 0;
  }
  return kind;
}

bool smn_claim_release(int claim) {
  pthread_mutex_lock(&claims_lock);
  struct claim **at = find(claim), *found = *at;
  if (found)
    *at = found->next;
  pthread_mutex_unlock(&claims_lock);
  if (!found)
    return false;
  if (found->fd >= 0)
    close(found->fd);
  free(found);
  return true;
}
