/*
 * Trees made by random jobs, against a model: after each of them a reader finds what was written,
 * and the nodes are as they should be.
 */
#include "tree/flush.h"

#include "testing/testing.h"
#include "tree/flush_priv.h"
#include "tree/rig_flush_jobs_priv.h"

static const struct tree_shape small = {.leaf_raw = 2048,
                                        .basement_raw = 256,
                                        .internal_raw = 4096,
                                        .part_raw = 256,
                                        .fanout = 4,
                                        .runs_max = 3,
                                        .filter_bits = 10,
                                        .codec = TREE_CODEC_LZ4,
                                        .file_id = "rig of a flush"};

/* ---- reading all of it ---- */

struct reader {
    struct rig *rig;
    struct tree_flush way; /* path to a leaf */
    struct tree_need_from from;
    struct tree_memtable_cursor cursor[RIG_TABLES];
    struct tree_node_source node[TREE_SOURCES_MAX];
    struct tree_source *source[TREE_SOURCES_MAX];
    size_t count, node_count;
    uint32_t next; /* key of the model that was not seen yet */
};

static void reader_skip(struct reader *x, uint32_t until)
{
    for (; x->next < until; x->next++) {
        CHECK_TRUE(!x->rig->model[x->next].present);
    }
}

static void reader_see(struct reader *x, struct kv_slice key, struct kv_slice value)
{
    uint8_t buf[32];
    uint32_t k = rig_key_back(key);
    const struct rig_value *v = &x->rig->model[k];
    CHECK_TRUE(k < RIG_KEYS && kv_slice_compare(rig_key(k, buf), key) == 0);
    CHECK_TRUE(k >= x->next);
    reader_skip(x, k);
    CHECK_TRUE(v->present && v->len == value.len);
    CHECK_BYTES(v->bytes, value.at, v->len);
    x->next = k + 1;
}

/* Memtables above a key of this range, then the runs on the way. */
static void reader_sources(struct reader *x, uint64_t leaf, bool drained)
{
    struct rig *r = x->rig;
    struct tree_node_at at = rig_at(r, leaf);
    size_t tables = drained ? r->table_count - r->draining : r->table_count;
    x->count = 0;
    x->node_count = 0;
    for (size_t i = 0; i < tables; i++) {
        tree_memtable_cursor_init(&x->cursor[i], r->table[i], UINT64_MAX);
        x->source[x->count++] = &x->cursor[i].base;
    }
    for (unsigned d = 0; d < x->way.depth; d++) {
        uint8_t run[256];
        unsigned runs = tree_head_runs(x->way.path[d].head, x->way.slot[d], run);
        for (unsigned i = 0; i < runs; i++) {
            struct tree_node_source *s = &x->node[x->node_count++];
            tree_node_source_run(s, &x->from, &x->way.path[d], x->way.slot[d], run[i]);
            x->source[x->count++] = &s->base;
        }
    }
    struct tree_node_source *s = &x->node[x->node_count++];
    tree_node_source_leaf(s, &x->from, &at);
    x->source[x->count++] = &s->base;
}

static void reader_range(struct reader *x, uint64_t leaf, struct kv_slice low, struct kv_slice high,
                         bool drained)
{
    CLEANUP(tree_merge_freep) struct tree_merge *m = NULL;
    if (high.len > 0 && kv_slice_compare(low, high) >= 0) {
        return;
    }
    reader_sources(x, leaf, drained);
    struct tree_merge_options opt = {
        .sources = x->source, .count = x->count, .lower = low, .upper = high};
    CHECK_OK(tree_merge_new(&opt, &m));
    int rc = tree_merge_seek(m, low);
    while (rc == 1) {
        reader_see(x, tree_merge_key(m), tree_merge_value(m));
        rc = tree_merge_next(m);
    }
    CHECK_OK(rc);
    for (size_t i = 0; i < x->node_count; i++) {
        tree_node_source_fini(&x->node[i]);
    }
}

/* The range of a leaf, which the drain may have got to the middle of. */
static void reader_leaf(struct reader *x, uint64_t leaf)
{
    struct rig *r = x->rig;
    const struct tree_pivots *p = &r->head[leaf]->pivots;
    struct kv_slice at = r->drained;
    if (r->draining == 0 || at.len == 0 || kv_slice_compare(at, p->low) <= 0) {
        reader_range(x, leaf, p->low, p->high, false);
    } else if (p->high.len > 0 && kv_slice_compare(at, p->high) >= 0) {
        reader_range(x, leaf, p->low, p->high, true);
    } else {
        reader_range(x, leaf, p->low, at, true);
        reader_range(x, leaf, at, p->high, false);
    }
}

