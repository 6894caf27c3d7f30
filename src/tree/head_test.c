/*
 * tree/head_test.c -- heads that are built, written and read again are the same; damaged ones, ones
 * that are too large and ones for which there is no memory leave nothing behind.
 */
#include "tree/head.h"

#include "base/rand.h"
#include "testing/testing.h"
#include "tree/rig_head_priv.h"
#include "wire/wire.h"

#define PARTS_MAX 64u
#define SLOTS_MAX 12u
#define PIECE_MAX 256u
#define EXTENT_OFFSET (UINT64_C(5) << 20)

static const uint8_t file_id[TREE_FILE_ID_BYTES] = "a file's own id";

/* ---- what a head is built of ---- */

struct spec_part {
    struct tree_head_add add;
    uint32_t raw_len, entries;
    uint8_t raw[PIECE_MAX];
    char cut[8];
};
struct spec {
    struct tree_node_header header;
    char pivot[SLOTS_MAX][8];
    struct kv_slice pivots[SLOTS_MAX];
    uint64_t child[SLOTS_MAX];
    struct tree_pivots_source source;
    struct spec_part part[PARTS_MAX];
    size_t part_count;
    uint64_t print[16];
    bool filter;
};

static struct kv_slice text(const char *t)
{
    return kv_slice_of(t, strlen(t));
}

static void spec_begin(struct spec *s, uint8_t level, uint16_t slots)
{
    *s = (struct spec){.header = {.level = level,
                                  .block = RIG_BLOCK,
                                  .birth = 9,
                                  .version = 900,
                                  .msn_min = 100,
                                  .msn_max = 200,
                                  .codec = TREE_CODEC_LZ4}};
    memcpy(s->header.file_id, file_id, sizeof file_id);
    for (uint16_t i = 0; i < slots; i++) {
        s->pivot[i][0] = (char)('c' + 2 * i);
        s->pivots[i] = text(s->pivot[i]);
        s->child[i] = 1000 + i;
    }
    s->source = (struct tree_pivots_source){.low = text("b"),
                                            .high = text("zz"),
                                            .pivot = s->pivots,
                                            .child = level > 0 ? s->child : NULL,
                                            .slots = slots};
}

static struct spec_part *spec_add(struct spec *s, struct rand *r, uint8_t kind, uint16_t slot)
{
    CHECK_TRUE(s->part_count < PARTS_MAX);
    struct spec_part *p = &s->part[s->part_count++];
    p->add = (struct tree_head_add){.kind = kind, .slot = slot};
    p->raw_len = (uint32_t)rand_range(r, 1, PIECE_MAX);
    p->entries = (uint32_t)rand_range(r, 1, 30);
    rand_bytes(r, p->raw, rand_below(r, p->raw_len + 1));
    return p;
}

/* A run of some partitions: the cuts lie between the pivots of its slot. */
static void spec_add_run(struct spec *s, struct rand *r, uint16_t slot, uint8_t run)
{
    uint64_t count = rand_range(r, 1, 3);
    for (uint64_t i = 0; i < count; i++) {
        struct spec_part *p = spec_add(s, r, TREE_PARTITION_RUN, slot);
        p->add.run = run;
        if (i > 0) {
            p->cut[0] = (char)('b' + 2 * slot);
            p->cut[1] = (char)('a' + i);
            p->add.cut = text(p->cut);
        }
    }
}

static void spec_random(struct spec *s, struct rand *r, uint8_t level)
{
    spec_begin(s, level, (uint16_t)rand_range(r, level > 0 ? 1 : 0, 6));
    for (uint16_t slot = 0; slot < s->source.slots && level == 0; slot++) {
        spec_add(s, r, TREE_PARTITION_LEAF, slot);
    }
    for (uint16_t slot = 0; slot < s->source.slots && level > 0; slot++) {
        unsigned run = (unsigned)rand_below(r, 3);
        for (; run < 256 && rand_chance(r, 2, 3); run += (unsigned)rand_range(r, 1, 120)) {
            spec_add_run(s, r, slot, (uint8_t)run);
        }
    }
    for (uint16_t slot = 0; slot < s->source.slots && level > 0; slot++) {
        for (unsigned run = 0; run < 256 && rand_chance(r, 1, 2); run += 255) {
            spec_add(s, r, TREE_PARTITION_RANGES, slot)->add.run = (uint8_t)run;
        }
    }
    if (rand_chance(r, 1, 2)) {
        spec_add(s, r, TREE_PARTITION_FILTER, TREE_SLOT_ALL);
    }
    s->filter = level > 0 && rand_chance(r, 2, 3);
    for (size_t i = 0; i < 16; i++) {
        s->print[i] = rand_u64(r);
    }
}

