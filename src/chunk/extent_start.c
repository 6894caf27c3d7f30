/*
 * chunk/extent_start.c -- the `extent` engine: its start, in order, and who has which units.
 */
#include "chunk/extent_rebuild_priv.h"

#include "base/env.h"
#include "base/log.h"

#include <string.h>

/* ---- The end of the start ---- */

static void loading_free(struct chunk_loading *l)
{
    struct chunk_store *s = l->x->s;
    l->x->loading = NULL;
    for (size_t i = 0; i < l->touched_count; i++) {
        struct chunk_touched *t = &l->touched[i];
        chunk_version_unref(t->was.committed);
        chunk_version_unref(t->was.pending);
        t->e->touched = 0;
        t->e->holds--;
        chunk_entry_settle(s, t->e);
    }
    for (size_t i = 0; i < l->broken_count; i++) {
        l->broken[i]->holds--;
        chunk_entry_settle(s, l->broken[i]);
    }
    mem_free(l->touched);
    mem_free(l->broken);
    (void)chunk_check_free(l->checking);
    mem_free(l);
}

static void start_tell(struct chunk_extent *x, int rc)
{
    struct chunk_loading *l = x->loading;
    struct chunk_store *s = x->s;
    if (rc < 0 && rc != -ECANCELED) {
        log_error(s->opt.env->log, "a store of chunks cannot be started",
                  LOG_TEXT("reason", l->error.text), LOG_RC(rc));
    }
    loading_free(l);
    chunk_store_started(s, rc);
    chunk_forget_soon(s);
    chunk_stop_check(s);
}

static void start_end(struct chunk_extent *x, int rc)
{
    x->s->round_active = false;
    start_tell(x, rc);
}

/* What is open here is what was before: it is of no use any more. */
void chunk_start_rebuilt(struct chunk_extent *x, int rc)
{
    struct chunk_store *s = x->s;
    start_end(x, rc < 0 ? rc : -ECANCELED);
    s->start_rc = rc;
}

bool chunk_start_doubts(const struct chunk_extent *x)
{
    return x->loading != NULL && x->older < x->loading->doubted;
}

/* What the journal told of is stable, and nothing of it was rejected: the next start would find the
 * same. The index is told while the store is used, by the same round, as by any other. */
void chunk_start_stable(struct chunk_extent *x)
{
    if (x->loading != NULL && !chunk_start_doubts(x)) {
        x->checkpoint_due = true;
        start_tell(x, 0);
    }
}

/* What is believed becomes stable: in one checkpoint, or in both that are kept. */
void chunk_start_over(struct chunk_extent *x, int rc)
{
    if (rc < 0) {
        start_end(x, rc);
        return;
    }
    x->s->round_active = true; /* an end waits */
    if (x->checkpointing) {
        kv_checkpoint_hurry(x->index);
        return;
    }
    if (chunk_start_doubts(x)) {
        x->checkpointed = false;
    }
    if (x->checkpointed) {
        start_end(x, 0);
        return;
    }
    x->checkpoint_due = true;
    chunk_extent_checkpoint(x);
}

/* ---- Units ---- */

/* What two have belongs to one of them at most: checksums tell which. The one that comes second is
 * not believed, and gives nothing back. */
static void claim_conflict(struct chunk_extent *x, struct chunk_entry *e)
{
    struct chunk_store *s = x->s;
    x->wrong++;
    s->damaged_count += e->damaged ? 0 : 1;
    e->damaged = true;
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_set(s, e, &e->committed, NULL);
    chunk_entry_changed(s, e);
    e->written = e->change;
}

/* Runs of `v` that the others do not have. */
static int claim_version(struct chunk_extent *x, const struct chunk_version *v,
                         const struct chunk_version *const *others)
{
    struct chunk_run run;
    int rc = 0;
    for (uint32_t at = 0; rc == 0 && chunk_run_next(v, others, &at, &run);) {
        bool inside = run.block < x->units && run.count <= x->units - run.block;
        rc = inside ? chunk_space_claim(x, run.block, run.count) : -ERR_bad_value;
    }
    return rc;
}

static void give_version(struct chunk_extent *x, const struct chunk_version *v,
                         const struct chunk_version *const *others)
{
    struct chunk_run run;
    for (uint32_t at = 0; chunk_run_next(v, others, &at, &run);) {
        x->wrong += chunk_space_unclaim(x, run.block, run.count) ? 0 : 1;
    }
}

