/*
 * cli/cp_file.c -- the data of one file: pieces of whole chunks, which the library lends us and
 * takes back from the same memory, several under way. What fits into the metadata is created in one
 * request.
 */
#include "base/mem.h"
#include "cli/cp_priv.h"

#include <string.h>

struct cp_piece {
    struct cli_job read, write; /* the data belong to `read` until `write` is done */
    struct cp_item *item;
    uint64_t offset;
    size_t len;
};

static void fill(struct cp_item *i);

/* ---- Ends ---- */

static void source_closed(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    i->in = NULL; /* only read: nothing can be lost */
    if (i->failed) {
        cli_tree_item_end(&i->base, false);
    } else {
        cli_cp_item_finish(i);
    }
}

static void close_source(struct cp_item *i)
{
    cli_job_prepare(i->p->tree.c, &i->job, source_closed);
    opendfs_async_close(i->p->tree.c->fs, &i->job.op, i->in, NULL, 0);
}

static void removed(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result < 0 && j->op.result != -ENOENT) {
        cli_fail(i->p->tree.c, "%s: is incomplete and could not be removed: %s", i->base.path,
                 j->op.error);
    }
    close_source(i);
}

static void copy_closed(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    struct cli *c = i->p->tree.c;
    i->out = NULL;
    if (j->op.result < 0 && !i->failed) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    if (!i->failed) {
        close_source(i);
        return;
    }
    cli_job_prepare(c, &i->job, removed);
    i->job.op.at = i->parent;
    opendfs_async_unlink(c->fs, &i->job.op, cli_cp_item_name(i));
}

static void close_copy(struct cp_item *i)
{
    cli_job_prepare(i->p->tree.c, &i->job, copy_closed);
    opendfs_async_close(i->p->tree.c->fs, &i->job.op, i->out, &i->values, i->failed ? 0 : i->mask);
}

static void synced(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    close_copy(i);
}

static void sync_copy(struct cp_item *i)
{
    if (i->failed) {
        close_copy(i);
        return;
    }
    cli_job_prepare(i->p->tree.c, &i->job, synced);
    opendfs_async_fsync(i->p->tree.c->fs, &i->job.op, i->out);
}

static void sized(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    sync_copy(i);
}

static void all_sent(struct cp_item *i)
{
    struct cli *c = i->p->tree.c;
    if (i->failed || i->written_end >= i->size_bytes) {
        sync_copy(i);
        return;
    }
    cli_job_prepare(c, &i->job, sized); /* it ends with a hole */
    opendfs_async_ftruncate(c->fs, &i->job.op, i->out, i->size_bytes);
}

/* ---- Pieces ---- */

static void fill_waiting(struct cp *p)
{
    struct list line; /* who gets no room again comes to the end of the line, once */
    list_init(&line);
    list_splice_back(&line, &p->waiting);
    for (struct list *n; (n = list_pop_front(&line)) != NULL;) {
        fill(container_of(n, struct cp_item, base.node));
    }
}

static void piece_end(struct cp_piece *x)
{
    struct cp_item *i = x->item;
    struct cp *p = i->p;
    p->asked_bytes -= x->len;
    mem_free(x);
    i->pieces--;
    fill(i);
    fill_waiting(p);
}

static void read_piece(struct cp_piece *x);

/* Goes on with the rest of the piece behind these bytes, if there is one. */
static void piece_next(struct cp_piece *x, size_t len)
{
    struct cp_item *i = x->item;
    if (i->failed || len == x->len) {
        piece_end(x);
        return;
    }
    i->p->asked_bytes -= len;
    x->offset += len;
    x->len -= len;
    read_piece(x);
}

static void piece_written(struct cli_job *j)
{
    struct cp_piece *x = container_of(j, struct cp_piece, write);
    struct cp_item *i = x->item;
    size_t len = x->read.op.data_len;
    opendfs_async_release(i->p->tree.c->fs, &x->read.op);
    if (j->op.result < 0 && !i->failed) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    }
    i->p->tree.copy.bytes += j->op.result < 0 ? 0 : len;
    i->written_end = base_max(i->written_end, x->offset + len);
    piece_next(x, len);
}

