/*
 * tree/rebuild_hole.c -- what stands in the place of a node that is lost. For a leaf one without
 * records. For an internal node one over those of its children that are found by their fences: what
 * lies between them is lost in turn.
 */
#include "tree/rebuild_priv.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void hole_tell(struct rebuild *r, const struct rebuild_way *way, size_t found)
{
    struct err e = {0};
    struct tree_finding f = tree_rebuild_finding(TREE_FINDING_DAMAGE, "node");
    if (way->level == 0) {
        tree_finding_text(e.text, "lost: a leaf with all its records");
    } else {
        tree_finding_text(
            e.text,
            "lost: an internal node of level %u with all messages it had for %zu children that "
            "are found",
            way->level, found);
    }
    f.block = way->block;
    f.text = e.text;
    f.ranged = true;
    f.low = way->low;
    f.high = way->high;
    tree_rebuild_tell(r, &f);
}

int tree_rebuild_lose(struct rebuild *r, const struct rebuild_way *way)
{
    if (way->level == 0) {
        hole_tell(r, way, 0);
        return tree_rebuild_leaf(r, way);
    }
    int rc = mem_grow(&r->hole, &r->hole_capacity, r->hole_count + 1, sizeof *r->hole);
    if (rc < 0) {
        return rc;
    }
    struct rebuild_hole *h = &r->hole[r->hole_count++];
    h->block = way->block;
    h->level = way->level;
    h->low_len = way->low.len;
    h->high_len = way->high.len;
    memcpy(h->low, h->low_len > 0 ? way->low.at : "", h->low_len);
    memcpy(h->high, h->high_len > 0 ? way->high.at : "", h->high_len);
    return 0;
}

/* ---- nodes without a way to them ---- */

static struct kv_slice spare_low(const struct rebuild_spare *s)
{
    return kv_slice_of(s->keys, s->low_len);
}
static struct kv_slice spare_high(const struct rebuild_spare *s)
{
    return kv_slice_of(s->keys + s->low_len, s->high_len);
}

static int spare_add(struct rebuild *r, uint64_t block)
{
    struct rebuild_way way = {.block = block, .level = UINT8_MAX};
    struct tree_look_node n;
    bool older = false;
    int rc = tree_rebuild_has(r, block) ? -ENOENT : tree_rebuild_find(r, &way, &n, &older);
    if (rc < 0) {
        return rc == -ENOMEM ? rc : 0;
    }
    rc = mem_grow(&r->spare, &r->spare_capacity, r->spare_count + 1, sizeof *r->spare);
    struct rebuild_spare s = {.block = block,
                              .version = n.header.version,
                              .level = n.header.level,
                              .low_len = n.pivots.low.len,
                              .high_len = n.pivots.high.len};
    s.keys = rc < 0 ? NULL : mem_alloc(s.low_len + s.high_len + 1);
    if (s.keys != NULL) {
        memcpy(s.keys, s.low_len > 0 ? n.pivots.low.at : "", s.low_len);
        memcpy(s.keys + s.low_len, s.high_len > 0 ? n.pivots.high.at : "", s.high_len);
        r->spare[r->spare_count++] = s;
    }
    tree_look_node_fini(&n);
    return s.keys == NULL ? -ENOMEM : 0;
}

/* Those of the left come first, of the same place the newest. */
static int spare_order(const void *left, const void *right)
{
    const struct rebuild_spare *a = left, *b = right;
    if (a->level != b->level) {
        return a->level < b->level ? -1 : 1;
    }
    int order = kv_slice_compare(spare_low(a), spare_low(b));
    return order != 0 ? order : (a->version < b->version) - (a->version > b->version);
}

static int spares_find(struct rebuild *r)
{
    int rc = 0;
    if (r->spares_known) {
        return 0;
    }
    r->spares_known = true;
    for (uint64_t block = 1; block < tree_look_blocks(&r->table) && rc == 0; block++) {
        rc = tree_look_knows(&r->table, block) ? spare_add(r, block) : 0;
    }
    for (size_t i = 0; i < r->seen_count && rc == 0; i++) {
        uint64_t block = r->seen[i].block;
        bool again = i > 0 && r->seen[i - 1].block == block;
        rc = again || tree_look_knows(&r->table, block) ? 0 : spare_add(r, block);
    }
    if (rc == 0 && r->spare_count > 0) {
        qsort(r->spare, r->spare_count, sizeof *r->spare, spare_order);
    }
    return rc;
}

void tree_rebuild_holes_fini(struct rebuild *r)
{
    for (size_t i = 0; i < r->spare_count; i++) {
        mem_free(r->spare[i].keys);
    }
    mem_freep(&r->spare);
    mem_freep(&r->hole);
}

