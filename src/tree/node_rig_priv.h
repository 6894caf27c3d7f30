/* tree/node_rig_priv.h -- for tests: whole nodes as bytes. */
#pragma once

#include "base/mem.h"
#include "tree/block.h"
#include "tree/filter.h"
#include "tree/node.h"
#include "tree/pivots.h"
#include "tree/ranges.h"

#include <string.h>

#define RIG_PARTS_MAX 16u
#define RIG_EXTENT_OFFSET (1u << 20) /* of the older extent, in a file that is not there */

struct rig_node {
    struct tree_node_header header;
    struct tree_partition partition[RIG_PARTS_MAX];
    struct tree_extent extent[1];
    uint8_t older[TREE_UNIT];                                       /* the older extent */
    uint8_t bytes[4 * TREE_UNIT];                                   /* the node's own */
    uint8_t packed[RIG_PARTS_MAX][1024], pivots[1024], filter[256]; /* before they are put there */
    struct tree_codec codec;
    enum tree_codec_id id;
};

static inline struct kv_slice rig_text(const char *t)
{
    return kv_slice_of(t, strlen(t));
}

/* Packs raw bytes as the next partition of the table. */
static inline struct tree_partition *rig_part(struct rig_node *r, enum tree_partition_kind kind,
                                              uint16_t slot, const uint8_t *raw, size_t len)
{
    struct tree_partition *p = &r->partition[r->header.partition_count];
    uint8_t *out = r->packed[r->header.partition_count++];
    *p = (struct tree_partition){.kind = (uint8_t)kind, .slot = slot, .raw_len = (uint32_t)len};
    CHECK(tree_codec_bound(len) <= sizeof r->packed[0]);
    p->packed_len = (uint32_t)tree_codec_pack(&r->codec, r->id, raw, len, out);
    p->sum = tree_node_sum(&r->header, r->header.birth, out, p->packed_len);
    p->entries = 1;
    return p;
}

/* A block of messages or values with the keys of a text, one for each letter. */
static inline struct tree_partition *rig_block(struct rig_node *r, enum tree_partition_kind kind,
                                               uint16_t slot, const char *letters)
{
    struct tree_block_builder b;
    uint8_t raw[512];
    bool message = kind == TREE_PARTITION_RUN;
    tree_block_builder_init(&b, message ? TREE_BLOCK_MESSAGE : TREE_BLOCK_LEAF);
    for (size_t i = 0; letters[i] != 0; i++) {
        char key[] = {letters[i], '1', 0};
        struct tree_block_entry e = {.key = rig_text(key), .body = rig_text("value")};
        e.type = message ? 1 : 0;
        e.msn = message ? 100 + i : 0;
        CHECK(tree_block_builder_add(&b, &e) == 0);
    }
    CHECK(tree_block_builder_bytes(&b) <= sizeof raw);
    size_t len = tree_block_builder_finish(&b, raw);
    uint32_t count = b.count;
    tree_block_builder_fini(&b);
    struct tree_partition *p = rig_part(r, kind, slot, raw, len);
    p->entries = count;
    return p;
}

static inline void rig_begin(struct rig_node *r, uint8_t level, enum tree_codec_id id)
{
    static const struct tree_codec_options options = {0};
    memset(r, 0, sizeof *r);
    r->id = id;
    r->header = (struct tree_node_header){.block = 7,
                                          .birth = 3,
                                          .version = 900,
                                          .msn_min = 100,
                                          .msn_max = 200,
                                          .codec = (uint8_t)id,
                                          .level = level,
                                          .partition = r->partition,
                                          .extent = r->extent};
    memcpy(r->header.file_id, "a file's own id.", TREE_FILE_ID_BYTES);
    CHECK(tree_codec_init(&r->codec, &options) == 0);
}

