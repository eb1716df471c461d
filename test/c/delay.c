/* SPDX-License-Identifier: GPL-3.0-or-later */
/* delay.c - a link that takes a while: delay PORT MS.
   Forwards connections to PORT of this machine, each direction MS milliseconds
   late.  So is the handshake of TCP: what the client sends first arrives three
   times MS after it has connected.  The first line of output is "port N".  It
   ends when its standard input does.  Shares no code with the module.  */
#include "fork-server.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int port;
static int64_t delay_ms;

struct block {
  struct block *next;
  int64_t due_ms;
  size_t len; /* 0: the end */
  char octets[];
};

struct way {
  int from, to;
  struct block *first, **last;
  bool ended;
};

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void take(struct way *way, int64_t earliest_ms) {
  static char octets[65536];
  ssize_t n = read(way->from, octets, sizeof octets);
  struct block *block = calloc(1, sizeof *block + (n > 0 ? (size_t)n : 0));
  if (!block)
    _exit(70);
  block->due_ms = now_ms() + delay_ms;
  if (block->due_ms < earliest_ms)
    block->due_ms = earliest_ms;
  if (n > 0) {
    block->len = (size_t)n;
    memcpy(block->octets, octets, block->len);
  }
  way->ended = n <= 0;
  *way->last = block;
  way->last = &block->next;
}

/* Milliseconds until something is due, -1 if nothing is under way.  */
static int give(struct way *way) {
  while (way->first && way->first->due_ms <= now_ms()) {
    struct block *block = way->first;
    size_t sent = 0;
    while (sent < block->len) {
      ssize_t n = write(way->to, block->octets + sent, block->len - sent);
      if (n <= 0)
        _exit(0);
      sent += (size_t)n;
    }
    if (block->len == 0)
      shutdown(way->to, SHUT_WR);
    way->first = block->next;
    if (!way->first)
      way->last = &way->first;
    free(block);
  }
  return way->first ? (int)(way->first->due_ms - now_ms()) : -1;
}

static int call(void) {
  struct sockaddr_in at = {.sin_family = AF_INET,
                           .sin_port = htons((uint16_t)port),
                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
    _exit(70);
  return fd;
}

static void forward(int client) {
  int64_t connected_ms = now_ms() + 3 * delay_ms;
  struct timespec rest = {0, 0};
  rest.tv_sec = 3 * delay_ms / 1000;
  rest.tv_nsec = 3 * delay_ms % 1000 * 1000000L;
  nanosleep(&rest, NULL);
  int server = call();
  struct way ways[2] = {{client, server, NULL, NULL, false},
                        {server, client, NULL, NULL, false}};
  for (int i = 0; i < 2; i++) {
    ways[i].last = &ways[i].first;
    setsockopt(ways[i].to, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  }
  /* What the client has sent meanwhile left when it was connected.  */
  struct pollfd waiting = {.fd = client, .events = POLLIN};
  if (poll(&waiting, 1, 0) > 0) {
    take(&ways[0], connected_ms);
    ways[0].first->due_ms = connected_ms;
  }
  while (!ways[0].ended || !ways[1].ended || ways[0].first || ways[1].first) {
    struct pollfd fds[2];
    int wait_ms = -1;
    for (int i = 0; i < 2; i++) {
      int due_ms = give(&ways[i]);
      if (due_ms >= 0 && (wait_ms < 0 || due_ms < wait_ms))
        wait_ms = due_ms;
      fds[i] = (struct pollfd){.fd = ways[i].ended ? -1 : ways[i].from,
                               .events = POLLIN};
    }
    if (poll(fds, 2, wait_ms) <= 0)
      continue;
    for (int i = 0; i < 2; i++)
      if (fds[i].revents)
        take(&ways[i], 0);
  }
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc != 3)
    return 64;
  port = (int)strtol(argv[1], NULL, 10);
  delay_ms = strtol(argv[2], NULL, 10);
  return fork_server(forward);
}
