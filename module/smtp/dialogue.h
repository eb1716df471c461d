/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dialogue.h - commands out, replies in, and no secret in what is shown.
   Shared by the files that make up a session (session.c, transaction.c), and
   by nobody else.  One thread owns the struct smn_session; the task in focus
   is borrowed.  Replies are untrusted: they reach the observer and the result
   only with the secrets of this session taken out, because a server may echo
   them.  */
#ifndef SMN_DIALOGUE_H
#define SMN_DIALOGUE_H

#include "mail/content.h"
#include "net/conn.h"
#include "net/trust.h"
#include "smtp/reply.h"
#include "smtp/session.h"

#define SMN_COMMAND_MAX 16384 /* longer than any line that we may send */

struct smn_session {
  const struct smn_task *task; /* in focus: whom commands and replies concern;
                                  NULL between two mails */
  struct smn_error *err;       /* that of its result */
  struct smn_error nobodys;    /* while none is in focus */
  struct smn_conn *conn;       /* NULL while there is none */
  struct smn_reply reply;
  struct smn_capabilities caps;
  struct smn_buf command;   /* secret: the line that is being sent */
  struct smn_buf needles;   /* secret: what is never to be shown, redact.h */
  struct smn_buf flight;    /* commands that are to leave together */
  struct smn_blocks blocks; /* of the mail whose content is being sent */
  char mechanism[32];       /* that AUTH succeeded with */
  char notes[512];          /* as in the result */
  struct smn_trust *trust;  /* loaded before the connection is made */
  struct smn_seen *seen;    /* of the server by TLS, or NULL */
  unsigned mails;           /* begun on this connection */
  bool dirty;               /* RSET is due before the next MAIL */
  bool listening;           /* the server waits for a command: QUIT is heard */
  bool greeting_owed;       /* commands have left before the greeting, */
  bool hello_owed;          /* and before the reply to EHLO */
  bool early_failed;        /* what then came was not what they relied on */
  bool plain_dialogue; /* no pipelining: it broke before, or is to be avoided */
};

/* Turn to TASK: its observer hears, its result is filled.  NULL: to none.  */
void smn_dialogue_focus(struct smn_session *s, const struct smn_task *task);

void smn_dialogue_trace(const struct smn_session *s, bool from_server,
                        const char *text, size_t len);

/* Send the line in s->command behind those that are to leave together; the
   trace shows SHOWN instead, if given.  */
enum smn_kind smn_dialogue_send(struct smn_session *s, const char *shown);

/* Send the concatenation of A to C (NULL: nothing) and read the reply.  */
enum smn_kind smn_dialogue_command(struct smn_session *s, const char *a,
                                   const char *b, const char *c);

/* Put the line TEXT behind those that are to leave together.  SMN_USAGE for CR,
   LF or too much of it.  */
enum smn_kind smn_dialogue_add(struct smn_session *s, const char *text);
/* Let them leave.  */
enum smn_kind smn_dialogue_flush(struct smn_session *s);

/* Read one reply into s->reply, within the timeout times FACTOR.  Before it
   come the replies that are owed: they fail unless they are as they were when
   the server offered PIPECONNECT.  */
enum smn_kind smn_dialogue_read(struct smn_session *s, int factor);

/* SMN_OK if the reply has the code WANTED, or is of the class WANTED (2 to 5);
   else its refusal, or SMN_PROTOCOL for a reply that is out of step.  */
enum smn_kind smn_dialogue_expect(struct smn_session *s, int wanted);
enum smn_kind smn_dialogue_unexpected(struct smn_session *s);

/* The last reply as smn_result_shown gives it, without its code and with it. */
char *smn_dialogue_words(const struct smn_session *s);
char *smn_dialogue_reply(const struct smn_session *s);

#endif
