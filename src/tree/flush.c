/*
 * tree/flush.c -- see flush.h.
 */
#include "tree/flush.h"

#include <string.h>

#include "tree/flush_priv.h"

#define HEAVY_ENTRY_BYTES 32u   /* an entry of a run counts as so many more: deletes are short */
#define HEAVY_RANGE_BYTES 4096u /* and a deleted range: it may free much */

#define COST_KEY_BYTES 64u        /* of a record, about */
#define COST_PARTITION_BYTES 128u /* in a header, with its key */

/* ---- running ---- */

static void flush_drop(struct tree_flush *f)
{
    for (size_t i = 0; i < f->out_count; i++) {
        tree_head_unref(f->out[i].head);
    }
    f->out_count = 0;
    f->spare_used = 0;
    f->gone_count = 0;
    f->dropped_count = 0;
}

/* What it says of the messages. */
static void flush_report(const struct flush_job *j)
{
    struct tree_flush *f = j->f;
    f->all = !j->stopped;
    f->drained_len = j->stopped ? j->end.len : 0;
    if (j->stopped) {
        memcpy(f->drained_to, j->end.at, j->end.len);
    }
    f->taken_bytes = j->taken_bytes;
    f->taken_count = j->taken_count;
    f->moved_bytes = j->moved_bytes;
}

static int flush_children(struct flush_job *j, bool *ret_splits)
{
    const struct tree_flush *f = j->f;
    *ret_splits = false;
    if (f->child_count == 0 || f->child[0].head->header.level == 0) {
        return tree_flush_leaves(j, ret_splits);
    }
    return tree_flush_inner(j);
}

int tree_flush_run(struct tree_flush *f)
{
    struct flush_job *j = mem_alloc(sizeof *j);
    bool splits = false;
    if (j == NULL) {
        return -ENOMEM;
    }
    flush_drop(f);
    int rc = tree_flush_job_init(j, f, false);
    rc = rc == 0 ? flush_children(j, &splits) : rc;
    rc = rc == 0 ? tree_flush_path(j, splits) : rc;
    if (rc == 0) {
        flush_report(j);
    } else {
        flush_drop(f);
    }
    tree_flush_job_fini(j);
    mem_free(j);
    return rc;
}

void tree_flush_fini(struct tree_flush *f)
{
    struct flush_inside *inside = f->inside;
    flush_drop(f);
    for (size_t i = 0; inside != NULL && i < ARRAY_COUNT(inside->kept); i++) {
        mem_free(inside->kept[i]);
    }
    mem_free(inside);
    f->inside = NULL;
}

/* ---- estimating ---- */

/* Bytes that come out on the level of the children. */
static uint64_t cost_content(const struct tree_flush *f)
{
    uint64_t bytes = 0;
    for (unsigned c = 0; c < f->child_count; c++) {
        bytes += tree_head_raw_bytes(f->child[c].head);
        if (f->source_count == 0 && f->depth > 0) {
            bytes += tree_head_slot_bytes(f->path[f->depth - 1].head,
                                          (uint16_t)(f->slot[f->depth - 1] + c));
        }
    }
    if (f->source_count > 0) {
        bytes += f->take_bytes == 0 ? TREE_FLUSH_TAKE_MAX : f->take_bytes;
    }
    return bytes + bytes / 4;
}

uint64_t tree_flush_cost(const struct tree_flush *f)
{
    const struct tree_shape *s = f->shape;
    uint64_t bytes = cost_content(f), heads = 0;
    uint64_t parts = 16 + 2 * bytes / base_min(s->basement_raw, s->part_raw);
    bool leaf = f->child_count == 0 || f->child[0].head->header.level == 0;
    uint64_t nodes = leaf ? 3 + 2 * bytes / s->leaf_raw : 4;
    uint64_t keys = (leaf ? s->leaf_raw : s->internal_raw) / COST_KEY_BYTES;
    for (unsigned i = 0; i < f->depth; i++) {
        heads += f->path[i].head->charged;
    }
    for (unsigned c = 0; c < f->child_count; c++) {
        heads += f->child[c].head->charged;
        parts += f->child[c].head->header.partition_count;
    }
    return bytes + parts * (sizeof(struct tree_part) + COST_PARTITION_BYTES) +
           nodes * (2 * sizeof(struct tree_head) + keys * s->filter_bits / 4) + 3 * heads;
}

/* ---- whom to flush ---- */

bool tree_flush_heaviest(const struct tree_head *h, uint16_t *ret_slot)
{
    const struct tree_node_header *n = &h->header;
    uint64_t heaviest = 0;
    for (uint16_t slot = 0; slot < n->slots && n->level > 0; slot++) {
        uint64_t weight = tree_head_slot_bytes(h, slot);
        uint32_t i = tree_node_find(n, TREE_PARTITION_RUN, slot, 0);
        uint32_t end = tree_node_find(n, TREE_PARTITION_RUN, slot + 1u, 0);
        for (; i < end; i++) {
            weight += HEAVY_ENTRY_BYTES * (uint64_t)n->partition[i].entries;
        }
        i = tree_node_find(n, TREE_PARTITION_RANGES, slot, 0);
        end = tree_node_find(n, TREE_PARTITION_RANGES, slot + 1u, 0);
        for (; i < end; i++) {
            weight += HEAVY_RANGE_BYTES * (uint64_t)n->partition[i].entries;
        }
        if (weight > heaviest) {
            heaviest = weight;
            *ret_slot = slot;
        }
    }
    return heaviest > 0;
}

bool tree_head_is_small(const struct tree_head *h, const struct tree_shape *shape)
{
    if (h->header.level == 0) {
        return tree_head_raw_bytes(h) < shape->leaf_raw / 4;
    }
    return h->header.slots == 1 || 4 * (uint32_t)h->header.slots < shape->fanout;
}
