/*
 * metanode/chaos_test.c -- targets die and return in every way, links suspect each other, the
 * server is killed: whatever happens, nobody holds a lease for a chain that the leader has given to
 * others, rows only go forward, one epoch at a time (I8), and when it is quiet all chains are whole
 * (I11).
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

struct chaos {
    struct rig rig;
    uint32_t epoch[RIG_ROWS]; /* newest that was seen, by chain */
    bool fresh;               /* the server is a new process: what it had published counts */
};

/* What a target believes to serve under its lease, the leader has given to nobody else. */
static void check_target(const struct rig *r, const struct rig_target *t)
{
    CHECK_TRUE(!t->running || !rig_target_is_too_early(t));
    if (!t->running || !t->leased || loop_now_ns(t->env.loop) >= t->leased_until_ns) {
        return;
    }
    for (size_t k = 0; k < t->row_count; k++) {
        size_t own = cluster_row_find(&t->row[k], t->id);
        const struct metanode_chain *c = metanode_chain_find(r->m, t->row[k].chain);
        bool serves = own < t->row[k].count && t->row[k].member[own].state == PROTO_MEMBER_SERVING;
        if (serves && c != NULL) {
            size_t now = cluster_row_find(&c->row, t->id);
            CHECK_TRUE(now < c->row.count);
            CHECK_EQ(c->row.member[now].state, PROTO_MEMBER_SERVING);
        }
    }
}

static void check_rows(struct chaos *x)
{
    LIST_FOR_EACH(node, &x->rig.m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        CHECK_TRUE(row->chain < RIG_ROWS && cluster_row_valid(row));
        uint32_t seen = x->epoch[row->chain];
        CHECK_TRUE(seen == 0 || row->epoch == seen || row->epoch == seen + 1 || x->fresh);
        CHECK_TRUE(row->epoch >= seen);
        x->epoch[row->chain] = row->epoch;
    }
    for (unsigned i = 0; i < RIG_TARGETS; i++) { /* nobody knows what is not in the log */
        const struct rig_target *t = &x->rig.target[i];
        for (size_t k = 0; t->running && k < t->row_count; k++) {
            const struct metanode_chain *c = metanode_chain_find(x->rig.m, t->row[k].chain);
            CHECK_TRUE(c != NULL && c->row.epoch >= t->row[k].epoch);
        }
    }
    x->fresh = false;
}

static bool chaos_step(void *ctx)
{
    struct chaos *x = ctx;
    if (x->rig.m != NULL && metanode_is_serving(x->rig.m)) {
        check_rows(x);
        for (unsigned i = 0; i < RIG_TARGETS; i++) {
            check_target(&x->rig, &x->rig.target[i]);
        }
    }
    return false;
}
static void chaos_run(struct chaos *x, uint64_t ns)
{
    (void)loop_sim_run(x->rig.sim, chaos_step, x, loop_sim_now_ns(x->rig.sim) + ns);
}

static void chaos_target(struct rig *r, unsigned i)
{
    struct rig_target *t = &r->target[i];
    if (!t->running) {
        rig_target_start(r, i, rand_chance(&r->rand, 1, 2));
    } else if (rand_chance(&r->rand, 1, 2)) {
        rig_target_kill(r, i);
        if (rand_chance(&r->rand, 1, 3)) { /* before anybody noticed */
            rig_target_start(r, i, rand_chance(&r->rand, 1, 2));
        }
    } else {
        t->cut = !t->cut; /* silent, but alive */
    }
}

static void chaos_strike(struct chaos *x)
{
    struct rig *r = &x->rig;
    unsigned i = (unsigned)rand_below(&r->rand, RIG_TARGETS);
    struct rig_target *t = &r->target[i];
    switch (rand_below(&r->rand, 9)) {
    case 8: /* the server forgets, just after a target was new */
        if (t->running) {
            rig_target_kill(r, i);
        }
        rig_target_start(r, i, false);
        chaos_run(x, rand_below(&r->rand, RIG_SECOND / 50));
        rig_kill(r);
        x->fresh = true;
        CHECK_OK(rig_start(r));
        break;
    case 0:
        if (rand_chance(&r->rand, 1, 2)) {
            rig_kill(r);
        } else {
            rig_power(r);
        }
        x->fresh = true;
        CHECK_OK(rig_start(r));
        break;
    case 1:
        t->suspect = t->suspect != 0 ? 0 : (uint32_t)rand_range(&r->rand, 1, RIG_TARGETS);
        break;
    case 2:
        t->deaf = !t->deaf; /* pushes of rows are lost on it */
        break;
    case 3:
        net_sim_reset(r->net, 1, 20 + i);
        break;
    default:
        chaos_target(r, i);
        break;
    }
}

static bool chaos_whole(void *ctx)
{
    struct chaos *x = ctx;
    (void)chaos_step(x);
    bool all = metanode_is_serving(x->rig.m) && x->rig.m->chains.count > 0;
    for (struct list *node = x->rig.m->chains.all.next; all && node != &x->rig.m->chains.all;
         node = node->next) {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        all = cluster_row_serving_count(row) == row->count;
    }
    return all;
}

TEST(rows_and_leases_agree_whatever_dies)
{
    for (unsigned round = 0; round < 6; round++) {
        struct chaos *x = mem_zalloc(sizeof *x);
        CHECK_TRUE(x != NULL);
        rig_new(&x->rig, testing_seed() + round);
        x->rig.opt.need_permille = 50;
        rig_serve(&x->rig);
        for (unsigned i = 0; i < RIG_TARGETS; i++) {
            rig_target_start(&x->rig, i, false);
        }
        for (unsigned i = 0; i < 60; i++) {
            chaos_run(x, rand_below(&x->rig.rand, 3 * RIG_SECOND));
            chaos_strike(x);
        }
        for (unsigned i = 0; i < RIG_TARGETS; i++) {
            struct rig_target *t = &x->rig.target[i];
            t->cut = t->deaf = false;
            t->suspect = 0;
            if (!t->running) {
                rig_target_start(&x->rig, i, true);
            }
        }
        CHECK_TRUE(rig_until(&x->rig, chaos_whole, x));
        rig_over(&x->rig);
        mem_free(x);
    }
}
