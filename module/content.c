/* SPDX-License-Identifier: GPL-3.0-or-later */
/* content.c - the octets of a message, from its file to the wire.  */
#include "content.h"
#include "buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

static enum smn_kind measure(struct smn_content *content,
                             struct smn_blocks *blocks, struct smn_error *err) {
  struct smn_wire wire;
  size_t len = 0;
  smn_wire_init(&wire, true);
  enum smn_kind kind;
  while ((kind = read_block(content, blocks, &len, err)) == SMN_OK && len > 0)
    smn_wire_count(&wire, blocks->in, len);
  smn_wire_count_end(&wire);
  content->octets = wire.octets;
  content->eight_bit = wire.eight_bit;
  return kind;
}

enum smn_kind smn_content_open(struct smn_content *content, const char *file,
                               struct smn_blocks *blocks,
                               struct smn_error *err) {
  struct stat stat;
  *content = (struct smn_content){.file = file};
  content->fd = open(file, O_RDONLY | O_CLOEXEC);
  if (content->fd < 0 || fstat(content->fd, &stat) != 0)
    return smn_fail_errno(err, SMN_FILE, errno, "cannot open %s", file);
  if (!S_ISREG(stat.st_mode))
    return smn_fail(err, SMN_FILE, "%s is not a regular file", file);
  content->size = (uint64_t)stat.st_size;
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
  for (size_t from = 0; from < len; from += used)
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
  if (content->fd >= 0)
    close(content->fd);
  content->fd = -1;
}
