/* SPDX-License-Identifier: GPL-3.0-or-later */
/* peer-run.c - a scripted SMTP server: one dialogue over one connection.  */
#include "peer-run.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fnmatch.h>
#include <gnutls/x509.h>
#include <gsasl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static bool fault(struct peer *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool fault(struct peer *p, const char *format, ...) {
  va_list args;
  if (p->why[0])
    return false;
  int n = snprintf(p->why, sizeof p->why, "line %d: ", p->number);
  va_start(args, format);
  vsnprintf(p->why + n, sizeof p->why - (size_t)n, format, args);
  va_end(args);
  return false;
}

char *peer_read_file(const char *file) {
  FILE *in = fopen(file, "r");
  char *text = calloc(1, 1 << 18);
  if (in && text && fread(text, 1, (1 << 18) - 1, in) > 0) {
    fclose(in);
    return text;
  }
  perror(file);
  if (in)
    fclose(in);
  free(text);
  return NULL;
}

int peer_listen(const char *address, int *port) {
  struct sockaddr_storage any = {.ss_family = AF_INET};
  struct sockaddr_in *in = (void *)&any;
  struct sockaddr_in6 *in6 = (void *)&any;
  socklen_t size = sizeof *in;
  if (inet_pton(AF_INET6, address, &in6->sin6_addr) == 1) {
    any.ss_family = AF_INET6;
    size = sizeof *in6;
  } else if (inet_pton(AF_INET, address, &in->sin_addr) != 1)
    return -1;
  in->sin_port = htons((unsigned short)*port); /* at the same place in both */
  int fd = socket(any.ss_family, SOCK_STREAM, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  if (fd >= 0 && bind(fd, (void *)&any, size) == 0 && listen(fd, 64) == 0 &&
      getsockname(fd, (void *)&any, &size) == 0) {
    *port = ntohs(in->sin_port);
    return fd;
  }
  if (fd >= 0)
    close(fd);
  return -1;
}

/* Octets */

/* Octets read, 0 at the end, -1 when late or broken.  */
static ssize_t receive(struct peer *p, char *into, size_t len) {
  ssize_t n;
  if (!p->tls) {
    do
      n = recv(p->fd, into, len, 0);
    while (n < 0 && errno == EINTR);
    return n;
  }
  do
    n = gnutls_record_recv(p->tls, into, len);
  while (n == GNUTLS_E_INTERRUPTED);
  return n < 0 ? -1 : n;
}

/* What the client no longer takes is lost; reading tells that it has gone.  */
static void put(struct peer *p, const char *bytes, size_t len) {
  while (len > 0) {
    ssize_t n = p->tls ? gnutls_record_send(p->tls, bytes, len)
                       : send(p->fd, bytes, len, MSG_NOSIGNAL);
    if (n <= 0)
      return;
    bytes += n;
    len -= (size_t)n;
  }
}

static bool more(struct peer *p) {
  if (p->from == p->to)
    p->from = p->to = 0;
  ssize_t n = receive(p, p->in + p->to, sizeof p->in - p->to);
  if (n <= 0)
    return false;
  p->to += (size_t)n;
  return true;
}

static int get(struct peer *p) {
  if (p->from == p->to && !more(p))
    return EOF;
  return (unsigned char)p->in[p->from++];
}

/* Read one line into p->line; it has to end with CRLF.  */
static bool hear(struct peer *p) {
  size_t len = 0;
  if (p->heard) {
    p->heard = false;
    return true;
  }
  for (int c = get(p); c != EOF; c = get(p)) {
    if (c == '\n') {
      if (len == 0 || p->line[len - 1] != '\r')
        return fault(p, "a line that does not end with CRLF");
      p->line[len - 1] = '\0';
      fprintf(p->log, "C: %s\n", p->line);
      return true;
    }
    if (len + 1 >= sizeof p->line)
      return fault(p, "a line without end");
    p->line[len++] = (char)c;
  }
  p->line[len] = '\0';
  return false;
}

static void say(struct peer *p, const char *text) {
  char line[8192];
  int n = snprintf(line, sizeof line, "%s\r\n", text);
  fprintf(p->log, "S: %s\n", text);
  put(p, line, (size_t)n);
}

/* Steps */

/* A server says whatever it likes: GnuTLS would check a response that it is
   given as a file.  */
static int staple(gnutls_session_t session, void *file,
                  gnutls_datum_t *response) {
  (void)session;
  return gnutls_load_file(file, response) == 0 ? 0
                                               : GNUTLS_E_NO_CERTIFICATE_STATUS;
}

/* The client has to show the certificate `client' of certs.h.  */
static bool check_client(struct peer *p) {
  char file[512], subject[256] = "nobody", issuer[256] = "nobody";
  size_t subject_size = sizeof subject, issuer_size = sizeof issuer;
  unsigned chain_len = 0, status = 1;
  const gnutls_datum_t *chain =
      gnutls_certificate_get_peers(p->tls, &chain_len);
  gnutls_datum_t pem = {NULL, 0};
  gnutls_x509_crt_t shown = NULL, wanted = NULL;
  snprintf(file, sizeof file, "%s/client.pem", p->certs);
  bool good = chain_len > 0 && gnutls_x509_crt_init(&shown) == 0 &&
              gnutls_x509_crt_init(&wanted) == 0 &&
              gnutls_x509_crt_import(shown, chain, GNUTLS_X509_FMT_DER) == 0 &&
              gnutls_x509_crt_get_dn(shown, subject, &subject_size) == 0 &&
              gnutls_x509_crt_get_issuer_dn(shown, issuer, &issuer_size) == 0 &&
              gnutls_load_file(file, &pem) == 0 &&
              gnutls_x509_crt_import(wanted, &pem, GNUTLS_X509_FMT_PEM) == 0 &&
              gnutls_x509_crt_equals(shown, wanted) &&
              gnutls_certificate_verify_peers2(p->tls, &status) == 0 &&
              status == 0;
  fprintf(p->log, "-- the client is %s, says %s\n", subject, issuer);
  gnutls_free(pem.data);
  gnutls_x509_crt_deinit(wanted);
  gnutls_x509_crt_deinit(shown);
  return good || fault(p, "the client showed the certificate of %s", subject);
}

/* Diffie-Hellman in the second Oakley group (RFC 2409 6.2), 1,024 bits.  */
static bool small_group(struct peer *p) {
  static const char prime[] =
      "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74"
      "020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437"
      "4fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7ed"
      "ee386bfb5a899fa5ae9f24117c4b1fe649286651ece65381ffffffffffffffff";
  const gnutls_datum_t hex = {(unsigned char *)(size_t)prime, sizeof prime - 1};
  unsigned char two = 2;
  gnutls_datum_t raw = {NULL, 0}, generator = {&two, 1};
  gnutls_dh_params_t params = NULL;
  bool good = gnutls_hex_decode2(&hex, &raw) == 0 &&
              gnutls_dh_params_init(&params) == 0 &&
              gnutls_dh_params_import_raw(params, &raw, &generator) == 0;
  gnutls_free(raw.data);
  if (good)
    gnutls_certificate_set_dh_params(p->credentials, params);
  p->dh = params;
  return good;
}

static bool start_tls(struct peer *p, char *words) {
  char pem[512], key[512], ca[512], ocsp[512];
  char *rest = NULL, *name = strtok_r(words, " ", &rest);
  char *option = strtok_r(NULL, " ", &rest);
  bool ask = option && strcmp(option, "client") == 0;
  if (!p->certs || !name)
    return fault(p, "no certificates");
  snprintf(pem, sizeof pem, "%s/%s.pem", p->certs, name);
  snprintf(key, sizeof key, "%s/%s.key", p->certs, name);
  snprintf(ca, sizeof ca, "%s/ca.pem", p->certs);
  snprintf(ocsp, sizeof ocsp, "%s/%s.ocsp", p->certs, name);
  gnutls_certificate_allocate_credentials(&p->credentials);
  gnutls_certificate_set_x509_trust_file(p->credentials, ca,
                                         GNUTLS_X509_FMT_PEM);
  if (gnutls_certificate_set_x509_key_file(p->credentials, pem, key,
                                           GNUTLS_X509_FMT_PEM) < 0)
    return fault(p, "no certificate %s", pem);
  gnutls_certificate_set_ocsp_status_request_function(p->credentials, staple,
                                                      ocsp);
  if (option && strstr(option, "+DHE-RSA") && !small_group(p))
    return fault(p, "no group");
  gnutls_init(&p->tls, GNUTLS_SERVER | GNUTLS_NO_SIGNAL);
  gnutls_set_default_priority(p->tls);
  if (option && strncmp(option, "NORMAL", 6) == 0)
    gnutls_priority_set_direct(p->tls, option, NULL);
  gnutls_credentials_set(p->tls, GNUTLS_CRD_CERTIFICATE, p->credentials);
  if (ask)
    gnutls_certificate_server_set_request(p->tls, GNUTLS_CERT_REQUIRE);
  if (p->ticket_key.size > 0)
    gnutls_session_ticket_enable_server(p->tls, &p->ticket_key);
  gnutls_transport_set_int(p->tls, p->fd);
  gnutls_handshake_set_timeout(p->tls, (unsigned)p->timeout_ms);
  int code;
  do
    code = gnutls_handshake(p->tls);
  while (code < 0 && !gnutls_error_is_fatal(code) && code != GNUTLS_E_AGAIN);
  p->tls_code = code;
  p->resumed = code == 0 && gnutls_session_is_resumed(p->tls);
  fprintf(p->log, "-- TLS %s\n", code == 0 ? "started" : gnutls_strerror(code));
  if (code != 0)
    return fault(p, "TLS handshake: %s", gnutls_strerror(code));
  if (!ask || check_client(p))
    return true;
  p->tls_code = GNUTLS_E_CERTIFICATE_ERROR;
  return false;
}

/* The client hears why, and has read it before the connection ends.  */
static bool tls_fails(struct peer *p, char *words) {
  char octet;
  if (start_tls(p, words))
    return fault(p, "the handshake should have failed");
  p->why[0] = '\0';
  gnutls_alert_send_appropriate(p->tls,
                                p->tls_code == GNUTLS_E_NO_CERTIFICATE_FOUND
                                    ? GNUTLS_E_CERTIFICATE_REQUIRED
                                    : p->tls_code);
  while (recv(p->fd, &octet, 1, 0) > 0)
    continue;
  return true;
}

/* USER and PASSWORD are checked as a server does.  BINDS: the server knows
   channel binding, whatever it offers.  */
struct account {
  struct peer *peer;
  const char *user, *password;
  bool binds;
};

static int bind_channel(const struct account *account, Gsasl_session *session,
                        Gsasl_property property) {
  gnutls_datum_t raw = {NULL, 0};
  char octets[32], *text = NULL;
  gnutls_session_t tls = account->peer->tls;
  if (!account->binds || !tls)
    return GSASL_NO_CALLBACK;
  bool tls13 = gnutls_protocol_get_version(tls) >= GNUTLS_TLS1_3;
  if (tls13 != (property == GSASL_CB_TLS_EXPORTER))
    return GSASL_NO_CALLBACK;
  if (tls13)
    gnutls_prf_rfc5705(tls, 24, "EXPORTER-Channel-Binding", 0, NULL,
                       sizeof octets, octets);
  else
    gnutls_session_channel_binding(tls, GNUTLS_CB_TLS_UNIQUE, &raw);
  gsasl_base64_to(tls13 ? octets : (char *)raw.data,
                  tls13 ? sizeof octets : raw.size, &text, NULL);
  int code = gsasl_property_set(session, property, text);
  gsasl_free(text);
  gnutls_free(raw.data);
  return code;
}

/* EXTERNAL: the client has shown a certificate to TLS, and asks for nobody
   else.  */
static int validate_external(const struct account *account,
                             Gsasl_session *session) {
  unsigned count = 0;
  const char *authzid = gsasl_property_fast(session, GSASL_AUTHZID);
  return account->peer->tls &&
                 gnutls_certificate_get_peers(account->peer->tls, &count) &&
                 count > 0 &&
                 strcmp(authzid && *authzid ? authzid : "-", account->user) == 0
             ? GSASL_OK
             : GSASL_AUTHENTICATION_ERROR;
}

static int answer(Gsasl *context, Gsasl_session *session,
                  Gsasl_property property) {
  const struct account *account = gsasl_session_hook_get(session);
  (void)context;
  switch (property) {
  case GSASL_PASSWORD:
    return gsasl_property_set(session, property, account->password);
  case GSASL_SCRAM_ITER:
    return gsasl_property_set(session, property, "4096");
  case GSASL_CB_TLS_EXPORTER:
  case GSASL_CB_TLS_UNIQUE:
    return bind_channel(account, session, property);
  case GSASL_REALM:
    return gsasl_property_set(session, property, "example.org");
  case GSASL_VALIDATE_EXTERNAL:
    return validate_external(account, session);
  case GSASL_VALIDATE_SIMPLE:
    return strcmp(gsasl_property_fast(session, GSASL_AUTHID), account->user) ||
                   strcmp(gsasl_property_fast(session, GSASL_PASSWORD),
                          account->password)
               ? GSASL_AUTHENTICATION_ERROR
               : GSASL_OK;
  default:
    return GSASL_NO_CALLBACK;
  }
}

static bool exchange(struct peer *p, Gsasl_session *session, char *input) {
  char challenge[8192];
  for (;;) {
    char *output = NULL;
    int code = gsasl_step64(session, input, &output);
    if (code != GSASL_OK && code != GSASL_NEEDS_MORE) {
      say(p, "535 5.7.8 credentials refused");
      return false;
    }
    /* SMTP has no place for the last words of a server but a challenge.  */
    bool last = code == GSASL_OK;
    if (!last || (output && *output)) {
      snprintf(challenge, sizeof challenge, "334 %s", output ? output : "");
      gsasl_free(output);
      say(p, challenge);
      if (!hear(p))
        return fault(p, "the client left during AUTH");
      if (strcmp(p->line, "*") == 0) {
        say(p, "501 5.7.0 as you wish");
        return false;
      }
      input = p->line;
    } else
      gsasl_free(output);
    if (last) {
      const char *user = gsasl_property_fast(session, GSASL_AUTHID);
      fprintf(p->log, "-- authenticated %s\n", user ? user : "");
      say(p, "235 2.7.0 welcome");
      return true;
    }
  }
}

/* The words of AUTH's initial response, or of a line of its own.  */
static const char *initial_response(struct peer *p, char *initial) {
  if (*initial)
    return initial;
  say(p, "334 ");
  return hear(p) ? p->line : "";
}

/* OAUTHBEARER and XOAUTH2, which GNU SASL does not know: the whole message has
   to be as the RFC says.  A refused token is told in JSON first.  */
static bool token(struct peer *p, bool bearer, const struct account *account,
                  char *initial) {
  static const char refusal[] =
      "{\"status\":\"invalid_token\",\"scope\":\"mail.send\",\"schemes\":"
      "\"bearer\", \"error_description\":\"token \\u0022expired\\u0022\"}";
  char wanted[4096], line[4096], *raw = NULL, *encoded = NULL;
  struct sockaddr_in own = {.sin_port = 0};
  socklen_t size = sizeof own;
  size_t len = 0;
  getsockname(p->fd, (void *)&own, &size);
  const char *response = initial_response(p, initial);
  gsasl_base64_from(response, strlen(response), &raw, &len);
  int n = bearer
              ? snprintf(wanted, sizeof wanted,
                         "n,a=%s,\1host=localhost\1port=%d\1auth=Bearer %s\1\1",
                         account->user, ntohs(own.sin_port), account->password)
              : snprintf(wanted, sizeof wanted, "user=%s\1auth=Bearer %s\1\1",
                         account->user, account->password);
  bool good = raw && len == (size_t)n && memcmp(raw, wanted, len) == 0;
  gsasl_free(raw);
  if (good) {
    fprintf(p->log, "-- authenticated %s\n", account->user);
    say(p, "235 2.7.0 welcome");
    return true;
  }
  gsasl_base64_to(refusal, sizeof refusal - 1, &encoded, NULL);
  snprintf(line, sizeof line, "334 %s", encoded);
  gsasl_free(encoded);
  say(p, line);
  if (!hear(p) || strcmp(p->line, bearer ? "AQ==" : "") != 0)
    return fault(p, "expected the answer to a refused token, got %s", p->line);
  say(p, "535 5.7.8 token refused");
  return true;
}

/* auth MECHANISM USER PASSWORD [binds]: read the command and verify.  */
static bool auth(struct peer *p, char *words) {
  char *rest = NULL, *mechanism = strtok_r(words, " ", &rest);
  const char *user = strtok_r(NULL, " ", &rest);
  const char *password = strtok_r(NULL, " ", &rest);
  const char *option = strtok_r(NULL, " ", &rest);
  struct account account = {p, user, password, option != NULL};
  Gsasl *context = NULL;
  Gsasl_session *session = NULL;
  if (!mechanism || !user || !password)
    return fault(p, "auth MECHANISM USER PASSWORD");
  if (strstr(mechanism, "-PLUS"))
    account.binds = true;
  if (!hear(p))
    return fault(p, "the client left before AUTH");
  size_t len = strlen(mechanism);
  if (strncmp(p->line, "AUTH ", 5) || strncmp(p->line + 5, mechanism, len) ||
      (p->line[5 + len] && p->line[5 + len] != ' '))
    return fault(p, "expected AUTH %s, got %s", mechanism, p->line);
  char *initial = p->line + 5 + len;
  initial += *initial == ' ';
  if (strstr(mechanism, "OAUTH"))
    return token(p, mechanism[0] == 'O', &account, initial);
  if (gsasl_init(&context) != GSASL_OK)
    return fault(p, "no SASL");
  gsasl_callback_set(context, answer);
  if (gsasl_server_start(context, mechanism, &session) == GSASL_OK) {
    gsasl_session_hook_set(session, &account);
    (void)exchange(p, session, strcmp(initial, "=") == 0 ? "" : initial);
    gsasl_finish(session);
  } else
    fault(p, "no mechanism %s", mechanism);
  gsasl_done(context);
  return !p->why[0];
}

/* data: take the message, check its form, deliver it.  */
static bool data(struct peer *p) {
  char file[512];
  FILE *out = NULL;
  unsigned long octets = 0;
  bool start = true, dotted = false;
  int before = 0;
  p->messages++;
  if (p->deliver) {
    snprintf(file, sizeof file, "%s/%04d.eml", p->deliver, p->messages);
    out = fopen(file, "w");
  }
  for (int c = get(p);; c = get(p)) {
    if (c == EOF || (c == '\n') != (before == '\r')) {
      fault(p, c == EOF ? "the client left during the message"
                        : "a CR or LF that stands alone");
      break;
    }
    if (dotted && c == '\n')
      break; /* CRLF "." CRLF */
    if (start && c == '.' && !dotted)
      dotted = true;
    else {
      if (dotted && c != '\r' && c != '.') {
        fault(p, "a leading dot that is not doubled");
        break;
      }
      if (!(dotted && c == '\r')) {
        dotted = false;
        octets++;
        if (out)
          fputc(c, out);
      }
      start = c == '\n';
    }
    before = c;
  }
  if (out)
    fclose(out);
  fprintf(p->log, "-- message %d: %lu octets\n", p->messages, octets);
  return !p->why[0];
}

/* bdat: take the chunks of a message up to the last, and answer all but that
   one.  */
static bool bdat(struct peer *p) {
  char file[512], last[8] = "";
  FILE *out = NULL;
  unsigned long octets = 0, size = 0;
  p->messages++;
  if (p->deliver) {
    snprintf(file, sizeof file, "%s/%04d.eml", p->deliver, p->messages);
    out = fopen(file, "w");
  }
  while (!p->why[0] && !last[0]) {
    if (!hear(p) || sscanf(p->line, "BDAT %lu %7s", &size, last) < 1) {
      fault(p, "expected BDAT, got \"%s\"", p->line);
      break;
    }
    for (unsigned long i = 0; i < size; i++) {
      int c = get(p);
      if (c == EOF && !fault(p, "the client left during a chunk"))
        break;
      if (out)
        fputc(c, out);
    }
    octets += size;
    if (!last[0])
      say(p, "250 2.0.0 chunk");
    else if (strcmp(last, "LAST") != 0)
      fault(p, "BDAT SIZE %s", last);
  }
  if (out)
    fclose(out);
  fprintf(p->log, "-- message %d: %lu octets\n", p->messages, octets);
  return !p->why[0];
}

/* chunks: take chunks and answer each, until another command comes, which is
   the next to be heard.  */
static bool chunks(struct peer *p) {
  while (hear(p)) {
    unsigned long size = 0;
    if (sscanf(p->line, "BDAT %lu", &size) != 1)
      return p->heard = true;
    while (size-- > 0)
      if (get(p) == EOF)
        return fault(p, "the client left during a chunk");
    say(p, "250 2.0.0 chunk");
  }
  return fault(p, "the client left");
}

/* chunk: take one chunk, and leave the answer to the script.  */
static bool chunk(struct peer *p) {
  unsigned long size = 0;
  if (!hear(p) || sscanf(p->line, "BDAT %lu", &size) != 1)
    return fault(p, "expected BDAT, got \"%s\"", p->line);
  for (unsigned long i = 0; i < size; i++)
    if (get(p) == EOF)
      return fault(p, "the client left during a chunk");
  return true;
}

/* Decode \r \n \t \\ \xNN in place; returns the length.  */
static size_t decode(char *text) {
  char *to = text;
  for (const char *at = text; *at; at++) {
    if (*at != '\\' || !at[1]) {
      *to++ = *at;
      continue;
    }
    at++;
    unsigned value = 0;
    if (*at == 'x' && sscanf(at + 1, "%2x", &value) == 1) {
      *to++ = (char)value;
      at += 2;
    } else
      *to++ = *at == 'r' ? '\r' : *at == 'n' ? '\n' : *at == 't' ? '\t' : *at;
  }
  return (size_t)(to - text);
}

/* drip MS TEXT: an octet at a time.  */
static void drip(struct peer *p, char *words) {
  char *text = NULL;
  int ms = (int)strtol(words, &text, 10);
  text += *text == ' ';
  size_t len = decode(text);
  for (size_t i = 0; i < len; i++) {
    struct pollfd gone = {.fd = p->fd, .events = POLLIN};
    put(p, text + i, 1);
    if (poll(&gone, 1, ms) > 0)
      return;
  }
}

/* Wait until the client gives up.  */
static bool stall(struct peer *p) {
  while (p->from < p->to || more(p))
    p->from = p->to;
  fprintf(p->log, "-- the client has gone\n");
  return true;
}

static void flood(struct peer *p, long octets) {
  char block[4096];
  memset(block, 'A', sizeof block);
  for (; octets > 0; octets -= (long)sizeof block)
    put(p, block, octets < (long)sizeof block ? (size_t)octets : sizeof block);
}

static void swallow(struct peer *p, long octets) {
  while (octets-- > 0 && get(p) != EOF)
    continue;
}

static void shut(struct peer *p, bool reset) {
  const struct linger abort = {.l_onoff = 1, .l_linger = 0};
  if (p->fd < 0)
    return;
  if (reset)
    setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  close(p->fd);
  p->fd = -1;
}

/* Go on when the other end of cancel_fd says so.  */
static bool await(struct peer *p) {
  struct pollfd word = {.fd = p->cancel_fd, .events = POLLIN};
  char octet;
  return (poll(&word, 1, p->timeout_ms) > 0 &&
          read(p->cancel_fd, &octet, 1) == 1) ||
         fault(p, "nobody says to go on");
}

/* The user of the client gives up.  */
static bool cancel(struct peer *p) {
  fputs("-- cancel\n", p->log);
  return (p->cancel_fd > 0 && write(p->cancel_fd, "", 1) == 1) ||
         fault(p, "there is nobody who could cancel");
}

/* The port of ADDRESS, of either family.  */
static int port_of(const struct sockaddr_storage *address) {
  return address->ss_family == AF_INET6
             ? ((const struct sockaddr_in6 *)(const void *)address)->sin6_port
             : ((const struct sockaddr_in *)(const void *)address)->sin_port;
}

/* The other end of P is a descriptor of this process, or has closed already.
   Another test may still know this port from a server that is gone, and its
   client is none of ours.  */
static bool ours(const struct peer *p) {
  struct sockaddr_storage there, here;
  socklen_t size = sizeof there;
  char octet;
  if (getpeername(p->fd, (struct sockaddr *)&there, &size) != 0)
    return true;
  for (int fd = 0; fd < 1024; fd++) {
    size = sizeof here;
    if (fd != p->fd && getsockname(fd, (struct sockaddr *)&here, &size) == 0 &&
        (here.ss_family == AF_INET || here.ss_family == AF_INET6) &&
        port_of(&here) == port_of(&there))
      return true;
  }
  return recv(p->fd, &octet, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static int next_client(struct peer *p) {
  struct pollfd waiting = {.fd = p->listening, .events = POLLIN};
  while (poll(&waiting, 1, p->timeout_ms) > 0) {
    p->fd = accept(p->listening, NULL, NULL);
    if (p->fd < 0 || !p->own_clients || ours(p))
      return p->fd;
    close(p->fd);
  }
  return -1;
}

/* Take the next connection.  */
static bool welcome(struct peer *p) {
  struct timeval limit = {.tv_sec = p->timeout_ms / 1000,
                          .tv_usec = p->timeout_ms % 1000 * 1000};
  p->from = p->to = 0;
  p->tls = NULL;
  p->credentials = NULL;
  p->fd = next_client(p);
  if (p->fd < 0)
    return fault(p, "nobody connects");
  setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  return true;
}

static void part(struct peer *p) {
  if (p->tls) {
    if (p->fd >= 0)
      gnutls_bye(p->tls, GNUTLS_SHUT_WR);
    gnutls_deinit(p->tls);
    gnutls_certificate_free_credentials(p->credentials);
    if (p->dh)
      gnutls_dh_params_deinit(p->dh);
    p->dh = NULL;
    p->tls = NULL;
  }
  shut(p, false);
}

/* Close this connection, and take the next.  */
static bool next_connection(struct peer *p) {
  part(p);
  fprintf(p->log, "-- next connection\n");
  return welcome(p);
}

/* What the client has to send in one go: it is there without waiting.  */
static bool flight(struct peer *p) {
  bool more_lines = p->from < p->to;
  return more_lines || fault(p, "the client waits for a reply first");
}

/* The client has sent nothing beyond what has been read.  */
static bool alone(struct peer *p) {
  struct pollfd more_octets = {.fd = p->fd, .events = POLLIN};
  bool none = p->from == p->to &&
              !(p->tls && gnutls_record_check_pending(p->tls)) &&
              poll(&more_octets, 1, 0) == 0;
  return none || fault(p, "the client does not wait");
}

/* The client leaves without a word, or has left.  */
static bool gone(struct peer *p) {
  return get(p) == EOF || fault(p, "the client goes on");
}

static bool expect_line(struct peer *p, const char *pattern) {
  if (!hear(p))
    return fault(p, "expected \"%s\", the client left", pattern);
  return fnmatch(pattern, p->line, FNM_NOESCAPE) == 0 ||
         fault(p, "expected \"%s\", got \"%s\"", pattern, p->line);
}

static bool is(const char *line, const char *verb, char **words) {
  size_t len = strlen(verb);
  if (strncmp(line, verb, len) || (line[len] && line[len] != ' '))
    return false;
  *words = (char *)(size_t)line + len + (line[len] == ' ');
  return true;
}

static bool step(struct peer *p, char *line);

/* times N STEP | STEP: one after the other, so many times.  */
static bool times(struct peer *p, char *words) {
  char *steps = NULL;
  long n = strtol(words, &steps, 10);
  for (; n > 0; n--)
    for (const char *at = steps + 1; at;) {
      const char *bar = strstr(at, " | ");
      char line[256];
      snprintf(line, sizeof line, "%.*s",
               bar ? (int)(bar - at) : (int)strlen(at), at);
      if (!step(p, line))
        return false;
      at = bar ? bar + 3 : NULL;
    }
  return true;
}

static bool step(struct peer *p, char *line) {
  char *words = NULL;
  if (!*line || *line == '#' || is(line, "client", &words) ||
      is(line, "expect", &words))
    return true;
  if (is(line, "S:", &words))
    say(p, words);
  else if (is(line, "C:", &words))
    return expect_line(p, words);
  else if (is(line, "tls", &words))
    return start_tls(p, words);
  else if (is(line, "tls-fails", &words))
    return tls_fails(p, words);
  else if (is(line, "auth", &words))
    return auth(p, words);
  else if (is(line, "data", &words))
    return data(p);
  else if (is(line, "bdat", &words))
    return bdat(p);
  else if (is(line, "chunk", &words))
    return chunk(p);
  else if (is(line, "chunks", &words))
    return chunks(p);
  else if (is(line, "alone", &words))
    return alone(p);
  else if (is(line, "gone", &words))
    return gone(p);
  else if (is(line, "times", &words))
    return times(p, words);
  else if (is(line, "call", &words))
    return (p->call && p->call(p->context, words)) ||
           fault(p, "cannot %s", words);
  else if (is(line, "next", &words))
    return next_connection(p);
  else if (is(line, "flight", &words))
    return flight(p);
  else if (is(line, "raw", &words))
    put(p, words, decode(words));
  else if (is(line, "drip", &words))
    drip(p, words);
  else if (is(line, "flood", &words))
    flood(p, strtol(words, NULL, 10));
  else if (is(line, "swallow", &words))
    swallow(p, strtol(words, NULL, 10));
  else if (is(line, "stall", &words))
    return stall(p);
  else if (is(line, "await", &words))
    return await(p);
  else if (is(line, "cancel", &words))
    return cancel(p);
  else if (is(line, "pause", &words))
    (void)poll(NULL, 0, (int)strtol(words, NULL, 10));
  else if (is(line, "reset", &words))
    shut(p, true);
  else if (is(line, "close", &words))
    shut(p, false);
  else
    return fault(p, "no such step: %s", line);
  return true;
}

/* Behind the script the client may say QUIT and leave, nothing more.  */
static void farewell(struct peer *p) {
  while (p->fd >= 0 && hear(p))
    if (strcmp(p->line, "QUIT") != 0)
      fault(p, "unexpected at the end: \"%s\"", p->line);
}

static bool play(struct peer *p, const char *script) {
  bool good = true;
  char line[8192];
  for (p->number = 1; good && *script; p->number++) {
    size_t len = strcspn(script, "\n");
    snprintf(line, sizeof line, "%.*s", (int)len, script);
    script += len + (script[len] == '\n');
    bool without = strcmp(line, "next") == 0 || strncmp(line, "call ", 5) == 0;
    good = p->fd >= 0 || without ? step(p, line) : true;
  }
  if (good)
    farewell(p);
  return !p->why[0];
}

bool peer_run(struct peer *p, int listening, const char *script) {
  p->why[0] = '\0';
  p->listening = listening;
  if (!welcome(p))
    return false;
  bool good = play(p, script);
  part(p);
  fflush(p->log);
  return good;
}
