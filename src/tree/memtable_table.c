#include "tree/memtable_priv.h"

#include <string.h>

/*
 * Readers take no locks and make no attempt to see the tree at one moment. What it leads to is some
 * entry near the key, from which the list leads to the right one. Most of the time that walk is not
 * needed: if a leaf was read as it was at one moment (its sequence tells), the key begins with the
 * leaf's prefix and lies between two neighbours in it, then nothing else lies between those, for a
 * leaf holds all entries between its first and its last. That a key equals an entry's needs no more
 * proof anyway.
 *
 * The first key of a leaf never changes, once it has got a neighbour to the left: what is smaller
 * goes there. So an inner slot names its child by that entry.
 */

#define PREFIX_MAX ((size_t)8 * MEMTABLE_PREFIX_WORDS)
#define CACHE_LINE 64u

/* ---- words of keys ---- */

static inline uint64_t load_be(const uint8_t *at)
{
    return (uint64_t)at[0] << 56 | (uint64_t)at[1] << 48 | (uint64_t)at[2] << 40 |
           (uint64_t)at[3] << 32 | (uint64_t)at[4] << 24 | (uint64_t)at[5] << 16 |
           (uint64_t)at[6] << 8 | (uint64_t)at[7];
}

/* The eight bytes of a key from `skip` on. */
static inline uint64_t key_word(struct kv_slice key, size_t skip)
{
    const uint8_t *at = key.at;
    uint8_t padded[8] = {0};
    if (key.len >= skip + sizeof padded) {
        return load_be(at + skip);
    }
    if (key.len > skip) {
        memcpy(padded, at + skip, key.len - skip);
    }
    return load_be(padded);
}

/* Of the word at `skip` what belongs to a prefix of `len` bytes. */
static inline uint64_t prefix_mask(size_t len, size_t skip)
{
    size_t bytes = len - skip;
    return bytes >= 8 ? UINT64_MAX : ~(UINT64_MAX >> (8 * bytes));
}

static inline struct tree_memtable_entry *node_entry(const struct memtable_node *n, size_t i)
{
    return atomic_load_explicit(&n->entry[i], memory_order_acquire);
}

static inline struct memtable_node *node_child(const struct memtable_node *n, size_t i)
{
    return atomic_load_explicit(&n->child[i], memory_order_acquire);
}

static inline uint64_t node_hint(const struct memtable_node *n, size_t i)
{
    return atomic_load_explicit(&n->hint[i], memory_order_acquire);
}

static inline size_t node_count(const struct memtable_node *n)
{
    return atomic_load_explicit(&n->count, memory_order_acquire);
}

static inline size_t node_skip(const struct memtable_node *n)
{
    return atomic_load_explicit(&n->skip, memory_order_acquire);
}

static inline struct tree_memtable_entry *entry_next(const struct tree_memtable_entry *e)
{
    return atomic_load_explicit(&e->next, memory_order_acquire);
}

static inline struct tree_memtable_entry *entry_prev(const struct tree_memtable_entry *e)
{
    return atomic_load_explicit(&e->prev, memory_order_acquire);
}

static inline struct memtable_node *table_root(const struct memtable_table *t)
{
    return atomic_load_explicit(&t->root, memory_order_acquire);
}

static inline struct tree_memtable_entry *table_first(const struct memtable_table *t)
{
    return atomic_load_explicit(&t->first, memory_order_acquire);
}

static inline int entry_compare(const struct tree_memtable_entry *e, struct kv_slice key)
{
    return kv_slice_compare(memtable_entry_key(e), key);
}

static bool node_has_prefix(const struct memtable_node *n, struct kv_slice key)
{
    size_t len = node_skip(n);
    if (key.len < len) {
        return false;
    }
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = atomic_load_explicit(&n->prefix[at / 8], memory_order_acquire);
        if ((key_word(key, at) & prefix_mask(len, at)) != word) {
            return false;
        }
    }
    return true;
}

/* ---- searching a node ---- */

/* The first slot of low .. high - 1 with a hint >= `hint`; without branches that depend on it. */
static inline size_t hint_bound(const struct memtable_node *n, size_t low, size_t high,
                                uint64_t hint)
{
    size_t left = high - low;
    while (left > 1) {
        size_t half = left / 2;
        low += (size_t)(node_hint(n, low + half - 1) < hint) * half;
        left -= half;
    }
    return low + (left == 1 && node_hint(n, low) < hint ? 1 : 0);
}