/* The index says what was used when it was written; the journal has told what became of that. First
 * all is given back that nobody has any more, for others may have it by now. */
static void claim_one(struct chunk_extent *x, struct chunk_entry *e, bool give)
{
    const struct chunk_indexed *had = &e->indexed;
    const struct chunk_version *now[CHUNK_OTHERS] = {e->committed, e->pending};
    const struct chunk_version *now_too[CHUNK_OTHERS] = {e->committed, e->pending, had->committed};
    const struct chunk_version *old[CHUNK_OTHERS] = {had->committed, had->pending};
    const struct chunk_version *old_too[CHUNK_OTHERS] = {had->committed, had->pending,
                                                         e->committed};
    if (give) {
        give_version(x, had->committed, now);
        give_version(x, had->pending, now_too);
        return;
    }
    int rc = claim_version(x, e->committed, old);
    rc = rc < 0 ? rc : claim_version(x, e->pending, old_too);
    if (rc < 0) {
        claim_conflict(x, e);
    }
    chunk_entry_recount(x->s, e);
}

static void claim_all(struct chunk_loading *l, bool give)
{
    struct chunk_store *s = l->x->s;
    struct chunk_key from = {0};
    for (struct chunk_item *item = chunk_index_next(&s->index, from); item != NULL;
         item = chunk_index_next(&s->index, from)) {
        claim_one(l->x, chunk_entry_of(item), give);
        from = item->key;
        if (!chunk_key_step(&from)) {
            break;
        }
    }
}

/* ---- The steps ---- */

/* Chunks whose newest content nobody can tell: they are repaired from other copies. */
static void start_broken(struct chunk_loading *l)
{
    struct chunk_store *s = l->x->s;
    for (size_t i = 0; i < l->broken_count; i++) {
        struct chunk_entry *e = l->broken[i];
        if (e->broken && e->exists) {
            s->damaged_count += e->damaged ? 0 : 1;
            e->damaged = true;
            l->x->wrong++;
        }
        e->broken = false;
    }
}

void chunk_start_verified(struct chunk_loading *l, int rc)
{
    struct chunk_extent *x = l->x;
    struct chunk_store *s = x->s;
    if (rc == 0 && s->opt.rebuild != NULL) {
        start_broken(l);
        chunk_rebuild_walk(l, l->journal_index);
        return;
    }
    if (rc == 0) {
        start_broken(l);
        claim_all(l, true);
        claim_all(l, false);
        rc = s->super.lossy ? chunk_super_save_now(s) : 0;
        rc = rc < 0 ? rc : chunk_space_sleep(x);
    }
    if (rc < 0) {
        start_end(x, rc);
        return;
    }
    chunk_backlog_replayed(x);
    x->loaded = true;
    s->round_active = false;
    chunk_extent_round(s);
    if (!s->round_active && x->loading != NULL) { /* there was nothing to do */
        chunk_start_over(x, 0);
    }
}

void chunk_start_known(struct chunk_loading *l, int rc)
{
    rc = rc < 0 ? rc : chunk_replay(l);
    rc = rc < 0 || l->x->s->opt.rebuild != NULL ? rc : chunk_check_convert(l);
    if (rc < 0) {
        start_end(l->x, rc);
        return;
    }
    chunk_verify_begin(l);
}

void chunk_start_loaded(struct chunk_loading *l, int rc)
{
    struct chunk_store *s = l->x->s;
    if (rc == 0) {
        chunk_check_sums(l);
        s->exists_count = l->about.chunks;
        s->damaged_count = l->about.damaged;
        s->pending_count = l->about.pending;
        s->used_bytes = l->about.units * CHUNK_UNIT;
        rc = chunk_replay_look(l);
    }
    if (rc < 0) {
        start_end(l->x, rc);
        return;
    }
    chunk_load_entries(l);
}

void chunk_extent_start(struct chunk_store *s)
{
    struct chunk_extent *x = s->extent;
    struct chunk_loading *l = mem_zalloc(sizeof *l);
    if (l == NULL) {
        chunk_store_started(s, -ENOMEM);
        return;
    }
    l->x = x;
    l->begin = kv_applied_index(x->index);
    x->loading = l;
    x->checkpointed = true; /* until something is changed */
    s->round_active = true; /* so that an end waits */
    if (s->opt.rebuild != NULL) {
        chunk_rebuild_begin(l);
    } else {
        chunk_load_begin(l);
    }
}
