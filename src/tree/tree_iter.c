/*
 * tree/tree_iter.c -- walks over a snapshot of a tree: see kv/kv.h.
 *
 * A walk goes through windows: the keys of one leaf, or those to one side of where the memtables
 * are drained up to. In a window everything that can say something about its keys is known: the
 * memtables, on each level the runs of one slot, the records of the leaf; they are merged
 * (merge.h). A step beyond a window opens the next one beside it. Only when that has found a record
 * does it take the place of the first; until then the walk stands where it stood, and a step that
 * lacks something is gone on with when it is repeated.
 *
 * On the loop's thread a walk that goes on and on reads ahead: when it comes to a basement, those
 * some way before it are asked for, of the next leaf as well, and come in beside what the caller
 * does. Elsewhere what is missing is listed together with what follows it.
 */
#include "tree/node_source.h"
#include "tree/tree_priv.h"

#include <string.h>

#include "base/mem.h"

#define ITER_RECORD_BYTES 128u /* about, for who says how many records will be read */
#define ITER_LIST_MAX 16u      /* basements that are asked for with one that is missing */
#define ITER_AHEAD_MAX 48u     /* basements that are read before they are missing */
#define ITER_CACHE_SHARE 64u   /* no more than this part of the cache */
#define ITER_RUNS_MAX 64u      /* parts of runs above the next leaf */

struct iter_key {
    size_t len;
    uint8_t bytes[TREE_KEY_MAX];
};

/* low <= key < high; empty: no bound. */
struct window {
    struct iter_key low, high;
    struct tree_descent descent;
    struct tree_merge *merge;
    size_t count, node_count;
    struct tree_source *source[TREE_SOURCES_MAX];
    struct tree_memtable_cursor cursor[TREE_MEMTABLES_MAX];
    uint64_t charged;
    struct tree_node_source *node; /* node_count of them */
    struct tree_node_source *leaf; /* one of them; NULL: there is none */
};

/* Of a leaf the basements below `end` were asked for. */
struct iter_asked {
    uint64_t block;
    uint32_t end;
};

enum iter_call { ITER_NO_CALL, ITER_SEEK, ITER_SEEK_BACK, ITER_NEXT, ITER_PREV };

struct tree_walk {
    struct kv_iter base;
    struct tree *t;
    struct tree_view *view;
    struct tree_need_from from;
    struct iter_key lower, upper;
    struct window *here;  /* NULL: it has never stood */
    unsigned ahead;       /* basements to ask for beyond the present one */
    unsigned ahead_first; /* at the beginning of a walk: as the caller has said */
    unsigned ahead_max;
    uint32_t at;                 /* basement of the leaf that it stood in; UINT32_MAX: none yet */
    struct iter_asked now, next; /* leaf */
    bool lost; /* `here` could not be placed again after a step that failed: it stands on `key` */
    struct iter_key key; /* where it stands, while it is lost */

    /* the step that is under way, beside `here` */
    enum iter_call call;
    struct iter_key target; /* of a seek */
    struct window *beside;  /* NULL: the one at `edge` has to be opened */
    struct iter_key edge;   /* of the next window: from this key on, or below it (backwards) */
};

static struct kv_slice key_slice(const struct iter_key *k)
{
    return kv_slice_of(k->bytes, k->len);
}

static void key_set(struct iter_key *k, struct kv_slice from)
{
    k->len = from.len;
    if (from.len > 0) {
        memcpy(k->bytes, from.at, from.len);
    }
}

static void key_raise(struct iter_key *low, struct kv_slice to)
{
    if (kv_slice_compare(key_slice(low), to) < 0) {
        key_set(low, to);
    }
}

static void key_lower(struct iter_key *high, struct kv_slice to)
{
    if (to.len > 0 && (high->len == 0 || kv_slice_compare(to, key_slice(high)) < 0)) {
        key_set(high, to);
    }
}

/* ---- windows ---- */

static struct window *window_free(struct tree_walk *x, struct window *w)
{
    if (w != NULL) {
        tree_cache_give(x->t->cache, w->charged);
        tree_merge_free(w->merge);
        for (size_t i = 0; i < w->node_count; i++) {
            tree_node_source_fini(&w->node[i]);
        }
        tree_descent_fini(&w->descent);
        mem_free(w->node);
        mem_free(w);
    }
    return NULL;
}

/* There are a few for each walk, and who walks cannot wait. */
static void window_charge(struct tree_walk *x, struct window *w, uint64_t bytes)
{
    tree_cache_force(x->t->cache, bytes);
    w->charged += bytes;
}

