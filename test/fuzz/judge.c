/* SPDX-License-Identifier: GPL-3.0-or-later */
/* judge.c - what the client says of a job, against what the server knows.  */
#define _GNU_SOURCE /* memmem */
#include "judge.h"
#include "plant.h"
#include "truth.h"
#include "world.h"

#include <string.h>

void judge_text(const char *text, size_t len) {
  static const char *const secrets[] = {"S3cret-pw", "UzNjcmV0LXB3"};
  for (size_t i = 0; text && i < 2; i++)
    if (memmem(text, len, secrets[i], strlen(secrets[i])))
      broken("the password is shown: %.*s", (int)(len > 200 ? 200 : len), text);
}

static void judge_texts(const struct smn_result *result) {
  const char *const texts[] = {result->error.text, result->reply, result->notes,
                               result->unrecorded};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    if (texts[i])
      judge_text(texts[i], strlen(texts[i]));
}

/* What a fault of the core would tell instead.  */
static void distort(struct outcome *o) {
  bool ok = o->kind == SMN_OK;
  if (plant == PLANT_OK)
    o->kind = SMN_OK;
  if (plant == PLANT_OTHERS && ok)
    o->accepted &= o->accepted - 1;
  if (plant == PLANT_CERTAIN)
    o->in_doubt = false;
  if (plant == PLANT_DOUBT)
    o->in_doubt = !ok;
  if (plant == PLANT_FAILED && ok)
    o->kind = SMN_NETWORK;
}

/* Note what came of the recipients, and of the job as a whole.  */
static void note_result(struct outcome *outcome,
                        const struct smn_result *result) {
  outcome->kind = result->error.kind;
  outcome->stage = result->error.stage;
  outcome->in_doubt = result->in_doubt;
  outcome->more = result->more;
  outcome->code = result->error.code;
  outcome->accepted = 0;
  snprintf(outcome->text, sizeof outcome->text, "%.299s", result->error.text);
  judge_texts(result);
  for (size_t r = 0; r < result->recipient_count; r++) {
    const struct smn_recipient_result *one = &result->recipients[r];
    if (truths.plan->lmtp ? one->delivered : one->accepted)
      outcome->accepted |= 1ull << r;
  }
}

void judge_note(struct outcome *outcome, unsigned j, enum smn_kind kind,
                const struct smn_result *result) {
  outcome->count++;
  outcome->told_ms = world_now_ms();
  outcome->kind = kind;
  if (result)
    note_result(outcome, result);
  note("== job %u: %s%s, stage %s, code %d, recipients %#llx%s: %s", j,
       smn_kind_name(outcome->kind), outcome->in_doubt ? " IN DOUBT" : "",
       smn_stage_name(outcome->stage), outcome->code,
       (unsigned long long)outcome->accepted, outcome->more ? ", more" : "",
       outcome->text);
  distort(outcome);
}

/* What stands in the receipt of job J, "" without one.  */
static const char *read_receipt(unsigned j) {
  static char text[1 << 18];
  char name[300];
  snprintf(name, sizeof name, "%s/j%u/receipt", truths.folder, j);
  FILE *in = fopen(name, "r");
  size_t len = in ? fread(text, 1, sizeof text - 1, in) : 0;
  text[len] = '\0';
  if (in)
    fclose(in);
  return text;
}

/* Its receipt can be relied on.  */
static bool recorded(unsigned j) {
  const struct plan_job *job = &truths.plan->job[j];
  return job->entry && job->fault != FILE_ENTRY_GOES &&
         job->fault != FILE_NO_SYNC;
}

static void require_line(unsigned j, const char *text, const char *line) {
  if (!strstr(text, line))
    broken("job %u: its receipt lacks %s", j, line + strspn(line, "\n "));
}

void judge_receipt(unsigned j, const struct smn_result *result) {
  char line[800];
  if (!recorded(j) || (result && result->unrecorded))
    return;
  const char *text = read_receipt(j);
  if (!result) {
    if (text[0])
      broken("job %u: a receipt of what has never begun", j);
    return;
  }
  bool doubt = result->in_doubt != (plant == PLANT_RECEIPT);
  snprintf(line, sizeof line, "\n :kind %s\n :stage %s\n :code %d\n",
           smn_kind_name(result->error.kind),
           smn_stage_name(result->error.stage), result->error.code);
  require_line(j, text, line);
  require_line(j, text, doubt ? "\n :in-doubt t\n" : "\n :in-doubt nil\n");
  require_line(j, text, result->more ? "\n :more t\n" : "\n :more nil\n");
  for (size_t r = 0; r < result->recipient_count; r++) {
    const struct smn_recipient_result *one = &result->recipients[r];
    snprintf(line, sizeof line, "\n  (\"%s\" %s %d \"%s\"", one->address,
             one->delivered  ? "delivered"
             : one->accepted ? "t"
                             : "nil",
             one->code, one->enhanced);
    require_line(j, text, line);
  }
}

