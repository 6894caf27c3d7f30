/*
 * metanode/promote_test.c -- chains whose newest copies are lost: an old one is promoted by an
 * administrator, and only when nothing else helps; what comes back later is neither used nor
 * changed before he says so (chain.md, R3).
 */
#include "metanode/promote_priv.h"

#include "metanode/rig_chains_priv.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

static struct metanode_chain *chain_of(struct rig *r, uint32_t id)
{
    struct metanode_chain *c = metanode_chain_find(r->m, id);
    CHECK_TRUE(c != NULL);
    return c;
}
static struct metanode_chain *first_chain(struct rig *r)
{
    return LIST_ENTRY(r->m->chains.all.next, struct metanode_chain, all);
}
static const struct cluster_member *member(struct rig *r, uint32_t chain, unsigned target)
{
    const struct cluster_row *row = &chain_of(r, chain)->row;
    size_t i = cluster_row_find(row, r->target[target].id);
    CHECK_TRUE(i < row->count);
    return &row->member[i];
}
static enum proto_member_state state(struct rig *r, uint32_t chain, unsigned target)
{
    return member(r, chain, target)->state;
}

/* As many copies as targets; then the last ones leave, one after the other, and all others
 * together. Dark for longer than is waited; those in `back` are there again. */
static void lose(struct rig *r, unsigned targets, unsigned old, uint64_t rebuild_ms)
{
    rig_new(r, testing_seed());
    r->opt.copies = targets;
    r->opt.rebuild_ms = rebuild_ms;
    rig_serve(r);
    for (unsigned i = 0; i < targets; i++) {
        rig_target_start(r, i, false);
    }
    CHECK_TRUE(rig_reach(r, targets));
    rig_run(r, 2 * RIG_SECOND);
    for (unsigned i = 1; i <= old; i++) {
        rig_target_kill(r, targets - i);
        rig_run(r, 4 * RIG_SECOND);
    }
    for (unsigned i = 0; i < targets - old; i++) {
        rig_target_kill(r, i);
    }
    rig_run(r, 4 * RIG_SECOND);
    for (unsigned i = 1; i <= old; i++) {
        rig_target_start(r, targets - i, false);
    }
    rig_run(r, 3 * RIG_SECOND);
}
static void wait_dark(struct rig *r)
{
    rig_run(r, 9 * RIG_SECOND);
    struct rig_serving none = {.rig = r, .count = 0};
    CHECK_TRUE(rig_all_serve(&none));
}

static struct proto_chain_order_request order_of(struct rig *r, uint8_t action, uint32_t chain,
                                                 unsigned target)
{
    return (struct proto_chain_order_request){.caller = rig_caller(&r->client[0]),
                                              .action = action,
                                              .chain = chain,
                                              .epoch = chain_of(r, chain)->row.epoch,
                                              .target = r->target[target].id};
}
static void ready(struct rig *r, unsigned client)
{
    if (r->client[client].peer == NULL) {
        rig_client_ready(r, client);
    }
}
static int send_order(struct rig *r, struct proto_chain_order_request *q)
{
    ready(r, 0);
    q->caller = rig_caller(&r->client[0]);
    r->client[0].flags = PEER_CALL_AGAIN;
    return rig_call(&r->client[0], PROTO_OP_chain_order, q);
}
static int promote(struct rig *r, uint32_t chain, unsigned target)
{
    struct proto_chain_order_request q = order_of(r, PROTO_CHAIN_PROMOTE, chain, target);
    return send_order(r, &q);
}
static int discard(struct rig *r, uint32_t chain, unsigned target)
{
    struct proto_chain_order_request q = order_of(r, PROTO_CHAIN_DISCARD, chain, target);
    return send_order(r, &q);
}
static bool says_in(struct rig *r, uint8_t format, const char *text)
{
    struct proto_status_request q = {.format = format};
    ready(r, 1);
    r->client[1].flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(&r->client[1], PROTO_OP_status, &q));
    const struct proto_status_reply *m = r->client[1].reply;
    return memmem(m->body.at, m->body.len, text, strlen(text)) != NULL;
}
static bool says(struct rig *r, const char *text)
{
    return says_in(r, PROTO_FORMAT_JSON, text);
}

/* ---- The order ------------------------------------------------------------------------------- */

