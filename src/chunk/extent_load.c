/*
 * chunk/extent_load.c -- the `extent` engine, while it starts: what it needs of the index. Which
 * units are in use, what there is of each chain, how much of all; not the chunks, but for those
 * with a pending content, and those that the journal tells of (extent_replay.c), which become
 * entries.
 *
 * An index of an older version does not have all of that: extent_check.c reads the whole of it.
 */
#include "chunk/extent_start_priv.h"

#include <string.h>

#define LOAD_PAGE 512u
#define LOAD_AHEAD 4096u
#define LOAD_ENTRIES 64u /* at a time, or more of a large index: */
#define LOAD_ENTRIES_MAX 512u
#define LOAD_ENTRY_BYTES (UINT64_C(256) << 10) /* of its memory for each of them */

static void load_page(struct loop_task *t);

/* ---- Records ---- */

static int load_about(struct chunk_loading *l, struct kv_slice value)
{
    l->told = true;
    return chunk_about_decode(value, &l->about);
}

/* What is used comes in runs. */
static int load_slab(struct chunk_loading *l, struct kv_slice key, struct kv_slice value)
{
    uint64_t slab = 0;
    const uint8_t *bits = value.at;
    int rc = chunk_key_slab_decode(key, &slab);
    if (rc < 0 || value.len != CHUNK_SLAB_UNITS / 8) {
        return rc < 0 ? rc : -ERR_bad_length;
    }
    for (uint32_t i = 0; i < CHUNK_SLAB_UNITS && rc == 0;) {
        uint32_t n = 0;
        while (i + n < CHUNK_SLAB_UNITS && (bits[(i + n) / 8] >> (i + n) % 8 & 1) != 0) {
            n++;
        }
        uint64_t unit = slab * CHUNK_SLAB_UNITS + i;
        bool inside = unit < l->x->units && n <= l->x->units - unit;
        if (n > 0 && !inside) {
            return err_set(&l->error, -ERR_bad_value,
                           "the index of '%s' uses units of a container that is not there",
                           l->x->s->directory);
        }
        rc = n == 0 ? 0 : chunk_space_claim(l->x, unit, n);
        i += n + 1;
    }
    return rc;
}

static int load_pending(struct chunk_loading *l, struct kv_slice key)
{
    struct chunk_key chunk;
    uint32_t chain = 0;
    int rc = chunk_key_mark_decode(key, CHUNK_MARK_PENDING, &chain, &chunk);
    return rc < 0 ? rc : chunk_entry_get(l->x->s, chunk, true) == NULL ? -ENOMEM : 0;
}

static int load_sum(struct chunk_loading *l, struct kv_slice key, struct kv_slice value)
{
    struct chunk_sum sum;
    uint32_t chain = 0;
    int rc = chunk_key_sum_decode(key, &chain);
    rc = rc < 0 ? rc : chunk_sum_decode(value, &sum);
    return rc < 0 ? rc : chunk_sums_add(&l->x->s->sums, chain, sum);
}

static int load_record(struct chunk_loading *l, struct kv_slice key, struct kv_slice value)
{
    switch (l->phase) {
    case CHUNK_LOAD_ABOUT:
        return load_about(l, value);
    case CHUNK_LOAD_CHECK:
        return chunk_check_record(l, key, value);
    case CHUNK_LOAD_SLABS:
        return load_slab(l, key, value);
    case CHUNK_LOAD_PENDING:
        return load_pending(l, key);
    case CHUNK_LOAD_SUMS:
        return load_sum(l, key, value);
    case CHUNK_LOAD_OVER:
    default:
        return -ERR_bad_value;
    }
}

/* ---- The walk ---- */

static void load_pause(struct chunk_loading *l)
{
    l->it = kv_iter_free(l->it);
    kv_need_release(&l->need);
}

static void load_over(struct chunk_loading *l, int rc)
{
    load_pause(l);
    l->snapshot = kv_snapshot_free(l->snapshot);
    if (rc < 0 && l->error.code == 0) {
        rc = err_set(&l->error, rc, "the index of '%s'", l->x->s->directory);
    }
    chunk_start_loaded(l, rc);
}

/* Whether all of the index is read is known with the record about the whole; a new one has none. */
static void load_next_phase(struct chunk_loading *l)
{
    int rc = l->phase == CHUNK_LOAD_CHECK ? chunk_check_over(l) : 0;
    bool about = l->phase == CHUNK_LOAD_ABOUT;
    load_pause(l);
    l->after.len = 0;
    if (about && chunk_check_wanted(l)) {
        rc = chunk_check_begin(l);
        l->phase = CHUNK_LOAD_CHECK;
    } else {
        l->phase = about ? CHUNK_LOAD_SLABS : l->phase + 1;
    }
    if (l->phase == CHUNK_LOAD_SUMS && l->converting) { /* they were added up */
        l->phase = CHUNK_LOAD_OVER;
    }
    if (rc < 0 || l->phase == CHUNK_LOAD_OVER) {
        load_over(l, rc);
    } else {
        loop_defer(l->x->s->loop, &l->task);
    }
}

/* Old memtables of the index are moved into its nodes meanwhile: a state that is looked at for long
 * may be given up. Nothing is committed before the end, so that a newer one has the same records.
 */
static int load_again(struct chunk_loading *l)
{
    load_pause(l);
    l->snapshot = kv_snapshot_free(l->snapshot);
    return kv_snapshot_new(l->x->index, &l->snapshot);
}

