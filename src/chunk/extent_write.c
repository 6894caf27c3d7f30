/*
 * chunk/extent_write.c -- the `extent` engine: where the cells of an update go, and the writes.
 */
#include "chunk/extent_priv.h"

#include <string.h>

#define SOON_BYTES (512u << 10) /* large updates go to the medium while more of them come */

/* ---- Places ---- */

/* New cells, in order, get the units that the plan has taken, in order. They are those of the data,
 * and edges before it. */
static void write_place(struct chunk_plan *p, struct chunk_version *v)
{
    uint32_t cells = chunk_cells(v->meta.length), left = p->cell_blocks;
    uint32_t first = p->to > p->from ? p->from / CHUNK_CELL : cells;
    first = p->edge[0].used ? (uint32_t)base_min(first, p->edge[0].cell) : first;
    for (uint32_t cell = first; left > 0; cell++) {
        CHECK(cell < cells);
        if (v->block[cell] < CHUNK_NEW_BLOCK) {
            continue;
        }
        left--;
        CHECK(p->taken_used < p->taken_count);
        v->block[cell] = p->taken[p->taken_used].unit + p->taken_part;
        if (++p->taken_part == p->taken[p->taken_used].count) {
            p->taken_used++;
            p->taken_part = 0;
        }
    }
    v->own_blocks = p->cell_blocks;
    chunk_version_count(v);
}

/* Units of taken[i] that have a cell. */
static uint32_t write_used(const struct chunk_plan *p, unsigned i)
{
    return i < p->taken_used ? p->taken[i].count : i == p->taken_used ? p->taken_part : 0;
}

/* ---- Writes ---- */

static void write_more(struct chunk_work *w);

/* What was written for an update that came to nothing was never part of a content: nobody has it,
 * nobody was sent any of it. Only a disk that fails leaves doubts: the record may be there, or the
 * units are bad, and others are tried first. */
static bool waste_free(const struct chunk_store *s, int rc)
{
    bool sound = err_is(rc, ENOSPC) || err_is(rc, EAGAIN) || rc == -EDQUOT || rc == -ENOMEM;
    return sound && s->failed == 0;
}

void chunk_extent_waste(struct chunk_work *w, int rc)
{
    const struct chunk_plan *p = w->plan;
    bool now = waste_free(w->s, rc);
    for (unsigned i = 0; i <= p->taken_used && i < p->taken_count; i++) {
        uint32_t count = write_used(p, i);
        if (count > 0 && now) {
            chunk_entry_lets_go(w->e, p->taken[i].unit, count);
            chunk_space_give(w->s->extent, p->taken[i].unit, count);
        } else if (count > 0) {
            chunk_rest_add(w->s, w->e, p->taken[i].unit, count, 0);
        }
    }
}

static void write_end(struct chunk_work *w, int rc)
{
    mem_freep(&w->bytes);
    if (rc < 0) {
        chunk_extent_waste(w, rc);
    }
    w->then(w, rc);
}

static void write_stepped(struct chunk_work *w, int64_t got)
{
    if (got < 0) {
        write_end(w, (int)got);
        return;
    }
    mem_freep(&w->bytes);
    write_more(w);
}

/* The pieces of `len` bytes from `from` on; w->bytes holds them. */
static int write_pieces(struct chunk_work *w, uint64_t from, uint64_t len)
{
    const struct chunk_plan *p = w->plan;
    struct iovec *iov = mem_calloc(p->iov_count, sizeof *iov);
    unsigned count = 0;
    if (iov == NULL) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < p->iov_count && len > 0; i++) {
        uint64_t have = p->iov[i].iov_len;
        if (from >= have) {
            from -= have;
            continue;
        }
        uint64_t n = base_min(have - from, len);
        iov[count++] =
            (struct iovec){.iov_base = (uint8_t *)p->iov[i].iov_base + from, .iov_len = n};
        from = 0;
        len -= n;
    }
    w->bytes = (uint8_t *)(void *)iov;
    w->io.iov = iov;
    w->io.iov_count = count;
    return 0;
}

static uint64_t write_bytes(const struct chunk_plan *p)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < p->iov_count; i++) {
        bytes += p->iov[i].iov_len;
    }
    return bytes;
}

static void write_begin(struct chunk_work *w, struct disk_req *req, uint64_t unit)
{
    struct chunk_container *c = chunk_space_container(w->s->extent, unit);
    chunk_container_wrote(c, w->plan->carried_bytes > 0);
    req->op = DISK_WRITE;
    req->file = c->file;
    req->offset += chunk_space_offset(w->s->extent, unit);
    if (req == &w->io && req->flags == 0) {
        chunk_gather_write(w, write_stepped);
    } else {
        chunk_work_io(w, req, write_stepped);
    }
}

/* One extent after the other; w->cell: how many of them are written, w->at: units. */
static void write_more(struct chunk_work *w)
{
    struct chunk_extent *x = w->s->extent;
    const struct chunk_plan *p = w->plan;
    unsigned i = w->cell;
    uint32_t count = i < p->taken_count ? write_used(p, i) : 0;
    if (count == 0) {
        bool carried = p->carried_bytes > 0;
        for (unsigned k = 0; k < i; k++) { /* syncs that began meanwhile may not have all of it */
            chunk_container_wrote(chunk_space_container(x, p->taken[k].unit), carried);
        }
        if (p->tail_append) {
            chunk_container_wrote(chunk_space_container(x, p->tail_block), false);
        }
        write_end(w, 0);
        return;
    }
    uint64_t from = (uint64_t)w->at * CHUNK_UNIT, bytes = (uint64_t)count * CHUNK_UNIT;
    w->io = (struct disk_req){
        .flags = bytes >= SOON_BYTES ? DISK_SOON : 0, .iov = p->iov, .iov_count = p->iov_count};
    uint64_t all = write_bytes(p);
    int rc = from == 0 && bytes >= all ? 0 : write_pieces(w, from, base_min(bytes, all - from));
    if (rc < 0 && w->left > 0) {
        w->rc = rc; /* the tail's end brings it */
        return;
    }
    if (rc < 0) {
        write_end(w, rc);
        return;
    }
    w->cell++;
    w->at += count;
    write_begin(w, &w->io, p->taken[i].unit);
}

/* Both are begun before either can be done: nothing completes inside submit. What is behind the
 * committed bytes of the last cell is nobody's, so that an append may write there. */
static void write_tail(struct chunk_work *w)
{
    const struct chunk_plan *p = w->plan;
    w->e->tail_block = 0; /* a write that fails may have left anything there */
    w->tail_io =
        (struct disk_req){.offset = p->tail_offset, .iov = p->tail, .iov_count = p->tail_count};
    write_begin(w, &w->tail_io, p->tail_block);
}

static void write_taken(struct chunk_work *w, int rc)
{
    struct chunk_plan *p = w->plan;
    if (rc < 0) {
        w->then(w, rc);
        return;
    }
    write_place(p, w->version);
    chunk_carry_look(w, write_bytes(p));
    w->cell = 0;
    w->at = 0;
    bool more = p->cell_blocks > 0;
    if (p->tail_append) {
        write_tail(w);
    }
    if (more || !p->tail_append) {
        write_more(w);
    }
}

void chunk_extent_write(struct chunk_work *w, chunk_next *next)
{
    struct chunk_plan *p = w->plan;
    w->then = next;
    if (p->taken_count > 0 || p->cell_blocks == 0) {
        write_taken(w, 0);
        return;
    }
    p->new_cells = p->cell_blocks;
    chunk_extent_reserve(w, write_taken);
}
