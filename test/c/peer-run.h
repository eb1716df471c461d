/* SPDX-License-Identifier: GPL-3.0-or-later */
/* peer-run.h - a scripted SMTP server: one dialogue over one connection.
   It shares no code with module/, so that no mistake is made twice.  All that
   a run needs is in its struct peer, which one thread uses; every wait is
   bounded.  The language of the scripts: test/peer/README.org.  */
#ifndef PEER_RUN_H
#define PEER_RUN_H

#include <gnutls/gnutls.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct peer {
  const char *certs;   /* folder of certs.h, NULL: no TLS */
  const char *deliver; /* folder for messages, NULL: nowhere */
  int timeout_ms;
  bool own_clients; /* they are of this process; others are turned away */
  FILE *log;        /* the transcript */
  int cancel_fd; /* the step `cancel' writes an octet to it; 0: nobody reads */
  /* The step `call WORDS'; false ends the script.  NULL: there is none.  */
  bool (*call)(void *context, const char *words);
  void *context;             /* of call */
  gnutls_datum_t ticket_key; /* of sessions that can be resumed; empty: none */

  /* Set by the run.  */
  char why[1024]; /* what the client did wrong, "" for nothing */
  int messages;
  int listening;
  int fd;
  gnutls_session_t tls;
  gnutls_certificate_credentials_t credentials;
  gnutls_dh_params_t dh;
  int tls_code; /* of the handshake */
  bool resumed;
  char in[65536];
  size_t from, to;
  char line[65536];
  bool heard; /* the line is still to be taken */
  int number; /* of the line of the script */
};

/* Listen on the loopback ADDRESS at *PORT, 0: the kernel's choice.  Returns the
   descriptor, or -1.  */
int peer_listen(const char *address, int *port);

/* Accept a connection on LISTENING and play SCRIPT, the text of a file.  True
   when the client behaved as the script says.  */
bool peer_run(struct peer *peer, int listening, const char *script);

/* The text of FILE, to be freed; NULL with a word on stderr.  */
char *peer_read_file(const char *file);

#endif
