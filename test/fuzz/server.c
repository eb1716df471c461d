/* SPDX-License-Identifier: GPL-3.0-or-later */
/* server.c - the model: sockets, replies, and when they leave.
   A reply is a unit that is queued when its command is read, and leaves in a
   later step.  What the client could have seen when it sent an octet is noted
   at its system calls, so that a rule about the order of things is judged by
   what it knew.  */
#include "server.h"
#include "plant.h"
#include "server-inside.h"
#include "truth.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct model model;

/* Connections */

static struct conn *conn_of(int client_fd) {
  for (unsigned i = model.count; i-- > 0;)
    if (model.conns[i].client_fd == client_fd)
      return &model.conns[i];
  return NULL;
}

int server_connect(int fd) {
  struct conn *c;
  struct sockaddr_un to = model.address;
  const struct act *act = server_act(AT_CONNECT);
  if (act->kind && act->kind <= ACT_CLOSE) {
    note("-- connection refused");
    return ECONNREFUSED;
  }
  if (model.count == CONNS_MAX) {
    broken("more than %d connections", CONNS_MAX);
    return ECONNREFUSED;
  }
  if (__real_connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
    return errno;
  for (unsigned i = 0; i < model.count; i++)
    if (model.conns[i].client_fd == fd)
      model.conns[i].client_fd = -1;
  c = &model.conns[model.count];
  *c = (struct conn){.number = model.count++, .client_fd = fd};
  c->fd = accept(model.listening, NULL, NULL);
  for (unsigned i = 0; i < model.count; i++)
    if (model.conns[i].client_fd == c->fd)
      model.conns[i].client_fd = -1;
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  fcntl(c->fd, F_SETFD, FD_CLOEXEC);
  c->job = c->mail_job = -1;
  note("-- connection %u", c->number);
  if (truths.plan->tls == TLS_IMPLICIT)
    server_start_tls(c);
  else
    server_greet(c);
  return 0;
}

/* What has left the client and is not answered any more is still judged.  */
static void read_last(struct conn *c, bool reset) {
  static char octets[65536];
  ssize_t n;
  while ((n = __real_recv(c->fd, octets, sizeof octets,
                          MSG_DONTWAIT | (reset ? MSG_PEEK : 0))) > 0) {
    server_feed(c, octets, (size_t)n);
    if (!reset)
      continue;
    /* What stays unread resets the connection.  */
    if (n == sizeof octets && c->mail_job >= 0)
      truths.job[c->mail_job].end_seen = true;
    if (n == sizeof octets)
      c->state = GONE;
    c->lied |= c->state == GONE;
    break;
  }
}

void server_close(struct conn *c, bool reset) {
  if (c->closed)
    return;
  c->closed = true;
  note("%u -- the server closes%s", c->number, reset ? ", by a reset" : "");
  for (unsigned j = 0; c->tls && j < JOBS_MAX; j++)
    truths.job[j].end_seen = true; /* nobody can tell what is under way */
  if (!c->tls)
    read_last(c, reset);
  else if (c->encrypted && !reset)
    (void)gnutls_bye(c->tls, GNUTLS_SHUT_WR);
  close(c->fd);
  server_process(c);
}

/* Units */

static struct unit *new_unit(struct conn *c, const char *octets, size_t len) {
  struct unit *u = calloc(1, sizeof *u);
  u->octets = malloc(len + 1);
  memcpy(u->octets, octets, len);
  u->octets[len] = '\0';
  u->len = len;
  u->job = u->taking = -1;
  u->counts = true;
  u->due_ms = world_now_ms();
  if (truths.plan->slow_ms)
    u->due_ms += rng_below(&model.rng, truths.plan->slow_ms);
  u->octetwise = rng_chance(&model.rng, truths.plan->octets);
  (void)c;
  return u;
}

struct unit *server_queue(struct conn *c, const char *octets, size_t len) {
  struct unit *u = new_unit(c, octets, len), **at = &c->units;
  while (*at) {
    if ((*at)->due_ms > u->due_ms)
      u->due_ms = (*at)->due_ms;
    at = &(*at)->next;
  }
  return *at = u;
}

static void free_unit(struct unit *u) {
  free(u->octets);
  free(u);
}

/* U has left, as a whole.  */
static void left(struct conn *c, struct unit *u) {
  if (u->counts)
    c->emitted++;
  if (c->spoke_ms < world_now_ms())
    c->spoke_ms = world_now_ms();
  note("%u S: %.*s", c->number, (int)(u->len > 600 ? 600 : u->len), u->octets);
  if (u->job >= 0 && !u->lie && !c->untold) {
    struct truth *truth = &truths.job[u->job];
    if (u->taking >= 0) {
      truth->takings[u->taking].told = true;
      model.told[u->job][u->taking] = c->emitted;
    } else if (u->refusal) {
      truth->refused = true;
      truth->code = u->code;
      model.refused_conn[u->job] = c->number;
      model.refused[u->job] = c->emitted;
    }
  }
  if (u->starts_tls)
    server_start_tls(c);
}

static ssize_t transmit(struct conn *c, const struct unit *u, size_t len) {
  const char *octets = u->octets + u->sent;
  if (plant == PLANT_DEAF && u->lie)
    return (ssize_t)len;
  ssize_t n = c->encrypted ? gnutls_record_send(c->tls, octets, len)
                           : write(c->fd, octets, len);
  return n;
}

/* Let what is due of U leave.  True if any of it has.  */
static bool emit(struct conn *c, struct unit *u) {
  size_t until = u->cut ? u->cut - 1 : u->len, len = until - u->sent;
  if (u->octetwise && len > 1)
    len = 1;
  if (len > 0) {
    ssize_t n = transmit(c, u, len);
    if (n < 0 && (errno == EAGAIN || n == GNUTLS_E_AGAIN))
      return false;
    if (n < 0) {
      c->client_gone = true;
      return false;
    }
    u->sent += (size_t)n;
  }
  if (u->sent < until)
    return true;
  c->units = u->next;
  if (until == u->len && u->len > 0)
    left(c, u);
  else if (u->cut)
    note("%u S: %.*s (cut)", c->number, (int)until, u->octets);
  if (u->close)
    server_close(c, u->reset);
  free_unit(u);
  return true;
}

static bool emit_due(struct conn *c) {
  bool any = false, more = true;
  if (c->silent || (c->tls && !c->encrypted) || c->client_gone)
    return false;
  while (more && !c->closed && c->units && c->units->due_ms <= world_now_ms()) {
    bool whole = c->units->with_next;
    if (!emit(c, c->units))
      return any;
    any = true;
    more = whole || rng_chance(&model.rng, truths.plan->joined);
  }
  if (!c->closed && c->idle_kind && c->idle_ms <= world_now_ms()) {
    server_idle(c);
    any = true;
  }
  return any;
}

/* Steps */

static bool shake_hands(struct conn *c) {
  struct pollfd one = {.fd = c->fd, .events = POLLIN};
  char octet;
  if (poll_now(&one) <= 0 && c->began_handshake)
    return false;
  if (c->injected && __real_recv(c->fd, &octet, 1, MSG_PEEK) > 0)
    broken("TLS begins although octets came behind the reply to STARTTLS");
  c->began_handshake = true;
  int code = gnutls_handshake(c->tls);
  if (code == GNUTLS_E_AGAIN)
    return true;
  if (code == 0) {
    c->encrypted = true;
    c->early = model.early[1];
    note("%u -- TLS", c->number);
    if (truths.plan->tls == TLS_IMPLICIT)
      server_greet(c);
  } else if (gnutls_error_is_fatal(code)) {
    note("%u -- TLS: %s", c->number, gnutls_strerror(code));
    c->client_gone = true;
  }
  return true;
}

/* What could be seen, and when */

static void add_log(struct log *log, uint64_t until, unsigned observed) {
  if (log->count == log->max) {
    log->max = 2 * log->max + 64;
    log->at = realloc(log->at, log->max * sizeof *log->at);
  }
  log->at[log->count++] = (struct send){until, observed};
}

static unsigned look_up(const struct conn *c, const struct log *log,
                        uint64_t at) {
  for (size_t i = 0; i < log->count; i++)
    if (log->at[i].until > at)
      return log->at[i].observed;
  return c->observed;
}

static ssize_t pull(gnutls_transport_ptr_t conn, void *octets, size_t len) {
  struct conn *c = conn;
  ssize_t n = read(c->fd, octets, len);
  if (n > 0)
    c->pulled += (uint64_t)n;
  return n;
}

/* What a fault of the core would send instead of the LEN OCTETS.  */
static void misbehave(struct conn *c, char *octets, size_t len) {
  if (plant == PLANT_OCTET && c->state == CONTENT && len > 5)
    octets[len / 2] ^= 1;
  if (plant == PLANT_QUIT && c->state == CONTENT)
    server_feed(c, "QUIT\r\n", 6);
  server_feed(c, octets, len);
  if (plant == PLANT_AHEAD && c->state == COMMAND &&
      memcmp(octets, "MAIL", 4) == 0)
    server_feed(c, "RSET\r\n", 6);
}

/* Read all that is here.  */
static bool take_in(struct conn *c) {
  static char octets[65536];
  bool any = false;
  for (;;) {
    ssize_t n = c->encrypted ? gnutls_record_recv(c->tls, octets, sizeof octets)
                             : read(c->fd, octets, sizeof octets);
    if (n > 0) {
      misbehave(c, octets, (size_t)n);
      if (c->encrypted)
        add_log(&c->seen, c->in_at + c->in_len,
                look_up(c, &c->sends, c->pulled - 1));
      else
        c->pulled += (uint64_t)n;
      any = true;
      continue;
    }
    if (n == GNUTLS_E_AGAIN || (n < 0 && errno == EAGAIN && !c->encrypted))
      return any;
    if (c->encrypted && n < 0 && !gnutls_error_is_fatal((int)n))
      continue;
    note("%u -- the client has closed", c->number);
    c->client_gone = true;
    return true;
  }
}

#define TLS_SPEAKS 5 /* times; GnuTLS takes more for an attack */

/* What TLS 1.3 sends for its own use, and is no reply.  */
static void speak_tls(struct conn *c) {
  if (c->client_gone || c->idle_kind || c->spoken == TLS_SPEAKS ||
      gnutls_protocol_get_version(c->tls) != GNUTLS_TLS1_3)
    return;
  c->spoken++;
  if (rng_chance(&model.rng, 50))
    (void)gnutls_session_key_update(c->tls, 0);
  else
    (void)gnutls_session_ticket_send(c->tls, 1, 0);
}

static bool step_one(struct conn *c) {
  bool any = false;
  if (c->closed)
    return false;
  if (c->tls && !c->encrypted && !c->client_gone)
    return shake_hands(c);
  if (c->encrypted && rng_chance(&model.rng, truths.plan->rekey))
    speak_tls(c);
  if (!c->client_gone && c->deaf_until_ms <= world_now_ms())
    any = take_in(c);
  any |= server_process(c);
  if (!c->closed)
    any |= emit_due(c);
  if (c->client_gone && !c->closed && !server_process(c)) {
    c->closed = true;
    close(c->fd);
  }
  return any;
}

bool server_step(void) {
  bool any = false;
  if (model.stepping) /* a fault that a step brings about makes system calls */
    return false;
  model.stepping = true;
  for (unsigned i = 0; i < model.count; i++)
    any |= step_one(&model.conns[i]);
  model.stepping = false;
  return any;
}

int64_t server_due(void) {
  int64_t due = WORLD_NEVER;
  for (unsigned i = 0; i < model.count; i++) {
    const struct conn *c = &model.conns[i];
    if (c->closed || c->client_gone)
      continue;
    if (c->units && !c->silent && c->units->due_ms < due &&
        c->units->due_ms > world_now_ms())
      due = c->units->due_ms;
    if (c->idle_kind && !c->silent && c->idle_ms > world_now_ms() &&
        c->idle_ms < due)
      due = c->idle_ms;
    if (c->deaf_until_ms > world_now_ms() && c->deaf_until_ms < due)
      due = c->deaf_until_ms;
  }
  return due;
}

/* What the client does */

long server_send(int fd, const void *octets, size_t len) {
  struct conn *c = conn_of(fd);
  if (!c)
    return -1;
  if (c->closed) {
    if (!c->tls && octets) {
      server_feed(c, octets, len);
      server_process(c);
    }
    return truths.plan->void_send && !c->voided++ ? -2 : -1;
  }
  if (octets && len > 1 && rng_chance(&model.rng, truths.plan->short_send))
    return 1 + rng_below(&model.rng, (unsigned)(len > 9999 ? 9999 : len) - 1);
  return -1;
}

void server_sent(int fd, size_t len) {
  struct conn *c = conn_of(fd);
  if (!c || c->closed)
    return;
  c->sent += len;
  add_log(&c->sends, c->sent, c->observed);
}

void server_looked(int fd) {
  struct conn *c = conn_of(fd);
  if (c)
    c->observed = c->emitted;
}

/* The replies that the client could have seen when it sent the octet AT.  */
unsigned server_seen(const struct conn *c, uint64_t at) {
  return look_up(c, c->tls ? &c->seen : &c->sends, at);
}

int server_sync(int fd) {
  (void)fd;
  return model.sync_errno;
}

/* Life */

static void setup_tls(const char *folder) {
  char ca[600], cert[600], key[600];
  if (model.credentials || truths.plan->tls == TLS_NONE)
    return;
  snprintf(ca, sizeof ca, "%s/ca.pem", folder);
  snprintf(cert, sizeof cert, "%s/good.pem", folder);
  snprintf(key, sizeof key, "%s/good.key", folder);
  gnutls_certificate_allocate_credentials(&model.credentials);
  gnutls_certificate_set_x509_trust_file(model.credentials, ca,
                                         GNUTLS_X509_FMT_PEM);
  gnutls_certificate_set_x509_key_file(model.credentials, cert, key,
                                       GNUTLS_X509_FMT_PEM);
  gnutls_session_ticket_key_generate(&model.ticket_key);
}

void server_start_tls(struct conn *c) {
  if (c->in_len > 0 && !c->lied)
    broken("octets came behind STARTTLS before its reply");
  gnutls_init(&c->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
  gnutls_set_default_priority(c->tls);
  gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, model.credentials);
  gnutls_session_ticket_enable_server(c->tls, &model.ticket_key);
  gnutls_transport_set_ptr2(c->tls, c, (gnutls_transport_ptr_t)(intptr_t)c->fd);
  gnutls_transport_set_pull_function(c->tls, pull);
}

static void make_contents(void) {
  for (unsigned j = 0; j < truths.plan->jobs; j++) {
    struct arrives *a = model.arrives[j];
    for (unsigned v = 0; v < 2; v++)
      a[v].octets = plan_arrives(truths.plan, j, v, &a[v].len);
    model.eight_bit[j] = false;
    for (size_t i = 0; i < a[0].len; i++)
      model.eight_bit[j] |= (unsigned char)a[0].octets[i] > 127;
  }
}

void server_begin(const char *folder, const struct sockaddr_un *address,
                  int listening) {
  model.folder = folder;
  model.address = *address;
  model.listening = listening;
  model.rng.state = truths.plan->seed ^ 0x5eed;
  model.sync_errno = 0;
  memset(model.reached, 0, sizeof model.reached);
  memset(model.faulted, 0, sizeof model.faulted);
  memset(model.early, 0, sizeof model.early);
  memset(model.fault_seen, 0, sizeof model.fault_seen);
  setup_tls(folder);
  make_contents();
}

unsigned server_open(void) {
  unsigned open = 0;
  for (unsigned i = 0; i < model.count; i++)
    open += !model.conns[i].closed;
  return open;
}

/* A reply counts as told when the client has looked since.  */
static void forget_untold(void) {
  for (unsigned j = 0; j < JOBS_MAX; j++) {
    struct truth *t = &truths.job[j];
    for (unsigned i = 0; i < t->taken; i++)
      if (model.conns[t->takings[i].conn].observed < model.told[j][i])
        t->takings[i].told = false;
    if (t->refused &&
        model.conns[model.refused_conn[j]].observed < model.refused[j])
      t->refused = false;
  }
}

void server_end(void) {
  for (unsigned i = 0; i < model.count; i++) {
    model.conns[i].deaf_until_ms = 0;
    model.conns[i].spoke_ms = world_now_ms();
  }
  for (int i = 0; i < 10000 && server_step(); i++)
    continue;
  forget_untold();
  for (unsigned i = 0; i < model.count; i++) {
    struct conn *c = &model.conns[i];
    server_check_rest(c);
    if (!c->closed)
      close(c->fd);
    if (c->tls)
      gnutls_deinit(c->tls);
    while (c->units) {
      struct unit *u = c->units;
      c->units = u->next;
      free_unit(u);
    }
    free(c->buffer);
    free(c->body);
    free(c->sends.at);
    free(c->seen.at);
  }
  model.count = 0;
  for (unsigned j = 0; j < truths.plan->jobs; j++)
    for (unsigned v = 0; v < 2; v++)
      free(model.arrives[j][v].octets);
}
