/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-exhaustive.c - the pure parts, for every small input, against models
   that are too simple to be wrong.  */
#define _GNU_SOURCE /* memmem */
#include "base/redact.h"
#include "check.h"
#include "mail/wire.h"
#include "naive-wire.h"
#include "smtp/reply.h"

#include <gnutls/gnutls.h>
#include <stdlib.h>

/* The text number I of LEN letters out of ALPHABET.  */
static void spell(unsigned long i, size_t len, const char *alphabet,
                  size_t letters, char *out) {
  for (size_t at = 0; at < len; at++) {
    out[at] = alphabet[i % letters];
    i /= letters;
  }
}

static unsigned long power(unsigned long base, size_t exponent) {
  return exponent == 0 ? 1 : base * power(base, exponent - 1);
}

/* Wire */

#define WIRE_MAX 7

/* TEXT in blocks of STEP octets, the first one of FIRST octets.  */
static bool wire_agrees(const char *text, size_t len, size_t first, size_t step,
                        bool stuff) {
  char want[2 * WIRE_MAX + 8], got[2 * WIRE_MAX + 8];
  size_t size, to = 0, used;
  size_t want_len = naive_wire(text, len, stuff, want, &size);
  struct smn_wire wire, counted;
  smn_wire_init(&wire, stuff);
  smn_wire_init(&counted, stuff);
  for (size_t from = 0, n = first; from < len; n = step) {
    if (n > len - from)
      n = len - from;
    smn_wire_count(&counted, text + from, n);
    for (size_t end = from + n; from < end; from += used)
      to += smn_wire_encode(&wire, text + from, end - from, &used, got + to,
                            sizeof got - to);
  }
  to += smn_wire_end(&wire, got + to);
  smn_wire_count_end(&counted);
  return to == want_len && memcmp(got, want, to) == 0 && wire.octets == size &&
         counted.octets == size &&
         counted.eight_bit == (memchr(text, 0xc8, len) != NULL);
}

static void check_wire(void) {
  static const char alphabet[] = {'\r', '\n', '.', '\0', 'a', '\xc8'};
  char text[WIRE_MAX];
  unsigned long wrong = 0;
  for (size_t len = 0; len <= WIRE_MAX; len++)
    for (unsigned long i = 0; i < power(sizeof alphabet, len); i++) {
      spell(i, len, alphabet, sizeof alphabet, text);
      for (int stuff = 0; stuff < 2; stuff++) {
        /* The longest ones have the one border that can matter most.  */
        for (size_t first = len == WIRE_MAX ? 3 : 1; first <= len;
             first += len == WIRE_MAX ? len : 1)
          wrong += !wire_agrees(text, len, first, len, stuff);
        wrong += !wire_agrees(text, len, 1, 1, stuff);
      }
    }
  CHECK_INT(wrong, 0);
}

/* Replies */

#define LINE_MAX_LEN 6

struct verdict {
  bool reply;    /* false: it is none */
  bool complete; /* false: more is to come */
  bool broken;
  int code;
};

/* What RFC 5321 4.2 says of one line: its code, or 0; *ENDS: it is the last. */
static int read_code(const char *line, bool *ends) {
  size_t len = strlen(line);
  *ends = len == 3 || (len > 3 && line[3] == ' ');
  if (len < 3 || !strchr("2345", line[0]) || !strchr("012345", line[1]) ||
      !strchr("0123456789", line[2]) || (!*ends && line[3] != '-'))
    return 0;
  return (line[0] - '0') * 100 + (line[1] - '0') * 10 + (line[2] - '0');
}

static struct verdict naive_one(const char *line) {
  bool ends;
  int code = read_code(line, &ends);
  return (struct verdict){code != 0, code != 0 && ends, false, code};
}

/* A second line behind a first one that has said CODE and goes on.  */
static struct verdict naive_two(int code, const char *line, bool greeting) {
  bool ends;
  int second = read_code(line, &ends);
  if (second == code)
    return (struct verdict){true, ends, false, code};
  if (code >= 400 && second == 0)
    return (struct verdict){true, true, true, code};
  if (code >= 400 && second >= 400)
    return (struct verdict){true, ends, true,
                            second / 100 > code / 100 ? second : code};
  if (greeting && code < 300 && second >= 400)
    return (struct verdict){true, ends, true, second};
  return (struct verdict){.reply = false};
}

static bool reply_agrees(const struct verdict *want, enum smn_kind kind,
                         const struct smn_reply *reply) {
  if (!want->reply)
    return kind == SMN_PROTOCOL;
  return kind == SMN_OK && reply->complete == want->complete &&
         reply->broken == want->broken && reply->code == want->code;
}

static void check_replies(void) {
  static const char alphabet[] = "2450- x";
  char line[LINE_MAX_LEN + 1] = "";
  struct smn_reply reply;
  struct smn_error err;
  unsigned long wrong = 0;
  smn_reply_init(&reply);
  for (size_t len = 0; len <= LINE_MAX_LEN; len++)
    for (unsigned long i = 0; i < power(7, len); i++) {
      spell(i, len, alphabet, 7, line);
      line[len] = '\0';
      struct verdict want = naive_one(line);
      smn_reply_clear(&reply);
      wrong +=
          !reply_agrees(&want, smn_reply_line(&reply, line, len, &err), &reply);
    }
  CHECK_INT(wrong, 0);
  smn_reply_free(&reply);
}

