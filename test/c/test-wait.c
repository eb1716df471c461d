/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-wait.c - a wait ends by what it waits for, in time, or by a cancel; and
   a thread has room for its stack.  */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* pthread_getattr_np */
#endif
#include "base/wait.h"
#include "check.h"

#include <pthread.h>
#include <unistd.h>

static void check_waits(void) {
  struct smn_error err = {.kind = SMN_OK};
  int ends[2] = {-1, -1}, cancel[2] = {-1, -1};
  CHECK(smn_pipe(ends) && smn_pipe(cancel));
  CHECK_INT(
      smn_wait(ends[0], SMN_WAIT_READ, smn_now_ms() + 20, cancel[0], &err),
      SMN_TIMEOUT);
  CHECK_INT(write(ends[1], "", 1), 1);
  CHECK_INT(smn_wait(ends[0], SMN_WAIT_READ, smn_now_ms(), cancel[0], &err),
            SMN_OK);
  CHECK_INT(write(cancel[1], "", 1), 1);
  CHECK_INT(
      smn_wait(ends[0], SMN_WAIT_READ, smn_now_ms() + 60000, cancel[0], &err),
      SMN_CANCELLED);
  for (int i = 0; i < 2; i++) {
    close(ends[i]);
    close(cancel[i]);
  }
}

/* The thread that started this one counts checks at the same time.  */
static void *note_stack(void *size) {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstacksize(&attributes, size);
    pthread_attr_destroy(&attributes);
  }
  return NULL;
}

/* As where the system is stingy; and what it gives by itself is not cut.  */
static void test_thread_stack(void) {
  pthread_attr_t before, changed;
  CHECK_INT(pthread_getattr_default_np(&before), 0);
  for (size_t size = 131072; size <= 4194304; size *= 32) {
    size_t got = 0;
    pthread_t thread;
    pthread_attr_init(&changed);
    pthread_attr_setstacksize(&changed, size);
    CHECK_INT(pthread_setattr_default_np(&changed), 0);
    pthread_attr_destroy(&changed);
    CHECK_INT(smn_thread_start(&thread, note_stack, &got), 0);
    pthread_join(thread, NULL);
    CHECK(got >= 1048576 && got >= size);
  }
  CHECK_INT(pthread_setattr_default_np(&before), 0);
  pthread_attr_destroy(&before);
}

int main(void) {
  check_waits();
  test_thread_stack();
  return check_done("test-wait");
}
