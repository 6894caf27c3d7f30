/* loop/sim_test.c -- the simulated world. */
#include "loop/sim.h"

#include "testing/testing.h"

#include <signal.h>

#define MS 1000000u

struct actor {
    struct loop *loop;
    struct loop_timer timer;
    unsigned fired, limit;
};

static void actor_fire(struct loop_timer *t)
{
    struct actor *a = container_of(t, struct actor, timer);
    a->fired++;
    if (a->fired < a->limit) {
        loop_timer_in(a->loop, t, 1 + loop_random(a->loop) % 3);
    }
}

struct outcome {
    uint64_t digest, steps, now_ns;
};

static struct outcome play(uint64_t seed)
{
    CLEANUP(loop_sim_freep) struct loop_sim *s = loop_sim_new(seed);
    struct actor actor[8] = {0};
    for (unsigned i = 0; i < ARRAY_COUNT(actor); i++) {
        CHECK_OK(loop_sim_process(s, "actor", i / 2, &actor[i].loop));
        actor[i].timer.fire = actor_fire;
        actor[i].limit = 500;
        loop_timer_in(actor[i].loop, &actor[i].timer, 5);
    }
    while (loop_sim_step(s)) {
    }
    for (unsigned i = 0; i < ARRAY_COUNT(actor); i++) {
        CHECK_EQ(actor[i].fired, 500);
    }
    return (struct outcome){loop_sim_digest(s), loop_sim_steps(s), loop_sim_now_ns(s)};
}

TEST(sim_seed_determines_everything)
{
    uint64_t seed = testing_seed();
    struct outcome a = play(seed), b = play(seed), c = play(seed + 1);
    CHECK_EQ(a.digest, b.digest);
    CHECK_EQ(a.steps, b.steps);
    CHECK_EQ(a.steps, 8 * 500);
    CHECK_EQ(a.now_ns, b.now_ns);
    CHECK_TRUE(a.digest != c.digest);
}
