/*
 * chunk/extent_damage.c -- the `extent` engine: a walk over the damaged chunks that the index has.
 * They are not kept in memory, so that any number of them leaves room for others; marks of their
 * own say which they are.
 */
#include "chunk/extent_index_priv.h"

#define DAMAGE_LOOKS 256u
#define DAMAGE_AHEAD 512u /* records, when it has to be read from the disk anyway */

/* What memory knows is newer. */
static bool damage_told(struct chunk_store *s, const struct chunk_damage *d)
{
    const struct chunk_entry *e = chunk_entry_of(chunk_index_find(&s->index, d->key));
    return e == NULL || !e->loaded || (e->exists && e->damaged);
}

/* 1: *d is the next one; 0: there are no more. */
static int damage_walk(struct chunk_store *s, struct kv_iter *it, struct chunk_damage *d)
{
    struct chunk_index_key last = chunk_key_mark(CHUNK_MARK_DAMAGED, d->chain, d->key);
    struct kv_slice from = d->behind ? chunk_index_slice(&last) : kv_slice_of("", 0);
    int rc = kv_iter_seek(it, from);
    if (rc == 1 && d->behind && kv_slice_compare(it->key, from) == 0) {
        rc = kv_iter_next(it);
    }
    for (unsigned i = 0; rc == 1; i++) {
        rc = chunk_key_mark_decode(it->key, CHUNK_MARK_DAMAGED, &d->chain, &d->key);
        if (rc < 0) {
            return rc;
        }
        d->behind = true;
        if (damage_told(s, d)) {
            return 1;
        }
        rc = i == DAMAGE_LOOKS ? -EAGAIN : kv_iter_next(it);
    }
    return rc;
}

static int damage_next(struct chunk_extent *x, struct chunk_damage *d)
{
    static const uint8_t first = CHUNK_MARK_DAMAGED, end = CHUNK_MARK_DAMAGED + 1;
    const struct kv_iter_options opt = {.lower = kv_slice_of(&first, 1),
                                        .upper = kv_slice_of(&end, 1),
                                        .need = &x->damage.need,
                                        .ahead = DAMAGE_AHEAD};
    struct kv_snapshot *snapshot = NULL;
    struct kv_iter *it = NULL;
    int rc = kv_snapshot_new(x->index, &snapshot);
    rc = rc < 0 ? rc : kv_iter_new(snapshot, &opt, &it);
    rc = rc < 0 ? rc : damage_walk(x->s, it, d);
    it = kv_iter_free(it);
    snapshot = kv_snapshot_free(snapshot);
    return rc;
}

/* What was read stays in memory until the next call has used it. */
static void damage_fetched(struct kv_fetch *f, int rc)
{
    struct chunk_extent *x = container_of(f, struct chunk_extent, damage.fetch);
    struct chunk_store *s = x->s;
    x->damage.fetching = false;
    x->damage.rc = rc;
    if (chunk_came_back(s)) {
        chunk_stop_check(s);
    }
}

static void damage_fetch(struct chunk_extent *x)
{
    struct chunk_damage_read *r = &x->damage;
    r->fetch = (struct kv_fetch){.need = &r->need, .done = damage_fetched};
    r->fetching = true;
    x->s->in_flight++;
    kv_fetch(x->index, &r->fetch);
}

int chunk_extent_next_damaged(struct chunk_store *s, struct chunk_damage *d)
{
    struct chunk_extent *x = s->extent;
    struct chunk_damage_read *r = &x->damage;
    if (r->fetching) {
        return -EAGAIN;
    }
    int rc = r->rc < 0 ? r->rc : damage_next(x, d);
    r->rc = 0;
    if (rc == -ERR_need && !s->stopping) {
        damage_fetch(x);
        return -EAGAIN;
    }
    kv_need_release(&r->need);
    if (rc >= 0) {
        return rc == 1 ? 0 : -ENOENT;
    }
    rc = rc == -EAGAIN ? rc : chunk_index_failed(x, rc);
    return rc == -ERR_busy || rc == -ERR_need ? -EAGAIN : rc;
}
