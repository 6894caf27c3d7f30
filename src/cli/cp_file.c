/*
 * cli/cp_file.c -- the data of one file: pieces of whole chunks, which the library lends us and
 * takes back from the same memory, several under way. What fits into the metadata is created in one
 * request.
 */
#include "base/mem.h"
#include "cli/cp_priv.h"

/* ---- Ends ---- */

static void source_closed(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    base->in = NULL; /* only read: nothing can be lost */
    cli_into_finish(base);
}

void cli_cp_file_made(struct tree_item *base)
{
    cli_job_prepare(base->tree->c, &base->job, source_closed);
    opendfs_async_close(base->tree->c->fs, &base->job.op, base->in, NULL, 0);
}

static void sized(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
    }
    cli_into_close(base);
}

void cli_cp_file_all_pieces(struct tree_item *base)
{
    struct cli *c = base->tree->c;
    if (base->failed || container_of(base, struct cp_item, base)->written_end >= base->size_bytes) {
        cli_into_close(base);
        return;
    }
    cli_job_prepare(c, &base->job, sized); /* it ends with a hole */
    opendfs_async_ftruncate(c->fs, &base->job.op, base->out, base->size_bytes);
}

/* ---- Pieces ---- */

static void piece_written(struct cli_job *j)
{
    struct tree_piece *x = container_of(j, struct tree_piece, write);
    struct cp_item *i = container_of(x->item, struct cp_item, base);
    if (j->op.result < 0) {
        cli_tree_item_fail_op(x->item, &j->op);
    }
    i->written_end = base_max(i->written_end, x->offset + x->read.op.data_len);
    cli_piece_stored(x);
}

void cli_cp_file_store(struct tree_piece *x, const void *bytes, size_t len)
{
    struct tree *t = x->item->tree;
    cli_job_prepare(t->c, &x->write, piece_written);
    opendfs_async_pwrite_lent(t->c->fs, &x->write.op, x->item->out, bytes, len, x->offset);
}

/* ---- Large files ---- */

static void start_large(struct cp_item *i);

static void copy_opened(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, base.job);
    struct tree_item *base = &i->base;
    if (j->op.result == -EEXIST) {
        cli_cp_item_is_there(i, start_large);
    } else if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
        cli_cp_file_made(base);
    } else {
        base->out = j->op.file;
        cli_pieces_fill(base);
    }
}

static void start_large(struct cp_item *i)
{
    struct tree_item *base = &i->base;
    struct cli *c = base->tree->c;
    if (base->failed) {
        cli_cp_file_made(base);
        return;
    }
    cli_job_prepare(c, &base->job, copy_opened);
    base->job.op.at = base->dir->ino;
    opendfs_async_open(c->fs, &base->job.op, cli_into_name(base),
                       OPENDFS_WRITE | OPENDFS_CREATE | OPENDFS_EXCLUSIVE, 0600);
}

/* ---- Small files ---- */

static void end_small(struct cp_item *i)
{
    opendfs_async_release(i->base.tree->c->fs, &i->small.op);
    cli_cp_file_made(&i->base);
}

static void start_small(struct cp_item *i);

static void created(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, base.job);
    if (j->op.result == -EEXIST) {
        cli_cp_item_is_there(i, start_small);
        return;
    }
    if (j->op.result < 0) {
        cli_tree_item_fail_op(&i->base, &j->op);
    } else {
        i->base.tree->copy.bytes += i->small.op.data_len;
    }
    end_small(i);
}

static void start_small(struct cp_item *i)
{
    struct tree_item *base = &i->base;
    struct cli *c = base->tree->c;
    if (base->failed) {
        end_small(i);
        return;
    }
    cli_job_prepare(c, &base->job, created);
    base->job.op.at = base->dir->ino;
    opendfs_async_create(c->fs, &base->job.op, cli_into_name(base), &base->values, base->mask,
                         i->small.op.data, i->small.op.data_len);
}

static void small_read(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, small);
    if (j->op.result < 0) {
        cli_tree_item_fail_source(&i->base, &j->op);
    }
    start_small(i);
}

/* ---- Beginning ---- */

static void opened(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, base.job);
    struct tree_item *base = &i->base;
    struct cli *c = base->tree->c;
    if (j->op.result < 0) {
        cli_tree_item_fail_source(base, &j->op);
        cli_tree_item_end(base);
        return;
    }
    base->in = j->op.file; /* its attributes are newer than those of the listing */
    base->source = j->op.stat.ino;
    base->size_bytes = j->op.stat.size_bytes;
    base->mask = cli_cp_values(i->p, &j->op.stat, &base->values);
    cli_into_values(base);
    if (base->size_bytes > opendfs_inline_limit(c->fs)) {
        start_large(i);
    } else if (base->size_bytes == 0) {
        start_small(i);
    } else {
        cli_job_prepare(c, &i->small, small_read);
        opendfs_async_pread_lent(c->fs, &i->small.op, base->in, (size_t)base->size_bytes, 0);
    }
}

void cli_cp_file_start(struct cp_item *i)
{
    struct cli *c = i->base.tree->c;
    cli_job_prepare(c, &i->base.job, opened);
    opendfs_async_open(c->fs, &i->base.job.op, i->base.local,
                       OPENDFS_READ | (i->base.follow ? 0u : OPENDFS_NOFOLLOW), 0);
}
