/* cli/put.c -- see put_priv.h. */
#include "cli/put_priv.h"

#include "base/mem.h"

#include <string.h>
#include <sys/stat.h>

#define LOCAL_PATH_STANDARD "-"
#define TARGET_SIZE 4096u

/* ---- Items ---- */

const char *cli_put_item_name(const struct put_item *i)
{
    return i->temporary[0] == 0 ? i->name : i->temporary;
}

static void free_item(struct tree_item *base, bool good)
{
    (void)good; /* what is incomplete in the cluster was removed there */
    struct put_item *i = container_of(base, struct put_item, base);
    CHECK(i->pieces == 0 && i->file == NULL);
    (void)disk_local_close(i->source);
    mem_free(i->small);
    mem_free(i->target);
    mem_free(i);
}

/* What is to be set in the cluster; returns which of it. */
static unsigned values_of(const struct put *p, const struct disk_local_attr *a,
                          struct opendfs_stat *ret)
{
    *ret = (struct opendfs_stat){.type = (a->mode & S_IFMT) >> 12, /* DT_... */
                                 .mode = a->mode & 07777u,
                                 .uid = a->uid,
                                 .gid = a->gid,
                                 .rdev = a->rdev,
                                 .atime_ns = a->atime_ns,
                                 .mtime_ns = a->mtime_ns};
    unsigned owner = p->tree.copy.owner ? OPENDFS_SET_UID | OPENDFS_SET_GID : 0;
    return OPENDFS_SET_MODE | OPENDFS_SET_ATIME | OPENDFS_SET_MTIME | owner;
}

bool cli_put_item_use_temporary(struct put_item *i)
{
    if (i->temporary[0] != 0) {
        return false;
    }
    cli_copy_temporary_name(&i->p->tree.copy, i->temporary);
    return true;
}

static void discarded(struct cli_job *j)
{
    cli_tree_item_end(&container_of(j, struct put_item, job)->base, false);
}

static void renamed(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result >= 0) {
        cli_tree_item_end(&i->base, true);
        return;
    }
    cli_tree_item_fail(&i->base, &j->op, 0);
    cli_job_prepare(i->p->tree.c, &i->job, discarded);
    i->job.op.at = i->parent;
    opendfs_async_unlink(i->p->tree.c->fs, &i->job.op, i->temporary);
}

void cli_put_item_finish(struct put_item *i)
{
    if (i->temporary[0] == 0) {
        cli_tree_item_end(&i->base, true);
        return;
    }
    cli_job_prepare(i->p->tree.c, &i->job, renamed);
    i->job.op.at = i->parent;
    opendfs_async_rename(i->p->tree.c->fs, &i->job.op, i->temporary, i->name, 0);
}

/* ---- Names that are no files ---- */

static void start_other(struct put_item *i);

static void other_made(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result == -EEXIST && cli_put_item_use_temporary(i)) {
        start_other(i);
    } else if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
    } else {
        cli_put_item_finish(i);
    }
}

static void start_other(struct put_item *i)
{
    struct opendfs *fs = i->p->tree.c->fs;
    cli_job_prepare(i->p->tree.c, &i->job, other_made);
    i->job.op.at = i->parent;
    if (i->base.second) {
        opendfs_async_link(fs, &i->job.op, i->base.link->first, cli_put_item_name(i));
    } else if (S_ISLNK(i->attr.mode)) {
        opendfs_async_symlink(fs, &i->job.op, i->target, cli_put_item_name(i), &i->values, i->mask);
    } else {
        opendfs_async_make_node(fs, &i->job.op, cli_put_item_name(i), &i->values, i->mask);
    }
}

static int read_target(struct put_item *i)
{
    char target[TARGET_SIZE];
    int64_t n = disk_local_readlink(i->base.local, target, sizeof target);
    if (n < 0) {
        return (int)n;
    }
    i->target = mem_strdup(target);
    return i->target == NULL ? -ENOMEM : 0;
}

/* ---- Directories ---- */

/* Takes both texts over, NULL is no memory. */
static struct put_dir *dir_new(struct put *p, struct tree_dir *parent, char *local, char *path)
{
    struct put_dir *d = local == NULL || path == NULL ? NULL : mem_zalloc(sizeof *d);
    if (d == NULL) {
        mem_free(local);
        mem_free(path);
        return NULL;
    }
    cli_tree_dir_init(&d->base, parent, local, path);
    d->p = p;
    return d;
}

static struct tree_dir *dir_free(struct put_dir *d)
{
    struct tree_dir *parent = cli_tree_dir_fini(&d->base);
    mem_free(d->names);
    mem_free(d);
    return parent;
}

