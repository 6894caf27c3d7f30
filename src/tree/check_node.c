/*
 * tree/check_node.c -- goes down from the root to every node, in the order of the keys, and then to
 * those that the table has and no way leads to.
 *
 * What cannot be read below a node is one finding: keys from the node above. How many records it
 * had: of a leaf by its length, of more by the leaves that are found later and lie between its
 * fences.
 */
#include "tree/check_priv.h"

#include "base/mem.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <string.h>

#define SAMPLES 32u

struct check_way { /* to a node */
    uint64_t block;
    uint8_t level;
    bool dropped; /* below a block that is being freed: where it belongs does not matter */
    struct kv_slice low, high;
};

static bool node_see(struct check *c, uint64_t block)
{
    uint64_t bit = UINT64_C(1) << block % 64;
    bool first = (c->seen[block / 64] & bit) == 0;
    c->seen[block / 64] |= bit;
    return first;
}

/* ---- how many records a leaf has ---- */

static int sample_leaf(struct check *c, uint64_t block, const struct tree_btt_entry *e)
{
    struct tree_look_node n;
    struct tree_look_at at = tree_look_at_entry(&c->table, block, e);
    int rc = tree_look_node(&c->look, &at, &n, NULL);
    if (rc == 0) {
        c->sampled_records += n.header.entries;
        c->sampled_units += e->units;
        tree_look_node_fini(&n);
    }
    return tree_check_fatal(rc) ? rc : 0;
}

static int sample_leaves(struct check *c)
{
    uint64_t blocks = tree_look_blocks(&c->table), step = blocks / SAMPLES + 1;
    uint64_t next = 0;
    int rc = 0;
    for (uint64_t block = 1; block < blocks && rc == 0; block++) {
        struct tree_btt_entry e;
        tree_look_entry(&c->table, block, &e);
        if (block >= next && e.kind == TREE_BTT_NODE && e.level == 0 && e.units > 0) {
            rc = sample_leaf(c, block, &e);
            next = block + step;
        }
    }
    return rc;
}

static uint64_t leaf_records(const struct check *c, const struct tree_btt_entry *e)
{
    if (c->sampled_units == 0 || e->units == 0) {
        return TREE_FINDING_NONE;
    }
    return c->sampled_records * e->units / c->sampled_units;
}

/* ---- what is lost ---- */

static struct kv_slice lost_copy(struct kv_slice key, uint8_t *to)
{
    memcpy(to, key.len > 0 ? key.at : "", key.len);
    return kv_slice_of(to, key.len);
}

/* All below is out of reach. Told at the end, when it is known what that is. */
static void node_lose(struct check *c, const struct check_way *way, const char *what)
{
    struct tree_btt_entry e;
    struct err err = {0};
    struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "node");
    tree_look_entry(&c->table, way->block, &e);
    tree_finding_text(err.text, "%s of level %u: %s", way->level == 0 ? "leaf" : "internal node",
                      way->level, what);
    f.block = way->block;
    f.offset = e.units > 0 ? e.unit * TREE_UNIT : TREE_FINDING_NONE;
    f.len = e.units > 0 ? e.units * (uint64_t)TREE_UNIT : TREE_FINDING_NONE;
    f.text = err.text;
    f.advice = c->advice;
    f.ranged = true;
    f.low = way->low;
    f.high = way->high;
    f.records = way->level == 0 ? leaf_records(c, &e) : TREE_FINDING_NONE;
    if (way->level == 0 || c->lost_count == CHECK_LOST_MAX) {
        tree_check_tell(c, &f);
        return;
    }
    struct check_lost *lost = &c->lost[c->lost_count++];
    lost->finding = f;
    lost->err = err;
    lost->finding.text = lost->err.text;
    lost->finding.low = lost_copy(way->low, lost->low);
    lost->finding.high = lost_copy(way->high, lost->high);
    lost->finding.records = 0;
}

static bool below(struct kv_slice key, struct kv_slice high)
{
    return high.len == 0 || (key.len > 0 && kv_slice_compare(key, high) <= 0);
}

/* A node without a way to it: does it lie below a lost one? */
static bool lost_has(struct check *c, const struct tree_look_node *n)
{
    for (size_t i = 0; i < c->lost_count; i++) {
        struct tree_finding *f = &c->lost[i].finding;
        if (kv_slice_compare(f->low, n->pivots.low) <= 0 && below(n->pivots.high, f->high)) {
            f->records += n->header.entries;
            return true;
        }
    }
    return false;
}

static void lost_tell(struct check *c)
{
    for (size_t i = 0; i < c->lost_count; i++) {
        tree_check_tell(c, &c->lost[i].finding);
    }
    c->lost_count = 0;
}

/* ---- one node ---- */

