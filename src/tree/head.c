#include "tree/head.h"

#include <string.h>

#include "base/mem.h"

/*
 * A head is charged as a whole once it is complete, so that one that failed half-way has nothing to
 * give back. Its parts are charged by themselves, as several heads may share them.
 */

static struct tree_head *head_new(struct tree_cache *cache)
{
    struct tree_head *h = mem_zalloc(sizeof *h);
    if (h != NULL) {
        atomic_init(&h->refs, 1);
        atomic_init(&h->turns, 1);
        h->cache = cache;
    }
    return h;
}

struct tree_head *tree_head_ref(struct tree_head *h)
{
    atomic_fetch_add_explicit(&h->refs, 1, memory_order_relaxed);
    return h;
}

static void head_free(struct tree_head *h)
{
    for (uint32_t i = 0; h->part != NULL && i < h->header.partition_count; i++) {
        tree_part_unref(h->part[i]);
    }
    tree_node_fini(&h->header);
    mem_free(h->part);
    tree_cache_put(h->cache, h->pivot_bytes, h->pivot_room);
    tree_cache_put(h->cache, h->filter_bytes, h->filter_len);
    if (h->charged > 0) {
        tree_cache_give(h->cache, h->charged);
    }
    mem_free(h);
}

struct tree_head *tree_head_unref(struct tree_head *h)
{
    if (h != NULL && atomic_fetch_sub_explicit(&h->refs, 1, memory_order_acq_rel) == 1) {
        head_free(h);
    }
    return NULL;
}

/* `slots` elements are allocated in the arrays of parts. */
static void head_charge(struct tree_head *h, size_t slots)
{
    h->charged = sizeof *h + h->pivot_room + h->filter_len +
                 slots * (sizeof h->header.partition[0] + sizeof(struct tree_part *)) +
                 h->header.extent_count * sizeof h->header.extent[0];
    tree_cache_force(h->cache, h->charged);
}

/* What a reader asks of every node on its way, found once. Filters are the last kind. */
static void head_note(struct tree_head *h)
{
    const struct tree_node_header *n = &h->header;
    uint32_t ranges = tree_node_find(n, TREE_PARTITION_RANGES, 0, 0);
    h->leaf_filter = tree_node_find(n, TREE_PARTITION_FILTER, TREE_SLOT_ALL, 0);
    h->has_ranges =
        ranges < n->partition_count && n->partition[ranges].kind == TREE_PARTITION_RANGES;
}

/* ---- building ---- */

void tree_head_builder_init(struct tree_head_builder *b, struct tree_cache *cache)
{
    *b = (struct tree_head_builder){.cache = cache};
}

void tree_head_builder_fini(struct tree_head_builder *b)
{
    for (uint32_t i = 0; i < b->header.partition_count; i++) {
        tree_part_unref(b->part[i]);
    }
    tree_node_fini(&b->header);
    mem_free(b->part);
    mem_free(b->cut);
    *b = (struct tree_head_builder){.cache = b->cache};
}

static int builder_grow(struct tree_head_builder *b, bool cut)
{
    size_t count = b->header.partition_count;
    if (b->rc < 0 || count == TREE_PARTITIONS_MAX) {
        return b->rc < 0 ? b->rc : -E2BIG;
    }
    int rc = mem_grow(&b->header.partition, &b->partition_capacity, count + 1,
                      sizeof b->header.partition[0]);
    if (rc == 0) {
        rc = mem_grow(&b->part, &b->part_capacity, count + 1, sizeof(struct tree_part *));
    }
    if (rc == 0 && cut) {
        rc = mem_grow(&b->cut, &b->cut_capacity, b->cut_count + 1, sizeof b->cut[0]);
    }
    return rc;
}

/* Order of the table: node.h. */
static uint32_t builder_rank(const struct tree_partition *p)
{
    return (uint32_t)p->kind << 24 | (uint32_t)p->slot << 8 | p->run;
}

/* All keys of a part that is in memory are on this side of a cut. */
static void builder_check_cut(struct tree_part *p, struct kv_slice cut, bool below)
{
    if (tree_part_pin(p)) {
        struct tree_block block = tree_block_view(p->bytes);
        bool equal = false;
        uint32_t i = tree_block_lower(&block, cut, &equal);
        CHECK(i == (below ? block.count : 0));
        tree_part_unpin(p);
    }
}

