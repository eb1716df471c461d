/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-mechanisms.c - what is chosen with which means, strings that are not
   ASCII, channel binding in SCRAM's messages, tokens and their refusal.  */
#include "check.h"
#include "sasl/sasl.h"
#include "sasl/scram.h"
#include "sasl/token.h"

#include <gsasl.h>

/* Choice */

#define EVERYTHING                                                             \
  "LOGIN PLAIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256 SCRAM-SHA-1-PLUS "           \
  "SCRAM-SHA-256-PLUS XOAUTH2 OAUTHBEARER EXTERNAL GSSAPI DIGEST-MD5 NTLM"

static const struct smn_sasl_means password = {.secret = true},
                                   bound = {.secret = true, .binding = true},
                                   token = {.secret = true,
                                            .token = true,
                                            .binding = true},
                                   certificate = {.certificate = true,
                                                  .binding = true},
                                   both = {.secret = true, .certificate = true},
                                   nothing = {.binding = true};

static const struct {
  const struct smn_sasl_means *means;
  const char *wanted, *order;
} choices[] = {
    {&password, NULL, "SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN"},
    {&bound, NULL,
     "SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 "
     "PLAIN LOGIN"},
    {&token, NULL, "OAUTHBEARER XOAUTH2"},
    {&certificate, NULL, "EXTERNAL"},
    {&both, NULL, "SCRAM-SHA-256 SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN"},
    {&both, "EXTERNAL PLAIN", "EXTERNAL PLAIN"},
    {&nothing, NULL, ""},
    {&nothing, "PLAIN XOAUTH2 GSSAPI EXTERNAL", "GSSAPI EXTERNAL"},
    {&password, "SCRAM-SHA-256-PLUS", ""},
    {&bound, "scram-sha-256-plus", "SCRAM-SHA-256-PLUS"},
    {&password, "xoauth2 DIGEST-MD5 ntlm", "XOAUTH2 DIGEST-MD5 NTLM"},
};

static void check_choices(void) {
  const struct smn_mechanism *order[SMN_MECHANISMS];
  for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
    char names[256] = "";
    size_t count = smn_mechanisms_choose(EVERYTHING, choices[i].wanted,
                                         choices[i].means, order);
    for (size_t m = 0; m < count; m++)
      snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
               m ? " " : "", order[m]->name);
    CHECK_STRING(names, choices[i].order);
  }
  CHECK(smn_mechanisms_bind("PLAIN SCRAM-SHA-1-PLUS"));
  CHECK(!smn_mechanisms_bind("PLAIN SCRAM-SHA-1 SCRAM-SHA-1-PLUSX"));
  CHECK(smn_mechanisms_secretless("PLAIN gssapi"));
  CHECK(smn_mechanisms_secretless("EXTERNAL"));
  CHECK(!smn_mechanisms_secretless("PLAIN NTLM X-EXTERNAL"));
}

/* One side */

struct client {
  struct smn_sasl *sasl;
  struct smn_buf secret, response;
  struct smn_credentials credentials;
  struct smn_error err;
  bool has;
};

static void prepare(struct client *c, const char *user, const char *secret) {
  memset(c, 0, sizeof *c);
  CHECK(smn_buf_init_secret(&c->secret, 8192));
  CHECK(smn_buf_init_secret(&c->response, SMN_SASL_RESPONSE_MAX));
  CHECK(smn_buf_add_string(&c->secret, secret));
  c->credentials = (struct smn_credentials){.user = user,
                                            .password = &c->secret,
                                            .host = "mail.example.org",
                                            .port = 587};
}

static enum smn_kind first(struct client *c, const char *mechanism) {
  enum smn_kind kind = smn_sasl_start(&c->sasl, smn_mechanism(mechanism),
                                      &c->credentials, &c->err);
  return kind == SMN_OK
             ? smn_sasl_first(c->sasl, &c->response, &c->has, &c->err)
             : kind;
}

static enum smn_kind next(struct client *c, const char *challenge, size_t len) {
  char *encoded = NULL;
  CHECK_INT(gsasl_base64_to(challenge, len, &encoded, NULL), GSASL_OK);
  enum smn_kind kind =
      smn_sasl_next(c->sasl, encoded, strlen(encoded), &c->response, &c->err);
  gsasl_free(encoded);
  return kind;
}

