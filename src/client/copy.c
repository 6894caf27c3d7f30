#include "client/io_priv.h"

/*
 * copy_file_range: the client lends what it has read to what it writes, so the bytes pass neither
 * the kernel nor the caller. The source is gone through by its runs of bytes; several pieces of a
 * run are under way at once, cut where the pieces of the destination are. What is a hole becomes
 * one.
 */

#define COPY_LANES 4u
#define COPY_PIECE (UINT64_C(1) << 20)
#define COPY_BYTES (UINT64_C(128) << 20) /* in one call, of bytes; holes do not count */

struct copy_lane {
    struct client_copy *copy;
    struct opendfs_op read, write;
    uint64_t at, end;
};
struct client_copy {
    struct opendfs *fs;
    struct opendfs_op *op, step;
    struct opendfs_copy what;
    uint64_t pos;             /* all before it is copied */
    uint64_t run, next, sent; /* end of the run, of what lanes have taken; bytes in all */
    struct copy_lane lane[COPY_LANES];
    unsigned active;
    int rc;
};

static void copy_next(struct client_copy *c);

static void copy_end(struct client_copy *c)
{
    struct opendfs_op *op = c->op;
    int64_t rc = c->pos > 0 ? (int64_t)c->pos : c->rc;
    mem_free(c);
    client_op_finish(op, rc, NULL, NULL);
}

static struct opendfs_op *copy_op(struct client_copy *c, struct opendfs_op *op,
                                  void (*done)(struct opendfs_op *op), void *context)
{
    *op = (struct opendfs_op){
        .done = done, .context = context, .as = c->op->as, .umask = c->op->umask};
    return op;
}

static struct opendfs_op *copy_step(struct client_copy *c, void (*done)(struct opendfs_op *op))
{
    return copy_op(c, &c->step, done, c);
}

/* ---- A run of bytes ---- */

static void lane_go(struct copy_lane *l);

static void lane_over(struct copy_lane *l, int rc)
{
    struct client_copy *c = l->copy;
    c->rc = c->rc == 0 ? rc : c->rc;
    if (--c->active > 0) {
        return;
    }
    if (c->rc < 0 || c->run <= c->pos) { /* the source has become shorter */
        copy_end(c);
        return;
    }
    c->sent += c->run - c->pos;
    c->pos = c->run;
    copy_next(c);
}

static void lane_written(struct opendfs_op *op)
{
    struct copy_lane *l = op->context;
    opendfs_async_release(l->copy->fs, &l->read);
    if (op->result < 0) {
        lane_over(l, (int)op->result);
        return;
    }
    l->at += (uint64_t)op->result;
    lane_go(l);
}

static void lane_read(struct opendfs_op *op)
{
    struct copy_lane *l = op->context;
    struct client_copy *c = l->copy;
    if (op->result <= 0) {
        c->run = op->result == 0 ? base_min(c->run, l->at) : c->run;
        opendfs_async_release(c->fs, op);
        lane_over(l, (int)op->result);
        return;
    }
    opendfs_async_pwrite_lent(c->fs, copy_op(c, &l->write, lane_written, l), c->what.to, op->data,
                              op->data_len, c->what.to_offset + l->at);
}

static void lane_go(struct copy_lane *l)
{
    struct client_copy *c = l->copy;
    if (l->at == l->end) {
        l->at = c->next;
        uint64_t to = base_align_down(c->what.to_offset + l->at, COPY_PIECE) + COPY_PIECE;
        l->end = base_min(c->run, to - c->what.to_offset);
        c->next = base_max(l->end, l->at);
    }
    if (l->at >= l->end || c->rc < 0) {
        lane_over(l, 0);
        return;
    }
    opendfs_async_pread_lent(c->fs, copy_op(c, &l->read, lane_read, l), c->what.from,
                             (size_t)(l->end - l->at), c->what.from_offset + l->at);
}

static void copy_run(struct client_copy *c, uint64_t end)
{
    c->run = end;
    c->next = c->pos;
    c->active = COPY_LANES;
    for (unsigned i = 0; i < COPY_LANES; i++) {
        c->lane[i].copy = c;
        c->lane[i].at = c->lane[i].end = 0;
    }
    struct copy_lane *lane = c->lane;
    for (unsigned i = 0; i < COPY_LANES; i++) {
        lane_go(&lane[i]); /* the last one may end all of it */
    }
}

/* ---- From one run to the next ---- */

