#include "client/io_priv.h"

#include "wire/frame.h"

#include <string.h>

/*
 * Reading. Large reads and reads out of order fetch just their cells, several chunks at once. Small
 * reads in order, and those in order that are lent, are served from blocks of CLIENT_UNIT_BYTES, of
 * which more and more are fetched ahead. Blocks belong to a handle and are dropped when they were
 * read through, or when the file is written here.
 *
 * A handle that reads a large file in order says so with each request, from the first
 * CLIENT_UNIT_BYTES on: who looks at the head of a file only, as many do, finds it in page caches.
 */

#define BLOCKS_MAX 24u
#define WINDOW_MAX 16u
#define LENT_LEAST (CLIENT_UNIT_BYTES / 16) /* less of a block is copied, not lent */
#define LENT_BEHIND 2u /* blocks that stay: a kernel asks for some ranges at once */

struct client_block {
    struct client_fetch fetch;
    struct opendfs_file *file; /* NULL: dropped while it was fetched */
    struct list node;
    uint64_t unit, writes;
    bool ready;
    int rc;
};

/* Copies what a fetch has of [at, at + len) of the file; what it has not is a hole. */
static void fetch_copy(const struct client_fetch *f, uint64_t at, uint8_t *to, size_t len)
{
    uint64_t first = (uint64_t)f->index * f->inode->layout.chunk_size + f->offset;
    size_t skip = (size_t)(at - first);
    size_t have = f->data.len > skip ? f->data.len - skip : 0;
    have = (size_t)base_min(have, len);
    if (have > 0) {
        const struct slice piece = {.at = f->data.at + skip, .len = have};
        buf_copy(f->inode->fs->pool, to, &piece);
    }
    memset(to + have, 0, len - have);
}

/* The cells of [at, at + len), within one chunk and one message. Returns how much of len. */
static size_t fetch_place(struct client_fetch *f, struct client_inode *i, uint64_t at, size_t len)
{
    uint64_t chunk = i->layout.chunk_size;
    uint32_t in = (uint32_t)(at % chunk);
    uint32_t from = (uint32_t)base_align_down(in, PROTO_CELL_BYTES);
    uint64_t end = base_min(base_min(in + (uint64_t)len, chunk), (uint64_t)from + FRAME_DATA_MAX);
    f->inode = i;
    f->index = (uint32_t)(at / chunk);
    f->offset = from;
    f->len = (uint32_t)base_min(base_align_up(end, PROTO_CELL_BYTES), chunk) - from;
    return (size_t)(end - in);
}

/* Several reads may be under way: what counts is how they begin. Of what is lent, less comes than
 * was asked for: then the next begins within what was counted. */
static void read_follow(struct client_io *io)
{
    struct opendfs_file *f = io->file;
    uint64_t chunk = f->inode->layout.chunk_size, len = io->len, known = 0;
    bool goes_on = io->offset == f->run_end;
    if (io->kind == IO_READ_LENT && chunk > 0) {
        len = base_min(len, chunk - io->offset % chunk); /* it gets no more */
        bool small = io->len <= CLIENT_UNIT_BYTES;
        if (small && io->offset < f->run_end && f->run_end - io->offset <= FRAME_DATA_MAX) {
            known = f->run_end - io->offset;
            goes_on = true;
        }
    }
    uint64_t more = len - base_min(len, known);
    f->run_bytes = goes_on ? f->run_bytes + more : io->offset == 0 ? len : 0;
    f->run_end = goes_on ? f->run_end + more : io->offset + len;
}

static bool read_streams(const struct opendfs_file *f)
{
    return f->inode->size >= f->fs->stream_bytes && f->run_bytes >= CLIENT_UNIT_BYTES;
}

/* --- large reads --------------------------------------------------------------------------------
 */

