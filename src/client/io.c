#include "client/io_priv.h"
#include "client/lock_priv.h"
#include "client/share_priv.h"

#include "wire/frame.h"

#include <string.h>

/*
 * Files: writing, and the operations that wait for what was written. All on one file that change it
 * are executed in the order of their start: one that has to wait keeps later ones waiting.
 */

struct opendfs_file *client_file_new(struct client_inode *i, unsigned flags, const char *path)
{
    struct opendfs_file *f = mem_zalloc(sizeof *f);
    char *copy = mem_strdup(path == NULL ? "" : path);
    if (f == NULL || copy == NULL) {
        mem_free(f);
        mem_free(copy);
        return NULL;
    }
    f->fs = i->fs;
    f->inode = i;
    f->flags = flags;
    f->path = copy;
    f->window = 1;
    list_init(&f->blocks);
    list_push_back(&i->handles, &f->node);
    i->refs++;
    i->writers += (flags & OPENDFS_WRITE) != 0 ? 1 : 0;
    return f;
}

void client_file_appends(struct opendfs_file *f, bool on)
{
    LOOP_OWNED(f->fs->loop);
    f->flags = on ? f->flags | OPENDFS_APPEND : f->flags & ~(unsigned)OPENDFS_APPEND;
}

struct opendfs *client_file_fs(const struct opendfs_file *f)
{
    return f->fs;
}

void client_file_free(struct opendfs_file *f)
{
    if (f == NULL) {
        return;
    }
    struct client_inode *i = f->inode;
    client_blocks_drop(f);
    client_locks_closed(f);
    list_remove(&f->node);
    i->writers -= (f->flags & OPENDFS_WRITE) != 0 ? 1 : 0;
    i->parked = i->parked && i->writers > 0;
    mem_free(f->path);
    mem_free(f);
    client_inode_wake(i);
    client_inode_put(i);
}

int client_inode_set_small(struct client_inode *i, uint64_t version, const void *bytes, size_t len)
{
    size_t room = base_max(i->fs->inline_limit, len);
    uint8_t *small = mem_zalloc(room + 1);
    if (small == NULL) {
        return -ENOMEM;
    }
    if (len > 0) {
        memcpy(small, bytes, len);
    }
    mem_free(i->small);
    i->small = small;
    i->small_len = len;
    i->small_version = version;
    i->small_room = room;
    i->in_line = true;
    i->stored_end = 0;
    return 0;
}

/* --- writing ------------------------------------------------------------------------------------
 */

int client_io_spill(struct client_inode *i)
{
    if (i->layout.data_id == 0 || i->layout.chunk_size == 0) {
        return -ERR_no_space; /* no storage class: nothing can be outside the metadata */
    }
    if (i->small_len > 0) {
        int64_t n = client_update_write(i, 0, i->small, i->small_len);
        if (n <= 0) {
            return (int)n;
        }
        CHECK((size_t)n == i->small_len);
    }
    i->spilled = (i->attr.flags & PROTO_INODE_INLINE) != 0 && i->attr.size > 0;
    mem_free(i->small);
    i->small = NULL;
    i->small_len = 0;
    i->in_line = false;
    return 1;
}

void client_io_written(const struct client_io *io, uint64_t end)
{
    struct client_inode *i = io->inode;
    i->size = base_max(i->size, end);
    i->mtime_ns = (int64_t)loop_wall_ns(i->fs->loop);
    i->dirty = true;
    i->untouched = false;
    i->told = false;
    i->kill_priv = i->kill_priv || (io->file != NULL && io->file->unprivileged);
    i->outsider = i->outsider || (io->file != NULL && io->file->outsider);
}

