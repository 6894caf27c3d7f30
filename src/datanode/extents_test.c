/*
 * datanode/extents_test.c -- what members say about files with holes: which chunks there are, and
 * where a chunk has bytes.
 */
#include "datanode/worker_priv.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define PAGE 1024u /* of STAT */

static const struct rig_io base = {.host = 1, .chain = 1, .data_id = 100};

static int stat_from(struct rig *r, struct rig_call *c, uint32_t index, uint32_t count)
{
    struct rig_io io = base;
    io.host = 2;
    io.index = index;
    io.count = count;
    rig_stat_begin(r, c, &io);
    RIG_UNTIL(r, c->done);
    return c->rc;
}
static void extents_begin(struct rig *r, struct rig_call *c, const struct rig_io *io)
{
    *c = (struct rig_call){.rig = r, .host = io->host};
    c->m.extents =
        (struct proto_extents_request){.route = rig_route(r, io),
                                       .capability = rig_capability(r, io->data_id),
                                       .chunk = {.data_id = io->data_id, .index = io->index}};
    c->call.opcode = PROTO_OP_extents;
    rig_in(r->client.loop, rig_call_inside, c);
}
static int extents(struct rig *r, struct rig_call *c, unsigned host, uint32_t index)
{
    struct rig_io io = base;
    io.host = host;
    io.index = index;
    extents_begin(r, c, &io);
    RIG_UNTIL(r, c->done);
    return c->rc;
}
static void put(struct rig *r, uint32_t index, uint32_t offset, uint32_t length, uint8_t fill)
{
    struct rig_io io = base;
    io.index = index;
    io.offset = offset;
    io.length = length;
    io.fill = fill;
    CHECK_OK(rig_write(r, &io));
}

/* The question is over all numbers that a chunk can have; the answer has what is there. */
TEST(chunks_far_apart_are_listed_at_once)
{
    struct rig r;
    struct rig_call c;
    rig_chain(&r, 2, DATANODE_ENGINE_RAM, testing_seed());
    put(&r, 3, 0, 100, 1);
    put(&r, 70000, 0, 100, 1);
    put(&r, UINT32_MAX, 0, 100, 1);
    CHECK_OK(stat_from(&r, &c, 0, UINT32_MAX)); /* all but the last number */
    CHECK_EQ(c.stat_count, 2);
    CHECK_EQ(c.stat_more, false);
    CHECK_OK(stat_from(&r, &c, 4, UINT32_MAX));
    CHECK_EQ(c.stat_count, 2);
    CHECK_OK(stat_from(&r, &c, UINT32_MAX, 1));
    CHECK_EQ(c.stat_count, 1);
    CHECK_OK(stat_from(&r, &c, 4, 69996)); /* one too few */
    CHECK_EQ(c.stat_count, 0);
    CHECK_EQ(c.stat_more, false);
    rig_close(&r);
}

TEST(a_page_has_so_many_chunks_and_says_where_the_next_begins)
{
    struct rig r;
    struct rig_call c;
    rig_chain(&r, 2, DATANODE_ENGINE_RAM, testing_seed());
    for (uint32_t i = 0; i <= PAGE; i++) {
        put(&r, 10 * i, 0, 10, 1);
    }
    CHECK_OK(stat_from(&r, &c, 0, UINT32_MAX));
    CHECK_EQ(c.stat_count, PAGE);
    CHECK_EQ(c.stat_more, true);
    CHECK_TRUE(c.next_index > 10 * (PAGE - 1) && c.next_index <= 10 * PAGE);
    CHECK_OK(stat_from(&r, &c, c.next_index, UINT32_MAX));
    CHECK_EQ(c.stat_count, 1);
    CHECK_EQ(c.stat_more, false);
    rig_close(&r);
}

