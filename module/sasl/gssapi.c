/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gssapi.c - GSSAPI, none of whose steps outlasts its deadline.  */
#include "sasl/gssapi.h"
#include "base/errand.h"
#include "sasl/gsasl.h"

#include <stdlib.h>
#include <string.h>

struct step {
  struct smn_errand errand; /* abandoned: context and session are its own */
  Gsasl *context;
  Gsasl_session *session;
  char *output;
  size_t output_len;
  int code;
  size_t input_len;
  char input[]; /* a copy, ended by a NUL */
};

static void run(struct smn_errand *errand) {
  struct step *step = (struct step *)errand;
  step->code = gsasl_step(step->session, step->input, step->input_len,
                          &step->output, &step->output_len);
}

static void end(struct smn_errand *errand) {
  struct step *step = (struct step *)errand;
  if (errand->abandoned) {
    gsasl_finish(step->session);
    gsasl_done(step->context);
    gsasl_free(step->output);
  }
  free(step);
}

/* Within the credentials' timeout, and until their descriptor becomes readable;
   after that context and session are the helper's.  */
static enum smn_kind step_by_helper(struct smn_gsasl *x, const char *input,
                                    size_t input_len, char **output,
                                    size_t *output_len, int *code,
                                    struct smn_error *err) {
  const struct smn_credentials *c = x->exchange.credentials;
  struct step *step = calloc(1, sizeof *step + input_len + 1);
  if (!step)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  step->errand.run = run;
  step->errand.end = end;
  step->context = x->context;
  step->session = x->session;
  step->input_len = input_len;
  if (input_len)
    memcpy(step->input, input, input_len);
  enum smn_kind kind = smn_errand_start(&step->errand, err);
  if (kind != SMN_OK)
    return kind;
  kind = smn_errand_wait(&step->errand, c->timeout_ms, c->cancel_fd, err);
  if (kind != SMN_OK) {
    x->session = NULL;
    x->context = NULL;
    return kind == SMN_TIMEOUT
               ? smn_fail(err, kind, "GSSAPI: no answer from Kerberos in time")
               : kind;
  }
  *code = step->code;
  *output = step->output;
  *output_len = step->output_len;
  smn_errand_release(&step->errand);
  return kind;
}

enum smn_kind smn_gssapi_start(struct smn_exchange **x,
                               const struct smn_mechanism *mechanism,
                               const struct smn_credentials *credentials,
                               struct smn_error *err) {
  return smn_gsasl_start_with(step_by_helper, x, mechanism, credentials, err);
}