/* Down to the leaf that holds `edge`, or, backwards, the greatest keys below it. */
static int window_descend(struct tree_walk *x, struct window *w, bool backwards)
{
    const struct tree_state *s = x->view->state;
    struct kv_slice edge = key_slice(&x->edge);
    return backwards ? tree_descend_below(x->t, s, &x->from, edge, &w->descent)
                     : tree_descend(x->t, s, &x->from, edge, 0, &w->descent);
}

/* Keys below where memtables are drained up to are another window than those above. */
static unsigned window_memtables(const struct tree_walk *x, struct window *w, bool backwards)
{
    const struct tree_state *s = x->view->state;
    struct kv_slice drained = kv_slice_of(s->drained, s->drained_len);
    struct kv_slice edge = key_slice(&x->edge);
    if (s->draining == 0 || drained.len == 0) {
        return s->count;
    }
    int order = kv_slice_compare(edge, drained);
    bool below = backwards ? edge.len > 0 && order <= 0 : order < 0;
    if (below) {
        key_lower(&w->high, drained);
        return s->count - s->draining;
    }
    key_raise(&w->low, drained);
    return s->count;
}

static size_t window_count_runs(const struct window *w)
{
    uint8_t run[256];
    size_t count = 1; /* the leaf */
    for (unsigned i = 0; i + 1 < w->descent.depth; i++) {
        count += tree_head_runs(w->descent.node[i]->head, w->descent.slot[i], run);
    }
    return count;
}

static void window_add_nodes(struct tree_walk *x, struct window *w)
{
    for (unsigned i = 0; i < w->descent.depth; i++) {
        const struct tree_node *node = w->descent.node[i];
        struct tree_node_at at = {node->head, node->block, node->version};
        uint8_t run[256];
        unsigned runs =
            i + 1 < w->descent.depth ? tree_head_runs(node->head, w->descent.slot[i], run) : 0;
        for (unsigned k = 0; k < runs; k++) {
            struct tree_node_source *s = &w->node[w->node_count++];
            tree_node_source_run(s, &x->from, &at, w->descent.slot[i], run[k]);
            w->source[w->count++] = &s->base;
        }
        if (i + 1 == w->descent.depth && node->head->header.slots > 0) {
            struct tree_node_source *s = &w->node[w->node_count++];
            tree_node_source_leaf(s, &x->from, &at);
            w->source[w->count++] = &s->base;
            w->leaf = s;
        }
    }
}

static int window_fill(struct tree_walk *x, struct window *w, bool backwards)
{
    const struct tree_state *s = x->view->state;
    struct kv_slice none = {0};
    unsigned memtables = window_memtables(x, w, backwards);
    for (unsigned i = 0; i < memtables; i++) {
        tree_memtable_cursor_init(&w->cursor[i], s->tables[i]->memtable, x->view->snapshot.limit);
        w->source[w->count++] = &w->cursor[i].base;
    }
    if (s->height > 0) {
        const struct tree_node *leaf = w->descent.node[w->descent.depth - 1];
        size_t most = window_count_runs(w);
        if (memtables + most > TREE_SOURCES_MAX) {
            return -ERR_corrupt; /* more runs than any writer makes */
        }
        key_raise(&w->low, leaf->head->pivots.low);
        key_lower(&w->high, leaf->head->pivots.high);
        w->node = mem_alloc(most * sizeof w->node[0]);
        if (w->node == NULL) {
            return -ENOMEM;
        }
        window_charge(x, w, most * sizeof w->node[0]);
        window_add_nodes(x, w);
    }
    struct tree_merge_options opt = {.sources = w->source,
                                     .count = w->count,
                                     .lower = none,
                                     .upper = none,
                                     .snapshot = &x->view->snapshot};
    struct iter_key low = w->low, high = w->high;
    key_raise(&low, key_slice(&x->lower));
    key_lower(&high, key_slice(&x->upper));
    opt.lower = key_slice(&low);
    opt.upper = key_slice(&high);
    window_charge(x, w, tree_merge_bytes(w->count));
    return tree_merge_new(&opt, &w->merge);
}

static int window_open(struct tree_walk *x, bool backwards, struct window **ret)
{
    struct window *w = mem_alloc(sizeof *w);
    if (w == NULL) {
        return -ENOMEM;
    }
    memset(w, 0, offsetof(struct window, source));
    w->node = NULL;
    w->leaf = NULL;
    w->charged = 0;
    window_charge(x, w, sizeof *w);
    int rc = x->view->state->height > 0 ? window_descend(x, w, backwards) : 0;
    rc = rc < 0 ? rc : window_fill(x, w, backwards);
    if (rc < 0) {
        window_free(x, w);
        return rc;
    }
    *ret = w;
    return 0;
}

