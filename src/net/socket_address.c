/* net/socket_address.c -- between addresses as text and as the kernel wants them. */
#include "net/socket_priv.h"

#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>

static void set_unix(const char *path, union net_socket_address *ret, socklen_t *ret_len)
{
    ret->un.sun_family = AF_UNIX;
    (void)snprintf(ret->un.sun_path, sizeof ret->un.sun_path, "%.*s",
                   (int)sizeof ret->un.sun_path - 1, path);
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(ret->un.sun_path) + 1);
}

/* "fe80::1%eth0": the part behind '%' is an interface. */
static bool set_v6(char *host, uint16_t port, union net_socket_address *ret)
{
    char *zone = strchr(host, '%');
    if (zone != NULL) {
        *zone = '\0';
        ret->v6.sin6_scope_id = if_nametoindex(zone + 1);
    }
    ret->v6.sin6_family = AF_INET6;
    ret->v6.sin6_port = htons(port);
    return inet_pton(AF_INET6, host, &ret->v6.sin6_addr) == 1;
}

int net_socket_address(const struct net_address *a, union net_socket_address *ret,
                       socklen_t *ret_len)
{
    char host[NET_ADDRESS_SIZE];
    uint16_t port = 0;
    bool local = false;
    net_address_split(a, host, &port, &local);
    memset(ret, 0, sizeof *ret);
    if (local) {
        set_unix(host, ret, ret_len);
        return 0;
    }
    if (inet_pton(AF_INET, host, &ret->v4.sin_addr) == 1) {
        ret->v4.sin_family = AF_INET;
        ret->v4.sin_port = htons(port);
        *ret_len = sizeof ret->v4;
        return 0;
    }
    memset(ret, 0, sizeof *ret);
    if (strchr(host, ':') != NULL) {
        *ret_len = sizeof ret->v6;
        return set_v6(host, port, ret) ? 0 : -EINVAL;
    }
    return -EAGAIN;
}

int net_socket_lookup_error(int code)
{
    switch (code) {
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_AGAIN:
        return -ERR_no_name_service;
    case EAI_SYSTEM:
        return -errno;
    default:
        return -ERR_unknown_host;
    }
}

int net_socket_lookup(const struct net_address *a, union net_socket_address *ret,
                      socklen_t *ret_len, unsigned max)
{
    char host[NET_ADDRESS_SIZE], service[8];
    uint16_t port = 0;
    bool local = false;
    net_address_split(a, host, &port, &local);
    (void)snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0) {
        return net_socket_lookup_error(rc);
    }
    unsigned count = 0;
    for (const struct addrinfo *i = found; i != NULL && count < max; i = i->ai_next) {
        if (i->ai_addrlen <= sizeof ret[0]) {
            memset(&ret[count], 0, sizeof ret[count]);
            memcpy(&ret[count], i->ai_addr, i->ai_addrlen);
            ret_len[count++] = i->ai_addrlen;
        }
    }
    freeaddrinfo(found);
    return count == 0 ? -ERR_unknown_host : (int)count;
}

void net_socket_address_text(const union net_socket_address *a, socklen_t len,
                             struct net_address *ret)
{
    char host[INET6_ADDRSTRLEN] = "?";
    switch (a->any.sa_family) {
    case AF_INET:
        (void)inet_ntop(AF_INET, &a->v4.sin_addr, host, sizeof host);
        net_address_make(ret, host, ntohs(a->v4.sin_port));
        return;
    case AF_INET6:
        (void)inet_ntop(AF_INET6, &a->v6.sin6_addr, host, sizeof host);
        net_address_make(ret, host, ntohs(a->v6.sin6_port));
        return;
    case AF_UNIX: {
        bool named = len > offsetof(struct sockaddr_un, sun_path) && a->un.sun_path[0] != '\0';
        (void)snprintf(ret->text, sizeof ret->text, NET_UNIX_PREFIX "%.*s",
                       (int)sizeof a->un.sun_path, named ? a->un.sun_path : "(pair)");
        return;
    }
    default:
        (void)snprintf(ret->text, sizeof ret->text, "unknown");
    }
}
