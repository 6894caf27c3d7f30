/*
 * chunk/extent_verify.c -- the `extent` engine, while it starts: of chunks that records tell of
 * which may not have been stable, the cells that those records wrote are read. What is not there is
 * what a power cut took: a bad pending content is dropped, and with a bad committed one the chunk
 * is what it was before all of those records.
 */
#include "chunk/extent_start_priv.h"

#include "base/crc32c.h"

#include <string.h>

#define VERIFY_CELLS 64u

static void verify_next(struct chunk_loading *l);

static const struct chunk_version *verify_version(const struct chunk_loading *l)
{
    const struct chunk_entry *e = l->touched[l->at].e;
    return l->pending ? e->pending : e->committed;
}

static bool version_has(const struct chunk_version *was, const struct chunk_version *v,
                        uint32_t cell)
{
    return was != NULL && cell < chunk_cells(was->meta.length) &&
           was->block[cell] == v->block[cell] && was->crc[cell] == v->crc[cell] &&
           chunk_cell_bytes(was->meta.length, cell) == chunk_cell_bytes(v->meta.length, cell);
}

static bool verify_wanted(const struct chunk_loading *l, const struct chunk_version *v,
                          uint32_t cell)
{
    const struct chunk_state *was = &l->touched[l->at].was;
    return v->block[cell] != 0 && !version_has(was->committed, v, cell) &&
           !version_has(was->pending, v, cell);
}

/* ---- What is bad ---- */

static void verify_lossy(struct chunk_store *s)
{
    s->super.lossy = true; /* stable before the start is over: chunk_super_save_now() */
}

/* From the older checkpoint on the records would say it once more. */
static void verify_rejected(struct chunk_loading *l)
{
    struct journal_info info;
    journal_info(l->x->journal, &info);
    l->doubted = info.next_index - 1;
}

static void verify_drop(struct chunk_loading *l)
{
    struct chunk_store *s = l->x->s;
    struct chunk_entry *e = l->touched[l->at].e;
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_changed(s, e);
    e->written = e->change;
}

static void verify_fall_back(struct chunk_loading *l)
{
    struct chunk_store *s = l->x->s;
    struct chunk_touched *t = &l->touched[l->at];
    struct chunk_entry *e = t->e;
    verify_lossy(s);
    chunk_entry_set(s, e, &e->pending, chunk_version_ref(t->was.pending));
    chunk_entry_set(s, e, &e->committed, chunk_version_ref(t->was.committed));
    s->damaged_count -= e->damaged ? 1 : 0;
    s->damaged_count += t->existed && t->was.damaged ? 1 : 0;
    e->damaged = t->existed && t->was.damaged;
    s->exists_count += (uint64_t)t->existed - e->exists;
    e->exists = t->existed;
    chunk_entry_chain(s, e, t->was.chain);
    e->last_ver = base_max(e->last_ver, t->was.last_ver); /* numbers are not given again */
    chunk_entry_changed(s, e);
    e->written = e->change;
    if (!e->exists && !e->kept) {
        e->kept = true;
        e->holds++;
    }
}

/* The content is over; -ENOMEM ends all. */
static void verify_content_over(struct chunk_loading *l, int rc)
{
    bool next = l->pending || rc < 0;
    if (rc < 0 && !err_is(rc, EIO)) {
        chunk_start_verified(l, err_set(&l->error, rc, "verification of what was written last"));
        return;
    }
    if (rc < 0) {
        verify_rejected(l);
    }
    if (rc < 0 && l->pending) {
        verify_drop(l);
    } else if (rc < 0) {
        verify_fall_back(l);
    }
    l->pending = !next;
    l->at += next ? 1 : 0;
    l->cell = 0;
    verify_next(l);
}

/* ---- Reading ---- */

static bool verify_good(const struct chunk_loading *l)
{
    const struct chunk_version *v = verify_version(l);
    uint32_t first = l->cell, at = 0;
    for (uint32_t cell = first; cell < l->end; cell++) {
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell);
        if (crc32c(0, l->bytes + at, bytes) != v->crc[cell]) {
            return false;
        }
        at += CHUNK_CELL;
    }
    return true;
}

static void verify_read(struct disk_req *req, int64_t got)
{
    struct chunk_loading *l = container_of(req, struct chunk_loading, req);
    struct chunk_store *s = l->x->s;
    if (!chunk_came_back(s)) {
        return;
    }
    int rc = got < 0                    ? (int)got
             : got < (int64_t)l->wanted ? -ERR_short_msg
             : verify_good(l)           ? 0
                                        : -ERR_bad_crc;
    if (rc < 0) {
        verify_content_over(l, rc);
        return;
    }
    l->cell = l->end;
    verify_next(l);
}

/* A sync that has failed left pages that look as if they were written: what is believed must be
 * what the medium has. Pages that are still to be written stay, and the first round writes them. */
static void verify_dropped(struct disk_req *req, int64_t got)
{
    struct chunk_loading *l = container_of(req, struct chunk_loading, req);
    struct chunk_store *s = l->x->s;
    (void)got;
    if (!chunk_came_back(s)) {
        return;
    }
    l->req.op = DISK_READ;
    l->req.len = l->wanted;
    l->req.done = verify_read;
    s->in_flight++;
    disk_submit(s->disk, &l->req);
}

/* Neighbouring cells that lie in neighbouring units, at once. */
static void verify_submit(struct chunk_loading *l, const struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length);
    uint64_t unit = v->block[l->cell];
    l->end = l->cell + 1;
    while (l->end < cells && l->end - l->cell < VERIFY_CELLS && verify_wanted(l, v, l->end) &&
           v->block[l->end] == unit + (l->end - l->cell)) {
        l->end++;
    }
    uint32_t last = chunk_cell_bytes(v->meta.length, l->end - 1);
    l->wanted = (l->end - 1 - l->cell) * CHUNK_CELL + last;
    l->req = (struct disk_req){.op = DISK_DROP,
                               .file = chunk_space_container(l->x, unit)->file,
                               .offset = chunk_space_offset(l->x, unit),
                               .buf = l->bytes,
                               .len = (uint64_t)(l->end - l->cell) * CHUNK_CELL,
                               .done = verify_dropped};
    l->x->s->in_flight++;
    disk_submit(l->x->s->disk, &l->req);
}

static void verify_next(struct chunk_loading *l)
{
    while (l->at < l->touched_count) {
        const struct chunk_version *v = verify_version(l);
        uint32_t cells = v == NULL ? 0 : chunk_cells(v->meta.length);
        while (l->cell < cells && !verify_wanted(l, v, l->cell)) {
            l->cell++;
        }
        if (l->cell < cells && v->block[l->cell] >= l->x->units) {
            verify_content_over(l, -ERR_short_msg); /* the container never grew so far */
            return;
        }
        if (l->cell < cells) {
            verify_submit(l, v);
            return;
        }
        l->at += l->pending ? 1 : 0;
        l->pending = !l->pending;
        l->cell = 0;
    }
    chunk_start_verified(l, 0);
}

void chunk_verify_begin(struct chunk_loading *l)
{
    l->bytes = mem_alloc((size_t)VERIFY_CELLS * CHUNK_CELL);
    if (l->bytes == NULL) {
        chunk_start_verified(l, -ENOMEM);
        return;
    }
    verify_next(l);
}
