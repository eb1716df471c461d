/* SPDX-License-Identifier: GPL-3.0-or-later */
/* content.c - the octets of a message, from its file to the wire.  */
#include "mail/content.h"
#include "base/buf.h"
#include "base/errand.h"
#include "base/file.h"
#include "base/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE 1048576     /* octets from which on a thread is worth it */
#define MEASURE_MS 600000 /* that a file may take to be read */

/* A line that is one dot and LF doubles.  Before a block there may be a rest of
   the last one, after it an end.  */
#define OUT_SIZE (3 * SMN_BLOCK)

bool smn_blocks_init(struct smn_blocks *blocks) {
  *blocks = (struct smn_blocks){
      .in = malloc(SMN_BLOCK),
      .room = malloc(SMN_BLOCK_ROOM + OUT_SIZE + SMN_BLOCK_ROOM)};
  if (blocks->room)
    blocks->out = blocks->room + SMN_BLOCK_ROOM;
  return blocks->in && blocks->room;
}

void smn_blocks_free(struct smn_blocks *blocks) {
  if (blocks->in)
    smn_wipe(blocks->in, blocks->in_used);
  if (blocks->room)
    smn_wipe(blocks->out, blocks->out_used);
  free(blocks->in);
  free(blocks->room);
  *blocks = (struct smn_blocks){.in = NULL};
}

static enum smn_kind cannot_read(const struct smn_content *content, int errnum,
                                 struct smn_error *err) {
  return smn_fail_errno(err, SMN_FILE, errnum, "cannot read %s", content->file);
}

/* Read at most a block of the file from AT on; *LEN 0 at its end.  */
static enum smn_kind read_block(const struct smn_content *content, uint64_t at,
                                struct smn_blocks *blocks, size_t *len,
                                struct smn_error *err) {
  ssize_t n;
  blocks->holder = NULL;
  do
    n = pread(content->fd, blocks->in, SMN_BLOCK, (off_t)at);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return cannot_read(content, errno, err);
  *len = (size_t)n;
  if (*len > blocks->in_used)
    blocks->in_used = *len;
  return SMN_OK;
}

/* Measuring */

static void take_measure(struct smn_content *content, struct smn_wire *wire) {
  smn_wire_count_end(wire);
  content->octets = wire->octets;
  content->eight_bit = wire->eight_bit;
  content->long_line = wire->long_line;
  content->known = true;
}

/* A file that fits into one block is not read again for sending.  */
static enum smn_kind measure(struct smn_content *content,
                             struct smn_blocks *blocks, struct smn_error *err) {
  struct smn_wire wire;
  uint64_t at = 0;
  smn_wire_init(&wire, true);
  while (at < content->size) {
    size_t len = 0;
    enum smn_kind kind = read_block(content, at, blocks, &len, err);
    if (kind != SMN_OK)
      return kind;
    if (len == 0)
      break;
    smn_wire_count(&wire, blocks->in, len);
    at += len;
  }
  if (at == content->size && at <= SMN_BLOCK) {
    blocks->holder = content;
    blocks->held = (size_t)at;
  }
  take_measure(content, &wire);
  return SMN_OK;
}

/* The same in another thread, with its own block and descriptor.  */
struct smn_measure {
  struct smn_errand errand;
  int fd;
  int errnum; /* of reading, 0: all is read */
  struct smn_wire wire;
  char block[SMN_BLOCK];
};

static void run_measure(struct smn_errand *errand) {
  struct smn_measure *m = (struct smn_measure *)errand;
  off_t at = 0;
  ssize_t n;
  smn_wire_init(&m->wire, true);
  while ((n = pread(m->fd, m->block, sizeof m->block, at)) > 0 ||
         (n < 0 && errno == EINTR))
    if (n > 0) {
      smn_wire_count(&m->wire, m->block, (size_t)n);
      at += n;
    }
  m->errnum = n < 0 ? errno : 0;
}

static void end_measure(struct smn_errand *errand) {
  struct smn_measure *m = (struct smn_measure *)errand;
  smn_wipe(m->block, sizeof m->block);
  close(m->fd);
  free(m);
}

