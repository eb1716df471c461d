/* SPDX-License-Identifier: GPL-3.0-or-later */
/* preload.h - to stand between a program and the C library.
   For what is loaded before a program by LD_PRELOAD; to be included first.  */
#ifndef PRELOAD_H
#define PRELOAD_H

#define _GNU_SOURCE
/* The functions of both names are here, each under its own.  */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>

#define REAL(name) ((__typeof__(&name))real(#name))
#define EXPORT __attribute__((visibility("default")))

/* ISO C has no cast from a pointer to a function.  */
static void (*real(const char *name))(void) {
  void (*function)(void);
  void *found = dlsym(RTLD_NEXT, name);
  memcpy(&function, &found, sizeof function);
  return function;
}

/* In a function like open: declares mode, the argument after flags.  */
#define MODE                                                                   \
  mode_t mode = 0;                                                             \
  if (flags & (O_CREAT | O_TMPFILE)) {                                         \
    va_list arguments;                                                         \
    va_start(arguments, flags);                                                \
    mode = va_arg(arguments, mode_t);                                          \
    va_end(arguments);                                                         \
  }

#endif
