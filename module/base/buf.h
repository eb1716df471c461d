/* SPDX-License-Identifier: GPL-3.0-or-later */
/* buf.h - bounded, wiped bytes.
   The caller of an init function owns the buffer and frees it.  A buffer never
   grows beyond its maximum, its octets are wiped before memory goes back, and
   a secret one lives in pages of its own: locked where the system allows it,
   left out of core dumps.  One thread at a time.  */
#ifndef SMN_BUF_H
#define SMN_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct smn_buf {
  char *data; /* always followed by one NUL that len does not count */
  size_t len;
  size_t cap;
  size_t max;
  bool secret;
};

/* A buffer of at most MAX octets; it holds no memory yet.  */
void smn_buf_init(struct smn_buf *buf, size_t max);

/* A secret buffer; its MAX octets are set aside at once and never move, so
   no copy is left behind.  False, with an empty buffer, without memory.  */
bool smn_buf_init_secret(struct smn_buf *buf, size_t max);

/* Append; false, with the buffer unchanged, when it would pass its maximum
   or there is no memory.  */
bool smn_buf_add(struct smn_buf *buf, const void *bytes, size_t len)
    __attribute__((warn_unused_result));
bool smn_buf_add_string(struct smn_buf *buf, const char *string)
    __attribute__((warn_unused_result));

/* The same, in base64 without line ends; LEN is not 0.  */
bool smn_buf_add_base64(struct smn_buf *buf, const void *bytes, size_t len)
    __attribute__((warn_unused_result));

/* Make room for LEN more octets and return where they go, NULL as above; the
   caller writes there and then adds to len, not beyond.  */
char *smn_buf_reserve(struct smn_buf *buf, size_t len)
    __attribute__((warn_unused_result));

/* Drop the first LEN octets.  */
void smn_buf_consume(struct smn_buf *buf, size_t len);

/* Forget (and wipe) the content, keep the memory.  */
void smn_buf_clear(struct smn_buf *buf);

/* Wipe and give back; harmless when repeated or on an all-zero struct.  */
void smn_buf_free(struct smn_buf *buf);

/* Wipe the LEN octets at BYTES in a way that is not optimised away.  */
void smn_wipe(void *bytes, size_t len);

/* A library may free copies of a secret without wiping them.  All that can be
   done from outside is to be given the same small blocks again, which the
   allocator hands to the thread that has freed them, and to wipe them: those
   that hold a secret of LEN octets with what goes with it, or its base64.
   What its frames have left on the stack below the caller's is wiped, too.  */
void smn_scrub_heap(size_t len);

#endif
