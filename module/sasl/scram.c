/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scram.c - the client's side of SCRAM (RFC 5802, 7677, 9266).  */
#include "sasl/scram.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gsasl.h>
#include <stdlib.h>
#include <string.h>

#define HASH_MAX 32         /* octets of SHA-256 */
#define NONCE_OCTETS 18     /* before base64 */
#define MESSAGES_MAX 65536  /* all messages of one exchange together */
#define ITERATION_DIGITS 10 /* more would only overflow */
#define PRINTABLE_FROM '!'  /* what a nonce may hold, */
#define PRINTABLE_UP_TO '~' /* but for the comma */

struct scram {
  struct smn_exchange exchange;
  gnutls_mac_algorithm_t mac;
  gnutls_digest_algorithm_t digest;
  size_t size;           /* octets of a hash */
  bool answered;         /* the server's first message */
  bool proved;           /* the server has shown that it knows the password */
  char *nonce;           /* the client's own */
  struct smn_buf header; /* gs2-header, with which the channel is bound */
  struct smn_buf log;    /* AuthMessage, as far as it goes */
  unsigned char signature[HASH_MAX]; /* secret: what the server has to show */
};

static enum smn_kind no_memory(struct smn_error *err) {
  return smn_fail(err, SMN_SYSTEM, "no memory");
}

static enum smn_kind lies(const struct scram *scram, const char *how,
                          struct smn_error *err) {
  return smn_fail(err, SMN_AUTH, "%s: %s", scram->exchange.mechanism->name,
                  how);
}

/* Strings */

/* SASLprep (RFC 4013) of TEXT into *OUT, which is wiped and freed by the
   caller.  Printable ASCII stays as it is, and so no copies of it are left in
   the library's memory.  WHAT names it in the error.  */
static enum smn_kind prepare(const struct scram *scram, const char *text,
                             const char *what, char **out,
                             struct smn_error *err) {
  int code = GSASL_OK;
  const char *at = text;
  while (*at >= ' ' && *at <= PRINTABLE_UP_TO)
    at++;
  if (*at)
    code = gsasl_saslprep(text, GSASL_ALLOW_UNASSIGNED, out, NULL);
  else
    *out = strdup(text);
  if (code != GSASL_OK)
    return smn_fail(err, SMN_AUTH,
                    "%s: the %s is not UTF-8, or contains a character not "
                    "allowed by SASLprep",
                    scram->exchange.mechanism->name, what);
  return *out ? SMN_OK : no_memory(err);
}

/* "p=TYPE" binds; "y" tells a server that could bind, and from whose list
   someone took -PLUS away on the way, that it is being deceived; "n" is all
   else.  */
static bool make_header(struct scram *scram) {
  const struct smn_credentials *c = scram->exchange.credentials;
  const struct smn_binding *bound =
      scram->exchange.mechanism->binds ? c->binding : NULL;
  struct smn_buf *header = &scram->header;
  const char *flag = c->could_bind ? "y" : "n";
  return (bound ? smn_buf_add_string(header, "p=") &&
                      smn_buf_add_string(header, bound->type)
                : smn_buf_add_string(header, flag)) &&
         smn_buf_add_string(header, ",") &&
         (!c->authzid || (smn_buf_add_string(header, "a=") &&
                          smn_saslname_add(header, c->authzid))) &&
         smn_buf_add_string(header, ",");
}

static bool make_nonce(struct scram *scram) {
  const char *given = scram->exchange.credentials->nonce;
  char octets[NONCE_OCTETS];
  if (given)
    return (scram->nonce = strdup(given)) != NULL;
  return gsasl_nonce(octets, sizeof octets) == GSASL_OK &&
         gsasl_base64_to(octets, sizeof octets, &scram->nonce, NULL) ==
             GSASL_OK;
}

