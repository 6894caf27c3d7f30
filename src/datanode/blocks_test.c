/*
 * datanode/blocks_test.c -- the block cache under reads past the page cache: what is found, and
 * that it is always the newest content, whatever is written, cut, removed, damaged or killed.
 */
#include "datanode/blocks.h"

#include "datanode/rig_spoil_priv.h"
#include "datanode/worker_priv.h"
#include "testing/testing.h"

#define MIB (1u << 20)
#define CELLS (4 * MIB / 4096)
#define CHUNKS 8u

static const struct rig_io whole = {
    .host = 1, .chain = 1, .data_id = 100, .length = 4 * MIB, .fill = 9};

static struct datanode_blocks_info known(struct rig *r)
{
    struct datanode_blocks_info i;
    datanode_blocks_info(r->target[1].worker->blocks, &i);
    return i;
}

static void open_with(struct rig *r, uint64_t cache_bytes)
{
    const struct rig_options o = {.seed = testing_seed(),
                                  .targets = 1,
                                  .engine = DATANODE_ENGINE_FILE,
                                  .scrub_ms = DATANODE_SCRUB_NEVER,
                                  .cache_bytes = cache_bytes};
    rig_chain_with(r, &o);
    disk_sim_cache_mode(r->disk[1], DISK_SIM_CACHE_EXACT);
}

static void make_stable(struct rig *r, const struct rig_io *io)
{
    CHECK_OK(rig_write(r, io));
    CHECK_OK(rig_sync(r, io));
    disk_sim_cache_empty(r->disk[1]);
}

static int stream(struct rig *r, uint32_t index, uint32_t offset, uint32_t length)
{
    struct rig_io io = whole;
    io.index = index;
    io.offset = offset;
    io.length = length;
    io.stream = true;
    return rig_read(r, &io);
}

TEST(blocks_are_found_again)
{
    struct rig r;
    open_with(&r, UINT64_C(32) << 20);
    make_stable(&r, &whole);
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    CHECK_EQ(known(&r).hits, 0);
    CHECK_EQ(known(&r).bytes, 4 * MIB);
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    CHECK_EQ(known(&r).hits, 4);
    CHECK_OK(
        stream(&r, 0, 25 * 4096, 2 * MIB)); /* from the middle of one to the middle of another */
    CHECK_EQ(known(&r).hits, 7);
    CHECK_EQ(known(&r).hit_bytes, 6 * MIB);
    CHECK_EQ(known(&r).held, 0);
    const struct datanode_counters *c = &r.target[1].worker->counters;
    CHECK_EQ(stats_counter_value(&c->way[DATANODE_WAY_STREAMED].requests), 1);
    CHECK_EQ(stats_counter_value(&c->way[DATANODE_WAY_CACHED].requests), 2);
    rig_close(&r);
}

TEST(blocks_of_an_older_content_are_not_found)
{
    struct rig r;
    open_with(&r, UINT64_C(32) << 20);
    make_stable(&r, &whole);
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    struct rig_io io = whole;
    io.fill = 77;
    make_stable(&r, &io);
    io.stream = true;
    CHECK_OK(rig_read(&r, &io));
    CHECK_OK(rig_read(&r, &io));
    CHECK_EQ(known(&r).hits, 4); /* of the second look at the second content */
    CHECK_EQ(known(&r).held, 0);
    rig_close(&r);
}

/* Bytes that have gone bad in memory of our own are found before they are sent. */
TEST(blocks_that_have_gone_bad_are_read_again)
{
    struct rig r;
    open_with(&r, UINT64_C(32) << 20);
    make_stable(&r, &whole);
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    size_t len;
    uint8_t *at = datanode_blocks_memory(r.target[1].worker->blocks, &len);
    CHECK_TRUE(len >= UINT64_C(4) << 20);
    for (size_t i = 12345; i < len; i += MIB) {
        at[i] ^= 1;
    }
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    CHECK_EQ(known(&r).bad, 4);
    CHECK_EQ(known(&r).hits, 0);
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    CHECK_EQ(known(&r).hits, 4);
    rig_close(&r);
}

/* What is read once, however much that is, does not push out what is wanted again and again. */
TEST(blocks_resist_a_scan)
{
    struct rig r;
    open_with(&r, UINT64_C(20) << 20);
    struct rig_io io = whole;
    for (io.index = 0; io.index < 12; io.index++) {
        make_stable(&r, &io);
    }
    for (unsigned i = 0; i < 3; i++) { /* wanted */
        CHECK_OK(stream(&r, 0, 0, 4 * MIB));
        CHECK_OK(stream(&r, 1, 0, 4 * MIB));
    }
    for (uint32_t k = 2; k < 12; k++) {
        CHECK_OK(stream(&r, k, 0, 4 * MIB));
    }
    uint64_t before = known(&r).hits;
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    CHECK_OK(stream(&r, 1, 0, 4 * MIB));
    CHECK_TRUE(known(&r).hits - before >= 6); /* of 8 */
    CHECK_TRUE(known(&r).bytes <= known(&r).limit_bytes);
    rig_close(&r);
}

