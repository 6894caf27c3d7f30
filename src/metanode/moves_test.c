/*
 * metanode/moves_test.c -- targets that are emptied, replaced, removed, lost for good and added:
 * what becomes of the chains, with R5 and the number of copies looked at after every step.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_chains_priv.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

static size_t members_on(const struct rig *r, uint32_t target)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        n += cluster_row_find(row, target) < row->count;
    }
    return n;
}

/* Nobody who may serve by his own clock believes to serve what the row does not say (R5, I8). */
static void check_leases(const struct rig *r)
{
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        const struct rig_target *t = &r->target[i];
        if (!t->running || !t->leased || loop_now_ns(t->env.loop) >= t->leased_until_ns) {
            continue;
        }
        for (size_t k = 0; k < t->row_count; k++) {
            const struct metanode_chain *c = metanode_chain_find(r->m, t->row[k].chain);
            size_t own = cluster_row_find(&t->row[k], t->id);
            if (own < t->row[k].count && c != NULL &&
                t->row[k].member[own].state == PROTO_MEMBER_SERVING) {
                size_t now = cluster_row_find(&c->row, t->id);
                CHECK_TRUE(now < c->row.count && c->row.member[now].state == PROTO_MEMBER_SERVING);
            }
        }
    }
}

struct watch {
    struct rig *rig;
    size_t least; /* copies that every chain has at every moment */
    bool (*until)(void *ctx);
};
static bool watched(void *ctx)
{
    struct watch *w = ctx;
    if (w->rig->m->phase == METANODE_SERVING) {
        check_leases(w->rig);
        LIST_FOR_EACH(node, &w->rig->m->chains.all)
        {
            const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
            char text[512];
            cluster_row_to_text(row, text, sizeof text);
            if (cluster_row_serving_count(row) < w->least) {
                fprintf(stderr, "%llu %s\n", (unsigned long long)loop_sim_now_ns(w->rig->sim),
                        text);
            }
        }
        CHECK_TRUE(rig_serving_least(w->rig) >= w->least);
    }
    return w->until(w->rig);
}
static bool never(void *ctx)
{
    (void)ctx;
    return false;
}
static bool watch(struct rig *r, size_t least, bool (*until)(void *ctx))
{
    struct watch w = {.rig = r, .least = least, .until = until};
    return loop_sim_run(r->sim, watched, &w, loop_sim_now_ns(r->sim) + 300 * RIG_SECOND);
}
static void watch_for(struct rig *r, size_t least, uint64_t ns)
{
    struct watch w = {.rig = r, .least = least, .until = never};
    (void)loop_sim_run(r->sim, watched, &w, loop_sim_now_ns(r->sim) + ns);
}

/* For so long, and then until all rest again. */
static void rest_after(struct rig *r, size_t least, uint64_t ns)
{
    watch_for(r, least, ns);
    CHECK_TRUE(watch(r, least, rig_all_rest));
}

static void start_with(struct rig *r, unsigned targets, uint64_t rebuild_ms)
{
    rig_new(r, testing_seed());
    r->opt.rebuild_ms = rebuild_ms;
    rig_serve(r);
    for (unsigned i = 0; i < targets; i++) {
        rig_target_start(r, i, false);
    }
    CHECK_TRUE(rig_until(r, rig_all_rest, r));
    rig_run(r, 4 * RIG_SECOND); /* its first look is T after its start */
    rig_client_ready(r, 0);
}

static int plan(struct rig *r, unsigned target, uint8_t what, uint32_t heir)
{
    struct proto_target_plan_request q = {.target = r->target[target].id,
                                          .plan = what,
                                          .heir = heir,
                                          .caller = rig_caller(&r->client[0])};
    r->client[0].flags = PEER_CALL_AGAIN;
    return rig_call(&r->client[0], PROTO_OP_target_plan, &q);
}

static int balance(struct rig *r, bool on)
{
    struct proto_balance_set_request q = {.paused = !on, .caller = rig_caller(&r->client[0])};
    r->client[0].flags = PEER_CALL_AGAIN;
    return rig_call(&r->client[0], PROTO_OP_balance_set, &q);
}

