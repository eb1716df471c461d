/* SPDX-License-Identifier: GPL-3.0-or-later */
/* connect.c - a connected socket, to whichever address answers first.
   An attempt is under way as long as it has a descriptor.  */
#include "net/connect.h"
#include "base/wait.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STAGGER_MS 250   /* RFC 8305 5 */
#define RETRY_MS 20      /* a local socket whose queue is full */
#define RUNNERS 8        /* descriptors that a long answer of DNS may cost, */
#define ADDRESSES_MAX 64 /* and how many of its addresses are tried */

struct attempt {
  const struct addrinfo *address;
  int fd;
  int64_t deadline_ms;
  bool retry; /* connect has to be called again */
};

struct race {
  const struct addrinfo **addresses; /* in the order of their turns */
  size_t count, begun;
  int64_t next_ms; /* when the next may begin */
  struct attempt runners[RUNNERS];
  size_t running;
  const struct addrinfo *source;
  int timeout_ms;
  enum smn_kind kind; /* of the last failure */
  char text[sizeof((struct smn_error *)0)->text];
};

enum step { PENDING, CONNECTED, FAILED };

static bool is_loopback(const struct sockaddr *address) {
  if (address->sa_family == AF_UNIX)
    return true;
  if (address->sa_family == AF_INET) {
    const struct sockaddr_in *in = (const void *)address;
    return ntohl(in->sin_addr.s_addr) >> 24 == 127;
  }
  if (address->sa_family == AF_INET6) {
    const struct in6_addr *in6 =
        &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) ||
           (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
  }
  return false;
}

/* Add "ADDRESS: REASON" to what is told when no address works.  */
static void note_failure(struct race *race, const struct addrinfo *address,
                         const struct smn_error *err) {
  char name[sizeof(struct sockaddr_un)] = "?";
  size_t len = strlen(race->text);
  if (address->ai_family == AF_UNIX)
    snprintf(
        name, sizeof name, "%s",
        ((const struct sockaddr_un *)(const void *)address->ai_addr)->sun_path);
  else
    getnameinfo(address->ai_addr, address->ai_addrlen, name, sizeof name, NULL,
                0, NI_NUMERICHOST);
  snprintf(race->text + len, sizeof race->text - len, "%s%s: %.512s",
           len ? "; " : "", name, err->text);
  race->kind = err->kind;
}

/* Order */

/* The next of LIST that is, or is not, of FAMILY.  */
static const struct addrinfo *seek(const struct addrinfo *list, int family,
                                   bool is) {
  while (list && (list->ai_family == family) != is)
    list = list->ai_next;
  return list;
}

static bool line_up(struct race *race, const struct addrinfo *found) {
  size_t count = 1;
  for (const struct addrinfo *a = found->ai_next; a && count < ADDRESSES_MAX;
       a = a->ai_next)
    count++;
  race->addresses = calloc(count, sizeof *race->addresses);
  if (!race->addresses)
    return false;
  const int family = found->ai_family;
  const struct addrinfo *next[] = {found, seek(found, family, false)};
  for (int turn = 0; race->count < count; turn = !turn)
    if (next[turn]) {
      race->addresses[race->count++] = next[turn];
      next[turn] = seek(next[turn]->ai_next, family, turn == 0);
    }
  return true;
}

/* One attempt */

static enum step call_connect(struct attempt *attempt, struct smn_error *err) {
  const struct addrinfo *address = attempt->address;
  attempt->retry = false;
  if (connect(attempt->fd, address->ai_addr, address->ai_addrlen) == 0)
    return CONNECTED;
  if (errno == EINPROGRESS || errno == EINTR)
    return PENDING;
  attempt->retry = address->ai_family == AF_UNIX && errno == EAGAIN;
  if (attempt->retry)
    return PENDING;
  smn_fail_errno(err, SMN_NETWORK, errno, "cannot connect");
  return FAILED;
}

static enum step bind_source(const struct race *race,
                             const struct attempt *attempt,
                             struct smn_error *err) {
  const struct addrinfo *source = race->source;
  if (!source || attempt->address->ai_family == AF_UNIX)
    return PENDING;
  if (source->ai_family != attempt->address->ai_family)
    smn_fail(err, SMN_NETWORK,
             "cannot connect from the source address, which is of a different "
             "family (IPv4 or IPv6)");
  else if (bind(attempt->fd, source->ai_addr, source->ai_addrlen) != 0)
    smn_fail_errno(err, SMN_NETWORK, errno,
                   "cannot connect from the source address");
  else
    return PENDING;
  return FAILED;
}

static enum step begin(const struct race *race, struct attempt *attempt,
                       struct smn_error *err) {
  const struct addrinfo *address = attempt->address;
  attempt->deadline_ms = smn_now_ms() + race->timeout_ms;
  attempt->fd = smn_socket(address->ai_family, address->ai_socktype,
                           address->ai_protocol);
  if (attempt->fd < 0) {
    smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a socket");
    return FAILED;
  }
  enum step step = bind_source(race, attempt, err);
  return step == PENDING ? call_connect(attempt, err) : step;
}

