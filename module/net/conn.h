/* SPDX-License-Identifier: GPL-3.0-or-later */
/* conn.h - a connection, plain or TLS: connect, read a line, write.
   The caller owns a struct smn_conn and uses it from one thread at a time.
   Every wait ends at its deadline or as soon as CANCEL_FD becomes readable,
   whichever comes first.  All that is read is untrusted.  Nothing here raises
   SIGPIPE, and descriptors are close-on-exec.  */
#ifndef SMN_CONN_H
#define SMN_CONN_H

#include "base/buf.h"
#include "base/error.h"
#include "net/tls.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMN_LINE_MAX 8192 /* octets of one line of the server */

struct smn_conn;

/* Where to connect to.  All is borrowed for the call.  */
struct smn_conn_to {
  const char *host;   /* name, address, or local socket (smn_conn_local) */
  int port;           /* of no meaning to a local socket */
  const char *source; /* address to connect from, NULL: the system decides */
  const char
      *proxy; /* URL, see proxy.h; NULL: none.  Local sockets need none */
};

/* Connect to TO, whose name may have many addresses, see connect.h.  TIMEOUT_MS
   bounds each wait (one address, one write that makes no progress).  CANCEL_FD
   is as in smn_conn_heed.  err->stage is set
   to SMN_STAGE_RESOLVE, then SMN_STAGE_CONNECT.  When every address fails, *err
   tells of each (address: reason).  What fails on the way through a proxy names
   it, and the other end is then never this machine.  */
enum smn_kind smn_conn_open(struct smn_conn **conn,
                            const struct smn_conn_to *to, int timeout_ms,
                            int cancel_fd, struct smn_error *err);

/* From here on the wish to cancel comes by CANCEL_FD, -1 for none.  It is
   borrowed until another comes: each message has its own.  */
void smn_conn_heed(struct smn_conn *conn, int cancel_fd);

/* The file name in HOST, if that means a local socket: "/FILE" or "unix:/FILE";
   else NULL.  Points into HOST.  */
const char *smn_conn_local(const char *host);

/* Begin TLS.  Octets that came before it are refused: SMN_PROTOCOL, because
   an attacker who injected them could speak for the server (RFC 3207, section
   6).  */
enum smn_kind smn_conn_start_tls(struct smn_conn *conn,
                                 const struct smn_tls_options *options,
                                 struct smn_error *err);

/* Start the clock for what is read next: MS milliseconds from now for all
   smn_conn_read_line calls together until it is set again.  What has come by
   then is read later, too.  */
void smn_conn_deadline(struct smn_conn *conn, int64_t ms);

/* Read one line, at most SMN_LINE_MAX octets with its end (LF or CRLF, not
   part of the result).  *LINE points into the connection and is valid until
   the next call.  SMN_PROTOCOL: too long; SMN_NETWORK: closed or broken.  */
enum smn_kind smn_conn_read_line(struct smn_conn *conn, const char **line,
                                 size_t *len, struct smn_error *err);

/* The server has spoken: octets of it are there, or the connection has ended or
   failed, as reading then tells.  What TLS sends for its own use (tickets, new
   keys, warnings) is read, as far as it is there, and counts for nothing, and
   nor does a cancel.  Does not wait; not to be called between two tries of one
   write.  */
bool smn_conn_has_input(struct smn_conn *conn);

/* CANCEL_FD is readable.  */
bool smn_conn_cancelled(const struct smn_conn *conn);

/* Write all of it; nothing is held back.  */
enum smn_kind smn_conn_write(struct smn_conn *conn, const void *bytes,
                             size_t len, struct smn_error *err);

/* How many octets of the last smn_conn_write may have arrived although it has
   failed; no more of them ever will.  */
size_t smn_conn_written(const struct smn_conn *conn);

bool smn_conn_encrypted(const struct smn_conn *conn);

/* The other end is this machine: 127.0.0.0/8, ::1 (also as ::ffff:127.…) or a
   local socket.  */
bool smn_conn_loopback(const struct smn_conn *conn);

/* Room for what smn_conn_literal writes.  */
#define SMN_LITERAL_MAX 64

/* Write the address of this end of the connection to LITERAL, as RFC 5321
   4.1.3 has it: [192.0.2.1] or [IPv6:2001:db8::1]; "localhost" for a local
   socket.  */
void smn_conn_literal(const struct smn_conn *conn,
                      char literal[SMN_LITERAL_MAX]);

/* What TLS showed, NULL without TLS; kept after a failed handshake.  */
const struct smn_tls_info *smn_conn_tls_info(const struct smn_conn *conn);

/* The TLS session for channel binding, NULL without TLS.  */
struct smn_tls *smn_conn_tls(struct smn_conn *conn);

/* Close at once: close_notify if it needs no waiting.  NULL is harmless.  */
void smn_conn_close(struct smn_conn *conn);

#endif
