/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-network.c - the thread that waits for news of the networks.  */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* unshare */
#endif
#include "base/wait.h"
#include "check.h"
#include "engine/events.h"
#include "engine/network.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef __linux__

#include <sched.h>

/* The news of a network of our own, which needs root and ip(8).  */

static bool own_network(void) {
  return unshare(CLONE_NEWNET) == 0 &&
         system("ip link set lo up && ip link add v0 type veth peer name v1 "
                "&& ip link set v1 up") == 0;
}

static bool await_event(int fd, long id) {
  struct pollfd waiting = {.fd = fd, .events = POLLIN};
  char octet;
  bool more, found = false;
  if (poll(&waiting, 1, 15000) <= 0 || read(fd, &octet, 1) != 1)
    return false;
  const struct smn_event *event = smn_events_borrow(100, &more);
  size_t count = 0;
  for (; event; event = event->next, count++)
    found = found || (event->type == SMN_EVENT_NETWORK && event->id == id);
  smn_events_delivered(count);
  return found;
}

static void check_live(void) {
  struct smn_error err;
  int wake[2];
  long id = 0;
  if (!own_network()) {
    puts("test-network: no network of its own: that part is left out");
    return;
  }
  CHECK(smn_pipe(wake));
  smn_events_wake(wake[1]);
  CHECK_INT(smn_network_watch(&id, &err), SMN_OK);
  for (int round = 0; round < 2; round++) {
    CHECK_INT(system("ip link set v0 up"), 0);
    CHECK_INT(system("ip addr add 192.0.2.1/24 dev v0"), 0);
    CHECK(await_event(wake[0], id));
    CHECK_INT(system("ip link set v0 down"), 0);
    CHECK_INT(system("ip addr flush dev v0"), 0);
  }
  CHECK(smn_network_finish(15000));
  smn_events_wake(-1);
  close(wake[0]);
}

#endif

/* Watches that follow one another, and their end.  */
static void check_thread(void) {
  struct smn_error err = {.kind = SMN_OK};
  long id = 0, before = 0;
  smn_network_unwatch(); /* there is none */
  CHECK(smn_network_finish(0));
  for (int i = 0; i < 20; i++) {
    enum smn_kind kind = smn_network_watch(&id, &err);
    if (kind == SMN_UNSUPPORTED)
      return;
    CHECK_INT(kind, SMN_OK);
    CHECK(id > before);
    before = id;
  }
  smn_network_unwatch();
  CHECK(smn_network_finish(15000));
  CHECK_INT(smn_network_watch(&id, &err), SMN_OK);
  CHECK(smn_network_finish(15000));
}

int main(void) {
  check_thread();
#ifdef __linux__
  check_live();
#endif
  return check_done("test-network");
}