/* How ATTEMPT, whose socket is READY or not, is doing.  */
static enum step look(struct attempt *attempt, bool ready,
                      struct smn_error *err) {
  int errnum = 0;
  socklen_t size = sizeof errnum;
  if (attempt->retry) {
    enum step step = call_connect(attempt, err);
    if (step != PENDING)
      return step;
  } else if (ready) {
    if (getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &errnum, &size) != 0)
      errnum = errno;
    if (errnum == 0)
      return CONNECTED;
    smn_fail_errno(err, SMN_NETWORK, errnum, "cannot connect");
    return FAILED;
  }
  if (smn_now_ms() < attempt->deadline_ms)
    return PENDING;
  smn_fail(err, SMN_TIMEOUT, "no reply in time");
  return FAILED;
}

/* The race */

static bool may_begin(const struct race *race) {
  return race->begun < race->count && race->running < RUNNERS;
}

static int wait_ms(const struct race *race) {
  int64_t now = smn_now_ms();
  int64_t until = may_begin(race) ? race->next_ms : INT64_MAX;
  for (size_t i = 0; i < race->running; i++) {
    int64_t own =
        race->runners[i].retry ? now + RETRY_MS : race->runners[i].deadline_ms;
    until = own < until ? own : until;
  }
  return until <= now ? 0 : until - now > 60000 ? 60000 : (int)(until - now);
}

/* STEP is what runner I has come to.  Returns its descriptor if it has won, and
   else -1; a failed one makes room, and the next need not wait.  */
static int judge(struct race *race, size_t i, enum step step,
                 const struct smn_error *err) {
  struct attempt *attempt = &race->runners[i];
  int fd = attempt->fd;
  if (step == PENDING)
    return -1;
  if (step == FAILED) {
    note_failure(race, attempt->address, err);
    if (fd >= 0)
      close(fd);
    fd = -1;
    race->next_ms = 0;
  }
  race->running--;
  memmove(attempt, attempt + 1, (race->running - i) * sizeof *attempt);
  return fd;
}

/* Wait until something may have happened, and see.  Returns the descriptor of
   the winner, or -1; err->kind tells of a wish to cancel.  */
static int watch(struct race *race, int cancel_fd,
                 const struct addrinfo **winner, struct smn_error *err) {
  struct pollfd fds[1 + RUNNERS] = {{.fd = cancel_fd, .events = POLLIN}};
  int winning = -1;
  for (size_t i = 0; i < race->running; i++)
    fds[1 + i] =
        (struct pollfd){.fd = race->runners[i].retry ? -1 : race->runners[i].fd,
                        .events = POLLOUT};
  int n = poll(fds, (nfds_t)(1 + race->running), wait_ms(race));
  if (n < 0 && errno != EINTR && errno != EAGAIN)
    smn_fail_errno(err, SMN_SYSTEM, errno, "cannot wait");
  else if (n > 0 && fds[0].revents)
    smn_fail(err, SMN_CANCELLED, "cancelled");
  else {
    /* From the last to the first, since those after one that fails move.  */
    for (size_t i = race->running; i-- > 0 && winning < 0;) {
      *winner = race->runners[i].address;
      winning =
          judge(race, i,
                look(&race->runners[i], n > 0 && fds[1 + i].revents, err), err);
    }
    err->kind = SMN_OK; /* what failed has been noted */
  }
  return winning;
}

static int run(struct race *race, int cancel_fd, const struct addrinfo **winner,
               struct smn_error *err) {
  int fd = -1;
  err->kind = SMN_OK;
  while (fd < 0 && err->kind == SMN_OK) {
    if (may_begin(race) &&
        (race->running == 0 || smn_now_ms() >= race->next_ms)) {
      struct attempt *attempt = &race->runners[race->running++];
      *attempt = (struct attempt){.address = race->addresses[race->begun++]};
      *winner = attempt->address;
      race->next_ms = smn_now_ms() + STAGGER_MS;
      fd = judge(race, race->running - 1, begin(race, attempt, err), err);
      err->kind = SMN_OK;
    } else if (race->running > 0)
      fd = watch(race, cancel_fd, winner, err);
    else
      smn_fail(err, race->kind, "%s", race->text);
  }
  return fd;
}

static bool parse_source(const char *source, struct addrinfo **found) {
  const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                 .ai_socktype = SOCK_STREAM,
                                 .ai_flags = AI_NUMERICHOST};
  return getaddrinfo(source, NULL, &hints, found) == 0;
}

bool smn_connect_source_valid(const char *source) {
  struct addrinfo *found = NULL;
  bool valid = parse_source(source, &found);
  if (valid)
    freeaddrinfo(found);
  return valid;
}

enum smn_kind smn_connect(int *fd, const struct addrinfo *found,
                          const char *source, int timeout_ms, int cancel_fd,
                          bool *loopback, struct smn_error *err) {
  struct race race = {.timeout_ms = timeout_ms};
  struct addrinfo *from = NULL;
  const struct addrinfo *winner = NULL;
  *fd = -1;
  if (source && !parse_source(source, &from))
    return smn_fail(err, SMN_USAGE, "the source \"%.64s\" is not an address",
                    source);
  race.source = from;
  if (line_up(&race, found))
    *fd = run(&race, cancel_fd, &winner, err);
  else
    smn_fail(err, SMN_SYSTEM, "no memory");
  for (size_t i = 0; i < race.running; i++)
    close(race.runners[i].fd);
  if (*fd >= 0) {
    *loopback = is_loopback(winner->ai_addr);
    /* Commands are short and wait for replies: Nagle would only delay them.  */
    if (winner->ai_family != AF_UNIX)
      setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  }
  free(race.addresses);
  if (from)
    freeaddrinfo(from);
  return *fd >= 0 ? SMN_OK : err->kind;
}
