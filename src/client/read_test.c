#include "client/io_priv.h"

#include "client/fake_world_priv.h"
#include "testing/testing.h"

/* Which member reads go to, and what becomes of them when members are slow, dead, damaged or lie.
 * Bytes are compared at each read: none of this may ever be seen in them. */

#define CHUNK ((size_t)FAKE_CHUNK_BYTES)
#define CHUNKS 16u
#define BYTES (CHUNKS * CHUNK)
#define MS UINT64_C(1000000)
#define CELLS (BYTES / PROTO_CELL_BYTES)

static uint8_t pattern[BYTES];

/* A file of CHUNKS chunks, nothing read yet. */
static struct opendfs_file *begin_file(struct world *w)
{
    world_start(w);
    world_fill(pattern, sizeof pattern, 3);
    struct opendfs_file *f = world_file(w, "/f", OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE);
    CHECK_EQ(DO(w, pwrite, f, pattern, BYTES, 0), BYTES);
    CHECK_OK(DO(w, fsync, f));
    return f;
}
/* A client beside the target `near` (0: none). */
static struct opendfs_file *begin(struct world *w, unsigned near)
{
    world_open(w, testing_seed());
    w->opt.host = near == 0 ? NULL : w->node[near].at.text;
    return begin_file(w);
}
static void read_at(struct world *w, struct opendfs_file *f, uint64_t at)
{
    uint8_t got[100];
    CHECK_EQ(DO(w, pread, f, got, sizeof got, at), sizeof got);
    CHECK_BYTES(got, pattern + at, sizeof got);
}
/* Out of order, so that nothing is read ahead; a cell each. */
static void read_cells(struct world *w, struct opendfs_file *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        read_at(w, f, (uint64_t)(i * 7919u % CELLS) * PROTO_CELL_BYTES + 1);
    }
}
/* A while between them, in which times fade: chance in a few answers does not decide. */
static void read_slowly(struct world *w, struct opendfs_file *f, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        read_at(w, f, (uint64_t)(i * 7919u % CELLS) * PROTO_CELL_BYTES + 1);
        world_run(w, 20 * MS);
    }
}
static uint64_t counter(const struct stats_counter *c)
{
    return stats_counter_value(c);
}
/* Nothing is left of requests that nobody waits for. */
static void check_quiet(struct world *w)
{
    world_run(w, 10 * SECOND);
    CHECK_EQ(w->fs->hedging, 0);
    CHECK_EQ(w->fs->reports, 0);
    CHECK_EQ(buf_pool_used_bytes(w->fs->pool), 0);
    for (unsigned i = 1; i < NODES; i++) {
        CHECK_EQ(client_map_source(w->fs, i)->load.in_flight, 0);
    }
}
static void finish(struct world *w, struct opendfs_file *f)
{
    CHECK_OK(DO(w, close, f, NULL, 0));
    check_quiet(w);
    world_close(w);
}
/* world_node() has put them there. */
static unsigned host_of(uint32_t target)
{
    return target + 1;
}
static void forget_reads(struct world *w)
{
    for (unsigned i = 1; i < NODES; i++) {
        w->node[i].reads = 0;
    }
}

/* --- which member -------------------------------------------------------------------------------
 */

TEST(reads_are_spread_over_all_members)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    read_slowly(&w, f, 900);
    for (unsigned i = 1; i < NODES; i++) { /* how fast they are is up to the seed */
        CHECK_TRUE(w.node[i].reads > 60);
        CHECK_EQ(counter(&client_map_source(w.fs, i)->reads), w.node[i].reads);
    }
    finish(&w, f);
}

