/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-sasl.c - the choice of mechanisms, the vectors of the RFCs, exchanges
   with GNU SASL's server side, servers that lie, and what memory keeps.  */
#include "check.h"
#include "sasl.h"

#include <gsasl.h>
#include <pthread.h>
#include <stdlib.h>

/* Choice */

static const struct {
  const char *offered, *wanted, *order;
} choices[] = {
    {"", NULL, ""},
    {"PLAIN LOGIN", NULL, "PLAIN LOGIN"},
    {"LOGIN PLAIN CRAM-MD5", NULL, "CRAM-MD5 PLAIN LOGIN"},
    {"PLAIN SCRAM-SHA-1 SCRAM-SHA-256 X", "",
     "SCRAM-SHA-256 SCRAM-SHA-1 PLAIN"},
    {"PLAIN LOGIN CRAM-MD5", "login PLAIN", "LOGIN PLAIN"},
    {"PLAIN", "LOGIN", ""},
    {"PLAIN", "PLAIN plain", "PLAIN"},
    {"PLAIN", "NONSENSE PLAIN", "PLAIN"},
    {"GSSAPI NTLM EXTERNAL XOAUTH2 DIGEST-MD5", NULL, ""},
    {"PLAINX CRAM-MD", NULL, ""},
};

static void check_choices(void) {
  static const struct smn_sasl_means password = {.secret = true};
  char order[256];
  for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
    smn_sasl_choose(choices[i].offered, choices[i].wanted, &password, order,
                    sizeof order);
    CHECK_STRING(order, choices[i].order);
  }
  CHECK(smn_sasl_plaintext("PLAIN") && smn_sasl_plaintext("login"));
  CHECK(!smn_sasl_plaintext("CRAM-MD5") && !smn_sasl_plaintext("SCRAM-SHA-1"));
}

/* One side */

struct client {
  struct smn_sasl *sasl;
  struct smn_buf password, response;
  struct smn_credentials credentials;
  struct smn_error err;
};

static void begin(struct client *c, const char *mechanism, const char *user,
                  const char *password, const char *authzid) {
  memset(c, 0, sizeof *c);
  CHECK(smn_buf_init_secret(&c->password, 512));
  CHECK(smn_buf_init_secret(&c->response, SMN_SASL_RESPONSE_MAX));
  CHECK(smn_buf_add_string(&c->password, password));
  c->credentials = (struct smn_credentials){
      .user = user, .authzid = authzid, .password = &c->password};
  CHECK_INT(smn_sasl_start(&c->sasl, mechanism, &c->credentials, &c->err),
            SMN_OK);
}

static void end(struct client *c) {
  smn_sasl_free(c->sasl);
  smn_buf_free(&c->response);
  smn_buf_free(&c->password);
}

static enum smn_kind next(struct client *c, const char *challenge) {
  return smn_sasl_next(c->sasl, challenge, strlen(challenge), &c->response,
                       &c->err);
}

/* RFC 2195 2, RFC 4616 4, and LOGIN as all the world does it */

static void check_vectors(void) {
  struct client c;
  bool has = true;
  begin(&c, "CRAM-MD5", "tim", "tanstaaftanstaaf", NULL);
  CHECK_INT(smn_sasl_first(c.sasl, &c.response, &has, &c.err), SMN_OK);
  CHECK(!has);
  CHECK_INT(
      next(&c, "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"),
      SMN_OK);
  CHECK_STRING(c.response.data,
               "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw");
  CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_OK);
  end(&c);
  begin(&c, "PLAIN", "tim", "tanstaaftanstaaf", NULL);
  CHECK_INT(smn_sasl_first(c.sasl, &c.response, &has, &c.err), SMN_OK);
  CHECK(has);
  CHECK_STRING(c.response.data, "AHRpbQB0YW5zdGFhZnRhbnN0YWFm");
  end(&c);
  begin(&c, "PLAIN", "Kurt", "xipj3plmq", "Ursel");
  CHECK_INT(smn_sasl_first(c.sasl, &c.response, &has, &c.err), SMN_OK);
  CHECK_STRING(c.response.data, "VXJzZWwAS3VydAB4aXBqM3BsbXE=");
  end(&c);
  begin(&c, "LOGIN", "user@realm", "p\xc3\xa4ss", NULL);
  CHECK_INT(smn_sasl_first(c.sasl, &c.response, &has, &c.err), SMN_OK);
  CHECK(!has);
  CHECK_INT(next(&c, "VXNlcm5hbWU6"), SMN_OK);
  CHECK_STRING(c.response.data, "dXNlckByZWFsbQ==");
  CHECK_INT(next(&c, "b2RkIHByb21wdA=="), SMN_OK);
  CHECK_STRING(c.response.data, "cMOkc3M=");
  CHECK_INT(next(&c, "VXNlcm5hbWU6"), SMN_AUTH);
  end(&c);
}

