/* SPDX-License-Identifier: GPL-3.0-or-later */
/* events.c - what the threads have to tell.
   The list is one chain: first come those that are lent to the main thread,
   which no other thread touches, then those that wait.  */
#include "engine/events.h"
#include "base/wait.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
  pthread_mutex_t lock; /* of all that follows */
  struct smn_event *lent, **lent_end;
  struct smn_event *waiting, **waiting_end;
  size_t lent_count;
  int wake_fd;
  bool woken; /* an octet is under way that has not been answered yet */
  long ids;
} events = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake_fd = -1};

long smn_events_id(void) {
  pthread_mutex_lock(&events.lock);
  events.ids = events.ids == LONG_MAX ? 1 : events.ids + 1;
  long id = events.ids;
  pthread_mutex_unlock(&events.lock);
  return id;
}

struct smn_event *smn_event_new(long id, enum smn_event_type type) {
  struct smn_event *event = calloc(1, sizeof *event);
  if (event) {
    event->id = id;
    event->type = type;
  }
  return event;
}

void smn_event_free(struct smn_event *event) {
  if (!event)
    return;
  if (event->type == SMN_EVENT_DONE) {
    if (event->result)
      smn_result_free(event->result);
    free(event->result);
    smn_job_free(event->job);
  }
  if (event->type != SMN_EVENT_TRACE) /* whose text stands after it */
    free(event->text);
  free(event);
}

/* Under lock.  A full pipe is as good as a written octet.  */
static void wake(void) {
  if (events.woken || events.wake_fd < 0)
    return;
  events.woken = true;
  while (write(events.wake_fd, "", 1) < 0 && errno == EINTR)
    continue;
}

/* Under lock.  */
static void append(struct smn_event *event) {
  if (!events.waiting)
    events.waiting_end = &events.waiting;
  *events.waiting_end = event;
  events.waiting_end = &event->next;
  wake();
}

void smn_events_post(struct smn_event *event) {
  event->next = NULL;
  pthread_mutex_lock(&events.lock);
  append(event);
  pthread_mutex_unlock(&events.lock);
}

void smn_events_trace(long id, bool from_server, const char *text, size_t len) {
  struct smn_event *event = malloc(sizeof *event + len + 1);
  if (!event)
    return;
  *event = (struct smn_event){.id = id,
                              .type = SMN_EVENT_TRACE,
                              .text = (char *)(event + 1),
                              .len = len,
                              .from_server = from_server};
  memcpy(event->text, text, len);
  event->text[len] = '\0';
  smn_events_post(event);
}

/* Under lock: the event of TYPE for ID that still waits, or a new one; NULL
   without memory.  */
static struct smn_event *waiting_event(long id, enum smn_event_type type) {
  struct smn_event *event = events.waiting;
  while (event && (event->type != type || event->id != id))
    event = event->next;
  if (!event && (event = smn_event_new(id, type)))
    append(event);
  return event;
}

void smn_events_progress(long id, uint64_t sent, uint64_t total) {
  pthread_mutex_lock(&events.lock);
  /* Without memory one is left out, which harms nothing.  */
  struct smn_event *event = waiting_event(id, SMN_EVENT_PROGRESS);
  if (event) {
    event->sent = sent;
    event->total = total;
  }
  pthread_mutex_unlock(&events.lock);
}

void smn_events_network(long id) {
  pthread_mutex_lock(&events.lock);
  (void)waiting_event(id, SMN_EVENT_NETWORK);
  pthread_mutex_unlock(&events.lock);
}

/* Under lock: lend one more.  */
static void lend(void) {
  struct smn_event *event = events.waiting;
  events.waiting = event->next;
  event->next = NULL;
  if (!events.lent)
    events.lent_end = &events.lent;
  *events.lent_end = event;
  events.lent_end = &event->next;
  events.lent_count++;
}

const struct smn_event *smn_events_borrow(size_t max, bool *more) {
  pthread_mutex_lock(&events.lock);
  events.woken = false;
  while (events.waiting && events.lent_count < max)
    lend();
  *more = events.waiting != NULL || events.lent_count > max;
  const struct smn_event *first = events.lent;
  pthread_mutex_unlock(&events.lock);
  return first;
}

void smn_events_delivered(size_t count) {
  struct smn_event *done = NULL;
  pthread_mutex_lock(&events.lock);
  while (count-- > 0 && events.lent) {
    struct smn_event *event = events.lent;
    events.lent = event->next;
    events.lent_count--;
    event->next = done;
    done = event;
  }
  if (events.waiting || events.lent)
    wake();
  pthread_mutex_unlock(&events.lock);
  while (done) {
    struct smn_event *next = done->next;
    smn_event_free(done);
    done = next;
  }
}

void smn_events_wake(int fd) {
  if (fd >= 0)
    (void)smn_set_nonblocking(fd);
  pthread_mutex_lock(&events.lock);
  int before = events.wake_fd;
  events.wake_fd = fd;
  events.woken = false;
  if (events.waiting || events.lent)
    wake();
  pthread_mutex_unlock(&events.lock);
  if (before >= 0 && before != fd)
    close(before);
}
