/* tree/space.c -- see space.h. */
#include "tree/space.h"

#include "base/mem.h"

#define REGION TREE_SPACE_REGION_UNITS
#define REGION_WORDS (REGION / 64)
#define GROW_UNITS (UINT64_C(16384)) /* 64 MiB */
#define LARGE_UNITS 64u              /* 256 KiB */
#define SAME_CLASS_REGIONS 8u        /* that are looked through for a run of the same class */
#define ANY_CLASS 32u

/* Units behind the end of the file are used and not counted. */
struct space_region {
    uint64_t used[REGION_WORDS];
    uint64_t mark[REGION_WORDS]; /* of a used unit: given back; of a free one: punched */
    uint32_t classes;            /* bit n: there is a free run of 2^n .. 2^(n+1) - 1 */
    uint32_t largest;
    bool stale; /* the two above are not up to date */
};

struct space_dead {
    struct tree_space_extent extent;
    struct tree_space_life life;
};

struct space_queue {
    struct space_dead *at;
    size_t head, count, capacity; /* a ring for `waiting`; `kept` has its head at 0 */
};

struct tree_space {
    struct space_region **region;
    size_t region_count, region_capacity;
    uint64_t size, grow_units;
    uint32_t large_units;
    uint64_t used, deferred, punched; /* `used` without deferred ones */
    struct space_queue waiting;       /* for snapshots, in order of version */
    struct space_queue kept;          /* by checkpoints only */
    size_t reserved;
    uint64_t oldest, last_version;
    uint64_t retained[TREE_SPACE_RETAINED_MAX];
    size_t retained_count;
    uint64_t retained_from; /* 0: none */
};

/* ---- bits ---- */

static uint64_t word_mask(uint32_t from, uint32_t count)
{
    uint64_t ones = count >= 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1;
    return ones << from;
}

/* Sets or clears [from, from + count); returns how many of them were set before. */
static uint32_t bits_put(uint64_t *word, uint32_t from, uint32_t count, bool set)
{
    uint32_t before = 0;
    while (count > 0) {
        uint32_t at = from % 64, n = (uint32_t)base_min(64 - at, count);
        uint64_t mask = word_mask(at, n);
        before += (uint32_t)__builtin_popcountll(word[from / 64] & mask);
        word[from / 64] = set ? word[from / 64] | mask : word[from / 64] & ~mask;
        from += n;
        count -= n;
    }
    return before;
}

static uint32_t bits_count(const uint64_t *word, uint32_t from, uint32_t count)
{
    uint32_t sum = 0;
    while (count > 0) {
        uint32_t at = from % 64, n = (uint32_t)base_min(64 - at, count);
        sum += (uint32_t)__builtin_popcountll(word[from / 64] & word_mask(at, n));
        from += n;
        count -= n;
    }
    return sum;
}

/* The first unit from `from` on whose bit in a | b is `set`; REGION: none. */
static uint32_t bits_find(const uint64_t *a, const uint64_t *b, uint32_t from, bool set)
{
    while (from < REGION) {
        uint64_t word = a[from / 64] | (b == NULL ? 0 : b[from / 64]);
        word = (set ? word : ~word) >> (from % 64);
        if (word != 0) {
            return from + (uint32_t)__builtin_ctzll(word);
        }
        from = (from / 64 + 1) * 64;
    }
    return REGION;
}

/* The next run of clear bits from *at on; its length, 0: none. */
static uint32_t bits_run(const uint64_t *a, const uint64_t *b, uint32_t *at)
{
    *at = bits_find(a, b, *at, false);
    return *at == REGION ? 0 : bits_find(a, b, *at, true) - *at;
}

static uint32_t class_of(uint32_t count)
{
    return 31u - (uint32_t)__builtin_clz(count);
}

/* ---- regions ---- */

static void region_refresh(struct space_region *r)
{
    if (!r->stale) {
        return;
    }
    r->classes = 0;
    r->largest = 0;
    uint32_t at = 0, len = bits_run(r->used, NULL, &at);
    for (; len > 0; len = bits_run(r->used, NULL, &at)) {
        r->classes |= UINT32_C(1) << class_of(len);
        r->largest = len > r->largest ? len : r->largest;
        at += len;
    }
    r->stale = false;
}

static struct space_region *region_of(const struct tree_space *s, struct tree_space_extent x)
{
    return s->region[x.unit / REGION];
}