static void check_extents(enum datanode_engine engine)
{
    struct rig r;
    struct rig_call c;
    rig_chain(&r, 2, engine, testing_seed());
    put(&r, 0, 8192, 12288, 1);
    put(&r, 0, 65536, 100, 1);
    for (unsigned host = 1; host <= 2; host++) {
        CHECK_OK(extents(&r, &c, host, 0));
        CHECK_EQ(c.length, 65636);
        CHECK_EQ(c.run_count, 4);
        CHECK_EQ(c.run[0], 8192);
        CHECK_EQ(c.run[1], 20480);
        CHECK_EQ(c.run[2], 65536);
        CHECK_EQ(c.run[3], 65636);
    }
    put(&r, 0, 12288, 4096, 253); /* fill and number of the cell: bytes of 0 */
    for (unsigned host = 1; host <= 2; host++) {
        CHECK_OK(extents(&r, &c, host, 0));
        CHECK_EQ(c.run_count, 6);
        CHECK_EQ(c.run[1], 12288);
        CHECK_EQ(c.run[2], 16384);
    }
    CHECK_OK(extents(&r, &c, 2, 1)); /* not there */
    CHECK_EQ(c.length, 0);
    CHECK_EQ(c.run_count, 0);
    rig_close(&r);
}

TEST(a_chunk_tells_where_it_has_bytes)
{
    check_extents(DATANODE_ENGINE_RAM);
    check_extents(DATANODE_ENGINE_FILE);
    check_extents(DATANODE_ENGINE_EXTENT);
}

/* In its turn: neither a truncation of before nor its generation keeps it back. */
TEST(a_cleared_chunk_has_nothing_left_at_all_members)
{
    struct rig r;
    struct rig_call c;
    rig_chain(&r, 3, DATANODE_ENGINE_EXTENT, testing_seed());
    struct rig_io io = base;
    io.length = 1u << 20;
    io.fill = 1;
    io.tgen = 5;
    CHECK_OK(rig_write(&r, &io));
    struct rig_io clear = {
        .host = 1, .chain = 1, .data_id = 100, .kind = PROTO_WRITE_CLEAR, .tgen = 4};
    CHECK_RC(rig_write(&r, &clear), ERR_stale_trunc);
    clear.tgen = 5;
    clear.seq = ++r.seq;
    CHECK_OK(rig_write(&r, &clear));
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_OK(extents(&r, &c, host, 0));
        CHECK_EQ(c.length, 0);
        CHECK_EQ(c.run_count, 0);
    }
    io.length = 4096;
    CHECK_OK(rig_write(&r, &io));
    clear.retry = true; /* a late copy of it does no harm to what came after it */
    CHECK_RC(rig_write(&r, &clear), ERR_stale_request);
    CHECK_OK(extents(&r, &c, 3, 0));
    CHECK_EQ(c.length, 4096);
    clear.seq = 0;
    clear.retry = false;
    clear.length = 1;
    CHECK_RC(rig_write(&r, &clear), ERR_bad_value);
    rig_close(&r);
}

/* I1: neither the old extents nor those to come. */
TEST(extents_of_a_chunk_with_a_pending_update_are_not_told)
{
    struct rig r;
    struct rig_call c, w;
    rig_chain(&r, 2, DATANODE_ENGINE_RAM, testing_seed());
    put(&r, 0, 0, 4096, 1);
    struct rig_io io = base;
    io.offset = 8192;
    io.length = 4096;
    net_sim_cut(r.net, 2, 1, true); /* the tail's answer does not arrive */
    rig_write_begin(&r, &w, &io);
    int rc = 0;
    do { /* the tail, too, says so between what it prepares and its own end */
        rc = extents(&r, &c, 2, 0);
        CHECK(rc == 0 || rc == -ERR_pending);
    } while (rc != 0 || c.length == 4096);
    CHECK_RC(extents(&r, &c, 1, 0), ERR_pending);
    net_sim_cut(r.net, 2, 1, false);
    RIG_UNTIL(&r, w.done);
    rig_call_end(&w);
    rig_close(&r);
}
