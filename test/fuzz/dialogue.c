/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialogue.c - whole dialogues with a server that knows what it has taken.
   dialogue [-n COUNT] [-s SEED] [-v]: play the dialogues of COUNT seeds from
   SEED on, and judge each: README.org of this folder.  A child plays them, so
   that one that dies or hangs is a failure of that seed and of no other.
   dialogue -p: plant faults, and see that each is noticed.  */
#include "certs.h"
#include "drive.h"
#include "plant.h"
#include "server.h"
#include "truth.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define HANG_S 8          /* real seconds for one dialogue */
#define TICKS_MAX 2000000 /* system calls of one dialogue */

struct truths truths;
enum plant plant;

static char folder[64];
static bool verbose;

/* Shared with the child.  */
static struct progress {
  uint64_t seed; /* that is being played */
  unsigned passed, failed;
  char why[sizeof truths.why]; /* the first rule that was broken */
} * progress;

void note(const char *format, ...) {
  va_list args;
  if (!truths.transcript)
    return;
  fprintf(truths.transcript, "%7lld ",
          (long long)(world_now_ms() - truths.begin_ms));
  va_start(args, format);
  vfprintf(truths.transcript, format, args);
  va_end(args);
  if (format[strlen(format) - 1] != '\n')
    fputc('\n', truths.transcript);
}

void broken(const char *format, ...) {
  va_list args;
  char why[sizeof truths.why];
  va_start(args, format);
  vsnprintf(why, sizeof why, format, args);
  va_end(args);
  note("!! %s", why);
  if (!truths.why[0])
    memcpy(truths.why, why, sizeof why);
  if (!progress->why[0])
    memcpy(progress->why, why, sizeof why);
}

/* Print the transcript, or what there is of it.  */
static void show(const char *text) {
  if (plant)
    return;
  printf("seed %llu: %s\n", (unsigned long long)truths.plan->seed,
         truths.why[0] ? truths.why : "passed");
  plan_print(truths.plan, stdout);
  fputs(text, stdout);
  puts("");
  fflush(stdout);
}

static char *text;
static size_t text_len;

/* The dialogue cannot go on, and with it the process.  */
static void die(const char *why) {
  broken("%s", why);
  fflush(truths.transcript);
  show(text);
  _exit(3);
}

static void stuck(void) { die("everything waits for ever"); }

static void tick(void) {
  drive_tick();
  if (world_ticks() > TICKS_MAX)
    die("it goes round and round");
}

/* What is said then may fail, but there is nothing to lose any more.  */
static void on_alarm(int number) {
  (void)number;
  die("it hangs in real time");
}

#ifdef __SANITIZE_ADDRESS__
static void on_death(void) {
  if (!truths.transcript)
    return;
  broken("a sanitizer ends it");
  fflush(truths.transcript);
  show(text);
}
#endif

static const struct world_hooks hooks = {
    .step = server_step,
    .due = server_due,
    .tick = tick,
    .connect = server_connect,
    .send = server_send,
    .sent = server_sent,
    .looked = server_looked,
    .stuck = stuck,
    .sync = server_sync,
};

static unsigned open_files(void) {
  unsigned count = 0;
  for (int fd = 0; fd < 256; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* Play one dialogue.  True if no rule was broken.  */
static bool play(uint64_t seed, const struct sockaddr_un *address,
                 int listening) {
  static int runs;
  struct plan plan;
  plan_make(&plan, seed);
  struct drive drive = {.plan = &plan,
                        .folder = folder,
                        .socket = address->sun_path,
                        .port = 1 + runs++ % 60000};
  memset(&truths, 0, sizeof truths);
  truths.plan = &plan;
  truths.folder = folder;
  truths.transcript = open_memstream(&text, &text_len);
  world_begin(&hooks, seed, plan.eager, plan.yield);
  truths.begin_ms = world_now_ms();
  server_begin(folder, address, listening);
  unsigned before = open_files();
  alarm(HANG_S);
  if (plan.by_session)
    drive_session(&drive);
  else
    drive_engine(&drive);
  world_settle();
  if (server_open() && !truths.why[0])
    note("-- connections are open");
  server_end();
  alarm(0);
  if (open_files() != before)
    broken("%u descriptors before, %u now", before, open_files());
  judge(&plan, drive.outcomes, drive.stopped);
  drive_clean(&drive);
  fclose(truths.transcript);
  truths.transcript = NULL;
  if (truths.why[0] || verbose)
    show(text);
  free(text);
  text = NULL;
  return !truths.why[0];
}

/* Life */

static int listen_at(struct sockaddr_un *address) {
  *address = (struct sockaddr_un){.sun_family = AF_UNIX};
  snprintf(address->sun_path, sizeof address->sun_path, "%s/s", folder);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)address, sizeof *address) != 0 ||
      listen(fd, 64) != 0)
    abort();
  return fd;
}

