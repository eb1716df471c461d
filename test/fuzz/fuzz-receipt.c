/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-receipt.c - a receipt is one Lisp plist, and reads as it was meant.
   One line each: the text of the error, the reply, the notes, and the replies
   to the recipients, all as a server may have said them.  */
#include "fuzz.h"
#include "mail/receipt.h"
#include "mail/result.h"

#include <sys/stat.h>
#include <unistd.h>

#define SHOWN_MAX 2048 /* octets of a text of the server */

static char folder[64];

static void remove_folder(void) {
  char command[100];
  snprintf(command, sizeof command, "rm -rf %s", folder);
  (void)!system(command);
}

static void make_folder(void) {
  if (folder[0])
    return;
  snprintf(folder, sizeof folder, "%s/smn-receipt-XXXXXX",
           access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
  REQUIRE(mkdtemp(folder));
  atexit(remove_folder);
}

/* The Lisp reader, as far as a receipt needs it: AT is behind one datum
   afterwards.  Strings are unescaped into STRINGS, one after the other.  */
struct reader {
  const char *at, *end;
  char *strings, *to;
  int depth;
};

static void skip_space(struct reader *r) {
  while (r->at < r->end && strchr(" \n", *r->at))
    r->at++;
}

static void read_string(struct reader *r) {
  for (r->at++; r->at < r->end && *r->at != '"'; r->at++) {
    if (*r->at == '\\') {
      r->at++;
      REQUIRE(r->at < r->end && (*r->at == '\\' || *r->at == '"'));
    }
    *r->to++ = *r->at;
  }
  *r->to++ = '\n';
  REQUIRE(r->at++ < r->end);
}

static void read_datum(struct reader *r) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789:-";
  skip_space(r);
  REQUIRE(r->at < r->end && ++r->depth < 10);
  if (*r->at == '"')
    read_string(r);
  else if (*r->at == '(') {
    for (r->at++, skip_space(r); r->at < r->end && *r->at != ')'; skip_space(r))
      read_datum(r);
    REQUIRE(r->at++ < r->end);
  } else {
    size_t len = strspn(r->at, plain);
    REQUIRE(len > 0);
    r->at += len;
  }
  r->depth--;
}

/* The strings of the receipt, each followed by a line feed; to be freed.  */
static char *read_back(void) {
  char name[100];
  struct stat status;
  snprintf(name, sizeof name, "%s/receipt", folder);
  FILE *in = fopen(name, "r");
  REQUIRE(in && fstat(fileno(in), &status) == 0);
  size_t len = (size_t)status.st_size;
  char *text = malloc(len + 1);
  REQUIRE(fread(text, 1, len, in) == len);
  text[len] = '\0';
  fclose(in);
  REQUIRE(strlen(text) == len);
  char *strings = calloc(1, len + 2);
  struct reader r = {
      .at = text, .end = text + len, .strings = strings, .to = strings};
  read_datum(&r);
  skip_space(&r);
  REQUIRE(r.at == r.end);
  free(text);
  return strings;
}

/* TEXT is one of STRINGS, whole.  */
static void require_string(const char *strings, const char *text) {
  size_t len = strlen(text);
  for (const char *at = strings; *at; at = strchr(at, '\n') + 1)
    if (strncmp(at, text, len) == 0 && at[len] == '\n')
      return;
  fprintf(stderr, "not in the receipt: %s\n", text);
  abort();
}

static char *quoted(struct input *in) {
  size_t len;
  char *line = take_line(in, &len), *shown = malloc(SHOWN_MAX);
  smn_quote(shown, SHOWN_MAX, line, len);
  free(line);
  return shown;
}

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct input in = {octets, len};
  struct smn_result result;
  struct smn_error err = {.kind = SMN_OK};
  struct smn_job *job = smn_job_new();
  make_folder();
  job->entry = strdup(folder);
  job->recipients = calloc(4, sizeof *job->recipients);
  job->recipients[0] = strdup("\"a\\\"b\"@example.org");
  job->recipients[1] = strdup("b@example.org");
  REQUIRE(smn_result_init(&result, job));
  char *shown = quoted(&in);
  result.error.kind = SMN_REPLY;
  result.error.code = 550;
  snprintf(result.error.text, sizeof result.error.text, "%s", shown);
  free(shown);
  result.reply = quoted(&in);
  shown = quoted(&in);
  snprintf(result.notes, sizeof result.notes, "%s", shown);
  free(shown);
  result.recipients[0].text = quoted(&in);
  result.recipients[1].text = quoted(&in);
  REQUIRE(smn_receipt_write(job, &result, &err) == SMN_OK);
  char *strings = read_back();
  require_string(strings, result.error.text);
  require_string(strings, result.reply);
  require_string(strings, result.notes);
  require_string(strings, result.recipients[0].text);
  require_string(strings, result.recipients[1].text);
  require_string(strings, job->recipients[0]);
  free(strings);
  smn_result_free(&result);
  smn_job_free(job);
  return 0;
}
