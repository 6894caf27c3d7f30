/*
 * base/mem_slab.c -- see mem_slab.h.
 *
 * A region is aligned to its size, so that an object leads to it; its first page says what is in
 * it. Which of its pages are in memory is kept as bits: set when an object on them is got, cleared
 * when they are given back, which may be done as soon as no object lies on them. So pages are
 * counted exactly, and objects need not begin at one.
 *
 * An object that was put is "warm" until the pages below it have been looked at. Regions whose last
 * put is longest ago are looked at first. Warm objects are got before others.
 *
 * In test builds regions come from mem_aligned(), which knows about domains and torture.
 */
#include "base/mem_slab.h"

#include "base/list.h"
#include "base/lock.h"
#include "base/mem_priv.h"

#include <string.h>
#include <sys/mman.h>

#define SLAB_REGION (2u << 20)
#define SLAB_PAGES (SLAB_REGION / MEM_SLAB_PAGE)
#define SLAB_SLOTS_MAX 1024u      /* of a region: of small objects it uses a part only */
#define SLAB_LARGEST (256u << 10) /* in regions */
#define SLAB_FINEST 512u          /* up to here classes are MEM_SLAB_ALIGN apart */
#define SLAB_CLASSES 80u          /* 8 up to SLAB_FINEST, 8 for each power of two above */
#define SLAB_SIZE_MAX (SIZE_MAX / 4)
#define SLAB_IDLE_MAX 8u /* mappings of their own that are kept */
#define SLAB_WORD 64u

struct slab_region {
    struct list node; /* of its class: there are free slots */
    struct list warm; /* of the slab: some of them are warm; else alone */
    unsigned class, slots, used;
    uint64_t free[SLAB_SLOTS_MAX / SLAB_WORD];
    uint64_t hot[SLAB_SLOTS_MAX / SLAB_WORD]; /* free and warm */
    uint64_t resident[SLAB_PAGES / SLAB_WORD];
};
_Static_assert(sizeof(struct slab_region) <= MEM_SLAB_PAGE, "the first page has room for it");

struct slab_idle {
    void *at;
    size_t size;
};

struct mem_slab {
    struct lock lock;
    struct mem_budget *budget;
    uint64_t keep_bytes;
    bool plain;
    struct list class[SLAB_CLASSES]; /* slab_region.node; those with warm slots first */
    struct list warm;                /* slab_region.warm; longest ago first */
    struct slab_idle idle[SLAB_IDLE_MAX];
    size_t idle_count;
    struct mem_slab_info info;
};

/* ---- classes ---- */

static unsigned slab_class(size_t size)
{
    if (size <= SLAB_FINEST) {
        return size == 0 ? 0 : (unsigned)((size - 1) / MEM_SLAB_ALIGN);
    }
    unsigned top = 63U - (unsigned)__builtin_clzll(size - 1); /* 9: 513 .. 1024 */
    return 8 * (top - 8) + (unsigned)((size - 1) >> (top - 3) & 7U);
}

static size_t slab_class_size(unsigned class)
{
    if (class < 8) {
        return (class + 1) * (size_t)MEM_SLAB_ALIGN;
    }
    unsigned top = 8 + class / 8;
    return (size_t)(9 + class % 8) << (top - 3);
}

size_t mem_slab_rounded(size_t size)
{
    return size > SLAB_SIZE_MAX ? SIZE_MAX : slab_class_size(slab_class(size));
}

/* ---- bits ---- */

static bool bit_get(const uint64_t *bits, size_t i)
{
    return (bits[i / SLAB_WORD] >> (i % SLAB_WORD) & 1U) != 0;
}

static void bit_set(uint64_t *bits, size_t i)
{
    bits[i / SLAB_WORD] |= UINT64_C(1) << (i % SLAB_WORD);
}

static void bit_clear(uint64_t *bits, size_t i)
{
    bits[i / SLAB_WORD] &= ~(UINT64_C(1) << (i % SLAB_WORD));
}

/* The first that is set; `count`: none is. */
static size_t bit_first(const uint64_t *bits, size_t count)
{
    for (size_t w = 0; w * SLAB_WORD < count; w++) {
        if (bits[w] != 0) {
            return w * SLAB_WORD + (size_t)__builtin_ctzll(bits[w]);
        }
    }
    return count;
}

