/*
 * tree/nodes.c -- see nodes.h.
 *
 * Why readers need no lock: a version is complete before the slot of its block leads to it, and
 * pages of slots never move. A reader of version V follows `older` only from versions above V. What
 * is unlinked was replaced at or below the oldest V of any reader, so what replaced it stops every
 * reader, and nobody stands on what is freed.
 *
 * Of what is younger than the oldest reader and still seen by none only the shell remains (hollow).
 * It leaves the chain, so that old readers have no long way, but it and its `older` stay for those
 * who stand on it until the oldest reader is younger. What `older` leads to may be freed before:
 * then nobody is left who would go there.
 *
 * A version is in `retired` from when it is replaced until nobody can look for it, then in `gone`
 * until nobody has it pinned or writes it. It is among `dirty` before it was written, and in one of
 * the clocks afterwards while its head is in memory.
 */
#include "tree/nodes.h"

#include "base/mem.h"

#define NODES_LEVELS 16u
#define SWEEP_ONE (UINT64_C(1) << 16)
/* A head that readers come to stays for so many looks, as its filter does, which goes with it: jobs
 * come to many once, and need room for what they bring, which nobody else asks for. */
#define HEAD_TURNS 4u
#define PAGE_BITS 14u
#define PAGE_SLOTS (UINT64_C(1) << PAGE_BITS)
#define PAGE_COUNT (TREE_NODES_MAX >> PAGE_BITS)

struct nodes_page {
    _Atomic(struct tree_node *) slot[PAGE_SLOTS];
};

struct nodes_level {
    _Atomic uint64_t nodes, raw_bytes, entries;
};

struct nodes_clock {
    struct list heads;
    size_t count;
    uint64_t due; /* looks, in parts of SWEEP_ONE */
};

struct tree_nodes {
    struct tree_file *file;
    struct tree_cache *cache;
    struct nodes_clock leaves, inner;
    struct list dirty, retired, gone, frees;
    struct list spare; /* by `retired` */
    size_t spare_count;
    uint64_t oldest, limit; /* numbers of blocks are below the limit */
    uint64_t newest;        /* version with which something was replaced */
    uint32_t mark;
    struct tree_nodes_info info;
    struct nodes_level level[NODES_LEVELS];
    _Atomic(struct nodes_page *) page[PAGE_COUNT];
};

static struct tree_node *node_of_retired(struct list *at)
{
    return LIST_ENTRY(at, struct tree_node, retired);
}

static uint64_t node_replaced(const struct tree_node *node)
{
    return atomic_load_explicit(&node->replaced, memory_order_relaxed);
}

/* On the loop's thread: only there does it change. */
static bool node_is_absent(const struct tree_node *node)
{
    return (atomic_load_explicit(&node->state, memory_order_relaxed) & TREE_PART_ABSENT) != 0;
}

/* Who has unpinned it does not look at it any more. */
static bool node_is_pinned(const struct tree_node *node)
{
    return (atomic_load_explicit(&node->state, memory_order_acquire) & ~TREE_PART_ABSENT) != 0;
}

/* ---- memory ---- */

static struct tree_node *node_new(struct tree_nodes *n)
{
    struct tree_node *node = mem_zalloc(sizeof *node);
    if (node != NULL) {
        tree_cache_force(n->cache, sizeof *node);
        atomic_init(&node->replaced, TREE_NO_VERSION);
        atomic_init(&node->older, NULL);
        atomic_init(&node->state, TREE_PART_ABSENT);
        list_init(&node->clock);
        list_init(&node->dirty);
        list_init(&node->retired);
        list_init(&node->frees);
    }
    return node;
}

/* It is in no list. */
static void node_free(struct tree_nodes *n, struct tree_node *node)
{
    CHECK(!node_is_pinned(node));
    (void)tree_head_unref(node->head);
    mem_free(node);
    tree_cache_give(n->cache, sizeof *node);
}

static int page_prepare(struct tree_nodes *n, uint64_t page_no)
{
    if (atomic_load_explicit(&n->page[page_no], memory_order_relaxed) == NULL) {
        struct nodes_page *page = mem_zalloc(sizeof *page);
        if (page == NULL) {
            return -ENOMEM;
        }
        n->info.memory += sizeof *page;
        atomic_store_explicit(&n->page[page_no], page, memory_order_release);
    }
    return 0;
}

