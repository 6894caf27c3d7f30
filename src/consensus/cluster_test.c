/*
 * consensus/cluster_test.c -- seeds: three voters on three machines; messages are late, lost or
 * overtaken; voters are killed, lose their power, stand still, are cut off, and come back.
 *
 * All execute the same operations in the same order. What one acknowledged stays. At no moment two
 * hold the lease, and who holds it has executed everything acknowledged anywhere.
 */
#include "base/env.h"
#include "base/mem.h"
#include "base/rand.h"
#include "consensus/consensus.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define NODES 3u
#define IDS_MAX 8192u
#define TERMS_MAX 4096u
#define MS 1000000ull

struct node {
    struct world *world;
    unsigned number;
    struct loop *loop; /* NULL: down */
    struct disk_sim *machine;
    struct consensus *consensus;
    struct consensus_fsm fsm;
    struct consensus_transport transport;
    struct env env;
    struct consensus_state state;
    size_t executed;      /* positions of world.log */
    uint64_t state_index; /* of the newest checkpoint: as good as on disk */
    size_t state_executed;
    uint64_t fetching, pinned; /* index of the snapshot; 0: none */
    size_t fetching_executed, pinned_executed;
    struct loop_timer fetch;
    bool cut_off, paused;
    unsigned failed_calls;
};

struct world {
    struct rand rand;
    struct loop_sim *sim;
    struct node node[NODES];
    uint64_t id[IDS_MAX], index[IDS_MAX]; /* what was executed, by position */
    size_t executed;                      /* by anybody */
    uint64_t last_id;
    uint64_t acknowledged_index; /* the highest */
    unsigned acknowledged, unknown, leaders, installed;
    uint64_t leader_of[TERMS_MAX]; /* by term; 0: nobody yet */
    bool quiet, snapshots;
};

/* --- the owner -----------------------------------------------------------------------------------
 */

static void node_apply(struct consensus_fsm *f, struct consensus_entry *e)
{
    struct node *n = container_of(f, struct node, fsm);
    struct world *w = n->world;
    struct consensus_operation op;
    while (consensus_entry_next(e, &op)) {
        uint64_t id = 0;
        CHECK_EQ(op.len, sizeof id);
        memcpy(&id, op.bytes, sizeof id);
        CHECK_TRUE(n->executed < IDS_MAX);
        if (n->executed == w->executed) {
            w->id[w->executed] = id;
            w->index[w->executed] = e->index;
            w->executed++;
        }
        CHECK_EQ(w->id[n->executed], id);
        CHECK_EQ(w->index[n->executed], e->index);
        n->executed++;
    }
    consensus_applied(n->consensus, e->index);
}

static void node_state(struct consensus_fsm *f, const struct consensus_state *s)
{
    struct node *n = container_of(f, struct node, fsm);
    n->state = *s;
    if (s->role == CONSENSUS_LEADER) {
        CHECK_TRUE(s->leader_id == n->number + 1 && s->term < TERMS_MAX);
        uint64_t *leader = &n->world->leader_of[s->term];
        CHECK_TRUE(*leader == 0 || *leader == s->leader_id); /* votes are not forgotten */
        *leader = s->leader_id;
        n->world->leaders++;
    }
}

/* A checkpoint's name is the number of operations in it. */
static int node_snapshot(struct consensus_fsm *f, struct consensus_reference *ret)
{
    struct node *n = container_of(f, struct node, fsm);
    if (!n->world->snapshots) {
        return -ERR_busy;
    }
    CHECK_EQ(consensus_applied_index(n->consensus), ret->index);
    n->pinned = ret->index;
    n->pinned_executed = n->executed;
    memcpy(ret->bytes, &n->executed, sizeof n->executed);
    ret->len = sizeof n->executed;
    return 0;
}

static void fetch_fire(struct loop_timer *t)
{
    struct node *n = container_of(t, struct node, fetch);
    uint64_t index = n->fetching;
    bool good = consensus_applied_index(n->consensus) < index && rand_chance(&n->world->rand, 4, 5);
    if (good) {
        n->executed = n->state_executed = n->fetching_executed;
        n->state_index = index;
        n->world->installed++;
    }
    n->fetching = 0;
    consensus_snapshot_durable(n->consensus, index, good ? 0 : -EIO);
}

