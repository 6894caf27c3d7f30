/*
 * cli/put_file.c -- the data of one file.
 *
 * What fits into the metadata is created in one request. Anything else is opened, sent in pieces of
 * whole chunks that the library takes from our buffers without a copy, synced and closed.
 */
#include "cli/put_priv.h"

#include "base/mem.h"

#include <string.h>

struct put_piece {
    struct cli_job job;
    struct put_item *item;
    void *buffer;
    size_t size, len;
    struct list node; /* free ones of full size */
};

/* ---- Buffers ---- */

static struct put_piece *piece_new(struct put *p, size_t size)
{
    struct list *free_one = size == COPY_PIECE_BYTES ? list_pop_front(&p->buffers) : NULL;
    if (free_one != NULL) {
        return container_of(free_one, struct put_piece, node);
    }
    struct put_piece *x = mem_zalloc(sizeof *x);
    void *buffer = x == NULL ? NULL : mem_aligned(4096, size);
    if (buffer == NULL) {
        mem_free(x);
        return NULL;
    }
    x->buffer = buffer;
    x->size = size;
    return x;
}

/* Also gives its room back. */
static void piece_put(struct put *p, struct put_piece *x)
{
    cli_pieces_give(&p->tree, x->size);
    if (x->size == COPY_PIECE_BYTES) {
        list_push_front(&p->buffers, &x->node);
        return;
    }
    mem_free(x->buffer);
    mem_free(x);
}

void cli_put_buffers_free(struct put *p)
{
    for (struct list *n; (n = list_pop_front(&p->buffers)) != NULL;) {
        struct put_piece *x = container_of(n, struct put_piece, node);
        mem_free(x->buffer);
        mem_free(x);
    }
}

/* ---- Pieces ---- */

static void piece_sent(struct cli_job *j)
{
    struct put_piece *x = container_of(j, struct put_piece, job);
    struct put_item *i = x->item;
    if (j->op.result < 0) {
        cli_tree_item_fail_op(&i->base, &j->op);
    } else {
        i->base.tree->copy.bytes += x->len;
    }
    piece_put(i->p, x);
    cli_pieces_done(&i->base);
}

/* Reads and sends a piece. */
static void send_piece(struct put_item *i, struct put_piece *x)
{
    struct tree_item *base = &i->base;
    uint64_t offset = base->offset;
    int64_t n = disk_local_read(i->file, x->buffer, x->size, offset);
    if (n < 0) {
        cli_tree_item_fail(base, base->local, n);
    } else {
        base->offset += (uint64_t)n;
        base->size_bytes = n < (int64_t)x->size ? base->offset : base->size_bytes;
    }
    if (n <= 0) {
        piece_put(i->p, x);
        return;
    }
    x->item = i;
    x->len = (size_t)n;
    base->pieces++;
    cli_job_prepare(base->tree->c, &x->job, piece_sent);
    opendfs_async_pwrite_lent(base->tree->c->fs, &x->job.op, base->out, x->buffer, x->len, offset);
}

bool cli_put_file_begin_piece(struct tree_item *base)
{
    struct put_item *i = container_of(base, struct put_item, base);
    uint64_t left = i->attr.size_bytes > base->offset ? i->attr.size_bytes - base->offset : 0;
    /* One byte more than is said to be left, so that a file that grew is noticed; standard input
     * has no size. */
    uint64_t want = i->attr.ino == 0 ? COPY_PIECE_BYTES : left + 1;
    size_t size = want >= COPY_PIECE_BYTES ? COPY_PIECE_BYTES : (size_t)base_align_up(want, 4096);
    if (!cli_pieces_take(base->tree, size)) {
        return false;
    }
    struct put_piece *x = piece_new(i->p, size);
    if (x == NULL) {
        cli_pieces_give(base->tree, size);
        cli_tree_item_fail(base, base->local, -ENOMEM);
        return true;
    }
    send_piece(i, x);
    return true;
}

/* ---- Beginnings ---- */

static void opened(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    if (j->op.result == -EEXIST && cli_into_use_temporary(base)) {
        cli_put_file_start(container_of(base, struct put_item, base));
    } else if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
        cli_tree_item_end(base);
    } else {
        base->out = j->op.file;
        base->size_bytes = UINT64_MAX; /* the last piece will tell */
        cli_pieces_fill(base);
    }
}

static void created(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    struct put_item *i = container_of(base, struct put_item, base);
    if (j->op.result == -EEXIST && cli_into_use_temporary(base)) {
        cli_put_file_start(i);
        return;
    }
    if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
    } else {
        base->tree->copy.bytes += i->small_len;
    }
    cli_into_finish(base);
}

/* The whole file, if it is as small as it says: true when it was read to its end. */
static int read_small(struct put_item *i, size_t limit, bool *ret)
{
    size_t want = (size_t)i->attr.size_bytes + 1;
    *ret = false;
    if (i->attr.ino == 0 || i->attr.size_bytes > limit) {
        return 0;
    }
    i->small = mem_alloc(want);
    if (i->small == NULL) {
        return -ENOMEM;
    }
    int64_t n = disk_local_read(i->file, i->small, want, 0);
    if (n < 0) {
        return (int)n;
    }
    i->small_len = (size_t)n;
    *ret = i->small_len < want;
    return 0;
}

static int open_source(struct put_item *i, bool *ret_small)
{
    size_t limit = opendfs_inline_limit(i->base.tree->c->fs);
    if (i->file == NULL) {
        int rc = strcmp(i->base.local, "-") == 0 ? disk_local_standard(0, &i->file)
                                                 : disk_local_open(i->base.local, &i->file);
        if (rc < 0) {
            return rc;
        }
        return read_small(i, limit, ret_small);
    }
    *ret_small = i->small != NULL && i->small_len <= limit;
    return 0;
}

void cli_put_file_start(struct put_item *i)
{
    struct tree_item *base = &i->base;
    struct cli *c = base->tree->c;
    bool small = false;
    int rc = open_source(i, &small);
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
        cli_tree_item_end(base);
        return;
    }
    cli_job_prepare(c, &base->job, small ? created : opened);
    base->job.op.at = base->dir->ino;
    if (small) {
        opendfs_async_create(c->fs, &base->job.op, cli_into_name(base), &base->values, base->mask,
                             i->small, i->small_len);
        return;
    }
    mem_free(i->small);
    i->small = NULL;
    opendfs_async_open(c->fs, &base->job.op, cli_into_name(base),
                       OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_EXCLUSIVE, 0600);
}
