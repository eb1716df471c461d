/* SPDX-License-Identifier: GPL-3.0-or-later */
/* content.h - the octets of a message, from its file to the wire.
   The file is read and not mapped: one that another program cuts short is an
   error then, while a mapped one would end Emacs by SIGBUS.  A message is read
   block by block, so that its size costs no memory.  One thread; the name of
   the file is borrowed.  */
#ifndef SMN_CONTENT_H
#define SMN_CONTENT_H

#include "base/error.h"
#include "mail/wire.h"

struct smn_measure;

#define SMN_BLOCK 262144     /* octets of the file that are read at once */
#define SMN_BLOCK_ROOM 65536 /* octets around a block, for commands */

/* Room for the blocks of one message after the other.  */
struct smn_blocks {
  char *in;   /* SMN_BLOCK octets */
  char *room; /* that OUT stands in */
  char *out;  /* what is written next, LEN octets; SMN_BLOCK_ROOM octets before
                 and after it are for those who write it */
  size_t len;
  size_t in_used, out_used; /* so many have held something */
  const struct smn_content
      *holder; /* whose whole file, of HELD octets, still */
  size_t held; /* stands in IN */
};

bool smn_blocks_init(struct smn_blocks *blocks); /* false: no memory */
void smn_blocks_free(struct smn_blocks *blocks); /* wiped; once or more */

struct smn_content {
  int fd; /* -1: not open */
  const char *file;
  uint64_t size;               /* octets of the file */
  uint64_t done;               /* so many of them have been converted */
  uint64_t octets;             /* of the message, as SIZE counts */
  bool eight_bit;              /* some octet is above 127 */
  bool long_line;              /* some line is longer than SMN_WIRE_LINE_MAX */
  bool ended;                  /* all of it has been converted */
  bool raw;                    /* its octets go as they are (BINARYMIME) */
  bool known;                  /* octets, eight_bit and long_line are */
  struct smn_measure *measure; /* they are still to come */
  struct smn_wire wire;
};

/* Open FILE and begin to measure it, a large one in a thread of its own while
   the connection is made; what is RAW is as large as its file.  SMN_FILE names
   what failed; either way smn_content_close is harmless.  *CONTENT must not
   move until then.  */
enum smn_kind smn_content_open(struct smn_content *content, const char *file,
                               bool raw, struct smn_blocks *blocks,
                               struct smn_error *err);

/* octets and eight_bit are known, or will be without waiting.  */
bool smn_content_ready(const struct smn_content *content);

/* Make octets and eight_bit known: SIZE and BODY come before the content, and
   need all of it.  CANCEL_FD as in smn_wait.  What has failed once fails
   again.  */
enum smn_kind smn_content_measured(struct smn_content *content, int cancel_fd,
                                   struct smn_error *err);

/* Begin, maybe again, to convert: with doubled dots and an end (DATA) if STUFF,
   without (BDAT) otherwise.  */
void smn_content_begin(struct smn_content *content, bool stuff);

/* Convert the next block of the file, after what stands in blocks->out.  */
enum smn_kind smn_content_fill(struct smn_content *content,
                               struct smn_blocks *blocks,
                               struct smn_error *err);

/* After the last block: add what ends the message, and check that it was what
   had been measured.  */
enum smn_kind smn_content_finish(struct smn_content *content,
                                 struct smn_blocks *blocks,
                                 struct smn_error *err);

void smn_content_close(struct smn_content *content, struct smn_blocks *blocks);

#endif
