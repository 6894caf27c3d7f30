/* tree/check.c -- see check.h: superblocks, and what one of them names. */
#include "tree/check.h"

#include "base/mem.h"
#include "tree/check_priv.h"
#include "wire/wire.h"

#include <inttypes.h>
#include <stdio.h>

struct tree_finding tree_check_finding(const struct check *c, enum tree_finding_severity severity,
                                       const char *code)
{
    return (struct tree_finding){.severity = severity,
                                 .code = code,
                                 .text = "",
                                 .checkpoint = c->result->checkpoint,
                                 .offset = TREE_FINDING_NONE,
                                 .len = TREE_FINDING_NONE,
                                 .block = TREE_FINDING_NONE,
                                 .partition = TREE_FINDING_NONE,
                                 .segment = TREE_FINDING_NONE,
                                 .records = TREE_FINDING_NONE};
}

void tree_check_tell(struct check *c, const struct tree_finding *f)
{
    uint64_t *counter[] = {&c->result->notes, &c->result->warnings, &c->result->damages};
    ++*counter[f->severity];
    c->opt->found(c->opt->arg, f);
}

/* ---- superblocks ---- */

/* Nothing was ever written there, or an open has made it void. */
static bool super_is_blank(struct check *c, uint64_t offset)
{
    uint8_t bytes[TREE_SUPER_BYTES];
    int rc = tree_look_read(&c->look, offset, bytes, sizeof bytes);
    return rc == 0 &&
           (tree_is_zero(bytes, sizeof bytes) || wire_load_u64(bytes) == TREE_SUPER_VOID_MAGIC);
}

static void super_tell(struct check *c, unsigned place)
{
    const struct tree_super_pair *pair = &c->look.pair;
    uint64_t offset = place * (uint64_t)TREE_SUPER_SECOND;
    bool none = pair->rc[1 - place] < 0, blank = super_is_blank(c, offset);
    struct tree_finding f = tree_check_finding(c,
                                               none    ? TREE_FINDING_DAMAGE
                                               : blank ? TREE_FINDING_NOTE
                                                       : TREE_FINDING_WARNING,
                                               "superblock");
    f.offset = offset;
    f.len = TREE_SUPER_BYTES;
    f.text =
        blank ? "there is no superblock here" : err_message(&pair->err[place], pair->rc[place]);
    f.checkpoint = TREE_FINDING_NONE;
    f.advice = none    ? "without any superblock: rebuild the file"
               : blank ? NULL
                       : "the other superblock is used";
    f.ranged = none;
    tree_check_tell(c, &f);
}

/* Which of the two is to be checked: 0, or why there is none. */
static int super_choose(struct check *c, const struct tree_super **ret, struct err *e)
{
    const struct tree_look *l = &c->look;
    *ret = NULL;
    for (unsigned i = 0; i < TREE_SUPER_PLACES; i++) {
        if (l->pair.rc[i] < 0) {
            super_tell(c, i);
        }
    }
    if (l->choice_rc < 0) {
        bool none = l->pair.rc[0] < 0 && l->pair.rc[1] < 0;
        struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "superblock");
        f.checkpoint = TREE_FINDING_NONE;
        f.text = err_message(&l->choice_err, l->choice_rc);
        f.advice = "rebuild the file, or use a newer program if it says so";
        if (!none) {
            tree_check_tell(c, &f);
        }
        return 0;
    }
    int place = c->opt->older ? l->choice.older : l->choice.newest;
    if (place < 0) {
        return err_set(e, -ENOENT, "there is no older checkpoint");
    }
    if (l->choice.older < 0 && l->pair.rc[1 - l->choice.newest] == 0) {
        struct tree_finding f = tree_check_finding(c, TREE_FINDING_WARNING, "superblock");
        f.offset = (uint64_t)(1 - l->choice.newest) * TREE_SUPER_SECOND;
        f.text = "is not the predecessor of the other one, and of no use";
        f.checkpoint = l->pair.super[1 - l->choice.newest].checkpoint;
        tree_check_tell(c, &f);
    }
    *ret = &l->pair.super[place];
    return 0;
}

/* ---- what it names ---- */

static void table_tell(struct check *c, int rc, const char *what, const struct tree_super_blob *b)
{
    if (rc < 0) {
        struct err e = {0};
        struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "checkpoint");
        err_set(&e, rc, "%s", what);
        f.text = e.text;
        f.offset = b->offset;
        f.len = b->len;
        f.advice = c->advice;
        tree_check_tell(c, &f);
    }
}

static void table_tell_pages(struct check *c)
{
    const struct tree_look_table *t = &c->table;
    for (size_t i = 0; i < t->index.page_count; i++) {
        if (t->page_rc[i] < 0) {
            struct err e = {0};
            struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "table");
            err_set(&e, t->page_rc[i], "page %zu of the translation table, blocks %zu to %zu", i,
                    i * TREE_BTT_PAGE_ENTRIES, (i + 1) * TREE_BTT_PAGE_ENTRIES - 1);
            f.text = e.text;
            f.offset = t->index.place[i].offset;
            f.len = TREE_BTT_PAGE_BYTES;
            f.advice = c->advice;
            tree_check_tell(c, &f);
        }
    }
}

