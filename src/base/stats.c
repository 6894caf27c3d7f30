/*
 * base/stats.c -- groups and leaves are nodes of one tree; a group lists its nodes in order of
 * creation. The root has the lock of its tree. Samples do not take it: they touch only the leaf,
 * which its owner embeds.
 */
#include "base/stats.h"

#include "base/lock.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

struct stats_node {
    struct list link;     /* in parent->nodes */
    struct stats *parent; /* NULL: the root of a tree */
    const char *name;
    enum { STATS_NODE_GROUP, STATS_NODE_COUNTER, STATS_NODE_GAUGE, STATS_NODE_HISTOGRAM } kind;
    union {
        struct stats_counter *counter;
        struct stats_gauge *gauge;
        struct stats_histogram *histogram;
    } leaf;
};

struct stats {
    struct stats_node node;
    struct list nodes; /* stats_node.link */
    struct stats *root;
    struct lock lock; /* the root's is used: guards the lists of all groups of the tree */
    char name[];
};

struct stats *stats_new(struct stats *parent, const char *name)
{
    size_t name_size = strlen(name) + 1;
    struct stats *s = mem_zalloc(sizeof *s + name_size);
    if (s == NULL) {
        return NULL;
    }
    memcpy(s->name, name, name_size);
    s->node.name = s->name;
    s->node.kind = STATS_NODE_GROUP;
    s->node.parent = parent;
    list_init(&s->node.link);
    list_init(&s->nodes);
    if (parent == NULL) {
        s->root = s;
        lock_init(&s->lock, LOCK_RANK_stats);
        return s;
    }
    s->root = parent->root;
    lock_take(&s->root->lock);
    list_push_back(&parent->nodes, &s->node.link);
    lock_release(&s->root->lock);
    return s;
}

static struct stats *stats_group_of(struct stats_node *n)
{
    CHECK(n->kind == STATS_NODE_GROUP);
    return container_of(n, struct stats, node);
}

/* Everything below `s`, which nobody else can reach any more. Always the first node, as deep as it
 * goes. */
static void stats_free_below(struct stats *s)
{
    struct stats *at = s;
    while (at != s || !list_empty(&s->nodes)) {
        if (list_empty(&at->nodes)) {
            struct stats *parent = at->node.parent;
            list_remove(&at->node.link);
            mem_free(at);
            at = parent;
            continue;
        }
        struct stats_node *first = LIST_ENTRY(at->nodes.next, struct stats_node, link);
        if (first->kind == STATS_NODE_GROUP) {
            at = stats_group_of(first);
        } else {
            list_remove(&first->link);
            mem_free(first);
        }
    }
}

struct stats *stats_free(struct stats *s)
{
    if (s == NULL) {
        return NULL;
    }
    if (s->root != s) {
        lock_take(&s->root->lock);
        list_remove(&s->node.link);
        lock_release(&s->root->lock);
    }
    stats_free_below(s);
    if (s->root == s) {
        lock_fini(&s->lock);
    }
    mem_free(s);
    return NULL;
}

static void stats_add(struct stats *s, const struct stats_node *leaf)
{
    struct stats_node *n = s != NULL ? mem_dup(leaf, sizeof *leaf) : NULL;
    if (n != NULL) {
        n->parent = s;
        lock_take(&s->root->lock);
        list_push_back(&s->nodes, &n->link);
        lock_release(&s->root->lock);
    }
}

void stats_add_counter(struct stats *s, const char *name, struct stats_counter *c)
{
    stats_add(s, &(struct stats_node){.name = name, .kind = STATS_NODE_COUNTER, .leaf.counter = c});
}

void stats_add_gauge(struct stats *s, const char *name, struct stats_gauge *g)
{
    stats_add(s, &(struct stats_node){.name = name, .kind = STATS_NODE_GAUGE, .leaf.gauge = g});
}

void stats_add_histogram(struct stats *s, const char *name, struct stats_histogram *h)
{
    stats_add(
        s, &(struct stats_node){.name = name, .kind = STATS_NODE_HISTOGRAM, .leaf.histogram = h});
}

/*
 * In units of 250 ns a value of e bits has its two bits below the first in the bucket's number, so
 * that bucket i starts at (4 + i % 4) * 2^(i / 4) units: 1, 1.25, 1.5, 1.75, 2, 2.5 us and so on.
 */
#define STATS_UNIT_NS 250u

static unsigned stats_bucket_of(uint64_t ns)
{
    uint64_t units = ns / STATS_UNIT_NS;
    if (units < 4) {
        return 0;
    }
    unsigned shift = 61u - (unsigned)__builtin_clzll(units);
    unsigned bucket = shift * 4 + ((unsigned)(units >> shift) & 3u);
    return bucket < STATS_BUCKETS ? bucket : STATS_BUCKETS - 1;
}

uint64_t stats_bucket_from_ns(unsigned bucket)
{
    CHECK(bucket < STATS_BUCKETS);
    return bucket == 0 ? 0 : ((uint64_t)(4 + bucket % 4) << (bucket / 4)) * STATS_UNIT_NS;
}

uint64_t stats_bucket_to_ns(unsigned bucket)
{
    CHECK(bucket < STATS_BUCKETS);
    return bucket + 1 < STATS_BUCKETS ? stats_bucket_from_ns(bucket + 1) : UINT64_MAX;
}

