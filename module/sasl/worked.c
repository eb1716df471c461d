/* SPDX-License-Identifier: GPL-3.0-or-later */
/* worked.c - which mechanism a password has worked with, in this process.  */
#include "sasl/worked.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define DIGEST 32 /* octets of HMAC-SHA-256 */

struct entry {
  unsigned char id[DIGEST];
  uint64_t used; /* the higher, the later; 0: the entry is free */
  const struct smn_mechanism *mechanism;
};

/* All below the lock.  */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entry table[SMN_WORKED_MAX];
static unsigned char key[DIGEST];
static bool keyed;
static uint64_t uses;

static bool add(gnutls_hmac_hd_t mac, const void *octets, size_t len) {
  const uint64_t size = len; /* no two fields may be taken for one */
  return gnutls_hmac(mac, &size, sizeof size) == 0 &&
         (len == 0 || gnutls_hmac(mac, octets, len) == 0);
}

static bool add_string(gnutls_hmac_hd_t mac, const char *string) {
  return add(mac, string, string ? strlen(string) : 0);
}

static bool identify(const struct smn_credentials *c,
                     unsigned char id[DIGEST]) {
  gnutls_hmac_hd_t mac;
  if (!keyed && gnutls_rnd(GNUTLS_RND_KEY, key, sizeof key) != 0)
    return false;
  keyed = true;
  if (gnutls_hmac_init(&mac, GNUTLS_MAC_SHA256, key, sizeof key) != 0)
    return false;
  bool good = add_string(mac, c->host) && add(mac, &c->port, sizeof c->port) &&
              add_string(mac, c->user) && add_string(mac, c->authzid) &&
              add(mac, c->password->data, c->password->len);
  gnutls_hmac_deinit(mac, id);
  smn_scrub_heap(c->password->len);
  return good;
}

/* The entry of ID, NULL without one.  */
static struct entry *find(const unsigned char id[DIGEST]) {
  for (struct entry *entry = table; entry < table + SMN_WORKED_MAX; entry++)
    if (entry->used && gnutls_memcmp(entry->id, id, DIGEST) == 0)
      return entry;
  return NULL;
}

static struct entry *oldest(void) {
  struct entry *found = table;
  for (struct entry *entry = table; entry < table + SMN_WORKED_MAX; entry++)
    if (entry->used < found->used)
      found = entry;
  return found;
}

bool smn_worked_recall(const struct smn_credentials *credentials,
                       const struct smn_mechanism **mechanism) {
  unsigned char id[DIGEST];
  *mechanism = NULL;
  pthread_mutex_lock(&lock);
  struct entry *entry = identify(credentials, id) ? find(id) : NULL;
  if (entry) {
    *mechanism = entry->mechanism;
    entry->used = ++uses;
  }
  pthread_mutex_unlock(&lock);
  return entry != NULL;
}

void smn_worked_note(const struct smn_credentials *credentials,
                     const struct smn_mechanism *mechanism) {
  unsigned char id[DIGEST];
  pthread_mutex_lock(&lock);
  if (identify(credentials, id)) {
    struct entry *entry = find(id);
    if (!entry)
      entry = oldest();
    memcpy(entry->id, id, DIGEST);
    entry->mechanism = mechanism;
    entry->used = ++uses;
  }
  pthread_mutex_unlock(&lock);
}

void smn_worked_forget(void) {
  pthread_mutex_lock(&lock);
  smn_wipe(table, sizeof table);
  pthread_mutex_unlock(&lock);
}