/* Into the small contents, if they stay small. 1: done, 0: not possible. */
static bool write_small(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (!i->in_line || i->mode != PROTO_OPEN_W || io->offset > i->fs->inline_limit ||
        io->len > i->fs->inline_limit - io->offset || io->offset + io->len > i->small_room) {
        return false;
    }
    memcpy(i->small + io->offset, io->from, io->len);
    i->small_len = base_max(i->small_len, io->offset + io->len);
    i->writes++;
    client_io_written(io, io->offset + io->len);
    io->pos = io->len;
    return true;
}

static bool lendable(const struct client_io *io, size_t left)
{
    const struct client_inode *i = io->inode;
    uint64_t at = io->offset + io->pos, chunk = i->layout.chunk_size;
    if (io->kind != IO_WRITE_LENT || at % PROTO_CELL_BYTES != 0) {
        return false;
    }
    uint64_t n = base_min(left, chunk - at % chunk);
    bool whole = n % PROTO_CELL_BYTES == 0 || (at + n) % chunk == 0;
    return whole || (at + n >= base_max(i->stored_end, i->size) && i->mode == PROTO_OPEN_W);
}

/* One piece. Bytes taken, 0: wait, or an error. */
static int64_t write_piece(struct client_io *io)
{
    struct client_inode *i = io->inode;
    const uint8_t *from = io->from + io->pos;
    uint64_t at = io->offset + io->pos;
    size_t left = io->len - io->pos;
    if (!lendable(io, left)) {
        return client_update_write(i, at, from, left);
    }
    uint64_t n =
        base_min(base_min(left, i->layout.chunk_size - at % i->layout.chunk_size), FRAME_DATA_MAX);
    int64_t number = client_update_lend(i, at, from, (size_t)n);
    return number <= 0 ? number : (int64_t)n;
}

static int write_pieces(struct client_io *io)
{
    struct client_inode *i = io->inode;
    io->stored_tgen = io->pos == 0 ? UINT32_MAX : io->stored_tgen;
    while (io->pos < io->len) {
        int64_t n = write_piece(io);
        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            client_inode_starve(i);
            return 0;
        }
        io->pos += (size_t)n;
        if (io->turn == 0) { /* else the size moves after the data */
            client_io_written(io, io->offset + io->pos);
        }
    }
    return 1;
}

/* Bytes have a place where a chunk has a number. */
int client_io_fits(const struct client_inode *i, uint64_t offset, uint64_t len)
{
    uint64_t places = (uint64_t)i->layout.chunk_size << 32;
    uint64_t end = places == 0 ? OPENDFS_SIZE_MAX : base_min(places, OPENDFS_SIZE_MAX);
    return len > end || offset > end - len ? -EFBIG : 0;
}

static int write_check(const struct client_io *io)
{
    if ((io->file->flags & OPENDFS_WRITE) == 0) {
        return -EBADF;
    }
    if (io->inode->dead < 0) {
        return io->inode->dead;
    }
    return io->len > 0 ? client_io_fits(io->inode, io->offset, io->len) : 0;
}

/* 1: all was taken; 0: wait. */
static int write_take(struct client_io *io)
{
    struct client_inode *i = io->inode;
    int rc = write_check(io);
    if (rc < 0 || io->len == 0 || write_small(io)) {
        return rc < 0 ? rc : 1;
    }
    rc = i->in_line ? client_io_spill(i) : 1;
    if (rc <= 0) {
        if (rc == 0) {
            client_inode_starve(i);
        }
        return rc;
    }
    return write_pieces(io);
}

static bool write_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (!client_append_place(io)) {
        return false;
    }
    int rc = io->rc < 0 ? io->rc : client_io_room(io, io->offset + io->len);
    rc = rc == 1 ? write_take(io) : rc;
    if (rc == 0) {
        return false;
    }
    bool lent = io->kind == IO_WRITE_LENT, sync = (io->file->flags & OPENDFS_SYNC) != 0;
    if (rc < 0 && !(lent && i->update_count > 0) && io->turn == 0) {
        client_io_end(io, rc);
        return true;
    }
    io->rc = rc < 0 ? rc : 0;
    if (rc == 1 && !lent && !sync && i->mode == PROTO_OPEN_W && io->turn == 0) {
        client_io_end(io, (int64_t)io->len);
        return true;
    }
    /* Write through: in S mode the size is published too, so that others see it. */
    io->stable = sync;
    io->barrier = i->next_number;
    client_update_flush(i, io->offset, io->offset + base_max(io->len, 1));
    io->phase = PHASE_FLUSH;
    return client_io_finish_step(io);
}

