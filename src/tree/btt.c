/* tree/btt.c -- the block translation table in memory; see btt.h. */
#include "tree/btt.h"

#include "base/mem.h"

#include <inttypes.h>
#include <string.h>

#define CHUNK_PAGES 512u
#define PAGE_HEAD_BYTES 16u
#define POOL_KEEP 4u /* spare pieces that stay when nothing is reserved */

struct btt_page {
    uint32_t refs;
    uint8_t bytes[TREE_BTT_PAGE_BYTES];
};
struct btt_chunk {
    uint32_t refs;
    struct btt_page *page[CHUNK_PAGES]; /* NULL: void */
};
/* What writes under way may need to change shared pages. */
struct btt_pool {
    struct btt_page **page;
    struct btt_chunk **chunk;
    size_t page_count, page_capacity, chunk_count, chunk_capacity;
    size_t reserved;
};

struct tree_btt {
    struct btt_pool pool;  /* the live table's; what was frozen uses it, too */
    struct tree_btt *live; /* itself */
    struct btt_chunk **chunk;
    size_t chunk_count, chunk_capacity;
    uint64_t *dirty; /* a bit per page, for all chunks */
    uint64_t next_block, free_head, free_count;
};

/* ---- memory ---- */

static void page_unref(struct btt_page *p)
{
    if (p != NULL && --p->refs == 0) {
        mem_free(p);
    }
}

static void chunk_unref(struct btt_chunk *c)
{
    if (c != NULL && --c->refs == 0) {
        for (size_t i = 0; i < CHUNK_PAGES; i++) {
            page_unref(c->page[i]);
        }
        mem_free(c);
    }
}

static int pool_fill(struct btt_pool *p, size_t count)
{
    int rc = mem_grow(&p->page, &p->page_capacity, count, sizeof(struct btt_page *));
    rc = rc < 0 ? rc : mem_grow(&p->chunk, &p->chunk_capacity, count, sizeof(struct btt_chunk *));
    while (rc == 0 && p->page_count < count) {
        p->page[p->page_count] = mem_alloc(sizeof(struct btt_page));
        if (p->page[p->page_count] == NULL) {
            return -ENOMEM;
        }
        p->page_count++;
    }
    while (rc == 0 && p->chunk_count < count) {
        p->chunk[p->chunk_count] = mem_alloc(sizeof(struct btt_chunk));
        if (p->chunk[p->chunk_count] == NULL) {
            return -ENOMEM;
        }
        p->chunk_count++;
    }
    return rc;
}

static void pool_trim(struct btt_pool *p, size_t count)
{
    while (p->page_count > count) {
        mem_free(p->page[--p->page_count]);
    }
    while (p->chunk_count > count) {
        mem_free(p->chunk[--p->chunk_count]);
    }
}

int tree_btt_reserve(struct tree_btt *t, size_t count)
{
    struct btt_pool *p = &t->live->pool;
    int rc = pool_fill(p, p->reserved + count);
    p->reserved += rc < 0 ? 0 : count;
    return rc;
}

void tree_btt_unreserve(struct tree_btt *t, size_t count)
{
    struct btt_pool *p = &t->live->pool;
    CHECK(count <= p->reserved);
    p->reserved -= count;
    pool_trim(p, p->reserved + POOL_KEEP);
}

/* A chunk of this table alone. */
static struct btt_chunk *chunk_own(struct tree_btt *t, size_t no)
{
    CHECK(no < t->chunk_count); /* extended before */
    struct btt_chunk *c = t->chunk[no];
    if (c != NULL && c->refs == 1) {
        return c;
    }
    struct btt_pool *p = &t->live->pool;
    CHECK(p->chunk_count > 0); /* reserved */
    struct btt_chunk *own = p->chunk[--p->chunk_count];
    if (c == NULL) {
        memset(own, 0, sizeof *own);
    } else {
        *own = *c;
        for (size_t i = 0; i < CHUNK_PAGES; i++) {
            if (own->page[i] != NULL) {
                own->page[i]->refs++;
            }
        }
        chunk_unref(c);
    }
    own->refs = 1;
    t->chunk[no] = own;
    return own;
}

static struct btt_page *page_own(struct tree_btt *t, uint64_t page_no)
{
    struct btt_chunk *c = chunk_own(t, (size_t)(page_no / CHUNK_PAGES));
    struct btt_page **slot = &c->page[page_no % CHUNK_PAGES];
    if (*slot != NULL && (*slot)->refs == 1) {
        return *slot;
    }
    struct btt_pool *p = &t->live->pool;
    CHECK(p->page_count > 0); /* reserved */
    struct btt_page *own = p->page[--p->page_count];
    if (*slot == NULL) {
        memset(own, 0, sizeof *own);
    } else {
        *own = **slot;
        page_unref(*slot);
    }
    own->refs = 1;
    *slot = own;
    return own;
}

