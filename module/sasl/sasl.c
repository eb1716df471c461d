/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sasl.c - SASL mechanisms: the choice, and one exchange.  */
#include "sasl/sasl.h"
#include "base/ascii.h"
#include "sasl/gssapi.h"
#include "sasl/scram.h"
#include "sasl/token.h"

#include <gnutls/gnutls.h>
#include <gsasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHALLENGE_MAX 8192 /* octets, in base64; none of ours needs as many */
#define WORDS_MAX 1024     /* of a refused token */

enum family { SCRAM, TOKEN, LIBRARY };

struct mechanism {
  const char *name;
  enum family family;
  int steps;       /* challenges that it answers at most */
  bool binds;      /* the channel */
  bool plaintext;  /* hands the password to the server */
  bool secretless; /* needs neither password nor token */
  bool by_name;    /* is used only where it is asked for */
  bool speaks;     /* has an initial response */
  bool proves;     /* the server has to prove itself, too */
  bool waits;      /* for somebody else than the server */
};

/* In the order of preference.  RFC 5802, 7677, 2195, 4616, LOGIN, 7628,
   XOAUTH2, 4422, 4752, 2831, NTLM.  */
static const struct mechanism mechanisms[] = {
    {"SCRAM-SHA-256-PLUS", SCRAM, 3, .binds = true, .speaks = true},
    {"SCRAM-SHA-1-PLUS", SCRAM, 3, .binds = true, .speaks = true},
    {"SCRAM-SHA-256", SCRAM, 3, .speaks = true},
    {"SCRAM-SHA-1", SCRAM, 3, .speaks = true},
    {"CRAM-MD5", LIBRARY, 1, .speaks = false},
    {"PLAIN", LIBRARY, 1, .plaintext = true, .speaks = true},
    {"LOGIN", LIBRARY, 2, .plaintext = true},
    {"OAUTHBEARER", TOKEN, 1, .speaks = true},
    {"XOAUTH2", TOKEN, 1, .speaks = true},
    {"EXTERNAL", LIBRARY, 1, .secretless = true, .speaks = true},
    {"GSSAPI", LIBRARY, 6, .secretless = true, .by_name = true, .speaks = true,
     .waits = true},
    {"DIGEST-MD5", LIBRARY, 2, .by_name = true, .proves = true},
    {"NTLM", LIBRARY, 2, .by_name = true, .speaks = true},
};

#define MECHANISMS (sizeof mechanisms / sizeof *mechanisms)