static void check_content(struct rig *r)
{
    static struct reader x; /* large; one test at a time */
    struct kv_slice key = kv_slice_of("", 0);
    bool more = r->height > 0;
    memset(&x, 0, sizeof x);
    x.rig = r;
    x.from.kv = &r->kv;
    rig_fill_all(r);
    while (more) {
        uint64_t leaf = rig_path(r, key, 0, &x.way);
        reader_leaf(&x, leaf);
        key = r->head[leaf]->pivots.high;
        more = key.len > 0;
    }
    if (r->height > 0) {
        reader_skip(&x, RIG_KEYS);
    }
}

/* ---- invariants ---- */

static void check_block(const struct rig *r, const struct tree_head *h, uint32_t i)
{
    const struct tree_part *p = h->part[i];
    const struct tree_partition *n = &h->header.partition[i];
    struct tree_block b = {0};
    struct tree_ranges ranges;
    CHECK_TRUE(p->raw_len == n->raw_len && p->entries == n->entries && p->kind == n->kind);
    if (n->kind == TREE_PARTITION_RANGES) {
        CHECK_OK(tree_pivots_open_ranges(&h->pivots, &h->header, i, p->bytes, &ranges));
        CHECK_TRUE(p->raw_len <= 16 * r->shape.part_raw + 16);
        return;
    }
    if (n->kind == TREE_PARTITION_FILTER) {
        return;
    }
    struct tree_filter filter = h->filter;
    CHECK_OK(tree_pivots_open_block(&h->pivots, &h->header, i, p->bytes, &b));
    /* Messages of one key stay together, and some upserts do not fold. */
    uint32_t more = n->kind == TREE_PARTITION_RUN ? 8 * TREE_UPSERT_MAX : RIG_VALUE_MAX;
    CHECK_TRUE(b.count == 1 || p->raw_len < 2 * r->shape.basement_raw + more);
    if (h->header.level == 0 && r->shape.filter_bits > 0) {
        const struct tree_part *f = h->part[h->header.partition_count - 1];
        CHECK_EQ(f->kind, TREE_PARTITION_FILTER);
        filter = tree_filter_view(f->bytes);
    }
    for (uint32_t e = 0; e < b.count && r->shape.filter_bits > 0; e++) {
        uint8_t key[TREE_KEY_MAX];
        size_t len = tree_block_key(&b, e, key);
        uint64_t print = tree_fingerprint(kv_slice_of(key, len));
        print = filter.kind == TREE_FILTER_RUNS ? tree_filter_of_run(print, n->run) : print;
        CHECK_TRUE(tree_filter_may_contain(&filter, print));
        CHECK_EQ(filter.kind, h->header.level > 0 ? TREE_FILTER_RUNS : TREE_FILTER_BLOOM);
        if (h->header.level > 0) {
            struct tree_block_entry entry;
            tree_block_get(&b, e, &entry);
            CHECK_TRUE(entry.msn >= h->header.msn_min && entry.msn <= h->header.msn_max);
        }
    }
}

static void check_node(struct rig *r, uint64_t block, const struct tree_head *h, uint64_t raw_extra)
{
    const struct tree_shape *s = &r->shape;
    CHECK_EQ(h->header.block, block);
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        CHECK_TRUE(h->header.level > 0 || h->part[i]->place.block == block);
        check_block(r, h, i);
    }
    if (h->header.level == 0) {
        CHECK_TRUE(tree_head_raw_bytes(h) <= s->leaf_raw + s->leaf_raw / 4 + raw_extra);
        CHECK_TRUE(h->header.slots <= 24 + 2 * tree_head_raw_bytes(h) / s->basement_raw);
        return;
    }
    CHECK_TRUE((h->filter_bytes != NULL) == (h->header.entries > 0 && s->filter_bits > 0));
    CHECK_TRUE(h->header.slots <= s->fanout + 24);
    r->raw_max = base_max(r->raw_max, tree_head_raw_bytes(h));
    r->grown += h->header.slots > s->fanout ? 1 : 0;
    for (uint16_t slot = 0; slot < h->header.slots; slot++) {
        uint8_t run[256];
        unsigned count = tree_head_runs(h, slot, run);
        CHECK_TRUE(count <=
                   s->runs_max + tree_head_slot_bytes(h, slot) / ((uint64_t)16 * s->part_raw));
    }
}

