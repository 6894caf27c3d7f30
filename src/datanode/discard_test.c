/* datanode/discard_test.c -- what a target has of chains that it has left. */
#include "datanode/discard.h"

#include "base/fault.h"
#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define CHUNKS 40u

static struct rig_io chunk(unsigned host, uint32_t index)
{
    struct rig_io io = {.host = host, .chain = 1, .data_id = 100, .length = 4096, .fill = 7};
    io.index = index;
    return io;
}
static void put_all(struct rig *r, unsigned host)
{
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct rig_io io = chunk(host, i);
        CHECK_OK(rig_write(r, &io));
    }
}
static int get(struct rig *r, unsigned host, uint32_t index)
{
    struct rig_io io = chunk(host, index);
    return rig_read(r, &io);
}
static void row(struct rig *r, const char *members)
{
    rig_row(r, 1, members);
    RIG_UNTIL(r, rig_settled(r, 1));
}
static bool never(void *ctx)
{
    (void)ctx;
    return false;
}
static void pass(struct rig *r, uint64_t ns)
{
    (void)loop_sim_run(r->world, never, NULL, loop_sim_now_ns(r->world) + ns);
}
static uint64_t chunks(struct rig *r, unsigned host)
{
    return rig_info(r, host).chunk_count;
}

TEST(what_a_chain_had_goes_when_the_target_has_left)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1);
    row(&r, "1s 2s 3o"); /* may come back: all of it stays */
    pass(&r, 3 * RIG_SECOND);
    CHECK_EQ(chunks(&r, 3), CHUNKS);
    row(&r, "1s 2s");
    RIG_UNTIL(&r, chunks(&r, 3) == 0);
    CHECK_EQ(chunks(&r, 2), CHUNKS);
    CHECK_RC(get(&r, 3, 1), ERR_not_serving);
    row(&r, "1s 2s 3w"); /* and comes as a new one */
    row(&r, "1s 2s 3y");
    RIG_UNTIL(&r, r.target[3].synced[1] == r.row[1].epoch);
    row(&r, "1s 2s 3s");
    CHECK_EQ(chunks(&r, 3), CHUNKS);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        CHECK_OK(get(&r, 3, i));
    }
    rig_close(&r);
}

/* Added again in the middle of it: what is copied then is there in the end. */
TEST(who_comes_back_while_chunks_go_gets_all_of_them)
{
    for (unsigned pause = 0; pause < 6; pause++) {
        struct rig r;
        rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed() + pause);
        put_all(&r, 1);
        rig_row(&r, 1, "1s 2s");
        pass(&r, pause * RIG_SECOND / 400);
        row(&r, "1s 2s 3w");
        row(&r, "1s 2s 3y");
        RIG_UNTIL(&r, r.target[3].synced[1] == r.row[1].epoch);
        row(&r, "1s 2s 3s");
        for (uint32_t i = 0; i < CHUNKS; i++) {
            CHECK_OK(get(&r, 3, i));
        }
        rig_close(&r);
    }
}

/* A chunk that cannot be deleted just now is not left for ever: also when the walk is over by then.
 */
TEST(what_could_not_go_goes_later)
{
    for (uint64_t nth = 1; nth <= 40; nth++) {
        struct rig r;
        CLEANUP(fault_freep) struct fault *fault = fault_new();
        CHECK_TRUE(fault != NULL);
        rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
        struct rig_io io = chunk(1, 0);
        CHECK_OK(rig_write(&r, &io));
        fault_arm(fault, "mem.alloc", nth, 1);
        (void)rig_domain(&r, 3, fault);
        rig_row(&r, 1, "1s 2s");
        RIG_UNTIL(&r, chunks(&r, 3) == 0);
        (void)rig_domain(&r, 3, NULL);
        rig_close(&r);
    }
}

/* With nobody serving it may be the last copy. */
TEST(nothing_goes_while_the_chain_is_dark)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1);
    row(&r, "1l 2l");
    pass(&r, 3 * RIG_SECOND);
    CHECK_EQ(chunks(&r, 3), CHUNKS);
    row(&r, "1s 2o");
    RIG_UNTIL(&r, chunks(&r, 3) == 0);
    CHECK_EQ(chunks(&r, 2), CHUNKS);
    rig_close(&r);
}

