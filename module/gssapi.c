/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gssapi.c - one step of GSSAPI that does not outlast its deadline.  */
#include "gssapi.h"
#include "wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Shared by the helper and who waits; the last of them frees it.  */
struct step {
  pthread_mutex_t lock;
  int holders;
  bool abandoned; /* the helper owns context and session, too */
  int done_fd;    /* the helper writes one octet when it is done */
  Gsasl *context;
  Gsasl_session *session;
  char *output;
  size_t output_len;
  int code;
  size_t input_len;
  char input[]; /* a copy, ended by a NUL */
};

static void release(struct step *step) {
  pthread_mutex_lock(&step->lock);
  bool last = --step->holders == 0;
  pthread_mutex_unlock(&step->lock);
  if (!last)
    return;
  if (step->abandoned) {
    gsasl_finish(step->session);
    gsasl_done(step->context);
    gsasl_free(step->output);
  }
  pthread_mutex_destroy(&step->lock);
  free(step);
}

static void *make_step(void *argument) {
  struct step *step = argument;
  char *output = NULL;
  size_t output_len = 0;
  int code = gsasl_step(step->session, step->input, step->input_len, &output,
                        &output_len);
  pthread_mutex_lock(&step->lock);
  step->code = code;
  step->output = output;
  step->output_len = output_len;
  pthread_mutex_unlock(&step->lock);
  while (write(step->done_fd, "", 1) < 0 && errno == EINTR)
    continue;
  close(step->done_fd);
  release(step);
  return NULL;
}

/* Start the helper; it and the caller then hold STEP.  */
static enum smn_kind start(struct step *step, int *wait_fd,
                           struct smn_error *err) {
  int ends[2];
  pthread_t thread;
  if (!smn_pipe(ends))
    return smn_fail_errno(err, SMN_SYSTEM, errno, "cannot make a pipe");
  step->done_fd = ends[1];
  int errnum = smn_thread_start(&thread, make_step, step);
  if (errnum != 0) {
    close(ends[0]);
    close(ends[1]);
    return smn_fail_errno(err, SMN_SYSTEM, errnum, "cannot start a thread");
  }
  pthread_detach(thread);
  *wait_fd = ends[0];
  return SMN_OK;
}

enum smn_kind smn_gssapi_step(Gsasl **context, Gsasl_session **session,
                              const char *input, size_t input_len,
                              char **output, size_t *output_len, int *code,
                              int timeout_ms, int cancel_fd,
                              struct smn_error *err) {
  int wait_fd = -1;
  struct step *step = calloc(1, sizeof *step + input_len + 1);
  if (!step)
    return smn_fail(err, SMN_SYSTEM, "no memory");
  pthread_mutex_init(&step->lock, NULL);
  step->holders = 2;
  step->context = *context;
  step->session = *session;
  step->input_len = input_len;
  if (input_len)
    memcpy(step->input, input, input_len);
  enum smn_kind kind = start(step, &wait_fd, err);
  if (kind != SMN_OK) {
    step->holders = 1;
    release(step);
    return kind;
  }
  kind = smn_wait(wait_fd, SMN_WAIT_READ, smn_now_ms() + timeout_ms, cancel_fd,
                  err);
  if (kind == SMN_TIMEOUT)
    smn_fail(err, kind, "GSSAPI: no answer of Kerberos in time");
  pthread_mutex_lock(&step->lock);
  if (kind == SMN_OK) {
    *code = step->code;
    *output = step->output;
    *output_len = step->output_len;
  } else {
    step->abandoned = true;
    *session = NULL;
    *context = NULL;
  }
  pthread_mutex_unlock(&step->lock);
  close(wait_fd);
  release(step);
  return kind;
}
