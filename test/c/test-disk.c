/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-disk.c - the operations on the files of the outbox, and the thread that
   does them.  */
#include "base/file.h"
#include "check.h"
#include "engine/disk.h"
#include "engine/events.h"
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int wake[2];

static char *path(const char *name) {
  char made[512];
  snprintf(made, sizeof made, "%s/%s", folder, name);
  return strdup(made);
}

static void put(const char *name, const char *text) {
  char *file = path(name);
  FILE *out = fopen(file, "w");
  if (CHECK(out != NULL)) {
    fputs(text, out);
    fclose(out);
  }
  free(file);
}

/* The content of NAME, "(none)" if there is no such file.  */
static const char *get(const char *name) {
  static char text[4096];
  char *file = path(name);
  FILE *in = fopen(file, "r");
  strcpy(text, "(none)");
  if (in) {
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
  }
  free(file);
  return text;
}

static bool there(const char *name) {
  struct stat stat;
  char *file = path(name);
  bool is = lstat(file, &stat) == 0;
  free(file);
  return is;
}

static void make_directory(const char *name) {
  char *file = path(name);
  CHECK_INT(mkdir(file, 0700), 0);
  free(file);
}

static void make_link(const char *to, const char *name) {
  char *file = path(name);
  CHECK_INT(symlink(to, file), 0);
  free(file);
}

static void make_fifo(const char *name) {
  char *file = path(name);
  CHECK_INT(mkfifo(file, 0600), 0);
  free(file);
}

/* One step */

static struct smn_step step(enum smn_step_type type, const char *name,
                            const char *second) {
  struct smn_step made = {.type = type, .file = path(name)};
  if (type == SMN_STEP_WRITE) {
    made.octets = strdup(second);
    made.len = strlen(second);
  } else if (second)
    made.to = path(second);
  return made;
}

/* Run it; the errno of its failure, 0 for none.  */
static int run(enum smn_step_type type, const char *name, const char *second) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_step made = step(type, name, second);
  int errnum = -1;
  enum smn_kind kind = smn_step_run(&made, &err, &errnum);
  CHECK_INT(kind, errnum == 0 ? SMN_OK : SMN_FILE);
  if (errnum != 0)
    CHECK(strncmp(err.text, "cannot ", 7) == 0 && strstr(err.text, folder));
  smn_step_clear(&made);
  return errnum;
}

static void check_write(void) {
  struct stat stat_of;
  CHECK_INT(run(SMN_STEP_WRITE, "a", "one"), 0);
  CHECK_STRING(get("a"), "one");
  char *file = path("a");
  CHECK(chmod(file, 0644) == 0);
  CHECK_INT(run(SMN_STEP_WRITE, "a", "two"), 0);
  CHECK_STRING(get("a"), "two");
  CHECK(stat(file, &stat_of) == 0 && (stat_of.st_mode & 0777) == 0600);
  CHECK_INT(run(SMN_STEP_WRITE, "a", ""), 0);
  CHECK_STRING(get("a"), "");
  CHECK(!there("a.new"));
  free(file);
  CHECK_INT(run(SMN_STEP_WRITE, "nowhere/a", "x"), ENOENT);
  make_directory("d");
  CHECK_INT(run(SMN_STEP_WRITE, "d", "x"), EISDIR);
  CHECK(!there("d.new"));
}

/* A disk that fails.  Where F_FULLFSYNC is, fsync is not what syncs.  */
#ifndef F_FULLFSYNC
static int sync_errnum, sync_failures;

static int syncs; /* under gate, which holds syncs up */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

int fsync(int fd) {
  pthread_mutex_lock(&gate);
  syncs++;
  pthread_mutex_unlock(&gate);
  if (sync_failures > 0) {
    sync_failures--;
    errno = sync_errnum;
    return -1;
  }
  return fdatasync(fd);
}

/* Run it while the next FAILURES syncs fail.  */
static int run_failing(int errnum, int failures, enum smn_step_type type,
                       const char *name) {
  sync_errnum = errnum;
  sync_failures = failures;
  int result = run(type, name, type == SMN_STEP_WRITE ? "new" : NULL);
  CHECK_INT(sync_failures, 0);
  return result;
}

