/* SPDX-License-Identifier: GPL-3.0-or-later */
/* module.c - what Lisp sees: the primitives.
   Main thread only.  Every primitive converts and checks all of its arguments,
   looks once for a pending exit, and then acts; none blocks, prompts or
   prints.  Text of the server leaves as unibyte strings.  */
#include "emacs/credentials.h"
#include "emacs/lisp.h"
#include "emacs/report.h"
#include "emacs/request.h"
#include "emacs/steps.h"
#include "engine/disk.h"
#include "engine/engine.h"
#include "engine/events.h"
#include "engine/network.h"
#include "mail/claim.h"
#include "mail/entry.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT int plugin_is_GPL_compatible;
EXPORT int emacs_module_init(struct emacs_runtime *runtime);

/* A hash of the sources, made by the build.  Lisp reads it from the file before
   it loads the module, and refuses one that was built from other sources.  */
static const char abi_mark[] = "smtpmail-native-module-abi=" SMN_ABI;

static emacs_value integer(emacs_env *env, intmax_t number) {
  return env->make_integer(env, number);
}

static const char send_doc[] =
    "Copy the job that PLIST describes, start it, and return its integer id.\n"
    "The outcome comes as an event.  Strings are encoded, and nil is as good\n"
    "as no value.  PLIST has\n"
    ":host, :port       string, and what `find-auth' takes\n"
    "                   A :host that is a file name, alone or behind unix:, "
    "is\n"
    "                   a local socket; lmtp: before either makes it LMTP\n"
    ":source            address in digits to connect from\n"
    ":proxy             socks5://[USER:PASSWORD@]HOST:PORT or http://...: who\n"
    "                   resolves the name of :host and connects to it\n"
    ":stream            nil (STARTTLS if offered), plain, starttls, tls, ssl\n"
    ":helo              the name for EHLO; nil: the address of this end of "
    "the\n"
    "                   connection, in brackets\n"
    ":avoid             names of extensions, in upper case and separated by\n"
    "                   spaces, that are not used even if they are offered\n"
    ":timeout-ms        of each wait\n"
    ":cleartext         where secrets go unencrypted: nil, loopback, t\n"
    ":trace             non-nil: events tell of every line\n"
    ":trustfiles        list of PEM files, beside the system's authorities\n"
    ":crlfiles          list of PEM files\n"
    ":priority          as `gnutls-algorithm-priority'; without %PROFILE in\n"
    "                   it less than 112 bits are refused\n"
    ":min-prime-bits    as `gnutls-min-prime-bits'\n"
    ":pins              list of SHA-256 fingerprints (hex, maybe with colons)\n"
    "                   of the server's certificate or public key; a match\n"
    "                   replaces all other verification, and without one the\n"
    "                   server is refused\n"
    ":key, :cert        of the client: PEM files, one PKCS#12 file, or "
    "pkcs11:\n"
    "                   URIs; one of the two may stand for both\n"
    ":passphrase        of the key, or PIN of its token\n"
    ":auth              non-nil: authenticate, by what follows\n"
    ":user, :password   with no :password they come from\n"
    "                   `smtpmail-auth-credentials'; none is needed where\n"
    "                   the certificate (EXTERNAL) or GSSAPI tells who it is\n"
    ":token             non-nil: the password is an OAuth 2.0 token\n"
    ":authzid           user to act as, if another one\n"
    ":mechanisms        string of names, separated by spaces, to be tried in\n"
    "                   this order; nil: the strongest first.  GSSAPI,\n"
    "                   DIGEST-MD5 and NTLM are only used when named here\n"
    ":if-offered        non-nil: a server that offers no mechanism at all "
    "gets\n"
    "                   the message without authentication\n"
    ":idle-ms           for which the connection is kept for further mails\n"
    ":max-sessions      for one account at a time\n"
    ":sender, :recipients, :file   string, list of strings, file name\n"
    ":notify, :ret, :envid   what RFC 3461 has for NOTIFY, RET and ENVID\n"
    ":require-tls       non-nil: REQUIRETLS (RFC 8689), or it is not sent\n"
    ":deliver-by        by-value of RFC 2852, as \"3600;R\"\n"
    ":release           time in seconds before which the server is to keep\n"
    "                   it (RFC 4865)\n"
    ":partial           non-nil: the accepted recipients get it alone\n"
    ":chunking          non-nil: BDAT where it is offered\n"
    ":utf-8             non-nil: its header is not ASCII (SMTPUTF8)\n"
    ":binary            non-nil: the octets of :file go as they are, which\n"
    "                   takes :chunking and a server with BINARYMIME\n"
    ":entry             directory in the outbox: its receipt tells of the\n"
    "                   attempt :attempt\n"
    ":durable           non-nil: the files of :entry have been synced; if "
    "nil,\n"
    "                   that is done first\n"
    ":probe             non-nil: look at the server, log in if there is "
    ":auth,\n"
    "                   and send nothing\n"
    "An entry of `smtpmail-starttls-credentials' makes STARTTLS a must.\n"
    "Signal `smtpmail-native-usage-error' for what cannot be used, and for "
    "any\n"
    "other key.  Bind `inhibit-quit' around the call, since a quit while it\n"
    "returns loses the id.\n"
    "\n(fn PLIST)";