static bool only_zeros(const uint8_t *bytes, size_t len)
{
    return len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

static void piece_read(struct cli_job *j)
{
    struct cp_piece *x = container_of(j, struct cp_piece, read);
    struct cp_item *i = x->item;
    struct cli *c = i->p->tree.c;
    size_t len = j->op.result < 0 ? 0 : j->op.data_len;
    if (j->op.result < 0 && !i->failed) {
        i->failed = true;
        cli_cp_fail_source(i, &j->op);
    } else if (len == 0) { /* the file has become shorter meanwhile */
        i->size_bytes = base_min(i->size_bytes, x->offset);
    }
    if (i->failed || len == 0) {
        opendfs_async_release(c->fs, &j->op);
        piece_end(x);
    } else if (only_zeros(j->op.data, len)) { /* holes stay holes */
        opendfs_async_release(c->fs, &j->op);
        i->p->tree.copy.bytes += len;
        piece_next(x, len);
    } else {
        cli_job_prepare(c, &x->write, piece_written);
        opendfs_async_pwrite_lent(c->fs, &x->write.op, i->out, j->op.data, len, x->offset);
    }
}

static void read_piece(struct cp_piece *x)
{
    struct cp_item *i = x->item;
    cli_job_prepare(i->p->tree.c, &x->read, piece_read);
    opendfs_async_pread_lent(i->p->tree.c->fs, &x->read.op, i->in, x->len, x->offset);
}

/* False: no room for another piece now. */
static bool begin_piece(struct cp_item *i)
{
    struct cp *p = i->p;
    size_t len = (size_t)base_min(i->size_bytes - i->offset, COPY_PIECE_BYTES);
    if (p->asked_bytes > 0 && p->asked_bytes + len > COPY_BUFFERED_BYTES) {
        return false;
    }
    struct cp_piece *x = mem_zalloc(sizeof *x);
    if (x == NULL) {
        i->failed = true;
        cli_tree_item_fail(&i->base, NULL, -ENOMEM);
        return true;
    }
    x->item = i;
    x->offset = i->offset;
    x->len = len;
    i->offset += len;
    i->pieces++;
    p->asked_bytes += len;
    read_piece(x);
    return true;
}

static void fill(struct cp_item *i)
{
    while (!i->failed && i->offset < i->size_bytes && i->pieces < COPY_PIECES_PER_FILE) {
        if (!begin_piece(i)) {
            if (i->pieces == 0) {
                list_push_back(&i->p->waiting, &i->base.node);
                return;
            }
            break;
        }
    }
    if (i->pieces == 0 && (i->failed || i->offset >= i->size_bytes)) {
        all_sent(i);
    }
}

/* ---- Large files ---- */

static void start_large(struct cp_item *i);

static void copy_opened(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result == -EEXIST) {
        cli_cp_item_is_there(i, start_large);
    } else if (j->op.result < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
        close_source(i);
    } else {
        i->out = j->op.file;
        fill(i);
    }
}

static void start_large(struct cp_item *i)
{
    struct cli *c = i->p->tree.c;
    if (i->failed) {
        close_source(i);
        return;
    }
    cli_job_prepare(c, &i->job, copy_opened);
    i->job.op.at = i->parent;
    opendfs_async_open(c->fs, &i->job.op, cli_cp_item_name(i),
                       OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_EXCLUSIVE, 0600);
}

/* ---- Small files ---- */

static void end_small(struct cp_item *i)
{
    opendfs_async_release(i->p->tree.c->fs, &i->small.op);
    close_source(i);
}

static void start_small(struct cp_item *i);

static void created(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result == -EEXIST) {
        cli_cp_item_is_there(i, start_small);
        return;
    }
    if (j->op.result < 0) {
        i->failed = true;
        cli_tree_item_fail(&i->base, &j->op, 0);
    } else {
        i->p->tree.copy.bytes += i->small.op.data_len;
    }
    end_small(i);
}

static void start_small(struct cp_item *i)
{
    struct cli *c = i->p->tree.c;
    if (i->failed) {
        end_small(i);
        return;
    }
    cli_job_prepare(c, &i->job, created);
    i->job.op.at = i->parent;
    opendfs_async_create(c->fs, &i->job.op, cli_cp_item_name(i), &i->values, i->mask,
                         i->small.op.data, i->small.op.data_len);
}

static void small_read(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, small);
    if (j->op.result < 0) {
        i->failed = true;
        cli_cp_fail_source(i, &j->op);
    }
    start_small(i);
}

/* ---- Beginning ---- */

static void opened(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    struct cli *c = i->p->tree.c;
    if (j->op.result < 0) {
        cli_cp_fail_source(i, &j->op);
        cli_tree_item_end(&i->base, false);
        return;
    }
    i->in = j->op.file;
    i->stat = j->op.stat; /* newer than that of the listing */
    i->size_bytes = i->stat.size_bytes;
    i->mask = cli_cp_values(i->p, &i->stat, &i->values);
    if (i->size_bytes > opendfs_inline_limit(c->fs)) {
        start_large(i);
    } else if (i->size_bytes == 0) {
        start_small(i);
    } else {
        cli_job_prepare(c, &i->small, small_read);
        opendfs_async_pread_lent(c->fs, &i->small.op, i->in, (size_t)i->size_bytes, 0);
    }
}

void cli_cp_file_start(struct cp_item *i)
{
    struct cli *c = i->p->tree.c;
    cli_job_prepare(c, &i->job, opened);
    opendfs_async_open(c->fs, &i->job.op, i->base.local,
                       OPENDFS_READ | (i->follow ? 0u : OPENDFS_NOFOLLOW), 0);
}
