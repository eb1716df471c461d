/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gsasl.h - the mechanisms that GNU SASL does: CRAM-MD5, PLAIN, EXTERNAL,
   DIGEST-MD5, NTLM, and GSSAPI through gssapi.c.  */
#ifndef SMN_GSASL_H
#define SMN_GSASL_H

#include "sasl/exchange.h"
#include <gsasl.h>

enum smn_kind smn_gsasl_start(struct smn_exchange **x,
                              const struct smn_mechanism *mechanism,
                              const struct smn_credentials *credentials,
                              struct smn_error *err);

/* The same for a mechanism whose server has to prove itself.  */
enum smn_kind smn_digest_start(struct smn_exchange **x,
                               const struct smn_mechanism *mechanism,
                               const struct smn_credentials *credentials,
                               struct smn_error *err);

/* For gssapi.c */

struct smn_gsasl;

/* What gsasl_step does, with its result in *CODE; *OUTPUT is the caller's to
   free.  Anything but SMN_OK: the step was not made.  */
typedef enum smn_kind smn_gsasl_step(struct smn_gsasl *x, const char *input,
                                     size_t len, char **output,
                                     size_t *output_len, int *code,
                                     struct smn_error *err);

struct smn_gsasl {
  struct smn_exchange exchange;
  Gsasl *context;         /* NULL: has gone to a helper thread */
  Gsasl_session *session; /* the same */
  smn_gsasl_step *step;
  bool proved; /* the last step of the library has succeeded */
};

enum smn_kind smn_gsasl_start_with(smn_gsasl_step *step,
                                   struct smn_exchange **x,
                                   const struct smn_mechanism *mechanism,
                                   const struct smn_credentials *credentials,
                                   struct smn_error *err);

#endif
