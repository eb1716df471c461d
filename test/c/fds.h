/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fds.h - descriptors of this process, for tests whose two ends are in it.  */
#ifndef FDS_H
#define FDS_H

#include "check.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum { FDS_MAX = 1024 };

static inline int count_fds(void) {
  int count = 0;
  for (int fd = 0; fd < FDS_MAX; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* The descriptor of the other end of the TCP socket SERVER.  It cannot be
   foretold: a look-up that is not awaited may close some at any time.  */
static inline int other_end(int server) {
  struct sockaddr_in wanted = {0}, here = {0};
  socklen_t size = sizeof wanted;
  CHECK_INT(getpeername(server, (struct sockaddr *)&wanted, &size), 0);
  for (int fd = 0; fd < FDS_MAX; fd++) {
    size = sizeof here;
    if (getsockname(fd, (struct sockaddr *)&here, &size) == 0 &&
        here.sin_family == AF_INET && here.sin_port == wanted.sin_port)
      return fd;
  }
  check_that(false, __FILE__, __LINE__, "the other end is here");
  return -1;
}

#endif
