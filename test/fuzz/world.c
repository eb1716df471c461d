/* SPDX-License-Identifier: GPL-3.0-or-later */
/* world.c - a clock that stands still while anything can happen.  */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "world.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EPOCH_MS 1800000000000LL /* both clocks show it at the beginning */
#define THREADS 64

enum state { UNUSED, ENDED, RUNNABLE, POLLING, COND, MUTEX, JOINING };

struct fiber {
  enum state state;
  pthread_t id;
  pthread_cond_t turn;
  int64_t deadline_ms;
  unsigned long tick; /* polling: it goes on at that system call, too */
  struct pollfd *fds;
  nfds_t count;
  const pthread_cond_t *cond;
  bool signalled;
  pthread_mutex_t *mutex;
  const struct fiber *joined;
  void *(*run)(void *);
  void *argument;
};

static struct {
  pthread_mutex_t lock; /* of running */
  struct fiber *running;
  struct fiber fibers[THREADS]; /* 0 is the main thread */
  const struct world_hooks *hooks;
  struct rng rng;
  unsigned eager, yield;
  int64_t now_ms;
  unsigned long ticks;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER,
           .fibers[0] = {.state = RUNNABLE, .turn = PTHREAD_COND_INITIALIZER},
           .running = &world.fibers[0]};

static __thread struct fiber *self;

bool world_no_timeouts;

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);
int __real_pthread_join(pthread_t thread, void **value);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __real_pthread_cond_signal(pthread_cond_t *cond);
int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
ssize_t __real_send(int fd, const void *octets, size_t len, int flags);
ssize_t __real_recv(int fd, void *octets, size_t len, int flags);

/* One runs at a time */

static struct fiber *me(void) {
  if (!self)
    self = &world.fibers[0];
  return self;
}

static void switch_to(struct fiber *next) {
  struct fiber *mine = me();
  __real_pthread_mutex_lock(&world.lock);
  world.running = next;
  __real_pthread_cond_signal(&next->turn);
  while (mine->state != ENDED && world.running != mine)
    __real_pthread_cond_wait(&mine->turn, &world.lock);
  pthread_mutex_unlock(&world.lock);
}

static bool ready(const struct fiber *fiber) {
  if (fiber->deadline_ms <= world.now_ms &&
      (fiber->state == POLLING || fiber->state == COND))
    return true;
  switch (fiber->state) {
  case RUNNABLE:
    return true;
  case POLLING:
    if (fiber->tick && fiber->tick <= world.ticks)
      return true;
    return __real_poll(fiber->fds, fiber->count, 0) > 0;
  case COND:
    return fiber->signalled;
  case MUTEX:
    if (pthread_mutex_trylock(fiber->mutex) != 0)
      return false;
    pthread_mutex_unlock(fiber->mutex);
    return true;
  case JOINING:
    return fiber->joined->state == ENDED;
  default:
    return false;
  }
}

/* One that can go on, NULL without.  */
static struct fiber *choose(void) {
  struct fiber *can[THREADS];
  unsigned count = 0;
  for (unsigned i = 0; i < THREADS; i++)
    if (ready(&world.fibers[i]))
      can[count++] = &world.fibers[i];
  return count ? can[count > 1 ? rng_below(&world.rng, count) : 0] : NULL;
}

static void jump(void) {
  int64_t next = world.hooks->due();
  for (unsigned i = 0; i < THREADS; i++) {
    const struct fiber *f = &world.fibers[i];
    if ((f->state == POLLING || f->state == COND) && f->deadline_ms < next)
      next = f->deadline_ms;
  }
  if (next == WORLD_NEVER)
    world.hooks->stuck();
  else if (next > world.now_ms)
    world.now_ms = next;
}

/* The others go on until what the calling thread waits for has happened.  */
static void schedule(void) {
  struct fiber *next;
  world.hooks->tick();
  while (!(next = choose()))
    if (!world.hooks->step())
      jump();
  if (next != me())
    switch_to(next);
  me()->state = RUNNABLE;
}

