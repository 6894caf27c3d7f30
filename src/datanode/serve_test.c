/*
 * datanode/serve_test.c -- the ways that reads take: which one when, what becomes of the page
 * cache, buffers that run out, receivers that do not read, a lease that ends meanwhile; how many
 * reads there may be, and those that nobody waits for.
 */
#include "datanode/worker.h"

#include "datanode/rig_world_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

#define MIB (1u << 20)
#define CALLS 8u

static const struct rig_io whole = {
    .host = 1, .chain = 1, .data_id = 100, .length = 4 * MIB, .fill = 9};

static uint64_t served(struct rig *r, enum datanode_way way)
{
    return stats_counter_value(&r->target[1].worker->counters.way[way].requests);
}
static uint64_t served_bytes(struct rig *r, enum datanode_way way)
{
    return stats_counter_value(&r->target[1].worker->counters.way[way].bytes);
}
static uint64_t counted(const struct stats_counter *c)
{
    return stats_counter_value(c);
}
static uint64_t stream_used(struct rig *r)
{
    return buf_pool_used_bytes(r->target[1].worker->stream_pool);
}
static uint64_t cached(struct rig *r)
{
    return disk_sim_cached_bytes(r->disk[1]);
}

/* One target with a stable chunk of 4 MiB, nothing of it in the page cache. */
static void open_cold(struct rig *r, const struct rig_options *opt)
{
    struct rig_options o = *opt;
    o.seed = o.seed == 0 ? testing_seed() : o.seed;
    o.targets = o.targets == 0 ? 1 : o.targets;
    o.engine = DATANODE_ENGINE_FILE;
    o.scrub_ms = DATANODE_SCRUB_NEVER;
    rig_chain_with(r, &o);
    CHECK_OK(rig_write(r, &whole));
    CHECK_OK(rig_sync(r, &whole));
    rig_for_ms(r, 3000); /* what the store does in the background is done */
    disk_sim_cache_mode(r->disk[1], DISK_SIM_CACHE_EXACT);
}
static int read_part(struct rig *r, uint32_t offset, uint32_t length, bool stream)
{
    struct rig_io io = whole;
    io.offset = offset;
    io.length = length;
    io.stream = stream;
    return rig_read(r, &io);
}
static void check_quiet(struct rig *r)
{
    rig_for_ms(r, 100);
    CHECK_EQ(stream_used(r), 0);
    CHECK_EQ(r->target[1].worker->read_count, 0);
    CHECK_EQ(r->target[1].worker->read_bytes, 0);
}

/* ---- Which way ---- */

TEST(serve_brings_small_cold_reads_in_first)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){0});
    CHECK_OK(read_part(&r, 8192, 4096, false));
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 1);
    CHECK_EQ(served_bytes(&r, DATANODE_WAY_FETCHED), 4096);
    CHECK_OK(read_part(&r, 8192, 4096, false));
    CHECK_EQ(served(&r, DATANODE_WAY_CACHED), 1);
    CHECK_OK(read_part(&r, 65536, 100, true)); /* too small to pass the cache by */
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 2);
    CHECK_OK(read_part(&r, MIB, 65536, false)); /* gathered */
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 3);
    CHECK_EQ(served(&r, DATANODE_WAY_STREAMED), 0);
    check_quiet(&r);
    rig_close(&r);
}

/* Who asks the leader is told as well. */
TEST(serve_reports_the_ways_of_reads)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){0});
    CHECK_OK(read_part(&r, 0, 4096, false));
    CHECK_OK(read_part(&r, 0, 4096, false));
    CHECK_OK(read_part(&r, MIB, MIB, true));
    rig_for_ms(&r, 25000);
    const struct proto_read_figures *f = &r.target[1].figures.reads;
    CHECK_EQ(f->fetched, 4096);
    CHECK_EQ(f->cached, 4096);
    CHECK_EQ(f->streamed, MIB);
    CHECK_EQ(f->busy, 0);
    rig_close(&r);
}

TEST(serve_brings_large_cold_reads_in_first_unless_they_stream)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){0});
    CHECK_OK(read_part(&r, 0, MIB, false));
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 1);
    CHECK_TRUE(cached(&r) >= MIB - 65536); /* some cells of it are holes */
    CHECK_OK(read_part(&r, 0, MIB, true)); /* it is there already */
    CHECK_OK(read_part(&r, 0, MIB, false));
    CHECK_EQ(served(&r, DATANODE_WAY_CACHED), 2);
    CHECK_EQ(served_bytes(&r, DATANODE_WAY_CACHED), 2 * MIB);
    check_quiet(&r);
    rig_close(&r);
}

