/*
 * tree/head_fuzz.c -- any bytes as a node, once as they are and once with every checksum made
 * right, as a head with its parts. Where all of them open, sources over them agree with themselves:
 * both ways the same keys in order, each of which is found.
 */
#include "tree/head.h"

#include "testing/replay.h"
#include "tree/node_fix_rig_priv.h"
#include "tree/node_open_rig_priv.h"
#include "tree/node_source.h"

#define FUZZ_MAX (64u << 10)
#define RAW_MAX (1u << 20) /* of all parts, unpacked */

/* ---- sources ---- */

struct walk {
    uint8_t key[TREE_KEY_MAX]; /* the one before */
    size_t len, keys, messages;
};

/* It stands on a key behind, or before, the last one. */
static void walk_stand(struct walk *w, struct tree_source *s, bool backwards)
{
    struct kv_slice before = kv_slice_of(w->key, w->len);
    int order = w->keys == 0 ? 1 : kv_slice_compare(s->key, before);
    CHECK(w->keys == 0 || (backwards ? order < 0 : order > 0));
    w->len = s->key.len;
    memcpy(w->key, s->key.at, s->key.len);
    w->keys++;
    uint64_t msn = s->message.msn;
    for (w->messages++; s->ops->older(s) == 1; w->messages++) {
        CHECK(s->message.msn < msn);
        msn = s->message.msn;
    }
}

static void check_found(struct tree_node_source *finder, const struct walk *w)
{
    struct tree_source *s = &finder->base;
    struct tree_range range;
    struct kv_slice key = kv_slice_of(w->key, w->len);
    CHECK(s->ops->find(s, key) == 1);
    CHECK(s->ops->covering(s, key, &range) == 0);
    CHECK(kv_slice_compare(range.low, key) <= 0);
    CHECK(range.high.len == 0 || kv_slice_compare(key, range.high) < 0);
}

static void check_ranges(struct tree_source *s)
{
    struct tree_range range, at;
    struct kv_slice from = kv_slice_of(NULL, 0);
    while (s->ops->range(s, from, &range) == 1) {
        CHECK(kv_slice_compare(range.low, range.high) < 0);
        CHECK(kv_slice_compare(from, range.low) <= 0);
        CHECK(s->ops->covering(s, range.low, &at) == 0 && at.msn == range.msn);
        from = range.high;
    }
}

/* `finder` is another source over the same. */
static void check_source(struct tree_node_source *source, struct tree_node_source *finder)
{
    const struct tree_node_header *n = &source->head->header;
    struct tree_source *s = &source->base;
    struct walk there = {0}, back = {0};
    size_t entries = 0;
    for (uint32_t i = source->first; i < source->first + source->count; i++) {
        entries += n->partition[i].entries;
    }
    int rc = s->ops->seek(s, kv_slice_of(NULL, 0));
    for (; rc == 1; rc = s->ops->next(s)) {
        walk_stand(&there, s, false);
        check_found(finder, &there);
    }
    CHECK(rc == 0 && there.messages == entries);
    rc = s->ops->seek_back(s, kv_slice_of(NULL, 0));
    for (; rc == 1; rc = s->ops->prev(s)) {
        walk_stand(&back, s, true);
    }
    CHECK(rc == 0 && back.messages == entries && back.keys == there.keys);
    check_ranges(s);
}

static void check_sources(const struct tree_head *h)
{
    const struct tree_need_from from = {0}; /* everything is there */
    const struct tree_node_at at = {.head = h, .block = h->header.block};
    struct tree_node_source s, finder;
    uint8_t run[256];
    if (h->header.level == 0) {
        tree_node_source_leaf(&s, &from, &at);
        tree_node_source_leaf(&finder, &from, &at);
        check_source(&s, &finder);
        tree_node_source_fini(&s);
        tree_node_source_fini(&finder);
        return;
    }
    for (uint16_t slot = 0; slot < h->header.slots; slot++) {
        unsigned count = tree_head_runs(h, slot, run);
        CHECK((count > 0) == (tree_head_slot_bytes(h, slot) > 0));
        for (unsigned i = 0; i < count; i++) {
            tree_node_source_run(&s, &from, &at, slot, run[i]);
            tree_node_source_run(&finder, &from, &at, slot, run[i]);
            check_source(&s, &finder);
            tree_node_source_fini(&s);
            tree_node_source_fini(&finder);
        }
    }
}

