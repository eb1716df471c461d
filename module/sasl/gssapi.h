/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gssapi.h - one step of GSSAPI that does not outlast its deadline.
   Kerberos asks the KDC within the step, as long as it likes, and cannot be
   interrupted: so a helper thread makes the step, and is left alone with the
   exchange when nobody wants to wait any longer.  */
#ifndef SMN_GSSAPI_H
#define SMN_GSSAPI_H

#include "base/error.h"
#include <gsasl.h>
#include <stdint.h>

/* What gsasl_step would do, within TIMEOUT_MS and until CANCEL_FD becomes
   readable; *CODE is its result, *OUTPUT the caller's to free.  For anything
   but SMN_OK, *CONTEXT and *SESSION may have become NULL: they have gone to the
   helper.  */
enum smn_kind smn_gssapi_step(Gsasl **context, Gsasl_session **session,
                              const char *input, size_t input_len,
                              char **output, size_t *output_len, int *code,
                              int timeout_ms, int cancel_fd,
                              struct smn_error *err);

#endif
