/*
 * metanode/chain_test.c -- the server as data nodes see it: tables, leases, rows by the rules of
 * chain.md section 4, garbage, trims, fences.
 */
#include "metanode/metanode_priv.h"

#include "metanode/rig_chains_priv.h"
#include "metanode/rig_session_priv.h"
#include "metanode/rig_target_priv.h"
#include "testing/testing.h"

#include <stdlib.h>

/* --- what is waited for ---------------------------------------------------------------------- */

static bool all_leased(void *ctx)
{
    const struct rig *r = ctx;
    bool all = true;
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        all = all && (!r->target[i].running || r->target[i].leased);
    }
    return all;
}

/* R4, R7, I8, checked at every step by those who wait with this. */
static void check_lease(const struct rig *r)
{
    for (unsigned i = 0; i < RIG_TARGETS; i++) {
        const struct rig_target *t = &r->target[i];
        CHECK_TRUE(!t->running || !rig_target_is_too_early(t));
        if (!t->running || !t->leased || loop_now_ns(t->env.loop) >= t->leased_until_ns) {
            continue;
        }
        for (size_t k = 0; k < t->row_count; k++) { /* what it believes to serve, it may serve */
            size_t own = cluster_row_find(&t->row[k], t->id);
            const struct metanode_chain *c = metanode_chain_find(r->m, t->row[k].chain);
            if (own < t->row[k].count && c != NULL &&
                t->row[k].member[own].state == PROTO_MEMBER_SERVING) {
                size_t now = cluster_row_find(&c->row, t->id);
                CHECK_EQ(c->row.member[now].state, PROTO_MEMBER_SERVING);
            }
        }
    }
}
static bool lease_holds(void *ctx)
{
    check_lease(ctx);
    return false;
}
static void run_checked(struct rig *r, uint64_t ns)
{
    (void)loop_sim_run(r->sim, lease_holds, r, loop_sim_now_ns(r->sim) + ns);
}

static void start_cluster(struct rig *r, unsigned targets)
{
    rig_new(r, testing_seed());
    rig_serve(r);
    for (unsigned i = 0; i < targets; i++) {
        rig_target_start(r, i, false);
    }
    CHECK_TRUE(rig_reach(r, 2));
    CHECK_TRUE(rig_until(r, all_leased, r));
}
static uint32_t loss_gens(const struct rig *r)
{
    uint32_t sum = 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        sum += LIST_ENTRY(node, struct metanode_chain, all)->row.loss_gen;
    }
    return sum;
}

/* --- tables and rows ------------------------------------------------------------------------- */

TEST(targets_that_come_together_share_one_table)
{
    struct rig r;
    start_cluster(&r, 3);
    CHECK_EQ(r.m->targets.count, 3);
    size_t chains = r.m->chains.count;
    CHECK_EQ(chains, CLUSTER_CHAINS_PER_TARGET * 3 / 2);
    rig_run(&r, 5 * RIG_SECOND);
    CHECK_EQ(r.m->chains.count, chains); /* once, not again and again */
    rig_client_ready(&r, 0);
    struct proto_cluster_map_request q = {0};
    r.client[0].flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_cluster_map, &q));
    const struct proto_cluster_map_reply *map = r.client[0].reply;
    CHECK_EQ(map->classes.count, 1);
    CHECK_EQ(map->tables.count, 1);
    CHECK_EQ(map->rows.count, chains);
    CHECK_EQ(map->targets.count, 3);
    CHECK_EQ(map->targets.at[0].state, PROTO_TARGET_UP);
    /* One more: the table grows, its clients hear of it. */
    unsigned maps = r.client[0].maps;
    rig_target_start(&r, 3, false);
    rig_run(&r, 5 * RIG_SECOND);
    CHECK_TRUE(r.m->chains.count > chains);
    CHECK_TRUE(r.client[0].maps > maps);
    rig_over(&r);
}

