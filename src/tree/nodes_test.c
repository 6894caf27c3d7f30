/* tree/nodes_test.c -- tree/nodes.h, one thing at a time. */
#include "tree/nodes.h"

#include "tree/rig_nodes_priv.h"

static const struct tree_part_place somewhere = {.block = 7, .extent = 4096, .birth = 3};

#define CHARGED(parts) (RIG_NODES_CHARGE + (parts)*RIG_NODES_RAW)

static uint64_t block_new(struct rig_nodes *r)
{
    uint64_t block = 0;
    CHECK_OK(tree_file_block_new(r->file, 0, &block));
    return block;
}

static struct tree_node *install(struct rig_nodes *r, uint64_t block, uint8_t level)
{
    CHECK_OK(tree_nodes_prepare(r->nodes, 1, block));
    struct tree_head *h = rig_nodes_head(r, level, 2, NULL);
    return tree_nodes_install(r->nodes, block, ++r->version, h);
}

/* As tree/write.h does at the end. */
static void written(struct rig_nodes *r, struct tree_node *node)
{
    for (uint32_t i = 0; i < node->head->header.partition_count; i++) {
        tree_part_written(node->head->part[i], &somewhere);
    }
    struct tree_file_place place = {.birth = 3, .header_len = 512};
    tree_nodes_written(r->nodes, node, &place);
}

static struct tree_node *find(struct rig_nodes *r, uint64_t block, uint64_t version)
{
    return tree_nodes_find(r->nodes, block, version);
}

static void find_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r);
    CHECK_TRUE(find(r, block, r->version) == NULL);
    struct tree_node *one = install(r, block, 0);
    uint64_t v1 = r->version;
    r->version += 5;
    struct tree_node *two = install(r, block, 1);
    uint64_t v2 = r->version;
    CHECK_TRUE(find(r, block, v1 - 1) == NULL);
    CHECK_TRUE(find(r, block, v1) == one);
    CHECK_TRUE(find(r, block, v2 - 1) == one);
    CHECK_TRUE(find(r, block, v2) == two);
    CHECK_TRUE(find(r, block, TREE_NO_VERSION - 1) == two);
    CHECK_EQ(one->replaced, v2);
    CHECK_TRUE(two->replaced == TREE_NO_VERSION);
    CHECK_TRUE(find(r, block + 1, v2) == NULL);
    CHECK_TRUE(find(r, UINT64_C(1) << 27, v2) == NULL); /* what a damaged pivot may say */
    CHECK_TRUE(find(r, TREE_NODES_MAX, v2) == NULL);
    CHECK_TRUE(find(r, UINT64_MAX, v2) == NULL);
    CHECK_TRUE(find(r, 0, v2) == NULL);
    CHECK_EQ(rig_nodes_info(r)->nodes, 1);
    CHECK_EQ(r->info.versions, 2);
    CHECK_EQ(r->info.heads, 2);
    CHECK_EQ(r->info.retired_bytes, CHARGED(2));
    tree_nodes_reclaim(r->nodes, v2 - 1);
    CHECK_TRUE(find(r, block, v1) == one);
    tree_nodes_reclaim(r->nodes, v2);
    CHECK_TRUE(find(r, block, v1) == NULL);
    CHECK_TRUE(find(r, block, v2) == two);
    CHECK_EQ(rig_nodes_info(r)->versions, 1);
    CHECK_EQ(r->info.retired_bytes, 0);
    CHECK_RC(tree_nodes_prepare(r->nodes, 1, TREE_NODES_MAX), ENOSPC);
}

TEST(the_newest_version_that_is_not_too_new_is_found)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, find_in));
}

