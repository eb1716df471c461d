/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tickets.c - TLS sessions that may be resumed.  */
#include "net/tickets.h"

#include <pthread.h>
#include <string.h>

/* Under its lock; the oldest stands first.  */
static struct {
  pthread_mutex_t lock;
  size_t count;
  struct entry {
    struct smn_ticket_key key;
    struct smn_ticket ticket;
  } entries[SMN_TICKETS_MAX];
} cache = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Under lock; its buffer has been freed, or has another owner.  */
static void drop(size_t i) {
  cache.count--;
  memmove(&cache.entries[i], &cache.entries[i + 1],
          (cache.count - i) * sizeof *cache.entries);
}

void smn_tickets_put(const struct smn_ticket_key *key, const void *session,
                     size_t len, int64_t shown_ms) {
  struct entry entry = {.key = *key, .ticket.shown_ms = shown_ms};
  if (!smn_buf_init_secret(&entry.ticket.session, len))
    return;
  if (!smn_buf_add(&entry.ticket.session, session, len)) {
    smn_buf_free(&entry.ticket.session);
    return;
  }
  pthread_mutex_lock(&cache.lock);
  if (cache.count == SMN_TICKETS_MAX) {
    smn_buf_free(&cache.entries[0].ticket.session);
    drop(0);
  }
  cache.entries[cache.count++] = entry;
  pthread_mutex_unlock(&cache.lock);
}

bool smn_tickets_take(const struct smn_ticket_key *key,
                      struct smn_ticket *ticket) {
  pthread_mutex_lock(&cache.lock);
  size_t i = cache.count;
  while (i > 0 && memcmp(&cache.entries[i - 1].key, key, sizeof *key) != 0)
    i--;
  if (i > 0) {
    *ticket = cache.entries[i - 1].ticket;
    drop(i - 1);
  }
  pthread_mutex_unlock(&cache.lock);
  return i > 0;
}

void smn_tickets_forget(void) {
  pthread_mutex_lock(&cache.lock);
  while (cache.count > 0)
    smn_buf_free(&cache.entries[--cache.count].ticket.session);
  pthread_mutex_unlock(&cache.lock);
}
