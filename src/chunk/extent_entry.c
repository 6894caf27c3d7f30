/*
 * chunk/extent_entry.c -- the `extent` engine: what the index has of one chunk becomes an entry in
 * memory, when somebody asks for it, and leaves it again when nobody uses it and others need the
 * room.
 *
 * An entry that is not in memory is as the index has it: one with a change that the index does not
 * know yet, with a pending content (a commit comes without waiting), or that anybody uses, stays.
 * That a chunk is damaged the index knows, too.
 */
#include "chunk/extent_index_priv.h"

#include "base/env.h"
#include "base/fault.h"

#include <string.h>

#define FORGET_LOOKS 64u

/* ---- One chunk of the index ---- */

struct chunk_version *chunk_load_content(const struct chunk_content *c)
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

struct found {
    struct kv_snapshot *snapshot;
    struct kv_need *need;
    struct chunk_key key;
    struct chunk_head head;
    struct chunk_version *committed, *pending;
};

/* What is not there, or makes no sense, stays zero: the digest tells. */
static int found_groups(struct found *f, unsigned part, struct chunk_version *v)
{
    uint32_t cells =
        v == NULL || chunk_content_is_small(v->meta.length) ? 0 : chunk_cells(v->meta.length);
    int missing = 0;
    for (uint32_t at = 0; at < cells; at += CHUNK_GROUP) {
        struct chunk_index_key k = chunk_key_part(f->key, part + at / CHUNK_GROUP);
        struct kv_slice value;
        int rc = kv_get(f->snapshot, chunk_index_slice(&k), f->need, &value);
        if (rc == -ERR_need) {
            missing = rc; /* those behind it are asked for, too */
        } else if (rc < 0) {
            return rc;
        } else if (rc == 1) {
            unsigned n = (unsigned)base_min(cells - at, CHUNK_GROUP);
            rc = chunk_group_decode(value, n, v->crc + at, v->block + at);
            if (rc < 0) {
                return rc;
            }
        }
    }
    return missing;
}

static int found_contents(struct found *f)
{
    const struct chunk_head *h = &f->head;
    f->committed = h->has_committed ? chunk_load_content(&h->committed) : NULL;
    f->pending = h->has_pending ? chunk_load_content(&h->pending) : NULL;
    if ((h->has_committed && f->committed == NULL) || (h->has_pending && f->pending == NULL)) {
        return -ENOMEM;
    }
    int rc = found_groups(f, CHUNK_PART_COMMITTED, f->committed);
    int too = rc == 0 || rc == -ERR_need ? found_groups(f, CHUNK_PART_PENDING, f->pending) : rc;
    return too < 0 ? too : rc;
}

/* 1: there is such a chunk. */
static int found_get(struct found *f)
{
    struct chunk_index_key k = chunk_key_part(f->key, CHUNK_PART_HEAD);
    struct kv_slice value;
    int rc = kv_get(f->snapshot, chunk_index_slice(&k), f->need, &value);
    if (rc == 1) {
        rc = chunk_head_decode(value, &f->head);
        rc = rc < 0 ? rc : found_contents(f);
        rc = rc < 0 ? rc : 1;
    }
    return rc;
}

/* ---- It becomes an entry ---- */

static bool content_good(const struct chunk_extent *x, const struct chunk_version *v)
{
    bool good = v == NULL || chunk_digest(v->meta.length, v->crc) == v->meta.digest;
    for (uint32_t cell = 0; v != NULL && good && cell < chunk_cells(v->meta.length); cell++) {
        good = v->block[cell] == 0 || v->block[cell] < x->units; /* zeros lie nowhere */
    }
    return good;
}

/* Its cells are not all there. Where it lies is not believed either: units that may be another's
 * are not given back. */
static void content_drop(struct chunk_store *s, struct chunk_entry *e, struct chunk_version **place)
{
    struct chunk_version *v = *place;
    memset(v->block, 0, chunk_cells(v->meta.length) * sizeof *v->block);
    v->stored = v->own_blocks = 0;
    s->extent->wrong++;
    chunk_entry_set(s, e, place, NULL);
    chunk_entry_account(s, e);
    chunk_entry_changed(s, e);
    e->written = e->change;
}

