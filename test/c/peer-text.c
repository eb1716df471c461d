/* SPDX-License-Identifier: GPL-3.0-or-later */
/* peer-text.c - growing octets for the peer.
   A test that has no memory left proves nothing, so it ends at once.  */
#include "peer.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void no_memory(void) {
  fputs("peer: no memory\n", stderr);
  abort();
}

void *peer_alloc(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory)
    no_memory();
  return memory;
}

static void reserve(struct peer_text *text, size_t len) {
  if (text->data && text->cap - text->len > len)
    return;
  size_t cap = (text->len + len + 1) * 2;
  char *data = realloc(text->data, cap);
  if (!data)
    no_memory();
  text->data = data;
  text->cap = cap;
}

void peer_text_add(struct peer_text *text, const char *bytes, size_t len) {
  reserve(text, len);
  if (len)
    memcpy(text->data + text->len, bytes, len);
  text->len += len;
  text->data[text->len] = '\0';
}

void peer_text_print(struct peer_text *text, const char *format, ...) {
  va_list args;
  va_start(args, format);
  int len = vsnprintf(NULL, 0, format, args);
  va_end(args);
  if (len < 0)
    return;
  reserve(text, (size_t)len);
  va_start(args, format);
  vsnprintf(text->data + text->len, (size_t)len + 1, format, args);
  va_end(args);
  text->len += (size_t)len;
}

void peer_text_cut(struct peer_text *text, size_t len) {
  if (!text->data)
    return;
  memmove(text->data, text->data + len, text->len - len + 1);
  text->len -= len;
}

void peer_text_free(struct peer_text *text) {
  free(text->data);
  *text = (struct peer_text){0};
}

void peer_text_show(FILE *out, const char *bytes, size_t len) {
  size_t shown = len > 300 ? 300 : len;
  for (size_t i = 0; i < shown; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (c == '\\')
      fputs("\\\\", out);
    else if (c < 0x20 || c >= 0x7f)
      fprintf(out, "\\x%02x", c);
    else
      putc(c, out);
  }
  if (shown < len)
    fprintf(out, "... (%zu octets)", len);
}
