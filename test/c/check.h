/* SPDX-License-Identifier: GPL-3.0-or-later */
/* check.h - the checks of the C tests.
   A failed check is printed with its place and counted; the program goes on,
   so that one run shows all failures.  main ends by check_done.  */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static _Atomic int check_passed, check_failed; /* any thread checks */

static inline bool check_that(bool ok, const char *file, int line,
                              const char *what) {
  if (ok)
    check_passed++;
  else {
    check_failed++;
    printf("%s:%d: failed: %s\n", file, line, what);
  }
  return ok;
}

static inline void check_long(long long got, long long want, const char *file,
                              int line, const char *what) {
  if (!check_that(got == want, file, line, what))
    printf("  got %lld, want %lld\n", got, want);
}

static inline void check_string(const char *got, const char *want,
                                const char *file, int line, const char *what) {
  if (!check_that(got && want && strcmp(got, want) == 0, file, line, what))
    printf("  got  \"%s\"\n  want \"%s\"\n", got ? got : "(null)",
           want ? want : "(null)");
}

#define CHECK(ok) check_that((ok), __FILE__, __LINE__, #ok)
#define CHECK_INT(got, want)                                                   \
  check_long((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
#define CHECK_STRING(got, want)                                                \
  check_string((got), (want), __FILE__, __LINE__, #got)

/* The line that the Makefile adds up, and the exit status.  */
static inline int check_done(const char *name) {
  printf("%s: %d passed, %d failed\n", name, check_passed, check_failed);
  return check_failed != 0;
}

#endif