static enum smn_kind make_bare(struct scram *scram, struct smn_error *err) {
  char *user = NULL;
  enum smn_kind kind = prepare(scram, scram->exchange.credentials->user,
                               "user name", &user, err);
  if (kind == SMN_OK && !*user)
    kind = smn_fail(err, SMN_AUTH, "%s: the user name is empty",
                    scram->exchange.mechanism->name);
  if (kind == SMN_OK && !make_nonce(scram))
    kind = smn_fail(err, SMN_SYSTEM, "no random octets");
  if (kind == SMN_OK && !(smn_buf_add_string(&scram->log, "n=") &&
                          smn_saslname_add(&scram->log, user) &&
                          smn_buf_add_string(&scram->log, ",r=") &&
                          smn_buf_add_string(&scram->log, scram->nonce)))
    kind = no_memory(err);
  free(user);
  return kind;
}

/* Messages of the server */

struct value {
  const char *at;
  size_t len;
};

/* Take "NAME=VALUE" off the front of *REST, and the comma after it.  */
static bool take(struct value *rest, char name, struct value *value) {
  if (rest->len < 2 || rest->at[0] != name || rest->at[1] != '=')
    return false;
  value->at = rest->at + 2;
  const char *comma = memchr(value->at, ',', rest->len - 2);
  value->len = comma ? (size_t)(comma - value->at) : rest->len - 2;
  size_t used = 2 + value->len + (comma != NULL);
  rest->at += used;
  rest->len -= used;
  return true;
}

/* The server's own words for a refusal (RFC 5802 7), which in SMTP stand in the
   place of 535.  */
static enum smn_kind refused(const struct scram *scram, struct value words,
                             struct smn_error *err) {
  char quoted[256];
  smn_quote(quoted, sizeof quoted, words.at, words.len);
  smn_fail(err, SMN_AUTH, "%s: the server says %s",
           scram->exchange.mechanism->name, quoted);
  err->code = 535;
  return err->kind;
}

static bool good_nonce(const struct scram *scram, struct value nonce) {
  size_t own = strlen(scram->nonce);
  for (size_t i = 0; i < nonce.len; i++)
    if (nonce.at[i] < PRINTABLE_FROM || nonce.at[i] > PRINTABLE_UP_TO)
      return false;
  return nonce.len > own && memcmp(nonce.at, scram->nonce, own) == 0;
}

/* 0 for anything that is no count between the bounds.  */
static unsigned iteration_count(struct value digits) {
  unsigned long count = 0;
  if (digits.len == 0 || digits.len > ITERATION_DIGITS)
    return 0;
  for (size_t i = 0; i < digits.len; i++) {
    if (digits.at[i] < '0' || digits.at[i] > '9')
      return 0;
    count = count * 10 + (unsigned long)(digits.at[i] - '0');
    if (count > SMN_SCRAM_ITERATIONS_MAX)
      return 0;
  }
  return count < SMN_SCRAM_ITERATIONS_MIN ? 0 : (unsigned)count;
}

struct server_first {
  struct value nonce;
  gnutls_datum_t salt; /* owned */
  unsigned count;
};

static enum smn_kind parse_first(const struct scram *scram, struct value rest,
                                 struct server_first *first,
                                 struct smn_error *err) {
  struct value error, salt, digits;
  if (take(&rest, 'e', &error))
    return refused(scram, error, err);
  if (!take(&rest, 'r', &first->nonce) || !take(&rest, 's', &salt) ||
      !take(&rest, 'i', &digits))
    return lies(scram, "the server's first message is malformed", err);
  first->count = iteration_count(digits);
  if (first->count == 0)
    return smn_fail(err, SMN_AUTH,
                    "%s: the server asks for an iteration count that is not "
                    "between %d and %d",
                    scram->exchange.mechanism->name, SMN_SCRAM_ITERATIONS_MIN,
                    SMN_SCRAM_ITERATIONS_MAX);
  if (!good_nonce(scram, first->nonce))
    return lies(scram, "the server answers with a wrong nonce", err);
  gnutls_datum_t text = {(unsigned char *)(size_t)salt.at, (unsigned)salt.len};
  if (salt.len == 0 || gnutls_base64_decode2(&text, &first->salt) != 0)
    return lies(scram, "the server's salt is not base64", err);
  return SMN_OK;
}

/* Proof */

static bool hmac(const struct scram *scram, const void *key, const void *text,
                 size_t len, unsigned char *out) {
  return gnutls_hmac_fast(scram->mac, key, scram->size, text, len, out) == 0;
}