void tree_head_builder_add(struct tree_head_builder *b, struct tree_part *p,
                           const struct tree_head_add *a)
{
    bool more = a->cut.len > 0;
    CHECK(p->kind == a->kind && p->raw_len > 0 && p->entries > 0);
    b->rc = builder_grow(b, more);
    if (b->rc < 0) {
        return;
    }
    uint32_t i = b->header.partition_count;
    struct tree_partition *to = &b->header.partition[i];
    *to = (struct tree_partition){.kind = a->kind,
                                  .run = a->run,
                                  .slot = a->slot,
                                  .raw_len = p->raw_len,
                                  .entries = p->entries};
    if (more) {
        CHECK(i > 0 && a->kind == TREE_PARTITION_RUN && builder_rank(to - 1) == builder_rank(to));
        to->flags = TREE_PARTITION_MORE;
        to->cut = (uint16_t)b->cut_count;
        b->cut[b->cut_count++] = a->cut;
        builder_check_cut(b->part[i - 1], a->cut, true);
        builder_check_cut(p, a->cut, false);
    } else {
        CHECK(i == 0 || builder_rank(to - 1) < builder_rank(to));
    }
    b->part[i] = tree_part_ref(p);
    b->header.partition_count++;
}

/* What a node of this kind may have at all. */
static void builder_check(const struct tree_head_builder *b, const struct tree_pivots_source *s)
{
    bool leaf = b->header.level == 0;
    uint32_t basements = 0;
    CHECK((s->child == NULL) == leaf && (leaf || s->slots > 0));
    for (uint32_t i = 0; i < b->header.partition_count; i++) {
        const struct tree_partition *p = &b->header.partition[i];
        bool filter = p->kind == TREE_PARTITION_FILTER;
        bool fits = filter || (p->kind == TREE_PARTITION_LEAF) == leaf;
        CHECK(fits && (p->slot < s->slots || (filter && p->slot == TREE_SLOT_ALL)));
        basements += p->kind == TREE_PARTITION_LEAF ? 1 : 0;
    }
    CHECK(basements == (leaf ? s->slots : 0));
}

/* -E2BIG: it would not fit into a node if nothing of it shrank when it is packed. */
static int builder_count(struct tree_head_builder *b, const struct tree_pivots_source *s,
                         size_t filter_len)
{
    struct tree_node_header *n = &b->header;
    size_t pivots = tree_pivots_bound(s);
    uint64_t end = TREE_NODE_HEADER_MAX + tree_codec_bound(pivots) + filter_len;
    n->raw_bytes = 0;
    n->entries = 0;
    for (uint32_t i = 0; i < n->partition_count; i++) {
        const struct tree_partition *p = &n->partition[i];
        end += tree_codec_bound(p->raw_len);
        n->raw_bytes += p->kind != TREE_PARTITION_FILTER ? p->raw_len : 0;
        n->entries += p->kind <= TREE_PARTITION_RUN ? p->entries : 0;
    }
    bool fits = pivots <= TREE_RAW_MAX && filter_len <= TREE_RAW_MAX && end <= TREE_NODE_MAX;
    return fits ? 0 : -E2BIG;
}

/* A head with pivots and nothing else. */
static int builder_new(struct tree_head_builder *b, const struct tree_pivots_source *s,
                       struct tree_head **ret)
{
    struct tree_head *h = head_new(b->cache);
    size_t len = 0;
    int rc = h == NULL ? -ENOMEM : 0;
    if (rc == 0) {
        h->pivot_room = tree_pivots_bound(s);
        h->pivot_bytes = tree_cache_get(h->cache, h->pivot_room);
        rc = h->pivot_bytes == NULL ? -ENOMEM : tree_pivots_encode(s, h->pivot_bytes, &len);
    }
    if (rc < 0) {
        tree_head_unref(h);
        return rc;
    }
    b->header.slots = s->slots;
    b->header.low_print = tree_fingerprint(s->low);
    b->header.high_print = tree_fingerprint(s->high);
    b->header.pivots.raw_len = (uint32_t)len;
    *ret = h;
    return 0;
}