static emacs_value Fsend(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  struct smn_error err = {.kind = SMN_OK};
  long id = 0;
  (void)count;
  (void)unused;
  struct smn_job *job = smn_request_job(env, args[0]);
  if (!job)
    return NULL;
  enum smn_kind kind = smn_job_check(job, &err);
  if (kind != SMN_OK)
    smn_job_free(job);
  else
    kind = smn_engine_submit(job, &id, &err);
  if (kind == SMN_OK)
    return integer(env, id);
  smn_lisp_signal(env,
                  kind == SMN_USAGE ? "smtpmail-native-usage-error"
                                    : "smtpmail-native-error",
                  err.text);
  return NULL;
}

#define EVENTS_MAX 100 /* that are handed out at once, if Lisp does not say */

static const char events_doc[] =
    "Append what has happened to QUEUE; return t if more is waiting.\n"
    "QUEUE is a cons cell whose cdr is a list of events.  At most MAX are\n"
    "appended, or 100 if MAX is nil.  An event is (ID KIND . PLIST), with KIND "
    "one\n"
    "of `trace', `progress', `done', `disk' and `network'.  Text is unibyte\n"
    "and untrusted.\n"
    "An event leaves the module when it is in QUEUE: a quit or an error loses\n"
    "none and brings none twice.\n"
    "\n(fn QUEUE &optional MAX)";

/* Return how many events may be handed out.  */
static size_t get_max(emacs_env *env, ptrdiff_t count, emacs_value *args) {
  if (count < 2 || !smn_lisp_true(env, args[1]))
    return EVENTS_MAX;
  intmax_t max = env->extract_integer(env, args[1]);
  if (smn_lisp_ok(env) && max < 1)
    smn_lisp_signal(env, "smtpmail-native-usage-error", "MAX is not positive");
  return smn_lisp_ok(env) && (uintmax_t)max < SIZE_MAX ? (size_t)max : SIZE_MAX;
}

static emacs_value Fevents(emacs_env *env, ptrdiff_t count, emacs_value *args,
                           void *unused) {
  size_t max = get_max(env, count, args), converted = 0;
  bool more = false;
  (void)unused;
  if (smn_lisp_ok(env) && !smn_lisp_is(env, "consp", args[0]))
    smn_lisp_signal(env, "smtpmail-native-usage-error",
                    "QUEUE is not a cons cell");
  if (!smn_lisp_ok(env))
    return NULL;
  const struct smn_event *event = smn_events_borrow(max, &more);
  emacs_value list = smn_lisp_nil(env);
  for (; event && converted < max; event = event->next, converted++) {
    emacs_value cells[] = {smn_report_event(env, event), list};
    list = smn_lisp_call(env, "cons", 2, cells);
  }
  /* The one step that counts: once it is done they are Lisp's, even if Emacs
     quits while this function returns.  */
  emacs_value lists[] = {args[0], smn_lisp_call(env, "nreverse", 1, &list)};
  (void)smn_lisp_call(env, "nconc", 2, lists);
  smn_events_delivered(smn_lisp_ok(env) ? converted : 0);
  return smn_lisp_bool(env, more);
}

