/*
 * disk/cache_test.c -- what is found is what was last filled, whatever is held, forgotten and
 * replaced meanwhile; who is replaced follows a model of a few lines; scans pass through.
 */
#include "disk/cache.h"

#include "base/err.h"
#include "base/rand.h"
#include "testing/testing.h"

#include <string.h>

#define BLOCK 4096u
#define PER_BLOCK (BLOCK + 2 * 48 + 20) /* what one takes in all */

static struct disk_cache *cache_of(uint32_t blocks)
{
    struct disk_cache *c = NULL;
    const struct disk_cache_options opt = {.limit_bytes = (uint64_t)blocks * PER_BLOCK,
                                           .block_bytes = BLOCK};
    struct disk_cache_info info;
    CHECK_OK(disk_cache_new(&opt, &c));
    disk_cache_info(c, &info);
    CHECK_EQ(info.limit_blocks, blocks);
    return c;
}

static struct disk_cache_key key(uint64_t owner, uint64_t block)
{
    return (struct disk_cache_key){owner, block};
}

static void put_word(const struct disk_cache_hold *h, uint64_t value)
{
    memcpy(h->at, &value, sizeof value);
    memcpy(h->at + BLOCK - sizeof value, &value, sizeof value);
}

static bool has_word(const struct disk_cache_hold *h, uint64_t value)
{
    return memcmp(h->at, &value, sizeof value) == 0 &&
           memcmp(h->at + BLOCK - sizeof value, &value, sizeof value) == 0;
}

/* A read as users do it. True: a hit. */
static bool use(struct disk_cache *c, uint64_t owner, uint64_t block)
{
    struct disk_cache_hold h;
    uint64_t value = owner * 1000003 + block;
    bool hit = disk_cache_get(c, key(owner, block), &h);
    if (hit) {
        CHECK_TRUE(has_word(&h, value));
    } else {
        CHECK_OK(disk_cache_reserve(c, key(owner, block), &h));
        put_word(&h, value);
        disk_cache_fill(c, &h, BLOCK);
    }
    disk_cache_release(c, &h);
    return hit;
}

static bool is_there(struct disk_cache *c, uint64_t owner, uint64_t block)
{
    struct disk_cache_hold h;
    if (!disk_cache_get(c, key(owner, block), &h)) {
        return false;
    }
    disk_cache_release(c, &h);
    return true;
}

/* ---- One by one ---- */

TEST(options_are_checked)
{
    static const struct disk_cache_options bad[] = {
        {.limit_bytes = 1u << 20, .block_bytes = 0},
        {.limit_bytes = 1u << 20, .block_bytes = 2048},
        {.limit_bytes = 1u << 20, .block_bytes = 5000},
        {.limit_bytes = 15 * PER_BLOCK, .block_bytes = BLOCK},
        {.limit_bytes = UINT64_MAX, .block_bytes = BLOCK},
    };
    struct disk_cache *c = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        CHECK_RC(disk_cache_new(&bad[i], &c), EINVAL);
    }
    CHECK_TRUE(disk_cache_free(NULL) == NULL);
}

TEST_TORTURE(what_it_takes_is_charged)
{
    struct mem_budget budget;
    mem_budget_init(&budget, NULL, 1u << 20);
    const struct disk_cache_options opt = {
        .limit_bytes = 1u << 20, .block_bytes = BLOCK, .budget = &budget};
    CLEANUP(disk_cache_freep) struct disk_cache *c = NULL;
    TRY(disk_cache_new(&opt, &c));
    CHECK_EQ(budget.used_bytes, 1u << 20);
    struct disk_cache *second = NULL;
    CHECK_RC(disk_cache_new(&opt, &second), ENOMEM);
    c = disk_cache_free(c);
    CHECK_EQ(budget.used_bytes, 0);
}

