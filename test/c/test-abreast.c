/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-abreast.c - each call is made once, and those that wait for each other
   can only all return when they are made side by side.  */
#include "base/abreast.h"
#include "base/wait.h"
#include "check.h"

#include <pthread.h>

#define MANY 40 /* more than there are threads */

struct calls {
  int count[MANY];
  pthread_mutex_t lock;
  pthread_cond_t all;
  size_t missing; /* of those that wait for each other, under lock */
};

static void await_all(struct calls *calls) {
  pthread_mutex_lock(&calls->lock);
  if (calls->missing > 0 && --calls->missing == 0)
    pthread_cond_broadcast(&calls->all);
  while (calls->missing > 0)
    pthread_cond_wait(&calls->all, &calls->lock);
  pthread_mutex_unlock(&calls->lock);
}

static void run(size_t i, void *context) {
  struct calls *calls = context;
  await_all(calls);
  calls->count[i]++;
}

static void begin(struct calls *calls, size_t missing) {
  *calls = (struct calls){.missing = missing};
  pthread_mutex_init(&calls->lock, NULL);
  pthread_cond_init(&calls->all, NULL);
}

static void check_count(size_t count, bool abreast) {
  struct calls calls;
  begin(&calls, 0);
  smn_abreast(count, run, &calls, abreast);
  for (size_t i = 0; i < MANY; i++)
    CHECK_INT(calls.count[i], i < count);
}

/* No call returns before all have begun.  */
static void check_abreast(size_t count) {
  struct calls calls;
  begin(&calls, count);
  smn_abreast(count, run, &calls, true);
  for (size_t i = 0; i < count; i++)
    CHECK_INT(calls.count[i], 1);
}

int main(void) {
  static const size_t counts[] = {0, 1, 2, 16, 17, 18, MANY};
  for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
    check_count(counts[i], false);
    check_count(counts[i], true);
  }
  check_abreast(2);
  check_abreast(16);
  CHECK(smn_slow_since(smn_now_ms() - 1000));
  CHECK(!smn_slow_since(smn_now_ms() + 1000));
  return check_done("test-abreast");
}