static bool extent_inside(const struct tree_space *s, struct tree_space_extent x)
{
    return x.count > 0 && x.count <= REGION && x.unit < s->size && x.count <= s->size - x.unit &&
           x.unit % REGION + x.count <= REGION;
}

/* Of an extent that is free; punched ones are not any more. */
static void extent_use(struct tree_space *s, struct tree_space_extent x)
{
    struct space_region *r = region_of(s, x);
    uint32_t at = (uint32_t)(x.unit % REGION);
    CHECK(bits_put(r->used, at, x.count, true) == 0);
    s->punched -= bits_put(r->mark, at, x.count, false);
    r->stale = true;
}

static void extent_unuse(struct tree_space *s, struct tree_space_extent x, bool deferred)
{
    CHECK(extent_inside(s, x));
    struct space_region *r = region_of(s, x);
    uint32_t at = (uint32_t)(x.unit % REGION);
    uint32_t used = bits_put(r->used, at, x.count, false);
    uint32_t marked = bits_put(r->mark, at, x.count, false);
    CHECK(used == x.count);                    /* else it is free already */
    CHECK(marked == (deferred ? x.count : 0)); /* else it was given back before */
    r->stale = true;
}

/* ---- the length ---- */

uint64_t tree_space_size(const struct tree_space *s)
{
    return s->size;
}

int tree_space_prepare(struct tree_space *s, uint64_t units)
{
    size_t need = (size_t)((units + REGION - 1) / REGION);
    int rc = mem_grow(&s->region, &s->region_capacity, need, sizeof(struct space_region *));
    while (rc == 0 && s->region_count < need) {
        struct space_region *r = mem_zalloc(sizeof *r);
        if (r == NULL) {
            return -ENOMEM;
        }
        bits_put(r->used, 0, REGION, true);
        s->region[s->region_count++] = r;
    }
    return rc;
}

/* [from, to) begins or ceases to exist, as free units. */
static void space_exists(struct tree_space *s, uint64_t from, uint64_t to, bool exists)
{
    while (from < to) {
        struct space_region *r = s->region[from / REGION];
        uint32_t at = (uint32_t)(from % REGION);
        uint32_t n = (uint32_t)base_min(REGION - at, to - from);
        uint32_t before = bits_put(r->used, at, n, !exists);
        CHECK(before == (exists ? n : 0));
        s->punched -= bits_put(r->mark, at, n, false);
        r->stale = true;
        from += n;
    }
}

void tree_space_resize(struct tree_space *s, uint64_t units)
{
    CHECK(units <= s->region_count * REGION);
    if (units > s->size) {
        space_exists(s, s->size, units, true);
    } else {
        space_exists(s, units, s->size, false);
    }
    s->size = units;
}

uint64_t tree_space_grow_target(const struct tree_space *s, uint32_t count, bool least)
{
    uint32_t at = (uint32_t)(s->size % REGION);
    uint64_t free_tail = 0;
    if (at > 0) { /* the run at the end goes on */
        const struct space_region *r = s->region[s->size / REGION];
        while (free_tail < at && bits_count(r->used, at - 1 - (uint32_t)free_tail, 1) == 0) {
            free_tail++;
        }
    }
    uint64_t start = s->size - free_tail;
    if (start % REGION + count > REGION) {
        start = base_align_up(start, REGION);
    }
    uint64_t need = start + count;
    uint64_t steps = (need + s->grow_units - 1) / s->grow_units;
    return least ? need : steps * s->grow_units;
}

static uint64_t space_end(const struct tree_space *s)
{
    for (size_t i = (size_t)((s->size + REGION - 1) / REGION); i > 0; i--) {
        const struct space_region *r = s->region[i - 1];
        uint64_t at = base_min(REGION, s->size - (i - 1) * REGION);
        while (at > 0 && bits_count(r->used, (uint32_t)at - 1, 1) == 0) {
            at--;
        }
        if (at > 0) {
            return (i - 1) * REGION + at;
        }
    }
    return 0;
}

uint64_t tree_space_trim_target(const struct tree_space *s)
{
    uint64_t steps = (space_end(s) + s->grow_units - 1) / s->grow_units + 1;
    uint64_t target = steps * s->grow_units;
    return target < s->size && s->size - target >= 2 * s->grow_units ? target : s->size;
}

/* ---- using ---- */

