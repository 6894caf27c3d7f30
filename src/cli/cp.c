/* cli/cp.c -- see cp_priv.h: names, directories, the command. */
#include "cli/cp_priv.h"

#include "base/mem.h"
#include "cli/change_priv.h"
#include "cli/tables_priv.h"

#include <string.h>

#define NAME_LIMIT 255u
#define DEPTH_LIMIT 2048u

unsigned cli_cp_values(const struct cp *p, const struct opendfs_stat *st, struct opendfs_stat *ret)
{
    *ret = *st;
    if (p->preserve) {
        unsigned owner = p->tree.copy.owner ? OPENDFS_SET_UID | OPENDFS_SET_GID : 0;
        return OPENDFS_SET_MODE | OPENDFS_SET_ATIME | OPENDFS_SET_MTIME | owner;
    }
    ret->mode = st->mode & 0777 & ~p->umask;
    return OPENDFS_SET_MODE;
}

const char *cli_cp_item_name(const struct cp_item *i)
{
    return i->temporary[0] == 0 ? i->name : i->temporary;
}

static void free_item(struct tree_item *base, bool good)
{
    (void)good; /* what is incomplete was removed */
    struct cp_item *i = container_of(base, struct cp_item, base);
    CHECK(i->pieces == 0 && i->in == NULL && i->out == NULL);
    mem_free(i);
}

void cli_cp_fail_source(struct cp_item *i, const struct opendfs_op *op)
{
    i->base.tree->copy.failed++;
    cli_fail_at(i->base.tree->c, i->base.local, op);
}

static void end_failed(struct cp_item *i, const struct opendfs_op *op)
{
    cli_tree_item_fail(&i->base, op, 0);
    cli_tree_item_end(&i->base, false);
}

/* ---- Ends ---- */

static void discarded(struct cli_job *j)
{
    cli_tree_item_end(&container_of(j, struct cp_item, job)->base, false);
}

static void renamed(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    struct cli *c = i->p->tree.c;
    if (j->op.result >= 0) {
        cli_tree_item_end(&i->base, true);
        return;
    }
    cli_tree_item_fail(&i->base, &j->op, 0);
    cli_job_prepare(c, &i->job, discarded);
    i->job.op.at = i->parent;
    opendfs_async_unlink(c->fs, &i->job.op, i->temporary);
}

void cli_cp_item_finish(struct cp_item *i)
{
    if (i->temporary[0] == 0) {
        cli_tree_item_end(&i->base, true);
        return;
    }
    cli_job_prepare(i->p->tree.c, &i->job, renamed);
    i->job.op.at = i->parent;
    opendfs_async_rename(i->p->tree.c->fs, &i->job.op, i->temporary, i->name, 0);
}

/* ---- What is there already ---- */

struct is_there {
    struct cli_job job;
    struct cp_item *item;
    void (*again)(struct cp_item *i);
};

/* Nothing, and the item has a temporary name; else it has failed. */
static void decide(struct cp_item *i, const struct opendfs_op *op)
{
    struct tree *t = &i->p->tree;
    i->failed = true;
    if (op->result < 0 && op->result != -ENOENT) {
        cli_tree_item_fail(&i->base, op, 0);
    } else if (op->result == 0 && op->stat.ino == i->stat.ino) {
        t->copy.failed++;
        cli_fail(t->c, "%s and %s are the same", i->base.local, i->base.path);
    } else if (op->result == 0 && (i->p->no_replace || op->stat.type == OPENDFS_TYPE_DIRECTORY)) {
        cli_copy_fail(&t->copy, i->base.path, i->p->no_replace ? -EEXIST : -EISDIR);
    } else {
        i->failed = false;
        cli_copy_temporary_name(&t->copy, i->temporary);
    }
}

static void looked(struct cli_job *j)
{
    struct is_there *x = container_of(j, struct is_there, job);
    decide(x->item, &j->op);
    x->again(x->item);
    mem_free(x);
}