/* Which chunk it was, and what its members say. */
static void read_failed(struct client_io *io, const struct client_fetch *f, int rc)
{
    if (io->rc == 0) {
        io->rc = rc;
        io->why = client_fetch_explain(f); /* NULL: then the error alone */
    }
}

static void part_done(struct client_fetch *f, int rc)
{
    struct client_part *p = container_of(f, struct client_part, fetch);
    struct client_io *io = p->io;
    p->active = false;
    io->parts_active--;
    if (rc < 0) {
        read_failed(io, f, rc);
    } else if (io->kind == IO_READ_LENT) {
        io->lent = f->data; /* the reference goes along */
        f->data = (struct slice){0};
    } else {
        fetch_copy(f, p->at, io->to + (p->at - io->offset), p->len);
    }
    buf_slice_drop(&f->data);
    client_inode_wake(io->inode);
}

static void part_start(struct client_io *io, struct client_part *p)
{
    struct client_inode *i = io->inode;
    p->io = io;
    p->at = io->offset + io->pos;
    p->fetch.done = part_done;
    p->fetch.stream = io->streams;
    p->fetch.lasts = io->kind == IO_READ_LENT;
    p->len = fetch_place(&p->fetch, i, p->at, io->len - io->pos);
    p->active = true;
    io->parts_active++;
    io->pos += p->len;
    client_fetch_start(&p->fetch);
}

static bool read_ended(struct client_io *io)
{
    if (io->parts_active > 0) {
        return false;
    }
    io->file->next_offset = io->offset + io->len;
    client_io_end(io, io->rc < 0 ? io->rc : (int64_t)io->len);
    return true;
}

/* Chunks have numbers of 32 bits: behind the last one nothing can be. */
static uint64_t read_end(const struct client_inode *i)
{
    return (uint64_t)i->layout.chunk_size << 32;
}

static bool read_parts(struct client_io *io)
{
    uint64_t end = read_end(io->inode);
    if (io->part == NULL) {
        io->part = mem_calloc(CLIENT_PARTS, sizeof *io->part);
        if (io->part == NULL) {
            client_io_end(io, -ENOMEM);
            return true;
        }
    }
    for (size_t k = 0; k < CLIENT_PARTS && io->pos < io->len && io->rc == 0; k++) {
        if (io->offset + io->pos >= end) {
            memset(io->to + io->pos, 0, io->len - io->pos);
            io->pos = io->len;
        } else if (!io->part[k].active) {
            part_start(io, &io->part[k]);
        }
    }
    return read_ended(io);
}

/* --- reads that lend ----------------------------------------------------------------------------
 */

static void release_buf(struct opendfs *fs, void *held)
{
    (void)fs;
    buf_unref(held);
}

static void release_mem(struct opendfs *fs, void *held)
{
    (void)fs;
    mem_free(held);
}

static int lend_copy(struct client_io *io, const void *bytes, size_t len)
{
    uint8_t *copy = mem_zalloc(len + 1);
    if (copy == NULL) {
        return -ENOMEM;
    }
    if (bytes != NULL && len > 0) {
        memcpy(copy, bytes, len);
    }
    io->op->data = copy;
    io->op->data_len = len;
    client_op_hold(io->op, copy, release_mem);
    return 0;
}

/* A part of the chunk, or of a hole in it. */
static bool lend_ended(struct client_io *io)
{
    const struct client_part *p = &io->part[0];
    uint64_t chunk = io->inode->layout.chunk_size;
    size_t skip = (size_t)(io->offset % chunk) - p->fetch.offset;
    size_t have = io->lent.len > skip ? io->lent.len - skip : 0;
    size_t len = (size_t)base_min(p->len, have > 0 ? have : CLIENT_UNIT_BYTES);
    if (io->rc == 0 && have > 0) {
        io->op->data = io->lent.at + skip;
        io->op->data_len = len;
        client_op_hold(io->op, io->lent.buf, release_buf);
        io->lent = (struct slice){0};
    } else if (io->rc == 0) {
        io->rc = lend_copy(io, NULL, len);
    }
    buf_slice_drop(&io->lent);
    client_io_end(io, io->rc < 0 ? io->rc : (int64_t)len);
    return true;
}

