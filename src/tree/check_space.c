/*
 * tree/check_space.c -- who uses which part of the file: nothing outside of it, nothing twice.
 *
 * What both retained checkpoints name is the same extent, or they have nothing in common: space is
 * not used again while one of them is retained.
 */
#include "tree/check_priv.h"

#include "base/mem.h"
#include "tree/space.h"

#include <inttypes.h>
#include <stdlib.h>

enum space_user {
    USER_SUPER,
    USER_INDEX,
    USER_PAGE,
    USER_LIST,
    USER_DROPS,
    USER_PIECE,
    USER_BLOCK
};

struct space_extent {
    uint64_t unit, count;
    enum space_user user;
    uint64_t no, birth; /* number of the page, the block ... */
};
struct space_list {
    struct space_extent *at; /* owned */
    size_t count, capacity;
};

static const char *space_name(enum space_user user)
{
    switch (user) {
    case USER_SUPER:
        return "superblock";
    case USER_INDEX:
        return "index of the translation table";
    case USER_PAGE:
        return "page of the translation table";
    case USER_LIST:
        return "list of memtable segments";
    case USER_DROPS:
        return "drop queue";
    case USER_PIECE:
        return "memtable segment";
    case USER_BLOCK:
    default:
        return "block";
    }
}

/* ---- gathering ---- */

static int space_add(struct space_list *l, const struct space_extent *x)
{
    int rc = mem_grow(&l->at, &l->capacity, l->count + 1, sizeof *l->at);
    if (rc == 0) {
        l->at[l->count++] = *x;
    }
    return rc;
}

static int space_add_bytes(struct space_list *l, enum space_user user, uint64_t offset,
                           uint64_t len)
{
    struct space_extent x = {
        .unit = offset / TREE_UNIT, .count = (len + TREE_UNIT - 1) / TREE_UNIT, .user = user};
    return len == 0 ? 0 : space_add(l, &x);
}

static int space_add_blocks(struct space_list *l, const struct tree_look_table *t)
{
    int rc = 0;
    for (uint64_t block = 1; block < tree_look_blocks(t) && rc == 0; block++) {
        struct tree_btt_entry e;
        tree_look_entry(t, block, &e);
        if (e.units > 0) {
            struct space_extent x = {.unit = e.unit,
                                     .count = e.units,
                                     .user = USER_BLOCK,
                                     .no = block,
                                     .birth = e.birth};
            rc = space_add(l, &x);
        }
    }
    return rc;
}

static int space_gather(struct space_list *l, const struct tree_look_table *t)
{
    const struct tree_super *s = &t->super;
    int rc = space_add_bytes(l, USER_SUPER, 0, TREE_SUPER_BYTES);
    rc = rc < 0 ? rc : space_add_bytes(l, USER_SUPER, TREE_SUPER_SECOND, TREE_SUPER_BYTES);
    rc = rc < 0 ? rc : space_add_bytes(l, USER_INDEX, s->table.offset, s->table.len);
    rc = rc < 0 ? rc : space_add_bytes(l, USER_LIST, s->segments.offset, s->segments.len);
    rc = rc < 0 ? rc : space_add_bytes(l, USER_DROPS, s->drops.offset, s->drops.len);
    for (size_t i = 0; i < t->index.page_count && rc == 0; i++) {
        const struct tree_btt_place *p = &t->index.place[i];
        struct space_extent x = {.unit = p->offset / TREE_UNIT,
                                 .count = 1,
                                 .user = USER_PAGE,
                                 .no = i,
                                 .birth = p->birth};
        rc = p->offset == 0 ? 0 : space_add(l, &x);
    }
    for (size_t i = 0; i < t->piece_count && rc == 0; i++) {
        const struct tree_btt_piece *p = &t->piece[i];
        struct space_extent x = {.unit = p->offset / TREE_UNIT,
                                 .count = (p->len + TREE_UNIT - 1) / TREE_UNIT,
                                 .user = USER_PIECE,
                                 .no = i,
                                 .birth = p->birth};
        rc = space_add(l, &x);
    }
    return rc < 0 ? rc : space_add_blocks(l, t);
}

