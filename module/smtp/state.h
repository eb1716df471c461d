/* SPDX-License-Identifier: GPL-3.0-or-later */
/* state.h - the state of a connection: what is owed, what waits, what is half
   said.
   A command enters the flight together with the reply that it will have, and a
   reply is taken only as the answer to the command that is next in turn.  What
   may be said depends on this value and on nothing else.  It does no I/O, and
   belongs to the thread of the session.  Tasks are borrowed and only compared;
   smn_state_forget ends that.  */
#ifndef SMN_STATE_H
#define SMN_STATE_H

#include "base/buf.h"
#include <stdbool.h>
#include <stddef.h>

#define SMN_FLIGHT_MAX 65536 /* octets of commands that leave together */

struct smn_task;

/* What a reply answers.  */
enum smn_asked {
  SMN_ASKED_NOTHING, /* the greeting comes by itself */
  SMN_ASKED_EHLO,    /* or LHLO, or HELO */
  SMN_ASKED_STARTTLS,
  SMN_ASKED_AUTH, /* and each response of its exchange */
  SMN_ASKED_RSET,
  SMN_ASKED_MAIL,
  SMN_ASKED_RCPT,
  SMN_ASKED_DATA,
  SMN_ASKED_CHUNK, /* BDAT */
  SMN_ASKED_LAST,  /* BDAT that says LAST */
  SMN_ASKED_END    /* the end of data */
};

/* One reply that is still to come.  */
struct smn_owed {
  enum smn_asked asked;
  const struct smn_task *task; /* the message that it concerns */
  size_t recipient;            /* RCPT, and for LMTP LAST and END: its number */
  size_t at; /* where the line of its command begins in the flight */
};

enum smn_phase {
  SMN_PHASE_NONE,    /* there is no connection */
  SMN_PHASE_UP,      /* both sides listen */
  SMN_PHASE_PARTING, /* the server has said goodbye, or writing has failed: what
                       it still says counts, and no command is heard */
  SMN_PHASE_LOST     /* nothing that is read has a meaning any more */
};

struct smn_state {
  enum smn_phase phase;
  struct smn_owed *owed; /* a ring: COUNT of ROOM from FIRST on, in the order
                            in which the replies come */
  size_t first, count, room;
  size_t unsent; /* so many of them, the last ones, stand in the flight */
  struct smn_buf flight;
  size_t cut;   /* where content belongs in the flight */
  bool several; /* the end of data is answered more than once (LMTP) */
  bool open;    /* the server has a transaction that RSET would end */
  bool lmtp;    /* the end of data is answered once for each recipient */
  bool content; /* it takes all that comes for content, up to an end of data */
  bool chunk;   /* BDAT is in the flight, its octets belong to it */
  const struct smn_task *speaker; /* whose envelope was begun last */
  enum smn_asked last;            /* what was asked for it last */
};

void smn_state_init(struct smn_state *state);
void smn_state_free(struct smn_state *state);

/* A connection has been made: the server owes the greeting, which concerns
   TASK.  False: no memory.  */
bool smn_state_begin(struct smn_state *state, const struct smn_task *task);

/* There is no connection any more; what was owed will never come.  */
void smn_state_end(struct smn_state *state);

/* May another message use this connection?  No, if anything is owed, waits to
   be sent or is half said.  */
bool smn_state_settled(const struct smn_state *state);

/* The envelope of TASK was begun, and nothing else is owed: TASK may go on.  */
bool smn_state_belongs(const struct smn_state *state,
                       const struct smn_task *task);

/* May ASKED be said for TASK now?  MAIL is, beside on a settled connection
   without a transaction, only for the message after one whose envelope is
   answered and whose end is said, if that is answered once: some servers give
   one reply where LMTP wants several, and what follows must not be taken for
   the others.  A chunk is only where nothing is owed to another message: the
   server may refuse the end of that and keep its recipients.  */
bool smn_state_may(const struct smn_state *state, enum smn_asked asked,
                   const struct smn_task *task);

/* Put LINE (without its end; NULL: what is asked is not a line) into the
   flight, and owe its reply.  SMN_ASK_*: nothing has changed otherwise.  */
enum smn_ask { SMN_ASK_DONE, SMN_ASK_OUT_OF_TURN, SMN_ASK_NO_MEMORY };
enum smn_ask smn_state_ask(struct smn_state *state, enum smn_asked asked,
                           const struct smn_task *task, size_t recipient,
                           const char *line)
    __attribute__((warn_unused_result));

/* The end of data is answered once more, for RECIPIENT (LMTP).  False: no
   memory.  */
bool smn_state_also(struct smn_state *state, size_t recipient)
    __attribute__((warn_unused_result));

/* The server speaks in the middle of the content, as if that had ended: it can
   only refuse it.  False: no memory.  */
bool smn_state_interrupted(struct smn_state *state, const struct smn_task *task)
    __attribute__((warn_unused_result));

/* All of the flight, and the octets of its chunk, have been written, or may
   have been.  */
void smn_state_left(struct smn_state *state);

/* Take back what has been asked for TASK and has not left.  */
void smn_state_withdraw(struct smn_state *state, const struct smn_task *task);

/* The reply that comes next, NULL if none is owed.  */
const struct smn_owed *smn_state_next(const struct smn_state *state);

/* That reply has come, with CODE.  */
struct smn_owed smn_state_answered(struct smn_state *state, int code);

/* How many replies are owed to TASK; and how many by commands that have left
   in all.  */
size_t smn_state_owes(const struct smn_state *state,
                      const struct smn_task *task);
size_t smn_state_awaited(const struct smn_state *state);

/* How many chunks of TASK are not answered yet.  */
size_t smn_state_chunks(const struct smn_state *state,
                        const struct smn_task *task);

/* The connection is PARTING, or LOST; it never gets better.  */
void smn_state_worsen(struct smn_state *state, enum smn_phase phase);

/* TASK is settled and must not be referred to any more: what it is still owed,
   or has half said, ends the use of the connection.  */
void smn_state_forget(struct smn_state *state, const struct smn_task *task);

#endif