static void entry_check(struct chunk_store *s, struct chunk_entry *e)
{
    if (!content_good(s->extent, e->pending)) {
        content_drop(s, e, &e->pending);
    }
    if (content_good(s->extent, e->committed)) {
        return;
    }
    content_drop(s, e, &e->committed);
    if (s->started) {
        chunk_entry_damage(s, e);
    } else if (!e->damaged) {
        e->damaged = true;
        s->damaged_count++;
    }
}

static uint64_t entry_count(struct chunk_entry *e)
{
    uint64_t blocks = 0;
    if (e->committed != NULL) {
        chunk_version_count(e->committed);
        e->committed->own_blocks = e->committed->stored;
        blocks += e->committed->stored;
    }
    if (e->pending != NULL) {
        chunk_version_count(e->pending);
        e->pending->own_blocks = chunk_version_own(e->pending, e->committed);
        blocks += e->pending->own_blocks;
    }
    return blocks * CHUNK_BLOCK;
}

void chunk_entry_recount(struct chunk_store *s, struct chunk_entry *e)
{
    (void)entry_count(e);
    chunk_entry_account(s, e);
}

/* The store's counts have it already. */
static void entry_fill(struct chunk_entry *e, struct found *f)
{
    const struct chunk_head *h = &f->head;
    e->exists = true;
    e->damaged = h->damaged;
    e->chain = h->chain;
    e->last_ver = h->last_ver;
    e->known = h->known;
    e->committed = f->committed;
    e->pending = f->pending;
    f->committed = f->pending = NULL;
    e->indexed = (struct chunk_indexed){.committed = chunk_version_ref(e->committed),
                                        .pending = chunk_version_ref(e->pending),
                                        .chain = h->chain,
                                        .exists = true,
                                        .damaged = h->damaged};
    e->accounted_bytes = entry_count(e);
    chunk_sums_known(e);
}

static size_t version_bytes(const struct chunk_version *v)
{
    size_t cells = v == NULL ? 0 : (size_t)chunk_cells(v->meta.length) + 1;
    return v == NULL ? 0
                     : sizeof *v + cells * (sizeof *v->block + sizeof *v->crc) +
                           ((size_t)v->meta.recent_count + 1) * sizeof *v->recent;
}

/* What the index has is there until it knows better. */
static size_t indexed_bytes(const struct chunk_entry *e)
{
    const struct chunk_indexed *had = &e->indexed;
    bool committed = had->committed != e->committed && had->committed != e->pending;
    bool pending = had->pending != e->committed && had->pending != e->pending;
    return (committed ? version_bytes(had->committed) : 0) +
           (pending ? version_bytes(had->pending) : 0);
}

void chunk_entry_charge(struct chunk_store *s, struct chunk_entry *e)
{
    size_t bytes = sizeof *e + version_bytes(e->committed) + version_bytes(e->pending);
    bytes += indexed_bytes(e);
    s->cached_bytes += bytes - e->charged;
    e->charged = bytes;
    if (list_empty(&e->clock)) {
        list_push_back(&s->clock, &e->clock);
    }
}

static void entry_loaded(struct chunk_store *s, struct chunk_entry *e)
{
    e->loaded = e->used = true;
    entry_check(s, e);
    chunk_entry_charge(s, e);
    chunk_rewrite_look(s->extent, e);
    chunk_forget_soon(s);
}

int chunk_entry_read(struct chunk_extent *x, struct chunk_entry *e, struct kv_need *need)
{
    struct found *f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        return -ENOMEM;
    }
    CHECK(!e->loaded && !e->exists);
    f->key = e->item.key;
    f->need = need;
    int rc = kv_snapshot_new(x->index, &f->snapshot);
    rc = rc < 0 ? rc : found_get(f);
    f->snapshot = kv_snapshot_free(f->snapshot);
    if (rc == 1) {
        entry_fill(e, f);
        e->sum_chain = x->s->opt.rebuild == NULL ? e->sum_chain : 0; /* sums are made of all */
    }
    chunk_version_unref(f->committed);
    chunk_version_unref(f->pending);
    mem_free(f);
    if (rc >= 0) {
        entry_loaded(x->s, e);
    }
    return rc < 0 ? rc : 0;
}

/* An index that cannot be read any more is the end of the store, as a start with it would be. */
int chunk_index_failed(struct chunk_extent *x, int rc)
{
    if (rc < 0 && rc != -ERR_need && rc != -ENOMEM && rc != -ERR_busy && err_is(rc, EIO)) {
        chunk_store_fail(x->s, rc, "the index could not be read");
    }
    /* It has no room just now, for it is being written to: as with any other queue that is full. */
    return rc == -ENOMEM || rc == -ECANCELED || rc == -ENOBUFS ? -ERR_busy : rc;
}