static int node_restore(struct consensus_fsm *f, const struct consensus_reference *r)
{
    struct node *n = container_of(f, struct node, fsm);
    CHECK_TRUE(n->consensus != NULL && n->fetching == 0 && r->len == sizeof n->executed);
    memcpy(&n->fetching_executed, r->bytes, sizeof n->executed);
    CHECK_TRUE(n->fetching_executed <= n->world->executed);
    n->fetching = r->index;
    n->fetch.fire = fetch_fire;
    loop_timer_in(n->loop, &n->fetch, rand_below(&n->world->rand, 800 * MS));
    return 0;
}

static void node_failed(struct consensus_fsm *f, int rc, const char *reason)
{
    (void)rc;
    (void)reason;
    container_of(f, struct node, fsm)->failed_calls++;
}

static const struct consensus_fsm_ops node_ops = {.apply = node_apply,
                                                  .state = node_state,
                                                  .snapshot = node_snapshot,
                                                  .restore = node_restore,
                                                  .failed = node_failed};

/* --- messages ------------------------------------------------------------------------------------
 */

struct letter {
    struct loop_sim_event event;
    struct node *from, *to;
    size_t len;
    uint8_t bytes[];
};

static void letter_free(struct letter *l)
{
    struct mem_domain *before = mem_domain_enter(NULL); /* it belongs to the world */
    mem_free(l);
    (void)mem_domain_enter(before);
}

static void letter_dropped(struct loop_sim_event *ev)
{
    letter_free(container_of(ev, struct letter, event));
}

static void letter_run(struct loop_sim_event *ev)
{
    struct letter *l = container_of(ev, struct letter, event);
    if (!l->from->cut_off && !l->to->cut_off && l->to->consensus != NULL) {
        CHECK_OK(consensus_receive(l->to->consensus, l->bytes, l->len));
    }
    letter_free(l);
}

static void node_send(struct consensus_transport *t, uint64_t to, const char *address,
                      const uint8_t *bytes, size_t len)
{
    struct node *n = container_of(t, struct node, transport);
    struct world *w = n->world;
    struct node *peer = &w->node[to - 1];
    CHECK_TRUE(to >= 1 && to <= NODES && address[0] == 'n');
    if (peer->loop == NULL || rand_chance(&w->rand, 1, 50)) {
        return;
    }
    struct mem_domain *before = mem_domain_enter(NULL);
    struct letter *l = mem_zalloc(sizeof *l + len);
    (void)mem_domain_enter(before);
    CHECK_TRUE(l != NULL);
    l->from = n;
    l->to = peer;
    l->len = len;
    memcpy(l->bytes, bytes, len);
    l->event =
        (struct loop_sim_event){.run = letter_run, .dropped = letter_dropped, .on = peer->loop};
    uint64_t late = rand_chance(&w->rand, 1, 20) ? 40 * MS : 2 * MS;
    loop_sim_at(w->sim, &l->event, loop_sim_now_ns(w->sim) + rand_range(&w->rand, 100000, late));
}

static const struct consensus_transport_ops transport_ops = {.send = node_send};

/* --- load ----------------------------------------------------------------------------------------
 */

struct actor {
    struct node *node;
    struct consensus_proposal proposal;
    uint64_t id;
};

static void actor_done(struct consensus_proposal *p, int rc, uint64_t index)
{
    struct actor *x = container_of(p, struct actor, proposal);
    struct world *w = x->node->world;
    bool found = false;
    for (size_t i = w->executed; i > 0 && !found; i--) {
        found = w->id[i - 1] == x->id;
        CHECK_TRUE(!found || rc != 0 || w->index[i - 1] == index);
    }
    if (rc == 0) {
        CHECK_TRUE(found);
        w->acknowledged++;
        w->acknowledged_index = base_max(w->acknowledged_index, index);
    } else if (rc == -ERR_unknown_outcome) {
        w->unknown++;
    } else {
        CHECK_TRUE(!found);
    }
    mem_free(x);
}