/* An offset that the source was sought to, within what is to be copied. */
static uint64_t copy_sought(const struct client_copy *c, const struct opendfs_op *op)
{
    uint64_t at = op->result < 0 ? UINT64_MAX : (uint64_t)op->result - c->what.from_offset;
    return base_min(at, c->what.len);
}

static bool copy_failed(struct client_copy *c, const struct opendfs_op *op)
{
    if (op->result < 0 && op->result != -ENXIO) {
        c->rc = (int)op->result;
        copy_end(c);
        return true;
    }
    return false;
}

static void copy_run_sought(struct opendfs_op *op)
{
    struct client_copy *c = op->context;
    if (!copy_failed(c, op)) {
        uint64_t end = copy_sought(c, op);
        copy_run(c, base_min(end, c->pos + (COPY_BYTES - c->sent)));
    }
}

static void copy_grown(struct opendfs_op *op)
{
    struct client_copy *c = op->context;
    if (!copy_failed(c, op)) {
        c->pos = c->what.len;
        copy_end(c);
    }
}

static void copy_punched(struct opendfs_op *op)
{
    struct client_copy *c = op->context;
    if (copy_failed(c, op)) {
        return;
    }
    if (c->run == c->what.len) { /* the destination ends with a hole */
        opendfs_async_allocate(c->fs, copy_step(c, copy_grown), c->what.to, 0,
                               c->what.to_offset + c->run - 1, 1);
        return;
    }
    c->pos = c->run;
    copy_next(c);
}

static void copy_bytes_sought(struct opendfs_op *op)
{
    struct client_copy *c = op->context;
    if (copy_failed(c, op)) {
        return;
    }
    uint64_t at = copy_sought(c, op);
    if (at == c->pos) {
        opendfs_async_seek(c->fs, copy_step(c, copy_run_sought), c->what.from,
                           c->what.from_offset + c->pos, OPENDFS_SEEK_HOLE);
        return;
    }
    c->run = at;
    opendfs_async_allocate(c->fs, copy_step(c, copy_punched), c->what.to,
                           OPENDFS_ALLOCATE_PUNCH | OPENDFS_ALLOCATE_KEEP_SIZE,
                           c->what.to_offset + c->pos, at - c->pos);
}

static void copy_next(struct client_copy *c)
{
    if (c->pos >= c->what.len || c->sent >= COPY_BYTES) {
        copy_end(c);
        return;
    }
    opendfs_async_seek(c->fs, copy_step(c, copy_bytes_sought), c->what.from,
                       c->what.from_offset + c->pos, OPENDFS_SEEK_DATA);
}

/* ---- The beginning ---- */

static void copy_looked(struct opendfs_op *op)
{
    struct client_copy *c = op->context;
    if (copy_failed(c, op)) {
        return;
    }
    uint64_t size = op->stat.size_bytes;
    uint64_t left = c->what.from_offset < size ? size - c->what.from_offset : 0;
    c->what.len = base_min(c->what.len, left);
    copy_next(c);
}

static int copy_check(const struct opendfs_copy *w)
{
    bool rights = (w->from->flags & OPENDFS_READ) != 0 && (w->to->flags & OPENDFS_WRITE) != 0 &&
                  (w->to->flags & OPENDFS_APPEND) == 0;
    if (!rights) {
        return -EBADF;
    }
    if (w->len > OPENDFS_SIZE_MAX || w->from_offset > OPENDFS_SIZE_MAX - w->len ||
        w->to_offset > OPENDFS_SIZE_MAX - w->len) {
        return -EFBIG;
    }
    bool apart = w->from_offset + w->len <= w->to_offset || w->to_offset + w->len <= w->from_offset;
    return w->from->inode == w->to->inode && !apart ? -EINVAL : 0;
}

static void copy_begin(struct opendfs_op *op)
{
    const struct opendfs_copy *what = client_op_of(op)->in;
    int rc = copy_check(what);
    struct client_copy *c = rc < 0 ? NULL : mem_zalloc(sizeof *c);
    if (c == NULL) {
        client_op_finish(op, rc < 0 ? rc : -ENOMEM, NULL, NULL);
        return;
    }
    c->fs = client_op_of(op)->fs;
    c->op = op;
    c->what = *what;
    opendfs_async_fstat(c->fs, copy_step(c, copy_looked), what->from);
}

void opendfs_async_copy_range(struct opendfs *fs, struct opendfs_op *op,
                              const struct opendfs_copy *copy)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = copy;
    client_op_start(fs, op, copy_begin);
}