static void end(struct client *c) {
  smn_sasl_free(c->sasl);
  smn_buf_free(&c->response);
  smn_buf_free(&c->secret);
}

/* The response, decoded; kvsep is shown as '|'.  */
static const char *said(const struct client *c) {
  static char text[4096];
  char *raw = NULL;
  size_t len = 0;
  gsasl_base64_from(c->response.data, c->response.len, &raw, &len);
  snprintf(text, sizeof text, "%.*s", (int)len, raw ? raw : "");
  gsasl_free(raw);
  for (char *at = text; *at; at++)
    if (*at == '\1')
      *at = '|';
  return text;
}

/* Strings */

/* RFC 4013 3, and what no string may hold.  SERVER is what both sides agree
   upon; NULL: it is refused.  */
static const struct {
  const char *given, *server;
} strings[] = {
    {"I\xc2\xadX", "IX"},           {"\xc2\xaa", "a"},
    {"\xe2\x85\xa8", "IX"},         {"USER", "USER"},
    {"p\xc3\xa4ss", "p\xc3\xa4ss"}, {"pa\xcc\x88ss", "p\xc3\xa4ss"},
    {"a\xc2\xa0z", "a z"},          {"bell\x07", NULL},
    {"\xd8\xa7\x31", NULL},         {"\xff\xfe", NULL},
};

static const char *server_password;

static int answer(Gsasl *context, Gsasl_session *session,
                  Gsasl_property property) {
  (void)context;
  if (property == GSASL_PASSWORD)
    return gsasl_property_set(session, property, server_password);
  if (property == GSASL_SCRAM_ITER)
    return gsasl_property_set(session, property, "4096");
  return GSASL_NO_CALLBACK;
}

/* Against GNU SASL's server; true when both are content.  */
static bool exchange(struct client *c, const char *mechanism) {
  Gsasl *context = NULL;
  Gsasl_session *session = NULL;
  char *output = NULL;
  CHECK_INT(gsasl_init(&context), GSASL_OK);
  gsasl_callback_set(context, answer);
  CHECK_INT(gsasl_server_start(context, mechanism, &session), GSASL_OK);
  enum smn_kind kind = first(c, mechanism);
  int code = GSASL_NEEDS_MORE;
  while (kind == SMN_OK && code == GSASL_NEEDS_MORE) {
    code = gsasl_step64(session, c->response.data, &output);
    if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
      break;
    kind =
        smn_sasl_next(c->sasl, output, strlen(output), &c->response, &c->err);
    gsasl_free(output);
  }
  gsasl_finish(session);
  gsasl_done(context);
  return kind == SMN_OK && code == GSASL_OK &&
         smn_sasl_finish(c->sasl, &c->err) == SMN_OK;
}

static void check_strings(void) {
  struct client c;
  for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
    server_password = strings[i].server ? strings[i].server : "x";
    prepare(&c, "user", strings[i].given);
    CHECK(exchange(&c, "SCRAM-SHA-256") == (strings[i].server != NULL));
    if (!strings[i].server)
      CHECK(strstr(c.err.text, "SASLprep") != NULL);
    end(&c);
    prepare(&c, strings[i].given, "secret");
    server_password = "secret";
    CHECK(exchange(&c, "SCRAM-SHA-1") == (strings[i].server != NULL));
    end(&c);
  }
  prepare(&c, "a,b=c@realm", "x");
  CHECK_INT(first(&c, "SCRAM-SHA-1"), SMN_OK);
  CHECK(strncmp(said(&c), "n,,n=a=2Cb=3Dc@realm,r=", 23) == 0);
  end(&c);
  prepare(&c, "", "x");
  CHECK_INT(first(&c, "SCRAM-SHA-1"), SMN_AUTH);
  end(&c);
  /* PLAIN and LOGIN send UTF-8 as it is, and leave the rest to the server.  */
  prepare(&c, "j\xc3\xb6rg", "p\xc3\xa4ss");
  CHECK_INT(first(&c, "PLAIN"), SMN_OK);
  CHECK_STRING(c.response.data, "AGrDtnJnAHDDpHNz");
  end(&c);
}

