/*
 * tree/node_test.c -- headers, pivots and partitions of whole nodes: they come back as they were;
 * every flipped bit is noticed; bytes of another place, file or time fit nowhere.
 */
#include "tree/node.h"

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/node_open_rig_priv.h"
#include "tree/node_rig_priv.h"
#include "wire/wire.h"

#include <stdio.h>

static struct tree_node_expect expect_of(const struct rig_node *r)
{
    const struct tree_node_header *n = &r->header;
    return (struct tree_node_expect){.file_id = n->file_id,
                                     .block = n->block,
                                     .birth = n->birth,
                                     .sum = wire_load_u64(r->bytes + n->header_len - 8)};
}

static struct rig_node *rig_of(unsigned level, enum tree_codec_id id)
{
    struct rig_node *r = mem_alloc(sizeof *r);
    CHECK_TRUE(r != NULL);
    (level == 0 ? rig_leaf : rig_internal)(r, id);
    return r;
}

static void rig_free(struct rig_node *r)
{
    rig_fini(r);
    mem_free(r);
}

/* Reads all there is. */
static int read_all(struct rig_node *r, const struct tree_node_expect *x)
{
    struct tree_node_header n;
    int rc = tree_node_decode(r->bytes, sizeof r->bytes, x, &n);
    if (rc == 0) {
        const struct open_rig_bytes bytes = {.own = kv_slice_of(r->bytes, sizeof r->bytes),
                                             .older = kv_slice_of(r->older, sizeof r->older)};
        rc = open_rig(&n, &r->codec, bytes);
        tree_node_fini(&n);
    }
    return rc;
}

static void check_same_header(const struct tree_node_header *a, const struct tree_node_header *b)
{
    struct tree_node_header x = *a, y = *b;
    x.partition = y.partition = NULL;
    x.extent = y.extent = NULL;
    CHECK_EQ(memcmp(&x.file_id, &y.file_id, sizeof x.file_id), 0);
    CHECK_TRUE(x.block == y.block && x.birth == y.birth && x.version == y.version);
    CHECK_TRUE(x.msn_min == y.msn_min && x.msn_max == y.msn_max);
    CHECK_TRUE(x.raw_bytes == y.raw_bytes && x.entries == y.entries);
    CHECK_TRUE(x.low_print == y.low_print && x.high_print == y.high_print);
    CHECK_TRUE(x.header_len == y.header_len && x.total_len == y.total_len);
    CHECK_TRUE(x.pivots.offset == y.pivots.offset && x.pivots.packed_len == y.pivots.packed_len);
    CHECK_TRUE(x.pivots.raw_len == y.pivots.raw_len && x.pivots.sum == y.pivots.sum);
    CHECK_TRUE(x.filter.offset == y.filter.offset && x.filter.len == y.filter.len);
    CHECK_TRUE(x.filter.kind == y.filter.kind && x.slots == y.slots && x.level == y.level);
    CHECK_TRUE(x.codec == y.codec && x.partition_count == y.partition_count);
    CHECK_EQ(x.extent_count, y.extent_count);
    for (uint32_t i = 0; i < x.partition_count; i++) {
        const struct tree_partition *p = &a->partition[i], *q = &b->partition[i];
        CHECK_TRUE(p->kind == q->kind && p->run == q->run && p->flags == q->flags);
        CHECK_TRUE(p->extent == q->extent && p->slot == q->slot && p->offset == q->offset);
        CHECK_TRUE(p->packed_len == q->packed_len && p->raw_len == q->raw_len);
        CHECK_TRUE(p->entries == q->entries && p->sum == q->sum);
    }
    for (uint32_t i = 0; i < x.extent_count; i++) {
        CHECK_EQ(a->extent[i].offset, b->extent[i].offset);
        CHECK_TRUE(a->extent[i].birth == b->extent[i].birth &&
                   a->extent[i].len == b->extent[i].len);
    }
}

TEST(nodes_come_back_with_every_codec)
{
    for (unsigned i = 0; i < 6; i++) {
        struct rig_node *r = rig_of(i % 2, (enum tree_codec_id)(i / 2));
        struct tree_node_expect x = expect_of(r);
        struct tree_node_header n;
        CHECK_OK(tree_node_decode(r->bytes, sizeof r->bytes, &x, &n));
        check_same_header(&n, &r->header);
        tree_node_fini(&n);
        CHECK_OK(read_all(r, &x));
        rig_free(r);
    }
}