TEST(an_old_copy_serves_when_an_administrator_says_so)
{
    struct rig r;
    char command[64];
    lose(&r, 3, 1, 0);
    uint32_t chain = first_chain(&r)->row.chain;
    uint32_t left = member(&r, chain, 2)->left_epoch;
    CHECK_EQ(state(&r, chain, 0), PROTO_MEMBER_LAST_SERVING);
    CHECK_EQ(state(&r, chain, 2), PROTO_MEMBER_WAITING);
    CHECK_TRUE(left > 0 && left < member(&r, chain, 0)->left_epoch);
    CHECK_TRUE(member(&r, chain, 2)->left_ms > 0);
    CHECK_TRUE(!says(&r, "opendfs chain promote")); /* those that have all may come any moment */
    wait_dark(&r);
    (void)snprintf(command, sizeof command, "\"command\":\"opendfs chain promote target.2 %u\"",
                   chain);
    CHECK_TRUE(says(&r, command));
    CHECK_TRUE(says(&r, "Only when none of them will ever come back: `opendfs chain promote"));
    CHECK_TRUE(says_in(&r, PROTO_FORMAT_TEXT, "opendfs chain promote target.2"));
    uint32_t epoch = chain_of(&r, chain)->row.epoch;
    CHECK_OK(promote(&r, chain, 2));
    const struct cluster_row *row = &chain_of(&r, chain)->row;
    CHECK_EQ(row->epoch, epoch + 1);
    CHECK_EQ(row->loss_gen, 1);
    CHECK_EQ(row->promotion.target, r.target[2].id);
    CHECK_EQ(row->promotion.of_epoch, left);
    CHECK_TRUE(row->promotion.time_ms >= row->promotion.of_ms);
    CHECK_EQ(state(&r, chain, 2), PROTO_MEMBER_SERVING);
    CHECK_TRUE(member(&r, chain, 0)->aside && member(&r, chain, 1)->aside);
    rig_run(&r, 2 * RIG_SECOND);
    CHECK_TRUE(r.target[2].leased);
    CHECK_TRUE(says(&r, "opendfs chain discard target."));
    CHECK_TRUE(says(&r, "\"aside\":[{\"chain\":"));
    rig_over(&r);
}

TEST(a_promotion_is_refused_when_another_way_loses_less)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.copies = 3;
    rig_serve(&r);
    for (unsigned i = 0; i < 3; i++) {
        rig_target_start(&r, i, false);
    }
    CHECK_TRUE(rig_reach(&r, 3));
    uint32_t chain = first_chain(&r)->row.chain;
    CHECK_RC(promote(&r, chain, 0), EBUSY); /* it serves */
    rig_target_kill(&r, 2);
    rig_run(&r, 4 * RIG_SECOND);
    CHECK_RC(promote(&r, chain, 2), EBUSY); /* others do */
    CHECK_RC(discard(&r, chain, 2), EINVAL);
    rig_target_kill(&r, 0);
    rig_target_kill(&r, 1);
    rig_run(&r, 4 * RIG_SECOND);
    rig_target_start(&r, 2, false);
    r.target[2].part = true;
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_RC(promote(&r, chain, 2), EBUSY); /* too early */
    wait_dark(&r);
    CHECK_RC(promote(&r, chain, 2), EINVAL); /* what it lacks would be zeros */
    CHECK_TRUE(!says(&r, "opendfs chain promote"));
    r.target[2].part = false;
    r.target[2].silent = true;
    rig_run(&r, RIG_SECOND);
    CHECK_RC(promote(&r, chain, 2), EBUSY);
    r.target[2].silent = false;
    rig_run(&r, RIG_SECOND);
    CHECK_RC(promote(&r, chain, 0), EBUSY); /* of the set: it needs no order */
    r.target[3].id = 999;
    CHECK_RC(promote(&r, chain, 3), ENOENT);
    rig_target_start(&r, 0, true); /* lossy: it is waited for the other one first (R3) */
    rig_run(&r, RIG_SECOND / 2);
    CHECK_EQ(chain_of(&r, chain)->row.loss_gen,
             cluster_row_serving_count(&chain_of(&r, chain)->row) > 0 ? 1 : 0);
    CHECK_RC(promote(&r, chain, 2), EBUSY);
    rig_over(&r);
}

