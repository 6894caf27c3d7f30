/*
 * metanode/rig_replay_priv.h -- for tests only: another server reads the same directory, with reads
 * that find other things missing, and must come to the same records.
 */
#pragma once

#include "metanode/rig_audit_priv.h"
#include "metanode/rig_server_priv.h"

struct rig_replay {
    struct rig *rig;
    uint64_t index; /* how far */
};
static inline bool rig_has_replayed(void *ctx)
{
    const struct rig_replay *p = ctx;
    return p->rig->ended > 0 || kv_applied_index(p->rig->m->kv) >= p->index;
}
static inline bool rig_has_applied_all(void *ctx)
{
    const struct rig *r = ctx;
    struct rig_audit a = {.m = r->m};
    if (metanode_is_serving(r->m)) {
        loop_sim_enter(r->loop, rig_audit_in, &a);
    }
    return a.all;
}
/* The server is killed in a quiet moment; the next one goes on. True: both had the same. */
static inline bool rig_replays(struct rig *r)
{
    CHECK(rig_until(r, rig_has_applied_all, r));
    struct rig_audit before = {.m = r->m};
    loop_sim_enter(r->loop, rig_audit_in, &before);
    rig_kill(r);
    uint32_t need_permille = r->opt.need_permille;
    r->opt.need_permille = need_permille > 0 ? need_permille / 2 : 100;
    CHECK(rig_start(r) == 0);
    struct rig_replay replay = {.rig = r, .index = before.index};
    CHECK(rig_until(r, rig_has_replayed, &replay) && r->ended == 0);
    struct rig_audit after = {.m = r->m};
    loop_sim_enter(r->loop, rig_audit_in, &after);
    CHECK(rig_until(r, rig_is_serving, r) && r->ended == 0);
    r->opt.need_permille = need_permille;
    return before.index == after.index && before.digest == after.digest;
}
