/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-events.c - news of the network wait once, and what was lent is not
   changed.  What the events of jobs do is in test-engine.  */
#include "check.h"
#include "engine/events.h"

/* However often there are news, one event waits.  */
static void check_event(void) {
  bool more = true;
  for (int i = 0; i < 5; i++)
    smn_events_network(4);
  smn_events_network(5);
  const struct smn_event *event = smn_events_borrow(10, &more);
  CHECK(!more && event && event->id == 4 && event->next &&
        event->next->id == 5 && !event->next->next);
  smn_events_network(4); /* that one is lent: this one is another */
  smn_events_delivered(2);
  event = smn_events_borrow(10, &more);
  CHECK(event && event->id == 4 && event->type == SMN_EVENT_NETWORK);
  smn_events_delivered(1);
}

int main(void) {
  check_event();
  return check_done("test-events");
}