/* The first slot from `low` on with a key >= `key`, or > `key` if `above`. The key has the prefix;
 * else the result is some slot. */
static size_t node_bound(const struct memtable_node *n, size_t low, struct kv_slice key, bool above)
{
    size_t count = node_count(n), high = count;
    uint64_t hint = key_word(key, node_skip(n));
    if (low >= high) {
        return low;
    }
    low = hint_bound(n, low, high, hint);
    if (low == high || node_hint(n, low) != hint) {
        return low;
    }
    high = hint == UINT64_MAX ? high : hint_bound(n, low, high, hint + 1);
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = entry_compare(node_entry(n, mid), key);
        bool behind = above ? order <= 0 : order < 0;
        low = behind ? mid + 1 : low;
        high = behind ? high : mid;
    }
    return low;
}

static inline void node_prefetch(const struct memtable_node *n)
{
    const char *at = (const char *)n;
    for (size_t i = 0; i < offsetof(struct memtable_node, entry); i += CACHE_LINE) {
        __builtin_prefetch(at + i);
    }
}

static struct memtable_node *table_leaf(const struct memtable_table *t, struct kv_slice key)
{
    struct memtable_node *n = table_root(t);
    while (n != NULL) {
        node_prefetch(n);
        if (n->height == 0) {
            break;
        }
        n = node_child(n, node_bound(n, 1, key, true) - 1);
    }
    return n;
}

uint64_t tree_memtable_rank(const struct memtable_table *t, struct kv_slice key)
{
    uint64_t before = 0, share = UINT64_C(1) << 32;
    const struct memtable_node *n = key.len == 0 ? NULL : table_root(t);
    while (n != NULL) {
        bool leaf = n->height == 0;
        size_t at = leaf ? node_bound(n, 0, key, false) : node_bound(n, 1, key, true) - 1;
        share /= base_max(node_count(n), 1);
        before += at * share;
        n = leaf ? NULL : node_child(n, at);
    }
    return before;
}

/* ---- reading ---- */

struct table_place {
    struct tree_memtable_entry *before, *from; /* the last < key; the first >= key */
};

/* From any entry to the right ones. */
static struct table_place list_walk(const struct memtable_table *t, struct kv_slice key,
                                    struct tree_memtable_entry *e)
{
    while (e != NULL && entry_compare(e, key) >= 0) {
        e = entry_prev(e);
    }
    struct tree_memtable_entry *next = e == NULL ? table_first(t) : entry_next(e);
    while (next != NULL && entry_compare(next, key) < 0) {
        e = next;
        next = entry_next(e);
    }
    return (struct table_place){e, next};
}

/* Between two neighbours of a leaf that is as it was at one moment? */
static bool leaf_place(const struct memtable_node *n, struct kv_slice key, struct table_place *ret)
{
    uint32_t sequence = atomic_load_explicit(&n->sequence, memory_order_acquire);
    size_t at = node_bound(n, 0, key, false), count = node_count(n);
    *ret = (struct table_place){NULL, NULL};
    if (at == 0 || at >= count) {
        ret->before = node_entry(n, at > 0 ? count - 1 : 0);
        return false;
    }
    ret->before = node_entry(n, at - 1);
    ret->from = node_entry(n, at);
    bool inside = node_has_prefix(n, key);
    return inside && sequence % 2 == 0 &&
           sequence == atomic_load_explicit(&n->sequence, memory_order_relaxed);
}

static struct table_place table_place(const struct memtable_table *t, struct kv_slice key)
{
    struct table_place p = {NULL, NULL};
    const struct memtable_node *leaf = table_leaf(t, key);
    if (leaf != NULL && leaf_place(leaf, key, &p)) {
        return p;
    }
    return list_walk(t, key, p.before);
}

struct tree_memtable_entry *tree_memtable_seek(const struct memtable_table *t, struct kv_slice key)
{
    return key.len == 0 ? table_first(t) : table_place(t, key).from;
}

static bool entry_is(const struct tree_memtable_entry *e, struct kv_slice key)
{
    return e != NULL && e->key_len == key.len && memcmp(e->key, key.at, key.len) == 0;
}