int tree_nodes_prepare(struct tree_nodes *n, size_t count, uint64_t block_max)
{
    if (block_max >= TREE_NODES_MAX) {
        return -ENOSPC;
    }
    for (uint64_t p = 0; p <= block_max >> PAGE_BITS; p++) {
        int rc = page_prepare(n, p);
        if (rc < 0) {
            return rc;
        }
    }
    while (n->spare_count < count) {
        struct tree_node *node = node_new(n);
        if (node == NULL) {
            return -ENOMEM;
        }
        list_push_back(&n->spare, &node->retired);
        n->spare_count++;
    }
    return 0;
}

/* NULL: no block of the page has ever been there. */
static _Atomic(struct tree_node *) *slot_of(const struct tree_nodes *n, uint64_t block)
{
    if (block >= TREE_NODES_MAX) {
        return NULL;
    }
    struct nodes_page *page =
        atomic_load_explicit(&n->page[block >> PAGE_BITS], memory_order_acquire);
    return page != NULL ? &page->slot[block % PAGE_SLOTS] : NULL;
}

static struct tree_node *slot_get(const struct tree_nodes *n, uint64_t block)
{
    _Atomic(struct tree_node *) *slot = slot_of(n, block);
    return slot != NULL ? atomic_load_explicit(slot, memory_order_acquire) : NULL;
}

static void slot_set(struct tree_nodes *n, uint64_t block, struct tree_node *node)
{
    atomic_store_explicit(slot_of(n, block), node, memory_order_release);
}

/* ---- how much they hold ---- */

#define SIZE_RATIO_MAX 6u      /* unpacked to packed: what is believed of a file */
#define SIZE_RATIO 2u          /* where nothing is known */
#define SIZE_RECORD_BYTES 128u /* the same */

static uint32_t size_raw(const struct tree_node *node)
{
    return atomic_load_explicit(&node->raw_bytes, memory_order_relaxed);
}

static uint32_t size_entries(const struct tree_node *node)
{
    return atomic_load_explicit(&node->entries, memory_order_relaxed);
}

/* Only the loop's thread writes; `sign` -1 or 1. */
static void size_add(_Atomic uint64_t *to, uint64_t value, int sign)
{
    uint64_t now = atomic_load_explicit(to, memory_order_relaxed);
    atomic_store_explicit(to, sign < 0 ? now - value : now + value, memory_order_relaxed);
}

static void size_count(struct tree_nodes *n, const struct tree_node *node, int sign)
{
    struct nodes_level *l = &n->level[base_min(node->level, NODES_LEVELS - 1)];
    size_add(&l->nodes, 1, sign);
    size_add(&l->raw_bytes, size_raw(node), sign);
    size_add(&l->entries, size_entries(node), sign);
}

static void size_set(struct tree_node *node, uint64_t raw_bytes, uint64_t entries)
{
    uint32_t bytes = (uint32_t)base_min(raw_bytes, UINT32_MAX);
    uint32_t count = (uint32_t)base_min(entries, UINT32_MAX);
    atomic_store_explicit(&node->raw_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&node->entries, count, memory_order_relaxed);
}

/* The first head of a node ends guessing. */
static void size_learn(struct tree_nodes *n, struct tree_node *node, const struct tree_head *h)
{
    bool counted = node_replaced(node) == TREE_NO_VERSION;
    if (node->sized) {
        return;
    }
    if (counted) {
        size_count(n, node, -1);
    }
    size_set(node, h->header.raw_bytes, h->header.entries);
    node->sized = true;
    if (counted) {
        size_count(n, node, 1);
    }
}

struct tree_nodes_level tree_nodes_level(const struct tree_nodes *n, unsigned level)
{
    const struct nodes_level *l = &n->level[base_min(level, NODES_LEVELS - 1)];
    return (struct tree_nodes_level){
        .nodes = atomic_load_explicit(&l->nodes, memory_order_relaxed),
        .raw_bytes = atomic_load_explicit(&l->raw_bytes, memory_order_relaxed),
        .entries = atomic_load_explicit(&l->entries, memory_order_relaxed)};
}

/* ---- heads ---- */

