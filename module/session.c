/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.c - the dialogue with one server, from greeting to QUIT.
   One thread owns the struct smn_session; job and observer are borrowed.
   Replies are untrusted: they reach the observer and the result only quoted
   and with the secrets of a running AUTH taken out, because a server may
   echo them.  RFC 5321, 3207, 4954, 1870.  */
#include "session.h"
#include "conn.h"
#include "reply.h"
#include "sasl.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COMMAND_MAX 16384      /* longer than any AUTH line we may send */
#define AUTH_LINE_MAX 512      /* RFC 5321 4.5.3.1.4, with CRLF */
#define BLOCK 65536            /* octets of the file that are read at once */
#define AFTER_DATA 10          /* times the timeout, as RFC 5321 4.5.3.2 */
#define PROGRESS_OCTETS 262144 /* between two reports */
static const char omitted[] = "<omitted>";

struct smn_session {
  const struct smn_job *job;
  const struct smn_observer *observer;
  struct smn_result *result;
  struct smn_error *err; /* &result->error */
  struct smn_conn *conn;
  struct smn_tls_credentials *tls; /* NULL when no TLS can come about */
  struct smn_reply reply;
  struct smn_capabilities caps;
  struct smn_buf command;  /* secret: AUTH lines are built here */
  struct smn_buf response; /* secret: what AUTH sent last, base64 */
};
