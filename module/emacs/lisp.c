/* SPDX-License-Identifier: GPL-3.0-or-later */
/* lisp.c - touching Lisp values.  */
#include "emacs/lisp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIST_MAX 100000 /* longer is circular, or absurd */

bool smn_lisp_ok(emacs_env *env) {
  return env->non_local_exit_check(env) == emacs_funcall_exit_return;
}

emacs_value smn_lisp_symbol(emacs_env *env, const char *name) {
  return env->intern(env, name);
}

emacs_value smn_lisp_nil(emacs_env *env) { return env->intern(env, "nil"); }

emacs_value smn_lisp_bool(emacs_env *env, bool value) {
  return env->intern(env, value ? "t" : "nil");
}

emacs_value smn_lisp_call(emacs_env *env, const char *function, ptrdiff_t count,
                          emacs_value *args) {
  emacs_value symbol = env->intern(env, function);
  return smn_lisp_ok(env) ? env->funcall(env, symbol, count, args) : NULL;
}

bool smn_lisp_eq(emacs_env *env, emacs_value value, const char *symbol) {
  emacs_value other = env->intern(env, symbol);
  return smn_lisp_ok(env) && env->eq(env, value, other);
}

bool smn_lisp_true(emacs_env *env, emacs_value value) {
  return smn_lisp_ok(env) && env->is_not_nil(env, value);
}

bool smn_lisp_is(emacs_env *env, const char *predicate, emacs_value value) {
  emacs_value answer = smn_lisp_call(env, predicate, 1, &value);
  return smn_lisp_true(env, answer);
}

emacs_value smn_lisp_car(emacs_env *env, emacs_value cons) {
  return smn_lisp_call(env, "car", 1, &cons);
}

emacs_value smn_lisp_cdr(emacs_env *env, emacs_value cons) {
  return smn_lisp_call(env, "cdr", 1, &cons);
}

emacs_value smn_lisp_variable(emacs_env *env, const char *name) {
  emacs_value symbol = env->intern(env, name);
  return smn_lisp_is(env, "boundp", symbol)
             ? smn_lisp_call(env, "symbol-value", 1, &symbol)
             : env->intern(env, "nil");
}

void smn_lisp_signal(emacs_env *env, const char *condition, const char *text) {
  if (!smn_lisp_ok(env))
    return;
  emacs_value octets = smn_lisp_octets(env, text, strlen(text));
  emacs_value args[] = {octets, env->intern(env, "utf-8")};
  emacs_value data[] = {smn_lisp_call(env, "decode-coding-string", 2, args)};
  emacs_value list = smn_lisp_call(env, "list", 1, data);
  if (smn_lisp_ok(env))
    env->non_local_exit_signal(env, env->intern(env, condition), list);
}

static void usage(emacs_env *env, const char *what, const char *problem) {
  char text[256];
  snprintf(text, sizeof text, "%s %s", what, problem);
  smn_lisp_signal(env, "smtpmail-native-usage-error", text);
}

/* The size of VALUE as UTF-8 with the NUL behind it, 0 with a signal pending.
   Emacs's own complaint would show the string, which may be a password.  */
static ptrdiff_t string_size(emacs_env *env, emacs_value value,
                             const char *what) {
  ptrdiff_t size = 0;
  if (!smn_lisp_ok(env))
    return 0;
  if (!smn_lisp_is(env, "stringp", value)) {
    usage(env, what, "is not a string");
    return 0;
  }
  if (!smn_lisp_ok(env) || env->copy_string_contents(env, value, NULL, &size))
    return size;
  emacs_value symbol, data;
  env->non_local_exit_get(env, &symbol, &data);
  env->non_local_exit_clear(env);
  usage(env, what, "holds characters that have no encoding in UTF-8");
  return 0;
}

char *smn_lisp_copy(emacs_env *env, emacs_value value, const char *what,
                    size_t *len) {
  ptrdiff_t size = string_size(env, value, what);
  if (size == 0)
    return NULL;
  char *copy = malloc((size_t)size);
  if (!copy)
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
  else if (env->copy_string_contents(env, value, copy, &size)) {
    *len = (size_t)size - 1;
    return copy;
  }
  free(copy);
  return NULL;
}

