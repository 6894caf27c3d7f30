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

static size_t kv_mem_node_size(unsigned height)
{
    size_t children = height == 0 ? 0 : KV_MEM_FANOUT * sizeof(struct kv_mem_node *);
    return sizeof(struct kv_mem_node) + children;
}

struct kv_mem_node *kv_mem_node_new(struct mem_budget *b, unsigned height)
{
    struct kv_mem_node *n = kv_mem_take(b, kv_mem_node_size(height));
    if (n != NULL) {
        n->ref = 1;
        n->count = 0;
        n->height = (uint16_t)height;
        n->dying = NULL;
    }
    return n;
}

void kv_mem_node_unref(struct mem_budget *b, struct kv_mem_node *n)
{
    if (n == NULL || --n->ref > 0) {
        return;
    }
    n->dying = NULL;
    while (n != NULL) {
        struct kv_mem_node *rest = n->dying;
        for (size_t i = 0; i < n->count; i++) {
            kv_mem_entry_unref(b, n->entry[i]);
            if (n->height > 0 && --n->child[i]->ref == 0) {
                n->child[i]->dying = rest;
                rest = n->child[i];
            }
        }
        kv_mem_give(b, n, kv_mem_node_size(n->height));
        n = rest;
    }
}

static struct kv_mem_node *kv_mem_node_copy(struct mem_budget *b, const struct kv_mem_node *from)
{
    struct kv_mem_node *n = kv_mem_node_new(b, from->height);
    if (n == NULL) {
        return NULL;
    }
    n->count = from->count;
    for (size_t i = 0; i < n->count; i++) {
        n->entry[i] = from->entry[i];
        if (n->entry[i] != NULL) {
            n->entry[i]->ref++;
        }
        if (n->height > 0) {
            n->child[i] = from->child[i];
            n->child[i]->ref++;
        }
    }
    return n;
}

/* Replaces *at, whose owner may be changed, by a node that may be changed. */
static int kv_mem_own(struct mem_budget *b, struct kv_mem_node **at)
{
    if ((*at)->ref == 1) {
        return 0;
    }
    struct kv_mem_node *copy = kv_mem_node_copy(b, *at);
    if (copy == NULL) {
        return -ENOMEM;
    }
    kv_mem_node_unref(b, *at);
    *at = copy;
    return 0;
}