static bool says(struct rig *r, const char *text)
{
    struct proto_status_request q = {.format = PROTO_FORMAT_JSON};
    r->client[0].flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(&r->client[0], PROTO_OP_status, &q));
    const struct proto_status_reply *m = r->client[0].reply;
    return memmem(m->body.at, m->body.len, text, strlen(text)) != NULL;
}

TEST(a_target_is_drained_and_comes_back)
{
    struct rig r;
    start_with(&r, 4, 0);
    size_t had = members_on(&r, r.target[2].id);
    CHECK_TRUE(had > 0);
    CHECK_OK(plan(&r, 2, PROTO_PLAN_DRAIN, 0));
    CHECK_TRUE(says(&r, "\"plan\":\"drains\""));
    watch_for(&r, 2, RIG_SECOND / 2);
    CHECK_TRUE(says(&r, "\"state\":\"moving\""));
    CHECK_TRUE(watch(&r, 2, rig_all_rest));
    CHECK_EQ(members_on(&r, r.target[2].id), 0);
    CHECK_TRUE(r.target[2].revokes >= had);
    CHECK_TRUE(says(&r, "\"moves\":{\"state\":\"done\""));
    watch_for(&r, 2, 20 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[2].id), 0);
    CHECK_TRUE(r.target[2].leased); /* it is well, and empty */
    CHECK_OK(plan(&r, 2, PROTO_PLAN_NORMAL, 0));
    rest_after(&r, 2, RIG_SECOND);
    CHECK_TRUE(members_on(&r, r.target[2].id) + 2 >= had);
    rig_over(&r);
}

/* What is wanted and what is under way is in the records: the next leader goes on. */
TEST(a_drain_goes_on_after_the_server_has_died)
{
    struct rig r;
    start_with(&r, 4, 0);
    CHECK_OK(plan(&r, 0, PROTO_PLAN_DRAIN, 0));
    for (unsigned i = 0; i < 3; i++) {
        watch_for(&r, 2, RIG_SECOND / 3);
        rig_kill(&r);
        rig_serve(&r);
        watch_for(&r, 2, 3 * RIG_SECOND);
    }
    CHECK_TRUE(watch(&r, 2, rig_all_rest));
    CHECK_EQ(members_on(&r, r.target[0].id), 0);
    rig_over(&r);
}

static bool is_removed(void *ctx)
{
    const struct rig *r = ctx;
    const struct metanode_target *t = metanode_target_find(r->m, r->target[3].id);
    return t->plan == PROTO_PLAN_REMOVED;
}

TEST(a_removed_target_is_not_seen_any_more)
{
    struct rig r;
    start_with(&r, 4, 0);
    CHECK_OK(plan(&r, 3, PROTO_PLAN_REMOVE, 0));
    CHECK_TRUE(watch(&r, 2, is_removed));
    CHECK_EQ(members_on(&r, r.target[3].id), 0);
    CHECK_TRUE(says(&r, "target.3"));
    rig_target_kill(&r, 3);
    rig_run(&r, 4 * RIG_SECOND);
    CHECK_TRUE(!says(&r, "target.3"));
    CHECK_TRUE(says(&r, "\"health\":\"healthy\""));
    rig_target_start(&r, 3, false); /* somebody starts it again: it is given nothing */
    watch_for(&r, 2, 10 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[3].id), 0);
    CHECK_TRUE(says(&r, "\"plan\":\"removed\""));
    rig_over(&r);
}

/* It is down: nobody waits for the delay. */
TEST(a_lost_target_is_removed_at_once)
{
    struct rig r;
    start_with(&r, 4, 3600000);
    rig_target_kill(&r, 3);
    watch_for(&r, 1, 4 * RIG_SECOND);
    CHECK_EQ(rig_serving_least(&r), 1);
    CHECK_OK(plan(&r, 3, PROTO_PLAN_REMOVE, 0));
    CHECK_TRUE(watch(&r, 1, is_removed));
    CHECK_TRUE(watch(&r, 2, rig_all_rest));
    rig_over(&r);
}

