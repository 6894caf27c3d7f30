#include "client/io_priv.h"

#include <string.h>

/*
 * fallocate: space that is asked for, holes, zeros. Chunks that are zeros from end to end are
 * cleared; of others, two at most, the bytes are written as zeros, of which whole cells take no
 * space. All of it is stable before success is told: a power cut must not bring back a part.
 */

#define KEEP OPENDFS_ALLOCATE_KEEP_SIZE
#define PUNCH OPENDFS_ALLOCATE_PUNCH
#define ZERO OPENDFS_ALLOCATE_ZERO
#define ZERO_BYTES (64u << 10)

static int allocate_check(const struct client_io *io)
{
    unsigned mode = io->mask;
    bool known = (mode & ~(unsigned)(KEEP | PUNCH | ZERO)) == 0 &&
                 ((mode & PUNCH) == 0 || mode == (KEEP | PUNCH));
    if ((io->file->flags & OPENDFS_WRITE) == 0) {
        return -EBADF;
    }
    if (io->inode->dead < 0 || io->rc < 0) {
        return io->rc < 0 ? io->rc : io->inode->dead;
    }
    if (io->len == 0 || !known) {
        return !known ? -EOPNOTSUPP : -EINVAL;
    }
    if (io->len > OPENDFS_SIZE_MAX || io->offset > OPENDFS_SIZE_MAX - io->len) {
        return -EFBIG;
    }
    return mode == (KEEP | PUNCH) ? 0 : client_io_fits(io->inode, io->offset, io->len);
}

/* ---- Space ---- */

static void space_told(struct client_call *c, const struct peer_reply *r)
{
    struct client_io *io = container_of(c, struct client_io, call);
    io->space = SPACE_KNOWN;
    if (r->rc < 0) {
        io->rc = r->rc;
    } else {
        io->available = ((const struct proto_statfs_reply *)r->body)->available;
    }
    client_inode_wake(io->inode);
}

static uint64_t overlap(const struct client_io *io, uint64_t from, uint64_t to)
{
    uint64_t end = io->offset + io->len;
    from = base_max(from, io->offset);
    to = base_min(to, end);
    return from < to ? to - from : 0;
}

/* Bytes of the range that are there need no more space. 1, 0: wait; or an error. */
static int space_count(struct client_io *io)
{
    const struct client_inode *i = io->inode;
    uint64_t chunk = i->layout.chunk_size, end = io->offset + io->len;
    if (i->in_line || i->layout.data_id == 0 || chunk == 0) {
        io->cut_index = UINT64_MAX;
    }
    while (io->cut_index < (end + chunk - 1) / base_max(chunk, 1)) {
        int rc = client_io_chunks(io, io->cut_index, (end + chunk - 1) / chunk);
        if (rc != 1) {
            return rc;
        }
        for (size_t k = 0; k < io->scan->count; k++) {
            const struct client_scan_chunk *c = &io->scan->chunk[k];
            uint64_t there = overlap(io, c->index * chunk, c->index * chunk + c->length);
            io->wanted -= base_min(there, c->allocated);
        }
        io->cut_index = io->scan->upto;
        client_io_chunks_over(io);
    }
    return 1;
}

/* 1: there is as much; 0: wait; or an error. */
static int allocate_space(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if ((io->mask & PUNCH) != 0) {
        return 1;
    }
    if (io->space == SPACE_UNKNOWN) {
        int rc = space_count(io);
        if (rc != 1) {
            return rc;
        }
        io->space = SPACE_ASKED;
        io->call.done = space_told;
        io->request.statfs = (struct proto_statfs_request){0};
        client_query(i->fs, &io->call, PROTO_OP_statfs, &io->request);
        return 0;
    }
    if (io->space == SPACE_ASKED || io->rc < 0) {
        return io->space == SPACE_ASKED ? 0 : io->rc;
    }
    return io->wanted > io->available ? -ENOSPC : 1;
}

/* ---- Zeros ---- */

/* What the store frees when these bytes become zeros: whole cells. They count as stored once more
 * when they are acknowledged. */
static int64_t zero_freed(const struct client_scan_chunk *c, uint64_t from, uint64_t to)
{
    uint64_t first = base_align_up(from, PROTO_CELL_BYTES);
    uint64_t end = base_align_down(to, PROTO_CELL_BYTES);
    uint64_t cells = end > first ? end - first : 0;
    uint64_t stored = base_align_up(to, PROTO_CELL_BYTES) - base_align_down(from, PROTO_CELL_BYTES);
    return (int64_t)(base_min(cells, c->allocated) + stored);
}

/* One chunk of the page. 1: on its way; 0: wait; or an error. */
static int zero_chunk(struct client_io *io, const struct client_scan_chunk *c)
{
    static const uint8_t zeros[ZERO_BYTES];
    struct client_inode *i = io->inode;
    uint64_t chunk = i->layout.chunk_size, first = c->index * chunk, end = io->offset + io->len;
    uint64_t from = base_max(io->offset, first), to = base_min(end, first + c->length);
    bool others = i->mode != PROTO_OPEN_W; /* what they write behind its end is not ours */
    if (from >= to) {
        return 1;
    }
    io->punched = true;
    i->chunked = true; /* the commit says what is left */
    if (from == first && (others ? end >= first + chunk : to == first + c->length)) {
        bool sent = client_update_clear(i, c->index, c->length) > 0;
        i->taken -= sent ? (int64_t)c->allocated : 0;
        return sent ? 1 : 0;
    }
    for (uint64_t at = base_max(from, io->offset + io->pos); at < to;) {
        int64_t n = client_update_write(i, at, zeros, (size_t)base_min(to - at, ZERO_BYTES));
        if (n <= 0) {
            return (int)n;
        }
        i->taken -= zero_freed(c, at - first, at - first + (uint64_t)n);
        at += (uint64_t)n;
        io->pos = (size_t)(at - io->offset);
    }
    return 1;
}

