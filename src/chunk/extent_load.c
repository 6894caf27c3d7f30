/*
 * chunk/extent_load.c -- the `extent` engine, while it starts: entries are made of the records of
 * the index.
 */
#include "chunk/extent_start_priv.h"

#include <string.h>

#define LOAD_PAGE 512u
#define LOAD_AHEAD 4096u

static void load_page(struct loop_task *t);

/* ---- Records ---- */

static struct chunk_version *load_content(const struct chunk_content *c)
{
    uint32_t cells = chunk_cells(c->meta.length);
    struct chunk_version *v = chunk_version_new(cells, c->meta.recent_count);
    if (v == NULL) {
        return NULL;
    }
    v->meta = c->meta;
    memcpy(v->recent, c->recent, c->meta.recent_count * sizeof *v->recent);
    if (c->has_cells) {
        memcpy(v->crc, c->crc, cells * sizeof *v->crc);
        memcpy(v->block, c->unit, cells * sizeof *v->block);
    }
    return v;
}

static bool load_whole(const struct chunk_version *v)
{
    return v == NULL || chunk_digest(v->meta.length, v->crc) == v->meta.digest;
}

static uint32_t load_own(const struct chunk_version *v, const struct chunk_version *base)
{
    uint32_t cells = chunk_cells(v->meta.length), own = 0;
    uint32_t others = base == NULL ? 0 : chunk_cells(base->meta.length);
    for (uint32_t i = 0; i < cells; i++) {
        own += v->block[i] != 0 && (i >= others || base->block[i] != v->block[i]) ? 1 : 0;
    }
    return own;
}

void chunk_load_count(struct chunk_store *s, struct chunk_entry *e)
{
    if (e->committed != NULL) {
        chunk_version_count(e->committed);
        e->committed->own_blocks = e->committed->stored;
    }
    if (e->pending != NULL) {
        chunk_version_count(e->pending);
        e->pending->own_blocks = load_own(e->pending, e->committed);
    }
    chunk_entry_account(s, e);
}

/* All of a chunk's parts have come. One whose cells are not all there has been damaged: it must be
 * repaired from another copy. */
static void load_close(struct chunk_loading *l)
{
    struct chunk_entry *e = l->e;
    struct chunk_store *s = l->x->s;
    l->e = NULL;
    if (e == NULL) {
        return;
    }
    bool good = load_whole(e->committed), good_too = load_whole(e->pending);
    if (!good) {
        chunk_entry_set(s, e, &e->committed, NULL);
        s->damaged_count += e->damaged ? 0 : 1;
        e->damaged = true;
    }
    if (!good_too) {
        chunk_entry_set(s, e, &e->pending, NULL);
    }
    if (!good || !good_too) {
        l->x->wrong++;
        chunk_entry_changed(s, e);
        e->written = e->change;
    }
    chunk_load_count(s, e);
}

static int load_head(struct chunk_loading *l, struct chunk_key key, struct kv_slice value)
{
    struct chunk_store *s = l->x->s;
    CLEANUP(mem_freep) struct chunk_head *h = mem_zalloc(sizeof *h);
    struct chunk_entry *e = h == NULL ? NULL : chunk_entry_get(s, key, true);
    int rc = e == NULL ? -ENOMEM : chunk_head_decode(value, h);
    if (rc < 0) {
        return rc;
    }
    struct chunk_version *committed = h->has_committed ? load_content(&h->committed) : NULL;
    struct chunk_version *pending = h->has_pending ? load_content(&h->pending) : NULL;
    e->exists = true;
    s->exists_count++;
    e->damaged = h->damaged;
    s->damaged_count += h->damaged ? 1 : 0;
    e->chain = h->chain;
    e->last_ver = h->last_ver;
    e->known = h->known;
    l->known = base_max(l->known, h->known);
    chunk_entry_set(s, e, &e->committed, committed);
    chunk_entry_set(s, e, &e->pending, pending);
    e->indexed = (struct chunk_indexed){.chain = h->chain, .exists = true, .damaged = h->damaged};
    e->indexed.committed = chunk_version_ref(committed);
    e->indexed.pending = chunk_version_ref(pending);
    l->e = e;
    return (h->has_committed && committed == NULL) || (h->has_pending && pending == NULL) ? -ENOMEM
                                                                                          : 0;
}

static int load_group(struct chunk_loading *l, struct chunk_key key, unsigned part,
                      struct kv_slice value)
{
    bool of_pending = part >= CHUNK_PART_PENDING;
    unsigned group = part - (of_pending ? CHUNK_PART_PENDING : CHUNK_PART_COMMITTED);
    struct chunk_version *v = l->e == NULL ? NULL : of_pending ? l->e->pending : l->e->committed;
    bool fits = v != NULL && chunk_key_compare(key, l->e->item.key) == 0 &&
                !chunk_content_is_small(v->meta.length) &&
                group * CHUNK_GROUP < chunk_cells(v->meta.length);
    if (!fits) {
        l->x->wrong++; /* of nothing: the next content of it writes over it */
        return 0;
    }
    uint32_t at = group * CHUNK_GROUP, cells = chunk_cells(v->meta.length);
    return chunk_group_decode(value, (unsigned)base_min(cells - at, CHUNK_GROUP), v->crc + at,
                              v->block + at);
}

static uint64_t load_bits(struct kv_slice value)
{
    const uint8_t *at = value.at;
    uint64_t bits = 0;
    for (size_t i = 0; i < value.len; i++) {
        bits += (unsigned)__builtin_popcount(at[i]);
    }
    return bits;
}

static int load_record(struct chunk_loading *l, struct kv_slice key, struct kv_slice value)
{
    struct chunk_key chunk;
    uint64_t slab = 0;
    unsigned part = 0;
    if (chunk_key_part_decode(key, &chunk, &part) == 0) {
        if (part != CHUNK_PART_HEAD) {
            return load_group(l, chunk, part, value);
        }
        load_close(l);
        return load_head(l, chunk, value);
    }
    load_close(l);
    if (chunk_key_slab_decode(key, &slab) == 0) {
        l->slab_units += load_bits(value);
        return 0;
    }
    struct chunk_index_key about = chunk_key_about();
    if (kv_slice_compare(key, chunk_index_slice(&about)) == 0) {
        l->told = true;
        return chunk_about_decode(value, &l->about);
    }
    return -ERR_bad_value;
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
    if (rc < 0) {
        chunk_start_loaded(l, err_set(&l->error, rc, "the index of '%s'", l->x->s->directory));
        return;
    }
    load_close(l);
    chunk_start_loaded(l, 0);
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
    const uint8_t end = CHUNK_MARK_PENDING; /* marks tell nothing that heads do not */
    struct kv_iter_options opt = {
        .need = &l->need, .ahead = LOAD_AHEAD, .upper = kv_slice_of(&end, 1)};
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
        return;
    }
    if (rc <= 0) {
        load_over(l, rc);
        return;
    }
    load_pause(l);
    loop_defer(l->x->s->loop, &l->task);
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