/* --- truncating ---------------------------------------------------------------------------------
 */

/* Within the memory of a small file, or growing: nobody needs to be asked. */
static bool truncate_here(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (i->mode != PROTO_OPEN_W) {
        return false;
    }
    if (i->in_line && io->offset <= i->small_room && io->offset <= i->fs->inline_limit) {
        if (io->offset > i->small_len) {
            memset(i->small + i->small_len, 0, io->offset - i->small_len);
        } else {
            memset(i->small + io->offset, 0, i->small_len - io->offset);
        }
        i->small_len = (size_t)io->offset;
    } else if (i->in_line || io->offset < i->size) {
        return false;
    }
    i->size = i->set_size = io->offset;
    client_io_written(io, 0);
    return true;
}

static bool truncate_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    int rc = i->dead < 0 ? i->dead : (io->file->flags & OPENDFS_WRITE) == 0 ? -EBADF : 0;
    if (rc == 0 && io->offset > OPENDFS_SIZE_MAX) {
        rc = -EFBIG;
    }
    rc = rc < 0 ? rc : io->rc < 0 ? io->rc : client_io_room(io, io->offset);
    if (rc == 0) {
        return false;
    }
    if (rc < 0 || truncate_here(io)) {
        client_io_end(io, rc < 0 ? rc : 0);
        return true;
    }
    if (i->in_line && (rc = client_io_spill(i)) <= 0) {
        if (rc < 0) {
            client_io_end(io, rc);
            return true;
        }
        client_inode_starve(i);
        return false;
    }
    io->barrier = i->next_number;
    client_update_flush(i, 0, UINT64_MAX);
    io->phase = PHASE_FLUSH;
    return client_io_finish_step(io);
}

/* --- beginning ----------------------------------------------------------------------------------
 */

/* Who shares a file has it in chunks: contents in two memories would overwrite each other. When
 * that is not possible they go back to the metadata, and the writers take turns. */
static bool recall_spills(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool small = io->kind == IO_RECALL && i->in_line && i->small_len > 0 && i->writers > 0;
    int rc = small && i->mode == PROTO_OPEN_W && i->torn == 0 ? client_io_spill(i) : 1;
    i->dirty = i->dirty || (small && !i->in_line);
    if (rc == 0) {
        client_inode_starve(i);
    }
    return rc != 0;
}

/* A close that is probably the last one gives the authority back with the commit that it sends
 * anyway. What was only made has nothing to tell: that comes with the end of the handle. True: it
 * has ended. */
static bool sync_last(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool alone = i->mode == PROTO_OPEN_W && i->dead == 0;
    if (alone && i->untouched && io->file->close_error == 0) {
        client_io_end(io, 0);
        return true;
    }
    io->kind = IO_FLUSH;
    io->parks = alone && i->dirty && i->writers == 1 && i->opening == 0 && !i->busy_end &&
                (io->file->flags & OPENDFS_WRITE) != 0;
    return false;
}

static bool sync_step(struct client_io *io)
{
    struct client_inode *i = io->inode;
    if (!recall_spills(io)) {
        return false;
    }
    bool reader = io->file != NULL && (io->file->flags & OPENDFS_WRITE) == 0;
    if (io->kind == IO_LAST_FLUSH && sync_last(io)) {
        return true;
    }
    io->barrier = i->next_number;
    io->stable = io->kind == IO_SYNC || (io->file != NULL && (io->file->flags & OPENDFS_SYNC) != 0);
    if (reader && io->kind == IO_CLOSE) {
        io->phase = PHASE_ATTR;
    } else { /* who only reads may sync what others have written */
        io->early = io->stable;
        client_update_flush(i, 0, UINT64_MAX);
        io->phase = PHASE_FLUSH;
    }
    return client_io_finish_step(io);
}