static void drop_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r), other = block_new(r);
    struct tree_node *one = install(r, block, 0);
    struct tree_node *two = install(r, other, 0);
    uint64_t v1 = r->version;
    tree_nodes_drop(r->nodes, block, ++r->version);
    CHECK_TRUE(one->dropped);
    CHECK_EQ(rig_nodes_info(r)->nodes, 1);
    CHECK_EQ(r->info.frees_pending, 0);
    CHECK_TRUE(tree_nodes_next(r->nodes, 0) == two);
    CHECK_TRUE(tree_nodes_next(r->nodes, other) == NULL);
    CHECK_TRUE(find(r, block, v1) == one);
    CHECK_TRUE(find(r, block, r->version) == NULL);
    CHECK_EQ(block_new(r), block); /* the file gives it out again, while a snapshot has it */
    struct tree_node *again = install(r, block, 0);
    CHECK_TRUE(find(r, block, v1) == one);
    CHECK_TRUE(find(r, block, r->version - 1) == NULL);
    CHECK_TRUE(find(r, block, r->version) == again);
    tree_nodes_reclaim(r->nodes, r->version - 1);
    CHECK_TRUE(find(r, block, v1) == NULL);
    CHECK_TRUE(find(r, block, r->version) == again);
    CHECK_EQ(rig_nodes_info(r)->versions, 2);
    CHECK_TRUE(tree_nodes_next(r->nodes, 0) == again);
    tree_nodes_drop(r->nodes, block, ++r->version);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_TRUE(find(r, block, r->version) == NULL);
    CHECK_EQ(rig_nodes_info(r)->versions, 1);
    CHECK_EQ(r->info.nodes, 1);
    CHECK_EQ(r->info.dirty_count, 1);
}

TEST(a_number_is_used_again_while_its_last_node_is_looked_at)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, drop_in));
}

static void dirty_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r), other = block_new(r);
    struct tree_node *a = install(r, block, 0), *b = install(r, other, 0);
    CHECK_EQ(rig_nodes_info(r)->dirty_count, 2);
    CHECK_EQ(r->info.dirty_bytes, 2 * CHARGED(2));
    written(r, a);
    CHECK_TRUE(a->written && a->place.header_len == 512);
    CHECK_EQ(rig_nodes_info(r)->dirty_bytes, CHARGED(2));
    CHECK_OK(tree_nodes_prepare(r->nodes, 3, other)); /* shares its first part with `a` */
    struct tree_node *c =
        tree_nodes_install(r->nodes, block, ++r->version, rig_nodes_head(r, 0, 3, a->head));
    CHECK_EQ(c->dirty_bytes, CHARGED(2)); /* part 0 is on disk */
    struct tree_node *d =
        tree_nodes_install(r->nodes, other, ++r->version, rig_nodes_head(r, 0, 2, b->head));
    CHECK_TRUE(tree_nodes_dirty(r->nodes, NULL) == b); /* in the order of coming */
    CHECK_TRUE(tree_nodes_dirty(r->nodes, b) == c);
    CHECK_TRUE(tree_nodes_dirty(r->nodes, c) == d);
    CHECK_TRUE(tree_nodes_dirty(r->nodes, d) == NULL);
    tree_nodes_reclaim(r->nodes, r->version); /* nobody will ever want `b` on disk */
    CHECK_TRUE(tree_nodes_dirty(r->nodes, NULL) == c);
    CHECK_EQ(rig_nodes_info(r)->dirty_count, 2);
    CHECK_EQ(r->info.dirty_bytes, c->dirty_bytes + d->dirty_bytes);
    written(r, d);
    written(r, c);
    CHECK_TRUE(tree_nodes_dirty(r->nodes, NULL) == NULL);
    CHECK_EQ(rig_nodes_info(r)->dirty_bytes, 0);
    written(r, c); /* again: somewhere else */
    CHECK_EQ(rig_nodes_info(r)->dirty_count, 0);
    CHECK_EQ(r->info.versions, 2);
    (void)tree_cache_shrink(r->cache, 0);
    CHECK_EQ(rig_nodes_info(r)->heads, 0);
}

TEST(what_is_dirty_is_counted_until_it_is_written_or_of_no_use)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, dirty_in));
}

static bool present(const struct tree_node *node)
{
    return (node->state & TREE_PART_ABSENT) == 0;
}

static uint64_t used(struct rig_nodes *r)
{
    struct tree_cache_info info;
    tree_cache_info(r->cache, &info);
    return info.used;
}