/* Of each chunk that it has it is asked first. */
static void check_near(struct world *w, struct opendfs_file *f)
{
    unsigned with = 0;
    CHECK_EQ(client_map_source(w->fs, 2)->distance, CLIENT_SAME_HOST);
    CHECK_EQ(client_map_source(w->fs, 1)->distance, CLIENT_ELSEWHERE);
    CHECK_EQ(client_map_source(w->fs, 3)->distance, CLIENT_ELSEWHERE);
    forget_reads(w);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        uint32_t chain;
        CHECK_OK(client_map_chain(w->fs, &f->inode->layout, i, &chain));
        const uint32_t *order = w->cluster->chain[chain - 1].order;
        with += order[0] == 2 || order[1] == 2 ? 1 : 0;
        read_at(w, f, i * CHUNK + 5 * PROTO_CELL_BYTES);
    }
    CHECK_TRUE(with > 0);
    CHECK_EQ(w->node[2].reads, with);
}

TEST(a_member_on_the_same_host_is_read_first)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 2);
    read_cells(&w, f, 100); /* what is known of the others fades only later */
    check_near(&w, f);
    finish(&w, f);
}

/* Nobody has told it where it is. */
TEST(a_member_at_our_own_address_is_near)
{
    struct world w;
    world_open_at(&w, testing_seed(), host_of(2));
    struct opendfs_file *f = begin_file(&w);
    read_cells(&w, f, 100);
    check_near(&w, f);
    finish(&w, f);
}

TEST(a_slow_member_gets_little_until_it_is_tried_again)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    w.node[1].slow_ns = 40 * MS;
    read_cells(&w, f, 60);
    forget_reads(&w);
    read_cells(&w, f, 300);
    CHECK_TRUE(w.node[1].reads < 30);
    w.node[1].slow_ns = 0;
    world_run(&w, 60 * SECOND);
    forget_reads(&w);
    read_slowly(&w, f, 300);
    CHECK_TRUE(w.node[1].reads > 40);
    finish(&w, f);
}

/* --- in order, much ------------------------------------------------------------------------------
 */

#define LARGE (4 * BYTES)

/* A file of LARGE bytes, and how large one must be to be streamed. */
static void begin_large(struct world *w, uint64_t stream_bytes)
{
    world_open(w, testing_seed());
    w->opt.stream_bytes = stream_bytes;
    struct opendfs_file *f = begin_file(w);
    for (unsigned i = 1; i < LARGE / BYTES; i++) {
        CHECK_EQ(DO(w, pwrite, f, pattern, BYTES, i * BYTES), BYTES);
    }
    CHECK_OK(DO(w, close, f, NULL, 0));
}
static unsigned streams(const struct world *w)
{
    unsigned sum = 0;
    for (unsigned i = 1; i < NODES; i++) {
        sum += w->node[i].streams;
    }
    return sum;
}
static void read_whole(struct world *w, size_t step, unsigned *ret_first)
{
    static uint8_t got[2 * BYTES];
    struct opendfs_file *f = world_file(w, "/f", OPENDFS_READ);
    unsigned before = streams(w);
    for (uint64_t at = 0; at < LARGE; at += step) {
        CHECK_EQ(DO(w, pread, f, got, step, at), step);
        CHECK_BYTES(got, pattern + at % BYTES, base_min(step, BYTES));
        *ret_first = at + step < BYTES ? streams(w) - before : *ret_first;
    }
    CHECK_OK(DO(w, close, f, NULL, 0));
}

/* Not with the first MiB: the heads of files are read again and again. */
TEST(large_files_that_are_read_in_order_stream)
{
    struct world w;
    unsigned first = 0;
    begin_large(&w, LARGE);
    read_whole(&w, 16384, &first);
    CHECK_EQ(first, 0);
    CHECK_TRUE(streams(&w) >= (LARGE - 2 * BYTES) / CHUNK);
    CHECK_TRUE(streams(&w) < LARGE / CHUNK);
    unsigned before = streams(&w);
    read_whole(&w, 2 * BYTES, &first); /* that is more than a look */
    CHECK_TRUE(streams(&w) - before >= LARGE / CHUNK);
    CHECK_TRUE(counter(&w.fs->counters.streamed_bytes) >= LARGE);
    check_quiet(&w);
    world_close(&w);
}

