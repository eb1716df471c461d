/* SPDX-License-Identifier: GPL-3.0-or-later */
/* network.c - the thread that waits for a network.
   A watch belongs to its thread, which ends when its pipe is written to.  */
#include "engine/network.h"
#include "base/wait.h"
#include "engine/events.h"
#include "net/routes.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/timerfd.h>
#endif

#define PAUSE_MS 1000 /* between two events */

struct watch {
  struct smn_routes routes;
  long id;
  int clock_fd; /* readable when the clock has jumped, or -1 */
  int ends[2];  /* the pipe that ends the watch */
};

static struct {
  pthread_once_t once;
  pthread_mutex_t lock;   /* of all that follows */
  pthread_cond_t changed; /* threads */
  struct watch *watch;    /* the one that is wanted, or NULL */
  int threads;
} network = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static void init(void) { smn_condition_init(&network.changed); }

static void lock(void) {
  pthread_once(&network.once, init);
  pthread_mutex_lock(&network.lock);
}

static void unlock(void) { pthread_mutex_unlock(&network.lock); }

/* The clock.  After a suspend Linux counts it as set.  */

#ifdef __linux__

static bool set_clock(int fd) {
  const struct itimerspec never = {.it_value = {.tv_sec = INT32_MAX}};
  return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET,
                         &never, NULL) == 0;
}

static int open_clock(void) {
  int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  if (fd >= 0 && !set_clock(fd)) {
    close(fd);
    fd = -1;
  }
  return fd;
}

/* The clock of WATCH has jumped; see the next time, too.  */
static bool clock_jumped(struct watch *watch) {
  uint64_t count;
  bool jumped =
      read(watch->clock_fd, &count, sizeof count) < 0 && errno == ECANCELED;
  if (!set_clock(watch->clock_fd)) {
    close(watch->clock_fd);
    watch->clock_fd = -1;
  }
  return jumped;
}

#else

static int open_clock(void) { return -1; }

static bool clock_jumped(struct watch *watch) {
  (void)watch;
  return false;
}

#endif

static void free_watch(struct watch *watch) {
  smn_routes_close(&watch->routes);
  if (watch->clock_fd >= 0)
    close(watch->clock_fd);
  if (watch->ends[0] >= 0) {
    close(watch->ends[0]);
    close(watch->ends[1]);
  }
  free(watch);
}

/* Wait for news; SMN_NEWS_BROKEN: the watch is over.  */
static enum smn_news await_news(struct watch *watch) {
  struct pollfd fds[] = {{.fd = watch->ends[0], .events = POLLIN},
                         {.fd = watch->routes.fd, .events = POLLIN},
                         {.fd = watch->clock_fd, .events = POLLIN}};
  enum smn_news news = SMN_NEWS_NONE;
  if (poll(fds, 3, -1) < 0)
    return errno == EINTR || errno == EAGAIN ? SMN_NEWS_NONE : SMN_NEWS_BROKEN;
  if (fds[0].revents)
    return SMN_NEWS_BROKEN;
  if (fds[1].revents)
    news = smn_routes_read(&watch->routes);
  if (fds[2].revents && clock_jumped(watch) && news == SMN_NEWS_NONE)
    news = SMN_NEWS_CAME;
  return news;
}

static void *work(void *argument) {
  struct watch *watch = argument;
  struct smn_error ignored;
  enum smn_news news;
  while ((news = await_news(watch)) != SMN_NEWS_BROKEN) {
    if (news == SMN_NEWS_CAME)
      smn_events_network(watch->id);
    /* Whatever goes on there costs little.  */
    if (smn_wait(-1, SMN_WAIT_READ, smn_now_ms() + PAUSE_MS, watch->ends[0],
                 &ignored) == SMN_CANCELLED)
      break;
  }
  lock();
  if (network.watch == watch)
    network.watch = NULL;
  network.threads--;
  pthread_cond_broadcast(&network.changed);
  unlock();
  free_watch(watch);
  return NULL;
}

/* NULL, with *err set, if what it needs cannot be had.  */
static struct watch *new_watch(struct smn_error *err) {
  struct watch *watch = calloc(1, sizeof *watch);
  if (!watch) {
    smn_fail(err, SMN_SYSTEM, "no memory");
    return NULL;
  }
  *watch = (struct watch){.id = smn_events_id(),
                          .routes = {.fd = -1},
                          .clock_fd = -1,
                          .ends = {-1, -1}};
  if (!smn_routes_open(&watch->routes))
    smn_fail_errno(err, SMN_UNSUPPORTED, errno, "cannot watch the network");
  else if (!smn_pipe(watch->ends)) {
    smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
    watch->ends[0] = -1;
  } else {
    watch->clock_fd = open_clock(); /* without it, less is noticed */
    return watch;
  }
  free_watch(watch);
  return NULL;
}

/* Under lock.  */
static void unwatch(void) {
  if (network.watch)
    while (write(network.watch->ends[1], "", 1) < 0 && errno == EINTR)
      continue;
  network.watch = NULL;
}

enum smn_kind smn_network_watch(long *id, struct smn_error *err) {
  pthread_t thread;
  struct watch *watch = new_watch(err);
  if (!watch)
    return err->kind;
  *id = watch->id;
  lock();
  int errnum = smn_thread_start(&thread, work, watch);
  if (errnum == 0) {
    pthread_detach(thread);
    unwatch();
    network.watch = watch;
    network.threads++;
  }
  unlock();
  if (errnum == 0)
    return SMN_OK; /* cppcheck-suppress memleak ; the thread owns it */
  free_watch(watch);
  return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
}

void smn_network_unwatch(void) {
  lock();
  unwatch();
  unlock();
}

bool smn_network_finish(int timeout_ms) {
  int64_t deadline = smn_now_ms() + timeout_ms;
  bool in_time = true;
  lock();
  unwatch();
  while (network.threads > 0 && in_time)
    in_time = smn_condition_wait(&network.changed, &network.lock, deadline);
  bool done = network.threads == 0;
  unlock();
  return done;
}
