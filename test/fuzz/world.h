/* SPDX-License-Identifier: GPL-3.0-or-later */
/* world.h - a clock that stands still while anything can happen.
   The linker sends the core's system calls for time, waiting, threads and
   sockets here (--wrap).  Of all threads one runs at a time, and which one goes
   on is decided by a seed.  When all of them wait, the server takes a step;
   when it has nothing to do either, the clock jumps to the next moment at which
   something is due.  So a run is the same each time, and a time-out costs
   nothing.  */
#ifndef WORLD_H
#define WORLD_H

#include "random.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORLD_NEVER INT64_MAX

/* What lies at the other ends of the sockets, and who wants to know.  */
struct world_hooks {
  /* Read, think and write; true if anything was done.  */
  bool (*step)(void);
  /* When step has something to do even if no octet comes.  */
  int64_t (*due)(void);
  /* Called again and again, at each system call of the core.  */
  void (*tick)(void);
  /* The core has called connect on FD: 0, or an errno.  */
  int (*connect)(int fd);
  /* The core is about to send LEN OCTETS on FD.  Returns how many of them get
     through; -1 for all; -2 for all, into the void.  OCTETS is NULL when they
     are those of TLS.  */
  long (*send)(int fd, const void *octets, size_t len);
  /* The core has sent LEN octets on FD; has looked for input there.  */
  void (*sent)(int fd, size_t len);
  void (*looked)(int fd);
  /* All wait for ever.  Does not return.  */
  void (*stuck)(void);
  /* fsync on FD: 0 or an errno.  */
  int (*sync)(int fd);
};

/* Begin a dialogue.  EAGER: percentage of looks at a socket before which the
   server is quick enough to take a step.  YIELD: the same for locks at which
   another thread goes first.  */
void world_begin(const struct world_hooks *hooks, uint64_t seed, unsigned eager,
                 unsigned yield);

/* Let all other threads come to their ends, or to waits that nothing ends.  */
void world_settle(void);

int64_t world_now_ms(void);
/* System calls so far in this dialogue.  */
unsigned long world_ticks(void);
/* Threads of the core that have not ended.  */
unsigned world_threads(void);

/* The main thread waits for DEADLINE_MS, for FD to be readable, or for the
   system call TICK (0: none); the others go on.  */
void world_wait(int fd, int64_t deadline_ms, unsigned long tick);

/* Faults of the world, to see that they are noticed.  */
extern bool world_no_timeouts;

#endif