TEST(a_lost_target_is_rebuilt_after_the_delay)
{
    struct rig r;
    start_with(&r, 4, 20000);
    rig_target_kill(&r, 1);
    watch_for(&r, 1, 15 * RIG_SECOND);
    size_t lost = members_on(&r, r.target[1].id);
    CHECK_TRUE(lost > 0);
    CHECK_EQ(rig_serving_least(&r), 1); /* it may come back */
    CHECK_TRUE(says(&r, "\"lost\":0"));
    rest_after(&r, 1, 10 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[1].id), 0);
    rig_target_start(&r, 1, false); /* and now it does: as an empty one, which gets its share */
    rest_after(&r, 2, 2 * RIG_SECOND);
    CHECK_TRUE(members_on(&r, r.target[1].id) + 2 >= lost);
    rig_over(&r);
}

/* Cut off, not dead: when it is heard again it believes to be a member, and gets no lease by it. */
TEST(who_was_cut_off_meanwhile_learns_that_it_has_left)
{
    struct rig r;
    start_with(&r, 4, 5000);
    CHECK_OK(balance(&r, false));
    r.target[1].cut = r.target[1].deaf = true;
    rest_after(&r, 1, 8 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[1].id), 0);
    r.target[1].leased = false;
    r.target[1].cut = r.target[1].deaf = false;
    r.target[1].blind = true; /* what it was told it has not learned until it says so */
    watch_for(&r, 2, 3 * RIG_SECOND);
    CHECK_TRUE(!r.target[1].leased);
    r.target[1].blind = false;
    watch_for(&r, 2, 3 * RIG_SECOND);
    CHECK_TRUE(r.target[1].leased);
    for (size_t k = 0; k < r.target[1].row_count; k++) {
        const struct cluster_row *row = &r.target[1].row[k];
        CHECK_TRUE(row->born > 1 || cluster_row_find(row, r.target[1].id) == row->count);
    }
    rig_over(&r);
}

/* Earlier versions name for ever what they have left, with the epoch by which they know it. */
TEST(who_knows_that_it_has_left_gets_its_lease_whatever_it_names)
{
    struct rig r;
    start_with(&r, 4, 0);
    r.target[2].early = true;
    CHECK_OK(plan(&r, 2, PROTO_PLAN_DRAIN, 0));
    rest_after(&r, 2, RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[2].id), 0);
    watch_for(&r, 2, 5 * RIG_SECOND);
    CHECK_TRUE(r.target[2].report_count > 0);
    CHECK_TRUE(r.target[2].leased);
    rig_over(&r);
}

TEST(a_new_target_gets_copies_of_old_chains)
{
    struct rig r;
    start_with(&r, 3, 0);
    size_t old = r.m->chains.count, on_old = 0;
    CHECK_OK(balance(&r, false));
    CHECK_TRUE(says(&r, "\"balance\":false"));
    rig_target_start(&r, 3, false);
    watch_for(&r, 2, 10 * RIG_SECOND);
    CHECK_TRUE(r.m->chains.count > old); /* new files use it at once */
    size_t at_first = members_on(&r, r.target[3].id);
    CHECK_EQ(at_first, r.m->chains.count - old);
    CHECK_OK(balance(&r, true));
    rest_after(&r, 2, RIG_SECOND);
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        on_old += row->born == 1 && cluster_row_find(row, r.target[3].id) < row->count;
    }
    CHECK_TRUE(on_old + 1 >= old * 2 / 4 && on_old <= old * 2 / 4 + 1);
    rig_over(&r);
}

TEST(an_heir_replaces_a_target)
{
    struct rig r;
    start_with(&r, 3, 0);
    CHECK_OK(balance(&r, false));
    rig_target_start(&r, 3, false);
    watch_for(&r, 2, 10 * RIG_SECOND);
    r.target[3].id = metanode_target_of(r.m, &r.target[3].uuid)->id;
    CHECK_OK(plan(&r, 0, PROTO_PLAN_REPLACE, r.target[3].id));
    rest_after(&r, 2, RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[0].id), 0);
    CHECK_TRUE(members_on(&r, r.target[3].id) >= CLUSTER_CHAINS_PER_TARGET);
    rig_run(&r, 2 * RIG_SECOND);
    CHECK_EQ(metanode_target_find(r.m, r.target[0].id)->plan, PROTO_PLAN_REMOVED);
    rig_over(&r);
}

