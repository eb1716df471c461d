/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.h - names that end in ".test" are answered here, in place of the
   system's resolver, so that nothing leaves the machine; the rest goes to the
   real getaddrinfo.
   For one file of a program, which includes it first.  */
#ifndef NAMES_H
#define NAMES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { SLOW_MS = 20000 }; /* at most */

/* A look-up of slow.test ends when this descriptor becomes readable.  */
static int slow_fd = -1;

/* Under the lock, because the look-ups run in threads of their own.  */
static pthread_mutex_t asked_lock = PTHREAD_MUTEX_INITIALIZER;
static char asked[256];
static bool asked_with_sigterm_blocked;

static const struct {
  const char *name;
  const char *addresses[6];
  int status;
} names[] = {
    {"one.test", {"127.0.0.1"}, 0},
    {"second.test", {"127.0.0.2", "127.0.0.1"}, 0},
    {"none.test", {"127.0.0.2", "127.0.0.3"}, 0},
    {"both.test", {"::1", "127.0.0.1"}, 0},
    {"any.test", {"::1", "0.0.0.0"}, 0},
    {"turns.test",
     {"::1", "::ffff:127.0.0.4", "127.0.0.2", "127.0.0.3", "127.0.0.5"},
     0},
    {"slow.test", {"127.0.0.1"}, 0},
    {"unknown.test", {NULL}, EAI_NONAME},
    {"silent.test", {NULL}, EAI_AGAIN},
    {"broken.test", {NULL}, EAI_SYSTEM},
    {"xn--bcher-kva.test", {"127.0.0.1"}, 0},
};

static void note_question(const char *host) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  pthread_mutex_lock(&asked_lock);
  snprintf(asked, sizeof asked, "%s", host);
  asked_with_sigterm_blocked = sigismember(&mask, SIGTERM) == 1;
  pthread_mutex_unlock(&asked_lock);
}

int getaddrinfo(const char *host, const char *port,
                const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *,
              struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  size_t i = 0, count = sizeof names / sizeof *names;
  while (i < count && strcmp(names[i].name, host) != 0)
    i++;
  if ((i == count && strncmp(host, "refused-", 8) != 0) ||
      (hints->ai_flags & AI_NUMERICHOST))
    return real(host, port, hints, found);
  note_question(host);
  int refused;
  if (sscanf(host, "refused-%d.test", &refused) == 1) {
    for (; refused >= 0; refused--) {
      int status =
          real(refused ? "127.0.0.2" : "127.0.0.1", port, hints, found);
      if (status != 0)
        return status;
      found = &(*found)->ai_next;
    }
    return 0;
  }
  if (strcmp(host, "slow.test") == 0)
    poll(&(struct pollfd){.fd = slow_fd, .events = POLLIN}, 1, SLOW_MS);
  for (const char *const *a = names[i].addresses; *a; a++) {
    int status = real(*a, port, hints, found);
    if (status != 0)
      return status;
    found = &(*found)->ai_next;
  }
  errno = EMFILE;
  return names[i].status;
}

#endif