static void dir_set(struct cli_job *j)
{
    struct put_dir *d = container_of(j, struct put_dir, job);
    struct tree *t = &d->p->tree;
    if (j->op.result < 0) {
        cli_copy_fail_op(&t->copy, d->base.path, &j->op);
    } else {
        t->copy.directories++;
    }
    t->running--;
    cli_tree_unpend(t, dir_free(d));
    loop_stop(t->c->loop, 0);
}

static struct tree_dir *finish_dir(struct tree *t, struct tree_dir *base)
{
    struct put_dir *d = container_of(base, struct put_dir, base);
    if (base->top) {
        return dir_free(d);
    }
    unsigned mask = values_of(d->p, &d->attr, &d->values);
    cli_job_prepare(t->c, &d->job, dir_set);
    t->running++;
    opendfs_async_setattr_ino(t->c->fs, &d->job.op, d->ino, &d->values, mask);
    return NULL;
}

/* The item has made or found its directory, which is walked now. */
static void dir_enter(struct put_item *i, uint64_t ino)
{
    struct put *p = i->p;
    struct put_dir *d =
        dir_new(p, i->base.dir, mem_strdup(i->base.local), mem_strdup(i->base.path));
    if (d == NULL) {
        cli_tree_item_fail(&i->base, NULL, -ENOMEM);
        cli_tree_item_end(&i->base, false);
        return;
    }
    d->attr = i->attr;
    d->ino = ino;
    cli_tree_dir_ready(&p->tree, &d->base);
    cli_tree_item_end(&i->base, true);
}

static void dir_looked_at(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
    } else if (j->op.stat.type != OPENDFS_TYPE_DIRECTORY) {
        cli_copy_fail(&i->p->tree.copy, i->base.path, -ENOTDIR);
        cli_tree_item_end(&i->base, false);
    } else {
        dir_enter(i, j->op.stat.ino);
    }
}

static void dir_made(struct cli_job *j)
{
    struct put_item *i = container_of(j, struct put_item, job);
    if (j->op.result == -EEXIST) {
        cli_job_prepare(i->p->tree.c, &i->job, dir_looked_at);
        i->job.op.at = i->parent;
        opendfs_async_stat(i->p->tree.c->fs, &i->job.op, i->name);
    } else if (j->op.result < 0) {
        cli_tree_item_fail(&i->base, &j->op, 0);
        cli_tree_item_end(&i->base, false);
    } else {
        dir_enter(i, j->op.stat.ino);
    }
}

/* ---- The walk ---- */

static void start_item(struct tree_item *base)
{
    struct put_item *i = container_of(base, struct put_item, base);
    if (S_ISDIR(i->attr.mode)) {
        struct cli *c = base->tree->c;
        cli_job_prepare(c, &i->job, dir_made);
        i->job.op.at = i->parent;
        opendfs_async_mkdir(c->fs, &i->job.op, i->name, 0700);
    } else if (S_ISREG(i->attr.mode) && !i->base.second) {
        cli_put_file_start(i);
    } else {
        start_other(i);
    }
}

/* Fills in what the local file tells. 0, or an error that is the file's. */
static int look_at(struct put_item *i)
{
    struct tree_item *base = &i->base;
    bool standard = strcmp(base->local, LOCAL_PATH_STANDARD) == 0;
    if (standard) {
        int64_t now_ns = (int64_t)loop_wall_ns(base->tree->c->loop);
        i->attr = (struct disk_local_attr){
            .mode = S_IFREG | 0644, .nlink = 1, .atime_ns = now_ns, .mtime_ns = now_ns};
    }
    int rc = standard ? 0 : disk_local_lstat(base->local, &i->attr);
    if (rc < 0) {
        return rc;
    }
    i->mask = values_of(i->p, &i->attr, &i->values);
    if (standard) { /* nobody's */
        i->mask &= ~(unsigned)(OPENDFS_SET_UID | OPENDFS_SET_GID);
    }
    base->type = i->values.type;
    if (S_ISLNK(i->attr.mode)) {
        rc = read_target(i);
    }
    if (rc == 0 && i->attr.nlink > 1 && !S_ISDIR(i->attr.mode)) {
        rc = cli_tree_item_link(base, i->attr.device, i->attr.ino, i->attr.size_bytes, base->path);
    }
    return rc;
}

/* `name` below `d`, from `local` (taken over). */
static void begin_item(struct put_dir *d, char *local, const char *name)
{
    struct put *p = d->p;
    struct put_item *i = mem_zalloc(sizeof *i);
    char *path = cli_join(d->base.path, name);
    if (i == NULL || local == NULL || path == NULL) {
        cli_copy_fail(&p->tree.copy, d->base.local, -ENOMEM);
        mem_free(local);
        mem_free(path);
        mem_free(i);
        return;
    }
    cli_tree_item_init(&i->base, &p->tree, &d->base, local, path);
    i->p = p;
    i->parent = d->ino;
    i->name = strrchr(path, '/') + 1;
    cli_tree_item_begin(&i->base, look_at(i));
}