static void stat_out(const struct client_io *io)
{
    struct proto_attr a = io->inode->attr;
    client_inode_freshen(io->inode->fs, &a);
    client_stat_from(&a, &io->op->stat);
}

static bool stat_step(struct client_io *io)
{
    stat_out(io);
    client_io_end(io, 0);
    return true;
}

static bool writes(const struct client_io *io)
{
    return io->kind == IO_WRITE || io->kind == IO_WRITE_LENT || io->kind == IO_TRUNCATE ||
           io->kind == IO_ALLOCATE;
}

static bool changes(const struct client_io *io)
{
    return io->kind != IO_READ && io->kind != IO_READ_LENT && io->kind != IO_STAT &&
           io->kind != IO_SEEK;
}

static void io_fresh(struct client_held *h)
{
    struct client_io *io = container_of(h, struct client_io, held);
    io->fresh = IO_FRESH;
    client_inode_wake(io->inode);
}

/* In mode S the size is what the server says: asked for once by each that looks. Who only reads
 * asks when it was told that something has changed. */
static bool io_is_fresh(struct client_io *io)
{
    struct client_inode *i = io->inode;
    bool changed = i->mode == PROTO_OPEN_NONE && (i->outdated || i->refreshing || i->parked);
    if (i->rereading && i->mode == PROTO_OPEN_NONE) {
        return false; /* its end wakes us */
    }
    bool shared = i->mode == PROTO_OPEN_S && i->dead == 0;
    if (io->fresh == IO_STALE && !changed && !shared) {
        return true;
    }
    if (io->fresh == IO_STALE) {
        io->fresh = IO_ASKED;
        io->held.renewed = io_fresh;
        client_inode_refresh(i, &io->held);
    }
    return io->fresh == IO_FRESH;
}

/* True: it has ended. */
static bool io_step(struct client_io *io)
{
    if (io->phase == PHASE_CALL) {
        return false;
    }
    if (io->phase != PHASE_BEGIN) {
        return client_io_finish_step(io);
    }
    bool looks = !changes(io);
    bool data = io->kind != IO_STAT && (looks || writes(io));
    if (data && io->inode->parked && io->file != NULL && (io->file->flags & OPENDFS_WRITE) != 0) {
        client_share_unpark(io->inode);
    }
    if ((data && (io->inode->taking || client_share_waits(io->inode))) ||
        (looks && !io_is_fresh(io))) {
        return false;
    }
    switch (io->kind) {
    case IO_READ:
    case IO_READ_LENT:
        return client_read_step(io);
    case IO_WRITE:
    case IO_WRITE_LENT:
        return write_step(io);
    case IO_TRUNCATE:
        return truncate_step(io);
    case IO_STAT:
        return stat_step(io);
    case IO_ALLOCATE:
        return client_allocate_step(io);
    case IO_SEEK:
        return client_seek_step(io);
    case IO_SYNC:
    case IO_FLUSH:
    case IO_LAST_FLUSH:
    case IO_CLOSE:
    case IO_RECALL:
        return sync_step(io);
    }
    CHECK(false);
    return true;
}

/* Has an earlier one of the same file not even begun? Then this one must not overtake it. */
static bool must_queue(const struct client_io *io)
{
    LIST_FOR_EACH(at, &io->inode->waiting)
    {
        const struct client_io *before = LIST_ENTRY(at, struct client_io, node);
        if (before == io) {
            return false;
        }
        bool asks = before->asked && before->phase == PHASE_CALL && before->after == PHASE_BEGIN;
        if (changes(before) &&
            (before->phase == PHASE_BEGIN || asks || before->kind == IO_TRUNCATE)) {
            return true;
        }
        if ((before->turn != 0 || before->phase == PHASE_CALL) && before->placed && changes(io)) {
            return true; /* an append of ours is between the question and the size */
        }
        if ((before->kind == IO_RECALL || before->parks) && changes(io)) {
            return true; /* W is going back: what is written now would stay behind */
        }
    }
    return false;
}

