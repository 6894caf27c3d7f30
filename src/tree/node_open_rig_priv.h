/* tree/node_open_rig_priv.h -- for tests and fuzz targets: opens everything there is in a node. */
#pragma once

#include "base/mem.h"
#include "tree/block.h"
#include "tree/filter.h"
#include "tree/node.h"
#include "tree/pivots.h"
#include "tree/ranges.h"

static inline int open_rig_raw(const struct tree_node_header *n, const struct tree_partition *p,
                               const uint8_t *raw)
{
    struct tree_block b;
    struct tree_ranges ranges;
    struct tree_filter filter;
    int rc = 0;
    switch (p->kind) {
    case TREE_PARTITION_LEAF:
    case TREE_PARTITION_RUN:
        rc = tree_block_open(raw, p->raw_len,
                             p->kind == TREE_PARTITION_LEAF ? TREE_BLOCK_LEAF : TREE_BLOCK_MESSAGE,
                             &b);
        return rc < 0 || b.count == p->entries ? rc : -ERR_bad_value;
    case TREE_PARTITION_RANGES:
        rc = tree_ranges_open(raw, p->raw_len, &ranges);
        return rc < 0 || ranges.count == p->entries ? rc : -ERR_bad_value;
    default:
        return tree_filter_open(raw, p->raw_len, tree_node_seed(n), &filter);
    }
}

/* Memory exactly as long as what is unpacked, so that a sanitizer sees an overrun. */
static inline int open_rig_part(const struct tree_node_header *n, uint32_t i, const uint8_t *packed,
                                struct tree_codec *c)
{
    uint8_t *raw = mem_alloc(n->partition[i].raw_len);
    CHECK(raw != NULL);
    int rc = tree_node_unpack(n, i, packed, c, raw);
    rc = rc < 0 ? rc : open_rig_raw(n, &n->partition[i], raw);
    mem_free(raw);
    return rc;
}

static inline int open_rig_pivots(const struct tree_node_header *n, const uint8_t *packed,
                                  struct tree_codec *c)
{
    struct tree_pivots pivots;
    uint8_t *raw = mem_alloc(n->pivots.raw_len);
    CHECK(raw != NULL);
    int rc = tree_node_unpack_pivots(n, packed, c, raw);
    rc = rc < 0 ? rc : tree_pivots_open(raw, n->pivots.raw_len, n, &pivots);
    mem_free(raw);
    return rc;
}

/* Opens pivots, filter and every partition of a decoded header, whose own extent and older one
 * these are. */
static inline int open_rig(const struct tree_node_header *n, struct tree_codec *c,
                           struct kv_slice own, struct kv_slice older)
{
    struct tree_filter filter;
    const uint8_t *at = own.at, *old = older.at;
    int rc = own.len < n->total_len ? -ERR_short_msg : 0;
    if (rc == 0) {
        rc = open_rig_pivots(n, at + n->pivots.offset, c);
    }
    if (rc == 0 && n->filter.kind != TREE_FILTER_NONE) {
        rc = tree_filter_open(at + n->filter.offset, n->filter.len, tree_node_seed(n), &filter);
    }
    for (uint32_t i = 0; i < n->partition_count && rc == 0; i++) {
        const struct tree_partition *p = &n->partition[i];
        struct kv_slice from = p->extent == 0 ? own : older;
        bool inside = p->offset <= from.len && p->packed_len <= from.len - p->offset;
        rc = inside ? open_rig_part(n, i, (p->extent == 0 ? at : old) + p->offset, c)
                    : -ERR_short_msg;
    }
    return rc;
}
