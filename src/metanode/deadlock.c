/*
 * metanode/deadlock.c -- owners that wait for each other's locks (coherence.md 8). Each who waits
 * knows for whom, from the newest look at its file; from there a search goes on by what those wait
 * for, until it comes back, or ends. A look that is under way may have found that somebody waits no
 * longer: then the answer is not known yet, and the question comes again when it has ended.
 *
 * Of a kind (flock or the others) only: one does not wait for the other. More blockers than are
 * remembered are not followed: such a cycle is not found, as in Linux beyond a depth of ten.
 */
#include "metanode/lock_wait_priv.h"

static bool owner_equal(const struct dict_node *node, const void *key)
{
    const struct lock_owner *o = container_of(node, const struct lock_owner, node);
    const struct lock_blocker *b = key;
    return o->session == b->session && o->owner == b->owner;
}
static const struct dict_ops owner_dict_ops = {.equal = owner_equal};

void metanode_lock_owners_init(struct metanode *m)
{
    dict_init(&m->locks.by_owner, &owner_dict_ops, m, loop_random(m->env->loop));
}

static struct lock_owner *owner_find(struct metanode *m, const struct lock_blocker *b)
{
    struct dict *d = &m->locks.by_owner;
    struct dict_node *node = dict_find(d, dict_hash(d, b, sizeof *b), b);
    return node == NULL ? NULL : container_of(node, struct lock_owner, node);
}

int metanode_lock_own(struct metanode *m, struct lock_waiter *w)
{
    const struct lock_blocker key = {.session = w->wanted.session, .owner = w->wanted.owner};
    struct dict *d = &m->locks.by_owner;
    struct lock_owner *o = owner_find(m, &key);
    if (o == NULL) {
        o = mem_zalloc(sizeof *o);
        if (o == NULL) {
            return -ENOMEM;
        }
        o->session = key.session;
        o->owner = key.owner;
        list_init(&o->waiters);
        list_init(&o->search);
        int rc = dict_insert(d, dict_hash(d, &key, sizeof key), &o->node);
        if (rc < 0) {
            mem_free(o);
            return rc;
        }
    }
    w->owner = o;
    list_push_back(&o->waiters, &w->of_owner);
    return 0;
}

void metanode_lock_disown(struct metanode *m, struct lock_waiter *w)
{
    struct lock_owner *o = w->owner;
    list_remove(&w->of_owner);
    w->owner = NULL;
    if (list_empty(&o->waiters)) {
        dict_remove(&m->locks.by_owner, &o->node);
        mem_free(o);
    }
}

/* Those for whom one waits, into the search, each once. True: `end` is among them. */
static bool search_add(struct metanode *m, struct list *search, const struct lock_waiter *w,
                       const struct lock_owner *end)
{
    for (size_t i = 0; i < w->blocker_count; i++) {
        struct lock_owner *o = owner_find(m, &w->blocker[i]);
        if (o == end) {
            return true;
        }
        if (o != NULL && o->mark != m->locks.marks) {
            o->mark = m->locks.marks;
            list_push_back(search, &o->search);
        }
    }
    return false;
}

static bool waits_on(const struct lock_waiter *x, uint8_t kind)
{
    return x->wanted.kind == kind && x->wait && !x->cancel && !x->proposing && x->request != NULL;
}

enum lock_cycle metanode_lock_cycle(struct metanode *m, struct lock_waiter *w)
{
    bool unsure = !metanode_lock_settled(w->file);
    struct list search, *node;
    list_init(&search);
    m->locks.marks++;
    bool found = search_add(m, &search, w, w->owner);
    while ((node = list_pop_front(&search)) != NULL) {
        struct lock_owner *o = LIST_ENTRY(node, struct lock_owner, search);
        LIST_FOR_EACH(at, &o->waiters)
        {
            const struct lock_waiter *x = LIST_ENTRY(at, struct lock_waiter, of_owner);
            if (!found && waits_on(x, w->wanted.kind)) {
                unsure = unsure || !metanode_lock_settled(x->file);
                found = search_add(m, &search, x, w->owner);
            }
        }
    }
    return !found ? LOCK_CYCLE_NO : unsure ? LOCK_CYCLE_UNSURE : LOCK_CYCLE_YES;
}