struct space_search {
    uint32_t count;      /* the run has at least so many units */
    uint32_t class_only; /* and is of this class; ANY_CLASS: of any */
};

static bool region_search(const struct space_region *r, const struct space_search *q,
                          uint32_t *ret_at)
{
    uint32_t at = 0, len = bits_run(r->used, NULL, &at);
    for (; len > 0; len = bits_run(r->used, NULL, &at)) {
        if (len >= q->count && (q->class_only == ANY_CLASS || class_of(len) == q->class_only)) {
            *ret_at = at;
            return true;
        }
        at += len;
    }
    return false;
}

/* Of the regions from the lowest on, at most `looks` that may have it. */
static bool space_search(struct tree_space *s, const struct space_search *q, size_t looks,
                         struct tree_space_extent *ret)
{
    for (size_t i = 0; i < s->region_count && looks > 0; i++) {
        struct space_region *r = s->region[i];
        region_refresh(r);
        bool maybe = r->largest >= q->count &&
                     (q->class_only == ANY_CLASS || (r->classes >> q->class_only & 1) != 0);
        uint32_t at = 0;
        if (maybe && region_search(r, q, &at)) {
            *ret = (struct tree_space_extent){.unit = i * REGION + at, .count = q->count};
            return true;
        }
        looks -= maybe ? 1 : 0;
    }
    return false;
}

/* The smallest class above that of `count` that has a run at all; ANY_CLASS: none. */
static uint32_t space_class_above(struct tree_space *s, uint32_t count)
{
    uint32_t all = 0, own = class_of(count);
    for (size_t i = 0; i < s->region_count; i++) {
        region_refresh(s->region[i]);
        all |= s->region[i]->classes;
    }
    all &= ~(uint32_t)word_mask(0, own + 1);
    return all == 0 ? ANY_CLASS : (uint32_t)__builtin_ctz(all);
}

static bool space_find(struct tree_space *s, uint32_t count, struct tree_space_extent *ret)
{
    struct space_search any = {.count = count, .class_only = ANY_CLASS};
    if (count >= s->large_units) {
        return space_search(s, &any, SIZE_MAX, ret);
    }
    struct space_search same = {.count = count, .class_only = class_of(count)};
    if (space_search(s, &same, SAME_CLASS_REGIONS, ret)) {
        return true;
    }
    struct space_search above = {.count = count, .class_only = space_class_above(s, count)};
    return space_search(s, above.class_only == ANY_CLASS ? &any : &above, SIZE_MAX, ret);
}

int tree_space_take(struct tree_space *s, uint32_t count, struct tree_space_extent *ret)
{
    CHECK(count > 0 && count <= REGION);
    struct tree_space_extent x;
    if (!space_find(s, count, &x)) {
        return -ENOSPC;
    }
    extent_use(s, x);
    s->used += count;
    *ret = x;
    return 0;
}

int tree_space_take_some(struct tree_space *s, uint32_t count, struct tree_space_extent *ret)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < s->region_count; i++) {
        region_refresh(s->region[i]);
        largest = s->region[i]->largest > largest ? s->region[i]->largest : largest;
    }
    return largest == 0 ? -ENOSPC : tree_space_take(s, (uint32_t)base_min(count, largest), ret);
}

int tree_space_claim(struct tree_space *s, struct tree_space_extent x)
{
    if (!extent_inside(s, x)) {
        return -ERR_bad_value;
    }
    if (bits_count(region_of(s, x)->used, (uint32_t)(x.unit % REGION), x.count) != 0) {
        return -ERR_corrupt;
    }
    extent_use(s, x);
    s->used += x.count;
    return 0;
}

bool tree_space_all_used(const struct tree_space *s, struct tree_space_extent x)
{
    return bits_count(region_of(s, x)->used, (uint32_t)(x.unit % REGION), x.count) == x.count;
}

void tree_space_join(struct tree_space *s, const struct tree_space *from)
{
    CHECK(from->size <= s->size && from->deferred == 0);
    for (uint64_t i = 0; i * REGION < from->size; i++) {
        struct space_region *r = s->region[i];
        for (size_t w = 0; w < REGION_WORDS; w++) {
            uint64_t bits = ~from->region[i]->used[w]; /* none behind the end */
            CHECK((bits & ~r->used[w]) == 0 && (bits & r->mark[w]) == 0);
            r->used[w] &= ~bits;
            s->used -= (uint64_t)__builtin_popcountll(bits);
        }
        r->stale = true;
    }
}

