/* SPDX-License-Identifier: GPL-3.0-or-later */
/* buf.c - bounded, wiped bytes.  */
#include "base/buf.h"

#include <gnutls/gnutls.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void smn_wipe(void *bytes, size_t len) {
  if (len)
    gnutls_memset(bytes, 0, len);
}

void smn_buf_init(struct smn_buf *buf, size_t max) {
  *buf = (struct smn_buf){.max = max};
}

bool smn_buf_init_secret(struct smn_buf *buf, size_t max) {
  smn_buf_init(buf, max);
  void *pages = mmap(NULL, max + 1, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED) {
    buf->max = 0;
    return false;
  }
  /* Both are best effort: RLIMIT_MEMLOCK may be small.  */
  (void)mlock(pages, max + 1);
#if defined MADV_DONTDUMP
  (void)madvise(pages, max + 1, MADV_DONTDUMP);
#elif defined MADV_NOCORE
  (void)madvise(pages, max + 1, MADV_NOCORE);
#endif
  buf->data = pages;
  buf->cap = max;
  buf->secret = true;
  return true;
}

/* Move to a larger block; realloc would leave the old octets behind.  */
static bool grow(struct smn_buf *buf, size_t need) {
  size_t cap = buf->cap < 256 ? 256 : buf->cap;
  while (cap < need)
    cap = cap > SIZE_MAX / 2 ? need : cap * 2;
  if (cap > buf->max)
    cap = buf->max;
  char *data = malloc(cap + 1);
  if (!data)
    return false;
  if (buf->data) {
    memcpy(data, buf->data, buf->len);
    smn_wipe(buf->data, buf->cap);
    free(buf->data);
  }
  data[buf->len] = '\0';
  buf->data = data;
  buf->cap = cap;
  return true;
}

char *smn_buf_reserve(struct smn_buf *buf, size_t len) {
  if (len > buf->max - buf->len)
    return NULL;
  if ((!buf->data || len > buf->cap - buf->len) && !grow(buf, buf->len + len))
    return NULL;
  return buf->data + buf->len;
}

bool smn_buf_add(struct smn_buf *buf, const void *bytes, size_t len) {
  char *room = smn_buf_reserve(buf, len);
  if (!room)
    return false;
  if (len)
    memcpy(room, bytes, len);
  buf->len += len;
  buf->data[buf->len] = '\0';
  return true;
}

bool smn_buf_add_string(struct smn_buf *buf, const char *string) {
  return smn_buf_add(buf, string, strlen(string));
}

bool smn_buf_add_base64(struct smn_buf *buf, const void *bytes, size_t len) {
  gnutls_datum_t raw = {(unsigned char *)(size_t)bytes, (unsigned)len};
  gnutls_datum_t text = {NULL, 0};
  if (gnutls_base64_encode2(&raw, &text) != 0)
    return false;
  bool fits = smn_buf_add(buf, text.data, text.size);
  smn_wipe(text.data, text.size);
  gnutls_free(text.data);
  return fits;
}

void smn_buf_consume(struct smn_buf *buf, size_t len) {
  if (len == 0)
    return;
  size_t rest = buf->len - len;
  memmove(buf->data, buf->data + len, rest);
  smn_wipe(buf->data + rest, len);
  buf->len = rest;
  buf->data[rest] = '\0';
}

void smn_buf_clear(struct smn_buf *buf) {
  if (buf->data)
    smn_wipe(buf->data, buf->cap);
  buf->len = 0;
}

void smn_buf_free(struct smn_buf *buf) {
  if (!buf->data)
    return;
  smn_wipe(buf->data, buf->cap);
  if (buf->secret)
    munmap(buf->data, buf->cap + 1);
  else
    free(buf->data);
  buf->data = NULL;
  buf->len = buf->cap = 0;
}

/* What a library's frames have left below the caller's.  */
__attribute__((noinline)) static void scrub_stack(void) {
  char frames[65536];
  smn_wipe(frames, sizeof frames);
}

void smn_scrub_heap(size_t len) {
  scrub_stack();
  enum { BLOCKS = 24, SMALLEST = 16, BESIDE = 512, LARGEST = 2048 };
  void *blocks[BLOCKS];
  size_t largest = len > LARGEST ? LARGEST : BESIDE + 4 * len;
  for (size_t size = SMALLEST; size <= largest && size <= LARGEST; size += 16) {
    for (int i = 0; i < BLOCKS; i++) {
      blocks[i] = malloc(size);
      if (blocks[i])
        smn_wipe(blocks[i], size);
    }
    for (int i = 0; i < BLOCKS; i++)
      free(blocks[i]);
  }
}