/* What a builder is given, made before. */
struct goods {
    struct tree_part *part[PARTS_MAX];
    uint8_t *filter;
    size_t filter_len;
};

static void goods_make(struct goods *g, const struct spec *s, struct rig_cache *c)
{
    *g = (struct goods){0};
    for (size_t i = 0; i < s->part_count; i++) {
        const struct spec_part *p = &s->part[i];
        struct rig_part_of of = {
            .kind = p->add.kind, .entries = p->entries, .len = p->raw_len, .absent = true};
        g->part[i] = rig_part_new(c, &of);
    }
    if (s->filter) {
        g->filter_len = tree_filter_bytes(16, 10);
        g->filter = mem_aligned(TREE_FILTER_BLOCK_BYTES, g->filter_len);
        CHECK_TRUE(g->filter != NULL);
        uint64_t seed = tree_seed(s->header.file_id, s->header.block, s->header.birth);
        CHECK_EQ(tree_filter_build(s->print, 16, 10, seed, g->filter), g->filter_len);
    }
}

/* The nth allocation fails; 0: none. */
static int spec_build_failing(const struct spec *s, struct rig_cache *c, uint64_t nth,
                              struct tree_head **ret)
{
    struct tree_head_builder b;
    struct tree_pivots_source source = s->source;
    struct goods g;
    goods_make(&g, s, c);
    tree_head_builder_init(&b, c->cache);
    b.header = s->header;
    mem_fail_at(nth);
    for (size_t i = 0; i < s->part_count; i++) {
        tree_head_builder_add(&b, g.part[i], &s->part[i].add);
    }
    int rc = tree_head_builder_finish(&b, &source, g.filter, g.filter_len, ret);
    mem_fail_at(0);
    tree_head_builder_fini(&b);
    for (size_t i = 0; i < s->part_count; i++) {
        tree_part_unref(g.part[i]);
    }
    return rc;
}

static struct tree_head *spec_build(const struct spec *s, struct rig_cache *c)
{
    struct tree_head *h = NULL;
    CHECK_OK(spec_build_failing(s, c, 0, &h));
    return h;
}

/* ---- as it is on disk ---- */

struct written {
    uint8_t *bytes; /* header, pivots, filter */
    size_t len;
    struct tree_node_header header; /* with arrays of its own */
    struct tree_node_expect expect;
};

static void written_fini(struct written *w)
{
    tree_node_fini(&w->header);
    mem_free(w->bytes);
}

static void written_seal(struct written *w)
{
    w->expect = (struct tree_node_expect){.file_id = file_id,
                                          .block = w->header.block,
                                          .birth = w->header.birth,
                                          .sum = tree_node_encode(&w->header, w->bytes)};
}

/* Every third partition lies in an older extent. Of the parts themselves nothing is written. */
static void written_make(struct written *w, const struct tree_head *h, enum tree_codec_id id)
{
    static const struct tree_codec_options options = {0};
    struct tree_codec codec;
    uint8_t packed[2048];
    uint32_t older = 64;
    CHECK_OK(tree_codec_init(&codec, &options));
    w->header = h->header;
    struct tree_node_header *n = &w->header;
    n->partition = mem_calloc(n->partition_count + 1u, sizeof *n->partition);
    n->extent = mem_calloc(1, sizeof *n->extent);
    CHECK_TRUE(n->partition != NULL && n->extent != NULL);
    n->extent_count = 1;
    n->extent[0] = (struct tree_extent){.offset = 1 << 20, .birth = 4, .len = 1 << 16};
    for (uint32_t i = 0; i < n->partition_count; i++) {
        struct tree_partition *p = &n->partition[i];
        *p = h->header.partition[i];
        p->packed_len = p->raw_len + 1;
        p->sum = 77 + i;
        p->extent = i % 3 == 2 ? 1 : 0;
        p->offset = older; /* of others set by layout */
        older += p->extent == 1 ? p->packed_len : 0;
    }
    n->pivots.packed_len =
        (uint32_t)tree_codec_pack(&codec, id, h->pivot_bytes, n->pivots.raw_len, packed);
    n->pivots.sum = tree_node_sum(n, n->birth, packed, n->pivots.packed_len);
    CHECK_OK(tree_node_layout(n));
    w->len = n->header_len + n->pivots.packed_len + n->filter.len;
    w->bytes = mem_alloc(w->len); /* no longer, so that a sanitizer sees who reads on */
    CHECK_TRUE(w->bytes != NULL);
    memcpy(w->bytes + n->pivots.offset, packed, n->pivots.packed_len);
    if (h->filter_len > 0) {
        memcpy(w->bytes + n->filter.offset, h->filter_bytes, h->filter_len);
    }
    written_seal(w);
    tree_codec_fini(&codec);
}