void cli_cp_item_is_there(struct cp_item *i, void (*again)(struct cp_item *i))
{
    struct is_there *x = mem_zalloc(sizeof *x);
    if (x == NULL || i->temporary[0] != 0) { /* random names do not meet */
        cli_copy_fail(&i->p->tree.copy, i->base.path, x == NULL ? -ENOMEM : -EEXIST);
        mem_free(x);
        i->failed = true;
        again(i);
        return;
    }
    x->item = i;
    x->again = again;
    cli_job_prepare(i->p->tree.c, &x->job, looked);
    x->job.op.at = i->parent;
    opendfs_async_lstat(i->p->tree.c->fs, &x->job.op, i->name);
}

/* ---- Names that are no files ---- */

static void start_other(struct cp_item *i);

static void other_made(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result == -EEXIST) {
        cli_cp_item_is_there(i, start_other);
    } else if (j->op.result < 0) {
        end_failed(i, &j->op);
    } else {
        cli_cp_item_finish(i);
    }
}

static void start_other(struct cp_item *i)
{
    struct opendfs *fs = i->p->tree.c->fs;
    if (i->failed) {
        cli_tree_item_end(&i->base, false);
        return;
    }
    cli_job_prepare(i->p->tree.c, &i->job, other_made);
    i->job.op.at = i->parent;
    if (i->base.second) {
        opendfs_async_link(fs, &i->job.op, i->base.link->first, cli_cp_item_name(i));
    } else if (i->stat.type == OPENDFS_TYPE_SYMLINK) {
        opendfs_async_symlink(fs, &i->job.op, i->target, cli_cp_item_name(i), &i->values, i->mask);
    } else {
        opendfs_async_make_node(fs, &i->job.op, cli_cp_item_name(i), &i->values, i->mask);
    }
}

static void target_known(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result < 0) {
        cli_cp_fail_source(i, &j->op);
        cli_tree_item_end(&i->base, false);
        return;
    }
    start_other(i);
}

/* ---- Directories ---- */

/* Takes both texts over, NULL is no memory. */
static struct cp_dir *dir_new(struct cp *p, struct tree_dir *parent, char *local, char *path)
{
    struct cp_dir *d = local == NULL || path == NULL ? NULL : mem_zalloc(sizeof *d);
    if (d == NULL) {
        mem_free(local);
        mem_free(path);
        return NULL;
    }
    cli_tree_dir_init(&d->base, parent, local, path);
    d->p = p;
    return d;
}

static struct tree_dir *dir_free(struct cp_dir *d)
{
    struct tree_dir *parent = cli_tree_dir_fini(&d->base);
    mem_free(d);
    return parent;
}

static void dir_set(struct cli_job *j)
{
    struct cp_dir *d = container_of(j, struct cp_dir, job);
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

/* A directory that was there keeps its attributes, unless all are to be those of the source. */
static struct tree_dir *finish_dir(struct tree *t, struct tree_dir *base)
{
    struct cp_dir *d = container_of(base, struct cp_dir, base);
    if (base->top || (d->found && !d->p->preserve)) {
        t->copy.directories += base->top ? 0 : 1;
        return dir_free(d);
    }
    unsigned mask = cli_cp_values(d->p, &d->stat, &d->values);
    cli_job_prepare(t->c, &d->job, dir_set);
    t->running++;
    opendfs_async_setattr_ino(t->c->fs, &d->job.op, d->ino, &d->values, mask);
    return NULL;
}

/* The item has made or found its directory, which is walked now. */
static void dir_enter(struct cp_item *i, uint64_t ino, bool found)
{
    struct cp *p = i->p;
    struct cp_dir *d = dir_new(p, i->base.dir, mem_strdup(i->base.local), mem_strdup(i->base.path));
    if (d == NULL) {
        cli_tree_item_fail(&i->base, NULL, -ENOMEM);
        cli_tree_item_end(&i->base, false);
        return;
    }
    d->stat = i->stat;
    d->ino = ino;
    d->found = found;
    cli_tree_dir_ready(&p->tree, &d->base);
    cli_tree_item_end(&i->base, true);
}

static void dir_looked_at(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    struct tree *t = &i->p->tree;
    if (j->op.result < 0) {
        end_failed(i, &j->op);
    } else if (j->op.stat.type != OPENDFS_TYPE_DIRECTORY) {
        cli_copy_fail(&t->copy, i->base.path, -ENOTDIR);
        cli_tree_item_end(&i->base, false);
    } else if (j->op.stat.ino == i->stat.ino) {
        t->copy.failed++;
        cli_fail(t->c, "%s and %s are the same", i->base.local, i->base.path);
        cli_tree_item_end(&i->base, false);
    } else {
        dir_enter(i, j->op.stat.ino, true);
    }
}

static void dir_made(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, job);
    if (j->op.result == -EEXIST) {
        cli_job_prepare(i->p->tree.c, &i->job, dir_looked_at);
        i->job.op.at = i->parent;
        opendfs_async_lstat(i->p->tree.c->fs, &i->job.op, i->name);
    } else if (j->op.result < 0) {
        end_failed(i, &j->op);
    } else {
        dir_enter(i, j->op.stat.ino, false);
    }
}

