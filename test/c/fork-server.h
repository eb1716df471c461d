/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fork-server.h - a process for each connection to a port of the loopback.  */
#ifndef FORK_SERVER_H
#define FORK_SERVER_H

/* Print "port N" as the first line of output, and call SERVE, which ends its
   process, for each connection.  Return when the standard input ends, 0, or 70
   if there is no port; what is still served then is killed.  */
int fork_server(void (*serve)(int fd));

#endif