static uint64_t bit_count(const uint64_t *bits, size_t count)
{
    uint64_t set = 0;
    for (size_t w = 0; w * SLAB_WORD < count; w++) {
        set += (uint64_t)__builtin_popcountll(bits[w]);
    }
    return set;
}

/* ---- the system ---- */

#ifdef ODFS_FAULTS
static void *slab_map(size_t size, size_t alignment)
{
    return mem_aligned(alignment, size);
}

static void slab_unmap(void *at, size_t size)
{
    (void)size;
    mem_free(at);
}
#else
static void *slab_map(size_t size, size_t alignment)
{
    size_t more = size + (alignment > MEM_SLAB_PAGE ? alignment : 0);
    uint8_t *at = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    size_t before = (size_t)(base_align_up((uintptr_t)at, alignment) - (uintptr_t)at);
    if (before > 0) {
        (void)munmap(at, before);
    }
    if (more - before > size) {
        (void)munmap(at + before + size, more - before - size);
    }
    /* Or one byte may take two megabytes. Systems without such pages say no. */
    (void)madvise(at + before, size, MADV_NOHUGEPAGE);
    return at + before;
}

static void slab_unmap(void *at, size_t size)
{
    int rc = munmap(at, size);
    CHECK(rc == 0);
}
#endif

/* ---- the account: with the lock ---- */

/* Rounding, and what is in memory without being an object's. */
static void slab_settle(struct mem_slab *s)
{
    struct mem_slab_info *i = &s->info;
    CHECK(i->rounded_bytes >= i->asked_bytes && i->resident_bytes >= i->rounded_bytes);
    uint64_t spare = base_max(i->resident_bytes - i->rounded_bytes, s->keep_bytes);
    uint64_t charge = i->rounded_bytes - i->asked_bytes + spare;
    if (s->budget != NULL && charge > i->charged_bytes) {
        mem_budget_force(s->budget, charge - i->charged_bytes);
    } else if (s->budget != NULL) {
        mem_budget_give(s->budget, i->charged_bytes - charge);
    }
    i->charged_bytes = charge;
}

/* ---- regions: with the lock ---- */

static uint8_t *region_slot(struct slab_region *r, size_t i)
{
    return (uint8_t *)r + MEM_SLAB_PAGE + i * slab_class_size(r->class);
}

static struct slab_region *region_new(struct mem_slab *s, unsigned class)
{
    struct slab_region *r = slab_map(SLAB_REGION, SLAB_REGION);
    if (r == NULL) {
        return NULL;
    }
    memset(r, 0, sizeof *r);
    r->class = class;
    r->slots =
        (unsigned)base_min(SLAB_SLOTS_MAX, (SLAB_REGION - MEM_SLAB_PAGE) / slab_class_size(class));
    for (size_t i = 0; i < r->slots; i++) {
        bit_set(r->free, i);
    }
    bit_set(r->resident, 0);
    list_init(&r->warm);
    list_push_front(&s->class[class], &r -> node);
    mem_poison((uint8_t *)r + MEM_SLAB_PAGE, SLAB_REGION - MEM_SLAB_PAGE);
    s->info.resident_bytes += MEM_SLAB_PAGE;
    s->info.regions++;
    return r;
}

static void region_drop(struct mem_slab *s, struct slab_region *r)
{
    CHECK(r->used == 0);
    s->info.resident_bytes -= bit_count(r->resident, SLAB_PAGES) * MEM_SLAB_PAGE;
    list_remove(&r->node);
    list_remove(&r->warm);
    s->info.regions--;
    mem_unpoison(r, SLAB_REGION);
    slab_unmap(r, SLAB_REGION);
}

/* Pages that lie between two bytes of the region as a whole. */
static void region_return(struct mem_slab *s, struct slab_region *r, size_t from, size_t to)
{
    size_t page = (from + MEM_SLAB_PAGE - 1) / MEM_SLAB_PAGE, end = to / MEM_SLAB_PAGE;
    while (page < end) {
        size_t first = page;
        while (page < end && bit_get(r->resident, page)) {
            bit_clear(r->resident, page++);
        }
        if (page > first) {
            size_t size = (page - first) * MEM_SLAB_PAGE;
            (void)madvise((uint8_t *)r + first * MEM_SLAB_PAGE, size, MADV_DONTNEED);
            s->info.resident_bytes -= size;
        }
        page += page < end ? 1 : 0;
    }
}

