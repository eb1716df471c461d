/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-worked.c - what is remembered of a password, and for how many.  */
#include "check.h"
#include "sasl/mechanisms.h"
#include "sasl/worked.h"

#include <pthread.h>

static struct smn_buf secret(const char *text) {
  struct smn_buf buf;
  CHECK(smn_buf_init_secret(&buf, 64) && smn_buf_add_string(&buf, text));
  return buf;
}

/* What is known of C: its mechanism, "none", or "" for nothing.  */
static const char *known(const struct smn_credentials *c) {
  const struct smn_mechanism *m = smn_mechanism("GSSAPI");
  if (!smn_worked_recall(c, &m))
    return m ? "not cleared" : "";
  return m ? m->name : "none";
}

/* All parts count, and none runs into the next.  */
static void check_identity(void) {
  struct smn_buf password = secret("bpass"), other = secret("pass"),
                 none = {.data = NULL};
  const struct smn_credentials good = {
      .host = "h", .port = 25, .user = "user", .password = &password};
  struct smn_credentials c[7] = {good, good, good, good, good, good, good};
  c[0].host = "hu";
  c[0].user = "ser";
  c[1].port = 26;
  c[2].user = "userb";
  c[2].password = &other;
  c[3].authzid = "user";
  c[4].password = &other;
  c[5].password = &none;
  c[6].user = NULL;
  CHECK_STRING(known(&good), "");
  smn_worked_note(&good, smn_mechanism("LOGIN"));
  CHECK_STRING(known(&good), "LOGIN");
  for (size_t i = 0; i < sizeof c / sizeof *c; i++)
    CHECK_STRING(known(&c[i]), "");
  smn_worked_note(&c[3], NULL);
  CHECK_STRING(known(&c[3]), "none");
  CHECK_STRING(known(&good), "LOGIN");
  smn_worked_note(&good, smn_mechanism("PLAIN"));
  CHECK_STRING(known(&good), "PLAIN");
  smn_worked_forget();
  CHECK_STRING(known(&good), "");
  smn_buf_free(&password);
  smn_buf_free(&other);
}

/* The one that was used least lately makes room.  */
static void check_bound(void) {
  struct smn_buf password = secret("pass");
  struct smn_credentials c = {.host = "h", .password = &password};
  for (c.port = 1; c.port <= SMN_WORKED_MAX; c.port++)
    smn_worked_note(&c, smn_mechanism("LOGIN"));
  c.port = 1;
  CHECK_STRING(known(&c), "LOGIN");
  c.port = SMN_WORKED_MAX + 1;
  smn_worked_note(&c, NULL);
  int left = 0;
  for (c.port = 1; c.port <= SMN_WORKED_MAX + 1; c.port++)
    left += known(&c)[0] != '\0';
  CHECK_INT(left, SMN_WORKED_MAX);
  c.port = 1;
  CHECK_STRING(known(&c), "LOGIN");
  c.port = 2;
  CHECK_STRING(known(&c), "");
  smn_worked_forget();
  smn_buf_free(&password);
}

/* Checks count in one thread only.  */
static void *worker(void *argument) {
  struct smn_credentials *c = argument;
  for (int i = 0; i < 200; i++) {
    const char *name = i % 2 ? "LOGIN" : "PLAIN";
    smn_worked_note(c, smn_mechanism(name));
    if (strcmp(known(c), name) != 0)
      return c;
  }
  return NULL;
}

static void check_threads(void) {
  struct smn_buf password = secret("pass");
  pthread_t threads[4];
  struct smn_credentials c[4];
  for (int i = 0; i < 4; i++) {
    c[i] =
        (struct smn_credentials){.host = "h", .port = i, .password = &password};
    CHECK_INT(pthread_create(&threads[i], NULL, worker, &c[i]), 0);
  }
  for (int i = 0; i < 4; i++) {
    void *failed = NULL;
    pthread_join(threads[i], &failed);
    CHECK(failed == NULL);
  }
  smn_buf_free(&password);
}

int main(void) {
  check_identity();
  check_bound();
  check_threads();
  return check_done("test-worked");
}