static int zero_chunks(struct client_io *io)
{
    struct client_inode *i = io->inode;
    uint64_t chunk = i->layout.chunk_size, end = (io->offset + io->len + chunk - 1) / chunk;
    while (io->cut_index < end) {
        int rc = client_io_chunks(io, io->cut_index, end);
        for (; rc == 1 && io->scan_at < io->scan->count; io->scan_at++) {
            rc = zero_chunk(io, &io->scan->chunk[io->scan_at]);
            if (rc == 0) {
                client_inode_starve(i);
            }
            if (rc != 1) {
                return rc;
            }
        }
        if (rc != 1) {
            return rc;
        }
        io->cut_index = io->scan->upto;
        client_io_chunks_over(io);
    }
    return 1;
}

static void zero_small(struct client_io *io)
{
    struct client_inode *i = io->inode;
    uint64_t end = base_min(io->offset + io->len, i->small_len);
    if (io->offset < end) {
        memset(i->small + io->offset, 0, (size_t)(end - io->offset));
        i->writes++;
    }
    client_io_written(io, 0);
}

/* Chunks are looked for when what was written here is in them. 1, 0: wait; or an error. */
static int allocate_zero(struct client_io *io)
{
    struct client_inode *i = io->inode;
    uint64_t end = io->offset + io->len;
    if ((io->mask & (PUNCH | ZERO)) == 0 || io->zeroed) {
        return 1;
    }
    if (i->in_line && i->mode == PROTO_OPEN_W) {
        zero_small(io);
        io->zeroed = true;
        return 1;
    }
    int rc = i->in_line ? client_io_spill(i) : 1;
    if (rc <= 0) {
        if (rc == 0) {
            client_inode_starve(i);
        }
        return rc;
    }
    if (i->layout.data_id == 0 || i->layout.chunk_size == 0) {
        io->zeroed = true;
        return 1;
    }
    /* All of the chunks that it touches: one that ends within the range, as it is stored, is
     * cleared, and what still gathers behind that end would go with it. */
    uint64_t chunk = i->layout.chunk_size, first = io->offset / chunk * chunk;
    uint64_t last = (end + chunk - 1) / chunk * chunk;
    if (io->barrier == 0) {
        (void)client_update_flush(i, first, last);
        io->barrier = i->next_number;
        io->cut_index = io->offset / chunk;
    }
    rc = client_update_range_done(i, io->barrier, first, last) ? zero_chunks(io) : 0;
    if (rc == 1) {
        client_io_written(io, 0);
        io->zeroed = true;
    }
    return rc;
}

/* ---- The size ---- */

/* 1, 0: wait; or an error. */
static int allocate_grow(struct client_io *io)
{
    struct client_inode *i = io->inode;
    uint64_t end = io->offset + io->len;
    if ((io->mask & KEEP) != 0 || end <= i->size) {
        return 1;
    }
    bool fits = end <= i->small_room && end <= i->fs->inline_limit;
    if (i->in_line && i->mode == PROTO_OPEN_W && fits) {
        memset(i->small + i->small_len, 0, (size_t)(end - i->small_len));
        i->small_len = (size_t)end;
    } else if (i->in_line) {
        int rc = client_io_spill(i);
        if (rc <= 0) {
            if (rc == 0) {
                client_inode_starve(i);
            }
            return rc;
        }
    }
    if (i->mode == PROTO_OPEN_W) {
        i->set_size = end;
    } else {
        i->shared_end = base_max(i->shared_end, end);
    }
    client_io_written(io, end);
    return 1;
}

bool client_allocate_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool looks = io->scan != NULL && client_scan_state(io->scan) == 0;
    if (looks || io->space == SPACE_ASKED) {
        return false;
    }
    int rc = allocate_check(io);
    if (rc == 0 && io->space == SPACE_UNKNOWN && io->scan == NULL && io->wanted == 0) {
        io->wanted = io->len;
        io->cut_index = i->layout.chunk_size == 0 ? 0 : io->offset / i->layout.chunk_size;
    }
    bool grows = (io->mask & KEEP) == 0;
    rc = rc < 0 ? rc : grows ? client_io_room(io, io->offset + io->len) : 1;
    rc = rc == 1 ? allocate_space(io) : rc;
    rc = rc == 1 ? allocate_zero(io) : rc;
    rc = rc == 1 ? allocate_grow(io) : rc;
    if (rc <= 0) {
        if (rc < 0) {
            client_io_end(io, rc);
        }
        return rc < 0;
    }
    io->stable = io->punched || (io->file->flags & OPENDFS_SYNC) != 0;
    io->barrier = i->next_number;
    (void)client_update_flush(i, io->offset, io->offset + io->len);
    io->phase = PHASE_FLUSH;
    return client_io_finish_step(io);
}
