/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialogue.h - commands out, replies in, and no secret in what is shown.
   Shared by the files that make up a session (session.c, transaction.c,
   parameters.c), and by no other.  One thread owns the struct smn_session.
   Each call is for a TASK: its observer hears of it, and the error of its
   result tells of a failure, with the stage that is due.  Replies are
   untrusted: they reach observer and result only with the secrets of this
   session taken out, because a server may echo them.  */
#ifndef SMN_DIALOGUE_H
#define SMN_DIALOGUE_H

#include "mail/content.h"
#include "net/conn.h"
#include "net/trust.h"
#include "smtp/reply.h"
#include "smtp/session.h"
#include "smtp/state.h"

#define SMN_COMMAND_MAX 16384 /* longer than any line that we may send */

struct smn_session {
  struct smn_conn *conn; /* NULL while there is none */
  struct smn_state state;
  struct smn_reply reply;       /* the last one */
  struct smn_capabilities caps; /* forgotten when TLS begins */
  bool early;                   /* caps are those of an earlier connection, and
                                   not confirmed: no content relies on them */
  bool rested;                  /* nothing was heard since the last job */
  bool plainly;                 /* never pipeline: that broke before */
  unsigned mails;               /* begun on this connection */
  bool full;                    /* the server takes no more of them on it */
  struct smn_error broken;      /* why writing has failed */
  bool content_left;            /* it has passed all of the content on before */
  struct smn_buf command;       /* secret: the line that is being sent */
  struct smn_buf needles;       /* secret: what is never shown, redact.h */
  struct smn_blocks blocks;     /* of the message whose content is sent */
  char mechanism[32];           /* that AUTH succeeded with */
  char notes[512];              /* as in the result */
  struct smn_trust *trust;      /* loaded before the connection is made */
  struct smn_seen *seen;        /* of the server by TLS, or NULL */
};

/* Commands may leave before those that came first are answered.  */
bool smn_dialogue_pipelined(const struct smn_session *s);

void smn_dialogue_trace(const struct smn_session *s,
                        const struct smn_task *task, bool from_server,
                        const char *text, size_t len);

/* Put the command LINE into the flight, and owe its reply; RECIPIENT as in
   struct smn_owed.  LINE NULL: octets that are written next stand for it.
   SMN_USAGE for CR or LF; SMN_PROTOCOL when it is not its turn.  */
enum smn_kind smn_dialogue_ask(struct smn_session *s,
                               const struct smn_task *task,
                               enum smn_asked asked, size_t recipient,
                               const char *line);

/* Let the flight leave, and the LEN octets at OCTETS in it where they belong;
   before and after them are SMN_FLIGHT_MAX octets that may be overwritten
   (OCTETS NULL: none).  First, where no reply is awaited, nothing
   may be there to be read: else the server speaks out of turn, and nothing
   leaves.  Then, as when writing fails, the state is PARTING, or LOST: what the
   server has said is read by smn_dialogue_read before that failure is
   believed.  */
enum smn_kind smn_dialogue_write(struct smn_session *s,
                                 const struct smn_task *task, char *octets,
                                 size_t len);

/* Let the flight leave, and read the next reply, which must be one to TASK: it
   is in s->reply, and *OWED tells what it answers.  */
enum smn_kind smn_dialogue_read(struct smn_session *s,
                                const struct smn_task *task,
                                struct smn_owed *owed);

/* The user wants TASK no more.  */
bool smn_dialogue_cancelled(const struct smn_session *s,
                            const struct smn_task *task);

/* Something is there to be read, and some reply is awaited.  */
bool smn_dialogue_pending(const struct smn_session *s);

/* Read the replies that came before their turn was confirmed (s->early).  */
enum smn_kind smn_dialogue_confirm(struct smn_session *s,
                                   const struct smn_task *task);

/* Ask the concatenation of A and B (NULL: nothing), and read its reply.  */
enum smn_kind smn_dialogue_command(struct smn_session *s,
                                   const struct smn_task *task,
                                   enum smn_asked asked, const char *a,
                                   const char *b);

/* The same for the line of AUTH in s->command, which is wiped.  The trace shows
   SHOWN instead, if given.  */
enum smn_kind smn_dialogue_secret(struct smn_session *s,
                                  const struct smn_task *task,
                                  const char *shown);

/* SMN_OK if the reply has the code WANTED, or is of the class WANTED (2 to 5);
   else its refusal, or SMN_PROTOCOL for a reply that is out of step.  */
enum smn_kind smn_dialogue_expect(struct smn_session *s,
                                  const struct smn_task *task, int wanted);
enum smn_kind smn_dialogue_unexpected(struct smn_session *s,
                                      const struct smn_task *task);

/* The last reply as smn_result_shown gives it, without its code and with it. */
char *smn_dialogue_words(const struct smn_session *s);
char *smn_dialogue_reply(const struct smn_session *s);

#endif