static void walk(struct tree *t, struct tree_dir *base)
{
    struct put_dir *d = container_of(base, struct put_dir, base);
    if (d->names == NULL) {
        int rc = disk_local_list(base->local, &d->names);
        if (rc < 0) {
            cli_copy_fail(&t->copy, base->local, rc);
        }
    }
    if (d->names == NULL || d->next == d->names->count) {
        list_remove(&base->node);
        cli_tree_unpend(t, base);
        return;
    }
    const char *name = d->names->name[d->next++];
    begin_item(d, cli_join(base->local, name), name);
}

/* ---- The command ---- */

static void measure(struct tree *t, const char *path, struct list *stack)
{
    struct disk_local_attr a;
    CLEANUP(mem_freep) struct disk_names *names = NULL;
    bool known = disk_local_lstat(path, &a) == 0;
    if (known && S_ISREG(a.mode)) {
        t->copy.bytes_total += a.size_bytes;
        t->copy.files_total++;
    } else if (known && S_ISDIR(a.mode) && disk_local_list(path, &names) == 0) {
        for (size_t i = 0; i < names->count; i++) {
            cli_tree_push(stack, cli_join(path, names->name[i]));
        }
    }
}

/* A source without a name of its own ("." or "/"): what is in it goes into the destination. */
static void put_contents(struct put_dir *top, const char *source)
{
    struct tree *t = &top->p->tree;
    struct disk_local_attr a;
    struct put_dir *d = NULL;
    int rc = disk_local_stat(source, &a);
    rc = rc == 0 && !S_ISDIR(a.mode) ? -ENOTDIR : rc;
    if (rc == 0) {
        d = dir_new(top->p, &top->base, mem_strdup(source), mem_strdup(top->base.path));
    }
    if (d == NULL) {
        cli_copy_fail(&t->copy, source, rc < 0 ? rc : -ENOMEM);
        return;
    }
    d->attr = a;
    d->ino = top->ino;
    cli_tree_dir_ready(t, &d->base);
}

/* Under `name`, or under its own (NULL). */
static void put_source(struct put_dir *top, const char *source, const char *name)
{
    struct tree *t = &top->p->tree;
    CLEANUP(mem_freep) char *clean = mem_strdup(source);
    if (clean == NULL) {
        cli_copy_fail(&t->copy, source, -ENOMEM);
        return;
    }
    for (size_t n = strlen(clean); n > 1 && clean[n - 1] == '/'; n--) {
        clean[n - 1] = 0;
    }
    const char *base = cli_copy_base_name(clean);
    if (name != NULL) {
        begin_item(top, mem_strdup(clean), name);
    } else if (base[0] == 0) {
        put_contents(top, source);
    } else if (strcmp(source, LOCAL_PATH_STANDARD) == 0) {
        t->copy.failed++;
        cli_fail(t->c, "-: standard input needs a name: %s is a directory", top->base.path);
    } else {
        begin_item(top, mem_strdup(clean), base);
    }
}

static void put_sources(struct put *p, const struct copy_destination *to)
{
    struct cli *c = p->tree.c;
    struct put_dir *top = dir_new(p, NULL, mem_strdup(""), mem_strdup(to->path));
    if (top == NULL) {
        cli_copy_fail(&p->tree.copy, to->path, -ENOMEM);
        return;
    }
    top->base.top = true;
    top->ino = to->ino;
    for (size_t i = 0; i + 1 < c->argument_count; i++) {
        put_source(top, c->argument[i], to->name);
    }
    cli_tree_unpend(&p->tree, &top->base);
    cli_tree_run(&p->tree);
}

static const struct tree_ops put_ops = {.walk = walk,
                                        .start = start_item,
                                        .free_item = free_item,
                                        .finish_dir = finish_dir,
                                        .measure = measure};

int cli_run_put(struct cli *c)
{
    struct put p = {.buffered_bytes = 0};
    struct copy_destination to = {0};
    int status = cli_connect(c);
    status = status != 0 ? status : cli_copy_find_destination(c, c->argument_count > 2, &to);
    if (status == 0) {
        cli_tree_begin(&p.tree, c, "put", &put_ops);
        p.tree.copy.owner = p.tree.copy.owner && !cli_flag(c, "no-owner");
        list_init(&p.starved);
        list_init(&p.buffers);
        for (size_t i = 0;
             cli_terminal_is_one(c->terminal) && !c->quiet && i + 1 < c->argument_count; i++) {
            cli_tree_measure(&p.tree, c->argument[i]);
        }
        put_sources(&p, &to);
        cli_put_buffers_free(&p);
        status = cli_tree_end(&p.tree);
    }
    cli_copy_destination_fini(&to);
    return status;
}