TEST(what_was_filled_is_found)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(16);
    struct disk_cache_hold h, again, other;
    struct disk_cache_info info;
    CHECK_TRUE(!disk_cache_get(c, key(1, 7), &h));
    CHECK_OK(disk_cache_reserve(c, key(1, 7), &h));
    CHECK_EQ((uintptr_t)h.at % BLOCK, 0);
    CHECK_TRUE(!disk_cache_get(c, key(1, 7), &other)); /* not yet */
    CHECK_RC(disk_cache_reserve(c, key(1, 7), &other), EEXIST);
    put_word(&h, 5);
    disk_cache_fill(c, &h, 100);
    CHECK_EQ(h.len, 100);
    CHECK_RC(disk_cache_reserve(c, key(1, 7), &other), EEXIST);
    CHECK_TRUE(disk_cache_get(c, key(1, 7), &again));
    CHECK_TRUE(again.at == h.at);
    CHECK_EQ(again.len, 100);
    CHECK_TRUE(!disk_cache_get(c, key(7, 1), &other));
    disk_cache_info(c, &info);
    CHECK_EQ(info.held, 1);
    CHECK_EQ(info.blocks, 1);
    CHECK_EQ(info.hits, 1);
    CHECK_EQ(info.misses, 3);
    disk_cache_release(c, &h);
    CHECK_TRUE(h.at == NULL);
    CHECK_TRUE(has_word(&again, 5));
    disk_cache_release(c, &again);
    disk_cache_info(c, &info);
    CHECK_EQ(info.held, 0);
    CHECK_EQ(info.blocks, 1);
    disk_cache_check(c);
}

TEST(what_could_not_be_read_is_not_there)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(16);
    struct disk_cache_hold h;
    struct disk_cache_info info;
    CHECK_OK(disk_cache_reserve(c, key(1, 7), &h));
    disk_cache_release(c, &h);
    CHECK_TRUE(!is_there(c, 1, 7));
    disk_cache_info(c, &info);
    CHECK_EQ(info.blocks, 0);
    disk_cache_check(c);
    CHECK_TRUE(!use(c, 1, 7));
    CHECK_TRUE(use(c, 1, 7));
}

TEST(what_is_forgotten_stays_with_those_who_hold_it)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(16);
    struct disk_cache_hold h, fresh;
    (void)use(c, 1, 7);
    CHECK_TRUE(disk_cache_get(c, key(1, 7), &h));
    disk_cache_forget(c, 1, 7, 1);
    CHECK_TRUE(!is_there(c, 1, 7));
    CHECK_TRUE(has_word(&h, 1000010));
    CHECK_OK(disk_cache_reserve(c, key(1, 7), &fresh)); /* the new content, meanwhile */
    CHECK_TRUE(fresh.at != h.at);
    put_word(&fresh, 99);
    disk_cache_fill(c, &fresh, BLOCK);
    CHECK_TRUE(has_word(&h, 1000010));
    disk_cache_check(c);
    disk_cache_release(c, &h);
    disk_cache_release(c, &fresh);
    CHECK_TRUE(disk_cache_get(c, key(1, 7), &h));
    CHECK_TRUE(has_word(&h, 99));
    disk_cache_release(c, &h);
    disk_cache_check(c);
}

/* Read before a change and filled after it: nobody else may see it. */
TEST(what_is_forgotten_while_it_is_read_is_never_found)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(16);
    struct disk_cache_hold h;
    struct disk_cache_info info;
    CHECK_OK(disk_cache_reserve(c, key(1, 7), &h));
    put_word(&h, 5);
    disk_cache_forget(c, 1, 0, UINT64_MAX);
    disk_cache_fill(c, &h, BLOCK);
    CHECK_TRUE(!is_there(c, 1, 7));
    CHECK_TRUE(has_word(&h, 5));
    disk_cache_check(c);
    disk_cache_release(c, &h);
    disk_cache_info(c, &info);
    CHECK_EQ(info.blocks, 0);
    CHECK_EQ(info.forgotten, 1);
    disk_cache_check(c);
}

TEST(ranges_are_forgotten_and_nothing_beside_them)
{
    static const struct {
        uint64_t first, count;
    } ranges[] = {{10, 3}, {10, 90}, {0, UINT64_MAX}, {12, 0}, {UINT64_MAX, 5}, {5, UINT64_MAX}};
    for (size_t k = 0; k < ARRAY_COUNT(ranges); k++) {
        CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(100);
        for (uint64_t i = 0; i < 40; i++) {
            (void)use(c, 1, i);
            (void)use(c, 2, i);
        }
        (void)use(c, 1, UINT64_MAX);
        disk_cache_forget(c, 1, ranges[k].first, ranges[k].count);
        for (uint64_t i = 0; i < 40; i++) {
            bool gone = i >= ranges[k].first && i - ranges[k].first < ranges[k].count;
            CHECK_EQ(is_there(c, 1, i), !gone);
            CHECK_TRUE(is_there(c, 2, i));
        }
        bool last = UINT64_MAX - ranges[k].first < ranges[k].count;
        CHECK_EQ(is_there(c, 1, UINT64_MAX), !last);
        disk_cache_check(c);
    }
}