static void node_tell(struct check *c, const struct tree_look_node *n, const char *text)
{
    struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "node");
    f.block = n->header.block;
    f.offset = n->offset;
    f.len = n->header.total_len;
    f.text = text;
    f.advice = c->advice;
    f.ranged = true;
    f.low = n->pivots.low;
    f.high = n->pivots.high;
    f.records = n->header.entries;
    tree_check_tell(c, &f);
}

/* Every extent that the header uses is the node's in the table. */
static bool node_owns(const struct check *c, uint64_t block, const struct tree_extent *x)
{
    struct tree_btt_entry e;
    tree_look_entry(&c->table, block, &e);
    for (unsigned i = 0; i < TREE_BTT_SEGMENTS_MAX && e.link != 0; i++) {
        tree_look_entry(&c->table, e.link, &e);
        if (e.kind == TREE_BTT_SEGMENT && e.unit * TREE_UNIT == x->offset && e.birth == x->birth &&
            (uint64_t)e.units * TREE_UNIT == x->len) {
            return true;
        }
    }
    return false;
}

static void node_check_entry(struct check *c, const struct tree_look_node *n)
{
    const struct tree_node_header *h = &n->header;
    struct tree_btt_entry e;
    struct err err = {0};
    tree_look_entry(&c->table, h->block, &e);
    if (e.level != h->level) {
        tree_finding_text(err.text, "the table says level %u, the node %u", e.level, h->level);
        node_tell(c, n, err.text);
    }
    if (e.header_len < h->pivots.offset + h->pivots.packed_len + h->filter.len) {
        tree_finding_text(err.text, "the table says %" PRIu32 " bytes for header and pivots",
                          e.header_len);
        node_tell(c, n, err.text);
    }
    for (uint32_t i = 0; i < h->extent_count; i++) {
        if (!node_owns(c, h->block, &h->extent[i])) {
            tree_finding_text(
                err.text, "its older extent at offset %" PRIu64 " is not the node's in the table",
                h->extent[i].offset);
            node_tell(c, n, err.text);
        }
    }
    if (n->filter_rc < 0) {
        err_set(&err, n->filter_rc, "filter at offset %" PRIu64, n->offset + h->filter.offset);
        node_tell(c, n, err.text);
    }
}

static void node_count(struct check *c, const struct tree_look_node *n)
{
    c->result->nodes++;
    c->result->leaves += n->header.level == 0 ? 1 : 0;
    if (n->header.level == 0) {
        c->result->records += n->header.entries;
    } else {
        c->result->messages += n->header.entries;
    }
}

/* What does not need to know the way to it. */
static int node_check(struct check *c, const struct tree_look_node *n)
{
    node_count(c, n);
    node_check_entry(c, n);
    return c->opt->level > 2 ? tree_check_parts(c, n) : 0;
}

static void node_check_way(struct check *c, const struct tree_look_node *n,
                           const struct check_way *way)
{
    struct err e = {0};
    if (n->header.level != way->level) {
        tree_finding_text(e.text, "level %u where one of level %u belongs", n->header.level,
                          way->level);
        node_tell(c, n, e.text);
    }
    if (kv_slice_compare(n->pivots.low, way->low) != 0 ||
        kv_slice_compare(n->pivots.high, way->high) != 0) {
        node_tell(c, n, "its fences are not those of its place in the node above");
    }
}

/* ---- the way down ---- */

/* 1: there is a node that was not looked at yet. */
static int node_find(struct check *c, const struct check_way *way, struct tree_btt_entry *ret)
{
    if (way->block == 0 || way->block >= tree_look_blocks(&c->table)) {
        node_lose(c, way, "no such number");
        return 0;
    }
    tree_look_entry(&c->table, way->block, ret);
    if (ret->kind != TREE_BTT_NODE || ret->units == 0) {
        bool known = tree_look_knows(&c->table, way->block);
        node_lose(c, way, known ? "is not in the table" : "its place is not known");
        return 0;
    }
    if (!node_see(c, way->block)) {
        node_lose(c, way, "is in the tree twice");
        return 0;
    }
    return 1;
}

static int node_enter(struct check *c, const struct check_way *way)
{
    struct tree_btt_entry e;
    if (node_find(c, way, &e) == 0) {
        return 0;
    }
    struct check_frame *f = &c->frame[c->depth];
    struct tree_look_at at = tree_look_at_entry(&c->table, way->block, &e);
    struct err err = {0};
    int rc = tree_look_node(&c->look, &at, &f->node, &err);
    if (rc < 0) {
        if (!tree_check_fatal(rc)) {
            node_lose(c, way, err_message(&err, rc));
        }
        return tree_check_fatal(rc) ? rc : 0;
    }
    if (!way->dropped) {
        node_check_way(c, &f->node, way);
    }
    rc = node_check(c, &f->node);
    bool lower = way->dropped || f->node.header.level <= way->level;
    bool down = rc == 0 && f->node.header.level > 0 && lower && c->depth + 1 < CHECK_DEPTH_MAX;
    if (down) {
        c->depth++;
    } else {
        tree_look_node_fini(&f->node);
        *f = (struct check_frame){0};
    }
    return rc;
}