/* ---- giving back ---- */

void tree_space_give(struct tree_space *s, struct tree_space_extent x)
{
    extent_unuse(s, x, false);
    s->used -= x.count;
}

/* Room for `count` more; what a ring holds stays in order. */
static int queue_room(struct space_queue *q, size_t count)
{
    if (q->count + count <= q->capacity) {
        return 0;
    }
    size_t capacity = (size_t)base_max(q->count + count, 2 * q->capacity);
    struct space_dead *at = mem_calloc(capacity, sizeof *at);
    if (at == NULL) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < q->count; i++) {
        at[i] = q->at[(q->head + i) % q->capacity];
    }
    mem_free(q->at);
    *q = (struct space_queue){.at = at, .count = q->count, .capacity = capacity};
    return 0;
}

int tree_space_reserve(struct tree_space *s, size_t count)
{
    size_t all = s->reserved + count;
    int rc = queue_room(&s->waiting, all);
    rc = rc < 0 ? rc : queue_room(&s->kept, all + s->waiting.count);
    s->reserved = rc < 0 ? s->reserved : all;
    return rc;
}

void tree_space_unreserve(struct tree_space *s, size_t count)
{
    CHECK(count <= s->reserved);
    s->reserved -= count;
}

static bool life_contains(const struct tree_space_life *life, const uint64_t *checkpoint,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (life->birth <= checkpoint[i] && checkpoint[i] < life->death) {
            return true;
        }
    }
    return false;
}

static bool space_contained(const struct tree_space *s, const struct tree_space_life *life)
{
    bool of_failed = s->retained_from != 0 && life->birth < life->death;
    return (of_failed && life->death > s->retained_from) ||
           life_contains(life, s->retained, s->retained_count);
}

static void queue_push(struct space_queue *q, const struct space_dead *d)
{
    CHECK(q->count < q->capacity); /* reserved */
    q->at[(q->head + q->count) % q->capacity] = *d;
    q->count++;
}

/* No snapshot needs it. */
static void space_settle(struct tree_space *s, const struct space_dead *d)
{
    if (space_contained(s, &d->life)) {
        queue_push(&s->kept, d);
    } else {
        extent_unuse(s, d->extent, true);
        s->deferred -= d->extent.count;
    }
}

void tree_space_defer(struct tree_space *s, struct tree_space_extent x,
                      const struct tree_space_life *life)
{
    CHECK(extent_inside(s, x) && life->birth <= life->death && s->reserved > 0);
    struct space_region *r = region_of(s, x);
    uint32_t at = (uint32_t)(x.unit % REGION);
    CHECK(bits_count(r->used, at, x.count) == x.count);
    CHECK(bits_put(r->mark, at, x.count, true) == 0); /* else it was given back before */
    s->reserved--;
    s->used -= x.count;
    s->deferred += x.count;
    struct space_dead dead = {.extent = x, .life = *life};
    if (life->version <= s->oldest) {
        space_settle(s, &dead);
        return;
    }
    s->last_version = base_max(s->last_version, life->version);
    dead.life.version = s->last_version; /* the queue is in order */
    queue_push(&s->waiting, &dead);
}

uint64_t tree_space_kept_without(const struct tree_space *s, const uint64_t *checkpoint,
                                 size_t count)
{
    uint64_t units = 0;
    for (size_t i = 0; i < s->kept.count; i++) {
        const struct space_dead *d = &s->kept.at[(s->kept.head + i) % s->kept.capacity];
        units += life_contains(&d->life, checkpoint, count) ? 0 : d->extent.count;
    }
    return units;
}

static void space_look_again(struct tree_space *s)
{
    size_t left = s->kept.count;
    CHECK(s->kept.head == 0);
    s->kept.count = 0; /* what stays is pushed again, never in front of what is read */
    for (size_t i = 0; i < left; i++) {
        struct space_dead d = s->kept.at[i];
        space_settle(s, &d);
    }
}

void tree_space_retain(struct tree_space *s, const uint64_t *checkpoint, size_t count)
{
    CHECK(count <= TREE_SPACE_RETAINED_MAX);
    for (size_t i = 0; i < count; i++) {
        s->retained[i] = checkpoint[i];
    }
    s->retained_count = count;
    space_look_again(s);
}