/* T1 of the table: gone -> offline -> waiting -> syncing -> serving. */
TEST(a_killed_target_comes_back_by_resync)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_target_kill(&r, 0);
    run_checked(&r, 4 * RIG_SECOND);
    uint32_t lost = r.target[0].id, chains = 0;
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        size_t i = cluster_row_find(&c->row, lost);
        if (i < c->row.count) {
            CHECK_EQ(c->row.member[i].state, PROTO_MEMBER_OFFLINE);
            CHECK_EQ(i, c->row.count - 1);
            chains++;
        }
    }
    CHECK_TRUE(chains > 0);
    rig_target_start(&r, 0, true);
    run_checked(&r, 5 * RIG_SECOND);
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    CHECK_EQ(loss_gens(&r), 0);
    rig_over(&r);
}

/* Case 9 of chain.md: back before anybody noticed. No lease before a row without it (R4). */
TEST(a_fast_restart_passes_through_offline)
{
    struct rig r;
    start_cluster(&r, 3);
    const struct metanode_chain *c = NULL;
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct metanode_chain *x = LIST_ENTRY(node, struct metanode_chain, all);
        c = cluster_row_find(&x->row, r.target[1].id) < x->row.count ? x : c;
    }
    CHECK_TRUE(c != NULL);
    uint32_t epoch = c->row.epoch;
    rig_target_kill(&r, 1);
    rig_target_start(&r, 1, false);
    run_checked(&r, 3 * RIG_SECOND);
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_TRUE(c->row.epoch >= epoch + 4); /* offline, waiting, syncing, serving */
    /* The same when the server forgets in between: the record names the old incarnation. */
    rig_target_kill(&r, 1);
    rig_target_start(&r, 1, false);
    rig_run(&r, 20 * METANODE_NS_PER_MS);
    rig_kill(&r);
    rig_serve(&r);
    run_checked(&r, 8 * RIG_SECOND);
    CHECK_TRUE(rig_reach(&r, 2));
    rig_over(&r);
}

/* R1 to R3: all are gone; an intact one serves at once, lossy ones wait and raise loss_gen. */
TEST(dark_chains_come_back_by_the_rules)
{
    struct rig r;
    start_cluster(&r, 2);
    for (unsigned i = 0; i < 2; i++) {
        rig_target_kill(&r, i);
    }
    rig_run(&r, 4 * RIG_SECOND);
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct cluster_row *row = &LIST_ENTRY(node, struct metanode_chain, all)->row;
        CHECK_EQ(row->member[0].state, PROTO_MEMBER_LAST_SERVING);
        CHECK_EQ(row->member[1].state, PROTO_MEMBER_LAST_SERVING);
    }
    rig_target_start(&r, 0, true); /* alone and lossy: waits for dark_wait */
    run_checked(&r, 3 * RIG_SECOND);
    struct rig_serving one = {.rig = &r, .count = 1}, none = {.rig = &r, .count = 0};
    CHECK_TRUE(rig_all_serve(&none));
    rig_target_start(&r, 1, false); /* intact: at once, nothing is lost */
    run_checked(&r, 2 * RIG_SECOND);
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_EQ(loss_gens(&r), 0);
    /* Again, and only the lossy one comes back. */
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    rig_target_kill(&r, 0);
    rig_target_kill(&r, 1);
    rig_run(&r, 4 * RIG_SECOND);
    CHECK_TRUE(rig_all_serve(&none));
    rig_target_start(&r, 0, true);
    rig_run(&r, 2 * RIG_SECOND);
    CHECK_TRUE(rig_all_serve(&none));
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_TRUE(rig_all_serve(&one));
    CHECK_EQ(loss_gens(&r), r.m->chains.count);
    rig_over(&r);
}

/* A new leader expires nobody before it has led for T, and workers find it without a gap. */
TEST(a_restart_of_the_server_changes_no_row)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_run(&r, 2 * RIG_SECOND);
    uint64_t epoch = r.m->map_epoch;
    rig_kill(&r);
    rig_serve(&r);
    run_checked(&r, 6 * RIG_SECOND);
    CHECK_EQ(r.m->map_epoch, epoch);
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    rig_over(&r);
}

