/* datanode/repair_test.c -- damaged chunks: section 10 of the protocol, cases 20, 24 and 25. */
#include "datanode/repair.h"

#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

static const struct rig_io io_first = {
    .host = 1, .chain = 1, .data_id = 100, .length = 8192, .fill = 1};

static int read_at(struct rig *r, unsigned host, uint8_t fill)
{
    struct rig_io io = io_first;
    io.host = host;
    io.fill = fill;
    return rig_read(r, &io);
}

/* doc/format/chunk.md: where a chunk's file is. Its first cell is in block 1. */
static void spoil_block(struct rig *r, unsigned host, uint64_t block)
{
    uint8_t key[12] = {100};
    char path[80];
    struct text t;
    unsigned directory = crc32c(0, key, sizeof key) % 1024;
    text_init(&t, path, sizeof path);
    text_add(&t, "/store/%02x/%02x/%016x.%08x", directory / 32, directory % 32, 100, 0);
    int rc = disk_sim_corrupt(r->disk[host], path, block * 4096 + 10, 0x40);
    CHECK_TEXT(rc == 0 ? "" : path, "");
}
static void spoil(struct rig *r, unsigned host)
{
    spoil_block(r, host, 1);
}
static void open_chain(struct rig *r, unsigned targets)
{
    rig_chain(r, targets, DATANODE_ENGINE_FILE, testing_seed());
    CHECK_OK(rig_write(r, &io_first));
    CHECK_OK(rig_sync(r, &io_first));
}
/* The client sees bytes that do not fit and tells so. */
static int check_at(struct rig *r, unsigned host)
{
    struct rig_call c;
    struct rig_io io = io_first;
    io.host = host;
    rig_read_begin(r, &c, &io);
    RIG_UNTIL(r, c.done);
    CHECK_OK(c.rc);
    CHECK_TRUE(!c.data_good); /* nothing is verified on the way */
    rig_call_end(&c);
    io.check = true;
    return rig_read(r, &io);
}

/* 10.1, 10.2: from any other serving member. */
static bool repair_at(unsigned host)
{
    struct rig r;
    open_chain(&r, 3);
    spoil(&r, host);
    CHECK_RC(check_at(&r, host), ERR_corrupt);
    RIG_UNTIL(&r, read_at(&r, host, 1) == 0);
    CHECK_EQ(rig_info(&r, host).damaged_count, 0);
    struct rig_io io = io_first;
    io.offset = 100; /* goes on as a delta */
    io.length = 10;
    io.fill = 5;
    CHECK_OK(rig_write(&r, &io));
    io.host = host;
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
    return true;
}
TEST(repair_by_other_members)
{
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_TRUE(repair_at(host));
    }
}

/* Case 20: a partial overwrite of a cell with bad bytes is never merged, wherever it is. */
static bool overwrite_at(unsigned host)
{
    struct rig r;
    open_chain(&r, 3);
    spoil(&r, host);
    struct rig_io io = io_first;
    io.offset = 100;
    io.length = 10;
    io.fill = 5;
    io.seq = 60;
    int rc;
    do { /* the head repairs first, others ask for the whole content */
        rc = rig_write(&r, &io);
        io.retry = true;
    } while (err_is(rc, EAGAIN) || err_is(rc, ERR_corrupt));
    CHECK_OK(rc);
    for (unsigned at = 1; at <= 3; at++) {
        struct rig_call c;
        struct rig_io all = io_first;
        all.host = at;
        rig_read_begin(&r, &c, &all);
        RIG_UNTIL(&r, c.done);
        CHECK_OK(c.rc);
        CHECK_TRUE(c.data_good);
        CHECK_EQ(c.data[10], 1);
        CHECK_EQ(c.data[99], 1);
        CHECK_EQ(c.data[100], 5);
        CHECK_EQ(c.data[110], 1);
        rig_call_end(&c);
    }
    rig_close(&r);
    return true;
}
TEST(repair_before_a_partial_overwrite)
{
    for (unsigned host = 1; host <= 3; host++) {
        CHECK_TRUE(overwrite_at(host));
    }
}

/* Case 25: the last serving member's copy is bad; one that waits has the same identity. */
TEST(repair_by_a_member_that_waits)
{
    struct rig r;
    open_chain(&r, 2);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    spoil(&r, 1);
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    RIG_UNTIL(&r, read_at(&r, 1, 1) == 0);
    rig_close(&r);
}

/* Case 25: another identity is no help. A whole overwrite heals. */
TEST(repair_never_invents)
{
    struct rig r;
    open_chain(&r, 2);
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    struct rig_io io = io_first;
    io.fill = 2;
    CHECK_OK(rig_write(&r, &io));
    rig_row(&r, 1, "1s 2w");
    RIG_UNTIL(&r, rig_settled(&r, 1));
    CHECK_OK(rig_sync(&r, &io));
    spoil_block(&r, 1, 3); /* the second write's first cell */
    CHECK_RC(check_at(&r, 1), ERR_corrupt);
    rig_for_ms(&r, 3000);
    CHECK_RC(read_at(&r, 1, 2), ERR_corrupt);
    io.length = 4096; /* a part: no */
    int rc = rig_write(&r, &io);
    CHECK_TRUE(rc < 0);
    io.length = 8192;
    io.fill = 3;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(read_at(&r, 1, 3));
    rig_close(&r);
}

/* Case 24, I9: a send under way keeps its bytes although newer contents are stable. */
TEST(repair_slow_send_keeps_its_content)
{
    struct rig r;
    struct rig_call c;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    struct rig_io io = io_first;
    io.length = 4u << 20;
    CHECK_OK(rig_write(&r, &io));
    rig_read_begin(&r, &c, &io);
    uint64_t reads = 0;
    RIG_UNTIL(&r, ++reads > 200 || c.done);
    for (uint8_t fill = 2; fill < 5; fill++) {
        io.fill = fill;
        io.sync = true;
        CHECK_OK(rig_write(&r, &io));
    }
    RIG_UNTIL(&r, c.done);
    CHECK_OK(c.rc);
    CHECK_TRUE(c.data_good);
    CHECK_EQ(c.data_len, 4u << 20);
    rig_call_end(&c);
    rig_close(&r);
}