static const char disk_doc[] =
    "Hand STEPS to the thread that works on the disk; return an integer id.\n"
    "All that is handed in is done in its order, and no connection holds it "
    "up.\n"
    "What follows the step (aside) holds up nothing that is handed in later.\n"
    "STEPS is a list; the first step that fails ends it.  A step is\n"
    "(create DIRECTORY CLAIM TARGET NAME OCTETS...)\n"
    "                      make DIRECTORY, let CLAIM hold it, write OCTETS "
    "into\n"
    "                      each file NAME, and rename it to TARGET if that is\n"
    "                      not nil; on failure nothing is left.  What holds "
    "it\n"
    "                      is as for the step area\n"
    "(area DIRECTORY)      make it if it is missing, and sync its name; it "
    "must\n"
    "                      be ours, and no one else may write to it\n"
    "(write FILE OCTETS)   replace FILE by a new one of mode 0600, which is\n"
    "                      synced before it is renamed; its directory is "
    "not\n"
    "(sync FILE)           sync a regular file or a directory\n"
    "(sync-all DIRECTORY)  sync the regular files in it, then itself\n"
    "(rename FROM TO)\n"
    "(delete FILE)         a missing one is fine\n"
    "(remove DIRECTORY)    delete its files, \"receipt\" last, then itself;\n"
    "                      a missing one is fine; links are not followed\n"
    "(append FILE OCTETS LIMIT)\n"
    "                      add OCTETS to FILE, a log of mode 0600 that is "
    "ours;\n"
    "                      if it would get longer than LIMIT, an integer, it\n"
    "                      becomes FILE.1 before\n"
    "File names are absolute, and encoded.  When all is done, or a step has\n"
    "failed, one event comes: (ID disk :kind ok), or\n"
    "(ID disk :kind file :text TEXT :step N :errno NAME), where N counts "
    "from\n"
    "0 and NAME is a string such as \"ENOSPC\", or nil for an unusual error.\n"
    "\n(fn STEPS)";

static emacs_value Fdisk(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  struct smn_error err;
  size_t length = 0;
  long id = 0;
  (void)count;
  (void)unused;
  struct smn_step *steps = smn_steps_get(env, args[0], &length);
  if (!steps)
    return NULL;
  if (smn_disk_submit(steps, length, &id, &err) == SMN_OK)
    return integer(env, id);
  smn_disk_discard(steps, length);
  smn_lisp_signal(env, "smtpmail-native-error", err.text);
  return NULL;
}

static const char network_doc[] =
    "Watch the networks of this machine; return an integer id, or nil if it\n"
    "cannot.  An event (ID network) comes whenever there may be a way to\n"
    "others that was not there before: a new route, a link that is up again,\n"
    "the end of a suspend.  There is one watch: the one before ends.  With "
    "OFF\n"
    "non-nil end the watch, and return nil.\n"
    "\n(fn &optional OFF)";

static emacs_value Fnetwork(emacs_env *env, ptrdiff_t count, emacs_value *args,
                            void *unused) {
  struct smn_error err;
  long id = 0;
  (void)unused;
  if (count > 0 && smn_lisp_true(env, args[0]))
    smn_network_unwatch();
  else if (smn_network_watch(&id, &err) == SMN_OK)
    return integer(env, id);
  return smn_lisp_nil(env);
}

/* The other primitives */

static emacs_value find_credentials(emacs_env *env, emacs_value *args,
                                    enum smn_credentials which) {
  char *host = smn_lisp_string(env, args[0], "HOST");
  int port = smn_credentials_port(env, args[1]);
  emacs_value entry =
      host ? smn_credentials_find(env, which, host, port) : NULL;
  free(host);
  return smn_lisp_ok(env) ? entry : NULL;
}

static const char find_auth_doc[] =
    "Return the first entry of `smtpmail-auth-credentials' for HOST and PORT.\n"
    "HOST is a string, compared without regard to case; PORT an integer, a\n"
    "decimal string or the name of a service.  The value is the entry itself,\n"
    "or nil.  Signal `smtpmail-native-usage-error' for a malformed entry.\n"
    "\n(fn HOST PORT)";

static emacs_value Ffind_auth(emacs_env *env, ptrdiff_t count,
                              emacs_value *args, void *unused) {
  (void)count;
  (void)unused;
  return find_credentials(env, args, SMN_CREDENTIALS_AUTH);
}

static const char find_starttls_doc[] =
    "Return the first entry of `smtpmail-starttls-credentials' for HOST and "
    "PORT.\n"
    "All is as in `smtpmail-native-module-find-auth'.\n"
    "\n(fn HOST PORT)";

