/*
 * tree/part_thread_test.c -- for the thread sanitizer: the loop's thread fills, evicts, writes and
 * replaces parts, four readers pin, read and let go of them, two workers make new ones. The last
 * reference and the last pin go on any of these threads.
 */
#include "tree/part.h"

#include "base/mem.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

#define PLACES 24u
#define READERS 4u
#define WORKERS 2u
#define READ_PINS 6u
#define RAW ((size_t)512)
#define STEPS 6000u
#define MADE_MAX 8u

struct world {
    struct tree_cache *cache;
    pthread_mutex_t mutex;           /* of the next four */
    struct tree_part *place[PLACES]; /* what heads are otherwise: who looks takes references */
    struct tree_part *made[MADE_MAX];
    size_t made_count;
    uint32_t next_id;
    _Atomic bool over;
    struct rand rand;
    uint64_t filled;
};

struct helper {
    struct world *world;
    pthread_t thread;
    uint64_t seed, pinned, absent;
    const char *wrong; /* NULL: nothing was */
};

static const struct tree_part_place somewhere = {.block = 7, .extent = 4096, .birth = 3};

/* The content says whose it is. */
static uint8_t *bytes_new(struct tree_cache *c, uint32_t id)
{
    uint8_t *bytes = mem_aligned(TREE_PART_ALIGN, RAW);
    CHECK(bytes != NULL);
    tree_cache_force(c, RAW);
    for (size_t i = 0; i < RAW; i += sizeof id) {
        memcpy(bytes + i, &id, sizeof id);
    }
    return bytes;
}

static bool bytes_are(const struct tree_part *p)
{
    for (size_t i = 0; i < RAW; i += sizeof p->entries) {
        if (memcmp(p->bytes + i, &p->entries, sizeof p->entries) != 0) {
            return false;
        }
    }
    return true;
}

static struct tree_part *part_new(struct world *w, uint32_t id, bool written)
{
    struct tree_part *p = NULL;
    struct tree_part_options opt = {.cache = w->cache,
                                    .raw_len = (uint32_t)RAW,
                                    .entries = id,
                                    .bytes = bytes_new(w->cache, id),
                                    .place = written ? &somewhere : NULL};
    CHECK(tree_part_new(&opt, &p) == 0);
    return p;
}

static struct tree_part *part_take(struct world *w, size_t i)
{
    (void)pthread_mutex_lock(&w->mutex);
    struct tree_part *p = tree_part_ref(w->place[i]);
    (void)pthread_mutex_unlock(&w->mutex);
    return p;
}

/* Takes a reference on one; the other's may be the last. */
static void part_put(struct world *w, size_t i, struct tree_part *p)
{
    (void)pthread_mutex_lock(&w->mutex);
    struct tree_part *old = w->place[i];
    w->place[i] = p;
    (void)pthread_mutex_unlock(&w->mutex);
    (void)tree_part_unref(old);
}

/* ---- others ---- */

static void *read_all_the_time(void *arg)
{
    struct helper *h = arg;
    struct tree_part *pin[READ_PINS] = {0};
    struct rand rand;
    rand_seed(&rand, h->seed);
    while (h->wrong == NULL && (!h->world->over || h->pinned == 0)) {
        size_t i = (size_t)rand_below(&rand, READ_PINS);
        if (pin[i] != NULL) {
            h->wrong = bytes_are(pin[i]) ? NULL : "bytes have changed while they were pinned";
            tree_part_unpin(pin[i]);
            pin[i] = NULL;
            continue;
        }
        struct tree_part *p = part_take(h->world, (size_t)rand_below(&rand, PLACES));
        if (tree_part_pin(p)) {
            h->wrong = bytes_are(p) ? NULL : "bytes of another part";
            h->pinned++;
            pin[i] = p;
        } else {
            h->absent++;
        }
        (void)tree_part_unref(p);
    }
    for (size_t i = 0; i < READ_PINS; i++) {
        if (pin[i] != NULL) {
            tree_part_unpin(pin[i]);
        }
    }
    return NULL;
}