static void check_failing_sync(void) {
  CHECK_INT(run(SMN_STEP_WRITE, "a", "old"), 0);
  CHECK_INT(run_failing(EIO, 1, SMN_STEP_WRITE, "a"), EIO);
  CHECK_STRING(get("a"), "old");
  CHECK(!there("a.new"));
  CHECK_INT(run_failing(EINVAL, 1, SMN_STEP_WRITE, "a"), EINVAL);
  CHECK_INT(run_failing(EINTR, 3, SMN_STEP_WRITE, "a"), 0);
  CHECK_STRING(get("a"), "new");
  CHECK_INT(run_failing(EIO, 1, SMN_STEP_SYNC, "a"), EIO);
  CHECK_INT(run_failing(EIO, 1, SMN_STEP_SYNC, "d"), EIO);
  /* Some file systems cannot sync a directory, and need not.  */
  CHECK_INT(run_failing(EINVAL, 1, SMN_STEP_SYNC, "d"), 0);
  CHECK_INT(run_failing(ENOTSUP, 1, SMN_STEP_SYNC, "d"), 0);
  put("d/x", "x");
  CHECK_INT(run_failing(EIO, 1, SMN_STEP_SYNC_ALL, "d"), EIO);
  CHECK_INT(run_failing(EINVAL, 1, SMN_STEP_SYNC_ALL, "d"), EINVAL);
  CHECK_INT(run_failing(EINTR, 4, SMN_STEP_SYNC_ALL, "d"), 0);
}
#endif

/* What was planted in the place of the temporary file is not written to, and
   cannot hold the thread.  */
static void check_planted(void) {
  put("precious", "precious");
  make_link("precious", "a.new");
  CHECK_INT(run(SMN_STEP_WRITE, "a", "three"), 0);
  char *from = path("precious"), *to = path("a.new");
  CHECK_INT(link(from, to), 0);
  CHECK_INT(run(SMN_STEP_WRITE, "a", "four"), 0);
  make_fifo("a.new");
  CHECK_INT(run(SMN_STEP_WRITE, "a", "five"), 0);
  CHECK_STRING(get("precious"), "precious");
  CHECK_STRING(get("a"), "five");
  CHECK_INT(mkdir(to, 0700), 0);
  int errnum = run(SMN_STEP_WRITE, "a", "six");
  CHECK(errnum == EISDIR || errnum == EPERM);
  CHECK_STRING(get("a"), "five");
  CHECK_INT(rmdir(to), 0);
  free(from);
  free(to);
}

