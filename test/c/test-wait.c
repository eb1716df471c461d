/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-wait.c - a wait ends by what it waits for, in time, or by a cancel.  */
#include "base/wait.h"
#include "check.h"

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

int main(void) {
  check_waits();
  return check_done("test-wait");
}
