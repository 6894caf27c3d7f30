/*
 * client/times.c -- times and modes that are set of a file that is written here (coherence.md 6.1,
 * dirty-vs-utimens). The leader asks other writers for the times of what they wrote before; of
 * those here this client takes care itself: what a commit would say of older writes is void once
 * the setattr has succeeded. Neither may pass the other on its way, so each waits for the other.
 */
#include "client/times_priv.h"

#include "client/inode_priv.h"

#define SETS                                                                    \
    (OPENDFS_SET_MODE | OPENDFS_SET_UID | OPENDFS_SET_GID | OPENDFS_SET_MTIME | \
     OPENDFS_SET_MTIME_NOW)

static bool times_writes(const struct client_inode *i)
{
    return (i->mode == PROTO_OPEN_W || i->mode == PROTO_OPEN_S) && i->dead == 0;
}

static void times_cancel(struct opendfs_op *op)
{
    struct client_task *t = client_op_of(op)->task;
    list_remove(&t->setter);
    client_times_end(t, -ECANCELED);
    client_task_finish(t, -ECANCELED);
}

static void times_go(struct client_task *t)
{
    struct client_inode *i = t->inode;
    if (i->committing && i->dead == 0) {
        list_push_back(&i->setters, &t->setter);
        client_op_of(t->op)->cancel = times_cancel;
        return;
    }
    t->sets = true;
    i->setting++;
    client_task_mutate(t, PROTO_OP_setattr, t->next);
}

void client_times_set(struct client_task *t,
                      void (*next)(struct client_task *t, const struct peer_reply *r))
{
    const struct proto_setattr_request *q = &t->request.setattr;
    struct client_inode *i = client_inode_find(t->fs, q->ino);
    t->next = next;
    if (i == NULL || !times_writes(i) || (q->mask & SETS) == 0) {
        client_task_mutate(t, PROTO_OP_setattr, next);
        return;
    }
    i->refs++;
    t->inode = i;
    times_go(t);
}

void client_times_end(struct client_task *t, int rc)
{
    const struct proto_setattr_request *q = &t->request.setattr;
    struct client_inode *i = t->inode;
    if (i == NULL) {
        return;
    }
    if (t->sets) {
        i->setting--;
        client_inode_wake(i);
    }
    if (t->sets && rc == 0) {
        i->told = i->told || (q->mask & (OPENDFS_SET_MTIME | OPENDFS_SET_MTIME_NOW)) != 0;
        i->kill_priv = i->kill_priv && (q->mask & OPENDFS_SET_MODE) == 0;
        i->outsider = i->outsider && i->kill_priv;
    }
    t->sets = false;
    t->inode = NULL;
    client_inode_put(i);
}

void client_times_known(struct opendfs *fs, const struct proto_attr *a)
{
    struct client_inode *i = client_inode_find(fs, a->ino);
    if (i != NULL && i->attr.ino == a->ino && a->type != 0) {
        i->attr.mode = a->mode;
        i->attr.uid = a->uid;
        i->attr.gid = a->gid;
        i->attr.atime_ns = a->atime_ns;
        i->attr.mtime_ns = a->mtime_ns;
        i->attr.ctime_ns = a->ctime_ns;
    }
}

void client_times_step(struct client_inode *i)
{
    struct list due;
    struct list *node;
    if (i->committing && i->dead == 0) {
        return;
    }
    list_init(&due);
    list_splice_back(&due, &i->setters);
    while ((node = list_pop_front(&due)) != NULL) {
        times_go(LIST_ENTRY(node, struct client_task, setter));
    }
}

void client_times_fini(struct opendfs *fs)
{
    struct dict_iter it;
    struct dict_node *n;
    struct list *node;
    dict_iter_init(&it, &fs->inodes);
    while ((n = dict_iter_next(&it)) != NULL) {
        struct client_inode *i = container_of(n, struct client_inode, node);
        i->refs++; /* who waits here may be the last */
        while ((node = list_pop_front(&i->setters)) != NULL) {
            times_cancel(LIST_ENTRY(node, struct client_task, setter)->op);
        }
        client_inode_put(i);
    }
}