/* With GNU SASL's server */

static int answer(Gsasl *context, Gsasl_session *session,
                  Gsasl_property property) {
  (void)context;
  if (property == GSASL_PASSWORD)
    return gsasl_property_set(session, property, "pencil");
  if (property == GSASL_SCRAM_ITER)
    return gsasl_property_set(session, property, "4096");
  if (property == GSASL_VALIDATE_SIMPLE)
    return strcmp(gsasl_property_fast(session, GSASL_AUTHID), "user") == 0 &&
                   strcmp(gsasl_property_fast(session, GSASL_PASSWORD),
                          "pencil") == 0
               ? GSASL_OK
               : GSASL_AUTHENTICATION_ERROR;
  return GSASL_NO_CALLBACK;
}

/* Run MECHANISM for USER and PASSWORD; true when both sides are content.  */
static bool exchange(const char *mechanism, const char *password) {
  Gsasl *context = NULL;
  Gsasl_session *session = NULL;
  struct client c;
  bool has = false;
  char *output = NULL;
  begin(&c, mechanism, "user", password, NULL);
  CHECK_INT(gsasl_init(&context), GSASL_OK);
  gsasl_callback_set(context, answer);
  CHECK_INT(gsasl_server_start(context, mechanism, &session), GSASL_OK);
  enum smn_kind kind = smn_sasl_first(c.sasl, &c.response, &has, &c.err);
  const char *input = has ? c.response.data : "";
  int code = GSASL_NEEDS_MORE;
  for (int step = 0; kind == SMN_OK && step < 6; step++) {
    code = gsasl_step64(session, input, &output);
    if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
      break;
    bool more = code == GSASL_NEEDS_MORE || *output;
    if (more)
      kind = next(&c, output);
    gsasl_free(output);
    if (!more || code == GSASL_OK)
      break;
    input = c.response.data;
  }
  bool good = kind == SMN_OK && code == GSASL_OK &&
              smn_sasl_finish(c.sasl, &c.err) == SMN_OK;
  gsasl_finish(session);
  gsasl_done(context);
  end(&c);
  return good;
}

static const char *const all[] = {"SCRAM-SHA-256", "SCRAM-SHA-1", "CRAM-MD5",
                                  "PLAIN", "LOGIN"};

static void check_exchanges(void) {
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    CHECK(exchange(all[i], "pencil"));
    CHECK(!exchange(all[i], "pencils"));
  }
}

/* Lies.  The client's nonce is random, so a server-first message is made from
   what the client has said.  */

static void scram_challenge(const struct client *c, const char *format,
                            char *out, size_t size) {
  char *raw = NULL, *encoded = NULL, message[512];
  size_t len = 0;
  gsasl_base64_from(c->response.data, c->response.len, &raw, &len);
  const char *nonce = strstr(raw, "r=") + 2;
  snprintf(message, sizeof message, format, (int)(raw + len - nonce), nonce);
  gsasl_base64_to(message, strlen(message), &encoded, NULL);
  snprintf(out, size, "%s", encoded);
  gsasl_free(encoded);
  gsasl_free(raw);
}

