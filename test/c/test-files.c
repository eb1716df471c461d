/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-files.c - files that a job names: message, key, certificate, trust and
   revocation list.  What is no regular file, or too large, is told at once.  */
#include "base/file.h"
#include "check.h"
#include "folder.h"
#include "mail/content.h"
#include "net/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct smn_blocks blocks;

static enum smn_kind load(const struct smn_tls_options *options,
                          struct smn_error *err) {
  struct smn_trust *trust;
  bool ignored;
  enum smn_kind kind = smn_trust_load(&trust, options, &ignored, err);
  smn_trust_free(trust);
  return kind;
}

/* Use FILE as each kind of file in turn.  */

static enum smn_kind as_message(char *file, struct smn_error *err) {
  struct smn_content content;
  enum smn_kind kind = smn_content_open(&content, file, false, &blocks, err);
  smn_content_close(&content, &blocks);
  return kind;
}

static enum smn_kind as_key(char *file, struct smn_error *err) {
  const struct smn_tls_options options = {.key_file = file};
  return load(&options, err);
}

/* With a key that can be read.  */
static enum smn_kind as_certificate(char *file, struct smn_error *err) {
  char key[128];
  snprintf(key, sizeof key, "%s/empty", folder);
  const struct smn_tls_options options = {.key_file = key, .cert_file = file};
  return load(&options, err);
}

static enum smn_kind as_trust(char *file, struct smn_error *err) {
  char *files[] = {file, NULL};
  const struct smn_tls_options options = {.trustfiles = files};
  return load(&options, err);
}

static enum smn_kind as_crl(char *file, struct smn_error *err) {
  char *files[] = {file, NULL};
  const struct smn_tls_options options = {.crlfiles = files};
  return load(&options, err);
}

static const struct {
  const char *what;
  enum smn_kind (*use)(char *file, struct smn_error *err);
} kinds[] = {
    {"message", as_message},
    {"client key", as_key},
    {"client certificate", as_certificate},
    {"trust file", as_trust},
    {"revocation list", as_crl},
};

enum { KINDS = sizeof kinds / sizeof *kinds };

static void make(const char *name, off_t size) {
  char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  CHECK(fd >= 0 && ftruncate(fd, size) == 0);
  close(fd);
}

static void make_all(void) {
  char path[128];
  struct sockaddr_un local = {.sun_family = AF_UNIX};
  make("empty", 0);
  snprintf(path, sizeof path, "%s/fifo", folder);
  CHECK_INT(mkfifo(path, 0600), 0);
  CHECK_INT(
      snprintf(local.sun_path, sizeof local.sun_path, "%s/socket", folder) > 0,
      1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  CHECK_INT(bind(fd, (struct sockaddr *)&local, sizeof local), 0);
  close(fd);
  snprintf(path, sizeof path, "%s/link", folder);
  CHECK_INT(symlink("fifo", path), 0);
}

static void test_no_file(void) {
  static const struct {
    const char *name, *words;
  } cases[] = {
      {"fifo", ": not a regular file"},
      {"link", ": not a regular file"},
      {"socket", ": No such device or address"},
      {"", ": not a regular file"}, /* the folder itself */
      {"missing", ": No such file or directory"},
      {"empty/x", ": Not a directory"},
      {"/dev/zero", ": not a regular file"},
      {"/dev/null", ": not a regular file"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    for (size_t k = 0; k < KINDS; k++) {
      char path[128], text[256];
      struct smn_error err = {0};
      snprintf(path, sizeof path, "%s/%s", *cases[i].name == '/' ? "" : folder,
               cases[i].name);
      snprintf(text, sizeof text, "cannot read the %s %s%s", kinds[k].what,
               path, cases[i].words);
      CHECK_INT(kinds[k].use(path, &err), SMN_FILE);
      CHECK_STRING(err.text, text);
    }
}

/* A message may be as large as it likes.  */
static void test_too_large(void) {
  for (size_t k = 1; k < KINDS; k++) {
    char path[128];
    struct smn_error err = {0};
    make("large", k < 3 ? 1048577 : 67108865);
    snprintf(path, sizeof path, "%s/large", folder);
    CHECK_INT(kinds[k].use(path, &err), SMN_FILE);
    CHECK(strstr(err.text, k < 3 ? "larger than 1048576 octets"
                                 : "larger than 67108864 octets"));
  }
}

static void test_load(void) {
  char path[128];
  struct smn_buf content;
  struct smn_error err;
  snprintf(path, sizeof path, "%s/some", folder);
  for (int secret = 0; secret < 2; secret++)
    for (size_t len = 0; len < 3000; len = len * 3 + 1) {
      make("some", (off_t)len);
      CHECK_INT(smn_file_load(path, "list", 3000, secret, &content, &err),
                SMN_OK);
      CHECK_INT(content.len, len);
      CHECK(content.secret == (secret == 1));
      CHECK(content.data && content.data[len] == '\0');
      smn_buf_free(&content);
    }
  /* What grows while it is read: such a file tells that it is empty.  */
  CHECK_INT(
      smn_file_load("/proc/self/status", "list", 3000, false, &content, &err),
      SMN_FILE);
  CHECK(strstr(err.text, "cannot read the list /proc/self/status: "));
  smn_buf_free(&content);
}

static void test_no_leak(void) {
  int before = open("/dev/null", O_RDONLY);
  close(before);
  test_no_file();
  int after = open("/dev/null", O_RDONLY);
  close(after);
  CHECK_INT(after, before);
}

int main(void) {
  char command[64];
  if (!mkdtemp(folder) || !smn_blocks_init(&blocks))
    return 70;
  make_all();
  test_no_file();
  test_too_large();
  test_load();
  test_no_leak();
  smn_blocks_free(&blocks);
  snprintf(command, sizeof command, "rm -rf '%s'", folder);
  CHECK_INT(system(command), 0);
  return check_done("test-files");
}
