/*
 * disk/sim_crash.c -- what is left of unsynced changes: after a power cut, and after a sync that
 * failed.
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
        } else {
            disk_sim_stick(n, c);
        }
        disk_sim_change_free(n, c);
        n->file.diverged = true;
    }
}

void disk_sim_drop(struct sim_node *n)
{
    if (list_empty(&n->file.changes)) { /* else what is dirty keeps the folio, and that is all */
        disk_sim_contents_revert(n);
    }
}

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