TEST(serve_streams_past_the_page_cache)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){0});
    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(read_part(&r, i * MIB, MIB, true));
    }
    CHECK_OK(read_part(&r, 0, 4 * MIB, true));
    CHECK_OK(read_part(&r, 100000, 3 * MIB, true)); /* from the middle of a cell to another one */
    CHECK_EQ(served(&r, DATANODE_WAY_STREAMED), 6);
    CHECK_TRUE(served_bytes(&r, DATANODE_WAY_STREAMED) >= UINT64_C(11) * MIB);
    CHECK_TRUE(cached(&r) < 65536); /* nothing but what the store itself wrote */
    check_quiet(&r);
    rig_close(&r);
}

/* Others use a part: what of it is resident stays so, and the rest stays away. */
TEST(serve_streams_what_is_not_all_resident)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){0});
    CHECK_OK(read_part(&r, 2 * MIB, 65536, false));
    uint64_t before = cached(&r);
    CHECK_OK(read_part(&r, 0, 4 * MIB, true));
    CHECK_EQ(served(&r, DATANODE_WAY_STREAMED), 1);
    CHECK_TRUE(cached(&r) >= before && cached(&r) < before + 65536);
    CHECK_OK(read_part(&r, 2 * MIB, 65536, false));
    CHECK_EQ(served(&r, DATANODE_WAY_CACHED), 1);
    check_quiet(&r);
    rig_close(&r);
}

/* The last cell is shorter, and the file may end inside a unit. */
TEST(serve_streams_to_the_end_of_a_chunk)
{
    struct rig r;
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){0});
    io.index = 1;
    io.length = 200001;
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_sync(&r, &io));
    disk_sim_cache_empty(r.disk[1]);
    io.stream = true;
    CHECK_OK(rig_read(&r, &io));
    CHECK_EQ(served(&r, DATANODE_WAY_STREAMED), 1);
    CHECK_EQ(served_bytes(&r, DATANODE_WAY_STREAMED), 200001);
    check_quiet(&r);
    rig_close(&r);
}

TEST(serve_sends_from_memory)
{
    struct rig r;
    struct rig_io io = whole;
    rig_chain(&r, 1, DATANODE_ENGINE_RAM, testing_seed());
    io.length = 8192;
    CHECK_OK(rig_write(&r, &io));
    io.stream = true;
    CHECK_OK(rig_read(&r, &io));
    CHECK_EQ(served(&r, DATANODE_WAY_CACHED), 1);
    rig_close(&r);
}

/* Overwritten here and there: too many places for one answer, or for direct reads. */
TEST(serve_copes_with_scattered_chunks)
{
    struct rig r;
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){0});
    io.length = 4096;
    for (unsigned i = 0; i < 12; i++) {
        io.offset = (2 * i + 1) * 65536;
        CHECK_OK(rig_write(&r, &io));
    }
    CHECK_OK(rig_sync(&r, &io));
    disk_sim_cache_empty(r.disk[1]);
    CHECK_OK(read_part(&r, 0, 2 * MIB, true));
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 1);
    for (unsigned i = 12; i < 31; i++) {
        io.offset = (2 * i + 1) * 65536;
        CHECK_OK(rig_write(&r, &io));
    }
    CHECK_OK(read_part(&r, 0, 4 * MIB, true));
    CHECK_EQ(served(&r, DATANODE_WAY_COPIED), 1);
    check_quiet(&r);
    rig_close(&r);
}

/* ---- When it cannot ---- */

TEST(serve_without_buffers_goes_through_the_cache)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){.stream_bytes = MIB});
    CHECK_OK(read_part(&r, 0, 2 * MIB, true));
    CHECK_EQ(counted(&r.target[1].worker->counters.stream_full), 1);
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 1);
    CHECK_EQ(served(&r, DATANODE_WAY_STREAMED), 0);
    CHECK_OK(read_part(&r, 3 * MIB, MIB, true));
    CHECK_EQ(served(&r, DATANODE_WAY_STREAMED), 1);
    check_quiet(&r);
    rig_close(&r);
}