void client_io_step_all(struct client_inode *i)
{
    struct list *at, done;
    uint64_t before = i->next_number;
    i->refs++;
    list_init(&done);
    for (at = i->waiting.next; at != &i->waiting;) {
        struct client_io *io = LIST_ENTRY(at, struct client_io, node);
        at = at->next;
        if (io->phase == PHASE_BEGIN && must_queue(io)) {
            continue;
        }
        io_step(io);
    }
    if (i->next_number != before) {
        client_inode_wake(i);
    }
    client_inode_put(i);
}

void client_io_end(struct client_io *io, int64_t rc)
{
    struct client_inode *i = io->inode;
    struct opendfs_op *op = io->op;
    struct opendfs_file *file = io->file;
    bool closes = io->kind == IO_CLOSE;
    char path[512] = "";
    if (file != NULL && rc < 0) {
        proto_bytes_to_c(proto_bytes_text(file->path), path, sizeof path);
    }
    list_remove(&io->node);
    list_remove(&io->held.node);
    client_inode_wake(i); /* others may go on */
    if (closes && op != NULL && rc >= 0) {
        stat_out(io);
    }
    if (closes) {
        client_file_free(file);
        if (i->writers == 0 && i->opening == 0 && i->mode != PROTO_OPEN_NONE) {
            client_inode_owe(i); /* giving it back has failed */
        }
    }
    if (op != NULL) {
        client_op_finish(op, rc, path, io->why);
    } else if (io->then != NULL) {
        io->then(io->context, (int)rc);
    }
    client_io_chunks_over(io);
    client_seek_free(io);
    mem_free(io->part);
    mem_free(io->why);
    mem_free(io->sent);
    mem_free(io);
    client_inode_put(i);
}

static struct client_io *io_new(struct client_inode *i, struct opendfs_file *f,
                                enum client_io_kind kind)
{
    struct client_io *io = mem_zalloc(sizeof *io);
    if (io != NULL) {
        io->inode = i;
        io->file = f;
        io->kind = kind;
        i->refs++;
        list_init(&io->held.node);
        list_push_back(&i->waiting, &io->node);
    }
    return io;
}

static void io_begin(struct client_io *io)
{
    if (!must_queue(io)) {
        io_step(io);
    }
}

/* --- starting -----------------------------------------------------------------------------------
 */

static void io_run(struct opendfs_op *op)
{
    struct client_op *o = client_op_of(op);
    struct opendfs_file *f = op->file;
    struct client_io *io = io_new(f->inode, f, (enum client_io_kind)o->flags);
    if (io == NULL) {
        if (o->flags == IO_CLOSE) {
            client_file_free(f);
        }
        client_op_finish(op, -ENOMEM, NULL, NULL);
        return;
    }
    io->op = op;
    io->to = o->out;
    io->from = o->in;
    io->len = o->len;
    io->offset = o->offset;
    io->values = o->values;
    io->mask = o->mask;
    io_begin(io);
}

static struct client_op *start_io(struct opendfs_op *op, struct opendfs_file *file,
                                  enum client_io_kind kind)
{
    struct client_op *o = client_op_of(op);
    op->file = file;
    o->path = NULL;
    o->flags = kind;
    o->in = NULL;
    o->out = NULL;
    o->len = 0;
    o->mask = 0;
    o->offset = 0;
    o->values = NULL;
    return o;
}