/* --- blocks -------------------------------------------------------------------------------------
 */

static uint32_t unit_bytes(const struct client_inode *i)
{
    uint32_t chunk = (uint32_t)base_min(i->layout.chunk_size, FRAME_DATA_MAX);
    return chunk % CLIENT_UNIT_BYTES == 0 ? CLIENT_UNIT_BYTES : chunk;
}

static void block_free(struct client_block *b)
{
    if (b->file != NULL) {
        b->file->block_count--;
        list_remove(&b->node);
    }
    buf_slice_drop(&b->fetch.data);
    mem_free(b);
}

static void block_done(struct client_fetch *f, int rc)
{
    struct client_block *b = container_of(f, struct client_block, fetch);
    b->ready = true;
    b->rc = rc;
    client_inode_wake(f->inode);
    if (b->file == NULL) {
        block_free(b);
    }
}

static struct client_block *block_find(struct opendfs_file *f, uint64_t unit)
{
    LIST_FOR_EACH(at, &f->blocks)
    {
        struct client_block *b = LIST_ENTRY(at, struct client_block, node);
        if (b->unit == unit && b->writes == f->inode->writes) {
            return b;
        }
    }
    return NULL;
}

static struct client_block *block_start(struct opendfs_file *f, uint64_t unit)
{
    struct client_block *b = mem_zalloc(sizeof *b);
    if (b == NULL) {
        return NULL;
    }
    uint32_t bytes = unit_bytes(f->inode);
    b->file = f;
    b->unit = unit;
    b->writes = f->inode->writes;
    b->fetch.done = block_done;
    b->fetch.stream = read_streams(f);
    b->fetch.lasts = true;
    fetch_place(&b->fetch, f->inode, unit * bytes, bytes);
    list_push_back(&f->blocks, &b->node);
    f->block_count++;
    client_fetch_start(&b->fetch);
    return b;
}

/* What is before `from`, old, or too far ahead is not needed any more. */
static void blocks_trim(struct opendfs_file *f, uint64_t from)
{
    LIST_FOR_EACH_SAFE(at, &f->blocks)
    {
        struct client_block *b = LIST_ENTRY(at, struct client_block, node);
        bool old = b->unit < from || b->unit > from + BLOCKS_MAX || b->writes != f->inode->writes;
        if (old && b->ready) {
            block_free(b);
        }
    }
}

void client_blocks_drop(struct opendfs_file *f)
{
    LIST_FOR_EACH_SAFE(at, &f->blocks)
    {
        struct client_block *b = LIST_ENTRY(at, struct client_block, node);
        if (b->ready) {
            block_free(b);
        } else {
            list_remove(&b->node);
            b->file = NULL;
        }
    }
}

static void read_ahead(struct opendfs_file *f, uint64_t unit)
{
    struct client_inode *i = f->inode;
    uint64_t bytes = unit_bytes(i);
    uint64_t half = i->fs->cache_bytes / 4; /* of the pool for what comes in */
    for (unsigned k = 1; k <= f->window && f->block_count < BLOCKS_MAX; k++) {
        if ((unit + k) * bytes >= base_min(i->size, read_end(i)) ||
            buf_pool_used_bytes(i->fs->pool) >= half) {
            break;
        }
        if (block_find(f, unit + k) == NULL && block_start(f, unit + k) == NULL) {
            break;
        }
    }
}

/* 1: all blocks of the range are there. 0: wait. */
static int blocks_ready(struct client_io *io, uint64_t first, uint64_t last)
{
    int ready = 1;
    for (uint64_t unit = first; unit <= last; unit++) {
        struct client_block *b = block_find(io->file, unit);
        if (b == NULL) {
            b = block_start(io->file, unit);
            if (b == NULL) {
                return -ENOMEM;
            }
        }
        if (b->ready && b->rc < 0) {
            int rc = b->rc;
            read_failed(io, &b->fetch, rc);
            block_free(b);
            return rc;
        }
        ready = b->ready ? ready : 0;
    }
    return ready;
}

