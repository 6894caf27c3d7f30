#include "client/batch_priv.h"

#include "client/fake_world_priv.h"
#include "client/inode_priv.h"
#include "testing/testing.h"

/* Small reads that go together. Bytes are compared at each read: whatever becomes of a message with
 * several, nobody may see it in them. */

#define CHUNK ((size_t)FAKE_CHUNK_BYTES)
#define CHUNKS 16u
#define BYTES (CHUNKS * CHUNK)
#define READS 96u
#define READ_BYTES 100u
#define MS UINT64_C(1000000)

static uint8_t pattern[BYTES];

struct reading {
    struct opendfs_op op;
    uint64_t at;
    uint8_t got[READ_BYTES];
    unsigned *left, *failed;
};

static void reading_done(struct opendfs_op *op)
{
    struct reading *x = op->context;
    --*x->left;
    if (op->result < 0) {
        ++*x->failed;
        return;
    }
    CHECK_EQ(op->result, READ_BYTES);
    CHECK_BYTES(x->got, pattern + x->at, READ_BYTES);
}
static bool all_done(void *ctx)
{
    return *(unsigned *)ctx == 0;
}

struct several {
    struct reading reading[READS];
    unsigned left, failed;
};
/* One cell each, all over the file, all at once. */
static struct several *read_begin(struct world *w, struct opendfs_file *f, unsigned count)
{
    struct several *s = mem_zalloc(sizeof *s);
    CHECK(s != NULL);
    s->left = count;
    for (unsigned i = 0; i < count; i++) {
        struct reading *x = &s->reading[i];
        x->at = i * UINT64_C(7919) % (BYTES / PROTO_CELL_BYTES) * PROTO_CELL_BYTES + 1;
        x->left = &s->left;
        x->failed = &s->failed;
        x->op.done = reading_done;
        x->op.context = x;
        opendfs_async_pread(w->fs, &x->op, f, x->got, READ_BYTES, x->at);
    }
    return s;
}
/* How many failed. */
static unsigned read_end(struct world *w, struct several *s)
{
    CHECK_TRUE(loop_sim_run(w->sim, all_done, &s->left, loop_sim_now_ns(w->sim) + 120 * SECOND));
    unsigned failed = s->failed;
    mem_free(s);
    return failed;
}
static unsigned read_many(struct world *w, struct opendfs_file *f, unsigned count)
{
    return read_end(w, read_begin(w, f, count));
}

static struct opendfs_file *begin(struct world *w)
{
    world_open(w, testing_seed());
    world_start(w);
    for (size_t i = 0; i < BYTES; i++) {
        pattern[i] = (uint8_t)((i / 3 + 1) * 0x9e3779b97f4a7c15u >> 13);
    }
    struct opendfs_file *f = world_file(w, "/f", OPENDFS_READ | OPENDFS_WRITE | OPENDFS_CREATE);
    CHECK_EQ(DO(w, pwrite, f, pattern, BYTES, 0), BYTES);
    CHECK_OK(DO(w, fsync, f));
    return f;
}
static void check_quiet(struct world *w)
{
    world_run(w, 10 * SECOND);
    CHECK_EQ(buf_pool_used_bytes(w->fs->pool), 0);
    CHECK_TRUE(list_empty(&w->fs->gathering));
    for (unsigned i = 1; i < NODES; i++) {
        CHECK_EQ(client_map_source(w->fs, i)->load.in_flight, 0);
        CHECK_EQ(client_map_source(w->fs, i)->gathering.count, 0);
    }
}
static void finish(struct world *w, struct opendfs_file *f)
{
    CHECK_OK(DO(w, close, f, NULL, 0));
    check_quiet(w);
    world_close(w);
}
static unsigned batches(const struct world *w)
{
    return w->node[1].batches + w->node[2].batches + w->node[3].batches;
}
static uint64_t counter(const struct stats_counter *c)
{
    return stats_counter_value(c);
}

/* How many of them begin before the round ends is up to the seed. */
TEST(several_small_reads_go_together)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    CHECK_EQ(read_many(&w, f, READS), 0);
    CHECK_TRUE(batches(&w) > 0);
    CHECK_EQ(counter(&w.fs->counters.batches), batches(&w));
    CHECK_TRUE(counter(&w.fs->counters.batch_items) >= UINT64_C(2) * batches(&w));
    CHECK_TRUE(counter(&w.fs->counters.batch_items) <= READS);
    finish(&w, f);
}

struct lending {
    struct opendfs_op op;
    unsigned *left;
};
static void lending_done(struct opendfs_op *op)
{
    CHECK_EQ(op->result, PROTO_CELL_BYTES);
    --*((struct lending *)op->context)->left;
}