static struct nodes_clock *clock_of(struct tree_nodes *n, const struct tree_node *node)
{
    return node->head->header.level == 0 ? &n->leaves : &n->inner;
}

static void clock_add(struct tree_nodes *n, struct tree_node *node)
{
    struct nodes_clock *k = clock_of(n, node);
    list_push_back(&k->heads, &node->clock);
    k->count++;
}

static void clock_remove(struct tree_nodes *n, struct tree_node *node)
{
    if (!list_empty(&node->clock)) {
        list_remove(&node->clock);
        clock_of(n, node)->count--;
    }
}

static void head_comes(struct tree_nodes *n, struct tree_node *node, struct tree_head *head)
{
    node->head = head;
    n->info.heads++;
    if (node_replaced(node) != TREE_NO_VERSION) {
        n->info.retired_bytes += head->charged;
    }
    if (node->written) {
        clock_add(n, node);
    }
    atomic_store_explicit(&node->state, 0, memory_order_release);
}

/* It is not counted any more; still there. */
static void head_leaves(struct tree_nodes *n, struct tree_node *node)
{
    clock_remove(n, node);
    n->info.heads--;
    if (node_replaced(node) != TREE_NO_VERSION) {
        n->info.retired_bytes -= node->head->charged;
    }
}

/* The head's, which is the caller's then, may go. */
static bool clock_lets_go(struct tree_node *node)
{
    if (atomic_load_explicit(&node->state, memory_order_relaxed) != 0) {
        return false;
    }
    uint8_t turns = atomic_load_explicit(&node->head->turns, memory_order_relaxed);
    if (turns > 0) {
        atomic_store_explicit(&node->head->turns, (uint8_t)(turns - 1), memory_order_relaxed);
        return false;
    }
    uint32_t unpinned = 0;
    return atomic_compare_exchange_strong_explicit(&node->state, &unpinned, TREE_PART_ABSENT,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* The head that the hand is at: goes, or is last now. Returns what it was charged. */
static uint64_t clock_look(struct tree_nodes *n, struct nodes_clock *k)
{
    struct tree_node *node = LIST_ENTRY(k->heads.next, struct tree_node, clock);
    if (!clock_lets_go(node)) {
        list_remove(&node->clock);
        list_push_back(&k->heads, &node->clock);
        return 0;
    }
    uint64_t charged = node->head->charged;
    head_leaves(n, node);
    node->head = tree_head_unref(node->head);
    return charged;
}

static uint64_t clock_evict(struct tree_nodes *n, struct nodes_clock *k, uint64_t want)
{
    uint64_t freed = 0;
    for (size_t left = (HEAD_TURNS + 1) * k->count;
         left > 0 && freed < want && !list_empty(&k->heads); left--) {
        freed += clock_look(n, k);
    }
    return freed;
}

static uint64_t nodes_evict(void *arg, uint64_t want)
{
    struct tree_nodes *n = arg;
    uint64_t freed = clock_evict(n, &n->leaves, want);
    return freed < want ? freed + clock_evict(n, &n->inner, want - freed) : freed;
}

/* `looked` of each `of`: a part of a look that is left over is kept for the next time. */
static uint64_t clock_sweep(struct tree_nodes *n, struct nodes_clock *k, size_t looked, size_t of)
{
    uint64_t freed = 0, all = (uint64_t)k->count * SWEEP_ONE;
    uint64_t more = (uint64_t)base_min(looked, of) * SWEEP_ONE / of * k->count;
    for (k->due = base_min(k->due + more, all); k->due >= SWEEP_ONE; k->due -= SWEEP_ONE) {
        freed += list_empty(&k->heads) ? 0 : clock_look(n, k);
    }
    return freed;
}

static uint64_t nodes_sweep(void *arg, size_t looked, size_t of)
{
    struct tree_nodes *n = arg;
    return clock_sweep(n, &n->leaves, looked, of) + clock_sweep(n, &n->inner, looked, of);
}

bool tree_node_pin(struct tree_node *node)
{
    uint32_t was = atomic_load_explicit(&node->state, memory_order_relaxed);
    do {
        if ((was & TREE_PART_ABSENT) != 0) {
            return false;
        }
        CHECK(was < TREE_PART_ABSENT - 1);
    } while (!atomic_compare_exchange_weak_explicit(&node->state, &was, was + 1,
                                                    memory_order_acquire, memory_order_relaxed));
    uint8_t turns = atomic_load_explicit(&node->head->turns, memory_order_relaxed);
    if (turns < HEAD_TURNS) { /* else the line stays shared */
        atomic_store_explicit(&node->head->turns, (uint8_t)(turns + 1), memory_order_relaxed);
    }
    return true;
}

void tree_node_unpin(struct tree_node *node)
{
    uint32_t before = atomic_fetch_sub_explicit(&node->state, 1, memory_order_release);
    CHECK((before & TREE_PART_ABSENT) == 0 && before > 0);
}

void tree_node_fill(struct tree_nodes *n, struct tree_node *node, struct tree_head *head)
{
    if (!node_is_absent(node)) {
        (void)tree_head_unref(head);
        return;
    }
    CHECK(node->written && !node->gone);
    CHECK(!atomic_load_explicit(&node->hollow, memory_order_relaxed));
    size_learn(n, node, head);
    head_comes(n, node, head);
}

/* ---- versions ---- */

struct tree_node *tree_nodes_find(struct tree_nodes *n, uint64_t block, uint64_t version)
{
    struct tree_node *node = slot_get(n, block);
    while (node != NULL && node->version > version) {
        node = atomic_load_explicit(&node->older, memory_order_acquire);
    }
    bool seen = node != NULL && node_replaced(node) > version &&
                !atomic_load_explicit(&node->hollow, memory_order_relaxed);
    return seen ? node : NULL;
}

static uint64_t dirty_bytes_of(const struct tree_head *h)
{
    uint64_t bytes = h->charged;
    for (size_t i = 0; i < h->header.partition_count; i++) {
        bytes += tree_part_is_dirty(h->part[i]) ? h->part[i]->raw_len : 0;
    }
    return bytes;
}

/* If it is there. */
static void dirty_remove(struct tree_nodes *n, struct tree_node *node)
{
    if (!list_empty(&node->dirty)) {
        list_remove(&node->dirty);
        n->info.dirty_count--;
        n->info.dirty_bytes -= node->dirty_bytes;
        node->dirty_bytes = 0;
    }
}

/* What stays in memory for its sake alone: `next` (NULL: it is dropped) does without. */
static uint64_t kept_bytes_of(struct tree_nodes *n, const struct tree_head *h,
                              const struct tree_head *next)
{
    uint64_t bytes = 0;
    n->mark++;
    for (uint32_t i = 0; next != NULL && i < next->header.partition_count; i++) {
        next->part[i]->mark = n->mark;
    }
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        const struct tree_part *p = h->part[i];
        bytes += p->mark != n->mark && tree_part_is_dirty(p) ? p->raw_len : 0;
    }
    return bytes;
}

static void kept_remove(struct tree_nodes *n, struct tree_node *node)
{
    n->info.retired_bytes -= node->kept_bytes;
    node->kept_bytes = 0;
}

static void node_retire(struct tree_nodes *n, struct tree_node *node, uint64_t version,
                        const struct tree_head *next)
{
    CHECK(version > node->version && version > n->oldest);
    n->newest = base_max(n->newest, version);
    size_count(n, node, -1);
    atomic_store_explicit(&node->replaced, version, memory_order_relaxed);
    list_push_back(&n->retired, &node->retired);
    if (!node_is_absent(node)) {
        node->kept_bytes = node->written ? 0 : kept_bytes_of(n, node->head, next);
        n->info.retired_bytes += node->head->charged + node->kept_bytes;
    }
}

struct tree_node *tree_nodes_install(struct tree_nodes *n, uint64_t block, uint64_t version,
                                     struct tree_head *head)
{
    CHECK(block != 0 && block < TREE_NODES_MAX && n->spare_count > 0);
    struct tree_node *node = node_of_retired(list_pop_front(&n->spare));
    n->spare_count--;
    struct tree_node *old = slot_get(n, block);
    if (old != NULL && !old->dropped) {
        node_retire(n, old, version, head);
    } else {
        CHECK(old == NULL || (!old->untold && version >= node_replaced(old)));
        n->info.nodes++;
    }
    node->block = block;
    node->version = version;
    node->dirty_bytes = dirty_bytes_of(head);
    n->info.versions++;
    n->info.dirty_count++;
    n->info.dirty_bytes += node->dirty_bytes;
    list_push_back(&n->dirty, &node->dirty);
    node->level = head->header.level;
    node->sized = true;
    size_set(node, head->header.raw_bytes, head->header.entries);
    size_count(n, node, 1);
    head_comes(n, node, head);
    if (old != NULL) {
        old->newer = node;
        atomic_store_explicit(&node->older, old, memory_order_relaxed);
    }
    slot_set(n, block, node);
    n->limit = base_max(n->limit, block + 1);
    return node;
}

uint64_t tree_nodes_unneeded(const struct tree_nodes *n, const struct tree_node *node)
{
    return node_replaced(node) == TREE_NO_VERSION ? 0 : n->newest;
}

uint64_t tree_nodes_replaced(const struct tree_nodes *n, uint64_t version, uint64_t seen)
{
    uint64_t bytes = 0;
    for (struct list *at = n->retired.prev; at != &n->retired; at = at->prev) {
        const struct tree_node *node = node_of_retired(at);
        if (node_replaced(node) != version) {
            break;
        }
        if (node->version <= seen && !node_is_absent(node)) {
            bytes += node->head->charged + node->kept_bytes;
        }
    }
    return bytes;
}

/* ---- those that the tree does without ---- */

bool tree_nodes_block_writing(const struct tree_nodes *n, uint64_t block)
{
    const struct tree_node *node = slot_get(n, block);
    while (node != NULL && !node->writing) {
        node = atomic_load_explicit(&node->older, memory_order_relaxed);
    }
    if (node != NULL) {
        return true;
    }
    LIST_FOR_EACH(at, &n->gone)
    {
        const struct tree_node *gone = node_of_retired(at);
        if (gone->block == block && gone->writing) {
            return true;
        }
    }
    return false;
}

/* True: the file knows, or there will never be a checkpoint again. */
static bool drop_tell(struct tree_nodes *n, struct tree_node *node)
{
    return !tree_nodes_block_writing(n, node->block) &&
           tree_file_block_free(n->file, node->block, node_replaced(node)) != -ENOMEM;
}

static void drops_tell(struct tree_nodes *n)
{
    LIST_FOR_EACH_SAFE(at, &n->frees)
    {
        struct tree_node *node = LIST_ENTRY(at, struct tree_node, frees);
        if (drop_tell(n, node)) {
            node->untold = false;
            list_remove(&node->frees);
            n->info.frees_pending--;
        }
    }
}

void tree_nodes_drop(struct tree_nodes *n, uint64_t block, uint64_t version)
{
    struct tree_node *node = slot_get(n, block);
    CHECK(node != NULL && !node->dropped);
    node_retire(n, node, version, NULL);
    node->dropped = true;
    n->info.nodes--;
    if (!drop_tell(n, node)) {
        node->untold = true;
        list_push_back(&n->frees, &node->frees);
        n->info.frees_pending++;
    }
}

static void chain_remove(struct tree_nodes *n, struct tree_node *node)
{
    struct tree_node *older = atomic_load_explicit(&node->older, memory_order_relaxed);
    if (older != NULL) {
        older->newer = node->newer;
    }
    if (node->newer != NULL) {
        atomic_store_explicit(&node->newer->older, older, memory_order_release);
    } else {
        slot_set(n, node->block, older);
    }
}

/* Nobody finds it any more. It is the oldest of its block: they go in the order of replacement. */
static void node_go(struct tree_nodes *n, struct tree_node *node)
{
    CHECK(!node->gone);
    if (!node->apart) {
        CHECK(atomic_load_explicit(&node->older, memory_order_relaxed) == NULL);
        chain_remove(n, node);
    }
    dirty_remove(n, node);
    kept_remove(n, node);
    if (!node_is_absent(node)) {
        head_leaves(n, node);
    }
    node->gone = true;
    list_remove(&node->retired);
    list_push_back(&n->gone, &node->retired);
}

/* The head goes when nobody has it; the rest when the file knows, too. */
static void gone_sweep(struct tree_nodes *n)
{
    LIST_FOR_EACH_SAFE(at, &n->gone)
    {
        struct tree_node *node = node_of_retired(at);
        if (node_is_pinned(node) || node->writing) {
            continue;
        }
        node->head = tree_head_unref(node->head);
        atomic_store_explicit(&node->state, TREE_PART_ABSENT, memory_order_relaxed);
        if (!node->untold) {
            list_remove(&node->retired);
            node_free(n, node);
            n->info.versions--;
        }
    }
}

void tree_nodes_reclaim(struct tree_nodes *n, uint64_t oldest)
{
    CHECK(oldest >= n->oldest);
    while (!list_empty(&n->retired) && node_replaced(node_of_retired(n->retired.next)) <= oldest) {
        node_go(n, node_of_retired(n->retired.next));
    }
    drops_tell(n);
    gone_sweep(n);
    if (oldest > n->oldest) {
        n->oldest = oldest;
        tree_file_oldest(n->file, oldest);
    }
}

/* Is it in one of the snapshots? */
static bool node_is_seen(const struct tree_node *node, const uint64_t *held, size_t count)
{
    size_t low = 0, high = count; /* the first one that is not below its version is there */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (held[middle] < node->version) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && held[low] < node_replaced(node);
}

/* Readers of older versions may stand on it: it stays, with nothing inside. Those who have it
 * pinned keep the head: then it is tried again. */
static void node_hollow(struct tree_nodes *n, struct tree_node *node)
{
    uint32_t unpinned = 0;
    if (!node_is_absent(node)) {
        if (!atomic_compare_exchange_strong_explicit(&node->state, &unpinned, TREE_PART_ABSENT,
                                                     memory_order_acquire, memory_order_relaxed)) {
            return;
        }
        head_leaves(n, node);
        node->head = tree_head_unref(node->head);
    }
    dirty_remove(n, node);
    kept_remove(n, node);
    atomic_store_explicit(&node->hollow, true, memory_order_relaxed);
    if (node->newer != NULL) { /* else it says that the block is not there */
        chain_remove(n, node);
        node->apart = true;
    }
}

void tree_nodes_hollow(struct tree_nodes *n, const uint64_t *held, size_t count)
{
    CHECK(count > 0 && held[0] >= n->oldest);
    LIST_FOR_EACH(at, &n->retired)
    {
        struct tree_node *node = node_of_retired(at);
        bool hollow = atomic_load_explicit(&node->hollow, memory_order_relaxed);
        if (!hollow && !node->writing && !node_is_seen(node, held, count)) {
            node_hollow(n, node);
        }
    }
}

void tree_nodes_written(struct tree_nodes *n, struct tree_node *node,
                        const struct tree_file_place *place)
{
    node->place = *place;
    node->writing = false;
    if (!node->written) {
        node->written = true;
        if (!node->gone) {
            dirty_remove(n, node);
            kept_remove(n, node);
            clock_add(n, node);
        }
    }
    drops_tell(n);
}

/* ---- all of them ---- */

static void nodes_init(struct tree_nodes *n)
{
    struct list *lists[] = {&n->dirty, &n->retired,      &n->gone,       &n->frees,
                            &n->spare, &n->leaves.heads, &n->inner.heads};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        list_init(lists[i]);
    }
}

