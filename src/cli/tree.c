/* cli/tree.c -- see tree_priv.h. */
#include "cli/tree_priv.h"

#include "base/mem.h"

#include <string.h>

/* ---- Directories ---- */

void cli_tree_dir_init(struct tree_dir *d, struct tree_dir *parent, char *local, char *path)
{
    *d = (struct tree_dir){.parent = parent, .local = local, .path = path, .pending = 1};
    list_init(&d->node);
}

struct tree_dir *cli_tree_dir_fini(struct tree_dir *d)
{
    mem_free(d->local);
    mem_free(d->path);
    return d->parent;
}

void cli_tree_dir_ready(struct tree *t, struct tree_dir *d)
{
    d->parent->pending++;
    list_push_front(&t->ready, &d->node);
}

void cli_tree_unpend(struct tree *t, struct tree_dir *d)
{
    while (d != NULL && --d->pending == 0) {
        d = t->ops->finish_dir(t, d);
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

void cli_tree_item_init(struct tree_item *i, struct tree *t, struct tree_dir *d, char *local,
                        char *path)
{
    *i = (struct tree_item){.tree = t, .dir = d, .local = local, .path = path};
    list_init(&i->node);
    d->pending++;
    t->running++;
}

void cli_tree_item_begin(struct tree_item *i, int rc)
{
    struct tree *t = i->tree;
    if (rc < 0) {
        cli_tree_item_fail(i, NULL, rc);
        cli_tree_item_end(i, false);
    } else if (i->second) {
        t->running--;
        list_push_back(&t->late, &i->node);
    } else {
        t->ops->start(i);
    }
}

void cli_tree_item_fail(struct tree_item *i, const struct opendfs_op *op, int64_t rc)
{
    if (op != NULL) {
        cli_copy_fail_op(&i->tree->copy, i->path, op);
    } else {
        cli_copy_fail(&i->tree->copy, i->local, rc);
    }
}

void cli_tree_item_end(struct tree_item *i, bool good)
{
    struct tree *t = i->tree;
    struct tree_dir *d = i->dir;
    if (i->link != NULL && !i->second) {
        i->link->good = good;
    }
    if (good && i->second) {
        t->copy.links++;
    } else if (good && i->type == OPENDFS_TYPE_FILE) {
        t->copy.files++;
    } else if (good && i->type != OPENDFS_TYPE_DIRECTORY) {
        t->copy.others++;
    }
    mem_free(i->local);
    mem_free(i->path);
    t->ops->free_item(i, good);
    t->running--;
    cli_tree_unpend(t, d);
    loop_stop(t->c->loop, 0); /* cli_tree_run() looks again */
}

/* ---- The walk ---- */

static bool walk_on(struct tree *t)
{
    if (list_empty(&t->ready)) {
        return false;
    }
    t->ops->walk(t, container_of(t->ready.next, struct tree_dir, node));
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
            t->copy.failed++;
            cli_fail(t->c, "%s: its first name %s could not be copied", i->path, i->link->first);
            cli_tree_item_end(i, false);
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
