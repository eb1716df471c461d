/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gssapi.h - GSSAPI, none of whose steps outlasts its deadline.
   Kerberos asks the KDC within a step, as long as it likes, and cannot be
   interrupted.  So a helper thread makes the step, and keeps the exchange for
   itself when the session does not want to wait any longer.  */
#ifndef SMN_GSSAPI_H
#define SMN_GSSAPI_H

#include "sasl/exchange.h"

enum smn_kind smn_gssapi_start(struct smn_exchange **x,
                               const struct smn_mechanism *mechanism,
                               const struct smn_credentials *credentials,
                               struct smn_error *err);

#endif
