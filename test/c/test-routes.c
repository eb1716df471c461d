/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test-routes.c - what the system tells of the networks.  */
#include "check.h"
#include "net/routes.h"

#include <stdlib.h>
#include <unistd.h>

#ifdef __linux__

#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

/* Messages in one piece of the heap, so that a sanitizer sees its end.  */
static struct {
  unsigned char octets[4096];
  size_t len;
} told;

static void append(const void *octets, size_t len) {
  memcpy(told.octets + told.len, octets, len);
  told.len += NLMSG_ALIGN(len);
}

static void begin(void) { memset(&told, 0, sizeof told); }

static void put_header(int type, size_t body_len) {
  struct nlmsghdr header = {.nlmsg_len = (unsigned)(NLMSG_HDRLEN + body_len),
                            .nlmsg_type = (unsigned short)type};
  append(&header, sizeof header);
}

static void put_link(int type, int index, unsigned flags, int family) {
  struct ifinfomsg body = {.ifi_family = (unsigned char)family,
                           .ifi_index = index,
                           .ifi_flags = flags};
  put_header(type, sizeof body);
  append(&body, sizeof body);
}

static void put_route(int family, int type, int table, unsigned flags,
                      const char *to, size_t to_len) {
  struct rtmsg body = {.rtm_family = (unsigned char)family,
                       .rtm_type = (unsigned char)type,
                       .rtm_table = (unsigned char)table,
                       .rtm_flags = flags};
  struct rtattr metric = {.rta_len = RTA_LENGTH(4), .rta_type = RTA_PRIORITY};
  struct rtattr address = {.rta_len = (unsigned short)RTA_LENGTH(to_len),
                           .rta_type = RTA_DST};
  put_header(RTM_NEWROUTE,
             sizeof body + RTA_SPACE(4) + (to ? RTA_SPACE(to_len) : 0));
  append(&body, sizeof body);
  append(&metric, sizeof metric);
  append("\0\0\0\0", 4);
  if (to) {
    append(&address, sizeof address);
    append(to, to_len);
  }
}

static enum smn_news parse_part(struct smn_routes *routes, size_t len) {
  void *copy = malloc(len + !len);
  memcpy(copy, told.octets, len);
  enum smn_news news = smn_routes_parse(routes, copy, len);
  free(copy);
  return news;
}

static enum smn_news parse(struct smn_routes *routes) {
  return parse_part(routes, told.len);
}

static enum smn_news parse_route(int family, int type, int table,
                                 unsigned flags, const char *to,
                                 size_t to_len) {
  struct smn_routes routes = {.fd = -1};
  begin();
  put_route(family, type, table, flags, to, to_len);
  return parse(&routes);
}

static void check_routes(void) {
  static const char global[16] = "\x20\x01\x0d\xb8", here[16] = "\xfe\x80",
                    all[16] = "\xff\x02", near[16] = "\x20\x81";
  const int main_table = RT_TABLE_MAIN;
  CHECK_INT(parse_route(AF_INET, RTN_UNICAST, main_table, 0, NULL, 0),
            SMN_NEWS_CAME);
  CHECK_INT(parse_route(AF_INET, RTN_UNICAST, 100, 0, "\xc0\0\2\0", 4),
            SMN_NEWS_CAME);
  CHECK_INT(parse_route(AF_INET6, RTN_UNICAST, main_table, 0, NULL, 0),
            SMN_NEWS_CAME);
  CHECK_INT(parse_route(AF_INET6, RTN_UNICAST, main_table, 0, global, 16),
            SMN_NEWS_CAME);
  CHECK_INT(parse_route(AF_INET6, RTN_UNICAST, main_table, 0, near, 16),
            SMN_NEWS_CAME);
  CHECK_INT(parse_route(AF_INET6, RTN_UNICAST, main_table, 0, here, 16),
            SMN_NEWS_NONE);
  CHECK_INT(parse_route(AF_INET6, RTN_UNICAST, main_table, 0, all, 16),
            SMN_NEWS_NONE);
  CHECK_INT(parse_route(AF_INET, RTN_LOCAL, RT_TABLE_LOCAL, 0, NULL, 0),
            SMN_NEWS_NONE);
  CHECK_INT(parse_route(AF_INET, RTN_UNICAST, RT_TABLE_LOCAL, 0, NULL, 0),
            SMN_NEWS_NONE);
  CHECK_INT(parse_route(AF_INET, RTN_BLACKHOLE, main_table, 0, NULL, 0),
            SMN_NEWS_NONE);
  CHECK_INT(
      parse_route(AF_INET, RTN_UNICAST, main_table, RTM_F_CLONED, NULL, 0),
      SMN_NEWS_NONE);
  CHECK_INT(parse_route(AF_UNIX, RTN_UNICAST, main_table, 0, NULL, 0),
            SMN_NEWS_NONE);
}

