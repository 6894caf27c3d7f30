/*
 * tree/nodes_thread_test.c -- for the thread sanitizer: readers who hold snapshots look for nodes,
 * pin heads and the parts of them, and hand pins over to need lists that live longer than the
 * snapshot, while the loop's thread installs, drops, writes, evicts, fills and reclaims.
 */
#include "tree/nodes.h"

#include "base/rand.h"
#include "tree/need.h"
#include "tree/rig_nodes_priv.h"

#include <pthread.h>
#include <sched.h>

#define BLOCKS 20u /* 1 .. BLOCKS; those from LASTING on are dropped and come again */
#define LASTING 14u
#define READERS 4u
#define STEPS 2000u
#define CHECKSUM(block, version) ((block)*1000003u + (version))

struct reader {
    struct world *world;
    pthread_t thread;
    uint64_t seed, found, pinned, parts, absent;
    uint64_t held; /* version; 0: none; of the mutex */
    struct kv_need need;
    const char *wrong; /* NULL: nothing was */
};

struct world {
    struct rig_nodes rig;
    pthread_mutex_t mutex; /* of the next, and of readers' */
    uint64_t published;
    _Atomic bool over;
    struct rand rand;
    struct reader reader[READERS];
    struct kv kv;
    struct kv_ops ops;
    uint64_t block[BLOCKS]; /* 0: none */
};

static void unpin(struct kv *kv, struct kv_need_item *item)
{
    (void)kv;
    tree_need_unpin(item);
}

/* ---- readers ---- */

static uint64_t snapshot(struct reader *r, bool take)
{
    (void)pthread_mutex_lock(&r->world->mutex);
    r->held = take ? r->world->published : 0;
    uint64_t version = r->held;
    (void)pthread_mutex_unlock(&r->world->mutex);
    return version;
}

static bool part_is_good(const struct tree_part *p)
{
    return p->bytes[0] == (uint8_t)p->entries && p->bytes[RIG_NODES_RAW - 1] == p->bytes[0];
}

/* True: it is kept. */
static bool keep(struct reader *r, struct tree_node *node, struct tree_part *p)
{
    struct tree_need_from from = {.kv = &r->world->kv, .need = &r->need};
    return (node != NULL ? tree_need_keep_node(&from, node) : tree_need_keep_part(&from, p)) == 0;
}

static void read_head(struct reader *r, struct rand *rand, const struct tree_node *node)
{
    const struct tree_head *h = node->head;
    if (h->header.version != CHECKSUM(node->block, node->version)) {
        r->wrong = "the head of another version";
        return;
    }
    struct tree_part *p = h->part[rand_below(rand, h->header.partition_count)];
    if (!tree_part_pin(p)) {
        r->absent++;
        return;
    }
    r->parts++;
    r->wrong = part_is_good(p) ? r->wrong : "a bad part";
    if (!rand_chance(rand, 1, 4) || !keep(r, NULL, p)) {
        tree_part_unpin(p);
    }
}

static void read_one(struct reader *r, struct rand *rand, uint64_t version)
{
    uint64_t block = rand_range(rand, 1, LASTING);
    struct tree_node *node = tree_nodes_find(r->world->rig.nodes, block, version);
    if (node == NULL || node->version > version || node->block != block) {
        r->wrong = "a block that is there was not found";
        return;
    }
    r->found++;
    if (!tree_node_pin(node)) {
        r->absent++;
        return;
    }
    r->pinned++;
    read_head(r, rand, node);
    if (!rand_chance(rand, 1, 4) || !keep(r, node, NULL)) {
        tree_node_unpin(node);
    }
}

/* What is kept stays, whatever became of the snapshot. */
static void check_kept(struct reader *r)
{
    for (size_t i = 0; i < r->need.count; i++) {
        const struct kv_need_item *item = &r->need.item[i];
        if (item->pin == NULL) {
            r->wrong = "a pin is gone";
        }
    }
}