TEST(held_blocks_are_not_replaced)
{
    enum { COUNT = 32 };
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(COUNT);
    struct disk_cache_hold h[COUNT], more;
    struct disk_cache_info info;
    for (uint64_t i = 0; i < COUNT; i++) {
        (void)use(c, 1, i);
        (void)use(c, 1, i);
        (void)use(c, 1, i); /* so that half of them get into the main queue */
    }
    for (uint64_t i = 0; i < COUNT / 2; i++) {
        (void)use(c, 2, i);
    }
    unsigned held = 0;
    for (uint64_t i = 0; i < COUNT; i++) {
        held += disk_cache_get(c, key(1, i), &h[held]) ? 1 : 0;
    }
    for (uint64_t i = 0; i < COUNT && held < COUNT; i++) {
        held += disk_cache_get(c, key(2, i), &h[held]) ? 1 : 0;
    }
    CHECK_EQ(held, COUNT);
    CHECK_ERR(disk_cache_reserve(c, key(3, 1), &more), ERR_busy);
    disk_cache_release(c, &h[COUNT / 2]);
    CHECK_OK(disk_cache_reserve(c, key(3, 1), &more));
    CHECK_ERR(disk_cache_reserve(c, key(3, 2), &h[COUNT / 2]), ERR_busy);
    disk_cache_check(c);
    disk_cache_release(c, &more);
    disk_cache_info(c, &info);
    CHECK_EQ(info.held, COUNT - 1);
    CHECK_EQ(info.refused, 2);
    for (unsigned i = 0; i < COUNT; i++) {
        if (i != COUNT / 2) {
            disk_cache_release(c, &h[i]);
        }
    }
    disk_cache_check(c);
}

TEST(counts_show_in_statistics)
{
    struct stats *root = stats_new(NULL, "test");
    const struct disk_cache_options opt = {
        .limit_bytes = 1u << 20, .block_bytes = BLOCK, .stats = root};
    struct disk_cache *c = NULL;
    CHECK_TRUE(root != NULL);
    CHECK_OK(disk_cache_new(&opt, &c));
    size_t len = 0;
    uint8_t *memory = disk_cache_memory(c, &len);
    struct disk_cache_info info;
    disk_cache_info(c, &info);
    CHECK_EQ(len, info.limit_blocks * BLOCK);
    struct disk_cache_hold h;
    CHECK_OK(disk_cache_reserve(c, key(1, 1), &h));
    CHECK_TRUE(h.at >= memory && h.at + BLOCK <= memory + len);
    disk_cache_release(c, &h);
    disk_cache_free(c);
    stats_free(root);
}

/* ---- Against models ---- */

/* Bytes: whoever finds a block finds what was stored last; what is held does not change. */
#define OWNERS 3u
#define BLOCKS 150u
#define HOLDS 12u
struct reader {
    struct disk_cache_hold hold;
    struct disk_cache_key key;
    uint64_t value; /* the bytes */
    bool filled;
};
struct medium {
    struct disk_cache *cache;
    struct rand rand;
    uint64_t stored[OWNERS][BLOCKS], version;
    struct reader reader[HOLDS]; /* hold.at NULL: free */
    unsigned hits, late;
};

static uint64_t *stored_at(struct medium *m, struct disk_cache_key k)
{
    return &m->stored[k.owner][k.block];
}

static void medium_read(struct medium *m, struct reader *x)
{
    x->key = key(rand_below(&m->rand, OWNERS), rand_below(&m->rand, BLOCKS));
    x->value = *stored_at(m, x->key);
    x->filled = disk_cache_get(m->cache, x->key, &x->hold);
    if (x->filled) {
        CHECK_TRUE(has_word(&x->hold, x->value));
        m->hits++;
        return;
    }
    int rc = disk_cache_reserve(m->cache, x->key, &x->hold);
    CHECK_TRUE(rc == 0 || rc == -EEXIST || rc == -ERR_busy);
    if (rc < 0) {
        x->hold.at = NULL;
    }
}

/* The bytes of a read are those of the time when it began. */
static void medium_go_on(struct medium *m, struct reader *x)
{
    if (!x->filled && rand_chance(&m->rand, 4, 5)) {
        put_word(&x->hold, x->value);
        disk_cache_fill(m->cache, &x->hold, BLOCK);
        x->filled = true;
        m->late += x->value != *stored_at(m, x->key) ? 1 : 0;
        return;
    }
    CHECK_TRUE(!x->filled || has_word(&x->hold, x->value));
    disk_cache_release(m->cache, &x->hold);
}