/* ---- The walk ---- */

static void start_item(struct tree_item *base)
{
    struct cp_item *i = container_of(base, struct cp_item, base);
    struct cli *c = base->tree->c;
    if (i->stat.type == OPENDFS_TYPE_DIRECTORY) {
        cli_job_prepare(c, &i->job, dir_made);
        i->job.op.at = i->parent;
        opendfs_async_mkdir(c->fs, &i->job.op, i->name, 0700);
    } else if (i->stat.type == OPENDFS_TYPE_FILE && !base->second) {
        cli_cp_file_start(i);
    } else if (i->stat.type == OPENDFS_TYPE_SYMLINK && !base->second) {
        cli_job_prepare(c, &i->job, target_known);
        opendfs_async_readlink(c->fs, &i->job.op, base->local, i->target, sizeof i->target);
    } else {
        start_other(i);
    }
}

/* `name` below `d`, a copy of `source` (taken over). */
static void begin_item(struct cp_dir *d, char *source, const char *name,
                       const struct opendfs_stat *st)
{
    struct cp *p = d->p;
    struct cp_item *i = mem_zalloc(sizeof *i);
    char *path = cli_join(d->base.path, name);
    if (i == NULL || source == NULL || path == NULL) {
        cli_copy_fail(&p->tree.copy, d->base.local, -ENOMEM);
        mem_free(source);
        mem_free(path);
        mem_free(i);
        return;
    }
    cli_tree_item_init(&i->base, &p->tree, &d->base, source, path);
    i->p = p;
    i->parent = d->ino;
    i->name = strrchr(path, '/') + 1;
    i->stat = *st;
    i->base.type = st->type;
    i->follow = !p->recursive;
    i->mask = cli_cp_values(p, st, &i->values);
    bool linked = st->nlink > 1 && st->type != OPENDFS_TYPE_DIRECTORY;
    cli_tree_item_begin(
        &i->base, linked ? cli_tree_item_link(&i->base, 0, st->ino, st->size_bytes, path) : 0);
}

/* A page has come; it stays in d->job.op until all its names were begun. */
static void listed(struct cli_job *j)
{
    struct cp_dir *d = container_of(j, struct cp_dir, job);
    struct tree *t = &d->p->tree;
    t->running--;
    d->next = 0;
    d->at_end = j->op.at_end != 0;
    if (j->op.result < 0) {
        t->copy.failed++;
        cli_fail_at(t->c, d->base.local, &j->op);
        d->at_end = true;
        j->op.entry_count = 0;
    }
    list_push_front(&t->ready, &d->base.node);
    loop_stop(t->c->loop, 0);
}

static void list_more(struct tree *t, struct cp_dir *d)
{
    list_remove(&d->base.node);
    t->running++;
    cli_job_prepare(t->c, &d->job, listed);
    d->job.op.at = d->stat.ino;
    opendfs_async_list(t->c->fs, &d->job.op, NULL, d->after, 0);
}