static void *read_all_the_time(void *arg)
{
    struct reader *r = arg;
    struct rand rand;
    rand_seed(&rand, r->seed);
    while (r->wrong == NULL && (!r->world->over || r->parts == 0)) {
        uint64_t version = snapshot(r, true);
        for (uint64_t n = rand_range(&rand, 1, 30); n > 0 && r->wrong == NULL; n--) {
            read_one(r, &rand, version);
        }
        (void)snapshot(r, false);
        check_kept(r);
        if (rand_chance(&rand, 1, 3)) {
            kv_need_release(&r->need);
        }
    }
    kv_need_release(&r->need);
    return NULL;
}

/* ---- the loop's thread ---- */

static void install(struct world *w, size_t i)
{
    struct rig_nodes *r = &w->rig;
    struct tree_node *old = tree_nodes_find(r->nodes, w->block[i], r->version);
    bool shares = old != NULL && tree_node_pin(old);
    struct tree_head *h = rig_nodes_head(r, (uint8_t)(i % 3), 3, shares ? old->head : NULL);
    h->header.version = CHECKSUM(w->block[i], r->version + 1);
    CHECK_OK(tree_nodes_prepare(r->nodes, 1, w->block[i]));
    struct tree_node *node = tree_nodes_install(r->nodes, w->block[i], r->version + 1, h);
    CHECK_EQ(node->head->header.level, i % 3);
    if (shares) {
        tree_node_unpin(old);
    }
}

static void publish(struct world *w)
{
    (void)pthread_mutex_lock(&w->mutex);
    w->published = ++w->rig.version;
    (void)pthread_mutex_unlock(&w->mutex);
}

static void job(struct world *w)
{
    for (uint64_t n = rand_range(&w->rand, 1, 4); n > 0; n--) {
        size_t i = (size_t)rand_below(&w->rand, BLOCKS);
        struct tree_node *node = tree_nodes_find(w->rig.nodes, w->block[i], w->rig.version + 1);
        if (node != NULL && node->version == w->rig.version + 1) {
            continue; /* changed by this job */
        }
        if (i < LASTING || w->block[i] != 0) {
            if (i >= LASTING && rand_chance(&w->rand, 1, 2)) {
                tree_nodes_drop(w->rig.nodes, w->block[i], w->rig.version + 1);
                w->block[i] = 0;
            } else {
                install(w, i);
            }
        }
    }
    publish(w);
    for (size_t i = LASTING; i < BLOCKS; i++) {
        if (w->block[i] == 0 && rand_chance(&w->rand, 1, 8)) {
            CHECK_OK(tree_file_block_new(w->rig.file, 0, &w->block[i]));
            install(w, i);
        }
    }
    publish(w);
}

static void write_some(struct world *w)
{
    static const struct tree_part_place somewhere = {.block = 7, .extent = 4096, .birth = 3};
    struct tree_node *node = tree_nodes_dirty(w->rig.nodes, NULL);
    for (uint64_t n = rand_below(&w->rand, 6); n > 0 && node != NULL; n--) {
        for (uint32_t i = 0; i < node->head->header.partition_count; i++) {
            tree_part_written(node->head->part[i], &somewhere);
        }
        struct tree_file_place place = {.birth = 3};
        tree_nodes_written(w->rig.nodes, node, &place);
        node = tree_nodes_dirty(w->rig.nodes, NULL);
    }
}

static void fill_part(struct world *w, struct tree_part *p)
{
    uint8_t *bytes = mem_aligned(TREE_PART_ALIGN, RIG_NODES_RAW);
    CHECK(bytes != NULL);
    memset(bytes, (int)p->entries, RIG_NODES_RAW);
    tree_cache_force(w->rig.cache, RIG_NODES_RAW);
    if (!tree_part_fill(p, bytes)) {
        mem_free(bytes);
        tree_cache_give(w->rig.cache, RIG_NODES_RAW);
    }
}

