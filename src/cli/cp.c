/* cli/cp.c -- see cp_priv.h: names, directories, the command. */
#include "cli/cp_priv.h"

#include "base/mem.h"
#include "cli/change_priv.h"
#include "cli/tables_priv.h"

#include <string.h>

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

static void free_item(struct tree_item *base)
{
    mem_free(container_of(base, struct cp_item, base));
}

/* ---- What is there already ---- */

/* Nothing, and the item has a temporary name; else it has failed. */
static void decide(struct cp_item *i, const struct opendfs_op *op)
{
    struct tree_item *base = &i->base;
    if (op->result < 0 && op->result != -ENOENT) {
        cli_tree_item_fail_op(base, op);
    } else if (op->result == 0 && op->stat.ino == base->source) {
        cli_tree_item_failed(base);
        cli_fail(base->tree->c, "%s and %s are the same", base->local, base->path);
    } else if (op->result == 0 && (i->p->no_replace || op->stat.type == OPENDFS_TYPE_DIRECTORY)) {
        cli_tree_item_fail(base, base->path, i->p->no_replace ? -EEXIST : -EISDIR);
    } else {
        (void)cli_into_use_temporary(base);
    }
}

static void looked(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, base.job);
    decide(i, &j->op);
    i->again(i);
}

void cli_cp_item_is_there(struct cp_item *i, void (*again)(struct cp_item *i))
{
    struct tree_item *base = &i->base;
    struct cli *c = base->tree->c;
    if (base->temporary[0] != 0) { /* random names do not meet */
        cli_tree_item_fail(base, base->path, -EEXIST);
        again(i);
        return;
    }
    i->again = again;
    cli_job_prepare(c, &base->job, looked);
    base->job.op.at = base->dir->ino;
    opendfs_async_lstat(c->fs, &base->job.op, cli_into_final_name(base));
}

/* ---- Names that are no files ---- */

static void start_other(struct cp_item *i);

static void other_made(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, base.job);
    if (j->op.result == -EEXIST) {
        cli_cp_item_is_there(i, start_other);
        return;
    }
    if (j->op.result < 0) {
        cli_tree_item_fail_op(&i->base, &j->op);
    }
    cli_into_finish(&i->base);
}

static void start_other(struct cp_item *i)
{
    if (i->base.failed) {
        cli_tree_item_end(&i->base);
        return;
    }
    cli_into_make(&i->base, i->target, other_made);
}

static void target_known(struct cli_job *j)
{
    struct cp_item *i = container_of(j, struct cp_item, base.job);
    if (j->op.result < 0) {
        cli_tree_item_fail_source(&i->base, &j->op);
    }
    start_other(i);
}

/* ---- The walk ---- */

static void start_item(struct tree_item *base)
{
    struct cp_item *i = container_of(base, struct cp_item, base);
    struct cli *c = base->tree->c;
    if (base->type == OPENDFS_TYPE_DIRECTORY) {
        cli_into_make_dir(base);
    } else if (base->type == OPENDFS_TYPE_FILE && !base->second) {
        cli_cp_file_start(i);
    } else if (base->type == OPENDFS_TYPE_SYMLINK && !base->second) {
        cli_job_prepare(c, &base->job, target_known);
        opendfs_async_readlink(c->fs, &base->job.op, base->local, i->target, sizeof i->target);
    } else {
        start_other(i);
    }
}

/* `name` below `d`, a copy of `source` (taken over). */
static void begin_item(struct tree_dir *d, char *source, const char *name,
                       const struct opendfs_stat *st)
{
    struct cp *p = container_of(d->tree, struct cp, tree);
    struct cp_item *i = mem_zalloc(sizeof *i);
    if (!cli_into_init(i == NULL ? NULL : &i->base, d, source, name) || i == NULL) {
        mem_free(i);
        return;
    }
    struct tree_item *base = &i->base;
    i->p = p;
    base->follow = !p->recursive;
    base->type = st->type;
    base->source = st->ino;
    base->mask = cli_cp_values(p, st, &base->values);
    bool linked = st->nlink > 1 && st->type != OPENDFS_TYPE_DIRECTORY;
    cli_tree_item_begin(
        base, linked ? cli_tree_item_link(base, 0, st->ino, st->size_bytes, base->path) : 0);
}

static void begin(struct tree_dir *d, const char *name, const struct opendfs_stat *st)
{
    begin_item(d, cli_join(d->local, name), name, st);
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

static void copy_source(struct tree_dir *top, const char *argument, const char *name)
{
    struct tree *t = top->tree;
    struct cli *c = t->c;
    bool recursive = container_of(t, struct cp, tree)->recursive;
    CLEANUP(mem_freep) char *source = cli_path(c, argument);
    struct opendfs_stat st;
    if (source == NULL) {
        t->copy.status = CLI_EXIT_USAGE;
        return;
    }
    int rc = recursive ? opendfs_lstat(c->fs, source, &st) : opendfs_stat(c->fs, source, &st);
    const char *base = name == NULL ? cli_copy_base_name(source) : name;
    if (rc < 0) {
        cli_fail_op(c, NULL);
    } else if (st.type == OPENDFS_TYPE_DIRECTORY && !recursive) {
        cli_fail(c, "%s: is a directory (-r copies it with all that is in it)", source);
    } else if (base[0] == 0) {
        cli_fail(c, "%s: has no name that could be made in %s", source, top->path);
    } else {
        int below = st.type == OPENDFS_TYPE_DIRECTORY ? is_below(c, top->path, st.ino) : 0;
        if (below == 0) {
            begin_item(top, mem_strdup(source), base, &st);
            return;
        }
        if (below > 0) {
            cli_fail(c, "%s cannot be copied into itself, to %s/%s", source,
                     strcmp(top->path, "/") == 0 ? "" : top->path, base);
        }
    }
    t->copy.failed++;
}

static void copy_sources(struct cp *p, const struct copy_destination *to)
{
    struct cli *c = p->tree.c;
    struct tree_dir *top =
        cli_tree_dir_new(&p->tree, NULL, mem_strdup(to->path), mem_strdup(to->path));
    if (top == NULL) {
        cli_copy_fail(&p->tree.copy, to->path, -ENOMEM);
        return;
    }
    top->top = true;
    top->ino = to->ino;
    for (size_t i = 0; i + 1 < c->argument_count && p->tree.copy.status == 0; i++) {
        copy_source(top, c->argument[i], to->name);
    }
    cli_tree_unpend(top);
    cli_tree_run(&p->tree);
}

static void measure(struct tree *t, const char *path, struct list *stack)
{
    (void)t;
    (void)path;
    (void)stack; /* without a total the progress shows what was done */
}

static const struct tree_ops cp_ops = {.walk = cli_tree_walk_pages,
                                       .begin = begin,
                                       .start = start_item,
                                       .free_item = free_item,
                                       .finish_dir = cli_into_finish_dir,
                                       .measure = measure,
                                       .begin_piece = cli_pieces_read,
                                       .store = cli_cp_file_store,
                                       .all_pieces = cli_cp_file_all_pieces,
                                       .file_made = cli_cp_file_made};

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
        p.tree.keep_found = !p.preserve;
        p.tree.xattrs = cli_flag(c, "xattrs");
        copy_sources(&p, &to);
        status = cli_tree_end(&p.tree);
    }
    cli_copy_destination_fini(&to);
    return status;
}
