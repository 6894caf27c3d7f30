/* tree/rebuild.c -- see rebuild.h: which checkpoint is saved, and the order of the work. */
#include "tree/rebuild.h"

#include "base/mem.h"
#include "tree/rebuild_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct tree_finding tree_rebuild_finding(enum tree_finding_severity severity, const char *code)
{
    return (struct tree_finding){.severity = severity,
                                 .code = code,
                                 .text = "",
                                 .checkpoint = TREE_FINDING_NONE,
                                 .offset = TREE_FINDING_NONE,
                                 .len = TREE_FINDING_NONE,
                                 .block = TREE_FINDING_NONE,
                                 .partition = TREE_FINDING_NONE,
                                 .segment = TREE_FINDING_NONE,
                                 .records = TREE_FINDING_NONE};
}

void tree_rebuild_tell(struct rebuild *r, const struct tree_finding *f)
{
    r->result->losses += f->severity == TREE_FINDING_DAMAGE ? 1 : 0;
    r->opt->found(r->opt->arg, f);
}

/* ---- which checkpoint ---- */

static void rebuild_tell_guess(struct rebuild *r)
{
    char text[TREE_FINDING_TEXT];
    const struct tree_rebuild_options *o = r->opt;
    struct tree_finding f = tree_rebuild_finding(TREE_FINDING_WARNING, "superblock");
    tree_finding_text(text,
                      "no superblock: what is found is of checkpoint %" PRIu64 "%s; applied index "
                      "%" PRIu64 " %s, owner %s",
                      r->super.checkpoint,
                      r->super.table.len > 0 ? "" : " or before, its table is lost as well",
                      o->index, o->index > 0 ? "as it was given" : "as it is not known",
                      o->owner != NULL ? "as it was given" : "not known: no server opens the file");
    f.checkpoint = r->super.checkpoint;
    f.text = text;
    f.advice = "every record behind that index has to come from elsewhere";
    tree_rebuild_tell(r, &f);
    if (r->super.segments.len == 0) {
        f.code = "memtables";
        f.text = "no list of memtable segments: if there were any, their messages are not here";
        f.advice = NULL;
        tree_rebuild_tell(r, &f);
    }
}

/* What was committed behind the checkpoint that is saved; `super`: of the newer one, or NULL. */
static void rebuild_tell_left_out(struct rebuild *r, uint64_t newer, const struct tree_super *super)
{
    char text[TREE_FINDING_TEXT], advice[TREE_FINDING_TEXT], upto[64] = "";
    const struct tree_super *s = &r->super;
    struct tree_finding f = tree_rebuild_finding(TREE_FINDING_DAMAGE, "older_checkpoint");
    if (super != NULL) {
        snprintf(upto, sizeof upto, ", up to %" PRIu64, super->applied_index);
    }
    tree_finding_text(text,
                      "%s: the new file is of checkpoint %" PRIu64
                      ", and what was committed behind index %" PRIu64 " of the log%s is not in it",
                      super != NULL ? "the newer checkpoint is left out, as asked for"
                                    : "the superblock of a newer checkpoint is damaged",
                      s->checkpoint, s->applied_index, upto);
    tree_finding_text(advice,
                      "a server whose log still begins at %" PRIu64
                      " or before executes the rest again; else fetch its state from another "
                      "member, or restore a newer backup",
                      s->applied_index + 1);
    f.checkpoint = newer;
    f.text = text;
    f.advice = advice;
    r->result->left_out = newer;
    r->result->left_out_index = super == NULL ? 0 : super->applied_index;
    tree_rebuild_tell(r, &f);
}

/* Whether there was a newer checkpoint than the one that is saved is told by the superblock beside
 * it, or, where that is damaged, by an index: those of the two newest are intact. One that an open
 * has made void was given up then, and told of. */
static int rebuild_look_newer(struct rebuild *r)
{
    const struct tree_look *l = &r->look;
    unsigned other = (unsigned)(1 - l->choice.newest);
    uint64_t newest = 0;
    if (r->opt->older) {
        const struct tree_super *newer = &l->pair.super[l->choice.newest];
        rebuild_tell_left_out(r, newer->checkpoint, newer);
        return 0;
    }
    if (l->pair.rc[other] == 0 || tree_look_is_void(&r->look, other)) {
        return 0;
    }
    int rc = tree_rebuild_newest(r, r->super.file_id, &newest);
    if (rc == 0 && newest > r->super.checkpoint) {
        rebuild_tell_left_out(r, newest, NULL);
    }
    return rc;
}

static int rebuild_guess(struct rebuild *r, struct err *e)
{
    const struct tree_rebuild_options *o = r->opt;
    int rc = tree_rebuild_guess(r, &r->super, e);
    if (rc < 0) {
        return rc;
    }
    r->super.applied_index = o->index;
    r->super.applied_term = o->term;
    if (o->owner != NULL) {
        memcpy(r->super.app, o->owner, TREE_REBUILD_OWNER_BYTES);
        r->super.app_len = TREE_REBUILD_OWNER_BYTES;
    }
    rebuild_tell_guess(r);
    return 0;
}

