/* tree/node_fix_rig_priv.h -- for fuzz targets: makes every checksum of a node right. */
#pragma once

#include "tree/filter.h"
#include "tree/node.h"
#include "wire/wire.h"

/* The table says how long the header is. */
static inline void fix_rig_header_len(uint8_t *bytes, size_t size)
{
    size_t len = TREE_NODE_FIXED_BYTES + wire_load_u16(bytes + 74) * TREE_NODE_PARTITION_BYTES +
                 bytes[76] * TREE_NODE_EXTENT_BYTES + 8u;
    if (len <= size) {
        wire_store_u32(bytes + 8, (uint32_t)len);
    }
}

static inline void fix_rig_sum(uint8_t *at, const struct tree_node_probe *p, uint64_t birth,
                               struct kv_slice packed)
{
    wire_store_u64(at, tree_sum(tree_seed(p->file_id, p->block, birth), packed.at, packed.len));
}

/* The offset and length at `at` are those of a part between `start` and `end`. */
static inline bool fix_rig_inside(const uint8_t *bytes, size_t at, uint64_t start, uint64_t end,
                                  struct kv_slice *ret)
{
    uint64_t offset = start + wire_load_u32(bytes + at), len = wire_load_u32(bytes + at + 4);
    if (offset + len > end) {
        return false;
    }
    *ret = kv_slice_of(bytes + offset, (size_t)len);
    return true;
}

/* From the leaves of the tree of checksums up to the header's own. */
static inline void fix_rig_sums(uint8_t *bytes, size_t size, const struct tree_node_probe *p,
                                size_t own_len)
{
    struct kv_slice part;
    uint32_t count = wire_load_u16(bytes + 74);
    const uint8_t *extents =
        bytes + TREE_NODE_FIXED_BYTES + (size_t)count * TREE_NODE_PARTITION_BYTES;
    if (fix_rig_inside(bytes, 80, 0, own_len, &part)) {
        fix_rig_sum(bytes + 96, p, p->birth, part);
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t at = TREE_NODE_FIXED_BYTES + i * TREE_NODE_PARTITION_BYTES;
        unsigned extent = bytes[at + 3];
        uint64_t start = extent == 0 ? 0 : own_len, end = extent == 0 ? own_len : size;
        if (extent <= bytes[76] && fix_rig_inside(bytes, at + 8, start, end, &part)) {
            uint64_t birth = p->birth;
            if (extent > 0) {
                birth = wire_load_u64(extents + (extent - (size_t)1) * TREE_NODE_EXTENT_BYTES + 8);
            }
            fix_rig_sum(bytes + at + 24, p, birth, part);
        }
    }
    if (fix_rig_inside(bytes, 104, 0, own_len, &part) && part.len > TREE_FILTER_HEADER_BYTES &&
        wire_load_u32(bytes + 104) >= p->header_len) {
        tree_filter_seal(bytes + wire_load_u32(bytes + 104), part.len,
                         tree_seed(p->file_id, p->block, p->birth));
    }
    fix_rig_sum(bytes + p->header_len - 8, p, p->birth, kv_slice_of(bytes, p->header_len - 8));
}
