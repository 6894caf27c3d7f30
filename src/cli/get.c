/* cli/get.c -- see get_priv.h. */
#include "cli/get_priv.h"

#include "base/mem.h"
#include "cli/attrs_priv.h"

#include <string.h>
#include <sys/stat.h>

static struct disk_local_attr attr_of(const struct opendfs_stat *st)
{
    return (struct disk_local_attr){.mode = (st->type << 12) | st->mode,
                                    .uid = st->uid,
                                    .gid = st->gid,
                                    .rdev = st->rdev,
                                    .atime_ns = st->atime_ns,
                                    .mtime_ns = st->mtime_ns};
}

/* The owner first: it clears some attributes. */
static int set_owner(const struct tree *t, const char *local, const struct opendfs_stat *st)
{
    struct disk_local_attr a = attr_of(st);
    return t->copy.owner ? disk_local_set(local, &a, DISK_LOCAL_OWNER) : 0;
}

/* The mode last: it may forbid to set any. */
static int set_rest(const char *local, const struct opendfs_stat *st)
{
    struct disk_local_attr a = attr_of(st);
    return disk_local_set(local, &a, DISK_LOCAL_MODE | DISK_LOCAL_TIMES);
}

/* ---- Items ---- */

static void free_item(struct tree_item *base)
{
    struct get_item *i = container_of(base, struct get_item, base);
    CHECK(i->file == NULL);
    if (base->failed) {
        (void)disk_local_remove(i->temporary); /* may never have been made */
    }
    mem_free(i->temporary);
    mem_free(i);
}

/* Files and symbolic links are replaced; a device or a pipe (/dev/null, say) never is. */
static int may_replace(const char *local)
{
    struct disk_local_attr a;
    int rc = disk_local_lstat(local, &a);
    if (rc < 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    bool plain = S_ISREG(a.mode) || S_ISLNK(a.mode) || S_ISDIR(a.mode); /* rename() says EISDIR */
    return plain ? 0 : -EEXIST;
}

static void finish(struct tree_item *base)
{
    struct get_item *i = container_of(base, struct get_item, base);
    int rc = base->failed || base->second ? 0 : set_rest(i->temporary, &i->stat);
    rc = rc < 0 || base->failed ? rc : disk_local_rename(i->temporary, base->local);
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
    }
    cli_tree_item_end(base);
}

void cli_get_item_finish(struct get_item *i)
{
    struct tree_item *base = &i->base;
    int rc = may_replace(base->local);
    rc = rc < 0 || base->second ? rc : set_owner(base->tree, i->temporary, &i->stat);
    if (rc < 0) {
        cli_tree_item_fail(base, base->local, rc);
    }
    if (base->tree->xattrs && !base->second && !base->failed) {
        cli_attrs_of_item(base, i->temporary, finish);
    } else {
        finish(base);
    }
}

static void made_locally(struct get_item *i, int rc)
{
    if (rc < 0) {
        cli_tree_item_fail(&i->base, i->base.local, rc);
        cli_tree_item_end(&i->base);
        return;
    }
    cli_get_item_finish(i);
}

static void target_known(struct cli_job *j)
{
    struct tree_item *base = container_of(j, struct tree_item, job);
    struct get_item *i = container_of(base, struct get_item, base);
    if (j->op.result < 0) {
        cli_tree_item_fail_op(base, &j->op);
        cli_tree_item_end(base);
        return;
    }
    made_locally(i, disk_local_symlink(i->target, i->temporary));
}

static void start_item(struct tree_item *base)
{
    struct get_item *i = container_of(base, struct get_item, base);
    struct cli *c = base->tree->c;
    if (base->second) {
        made_locally(i, disk_local_link(base->link->first, i->temporary));
    } else if (base->type == OPENDFS_TYPE_FILE) {
        cli_get_file_start(i);
    } else if (base->type == OPENDFS_TYPE_SYMLINK) {
        cli_job_prepare(c, &base->job, target_known);
        opendfs_async_readlink(c->fs, &base->job.op, base->path, i->target, sizeof i->target);
    } else {
        struct disk_local_attr a = attr_of(&i->stat);
        made_locally(i, disk_local_mknod(i->temporary, a.mode, a.rdev));
    }
}

