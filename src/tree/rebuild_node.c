/*
 * tree/rebuild_node.c -- the way down from the root: which state of each block is used, and its
 * copy.
 *
 * Where the table is known it says which state belongs to the checkpoint; else it is the newest one
 * with a birth up to the checkpoint. Of internal nodes only that one counts: an older state would
 * have messages that are below it already. A leaf may be older, with what was moved into it since
 * missing.
 */
#include "tree/rebuild_priv.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <inttypes.h>

bool tree_rebuild_has(const struct rebuild *r, uint64_t block)
{
    return block < r->entry_capacity && r->entry[block].kind != TREE_BTT_VOID;
}

/* ---- which state ---- */

static bool node_fits(const struct tree_look_node *n, const struct rebuild_way *way)
{
    return way->level == UINT8_MAX ||
           (n->header.level == way->level && kv_slice_compare(n->pivots.low, way->low) == 0 &&
            kv_slice_compare(n->pivots.high, way->high) == 0);
}

/* 0: it is sound and belongs there. */
static int node_try(struct rebuild *r, const struct tree_look_at *at, const struct rebuild_way *way,
                    struct tree_look_node *ret)
{
    int rc = tree_look_node(&r->look, at, ret, NULL);
    if (rc == 0 && !node_fits(ret, way)) {
        tree_look_node_fini(ret);
        rc = -ERR_bad_value;
    }
    return rc;
}

static size_t seen_first(const struct rebuild *r, uint64_t block)
{
    size_t low = 0, high = r->seen_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->seen[middle].block < block) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Among the states that were found. `newest`: of a table that is not known. */
static int node_find_seen(struct rebuild *r, const struct rebuild_way *way,
                          struct tree_look_node *ret, bool *ret_older)
{
    bool table = tree_look_knows(&r->table, way->block), first = !table;
    for (size_t i = seen_first(r, way->block); i < r->seen_count && r->seen[i].block == way->block;
         i++) {
        const struct rebuild_seen *s = &r->seen[i];
        bool leaf = s->level == 0 && (way->level == 0 || way->level == UINT8_MAX);
        if (s->birth > r->super.checkpoint || (!first && !leaf)) {
            continue;
        }
        struct tree_look_at at = {.file_id = s->file_id,
                                  .block = s->block,
                                  .birth = s->birth,
                                  .sum = s->sum,
                                  .offset = s->offset};
        int rc = node_try(r, &at, way, ret);
        if (rc == 0) {
            *ret_older = !first;
        }
        if (rc == 0 || rc == -ENOMEM) {
            return rc;
        }
        first = false;
    }
    return -ENOENT;
}

int tree_rebuild_find(struct rebuild *r, const struct rebuild_way *way, struct tree_look_node *ret,
                      bool *ret_older)
{
    if (tree_look_knows(&r->table, way->block)) {
        struct tree_btt_entry e;
        tree_look_entry(&r->table, way->block, &e);
        if (e.kind != TREE_BTT_NODE || e.units == 0) {
            return -ENOENT;
        }
        struct tree_look_at at = tree_look_at_entry(&r->table, way->block, &e);
        int rc = node_try(r, &at, way, ret);
        *ret_older = false;
        if (rc == 0 || rc == -ENOMEM) {
            return rc;
        }
    }
    return node_find_seen(r, way, ret, ret_older);
}

/* ---- the copy ---- */

static int part_sound(struct rebuild *r, const struct tree_look_node *n, uint32_t i)
{
    const struct tree_node_header *h = &n->header;
    const struct tree_partition *p = &h->partition[i];
    CLEANUP(mem_freep) uint8_t *raw = NULL;
    struct tree_block b;
    struct tree_ranges ranges;
    struct tree_filter filter;
    int rc = tree_look_part(&r->look, n, i, &raw);
    if (rc < 0) {
        return rc;
    }
    switch (p->kind) {
    case TREE_PARTITION_RANGES:
        return tree_pivots_open_ranges(&n->pivots, h, i, raw, &ranges);
    case TREE_PARTITION_FILTER:
        return tree_filter_open(raw, p->raw_len, tree_node_seed(h, p->extent), &filter);
    default:
        return tree_pivots_open_block(&n->pivots, h, i, raw, &b);
    }
}

