/*
 * disk/cache.c -- see cache.h.
 *
 * Replacement: S3-FIFO (J. Yang, Y. Zhang, Z. Qiu, Y. Yue, K. V. Rashmi, "FIFO Queues are All You
 * Need for Cache Eviction", SOSP 2023; doc/design/0035). New blocks enter the small queue, a tenth
 * of the cache. At its end those that were used more than once since go to the main queue; of the
 * others the name stays as a ghost. What is asked for while its ghost is there enters the main
 * queue at once. At the end of the main queue a block goes round again as often as it was used, at
 * most three times. Held blocks go round without being asked.
 *
 * Invariants: a slot of memory belongs to one entry that is FILLING, SMALL, MAIN or GONE, or is
 * free; entries that can be found (FILLING, SMALL, MAIN, GHOST) are in the hash table, and no two
 * of them have one key; `idle` of a queue counts its blocks that nobody holds, so that room is
 * looked for only where there is some.
 */
#include "disk/cache.h"

#include "base/err.h"

#include <string.h>

#define NONE UINT32_MAX
#define BLOCK_MIN 4096u
#define BLOCKS_MAX (UINT32_MAX / 8)
#define SMALL_PART 10u /* of the cache */
#define USES_MAX 3u
#define USES_WORTH 2u /* since it came: more than the one read that brought it, and one after */
#define WALK_PART 8u  /* a longer range than such a part of the entries: all are looked at */

enum cache_state {
    CACHE_FREE,
    CACHE_FILLING,
    CACHE_SMALL,
    CACHE_MAIN,
    CACHE_GHOST, /* a name without a block */
    CACHE_GONE,  /* forgotten and held */
};

struct cache_entry {
    struct disk_cache_key key;
    uint32_t hash_next;  /* of its bucket */
    uint32_t next, prev; /* of its queue, or of the free ones */
    uint32_t slot, len, holds;
    uint8_t state, uses;
    bool returns; /* FILLING: its ghost was met */
};

struct cache_queue {
    uint32_t newest, oldest; /* NONE: empty */
    uint32_t count, idle;
};

struct cache_stats {
    struct stats *group;
    struct stats_counter hits, misses, ghost_hits, evictions, forgotten, refused;
    struct stats_gauge blocks, held;
};

struct disk_cache {
    uint8_t *memory;
    struct cache_entry *entry; /* twice as many as slots */
    uint32_t *bucket, *free_slot;
    uint32_t bucket_mask, slot_count, free_slots, free_entry, block_bytes, held;
    struct cache_queue small, main, ghost;
    struct mem_budget *budget;
    uint64_t charged_bytes;
    struct cache_stats stats;
};

/* ---- Names ---- */

static uint32_t cache_bucket(const struct disk_cache *c, struct disk_cache_key key)
{
    uint64_t x = key.owner * UINT64_C(0x9e3779b97f4a7c15) + key.block;
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return (uint32_t)(x >> 32) & c->bucket_mask;
}

static struct cache_entry *cache_find(const struct disk_cache *c, struct disk_cache_key key)
{
    uint32_t at = c->bucket[cache_bucket(c, key)];
    while (at != NONE &&
           (c->entry[at].key.block != key.block || c->entry[at].key.owner != key.owner)) {
        at = c->entry[at].hash_next;
    }
    return at == NONE ? NULL : &c->entry[at];
}

static uint32_t cache_index(const struct disk_cache *c, const struct cache_entry *e)
{
    return (uint32_t)(e - c->entry);
}

static void cache_name(struct disk_cache *c, struct cache_entry *e, struct disk_cache_key key)
{
    uint32_t *bucket = &c->bucket[cache_bucket(c, key)];
    e->key = key;
    e->hash_next = *bucket;
    *bucket = cache_index(c, e);
}

static void cache_unname(struct disk_cache *c, const struct cache_entry *e)
{
    uint32_t *at = &c->bucket[cache_bucket(c, e->key)];
    uint32_t index = cache_index(c, e);
    while (*at != index) {
        CHECK(*at != NONE);
        at = &c->entry[*at].hash_next;
    }
    *at = e->hash_next;
}

