/* net/address_test.c -- addresses as people write them: what is none, and what keeps its parts. */
#include "net/net_priv.h"

#include "testing/testing.h"

#include <string.h>

TEST(brackets_are_for_addresses_with_colons)
{
    static const char *const none[] = {"[eth0]:1", "[%eth0]", "[]:1", "[::1", "[::1]x", "::1", ""};
    struct net_address a;
    struct err e = {0};
    for (size_t i = 0; i < ARRAY_COUNT(none); i++) {
        e.code = 0;
        CHECK_RC(net_address_parse(none[i], 9400, &a, &e), EINVAL);
        CHECK_EQ(e.code, -EINVAL);
    }
    CHECK_OK(net_address_parse("[fe80::1%eth0]", 9400, &a, &e));
    CHECK_EQ(strcmp(a.text, "[fe80::1%eth0]:9400"), 0);
}

/* Any host that is taken is made into the same address from its parts, however long it is. */
TEST(parts_make_the_same_address)
{
    char text[2 * NET_ADDRESS_SIZE] = {0}, host[NET_ADDRESS_SIZE];
    struct net_address a, made;
    unsigned taken = 0;
    for (size_t len = 1; len < NET_ADDRESS_SIZE; len++) {
        uint16_t port = 0;
        bool local = false;
        memset(text, 'h', len);
        if (net_address_parse(text, 65535, &a, NULL) == 0) {
            net_address_split(&a, host, &port, &local);
            net_address_make(&made, host, port);
            CHECK_EQ(strcmp(made.text, a.text), 0);
            taken++;
        }
    }
    CHECK_TRUE(taken > 100);
}
