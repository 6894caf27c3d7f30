/*
 * namespace/rig_replica_priv.h -- for tests (rig_priv.h): one replica, and how it is waited for.
 */
#pragma once

#include "base/mem.h"
#include "kv/mem.h"
#include "namespace/namespace.h"

#define RIG_BUSY_PERMILLE 100u

struct rig_replica {
    struct kv *kv;
    struct namespace *ns;
    struct kv_need need;
    struct namespace_reply reply;
    unsigned fetches;
};

struct rig_fetch {
    struct kv_fetch base;
    bool done;
};

static inline void rig_fetch_done(struct kv_fetch *f, int rc)
{
    CHECK_OK(rc);
    container_of(f, struct rig_fetch, base)->done = true;
}

static inline void rig_fetch(struct rig_replica *m)
{
    struct rig_fetch f = {.base = {.need = &m->need, .done = rig_fetch_done}};
    CHECK_TRUE(m->need.missing > 0);
    m->fetches++;
    kv_fetch(m->kv, &f.base);
    while (!f.done) {
        (void)kv_poll(m->kv);
    }
}

struct rig_room {
    struct kv_room base;
    bool done;
};

static inline void rig_has_room(struct kv_room *r)
{
    container_of(r, struct rig_room, base)->done = true;
}

static inline void rig_room(struct rig_replica *m)
{
    struct rig_room r = {.base.done = rig_has_room};
    kv_room(m->kv, &r.base);
    while (!r.done) {
        (void)kv_poll(m->kv);
    }
}

static inline int rig_commit(struct rig_replica *m, const struct kv_batch *b, uint64_t index)
{
    int rc = kv_commit(m->kv, b, index);
    while (rc == -ERR_busy) {
        rig_room(m);
        rc = kv_commit(m->kv, b, index);
    }
    return rc;
}

static inline void rig_open_replica(struct rig_replica *m, uint32_t need_permille)
{
    struct kv_mem_options opt = {.seed = testing_seed(),
                                 .need_permille = need_permille,
                                 .fetch_polls_max = 1,
                                 .busy_permille = need_permille > 0 ? RIG_BUSY_PERMILLE : 0,
                                 .strict = need_permille > 0};
    CHECK_OK(kv_mem_new(&opt, &m->kv));
    struct namespace_options ns = {.kv = m->kv};
    CHECK_OK(namespace_new(&ns, &m->ns));
}

static inline void rig_restart_replica(struct rig_replica *m)
{
    struct namespace_options ns = {.kv = m->kv};
    m->ns = namespace_free(m->ns);
    CHECK_OK(namespace_new(&ns, &m->ns));
}

static inline int rig_apply_one(struct rig_replica *m, const struct namespace_entry *e)
{
    int rc = namespace_apply(m->ns, e, &m->need, &m->reply);
    while (rc == -ERR_need || rc == -ERR_busy) {
        if (rc == -ERR_busy) { /* what it has it keeps */
            rig_room(m);
        } else {
            rig_fetch(m);
        }
        rc = namespace_apply(m->ns, e, &m->need, &m->reply);
    }
    kv_need_release(&m->need);
    return rc;
}
