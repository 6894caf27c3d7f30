/*
 * tree/rebuild_mend.c -- nodes of the new file that are made: a damaged one without its damaged
 * partitions, and ones in place of what is lost. All in one extent behind the old file, with the
 * block and, for a mended one, the birth of the old: so packed bytes keep their form, and only what
 * comes from older extents gets another checksum.
 */
#include "tree/rebuild_priv.h"

#include "base/mem.h"

#include <string.h>

/* A node in the making. */
struct mend {
    struct rebuild *r;
    const uint64_t *child; /* of the new node; NULL: those of the old one */
    struct tree_node_header header;
    uint8_t *body; /* packed partitions in the order of the table */
    size_t body_len, body_capacity;
    const uint8_t *filter;
};

/* Header, pivots, filter and partitions as one extent, at a new place, with an entry. */
static int mend_write(struct mend *m, const struct tree_pivots_source *s)
{
    struct tree_node_header *h = &m->header;
    struct rebuild *r = m->r;
    size_t raw_len = 0, bound = tree_pivots_bound(s);
    uint64_t offset = 0;
    CLEANUP(mem_freep) uint8_t *raw = mem_alloc(bound);
    CLEANUP(mem_freep) uint8_t *packed = mem_alloc(tree_codec_bound(bound));
    if (raw == NULL || packed == NULL) {
        return -ENOMEM;
    }
    int rc = tree_pivots_encode(s, raw, &raw_len);
    if (rc < 0) {
        return rc;
    }
    h->slots = s->slots;
    h->low_print = tree_fingerprint(s->low);
    h->high_print = tree_fingerprint(s->high);
    h->pivots.raw_len = (uint32_t)raw_len;
    h->pivots.packed_len =
        (uint32_t)tree_codec_pack(&r->packer, TREE_CODEC_LZ4, raw, raw_len, packed);
    h->pivots.sum = tree_node_sum(h, h->birth, packed, h->pivots.packed_len);
    rc = tree_node_layout(h);
    CLEANUP(mem_freep) uint8_t *bytes = rc < 0 ? NULL : mem_zalloc(h->total_len);
    if (rc < 0 || bytes == NULL) {
        return rc < 0 ? rc : -ENOMEM;
    }
    uint64_t sum = tree_node_encode(h, bytes);
    uint8_t *at = bytes + h->pivots.offset;
    memcpy(at, packed, h->pivots.packed_len);
    at += h->pivots.packed_len;
    if (h->filter.len > 0) {
        memcpy(at, m->filter, h->filter.len);
        at += h->filter.len;
    }
    memcpy(at, m->body_len > 0 ? m->body : bytes, m->body_len);
    rc = tree_rebuild_append(r, bytes, h->total_len, &offset);
    struct tree_btt_entry e = {
        .kind = TREE_BTT_NODE,
        .level = h->level,
        .units = (uint16_t)(h->total_len / TREE_UNIT),
        .header_len = (uint32_t)base_align_up((uint64_t)(at - bytes), TREE_BTT_HEADER_UNIT),
        .unit = offset / TREE_UNIT,
        .checksum = sum,
        .birth = h->birth};
    return rc < 0 ? rc : tree_rebuild_entry(r, h->block, &e);
}

/* ---- without damaged partitions ---- */

/* A filter has its seed inside; those of single slots may not fit any more. */
static bool mend_wants(const struct tree_partition *p, bool damaged)
{
    bool filter = p->kind == TREE_PARTITION_FILTER;
    return !damaged && (!filter || (p->extent == 0 && p->slot == TREE_SLOT_ALL));
}

static bool mend_goes_on(const struct mend *m, const struct tree_partition *p)
{
    const struct tree_node_header *h = &m->header;
    const struct tree_partition *before =
        h->partition_count > 0 ? &h->partition[h->partition_count - 1] : NULL;
    return p->flags == TREE_PARTITION_MORE && before != NULL && before->kind == p->kind &&
           before->slot == p->slot && before->run == p->run;
}

static int mend_add(struct mend *m, const struct tree_look_node *n, uint32_t i)
{
    const struct tree_partition *p = &n->header.partition[i];
    struct tree_partition *to = &m->header.partition[m->header.partition_count];
    int rc = mem_grow(&m->body, &m->body_capacity, m->body_len + p->packed_len, 1);
    rc = rc < 0 ? rc
                : tree_look_read(&m->r->look, tree_look_part_offset(n, i), m->body + m->body_len,
                                 p->packed_len);
    if (rc < 0) {
        return rc;
    }
    bool more = mend_goes_on(m, p);
    *to = *p;
    to->extent = 0;
    to->flags = more ? TREE_PARTITION_MORE : 0;
    to->sum = tree_node_sum(&m->header, m->header.birth, m->body + m->body_len, p->packed_len);
    m->body_len += p->packed_len;
    m->header.partition_count++;
    return 0;
}

/* What a mended node's pivots are made of. */
struct mend_keys {
    struct kv_slice *pivot, *cut;
    uint64_t *child;
    uint8_t *bytes; /* of pivots */
    size_t used;
};