struct driver {
    struct node *node;
    struct loop_timer timer;
};

static void lease_check(struct world *w)
{
    unsigned holders = 0;
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = &w->node[i];
        if (n->loop == NULL || n->consensus == NULL || n->paused) {
            continue;
        }
        if (consensus_lease_until_ns(n->consensus) != 0) {
            holders++;
            CHECK_TRUE(consensus_applied_index(n->consensus) >= w->acknowledged_index);
        }
    }
    CHECK_TRUE(holders <= 1);
}

static void driver_fire(struct loop_timer *t)
{
    struct driver *d = container_of(t, struct driver, timer);
    struct node *n = d->node;
    struct world *w = n->world;
    uint64_t burst = w->quiet || n->state.role != CONSENSUS_LEADER ? 0 : rand_below(&w->rand, 6);
    for (uint64_t i = 0; i < burst && w->last_id + 1 < IDS_MAX; i++) {
        struct actor *x = mem_zalloc(sizeof *x);
        CHECK_TRUE(x != NULL);
        x->node = n;
        x->id = ++w->last_id;
        x->proposal =
            (struct consensus_proposal){.done = actor_done, .bytes = &x->id, .len = sizeof x->id};
        consensus_propose(n->consensus, &x->proposal);
    }
    if (w->snapshots && rand_chance(&w->rand, 1, 8)) {
        consensus_snapshot_want(n->consensus);
    }
    if (n->pinned != 0 && rand_chance(&w->rand, 1, 4)) {
        if (n->pinned > n->state_index) {
            n->state_index = n->pinned;
            n->state_executed = n->pinned_executed;
        }
        consensus_snapshot_durable(n->consensus, n->pinned, 0);
        n->pinned = 0;
    }
    loop_timer_in(n->loop, t, rand_below(&w->rand, 20 * MS));
}

/* --- lives ---------------------------------------------------------------------------------------
 */

static void node_start(void *ctx)
{
    struct node *n = ctx;
    struct disk *disk = NULL;
    struct err e = {0};
    CHECK_OK(disk_sim_open(n->machine, n->loop, &disk));
    n->env = (struct env){.loop = n->loop, .disk = disk};
    CHECK_OK(disk_make_directories(disk, "/c"));
    struct consensus_voter voters[NODES];
    for (unsigned i = 0; i < NODES; i++) {
        voters[i].id = i + 1;
        (void)snprintf(voters[i].address, sizeof voters[i].address, "node%u", i + 1);
    }
    struct consensus_options opt = {.env = &n->env,
                                    .directory = "/c",
                                    .fsm = &n->fsm,
                                    .transport = &n->transport,
                                    .cluster = "cluster",
                                    .id = n->number + 1,
                                    .voters = voters,
                                    .voter_count = NODES,
                                    .bootstrap = true,
                                    .applied = n->state_index,
                                    .trailing = 20,
                                    .segment_bytes = 5u << 20,
                                    .sparse = true};
    CHECK_OK(consensus_open(&opt, &n->consensus, &e));
    CHECK_OK(consensus_start(n->consensus, &e));
    struct driver *d = mem_zalloc(sizeof *d);
    CHECK_TRUE(d != NULL);
    d->node = n;
    d->timer.fire = driver_fire;
    loop_timer_in(n->loop, &d->timer, 0);
}

static void node_up(struct node *n)
{
    if (n->loop == NULL) {
        n->executed = n->state_executed;
        n->fetching = n->pinned = 0;
        n->fetch = (struct loop_timer){0};
        n->consensus = NULL;
        n->paused = false;
        n->state = (struct consensus_state){.role = CONSENSUS_FOLLOWER};
        CHECK_OK(loop_sim_process(n->world->sim, "meta", n->number, &n->loop));
        loop_sim_enter(n->loop, node_start, n);
    }
}