TEST(blocks_are_not_kept_without_memory_for_them)
{
    struct rig r;
    open_with(&r, 0);
    make_stable(&r, &whole);
    CHECK_TRUE(r.target[1].worker->blocks == NULL);
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    CHECK_OK(stream(&r, 0, 0, 4 * MIB));
    const struct datanode_counters *c = &r.target[1].worker->counters;
    CHECK_EQ(stats_counter_value(&c->way[DATANODE_WAY_STREAMED].requests), 2);
    rig_close(&r);
    struct datanode_blocks *b = NULL;
    CHECK_RC(datanode_blocks_new(DATANODE_BLOCKS_MIN - 1, NULL, NULL, &b), EINVAL);
    struct mem_budget budget = {.limit_bytes = MIB};
    CHECK_RC(datanode_blocks_new(DATANODE_BLOCKS_MIN, &budget, NULL, &b), ENOMEM);
    CHECK_EQ(budget.used_bytes, 0);
}

/* ---- Against a model ---- */

#define LAST_ID 250u /* spoil_data() knows no larger ones */

struct model {
    struct rig rig;
    struct rand rand;
    uint8_t byte[CHUNKS][CELLS]; /* of all bytes of a cell; of chunks with `length` */
    uint32_t length[CHUNKS], tgen[CHUNKS];
    uint64_t id[CHUNKS], next_id;
    bool damaged[CHUNKS];
    uint64_t hits, misses; /* of earlier lives */
    unsigned cuts, removals, damages;
};

static struct rig_io model_io(const struct model *m, uint32_t chunk)
{
    struct rig_io io = whole;
    io.data_id = m->id[chunk];
    io.tgen = m->tgen[chunk];
    return io;
}

static void model_write(struct model *m, uint32_t chunk)
{
    struct rig_io io = model_io(m, chunk);
    uint32_t first = (uint32_t)rand_below(&m->rand, CELLS);
    uint32_t cells = (uint32_t)rand_range(&m->rand, 1, base_min(CELLS - first, 300));
    io.offset = first * 4096;
    io.length = cells * 4096;
    io.fill = (uint8_t)rand_below(&m->rand, 256);
    CHECK_OK(rig_write(&m->rig, &io));
    for (uint32_t i = first; i < first + cells; i++) {
        m->byte[chunk][i] = (uint8_t)(io.fill + i);
    }
    m->length[chunk] = (uint32_t)base_max(m->length[chunk], io.offset + io.length);
    if (rand_chance(&m->rand, 1, 2)) {
        CHECK_OK(rig_sync(&m->rig, &io));
    }
}

/* Shorter, and now and then as long again: then there are zeros. */
static void model_cut(struct model *m, uint32_t chunk)
{
    struct rig_io io = model_io(m, chunk);
    uint32_t cells = m->length[chunk] / 4096;
    uint32_t left = (uint32_t)rand_range(&m->rand, 1, cells);
    io.kind = PROTO_WRITE_SET_LENGTH;
    io.tgen = ++m->tgen[chunk];
    io.length = left * 4096;
    CHECK_OK(rig_write(&m->rig, &io));
    memset(&m->byte[chunk][left], 0, CELLS - left);
    m->length[chunk] = io.length;
    m->cuts++;
    if (rand_chance(&m->rand, 1, 2)) {
        io.tgen = ++m->tgen[chunk];
        io.length = cells * 4096;
        CHECK_OK(rig_write(&m->rig, &io));
        m->length[chunk] = io.length;
    }
}

static void model_remove(struct model *m, uint32_t chunk)
{
    struct rig_io io = model_io(m, chunk);
    CHECK_OK(rig_remove(&m->rig, &io));
    memset(m->byte[chunk], 0, sizeof m->byte[chunk]);
    m->length[chunk] = m->tgen[chunk] = 0;
    m->damaged[chunk] = false;
    m->id[chunk] = m->next_id++;
    m->removals++;
}

/* On the disk, which is not the cache: somewhere in its file, perhaps where nothing is any more. */
static void model_damage(struct model *m, uint32_t chunk)
{
    struct rig_io io = model_io(m, chunk);
    uint64_t block = rand_range(&m->rand, 1, m->length[chunk] / 4096);
    CHECK_OK(rig_sync(&m->rig, &io));
    m->damaged[chunk] =
        spoil_try(&m->rig, 1, (uint8_t)io.data_id, block * UINT64_C(4096) + 10) == 0;
    m->damages += m->damaged[chunk];
}