/* Fences of children are where their slots are; each block is in one place; none is left over. */
static void check_tree(struct rig *r)
{
    static uint64_t todo[RIG_BLOCKS];
    static bool seen[RIG_BLOCKS];
    size_t count = 0, total = 0;
    memset(seen, 0, sizeof seen);
    if (r->height > 0) {
        todo[count++] = r->root;
        CHECK_EQ(r->head[r->root]->header.level + 1u, r->height);
    }
    while (count > 0) {
        uint64_t block = todo[--count];
        const struct tree_head *h = r->head[block];
        CHECK_TRUE(h != NULL && !seen[block]);
        seen[block] = true;
        total++;
        check_node(r, block, h, 0);
        for (uint16_t s = 0; h->header.level > 0 && s < h->header.slots; s++) {
            struct tree_pivots_bounds b;
            uint64_t child = tree_pivots_child(&h->pivots, s);
            tree_pivots_bounds(&h->pivots, s, &b);
            CHECK_TRUE(r->head[child] != NULL);
            const struct tree_pivots *p = &r->head[child]->pivots;
            CHECK_EQ(r->head[child]->header.level + 1, h->header.level);
            CHECK_EQ(kv_slice_compare(p->low, b.low), 0);
            CHECK_EQ(kv_slice_compare(p->high, b.high), 0);
            todo[count++] = child;
        }
    }
    for (size_t i = 0; i < RIG_BLOCKS; i++) {
        total -= r->head[i] != NULL ? 1 : 0;
    }
    CHECK_EQ(total, 0);
}

static void check_all(struct rig *r)
{
    check_content(r);
    check_tree(r);
}

/* ---- what the owner of a tree does ---- */

/* Messages of the memtables into one child of the root, or into the root if it is a leaf. */
static void drain_step(struct rig *r)
{
    static struct tree_flush f;
    struct tree_memtable_cursor cursor[RIG_TABLES];
    struct tree_source *source[RIG_TABLES];
    uint8_t high[TREE_KEY_MAX];
    size_t high_len = 0;
    memset(&f, 0, sizeof f);
    for (size_t i = 0; i < r->draining; i++) {
        const struct tree_memtable *m = r->table[r->table_count - r->draining + i];
        tree_memtable_cursor_init(&cursor[i], m, UINT64_MAX);
        source[i] = &cursor[i].base;
    }
    if (r->height > 0) {
        unsigned level = r->height > 1 ? r->height - 2 : 0;
        f.child[0] = rig_at(r, rig_path(r, r->drained, level, &f));
        f.child_count = 1;
        high_len = f.child[0].head->pivots.high.len;
        memcpy(high, f.child[0].head->pivots.high.at, high_len);
    }
    f.source = source;
    f.source_count = r->draining;
    f.drain_from = r->drained;
    f.take_bytes = r->take_bytes;
    rig_run(r, &f);
    CHECK_TRUE(f.all || f.drained_len > 0);
    size_t len = f.all ? high_len : f.drained_len;
    memcpy(r->drained_key, f.all ? high : f.drained_to, len);
    r->drained = kv_slice_of(r->drained_key, len);
    while (len == 0 && r->draining > 0) { /* all of it */
        tree_memtable_unref(r->table[--r->table_count]);
        r->draining--;
    }
}

/* A slot of a node; two: it and the next, which become one. */
static void flush_slot(struct rig *r, uint64_t block, uint16_t slot, unsigned children)
{
    static struct tree_flush f;
    const struct tree_head *h = r->head[block];
    struct tree_pivots_bounds b;
    memset(&f, 0, sizeof f);
    tree_pivots_bounds(&h->pivots, slot, &b);
    f.child[0] = rig_at(r, rig_path(r, b.low, h->header.level - 1u, &f));
    CHECK_EQ(f.path[f.depth - 1].block, block);
    f.child_count = children;
    if (children == 2) {
        f.child[1] = rig_at(r, tree_pivots_child(&h->pivots, slot + 1u));
        r->merges++;
    }
    rig_run(r, &f);
}