static void node_leave(struct check *c)
{
    struct check_frame *f = &c->frame[--c->depth];
    tree_check_order_fini(f);
    tree_look_node_fini(&f->node);
    *f = (struct check_frame){0};
}

static int nodes_walk(struct check *c, bool dropped)
{
    int rc = 0;
    while (c->depth > 0 && rc == 0) {
        struct check_frame *f = &c->frame[c->depth - 1];
        if (f->next == f->node.header.slots) {
            node_leave(c);
            continue;
        }
        uint16_t slot = (uint16_t)f->next++;
        struct tree_pivots_bounds bounds;
        tree_pivots_bounds(&f->node.pivots, slot, &bounds);
        struct check_way way = {.block = tree_pivots_child(&f->node.pivots, slot),
                                .level = (uint8_t)(f->node.header.level - 1),
                                .dropped = dropped,
                                .low = bounds.low,
                                .high = bounds.high};
        rc = c->opt->level > 3 && !dropped ? tree_check_order(c, slot) : 0;
        rc = rc < 0 ? rc : node_enter(c, &way);
    }
    return rc;
}

/* What is being freed is still there. */
static int nodes_dropped(struct check *c)
{
    int rc = 0;
    for (size_t i = 0; i < c->extra.drop_count && rc == 0; i++) {
        struct check_way way = {.block = wire_load_u64(c->extra.drops + i * sizeof(uint64_t)),
                                .dropped = true};
        struct tree_btt_entry e;
        tree_look_entry(&c->table, way.block, &e);
        way.level = e.level;
        rc = node_enter(c, &way);
        rc = rc < 0 ? rc : nodes_walk(c, true);
    }
    return rc;
}

/* ---- without a way ---- */

static int orphan_check(struct check *c, uint64_t block, const struct tree_btt_entry *e)
{
    struct tree_look_node n;
    struct tree_look_at at = tree_look_at_entry(&c->table, block, e);
    struct err err = {0};
    struct tree_finding f = tree_check_finding(c, TREE_FINDING_WARNING, "orphan");
    int rc = tree_look_node(&c->look, &at, &n, &err);
    if (tree_check_fatal(rc)) {
        return rc;
    }
    f.block = block;
    f.offset = at.offset;
    f.len = at.len;
    f.text = "no way leads from the root to this node";
    f.advice = "it only takes space; a rebuilt file is without it";
    if (rc < 0) {
        f.severity = TREE_FINDING_DAMAGE;
        f.code = "node";
        f.text = err_message(&err, rc);
        f.advice = c->advice;
        f.ranged = true;
        f.records = e->level == 0 ? leaf_records(c, e) : TREE_FINDING_NONE;
        tree_check_tell(c, &f);
        return 0;
    }
    f.ranged = true;
    f.low = n.pivots.low;
    f.high = n.pivots.high;
    f.records = n.header.entries;
    if (!lost_has(c, &n)) {
        tree_check_tell(c, &f);
    }
    rc = node_check(c, &n);
    tree_look_node_fini(&n);
    return rc;
}

static int nodes_rest(struct check *c)
{
    int rc = 0;
    for (uint64_t block = 1; block < tree_look_blocks(&c->table) && rc == 0; block++) {
        struct tree_btt_entry e;
        tree_look_entry(&c->table, block, &e);
        if (e.kind == TREE_BTT_NODE && e.units > 0 && node_see(c, block)) {
            rc = orphan_check(c, block, &e);
        }
    }
    return rc;
}

int tree_check_nodes(struct check *c)
{
    const struct tree_super *s = &c->table.super;
    c->seen = mem_calloc((size_t)(tree_look_blocks(&c->table) / 64) + 1, sizeof *c->seen);
    c->frame = mem_calloc(CHECK_DEPTH_MAX, sizeof *c->frame);
    c->lost = mem_calloc(CHECK_LOST_MAX, sizeof *c->lost);
    if (c->seen == NULL || c->frame == NULL || c->lost == NULL) {
        return -ENOMEM;
    }
    int rc = sample_leaves(c);
    if (rc == 0 && s->root_block != 0) {
        struct check_way way = {.block = s->root_block,
                                .level = (uint8_t)(s->height == 0 ? 0 : s->height - 1)};
        rc = node_enter(c, &way);
    }
    rc = rc < 0 ? rc : nodes_walk(c, false);
    rc = rc < 0 ? rc : nodes_dropped(c);
    rc = rc < 0 ? rc : nodes_rest(c);
    if (rc == 0) {
        lost_tell(c);
    }
    return rc;
}