static void load_fetched(struct kv_fetch *f, int rc)
{
    struct chunk_loading *l = container_of(f, struct chunk_loading, fetch);
    if (rc < 0) {
        load_over(l, rc);
        return;
    }
    load_page(&l->task);
}

static int load_seek(struct chunk_loading *l)
{
    /* By phase: the first byte of its keys, and that behind them. */
    static const uint8_t range[CHUNK_LOAD_OVER][2] = {[CHUNK_LOAD_ABOUT] = {0, 1},
                                                      [CHUNK_LOAD_CHECK] = {1, 3},
                                                      [CHUNK_LOAD_SLABS] = {2, 3},
                                                      [CHUNK_LOAD_PENDING] = {3, 4},
                                                      [CHUNK_LOAD_SUMS] = {6, 7}};
    const uint8_t *of = range[l->phase];
    struct kv_iter_options opt = {.need = &l->need,
                                  .ahead = LOAD_AHEAD,
                                  .lower = kv_slice_of(&of[0], 1),
                                  .upper = kv_slice_of(&of[1], 1)};
    struct kv_slice after = chunk_index_slice(&l->after);
    int rc = l->it != NULL ? 0 : kv_iter_new(l->snapshot, &opt, &l->it);
    if (rc < 0) {
        return rc;
    }
    rc = l->it->key.at != NULL ? 1 : kv_iter_seek(l->it, after);
    bool again = rc == 1 && after.len > 0 && kv_slice_compare(l->it->key, after) == 0;
    return again ? kv_iter_next(l->it) : rc;
}

static void load_page(struct loop_task *t)
{
    struct chunk_loading *l = container_of(t, struct chunk_loading, task);
    int rc = load_seek(l);
    for (unsigned i = 0; i < LOAD_PAGE && rc == 1; i++) {
        int bad = load_record(l, l->it->key, l->it->value);
        if (bad < 0 || l->it->key.len > sizeof l->after.bytes) {
            load_over(l, bad < 0 ? bad : -ERR_bad_length);
            return;
        }
        memcpy(l->after.bytes, l->it->key.at, l->it->key.len);
        l->after.len = l->it->key.len;
        rc = kv_iter_next(l->it);
    }
    if (rc == -ERR_need) {
        l->fetch = (struct kv_fetch){.need = &l->need, .done = load_fetched};
        kv_fetch(l->x->index, &l->fetch);
    } else if (rc == -ECANCELED && load_again(l) == 0) {
        loop_defer(l->x->s->loop, &l->task);
    } else if (rc < 0) {
        load_over(l, rc);
    } else if (rc == 0) {
        load_next_phase(l);
    } else {
        load_pause(l);
        loop_defer(l->x->s->loop, &l->task);
    }
}

void chunk_load_begin(struct chunk_loading *l)
{
    l->task.run = load_page;
    int rc = kv_snapshot_new(l->x->index, &l->snapshot);
    if (rc < 0) {
        chunk_start_loaded(l, rc);
        return;
    }
    loop_defer(l->x->s->loop, &l->task);
}

/* ---- Entries ---- */

static void entries_page(struct loop_task *t);

static void entries_over(struct chunk_loading *l, int rc)
{
    kv_need_release(&l->need);
    if (rc < 0) {
        rc = err_set(&l->error, rc, "the index of '%s'", l->x->s->directory);
    }
    chunk_start_known(l, rc);
}

static void entries_fetched(struct kv_fetch *f, int rc)
{
    struct chunk_loading *l = container_of(f, struct chunk_loading, fetch);
    if (rc < 0) {
        entries_over(l, rc);
    } else {
        entries_page(&l->task);
    }
}

/* Those of a page that lack something are asked for together. */
static void entries_page(struct loop_task *t)
{
    struct chunk_loading *l = container_of(t, struct chunk_loading, task);
    struct chunk_store *s = l->x->s;
    struct chunk_key from = l->from;
    struct chunk_item *item = chunk_index_next(&s->index, from);
    uint64_t some = base_min(s->opt.index_bytes / LOAD_ENTRY_BYTES, LOAD_ENTRIES_MAX);
    int missing = 0;
    for (uint64_t i = 0; i < base_max(some, LOAD_ENTRIES) && item != NULL; i++) {
        struct chunk_entry *e = chunk_entry_of(item);
        int rc = e->loaded ? 0 : chunk_entry_read(l->x, e, &l->need);
        if (rc < 0 && rc != -ERR_need && rc != -ENOBUFS) {
            entries_over(l, rc);
            return;
        }
        missing = rc < 0 ? rc : missing;
        from = item->key;
        item = chunk_key_step(&from) ? chunk_index_next(&s->index, from) : NULL;
    }
    if (missing == -ENOBUFS && l->need.missing == 0) { /* full of what was fetched: others' turn */
        kv_need_release(&l->need);
        loop_defer(s->loop, &l->task);
        return;
    }
    if (missing < 0) {
        l->fetch = (struct kv_fetch){.need = &l->need, .done = entries_fetched};
        kv_fetch(l->x->index, &l->fetch);
        return;
    }
    kv_need_release(&l->need);
    l->from = from;
    if (item == NULL) {
        entries_over(l, 0);
    } else {
        loop_defer(s->loop, &l->task);
    }
}

void chunk_load_entries(struct chunk_loading *l)
{
    l->task.run = entries_page;
    l->from = (struct chunk_key){0};
    loop_defer(l->x->s->loop, &l->task);
}
