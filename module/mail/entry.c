/* SPDX-License-Identifier: GPL-3.0-or-later */
/* entry.c - the files of an entry of the outbox, read as those of a stranger.
   What is looked at is what is open: nothing can be put in its place.  */
#include "mail/entry.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[SMN_ENTRY_FILES] = {
    [SMN_ENTRY_ENVELOPE] = "message.el",
    [SMN_ENTRY_STATE] = "state",
    [SMN_ENTRY_RECEIPT] = "receipt",
};

static enum smn_entry_found read_file(int directory, const char *name,
                                      size_t max, struct smn_buf *content) {
  struct stat stat;
  int fd = smn_file_open_regular(directory, name);
  if (fd < 0)
    return errno == ENOENT ? SMN_ENTRY_MISSING : SMN_ENTRY_ODD;
  bool good = fstat(fd, &stat) == 0 && smn_file_ours(&stat) &&
              stat.st_size >= 0 && (uint64_t)stat.st_size <= max;
  if (good) {
    smn_buf_init(content, (size_t)stat.st_size + 1);
    good = smn_file_read_all(fd, content) == 0;
  }
  close(fd);
  return good ? SMN_ENTRY_READ : SMN_ENTRY_ODD;
}

bool smn_entry_read(const char *directory, size_t max,
                    struct smn_entry *entry) {
  struct stat stat;
  memset(entry, 0, sizeof *entry);
  for (int i = 0; i < SMN_ENTRY_FILES; i++)
    smn_buf_init(&entry->files[i].content, 0);
  int fd = smn_file_open_directory(AT_FDCWD, directory, false);
  if (fd < 0)
    return false;
  bool good = fstat(fd, &stat) == 0 && smn_file_ours(&stat);
  for (int i = 0; good && i < SMN_ENTRY_FILES; i++)
    entry->files[i].found =
        read_file(fd, names[i], max, &entry->files[i].content);
  if (good && fstatat(fd, "message", &stat, AT_SYMLINK_NOFOLLOW) == 0) {
    entry->message = S_ISREG(stat.st_mode) && smn_file_ours(&stat)
                         ? SMN_ENTRY_READ
                         : SMN_ENTRY_ODD;
    entry->size = (uint64_t)stat.st_size;
  } else if (good && errno != ENOENT)
    entry->message = SMN_ENTRY_ODD;
  close(fd);
  return good;
}

void smn_entry_free(struct smn_entry *entry) {
  for (int i = 0; i < SMN_ENTRY_FILES; i++)
    smn_buf_free(&entry->files[i].content);
}