TEST(files_below_the_threshold_do_not_stream)
{
    struct world w;
    unsigned first = 0;
    begin_large(&w, LARGE + 1);
    read_whole(&w, 16384, &first);
    read_whole(&w, 2 * BYTES, &first);
    CHECK_EQ(streams(&w), 0);
    world_close(&w);
}

TEST(reads_out_of_order_do_not_stream)
{
    struct world w;
    uint8_t got[100];
    begin_large(&w, 1);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    for (unsigned i = 0; i < 300; i++) {
        uint64_t at = i * UINT64_C(7919) % (LARGE / PROTO_CELL_BYTES) * PROTO_CELL_BYTES + 1;
        CHECK_EQ(DO(&w, pread, f, got, sizeof got, at), sizeof got);
    }
    CHECK_EQ(streams(&w), 0);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* What is lent ends with the chunk, however much was asked for. */
TEST(lent_reads_in_order_stream)
{
    struct world w;
    begin_large(&w, 1);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    for (uint64_t at = 0; at < LARGE; at += CHUNK) {
        CHECK_EQ(DO(&w, pread_lent, f, LARGE, at), CHUNK);
        CHECK_BYTES(w.op.data, pattern + at % BYTES, CHUNK);
        opendfs_async_release(w.fs, &w.op);
        CHECK_EQ(streams(&w) > 0, at + CHUNK >= BYTES);
    }
    CHECK_TRUE(streams(&w) >= (LARGE - BYTES) / CHUNK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* Pieces that end with a block, of ranges that begin where the last one ended: each block is
 * fetched once, some of them before they are asked for. */
TEST(lent_reads_in_order_are_fetched_ahead)
{
    struct world w;
    begin_large(&w, 1);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ);
    unsigned began = 0;
    for (uint64_t at = 0; at < LARGE;) {
        int n = DO(&w, pread_lent, f, 3 * CHUNK / 4 + 5, at);
        CHECK_TRUE(n > 0 && (size_t)n == w.op.data_len);
        CHECK_BYTES(w.op.data, pattern + at % BYTES, base_min((size_t)n, BYTES - at % BYTES));
        opendfs_async_release(w.fs, &w.op);
        at += (uint64_t)n;
        world_run(&w, MS);
        began = at <= BYTES + CHUNK ? w.cluster->reads : began;
        if (at > BYTES + 8 * CHUNK && at < LARGE - 8 * CHUNK) {
            CHECK_TRUE((w.cluster->reads - began) * CHUNK >= at - BYTES + 4 * CHUNK);
        }
    }
    CHECK_TRUE(w.cluster->reads - began <= (LARGE - BYTES) / CHUNK);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    check_quiet(&w);
    world_close(&w);
}

/* What was fetched ahead is as old as the next write of this client. */
TEST(lent_reads_see_what_was_written_since)
{
    struct world w;
    begin_large(&w, 1);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ | OPENDFS_WRITE);
    uint64_t at = 0;
    for (; at < BYTES + 4 * CHUNK; at += CHUNK) {
        CHECK_EQ(DO(&w, pread_lent, f, CHUNK, at), CHUNK);
        opendfs_async_release(w.fs, &w.op);
        world_run(&w, MS);
    }
    CHECK_EQ(DO(&w, pwrite, f, "new", 3, at + 7), 3);
    CHECK_EQ(DO(&w, pread_lent, f, CHUNK, at), CHUNK);
    CHECK_BYTES(w.op.data, pattern + at % BYTES, 7);
    CHECK_BYTES((const uint8_t *)w.op.data + 7, "new", 3);
    CHECK_BYTES((const uint8_t *)w.op.data + 10, pattern + at % BYTES + 10, CHUNK - 10);
    opendfs_async_release(w.fs, &w.op);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

struct writer {
    struct opendfs_op op;
    bool done;
};
static void written(struct opendfs_op *op)
{
    CHECK_EQ(op->result, PROTO_CELL_BYTES);
    container_of(op, struct writer, op)->done = true;
}
static void write_on(struct world *w, struct opendfs_file *f, struct writer *x, size_t count)
{
    static uint64_t turn;
    for (size_t i = 0; i < count; i++) {
        if (x[i].done) {
            x[i].done = false;
            opendfs_async_pwrite_lent(w->fs, &x[i].op, f, pattern, PROTO_CELL_BYTES,
                                      LARGE - CHUNK - turn++ % 16 * CHUNK);
        }
    }
}

/* What is fetched is old when it comes, each time: it is not waited for again and again. */
TEST(a_reader_in_order_gets_on_beside_a_writer)
{
    struct world w;
    begin_large(&w, 1);
    struct opendfs_file *f = world_file(&w, "/f", OPENDFS_READ | OPENDFS_WRITE);
    struct writer writer[16];
    for (size_t i = 0; i < ARRAY_COUNT(writer); i++) {
        writer[i] = (struct writer){.op.done = written, .done = true};
    }
    uint64_t at = 0;
    for (; at < BYTES + 4 * CHUNK; at += CHUNK) {
        CHECK_EQ(DO(&w, pread_lent, f, CHUNK, at), CHUNK);
        opendfs_async_release(w.fs, &w.op);
    }
    for (unsigned k = 0; k < 20; k++, at += CHUNK) {
        write_on(&w, f, writer, ARRAY_COUNT(writer));
        opendfs_async_pread_lent(w.fs, world_op(&w), f, CHUNK, at);
        for (unsigned i = 0; i < 2000 && !w.done; i++) {
            write_on(&w, f, writer, ARRAY_COUNT(writer));
            world_run(&w, MS / 100);
        }
        CHECK_TRUE(w.done);
        CHECK_EQ(w.op.result, CHUNK);
        CHECK_BYTES(w.op.data, pattern + at % BYTES, CHUNK);
        opendfs_async_release(w.fs, &w.op);
    }
    world_run(&w, 1000 * MS);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* --- failures -----------------------------------------------------------------------------------
 */

TEST(what_one_member_refuses_is_read_from_the_next_at_once)
{
    static const int codes[] = {ERR_busy,    ERR_not_serving, ERR_ahead_epoch,
                                ERR_pending, ERR_corrupt,     EIO};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        struct world w;
        struct opendfs_file *f = begin(&w, 0);
        read_cells(&w, f, 30);
        uint64_t fetches = counter(&w.fs->counters.map_fetches);
        uint64_t before = counter(&w.fs->counters.fallbacks);
        for (unsigned k = 0; k < 20; k++) {
            w.node[1].read_fault = (struct fake_fault){.rc = -codes[i], .count = 1};
            uint64_t began = loop_sim_now_ns(w.sim);
            read_cells(&w, f, 1 + k);
            CHECK_TRUE(loop_sim_now_ns(w.sim) - began < (1 + k) * 10 * MS);
        }
        CHECK_TRUE(counter(&w.fs->counters.fallbacks) > before);
        CHECK_EQ(counter(&w.fs->counters.map_fetches), fetches); /* nobody had to be asked */
        w.node[1].read_fault.count = 0;
        finish(&w, f);
    }
}

TEST(broken_connections_and_dead_members_are_read_around)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    read_cells(&w, f, 60);
    for (unsigned k = 0; k < 5; k++) {
        uint64_t began = loop_sim_now_ns(w.sim);
        net_sim_reset(w.net, 0, host_of(2));
        read_cells(&w, f, 20);
        CHECK_TRUE(loop_sim_now_ns(w.sim) - began < SECOND);
    }
    world_kill(&w, 1);
    uint64_t began = loop_sim_now_ns(w.sim);
    read_cells(&w, f, 100);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - began < 3 * SECOND);
    world_node(&w, 1);
    finish(&w, f);
}

