/*
 * The sorted table of a memtable: against a sorted array, with many levels and hard keys; and what
 * readers find in it while it grows.
 */
#include "tree/memtable_priv.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/rig_keys_priv.h"

#define KEYS 8000u

struct sorted {
    struct kv_slice key[KEYS]; /* in order */
    uint32_t rank[KEYS];       /* of key k */
    uint8_t bytes[KEYS][RIG_KEY_SIZE];
};

static int compare_keys(const void *a, const void *b)
{
    return kv_slice_compare(*(const struct kv_slice *)a, *(const struct kv_slice *)b);
}

static struct sorted *sorted_new(void)
{
    struct sorted *s = mem_zalloc(sizeof *s);
    CHECK_TRUE(s != NULL);
    for (uint32_t k = 0; k < KEYS; k++) {
        s->key[k] = rig_hard_key(k, s->bytes[k]);
    }
    qsort(s->key, KEYS, sizeof s->key[0], compare_keys);
    for (uint32_t i = 0; i < KEYS; i++) {
        CHECK_TRUE(i == 0 || kv_slice_compare(s->key[i - 1], s->key[i]) < 0);
        size_t k = (size_t)((const uint8_t *)s->key[i].at - s->bytes[0]) / RIG_KEY_SIZE;
        s->rank[k] = i;
    }
    return s;
}

static struct tree_memtable *table_of(void)
{
    struct tree_memtable *m = NULL;
    CHECK_OK(tree_memtable_new(&(struct tree_memtable_options){.base_msn = 1}, &m));
    return m;
}

/* The neighbours of a rank among those that are in: -1 or KEYS if there is none. */
static int below(const bool *in, int rank)
{
    do {
        rank--;
    } while (rank >= 0 && !in[rank]);
    return rank;
}

static int above(const bool *in, int rank)
{
    do {
        rank++;
    } while (rank < (int)KEYS && !in[rank]);
    return rank;
}

static void check_entry(const struct sorted *s, const struct tree_memtable_entry *e, int rank)
{
    if (rank < 0 || rank == (int)KEYS) {
        CHECK_TRUE(e == NULL);
        return;
    }
    CHECK_TRUE(e != NULL);
    CHECK_EQ(kv_slice_compare(memtable_entry_key(e), s->key[rank]), 0);
}

static void check_around(const struct sorted *s, const struct memtable_table *t, const bool *in,
                         int rank)
{
    struct kv_slice key = s->key[rank];
    int low = below(in, rank), high = above(in, rank);
    check_entry(s, tree_memtable_find(t, key), in[rank] ? rank : -1);
    check_entry(s, tree_memtable_seek(t, key), in[rank] ? rank : high);
    check_entry(s, tree_memtable_seek_back(t, key), in[rank] ? rank : low);
    const struct tree_memtable_entry *e = tree_memtable_find(t, key);
    if (e != NULL) {
        check_entry(s, e->prev, low);
        check_entry(s, e->next, high);
    }
}

/* Inserts in an order of `step` (0: random) and looks around all the time. */
static void verify_order(const struct sorted *s, struct rand *r, uint32_t first, uint32_t step)
{
    struct tree_memtable *m = table_of();
    struct memtable_table *t = &m->keys;
    static bool in[KEYS];
    memset(in, 0, sizeof in);
    CHECK_TRUE(tree_memtable_seek(t, kv_slice_of(NULL, 0)) == NULL);
    CHECK_TRUE(tree_memtable_seek_back(t, kv_slice_of(NULL, 0)) == NULL);
    CHECK_TRUE(tree_memtable_find(t, s->key[0]) == NULL);
    for (uint32_t n = 0; n < KEYS; n++) {
        uint32_t i = step == 0 ? (uint32_t)rand_below(r, KEYS) : (first + n * step) % KEYS;
        struct tree_memtable_entry *e = tree_memtable_place(t, s->key[i]);
        check_entry(s, e, in[i] ? (int)i : -1);
        if (e == NULL) {
            check_entry(s, t->before, below(in, (int)i));
            CHECK_TRUE(tree_memtable_insert(m, t, s->key[i], NULL) != NULL);
            in[i] = true;
        }
        if (n % 8 == 0) {
            check_around(s, t, in, (int)i);
            check_around(s, t, in, (int)rand_below(r, KEYS));
        }
    }
    check_entry(s, tree_memtable_seek(t, kv_slice_of(NULL, 0)), above(in, -1));
    check_entry(s, tree_memtable_seek_back(t, kv_slice_of(NULL, 0)), below(in, (int)KEYS));
    CHECK_TRUE(atomic_load(&t->root)->height >= 2);
    tree_memtable_unref(m);
}

