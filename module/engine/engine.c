/* SPDX-License-Identifier: GPL-3.0-or-later */
/* engine.c - jobs in worker threads, events back.
   What threads share is the struct engine below, all of it under its lock.  An
   item is in the queue or in the hands of one worker, until its last event
   takes job and result along.  For whatever is in the queue there is a worker
   that has not decided to leave.  */
#include "engine/engine.h"
#include "base/wait.h"
#include "engine/disk.h"
#include "engine/events.h"
#include "mail/receipt.h"
#include "smtp/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define QUEUE_FOR_ONE 16 /* jobs that one session may have waiting */
#define LARGE 1048576    /* octets of a mail that others do not wait for */

/* A job in the hands of the engine.  Its last event is made before the work
       begins, so that no lack of memory can swallow an outcome.  */
struct item {
  struct item *next; /* in the queue, under lock */
  struct smn_task task;
  struct smn_observer observer;
  struct smn_job *job;
  struct smn_event *done;
  bool plainly;   /* it has met with a server that breaks under pipelining */
  bool cancelled; /* under lock */
};

/* A thread, and the session that it keeps.  */
struct worker {
  struct worker *next;       /* under lock, as is all but server and session */
  struct smn_server *server; /* a copy: jobs for the very same are for it */
  struct smn_session *session;
  struct item *current; /* what a wish to cancel means */
  struct item *ahead;   /* its commands have left, its content has not */
  bool large;           /* the current mail takes long */
  int cancel[2];        /* an octet in it is the wish to stop */
};

static struct engine {
  pthread_mutex_t lock;
  pthread_cond_t changed; /* the queue or the list of workers */
  struct worker *workers;
  struct item *queue;
  bool stopping; /* kept sessions end */
} engine = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER,
};

/* A time of the clock that pthread_cond_timedwait goes by.  */
static struct timespec deadline_in(int ms) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += ms / 1000;
  until.tv_nsec += ms % 1000 * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_sec++;
    until.tv_nsec -= 1000000000L;
  }
  return until;
}

/* Events */

/* Without memory a trace is lost, which harms nothing.  */
static void on_trace(void *context, bool from_server, const char *text,
                     size_t len) {
  const struct item *item = context;
  struct smn_event *event = smn_event_new(item->job->id, SMN_EVENT_TRACE);
  if (!event)
    return;
  event->from_server = from_server;
  event->text = malloc(len + 1);
  if (event->text) {
    memcpy(event->text, text, len);
    event->text[len] = '\0';
    event->len = len;
  }
  smn_events_post(event);
}

static enum smn_kind staff(const struct smn_server *server,
                           struct smn_error *err);

/* Under lock: small mails are not to wait for a large one.  */
static void note_large(const struct item *item, uint64_t total) {
  struct smn_error ignored;
  for (struct worker *w = engine.workers; w; w = w->next)
    if (w->current == item && !w->large && total >= LARGE) {
      w->large = true;
      (void)staff(w->server, &ignored);
      return;
    }
}

static void on_progress(void *context, uint64_t sent, uint64_t total) {
  const struct item *item = context;
  smn_events_progress(item->job->id, sent, total);
  pthread_mutex_lock(&engine.lock);
  note_large(item, total);
  pthread_mutex_unlock(&engine.lock);
}

/* Items */

static void free_item(struct item *item) {
  if (!item)
    return;
  smn_job_free(item->job);
  smn_event_free(item->done);
  free(item);
}

static struct item *new_item(struct smn_job *job, int cancel_fd) {
  struct item *item = calloc(1, sizeof *item);
  struct smn_event *done = smn_event_new(0, SMN_EVENT_DONE);
  if (!item || !done || !smn_result_init(&done->result, job)) {
    free(item);
    smn_event_free(done);
    return NULL;
  }
  item->observer = (struct smn_observer){
      .context = item,
      .trace = on_trace,
      .progress = on_progress,
      .cancel_fd = cancel_fd,
  };
  item->job = job;
  item->done = done;
  item->task = (struct smn_task){job, &item->observer, &done->result};
  return item;
}

/* Under lock: the result is complete and becomes an event.  */
static void hand_out(struct item *item) {
  smn_job_forget(item->job);
  item->done->job = item->job;
  smn_events_post(item->done);
  item->job = NULL;
  item->done = NULL;
  free_item(item);
}

/* The receipt is written before anybody hears of the outcome, so that whoever
   looks at the disk knows as much as whoever hears.  */
static void record(const struct item *item) {
  struct smn_error err;
  struct smn_result *result = &item->done->result;
  if (item->job->entry && smn_receipt_write(item->job, result, &err) != SMN_OK)
    result->unrecorded = strdup(err.text);
}

/* Under lock: take the first item that is for SERVER out of the queue.  With
   PIPELINED one that must not be is left there.  */
static struct item *take(const struct smn_server *server, bool pipelined) {
  for (struct item **at = &engine.queue; *at; at = &(*at)->next)
    if (smn_server_same(&(*at)->job->server, server)) {
      struct item *item = *at;
      if (pipelined && item->plainly)
        return NULL;
      *at = item->next;
      item->next = NULL;
      return item;
    }
  return NULL;
}