static int written_read_len(const struct written *w, size_t len, struct rig_cache *c,
                            struct tree_head **ret)
{
    struct tree_codec codec;
    struct err e = {0};
    CHECK_OK(tree_codec_init(&codec, NULL));
    struct tree_head_read r = {.cache = c->cache,
                               .bytes = w->bytes,
                               .len = len,
                               .expect = &w->expect,
                               .extent_offset = EXTENT_OFFSET,
                               .codec = &codec};
    int rc = tree_head_decode(&r, ret, &e);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM ||
               strstr(e.text, "node 7 at byte 5242880, born 9") != NULL);
    tree_codec_fini(&codec);
    return rc;
}

static int written_read(const struct written *w, struct rig_cache *c, struct tree_head **ret)
{
    return written_read_len(w, w->len, c, ret);
}

/* ---- comparing ---- */

static void check_keys(const struct tree_head *h, const struct spec *s)
{
    struct tree_pivots_bounds bounds;
    CHECK_EQ(h->pivots.slots, s->source.slots);
    CHECK_EQ(kv_slice_compare(h->pivots.low, s->source.low), 0);
    CHECK_EQ(kv_slice_compare(h->pivots.high, s->source.high), 0);
    for (uint16_t i = 0; i < s->source.slots; i++) {
        struct kv_slice high = i + 1 < s->source.slots ? s->pivots[i] : s->source.high;
        tree_pivots_bounds(&h->pivots, i, &bounds);
        CHECK_EQ(kv_slice_compare(bounds.low, i > 0 ? s->pivots[i - 1] : s->source.low), 0);
        CHECK_EQ(kv_slice_compare(bounds.high, high), 0);
        if (s->header.level > 0) {
            CHECK_EQ(tree_pivots_child(&h->pivots, i), s->child[i]);
        }
    }
    for (size_t i = 0; i < 16 && s->filter; i++) {
        CHECK_TRUE(tree_filter_may_contain(&h->filter, s->print[i]));
    }
    CHECK_EQ(h->filter_bytes != NULL, s->filter);
}

static void check_head(const struct tree_head *h, const struct spec *s)
{
    uint64_t raw = 0, entries = 0;
    uint16_t cut = 0;
    CHECK_TRUE(h->header.level == s->header.level && h->header.block == s->header.block);
    CHECK_TRUE(h->header.version == 900 && h->header.msn_min == 100 && h->header.msn_max == 200);
    CHECK_EQ(h->header.partition_count, s->part_count);
    for (uint32_t i = 0; i < s->part_count; i++) {
        const struct tree_partition *p = &h->header.partition[i];
        const struct spec_part *x = &s->part[i];
        bool more = x->add.cut.len > 0;
        CHECK_TRUE(p->kind == x->add.kind && p->run == x->add.run && p->slot == x->add.slot);
        CHECK_TRUE(p->raw_len == x->raw_len && p->entries == x->entries);
        CHECK_EQ(p->flags, more ? TREE_PARTITION_MORE : 0);
        if (more) {
            CHECK_EQ(p->cut, cut++);
            CHECK_EQ(kv_slice_compare(tree_pivots_cut(&h->pivots, p->cut), x->add.cut), 0);
        }
        raw += p->kind != TREE_PARTITION_FILTER ? p->raw_len : 0;
        entries += p->kind <= TREE_PARTITION_RUN ? p->entries : 0;
        CHECK_TRUE(h->part[i]->kind == p->kind && h->part[i]->raw_len == p->raw_len);
        CHECK_EQ(h->part[i]->entries, p->entries);
    }
    CHECK_EQ(tree_head_raw_bytes(h), raw);
    CHECK_EQ(h->header.entries, entries);
    check_keys(h, s);
}