static const struct btt_page *page_find(const struct tree_btt *t, uint64_t page_no)
{
    size_t no = (size_t)(page_no / CHUNK_PAGES);
    const struct btt_chunk *c = no < t->chunk_count ? t->chunk[no] : NULL;
    return c == NULL ? NULL : c->page[page_no % CHUNK_PAGES];
}

int tree_btt_extend(struct tree_btt *t, uint64_t block)
{
    size_t need = (size_t)(block / TREE_BTT_PAGE_ENTRIES / CHUNK_PAGES) + 1;
    size_t had = t->chunk_capacity;
    if (need <= t->chunk_count) {
        return 0;
    }
    int rc = mem_grow(&t->chunk, &t->chunk_capacity, need, sizeof(struct btt_chunk *));
    if (rc < 0) {
        return rc;
    }
    uint64_t *dirty = mem_realloc(t->dirty, t->chunk_capacity * (CHUNK_PAGES / 8));
    if (dirty == NULL) {
        t->chunk_capacity = had; /* the same again the next time */
        return -ENOMEM;
    }
    t->dirty = dirty;
    size_t words = CHUNK_PAGES / 64;
    memset(&t->dirty[t->chunk_count * words], 0, (need - t->chunk_count) * words * 8);
    while (t->chunk_count < need) {
        t->chunk[t->chunk_count++] = NULL;
    }
    return 0;
}

int tree_btt_new(struct tree_btt **ret)
{
    struct tree_btt *t = mem_zalloc(sizeof *t);
    if (t == NULL) {
        return -ENOMEM;
    }
    t->live = t;
    t->next_block = 1;
    *ret = t;
    return 0;
}

struct tree_btt *tree_btt_free(struct tree_btt *t)
{
    if (t != NULL) {
        for (size_t i = 0; i < t->chunk_count; i++) {
            chunk_unref(t->chunk[i]);
        }
        pool_trim(&t->pool, 0);
        mem_free(t->pool.page);
        mem_free(t->pool.chunk);
        mem_free(t->chunk);
        mem_free(t->dirty);
        mem_free(t);
    }
    return NULL;
}

int tree_btt_freeze(struct tree_btt *t, struct tree_btt **ret)
{
    CLEANUP(tree_btt_freep) struct tree_btt *f = NULL;
    int rc = tree_btt_new(&f);
    if (rc == 0 && t->chunk_count > 0) {
        rc = tree_btt_extend(f, t->chunk_count * CHUNK_PAGES * TREE_BTT_PAGE_ENTRIES - 1);
    }
    if (rc < 0) {
        return rc;
    }
    f->live = t;
    f->next_block = t->next_block;
    f->free_head = t->free_head;
    f->free_count = t->free_count;
    for (size_t i = 0; i < t->chunk_count; i++) {
        f->chunk[i] = t->chunk[i];
        if (f->chunk[i] != NULL) {
            f->chunk[i]->refs++;
        }
    }
    size_t bytes = t->chunk_count * (CHUNK_PAGES / 8);
    if (bytes > 0) {
        memcpy(f->dirty, t->dirty, bytes);
        memset(t->dirty, 0, bytes);
    }
    *ret = f;
    f = NULL;
    return 0;
}

void tree_btt_abandon(struct tree_btt *t, struct tree_btt *frozen)
{
    size_t both = (size_t)base_min(t->chunk_count, frozen->chunk_count);
    for (size_t i = 0; i < both * (CHUNK_PAGES / 64); i++) {
        t->dirty[i] |= frozen->dirty[i];
    }
    tree_btt_free(frozen);
}

/* ---- entries ---- */

static uint8_t *page_entry(struct btt_page *p, uint64_t block)
{
    size_t i = (size_t)(block % TREE_BTT_PAGE_ENTRIES);
    return p->bytes + PAGE_HEAD_BYTES + i * TREE_BTT_ENTRY_BYTES;
}

void tree_btt_get(const struct tree_btt *t, uint64_t block, struct tree_btt_entry *ret)
{
    const struct btt_page *p = page_find(t, block / TREE_BTT_PAGE_ENTRIES);
    *ret = (struct tree_btt_entry){0};
    if (p != NULL) {
        size_t at =
            PAGE_HEAD_BYTES + (size_t)(block % TREE_BTT_PAGE_ENTRIES) * TREE_BTT_ENTRY_BYTES;
        CHECK(tree_btt_entry_decode(p->bytes + at, ret) == 0); /* checked when it came in */
    }
}