static bool leads_but_does_not_serve(void *ctx)
{
    const struct rig *r = ctx;
    return r->m != NULL && r->m->lead_ns != 0 && r->m->phase != METANODE_SERVING;
}

/* Section 4: nobody is expired for what a new leader could not hear, however long it took to load.
 */
TEST(a_slow_start_of_the_server_changes_no_row)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_run(&r, 2 * RIG_SECOND);
    uint64_t epoch = r.m->map_epoch;
    rig_kill(&r);
    CHECK_OK(rig_start(&r));
    CHECK_TRUE(rig_until(&r, leads_but_does_not_serve, &r));
    loop_sim_pause(r.loop, true);
    rig_run(&r, 6 * RIG_SECOND); /* T is two */
    loop_sim_pause(r.loop, false);
    CHECK_TRUE(rig_until(&r, rig_is_serving, &r));
    run_checked(&r, 6 * RIG_SECOND);
    CHECK_EQ(r.m->map_epoch, epoch);
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    rig_over(&r);
}

/* R5, R6: a neighbour that cannot be reached is asked to stop, then leaves. */
TEST(a_suspect_is_revoked_before_it_leaves)
{
    struct rig r;
    start_cluster(&r, 2);
    const struct metanode_chain *c = LIST_ENTRY(r.m->chains.all.next, struct metanode_chain, all);
    uint32_t head = c->row.member[0].target, tail = c->row.member[1].target;
    for (unsigned i = 0; i < 2; i++) {
        r.target[i].suspect = r.target[i].id == head ? tail : 0;
    }
    run_checked(&r, 2 * RIG_SECOND);
    unsigned revoked = 0;
    for (unsigned i = 0; i < 2; i++) {
        CHECK_TRUE(r.target[i].id == tail || r.target[i].revokes == 0);
        revoked += r.target[i].revokes;
        r.target[i].suspect = 0;
    }
    CHECK_TRUE(revoked > 0);
    size_t at = cluster_row_find(&c->row, tail);
    CHECK_EQ(c->row.member[at].state, PROTO_MEMBER_OFFLINE);
    CHECK_TRUE(rig_reach(&r, 2)); /* after the hold */
    rig_over(&r);
}

/* --- what data nodes are asked until they answer --------------------------------------------- */

static uint64_t write_file(struct rig *r, const char *name, uint64_t size)
{
    struct rig_client *c = &r->client[0];
    struct proto_create_request q = rig_file(c, name, NULL);
    c->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(c, PROTO_OP_create, &q));
    const struct proto_create_reply *made = c->reply;
    uint64_t data_id = made->layout.data_id;
    CHECK_TRUE(data_id != 0 && made->mode == PROTO_OPEN_W);
    CHECK_EQ(made->capability.data_id, data_id);
    CHECK_EQ(made->capability.mac.len, CLUSTER_MAC_BYTES);
    struct cluster_access access = {.data_id = data_id, .rights = PROTO_RIGHT_WRITE};
    CHECK_OK(cluster_capability_check(&r->m->secret, &made->capability, &access));
    struct proto_commit_request commit = {.op = rig_op(c, 0),
                                          .ino = made->attr.ino,
                                          .cap_epoch = made->cap_epoch,
                                          .size = size,
                                          .allocated = size,
                                          .flags = PROTO_COMMIT_RELEASE};
    CHECK_OK(rig_call(c, PROTO_OP_commit, &commit));
    CHECK_EQ(((struct proto_commit_reply *)c->reply)->attr.size, size);
    return data_id;
}
static char *status_of(struct rig_client *c, uint8_t format)
{
    struct proto_status_request q = {.format = format};
    CHECK_OK(rig_call(c, PROTO_OP_status, &q));
    const struct proto_status_reply *reply = c->reply;
    CHECK_EQ(reply->format, format);
    char *text = mem_alloc(reply->body.len + 1);
    CHECK_TRUE(text != NULL);
    proto_bytes_to_c(reply->body, text, reply->body.len + 1);
    return text;
}
static uint64_t stored(struct rig *r, const char *what)
{
    CLEANUP(mem_freep) char *text = status_of(&r->client[1], PROTO_FORMAT_JSON);
    char key[32];
    (void)snprintf(key, sizeof key, "\"%s\":", what);
    const char *at = strstr(text, key);
    CHECK_TRUE(at != NULL);
    return strtoull(at + strlen(key), NULL, 10);
}

