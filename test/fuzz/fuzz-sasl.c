/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-sasl.c - every mechanism against challenges of any kind.
   The first octet chooses the mechanism, each line is one challenge: base64 as
   it stands, or what is to be encoded behind a '>'.  */
#include "fuzz.h"
#include "sasl/mechanisms.h"
#include "sasl/sasl.h"

static const char *const names[] = {
    "SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5",          "PLAIN",
    "LOGIN",         "XOAUTH2",     "OAUTHBEARER",       "EXTERNAL",
    "DIGEST-MD5",    "NTLM",        "SCRAM-SHA-256-PLUS"};

static const struct smn_binding binding = {"tls-exporter", "0123", 4};

static void check_response(const struct smn_buf *response) {
  for (size_t i = 0; i < response->len; i++) {
    char c = response->data[i];
    REQUIRE((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
            (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=');
  }
}

static enum smn_kind answer(struct smn_sasl *sasl, struct input *in,
                            struct smn_buf *response, struct smn_error *err) {
  size_t len;
  char *line = take_line(in, &len);
  struct smn_buf encoded;
  enum smn_kind kind;
  smn_buf_init(&encoded, 2 * len + 8);
  if (len > 1 && line[0] == '>' &&
      smn_buf_add_base64(&encoded, line + 1, len - 1))
    kind = smn_sasl_next(sasl, encoded.data, encoded.len, response, err);
  else
    kind = smn_sasl_next(sasl, line, len, response, err);
  smn_buf_free(&encoded);
  free(line);
  return kind;
}

static void run(struct smn_sasl *sasl, struct input *in,
                struct smn_buf *response, struct smn_error *err) {
  bool has = false;
  size_t len = 0;
  enum smn_kind kind = smn_sasl_first(sasl, response, &has, err);
  for (int step = 0; kind == SMN_OK && in->len > 0; step++) {
    REQUIRE(step < 50);
    check_response(response);
    kind = answer(sasl, in, response, err);
  }
  if (kind == SMN_OK) {
    check_response(response);
    kind = smn_sasl_finish(sasl, err);
  }
  (void)smn_sasl_refusal(sasl, &len);
  if (kind != SMN_OK) {
    REQUIRE(err->kind == kind);
    require_shown(err->text, sizeof err->text);
    REQUIRE(!strstr(err->text, "pencil-and-paper"));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct input in = {octets, len};
  unsigned choice = take_octet(&in);
  const char *name = names[choice % (sizeof names / sizeof *names)];
  struct smn_buf password, response;
  struct smn_sasl *sasl = NULL;
  struct smn_error err = {.kind = SMN_OK};
  REQUIRE(smn_buf_init_secret(&password, 100) &&
          smn_buf_init_secret(&response, SMN_SASL_RESPONSE_MAX) &&
          smn_buf_add_string(&password, "pencil-and-paper"));
  const struct smn_credentials credentials = {
      .user = "user",
      .password = &password,
      .host = "mail.example.org",
      .port = 587,
      .timeout_ms = 1000,
      .cancel_fd = -1,
      .binding = strstr(name, "PLUS") ? &binding : NULL,
      .could_bind = choice & 64,
      .nonce = "rOprNGfwEbeRWgbNEkqO",
  };
  if (smn_sasl_start(&sasl, smn_mechanism(name), &credentials, &err) == SMN_OK)
    run(sasl, &in, &response, &err);
  smn_sasl_free(sasl);
  smn_buf_free(&password);
  smn_buf_free(&response);
  return 0;
}
