/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-redact.c - no secret is left in any text, and all else is.  */
#define _GNU_SOURCE /* memmem */
#include "base/redact.h"
#include "check.h"
#include "mail/result.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>

static struct smn_buf needles;

static void hide(const char *const *secrets) {
  smn_buf_clear(&needles);
  for (; *secrets; secrets++)
    smn_redact_add(&needles, *secrets, strlen(*secrets));
}

static const char *shown(const char *text, size_t len, bool cut) {
  static char out[8192];
  out[smn_redact(&needles, text, len, cut, out, sizeof out - 1)] = '\0';
  return out;
}

/* Each text, and what is shown of it.  */

static const struct {
  const char *secret, *text, *shown;
} cases[] = {
    {"s3cret!x", "no s3cret!x here", "no <omitted> here"},
    {"s3cret!x", "S3CRET!X", "<omitted>"},
    {"s3cret!x", "xs3cret!xx", "x<omitted>x"},
    {"s3cret!x", "s3cret!xs3cret!x", "<omitted>"},
    {"s3cret!x", "s3cret!", "s3cret!"},
    /* Escaped, as servers and smn_quote do it.  */
    {"s3cret!x", "u=%733cret%21x&", "u=<omitted>&"},
    {"s3cret!x", "+73+33+63+72+65+74+21+78", "<omitted>"},
    {"s3cret!x", "=733cret=21x", "<omitted>"},
    {"s3cret!x", "\\u0073\\u0033cret!x", "<omitted>"},
    {"s3cret!x", "7333637265742178", "<omitted>"},
    {"a\tb\\c\"d\x01/", "a\\tb\\\\c\\\"d\\x01\\/", "<omitted>"},
    {"p\xc3\xa4ss-w\xc3\xb6", "p%C3%A4ss-w%c3%b6", "<omitted>"},
    {"10%2541", "10%2541", "<omitted>"},
    {"10%2541", "10%252541", "<omitted>"},
    {"abcd...efg", "abcd...efg", "<omitted>"},
    {"tan-staaf-tan", "tan-sta tan-staa! tan-staaf-tax",
     "tan-sta <omitted>! "
     "<omitted>x"},
    {"tan-staaf-tan", "AHRpbQB0YW4tc3RhYWYtdGE= AHRpbQB0YW4tc3Rh",
     "<omitted> AHRpbQB0YW4tc3Rh"},
    /* What reads like a word has borders.  */
    {"queue", "250 queued as 1, queue 2", "250 queued as 1, queue 2"},
    {"mail", "Mailbox, mail, MAIL FROM", "Mailbox, mail, MAIL FROM"},
    {"mail", "AUTH bWFpbA== x", "AUTH <omitted> x"},
    {"mail", "6d61696c %6d%61%69%6c", "<omitted> <omitted>"},
    {"lilac", "lilacs lilac, a_lilac", "lilacs <omitted>, a_<omitted>"},
    {"lilac99", "xlilac99 lilac99", "xlilac99 <omitted>"},
    {"lilac", "\\x00tim\\x00lilac", "\\x00tim\\x00<omitted>"},
    {"lilac", "tim%00lilac%00 tim%3Alilac",
     "tim%00<omitted>%00 "
     "tim%3A<omitted>"},
    {"lilac", "a\\nlilac", "a\\n<omitted>"},
    {"l-ac", "l-acs xl-ac l-ac", "l-acs xl-ac <omitted>"},
    {"9lilac", "x9lilacx", "x<omitted>x"},
    /* From 0x80 on all octets are of words.  */
    {"lilac", "lilac\x80 lilac\x7f \x80lilac",
     "lilac\x80 <omitted>\x7f \x80"
     "lilac"},
    {"lilaclilaclilacs", "xlilaclilaclilacsx", "x<omitted>x"},
    {"abc", "abcd YWJj xYWJj", "abcd <omitted> xYWJj"},
    {"ab", "ab YWI=", "ab YWI="},
    /* Inside base64 the whole run goes, and nothing beside it.  */
    {"tanstaaf", "auth=AHRpbQB0YW5zdGFhZg==;", "auth=<omitted>;"},
    {"tanstaaf", "a\\nAHRpbQB0YW5zdGFhZg==", "a\\n<omitted>"},
    {"\xff\xfe\xfb\xef\xbe\xff", "x __77777_ //77777/ //77777",
     "x <omitted> <omitted> //77777"},
};

