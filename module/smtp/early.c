/* SPDX-License-Identifier: GPL-3.0-or-later */
/* early.c - capabilities of servers that take commands before their greeting.
 */
#include "smtp/early.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define SERVERS_MAX 32 /* the one noted first goes first */
#define NAME_MAX 300   /* of a server; one with a longer name is not kept */

/* Under its lock.  */
static struct {
  pthread_mutex_t lock;
  size_t count, next;
  struct known {
    char name[NAME_MAX];
    bool banned;
    bool offered[2]; /* PIPECONNECT, in clear and under TLS */
    struct smn_capabilities caps[2];
  } servers[SERVERS_MAX];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Under lock: what is known of SERVER; NULL without a place for it.  */
static struct known *find(const struct smn_server *server, bool make) {
  char name[NAME_MAX];
  int len = snprintf(name, sizeof name, "%s %d %d", server->host, server->port,
                     server->stream);
  if (len < 0 || (size_t)len >= sizeof name)
    return NULL;
  for (size_t i = 0; i < cache.count; i++)
    if (strcmp(cache.servers[i].name, name) == 0)
      return &cache.servers[i];
  if (!make)
    return NULL;
  struct known *known = &cache.servers[cache.next];
  cache.next = (cache.next + 1) % SERVERS_MAX;
  cache.count += cache.count < SERVERS_MAX;
  *known = (struct known){.banned = false};
  memcpy(known->name, name, (size_t)len + 1);
  return known;
}

/* In clear anyone on the way may have made the offer; it counts only where
   nothing better than clear was ever wanted.  */
static bool trusted(const struct smn_server *server, bool encrypted) {
  return encrypted || server->stream == SMN_STREAM_PLAIN;
}

bool smn_early_recall(const struct smn_server *server, bool encrypted,
                      struct smn_capabilities *caps) {
  if (!trusted(server, encrypted))
    return false;
  pthread_mutex_lock(&cache.lock);
  const struct known *known = find(server, false);
  bool may = known && !known->banned && known->offered[encrypted];
  if (may)
    *caps = known->caps[encrypted];
  pthread_mutex_unlock(&cache.lock);
  return may;
}

void smn_early_note(const struct smn_server *server, bool encrypted,
                    const struct smn_capabilities *caps) {
  bool offered = caps->pipeconnect && caps->pipelining;
  if (!trusted(server, encrypted))
    return;
  pthread_mutex_lock(&cache.lock);
  struct known *known = find(server, offered);
  if (known) {
    known->offered[encrypted] = offered;
    known->caps[encrypted] = *caps;
  }
  pthread_mutex_unlock(&cache.lock);
}

void smn_early_ban(const struct smn_server *server) {
  pthread_mutex_lock(&cache.lock);
  struct known *known = find(server, true);
  if (known)
    known->banned = true;
  pthread_mutex_unlock(&cache.lock);
}