/* ---- Queues ---- */

static struct cache_queue *cache_queue_of(struct disk_cache *c, const struct cache_entry *e)
{
    return e->state == CACHE_SMALL ? &c->small : e->state == CACHE_MAIN ? &c->main : &c->ghost;
}

static void queue_put(struct disk_cache *c, struct cache_entry *e, enum cache_state state)
{
    e->state = (uint8_t)state;
    struct cache_queue *q = cache_queue_of(c, e);
    uint32_t index = cache_index(c, e);
    e->next = q->newest;
    e->prev = NONE;
    if (q->newest == NONE) {
        q->oldest = index;
    } else {
        c->entry[q->newest].prev = index;
    }
    q->newest = index;
    q->count++;
    q->idle += e->holds == 0 ? 1 : 0;
}

static void queue_take(struct disk_cache *c, const struct cache_entry *e)
{
    struct cache_queue *q = cache_queue_of(c, e);
    uint32_t *before = e->prev == NONE ? &q->newest : &c->entry[e->prev].next;
    uint32_t *after = e->next == NONE ? &q->oldest : &c->entry[e->next].prev;
    *before = e->next;
    *after = e->prev;
    q->count--;
    q->idle -= e->holds == 0 ? 1 : 0;
}

/* ---- Entries and their blocks ---- */

/* There is one: see the number of entries. */
static struct cache_entry *entry_new(struct disk_cache *c)
{
    CHECK(c->free_entry != NONE);
    struct cache_entry *e = &c->entry[c->free_entry];
    CHECK(e->state == CACHE_FREE);
    c->free_entry = e->next;
    return e;
}

static void entry_free(struct disk_cache *c, struct cache_entry *e)
{
    *e = (struct cache_entry){.state = CACHE_FREE, .next = c->free_entry, .slot = NONE};
    c->free_entry = cache_index(c, e);
}

static void slot_give(struct disk_cache *c, struct cache_entry *e)
{
    CHECK(e->slot != NONE && e->holds == 0);
    c->free_slot[c->free_slots++] = e->slot;
    e->slot = NONE;
    stats_gauge_add(&c->stats.blocks, -1);
}

static void entry_hold(struct disk_cache *c, struct cache_entry *e, struct disk_cache_hold *ret)
{
    bool first = e->holds++ == 0;
    c->held += first ? 1 : 0;
    stats_gauge_add(&c->stats.held, first ? 1 : 0);
    *ret = (struct disk_cache_hold){.at = c->memory + (size_t)e->slot * c->block_bytes,
                                    .len = e->len,
                                    .entry = cache_index(c, e)};
}

/* ---- Replacement ---- */

static void ghost_end(struct disk_cache *c, struct cache_entry *e)
{
    queue_take(c, e);
    cache_unname(c, e);
    entry_free(c, e);
}

static void evict_main(struct disk_cache *c)
{
    struct cache_entry *e = &c->entry[c->main.oldest];
    queue_take(c, e);
    if (e->holds > 0) {
        queue_put(c, e, CACHE_MAIN);
        return;
    }
    if (e->uses > 0) {
        e->uses--;
        queue_put(c, e, CACHE_MAIN);
        return;
    }
    slot_give(c, e);
    cache_unname(c, e);
    entry_free(c, e);
    stats_count(&c->stats.evictions, 1);
}

static void evict_small(struct disk_cache *c)
{
    struct cache_entry *e = &c->entry[c->small.oldest];
    queue_take(c, e);
    if (e->holds > 0) {
        queue_put(c, e, CACHE_SMALL);
        return;
    }
    if (e->uses >= USES_WORTH) {
        e->uses = 0;
        queue_put(c, e, CACHE_MAIN);
        return;
    }
    slot_give(c, e);
    queue_put(c, e, CACHE_GHOST);
    stats_count(&c->stats.evictions, 1);
    if (c->ghost.count > c->slot_count) {
        ghost_end(c, &c->entry[c->ghost.oldest]);
    }
}

