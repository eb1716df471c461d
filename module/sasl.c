/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sasl.c - SASL mechanisms: the choice, and one exchange, by GNU SASL.  */
#include "sasl.h"
#include "ascii.h"

#include <gnutls/gnutls.h>
#include <gsasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHALLENGE_MAX 8192 /* octets, decoded; none of ours needs as many */

struct mechanism {
  const char *name;
  bool plaintext; /* hands the password to the server */
  bool scram;     /* the server has to prove itself, too */
  int steps;      /* challenges that it answers at most */
};

/* In the order of preference; RFC 5802, 7677, 2195, 4616, LOGIN.  */
static const struct mechanism mechanisms[] = {
    {"SCRAM-SHA-256", false, true, 3}, {"SCRAM-SHA-1", false, true, 3},
    {"CRAM-MD5", false, false, 1},     {"PLAIN", true, false, 1},
    {"LOGIN", true, false, 2},
};

#define MECHANISMS (sizeof mechanisms / sizeof *mechanisms)

struct smn_sasl {
  const struct mechanism *mechanism;
  Gsasl *context;
  Gsasl_session *session;
  int steps;
  bool proved; /* the last step of the mechanism has succeeded */
};

/* Choice */

/* NAME of LEN octets, in any case.  */
static const struct mechanism *find(const char *name, size_t len) {
  for (size_t m = 0; m < MECHANISMS; m++)
    if (smn_ascii_same(name, len, mechanisms[m].name,
                       strlen(mechanisms[m].name)))
      return &mechanisms[m];
  return NULL;
}

static bool listed(const char *list, const struct mechanism *mechanism) {
  while (*list) {
    size_t len = strcspn(list, " ");
    if (len && find(list, len) == mechanism)
      return true;
    list += len;
    list += strspn(list, " ");
  }
  return false;
}

static bool append(char *order, size_t size, const char *name) {
  size_t have = strlen(order);
  if (have + 1 + strlen(name) + 1 > size)
    return false;
  snprintf(order + have, size - have, "%s%s", have ? " " : "", name);
  return true;
}

size_t smn_sasl_choose(const char *offered, const char *wanted, char *order,
                       size_t size) {
  char all[256] = "";
  size_t count = 0;
  order[0] = '\0';
  for (size_t m = 0; m < MECHANISMS; m++)
    (void)append(all, sizeof all, mechanisms[m].name);
  const char *at = wanted && *wanted ? wanted : all;
  while (*at) {
    size_t len = strcspn(at, " ");
    const struct mechanism *mechanism = find(at, len);
    if (mechanism && listed(offered, mechanism) && !listed(order, mechanism))
      count += append(order, size, mechanism->name);
    at += len;
    at += strspn(at, " ");
  }
  return count;
}

bool smn_sasl_plaintext(const char *mechanism) {
  const struct mechanism *found = find(mechanism, strlen(mechanism));
  return found && found->plaintext;
}

/* Secrets in the library's memory

   GNU SASL keeps properties in memory of its own until the session ends, and
   so the octets there may be overwritten.  */
static void wipe_property(Gsasl_session *session, Gsasl_property property) {
  const char *value = gsasl_property_fast(session, property);
  if (value) {
    union {
      const char *given;
      char *owned;
    } memory = {value};
    smn_wipe(memory.owned, strlen(value));
  }
}

/* The library frees copies of the password without wiping them.  All that can
   be done from outside is to be given the same small blocks again, which the
   allocator hands to the thread that has freed them, and to wipe them.  */
static void scrub_freed_blocks(void) {
  enum { BLOCKS = 24, SMALLEST = 16, LARGEST = 2048 };
  void *blocks[BLOCKS];
  for (size_t size = SMALLEST; size <= LARGEST; size += 16) {
    for (int i = 0; i < BLOCKS; i++) {
      blocks[i] = malloc(size);
      if (blocks[i])
        smn_wipe(blocks[i], size);
    }
    for (int i = 0; i < BLOCKS; i++)
      free(blocks[i]);
  }
}

/* One exchange */

static enum smn_kind library_failed(const struct smn_sasl *sasl, int code,
                                    struct smn_error *err) {
  return smn_fail(err, SMN_AUTH, "%s: %s", sasl->mechanism->name,
                  gsasl_strerror(code));
}

static enum smn_kind set_properties(struct smn_sasl *sasl,
                                    const struct smn_credentials *c,
                                    struct smn_error *err) {
  int code = gsasl_property_set(sasl->session, GSASL_AUTHID, c->user);
  if (code == GSASL_OK && c->authzid)
    code = gsasl_property_set(sasl->session, GSASL_AUTHZID, c->authzid);
  if (code == GSASL_OK)
    code = gsasl_property_set_raw(sasl->session, GSASL_PASSWORD,
                                  c->password->data, c->password->len);
  return code == GSASL_OK ? SMN_OK : library_failed(sasl, code, err);
}

enum smn_kind smn_sasl_start(struct smn_sasl **sasl, const char *mechanism,
                             const struct smn_credentials *credentials,
                             struct smn_error *err) {
  const struct mechanism *found = find(mechanism, strlen(mechanism));
  *sasl = NULL;
  if (!found)
    return smn_fail(err, SMN_UNSUPPORTED, "the mechanism %s is not known here",
                    mechanism);
  if (credentials->password->len &&
      memchr(credentials->password->data, '\0', credentials->password->len))
    return smn_fail(err, SMN_AUTH, "the password holds a NUL");
  struct smn_sasl *s = calloc(1, sizeof *s);
  if (!s)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  s->mechanism = found;
  enum smn_kind kind = SMN_OK;
  int code = gsasl_init(&s->context);
  if (code == GSASL_OK)
    code = gsasl_client_start(s->context, found->name, &s->session);
  if (code != GSASL_OK)
    kind = library_failed(s, code, err);
  else
    kind = set_properties(s, credentials, err);
  if (kind == SMN_OK)
    *sasl = s;
  else
    smn_sasl_free(s);
  return kind;
}

