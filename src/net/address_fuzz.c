/*
 * Text of addresses. What is accepted is text that is accepted again as the same, taken apart into
 * parts that make the same address, and never longer than its memory.
 */
#include "net/net_priv.h"

#include <string.h>

#define TEXT_BYTES 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_one(const char *text, uint16_t port)
{
    struct net_address a, again, made;
    struct err e = {.code = 0};
    char host[NET_ADDRESS_SIZE];
    uint16_t got = 0;
    bool local = false;
    int rc = net_address_parse(text, port, &a, &e);
    if (rc < 0) {
        CHECK(rc == -EINVAL && e.code == -EINVAL && e.text[0] != '\0');
        return;
    }
    CHECK(memchr(a.text, '\0', sizeof a.text) != NULL);
    CHECK(net_address_parse(a.text, 1, &again, NULL) == 0);
    CHECK(strcmp(a.text, again.text) == 0);
    net_address_split(&a, host, &got, &local);
    CHECK(host[0] != '\0');
    if (!local) {
        net_address_make(&made, host, got);
        CHECK(net_address_parse(made.text, 1, &again, NULL) == 0);
        CHECK(strcmp(made.text, a.text) == 0);
    }
    (void)net_address_is_loopback(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[TEXT_BYTES + 1];
    size_t len = base_min(size, TEXT_BYTES);
    if (len > 0) {
        memcpy(text, data, len);
    }
    text[len] = '\0';
    parse_one(text, 0);
    parse_one(text, 9400);
    return 0;
}
