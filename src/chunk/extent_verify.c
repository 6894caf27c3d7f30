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
#define VERIFY_LANES 32u

/* Many chunks at a time, one in each lane: what a crash leaves to be read are many small contents.
 */
struct chunk_lane {
    struct chunk_loading *l;
    size_t at;          /* its chunk, of those that are touched */
    bool pending;       /* the pending content; else the committed one */
    uint32_t cell, end; /* being read from, to */
    uint32_t wanted;    /* bytes of the read */
    struct disk_req req;
    uint8_t *bytes;
};

static void verify_next(struct chunk_lane *lane);

static const struct chunk_version *verify_version(const struct chunk_lane *lane)
{
    const struct chunk_entry *e = lane->l->touched[lane->at].e;
    return lane->pending ? e->pending : e->committed;
}

static bool version_has(const struct chunk_version *was, const struct chunk_version *v,
                        uint32_t cell)
{
    return was != NULL && cell < chunk_cells(was->meta.length) &&
           was->block[cell] == v->block[cell] && was->crc[cell] == v->crc[cell] &&
           chunk_cell_bytes(was->meta.length, cell) == chunk_cell_bytes(v->meta.length, cell);
}

static bool verify_wanted(const struct chunk_lane *lane, const struct chunk_version *v,
                          uint32_t cell)
{
    const struct chunk_state *was = &lane->l->touched[lane->at].was;
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
    l->doubted = l->journal_index;
}

static void verify_drop(struct chunk_lane *lane)
{
    struct chunk_loading *l = lane->l;
    struct chunk_store *s = l->x->s;
    struct chunk_entry *e = l->touched[lane->at].e;
    chunk_entry_set(s, e, &e->pending, NULL);
    chunk_entry_changed(s, e);
    e->written = e->change;
}

