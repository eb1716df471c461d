/* SPDX-License-Identifier: GPL-3.0-or-later */
/* claim.c - who may work on an entry of the outbox.
   flock and not fcntl: the latter's locks are lost as soon as anything in this
   process closes the file, and do not exclude a second claim from here.  */
#include "mail/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static struct claim {
  struct claim *next;
  int number;
  int fd;
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

enum smn_kind smn_claim_take(const char *file, int *claim,
                             struct smn_error *err) {
  enum smn_kind kind = SMN_OK;
  struct claim *made = malloc(sizeof *made);
  *claim = 0;
  if (!made)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  int fd = open_lock(file);
  if (fd < 0) {
    /* The one who held it has just taken the directory away.  */
    if (errno != ENOENT)
      kind = smn_fail_errno(err, SMN_FILE, errno, "cannot lock %s", file);
  } else if (lock(fd) != 0) {
    if (errno != EWOULDBLOCK)
      kind = smn_fail_errno(err, SMN_FILE, errno, "cannot lock %s", file);
  } else if (in_place(file, fd)) {
    *made = (struct claim){claims, ++last_number, fd};
    *claim = made->number;
    claims = made;
    return SMN_OK;
  }
  if (fd >= 0)
    close(fd);
  free(made);
  return kind;
}

bool smn_claim_release(int claim) {
  for (struct claim **at = &claims; *at; at = &(*at)->next)
    if ((*at)->number == claim) {
      struct claim *found = *at;
      *at = found->next;
      close(found->fd);
      free(found);
      return true;
    }
  return false;
}
