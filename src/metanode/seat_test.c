/*
 * metanode/seat_test.c -- what a heartbeat costs in a large cluster, counted in chains looked at,
 * and that the index of a target's chains is that of the rows.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_chains_priv.h"
#include "metanode/rig_target_priv.h"
#include "metanode/write_priv.h"
#include "testing/testing.h"

#define MANY_TARGETS 240u
#define MANY_CHAINS 6000u
#define MANY_FIRST 1000u

static bool all_leased(void *ctx)
{
    const struct rig *r = ctx;
    bool all = true;
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        all = all && (!r->target[i].running || r->target[i].leased);
    }
    return all;
}

/* As if they had been loaded: targets that nobody hears of, and chains of three of them each. */
static void cluster_grows(void *ctx)
{
    struct rig *r = ctx;
    struct metanode *m = r->m;
    m->phase = METANODE_LOADING;
    for (uint32_t i = 0; i < MANY_TARGETS; i++) {
        struct proto_target t = {.id = MANY_FIRST + i, .uuid = {{1}}, .weight = 1};
        memcpy(t.uuid.bytes + 4, &t.id, sizeof t.id);
        CHECK_OK(metanode_target_put(m, &t));
    }
    for (uint32_t i = 0; i < MANY_CHAINS; i++) {
        struct proto_member member[3];
        struct proto_row row = {.chain = MANY_FIRST + i, .epoch = 1, .class_id = 9, .born = 1};
        for (uint32_t k = 0; k < ARRAY_COUNT(member); k++) {
            member[k] = (struct proto_member){.target = MANY_FIRST + (i + k * k * 7) % MANY_TARGETS,
                                              .state = PROTO_MEMBER_SERVING};
        }
        row.members.at = member;
        row.members.count = ARRAY_COUNT(member);
        CHECK_OK(metanode_chain_put(m, &row));
    }
    m->phase = METANODE_SERVING;
}

static size_t chains_by_rows(const struct rig *r, uint32_t target)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        n += cluster_row_find(&c->row, target) < c->row.count;
    }
    return n;
}

/* The index names all chains of each target, and no others. */
static size_t check_index(const struct rig *r)
{
    size_t most = 0;
    LIST_FOR_EACH(at, &r->m->targets.all)
    {
        uint32_t id = LIST_ENTRY(at, struct metanode_target, all)->id;
        size_t n = 0;
        LIST_FOR_EACH(node, metanode_seats_of(r->m, id))
        {
            const struct metanode_seat *s = LIST_ENTRY(node, struct metanode_seat, node);
            CHECK_EQ(s->chain->row.member[metanode_seat_place(s)].target, id);
            n++;
        }
        CHECK_EQ(n, chains_by_rows(r, id));
        most = id < MANY_FIRST ? base_max(most, n) : most;
    }
    return most;
}

/* Looks at chains per heartbeat, for targets and by timers, in some seconds. */
static uint64_t visits_each(struct rig *r)
{
    const struct metanode_chains *cs = &r->m->chains;
    uint64_t heartbeats = cs->heartbeats, visits = cs->visits;
    rig_run(r, 5 * RIG_SECOND);
    CHECK(cs->heartbeats > heartbeats + 10);
    return (cs->visits - visits) / (cs->heartbeats - heartbeats);
}

TEST(a_heartbeat_costs_what_its_own_chains_cost)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    for (unsigned i = 0; i < 3; i++) {
        rig_target_start(&r, i, false);
    }
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    size_t own = check_index(&r);
    uint64_t small = visits_each(&r);
    loop_sim_enter(r.loop, cluster_grows, &r);
    CHECK_EQ(check_index(&r), own);
    uint64_t large = visits_each(&r);
    CHECK_TRUE(small > 0);
    CHECK_TRUE(large <= small + 1); /* the others cost nothing, */
    CHECK_TRUE(large <= 4 * own);   /* and own ones a look for each thing that is asked */
    CHECK_TRUE(all_leased(&r));
    rig_over(&r);
}