/* It looks as if it had left while it was down, but the metadata may be those of a backup. It is
 * told the row all the same. */
TEST(what_is_found_behind_a_leap_stays)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1);
    rig_kill(&r, 3);
    r.row[1].epoch += 600;
    row(&r, "1s 2s");
    rig_start(&r, 3);
    RIG_UNTIL(&r, rig_info(&r, 3).target != 0);
    pass(&r, 5 * RIG_SECOND);
    CHECK_EQ(chunks(&r, 3), CHUNKS);
    row(&r, "1s 2s 3w"); /* it comes back, and leaves again before its eyes */
    row(&r, "1s 2s");
    RIG_UNTIL(&r, chunks(&r, 3) == 0);
    CHECK_EQ(chunks(&r, 1), CHUNKS);
    rig_close(&r);
}

/* The rows of a backup: others served then. What has moved here since is nowhere else. */
TEST(nothing_goes_by_rows_that_leap)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1);
    r.row[1].epoch += 65536;
    row(&r, "1s 2s");
    pass(&r, 5 * RIG_SECOND);
    CHECK_EQ(chunks(&r, 3), CHUNKS);
    row(&r, "2s 1s"); /* and by those that follow */
    pass(&r, 5 * RIG_SECOND);
    CHECK_EQ(chunks(&r, 3), CHUNKS);
    rig_close(&r);
}

static void rows_of_a_backup(struct rig *r, uint32_t chain, const char *members)
{
    r->row[chain].epoch += 400000000;
    rig_row(r, chain, members);
    RIG_UNTIL(r, rig_settled(r, chain));
}

/* Others have moved in since the backup, and this one has deleted what it had: zeros are no answer.
 */
TEST(who_has_left_does_not_serve_by_the_rows_of_a_backup)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1);
    row(&r, "1s 2s");
    RIG_UNTIL(&r, chunks(&r, 3) == 0);
    rows_of_a_backup(&r, 1, "1s 2s 3s");
    CHECK_RC(get(&r, 3, 1), ERR_not_serving);
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_GONE);
    CHECK_EQ(r.target[1].report[1], PROTO_REPORT_OK);
    rows_of_a_backup(&r, 1, "1l 2l 3l"); /* dark: one of the others is promoted */
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_GONE);
    CHECK_EQ(r.target[2].report[1], PROTO_REPORT_OK);
    row(&r, "2s 1o 3o");
    RIG_UNTIL(&r, r.target[3].report[1] == PROTO_REPORT_OK); /* it may come back */
    row(&r, "2s 3w 1o");
    row(&r, "2s 3y 1o");
    RIG_UNTIL(&r, r.target[3].synced[1] == r.row[1].epoch);
    row(&r, "2s 3s 1o");
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_OK);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        CHECK_OK(get(&r, 3, i));
    }
    rows_of_a_backup(&r, 1, "2s 3s"); /* one that it has is good at once */
    CHECK_OK(get(&r, 3, 1));
    rig_close(&r);
}

/* It was away when the backup says that it serves; and one of which it has never heard. */
TEST(who_is_not_whole_does_not_serve_by_the_rows_of_a_backup)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    row(&r, "1s 2s 3o");
    put_all(&r, 1);
    rows_of_a_backup(&r, 1, "1s 2s 3s");
    CHECK_RC(get(&r, 3, 1), ERR_not_serving);
    CHECK_EQ(r.target[3].report[1], PROTO_REPORT_GONE);
    CHECK_OK(get(&r, 2, 1));
    rows_of_a_backup(&r, 2, "1s 2s 3s");
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_EQ(r.target[host].report[2], PROTO_REPORT_GONE);
    }
    rig_row(&r, 3, "3s 1s"); /* a new one begins empty */
    RIG_UNTIL(&r, rig_settled(&r, 3));
    CHECK_EQ(r.target[3].report[3], PROTO_REPORT_OK);
    struct rig_io io = {.host = 3, .chain = 3, .data_id = 300, .length = 4096, .fill = 3};
    CHECK_OK(rig_write(&r, &io));
    rig_close(&r);
}
