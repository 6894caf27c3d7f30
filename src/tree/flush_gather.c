/*
 * tree/flush_gather.c -- what a flush will read, and what of it is not in memory.
 *
 * In two steps: what is needed of the children depends on the keys of the messages, so the parent's
 * buffer comes first.
 */
#include "tree/flush_priv.h"

#include <string.h>

struct gather {
    struct flush_job *job;
    struct flush_inside *inside;
    bool missing;
};

/* A node of the job by number: of the path, then the children. */
static const struct tree_node_at *gather_node(const struct gather *g, unsigned which)
{
    const struct tree_flush *f = g->job->f;
    return which < TREE_HEIGHT_MAX ? &f->path[which] : &f->child[which - TREE_HEIGHT_MAX];
}

static int gather_part(struct gather *g, unsigned which, uint32_t i)
{
    const struct tree_node_at *node = gather_node(g, which);
    uint8_t **kept = &g->inside->kept[which];
    struct tree_part *part = node->head->part[i];
    if (*kept == NULL) {
        *kept = mem_calloc(node->head->header.partition_count, 1);
        if (*kept == NULL) {
            return -ENOMEM;
        }
    }
    if ((*kept)[i] != 0) {
        return 0;
    }
    if (!tree_part_pin(part)) {
        struct tree_need_name name = {.block = node->block, .version = node->version, .part = i};
        int rc = tree_need_miss(&g->job->from, &name);
        g->missing = g->missing || rc == -ERR_need;
        return rc == -ERR_need ? 0 : rc;
    }
    int rc = g->job->from.need == NULL ? 0 : tree_need_keep_part(&g->job->from, part);
    if (rc < 0) {
        tree_part_unpin(part);
        return rc;
    }
    (*kept)[i] = 1;
    return 0;
}

static int gather_kind(struct gather *g, unsigned which, uint16_t slot,
                       enum tree_partition_kind kind)
{
    const struct tree_node_header *n = &gather_node(g, which)->head->header;
    uint32_t i = tree_node_find(n, kind, slot, 0), end = tree_node_find(n, kind, slot + 1u, 0);
    int rc = 0;
    for (; i < end && rc == 0; i++) {
        rc = gather_part(g, which, i);
    }
    return rc;
}

static int gather_slot(struct gather *g, unsigned which, uint16_t slot)
{
    int rc = gather_kind(g, which, slot, TREE_PARTITION_RUN);
    return rc == 0 ? gather_kind(g, which, slot, TREE_PARTITION_RANGES) : rc;
}

/* ---- leaves ---- */

static int gather_basement(struct gather *g, unsigned c, uint16_t i, struct flush_leaf_walk *w,
                           bool *shared)
{
    const struct tree_head *h = g->job->f->child[c].head;
    const struct flush_leaf_choice *choice = &g->inside->choice;
    struct tree_pivots_bounds b;
    tree_pivots_bounds(&h->pivots, i, &b);
    struct flush_range bounds = {.low = b.low, .high = b.high};
    enum flush_basement what = tree_flush_leaf_ask(g->job, w, choice, &bounds, h->part[i]->raw_len);
    *shared = *shared || what == FLUSH_SHARE;
    while (w->have == 1 &&
           (b.high.len == 0 || kv_slice_compare(tree_compact_key(w->messages), b.high) < 0)) {
        w->have = tree_compact_next(w->messages);
    }
    if (w->have < 0) {
        return w->have;
    }
    bool read = what == FLUSH_READ || (what == FLUSH_SHARE && choice->whole);
    return read ? gather_part(g, TREE_HEIGHT_MAX + c, i) : 0;
}

static int gather_touched(struct gather *g)
{
    const struct tree_flush *f = g->job->f;
    struct flush_leaf_walk w;
    bool shared = false;
    int rc = tree_flush_leaf_begin(g->job, &w);
    bool nothing = rc == 0 && w.have == 0 && w.range_count == 0;
    if (nothing && f->child_count == 1 && !g->inside->choice.whole) {
        tree_compact_free(w.messages);
        return 0;
    }
    for (unsigned c = 0; c < f->child_count; c++) {
        for (uint16_t i = 0; i < f->child[c].head->header.slots && rc == 0; i++) {
            rc = gather_basement(g, c, i, &w, &shared);
        }
    }
    tree_compact_free(w.messages);
    if (rc == 0 && shared && !g->inside->choice.whole && f->shape->filter_bits > 0) {
        const struct tree_node_header *n = &f->child[0].head->header;
        rc = gather_part(g, TREE_HEIGHT_MAX,
                         tree_node_find(n, TREE_PARTITION_FILTER, TREE_SLOT_ALL, 0));
    }
    return rc;
}