static void check_places(const struct tree_head *h, const struct written *w)
{
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        const struct tree_partition *p = &w->header.partition[i];
        const struct tree_part_place *place = &h->part[i]->place;
        bool own = p->extent == 0;
        CHECK_TRUE(!tree_part_pin(h->part[i]));
        CHECK_EQ(place->block, RIG_BLOCK);
        CHECK_EQ(place->extent, own ? EXTENT_OFFSET : 1 << 20);
        CHECK_EQ(place->birth, own ? 9 : 4);
        CHECK_EQ(place->extent_len, own ? w->header.total_len : 1 << 16);
        CHECK_TRUE(place->offset == p->offset && place->packed_len == p->packed_len);
        CHECK_EQ(place->sum, 77 + i);
    }
}

/* Runs that have a partition of messages or of ranges, newest first; and how large they are. */
static void check_runs(const struct tree_head *h, const struct spec *s)
{
    for (uint16_t slot = 0; slot < s->source.slots; slot++) {
        bool there[256] = {false};
        uint8_t run[256];
        uint64_t bytes = 0;
        unsigned at = 0, count = tree_head_runs(h, slot, run);
        for (size_t i = 0; i < s->part_count; i++) {
            const struct tree_head_add *a = &s->part[i].add;
            if (a->slot == slot && a->kind != TREE_PARTITION_LEAF) {
                there[a->run] = true;
                bytes += s->part[i].raw_len;
            }
        }
        for (int i = 255; i >= 0; i--) {
            if (there[i]) {
                CHECK_TRUE(at < count && run[at] == i);
                at++;
            }
        }
        CHECK_EQ(at, count);
        CHECK_EQ(tree_head_slot_bytes(h, slot), bytes);
    }
}

TEST(heads_come_back_as_they_were)
{
    struct rig_cache c;
    struct rand r;
    rig_cache_init(&c);
    rand_seed(&r, testing_seed());
    for (unsigned i = 0; i < 300; i++) {
        struct spec *s = mem_alloc(sizeof *s);
        struct written w;
        struct tree_head *again = NULL;
        CHECK_TRUE(s != NULL);
        spec_random(s, &r, (uint8_t)(i % 3));
        struct tree_head *h = spec_build(s, &c);
        check_head(h, s);
        check_runs(h, s);
        written_make(&w, h, (enum tree_codec_id)(i % 4 % 3));
        tree_head_ref(h);
        tree_head_unref(h);
        tree_head_unref(h);
        CHECK_EQ(rig_cache_used(&c), 0);
        CHECK_OK(written_read(&w, &c, &again));
        check_head(again, s);
        check_runs(again, s);
        check_places(again, &w);
        CHECK_TRUE(rig_cache_used(&c) <= tree_head_cost(w.len));
        tree_head_unref(again);
        written_fini(&w);
        mem_free(s);
    }
    rig_cache_fini(&c);
}

/* ---- damage ---- */

struct damage {
    struct rig_cache cache;
    struct rand rand;
    struct spec spec;
    struct written written;
};

static void damage_init(struct damage *d, uint8_t level)
{
    rig_cache_init(&d->cache);
    rand_seed(&d->rand, testing_seed());
    do {
        spec_random(&d->spec, &d->rand, level);
    } while (d->spec.part_count < 4 || d->spec.part_count > 12 || (level > 0 && !d->spec.filter));
    struct tree_head *h = spec_build(&d->spec, &d->cache);
    written_make(&d->written, h, TREE_CODEC_LZ4);
    tree_head_unref(h);
}

static void damage_fini(struct damage *d)
{
    written_fini(&d->written);
    rig_cache_fini(&d->cache);
}

TEST(every_end_that_is_missing_is_noticed)
{
    for (uint8_t level = 0; level < 2; level++) {
        struct damage d;
        struct tree_head *h = NULL;
        damage_init(&d, level);
        for (size_t len = 0; len < d.written.len; len++) {
            CHECK_RC(written_read_len(&d.written, len, &d.cache, &h), ERR_short_msg);
        }
        CHECK_TRUE(h == NULL && rig_cache_used(&d.cache) == 0);
        damage_fini(&d);
    }
}