static void verify_fall_back(struct chunk_lane *lane)
{
    struct chunk_loading *l = lane->l;
    struct chunk_store *s = l->x->s;
    struct chunk_touched *t = &l->touched[lane->at];
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

/* ---- Lanes ---- */

static void lane_over(struct chunk_lane *lane)
{
    struct chunk_loading *l = lane->l;
    mem_free(lane->bytes);
    mem_free(lane);
    if (--l->lanes == 0) {
        chunk_start_verified(l, l->lane_rc);
    }
}

/* The next chunk that no lane has. */
static void lane_turn(struct chunk_lane *lane)
{
    lane->at = lane->l->touched_next++;
    lane->pending = false;
    lane->cell = 0;
}

/* The content cannot be had; -ENOMEM ends all lanes. */
static void verify_bad(struct chunk_lane *lane, int rc)
{
    struct chunk_loading *l = lane->l;
    if (!err_is(rc, EIO)) {
        l->lane_rc = err_set(&l->error, rc, "verification of what was written last");
        return;
    }
    verify_rejected(l);
    if (lane->pending) {
        verify_drop(lane);
    } else {
        verify_fall_back(lane);
    }
    lane_turn(lane);
}

/* All of it is good. */
static void verify_content_over(struct chunk_lane *lane)
{
    if (lane->pending) {
        lane_turn(lane);
    } else {
        lane->pending = true;
        lane->cell = 0;
    }
}

/* ---- Reading ---- */

/* Flagged by its record: nothing is lost when it is bad, and what was before is no better. */
static bool verify_known_bad(const struct chunk_lane *lane)
{
    const struct chunk_entry *e = lane->l->touched[lane->at].e;
    return lane->pending ? (e->pending->meta.flags & CHUNK_DAMAGED) != 0 : e->damaged;
}

static bool verify_good(const struct chunk_lane *lane)
{
    const struct chunk_version *v = verify_version(lane);
    uint32_t first = lane->cell, at = 0;
    for (uint32_t cell = first; cell < lane->end; cell++) {
        uint32_t bytes = chunk_cell_bytes(v->meta.length, cell);
        if (crc32c(0, lane->bytes + at, bytes) != v->crc[cell]) {
            return false;
        }
        at += CHUNK_CELL;
    }
    return true;
}

static void verify_submit(struct chunk_lane *lane, const struct chunk_version *v);

static void verify_read(struct disk_req *req, int64_t got)
{
    struct chunk_lane *lane = container_of(req, struct chunk_lane, req);
    struct chunk_loading *l = lane->l;
    if (!chunk_came_back(l->x->s)) {
        return;
    }
    if (chunk_medium_cannot(l->x->s, req, got)) {
        verify_submit(lane, verify_version(lane));
        return;
    }
    int rc = got < 0                       ? (int)got
             : got < (int64_t)lane->wanted ? -ERR_short_msg
             : verify_good(lane)           ? 0
                                           : -ERR_bad_crc;
    if (rc < 0) {
        verify_bad(lane, rc);
    } else {
        lane->cell = lane->end;
    }
    verify_next(lane);
}

/* Neighbouring cells that lie in neighbouring units, at once. What is believed must be what the
 * medium has: a sync that has failed leaves pages that look as if they were written. What was
 * dirty goes to the medium first. */
static void verify_submit(struct chunk_lane *lane, const struct chunk_version *v)
{
    const struct chunk_loading *l = lane->l;
    struct chunk_extent *x = l->x;
    uint32_t cells = chunk_cells(v->meta.length);
    uint64_t unit = v->block[lane->cell];
    lane->end = lane->cell + 1;
    while (lane->end < cells && lane->end - lane->cell < VERIFY_CELLS &&
           verify_wanted(lane, v, lane->end) &&
           v->block[lane->end] == unit + (lane->end - lane->cell)) {
        lane->end++;
    }
    uint32_t last = chunk_cell_bytes(v->meta.length, lane->end - 1);
    lane->wanted = (lane->end - 1 - lane->cell) * CHUNK_CELL + last;
    lane->req = chunk_medium_read(x->s, chunk_space_container(x, unit)->file,
                                  chunk_space_offset(x, unit), lane->bytes, lane->wanted);
    lane->req.done = verify_read;
    x->s->in_flight++;
    disk_submit(x->s->disk, &lane->req);
}

static void verify_next(struct chunk_lane *lane)
{
    struct chunk_loading *l = lane->l;
    while (lane->at < l->touched_count && l->lane_rc == 0) {
        const struct chunk_version *v = verify_version(lane);
        uint32_t cells = v == NULL ? 0 : chunk_cells(v->meta.length);
        while (lane->cell < cells && !verify_wanted(lane, v, lane->cell)) {
            lane->cell++;
        }
        if (lane->cell >= cells) {
            verify_content_over(lane);
        } else if (v->block[lane->cell] >= l->x->units) {
            verify_bad(lane, -ERR_short_msg); /* the container never grew so far */
        } else if (verify_known_bad(lane)) {
            lane->cell++;
        } else {
            verify_submit(lane, v);
            return;
        }
    }
    lane_over(lane);
}

static struct chunk_lane *lane_new(struct chunk_loading *l)
{
    struct chunk_lane *lane = mem_zalloc(sizeof *lane);
    if (lane == NULL) {
        return NULL;
    }
    lane->l = l;
    lane->bytes = mem_aligned(CHUNK_UNIT, (size_t)VERIFY_CELLS * CHUNK_CELL);
    if (lane->bytes == NULL) {
        mem_free(lane);
        return NULL;
    }
    return lane;
}

/* One is enough, if there is no memory for more. A lane may be over before the next one begins, but
 * not all are. */
void chunk_verify_begin(struct chunk_loading *l)
{
    l->lanes = 1;
    for (size_t i = 0; i < VERIFY_LANES && i < l->touched_count; i++) {
        struct chunk_lane *lane = lane_new(l);
        if (lane == NULL) {
            l->lane_rc = i == 0 ? -ENOMEM : l->lane_rc;
            break;
        }
        l->lanes++;
        lane_turn(lane);
        verify_next(lane);
    }
    if (--l->lanes == 0) {
        chunk_start_verified(l, l->lane_rc);
    }
}