/* The first node with too much in its buffer. */
static bool flush_overfull(struct rig *r)
{
    for (uint64_t i = 0; i < RIG_BLOCKS; i++) {
        const struct tree_head *h = r->head[i];
        uint16_t slot = 0;
        if (h != NULL && h->header.level > 0 && tree_head_raw_bytes(h) > r->shape.internal_raw &&
            tree_flush_heaviest(h, &slot)) {
            flush_slot(r, i, slot, 1);
            return true;
        }
    }
    return false;
}

static bool flush_heaviest(struct rig *r)
{
    for (uint64_t i = 0; i < r->next_block; i++) {
        uint16_t slot = 0;
        if (r->head[i] != NULL && tree_flush_heaviest(r->head[i], &slot)) {
            flush_slot(r, i, slot, 1);
            return true;
        }
    }
    return false;
}

static bool flush_any(struct rig *r)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        uint64_t i = rand_below(&r->rand, r->next_block);
        uint16_t slot = 0;
        if (r->head[i] != NULL && tree_flush_heaviest(r->head[i], &slot)) {
            flush_slot(r, i, slot, 1);
            return true;
        }
    }
    return false;
}

static bool merge_small(struct rig *r, uint64_t from)
{
    for (uint64_t n = 0; n < r->next_block; n++) {
        uint64_t i = (from + n) % r->next_block;
        const struct tree_head *h = r->head[i];
        for (uint16_t s = 0; h != NULL && h->header.level > 0 && s + 1 < h->header.slots; s++) {
            const struct tree_head *a = r->head[tree_pivots_child(&h->pivots, s)];
            const struct tree_head *b = r->head[tree_pivots_child(&h->pivots, s + 1u)];
            if (tree_head_is_small(a, &r->shape) || tree_head_is_small(b, &r->shape)) {
                flush_slot(r, i, s, 2);
                return true;
            }
        }
    }
    return false;
}

/* ---- random histories ---- */

/* What is written, of 32, and how soon it goes down. */
struct mode {
    unsigned wide_ranges, ranges, deletes, upserts; /* else puts */
    uint32_t ascending;                             /* of 8: keys that are the next one */
    unsigned flush_of; /* 1 in so many steps does not care for buffers */
    uint64_t take_bytes;
    unsigned steps;
};
static const struct mode balanced = {1, 1, 3, 6, 4, 1, 65536, 90};
static const struct mode growing = {0, 0, 1, 2, 2, 2, 8192, 100};
static const struct mode deleting = {0, 26, 1, 1, 4, 2, 2048, 80};
static const struct mode appending = {0, 0, 0, 1, 8, 8, 8192, 90};

static void random_op(struct rig *r, const struct mode *m, struct kv_batch *b, uint32_t *sequence)
{
    uint32_t k = (uint32_t)rand_below(&r->rand, RIG_KEYS),
             what = (uint32_t)rand_below(&r->rand, 32);
    if (rand_below(&r->rand, 8) < m->ascending) {
        k = (*sequence)++ % RIG_KEYS;
    }
    if (what < m->wide_ranges) {
        rig_delete_range(r, b, k, k + (uint32_t)rand_below(&r->rand, RIG_KEYS - k));
    } else if (what < m->wide_ranges + m->ranges) {
        uint64_t most = base_min(RIG_KEYS - k, m->ranges > 10 ? 3 : 40);
        rig_delete_range(r, b, k, k + (uint32_t)rand_below(&r->rand, most));
    } else if (what < m->wide_ranges + m->ranges + m->deletes) {
        rig_delete(r, b, k);
    } else if (what < m->wide_ranges + m->ranges + m->deletes + m->upserts) {
        rig_upsert(r, b, rand_chance(&r->rand, 1, 2) ? k : k / 8);
    } else {
        rig_put(r, b, k);
    }
}

static void random_table(struct rig *r, const struct mode *m, uint32_t *sequence)
{
    uint64_t count = rand_below(&r->rand, 300);
    rig_table_new(r);
    while (count > 0) {
        struct kv_batch b = {0};
        for (uint64_t n = rand_range(&r->rand, 1, 10); n > 0 && count > 0; n--, count--) {
            random_op(r, m, &b, sequence);
        }
        rig_apply(r, &b);
    }
    tree_memtable_freeze(r->table[0]);
}