TEST(every_flipped_bit_is_noticed)
{
    for (uint8_t level = 0; level < 2; level++) {
        struct damage d;
        struct tree_head *h = NULL;
        damage_init(&d, level);
        for (size_t bit = 0; bit < 8 * d.written.len; bit++) {
            d.written.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            CHECK_ERR(written_read(&d.written, &d.cache, &h), ERR_corrupt);
            d.written.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        CHECK_TRUE(h == NULL && rig_cache_used(&d.cache) == 0);
        damage_fini(&d);
    }
}

/* Sound bytes that are not what the table speaks of, or do not fit each other. */
TEST(what_does_not_belong_together_is_refused)
{
    struct damage d;
    struct tree_head *h = NULL;
    damage_init(&d, 1);
    struct written *w = &d.written;
    w->expect.sum++;
    CHECK_RC(written_read(w, &d.cache, &h), ERR_bad_crc);
    w->header.low_print++; /* of other pivots */
    written_seal(w);
    CHECK_RC(written_read(w, &d.cache, &h), ERR_bad_value);
    w->header.low_print--;
    w->header.pivots.sum++;
    written_seal(w);
    CHECK_RC(written_read(w, &d.cache, &h), ERR_bad_crc);
    w->header.pivots.sum--;
    written_seal(w);
    CHECK_OK(written_read(w, &d.cache, &h));
    tree_head_unref(h);
    damage_fini(&d);
}

/* The format knows them, but not of which run of a slot they are a part. */
TEST(deleted_ranges_of_a_whole_node_are_refused)
{
    struct damage d;
    struct tree_head *h = NULL;
    rig_cache_init(&d.cache);
    rand_seed(&d.rand, testing_seed());
    spec_begin(&d.spec, 1, 2);
    spec_add(&d.spec, &d.rand, TREE_PARTITION_RANGES, 1);
    h = spec_build(&d.spec, &d.cache);
    written_make(&d.written, h, TREE_CODEC_LZ4);
    h = tree_head_unref(h);
    CHECK_OK(written_read(&d.written, &d.cache, &h));
    h = tree_head_unref(h);
    d.written.header.partition[0].slot = TREE_SLOT_ALL;
    written_seal(&d.written);
    CHECK_RC(written_read(&d.written, &d.cache, &h), ERR_bad_version);
    CHECK_TRUE(h == NULL);
    damage_fini(&d);
}

/* Birth 0 means "nowhere": there is no such checkpoint. */
TEST(extents_without_a_birth_are_refused)
{
    struct damage d;
    struct tree_head *h = NULL;
    damage_init(&d, 0);
    d.written.header.extent[0].birth = 0;
    written_seal(&d.written);
    CHECK_RC(written_read(&d.written, &d.cache, &h), ERR_bad_value);
    damage_fini(&d);
}

TEST(a_failed_allocation_leaves_nothing)
{
    for (uint8_t level = 0; level < 2; level++) {
        struct damage d;
        struct tree_head *h = NULL;
        unsigned failed = 0;
        damage_init(&d, level);
        for (; spec_build_failing(&d.spec, &d.cache, failed + 1, &h) < 0; failed++) {
            CHECK_TRUE(h == NULL && rig_cache_used(&d.cache) == 0);
        }
        CHECK_TRUE(failed > 5);
        check_head(h, &d.spec);
        h = tree_head_unref(h);
        int rc = -ENOMEM;
        for (failed = 0; rc < 0; failed++) {
            struct tree_codec codec;
            struct tree_head_read r = {.cache = d.cache.cache,
                                       .bytes = d.written.bytes,
                                       .len = d.written.len,
                                       .expect = &d.written.expect,
                                       .extent_offset = EXTENT_OFFSET,
                                       .codec = &codec};
            CHECK_OK(tree_codec_init(&codec, NULL));
            mem_fail_at(failed + 1);
            rc = tree_head_decode(&r, &h, NULL);
            mem_fail_at(0);
            tree_codec_fini(&codec);
            CHECK_TRUE(rc == 0 || (rc == -ENOMEM && h == NULL && rig_cache_used(&d.cache) == 0));
        }
        CHECK_TRUE(failed > 4 + d.spec.part_count);
        tree_head_unref(h);
        damage_fini(&d);
    }
}

/* ---- limits ---- */

/* `count` parts of one run, cut between each, of `raw_len` bytes. */
static int build_large(struct rig_cache *c, uint32_t count, uint32_t raw_len, size_t filter_len)
{
    struct tree_head_builder b;
    struct tree_head *h = NULL;
    const uint64_t child = 5;
    char(*cut)[5] = mem_calloc(count, sizeof *cut);
    uint8_t *filter = filter_len > 0 ? mem_zalloc(filter_len) : NULL;
    CHECK_TRUE(cut != NULL);
    struct rig_part_of of = {
        .kind = TREE_PARTITION_RUN, .entries = 1, .len = raw_len, .absent = true};
    struct tree_part *p = rig_part_new(c, &of); /* the same one again and again */
    tree_head_builder_init(&b, c->cache);
    b.header.level = 1;
    for (uint32_t i = 0; i < count; i++) {
        cut[i][0] = (char)(1 + i / 127);
        cut[i][1] = (char)(1 + i % 127);
        struct tree_head_add a = {.kind = TREE_PARTITION_RUN,
                                  .cut = i > 0 ? text(cut[i]) : text("")};
        tree_head_builder_add(&b, p, &a);
    }
    tree_part_unref(p);
    struct tree_pivots_source s = {.child = &child, .slots = 1};
    int rc = tree_head_builder_finish(&b, &s, filter, filter_len, &h);
    tree_head_builder_fini(&b);
    tree_head_unref(h);
    mem_free(cut);
    return rc;
}

TEST(what_is_too_large_for_a_node_is_refused)
{
    struct rig_cache c;
    rig_cache_init(&c);
    CHECK_OK(build_large(&c, TREE_PARTITIONS_MAX, 100, 0));
    CHECK_RC(build_large(&c, TREE_PARTITIONS_MAX + 1, 100, 0), E2BIG);
    CHECK_OK(build_large(&c, 3, TREE_RAW_MAX, 0));
    CHECK_RC(build_large(&c, 4, TREE_RAW_MAX, 0), E2BIG);
    CHECK_OK(build_large(&c, 3, TREE_RAW_MAX - 4000, 3u << 20));
    CHECK_RC(build_large(&c, 3, TREE_RAW_MAX - 4000, TREE_RAW_MAX), E2BIG);
    CHECK_RC(build_large(&c, 1, 100, TREE_RAW_MAX + 1), E2BIG);
    rig_cache_fini(&c);
}

/* More slots than partitions could ever fill. */
TEST(too_many_slots_are_refused)
{
    struct rig_cache c;
    struct tree_head_builder b;
    struct tree_head *h = NULL;
    struct kv_slice pivot = text("p");
    uint64_t child = 5;
    rig_cache_init(&c);
    tree_head_builder_init(&b, c.cache);
    b.header.level = 1;
    struct tree_pivots_source s = {
        .pivot = &pivot, .child = &child, .slots = TREE_PARTITIONS_MAX + 1};
    CHECK_RC(tree_head_builder_finish(&b, &s, NULL, 0, &h), E2BIG);
    tree_head_builder_fini(&b);
    rig_cache_fini(&c);
}

/* The root of an empty tree. */
TEST(a_leaf_may_be_empty)
{
    struct rig_cache c;
    struct spec s;
    struct written w;
    struct tree_head *h = NULL;
    rig_cache_init(&c);
    spec_begin(&s, 0, 0);
    s.source.low = s.source.high = text("");
    h = spec_build(&s, &c);
    check_head(h, &s);
    CHECK_EQ(tree_head_raw_bytes(h), 0);
    written_make(&w, h, TREE_CODEC_NONE);
    tree_head_unref(h);
    CHECK_OK(written_read(&w, &c, &h));
    check_head(h, &s);
    tree_head_unref(h);
    written_fini(&w);
    rig_cache_fini(&c);
}

/* Two versions of a node have the part in common. */
TEST(parts_live_as_long_as_a_head_has_them)
{
    struct rig_cache c;
    struct tree_head *h[2];
    const uint8_t raw[100] = {1};
    rig_cache_init(&c);
    struct rig_part_of of = {
        .kind = TREE_PARTITION_LEAF, .entries = 1, .bytes = raw, .len = sizeof raw};
    struct tree_part *p = rig_part_new(&c, &of);
    for (unsigned i = 0; i < 2; i++) {
        struct tree_head_builder b;
        struct tree_head_add a = {.kind = TREE_PARTITION_LEAF};
        struct tree_pivots_source s = {.slots = 1};
        tree_head_builder_init(&b, c.cache);
        tree_head_builder_add(&b, p, &a);
        CHECK_OK(tree_head_builder_finish(&b, &s, NULL, 0, &h[i]));
        tree_head_builder_fini(&b);
    }
    tree_part_unref(p);
    uint64_t used = rig_cache_used(&c);
    tree_head_unref(h[0]);
    CHECK_EQ(rig_cache_used(&c), used - h[1]->charged);
    CHECK_TRUE(h[1]->part[0] == p && tree_part_pin(p));
    tree_head_unref(h[1]);
    CHECK_EQ(p->bytes[0], 1);
    tree_part_unpin(p);
    rig_cache_fini(&c);
}
