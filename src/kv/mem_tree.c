#include "kv/mem_tree_priv.h"

#include <string.h>

#include "base/mem.h"

static void *kv_mem_take(struct mem_budget *b, size_t size)
{
    if (b != NULL && !mem_budget_take(b, size)) {
        return NULL;
    }
    void *p = mem_alloc(size);
    if (p == NULL && b != NULL) {
        mem_budget_give(b, size);
    }
    return p;
}

static void kv_mem_give(struct mem_budget *b, void *p, size_t size)
{
    mem_free(p);
    if (b != NULL) {
        mem_budget_give(b, size);
    }
}

static size_t kv_mem_entry_size(size_t key_len, size_t value_len)
{
    return sizeof(struct kv_mem_entry) + key_len + value_len;
}

struct kv_mem_entry *kv_mem_entry_new(struct mem_budget *b, struct kv_slice key,
                                      struct kv_slice value)
{
    struct kv_mem_entry *e = kv_mem_take(b, kv_mem_entry_size(key.len, value.len));
    if (e == NULL) {
        return NULL;
    }
    e->ref = 1;
    e->key_len = (uint32_t)key.len;
    e->value_len = (uint32_t)value.len;
    memcpy(e->bytes, key.at, key.len);
    if (value.at != NULL && value.len > 0) {
        memcpy(e->bytes + key.len, value.at, value.len);
    }
    return e;
}

void kv_mem_entry_unref(struct mem_budget *b, struct kv_mem_entry *e)
{
    if (e != NULL && --e->ref == 0) {
        kv_mem_give(b, e, kv_mem_entry_size(e->key_len, e->value_len));
    }
}

static size_t kv_mem_node_size(bool wide)
{
    return sizeof(struct kv_mem_node) + (wide ? sizeof(struct kv_mem_inner) : 0);
}

static struct kv_mem_node *kv_mem_node_take(struct kv_mem_pool *pool, unsigned height)
{
    struct kv_mem_node *n = pool->spare;
    if (pool->undoing && n != NULL) {
        pool->spare = n->dying;
        pool->spare_count--;
        return n;
    }
    n = kv_mem_take(pool->budget, kv_mem_node_size(height > 0));
    if (n != NULL) {
        n->wide = height > 0;
    }
    return n;
}

struct kv_mem_node *kv_mem_node_new(struct kv_mem_pool *pool, unsigned height)
{
    struct kv_mem_node *n = kv_mem_node_take(pool, height);
    if (n != NULL) {
        n->ref = 1;
        n->count = 0;
        n->height = (uint16_t)height;
        n->prefix_len = 0;
        n->dying = NULL;
    }
    return n;
}

void kv_mem_node_unref(struct kv_mem_pool *pool, struct kv_mem_node *n)
{
    if (n == NULL || --n->ref > 0) {
        return;
    }
    n->dying = NULL;
    while (n != NULL) {
        struct kv_mem_node *rest = n->dying;
        for (size_t i = 0; i < n->count; i++) {
            kv_mem_entry_unref(pool->budget, n->entry[i]);
            if (n->height > 0 && --n->in->child[i]->ref == 0) {
                n->in->child[i]->dying = rest;
                rest = n->in->child[i];
            }
        }
        kv_mem_give(pool->budget, n, kv_mem_node_size(n->wide));
        n = rest;
    }
}

int kv_mem_pool_reserve(struct kv_mem_pool *pool, size_t count)
{
    while (pool->spare_count < count) {
        struct kv_mem_node *n = kv_mem_take(pool->budget, kv_mem_node_size(true));
        if (n == NULL) {
            return -ENOMEM;
        }
        n->wide = true;
        n->dying = pool->spare;
        pool->spare = n;
        pool->spare_count++;
    }
    return 0;
}

void kv_mem_pool_fini(struct kv_mem_pool *pool)
{
    while (pool->spare != NULL) {
        struct kv_mem_node *n = pool->spare;
        pool->spare = n->dying;
        kv_mem_give(pool->budget, n, kv_mem_node_size(true));
    }
    pool->spare_count = 0;
}