/* Each step brings an idle block nearer to its end: a block goes round at most USES_MAX times. */
static bool make_room(struct disk_cache *c)
{
    while (c->free_slots == 0 && c->small.idle + c->main.idle > 0) {
        bool full = c->small.count >= c->slot_count / SMALL_PART || c->main.idle == 0;
        if (c->small.idle > 0 && full) {
            evict_small(c);
        } else {
            evict_main(c);
        }
    }
    return c->free_slots > 0;
}

/* ---- Interface ---- */

bool disk_cache_get(struct disk_cache *c, struct disk_cache_key key, struct disk_cache_hold *ret)
{
    struct cache_entry *e = cache_find(c, key);
    if (e == NULL || (e->state != CACHE_SMALL && e->state != CACHE_MAIN)) {
        stats_count(&c->stats.misses, 1);
        return false;
    }
    stats_count(&c->stats.hits, 1);
    cache_queue_of(c, e)->idle -= e->holds == 0 ? 1 : 0;
    e->uses = (uint8_t)base_min(e->uses + 1u, USES_MAX);
    entry_hold(c, e, ret);
    return true;
}

int disk_cache_reserve(struct disk_cache *c, struct disk_cache_key key, struct disk_cache_hold *ret)
{
    struct cache_entry *e = cache_find(c, key);
    if (e != NULL && e->state != CACHE_GHOST) {
        return -EEXIST;
    }
    if (!make_room(c)) {
        stats_count(&c->stats.refused, 1);
        return -ERR_busy;
    }
    e = cache_find(c, key); /* to make room a ghost may have gone */
    bool returns = e != NULL;
    if (returns) {
        stats_count(&c->stats.ghost_hits, 1);
        ghost_end(c, e);
    }
    e = entry_new(c);
    *e = (struct cache_entry){
        .state = CACHE_FILLING, .returns = returns, .slot = c->free_slot[--c->free_slots]};
    cache_name(c, e, key);
    stats_gauge_add(&c->stats.blocks, 1);
    entry_hold(c, e, ret);
    return 0;
}

static struct cache_entry *held_entry(struct disk_cache *c, const struct disk_cache_hold *h)
{
    CHECK(h->at != NULL && h->entry < 2 * c->slot_count);
    struct cache_entry *e = &c->entry[h->entry];
    CHECK(e->holds > 0);
    return e;
}

void disk_cache_fill(struct disk_cache *c, struct disk_cache_hold *h, uint32_t len)
{
    struct cache_entry *e = held_entry(c, h);
    CHECK(len <= c->block_bytes);
    CHECK(e->state == CACHE_FILLING || e->state == CACHE_GONE);
    e->len = len;
    h->len = len;
    if (e->state == CACHE_FILLING) {
        queue_put(c, e, e->returns ? CACHE_MAIN : CACHE_SMALL);
    }
}

void disk_cache_release(struct disk_cache *c, struct disk_cache_hold *h)
{
    struct cache_entry *e = held_entry(c, h);
    *h = (struct disk_cache_hold){.at = NULL};
    if (--e->holds > 0) {
        return;
    }
    c->held--;
    stats_gauge_add(&c->stats.held, -1);
    if (e->state == CACHE_SMALL || e->state == CACHE_MAIN) {
        cache_queue_of(c, e)->idle++;
        return;
    }
    if (e->state == CACHE_FILLING) { /* it could not be read */
        cache_unname(c, e);
    }
    slot_give(c, e);
    entry_free(c, e);
}

static void cache_drop(struct disk_cache *c, struct cache_entry *e)
{
    if (e->state == CACHE_GHOST) {
        ghost_end(c, e);
        return;
    }
    stats_count(&c->stats.forgotten, 1);
    cache_unname(c, e);
    if (e->state != CACHE_FILLING) {
        queue_take(c, e);
    }
    e->state = CACHE_GONE;
    if (e->holds == 0) {
        slot_give(c, e);
        entry_free(c, e);
    }
}

