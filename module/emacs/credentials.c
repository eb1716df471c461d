/* SPDX-License-Identifier: GPL-3.0-or-later */
/* credentials.c - the two classic variables, read from their Lisp values.  */
#include "emacs/credentials.h"
#include "base/ascii.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const variables[] = {
    [SMN_CREDENTIALS_AUTH] = "smtpmail-auth-credentials",
    [SMN_CREDENTIALS_STARTTLS] = "smtpmail-starttls-credentials",
};

static bool same_word(const char *a, const char *b) {
  return smn_ascii_same(a, strlen(a), b, strlen(b));
}

/* The services of mail are known here: /etc/services may be missing.  */
static int service_port(const char *name) {
  static const struct {
    const char *name;
    int port;
  } known[] = {
      {"smtp", 25},         {"mail", 25},   {"submission", 587}, {"smtps", 465},
      {"submissions", 465}, {"ssmtp", 465}, {"urd", 465},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (same_word(name, known[i].name))
      return known[i].port;
  const struct addrinfo hints = {
      .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
  struct addrinfo *found = NULL;
  int port = 0;
  /* getaddrinfo would also take " 25" for a number.  */
  if (smn_ascii_letter(*name) && getaddrinfo(NULL, name, &hints, &found) == 0) {
    const struct sockaddr_in *in = (const void *)found->ai_addr;
    port = ntohs(in->sin_port);
    freeaddrinfo(found);
  }
  return port;
}

/* Digits alone make a number; 0 when it is none or not a port.  */
static int decimal_port(const char *text) {
  int port = 0;
  for (; *text >= '0' && *text <= '9' && port <= 65535; text++)
    port = port * 10 + (*text - '0');
  return *text == '\0' && port <= 65535 ? port : 0;
}

static int text_port(const char *text) {
  return *text >= '0' && *text <= '9' ? decimal_port(text) : service_port(text);
}

static int port_number(emacs_env *env, emacs_value port, const char *what) {
  if (smn_lisp_is(env, "integerp", port)) {
    bool small = smn_lisp_is(env, "fixnump", port);
    intmax_t number = small ? env->extract_integer(env, port) : 0;
    return number > 0 && number <= 65535 ? (int)number : 0;
  }
  if (!smn_lisp_is(env, "stringp", port))
    return 0;
  char *text = smn_lisp_string(env, port, what);
  int number = text ? text_port(text) : 0;
  free(text);
  return number;
}

int smn_credentials_port(emacs_env *env, emacs_value port) {
  return port_number(env, port, "The port");
}

/* Entries */

static void malformed(emacs_env *env, const char *variable, long position,
                      const char *problem) {
  char text[256];
  snprintf(text, sizeof text, "Entry %ld of %s %s", position, variable,
           problem);
  smn_lisp_signal(env, "smtpmail-native-usage-error", text);
}

static bool string_or_nil(emacs_env *env, emacs_value value) {
  return !smn_lisp_true(env, value) || smn_lisp_is(env, "stringp", value);
}

/* Take ENTRY apart into FIELDS.  False with a signal pending.  A fifth element
   (a file of authorities, by an old patch) is let pass.  */
static bool take_apart(emacs_env *env, emacs_value entry, const char *variable,
                       long position, emacs_value fields[4]) {
  const char *problem = NULL;
  int count = 0;
  for (int i = 0; i < 4; i++)
    fields[i] = smn_lisp_nil(env);
  emacs_value rest = entry;
  for (; count < 5 && smn_lisp_is(env, "consp", rest); count++) {
    emacs_value item = smn_lisp_car(env, rest);
    if (count < 4)
      fields[count] = item;
    rest = smn_lisp_cdr(env, rest);
  }
  if (count == 0)
    problem = "is not a list";
  else if (smn_lisp_true(env, rest))
    problem = smn_lisp_is(env, "consp", rest) ? "has more than four elements"
                                              : "is a dotted list";
  else if (count < 2)
    problem = "has no port";
  else if (!string_or_nil(env, fields[0]))
    problem = "has a host that is not a string";
  else if (!smn_lisp_is(env, "integerp", fields[1]) &&
           !string_or_nil(env, fields[1]))
    problem = "has a port that is neither an integer nor a string";
  else if (!string_or_nil(env, fields[2]))
    problem = "has a third element that is neither a string nor nil";
  else if (!string_or_nil(env, fields[3]))
    problem = "has a fourth element that is neither a string nor nil";
  if (problem)
    malformed(env, variable, position, problem);
  return smn_lisp_ok(env);
}

/* Whether the entry at POSITION is for HOST and PORT.  False with a signal
   pending for strings that C cannot hold.  */
static bool matches(emacs_env *env, const emacs_value fields[4],
                    const char *variable, long position, const char *host,
                    int port) {
  char host_of[128], port_of[128];
  if (port == 0 || !smn_lisp_true(env, fields[0]))
    return false;
  snprintf(host_of, sizeof host_of, "Entry %ld of %s has a host that", position,
           variable);
  snprintf(port_of, sizeof port_of, "Entry %ld of %s has a port that", position,
           variable);
  char *name = smn_lisp_string(env, fields[0], host_of);
  bool match = name && *name && same_word(name, host) &&
               port_number(env, fields[1], port_of) == port;
  free(name);
  return match;
}

/* Find the entry and take it apart into FIELDS.  */
static emacs_value find(emacs_env *env, enum smn_credentials which,
                        const char *host, int port, emacs_value fields[4]) {
  const char *variable = variables[which];
  emacs_value list = smn_lisp_variable(env, variable);
  /* A string names a file, which is Lisp's to read.  */
  if (!smn_lisp_true(env, list) || smn_lisp_is(env, "stringp", list))
    return smn_lisp_nil(env);
  if (!smn_lisp_is(env, "consp", list)) {
    char text[128];
    snprintf(text, sizeof text, "%s is not a list", variable);
    smn_lisp_signal(env, "smtpmail-native-usage-error", text);
    return NULL;
  }
  /* One entry without the outer list, as many a user has written it.  */
  bool flat = smn_lisp_is(env, "stringp", smn_lisp_car(env, list));
  /* Finite for a circular list, too.  */
  emacs_value length = smn_lisp_call(env, "safe-length", 1, &list);
  intmax_t count = smn_lisp_ok(env) ? env->extract_integer(env, length) : 0;
  for (long position = 1; position <= count; position++) {
    emacs_value entry = flat ? list : smn_lisp_car(env, list);
    if (!take_apart(env, entry, variable, position, fields))
      return NULL;
    if (matches(env, fields, variable, position, host, port))
      return entry;
    if (!smn_lisp_ok(env))
      return NULL;
    list = flat ? smn_lisp_nil(env) : smn_lisp_cdr(env, list);
    if (!smn_lisp_is(env, "consp", list))
      break;
  }
  if (smn_lisp_true(env, list)) {
    char text[128];
    snprintf(text, sizeof text, "%s is not a proper list", variable);
    smn_lisp_signal(env, "smtpmail-native-usage-error", text);
  }
  return smn_lisp_ok(env) ? smn_lisp_nil(env) : NULL;
}

emacs_value smn_credentials_find(emacs_env *env, enum smn_credentials which,
                                 const char *host, int port) {
  emacs_value fields[4] = {NULL, NULL, NULL, NULL};
  emacs_value entry = find(env, which, host, port, fields);
  return smn_lisp_ok(env) ? entry : NULL;
}

static bool is_uri(const char *name) {
  static const char scheme[] = "pkcs11:";
  return strncmp(name, scheme, sizeof scheme - 1) == 0;
}

/* A copy of the file name VALUE, expanded and in the file system's coding;
   NULL for nil and "".  A PKCS #11 URI is no file name, and stays as it is.  */
static char *file_name(emacs_env *env, emacs_value value) {
  if (!smn_lisp_true(env, value))
    return NULL;
  char *given = smn_lisp_string(env, value, "a file name");
  if (given && is_uri(given))
    return given;
  bool empty = !given || !*given;
  free(given);
  if (empty)
    return NULL;
  emacs_value expanded = smn_lisp_call(env, "expand-file-name", 1, &value);
  emacs_value coding = smn_lisp_variable(env, "file-name-coding-system");
  if (!smn_lisp_true(env, coding))
    coding = smn_lisp_variable(env, "default-file-name-coding-system");
  emacs_value args[] = {expanded, coding};
  emacs_value encoded = smn_lisp_call(env, "encode-coding-string", 2, args);
  return smn_lisp_string(env, encoded, "a file name");
}

/* One of key and certificate may stand for both: the core looks into it.  Half
   a pair is most often a slip, which a file that is not there shows.  */
static void check_half(emacs_env *env, const struct smn_server *server) {
  const char *only = server->key_file ? server->key_file : server->cert_file;
  char text[512];
  if (!smn_lisp_ok(env) || !server->key_file == !server->cert_file ||
      is_uri(only) || access(only, R_OK) == 0)
    return;
  snprintf(text, sizeof text,
           "The entry of smtpmail-starttls-credentials for this server names "
           "only one of key and certificate, and cannot be read: %.300s",
           only);
  smn_lisp_signal(env, "smtpmail-native-usage-error", text);
}

static void fill_starttls(emacs_env *env, struct smn_server *server) {
  emacs_value fields[4] = {NULL, NULL, NULL, NULL};
  emacs_value entry =
      find(env, SMN_CREDENTIALS_STARTTLS, server->host, server->port, fields);
  if (!smn_lisp_ok(env) || !smn_lisp_true(env, entry))
    return;
  if (server->stream != SMN_STREAM_TLS)
    server->stream = SMN_STREAM_STARTTLS;
  if (server->key_file || server->cert_file)
    return;
  server->key_file = file_name(env, fields[2]);
  server->cert_file = file_name(env, fields[3]);
  check_half(env, server);
}

/* A user or password that is nil or empty means: ask, which is Lisp's part.  */
static void fill_auth(emacs_env *env, struct smn_server *server) {
  emacs_value fields[4] = {NULL, NULL, NULL, NULL};
  emacs_value entry =
      find(env, SMN_CREDENTIALS_AUTH, server->host, server->port, fields);
  if (!smn_lisp_true(env, entry) || !smn_lisp_true(env, fields[2]) ||
      !smn_lisp_true(env, fields[3]))
    return;
  free(server->user);
  server->user = smn_lisp_string(
      env, fields[2], "The user in smtpmail-auth-credentials for this server");
  server->authenticate =
      server->user && *server->user &&
      smn_lisp_secret(
          env, fields[3],
          "The password in smtpmail-auth-credentials for this server",
          &server->password) &&
      server->password.len > 0;
}

bool smn_credentials_fill(emacs_env *env, struct smn_server *server,
                          bool authenticate) {
  fill_starttls(env, server);
  if (authenticate && !server->authenticate)
    fill_auth(env, server);
  return smn_lisp_ok(env);
}