static void *make_all_the_time(void *arg)
{
    struct helper *h = arg;
    struct world *w = h->world;
    struct rand rand;
    rand_seed(&rand, h->seed);
    while (!w->over) {
        (void)pthread_mutex_lock(&w->mutex);
        uint32_t id = ++w->next_id;
        (void)pthread_mutex_unlock(&w->mutex);
        struct tree_part *p = part_new(w, id, rand_chance(&rand, 1, 3));
        (void)pthread_mutex_lock(&w->mutex);
        if (w->made_count < MADE_MAX) {
            w->made[w->made_count++] = p;
            p = NULL;
        }
        (void)pthread_mutex_unlock(&w->mutex);
        if (tree_part_unref(p) == NULL && rand_chance(&rand, 1, 4)) {
            (void)sched_yield();
        }
    }
    return NULL;
}

/* ---- the loop's thread ---- */

static void loop_replace(struct world *w)
{
    struct tree_part *p = NULL;
    (void)pthread_mutex_lock(&w->mutex);
    if (w->made_count > 0) {
        p = w->made[--w->made_count];
    }
    (void)pthread_mutex_unlock(&w->mutex);
    if (p != NULL) {
        part_put(w, (size_t)rand_below(&w->rand, PLACES), p);
    }
}

static void loop_fill(struct world *w, struct tree_part *p)
{
    if (!tree_part_pin(p)) {
        uint8_t *bytes = bytes_new(w->cache, p->entries);
        CHECK(tree_part_fill(p, bytes));
        CHECK(tree_part_pin(p));
        w->filled++;
    }
    CHECK(bytes_are(p));
    tree_part_unpin(p);
}

static void loop_step(struct world *w)
{
    struct tree_part *p = part_take(w, (size_t)rand_below(&w->rand, PLACES));
    unsigned what = (unsigned)rand_below(&w->rand, 10);
    if (what < 3) {
        loop_replace(w);
    } else if (what < 6) {
        loop_fill(w, p);
    } else if (what < 8) {
        tree_part_written(p, &somewhere);
    } else if (what < 9) {
        (void)tree_cache_shrink(w->cache, rand_below(&w->rand, PLACES * RAW));
    } else if (tree_cache_charge(w->cache, 4 * RAW)) {
        tree_cache_give(w->cache, 4 * RAW);
    }
    (void)tree_part_unref(p);
}

TEST(parts_come_and_go_while_others_read)
{
    static struct world w;
    struct helper helper[READERS + WORKERS];
    struct tree_cache_options opt = {.limit_bytes = PLACES * (RAW + 200)};
    w = (struct world){.mutex = PTHREAD_MUTEX_INITIALIZER, .next_id = PLACES};
    rand_seed(&w.rand, testing_seed());
    CHECK_OK(tree_cache_new(&opt, &w.cache));
    for (uint32_t i = 0; i < PLACES; i++) {
        w.place[i] = part_new(&w, i, i % 2 == 0);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(helper); i++) {
        helper[i] = (struct helper){.world = &w, .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&helper[i].thread, NULL,
                                i < READERS ? read_all_the_time : make_all_the_time, &helper[i]),
                 0);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        loop_step(&w);
        if (i % 16 == 0) {
            (void)sched_yield();
        }
    }
    w.over = true;
    for (unsigned i = 0; i < ARRAY_COUNT(helper); i++) {
        CHECK_EQ(pthread_join(helper[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(helper); i++) {
        CHECK_TEXT(helper[i].wrong != NULL ? helper[i].wrong : "", "");
        CHECK_TRUE(i >= READERS || helper[i].pinned > 0);
    }
    struct tree_cache_info info;
    tree_cache_info(w.cache, &info);
    CHECK_EQ(info.fills, w.filled);
    CHECK_TRUE(info.evictions > 0 && info.hits > 0);
    for (uint32_t i = 0; i < PLACES; i++) {
        part_put(&w, i, NULL);
    }
    while (w.made_count > 0) {
        (void)tree_part_unref(w.made[--w.made_count]);
    }
    w.cache = tree_cache_free(w.cache); /* CHECKs that all was given back */
}
