/* SPDX-License-Identifier: GPL-3.0-or-later */
/* lisp.h - touching Lisp values.
   Main thread only, inside a call from Lisp; an emacs_env or a value is never
   kept.  Once a non-local exit is pending every function here does nothing and
   returns false, NULL or 0, and so callers check once, before they act.  */
#ifndef SMN_LISP_H
#define SMN_LISP_H

#include "base/buf.h"
#include <emacs-module.h>
#include <stdbool.h>
#include <stdint.h>

/* No signal and no quit is under way.  */
bool smn_lisp_ok(emacs_env *env);

emacs_value smn_lisp_symbol(emacs_env *env, const char *name);
emacs_value smn_lisp_nil(emacs_env *env);
emacs_value smn_lisp_bool(emacs_env *env, bool value);
emacs_value smn_lisp_call(emacs_env *env, const char *function, ptrdiff_t count,
                          emacs_value *args);
bool smn_lisp_eq(emacs_env *env, emacs_value value, const char *symbol);
bool smn_lisp_true(emacs_env *env, emacs_value value);

/* The type predicates, by name: "stringp", "integerp", "consp".  */
bool smn_lisp_is(emacs_env *env, const char *predicate, emacs_value value);

emacs_value smn_lisp_car(emacs_env *env, emacs_value cons);
emacs_value smn_lisp_cdr(emacs_env *env, emacs_value cons);

/* The value of the variable NAME, nil when it is unbound.  */
emacs_value smn_lisp_variable(emacs_env *env, const char *name);

/* Signal CONDITION with the data (TEXT); TEXT is UTF-8 or gets its odd octets
   escaped by Emacs.  */
void smn_lisp_signal(emacs_env *env, const char *condition, const char *text);

/* A copy of a Lisp string, to be freed; NULL with a signal pending for anything
   else, for a NUL within it and for characters that have no encoding.  WHAT
   names the value in the error; the value itself is never shown.  */
char *smn_lisp_string(emacs_env *env, emacs_value value, const char *what);

/* The same into a fresh secret BUF, straight from Lisp; NULs pass.  */
bool smn_lisp_secret(emacs_env *env, emacs_value value, const char *what,
                     struct smn_buf *buf);

/* The same for octets, NULs among them: *LEN of them, to be freed.  */
char *smn_lisp_copy(emacs_env *env, emacs_value value, const char *what,
                    size_t *len);

/* The number of elements of LIST; 0 with a signal pending for anything but a
   proper list of a sensible length.  */
size_t smn_lisp_length(emacs_env *env, emacs_value list, const char *what);

/* A NULL-ended copy of a list of strings (nil: no elements), to be freed with
   its strings.  */
char **smn_lisp_strings(emacs_env *env, emacs_value list, const char *what);

/* A unibyte string of LEN octets; nil for NULL.  */
emacs_value smn_lisp_octets(emacs_env *env, const char *bytes, size_t len);

/* A list under construction, made front to back.  More items than there is room
   for are a mistake here, which smn_lisp_list signals.  */
struct smn_lisp_list {
  emacs_value items[64];
  ptrdiff_t count;
};
void smn_lisp_add(struct smn_lisp_list *list, emacs_value value);
void smn_lisp_add_pair(emacs_env *env, struct smn_lisp_list *list,
                       const char *key, emacs_value value);
emacs_value smn_lisp_list(emacs_env *env, struct smn_lisp_list *list);

typedef emacs_value smn_lisp_function(emacs_env *env, ptrdiff_t count,
                                      emacs_value *args, void *data);

/* Make FUNCTION, which takes MIN to MAX arguments, known as NAME; DOC ends in
   "\n\n(fn ARGS)".  */
void smn_lisp_defun(emacs_env *env, const char *name, ptrdiff_t min,
                    ptrdiff_t max, smn_lisp_function *function,
                    const char *doc);

#endif
