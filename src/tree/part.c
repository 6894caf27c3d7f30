/*
 * tree/part.c -- see part.h.
 *
 * Pinning is one compare-and-swap on `state`: it cannot succeed once eviction has put
 * TREE_PART_ABSENT there, and eviction cannot succeed while it counts a pin.
 *
 * The last reference may go on any thread, while the loop looks for what to evict: so the queues
 * have a lock of their own. Who holds it finds in them nothing but parts that still exist. A part
 * that dies takes itself out before it is freed.
 */
#include "tree/part.h"

#include "base/lock.h"
#include "base/mem_slab.h"
#include "tree/node.h"

#include <string.h>

#define HIT_SHARDS 64u /* a power of two */
#define FILTER_TURNS 3u
#define FRESH_SHARE 10u /* this part of all bytes is left to those that came lately, at least */
#define CLOCK_LAP 2u    /* as many looks at those as there are parts, so often: once around */
#define LOOK_ONE 4096u
#define EVICT_LAPS \
    (FILTER_TURNS + 4u)     /* of everything, until all have lost what they had left of turns */
#define EVICT_SCAN 256u     /* parts looked at while the lock is held */
#define EVICT_BATCH 64u     /* and let go */
#define LINE_BYTES 64u      /* of the processor's cache */
#define SLAB_KEEP_SHARE 16u /* this part of the cache, */
#define SLAB_KEEP_MAX (UINT64_C(32) << 20)  /* or so much, is kept for what comes next */
#define SLAB_LIMIT_MIN (UINT64_C(16) << 20) /* a few regions would fill a smaller cache */

/* Counted without locked instructions: a few are lost when threads meet in one. */
struct hit_shard {
    _Alignas(LINE_BYTES) _Atomic uint64_t count;
};

enum { PART_NOWHERE, PART_FRESH, PART_CLOCK, PART_QUEUES };

struct part_queue {
    struct list parts;
    size_t count;
    uint64_t bytes;
};

struct tree_cache {
    struct hit_shard hit[HIT_SHARDS];
    struct mem_budget budget;
    struct mem_slab *slab;
    _Atomic uint64_t clean_bytes, dirty_bytes;
    struct lock lock; /* of the next two, of tree_part.queue, and of the bytes of parts in them */
    struct part_queue queue[PART_QUEUES];
    uint64_t clock_due; /* looks at the clock, in parts of LOOK_ONE */
    /* the loop's */
    uint64_t fills, evictions;
    struct tree_cache_heads heads;
};

/* ---- numbers ---- */

static void count_add(_Atomic uint64_t *at, uint64_t v)
{
    (void)atomic_fetch_add_explicit(at, v, memory_order_relaxed);
}

static void count_sub(_Atomic uint64_t *at, uint64_t v)
{
    uint64_t before = atomic_fetch_sub_explicit(at, v, memory_order_relaxed);
    CHECK(before >= v);
}

static void count_hit(const struct tree_part *p)
{
    struct hit_shard *s = &p->cache->hit[((uintptr_t)p / LINE_BYTES) % HIT_SHARDS];
    uint64_t v = atomic_load_explicit(&s->count, memory_order_relaxed);
    atomic_store_explicit(&s->count, v + 1, memory_order_relaxed);
}

/* ---- what goes ---- */

/* With the lock. */
static void queue_push(struct tree_part *p, unsigned which)
{
    struct part_queue *q = &p->cache->queue[which];
    p->queue = (uint8_t)which;
    list_push_back(&q->parts, &p->node);
    q->count++;
    q->bytes += p->raw_len;
}

/* With the lock. */
static void queue_leave(struct tree_part *p)
{
    struct part_queue *q = &p->cache->queue[p->queue];
    CHECK(p->queue != PART_NOWHERE && q->count > 0);
    p->queue = PART_NOWHERE;
    list_remove(&p->node);
    q->count--;
    q->bytes -= p->raw_len;
}

static void part_may_go(struct tree_part *p)
{
    lock_take(&p->cache->lock);
    if (p->queue == PART_NOWHERE) {
        queue_push(p, PART_FRESH);
    }
    lock_release(&p->cache->lock);
}

/* Where the next look goes. `all`: nothing is spared any more. With the lock. */
static unsigned queue_next(struct tree_cache *c, bool all)
{
    const struct part_queue *fresh = &c->queue[PART_FRESH], *clock = &c->queue[PART_CLOCK];
    bool many = fresh->bytes > (fresh->bytes + clock->bytes) / FRESH_SHARE;
    if (clock->count == 0 || (fresh->count > 0 && (all || (many && c->clock_due < LOOK_ONE)))) {
        uint64_t parts = base_max(fresh->count + clock->count, 1);
        c->clock_due += clock->count * LOOK_ONE / (CLOCK_LAP * parts);
        return PART_FRESH;
    }
    c->clock_due -= base_min(c->clock_due, LOOK_ONE);
    return PART_CLOCK;
}

