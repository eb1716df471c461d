/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-early.c - what is remembered of servers that take commands early, and
   what is not.  */
#include "check.h"
#include "smtp/early.h"

#include <stdlib.h>
#include <string.h>

static const struct smn_capabilities offer = {
    .esmtp = true, .pipelining = true, .pipeconnect = true, .size_limit = 4711};

static struct smn_server server_of(char *host, int port,
                                   enum smn_stream stream) {
  return (struct smn_server){.host = host, .port = port, .stream = stream};
}

static bool known(const struct smn_server *server, bool encrypted) {
  struct smn_capabilities caps = {.size_limit = 0};
  return smn_early_recall(server, encrypted, &caps) && caps.size_limit == 4711;
}

/* What was offered in clear counts only where the user wants no TLS.  */
static void check_streams(void) {
  static const enum smn_stream streams[] = {
      SMN_STREAM_AUTO, SMN_STREAM_PLAIN, SMN_STREAM_STARTTLS, SMN_STREAM_TLS};
  for (size_t i = 0; i < 4; i++)
    for (int encrypted = 0; encrypted < 2; encrypted++) {
      struct smn_server server = server_of("streams", 25, streams[i]);
      smn_early_note(&server, encrypted, &offer);
      CHECK_INT(known(&server, encrypted),
                encrypted || streams[i] == SMN_STREAM_PLAIN);
    }
}

static void check_names(void) {
  struct smn_server server = server_of("names", 25, SMN_STREAM_TLS);
  smn_early_note(&server, true, &offer);
  CHECK(known(&server, true) && !known(&server, false));
  server.port = 26;
  CHECK(!known(&server, true));
  server = server_of("name", 25, SMN_STREAM_TLS);
  CHECK(!known(&server, true));
  server = server_of("names", 25, SMN_STREAM_AUTO);
  CHECK(!known(&server, true));
}

/* An offer without one of both is none, and takes back the one before.  */
static void check_offers(void) {
  struct smn_server server = server_of("offers", 25, SMN_STREAM_TLS);
  struct smn_capabilities less = offer;
  less.pipelining = false;
  smn_early_note(&server, true, &less);
  CHECK(!known(&server, true));
  smn_early_note(&server, true, &offer);
  CHECK(known(&server, true));
  less = offer;
  less.pipeconnect = false;
  smn_early_note(&server, true, &less);
  CHECK(!known(&server, true));
}

static void check_bans(void) {
  struct smn_server server = server_of("bans", 25, SMN_STREAM_TLS);
  smn_early_note(&server, true, &offer);
  smn_early_ban(&server);
  CHECK(!known(&server, true));
  smn_early_note(&server, true, &offer);
  CHECK(!known(&server, true));
  /* It may be banned before anything is known of it.  */
  server.port = 26;
  smn_early_ban(&server);
  smn_early_note(&server, true, &offer);
  CHECK(!known(&server, true));
}

/* There is room for some, and the one noted first makes room for one more.  */
static void check_room(void) {
  struct smn_server first = server_of("room", 1, SMN_STREAM_TLS);
  smn_early_note(&first, true, &offer);
  for (int port = 2; port <= 32; port++) {
    struct smn_server server = server_of("room", port, SMN_STREAM_TLS);
    smn_early_note(&server, true, &offer);
  }
  CHECK(known(&first, true));
  struct smn_server last = server_of("room", 33, SMN_STREAM_TLS);
  smn_early_note(&last, true, &offer);
  CHECK(!known(&first, true));
  for (int port = 2; port <= 33; port++) {
    struct smn_server server = server_of("room", port, SMN_STREAM_TLS);
    CHECK(known(&server, true));
  }
}

/* A name that is too long is not kept, nor taken for another one.  */
static void check_long_names(void) {
  char name[600];
  memset(name, 'x', sizeof name);
  name[sizeof name - 1] = '\0';
  struct smn_server server = server_of(name, 25, SMN_STREAM_TLS);
  smn_early_note(&server, true, &offer);
  smn_early_ban(&server);
  CHECK(!known(&server, true));
}

int main(void) {
  check_streams();
  check_names();
  check_offers();
  check_bans();
  check_long_names();
  check_room();
  return check_done("test-early");
}