/* Nobody can take what is there: it stays, and that is said. */
TEST(without_a_place_to_go_copies_stay)
{
    struct rig r;
    start_with(&r, 2, 0);
    CHECK_OK(plan(&r, 0, PROTO_PLAN_DRAIN, 0));
    watch_for(&r, 2, 10 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[0].id), r.m->chains.count);
    CHECK_TRUE(says(&r, "\"state\":\"stuck\""));
    CHECK_TRUE(says(&r, "there is no target"));
    rig_target_start(&r, 2, false);
    rest_after(&r, 2, 5 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[0].id), 0);
    rig_over(&r);
}

TEST(a_full_target_gets_no_copies)
{
    struct rig r;
    start_with(&r, 3, 0);
    rig_target_start(&r, 3, false);
    r.target[3].low_space = true;
    watch_for(&r, 2, 5 * RIG_SECOND);
    size_t had = members_on(&r, r.target[3].id);
    CHECK_OK(plan(&r, 0, PROTO_PLAN_DRAIN, 0));
    watch_for(&r, 2, 30 * RIG_SECOND);
    CHECK_TRUE(members_on(&r, r.target[3].id) <= had);
    r.target[3].low_space = false;
    rest_after(&r, 2, 5 * RIG_SECOND);
    CHECK_EQ(members_on(&r, r.target[0].id), 0);
    rig_over(&r);
}

/* Chains do without it: it is not to be in new ones either. When it is well it gets its share. */
TEST(a_sick_target_gets_no_chains)
{
    struct rig r;
    start_with(&r, 3, 0);
    CHECK_OK(balance(&r, false));
    size_t had = r.m->chains.count;
    rig_target_start(&r, 3, false);
    r.target[3].sick = "slow";
    watch_for(&r, 2, 10 * RIG_SECOND);
    CHECK_TRUE(metanode_target_find(r.m, r.target[3].id)->ejected);
    CHECK_EQ(members_on(&r, r.target[3].id), 0);
    CHECK_EQ(r.m->chains.count, had);
    r.target[3].sick = NULL;
    watch_for(&r, 2, 10 * RIG_SECOND);
    CHECK_TRUE(members_on(&r, r.target[3].id) > 0);
    CHECK_TRUE(r.m->chains.count > had);
    rig_over(&r);
}

/* Nobody else is there: better two copies, one of them on a sick disk, than none at all. */
TEST(the_first_chains_are_made_with_sick_targets_where_there_are_no_others)
{
    struct rig r;
    rig_new(&r, testing_seed());
    rig_serve(&r);
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 1, false);
    r.target[1].sick = "slow";
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_TRUE(metanode_target_find(r.m, r.target[1].id)->ejected);
    CHECK_TRUE(r.m->chains.count > 0);
    CHECK_EQ(members_on(&r, r.target[1].id), r.m->chains.count);
    CHECK_EQ(rig_serving_least(&r), 1);
    rig_over(&r);
}

static size_t table_of(struct rig *r, uint32_t avoided)
{
    struct proto_cluster_map_request q = {0};
    r->client[0].flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(&r->client[0], PROTO_OP_cluster_map, &q));
    const struct proto_cluster_map_reply *map = r->client[0].reply;
    const struct proto_table *newest = &map->tables.at[map->tables.count - 1];
    for (size_t i = 0; i < map->tables.count; i++) {
        newest = map->tables.at[i].version > newest->version ? &map->tables.at[i] : newest;
    }
    for (size_t i = 0; i < newest->chains.count; i++) {
        const struct metanode_chain *c = metanode_chain_find(r->m, newest->chains.at[i]);
        CHECK_TRUE(avoided == 0 || cluster_row_find(&c->row, avoided) == c->row.count);
    }
    return newest->chains.count;
}