TEST(a_table_finds_all_neighbours)
{
    struct rand r;
    struct sorted *s = sorted_new();
    rand_seed(&r, testing_seed());
    verify_order(s, &r, 0, 1);
    verify_order(s, &r, KEYS - 1, KEYS - 1); /* descending */
    verify_order(s, &r, 0, 7001);            /* a few far apart, again and again */
    verify_order(s, &r, 0, 0);
    mem_free(s);
}

/* Fingerprints that are all the same: the index has no place for most of them, and knows that. */
TEST(keys_that_find_no_place_in_the_index_are_found)
{
    const uint32_t count = 1000;
    struct sorted *s = sorted_new();
    struct tree_memtable *m = table_of();
    struct memtable_table *t = &m->keys;
    for (uint32_t i = 0; i < count; i++) {
        CHECK_TRUE(tree_memtable_place(t, s->key[2 * i]) == NULL);
        t->print = 7;
        CHECK_TRUE(tree_memtable_insert(m, t, s->key[2 * i], NULL) != NULL);
    }
    CHECK_TRUE(atomic_load(&t->index_lacks));
    for (uint32_t i = 0; i < count; i++) {
        check_entry(s, tree_memtable_find_print(t, s->key[2 * i], 7), (int)(2 * i));
        check_entry(s, tree_memtable_find(t, s->key[2 * i]), (int)(2 * i));
        check_entry(s, tree_memtable_place(t, s->key[2 * i]), (int)(2 * i));
        CHECK_TRUE(tree_memtable_find_print(t, s->key[2 * i + 1], 7) == NULL);
        CHECK_TRUE(tree_memtable_find(t, s->key[2 * i + 1]) == NULL);
    }
    tree_memtable_unref(m);
    mem_free(s);
}

/* A memtable that is to become large has one large index soon; a small one grows with its keys. */
TEST(an_index_answers_alone)
{
    struct sorted *s = sorted_new();
    for (size_t limit = 65536; limit <= TREE_MEMTABLE_BYTES; limit *= 8) {
        struct tree_memtable *m = NULL;
        struct tree_memtable_options opt = {.base_msn = 1, .limit_bytes = limit};
        CHECK_OK(tree_memtable_new(&opt, &m));
        for (uint32_t i = 0; i < KEYS; i++) {
            struct tree_memtable_entry *e = NULL;
            uint64_t print = tree_fingerprint(s->key[i]);
            CHECK_TRUE(tree_memtable_index_find(&m->keys, s->key[i], print, &e) && e == NULL);
            CHECK_TRUE(tree_memtable_place(&m->keys, s->key[i]) == NULL);
            CHECK_TRUE(tree_memtable_insert(m, &m->keys, s->key[i], NULL) != NULL);
            CHECK_TRUE(tree_memtable_index_find(&m->keys, s->key[i], print, &e));
            check_entry(s, e, (int)i);
            print = tree_fingerprint(s->key[i / 2]);
            CHECK_TRUE(tree_memtable_index_find(&m->keys, s->key[i / 2], print, &e));
            check_entry(s, e, (int)(i / 2));
        }
        tree_memtable_unref(m);
    }
    mem_free(s);
}

/* ---- readers while it grows ---- */

struct growth {
    const struct sorted *sorted;
    struct tree_memtable *memtable;
    struct tree_snapshots *snapshots;
    uint32_t order[KEYS]; /* key i comes with msn 2 + i */
    _Atomic bool over;
};

struct growth_reader {
    struct growth *growth;
    pthread_t thread;
    uint64_t seed, looked;
    unsigned wrong;
};