static enum proto_member_state state_in(const struct metanode_chain *c, uint32_t target)
{
    size_t i = cluster_row_find(&c->row, target);
    return i == c->row.count ? PROTO_MEMBER_OFFLINE : c->row.member[i].state;
}
/* How many chains this target serves. */
static size_t served_by(const struct rig *r, unsigned i)
{
    size_t n = 0;
    LIST_FOR_EACH(node, &r->m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        n += state_in(c, r->target[i].id) == PROTO_MEMBER_SERVING;
    }
    return n;
}

/* R5: it is asked to stop first, everywhere where somebody else serves; and comes back when it is
 * well. */
TEST(a_sick_target_is_ejected_and_comes_back_when_it_is_well)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_client_ready(&r, 1);
    size_t before = served_by(&r, 0);
    CHECK_TRUE(before > 0);
    r.target[0].sick = "it has failed 7 times";
    run_checked(&r, 5 * RIG_SECOND);
    CHECK_EQ(served_by(&r, 0), 0);
    CHECK_EQ(r.target[0].revokes, before);
    CHECK_EQ(r.target[1].revokes + r.target[2].revokes, 0);
    CHECK_EQ(loss_gens(&r), 0);
    char *json = status_of(&r.client[1], PROTO_FORMAT_JSON);
    char *text = status_of(&r.client[1], PROTO_FORMAT_TEXT);
    CHECK_TRUE(strstr(json, "\"name\":\"target.0\",\"state\":\"sick\"") != NULL);
    CHECK_TRUE(strstr(json, "\"ejected\":true,\"sick\":\"it has failed 7 times\"") != NULL);
    CHECK_TRUE(strstr(json, "\"health\":\"degraded\"") != NULL);
    CHECK_TRUE(strstr(text,
                      "the disk of target.0 (host host20:9410) is sick: it has failed 7 times."
                      " Chains that have another serving copy do without it") != NULL);
    mem_free(json);
    mem_free(text);
    run_checked(&r, 20 * RIG_SECOND); /* longer than any hold */
    CHECK_EQ(served_by(&r, 0), 0);
    r.target[0].sick = NULL;
    CHECK_TRUE(rig_reach(&r, 2));
    CHECK_EQ(served_by(&r, 0), before);
    json = status_of(&r.client[1], PROTO_FORMAT_JSON);
    CHECK_TRUE(strstr(json, "\"health\":\"healthy\"") != NULL);
    CHECK_TRUE(strstr(json, "\"sick\":") == NULL);
    mem_free(json);
    rig_over(&r);
}

TEST(the_last_serving_member_stays_however_sick_it_is)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_target_kill(&r, 1);
    CHECK_TRUE(rig_reach(&r, 1));
    r.target[0].sick = "slow";
    run_checked(&r, 10 * RIG_SECOND);
    CHECK_TRUE(rig_reach(&r, 1));
    CHECK_EQ(r.target[0].revokes, 0);
    rig_target_start(&r, 1, false); /* when there is another copy, it goes */
    rig_run(&r, RIG_SECOND);
    r.target[0].sick = "slow";
    run_checked(&r, 10 * RIG_SECOND);
    CHECK_EQ(served_by(&r, 0), 0);
    CHECK_EQ(served_by(&r, 1), r.m->chains.count);
    CHECK_EQ(loss_gens(&r), 0);
    rig_over(&r);
}

/* R6: a sick member that has stopped, and cannot reach its successor either, does not have that
 * stopped, too: nobody would serve. */