/* Channel binding */

static const struct smn_binding exporter = {
    .type = "tls-exporter", .octets = "\1\2\3\4", .len = 4};

static void check_flags(void) {
  static const struct {
    const char *mechanism;
    const struct smn_binding *binding;
    bool could_bind;
    const char *header, *authzid;
  } cases[] = {
      {"SCRAM-SHA-256", NULL, false, "n,,n=", NULL},
      {"SCRAM-SHA-256", &exporter, true, "y,,n=", NULL},
      {"SCRAM-SHA-256", &exporter, false, "n,,n=", NULL},
      {"SCRAM-SHA-1", &exporter, true, "y,a=ur=3Dsel,n=", "ur=sel"},
      {"SCRAM-SHA-1-PLUS", &exporter, false, "p=tls-exporter,,n=", NULL},
      {"SCRAM-SHA-256-PLUS", &exporter, true, "p=tls-exporter,a=u,n=", "u"},
  };
  struct client c;
  char message[512];
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    prepare(&c, "user", "pencil");
    c.credentials.binding = cases[i].binding;
    c.credentials.could_bind = cases[i].could_bind;
    c.credentials.authzid = cases[i].authzid;
    CHECK_INT(first(&c, cases[i].mechanism), SMN_OK);
    size_t len = strlen(cases[i].header);
    CHECK(strncmp(said(&c), cases[i].header, len) == 0);
    snprintf(message, sizeof message, "%sx,s=QSXCR+Q6sek8bf92,i=4096",
             strstr(said(&c), ",r=") + 1);
    CHECK_INT(next(&c, message, strlen(message)), SMN_OK);
    /* c= repeats the header, with the channel's octets behind it.  */
    char input[128], *encoded = NULL;
    len -= 2;
    memcpy(input, cases[i].header, len);
    if (input[0] == 'p') {
      memcpy(input + len, exporter.octets, exporter.len);
      len += exporter.len;
    }
    gsasl_base64_to(input, len, &encoded, NULL);
    CHECK(strncmp(said(&c) + 2, encoded, strlen(encoded)) == 0);
    gsasl_free(encoded);
    end(&c);
  }
  prepare(&c, "user", "pencil");
  CHECK_INT(first(&c, "SCRAM-SHA-1-PLUS"), SMN_AUTH);
  CHECK(strstr(c.err.text, "no TLS channel") != NULL);
  end(&c);
}

/* Servers that lie in the last step, or too early.  */
static void check_last_lies(void) {
  static const char *const last[] = {
      "", "v=", "v=AAAA", "v=!", "x", "e=invalid-proof", "m=x,v=AAAA"};
  struct client c;
  char message[512];
  for (size_t i = 0; i < sizeof last / sizeof *last; i++) {
    prepare(&c, "user", "pencil");
    CHECK_INT(first(&c, "SCRAM-SHA-256"), SMN_OK);
    snprintf(message, sizeof message, "%sx,s=QSXCR+Q6sek8bf92,i=4096",
             strstr(said(&c), ",r=") + 1);
    CHECK_INT(next(&c, message, strlen(message)), SMN_OK);
    CHECK_INT(next(&c, last[i], strlen(last[i])), SMN_AUTH);
    CHECK_INT(c.err.code, last[i][0] == 'e' ? 535 : 0);
    CHECK(strstr(c.err.text, "SCRAM-SHA-256: the server") == c.err.text);
    CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_AUTH);
    end(&c);
  }
  prepare(&c, "user", "pencil");
  CHECK_INT(first(&c, "SCRAM-SHA-256"), SMN_OK);
  /* The client's nonce alone, and with an octet that no nonce may hold.  */
  snprintf(message, sizeof message, "%s,s=QSXCR+Q6sek8bf92,i=4096",
           strstr(said(&c), ",r=") + 1);
  CHECK_INT(next(&c, message, strlen(message)), SMN_AUTH);
  CHECK(strstr(c.err.text, "nonce") != NULL);
  end(&c);
}

