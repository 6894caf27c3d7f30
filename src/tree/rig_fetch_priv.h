/* tree/rig_fetch_priv.h -- for tests (which include testing/testing.h before it): nodes as bytes,
 * with contents that are known. */
#pragma once

#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "tree/fetch.h"

#include <stdio.h>
#include <string.h>

#define MADE_PARTS_MAX 40u
#define MADE_BYTES_MAX (2u << 20)
#define MADE_SLACK 4096u /* a block may be estimated longer than it is */
#define MADE_BASE_MSN 100u

/* A leaf: `slots` basements and a filter. An internal node: a run for each child, deleted ranges of
 * the first, a filter in the head. */
struct made_spec {
    uint64_t block;
    uint8_t level;
    uint16_t slots;
    uint32_t keys;      /* of a slot */
    uint32_t value_len; /* bytes that do not shrink */
    enum tree_codec_id codec;
    bool lies;                            /* of how many entries there are in slot 1 */
    const struct tree_node_header *older; /* its partition 0 is used again; NULL: none */
    uint64_t older_at;                    /* where that is in the file */
};

struct made {
    struct tree_node_header header;
    struct tree_partition partition[MADE_PARTS_MAX];
    struct tree_extent extent[1];
    uint8_t *bytes; /* owned, aligned */
    uint64_t sum;
    uint32_t head_len; /* header, pivots, filter */
};

static inline size_t made_filter(uint64_t seed, uint8_t *out)
{
    const uint64_t print[] = {1, 2, 3};
    return tree_filter_build(print, ARRAY_COUNT(print), 10, seed, out);
}

/* The unpacked bytes of slot `slot`. */
static inline size_t made_block(const struct made_spec *s, uint32_t slot, uint8_t *out)
{
    struct tree_block_builder b;
    struct rand rand;
    CLEANUP(mem_freep) uint8_t *value = mem_alloc(s->value_len + 1);
    CHECK(value != NULL);
    tree_block_builder_init(&b, s->level == 0 ? TREE_BLOCK_LEAF : TREE_BLOCK_MESSAGE);
    for (uint32_t i = 0; i < s->keys; i++) {
        char key[32];
        int len = snprintf(key, sizeof key, "%05u.%05u", slot, i);
        rand_seed(&rand, s->block * 1000003 + slot * UINT64_C(1009) + i);
        rand_bytes(&rand, value, s->value_len);
        struct tree_block_entry e = {.key = kv_slice_of(key, (size_t)len),
                                     .body = kv_slice_of(value, s->value_len)};
        e.type = s->level == 0 ? 0 : 1;
        e.msn = s->level == 0 ? 0 : MADE_BASE_MSN + i;
        CHECK(tree_block_builder_add(&b, &e) == 0);
    }
    CHECK(tree_block_builder_bytes(&b) <= MADE_BYTES_MAX);
    size_t len = tree_block_builder_finish(&b, out);
    tree_block_builder_fini(&b);
    return len;
}

static inline size_t made_ranges(uint8_t *out)
{
    const struct tree_ranges_item range = {
        .low = kv_slice_of("00000.1", 7), .high = kv_slice_of("00000.2", 7), .msn = 120};
    return tree_ranges_encode(&range, 1, out);
}

/* The unpacked bytes of partition i. */
static inline size_t made_raw(const struct made_spec *s, const struct tree_node_header *n,
                              uint32_t i, uint8_t *out)
{
    if (i < s->slots) {
        return made_block(s, i, out);
    }
    return s->level > 0 ? made_ranges(out) : made_filter(tree_node_seed(n, 0), out);
}

static inline uint8_t *made_pivots(const struct made_spec *s, size_t *ret_len)
{
    char text[MADE_PARTS_MAX][8];
    struct kv_slice pivot[MADE_PARTS_MAX];
    uint64_t child[MADE_PARTS_MAX];
    for (uint32_t i = 0; i < s->slots; i++) {
        (void)snprintf(text[i], sizeof text[i], "%05u", i + 1);
        pivot[i] = kv_slice_of(text[i], 5);
        child[i] = 1000 + i;
    }
    struct tree_pivots_source from = {
        .pivot = pivot, .child = s->level == 0 ? NULL : child, .slots = s->slots};
    uint8_t *raw = mem_alloc(tree_pivots_bound(&from));
    CHECK(raw != NULL && tree_pivots_encode(&from, raw, ret_len) == 0);
    return raw;
}