static void random_step(struct rig *r, const struct mode *m, uint32_t *sequence)
{
    if (r->table_count < RIG_TABLES && rand_chance(&r->rand, 1, 4)) {
        random_table(r, m, sequence);
    }
    if (r->draining == 0 && r->table_count > 0) {
        r->draining = (size_t)rand_range(&r->rand, 1, r->table_count);
    }
    if (rand_chance(&r->rand, 1, m->flush_of) && flush_overfull(r)) {
        return;
    }
    uint64_t what = rand_below(&r->rand, 12);
    if (what == 0 && flush_any(r)) {
        return;
    }
    if (what < 3 && merge_small(r, rand_below(&r->rand, r->next_block))) {
        return;
    }
    if (r->draining > 0) {
        drain_step(r);
    }
}

static void run_history(struct rig *r, uint64_t seed, const struct tree_shape *shape,
                        const struct mode *m)
{
    rig_init(r, seed, shape);
    uint32_t sequence = (uint32_t)rand_below(&r->rand, RIG_KEYS);
    r->take_bytes = m->take_bytes;
    for (unsigned i = 0; i < m->steps && r->next_block + TREE_FLUSH_OUT_MAX < RIG_BLOCKS; i++) {
        random_step(r, m, &sequence);
        check_all(r);
    }
}

/* Returns how many jobs there were. */
static uint64_t run_mode(const struct mode *m)
{
    struct rig *r = mem_alloc(sizeof *r);
    uint64_t jobs = 0;
    CHECK(r != NULL);
    for (uint64_t i = 0; i < 2; i++) {
        struct tree_shape shape = small;
        shape.filter_bits = i == 0 ? 10 : 0;
        shape.fanout = i == 0 ? 4 : 7;
        shape.runs_max = i == 0 ? 3 : 2;
        run_history(r, testing_seed() * 100 + i, &shape, m);
        CHECK_TRUE(r->splits > 0 && r->fetches > 0 && r->height > 1);
        CHECK_TRUE(m->flush_of > 1 || r->raw_max <= 3 * (uint64_t)shape.internal_raw + 2048);
        jobs += r->jobs;
        rig_fini(r);
    }
    mem_free(r);
    return jobs;
}

/* Everything goes down to the leaves, and what is small is merged. */
static void settle(struct rig *r)
{
    unsigned steps = 0;
    while (r->table_count > 0) {
        r->draining = r->draining > 0 ? r->draining : r->table_count;
        drain_step(r);
        CHECK_TRUE(++steps < 2000);
    }
    bool more = true;
    while (more) {
        more = flush_heaviest(r) || merge_small(r, 0);
        check_all(r);
        CHECK_TRUE(++steps < 2000);
    }
}

/* A tree that loses all it has, bit by bit, becomes one leaf again. */
TEST(a_tree_that_shrinks)
{
    struct rig *r = mem_alloc(sizeof *r);
    CHECK(r != NULL);
    run_history(r, testing_seed(), &small, &growing);
    settle(r);
    CHECK_TRUE(r->height > 2);
    for (uint32_t k = 0; k < RIG_KEYS; k += 100) {
        struct kv_batch b = {0};
        if (k % 400 == 0) {
            rig_table_new(r);
        }
        rig_delete_range(r, &b, k, k + 70);
        for (uint32_t i = k + 70; i < k + 100; i++) {
            rig_delete(r, &b, i);
        }
        rig_apply(r, &b);
        if (k % 400 == 300) {
            tree_memtable_freeze(r->table[0]);
            settle(r);
        }
    }
    CHECK_EQ(r->height, 1);
    CHECK_EQ(tree_head_raw_bytes(r->head[r->root]), 0);
    CHECK_TRUE(r->lowered > 0);
    rig_fini(r);
    mem_free(r);
}

TEST(random_jobs_change_nothing)
{
    CHECK_TRUE(run_mode(&balanced) > 40);
}

TEST(a_tree_that_grows)
{
    CHECK_TRUE(run_mode(&growing) > 40);
}

TEST(many_deleted_ranges)
{
    CHECK_TRUE(run_mode(&deleting) > 40);
}

TEST(keys_that_only_ascend)
{
    CHECK_TRUE(run_mode(&appending) > 40);
}

/* ---- what is not read, and what is joined ---- */