void judge_doubt(unsigned j) {
  if (!recorded(j))
    return;
  const char *text = plant == PLANT_UNMARKED ? "" : read_receipt(j);
  /* A refusal that came before the server has read the end is the last word. */
  if (!strstr(text, "\n :in-doubt t\n") && !strstr(text, "\n :kind reply\n"))
    broken("job %u: its end of data has left without a mark of doubt", j);
}

static void judge_ok(unsigned j, const struct outcome *o,
                     const struct truth *t) {
  bool found = false;
  if (t->weak)
    return;
  for (unsigned i = 0; i < t->taken; i++)
    found |= t->takings[i].exact && t->takings[i].recipients == o->accepted;
  if (!found)
    broken("job %u: ok for %#llx, and the server has taken it %s", j,
           (unsigned long long)o->accepted, t->taken ? "for others" : "never");
}

static void judge_failed(unsigned j, const struct outcome *o,
                         const struct truth *t) {
  if (o->in_doubt && !t->end_seen)
    broken("job %u: in doubt, and its end of data has never left", j);
  for (unsigned i = 0; i < t->taken && !o->in_doubt; i++)
    if (!t->takings[i].weak)
      broken("job %u: failed (%s), and the server has taken it", j,
             smn_kind_name(o->kind));
  if (t->refused && o->in_doubt && !o->cancelled && !t->weak)
    broken("job %u: in doubt, and the server has clearly refused it", j);
  if (t->refused && t->code && !t->weak && !o->cancelled &&
      (o->kind != SMN_REPLY || o->code != t->code) && t->taken == 0)
    broken("job %u: refused by %d, and told %s %d", j, t->code,
           smn_kind_name(o->kind), o->code);
}

/* The server has told that it took it, and never lied.  */
static void judge_told(unsigned j, const struct outcome *o,
                       const struct truth *t) {
  for (unsigned i = 0; i < t->taken; i++)
    if (t->takings[i].told && !t->takings[i].weak && !t->weak &&
        !o->cancelled && o->kind != SMN_OK)
      broken("job %u: taken and told so, and yet %s%s", j,
             smn_kind_name(o->kind), o->in_doubt ? " in doubt" : "");
}

static void judge_twice(unsigned j, const struct truth *t) {
  for (unsigned i = 0; i < t->taken; i++)
    for (unsigned k = 0; k < i; k++)
      if (!t->takings[i].weak && !t->takings[k].weak &&
          (t->takings[i].recipients & t->takings[k].recipients))
        broken("job %u: taken twice", j);
}

/* Every reason why something may go wrong without a fault of the server.  */
static bool excused(const struct plan *plan, unsigned j,
                    const struct outcome *o) {
  const struct plan_job *job = &plan->job[j];
  return o->cancelled || job->fault || o->kind == SMN_UNSUPPORTED ||
         o->kind == SMN_TOO_LARGE;
}

static void judge_quiet(const struct plan *plan, const struct outcome *o) {
  for (unsigned j = 0; j < plan->jobs; j++)
    if (plan->job[j].fault == FILE_NO_SYNC)
      return;
  for (unsigned j = 0; j < plan->jobs; j++)
    if (o[j].kind != SMN_OK && !excused(plan, j, &o[j]))
      broken("job %u: nothing was wrong, and yet: %s: %s", j,
             smn_kind_name(o[j].kind), o[j].text);
}

void judge(const struct plan *plan, const struct outcome *outcomes,
           bool stopped) {
  for (unsigned j = 0; j < plan->jobs; j++) {
    const struct outcome *o = &outcomes[j];
    const struct truth *t = &truths.job[j];
    if (!o->submitted)
      continue;
    if (o->count != 1)
      broken("job %u: %u outcomes", j, o->count);
    else if (o->kind == SMN_OK)
      judge_ok(j, o, t);
    else
      judge_failed(j, o, t);
    if (o->count == 1 && !stopped)
      judge_told(j, o, t);
    judge_twice(j, t);
  }
  if (plan->acts == 0 && !stopped)
    judge_quiet(plan, outcomes);
}