/* Silence, as of a machine that has lost its power: the connection stands. */
TEST(a_member_behind_a_cut_is_read_around)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    read_cells(&w, f, 60);
    net_sim_cut(w.net, 0, host_of(2), true);
    net_sim_cut(w.net, host_of(2), 0, true);
    for (unsigned k = 0; k < 20; k++) {
        uint64_t began = loop_sim_now_ns(w.sim);
        read_cells(&w, f, 10);
        CHECK_TRUE(loop_sim_now_ns(w.sim) - began < 7 * SECOND);
    }
    net_sim_heal(w.net);
    finish(&w, f);
}

TEST(lies_are_seen_and_told)
{
    for (unsigned lie = FAKE_SHORT; lie <= FAKE_NO_SUMS; lie++) {
        struct world w;
        struct opendfs_file *f = begin(&w, 0);
        w.node[2].lie = lie;
        read_cells(&w, f, 200);
        world_run(&w, SECOND);
        CHECK_TRUE(w.node[2].checks > 0);
        CHECK_TRUE(counter(&client_map_source(w.fs, 2)->bad_cells) > 0);
        CHECK_EQ(counter(&client_map_source(w.fs, 1)->bad_cells), 0);
        CHECK_EQ(w.node[1].checks + w.node[3].checks, 0);
        finish(&w, f);
    }
}

