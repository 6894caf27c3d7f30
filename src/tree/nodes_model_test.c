/*
 * tree/nodes_model_test.c -- tree/nodes.h under random operations, against a list of all versions
 * that says the same in a simple way. Writes go to a simulated disk and fail at times; versions are
 * replaced, dropped and reclaimed meanwhile.
 */
#include "tree/nodes.h"

#include "base/rand.h"
#include "tree/rig_nodes_priv.h"

#define STEPS 40000u
#define BLOCKS 12u /* about so many at a time */
#define ITEMS 600u /* versions */
#define WRITES 4u
#define HELD 5u

struct item { /* a version */
    struct tree_node *node;
    uint64_t block, version, replaced, dirty_bytes, kept_bytes;
    uint8_t level;
    bool dropped, untold, written, writing, gone, hollow, absent;
    unsigned pins;
};

struct write {
    struct tree_file_write req;
    struct model *model;
    struct tree_node *node; /* NULL: not under way */
};

struct model {
    struct rig_nodes rig;
    struct rand rand;
    struct item item[ITEMS]; /* in the order of coming, until they are freed */
    size_t count;
    uint64_t held[HELD], oldest; /* snapshots; 0: none */
    struct write write[WRITES];
    uint8_t *buf;
    unsigned failed, done, late; /* writes; those of versions that were gone at their end */
    unsigned hollowed;
};

static struct item *item_of(struct model *m, const struct tree_node *node)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->item[i].node == node) {
            return &m->item[i];
        }
    }
    CHECK(false && "known");
    return NULL;
}

static struct item *item_newest(struct model *m, uint64_t block)
{
    for (size_t i = m->count; i > 0; i--) {
        if (m->item[i - 1].block == block && !m->item[i - 1].gone) {
            return &m->item[i - 1];
        }
    }
    return NULL;
}

static struct item *item_any(struct model *m)
{
    return m->count > 0 ? &m->item[rand_below(&m->rand, m->count)] : NULL;
}

static bool block_is_writing(struct model *m, uint64_t block)
{
    for (size_t i = 0; i < m->count; i++) {
        if (m->item[i].block == block && m->item[i].writing) {
            return true;
        }
    }
    return false;
}

/* ---- what must be so ---- */

static void check_found(struct model *m, uint64_t version)
{
    struct tree_node *expected[4 * BLOCKS] = {0};
    for (size_t i = 0; i < m->count; i++) {
        struct item *t = &m->item[i];
        CHECK_TRUE(t->block < ARRAY_COUNT(expected));
        if (!t->gone && !t->hollow && t->version <= version && version < t->replaced) {
            CHECK_TRUE(expected[t->block] == NULL);
            expected[t->block] = t->node;
        }
    }
    for (size_t b = 0; b < ARRAY_COUNT(expected); b++) {
        CHECK_TRUE(tree_nodes_find(m->rig.nodes, b, version) == expected[b]);
    }
}

static void check_item(struct item *t)
{
    bool absent = (t->node->state & TREE_PART_ABSENT) != 0;
    CHECK_EQ(t->node->written, t->written);
    CHECK_EQ(t->node->block, t->block);
    CHECK_EQ(t->node->version, t->version);
    CHECK_EQ(t->node->dropped, t->dropped);
    CHECK_EQ(t->node->replaced, t->replaced);
    CHECK_EQ(t->node->untold, t->untold);
    CHECK_EQ(t->node->hollow, t->hollow);
    if (!t->gone) {
        CHECK_TRUE(!absent || ((t->written || t->hollow) && t->pins == 0)); /* else it stays */
        CHECK_TRUE(absent || !t->absent); /* nothing comes by itself */
        t->absent = absent;
    } else if (t->pins > 0) {
        CHECK_TRUE(!absent && t->node->head->header.level == t->level);
    }
    CHECK_TRUE(absent || (t->node->state & ~TREE_PART_ABSENT) == t->pins);
}