static struct kv_mem_node *kv_mem_node_copy(struct kv_mem_pool *pool,
                                            const struct kv_mem_node *from)
{
    struct kv_mem_node *n = kv_mem_node_new(pool, from->height);
    if (n == NULL) {
        return NULL;
    }
    n->count = from->count;
    n->prefix_len = from->prefix_len;
    memcpy(n->prefix, from->prefix, from->prefix_len);
    memcpy(n->hint, from->hint, from->count * sizeof n->hint[0]);
    if (n->height > 0) {
        memcpy(n->in->more, from->in->more, from->count * sizeof n->in->more[0]);
    }
    for (size_t i = 0; i < n->count; i++) {
        n->entry[i] = from->entry[i];
        if (n->entry[i] != NULL) {
            n->entry[i]->ref++;
        }
        if (n->height > 0) {
            n->in->child[i] = from->in->child[i];
            n->in->child[i]->ref++;
        }
    }
    return n;
}

/* Replaces *at, whose owner may be changed, by a node that may be changed. */
static int kv_mem_own(struct kv_mem_pool *pool, struct kv_mem_node **at)
{
    if ((*at)->ref == 1) {
        return 0;
    }
    struct kv_mem_node *copy = kv_mem_node_copy(pool, *at);
    if (copy == NULL) {
        return -ENOMEM;
    }
    kv_mem_node_unref(pool, *at);
    *at = copy;
    return 0;
}

/* ---- searching ---- */

static uint64_t kv_mem_load(const uint8_t *at)
{
    return (uint64_t)at[0] << 56 | (uint64_t)at[1] << 48 | (uint64_t)at[2] << 40 |
           (uint64_t)at[3] << 32 | (uint64_t)at[4] << 24 | (uint64_t)at[5] << 16 |
           (uint64_t)at[6] << 8 | (uint64_t)at[7];
}

static uint64_t kv_mem_hint_short(struct kv_slice key, size_t skip)
{
    uint8_t padded[8] = {0};
    if (key.len > skip) {
        memcpy(padded, (const uint8_t *)key.at + skip, key.len - skip);
    }
    return kv_mem_load(padded);
}

static inline uint64_t kv_mem_hint(struct kv_slice key, size_t skip)
{
    bool whole = key.len >= skip + 8;
    return whole ? kv_mem_load((const uint8_t *)key.at + skip) : kv_mem_hint_short(key, skip);
}

/* What slot i is searched by. */
static void kv_mem_slot_hint(struct kv_mem_node *n, size_t i, struct kv_slice key)
{
    n->hint[i] = kv_mem_hint(key, n->prefix_len);
    if (n->height > 0) {
        n->in->more[i] = kv_mem_hint(key, n->prefix_len + 8U);
    }
}

static size_t kv_mem_first_slot(const struct kv_mem_node *n)
{
    return n->height > 0 ? 1 : 0;
}

static bool kv_mem_has_prefix(const struct kv_mem_node *n, struct kv_slice key)
{
    return n->prefix_len == 0 ||
           (key.len >= n->prefix_len && memcmp(key.at, n->prefix, n->prefix_len) == 0);
}

/* Prefix and hints anew. The keys ascend: what the first and the last begin with, all do. */
static void kv_mem_hints(struct kv_mem_node *n)
{
    size_t first = kv_mem_first_slot(n), len = 0;
    n->prefix_len = 0;
    if (n->count <= first) {
        return;
    }
    struct kv_slice a = kv_mem_key(n->entry[first]), b = kv_mem_key(n->entry[n->count - 1U]);
    const uint8_t *x = a.at, *y = b.at;
    size_t most = base_min(base_min(a.len, b.len), KV_MEM_PREFIX_MAX);
    while (len < most && x[len] == y[len]) {
        len++;
    }
    n->prefix_len = (uint8_t)len;
    memcpy(n->prefix, x, len);
    for (size_t i = first; i < n->count; i++) {
        kv_mem_slot_hint(n, i, kv_mem_key(n->entry[i]));
    }
}

/* The first of the ascending words [low, high) that is >= `word`. Without branches that depend on
 * the keys: half of those would be guessed wrong. */
