/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-sasl.c - the choice of mechanisms, the vectors of the RFCs, exchanges
   with GNU SASL's server side, servers that lie, and what memory keeps.  */
#include "check.h"
#include "sasl/sasl.h"

#include <gnutls/gnutls.h>
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
  const struct smn_mechanism *order[SMN_MECHANISMS];
  for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
    char names[256] = "";
    size_t count = smn_mechanisms_choose(choices[i].offered, choices[i].wanted,
                                         &password, order);
    for (size_t m = 0; m < count; m++)
      snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
               m ? " " : "", order[m]->name);
    CHECK_STRING(names, choices[i].order);
  }
  CHECK(smn_mechanism("login") == smn_mechanism("LOGIN"));
  CHECK(smn_mechanism("X-NONE") == NULL && smn_mechanism("") == NULL);
  CHECK(smn_mechanism_listed("a plain", smn_mechanism("PLAIN")));
  CHECK(!smn_mechanism_listed("plainx  xplain", smn_mechanism("PLAIN")));
}

/* One side */

struct client {
  struct smn_sasl *sasl;
  struct smn_buf password, response;
  struct smn_credentials credentials;
  struct smn_error err;
};

static const char *given_nonce; /* of the client; NULL: its own */

static void begin(struct client *c, const char *mechanism, const char *user,
                  const char *password, const char *authzid) {
  memset(c, 0, sizeof *c);
  CHECK(smn_buf_init_secret(&c->password, 512));
  CHECK(smn_buf_init_secret(&c->response, SMN_SASL_RESPONSE_MAX));
  CHECK(smn_buf_add_string(&c->password, password));
  c->credentials = (struct smn_credentials){.user = user,
                                            .authzid = authzid,
                                            .password = &c->password,
                                            .nonce = given_nonce};
  CHECK_INT(smn_sasl_start(&c->sasl, smn_mechanism(mechanism), &c->credentials,
                           &c->err),
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

/* RFC 5802 5, RFC 7677 3: every message as it stands there.  */
static const struct {
  const char *mechanism, *nonce;
  const char *client_first, *server_first, *client_final, *server_final;
} dialogues[] = {
    {"SCRAM-SHA-1", "fyko+d2lbbFgONRv9qkxdawL",
     "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
     "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
     "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,"
     "p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
     "v=rmF9pqV8S7suAoZWja4dJRkFsKQ="},
    {"SCRAM-SHA-256", "rOprNGfwEbeRWgbNEkqO",
     "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
     "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
     "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
     "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
     "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
     "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="},
};

static enum smn_kind next_plain(struct client *c, const char *challenge) {
  char *encoded = NULL;
  if (!CHECK(gsasl_base64_to(challenge, strlen(challenge), &encoded, NULL) ==
                 GSASL_OK &&
             encoded))
    return SMN_SYSTEM;
  enum smn_kind kind = next(c, encoded);
  gsasl_free(encoded);
  return kind;
}

static void check_response(const struct client *c, const char *want) {
  char *raw = NULL, said[256];
  size_t len = 0;
  gsasl_base64_from(c->response.data, c->response.len, &raw, &len);
  snprintf(said, sizeof said, "%.*s", (int)len, raw ? raw : "");
  CHECK_STRING(said, want);
  gsasl_free(raw);
}

static void check_scram_vectors(void) {
  struct client c;
  bool has;
  for (size_t i = 0; i < sizeof dialogues / sizeof *dialogues; i++) {
    given_nonce = dialogues[i].nonce;
    begin(&c, dialogues[i].mechanism, "user", "pencil", NULL);
    given_nonce = NULL;
    CHECK_INT(smn_sasl_first(c.sasl, &c.response, &has, &c.err), SMN_OK);
    CHECK(has);
    check_response(&c, dialogues[i].client_first);
    CHECK_INT(next_plain(&c, dialogues[i].server_first), SMN_OK);
    check_response(&c, dialogues[i].client_final);
    CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_AUTH);
    CHECK_INT(next_plain(&c, dialogues[i].server_final), SMN_OK);
    CHECK_INT(c.response.len, 0);
    CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_OK);
    end(&c);
  }
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
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=10000", NULL},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=4095", "between 4096 and 1000000"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=1", "iteration"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=1000001", "between 4096 and 1000000"},
    {"r=%.*s\x1fy,s=QSXCR+Q6sek8bf92,i=4096", "nonce"},
    {"r=%.*s y,s=QSXCR+Q6sek8bf92,i=4096", "nonce"},
    {"r=%.*sx\x7f,s=QSXCR+Q6sek8bf92,i=4096", "nonce"},
    {"r=%.*s\x80x,s=QSXCR+Q6sek8bf92,i=4096", "nonce"},
    {"r=%.*s!~x,s=QSXCR+Q6sek8bf92,i=4096", NULL},
    {"r=%.*s,s=QSXCR+Q6sek8bf92,i=4096", "nonce"},
    {"r=%.*sx,s=,i=4096", "salt"},
    {"r=%.*sx,s=!,i=4096", "salt"},
    {"r=%.*sx,i=4096", "malformed"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92", "malformed"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=", "iteration"},
    {"r=%.*sx,s=QSXCR+Q6sek8bf92,i=4096,x=y", NULL},
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
}

