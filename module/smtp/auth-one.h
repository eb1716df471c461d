/* SPDX-License-Identifier: GPL-3.0-or-later */
/* auth-one.h - the dialogue of AUTH with one mechanism (RFC 4954), and what a
   refusal means.  For auth.c; the same rules.  */
#ifndef SMN_AUTH_ONE_H
#define SMN_AUTH_ONE_H

#include "smtp/auth.h"

enum smn_refusal {
  SMN_REFUSED_NOTHING,    /* it has worked, or failed for another reason */
  SMN_REFUSED_MECHANISM,  /* as such: another one may work */
  SMN_REFUSED_PASSWORD,   /* or token, or what was made of it */
  SMN_REFUSED_FIRST,      /* the first message of SCRAM, which shows neither */
  SMN_REFUSED_TRANSITION, /* until the password was shown once (432) */
};

struct smn_attempt {
  bool sent;     /* the server has heard of the mechanism */
  bool shown;    /* and got what is made of the password or token */
  bool tested;   /* and says that this is no good */
  bool unusable; /* the credentials cannot be used with it */
  enum smn_refusal refusal;
};

/* Authenticate by MECHANISM.  Tells in *ATTEMPT how far it came; the error, and
   token_refused, stand in the result.  */
enum smn_kind smn_auth_one(const struct smn_auth *auth,
                           const struct smn_mechanism *mechanism,
                           const struct smn_credentials *credentials,
                           struct smn_attempt *attempt);

#endif