static inline size_t kv_mem_word_bound(const uint64_t *words, size_t low, size_t high,
                                       uint64_t word)
{
    const uint64_t *base = words + low;
    size_t left = high - low;
    while (left > 1) {
        const uint64_t *middle = base + left / 2;
        base = middle[-1] < word ? middle : base;
        left -= left / 2;
    }
    base += left == 1 && *base < word ? 1 : 0;
    return (size_t)(base - words);
}

/* Those of [*low, *high) that are equal to `word`; none: *low is where it would be. */
static inline bool kv_mem_word_range(const uint64_t *words, size_t *low, size_t *high,
                                     uint64_t word)
{
    size_t from = kv_mem_word_bound(words, *low, *high, word);
    *low = from;
    if (from == *high || words[from] != word) {
        return false;
    }
    if (from + 1 == *high || words[from + 1] != word) { /* mostly */
        *high = from + 1;
    } else if (word != UINT64_MAX) {
        *high = kv_mem_word_bound(words, from, *high, word + 1);
    }
    return true;
}

/* Behind which slots do the words not tell? */
static size_t kv_mem_key_bound(const struct kv_mem_node *n, size_t low, size_t high,
                               struct kv_slice key, bool above)
{
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = kv_slice_compare(kv_mem_key(n->entry[mid]), key);
        bool behind = above ? c <= 0 : c < 0;
        low = behind ? mid + 1 : low;
        high = behind ? high : mid;
    }
    return low;
}

/* The first slot from kv_mem_first_slot() on whose key is >= `key`, or > `key` if `above`. */
static size_t kv_mem_bound(const struct kv_mem_node *n, struct kv_slice key, bool above)
{
    size_t low = kv_mem_first_slot(n), high = n->count;
    if (high <= low) {
        return low;
    }
    for (size_t i = 0; i < high; i += 8) {
        __builtin_prefetch(&n->hint[i]); /* one wait for memory instead of one per step */
    }
    if (!kv_mem_has_prefix(n, key)) {
        struct kv_slice prefix = kv_slice_of(n->prefix, n->prefix_len);
        return kv_slice_compare(key, prefix) < 0 ? low : high;
    }
    if (!kv_mem_word_range(n->hint, &low, &high, kv_mem_hint(key, n->prefix_len))) {
        return low;
    }
    if (n->height > 0 &&
        !kv_mem_word_range(n->in->more, &low, &high, kv_mem_hint(key, n->prefix_len + 8U))) {
        return low;
    }
    return kv_mem_key_bound(n, low, high, key, above);
}

size_t kv_mem_slot(const struct kv_mem_node *n, struct kv_slice key)
{
    return n->height > 0 ? kv_mem_bound(n, key, true) - 1 : kv_mem_bound(n, key, false);
}

static bool kv_mem_slot_is(const struct kv_mem_node *n, size_t i, struct kv_slice key)
{
    return i < n->count && kv_slice_compare(kv_mem_key(n->entry[i]), key) == 0;
}

struct kv_mem_entry *kv_mem_find(struct kv_mem_node *root, struct kv_slice key)
{
    struct kv_mem_node *n = root;
    while (n->height > 0) {
        n = n->in->child[kv_mem_slot(n, key)];
    }
    size_t i = kv_mem_slot(n, key);
    return kv_mem_slot_is(n, i, key) ? n->entry[i] : NULL;
}

/* ---- slots ---- */

/* Slot i has got this key, or (`e` NULL) is the first of an inner node. */
static void kv_mem_slot_named(struct kv_mem_node *n, size_t i, const struct kv_mem_entry *e)
{
    if (e == NULL) {
        n->hint[i] = 0;
        n->in->more[i] = 0;
    } else if (n->count > kv_mem_first_slot(n) + 1 && kv_mem_has_prefix(n, kv_mem_key(e))) {
        kv_mem_slot_hint(n, i, kv_mem_key(e));
    } else {
        kv_mem_hints(n);
    }
}

