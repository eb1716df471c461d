/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fork-server.c - a process for each connection to a port of the loopback.  */
#include "fork-server.h"

#include <arpa/inet.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

int fork_server(void (*serve)(int fd)) {
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof at;
  int listening = socket(AF_INET, SOCK_STREAM, 0);
  signal(SIGCHLD, SIG_IGN);
  signal(SIGPIPE, SIG_IGN);
  if (bind(listening, (struct sockaddr *)&at, sizeof at) != 0 ||
      listen(listening, 64) != 0 ||
      getsockname(listening, (struct sockaddr *)&at, &size) != 0)
    return 70;
  printf("port %d\n", ntohs(at.sin_port));
  fflush(stdout);
  struct pollfd fds[2] = {{.fd = listening, .events = POLLIN},
                          {.fd = 0, .events = POLLIN}};
  for (;;) {
    if (poll(fds, 2, -1) < 0)
      continue;
    if (fds[1].revents)
      return 0;
    int fd = accept(listening, NULL, NULL);
    if (fd < 0)
      continue;
    if (fork() == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      close(listening);
      serve(fd);
      _exit(0);
    }
    close(fd);
  }
}
