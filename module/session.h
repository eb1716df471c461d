/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.h - the dialogue with one server, from greeting to QUIT.
   RFC 5321, 3207 (STARTTLS), 4954 (AUTH), 1870 (SIZE).  A session is owned and
   used by one thread; it borrows its job for the length of a call.  Straight
   blocking code: the program counter is the state, the stage in the result
   only reports.  */
#ifndef SMN_SESSION_H
#define SMN_SESSION_H

#include "job.h"

/* Called by the thread of the session.  The texts are single lines without
   secrets, not NUL-terminated, raw octets of the server among them.  */
struct smn_observer {
  void *context;
  /* FROM_SERVER: one line of a reply; else one command, or what stands for the
     content of the mail.  NULL: no trace.  */
  void (*trace)(void *context, bool from_server, const char *text, size_t len);
  /* SENT of TOTAL octets of the file have been written.  NULL: nobody asks.  */
  void (*progress)(void *context, uint64_t sent, uint64_t total);
  int cancel_fd; /* readable: give up; -1: never */
};

/* Connect, say who one is, deliver JOB (or probe), and say QUIT without
   waiting for its reply.  *RESULT was initialised for JOB and tells all;
   returns result->error.kind.  */
enum smn_kind smn_session_run(const struct smn_job *job,
                              const struct smn_observer *observer,
                              struct smn_result *result);

#endif