/* Two lines, of which the first goes on.  */
static void check_two_lines(void) {
  static const char alphabet[] = "2450- x";
  static const char *const firsts[] = {"200-", "250-", "220-", "354-", "421-",
                                       "450-", "500-", "550-", "554-", "250-x"};
  char line[LINE_MAX_LEN + 1] = "";
  struct smn_reply reply;
  struct smn_error err;
  unsigned long wrong = 0;
  smn_reply_init(&reply);
  for (size_t f = 0; f < 2 * sizeof firsts / sizeof *firsts; f++)
    for (size_t len = 0; len <= 5; len++)
      for (unsigned long i = 0; i < power(7, len); i++) {
        const char *first = firsts[f / 2];
        spell(i, len, alphabet, 7, line);
        line[len] = '\0';
        struct verdict want = naive_two(atoi(first), line, f % 2);
        smn_reply_clear(&reply);
        reply.greeting = f % 2;
        wrong += smn_reply_line(&reply, first, strlen(first), &err) != SMN_OK;
        wrong += !reply_agrees(&want, smn_reply_line(&reply, line, len, &err),
                               &reply);
      }
  CHECK_INT(wrong, 0);
  smn_reply_free(&reply);
}

/* Redaction */

static const char *const around[] = {"",  "a", "9",    " ",   "=", "%",
                                     "+", "/", "\\",   "\n",  "<", ">",
                                     "-", ".", "\xc3", "\xff"};
#define AROUND (sizeof around / sizeof *around)

/* FORM does not come through in a text with BEFORE and BEHIND.  */
static bool hidden(const struct smn_buf *needles, const char *before,
                   const char *form, const char *behind) {
  char text[512], out[512];
  int len = snprintf(text, sizeof text, "%s%s%s", before, form, behind);
  size_t out_len =
      smn_redact(needles, text, (size_t)len, false, out, sizeof out);
  return out_len <= sizeof out && !memmem(out, out_len, form, strlen(form)) &&
         memmem(out, out_len, SMN_OMITTED, strlen(SMN_OMITTED));
}

/* FORM is hidden with any two octets before it and any behind it.  */
static unsigned long shown(const struct smn_buf *needles, const char *form) {
  char before[8];
  unsigned long count = 0;
  for (size_t i = 0; i < AROUND * AROUND; i++)
    for (size_t k = 0; k < AROUND; k++) {
      snprintf(before, sizeof before, "%s%s", around[i / AROUND],
               around[i % AROUND]);
      count += !hidden(needles, before, form, around[k]);
    }
  return count;
}

/* SECRET as servers and others write what they do not want to write.  */
static void write_form(unsigned which, const char *secret, char *out) {
  static const char *const marks[] = {"", "%", "=", "\\x"};
  for (size_t to = 0; *secret; secret++)
    to += (size_t)sprintf(out + to, "%s%02X", marks[which],
                          (unsigned char)*secret);
}

static void check_redaction(void) {
  static const char *const secrets[] = {"s3cret!x", "p\xc3\xa4ss-w\xc3\xb6rd7",
                                        "correcthorsebattery"};
  struct smn_buf needles;
  char form[128];
  CHECK(smn_buf_init_secret(&needles, 65536));
  for (size_t s = 0; s < 3; s++) {
    const char *secret = secrets[s];
    smn_buf_clear(&needles);
    smn_redact_add(&needles, secret, strlen(secret));
    CHECK_INT(shown(&needles, secret), 0);
    for (unsigned f = 0; f < 4; f++) {
      write_form(f, secret, form);
      CHECK_INT(shown(&needles, form), 0);
    }
  }
  smn_buf_free(&needles);
}

/* The secret at every place of a base64 text.  */
static void check_base64(void) {
  static const char secret[] = "tanstaaf-12";
  struct smn_buf needles;
  unsigned long wrong = 0;
  CHECK(smn_buf_init_secret(&needles, 65536));
  smn_redact_add(&needles, secret, sizeof secret - 1);
  for (size_t before = 0; before < 12; before++)
    for (size_t behind = 0; behind < 12; behind++) {
      char raw[64], out[256];
      memset(raw, 'q', sizeof raw);
      memcpy(raw + before, secret, sizeof secret - 1);
      gnutls_datum_t in = {(unsigned char *)raw,
                           (unsigned)(before + sizeof secret - 1 + behind)};
      gnutls_datum_t encoded = {NULL, 0};
      CHECK_INT(gnutls_base64_encode2(&in, &encoded), 0);
      size_t len = smn_redact(&needles, (char *)encoded.data, encoded.size,
                              false, out, sizeof out);
      wrong += len != strlen(SMN_OMITTED) || memcmp(out, SMN_OMITTED, len) != 0;
      gnutls_free(encoded.data);
    }
  CHECK_INT(wrong, 0);
  smn_buf_free(&needles);
}

int main(void) {
  check_wire();
  check_replies();
  check_two_lines();
  check_redaction();
  check_base64();
  return check_done("test-exhaustive");
}