/* ---- Directories ---- */

static struct tree_dir *set_dir(struct tree_dir *d)
{
    int rc = set_owner(d->tree, d->local, &d->values);
    return cli_tree_dir_end(d, NULL, rc < 0 ? rc : set_rest(d->local, &d->values));
}

static void dir_has_attrs(struct tree_dir *d)
{
    struct tree *t = d->tree;
    t->running--;
    cli_tree_unpend(set_dir(d));
    loop_stop(t->c->loop, 0);
}

static struct tree_dir *finish_dir(struct tree_dir *d)
{
    if (!d->tree->xattrs) {
        return set_dir(d);
    }
    d->tree->running++;
    cli_attrs_of_dir(d, dir_has_attrs);
    return NULL;
}

static int make_directory(const char *local)
{
    int rc = disk_local_mkdir(local, 0700);
    struct disk_local_attr a;
    if (rc == -EEXIST && disk_local_stat(local, &a) == 0) {
        rc = S_ISDIR(a.mode) ? 0 : -ENOTDIR;
    }
    return rc;
}

/* Takes both texts over. */
static void begin_directory(struct tree_dir *parent, char *local, char *path,
                            const struct opendfs_stat *st)
{
    struct tree *t = parent->tree;
    struct tree_dir *d = cli_tree_dir_new(t, parent, local, path);
    if (d == NULL) {
        cli_copy_fail(&t->copy, parent->path, -ENOMEM);
        return;
    }
    d->values = *st;
    d->source = st->ino;
    int rc = make_directory(d->local);
    if (rc < 0) {
        cli_copy_fail(&t->copy, d->local, rc);
        (void)cli_tree_dir_free(d);
        return;
    }
    cli_tree_dir_ready(d);
}

/* ---- The walk ---- */

static char *temporary_beside(struct tree *t, const char *local)
{
    char name[COPY_NAME_SIZE];
    cli_copy_temporary_name(&t->copy, name);
    const char *slash = strrchr(local, '/');
    return slash == NULL ? mem_strdup(name)
                         : mem_printf("%.*s/%s", (int)(slash - local), local, name);
}

/* Takes both texts over. */
static void begin_item(struct tree_dir *d, char *local, char *path, const struct opendfs_stat *st)
{
    struct get_item *i = mem_zalloc(sizeof *i);
    char *temporary = local == NULL ? NULL : temporary_beside(d->tree, local);
    if (i == NULL || local == NULL || path == NULL || temporary == NULL) {
        cli_copy_fail(&d->tree->copy, d->path, -ENOMEM);
        mem_free(i);
        mem_free(local);
        mem_free(path);
        mem_free(temporary);
        return;
    }
    cli_tree_item_init(&i->base, d, local, path);
    i->base.type = st->type;
    i->base.source = st->ino;
    i->temporary = temporary;
    i->stat = *st;
    cli_tree_item_begin(
        &i->base,
        st->nlink > 1 ? cli_tree_item_link(&i->base, 0, st->ino, st->size_bytes, local) : 0);
}

/* Takes both texts over. */
static void begin_at(struct tree_dir *d, char *local, char *path, const struct opendfs_stat *st)
{
    if (st->type == OPENDFS_TYPE_DIRECTORY && local != NULL && path != NULL) {
        begin_directory(d, local, path, st);
    } else {
        begin_item(d, local, path, st);
    }
}

static void begin(struct tree_dir *d, const char *name, const struct opendfs_stat *st)
{
    begin_at(d, cli_join(d->local, name), cli_join(d->path, name), st);
}

/* ---- The command ---- */