/* True: its bytes are nobody's but the caller's from now on. Else it goes to the end of a queue:
 * the first one again, if it was read and nobody has come for it yet; from there to the clock with
 * what it has of turns. With the lock. */
static bool part_lets_go(struct tree_part *p)
{
    uint8_t turns = atomic_load_explicit(&p->turns, memory_order_relaxed);
    bool pinned = atomic_load_explicit(&p->state, memory_order_relaxed) != 0;
    unsigned from = p->queue, to = turns == TREE_PART_NEW && !pinned ? from : PART_CLOCK;
    uint32_t unpinned = 0;
    queue_leave(p);
    if (!pinned && turns == 0 &&
        atomic_compare_exchange_strong_explicit(&p->state, &unpinned, TREE_PART_ABSENT,
                                                memory_order_acquire, memory_order_relaxed)) {
        return true;
    }
    if (!pinned && turns > 0 && from == to) {
        turns = turns == TREE_PART_NEW ? 0 : (uint8_t)(turns - 1);
        atomic_store_explicit(&p->turns, turns, memory_order_relaxed);
    }
    queue_push(p, to);
    return false;
}

struct evict_haul {
    uint8_t *bytes[EVICT_BATCH];
    uint32_t len[EVICT_BATCH];
    size_t count, looked, clock_looked;
    uint64_t size;
    bool all; /* as of queue_next() */
};

static void evict_some(struct tree_cache *c, uint64_t want, size_t look_max, struct evict_haul *h)
{
    h->count = h->looked = h->clock_looked = 0;
    h->size = 0;
    lock_take(&c->lock);
    while (h->looked < look_max && h->count < EVICT_BATCH && h->size < want) {
        unsigned which = queue_next(c, h->all);
        if (c->queue[which].count == 0) {
            break; /* both are empty */
        }
        struct tree_part *p = LIST_ENTRY(c->queue[which].parts.next, struct tree_part, node);
        h->looked++;
        h->clock_looked += which == PART_CLOCK ? 1 : 0;
        if (part_lets_go(p)) {
            h->len[h->count] = p->raw_len;
            h->bytes[h->count++] = p->bytes;
            h->size += p->raw_len;
            p->bytes = NULL;
        }
    }
    lock_release(&c->lock);
}

/* So often around everything, at most, that all have lost what they had left of turns. Returns the
 * bytes; `looked` counts what the clock's hand has passed. */
static uint64_t evict_around(struct tree_cache *c, uint64_t want, bool all, size_t *looked)
{
    struct evict_haul h = {.all = all};
    uint64_t freed = 0;
    lock_take(&c->lock);
    size_t left = EVICT_LAPS * (c->queue[PART_CLOCK].count + c->queue[PART_FRESH].count);
    lock_release(&c->lock);
    while (left > 0 && freed < want) {
        evict_some(c, want - freed, base_min(left, EVICT_SCAN), &h);
        for (size_t i = 0; i < h.count; i++) {
            tree_cache_put(c, h.bytes[i], h.len[i]);
        }
        c->evictions += h.count;
        count_sub(&c->clean_bytes, h.size);
        mem_budget_give(&c->budget, h.size);
        freed += h.size;
        *looked += h.clock_looked;
        left -= base_min(left, h.looked > 0 ? h.looked : left);
    }
    return freed;
}

/* At least `want` bytes, if so many may go. */
static uint64_t evict_parts(struct tree_cache *c, uint64_t want)
{
    size_t looked = 0;
    lock_take(&c->lock);
    size_t of = c->queue[PART_CLOCK].count;
    lock_release(&c->lock);
    uint64_t freed = evict_around(c, want, false, &looked);
    freed += freed < want ? evict_around(c, want - freed, true, &looked) : 0;
    bool sweeps = c->heads.sweep != NULL && of > 0 && looked > 0;
    return freed + (sweeps ? c->heads.sweep(c->heads.arg, looked, of) : 0);
}

/* False: nothing may go. */
static bool cache_evict(struct tree_cache *c, uint64_t want)
{
    return evict_parts(c, want) > 0 ||
           (c->heads.evict != NULL && c->heads.evict(c->heads.arg, want) > 0);
}

/* ---- parts ---- */