TEST(who_has_stopped_takes_nobody_with_it)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_run(&r, RIG_SECOND);
    r.target[1].cut = true; /* heard again before its lease is over; until then the row waits, R1 */
    r.target[0].sick = "slow";
    rig_run(&r, 2 * RIG_SECOND / 5);
    CHECK_TRUE(r.target[0].revokes > 0);
    r.target[0].suspect = r.target[1].id;
    rig_run(&r, 3 * RIG_SECOND / 5);
    r.target[1].cut = false;
    run_checked(&r, 3 * RIG_SECOND);
    CHECK_EQ(r.target[1].revokes, 0);
    CHECK_EQ(served_by(&r, 0), 0);
    CHECK_EQ(served_by(&r, 1), r.m->chains.count);
    CHECK_EQ(loss_gens(&r), 0);
    r.target[0].suspect = 0;
    r.target[0].sick = NULL;
    CHECK_TRUE(rig_reach(&r, 2));
    rig_over(&r);
}

/* What many have at once is not a disk. */
TEST(one_of_several_sick_targets_is_ejected_at_a_time)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_client_ready(&r, 1);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].sick = "slow";
    }
    run_checked(&r, 20 * RIG_SECOND);
    unsigned out = 0;
    for (unsigned i = 0; i < 3; i++) {
        out += served_by(&r, i) == 0;
    }
    CHECK_EQ(out, 1);
    CLEANUP(mem_freep) char *text = status_of(&r.client[1], PROTO_FORMAT_TEXT);
    CHECK_TRUE(strstr(text, "too many are sick at once") != NULL);
    CHECK_EQ(loss_gens(&r), 0);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].sick = NULL;
    }
    CHECK_TRUE(rig_reach(&r, 2));
    rig_over(&r);
}

TEST(a_sick_target_that_dies_is_down)
{
    struct rig r;
    start_cluster(&r, 3);
    r.target[0].sick = "slow";
    run_checked(&r, 5 * RIG_SECOND);
    rig_target_kill(&r, 0);
    r.target[1].sick = "slow too"; /* it may go now, where the third one serves */
    run_checked(&r, 30 * RIG_SECOND);
    LIST_FOR_EACH(node, &r.m->chains.all)
    {
        const struct metanode_chain *c = LIST_ENTRY(node, struct metanode_chain, all);
        CHECK_EQ(cluster_row_serving_count(&c->row), 1);
        bool third = cluster_row_find(&c->row, r.target[2].id) < c->row.count;
        CHECK_EQ(state_in(c, r.target[third ? 2 : 1].id), PROTO_MEMBER_SERVING);
    }
    rig_target_start(&r, 0, false);
    r.target[1].sick = NULL;
    CHECK_TRUE(rig_reach(&r, 2));
    rig_over(&r);
}

/* A target that is down is what one wants to know the name of, also after the server has been. */
/* Two processes on a data directory and its copy have equal incarnations. */
TEST(a_copy_of_a_data_directory_does_not_register)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_target_start(&r, 3, false);
    r.target[3].uuid = r.target[0].uuid;
    CHECK_EQ(r.target[3].incarnation, r.target[0].incarnation);
    run_checked(&r, 5 * RIG_SECOND);
    CHECK_TRUE(!r.target[3].registered);
    CHECK_TRUE(strstr(r.target[3].refused, r.target[0].at.text) != NULL);
    CHECK_TRUE(strstr(r.target[3].refused, r.target[3].at.text) != NULL);
    CHECK_TRUE(r.target[0].leased);
    const struct metanode_target *t = metanode_target_of(r.m, &r.target[0].uuid);
    CHECK_TEXT(t->address, r.target[0].at.text);
    /* The first one has ended, and its lease too: then it may be that one. */
    rig_target_kill(&r, 0);
    rig_run(&r, 5 * RIG_SECOND);
    CHECK_TRUE(r.target[3].registered);
    CHECK_TEXT(t->address, r.target[3].at.text);
    rig_over(&r);
}

