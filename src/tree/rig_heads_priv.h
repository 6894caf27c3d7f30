/*
 * tree/rig_heads_priv.h -- for tests only: heads of nodes with real parts, made from a list of what
 * is in them, and the same read back from the file.
 */
#pragma once

#include "tree/rig_write_priv.h"

#include <stdio.h>

#define RIG_HEAD_PARTS 20u
#define RIG_PART_BYTES 8192u

/* What the parts of a node are, in the order of the table; slots and cuts follow from that. */
struct rig_part_spec {
    uint8_t kind, run;
    uint16_t slot;
    bool more;
};
/* A node as it ought to be. */
struct rig_head_spec {
    uint8_t level;
    uint16_t slots;
    size_t count;
    struct rig_part_spec part[RIG_HEAD_PARTS];
    bool filter;                    /* over all runs */
    uint32_t records, record_bytes; /* of a block */
};
struct rig_head_raw {
    size_t len[RIG_HEAD_PARTS];
    uint8_t bytes[RIG_HEAD_PARTS][RIG_PART_BYTES];
    uint8_t filter[1024];
    size_t filter_len;
};

/* Keys of the nth partition of the run of a slot: s00p0000 ... */
static inline struct kv_slice rig_part_key(const struct rig_part_spec *p, uint32_t i, char buf[24])
{
    int len = snprintf(buf, 24, "s%02u%c%04u", p->slot % 100U, p->more ? 'q' : 'p', i % 10000);
    return kv_slice_of(buf, (size_t)len);
}

static inline size_t rig_make_filter(const struct rig_head_spec *s, uint8_t *out)
{
    uint64_t print[RIG_HEAD_PARTS * 64];
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        for (uint32_t k = 0; k < s->records && s->part[i].kind <= TREE_PARTITION_RUN; k++) {
            char buf[24];
            CHECK(count < ARRAY_COUNT(print));
            print[count++] = tree_fingerprint(rig_part_key(&s->part[i], k, buf));
        }
    }
    return tree_filter_build(print, count, 10, 0, out); /* the seed is nobody's */
}

static inline size_t rig_make_block(const struct rig_head_spec *s, const struct rig_part_spec *p,
                                    struct rand *rand, uint8_t *out)
{
    struct tree_block_builder b;
    bool run = p->kind == TREE_PARTITION_RUN;
    uint8_t value[1024];
    CHECK(s->record_bytes <= sizeof value);
    tree_block_builder_init(&b, run ? TREE_BLOCK_MESSAGE : TREE_BLOCK_LEAF);
    for (uint32_t k = 0; k < s->records; k++) {
        char buf[24];
        rand_bytes(rand, value, s->record_bytes);
        struct tree_block_entry e = {.key = rig_part_key(p, k, buf),
                                     .body = kv_slice_of(value, s->record_bytes)};
        e.type = run ? TREE_PUT : 0;
        e.msn = run ? 100 + k : 0;
        CHECK(tree_block_builder_add(&b, &e) == 0);
    }
    CHECK(tree_block_builder_bytes(&b) <= RIG_PART_BYTES);
    size_t len = tree_block_builder_finish(&b, out);
    tree_block_builder_fini(&b);
    return len;
}

/* New contents of part i. */
static inline void rig_make_part(const struct rig_head_spec *s, size_t i, struct rand *rand,
                                 struct rig_head_raw *raw)
{
    const struct rig_part_spec *p = &s->part[i];
    uint8_t *out = raw->bytes[i];
    char low[24], high[24];
    struct tree_ranges_item range = {.msn = 100 + rand_below(rand, 100)};
    switch (p->kind) {
    case TREE_PARTITION_FILTER:
        raw->len[i] = rig_make_filter(s, out);
        break;
    case TREE_PARTITION_RANGES:
        range.low = rig_part_key(p, (uint32_t)rand_below(rand, 100), low);
        range.high = rig_part_key(p, (uint32_t)rand_range(rand, 100, 200), high);
        raw->len[i] = tree_ranges_encode(&range, 1, out);
        break;
    default:
        raw->len[i] = rig_make_block(s, p, rand, out);
    }
}

