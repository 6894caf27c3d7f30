/*
 * tree/tree_read.c -- point reads of a tree, and ways down: see tree_priv.h.
 *
 * A read asks the memtables from new to old, then goes down from the root: on each level the runs
 * of the slot, the newest first, at last the leaf. It stops at the first message that decides. What
 * it is lent stays: of memtables for the snapshot, of parts by pins that the need list takes over.
 */
#include "tree/node_source.h"
#include "tree/tree_priv.h"

#include <string.h>

/* ---- ways down ---- */

static struct tree_node_at read_at(const struct tree_node *node)
{
    return (struct tree_node_at){
        .head = node->head, .block = node->block, .version = node->version};
}

/* Pins the head of a block of this state, which has to be of a level. */
static int read_pin(struct tree *t, const struct tree_state *s, const struct tree_need_from *from,
                    uint64_t block, unsigned level, struct tree_node **ret)
{
    struct tree_node *node = tree_nodes_find(t->nodes, block, s->version);
    if (node == NULL) {
        return -ERR_corrupt;
    }
    if (!tree_node_pin(node)) {
        struct tree_need_name name = {block, node->version, TREE_NEED_HEAD};
        return tree_need_miss(from, &name);
    }
    if (node->head->header.level != level) {
        tree_node_unpin(node);
        return -ERR_corrupt;
    }
    *ret = node;
    return 0;
}

static uint16_t read_slot(const struct tree_head *h, struct kv_slice key)
{
    return key.len == 0 ? 0 : tree_pivots_slot(&h->pivots, key);
}

/* The slot with the greatest keys below `key`. */
static uint16_t read_slot_below(const struct tree_head *h, struct kv_slice key)
{
    uint8_t low[TREE_KEY_MAX];
    if (key.len == 0) {
        return (uint16_t)(h->header.slots - 1);
    }
    uint16_t slot = tree_pivots_slot(&h->pivots, key);
    if (slot == 0) {
        return 0;
    }
    size_t len = tree_block_key(&h->pivots.keys, slot - 1u, low);
    return kv_slice_compare(kv_slice_of(low, len), key) == 0 ? (uint16_t)(slot - 1) : slot;
}

struct read_way {
    struct kv_slice key;
    bool below;
    unsigned level;
};

static int read_descend(struct tree *t, const struct tree_state *s,
                        const struct tree_need_from *from, const struct read_way *way,
                        struct tree_descent *ret)
{
    uint64_t block = s->root;
    CHECK(s->height > way->level && s->height <= TREE_HEIGHT_MAX);
    ret->depth = 0;
    for (unsigned at = s->height; at > way->level; at--) {
        struct tree_node *node = NULL;
        int rc = read_pin(t, s, from, block, at - 1, &node);
        if (rc < 0) {
            tree_descent_fini(ret);
            return rc;
        }
        CHECK(node != NULL);
        if (at > 1) {
            uint16_t slot = way->below ? read_slot_below(node->head, way->key)
                                       : read_slot(node->head, way->key);
            ret->slot[ret->depth] = slot;
            block = tree_pivots_child(&node->head->pivots, slot);
        }
        ret->node[ret->depth++] = node;
    }
    return 0;
}

int tree_descend(struct tree *t, const struct tree_state *s, const struct tree_need_from *from,
                 struct kv_slice key, uint8_t level, struct tree_descent *ret)
{
    struct read_way way = {.key = key, .level = level};
    return read_descend(t, s, from, &way, ret);
}

int tree_descend_below(struct tree *t, const struct tree_state *s,
                       const struct tree_need_from *from, struct kv_slice key,
                       struct tree_descent *ret)
{
    struct read_way way = {.key = key, .below = true};
    return read_descend(t, s, from, &way, ret);
}

void tree_descent_fini(struct tree_descent *d)
{
    while (d->depth > 0) {
        tree_node_unpin(d->node[--d->depth]);
    }
}

/* ---- one key ---- */

struct read {
    struct tree *t;
    const struct tree_view *view;
    struct tree_need_from from;
    struct kv_slice key;
    uint64_t print;
    struct tree_fold fold;
};

/* As tree_fold_ask(); what the source has lent stays with the need list. */
static int read_ask(struct read *r, struct tree_node_source *s)
{
    size_t before = r->fold.count;
    int rc = tree_fold_ask(&r->fold, &s->base, r->key);
    bool lent = rc == 1 || (rc == 0 && r->fold.count > before);
    if (lent && s->pinned != NULL) {
        int kept = tree_node_source_keep(s);
        rc = kept < 0 ? kept : rc;
    }
    tree_node_source_fini(s);
    return rc;
}

/* Is the key covered by a range delete of a run that has no message of it? */
static int read_covered(struct read *r, struct tree_node_source *s)
{
    struct tree_range range = {0};
    int rc = s->base.has_ranges ? s->base.ops->covering(&s->base, r->key, &range) : 0;
    tree_node_source_fini(s);
    return rc < 0 ? rc : range.msn > 0 ? 1 : 0; /* nothing is below: upserts so far begin there */
}