/* A random sound header. The parts need not be there. */
static void header_random(struct tree_node_header *n, struct rand *r)
{
    uint32_t left = (uint32_t)rand_below(r, 60);
    n->level = (uint8_t)rand_below(r, 3);
    n->slots = (uint16_t)rand_range(r, 1, 20);
    n->block = rand_below(r, TREE_BLOCK_LIMIT);
    n->birth = rand_u64(r);
    n->msn_max = rand_u64(r);
    n->msn_min = rand_below(r, n->msn_max);
    n->low_print = rand_u64(r);
    n->version = rand_u64(r);
    n->pivots.raw_len = (uint32_t)rand_range(r, 1, 1000);
    n->pivots.packed_len = (uint32_t)rand_range(r, 2, n->pivots.raw_len + 1);
    n->filter.kind = (uint8_t)rand_below(r, 3);
    n->filter.len = n->filter.kind == 0 ? 0 : (uint32_t)rand_range(r, 128, 4000);
    n->extent_count = (uint8_t)rand_below(r, 6);
    for (uint32_t i = 0; i < n->extent_count; i++) {
        n->extent[i] = (struct tree_extent){.offset = TREE_UNIT * rand_range(r, 1, 1u << 20),
                                            .birth = rand_below(r, n->birth),
                                            .len = TREE_UNIT * 4};
    }
    for (uint16_t slot = 0; slot < n->slots && (n->level == 0 || left > 0); slot++) {
        uint8_t runs = n->level == 0 ? 1 : (uint8_t)rand_below(r, 4);
        for (uint8_t run = 0; run<runs; run++, left -= left> 0) {
            struct tree_partition *p = &n->partition[n->partition_count++];
            *p = (struct tree_partition){.kind = n->level == 0 ? 1 : 2, .slot = slot, .run = run};
            p->extent = (uint8_t)rand_below(r, n->extent_count + 1u);
            p->offset = (uint32_t)rand_below(r, TREE_UNIT);
            p->raw_len = (uint32_t)rand_range(r, 1, 5000);
            p->packed_len = (uint32_t)rand_range(r, 2, p->raw_len + 1);
            p->entries = (uint32_t)rand_range(r, 1, 100);
            p->sum = rand_u64(r);
            if (n->level > 0 && rand_chance(r, 1, 3)) {
                n->partition[n->partition_count] = *p;
                n->partition[n->partition_count++].flags = TREE_PARTITION_MORE;
            }
        }
    }
}

/* Cuts are numbered through. */
static void check_cuts(const struct tree_node_header *n)
{
    uint32_t cuts = 0;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        bool more = n->partition[i].flags == TREE_PARTITION_MORE;
        CHECK_EQ(n->partition[i].cut, more ? cuts : 0);
        cuts += more ? 1 : 0;
    }
}

TEST(random_headers_come_back)
{
    struct rand rand;
    rand_seed(&rand, testing_seed());
    uint8_t *bytes = mem_alloc(TREE_NODE_HEADER_MAX);
    CHECK_TRUE(bytes != NULL);
    for (unsigned i = 0; i < 200; i++) {
        struct tree_partition partition[256];
        struct tree_extent extent[8];
        struct tree_node_header n = {.partition = partition, .extent = extent}, got;
        header_random(&n, &rand);
        CHECK_OK(tree_node_layout(&n));
        struct tree_node_expect x = {.file_id = n.file_id, .block = n.block, .birth = n.birth};
        x.sum = tree_node_encode(&n, bytes);
        CHECK_OK(tree_node_decode(bytes, n.header_len, &x, &got));
        check_same_header(&n, &got);
        check_cuts(&got);
        tree_node_fini(&got);
    }
    mem_free(bytes);
}