void kv_mem_slot_insert(struct kv_mem_node *n, size_t i, struct kv_mem_entry *e,
                        struct kv_mem_node *child)
{
    CHECK(n->count < KV_MEM_FANOUT);
    size_t behind = n->count - i;
    memmove(&n->entry[i + 1], &n->entry[i], behind * sizeof(struct kv_mem_entry *));
    memmove(&n->hint[i + 1], &n->hint[i], behind * sizeof n->hint[0]);
    n->entry[i] = e;
    if (n->height > 0) {
        memmove(&n->in->child[i + 1], &n->in->child[i], behind * sizeof(struct kv_mem_node *));
        memmove(&n->in->more[i + 1], &n->in->more[i], behind * sizeof n->in->more[0]);
        n->in->child[i] = child;
    }
    n->count++;
    kv_mem_slot_named(n, i, e);
}

/* Forgets slot i; its references are the caller's now. */
static void kv_mem_slot_remove(struct kv_mem_node *n, size_t i)
{
    size_t behind = n->count - i - 1U;
    memmove(&n->entry[i], &n->entry[i + 1], behind * sizeof(struct kv_mem_entry *));
    memmove(&n->hint[i], &n->hint[i + 1], behind * sizeof n->hint[0]);
    if (n->height > 0) {
        memmove(&n->in->child[i], &n->in->child[i + 1], behind * sizeof(struct kv_mem_node *));
        memmove(&n->in->more[i], &n->in->more[i + 1], behind * sizeof n->in->more[0]);
    }
    n->count--;
}

/* Moves slots so that `left` holds `keep` of those of both; order stays. */
static void kv_mem_spread(struct kv_mem_node *left, struct kv_mem_node *right, size_t keep)
{
    struct kv_mem_entry *entry[2 * KV_MEM_FANOUT];
    struct kv_mem_node *child[2 * KV_MEM_FANOUT];
    size_t l = left->count, r = right->count, total = l + r;
    CHECK(keep <= KV_MEM_FANOUT);
    CHECK(total - keep <= KV_MEM_FANOUT);
    memcpy(entry, left->entry, l * sizeof(struct kv_mem_entry *));
    memcpy(entry + l, right->entry, r * sizeof(struct kv_mem_entry *));
    memcpy(left->entry, entry, keep * sizeof(struct kv_mem_entry *));
    memcpy(right->entry, entry + keep, (total - keep) * sizeof(struct kv_mem_entry *));
    if (left->height > 0) {
        memcpy(child, left->in->child, l * sizeof(struct kv_mem_node *));
        memcpy(child + l, right->in->child, r * sizeof(struct kv_mem_node *));
        memcpy(left->in->child, child, keep * sizeof(struct kv_mem_node *));
        memcpy(right->in->child, child + keep, (total - keep) * sizeof(struct kv_mem_node *));
    }
    left->count = (uint16_t)keep;
    right->count = (uint16_t)(total - keep);
}

/* Hints of two neighbours after kv_mem_spread(), when slot 0 of an inner `right` is settled. */
static void kv_mem_spread_end(struct kv_mem_node *left, struct kv_mem_node *right)
{
    kv_mem_hints(left);
    kv_mem_hints(right);
}

/*
 * The separator for a right neighbour whose slots are settled, with a reference; taken out of it if
 * it is inner. It is the record itself: that costs no memory that could be missing, but keeps a
 * value that was replaced until the separator goes.
 */
static struct kv_mem_entry *kv_mem_separator(const struct kv_mem_node *n, size_t i)
{
    n->entry[i]->ref += n->height > 0 ? 0 : 1;
    return n->entry[i];
}

/* Splits the full child i of n, both owned; n has room. */
static int kv_mem_split(struct kv_mem_pool *pool, struct kv_mem_node *n, size_t i)
{
    struct kv_mem_node *left = n->in->child[i];
    size_t keep = left->count / 2U;
    struct kv_mem_node *right = kv_mem_node_new(pool, left->height);
    if (right == NULL) {
        return -ENOMEM;
    }
    struct kv_mem_entry *separator = kv_mem_separator(left, keep);
    kv_mem_spread(left, right, keep);
    if (right->height > 0) {
        right->entry[0] = NULL; /* moved up */
    }
    kv_mem_spread_end(left, right);
    kv_mem_slot_insert(n, i + 1, separator, right);
    return 0;
}