static uint64_t load_disk_bytes(const struct tree_nodes *n, const struct tree_node *node)
{
    struct tree_space_extent older[8];
    size_t count = tree_file_older(n->file, node->block, older, ARRAY_COUNT(older));
    uint64_t bytes = tree_space_bytes(node->place.extent);
    for (size_t i = 0; i < base_min(count, ARRAY_COUNT(older)); i++) {
        bytes += tree_space_bytes(older[i]);
    }
    return bytes;
}

/* Each holds its share of all there is, by its size on disk. */
static void nodes_guess(struct tree_nodes *n, const struct tree_nodes_options *opt)
{
    uint64_t disk_bytes = 0;
    struct tree_node *node = tree_nodes_next(n, 0);
    for (; node != NULL; node = tree_nodes_next(n, node->block)) {
        disk_bytes += load_disk_bytes(n, node);
    }
    double ratio = opt->logical_bytes == 0 ? SIZE_RATIO
                                           : (double)opt->logical_bytes / (double)(disk_bytes + 1);
    double record = opt->key_count == 0 || opt->logical_bytes == 0
                        ? SIZE_RECORD_BYTES
                        : (double)opt->logical_bytes / (double)opt->key_count;
    ratio = ratio < 1 ? 1 : ratio > SIZE_RATIO_MAX ? SIZE_RATIO_MAX : ratio;
    record = record < 1 ? 1 : record;
    for (node = tree_nodes_next(n, 0); node != NULL; node = tree_nodes_next(n, node->block)) {
        double raw_bytes = (double)load_disk_bytes(n, node) * ratio;
        size_set(node, (uint64_t)raw_bytes, (uint64_t)(raw_bytes / record));
        size_count(n, node, 1);
    }
}

