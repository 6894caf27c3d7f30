/*
 * chunk/update.c -- new contents: reserve, read edges, write cells and table, write the record, and
 * only then change what is in memory. An update that fails before its record has changed nothing.
 */
#include "chunk/plan_priv.h"

#include "base/crc32c.h"

#include <string.h>

#define SOON_BYTES (512u << 10) /* large updates go to the medium while more of them come */

static void update_build(struct chunk_work *w);
static void update_edges(struct chunk_work *w, int rc);
static void update_write(struct chunk_work *w);

/* ---- Ends ---- */

static void update_give_back(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    struct chunk_plan *p = w->plan;
    if (p == NULL) {
        return;
    }
    s->reserved_bytes -= p->reserved_bytes;
    p->reserved_bytes = 0;
    if (p->reserved_count > 0 && w->e->life == w->life && w->e->file != NULL) {
        chunk_rest_add(s, w->e, p->reserved_block, p->reserved_count, 0);
    }
    w->plan = chunk_plan_free(p);
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
    if (w->s->ram) {
        chunk_rest_release(w->s, w->e);
    }
    chunk_work_end(w, rc);
}

/* The file of a chunk that did not come to be. */
static void update_discarded(struct chunk_work *w, int64_t rc)
{
    (void)rc; /* left behind: the next creation or the next start clears it away */
    update_end(w, w->kept);
}

static void update_failed(struct chunk_work *w, int rc)
{
    struct chunk_entry *e = w->e;
    e->locked = false;
    if (e->exists || e->file == NULL) {
        update_end(w, rc);
        return;
    }
    chunk_entry_gone(w->s, e);
    w->path = chunk_path(w->s, e->item.key);
    if (w->path == NULL) {
        update_end(w, rc);
        return;
    }
    w->kept = rc;
    w->io = (struct disk_req){.op = DISK_REMOVE, .path = w->path};
    chunk_work_io(w, &w->io, update_discarded);
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

/* ---- Space ---- */

static uint64_t space_floor(const struct chunk_store *s)
{
    return s->ram ? 0 : base_min(s->total_bytes / 1024, UINT64_C(256) << 20);
}

static uint64_t space_free(const struct chunk_store *s)
{
    uint64_t used = s->reserved_bytes + space_floor(s);
    uint64_t free_bytes = s->free_bytes;
    if (s->ram) {
        free_bytes = s->opt.ram_bytes - (s->page_count - s->free_count) * CHUNK_BLOCK;
    }
    return free_bytes < used ? 0 : free_bytes - used;
}

static void update_parked(struct chunk_work *w)
{
    struct chunk_update *u = w->of.update;
    struct chunk_entry *e = w->e;
    w->parked = true;
    e->holds++;
    chunk_work_leave(w);
    u->done(u, 0); /* w stays in u->work */
}

static void update_allocated(struct chunk_work *w, int64_t rc)
{
    struct chunk_plan *p = w->plan;
    if (rc < 0) {
        update_failed(w, (int)rc);
        return;
    }
    p->reserved_count = p->new_blocks;
    update_parked(w);
}

static void update_space(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    struct chunk_plan *p = w->plan;
    uint64_t bytes =
        (uint64_t)p->new_blocks * CHUNK_BLOCK + (e->newest_slot == CHUNK_NO_SLOT ? CHUNK_BLOCK : 0);
    if (bytes > space_free(s)) {
        update_failed(w, -ENOSPC);
        return;
    }
    s->reserved_bytes += bytes;
    p->reserved_bytes = bytes;
    bool tight = s->free_bytes < s->low_bytes * 2;
    if (s->ram || !tight || e->next_block > CHUNK_BLOCK_LIMIT - p->new_blocks) {
        update_parked(w);
        return;
    }
    /* Others fill the file system too: what must not fail later is taken now. */
    uint32_t first = e->next_block == 0 ? 1 : e->next_block;
    uint32_t from = e->newest_slot == CHUNK_NO_SLOT ? 0 : first;
    p->reserved_block = first;
    e->next_block = first + p->new_blocks;
    w->io = (struct disk_req){.op = DISK_ALLOCATE,
                              .flags = DISK_KEEP_SIZE,
                              .file = e->file->file,
                              .offset = (uint64_t)from * CHUNK_BLOCK,
                              .len = (uint64_t)(e->next_block - from) * CHUNK_BLOCK};
    chunk_work_io(w, &w->io, update_allocated);
}

/* ---- Edges ---- */

static void update_ready(struct chunk_work *w)
{
    if (w->parked) {
        w->parked = false;
        update_build(w);
    } else if (w->turned) {
        w->turned = false;
        update_space(w);
    } else {
        update_build(w);
    }
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
        uint32_t block = w->plan->old->block[edge->cell];
        if (!w->s->ram) {
            w->io = (struct disk_req){.op = DISK_READ,
                                      .file = w->e->file->file,
                                      .offset = (uint64_t)block * CHUNK_BLOCK,
                                      .buf = edge->bytes,
                                      .len = edge->old_bytes};
            chunk_work_io(w, &w->io, update_edge_read);
            return;
        }
        memcpy(edge->bytes, w->s->page[block - 1], edge->old_bytes);
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
    chunk_work_hot(w, true, update_hot);
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
    chunk_work_hot(w, true, update_edges);
}

/* ---- Writing ---- */

static void update_apply(struct chunk_work *w)
{
    struct chunk_store *s = w->s;
    struct chunk_entry *e = w->e;
    struct chunk_update *u = w->of.update;
    struct chunk_version *v = w->version;
    w->version = NULL;
    e->locked = false;
    e->chain = u->chain;
    e->last_ver = base_max(base_max(e->last_ver, u->last_ver), u->identity.ver);
    u->digest = v->meta.digest;
    u->new_length = v->meta.length;
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
        if (v->meta.whole && e->damaged) {
            e->damaged = false;
            s->damaged_count--;
        }
    }
    chunk_entry_account(s, e);
    update_end(w, 0);
}