/* New files do not go where there is no room; and do again, but not with every breath. */
TEST(new_files_avoid_full_targets)
{
    struct rig r;
    start_with(&r, 4, 0);
    size_t all = r.m->chains.count;
    CHECK_EQ(table_of(&r, 0), all);
    CHECK_OK(balance(&r, false));
    r.target[2].low_space = true;
    watch_for(&r, 2, 5 * RIG_SECOND);
    size_t left = table_of(&r, r.target[2].id);
    CHECK_TRUE(left > 0 && left < all);
    r.target[2].low_space = false;
    watch_for(&r, 2, 5 * RIG_SECOND);
    CHECK_EQ(table_of(&r, 0), left);
    rig_run(&r, 600 * RIG_SECOND);
    CHECK_EQ(table_of(&r, 0), all);
    CHECK_EQ(r.m->chains.count, all);
    for (unsigned i = 0; i < 4; i++) {
        r.target[i].low_space = true;
    }
    rig_run(&r, 700 * RIG_SECOND);
    CHECK_EQ(table_of(&r, 0), all); /* nothing else is left */
    rig_over(&r);
}

/* --- who dies, or is not let in, before it is a copy ----------------------------------------- */

static struct metanode_chain *chain_of(const struct rig *r, unsigned a, unsigned b)
{
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        if (cluster_row_find(&c->row, r->target[a].id) < c->row.count &&
            cluster_row_find(&c->row, r->target[b].id) < c->row.count) {
            return c;
        }
    }
    return NULL;
}

static bool is_changing(void *ctx)
{
    return ((const struct metanode_chain *)ctx)->proposing;
}

static bool has_three(void *ctx)
{
    return ((const struct metanode_chain *)ctx)->row.count == 3;
}

static bool is_whole(void *ctx)
{
    return cluster_row_serving_count(&((const struct metanode_chain *)ctx)->row) == 2;
}

/* As metanode_exited(): its master has said so. */
static void end_in(void *ctx)
{
    struct metanode_target *t = ctx;
    t->registered = false;
    loop_timer_cancel(t->m->env->loop, &t->expiry);
    metanode_target_gone(t, "its process has ended");
}

/* Of a chain of targets 0 and 1 only the first is left, and only target 2 may get the copy. */
static struct metanode_chain *lose_one(struct rig *r)
{
    start_with(r, 4, 20000);
    CHECK_OK(balance(r, false));
    r->target[3].low_space = true;
    struct metanode_chain *c = chain_of(r, 0, 1);
    CHECK_TRUE(c != NULL);
    rig_target_kill(r, 1);
    rig_run(r, 10 * RIG_SECOND);
    CHECK_EQ(cluster_row_serving_count(&c->row), 1);
    return c;
}

/* It ends between the plan and the row with it: nobody will say any more that it is gone. */
TEST(who_dies_while_it_joins_does_not_keep_others_out)
{
    struct rig r;
    struct metanode_chain *c = lose_one(&r);
    CHECK_TRUE(rig_until(&r, is_changing, c));
    CHECK_EQ(c->row.count, 2);
    rig_target_kill(&r, 2);
    loop_sim_enter(r.loop, end_in, metanode_target_find(r.m, r.target[2].id));
    CHECK_TRUE(rig_until(&r, has_three, c));
    rig_run(&r, RIG_SECOND);
    size_t i = cluster_row_find(&c->row, r.target[2].id);
    CHECK_TRUE(i < c->row.count);
    CHECK_EQ(c->row.member[i].state, PROTO_MEMBER_OFFLINE);
    r.target[3].low_space = false;
    CHECK_TRUE(rig_until(&r, is_whole, c));
    CHECK_TRUE(cluster_row_find(&c->row, r.target[3].id) < 2);
    rig_over(&r);
}

static bool is_growing(void *ctx)
{
    const struct rig *r = ctx;
    return r->m->tables.growing && r->m->targets.count == 4;
}