TEST(an_order_is_for_root_and_about_what_was_seen)
{
    struct rig r;
    lose(&r, 3, 1, 0);
    wait_dark(&r);
    uint32_t chain = first_chain(&r)->row.chain;
    struct proto_chain_order_request q = order_of(&r, PROTO_CHAIN_PROMOTE, chain, 2);
    q.epoch--;
    CHECK_RC(send_order(&r, &q), ESTALE);
    q.epoch += 2;
    CHECK_RC(send_order(&r, &q), ESTALE);
    q.epoch--;
    q.chain = 9999;
    CHECK_RC(send_order(&r, &q), ENOENT);
    q.chain = chain;
    q.action = 0;
    CHECK_RC(send_order(&r, &q), EINVAL);
    q.action = 77;
    CHECK_RC(send_order(&r, &q), EINVAL);
    q.action = PROTO_CHAIN_PROMOTE;
    ready(&r, 0);
    uint32_t root = r.client[0].cred;
    CHECK_OK(rig_credential(&r.client[0], 1000));
    q.caller = rig_caller(&r.client[0]);
    CHECK_RC(rig_call(&r.client[0], PROTO_OP_chain_order, &q), EPERM);
    r.client[0].cred = root;
    CHECK_EQ(chain_of(&r, chain)->row.loss_gen, 0);
    CHECK_OK(send_order(&r, &q));
    CHECK_OK(send_order(&r, &q)); /* its answer was lost, say */
    CHECK_EQ(chain_of(&r, chain)->row.loss_gen, 1);
    rig_run(&r, RIG_SECOND);
    CHECK_OK(send_order(&r, &q)); /* and the row has changed since */
    CHECK_EQ(chain_of(&r, chain)->row.loss_gen, 1);
    rig_over(&r);
}

/* Who left later has all that the others have. */
TEST(the_newest_of_old_copies_is_promoted)
{
    struct rig r;
    lose(&r, 4, 2, 0);
    wait_dark(&r);
    uint32_t chain = first_chain(&r)->row.chain;
    CHECK_TRUE(member(&r, chain, 2)->left_epoch > member(&r, chain, 3)->left_epoch);
    CHECK_RC(promote(&r, chain, 3), EINVAL);
    CHECK_OK(promote(&r, chain, 2));
    CHECK_TRUE(!member(&r, chain, 3)->aside); /* it has nothing that the other has not */
    rig_run(&r, 3 * RIG_SECOND);
    CHECK_EQ(state(&r, chain, 3), PROTO_MEMBER_SERVING);
    rig_over(&r);
}

/* ---- What comes back ------------------------------------------------------------------------- */

/* It has what the promoted one lacks: nobody reads it, nobody overwrites it, no move takes it away,
 * however long it is there; and the chain gets its copies elsewhere. */
TEST(newer_copies_that_come_back_are_left_alone)
{
    struct rig r;
    lose(&r, 3, 1, 1000);
    wait_dark(&r);
    uint32_t chain = first_chain(&r)->row.chain;
    CHECK_OK(promote(&r, chain, 2));
    rig_target_start(&r, 0, false);
    rig_target_start(&r, 3, false);
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(state(&r, chain, 0), PROTO_MEMBER_OFFLINE);
    CHECK_TRUE(member(&r, chain, 0)->aside && member(&r, chain, 1)->aside);
    CHECK_EQ(state(&r, chain, 2), PROTO_MEMBER_SERVING);
    CHECK_EQ(state(&r, chain, 3), PROTO_MEMBER_SERVING);
    CHECK_TRUE(r.target[0].leased); /* for what it serves elsewhere: */
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        CHECK_TRUE(c->row.chain == chain || c->row.loss_gen == 0); /* T2, without any order */
        CHECK_TRUE(cluster_row_serving_count(&c->row) > 0);
    }
    rig_kill(&r); /* what is aside is in the log */
    rig_serve(&r);
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_TRUE(member(&r, chain, 0)->aside && member(&r, chain, 1)->aside);
    CHECK_OK(discard(&r, chain, 0));
    CHECK_TRUE(!member(&r, chain, 0)->aside);
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_EQ(state(&r, chain, 0), PROTO_MEMBER_SERVING);
    CHECK_OK(discard(&r, chain, 1)); /* it never comes back: as any that is lost */
    rig_run(&r, 10 * RIG_SECOND);
    const struct cluster_row *row = &chain_of(&r, chain)->row;
    CHECK_EQ(cluster_row_find(row, r.target[1].id), row->count);
    CHECK_EQ(cluster_row_serving_count(row), 3);
    CHECK_TRUE(says(&r, "\"aside\":[]"));
    rig_over(&r);
}

/* Does this target believe that it serves the chain, and may it by its own clock? */
static bool believes(const struct rig_target *t, uint32_t chain)
{
    bool serves = false;
    for (size_t k = 0; k < t->row_count; k++) {
        size_t own = cluster_row_find(&t->row[k], t->id);
        serves = serves || (t->row[k].chain == chain && own < t->row[k].count &&
                            t->row[k].member[own].state == PROTO_MEMBER_SERVING);
    }
    return serves && t->leased && loop_now_ns(t->env.loop) < t->leased_until_ns;
}
struct fencing {
    struct rig *rig;
    uint32_t chain;
};
static bool only_one_serves(void *ctx)
{
    const struct fencing *f = ctx;
    CHECK_TRUE(!believes(&f->rig->target[0], f->chain));
    return false;
}