char *smn_lisp_string(emacs_env *env, emacs_value value, const char *what) {
  size_t len = 0;
  char *copy = smn_lisp_copy(env, value, what, &len);
  if (!copy || !memchr(copy, '\0', len))
    return copy;
  usage(env, what, "holds a NUL character");
  free(copy);
  return NULL;
}

size_t smn_lisp_length(emacs_env *env, emacs_value list, const char *what) {
  emacs_value length = smn_lisp_call(env, "proper-list-p", 1, &list);
  intmax_t count =
      smn_lisp_true(env, length) ? env->extract_integer(env, length) : -1;
  if (smn_lisp_ok(env) && (count < 0 || count > LIST_MAX))
    usage(env, what, "is not a proper list");
  return smn_lisp_ok(env) ? (size_t)count : 0;
}

bool smn_lisp_secret(emacs_env *env, emacs_value value, const char *what,
                     struct smn_buf *buf) {
  ptrdiff_t size = string_size(env, value, what);
  if (size == 0)
    return false;
  if (!smn_buf_init_secret(buf, (size_t)size)) {
    smn_lisp_signal(env, "smtpmail-native-error", "no memory");
    return false;
  }
  if (!env->copy_string_contents(env, value, buf->data, &size)) {
    smn_buf_free(buf);
    return false;
  }
  buf->len = (size_t)size - 1;
  return true;
}

static char **no_strings(emacs_env *env, char **strings, size_t count) {
  for (size_t i = 0; i < count; i++)
    free(strings[i]);
  free((void *)strings);
  smn_lisp_signal(env, "smtpmail-native-error", "no memory");
  return NULL;
}

char **smn_lisp_strings(emacs_env *env, emacs_value list, const char *what) {
  size_t count = 0, room = 0;
  char **strings = NULL;
  do {
    if (count >= room) {
      room = room ? room * 2 : 8;
      char **more = realloc((void *)strings, (room + 1) * sizeof(char *));
      if (!more)
        return no_strings(env, strings, count);
      strings = more;
    }
    strings[count] = NULL;
    if (!smn_lisp_is(env, "consp", list))
      break;
    strings[count] = smn_lisp_string(env, smn_lisp_car(env, list), what);
    list = smn_lisp_cdr(env, list);
  } while (strings[count] && ++count < LIST_MAX);
  if (smn_lisp_true(env, list))
    usage(env, what, "is not a proper list");
  /* A pending signal stays the one that is told.  */
  return smn_lisp_ok(env) ? strings : no_strings(env, strings, count);
}

emacs_value smn_lisp_octets(emacs_env *env, const char *bytes, size_t len) {
  if (!bytes)
    return smn_lisp_nil(env);
  return env->make_unibyte_string(env, bytes, (ptrdiff_t)len);
}

#define ITEMS_MAX                                                              \
  ((ptrdiff_t)(sizeof((struct smn_lisp_list *)0)->items / sizeof(emacs_value)))

void smn_lisp_add(struct smn_lisp_list *list, emacs_value value) {
  if (list->count < ITEMS_MAX)
    list->items[list->count] = value;
  list->count++;
}

void smn_lisp_add_pair(emacs_env *env, struct smn_lisp_list *list,
                       const char *key, emacs_value value) {
  smn_lisp_add(list, env->intern(env, key));
  smn_lisp_add(list, value);
}

emacs_value smn_lisp_list(emacs_env *env, struct smn_lisp_list *list) {
  if (list->count > ITEMS_MAX) {
    smn_lisp_signal(env, "smtpmail-native-error", "a list is too long");
    return NULL;
  }
  return smn_lisp_call(env, "list", list->count, list->items);
}

void smn_lisp_defun(emacs_env *env, const char *name, ptrdiff_t min,
                    ptrdiff_t max, smn_lisp_function *function,
                    const char *doc) {
  emacs_value made = env->make_function(env, min, max, function, doc, NULL);
  emacs_value args[] = {env->intern(env, name), made};
  smn_lisp_call(env, "defalias", 2, args);
}