void opendfs_async_pread(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                         void *buffer, size_t len, uint64_t offset)
{
    struct client_op *o = start_io(op, file, IO_READ);
    o->out = buffer;
    o->len = len;
    o->offset = offset;
    client_op_start(fs, op, io_run);
}

void opendfs_async_pread_lent(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                              size_t len, uint64_t offset)
{
    struct client_op *o = start_io(op, file, IO_READ_LENT);
    o->len = len;
    o->offset = offset;
    client_op_start(fs, op, io_run);
}

void opendfs_async_pwrite(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                          const void *buffer, size_t len, uint64_t offset)
{
    struct client_op *o = start_io(op, file, IO_WRITE);
    o->in = buffer;
    o->len = len;
    o->offset = offset;
    client_op_start(fs, op, io_run);
}

void opendfs_async_pwrite_lent(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                               const void *buffer, size_t len, uint64_t offset)
{
    struct client_op *o = start_io(op, file, IO_WRITE_LENT);
    o->in = buffer;
    o->len = len;
    o->offset = offset;
    client_op_start(fs, op, io_run);
}

void opendfs_async_flush(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file)
{
    start_io(op, file, IO_FLUSH);
    client_op_start(fs, op, io_run);
}

void client_flush_last(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file)
{
    start_io(op, file, IO_LAST_FLUSH);
    client_op_start(fs, op, io_run);
}

void opendfs_async_fsync(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file)
{
    start_io(op, file, IO_SYNC);
    client_op_start(fs, op, io_run);
}

void opendfs_async_ftruncate(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                             uint64_t size_bytes)
{
    start_io(op, file, IO_TRUNCATE)->offset = size_bytes;
    client_op_start(fs, op, io_run);
}

void opendfs_async_allocate(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                            unsigned mode, uint64_t offset, uint64_t len)
{
    struct client_op *o = start_io(op, file, IO_ALLOCATE);
    o->mask = mode;
    o->offset = offset;
    o->len = (size_t)len;
    client_op_start(fs, op, io_run);
}

void opendfs_async_seek(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                        uint64_t offset, int whence)
{
    struct client_op *o = start_io(op, file, IO_SEEK);
    o->offset = offset;
    o->mask = (unsigned)whence;
    client_op_start(fs, op, io_run);
}

void opendfs_async_fstat(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file)
{
    start_io(op, file, IO_STAT);
    client_op_start(fs, op, io_run);
}

void opendfs_async_close(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                         const struct opendfs_stat *values, unsigned mask)
{
    struct client_op *o = start_io(op, file, IO_CLOSE);
    o->values = values;
    o->mask = values == NULL ? 0 : mask;
    client_op_start(fs, op, io_run);
}

void client_io_truncate(struct opendfs_file *f, uint64_t size, void (*then)(void *, int rc),
                        void *context)
{
    struct client_io *io = io_new(f->inode, f, IO_TRUNCATE);
    if (io == NULL) {
        then(context, -ENOMEM);
        return;
    }
    io->offset = size;
    io->then = then;
    io->context = context;
    io_begin(io);
}

void client_inode_recall(struct opendfs *fs, uint64_t ino)
{
    struct client_inode *i = client_inode_find(fs, ino);
    bool waits = i != NULL && i->wait_shared && i->writers > 0; /* it holds nothing back */
    if (i == NULL || i->mode == PROTO_OPEN_NONE || waits || i->recalled || i->dead < 0) {
        return;
    }
    struct client_io *io = io_new(i, NULL, IO_RECALL);
    if (io != NULL) { /* else the leader asks again */
        i->recalled = true;
        io_begin(io);
    }
}

/* The client is being freed: nothing is under way on the wire any more. */
void client_io_cancel_all(struct client_inode *i)
{
    i->refs++;
    while (!list_empty(&i->waiting)) {
        struct client_io *io = LIST_ENTRY(i->waiting.next, struct client_io, node);
        client_read_cancel(io);
        client_io_end(io, -ECANCELED);
    }
    client_inode_put(i);
}