/* ---- steps ---- */

/* With a missing basement the ones behind it, the more of them the longer a walk goes on. */
static void walk_read_ahead(struct tree_walk *x, const struct window *w, size_t from)
{
    const struct kv_need *need = x->from.need;
    const struct tree_node *leaf =
        w == NULL || w->descent.depth == 0 ? NULL : w->descent.node[w->descent.depth - 1];
    if (leaf == NULL || need->count == from) {
        return;
    }
    struct tree_need_name name = tree_need_name(&need->item[need->count - 1]);
    if (name.block != leaf->block || name.part >= leaf->head->header.slots) {
        return;
    }
    uint32_t most = (uint32_t)base_min(x->ahead, ITER_LIST_MAX) + 1;
    uint32_t end = (uint32_t)base_min(name.part + most, leaf->head->header.slots);
    for (name.part++; name.part < end; name.part++) {
        struct tree_part *p = leaf->head->part[name.part];
        if (tree_part_pin(p)) {
            tree_part_unpin(p);
        } else if (tree_need_miss(&x->from, &name) != -ERR_need) {
            return; /* the list is full: what is needed at once is in it */
        }
    }
    x->ahead = (unsigned)base_min(2 * x->ahead + 1, x->ahead_max);
}

/* The first `count` basements of the leaf behind this one, and what the level above has for it. */
static void walk_ahead_next(struct tree_walk *x, const struct window *w, uint32_t count)
{
    unsigned depth = w->descent.depth;
    if (depth < 2) {
        return;
    }
    struct tree_node *above = w->descent.node[depth - 2];
    const struct tree_node_header *n = &above->head->header;
    uint16_t slot = (uint16_t)(w->descent.slot[depth - 2] + 1);
    if (slot >= n->slots) {
        return;
    }
    uint64_t block = tree_pivots_child(&above->head->pivots, slot);
    struct tree_node *leaf = tree_nodes_find(x->t->nodes, block, x->view->state->version);
    if (leaf == NULL) {
        return;
    }
    if (x->next.block != block) {
        uint32_t first = tree_node_find(n, TREE_PARTITION_RUN, slot, 0);
        uint32_t end = tree_node_find(n, TREE_PARTITION_RUN, (uint16_t)(slot + 1), 0);
        x->next = (struct iter_asked){.block = block};
        tree_fetcher_ahead(x->t->fetcher, above, first,
                           (uint32_t)base_min(end - first, ITER_RUNS_MAX));
    }
    bool there = tree_node_pin(leaf); /* else its head comes first */
    if (there) {
        count = (uint32_t)base_min(count, leaf->head->header.slots);
        tree_node_unpin(leaf);
    }
    if (count > x->next.end) {
        tree_fetcher_ahead(x->t->fetcher, leaf, x->next.end, count - x->next.end);
        x->next.end = there ? count : 0;
    }
}

/* It has come to another basement. What is asked for is so much at a time that it can be read
 * together. */
static void walk_ahead(struct tree_walk *x, const struct window *w)
{
    const struct tree_node_source *s = w->leaf;
    struct tree_node *leaf = w->descent.node[w->descent.depth - 1];
    bool began = x->at == UINT32_MAX && x->now.block == 0;
    x->at = s->at;
    if (s->block != x->now.block) {
        x->now = x->next.block == s->block ? x->next : (struct iter_asked){.block = s->block};
    }
    if ((began && x->ahead == 0) || !loop_is_mine(x->t->env.loop) || x->t->stopping) {
        return;
    }
    x->ahead = (unsigned)base_min(began ? x->ahead : 2 * x->ahead + 1, x->ahead_max);
    uint32_t wanted = s->at + 1 + x->ahead;
    uint32_t from = (uint32_t)base_max(x->now.end, s->at + 1);
    uint32_t asked = from + (x->now.end == s->count ? x->next.end : 0);
    if (wanted < asked + (x->ahead + 1) / 2) {
        return;
    }
    uint32_t end = (uint32_t)base_min(wanted, s->count);
    if (from < end) {
        tree_fetcher_ahead(x->t->fetcher, leaf, from, end - from);
    }
    x->now.end = (uint32_t)base_max(x->now.end, end);
    if (wanted > s->count) {
        walk_ahead_next(x, w, wanted - s->count);
    }
}

static bool call_is_backwards(enum iter_call call)
{
    return call == ITER_SEEK_BACK || call == ITER_PREV;
}

