/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-reply.c - replies, and the capabilities in them.  */
#include "fuzz.h"
#include "smtp/reply.h"

static void check_reply(const struct smn_reply *reply) {
  struct smn_error err = {.kind = SMN_OK};
  REQUIRE(reply->code >= 200 && reply->code <= 559);
  REQUIRE(reply->lines > 0 && reply->lines <= SMN_REPLY_LINES);
  REQUIRE(reply->text.len <= SMN_REPLY_MAX);
  REQUIRE(!reply->enhanced[0] ||
          reply->enhanced[0] == (char)('0' + reply->code / 100));
  enum smn_kind kind = smn_reply_unexpected(reply, &err);
  REQUIRE(kind == (reply->code >= 400 ? SMN_REPLY : SMN_PROTOCOL));
  REQUIRE(err.kind == kind && err.code == reply->code);
  require_shown(err.text, sizeof err.text);
}

/* A list of names: upper case, single spaces, each once.  */
static void check_mechanisms(const char *names, size_t size) {
  size_t len = strnlen(names, size);
  REQUIRE(len < size);
  for (size_t i = 0; i < len; i++) {
    char c = names[i];
    REQUIRE(c == ' ' || c == '-' || c == '_' || (c >= '0' && c <= '9') ||
            (c >= 'A' && c <= 'Z'));
    REQUIRE(c != ' ' || (i > 0 && i + 1 < len && names[i - 1] != ' '));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct input in = {octets, len};
  struct smn_reply reply;
  struct smn_error err = {.kind = SMN_OK};
  struct smn_capabilities caps;
  smn_reply_init(&reply);
  while (in.len > 0) {
    size_t line_len;
    char *line = take_line(&in, &line_len);
    if (smn_reply_line(&reply, line, line_len, &err) != SMN_OK) {
      REQUIRE(err.kind == SMN_PROTOCOL || err.kind == SMN_REPLY);
      require_shown(err.text, sizeof err.text);
      smn_reply_clear(&reply);
    } else if (reply.complete) {
      check_reply(&reply);
      smn_capabilities_parse(&caps, &reply);
      check_mechanisms(caps.mechanisms, sizeof caps.mechanisms);
      smn_capabilities_avoid(&caps, "PIPELINING SIZE LIMITS CHUNKING");
      REQUIRE(!caps.pipelining && !caps.size && !caps.size_limit &&
              !caps.mail_max && !caps.chunking);
      smn_reply_clear(&reply);
    }
    free(line);
  }
  smn_reply_free(&reply);
  return 0;
}
