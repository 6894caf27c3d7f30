#include "net/socket_priv.h"

#include "testing/testing.h"

#include <netdb.h>

/* What the name service says reaches the user as what it is: "no route to host" is something else.
 */
TEST(lookup_errors_say_what_is_wrong_with_the_name)
{
    CHECK_RC(net_socket_lookup_error(EAI_NONAME), ERR_unknown_host);
    CHECK_RC(net_socket_lookup_error(EAI_NODATA), ERR_unknown_host);
    CHECK_RC(net_socket_lookup_error(EAI_AGAIN), ERR_no_name_service);
    CHECK_RC(net_socket_lookup_error(EAI_MEMORY), ENOMEM);
    errno = EMFILE;
    CHECK_RC(net_socket_lookup_error(EAI_SYSTEM), EMFILE);
}

/* No name service is needed to know that this is no name: a label has at most 63 characters. */
TEST(lookup_fails_for_what_is_no_name)
{
    struct net_address a = {
        .text = "0123456789012345678901234567890123456789012345678901234567890123456789:1"};
    union net_socket_address found[2];
    socklen_t len[2];
    CHECK_RC(net_socket_address(&a, &found[0], &len[0]), EAGAIN); /* it is to be looked up */
    CHECK_RC(net_socket_lookup(&a, found, len, 2), ERR_unknown_host);
}

TEST(lookup_finds_this_machine)
{
    const struct net_address a = {.text = "localhost:1"};
    union net_socket_address found[4];
    socklen_t len[4] = {0};
    int count = net_socket_lookup(&a, found, len, 4);
    CHECK_TRUE(count >= 1 && count <= 4);
    struct net_address back;
    net_socket_address_text(&found[0], len[0], &back);
    CHECK_TRUE(net_address_is_loopback(&back));
}