static void part_tell(struct rebuild *r, const struct tree_look_node *n, uint32_t i, int rc)
{
    const struct tree_partition *p = &n->header.partition[i];
    bool filter = p->kind == TREE_PARTITION_FILTER;
    struct tree_pivots_bounds bounds;
    struct err e = {0};
    struct tree_finding f =
        tree_rebuild_finding(filter ? TREE_FINDING_NOTE : TREE_FINDING_DAMAGE, "partition");
    err_set(&e, rc, "lost: %s of slot %u, run %u", tree_look_kind(p->kind), p->slot, p->run);
    tree_look_bounds(n, i, &bounds);
    f.block = n->header.block;
    f.partition = i;
    f.offset = tree_look_part_offset(n, i);
    f.text = e.text;
    f.ranged = true;
    f.low = bounds.low;
    f.high = bounds.high;
    f.records = filter ? 0 : p->entries;
    tree_rebuild_tell(r, &f);
}

/* With its older extents, which get entries of their own. */
static int node_copy(struct rebuild *r, const struct tree_look_node *n, uint64_t sum)
{
    const struct tree_node_header *h = &n->header;
    struct tree_btt_entry e = {
        .kind = TREE_BTT_NODE,
        .level = h->level,
        .segment_count = h->extent_count,
        .units = (uint16_t)(h->total_len / TREE_UNIT),
        .header_len = (uint32_t)base_align_up(
            h->pivots.offset + h->pivots.packed_len + h->filter.len, TREE_BTT_HEADER_UNIT),
        .unit = n->offset / TREE_UNIT,
        .checksum = sum,
        .birth = h->birth,
        .link = h->extent_count > 0 ? r->next_block : 0};
    int rc = tree_rebuild_copy(r, n->offset, h->total_len);
    rc = rc < 0 ? rc : tree_rebuild_entry(r, h->block, &e);
    for (unsigned i = 0; i < h->extent_count && rc == 0; i++) {
        const struct tree_extent *x = &h->extent[i];
        struct tree_btt_entry old = {.kind = TREE_BTT_SEGMENT,
                                     .level = h->level,
                                     .units = (uint16_t)(x->len / TREE_UNIT),
                                     .unit = x->offset / TREE_UNIT,
                                     .birth = x->birth,
                                     .link = i + 1u < h->extent_count ? r->next_block + 1 : 0};
        rc = tree_rebuild_copy(r, x->offset, x->len);
        rc = rc < 0 ? rc : tree_rebuild_entry(r, r->next_block, &old);
    }
    return rc;
}

/* The checksum of its header stands at its end. */
static int node_sum(struct rebuild *r, const struct tree_look_node *n, uint64_t *ret)
{
    uint8_t bytes[8];
    int rc = tree_look_read(&r->look, n->offset + n->header.header_len - 8, bytes, sizeof bytes);
    if (rc == 0) {
        *ret = wire_load_u64(bytes);
    }
    return rc;
}

/* It is a number, and of no other node. */
static bool child_valid(const struct rebuild *r, const struct tree_look_node *n, uint16_t slot)
{
    uint64_t block = tree_pivots_child(&n->pivots, slot);
    bool valid = block != 0 && block <= TREE_BTT_BLOCK_MAX && block != n->header.block &&
                 !tree_rebuild_has(r, block);
    for (uint16_t i = 0; i < slot && valid; i++) {
        valid = tree_pivots_child(&n->pivots, i) != block;
    }
    return valid;
}

/* Others, under which nothing will be found, for those that cannot be. */
static int node_children(struct rebuild *r, struct rebuild_frame *f)
{
    const struct tree_node_header *h = &f->node.header;
    bool good = true;
    for (uint32_t i = 0; h->level > 0 && i < h->slots; i++) {
        good = good && child_valid(r, &f->node, (uint16_t)i);
    }
    f->child = good ? NULL : mem_calloc(h->slots, sizeof *f->child);
    for (uint32_t i = 0; f->child != NULL && i < h->slots; i++) {
        f->child[i] = child_valid(r, &f->node, (uint16_t)i)
                          ? tree_pivots_child(&f->node.pivots, (uint16_t)i)
                          : r->next_block++;
    }
    return good || f->child != NULL ? 0 : -ENOMEM;
}