/* A key that is there is found in every way, one that is not in none. */
static bool growth_look(const struct growth *g, uint32_t i, uint64_t limit)
{
    struct tree_memtable_cursor c;
    struct tree_memtable_found found;
    struct kv_slice key = g->sorted->key[g->order[i]];
    bool expected = 2 + i <= limit;
    tree_memtable_get(g->memtable, key, limit, &found);
    tree_memtable_cursor_init(&c, g->memtable, limit);
    bool good = found.message.msn == (expected ? 2 + i : 0);
    good = good && c.base.ops->find(&c.base, key) == (expected ? 1 : 0);
    int rc = c.base.ops->seek(&c.base, key);
    good = good && expected == (rc == 1 && kv_slice_compare(c.base.key, key) == 0);
    if (rc == 1 && c.base.ops->prev(&c.base) == 1) {
        good = good && kv_slice_compare(c.base.key, key) < 0;
        rc = c.base.ops->next(&c.base);
        good = good && rc == 1 && kv_slice_compare(c.base.key, key) >= 0;
    }
    rc = c.base.ops->seek_back(&c.base, key);
    return good && expected == (rc == 1 && kv_slice_compare(c.base.key, key) == 0);
}

static void *growth_read(void *arg)
{
    struct growth_reader *r = arg;
    struct growth *g = r->growth;
    struct rand rand;
    rand_seed(&rand, r->seed);
    do {
        struct tree_snapshot snapshot;
        if (tree_snapshots_take(g->snapshots, &snapshot) < 0) {
            r->wrong++;
            break;
        }
        for (unsigned n = 0; n < 20; n++) {
            uint64_t i = rand_below(&rand, KEYS);
            if (snapshot.limit > 1 && rand_chance(&rand, 1, 2)) { /* what came just now */
                i = snapshot.limit - 2 - rand_below(&rand, base_min(snapshot.limit - 1, 8));
            }
            r->wrong += growth_look(g, (uint32_t)i, snapshot.limit) ? 0U : 1U;
            r->looked++;
        }
        tree_snapshots_release(g->snapshots, &snapshot);
    } while (!g->over);
    return NULL;
}

static void growth_write(struct growth *g)
{
    struct kv_batch b = {0};
    for (uint32_t i = 0; i < KEYS; i++) {
        struct tree_superseded superseded;
        kv_batch_clear(&b);
        CHECK_OK(kv_batch_put(&b, g->sorted->key[g->order[i]], kv_slice_of("v", 1)));
        CHECK_OK(tree_memtable_apply(g->memtable, &b, 2 + i, tree_snapshots_look(g->snapshots),
                                     &superseded));
        tree_snapshots_publish(g->snapshots, 2 + i, &superseded);
        if (i % 64 == 0) {
            (void)sched_yield();
        }
    }
    kv_batch_fini(&b);
}

TEST(readers_find_what_is_published_while_a_table_grows)
{
    static struct growth g;
    struct growth_reader reader[3];
    struct rand r;
    struct sorted *s = sorted_new();
    g = (struct growth){.sorted = s, .memtable = table_of()};
    struct tree_snapshots_options opt = {.count_max = 8, .published = 1};
    CHECK_OK(tree_snapshots_new(&opt, &g.snapshots));
    rand_seed(&r, testing_seed());
    for (uint32_t i = 0; i < KEYS; i++) { /* a random order */
        uint32_t j = (uint32_t)rand_below(&r, i + 1);
        g.order[i] = g.order[j];
        g.order[j] = i;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(reader); i++) {
        reader[i] = (struct growth_reader){.growth = &g, .seed = testing_seed() + i};
        CHECK_EQ(pthread_create(&reader[i].thread, NULL, growth_read, &reader[i]), 0);
    }
    growth_write(&g);
    g.over = true;
    for (unsigned i = 0; i < ARRAY_COUNT(reader); i++) {
        CHECK_EQ(pthread_join(reader[i].thread, NULL), 0);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(reader); i++) {
        CHECK_EQ(reader[i].wrong, 0);
        CHECK_TRUE(reader[i].looked > 0);
    }
    tree_memtable_unref(g.memtable);
    tree_snapshots_free(g.snapshots);
    mem_free(s);
}
