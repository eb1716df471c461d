/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk.c - the one thread that works on the files of the outbox.
   A task is in the queue or in the hands of the thread; there is a thread as
   long as the queue is not empty.  Its event is made with it, so that no lack
   of memory can swallow what came of it.  */
#include "engine/disk.h"
#include "base/wait.h"
#include "engine/events.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 100000 /* tasks; more are a mistake of the caller */

struct task {
  struct task *next;
  struct smn_step *steps;
  size_t count;
  struct smn_event *event;
};

static struct {
  pthread_once_t once;
  pthread_mutex_t lock;   /* of all that follows */
  pthread_cond_t changed; /* running has become false */
  struct task *queue, **queue_end;
  size_t waiting;
  bool running; /* there is a thread */
} disk = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static void init(void) { smn_condition_init(&disk.changed); }

void smn_disk_discard(struct smn_step *steps, size_t count) {
  for (size_t i = 0; i < count; i++)
    smn_step_clear(&steps[i]);
  free(steps);
}

static void free_task(struct task *task) {
  smn_disk_discard(task->steps, task->count);
  free(task);
}

static void run_task(const struct task *task) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_event *event = task->event;
  for (size_t i = 0; i < task->count; i++)
    if (smn_step_run(&task->steps[i], &err, &event->errnum) != SMN_OK) {
      event->step = (int)i;
      event->failed = true;
      event->text = strdup(err.text); /* NULL: the errno tells */
      return;
    }
}

/* Under lock: take the first task out of the queue, NULL if there is none.  */
static struct task *take(void) {
  struct task *task = disk.queue;
  if (task) {
    disk.queue = task->next;
    disk.waiting--;
  }
  return task;
}

static void *work(void *unused) {
  struct task *task;
  (void)unused;
  pthread_mutex_lock(&disk.lock);
  while ((task = take())) {
    pthread_mutex_unlock(&disk.lock);
    run_task(task);
    smn_events_post(task->event);
    free_task(task);
    pthread_mutex_lock(&disk.lock);
  }
  disk.running = false;
  pthread_cond_broadcast(&disk.changed);
  pthread_mutex_unlock(&disk.lock);
  return NULL;
}

/* Under lock: see that a thread runs.  */
static enum smn_kind staff(struct smn_error *err) {
  pthread_t thread;
  if (disk.running)
    return SMN_OK;
  int errnum = smn_thread_start(&thread, work, NULL);
  if (errnum != 0)
    return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  pthread_detach(thread);
  disk.running = true;
  return SMN_OK;
}

/* Under lock, after staff: there is a thread, which waits for the lock.  */
static void append(struct task *task) {
  if (!disk.queue)
    disk.queue_end = &disk.queue;
  *disk.queue_end = task;
  disk.queue_end = &task->next;
  disk.waiting++;
}

enum smn_kind smn_disk_submit(struct smn_step *steps, size_t count, long *id,
                              struct smn_error *err) {
  pthread_once(&disk.once, init);
  struct task *task = malloc(sizeof *task);
  struct smn_event *event = smn_event_new(smn_events_id(), SMN_EVENT_DISK);
  enum smn_kind kind = SMN_SYSTEM;
  if (!task || !event)
    smn_fail(err, SMN_SYSTEM, "no memory");
  else {
    *task = (struct task){.steps = steps, .count = count, .event = event};
    *id = event->id;
    pthread_mutex_lock(&disk.lock);
    kind = disk.waiting >= WAITING_MAX
               ? smn_fail(err, SMN_SYSTEM, "too much waits for the disk")
               : staff(err);
    if (kind == SMN_OK)
      append(task);
    pthread_mutex_unlock(&disk.lock);
  }
  if (kind != SMN_OK) {
    free(task);
    smn_event_free(event);
  }
  return kind;
}

bool smn_disk_finish(int timeout_ms) {
  int64_t deadline = smn_now_ms() + timeout_ms;
  bool in_time = true;
  pthread_once(&disk.once, init);
  pthread_mutex_lock(&disk.lock);
  while (disk.running && in_time)
    in_time = smn_condition_wait(&disk.changed, &disk.lock, deadline);
  bool done = !disk.running;
  pthread_mutex_unlock(&disk.lock);
  return done;
}
