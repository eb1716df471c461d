/* SPDX-License-Identifier: GPL-3.0-or-later */
/* engine.c - jobs in worker threads, events back.
   What threads share is the struct engine below, all of it under its lock.  A
   worker owns its job and result until its last event takes both along.  */
#include "engine.h"
#include "session.h"
#include "wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct worker {
  struct worker *next;
  struct smn_job *job;
  int cancel[2]; /* an octet in it is the wish to stop */
};

static struct engine {
  pthread_mutex_t lock;
  pthread_cond_t ended; /* a worker has left the list */
  struct worker *workers;
  struct smn_event *first, **last;
  int wake_fd;
  bool woken; /* an octet is under way that nobody has answered yet */
  long ids;
} engine = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .ended = PTHREAD_COND_INITIALIZER,
    .wake_fd = -1,
};

/* Events */

/* Under lock.  A full pipe is as good as a written octet.  */
static void wake(void) {
  if (engine.woken || engine.wake_fd < 0)
    return;
  engine.woken = true;
  while (write(engine.wake_fd, "", 1) < 0 && errno == EINTR)
    continue;
}

/* Under lock.  */
static void append(struct smn_event *event) {
  if (!engine.first)
    engine.last = &engine.first;
  *engine.last = event;
  engine.last = &event->next;
  wake();
}

/* Without memory a trace or progress is lost, which harms nobody.  */
static struct smn_event *new_event(long id, enum smn_event_type type) {
  struct smn_event *event = calloc(1, sizeof *event);
  if (event) {
    event->id = id;
    event->type = type;
  }
  return event;
}

static void on_trace(void *context, bool from_server, const char *text,
                     size_t len) {
  const struct worker *worker = context;
  struct smn_event *event = new_event(worker->job->id, SMN_EVENT_TRACE);
  if (!event)
    return;
  event->from_server = from_server;
  event->text = malloc(len + 1);
  if (event->text) {
    memcpy(event->text, text, len);
    event->text[len] = '\0';
    event->len = len;
  }
  pthread_mutex_lock(&engine.lock);
  append(event);
  pthread_mutex_unlock(&engine.lock);
}

/* A progress that nobody has fetched yet is brought up to date instead of
   being followed by another.  */
static void on_progress(void *context, uint64_t sent, uint64_t total) {
  const struct worker *worker = context;
  pthread_mutex_lock(&engine.lock);
  struct smn_event *event = engine.first;
  while (event &&
         (event->type != SMN_EVENT_PROGRESS || event->id != worker->job->id))
    event = event->next;
  if (!event) {
    event = new_event(worker->job->id, SMN_EVENT_PROGRESS);
    if (event)
      append(event);
  }
  if (event) {
    event->sent = sent;
    event->total = total;
  }
  pthread_mutex_unlock(&engine.lock);
}

struct smn_event *smn_engine_events(void) {
  pthread_mutex_lock(&engine.lock);
  struct smn_event *events = engine.first;
  engine.first = NULL;
  engine.woken = false;
  pthread_mutex_unlock(&engine.lock);
  return events;
}

void smn_event_free(struct smn_event *event) {
  if (!event)
    return;
  smn_result_free(&event->result);
  smn_job_free(event->job);
  free(event->text);
  free(event);
}

void smn_engine_wake(int fd) {
  if (fd >= 0)
    (void)smn_set_nonblocking(fd);
  pthread_mutex_lock(&engine.lock);
  int before = engine.wake_fd;
  engine.wake_fd = fd;
  engine.woken = false;
  if (engine.first)
    wake();
  pthread_mutex_unlock(&engine.lock);
  if (before >= 0 && before != fd)
    close(before);
}

/* Workers */

/* Under lock: the worker leaves, and whoever waits for that hears it.  */
static void leave(struct worker *worker) {
  struct worker **at = &engine.workers;
  while (*at != worker)
    at = &(*at)->next;
  *at = worker->next;
  pthread_cond_broadcast(&engine.ended);
}

