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

/* Nobody else can tell what this client has seen. */
TEST(metrics_of_this_client_name_its_targets)
{
    static uint8_t bytes[3 * FAKE_CHUNK_BYTES];
    struct world w;
    world_open(&w, testing_seed());
    world_start(&w);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE);
    CHECK_EQ(DO(&w, pwrite, f, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_OK(DO(&w, fsync, f));
    CHECK_EQ(DO(&w, pread, f, bytes, sizeof bytes, 0), sizeof bytes);
    CHECK_OK(DO(&w, metrics, OPENDFS_METRICS_OWN));
    const char *text = w.op.data;
    CHECK_EQ(strlen(text), w.op.data_len);
    CHECK_TRUE(strstr(text, "opendfs_client_read_bytes_total 196608\n") != NULL);
    CHECK_TRUE(strstr(text, "opendfs_client_hedges_total 0\n") != NULL);
    CHECK_TRUE(strstr(text, "opendfs_client_targets_reads_total{target=\"") != NULL);
    CHECK_TRUE(strstr(text, "opendfs_client_targets_read_seconds_bucket{target=\"") != NULL);
    opendfs_async_release(w.fs, &w.op);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}
