/*
 * metanode/revoke.c -- taking a live member out of a chain (R5, R6): one that its neighbour cannot
 * reach, or whose disk is sick. It is asked to stop first; when it has answered it counts as gone.
 * It does not come back for a while, so that a broken link between two live machines does not make
 * them change places all the time; with a sick disk not before it says that it is well.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"

#define METANODE_HOLD_LEASES 3u
#define METANODE_EJECT_SHARE 10u /* of all targets */

struct revoke {
    struct list node;
    struct metanode *m;
    struct peer_call call;
    struct proto_revoke_request request;
    uint32_t target;
};

static void revoke_done(struct peer_call *call, const struct peer_reply *r)
{
    struct revoke *x = container_of(call, struct revoke, call);
    struct metanode *m = x->m;
    struct metanode_chain *c = metanode_chain_find(m, x->request.chain);
    if (c != NULL) {
        size_t i = cluster_row_find(&c->row, x->target);
        bool counts = r->rc == 0 && c->row.epoch == x->request.epoch && i < c->row.count;
        c->revoking = false;
        if (counts) {
            c->fact[i].gone = true;
            c->fact[i].gone_ns = metanode_now(m);
            c->hold_until_ns[i] = metanode_now(m) + METANODE_HOLD_LEASES * metanode_lease_ns(m);
            metanode_chain_touch(c);
        }
    }
    list_remove(&x->node);
    mem_free(x);
}

/* False: not now. `why`: for the log, or NULL. */
static bool revoke_start(struct metanode_chain *c, struct metanode_target *victim, const char *why)
{
    struct metanode *m = c->m;
    struct revoke *x = c->revoking || victim->link == NULL ? NULL : mem_zalloc(sizeof *x);
    if (x == NULL) {
        return false;
    }
    if (why != NULL) {
        log_warn(m->env->log, why, LOG_U64("chain", c->row.chain), LOG_U64("target", victim->id));
    }
    c->revoking = true;
    *x = (struct revoke){
        .m = m, .target = victim->id, .request = {.chain = c->row.chain, .epoch = c->row.epoch}};
    x->call = (struct peer_call){.done = revoke_done,
                                 .request = &x->request,
                                 .opcode = PROTO_OP_revoke,
                                 .timeout_ms = (uint32_t)m->opt.lease_ms};
    list_push_back(&m->chains.revokes, &x->node);
    peer_link_call(victim->link, &x->call);
    return true;
}

void metanode_chain_revoke(struct metanode_chain *c, uint32_t target)
{
    struct metanode_target *t = metanode_target_find(c->m, target);
    if (t != NULL && !c->proposing) {
        (void)revoke_start(c, t, NULL); /* else with the next look */
    }
}

static size_t revoke_naming(struct metanode *m, uint32_t target)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        n += t->alive && metanode_target_named(t, target);
    }
    return n;
}

/* Does somebody else serve this chain, and goes on doing so as far as is known? */
static bool serves_without(const struct metanode_chain *c, size_t i)
{
    for (size_t j = 0; j < c->row.count; j++) {
        if (j != i && c->row.member[j].state == PROTO_MEMBER_SERVING && c->fact[j].present &&
            !c->fact[j].gone) {
            return true;
        }
    }
    return false;
}

/* R6: the one that more peers name, on a tie the successor, never the last serving one. */
static struct metanode_target *revoke_choose(struct metanode_chain *c, size_t i, size_t next)
{
    struct metanode *m = c->m;
    uint32_t own = c->row.member[i].target, successor = c->row.member[next].target;
    bool take_own = revoke_naming(m, own) > revoke_naming(m, successor) && serves_without(c, i);
    bool syncs = c->row.member[next].state == PROTO_MEMBER_SYNCING;
    if (!take_own && !syncs && !serves_without(c, next)) {
        return NULL;
    }
    return metanode_target_find(m, take_own ? own : successor);
}

void metanode_chains_suspect(struct metanode *m, const struct metanode_target *by)
{
    LIST_FOR_EACH(node, metanode_seats_of(m, by->id))
    {
        struct metanode_seat *seat = LIST_ENTRY(node, struct metanode_seat, node);
        struct metanode_chain *c = seat->chain;
        size_t i = metanode_seat_place(seat);
        size_t next = cluster_row_successor(&c->row, by->id);
        /* Who has stopped already does not say who else has to: the row is going to change. */
        m->chains.visits++;
        if (next < c->row.count && !c->proposing && !c->fact[i].gone && !c->fact[next].gone &&
            metanode_target_named(by, c->row.member[next].target)) {
            struct metanode_target *victim = revoke_choose(c, i, next);
            if (victim != NULL) { /* else, or if it cannot, with the next heartbeat */
                (void)revoke_start(c, victim, "a member cannot be reached by its neighbour");
            }
        }
    }
}

/* ---- Sick disks ---- */

static void eject(struct metanode_target *t)
{
    LIST_FOR_EACH(node, metanode_seats_of(t->m, t->id))
    {
        struct metanode_seat *seat = LIST_ENTRY(node, struct metanode_seat, node);
        struct metanode_chain *c = seat->chain;
        size_t i = metanode_seat_place(seat);
        enum proto_member_state s = c->row.member[i].state;
        t->m->chains.visits++;
        bool in = s == PROTO_MEMBER_SERVING || s == PROTO_MEMBER_SYNCING;
        if (in && !c->proposing && !c->fact[i].gone && serves_without(c, i)) {
            (void)revoke_start(c, t, "a member's disk is sick");
        }
    }
}

static size_t ejected_count(const struct metanode *m)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &m->targets.all)
    {
        n += LIST_ENTRY(node, struct metanode_target, all)->ejected;
    }
    return n;
}

void metanode_target_sick(struct metanode_target *t, struct proto_bytes words)
{
    struct metanode *m = t->m;
    bool was = t->sick[0] != 0;
    proto_bytes_to_c(words, t->sick, sizeof t->sick);
    bool is = t->sick[0] != 0;
    if (is != was && is) {
        log_warn(m->env->log, "the disk of a target is sick", LOG_U64("target", t->id),
                 LOG_TEXT("target_name", t->name), LOG_TEXT("what", t->sick));
    } else if (is != was) {
        log_info(m->env->log, "the disk of a target is tried again", LOG_U64("target", t->id),
                 LOG_TEXT("target_name", t->name));
    }
    bool out = t->ejected;
    t->ejected =
        is && (out || ejected_count(m) < base_max(m->targets.count / METANODE_EJECT_SHARE, 1));
    if (t->ejected) {
        eject(t);
    }
    if (t->ejected != out) { /* who may get copies, and new chains, is somebody else now */
        metanode_tables_touch(m);
        metanode_moves_touch(m);
    }
}

void metanode_revokes_fini(struct metanode *m)
{
    struct list *node;
    while ((node = list_pop_front(&m->chains.revokes)) != NULL) {
        mem_free(LIST_ENTRY(node, struct revoke, node)); /* their links have ended before */
    }
}