static void *trampoline(void *argument) {
  struct fiber *fiber = self = argument;
  __real_pthread_mutex_lock(&world.lock);
  while (world.running != fiber)
    __real_pthread_cond_wait(&fiber->turn, &world.lock);
  pthread_mutex_unlock(&world.lock);
  void *value = fiber->run(fiber->argument);
  fiber->state = ENDED;
  struct fiber *next;
  while (!(next = choose()))
    if (!world.hooks->step())
      jump();
  __real_pthread_mutex_lock(&world.lock);
  world.running = next;
  __real_pthread_cond_signal(&next->turn);
  pthread_mutex_unlock(&world.lock);
  return value;
}

/* For the dialogue */

void world_begin(const struct world_hooks *hooks, uint64_t seed, unsigned eager,
                 unsigned yield) {
  world.hooks = hooks;
  world.rng.state = seed;
  world.eager = eager;
  world.yield = yield;
  world.ticks = 0;
  world.now_ms += world.now_ms ? 1000 : EPOCH_MS;
}

void world_settle(void) {
  for (int i = 0; i < 1000; i++) {
    bool waits = false;
    for (unsigned f = 1; f < THREADS; f++) {
      const struct fiber *fiber = &world.fibers[f];
      waits |= fiber->state > ENDED &&
               (ready(fiber) || fiber->deadline_ms != WORLD_NEVER ||
                fiber->state == POLLING);
    }
    if (!waits)
      return;
    world_wait(-1, world.now_ms + 100, 0);
  }
}

int64_t world_now_ms(void) { return world.now_ms; }

unsigned long world_ticks(void) { return world.ticks; }

unsigned world_threads(void) {
  unsigned count = 0;
  for (unsigned i = 1; i < THREADS; i++)
    count += world.fibers[i].state > ENDED;
  return count;
}

void world_wait(int fd, int64_t deadline_ms, unsigned long tick) {
  struct pollfd one = {.fd = fd, .events = POLLIN};
  me()->state = POLLING;
  me()->fds = &one;
  me()->count = 1;
  me()->deadline_ms = deadline_ms;
  me()->tick = tick;
  schedule();
}

/* System calls */

int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len);
ssize_t __wrap_send(int fd, const void *octets, size_t len, int flags);
ssize_t __wrap_recv(int fd, void *octets, size_t len, int flags);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument);
int __wrap_pthread_join(pthread_t thread, void **value);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);

static void tick(void) {
  struct fiber *first = &world.fibers[0];
  world.ticks++;
  if (!world.hooks)
    return;
  world.hooks->tick();
  if (me() != first && first->state == POLLING && first->tick &&
      first->tick <= world.ticks)
    switch_to(first);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now) {
  (void)clock;
  now->tv_sec = (time_t)(world.now_ms / 1000);
  now->tv_nsec = (long)(world.now_ms % 1000 * 1000000);
  return 0;
}

static void looked(const struct pollfd *fds, nfds_t count) {
  for (nfds_t i = 0; i < count; i++)
    if (fds[i].fd >= 0 && (fds[i].events & POLLIN))
      world.hooks->looked(fds[i].fd);
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout) {
  struct fiber *mine = me();
  tick();
  if (rng_chance(&world.rng, world.eager))
    (void)world.hooks->step();
  int n = __real_poll(fds, count, 0);
  if (n == 0 && timeout != 0) {
    mine->state = POLLING;
    mine->fds = fds;
    mine->count = count;
    mine->tick = 0;
    mine->deadline_ms =
        timeout < 0 || world_no_timeouts ? WORLD_NEVER : world.now_ms + timeout;
    schedule();
    n = __real_poll(fds, count, 0);
  }
  looked(fds, count);
  return n;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t len) {
  tick();
  (void)address;
  (void)len;
  errno = world.hooks->connect(fd);
  return errno ? -1 : 0;
}

ssize_t __wrap_send(int fd, const void *octets, size_t len, int flags) {
  tick();
  long some = world.hooks->send(fd, octets, len);
  if (some == -2)
    return (ssize_t)len;
  if (some == 0) {
    errno = EAGAIN;
    return -1;
  }
  ssize_t n = __real_send(fd, octets, some < 0 ? len : (size_t)some, flags);
  if (n > 0)
    world.hooks->sent(fd, (size_t)n);
  return n;
}

