#include "tree/memtable_priv.h"

#include <string.h>

/* ---- memory ---- */

#define BLOCK_BYTES (256u << 10)
#define BLOCK_HEADER ((size_t)base_align_up(sizeof(struct memtable_block), 16))

static struct memtable_block *block_new(struct tree_memtable *m, size_t size)
{
    if (m->budget != NULL && !mem_budget_take(m->budget, size)) {
        return NULL;
    }
    struct memtable_block *b = mem_alloc(size);
    if (b == NULL) {
        if (m->budget != NULL) {
            mem_budget_give(m->budget, size);
        }
        return NULL;
    }
    b->size = size;
    b->next = m->blocks;
    m->blocks = b;
    m->bytes += size;
    return b;
}

void *tree_memtable_take(struct tree_memtable *m, size_t size)
{
    size = (size_t)base_align_up(size, 8);
    if (size <= m->left) {
        uint8_t *p = m->at;
        m->at += size;
        m->left -= size;
        return p;
    }
    size_t whole = m->block_bytes == 0 ? BLOCK_BYTES : m->block_bytes;
    bool alone = size > whole / 4; /* what is left of the present block stays in use */
    struct memtable_block *b = block_new(m, alone ? BLOCK_HEADER + size : whole + BLOCK_HEADER);
    if (b == NULL) {
        return NULL;
    }
    uint8_t *p = (uint8_t *)b + BLOCK_HEADER;
    if (!alone) {
        m->at = p + size;
        m->left = whole - size;
    }
    return p;
}

/* ---- versions ---- */

static unsigned class_of(size_t size)
{
    if (size <= 512) {
        return (unsigned)((size + 15) / 16);
    }
    unsigned top = 63U - (unsigned)__builtin_clzll(size - 1); /* 9: 513 .. 1024 */
    unsigned quarter = (unsigned)((size - 1) >> (top - 2) & 3U);
    return 33 + (top - 9) * 4 + quarter;
}

static size_t class_size(unsigned c)
{
    if (c <= 32) {
        return c * 16U;
    }
    unsigned top = 9 + (c - 33) / 4;
    return ((size_t)1 << top) + (((size_t)(c - 33) % 4 + 1) << (top - 2));
}

struct tree_memtable_version *tree_memtable_version_new(struct tree_memtable *m, size_t len)
{
    unsigned c = class_of(sizeof(struct tree_memtable_version) + len);
    CHECK(c < MEMTABLE_CLASSES);
    struct tree_memtable_version *v = m->spare[c];
    if (v != NULL) {
        m->spare[c] = v->rest;
    } else {
        v = tree_memtable_take(m, class_size(c));
    }
    if (v != NULL) {
        v->size_class = (uint8_t)c;
        v->held = false;
        v->rest = NULL;
        v->len = (uint32_t)len;
    }
    return v;
}

size_t tree_memtable_version_size(const struct tree_memtable_version *v)
{
    return class_size(v->size_class);
}

void tree_memtable_version_put(struct tree_memtable *m, struct tree_memtable_version *v)
{
    CHECK(!v->held);
    v->rest = m->spare[v->size_class];
    m->spare[v->size_class] = v;
}

/* ---- the skip list ---- */

static uint64_t key_hint(struct kv_slice key)
{
    uint8_t b[8] = {0};
    memcpy(b, key.at, base_min(key.len, sizeof b));
    return (uint64_t)b[0] << 56 | (uint64_t)b[1] << 48 | (uint64_t)b[2] << 40 |
           (uint64_t)b[3] << 32 | (uint64_t)b[4] << 24 | (uint64_t)b[5] << 16 |
           (uint64_t)b[6] << 8 | (uint64_t)b[7];
}

static inline struct tree_memtable_entry *entry_next(const struct tree_memtable_entry *e,
                                                     unsigned level)
{
    return atomic_load_explicit(&e->next[level], memory_order_acquire);
}

static inline bool entry_before(const struct tree_memtable_entry *e, uint64_t hint,
                                struct kv_slice key)
{
    if (e->hint != hint) {
        return e->hint < hint;
    }
    return kv_slice_compare(memtable_entry_key(e), key) < 0;
}

static bool entry_is(const struct tree_memtable_entry *e, struct kv_slice key)
{
    return e != NULL && e->key_len == key.len &&
           memcmp(memtable_entry_key(e).at, key.at, key.len) == 0;
}

static struct tree_memtable_entry *entry_new(struct tree_memtable *m, struct kv_slice key,
                                             unsigned height)
{
    struct tree_memtable_entry *e =
        tree_memtable_take(m, sizeof *e + height * sizeof e->next[0] + key.len);
    if (e == NULL) {
        return NULL;
    }
    e->key_len = (uint16_t)key.len;
    e->height = (uint8_t)height;
    if (key.len > 0) {
        e->hint = key_hint(key);
        memcpy(&e->next[height], key.at, key.len);
    }
    return e;
}