/* No file may grow: the disk is as good as full.  What stood there stays.  */
static void check_full(void) {
  struct rlimit before, none;
  CHECK_INT(run(SMN_STEP_WRITE, "a", "old"), 0);
  getrlimit(RLIMIT_FSIZE, &before);
  none = (struct rlimit){2, before.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  fflush(stdout);
  setrlimit(RLIMIT_FSIZE, &none);
  int errnum = run(SMN_STEP_WRITE, "a", "new");
  setrlimit(RLIMIT_FSIZE, &before);
  CHECK_INT(errnum, EFBIG);
  CHECK_STRING(get("a"), "old");
  CHECK(!there("a.new"));
}

static void check_sync(void) {
  make_fifo("fifo");
  make_link("a", "link");
  make_link("d", "link-d");
  make_link("nowhere", "dangling");
  CHECK_INT(run(SMN_STEP_SYNC, "a", NULL), 0);
  CHECK_INT(run(SMN_STEP_SYNC, "d", NULL), 0);
  CHECK_INT(run(SMN_STEP_SYNC, "link-d", NULL), 0);
  CHECK_INT(run(SMN_STEP_SYNC, "nowhere", NULL), ENOENT);
  CHECK_INT(run(SMN_STEP_SYNC, "fifo", NULL), EINVAL);
  CHECK(run(SMN_STEP_SYNC, "link", NULL) != 0);
  CHECK_INT(run(SMN_STEP_SYNC_ALL, "", NULL), 0);
  CHECK_INT(run(SMN_STEP_SYNC_ALL, "nowhere", NULL), ENOENT);
  CHECK_INT(run(SMN_STEP_SYNC_ALL, "a", NULL), ENOTDIR);
}

static void check_rename(void) {
  put("from", "moved");
  CHECK_INT(run(SMN_STEP_RENAME, "from", "to"), 0);
  CHECK(!there("from"));
  CHECK_STRING(get("to"), "moved");
  CHECK_INT(run(SMN_STEP_RENAME, "from", "to"), ENOENT);
  CHECK_INT(run(SMN_STEP_DELETE, "to", NULL), 0);
  CHECK_INT(run(SMN_STEP_DELETE, "to", NULL), 0);
  CHECK(!there("to"));
  CHECK_INT(run(SMN_STEP_DELETE, "link", NULL), 0);
  CHECK(!there("link") && there("a"));
  CHECK(run(SMN_STEP_DELETE, "d", NULL) != 0);
  CHECK_INT(run(SMN_STEP_DELETE, "a/b", NULL), ENOTDIR);
}

static void check_remove(void) {
  char name[64];
  for (int i = 0; i < 300; i++) {
    snprintf(name, sizeof name, "d/%d", i);
    put(name, "x");
  }
  put("d/receipt", "x");
  make_fifo("d/fifo");
  make_link("../precious", "d/link");
  CHECK_INT(run(SMN_STEP_REMOVE, "d", NULL), 0);
  CHECK(!there("d"));
  CHECK_INT(run(SMN_STEP_REMOVE, "d", NULL), 0);
  CHECK_STRING(get("precious"), "precious");
  /* A link is not the directory to which it points.  */
  make_directory("real");
  put("real/x", "x");
  make_link("real", "to-real");
  CHECK(run(SMN_STEP_REMOVE, "to-real", NULL) != 0);
  CHECK_STRING(get("real/x"), "x");
  CHECK(run(SMN_STEP_REMOVE, "precious", NULL) != 0);
  /* The receipt stays as long as anything else does.  */
  put("real/receipt", "x");
  make_directory("real/sub");
  CHECK(run(SMN_STEP_REMOVE, "real", NULL) != 0);
  CHECK(there("real/receipt"));
  CHECK_INT(run(SMN_STEP_REMOVE, "real/sub", NULL), 0);
  CHECK_INT(run(SMN_STEP_REMOVE, "real", NULL), 0);
}

/* A log: whole lines, for this user only, and not longer than wanted.  */
static int add(const char *name, const char *line, long limit) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_step made = {.type = SMN_STEP_APPEND,
                          .file = path(name),
                          .octets = strdup(line),
                          .len = strlen(line),
                          .limit = limit};
  int errnum = -1;
  enum smn_kind kind = smn_step_run(&made, &err, &errnum);
  CHECK_INT(kind, errnum == 0 ? SMN_OK : SMN_FILE);
  smn_step_clear(&made);
  return errnum;
}

static void check_append(void) {
  struct stat stat_of;
  char *file = path("log");
  CHECK_INT(add("log", "one\n", 10), 0);
  CHECK(stat(file, &stat_of) == 0 && (stat_of.st_mode & 0777) == 0600);
  CHECK_INT(add("log", "two\n", 10), 0);
  CHECK_STRING(get("log"), "one\ntwo\n");
  CHECK_INT(add("log", "three\n", 10), 0);
  CHECK_STRING(get("log"), "three\n");
  CHECK_STRING(get("log.1"), "one\ntwo\n");
  CHECK_INT(add("log", "a line that is longer than all\n", 10), 0);
  CHECK_STRING(get("log"), "a line that is longer than all\n");
  CHECK_STRING(get("log.1"), "three\n");
  CHECK_INT(add("log", "x\n", 0), 0);
  CHECK_STRING(get("log"), "a line that is longer than all\nx\n");
  /* What others may write to, or is no file, is none of ours.  */
  CHECK(chmod(file, 0622) == 0);
  CHECK_INT(add("log", "x\n", 0), EPERM);
  CHECK_INT(add("d", "x\n", 0), EISDIR);
  CHECK(add("fifo", "x\n", 0) != 0);
  CHECK_INT(add("nowhere/log", "x\n", 0), ENOENT);
  free(file);
  CHECK_INT(run(SMN_STEP_DELETE, "log", NULL), 0);
  CHECK_INT(run(SMN_STEP_DELETE, "log.1", NULL), 0);
}

