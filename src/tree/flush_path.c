/*
 * tree/flush_path.c -- what the change of children means for the nodes above: other children, less
 * in a buffer, more slots than a node may have, a root above or one less.
 */
#include "tree/flush_priv.h"

#include <string.h>

bool tree_flush_slot_is_empty(const struct tree_head *h, uint16_t slot)
{
    uint8_t run[256];
    return tree_head_runs(h, slot, run) == 0;
}

bool tree_flush_may_split(const struct tree_flush *f, unsigned at, bool below)
{
    uint32_t slots = f->path[at].head->header.slots, most = f->shape->fanout;
    bool can =
        at == 0 || slots >= most || tree_flush_slot_is_empty(f->path[at - 1].head, f->slot[at - 1]);
    return can && (below || slots > most);
}

/* ---- one node of the path ---- */

/* How many of its slots are replaced. */
static unsigned path_replaced(const struct tree_flush *f, unsigned at)
{
    return at + 1 == f->depth ? f->child_count : 1;
}

/* Are the children on this level what the node has already? */
static bool path_same(const struct flush_job *j, unsigned at)
{
    const struct tree_flush *f = j->f;
    const struct tree_pivots *p = &f->path[at].head->pivots;
    unsigned replaced = path_replaced(f, at);
    bool same = j->made_count == replaced;
    for (unsigned i = 0; i < replaced && same; i++) {
        struct tree_pivots_bounds b;
        uint16_t slot = (uint16_t)(f->slot[at] + i);
        tree_pivots_bounds(p, slot, &b);
        same = j->made[i].block == tree_pivots_child(p, slot) &&
               (i == 0 || kv_slice_compare(j->made[i].low, b.low) == 0);
        if (at + 1 == f->depth && j->buffered) {
            same = same && tree_flush_slot_is_empty(f->path[at].head, slot);
        }
    }
    return same;
}

/* A partition of a run that goes to several slots: entries within the range, if there are any. */
static int path_extract(struct flush_job *j, struct tree_part *p, const struct flush_range *r,
                        struct tree_part **ret)
{
    struct tree_block_builder *b = &j->builder[0];
    struct tree_block_iter it;
    bool equal = false, there = tree_part_pin(p);
    CHECK(there); /* gathered */
    struct tree_block block = tree_block_view(p->bytes);
    uint32_t end = r->high.len == 0 ? block.count : tree_block_lower(&block, r->high, &equal);
    b->kind = TREE_BLOCK_MESSAGE;
    tree_block_builder_clear(b);
    tree_block_iter_init(&it, &block);
    int rc = 0;
    bool more = tree_block_iter_seek(&it, tree_block_lower(&block, r->low, &equal));
    while (more && it.at < end && rc == 0) {
        rc = tree_block_builder_add(b, &it.entry);
        more = tree_block_iter_next(&it);
    }
    tree_part_unpin(p);
    return rc == 0 && b->count > 0 ? tree_flush_seal(j, b, ret) : rc;
}

static struct kv_slice key_least(struct kv_slice a, struct kv_slice b) /* empty: no bound */
{
    return a.len == 0 || (b.len > 0 && kv_slice_compare(b, a) < 0) ? b : a;
}

static int path_extract_ranges(struct flush_job *j, struct tree_part *p,
                               const struct flush_range *r, struct tree_part **ret)
{
    bool there = tree_part_pin(p);
    CHECK(there); /* gathered */
    struct tree_ranges list = tree_ranges_view(p->bytes);
    struct tree_ranges_item *item = mem_calloc(list.count, sizeof *item);
    struct flush_bytes bytes = {.kind = TREE_PARTITION_RANGES};
    int rc = item == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < list.count && rc == 0; i++) {
        struct tree_ranges_item one = tree_ranges_get(&list, i);
        one.low = kv_slice_compare(one.low, r->low) < 0 ? r->low : one.low;
        one.high = key_least(one.high, r->high);
        if (kv_slice_compare(one.low, one.high) < 0) {
            item[bytes.entries++] = one;
        }
    }
    if (rc == 0 && bytes.entries > 0) {
        bytes.len = tree_ranges_bytes(item, bytes.entries);
        bytes.at = tree_cache_get(j->f->cache, bytes.len);
        rc = bytes.at == NULL ? -ENOMEM : 0;
    }
    if (rc == 0 && bytes.entries > 0) {
        (void)tree_ranges_encode(item, bytes.entries, bytes.at);
        rc = tree_flush_part(j, &bytes, ret);
    }
    mem_free(item);
    tree_part_unpin(p);
    return rc;
}

/* The keys of partition i of a run, within its slot. */
static struct flush_range path_part_range(const struct tree_head *h, uint32_t i,
                                          const struct flush_range *slot)
{
    const struct tree_node_header *n = &h->header;
    struct flush_range range = *slot;
    if (n->partition[i].flags == TREE_PARTITION_MORE) {
        range.low = tree_pivots_cut(&h->pivots, n->partition[i].cut);
    }
    if (i + 1 < n->partition_count && n->partition[i + 1].flags == TREE_PARTITION_MORE) {
        range.high = tree_pivots_cut(&h->pivots, n->partition[i + 1].cut);
    }
    return range;
}

