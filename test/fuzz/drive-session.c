/* SPDX-License-Identifier: GPL-3.0-or-later */
/* drive-session.c - a session by its supply, as the engine uses it, without the
   engine: one thread, and wishes to cancel that come within any system call. */
#include "drive.h"
#include "smtp/session.h"
#include "truth.h"
#include "world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BACKS_MAX 3 /* times that a job may be given back */

enum state { TO_COME, WAITING, TAKEN, DONE };

struct ride {
  enum state state;
  struct smn_job *job;
  struct smn_result result;
  struct smn_observer observer;
  struct smn_task task;
  unsigned long cancel_tick;
  int cancel[2];
  unsigned backs;
  bool plainly;
};

static struct session_drive {
  struct drive *drive;
  struct ride rides[JOBS_MAX];
  unsigned submitted;
  int64_t turn_ms;
} s;

static void on_trace(void *context, bool from_server, const char *text,
                     size_t len) {
  (void)context;
  (void)from_server;
  judge_text(text, len);
}

static void submit(unsigned j) {
  struct ride *ride = &s.rides[j];
  note("== job %u waits", j);
  *ride = (struct ride){.state = WAITING, .job = drive_job(s.drive, j)};
  if (pipe(ride->cancel) != 0 || !smn_result_init(&ride->result, ride->job))
    abort();
  fcntl(ride->cancel[0], F_SETFL, O_NONBLOCK);
  ride->observer = (struct smn_observer){
      .context = ride, .trace = on_trace, .cancel_fd = ride->cancel[0]};
  ride->task = (struct smn_task){ride->job, &ride->observer, &ride->result};
  if (s.drive->plan->job[j].cancel_tick)
    ride->cancel_tick = world_ticks() + s.drive->plan->job[j].cancel_tick;
  s.drive->outcomes[j].submitted = true;
}

/* The jobs whose time has come.  */
static void submit_due(void) {
  const struct plan *plan = s.drive->plan;
  while (s.submitted < plan->jobs &&
         s.turn_ms + plan->job[s.submitted].after_ms <= world_now_ms()) {
    s.turn_ms += plan->job[s.submitted].after_ms;
    submit(s.submitted++);
  }
}

void drive_tick(void) {
  for (unsigned j = 0; j < s.submitted; j++) {
    struct ride *ride = &s.rides[j];
    if (ride->state != TAKEN || !ride->cancel_tick ||
        ride->cancel_tick > world_ticks())
      continue;
    ride->cancel_tick = 0;
    s.drive->outcomes[j].cancelled = true;
    s.drive->outcomes[j].cancelled_ms = world_now_ms();
    note("== job %u is cancelled", j);
    if (write(ride->cancel[1], "", 1) != 1)
      abort();
  }
}

static unsigned number(const struct smn_task *task) {
  const struct ride *ride = task->observer->context;
  return (unsigned)(ride - s.rides);
}

static struct ride *first_waiting(void) {
  submit_due();
  for (unsigned j = 0; j < s.submitted; j++)
    if (s.rides[j].state == WAITING)
      return &s.rides[j];
  return NULL;
}

static const struct smn_task *on_next(void *context) {
  struct ride *ride = first_waiting();
  (void)context;
  if (!ride || ride->plainly)
    return NULL;
  ride->state = TAKEN;
  return &ride->task;
}

static bool on_begin(void *context, const struct smn_task *task) {
  (void)context;
  return !s.drive->outcomes[number(task)].cancelled;
}

static void leave(unsigned j, enum state state) {
  if (s.rides[j].state != TAKEN)
    broken("job %u is told of without having been taken", j);
  s.rides[j].state = state;
}

static void on_done(void *context, const struct smn_task *task) {
  unsigned j = number(task);
  (void)context;
  leave(j, DONE);
  judge_note(&s.drive->outcomes[j], j, task->result->error.kind, task->result);
}

static bool on_back(void *context, const struct smn_task *task,
                    enum smn_back why) {
  unsigned j = number(task);
  (void)context;
  if (why == SMN_BACK_UNWANTED)
    return false;
  note("== job %u is given back%s", j,
       why == SMN_BACK_PLAINLY ? ", plainly" : "");
  leave(j, WAITING);
  s.rides[j].plainly |= why == SMN_BACK_PLAINLY;
  smn_result_clear(task->result);
  if (++s.rides[j].backs > BACKS_MAX)
    broken("job %u is given back again and again", j);
  return s.rides[j].backs <= BACKS_MAX;
}

static void serve(struct smn_session **session, struct ride *ride) {
  static const struct smn_supply supply = {
      .next = on_next, .begin = on_begin, .done = on_done, .back = on_back};
  struct smn_supply plain = supply;
  plain.next = NULL;
  plain.back = NULL;
  ride->state = TAKEN;
  if (*session && (ride->plainly || !smn_session_alive(*session))) {
    smn_session_close(*session);
    *session = NULL;
  }
  if (!*session)
    *session = smn_session_new(ride->plainly);
  smn_session_serve(*session, &ride->task, ride->plainly ? &plain : &supply);
  for (unsigned j = 0; j < s.submitted; j++)
    if (s.rides[j].state == TAKEN) {
      broken("job %u was taken, and is forgotten", j);
      s.rides[j].state = DONE;
    }
}

void drive_session(struct drive *drive) {
  struct smn_session *session = NULL;
  struct ride *ride;
  s = (struct session_drive){.drive = drive, .turn_ms = world_now_ms()};
  int64_t end_ms = world_now_ms() + drive_limit_ms(drive->plan);
  while ((ride = first_waiting()) || s.submitted < drive->plan->jobs) {
    if (ride)
      serve(&session, ride);
    else
      world_wait(-1, s.turn_ms + drive->plan->job[s.submitted].after_ms, 0);
    if (world_now_ms() > end_ms + s.turn_ms - truths.begin_ms)
      broken("no outcome in time");
  }
  smn_session_close(session);
  for (unsigned j = 0; j < s.submitted; j++) {
    smn_result_free(&s.rides[j].result);
    smn_job_free(s.rides[j].job);
    close(s.rides[j].cancel[0]);
    close(s.rides[j].cancel[1]);
  }
  s.submitted = 0;
}