static struct kv_slice mend_key(struct mend_keys *k, struct kv_slice key)
{
    uint8_t *to = k->bytes + k->used;
    memcpy(to, key.len > 0 ? key.at : "", key.len);
    k->used += key.len;
    return kv_slice_of(to, key.len);
}

/* Slot of the old node as the next one of the new. */
static void mend_slot(struct mend_keys *k, const struct tree_look_node *n, uint16_t slot,
                      struct tree_pivots_source *s)
{
    struct tree_pivots_bounds bounds;
    tree_pivots_bounds(&n->pivots, slot, &bounds);
    if (s->slots > 0) {
        k->pivot[s->slots - 1] = mend_key(k, bounds.low);
    }
    if (n->header.level > 0) {
        k->child[s->slots] = tree_pivots_child(&n->pivots, slot);
    }
    s->slots++;
}

static int mend_parts(struct mend *m, const struct tree_look_node *n, const bool *without,
                      struct mend_keys *k, struct tree_pivots_source *s)
{
    const struct tree_node_header *h = &n->header;
    for (uint32_t i = 0; h->level > 0 && i < h->slots; i++) {
        mend_slot(k, n, (uint16_t)i, s);
        k->child[i] = m->child != NULL ? m->child[i] : k->child[i];
    }
    for (uint32_t i = 0; i < h->partition_count; i++) {
        const struct tree_partition *p = &h->partition[i];
        if (!mend_wants(p, without[i])) {
            continue;
        }
        int rc = mend_add(m, n, i);
        if (rc < 0) {
            return rc;
        }
        struct tree_partition *to = &m->header.partition[m->header.partition_count - 1];
        if (p->kind == TREE_PARTITION_LEAF) { /* the one before takes the keys of a lost one */
            to->slot = s->slots;
            mend_slot(k, n, p->slot, s);
        }
        if (to->flags == TREE_PARTITION_MORE) {
            k->cut[s->cuts++] = tree_pivots_cut(&n->pivots, p->cut);
        }
    }
    return 0;
}

static int mend_run(struct mend *m, const struct tree_look_node *n, const bool *without)
{
    const struct tree_node_header *h = &n->header;
    CLEANUP(mem_freep) struct kv_slice *pivot = mem_calloc(h->slots + 1u, sizeof *pivot);
    CLEANUP(mem_freep) struct kv_slice *cut = mem_calloc(h->partition_count + 1u, sizeof *cut);
    CLEANUP(mem_freep) uint64_t *child = mem_calloc(h->slots + 1u, sizeof *child);
    CLEANUP(mem_freep) uint8_t *bytes = mem_alloc((h->slots + 1u) * (size_t)TREE_KEY_MAX);
    CLEANUP(mem_freep)
    struct tree_partition *part = mem_calloc(h->partition_count + 1u, sizeof *part);
    if (pivot == NULL || cut == NULL || child == NULL || bytes == NULL || part == NULL) {
        return -ENOMEM;
    }
    struct mend_keys k = {.pivot = pivot, .cut = cut, .child = child, .bytes = bytes};
    struct tree_pivots_source s = {.low = n->pivots.low,
                                   .high = n->pivots.high,
                                   .pivot = pivot,
                                   .child = h->level > 0 ? child : NULL,
                                   .cut = cut};
    m->header.partition = part;
    int rc = mend_parts(m, n, without, &k, &s);
    return rc < 0 ? rc : mend_write(m, &s);
}

int tree_rebuild_mend(struct rebuild *r, const struct rebuild_frame *f, const bool *without)
{
    const struct tree_look_node *n = &f->node;
    struct mend m = {.r = r, .child = f->child, .header = n->header, .filter = n->filter_bytes};
    m.header.partition_count = 0;
    m.header.extent_count = 0;
    m.header.extent = NULL;
    if (n->filter_rc < 0) {
        m.header.filter.kind = TREE_FILTER_NONE;
        m.header.filter.len = 0;
    }
    int rc = mend_run(&m, n, without);
    mem_free(m.body);
    return rc;
}

/* ---- from nothing ---- */

static int mend_new(struct rebuild *r, const struct rebuild_way *way,
                    const struct tree_pivots_source *s)
{
    struct mend m = {.r = r,
                     .header = {.block = way->block,
                                .birth = r->super.checkpoint,
                                .version = r->super.tree_version,
                                .codec = TREE_CODEC_LZ4,
                                .level = way->level}};
    memcpy(m.header.file_id, r->super.file_id, sizeof m.header.file_id);
    r->result->made++;
    return mend_write(&m, s);
}

int tree_rebuild_leaf(struct rebuild *r, const struct rebuild_way *way)
{
    struct tree_pivots_source s = {.low = way->low, .high = way->high};
    return mend_new(r, way, &s);
}

int tree_rebuild_internal(struct rebuild *r, const struct rebuild_way *way,
                          const struct tree_pivots_source *s)
{
    return mend_new(r, way, s);
}
