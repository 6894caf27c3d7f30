/* cli/attrs.c -- see attrs_priv.h. */
#include "cli/attrs_priv.h"
#include "cli/into_priv.h"
#include "opendfs/xattr.h"

#include "base/mem.h"
#include "disk/local.h"

#include <string.h>

#define NAMES_MAX 65536u /* of one file, as in Linux */
#define VALUE_MAX 65536u

/* One of the two is set. */
struct attrs_place {
    const char *local;
    const char *path; /* inside the cluster, from `at` on */
    uint64_t at;
};
struct attrs {
    struct cli_job job;
    struct tree *t;
    struct tree_item *item; /* one of these two */
    struct tree_dir *dir;
    void (*item_done)(struct tree_item *i);
    void (*dir_done)(struct tree_dir *d);
    struct attrs_place from, to;
    bool follow; /* the source is what a symbolic link points to */
    struct opendfs_xattr xattr;
    size_t next, names_len;
    char names[NAMES_MAX], value[VALUE_MAX];
};

/* ---- Ends ---- */

static void end(struct attrs *x)
{
    struct tree_item *i = x->item;
    struct tree_dir *d = x->dir;
    void (*item_done)(struct tree_item *) = x->item_done;
    void (*dir_done)(struct tree_dir *) = x->dir_done;
    mem_free(x);
    if (i != NULL) {
        item_done(i);
    } else {
        dir_done(d);
    }
}

/* `name`: NULL when it is about all of them. */
static void fail(struct attrs *x, bool source, const char *name, int rc)
{
    bool outward = x->t->ops->outward;
    const char *local = x->item != NULL ? x->item->local : x->dir->local;
    const char *path = x->item != NULL ? x->item->path : x->dir->path;
    bool *partial = x->item != NULL ? &x->item->partial : &x->dir->partial;
    *partial = true;
    cli_fail(x->t->c, "%s: %s: %s", source == outward ? path : local,
             name == NULL ? "extended attributes" : name, opendfs_error_text(rc));
}

/* ---- One of them ---- */

static void go_on(struct attrs *x);

static const char *name_of(const struct attrs *x)
{
    return x->names + x->next;
}

static void step(struct attrs *x)
{
    x->next += strlen(name_of(x)) + 1;
}

static void stored(struct cli_job *j)
{
    struct attrs *x = container_of(j, struct attrs, job);
    if (j->op.result < 0) {
        fail(x, false, name_of(x), (int)j->op.result);
    }
    step(x);
    go_on(x);
}

/* True: done already. */
static bool store(struct attrs *x, size_t len)
{
    struct opendfs *fs = x->t->c->fs;
    x->xattr = (struct opendfs_xattr){.name = name_of(x), .value = x->value, .size = len};
    if (x->to.local != NULL) {
        int rc = disk_local_set_xattr(x->to.local, name_of(x), x->value, len);
        if (rc < 0) {
            fail(x, false, name_of(x), rc);
        }
        step(x);
        return true;
    }
    cli_job_prepare(x->t->c, &x->job, stored);
    x->job.op.at = x->to.at;
    opendfs_async_lsetxattr(fs, &x->job.op, x->to.path, &x->xattr);
    return false;
}

/* The value, or why not; it may have gone since its name was read. True: done already. */
static bool take(struct attrs *x, int64_t len)
{
    if (len >= 0) {
        return store(x, (size_t)len);
    }
    if (len != -ENODATA) {
        fail(x, true, name_of(x), (int)len);
    }
    step(x);
    return true;
}

static void value_came(struct cli_job *j)
{
    struct attrs *x = container_of(j, struct attrs, job);
    if (take(x, j->op.result)) {
        go_on(x);
    }
}

/* True: done already. */
static bool ask(struct attrs *x)
{
    struct opendfs *fs = x->t->c->fs;
    if (x->from.local != NULL) {
        return take(x, disk_local_get_xattr(x->from.local, name_of(x), x->value, VALUE_MAX));
    }
    cli_job_prepare(x->t->c, &x->job, value_came);
    x->job.op.at = x->from.at;
    if (x->follow) {
        opendfs_async_getxattr(fs, &x->job.op, x->from.path, name_of(x), x->value, VALUE_MAX);
    } else {
        opendfs_async_lgetxattr(fs, &x->job.op, x->from.path, name_of(x), x->value, VALUE_MAX);
    }
    return false;
}

/* ---- All of them ---- */

static void go_on(struct attrs *x)
{
    while (x->next < x->names_len) {
        if (strncmp(name_of(x), "system.", strlen("system.")) == 0) {
            step(x); /* access control lists; what belongs to one kind of file system */
        } else if (!ask(x)) {
            return;
        }
    }
    end(x);
}

static void names_known(struct attrs *x, int64_t len)
{
    if (len < 0 && len != -EOPNOTSUPP) {
        fail(x, true, NULL, (int)len);
    }
    x->names_len = len < 0 ? 0 : (size_t)len;
    go_on(x);
}

static void names_came(struct cli_job *j)
{
    names_known(container_of(j, struct attrs, job), j->op.result);
}

static void list_names(struct attrs *x)
{
    struct opendfs *fs = x->t->c->fs;
    if (x->from.local != NULL) {
        names_known(x, disk_local_list_xattrs(x->from.local, x->names, NAMES_MAX));
        return;
    }
    cli_job_prepare(x->t->c, &x->job, names_came);
    x->job.op.at = x->from.at;
    if (x->follow) {
        opendfs_async_listxattr(fs, &x->job.op, x->from.path, x->names, NAMES_MAX);
    } else {
        opendfs_async_llistxattr(fs, &x->job.op, x->from.path, x->names, NAMES_MAX);
    }
}

static struct attrs *attrs_new(struct tree *t)
{
    struct attrs *x = mem_alloc(sizeof *x);
    if (x != NULL) {
        memset(x, 0, offsetof(struct attrs, names));
        x->t = t;
    }
    return x;
}

void cli_attrs_of_item(struct tree_item *i, const char *local, void (*done)(struct tree_item *i))
{
    struct attrs *x = attrs_new(i->tree);
    if (x == NULL) {
        i->partial = true;
        cli_fail_path(i->tree->c, i->path, -ENOMEM);
        done(i);
        return;
    }
    x->item = i;
    x->item_done = done;
    x->follow = i->follow;
    if (i->source == 0) { /* it is not inside the cluster */
        x->from.local = i->local;
    } else {
        x->from.path = i->tree->ops->outward ? i->path : i->local;
    }
    x->to.local = local;
    if (local == NULL) {
        x->to.path = cli_into_name(i);
        x->to.at = i->dir->ino;
    }
    list_names(x);
}

void cli_attrs_of_dir(struct tree_dir *d, void (*done)(struct tree_dir *d))
{
    struct attrs *x = attrs_new(d->tree);
    if (x == NULL) {
        d->partial = true;
        cli_fail_path(d->tree->c, d->path, -ENOMEM);
        done(d);
        return;
    }
    x->dir = d;
    x->dir_done = done;
    if (d->source == 0) {
        x->from.local = d->local;
    } else {
        x->from = (struct attrs_place){.path = ".", .at = d->source};
    }
    if (d->tree->ops->outward) {
        x->to.local = d->local;
    } else {
        x->to = (struct attrs_place){.path = ".", .at = d->ino};
    }
    list_names(x);
}