static void walk_stand(struct tree_walk *x)
{
    x->base.key = tree_merge_key(x->here->merge);
    x->base.value = tree_merge_value(x->here->merge);
    x->lost = false;
}

/* On a record further on. */
static void walk_arrive(struct tree_walk *x)
{
    walk_stand(x);
    if (x->here->leaf != NULL && x->here->leaf->at != x->at) {
        walk_ahead(x, x->here);
    }
}

static void walk_drop(struct tree_walk *x)
{
    x->beside = window_free(x, x->beside);
    x->call = ITER_NO_CALL;
}

/* Is there something behind this window, within the bounds? Then `edge` is where. */
static bool walk_beyond(struct tree_walk *x, const struct window *w, bool backwards)
{
    struct kv_slice bound = key_slice(backwards ? &x->lower : &x->upper);
    struct kv_slice edge = key_slice(backwards ? &w->low : &w->high);
    if (edge.len == 0) {
        return false;
    }
    int order = kv_slice_compare(edge, bound);
    if (backwards ? order <= 0 : bound.len > 0 && order >= 0) {
        return false;
    }
    key_set(&x->edge, edge);
    return true;
}

/* The step goes on: through windows until one has a record. 1: `beside` stands on it; 0: there is
 * none. */
static int walk_through(struct tree_walk *x)
{
    bool backwards = call_is_backwards(x->call);
    for (;;) {
        int rc = x->beside == NULL ? window_open(x, backwards, &x->beside) : 0;
        if (rc < 0) {
            return rc;
        }
        size_t before = x->from.need->count;
        struct kv_slice to = x->call == ITER_SEEK || x->call == ITER_SEEK_BACK
                                 ? key_slice(&x->target)
                                 : kv_slice_of(NULL, 0);
        rc = backwards ? tree_merge_seek_back(x->beside->merge, to)
                       : tree_merge_seek(x->beside->merge, to);
        bool goes_on = x->call == ITER_NEXT || (x->call == ITER_SEEK && x->ahead_first > 0);
        if (rc == -ERR_need && goes_on) {
            walk_read_ahead(x, x->beside, before);
        }
        if (rc != 0) {
            return rc;
        }
        bool more = walk_beyond(x, x->beside, backwards);
        x->beside = window_free(x, x->beside);
        if (!more) {
            return 0;
        }
    }
}

static int walk_finish(struct tree_walk *x, int rc)
{
    if (rc < 0) {
        return rc;
    }
    window_free(x, x->here);
    bool forward = !call_is_backwards(x->call);
    x->here = x->beside;
    x->beside = NULL;
    walk_drop(x);
    x->at = UINT32_MAX;
    if (rc == 0) {
        x->base.key = x->base.value = (struct kv_slice){0};
    } else if (forward) {
        walk_arrive(x);
    } else {
        walk_stand(x);
    }
    return rc;
}

/* After a step out of `here` that failed: it stands on its record again. */
static void walk_restore(struct tree_walk *x, bool backwards)
{
    key_set(&x->key, x->base.key);
    int rc = backwards ? tree_merge_seek(x->here->merge, (struct kv_slice){0})
                       : tree_merge_seek_back(x->here->merge, (struct kv_slice){0});
    if (rc == 1) {
        walk_stand(x);
        return;
    }
    x->lost = true; /* what it had was evicted at this moment: next and prev find it by its key */
    x->base.key = key_slice(&x->key);
    x->base.value = (struct kv_slice){0};
}

/* The least key above: what is below it is at most this one. Empty: there is none. */
static void key_above(struct iter_key *k, struct kv_slice from)
{
    key_set(k, from);
    if (k->len < TREE_KEY_MAX) {
        k->bytes[k->len++] = 0;
        return;
    }
    while (k->len > 0 && k->bytes[k->len - 1] == UINT8_MAX) {
        k->len--;
    }
    if (k->len > 0) {
        k->bytes[k->len - 1]++;
    }
}

/* False: no key of the bounds lies there. */
static bool walk_first_edge(struct tree_walk *x, struct kv_slice key, bool backwards)
{
    struct kv_slice lower = key_slice(&x->lower), upper = key_slice(&x->upper);
    x->edge.len = 0;
    if (!backwards) {
        key_set(&x->edge, key);
        key_raise(&x->edge, lower);
        return upper.len == 0 || kv_slice_compare(key_slice(&x->edge), upper) < 0;
    }
    if (key.len > 0) {
        key_above(&x->edge, key);
    }
    key_lower(&x->edge, upper);
    return x->edge.len == 0 || kv_slice_compare(lower, key_slice(&x->edge)) < 0;
}