static void walk_page(struct tree *t, struct cp_dir *d)
{
    const struct opendfs_entry *e = &d->job.op.entries[d->next++];
    begin_item(d, cli_join(d->base.local, e->name), e->name, &e->stat);
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
    struct cp_dir *d = container_of(base, struct cp_dir, base);
    if (base->top) {
        list_remove(&base->node);
        cli_tree_unpend(t, base);
    } else if (d->next < d->job.op.entry_count) {
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

/* Is the directory `path` the one with this number, or below it? ".." is the true parent, whatever
 * links the path goes through. Negative: it could not be found out. */
static int is_below(struct cli *c, const char *path, uint64_t ino)
{
    CLEANUP(mem_freep) char *at = mem_strdup(path);
    uint64_t last = 0;
    for (unsigned depth = 0; depth < DEPTH_LIMIT && at != NULL; depth++) {
        struct cli_wait w;
        opendfs_async_stat(c->fs, cli_wait_begin(c, &w), at);
        if (cli_wait_end(c, &w) < 0) {
            cli_fail_op(c, &w.job.op);
            return -1;
        }
        if (w.job.op.stat.ino == ino) {
            return 1;
        }
        if (w.job.op.stat.ino == last) {
            return 0; /* the root is its own parent */
        }
        last = w.job.op.stat.ino;
        char *up = mem_printf("%s/..", at);
        mem_free(at);
        at = up;
    }
    cli_fail_path(c, path, at == NULL ? -ENOMEM : -ELOOP);
    return -1;
}

static void copy_source(struct cp_dir *top, const char *argument, const char *name)
{
    struct tree *t = &top->p->tree;
    struct cli *c = t->c;
    CLEANUP(mem_freep) char *source = cli_path(c, argument);
    struct opendfs_stat st;
    if (source == NULL) {
        t->copy.status = CLI_EXIT_USAGE;
        return;
    }
    int rc =
        top->p->recursive ? opendfs_lstat(c->fs, source, &st) : opendfs_stat(c->fs, source, &st);
    const char *base = name == NULL ? cli_copy_base_name(source) : name;
    if (rc < 0) {
        cli_fail_op(c, NULL);
    } else if (st.type == OPENDFS_TYPE_DIRECTORY && !top->p->recursive) {
        cli_fail(c, "%s: is a directory (-r copies it with all that is in it)", source);
    } else if (base[0] == 0) {
        cli_fail(c, "%s: has no name that could be made in %s", source, top->base.path);
    } else {
        int below = st.type == OPENDFS_TYPE_DIRECTORY ? is_below(c, top->base.path, st.ino) : 0;
        if (below == 0) {
            begin_item(top, mem_strdup(source), base, &st);
            return;
        }
        if (below > 0) {
            cli_fail(c, "%s cannot be copied into itself, to %s/%s", source,
                     strcmp(top->base.path, "/") == 0 ? "" : top->base.path, base);
        }
    }
    t->copy.failed++;
}

static void copy_sources(struct cp *p, const struct copy_destination *to)
{
    struct cli *c = p->tree.c;
    struct cp_dir *top = dir_new(p, NULL, mem_strdup(to->path), mem_strdup(to->path));
    if (top == NULL) {
        cli_copy_fail(&p->tree.copy, to->path, -ENOMEM);
        return;
    }
    top->base.top = true;
    top->ino = to->ino;
    for (size_t i = 0; i + 1 < c->argument_count && p->tree.copy.status == 0; i++) {
        copy_source(top, c->argument[i], to->name);
    }
    cli_tree_unpend(&p->tree, &top->base);
    cli_tree_run(&p->tree);
}

static void measure(struct tree *t, const char *path, struct list *stack)
{
    (void)t;
    (void)path;
    (void)stack; /* without a total the progress shows what was done */
}

static const struct tree_ops cp_ops = {.walk = walk,
                                       .start = start_item,
                                       .free_item = free_item,
                                       .finish_dir = finish_dir,
                                       .measure = measure};

int cli_run_cp(struct cli *c)
{
    struct cp p = {.recursive = cli_flag(c, "recursive"),
                   .preserve = cli_flag(c, "preserve"),
                   .no_replace = cli_flag(c, "no-replace"),
                   .umask = cli_umask()};
    struct copy_destination to = {0};
    int status = cli_connect(c);
    status = status != 0 ? status : cli_copy_find_destination(c, c->argument_count > 2, &to);
    if (status == 0) {
        cli_tree_begin(&p.tree, c, "cp", &cp_ops);
        list_init(&p.waiting);
        copy_sources(&p, &to);
        status = cli_tree_end(&p.tree);
    }
    cli_copy_destination_fini(&to);
    return status;
}
