/* tree/dump.c -- see dump.h. */
#include "tree/dump.h"

#include "base/mem.h"
#include "tree/look.h"
#include "tree/message.h"

#include <inttypes.h>
#include <stdio.h>

#define DUMP_DEPTH_MAX 64u

struct dump_frame {
    struct tree_look_node node;
    uint32_t next;
};
struct dump {
    const struct tree_dump_options *opt;
    struct tree_look look;
    struct tree_look_table table;
    struct tree_line line;
    struct dump_frame *frame;
    unsigned depth;
    uint64_t damages;
};

/* ---- lines ---- */

static int dump_end(struct dump *d)
{
    return tree_line_end(&d->line, &d->opt->to);
}

static void dump_begin(struct dump *d, const char *what)
{
    tree_line_begin(&d->line, &d->opt->to, what);
}

/* -ENOMEM ends a dump; everything else is a line. */
static int dump_damage(struct dump *d, int rc, const char *name, uint64_t no, const char *what)
{
    struct err e = {0};
    if (rc == -ENOMEM) {
        return rc;
    }
    err_set(&e, rc, "%s", what);
    d->damages++;
    dump_begin(d, "damage");
    tree_line_number(&d->line, name, no);
    tree_line_text(&d->line, "text", e.text);
    return dump_end(d);
}

static void dump_blob(struct dump *d, const char *offset, const char *len,
                      const struct tree_super_blob *b)
{
    if (b->len > 0) {
        tree_line_number(&d->line, offset, b->offset);
        tree_line_number(&d->line, len, b->len);
    }
}

static int dump_super(struct dump *d, unsigned place)
{
    const struct tree_super_pair *pair = &d->look.pair;
    const struct tree_super *s = &pair->super[place];
    struct tree_line *l = &d->line;
    uint64_t offset = place * (uint64_t)TREE_SUPER_SECOND;
    if (pair->rc[place] < 0) {
        dump_begin(d, "superblock");
        tree_line_number(l, "offset", offset);
        tree_line_text(l, "error", err_message(&pair->err[place], pair->rc[place]));
        return dump_end(d);
    }
    dump_begin(d, "superblock");
    tree_line_number(l, "offset", offset);
    tree_line_number(l, "checkpoint", s->checkpoint);
    tree_line_number(l, "applied_index", s->applied_index);
    tree_line_number(l, "applied_term", s->applied_term);
    tree_line_number(l, "max_msn", s->max_msn);
    tree_line_number(l, "version", s->tree_version);
    tree_line_number(l, "root", s->root_block);
    tree_line_number(l, "height", s->height);
    tree_line_number(l, "fanout", s->fanout);
    tree_line_number(l, "leaf_bytes", s->leaf_raw);
    tree_line_number(l, "basement_bytes", s->basement_raw);
    tree_line_number(l, "internal_bytes", s->internal_raw);
    tree_line_number(l, "next_block", s->next_block);
    dump_blob(d, "table_offset", "table_bytes", &s->table);
    dump_blob(d, "segments_offset", "segments_bytes", &s->segments);
    dump_blob(d, "drops_offset", "drops_bytes", &s->drops);
    tree_line_number(l, "segments", s->segment_count);
    tree_line_number(l, "file_bytes", s->size_used);
    tree_line_number(l, "keys", s->key_count);
    tree_line_number(l, "logical_bytes", s->logical_bytes);
    tree_line_hex(l, "file_id", s->file_id, sizeof s->file_id);
    tree_line_hex(l, "owner", s->app, s->app_len);
    return dump_end(d);
}

