#include "metanode/metanode_priv.h"

/* The three jobs that go on until every data node has answered, and the one that makes work. */

int metanode_cleanup_init(struct metanode *m)
{
    metanode_errand_init(&m->cleanup.garbage, m, &metanode_garbage_ops);
    metanode_errand_init(&m->cleanup.trims, m, &metanode_trim_ops);
    int rc = metanode_garbage_init(m);
    rc = rc < 0 ? rc : metanode_fence_init(m);
    rc = rc < 0 ? rc : metanode_trash_init(m);
    rc = rc < 0 ? rc : metanode_audit_init(m);
    rc = rc < 0 ? rc : metanode_compare_init(m);
    return rc < 0 ? rc : metanode_fsck_init(m);
}

void metanode_cleanup_start(struct metanode *m)
{
    m->cleanup.fences = 1; /* until the first look says how many there are */
    metanode_errand_kick(&m->cleanup.garbage);
    metanode_errand_kick(&m->cleanup.trims);
    metanode_fence_kick(m);
    metanode_trash_kick(m);
    metanode_audit_touch(m);
}

void metanode_cleanup_stop(struct metanode *m)
{
    metanode_errand_stop(&m->cleanup.garbage);
    metanode_errand_stop(&m->cleanup.trims);
    metanode_fence_stop(m);
    metanode_trash_stop(m);
    metanode_audit_stop(m);
    metanode_compare_stop(m);
}

void metanode_cleanup_fini(struct metanode *m)
{
    metanode_errand_fini(&m->cleanup.garbage);
    metanode_errand_fini(&m->cleanup.trims);
    metanode_garbage_fini(m);
    metanode_fence_fini(m);
    metanode_trash_fini(m);
    metanode_audit_fini(m);
    metanode_compare_fini(m);
    metanode_fsck_fini(m);
}

struct peer_link *metanode_head_link(struct metanode *m, uint32_t chain,
                                     struct proto_route *ret_route)
{
    const struct metanode_chain *c = metanode_chain_find(m, chain);
    size_t head = c == NULL ? 0 : cluster_row_head(&c->row);
    if (c == NULL || head == c->row.count) {
        return NULL;
    }
    const struct metanode_target *t = metanode_target_find(m, c->row.member[head].target);
    *ret_route = (struct proto_route){.chain = chain, .epoch = c->row.epoch};
    return t == NULL ? NULL : t->link;
}
