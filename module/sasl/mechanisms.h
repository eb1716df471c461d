/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mechanisms.h - the one table of SASL mechanisms, and the choice among them.
   Names are compared in any case; lists of them are separated by spaces.  The
   table is constant: pointers into it may be kept and compared.  */
#ifndef SMN_MECHANISMS_H
#define SMN_MECHANISMS_H

#include "sasl/exchange.h"

#define SMN_MECHANISMS 13 /* that there are */

/* What there is to authenticate with.  */
struct smn_sasl_means {
  bool secret;      /* a password or token */
  bool token;       /* it is a token */
  bool certificate; /* the client has shown one to TLS */
  bool binding;     /* the channel can be bound */
};

/* NULL for a name that is not known.  */
const struct smn_mechanism *smn_mechanism(const char *name);

/* LIST names MECHANISM.  */
bool smn_mechanism_listed(const char *list,
                          const struct smn_mechanism *mechanism);

/* One of the names in LIST binds the channel, or needs no secret.  */
bool smn_mechanisms_bind(const char *list);
bool smn_mechanisms_secretless(const char *list);

/* Write into ORDER what to try, in this order, and return how many there are:
   the mechanisms that the server OFFERED, that are known here, that *MEANS
   allow, and that WANTED names, in its order.  WANTED may be NULL or "".  A
   password then stands for SCRAM-SHA-256-PLUS SCRAM-SHA-1-PLUS SCRAM-SHA-256
   SCRAM-SHA-1 CRAM-MD5 PLAIN LOGIN, a token for OAUTHBEARER XOAUTH2, and a
   certificate without either for EXTERNAL.  */
size_t smn_mechanisms_choose(const char *offered, const char *wanted,
                             const struct smn_sasl_means *means,
                             const struct smn_mechanism *order[SMN_MECHANISMS]);

#endif
