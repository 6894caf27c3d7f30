#include "mount/call_priv.h"

/* Open files. */

struct mount_pieces {
    struct opendfs_op op[MOUNT_PIECES]; /* that lend what they have read */
    struct iovec iov[MOUNT_PIECES];
    size_t count;
};

struct mount_handle *mount_handle_new(void)
{
    struct mount_handle *h = mem_zalloc(sizeof *h);
    if (h != NULL) {
        list_init(&h->node);
    }
    return h;
}

static struct mount_handle *handle_new(struct mount_call *c, struct opendfs_file *file)
{
    struct mount_handle *h = mount_handle_new();
    if (h != NULL) {
        h->file = file;
        h->ino = c->ino;
        h->flags = c->flags;
    }
    return h;
}

void mount_handle_free(struct mount_handle *h)
{
    list_remove(&h->node); /* of open directories, if it is one */
    mem_free(h);
}

/* --- open ---------------------------------------------------------------------------------------
 */

/* There was no memory for its handle. */
static void open_undone(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    c->answers->done(c, -ENOMEM);
}

static void opened(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    bool created = c->name[0] != '\0';
    if (op->result < 0) {
        c->answers->done(c, created ? (int)op->result : mount_gone(op->result));
        return;
    }
    c->ino = op->stat.ino;
    struct mount_handle *h = handle_new(c, op->file);
    if (h == NULL) {
        op->done = open_undone;
        opendfs_async_close(c->mount->fs, op, op->file, NULL, 0);
    } else if (created) {
        c->answers->created(c, &op->stat, h);
    } else {
        c->answers->opened(c, h);
    }
}

void mount_open(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_open(c);
        return;
    }
    if (mount_op(c, opened)) {
        opendfs_async_open(c->mount->fs, &c->op, "", c->flags, 0);
    }
}

void mount_create(struct mount_call *c)
{
    if (mount_op(c, opened)) {
        opendfs_async_open(c->mount->fs, &c->op, c->name,
                           c->flags | OPENDFS_CREATE | OPENDFS_NOFOLLOW, c->values.mode);
    }
}

/* --- reading: what the library lends, piece behind piece ----------------------------------------
 */

static void pieces_free(struct mount_call *c)
{
    struct mount_pieces *p = c->pieces;
    for (size_t i = 0; p != NULL && i < p->count; i++) {
        opendfs_async_release(c->mount->fs, &p->op[i]);
    }
    mem_free(p);
    c->pieces = NULL;
}

static void read_next(struct mount_call *c);

static void read_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    struct mount_pieces *p = c->pieces;
    if (op->result < 0) {
        int rc = (int)op->result;
        pieces_free(c);
        c->answers->done(c, rc);
        return;
    }
    size_t got = op->data_len;
    p->iov[p->count] = (struct iovec){(void *)(uintptr_t)op->data, got};
    p->count++;
    c->offset += got;
    c->size -= got;
    if (got > 0 && c->size > 0 && p->count < MOUNT_PIECES) {
        read_next(c);
        return;
    }
    struct iovec v[MOUNT_PIECES];
    int n = 0;
    for (size_t i = 0; i < p->count; i++) {
        v[n] = p->iov[i];
        n += v[n].iov_len > 0 ? 1 : 0;
    }
    c->answers->data(c, v, n);
}

static void read_next(struct mount_call *c)
{
    struct opendfs_op *op = &c->pieces->op[c->pieces->count];
    op->done = read_done;
    op->context = c;
    opendfs_async_pread_lent(c->mount->fs, op, c->handle->file, c->size, c->offset);
}

/* A short answer is the end of the file: all that is asked for is read, up to there. */
void mount_read(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_read(c);
        return;
    }
    if (c->handle->file == NULL) {
        c->answers->done(c, -EISDIR);
        return;
    }
    c->pieces = mem_zalloc(sizeof *c->pieces);
    if (c->pieces == NULL) {
        c->answers->done(c, -ENOMEM);
        return;
    }
    read_next(c);
}

void mount_pieces_free(struct mount_call *c)
{
    pieces_free(c);
}

/* --- writing ------------------------------------------------------------------------------------
 */

static void written(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
    } else {
        c->answers->count(c, (size_t)op->result);
    }
}

void mount_write(struct mount_call *c, const void *from)
{
    if (mount_op(c, written)) {
        client_file_appends(c->handle->file, (c->flags & OPENDFS_APPEND) != 0);
        opendfs_async_pwrite(c->mount->fs, &c->op, c->handle->file, from, c->size, c->offset);
    }
}

static void plain_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    c->answers->done(c, op->result < 0 ? (int)op->result : 0);
}

static void flushed(struct opendfs_op *op)
{
    mount_lock_flush(mount_call_of(op), op->result < 0 ? (int)op->result : 0);
}

void mount_flush(struct mount_call *c)
{
    if ((c->handle->flags & OPENDFS_WRITE) == 0) {
        mount_lock_flush(c, 0);
    } else if (mount_op(c, flushed)) {
        client_flush_last(c->mount->fs, &c->op, c->handle->file);
    }
}

void mount_fsync(struct mount_call *c)
{
    if (c->handle->file == NULL) {
        c->answers->done(c, 0); /* of a directory: each answer was durable */
    } else if (mount_op(c, plain_done)) {
        opendfs_async_fsync(c->mount->fs, &c->op, c->handle->file);
    }
}

static void released(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    mount_handle_free(c->handle);
    c->answers->done(c, 0); /* nobody hears of errors any more: flush has told them */
}

void mount_release(struct mount_call *c)
{
    if (mount_is_own(c)) {
        mount_own_release(c);
        return;
    }
    if (mount_op(c, released)) {
        opendfs_async_close(c->mount->fs, &c->op, c->handle->file, NULL, 0);
    }
}