/* ---- filling ---- */

/* The children of a hole, from the left to the right. */
struct hole_fill {
    struct rebuild *r;
    struct rebuild_way way; /* of the hole */
    struct kv_slice *low;   /* of each child */
    uint64_t *child;
    size_t *spare; /* which one it is, SIZE_MAX: a hole in turn */
    size_t count, found, capacity_low, capacity_child, capacity_spare;
};

static int fill_add(struct hole_fill *f, struct kv_slice low, size_t spare)
{
    int rc = mem_grow(&f->low, &f->capacity_low, f->count + 1, sizeof *f->low);
    rc = rc < 0 ? rc : mem_grow(&f->child, &f->capacity_child, f->count + 1, sizeof *f->child);
    rc = rc < 0 ? rc : mem_grow(&f->spare, &f->capacity_spare, f->count + 1, sizeof *f->spare);
    if (rc < 0 || f->count + 1 > TREE_PARTITIONS_MAX) {
        return rc < 0 ? rc : -E2BIG;
    }
    f->low[f->count] = low;
    f->child[f->count] = spare == SIZE_MAX ? f->r->next_block++ : f->r->spare[spare].block;
    f->spare[f->count++] = spare;
    f->found += spare == SIZE_MAX ? 0 : 1;
    return 0;
}

static bool fill_fits(const struct hole_fill *f, const struct rebuild_spare *s,
                      struct kv_slice from)
{
    struct kv_slice high = f->way.high;
    bool begins = kv_slice_compare(from, spare_low(s)) <= 0;
    bool ends = high.len == 0 || (s->high_len > 0 && kv_slice_compare(spare_high(s), high) <= 0);
    return s->level + 1u == f->way.level && begins && ends && !tree_rebuild_has(f->r, s->block);
}

static int fill_choose(struct hole_fill *f)
{
    struct kv_slice from = f->way.low; /* everything below has a child */
    bool over = false;
    int rc = 0;
    for (size_t i = 0; i < f->r->spare_count && rc == 0 && !over; i++) {
        const struct rebuild_spare *s = &f->r->spare[i];
        if (!fill_fits(f, s, from)) {
            continue;
        }
        if (kv_slice_compare(from, spare_low(s)) < 0) {
            rc = fill_add(f, from, SIZE_MAX);
        }
        rc = rc < 0 ? rc : fill_add(f, spare_low(s), i);
        from = spare_high(s);
        over = from.len == 0 || (f->way.high.len > 0 && kv_slice_compare(from, f->way.high) == 0);
    }
    return rc < 0 || over ? rc : fill_add(f, from, SIZE_MAX);
}

static int fill_children(struct hole_fill *f)
{
    int rc = 0;
    for (size_t i = 0; i < f->count && rc == 0; i++) {
        struct rebuild_way way = {.block = f->child[i],
                                  .level = (uint8_t)(f->way.level - 1),
                                  .low = f->low[i],
                                  .high = i + 1 < f->count ? f->low[i + 1] : f->way.high};
        rc =
            f->spare[i] == SIZE_MAX ? tree_rebuild_lose(f->r, &way) : tree_rebuild_node(f->r, &way);
    }
    return rc;
}

static int hole_fill(struct rebuild *r, const struct rebuild_hole *h)
{
    struct hole_fill f = {.r = r,
                          .way = {.block = h->block,
                                  .level = h->level,
                                  .low = kv_slice_of(h->low, h->low_len),
                                  .high = kv_slice_of(h->high, h->high_len)}};
    int rc = fill_choose(&f);
    if (rc == 0) {
        struct tree_pivots_source s = {.low = f.way.low,
                                       .high = f.way.high,
                                       .pivot = f.low + 1,
                                       .child = f.child,
                                       .slots = (uint16_t)f.count};
        hole_tell(r, &f.way, f.found);
        rc = tree_rebuild_internal(r, &f.way, &s);
    }
    rc = rc < 0 ? rc : fill_children(&f);
    mem_free(f.low);
    mem_free(f.child);
    mem_free(f.spare);
    return rc;
}

int tree_rebuild_holes(struct rebuild *r)
{
    int rc = r->hole_count > 0 ? spares_find(r) : 0;
    CLEANUP(mem_freep) struct rebuild_hole *h = mem_alloc(sizeof *h);
    if (h == NULL) {
        return -ENOMEM;
    }
    while (r->hole_count > 0 && rc == 0) {
        *h = r->hole[--r->hole_count]; /* filling one may make others */
        rc = hole_fill(r, h);
    }
    return rc;
}