/* GnuTLS sends by this one: a name that the executable has comes first.  */
ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
  static ssize_t (*real)(int, const struct msghdr *, int);
  size_t len = 0;
  if (!real)
    *(void **)&real = dlsym(RTLD_NEXT, "sendmsg");
  for (size_t i = 0; i < message->msg_iovlen; i++)
    len += message->msg_iov[i].iov_len;
  bool ours = world.hooks && world.hooks->send(fd, NULL, len) == -2;
  ssize_t n = ours ? (ssize_t)len : real(fd, message, flags);
  if (n > 0 && world.hooks && !ours)
    world.hooks->sent(fd, (size_t)n);
  return n;
}

ssize_t __wrap_recv(int fd, void *octets, size_t len, int flags) {
  tick();
  if (rng_chance(&world.rng, world.eager))
    (void)world.hooks->step();
  ssize_t n = __real_recv(fd, octets, len, flags);
  int kept = errno;
  world.hooks->looked(fd);
  errno = kept;
  return n;
}

int __wrap_fsync(int fd) {
  tick();
  errno = world.hooks ? world.hooks->sync(fd) : 0;
  return errno ? -1 : 0;
}

int __wrap_fdatasync(int fd) { return __wrap_fsync(fd); }

/* Threads */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*run)(void *), void *argument) {
  struct fiber *fiber = NULL;
  tick();
  for (unsigned i = 1; i < THREADS && !fiber; i++)
    if (world.fibers[i].state <= ENDED)
      fiber = &world.fibers[i];
  if (!fiber)
    return EAGAIN;
  *fiber = (struct fiber){.state = RUNNABLE, .run = run, .argument = argument};
  pthread_cond_init(&fiber->turn, NULL);
  int errnum = __real_pthread_create(thread, attributes, trampoline, fiber);
  if (errnum)
    fiber->state = UNUSED;
  else
    fiber->id = *thread;
  return errnum;
}

int __wrap_pthread_join(pthread_t thread, void **value) {
  for (unsigned i = 1; i < THREADS; i++)
    if (world.fibers[i].state > ENDED &&
        pthread_equal(world.fibers[i].id, thread)) {
      me()->state = JOINING;
      me()->joined = &world.fibers[i];
      schedule();
    }
  return __real_pthread_join(thread, value);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
  tick();
  if (world.hooks && rng_chance(&world.rng, world.yield))
    schedule();
  while (pthread_mutex_trylock(mutex) != 0) {
    me()->state = MUTEX;
    me()->mutex = mutex;
    schedule();
  }
  return 0;
}

static int wait_for(pthread_cond_t *cond, pthread_mutex_t *mutex,
                    int64_t deadline_ms) {
  struct fiber *mine = me();
  tick();
  mine->state = COND;
  mine->cond = cond;
  mine->signalled = false;
  mine->deadline_ms = deadline_ms;
  pthread_mutex_unlock(mutex);
  schedule();
  bool signalled = mine->signalled;
  while (pthread_mutex_trylock(mutex) != 0) {
    mine->state = MUTEX;
    mine->mutex = mutex;
    schedule();
  }
  return signalled ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) {
  wait_for(cond, mutex, WORLD_NEVER);
  return 0;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until) {
  return wait_for(cond, mutex,
                  (int64_t)until->tv_sec * 1000 +
                      (until->tv_nsec + 999999) / 1000000);
}

/* Those that wait for COND go on, or one of them.  */
static int wake(const pthread_cond_t *cond, bool all) {
  for (unsigned i = 0; i < THREADS; i++) {
    struct fiber *f = &world.fibers[i];
    if (f->state == COND && f->cond == cond && !f->signalled) {
      f->signalled = true;
      if (!all)
        break;
    }
  }
  return 0;
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond) {
  return wake(cond, false);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond) {
  return wake(cond, true);
}