static bool range_meets(const struct flush_range *a, const struct flush_range *b)
{
    return (a->high.len == 0 || kv_slice_compare(b->low, a->high) < 0) &&
           (b->high.len == 0 || kv_slice_compare(a->low, b->high) < 0);
}

static bool range_within(const struct flush_range *inner, const struct flush_range *outer)
{
    return kv_slice_compare(outer->low, inner->low) <= 0 &&
           (outer->high.len == 0 ||
            (inner->high.len > 0 && kv_slice_compare(inner->high, outer->high) <= 0));
}

/* The slot of a node whose child was split: what of its buffer belongs to one of them. */
struct path_share {
    const struct tree_head *head;
    uint64_t block;
    struct flush_range slot, here;
};

static int path_share_part(struct flush_job *j, struct flush_plan *p, const struct path_share *x,
                           uint32_t i, int *last_run)
{
    const struct tree_partition *from = &x->head->header.partition[i];
    struct flush_range range = path_part_range(x->head, i, &x->slot);
    struct flush_part part = {.kind = from->kind, .run = from->run, .origin = x->block};
    int rc = 0;
    if (!range_meets(&range, &x->here)) {
        return 0;
    }
    if (from->kind == TREE_PARTITION_RANGES) {
        rc = path_extract_ranges(j, x->head->part[i], &x->here, &part.part);
    } else if (range_within(&range, &x->here)) {
        part.part = tree_part_ref(x->head->part[i]);
    } else {
        rc = path_extract(j, x->head->part[i], &x->here, &part.part);
    }
    if (rc < 0 || part.part == NULL) {
        return rc;
    }
    if (from->flags == TREE_PARTITION_MORE && *last_run == from->run) {
        part.cut = range.low;
    }
    *last_run = from->run;
    return tree_flush_plan_part(p, &part);
}

static int path_share(struct flush_job *j, struct flush_plan *p, unsigned at, size_t made)
{
    const struct tree_node_at *node = &j->f->path[at];
    uint16_t slot = j->f->slot[at];
    const struct tree_node_header *n = &node->head->header;
    struct tree_pivots_bounds b;
    int rc = 0;
    tree_pivots_bounds(&node->head->pivots, slot, &b);
    struct path_share x = {.head = node->head, .block = node->block};
    x.slot = (struct flush_range){.low = b.low, .high = b.high};
    x.here.low = made == 0 ? b.low : j->made[made].low;
    x.here.high = made + 1 < j->made_count ? j->made[made + 1].low : b.high;
    for (unsigned kind = TREE_PARTITION_RUN; kind <= TREE_PARTITION_RANGES; kind++) {
        uint32_t i = tree_node_find(n, (enum tree_partition_kind)kind, slot, 0);
        uint32_t end = tree_node_find(n, (enum tree_partition_kind)kind, slot + 1, 0);
        int last_run = -1;
        for (; i < end && rc == 0; i++) {
            rc = path_share_part(j, p, &x, i, &last_run);
        }
    }
    return rc;
}

/* What the parent's buffer keeps of the slot, with its fingerprints: it is another run there. */
static int path_add_rest(struct flush_job *j, struct flush_plan *p)
{
    const struct flush_plan *rest = j->rest;
    int rc = 0;
    j->print_count += j->rest_prints;
    for (size_t i = 0; i < rest->part_count && rc == 0; i++) {
        struct flush_part part = rest->part[i];
        part.part = tree_part_ref(part.part);
        rc = tree_flush_plan_part(p, &part);
    }
    return rc;
}

static int path_replace(struct flush_job *j, struct flush_plan *p, unsigned at)
{
    const struct tree_node_at *node = &j->f->path[at];
    uint16_t slot = j->f->slot[at];
    bool lowest = at + 1 == j->f->depth;
    int rc = 0;
    CHECK(!lowest || j->buffered || tree_flush_slot_is_empty(node->head, slot));
    CHECK(!lowest || j->rest == NULL || j->made_count == 1);
    for (size_t i = 0; i < j->made_count && rc == 0; i++) {
        rc = tree_flush_plan_slot(j, p, j->made[i].low, j->made[i].block);
        if (rc == 0 && lowest) {
            rc = j->rest != NULL ? path_add_rest(j, p) : 0;
        } else if (rc == 0) {
            rc = path_share(j, p, at, i);
        }
    }
    return rc;
}

static int path_plan(struct flush_job *j, struct flush_plan *p, unsigned at)
{
    const struct tree_node_at *node = &j->f->path[at];
    const struct tree_head *h = node->head;
    unsigned first = j->f->slot[at], end = first + path_replaced(j->f, at);
    int rc = 0;
    *p = (struct flush_plan){.low = h->pivots.low,
                             .high = h->pivots.high,
                             .level = h->header.level,
                             .msn_min = h->header.msn_min,
                             .msn_max = h->header.msn_max,
                             .filter = h,
                             .filtered = h->filter_bytes != NULL};
    for (unsigned s = 0; s < h->header.slots && rc == 0; s++) {
        struct tree_pivots_bounds b;
        struct kv_slice low = {0};
        if (s == first) {
            rc = path_replace(j, p, at);
        }
        if (s >= first && s < end) {
            continue;
        }
        tree_pivots_bounds(&h->pivots, (uint16_t)s, &b);
        rc = tree_flush_dup(j, b.low, &low);
        if (rc == 0) {
            rc = tree_flush_plan_slot(j, p, low, tree_pivots_child(&h->pivots, (uint16_t)s));
        }
        rc = rc == 0 ? tree_flush_plan_keep(p, node, (uint16_t)s) : rc;
    }
    return rc;
}

