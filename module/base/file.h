/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file.h - files and directories that survive a loss of power.
   Every call is checked, one that a signal interrupts is repeated, and what
   fails leaves its errno.  A name is one component below the open directory
   that comes with it, or a whole path with AT_FDCWD.  Owns nothing; any
   thread.  What stands in a directory is untrusted: nothing here waits for a
   FIFO or a device, and only what the user has named may be a link.  */
#ifndef SMN_FILE_H
#define SMN_FILE_H

#include "base/buf.h"
#include "base/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Open a directory.  FOLLOW: it may be a symbolic link.  Returns a descriptor
   or -1.  */
int smn_file_open_directory(int directory, const char *name, bool follow);

/* Open a regular file to be read; anything else is EINVAL (ELOOP for a
   link).  Returns a descriptor or -1.  */
int smn_file_open_regular(int directory, const char *name);

/* Open the regular FILE that the user has named, and may be a link, to be read.
   On SMN_OK the caller owns *FD, and *SIZE is its length; else *FD is -1, and
   SMN_FILE calls it WHAT.  */
enum smn_kind smn_file_open_named(const char *file, const char *what, int *fd,
                                  uint64_t *size, struct smn_error *err);

/* Read the whole of FILE, which has at most MAX octets, as above, into
   *CONTENT, which the caller frees in any case.  What is looked at is what is
   used, even if FILE is replaced meanwhile.  */
enum smn_kind smn_file_load(const char *file, const char *what, size_t max,
                            bool secret, struct smn_buf *content,
                            struct smn_error *err);

/* Read FD to its end.  *CONTENT has room for one octet more than there should
   be, by which growth is noticed.  Returns an errno, 0 for good.  */
int smn_file_read_all(int fd, struct smn_buf *content);

/* STAT is that of something that belongs to this user and that no one else may
   write to.  */
bool smn_file_ours(const struct stat *stat);

/* Make the new file NAME of mode 0600 to be written.  Returns a descriptor or
   -1.  */
int smn_file_create(int directory, const char *name);

bool smn_file_write_all(int fd, const void *bytes, size_t len);

/* Bring the content of FD to the disk itself, through its cache.  */
bool smn_file_sync(int fd);

/* The same for a directory.  A file system that cannot sync one has no need
   of it, which counts as good.  */
bool smn_file_sync_directory(int fd);

/* Open the directory PATH, which may be a link, and sync it: the names in it
   are durable then.  */
bool smn_file_sync_names(const char *path);

/* Close FD and return GOOD; false when closing reports that what was written
   is lost.  An errno of what failed before stays.  */
bool smn_file_close(int fd, bool good);

/* Make the LEN octets at BYTES the content of NAME, a file of mode 0600: write
   TEMPORARY, sync it and rename it.  The rename itself is durable after
   smn_file_sync_directory.  On failure NAME is as it was, and TEMPORARY is
   gone if that was possible.  */
bool smn_file_replace(int directory, const char *name, const char *temporary,
                      const void *bytes, size_t len);

/* Call VISIT for each entry of the open DIRECTORY but "." and "..", until it
   returns false.  False, too, when the directory cannot be read.  */
typedef bool smn_file_visit(int directory, const char *name, void *context);
bool smn_file_each(int directory, smn_file_visit *visit, void *context);

#endif