static int kv_mem_grow_root(struct kv_mem_tree *t)
{
    struct kv_mem_node *up = kv_mem_node_new(t->pool, t->root->height + 1U);
    if (up == NULL) {
        return -ENOMEM;
    }
    CHECK(up->height < KV_MEM_DEPTH_MAX);
    kv_mem_slot_insert(up, 0, NULL, t->root);
    t->root = up;
    return 0;
}

/* Owned leaf for `key` with room for one more. */
static int kv_mem_descend_to_put(struct kv_mem_tree *t, struct kv_slice key,
                                 struct kv_mem_node **ret)
{
    int rc = kv_mem_own(t->pool, &t->root);
    if (rc == 0 && t->root->count == KV_MEM_FANOUT) {
        rc = kv_mem_grow_root(t);
    }
    struct kv_mem_node *n = t->root;
    while (rc == 0 && n->height > 0) {
        size_t i = kv_mem_slot(n, key);
        rc = kv_mem_own(t->pool, &n->in->child[i]);
        if (rc == 0 && n->in->child[i]->count == KV_MEM_FANOUT) {
            rc = kv_mem_split(t->pool, n, i);
            i = kv_mem_slot(n, key);
        }
        n = rc == 0 ? n->in->child[i] : n;
    }
    *ret = n;
    return rc;
}

/* An entry left the tree. */
static void kv_mem_tree_left(struct kv_mem_tree *t, struct kv_mem_entry *e,
                             struct kv_mem_entry **ret_old)
{
    t->bytes -= e->key_len + e->value_len;
    if (ret_old != NULL) {
        *ret_old = e;
    } else {
        kv_mem_entry_unref(t->pool->budget, e);
    }
}

int kv_mem_tree_place(struct kv_mem_tree *t, struct kv_slice key, struct kv_mem_place *ret)
{
    struct kv_mem_node *n;
    int rc = kv_mem_descend_to_put(t, key, &n);
    if (rc < 0) {
        return rc;
    }
    ret->leaf = n;
    ret->slot = kv_mem_slot(n, key);
    ret->entry = kv_mem_slot_is(n, ret->slot, key) ? n->entry[ret->slot] : NULL;
    return 0;
}

void kv_mem_place_put(struct kv_mem_tree *t, const struct kv_mem_place *at, struct kv_mem_entry *e,
                      struct kv_mem_entry **ret_old)
{
    if (ret_old != NULL) {
        *ret_old = NULL;
    }
    t->bytes += e->key_len + e->value_len;
    if (at->entry != NULL) {
        at->leaf->entry[at->slot] = e;
        kv_mem_tree_left(t, at->entry, ret_old);
        return;
    }
    kv_mem_slot_insert(at->leaf, at->slot, e, NULL);
    t->key_count++;
}

int kv_mem_tree_put(struct kv_mem_tree *t, struct kv_mem_entry *e, struct kv_mem_entry **ret_old)
{
    struct kv_mem_place at;
    int rc = kv_mem_tree_place(t, kv_mem_key(e), &at);
    if (rc < 0) {
        kv_mem_entry_unref(t->pool->budget, e);
        return rc;
    }
    kv_mem_place_put(t, &at, e, ret_old);
    return 0;
}

struct kv_mem_entry *kv_mem_tree_own_entry(const struct kv_mem_tree *t, struct kv_slice key)
{
    const struct kv_mem_node *n = t->root;
    while (n->ref == 1 && n->height > 0) {
        n = n->in->child[kv_mem_slot(n, key)];
    }
    size_t i = n->ref == 1 ? kv_mem_slot(n, key) : 0;
    bool own = n->ref == 1 && kv_mem_slot_is(n, i, key) && n->entry[i]->ref == 1;
    return own ? n->entry[i] : NULL;
}

