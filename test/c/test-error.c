/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-error.c - what is quoted and told.  */
#include "base/error.h"
#include "check.h"

#include <errno.h>

static const struct {
  const char *bytes;
  size_t len, size;
  const char *quoted;
} quotes[] = {
    {"", 0, 10, ""},
    {"abc", 3, 10, "abc"},
    {"a\nb\tc", 5, 20, "a\\nb\\tc"},
    {"\\", 1, 10, "\\\\"},
    {"\x1b[0m\x7f", 5, 20, "\\x1b[0m\\x7f"},
    {"a\0b", 3, 20, "a\\x00b"},
    {"\xc3\xa4", 2, 20, "\xc3\xa4"},
    {"\r\n", 2, 20, "\\x0d\\n"},
    {"%s%n", 4, 20, "%s%n"},
    {"abcdefgh", 8, 8, "abcd..."},
    {"abcdefg", 7, 8, "abcdefg"},
    {"abc\x01zzz", 7, 8, "abc..."},
    {"ab\xc3\xa4zzzz", 8, 8, "ab\xc3\xa4..."},
    {"abc\xc3\xa4zzz", 8, 8, "abc..."},
    {"ab\xe2\x82\xacxyz", 8, 8, "ab..."},
    {"\xf0\x9f\x93\xa7yyyy", 8, 8, "\xf0\x9f\x93\xa7..."},
    {"a\xf0\x9f\x93\xa7yyy", 8, 8, "a..."},
    {"a\xa7\xa7\xa7\xa7\xa7\xa7\xa7", 8, 8, "a\xa7\xa7\xa7..."},
    {"abc", 3, 3, ".."},
    {"abc", 3, 1, ""},
};

static void check_quotes(void) {
  char out[64];
  for (size_t i = 0; i < sizeof quotes / sizeof *quotes; i++)
    CHECK_STRING(smn_quote(out, quotes[i].size, quotes[i].bytes, quotes[i].len),
                 quotes[i].quoted);
}

static void check_errors(void) {
  struct smn_error err = {.stage = SMN_STAGE_RCPT, .code = 550};
  CHECK_INT(smn_fail(&err, SMN_TLS, "%d of %s", 1, "x"), SMN_TLS);
  CHECK_INT(err.kind, SMN_TLS);
  CHECK_INT(err.stage, SMN_STAGE_RCPT);
  CHECK_INT(err.code, 0);
  CHECK_STRING(err.text, "1 of x");
  smn_fail_errno(&err, SMN_NETWORK, ECONNREFUSED, "cannot connect");
  CHECK_STRING(err.text, "cannot connect: Connection refused");
  smn_fail(&err, SMN_TLS, "%0*d", (int)sizeof err.text + 10, 1);
  CHECK_INT(strlen(err.text), sizeof err.text - 1);
  CHECK_STRING(smn_kind_name(SMN_TOO_LARGE), "too-large");
  CHECK_STRING(smn_stage_name(SMN_STAGE_END_OF_DATA), "end-of-data");
  for (int kind = SMN_OK; kind <= SMN_REPLY; kind++)
    CHECK(smn_kind_name(kind) != NULL);
  for (int stage = SMN_STAGE_QUEUED; stage <= SMN_STAGE_QUIT; stage++)
    CHECK(smn_stage_name(stage) != NULL);
}

int main(void) {
  check_quotes();
  check_errors();
  return check_done("test-error");
}