int tree_head_builder_finish(struct tree_head_builder *b, struct tree_pivots_source *s,
                             uint8_t *filter, size_t filter_len, struct tree_head **ret)
{
    struct tree_head *h = NULL;
    s->cut = b->cut;
    s->cuts = (uint16_t)b->cut_count;
    CHECK((filter == NULL) == (filter_len == 0));
    int rc = b->rc == 0 && s->slots > TREE_PARTITIONS_MAX ? -E2BIG : b->rc;
    if (rc == 0) {
        builder_check(b, s);
        rc = builder_count(b, s, filter_len);
    }
    rc = rc == 0 ? builder_new(b, s, &h) : rc;
    if (rc != 0) {
        tree_cache_put(b->cache, filter, filter_len);
        return rc;
    }
    h->header = b->header; /* and its arrays */
    h->part = b->part;
    if (filter != NULL) {
        CHECK(filter_len > TREE_FILTER_HEADER_BYTES);
        h->filter_bytes = filter;
        h->filter_len = filter_len;
        h->filter = tree_filter_view(filter);
        h->header.filter.kind = h->filter.kind;
        h->header.filter.len = (uint32_t)filter_len;
    }
    CHECK(tree_pivots_open(h->pivot_bytes, h->header.pivots.raw_len, &h->header, &h->pivots) == 0);
    head_note(h);
    head_charge(h, b->partition_capacity);
    b->header = (struct tree_node_header){0};
    b->part = NULL;
    tree_head_builder_fini(b);
    *ret = h;
    return 0;
}

/* ---- reading ---- */

/* The ends were checked against each other by tree_node_decode(), but not against what is here. */
static int head_read_pivots(struct tree_head *h, const struct tree_head_read *r)
{
    const struct tree_node_header *n = &h->header;
    if (r->len - n->header_len < n->pivots.packed_len) {
        return -ERR_short_msg;
    }
    h->pivot_room = n->pivots.raw_len;
    h->pivot_bytes = tree_cache_get(h->cache, h->pivot_room);
    if (h->pivot_bytes == NULL) {
        return -ENOMEM;
    }
    int rc = tree_node_unpack_pivots(n, r->bytes + n->pivots.offset, r->codec, h->pivot_bytes);
    return rc < 0 ? rc : tree_pivots_open(h->pivot_bytes, n->pivots.raw_len, n, &h->pivots);
}

static int head_read_filter(struct tree_head *h, const struct tree_head_read *r)
{
    const struct tree_node_header *n = &h->header;
    if (n->filter.kind == TREE_FILTER_NONE) {
        return 0;
    }
    if (r->len < n->filter.offset || r->len - n->filter.offset < n->filter.len) {
        return -ERR_short_msg;
    }
    h->filter_len = n->filter.len;
    h->filter_bytes = tree_cache_get(h->cache, h->filter_len);
    if (h->filter_bytes == NULL) {
        return -ENOMEM;
    }
    memcpy(h->filter_bytes, r->bytes + n->filter.offset, n->filter.len);
    int rc = tree_filter_open(h->filter_bytes, h->filter_len, tree_node_seed(n, 0), &h->filter);
    return rc == 0 && h->filter.kind != n->filter.kind ? -ERR_bad_value : rc;
}

/* An absent part with its place. */
static int head_make_part(struct tree_head *h, uint64_t extent_offset, uint32_t i)
{
    const struct tree_node_header *n = &h->header;
    const struct tree_partition *p = &n->partition[i];
    struct tree_part_place place = {.block = n->block,
                                    .version = n->version,
                                    .extent = extent_offset,
                                    .birth = n->birth,
                                    .extent_len = n->total_len,
                                    .offset = p->offset,
                                    .packed_len = p->packed_len,
                                    .sum = p->sum};
    if (p->extent > 0) {
        const struct tree_extent *x = &n->extent[p->extent - 1];
        place.extent = x->offset;
        place.birth = x->birth;
        place.extent_len = x->len;
    }
    if (place.birth == 0) {
        return -ERR_bad_value; /* that would mean that it is nowhere */
    }
    struct tree_part_options opt = {.cache = h->cache,
                                    .kind = p->kind,
                                    .raw_len = p->raw_len,
                                    .entries = p->entries,
                                    .place = &place};
    return tree_part_new(&opt, &h->part[i]);
}