uint64_t tree_btt_next_block(const struct tree_btt *t)
{
    return t->next_block;
}

void tree_btt_put(struct tree_btt *t, uint64_t block, const struct tree_btt_entry *e)
{
    uint64_t page_no = block / TREE_BTT_PAGE_ENTRIES;
    CHECK(block > 0 && block <= TREE_BTT_BLOCK_MAX);
    struct btt_page *p = page_own(t, page_no);
    tree_btt_entry_encode(e, page_entry(p, block));
    t->dirty[page_no / 64] |= UINT64_C(1) << page_no % 64;
    if (t != t->live) { /* what will be on disk differs from the live one's, changed or not */
        CHECK(page_no / CHUNK_PAGES < t->live->chunk_count);
        t->live->dirty[page_no / 64] |= UINT64_C(1) << page_no % 64;
    }
    t->next_block = base_max(t->next_block, block + 1);
}

void tree_btt_release(struct tree_btt *t, uint64_t block)
{
    struct tree_btt_entry was;
    tree_btt_get(t, block, &was);
    CHECK(was.kind != TREE_BTT_FREE); /* else it was released before */
    struct tree_btt_entry e = {.kind = TREE_BTT_FREE, .link = t->free_head};
    tree_btt_put(t, block, &e);
    t->free_head = block;
    t->free_count++;
}

uint64_t tree_btt_alloc(struct tree_btt *t, bool fresh, uint8_t level, uint64_t birth)
{
    uint64_t block = fresh || t->free_head == 0 ? t->next_block : t->free_head;
    struct tree_btt_entry e;
    tree_btt_get(t, block, &e);
    if (block == t->free_head) {
        CHECK(e.kind == TREE_BTT_FREE);
        t->free_head = e.link;
        t->free_count--;
    } else {
        CHECK(e.kind == TREE_BTT_VOID);
    }
    e = (struct tree_btt_entry){.kind = TREE_BTT_NODE, .level = level, .birth = birth};
    tree_btt_put(t, block, &e);
    return block;
}

/* ---- to and from disk ---- */

uint64_t tree_btt_page_count(const struct tree_btt *t)
{
    return (t->next_block + TREE_BTT_PAGE_ENTRIES - 1) / TREE_BTT_PAGE_ENTRIES;
}

uint64_t tree_btt_memory(const struct tree_btt *t)
{
    const struct btt_pool *p = &t->pool;
    uint64_t pages = p->page_count, chunks = p->chunk_count, spare = p->page_capacity;
    if (t->live == t) {
        pages += tree_btt_page_count(t);
        chunks += t->chunk_count;
    }
    return sizeof *t + pages * sizeof(struct btt_page) + chunks * sizeof(struct btt_chunk) +
           (spare + p->chunk_capacity + t->chunk_capacity) * sizeof(void *) +
           t->chunk_capacity * (CHUNK_PAGES / 8);
}

uint64_t tree_btt_dirty(const struct tree_btt *t, uint64_t from)
{
    uint64_t end = (uint64_t)t->chunk_count * CHUNK_PAGES;
    while (from < end) {
        uint64_t word = t->dirty[from / 64] >> from % 64;
        if (word != 0) {
            return from + (uint64_t)__builtin_ctzll(word);
        }
        from = (from / 64 + 1) * 64;
    }
    return TREE_BTT_NO_PAGE;
}

uint64_t tree_btt_page(const struct tree_btt *t, uint64_t page_no, const uint8_t *file_id,
                       uint8_t out[TREE_BTT_PAGE_BYTES])
{
    const struct btt_page *p = page_find(t, page_no);
    CHECK(p != NULL);
    memcpy(out, p->bytes, TREE_BTT_PAGE_BYTES);
    return tree_btt_page_seal(out, file_id, page_no);
}

void tree_btt_describe(const struct tree_btt *t, struct tree_btt_index *ret)
{
    *ret = (struct tree_btt_index){.next_block = t->next_block,
                                   .free_head = t->free_head,
                                   .free_count = t->free_count,
                                   .page_count = (size_t)tree_btt_page_count(t)};
}

int tree_btt_load(struct tree_btt *t, const struct tree_btt_index *x)
{
    CHECK(t->chunk_count == 0);
    t->next_block = x->next_block;
    t->free_head = x->free_head;
    t->free_count = x->free_count;
    return tree_btt_extend(t, x->next_block);
}

int tree_btt_load_page(struct tree_btt *t, uint64_t page_no,
                       const uint8_t page[TREE_BTT_PAGE_BYTES])
{
    int rc = tree_btt_reserve(t, 1);
    if (rc == 0) {
        memcpy(page_own(t, page_no)->bytes, page, TREE_BTT_PAGE_BYTES);
        tree_btt_unreserve(t, 1);
    }
    return rc;
}

