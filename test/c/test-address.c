/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-address.c - what is an address or a name, and how it is read.  */
#include "check.h"
#include "net/address.h"

#include <sys/socket.h>

static void test_address(void) {
  static const struct {
    const char *host, *text; /* text: NULL when it is no server */
    int family;
    unsigned char last; /* octet */
  } cases[] = {
      {"127.0.0.7", "127.0.0.7", AF_INET, 7},
      {"[127.0.0.7]", "127.0.0.7", AF_INET, 7},
      {"::7", "::7", AF_INET6, 7},
      {"[::7]", "::7", AF_INET6, 7},
      {"fe80::7%eth0", "fe80::7", AF_INET6, 7},
      {"[fe80::7%eth0]", "fe80::7", AF_INET6, 7},
      {"mail.example", "mail.example", AF_UNSPEC, 0},
      {"_x-y.example.", "_x-y.example.", AF_UNSPEC, 0},
      {"b\xc3\xbc"
       "cher.example",
       "xn--bcher-kva.example", AF_UNSPEC, 0},
      {"127.0.0.7%eth0", NULL, AF_UNSPEC, 0},
      {"mail.example%eth0", NULL, AF_UNSPEC, 0},
      {"[mail.example]", NULL, AF_UNSPEC, 0},
      {"[]", NULL, AF_UNSPEC, 0},
      {"", NULL, AF_UNSPEC, 0},
      {"a b", NULL, AF_UNSPEC, 0},
      {"a\r\nb", NULL, AF_UNSPEC, 0},
      {"a/b", NULL, AF_UNSPEC, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct smn_address address;
    bool good = CHECK(smn_address_read(&address, cases[i].host) ==
                      (cases[i].text != NULL));
    if (good && cases[i].text) {
      CHECK_STRING(address.text, cases[i].text);
      CHECK_INT(address.family, cases[i].family);
      good = CHECK(address.len == 0 ||
                   address.octets[address.len - 1] == cases[i].last);
    }
    if (!good)
      printf("  %s\n", cases[i].host);
  }
  char much[300];
  struct smn_address address;
  memset(much, 'x', sizeof much - 1);
  much[sizeof much - 1] = '\0';
  CHECK(!smn_address_read(&address, much));
}

static void test_bare(void) {
  char bare[8];
  CHECK(smn_address_bare("[a]", bare, sizeof bare));
  CHECK_STRING(bare, "a");
  CHECK(smn_address_bare("[]", bare, sizeof bare));
  CHECK_STRING(bare, "[]");
  CHECK(smn_address_bare("[a", bare, sizeof bare));
  CHECK_STRING(bare, "[a");
  CHECK(smn_address_bare("[1234567]", bare, sizeof bare));
  CHECK(!smn_address_bare("12345678", bare, sizeof bare));
}

int main(void) {
  test_bare();
  test_address();
  return check_done("test-address");
}
