/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth.h - who the user is (RFC 4954): mechanisms in turn.
   It knows no connection: the session that calls it sends what stands in the
   command and reads the reply.  One thread; all pointers are borrowed for the
   call.  Replies are untrusted.  */
#ifndef SMN_AUTH_H
#define SMN_AUTH_H

#include "mail/result.h"
#include "sasl/mechanisms.h"
#include "smtp/reply.h"

struct smn_auth {
  const struct smn_server *server;
  const char *offered;   /* mechanisms, as in struct smn_capabilities */
  bool encrypted;        /* by TLS to a server that was verified */
  bool may_show_secrets; /* on this connection */
  bool certificate;      /* the client has one for TLS */
  const struct smn_binding *binding; /* of the TLS channel, or NULL */
  int cancel_fd;                     /* readable: give up; -1: never */
  const struct smn_reply *reply;
  struct smn_buf *command; /* secret: the line to be sent, without its end */
  struct smn_buf *needles; /* secret, see redact.h */
  struct smn_result *result;
  /* Send the command (the trace shows SHOWN instead, if given) and read the
     reply.  */
  enum smn_kind (*exchange)(void *session, const char *shown);
  void *session;
};

/* Authenticate as the server of the job says.  A server that offers no AUTH to
   a job that asks for no particular mechanism is left in peace, and so is one
   that offers no EXTERNAL to a client certificate without a password.
   Mechanism, token_refused, password_untested and notes stand in the result.
 */
enum smn_kind smn_auth_run(const struct smn_auth *auth);

#endif
