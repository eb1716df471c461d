/* SPDX-License-Identifier: GPL-3.0-or-later */
/* routes.c - what the system tells of the networks of this machine.
   A way to somewhere else is a route to other machines, or a link whose other
   end has come back while its routes were kept.  Routes of this machine to
   itself and those of a link alone are none: each link gets them, long before
   it leads anywhere.  */
#include "net/routes.h"
#include "base/wait.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define READS_MAX 64 /* at a time: a router's table may change all the time */

#ifdef __linux__

#include <linux/if.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

bool smn_routes_open(struct smn_routes *routes) {
  struct sockaddr_nl here = {.nl_family = AF_NETLINK,
                             .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE |
                                          RTMGRP_IPV6_ROUTE};
  routes->link_count = 0;
  routes->fd = smn_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  if (routes->fd < 0)
    return false;
  if (bind(routes->fd, (struct sockaddr *)&here, sizeof here) == 0)
    return true;
  int errnum = errno;
  smn_routes_close(routes);
  errno = errnum;
  return false;
}

/* Note whether the link INDEX is RUNNING; true if it may just have begun to.
   One for which there is no room always may.  */
static bool begins(struct smn_routes *routes, int index, bool running) {
  size_t i = 0;
  while (i < routes->link_count && routes->links[i].index != index)
    i++;
  if (i == SMN_LINKS_MAX)
    return running;
  bool before = i < routes->link_count && routes->links[i].running;
  routes->links[i].index = index;
  routes->links[i].running = running;
  if (i == routes->link_count)
    routes->link_count++;
  return running && !before;
}

static bool link_came(struct smn_routes *routes, const void *body, size_t len) {
  struct ifinfomsg info;
  if (len < sizeof info)
    return false;
  memcpy(&info, body, sizeof info);
  /* Those of a bridge tell of its ports.  */
  if (info.ifi_family != AF_UNSPEC || (info.ifi_flags & IFF_LOOPBACK))
    return false;
  return begins(routes, info.ifi_index, (info.ifi_flags & IFF_RUNNING) != 0);
}

static void link_gone(struct smn_routes *routes, const void *body, size_t len) {
  struct ifinfomsg info;
  if (len < sizeof info)
    return;
  memcpy(&info, body, sizeof info);
  if (info.ifi_family == AF_UNSPEC)
    for (size_t i = 0; i < routes->link_count; i++)
      if (routes->links[i].index == info.ifi_index) {
        routes->links[i] = routes->links[--routes->link_count];
        return;
      }
}

/* ADDRESS, of an IPv6 route, is of one link only or of a group.  */
static bool narrow(const unsigned char *address) {
  return address[0] == 0xff ||
         (address[0] == 0xfe && (address[1] & 0xc0) == 0x80);
}

static bool route_came(const unsigned char *body, size_t len) {
  struct rtmsg route;
  if (len < sizeof route)
    return false;
  memcpy(&route, body, sizeof route);
  if ((route.rtm_family != AF_INET && route.rtm_family != AF_INET6) ||
      route.rtm_type != RTN_UNICAST || route.rtm_table == RT_TABLE_LOCAL ||
      (route.rtm_flags & RTM_F_CLONED))
    return false;
  size_t at = NLMSG_ALIGN(sizeof route);
  while (route.rtm_family == AF_INET6 && at < len &&
         len - at >= sizeof(struct rtattr)) {
    struct rtattr attribute;
    memcpy(&attribute, body + at, sizeof attribute);
    if (attribute.rta_len < sizeof attribute || attribute.rta_len > len - at)
      break;
    if (attribute.rta_type == RTA_DST && attribute.rta_len >= RTA_LENGTH(16) &&
        narrow(body + at + RTA_LENGTH(0)))
      return false;
    at += RTA_ALIGN(attribute.rta_len);
  }
  return true;
}

