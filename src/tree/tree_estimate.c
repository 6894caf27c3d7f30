/*
 * tree/tree_estimate.c -- how much lies between two keys, from what is in memory: headers of nodes
 * on two ways down, what is known of the sizes of the nodes beside them, and averages of the levels
 * for what lies below those. Nothing is fetched, and the work is that of two reads.
 *
 * Messages count as records, so changes of what is there count twice until they are in leaves, and
 * removals once.
 */
#include "tree/tree_priv.h"

#include <string.h>

struct weight {
    double bytes, keys;
};

struct estimate {
    struct tree *t;
    const struct tree_state *s;
    struct weight below[TREE_HEIGHT_MAX]; /* a node of the level, on average: all that is below */
    struct weight with[TREE_HEIGHT_MAX];  /* the same, with itself */
    struct weight all;
};

static void weight_add(struct weight *to, double part, struct weight w)
{
    to->bytes += part * w.bytes;
    to->keys += part * w.keys;
}

static void estimate_levels(struct estimate *x)
{
    for (unsigned level = 0; level < x->s->height; level++) {
        struct tree_nodes_level l = tree_nodes_level(x->t->nodes, level);
        double part = l.nodes > 0 ? 1.0 / (double)l.nodes : 0;
        weight_add(&x->below[level], part, x->all);
        weight_add(&x->all, 1, (struct weight){(double)l.raw_bytes, (double)l.entries});
        weight_add(&x->with[level], part, x->all);
    }
}

/* With all that is below: of its children at least the number is known, if its head is there. */
static struct weight estimate_node(const struct estimate *x, uint64_t block, unsigned level)
{
    struct tree_node *node = tree_nodes_find(x->t->nodes, block, x->s->version);
    struct weight w = x->below[level];
    if (node == NULL) {
        return w;
    }
    if (level > 0 && tree_node_pin(node)) {
        w = (struct weight){0};
        weight_add(&w, node->head->header.slots, x->with[level - 1]);
        tree_node_unpin(node);
    }
    w.bytes += atomic_load_explicit(&node->raw_bytes, memory_order_relaxed);
    w.keys += atomic_load_explicit(&node->entries, memory_order_relaxed);
    return w;
}

/* Slots of a node that a range touches: those of its ends, which are in it in part, and those
 * between; -1 and the number of slots: it has no end here. */
struct span {
    int from, to;
};

static struct span span_of(const struct tree_head *h, struct kv_slice low, struct kv_slice high)
{
    int slots = h->header.slots;
    return (struct span){
        .from = low.len == 0 || slots == 0 ? -1 : tree_pivots_slot(&h->pivots, low),
        .to = high.len == 0 || slots == 0 ? slots : tree_pivots_slot(&h->pivots, high)};
}

/* Basements, or messages for children: of slots first .. last. */
static struct weight head_parts(const struct tree_head *h, int first, int last)
{
    struct weight w = {0};
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        const struct tree_partition *p = &h->header.partition[i];
        bool counts = p->kind == TREE_PARTITION_LEAF || p->kind == TREE_PARTITION_RUN;
        if (counts && p->slot >= first && p->slot <= last) {
            weight_add(&w, 1, (struct weight){p->raw_len, p->entries});
        }
    }
    return w;
}

/* The children that are whole in it, with all below. */
static void span_children(const struct estimate *x, const struct tree_node *node, struct span span,
                          struct weight *ret)
{
    unsigned level = node->head->header.level;
    for (int i = span.from + 1; level > 0 && i < span.to; i++) {
        uint64_t child = tree_pivots_child(&node->head->pivots, (uint16_t)i);
        weight_add(ret, 1, estimate_node(x, child, level - 1));
    }
}

/* Nodes that a range has in part, from above: in each, what the range has of it besides the child
 * that is next, the messages for that child, and what the child holds with all below. */
struct trail {
    unsigned count;
    struct weight inside[TREE_HEIGHT_MAX], messages[TREE_HEIGHT_MAX], child[TREE_HEIGHT_MAX];
};

/* NULL: nobody knows more than what the node holds in all, of which a half is added. */
static struct tree_node *estimate_pin(const struct estimate *x, uint64_t block, struct weight *ret)
{
    struct tree_node *node = tree_nodes_find(x->t->nodes, block, x->s->version);
    if (node != NULL && tree_node_pin(node)) {
        return node;
    }
    if (node != NULL) {
        weight_add(ret, 0.5, estimate_node(x, block, node->level));
    }
    return NULL;
}

/* The child of the slot, where the range ends; of a basement a half. 0: it is the last node. */
static uint64_t trail_add(const struct estimate *x, struct trail *t, const struct tree_head *h,
                          int slot, struct weight *ret)
{
    struct weight parts = head_parts(h, slot, slot);
    if (slot < 0 || slot >= h->header.slots || t->count == TREE_HEIGHT_MAX) {
        return 0;
    }
    if (h->header.level == 0) {
        weight_add(ret, 0.5, parts);
        return 0;
    }
    uint64_t block = tree_pivots_child(&h->pivots, (uint16_t)slot);
    t->messages[t->count] = parts;
    t->child[t->count++] = estimate_node(x, block, h->header.level - 1u);
    return block;
}

