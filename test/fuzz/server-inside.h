/* SPDX-License-Identifier: GPL-3.0-or-later */
/* server-inside.h - what server.c (sockets, replies) and rules.c (commands)
   share.  */
#ifndef SERVER_INSIDE_H
#define SERVER_INSIDE_H

#include "plan.h"
#include "truth.h"
#include "world.h"
#include <gnutls/gnutls.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define CONNS_MAX 64
#define OWED_MAX 8192

/* A reply, or something that looks like one.  */
struct unit {
  struct unit *next;
  char *octets;
  size_t len, sent;
  size_t cut; /* so many octets and one less leave, then it closes; 0: all */
  int64_t due_ms;
  bool octetwise, with_next;
  bool counts; /* as a reply */
  bool lie, close, reset, starts_tls;
  int job, taking; /* whose fate it tells; -1: of none */
  bool refusal;
  int code;
};

struct send {
  uint64_t until;    /* the octets sent so far */
  unsigned observed; /* the replies that the client could have seen before */
};

struct log {
  struct send *at;
  size_t count, max;
};

struct conn {
  unsigned number;
  int fd, client_fd;
  bool closed, client_gone, silent;
  unsigned voided;
  gnutls_session_t tls;
  bool began_handshake, encrypted, injected;
  unsigned spoken; /* records of TLS for its own use */
  int64_t deaf_until_ms;

  char *in; /* what was read and not yet understood, in the buffer */
  char *buffer;
  size_t in_len, in_max;
  uint64_t in_at;   /* the offset of in in the stream of commands */
  uint64_t sent;    /* octets by the client, */
  uint64_t pulled;  /* and those that TLS has read of them */
  struct log sends; /* by offsets in what was sent */
  struct log seen;  /* the same by offsets of in, inside TLS */

  struct unit *units;
  unsigned owed, emitted, observed;
  unsigned char kinds[OWED_MAX]; /* the places of the replies that are owed */
  unsigned hello, data;          /* the numbers of the replies to EHLO, DATA */
  bool lied, processing;
  bool untold;       /* what it says is not worth to be waited for */
  int64_t spoke_ms;  /* when a reply has left */
  bool woken;        /* the transaction is the first one after a pause, */
  unsigned woken_at; /* and its MAIL has this number */
  enum act_kind idle_kind;
  int64_t idle_ms;

  const struct offer *offer; /* what EHLO has told; NULL before */
  const struct offer *early; /* PIPECONNECT was offered before; NULL: not */
  bool refuses;              /* all but QUIT, since the greeting */
  enum { COMMAND, SECRET, CONTENT, CHUNK, GONE } state;
  unsigned secrets; /* steps of AUTH that are to come */
  int mail_job;     /* that of the last MAIL, -1 without */
  int job;          /* of the transaction, -1 without one */
  uint64_t recipients;
  unsigned asked, mails, errors;
  bool chunked, chunk_failed, last;
  bool answered; /* the end of data, before it came */
  uint64_t chunk_left;
  char *body;
  size_t body_len, body_max;
  bool line_start;
};

struct arrives {
  char *octets;
  size_t len;
};

extern struct model {
  const char *folder;
  struct sockaddr_un address;
  int listening;
  struct rng rng;
  bool stepping;
  gnutls_certificate_credentials_t credentials;
  gnutls_datum_t ticket_key;
  unsigned count;
  struct conn conns[CONNS_MAX];
  unsigned reached[PLACES]; /* how often */
  bool faulted[JOBS_MAX];   /* the fault of its file has come about */
  unsigned fault_seen[JOBS_MAX];
  const struct offer *early[2]; /* PIPECONNECT, in clear and under TLS */
  int sync_errno;
  struct arrives arrives[JOBS_MAX][2]; /* of the job, before and after its
                                          file has changed */
  bool eight_bit[JOBS_MAX];
  unsigned told[JOBS_MAX][TAKINGS_MAX]; /* the number of that reply */
  unsigned refused[JOBS_MAX], refused_conn[JOBS_MAX];
} model;

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __real_connect(int fd, const struct sockaddr *address, socklen_t len);
ssize_t __real_recv(int fd, void *octets, size_t len, int flags);

static inline int poll_now(struct pollfd *one) {
  return __real_poll(one, 1, 0);
}

/* server.c */
void server_close(struct conn *c, bool reset);
void server_start_tls(struct conn *c);
struct unit *server_queue(struct conn *c, const char *octets, size_t len);
unsigned server_seen(const struct conn *c, uint64_t at);

/* rules.c */
const struct act *server_act(enum place place);
void server_greet(struct conn *c);
void server_feed(struct conn *c, const char *octets, size_t len);
bool server_process(struct conn *c);
void server_idle(struct conn *c);
void server_check_rest(struct conn *c);

#endif