static void check_all(struct model *m)
{
    struct tree_nodes_info x = {0};
    struct tree_node *dirty = NULL;
    for (size_t i = 0; i < m->count; i++) {
        struct item *t = &m->item[i];
        check_item(t);
        bool replaced = t->replaced != TREE_NO_VERSION;
        x.nodes += replaced ? 0 : 1;
        x.versions++;
        x.frees_pending += t->untold ? 1 : 0;
        if (t->gone) {
            continue;
        }
        x.heads += t->absent ? 0 : 1;
        x.retired_bytes += (replaced && !t->absent ? RIG_NODES_CHARGE : 0) + t->kept_bytes;
        if (!t->written && !t->hollow) {
            x.dirty_count++;
            x.dirty_bytes += t->dirty_bytes;
            dirty = tree_nodes_dirty(m->rig.nodes, dirty);
            CHECK_TRUE(dirty == t->node);
        }
    }
    if (x.dirty_count > 0) {
        CHECK_TRUE(tree_nodes_dirty(m->rig.nodes, dirty) == NULL);
    }
    const struct tree_nodes_info *got = rig_nodes_info(&m->rig);
    CHECK_EQ(got->nodes, x.nodes);
    CHECK_EQ(got->versions, x.versions);
    CHECK_EQ(got->heads, x.heads);
    CHECK_EQ(got->dirty_count, x.dirty_count);
    CHECK_EQ(got->dirty_bytes, x.dirty_bytes);
    CHECK_EQ(got->retired_bytes, x.retired_bytes);
    CHECK_EQ(got->frees_pending, x.frees_pending);
}

static void check_next(struct model *m)
{
    struct tree_node *node = tree_nodes_next(m->rig.nodes, 0);
    uint64_t count = 0;
    for (; node != NULL; node = tree_nodes_next(m->rig.nodes, node->block)) {
        CHECK_TRUE(item_of(m, node)->replaced == TREE_NO_VERSION);
        count++;
    }
    CHECK_EQ(count, rig_nodes_info(&m->rig)->nodes);
}

/* ---- what is done ---- */

static void tell(struct model *m)
{
    for (size_t i = 0; i < m->count; i++) {
        struct item *t = &m->item[i];
        t->untold = t->untold && block_is_writing(m, t->block);
    }
}

/* Of parts that are not on disk and not in `next`. */
static uint64_t kept_bytes(const struct item *t, const struct tree_head *next)
{
    uint64_t bytes = 0;
    for (size_t i = 0; !t->written && i < t->node->head->header.partition_count; i++) {
        const struct tree_part *p = t->node->head->part[i];
        bool there = false;
        for (size_t k = 0; next != NULL && k < next->header.partition_count; k++) {
            there = there || next->part[k] == p;
        }
        bytes += there || p->place.birth != 0 ? 0 : RIG_NODES_RAW;
    }
    return bytes;
}

static void do_install(struct model *m, uint64_t block)
{
    struct item *old = item_newest(m, block);
    struct tree_head *before = old != NULL && !old->gone && !old->absent ? old->node->head : NULL;
    uint8_t level = (uint8_t)rand_below(&m->rand, 3);
    uint16_t parts = (uint16_t)rand_range(&m->rand, 1, 4);
    struct tree_head *h = rig_nodes_head(&m->rig, level, parts, before);
    struct item *t = &m->item[m->count++];
    *t = (struct item){.block = block,
                       .version = m->rig.version,
                       .replaced = TREE_NO_VERSION,
                       .level = level,
                       .dirty_bytes = RIG_NODES_CHARGE};
    for (uint16_t i = 0; i < parts; i++) {
        t->dirty_bytes += h->part[i]->place.birth == 0 ? RIG_NODES_RAW : 0;
    }
    if (old != NULL && !old->dropped) {
        old->replaced = t->version;
        old->kept_bytes = kept_bytes(old, h);
    }
    t->node = tree_nodes_install(m->rig.nodes, block, t->version, h);
}

static void do_drop(struct model *m, struct item *t)
{
    t->kept_bytes = kept_bytes(t, NULL);
    tree_nodes_drop(m->rig.nodes, t->block, m->rig.version);
    t->replaced = m->rig.version;
    t->dropped = true;
    t->untold = block_is_writing(m, t->block);
}

/* A job: some blocks change, some come, some go, at one version. */
static void do_job(struct model *m)
{
    uint64_t limit = tree_file_block_limit(m->rig.file);
    m->rig.version += rand_range(&m->rand, 1, 3);
    CHECK_OK(tree_nodes_prepare(m->rig.nodes, (size_t)limit + 2, limit + 2));
    for (uint64_t block = 1; block < limit && m->count < ITEMS - 8; block++) {
        struct item *t = item_newest(m, block);
        if (t == NULL || t->dropped) {
            continue;
        }
        if (rand_chance(&m->rand, 1, 12)) {
            do_drop(m, t);
        } else if (rand_chance(&m->rand, 1, 4)) {
            do_install(m, block);
        }
    }
    m->rig.version++;
    while (rig_nodes_info(&m->rig)->nodes < BLOCKS && m->count < ITEMS - 8 &&
           rand_chance(&m->rand, 2, 3)) {
        uint64_t block = 0;
        CHECK_OK(tree_file_block_new(m->rig.file, 0, &block));
        CHECK_OK(tree_nodes_prepare(m->rig.nodes, 1, block));
        do_install(m, block);
    }
}

