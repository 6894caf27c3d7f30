/*
 * datanode/storm_test.c -- workers that are sent anything, by strangers with a good handshake: they
 * answer or refuse, and go on.
 */
#include "datanode/rig_storm_priv.h"

#include "base/rand.h"
#include "testing/testing.h"

#define MESSAGES 3000u

static unsigned storm(enum datanode_engine engine, uint64_t seed)
{
    struct storm *s = storm_new(2, engine, seed);
    struct rand rand;
    rand_seed(&rand, seed);
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct storm_choice x = {.bend = (uint8_t)rand_below(&rand, 64),
                                 .opcode = (uint8_t)rand_below(&rand, 256),
                                 .role = (uint8_t)rand_below(&rand, 256),
                                 .length = (uint8_t)rand_below(&rand, 256),
                                 .seed = (uint16_t)rand_below(&rand, 65536)};
        x.bend = rand_chance(&rand, 1, 2) ? 0 : x.bend;
        storm_send(s, 1 + (unsigned)rand_below(&rand, 2), &x);
        if (rand_chance(&rand, 1, 3)) {
            rig_for_ms(&s->rig, rand_below(&rand, 20));
        }
    }
    unsigned sent = s->sent;
    storm_over(s);
    (void)storm_free(s);
    return sent;
}

TEST(whatever_comes_workers_go_on)
{
    CHECK_TRUE(storm(DATANODE_ENGINE_FILE, testing_seed()) > 100);
    CHECK_TRUE(storm(DATANODE_ENGINE_EXTENT, testing_seed() + 1) > 100);
    CHECK_TRUE(storm(DATANODE_ENGINE_RAM, testing_seed() + 2) > 100);
}