/* It has never stopped, and knows nothing of all that when its heartbeats arrive again (R7, R9). */
TEST(one_that_was_only_cut_off_serves_no_more)
{
    struct rig r;
    rig_new(&r, testing_seed());
    r.opt.copies = 3;
    rig_serve(&r);
    for (unsigned i = 0; i < 3; i++) {
        rig_target_start(&r, i, false);
    }
    CHECK_TRUE(rig_reach(&r, 3));
    rig_run(&r, 2 * RIG_SECOND);
    rig_target_kill(&r, 2);
    rig_run(&r, 4 * RIG_SECOND);
    struct fencing f = {.rig = &r, .chain = first_chain(&r)->row.chain};
    CHECK_TRUE(believes(&r.target[0], f.chain));
    r.target[0].cut = true;
    rig_target_kill(&r, 1);
    rig_run(&r, 4 * RIG_SECOND);
    rig_target_start(&r, 2, false);
    rig_run(&r, 3 * RIG_SECOND);
    wait_dark(&r);
    CHECK_OK(promote(&r, f.chain, 2));
    r.target[0].cut = false;
    (void)loop_sim_run(r.sim, only_one_serves, &f, loop_sim_now_ns(r.sim) + 10 * RIG_SECOND);
    CHECK_TRUE(member(&r, f.chain, 0)->aside);
    CHECK_TRUE(r.target[0].leased);
    CHECK_EQ(state(&r, f.chain, 2), PROTO_MEMBER_SERVING);
    rig_over(&r);
}

/* What was promoted is lost as well: then the newer one may serve, but only by another order. */
TEST(what_was_set_aside_may_be_promoted_later)
{
    struct rig r;
    lose(&r, 3, 1, 0);
    wait_dark(&r);
    uint32_t chain = first_chain(&r)->row.chain;
    CHECK_OK(promote(&r, chain, 2));
    rig_target_start(&r, 0, false);
    rig_run(&r, 4 * RIG_SECOND);
    rig_target_kill(&r, 2);
    rig_run(&r, 14 * RIG_SECOND);
    CHECK_EQ(state(&r, chain, 2), PROTO_MEMBER_LAST_SERVING);
    CHECK_EQ(state(&r, chain, 0), PROTO_MEMBER_OFFLINE);
    CHECK_RC(discard(&r, chain, 0), EBUSY); /* it may be needed */
    CHECK_OK(promote(&r, chain, 0));
    CHECK_EQ(state(&r, chain, 0), PROTO_MEMBER_SERVING);
    CHECK_TRUE(member(&r, chain, 2)->aside);
    CHECK_EQ(chain_of(&r, chain)->row.loss_gen, 2);
    rig_over(&r);
}

/* ---- Leaders --------------------------------------------------------------------------------- */

/* The leader dies at any moment of it: it happens once, or not at all. */
TEST(a_promotion_survives_a_change_of_the_leader)
{
    unsigned at_once = 0;
    for (unsigned pause = 0; pause < 8; pause++) {
        struct rig r;
        lose(&r, 3, 1, 0);
        wait_dark(&r);
        disk_sim_slow(r.disk, 2 * METANODE_NS_PER_MS);
        uint32_t chain = first_chain(&r)->row.chain;
        struct proto_chain_order_request q = order_of(&r, PROTO_CHAIN_PROMOTE, chain, 2);
        ready(&r, 0);
        q.caller = rig_caller(&r.client[0]);
        rig_begin(&r.client[0], PROTO_OP_chain_order, &q);
        rig_run(&r, 3 * pause * METANODE_NS_PER_MS);
        rig_kill(&r);
        rig_serve(&r);
        (void)rig_end(&r.client[0]);
        rig_run(&r, 12 * RIG_SECOND); /* it knows nothing of members, and waits again */
        bool done = chain_of(&r, chain)->row.promotion.epoch != 0;
        at_once += done ? 1 : 0;
        if (!done) {
            CHECK_EQ(chain_of(&r, chain)->row.loss_gen, 0);
            q.epoch = chain_of(&r, chain)->row.epoch;
        }
        CHECK_OK(send_order(&r, &q));
        CHECK_OK(send_order(&r, &q));
        CHECK_EQ(chain_of(&r, chain)->row.loss_gen, 1);
        CHECK_EQ(state(&r, chain, 2), PROTO_MEMBER_SERVING);
        CHECK_TRUE(member(&r, chain, 0)->aside && member(&r, chain, 1)->aside);
        rig_over(&r);
    }
    CHECK_TRUE(at_once > 0 && at_once < 8);
}
