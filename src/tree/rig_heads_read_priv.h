/* tree/rig_heads_read_priv.h -- for tests only: nodes of rig_heads_priv.h, read back from the file
 * and compared with what they ought to be. */
#pragma once

#include "tree/rig_heads_priv.h"

static inline void rig_read(struct rig_write *r, uint64_t offset, uint8_t *out, size_t len)
{
    CHECK(tree_file_read_now(r->file, offset, out, len) == 0);
}

/* The head of a block, with absent parts. */
static inline int rig_head_read(struct rig_write *r, uint64_t block, struct tree_codec *codec,
                                struct tree_head **ret)
{
    struct tree_file_place at;
    CHECK_OK(tree_file_find(r->file, block, &at));
    size_t size = (size_t)base_align_up(at.header_len, TREE_UNIT);
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(TREE_UNIT, size);
    CHECK(bytes != NULL);
    rig_read(r, tree_space_offset(at.extent), bytes, size);
    struct tree_node_expect x = {
        .file_id = r->shape.file_id, .block = block, .birth = at.birth, .sum = at.checksum};
    struct tree_head_read in = {.cache = r->cache,
                                .bytes = bytes,
                                .len = at.header_len,
                                .expect = &x,
                                .extent_offset = tree_space_offset(at.extent),
                                .codec = codec};
    return tree_head_decode(&in, ret, &r->err);
}

/* Are all parts what they ought to be, where the head says they are? */
static inline void rig_check_part(struct rig_write *r, const struct tree_head *h, uint32_t i,
                                  const struct rig_head_raw *raw, struct tree_codec *codec)
{
    const struct tree_part_place *at = &h->part[i]->place;
    uint8_t got[RIG_PART_BYTES];
    struct tree_block block;
    struct tree_ranges ranges;
    struct tree_filter filter;
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(TREE_UNIT, at->extent_len);
    CHECK(bytes != NULL);
    rig_read(r, at->extent, bytes, at->extent_len);
    CHECK_EQ(at->block, h->header.block);
    CHECK_EQ(h->part[i]->raw_len, raw->len[i]);
    CHECK_OK(tree_node_unpack(&h->header, i, bytes + at->offset, codec, got));
    switch (h->part[i]->kind) {
    case TREE_PARTITION_FILTER: /* but for its checksum */
        CHECK_OK(tree_filter_open(
            got, raw->len[i], tree_node_seed(&h->header, h->header.partition[i].extent), &filter));
        CHECK_BYTES(got, raw->bytes[i], TREE_FILTER_HEADER_BYTES - 8);
        CHECK_BYTES(got + TREE_FILTER_HEADER_BYTES, raw->bytes[i] + TREE_FILTER_HEADER_BYTES,
                    raw->len[i] - TREE_FILTER_HEADER_BYTES);
        return;
    case TREE_PARTITION_RANGES:
        CHECK_OK(tree_pivots_open_ranges(&h->pivots, &h->header, i, got, &ranges));
        break;
    default:
        CHECK_OK(tree_pivots_open_block(&h->pivots, &h->header, i, got, &block));
    }
    CHECK_BYTES(got, raw->bytes[i], raw->len[i]);
}

/* Nothing that was in memory by chance goes to disk. */
static inline void rig_check_end(struct rig_write *r, const struct tree_head *h, uint64_t block)
{
    struct tree_file_place at;
    CHECK_OK(tree_file_find(r->file, block, &at));
    uint32_t len = h->header.total_len, used = tree_node_used(&h->header);
    CLEANUP(mem_freep) uint8_t *bytes = mem_aligned(TREE_UNIT, len);
    CHECK(bytes != NULL);
    rig_read(r, tree_space_offset(at.extent), bytes, len);
    CHECK_TRUE(tree_space_bytes(at.extent) == len && tree_is_zero(bytes + used, len - used));
}

/* The same of the whole node; extents that the header uses are in the table. */
static inline void rig_check_node(struct rig_write *r, uint64_t block,
                                  const struct rig_head_raw *raw)
{
    struct tree_codec codec;
    struct tree_head *h = NULL;
    struct tree_space_extent older[TREE_BTT_SEGMENTS_MAX];
    CHECK_OK(tree_codec_init(&codec, NULL));
    CHECK_OK(rig_head_read(r, block, &codec, &h));
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        rig_check_part(r, h, i, raw, &codec);
    }
    rig_check_end(r, h, block);
    CHECK_EQ(h->filter_len, raw->filter_len);
    if (h->filter_len > 0) {
        CHECK_BYTES(h->filter_bytes + TREE_FILTER_HEADER_BYTES,
                    raw->filter + TREE_FILTER_HEADER_BYTES,
                    raw->filter_len - TREE_FILTER_HEADER_BYTES);
    }
    size_t count = tree_file_older(r->file, block, older, ARRAY_COUNT(older));
    for (uint32_t i = 0; i < h->header.extent_count; i++) {
        size_t n = 0;
        while (n < count && tree_space_offset(older[n]) != h->header.extent[i].offset) {
            n++;
        }
        CHECK_TRUE(n < count && tree_space_bytes(older[n]) == h->header.extent[i].len);
    }
    tree_head_unref(h);
    tree_codec_fini(&codec);
}