/* Under lock.  */
static void put_last(struct item *item) {
  struct item **at = &engine.queue;
  while (*at)
    at = &(*at)->next;
  *at = item;
}

/* What a session asks of its worker */

static struct item *item_of(const struct smn_task *task) {
  return task->observer->context;
}

static const struct smn_task *on_next(void *context) {
  struct worker *worker = context;
  pthread_mutex_lock(&engine.lock);
  struct item *item = take(worker->server, true);
  if (item)
    item->observer.cancel_fd = worker->cancel[0];
  worker->ahead = item;
  pthread_mutex_unlock(&engine.lock);
  return item ? &item->task : NULL;
}

static bool on_begin(void *context, const struct smn_task *task) {
  struct worker *worker = context;
  struct item *item = item_of(task);
  pthread_mutex_lock(&engine.lock);
  bool wanted = !item->cancelled;
  if (worker->ahead == item)
    worker->ahead = NULL;
  worker->current = item;
  pthread_mutex_unlock(&engine.lock);
  return wanted;
}

/* Under lock: a wish to cancel that came too late is none for the next.  */
static void forget_wishes(const struct worker *worker) {
  char octets[16];
  while (read(worker->cancel[0], octets, sizeof octets) > 0)
    continue;
}

/* Under lock: ITEM is not in the worker's hands any more.  */
static void let_go(struct worker *worker, const struct item *item) {
  if (worker->ahead == item)
    worker->ahead = NULL;
  if (worker->current == item)
    worker->current = NULL;
  worker->large = false;
  forget_wishes(worker);
}

static void on_done(void *context, const struct smn_task *task) {
  struct worker *worker = context;
  struct item *item = item_of(task);
  record(item);
  pthread_mutex_lock(&engine.lock);
  let_go(worker, item);
  hand_out(item);
  pthread_mutex_unlock(&engine.lock);
}

/* It is the first of its server again.  */
static bool on_back(void *context, const struct smn_task *task,
                    enum smn_back why) {
  struct worker *worker = context;
  struct item *item = item_of(task);
  if (why == SMN_BACK_UNWANTED)
    return false;
  smn_result_clear(task->result);
  pthread_mutex_lock(&engine.lock);
  let_go(worker, item);
  item->plainly = item->plainly || why == SMN_BACK_PLAINLY;
  item->next = engine.queue;
  engine.queue = item;
  pthread_mutex_unlock(&engine.lock);
  return true;
}

/* Workers */

static void free_worker(struct worker *worker) {
  if (!worker)
    return;
  if (worker->cancel[0] >= 0) {
    close(worker->cancel[0]);
    close(worker->cancel[1]);
  }
  smn_server_free(worker->server);
  free(worker);
}

/* Under lock: the worker leaves, and whoever waits for that hears it.  */
static void leave(struct worker *worker) {
  struct worker **at = &engine.workers;
  while (*at != worker)
    at = &(*at)->next;
  *at = worker->next;
  pthread_cond_broadcast(&engine.changed);
}

/* Under lock: wait for a job for SERVER, as long as a session is worth keeping.
   NULL: nothing came.  */
static struct item *await_item(struct worker *worker) {
  struct timespec until = deadline_in(worker->server->idle_ms);
  struct item *item = take(worker->server, false);
  int errnum = 0;
  while (!item && errnum == 0 && worker->session && !engine.stopping) {
    errnum = pthread_cond_timedwait(&engine.changed, &engine.lock, &until);
    item = take(worker->server, false);
  }
  return item;
}

static void end_session(struct worker *worker) {
  smn_session_close(worker->session);
  worker->session = NULL;
}

static void run_item(struct worker *worker, struct item *item) {
  const struct smn_supply supply = {
      .context = worker,
      .next = item->plainly ? NULL : on_next,
      .begin = on_begin,
      .done = on_done,
      .back = item->plainly ? NULL : on_back,
  };
  if (item->job->sync) {
    (void)smn_receipt_sync(item->job->entry, &item->done->result.error);
    pthread_mutex_lock(&engine.lock);
    let_go(worker, item);
    hand_out(item);
    pthread_mutex_unlock(&engine.lock);
    return;
  }
  if (worker->session && (item->plainly || !smn_session_alive(worker->session)))
    end_session(worker);
  if (!worker->session)
    worker->session = smn_session_new(item->plainly);
  if (worker->session)
    smn_session_serve(worker->session, &item->task, &supply);
  else {
    smn_fail(&item->done->result.error, SMN_SYSTEM, "no memory");
    on_done(worker, &item->task);
  }
}

static void *work(void *argument) {
  struct worker *worker = argument;
  struct item *item;
  pthread_mutex_lock(&engine.lock);
  while ((item = await_item(worker)) || worker->session) {
    if (item) {
      item->observer.cancel_fd = worker->cancel[0];
      worker->current = item;
    }
    pthread_mutex_unlock(&engine.lock);
    if (item)
      run_item(worker, item);
    /* QUIT is said before the worker counts as gone.  */
    if (worker->session && (!item || !smn_session_alive(worker->session)))
      end_session(worker);
    pthread_mutex_lock(&engine.lock);
  }
  leave(worker);
  pthread_mutex_unlock(&engine.lock);
  free_worker(worker);
  return NULL;
}

