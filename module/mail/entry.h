/* SPDX-License-Identifier: GPL-3.0-or-later */
/* entry.h - the files of an entry of the outbox, read as those of a stranger.
   A file counts only if it is regular, ours, and not writable by others; the
   same holds for its directory.  Whatever is different is left to the caller,
   who looks again and says what is wrong.  Owns what it has read until
   smn_entry_free; any thread.  */
#ifndef SMN_ENTRY_H
#define SMN_ENTRY_H

#include "base/buf.h"
#include <stdint.h>

enum smn_entry_file {
  SMN_ENTRY_ENVELOPE,
  SMN_ENTRY_STATE,
  SMN_ENTRY_RECEIPT,
  SMN_ENTRY_FILES
};

enum smn_entry_found {
  SMN_ENTRY_MISSING,
  SMN_ENTRY_READ,
  SMN_ENTRY_ODD /* no file of ours, too long, or it cannot be read */
};

struct smn_entry {
  struct {
    enum smn_entry_found found;
    struct smn_buf content; /* if found is SMN_ENTRY_READ */
  } files[SMN_ENTRY_FILES];
  enum smn_entry_found message; /* which is not read */
  uint64_t size;                /* of the message */
};

/* Read the entry in DIRECTORY; a file of more than MAX octets is odd.  False if
   the directory is missing or odd itself; *ENTRY can be freed in any case.  */
bool smn_entry_read(const char *directory, size_t max, struct smn_entry *entry);
void smn_entry_free(struct smn_entry *entry);

#endif