static int dump_table(struct dump *d)
{
    const struct tree_look_table *t = &d->table;
    int rc = t->index_rc < 0 ? dump_damage(d, t->index_rc, "checkpoint", t->super.checkpoint,
                                           "index of the translation table")
                             : 0;
    for (size_t i = 0; i < t->index.page_count && rc == 0; i++) {
        rc = t->page_rc[i] < 0 ? dump_damage(d, t->page_rc[i], "page", i, "translation table") : 0;
    }
    for (uint64_t block = 1; block < tree_look_blocks(t) && rc == 0; block++) {
        struct tree_btt_entry e;
        tree_look_entry(t, block, &e);
        if (e.kind != TREE_BTT_NODE && e.kind != TREE_BTT_SEGMENT) {
            continue;
        }
        if (e.kind == TREE_BTT_NODE &&
            e.units == 0) { /* given out; a later checkpoint has it, or none */
            dump_begin(d, "number_without_node");
            tree_line_number(&d->line, "block", block);
            rc = dump_end(d);
            continue;
        }
        dump_begin(d, e.kind == TREE_BTT_NODE ? "block" : "older_extent");
        tree_line_number(&d->line, "block", block);
        tree_line_number(&d->line, "level", e.level);
        tree_line_number(&d->line, "offset", e.unit * TREE_UNIT);
        tree_line_number(&d->line, "bytes", (uint64_t)e.units * TREE_UNIT);
        tree_line_number(&d->line, "birth", e.birth);
        tree_line_number(&d->line, "older", e.segment_count);
        tree_line_number(&d->line, "next", e.link);
        rc = dump_end(d);
    }
    return rc;
}

/* ---- records ---- */

static bool dump_wants(const struct dump *d, struct kv_slice key)
{
    const struct tree_dump_options *o = d->opt;
    return kv_slice_compare(o->low, key) <= 0 &&
           (o->high.len == 0 || kv_slice_compare(key, o->high) < 0);
}

static const char *dump_type(uint8_t type)
{
    switch (type) {
    case TREE_PUT:
        return "put";
    case TREE_DELETE:
        return "delete";
    case TREE_UPSERT:
        return "upsert";
    case TREE_NOTE:
        return "note";
    default:
        return "other";
    }
}

struct dump_from { /* where records lie */
    const char *name;
    uint64_t no;
    uint32_t part;
};

static int dump_entries(struct dump *d, const struct tree_block *b, const struct dump_from *from)
{
    struct tree_block_iter it;
    bool equal = false, message = b->kind == TREE_BLOCK_MESSAGE;
    int rc = 0;
    tree_block_iter_init(&it, b);
    bool there = tree_block_iter_seek(&it, tree_block_lower(b, d->opt->low, &equal));
    for (; there && rc == 0 && dump_wants(d, it.entry.key); there = tree_block_iter_next(&it)) {
        dump_begin(d, message ? "message" : "record");
        tree_line_number(&d->line, from->name, from->no);
        tree_line_number(&d->line, "part", from->part);
        if (message) {
            tree_line_text(&d->line, "type", dump_type(it.entry.type));
            tree_line_number(&d->line, "msn", it.entry.msn);
        }
        tree_line_bytes(&d->line, "key", it.entry.key);
        if (d->opt->values) {
            tree_line_bytes(&d->line, "value", it.entry.body);
        }
        rc = dump_end(d);
    }
    return rc;
}

static int dump_ranges(struct dump *d, const struct tree_ranges *r, const struct dump_from *from)
{
    int rc = 0;
    for (uint32_t i = tree_ranges_lower(r, d->opt->low); i < r->count && rc == 0; i++) {
        struct tree_ranges_item range = tree_ranges_get(r, i);
        if (d->opt->high.len > 0 && kv_slice_compare(range.low, d->opt->high) >= 0) {
            break;
        }
        dump_begin(d, "message");
        tree_line_number(&d->line, from->name, from->no);
        tree_line_number(&d->line, "part", from->part);
        tree_line_text(&d->line, "type", "range_delete");
        tree_line_number(&d->line, "msn", range.msn);
        tree_line_bytes(&d->line, "low", range.low);
        tree_line_bytes(&d->line, "high", range.high);
        rc = dump_end(d);
    }
    return rc;
}

static int dump_part_keys(struct dump *d, const struct tree_look_node *n, uint32_t i)
{
    const struct tree_partition *p = &n->header.partition[i];
    struct dump_from from = {.name = "block", .no = n->header.block, .part = i};
    struct tree_block b;
    struct tree_ranges r;
    CLEANUP(mem_freep) uint8_t *raw = NULL;
    int rc = tree_look_part(&d->look, n, i, &raw);
    if (rc == 0 && p->kind == TREE_PARTITION_RANGES) {
        rc = tree_pivots_open_ranges(&n->pivots, &n->header, i, raw, &r);
        if (rc == 0) {
            return dump_ranges(d, &r, &from);
        }
    } else if (rc == 0) {
        rc = tree_pivots_open_block(&n->pivots, &n->header, i, raw, &b);
        if (rc == 0) {
            return dump_entries(d, &b, &from);
        }
    }
    char what[64];
    snprintf(what, sizeof what, "%s %" PRIu32 " of this block", tree_look_kind(p->kind), i);
    return dump_damage(d, rc, "block", n->header.block, what);
}

