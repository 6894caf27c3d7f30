/*
 * tree/check_extra.c -- what a checkpoint says of its memtables: which there are, how far the
 * oldest are drained, which subtrees are being freed; and whether its pieces are those of the
 * memtables.
 */
#include "tree/check_priv.h"

#include <inttypes.h>

static void extra_tell(struct check *c, const char *text)
{
    const struct tree_super *s = &c->table.super;
    struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "memtables");
    f.offset = s->drops.len > 0 ? s->drops.offset : TREE_FINDING_NONE;
    f.len = s->drops.len > 0 ? s->drops.len : TREE_FINDING_NONE;
    f.text = text;
    f.advice = c->advice;
    tree_check_tell(c, &f);
}

/* Pieces from `first` on that are the first, second, ... of a memtable, up to its last. */
static size_t extra_pieces(struct check *c, const struct tree_extra_table *x, size_t first)
{
    const struct tree_look_table *t = &c->table;
    struct tree_keep_owner owner;
    size_t count = 0, whole = 0;
    while (first + count < t->piece_count &&
           tree_keep_owner(&t->piece[first + count], &owner) == 0 &&
           owner.memtable_number == x->number && owner.piece_number == count) {
        whole = owner.piece_count; /* the next one may be another memtable's */
        count++;
    }
    if (count == 0 ? x->draining == 0 : count != whole) {
        struct err e = {0};
        tree_finding_text(e.text, "memtable %" PRIu32 " has not all of its pieces", x->number);
        extra_tell(c, e.text);
    }
    return count;
}

static void extra_limits(struct check *c)
{
    const struct tree_extra *x = &c->extra;
    c->msn_drained = c->msn_rest = UINT64_MAX;
    for (unsigned i = 0; i < x->table_count; i++) {
        const struct tree_extra_table *t = &x->table[i];
        c->msn_rest = t->msn_min; /* the last one is the oldest */
        c->msn_drained = t->draining == 0 ? t->msn_min : c->msn_drained;
    }
}

uint64_t tree_check_limit(const struct check *c, struct kv_slice key)
{
    return kv_slice_compare(key, c->extra.drained) < 0 ? c->msn_drained : c->msn_rest;
}

void tree_check_extra(struct check *c)
{
    const struct tree_look_table *t = &c->table;
    size_t first = 0;
    bool there = t->drops_rc == 0 && t->drops_len > 0;
    int rc = there ? tree_extra_decode(t->drops, t->drops_len, &c->extra) : 0;
    extra_limits(c);
    if (rc < 0) {
        struct err e = {0};
        err_set(&e, rc, "list of memtables and of dropped blocks");
        extra_tell(c, e.text);
    }
    if (rc < 0 || t->drops_rc < 0 || t->pieces_rc < 0) {
        return;
    }
    for (unsigned i = 0; i < c->extra.table_count; i++) {
        if (c->extra.table[i].msn_max > t->super.max_msn) {
            extra_tell(c, "a memtable has newer messages than the superblock says");
        }
        first += extra_pieces(c, &c->extra.table[i], first);
    }
    if (first != t->piece_count) {
        extra_tell(c, "there are pieces of a memtable that the checkpoint does not know");
    }
}