struct tree_memtable_entry *tree_memtable_find(const struct memtable_table *t, struct kv_slice key)
{
    return tree_memtable_find_print(t, key, tree_fingerprint(key));
}

struct tree_memtable_entry *tree_memtable_find_print(const struct memtable_table *t,
                                                     struct kv_slice key, uint64_t print)
{
    struct tree_memtable_entry *e = NULL;
    if (t->indexed && tree_memtable_index_find(t, key, print, &e)) {
        return e;
    }
    e = table_place(t, key).from;
    return entry_is(e, key) ? e : NULL;
}

static struct tree_memtable_entry *table_last(const struct memtable_table *t)
{
    struct memtable_node *n = table_root(t);
    if (n == NULL) {
        return NULL;
    }
    while (n->height > 0) {
        n = node_child(n, node_count(n) - 1);
    }
    size_t count = node_count(n); /* 0: its first entry is just coming */
    struct tree_memtable_entry *e = count == 0 ? table_first(t) : node_entry(n, count - 1);
    for (struct tree_memtable_entry *next = e; next != NULL; next = entry_next(e)) {
        e = next;
    }
    return e;
}

struct tree_memtable_entry *tree_memtable_seek_back(const struct memtable_table *t,
                                                    struct kv_slice key)
{
    if (key.len == 0) {
        return table_last(t);
    }
    struct table_place p = table_place(t, key);
    return entry_is(p.from, key) ? p.from : p.before;
}

/* ---- changing a node ---- */

static void node_set_count(struct memtable_node *n, size_t count)
{
    atomic_store_explicit(&n->count, (uint16_t)count, memory_order_release);
}

static void node_set(struct memtable_node *n, size_t i, struct tree_memtable_entry *e,
                     uint64_t hint)
{
    atomic_store_explicit(&n->hint[i], hint, memory_order_release);
    atomic_store_explicit(&n->entry[i], e, memory_order_release);
}

static void node_change(struct memtable_node *n)
{
    uint32_t sequence = atomic_load_explicit(&n->sequence, memory_order_relaxed);
    atomic_store_explicit(&n->sequence, sequence + 1, memory_order_release);
}

static uint64_t node_hint_of(const struct memtable_node *n, const struct tree_memtable_entry *e)
{
    return e == NULL ? 0 : key_word(memtable_entry_key(e), node_skip(n));
}

/* Puts an entry, and for an inner node its child, into a node that has room. */
static void node_insert(struct memtable_node *n, size_t at, struct tree_memtable_entry *e,
                        struct memtable_node *child)
{
    size_t count = node_count(n);
    CHECK(count < MEMTABLE_FANOUT);
    node_change(n);
    for (size_t i = count; i > at; i--) {
        node_set(n, i, node_entry(n, i - 1), node_hint(n, i - 1));
    }
    node_set(n, at, e, node_hint_of(n, e));
    if (n->height > 0) {
        for (size_t i = count; i > at; i--) {
            atomic_store_explicit(&n->child[i], node_child(n, i - 1), memory_order_release);
        }
        atomic_store_explicit(&n->child[at], child, memory_order_release);
    }
    node_set_count(n, count + 1);
    node_change(n);
}

static struct memtable_node *node_new(struct tree_memtable *m, unsigned height)
{
    size_t children = height > 0 ? MEMTABLE_FANOUT * sizeof(struct memtable_node *) : 0;
    size_t size = sizeof(struct memtable_node) + children;
    uint8_t *p = tree_memtable_take(m, size + CACHE_LINE - 8);
    if (p == NULL) {
        return NULL;
    }
    p += (CACHE_LINE - (uintptr_t)p % CACHE_LINE) % CACHE_LINE;
    memset(p, 0, size);
    struct memtable_node *n = (struct memtable_node *)(void *)p;
    n->height = (uint8_t)height;
    return n;
}

/* All keys from `low` to before `high` begin with what these two have in common. */
static void node_set_prefix(struct memtable_node *n, const struct tree_memtable_entry *low,
                            const struct tree_memtable_entry *high)
{
    size_t len = 0;
    if (low != NULL && high != NULL) {
        size_t most = base_min(base_min(low->key_len, high->key_len), PREFIX_MAX);
        while (len < most && low->key[len] == high->key[len]) {
            len++;
        }
    }
    atomic_store_explicit(&n->skip, (uint8_t)len, memory_order_release);
    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = key_word(memtable_entry_key(low), at) & prefix_mask(len, at);
        atomic_store_explicit(&n->prefix[at / 8], word, memory_order_release);
    }
    for (size_t i = 0; i < node_count(n); i++) {
        struct tree_memtable_entry *e = node_entry(n, i);
        atomic_store_explicit(&n->hint[i], node_hint_of(n, e), memory_order_release);
    }
}