int tree_part_new(const struct tree_part_options *opt, struct tree_part **ret)
{
    CHECK(((uintptr_t)opt->bytes & (TREE_PART_ALIGN - 1)) == 0);
    CHECK(opt->bytes != NULL || (opt->place != NULL && opt->place->birth != 0));
    /* There are hundreds of thousands, which come and go: what they take is to be known. */
    struct tree_part *p = tree_cache_get(opt->cache, sizeof *p);
    if (p == NULL) {
        return -ENOMEM;
    }
    memset(p, 0, sizeof *p);
    atomic_init(&p->refs, 1);
    atomic_init(&p->state, opt->bytes == NULL ? TREE_PART_ABSENT : 0);
    p->kind = opt->kind;
    p->raw_len = opt->raw_len;
    p->entries = opt->entries;
    p->bytes = opt->bytes;
    p->cache = opt->cache;
    list_init(&p->node);
    if (opt->place != NULL) {
        p->place = *opt->place;
    }
    tree_cache_force(p->cache, sizeof *p);
    if (p->bytes != NULL && tree_part_is_dirty(p)) {
        count_add(&p->cache->dirty_bytes, p->raw_len);
    } else if (p->bytes != NULL) {
        count_add(&p->cache->clean_bytes, p->raw_len);
        part_may_go(p);
    }
    *ret = p;
    return 0;
}

struct tree_part *tree_part_ref(struct tree_part *p)
{
    uint32_t before = atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    CHECK(before > 0);
    return p;
}

static void part_die(struct tree_part *p)
{
    struct tree_cache *c = p->cache;
    CHECK((atomic_load_explicit(&p->state, memory_order_relaxed) & ~TREE_PART_ABSENT) == 0);
    lock_take(&c->lock);
    if (p->queue != PART_NOWHERE) {
        queue_leave(p);
    }
    lock_release(&c->lock);
    if (p->bytes != NULL) {
        count_sub(tree_part_is_dirty(p) ? &c->dirty_bytes : &c->clean_bytes, p->raw_len);
        tree_cache_put(c, p->bytes, p->raw_len);
        mem_budget_give(&c->budget, p->raw_len);
    }
    tree_cache_put(c, p, sizeof *p);
    mem_budget_give(&c->budget, sizeof *p);
}

struct tree_part *tree_part_unref(struct tree_part *p)
{
    if (p != NULL) {
        uint32_t before = atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel);
        CHECK(before > 0);
        if (before == 1) {
            part_die(p);
        }
    }
    return NULL;
}

bool tree_part_hold(struct tree_part *p)
{
    uint32_t was = atomic_load_explicit(&p->state, memory_order_relaxed);
    do {
        if ((was & TREE_PART_ABSENT) != 0) {
            return false;
        }
        CHECK(was < TREE_PART_ABSENT - 1);
    } while (!atomic_compare_exchange_weak_explicit(&p->state, &was, was + 1, memory_order_acquire,
                                                    memory_order_relaxed));
    (void)tree_part_ref(p);
    return true;
}

/* The first use is what it was read for, and says nothing of others to come: what a walk goes
 * through once does not push out what is asked for again and again. */
static void part_use(struct tree_part *p)
{
    uint8_t most = p->kind == TREE_PARTITION_FILTER ? FILTER_TURNS : 1;
    uint8_t turns = atomic_load_explicit(&p->turns, memory_order_relaxed);
    uint8_t next = turns == TREE_PART_NEW && p->kind != TREE_PARTITION_FILTER ? 0 : most;
    if (turns != next) { /* else the line stays shared */
        atomic_store_explicit(&p->turns, next, memory_order_relaxed);
    }
}

bool tree_part_pin(struct tree_part *p)
{
    if (!tree_part_hold(p)) {
        return false;
    }
    part_use(p);
    count_hit(p);
    return true;
}

void tree_part_unpin(struct tree_part *p)
{
    uint32_t before = atomic_fetch_sub_explicit(&p->state, 1, memory_order_release);
    CHECK((before & TREE_PART_ABSENT) == 0 && before > 0);
    (void)tree_part_unref(p);
}

bool tree_part_fill(struct tree_part *p, uint8_t *bytes)
{
    CHECK(bytes != NULL && ((uintptr_t)bytes & (TREE_PART_ALIGN - 1)) == 0);
    if ((atomic_load_explicit(&p->state, memory_order_relaxed) & TREE_PART_ABSENT) == 0) {
        return false;
    }
    CHECK(p->bytes == NULL && !tree_part_is_dirty(p));
    p->bytes = bytes;
    atomic_store_explicit(&p->turns, TREE_PART_NEW, memory_order_relaxed);
    count_add(&p->cache->clean_bytes, p->raw_len);
    p->cache->fills++;
    atomic_store_explicit(&p->state, 0, memory_order_release);
    part_may_go(p);
    return true;
}