TEST(serve_without_direct_io_goes_through_the_cache)
{
    struct rig r;
    open_cold(&r, &(struct rig_options){0});
    disk_sim_no_direct(r.disk[1], true);
    CHECK_OK(read_part(&r, 0, MIB, true));
    CHECK_OK(read_part(&r, MIB, MIB, true));
    CHECK_EQ(counted(&r.target[1].worker->counters.stream_unable), 1); /* asked once */
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED), 2);
    check_quiet(&r);
    rig_close(&r);
}

/* Once it is bad luck: the store reads again. When it stays, the copy is damaged. */
TEST(serve_asks_the_store_what_is_wrong)
{
    for (unsigned i = 0; i < 2; i++) {
        bool stream = i > 0;
        struct rig r;
        open_cold(&r, &(struct rig_options){0});
        disk_sim_fail(r.disk[1], stream ? DISK_READ : DISK_FETCH, NULL, 1, 1, -EIO);
        CHECK_OK(read_part(&r, 0, MIB, stream));
        CHECK_EQ(served(&r, DATANODE_WAY_COPIED), 1);
        disk_sim_fail(r.disk[1], DISK_FETCH, NULL, 1, 0, -EIO);
        disk_sim_fail(r.disk[1], DISK_READ, NULL, 1, 0, -EIO);
        CHECK_RC(read_part(&r, MIB, MIB, stream), ERR_corrupt);
        CHECK_EQ(rig_info(&r, 1).damaged_count, 1);
        check_quiet(&r);
        rig_close(&r);
    }
}

/* ---- Meanwhile ---- */

/* R8: the lease was there when the content was pinned, and is not when the bytes have come. */
static void check_lost_lease(uint32_t length, bool stream)
{
    struct rig r;
    struct rig_call c;
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){0});
    io.length = length;
    io.stream = stream;
    CHECK_OK(read_part(&r, 3 * MIB, 4096, false)); /* the link is up */
    disk_sim_slow(r.disk[1], 4 * RIG_SECOND);
    rig_read_begin(&r, &c, &io);
    RIG_UNTIL(&r, r.target[1].worker->read_count == 1);
    CHECK_TRUE(rig_info(&r, 1).leased);
    r.target[1].leased = false;
    RIG_UNTIL(&r, c.done);
    CHECK_RC(c.rc, ERR_not_serving);
    CHECK_EQ(c.data_len, 0);
    CHECK_EQ(served(&r, stream ? DATANODE_WAY_STREAMED : DATANODE_WAY_FETCHED), stream ? 0 : 1);
    check_quiet(&r);
    rig_call_end(&c);
    rig_close(&r);
}

TEST(serve_shows_nothing_once_the_lease_is_over)
{
    check_lost_lease(4 * MIB, true);
    check_lost_lease(4 * MIB, false);
    check_lost_lease(4096, false);
}

/* The chain goes on without this member while its disk reads. */
TEST(serve_shows_nothing_once_it_is_out_of_the_row)
{
    struct rig r;
    struct rig_call c;
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){.targets = 2});
    io.stream = true;
    CHECK_OK(read_part(&r, 3 * MIB, 4096, false));
    disk_sim_slow(r.disk[1], RIG_SECOND / 2);
    rig_read_begin(&r, &c, &io);
    RIG_UNTIL(&r, r.target[1].worker->read_count == 1);
    rig_row(&r, 1, "2s 1o");
    RIG_UNTIL(&r, c.done);
    CHECK_RC(c.rc, ERR_not_serving);
    check_quiet(&r);
    rig_call_end(&c);
    rig_close(&r);
}

static void check_content(const struct rig_call *c, uint8_t fill)
{
    CHECK_OK(c->rc);
    CHECK_TRUE(c->data_good);
    for (size_t at = 0; at < c->data_len; at += 4096) {
        CHECK_EQ(c->data[at], (uint8_t)(fill + at / 4096));
    }
}

/* A content that is pinned is what is sent, whatever happens to the chunk meanwhile. */
static void check_overwritten(uint64_t seed, uint32_t length, bool stream)
{
    struct rig r;
    struct rig_call old;
    struct rig_call new;
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){.seed = seed});
    CHECK_OK(read_part(&r, 3 * MIB, 4096, false));
    disk_sim_slow(r.disk[1], RIG_SECOND / 20);
    io.length = length;
    io.stream = stream;
    rig_read_begin(&r, &old, &io);
    RIG_UNTIL(&r, r.target[1].worker->read_count == 1);
    io = whole;
    io.fill = 77;
    rig_write_begin(&r, &new, &io);
    RIG_UNTIL(&r, old.done && new.done);
    CHECK_OK(new.rc);
    check_content(&old, whole.fill);
    CHECK_EQ(old.data_len, length);
    CHECK_OK(rig_read(&r, &io));
    check_quiet(&r);
    rig_call_end(&old);
    rig_call_end(&new);
    rig_close(&r);
}