/* SaltedPassword, the root of all keys.  */
static enum smn_kind salted_password(const struct scram *scram,
                                     const struct server_first *first,
                                     unsigned char *out,
                                     struct smn_error *err) {
  char *password = NULL;
  enum smn_kind kind =
      prepare(scram, scram->exchange.credentials->password->data, "password",
              &password, err);
  if (kind != SMN_OK)
    return kind;
  gnutls_datum_t key = {(unsigned char *)password, (unsigned)strlen(password)};
  if (gnutls_pbkdf2(scram->mac, &key, &first->salt, first->count, out,
                    scram->size) != 0)
    kind = lies(scram, "the key cannot be derived", err);
  smn_wipe(password, key.size);
  gsasl_free(password);
  return kind;
}

/* From AuthMessage: the client's proof, and what the server will have to
   show.  */
static enum smn_kind prove(struct scram *scram,
                           const struct server_first *first,
                           unsigned char *proof, struct smn_error *err) {
  struct {
    unsigned char salted[HASH_MAX], key[HASH_MAX], stored[HASH_MAX],
        signature[HASH_MAX];
  } k;
  enum smn_kind kind = salted_password(scram, first, k.salted, err);
  const struct smn_buf *log = &scram->log;
  if (kind == SMN_OK &&
      !(hmac(scram, k.salted, "Client Key", 10, k.key) &&
        gnutls_hash_fast(scram->digest, k.key, scram->size, k.stored) == 0 &&
        hmac(scram, k.stored, log->data, log->len, k.signature)))
    kind = lies(scram, "the proof cannot be made", err);
  for (size_t i = 0; kind == SMN_OK && i < scram->size; i++)
    proof[i] = k.key[i] ^ k.signature[i];
  if (kind == SMN_OK &&
      !(hmac(scram, k.salted, "Server Key", 10, k.key) &&
        hmac(scram, k.key, log->data, log->len, scram->signature)))
    kind = lies(scram, "the proof cannot be made", err);
  smn_wipe(&k, sizeof k);
  return kind;
}

/* "c=...,r=..." with what binds the channel.  */
static bool add_final(const struct scram *scram, struct value nonce,
                      struct smn_buf *out) {
  const struct smn_binding *binding = scram->exchange.credentials->binding;
  struct smn_buf bound;
  smn_buf_init(&bound, MESSAGES_MAX);
  bool fits = smn_buf_add(&bound, scram->header.data, scram->header.len) &&
              (scram->header.data[0] != 'p' ||
               smn_buf_add(&bound, binding->octets, binding->len)) &&
              smn_buf_add_string(out, "c=") &&
              smn_buf_add_base64(out, bound.data, bound.len) &&
              smn_buf_add_string(out, ",r=") &&
              smn_buf_add(out, nonce.at, nonce.len);
  smn_buf_free(&bound);
  return fits;
}

static enum smn_kind answer_first(struct scram *scram, struct value message,
                                  struct smn_buf *out, struct smn_error *err) {
  struct server_first first = {.salt = {NULL, 0}};
  unsigned char proof[HASH_MAX];
  enum smn_kind kind = parse_first(scram, message, &first, err);
  if (kind == SMN_OK && !(add_final(scram, first.nonce, out) &&
                          smn_buf_add_string(&scram->log, ",") &&
                          smn_buf_add(&scram->log, message.at, message.len) &&
                          smn_buf_add_string(&scram->log, ",") &&
                          smn_buf_add(&scram->log, out->data, out->len)))
    kind = lies(scram, "the messages are too long", err);
  if (kind == SMN_OK)
    kind = prove(scram, &first, proof, err);
  if (kind == SMN_OK && !(smn_buf_add_string(out, ",p=") &&
                          smn_buf_add_base64(out, proof, scram->size)))
    kind = no_memory(err);
  smn_wipe(proof, sizeof proof);
  gnutls_free(first.salt.data);
  return kind;
}