static void get_source(struct tree_dir *top, const char *argument, bool into)
{
    struct tree *t = top->tree;
    struct cli *c = t->c;
    CLEANUP(mem_freep) char *path = cli_path(c, argument);
    struct opendfs_stat st;
    if (path == NULL) {
        t->copy.status = CLI_EXIT_USAGE;
        return;
    }
    if (opendfs_lstat(c->fs, path, &st) < 0) {
        t->copy.failed++;
        cli_fail_op(c, NULL);
        return;
    }
    const char *base = cli_copy_base_name(path);
    bool named = into && base[0] != 0;
    begin_at(top, named ? cli_join(top->local, base) : mem_strdup(top->local), mem_strdup(path),
             &st);
}

static void measure_file(struct tree *t, const struct opendfs_stat *st)
{
    t->copy.bytes_total += st->size_bytes;
    t->copy.files_total++;
}

static void measure(struct tree *t, const char *path, struct list *stack)
{
    struct opendfs_dir *dir;
    if (opendfs_opendir(t->c->fs, path, &dir) < 0) {
        return;
    }
    struct opendfs_entry e;
    while (opendfs_readdir(dir, &e) > 0) {
        if (e.stat.type == OPENDFS_TYPE_FILE) {
            measure_file(t, &e.stat);
        } else if (e.stat.type == OPENDFS_TYPE_DIRECTORY) {
            cli_tree_push(stack, cli_join(path, e.name));
        }
    }
    opendfs_closedir(dir);
}

static void measure_source(struct tree *t, const char *argument)
{
    struct cli *c = t->c;
    CLEANUP(mem_freep) char *path = cli_path(c, argument);
    struct opendfs_stat st;
    if (path == NULL || opendfs_lstat(c->fs, path, &st) < 0) {
        return; /* the copy itself will say so */
    }
    if (st.type == OPENDFS_TYPE_DIRECTORY) {
        cli_tree_measure(t, path);
    } else {
        measure_file(t, &st);
    }
}

static void get_sources(struct tree *t, const char *to, bool into)
{
    struct tree_dir *top = cli_tree_dir_new(t, NULL, mem_strdup(to), mem_strdup("/"));
    if (top == NULL) {
        cli_copy_fail(&t->copy, to, -ENOMEM);
        return;
    }
    top->top = true;
    for (size_t i = 0; i + 1 < t->c->argument_count && t->copy.status == 0; i++) {
        get_source(top, t->c->argument[i], into);
    }
    cli_tree_unpend(top);
    cli_tree_run(t);
}

static const struct tree_ops get_ops = {.outward = true,
                                        .walk = cli_tree_walk_pages,
                                        .begin = begin,
                                        .start = start_item,
                                        .free_item = free_item,
                                        .finish_dir = finish_dir,
                                        .measure = measure,
                                        .begin_piece = cli_pieces_read,
                                        .store = cli_get_file_store,
                                        .all_pieces = cli_get_file_all_pieces};

int cli_run_get(struct cli *c)
{
    size_t last = c->argument_count - 1;
    const char *to = c->argument[last];
    int status = cli_connect(c);
    if (status != 0) {
        return status;
    }
    if (strcmp(to, "-") == 0) {
        return cli_get_to_standard_output(c, last);
    }
    struct disk_local_attr a;
    int rc = disk_local_stat(to, &a);
    bool into = rc == 0 && S_ISDIR(a.mode);
    if (rc < 0 && rc != -ENOENT) {
        return cli_fail_path(c, to, rc);
    }
    if (last > 1 && !into) {
        return cli_fail_path(c, to, rc < 0 ? rc : -ENOTDIR);
    }
    struct tree t;
    cli_tree_begin(&t, c, "get", &get_ops);
    t.copy.owner = t.copy.owner && !cli_flag(c, "no-owner");
    t.xattrs = cli_flag(c, "xattrs");
    for (size_t i = 0; cli_terminal_is_one(c->terminal) && !c->quiet && i < last; i++) {
        measure_source(&t, c->argument[i]);
    }
    get_sources(&t, to, into);
    return cli_tree_end(&t);
}

int cli_run_cat(struct cli *c)
{
    int status = cli_connect(c);
    return status != 0 ? status : cli_get_to_standard_output(c, c->argument_count);
}
