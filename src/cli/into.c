/* cli/into.c -- see into_priv.h. */
#include "cli/into_priv.h"

#include "base/mem.h"
#include "cli/attrs_priv.h"

#include <string.h>

#define OWNER_WRITES 0200u

bool cli_into_init(struct tree_item *i, struct tree_dir *d, char *local, const char *name)
{
    char *path = cli_join(d->path, name);
    if (i == NULL || local == NULL || path == NULL) {
        cli_copy_fail(&d->tree->copy, d->local, -ENOMEM);
        mem_free(local);
        mem_free(path);
        return false;
    }
    cli_tree_item_init(i, d, local, path);
    return true;
}

const char *cli_into_final_name(const struct tree_item *i)
{
    return strrchr(i->path, '/') + 1;
}

const char *cli_into_name(const struct tree_item *i)
{
    return i->temporary[0] == 0 ? cli_into_final_name(i) : i->temporary;
}

bool cli_into_use_temporary(struct tree_item *i)
{
    if (i->temporary[0] != 0) {
        return false;
    }
    cli_copy_temporary_name(&i->tree->copy, i->temporary);
    return true;
}

/* For an operation on a name in the item's directory. */
static struct opendfs_op *prepare(struct tree_item *i, void (*finished)(struct cli_job *j))
{
    cli_job_prepare(i->tree->c, &i->job, finished);
    i->job.op.at = i->dir->ino;
    return &i->job.op;
}

/* ---- The final name ---- */

static void discarded(struct cli_job *j)
{
    cli_tree_item_end(container_of(j, struct tree_item, job));
}

static void renamed(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    if (j->op.result >= 0) {
        cli_tree_item_end(i);
        return;
    }
    cli_tree_item_fail_op(i, &j->op);
    opendfs_async_unlink(i->tree->c->fs, prepare(i, discarded), i->temporary);
}

static void finish(struct tree_item *i)
{
    if (i->temporary[0] == 0 || i->failed) {
        cli_tree_item_end(i);
        return;
    }
    opendfs_async_rename(i->tree->c->fs, prepare(i, renamed), i->temporary, cli_into_final_name(i),
                         0);
}

static void mode_set(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    if (j->op.result < 0) {
        i->partial = true;
        cli_fail_at(i->tree->c, i->path, &j->op);
    }
    finish(i);
}

static void has_attrs(struct tree_item *i)
{
    if (i->failed || !i->read_only) {
        finish(i);
        return;
    }
    i->values.mode &= ~OWNER_WRITES;
    opendfs_async_setattr(i->tree->c->fs, prepare(i, mode_set), cli_into_name(i), &i->values,
                          OPENDFS_SET_MODE);
}

/* Has it extended attributes of its own to be copied? */
static bool with_attrs(const struct tree_item *i)
{
    return i->tree->xattrs && !i->second && !i->no_source;
}

void cli_into_finish(struct tree_item *i)
{
    if (with_attrs(i) && !i->failed) {
        cli_attrs_of_item(i, NULL, has_attrs);
    } else {
        finish(i);
    }
}

void cli_into_values(struct tree_item *i)
{
    i->read_only =
        with_attrs(i) && i->type == OPENDFS_TYPE_FILE && (i->values.mode & OWNER_WRITES) == 0;
    i->values.mode |= i->read_only ? OWNER_WRITES : 0;
}

void cli_into_make(struct tree_item *i, const char *target, void (*made)(struct cli_job *j))
{
    struct opendfs *fs = i->tree->c->fs;
    struct opendfs_op *op = prepare(i, made);
    if (i->second) {
        opendfs_async_link(fs, op, i->link->first, cli_into_name(i));
    } else if (i->type == OPENDFS_TYPE_SYMLINK) {
        opendfs_async_symlink(fs, op, target, cli_into_name(i), &i->values, i->mask);
    } else {
        opendfs_async_make_node(fs, op, cli_into_name(i), &i->values, i->mask);
    }
}

/* ---- Directories ---- */

