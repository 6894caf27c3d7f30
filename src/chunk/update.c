/*
 * chunk/update.c -- new contents: reserve, read edges, write cells, write the record, and only then
 * change what is in memory. An update that fails before its record has changed nothing.
 */
#include "chunk/engine_priv.h"

#include "base/crc32c.h"

#include <string.h>

static void update_build(struct chunk_work *w);
static void update_edges(struct chunk_work *w, int rc);

/* ---- Ends ---- */

static void update_give_back(struct chunk_work *w)
{
    if (w->plan != NULL) {
        w->s->engine->unreserve(w);
        w->plan = chunk_plan_free(w->plan);
    }
}

static void update_finish(struct chunk_work *w, int rc)
{
    struct chunk_update *u = w->of.update;
    u->work = NULL;
    chunk_work_free(w);
    u->done(u, rc);
}

static void update_end(struct chunk_work *w, int rc)
{
    update_give_back(w);
    chunk_entry_rested(w->s, w->e);
    chunk_work_end(w, rc);
}

/* What was made for a chunk that did not come to be has gone; or not, and is cleared away when it
 * is met again. */
static void update_unmade(struct chunk_work *w, int rc)
{
    (void)rc;
    update_end(w, w->kept);
}

static void update_failed(struct chunk_work *w, int rc)
{
    w->e->locked = false;
    if (w->e->exists) {
        update_end(w, rc);
        return;
    }
    w->kept = rc;
    w->s->engine->unmake(w, update_unmade);
}

/* ---- Checks ---- */

static int update_check(const struct chunk_store *s, const struct chunk_entry *e,
                        const struct chunk_update *u)
{
    if (s->failed != 0) {
        return -ERR_failed_before;
    }
    if (chunk_store_dead(s, u->key.data_id)) {
        return -ERR_gone;
    }
    if (e->damaged && e->committed == NULL && e->pending == NULL && u->kind != CHUNK_WHOLE) {
        return -ERR_corrupt; /* nothing is known of it but that it was */
    }
    if (u->moves) { /* nor is anything reserved that begins from it */
        bool is = e->committed != NULL && e->pending == NULL && !e->damaged && e->holds == 0 &&
                  chunk_identity_equal(e->committed->meta.identity, u->identity);
        return is ? 0 : -EINVAL;
    }
    if (u->install) {
        return 0;
    }
    if (e->pending != NULL) {
        return -EEXIST;
    }
    struct chunk_identity have = {0};
    if (e->committed != NULL) {
        have = e->committed->meta.identity;
    }
    return chunk_identity_equal(have, u->base) ? 0 : -EINVAL;
}

/* ---- Edges ---- */

static void update_reserved(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    struct chunk_update *u = w->of.update;
    w->parked = true;
    w->e->holds++;
    chunk_work_leave(w);
    u->done(u, 0); /* w stays in u->work */
}

static void update_ready(struct chunk_work *w)
{
    if (w->turned && !w->parked) {
        w->begin = update_ready;
        if (chunk_look_wait(w->s, w)) {
            return;
        }
        w->turned = false;
        w->s->engine->reserve(w, update_reserved);
        return;
    }
    w->parked = false;
    update_build(w);
}

static struct chunk_edge *update_next_edge(struct chunk_work *w)
{
    for (; w->at < 2; w->at++) {
        struct chunk_edge *edge = &w->plan->edge[w->at];
        if (edge->used && edge->read) {
            return edge;
        }
    }
    return NULL;
}

static bool update_edge_good(struct chunk_work *w, int64_t got)
{
    struct chunk_edge *edge = &w->plan->edge[w->at];
    if (got < 0 && !err_is((int)got, EIO)) {
        update_failed(w, (int)got);
        return false;
    }
    bool good = got == (int64_t)edge->old_bytes &&
                crc32c(0, edge->bytes, edge->old_bytes) == w->plan->old->crc[edge->cell];
    if (!good) {
        chunk_entry_damage(w->s, w->e);
        update_failed(w, -ERR_bad_crc);
        return false;
    }
    w->at++;
    return true;
}