/* Children l and l + 1 of n become one, or share their slots evenly. n is owned. */
static int kv_mem_refill(struct kv_mem_pool *pool, struct kv_mem_node *n, size_t l)
{
    int rc = kv_mem_own(pool, &n->in->child[l]);
    rc = rc == 0 ? kv_mem_own(pool, &n->in->child[l + 1]) : rc;
    if (rc < 0) {
        return rc;
    }
    struct kv_mem_node *left = n->in->child[l], *right = n->in->child[l + 1];
    size_t total = (size_t)left->count + right->count;
    struct kv_mem_entry *down = n->entry[l + 1];
    bool merge = total <= KV_MEM_MERGE_MAX;
    size_t keep = merge ? total : total / 2;
    if (keep == left->count) { /* even already: the separator stays what it is */
        return 0;
    }
    if (right->height > 0) {
        right->entry[0] = down; /* the separator moves down */
    } else {
        kv_mem_entry_unref(pool->budget, down);
    }
    kv_mem_spread(left, right, keep);
    if (merge) {
        kv_mem_hints(left);
        kv_mem_slot_remove(n, l + 1);
        kv_mem_node_unref(pool, right);
        return 0;
    }
    n->entry[l + 1] = kv_mem_separator(right, 0);
    if (right->height > 0) {
        right->entry[0] = NULL;
    }
    kv_mem_spread_end(left, right);
    kv_mem_slot_named(n, l + 1, n->entry[l + 1]);
    return 0;
}

/* Makes child *at of n owned and more than minimally filled, joining it with a neighbour. */
static int kv_mem_fill_child(struct kv_mem_pool *pool, struct kv_mem_node *n, struct kv_slice key,
                             size_t *at)
{
    int rc = 0;
    if (n->in->child[*at]->count <= KV_MEM_FILL_MIN && n->count > 1) {
        rc = kv_mem_refill(pool, n, *at > 0 ? *at - 1 : 0);
        *at = kv_mem_slot(n, key);
    }
    return rc < 0 ? rc : kv_mem_own(pool, &n->in->child[*at]);
}

static void kv_mem_shrink_root(struct kv_mem_tree *t)
{
    while (t->root->height > 0 && t->root->count == 1) {
        struct kv_mem_node *child = t->root->in->child[0];
        child->ref++;
        kv_mem_node_unref(t->pool, t->root);
        t->root = child;
    }
}

int kv_mem_tree_delete(struct kv_mem_tree *t, struct kv_slice key, struct kv_mem_entry **ret_old)
{
    struct kv_mem_entry *e = kv_mem_find(t->root, key);
    if (ret_old != NULL) {
        *ret_old = NULL;
    }
    if (e == NULL) {
        return 0;
    }
    int rc = kv_mem_own(t->pool, &t->root);
    struct kv_mem_node *n = t->root;
    while (rc == 0 && n->height > 0) {
        size_t i = kv_mem_slot(n, key);
        rc = kv_mem_fill_child(t->pool, n, key, &i);
        n = rc == 0 ? n->in->child[i] : n;
    }
    if (rc < 0) {
        return rc;
    }
    size_t i = kv_mem_slot(n, key);
    CHECK(n->entry[i] == e);
    kv_mem_slot_remove(n, i);
    t->key_count--;
    kv_mem_shrink_root(t);
    kv_mem_tree_left(t, e, ret_old); /* last: `key` may lie in it */
    return 0;
}

struct kv_mem_entry *kv_mem_tree_first(const struct kv_mem_tree *t, struct kv_slice low,
                                       struct kv_slice high)
{
    struct kv_mem_path p;
    kv_mem_path_seek(&p, t->root, low);
    struct kv_mem_entry *e = kv_mem_path_entry(&p);
    return e == NULL || kv_slice_compare(kv_mem_key(e), high) >= 0 ? NULL : e;
}

int kv_mem_tree_delete_range(struct kv_mem_tree *t, struct kv_slice low, struct kv_slice high)
{
    struct kv_mem_entry *e;
    int rc = 0;
    while (rc == 0 && (e = kv_mem_tree_first(t, low, high)) != NULL) {
        rc = kv_mem_tree_delete(t, kv_mem_key(e), NULL);
    }
    return rc;
}
