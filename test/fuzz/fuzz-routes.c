/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz-routes.c - what the system tells of routes and links.  */
#include "fuzz.h"
#include "net/routes.h"

int LLVMFuzzerTestOneInput(const uint8_t *octets, size_t len) {
  struct smn_routes routes = {.fd = -1};
  for (int i = 0; i < 2; i++) {
    enum smn_news news = smn_routes_parse(&routes, octets, len);
    REQUIRE(news == SMN_NEWS_NONE || news == SMN_NEWS_CAME);
    REQUIRE(routes.link_count <= SMN_LINKS_MAX);
  }
  return 0;
}