static void update_edge_read(struct chunk_work *w, int64_t got)
{
    if (update_edge_good(w, got)) {
        update_edges(w, 0);
    }
}

static void update_edges(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    for (struct chunk_edge *edge = update_next_edge(w); edge != NULL; edge = update_next_edge(w)) {
        uint64_t block = w->plan->old->block[edge->cell];
        struct chunk_place at = w->s->engine->place(w->s, w->e->file, block);
        if (at.bytes == NULL) {
            w->io = (struct disk_req){.op = DISK_READ,
                                      .file = at.file,
                                      .offset = at.offset,
                                      .buf = edge->bytes,
                                      .len = edge->old_bytes};
            chunk_work_io(w, &w->io, update_edge_read);
            return;
        }
        memcpy(edge->bytes, at.bytes, edge->old_bytes);
        if (!update_edge_good(w, edge->old_bytes)) {
            return;
        }
    }
    update_ready(w);
}

static void update_hot(struct chunk_work *w, int rc)
{
    if (rc == 0) {
        rc = chunk_plan_new(w->of.update, w->e, &w->plan);
    }
    w->at = 0;
    w->life = w->e->life;
    update_edges(w, rc);
}

static void update_begin(struct chunk_work *w)
{
    int rc = update_check(w->s, w->e, w->of.update);
    if (rc < 0) {
        update_end(w, rc);
        return;
    }
    w->s->engine->hot(w, true, update_hot);
}

/* The second half, after a reservation: the chunk must be as it was. */
static void update_resume(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    e->holds--;
    int rc = update_check(w->s, e, w->of.update);
    bool same = w->plan->old == NULL || w->plan->old == e->committed;
    if (rc == 0 && (!same || w->life != e->life)) {
        rc = -EINVAL;
    }
    if (rc == 0 && w->of.update->kind == CHUNK_WRITE &&
        w->plan->to != w->of.update->offset + w->of.update->length) {
        rc = -EINVAL;
    }
    if (rc < 0) {
        w->parked = false;
        update_failed(w, rc);
        return;
    }
    w->s->engine->hot(w, true, update_edges);
}

/* ---- Writing ---- */

/* What lies here is as bad as where it came from. */
static bool update_spoilt(const struct chunk_update *u)
{
    return u->kind == CHUNK_WHOLE && (u->flags & CHUNK_DAMAGED) != 0;
}

static void update_apply(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    struct chunk_update *u = w->of.update;
    struct chunk_version *v = w->version;
    w->version = NULL;
    e->locked = false;
    chunk_entry_chain(s, e, u->chain);
    e->last_ver = base_max(base_max(e->last_ver, u->last_ver), u->identity.ver);
    u->digest = v->meta.digest;
    u->new_length = v->meta.length;
    v->unsent = !u->install;
    if (!u->install) {
        chunk_entry_set(s, e, &e->pending, v);
    } else {
        if (e->pending != NULL) {
            chunk_rest_version(s, e, e->pending, e->committed);
        }
        if (e->committed != NULL) {
            chunk_rest_version(s, e, e->committed, v);
        }
        chunk_entry_set(s, e, &e->pending, NULL);
        chunk_entry_set(s, e, &e->committed, v);
        if (v->meta.whole) {
            s->damaged_count -= e->damaged ? 1 : 0;
            e->damaged = update_spoilt(u);
            s->damaged_count += e->damaged ? 1 : 0;
        }
    }
    chunk_entry_account(s, e);
    update_end(w, 0);
}

static void update_recorded(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        w->s->engine->waste(w, rc);
        update_failed(w, rc);
        return;
    }
    update_apply(w);
}