static bool has_grown(void *ctx)
{
    const struct rig *r = ctx;
    return members_on(r, r->target[3].id) > 0;
}

/* The same with a table: its new chains begin with somebody who is not there any more. */
TEST(who_dies_while_it_is_placed_is_not_taken_for_one_that_serves)
{
    struct rig r;
    start_with(&r, 3, 0);
    CHECK_OK(balance(&r, false));
    disk_sim_slow(r.disk, 50 * METANODE_NS_PER_MS);
    rig_target_start(&r, 3, false);
    CHECK_TRUE(rig_until(&r, is_growing, &r));
    rig_run(&r, 20 * METANODE_NS_PER_MS);
    rig_target_kill(&r, 3);
    r.target[3].id = metanode_target_of(r.m, &r.target[3].uuid)->id;
    CHECK_EQ(members_on(&r, r.target[3].id), 0);
    loop_sim_enter(r.loop, end_in, metanode_target_find(r.m, r.target[3].id));
    CHECK_TRUE(rig_until(&r, has_grown, &r));
    rig_run(&r, 3 * RIG_SECOND);
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        size_t i = cluster_row_find(row, r.target[3].id);
        CHECK_TRUE(i == row->count || row->member[i].state == PROTO_MEMBER_OFFLINE);
    }
    rig_over(&r);
}

/* Alive, and not let in as long as its disk is sick. */
TEST(who_is_ejected_while_it_waits_does_not_keep_others_out)
{
    struct rig r;
    struct metanode_chain *c = lose_one(&r);
    r.target[2].blind = r.target[2].deaf = true; /* so it waits */
    CHECK_TRUE(rig_until(&r, has_three, c));
    r.target[2].sick = "slow";
    rig_run(&r, RIG_SECOND / 2);
    r.target[2].blind = r.target[2].deaf = false;
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_TRUE(metanode_target_find(r.m, r.target[2].id)->ejected);
    size_t i = cluster_row_find(&c->row, r.target[2].id);
    CHECK_TRUE(i < c->row.count);
    CHECK_EQ(c->row.member[i].state, PROTO_MEMBER_WAITING);
    r.target[3].low_space = false;
    CHECK_TRUE(rig_until(&r, is_whole, c));
    CHECK_TRUE(cluster_row_find(&c->row, r.target[3].id) < 2);
    rig_over(&r);
}

/* Its chains have seen its new life: the next heartbeat has that recorded. */
static bool is_to_be_recorded(void *ctx)
{
    const struct rig *r = ctx;
    const struct metanode_target *t = metanode_target_find(r->m, r->target[0].id);
    return t->incarnation != t->logged && metanode_chains_settled(r->m, t->id, false);
}

static bool is_writing(void *ctx)
{
    return !list_empty(&((const struct rig *)ctx)->m->targets.writes);
}

static void beat_in(void *ctx)
{
    struct rig_target *t = ctx;
    loop_timer_in(t->env.loop, &t->timer, 0);
}

/* Both are in the record of the target, and neither takes back what the other says. */
TEST(a_plan_and_a_new_life_do_not_revert_each_other)
{
    struct rig r;
    start_with(&r, 2, 0);
    disk_sim_slow(r.disk, 20 * METANODE_NS_PER_MS); /* so that both are under way at a time */
    for (unsigned i = 0; i < 4; i++) {
        struct proto_target_plan_request q = {.target = r.target[0].id,
                                              .plan = i < 2 ? PROTO_PLAN_DRAIN : PROTO_PLAN_NORMAL};
        rig_target_kill(&r, 0);
        rig_target_start(&r, 0, false);
        CHECK_TRUE(rig_until(&r, is_to_be_recorded, &r));
        q.caller = rig_caller(&r.client[0]);
        r.client[0].flags = PEER_CALL_AGAIN;
        if (i % 2 == 0) { /* the plan is written first, or the new life */
            rig_begin(&r.client[0], PROTO_OP_target_plan, &q);
        }
        CHECK_TRUE(rig_until(&r, is_writing, &r));
        if (i % 2 == 0) {
            loop_sim_enter(r.target[0].env.loop, beat_in, &r.target[0]);
        } else {
            rig_begin(&r.client[0], PROTO_OP_target_plan, &q);
        }
        CHECK_OK(rig_end(&r.client[0]));
        rig_run(&r, RIG_SECOND);
        const struct metanode_target *t = metanode_target_find(r.m, r.target[0].id);
        CHECK_EQ(t->plan, q.plan);
        CHECK_EQ(t->logged, r.target[0].incarnation);
        rig_run(&r, RIG_SECOND);
        CHECK_TRUE(r.target[0].leased);
    }
    rig_over(&r);
}

