/*
 * datanode/storm_test.c -- workers that are sent anything, by strangers with a good handshake: they
 * answer or refuse, and go on.
 */
#include "datanode/rig_storm_priv.h"

#include "base/rand.h"
#include "testing/testing.h"

#define MESSAGES 3000u

/* What only a predecessor may say was done now and then, and not only refused. */
static void check_heard(const unsigned good[STORM_KINDS])
{
    static const uint16_t said[] = {PROTO_OP_forward, PROTO_OP_copy,       PROTO_OP_drop,
                                    PROTO_OP_index,   PROTO_OP_sync_begin, PROTO_OP_sync_end,
                                    PROTO_OP_sync,    PROTO_OP_remove};
    for (size_t i = 0; i < ARRAY_COUNT(said); i++) {
        CHECK_TRUE(good[said[i] - PROTO_OP_write] > 0);
    }
}

static unsigned storm(enum datanode_engine engine, uint64_t seed, unsigned good[STORM_KINDS])
{
    struct storm *s = storm_new(engine, seed);
    struct rand rand;
    rand_seed(&rand, seed);
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct storm_choice x = {.bend = (uint8_t)rand_below(&rand, 64),
                                 .opcode = (uint8_t)rand_below(&rand, 256),
                                 .role = (uint8_t)rand_below(&rand, 256),
                                 .length = (uint8_t)rand_below(&rand, 256),
                                 .seed = (uint16_t)rand_below(&rand, 65536)};
        x.bend = rand_chance(&rand, 1, 2) ? 0 : x.bend;
        x.bend &= (uint8_t)(rand_chance(&rand, 1, 8) ? 0xff : ~(STORM_BITS | STORM_SHORT));
        x.bend |= rand_chance(&rand, 1, 8) ? STORM_TURN : 0;
        storm_send(s, 1 + (unsigned)rand_below(&rand, 2), &x);
        if (rand_chance(&rand, 1, 3)) {
            rig_for_ms(&s->rig, rand_below(&rand, 20));
        }
    }
    unsigned sent = s->sent;
    storm_over(s);
    for (unsigned i = 0; i < STORM_KINDS; i++) {
        good[i] += s->good[i];
    }
    (void)storm_free(s);
    return sent;
}

TEST(whatever_comes_workers_go_on)
{
    unsigned good[STORM_KINDS] = {0};
    CHECK_TRUE(storm(DATANODE_ENGINE_FILE, testing_seed(), good) > 1000);
    CHECK_TRUE(storm(DATANODE_ENGINE_EXTENT, testing_seed() + 1, good) > 1000);
    CHECK_TRUE(storm(DATANODE_ENGINE_RAM, testing_seed() + 2, good) > 1000);
    check_heard(good);
}
