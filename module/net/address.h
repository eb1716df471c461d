/* SPDX-License-Identifier: GPL-3.0-or-later */
/* address.h - how a user writes a server: a domain name, or an address, which
   may stand in brackets as in a mail address (RFC 5321 4.1.3).  Nothing is
   owned; any thread.  */
#ifndef SMN_ADDRESS_H
#define SMN_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#define SMN_HOST_SIZE 256 /* octets of a name, with the NUL that ends it */

struct smn_address {
  char text[SMN_HOST_SIZE]; /* a name as A-label, or an address as it was
                               written, without brackets and zone */
  int family;               /* AF_INET or AF_INET6; AF_UNSPEC: a name */
  unsigned char octets[16]; /* in network order */
  unsigned len;             /* of octets, 0 for a name */
};

/* Read HOST; false if it is neither an address nor a domain name.  */
bool smn_address_read(struct smn_address *address, const char *host);

/* Copy HOST without its brackets, if it has any; false if that does not fit. */
bool smn_address_bare(const char *host, char *out, size_t size);

/* Write the A-label form (IDNA 2008) of the domain NAME (UTF-8) into OUT:
   letters, digits, '-', '_' and '.' only.  False when it has none or does not
   fit.  */
bool smn_address_idna(const char *name, char *out, size_t size);

#endif