static void check_cases(void) {
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const char *const secrets[] = {cases[i].secret, NULL};
    hide(secrets);
    CHECK_STRING(shown(cases[i].text, strlen(cases[i].text), false),
                 cases[i].shown);
  }
}

/* All texts over an alphabet, against the plainest search there is: the union
   of all places, with touching ones joined.  */

static bool border(const char *text, size_t len, size_t at) {
  return at == 0 || at == len || text[at] == ' ' || text[at - 1] == ' ';
}

static const char *expected(const char *const *secrets, bool as_words,
                            const char *text, size_t len) {
  static char out[512];
  bool hidden[32] = {false}, joined[32] = {false};
  size_t to = 0;
  for (; *secrets; secrets++) {
    size_t n = strlen(*secrets);
    for (size_t at = 0; at + n <= len; at++) {
      if (memcmp(text + at, *secrets, n) != 0 ||
          (as_words && (!border(text, len, at) || !border(text, len, at + n))))
        continue;
      for (size_t i = 0; i < n; i++)
        hidden[at + i] = true;
    }
  }
  for (size_t i = 1; i < len; i++)
    joined[i] = hidden[i] && hidden[i - 1];
  for (size_t i = 0; i < len; i++)
    if (!hidden[i])
      out[to++] = text[i];
    else if (!joined[i])
      to += (size_t)sprintf(out + to, SMN_OMITTED);
  out[to] = '\0';
  return out;
}

static void check_all(const char *const *secrets, bool as_words,
                      const char *alphabet, size_t longest) {
  size_t letters = strlen(alphabet), count = 1;
  hide(secrets);
  for (size_t len = 0; len <= longest; len++, count *= letters)
    for (size_t n = 0; n < count; n++) {
      char text[32] = "";
      for (size_t i = 0, rest = n; i < len; i++, rest /= letters)
        text[i] = alphabet[rest % letters];
      const char *want = expected(secrets, as_words, text, len);
      const char *got = shown(text, len, false);
      if (strcmp(got, want) == 0)
        continue;
      CHECK_STRING(got, want);
      printf("  text \"%s\", secret \"%s\"\n", text, *secrets);
      return;
    }
  CHECK(true);
}

static void check_exhaustively(void) {
  static const char *const sets[][4] = {
      {"a-a-a-"},
      {"a--a-a"},
      {"a-a-a-", "a-a-a-a-"},         /* one is the beginning of the other */
      {"a-a-a-a-", "a-a-a-"},         /* whatever the order */
      {"a-a-a-", "-a-a-a", "aa--aa"}, /* they overlap */
      {"a-----", "------"},
  };
  static const char *const word_sets[][4] = {
      {"ab1"}, {"aba", "ab"}, {"aba", "abaab"}, {"ab1", "b11"}};
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
    check_all(sets[i], false, "a-", 15);
  /* Two octets are no secret.  */
  static const char *const aba[] = {"aba", NULL};
  for (size_t i = 0; i < sizeof word_sets / sizeof *word_sets; i++)
    if (i != 1)
      check_all(word_sets[i], true, "ab1 ", 8);
  hide(word_sets[1]);
  CHECK_STRING(shown("ab aba", 6, false), expected(aba, true, "ab aba", 6));
}

