/* SPDX-License-Identifier: GPL-3.0-or-later */
/* server.h - the model: an SMTP and LMTP server that keeps the rules, except
   where the plan of the dialogue makes it break one, and that says what it has
   taken (truth.h).  It lives in the steps of world.h.  */
#ifndef SERVER_H
#define SERVER_H

#include "plan.h"
#include "world.h"
#include <sys/un.h>

/* A new dialogue.  FOLDER has the certificates of certs.h, and the files of the
   jobs are FOLDER/jN/message.  The core connects to the local socket ADDRESS,
   where LISTENING listens.  */
void server_begin(const char *folder, const struct sockaddr_un *address,
                  int listening);

/* Read what is left, end all connections, and judge what was half sent.  */
void server_end(void);

bool server_step(void);
int64_t server_due(void);
int server_connect(int fd);
long server_send(int fd, const void *octets, size_t len);
void server_sent(int fd, size_t len);
void server_looked(int fd);
int server_sync(int fd);

/* Connections that are open.  */
unsigned server_open(void);

#endif