void stats_sample(struct stats_histogram *h, uint64_t ns)
{
    atomic_fetch_add_explicit(&h->bucket[stats_bucket_of(ns)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&h->sum_ns, ns, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
    while (ns > max && !atomic_compare_exchange_weak_explicit(
                           &h->max_ns, &max, ns, memory_order_relaxed, memory_order_relaxed)) {
    }
}

uint64_t stats_quantile_ns(const struct stats_histogram *h, unsigned permille)
{
    CHECK(permille <= 1000);
    uint64_t counts[STATS_BUCKETS], total = 0; /* of one moment; h->count may be ahead of them */
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        counts[i] = atomic_load_explicit(&h->bucket[i], memory_order_relaxed);
        total += counts[i];
    }
    uint64_t max = atomic_load_explicit(&h->max_ns, memory_order_relaxed);
    if (total == 0) {
        return 0;
    }
    /* The rank of the sample that is asked for, from 1; total < 2^54 in any life of a process. */
    uint64_t rank = base_max(1, (total * permille + 999) / 1000);
    unsigned at = 0;
    for (; at + 1 < STATS_BUCKETS && rank > counts[at]; at++) {
        rank -= counts[at];
    }
    uint64_t from = stats_bucket_from_ns(at);
    uint64_t to = base_max(from, base_min(stats_bucket_to_ns(at), max));
    uint64_t count = base_max(1, counts[at]);
    return from + (uint64_t)((unsigned __int128)(to - from) * base_min(rank, count) / count);
}

/* What a visitor sees of one leaf. */
struct stats_copy {
    struct stats_value value;
    char path[STATS_PATH_SIZE];
    struct stats_histogram histogram;
};

/* The leaf after `n` (NULL: the first) below `s`, depth first; NULL at the end. Without recursion:
 * nodes know their parents. */
static struct stats_node *stats_next_leaf(struct stats *s, struct stats_node *n)
{
    struct stats *group = n == NULL ? s : n->parent;
    struct list *at = n == NULL ? s->nodes.next : n->link.next;
    for (;;) {
        if (at == &group->nodes) { /* the end of this group: on behind it */
            if (group == s) {
                return NULL;
            }
            at = group->node.link.next;
            group = group->node.parent;
            continue;
        }
        struct stats_node *next = LIST_ENTRY(at, struct stats_node, link);
        if (next->kind != STATS_NODE_GROUP) {
            return next;
        }
        group = stats_group_of(next);
        at = group->nodes.next;
    }
}

/* Names of a path that are shown; the outermost of more are left out. */
#define STATS_DEPTH_MAX 16u

static void stats_path(const struct stats_node *n, char out[STATS_PATH_SIZE])
{
    const char *names[STATS_DEPTH_MAX];
    size_t count = 0;
    names[count++] = n->name;
    for (const struct stats *g = n->parent; g != NULL && count < STATS_DEPTH_MAX;
         g = g->node.parent) {
        if (g->name[0] != '\0') {
            names[count++] = g->name;
        }
    }
    struct text t;
    text_init(&t, out, STATS_PATH_SIZE);
    while (count > 0) {
        count--;
        text_add(&t, "%s%s", names[count], count > 0 ? "/" : "");
    }
}

static void stats_histogram_copy(struct stats_histogram *to, const struct stats_histogram *from)
{
    to->count = atomic_load_explicit(&from->count, memory_order_relaxed);
    to->sum_ns = atomic_load_explicit(&from->sum_ns, memory_order_relaxed);
    to->max_ns = atomic_load_explicit(&from->max_ns, memory_order_relaxed);
    for (unsigned i = 0; i < STATS_BUCKETS; i++) {
        to->bucket[i] = atomic_load_explicit(&from->bucket[i], memory_order_relaxed);
    }
}

static void stats_copy_leaf(struct stats_copy *to, const struct stats_node *n)
{
    stats_path(n, to->path);
    to->value.path = to->path;
    switch (n->kind) {
    case STATS_NODE_COUNTER:
        to->value.kind = STATS_IS_COUNTER;
        to->value.value = (int64_t)stats_counter_value(n->leaf.counter);
        break;
    case STATS_NODE_GAUGE:
        to->value.kind = STATS_IS_GAUGE;
        to->value.value = atomic_load_explicit(&n->leaf.gauge->value, memory_order_relaxed);
        break;
    case STATS_NODE_HISTOGRAM:
        to->value.kind = STATS_IS_HISTOGRAM;
        stats_histogram_copy(&to->histogram, n->leaf.histogram);
        to->value.histogram = &to->histogram;
        break;
    case STATS_NODE_GROUP:
        CHECK(false); /* stats_next_leaf gives leaves */
    }
}

/* Copies up to `room` leaves and returns how many there are. */
static size_t stats_copy_leaves(struct stats *s, struct stats_copy *copies, size_t room)
{
    size_t count = 0;
    lock_take(&s->root->lock);
    for (struct stats_node *n = stats_next_leaf(s, NULL); n != NULL; n = stats_next_leaf(s, n)) {
        if (count < room) {
            stats_copy_leaf(&copies[count], n);
        }
        count++;
    }
    lock_release(&s->root->lock);
    return count;
}

int stats_walk(struct stats *s, struct stats_visitor *v)
{
    if (s == NULL) {
        return 0;
    }
    /* The memory is taken outside the lock, which must stay short; leaves that were
     * added in between are in the next walk, and a tenth more is taken so that this is rare. */
    size_t room = stats_copy_leaves(s, NULL, 0);
    room += room / 10 + 8;
    CLEANUP(mem_freep) struct stats_copy *copies = mem_calloc(room, sizeof *copies);
    if (copies == NULL) {
        return -ENOMEM;
    }
    size_t count = base_min(stats_copy_leaves(s, copies, room), room);
    for (size_t i = 0; i < count; i++) {
        v->visit(v, &copies[i].value);
    }
    return 0;
}