/* The member looks at its copy because a reader says so; then it is read like the others. */
TEST(a_damaged_copy_is_told_and_good_again)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    w.node[3].corrupt = w.node[3].repairs = true;
    read_cells(&w, f, 50);
    world_run(&w, SECOND);
    CHECK_TRUE(!w.node[3].corrupt);
    uint64_t bad = counter(&w.fs->counters.bad_cells);
    CHECK_TRUE(bad > 0);
    forget_reads(&w);
    read_cells(&w, f, 200);
    CHECK_TRUE(w.node[3].reads > 0);
    CHECK_EQ(counter(&w.fs->counters.bad_cells), bad);
    finish(&w, f);
}

TEST(an_error_names_the_chunk_and_its_members)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    uint8_t byte, block[100];
    uint32_t chain;
    CHECK_OK(client_map_chain(w.fs, &f->inode->layout, 5, &chain));
    const uint32_t *order = w.cluster->chain[chain - 1].order;
    w.node[order[0]].corrupt = true;
    w.node[order[1]].read_fault = (struct fake_fault){.rc = -ERR_corrupt, .count = 9};
    CHECK_EQ(DO(&w, pread, f, &byte, 1, 5 * CHUNK + 9), -EIO);
    char expected[OPENDFS_ERROR_SIZE], words[2][100];
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(words[i], sizeof words[i], "target %u (%s): %s", order[i],
                       w.node[order[i]].at.text,
                       i == 0 ? "checksum does not match" : "data failed verification");
    }
    (void)snprintf(expected, sizeof expected, "/f: chunk 5, chain %u: ", chain);
    CHECK_TRUE(strncmp(w.op.error, expected, strlen(expected)) == 0);
    CHECK_TRUE(strstr(w.op.error, words[0]) != NULL && strstr(w.op.error, words[1]) != NULL);
    /* The same when it was read ahead. */
    CHECK_EQ(DO(&w, pread, f, block, 100, 5 * CHUNK - 100), 100);
    CHECK_EQ(DO(&w, pread, f, block, 100, 5 * CHUNK), -EIO);
    CHECK_TRUE(strncmp(w.op.error, expected, strlen(expected)) == 0);
    w.node[order[0]].corrupt = false;
    w.node[order[1]].read_fault.count = 0;
    read_at(&w, f, 5 * CHUNK); /* nothing of it stays */
    finish(&w, f);
}

