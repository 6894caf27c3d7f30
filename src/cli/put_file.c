/*
 * cli/put_file.c -- the data of one file.
 *
 * What fits into the metadata is created in one request. Anything else is opened, sent in pieces of
 * whole chunks that the library takes from our buffers without a copy, synced and closed; the
 * buffers are bounded over all files, and who gets none waits in line.
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

static struct put_piece *piece_get(struct put *p, uint64_t want)
{
    size_t size = want >= COPY_PIECE_BYTES ? COPY_PIECE_BYTES
                                           : (size_t)base_align_up(base_max(want, 1), 4096);
    if (p->buffered_bytes > 0 && p->buffered_bytes + size > COPY_BUFFERED_BYTES) {
        return NULL;
    }
    struct list *free_one = size == COPY_PIECE_BYTES ? list_pop_front(&p->buffers) : NULL;
    struct put_piece *x;
    if (free_one != NULL) {
        x = container_of(free_one, struct put_piece, node);
    } else {
        x = mem_zalloc(sizeof *x);
        void *buffer = x == NULL ? NULL : mem_aligned(4096, size);
        if (buffer == NULL) {
            mem_free(x);
            return NULL;
        }
        x->buffer = buffer;
        x->size = size;
    }
    p->buffered_bytes += size;
    return x;
}

static void piece_put(struct put *p, struct put_piece *x)
{
    p->buffered_bytes -= x->size;
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

static void feed_starved(struct put *p)
{
    struct list line; /* who gets none again comes to the end of the line, once */
    list_init(&line);
    list_splice_back(&line, &p->starved);
    for (struct list *n; (n = list_pop_front(&line)) != NULL;) {
        cli_put_file_fill(container_of(n, struct put_item, base.node));
    }
}

/* ---- Ends ---- */

static void removed(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result < 0 && j->op.result != -ENOENT) {
        cli_fail(i->p->tree.c, "%s: is incomplete and could not be removed: %s", i->base.path,
                 j->op.error);
    }
    cli_tree_item_end(&i->base, false);
}

static void remove_incomplete(struct put_item *i)
{
    cli_job_prepare(i->p->tree.c, &i->job, removed);
    i->job.op.at = i->parent;
    opendfs_async_unlink(i->p->tree.c->fs, &i->job.op, cli_put_item_name(i));
}

static void closed(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    i->file = NULL;
    if (j->op.result < 0 && !i->failed) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    if (i->failed) {
        remove_incomplete(i);
    } else {
        cli_put_item_finish(i);
    }
}

static void close_file(struct put_item *i)
{
    cli_job_prepare(i->p->tree.c, &i->job, closed);
    opendfs_async_close(i->p->tree.c->fs, &i->job.op, i->file, &i->values, i->failed ? 0 : i->mask);
}

static void synced(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    close_file(i);
}

static void all_sent(struct put_item *i)
{
    if (i->failed) {
        close_file(i);
        return;
    }
    cli_job_prepare(i->p->tree.c, &i->job, synced);
    opendfs_async_fsync(i->p->tree.c->fs, &i->job.op, i->file);
}

/* ---- Pieces ---- */

static void piece_sent(struct cli_job *j)
{
    struct put_piece *x = container_of(j, struct put_piece, job);
    struct put_item *i = x->item;
    struct put *p = i->p;
    if (j->op.result < 0 && !i->failed) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    } else if (j->op.result >= 0) {
        p->tree.copy.bytes += x->len;
    }
    piece_put(p, x);
    i->pieces--;
    cli_put_file_fill(i);
    feed_starved(p);
}

/* Reads and sends one piece. False: no buffer now. */
static bool send_piece(struct put_item *i)
{
    struct put *p = i->p;
    uint64_t left = i->attr.size_bytes > i->offset ? i->attr.size_bytes - i->offset : 0;
    /* One byte more than is said to be left, so that a file that grew is noticed; standard input
     * has no size. */
    struct put_piece *x = piece_get(p, i->attr.ino == 0 ? COPY_PIECE_BYTES : left + 1);
    if (x == NULL) {
        return false;
    }
    int64_t n = disk_local_read(i->source, x->buffer, x->size, i->offset);
    if (n < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, n);
    }
    i->at_end = n < (int64_t)x->size;
    if (n <= 0) {
        piece_put(p, x);
        return true;
    }
    x->item = i;
    x->len = (size_t)n;
    uint64_t offset = i->offset;
    i->offset += x->len;
    i->pieces++;
    cli_job_prepare(p->tree.c, &x->job, piece_sent);
    opendfs_async_pwrite_lent(p->tree.c->fs, &x->job.op, i->file, x->buffer, x->len, offset);
    return true;
}

void cli_put_file_fill(struct put_item *i)
{
    while (!i->failed && !i->at_end && i->pieces < COPY_PIECES_PER_FILE) {
        if (!send_piece(i)) {
            if (i->pieces == 0) {
                list_push_back(&i->p->starved, &i->base.node);
                return;
            }
            break;
        }
    }
    if (i->pieces == 0 && (i->failed || i->at_end)) {
        all_sent(i);
    }
}

/* ---- Beginnings ---- */

static void opened(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result == -EEXIST && cli_put_item_use_temporary(i)) {
        cli_put_file_start(i);
    } else if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
    } else {
        i->file = j->op.file;
        cli_put_file_fill(i);
    }
}

static void created(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result == -EEXIST && cli_put_item_use_temporary(i)) {
        cli_put_file_start(i);
    } else if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
    } else {
        i->p->tree.copy.bytes += i->small_len;
        cli_put_item_finish(i);
    }
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
    int64_t n = disk_local_read(i->source, i->small, want, 0);
    if (n < 0) {
        return (int)n;
    }
    i->small_len = (size_t)n;
    *ret = i->small_len < want;
    return 0;
}

static int open_source(struct put_item *i, bool *ret_small)
{
    if (i->source == NULL) {
        int rc = strcmp(i->base.local, "-") == 0 ? disk_local_standard(0, &i->source)
                                                 : disk_local_open(i->base.local, &i->source);
        if (rc < 0) {
            return rc;
        }
        return read_small(i, opendfs_inline_limit(i->p->tree.c->fs), ret_small);
    }
    *ret_small = i->small != NULL && i->small_len <= opendfs_inline_limit(i->p->tree.c->fs);
    return 0;
}

void cli_put_file_start(struct put_item *i)
{
    struct opendfs *fs = i->p->tree.c->fs;
    bool small = false;
    int rc = open_source(i, &small);
    if (rc < 0) {
        cli_tree_item_fail(&i->base, NULL, rc);
        cli_tree_item_end(&i->base, false);
        return;
    }
    if (small) {
        cli_job_prepare(i->p->tree.c, &i->job, created);
        i->job.op.at = i->parent;
        opendfs_async_create(fs, &i->job.op, cli_put_item_name(i), &i->values, i->mask, i->small,
                             i->small_len);
        return;
    }
    mem_free(i->small);
    i->small = NULL;
    cli_job_prepare(i->p->tree.c, &i->job, opened);
    i->job.op.at = i->parent;
    opendfs_async_open(fs, &i->job.op, cli_put_item_name(i),
                       OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_EXCLUSIVE, 0600);
}
