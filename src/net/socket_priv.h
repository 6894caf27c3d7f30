/* net/socket_priv.h -- the socket backend's shared parts. All non-blocking and close-on-exec. */
#pragma once

#include "base/env.h"
#include "loop/executor.h"
#include "net/net_priv.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>

struct net_socket {
    struct net base;
    const struct env *env;
    struct loop_executor *lookups; /* made with the first host name */
};

union net_socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un un;
    struct sockaddr_storage storage;
};

/* Numeric hosts, wildcard "*" and unix paths. 0, or -EAGAIN: a name that has to be looked up. */
NODISCARD int net_socket_address(const struct net_address *a, union net_socket_address *ret,
                                 socklen_t *ret_len);
/* Blocks: name service. At most `max` addresses; how many, or negative. */
NODISCARD int net_socket_lookup(const struct net_address *a, union net_socket_address *ret,
                                socklen_t *ret_len, unsigned max);
NODISCARD int net_socket_lookup_error(int code); /* of an EAI_ code */
void net_socket_address_text(const union net_socket_address *a, socklen_t len,
                             struct net_address *ret);
/* A new socket of the family, or -errno. */
NODISCARD int net_socket_open(int family);
/* Takes the descriptor over, also on failure. */
NODISCARD int net_socket_stream(struct net *n, int fd, struct stream **ret);

void net_socket_connect(struct net *base, struct net_connect *c);
void net_socket_connect_cancel(struct net *n, struct net_connect *c);

int net_socket_listen(struct net *n, const struct net_address *at, struct net_listener_user *u,
                      struct net_listener **ret);
int net_socket_listen_fd(struct net *n, int fd, struct net_listener_user *u,
                         struct net_listener **ret);
int net_socket_listener_fd(const struct net_listener *li);
void net_socket_listener_address(const struct net_listener *li, struct net_address *ret);
struct net_listener *net_socket_listener_close(struct net_listener *li);