struct smn_sasl {
  const struct mechanism *mechanism;
  const struct smn_credentials *credentials;
  struct smn_scram *scram; /* SCRAM */
  Gsasl *context;          /* LIBRARY */
  Gsasl_session *session;
  struct smn_buf raw;     /* secret: a response before base64 */
  struct smn_buf refusal; /* the server's words about the token */
  bool refused;           /* the token */
  int steps;
  bool proved; /* the last step of the library has succeeded */
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

static const struct mechanism *named(const char *name) {
  return find(name, strlen(name));
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

static bool possible(const struct mechanism *m,
                     const struct smn_sasl_means *means) {
  return (!m->binds || means->binding) && (m->secretless || means->secret);
}

/* It is used where no mechanism is asked for.  */
static bool by_default(const struct mechanism *m,
                       const struct smn_sasl_means *means) {
  if (m->by_name)
    return false;
  if (m->secretless)
    return means->certificate && !means->secret;
  return (m->family == TOKEN) == means->token;
}

size_t smn_sasl_choose(const char *offered, const char *wanted,
                       const struct smn_sasl_means *means, char *order,
                       size_t size) {
  char all[256] = "";
  size_t count = 0;
  order[0] = '\0';
  for (size_t m = 0; m < MECHANISMS; m++)
    if (by_default(&mechanisms[m], means))
      (void)append(all, sizeof all, mechanisms[m].name);
  const char *at = wanted && *wanted ? wanted : all;
  while (*at) {
    size_t len = strcspn(at, " ");
    const struct mechanism *m = find(at, len);
    if (m && listed(offered, m) && possible(m, means) && !listed(order, m))
      count += append(order, size, m->name);
    at += len;
    at += strspn(at, " ");
  }
  return count;
}

bool smn_sasl_plaintext(const char *mechanism) {
  const struct mechanism *found = named(mechanism);
  return found && found->plaintext;
}

bool smn_sasl_token(const char *mechanism) {
  const struct mechanism *found = named(mechanism);
  return found && found->family == TOKEN;
}

bool smn_sasl_scram(const char *mechanism) {
  const struct mechanism *found = named(mechanism);
  return found && found->family == SCRAM;
}

bool smn_sasl_binds(const char *mechanism) {
  const struct mechanism *found = named(mechanism);
  return found && found->binds;
}

bool smn_sasl_list_binds(const char *list) {
  for (size_t m = 0; m < MECHANISMS; m++)
    if (mechanisms[m].binds && listed(list, &mechanisms[m]))
      return true;
  return false;
}

bool smn_sasl_list_secretless(const char *list) {
  for (size_t m = 0; m < MECHANISMS; m++)
    if (mechanisms[m].secretless && listed(list, &mechanisms[m]))
      return true;
  return false;
}

bool smn_sasl_add_name(struct smn_buf *buf, const char *name) {
  bool fits = true;
  for (const char *at = name; fits && *at; at++)
    fits = *at == ','   ? smn_buf_add_string(buf, "=2C")
           : *at == '=' ? smn_buf_add_string(buf, "=3D")
                        : smn_buf_add(buf, at, 1);
  return fits;
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

/* One exchange */

static enum smn_kind library_failed(const struct smn_sasl *sasl, int code,
                                    struct smn_error *err) {
  const char *name = sasl->mechanism->name;
  if (code == GSASL_UNKNOWN_MECHANISM)
    return smn_fail(err, SMN_UNSUPPORTED,
                    "%s: GNU SASL was built without this mechanism", name);
  return smn_fail(err, SMN_AUTH, "%s: %s", name, gsasl_strerror(code));
}

/* The library counts a missing property as an error of its own, so an absent
   one is just not set.  */
static int set_property(struct smn_sasl *sasl, Gsasl_property property,
                        const char *value) {
  return value ? gsasl_property_set(sasl->session, property, value) : GSASL_OK;
}

static enum smn_kind start_library(struct smn_sasl *sasl,
                                   struct smn_error *err) {
  const struct smn_credentials *c = sasl->credentials;
  int code = gsasl_init(&sasl->context);
  if (code == GSASL_OK)
    code = gsasl_client_start(sasl->context, sasl->mechanism->name,
                              &sasl->session);
  if (code == GSASL_OK)
    code = set_property(sasl, GSASL_AUTHID, c->user);
  if (code == GSASL_OK)
    code = set_property(sasl, GSASL_AUTHZID, c->authzid);
  if (code == GSASL_OK)
    code = set_property(sasl, GSASL_SERVICE, "smtp");
  if (code == GSASL_OK)
    code = set_property(sasl, GSASL_HOSTNAME, c->host);
  if (code == GSASL_OK && !sasl->mechanism->secretless)
    code = gsasl_property_set_raw(sasl->session, GSASL_PASSWORD,
                                  c->password->data, c->password->len);
  return code == GSASL_OK ? SMN_OK : library_failed(sasl, code, err);
}

enum smn_kind smn_sasl_start(struct smn_sasl **sasl, const char *mechanism,
                             const struct smn_credentials *credentials,
                             struct smn_error *err) {
  const struct mechanism *found = named(mechanism);
  const struct smn_buf *password = credentials->password;
  *sasl = NULL;
  if (!found)
    return smn_fail(err, SMN_UNSUPPORTED, "the mechanism %s is not known here",
                    mechanism);
  if (password->len && memchr(password->data, '\0', password->len))
    return smn_fail(err, SMN_AUTH, "the password holds a NUL");
  if (!found->secretless && (!credentials->user || !password->data) &&
      !(found->family == TOKEN && password->data))
    return smn_fail(err, SMN_AUTH, "%s needs a user and a password",
                    found->name);
  struct smn_sasl *s = calloc(1, sizeof *s);
  if (!s || !smn_buf_init_secret(&s->raw, SMN_SASL_RESPONSE_MAX)) {
    free(s);
    return smn_fail(err, SMN_SYSTEM, "no memory");
  }
  smn_buf_init(&s->refusal, WORDS_MAX);
  s->mechanism = found;
  s->credentials = credentials;
  enum smn_kind kind = SMN_OK;
  if (found->family == SCRAM)
    kind = smn_scram_new(&s->scram, found->name, credentials, err);
  else if (found->family == LIBRARY)
    kind = start_library(s, err);
  if (kind == SMN_OK)
    *sasl = s;
  else
    smn_sasl_free(s);
  return kind;
}

void smn_sasl_free(struct smn_sasl *sasl) {
  if (!sasl)
    return;
  smn_scram_free(sasl->scram);
  if (sasl->session) {
    wipe_property(sasl->session, GSASL_PASSWORD);
    gsasl_finish(sasl->session);
  }
  if (sasl->context)
    gsasl_done(sasl->context);
  smn_buf_free(&sasl->raw);
  smn_buf_free(&sasl->refusal);
  smn_scrub_heap(sasl->credentials->password->len);
  free(sasl);
}

/* Base64 of what stands in sasl->raw into *RESPONSE.  */
static enum smn_kind encode(struct smn_sasl *sasl, struct smn_buf *response,
                            struct smn_error *err) {
  if (sasl->raw.len == 0 ||
      smn_buf_add_base64(response, sasl->raw.data, sasl->raw.len))
    return SMN_OK;
  return smn_fail(err, SMN_AUTH, "the credentials are too long to send");
}

static enum smn_kind step_library(struct smn_sasl *sasl, const char *challenge,
                                  size_t len, struct smn_error *err) {
  const struct smn_credentials *c = sasl->credentials;
  char *output = NULL;
  size_t output_len = 0;
  enum smn_kind kind = SMN_OK;
  int code = GSASL_OK;
  if (sasl->mechanism->waits)
    kind =
        smn_gssapi_step(&sasl->context, &sasl->session, challenge, len, &output,
                        &output_len, &code, c->timeout_ms, c->cancel_fd, err);
  else
    code = gsasl_step(sasl->session, challenge, len, &output, &output_len);
  if (kind != SMN_OK)
    return kind;
  if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
    kind = library_failed(sasl, code, err);
  else if (output_len && !smn_buf_add(&sasl->raw, output, output_len))
    kind = smn_fail(err, SMN_AUTH, "the credentials are too long to send");
  sasl->proved = code == GSASL_OK;
  if (output) {
    smn_wipe(output, output_len);
    gsasl_free(output);
  }
  return kind;
}

/* A challenge behind the token is the server's refusal, whose reply it wants to
   be asked for: by kvsep (RFC 7628 3.2.3), or, for XOAUTH2, by nothing.  */
static enum smn_kind step_token(struct smn_sasl *sasl, const char *challenge,
                                size_t len, struct smn_error *err) {
  bool bearer = strcmp(sasl->mechanism->name, "OAUTHBEARER") == 0;
  if (!challenge)
    return smn_token_message(bearer, sasl->credentials, &sasl->raw, err);
  sasl->refused = true;
  smn_token_words(challenge, len, &sasl->refusal);
  if (bearer && !smn_buf_add(&sasl->raw, "\001", 1))
    return smn_fail(err, SMN_SYSTEM, "no memory");
  return SMN_OK;
}

/* Answer CHALLENGE (NULL: make the initial response) in base64.  */
static enum smn_kind step(struct smn_sasl *sasl, const char *challenge,
                          size_t len, struct smn_buf *response,
                          struct smn_error *err) {
  enum smn_kind kind = SMN_OK;
  switch (sasl->mechanism->family) {
  case SCRAM:
    kind = smn_scram_step(sasl->scram, challenge, len, &sasl->raw, err);
    break;
  case TOKEN:
    kind = step_token(sasl, challenge, len, err);
    break;
  case LIBRARY:
    kind = step_library(sasl, challenge, len, err);
    break;
  }
  if (kind == SMN_OK)
    kind = encode(sasl, response, err);
  smn_buf_clear(&sasl->raw);
  smn_scrub_heap(sasl->credentials->password->len);
  return kind;
}

enum smn_kind smn_sasl_first(struct smn_sasl *sasl, struct smn_buf *response,
                             bool *has, struct smn_error *err) {
  smn_buf_clear(response);
  *has = false;
  if (!sasl->mechanism->speaks)
    return SMN_OK;
  enum smn_kind kind = step(sasl, NULL, 0, response, err);
  if (kind == SMN_OK && response->len == 0 && !smn_buf_add(response, "=", 1))
    kind = smn_fail(err, SMN_SYSTEM, "no memory");
  *has = kind == SMN_OK;
  return kind;
}

enum smn_kind smn_sasl_next(struct smn_sasl *sasl, const char *challenge,
                            size_t len, struct smn_buf *response,
                            struct smn_error *err) {
  const char *name = sasl->mechanism->name;
  gnutls_datum_t text = {(unsigned char *)(size_t)challenge, (unsigned)len};
  gnutls_datum_t raw = {NULL, 0};
  smn_buf_clear(response);
  if (++sasl->steps > sasl->mechanism->steps)
    return smn_fail(err, SMN_AUTH, "%s: the server asks once too often", name);
  if (len > CHALLENGE_MAX)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server's challenge is longer than %d octets", name,
                    CHALLENGE_MAX);
  if (len && (strcspn(challenge, "\r\n \t") != len ||
              gnutls_base64_decode2(&text, &raw) != 0))
    return smn_fail(err, SMN_AUTH, "%s: the server's challenge is not base64",
                    name);
  /* The library wants an end; a copy in our own hands has one.  */
  char *message = calloc(1, raw.size + 1);
  if (message && raw.size)
    memcpy(message, raw.data, raw.size);
  gnutls_free(raw.data);
  enum smn_kind kind = message ? step(sasl, message, raw.size, response, err)
                               : smn_fail(err, SMN_SYSTEM, "no memory");
  free(message);
  return kind;
}

enum smn_kind smn_sasl_finish(const struct smn_sasl *sasl,
                              struct smn_error *err) {
  const char *name = sasl->mechanism->name;
  bool proved = sasl->scram ? smn_scram_proved(sasl->scram)
                            : !sasl->mechanism->proves || sasl->proved;
  if (!proved)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server accepts without having proved that it "
                    "knows the password",
                    name);
  if (sasl->refused)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server accepts the token that it has refused",
                    name);
  return SMN_OK;
}

const char *smn_sasl_refusal(const struct smn_sasl *sasl, size_t *len) {
  *len = sasl->refusal.len;
  return sasl->refusal.len ? sasl->refusal.data : "";
}
