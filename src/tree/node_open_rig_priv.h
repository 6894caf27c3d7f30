/* tree/node_open_rig_priv.h -- for tests and fuzz targets: opens everything there is in a node. */
#pragma once

#include "base/mem.h"
#include "tree/filter.h"
#include "tree/node.h"
#include "tree/pivots.h"

static inline int open_rig_raw(const struct tree_node_header *n, uint32_t i,
                               const struct tree_pivots *pivots, const uint8_t *raw)
{
    const struct tree_partition *p = &n->partition[i];
    struct tree_block b;
    struct tree_ranges ranges;
    struct tree_filter filter;
    switch (p->kind) {
    case TREE_PARTITION_LEAF:
    case TREE_PARTITION_RUN:
        return tree_pivots_open_block(pivots, n, i, raw, &b);
    case TREE_PARTITION_RANGES:
        return tree_pivots_open_ranges(pivots, n, i, raw, &ranges);
    default:
        return tree_filter_open(raw, p->raw_len, tree_node_seed(n, p->extent), &filter);
    }
}

/* Memory exactly as long as what is unpacked, so that a sanitizer sees an overrun. */
static inline int open_rig_part(const struct tree_node_header *n, uint32_t i,
                                const struct tree_pivots *pivots, const uint8_t *packed,
                                struct tree_codec *c)
{
    uint8_t *raw = mem_alloc(n->partition[i].raw_len);
    CHECK(raw != NULL);
    int rc = tree_node_unpack(n, i, packed, c, raw);
    rc = rc < 0 ? rc : open_rig_raw(n, i, pivots, raw);
    mem_free(raw);
    return rc;
}

/* What lies in the node's own extent and in an older one. */
struct open_rig_bytes {
    struct kv_slice own, older;
};

static inline int open_rig_parts(const struct tree_node_header *n, struct tree_codec *c,
                                 const struct tree_pivots *pivots, struct open_rig_bytes bytes)
{
    int rc = 0;
    for (uint32_t i = 0; i < n->partition_count && rc == 0; i++) {
        const struct tree_partition *p = &n->partition[i];
        struct kv_slice from = p->extent == 0 ? bytes.own : bytes.older;
        const uint8_t *at = from.at;
        bool inside = p->offset <= from.len && p->packed_len <= from.len - p->offset;
        rc = inside ? open_rig_part(n, i, pivots, at + p->offset, c) : -ERR_short_msg;
    }
    return rc;
}

/* Opens pivots, filter and every partition of a decoded header. */
static inline int open_rig(const struct tree_node_header *n, struct tree_codec *c,
                           struct open_rig_bytes bytes)
{
    struct tree_pivots pivots;
    struct tree_filter filter;
    const uint8_t *at = bytes.own.at;
    if (bytes.own.len < n->total_len) {
        return -ERR_short_msg;
    }
    uint8_t *raw = mem_alloc(n->pivots.raw_len);
    CHECK(raw != NULL);
    int rc = tree_node_unpack_pivots(n, at + n->pivots.offset, c, raw);
    rc = rc < 0 ? rc : tree_pivots_open(raw, n->pivots.raw_len, n, &pivots);
    if (rc == 0 && n->filter.kind != TREE_FILTER_NONE) {
        rc = tree_filter_open(at + n->filter.offset, n->filter.len, tree_node_seed(n, 0), &filter);
    }
    rc = rc < 0 ? rc : open_rig_parts(n, c, &pivots, bytes);
    mem_free(raw);
    return rc;
}
