#include "net/conn.h"

#include "net/conn_sim_priv.h"
#include "testing/testing.h"

#define FILE_BYTES 700000u
#define FILE_KEY 77u
#define CALLS 8u

/* A client that asks for the same range of a file many times at once. */
struct file_call {
    struct net_conn_call call;
    struct asker *asker;
};
struct asker {
    struct sim_rig rig;
    struct file_call call[CALLS];
    uint64_t offset, len;
    unsigned done, good, lost;
};

static void asker_done(struct net_conn_call *c, const struct net_conn_reply *r)
{
    struct asker *a = container_of(c, struct file_call, call)->asker;
    a->done++;
    if (r->rc < 0) {
        CHECK_RC(r->rc, ERR_closed);
        a->lost++;
        return;
    }
    CHECK_EQ(r->data.len, a->len);
    size_t i = 0;
    while (i < r->data.len && r->data.at[i] == rig_byte(FILE_KEY, a->offset + i)) {
        i++;
    }
    CHECK_EQ(i, a->len);
    a->good++;
}
static void asker_ask(void *ctx)
{
    struct asker *a = ctx;
    for (unsigned i = 0; i < CALLS; i++) {
        a->call[i] =
            (struct file_call){.call = {.done = asker_done, .opcode = RIG_FILE}, .asker = a};
        net_conn_call(a->rig.client.conn, &a->call[i].call);
    }
}
static bool asker_has_all(void *ctx)
{
    return ((struct asker *)ctx)->done == CALLS;
}
static bool asker_has_one(void *ctx)
{
    return ((struct asker *)ctx)->done > 0;
}
static bool server_has_ended(void *ctx)
{
    struct asker *a = ctx;
    return a->rig.server.closed == 1 && a->done == CALLS && a->rig.server.pins == 0;
}

static void file_make(void *ctx)
{
    struct asker *a = ctx;
    struct disk *d = a->rig.server.env.disk;
    uint8_t *bytes = mem_alloc(FILE_BYTES);
    CHECK(bytes != NULL);
    rig_fill(bytes, FILE_KEY, FILE_BYTES);
    CHECK_OK(disk_store(d, "/data", bytes, FILE_BYTES));
    mem_free(bytes);
    struct disk_req open = {.op = DISK_OPEN, .path = "/data"};
    CHECK_OK((int)disk_now(d, &open));
    a->rig.server.range.file = open.file;
}
static void file_close(void *ctx)
{
    struct asker *a = ctx;
    struct disk_req close = {.op = DISK_CLOSE, .file = a->rig.server.range.file};
    CHECK_OK((int)disk_now(a->rig.server.env.disk, &close));
}

static struct asker *asker_new(uint64_t seed, uint64_t offset, uint64_t len)
{
    struct asker *a = mem_zalloc(sizeof *a);
    CHECK(a != NULL);
    a->offset = offset;
    a->len = len;
    a->rig.window_bytes = 3000 + (seed % 5) * 20000;
    a->rig.server.opt.max_send_bytes = 20000; /* so that reading pauses as well */
    sim_rig_start(&a->rig, seed);
    loop_sim_enter(a->rig.loops[1], file_make, a);
    a->rig.server.range.offset = offset;
    a->rig.server.range.len = len;
    return a;
}
static void asker_free(struct asker *a)
{
    loop_sim_enter(a->rig.loops[0], end_stop, &a->rig.client);
    loop_sim_enter(a->rig.loops[1], end_stop, &a->rig.server);
    sim_rig_run(&a->rig, 5 * SECOND); /* the disk lets go */
    CHECK_EQ(a->rig.server.pins, 0);
    loop_sim_enter(a->rig.loops[1], file_close, a);
    sim_rig_stop(&a->rig);
    mem_free(a);
}
static void asker_start(struct asker *a)
{
    loop_sim_enter(a->rig.loops[0], asker_ask, a);
}
static bool asker_until(struct asker *a, bool (*done)(void *ctx), uint64_t seconds)
{
    return loop_sim_run(a->rig.sim, done, a, loop_sim_now_ns(a->rig.sim) + seconds * SECOND);
}

/* By way of the disk (large) and of the page cache (small), in pieces, without a pause of seconds:
 * that would be a wake-up which only the keep-alive brought. */
