/* SPDX-License-Identifier: GPL-3.0-or-later */
/* content.c - the octets of a message, from its file to the wire.  */
#include "mail/content.h"
#include "base/buf.h"
#include "base/errand.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE 1048576     /* octets from which on a thread is worth it */
#define MEASURE_MS 600000 /* that a file may take to be read */

/* A line that is one dot and LF doubles.  Before a block there may be a rest of
   the last one, behind it an end.  */
#define OUT_SIZE (3 * SMN_BLOCK + SMN_COMMANDS_MAX)

bool smn_blocks_init(struct smn_blocks *blocks) {
  *blocks =
      (struct smn_blocks){.in = malloc(SMN_BLOCK), .out = malloc(OUT_SIZE)};
  return blocks->in && blocks->out;
}

void smn_blocks_free(struct smn_blocks *blocks) {
  if (blocks->in)
    smn_wipe(blocks->in, blocks->in_used);
  if (blocks->out)
    smn_wipe(blocks->out, blocks->out_used);
  free(blocks->in);
  free(blocks->out);
  *blocks = (struct smn_blocks){.in = NULL};
}

/* Read at most a block of the file; *LEN 0 at its end.  */
static enum smn_kind read_block(const struct smn_content *content,
                                struct smn_blocks *blocks, size_t *len,
                                struct smn_error *err) {
  ssize_t n;
  do
    n = read(content->fd, blocks->in, SMN_BLOCK);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return smn_fail_errno(err, SMN_FILE, errno, "cannot read %s",
                          content->file);
  *len = (size_t)n;
  if (*len > blocks->in_used)
    blocks->in_used = *len;
  return SMN_OK;
}

static void take_measure(struct smn_content *content, struct smn_wire *wire) {
  smn_wire_count_end(wire);
  content->octets = wire->octets;
  content->eight_bit = wire->eight_bit;
}

static enum smn_kind measure(struct smn_content *content,
                             struct smn_blocks *blocks, struct smn_error *err) {
  struct smn_wire wire;
  size_t len = 0;
  smn_wire_init(&wire, true);
  enum smn_kind kind;
  while ((kind = read_block(content, blocks, &len, err)) == SMN_OK && len > 0)
    smn_wire_count(&wire, blocks->in, len);
  take_measure(content, &wire);
  return kind;
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

enum smn_kind smn_content_measured(struct smn_content *content, int cancel_fd,
                                   struct smn_error *err) {
  struct smn_measure *m = content->measure;
  if (!m)
    return SMN_OK;
  content->measure = NULL;
  enum smn_kind kind = smn_errand_wait(&m->errand, MEASURE_MS, cancel_fd, err);
  if (kind != SMN_OK)
    return kind;
  if (m->errnum)
    kind = smn_fail_errno(err, SMN_FILE, m->errnum, "cannot read %s",
                          content->file);
  take_measure(content, &m->wire);
  smn_errand_release(&m->errand);
  return kind;
}

enum smn_kind smn_content_open(struct smn_content *content, const char *file,
                               bool raw, struct smn_blocks *blocks,
                               struct smn_error *err) {
  *content = (struct smn_content){.file = file, .raw = raw};
  enum smn_kind kind =
      smn_file_open_named(file, "message", &content->fd, &content->size, err);
  content->octets = content->size;
  if (kind != SMN_OK || raw)
    return kind;
  if (content->size >= LARGE && start_measure(content))
    return SMN_OK;
  return measure(content, blocks, err);
}

enum smn_kind smn_content_begin(struct smn_content *content, bool stuff,
                                struct smn_error *err) {
  content->done = 0;
  content->ended = false;
  smn_wire_init(&content->wire, stuff);
  if (lseek(content->fd, 0, SEEK_SET) != 0)
    return smn_fail_errno(err, SMN_FILE, errno, "cannot read %s",
                          content->file);
  return SMN_OK;
}

enum smn_kind smn_content_fill(struct smn_content *content,
                               struct smn_blocks *blocks,
                               struct smn_error *err) {
  size_t len = 0, used = 0;
  enum smn_kind kind = read_block(content, blocks, &len, err);
  if (kind != SMN_OK)
    return kind;
  if (content->raw) {
    memcpy(blocks->out + blocks->len, blocks->in, len);
    blocks->len += len;
    content->wire.octets += len;
  }
  for (size_t from = 0; !content->raw && from < len; from += used)
    blocks->len += smn_wire_encode(&content->wire, blocks->in + from,
                                   len - from, &used, blocks->out + blocks->len,
                                   OUT_SIZE - SMN_COMMANDS_MAX - blocks->len);
  if (blocks->len > blocks->out_used)
    blocks->out_used = blocks->len;
  content->done += len;
  content->ended = len == 0 || content->done >= content->size;
  if (content->ended && content->done != content->size)
    return smn_fail(err, SMN_FILE, "%s changed while it was read",
                    content->file);
  return SMN_OK;
}

void smn_content_close(struct smn_content *content) {
  struct smn_error ignored;
  if (content->measure &&
      smn_errand_wait(&content->measure->errand, 0, -1, &ignored) == SMN_OK)
    smn_errand_release(&content->measure->errand);
  content->measure = NULL;
  if (content->fd >= 0)
    close(content->fd);
  content->fd = -1;
}
