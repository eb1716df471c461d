/* SPDX-License-Identifier: GPL-3.0-or-later */
/* address.c - how a user writes a server.  */
#include "net/address.h"
#include "base/ascii.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

bool smn_address_bare(const char *host, char *out, size_t size) {
  size_t len = strlen(host);
  bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
  if (bracketed)
    len -= 2;
  if (len >= size)
    return false;
  memcpy(out, host + bracketed, len);
  out[len] = '\0';
  return true;
}

/* The mapping would drop some of them.  */
static bool has_controls(const char *name) {
  for (; *name; name++)
    if ((unsigned char)*name <= ' ' || *name == 0x7f)
      return true;
  return false;
}

/* GnuTLS hands on what is ASCII, slashes included.  */
static bool is_name(const unsigned char *text, size_t len) {
  for (size_t i = 0; i < len; i++) {
    const char c = (char)text[i];
    if (!smn_ascii_letter(c) && !(c >= '0' && c <= '9') &&
        !(c && strchr("-_.", c)))
      return false;
  }
  return len > 0;
}

bool smn_address_idna(const char *name, char *out, size_t size) {
  gnutls_datum_t ascii = {NULL, 0};
  if (has_controls(name) ||
      gnutls_idna_map(name, (unsigned)strlen(name), &ascii, 0) != 0)
    return false;
  bool fits = ascii.size < size && is_name(ascii.data, ascii.size);
  if (fits)
    snprintf(out, size, "%s", ascii.data);
  gnutls_free(ascii.data);
  return fits;
}

bool smn_address_read(struct smn_address *address, const char *host) {
  char *text = address->text;
  *address = (struct smn_address){.family = AF_UNSPEC};
  if (!smn_address_bare(host, text, sizeof address->text))
    return false;
  char *zone = strchr(text, '%'); /* of this machine, and for it alone */
  if (zone)
    *zone = '\0';
  if (inet_pton(AF_INET6, text, address->octets) == 1) {
    address->family = AF_INET6;
    address->len = 16;
  } else if (!zone && inet_pton(AF_INET, text, address->octets) == 1) {
    address->family = AF_INET;
    address->len = 4;
  }
  return address->len > 0 || smn_address_idna(host, text, sizeof address->text);
}
