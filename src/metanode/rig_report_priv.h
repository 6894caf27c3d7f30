/* metanode/rig_report_priv.h -- for tests only: what a fake target of rig_priv.h reports. */
#pragma once

#include "metanode/rig_target_priv.h"

struct rig_told {
    struct rig_target *t;
    struct peer_call call;
    struct proto_report_request q;
    struct proto_report_item item[256];
    bool done;
    int rc;
};
static inline void rig_told_done(struct peer_call *c, const struct peer_reply *r)
{
    struct rig_told *x = container_of(c, struct rig_told, call);
    x->done = true;
    x->rc = r->rc;
}
static inline void rig_told_in(void *ctx)
{
    struct rig_told *x = ctx;
    x->call = (struct peer_call){.done = rig_told_done,
                                 .request = &x->q,
                                 .opcode = PROTO_OP_report,
                                 .flags = PEER_CALL_AGAIN};
    peer_call(x->t->peer, &x->call);
}
static inline bool rig_told_is_done(void *ctx)
{
    return ((struct rig_told *)ctx)->done;
}
static inline int rig_report(struct rig *r, struct rig_told *x, unsigned target, size_t items)
{
    x->t = &r->target[target];
    x->done = false;
    x->q.target = x->t->id;
    x->q.incarnation = x->t->incarnation;
    x->q.items = (struct proto_report_item_list){.at = x->item, .count = items};
    loop_sim_enter(x->t->env.loop, rig_told_in, x);
    CHECK(rig_until(r, rig_told_is_done, x));
    return x->rc;
}
static inline struct proto_report_item rig_damage(uint64_t data_id, enum proto_damage damage)
{
    return (struct proto_report_item){.kind = PROTO_REPORT_DAMAGE,
                                      .merged = 1,
                                      .chain = 1,
                                      .chunk = {.data_id = data_id, .index = 7},
                                      .damage = (uint8_t)damage};
}
