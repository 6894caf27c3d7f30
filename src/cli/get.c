/* cli/get.c -- see get_priv.h. */
#include "cli/get_priv.h"

#include "base/mem.h"
#include "disk/disk.h"

#include <string.h>
#include <sys/stat.h>

#define NAME_LIMIT 255u

static struct disk_local_attr attr_of(const struct opendfs_stat *st)
{
    return (struct disk_local_attr){.mode = (st->type << 12) | st->mode,
                                    .uid = st->uid,
                                    .gid = st->gid,
                                    .rdev = st->rdev,
                                    .atime_ns = st->atime_ns,
                                    .mtime_ns = st->mtime_ns};
}

static unsigned mask_of(const struct get *g)
{
    return DISK_LOCAL_MODE | DISK_LOCAL_TIMES | (g->tree.copy.owner ? DISK_LOCAL_OWNER : 0);
}

/* ---- Items ---- */

static void free_item(struct tree_item *base, bool good)
{
    struct get_item *i = container_of(base, struct get_item, base);
    CHECK(i->file == NULL && i->out == NULL && i->pieces == 0);
    if (!good) {
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

void cli_get_item_finish(struct get_item *i)
{
    struct disk_local_attr a = attr_of(&i->stat);
    int rc = may_replace(i->base.local);
    rc = rc < 0 || i->base.second ? rc : disk_local_set(i->temporary, &a, mask_of(i->g));
    rc = rc < 0 ? rc : disk_local_rename(i->temporary, i->base.local);
    if (rc < 0) {
        cli_tree_item_fail(&i->base, NULL, rc);
    }
    cli_tree_item_end(&i->base, rc == 0);
}

static void make_locally(struct get_item *i, int rc)
{
    if (rc < 0) {
        cli_tree_item_fail(&i->base, NULL, rc);
        cli_tree_item_end(&i->base, false);
        return;
    }
    cli_get_item_finish(i);
}

static void target_known(struct cli_job *j)
{
    struct get_item *i = container_of(j, struct get_item, job);
    if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
        return;
    }
    make_locally(i, disk_local_symlink(i->target, i->temporary));
}

static void start_item(struct tree_item *base)
{
    struct get_item *i = container_of(base, struct get_item, base);
    struct get *g = i->g;
    if (i->base.second) {
        make_locally(i, disk_local_link(base->link->first, i->temporary));
    } else if (i->stat.type == OPENDFS_TYPE_FILE) {
        cli_get_file_start(i);
    } else if (i->stat.type == OPENDFS_TYPE_SYMLINK) {
        cli_job_prepare(g->tree.c, &i->job, target_known);
        opendfs_async_readlink(g->tree.c->fs, &i->job.op, i->base.path, i->target,
                               sizeof i->target);
    } else {
        struct disk_local_attr a = attr_of(&i->stat);
        make_locally(i, disk_local_mknod(i->temporary, a.mode, a.rdev));
    }
}

/* ---- Directories ---- */

/* Takes both texts over, NULL is no memory. */
static struct get_dir *dir_new(struct get *g, struct tree_dir *parent, char *local, char *path)
{
    struct get_dir *d = local == NULL || path == NULL ? NULL : mem_zalloc(sizeof *d);
    if (d == NULL) {
        mem_free(local);
        mem_free(path);
        return NULL;
    }
    cli_tree_dir_init(&d->base, parent, local, path);
    d->g = g;
    return d;
}

static struct tree_dir *dir_free(struct get_dir *d)
{
    struct tree_dir *parent = cli_tree_dir_fini(&d->base);
    mem_free(d);
    return parent;
}

static struct tree_dir *finish_dir(struct tree *t, struct tree_dir *base)
{
    struct get_dir *d = container_of(base, struct get_dir, base);
    struct disk_local_attr a = attr_of(&d->stat);
    int rc = base->top ? 0 : disk_local_set(base->local, &a, mask_of(d->g));
    if (rc < 0) {
        cli_copy_fail(&t->copy, base->local, rc);
    } else if (!base->top) {
        t->copy.directories++;
    }
    return dir_free(d);
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
static void begin_directory(struct get *g, struct tree_dir *parent, char *local, char *path,
                            const struct opendfs_stat *st)
{
    struct get_dir *d = dir_new(g, parent, local, path);
    if (d == NULL) {
        cli_copy_fail(&g->tree.copy, parent->path, -ENOMEM);
        return;
    }
    d->stat = *st;
    int rc = make_directory(d->base.local);
    if (rc < 0) {
        cli_copy_fail(&g->tree.copy, d->base.local, rc);
        (void)dir_free(d);
        return;
    }
    cli_tree_dir_ready(&g->tree, &d->base);
}

/* ---- The walk ---- */

static char *temporary_beside(struct get *g, const char *local)
{
    char name[COPY_NAME_SIZE];
    cli_copy_temporary_name(&g->tree.copy, name);
    const char *slash = strrchr(local, '/');
    return slash == NULL ? mem_strdup(name)
                         : mem_printf("%.*s/%s", (int)(slash - local), local, name);
}

/* Takes both texts over. */
static void begin_item(struct get *g, struct tree_dir *d, char *local, char *path,
                       const struct opendfs_stat *st)
{
    struct get_item *i = mem_zalloc(sizeof *i);
    char *temporary = local == NULL ? NULL : temporary_beside(g, local);
    if (i == NULL || local == NULL || path == NULL || temporary == NULL) {
        cli_copy_fail(&g->tree.copy, d->path, -ENOMEM);
        mem_free(i);
        mem_free(local);
        mem_free(path);
        mem_free(temporary);
        return;
    }
    cli_tree_item_init(&i->base, &g->tree, d, local, path);
    i->base.type = st->type;
    i->g = g;
    i->temporary = temporary;
    i->stat = *st;
    cli_tree_item_begin(
        &i->base,
        st->nlink > 1 ? cli_tree_item_link(&i->base, 0, st->ino, st->size_bytes, local) : 0);
}

static void begin(struct get *g, struct tree_dir *d, char *local, char *path,
                  const struct opendfs_stat *st)
{
    if (st->type == OPENDFS_TYPE_DIRECTORY && local != NULL && path != NULL) {
        begin_directory(g, d, local, path, st);
    } else {
        begin_item(g, d, local, path, st);
    }
}

/* A page has come; it stays in d->job.op until all its names were begun. */
static void listed(struct cli_job *j)
{
    struct get_dir *d = container_of(j, struct get_dir, job);
    struct tree *t = &d->g->tree;
    t->running--;
    d->next = 0;
    d->at_end = j->op.at_end != 0;
    if (j->op.result < 0) {
        cli_copy_fail_op(&t->copy, d->base.path, &j->op);
        d->at_end = true;
        j->op.entry_count = 0;
    }
    list_push_front(&t->ready, &d->base.node);
    loop_stop(t->c->loop, 0);
}

static void list_more(struct tree *t, struct get_dir *d)
{
    list_remove(&d->base.node);
    t->running++;
    cli_job_prepare(t->c, &d->job, listed);
    opendfs_async_list(t->c->fs, &d->job.op, d->base.path, d->after, 0);
}

static void walk_page(struct tree *t, struct get_dir *d)
{
    const struct opendfs_entry *e = &d->job.op.entries[d->next++];
    begin(d->g, &d->base, cli_join(d->base.local, e->name), cli_join(d->base.path, e->name),
          &e->stat);
    if (d->next == d->job.op.entry_count) {
        size_t len = base_min(e->name_len, NAME_LIMIT);
        memcpy(d->after, e->name, len);
        d->after[len] = 0;
        opendfs_async_release(t->c->fs, &d->job.op);
        d->job.op.entry_count = 0;
        d->next = 0;
    }
}

static void walk(struct tree *t, struct tree_dir *base)
{
    struct get_dir *d = container_of(base, struct get_dir, base);
    if (d->next < d->job.op.entry_count) {
        walk_page(t, d);
    } else if (!d->at_end) {
        list_more(t, d);
    } else {
        list_remove(&base->node);
        opendfs_async_release(t->c->fs, &d->job.op);
        cli_tree_unpend(t, base);
    }
}

/* ---- The command ---- */

static void get_source(struct get *g, struct tree_dir *top, const char *argument, const char *to,
                       bool into)
{
    struct cli *c = g->tree.c;
    CLEANUP(mem_freep) char *path = cli_path(c, argument);
    struct opendfs_stat st;
    if (path == NULL) {
        g->tree.copy.status = CLI_EXIT_USAGE;
        return;
    }
    if (opendfs_lstat(c->fs, path, &st) < 0) {
        g->tree.copy.failed++;
        cli_fail_op(c, NULL);
        return;
    }
    const char *base = cli_copy_base_name(path);
    bool named = into && base[0] != 0;
    begin(g, top, named ? cli_join(to, base) : mem_strdup(to), mem_strdup(path), &st);
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

static void measure_source(struct get *g, const char *argument)
{
    struct cli *c = g->tree.c;
    CLEANUP(mem_freep) char *path = cli_path(c, argument);
    struct opendfs_stat st;
    if (path == NULL || opendfs_lstat(c->fs, path, &st) < 0) {
        return; /* the copy itself will say so */
    }
    if (st.type == OPENDFS_TYPE_DIRECTORY) {
        cli_tree_measure(&g->tree, path);
    } else {
        measure_file(&g->tree, &st);
    }
}

static void get_sources(struct get *g, const char *to, bool into)
{
    struct tree *t = &g->tree;
    struct get_dir *top = dir_new(g, NULL, mem_strdup(to), mem_strdup("/"));
    if (top == NULL) {
        cli_copy_fail(&t->copy, to, -ENOMEM);
        return;
    }
    top->base.top = true;
    for (size_t i = 0; i + 1 < t->c->argument_count && t->copy.status == 0; i++) {
        get_source(g, &top->base, t->c->argument[i], to, into);
    }
    cli_tree_unpend(t, &top->base);
    cli_tree_run(t);
}

static const struct tree_ops get_ops = {.walk = walk,
                                        .start = start_item,
                                        .free_item = free_item,
                                        .finish_dir = finish_dir,
                                        .measure = measure};

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
    struct get g = {.asked_bytes = 0};
    cli_tree_begin(&g.tree, c, "get", &get_ops);
    g.tree.copy.owner = g.tree.copy.owner && !cli_flag(c, "no-owner");
    list_init(&g.waiting);
    for (size_t i = 0; cli_terminal_is_one(c->terminal) && !c->quiet && i < last; i++) {
        measure_source(&g, c->argument[i]);
    }
    get_sources(&g, to, into);
    return cli_tree_end(&g.tree);
}

int cli_run_cat(struct cli *c)
{
    int status = cli_connect(c);
    return status != 0 ? status : cli_get_to_standard_output(c, c->argument_count);
}