static void drain_all(struct rig *r)
{
    tree_memtable_freeze(r->table[0]);
    while (r->table_count > 0) {
        r->draining = r->table_count;
        drain_step(r);
        check_all(r);
    }
}

/* Nodes of which all is deleted are dropped as they are. */
TEST(what_is_deleted_as_a_whole_is_not_read)
{
    struct rig *r = mem_alloc(sizeof *r);
    struct kv_batch b = {0};
    uint8_t low[32];
    CHECK(r != NULL);
    run_history(r, testing_seed(), &small, &growing);
    settle(r);
    CHECK_TRUE(r->height > 3);
    const struct tree_head *root = r->head[r->root];
    const struct tree_head *last =
        r->head[tree_pivots_child(&root->pivots, (uint16_t)(root->header.slots - 1))];
    uint32_t end = rig_key_back(last->pivots.low); /* the last one has no end */
    uint64_t inner = root->header.slots - 1u, fetches = r->fetches;
    rig_table_new(r);
    CHECK_OK(kv_batch_delete_range(&b, kv_slice_of("\0", 1), rig_key(end, low)));
    for (uint32_t k = 0; k < end; k++) {
        r->model[k].present = false;
    }
    rig_apply(r, &b);
    CHECK_EQ(kv_slice_compare(rig_key(end, low), last->pivots.low), 0);
    drain_all(r);
    CHECK_EQ(r->dropped, inner);
    CHECK_EQ(r->fetches, fetches);
    root = r->head[r->root];
    for (uint16_t s = 0; s + 1 < root->header.slots; s++) {
        CHECK_EQ(r->head[tree_pivots_child(&root->pivots, s)]->header.partition_count, 0);
    }
    rig_fini(r);
    mem_free(r);
}

static void put_some(struct rig *r, uint32_t from, uint32_t to, uint32_t step)
{
    struct kv_batch b = {0};
    for (uint32_t k = from; k < to; k += step) {
        rig_put(r, &b, k);
    }
    rig_apply(r, &b);
}

/* A slot whose buffer is deleted: neither read nor kept. */
TEST(a_buffer_that_is_deleted_is_not_read)
{
    struct rig *r = mem_alloc(sizeof *r);
    struct kv_batch b = {0};
    struct tree_pivots_bounds bounds;
    struct tree_shape shape = small;
    CHECK(r != NULL);
    shape.filter_bits = 0; /* else others may be read for their keys */
    run_history(r, testing_seed(), &shape, &growing);
    settle(r);
    rig_table_new(r);
    put_some(r, 0, RIG_KEYS, 7);
    drain_all(r);
    const struct tree_head *root = r->head[r->root];
    uint64_t child = tree_pivots_child(&root->pivots, 0);
    for (uint16_t i = 1; i + 1 < root->header.slots && r->head[child]->header.slots < 2; i++) {
        child = tree_pivots_child(&root->pivots, i);
    }
    uint16_t slot = 1;
    CHECK_TRUE(r->head[child]->header.slots > 1 && r->head[child]->header.level > 0);
    CHECK_TRUE(!tree_flush_slot_is_empty(r->head[child], slot));
    tree_pivots_bounds(&r->head[child]->pivots, slot, &bounds);
    CHECK_TRUE(bounds.low.len > 0 && bounds.high.len > 0);
    rig_table_new(r);
    rig_delete_range(r, &b, rig_key_back(bounds.low), rig_key_back(bounds.high));
    rig_apply(r, &b);
    uint64_t fetches = r->fetches;
    drain_all(r);
    CHECK_EQ(r->fetches, fetches);
    const struct tree_node_header *n = &r->head[child]->header;
    uint8_t run[256];
    CHECK_EQ(tree_head_runs(r->head[child], slot, run), 1);
    uint32_t i = tree_node_find(n, TREE_PARTITION_RUN, slot, 0);
    CHECK_TRUE(i == n->partition_count || n->partition[i].slot != slot ||
               n->partition[i].kind != TREE_PARTITION_RUN);
    rig_fini(r);
    mem_free(r);
}