static int head_make_parts(struct tree_head *h, uint64_t extent_offset)
{
    h->part = mem_calloc(h->header.partition_count + 1u, sizeof(struct tree_part *));
    int rc = h->part == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < h->header.partition_count && rc == 0; i++) {
        const struct tree_partition *p = &h->header.partition[i];
        if (p->kind == TREE_PARTITION_RANGES && p->slot == TREE_SLOT_ALL) {
            return -ERR_bad_version; /* sound, but not ours: of which run are they? */
        }
        rc = head_make_part(h, extent_offset, i);
    }
    return rc;
}

static int head_read(struct tree_head *h, const struct tree_head_read *r, const char **ret_what)
{
    *ret_what = "header";
    int rc = tree_node_decode(r->bytes, r->len, r->expect, &h->header);
    if (rc == 0) {
        *ret_what = "pivots";
        rc = head_read_pivots(h, r);
    }
    if (rc == 0) {
        *ret_what = "filter";
        rc = head_read_filter(h, r);
    }
    if (rc == 0) {
        *ret_what = "table of partitions";
        rc = head_make_parts(h, r->extent_offset);
    }
    return rc;
}

int tree_head_decode(const struct tree_head_read *r, struct tree_head **ret, struct err *e)
{
    const char *what = NULL;
    struct tree_head *h = head_new(r->cache);
    if (h == NULL) {
        return -ENOMEM;
    }
    int rc = head_read(h, r, &what);
    if (rc < 0) {
        tree_head_unref(h);
        return rc == -ENOMEM ? rc
                             : err_set(e, rc, "node %llu at byte %llu, born %llu: its %s",
                                       (unsigned long long)r->expect->block,
                                       (unsigned long long)r->extent_offset,
                                       (unsigned long long)r->expect->birth, what);
    }
    head_note(h);
    head_charge(h, h->header.partition_count + 1u);
    *ret = h;
    return 0;
}

/* ---- asking ---- */

/* The run of the last partition before `end` if that is of this kind and slot; else -1. */
static int run_before(const struct tree_node_header *n, uint32_t end, uint8_t kind, uint16_t slot)
{
    if (end == 0) {
        return -1;
    }
    const struct tree_partition *p = &n->partition[end - 1];
    return p->kind == kind && p->slot == slot ? p->run : -1;
}

unsigned tree_head_runs(const struct tree_head *h, uint16_t slot, uint8_t ret[256])
{
    const struct tree_node_header *n = &h->header;
    CHECK(slot < n->slots);
    uint32_t runs = tree_node_find(n, TREE_PARTITION_RUN, slot + 1, 0);
    uint32_t ranges = tree_node_find(n, TREE_PARTITION_RANGES, slot + 1, 0);
    unsigned count = 0;
    for (;;) {
        int run = run_before(n, runs, TREE_PARTITION_RUN, slot);
        int range = run_before(n, ranges, TREE_PARTITION_RANGES, slot);
        int greater = run > range ? run : range;
        if (greater < 0) {
            return count;
        }
        if (count == 0 || ret[count - 1] != greater) { /* a run may have several partitions */
            ret[count++] = (uint8_t)greater;
        }
        runs -= run == greater ? 1 : 0;
        ranges -= range == greater ? 1 : 0;
    }
}

uint64_t tree_head_slot_bytes(const struct tree_head *h, uint16_t slot)
{
    const struct tree_node_header *n = &h->header;
    uint64_t bytes = 0;
    for (unsigned kind = TREE_PARTITION_RUN; kind <= TREE_PARTITION_RANGES; kind++) {
        uint32_t i = tree_node_find(n, (enum tree_partition_kind)kind, slot, 0);
        for (; i < n->partition_count; i++) {
            if (n->partition[i].kind != kind || n->partition[i].slot != slot) {
                break;
            }
            bytes += n->partition[i].raw_len;
        }
    }
    return bytes;
}