/* Partition i may have keys of the range. */
static bool dump_meets(const struct dump *d, struct kv_slice low, struct kv_slice high)
{
    const struct tree_dump_options *o = d->opt;
    bool begins = o->high.len == 0 || kv_slice_compare(low, o->high) < 0;
    return begins && (high.len == 0 || kv_slice_compare(o->low, high) < 0);
}

static int dump_node_keys(struct dump *d, const struct tree_look_node *n)
{
    int rc = 0;
    for (uint32_t i = 0; i < n->header.partition_count && rc == 0; i++) {
        struct tree_pivots_bounds bounds;
        if (n->header.partition[i].kind == TREE_PARTITION_FILTER) {
            continue;
        }
        tree_look_bounds(n, i, &bounds);
        rc = dump_meets(d, bounds.low, bounds.high) ? dump_part_keys(d, n, i) : 0;
    }
    return rc;
}

/* ---- one node ---- */

static int dump_header(struct dump *d, const struct tree_look_node *n)
{
    const struct tree_node_header *h = &n->header;
    struct tree_line *l = &d->line;
    dump_begin(d, "node");
    tree_line_number(l, "block", h->block);
    tree_line_number(l, "level", h->level);
    tree_line_number(l, "offset", n->offset);
    tree_line_number(l, "bytes", h->total_len);
    tree_line_number(l, "birth", h->birth);
    tree_line_number(l, "version", h->version);
    tree_line_number(l, "msn_min", h->msn_min);
    tree_line_number(l, "msn_max", h->msn_max);
    tree_line_number(l, "slots", h->slots);
    tree_line_number(l, "partitions", h->partition_count);
    tree_line_number(l, "older_extents", h->extent_count);
    tree_line_number(l, "codec", h->codec);
    tree_line_number(l, "raw_bytes", h->raw_bytes);
    tree_line_number(l, "entries", h->entries);
    tree_line_number(l, "filter_bytes", h->filter.len);
    tree_line_bytes(l, "low", n->pivots.low);
    tree_line_bytes(l, "high", n->pivots.high);
    int rc = dump_end(d);
    if (rc == 0 && n->filter_rc < 0) {
        rc = dump_damage(d, n->filter_rc, "block", h->block, "filter");
    }
    return rc;
}

static int dump_slots(struct dump *d, const struct tree_look_node *n)
{
    int rc = 0;
    for (uint32_t i = 0; i < n->header.slots && rc == 0; i++) {
        struct tree_pivots_bounds bounds;
        tree_pivots_bounds(&n->pivots, (uint16_t)i, &bounds);
        dump_begin(d, "slot");
        tree_line_number(&d->line, "slot", i);
        if (n->header.level > 0) {
            tree_line_number(&d->line, "child", tree_pivots_child(&n->pivots, (uint16_t)i));
        }
        tree_line_bytes(&d->line, "low", bounds.low);
        tree_line_bytes(&d->line, "high", bounds.high);
        rc = dump_end(d);
    }
    return rc;
}

static int dump_parts(struct dump *d, const struct tree_look_node *n)
{
    int rc = 0;
    for (uint32_t i = 0; i < n->header.partition_count && rc == 0; i++) {
        const struct tree_partition *p = &n->header.partition[i];
        dump_begin(d, "partition");
        tree_line_number(&d->line, "part", i);
        tree_line_text(&d->line, "kind", tree_look_kind(p->kind));
        if (p->slot != TREE_SLOT_ALL) {
            tree_line_number(&d->line, "slot", p->slot);
        }
        tree_line_number(&d->line, "run", p->run);
        tree_line_number(&d->line, "goes_on", p->flags == TREE_PARTITION_MORE ? 1 : 0);
        tree_line_number(&d->line, "extent", p->extent);
        tree_line_number(&d->line, "offset", tree_look_part_offset(n, i));
        tree_line_number(&d->line, "packed_bytes", p->packed_len);
        tree_line_number(&d->line, "raw_bytes", p->raw_len);
        tree_line_number(&d->line, "entries", p->entries);
        rc = dump_end(d);
    }
    return rc;
}