static void do_reclaim(struct model *m)
{
    m->oldest = m->rig.version;
    for (size_t i = 0; i < HELD; i++) {
        m->oldest = m->held[i] != 0 ? base_min(m->oldest, m->held[i]) : m->oldest;
    }
    tree_nodes_reclaim(m->rig.nodes, m->oldest);
    tell(m);
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++) {
        struct item *t = &m->item[i];
        t->gone = t->gone || t->replaced <= m->oldest;
        if (!t->gone || t->pins > 0 || t->writing || t->untold) {
            m->item[kept++] = *t;
        }
    }
    m->count = kept;
}

static void do_hollow(struct model *m)
{
    uint64_t held[HELD + 1];
    size_t count = 0;
    for (size_t i = 0; i < HELD; i++) {
        size_t at = count;
        for (; m->held[i] != 0 && at > 0 && held[at - 1] > m->held[i]; at--) {
            held[at] = held[at - 1];
        }
        held[at] = m->held[i];
        count += m->held[i] != 0 ? 1 : 0;
    }
    held[count++] = m->rig.version;
    tree_nodes_hollow(m->rig.nodes, held, count);
    for (size_t i = 0; i < m->count; i++) {
        struct item *t = &m->item[i];
        bool seen = t->gone || t->replaced == TREE_NO_VERSION;
        for (size_t k = 0; k < count; k++) {
            seen = seen || (t->version <= held[k] && held[k] < t->replaced);
        }
        if (!seen && !t->writing && t->pins == 0 && !t->hollow) {
            t->hollow = true;
            t->absent = true;
            t->kept_bytes = 0;
            m->hollowed++;
        }
    }
}

static void do_snapshot(struct model *m)
{
    size_t i = (size_t)rand_below(&m->rand, HELD);
    m->held[i] = m->held[i] != 0 ? 0 : m->rig.version;
}

static void do_pin(struct model *m, struct item *t)
{
    if (t->pins > 0 && rand_chance(&m->rand, 2, 3)) {
        tree_node_unpin(t->node);
        t->pins--;
    } else if (!t->gone && !t->hollow) {
        bool pinned = tree_node_pin(t->node);
        CHECK_EQ(pinned, !t->absent);
        t->pins += pinned ? 1 : 0;
    }
}

static void do_fill(struct model *m, struct item *t)
{
    static const struct tree_part_place somewhere = {.block = 7, .extent = 4096, .birth = 3};
    if (!t->gone && !t->hollow && (t->absent || rand_chance(&m->rand, 1, 8))) {
        tree_node_fill(m->rig.nodes, t->node, rig_nodes_head_read(&m->rig, t->level, &somewhere));
        t->absent = false;
    }
}

/* ---- writes ---- */

static void write_done(struct tree_file_write *req, int rc)
{
    struct write *w = container_of(req, struct write, req);
    struct model *m = w->model;
    struct item *t = item_of(m, w->node);
    w->node = NULL;
    t->writing = false;
    m->late += t->gone ? 1 : 0;
    if (rc < 0) {
        m->failed++;
        t->node->writing = false;
        return;
    }
    m->done++;
    struct tree_part_place place = {.block = t->block,
                                    .birth = req->birth,
                                    .extent = tree_space_offset(req->extent),
                                    .extent_len = (uint32_t)tree_space_bytes(req->extent)};
    for (uint32_t i = 0; i < t->node->head->header.partition_count; i++) {
        tree_part_written(t->node->head->part[i], &place);
    }
    struct tree_file_place at = {
        .extent = req->extent, .birth = req->birth, .checksum = req->checksum};
    tree_nodes_written(m->rig.nodes, t->node, &at);
    t->written = true;
    t->kept_bytes = 0;
    tell(m);
}

/* Of one block one at a time, and none that is older than what is there. */
static bool may_write(struct model *m, struct item *t)
{
    struct item *newest = item_newest(m, t->block);
    bool may =
        !t->gone && !t->hollow && !t->written && !newest->dropped && !block_is_writing(m, t->block);
    for (struct item *u = t + 1; u < m->item + m->count && may; u++) {
        may = u->block != t->block || !u->written;
    }
    return may;
}

