/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-create.c - a new entry of the outbox, on a quick disk and on a slow one;
   and what waits side by side.  */
#include "base/abreast.h"
#include "check.h"
#include "folder.h"
#include "mail/claim.h"
#include "mail/create.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int slow_ms; /* that a directory takes to be made */

int mkdir(const char *path, mode_t mode) {
  poll(NULL, 0, slow_ms);
  return (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

/* Up to four at a time.  */
static const char *path(const char *name) {
  static char made[4][512];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(made[turn], sizeof made[turn], "%s/%s", folder, name);
  return made[turn];
}

static bool there(const char *name) {
  struct stat stat;
  return lstat(path(name), &stat) == 0;
}

static const char *get(const char *name) {
  static char text[64];
  FILE *in = fopen(path(name), "r");
  strcpy(text, "(none)");
  if (in) {
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
  }
  return text;
}

static char octets[] = "one\0two";
static struct smn_part parts[] = {
    {(char[]){"message"}, octets, sizeof octets - 1},
    {(char[]){"state"}, (char[]){"(:status ready)"}, 15},
    {(char[]){"empty"}, (char[]){""}, 0},
};
#define PARTS (sizeof parts / sizeof *parts)

static int failed_errno;
static char failed[64];

static bool create(const char *name, const char *target, int claim) {
  char from[512], to[512];
  snprintf(from, sizeof from, "%s", path(name));
  if (target)
    snprintf(to, sizeof to, "%s", path(target));
  bool good = smn_create(from, target ? to : NULL, claim, parts, PARTS, failed,
                         sizeof failed);
  failed_errno = errno;
  return good;
}

/* Nobody else can have FILE.  */
static bool held(const char *file) {
  struct smn_error err;
  int claim = 0;
  CHECK_INT(smn_claim_take(path(file), &claim, &err), SMN_OK);
  if (claim)
    smn_claim_release(claim);
  return !claim;
}

static void clean(const char *name) {
  char command[600];
  snprintf(command, sizeof command, "rm -rf '%s'", path(name));
  CHECK_INT(system(command), 0);
}

static void check_whole(void) {
  struct stat stat_of;
  int claim = smn_claim_new();
  CHECK(claim > 0);
  CHECK(create("box/incoming/1", "box/queue/1", claim));
  CHECK(!there("box/incoming/1"));
  CHECK_STRING(get("box/queue/1/state"), "(:status ready)");
  CHECK_STRING(get("box/queue/1/empty"), "");
  CHECK(stat(path("box/queue/1/message"), &stat_of) == 0 &&
        stat_of.st_size == (off_t)sizeof octets - 1 &&
        (stat_of.st_mode & 0777) == 0600);
  CHECK(stat(path("box/queue"), &stat_of) == 0 &&
        (stat_of.st_mode & 0777) == 0700);
  CHECK(held("box/queue/1/lock"));
  CHECK(smn_claim_release(claim));
  CHECK(!smn_claim_release(claim));
  CHECK(!held("box/queue/1/lock"));
}

/* It stays where it is until its message is there.  */
static void check_half(void) {
  int claim = smn_claim_new();
  CHECK(create("box/incoming/2", NULL, claim));
  CHECK(held("box/incoming/2/lock"));
  CHECK_STRING(get("box/incoming/2/state"), "(:status ready)");
  smn_claim_release(claim);
}

/* The main thread may let go before it is made.  */
static void check_released(void) {
  int claim = smn_claim_new();
  smn_claim_release(claim);
  CHECK(create("box/incoming/3", "box/queue/3", claim));
  CHECK(!held("box/queue/3/lock"));
}

static void refuse(const char *name, const char *target, int errnum,
                   const char *where) {
  int claim = smn_claim_new();
  CHECK(!create(name, target, claim));
  CHECK_INT(failed_errno, errnum);
  CHECK_STRING(failed, where);
  smn_claim_release(claim);
}

static void check_failures(void) {
  /* The name is taken: by an entry that is being made, or that counts.  */
  refuse("box/incoming/2", "box/queue/2", EEXIST, "");
  CHECK_STRING(get("box/incoming/2/state"), "(:status ready)");
  refuse("box/incoming/1", "box/queue/1", ENOTEMPTY, "");
  CHECK_STRING(get("box/queue/1/state"), "(:status ready)");
  CHECK(!there("box/incoming/1"));
  /* A file that cannot be written.  */
  char *name = parts[2].name;
  parts[2].name = parts[1].name;
  refuse("box/incoming/4", "box/queue/4", EEXIST, "state");
  parts[2].name = name;
  CHECK(!there("box/incoming/4") && !there("box/queue/4"));
}

static void check_areas(void) {
  static const char *const areas[] = {"box", "box/queue", "box/incoming"};
  for (size_t i = 0; i < 3; i++) {
    CHECK(chmod(path(areas[i]), 0722) == 0);
    refuse("box/incoming/5", "box/queue/5", EPERM, "..");
    CHECK(!smn_create_area(path(areas[i])) && errno == EPERM);
    CHECK(chmod(path(areas[i]), 0700) == 0);
    CHECK(!there("box/incoming/5") && !there("box/queue/5"));
  }
  clean("box/queue");
  CHECK(close(open(path("box/queue"), O_CREAT | O_WRONLY, 0600)) == 0);
  refuse("box/incoming/5", "box/queue/5", ENOTDIR, "..");
  CHECK(!there("box/incoming/5"));
  /* A link is the user's, who keeps the outbox elsewhere.  */
  CHECK(unlink(path("box/queue")) == 0 && mkdir(path("away"), 0700) == 0 &&
        symlink(path("away"), path("box/queue")) == 0);
  int claim = smn_claim_new();
  CHECK(create("box/incoming/5", "box/queue/5", claim));
  CHECK(there("away/5/message"));
  smn_claim_release(claim);
  CHECK(smn_create_area(path("new/a/b")) && there("new/a/b"));
  CHECK(smn_create_area(path("new/a/b")));
  CHECK(!smn_create_area(path("away/5/message/x")) && errno == ENOTDIR);
}

static void check_all(void) {
  check_whole();
  check_half();
  check_released();
  check_failures();
  check_areas();
  clean("box");
  clean("away");
  clean("new");
}

#define MANY 40 /* more than there are threads for */

struct calls {
  int count[MANY];
  pthread_t threads[MANY];
};

static void note(size_t i, void *context) {
  struct calls *calls = context;
  calls->count[i]++;
  calls->threads[i] = pthread_self();
}

static void check_abreast(void) {
  for (int abreast = 0; abreast < 2; abreast++)
    for (size_t count = 0; count <= MANY; count++) {
      struct calls calls = {.count = {0}};
      smn_abreast(count, note, &calls, abreast);
      size_t own = 0;
      for (size_t i = 0; i < MANY; i++) {
        CHECK_INT(calls.count[i], i < count);
        own += i < count && pthread_equal(calls.threads[i], pthread_self());
      }
      CHECK_INT(own, !abreast || count < 2 ? count
                     : count <= 17         ? 1
                                           : count - 16);
    }
}

int main(void) {
  if (!mkdtemp(folder)) {
    perror(folder);
    return 1;
  }
  check_abreast();
  check_all();
  slow_ms = 20;
  check_all();
  CHECK(rmdir(folder) == 0);
  return check_done("test-create");
}