static int walk_seek_to(struct tree_walk *x, struct kv_slice key, enum iter_call call)
{
    bool somewhere = true;
    tree_view_read(x->view);
    if (x->call != call || kv_slice_compare(key, key_slice(&x->target)) != 0) {
        walk_drop(x);
        x->call = call;
        x->ahead = x->ahead_first;
        x->now = x->next = (struct iter_asked){0};
        key_set(&x->target, key);
        somewhere = walk_first_edge(x, key, call == ITER_SEEK_BACK);
    }
    return walk_finish(x, somewhere ? walk_through(x) : 0);
}

static int walk_seek(struct kv_iter *it, struct kv_slice key)
{
    return walk_seek_to(container_of(it, struct tree_walk, base), key, ITER_SEEK);
}

static int walk_seek_back(struct kv_iter *it, struct kv_slice key)
{
    return walk_seek_to(container_of(it, struct tree_walk, base), key, ITER_SEEK_BACK);
}

/* Back to the record that it lost. */
static int walk_find(struct tree_walk *x)
{
    int rc = tree_merge_seek(x->here->merge, key_slice(&x->key));
    if (rc < 0) {
        return rc;
    }
    CHECK(rc == 1 && kv_slice_compare(tree_merge_key(x->here->merge), x->base.key) == 0);
    walk_stand(x);
    return 0;
}

static int walk_step(struct tree_walk *x, enum iter_call call)
{
    bool backwards = call_is_backwards(call);
    tree_view_read(x->view);
    if (x->call == call) {
        return walk_finish(x, walk_through(x));
    }
    walk_drop(x);
    int found = x->lost ? walk_find(x) : 0;
    if (found < 0) {
        return found;
    }
    size_t before = x->from.need->count;
    int rc = backwards ? tree_merge_prev(x->here->merge) : tree_merge_next(x->here->merge);
    if (rc == 1 && !backwards) {
        walk_arrive(x);
        return 1;
    }
    if (rc == 1) {
        walk_stand(x);
        return 1;
    }
    if (rc < 0) {
        walk_stand(x); /* where it stood, though what was lent may lie elsewhere now */
        if (rc == -ERR_need && !backwards) {
            walk_read_ahead(x, x->here, before);
        }
        return rc;
    }
    if (!walk_beyond(x, x->here, backwards)) {
        x->base.key = x->base.value = (struct kv_slice){0};
        return 0;
    }
    x->call = call;
    rc = walk_through(x);
    if (rc < 0) {
        walk_restore(x, backwards);
    }
    return walk_finish(x, rc);
}

static int walk_next(struct kv_iter *it)
{
    return walk_step(container_of(it, struct tree_walk, base), ITER_NEXT);
}

static int walk_prev(struct kv_iter *it)
{
    return walk_step(container_of(it, struct tree_walk, base), ITER_PREV);
}

static void walk_free(struct kv_iter *it)
{
    struct tree_walk *x = container_of(it, struct tree_walk, base);
    window_free(x, x->here);
    window_free(x, x->beside);
    tree_cache_give(x->t->cache, sizeof *x);
    mem_free(x);
}

static const struct kv_iter_ops walk_ops = {
    .seek = walk_seek,
    .seek_back = walk_seek_back,
    .next = walk_next,
    .prev = walk_prev,
    .free = walk_free,
};

int tree_iter(struct kv_snapshot *s, const struct kv_iter_options *opt, struct kv_iter **ret)
{
    struct tree_walk *x = mem_alloc(sizeof *x);
    if (x == NULL) {
        return -ENOMEM;
    }
    memset(x, 0, sizeof *x);
    x->base.ops = &walk_ops;
    x->t = tree_of(s->kv);
    tree_cache_force(x->t->cache, sizeof *x);
    x->view = container_of(s, struct tree_view, base);
    x->from = (struct tree_need_from){s->kv, opt->need};
    uint64_t ahead = (uint64_t)opt->ahead * ITER_RECORD_BYTES / x->t->shape.basement_raw;
    uint64_t room = x->t->opt.cache_bytes / ITER_CACHE_SHARE / x->t->shape.basement_raw;
    x->ahead_max = (unsigned)base_min(room, ITER_AHEAD_MAX);
    x->ahead_first = (unsigned)base_min(ahead, x->ahead_max);
    x->at = UINT32_MAX;
    key_set(&x->lower, opt->lower);
    key_set(&x->upper, opt->upper);
    *ret = &x->base;
    return 0;
}