/* What the live table has. */
static int nodes_load(struct tree_nodes *n)
{
    uint64_t limit = tree_file_block_limit(n->file);
    for (uint64_t block = 1; block < limit; block++) {
        struct tree_file_place place;
        if (tree_file_find(n->file, block, &place) < 0) {
            continue; /* no node, or a number that was never written to */
        }
        int rc = block < TREE_NODES_MAX ? page_prepare(n, block >> PAGE_BITS) : -ENOSPC;
        if (rc < 0) {
            return rc;
        }
        struct tree_node *node = node_new(n);
        if (node == NULL) {
            return -ENOMEM;
        }
        node->block = block;
        node->place = place;
        node->level = place.level;
        node->written = true;
        slot_set(n, block, node);
        n->info.nodes++;
        n->info.versions++;
        n->limit = block + 1;
    }
    return 0;
}

int tree_nodes_new(const struct tree_nodes_options *opt, struct tree_nodes **ret)
{
    struct tree_nodes *n = mem_zalloc(sizeof *n);
    if (n == NULL) {
        return -ENOMEM;
    }
    n->file = opt->file;
    n->cache = opt->cache;
    n->info.memory = sizeof *n;
    nodes_init(n);
    int rc = nodes_load(n);
    if (rc < 0) {
        (void)tree_nodes_free(n);
        return rc;
    }
    nodes_guess(n, opt);
    const struct tree_cache_heads heads = {.evict = nodes_evict, .sweep = nodes_sweep, .arg = n};
    tree_cache_set_heads(n->cache, &heads);
    *ret = n;
    return 0;
}