void smn_sasl_free(struct smn_sasl *sasl) {
  if (!sasl)
    return;
  if (sasl->session) {
    wipe_property(sasl->session, GSASL_PASSWORD);
    wipe_property(sasl->session, GSASL_SCRAM_SALTED_PASSWORD);
    gsasl_finish(sasl->session);
  }
  if (sasl->context)
    gsasl_done(sasl->context);
  free(sasl);
  scrub_freed_blocks();
}

/* Append base64 of the LEN octets at BYTES.  */
static enum smn_kind encode(struct smn_buf *response, const char *bytes,
                            size_t len, struct smn_error *err) {
  gnutls_datum_t raw = {(unsigned char *)(size_t)bytes, (unsigned)len};
  gnutls_datum_t text = {NULL, 0};
  if (len == 0)
    return SMN_OK;
  if (gnutls_base64_encode2(&raw, &text) != 0)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  bool fits = smn_buf_add(response, text.data, text.size);
  smn_wipe(text.data, text.size);
  gnutls_free(text.data);
  return fits ? SMN_OK
              : smn_fail(err, SMN_AUTH, "the credentials are too long to send");
}

/* Hand CHALLENGE to the library, and its answer to *RESPONSE.  */
static enum smn_kind step(struct smn_sasl *sasl, const char *challenge,
                          size_t len, struct smn_buf *response,
                          struct smn_error *err) {
  char *output = NULL;
  size_t output_len = 0;
  int code = gsasl_step(sasl->session, challenge, len, &output, &output_len);
  enum smn_kind kind = SMN_OK;
  if (code == GSASL_OK || code == GSASL_NEEDS_MORE) {
    sasl->proved = code == GSASL_OK;
    kind = encode(response, output, output_len, err);
  } else
    kind = library_failed(sasl, code, err);
  if (output) {
    smn_wipe(output, output_len);
    gsasl_free(output);
  }
  scrub_freed_blocks();
  return kind;
}

enum smn_kind smn_sasl_first(struct smn_sasl *sasl, struct smn_buf *response,
                             bool *has, struct smn_error *err) {
  smn_buf_clear(response);
  *has = false;
  /* CRAM-MD5 has nothing to say, and LOGIN is defined without.  */
  if (!sasl->mechanism->scram && strcmp(sasl->mechanism->name, "PLAIN") != 0)
    return SMN_OK;
  enum smn_kind kind = step(sasl, NULL, 0, response, err);
  if (kind == SMN_OK && response->len == 0 && !smn_buf_add(response, "=", 1))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  *has = kind == SMN_OK;
  return kind;
}

/* The attribute NAME ("i=") of a SCRAM message, NULL without.  */
static const char *attribute(const char *message, char name) {
  for (const char *at = message; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (at[0] == name && at[1] == '=')
      return at + 2;
  }
  return NULL;
}

/* What a server may ask of PBKDF2 is bounded, and its own words for a refusal
   are passed on (RFC 5802 7).  MESSAGE is untrusted and ended by NUL.  */
static enum smn_kind check_scram(const struct smn_sasl *sasl,
                                 const char *message, struct smn_error *err) {
  const char *name = sasl->mechanism->name;
  const char *error = attribute(message, 'e');
  if (error) {
    char quoted[256];
    smn_quote(quoted, sizeof quoted, error, strcspn(error, ","));
    return smn_fail(err, SMN_AUTH, "%s: the server says %s", name, quoted);
  }
  const char *iterations = attribute(message, 'i');
  if (!iterations)
    return SMN_OK;
  char *end;
  unsigned long count = strtoul(iterations, &end, 10);
  if (end == iterations || count == 0 || count > SMN_SASL_ITERATIONS_MAX)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server asks for an iteration count that is not "
                    "between 1 and %d",
                    name, SMN_SASL_ITERATIONS_MAX);
  return SMN_OK;
}

enum smn_kind smn_sasl_next(struct smn_sasl *sasl, const char *challenge,
                            size_t len, struct smn_buf *response,
                            struct smn_error *err) {
  const char *name = sasl->mechanism->name;
  gnutls_datum_t text = {(unsigned char *)(size_t)challenge, (unsigned)len};
  gnutls_datum_t raw = {NULL, 0};
  enum smn_kind kind = SMN_OK;
  smn_buf_clear(response);
  if (++sasl->steps > sasl->mechanism->steps)
    return smn_fail(err, SMN_AUTH, "%s: the server asks once too often", name);
  if (len > CHALLENGE_MAX || (len && strcspn(challenge, "\r\n \t") != len) ||
      (len && gnutls_base64_decode2(&text, &raw) != 0))
    return smn_fail(err, SMN_AUTH, "%s: the server's challenge is not base64",
                    name);
  /* The library wants an end; a copy in our own hands has one.  */
  char *message = calloc(1, raw.size + 1);
  if (!message)
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  else if (raw.size)
    memcpy(message, raw.data, raw.size);
  gnutls_free(raw.data);
  if (kind == SMN_OK && sasl->mechanism->scram)
    kind = check_scram(sasl, message, err);
  if (kind == SMN_OK)
    kind = step(sasl, message, raw.size, response, err);
  free(message);
  return kind;
}

enum smn_kind smn_sasl_finish(const struct smn_sasl *sasl,
                              struct smn_error *err) {
  if (sasl->mechanism->scram && !sasl->proved)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server accepts without having proved that it "
                    "knows the password",
                    sasl->mechanism->name);
  return SMN_OK;
}