/* All pages of it without an object go back. */
static void region_trim(struct mem_slab *s, struct slab_region *r)
{
    size_t size = slab_class_size(r->class);
    s->info.kept_bytes -= bit_count(r->hot, SLAB_SLOTS_MAX) * size;
    s->info.returned++;
    if (r->used == 0) {
        region_drop(s, r);
        return;
    }
    memset(r->hot, 0, sizeof r->hot);
    list_remove(&r->warm);
    list_remove(&r->node); /* others of its class are got from first */
    list_push_back(&s->class[r->class], &r -> node);
    for (size_t i = 0; i < r->slots; i++) {
        size_t first = i;
        while (i < r->slots && bit_get(r->free, i)) {
            i++;
        }
        size_t to = i == r->slots ? SLAB_REGION : MEM_SLAB_PAGE + i * size;
        region_return(s, r, i > first ? MEM_SLAB_PAGE + first * size : to, to);
    }
}

static void *region_get(struct mem_slab *s, struct slab_region *r)
{
    size_t i = bit_first(r->hot, r->slots), size = slab_class_size(r->class);
    if (i < r->slots) {
        bit_clear(r->hot, i);
        s->info.kept_bytes -= size;
        if (bit_first(r->hot, r->slots) == r->slots) {
            list_remove(&r->warm);
            list_remove(&r->node);
            list_push_back(&s->class[r->class], &r -> node);
        }
    } else {
        i = bit_first(r->free, r->slots);
    }
    bit_clear(r->free, i);
    r->used++;
    if (r->used == r->slots) {
        list_remove(&r->node);
    }
    size_t at = MEM_SLAB_PAGE + i * size;
    for (size_t page = at / MEM_SLAB_PAGE; page * MEM_SLAB_PAGE < at + size; page++) {
        if (!bit_get(r->resident, page)) {
            bit_set(r->resident, page);
            s->info.resident_bytes += MEM_SLAB_PAGE;
        }
    }
    return region_slot(r, i);
}

static void region_put(struct mem_slab *s, struct slab_region *r, void *p)
{
    size_t size = slab_class_size(r->class);
    size_t i = ((size_t)((uint8_t *)p - (uint8_t *)r) - MEM_SLAB_PAGE) / size;
    CHECK(i < r->slots && region_slot(r, i) == p && !bit_get(r->free, i));
    mem_poison(p, size);
    bit_set(r->free, i);
    bit_set(r->hot, i);
    s->info.kept_bytes += size;
    list_remove(&r->node);
    list_push_front(&s->class[r->class], &r -> node);
    list_remove(&r->warm);
    list_push_back(&s->warm, &r->warm);
    r->used--;
}

/* ---- mappings of their own: with the lock ---- */

/* The i-th of those that are kept; the others stay in the order in which they were put. */
static void *idle_take(struct mem_slab *s, size_t i)
{
    void *at = s->idle[i].at;
    s->info.kept_bytes -= s->idle[i].size;
    s->idle_count--;
    memmove(&s->idle[i], &s->idle[i + 1], (s->idle_count - i) * sizeof s->idle[0]);
    return at;
}

static void *large_get(struct mem_slab *s, size_t size)
{
    for (size_t i = s->idle_count; i > 0; i--) {
        if (s->idle[i - 1].size == size) {
            return idle_take(s, i - 1);
        }
    }
    void *at = slab_map(size, MEM_SLAB_PAGE);
    s->info.resident_bytes += at == NULL ? 0 : size;
    return at;
}

static void large_drop(struct mem_slab *s, void *at, size_t size)
{
    s->info.resident_bytes -= size;
    s->info.returned++;
    mem_unpoison(at, size);
    slab_unmap(at, size);
}

static void large_drop_oldest(struct mem_slab *s)
{
    size_t size = s->idle[0].size;
    large_drop(s, idle_take(s, 0), size);
}

