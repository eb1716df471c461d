/* SPDX-License-Identifier: GPL-3.0-or-later */
/* drive-engine.c - the whole core, by the engine's door.  */
#include "drive.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "plant.h"
#include "truth.h"
#include "world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CANCEL_MS 2000 /* a wish to cancel is fulfilled after so long */

struct engine_drive {
  struct drive *drive;
  long ids[JOBS_MAX];
  unsigned long ticks[JOBS_MAX]; /* at which a job is to be cancelled, or 0 */
  unsigned submitted, done;
  long again; /* a job that nobody has submitted, or 0 */
  int wake[2];
};

static int job_of(const struct engine_drive *e, long id) {
  for (unsigned j = 0; j < e->submitted; j++)
    if (e->ids[j] == id)
      return (int)j;
  return -1;
}

/* What a fault of the core would do with the outcome of job J.  */
static void misbehave(struct engine_drive *e, unsigned j) {
  static void *volatile lost;
  struct smn_error err;
  struct outcome *outcome = &e->drive->outcomes[j];
  if (plant == PLANT_TWO_OUTCOMES)
    outcome->count++;
  if (plant == PLANT_LEAK)
    lost = malloc(10);
  if (plant == PLANT_DESCRIPTOR && dup(0) < 0)
    abort();
  if (plant == PLANT_PASSWORD)
    judge_text("a S3cret-pw b", 13);
  if (plant == PLANT_AGAIN && outcome->kind == SMN_OK && !e->again)
    (void)smn_engine_submit(drive_job(e->drive, j), &e->again, &err);
  (void)lost;
}

static void on_event(struct engine_drive *e, const struct smn_event *event) {
  int j = job_of(e, event->id);
  if (e->again && event->id == e->again)
    return;
  if (j < 0) {
    broken("an event of no job");
    return;
  }
  if (event->type == SMN_EVENT_TRACE)
    judge_text(event->text, event->len);
  if (event->type != SMN_EVENT_DONE)
    return;
  struct outcome *outcome = &e->drive->outcomes[j];
  judge_receipt((unsigned)j, event->result);
  judge_note(outcome, (unsigned)j, event->kind, event->result);
  misbehave(e, (unsigned)j);
  e->done++;
  /* Events are not fetched during a shutdown.  */
  if (outcome->cancelled && !e->drive->stopped &&
      outcome->told_ms - outcome->cancelled_ms > CANCEL_MS)
    broken("job %d: told %lld ms after the wish to cancel", j,
           (long long)(outcome->told_ms - outcome->cancelled_ms));
}

static void fetch(struct engine_drive *e) {
  char octets[64];
  while (read(e->wake[0], octets, sizeof octets) > 0)
    continue;
  bool more = true;
  while (more) {
    size_t count = 0;
    const struct smn_event *event = smn_events_borrow(5, &more);
    for (; event && count < 5; event = event->next, count++)
      on_event(e, event);
    smn_events_delivered(count);
  }
}

static void submit(struct engine_drive *e) {
  unsigned j = e->submitted;
  struct smn_error err;
  struct outcome *outcome = &e->drive->outcomes[j];
  note("== job %u is submitted", j);
  outcome->submitted = true;
  outcome->submitted_ms = world_now_ms();
  if (smn_engine_submit(drive_job(e->drive, j), &e->ids[j], &err) != SMN_OK) {
    outcome->submitted = false;
    e->done++;
    broken("cannot submit: %s", err.text);
  }
  if (e->drive->plan->job[j].cancel_tick)
    e->ticks[j] = world_ticks() + e->drive->plan->job[j].cancel_tick;
  e->submitted++;
}

static void cancel_due(struct engine_drive *e) {
  for (unsigned j = 0; j < e->submitted; j++) {
    struct outcome *outcome = &e->drive->outcomes[j];
    if (!e->ticks[j] || e->ticks[j] > world_ticks())
      continue;
    e->ticks[j] = 0;
    if (outcome->count)
      continue;
    outcome->cancelled =
        plant == PLANT_NO_CANCEL || smn_engine_cancel(e->ids[j]);
    outcome->cancelled_ms = world_now_ms();
    note("== job %u is cancelled%s", j, outcome->cancelled ? "" : ", too late");
  }
}

static unsigned long next_tick(const struct engine_drive *e) {
  unsigned long next = e->drive->stopped ? 0 : e->drive->plan->shutdown_tick;
  for (unsigned j = 0; j < e->submitted; j++)
    if (e->ticks[j] && (!next || e->ticks[j] < next))
      next = e->ticks[j];
  return next;
}

/* Until all jobs have their outcomes.  */
static void run(struct engine_drive *e) {
  const struct plan *plan = e->drive->plan;
  int64_t turn_ms = world_now_ms(), limit_ms = drive_limit_ms(plan);
  while (e->submitted < plan->jobs || e->done < e->submitted) {
    while (e->submitted < plan->jobs &&
           turn_ms + plan->job[e->submitted].after_ms <= world_now_ms()) {
      turn_ms += plan->job[e->submitted].after_ms;
      submit(e);
    }
    int64_t until = world_now_ms() + limit_ms;
    if (e->submitted < plan->jobs)
      until = turn_ms + plan->job[e->submitted].after_ms;
    unsigned done = e->done, submitted = e->submitted;
    int64_t before_ms = world_now_ms();
    world_wait(e->wake[0], until, next_tick(e));
    fetch(e);
    cancel_due(e);
    if (plan->shutdown_tick && plan->shutdown_tick <= world_ticks()) {
      e->drive->stopped = true;
      return;
    }
    if (done == e->done && submitted == e->submitted &&
        submitted == plan->jobs && world_now_ms() - before_ms >= limit_ms) {
      broken("no outcome in time");
      return;
    }
  }
}

void drive_engine(struct drive *drive) {
  struct engine_drive e = {.drive = drive};
  if (pipe(e.wake) != 0)
    abort();
  fcntl(e.wake[0], F_SETFL, O_NONBLOCK);
  smn_events_wake(e.wake[1]);
  run(&e);
  /* Some kept sessions end by themselves.  */
  if (!drive->stopped && drive->plan->seed & 4)
    world_wait(-1, world_now_ms() + drive->plan->idle_ms + 1000, 0);
  if (drive->stopped)
    note("== the engine is shut down");
  int64_t before_ms = world_now_ms();
  if (!smn_engine_shutdown(8000))
    broken("the engine leaves threads behind");
  if (world_now_ms() - before_ms > 9000)
    broken("the engine needs %lld ms to shut down",
           (long long)(world_now_ms() - before_ms));
  fetch(&e);
  smn_events_wake(-1);
  close(e.wake[0]);
  for (unsigned j = 0; drive->stopped && j < e.submitted; j++)
    drive->outcomes[j].cancelled = true;
}