/* What is lent keeps no more memory than its own, with whomever it has come. */
TEST(what_is_lent_is_kept_alone)
{
    static struct lending lending[READS];
    struct world w;
    struct opendfs_file *f = begin(&w);
    unsigned left = READS;
    memset(lending, 0, sizeof lending);
    for (unsigned i = 0; i < READS; i++) {
        lending[i].op.done = lending_done;
        lending[i].op.context = &lending[i];
        lending[i].left = &left;
        opendfs_async_pread_lent(w.fs, &lending[i].op, f, PROTO_CELL_BYTES,
                                 i * UINT64_C(8192) % BYTES);
    }
    CHECK_TRUE(loop_sim_run(w.sim, all_done, &left, loop_sim_now_ns(w.sim) + 60 * SECOND));
    CHECK_TRUE(batches(&w) > 0);
    for (unsigned i = 0; i < READS; i++) {
        CHECK_BYTES(lending[i].op.data, pattern + i * UINT64_C(8192) % BYTES, PROTO_CELL_BYTES);
        CHECK_TRUE(buf_pool_used_bytes(w.fs->pool) <= (READS - i) * (size_t)16384);
        opendfs_async_release(w.fs, &lending[i].op);
        world_run(&w, MS);
    }
    finish(&w, f);
}

/* Nobody is kept waiting for others. */
TEST(a_read_that_is_alone_goes_alone)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    uint64_t before = loop_sim_now_ns(w.sim);
    CHECK_EQ(read_many(&w, f, 1), 0);
    CHECK_TRUE(loop_sim_now_ns(w.sim) - before < 10 * MS);
    CHECK_EQ(batches(&w), 0);
    finish(&w, f);
}

/* An older one answers that it does not know it; it is not asked so again. */
TEST(older_targets_are_asked_one_by_one)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned i = 1; i < NODES; i++) {
        w.node[i].old = true;
    }
    for (unsigned i = 0; i < 8; i++) { /* by then each of them has been asked */
        CHECK_EQ(read_many(&w, f, READS), 0);
    }
    uint64_t tried = counter(&w.fs->counters.batches);
    CHECK_TRUE(tried > 0);
    CHECK_EQ(read_many(&w, f, READS), 0);
    CHECK_EQ(counter(&w.fs->counters.batches), tried);
    CHECK_EQ(batches(&w), 0);
    finish(&w, f);
}

TEST(what_is_refused_in_company_is_read_by_itself)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    w.node[1].read_fault = (struct fake_fault){.count = 3, .rc = -ERR_pending};
    w.node[2].read_fault = (struct fake_fault){.count = 3, .rc = -ERR_busy};
    CHECK_EQ(read_many(&w, f, READS), 0);
    w.cluster->chain[0].epoch++; /* rows that the client has to learn */
    w.cluster->chain[2].epoch++;
    CHECK_EQ(read_many(&w, f, READS), 0);
    finish(&w, f);
}

/* Checked as any read: told, and read elsewhere. */
TEST(bad_bytes_in_company_are_seen)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    w.node[1].corrupt = true;
    CHECK_EQ(read_many(&w, f, READS), 0);
    CHECK_TRUE(w.node[1].checks > 0);
    CHECK_TRUE(counter(&w.fs->counters.bad_cells) > 0);
    w.node[1].corrupt = false;
    w.node[2].lie = FAKE_SHORT; /* the parts do not make up the whole */
    CHECK_EQ(read_many(&w, f, READS), 0);
    finish(&w, f);
}

TEST(a_broken_connection_costs_only_time)
{
    struct world w;
    struct opendfs_file *f = begin(&w);
    for (unsigned i = 0; i < 20; i++) {
        struct several *s = read_begin(&w, f, READS);
        world_run(&w, i % 5 * UINT64_C(100000));
        net_sim_reset(w.net, 0, 1 + i % NODES);
        CHECK_EQ(read_end(&w, s), 0);
    }
    finish(&w, f);
}

TEST(random_trouble_in_company_shows_only_in_the_time)
{
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct world w;
        struct opendfs_file *f = begin(&w);
        net_sim_faults(w.net, 3000, 3000);
        for (unsigned i = 0; i < 20; i++) {
            CHECK_EQ(read_many(&w, f, 1 + (unsigned)((seed * 20 + i * UINT64_C(31)) % READS)), 0);
        }
        net_sim_faults(w.net, 0, 0);
        finish(&w, f);
    }
}

/* The end of the client, while they gather, and while they are under way. */
TEST(the_end_takes_all_of_them_along)
{
    for (unsigned i = 0; i < 12; i++) {
        struct world w;
        struct opendfs_file *f = begin(&w);
        struct several *s = read_begin(&w, f, READS);
        world_run(&w, i * UINT64_C(30000));
        (void)f;
        loop_sim_enter(w.client_loop, world_free_client, &w);
        CHECK_EQ(s->left, 0);
        mem_free(s);
        world_close(&w);
    }
}