static void recorded(struct metanode_target_write *w, int rc, const struct namespace_reply *reply)
{
    (void)w;
    (void)reply;
    CHECK_OK(rc);
}
/* Records of targets that nobody hears of. */
static void others_are_recorded(void *ctx)
{
    static struct metanode_target_write write[MANY_TARGETS];
    struct rig *r = ctx;
    for (uint32_t i = 0; i < MANY_TARGETS; i++) {
        struct proto_target t = {.uuid = {{1}}, .weight = 1, .incarnation = 1};
        memcpy(t.uuid.bytes + 4, &i, sizeof i);
        write[i] = (struct metanode_target_write){.done = recorded};
        CHECK_OK(metanode_target_write(r->m, &write[i], &t));
    }
}
static bool others_are_known(void *ctx)
{
    const struct rig *r = ctx;
    return r->m->targets.count == MANY_TARGETS;
}
/* A target is found by its id at once, however many came before it. */
TEST(a_heartbeat_costs_nothing_for_other_targets)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    loop_sim_enter(r.loop, others_are_recorded, &r);
    CHECK_TRUE(rig_until(&r, others_are_known, &r));
    for (unsigned i = 0; i < 3; i++) {
        rig_target_start(&r, i, false);
    }
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    CHECK_TRUE(r.target[0].id > MANY_TARGETS);
    rig_run(&r, 5 * RIG_SECOND);
    uint64_t beats = r.m->chains.heartbeats, looks = r.m->targets.visits;
    rig_run(&r, 5 * RIG_SECOND);
    beats = r.m->chains.heartbeats - beats;
    looks = r.m->targets.visits - looks;
    CHECK_TRUE(beats > 10 && looks >= beats && looks <= 8 * beats);
    rig_over(&r);
}

/* As if they had registered, and nobody had been away for long. */
static void targets_come(void *ctx)
{
    struct rig *r = ctx;
    struct metanode *m = r->m;
    for (uint32_t i = 0; i < MANY_TARGETS; i++) {
        struct proto_target t = {.id = MANY_FIRST + i, .uuid = {{1}}, .weight = 100};
        memcpy(t.uuid.bytes + 4, &t.id, sizeof t.id);
        CHECK_OK(metanode_target_put(m, &t));
        struct metanode_target *known = metanode_target_find(m, t.id);
        CHECK_TRUE(known != NULL);
        known->alive = known->registered = true;
    }
    metanode_tables_touch(m);
}
static bool table_is_large(void *ctx)
{
    const struct rig *r = ctx;
    return r->m->chains.count >= CLUSTER_TABLE_MAX / 2 - MANY_TARGETS;
}
/* More chains than one command holds come by several, and none of them twice. */
TEST(a_table_grows_in_steps)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    for (unsigned i = 0; i < 3; i++) {
        rig_target_start(&r, i, false);
    }
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    loop_sim_enter(r.loop, targets_come, &r);
    CHECK_TRUE(rig_until(&r, table_is_large, &r));
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_TRUE(r.m->chains.count <= CLUSTER_TABLE_MAX / 2 + 2 * MANY_TARGETS);
    uint32_t share = cluster_chains_per_target(r.m->opt.copies, MANY_TARGETS + 3);
    for (uint32_t i = 0; i < MANY_TARGETS; i++) {
        size_t n = chains_by_rows(&r, MANY_FIRST + i);
        CHECK_TRUE(n >= share && n <= share + 8);
    }
    rig_over(&r);
}

TEST(the_chains_of_a_target_follow_the_rows)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.rebuild_ms = 1000;
    rig_serve(&r);
    for (unsigned i = 0; i < 3; i++) {
        rig_target_start(&r, i, false);
    }
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_TRUE(check_index(&r) > 0);
    CHECK_TRUE(list_empty(&r.m->chains.thin));
    rig_target_kill(&r, 0);
    rig_run(&r, 3 * RIG_SECOND);
    (void)check_index(&r);
    CHECK_TRUE(!list_empty(&r.m->chains.thin));
    rig_run(&r, 20 * RIG_SECOND); /* its copies are made elsewhere */
    CHECK_TRUE(list_empty(metanode_seats_of(r.m, r.target[0].id)));
    (void)check_index(&r);
    CHECK_TRUE(list_empty(&r.m->chains.thin));
    rig_kill(&r); /* a later leader finds the same */
    rig_serve(&r);
    CHECK_TRUE(check_index(&r) > 0);
    rig_over(&r);
}