static void enter(struct tree_item *i, uint64_t ino, bool found)
{
    struct tree_dir *d =
        cli_tree_dir_new(i->tree, i->dir, mem_strdup(i->local), mem_strdup(i->path));
    if (d == NULL) {
        cli_tree_item_fail(i, i->local, -ENOMEM);
        cli_tree_item_end(i);
        return;
    }
    d->ino = ino;
    d->source = i->source;
    d->found = found;
    d->values = i->values;
    d->mask = i->mask;
    cli_tree_dir_ready(d);
    cli_tree_item_end(i);
}

static void looked_at(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    if (j->op.result < 0) {
        cli_tree_item_fail_op(i, &j->op);
    } else if (j->op.stat.type != OPENDFS_TYPE_DIRECTORY) {
        cli_tree_item_fail(i, i->path, -ENOTDIR);
    } else if (j->op.stat.ino == i->source) {
        cli_tree_item_failed(i);
        cli_fail(i->tree->c, "%s and %s are the same", i->local, i->path);
    }
    if (i->failed) {
        cli_tree_item_end(i);
    } else {
        enter(i, j->op.stat.ino, true);
    }
}

static void dir_made(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    struct opendfs *fs = i->tree->c->fs;
    if (j->op.result == -EEXIST && i->tree->ops->follow_found) {
        opendfs_async_stat(fs, prepare(i, looked_at), cli_into_final_name(i));
    } else if (j->op.result == -EEXIST) {
        opendfs_async_lstat(fs, prepare(i, looked_at), cli_into_final_name(i));
    } else if (j->op.result < 0) {
        cli_tree_item_fail_op(i, &j->op);
        cli_tree_item_end(i);
    } else {
        enter(i, j->op.stat.ino, false);
    }
}

void cli_into_make_dir(struct tree_item *i)
{
    opendfs_async_mkdir(i->tree->c->fs, prepare(i, dir_made), cli_into_final_name(i), 0700);
}

static void dir_set(struct cli_job *j)
{
    struct tree_dir *d = container_of(j, struct tree_dir, job);
    struct tree *t = d->tree;
    t->running--;
    cli_tree_unpend(cli_tree_dir_end(d, &j->op, 0));
    loop_stop(t->c->loop, 0);
}

static void set_dir(struct tree_dir *d)
{
    struct tree *t = d->tree;
    cli_job_prepare(t->c, &d->job, dir_set);
    opendfs_async_setattr_ino(t->c->fs, &d->job.op, d->ino, &d->values, d->mask);
}

struct tree_dir *cli_into_finish_dir(struct tree_dir *d)
{
    struct tree *t = d->tree;
    if (d->found && t->keep_found) {
        return cli_tree_dir_end(d, NULL, 0);
    }
    t->running++;
    if (t->xattrs) {
        cli_attrs_of_dir(d, set_dir);
    } else {
        set_dir(d);
    }
    return NULL;
}

/* ---- The end of a file ---- */

static void removed(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    if (j->op.result < 0 && j->op.result != -ENOENT) {
        cli_fail(i->tree->c, "%s: is incomplete and could not be removed: %s", i->path,
                 j->op.error);
    }
    i->tree->ops->file_made(i);
}

static void closed(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    i->out = NULL;
    if (j->op.result < 0) {
        cli_tree_item_fail_op(i, &j->op);
    }
    if (i->failed) {
        opendfs_async_unlink(i->tree->c->fs, prepare(i, removed), cli_into_name(i));
    } else {
        i->tree->ops->file_made(i);
    }
}

static void close_file(struct tree_item *i)
{
    opendfs_async_close(i->tree->c->fs, prepare(i, closed), i->out, &i->values,
                        i->failed ? 0 : i->mask);
}

static void synced(struct cli_job *j)
{
    struct tree_item *i = container_of(j, struct tree_item, job);
    if (j->op.result < 0) {
        cli_tree_item_fail_op(i, &j->op);
    }
    close_file(i);
}

void cli_into_close(struct tree_item *i)
{
    if (i->failed) {
        close_file(i);
        return;
    }
    opendfs_async_fsync(i->tree->c->fs, prepare(i, synced), i->out);
}