void tree_part_written(struct tree_part *p, const struct tree_part_place *place)
{
    CHECK(place->birth != 0);
    bool was_dirty = tree_part_is_dirty(p);
    if (!was_dirty && place->block != p->place.block && place->version < p->place.version) {
        return;
    }
    p->place = *place;
    if (was_dirty) {
        CHECK(p->bytes != NULL);
        count_sub(&p->cache->dirty_bytes, p->raw_len);
        count_add(&p->cache->clean_bytes, p->raw_len);
        part_may_go(p);
    }
}

/* ---- the cache ---- */

int tree_cache_new(const struct tree_cache_options *opt, struct tree_cache **ret)
{
    struct tree_cache *c = mem_aligned(LINE_BYTES, sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    *c = (struct tree_cache){0};
    mem_budget_init(&c->budget, opt->parent, opt->limit_bytes);
    const struct mem_slab_options slab = {
        .budget = &c->budget,
        .keep_bytes = base_min(opt->limit_bytes / SLAB_KEEP_SHARE, SLAB_KEEP_MAX),
        .plain = opt->plain || opt->limit_bytes < SLAB_LIMIT_MIN};
    c->slab = mem_slab_new(&slab);
    if (c->slab == NULL) {
        mem_free(c);
        return -ENOMEM;
    }
    lock_init(&c->lock, LOCK_RANK_leaf);
    for (unsigned i = 0; i < PART_QUEUES; i++) {
        list_init(&c->queue[i].parts);
    }
    *ret = c;
    return 0;
}

struct tree_cache *tree_cache_free(struct tree_cache *c)
{
    if (c != NULL) {
        CHECK(c->queue[PART_FRESH].count + c->queue[PART_CLOCK].count == 0);
        c->slab = mem_slab_free(c->slab);
        CHECK(atomic_load_explicit(&c->budget.used_bytes, memory_order_relaxed) == 0);
        lock_fini(&c->lock);
        mem_free(c);
    }
    return NULL;
}

bool tree_cache_charge(struct tree_cache *c, uint64_t bytes)
{
    bool taken = mem_budget_take(&c->budget, bytes);
    uint64_t want = base_max(bytes, 1); /* more than the limit may be in use */
    while (!taken && bytes <= c->budget.limit_bytes && cache_evict(c, want)) {
        taken = mem_budget_take(&c->budget, bytes);
    }
    return taken;
}

void tree_cache_force(struct tree_cache *c, uint64_t bytes)
{
    mem_budget_force(&c->budget, bytes);
}

void tree_cache_give(struct tree_cache *c, uint64_t bytes)
{
    mem_budget_give(&c->budget, bytes);
}

uint64_t tree_cache_shrink(struct tree_cache *c, uint64_t bytes)
{
    uint64_t used = atomic_load_explicit(&c->budget.used_bytes, memory_order_relaxed);
    while (used > bytes && cache_evict(c, used - bytes)) {
        used = atomic_load_explicit(&c->budget.used_bytes, memory_order_relaxed);
    }
    return used;
}

struct mem_budget *tree_cache_budget(struct tree_cache *c)
{
    return &c->budget;
}

void *tree_cache_get(struct tree_cache *c, size_t size)
{
    return mem_slab_get(c->slab, size);
}

void tree_cache_put(struct tree_cache *c, void *p, size_t size)
{
    mem_slab_put(c->slab, p, size);
}

struct mem_slab *tree_cache_slab(struct tree_cache *c)
{
    return c->slab;
}

void tree_cache_set_heads(struct tree_cache *c, const struct tree_cache_heads *heads)
{
    c->heads = heads == NULL ? (struct tree_cache_heads){0} : *heads;
}

void tree_cache_info(struct tree_cache *c, struct tree_cache_info *ret)
{
    *ret = (struct tree_cache_info){
        .limit = c->budget.limit_bytes,
        .used = atomic_load_explicit(&c->budget.used_bytes, memory_order_relaxed),
        .clean = atomic_load_explicit(&c->clean_bytes, memory_order_relaxed),
        .dirty = atomic_load_explicit(&c->dirty_bytes, memory_order_relaxed),
        .fills = c->fills,
        .evictions = c->evictions};
    for (size_t i = 0; i < HIT_SHARDS; i++) {
        ret->hits += atomic_load_explicit(&c->hit[i].count, memory_order_relaxed);
    }
}