/* Of messages for a child there is such a part in the range as of the child. */
static void trail_end(struct trail *t, struct weight *ret)
{
    while (t->count > 0) {
        t->count--;
        double all = t->child[t->count].bytes;
        weight_add(ret, all > ret->bytes ? ret->bytes / all : 1, t->messages[t->count]);
        weight_add(ret, 1, t->inside[t->count]);
    }
}

/* In a subtree, what lies behind `low`, or what lies in front of `high`: one of them is empty. */
static struct weight estimate_side(const struct estimate *x, uint64_t block, struct kv_slice low,
                                   struct kv_slice high)
{
    struct trail t = {0};
    struct weight w = {0};
    while (block != 0) {
        struct tree_node *node = estimate_pin(x, block, &w);
        if (node == NULL) {
            break;
        }
        struct span span = span_of(node->head, low, high);
        struct weight inside = head_parts(node->head, span.from + 1, span.to - 1);
        span_children(x, node, span, &inside);
        block = trail_add(x, &t, node->head, low.len > 0 ? span.from : span.to, &w);
        if (block != 0) {
            t.inside[t.count - 1] = inside;
        } else {
            weight_add(&w, 1, inside);
        }
        tree_node_unpin(node);
    }
    trail_end(&t, &w);
    return w;
}

/* Where both ends are not in one child any more. */
static void estimate_fork(const struct estimate *x, const struct tree_node *node, struct span span,
                          const struct kv_slice end[2], struct weight *ret)
{
    const struct tree_head *h = node->head;
    const struct kv_slice none = {0};
    struct trail from = {0}, to = {0};
    struct weight w[2] = {{0}};
    weight_add(ret, 1, head_parts(h, span.from + 1, span.to - 1));
    span_children(x, node, span, ret);
    uint64_t low = trail_add(x, &from, h, span.from, &w[0]);
    if (low != 0) {
        weight_add(&w[0], 1, estimate_side(x, low, end[0], none));
    }
    uint64_t high = span.to == span.from ? 0 : trail_add(x, &to, h, span.to, &w[1]);
    if (high != 0) {
        weight_add(&w[1], 1, estimate_side(x, high, none, end[1]));
    }
    trail_end(&from, &w[0]);
    trail_end(&to, &w[1]);
    weight_add(ret, 1, w[0]);
    weight_add(ret, 1, w[1]);
}

static struct weight estimate_nodes(const struct estimate *x, struct kv_slice low,
                                    struct kv_slice high)
{
    const struct kv_slice end[2] = {low, high};
    struct trail t = {0};
    struct weight w = {0};
    uint64_t block = x->s->root;
    while (block != 0) {
        struct tree_node *node = estimate_pin(x, block, &w);
        if (node == NULL) {
            break;
        }
        struct span span = span_of(node->head, low, high);
        bool together = span.from == span.to && node->head->header.level > 0;
        if (together) {
            block = trail_add(x, &t, node->head, span.from, &w);
        } else {
            estimate_fork(x, node, span, end, &w);
            block = 0;
        }
        tree_node_unpin(node);
    }
    trail_end(&t, &w);
    return w;
}

/* Of those that are being drained, what was in front is in nodes. */
static void estimate_tables(const struct estimate *x, struct kv_slice low, struct kv_slice high,
                            struct weight *ret)
{
    const struct tree_state *s = x->s;
    struct kv_slice drained = kv_slice_of(s->drained, s->drained_len);
    for (unsigned i = 0; i < s->count; i++) {
        bool drains = i >= s->count - s->draining && kv_slice_compare(low, drained) < 0;
        struct kv_slice from = drains ? drained : low;
        if (high.len > 0 && kv_slice_compare(from, high) >= 0) {
            continue;
        }
        struct tree_memtable_estimate e =
            tree_memtable_estimate(s->tables[i]->memtable, from, high);
        weight_add(ret, 1, (struct weight){(double)e.bytes, (double)e.key_count});
    }
}

void tree_estimate(struct kv_snapshot *base, struct kv_slice low, struct kv_slice high,
                   struct kv_estimate *ret)
{
    const struct tree_view *view = container_of(base, struct tree_view, base);
    struct estimate x = {.t = tree_of(base->kv), .s = view->state};
    struct weight w = {0};
    *ret = (struct kv_estimate){0};
    if (high.len > 0 && kv_slice_compare(low, high) >= 0) {
        return;
    }
    if (x.s->height > 0) {
        estimate_levels(&x);
        w = low.len == 0 && high.len == 0 ? x.all : estimate_nodes(&x, low, high);
    }
    estimate_tables(&x, low, high, &w);
    *ret = (struct kv_estimate){.key_count = (uint64_t)(w.keys + 0.5),
                                .bytes = (uint64_t)(w.bytes + 0.5)};
}
