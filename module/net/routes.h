/* SPDX-License-Identifier: GPL-3.0-or-later */
/* routes.h - what the system tells of the networks of this machine.
   A socket of the kernel (netlink on Linux, PF_ROUTE on the BSDs and macOS)
   tells of routes and links.  What it says is untrusted: no length in it is
   believed.  A struct smn_routes belongs to one thread at a time.  */
#ifndef SMN_ROUTES_H
#define SMN_ROUTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMN_LINKS_MAX 64

struct smn_routes {
  int fd; /* readable when there is something to be read */
  struct {
    int index;
    bool running;
  } links[SMN_LINKS_MAX]; /* as they were last told of */
  size_t link_count;
};

/* Open it; false with errno set, ENOSYS where the system does not tell.  */
bool smn_routes_open(struct smn_routes *routes);
void smn_routes_close(struct smn_routes *routes);

enum smn_news {
  SMN_NEWS_NONE,  /* nothing that lets mail go that could not before */
  SMN_NEWS_CAME,  /* a way has come, or may have: something was missed */
  SMN_NEWS_BROKEN /* nothing more will be told */
};

/* Read what waits, and not for ever.  Does not wait.  */
enum smn_news smn_routes_read(struct smn_routes *routes);

/* What LEN octets at DATA, one message or several, tell.  */
enum smn_news smn_routes_parse(struct smn_routes *routes, const void *data,
                               size_t len);

#endif
