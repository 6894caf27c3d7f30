#include "kv/mem_tree_priv.h"

/* Moving over a tree without parent pointers: the path from the root is the position. */

#define KV_MEM_AHEAD 6u /* records that a walk fetches before it comes to them */

static void kv_mem_path_push(struct kv_mem_path *p, struct kv_mem_node *n, size_t slot)
{
    CHECK(p->depth < KV_MEM_DEPTH_MAX);
    p->node[p->depth] = n;
    p->slot[p->depth] = (uint16_t)slot;
    p->depth++;
}

/* Behind the last slot of a leaf that is not the last one stands the next leaf. */
static void kv_mem_path_settle(struct kv_mem_path *p)
{
    unsigned leaf = p->depth - 1;
    if (p->slot[leaf] < p->node[leaf]->count) {
        return;
    }
    unsigned d = leaf;
    while (d > 0 && p->slot[d - 1] + 1U >= p->node[d - 1]->count) {
        d--;
    }
    if (d == 0) {
        return; /* behind the last of all */
    }
    p->slot[d - 1]++;
    p->depth = d;
    while (p->depth <= leaf) {
        struct kv_mem_node *up = p->node[p->depth - 1];
        kv_mem_path_push(p, up->in->child[p->slot[p->depth - 1]], 0);
    }
}

void kv_mem_path_seek(struct kv_mem_path *p, struct kv_mem_node *root, struct kv_slice key)
{
    p->depth = 0;
    struct kv_mem_node *n = root;
    while (n->height > 0) {
        size_t i = kv_mem_slot(n, key);
        kv_mem_path_push(p, n, i);
        n = n->in->child[i];
    }
    kv_mem_path_push(p, n, kv_mem_slot(n, key));
    kv_mem_path_settle(p);
}

void kv_mem_path_end(struct kv_mem_path *p, struct kv_mem_node *root)
{
    p->depth = 0;
    struct kv_mem_node *n = root;
    while (n->height > 0) {
        kv_mem_path_push(p, n, n->count - 1U);
        n = n->in->child[n->count - 1U];
    }
    kv_mem_path_push(p, n, n->count);
}

struct kv_mem_entry *kv_mem_path_entry(const struct kv_mem_path *p)
{
    const struct kv_mem_node *leaf = p->node[p->depth - 1];
    size_t i = p->slot[p->depth - 1];
    return i < leaf->count ? leaf->entry[i] : NULL;
}

void kv_mem_path_next(struct kv_mem_path *p)
{
    const struct kv_mem_node *leaf = p->node[p->depth - 1];
    size_t ahead = p->slot[p->depth - 1] + KV_MEM_AHEAD;
    CHECK(p->slot[p->depth - 1] < leaf->count);
    if (ahead < leaf->count) {
        __builtin_prefetch(leaf->entry[ahead]);
    }
    p->slot[p->depth - 1]++;
    kv_mem_path_settle(p);
}

bool kv_mem_path_prev(struct kv_mem_path *p)
{
    unsigned leaf = p->depth - 1, d = p->depth;
    while (d > 0 && p->slot[d - 1] == 0) {
        d--;
    }
    if (d == 0) {
        return false;
    }
    p->slot[d - 1]--;
    p->depth = d;
    while (p->depth <= leaf) {
        struct kv_mem_node *n = p->node[p->depth - 1]->in->child[p->slot[p->depth - 1]];
        kv_mem_path_push(p, n, n->count - 1U);
    }
    return true;
}

double kv_mem_rank(struct kv_mem_node *root, struct kv_slice key)
{
    double rank = 0, part = 1;
    struct kv_mem_node *n = root;
    while (n->count > 0) {
        size_t i = kv_mem_slot(n, key);
        part /= n->count;
        rank += part * (double)i;
        if (n->height == 0) {
            break;
        }
        n = n->in->child[i];
    }
    return rank;
}