static bool table_whole(const struct tree_look_table *t)
{
    bool whole = t->index_rc == 0;
    for (size_t i = 0; i < t->index.page_count; i++) {
        whole = whole && t->page_rc[i] == 0;
    }
    return whole;
}

/* Links, the chain of free blocks, counts: what an open asks for. */
static int table_check_links(struct check *c)
{
    const struct tree_look_table *t = &c->table;
    CLEANUP(tree_btt_freep) struct tree_btt *b = NULL;
    struct err e = {0};
    int rc = tree_btt_new(&b);
    rc = rc < 0 ? rc : tree_btt_load(b, &t->index);
    for (size_t i = 0; i < t->index.page_count && rc == 0; i++) {
        if (t->index.place[i].offset != 0) {
            rc = tree_btt_load_page(b, i, t->pages + i * TREE_BTT_PAGE_BYTES);
        }
    }
    rc = rc < 0 ? rc : tree_btt_adopt(b, false, &e);
    if (rc < 0 && !tree_check_fatal(rc)) {
        struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "table");
        f.text = err_message(&e, rc);
        f.advice = c->advice;
        tree_check_tell(c, &f);
    }
    return tree_check_fatal(rc) ? rc : 0;
}

static void table_check_root(struct check *c)
{
    const struct tree_super *s = &c->table.super;
    struct tree_btt_entry e;
    tree_look_entry(&c->table, s->root_block, &e);
    bool none = s->root_block == 0;
    if (none ? s->height != 0 : e.kind != TREE_BTT_NODE || e.units == 0) {
        struct tree_finding f = tree_check_finding(c, TREE_FINDING_DAMAGE, "root");
        f.block = s->root_block;
        f.text = "is no node";
        f.ranged = true;
        f.records = s->key_count == 0 ? TREE_FINDING_NONE : s->key_count;
        f.advice = c->advice;
        tree_check_tell(c, &f);
    }
}

/* The other retained checkpoint, when its table can be read. */
static int check_with_other(struct check *c)
{
    const struct tree_look *l = &c->look;
    int place = c->opt->older ? l->choice.newest : l->choice.older;
    if (place < 0) {
        return tree_check_space(c, NULL);
    }
    struct tree_look_table other;
    int rc = tree_look_table(&c->look, &l->pair.super[place], &other);
    if (rc == 0) {
        rc = tree_check_space(c, &other);
        tree_look_table_fini(&other);
    }
    return rc;
}

static int check_table(struct check *c, const struct tree_super *s)
{
    struct tree_look_table *t = &c->table;
    int rc = tree_look_table(&c->look, s, t);
    if (rc < 0) {
        return rc;
    }
    table_tell(c, t->index_rc, "index of the translation table", &s->table);
    table_tell(c, t->pieces_rc, "list of memtable segments", &s->segments);
    table_tell(c, t->drops_rc, "drop queue", &s->drops);
    table_tell_pages(c);
    tree_check_extra(c);
    if (table_whole(t)) {
        rc = table_check_links(c);
        table_check_root(c);
    }
    return rc < 0 ? rc : check_with_other(c);
}

/* ---- all ---- */

static void check_fini(struct check *c)
{
    while (c->depth > 0) {
        struct check_frame *f = &c->frame[--c->depth];
        tree_check_order_fini(f);
        tree_look_node_fini(&f->node);
    }
    mem_free(c->frame);
    mem_free(c->lost);
    mem_free(c->seen);
    tree_look_table_fini(&c->table);
    tree_look_close(&c->look);
}

static int check_run(struct check *c, const struct tree_super *s)
{
    c->result->checkpoint = s->checkpoint;
    c->result->applied_index = s->applied_index;
    bool falls_back = !c->opt->older && c->look.choice.older >= 0;
    c->advice = falls_back ? "an open uses the older checkpoint instead; check it with --older"
                           : "rebuild the file, or restore a backup";
    int rc = check_table(c, s);
    c->advice = "rebuild the file, which saves the rest, or restore a backup";
    if (rc == 0 && c->opt->level > 1) {
        rc = tree_check_nodes(c);
    }
    if (rc == 0 && c->opt->level > 1) {
        rc = tree_check_segments(c);
    }
    return rc;
}

int tree_check(const struct tree_check_options *opt, struct tree_check_result *ret, struct err *e)
{
    struct tree_check_result result = {0};
    const struct tree_super *s = NULL;
    CHECK(opt->level >= 1 && opt->level <= TREE_CHECK_LEVEL_MAX);
    struct check *c = mem_zalloc(sizeof *c);
    if (c == NULL) {
        return -ENOMEM;
    }
    c->opt = opt;
    c->result = &result;
    int rc = tree_look_open(opt->disk, opt->path, &c->look, e);
    rc = rc < 0 ? rc : super_choose(c, &s, e);
    if (rc == 0 && s != NULL) {
        rc = check_run(c, s);
    }
    if (rc == 0) {
        result.changed = tree_look_changed(&c->look);
        result.read_bytes = c->look.read_bytes;
        *ret = result;
    }
    check_fini(c);
    mem_free(c);
    return rc;
}
