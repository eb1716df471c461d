/* SPDX-License-Identifier: GPL-3.0-or-later */
/* peer.c - the scripted SMTP server as a program.
   peer --certificates DIR            make the certificates of certs.h
   peer [OPTION...] SCRIPT            play SCRIPT once, say its verdict
     --certs DIR  --deliver DIR  --connections N  --timeout SECONDS
     --address ADDRESS  --port N
   The first line of output is "port N", then comes the transcript.  The exit
   status is 0 when every client behaved.  */
#include "certs.h"
#include "peer-run.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int usage(void) {
  fputs("usage: peer --certificates DIR | peer [OPTION...] SCRIPT\n", stderr);
  return 64;
}

int main(int argc, char **argv) {
  static struct peer one;
  struct peer *peer = &one;
  const char *address = "127.0.0.1";
  int port = 0, connections = 1, i = 1, status = 0;
  peer->timeout_ms = 20000;
  peer->log = stdout;
  for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
    const char *option = argv[i] + 2, *value = argv[i + 1];
    if (strcmp(option, "certificates") == 0)
      return certs_make(value) ? 0 : 70;
    if (strcmp(option, "certs") == 0)
      peer->certs = value;
    else if (strcmp(option, "deliver") == 0)
      peer->deliver = value;
    else if (strcmp(option, "connections") == 0)
      connections = atoi(value);
    else if (strcmp(option, "timeout") == 0)
      peer->timeout_ms = atoi(value) * 1000;
    else if (strcmp(option, "address") == 0)
      address = value;
    else if (strcmp(option, "port") == 0)
      port = atoi(value);
    else
      return usage();
  }
  char *script = i + 1 == argc ? peer_read_file(argv[i]) : NULL;
  int listening = script ? peer_listen(address, &port) : -1;
  if (listening < 0)
    return usage();
  setvbuf(stdout, NULL, _IOLBF, 0); /* who reads along acts upon it */
  printf("port %d\n", port);
  while (connections-- > 0 && status == 0)
    if (!peer_run(peer, listening, script)) {
      printf("-- FAULT %s\n", peer->why);
      status = 1;
    }
  if (status == 0)
    puts("-- as scripted");
  close(listening);
  free(script);
  return status;
}