static int space_order(const void *left, const void *right)
{
    const struct space_extent *a = left, *b = right;
    if (a->unit != b->unit) {
        return a->unit < b->unit ? -1 : 1;
    }
    return (a->count > b->count) - (a->count < b->count);
}

/* ---- checking ---- */

static void space_tell(struct check *c, const struct space_extent *x, const char *text)
{
    struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "space");
    f.offset = x->unit * TREE_UNIT;
    f.len = x->count * TREE_UNIT;
    f.block = x->user == USER_BLOCK ? x->no : TREE_FINDING_NONE;
    f.segment = x->user == USER_PIECE ? x->no : TREE_FINDING_NONE;
    f.text = text;
    f.advice = c->advice;
    tree_check_tell(c, &f);
}

static void space_check_one(struct check *c, const struct space_extent *x)
{
    struct err e = {0};
    uint64_t units = c->look.size_bytes / TREE_UNIT;
    uint64_t region = x->unit / TREE_SPACE_REGION_UNITS;
    const char *wrong = NULL;
    if (x->unit > units || x->count > units - x->unit) {
        wrong = "lies (partly) behind the end of the file";
    } else if (x->count > 0 && (x->unit + x->count - 1) / TREE_SPACE_REGION_UNITS != region) {
        wrong = "crosses a boundary of 64 MiB";
    } else if (x->birth > c->table.super.checkpoint) {
        wrong = "was written for a later checkpoint";
    }
    if (wrong != NULL) {
        tree_finding_text(e.text, "%s %" PRIu64 " %s", space_name(x->user), x->no, wrong);
        space_tell(c, x, e.text);
    }
}

static void space_check_pair(struct check *c, const struct space_extent *a,
                             const struct space_extent *b, const char *whose)
{
    struct err e = {0};
    tree_finding_text(e.text, "%s %" PRIu64 " overlaps with %s %" PRIu64 "%s, at offset %" PRIu64,
                      space_name(b->user), b->no, space_name(a->user), a->no, whose,
                      a->unit * TREE_UNIT);
    space_tell(c, b, e.text);
}

/* Each against the one before that reaches farthest. */
static void space_check_list(struct check *c, const struct space_list *l)
{
    const struct space_extent *last = NULL;
    for (size_t i = 0; i < l->count; i++) {
        const struct space_extent *x = &l->at[i];
        space_check_one(c, x);
        if (last != NULL && x->unit < last->unit + last->count) {
            space_check_pair(c, last, x, "");
        }
        if (last == NULL || x->unit + x->count > last->unit + last->count) {
            last = x;
        }
    }
}

/* Indexes and lists belong to one checkpoint each. */
static bool space_same(const struct space_extent *a, const struct space_extent *b)
{
    bool shared = a->user == USER_SUPER || a->user == USER_PAGE || a->user == USER_PIECE ||
                  a->user == USER_BLOCK;
    return shared && a->user == b->user && a->unit == b->unit && a->count == b->count &&
           a->birth == b->birth;
}

/* Both lists are in order. */
static void space_check_other(struct check *c, const struct space_list *l,
                              const struct space_list *other)
{
    size_t k = 0;
    for (size_t i = 0; i < l->count; i++) {
        const struct space_extent *x = &l->at[i];
        while (k < other->count && other->at[k].unit + other->at[k].count <= x->unit) {
            k++;
        }
        for (size_t j = k; j < other->count && other->at[j].unit < x->unit + x->count; j++) {
            const struct space_extent *o = &other->at[j];
            if (!space_same(o, x) && o->unit + o->count > x->unit) {
                space_check_pair(c, o, x, " of the other checkpoint");
            }
        }
    }
}

int tree_check_space(struct check *c, const struct tree_look_table *other)
{
    struct space_list own = {0}, theirs = {0};
    int rc = space_gather(&own, &c->table);
    rc = rc < 0 || other == NULL ? rc : space_gather(&theirs, other);
    if (rc == 0) {
        qsort(own.at, own.count, sizeof *own.at, space_order);
        space_check_list(c, &own);
    }
    if (rc == 0 && other != NULL) {
        qsort(theirs.at, theirs.count, sizeof *theirs.at, space_order);
        space_check_other(c, &own, &theirs);
    }
    mem_free(own.at);
    mem_free(theirs.at);
    return rc;
}
