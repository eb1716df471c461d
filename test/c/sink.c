/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sink.c - an SMTP server that takes mail from many clients at a time.
   sink [OPTION VALUE]...
     --log FILE      one line per step: CONNECTION STEP [MESSAGE-ID]
     --seed N        of its dice, default 1
     --drop P  --stall P  --defer P
                     at each step, chance in 1000 to close the connection, to
                     fall silent, to refuse for now
     --calm FILE     while it exists there are no such accidents
     --silence MS    how long it is silent before it closes, default 3000
     --delay MS      before each answer
     --rate N        octets per second that it takes
     --life SECONDS  until it ends by itself, default 600
     --any 1         listen on all addresses, for a network of its own
   The first line of output is "port N".  "arrived" in the log means that it has
   taken the mail, whether or not it comes to answer ("answered").  A process
   for each connection; shares no code with the module.  */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct {
  const char *log, *calm;
  long seed, drop, stall, defer, silence, delay, rate, life, any;
} option = {.seed = 1, .silence = 3000, .life = 600};

struct client {
  int number, fd, log;
  uint64_t dice;
  char in[16384];
  size_t from, to;
  char line[2048]; /* longer ones are cut */
  char id[256];    /* of the message, "" before it is known */
  bool sender;
  int recipients; /* that were taken */
};

enum accident { NONE, DROP, STALL, DEFER };

static void pause_ms(long ms) {
  struct timespec rest = {ms / 1000, ms % 1000 * 1000000L};
  while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
    continue;
}

/* One write, so that lines of several processes do not mix.  */
static void note(const struct client *c, const char *step) {
  char line[400];
  int len = snprintf(line, sizeof line, "%d %s%s%s\n", c->number, step,
                     c->id[0] ? " " : "", c->id);
  if (c->log >= 0 && write(c->log, line, (size_t)len) != len)
    _exit(74);
}

static uint64_t roll(struct client *c) { /* splitmix64 */
  uint64_t z = c->dice += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static enum accident accident(struct client *c) {
  long n = (long)(roll(c) % 1000);
  if (option.calm && access(option.calm, F_OK) == 0)
    return NONE;
  if (n < option.drop)
    return DROP;
  if (n < option.drop + option.stall)
    return STALL;
  return n < option.drop + option.stall + option.defer ? DEFER : NONE;
}

static int get(struct client *c) {
  if (c->from == c->to) {
    size_t size = option.rate ? 4096 : sizeof c->in;
    ssize_t n = recv(c->fd, c->in, size, 0);
    if (n <= 0)
      return EOF;
    if (option.rate)
      pause_ms(n * 1000 / option.rate);
    c->from = 0;
    c->to = (size_t)n;
  }
  return (unsigned char)c->in[c->from++];
}

static bool hear(struct client *c) {
  size_t len = 0;
  int octet;
  for (octet = get(c); octet != EOF && octet != '\n'; octet = get(c))
    if (len + 1 < sizeof c->line)
      c->line[len++] = (char)octet;
  if (len > 0 && c->line[len - 1] == '\r')
    len--;
  c->line[len] = '\0';
  return octet != EOF;
}

static bool say(struct client *c, const char *text) {
  char line[256];
  int len = snprintf(line, sizeof line, "%s\r\n", text);
  pause_ms(option.delay);
  return send(c->fd, line, (size_t)len, MSG_NOSIGNAL) == len;
}

/* Answer TEXT at STEP, unless there is an accident; false: the end.  What has
   arrived is not refused.  */
static bool answer(struct client *c, const char *step, const char *text) {
  bool arrived = strcmp(step, "arrived") == 0;
  note(c, step);
  switch (accident(c)) {
  case DROP:
    note(c, "dropped");
    return false;
  case STALL:
    note(c, "silent");
    pause_ms(option.silence);
    return false;
  case DEFER:
    if (arrived)
      break;
    note(c, "deferred");
    return say(c, "451 4.3.0 not now");
  case NONE:
    break;
  }
  c->sender = c->sender || strcmp(step, "mail") == 0;
  c->recipients += strcmp(step, "rcpt") == 0;
  return say(c, text);
}

static void find_id(struct client *c) {
  static const char field[] = "Message-ID: ";
  if (c->id[0] == '\0' && strncasecmp(c->line, field, sizeof field - 1) == 0) {
    snprintf(c->id, sizeof c->id, "%.*s", (int)sizeof c->id - 1,
             c->line + sizeof field - 1);
    note(c, "content");
  }
}

/* The whole mail is here; false: the end.  */
static bool conclude(struct client *c) {
  c->sender = false;
  note(c, "dot");
  enum accident before = accident(c);
  if (before == DROP || before == DEFER) {
    note(c, "rejected");
    return before == DEFER && say(c, "452 4.2.2 full");
  }
  /* From here on it is with us, whether or not the client hears of it.  */
  if (!answer(c, "arrived", "250 2.0.0 taken"))
    return false;
  note(c, "answered");
  return true;
}

/* What comes behind DATA; false: the end.  */
static bool content(struct client *c) {
  long cut = accident(c) == DROP ? (long)(roll(c) % 40) : -1;
  while (hear(c) && strcmp(c->line, ".") != 0) {
    find_id(c);
    if (cut-- == 0) {
      note(c, "cut");
      return false;
    }
  }
  if (strcmp(c->line, ".") == 0)
    return conclude(c);
  note(c, "broken");
  return false;
}

static bool data(struct client *c) {
  if (!c->sender || c->recipients == 0)
    return say(c, "503 5.5.1 nobody to send it to");
  note(c, "data");
  return say(c, "354 go") && content(c);
}

/* BDAT; a chunk is taken apart into lines only to find the Message-ID.  */
static bool chunk(struct client *c) {
  char *rest = NULL;
  long left = strtol(c->line + 5, &rest, 10);
  bool last = strcasecmp(rest, " LAST") == 0;
  size_t len = 0;
  for (; left > 0; left--) {
    int octet = get(c);
    if (octet == EOF) {
      note(c, "broken");
      return false;
    }
    if (octet != '\n' && octet != '\r' && len + 1 < sizeof c->line) {
      c->line[len++] = (char)octet;
    } else if (octet == '\n') {
      c->line[len] = '\0';
      len = 0;
      find_id(c);
    }
  }
  if (!c->sender || c->recipients == 0)
    return say(c, "503 5.5.1 nobody to send it to");
  return last ? conclude(c) : answer(c, "chunk", "250 2.0.0 go on");
}

static bool starts(const struct client *c, const char *verb) {
  return strncasecmp(c->line, verb, strlen(verb)) == 0;
}

static bool command(struct client *c, const char *greeting) {
  if (starts(c, "EHLO"))
    return answer(c, "ehlo", greeting);
  if (starts(c, "MAIL")) {
    c->id[0] = '\0';
    c->recipients = 0;
    c->sender = false;
    return answer(c, "mail", "250 2.1.0 ok");
  }
  if (starts(c, "RCPT"))
    return c->sender ? answer(c, "rcpt", "250 2.1.5 ok")
                     : say(c, "503 5.5.1 from whom?");
  if (starts(c, "DATA"))
    return data(c);
  if (starts(c, "BDAT "))
    return chunk(c);
  if (starts(c, "QUIT")) {
    note(c, "quit");
    say(c, "221 2.0.0 bye");
    return false;
  }
  return say(c, starts(c, "RSET") || starts(c, "NOOP") ? "250 2.0.0 ok"
                                                       : "500 5.5.1 what?");
}

static void serve(struct client *c) {
  static const char *const greetings[] = {
      "250-sink.example\r\n250 SIZE 100000000",
      "250-sink.example\r\n250-PIPELINING\r\n250 SIZE 100000000",
      ("250-sink.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n"
       "250 SIZE 100000000"),
  };
  const char *greeting = greetings[roll(c) % 3];
  bool go_on = answer(c, "connect", "220 sink.example ESMTP");
  while (go_on && hear(c))
    go_on = command(c, greeting);
  note(c, "end");
}

static int listen_somewhere(int *port) {
  struct sockaddr_in any = {.sin_family = AF_INET};
  socklen_t size = sizeof any;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  any.sin_addr.s_addr = htonl(option.any ? INADDR_ANY : INADDR_LOOPBACK);
  /* Else the kernel would take megabytes at once, whatever the rate.  */
  if (option.rate)
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){16384}, sizeof(int));
  if (fd < 0 || bind(fd, (void *)&any, size) != 0 || listen(fd, 128) != 0 ||
      getsockname(fd, (void *)&any, &size) != 0)
    return -1;
  *port = ntohs(any.sin_port);
  return fd;
}