static void do_write(struct model *m, struct item *t)
{
    struct write *w = &m->write[rand_below(&m->rand, WRITES)];
    if (w->node != NULL || !may_write(m, t)) {
        return;
    }
    w->node = t->node;
    w->req = (struct tree_file_write){.done = write_done,
                                      .block = t->block,
                                      .birth = tree_file_number(m->rig.file),
                                      .version = t->version,
                                      .buf = m->buf,
                                      .len = TREE_UNIT,
                                      .header_len = 512,
                                      .checksum = t->version * 1000 + t->block,
                                      .level = t->level};
    t->writing = true;
    t->node->writing = true;
    if (rand_chance(&m->rand, 1, 6)) {
        disk_sim_heal(m->rig.machine.disk);
        disk_sim_fail(m->rig.machine.disk, DISK_WRITE, "/", 1, 1, -EIO);
    }
    tree_file_write(m->rig.file, &w->req);
}

static void step_in(struct rig_nodes *r)
{
    struct model *m = container_of(r, struct model, rig);
    struct item *t = item_any(m);
    unsigned what = t == NULL ? 0 : (unsigned)rand_below(&m->rand, 100);
    if (what < 15) {
        do_job(m);
    } else if (what < 35) {
        do_reclaim(m);
    } else if (what < 43) {
        do_snapshot(m);
    } else if (what < 50) {
        do_hollow(m);
    } else if (what < 60) {
        do_pin(m, t);
    } else if (what < 70) {
        do_fill(m, t);
    } else if (what < 95) {
        do_write(m, t);
    } else {
        (void)tree_cache_shrink(r->cache, rand_below(&m->rand, 64u << 10));
    }
    check_all(m);
    check_found(m, rand_range(&m->rand, m->oldest, r->version));
    check_next(m);
}

/* ---- and at the end ---- */

static bool no_writes(void *ctx)
{
    struct model *m = ctx;
    for (size_t i = 0; i < WRITES; i++) {
        if (m->write[i].node != NULL) {
            return false;
        }
    }
    return true;
}

static void end_in(struct rig_nodes *r)
{
    struct model *m = container_of(r, struct model, rig);
    memset(m->held, 0, sizeof m->held);
    for (size_t i = 0; i < m->count; i++) {
        for (; m->item[i].pins > 0; m->item[i].pins--) {
            tree_node_unpin(m->item[i].node);
        }
    }
    do_reclaim(m);
    check_all(m);
    CHECK_EQ(r->info.versions, r->info.nodes);
    CHECK_EQ(r->info.frees_pending, 0);
    for (size_t i = 0; i < m->count; i++) {
        struct tree_file_place place;
        struct item *t = &m->item[i];
        int rc = tree_file_find(r->file, t->block, &place);
        CHECK_TRUE(rc == 0 || !t->written);
        CHECK_TRUE(!t->written || place.checksum == t->node->place.checksum);
    }
    CHECK_TRUE(tree_file_sound(r->file));
}

static void buf_in(struct rig_nodes *r)
{
    struct model *m = container_of(r, struct model, rig);
    m->buf = mem_aligned(TREE_UNIT, TREE_UNIT);
    CHECK(m->buf != NULL);
    memset(m->buf, 7, TREE_UNIT);
}

TEST(random_operations)
{
    static struct model m;
    m = (struct model){0};
    rand_seed(&m.rand, testing_seed());
    rig_nodes_init(&m.rig, testing_seed());
    CHECK_TRUE(rig_nodes_in(&m.rig, buf_in));
    for (size_t i = 0; i < WRITES; i++) {
        m.write[i].model = &m;
    }
    for (unsigned i = 0; i < STEPS; i++) {
        CHECK_TRUE(rig_nodes_in(&m.rig, step_in));
        /* The disk does nothing for a while, then much: writes last longer than what they write. */
        if (rand_chance(&m.rand, 1, 32)) {
            testing_machine_steps(&m.rig.machine, rand_below(&m.rand, 96));
        }
    }
    CHECK_TRUE(testing_machine_until(&m.rig.machine, no_writes, &m, 60000));
    CHECK_TRUE(rig_nodes_in(&m.rig, end_in));
    CHECK_TRUE(m.done > 100 && m.failed > 10 && m.late > 0 && m.hollowed > 100);
    rig_nodes_fini(&m.rig);
    mem_free(m.buf);
}