static int node_keep(struct rebuild *r, struct rebuild_frame *f)
{
    const struct tree_look_node *n = &f->node;
    const struct tree_node_header *h = &n->header;
    CLEANUP(mem_freep) bool *bad = mem_calloc(h->partition_count + 1u, sizeof *bad);
    if (bad == NULL || node_children(r, f) < 0) {
        return -ENOMEM;
    }
    bool any = n->filter_rc < 0 || f->child != NULL;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < h->partition_count; i++) {
        int rc = part_sound(r, n, i);
        if (rc == -ENOMEM) {
            return rc;
        }
        bad[i] = rc < 0;
        any = any || bad[i];
        if (bad[i]) {
            part_tell(r, n, i, rc);
        }
    }
    int rc = any ? tree_rebuild_mend(r, f, bad) : node_sum(r, n, &sum);
    if (rc == 0 && !any) {
        rc = node_copy(r, n, sum);
    }
    if (rc == 0) {
        r->msn_max = base_max(r->msn_max, h->msn_max);
        r->result->mended += any ? 1 : 0;
        r->result->copied += any ? 0 : 1;
    }
    return rc;
}

static void node_tell_older(struct rebuild *r, const struct tree_look_node *n)
{
    struct err e = {0};
    struct tree_finding f = tree_rebuild_finding(TREE_FINDING_DAMAGE, "older");
    tree_finding_text(e.text,
                      "the leaf as it was at checkpoint %" PRIu64 ": changes since are lost",
                      n->header.birth);
    f.block = n->header.block;
    f.offset = n->offset;
    f.text = e.text;
    f.ranged = true;
    f.low = n->pivots.low;
    f.high = n->pivots.high;
    f.records = n->header.entries;
    tree_rebuild_tell(r, &f);
    r->result->older++;
}

/* ---- the way down ---- */

void tree_rebuild_frame_fini(struct rebuild_frame *f)
{
    tree_look_node_fini(&f->node);
    mem_freep(&f->child);
}

static int node_enter(struct rebuild *r, const struct rebuild_way *way)
{
    struct rebuild_frame *f = &r->frame[r->depth];
    bool older = false;
    bool valid = way->block != 0 && way->block <= TREE_BTT_BLOCK_MAX;
    if (!valid || tree_rebuild_has(r, way->block) || r->depth + 1 >= REBUILD_DEPTH_MAX) {
        return -ERR_corrupt; /* the node above is not to be believed */
    }
    int rc = tree_rebuild_find(r, way, &f->node, &older);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : tree_rebuild_lose(r, way);
    }
    rc = node_keep(r, f);
    if (rc == 0 && older) {
        node_tell_older(r, &f->node);
    }
    if (rc == 0 && way->level > 0) {
        f->next = 0;
        r->depth++;
        return 0;
    }
    tree_rebuild_frame_fini(f);
    bool damage = rc == -E2BIG || (rc < 0 && err_is(rc, ERR_corrupt));
    return damage ? tree_rebuild_lose(r, way) : rc;
}

int tree_rebuild_node(struct rebuild *r, const struct rebuild_way *way)
{
    unsigned top = r->depth;
    int rc = node_enter(r, way);
    while (r->depth > top && rc == 0) {
        struct rebuild_frame *f = &r->frame[r->depth - 1];
        if (f->next == f->node.header.slots) {
            tree_rebuild_frame_fini(f);
            r->depth--;
            continue;
        }
        uint16_t slot = (uint16_t)f->next++;
        struct tree_pivots_bounds bounds;
        tree_pivots_bounds(&f->node.pivots, slot, &bounds);
        uint64_t own = tree_pivots_child(&f->node.pivots, slot);
        struct rebuild_way child = {.block = f->child != NULL ? f->child[slot] : own,
                                    .level = (uint8_t)(way->level - (r->depth - top)),
                                    .low = bounds.low,
                                    .high = bounds.high};
        rc = node_enter(r, &child);
    }
    return rc;
}