/* 1: decided; 0: go on below. */
static int read_runs(struct read *r, const struct tree_node *node, uint16_t slot)
{
    const struct tree_head *h = node->head;
    struct tree_node_at at = read_at(node);
    struct tree_node_source source;
    uint8_t run[256];
    bool single = h->filter.kind == TREE_FILTER_RUNS, maybe = true; /* each run by itself */
    if (h->filter_bytes != NULL && !single) {
        maybe = tree_filter_may_contain(&h->filter, r->print);
    }
    if (!maybe && !h->has_ranges) {
        return 0;
    }
    unsigned count = tree_head_runs(h, slot, run);
    int rc = 0;
    for (unsigned i = 0; i < count && rc == 0; i++) {
        if (single) {
            maybe = tree_filter_may_contain(&h->filter, tree_filter_of_run(r->print, run[i]));
        }
        if (maybe || h->has_ranges) {
            tree_node_source_run(&source, &r->from, &at, slot, run[i]);
            rc = maybe ? read_ask(r, &source) : read_covered(r, &source);
        }
    }
    return rc;
}

/* The filter of a leaf: 1: look; 0: the key is not here; negative: it has to be fetched first. */
static int read_leaf_filter(struct read *r, const struct tree_node *node)
{
    const struct tree_head *h = node->head;
    if (h->leaf_filter == h->header.partition_count) {
        return 1;
    }
    struct tree_part *p = h->part[h->leaf_filter];
    if (!tree_part_pin(p)) {
        struct tree_need_name name = {node->block, node->version, h->leaf_filter};
        return tree_need_miss(&r->from, &name);
    }
    tree_filter_prefetch(p->bytes, p->raw_len, r->print);
    struct tree_filter f = tree_filter_view(p->bytes);
    bool maybe = tree_filter_may_contain(&f, r->print);
    tree_part_unpin(p);
    return maybe ? 1 : 0;
}

static int read_leaf(struct read *r, const struct tree_node *node)
{
    struct tree_node_at at = read_at(node);
    struct tree_node_source source;
    if (node->head->header.slots == 0) {
        return 0;
    }
    int rc = read_leaf_filter(r, node);
    if (rc <= 0) {
        return rc;
    }
    tree_node_source_leaf(&source, &r->from, &at);
    return read_ask(r, &source);
}

static int read_nodes(struct read *r)
{
    const struct tree_state *s = r->view->state;
    uint64_t block = s->root;
    int rc = 0;
    for (unsigned level = s->height; level > 0 && rc == 0; level--) {
        struct tree_node *node = NULL;
        rc = read_pin(r->t, s, &r->from, block, level - 1, &node);
        if (rc < 0) {
            return rc;
        }
        CHECK(node != NULL);
        if (level == 1) {
            rc = read_leaf(r, node);
        } else {
            const struct tree_head *h = node->head;
            if (h->filter_bytes != NULL) {
                tree_filter_prefetch(h->filter_bytes, h->filter_len, r->print);
            }
            uint16_t slot = read_slot(h, r->key);
            rc = read_runs(r, node, slot);
            block = tree_pivots_child(&h->pivots, slot);
        }
        tree_node_unpin(node);
    }
    return rc;
}

static int read_memtables(struct read *r)
{
    const struct tree_state *s = r->view->state;
    struct kv_slice drained = kv_slice_of(s->drained, s->drained_len);
    unsigned count = s->count;
    if (s->draining > 0 && kv_slice_compare(r->key, drained) < 0) {
        count -= s->draining; /* what they had of it is in the nodes */
    }
    int rc = 0;
    for (unsigned i = 0; i < count && rc == 0; i++) {
        struct tree_memtable_cursor c;
        tree_memtable_cursor_init(&c, s->tables[i]->memtable, r->view->snapshot.limit);
        c.print = r->print;
        rc = tree_fold_ask(&r->fold, &c.base, r->key);
    }
    return rc;
}

/* A value that was made of several pieces is in the reader's memory: the list gets a copy. */
static int read_keep(struct read *r, struct kv_slice *value)
{
    const uint8_t *at = value->at;
    if (at == NULL || at != r->fold.room.at || value->len == 0) {
        return 0;
    }
    uint8_t *copy = tree_need_room(&r->from, r->t->cache, value->len);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, at, value->len);
    value->at = copy;
    return 0;
}

int tree_get(struct kv_snapshot *s, struct kv_slice key, struct kv_need *need, struct kv_slice *ret)
{
    struct tree_view *view = container_of(s, struct tree_view, base);
    struct read r = {.t = tree_of(s->kv), .view = view, .from = {s->kv, need}, .key = key};
    struct kv_slice value = {0};
    CHECK(need != NULL && !view->inner);
    tree_view_read(view);
    r.print = tree_fingerprint(key);
    tree_fold_begin(&r.fold);
    int rc = read_memtables(&r);
    if (rc == 0 && view->state->height > 0) {
        rc = read_nodes(&r);
    }
    rc = rc < 0 ? rc : tree_fold_end(&r.fold, &value);
    if (rc == 1) {
        int kept = read_keep(&r, &value);
        rc = kept < 0 ? kept : rc;
    }
    tree_fold_fini(&r.fold);
    int live = tree_snapshot_check(&view->snapshot);
    rc = live < 0 ? live : rc;
    if (rc == 1) {
        *ret = value;
    }
    return rc;
}