static enum smn_kind check_last(struct scram *scram, struct value message,
                                struct smn_error *err) {
  struct value words;
  gnutls_datum_t shown = {NULL, 0};
  if (take(&message, 'e', &words))
    return refused(scram, words, err);
  if (!take(&message, 'v', &words))
    return lies(scram, "the server's last message is malformed", err);
  gnutls_datum_t text = {(unsigned char *)(size_t)words.at,
                         (unsigned)words.len};
  if (words.len && gnutls_base64_decode2(&text, &shown) == 0)
    scram->proved =
        shown.size == scram->size &&
        gnutls_memcmp(shown.data, scram->signature, shown.size) == 0;
  gnutls_free(shown.data);
  return scram->proved ? SMN_OK
                       : lies(scram,
                              "the server does not know the password: its "
                              "signature is wrong",
                              err);
}

/* As an exchange */

static enum smn_kind first(struct smn_exchange *exchange, struct smn_buf *out,
                           struct smn_error *err) {
  const struct scram *scram = (const struct scram *)exchange;
  return smn_buf_add(out, scram->header.data, scram->header.len) &&
                 smn_buf_add(out, scram->log.data, scram->log.len)
             ? SMN_OK
             : no_memory(err);
}

static enum smn_kind next(struct smn_exchange *exchange, const char *challenge,
                          size_t len, struct smn_buf *out,
                          struct smn_error *err) {
  struct scram *scram = (struct scram *)exchange;
  const struct value said = {challenge, len};
  if (scram->answered)
    return check_last(scram, said, err);
  scram->answered = true;
  return answer_first(scram, said, out, err);
}

static enum smn_kind finish(const struct smn_exchange *x,
                            struct smn_error *err) {
  return ((const struct scram *)x)->proved
             ? SMN_OK
             : smn_fail(err, SMN_AUTH, SMN_UNPROVED, x->mechanism->name);
}

static void end(struct smn_exchange *exchange) {
  struct scram *scram = (struct scram *)exchange;
  smn_buf_free(&scram->header);
  smn_buf_free(&scram->log);
  free(scram->nonce);
  smn_wipe(scram, sizeof *scram);
  free(scram);
}

static const struct smn_exchange_operations operations = {
    .first = first, .next = next, .finish = finish, .free = end};

/* A password that SASLprep forbids is known before anything is sent.  */
static enum smn_kind check_password(const struct scram *scram,
                                    struct smn_error *err) {
  char *password = NULL;
  enum smn_kind kind =
      prepare(scram, scram->exchange.credentials->password->data, "password",
              &password, err);
  if (password) {
    smn_wipe(password, strlen(password));
    gsasl_free(password);
  }
  return kind;
}

static enum smn_kind start(const struct scram *hash,
                           struct smn_exchange **exchange,
                           const struct smn_mechanism *mechanism,
                           const struct smn_credentials *credentials,
                           struct smn_error *err) {
  if (mechanism->binds && !credentials->binding)
    return smn_fail(err, SMN_AUTH, "%s: there is no TLS channel to bind to",
                    mechanism->name);
  struct scram *scram = malloc(sizeof *scram);
  if (!scram)
    return no_memory(err);
  *scram = *hash;
  scram->exchange = (struct smn_exchange){&operations, mechanism, credentials};
  smn_buf_init(&scram->header, MESSAGES_MAX);
  smn_buf_init(&scram->log, MESSAGES_MAX);
  enum smn_kind kind =
      make_header(scram) ? make_bare(scram, err) : no_memory(err);
  if (kind == SMN_OK)
    kind = check_password(scram, err);
  if (kind == SMN_OK)
    *exchange = &scram->exchange;
  else
    end(&scram->exchange);
  return kind;
}

enum smn_kind smn_scram_sha_1_start(struct smn_exchange **x,
                                    const struct smn_mechanism *mechanism,
                                    const struct smn_credentials *credentials,
                                    struct smn_error *err) {
  static const struct scram sha_1 = {
      .mac = GNUTLS_MAC_SHA1, .digest = GNUTLS_DIG_SHA1, .size = 20};
  return start(&sha_1, x, mechanism, credentials, err);
}

enum smn_kind smn_scram_sha_256_start(struct smn_exchange **x,
                                      const struct smn_mechanism *mechanism,
                                      const struct smn_credentials *credentials,
                                      struct smn_error *err) {
  static const struct scram sha_256 = {
      .mac = GNUTLS_MAC_SHA256, .digest = GNUTLS_DIG_SHA256, .size = HASH_MAX};
  return start(&sha_256, x, mechanism, credentials, err);
}
