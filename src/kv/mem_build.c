#include "kv/mem_build_priv.h"

#include <string.h>

void kv_mem_build_init(struct kv_mem_build *b, struct kv_mem_pool *pool)
{
    *b = (struct kv_mem_build){.pool = pool};
}

void kv_mem_build_fini(struct kv_mem_build *b)
{
    for (size_t h = 0; h < KV_MEM_DEPTH_MAX; h++) {
        struct kv_mem_build_level *l = &b->level[h];
        for (size_t i = 0; i < l->count; i++) {
            kv_mem_entry_unref(b->pool->budget, l->entry[i]);
            kv_mem_node_unref(b->pool, h > 0 ? l->child[i] : NULL);
        }
        l->count = 0;
    }
}

/* The least key of a finished node, for the level above. */
static int build_separator(struct kv_mem_build *b, unsigned h, struct kv_mem_entry *first,
                           struct kv_mem_entry **ret)
{
    if (h > 0) {
        *ret = first; /* moves up */
        return 0;
    }
    *ret = kv_mem_entry_new(b->pool->budget, kv_mem_key(first), kv_slice_of(NULL, 0));
    return *ret == NULL ? -ENOMEM : 0;
}

/* Moves the first `count` slots of a level into a node; an inner one has no first separator. */
static void build_fill(struct kv_mem_build_level *l, struct kv_mem_node *n, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        bool inner = n->height > 0;
        kv_mem_slot_insert(n, i, inner && i == 0 ? NULL : l->entry[i], inner ? l->child[i] : NULL);
    }
    l->count -= count;
    memmove(l->entry, l->entry + count, l->count * sizeof(struct kv_mem_entry *));
    memmove(l->child, l->child + count, l->count * sizeof(struct kv_mem_node *));
}

/* The first `count` slots of a level become a node, which is a slot of the level above. */
static int build_node(struct kv_mem_build *b, unsigned h, size_t count)
{
    struct kv_mem_build_level *l = &b->level[h];
    CHECK(h + 1 < KV_MEM_DEPTH_MAX && count <= l->count && count <= KV_MEM_FANOUT);
    struct kv_mem_build_level *up = &b->level[h + 1];
    struct kv_mem_node *n = kv_mem_node_new(b->pool, h);
    if (n == NULL) {
        return -ENOMEM;
    }
    CHECK(up->count < KV_MEM_BUILD_HELD);
    int rc = build_separator(b, h, l->entry[0], &up->entry[up->count]);
    if (rc < 0) {
        kv_mem_node_unref(b->pool, n);
        return rc;
    }
    build_fill(l, n, count);
    up->child[up->count] = n;
    up->count++;
    b->height = (unsigned)base_max(b->height, h + 1);
    return 0;
}

/* Room for one more slot: from the lowest level that has some down to `h`. */
static int build_room(struct kv_mem_build *b, unsigned h)
{
    int rc = 0;
    unsigned top = h;
    while (b->level[top].count == KV_MEM_BUILD_HELD) {
        top++;
    }
    for (; rc == 0 && top > h; top--) {
        rc = build_node(b, top - 1, KV_MEM_BUILD_FILL);
    }
    return rc;
}

int kv_mem_build_add(struct kv_mem_build *b, struct kv_slice key, struct kv_slice value)
{
    struct kv_mem_build_level *l = &b->level[0];
    int rc = build_room(b, 0);
    if (rc < 0) {
        return rc;
    }
    struct kv_mem_entry *e = kv_mem_entry_new(b->pool->budget, key, value);
    if (e == NULL) {
        return -ENOMEM;
    }
    l->entry[l->count++] = e;
    b->key_count++;
    b->bytes += key.len + value.len;
    return 0;
}

/* What is left on a level that is not the highest: one node, or two that share it. */
static int build_rest(struct kv_mem_build *b, unsigned h)
{
    size_t count = b->level[h].count;
    int rc = build_room(b, h + 1);
    if (rc == 0 && count > KV_MEM_FANOUT) {
        rc = build_node(b, h, count / 2);
        rc = rc < 0 ? rc : build_room(b, h + 1);
    }
    return rc < 0 ? rc : build_node(b, h, b->level[h].count);
}

int kv_mem_build_finish(struct kv_mem_build *b, struct kv_mem_tree *ret)
{
    unsigned h = 0;
    while (h < b->height || b->level[h].count > KV_MEM_FANOUT) {
        int rc = build_rest(b, h);
        if (rc < 0) {
            return rc;
        }
        h++;
    }
    struct kv_mem_build_level *l = &b->level[h];
    struct kv_mem_node *root = kv_mem_node_new(b->pool, h);
    if (root == NULL) {
        return -ENOMEM;
    }
    kv_mem_entry_unref(b->pool->budget, h > 0 ? l->entry[0] : NULL);
    build_fill(l, root, l->count);
    *ret = (struct kv_mem_tree){
        .pool = b->pool, .root = root, .key_count = b->key_count, .bytes = b->bytes};
    return 0;
}