static void medium_write(struct medium *m)
{
    uint64_t owner = rand_below(&m->rand, OWNERS), first = rand_below(&m->rand, BLOCKS);
    uint64_t count = rand_chance(&m->rand, 1, 10) ? BLOCKS : rand_range(&m->rand, 1, 3);
    for (uint64_t i = first; i < BLOCKS && i - first < count; i++) {
        *stored_at(m, key(owner, i)) = ++m->version;
    }
    disk_cache_forget(m->cache, owner, first, count);
}

TEST(whatever_happens_the_bytes_are_right)
{
    static struct medium m;
    m = (struct medium){.cache = cache_of(100)};
    rand_seed(&m.rand, testing_seed());
    for (unsigned i = 0; i < 100000; i++) {
        struct reader *x = &m.reader[rand_below(&m.rand, HOLDS)];
        if (rand_chance(&m.rand, 1, 30)) {
            medium_write(&m);
        } else if (x->hold.at == NULL) {
            medium_read(&m, x);
        } else {
            medium_go_on(&m, x);
        }
        if (i % 97 == 0) {
            disk_cache_check(m.cache);
        }
    }
    CHECK_TRUE(m.hits > 1000);
    CHECK_TRUE(m.late > 10); /* filled with what was not stored any more */
    for (unsigned i = 0; i < HOLDS; i++) {
        if (m.reader[i].hold.at != NULL) {
            disk_cache_release(m.cache, &m.reader[i].hold);
        }
    }
    disk_cache_check(m.cache);
    disk_cache_free(m.cache);
}

/* Who is replaced: the paper's rules over plain arrays, the oldest first. */
#define MODEL_MAX 2000u
struct row {
    uint64_t block[MODEL_MAX];
    unsigned uses[MODEL_MAX], count;
};
struct model {
    unsigned limit;
    struct row small, main, ghost;
};

static unsigned row_find(const struct row *r, uint64_t block)
{
    unsigned i = 0;
    while (i < r->count && r->block[i] != block) {
        i++;
    }
    return i;
}

static void row_remove(struct row *r, unsigned at)
{
    r->count--;
    memmove(&r->block[at], &r->block[at + 1], (r->count - at) * sizeof r->block[0]);
    memmove(&r->uses[at], &r->uses[at + 1], (r->count - at) * sizeof r->uses[0]);
}

static void row_push(struct row *r, uint64_t block, unsigned uses)
{
    CHECK(r->count < MODEL_MAX);
    r->block[r->count] = block;
    r->uses[r->count++] = uses;
}

static void model_evict(struct model *m)
{
    bool small = m->small.count > 0 && (m->small.count >= m->limit / 10 || m->main.count == 0);
    struct row *from = small ? &m->small : &m->main;
    uint64_t block = from->block[0];
    unsigned uses = from->uses[0];
    row_remove(from, 0);
    if (small && uses >= 2) {
        row_push(&m->main, block, 0);
    } else if (!small && uses > 0) {
        row_push(&m->main, block, uses - 1);
    } else if (small) {
        row_push(&m->ghost, block, 0);
        if (m->ghost.count > m->limit) {
            row_remove(&m->ghost, 0);
        }
    }
}

static bool model_use(struct model *m, uint64_t block)
{
    struct row *rows[] = {&m->small, &m->main};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        unsigned at = row_find(rows[i], block);
        if (at < rows[i]->count) {
            rows[i]->uses[at] += rows[i]->uses[at] < 3 ? 1 : 0;
            return true;
        }
    }
    while (m->small.count + m->main.count >= m->limit) {
        model_evict(m);
    }
    unsigned ghost = row_find(&m->ghost, block);
    bool returns = ghost < m->ghost.count;
    if (returns) {
        row_remove(&m->ghost, ghost);
    }
    row_push(returns ? &m->main : &m->small, block, 0);
    return false;
}

/* The least recently used goes: what the numbers below are compared with. */
static bool lru_use(struct row *r, unsigned limit, uint64_t block)
{
    unsigned at = row_find(r, block);
    bool hit = at < r->count;
    if (hit || r->count == limit) {
        row_remove(r, hit ? at : 0);
    }
    row_push(r, block, 0);
    return hit;
}