static int dump_extents(struct dump *d, const struct tree_look_node *n)
{
    int rc = 0;
    for (uint32_t i = 0; i < n->header.extent_count && rc == 0; i++) {
        const struct tree_extent *x = &n->header.extent[i];
        dump_begin(d, "extent");
        tree_line_number(&d->line, "extent", i + 1);
        tree_line_number(&d->line, "offset", x->offset);
        tree_line_number(&d->line, "bytes", x->len);
        tree_line_number(&d->line, "birth", x->birth);
        rc = dump_end(d);
    }
    return rc;
}

static int dump_find(struct dump *d, uint64_t block, struct tree_look_node *ret, struct err *e)
{
    struct tree_btt_entry entry;
    tree_look_entry(&d->table, block, &entry);
    if (entry.kind != TREE_BTT_NODE || entry.units == 0) {
        return err_set(e, -ENOENT, "block %" PRIu64 " is no node in the table", block);
    }
    struct tree_look_at at = tree_look_at_entry(&d->table, block, &entry);
    return tree_look_node(&d->look, &at, ret, e);
}

static int dump_block(struct dump *d, struct err *e)
{
    struct tree_look_node n = {0};
    struct err why = {0};
    int rc = dump_find(d, d->opt->block, &n, &why);
    if (rc == -ENOENT) {
        if (e != NULL) {
            *e = why;
        }
        return rc;
    }
    if (rc < 0) {
        return dump_damage(d, rc, "block", d->opt->block, "node");
    }
    rc = dump_header(d, &n);
    rc = rc < 0 ? rc : dump_slots(d, &n);
    rc = rc < 0 ? rc : dump_extents(d, &n);
    rc = rc < 0 ? rc : dump_parts(d, &n);
    rc = rc < 0 || !d->opt->keys ? rc : dump_node_keys(d, &n);
    tree_look_node_fini(&n);
    return rc;
}

/* ---- segments ---- */

static int dump_segment_block(struct dump *d, const struct tree_look_segment *s, size_t no,
                              uint32_t i)
{
    struct tree_segment_part p = tree_segment_part(&s->s, i);
    uint8_t key[TREE_KEY_MAX];
    if (d->opt->segments) {
        dump_begin(d, "segment_block");
        tree_line_number(&d->line, "segment", no);
        tree_line_number(&d->line, "part", i);
        tree_line_number(&d->line, "offset", s->offset + p.offset);
        tree_line_number(&d->line, "packed_bytes", p.packed_len);
        tree_line_number(&d->line, "raw_bytes", p.raw_len);
        tree_line_number(&d->line, "entries", p.entries);
        tree_line_bytes(&d->line, "first", kv_slice_of(key, tree_block_key(&s->s.blocks, i, key)));
        int rc = dump_end(d);
        if (rc < 0) {
            return rc;
        }
    }
    if (!d->opt->keys) {
        return 0;
    }
    struct tree_block b;
    CLEANUP(mem_freep) uint8_t *raw = NULL;
    int rc = tree_look_segment_block(&d->look, s, i, &raw, &b);
    struct dump_from from = {.name = "segment", .no = no, .part = i};
    return rc < 0 ? dump_damage(d, rc, "segment", no, "a block of it") : dump_entries(d, &b, &from);
}

static int dump_segment_ranges(struct dump *d, const struct tree_look_segment *s, size_t no)
{
    struct tree_ranges r;
    CLEANUP(mem_freep) uint8_t *raw = NULL;
    if (!d->opt->keys || s->s.ranges.raw_len == 0) {
        return 0;
    }
    int rc = tree_look_segment_ranges(&d->look, s, &raw, &r);
    struct dump_from from = {.name = "segment", .no = no, .part = s->s.block_count};
    return rc < 0 ? dump_damage(d, rc, "segment", no, "deleted ranges") : dump_ranges(d, &r, &from);
}

