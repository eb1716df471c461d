/* SPDX-License-Identifier: GPL-3.0-or-later */
/* result.c - what came of a job.  */
#include "mail/result.h"
#include "base/redact.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLY_MAX 512 /* octets of a reply that are shown */

struct smn_seen *smn_seen_new(const struct smn_tls_info *tls) {
  struct smn_seen *seen = malloc(sizeof *seen);
  if (!seen)
    return NULL;
  atomic_init(&seen->holders, 1);
  seen->tls = *tls;
  return seen;
}

struct smn_seen *smn_seen_hold(struct smn_seen *seen) {
  if (seen)
    atomic_fetch_add(&seen->holders, 1);
  return seen;
}

void smn_seen_release(struct smn_seen *seen) {
  if (seen && atomic_fetch_sub(&seen->holders, 1) == 1)
    free(seen);
}

void smn_seen_redact(struct smn_seen *seen, const struct smn_buf *needles) {
  if (!seen || atomic_load(&seen->holders) != 1)
    return;
  struct smn_certificate *shown = &seen->tls.certificate;
  smn_redact_field(needles, shown->reasons, sizeof shown->reasons);
  smn_redact_field(needles, shown->subject, sizeof shown->subject);
  smn_redact_field(needles, shown->issuer, sizeof shown->issuer);
  for (int i = 0; i < shown->chain_len; i++) {
    struct smn_link *link = &shown->chain[i];
    smn_redact_field(needles, link->subject, sizeof link->subject);
    smn_redact_field(needles, link->issuer, sizeof link->issuer);
  }
}

bool smn_result_init(struct smn_result *result, const struct smn_job *job) {
  memset(result, 0, sizeof *result);
  size_t count = 0;
  while (job->recipients && job->recipients[count])
    count++;
  if (count == 0)
    return true;
  result->recipients = calloc(count, sizeof *result->recipients);
  if (!result->recipients)
    return false;
  for (size_t i = 0; i < count; i++)
    result->recipients[i].address = job->recipients[i];
  result->recipient_count = count;
  return true;
}

void smn_result_clear(struct smn_result *result) {
  struct smn_recipient_result *recipients = result->recipients;
  size_t count = result->recipient_count;
  for (size_t i = 0; i < count; i++) {
    free(recipients[i].text);
    recipients[i] =
        (struct smn_recipient_result){.address = recipients[i].address};
  }
  free(result->reply);
  free(result->greeting);
  free(result->capabilities);
  free(result->unrecorded);
  smn_seen_release(result->seen);
  *result =
      (struct smn_result){.recipient_count = count, .recipients = recipients};
}

void smn_result_free(struct smn_result *result) {
  smn_result_clear(result);
  free(result->recipients);
  memset(result, 0, sizeof *result);
}

const struct smn_tls_info *smn_result_tls(const struct smn_result *result) {
  static const struct smn_tls_info none;
  return result->seen ? &result->seen->tls : &none;
}

void smn_result_redact(struct smn_result *result,
                       const struct smn_buf *needles) {
  const struct {
    char *text;
    size_t size;
  } texts[] = {
      {result->error.text, sizeof result->error.text},
      {result->notes, sizeof result->notes},
      {result->offered, sizeof result->offered},
  };
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    smn_redact_field(needles, texts[i].text, texts[i].size);
  smn_redact_string(needles, &result->reply);
  smn_redact_string(needles, &result->greeting);
  smn_redact_string(needles, &result->capabilities);
  for (size_t i = 0; i < result->recipient_count; i++)
    smn_redact_string(needles, &result->recipients[i].text);
}

char *smn_result_shown(const struct smn_buf *needles, int code,
                       const char *bytes, size_t len) {
  char text[2 * REPLY_MAX], shown[REPLY_MAX + 1];
  int prefix = code ? snprintf(shown, sizeof shown, "%d ", code) : 0;
  len = smn_redact(needles, bytes, len, false, text, sizeof text);
  smn_quote(shown + prefix, sizeof shown - (size_t)prefix, text, len);
  return strdup(shown);
}

/* Keys and values */

enum field_type { KIND, STAGE, NUMBER, OCTETS, ARRAY, TEXT, FLAG };

#define AT(member) offsetof(struct smn_result, member)

static const struct {
  const char *key;
  enum field_type type;
  size_t offset;
  bool fleeting;
} fields[] = {
    {":kind", KIND, AT(error.kind), false},
    {":stage", STAGE, AT(error.stage), false},
    {":code", NUMBER, AT(error.code), false},
    {":enhanced", ARRAY, AT(error.enhanced), false},
    {":text", ARRAY, AT(error.text), false},
    {":in-doubt", FLAG, AT(in_doubt), false},
    {":octets", OCTETS, AT(octets), false},
    {":reply", TEXT, AT(reply), false},
    {":mechanism", ARRAY, AT(mechanism), false},
    {":offered", ARRAY, AT(offered), false},
    {":token-refused", FLAG, AT(token_refused), false},
    {":password-untested", FLAG, AT(password_untested), false},
    {":passphrase-wanted", FLAG, AT(passphrase_wanted), false},
    {":release-unsupported", FLAG, AT(release_unsupported), false},
    {":eight-bit-unsupported", FLAG, AT(eight_bit_unsupported), false},
    {":more", FLAG, AT(more), false},
    {":notes", ARRAY, AT(notes), false},
    {":unrecorded", TEXT, AT(unrecorded), true},
    {":greeting", TEXT, AT(greeting), true},
    {":capabilities", TEXT, AT(capabilities), true},
};

static struct smn_value symbol(const char *name) {
  return (struct smn_value){.type = SMN_VALUE_SYMBOL, .text = name};
}

static struct smn_value flag(bool value) { return symbol(value ? "t" : "nil"); }

static struct smn_value number(int64_t value) {
  return (struct smn_value){.type = SMN_VALUE_NUMBER, .number = value};
}

static struct smn_value text(const char *value) {
  return (struct smn_value){.type = SMN_VALUE_TEXT, .text = value};
}

static struct smn_value value_at(const void *at, enum field_type type) {
  switch (type) {
  case KIND:
    return symbol(smn_kind_name(*(const enum smn_kind *)at));
  case STAGE:
    return symbol(smn_stage_name(*(const enum smn_stage *)at));
  case NUMBER:
    return number(*(const int *)at);
  case OCTETS:
    return number((int64_t) * (const uint64_t *)at);
  case ARRAY:
    return text(at);
  case TEXT:
    return text(*(char *const *)at);
  case FLAG:
    break;
  }
  return flag(*(const bool *)at);
}

const char *smn_result_value(const struct smn_result *result, size_t i,
                             struct smn_value *value) {
  if (i >= sizeof fields / sizeof *fields)
    return NULL;
  *value = value_at((const char *)result + fields[i].offset, fields[i].type);
  value->fleeting = fields[i].fleeting;
  return fields[i].key;
}

bool smn_recipient_value(const struct smn_recipient_result *recipient, size_t i,
                         struct smn_value *value) {
  switch (i) {
  case 0:
    *value = text(recipient->address);
    return true;
  case 1:
    *value =
        recipient->delivered ? symbol("delivered") : flag(recipient->accepted);
    return true;
  case 2:
    *value = number(recipient->code);
    return true;
  case 3:
    *value = text(recipient->enhanced);
    return true;
  case 4:
    *value = text(recipient->text);
    return true;
  default:
    return false;
  }
}