static void fill_some(struct world *w)
{
    static const struct tree_part_place somewhere = {.block = 7, .extent = 4096, .birth = 3};
    uint64_t version =
        rand_range(&w->rand, w->rig.version > 4 ? w->rig.version - 4 : 1, w->rig.version);
    for (uint64_t block = 1; block <= LASTING; block++) {
        struct tree_node *node = tree_nodes_find(w->rig.nodes, block, version);
        if (node == NULL) {
            continue; /* nobody holds that version any more */
        }
        if ((node->state & TREE_PART_ABSENT) != 0) {
            struct tree_head *h =
                rig_nodes_head_read(&w->rig, (uint8_t)((block - 1) % 3), &somewhere);
            h->header.version = CHECKSUM(block, node->version);
            tree_node_fill(w->rig.nodes, node, h);
        }
        CHECK(tree_node_pin(node));
        fill_part(w, node->head->part[0]);
        tree_node_unpin(node);
    }
}

static void reclaim(struct world *w)
{
    uint64_t held[READERS + 1];
    size_t count = 0;
    (void)pthread_mutex_lock(&w->mutex);
    for (size_t i = 0; i < READERS; i++) {
        size_t at = count;
        for (; w->reader[i].held != 0 && at > 0 && held[at - 1] > w->reader[i].held; at--) {
            held[at] = held[at - 1];
        }
        held[at] = w->reader[i].held;
        count += w->reader[i].held != 0 ? 1 : 0;
    }
    held[count++] = w->published;
    (void)pthread_mutex_unlock(&w->mutex);
    tree_nodes_reclaim(w->rig.nodes, held[0]);
    tree_nodes_hollow(w->rig.nodes, held, count);
}

static void loop_step(struct world *w)
{
    unsigned what = (unsigned)rand_below(&w->rand, 10);
    if (what < 3) {
        job(w);
    } else if (what < 5) {
        write_some(w);
    } else if (what < 7) {
        fill_some(w);
    } else if (what < 8) {
        reclaim(w);
    } else if (what < 9) {
        (void)tree_cache_shrink(w->rig.cache, rand_below(&w->rand, 40000));
    } else if (tree_cache_charge(w->rig.cache, 4096)) {
        tree_cache_give(w->rig.cache, 4096);
    }
}

static void begin(struct world *w)
{
    w->ops = (struct kv_ops){.unpin = unpin};
    w->kv = (struct kv){.ops = &w->ops};
    for (size_t i = 0; i < BLOCKS; i++) {
        CHECK_OK(tree_file_block_new(w->rig.file, 0, &w->block[i]));
        CHECK_EQ(w->block[i], i + 1);
        install(w, i);
    }
    publish(w);
}

static void run_in(struct rig_nodes *rig)
{
    struct world *w = container_of(rig, struct world, rig);
    begin(w);
    for (unsigned i = 0; i < READERS; i++) {
        struct reader *r = &w->reader[i];
        *r = (struct reader){.world = w, .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&r->thread, NULL, read_all_the_time, r), 0);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        loop_step(w);
        if (i % 16 == 0) {
            (void)sched_yield();
        }
    }
    fill_some(w);
    w->over = true;
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(w->reader[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_TEXT(w->reader[i].wrong != NULL ? w->reader[i].wrong : "", "");
    }
    reclaim(w);
    (void)rig_nodes_info(rig);
    CHECK_EQ(rig->info.versions, rig->info.nodes);
}

TEST(nodes_come_and_go_while_others_read)
{
    static struct world w;
    w = (struct world){.mutex = PTHREAD_MUTEX_INITIALIZER};
    rand_seed(&w.rand, testing_seed());
    rig_nodes_init(&w.rig, testing_seed());
    CHECK_TRUE(rig_nodes_in(&w.rig, run_in));
    rig_nodes_fini(&w.rig);
}