TEST(serve_keeps_what_it_has_pinned)
{
    for (uint64_t i = 0; i < 4; i++) {
        check_overwritten(testing_seed() + i, 4 * MIB, true);
        check_overwritten(testing_seed() + i, 4 * MIB, false);
        check_overwritten(testing_seed() + i, 65536, false);
    }
}

/* ---- Receivers that do not read ---- */

struct stalled {
    struct rig r;
    struct rig_call call[CALLS];
};

/* Eight reads of 4 MiB under way, and the client stands still. */
static struct stalled *stall(void)
{
    struct stalled *s = mem_zalloc(sizeof *s);
    struct rig_io io = whole;
    CHECK(s != NULL);
    open_cold(&s->r, &(struct rig_options){.stream_bytes = UINT64_C(8) * MIB});
    CHECK_OK(read_part(&s->r, 3 * MIB, 4096, false));
    disk_sim_slow(s->r.disk[1], RIG_SECOND / 10);
    io.stream = true;
    for (unsigned i = 0; i < CALLS; i++) {
        rig_read_begin(&s->r, &s->call[i], &io);
    }
    RIG_UNTIL(&s->r, s->r.target[1].worker->read_count == CALLS);
    loop_sim_pause(s->r.client.loop, true);
    disk_sim_slow(s->r.disk[1], 0); /* for what comes from now on */
    rig_for_ms(&s->r, 3000);
    CHECK_TRUE(s->r.target[1].worker->read_count > 0);
    CHECK_TRUE(stream_used(&s->r) > 0 && stream_used(&s->r) <= UINT64_C(8) * MIB);
    CHECK_TRUE(counted(&s->r.target[1].worker->counters.stream_full) >= CALLS - 2);
    return s;
}
static void stall_end(struct stalled *s)
{
    for (unsigned i = 0; i < CALLS; i++) {
        rig_call_end(&s->call[i]);
    }
    check_quiet(&s->r);
    rig_close(&s->r);
    mem_free(s);
}

/* Its buffers are a fixed number: what finds none goes through the cache, and all arrives. */
TEST(serve_waits_for_a_receiver_that_does_not_read)
{
    struct stalled *s = stall();
    loop_sim_pause(s->r.client.loop, false);
    for (unsigned i = 0; i < CALLS; i++) {
        RIG_UNTIL(&s->r, s->call[i].done);
        check_content(&s->call[i], whole.fill);
        CHECK_EQ(s->call[i].data_len, 4 * MIB);
    }
    CHECK_EQ(served(&s->r, DATANODE_WAY_STREAMED), 2);
    stall_end(s);
}

TEST(serve_lets_a_receiver_go_that_never_reads)
{
    struct stalled *s = stall();
    rig_for_ms(&s->r, 130000);
    CHECK_EQ(stream_used(&s->r), 0);
    CHECK_EQ(s->r.target[1].worker->read_count, 0);
    loop_sim_pause(s->r.client.loop, false);
    for (unsigned i = 0; i < CALLS; i++) {
        RIG_UNTIL(&s->r, s->call[i].done);
    }
    stall_end(s);
}

/* What it keeps is not all that there is: others can still write. */
TEST(serve_leaves_memory_to_writes_when_a_receiver_does_not_read)
{
    struct rig r;
    struct rig_call call[CALLS];
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){.buffer_bytes = UINT64_C(32) * MIB});
    io.check = true; /* by way of memory */
    loop_sim_pause(r.target[1].process.loop, true);
    for (unsigned i = 0; i < CALLS; i++) {
        rig_read_begin(&r, &call[i], &io);
    }
    rig_for_ms(&r, 100);
    loop_sim_pause(r.client.loop, true);
    loop_sim_pause(r.target[1].process.loop, false);
    uint64_t most = 0;
    for (unsigned i = 0; i < 100; i++) {
        rig_for_ms(&r, 10);
        most = base_max(most, buf_pool_used_bytes(r.target[1].worker->answer_pool));
        CHECK_EQ(buf_pool_used_bytes(r.target[1].worker->pool), 0); /* where writes come in */
    }
    CHECK_TRUE(most >= 4 * MIB && most <= UINT64_C(8) * MIB);
    loop_sim_pause(r.client.loop, false);
    for (unsigned i = 0; i < CALLS; i++) {
        RIG_UNTIL(&r, call[i].done);
        CHECK_TRUE(call[i].rc == 0 || call[i].rc == -ERR_busy);
        rig_call_end(&call[i]);
    }
    CHECK_OK(rig_read(&r, &io));
    check_quiet(&r);
    rig_close(&r);
}