static int rebuild_choose(struct rebuild *r, struct err *e)
{
    const struct tree_super *s = NULL;
    const struct tree_look *l = &r->look;
    bool none = l->pair.rc[0] < 0 && l->pair.rc[1] < 0;
    bool newer = l->pair.rc[0] == -ERR_bad_version || l->pair.rc[1] == -ERR_bad_version;
    if (none && !newer) {
        return rebuild_guess(r, e);
    }
    int rc = tree_look_choose(l, r->opt->older, &s, e);
    rc = rc < 0 ? rc : tree_look_table(&r->look, s, &r->table);
    if (rc == 0) {
        r->super = *s;
        r->result->has_super = true;
        tree_rebuild_sort(r, s->file_id);
        rc = rebuild_look_newer(r);
    }
    return rc;
}

/* A state whose header is damaged is not found by scanning, so nobody knows that there was one. */
static void rebuild_tell_table(struct rebuild *r)
{
    const struct tree_look_table *t = &r->table;
    bool whole = t->index_rc == 0;
    for (size_t i = 0; i < t->index.page_count; i++) {
        whole = whole && t->page_rc[i] == 0;
    }
    if (!whole) {
        struct tree_finding f = tree_rebuild_finding(TREE_FINDING_WARNING, "table");
        f.text = "the translation table is damaged: nodes are found by scanning, and where the "
                 "newest state of one cannot be read, an older one may stand for it";
        tree_rebuild_tell(r, &f);
    }
}

/* ---- the work ---- */

/* Numbers for what is made lie behind all that were ever given out. */
static void rebuild_number(struct rebuild *r)
{
    r->next_block = base_max(r->super.next_block, tree_look_blocks(&r->table));
    r->next_block = base_max(r->next_block, 1);
    for (size_t i = 0; i < r->seen_count; i++) {
        r->next_block = base_max(r->next_block, r->seen[i].block + 1);
    }
    if (r->super.root_block == 0 && r->super.height > 0) {
        r->super.root_block = r->next_block++;
    }
}

static int rebuild_tree(struct rebuild *r)
{
    struct rebuild_way way = {.block = r->super.root_block,
                              .level = (uint8_t)(r->super.height - 1)};
    if (r->super.root_block == 0) {
        return 0;
    }
    r->frame = mem_calloc(REBUILD_DEPTH_MAX, sizeof *r->frame);
    int rc = r->frame == NULL ? -ENOMEM : 0;
    if (rc == 0 && (r->super.height == 0 || r->super.height >= REBUILD_DEPTH_MAX)) {
        rc = -ERR_corrupt;
    }
    rc = rc < 0 ? rc : tree_rebuild_node(r, &way);
    return rc < 0 ? rc : tree_rebuild_holes(r);
}

static int rebuild_run(struct rebuild *r, struct err *e)
{
    static const struct tree_codec_options packing = {0};
    int rc = tree_codec_init(&r->packer, &packing);
    rc = rc < 0 ? rc : tree_rebuild_scan(r);
    rc = rc < 0 ? rc : rebuild_choose(r, e);
    if (rc < 0) {
        return rc;
    }
    rebuild_tell_table(r);
    rebuild_number(r);
    rc = tree_rebuild_create(r, e);
    if (rc < 0) {
        return rc;
    }
    rc = rebuild_tree(r);
    rc = rc < 0 ? rc : tree_rebuild_memtables(r);
    if (rc < 0) {
        return err_set(e, rc, "rebuild '%s'", r->opt->path);
    }
    r->super.max_msn = base_max(r->super.max_msn, r->msn_max);
    r->result->checkpoint = r->super.checkpoint;
    r->result->applied_index = r->super.applied_index;
    return tree_rebuild_finish(r, e);
}

static void rebuild_fini(struct rebuild *r)
{
    while (r->depth > 0) {
        tree_rebuild_frame_fini(&r->frame[--r->depth]);
    }
    tree_rebuild_holes_fini(r);
    mem_free(r->frame);
    mem_free(r->seen);
    mem_free(r->blob);
    mem_free(r->entry);
    mem_free(r->piece);
    mem_free(r->extra);
    mem_free(r->partial);
    tree_codec_fini(&r->packer);
    tree_look_table_fini(&r->table);
    tree_look_close(&r->look);
}

int tree_rebuild(const struct tree_rebuild_options *opt, struct tree_rebuild_result *ret,
                 struct err *e)
{
    struct tree_rebuild_result result = {0};
    struct rebuild *r = mem_zalloc(sizeof *r);
    if (r == NULL) {
        return -ENOMEM;
    }
    r->opt = opt;
    r->result = &result;
    int rc = tree_look_open(opt->disk, opt->path, &r->look, e);
    rc = rc < 0 ? rc : rebuild_run(r, e);
    if (rc < 0) {
        tree_rebuild_abandon(r);
    } else {
        *ret = result;
    }
    rebuild_fini(r);
    mem_free(r);
    return rc;
}