/* The good copy goes offline, the bad one is repaired from elsewhere: it is asked once more. */
TEST(a_copy_that_was_bad_is_asked_again_when_it_is_the_last)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    uint32_t chain;
    uint8_t byte;
    CHECK_OK(client_map_chain(w.fs, &f->inode->layout, 0, &chain));
    uint32_t bad = w.cluster->chain[chain - 1].order[0],
             good = w.cluster->chain[chain - 1].order[1];
    w.node[bad].corrupt = w.node[bad].repairs = true;
    w.node[good].slow_ns = 100 * SECOND; /* it has the request, and dies */
    opendfs_async_pread(w.fs, world_op(&w), f, &byte, 1, 7);
    world_run(&w, SECOND);
    CHECK_TRUE(!w.done);
    world_kill(&w, good);
    for (uint32_t i = 0; i < FAKE_CHAINS; i++) {
        if (w.cluster->chain[i].order[0] == good) {
            w.cluster->chain[i].order[0] = w.cluster->chain[i].order[1];
            w.cluster->chain[i].order[1] = good;
        }
        w.cluster->chain[i].serving = w.cluster->chain[i].order[1] == good ? 1 : 2;
        w.cluster->chain[i].epoch++;
    }
    CHECK_EQ(world_wait(&w), 1);
    CHECK_EQ(byte, pattern[7]);
    CHECK_OK(DO(&w, close, f, NULL, 0));
    world_close(&w);
}

/* --- second requests ----------------------------------------------------------------------------
 */

/* What happens from here on counts. */
static void stats_reset(struct world *w)
{
    w->fs->counters.hedges = w->fs->counters.hedges_won = w->fs->counters.hedges_refused =
        (struct stats_counter){0};
    for (unsigned i = 0; i < NODES; i++) {
        w->node[i].cancelled = 0;
    }
}

/* Until enough is known of all members to call one late. */
static void learn(struct world *w, struct opendfs_file *f)
{
    bool all = false;
    for (unsigned rounds = 0; !all; rounds++) { /* those that answer late are asked less often */
        CHECK_TRUE(rounds < 20);
        read_slowly(w, f, 200);
        all = true;
        for (unsigned i = 1; i < NODES; i++) {
            all = all && client_load_late_ns(&client_map_source(w->fs, i)->load, 4096) > 0;
        }
    }
    stats_reset(w);
}

TEST(a_late_answer_is_overtaken_and_dropped)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    learn(&w, f);
    w.node[2].slow_ns = 300 * MS;
    uint64_t slowest = 0;
    for (unsigned i = 0; i < 10; i++) {
        uint64_t began = loop_sim_now_ns(w.sim);
        read_at(&w, f, i * CHUNK + 3 * PROTO_CELL_BYTES);
        slowest = base_max(slowest, loop_sim_now_ns(w.sim) - began);
    }
    CHECK_TRUE(slowest < 20 * MS);
    world_run(&w, 50 * MS);
    CHECK_TRUE(counter(&w.fs->counters.hedges) > 0);
    CHECK_EQ(counter(&w.fs->counters.hedges_won), counter(&w.fs->counters.hedges));
    CHECK_EQ(w.node[2].cancelled, counter(&w.fs->counters.hedges)); /* it was told by the frame */
    CHECK_EQ(counter(&client_map_source(w.fs, 2)->hedges), 0);
    check_quiet(&w); /* its answers have come by now */
    read_cells(&w, f, 30);
    finish(&w, f);
}

/* The first one is late, and the second one later. */
TEST(a_second_request_that_loses_is_cancelled)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    learn(&w, f);
    w.node[1].slow_ns = w.node[2].slow_ns = w.node[3].slow_ns = 30 * MS;
    for (unsigned i = 0; i < 6; i++) {
        read_at(&w, f, i * CHUNK + 3 * PROTO_CELL_BYTES);
    }
    CHECK_TRUE(counter(&w.fs->counters.hedges) > 0);
    CHECK_EQ(counter(&w.fs->counters.hedges_won), 0);
    world_run(&w, SECOND);
    CHECK_EQ(w.node[1].cancelled + w.node[2].cancelled + w.node[3].cancelled,
             counter(&w.fs->counters.hedges));
    finish(&w, f);
}

/* All members are late, for some requests again and again: that must not become much more load.
 * Less than one in 20, for else it would not count as late. */