static void model_compare(struct model *m, uint32_t chunk, const struct rig_call *c,
                          const struct rig_io *io)
{
    if (m->damaged[chunk] && (c->rc < 0 || !c->data_good)) {
        return; /* and it is seen */
    }
    CHECK_OK(c->rc);
    CHECK_TRUE(c->data_good);
    CHECK_TRUE(c->offset <= io->offset && c->offset + c->data_len >= io->offset + io->length);
    for (uint32_t i = 0; i < io->length; i++) {
        CHECK(c->data[io->offset + i - c->offset] == m->byte[chunk][(io->offset + i) / 4096]);
    }
}

static void model_read(struct model *m, uint32_t chunk)
{
    struct rig_call *c = mem_zalloc(sizeof *c);
    struct rig_io io = model_io(m, chunk);
    uint32_t offset = (uint32_t)rand_below(&m->rand, m->length[chunk]);
    offset = rand_chance(&m->rand, 1, 2) ? offset / MIB * MIB : offset;
    io.offset = offset;
    io.length = rand_chance(&m->rand, 1, 2)
                    ? m->length[chunk] - offset
                    : (uint32_t)rand_range(&m->rand, 1, m->length[chunk] - offset);
    io.stream = true;
    rig_read_begin(&m->rig, c, &io);
    RIG_UNTIL(&m->rig, c->done);
    model_compare(m, chunk, c, &io);
    rig_call_end(c);
    mem_free(c);
}

/* What a read fills in when the chunk has changed under it is of the content that it began with. */
static void model_race(struct model *m, uint32_t chunk)
{
    struct rig_call *c = mem_zalloc(sizeof *c);
    struct rig_io io = model_io(m, chunk);
    io.length = m->length[chunk];
    io.stream = true;
    disk_sim_cache_empty(m->rig.disk[1]);
    rig_read_begin(&m->rig, c, &io);
    model_write(m, chunk);
    RIG_UNTIL(&m->rig, c->done);
    CHECK_TRUE(c->rc < 0 || c->data_good);
    rig_call_end(c);
    mem_free(c);
    model_read(m, chunk);
}

static void model_kill(struct model *m)
{
    for (uint32_t chunk = 0; chunk < CHUNKS; chunk++) {
        struct rig_io io = model_io(m, chunk);
        if (m->damaged[chunk]) {
            model_remove(m, chunk);
        } else if (m->length[chunk] > 0) {
            CHECK_OK(rig_sync(&m->rig, &io));
        }
    }
    m->hits += known(&m->rig).hits;
    m->misses += known(&m->rig).misses;
    rig_kill(&m->rig, 1);
    rig_row(&m->rig, 1, "1l");
    rig_start(&m->rig, 1);
    RIG_UNTIL(&m->rig, rig_info(&m->rig, 1).target != 0);
    rig_row(&m->rig, 1, "1s");
    RIG_UNTIL(&m->rig, rig_settled(&m->rig, 1) && rig_info(&m->rig, 1).leased);
}

static void model_step(struct model *m)
{
    uint32_t chunk = (uint32_t)rand_below(&m->rand, CHUNKS);
    uint64_t dice = rand_below(&m->rand, 100);
    bool ids_left = m->next_id < LAST_ID;
    if (m->damaged[chunk] && dice < 30) {
        model_remove(m, chunk);
    } else if (m->length[chunk] == 0 || (dice < 25 && !m->damaged[chunk])) {
        model_write(m, chunk);
    } else if (dice < 40) {
        disk_sim_cache_empty(m->rig.disk[1]);
    } else if (dice == 40) {
        model_kill(m);
    } else if (dice < 46 && !m->damaged[chunk]) {
        model_cut(m, chunk);
    } else if (dice >= 90 && !m->damaged[chunk]) {
        model_race(m, chunk);
    } else if (dice < 49 && ids_left) {
        model_remove(m, chunk);
    } else if (dice < 51 && ids_left && !m->damaged[chunk]) {
        model_damage(m, chunk);
    } else {
        model_read(m, chunk);
    }
}

TEST(blocks_are_always_of_the_newest_content)
{
    struct model *m = mem_zalloc(sizeof *m);
    rand_seed(&m->rand, testing_seed());
    for (m->next_id = 0; m->next_id < CHUNKS; m->next_id++) {
        m->id[m->next_id] = 100 + m->next_id;
    }
    m->next_id += 100;
    open_with(&m->rig, UINT64_C(18) << 20);
    for (unsigned step = 0; step < 800; step++) {
        model_step(m);
    }
    struct datanode_blocks_info i = known(&m->rig);
    CHECK_EQ(i.held, 0);
    CHECK_EQ(i.bad, 0);
    CHECK_TRUE(m->hits + i.hits > 0 && m->misses + i.misses > 0);
    CHECK_TRUE(m->cuts > 0 && m->removals > 0 && m->damages > 0);
    rig_close(&m->rig);
    mem_free(m);
}
