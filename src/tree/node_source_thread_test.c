/*
 * tree/node_source_thread_test.c -- three readers of a leaf whose parts are evicted and filled all
 * the time by the loop's thread: for the thread sanitizer. Whatever a reader finds is right, for as
 * long as its source stands there.
 */
#include "tree/node_source.h"

#include <pthread.h>
#include <stdio.h>

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/rig_head_priv.h"

#define SLOTS 8u
#define SLOT_KEYS 40u
#define KEYS 320u /* of all slots */
#define READERS 3u
#define FOUND_MIN 2000u /* of each reader */

struct world {
    struct rig_cache cache;
    struct tree_head *head;
    uint8_t *copies[SLOTS];
    _Atomic unsigned reading; /* readers that have not found enough */
};

struct reader {
    struct world *world;
    struct tree_head *head; /* a reference of its own */
    pthread_t thread;
    uint64_t seed;
    unsigned found, missed, walked;
    const char *wrong; /* NULL: nothing was */
};

static struct kv_slice key_of(uint32_t k, uint8_t buf[16])
{
    return kv_slice_of(buf, (size_t)snprintf((char *)buf, 16, "key%05u", k));
}

static struct kv_slice value_of(uint32_t k, uint8_t buf[32])
{
    return kv_slice_of(buf, (size_t)snprintf((char *)buf, 32, "the value of %u", k * 7919));
}

static void world_open(struct world *w)
{
    static const char pivot_text[SLOTS][16] = {"key00040", "key00080", "key00120", "key00160",
                                               "key00200", "key00240", "key00280"};
    struct kv_slice pivot[SLOTS];
    struct tree_head_builder head;
    struct tree_block_builder block;
    uint8_t kb[16], vb[32];
    *w = (struct world){.reading = READERS};
    rig_cache_init(&w->cache);
    tree_head_builder_init(&head, w->cache.cache);
    tree_block_builder_init(&block, TREE_BLOCK_LEAF);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        struct tree_head_add a = {.kind = TREE_PARTITION_LEAF, .slot = slot};
        struct rig_part_of of = {.kind = TREE_PARTITION_LEAF, .absent = true};
        pivot[slot] = kv_slice_of(pivot_text[slot], 8);
        for (uint32_t k = slot * SLOT_KEYS; k < (slot + 1) * SLOT_KEYS; k++) {
            struct tree_block_entry e = {.key = key_of(k, kb), .body = value_of(k, vb)};
            CHECK_OK(tree_block_builder_add(&block, &e));
        }
        w->copies[slot] = rig_block_bytes(&block, &of.len, &of.entries);
        rig_add(&head, rig_part_new(&w->cache, &of), &a);
    }
    struct tree_pivots_source s = {.pivot = pivot, .slots = SLOTS};
    CHECK_OK(tree_head_builder_finish(&head, &s, NULL, 0, &w->head));
    tree_head_builder_fini(&head);
    tree_block_builder_fini(&block);
}

/* ---- readers ---- */

static bool stands_on(const struct tree_node_source *s, uint32_t k)
{
    uint8_t kb[16], vb[32];
    return kv_slice_compare(s->base.key, key_of(k, kb)) == 0 &&
           kv_slice_compare(s->base.message.body, value_of(k, vb)) == 0;
}

/* From a key on as far as parts are there. */
static int reader_walk(struct reader *r, struct tree_node_source *s, uint32_t k)
{
    uint8_t kb[16];
    int rc = s->base.ops->seek(&s->base, key_of(k, kb));
    while (rc == 1) {
        if (!stands_on(s, k++)) {
            r->wrong = "a walk stands somewhere else";
            return 0;
        }
        r->walked++;
        rc = s->base.ops->next(&s->base);
    }
    if (rc == 0 && k != KEYS) {
        r->wrong = "a walk ended early";
    }
    return rc;
}

static int reader_find(struct reader *r, struct tree_node_source *s, uint32_t k)
{
    uint8_t kb[16];
    int rc = s->base.ops->find(&s->base, key_of(k, kb));
    if (rc == 1 && !stands_on(s, k)) {
        r->wrong = "another value";
    } else if (rc == 0) {
        r->wrong = "not found";
    }
    return rc;
}

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    struct kv kv = {.ops = &rig_kv_ops};
    struct kv_need need = {0};
    struct tree_need_from from = {.kv = &kv, .need = &need};
    struct tree_node_at at = {.head = r->head, .block = RIG_BLOCK, .version = RIG_VERSION};
    struct rand rand;
    bool enough = false;
    rand_seed(&rand, r->seed);
    while (r->wrong == NULL && atomic_load(&r->world->reading) > 0) {
        struct tree_node_source s;
        uint32_t k = (uint32_t)rand_below(&rand, KEYS);
        tree_node_source_leaf(&s, &from, &at);
        int rc = rand_chance(&rand, 1, 4) ? reader_walk(r, &s, k) : reader_find(r, &s, k);
        r->missed += rc == -ERR_need ? 1 : 0;
        r->found += rc == 1 ? 1 : 0;
        if (rc == 1 && tree_node_source_keep(&s) < 0) {
            r->wrong = "no room in a list";
        }
        tree_node_source_fini(&s);
        kv_need_release(&need);
        if (!enough && r->found >= FOUND_MIN && r->missed > 0 && r->walked > 0) {
            enough = true;
            atomic_fetch_sub(&r->world->reading, 1);
        }
    }
    if (r->wrong != NULL && !enough) {
        atomic_fetch_sub(&r->world->reading, 1);
    }
    tree_head_unref(r->head);
    return NULL;
}

/* ---- the loop ---- */

static void world_churn(struct world *w, struct rand *rand)
{
    while (atomic_load(&w->reading) > 0) {
        uint32_t i = (uint32_t)rand_below(rand, SLOTS);
        struct tree_part *p = w->head->part[i];
        if (tree_part_pin(p)) {
            tree_part_unpin(p);
        } else {
            CHECK_TRUE(tree_part_fill(p, rig_bytes(&w->cache, w->copies[i], p->raw_len)));
        }
        if (rand_chance(rand, 1, 16)) {
            (void)tree_cache_shrink(w->cache.cache, 0); /* all that nobody stands in */
        }
    }
}

TEST(readers_find_what_is_there_while_parts_come_and_go)
{
    struct world w;
    struct reader reader[READERS];
    struct rand rand;
    world_open(&w);
    rand_seed(&rand, testing_seed());
    for (unsigned i = 0; i < READERS; i++) {
        reader[i] =
            (struct reader){.world = &w, .head = tree_head_ref(w.head), .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&reader[i].thread, NULL, reader_main, &reader[i]), 0);
    }
    world_churn(&w, &rand);
    for (unsigned i = 0; i < READERS; i++) {
        CHECK_EQ(pthread_join(reader[i].thread, NULL), 0);
        if (reader[i].wrong != NULL) {
            (void)fprintf(stderr, "reader %u: %s\n", i, reader[i].wrong);
        }
        CHECK_TRUE(reader[i].wrong == NULL);
    }
    tree_head_unref(w.head);
    for (unsigned i = 0; i < SLOTS; i++) {
        mem_free(w.copies[i]);
    }
    rig_cache_fini(&w.cache);
}