TEST(only_root_plans_and_only_what_makes_sense)
{
    struct rig r;
    start_with(&r, 2, 0);
    CHECK_RC(plan(&r, 0, PROTO_PLAN_REMOVED, 0), EINVAL);
    CHECK_RC(plan(&r, 0, PROTO_PLAN_REPLACE, 0), EINVAL);
    CHECK_RC(plan(&r, 0, PROTO_PLAN_REPLACE, r.target[0].id), EINVAL);
    CHECK_RC(plan(&r, 0, PROTO_PLAN_REPLACE, 999), ENOENT);
    CHECK_RC(plan(&r, 0, PROTO_PLAN_DRAIN, r.target[1].id), EINVAL);
    r.target[3].id = 999;
    CHECK_RC(plan(&r, 3, PROTO_PLAN_DRAIN, 0), ENOENT);
    CHECK_OK(rig_credential(&r.client[0], 1000));
    CHECK_RC(plan(&r, 0, PROTO_PLAN_DRAIN, 0), EPERM);
    CHECK_RC(balance(&r, false), EPERM);
    rig_over(&r);
}

/* Root at a client may set what targets are placed by; others may not. */
TEST(only_root_sets_weight_and_labels)
{
    struct rig r;
    start_with(&r, 2, 0);
    struct proto_target_set_request q = {.target = r.target[0].id,
                                         .mask = PROTO_TARGET_SET_WEIGHT,
                                         .weight = 7,
                                         .caller = rig_caller(&r.client[0])};
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_target_set, &q));
    CHECK_EQ(metanode_target_find(r.m, q.target)->weight, 7);
    q.weight = UINT32_MAX;
    CHECK_RC(rig_call(&r.client[0], PROTO_OP_target_set, &q), EINVAL);
    q.weight = 9;
    CHECK_OK(rig_credential(&r.client[0], 1000));
    q.caller = rig_caller(&r.client[0]);
    CHECK_RC(rig_call(&r.client[0], PROTO_OP_target_set, &q), EPERM);
    CHECK_EQ(metanode_target_find(r.m, q.target)->weight, 7);
    rig_over(&r);
}

static int set_target(struct rig *r, const struct proto_target_set_request *q)
{
    r->client[1].flags = PEER_CALL_AGAIN;
    return rig_call(&r->client[1], PROTO_OP_target_set, q);
}