TEST(status_names_cluster_and_targets)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_target_kill(&r, 1);
    rig_kill(&r);
    rig_serve(&r);
    rig_run(&r, 5 * RIG_SECOND);
    rig_client_ready(&r, 1);
    CLEANUP(mem_freep) char *json = status_of(&r.client[1], PROTO_FORMAT_JSON);
    CLEANUP(mem_freep) char *text = status_of(&r.client[1], PROTO_FORMAT_TEXT);
    CHECK_TRUE(strstr(json, ",\"name\":\"demo \\\"2\\\"\",") != NULL);
    CHECK_TRUE(strstr(json, "\"name\":\"target.0\",\"state\":\"up\"") != NULL);
    CHECK_TRUE(strstr(json, "\"name\":\"target.1\",\"state\":\"down\"") != NULL);
    CHECK_TRUE(strncmp(text, "cluster demo \"2\" ", 17) == 0);
    CHECK_TRUE(strstr(text, " target.1 host21:9410 down on host21:9410") != NULL);
    rig_over(&r);
}

TEST(garbage_is_removed_everywhere_before_it_is_forgotten)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_client_ready(&r, 0);
    rig_admin_start(&r, 1);
    uint64_t data_id = write_file(&r, "big", 100u << 20);
    for (unsigned i = 0; i < 3; i++) {
        r.target[i].refuse_removes = 3;
    }
    rig_target_kill(&r, 2); /* its chains have heads all the same, later */
    struct proto_unlink_request q = {
        .op = rig_op(&r.client[0], 0), .parent = PROTO_ROOT_INO, .name = proto_bytes_text("big")};
    CHECK_OK(rig_call(&r.client[0], PROTO_OP_unlink, &q));
    CHECK_EQ(stored(&r, "garbage"), 1);
    r.target[0].dead = data_id;
    rig_run(&r, 100 * METANODE_NS_PER_MS);
    CHECK_EQ(stored(&r, "garbage"), 1);
    CHECK_EQ(r.target[0].forgotten, 0); /* some chain has not answered */
    rig_kill(&r);                       /* the queue is in the log */
    rig_serve(&r);
    rig_run(&r, 30 * RIG_SECOND);
    CHECK_EQ(stored(&r, "garbage"), 0);
    size_t removes = r.target[0].removes + r.target[1].removes;
    CHECK_TRUE(removes >= r.m->chains.count);
    CHECK_EQ(r.target[0].removed[0], data_id);
    CHECK_TRUE(r.target[0].forgotten > 0);
    rig_over(&r);
}

TEST(truncation_cuts_the_boundary_chunk_and_empties_later_ones)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_client_ready(&r, 0);
    struct rig_client *c = &r.client[0];
    (void)write_file(&r, "long", 8u << 20);
    r.target[0].chunk_length = r.target[1].chunk_length = 4u << 20;
    struct proto_wopen_request w = {.op = rig_op(c, 0), .ino = rig_lookup(c, "long").ino};
    CHECK_OK(rig_call(c, PROTO_OP_wopen, &w));
    struct proto_setattr_request q = {.op = rig_op(c, 0),
                                      .ino = w.ino,
                                      .mask = PROTO_SET_SIZE,
                                      .size = 5000,
                                      .cap_epoch =
                                          ((struct proto_wopen_reply *)c->reply)->cap_epoch};
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
    rig_run(&r, 2 * RIG_SECOND);
    CHECK_TRUE(r.target[0].stats + r.target[1].stats >= r.m->chains.count);
    CHECK_TRUE(r.target[0].cuts + r.target[1].cuts >= 2);
    uint32_t first = r.target[0].cuts > 0 ? r.target[0].cut_length[0] : r.target[1].cut_length[0];
    CHECK_EQ(first, 5000);
    /* Extending it again was busy until the trim was done; now it is not. */
    q.op = rig_op(c, 0);
    q.size = 9000;
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
    /* A writer that has cut the chunk by itself has not made that stable. */
    for (unsigned i = 0; i < 2; i++) {
        r.target[i].chunk_length = 3000;
        r.target[i].cuts = 0;
    }
    q.op = rig_op(c, 0);
    q.size = 3000;
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
    rig_run(&r, 2 * RIG_SECOND);
    CHECK_TRUE(r.target[0].cuts + r.target[1].cuts >= 2);
    first = r.target[0].cuts > 0 ? r.target[0].cut_length[0] : r.target[1].cut_length[0];
    CHECK_EQ(first, 3000);
    rig_over(&r);
}