/* False: it has to be done here.  */
static bool start_measure(struct smn_content *content) {
  struct smn_error ignored;
  struct smn_measure *m = malloc(sizeof *m);
  if (!m)
    return false;
  m->errand.run = run_measure;
  m->errand.end = end_measure;
  m->fd = fcntl(content->fd, F_DUPFD_CLOEXEC, 0);
  if (m->fd < 0) {
    free(m);
    return false;
  }
  if (smn_errand_start(&m->errand, &ignored) != SMN_OK)
    return false;
  content->measure = m;
  return true;
}

bool smn_content_ready(const struct smn_content *content) {
  struct smn_error ignored;
  return content->known ||
         (content->measure &&
          smn_wait(content->measure->errand.wait_fd, SMN_WAIT_READ,
                   smn_now_ms(), -1, &ignored) == SMN_OK);
}

enum smn_kind smn_content_measured(struct smn_content *content, int cancel_fd,
                                   struct smn_error *err) {
  struct smn_measure *m = content->measure;
  if (content->known)
    return SMN_OK;
  if (!m)
    return smn_fail(err, SMN_FILE, "%s was not read to its end", content->file);
  content->measure = NULL;
  enum smn_kind kind = smn_errand_wait(&m->errand, MEASURE_MS, cancel_fd, err);
  if (kind != SMN_OK)
    return kind;
  if (m->errnum)
    kind = cannot_read(content, m->errnum, err);
  else
    take_measure(content, &m->wire);
  smn_errand_release(&m->errand);
  return kind;
}

/* Open and close */

enum smn_kind smn_content_open(struct smn_content *content, const char *file,
                               bool raw, struct smn_blocks *blocks,
                               struct smn_error *err) {
  *content = (struct smn_content){.file = file, .raw = raw, .known = raw};
  enum smn_kind kind =
      smn_file_open_named(file, "message", &content->fd, &content->size, err);
  content->octets = content->size;
  if (kind != SMN_OK || raw)
    return kind;
  if (content->size >= LARGE && start_measure(content))
    return SMN_OK;
  return measure(content, blocks, err);
}

void smn_content_close(struct smn_content *content, struct smn_blocks *blocks) {
  struct smn_error ignored;
  if (content->measure &&
      smn_errand_wait(&content->measure->errand, 0, -1, &ignored) == SMN_OK)
    smn_errand_release(&content->measure->errand);
  content->measure = NULL;
  if (blocks->holder == content)
    blocks->holder = NULL;
  if (content->fd >= 0)
    close(content->fd);
  content->fd = -1;
}

/* Converting */

void smn_content_begin(struct smn_content *content, bool stuff) {
  content->done = 0;
  content->ended = false;
  smn_wire_init(&content->wire, stuff);
}

static void convert(struct smn_content *content, struct smn_blocks *blocks,
                    size_t len) {
  if (content->raw) {
    memcpy(blocks->out + blocks->len, blocks->in, len);
    blocks->len += len;
    content->wire.octets += len;
    return;
  }
  for (size_t from = 0, used = 0; from < len; from += used)
    blocks->len +=
        smn_wire_encode(&content->wire, blocks->in + from, len - from, &used,
                        blocks->out + blocks->len, OUT_SIZE - blocks->len);
}

enum smn_kind smn_content_fill(struct smn_content *content,
                               struct smn_blocks *blocks,
                               struct smn_error *err) {
  size_t len = blocks->held;
  enum smn_kind kind = SMN_OK;
  if (blocks->holder != content || content->done > 0)
    kind = read_block(content, content->done, blocks, &len, err);
  if (kind != SMN_OK)
    return kind;
  convert(content, blocks, len);
  if (blocks->len > blocks->out_used)
    blocks->out_used = blocks->len;
  content->done += len;
  content->ended = len == 0 || content->done >= content->size;
  if (content->ended && content->done != content->size)
    return smn_fail(err, SMN_FILE, "%s changed while it was read",
                    content->file);
  return SMN_OK;
}

enum smn_kind smn_content_finish(struct smn_content *content,
                                 struct smn_blocks *blocks,
                                 struct smn_error *err) {
  blocks->len += smn_wire_end(&content->wire, blocks->out + blocks->len);
  if (content->wire.octets == content->octets)
    return SMN_OK;
  return smn_fail(err, SMN_FILE,
                  "%s has %" PRIu64 " octets instead of %" PRIu64
                  ", it was changed",
                  content->file, content->wire.octets, content->octets);
}