/* LOGIN: what servers say, and what is to be answered.  */

#define U "dXNlcg==" /* user */
#define P "cGVuY2ls" /* pencil */
static const struct {
  const char *first, *answer, *second, *second_answer;
} prompts[] = {
    {"VXNlcm5hbWU6", U, "UGFzc3dvcmQ6", P},
    {"VXNlcm5hbWU", U, "UGFzc3dvcmQ", P},         /* no colon */
    {"VXNlciBOYW1lAA==", U, "UGFzc3dvcmQA", P},   /* with a NUL */
    {"VXNlciBOYW1lAA", U, "UGFzc3dvcmQAAA", P},   /* no padding */
    {" VXNlcm5 hbWU6 ", U, "\tUGFzc3dvcmQ6 ", P}, /* blanks */
    {"Username:", U, "Password:", P},
    {"Username", U, "Password", P}, /* which is base64, too */
    {"USER NAME", U, "pwd?", P},
    {"login:", U, "Passwort:", P},
    {"Login", U, "mot de passe", P},
    {"", U, "", P},
    {"d2hvPw==", U, "d2hhdD8=", P}, /* who?, what? */
    {"\xff!!", U, "=", P},
    {"UGFzc3dvcmQ6", P, "VXNlcm5hbWU6", U}, /* the other way round */
    {"Password:", P, "", U},
    {"pwd", P, "user", U},
    {"Password:", P, "Password:", U}, /* each is sent once */
    {"Username:", U, "Username:", P},
    {"User password:", U, "user password:", P},
    {"Username\nfor this server:", U, "UGFzc3dvcmQ6\nUGFzc3dvcmQ6", P},
};

static void check_login(void) {
  static char large[8194];
  struct client c;
  for (size_t i = 0; i < sizeof prompts / sizeof *prompts; i++) {
    begin(&c, "LOGIN", "user", "pencil", NULL);
    CHECK_INT(next(&c, prompts[i].first), SMN_OK);
    CHECK_STRING(c.response.data, prompts[i].answer);
    CHECK_INT(next(&c, prompts[i].second), SMN_OK);
    CHECK_STRING(c.response.data, prompts[i].second_answer);
    CHECK_INT(next(&c, prompts[i].first), SMN_AUTH);
    CHECK_INT(c.response.len, 0);
    end(&c);
  }
  memset(large, 'A', sizeof large - 2);
  begin(&c, "LOGIN", "user", "pencil", NULL);
  CHECK_INT(next(&c, large), SMN_OK);
  CHECK_STRING(c.response.data, U);
  memset(large, 'A', sizeof large - 1);
  CHECK_INT(next(&c, large), SMN_AUTH);
  end(&c);
}

/* No mechanism gets what would break out of its place.  */
static void check_credentials(void) {
  static const struct {
    const char *user, *authzid, *password;
    size_t len;
    const char *why;
  } bad[] = {
      {"tim\r\nMAIL", NULL, "x", 1, "user name contains a control"},
      {"tim\n", NULL, "x", 1, "user name contains a control"},
      {"\x01tim", NULL, "x", 1, "user name contains a control"},
      {"tim\x7f", NULL, "x", 1, "user name contains a control"},
      {"tim", "ur\tsel", "x", 1, "authorization identity contains"},
      {"tim", NULL, "x\0y", 3, "password contains a NUL"},
      {"tim", NULL, "x\0", 2, "password contains a NUL"},
  };
  static const char *const names[] = {"SCRAM-SHA-256", "CRAM-MD5",    "PLAIN",
                                      "LOGIN",         "OAUTHBEARER", "XOAUTH2",
                                      "DIGEST-MD5",    "EXTERNAL"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    for (size_t m = 0; m < sizeof names / sizeof *names; m++) {
      struct smn_sasl *sasl;
      struct smn_error err;
      struct smn_buf password;
      CHECK(smn_buf_init_secret(&password, 16) &&
            smn_buf_add(&password, bad[i].password, bad[i].len));
      const struct smn_credentials c = {.user = bad[i].user,
                                        .authzid = bad[i].authzid,
                                        .password = &password};
      CHECK_INT(smn_sasl_start(&sasl, smn_mechanism(names[m]), &c, &err),
                SMN_USAGE);
      CHECK(sasl == NULL && strstr(err.text, bad[i].why) != NULL);
      smn_buf_free(&password);
    }
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
    if (smn_sasl_start(&sasl, smn_mechanism("SCRAM-SHA-1"), &user, &err) !=
            SMN_OK ||
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
  check_scram_vectors();
  check_exchanges();
  check_lies();
  check_junk();
  check_login();
  check_credentials();
  check_threads();
  return check_done("test-sasl");
}