/* It is written. */
static void update_record(struct chunk_work *w, int rc)
{
    struct chunk_entry *e = w->e;
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    uint32_t cells = chunk_cells(w->plan->to);
    if (w->plan->to > w->plan->from && w->version->block[cells - 1] != 0) {
        e->tail_block = w->version->block[cells - 1];
        e->tail_bytes = chunk_cell_bytes(w->plan->new_length, cells - 1);
    }
    struct chunk_update *u = w->of.update;
    bool heals = u->install && w->version->meta.whole;
    struct chunk_state st = {.committed = u->install ? w->version : e->committed,
                             .pending = u->install ? NULL : w->version,
                             .last_ver =
                                 base_max(base_max(e->last_ver, u->last_ver), u->identity.ver),
                             .chain = u->chain,
                             .damaged = heals ? update_spoilt(u) : e->damaged};
    e->locked = true;
    w->s->engine->record(w, &st, update_recorded);
}

/* The same content in other places: all else that is said of it stays. */
static int update_move(struct chunk_work *w)
{
    const struct chunk_version *old = w->e->committed;
    struct chunk_version *v = w->version;
    if (v->meta.length != old->meta.length || v->meta.digest != old->meta.digest) {
        return -EINVAL;
    }
    size_t bytes = (old->meta.recent_count + 1u) * sizeof *v->recent;
    struct chunk_recent *recent = mem_dup(old->recent, bytes);
    if (recent == NULL) {
        return -ENOMEM;
    }
    mem_free(v->recent);
    v->recent = recent;
    v->meta = old->meta;
    return 0;
}

static void update_build(struct chunk_work *w)
{
    int rc = chunk_plan_build(w->plan, w->of.update, w->e, &w->version);
    rc = rc == 0 && w->of.update->moves ? update_move(w) : rc;
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    if (!w->of.update->install && update_spoilt(w->of.update)) {
        w->version->meta.flags |= CHUNK_DAMAGED; /* until it is committed, it alone is */
    }
    w->s->engine->write(w, update_record);
}

/* ---- Calls ---- */

static void update_submit(struct chunk_store *s, struct chunk_update *u, bool reserve)
{
    CHECK(!s->stopping);
    struct chunk_entry *e = chunk_entry_get(s, u->key, true);
    struct chunk_work *w = e == NULL ? NULL : chunk_work_new(s);
    if (w == NULL) {
        if (e != NULL) {
            chunk_entry_settle(s, e);
        }
        u->work = s->refused.update;
        s->refused.update = u;
        loop_defer(s->loop, &s->task);
        return;
    }
    u->work = w;
    w->of.update = u;
    w->lane = u->lane;
    w->turned = reserve;
    w->begin = update_begin;
    w->finish = update_finish;
    chunk_work_enqueue(w, e);
}

void chunk_store_reserve(struct chunk_store *s, struct chunk_update *u)
{
    LOOP_OWNED(s->loop);
    CHECK(u->work == NULL);
    update_submit(s, u, true);
}

void chunk_store_update(struct chunk_store *s, struct chunk_update *u)
{
    LOOP_OWNED(s->loop);
    if (u->work == NULL) {
        update_submit(s, u, false);
        return;
    }
    CHECK(u->work->parked);
    u->work->begin = update_resume;
    chunk_work_enqueue(u->work, u->work->e);
}

static void unreserve_finish(struct chunk_work *w, int rc)
{
    (void)rc;
    chunk_work_free(w);
}

static void unreserve_begin(struct chunk_work *w)
{
    w->e->holds--;
    update_failed(w, -ERR_cancelled); /* a file made for it goes */
}

void chunk_store_unreserve(struct chunk_store *s, struct chunk_update *u)
{
    LOOP_OWNED(s->loop);
    struct chunk_work *w = u->work;
    if (w == NULL) {
        return;
    }
    CHECK(w->parked);
    u->work = NULL;
    w->parked = false;
    w->begin = unreserve_begin;
    w->finish = unreserve_finish;
    chunk_work_enqueue(w, w->e);
}