/* ---- inserting ---- */

/* The way down; the keys of a node lie between the nearest names beside it. */
struct table_path {
    struct memtable_node *node[MEMTABLE_DEPTH_MAX];
    size_t at[MEMTABLE_DEPTH_MAX]; /* which child */
    size_t depth;                  /* inner nodes */
};

static struct tree_memtable_entry *path_low(const struct table_path *p)
{
    for (size_t d = p->depth; d > 0; d--) {
        if (p->at[d - 1] > 0) {
            return node_entry(p->node[d - 1], p->at[d - 1]);
        }
    }
    return NULL;
}

static struct tree_memtable_entry *path_high(const struct table_path *p)
{
    for (size_t d = p->depth; d > 0; d--) {
        if (p->at[d - 1] + 1 < node_count(p->node[d - 1])) {
            return node_entry(p->node[d - 1], p->at[d - 1] + 1);
        }
    }
    return NULL;
}

/* How many a full node keeps. Keys that come in order leave full nodes behind. */
static size_t split_keep(const struct memtable_node *n, struct kv_slice key)
{
    const struct tree_memtable_entry *last = node_entry(n, MEMTABLE_FANOUT - 1);
    return entry_compare(last, key) < 0 ? MEMTABLE_FANOUT - 1 : MEMTABLE_FANOUT / 2;
}

/* Splits the full node that the path leads to; the node above has room. */
static int path_split(struct tree_memtable *m, const struct table_path *p, struct memtable_node *n,
                      struct kv_slice key)
{
    size_t keep = split_keep(n, key), at = p->at[p->depth - 1];
    struct memtable_node *up = p->node[p->depth - 1], *right = node_new(m, n->height);
    struct tree_memtable_entry *name = node_entry(n, keep);
    if (right == NULL) {
        return -ENOMEM;
    }
    for (size_t i = keep; i < MEMTABLE_FANOUT; i++) {
        bool nameless = i == keep && n->height > 0;
        node_set(right, i - keep, nameless ? NULL : node_entry(n, i), 0);
        if (n->height > 0) {
            atomic_init(&right->child[i - keep], node_child(n, i));
        }
    }
    node_set_count(right, MEMTABLE_FANOUT - keep);
    node_set_prefix(right, name, path_high(p));
    node_insert(up, at + 1, name, right);
    node_change(n);
    node_set_count(n, keep);
    node_set_prefix(n, path_low(p), name);
    node_change(n);
    return 0;
}

static int table_grow(struct tree_memtable *m, struct memtable_table *t)
{
    struct memtable_node *root = table_root(t);
    struct memtable_node *up = node_new(m, root == NULL ? 0 : root->height + 1U);
    if (up == NULL) {
        return -ENOMEM;
    }
    CHECK(up->height < MEMTABLE_DEPTH_MAX);
    if (root != NULL) {
        node_insert(up, 0, NULL, root);
    }
    atomic_store_explicit(&t->root, up, memory_order_release);
    return 0;
}

/* The leaf of a key, with room for it: full nodes are split on the way down. */
static int table_make_room(struct tree_memtable *m, struct memtable_table *t, struct kv_slice key)
{
    struct table_path p = {.depth = 0};
    struct memtable_node *n = table_root(t);
    int rc = 0;
    if (n == NULL || node_count(n) == MEMTABLE_FANOUT) {
        rc = table_grow(m, t);
        n = table_root(t);
    }
    while (rc == 0 && n->height > 0) {
        p.node[p.depth] = n;
        p.at[p.depth++] = node_bound(n, 1, key, true) - 1;
        struct memtable_node *child = node_child(n, p.at[p.depth - 1]);
        if (node_count(child) == MEMTABLE_FANOUT) {
            rc = path_split(m, &p, child, key);
            p.at[p.depth - 1] = node_bound(n, 1, key, true) - 1;
        }
        n = node_child(n, p.at[p.depth - 1]);
    }
    t->leaf = n;
    t->at = rc < 0 ? 0 : (unsigned)node_bound(n, 0, key, false);
    return rc;
}