void disk_cache_forget(struct disk_cache *c, uint64_t owner, uint64_t first, uint64_t count)
{
    uint32_t entry_count = 2 * c->slot_count;
    if (count <= entry_count / WALK_PART) {
        for (uint64_t i = 0; i < count && first + i >= first; i++) {
            struct cache_entry *e = cache_find(c, (struct disk_cache_key){owner, first + i});
            if (e != NULL) {
                cache_drop(c, e);
            }
        }
        return;
    }
    for (uint32_t i = 0; i < entry_count; i++) {
        struct cache_entry *e = &c->entry[i];
        bool found = e->state != CACHE_FREE && e->state != CACHE_GONE;
        if (found && e->key.owner == owner && e->key.block - first < count &&
            e->key.block >= first) {
            cache_drop(c, e);
        }
    }
}

void *disk_cache_memory(const struct disk_cache *c, size_t *ret_len)
{
    *ret_len = (size_t)c->slot_count * c->block_bytes;
    return c->memory;
}

void disk_cache_info(const struct disk_cache *c, struct disk_cache_info *ret)
{
    const struct cache_stats *s = &c->stats;
    *ret = (struct disk_cache_info){.limit_blocks = c->slot_count,
                                    .blocks = c->slot_count - c->free_slots,
                                    .held = c->held,
                                    .ghosts = c->ghost.count,
                                    .small = c->small.count,
                                    .main = c->main.count,
                                    .hits = stats_counter_value(&s->hits),
                                    .misses = stats_counter_value(&s->misses),
                                    .ghost_hits = stats_counter_value(&s->ghost_hits),
                                    .evictions = stats_counter_value(&s->evictions),
                                    .forgotten = stats_counter_value(&s->forgotten),
                                    .refused = stats_counter_value(&s->refused)};
}

/* ---- For tests ---- */

struct cache_sums {
    uint32_t of[CACHE_GONE + 1], slots, held, named;
};

static void check_queue(const struct disk_cache *c, const struct cache_queue *q,
                        enum cache_state state)
{
    uint32_t count = 0, idle = 0, before = NONE;
    for (uint32_t at = q->newest; at != NONE; at = c->entry[at].next) {
        const struct cache_entry *e = &c->entry[at];
        CHECK(e->state == state);
        CHECK(e->prev == before);
        before = at;
        idle += e->holds == 0 ? 1 : 0;
        count++;
    }
    CHECK(before == q->oldest);
    CHECK(count == q->count);
    CHECK(idle == q->idle);
}

static void check_entry(const struct disk_cache *c, const struct cache_entry *e,
                        struct cache_sums *sums)
{
    bool found = e->state != CACHE_FREE && e->state != CACHE_GONE;
    bool stored = e->state != CACHE_FREE && e->state != CACHE_GHOST;
    CHECK(stored == (e->slot != NONE));
    CHECK(stored || e->holds == 0);
    CHECK((e->state != CACHE_FILLING && e->state != CACHE_GONE) || e->holds > 0);
    CHECK(!found || cache_find(c, e->key) == e);
    sums->of[e->state]++;
    sums->slots += stored ? 1 : 0;
    sums->held += e->holds > 0 ? 1 : 0;
    sums->named += found ? 1 : 0;
}

void disk_cache_check(const struct disk_cache *c)
{
    struct cache_sums sums = {.slots = 0};
    for (uint32_t i = 0; i < 2 * c->slot_count; i++) {
        check_entry(c, &c->entry[i], &sums);
    }
    check_queue(c, &c->small, CACHE_SMALL);
    check_queue(c, &c->main, CACHE_MAIN);
    check_queue(c, &c->ghost, CACHE_GHOST);
    CHECK(sums.of[CACHE_SMALL] == c->small.count);
    CHECK(sums.of[CACHE_MAIN] == c->main.count);
    CHECK(sums.of[CACHE_GHOST] == c->ghost.count && c->ghost.count <= c->slot_count);
    CHECK(sums.slots == c->slot_count - c->free_slots);
    CHECK(sums.held == c->held);
    uint32_t named = 0;
    for (uint64_t i = 0; i <= c->bucket_mask; i++) {
        for (uint32_t at = c->bucket[i]; at != NONE; at = c->entry[at].hash_next) {
            named++;
        }
    }
    CHECK(sums.named == named);
}