/* ---- reading ---- */

/* Puts the bytes of all parts there. The rest of a file is taken for the older extents. */
static int fill_parts(struct tree_head *h, struct tree_codec *c, struct open_rig_bytes bytes)
{
    const struct tree_node_header *n = &h->header;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *p = &n->partition[i];
        struct kv_slice from = p->extent == 0 ? bytes.own : bytes.older;
        if (p->offset > from.len || p->packed_len > from.len - p->offset) {
            return -ERR_short_msg;
        }
        uint8_t *raw = tree_cache_get(h->cache, p->raw_len);
        CHECK(raw != NULL);
        int rc = tree_node_unpack(n, i, (const uint8_t *)from.at + p->offset, c, raw);
        rc = rc < 0 ? rc : open_rig_raw(n, i, &h->pivots, raw);
        if (rc < 0) {
            tree_cache_put(h->cache, raw, p->raw_len);
            return rc;
        }
        tree_cache_force(h->cache, p->raw_len);
        CHECK(tree_part_fill(h->part[i], raw));
    }
    return 0;
}

static void read_head(struct tree_cache *cache, uint8_t *bytes, size_t size, struct tree_codec *c)
{
    struct tree_node_probe p;
    struct tree_head *h = NULL;
    struct err e = {0};
    if (tree_node_probe(bytes, size, &p) < 0) {
        return;
    }
    struct tree_node_expect x = {
        .file_id = p.file_id, .block = p.block, .birth = p.birth, .sum = p.sum};
    struct tree_head_read r = {
        .cache = cache, .bytes = bytes, .len = size, .expect = &x, .codec = c};
    int rc = tree_head_decode(&r, &h, &e);
    CHECK(rc == 0 || (err_is(rc, ERR_corrupt) && e.text[0] != 0));
    if (rc < 0) {
        return;
    }
    size_t own = base_min(h->header.total_len, size);
    const struct open_rig_bytes parts = {.own = kv_slice_of(bytes, own),
                                         .older = kv_slice_of(bytes + own, size - own)};
    uint64_t raw = 0;
    for (uint32_t i = 0; i < h->header.partition_count; i++) {
        raw += h->header.partition[i].raw_len;
    }
    if (raw <= RAW_MAX && fill_parts(h, c, parts) == 0) {
        check_sources(h);
    }
    tree_head_unref(h);
}

/* Its memory is made once: that costs more than most inputs. */
static struct tree_codec *codec_once(void)
{
    static struct tree_codec c;
    if (c.unpacker == NULL) {
        CHECK(tree_codec_init(&c, NULL) == 0);
    }
    return &c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tree_cache *cache = NULL;
    struct tree_cache_options opt = {.limit_bytes = 16u << 20};
    struct tree_node_probe p;
    if (size < TREE_NODE_FIXED_BYTES + 8 || size > FUZZ_MAX) {
        return 0;
    }
    uint8_t *bytes = mem_dup(data, size);
    CHECK(bytes != NULL && tree_cache_new(&opt, &cache) == 0);
    read_head(cache, bytes, size, codec_once());
    fix_rig_header_len(bytes, size);
    int rc = tree_node_probe(bytes, size, &p);
    if (rc == 0 || rc == -ERR_bad_crc) {
        fix_rig_sums(bytes, size, &p, (size_t)base_min(p.total_len, size));
        read_head(cache, bytes, size, codec_once());
    }
    tree_cache_free(cache); /* CHECKs that all was given back */
    mem_free(bytes);
    return 0;
}