static void page_free(struct tree_nodes *n, struct nodes_page *page)
{
    for (size_t i = 0; page != NULL && i < PAGE_SLOTS; i++) {
        struct tree_node *node = atomic_load_explicit(&page->slot[i], memory_order_relaxed);
        while (node != NULL) {
            struct tree_node *older = atomic_load_explicit(&node->older, memory_order_relaxed);
            node_free(n, node);
            node = older;
        }
    }
    mem_free(page);
}

static void free_all(struct tree_nodes *n, struct list *nodes)
{
    struct list *at = list_pop_front(nodes);
    for (; at != NULL; at = list_pop_front(nodes)) {
        node_free(n, node_of_retired(at));
    }
}

struct tree_nodes *tree_nodes_free(struct tree_nodes *n)
{
    if (n != NULL) {
        tree_cache_set_heads(n->cache, NULL);
        free_all(n, &n->spare);
        free_all(n, &n->gone);
        LIST_FOR_EACH_SAFE(at, &n->retired)
        {
            struct tree_node *node = node_of_retired(at);
            if (node->apart) {
                list_remove(at);
                node_free(n, node);
            }
        }
        for (size_t i = 0; i < PAGE_COUNT; i++) {
            page_free(n, atomic_load_explicit(&n->page[i], memory_order_relaxed));
        }
        mem_free(n);
    }
    return NULL;
}

void tree_nodes_info(const struct tree_nodes *n, struct tree_nodes_info *ret)
{
    *ret = n->info;
}

struct tree_node *tree_nodes_dirty(const struct tree_nodes *n, const struct tree_node *after)
{
    struct list *next = after != NULL ? after->dirty.next : n->dirty.next;
    return next != &n->dirty ? LIST_ENTRY(next, struct tree_node, dirty) : NULL;
}

struct tree_node *tree_nodes_next(const struct tree_nodes *n, uint64_t block)
{
    for (uint64_t b = block + 1; b < n->limit; b++) {
        struct tree_node *node = slot_get(n, b);
        if (node != NULL && !node->dropped) {
            return node;
        }
    }
    return NULL;
}