static size_t path_count(const struct flush_job *j, const struct flush_plan *p, bool split)
{
    size_t fanout = j->f->shape->fanout;
    return split && p->slot_count > fanout ? (p->slot_count + fanout - 1) / fanout : 1;
}

static int path_node(struct flush_job *j, unsigned at, bool split)
{
    struct flush_plan p = {0};
    struct flush_numbers numbers = {.block = {j->f->path[at].block}, .count = 1};
    int rc = path_plan(j, &p, at);
    rc = rc == 0 ? tree_flush_plan_make(j, &p, path_count(j, &p, split), &numbers) : rc;
    tree_flush_plan_fini(&p);
    return rc;
}

/* ---- the root ---- */

/* A node above all that was made. */
static int path_root(struct flush_job *j, uint8_t level)
{
    struct flush_plan p = {.level = level};
    struct flush_numbers numbers = {0};
    int rc = 0;
    for (size_t i = 0; i < j->made_count && rc == 0; i++) {
        rc = tree_flush_plan_slot(j, &p, j->made[i].low, j->made[i].block);
    }
    rc = rc == 0 ? tree_flush_plan_make(j, &p, path_count(j, &p, true), &numbers) : rc;
    tree_flush_plan_fini(&p);
    return rc;
}

/* Of a node of the tree as it will be, if it was made or looked at. */
static const struct tree_head *path_find(const struct tree_flush *f, uint64_t block)
{
    for (size_t i = 0; i < f->out_count; i++) {
        if (f->out[i].block == block) {
            return f->out[i].head;
        }
    }
    for (unsigned i = 0; i < f->depth; i++) {
        if (f->path[i].block == block) {
            return f->path[i].head;
        }
    }
    for (unsigned i = 0; i < f->child_count; i++) {
        if (f->child[i].block == block) {
            return f->child[i].head;
        }
    }
    return NULL;
}

static void path_forget(struct tree_flush *f, uint64_t block)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->out_count; i++) {
        if (f->out[i].block == block) {
            tree_head_unref(f->out[i].head);
        } else {
            f->out[kept++] = f->out[i];
        }
    }
    f->out_count = kept;
    f->gone[f->gone_count++] = block;
}

/* A root that only leads to one node, which buffers nothing either, gives way to it. None of them
 * is new: a root above others has two, and what replaces a deleted subtree ends somewhere. */
static void path_lower_root(struct tree_flush *f)
{
    const struct tree_head *h = path_find(f, f->root);
    while (h != NULL && h->header.level > 0 && h->header.slots == 1 &&
           h->header.partition_count == 0) {
        uint64_t child = tree_pivots_child(&h->pivots, 0);
        const struct tree_head *below = path_find(f, child);
        bool buffers = below == NULL ? h->header.level > 1
                                     : below->header.level > 0 && below->header.partition_count > 0;
        if (buffers) {
            break;
        }
        f->height = h->header.level;
        path_forget(f, f->root);
        f->root = child;
        h = below;
    }
}

/* Those of the children have been used; those of the rest come first from now on. */
static void path_keep_prints(struct flush_job *j)
{
    j->rest_prints = j->rest == NULL ? 0 : j->print_count - j->rest_print;
    if (j->rest_prints > 0) {
        memmove(j->print, j->print + j->rest_print, j->rest_prints * sizeof j->print[0]);
    }
    j->print_count = 0;
}

int tree_flush_path(struct flush_job *j, bool below)
{
    struct tree_flush *f = j->f;
    unsigned at = f->depth;
    bool changed = true;
    int rc = 0;
    path_keep_prints(j);
    while (at > 0 && rc == 0 && changed) {
        changed = !path_same(j, at - 1);
        below = tree_flush_may_split(f, at - 1, below);
        rc = changed ? path_node(j, at - 1, below) : 0;
        at--;
    }
    if (rc == 0 && !changed) {
        f->root = f->path[0].block;
        f->height = (uint8_t)(f->path[0].head->header.level + 1);
    } else {
        const struct tree_head *old = f->depth > 0         ? f->path[0].head
                                      : f->child_count > 0 ? f->child[0].head
                                                           : NULL;
        uint8_t level = old == NULL ? 0 : old->header.level;
        while (rc == 0 && j->made_count > 1) {
            rc = path_root(j, ++level);
        }
        f->root = j->made[0].block;
        f->height = (uint8_t)(level + 1);
    }
    if (rc == 0) {
        path_lower_root(f);
    }
    return rc;
}
