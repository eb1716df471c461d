/* SPDX-License-Identifier: GPL-3.0-or-later */
/* disk.c - the threads that work on the files of the outbox.
   A task is in the queue of a lane or in the hands of its thread; there is a
   thread as long as the queue is not empty.  Its event is made with it, so that
   no lack of memory can swallow what came of it.

   Each task begins in the lane "work".  Commands wait for what is done there,
   so the rest goes on elsewhere: behind SMN_STEP_ASIDE in the lane "aside", and
   where only directories are left to remove, in the lane "broom".  A task moves
   when its turn comes, so that in each lane they keep their order.

   A sync of a directory covers all that was done in it before the sync began.
   So the tasks that wait in a lane share one: it is left out of a task that
   came to the lane before an earlier sync of the same name began, unless steps
   of the lane have changed something there since.  What SMN_STEP_REMOVE does is
   no such change: the caller may lose it.  */
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
  size_t done; /* steps */
  struct smn_event *event;
};

#define SYNCED_MAX 4 /* the outbox has two directories that all tasks sync */

struct synced {
  char *file;  /* NULL for none */
  long covers; /* the last task that had come to the lane as it began */
};

enum { WORK, ASIDE, BROOM, LANES };

struct lane {
  struct task *queue, **queue_end;
  bool running; /* there is a thread */
  long last;    /* id of the last task that has come to the lane */
  /* The thread's own, without the lock.  */
  struct synced synced[SYNCED_MAX];
  size_t oldest;
};