static void node_down(struct node *n, bool power)
{
    if (n->loop != NULL) {
        struct loop *l = n->loop;
        n->loop = NULL;
        n->consensus = NULL;
        loop_sim_kill(l);
        if (power) {
            disk_sim_crash(n->machine);
            loop_sim_reboot(n->world->sim, n->number);
        }
    }
}

static void misfortune(struct world *w)
{
    struct node *n = &w->node[rand_below(&w->rand, NODES)];
    uint64_t what = rand_below(&w->rand, 8);
    if (what < 2) {
        node_down(n, what == 0);
    } else if (what < 4) {
        n->cut_off = !n->cut_off;
    } else if (what == 4 && n->loop != NULL) {
        n->paused = !n->paused;
        loop_sim_pause(n->loop, n->paused);
    } else {
        node_up(n);
    }
}

static void world_begin(struct world *w, uint64_t seed, bool snapshots)
{
    *w = (struct world){.snapshots = snapshots};
    rand_seed(&w->rand, seed);
    w->sim = loop_sim_new(seed);
    CHECK_TRUE(w->sim != NULL);
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = &w->node[i];
        *n = (struct node){.world = w,
                           .number = i,
                           .fsm.ops = &node_ops,
                           .transport.ops = &transport_ops,
                           .machine = disk_sim_new(&(struct disk_sim_options){.sim = w->sim})};
        CHECK_TRUE(n->machine != NULL);
        node_up(n);
    }
}

static bool world_agrees(void *ctx)
{
    struct world *w = ctx;
    unsigned leaders = 0;
    for (unsigned i = 0; i < NODES; i++) {
        const struct node *n = &w->node[i];
        leaders += consensus_lease_until_ns(n->consensus) != 0 ? 1U : 0U;
        if (n->executed != w->executed) {
            return false;
        }
    }
    return leaders == 1;
}

static void world_run(struct world *w, uint64_t for_ns)
{
    uint64_t until = loop_sim_now_ns(w->sim) + for_ns;
    while (loop_sim_now_ns(w->sim) < until && loop_sim_step(w->sim)) {
        lease_check(w);
    }
}

static void world_play(struct world *w, uint64_t seed, bool snapshots)
{
    world_begin(w, seed, snapshots);
    for (unsigned i = 0; i < 30; i++) {
        world_run(w, rand_below(&w->rand, 400 * MS));
        misfortune(w);
    }
    for (unsigned i = 0; i < NODES; i++) {
        struct node *n = &w->node[i];
        n->cut_off = false;
        if (n->loop != NULL && n->paused) {
            n->paused = false;
            loop_sim_pause(n->loop, false);
        }
        node_up(n);
    }
    world_run(w, 3000 * MS);
    w->quiet = true;
    CHECK_TRUE(loop_sim_run(w->sim, world_agrees, w, loop_sim_now_ns(w->sim) + 60000 * MS));
    for (unsigned i = 0; i < NODES; i++) {
        CHECK_EQ(w->node[i].failed_calls, 0);
        node_down(&w->node[i], false);
        disk_sim_free(w->node[i].machine);
    }
    loop_sim_free(w->sim);
}

TEST(consensus_of_three_survives_misfortunes)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    uint64_t acknowledged = 0;
    uint64_t unknown = 0;
    for (unsigned i = 0; i < 40; i++) {
        world_play(w, testing_seed() + i, false);
        acknowledged += w->acknowledged;
        unknown += w->unknown;
        CHECK_TRUE(w->leaders > 0);
    }
    CHECK_TRUE(acknowledged > 400 && unknown > 0);
    mem_free(w);
}

/* Voters that are too far behind get a reference, fetch the state, and go on from the log. */
TEST(consensus_of_three_installs_snapshots)
{
    struct world *w = mem_zalloc(sizeof *w);
    CHECK_TRUE(w != NULL);
    uint64_t installed = 0;
    for (unsigned i = 0; i < 30; i++) {
        world_play(w, testing_seed() + 1000000 + i, true);
        installed += w->installed;
    }
    CHECK_TRUE(installed > 0);
    mem_free(w);
}