/* Keys often come in order: is it right behind the last one? */
static bool place_again(const struct memtable_table *t, struct kv_slice key)
{
    const struct memtable_node *n = t->leaf;
    const struct tree_memtable_entry *last = node_entry(n, t->at - 1), *next;
    if (entry_compare(last, key) >= 0) {
        return false;
    }
    if (t->at == node_count(n)) {
        next = entry_next(last);
        return next == NULL || entry_compare(next, key) > 0;
    }
    uint64_t hint = key_word(key, node_skip(n)), next_hint = node_hint(n, t->at);
    if (hint == next_hint) {
        return entry_compare(node_entry(n, t->at), key) >= 0;
    }
    return hint < next_hint && node_has_prefix(n, key);
}

/* Leaf and slot of a key. */
static void place_find(struct memtable_table *t, struct kv_slice key)
{
    bool known = t->leaf != NULL && t->at > 0;
    if (known && entry_is(node_entry(t->leaf, t->at - 1), key)) {
        t->at--; /* the same once more */
    } else if (!known || !place_again(t, key)) {
        t->leaf = table_leaf(t, key);
        t->at = t->leaf == NULL ? 0 : (unsigned)node_bound(t->leaf, 0, key, false);
    }
}

struct tree_memtable_entry *tree_memtable_place(struct memtable_table *t, struct kv_slice key)
{
    if (t->indexed) {
        struct tree_memtable_entry *e;
        t->print = tree_fingerprint(key);
        (void)tree_memtable_index_find(t, key, t->print, &e);
        if (e != NULL) {
            return e;
        }
    }
    place_find(t, key);
    t->before = NULL;
    if (t->leaf == NULL) {
        return NULL;
    }
    struct tree_memtable_entry *next = NULL;
    if (t->at < node_count(t->leaf)) {
        next = node_entry(t->leaf, t->at);
        __builtin_prefetch(next); /* both will be linked with a new one, after some other work */
    }
    if (t->at > 0) {
        t->before = node_entry(t->leaf, t->at - 1);
        __builtin_prefetch(t->before);
    }
    /* Beyond the last slot nothing is found: it would be the first of the next leaf. */
    bool same = next != NULL && node_hint(t->leaf, t->at) == key_word(key, node_skip(t->leaf)) &&
                entry_is(next, key);
    return same ? next : NULL;
}

static struct tree_memtable_entry *entry_new(struct tree_memtable *m, struct kv_slice key,
                                             struct tree_memtable_version *head)
{
    struct tree_memtable_entry *e =
        tree_memtable_take(m, offsetof(struct tree_memtable_entry, key) + key.len);
    if (e != NULL) {
        atomic_init(&e->head, head);
        e->key_len = (uint16_t)key.len;
        memcpy(e->key, key.at, key.len);
    }
    return e;
}

static void list_insert_behind(struct memtable_table *t, struct tree_memtable_entry *before,
                               struct tree_memtable_entry *e)
{
    struct tree_memtable_entry *next = before == NULL ? table_first(t) : entry_next(before);
    atomic_init(&e->prev, before);
    atomic_init(&e->next, next);
    atomic_store_explicit(before == NULL ? &t->first : &before->next, e, memory_order_release);
    if (next != NULL) {
        atomic_store_explicit(&next->prev, e, memory_order_release);
    }
}

struct tree_memtable_entry *tree_memtable_insert(struct tree_memtable *m, struct memtable_table *t,
                                                 struct kv_slice key,
                                                 struct tree_memtable_version *head)
{
    bool full = t->leaf == NULL || node_count(t->leaf) == MEMTABLE_FANOUT;
    struct tree_memtable_entry *e = entry_new(m, key, head);
    int rc = e == NULL ? -ENOMEM : t->indexed ? tree_memtable_index_room(m, t) : 0;
    rc = rc < 0 || !full ? rc : table_make_room(m, t, key);
    if (rc < 0) {
        t->leaf = NULL; /* nothing is known of where */
        return NULL;
    }
    list_insert_behind(t, t->before, e);
    node_insert(t->leaf, t->at, e, NULL);
    t->at++;
    if (t->indexed) {
        tree_memtable_index_put(t, e, t->print);
    }
    return e;
}