/* Tokens */

static void check_tokens(void) {
  struct client c;
  prepare(&c, "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
  CHECK_INT(first(&c, "OAUTHBEARER"), SMN_OK);
  CHECK(c.has);
  CHECK_STRING(said(&c), "n,a=user@example.com,|host=mail.example.org|port=587|"
                         "auth=Bearer "
                         "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==||");
  end(&c);
  /* RFC 7628 4.1 and 4.3, octet by octet.  */
  prepare(&c, "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
  c.credentials.host = "server.example.com";
  c.credentials.port = 143;
  CHECK_INT(first(&c, "OAUTHBEARER"), SMN_OK);
  CHECK_STRING(
      c.response.data,
      "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQz"
      "AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9"
      "PQEB");
  static const char refusal[] =
      "{\"status\":\"invalid_token\",\"scope\":\"example_scope\","
      "\"openid-configuration\":\"https://example.com/.well-known/"
      "openid-configuration\"}";
  CHECK_INT(next(&c, refusal, sizeof refusal - 1), SMN_OK);
  CHECK_STRING(c.response.data, "AQ==");
  CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_AUTH);
  end(&c);
  /* The very octets of Google's description of XOAUTH2.  */
  prepare(&c, "someuser@example.com",
          "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEu"
          "Y29tCg");
  CHECK_INT(first(&c, "XOAUTH2"), SMN_OK);
  CHECK_STRING(
      c.response.data,
      "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRm"
      "dDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==");
  CHECK_INT(next(&c, "{\"status\":\"400\"}", 16), SMN_OK);
  CHECK_INT(c.response.len, 0);
  CHECK_INT(smn_sasl_finish(c.sasl, &c.err), SMN_AUTH);
  end(&c);
  static const struct {
    const char *user, *token;
  } bad[] = {{"u", ""}, {"u", "a\1b"}, {"u", "token\n"}, {"u\1auth=x", "t"}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    prepare(&c, bad[i].user, bad[i].token);
    CHECK_INT(first(&c, i % 2 ? "XOAUTH2" : "OAUTHBEARER"),
              strchr(bad[i].user, '\1') ? SMN_USAGE : SMN_AUTH);
    end(&c);
  }
}

static const struct {
  const char *json, *words;
} refusals[] = {
    {"{\"status\":\"invalid_token\",\"scope\":\"a b\"}",
     "status invalid_token, scope a b"},
    {"{\"status\":\"401\",\"schemes\":\"bearer mac\",\"scope\":"
     "\"https:\\/\\/mail.google.com\\/\"}",
     "status 401, schemes bearer mac, scope https://mail.google.com/"},
    {"{ \"a\" : 1 , \"b\" : [ \"x\", true ], \"c\": {\"d\": null} }",
     "a 1, b x true, c, d null"},
    {"{\"a\":\"\\u00e4\\u20ac\\ud83d\\\"\\n\"}", "a \xc3\xa4\xe2\x82\xac?\"\n"},
    {"{\"a", "a"},
    {"{\"a\\", "a\\"},
    {"{\"a\":\"\\u1", "a \1"},
    {"{\"a\":\"\\uzz\"}", "a ?zz"},
    {"{}", ""},
    {"{,,:", ""},
    {"junk", "junk"},
    {"no, it: \"expired\"", "no, it: \"expired\""},
    {"", ""},
};

static void check_refusals(void) {
  struct smn_buf out;
  for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
    smn_buf_init(&out, 256);
    smn_token_words(refusals[i].json, strlen(refusals[i].json), &out);
    CHECK_STRING(out.data ? out.data : "", refusals[i].words);
    smn_buf_free(&out);
  }
  /* What does not fit is cut, whatever it is.  */
  char large[4096];
  memset(large, '"', sizeof large);
  large[0] = '{';
  smn_buf_init(&out, 16);
  smn_token_words(large, sizeof large, &out);
  CHECK(out.len <= 16);
  smn_buf_free(&out);
}

int main(void) {
  check_choices();
  check_strings();
  check_flags();
  check_last_lies();
  check_tokens();
  check_refusals();
  return check_done("test-mechanisms");
}