/* ---- Life ---- */

static void cache_stats_init(struct cache_stats *s, struct stats *parent)
{
    s->group = parent == NULL ? NULL : stats_new(parent, "cache");
    stats_add_counter(s->group, "hits", &s->hits);
    stats_add_counter(s->group, "misses", &s->misses);
    stats_add_counter(s->group, "ghost_hits", &s->ghost_hits);
    stats_add_counter(s->group, "evictions", &s->evictions);
    stats_add_counter(s->group, "forgotten", &s->forgotten);
    stats_add_counter(s->group, "refused", &s->refused);
    stats_add_gauge(s->group, "blocks", &s->blocks);
    stats_add_gauge(s->group, "held", &s->held);
}

/* Two entries, a place on the list of free ones, and up to four buckets for each block. */
static uint64_t cache_bytes_per_block(uint32_t block_bytes)
{
    return block_bytes + 2 * sizeof(struct cache_entry) + 5 * sizeof(uint32_t);
}

static int cache_allocate(struct disk_cache *c)
{
    uint32_t entry_count = 2 * c->slot_count, buckets = 1;
    while (buckets < entry_count) {
        buckets *= 2;
    }
    c->bucket_mask = buckets - 1;
    c->memory = mem_aligned(BLOCK_MIN, (size_t)c->slot_count * c->block_bytes);
    c->entry = mem_calloc(entry_count, sizeof *c->entry);
    c->bucket = mem_calloc(buckets, sizeof *c->bucket);
    c->free_slot = mem_calloc(c->slot_count, sizeof *c->free_slot);
    if (c->memory == NULL || c->entry == NULL || c->bucket == NULL || c->free_slot == NULL) {
        return -ENOMEM;
    }
    memset(c->bucket, 0xff, buckets * sizeof *c->bucket); /* NONE */
    for (uint32_t i = c->slot_count; i > 0; i--) {
        c->free_slot[c->free_slots++] = i - 1;
    }
    for (uint32_t i = entry_count; i > 0; i--) {
        entry_free(c, &c->entry[i - 1]);
    }
    return 0;
}

int disk_cache_new(const struct disk_cache_options *opt, struct disk_cache **ret)
{
    uint32_t block = opt->block_bytes;
    if (block < BLOCK_MIN || (block & (block - 1)) != 0) {
        return -EINVAL;
    }
    uint64_t count = opt->limit_bytes / cache_bytes_per_block(block);
    if (count < DISK_CACHE_MIN || count > BLOCKS_MAX) {
        return -EINVAL;
    }
    struct disk_cache *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    const struct cache_queue empty = {.newest = NONE, .oldest = NONE};
    c->small = c->main = c->ghost = empty;
    c->free_entry = NONE;
    c->block_bytes = block;
    c->slot_count = (uint32_t)count;
    c->budget = opt->budget;
    cache_stats_init(&c->stats, opt->stats);
    bool charged = opt->budget == NULL || mem_budget_take(opt->budget, opt->limit_bytes);
    c->charged_bytes = charged ? opt->limit_bytes : 0;
    int rc = charged ? cache_allocate(c) : -ENOMEM;
    if (rc < 0) {
        disk_cache_free(c);
        return rc;
    }
    *ret = c;
    return 0;
}

struct disk_cache *disk_cache_free(struct disk_cache *c)
{
    if (c == NULL) {
        return NULL;
    }
    CHECK(c->held == 0);
    if (c->budget != NULL) {
        mem_budget_give(c->budget, c->charged_bytes);
    }
    stats_free(c->stats.group);
    mem_free(c->memory);
    mem_free(c->entry);
    mem_free(c->bucket);
    mem_free(c->free_slot);
    mem_free(c);
    return NULL;
}