static void check_names(void) {
  CHECK_STRING(smn_step_errno_name(ENOSPC), "ENOSPC");
  CHECK_STRING(smn_step_errno_name(EIO), "EIO");
  CHECK(!smn_step_errno_name(0));
}

/* The thread */

static long submit(struct smn_step first, struct smn_step second) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_step *steps = calloc(2, sizeof *steps);
  long id = 0;
  steps[0] = first;
  steps[1] = second;
  CHECK_INT(smn_disk_submit(steps, 2, &id, &err), SMN_OK);
  CHECK(id > 0);
  return id; /* cppcheck-suppress memleak ; the task owns the steps */
}

/* Take COUNT events, which come in the order of their ids from FIRST on; the
   last one goes to *LAST, its text freed.  */
static void await(int count, long first, struct smn_event *last) {
  while (count > 0) {
    struct pollfd waiting = {.fd = wake[0], .events = POLLIN};
    char octet;
    bool more = true;
    if (!CHECK(poll(&waiting, 1, 15000) > 0 && read(wake[0], &octet, 1) == 1))
      return;
    const struct smn_event *event = smn_events_borrow(1, &more);
    if (!event)
      continue;
    CHECK_INT(event->id, first++);
    CHECK_INT(event->type, SMN_EVENT_DISK);
    *last = *event;
    count--;
    smn_events_delivered(1);
  }
}

static void check_thread(void) {
  struct smn_event last = {.id = 0};
  long first =
      submit(step(SMN_STEP_WRITE, "b", "x"), step(SMN_STEP_RENAME, "b", "c"));
  await(1, first, &last);
  CHECK(!last.failed);
  CHECK_STRING(get("c"), "x");
  /* A step that fails is the last one.  */
  await(1,
        submit(step(SMN_STEP_RENAME, "nowhere", "c"),
               step(SMN_STEP_DELETE, "c", NULL)),
        &last);
  CHECK(last.failed && last.step == 0 && last.errnum == ENOENT);
  CHECK(there("c"));
  await(
      1,
      submit(step(SMN_STEP_DELETE, "c", NULL), step(SMN_STEP_SYNC, "c", NULL)),
      &last);
  CHECK(last.failed && last.step == 1 && last.errnum == ENOENT);
}

/* Many are done in their order, also across ends of the thread.  */
static void check_order(void) {
  struct smn_event last = {.id = 0};
  long first = 0;
  char from[32], to[32];
  put("0", "x");
  for (int i = 0; i < 200; i++) {
    snprintf(from, sizeof from, "%d", i);
    snprintf(to, sizeof to, "%d", i + 1);
    long id =
        submit(step(SMN_STEP_RENAME, from, to), step(SMN_STEP_SYNC, to, NULL));
    first = first ? first : id;
    if (i % 50 == 0)
      CHECK(smn_disk_finish(10000));
  }
  CHECK(smn_disk_finish(10000));
  await(200, first, &last);
  CHECK(!last.failed);
  CHECK_STRING(get("200"), "x");
}

/* How many syncs it takes to do TASKS tasks, all of which are handed in before
   the first sync is done.  */
#ifndef F_FULLFSYNC
static int count_syncs(int tasks, enum smn_step_type type, const char *name,
                       const char *second) {
  struct smn_event last = {.id = 0};
  long first = 0;
  CHECK(smn_disk_finish(10000));
  pthread_mutex_lock(&gate);
  int before = syncs;
  for (int i = 0; i < tasks; i++) {
    long id = submit(step(type, name, second), step(SMN_STEP_SYNC, "s", NULL));
    first = first ? first : id;
  }
  pthread_mutex_unlock(&gate);
  await(tasks, first, &last);
  CHECK(!last.failed);
  CHECK(smn_disk_finish(10000));
  return syncs - before;
}

/* Tasks that wait share the sync of a directory, unless they have changed
   something in it since.  */
static void check_shared(void) {
  make_directory("s");
  /* One that began with the first task, one for all others.  */
  CHECK(count_syncs(20, SMN_STEP_SYNC, "s", NULL) <= 2);
  CHECK(count_syncs(20, SMN_STEP_REMOVE, "s/gone", NULL) <= 2);
  CHECK_INT(count_syncs(20, SMN_STEP_DELETE, "s/x", NULL), 20);
  CHECK_INT(count_syncs(20, SMN_STEP_WRITE, "s/x", "x"), 40);
  CHECK_INT(run(SMN_STEP_REMOVE, "s", NULL), 0);
}
#endif

