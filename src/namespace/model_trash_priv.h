/*
 * namespace/model_trash_priv.h -- for model_test.c: what becomes of files without a name.
 */
#pragma once

#include "namespace/model_priv.h"

#define MODEL_NS_PER_S INT64_C(1000000000)
#define MODEL_PURGE_MAX 3u

/* What a directory, or the next one above it that says anything, says. */
static inline uint32_t keeps_s(const struct model *m, size_t dir)
{
    while (dir != 0 && m->node[dir].retention_s == 0) {
        dir = m->node[dir].parent;
    }
    uint32_t s = m->node[dir].retention_s;
    return s == PROTO_RETENTION_NONE ? 0 : s;
}

static inline void may_go(struct node *n)
{
    n->gone = n->gone || (n->nlink == 0 && !n->kept[0] && !n->kept[1] && !n->trash);
}

static inline void trash_put(struct model *m, struct node *n, size_t dir)
{
    uint32_t keeps = keeps_s(m, dir);
    if (n->nlink == 0 && n->type == PROTO_INODE_FILE && keeps > 0) {
        n->trash = true;
        n->expiry_ns = m->rig.time_ns + (int64_t)keeps * MODEL_NS_PER_S;
    }
}

/* What is open, too, changes: its flag. */
static inline void trash_over(struct model *m, struct node *n)
{
    bool was = n->trash;
    n->trash = false;
    may_go(n);
    if (was && !n->gone) {
        n->change += n->touched != m->step ? 1 : 0;
        n->touched = m->step;
    }
}

/* What the leader does when time has passed. */
static inline void trash_expire(struct model *m)
{
    bool early = rand_chance(&m->rand, 1, 4);
    m->rig.time_ns += (int64_t)rand_below(&m->rand, 30) * MODEL_NS_PER_S;
    CHECK_OK(RIG_DO(&m->rig, NAMESPACE_TRASH_PURGE, namespace_trash_expire, .max = MODEL_PURGE_MAX,
                    .early = early));
    for (size_t k = 0; k < MODEL_PURGE_MAX; k++) {
        struct node *first = NULL;
        for (size_t i = 0; i < m->node_count; i++) {
            struct node *n = &m->node[i];
            bool sooner = first == NULL || n->expiry_ns < first->expiry_ns ||
                          (n->expiry_ns == first->expiry_ns && n->ino < first->ino);
            first = n->trash && sooner ? n : first;
        }
        if (first != NULL && (early || first->expiry_ns <= m->rig.time_ns)) {
            trash_over(m, first);
            m->expired++;
        }
    }
}

/* All of the trash, page by page. */
static inline void trash_compare(struct model *m)
{
    struct proto_trash_list_request q = {.owner = PROTO_TRASH_ANYBODY, .max = 3};
    struct proto_trash_list_reply reply = {.more = true};
    struct proto_statfs_reply space;
    uint64_t listed = 0, files = 0, bytes = 0;
    q.caller = (struct proto_caller){.session = m->rig.op.session, .cred = m->rig.op.cred};
    while (reply.more) {
        CHECK_OK(RIG_VIEW(&m->rig, namespace_trash_list(&m->rig.view, &q, &reply)));
        for (size_t i = 0; i < reply.entries.count; i++) {
            const struct proto_trash_entry *e = &reply.entries.at[i];
            size_t k = 0;
            while (k < m->node_count && m->node[k].ino != e->attr.ino) {
                k++;
            }
            CHECK_TRUE(k < m->node_count && m->node[k].trash);
            CHECK_EQ(e->expiry_ns, m->node[k].expiry_ns);
            listed++;
        }
        q.after_owner = reply.next_owner;
        q.after_ino = reply.next_ino;
    }
    for (size_t i = 0; i < m->node_count; i++) {
        files += m->node[i].trash ? 1 : 0;
        bytes += m->node[i].trash ? m->node[i].size : 0;
    }
    CHECK_OK(RIG_VIEW(&m->rig, namespace_statfs(&m->rig.view, &space)));
    CHECK_EQ(listed, files);
    CHECK_EQ(space.trash_files, files);
    CHECK_EQ(space.trash_bytes, bytes);
}
