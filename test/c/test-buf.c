/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-buf.c - buffers: their bounds, and that a secret stays in its place.  */
#include "base/buf.h"
#include "check.h"

static void check_bounds(bool secret) {
  struct smn_buf buf;
  if (secret)
    CHECK(smn_buf_init_secret(&buf, 10));
  else
    smn_buf_init(&buf, 10);
  CHECK(smn_buf_add_string(&buf, "0123456"));
  CHECK(!smn_buf_add_string(&buf, "7890"));
  CHECK_STRING(buf.data, "0123456");
  CHECK(smn_buf_add_string(&buf, "789"));
  CHECK(!smn_buf_add(&buf, "x", 1));
  CHECK(smn_buf_add(&buf, "", 0));
  smn_buf_consume(&buf, 8);
  CHECK_STRING(buf.data, "89");
  CHECK_INT(buf.len, 2);
  CHECK_INT(buf.data[5], 0);
  smn_buf_clear(&buf);
  CHECK_INT(buf.len, 0);
  CHECK_STRING(buf.data, "");
  CHECK(smn_buf_reserve(&buf, 10) != NULL);
  CHECK(smn_buf_reserve(&buf, 11) == NULL);
  smn_buf_free(&buf);
  smn_buf_free(&buf);
  CHECK(buf.data == NULL);
}

static void check_growth(void) {
  struct smn_buf buf;
  smn_buf_init(&buf, 100000);
  for (int i = 0; i < 100000; i++)
    if (!smn_buf_add(&buf, "x", 1))
      break;
  CHECK_INT(buf.len, 100000);
  CHECK(!smn_buf_add(&buf, "x", 1));
  CHECK_INT(strlen(buf.data), 100000);
  smn_buf_free(&buf);
}

static void check_secret_stays(void) {
  struct smn_buf buf;
  CHECK(smn_buf_init_secret(&buf, 100000));
  const char *place = buf.data;
  while (smn_buf_add_string(&buf, "secret"))
    continue;
  CHECK(buf.data == place);
  smn_buf_free(&buf);
}

int main(void) {
  check_bounds(false);
  check_bounds(true);
  check_growth();
  check_secret_stays();
  return check_done("test-buf");
}
