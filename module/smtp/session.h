/* SPDX-License-Identifier: GPL-3.0-or-later */
/* session.h - the dialogue with one server, from greeting to QUIT.
   RFC 5321, 3207 (STARTTLS), 4954 (AUTH).  A session is owned and used by one
   thread; it carries one job after the other.  Straight blocking code: the
   program counter is the state, the stage in the result only reports.  */
#ifndef SMN_SESSION_H
#define SMN_SESSION_H

#include "mail/result.h"

/* Called by the thread of the session.  The texts are single lines without
   secrets, not NUL-terminated, raw octets of the server among them.  */
struct smn_observer {
  void *context;
  /* FROM_SERVER: one line of a reply; else one command, or what stands for the
     content of the message.  NULL: no trace.  */
  void (*trace)(void *context, bool from_server, const char *text, size_t len);
  /* SENT of TOTAL octets of the file have been written.  NULL: not wanted.  */
  void (*progress)(void *context, uint64_t sent, uint64_t total);
  int cancel_fd; /* readable: give up this task; -1: never.  Each has its own,
                    and the connection heeds that of the task it works for */
};

/* One job on its way through a session.  All is borrowed by the session until
   it has said what came of it.  */
struct smn_task {
  const struct smn_job *job;
  const struct smn_observer *observer;
  struct smn_result *result; /* initialised for the job */
};

/* Why a session gives a task back.  */
enum smn_back {
  SMN_BACK_AGAIN,   /* the task deserves a fresh connection */
  SMN_BACK_PLAINLY, /* the same, without pipelining */
  SMN_BACK_UNWANTED /* the server wants no connection more: refused, closed
                       without a greeting, 4yz at the greeting or EHLO, 421
                       before MAIL.  A session that it has let in may do it */
};

/* Where a session gets its jobs and tells what came of them.  Called by its
   thread.  */
struct smn_supply {
  void *context;
  /* The next job for the very same server and user, NULL if there is none at
     the moment.  */
  const struct smn_task *(*next)(void *context);
  /* The content of TASK is about to be sent: from here on a wish to cancel it
     ends the session.  Asked again just before the end of data leaves, when a
     wish can still be granted.  False: it is cancelled already.  */
  bool (*begin)(void *context, const struct smn_task *task);
  /* The result of TASK is complete.  */
  void (*done)(void *context, const struct smn_task *task);
  /* Nothing of TASK was delivered, for a reason that lies in this connection,
     WHY.  True: the supply has taken it back.  False: TASK fails as its result
     says, and done follows.  */
  bool (*back)(void *context, const struct smn_task *task, enum smn_back why);
};

struct smn_session;

/* A session that is not connected yet, NULL without memory.  PLAINLY: never
   pipeline.  */
struct smn_session *smn_session_new(bool plainly);

/* Connect for the server of FIRST if need be, authenticate, deliver FIRST and
   what SUPPLY has, until that has nothing more.  Each task is done or given
   back once, and nothing refers to it afterwards.  */
void smn_session_serve(struct smn_session *s, const struct smn_task *first,
                       const struct smn_supply *supply);

/* It can take one more job, as far as that is known without waiting.  */
bool smn_session_alive(struct smn_session *s);

/* Say QUIT where that is heard, without waiting for its reply, and free it;
   NULL is harmless.  */
void smn_session_close(struct smn_session *s);

/* All of that for one JOB, with a second connection where the first deserves
   it.  *RESULT was initialised for JOB and tells all; returns
   result->error.kind.  */
enum smn_kind smn_session_run(const struct smn_job *job,
                              const struct smn_observer *observer,
                              struct smn_result *result);

#endif