/* What an administrator sets of a target that is registered counts at once, and for good. */
TEST(weight_and_labels_that_are_changed_move_copies)
{
    struct rig r;
    start_with(&r, 4, 600000);
    rig_admin_start(&r, 1);
    struct proto_target_set_request q = {.mask = PROTO_TARGET_SET_LABELS,
                                         .labels = proto_bytes_text("ssd")};
    for (unsigned i = 0; i < 4; i++) {
        q.target = r.target[i].id;
        CHECK_OK(set_target(&r, &q));
    }
    struct proto_class_create_request create = {.storage_class = {.name = proto_bytes_text("fast"),
                                                                  .copies = 2,
                                                                  .labels = proto_bytes_text("ssd"),
                                                                  .chunk_size = 4u << 20},
                                                .caller = rig_caller(&r.client[0])};
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_class_create, &create));
    rest_after(&r, 2, 10 * RIG_SECOND);
    uint32_t lost = r.target[0].id;
    size_t all = members_on(&r, lost);
    /* It suits the class no more: only its chains of the default class stay. */
    q = (struct proto_target_set_request){
        .target = lost, .mask = PROTO_TARGET_SET_LABELS, .labels = proto_bytes_text("")};
    CHECK_OK(set_target(&r, &q));
    rest_after(&r, 2, 60 * RIG_SECOND);
    CHECK_TRUE(members_on(&r, lost) > 0 && members_on(&r, lost) < all);
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        CHECK_TRUE(row->class_id == 1 || cluster_row_find(row, lost) == row->count);
    }
    /* Of weight 0 it is emptied, and stays so in its next life, whatever it says then. */
    q = (struct proto_target_set_request){
        .target = lost, .mask = PROTO_TARGET_SET_WEIGHT, .weight = 0};
    CHECK_OK(set_target(&r, &q));
    rest_after(&r, 2, 60 * RIG_SECOND);
    CHECK_EQ(members_on(&r, lost), 0);
    rig_target_kill(&r, 0);
    rig_run(&r, 5 * RIG_SECOND);
    rig_target_start(&r, 0, false);
    rest_after(&r, 2, 20 * RIG_SECOND);
    CHECK_EQ(members_on(&r, lost), 0);
    q.weight = 100;
    CHECK_OK(set_target(&r, &q));
    rest_after(&r, 2, 60 * RIG_SECOND);
    CHECK_TRUE(members_on(&r, lost) > 0);
    rig_over(&r);
}

static bool something_is_left(void *ctx)
{
    const struct rig *r = ctx;
    uint64_t ms;
    return metanode_moves_left(r->m, &ms) > 0;
}

/* How long it takes follows from bytes: what is used on a target belongs to its chains. */
TEST(the_time_that_moves_take_is_reckoned_in_bytes)
{
    struct rig r;
    start_with(&r, 4, 600000);
    for (unsigned i = 0; i < 4; i++) {
        r.target[i].used = UINT64_C(64) << 20;
    }
    rig_run(&r, 3 * RIG_SECOND);
    size_t chains = members_on(&r, r.target[0].id);
    CHECK_OK(plan(&r, 0, PROTO_PLAN_DRAIN, 0));
    CHECK_TRUE(rig_until(&r, something_is_left, &r));
    uint64_t left = r.m->moves.left_bytes, all = UINT64_C(64) << 20;
    CHECK_TRUE(chains > 0 && left > all / 2 && left < all * 2);
    struct metanode_moves *x = &r.m->moves;
    x->done = 1; /* one large one of some, and small ones are left */
    x->done_bytes = left * 10;
    x->begun_ns = metanode_now(r.m) - 100 * RIG_SECOND;
    uint64_t ms;
    CHECK_TRUE(metanode_moves_left(r.m, &ms) > 1);
    CHECK_TRUE(ms >= 9900 && ms <= 10100);
    rest_after(&r, 2, 20 * RIG_SECOND);
    rig_over(&r);
}

/* Nothing is done yet, or it went faster before: it takes as long as the targets may take that have
 * the copies. */
TEST(the_time_that_moves_take_follows_from_the_rates_of_the_sources)
{
    struct rig r;
    start_with(&r, 4, 600000);
    for (unsigned i = 0; i < 4; i++) {
        r.target[i].used = UINT64_C(64) << 20;
        struct metanode_target *t = metanode_target_find(r.m, r.target[i].id);
        t->has_figures = true;
        t->figures.move_rate = 1u << 20;
    }
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_OK(plan(&r, 0, PROTO_PLAN_DRAIN, 0));
    CHECK_TRUE(rig_until(&r, something_is_left, &r));
    uint64_t ms, all_ms = r.m->moves.left_bytes * 1000 >> 20;
    CHECK_EQ(r.m->moves.done, 0);
    CHECK_TRUE(metanode_moves_left(r.m, &ms) > 1);
    CHECK_TRUE(all_ms > 30000 && ms >= all_ms / 4 && ms <= all_ms);
    rest_after(&r, 2, 20 * RIG_SECOND);
    CHECK_EQ(metanode_moves_left(r.m, &ms), 0);
    CHECK_EQ(ms, 0);
    rig_over(&r);
}
