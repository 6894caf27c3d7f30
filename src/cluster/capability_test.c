#include "cluster/capability.h"

#include "testing/testing.h"

#include <string.h>

TEST(capability_covers_what_it_says_and_nothing_else)
{
    struct cluster_secret secret = {{1, 2, 3}}, other = {{9}};
    uint8_t mac[CLUSTER_MAC_BYTES];
    struct proto_capability c = {.data_id = 10,
                                 .last_data_id = 12,
                                 .session = 77,
                                 .rights = PROTO_RIGHT_READ,
                                 .cap_epoch = 3,
                                 .expiry_wall_ms = 5000,
                                 .key_id = 1};
    CHECK_OK(cluster_capability_sign(&secret, &c, mac));
    struct cluster_access a = {.data_id = 11, .rights = PROTO_RIGHT_READ, .wall_ms = 5000};
    CHECK_OK(cluster_capability_check(&secret, &c, &a));
    a.wall_ms = 5001;
    CHECK_RC(cluster_capability_check(&secret, &c, &a), ERR_capability_expired);
    a.skew_ms = 1;
    CHECK_OK(cluster_capability_check(&secret, &c, &a));
    a.rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE;
    CHECK_RC(cluster_capability_check(&secret, &c, &a), ERR_bad_capability);
    a.rights = PROTO_RIGHT_READ;
    a.data_id = 9;
    CHECK_RC(cluster_capability_check(&secret, &c, &a), ERR_bad_capability);
    a.data_id = 13;
    CHECK_RC(cluster_capability_check(&secret, &c, &a), ERR_bad_capability);
    a.data_id = 10;
    CHECK_RC(cluster_capability_check(&other, &c, &a), ERR_bad_capability);
}

/* With what was found genuine, or without (k NULL). */
static int check(struct cluster_capability_known *k, const struct cluster_secret *secret,
                 const struct proto_capability *c, const struct cluster_access *a)
{
    return k == NULL ? cluster_capability_check(secret, c, a)
                     : cluster_capability_check_known(k, secret, c, a);
}

/* A change of any field, or of any bit of the MAC, is a forgery; and so is a MAC that is short. */
static void check_forgeries(struct cluster_capability_known *k, const struct cluster_secret *secret,
                            const struct proto_capability *c, const struct cluster_access *a)
{
    uint8_t mac[CLUSTER_MAC_BYTES];
    struct proto_capability f = *c;
    CHECK_EQ(c->mac.len, sizeof mac);
    memcpy(mac, c->mac.at, sizeof mac);
    f.mac.at = mac;
    CHECK_OK(check(k, secret, &f, a));
    for (size_t bit = 0; bit < 8 * sizeof mac; bit++) {
        mac[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        CHECK_RC(check(k, secret, &f, a), ERR_bad_capability);
        mac[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    f.mac.len = sizeof mac - 1;
    CHECK_RC(check(k, secret, &f, a), ERR_bad_capability);
    for (unsigned field = 0; field < 7; field++) {
        f = *c;
        f.data_id -= field == 0;
        f.last_data_id += field == 1;
        f.session += field == 2;
        f.rights = field == 3 ? 7 : f.rights;
        f.cap_epoch += field == 4;
        f.expiry_wall_ms += field == 5;
        f.key_id += field == 6;
        CHECK_RC(check(k, secret, &f, a), ERR_bad_capability);
    }
}

TEST(capability_cannot_be_forged)
{
    struct cluster_secret secret = {{1, 2, 3}};
    uint8_t mac[CLUSTER_MAC_BYTES];
    struct proto_capability c = {
        .data_id = 10, .last_data_id = 12, .session = 77, .rights = 3, .key_id = 1};
    struct cluster_access a = {.data_id = 11, .rights = 1};
    CHECK_OK(cluster_capability_sign(&secret, &c, mac));
    check_forgeries(NULL, &secret, &c, &a);
}

/* What was found genuine once is so again, and nothing else is: no other field, no other bit, and
 * never beyond what it covers. */
TEST(capability_known_is_as_strict)
{
    struct cluster_secret secret = {{1, 2, 3}};
    struct cluster_capability_known *k = mem_zalloc(sizeof *k);
    uint8_t mac[CLUSTER_MAC_BYTES];
    struct proto_capability c = {.data_id = 10,
                                 .last_data_id = 12,
                                 .session = 77,
                                 .rights = 3,
                                 .expiry_wall_ms = 5000,
                                 .key_id = 1};
    struct cluster_access a = {.data_id = 11, .rights = 1, .wall_ms = 5000};
    CHECK(k != NULL);
    CHECK_OK(cluster_capability_sign(&secret, &c, mac));
    for (unsigned round = 0; round < 3; round++) {
        CHECK_OK(cluster_capability_check_known(k, &secret, &c, &a));
        check_forgeries(k, &secret, &c, &a);
        a.wall_ms = 5001;
        CHECK_RC(cluster_capability_check_known(k, &secret, &c, &a), ERR_capability_expired);
        a.wall_ms = 5000;
        a.data_id = 13;
        CHECK_RC(cluster_capability_check_known(k, &secret, &c, &a), ERR_bad_capability);
        a.data_id = 11;
        a.rights = 4;
        CHECK_RC(cluster_capability_check_known(k, &secret, &c, &a), ERR_bad_capability);
        a.rights = 1;
    }
    mem_free(k);
}

/* More than are remembered push each other out and stay good. */
TEST(capability_known_many)
{
    struct cluster_secret secret = {{7}};
    struct cluster_capability_known *k = mem_zalloc(sizeof *k);
    CHECK(k != NULL);
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t session = 1; session <= 4 * (uint64_t)CLUSTER_KNOWN; session++) {
            uint8_t mac[CLUSTER_MAC_BYTES];
            struct proto_capability c = {
                .data_id = 1, .last_data_id = 2, .session = session, .rights = 1, .key_id = 1};
            struct cluster_access a = {.data_id = 1, .rights = 1};
            CHECK_OK(cluster_capability_sign(&secret, &c, mac));
            CHECK_OK(cluster_capability_check_known(k, &secret, &c, &a));
            CHECK_OK(cluster_capability_check_known(k, &secret, &c, &a));
            mac[5] ^= 1;
            CHECK_RC(cluster_capability_check_known(k, &secret, &c, &a), ERR_bad_capability);
        }
    }
    mem_free(k);
}