/* What was written for nothing. Its record may be in the file all the same: the space is free only
 * when a later one is stable. */
static void update_waste(struct chunk_work *w)
{
    struct chunk_plan *p = w->plan;
    uint32_t blocks = p->table_blocks + p->cell_blocks;
    if (!w->s->ram && blocks > 0) {
        chunk_rest_add(w->s, w->e, p->first_block, blocks, w->captured);
    }
}

static void update_recorded(struct chunk_work *w, int rc)
{
    if (rc < 0) {
        update_waste(w);
        update_failed(w, rc);
        return;
    }
    update_apply(w);
}

static void update_record(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    struct chunk_update *u = w->of.update;
    bool heals = u->install && w->version->meta.whole;
    struct chunk_state st = {.committed = u->install ? w->version : e->committed,
                             .pending = u->install ? NULL : w->version,
                             .last_ver =
                                 base_max(base_max(e->last_ver, u->last_ver), u->identity.ver),
                             .chain = u->chain,
                             .damaged = e->damaged && !heals};
    e->locked = true;
    chunk_work_record(w, &st, update_recorded);
}

static void update_written(struct chunk_work *w, int64_t got)
{
    struct chunk_entry *e = w->e;
    struct chunk_plan *p = w->plan;
    if (got < 0) {
        update_waste(w);
        update_failed(w, (int)got);
        return;
    }
    uint64_t bytes = (uint64_t)(p->table_blocks + p->cell_blocks) * CHUNK_BLOCK;
    w->s->free_bytes -= base_min(bytes, w->s->free_bytes);
    uint32_t cells = chunk_cells(p->to);
    if (p->to > p->from && w->version->block[cells - 1] != 0) {
        e->tail_block = w->version->block[cells - 1];
        e->tail_bytes = chunk_cell_bytes(p->new_length, cells - 1);
    }
    update_record(w);
}

static void update_copy(struct chunk_store *s, struct chunk_plan *p, struct chunk_version *v)
{
    if (p->tail_append) {
        uint8_t *to = s->page[p->tail_block - 1] + p->tail_offset;
        for (unsigned i = 0; i < p->tail_count; i++) {
            memcpy(to, p->tail[i].iov_base, p->tail[i].iov_len);
            to += p->tail[i].iov_len;
        }
    }
    size_t used = 0;
    unsigned piece = 0;
    uint32_t cells = chunk_cells(v->meta.length);
    for (uint32_t cell = 0; cell < cells; cell++) {
        if (v->block[cell] < CHUNK_NEW_BLOCK) {
            continue;
        }
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell), at = 0;
        v->block[cell] = p->iov_capacity == 0 ? 0 : v->block[cell] & ~CHUNK_NEW_BLOCK;
        while (at < bytes) {
            size_t n = base_min(bytes - at, p->iov[piece].iov_len - used);
            memcpy(s->page[v->block[cell] - 1] + at, (const uint8_t *)p->iov[piece].iov_base + used,
                   n);
            at += (uint32_t)n;
            used += n;
            if (used == p->iov[piece].iov_len) {
                piece++;
                used = 0;
            }
        }
    }
}