/* Of a basement that is not whole all but the first key. */
static void thin_out(struct rig *r, uint16_t from)
{
    const struct tree_head *leaf = r->head[r->root];
    struct kv_batch b = {0};
    rig_table_new(r);
    for (uint16_t i = from; i < leaf->header.slots; i = (uint16_t)(i + 2)) {
        struct tree_block block = tree_block_view(leaf->part[i]->bytes);
        for (uint32_t e = 1; e < block.count; e++) {
            uint8_t key[TREE_KEY_MAX];
            size_t len = tree_block_key(&block, e, key);
            rig_delete(r, &b, rig_key_back(kv_slice_of(key, len)));
        }
    }
    rig_apply(r, &b);
    drain_all(r);
}

/* Basements of a leaf that lose most of what they have become fewer. */
TEST(crumbs_are_joined)
{
    struct rig *r = mem_alloc(sizeof *r);
    struct tree_shape shape = small;
    CHECK(r != NULL);
    shape.filter_bits = 0;
    shape.leaf_raw = 16384;
    rig_init(r, testing_seed(), &shape);
    rig_table_new(r);
    put_some(r, 0, 165, 3);
    drain_all(r);
    const struct tree_head *leaf = r->head[r->root];
    uint16_t slots = leaf->header.slots;
    CHECK_TRUE(r->height == 1 && slots > 6);
    thin_out(r, 0);
    CHECK_EQ(r->head[r->root]->header.slots, slots);
    thin_out(r, 1);
    rig_table_new(r);
    put_some(r, 500, 501, 1);
    drain_all(r);
    leaf = r->head[r->root];
    CHECK_TRUE(leaf->header.slots <= 3 + 2 * tree_head_raw_bytes(leaf) / shape.basement_raw);
    rig_fini(r);
    mem_free(r);
}

/* A small end joins the basement before it. */
TEST(the_last_basement_is_not_small)
{
    struct rig *r = mem_alloc(sizeof *r);
    CHECK(r != NULL);
    for (uint32_t n = 1; n < 60; n++) {
        rig_init(r, testing_seed() + n, &small);
        rig_table_new(r);
        put_some(r, 0, n, 1);
        drain_all(r);
        const struct tree_head *h = r->head[r->root];
        const struct tree_head *leaf =
            h->header.level == 0
                ? h
                : r->head[tree_pivots_child(&h->pivots, (uint16_t)(h->header.slots - 1))];
        uint16_t last = (uint16_t)(leaf->header.slots - 1);
        CHECK_TRUE(n < 10 || leaf->part[last]->raw_len >= small.basement_raw / 4);
        rig_fini(r);
    }
    mem_free(r);
}

/* A filter does not keep what has been gone for long. */
TEST(filters_are_made_anew)
{
    struct rig *r = mem_alloc(sizeof *r);
    CHECK(r != NULL);
    rig_init(r, testing_seed(), &small);
    for (uint32_t from = 0; from < 600; from += 10) {
        struct kv_batch b = {0};
        rig_table_new(r);
        for (uint32_t k = from < 20 ? 0 : from - 20; k < from && from >= 20 && k < from - 10; k++) {
            rig_delete(r, &b, k);
        }
        for (uint32_t k = from; k < from + 10; k++) {
            rig_put(r, &b, k);
        }
        rig_apply(r, &b);
        drain_all(r);
    }
    const struct tree_head *leaf = r->head[r->root];
    const struct tree_node_header *n = &leaf->header;
    CHECK_TRUE(r->height == 1 && n->slots > 0 && n->entries == 20);
    CHECK_TRUE(n->partition[n->partition_count - 1].entries <= 2 * n->entries + 10);
    rig_fini(r);
    mem_free(r);
}

/* Of a leaf that one drain makes of so many keys, with so many bits asked for: bytes. */
static uint32_t filter_of_leaf(uint32_t bits)
{
    struct rig *r = mem_alloc(sizeof *r);
    struct tree_flush *f = mem_zalloc(sizeof *f);
    struct kv_batch b = {0};
    struct tree_memtable_cursor c;
    struct tree_source *source = &c.base;
    struct tree_shape shape = small;
    CHECK(r != NULL && f != NULL);
    shape.leaf_raw = 1u << 20;
    rig_init(r, testing_seed(), &shape);
    rig_table_new(r);
    for (uint32_t k = 0; k < 1000; k++) {
        rig_put(r, &b, k);
    }
    rig_apply(r, &b);
    tree_memtable_cursor_init(&c, r->table[0], UINT64_MAX);
    f->source = &source;
    f->source_count = 1;
    f->leaf_bits = bits;
    rig_run(r, f);
    const struct tree_node_header *n = &r->head[r->root]->header;
    CHECK_EQ(n->level, 0);
    CHECK_EQ(n->entries, 1000);
    CHECK_EQ(n->partition[n->partition_count - 1].kind, TREE_PARTITION_FILTER);
    uint32_t bytes = n->partition[n->partition_count - 1].raw_len - TREE_FILTER_HEADER_BYTES;
    rig_fini(r);
    mem_free(f);
    mem_free(r);
    return bytes;
}