/* They go from number to number, there or not: not to the last one. */
TEST(data_nodes_of_an_older_version_are_not_asked_for_ever)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_client_ready(&r, 0);
    struct rig_client *c = &r.client[0];
    (void)write_file(&r, "long", 8u << 20);
    for (unsigned i = 0; i < 2; i++) {
        r.target[i].chunk_length = 4u << 20;
        r.target[i].old = true;
    }
    struct proto_wopen_request w = {.op = rig_op(c, 0), .ino = rig_lookup(c, "long").ino};
    CHECK_OK(rig_call(c, PROTO_OP_wopen, &w));
    struct proto_setattr_request q = {.op = rig_op(c, 0),
                                      .ino = w.ino,
                                      .mask = PROTO_SET_SIZE,
                                      .size = 5000,
                                      .cap_epoch =
                                          ((struct proto_wopen_reply *)c->reply)->cap_epoch};
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
    rig_run(&r, 10 * RIG_SECOND);
    CHECK_TRUE(r.target[0].cuts + r.target[1].cuts >= 2);
    CHECK_TRUE(r.target[0].stats + r.target[1].stats <= 66 * r.m->chains.count);
    q.op = rig_op(c, 0);
    q.size = 9000;
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q)); /* it is through */
    rig_over(&r);
}

/* No chunk has a number as large as where it ends: none of them may be cut. */
TEST(a_truncation_behind_the_last_chunk_cuts_nothing)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_client_ready(&r, 0);
    struct rig_client *c = &r.client[0];
    (void)write_file(&r, "huge", 8u << 20);
    r.target[0].chunk_length = r.target[1].chunk_length = 4u << 20;
    struct proto_wopen_request w = {.op = rig_op(c, 0), .ino = rig_lookup(c, "huge").ino};
    CHECK_OK(rig_call(c, PROTO_OP_wopen, &w));
    uint64_t cap_epoch = ((struct proto_wopen_reply *)c->reply)->cap_epoch;
    for (unsigned i = 0; i < 2; i++) {
        struct proto_setattr_request q = {.op = rig_op(c, 0),
                                          .ino = w.ino,
                                          .mask = PROTO_SET_SIZE,
                                          .size = UINT64_C(1) << (i == 0 ? 60 : 54),
                                          .cap_epoch = cap_epoch};
        CHECK_OK(rig_call(c, PROTO_OP_setattr, &q));
    }
    rig_run(&r, 5 * RIG_SECOND);
    struct proto_setattr_request q = {.op = rig_op(c, 0),
                                      .ino = w.ino,
                                      .mask = PROTO_SET_SIZE,
                                      .size = UINT64_C(1) << 60,
                                      .cap_epoch = cap_epoch};
    CHECK_OK(rig_call(c, PROTO_OP_setattr, &q)); /* done: else it would be busy */
    CHECK_EQ(r.target[0].cuts + r.target[1].cuts, 0);
    rig_over(&r);
}

/* L5, L6: a silent writer that somebody waits for is ended and shut out first. */
TEST(a_lost_writer_is_fenced_before_the_next_writes)
{
    struct rig r;
    start_cluster(&r, 2);
    rig_client_ready(&r, 0);
    rig_client_ready(&r, 1);
    struct rig_client *a = &r.client[0], *b = &r.client[1];
    struct proto_create_request q = rig_file(a, "f", NULL);
    CHECK_OK(rig_call(a, PROTO_OP_create, &q));
    uint64_t ino = ((struct proto_create_reply *)a->reply)->attr.ino, lost = a->session;
    loop_sim_pause(a->env.loop, true); /* it keeps its connection and says nothing */
    rig_keep_alive(&r, b, 3);
    struct proto_wopen_request w = {.op = rig_op(b, 0), .ino = ino};
    b->flags = PEER_CALL_AGAIN;
    CHECK_OK(rig_call(b, PROTO_OP_wopen, &w));
    const struct proto_wopen_reply *reply = b->reply;
    CHECK_EQ(reply->mode, PROTO_OPEN_S);
    CHECK_TRUE(!reply->shared_now);
    rig_keep_alive(&r, b, 3);
    CHECK_EQ(b->shared, 1); /* the holder is over */
    for (unsigned i = 0; i < 2; i++) {
        CHECK_TRUE(r.target[i].fences > 0);
        CHECK_EQ(r.target[i].fenced_session, lost);
    }
    CHECK_TRUE(metanode_session_find(r.m, lost) == NULL);
    CHECK_EQ(r.m->cleanup.fences, 0);
    rig_over(&r);
}

