/* tree/check_segment.c -- the memtables that a checkpoint keeps. */
#include "tree/check_priv.h"

#include "base/mem.h"
#include "tree/message.h"

#include <inttypes.h>

struct segment_check {
    struct check *c;
    const struct tree_btt_piece *piece;
    struct tree_look_segment s;
    size_t no;
    uint64_t msn_min, msn_max, entries; /* as found */
    bool whole;                         /* nothing was damaged */
};

static struct tree_finding segment_finding(const struct segment_check *x)
{
    struct tree_finding f = tree_check_finding(x->c, TREE_FINDING_DAMAGE, "segment");
    f.segment = x->no;
    f.offset = x->piece->offset;
    f.len = x->piece->len;
    f.advice = x->c->advice;
    f.ranged = true;
    return f;
}

/* Block i. */
static void segment_tell_block(struct segment_check *x, uint32_t i, const char *text,
                               uint64_t records)
{
    struct tree_finding f = segment_finding(x);
    struct tree_segment_part p = tree_segment_part(&x->s.s, i);
    uint8_t low[TREE_KEY_MAX], high[TREE_KEY_MAX];
    f.partition = i;
    f.offset = x->piece->offset + p.offset;
    f.len = p.packed_len;
    f.text = text;
    f.records = records;
    f.low = kv_slice_of(low, tree_block_key(&x->s.s.blocks, i, low));
    if (i + 1 < x->s.s.block_count) {
        f.high = kv_slice_of(high, tree_block_key(&x->s.s.blocks, i + 1, high));
    }
    tree_check_tell(x->c, &f);
}

static void segment_check_entries(struct segment_check *x, uint32_t i, const struct tree_block *b)
{
    struct tree_block_iter it;
    struct err first = {0};
    uint64_t bad = 0;
    tree_block_iter_init(&it, b);
    for (bool there = tree_block_iter_seek(&it, 0); there; there = tree_block_iter_next(&it)) {
        struct err e = {0};
        x->msn_min = base_min(x->msn_min, it.entry.msn);
        x->msn_max = base_max(x->msn_max, it.entry.msn);
        x->entries++;
        if (x->c->opt->level > 3 && tree_message_check(it.entry.type, it.entry.body, &e) < 0) {
            first = bad == 0 ? e : first;
            bad++;
        }
    }
    if (bad > 0) {
        segment_tell_block(x, i, first.text, bad);
    }
}

static int segment_check_block(struct segment_check *x, uint32_t i)
{
    uint8_t *raw = NULL;
    struct tree_block b;
    int rc = tree_look_segment_block(&x->c->look, &x->s, i, &raw, &b);
    x->c->result->partitions++;
    if (rc == 0) {
        segment_check_entries(x, i, &b);
        mem_free(raw);
        return 0;
    }
    x->whole = false;
    if (!tree_check_fatal(rc)) {
        struct err e = {0};
        err_set(&e, rc, "block %" PRIu32 " of memtable segment %zu", i, x->no);
        segment_tell_block(x, i, e.text, tree_segment_part(&x->s.s, i).entries);
        rc = 0;
    }
    return rc;
}

static int segment_check_ranges(struct segment_check *x)
{
    uint8_t *raw = NULL;
    struct tree_ranges r;
    int rc = tree_look_segment_ranges(&x->c->look, &x->s, &raw, &r);
    mem_free(raw);
    if (rc < 0 && !tree_check_fatal(rc)) {
        struct tree_finding f = segment_finding(x);
        struct err e = {0};
        err_set(&e, rc, "deleted ranges of memtable segment %zu", x->no);
        f.text = e.text;
        f.offset = x->piece->offset + x->s.s.ranges.offset;
        f.len = x->s.s.ranges.packed_len;
        tree_check_tell(x->c, &f);
        rc = 0;
    }
    return rc;
}

static int segment_check_content(struct segment_check *x)
{
    int rc = 0;
    x->whole = true;
    x->msn_min = UINT64_MAX;
    for (uint32_t i = 0; i < x->s.s.block_count && rc == 0; i++) {
        rc = segment_check_block(x, i);
    }
    bool same =
        x->s.s.block_count == 0 || (x->msn_min == x->s.s.msn_min && x->msn_max == x->s.s.msn_max);
    if (rc == 0 && x->whole && !same) {
        struct tree_finding f = segment_finding(x);
        f.text = "its message numbers are not those that its trailer names";
        f.records = x->entries;
        tree_check_tell(x->c, &f);
    }
    return rc < 0 || x->s.s.ranges.raw_len == 0 ? rc : segment_check_ranges(x);
}

/* Those that the checkpoint names for its memtable. */
static void segment_check_numbers(struct segment_check *x)
{
    const struct tree_extra *extra = &x->c->extra;
    struct tree_keep_owner owner;
    if (tree_keep_owner(x->piece, &owner) < 0) {
        return;
    }
    if (x->s.number != tree_keep_number(owner.memtable_number, owner.piece_number)) {
        struct tree_finding f = segment_finding(x);
        f.text = "it is another piece than the list says";
        f.records = x->s.s.entries;
        tree_check_tell(x->c, &f);
    }
    if (x->s.s.block_count == 0) {
        return;
    }
    for (unsigned i = 0; i < extra->table_count; i++) {
        const struct tree_extra_table *t = &extra->table[i];
        bool inside = x->s.s.msn_min >= t->msn_min && x->s.s.msn_max <= t->msn_max;
        if (t->number == owner.memtable_number && !inside) {
            struct tree_finding f = segment_finding(x);
            f.text = "message numbers are not those of its memtable";
            f.records = x->s.s.entries;
            tree_check_tell(x->c, &f);
        }
    }
}

static int segment_check(struct segment_check *x)
{
    struct check *c = x->c;
    struct err e = {0};
    int rc = tree_look_segment(&c->look, c->table.super.file_id, x->piece, &x->s, &e);
    if (tree_check_fatal(rc)) {
        return rc;
    }
    if (rc < 0) {
        struct tree_finding f = segment_finding(x);
        f.text = err_message(&e, rc);
        tree_check_tell(c, &f);
        return 0;
    }
    c->result->segments++;
    c->result->messages += x->s.s.entries;
    segment_check_numbers(x);
    rc = c->opt->level > 2 ? segment_check_content(x) : 0;
    tree_look_segment_fini(&x->s);
    return rc;
}

int tree_check_segments(struct check *c)
{
    int rc = 0;
    for (size_t i = 0; i < c->table.piece_count && rc == 0; i++) {
        struct segment_check x = {.c = c, .piece = &c->table.piece[i], .no = i};
        rc = segment_check(&x);
    }
    return rc;
}
