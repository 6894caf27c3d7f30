/* cli/tree.c -- see tree_priv.h. */
#include "cli/tree_priv.h"

#include "base/mem.h"
#include "disk/disk.h"
#include "disk/local.h"

#include <string.h>

/* ---- Directories ---- */

struct tree_dir *cli_tree_dir_new(struct tree *t, struct tree_dir *parent, char *local, char *path)
{
    struct tree_dir *d = local == NULL || path == NULL ? NULL : mem_zalloc(sizeof *d);
    if (d == NULL) {
        mem_free(local);
        mem_free(path);
        return NULL;
    }
    *d = (struct tree_dir){.tree = t, .parent = parent, .local = local, .path = path, .pending = 1};
    list_init(&d->node);
    return d;
}

struct tree_dir *cli_tree_dir_free(struct tree_dir *d)
{
    struct tree_dir *parent = d->parent;
    mem_free(d->names);
    mem_free(d->local);
    mem_free(d->path);
    mem_free(d);
    return parent;
}

void cli_tree_dir_ready(struct tree_dir *d)
{
    d->parent->pending++;
    list_push_front(&d->tree->ready, &d->node);
}

struct tree_dir *cli_tree_dir_end(struct tree_dir *d, const struct opendfs_op *op, int rc)
{
    struct copy *p = &d->tree->copy;
    if (op != NULL && op->result < 0) {
        cli_copy_fail_op(p, d->path, op);
    } else if (rc < 0) {
        cli_copy_fail(p, d->local, rc);
    } else if (d->partial) {
        p->failed++;
    } else {
        p->directories++;
    }
    return cli_tree_dir_free(d);
}

void cli_tree_unpend(struct tree_dir *d)
{
    while (d != NULL && --d->pending == 0) {
        d = d->top ? cli_tree_dir_free(d) : d->tree->ops->finish_dir(d);
    }
}

/* ---- Names of a directory ---- */

static void names_over(struct tree_dir *d)
{
    list_remove(&d->node);
    cli_tree_unpend(d);
}

void cli_tree_walk_names(struct tree_dir *d)
{
    struct tree *t = d->tree;
    if (d->names == NULL) {
        int rc = disk_local_list(d->local, &d->names);
        if (rc < 0) {
            cli_copy_fail(&t->copy, d->local, rc);
        }
    }
    if (d->names == NULL || d->next == d->names->count) {
        names_over(d);
    } else {
        t->ops->begin(d, d->names->name[d->next++], NULL);
    }
}

/* A page has come; it stays in d->job.op until all its names were begun. */
static void listed(struct cli_job *j)
{
    struct tree_dir *d = container_of(j, struct tree_dir, job);
    struct tree *t = d->tree;
    t->running--;
    d->next = 0;
    d->at_end = j->op.at_end != 0;
    if (j->op.result < 0) {
        cli_copy_fail_op(&t->copy, t->ops->outward ? d->path : d->local, &j->op);
        d->at_end = true;
        j->op.entry_count = 0;
    }
    list_push_front(&t->ready, &d->node);
    loop_stop(t->c->loop, 0);
}

static void list_more(struct tree_dir *d)
{
    struct tree *t = d->tree;
    list_remove(&d->node);
    t->running++;
    cli_job_prepare(t->c, &d->job, listed);
    d->job.op.at = d->source;
    opendfs_async_list(t->c->fs, &d->job.op, NULL, d->after, 0);
}

static void begin_listed(struct tree_dir *d)
{
    struct tree *t = d->tree;
    const struct opendfs_entry *e = &d->job.op.entries[d->next++];
    t->ops->begin(d, e->name, &e->stat);
    if (d->next == d->job.op.entry_count) {
        size_t len = base_min(e->name_len, TREE_NAME_LIMIT);
        memcpy(d->after, e->name, len);
        d->after[len] = 0;
        opendfs_async_release(t->c->fs, &d->job.op);
        d->job.op.entry_count = 0;
        d->next = 0;
    }
}

void cli_tree_walk_pages(struct tree_dir *d)
{
    if (d->next < d->job.op.entry_count) {
        begin_listed(d);
    } else if (!d->at_end) {
        list_more(d);
    } else {
        opendfs_async_release(d->tree->c->fs, &d->job.op);
        names_over(d);
    }
}

/* ---- Hard links ---- */

static bool link_equal(const struct dict_node *node, const void *key)
{
    const struct tree_link *l = container_of((struct dict_node *)node, struct tree_link, node);
    uint64_t k[2];
    memcpy(k, key, sizeof k);
    return l->device == k[0] && l->ino == k[1];
}

static void link_dropped(struct dict_node *node, void *owner)
{
    (void)owner;
    struct tree_link *l = container_of(node, struct tree_link, node);
    mem_free(l->first);
    mem_free(l);
}

static const struct dict_ops link_ops = {.equal = link_equal, .dropped = link_dropped};

/* It was measured as a file of its own, but nothing of it will be copied. */
static void link_uncount(const struct tree_item *i, uint64_t size_bytes)
{
    struct copy *p = &i->tree->copy;
    if (i->type == OPENDFS_TYPE_FILE) {
        p->bytes_total -= base_min(p->bytes_total, size_bytes);
        p->files_total -= base_min(p->files_total, 1);
    }
}