/* ---- How many ---- */

static unsigned begin_all(struct rig *r, struct rig_call *call, const struct rig_io *io)
{
    unsigned busy = 0;
    for (unsigned i = 0; i < CALLS; i++) {
        rig_read_begin(r, &call[i], io);
    }
    rig_for_ms(r, 200);
    disk_sim_slow(r->disk[1], 0); /* for what comes from now on */
    for (unsigned i = 0; i < CALLS; i++) {
        RIG_UNTIL(r, call[i].done);
        if (call[i].rc < 0) {
            CHECK_RC(call[i].rc, ERR_busy);
            busy++;
        }
        rig_call_end(&call[i]);
    }
    return busy;
}

/* One link gets a quarter. */
TEST(serve_refuses_more_reads_than_there_may_be)
{
    struct rig r;
    struct rig_call call[CALLS];
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){.max_reads = 12});
    io.length = 4096;
    CHECK_OK(rig_read(&r, &io));
    disk_sim_slow(r.disk[1], RIG_SECOND);
    disk_sim_cache_empty(r.disk[1]);
    CHECK_EQ(begin_all(&r, call, &io), CALLS - 3);
    CHECK_EQ(counted(&r.target[1].worker->counters.read_busy), CALLS - 3);
    check_quiet(&r);
    CHECK_OK(rig_read(&r, &io));
    rig_close(&r);
}

TEST(serve_refuses_more_bytes_than_there_may_be)
{
    struct rig r;
    struct rig_call call[CALLS];
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){.max_read_bytes = UINT64_C(16) * MIB});
    CHECK_OK(read_part(&r, 0, 4096, false));
    disk_sim_slow(r.disk[1], RIG_SECOND);
    CHECK_EQ(begin_all(&r, call, &io), CALLS - 1);
    disk_sim_slow(r.disk[1], RIG_SECOND);
    disk_sim_cache_empty(r.disk[1]);
    io.length = MIB;
    CHECK_EQ(begin_all(&r, call, &io), CALLS - 4);
    check_quiet(&r);
    rig_close(&r);
}

/* ---- Those that nobody waits for ---- */

TEST(serve_begins_nothing_for_who_has_given_up)
{
    struct rig r;
    struct rig_call write;
    struct rig_call read;
    struct rig_io io = whole;
    open_cold(&r, &(struct rig_options){.targets = 2});
    io.length = 4096;
    CHECK_OK(rig_read(&r, &io));
    disk_sim_cache_empty(r.disk[1]);
    uint64_t before = served(&r, DATANODE_WAY_FETCHED) + served(&r, DATANODE_WAY_CACHED);
    net_sim_cut(r.net, 2, 1, true);
    rig_write_begin(&r, &write, &io); /* pending until its successor answers */
    rig_for_ms(&r, 100);
    io.wait_ms = 9000;
    io.timeout_ms = 300;
    rig_read_begin(&r, &read, &io);
    RIG_UNTIL(&r, read.done);
    CHECK_RC(read.rc, ERR_deadline);
    rig_for_ms(&r, 100); /* the worker knows it, too */
    CHECK_EQ(r.target[1].worker->read_count, 1);
    net_sim_cut(r.net, 2, 1, false);
    RIG_UNTIL(&r, write.done);
    rig_for_ms(&r, 1000);
    CHECK_EQ(counted(&r.target[1].worker->counters.read_late), 1);
    CHECK_EQ(served(&r, DATANODE_WAY_FETCHED) + served(&r, DATANODE_WAY_CACHED), before);
    check_quiet(&r);
    rig_call_end(&write);
    rig_call_end(&read);
    rig_close(&r);
}