static int dump_segment(struct dump *d, size_t no)
{
    const struct tree_btt_piece *p = &d->table.piece[no];
    struct tree_look_segment s;
    struct err e = {0};
    int rc = tree_look_segment(&d->look, d->table.super.file_id, p, &s, &e);
    if (rc < 0) {
        return dump_damage(d, rc, "segment", no, "header, trailer or index");
    }
    dump_begin(d, "segment");
    tree_line_number(&d->line, "segment", no);
    tree_line_number(&d->line, "offset", p->offset);
    tree_line_number(&d->line, "bytes", p->len);
    tree_line_number(&d->line, "birth", p->birth);
    tree_line_number(&d->line, "number", s.number);
    tree_line_number(&d->line, "blocks", s.s.block_count);
    tree_line_number(&d->line, "entries", s.s.entries);
    tree_line_number(&d->line, "raw_bytes", s.s.raw_bytes);
    tree_line_number(&d->line, "msn_min", s.s.msn_min);
    tree_line_number(&d->line, "msn_max", s.s.msn_max);
    tree_line_number(&d->line, "range_bytes", s.s.ranges.raw_len);
    tree_line_hex(&d->line, "owner", p->owner, sizeof p->owner);
    rc = dump_end(d);
    for (uint32_t i = 0; i < s.s.block_count && rc == 0; i++) {
        rc = dump_segment_block(d, &s, no, i);
    }
    rc = rc < 0 ? rc : dump_segment_ranges(d, &s, no);
    tree_look_segment_fini(&s);
    return rc;
}

static int dump_segments(struct dump *d)
{
    const struct tree_look_table *t = &d->table;
    int rc = t->pieces_rc < 0 ? dump_damage(d, t->pieces_rc, "checkpoint", t->super.checkpoint,
                                            "list of memtable segments")
                              : 0;
    for (size_t i = 0; i < t->piece_count && rc == 0; i++) {
        rc = dump_segment(d, i);
    }
    return rc;
}

/* ---- a range of keys ---- */

static int dump_enter(struct dump *d, uint64_t block)
{
    struct dump_frame *f = &d->frame[d->depth];
    struct err e = {0};
    int rc = d->depth + 1 < DUMP_DEPTH_MAX ? dump_find(d, block, &f->node, &e) : -ERR_bad_value;
    if (rc < 0) {
        return dump_damage(d, rc, "block", block, "node");
    }
    f->next = 0;
    d->depth++;
    return dump_node_keys(d, &f->node);
}

static int dump_range(struct dump *d)
{
    d->frame = mem_calloc(DUMP_DEPTH_MAX, sizeof *d->frame);
    if (d->frame == NULL) {
        return -ENOMEM;
    }
    uint64_t root = d->table.super.root_block;
    int rc = root == 0 ? 0 : dump_enter(d, root);
    while (d->depth > 0 && rc == 0) {
        struct dump_frame *f = &d->frame[d->depth - 1];
        if (f->node.header.level == 0 || f->next == f->node.header.slots) {
            tree_look_node_fini(&f->node);
            d->depth--;
            continue;
        }
        struct tree_pivots_bounds bounds;
        uint16_t slot = (uint16_t)f->next++;
        tree_pivots_bounds(&f->node.pivots, slot, &bounds);
        if (dump_meets(d, bounds.low, bounds.high)) {
            rc = dump_enter(d, tree_pivots_child(&f->node.pivots, slot));
        }
    }
    return rc < 0 ? rc : dump_segments(d);
}

/* ---- all ---- */

static int dump_run(struct dump *d, struct err *e)
{
    const struct tree_dump_options *o = d->opt;
    if (o->block != 0) {
        return dump_block(d, e);
    }
    if (o->segments) {
        return dump_segments(d);
    }
    if (o->keys) {
        return dump_range(d);
    }
    int rc = dump_table(d);
    return rc < 0 ? rc : dump_segments(d);
}

int tree_dump(const struct tree_dump_options *opt, uint64_t *ret_damages, struct err *e)
{
    struct dump d = {.opt = opt};
    const struct tree_super *s = NULL;
    int rc = tree_look_open(opt->disk, opt->path, &d.look, e);
    bool all = opt->block == 0 && !opt->segments && !opt->keys;
    for (unsigned i = 0; i < TREE_SUPER_PLACES && rc == 0 && all; i++) {
        rc = dump_super(&d, i);
    }
    rc = rc < 0 ? rc : tree_look_choose(&d.look, opt->older, &s, e);
    rc = rc < 0 ? rc : tree_look_table(&d.look, s, &d.table);
    rc = rc < 0 ? rc : dump_run(&d, e);
    while (d.depth > 0) {
        tree_look_node_fini(&d.frame[--d.depth].node);
    }
    if (rc == 0) {
        *ret_damages = d.damages;
    }
    mem_free(d.frame);
    tree_line_fini(&d.line);
    tree_look_table_fini(&d.table);
    tree_look_close(&d.look);
    return rc;
}
