/* net/address.c -- the text form of addresses: taken apart once here, nowhere else. */
#include "net/net_priv.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

#include <sys/un.h>

#define HOST_MAX (NET_ADDRESS_SIZE - sizeof "[]:65535")

static bool is_unix(const char *text)
{
    return strncmp(text, NET_UNIX_PREFIX, strlen(NET_UNIX_PREFIX)) == 0;
}

static bool host_char(char c, bool brackets)
{
    bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    return word || c == '.' || c == '-' || c == '_' || (brackets && (c == ':' || c == '%'));
}

static int parse_port(const char *text, uint16_t *ret)
{
    uint64_t v = 0;
    if (text_to_u64(text, &v) < 0 || v > UINT16_MAX) {
        return -EINVAL;
    }
    *ret = (uint16_t)v;
    return 0;
}

/* The end of the host within `text`: at ':', or at the end. NULL: not a host. */
static const char *host_end(const char *text, const char **ret_host, bool *ret_brackets)
{
    *ret_brackets = text[0] == '[';
    *ret_host = text + (*ret_brackets ? 1 : 0);
    const char *at = *ret_host;
    while (host_char(*at, *ret_brackets)) {
        at++;
    }
    bool colons = memchr(*ret_host, ':', (size_t)(at - *ret_host)) != NULL;
    bool closed = !*ret_brackets || (*at == ']' && colons);
    return at == *ret_host || !closed ? NULL : at;
}

static int parse_unix(const char *text, struct net_address *ret, struct err *e)
{
    size_t path_len = strlen(text) - strlen(NET_UNIX_PREFIX);
    struct sockaddr_un sun;
    if (path_len == 0 || path_len >= sizeof sun.sun_path) {
        return err_set(e, -EINVAL, "address '%s': path must have 1 to %zu bytes", text,
                       sizeof sun.sun_path - 1);
    }
    (void)snprintf(ret->text, sizeof ret->text, "%s", text);
    return 0;
}

int net_address_parse(const char *text, uint16_t default_port, struct net_address *ret,
                      struct err *e)
{
    if (is_unix(text)) {
        return parse_unix(text, ret, e);
    }
    const char *host = NULL;
    bool brackets = false;
    const char *end = host_end(text, &host, &brackets);
    if (end == NULL) {
        return err_set(e, -EINVAL, "address '%s': expected HOST:PORT, [IPV6]:PORT or unix:/PATH",
                       text);
    }
    const char *rest = end + (brackets ? 1 : 0);
    uint16_t port = default_port;
    if (*rest != '\0' && (*rest != ':' || parse_port(rest + 1, &port) < 0)) {
        return err_set(e, -EINVAL, "address '%s': expected a port from 0 to 65535 after the host",
                       text);
    }
    size_t len = (size_t)(end - host);
    if (len > HOST_MAX) {
        return err_set(e, -EINVAL, "address '%.40s...': too long", text);
    }
    (void)snprintf(ret->text, sizeof ret->text, brackets ? "[%.*s]:%u" : "%.*s:%u", (int)len, host,
                   port);
    return 0;
}

void net_address_split(const struct net_address *a, char *host, uint16_t *ret_port, bool *ret_unix)
{
    *ret_unix = is_unix(a->text);
    *ret_port = 0;
    host[0] = '\0';
    if (*ret_unix) {
        (void)snprintf(host, NET_ADDRESS_SIZE, "%s", a->text + strlen(NET_UNIX_PREFIX));
        return;
    }
    const char *at = NULL;
    bool brackets = false;
    const char *end = host_end(a->text, &at, &brackets);
    if (end != NULL) {
        (void)snprintf(host, NET_ADDRESS_SIZE, "%.*s", (int)(end - at), at);
        const char *rest = end + (brackets ? 1 : 0);
        if (*rest == ':' && parse_port(rest + 1, ret_port) < 0) {
            *ret_port = 0;
        }
    }
}

void net_address_make(struct net_address *a, const char *host, uint16_t port)
{
    const char *form = strchr(host, ':') != NULL ? "[%.*s]:%u" : "%.*s:%u";
    (void)snprintf(a->text, sizeof a->text, form, (int)HOST_MAX, host, port);
}

bool net_address_is_loopback(const struct net_address *a)
{
    char host[NET_ADDRESS_SIZE];
    uint16_t port = 0;
    bool local = false;
    net_address_split(a, host, &port, &local);
    if (local || strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0) {
        return true;
    }
    /* "127.evil.example" is a name, not an address. */
    return strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host);
}
