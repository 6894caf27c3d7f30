/* cli/walk.c -- see walk_priv.h. A chain of directories from the first to the current one instead
 * of recursion; each knows those below that its current page has named. */
#include "cli/walk_priv.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define NAME_LIMIT 255u

struct walk_dir {
    struct list node, child; /* in walk->waiting; in parent->children */
    struct list children;    /* of the current page, in order */
    struct walk *w;
    struct walk_dir *parent;
    char *path;
    struct opendfs_stat stat;
    unsigned depth;
    bool last;
    struct cli_job job; /* the page */
    bool asked, here, opened;
    bool ahead;         /* asked before it was visited */
    size_t next, count; /* entries of the page that are gone through, that count */
    char after[NAME_LIMIT + 1];
};

void cli_walk_wait(struct walk *w, size_t limit)
{
    while (w->running >= limit) {
        loop_run(w->c->loop);
    }
}

/* Takes `path` over. */
static struct walk_dir *dir_new(struct walk *w, struct walk_dir *parent, char *path,
                                const struct opendfs_stat *st)
{
    struct walk_dir *d = path == NULL ? NULL : mem_zalloc(sizeof *d);
    if (d == NULL) {
        mem_free(path);
        return NULL;
    }
    *d = (struct walk_dir){.w = w, .parent = parent, .path = path, .stat = *st};
    d->depth = parent == NULL ? 0 : parent->depth + 1;
    list_init(&d->node);
    list_init(&d->child);
    list_init(&d->children);
    return d;
}

static void dir_end(struct walk_dir *d)
{
    struct walk *w = d->w;
    while (d->asked && !d->here) {
        loop_run(w->c->loop);
    }
    w->pages -= d->asked ? 1 : 0;
    opendfs_async_release(w->c->fs, &d->job.op);
    list_remove(&d->node);
    list_remove(&d->child);
    mem_free(d->path);
    mem_free(d);
}

/* With those below that were not gone through. The parent. */
static struct walk_dir *dir_free(struct walk_dir *d)
{
    struct walk_dir *parent = d->parent;
    while (!list_empty(&d->children)) {
        dir_end(container_of(d->children.next, struct walk_dir, child));
    }
    dir_end(d);
    return parent;
}

static void listed(struct cli_job *j)
{
    struct walk_dir *d = container_of(j, struct walk_dir, job);
    d->here = true;
    loop_stop(d->w->c->loop, 0);
}

static void ask(struct walk_dir *d)
{
    struct walk *w = d->w;
    list_remove(&d->node);
    d->asked = true;
    w->pages++;
    cli_job_prepare(w->c, &d->job, listed);
    d->job.op.at = d->stat.ino;
    opendfs_async_list(w->c->fs, &d->job.op, NULL, d->after, 0);
}

static void read_ahead(struct walk *w)
{
    while (w->pages < WALK_AHEAD && !list_empty(&w->waiting)) {
        struct walk_dir *d = container_of(w->waiting.next, struct walk_dir, node);
        ask(d);
        d->ahead = true;
    }
}

/* The page has come. Its last entry is left to the next page, if there is one: so it is known of
 * each entry whether it is the last. */
static void open_page(struct walk_dir *d)
{
    struct walk *w = d->w;
    const struct opendfs_op *op = &d->job.op;
    struct list below;
    list_init(&below);
    d->opened = true;
    d->next = 0;
    d->count = op->result < 0 ? 0 : op->entry_count;
    if (op->result < 0) {
        w->status = cli_fail_at(w->c, d->path, op);
    } else if (!op->at_end && d->count > 1) {
        d->count--;
    }
    for (size_t i = 0; i < d->count && d->depth + 1 < w->max_depth; i++) {
        const struct opendfs_entry *e = &op->entries[i];
        if (e->stat.type != OPENDFS_TYPE_DIRECTORY) {
            continue;
        }
        struct walk_dir *x = dir_new(w, d, cli_join(d->path, e->name), &e->stat);
        if (x == NULL) {
            w->status = cli_fail_path(w->c, d->path, -ENOMEM);
            continue;
        }
        list_push_back(&d->children, &x->child);
        list_push_back(&below, &x->node);
    }
    list_splice_back(&below, &w->waiting); /* these come before all others */
    list_splice_back(&w->waiting, &below);
}