static emacs_value Ffind_starttls(emacs_env *env, ptrdiff_t count,
                                  emacs_value *args, void *unused) {
  (void)count;
  (void)unused;
  return find_credentials(env, args, SMN_CREDENTIALS_STARTTLS);
}

static const char port_doc[] =
    "Return the port that SERVICE means, an integer, or nil if it means none.\n"
    "SERVICE is an integer, a decimal string, or the name of a service of "
    "mail\n"
    "or of the services database of this machine.\n"
    "\n(fn SERVICE)";

static emacs_value Fport(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  (void)count;
  (void)unused;
  int port = smn_credentials_port(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return port ? env->make_integer(env, port) : env->intern(env, "nil");
}

static const char cancel_doc[] =
    "Ask the job ID to stop; return nil if it is not under way.\n"
    "The outcome still arrives as an event.\n"
    "\n(fn ID)";

static emacs_value Fcancel(emacs_env *env, ptrdiff_t count, emacs_value *args,
                           void *unused) {
  (void)count;
  (void)unused;
  intmax_t id = env->extract_integer(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return smn_lisp_bool(env, smn_engine_cancel((long)id));
}

static const char open_doc[] =
    "Let the module wake Emacs by output of the pipe process PROCESS.\n"
    "The octets mean nothing; `smtpmail-native-module-events' tells the rest.\n"
    "\n(fn PROCESS)";

static emacs_value Fopen(emacs_env *env, ptrdiff_t count, emacs_value *args,
                         void *unused) {
  (void)count;
  (void)unused;
  int fd = env->open_channel(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  smn_events_wake(fd);
  return smn_lisp_nil(env);
}

static const char claim_doc[] =
    "Claim the entry of the outbox whose lock is FILE, for this Emacs alone.\n"
    "Return an integer for `smtpmail-native-module-release', or nil if "
    "another\n"
    "holds it.  The claim ends with this Emacs.  FILE is encoded; it is made\n"
    "if it is missing.  Without FILE the claim holds nothing until the step\n"
    "`create' of `smtpmail-native-module-disk' is done with it.  Signal\n"
    "`smtpmail-native-error' if it cannot be locked.\n"
    "\n(fn FILE)";

static emacs_value Fclaim(emacs_env *env, ptrdiff_t count, emacs_value *args,
                          void *unused) {
  struct smn_error err;
  int claim = 0;
  enum smn_kind kind = SMN_OK;
  (void)count;
  (void)unused;
  if (smn_lisp_true(env, args[0])) {
    char *file = smn_lisp_string(env, args[0], "FILE");
    if (!file)
      return NULL;
    kind = smn_claim_take(file, &claim, &err);
    free(file);
  } else if (!(claim = smn_claim_new()))
    kind = smn_fail(&err, SMN_SYSTEM, "no memory");
  if (kind != SMN_OK) {
    smn_lisp_signal(env, "smtpmail-native-error", err.text);
    return NULL;
  }
  return claim ? integer(env, claim) : smn_lisp_nil(env);
}

static const char release_doc[] =
    "Let go of CLAIM, a value of `smtpmail-native-module-claim'.\n"
    "Return nil if it is not held.\n"
    "\n(fn CLAIM)";

static emacs_value Frelease(emacs_env *env, ptrdiff_t count, emacs_value *args,
                            void *unused) {
  (void)count;
  (void)unused;
  intmax_t claim = env->extract_integer(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return smn_lisp_bool(env, smn_claim_release((int)claim));
}

static const char entry_doc[] =
    "Read the files of the entry of the outbox in DIRECTORY, which is "
    "encoded.\n"
    "Return [MESSAGE.EL STATE RECEIPT SIZE]: unibyte strings, and the octets "
    "of\n"
    "the file message, which is not read.  An element is nil if its file is\n"
    "missing, and t if it is no file that may be used, has more than MAX "
    "octets,\n"
    "or cannot be read.  Return nil if DIRECTORY is missing or may not be "
    "used.\n"
    "\n(fn DIRECTORY MAX)";

static emacs_value Fentry(emacs_env *env, ptrdiff_t count, emacs_value *args,
                          void *unused) {
  struct smn_entry entry;
  emacs_value items[SMN_ENTRY_FILES + 1], value = smn_lisp_nil(env);
  (void)count;
  (void)unused;
  intmax_t max = env->extract_integer(env, args[1]);
  char *directory = smn_lisp_string(env, args[0], "DIRECTORY");
  if (!directory)
    return NULL;
  if (smn_entry_read(directory, max < 0 ? 0 : (size_t)max, &entry)) {
    for (int i = 0; i < SMN_ENTRY_FILES; i++)
      items[i] =
          entry.files[i].found == SMN_ENTRY_READ
              ? smn_lisp_octets(env, entry.files[i].content.data,
                                entry.files[i].content.len)
              : smn_lisp_bool(env, entry.files[i].found == SMN_ENTRY_ODD);
    items[SMN_ENTRY_FILES] =
        entry.message == SMN_ENTRY_READ
            ? integer(env, (intmax_t)entry.size)
            : smn_lisp_bool(env, entry.message == SMN_ENTRY_ODD);
    value = smn_lisp_call(env, "vector", SMN_ENTRY_FILES + 1, items);
  }
  smn_entry_free(&entry);
  free(directory);
  return value;
}

static const char shutdown_doc[] =
    "Wait at most MS milliseconds for all jobs to end.\n"
    "After half of that time those that are left are cancelled.  Return nil "
    "if\n"
    "some did not end.\n"
    "\n(fn MS)";

static emacs_value Fshutdown(emacs_env *env, ptrdiff_t count, emacs_value *args,
                             void *unused) {
  (void)count;
  (void)unused;
  intmax_t ms = env->extract_integer(env, args[0]);
  if (!smn_lisp_ok(env))
    return NULL;
  return smn_lisp_bool(env, smn_engine_shutdown(ms < 0       ? 0
                                                : ms > 60000 ? 60000
                                                             : (int)ms));
}

static const char abi_doc[] =
    "Return the hash of the sources that the module was built from.\n"
    "\n(fn)";

static emacs_value Fabi(emacs_env *env, ptrdiff_t count, emacs_value *args,
                        void *unused) {
  (void)count;
  (void)args;
  (void)unused;
  const char *abi = strchr(abi_mark, '=') + 1;
  return env->make_string(env, abi, (ptrdiff_t)strlen(abi));
}

int emacs_module_init(struct emacs_runtime *runtime) {
  static const struct {
    const char *name;
    ptrdiff_t min, max; /* arguments */
    smn_lisp_function *function;
    const char *doc;
  } primitives[] = {
      {"smtpmail-native-module-find-auth", 2, 2, Ffind_auth, find_auth_doc},
      {"smtpmail-native-module-port", 1, 1, Fport, port_doc},
      {"smtpmail-native-module-find-starttls", 2, 2, Ffind_starttls,
       find_starttls_doc},
      {"smtpmail-native-module-send", 1, 1, Fsend, send_doc},
      {"smtpmail-native-module-cancel", 1, 1, Fcancel, cancel_doc},
      {"smtpmail-native-module-claim", 1, 1, Fclaim, claim_doc},
      {"smtpmail-native-module-release", 1, 1, Frelease, release_doc},
      {"smtpmail-native-module-entry", 2, 2, Fentry, entry_doc},
      {"smtpmail-native-module-disk", 1, 1, Fdisk, disk_doc},
      {"smtpmail-native-module-network", 0, 1, Fnetwork, network_doc},
      {"smtpmail-native-module-events", 1, 2, Fevents, events_doc},
      {"smtpmail-native-module-open", 1, 1, Fopen, open_doc},
      {"smtpmail-native-module-shutdown", 1, 1, Fshutdown, shutdown_doc},
      {"smtpmail-native-module-abi", 0, 0, Fabi, abi_doc},
  };
  if (runtime->size < (ptrdiff_t)sizeof *runtime)
    return 1;
  emacs_env *env = runtime->get_environment(runtime);
  if (env->size < (ptrdiff_t)sizeof(struct emacs_env_28))
    return 2;
  for (size_t i = 0; i < sizeof primitives / sizeof *primitives; i++)
    smn_lisp_defun(env, primitives[i].name, primitives[i].min,
                   primitives[i].max, primitives[i].function,
                   primitives[i].doc);
  emacs_value feature = env->intern(env, "smtpmail-native-module");
  smn_lisp_call(env, "provide", 1, &feature);
  return 0;
}
