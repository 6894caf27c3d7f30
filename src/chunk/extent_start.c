/*
 * chunk/extent_start.c -- the `extent` engine: its start, in order, and who has which units.
 */
#include "chunk/extent_start_priv.h"

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
    mem_free(l->bytes);
    mem_free(l);
}

static void start_end(struct chunk_extent *x, int rc)
{
    struct chunk_loading *l = x->loading;
    struct chunk_store *s = x->s;
    if (rc < 0) {
        log_error(s->opt.env->log, "a store of chunks cannot be started",
                  LOG_TEXT("reason", l->error.text), LOG_RC(rc));
    }
    loading_free(l);
    s->round_active = false;
    chunk_store_started(s, rc);
    chunk_stop_check(s);
}

void chunk_start_over(struct chunk_extent *x, int rc)
{
    struct chunk_loading *l = x->loading;
    if (rc < 0 || l->checkpoint) {
        start_end(x, rc);
        return;
    }
    l->checkpoint = true;
    x->s->round_active = true; /* an end waits */
    if (x->checkpointing) {
        kv_checkpoint_hurry(x->index);
        return;
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

static int claim_version(struct chunk_extent *x, const struct chunk_version *v,
                         const struct chunk_version *base)
{
    uint32_t cells = v == NULL ? 0 : chunk_cells(v->meta.length);
    uint32_t others = base == NULL ? 0 : chunk_cells(base->meta.length);
    uint32_t cell = 0;
    while (cell < cells) {
        uint64_t unit = v->block[cell];
        if (unit == 0 || (cell < others && base->block[cell] == unit)) {
            cell++;
            continue;
        }
        uint32_t n = 1;
        while (cell + n < cells && v->block[cell + n] == unit + n &&
               (cell + n >= others || base->block[cell + n] != unit + n)) {
            n++;
        }
        int rc = unit >= x->units || n > x->units - unit ? -ERR_bad_value
                                                         : chunk_space_claim(x, unit, n);
        if (rc < 0) {
            return rc;
        }
        cell += n;
    }
    return 0;
}

static uint64_t indexed_units(const struct chunk_indexed *h)
{
    uint64_t units = 0;
    const struct chunk_version *v[2] = {h->committed, h->pending};
    for (unsigned i = 0; i < 2; i++) {
        uint32_t cells = v[i] == NULL ? 0 : chunk_cells(v[i]->meta.length);
        uint32_t others = i == 0 || v[0] == NULL ? 0 : chunk_cells(v[0]->meta.length);
        for (uint32_t cell = 0; cell < cells; cell++) {
            uint64_t unit = v[i]->block[cell];
            units += unit != 0 && (cell >= others || v[0]->block[cell] != unit) ? 1 : 0;
        }
    }
    return units;
}

static void claim_all(struct chunk_loading *l)
{
    struct chunk_extent *x = l->x;
    struct chunk_store *s = x->s;
    struct chunk_key from = {0};
    for (struct chunk_item *item = chunk_index_next(&s->index, from); item != NULL;
         item = chunk_index_next(&s->index, from)) {
        struct chunk_entry *e = chunk_entry_of(item);
        int rc = claim_version(x, e->committed, NULL);
        rc = rc < 0 ? rc : claim_version(x, e->pending, e->committed);
        if (rc < 0) {
            claim_conflict(x, e);
        }
        chunk_load_count(s, e);
        from = item->key;
        if (!chunk_key_step(&from)) {
            break;
        }
    }
}

/* ---- The steps ---- */

static int start_about(struct chunk_loading *l)
{
    struct chunk_extent *x = l->x;
    const struct chunk_about none = {.version = CHUNK_INDEX_VERSION};
    uint8_t bytes[CHUNK_ABOUT_BYTES];
    struct chunk_index_key key = chunk_key_about();
    struct kv_batch b;
    if (l->told) {
        return 0;
    }
    chunk_about_encode(&none, bytes);
    kv_batch_init(&b);
    int rc = kv_batch_put(&b, chunk_index_slice(&key), kv_slice_of(bytes, sizeof bytes));
    rc = rc < 0 ? rc : kv_commit(x->index, &b, kv_applied_index(x->index));
    kv_batch_fini(&b);
    x->checkpointed = false;
    return rc;
}

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
    if (rc == 0) {
        start_broken(l);
        claim_all(l);
        rc = s->super.lossy ? chunk_super_save_now(s) : 0;
    }
    if (rc < 0) {
        start_end(x, rc);
        return;
    }
    x->loaded = true;
    s->round_active = false;
    chunk_extent_round(s);
    if (!s->round_active && x->loading != NULL) { /* there was nothing to do */
        chunk_start_over(x, 0);
    }
}

static void start_unsound(struct chunk_loading *l, const char *what, uint64_t have, uint64_t told)
{
    if (have != told) {
        l->x->wrong++;
        log_error(l->x->s->opt.env->log, "the index of a store counts wrongly",
                  LOG_TEXT("what", what), LOG_U64("counted", have), LOG_U64("told", told));
    }
}

static uint64_t all_indexed_units(const struct chunk_store *s)
{
    struct chunk_key from = {0};
    uint64_t units = 0;
    for (struct chunk_item *item = chunk_index_next(&s->index, from); item != NULL;
         item = chunk_index_next(&s->index, from)) {
        units += indexed_units(&chunk_entry_of(item)->indexed);
        from = item->key;
        if (!chunk_key_step(&from)) {
            break;
        }
    }
    return units;
}

void chunk_start_loaded(struct chunk_loading *l, int rc)
{
    struct chunk_extent *x = l->x;
    struct chunk_store *s = x->s;
    if (rc == 0) {
        start_unsound(l, "chunks", s->exists_count, l->about.chunks);
        start_unsound(l, "pending contents", s->pending_count, l->about.pending);
        start_unsound(l, "units", all_indexed_units(s), l->about.units);
        start_unsound(l, "units of slabs", l->slab_units, l->about.units);
        rc = chunk_replay(l);
    }
    rc = rc < 0 ? rc : start_about(l);
    if (rc < 0) {
        start_end(x, rc);
        return;
    }
    chunk_verify_begin(l);
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
    chunk_load_begin(l);
}