TEST(second_requests_stay_within_their_budget)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    learn(&w, f);
    for (unsigned i = 0; i < 3000; i++) {
        for (unsigned k = 1; k < NODES; k++) {
            w.node[k].slow_ns = i % 400 >= 388 ? 25 * MS : 0;
        }
        read_at(&w, f, (uint64_t)(i * 31u % CELLS) * PROTO_CELL_BYTES + 2);
    }
    uint64_t hedges = counter(&w.fs->counters.hedges);
    CHECK_TRUE(hedges > 20 && hedges <= 1 + 3200 / CLIENT_HEDGE_SHARE);
    CHECK_TRUE(counter(&w.fs->counters.hedges_refused) > 5);
    finish(&w, f);
}

/* The first one fails while the second one is under way: no third one, the second is waited for. */
TEST(a_second_request_goes_on_when_the_first_one_fails)
{
    for (unsigned fails = 0; fails < 2; fails++) {
        struct world w;
        struct opendfs_file *f = begin(&w, 0);
        learn(&w, f);
        uint32_t chain;
        uint8_t byte;
        CHECK_OK(client_map_chain(w.fs, &f->inode->layout, 4, &chain));
        const uint32_t *order = w.cluster->chain[chain - 1].order;
        w.node[order[0]].slow_ns = w.node[order[1]].slow_ns = 100 * MS;
        forget_reads(&w);
        uint64_t at = 4 * CHUNK + 2 * PROTO_CELL_BYTES;
        opendfs_async_pread(w.fs, world_op(&w), f, &byte, 1, at);
        world_run(&w, 50 * MS);
        CHECK_EQ(w.fs->hedging, 1);
        CHECK_EQ(w.node[order[0]].reads + w.node[order[1]].reads, 2);
        bool first = counter(&client_map_source(w.fs, order[0])->hedges) == 0;
        net_sim_reset(w.net, 0, host_of(order[first ? 0 : 1]));
        world_run(&w, 10 * MS);
        CHECK_TRUE(!w.done);
        CHECK_EQ(w.fs->hedging, 1);
        if (fails == 1) { /* and then the second one, too */
            net_sim_reset(w.net, 0, host_of(order[first ? 1 : 0]));
            world_run(&w, MS);
            CHECK_EQ(w.fs->hedging, 0);
        }
        CHECK_EQ(world_wait(&w), 1);
        CHECK_EQ(byte, pattern[at]);
        finish(&w, f);
    }
}

/* Meanwhile nobody serves the chain: that says nothing about its bytes. */
TEST(a_chain_that_gets_dark_meanwhile_is_waited_for)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    learn(&w, f);
    uint32_t chain;
    uint8_t byte;
    struct proto_member members[2];
    struct proto_row row;
    CHECK_OK(client_map_chain(w.fs, &f->inode->layout, 4, &chain));
    const uint32_t *order = w.cluster->chain[chain - 1].order;
    w.node[order[0]].slow_ns = w.node[order[1]].slow_ns = 100 * MS;
    opendfs_async_pread(w.fs, world_op(&w), f, &byte, 1, 4 * CHUNK);
    world_run(&w, 50 * MS);
    CHECK_EQ(w.fs->hedging, 1);
    bool first = counter(&client_map_source(w.fs, order[0])->hedges) == 0;
    net_sim_reset(w.net, 0, host_of(order[first ? 0 : 1]));
    world_run(&w, 10 * MS);
    w.cluster->chain[chain - 1].epoch++;
    w.cluster->chain[chain - 1].serving = 0;
    fake_row(w.cluster, chain, members, &row);
    client_map_take_row(w.fs, &row);
    net_sim_reset(w.net, 0, host_of(order[first ? 1 : 0]));
    world_run(&w, SECOND);
    CHECK_TRUE(!w.done);
    w.cluster->chain[chain - 1].epoch++;
    w.cluster->chain[chain - 1].serving = 2;
    CHECK_EQ(world_wait(&w), 1);
    CHECK_EQ(byte, pattern[4 * CHUNK]);
    finish(&w, f);
}