/* It has waited for a block, and something of the file was written meanwhile: that may go on for
 * ever, so it fetches what it needs by itself. */
static bool blocks_lost(const struct client_io *io)
{
    uint64_t bytes = unit_bytes(io->inode);
    return io->waited && (block_find(io->file, io->offset / bytes) == NULL ||
                          block_find(io->file, (io->offset + io->len - 1) / bytes) == NULL);
}

/* The reader has come to `last`: more is wanted when it goes on in order. */
static void blocks_follow(struct client_io *io, uint64_t last, uint64_t behind)
{
    struct opendfs_file *f = io->file;
    uint64_t bytes = unit_bytes(io->inode), next = io->offset + io->len;
    if (f->next_offset > 0 && io->offset == f->next_offset && f->window < WINDOW_MAX &&
        last != (f->next_offset - 1) / bytes) {
        f->window *= 2;
    }
    f->next_offset = next;
    blocks_trim(f, next / bytes - base_min(next / bytes, behind));
    read_ahead(f, last);
}

static void blocks_copy(struct client_io *io)
{
    uint64_t bytes = unit_bytes(io->inode);
    while (io->pos < io->len) {
        uint64_t at = io->offset + io->pos;
        const struct client_block *b = block_find(io->file, at / bytes);
        size_t n = (size_t)base_min(io->len - io->pos, bytes - at % bytes);
        fetch_copy(&b->fetch, at, io->to + io->pos, n);
        io->pos += n;
    }
}

static bool read_blocks(struct client_io *io)
{
    uint64_t bytes = unit_bytes(io->inode);
    uint64_t first = io->offset / bytes, last = (io->offset + io->len - 1) / bytes;
    int rc = blocks_ready(io, first, last);
    if (rc == 0) {
        io->waited = true;
        return false;
    }
    if (rc < 0) {
        client_io_end(io, rc);
        return true;
    }
    blocks_copy(io);
    blocks_follow(io, last, 0);
    client_io_end(io, (int64_t)io->len);
    return true;
}

/* What of the range is in one block, or in a hole there. */
static bool lend_block(struct client_io *io)
{
    uint64_t bytes = unit_bytes(io->inode), unit = io->offset / bytes;
    size_t skip = (size_t)(io->offset % bytes);
    io->len = (size_t)base_min(io->len, bytes - skip);
    int rc = blocks_ready(io, unit, unit);
    if (rc == 0) {
        io->waited = true;
        return false;
    }
    const struct client_block *b = rc < 0 ? NULL : block_find(io->file, unit);
    size_t have = b != NULL && b->fetch.data.len > skip ? b->fetch.data.len - skip : 0;
    io->len = have > 0 ? base_min(io->len, have) : io->len;
    if (rc > 0 && have > 0 && io->len >= LENT_LEAST) {
        io->op->data = b->fetch.data.at + skip;
        io->op->data_len = io->len;
        client_op_hold(io->op, buf_ref(b->fetch.data.buf), release_buf);
    } else if (rc > 0) {
        rc = lend_copy(io, have > 0 ? b->fetch.data.at + skip : NULL, io->len);
    }
    if (rc < 0) {
        client_io_end(io, rc);
        return true;
    }
    blocks_follow(io, unit, LENT_BEHIND);
    client_io_end(io, (int64_t)io->len);
    return true;
}

/* Who goes on where another request has ended will ask for what follows, too. Who asks for more at
 * a time than a kernel does has as much under way as it likes. */