/* Under lock.  */
static enum smn_kind start_worker(const struct smn_server *server,
                                  struct smn_error *err) {
  struct worker *worker = calloc(1, sizeof *worker);
  pthread_t thread;
  int errnum = 0;
  if (worker)
    worker->cancel[0] = -1;
  if (!worker || !(worker->server = smn_server_copy(server)))
    smn_fail(err, SMN_SYSTEM, "no memory");
  else if (!smn_pipe(worker->cancel)) {
    worker->cancel[0] = -1;
    smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
  } else {
    (void)smn_set_nonblocking(worker->cancel[0]);
    worker->next = engine.workers;
    engine.workers = worker;
    errnum = smn_thread_start(&thread, work, worker);
    if (errnum == 0) {
      pthread_detach(thread);
      return SMN_OK; /* cppcheck-suppress memleak ; the thread owns it */
    }
    leave(worker);
    smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  }
  free_worker(worker);
  return SMN_SYSTEM;
}

/* Under lock: see to it that somebody works on what is for SERVER.  One more
   session is worth it when many are waiting.  */
static enum smn_kind staff(const struct smn_server *server,
                           struct smn_error *err) {
  int workers = 0, prompt = 0, waiting = 0;
  for (const struct worker *w = engine.workers; w; w = w->next)
    if (smn_server_same(w->server, server)) {
      workers++;
      prompt += !w->large;
    }
  for (const struct item *i = engine.queue; i; i = i->next)
    waiting += smn_server_same(&i->job->server, server);
  bool more = workers == 0 || (waiting > QUEUE_FOR_ONE * prompt &&
                               workers < server->max_sessions);
  return more ? start_worker(server, err) : SMN_OK;
}

enum smn_kind smn_engine_submit(struct smn_job *job, long *id,
                                struct smn_error *err) {
  struct item *item = new_item(job, -1);
  if (!item) {
    smn_job_free(job);
    return smn_fail(err, SMN_SYSTEM, "no memory");
  }
  pthread_mutex_lock(&engine.lock);
  *id = job->id = item->done->id = smn_events_id();
  engine.stopping = false;
  put_last(item);
  enum smn_kind kind = staff(&job->server, err);
  if (kind != SMN_OK) {
    struct item **at = &engine.queue;
    while (*at != item)
      at = &(*at)->next;
    *at = item->next;
  }
  pthread_cond_broadcast(&engine.changed);
  pthread_mutex_unlock(&engine.lock);
  if (kind != SMN_OK)
    free_item(item);
  return kind;
}

/* Under lock.  */
static void cancel(const struct worker *worker) {
  while (write(worker->cancel[1], "", 1) < 0 && errno == EINTR)
    continue;
}

/* Under lock: what waits is told at once; it was never begun.  */
static bool cancel_waiting(long id) {
  for (struct item **at = &engine.queue; *at; at = &(*at)->next)
    if ((*at)->job->id == id) {
      struct item *item = *at;
      *at = item->next;
      smn_fail(&item->done->result.error, SMN_CANCELLED, "cancelled");
      hand_out(item);
      return true;
    }
  return false;
}

bool smn_engine_cancel(long id) {
  pthread_mutex_lock(&engine.lock);
  bool found = cancel_waiting(id);
  for (struct worker *w = engine.workers; w && !found; w = w->next)
    if (w->ahead && w->ahead->job->id == id) {
      found = w->ahead->cancelled = true;
      /* The one before it must not be harmed.  */
      if (!w->current)
        cancel(w);
    } else if (w->current && w->current->job->id == id) {
      found = w->current->cancelled = true;
      cancel(w);
    }
  pthread_mutex_unlock(&engine.lock);
  return found;
}

/* Under lock: wait until no worker is left, at most MS milliseconds.  */
static bool wait_for_workers(int ms) {
  struct timespec until = deadline_in(ms);
  int errnum = 0;
  while (engine.workers && errnum == 0)
    errnum = pthread_cond_timedwait(&engine.changed, &engine.lock, &until);
  return !engine.workers;
}

bool smn_engine_shutdown(int timeout_ms) {
  int64_t deadline = smn_now_ms() + timeout_ms;
  pthread_mutex_lock(&engine.lock);
  engine.stopping = true;
  pthread_cond_broadcast(&engine.changed);
  /* What is nearly done may well get done; a mail whose end is on its way
     would become one of unknown outcome.  */
  bool all = wait_for_workers(timeout_ms / 2);
  if (!all) {
    while (engine.queue)
      (void)cancel_waiting(engine.queue->job->id);
    for (struct worker *w = engine.workers; w; w = w->next)
      cancel(w);
    all = wait_for_workers(timeout_ms - timeout_ms / 2);
  }
  pthread_mutex_unlock(&engine.lock);
  smn_tls_forget();
  int64_t left = deadline - smn_now_ms();
  return smn_disk_finish(left > 0 ? (int)left : 0) && all;
}