/* A leaf that lost its last record. */
TEST(an_empty_leaf_comes_back)
{
    uint8_t bytes[TREE_NODE_FIXED_BYTES + 8];
    struct tree_node_header n = {.block = TREE_BLOCK_LIMIT - 1, .pivots.packed_len = 25}, got;
    n.pivots.raw_len = 24;
    CHECK_OK(tree_node_layout(&n));
    struct tree_node_expect x = {.file_id = n.file_id, .block = n.block};
    x.sum = tree_node_encode(&n, bytes);
    CHECK_OK(tree_node_decode(bytes, sizeof bytes, &x, &got));
    check_same_header(&n, &got);
    tree_node_fini(&got);
}

TEST(every_flipped_bit_is_noticed_or_in_the_padding)
{
    for (unsigned i = 0; i < 4; i++) {
        struct rig_node *r = rig_of(i % 2, i < 2 ? TREE_CODEC_LZ4 : TREE_CODEC_NONE);
        struct tree_node_expect x = expect_of(r);
        uint32_t used = tree_node_used(&r->header);
        for (size_t bit = 0; bit < 8 * (size_t)used; bit++) {
            r->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_ERR(read_all(r, &x), ERR_corrupt);
            r->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t at = used; at < r->header.total_len; at++) {
            CHECK_EQ(r->bytes[at], 0);
        }
        const struct tree_partition *p = &r->partition[1]; /* of the older extent, if any */
        for (size_t bit = 0; i % 2 == 1 && bit < 8 * (size_t)p->packed_len; bit++) {
            r->older[p->offset + bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_ERR(read_all(r, &x), ERR_corrupt);
            r->older[p->offset + bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        CHECK_OK(read_all(r, &x));
        rig_free(r);
    }
}

TEST(every_truncation_of_a_header_is_noticed)
{
    struct rig_node *r = rig_of(1, TREE_CODEC_LZ4);
    struct tree_node_expect x = expect_of(r);
    struct tree_node_header n;
    struct tree_node_probe p;
    for (size_t len = 0; len < r->header.header_len; len++) {
        uint8_t *cut = mem_dup(r->bytes, len > 0 ? len : 1);
        CHECK_TRUE(cut != NULL);
        CHECK_RC(tree_node_decode(cut, len, &x, &n), ERR_short_msg);
        CHECK_RC(tree_node_probe(cut, len, &p), ERR_short_msg);
        CHECK_EQ(p.header_len,
                 len < TREE_NODE_FIXED_BYTES ? TREE_NODE_FIXED_BYTES : r->header.header_len);
        mem_free(cut);
    }
    rig_free(r);
}

/* Whole and sound, but of another file, place or time. */
TEST(nodes_that_should_not_be_here_are_refused)
{
    struct rig_node *r = rig_of(0, TREE_CODEC_LZ4);
    struct tree_node_expect x = expect_of(r), y = x;
    y.block++;
    CHECK_RC(read_all(r, &y), ERR_bad_crc);
    y = x;
    y.birth++;
    CHECK_RC(read_all(r, &y), ERR_bad_crc);
    y = x;
    y.file_id = (const uint8_t *)"another file's id";
    CHECK_RC(read_all(r, &y), ERR_bad_crc);
    y = x;
    y.sum++; /* a lost write: the same block and birth with other bytes */
    CHECK_RC(read_all(r, &y), ERR_bad_crc);
    rig_free(r);
}

/* A partition of another node, or of this one at another birth, does not fit. */
TEST(partitions_belong_to_their_node_and_birth)
{
    struct rig_node *r = rig_of(1, TREE_CODEC_NONE);
    uint8_t raw[1024];
    struct tree_node_header n = r->header;
    CHECK_OK(tree_node_unpack(&n, 0, r->packed[0], &r->codec, raw));
    CHECK_OK(tree_node_unpack(&n, 1, r->packed[1], &r->codec, raw));
    n.birth++;
    CHECK_RC(tree_node_unpack(&n, 0, r->packed[0], &r->codec, raw), ERR_bad_crc);
    CHECK_OK(tree_node_unpack(&n, 1, r->packed[1], &r->codec, raw)); /* the older extent's */
    r->extent[0].birth++;
    CHECK_RC(tree_node_unpack(&n, 1, r->packed[1], &r->codec, raw), ERR_bad_crc);
    n = r->header;
    n.block++;
    CHECK_RC(tree_node_unpack(&n, 0, r->packed[0], &r->codec, raw), ERR_bad_crc);
    rig_free(r);
}

/* A filter that was written with an older header is read with that one's birth. */
TEST(filters_of_older_extents_keep_their_seed)
{
    struct rig_node *r = rig_of(1, TREE_CODEC_NONE);
    const uint64_t print[] = {1, 2, 3};
    uint8_t filter[128], raw[128];
    struct tree_filter f;
    size_t len = tree_filter_build(print, 3, 10, tree_node_seed(&r->header, 1), filter);
    uint32_t i = r->header.partition_count;
    struct tree_partition *p = rig_part(r, TREE_PARTITION_FILTER, TREE_SLOT_ALL, filter, len);
    p->extent = 1;
    p->sum = tree_node_sum(&r->header, r->extent[0].birth, r->packed[i], p->packed_len);
    CHECK_OK(tree_node_unpack(&r->header, i, r->packed[i], &r->codec, raw));
    CHECK_OK(tree_filter_open(raw, len, tree_node_seed(&r->header, p->extent), &f));
    CHECK_RC(tree_filter_open(raw, len, tree_node_seed(&r->header, 0), &f), ERR_bad_crc);
    rig_free(r);
}

TEST(a_header_says_itself_who_it_is)
{
    struct rig_node *r = rig_of(1, TREE_CODEC_LZ4);
    struct tree_node_probe p;
    CHECK_OK(tree_node_probe(r->bytes, TREE_UNIT, &p));
    CHECK_EQ(p.block, r->header.block);
    CHECK_EQ(p.birth, r->header.birth);
    CHECK_EQ(p.version, r->header.version);
    CHECK_EQ(p.level, 1);
    CHECK_EQ(p.header_len, r->header.header_len);
    CHECK_EQ(p.total_len, r->header.total_len);
    CHECK_BYTES(p.file_id, r->header.file_id, TREE_FILE_ID_BYTES);
    CHECK_EQ(p.sum, expect_of(r).sum);
    for (size_t bit = 0; bit < 8 * (size_t)r->header.header_len; bit++) {
        r->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_ERR(tree_node_probe(r->bytes, sizeof r->bytes, &p), ERR_corrupt);
        r->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(r->bytes, 0, TREE_UNIT);
    CHECK_RC(tree_node_probe(r->bytes, TREE_UNIT, &p), ERR_bad_magic);
    rig_free(r);
}

TEST(partitions_are_found_by_kind_slot_and_run)
{
    struct rig_node *r = rig_of(1, TREE_CODEC_LZ4);
    const struct tree_node_header *n = &r->header;
    CHECK_EQ(tree_node_find(n, TREE_PARTITION_RUN, 0, 0), 0);
    CHECK_EQ(tree_node_find(n, TREE_PARTITION_RUN, 1, 0), 1);
    CHECK_EQ(tree_node_find(n, TREE_PARTITION_RUN, 1, 1), 2);
    CHECK_EQ(tree_node_find(n, TREE_PARTITION_RUN, 1, 2), 4);
    CHECK_EQ(tree_node_find(n, TREE_PARTITION_RANGES, TREE_SLOT_ALL, 0), 4);
    CHECK_EQ(tree_node_find(n, TREE_PARTITION_FILTER, 0, 0), 5);
    rig_free(r);
}

TEST(nodes_that_grow_too_large_are_refused)
{
    struct tree_partition many[5] = {0};
    struct tree_node_header n = {.slots = 5, .partition = many, .partition_count = 5};
    n.pivots.packed_len = 10;
    n.pivots.raw_len = 10;
    for (uint16_t i = 0; i < 5; i++) {
        many[i] = (struct tree_partition){.kind = 1, .slot = i, .entries = 1};
        many[i].raw_len = TREE_RAW_MAX;
        many[i].packed_len = TREE_RAW_MAX / 2;
    }
    CHECK_OK(tree_node_layout(&n));
    for (unsigned i = 0; i < 5; i++) {
        many[i].packed_len = TREE_RAW_MAX + 1;
    }
    CHECK_RC(tree_node_layout(&n), E2BIG);
    n.partition_count = TREE_PARTITIONS_MAX + 1;
    CHECK_RC(tree_node_layout(&n), E2BIG);
}

/* ---- the golden bytes ---- */

static const char golden[] =
    "42544c46010000002001000000100000612066696c652773206f776e2069642e0700000000000000"
    "030000000000000084030000000000006400000000000000c8000000000000000300040000000000"
    "200100004c0000004b00000000000000d4b3eb1cf050f52800000000000000000000000000000000"
    "3f010000000000000d00000000000000c294d3380580062d0a8bae24670faacb0100000000000000"
    "6c0100005200000051000000030000005b52787d8ea492230100000001000000be010000c4000000"
    "c3000000090000007a741c33121c12c30100000002000000820200002c0000002b00000001000000"
    "c9d986c9fa6e69d404000000ffff0000ae0200008100000080000000010000001b50d0ba7ee97a17"
    "1adcc79f05880e3f";

/* A leaf that is not packed: its header, and the sum of all of it. */
TEST(the_bytes_are_the_golden_ones)
{
    struct rig_node *r = rig_of(0, TREE_CODEC_NONE);
    char hex[2 * sizeof golden] = "";
    CHECK_EQ(r->header.header_len, sizeof golden / 2);
    for (size_t i = 0; i < r->header.header_len; i++) {
        snprintf(hex + 2 * i, 3, "%02x", r->bytes[i]);
    }
    CHECK_TEXT(hex, golden);
    CHECK_EQ(tree_sum(0, r->bytes, tree_node_used(&r->header)), 0x0e6545997fe80845);
    rig_free(r);
}

/* ---- nonsense behind good checksums ---- */

struct edit {
    size_t at;
    uint32_t to; /* of so many bytes */
    size_t width;
    int code;
};
static const struct edit edits[] = {
    {0, 0, 1, ERR_bad_magic},
    {0, 0x46, 1, ERR_bad_magic}, /* a leaf's magic */
    {4, 2, 1, ERR_bad_version},
    {6, 0, 1, ERR_bad_magic},   /* level 0 with the magic of an internal node */
    {7, 1, 1, ERR_bad_value},   /* flags */
    {8, 1, 2, ERR_bad_length},  /* length of the header */
    {12, 0, 4, ERR_bad_length}, /* of the extent */
    {12, 8192, 4, ERR_bad_length},
    {39, 1, 1, ERR_bad_value},   /* block */
    {56, 201, 1, ERR_bad_value}, /* least message above the greatest */
    {72, 0, 1, ERR_bad_value},   /* no slots */
    {72, 1, 1, ERR_bad_value},   /* fewer than are used */
    {73, 0xff, 1, ERR_bad_value},
    {77, 3, 1, ERR_bad_value},  /* codec */
    {78, 1, 1, ERR_bad_value},  /* zeros */
    {80, 1, 1, ERR_bad_length}, /* pivots elsewhere */
    {84, 1, 4, ERR_bad_length},
    {88, TREE_RAW_MAX + 1, 4, ERR_bad_length},
    {92, 1, 1, ERR_bad_value},
    {104, 1, 1, ERR_bad_length}, /* the filter elsewhere */
    {108, 0, 4, ERR_bad_length},
    {112, 0, 1, ERR_bad_length}, /* no filter, but a place of one */
    {112, 2, 1, 0},              /* fine: of runs, each by itself */
    {112, 3, 1, ERR_bad_value},
    {113, 1, 1, ERR_bad_value},
    {120, 1, 1, ERR_bad_value}, /* counts that are not so */
    {128, 1, 1, ERR_bad_value},
    {152, 1, 1, ERR_bad_value}, /* the first partition: a basement */
    {152, 5, 1, ERR_bad_value},
    {153, 9, 1, 0},             /* fine: another number of the only run */
    {154, 1, 1, ERR_bad_value}, /* it cannot go on */
    {154, 2, 1, ERR_bad_value},
    {155, 2, 1, ERR_bad_value}, /* no such extent */
    {156, 2, 1, ERR_bad_value}, /* out of order */
    {156, 3, 1, ERR_bad_value}, /* no such slot */
    {156, 0xffff, 2, ERR_bad_value},
    {158, 1, 1, ERR_bad_value},
    {160, 0, 4, ERR_bad_length}, /* not behind the filter */
    {160, 0xffffffff, 4, ERR_bad_length},
    {164, 1, 4, ERR_bad_length},
    {164, 0xffffffff, 4, ERR_bad_length},
    {168, 0, 4, ERR_bad_length},
    {168, TREE_RAW_MAX + 1, 4, ERR_bad_length},
    {172, 0, 4, ERR_bad_value},
    {184 + 8, 4090, 4, ERR_bad_length},  /* the second, beyond the end of the older extent */
    {152 + 96 + 2, 0, 1, ERR_bad_value}, /* twice the same run */
    {312, 1, 1, ERR_bad_value},          /* the older extent is nowhere in particular */
    {312, 0, 4, ERR_bad_value},
    {320, 4, 1, ERR_bad_value}, /* younger than the header */
    {328, 0, 4, ERR_bad_length},
    {328, 1, 1, ERR_bad_length},
    {331, 2, 1, ERR_bad_length},
    {332, 1, 1, ERR_bad_value},
};

static const struct edit leaf_edits[] = {
    {152 + 64 + 4, 3, 1, ERR_bad_value}, /* the third basement is the fourth */
    {152 + 1, 1, 1, ERR_bad_value},      /* a run of a leaf */
    {152, 2, 1, ERR_bad_value},
    {72, 4, 1, ERR_bad_value},   /* a slot without a basement */
    {104, 1, 1, ERR_bad_length}, /* no filter, but a place of one, or a length */
    {108, 1, 1, ERR_bad_length},
    {76, 1, 1, ERR_bad_length}, /* an extent that the header has no room for */
};

static void check_edit(const struct rig_node *r, const struct edit *e)
{
    uint8_t *bytes = mem_dup(r->bytes, r->header.total_len);
    uint32_t len = r->header.header_len;
    struct tree_node_header n;
    struct tree_node_expect x = expect_of(r);
    CHECK_TRUE(bytes != NULL);
    for (size_t b = 0; b < e->width; b++) {
        bytes[e->at + b] = (uint8_t)(e->to >> 8 * b);
    }
    x.block = wire_load_u64(bytes + 32);
    x.sum = tree_sum(tree_seed(x.file_id, x.block, x.birth), bytes, len - 8);
    wire_store_u64(bytes + len - 8, x.sum);
    int rc = tree_node_decode(bytes, r->header.total_len, &x, &n);
    if (rc != -e->code) {
        (void)fprintf(stderr, "byte %zu to %u: %s\n", e->at, e->to, err_name(rc));
    }
    CHECK_RC(rc, e->code);
    if (rc == 0) {
        tree_node_fini(&n);
    }
    mem_free(bytes);
}

TEST(headers_that_lie_about_themselves_are_refused)
{
    struct rig_node *r = rig_of(1, TREE_CODEC_NONE);
    CHECK_EQ(r->header.header_len, 344);
    for (size_t i = 0; i < ARRAY_COUNT(edits); i++) {
        check_edit(r, &edits[i]);
    }
    rig_free(r);
    r = rig_of(0, TREE_CODEC_NONE);
    for (size_t i = 0; i < ARRAY_COUNT(leaf_edits); i++) {
        check_edit(r, &leaf_edits[i]);
    }
    rig_free(r);
}

TEST_TORTURE(decoding_without_memory_leaves_nothing)
{
    static const uint8_t id[TREE_FILE_ID_BYTES];
    struct tree_partition part = {
        .kind = 1, .raw_len = 10, .packed_len = 10, .entries = 1, .sum = 5};
    struct tree_node_header n = {.slots = 1, .partition_count = 1, .partition = &part}, got;
    uint8_t bytes[512];
    n.pivots.packed_len = 10;
    n.pivots.raw_len = 10;
    CHECK_OK(tree_node_layout(&n));
    struct tree_node_expect x = {.file_id = id, .sum = tree_node_encode(&n, bytes)};
    TRY(tree_node_decode(bytes, sizeof bytes, &x, &got));
    CHECK_EQ(got.partition[0].sum, 5);
    tree_node_fini(&got);
}