static bool lends_blocks(const struct client_io *io)
{
    const struct opendfs_file *f = io->file;
    return io->inode->mode != PROTO_OPEN_S && io->part == NULL && !blocks_lost(io) &&
           io->len <= CLIENT_UNIT_BYTES &&
           (f->run_bytes >= CLIENT_UNIT_BYTES ||
            block_find(io->file, io->offset / unit_bytes(io->inode)) != NULL);
}

static bool read_lent(struct client_io *io)
{
    if (io->offset >= read_end(io->inode)) {
        size_t len = (size_t)base_min(io->len, CLIENT_UNIT_BYTES);
        int rc = lend_copy(io, NULL, len);
        client_io_end(io, rc < 0 ? rc : (int64_t)len);
        return true;
    }
    if (io->part != NULL) {
        return io->parts_active == 0 && lend_ended(io);
    }
    if (lends_blocks(io)) {
        return lend_block(io);
    }
    io->part = mem_calloc(1, sizeof *io->part);
    if (io->part == NULL) {
        client_io_end(io, -ENOMEM);
        return true;
    }
    part_start(io, &io->part[0]);
    return false;
}

/* --- all ----------------------------------------------------------------------------------------
 */

static bool read_small(struct client_io *io)
{
    const uint8_t *from = io->inode->small + io->offset;
    size_t have = io->inode->small_len > io->offset ? io->inode->small_len - (size_t)io->offset : 0;
    have = (size_t)base_min(have, io->len);
    int rc = 0;
    if (io->kind == IO_READ_LENT) {
        rc = lend_copy(io, have > 0 ? from : NULL, io->len);
    } else {
        memcpy(io->to, from, have);
        memset(io->to + have, 0, io->len - have);
    }
    client_io_end(io, rc < 0 ? rc : (int64_t)io->len);
    return true;
}

/* Once. False: it has ended already. */
static bool read_begin(struct client_io *io)
{
    const struct client_inode *i = io->inode;
    if ((io->file->flags & OPENDFS_READ) == 0) {
        client_io_end(io, -EBADF);
        return false;
    }
    io->len = io->offset >= i->size ? 0 : (size_t)base_min(io->len, i->size - io->offset);
    if (io->len == 0) {
        client_io_end(io, 0);
        return false;
    }
    io->barrier = 1; /* began */
    read_follow(io);
    io->streams = read_streams(io->file);
    if (!client_update_flush(io->inode, io->offset, io->offset + io->len)) {
        io->barrier = i->next_number;
    }
    return true;
}

bool client_read_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (io->barrier == 0 && !read_begin(io)) {
        return true;
    }
    if (io->part == NULL && io->barrier > 1 &&
        !client_update_range_done(i, io->barrier, io->offset, io->offset + io->len)) {
        return false; /* own writes come first */
    }
    if (i->in_line && io->part == NULL) {
        return read_small(io);
    }
    if (i->layout.data_id == 0 || i->layout.chunk_size == 0) {
        client_io_end(io, -EIO); /* a size, but no place where the bytes could be */
        return true;
    }
    if (io->kind == IO_READ_LENT) {
        return read_lent(io);
    }
    bool ordered = io->offset + io->len <= read_end(i) &&
                   i->mode != PROTO_OPEN_S && /* then nothing is read ahead: others write, too */
                   !blocks_lost(io) &&
                   (io->offset == io->file->next_offset ||
                    block_find(io->file, io->offset / unit_bytes(i)) != NULL);
    if (io->part != NULL || io->len >= CLIENT_UNIT_BYTES || !ordered) {
        return read_parts(io);
    }
    return read_blocks(io);
}

void client_read_cancel(struct client_io *io)
{
    size_t count = io->kind == IO_READ_LENT ? 1 : CLIENT_PARTS;
    for (size_t k = 0; io->part != NULL && k < count; k++) {
        if (io->part[k].active) {
            client_fetch_cancel(&io->part[k].fetch);
        }
    }
    buf_slice_drop(&io->lent);
}
