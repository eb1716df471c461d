/* SPDX-License-Identifier: GPL-3.0-or-later */
/* steps.c - what the disk is to do, as a list.  */
#include "emacs/steps.h"
#include "engine/disk.h"

#include <stdlib.h>
#include <string.h>

/* An operand of a step: an absolute file name in its own octets.  */
static char *get_file(emacs_env *env, emacs_value value) {
  char *file = smn_lisp_string(env, value, "A file of a step");
  if (file && file[0] != '/')
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A file name of a step is not absolute");
  return file;
}

static const struct {
  const char *name;
  enum smn_step_type type;
  bool to, octets; /* a second operand */
  bool bare;       /* no operand at all */
  bool limit;      /* a third one, an integer */
} steps[] = {
    {.name = "create", .type = SMN_STEP_CREATE},
    {.name = "area", .type = SMN_STEP_AREA},
    {.name = "write", .type = SMN_STEP_WRITE, .octets = true},
    {.name = "sync", .type = SMN_STEP_SYNC},
    {.name = "sync-all", .type = SMN_STEP_SYNC_ALL},
    {.name = "rename", .type = SMN_STEP_RENAME, .to = true},
    {.name = "delete", .type = SMN_STEP_DELETE},
    {.name = "remove", .type = SMN_STEP_REMOVE},
    {.name = "append", .type = SMN_STEP_APPEND, .octets = true, .limit = true},
    {.name = "aside", .type = SMN_STEP_ASIDE, .bare = true},
};

/* The claim, the target and the parts of STEP from what follows its file.
   Returns the rest, which is empty.  */
static emacs_value get_create(emacs_env *env, emacs_value list,
                              struct smn_step *step) {
  step->claim = (int)env->extract_integer(env, smn_lisp_car(env, list));
  list = smn_lisp_cdr(env, list);
  if (smn_lisp_true(env, smn_lisp_car(env, list)))
    step->to = get_file(env, smn_lisp_car(env, list));
  list = smn_lisp_cdr(env, list);
  size_t count = smn_lisp_length(env, list, "The parts of a step") / 2;
  step->parts = calloc(count + 1, sizeof *step->parts);
  if (!step->parts) {
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
    return list;
  }
  while (smn_lisp_ok(env) && step->part_count < count) {
    struct smn_part *part = &step->parts[step->part_count++];
    part->name = smn_lisp_string(env, smn_lisp_car(env, list), "A name");
    if (part->name && (!*part->name || strchr(part->name, '/')))
      smn_lisp_signal(env, "smtpmail-native-usage-error",
                      "A name in a step is none of a file");
    list = smn_lisp_cdr(env, list);
    part->octets = smn_lisp_copy(env, smn_lisp_car(env, list),
                                 "The content of a file", &part->len);
    list = smn_lisp_cdr(env, list);
  }
  return list;
}

/* LIST -> *STEP; with a signal pending what was made must be cleared.  */
static void get_step(emacs_env *env, emacs_value list, struct smn_step *step) {
  emacs_value name = smn_lisp_car(env, list);
  size_t i = 0, count = sizeof steps / sizeof *steps;
  while (i < count && !smn_lisp_eq(env, name, steps[i].name))
    i++;
  if (!smn_lisp_ok(env))
    return;
  if (i == count) {
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A step has no operation that is known");
    return;
  }
  step->type = steps[i].type;
  list = smn_lisp_cdr(env, list);
  if (!steps[i].bare) {
    step->file = get_file(env, smn_lisp_car(env, list));
    list = smn_lisp_cdr(env, list);
  }
  if (step->type == SMN_STEP_CREATE)
    list = get_create(env, list, step);
  if (steps[i].to || steps[i].octets) {
    emacs_value second = smn_lisp_car(env, list);
    list = smn_lisp_cdr(env, list);
    if (steps[i].to)
      step->to = get_file(env, second);
    else
      step->octets =
          smn_lisp_copy(env, second, "The content of a file", &step->len);
  }
  if (steps[i].limit) {
    step->limit = (long)env->extract_integer(env, smn_lisp_car(env, list));
    list = smn_lisp_cdr(env, list);
  }
  if (smn_lisp_true(env, list))
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "A step has too many operands");
}

struct smn_step *smn_steps_get(emacs_env *env, emacs_value list,
                               size_t *count) {
  size_t length = smn_lisp_length(env, list, "STEPS"), made = 0;
  struct smn_step *all = calloc(length + 1, sizeof *all);
  if (!all) {
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
    return NULL;
  }
  for (; smn_lisp_ok(env) && made < length; made++) {
    get_step(env, smn_lisp_car(env, list), &all[made]);
    list = smn_lisp_cdr(env, list);
  }
  *count = length;
  if (smn_lisp_ok(env))
    return all;
  smn_disk_discard(all, length);
  return NULL;
}
