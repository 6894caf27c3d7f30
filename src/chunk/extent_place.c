/*
 * chunk/extent_place.c -- the `extent` engine, while it starts: cells that records of the journal
 * have are put into their units again, for the container may never have been flushed.
 *
 * A record tells of what was: the unit may be another chunk's by now. So the journal is read once
 * more when all that it tells is known, and a cell is put where it belongs only when its chunk has
 * that unit, with that checksum, in that place; or had it before the first record that may not be
 * stable, for that is what the chunk falls back to. Doing it again changes nothing. An append in
 * place goes behind what a cell has, and is not carried, so that its bytes stay.
 */
#include "chunk/extent_start_priv.h"

#include "base/crc32c.h"

/* A content that was cut has the first bytes of what was written, in the same unit. */
static bool place_has(const struct chunk_version *v, const struct chunk_carried *c)
{
    if (v == NULL || c->cell >= chunk_cells(v->meta.length) || v->block[c->cell] != c->unit) {
        return false;
    }
    uint32_t len = chunk_cell_bytes(v->meta.length, c->cell);
    uint32_t crc = len == c->len ? c->crc : len < c->len ? crc32c(0, c->bytes, len) : 0;
    return len <= c->len && v->crc[c->cell] == crc;
}

static bool place_wanted(const struct chunk_loading *l, const struct chunk_entry *e,
                         const struct chunk_carried *c)
{
    const struct chunk_state *was = e->touched == 0 ? NULL : &l->touched[e->touched - 1].was;
    return place_has(e->committed, c) || place_has(e->pending, c) ||
           (was != NULL && (place_has(was->committed, c) || place_has(was->pending, c)));
}

/* What cannot be is left alone: whoever reads the cell finds that it is not there. */
static int place_cell(struct chunk_loading *l, const struct chunk_carried *c)
{
    struct chunk_extent *x = l->x;
    bool header = c->unit % CHUNK_CONTAINER_UNITS == 0;
    if (header || c->unit >= x->units || crc32c(0, c->bytes, c->len) != c->crc) {
        return 0;
    }
    struct chunk_container *to = chunk_space_container(x, c->unit);
    struct disk_req req = {.op = DISK_WRITE,
                           .file = to->file,
                           .offset = chunk_space_offset(x, c->unit),
                           .buf = (void *)c->bytes,
                           .len = c->len};
    chunk_container_wrote(to, false);
    int64_t put = disk_now(x->s->disk, &req);
    return put < 0 ? err_set(&l->error, (int)put, "a container of '%s'", x->s->directory) : 0;
}

int chunk_place_record(struct chunk_loading *l, const struct journal_record *r)
{
    struct chunk_carried cell[CHUNK_CARRIED_MAX];
    if (r->type != CHUNK_JOURNAL_UPDATE || r->index <= l->begin) {
        return 0;
    }
    CLEANUP(mem_freep) struct chunk_delta *d = mem_zalloc(sizeof *d);
    int count = d == NULL ? -ENOMEM : chunk_delta_carried(r->bytes, r->len, d, cell);
    const struct chunk_entry *e = count <= 0 ? NULL : chunk_entry_get(l->x->s, d->key, false);
    int rc = count < 0 ? count : 0;
    for (int i = 0; i < count && e != NULL && rc == 0; i++) {
        rc = place_wanted(l, e, &cell[i]) ? place_cell(l, &cell[i]) : 0;
    }
    return rc;
}