/* The child: from SEED on, up to END.  */
static int play_all(uint64_t seed, uint64_t end) {
  struct sockaddr_un address;
  char command[200];
  snprintf(command, sizeof command, "rm -rf %s/s %s/j*", folder, folder);
  if (system(command) != 0)
    abort();
  int listening = listen_at(&address);
  signal(SIGALRM, on_alarm);
  signal(SIGPIPE, SIG_IGN);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_set_death_callback(on_death);
#endif
  for (; seed != end; seed++) {
    progress->seed = seed;
    if (play(seed, &address, listening))
      progress->passed++;
    else if (progress->failed++, plant)
      return 0;
  }
  progress->seed = end;
  return 0;
}

/* Let a child play them, and another one what is left when it dies.  */
static void supervise(uint64_t seed, uint64_t end) {
  int status;
  for (;;) {
    progress->seed = seed;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
      exit(play_all(seed, end));
    if (child < 0 || waitpid(child, &status, 0) != child)
      abort();
    if (status == 0)
      return;
    progress->failed++;
    if (plant) { /* one is enough */
      if (progress->seed == end && !progress->why[0])
        strcpy(progress->why, "leaks");
      return;
    }
    if (progress->seed == end) {
      printf("failed at the end (leaks?): status %#x\n", (unsigned)status);
      return;
    }
    printf("seed %llu: died, status %#x\n", (unsigned long long)progress->seed,
           (unsigned)status);
    seed = progress->seed + 1;
    if (seed == end)
      return;
  }
}

static void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  if (system(command) != 0)
    abort();
}

/* Each fault that can be planted has to be noticed, in the right words.  */
static bool prove(void) {
  static const char *const words[PLANTS] = {
      [PLANT_TWO_OUTCOMES] = "2 outcomes",
      [PLANT_OK] = "the server has taken it never",
      [PLANT_OTHERS] = "the server has taken it for others",
      [PLANT_CERTAIN] = "and the server has taken it",
      [PLANT_DOUBT] = "in doubt, and",
      [PLANT_FAILED] = "the server has taken it",
      [PLANT_AGAIN] = "taken twice",
      [PLANT_AHEAD] = "replies are owed",
      [PLANT_DEAF] = "a reply that nobody asked for",
      [PLANT_OCTET] = "another content",
      [PLANT_QUIT] = "another content",
      [PLANT_NO_TIMEOUTS] = "no outcome in time",
      [PLANT_NO_CANCEL] = "after the wish to cancel",
      [PLANT_LEAK] = "leaks",
      [PLANT_DESCRIPTOR] = "descriptors before",
      [PLANT_PASSWORD] = "the password is shown",
      [PLANT_RECEIPT] = "its receipt lacks",
      [PLANT_UNMARKED] = "without a mark of doubt",
  };
  unsigned noticed = 0;
  for (plant = PLANT_NONE + 1; plant < PLANTS; plant++) {
    *progress = (struct progress){.seed = 0};
    world_no_timeouts = plant == PLANT_NO_TIMEOUTS;
    supervise(1, plant == PLANT_LEAK ? 20 : 3000);
    bool good = strstr(progress->why, words[plant]) != NULL;
    printf("plant %d: %s: %s\n", plant, good ? "noticed" : "NOT NOTICED",
           progress->why);
    noticed += good;
  }
  printf("test-fuzz: %u passed, %u failed\n", noticed, PLANTS - 1 - noticed);
  return noticed == PLANTS - 1;
}

int main(int argc, char **argv) {
  unsigned long long count = 300, seed = 1;
  int option;
  bool proof = false;
  while ((option = getopt(argc, argv, "n:s:pv")) != -1)
    switch (option) {
    case 'n':
      count = strtoull(optarg, NULL, 10);
      break;
    case 's':
      seed = strtoull(optarg, NULL, 10);
      break;
    case 'p':
      proof = true;
      break;
    case 'v':
      verbose = true;
      break;
    default:
      return 2;
    }
  snprintf(folder, sizeof folder, "%s/smn-fuzz-XXXXXX",
           access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!mkdtemp(folder) || progress == MAP_FAILED || !certs_make(folder))
    return 2;
  if (proof) {
    bool good = prove();
    remove_folder();
    return !good;
  }
  supervise(seed, seed + count);
  remove_folder();
  printf("test-fuzz: %u passed, %u failed\n", progress->passed,
         progress->failed);
  return progress->failed > 0;
}