static enum smn_news parse_link(struct smn_routes *routes, int type, int index,
                                unsigned flags) {
  begin();
  put_link(type, index, flags, AF_UNSPEC);
  return parse(routes);
}

/* A link counts when it begins to run, not whenever it is told of.  */
static void check_links(void) {
  struct smn_routes routes = {.fd = -1};
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 2, IFF_UP), SMN_NEWS_NONE);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 2, IFF_UP | IFF_RUNNING),
            SMN_NEWS_CAME);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 2, IFF_UP | IFF_RUNNING),
            SMN_NEWS_NONE);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 3, IFF_RUNNING), SMN_NEWS_CAME);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 2, IFF_UP), SMN_NEWS_NONE);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 2, IFF_RUNNING), SMN_NEWS_CAME);
  CHECK_INT(parse_link(&routes, RTM_DELLINK, 2, 0), SMN_NEWS_NONE);
  CHECK_INT(routes.link_count, 1);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 3, IFF_RUNNING), SMN_NEWS_NONE);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 2, IFF_RUNNING), SMN_NEWS_CAME);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 1, IFF_RUNNING | IFF_LOOPBACK),
            SMN_NEWS_NONE);
  begin();
  put_link(RTM_NEWLINK, 7, IFF_RUNNING, AF_BRIDGE);
  CHECK_INT(parse(&routes), SMN_NEWS_NONE);
  /* More than there is room for.  */
  for (int index = 10; index < 10 + 2 * SMN_LINKS_MAX; index++)
    CHECK_INT(parse_link(&routes, RTM_NEWLINK, index, IFF_RUNNING),
              SMN_NEWS_CAME);
  CHECK_INT(routes.link_count, SMN_LINKS_MAX);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 10, IFF_RUNNING), SMN_NEWS_NONE);
  CHECK_INT(parse_link(&routes, RTM_NEWLINK, 9 + 2 * SMN_LINKS_MAX, 0),
            SMN_NEWS_NONE);
}

/* Two messages of which the second counts, cut at each place, and with each
   octet changed: nothing is read behind the end.  */
static void check_damage(void) {
  struct smn_routes routes = {.fd = -1};
  begin();
  put_route(AF_INET6, RTN_UNICAST, RT_TABLE_LOCAL, 0, "0123456789abcdef", 16);
  size_t first = told.len;
  put_route(AF_INET6, RTN_UNICAST, RT_TABLE_MAIN, 0, "0123456789abcdef", 16);
  CHECK_INT(parse(&routes), SMN_NEWS_CAME);
  for (size_t len = 0; len < told.len; len++)
    CHECK_INT(parse_part(&routes, len), SMN_NEWS_NONE);
  for (size_t i = 0; i < told.len; i++) {
    unsigned char octet = told.octets[i];
    for (int value = 0; value < 256; value++) {
      told.octets[i] = (unsigned char)value;
      (void)parse(&routes);
    }
    told.octets[i] = octet;
  }
  /* A length that goes round, or stands still.  */
  static const unsigned lengths[] = {0, 1, 15, 0xfffffffd, 0xffffffff};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    memcpy(told.octets, &lengths[i], 4);
    CHECK_INT(parse(&routes), SMN_NEWS_NONE);
  }
  unsigned whole = (unsigned)first;
  memcpy(told.octets, &whole, 4);
  CHECK_INT(parse(&routes), SMN_NEWS_CAME);
}

/* What another program sends to the socket has no say.  */
static void check_forged(void) {
  struct smn_routes routes;
  struct sockaddr_nl to;
  socklen_t size = sizeof to;
  if (!CHECK(smn_routes_open(&routes)) ||
      !CHECK(getsockname(routes.fd, (struct sockaddr *)&to, &size) == 0))
    return;
  while (smn_routes_read(&routes) == SMN_NEWS_CAME)
    continue;
  int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  begin();
  put_route(AF_INET, RTN_UNICAST, RT_TABLE_MAIN, 0, NULL, 0);
  if (sendto(fd, told.octets, told.len, 0, (struct sockaddr *)&to, size) > 0)
    CHECK_INT(smn_routes_read(&routes), SMN_NEWS_NONE);
  close(fd);
  smn_routes_close(&routes);
  CHECK_INT(routes.fd, -1);
}

#endif

int main(void) {
#ifdef __linux__
  check_routes();
  check_links();
  check_damage();
  check_forged();
#endif
  return check_done("test-routes");
}
