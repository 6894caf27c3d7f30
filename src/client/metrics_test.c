#include "client/fake_world_priv.h"

#include "testing/testing.h"

#include <string.h>

static void check_text(struct world *w, const char *text)
{
    CHECK_TRUE(w->op.data != NULL && strlen(text) == w->op.data_len);
    CHECK_TEXT((const char *)w->op.data, text);
    opendfs_async_release(w->fs, &w->op);
}

TEST(metrics_of_the_leader_and_of_targets)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, metrics, 1)); /* before the map was asked for by anybody */
    check_text(&w, "opendfs_target 1\n");
    CHECK_OK(DO(&w, metrics, 0));
    check_text(&w, "opendfs_x 1\n");
    CHECK_OK(DO(&w, metrics, 2));
    check_text(&w, "opendfs_target 2\n");
    CHECK_EQ(DO(&w, metrics, 77), -ENOENT);
    CHECK_TEXT(w.op.error, "target 77: No such file or directory");
    world_close(&w);
}

TEST(metrics_of_a_dead_target_do_not_take_for_ever)
{
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    CHECK_OK(DO(&w, metrics, 1));
    check_text(&w, "opendfs_target 1\n");
    world_kill(&w, 1);
    uint64_t before = loop_sim_now_ns(w.sim);
    CHECK_TRUE(DO(&w, metrics, 1) < 0);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 10 * SECOND);
    CHECK_OK(DO(&w, metrics, 2));
    check_text(&w, "opendfs_target 2\n");
    world_close(&w);
}
