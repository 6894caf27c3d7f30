/* chunk/index.c -- items in key order: sorted leaves of pointers under a sorted array of leaves. */
#include "chunk/index_priv.h"

#include "base/mem.h"

#include <string.h>

#define LEAF_ITEMS 128u

struct chunk_leaf {
    size_t count;
    struct chunk_item *item[LEAF_ITEMS];
};

/* The last leaf whose first key is not above `key`; 0 when there is none. */
static size_t index_leaf(const struct chunk_index *x, struct chunk_key key)
{
    size_t low = 0, high = x->leaf_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (chunk_key_compare(x->leaf[middle]->item[0]->key, key) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? 0 : low - 1;
}

/* The first item of the leaf with a key >= `key`; its count when there is none. */
static size_t leaf_place(const struct chunk_leaf *l, struct chunk_key key)
{
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (chunk_key_compare(l->item[middle]->key, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static int index_add_leaf(struct chunk_index *x, size_t at)
{
    int rc = mem_grow(&x->leaf, &x->leaf_capacity, x->leaf_count + 1, sizeof(struct chunk_leaf *));
    struct chunk_leaf *l = rc < 0 ? NULL : mem_zalloc(sizeof *l);
    if (l == NULL) {
        return -ENOMEM;
    }
    memmove(x->leaf + at + 1, x->leaf + at, (x->leaf_count - at) * sizeof(struct chunk_leaf *));
    x->leaf[at] = l;
    x->leaf_count++;
    return 0;
}

/* The upper half of a full leaf moves to a new one behind it. Keys that only rise leave full leaves
 * behind. */
static int index_split(struct chunk_index *x, size_t at, bool at_end)
{
    int rc = index_add_leaf(x, at + 1);
    if (rc < 0) {
        return rc;
    }
    struct chunk_leaf *l = x->leaf[at], *right = x->leaf[at + 1];
    size_t keep = at_end ? LEAF_ITEMS - 1 : LEAF_ITEMS / 2;
    right->count = LEAF_ITEMS - keep;
    memcpy(right->item, l->item + keep, right->count * sizeof(struct chunk_item *));
    l->count = keep;
    return 0;
}

int chunk_index_insert(struct chunk_index *x, struct chunk_item *item)
{
    if (x->leaf_count == 0) {
        int rc = index_add_leaf(x, 0);
        if (rc < 0) {
            return rc;
        }
    }
    size_t at = x->count == 0 ? 0 : index_leaf(x, item->key);
    if (x->leaf[at]->count == LEAF_ITEMS) {
        bool at_end = leaf_place(x->leaf[at], item->key) == LEAF_ITEMS;
        int rc = index_split(x, at, at_end);
        if (rc < 0) {
            return rc;
        }
        at = index_leaf(x, item->key);
    }
    struct chunk_leaf *l = x->leaf[at];
    size_t place = leaf_place(l, item->key);
    CHECK(place == l->count || chunk_key_compare(l->item[place]->key, item->key) != 0);
    memmove(l->item + place + 1, l->item + place, (l->count - place) * sizeof(struct chunk_item *));
    l->item[place] = item;
    l->count++;
    x->count++;
    return 0;
}

void chunk_index_remove(struct chunk_index *x, struct chunk_key key)
{
    CHECK(x->leaf_count > 0);
    size_t at = index_leaf(x, key);
    struct chunk_leaf *l = x->leaf[at];
    size_t place = leaf_place(l, key);
    CHECK(place < l->count);
    CHECK(chunk_key_compare(l->item[place]->key, key) == 0);
    l->count--;
    memmove(l->item + place, l->item + place + 1, (l->count - place) * sizeof(struct chunk_item *));
    x->count--;
    if (l->count == 0) {
        mem_free(l);
        x->leaf_count--;
        memmove(x->leaf + at, x->leaf + at + 1, (x->leaf_count - at) * sizeof(struct chunk_leaf *));
    }
}

struct chunk_item *chunk_index_next(const struct chunk_index *x, struct chunk_key from)
{
    if (x->leaf_count == 0) {
        return NULL;
    }
    size_t at = index_leaf(x, from);
    size_t place = leaf_place(x->leaf[at], from);
    if (place < x->leaf[at]->count) {
        return x->leaf[at]->item[place];
    }
    return at + 1 < x->leaf_count ? x->leaf[at + 1]->item[0] : NULL;
}

struct chunk_item *chunk_index_find(const struct chunk_index *x, struct chunk_key key)
{
    struct chunk_item *item = chunk_index_next(x, key);
    return item != NULL && chunk_key_compare(item->key, key) == 0 ? item : NULL;
}

void chunk_index_fini(struct chunk_index *x)
{
    for (size_t i = 0; i < x->leaf_count; i++) {
        mem_free(x->leaf[i]);
    }
    mem_free(x->leaf);
    *x = (struct chunk_index){0};
}