/* zombie-writer: a data node that was away during the fence gets no lease before it knows of it. */
TEST(a_returning_target_is_fenced_before_it_serves)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_client_ready(&r, 0);
    rig_client_ready(&r, 1);
    struct rig_client *a = &r.client[0], *b = &r.client[1];
    struct proto_create_request q = rig_file(a, "f", NULL);
    CHECK_OK(rig_call(a, PROTO_OP_create, &q));
    uint64_t ino = ((struct proto_create_reply *)a->reply)->attr.ino, lost = a->session;
    loop_sim_pause(a->env.loop, true);
    rig_target_kill(&r, 2);
    rig_keep_alive(&r, b, 4);
    struct proto_wopen_request w = {.op = rig_op(b, 0), .ino = ino};
    CHECK_OK(rig_call(b, PROTO_OP_wopen, &w));
    for (unsigned i = 0; i < 20 && b->shared == 0; i++) {
        rig_keep_alive(&r, b, 1);
    }
    CHECK_EQ(b->shared, 1);
    CHECK_EQ(r.m->cleanup.fences, 0); /* the one that is away serves nobody */
    CHECK_TRUE(r.target[0].fences > 0 && r.target[1].fences > 0);
    rig_target_start(&r, 2, false);
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    CHECK_EQ(r.target[2].fenced_session, lost);
    for (unsigned i = 0; i < 3; i++) { /* all have answered: who starts anew has forgotten it */
        rig_target_kill(&r, i);
        rig_target_start(&r, i, false);
        CHECK_TRUE(rig_until(&r, all_leased, &r));
        CHECK_EQ(r.target[i].fenced_session, lost);
    }
    rig_over(&r);
}

/* ---- What people are told ---- */

static bool status_says(struct rig_client *c, const char *text)
{
    struct proto_status_request q = {.format = PROTO_FORMAT_JSON};
    CHECK_OK(rig_call(c, PROTO_OP_status, &q));
    const struct proto_status_reply *m = c->reply;
    return memmem(m->body.at, m->body.len, text, strlen(text)) != NULL;
}

TEST(status_says_what_is_wrong_and_what_helps)
{
    struct rig r;
    start_cluster(&r, 3);
    rig_client_ready(&r, 0);
    struct rig_client *c = &r.client[0];
    CHECK_TRUE(status_says(c, "\"health\":\"healthy\""));
    CHECK_TRUE(status_says(c, "\"problems\":[],"));
    rig_target_kill(&r, 2);
    rig_keep_alive(&r, c, 4);
    CHECK_TRUE(status_says(c, "\"health\":\"degraded\""));
    CHECK_TRUE(status_says(c, "{\"severity\":\"warning\",\"what\":\"1 of 3 targets is down: "));
    CHECK_TRUE(status_says(c, "chains miss a copy, 0 of them are being filled\",\"means\":\"All "));
    rig_target_kill(&r, 1);
    rig_keep_alive(&r, c, 4);
    CHECK_TRUE(status_says(c, "\"health\":\"unavailable\""));
    CHECK_TRUE(status_says(c, "{\"severity\":\"unavailable\",\"what\":\""));
    CHECK_TRUE(status_says(c, "have no serving copy; down: "));
    rig_target_start(&r, 1, false);
    rig_target_start(&r, 2, false);
    CHECK_TRUE(rig_until(&r, all_leased, &r));
    for (unsigned i = 0; i < 30 && !status_says(c, "\"health\":\"healthy\""); i++) {
        rig_keep_alive(&r, c, 1);
    }
    CHECK_TRUE(status_says(c, "\"problems\":[],"));
    rig_over(&r);
}
