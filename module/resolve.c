/* SPDX-License-Identifier: GPL-3.0-or-later */
/* resolve.c - names to addresses within a deadline.
   The look-up is shared by the waiting thread and its helper, under the lock;
   whoever lets go of it last frees it.  */
#include "resolve.h"
#include "tls.h"
#include "wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct lookup {
  pthread_mutex_t lock;
  int holders; /* under lock, as are the next three */
  int status;  /* of getaddrinfo */
  int errnum;
  struct addrinfo *found;
  int done_fd; /* the written end of the pipe: the helper's own */
  char port[8];
  char host[];
};

static void release(struct lookup *l) {
  pthread_mutex_lock(&l->lock);
  bool last = --l->holders == 0;
  pthread_mutex_unlock(&l->lock);
  if (!last)
    return;
  if (l->found)
    freeaddrinfo(l->found);
  pthread_mutex_destroy(&l->lock);
  free(l);
}

static int look_up(const char *host, const char *port, int flags,
                   struct addrinfo **found) {
  const struct addrinfo hints = {
      .ai_family = AF_UNSPEC,
      .ai_socktype = SOCK_STREAM,
      .ai_flags = AI_NUMERICSERV | flags,
  };
  return getaddrinfo(host, port, &hints, found);
}

/* One octet wakes the waiting thread; closing the pipe would not, if a fork of
   Emacs had just then inherited it.  */
static void *look_up_thread(void *argument) {
  struct lookup *l = argument;
  struct addrinfo *found = NULL;
  int status = look_up(l->host, l->port, 0, &found);
  int errnum = errno;
  pthread_mutex_lock(&l->lock);
  l->status = status;
  l->errnum = errnum;
  l->found = found;
  pthread_mutex_unlock(&l->lock);
  while (write(l->done_fd, "", 1) < 0 && errno == EINTR)
    continue;
  close(l->done_fd);
  release(l);
  return NULL;
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
  l->holders = 2;
  pthread_mutex_init(&l->lock, NULL);
  return l;
}

/* Start the helper; it and the caller then hold L.  */
static enum smn_kind start(struct lookup *l, int *wait_fd,
                           struct smn_error *err) {
  int ends[2];
  pthread_t thread;
  if (!smn_pipe(ends))
    return smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
  l->done_fd = ends[1];
  int errnum = smn_thread_start(&thread, look_up_thread, l);
  if (errnum != 0) {
    close(ends[0]);
    close(ends[1]);
    return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  }
  pthread_detach(thread);
  *wait_fd = ends[0];
  return SMN_OK;
}

static enum smn_kind look_up_within(const char *host, int port, int timeout_ms,
                                    int cancel_fd, struct addrinfo **found,
                                    struct smn_error *err) {
  int wait_fd = -1;
  struct lookup *l = new_lookup(host, port);
  if (!l)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  enum smn_kind kind = start(l, &wait_fd, err);
  if (kind != SMN_OK) {
    l->holders = 1;
    release(l);
    return kind;
  }
  kind = smn_wait(wait_fd, SMN_WAIT_READ, smn_now_ms() + timeout_ms, cancel_fd,
                  err);
  pthread_mutex_lock(&l->lock);
  if (kind == SMN_OK && l->status != 0)
    kind = failed(l, err);
  else if (kind == SMN_OK) {
    *found = l->found;
    l->found = NULL;
  }
  pthread_mutex_unlock(&l->lock);
  close(wait_fd);
  release(l);
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
  char numeric[128], text[8], ascii[256];
  size_t len = strlen(host);
  bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
  snprintf(numeric, sizeof numeric, "%.*s",
           (int)(bracketed   ? len - 2
                 : len < 127 ? len
                             : 127),
           host + bracketed);
  snprintf(text, sizeof text, "%d", port);
  if (look_up(numeric, text, AI_NUMERICHOST, found) == 0)
    return SMN_OK;
  if (!smn_tls_idna(host, ascii, sizeof ascii))
    return smn_fail(err, SMN_RESOLVE, "%s is not a domain name", host);
  enum smn_kind kind =
      look_up_within(ascii, port, timeout_ms, cancel_fd, found, err);
  /* RFC 6761 6.3: such a name means the loopback even where no file says so. */
  if (kind == SMN_RESOLVE && is_localhost(ascii) &&
      look_up("127.0.0.1", text, AI_NUMERICHOST, found) == 0)
    return SMN_OK;
  return kind;
}
