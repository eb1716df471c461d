/* SPDX-License-Identifier: GPL-3.0-or-later */
/* credentials.h - the two classic variables, read from their Lisp values.
   smtpmail-auth-credentials and smtpmail-starttls-credentials as the manual
   "Emacs SMTP Library" describes them.  Main thread only, inside a call from
   Lisp.  A password goes from its Lisp string to a secret buffer and nowhere
   else; errors name the position of an entry, never its content.  */
#ifndef SMN_CREDENTIALS_H
#define SMN_CREDENTIALS_H

#include "emacs/lisp.h"
#include "mail/job.h"

enum smn_credentials {
  SMN_CREDENTIALS_AUTH,    /* (HOST PORT USER PASSWORD) */
  SMN_CREDENTIALS_STARTTLS /* (HOST PORT KEY CERT) */
};

/* PORT as a number: an integer, a decimal string or a service name; 0 for
   anything else.  Only a string that C cannot hold (NUL) is signalled.  */
int smn_credentials_port(emacs_env *env, emacs_value port);

/* The first entry for HOST and PORT, the very list of the user, or nil.  A
   malformed entry before it signals smtpmail-native-usage-error.  NULL with
   an exit pending.  */
emacs_value smn_credentials_find(emacs_env *env, enum smn_credentials which,
                                 const char *host, int port);

/* Fill what SERVER (host and port set) still lacks from both variables: with
   authenticate wanted and no secret yet, a complete entry's user and password;
   key and certificate; and STARTTLS as a must.  False with a signal pending. */
bool smn_credentials_fill(emacs_env *env, struct smn_server *server,
                          bool authenticate);

#endif