/* A secret anywhere within what is encoded: nothing of the run is left.  */
static void check_base64(void) {
  static const char *const secrets[] = {"tanstaaftanstaaf", "s3cret", "lilac",
                                        "mail", "\xff\xfe\xfb\xef\xbe!"};
  for (size_t s = 0; s < sizeof secrets / sizeof *secrets; s++)
    for (size_t before = 0; before < 5; before++)
      for (size_t after = 0; after < 4; after++) {
        const char *const one[] = {secrets[s], NULL};
        char raw[64], text[128];
        size_t n = strlen(secrets[s]);
        gnutls_datum_t in = {(unsigned char *)raw,
                             (unsigned)(before + n + after)};
        gnutls_datum_t out = {NULL, 0};
        if (n < 6 && before > 0)
          continue; /* too short to be known there */
        memset(raw, '\x5a', sizeof raw);
        memcpy(raw + before, secrets[s], n);
        CHECK_INT(gnutls_base64_encode2(&in, &out), 0);
        hide(one);
        snprintf(text, sizeof text, "a <%s> b", (char *)out.data);
        CHECK_STRING(shown(text, strlen(text), false), "a <<omitted>> b");
        for (unsigned char *at = out.data; *at; at++)
          *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
        snprintf(text, sizeof text, "%s", (char *)out.data);
        CHECK_STRING(shown(text, strlen(text), false), "<omitted>");
        gnutls_free(out.data);
      }
}

/* All digits of base64 and base64url, each where it decides.  */
static void check_digits(void) {
  static const char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
                    others[] = "@[`{:*.,~^"; /* beside the ranges */
  const gnutls_datum_t in = {(unsigned char *)(size_t)digits, 64};
  gnutls_datum_t out = {NULL, 0};
  char text[80];
  CHECK_INT(gnutls_base64_decode2(&in, &out), 0);
  smn_buf_clear(&needles);
  smn_redact_add(&needles, (char *)out.data, out.size);
  CHECK_STRING(shown(digits, 64, false), SMN_OMITTED);
  snprintf(text, sizeof text, "%.62s-_", digits);
  CHECK_STRING(shown(text, 64, false), SMN_OMITTED);
  /* A run ends where they end, and so does what is hidden.  */
  for (const char *other = others; *other; other++) {
    char want[32];
    snprintf(text, sizeof text, "az09%c%s%caz09", *other, digits, *other);
    snprintf(want, sizeof want, "az09%c" SMN_OMITTED "%caz09", *other, *other);
    CHECK_STRING(shown(text, strlen(text), false), want);
  }
  gnutls_free(out.data);
}

/* A text that was cut may end within a secret.  */
static void check_cuts(void) {
  static const char secret[] = "tanstaaf-tanstaaf";
  static const char *const one[] = {secret, NULL};
  char text[64];
  hide(one);
  for (int n = 0; n < (int)sizeof secret - 1; n++) {
    snprintf(text, sizeof text, "x %.*s", n, secret);
    CHECK_STRING(shown(text, strlen(text), false),
                 n < 8 ? text : "x <omitted>");
    CHECK_STRING(shown(text, strlen(text), true), n < 4 ? text : "x <omitted>");
    snprintf(text, sizeof text, "x %.*s... y", n, secret);
    const char *got = shown(text, strlen(text), false);
    CHECK_STRING(got, n < 4 ? text : "x <omitted>... y");
  }
}

/* Quoted for people, and cut at any place: no beginning of it is left that one
   could make use of.  */
static void check_quoted(void) {
  static const char secret[] = "s3\x01\\cr\n\xc3\xa4t-xyz";
  static const char *const one[] = {secret, NULL};
  hide(one);
  for (size_t before = 0; before < 8; before++)
    for (size_t size = 8; size < 64; size++) {
      char raw[64], quoted[64], field[64];
      int len = snprintf(raw, sizeof raw, "%.*s%s%s", (int)before, "aaaaaaaa",
                         secret, "bbbbbbbb");
      smn_quote(quoted, size, raw, (size_t)len);
      snprintf(field, sizeof field, "%s", quoted);
      smn_redact_field(&needles, field, size);
      CHECK(!strstr(field, "s3\\x01\\\\") && !strstr(field, "xyz"));
      snprintf(field, sizeof field, "%s", raw);
      field[size - 1] = '\0';
      smn_redact_field(&needles, field, size);
      CHECK(!strstr(field, "s3\x01\\") && !strstr(field, "xyz"));
    }
}