static void evict_in(struct rig_nodes *r)
{
    struct tree_node *inner = install(r, block_new(r), 1);
    struct tree_node *leaf[4];
    for (unsigned i = 0; i < 4; i++) {
        leaf[i] = install(r, block_new(r), 0);
    }
    for (unsigned i = 0; i < 3; i++) { /* leaf[3] is dirty and stays */
        written(r, leaf[i]);
    }
    written(r, inner);
    CHECK_TRUE(tree_node_pin(leaf[0]));
    tree_node_unpin(leaf[0]);
    struct tree_part *part = tree_part_ref(leaf[1]->head->part[0]);
    (void)tree_cache_shrink(r->cache, used(r) - 8 * RIG_NODES_RAW); /* parts first */
    CHECK_EQ(rig_nodes_info(r)->heads, 5);
    (void)tree_cache_shrink(r->cache, used(r) - 1); /* of leaves the first not used */
    CHECK_TRUE(present(leaf[0]) && !present(leaf[1]) && present(leaf[2]));
    CHECK_EQ(part->refs, 1);
    (void)tree_part_unref(part);
    CHECK_TRUE(tree_node_pin(leaf[2]));
    (void)tree_cache_shrink(r->cache, used(r) - 1); /* what is pinned stays */
    CHECK_TRUE(!present(leaf[0]) && present(leaf[2]) && present(inner));
    (void)tree_cache_shrink(r->cache, 0);
    CHECK_TRUE(present(leaf[2]) && !present(inner) && present(leaf[3]));
    CHECK_TRUE(!tree_node_pin(inner));
    tree_node_unpin(leaf[2]);
    CHECK_EQ(rig_nodes_info(r)->heads, 2);
    struct tree_head *h = rig_nodes_head_read(r, 1, &somewhere);
    tree_node_fill(r->nodes, inner, h);
    CHECK_TRUE(tree_node_pin(inner));
    CHECK_TRUE(inner->head == h);
    struct tree_head *late = rig_nodes_head_read(r, 1, &somewhere);
    (void)tree_head_ref(late);
    tree_node_fill(r->nodes, inner, late); /* somebody was faster */
    CHECK_EQ(late->refs, 1);
    (void)tree_head_unref(late);
    CHECK_TRUE(inner->head == h);
    tree_node_unpin(inner);
    CHECK_EQ(rig_nodes_info(r)->heads, 3);
    (void)tree_cache_shrink(r->cache, 0);
    CHECK_EQ(rig_nodes_info(r)->heads, 1);
}

TEST(heads_of_leaves_go_before_others)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, evict_in));
}

/* One that was come to more often than the others are looked at. */
static void often_in(struct rig_nodes *r)
{
    struct tree_node *often = install(r, block_new(r), 0), *others[4];
    written(r, often);
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++) {
        others[i] = install(r, block_new(r), 0);
        written(r, others[i]);
    }
    for (unsigned i = 0; i < 5; i++) {
        CHECK_TRUE(tree_node_pin(often));
        tree_node_unpin(often);
    }
    (void)tree_cache_shrink(r->cache, used(r) - 10 * RIG_NODES_RAW); /* parts */
    CHECK_EQ(rig_nodes_info(r)->heads, 5);
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++) {
        (void)tree_cache_shrink(r->cache, used(r) - 1);
        CHECK_TRUE(present(often) && !present(others[i]));
    }
    (void)tree_cache_shrink(r->cache, 0); /* and it goes in the end */
    CHECK_EQ(rig_nodes_info(r)->heads, 0);
}

TEST(heads_that_readers_come_to_go_last)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, often_in));
}

static void retired_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r);
    struct tree_node *a = install(r, block, 0);
    written(r, a);
    (void)install(r, block, 0);
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, RIG_NODES_CHARGE);
    (void)tree_cache_shrink(r->cache, 0);
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, 0);
    tree_node_fill(r->nodes, a, rig_nodes_head_read(r, 0, &somewhere));
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, RIG_NODES_CHARGE);
    CHECK_TRUE(tree_node_pin(a)); /* by a need list that lives longer than its snapshot */
    CHECK_TRUE(tree_part_pin(a->head->part[0]) == false);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_TRUE(find(r, block, r->version - 1) == NULL);
    CHECK_EQ(rig_nodes_info(r)->versions, 2);
    (void)tree_cache_shrink(r->cache, 0);
    CHECK_TRUE(present(a) && a->head->header.partition_count == 1);
    tree_node_unpin(a);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(rig_nodes_info(r)->versions, 1);
}

TEST(a_pin_outlives_the_version)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, retired_in));
}

