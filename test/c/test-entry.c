/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-entry.c - the files of an entry are read as those of a stranger.  */
#include "check.h"
#include "folder.h"
#include "mail/entry.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const files[] = {"message.el", "state", "receipt",
                                    "message"};

static void put(const char *name, const char *text) {
  int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (CHECK(fd >= 0)) {
    CHECK_INT(write(fd, text, strlen(text)), strlen(text));
    close(fd);
  }
}

static void start(void) {
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    unlink(files[i]);
  put("message.el", "(setq x 1)\n");
  put("state", "(:status ready)\n");
  put("message", "Hello\n");
}

static void check_whole(void) {
  struct smn_entry entry;
  start();
  if (CHECK(smn_entry_read(folder, 100, &entry))) {
    CHECK_INT(entry.files[SMN_ENTRY_ENVELOPE].found, SMN_ENTRY_READ);
    CHECK_STRING(entry.files[SMN_ENTRY_ENVELOPE].content.data, "(setq x 1)\n");
    CHECK_STRING(entry.files[SMN_ENTRY_STATE].content.data,
                 "(:status ready)\n");
    CHECK_INT(entry.files[SMN_ENTRY_STATE].content.len, 16);
    CHECK_INT(entry.files[SMN_ENTRY_RECEIPT].found, SMN_ENTRY_MISSING);
    CHECK_INT(entry.message, SMN_ENTRY_READ);
    CHECK_INT(entry.size, 6);
  }
  smn_entry_free(&entry);
}

/* Read, and return what was found of NAME.  */
static enum smn_entry_found find(const char *name, size_t max) {
  struct smn_entry entry;
  enum smn_entry_found found = SMN_ENTRY_MISSING;
  if (CHECK(smn_entry_read(folder, max, &entry))) {
    found = entry.message;
    for (int i = 0; i < SMN_ENTRY_FILES; i++)
      if (strcmp(files[i], name) == 0)
        found = entry.files[i].found;
  }
  smn_entry_free(&entry);
  return found;
}

static void check_odd(void) {
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    const char *name = files[i];
    start();
    unlink(name);
    CHECK_INT(find(name, 100), SMN_ENTRY_MISSING);
    CHECK_INT(symlink(strcmp(name, "state") == 0 ? "message" : "state", name),
              0);
    CHECK_INT(find(name, 100), SMN_ENTRY_ODD);
    unlink(name);
    CHECK_INT(mkfifo(name, 0600), 0); /* which must not be waited for */
    CHECK_INT(find(name, 100), SMN_ENTRY_ODD);
    unlink(name);
    CHECK_INT(mkdir(name, 0700), 0);
    CHECK_INT(find(name, 100), SMN_ENTRY_ODD);
    rmdir(name);
    put(name, "x");
    CHECK_INT(chmod(name, 0620), 0);
    CHECK_INT(find(name, 100), SMN_ENTRY_ODD);
    CHECK_INT(chmod(name, 0602), 0);
    CHECK_INT(find(name, 100), SMN_ENTRY_ODD);
    CHECK_INT(chmod(name, 0644), 0);
    CHECK_INT(find(name, 100), SMN_ENTRY_READ);
    if (geteuid() == 0) {
      CHECK_INT(chown(name, 65534, 65534), 0);
      CHECK_INT(find(name, 100), SMN_ENTRY_ODD);
    }
    unlink(name);
  }
  start();
  put("state", "12345678901234567890");
  CHECK_INT(find("state", 20), SMN_ENTRY_READ);
  CHECK_INT(find("state", 19), SMN_ENTRY_ODD);
  put("state", "");
  CHECK_INT(find("state", 20), SMN_ENTRY_READ);
}

static void check_directory(void) {
  struct smn_entry entry;
  start();
  CHECK(!smn_entry_read("/nonexistent/entry", 100, &entry));
  smn_entry_free(&entry);
  CHECK(!smn_entry_read("state", 100, &entry));
  smn_entry_free(&entry);
  CHECK_INT(symlink(folder, "link"), 0);
  CHECK(!smn_entry_read("link", 100, &entry));
  smn_entry_free(&entry);
  unlink("link");
  CHECK_INT(chmod(folder, 0720), 0);
  CHECK(!smn_entry_read(folder, 100, &entry));
  smn_entry_free(&entry);
  CHECK_INT(chmod(folder, 0700), 0);
}

int main(void) {
  if (!CHECK(mkdtemp(folder) != NULL) || !CHECK(chdir(folder) == 0))
    return check_done("test-entry");
  check_whole();
  check_odd();
  check_directory();
  for (size_t i = 0; i < sizeof files / sizeof *files; i++)
    unlink(files[i]);
  CHECK_INT(chdir("/"), 0);
  CHECK_INT(rmdir(folder), 0);
  return check_done("test-entry");
}