/* The places where text is kept.  */
static void check_places(void) {
  static const char *const one[] = {"s3-s3-", NULL};
  static const struct smn_buf nothing = {.data = NULL};
  char field[16];
  char *string = strdup("a s3-s3- b"), *none = NULL;
  hide(one);
  smn_redact_string(&needles, &none);
  CHECK(none == NULL);
  smn_redact_string(&needles, &string);
  CHECK_STRING(string, "a <omitted> b");
  free(string);
  snprintf(field, sizeof field, "s3-s3- 34567890");
  smn_redact_field(&needles, field, sizeof field);
  CHECK_STRING(field, "<omitted> 34567");
  snprintf(field, sizeof field, "6789012345 s3-s");
  smn_redact_field(&needles, field, sizeof field);
  CHECK_STRING(field, "678901<omitted>");
  snprintf(field, sizeof field, "s3-s3-");
  smn_redact_field(&nothing, field, sizeof field);
  CHECK_STRING(field, "s3-s3-");
}

/* In whatever room, a mark is whole, and what follows a secret that is not
   shown is not, either.  */
static void check_marks(void) {
  static const char *const one[] = {"s3-s3-", NULL};
  static const char text[] = "a s3-s3- b s3-s3- c";
  hide(one);
  for (size_t size = 0; size <= 30; size++) {
    char out[31];
    size_t len = smn_redact(&needles, text, strlen(text), false, out, size);
    CHECK(len <= size);
    out[len] = '\0';
    size_t marks = 0;
    for (const char *at = out; (at = strchr(at, '<')); at++, marks++)
      CHECK(strncmp(at, SMN_OMITTED, strlen(SMN_OMITTED)) == 0);
    CHECK(size < 9 ? marks == 0 : marks >= 1);
    if (size >= 25)
      CHECK_STRING(out, "a <omitted> b <omitted> c");
    if (size == 9)
      CHECK_STRING(out, "<omitted>");
    if (size == 12 || size == 19)
      CHECK_STRING(out, "a <omitted>");
    if (size == 20)
      CHECK_STRING(out, "a <omitted><omitted>");
  }
}

/* Responses of AUTH, and what is in them.  */
static void check_responses(void) {
  static const struct {
    const char *raw, *digest;
  } responses[] = {
      {"tim b913a602c7eda7a495b4e6e7334d3890",
       "b913a602c7eda7a495b4e6e7334d3890"},
      {"c=biws,r=fyko,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
       "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts"},
      {"username=\"x\",response=d388dad90d4bbd760a152321f2143af7,maxbuf=1",
       "d388dad90d4bbd760a152321f2143af7"},
  };
  char text[256];
  for (size_t i = 0; i < sizeof responses / sizeof *responses; i++) {
    const char *raw = responses[i].raw;
    struct smn_buf encoded;
    smn_buf_clear(&needles);
    smn_buf_init(&encoded, 256);
    CHECK(smn_buf_add_base64(&encoded, raw, strlen(raw)));
    smn_redact_add_response(&needles, encoded.data, encoded.len);
    snprintf(text, sizeof text, "<%s> <%s>", encoded.data, responses[i].digest);
    CHECK_STRING(shown(text, strlen(text), false), "<<omitted>> <<omitted>>");
    snprintf(text, sizeof text, "tim username biws fyko");
    CHECK_STRING(shown(text, strlen(text), false), text);
    smn_buf_free(&encoded);
  }
  smn_buf_clear(&needles);
  smn_redact_add_response(&needles, "", 0);
  smn_redact_add_response(&needles, "!", 1);
  CHECK_INT(needles.len, 0);
}

/* No room: rather nothing is shown than a secret.  */
static void check_full(void) {
  struct smn_buf small;
  char out[32];
  for (size_t room = 16; room < 64; room++) {
    CHECK(smn_buf_init_secret(&small, room));
    smn_redact_add(&small,
                   "tanstaaf-tanstaaf-tanstaaf-tanstaaf-tanstaaf-"
                   "tanstaaf-tanstaaf",
                   62);
    size_t n = smn_redact(&small, "anything", 8, false, out, sizeof out);
    CHECK(n == 9 && memcmp(out, SMN_OMITTED, 9) == 0);
    smn_buf_free(&small);
  }
}