enum smn_news smn_routes_parse(struct smn_routes *routes, const void *data,
                               size_t len) {
  enum smn_news news = SMN_NEWS_NONE;
  const unsigned char *at = data;
  struct nlmsghdr header;
  while (len >= sizeof header) {
    memcpy(&header, at, sizeof header);
    if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > len)
      break;
    const unsigned char *body = at + NLMSG_HDRLEN;
    size_t body_len = header.nlmsg_len - NLMSG_HDRLEN;
    bool came = false;
    if (header.nlmsg_type == RTM_NEWLINK)
      came = link_came(routes, body, body_len);
    else if (header.nlmsg_type == RTM_DELLINK)
      link_gone(routes, body, body_len);
    else if (header.nlmsg_type == RTM_NEWROUTE)
      came = route_came(body, body_len);
    if (came)
      news = SMN_NEWS_CAME;
    size_t step = NLMSG_ALIGN((size_t)header.nlmsg_len);
    if (step > len)
      break;
    at += step;
    len -= step;
  }
  return news;
}

/* As recv, of messages of the kernel alone: others have no say.  0: it was
   another sender's, or too long.  */
static ssize_t receive(int fd, void *buffer, size_t size) {
  struct sockaddr_nl from = {.nl_pid = 1};
  socklen_t from_len = sizeof from;
  ssize_t n = recvfrom(fd, buffer, size, MSG_DONTWAIT | MSG_TRUNC,
                       (struct sockaddr *)&from, &from_len);
  if (n > 0 && (from_len < sizeof from || from.nl_family != AF_NETLINK ||
                from.nl_pid != 0))
    return 0;
  return n > 0 && (size_t)n > size ? (ssize_t)size : n;
}

#elif defined __APPLE__ || defined __FreeBSD__ || defined __NetBSD__ ||        \
    defined __OpenBSD__ || defined __DragonFly__

#include <net/if.h>
#include <net/route.h>

bool smn_routes_open(struct smn_routes *routes) {
  routes->link_count = 0;
  routes->fd = smn_socket(PF_ROUTE, SOCK_RAW, AF_UNSPEC);
  return routes->fd >= 0;
}

/* All messages begin with their length, a version and a type.  */
enum smn_news smn_routes_parse(struct smn_routes *routes, const void *data,
                               size_t len) {
  enum smn_news news = SMN_NEWS_NONE;
  const unsigned char *at = data;
  struct rt_msghdr header;
  struct {
    unsigned short len;
    unsigned char version, type;
  } start;
  (void)routes;
  while (len >= sizeof start) {
    memcpy(&start, at, sizeof start);
    if (start.len < sizeof start || start.len > len)
      break;
    if (start.version == RTM_VERSION && start.type == RTM_NEWADDR)
      news = SMN_NEWS_CAME;
    else if (start.version == RTM_VERSION && start.type == RTM_ADD &&
             start.len >= sizeof header) {
      memcpy(&header, at, sizeof header);
      if (header.rtm_flags & RTF_GATEWAY)
        news = SMN_NEWS_CAME;
    }
    at += start.len;
    len -= start.len;
  }
  return news;
}

static ssize_t receive(int fd, void *buffer, size_t size) {
  return recv(fd, buffer, size, MSG_DONTWAIT);
}

#else

bool smn_routes_open(struct smn_routes *routes) {
  routes->fd = -1;
  routes->link_count = 0;
  errno = ENOSYS;
  return false;
}

enum smn_news smn_routes_parse(struct smn_routes *routes, const void *data,
                               size_t len) {
  (void)routes;
  (void)data;
  (void)len;
  return SMN_NEWS_NONE;
}

static ssize_t receive(int fd, void *buffer, size_t size) {
  return recv(fd, buffer, size, 0);
}

#endif

void smn_routes_close(struct smn_routes *routes) {
  if (routes->fd >= 0)
    close(routes->fd);
  routes->fd = -1;
}

enum smn_news smn_routes_read(struct smn_routes *routes) {
  enum smn_news news = SMN_NEWS_NONE;
  uint32_t buffer[4096];
  for (int i = 0; i < READS_MAX; i++) {
    ssize_t n = receive(routes->fd, buffer, sizeof buffer);
    if (n > 0) {
      if (smn_routes_parse(routes, buffer, (size_t)n) == SMN_NEWS_CAME)
        news = SMN_NEWS_CAME;
    } else if (n < 0 && errno == ENOBUFS)
      news = SMN_NEWS_CAME; /* some were lost */
    else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return news;
    else if (n < 0 && errno != EINTR)
      return SMN_NEWS_BROKEN;
  }
  return news;
}