static void large_put(struct mem_slab *s, void *at, size_t size)
{
    if (size > s->keep_bytes / 2) {
        large_drop(s, at, size);
        return;
    }
    if (s->idle_count == SLAB_IDLE_MAX) {
        large_drop_oldest(s);
    }
    mem_poison(at, size);
    s->idle[s->idle_count++] = (struct slab_idle){.at = at, .size = size};
    s->info.kept_bytes += size;
}

/* ---- objects ---- */

static void slab_trim(struct mem_slab *s, uint64_t keep_bytes)
{
    while (s->info.kept_bytes > keep_bytes) {
        if (!list_empty(&s->warm)) {
            region_trim(s, LIST_ENTRY(s->warm.next, struct slab_region, warm));
        } else {
            large_drop_oldest(s);
        }
    }
}

static void *slab_take(struct mem_slab *s, size_t rounded)
{
    if (rounded > SLAB_LARGEST) {
        return large_get(s, rounded);
    }
    unsigned class = slab_class(rounded);
    struct list *regions = &s->class[class];
    struct slab_region *r = list_empty(regions)
                                ? region_new(s, class)
                                : LIST_ENTRY(regions->next, struct slab_region, node);
    return r == NULL ? NULL : region_get(s, r);
}

void *mem_slab_get(struct mem_slab *s, size_t size)
{
    if (size > SLAB_SIZE_MAX) {
        return NULL;
    }
    if (s->plain) {
        bool pages = size > 0 && size % MEM_SLAB_PAGE == 0;
        return mem_aligned(pages ? MEM_SLAB_PAGE : MEM_SLAB_ALIGN, size);
    }
    size_t rounded = mem_slab_rounded(size);
    lock_take(&s->lock);
    void *p = slab_take(s, rounded);
    if (p != NULL) {
        s->info.asked_bytes += size;
        s->info.rounded_bytes += rounded;
        slab_settle(s);
    }
    lock_release(&s->lock);
    if (p != NULL) {
        mem_unpoison(p, size);
    }
    return p;
}

void mem_slab_put(struct mem_slab *s, void *p, size_t size)
{
    if (p == NULL || s->plain) {
        mem_free(p);
        return;
    }
    size_t rounded = mem_slab_rounded(size);
    lock_take(&s->lock);
    s->info.asked_bytes -= size;
    s->info.rounded_bytes -= rounded;
    if (rounded > SLAB_LARGEST) {
        large_put(s, p, rounded);
    } else {
        struct slab_region *r = (void *)((uint8_t *)p - ((uintptr_t)p & (SLAB_REGION - 1)));
        CHECK(r->class == slab_class(rounded));
        region_put(s, r, p);
    }
    slab_trim(s, s->keep_bytes);
    slab_settle(s);
    lock_release(&s->lock);
}

/* ---- life ---- */

struct mem_slab *mem_slab_new(const struct mem_slab_options *opt)
{
    struct mem_slab *s = mem_zalloc(sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    s->budget = opt->budget;
    s->plain = opt->plain;
    s->keep_bytes = opt->plain ? 0 : opt->keep_bytes;
    lock_init(&s->lock, LOCK_RANK_leaf);
    list_init(&s->warm);
    for (size_t i = 0; i < SLAB_CLASSES; i++) {
        list_init(&s->class[i]);
    }
    slab_settle(s);
    return s;
}

static void slab_drop_all(struct mem_slab *s, struct list *regions)
{
    LIST_FOR_EACH_SAFE(node, regions)
    {
        region_drop(s, LIST_ENTRY(node, struct slab_region, node));
    }
}

struct mem_slab *mem_slab_free(struct mem_slab *s)
{
    if (s != NULL) {
        CHECK(s->info.asked_bytes == 0 && s->info.rounded_bytes == 0);
        slab_trim(s, 0);
        for (size_t i = 0; i < SLAB_CLASSES; i++) {
            slab_drop_all(s, &s->class[i]);
        }
        CHECK(s->info.resident_bytes == 0 && s->info.regions == 0);
        if (s->budget != NULL) {
            mem_budget_give(s->budget, s->info.charged_bytes);
        }
        lock_fini(&s->lock);
        mem_free(s);
    }
    return NULL;
}

void mem_slab_info(struct mem_slab *s, struct mem_slab_info *ret)
{
    lock_take(&s->lock);
    *ret = s->info;
    lock_release(&s->lock);
}
