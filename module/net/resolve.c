/* SPDX-License-Identifier: GPL-3.0-or-later */
/* resolve.c - names to addresses within a deadline.  */
#include "net/resolve.h"
#include "base/errand.h"
#include "net/address.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct lookup {
  struct smn_errand errand;
  int status; /* of getaddrinfo */
  int errnum;
  struct addrinfo *found;
  char port[8];
  char host[];
};

static int look_up(const char *host, const char *port, int flags,
                   struct addrinfo **found) {
  const struct addrinfo hints = {
      .ai_family = AF_UNSPEC,
      .ai_socktype = SOCK_STREAM,
      .ai_flags = AI_NUMERICSERV | flags,
  };
  return getaddrinfo(host, port, &hints, found);
}

static void run(struct smn_errand *errand) {
  struct lookup *l = (struct lookup *)errand;
  l->status = look_up(l->host, l->port, 0, &l->found);
  l->errnum = errno;
}

static void end(struct smn_errand *errand) {
  struct lookup *l = (struct lookup *)errand;
  if (l->found)
    freeaddrinfo(l->found);
  free(l);
}

static enum smn_kind failed(const struct lookup *l, struct smn_error *err) {
  if (l->status == EAI_SYSTEM)
    return smn_fail_errno(err, SMN_RESOLVE, l->errnum,
                          "cannot look up the name %s", l->host);
  const char *hint =
      l->status == EAI_AGAIN ? ", the name service does not answer" : "";
  return smn_fail(err, SMN_RESOLVE, "cannot look up the name %s: %s%s", l->host,
                  gai_strerror(l->status), hint);
}

static struct lookup *new_lookup(const char *host, int port) {
  size_t len = strlen(host);
  struct lookup *l = calloc(1, sizeof *l + len + 1);
  if (!l)
    return NULL;
  memcpy(l->host, host, len);
  snprintf(l->port, sizeof l->port, "%d", port);
  l->errand.run = run;
  l->errand.end = end;
  return l;
}

static enum smn_kind look_up_within(const char *host, int port, int timeout_ms,
                                    int cancel_fd, struct addrinfo **found,
                                    struct smn_error *err) {
  struct lookup *l = new_lookup(host, port);
  if (!l)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  enum smn_kind kind = smn_errand_start(&l->errand, err);
  if (kind == SMN_OK)
    kind = smn_errand_wait(&l->errand, timeout_ms, cancel_fd, err);
  if (kind != SMN_OK)
    return kind;
  if (l->status != 0)
    kind = failed(l, err);
  else {
    *found = l->found;
    l->found = NULL;
  }
  smn_errand_release(&l->errand);
  return kind;
}

static bool is_localhost(const char *name) {
  static const char word[] = "localhost";
  size_t len = strlen(name), own = sizeof word - 1;
  return len >= own && strcmp(name + len - own, word) == 0 &&
         (len == own || name[len - own - 1] == '.');
}

enum smn_kind smn_resolve(const char *host, int port, int timeout_ms,
                          int cancel_fd, struct addrinfo **found,
                          struct smn_error *err) {
  char name[SMN_HOST_SIZE], service[8];
  snprintf(service, sizeof service, "%d", port);
  if (smn_address_bare(host, name, sizeof name) &&
      look_up(name, service, AI_NUMERICHOST, found) == 0)
    return SMN_OK;
  if (!smn_address_idna(host, name, sizeof name))
    return smn_fail(err, SMN_RESOLVE, "%.300s is not a domain name", host);
  enum smn_kind kind =
      look_up_within(name, port, timeout_ms, cancel_fd, found, err);
  /* RFC 6761 6.3: such a name means the loopback even where no file says so. */
  if (kind == SMN_RESOLVE && is_localhost(name) &&
      look_up("127.0.0.1", service, AI_NUMERICHOST, found) == 0)
    return SMN_OK;
  return kind;
}