/* Packs everything behind each other: pivots, filter, parts; `at` has room. */
static inline uint8_t *made_pack(struct made *m, const struct made_spec *s, struct tree_codec *c,
                                 uint8_t *raw, uint8_t *at)
{
    struct tree_node_header *n = &m->header;
    size_t len = 0;
    CLEANUP(mem_freep) uint8_t *pivots = made_pivots(s, &len);
    n->pivots.raw_len = (uint32_t)len;
    n->pivots.packed_len = (uint32_t)tree_codec_pack(c, s->codec, pivots, len, at);
    n->pivots.sum = tree_node_sum(n, n->birth, at, n->pivots.packed_len);
    at += n->pivots.packed_len;
    if (s->level > 0) {
        n->filter.kind = TREE_FILTER_BLOOM;
        n->filter.len = (uint32_t)made_filter(tree_node_seed(n, 0), at);
        at += n->filter.len;
    }
    for (uint32_t i = 0; i <= s->slots; i++) {
        struct tree_partition *p = &m->partition[i];
        bool block = i < s->slots;
        *p = (struct tree_partition){.kind =
                                         s->level == 0 ? TREE_PARTITION_LEAF : TREE_PARTITION_RUN,
                                     .slot = (uint16_t)i,
                                     .entries = (block ? s->keys : 1) + (s->lies && i == 1 ? 1 : 0),
                                     .raw_len = (uint32_t)made_raw(s, n, i, raw)};
        if (!block) {
            p->kind = s->level > 0 ? TREE_PARTITION_RANGES : TREE_PARTITION_FILTER;
            p->slot = s->level > 0 ? 0 : TREE_SLOT_ALL;
        }
        if (i == 0 && s->older != NULL) {
            *p = s->older->partition[0];
            p->extent = 1;
            continue;
        }
        p->packed_len = (uint32_t)tree_codec_pack(c, s->codec, raw, p->raw_len, at);
        p->sum = tree_node_sum(n, n->birth, at, p->packed_len);
        at += p->packed_len;
    }
    return at;
}

static inline void made_node(struct made *m, const struct made_spec *s, const uint8_t *file_id,
                             uint64_t birth)
{
    static const struct tree_codec_options options = {0};
    struct tree_codec codec;
    CLEANUP(mem_freep) uint8_t *raw = mem_alloc(MADE_BYTES_MAX), *body = mem_alloc(MADE_BYTES_MAX);
    CHECK(raw != NULL && body != NULL && tree_codec_init(&codec, &options) == 0);
    *m = (struct made){0};
    m->header = (struct tree_node_header){.block = s->block,
                                          .birth = birth,
                                          .msn_min = MADE_BASE_MSN,
                                          .msn_max = MADE_BASE_MSN + s->keys,
                                          .low_print = tree_fingerprint(kv_slice_of("", 0)),
                                          .high_print = tree_fingerprint(kv_slice_of("", 0)),
                                          .slots = s->slots,
                                          .partition_count = (uint16_t)(s->slots + 1),
                                          .level = s->level,
                                          .codec = (uint8_t)s->codec,
                                          .partition = m->partition,
                                          .extent = m->extent};
    memcpy(m->header.file_id, file_id, TREE_FILE_ID_BYTES);
    if (s->older != NULL) {
        m->header.extent_count = 1;
        m->extent[0] = (struct tree_extent){
            .offset = s->older_at, .birth = s->older->birth, .len = s->older->total_len};
    }
    uint8_t *end = made_pack(m, s, &codec, raw, body);
    CHECK(tree_node_layout(&m->header) == 0);
    m->bytes = mem_aligned(TREE_UNIT, m->header.total_len);
    CHECK(m->bytes != NULL);
    memset(m->bytes, 0, m->header.total_len);
    m->sum = tree_node_encode(&m->header, m->bytes);
    memcpy(m->bytes + m->header.header_len, body, (size_t)(end - body));
    m->head_len = m->header.header_len + m->header.pivots.packed_len + m->header.filter.len;
    tree_codec_fini(&codec);
}

/* Is it what was made? */
static inline void made_check(const struct made_spec *s, const struct made *m, uint32_t i,
                              const struct tree_part *p)
{
    CLEANUP(mem_freep) uint8_t *raw = mem_alloc(p->raw_len + MADE_SLACK);
    CHECK(raw != NULL && p->raw_len == m->partition[i].raw_len);
    CHECK_EQ(made_raw(s, &m->header, i, raw), p->raw_len);
    CHECK_BYTES(p->bytes, raw, p->raw_len);
}