static void hollow_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r);
    struct tree_node *node[6];
    uint64_t version[6];
    for (size_t i = 0; i < 6; i++) {
        node[i] = install(r, block, 0);
        version[i] = r->version++;
    }
    uint64_t held[] = {version[1] + 1, version[4], r->version};
    CHECK_TRUE(tree_node_pin(node[2]));
    node[3]->writing = true;
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, 5 * CHARGED(2));
    uint64_t before = used(r);
    tree_nodes_hollow(r->nodes, held, ARRAY_COUNT(held)); /* 0; 2 is pinned, 3 is being written */
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, 4 * CHARGED(2));
    CHECK_EQ(r->info.dirty_count, 5);
    CHECK_TRUE(used(r) + CHARGED(2) <= before);
    CHECK_TRUE(find(r, block, version[0]) == NULL);
    CHECK_TRUE(find(r, block, version[1]) == node[1] && present(node[1]));
    CHECK_TRUE(find(r, block, version[2]) == node[2]);
    tree_node_unpin(node[2]);
    node[3]->writing = false;
    tree_nodes_hollow(r->nodes, held, ARRAY_COUNT(held));
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, 2 * CHARGED(2));
    CHECK_EQ(r->info.dirty_count, 3);
    CHECK_EQ(r->info.dirty_bytes, 3 * CHARGED(2));
    CHECK_EQ(r->info.heads, 3);
    CHECK_EQ(r->info.versions, 6);
    CHECK_TRUE(tree_nodes_dirty(r->nodes, node[1]) == node[4]);
    CHECK_TRUE(find(r, block, held[0]) == node[1]);
    CHECK_TRUE(node[4]->older == node[1] && node[1]->older == NULL);    /* a short way */
    CHECK_TRUE(node[3]->older == node[1] && node[2]->older == node[1]); /* for who stands there */
    CHECK_TRUE(find(r, block, version[3]) == NULL);
    tree_nodes_reclaim(r->nodes, version[4]);
    CHECK_EQ(rig_nodes_info(r)->versions, 2);
    tree_nodes_hollow(r->nodes, held + 2, 1);
    CHECK_TRUE(node[5]->older == NULL);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(rig_nodes_info(r)->versions, 1);
    CHECK_EQ(r->info.retired_bytes, 0);
    CHECK_EQ(r->info.dirty_count, 1);
}

/* Only what the version before has replaced, and of it only what was there at `seen`. */
static void replaced_in(struct rig_nodes *r)
{
    uint64_t old = block_new(r), young = block_new(r);
    (void)install(r, old, 0);
    (void)install(r, old, 0);
    uint64_t seen = r->version;
    CHECK_EQ(tree_nodes_replaced(r->nodes, seen, seen - 2), 0);
    CHECK_EQ(tree_nodes_replaced(r->nodes, seen, seen - 1), CHARGED(2));
    struct tree_node *node = install(r, young, 0);
    written(r, node);
    r->version++;
    tree_nodes_drop(r->nodes, old, r->version);
    tree_nodes_drop(r->nodes, young, r->version);
    CHECK_EQ(tree_nodes_replaced(r->nodes, r->version, seen), CHARGED(2));
    CHECK_EQ(tree_nodes_replaced(r->nodes, r->version, seen + 1), CHARGED(2) + RIG_NODES_CHARGE);
    CHECK_EQ(tree_nodes_replaced(r->nodes, r->version + 1, seen + 1), 0);
    (void)tree_cache_shrink(r->cache, 0);
    CHECK_EQ(tree_nodes_replaced(r->nodes, r->version, seen + 1), CHARGED(2));
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(tree_nodes_replaced(r->nodes, r->version, r->version), 0);
}

TEST(what_was_replaced_is_counted_for_who_sees_it)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, replaced_in));
}

/* The block comes again while what it was is hollow. */
static void hollow_drop_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r);
    uint64_t held[] = {r->version, 0};
    struct tree_node *a = install(r, block, 0);
    struct tree_node *b = install(r, block, 0);
    tree_nodes_drop(r->nodes, block, ++r->version);
    held[1] = r->version;
    tree_nodes_hollow(r->nodes, held, 2);
    CHECK_TRUE(a->apart && b->hollow && !b->apart);
    CHECK_TRUE(find(r, block, r->version - 1) == NULL && find(r, block, r->version) == NULL);
    CHECK_EQ(block_new(r), block);
    struct tree_node *c = install(r, block, 0);
    CHECK_TRUE(find(r, block, r->version) == c && c->older == b);
    CHECK_TRUE(find(r, block, held[0]) == NULL);
    tree_nodes_drop(r->nodes, block, ++r->version);
    held[1] = r->version;
    tree_nodes_hollow(r->nodes, held, 2);
    CHECK_EQ(rig_nodes_info(r)->versions, 3);
    CHECK_EQ(r->info.retired_bytes + r->info.dirty_bytes + r->info.heads, 0);
}

