/* SPDX-License-Identifier: GPL-3.0-or-later */
/* killer.c - run a program and kill it at a certain instant.
   killer LOG STEP NTH MICROSECONDS LIMIT COMMAND...
   The instant is MICROSECONDS after the NTH line with the word STEP has come
   into the file LOG, or after the start if STEP is "time"; at the latest it is
   LIMIT milliseconds after the start.  STEP "never" lets the program end.
   With TERM in the environment set to other than "dumb" it gets a terminal.
   Says "killed", "late" or "ended STATUS".  */
#define _XOPEN_SOURCE 700 /* pseudo terminals */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct watch {
  int fd;
  const char *step;
  long wanted;
  char line[512];
  size_t len;
};

static long long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

/* "3 content <id>" has the step "content".  */
static bool is_step(const char *line, const char *step) {
  const char *word = strchr(line, ' ');
  size_t len = strlen(step);
  return word && strncmp(word + 1, step, len) == 0 &&
         (word[1 + len] == ' ' || word[1 + len] == '\0');
}

/* Read what is new in the log; true when the step has come often enough.  */
static bool seen(struct watch *w) {
  char octets[4096];
  ssize_t n;
  while (w->wanted > 0 && (n = read(w->fd, octets, sizeof octets)) > 0)
    for (ssize_t i = 0; i < n; i++)
      if (octets[i] == '\n') {
        w->line[w->len] = '\0';
        w->len = 0;
        w->wanted -= is_step(w->line, w->step);
      } else if (w->len + 1 < sizeof w->line)
        w->line[w->len++] = octets[i];
  return w->wanted <= 0;
}

static void become(char **command, int terminal) {
  const char *name = terminal < 0 ? NULL : ptsname(terminal);
  if (name) {
    setsid();
    int slave = open(name, O_RDWR);
    ioctl(slave, TIOCSCTTY, 0);
    ioctl(slave, TIOCSWINSZ, &(struct winsize){24, 80, 0, 0});
    for (int fd = 0; fd < 3; fd++)
      dup2(slave, fd);
    if (slave > 2)
      close(slave);
    close(terminal);
  }
  execvp(command[0], command);
  _exit(127);
}

static int open_terminal(void) {
  const char *type = getenv("TERM");
  if (!type || strcmp(type, "dumb") == 0)
    return -1;
  int fd = posix_openpt(O_RDWR | O_NOCTTY);
  if (fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0) {
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fd;
  }
  return -1;
}

/* Wait a moment; what is written on the terminal is of no interest.  */
static void rest(int terminal) {
  char octets[4096];
  struct pollfd poller = {.fd = terminal, .events = POLLIN};
  if (terminal >= 0 && poll(&poller, 1, 0) > 0 && (poller.revents & POLLIN) &&
      read(terminal, octets, sizeof octets) > 0)
    return;
  nanosleep(&(struct timespec){0, 100000}, NULL);
}

static int attend(pid_t pid, struct watch *w, int terminal, long after_us,
                  long limit_ms) {
  long long start = now_us(), last = start + limit_ms * 1000LL, due = last;
  bool never = strcmp(w->step, "never") == 0, set = false;
  int status = 0;
  if (strcmp(w->step, "time") == 0)
    w->wanted = 0;
  for (;;) {
    if (waitpid(pid, &status, WNOHANG) == pid) {
      printf("ended %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128);
      return 0;
    }
    if (!never && !set && seen(w)) {
      set = true;
      due = now_us() + after_us;
      if (strcmp(w->step, "time") == 0)
        due = start + after_us;
    }
    if (now_us() >= due || now_us() >= last)
      break;
    rest(terminal);
  }
  kill(pid, SIGKILL);
  waitpid(pid, &status, 0);
  puts(set && now_us() < last ? "killed" : "late");
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 7) {
    fputs("usage: killer LOG STEP NTH MICROSECONDS LIMIT COMMAND...\n", stderr);
    return 64;
  }
  struct watch watch = {.fd =
                            open(argv[1], O_RDONLY | O_CREAT | O_CLOEXEC, 0600),
                        .step = argv[2],
                        .wanted = strtol(argv[3], NULL, 10)};
  if (watch.fd < 0 || lseek(watch.fd, 0, SEEK_END) < 0) {
    perror(argv[1]);
    return 66;
  }
  int terminal = open_terminal();
  pid_t pid = fork();
  if (pid < 0)
    return 71;
  if (pid == 0)
    become(argv + 6, terminal);
  return attend(pid, &watch, terminal, strtol(argv[4], NULL, 10),
                strtol(argv[5], NULL, 10));
}