int tree_memtable_table_init(struct tree_memtable *m, struct memtable_table *t)
{
    struct tree_memtable_entry *e = entry_new(m, kv_slice_of(NULL, 0), MEMTABLE_HEIGHT_MAX);
    if (e == NULL) {
        return -ENOMEM;
    }
    e->hint = 0;
    atomic_init(&e->head, NULL);
    atomic_init(&e->prev, NULL);
    for (unsigned i = 0; i < MEMTABLE_HEIGHT_MAX; i++) {
        atomic_init(&e->next[i], NULL);
        t->finger[i] = e;
    }
    t->head = e;
    atomic_init(&t->height, 1);
    return 0;
}

/* The last before `key`, of each level in `path` if that is not NULL. */
static inline struct tree_memtable_entry *
table_before(const struct memtable_table *t, struct kv_slice key, struct tree_memtable_entry **path)
{
    uint64_t hint = key_hint(key);
    struct tree_memtable_entry *e = t->head, *bound = NULL;
    for (unsigned level = atomic_load_explicit(&t->height, memory_order_relaxed); level-- > 0;) {
        struct tree_memtable_entry *next = entry_next(e, level);
        while (next != NULL && next != bound && entry_before(next, hint, key)) {
            e = next;
            next = entry_next(e, level);
        }
        bound = next; /* known not to be before: not compared again */
        if (path != NULL) {
            path[level] = e;
        }
    }
    return e;
}

struct tree_memtable_entry *tree_memtable_seek(const struct memtable_table *t, struct kv_slice key)
{
    if (key.len == 0) {
        return entry_next(t->head, 0);
    }
    /* What is linked in behind it meanwhile, perhaps before `key`, is nothing that is seen yet. */
    struct tree_memtable_entry *e = entry_next(table_before(t, key, NULL), 0);
    uint64_t hint = key_hint(key);
    while (e != NULL && entry_before(e, hint, key)) {
        e = entry_next(e, 0);
    }
    return e;
}

struct tree_memtable_entry *tree_memtable_last(const struct memtable_table *t)
{
    struct tree_memtable_entry *e = t->head;
    for (unsigned level = MEMTABLE_HEIGHT_MAX; level-- > 0;) {
        struct tree_memtable_entry *next = entry_next(e, level);
        while (next != NULL) {
            e = next;
            next = entry_next(e, level);
        }
    }
    return e == t->head ? NULL : e;
}

struct tree_memtable_entry *tree_memtable_seek_back(const struct memtable_table *t,
                                                    struct kv_slice key)
{
    struct tree_memtable_entry *e = table_before(t, key, NULL), *next = entry_next(e, 0);
    uint64_t hint = key_hint(key);
    while (next != NULL && entry_before(next, hint, key)) {
        e = next;
        next = entry_next(e, 0);
    }
    if (entry_is(next, key)) {
        return next;
    }
    return e == t->head ? NULL : e;
}

/* Keys often come in order, or the same again: is it where the last one was? */
static bool table_at_finger(const struct memtable_table *t, struct kv_slice key)
{
    uint64_t hint = key_hint(key);
    const struct tree_memtable_entry *e = t->finger[0];
    if (e != t->head && !entry_before(e, hint, key)) {
        return false;
    }
    const struct tree_memtable_entry *next = entry_next(e, 0);
    return next == NULL || !entry_before(next, hint, key);
}

struct tree_memtable_entry *tree_memtable_place(struct memtable_table *t, struct kv_slice key)
{
    if (!table_at_finger(t, key)) {
        table_before(t, key, t->finger);
    }
    struct tree_memtable_entry *e = entry_next(t->finger[0], 0);
    return entry_is(e, key) ? e : NULL;
}

static unsigned table_height(struct rand *r)
{
    uint64_t bits = rand_u64(r);
    unsigned height = 1;
    while (height < MEMTABLE_HEIGHT_MAX && (bits & 3) == 0) {
        height++;
        bits >>= 2;
    }
    return height;
}

struct tree_memtable_entry *tree_memtable_insert(struct tree_memtable *m, struct memtable_table *t,
                                                 struct kv_slice key,
                                                 struct tree_memtable_version *head)
{
    unsigned height = table_height(&m->rand);
    struct tree_memtable_entry *e = entry_new(m, key, height);
    if (e == NULL) {
        return NULL;
    }
    struct tree_memtable_entry *next = entry_next(t->finger[0], 0);
    atomic_init(&e->head, head);
    atomic_init(&e->prev, t->finger[0] == t->head ? NULL : t->finger[0]);
    for (unsigned i = 0; i < height; i++) {
        atomic_init(&e->next[i], entry_next(t->finger[i], i));
    }
    for (unsigned i = 0; i < height; i++) {
        atomic_store_explicit(&t->finger[i]->next[i], e, memory_order_release);
        t->finger[i] = e;
    }
    if (next != NULL) {
        atomic_store_explicit(&next->prev, e, memory_order_release);
    }
    if (height > atomic_load_explicit(&t->height, memory_order_relaxed)) {
        atomic_store_explicit(&t->height, height, memory_order_relaxed);
    }
    return e;
}