TEST(a_block_comes_again_above_a_hollow_one)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0}; /* with all three in it */
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, hollow_drop_in));
}

TEST(what_lies_between_snapshots_gives_its_memory_back)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, hollow_in));
}

static void kept_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r);
    CHECK_OK(tree_nodes_prepare(r->nodes, 3, block));
    struct tree_node *a = install(r, block, 0); /* parts 0 and 1 */
    struct tree_head *h = rig_nodes_head(r, 0, 4, a->head);
    struct tree_node *b = tree_nodes_install(r->nodes, block, ++r->version, h);
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, CHARGED(1)); /* part 0 is needed anyway */
    written(r, a);
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, CHARGED(0));
    tree_nodes_drop(r->nodes, block, ++r->version);
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, CHARGED(0) + CHARGED(3));
    CHECK_TRUE(!b->written);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(rig_nodes_info(r)->retired_bytes, 0);
}

TEST(what_is_kept_for_snapshots_is_counted)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, kept_in));
}

static void writing_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r), other = block_new(r);
    struct tree_node *a = install(r, block, 0), *b = install(r, other, 0);
    a->writing = true;
    b->writing = true;
    (void)install(r, block, 0);
    tree_nodes_drop(r->nodes, block, ++r->version);
    tree_nodes_drop(r->nodes, other, ++r->version);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 2);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 2);
    CHECK_EQ(r->info.versions, 3); /* two are being written, one is still to be told */
    CHECK_EQ(r->info.nodes, 0);
    CHECK_EQ(r->info.dirty_count, 0);
    CHECK_TRUE(find(r, block, r->version) == NULL);
    CHECK_TRUE(block_new(r) > other);
    written(r, a);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 1);
    CHECK_EQ(block_new(r), block);
    b->writing = false; /* it came to nothing */
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 0);
    CHECK_EQ(r->info.versions, 0);
    CHECK_EQ(block_new(r), other);
}

TEST(a_block_is_free_when_its_write_is_over)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, writing_in));
}

/* ---- what the file has ---- */

#define WRITE_BYTES ((size_t)2 * TREE_UNIT)

struct write {
    struct tree_file_write req;
    bool over;
};

struct writes {
    struct rig_nodes rig;
    struct write write[3];
    uint8_t *buf;
};

static void buf_in(struct rig_nodes *r)
{
    struct writes *w = container_of(r, struct writes, rig);
    w->buf = mem_aligned(TREE_UNIT, WRITE_BYTES);
    CHECK(w->buf != NULL);
    memset(w->buf, 7, WRITE_BYTES);
}

static void write_done(struct tree_file_write *req, int rc)
{
    CHECK_OK(rc);
    container_of(req, struct write, req)->over = true;
}

/* Of a new block. */
static void write_begin(struct writes *w, unsigned i)
{
    struct write *one = &w->write[i];
    one->over = false;
    one->req = (struct tree_file_write){.done = write_done,
                                        .block = block_new(&w->rig),
                                        .birth = tree_file_number(w->rig.file),
                                        .buf = w->buf,
                                        .len = WRITE_BYTES,
                                        .header_len = 512 * (i + 1),
                                        .checksum = 99 + i,
                                        .level = 1};
    tree_file_write(w->rig.file, &one->req);
}

static bool writes_are_over(void *ctx)
{
    struct writes *w = ctx;
    return w->write[0].over && w->write[1].over && w->write[2].over;
}

static void writes_in(struct rig_nodes *r)
{
    for (unsigned i = 0; i < 3; i++) {
        write_begin(container_of(r, struct writes, rig), i);
    }
}

static void nodes_again_in(struct rig_nodes *r)
{
    r->nodes = tree_nodes_free(r->nodes);
    (void)block_new(r); /* never written to: no node */
    struct tree_nodes_options opt = {.file = r->file, .cache = r->cache};
    r->rc = -ENOMEM;
    uint64_t before = used(r);
    for (uint64_t nth = 1; r->rc == -ENOMEM && nth < 100; nth++) {
        mem_fail_at(nth);
        r->rc = tree_nodes_new(&opt, &r->nodes);
        mem_fail_at(0);
        CHECK_TRUE(r->rc == 0 || used(r) == before);
        CHECK_TRUE(r->rc == -ENOMEM || nth == 6); /* itself, a page, three nodes */
    }
    CHECK_OK(r->rc);
    CHECK_EQ(rig_nodes_info(r)->nodes, 3);
    CHECK_EQ(r->info.heads + r->info.dirty_count, 0);
}