static const struct {
  const char *format; /* of the nonce; base64 is made of it */
  const char *why;    /* in the error; NULL: the step is answered */
} lies[] = {
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=4096", NULL},
    {"r=zz%.*s,s=QSXCR+Q6sek8bf92,i=4096", "SCRAM"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=1000001", "iteration"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=99999999999999999999999", "iteration"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=0", "iteration"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=-5", "iteration"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=x", "iteration"},
    {"e=other-error,r=%.*s", "other-error"},
    {"nothing%.*s", "SCRAM"},
    {"m=ext,r=%.*sx,s=QSXCR+Q6sek8bf92,i=4096", "SCRAM"},
};

static void check_lies(void) {
  char challenge[1024];
  struct client c;
  bool has;
  for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
    begin(&c, "SCRAM-SHA-256", "user", "pencil", NULL);
    CHECK_INT(smn_sasl_first(c.sasl, &c.response, &has, &c.err), SMN_OK);
    scram_challenge(&c, lies[i].format, challenge, sizeof challenge);
    CHECK_INT(next(&c, challenge), lies[i].why ? SMN_AUTH : SMN_OK);
    if (lies[i].why)
      CHECK(strstr(c.err.text, lies[i].why) != NULL);
    /* 235 before the server has proved itself is no success.  */
    CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_AUTH);
    if (!lies[i].why) {
      CHECK_INT(
          next(&c, "dj1BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE9"),
          SMN_AUTH); /* a wrong signature */
      CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_AUTH);
    }
    end(&c);
  }
}

static void check_junk(void) {
  static char large[1 << 20];
  static const char *const junk[] = {"!!!!", "AAA", "A A=", "PDE4\r\nOTYu"};
  struct client c;
  for (size_t i = 0; i < sizeof junk / sizeof *junk; i++) {
    begin(&c, "CRAM-MD5", "user", "pencil", NULL);
    CHECK_INT(next(&c, junk[i]), SMN_AUTH);
    CHECK(strstr(c.err.text, "base64") != NULL);
    end(&c);
  }
  memset(large, 'A', sizeof large - 1);
  begin(&c, "CRAM-MD5", "user", "pencil", NULL);
  CHECK_INT(next(&c, large), SMN_AUTH);
  CHECK(strstr(c.err.text, "longer than") != NULL);
  CHECK_INT(smn_sasl_next(c.sasl, "", 0, &c.response, &c.err), SMN_AUTH);
  end(&c);
  CHECK_INT(smn_sasl_start(&c.sasl, "X-NONE", &c.credentials, &c.err),
            SMN_UNSUPPORTED);
}

/* Threads */

static void *worker(void *failures) {
  for (int i = 0; i < 5; i++) {
    struct smn_sasl *sasl = NULL;
    struct smn_error err;
    struct smn_buf password, response;
    bool has;
    if (!smn_buf_init_secret(&password, 32) ||
        !smn_buf_init_secret(&response, SMN_SASL_RESPONSE_MAX) ||
        !smn_buf_add_string(&password, "pencil"))
      return failures;
    const struct smn_credentials user = {.user = "user", .password = &password};
    if (smn_sasl_start(&sasl, "SCRAM-SHA-1", &user, &err) != SMN_OK ||
        smn_sasl_first(sasl, &response, &has, &err) != SMN_OK)
      return failures;
    smn_sasl_free(sasl);
    smn_buf_free(&response);
    smn_buf_free(&password);
  }
  return NULL;
}

static void check_threads(void) {
  pthread_t threads[4];
  void *failed = NULL;
  for (int i = 0; i < 4; i++)
    CHECK_INT(pthread_create(&threads[i], NULL, worker, threads), 0);
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], &failed);
    CHECK(failed == NULL);
  }
}

int main(void) {
  check_choices();
  check_vectors();
  check_exchanges();
  check_lies();
  check_junk();
  check_threads();
  return check_done("test-sasl");
}