/* First slot of a leaf whose key is >= `key`. */
static size_t kv_mem_leaf_slot(const struct kv_mem_node *n, struct kv_slice key)
{
    size_t low = 0, high = n->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (kv_slice_compare(kv_mem_key(n->entry[mid]), key) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

/* The child that `key` belongs to. */
static size_t kv_mem_child_slot(const struct kv_mem_node *n, struct kv_slice key)
{
    size_t low = 1, high = n->count;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (kv_slice_compare(kv_mem_key(n->entry[mid]), key) <= 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low - 1;
}

struct kv_mem_entry *kv_mem_find(struct kv_mem_node *root, struct kv_slice key)
{
    struct kv_mem_node *n = root;
    while (n->height > 0) {
        n = n->child[kv_mem_child_slot(n, key)];
    }
    size_t i = kv_mem_leaf_slot(n, key);
    bool found = i < n->count && kv_slice_compare(kv_mem_key(n->entry[i]), key) == 0;
    return found ? n->entry[i] : NULL;
}

static void kv_mem_slot_insert(struct kv_mem_node *n, size_t i, struct kv_mem_entry *e,
                               struct kv_mem_node *child)
{
    CHECK(n->count < KV_MEM_FANOUT);
    memmove(&n->entry[i + 1], &n->entry[i], (n->count - i) * sizeof(struct kv_mem_entry *));
    n->entry[i] = e;
    if (n->height > 0) {
        memmove(&n->child[i + 1], &n->child[i], (n->count - i) * sizeof(struct kv_mem_node *));
        n->child[i] = child;
    }
    n->count++;
}

/* Forgets slot i; its references are the caller's now. */
static void kv_mem_slot_remove(struct kv_mem_node *n, size_t i)
{
    size_t behind = n->count - i - 1U;
    memmove(&n->entry[i], &n->entry[i + 1], behind * sizeof(struct kv_mem_entry *));
    if (n->height > 0) {
        memmove(&n->child[i], &n->child[i + 1], behind * sizeof(struct kv_mem_node *));
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
        memcpy(child, left->child, l * sizeof(struct kv_mem_node *));
        memcpy(child + l, right->child, r * sizeof(struct kv_mem_node *));
        memcpy(left->child, child, keep * sizeof(struct kv_mem_node *));
        memcpy(right->child, child + keep, (total - keep) * sizeof(struct kv_mem_node *));
    }
    left->count = (uint16_t)keep;
    right->count = (uint16_t)(total - keep);
}

/* The separator for a right neighbour whose slots are settled, taken out of it if it is inner. */
static struct kv_mem_entry *kv_mem_separator(struct mem_budget *b, const struct kv_mem_node *n,
                                             size_t i)
{
    struct kv_mem_entry *e = n->entry[i];
    if (n->height > 0) {
        return e;
    }
    return kv_mem_entry_new(b, kv_mem_key(e), kv_slice_of(NULL, 0));
}

/* Splits the full child i of n, both owned; n has room. */
static int kv_mem_split(struct mem_budget *b, struct kv_mem_node *n, size_t i)
{
    struct kv_mem_node *left = n->child[i];
    size_t keep = left->count / 2U;
    struct kv_mem_node *right = kv_mem_node_new(b, left->height);
    if (right == NULL) {
        return -ENOMEM;
    }
    struct kv_mem_entry *separator = kv_mem_separator(b, left, keep);
    if (separator == NULL) {
        kv_mem_node_unref(b, right);
        return -ENOMEM;
    }
    kv_mem_spread(left, right, keep);
    if (right->height > 0) {
        right->entry[0] = NULL; /* moved up */
    }
    kv_mem_slot_insert(n, i + 1, separator, right);
    return 0;
}

static int kv_mem_grow_root(struct kv_mem_tree *t)
{
    struct kv_mem_node *up = kv_mem_node_new(t->budget, t->root->height + 1U);
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
    int rc = kv_mem_own(t->budget, &t->root);
    if (rc == 0 && t->root->count == KV_MEM_FANOUT) {
        rc = kv_mem_grow_root(t);
    }
    struct kv_mem_node *n = t->root;
    while (rc == 0 && n->height > 0) {
        size_t i = kv_mem_child_slot(n, key);
        rc = kv_mem_own(t->budget, &n->child[i]);
        if (rc == 0 && n->child[i]->count == KV_MEM_FANOUT) {
            rc = kv_mem_split(t->budget, n, i);
            i = kv_mem_child_slot(n, key);
        }
        n = rc == 0 ? n->child[i] : n;
    }
    *ret = n;
    return rc;
}

int kv_mem_tree_put(struct kv_mem_tree *t, struct kv_mem_entry *e)
{
    struct kv_mem_node *n;
    int rc = kv_mem_descend_to_put(t, kv_mem_key(e), &n);
    if (rc < 0) {
        kv_mem_entry_unref(t->budget, e);
        return rc;
    }
    t->bytes += e->key_len + e->value_len;
    size_t i = kv_mem_leaf_slot(n, kv_mem_key(e));
    if (i < n->count && kv_slice_compare(kv_mem_key(n->entry[i]), kv_mem_key(e)) == 0) {
        t->bytes -= n->entry[i]->key_len + n->entry[i]->value_len;
        kv_mem_entry_unref(t->budget, n->entry[i]);
        n->entry[i] = e;
        return 0;
    }
    kv_mem_slot_insert(n, i, e, NULL);
    t->key_count++;
    return 0;
}

/* Children l and l + 1 of n become one, or share their slots evenly. n is owned. */
static int kv_mem_refill(struct mem_budget *b, struct kv_mem_node *n, size_t l)
{
    int rc = kv_mem_own(b, &n->child[l]);
    rc = rc == 0 ? kv_mem_own(b, &n->child[l + 1]) : rc;
    if (rc < 0) {
        return rc;
    }
    struct kv_mem_node *left = n->child[l], *right = n->child[l + 1];
    size_t total = (size_t)left->count + right->count;
    struct kv_mem_entry *down = n->entry[l + 1], *up = NULL;
    bool merge = total <= KV_MEM_MERGE_MAX;
    size_t keep = merge ? total : total / 2;
    if (!merge) { /* what will stand at slot `keep` of both; never the slot of `down` itself */
        const struct kv_mem_node *from = keep < left->count ? left : right;
        size_t i = keep < left->count ? keep : keep - left->count;
        bool same = from == right && i == 0;
        up = same ? down : kv_mem_separator(b, from, i);
        if (up == NULL) {
            return -ENOMEM;
        }
        if (same) {
            return 0;
        }
    }
    if (right->height > 0) {
        right->entry[0] = down; /* the separator moves down */
    } else {
        kv_mem_entry_unref(b, down);
    }
    kv_mem_spread(left, right, keep);
    if (merge) {
        kv_mem_slot_remove(n, l + 1);
        kv_mem_node_unref(b, right);
        return 0;
    }
    n->entry[l + 1] = up;
    if (right->height > 0) {
        right->entry[0] = NULL;
    }
    return 0;
}

/* Makes child *at of n owned and more than minimally filled, joining it with a neighbour. */
static int kv_mem_fill_child(struct mem_budget *b, struct kv_mem_node *n, struct kv_slice key,
                             size_t *at)
{
    int rc = 0;
    if (n->child[*at]->count <= KV_MEM_FILL_MIN && n->count > 1) {
        rc = kv_mem_refill(b, n, *at > 0 ? *at - 1 : 0);
        *at = kv_mem_child_slot(n, key);
    }
    return rc < 0 ? rc : kv_mem_own(b, &n->child[*at]);
}

static void kv_mem_shrink_root(struct kv_mem_tree *t)
{
    while (t->root->height > 0 && t->root->count == 1) {
        struct kv_mem_node *child = t->root->child[0];
        child->ref++;
        kv_mem_node_unref(t->budget, t->root);
        t->root = child;
    }
}

int kv_mem_tree_delete(struct kv_mem_tree *t, struct kv_slice key)
{
    struct kv_mem_entry *e = kv_mem_find(t->root, key);
    if (e == NULL) {
        return 0;
    }
    int rc = kv_mem_own(t->budget, &t->root);
    struct kv_mem_node *n = t->root;
    while (rc == 0 && n->height > 0) {
        size_t i = kv_mem_child_slot(n, key);
        rc = kv_mem_fill_child(t->budget, n, key, &i);
        n = rc == 0 ? n->child[i] : n;
    }
    if (rc < 0) {
        return rc;
    }
    size_t i = kv_mem_leaf_slot(n, key);
    CHECK(n->entry[i] == e);
    kv_mem_slot_remove(n, i);
    t->key_count--;
    t->bytes -= e->key_len + e->value_len;
    kv_mem_entry_unref(t->budget, e); /* `key` may have lain in it */
    kv_mem_shrink_root(t);
    return 0;
}

int kv_mem_tree_delete_range(struct kv_mem_tree *t, struct kv_slice low, struct kv_slice high)
{
    int rc = 0;
    while (rc == 0) {
        struct kv_mem_path p;
        kv_mem_path_seek(&p, t->root, low);
        struct kv_mem_entry *e = kv_mem_path_entry(&p);
        if (e == NULL || kv_slice_compare(kv_mem_key(e), high) >= 0) {
            break;
        }
        rc = kv_mem_tree_delete(t, kv_mem_key(e));
    }
    return rc;
}