TEST(files_arrive_whole_through_narrow_windows)
{
    const uint64_t lens[] = {1, 4096, 32768, 32769, 200000};
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t len = lens[i % ARRAY_COUNT(lens)];
        struct asker *a = asker_new(testing_seed() + i, i * 1000 + 1, len);
        asker_start(a);
        CHECK_TRUE(asker_until(a, asker_has_all, len > 100000 ? 4 : 1));
        CHECK_EQ(a->good, CALLS);
        CHECK_EQ(a->rig.client.closed + a->rig.server.closed, 0);
        asker_free(a);
    }
}

TEST(a_busy_disk_is_asked_again)
{
    struct asker *a = asker_new(testing_seed(), 5, 100000);
    disk_sim_fail(a->rig.machine, DISK_SEND, NULL, 1, 5, -ERR_busy);
    asker_start(a);
    CHECK_TRUE(asker_until(a, asker_has_all, 4));
    CHECK_EQ(a->good, CALLS);
    asker_free(a);
}

/* The header has promised bytes that the disk does not give: the connection ends, for both. */
TEST(a_failing_disk_ends_the_connection)
{
    for (uint64_t i = 0; i < 20; i++) {
        struct asker *a = asker_new(testing_seed() + i, 5, 100000);
        /* Each call takes one at least: more than so many there may not be. */
        disk_sim_fail(a->rig.machine, DISK_SEND, "data", 1 + i % CALLS, 1, -EIO);
        asker_start(a);
        CHECK_TRUE(asker_until(a, server_has_ended, 60));
        CHECK_RC(a->rig.server.closed_rc, EIO);
        CHECK_TRUE(a->lost > 0);
        asker_free(a);
    }
}

TEST(a_file_that_became_short_ends_the_connection)
{
    struct asker *a = asker_new(testing_seed(), FILE_BYTES - 50000, 100000);
    asker_start(a);
    CHECK_TRUE(asker_until(a, server_has_ended, 60));
    CHECK_RC(a->rig.server.closed_rc, EIO);
    CHECK_EQ(a->lost, CALLS);
    asker_free(a);
}

static void client_closes(void *ctx)
{
    struct asker *a = ctx;
    net_conn_close(a->rig.client.conn, -ERR_closed, "enough");
}
static void server_frees(void *ctx)
{
    struct asker *a = ctx;
    a->rig.server.conn = net_conn_free(a->rig.server.conn);
}

/* After any number of steps, so also while the disk sends. */
TEST(the_peer_may_leave_while_files_are_sent)
{
    for (uint64_t i = 0; i < 60; i++) {
        struct asker *a = asker_new(testing_seed() + i, 5, 150000);
        disk_sim_slow(a->rig.machine, i % 3 * 20000000);
        asker_start(a);
        for (uint64_t steps = 0; steps < 10 + i * 5 && loop_sim_step(a->rig.sim); steps++) {
        }
        loop_sim_enter(a->rig.loops[0], client_closes, a);
        CHECK_TRUE(asker_until(a, asker_has_all, 60));
        CHECK_EQ(a->good + a->lost, CALLS);
        sim_rig_run(&a->rig, 30 * SECOND);
        CHECK_TRUE(a->rig.server.closed == 1 && a->rig.server.pins == 0);
        asker_free(a);
    }
}

TEST(the_owner_may_free_while_files_are_sent)
{
    for (uint64_t i = 0; i < 60; i++) {
        struct asker *a = asker_new(testing_seed() + i, 5, 150000);
        disk_sim_slow(a->rig.machine, i % 3 * 20000000);
        asker_start(a);
        for (uint64_t steps = 0; steps < 10 + i * 5 && loop_sim_step(a->rig.sim); steps++) {
        }
        loop_sim_enter(a->rig.loops[1], server_frees, a);
        CHECK_TRUE(asker_until(a, asker_has_all, 60));
        CHECK_EQ(a->rig.server.closed, 0); /* it knows */
        sim_rig_run(&a->rig, 5 * SECOND);
        CHECK_EQ(a->rig.server.pins, 0);
        asker_free(a);
    }
}

TEST(a_reset_while_files_are_sent_leaves_nothing_behind)
{
    for (uint64_t i = 0; i < 20; i++) {
        struct asker *a = asker_new(testing_seed() + i, 5, 150000);
        asker_start(a);
        if (i % 2 == 0) {
            CHECK_TRUE(asker_until(a, asker_has_one, 60));
        }
        net_sim_reset(a->rig.world, 0, 1);
        CHECK_TRUE(asker_until(a, server_has_ended, 60));
        CHECK_TRUE(a->lost > 0);
        asker_free(a);
    }
}
