/*
 * disk/sim_crash.c -- what is left of unsynced changes: after a power cut, and after a writeback
 * that failed, whether somebody had asked for it or not.
 */
#include "disk/sim_cache_priv.h"

#include "base/mem.h"

/* Half of those that are kept are whole; the others, if they can be, torn. */
static void crash_settle(struct sim_node *n, const struct sim_change *c)
{
    if (c->kind == SIM_WRITE && rand_chance(&n->machine->rand, 1, 2)) {
        disk_sim_settle_torn(n, c);
    } else {
        (void)disk_sim_settle(n, c); /* without memory it is lost in part: allowed */
    }
}

void disk_sim_strand(struct sim_node *n, uint64_t mark)
{
    LIST_FOR_EACH_SAFE(node, &n->file.changes)
    {
        struct sim_change *c = LIST_ENTRY(node, struct sim_change, node);
        if (c->seq > mark) {
            break;
        }
        if (c->kind != SIM_WRITE) { /* the file system's own log keeps that */
            continue;
        }
        if (rand_chance(&n->machine->rand, 1, 2)) {
            crash_settle(n, c);
        } else if (c->direct || rand_chance(&n->machine->rand, 1, 2)) {
            disk_sim_stick(n, c);
        } else {
            disk_sim_settle_pages(n, c);
        }
        disk_sim_change_free(n, c);
        n->file.diverged = true;
    }
}

void disk_sim_drop(struct sim_node *n)
{
    bool dirty = !list_empty(&n->file.changes); /* keeps the folio, and that is all */
    if (!dirty && !n->machine->holds) {
        disk_sim_contents_revert(n);
    }
}

void disk_sim_evict(struct disk_sim *m)
{
    struct mem_domain *before = mem_domain_enter(NULL);
    LIST_FOR_EACH(at, &m->nodes)
    {
        struct sim_node *n = LIST_ENTRY(at, struct sim_node, node);
        if (list_empty(&n->file.changes) && !n->directory) {
            disk_sim_contents_revert(n);
        }
    }
    mem_domain_enter(before);
}

/* ---- The kernel writes back by itself ---- */

void disk_sim_failed(struct sim_node *n)
{
    struct sim_contents *c = &n->file;
    c->errors += c->errors == 0 || c->told ? 1 : 0;
    c->told = false;
}

void disk_sim_opened(struct sim_file *f)
{
    const struct sim_contents *c = &f->inode->file;
    f->heard = c->told ? c->errors : 0;
}

bool disk_sim_deaf(const struct sim_file *f)
{
    return f->heard != f->inode->file.errors;
}

bool disk_sim_hear(struct sim_file *f)
{
    bool news = disk_sim_deaf(f);
    f->heard = f->inode->file.errors;
    f->inode->file.told = f->inode->file.told || news;
    return news;
}

/* Any of those that have changes. */
static struct sim_node *dirty_node(struct disk_sim *m)
{
    struct sim_node *chosen = NULL;
    uint64_t count = 0;
    LIST_FOR_EACH(at, &m->nodes)
    {
        struct sim_node *n = LIST_ENTRY(at, struct sim_node, node);
        if (!n->directory && n->file.change_count > 0 && rand_below(&m->rand, ++count) == 0) {
            chosen = n;
        }
    }
    return chosen;
}

/* The oldest changes, up to any of them: a page is written as it is then, never as it was. */
static void node_write_back(struct sim_node *n)
{
    struct disk_sim *m = n->machine;
    uint64_t which = rand_below(&m->rand, n->file.change_count), mark = 0;
    bool direct = false; /* that is not in its hands */
    LIST_FOR_EACH(at, &n->file.changes)
    {
        const struct sim_change *c = LIST_ENTRY(at, struct sim_change, node);
        mark = c->seq;
        direct = direct || c->direct;
        if (which-- == 0) {
            break;
        }
    }
    bool fails = !direct && m->fails_one_of > 0 && rand_chance(&m->rand, 1, m->fails_one_of);
    if (fails || disk_sim_sync(n, mark) < 0) { /* also without memory */
        disk_sim_strand(n, mark);
        disk_sim_failed(n);
    }
}

void disk_sim_write_back(struct disk_sim *m)
{
    if (m->writes_one_of == 0 || !rand_chance(&m->rand, 1, m->writes_one_of)) {
        return;
    }
    struct sim_node *n = dirty_node(m);
    if (n != NULL) {
        node_write_back(n);
    }
}

/* ---- Power cuts ---- */

/* A random order of the changes. Each step takes any of those that are left (Fisher and Yates). */
static void crash_shuffle(struct sim_node *n)
{
    size_t count = n->file.change_count;
    struct list **order = mem_calloc(count, sizeof(struct list *));
    if (order == NULL) {
        return; /* the order they have is one of those allowed */
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = list_pop_front(&n->file.changes);
    }
    for (size_t left = count; left > 0; left--) {
        size_t pick = (size_t)rand_below(&n->machine->rand, left);
        list_push_back(&n->file.changes, order[pick]);
        order[pick] = order[left - 1];
    }
    mem_free(order);
}

static void crash_file(struct sim_node *n, unsigned keep)
{
    bool in_order = keep == 1000 || n->machine->mode != DISK_SIM_RANDOM;
    if (!in_order && n->file.change_count > 1 && rand_chance(&n->machine->rand, 1, 2)) {
        crash_shuffle(n);
    }
    LIST_FOR_EACH_SAFE(node, &n->file.changes)
    {
        struct sim_change *c = LIST_ENTRY(node, struct sim_change, node);
        if (n->machine->mode == DISK_SIM_KEEP_ALL) {
            (void)disk_sim_settle(n, c);
        } else if (rand_chance(&n->machine->rand, keep, 1000)) {
            crash_settle(n, c);
        }
        disk_sim_change_free(n, c);
    }
    n->file.errors = 0;
    n->file.told = false;
    disk_sim_contents_revert(n);
}

/* Crashes differ in how much the medium had taken in: from nothing to nearly all. */
static unsigned crash_keep(struct disk_sim *m)
{
    if (m->mode == DISK_SIM_RANDOM) {
        return (unsigned)rand_below(&m->rand, 5) * 250;
    }
    return m->mode == DISK_SIM_KEEP_ALL ? 1000 : 0;
}

void disk_sim_crash(struct disk_sim *m)
{
    CHECK(list_empty(&m->views)); /* the processes are dead */
    struct mem_domain *before = mem_domain_enter(NULL);
    unsigned keep = crash_keep(m);
    disk_sim_names_crash(m, keep);
    /* Names first: a file that is moved back would else be taken for unreachable in between. */
    LIST_FOR_EACH(node, &m->nodes)
    {
        disk_sim_names_revert(LIST_ENTRY(node, struct sim_node, node));
    }
    LIST_FOR_EACH(node, &m->nodes)
    {
        struct sim_node *n = LIST_ENTRY(node, struct sim_node, node);
        n->locked_by = NULL;
        crash_file(n, keep);
    }
    disk_sim_reap(m);
    mem_domain_enter(before);
}
