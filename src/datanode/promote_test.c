/*
 * datanode/promote_test.c -- a member whose old copy an administrator promotes (chain.md, R3), and
 * newer ones that come back: what each says that it has, what it serves, what it keeps.
 */
#include "datanode/chain_priv.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define CHUNKS 5u

static struct rig_io chunk(unsigned host, uint32_t index, uint8_t fill)
{
    struct rig_io io = {
        .host = host, .chain = 1, .data_id = 100, .length = 4096, .fill = fill, .index = index};
    return io;
}
static void put_all(struct rig *r, unsigned host, uint8_t fill)
{
    for (uint32_t i = 0; i < CHUNKS; i++) {
        const struct rig_io io = chunk(host, i, fill);
        CHECK_OK(rig_write(r, &io));
    }
}
static void check_all(struct rig *r, unsigned host, uint8_t fill)
{
    for (uint32_t i = 0; i < CHUNKS; i++) {
        struct rig_io io = chunk(host, i, fill);
        CHECK_OK(rig_read(r, &io));
    }
}
static int get(struct rig *r, unsigned host, uint8_t fill)
{
    struct rig_io io = chunk(host, 0, fill);
    return rig_read(r, &io);
}
static void row(struct rig *r, const char *members)
{
    rig_row(r, 1, members);
    RIG_UNTIL(r, rig_settled(r, 1));
}
static bool says(struct rig *r, unsigned host, enum proto_held held)
{
    rig_for_ms(r, 1000);
    return r->target[host].held[1] == held;
}

/* Target 3 left with the first contents; 1 and 2 have the second, and are lost. */
static void lose(struct rig *r)
{
    rig_chain(r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(r, 1, 1);
    rig_kill(r, 3);
    row(r, "1s 2s 3o");
    put_all(r, 1, 2);
    put_all(r, 1, 3); /* with numbers that the other line will have as well */
    rig_kill(r, 1);
    rig_kill(r, 2);
    rig_row(r, 1, "1l 2l 3o");
    rig_start(r, 3);
    RIG_UNTIL(r, rig_info(r, 3).target != 0);
    row(r, "1l 2l 3w");
    CHECK_TRUE(says(r, 3, PROTO_HELD_WHOLE));
    CHECK_RC(get(r, 3, 1), ERR_not_serving);
}
static void promote(struct rig *r, const char *members)
{
    r->row[1].loss_gen++;
    row(r, members);
}

TEST(the_promoted_copy_serves_what_it_has)
{
    struct rig r;
    lose(&r);
    promote(&r, "3s 1a 2a");
    check_all(&r, 3, 1);
    struct rig_io io = chunk(3, 0, 9);
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(get(&r, 3, 9));
    rig_close(&r);
}

/* They are not read, not changed and not deleted, over restarts and for as long as it takes. */
TEST(newer_copies_that_were_set_aside_stay_as_they_are)
{
    struct rig r;
    lose(&r);
    promote(&r, "3s 1a 2a");
    put_all(&r, 3, 7);
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    row(&r, "3s 1a 2a");
    for (unsigned i = 0; i < 2; i++) {
        rig_for_ms(&r, 5000);
        CHECK_EQ(rig_info(&r, 1).chunk_count, CHUNKS);
        CHECK_RC(get(&r, 1, 3), ERR_not_serving);
        CHECK_TRUE(says(&r, 1, PROTO_HELD_WHOLE));
        CHECK_TRUE(rig_info(&r, 1).settled); /* nothing is to be waited for: an upgrade goes on */
        rig_kill(&r, 1);
        rig_start(&r, 1);
        RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
        row(&r, "3s 1a 2a");
    }
    rig_kill(&r, 3); /* lost as well: now they are what is left, as they were */
    row(&r, "3l 1a 2a");
    promote(&r, "1s 3a 2a");
    check_all(&r, 1, 3);
    rig_close(&r);
}

/* Given up, it is as any member that comes back: higher numbers of its own are overwritten. */
TEST(a_newer_copy_that_is_given_up_becomes_equal)
{
    struct rig r;
    lose(&r);
    promote(&r, "3s 1a 2a");
    struct rig_io io = chunk(3, 0, 7);
    CHECK_OK(rig_write(&r, &io));
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    row(&r, "3s 1a 2a");
    row(&r, "3s 1o 2a");
    row(&r, "3s 1w 2a");
    row(&r, "3s 1y 2a");
    RIG_UNTIL(&r, r.target[1].synced[1] == r.row[1].epoch);
    row(&r, "3s 1s 2a");
    CHECK_OK(get(&r, 1, 7));
    for (uint32_t i = 1; i < CHUNKS; i++) {
        io = chunk(1, i, 1);
        CHECK_OK(rig_read(&r, &io));
    }
    rig_close(&r);
}

/* Section 8.6: what was pending when it left may have been seen by somebody. */
TEST(the_promoted_copy_commits_what_it_has_pending)
{
    struct rig r;
    struct rig_call w;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1, 1);
    const struct rig_io io = chunk(1, 0, 2);
    net_sim_cut(r.net, 3, 2, true); /* the tail's answer does not arrive */
    rig_write_begin(&r, &w, &io);
    RIG_UNTIL(&r, get(&r, 3, 2) == 0);
    CHECK_RC(get(&r, 2, 2), ERR_pending);
    rig_kill(&r, 2);
    rig_row(&r, 1, "1s 3s 2o");
    RIG_UNTIL(&r, w.done);
    rig_call_end(&w);
    rig_kill(&r, 1);
    rig_kill(&r, 3);
    net_sim_cut(r.net, 3, 2, false);
    rig_row(&r, 1, "1l 3l 2o");
    rig_start(&r, 2);
    RIG_UNTIL(&r, rig_info(&r, 2).target != 0);
    row(&r, "1l 3l 2w");
    promote(&r, "2s 1a 3a");
    RIG_UNTIL(&r, get(&r, 2, 2) == 0);
    for (uint32_t i = 1; i < CHUNKS; i++) {
        struct rig_io other = chunk(2, i, 1);
        CHECK_OK(rig_read(&r, &other));
    }
    rig_close(&r);
}

/* A part of a copy is never called a whole one. */
TEST(members_say_whether_they_have_all)
{
    struct rig r;
    rig_chain(&r, 3, DATANODE_ENGINE_FILE, testing_seed());
    put_all(&r, 1, 1);
    CHECK_TRUE(says(&r, 1, PROTO_HELD_WHOLE));
    row(&r, "1s 2s"); /* target 3 leaves, and deletes what it has */
    RIG_UNTIL(&r, rig_info(&r, 3).chunk_count == 0);
    row(&r, "1s 2s 3w");
    CHECK_TRUE(says(&r, 3, PROTO_HELD_PART));
    rig_kill(&r, 3);
    rig_start(&r, 3);
    RIG_UNTIL(&r, rig_info(&r, 3).target != 0);
    CHECK_TRUE(says(&r, 3, PROTO_HELD_PART));
    row(&r, "1s 2s 3o");
    row(&r, "1s 2s 3w");
    row(&r, "1s 2s 3y");
    RIG_UNTIL(&r, r.target[3].synced[1] == r.row[1].epoch);
    row(&r, "1s 2s 3s");
    CHECK_TRUE(says(&r, 3, PROTO_HELD_WHOLE));
    rig_close(&r);
    rig_chain(&r, 2, DATANODE_ENGINE_RAM, testing_seed());
    CHECK_TRUE(says(&r, 1, PROTO_HELD_PART)); /* it would be gone with the process */
    rig_close(&r);
}