static struct {
  pthread_once_t once;
  pthread_mutex_t lock;   /* of all that follows */
  pthread_cond_t changed; /* running has become false */
  struct lane lanes[LANES];
  size_t waiting;
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

/* Shared syncs */

static struct synced *find_synced(struct lane *lane, const char *file,
                                  size_t len) {
  for (size_t i = 0; i < SYNCED_MAX; i++) {
    struct synced *known = &lane->synced[i];
    if (known->file && strncmp(known->file, file, len) == 0 &&
        known->file[len] == '\0')
      return known;
  }
  return NULL;
}

static void forget_synced(struct lane *lane, const char *file, size_t len) {
  struct synced *known = find_synced(lane, file, len);
  if (known) {
    free(known->file);
    known->file = NULL;
  }
}

/* Something was done to FILE, and so in its directory.  */
static void note_change(struct lane *lane, const char *file) {
  const char *slash = strrchr(file, '/');
  forget_synced(lane, file, strlen(file));
  if (slash)
    forget_synced(lane, file, (size_t)(slash - file));
}

static void note_synced(struct lane *lane, const char *file, long covers) {
  forget_synced(lane, file, strlen(file));
  free(lane->synced[lane->oldest].file);
  lane->synced[lane->oldest] = (struct synced){strdup(file), covers};
  lane->oldest = (lane->oldest + 1) % SYNCED_MAX;
}

static void forget_all_synced(struct lane *lane) {
  for (size_t i = 0; i < SYNCED_MAX; i++) {
    free(lane->synced[i].file);
    lane->synced[i].file = NULL;
  }
}

static long last_task(const struct lane *lane) {
  pthread_mutex_lock(&disk.lock);
  long last = lane->last;
  pthread_mutex_unlock(&disk.lock);
  return last;
}

/* Do STEP of the task ID, or rely on a sync that has covered it.  */
static enum smn_kind run_step(struct lane *lane, const struct smn_step *step,
                              long id, struct smn_error *err, int *errnum) {
  if (step->type != SMN_STEP_SYNC) {
    if (step->type != SMN_STEP_REMOVE && step->type != SMN_STEP_SYNC_ALL)
      note_change(lane, step->file);
    if (step->to)
      note_change(lane, step->to);
    return smn_step_run(step, err, errnum);
  }
  const struct synced *known =
      find_synced(lane, step->file, strlen(step->file));
  if (known && known->covers >= id)
    return SMN_OK;
  long covers = last_task(lane);
  enum smn_kind kind = smn_step_run(step, err, errnum);
  if (kind == SMN_OK)
    note_synced(lane, step->file, covers);
  return kind;
}

static void *work(void *argument);

/* Under lock: see that a thread of LANE runs.  */
static enum smn_kind staff(struct lane *lane, struct smn_error *err) {
  pthread_t thread;
  if (lane->running)
    return SMN_OK;
  int errnum = smn_thread_start(&thread, work, lane);
  if (errnum != 0)
    return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  pthread_detach(thread);
  lane->running = true;
  return SMN_OK;
}

/* Under lock, after staff: there is a thread, which waits for the lock.  */
static void append(struct lane *lane, struct task *task) {
  if (!lane->queue)
    lane->queue_end = &lane->queue;
  task->next = NULL;
  *lane->queue_end = task;
  lane->queue_end = &task->next;
  lane->last = task->event->id;
  disk.waiting++;
}

/* Under lock: take the first task out of LANE, NULL if there is none.  */
static struct task *take(struct lane *lane) {
  struct task *task = lane->queue;
  if (task) {
    lane->queue = task->next;
    disk.waiting--;
  }
  return task;
}

/* Only SMN_STEP_REMOVE is left of TASK.  */
static bool to_sweep(const struct task *task) {
  for (size_t i = task->done; i < task->count; i++)
    if (task->steps[i].type != SMN_STEP_REMOVE)
      return false;
  return task->done < task->count;
}

/* The rest of TASK is that of LANE from here on, unless there is no thread.  */
static bool passed(struct task *task, struct lane *lane) {
  struct smn_error err;
  pthread_mutex_lock(&disk.lock);
  bool good = staff(lane, &err) == SMN_OK;
  if (good)
    append(lane, task);
  pthread_mutex_unlock(&disk.lock);
  return good;
}

/* Where the rest of TASK, which is in LANE, goes on.  */
static struct lane *lane_for(struct lane *lane, const struct task *task) {
  if (lane == &disk.lanes[BROOM])
    return lane;
  if (to_sweep(task))
    return &disk.lanes[BROOM];
  return task->steps[task->done].type == SMN_STEP_ASIDE ? &disk.lanes[ASIDE]
                                                        : lane;
}

/* False: TASK is another thread's now.  */
static bool run_task(struct lane *lane, struct task *task) {
  struct smn_error err = {.kind = SMN_OK};
  struct smn_event *event = task->event;
  for (; task->done < task->count; task->done++) {
    const struct smn_step *step = &task->steps[task->done];
    struct lane *next = lane_for(lane, task);
    if (next != lane && passed(task, next))
      return false;
    if (step->type != SMN_STEP_ASIDE &&
        run_step(lane, step, event->id, &err, &event->errnum) != SMN_OK) {
      event->step = (int)task->done;
      event->failed = true;
      event->text = strdup(err.text); /* NULL: the errno tells */
      break;
    }
  }
  return true;
}

static void *work(void *argument) {
  struct lane *lane = argument;
  struct task *task;
  pthread_mutex_lock(&disk.lock);
  while ((task = take(lane))) {
    pthread_mutex_unlock(&disk.lock);
    if (run_task(lane, task)) {
      smn_events_post(task->event);
      free_task(task);
    }
    pthread_mutex_lock(&disk.lock);
  }
  forget_all_synced(lane);
  lane->running = false;
  pthread_cond_broadcast(&disk.changed);
  pthread_mutex_unlock(&disk.lock);
  return NULL;
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
               : staff(&disk.lanes[WORK], err);
    if (kind == SMN_OK)
      append(&disk.lanes[WORK], task);
    pthread_mutex_unlock(&disk.lock);
  }
  if (kind != SMN_OK) {
    free(task);
    smn_event_free(event);
  }
  return kind;
}

/* Under lock.  */
static bool busy(void) {
  bool any = false;
  for (size_t i = 0; i < LANES; i++)
    any = any || disk.lanes[i].running;
  return any;
}

bool smn_disk_finish(int timeout_ms) {
  int64_t deadline = smn_now_ms() + timeout_ms;
  bool in_time = true;
  pthread_once(&disk.once, init);
  pthread_mutex_lock(&disk.lock);
  while (busy() && in_time)
    in_time = smn_condition_wait(&disk.changed, &disk.lock, deadline);
  bool done = !busy();
  pthread_mutex_unlock(&disk.lock);
  return done;
}
