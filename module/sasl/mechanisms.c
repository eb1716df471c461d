/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mechanisms.c - the one table of SASL mechanisms, and the choice among them.
 */
#include "sasl/mechanisms.h"
#include "base/ascii.h"
#include "sasl/gsasl.h"
#include "sasl/gssapi.h"
#include "sasl/login.h"
#include "sasl/scram.h"
#include "sasl/token.h"

#include <string.h>

/* The strongest first.  RFC 5802, 7677, 2195, 4616, LOGIN, 7628, XOAUTH2, 4422,
   4752, 2831, NTLM.  */
static const struct smn_mechanism table[SMN_MECHANISMS] = {
    {"SCRAM-SHA-256-PLUS", smn_scram_sha_256_start, .challenges = 2, .proof = 2,
     .speaks = true, .scram = true, .binds = true},
    {"SCRAM-SHA-1-PLUS", smn_scram_sha_1_start, .challenges = 2, .proof = 2,
     .speaks = true, .scram = true, .binds = true},
    {"SCRAM-SHA-256", smn_scram_sha_256_start, .challenges = 2, .proof = 2,
     .speaks = true, .scram = true},
    {"SCRAM-SHA-1", smn_scram_sha_1_start, .challenges = 2, .proof = 2,
     .speaks = true, .scram = true},
    {"CRAM-MD5", smn_gsasl_start, .challenges = 1, .proof = 1, .digest = true},
    {"PLAIN", smn_gsasl_start, .challenges = 1, .proof = 1, .speaks = true,
     .plaintext = true},
    {"LOGIN", smn_login_start, .challenges = 2, .proof = 1, .text = true,
     .plaintext = true},
    {"OAUTHBEARER", smn_bearer_start, .challenges = 1, .proof = 1,
     .speaks = true, .token = true},
    {"XOAUTH2", smn_xoauth2_start, .challenges = 1, .proof = 1, .speaks = true,
     .token = true},
    {"EXTERNAL", smn_gsasl_start, .challenges = 1, .proof = 1, .speaks = true,
     .secretless = true},
    {"GSSAPI", smn_gssapi_start, .challenges = 6, .proof = 1, .speaks = true,
     .secretless = true, .by_name = true},
    {"DIGEST-MD5", smn_digest_start, .challenges = 2, .proof = 1,
     .digest = true, .by_name = true},
    {"NTLM", smn_gsasl_start, .challenges = 2, .proof = 2, .speaks = true,
     .by_name = true},
};

static const struct smn_mechanism *find(const char *name, size_t len) {
  for (size_t m = 0; m < SMN_MECHANISMS; m++)
    if (smn_ascii_same(name, len, table[m].name, strlen(table[m].name)))
      return &table[m];
  return NULL;
}

const struct smn_mechanism *smn_mechanism(const char *name) {
  return find(name, strlen(name));
}

/* The next known mechanism of the list at *AT, NULL at its end.  */
static const struct smn_mechanism *take(const char **at) {
  const struct smn_mechanism *found = NULL;
  while (!found && *(*at += strspn(*at, " "))) {
    size_t len = strcspn(*at, " ");
    found = find(*at, len);
    *at += len;
  }
  return found;
}

bool smn_mechanism_listed(const char *list,
                          const struct smn_mechanism *mechanism) {
  const struct smn_mechanism *m;
  while ((m = take(&list)))
    if (m == mechanism)
      return true;
  return false;
}

bool smn_mechanisms_bind(const char *list) {
  const struct smn_mechanism *m;
  while ((m = take(&list)))
    if (m->binds)
      return true;
  return false;
}

bool smn_mechanisms_secretless(const char *list) {
  const struct smn_mechanism *m;
  while ((m = take(&list)))
    if (m->secretless)
      return true;
  return false;
}

static bool possible(const struct smn_mechanism *m,
                     const struct smn_sasl_means *means) {
  return (!m->binds || means->binding) && (m->secretless || means->secret);
}

/* It is used where no mechanism is asked for.  */
static bool by_default(const struct smn_mechanism *m,
                       const struct smn_sasl_means *means) {
  if (m->by_name)
    return false;
  if (m->secretless)
    return means->certificate && !means->secret;
  return m->token == means->token;
}

static size_t add(const struct smn_mechanism *order[], size_t count,
                  const struct smn_mechanism *m) {
  for (size_t i = 0; i < count; i++)
    if (order[i] == m)
      return count;
  order[count] = m;
  return count + 1;
}

size_t
smn_mechanisms_choose(const char *offered, const char *wanted,
                      const struct smn_sasl_means *means,
                      const struct smn_mechanism *order[SMN_MECHANISMS]) {
  size_t count = 0;
  const struct smn_mechanism *m;
  if (wanted && *wanted) {
    while ((m = take(&wanted)))
      if (possible(m, means) && smn_mechanism_listed(offered, m))
        count = add(order, count, m);
    return count;
  }
  for (m = table; m < table + SMN_MECHANISMS; m++)
    if (by_default(m, means) && possible(m, means) &&
        smn_mechanism_listed(offered, m))
      count = add(order, count, m);
  return count;
}