TEST(the_blocks_of_the_file_are_known)
{
    struct writes w = {0};
    rig_nodes_init(&w.rig, testing_seed());
    CHECK_TRUE(rig_nodes_in(&w.rig, buf_in));
    CHECK_TRUE(rig_nodes_in(&w.rig, writes_in));
    CHECK_TRUE(testing_machine_until(&w.rig.machine, writes_are_over, &w, 60000));
    CHECK_TRUE(rig_nodes_in(&w.rig, nodes_again_in));
    struct tree_node *node = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t block = w.write[i].req.block;
        node = tree_nodes_next(w.rig.nodes, node != NULL ? node->block : 0);
        CHECK_TRUE(node != NULL);
        CHECK_EQ(node->block, block);
        CHECK_EQ(node->version, 0);
        CHECK_TRUE(node->written && !present(node));
        CHECK_EQ(node->place.header_len, 512 * (i + 1));
        CHECK_EQ(node->place.checksum, 99 + i);
        CHECK_TRUE(tree_nodes_find(w.rig.nodes, block, 17) == node);
    }
    CHECK_TRUE(tree_nodes_next(w.rig.nodes, node->block) == NULL);
    rig_nodes_fini(&w.rig);
    mem_free(w.buf);
}

/* ---- when memory is out ---- */

static void prepare_in(struct rig_nodes *r)
{
    uint64_t block = block_new(r);
    uint64_t before = used(r);
    int rc = -ENOMEM;
    uint64_t nth = 0;
    while (rc == -ENOMEM) {
        mem_fail_at(++nth);
        rc = tree_nodes_prepare(r->nodes, 4, block);
        mem_fail_at(0);
        CHECK_TRUE(find(r, block, r->version) == NULL);
    }
    CHECK_OK(rc);
    CHECK_TRUE(nth >= 2 && nth <= 6); /* what was made stays: each failure was of another one */
    CHECK_EQ(used(r), before + 4 * sizeof(struct tree_node));
    for (unsigned i = 0; i < 4; i++) {
        struct tree_head *h = rig_nodes_head(r, 0, 1, NULL);
        mem_fail_at(1); /* the second half cannot fail */
        (void)tree_nodes_install(r->nodes, block, ++r->version, h);
        mem_fail_at(0);
    }
    CHECK_EQ(rig_nodes_info(r)->versions, 4);
}

TEST(nothing_fails_once_it_is_prepared)
{
    CLEANUP(rig_nodes_fini) struct rig_nodes r = {0};
    rig_nodes_init(&r, testing_seed());
    CHECK_TRUE(rig_nodes_in(&r, prepare_in));
}

/* Two writes under way have reserved all that the file has for changes of its table. */
static void untold_in(struct rig_nodes *r)
{
    struct writes *w = container_of(r, struct writes, rig);
    uint64_t block = block_new(r);
    (void)install(r, block, 0);
    write_begin(w, 0);
    write_begin(w, 1);
    uint64_t before = used(r);
    mem_fail_at(1);
    tree_nodes_drop(r->nodes, block, ++r->version);
    mem_fail_at(0);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 1);
    CHECK_TRUE(block_new(r) != block);
    write_begin(w, 2);
    mem_fail_at(1);
    tree_nodes_reclaim(r->nodes, r->version);
    mem_fail_at(0);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 1);
    CHECK_EQ(r->info.versions, 1);
    CHECK_TRUE(used(r) + CHARGED(2) <= before); /* memory is given back all the same */
    CHECK_TRUE(find(r, block, r->version - 1) == NULL);
    tree_nodes_reclaim(r->nodes, r->version);
    CHECK_EQ(rig_nodes_info(r)->frees_pending, 0);
    CHECK_EQ(r->info.versions, 0);
    CHECK_EQ(block_new(r), block);
}

TEST(the_file_is_told_later_when_memory_is_out)
{
    struct writes w = {0};
    rig_nodes_init(&w.rig, testing_seed());
    CHECK_TRUE(rig_nodes_in(&w.rig, buf_in));
    CHECK_TRUE(rig_nodes_in(&w.rig, untold_in));
    rig_nodes_fini(&w.rig);
    mem_free(w.buf);
}
