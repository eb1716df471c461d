/* SPDX-License-Identifier: GPL-3.0-or-later */
/* login.h - LOGIN, which no RFC defines.
   It stands here because servers ask in many ways, and GNU SASL wants base64:
   "VXNlcm5hbWU6", the same without padding or with blanks, "Username:" as it
   is, nothing, other languages, and some ask for the password first.  */
#ifndef SMN_LOGIN_H
#define SMN_LOGIN_H

#include "sasl/exchange.h"

/* Challenges are the text of the reply, not decoded.  */
enum smn_kind smn_login_start(struct smn_exchange **x,
                              const struct smn_mechanism *mechanism,
                              const struct smn_credentials *credentials,
                              struct smn_error *err);

#endif