/* Pages for all new cells, or none. They are marked as new until they are filled. */
static int update_pages(struct chunk_store *s, struct chunk_plan *p, struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length);
    int rc = 0;
    uint32_t cell = 0;
    for (; cell < cells && rc == 0; cell++) {
        uint32_t page = 0;
        if (v->block[cell] >= CHUNK_NEW_BLOCK) {
            rc = chunk_ram_take(s, &page);
            v->block[cell] = rc == 0 ? CHUNK_NEW_BLOCK | page : CHUNK_NEW_BLOCK;
        }
    }
    if (rc < 0) {
        for (uint32_t i = 0; i < cell; i++) {
            uint32_t page = v->block[i] & ~CHUNK_NEW_BLOCK;
            if (v->block[i] > CHUNK_NEW_BLOCK && page != 0) {
                chunk_ram_give(s, page);
            }
        }
        return rc;
    }
    v->own_blocks = p->cell_blocks;
    chunk_version_count(v);
    return 0;
}

static void update_ram(struct chunk_work *w)
{
    int rc = update_pages(w->s, w->plan, w->version);
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    update_copy(w->s, w->plan, w->version);
    update_written(w, 0);
}

static void update_write(struct chunk_work *w)
{
    struct chunk_plan *p = w->plan;
    struct disk_file *file = w->e->file->file;
    uint32_t blocks = p->table_blocks + p->cell_blocks;
    if (blocks == 0 && !p->tail_append) {
        update_written(w, 0);
        return;
    }
    uint32_t soon = (uint64_t)blocks * CHUNK_BLOCK >= SOON_BYTES ? DISK_SOON : 0;
    /* Both are begun before either can be done: nothing completes inside submit. */
    if (p->tail_append) {
        w->e->tail_block = 0; /* a write that fails may have left anything there */
        w->tail_io =
            (struct disk_req){.op = DISK_WRITE,
                              .file = file,
                              .offset = (uint64_t)p->tail_block * CHUNK_BLOCK + p->tail_offset,
                              .iov = p->tail,
                              .iov_count = p->tail_count};
        chunk_work_io(w, &w->tail_io, update_written);
    }
    if (blocks > 0) {
        w->io = (struct disk_req){.op = DISK_WRITE,
                                  .flags = DISK_APPENDING | soon,
                                  .file = file,
                                  .offset = (uint64_t)p->first_block * CHUNK_BLOCK,
                                  .iov = p->iov,
                                  .iov_count = p->iov_count};
        chunk_work_io(w, &w->io, update_written);
    }
}

static int update_place(struct chunk_work *w)
{
    struct chunk_entry *e = w->e;
    struct chunk_plan *p = w->plan;
    uint32_t first = e->next_block == 0 ? 1 : e->next_block;
    if (p->reserved_count > 0) {
        first = p->reserved_block;
    }
    if (first > CHUNK_BLOCK_LIMIT - p->new_blocks) {
        return -ENOSPC; /* 8 TiB of updates: a copy from a peer begins a new file */
    }
    int rc = chunk_plan_place(p, w->version, first);
    uint32_t end = first + p->table_blocks + p->cell_blocks;
    if (rc == 0 && p->reserved_count > 0) {
        CHECK(end <= p->reserved_block + p->reserved_count);
        p->reserved_count -= end - p->reserved_block;
        p->reserved_block = end;
    } else if (rc == 0) {
        e->next_block = end;
    }
    return rc;
}

static void update_build(struct chunk_work *w)
{
    int rc = chunk_plan_build(w->plan, w->of.update, w->e, &w->version);
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    if (w->s->ram) {
        update_ram(w);
        return;
    }
    rc = update_place(w);
    if (rc < 0) {
        update_failed(w, rc);
        return;
    }
    update_write(w);
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