static void free_worker(struct worker *worker) {
  if (!worker)
    return;
  if (worker->cancel[0] >= 0) {
    close(worker->cancel[0]);
    close(worker->cancel[1]);
  }
  smn_job_free(worker->job);
  free(worker);
}

/* The event that tells the end is made before the work begins, so that no lack
   of memory can swallow an outcome.  */
struct task {
  struct worker *worker;
  struct smn_event *done;
};

static void *work(void *argument) {
  struct task *task = argument;
  struct worker *worker = task->worker;
  struct smn_event *done = task->done;
  free(task);
  const struct smn_observer observer = {
      .context = worker,
      .trace = on_trace,
      .progress = on_progress,
      .cancel_fd = worker->cancel[0],
  };
  (void)smn_session_run(worker->job, &observer, &done->result);
  smn_job_forget(worker->job);
  pthread_mutex_lock(&engine.lock);
  done->job = worker->job;
  worker->job = NULL;
  append(done);
  leave(worker);
  pthread_mutex_unlock(&engine.lock);
  free_worker(worker);
  return NULL;
}

static enum smn_kind start(struct task *task, struct smn_error *err) {
  pthread_t thread;
  struct worker *worker = task->worker;
  pthread_mutex_lock(&engine.lock);
  worker->next = engine.workers;
  engine.workers = worker;
  int errnum = smn_thread_start(&thread, work, task);
  if (errnum != 0)
    leave(worker);
  pthread_mutex_unlock(&engine.lock);
  if (errnum != 0)
    return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  pthread_detach(thread);
  return SMN_OK;
}

enum smn_kind smn_engine_submit(struct smn_job *job, long *id,
                                struct smn_error *err) {
  struct worker *worker = calloc(1, sizeof *worker);
  struct smn_event *done = new_event(0, SMN_EVENT_DONE);
  struct task *task = malloc(sizeof *task);
  enum smn_kind kind = SMN_OK;
  if (!worker || !done || !task || !smn_result_init(&done->result, job)) {
    smn_fail(err, SMN_SYSTEM, "no memory");
    kind = SMN_SYSTEM;
  }
  if (worker)
    worker->cancel[0] = -1;
  if (kind == SMN_OK && !smn_pipe(worker->cancel)) {
    worker->cancel[0] = -1;
    kind = smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
  }
  if (kind == SMN_OK) {
    pthread_mutex_lock(&engine.lock);
    *id = job->id = done->id = ++engine.ids;
    pthread_mutex_unlock(&engine.lock);
    worker->job = job;
    *task = (struct task){worker, done};
    kind = start(task, err);
    job = NULL;
  }
  if (kind == SMN_OK)
    return SMN_OK; /* cppcheck-suppress memleak ; the thread owns it */
  free_worker(worker);
  smn_job_free(job);
  smn_event_free(done);
  free(task);
  return kind;
}

/* Under lock.  */
static void cancel(const struct worker *worker) {
  while (write(worker->cancel[1], "", 1) < 0 && errno == EINTR)
    continue;
}

bool smn_engine_cancel(long id) {
  bool found = false;
  pthread_mutex_lock(&engine.lock);
  for (struct worker *w = engine.workers; w && !found; w = w->next)
    if ((found = w->job->id == id))
      cancel(w);
  pthread_mutex_unlock(&engine.lock);
  return found;
}

bool smn_engine_shutdown(int timeout_ms) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += timeout_ms / 1000;
  until.tv_nsec += timeout_ms % 1000 * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }
  pthread_mutex_lock(&engine.lock);
  for (struct worker *w = engine.workers; w; w = w->next)
    cancel(w);
  int errnum = 0;
  while (engine.workers && errnum == 0)
    errnum = pthread_cond_timedwait(&engine.ended, &engine.lock, &until);
  bool all = !engine.workers;
  pthread_mutex_unlock(&engine.lock);
  return all;
}
