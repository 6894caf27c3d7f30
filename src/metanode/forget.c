/*
 * metanode/forget.c -- removed data ids that may leave the dead lists of targets (chain.md section
 * 9). A target names those that it has kept for a day. Its removal was asked for by a garbage
 * record, which stays until every chain has answered, and data ids are never used again: without a
 * record nobody misses the id any more. So nothing has to be remembered here, across leaders
 * neither. The answer goes out with a later heartbeat.
 */
#include "metanode/metanode_priv.h"

struct forget_check {
    struct metanode_read read;
    struct metanode *m;
    uint32_t target;
    size_t count;
    uint64_t id[METANODE_FORGET_MAX];
    bool garbage[METANODE_FORGET_MAX];
};

static int forget_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct forget_check *x = container_of(read, struct forget_check, read);
    int rc = 0;
    for (size_t i = 0; i < x->count; i++) {
        struct namespace_garbages page = {0};
        int one = namespace_garbages(v, x->id[i] - 1, 1, &page);
        rc = namespace_view_both(rc, one);
        x->garbage[i] = one < 0 || (page.count > 0 && page.ids[0] == x->id[i]);
    }
    return rc;
}

static void forget_read_done(struct metanode_read *read, int rc)
{
    struct forget_check *x = container_of(read, struct forget_check, read);
    struct metanode_target *t = metanode_target_find(x->m, x->target);
    if (t != NULL) {
        t->forget_asked = false;
        t->forget_count = 0;
        for (size_t i = 0; rc == 0 && i < x->count; i++) {
            if (!x->garbage[i]) {
                t->forget[t->forget_count++] = x->id[i];
            }
        }
    }
    mem_free(x);
}

static void forget_name(struct forget_check *x, const struct proto_u64s *dead)
{
    for (size_t i = 0; i < dead->count && x->count < ARRAY_COUNT(x->id); i++) {
        if (dead->at[i] != 0) {
            x->id[x->count++] = dead->at[i];
        }
    }
}

void metanode_forget_ask(struct metanode_target *t, const struct proto_heartbeat_request *q)
{
    bool none = q->dead.count == 0 || t->forget_asked;
    struct forget_check *x = none ? NULL : mem_zalloc(sizeof *x);
    if (x == NULL) {
        return; /* it asks again */
    }
    x->m = t->m;
    x->target = t->id;
    x->read = (struct metanode_read){.run = forget_read, .done = forget_read_done};
    forget_name(x, &q->dead);
    forget_name(x, &q->more_dead);
    t->forget_asked = true;
    metanode_read(t->m, &x->read);
}
