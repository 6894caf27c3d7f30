/*
 * metanode/storm_test.c -- a server that is sent anything: it answers or refuses, goes on, and what
 * its log says is what another server makes of it.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_storm_priv.h"
#include "testing/testing.h"

#define MESSAGES 1500u

TEST(whatever_comes_the_server_goes_on)
{
    struct storm *s = storm_new(testing_seed());
    for (unsigned n = 0; n < MESSAGES; n++) {
        if (n % 50 == 49) {
            storm_come_back(s);
        }
        unsigned who =
            rand_chance(&s->rand, 2, 3) ? 0 : (unsigned)rand_below(&s->rand, STORM_KINDS);
        uint32_t role = s->rig.client[who].role;
        storm_send(s, who, storm_pick(s, role == 0 ? PROTO_ROLE_CLIENT : role));
    }
    CHECK_TRUE(s->good > s->sent / 20);
    storm_over(s);
}
