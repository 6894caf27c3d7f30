/*
 * metanode/rack_test.c -- racks as failure domains: copies lie in different ones, a whole one may
 * be lost, what is put together for want of a place moves apart again.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_chains_priv.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

static const char *rack_of(const struct rig *r, uint32_t target)
{
    const struct metanode_target *t = metanode_target_find(r->m, target);
    CHECK_TRUE(t != NULL);
    return t->rack;
}

/* Chains with two members in one rack. */
static size_t clashing(const struct rig *r)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        bool same = false;
        for (size_t i = 0; i < row->count; i++) {
            for (size_t j = 0; j < i; j++) {
                same = same || strcmp(rack_of(r, row->member[i].target),
                                      rack_of(r, row->member[j].target)) == 0;
            }
        }
        n += same ? 1 : 0;
    }
    return n;
}

static bool are_apart(void *ctx)
{
    return rig_all_rest(ctx) && clashing(ctx) == 0;
}

/* Two racks of two targets. */
static void start_racks(struct rig *r, uint64_t rebuild_ms)
{
    static const char *const racks[RIG_TARGETS] = {"a", "a", "b", "b"};
    rig_new(r, testing_seed());
    r->opt.failure_domain = PROTO_DOMAIN_RACK;
    r->opt.rebuild_ms = rebuild_ms;
    rig_serve(r);
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        r->target[i].rack = racks[i];
        rig_target_start(r, i, false);
    }
    CHECK_TRUE(rig_until(r, rig_all_rest, r));
    rig_run(r, 4 * RIG_SECOND);
    CHECK_EQ(clashing(r), 0);
}

static bool says(struct rig *r, uint8_t format, const char *text)
{
    struct proto_status_request q = {.format = format};
    if (r->client[0].peer == NULL) {
        rig_client_ready(r, 0);
    }
    r->client[0].flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(&r->client[0], PROTO_OP_status, &q));
    const struct proto_status_reply *m = r->client[0].reply;
    return memmem(m->body.at, m->body.len, text, strlen(text)) != NULL;
}

TEST(a_whole_rack_may_be_lost)
{
    struct rig r;
    start_racks(&r, 0);
    CHECK_TRUE(says(&r, PROTO_FORMAT_JSON, "\"rack\":\"b\""));
    CHECK_TRUE(says(&r, PROTO_FORMAT_TEXT, ", rack a: "));
    rig_target_kill(&r, 0);
    rig_target_kill(&r, 1);
    rig_run(&r, 5 * RIG_SECOND);
    CHECK_EQ(rig_serving_least(&r), 1); /* every chain goes on, on the other rack */
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        CHECK_EQ(cluster_row_serving_count(&c->row), 1);
        CHECK_TEXT(rack_of(&r, c->row.member[0].target), "b");
        CHECK_EQ(c->row.loss_gen, 0);
    }
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 1, false);
    CHECK_TRUE(rig_until(&r, are_apart, &r));
    rig_over(&r);
}

/* Copies in one rack are better than one copy; and they move apart when there is a place. */
TEST(a_lost_rack_is_rebuilt_where_there_is_room_and_moves_apart_again)
{
    struct rig r;
    start_racks(&r, 1000);
    rig_target_kill(&r, 2);
    rig_target_kill(&r, 3);
    rig_run(&r, 5 * RIG_SECOND);
    CHECK_TRUE(rig_until(&r, rig_all_rest, &r));
    CHECK_EQ(clashing(&r), r.m->chains.count);
    CHECK_TRUE(says(&r, PROTO_FORMAT_JSON, "more than one copy in one failure domain"));
    rig_target_start(&r, 2, false);
    rig_target_start(&r, 3, false);
    CHECK_TRUE(rig_until(&r, are_apart, &r));
    CHECK_TRUE(!says(&r, PROTO_FORMAT_JSON, "more than one copy in one failure domain"));
    rig_over(&r);
}

/* Its configuration says so; what that makes clash moves apart. Without one it stays where it was.
 */
TEST(a_target_moves_to_another_rack)
{
    struct rig r;
    start_racks(&r, 0);
    rig_target_kill(&r, 2);
    r.target[2].rack = "a";
    rig_target_start(&r, 2, false);
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_TEXT(rack_of(&r, r.target[2].id), "a");
    CHECK_TRUE(rig_until(&r, are_apart, &r));
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        CHECK_TRUE(cluster_row_find(&c->row, r.target[3].id) < c->row.count);
    }
    rig_target_kill(&r, 2);
    r.target[2].rack = NULL;
    rig_target_start(&r, 2, false);
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_TEXT(rack_of(&r, r.target[2].id), "a");
    rig_kill(&r);
    rig_serve(&r);
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_TEXT(rack_of(&r, r.target[2].id), "a");
    rig_over(&r);
}

/* With fewer racks than copies there is no place for a chain: it is said what is missing. */
TEST(too_few_racks_are_named)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.failure_domain = PROTO_DOMAIN_RACK;
    rig_serve(&r);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].rack = i < 2 ? "a" : "b";
    }
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 1, false);
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_EQ(r.m->chains.count, 0);
    CHECK_TRUE(says(&r, PROTO_FORMAT_JSON, "2 targets in 1 of the 2 racks that 2 copies need"));
    rig_target_start(&r, 2, false);
    CHECK_TRUE(rig_until(&r, are_apart, &r));
    rig_over(&r);
}