/* Some are wanted often, most seldom (Zipf). */
#define NAMES 4000u
struct zipf {
    uint64_t sum[NAMES];
};
static void zipf_init(struct zipf *z)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < NAMES; i++) {
        sum += 1000000000u / (i + 1);
        z->sum[i] = sum;
    }
}
static uint64_t zipf_draw(const struct zipf *z, struct rand *r)
{
    uint64_t at = rand_below(r, z->sum[NAMES - 1]);
    unsigned low = 0, high = NAMES - 1;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (z->sum[middle] > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

TEST(who_is_replaced_follows_the_model)
{
    static struct zipf z;
    static struct model m;
    static struct row lru;
    struct rand r;
    unsigned hits = 0, lru_hits = 0;
    m = (struct model){.limit = 200};
    lru = (struct row){.count = 0};
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(m.limit);
    zipf_init(&z);
    rand_seed(&r, testing_seed());
    uint64_t scan = NAMES;
    for (unsigned i = 0; i < 60000; i++) {
        /* Every now and then something is read from its beginning to its end. */
        uint64_t block = i % 10000 < 1000 ? scan++ : zipf_draw(&z, &r);
        bool hit = use(c, 1, block);
        CHECK_EQ(hit, model_use(&m, block));
        hits += hit ? 1 : 0;
        lru_hits += lru_use(&lru, m.limit, block) ? 1 : 0;
    }
    struct disk_cache_info info;
    disk_cache_info(c, &info);
    CHECK_EQ(info.small, m.small.count);
    CHECK_EQ(info.main, m.main.count);
    CHECK_EQ(info.ghosts, m.ghost.count);
    CHECK_EQ(info.hits, hits);
    CHECK_TRUE(info.ghost_hits > 1000);
    CHECK_TRUE(hits > lru_hits + lru_hits / 10);
    disk_cache_check(c);
}

/* ---- Scans ---- */

#define HOT 600u
#define SIZE 1000u

static unsigned use_hot(struct disk_cache *c, uint64_t owner)
{
    unsigned hits = 0;
    for (uint64_t i = 0; i < HOT; i++) {
        hits += use(c, owner, i) ? 1 : 0;
    }
    return hits;
}

/* Ten times as much as the cache holds is read once: what is used again and again stays, all of
 * it, where LRU would have kept nothing. */
TEST(a_scan_costs_nothing)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(SIZE);
    static struct row lru;
    lru = (struct row){.count = 0};
    for (unsigned i = 0; i < 4; i++) {
        (void)use_hot(c, 1);
    }
    for (uint64_t i = 0; i < HOT; i++) {
        (void)lru_use(&lru, SIZE, i);
    }
    for (uint64_t i = 0; i < 10 * (uint64_t)SIZE; i++) {
        CHECK_TRUE(!use(c, 2, i));
        (void)lru_use(&lru, SIZE, HOT + i);
    }
    unsigned lru_hits = 0;
    for (uint64_t i = 0; i < HOT; i++) {
        lru_hits += lru_use(&lru, SIZE, i) ? 1 : 0;
    }
    CHECK_EQ(lru_hits, 0);
    CHECK_EQ(use_hot(c, 1), HOT);
    disk_cache_check(c);
}

/* The same when each block is asked for twice, in halves. */
TEST(a_scan_in_halves_costs_nothing)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(SIZE);
    for (unsigned i = 0; i < 4; i++) {
        (void)use_hot(c, 1);
    }
    for (uint64_t i = 0; i < 10 * (uint64_t)SIZE; i++) {
        CHECK_TRUE(!use(c, 2, i));
        CHECK_TRUE(use(c, 2, i));
    }
    CHECK_EQ(use_hot(c, 1), HOT);
}

/* Twenty blocks of a scan for each that is wanted, without an end. */
TEST(a_scan_beside_costs_nothing)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(SIZE);
    uint64_t scan = 0;
    unsigned hits = 0, asked = 0;
    for (unsigned i = 0; i < 4; i++) {
        (void)use_hot(c, 1);
    }
    for (unsigned round = 0; round < 5; round++) {
        for (uint64_t i = 0; i < HOT; i++) {
            hits += use(c, 1, i) ? 1 : 0;
            asked++;
            for (unsigned k = 0; k < 20; k++) {
                (void)use(c, 2, scan++);
            }
        }
    }
    CHECK_EQ(hits, asked);
}

/* What was wanted before does not stay for ever. */
TEST(what_is_wanted_changes)
{
    CLEANUP(disk_cache_freep) struct disk_cache *c = cache_of(SIZE);
    for (unsigned i = 0; i < 10; i++) {
        (void)use_hot(c, 1);
    }
    CHECK_EQ(use_hot(c, 1), HOT);
    unsigned rounds = 0;
    while (use_hot(c, 2) < HOT) {
        rounds++;
        CHECK_TRUE(rounds <= 5);
    }
    CHECK_EQ(use_hot(c, 2), HOT);
    disk_cache_check(c);
}