static void close_page(struct walk_dir *d)
{
    opendfs_async_release(d->w->c->fs, &d->job.op);
    d->w->pages--;
    d->here = d->asked = d->opened = d->ahead = false;
}

/* The page was gone through; the next one, if there is. */
static bool next_page(struct walk_dir *d)
{
    const struct opendfs_op *op = &d->job.op;
    bool more = op->result >= 0 && !op->at_end && d->count > 0;
    if (more) {
        const struct opendfs_entry *e = &op->entries[d->count - 1];
        size_t len = base_min(e->name_len, NAME_LIMIT);
        memcpy(d->after, e->name, len);
        d->after[len] = 0;
    }
    close_page(d);
    return more;
}

/* A child that the page has named, when it was this one. */
static struct walk_dir *child_of(struct walk_dir *d, const struct opendfs_entry *e)
{
    struct walk_dir *x =
        list_empty(&d->children) ? NULL : container_of(d->children.next, struct walk_dir, child);
    return x != NULL && strcmp(strrchr(x->path, '/') + 1, e->name) == 0 ? x : NULL;
}

/* One entry of the page. Where to go on. */
static struct walk_dir *step(struct walk_dir *d)
{
    struct walk *w = d->w;
    const struct opendfs_entry *e = &d->job.op.entries[d->next++];
    CLEANUP(mem_freep) char *path = cli_join(d->path, e->name);
    if (path == NULL) {
        w->status = cli_fail_path(w->c, d->path, -ENOMEM);
        return d;
    }
    bool last = d->next == d->count && d->job.op.at_end;
    struct walk_entry entry = {.path = path,
                               .name = e->name,
                               .stat = &e->stat,
                               .parent = d->stat.ino,
                               .depth = d->depth + 1,
                               .last = last};
    w->visit(w, &entry);
    struct walk_dir *below = e->stat.type == OPENDFS_TYPE_DIRECTORY ? child_of(d, e) : NULL;
    if (below == NULL) {
        if (e->stat.type == OPENDFS_TYPE_DIRECTORY && w->leave != NULL) {
            w->leave(w, &entry); /* too deep to be entered */
        }
        return d;
    }
    below->last = last;
    list_remove(&below->child);
    return below;
}

static void leave(struct walk_dir *d)
{
    if (d->w->leave != NULL) {
        struct walk_entry e = {.path = d->path,
                               .name = strrchr(d->path, '/') + 1,
                               .stat = &d->stat,
                               .parent = d->parent == NULL ? 0 : d->parent->stat.ino,
                               .depth = d->depth,
                               .last = d->last};
        d->w->leave(d->w, &e);
    }
}

/* What cannot be written any more need not be found. */
static bool given_up(void)
{
    return ferror(stdout) != 0;
}

/* One step. Where to go on; NULL: this was all. */
static struct walk_dir *go_on(struct walk_dir *d)
{
    if (!d->asked) {
        ask(d);
    }
    read_ahead(d->w);
    if (!d->here) {
        loop_run(d->w->c->loop);
        return d;
    }
    if (d->ahead && d->job.op.result < 0) {
        close_page(d); /* perhaps its visit has made it readable: again */
        return d;
    }
    if (!d->opened) {
        open_page(d);
    }
    if (given_up()) {
        return dir_free(d);
    }
    if (d->next < d->count) {
        return step(d);
    }
    if (next_page(d)) {
        return d;
    }
    leave(d);
    return dir_free(d);
}

void cli_walk(struct walk *w, const char *path, const struct opendfs_stat *st)
{
    list_init(&w->waiting);
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL || slash[1] == 0 ? path : slash + 1;
    struct walk_entry e = {.path = path, .name = name, .stat = st, .last = true};
    w->visit(w, &e);
    if (st->type != OPENDFS_TYPE_DIRECTORY) {
        return;
    }
    struct walk_dir *top = w->max_depth == 0 ? NULL : dir_new(w, NULL, mem_strdup(path), st);
    for (struct walk_dir *d = top; d != NULL;) {
        d = go_on(d);
    }
    if (top == NULL && w->max_depth > 0) {
        w->status = cli_fail_path(w->c, path, -ENOMEM);
    } else if (top == NULL && w->leave != NULL) {
        w->leave(w, &e);
    }
}