static int gather_leaves(struct gather *g)
{
    const struct tree_flush *f = g->job->f;
    struct flush_leaf_choice *choice = &g->inside->choice;
    int rc = 0;
    if (!g->inside->chosen) {
        rc = tree_flush_leaf_choose(g->job, choice);
        g->inside->chosen = rc == 0;
    }
    if (rc == 0 && (!choice->whole || (g->job->has_ranges && !choice->skipped))) {
        return gather_touched(g);
    }
    for (unsigned c = 0; c < f->child_count; c++) {
        for (uint16_t i = 0; i < f->child[c].head->header.slots && rc == 0; i++) {
            rc = gather_part(g, TREE_HEIGHT_MAX + c, i);
        }
    }
    return rc;
}

/* ---- internal nodes ---- */

static int gather_inner(struct gather *g)
{
    const struct tree_flush *f = g->job->f;
    bool empty = false, whole = false;
    int rc = tree_flush_is_void(g->job, &empty);
    for (unsigned c = 0; c < f->child_count; c++) {
        whole = whole || tree_flush_inner_whole(g->job, f->child[c].head);
    }
    for (unsigned c = 0; c < f->child_count && !empty; c++) {
        for (uint16_t s = 0; s < f->child[c].head->header.slots && rc == 0; s++) {
            enum flush_slot_kind kind = FLUSH_KEEP;
            rc = tree_flush_slot_choose(g->job, &f->child[c], s, &kind);
            if (rc == 0 && (kind == FLUSH_MERGE || f->child_count == 2)) {
                rc = gather_slot(g, TREE_HEIGHT_MAX + c, s);
            } else if (rc == 0 && whole) {
                rc = gather_kind(g, TREE_HEIGHT_MAX + c, s, TREE_PARTITION_RUN);
            }
        }
    }
    return rc;
}

/* ---- all ---- */

static int gather_buffer(struct gather *g)
{
    const struct tree_flush *f = g->job->f;
    int rc = 0;
    for (unsigned c = 0; c < f->child_count && g->job->run != NULL && rc == 0; c++) {
        rc = gather_slot(g, f->depth - 1, (uint16_t)(f->slot[f->depth - 1] + c));
    }
    return rc;
}

/* Buffers of nodes above ones that may be split. */
static int gather_path(struct gather *g)
{
    const struct tree_flush *f = g->job->f;
    bool below = g->inside->chosen && g->inside->choice.splits;
    int rc = 0;
    for (unsigned at = f->depth; at > 1 && rc == 0; at--) {
        below = tree_flush_may_split(f, at - 1, below);
        rc = below ? gather_slot(g, at - 2, f->slot[at - 2]) : 0;
    }
    return rc;
}

static int gather_all(struct gather *g)
{
    const struct tree_flush *f = g->job->f;
    int rc = gather_buffer(g);
    if (rc < 0 || g->missing) {
        return rc;
    }
    if (f->child_count > 0) {
        bool leaves = f->child[0].head->header.level == 0;
        rc = leaves ? gather_leaves(g) : gather_inner(g);
    }
    return rc == 0 ? gather_path(g) : rc;
}

int tree_flush_gather(struct tree_flush *f)
{
    struct flush_job *j = mem_alloc(sizeof *j);
    struct gather g = {.job = j, .inside = f->inside};
    if (j != NULL && g.inside == NULL) {
        g.inside = mem_zalloc(sizeof *g.inside);
        f->inside = g.inside;
    }
    if (j == NULL || g.inside == NULL) {
        mem_free(j);
        return -ENOMEM;
    }
    int rc = tree_flush_job_init(j, f, true);
    rc = rc == 0 ? gather_all(&g) : rc;
    tree_flush_job_fini(j);
    mem_free(j);
    return rc == 0 && g.missing ? -ERR_need : rc;
}