void tree_space_retain_from(struct tree_space *s, uint64_t checkpoint)
{
    bool fewer = s->retained_from != 0 && (checkpoint == 0 || checkpoint > s->retained_from);
    s->retained_from = checkpoint;
    if (fewer) {
        space_look_again(s);
    }
}

void tree_space_oldest(struct tree_space *s, uint64_t version)
{
    CHECK(version >= s->oldest);
    s->oldest = version;
    struct space_queue *q = &s->waiting;
    while (q->count > 0 && q->at[q->head].life.version <= version) {
        struct space_dead d = q->at[q->head];
        q->head = (q->head + 1) % q->capacity;
        q->count--;
        space_settle(s, &d);
    }
}

/* ---- holes ---- */

bool tree_space_hole(struct tree_space *s, uint32_t min_units, struct tree_space_extent *ret)
{
    for (size_t i = 0; i < s->region_count; i++) {
        struct space_region *r = s->region[i];
        region_refresh(r);
        uint32_t at = 0;
        uint32_t len = r->largest < min_units ? 0 : bits_run(r->used, r->mark, &at);
        for (; len > 0; len = bits_run(r->used, r->mark, &at)) {
            if (len >= min_units) {
                *ret = (struct tree_space_extent){.unit = i * REGION + at, .count = len};
                extent_use(s, *ret);
                s->used += len;
                return true;
            }
            at += len;
        }
    }
    return false;
}

void tree_space_hole_done(struct tree_space *s, struct tree_space_extent x, bool punched)
{
    tree_space_give(s, x);
    if (punched) {
        bits_put(region_of(s, x)->mark, (uint32_t)(x.unit % REGION), x.count, true);
        s->punched += x.count;
    }
}

/* ---- all of it ---- */

void tree_space_info(struct tree_space *s, struct tree_space_info *ret)
{
    *ret = (struct tree_space_info){.size = s->size,
                                    .used = s->used,
                                    .free = s->size - s->used - s->deferred,
                                    .deferred = s->deferred,
                                    .punched = s->punched,
                                    .memory = sizeof *s};
    ret->memory += s->region_capacity * sizeof s->region[0] +
                   s->region_count * sizeof *s->region[0] +
                   (s->waiting.capacity + s->kept.capacity) * sizeof(struct space_dead);
    for (size_t i = 0; i < s->region_count; i++) {
        region_refresh(s->region[i]);
        ret->largest = base_max(ret->largest, s->region[i]->largest);
    }
}

static uint64_t queue_units(const struct space_queue *q)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < q->count; i++) {
        sum += q->at[(q->head + i) % q->capacity].extent.count;
    }
    return sum;
}

bool tree_space_sound(const struct tree_space *s)
{
    uint64_t used = 0, marked_used = 0, marked_free = 0;
    for (size_t i = 0; i < s->region_count; i++) {
        const struct space_region *r = s->region[i];
        for (size_t w = 0; w < REGION_WORDS; w++) {
            used += (uint64_t)__builtin_popcountll(r->used[w]);
            marked_used += (uint64_t)__builtin_popcountll(r->used[w] & r->mark[w]);
            marked_free += (uint64_t)__builtin_popcountll(~r->used[w] & r->mark[w]);
        }
    }
    used -= s->region_count * REGION - s->size;
    bool counts =
        used == s->used + s->deferred && marked_used == s->deferred && marked_free == s->punched;
    return counts && queue_units(&s->waiting) + queue_units(&s->kept) == s->deferred &&
           s->waiting.count + s->reserved <= s->waiting.capacity &&
           s->kept.count + s->waiting.count + s->reserved <= s->kept.capacity;
}

int tree_space_new(const struct tree_space_options *opt, struct tree_space **ret)
{
    struct tree_space *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return -ENOMEM;
    }
    s->grow_units = opt->grow_units == 0 ? GROW_UNITS : opt->grow_units;
    s->large_units = opt->large_units == 0 ? LARGE_UNITS : opt->large_units;
    *ret = s;
    return 0;
}

struct tree_space *tree_space_free(struct tree_space *s)
{
    if (s != NULL) {
        for (size_t i = 0; i < s->region_count; i++) {
            mem_free(s->region[i]);
        }
        mem_free(s->region);
        mem_free(s->waiting.at);
        mem_free(s->kept.at);
        mem_free(s);
    }
    return NULL;
}
