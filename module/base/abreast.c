/* SPDX-License-Identifier: GPL-3.0-or-later */
/* abreast.c - calls that wait side by side.  */
#include "base/abreast.h"
#include "base/wait.h"

#define THREADS_MAX 16
#define SLOW_MS 10

struct one {
  void (*run)(size_t i, void *context);
  void *context;
  size_t i;
  pthread_t thread;
};

static void *work(void *argument) {
  const struct one *one = argument;
  one->run(one->i, one->context);
  return NULL;
}

bool smn_slow_since(int64_t begin_ms) {
  return smn_now_ms() - begin_ms > SLOW_MS;
}

void smn_abreast(size_t count, void (*run)(size_t i, void *context),
                 void *context, bool abreast) {
  struct one all[THREADS_MAX];
  size_t threads = 0;
  /* The first is this thread's.  */
  for (size_t i = 1; abreast && i < count && threads < THREADS_MAX; i++) {
    struct one *one = &all[threads];
    *one = (struct one){.run = run, .context = context, .i = i};
    if (smn_thread_start(&one->thread, work, one) != 0)
      break;
    threads++;
  }
  for (size_t i = 0; i < count; i++)
    if (i == 0 || i > threads)
      run(i, context);
  for (size_t i = 0; i < threads; i++)
    pthread_join(all[i].thread, NULL);
}