int cli_tree_item_link(struct tree_item *i, uint64_t device, uint64_t ino, uint64_t size_bytes,
                       const char *first)
{
    struct dict *links = &i->tree->links;
    uint64_t key[2] = {device, ino};
    uint64_t hash = dict_hash(links, key, sizeof key);
    struct dict_node *n = dict_find(links, hash, key);
    if (n != NULL) {
        i->link = container_of(n, struct tree_link, node);
        i->second = true;
        link_uncount(i, size_bytes);
        return 0;
    }
    struct tree_link *l = mem_zalloc(sizeof *l);
    if (l == NULL) {
        return -ENOMEM;
    }
    l->device = device;
    l->ino = ino;
    l->first = mem_strdup(first);
    if (l->first == NULL || dict_insert(links, hash, &l->node) < 0) {
        mem_free(l->first);
        mem_free(l);
        return -ENOMEM;
    }
    i->link = l;
    return 0;
}

/* ---- Items ---- */

void cli_tree_item_init(struct tree_item *i, struct tree_dir *d, char *local, char *path)
{
    *i = (struct tree_item){.tree = d->tree, .dir = d, .local = local, .path = path};
    list_init(&i->node);
    d->pending++;
    d->tree->running++;
}

void cli_tree_item_begin(struct tree_item *i, int rc)
{
    struct tree *t = i->tree;
    if (rc < 0) {
        cli_tree_item_fail(i, i->local, rc);
        cli_tree_item_end(i);
    } else if (i->second) {
        t->running--;
        list_push_back(&t->late, &i->node);
    } else {
        t->ops->start(i);
    }
}

void cli_tree_item_failed(struct tree_item *i)
{
    i->tree->copy.failed += i->failed ? 0 : 1;
    i->failed = true;
}

void cli_tree_item_fail(struct tree_item *i, const char *path, int64_t rc)
{
    if (!i->failed) {
        i->failed = true;
        cli_copy_fail(&i->tree->copy, path, rc);
    }
}

static void fail_at(struct tree_item *i, const char *path, const struct opendfs_op *op)
{
    if (!i->failed) {
        i->failed = true;
        cli_copy_fail_op(&i->tree->copy, path, op);
    }
}

void cli_tree_item_fail_op(struct tree_item *i, const struct opendfs_op *op)
{
    fail_at(i, i->path, op);
}

void cli_tree_item_fail_source(struct tree_item *i, const struct opendfs_op *op)
{
    fail_at(i, i->tree->ops->outward ? i->path : i->local, op);
}

void cli_tree_item_end(struct tree_item *i)
{
    struct tree *t = i->tree;
    struct tree_dir *d = i->dir;
    CHECK(i->pieces == 0 && i->in == NULL && i->out == NULL);
    if (i->link != NULL && !i->second) {
        i->link->good = !i->failed;
    }
    if (i->partial && !i->failed) {
        t->copy.failed++;
    } else if (!i->failed && i->second) {
        t->copy.links++;
    } else if (!i->failed && i->type == OPENDFS_TYPE_FILE) {
        t->copy.files++;
    } else if (!i->failed && i->type != OPENDFS_TYPE_DIRECTORY) {
        t->copy.others++;
    }
    mem_free(i->local);
    mem_free(i->path);
    t->ops->free_item(i);
    t->running--;
    cli_tree_unpend(d);
    loop_stop(t->c->loop, 0); /* cli_tree_run() looks again */
}

/* ---- The walk ---- */

static bool walk_on(struct tree *t)
{
    if (list_empty(&t->ready)) {
        return false;
    }
    t->ops->walk(container_of(t->ready.next, struct tree_dir, node));
    return true;
}

static void begin_late(struct tree *t)
{
    while (!list_empty(&t->late) && t->running < COPY_PARALLEL) {
        struct tree_item *i = container_of(list_pop_front(&t->late), struct tree_item, node);
        t->running++;
        if (i->link->good) {
            t->ops->start(i);
        } else {
            cli_tree_item_failed(i);
            cli_fail(t->c, "%s: its first name %s could not be copied", i->path, i->link->first);
            cli_tree_item_end(i);
        }
    }
}

void cli_tree_run(struct tree *t)
{
    for (;;) {
        while (t->running < COPY_PARALLEL && walk_on(t)) {
        }
        if (t->running > 0) {
            loop_run(t->c->loop);
        } else if (!list_empty(&t->late)) {
            begin_late(t);
        } else if (list_empty(&t->ready)) {
            return;
        }
    }
}

void cli_tree_begin(struct tree *t, struct cli *c, const char *what, const struct tree_ops *ops)
{
    *t = (struct tree){.ops = ops, .c = c};
    cli_copy_begin(&t->copy, c, what);
    list_init(&t->ready);
    list_init(&t->late);
    list_init(&t->waiting);
    dict_init(&t->links, &link_ops, NULL, loop_random(c->loop));
}

int cli_tree_end(struct tree *t)
{
    dict_fini(&t->links);
    return cli_copy_end(&t->copy);
}

/* ---- Totals ---- */

struct tree_path {
    struct list node;
    char *path;
};

void cli_tree_push(struct list *stack, char *path)
{
    struct tree_path *p = path == NULL ? NULL : mem_alloc(sizeof *p);
    if (p == NULL) {
        mem_free(path);
        return;
    }
    p->path = path;
    list_push_front(stack, &p->node);
}

void cli_tree_measure(struct tree *t, const char *path)
{
    struct list stack;
    list_init(&stack);
    cli_tree_push(&stack, mem_strdup(path));
    for (struct list *n; (n = list_pop_front(&stack)) != NULL;) {
        struct tree_path *p = container_of(n, struct tree_path, node);
        t->ops->measure(t, p->path, &stack);
        mem_free(p->path);
        mem_free(p);
    }
}
