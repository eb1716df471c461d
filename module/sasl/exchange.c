/* SPDX-License-Identifier: GPL-3.0-or-later */
/* exchange.c - what several mechanisms share.  */
#include "sasl/exchange.h"

#include <string.h>

static bool has_control(const char *text) {
  for (; text && *text; text++)
    if ((unsigned char)*text < ' ' || *text == 0x7f)
      return true;
  return false;
}

enum smn_kind smn_credentials_check(const char *user, const char *authzid,
                                    const struct smn_buf *password,
                                    struct smn_error *err) {
  if (has_control(user))
    return smn_fail(err, SMN_USAGE,
                    "the user name contains a control character");
  if (has_control(authzid))
    return smn_fail(err, SMN_USAGE,
                    "the authorization identity contains a control character");
  if (password->len && memchr(password->data, '\0', password->len))
    return smn_fail(err, SMN_USAGE, "the password contains a NUL");
  return SMN_OK;
}

bool smn_saslname_add(struct smn_buf *buf, const char *name) {
  bool fits = true;
  for (const char *at = name; fits && *at; at++)
    fits = *at == ','   ? smn_buf_add_string(buf, "=2C")
           : *at == '=' ? smn_buf_add_string(buf, "=3D")
                        : smn_buf_add(buf, at, 1);
  return fits;
}