static inline void rig_end(struct rig_node *r, const struct tree_pivots_source *s)
{
    struct tree_node_header *n = &r->header;
    uint8_t raw[512];
    size_t len = 0;
    CHECK(tree_pivots_bound(s) <= sizeof raw && tree_pivots_encode(s, raw, &len) == 0);
    n->slots = s->slots;
    n->low_print = tree_fingerprint(s->low);
    n->high_print = tree_fingerprint(s->high);
    n->pivots.raw_len = (uint32_t)len;
    n->pivots.packed_len = (uint32_t)tree_codec_pack(&r->codec, r->id, raw, len, r->pivots);
    n->pivots.sum = tree_node_sum(n, n->birth, r->pivots, n->pivots.packed_len);
    CHECK(tree_node_layout(n) == 0 && n->total_len <= sizeof r->bytes);
    (void)tree_node_encode(n, r->bytes);
    memcpy(r->bytes + n->pivots.offset, r->pivots, n->pivots.packed_len);
    memcpy(r->bytes + n->filter.offset, n->filter.len > 0 ? r->filter : r->bytes, n->filter.len);
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *p = &r->partition[i];
        uint8_t *to = p->extent == 0 ? r->bytes : r->older;
        memcpy(to + p->offset, r->packed[i], p->packed_len);
    }
}

/* Three basements and a filter. */
static inline void rig_leaf(struct rig_node *r, enum tree_codec_id id)
{
    static const struct kv_slice pivot[] = {{"d", 1}, {"m", 1}};
    const uint64_t print[] = {1, 2, 3};
    uint8_t filter[128];
    rig_begin(r, 0, id);
    rig_block(r, TREE_PARTITION_LEAF, 0, "abc");
    rig_block(r, TREE_PARTITION_LEAF, 1, "defghijkl");
    rig_block(r, TREE_PARTITION_LEAF, 2, "m");
    size_t len = tree_filter_build(print, 3, 10, tree_node_seed(&r->header, 0), filter);
    rig_part(r, TREE_PARTITION_FILTER, TREE_SLOT_ALL, filter, len);
    rig_end(r, &(struct tree_pivots_source){.high = rig_text("n"), .pivot = pivot, .slots = 3});
}

/* Three children; the second has an older run in an older extent and a newer one in two
 * partitions, the third nothing. */
static inline void rig_internal(struct rig_node *r, enum tree_codec_id id)
{
    static const struct kv_slice pivot[] = {{"d", 1}, {"m", 1}}, cut[] = {{"h", 1}};
    static const uint64_t child[] = {11, 12, 13};
    const uint64_t print[] = {1, 2, 3};
    const struct tree_ranges_item range = {.low = rig_text("b"), .high = rig_text("f"), .msn = 120};
    uint8_t raw[64];
    rig_begin(r, 1, id);
    r->header.extent_count = 1;
    r->extent[0] = (struct tree_extent){.offset = RIG_EXTENT_OFFSET, .birth = 2, .len = TREE_UNIT};
    rig_block(r, TREE_PARTITION_RUN, 0, "bc");
    struct tree_partition *old = rig_block(r, TREE_PARTITION_RUN, 1, "efg");
    old->extent = 1;
    old->offset = 64;
    old->sum = tree_node_sum(&r->header, 2, r->packed[1], old->packed_len);
    rig_block(r, TREE_PARTITION_RUN, 1, "de")->run = 1;
    struct tree_partition *more = rig_block(r, TREE_PARTITION_RUN, 1, "hijkl");
    more->run = 1;
    more->flags = TREE_PARTITION_MORE;
    size_t len = tree_ranges_encode(&range, 1, raw);
    rig_part(r, TREE_PARTITION_RANGES, TREE_SLOT_ALL, raw, len);
    r->header.filter.kind = TREE_FILTER_BLOOM;
    r->header.filter.len =
        (uint32_t)tree_filter_build(print, 3, 10, tree_node_seed(&r->header, 0), r->filter);
    rig_end(r, &(struct tree_pivots_source){.low = rig_text("a"),
                                            .pivot = pivot,
                                            .child = child,
                                            .cut = cut,
                                            .slots = 3,
                                            .cuts = 1});
}

static inline void rig_fini(struct rig_node *r)
{
    tree_codec_fini(&r->codec);
}