static bool parse(int argc, char **argv) {
  static const struct {
    const char *name;
    long *number;
    const char **text;
  } options[] = {
      {"--log", NULL, &option.log},         {"--calm", NULL, &option.calm},
      {"--seed", &option.seed, NULL},       {"--drop", &option.drop, NULL},
      {"--stall", &option.stall, NULL},     {"--defer", &option.defer, NULL},
      {"--silence", &option.silence, NULL}, {"--delay", &option.delay, NULL},
      {"--rate", &option.rate, NULL},       {"--life", &option.life, NULL},
      {"--any", &option.any, NULL},
  };
  for (int i = 1; i < argc; i += 2) {
    size_t n = 0, count = sizeof options / sizeof *options;
    while (n < count && strcmp(argv[i], options[n].name) != 0)
      n++;
    if (n == count || i + 1 == argc)
      return false;
    if (options[n].text)
      *options[n].text = argv[i + 1];
    else
      *options[n].number = strtol(argv[i + 1], NULL, 10);
  }
  return true;
}

int main(int argc, char **argv) {
  int port = 0, log = -1;
  if (!parse(argc, argv)) {
    fputs("usage: sink [OPTION VALUE]...\n", stderr);
    return 64;
  }
  int listening = listen_somewhere(&port);
  if (option.log)
    log = open(option.log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (listening < 0 || (option.log && log < 0)) {
    perror("sink");
    return 71;
  }
  printf("port %d\n", port);
  fflush(stdout);
  signal(SIGCHLD, SIG_IGN); /* the kernel buries the children */
  alarm((unsigned)option.life);
  for (int number = 1;; number++) {
    static struct client c;
    c = (struct client){.number = number,
                        .fd = accept(listening, NULL, NULL),
                        .log = log,
                        .dice = (uint64_t)option.seed * 1000003u +
                                (uint64_t)number};
    if (c.fd >= 0 && fork() == 0) {
      alarm((unsigned)option.life);
      close(listening);
      serve(&c);
      _exit(0);
    }
    if (c.fd >= 0)
      close(c.fd);
  }
}
