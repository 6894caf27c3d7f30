/* net/net_priv.h -- what the backends share. */
#pragma once

#include "net/stream.h"

#define NET_UNIX_PREFIX "unix:"
#define NET_CONNECT_TIMEOUT_MS 3000u
#define NET_BACKLOG 128u

/* Takes a valid address apart: host without brackets, or the path with *ret_unix. `host` has
 * NET_ADDRESS_SIZE bytes. */
void net_address_split(const struct net_address *a, char *host, uint16_t *ret_port, bool *ret_unix);
void net_address_make(struct net_address *a, const char *host, uint16_t port);
/* Answers `c` with `rc` from the loop, without any memory of its own. */
void net_connect_fail_later(struct net *n, struct net_connect *c, int rc);