/* ---- is a loaded table one whole? ---- */

struct btt_census {
    const struct tree_btt *table;
    uint64_t *seen;             /* a bit per number: it was reached by a link */
    uint64_t free, segments;    /* entries of the kind */
    uint64_t reached, attached; /* of the chain; of nodes */
    struct err *err;
};

/* False: it was reached before. */
static bool census_reach(struct btt_census *c, uint64_t block)
{
    uint64_t bit = UINT64_C(1) << block % 64;
    bool first = (c->seen[block / 64] & bit) == 0;
    c->seen[block / 64] |= bit;
    return first;
}

static int census_chain(struct btt_census *c)
{
    const struct tree_btt *t = c->table;
    struct tree_btt_entry e;
    uint64_t block = t->free_head;
    for (; block != 0 && c->reached <= t->free_count; c->reached++) {
        tree_btt_get(t, block, &e);
        if (block >= t->next_block || e.kind != TREE_BTT_FREE || !census_reach(c, block)) {
            return err_set(c->err, -ERR_corrupt, "chain of free blocks: block %" PRIu64, block);
        }
        block = e.link;
    }
    return c->reached == t->free_count
               ? 0
               : err_set(c->err, -ERR_corrupt, "chain of free blocks: not %" PRIu64, t->free_count);
}

static int census_node(struct btt_census *c, uint64_t node, const struct tree_btt_entry *of)
{
    struct tree_btt_entry e = *of;
    unsigned count = 0;
    for (uint64_t block = of->link; block != 0; block = e.link) {
        tree_btt_get(c->table, block, &e);
        bool good = block < c->table->next_block && e.kind == TREE_BTT_SEGMENT;
        if (!good || !census_reach(c, block)) {
            return err_set(c->err, -ERR_corrupt, "block %" PRIu64 ": older extent %" PRIu64, node,
                           block);
        }
        count++;
    }
    c->attached += count;
    return count == of->segment_count
               ? 0
               : err_set(c->err, -ERR_corrupt, "block %" PRIu64 ": %u older extents", node, count);
}

static int census_entry(struct btt_census *c, uint64_t block)
{
    struct tree_btt_entry e;
    tree_btt_get(c->table, block, &e);
    c->free += e.kind == TREE_BTT_FREE ? 1 : 0;
    c->segments += e.kind == TREE_BTT_SEGMENT ? 1 : 0;
    bool outside = block == 0 || block >= c->table->next_block;
    if (outside && e.kind != TREE_BTT_VOID) {
        return err_set(c->err, -ERR_corrupt, "block %" PRIu64 " is outside of the table", block);
    }
    return e.kind == TREE_BTT_NODE ? census_node(c, block, &e) : 0;
}

static int census_take(struct btt_census *c)
{
    const struct tree_btt *t = c->table;
    uint64_t end = tree_btt_page_count(t) * TREE_BTT_PAGE_ENTRIES;
    int rc = census_chain(c);
    for (uint64_t block = 0; block < end && rc == 0; block++) {
        rc = census_entry(c, block);
    }
    if (rc == 0 && (c->free != t->free_count || c->segments != c->attached)) {
        rc = err_set(c->err, -ERR_corrupt, "%" PRIu64 " blocks of the table belong to nothing",
                     c->free - t->free_count + c->segments - c->attached);
    }
    return rc;
}

/* Numbers that were given out, but not to anything that was on disk in the end. */
static int btt_collect(struct tree_btt *t)
{
    int rc = 0;
    for (uint64_t block = 1; block < t->next_block && rc == 0; block++) {
        struct tree_btt_entry e;
        tree_btt_get(t, block, &e);
        if (e.kind == TREE_BTT_VOID || (e.kind == TREE_BTT_NODE && e.units == 0)) {
            rc = tree_btt_reserve(t, 1);
            if (rc == 0) {
                tree_btt_release(t, block);
                tree_btt_unreserve(t, 1);
            }
        }
    }
    return rc;
}

int tree_btt_adopt(struct tree_btt *t, bool writable, struct err *e)
{
    uint64_t end = tree_btt_page_count(t) * TREE_BTT_PAGE_ENTRIES;
    struct btt_census c = {.table = t, .err = e, .seen = mem_calloc((size_t)end / 64 + 1, 8)};
    if (c.seen == NULL) {
        return -ENOMEM;
    }
    int rc = census_take(&c);
    mem_free(c.seen);
    return rc == 0 && writable ? btt_collect(t) : rc;
}
