/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-resolve.c - names become addresses, in a thread that is not waited for
   longer than allowed.  */
#include "names.h"

#include "loopback.h"
#include "net/resolve.h"

static void test_resolve_table(void) {
  static const struct {
    const char *host;
    enum smn_kind kind;
    const char *text; /* part of the error, or the address that is found */
  } cases[] = {
      {"127.0.0.1", SMN_OK, "127.0.0.1"},
      {"::1", SMN_OK, "::1"},
      {"[::1]", SMN_OK, "::1"},
      {"[127.0.0.1]", SMN_OK, "127.0.0.1"},
      {"::ffff:127.0.0.1", SMN_OK, "::ffff:127.0.0.1"},
      {"fe80::1%lo", SMN_OK, "fe80::1%lo"},
      {"localhost", SMN_OK, NULL},
      {"one.test", SMN_OK, "127.0.0.1"},
      {"b\xc3\xbc"
       "cher.test",
       SMN_OK, "127.0.0.1"},
      {"unknown.test", SMN_RESOLVE, "unknown.test"},
      {"silent.test", SMN_RESOLVE, "the name service does not answer"},
      {"broken.test", SMN_RESOLVE, "Too many open files"},
      {"", SMN_RESOLVE, "not a domain name"},
      {"a b.test", SMN_RESOLVE, "not a domain name"},
      {"one.test/", SMN_RESOLVE, "not a domain name"},
      {"[one.test]", SMN_RESOLVE, "not a domain name"},
      {"one.test%lo", SMN_RESOLVE, "not a domain name"},
      {"\xff\xfe.test", SMN_RESOLVE, "not a domain name"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct addrinfo *found = NULL;
    struct smn_error err = {0};
    char name[128] = "";
    if (!CHECK(smn_resolve(cases[i].host, 25, LONG_MS, -1, &found, &err) ==
               cases[i].kind))
      printf("  host \"%s\": %s\n", cases[i].host, err.text);
    if (cases[i].kind != SMN_OK) {
      CHECK_INT(err.kind, cases[i].kind);
      CHECK(contains(err.text, cases[i].text));
      continue;
    }
    if (!CHECK(found != NULL))
      continue;
    getnameinfo(found->ai_addr, found->ai_addrlen, name, sizeof name, NULL, 0,
                NI_NUMERICHOST);
    if (cases[i].text)
      CHECK_STRING(name, cases[i].text);
    CHECK_INT(found->ai_socktype, SOCK_STREAM);
    freeaddrinfo(found);
  }
}

static void test_resolve_in_thread(void) {
  struct addrinfo *found = NULL;
  struct smn_error err;
  CHECK_INT(smn_resolve("B\xc3\x9c"
                        "CHER.test",
                        25, LONG_MS, -1, &found, &err),
            SMN_OK);
  freeaddrinfo(found);
  pthread_mutex_lock(&asked_lock);
  CHECK_STRING(asked, "xn--bcher-kva.test");
  CHECK(asked_with_sigterm_blocked);
  pthread_mutex_unlock(&asked_lock);
}

/* The name service does not answer: the wait ends, the helper goes on.  */
static void test_resolve_slow(void) {
  int cancel[2] = {-1, -1}, slow[2] = {-1, -1};
  struct addrinfo *found = NULL;
  struct smn_error err;
  CHECK(pipe(cancel) == 0 && pipe(slow) == 0);
  slow_fd = slow[0];
  int64_t begin = smn_now_ms();
  CHECK_INT(smn_resolve("slow.test", 25, SHORT_MS, cancel[0], &found, &err),
            SMN_TIMEOUT);
  CHECK(smn_now_ms() - begin >= SHORT_MS);
  CHECK(write(cancel[1], "", 1) == 1);
  CHECK_INT(smn_resolve("slow.test", 25, LONG_MS, cancel[0], &found, &err),
            SMN_CANCELLED);
  CHECK(smn_now_ms() - begin < LONG_MS);
  CHECK(found == NULL);
  /* From here on both look-ups end, and so does any later one at once.  */
  CHECK(write(slow[1], "", 1) == 1);
  CHECK_INT(smn_resolve("slow.test", 25, LONG_MS, -1, &found, &err), SMN_OK);
  freeaddrinfo(found);
  close(cancel[0]);
  close(cancel[1]);
}

int main(void) {
  int fds = count_fds();
  test_resolve_table();
  test_resolve_in_thread();
  CHECK_INT(wait_for_fds(fds), fds);
  test_resolve_slow();
  CHECK_INT(wait_for_fds(fds + 2), fds + 2); /* slow_fd and its other end */
  return check_done("test-resolve");
}