/* A second request may bring bad bytes, too: the first one is waited for. */
TEST(bad_bytes_do_not_win)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    learn(&w, f);
    uint32_t chain;
    uint8_t byte;
    CHECK_OK(client_map_chain(w.fs, &f->inode->layout, 4, &chain));
    const uint32_t *order = w.cluster->chain[chain - 1].order;
    w.node[order[0]].slow_ns = w.node[order[1]].slow_ns = 50 * MS;
    opendfs_async_pread(w.fs, world_op(&w), f, &byte, 1, 4 * CHUNK);
    world_run(&w, 20 * MS);
    CHECK_EQ(w.fs->hedging, 1);
    uint32_t second = counter(&client_map_source(w.fs, order[0])->hedges) > 0 ? order[0] : order[1];
    w.node[second].corrupt = true;
    loop_sim_pause(w.loop[second == order[0] ? order[1] : order[0]], true);
    world_run(&w, 60 * MS);
    CHECK_TRUE(!w.done);
    CHECK_EQ(counter(&client_map_source(w.fs, second)->bad_cells), 1);
    loop_sim_pause(w.loop[second == order[0] ? order[1] : order[0]], false);
    CHECK_EQ(world_wait(&w), 1);
    CHECK_EQ(byte, pattern[4 * CHUNK]);
    CHECK_EQ(counter(&w.fs->counters.hedges_won), 0);
    finish(&w, f);
}

/* The end of the client, with both requests under way. */
TEST(the_end_takes_both_requests_along)
{
    struct world w;
    struct opendfs_file *f = begin(&w, 0);
    static uint8_t got[4 * CHUNK];
    learn(&w, f);
    for (unsigned k = 1; k < NODES; k++) {
        w.node[k].slow_ns = 2 * SECOND;
    }
    opendfs_async_pread(w.fs, world_op(&w), f, got, sizeof got, 0);
    world_run(&w, 100 * MS);
    CHECK_TRUE(w.fs->hedging > 0);
    world_close(&w);
    CHECK_TRUE(w.done);
    CHECK_EQ(w.op.result, -ECANCELED);
}

/* All of it together, from the seed. */
TEST(random_trouble_of_members_shows_only_in_the_time)
{
    for (uint64_t round = 0; round < 6; round++) {
        struct world w;
        struct rand r;
        struct opendfs_file *f = begin(&w, (unsigned)(round % NODES));
        rand_seed(&r, testing_seed() + round);
        for (unsigned i = 0; i < 150; i++) {
            struct fake_node *n = &w.node[1 + rand_below(&r, FAKE_TARGETS)];
            unsigned bad = (unsigned)rand_below(&r, 10);
            for (unsigned k = 1; k < NODES; k++) {
                w.node[k].corrupt = false;
                w.node[k].lie = FAKE_HONEST;
            }
            n->corrupt = bad == 0;
            n->lie = bad == 1 ? 1 + (unsigned)rand_below(&r, 3) : FAKE_HONEST;
            n->slow_ns = bad < 5 ? rand_below(&r, 200) * MS : 0;
            n->read_fault = (struct fake_fault){.rc = bad % 2 == 0 ? -ERR_not_serving : -ERR_busy,
                                                .count = bad == 2 ? 2 : 0};
            if (bad == 9) {
                net_sim_reset(w.net, 0, host_of(n->target));
            }
            static uint8_t got[3 * CHUNK];
            size_t at = (size_t)rand_below(&r, BYTES - sizeof got);
            size_t len = 1 + (size_t)rand_below(&r, i % 3 == 0 ? sizeof got : 500);
            CHECK_EQ(DO(&w, pread, f, got, len, at), len);
            CHECK_BYTES(got, pattern + at, len);
        }
        CHECK_TRUE(counter(&w.fs->counters.hedges) * CLIENT_HEDGE_SHARE <=
                   w.cluster->reads + CLIENT_HEDGE_SHARE);
        finish(&w, f);
    }
}