/* What is done aside holds nothing up, is done in its order, and shares syncs
   as well.  */
#ifndef F_FULLFSYNC
static void check_aside(void) {
  struct smn_event last = {.id = 0};
  const struct smn_step aside = {.type = SMN_STEP_ASIDE};
  CHECK(smn_disk_finish(10000));
  make_directory("s");
  put("here", "x");
  pthread_mutex_lock(&gate);
  int before = syncs;
  long first = submit(aside, step(SMN_STEP_SYNC, "s", NULL));
  for (int i = 1; i < 20; i++)
    submit(aside, step(SMN_STEP_SYNC, "s", NULL));
  await(1,
        submit(step(SMN_STEP_RENAME, "here", "there"),
               step(SMN_STEP_DELETE, "there", NULL)),
        &last);
  CHECK(!last.failed && !there("here"));
  pthread_mutex_unlock(&gate);
  await(20, first, &last);
  CHECK(!last.failed);
  CHECK(smn_disk_finish(10000));
  CHECK(syncs - before <= 2);
  CHECK_INT(run(SMN_STEP_REMOVE, "s", NULL), 0);
}
#endif

/* What was not delivered is lent again, in its order.  */
static void check_lent(void) {
  bool more = false;
  struct smn_event last = {.id = 0};
  long first =
      submit(step(SMN_STEP_SYNC, "", NULL), step(SMN_STEP_SYNC, "", NULL));
  for (int i = 0; i < 2; i++)
    submit(step(SMN_STEP_SYNC, "", NULL), step(SMN_STEP_SYNC, "", NULL));
  CHECK(smn_disk_finish(10000));
  const struct smn_event *event = smn_events_borrow(2, &more);
  CHECK(more && event && event->id == first && event->next &&
        event->next->id == first + 1 && !event->next->next);
  CHECK(smn_events_borrow(2, &more) == event && more);
  CHECK(smn_events_borrow(1, &more) == event && more);
  smn_events_delivered(0);
  await(3, first, &last);
  CHECK(!smn_events_borrow(1, &more) && !more);
}

/* In a process of its own, whose user may have no thread: the task is refused,
   and nothing of it is done.  */
static bool refused(void) {
  struct smn_error err = {.kind = SMN_OK};
  const struct rlimit none = {1, 1};
  long id = 0;
  if (geteuid() == 0 && setuid(65534) != 0) /* root has no such limit */
    return false;
  struct smn_step *steps = calloc(1, sizeof *steps);
  steps[0] = step(SMN_STEP_DELETE, "precious", NULL);
  setrlimit(RLIMIT_NPROC, &none);
  enum smn_kind kind = smn_disk_submit(steps, 1, &id, &err);
  if (kind != SMN_OK)
    smn_disk_discard(steps, 1);
  return kind == SMN_SYSTEM && strstr(err.text, "cannot start a thread") &&
         smn_disk_finish(0);
}

static void check_no_thread(void) {
  int status = -1;
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0)
    _exit(refused() ? 0 : 1);
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void clean(void) {
  static const char *const names[] = {
      "a", "fifo", "link-d", "dangling", "precious", "to-real", "200"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    CHECK_INT(run(SMN_STEP_DELETE, names[i], NULL), 0);
  CHECK_INT(run(SMN_STEP_REMOVE, "", NULL), 0);
}

int main(void) {
  if (!mkdtemp(folder) || pipe(wake) != 0) {
    perror(folder);
    return 1;
  }
  smn_events_wake(wake[1]);
  check_no_thread();
  check_write();
#ifndef F_FULLFSYNC
  check_failing_sync();
#endif
  check_planted();
  check_full();
  check_sync();
  check_append();
  check_rename();
  check_remove();
  check_names();
  check_thread();
  check_order();
#ifndef F_FULLFSYNC
  check_shared();
  check_aside();
#endif
  check_lent();
  clean();
  smn_events_wake(-1);
  close(wake[0]);
  return check_done("test-disk");
}
