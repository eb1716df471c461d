/* SPDX-License-Identifier: GPL-3.0-or-later */
/* network.h - the thread that waits for a network.
   There is one while it is wanted, and at most one event of it waits: events
   come at most once a second, whatever the system tells.  Main thread only.  */
#ifndef SMN_NETWORK_H
#define SMN_NETWORK_H

#include "base/error.h"
#include <stdbool.h>

/* Have an SMN_EVENT_NETWORK with the id *ID come whenever there may be a way
   that was not there before: a route, a link, the end of a suspend.  The watch
   before ends.  SMN_UNSUPPORTED: this system does not tell.  */
enum smn_kind smn_network_watch(long *id, struct smn_error *err);

/* End the watch, if there is one.  Does not wait; an event that waits still
   comes.  */
void smn_network_unwatch(void);

/* End the watch, and wait at most TIMEOUT_MS until its thread has ended; false
   if it has not.  */
bool smn_network_finish(int timeout_ms);

#endif