static inline uint32_t rig_part_entries(const struct rig_head_spec *s, uint8_t kind)
{
    return kind <= TREE_PARTITION_RUN ? s->records : 1;
}

/* -ENOMEM. */
static inline int rig_part_new(struct tree_cache *c, const struct rig_head_spec *s, size_t i,
                               const struct rig_head_raw *raw, struct tree_part **ret)
{
    struct tree_part_options opt = {.cache = c,
                                    .kind = s->part[i].kind,
                                    .raw_len = (uint32_t)raw->len[i],
                                    .entries = rig_part_entries(s, s->part[i].kind)};
    opt.bytes = tree_cache_get(c, raw->len[i]);
    if (opt.bytes == NULL) {
        return -ENOMEM;
    }
    memcpy(opt.bytes, raw->bytes[i], raw->len[i]);
    tree_cache_force(c, raw->len[i]);
    int rc = tree_part_new(&opt, ret);
    if (rc < 0) {
        tree_cache_give(c, raw->len[i]);
        tree_cache_put(c, opt.bytes, raw->len[i]);
    }
    return rc;
}

/* Out of the older head what has not changed; `changed` has a bit for each part. */
struct rig_head_make {
    struct tree_cache *cache;
    const struct tree_shape *shape;
    const struct rig_head_spec *spec;
    const struct rig_head_raw *raw;
    const struct tree_head *older; /* NULL: all is new */
    uint64_t changed;
};

static inline int rig_head_add_parts(const struct rig_head_make *m, struct tree_head_builder *b)
{
    static char cut[RIG_HEAD_PARTS][24];
    int rc = 0;
    for (size_t i = 0; i < m->spec->count && rc == 0; i++) {
        const struct rig_part_spec *p = &m->spec->part[i];
        struct tree_head_add add = {.kind = p->kind, .run = p->run, .slot = p->slot};
        struct tree_part *part = NULL;
        if (p->more) {
            add.cut = rig_part_key(p, 0, cut[i]);
        }
        if (m->older != NULL && (m->changed >> i & 1) == 0) {
            part = tree_part_ref(m->older->part[i]);
        } else {
            rc = rig_part_new(m->cache, m->spec, i, m->raw, &part);
        }
        if (rc == 0) {
            tree_head_builder_add(b, part, &add);
            tree_part_unref(part);
        }
    }
    return rc;
}

static inline int rig_head_finish(const struct rig_head_make *m, struct tree_head_builder *b,
                                  struct tree_head **ret)
{
    static char text[RIG_HEAD_PARTS][24];
    static const uint64_t child[RIG_HEAD_PARTS] = {1001, 1002, 1003, 1004, 1005, 1006};
    struct kv_slice pivot[RIG_HEAD_PARTS];
    struct tree_pivots_source s = {.pivot = pivot, .slots = m->spec->slots};
    uint8_t *filter = NULL;
    for (uint16_t i = 1; i < s.slots; i++) {
        struct rig_part_spec p = {.slot = i};
        pivot[i - 1] = rig_part_key(&p, 0, text[i]);
    }
    s.child = m->spec->level > 0 ? child : NULL;
    if (m->spec->filter) {
        filter = tree_cache_get(m->cache, m->raw->filter_len);
        if (filter == NULL) {
            return -ENOMEM;
        }
        memcpy(filter, m->raw->filter, m->raw->filter_len);
    }
    return tree_head_builder_finish(b, &s, filter, m->spec->filter ? m->raw->filter_len : 0, ret);
}

/* -ENOMEM. */
static inline int rig_head_new(const struct rig_head_make *m, struct tree_head **ret)
{
    struct tree_head_builder b;
    tree_head_builder_init(&b, m->cache);
    b.header = (struct tree_node_header){
        .level = m->spec->level, .codec = m->shape->codec, .msn_min = 100, .msn_max = 300};
    memcpy(b.header.file_id, m->shape->file_id, TREE_FILE_ID_BYTES);
    int rc = rig_head_add_parts(m, &b);
    rc = rc < 0 ? rc : rig_head_finish(m, &b, ret);
    tree_head_builder_fini(&b);
    return rc;
}