/* Fewer bits where there are too many keys; never more than the shape says. */
TEST(filters_of_leaves_are_as_large_as_is_wanted)
{
    uint32_t whole = filter_of_leaf(0);
    CHECK_TRUE(whole >= 1000 * small.filter_bits / 8);
    CHECK_EQ(filter_of_leaf(small.filter_bits + 5), whole);
    uint32_t half = filter_of_leaf(small.filter_bits / 2);
    CHECK_TRUE(2 * half >= whole && 2 * half <= whole + 2 * TREE_FILTER_BLOCK_BYTES);
}

/* ---- ends of drains ---- */

/* A drain that ends behind a key of the greatest length. */
static void check_end(const uint8_t *key, const uint8_t *end, size_t end_len)
{
    struct rig *r = mem_alloc(sizeof *r);
    struct tree_flush *f = mem_zalloc(sizeof *f);
    struct kv_batch b = {0};
    struct tree_memtable_cursor c;
    struct tree_source *source = &c.base;
    CHECK(r != NULL && f != NULL);
    rig_init(r, testing_seed(), &small);
    rig_table_new(r);
    CHECK_OK(kv_batch_put(&b, kv_slice_of(key, TREE_KEY_MAX), kv_slice_of("v", 1)));
    CHECK_OK(kv_batch_put(&b, kv_slice_of("zzz", 3), kv_slice_of("w", 1)));
    rig_apply(r, &b);
    tree_memtable_cursor_init(&c, r->table[0], UINT64_MAX);
    f->source = &source;
    f->source_count = 1;
    f->take_bytes = 1;
    rig_run(r, f);
    CHECK_EQ(f->taken_count, 1);
    CHECK_EQ(f->all, false);
    CHECK_EQ(f->drained_len, end_len);
    CHECK_BYTES(f->drained_to, end, end_len);
    CHECK_EQ(r->head[r->root]->header.entries, 1);
    rig_fini(r);
    mem_free(f);
    mem_free(r);
}

TEST(a_drain_ends_behind_the_longest_key)
{
    uint8_t key[TREE_KEY_MAX], end[TREE_KEY_MAX];
    memset(key, 'k', sizeof key);
    memcpy(end, key, sizeof end);
    end[TREE_KEY_MAX - 1]++;
    check_end(key, end, TREE_KEY_MAX);
    memset(key + 10, 0xff, TREE_KEY_MAX - 10);
    end[9]++;
    check_end(key, end, 10);
}

TEST(what_is_heavy_and_what_is_small)
{
    struct rig *r = mem_alloc(sizeof *r);
    struct kv_batch b = {0};
    uint16_t slot = 9;
    CHECK(r != NULL);
    run_history(r, testing_seed(), &small, &growing);
    settle(r);
    const struct tree_head *root = r->head[r->root];
    CHECK_EQ(tree_flush_heaviest(root, &slot), false);
    CHECK_EQ(slot, 9);
    CHECK_EQ(tree_head_is_small(root, &small), false);
    rig_table_new(r);
    for (uint32_t k = 0; k < RIG_KEYS; k += 200) { /* as many bytes everywhere; and a delete */
        rig_delete(r, &b, k);
    }
    rig_delete_range(r, &b, RIG_KEYS - 1, RIG_KEYS);
    rig_apply(r, &b);
    tree_memtable_freeze(r->table[0]);
    while (r->table_count > 0) {
        r->draining = 1;
        drain_step(r);
    }
    root = r->head[r->root];
    const struct tree_head *last =
        r->head[tree_pivots_child(&root->pivots, (uint16_t)(root->header.slots - 1))];
    CHECK_TRUE(tree_flush_heaviest(last, &slot));
    CHECK_EQ(slot, last->header.slots - 1);
    rig_fini(r);
    mem_free(r);
}