/* Every text of a result, and every secret of a server.  */

#define SECRET "s3cret!word"

#define FILL(field) snprintf(field, sizeof field, "x " SECRET)

static void fill_seen(struct smn_result *result) {
  static const struct smn_tls_info none;
  result->seen = smn_seen_new(&none);
  struct smn_certificate *shown = &result->seen->tls.certificate;
  FILL(shown->reasons);
  FILL(shown->subject);
  FILL(shown->issuer);
  shown->chain_len = SMN_CHAIN_MAX;
  for (int i = 0; i < SMN_CHAIN_MAX; i++) {
    FILL(shown->chain[i].subject);
    FILL(shown->chain[i].issuer);
  }
}

static void fill(struct smn_result *result) {
  FILL(result->error.text);
  FILL(result->notes);
  FILL(result->offered);
  result->reply = strdup("x " SECRET);
  result->greeting = strdup("x " SECRET);
  result->capabilities = strdup("x " SECRET);
  for (size_t i = 0; i < result->recipient_count; i++)
    result->recipients[i].text = strdup("x " SECRET);
}

static void check_result(void) {
  static const char *const one[] = {SECRET, NULL};
  struct smn_job *job = smn_job_new();
  struct smn_result result;
  job->recipients = calloc(3, sizeof(char *));
  job->recipients[0] = strdup("a@example.org");
  job->recipients[1] = strdup("b@example.org");
  CHECK(smn_result_init(&result, job));
  fill(&result);
  fill_seen(&result);
  struct smn_seen *seen = result.seen;
  hide(one);
  CHECK(memmem(&result, sizeof result, SECRET, strlen(SECRET)) != NULL);
  smn_result_redact(&result, &needles);
  CHECK(memmem(&result, sizeof result, SECRET, strlen(SECRET)) == NULL);
  /* What others look at already does not change.  */
  smn_seen_hold(seen);
  smn_seen_redact(seen, &needles);
  CHECK(memmem(seen, sizeof *seen, SECRET, strlen(SECRET)) != NULL);
  smn_seen_release(seen);
  smn_seen_redact(seen, &needles);
  CHECK(memmem(seen, sizeof *seen, SECRET, strlen(SECRET)) == NULL);
  const char *const texts[] = {result.reply,
                               result.greeting,
                               result.capabilities,
                               result.error.text,
                               result.recipients[0].text,
                               result.notes,
                               result.recipients[1].text};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    CHECK_STRING(texts[i], "x " SMN_OMITTED);
  smn_result_free(&result);
  smn_job_free(job);
}

static void check_server(void) {
  static const char text[] =
      "pa-ssword pa-ssphrase pr%6Fxy:s%65cret! proxy:secret!";
  struct smn_server server = {.port = 25};
  smn_buf_clear(&needles);
  CHECK(smn_buf_init_secret(&server.password, 64) &&
        smn_buf_init_secret(&server.passphrase, 64) &&
        smn_buf_init_secret(&server.proxy, 64));
  smn_server_hide(&server, &needles);
  CHECK_INT(needles.len, 0);
  CHECK(smn_buf_add_string(&server.password, "pa-ssword") &&
        smn_buf_add_string(&server.passphrase, "pa-ssphrase") &&
        smn_buf_add_string(&server.proxy,
                           "socks5://user:pr%6Fxy:s%65cret%21@h:1"));
  smn_server_hide(&server, &needles);
  CHECK_STRING(shown(text, strlen(text), false),
               "<omitted> <omitted> <omitted> <omitted>");
  smn_buf_free(&server.password);
  smn_buf_free(&server.passphrase);
  smn_buf_free(&server.proxy);
}

int main(void) {
  CHECK(smn_buf_init_secret(&needles, 4096));
  check_cases();
  check_exhaustively();
  check_base64();
  check_digits();
  check_cuts();
  check_quoted();
  check_places();
  check_marks();
  check_responses();
  check_full();
  check_result();
  check_server();
  smn_buf_free(&needles);
  return check_done("test-redact");
}