int chunk_extent_know(struct chunk_store *s, struct chunk_entry *e)
{
    struct kv_need need = {0};
    if (!list_empty(&e->queue) || FAULT(s->opt.env->fault, "chunk.need")) {
        return -ERR_need; /* it is being read */
    }
    int rc = chunk_entry_read(s->extent, e, &need);
    kv_need_release(&need);
    return chunk_index_failed(s->extent, rc);
}

/* ---- Before a work's turn ---- */

struct entry_reading {
    struct chunk_extent *x;
    struct chunk_work *w;
    struct kv_need need;
    struct kv_fetch fetch;
};

static void reading_go(struct entry_reading *r);

static void reading_over(struct entry_reading *r, int rc)
{
    struct chunk_work *w = r->w;
    kv_need_release(&r->need);
    rc = chunk_index_failed(r->x, rc);
    mem_free(r);
    w->next(w, rc);
}

static void reading_fetched(struct kv_fetch *f, int rc)
{
    struct entry_reading *r = container_of(f, struct entry_reading, fetch);
    struct chunk_store *s = r->x->s;
    s->in_flight--;
    if (s->freed) {
        kv_need_release(&r->need);
        mem_free(r);
        if (s->in_flight == 0) {
            chunk_store_destroy(s);
        }
        return;
    }
    if (rc < 0) {
        reading_over(r, rc);
    } else {
        reading_go(r);
    }
    chunk_stop_check(s);
}

static void reading_go(struct entry_reading *r)
{
    int rc = chunk_entry_read(r->x, r->w->e, &r->need);
    if (rc != -ERR_need) {
        reading_over(r, rc);
        return;
    }
    r->fetch = (struct kv_fetch){.need = &r->need, .done = reading_fetched};
    r->x->s->in_flight++;
    kv_fetch(r->x->index, &r->fetch);
}

void chunk_extent_load(struct chunk_work *w, chunk_next *next)
{
    struct entry_reading *r = mem_zalloc(sizeof *r);
    w->next = next;
    if (r == NULL) {
        next(w, -ENOMEM);
        return;
    }
    r->x = w->s->extent;
    r->w = w;
    reading_go(r);
}

/* ---- Room ---- */

static bool entry_forgettable(const struct chunk_store *s, const struct chunk_entry *e)
{
    bool idle = e->holds == 0 && list_empty(&e->queue) && list_empty(&e->waiters) &&
                list_empty(&e->pins) && !e->releasing && e->recording == 0;
    bool told = list_empty(&e->dirty) && list_empty(&e->flip) && !e->kept &&
                e->exists == e->indexed.exists && e->damaged == e->indexed.damaged;
    return idle && told && e->pending == NULL && e->stable == e->change && s->extent->loaded;
}

/* What it has let go of is stable and nobody has a pin: only time has to pass. */
static void entry_forget(struct chunk_store *s, struct chunk_entry *e)
{
    list_splice_back(&s->extent->rested, &e->resting);
    list_remove(&e->rests);
    chunk_index_remove(&s->index, e->item.key);
    chunk_entry_free(s, e);
}

static bool cache_full(const struct chunk_store *s)
{
    return s->cached_bytes > s->opt.entry_bytes;
}

void chunk_forget_soon(struct chunk_store *s)
{
    if (cache_full(s) && s->started) {
        loop_defer(s->loop, &s->task);
    }
}

/* The clock: who was used since it came by last time stays for another round. */
void chunk_extent_forget(struct chunk_store *s)
{
    bool any = false;
    for (unsigned i = 0; i < FORGET_LOOKS && cache_full(s) && !list_empty(&s->clock); i++) {
        struct chunk_entry *e = LIST_ENTRY(list_pop_front(&s->clock), struct chunk_entry, clock);
        if (!e->used && entry_forgettable(s, e)) {
            entry_forget(s, e);
            any = true;
            continue;
        }
        any = any || e->used;
        e->used = false;
        list_push_back(&s->clock, &e->clock);
        chunk_entry_charge(s, e);
    }
    if (any) {
        chunk_forget_soon(s);
    }
}
