/*
 * datanode/master_test.c -- a master and its workers in the simulator: sockets that outlive
 * workers, starts with a pause, reports to the metadata server, stopping, and workers without a
 * master.
 */
#include "datanode/master.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/stats.h"
#include "datanode/supervised.h"
#include "loop/sim.h"
#include "net/sim.h"
#include "peer/server.h"
#include "testing/testing.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define META_HOST 1u
#define DATA_HOST 2u
#define OTHER_HOST 3u
#define TARGETS 3u
#define LIVES 64u
#define REPORTS 64u
#define MS UINT64_C(1000000)

enum behaviour {
    SERVES,   /* says so, and takes connections */
    SILENT,   /* lives, and says nothing */
    STUBBORN, /* serves, and does not mind SIGTERM */
    FROZEN,   /* as STUBBORN, and stands still before it says anything */
    EXITS,    /* at once, with code 3 */
};
struct rig;
struct process {
    struct loop *loop;
    struct env env;
};
struct life { /* of a worker */
    struct rig *rig;
    struct process process;
    unsigned target;
    uint64_t began_ns;
    int fds[2];
    struct datanode_supervised_user user;
    struct datanode_supervised *supervised;
    struct net_listener_user acceptor;
    struct net_listener *listener;
    struct loop_signal term;
    unsigned accepted, terms, lost;
};
struct rig {
    struct loop_sim *world;
    struct net_sim *net;
    struct process meta, data, other;
    struct peer_user meta_user;
    struct peer_server *server;
    struct proto_exited_request report[REPORTS];
    uint64_t report_ns[REPORTS];
    unsigned report_count;
    struct loop_sim_program program;
    enum behaviour behaviour;
    struct life life[LIVES];
    unsigned life_count;
    struct datanode_master_user user;
    struct datanode_master *master;
    struct datanode_master_options opt;
    unsigned stops;
    int start_rc;
    struct err start_error;
    struct net_connect connect;
    struct stream *stream;
    struct datanode_master_info info;
    uint64_t limit_ms;
    unsigned asked;
};

static struct peer_secrets secrets(void)
{
    struct peer_secrets s = {.server.known = true, .client.known = true};
    memset(s.server.bytes, 5, sizeof s.server.bytes);
    memset(s.client.bytes, 6, sizeof s.client.bytes);
    return s;
}

static const struct uuid cluster = {{1, 2, 3}};

static struct net_address address(unsigned host, unsigned port)
{
    struct net_address a = {0};
    snprintf(a.text, sizeof a.text, "host%u:%u", host, port);
    return a;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}
static void for_ms(struct rig *r, uint64_t ms)
{
    (void)loop_sim_run(r->world, never, NULL, loop_sim_now_ns(r->world) + ms * MS);
}
/* At most 200 s; then the test fails. */
#define UNTIL(r, condition)                                              \
    do {                                                                 \
        uint64_t until_ns = loop_sim_now_ns((r)->world) + 200000 * MS;   \
        while (!(condition) && loop_sim_now_ns((r)->world) < until_ns) { \
            CHECK_TRUE(loop_sim_step((r)->world));                       \
        }                                                                \
        CHECK_TRUE(condition);                                           \
    } while (0)

static void process_env(struct rig *r, struct process *p, unsigned host)
{
    p->env = (struct env){.loop = p->loop};
    CHECK_OK(net_sim_open(r->net, host, p->loop, &p->env.net));
}

/* ---- The metadata server ---- */

static void on_exited(struct peer_user *u, struct peer_request *q)
{
    struct rig *r = container_of(u, struct rig, meta_user);
    const struct proto_exited_reply answer = {};
    CHECK_TRUE(r->report_count < REPORTS);
    r->report_ns[r->report_count] = loop_sim_now_ns(r->world);
    r->report[r->report_count++] = *(const struct proto_exited_request *)q->body;
    peer_request_answer(q, &answer, NULL);
}
static void link_up(struct peer_user *u, struct peer_link *l)
{
    (void)u;
    (void)l;
}
static void link_down(struct peer_user *u, struct peer_link *l, int rc, const char *reason)
{
    (void)u;
    (void)l;
    (void)rc;
    (void)reason;
}
static const struct peer_user_ops meta_ops = {.up = link_up, .down = link_down};
static const struct peer_handler meta_handlers[] = {
    {.opcode = PROTO_OP_exited, .request = on_exited}};

static void meta_inside(void *ctx)
{
    struct rig *r = ctx;
    process_env(r, &r->meta, META_HOST);
    r->meta_user.ops = &meta_ops;
    const struct peer_server_options opt = {.env = &r->meta.env,
                                            .user = &r->meta_user,
                                            .handlers = meta_handlers,
                                            .handler_count = ARRAY_COUNT(meta_handlers),
                                            .secrets = secrets(),
                                            .cluster_id = cluster,
                                            .role = PROTO_ROLE_META,
                                            .name = "meta"};
    struct net_address at = address(META_HOST, 9400);
    CHECK_OK(peer_server_new(&opt, &r->server));
    CHECK_OK(peer_server_listen(r->server, &at, NULL));
}

static void start_meta(struct rig *r)
{
    CHECK_OK(loop_sim_process(r->world, "meta", META_HOST, &r->meta.loop));
    loop_sim_enter(r->meta.loop, meta_inside, r);
}

/* ---- Workers ---- */

static void worker_accepted(struct net_listener_user *u, struct stream *s)
{
    struct life *f = container_of(u, struct life, acceptor);
    f->accepted++;
    stream_close(s);
}
static void worker_lost(struct datanode_supervised_user *u)
{
    container_of(u, struct life, user)->lost++;
}
static const struct datanode_supervised_user_ops supervised_ops = {.lost = worker_lost};

static void worker_signalled(struct loop_signal *s, int signo)
{
    CHECK_EQ(signo, SIGTERM);
    container_of(s, struct life, term)->terms++;
}

static void worker_serve(void *ctx)
{
    struct life *f = ctx;
    f->user.ops = &supervised_ops;
    f->acceptor.accepted = worker_accepted;
    CHECK_OK(net_listen_fd(f->process.env.net, f->fds[0], &f->acceptor, &f->listener));
    struct datanode_supervised_options o = {.env = &f->process.env,
                                            .user = &f->user,
                                            .secrets = secrets(),
                                            .cluster_id = cluster,
                                            .name = "target",
                                            .fd = f->fds[1],
                                            .incarnation = (uint64_t)(f - f->rig->life) + 1,
                                            .address = "host2:1"};
    o.uuid.bytes[0] = (uint8_t)(f->target + 1);
    CHECK_OK(datanode_supervised_start(&o, &f->supervised));
}

static void worker_mind_nothing(struct life *f)
{
    f->term = (struct loop_signal){.caught = worker_signalled, .signo = SIGTERM};
    CHECK_OK(loop_signal_add(f->process.loop, &f->term));
}

static int worker_start(struct loop_sim_program *p, struct loop *l,
                        const struct loop_spawn_options *opt)
{
    struct rig *r = container_of(p, struct rig, program);
    CHECK_TRUE(r->life_count < LIVES);
    CHECK_EQ(opt->fd_count, 2);
    struct life *f = &r->life[r->life_count++];
    *f = (struct life){.rig = r,
                       .process.loop = l,
                       .target = (unsigned)(opt->argv[2][0] - '0'),
                       .began_ns = loop_sim_now_ns(r->world),
                       .fds = {opt->fds[0], opt->fds[1]}};
    process_env(r, &f->process, DATA_HOST);
    f->process.env.stats = stats_new(NULL, ""); /* goes with the process */
    CHECK_TRUE(f->process.env.stats != NULL);
    if (r->behaviour == EXITS) {
        return 3;
    }
    if (r->behaviour == STUBBORN || r->behaviour == FROZEN) {
        worker_mind_nothing(f);
    }
    if (r->behaviour != SILENT) {
        worker_serve(f);
    }
    if (r->behaviour == FROZEN) {
        loop_sim_pause(l, true);
    }
    return 0;
}

struct looked {
    struct stats_visitor visitor;
    const char *path;
    int64_t value;
};
static void look(struct stats_visitor *v, const struct stats_value *value)
{
    struct looked *x = container_of(v, struct looked, visitor);
    x->value = strcmp(value->path, x->path) == 0 ? value->value : x->value;
}
/* What the worker's statistics say; -1,000: nothing of that name. */
static int64_t number(struct life *f, const char *path)
{
    struct looked x = {.visitor.visit = look, .path = path, .value = -1000};
    CHECK_OK(stats_walk(f->process.env.stats, &x.visitor));
    return x.value;
}

static struct life *last_life(struct rig *r)
{
    return &r->life[r->life_count - 1];
}

/* ---- The master ---- */

static void master_stopped(struct datanode_master_user *u)
{
    container_of(u, struct rig, user)->stops++;
}
static const struct datanode_master_user_ops user_ops = {.stopped = master_stopped};

static void master_inside(void *ctx)
{
    static const char *const argv[TARGETS][4] = {
        {NULL, "worker", "0", NULL}, {NULL, "worker", "1", NULL}, {NULL, "worker", "2", NULL}};
    static const char *const names[TARGETS] = {"target.0", "target.1", "target.2"};
    struct rig *r = ctx;
    struct datanode_master_target targets[TARGETS] = {0};
    struct net_address meta = address(META_HOST, 9400);
    process_env(r, &r->data, DATA_HOST);
    r->user.ops = &user_ops;
    for (unsigned i = 0; i < TARGETS; i++) {
        targets[i] = (struct datanode_master_target){
            .name = names[i], .listen = address(DATA_HOST, 9500 + i), .argv = argv[i]};
    }
    r->opt.env = &r->data.env;
    r->opt.user = &r->user;
    r->opt.cluster_id = cluster;
    r->opt.secrets = secrets();
    r->opt.name = "node.a";
    r->opt.meta = &meta;
    r->opt.meta_count = 1;
    r->opt.targets = targets;
    r->start_rc = datanode_master_start(&r->opt, &r->master, &r->start_error);
    r->opt.targets = NULL;
    r->opt.meta = NULL;
}

static void start_master(struct rig *r)
{
    CHECK_OK(loop_sim_process(r->world, "data", DATA_HOST, &r->data.loop));
    loop_sim_enter(r->data.loop, master_inside, r);
}

static void rig_open(struct rig *r, enum behaviour behaviour, unsigned targets)
{
    *r = (struct rig){.behaviour = behaviour, .opt.target_count = targets};
    r->world = loop_sim_new(testing_seed());
    CHECK_TRUE(r->world != NULL);
    const struct net_sim_options net = {.sim = r->world};
    r->net = net_sim_new(&net);
    CHECK_TRUE(r->net != NULL);
    r->program = (struct loop_sim_program){.name = "worker", .start = worker_start};
    loop_sim_program(r->world, &r->program);
    start_meta(r);
}

/* Processes, then what they stood on. */
static void rig_close(struct rig *r)
{
    struct loop *loops[LIVES + 3] = {r->meta.loop, r->data.loop, r->other.loop};
    for (unsigned i = 0; i < r->life_count; i++) {
        loops[3 + i] = r->life[i].process.loop;
    }
    for (size_t i = 0; i < ARRAY_COUNT(loops); i++) {
        if (loops[i] != NULL) {
            loop_sim_kill(loops[i]);
        }
    }
    r->net = net_sim_free(r->net);
    r->world = loop_sim_free(r->world);
}

static void ask_info(void *ctx)
{
    struct rig *r = ctx;
    datanode_master_info(r->master, r->asked, &r->info);
}

static const struct datanode_master_info *info(struct rig *r, unsigned target)
{
    r->asked = target;
    loop_sim_enter(r->data.loop, ask_info, r);
    return &r->info;
}

static void stop_inside(void *ctx)
{
    struct rig *r = ctx;
    datanode_master_stop(r->master, r->limit_ms);
}

static void stop_master(struct rig *r, uint64_t limit_ms)
{
    r->limit_ms = limit_ms;
    loop_sim_enter(r->data.loop, stop_inside, r);
}

static void free_inside(void *ctx)
{
    struct rig *r = ctx;
    r->master = datanode_master_free(r->master);
}

/* ---- Tests ---- */

TEST(one_worker_for_each_target_says_what_it_serves)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    start_master(&r);
    CHECK_OK(r.start_rc);
    for (unsigned i = 0; i < TARGETS; i++) {
        UNTIL(&r, info(&r, i)->serving);
        CHECK_EQ(r.info.uuid.bytes[0], i + 1);
        CHECK_NE(r.info.pid, 0);
        CHECK_EQ(r.info.restarts, 0);
    }
    CHECK_EQ(r.life_count, TARGETS);
    CHECK_EQ(r.report_count, 0);
    rig_close(&r);
}

TEST(a_killed_worker_is_reported_at_once_and_started_again)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    start_master(&r);
    for (unsigned i = 0; i < TARGETS; i++) {
        UNTIL(&r, info(&r, i)->serving);
    }
    struct life *f = &r.life[1];
    unsigned target = f->target;
    uint64_t at_ns = loop_sim_now_ns(r.world);
    loop_sim_kill(f->process.loop);
    UNTIL(&r, r.report_count == 1);
    CHECK_TRUE(r.report_ns[0] - at_ns < 50 * MS);
    CHECK_EQ(r.report[0].uuid.bytes[0], target + 1);
    CHECK_EQ(r.report[0].incarnation, 2);
    CHECK_EQ(r.report[0].status, -SIGKILL);
    UNTIL(&r, info(&r, target)->serving);
    CHECK_EQ(r.info.restarts, 1);
    CHECK_EQ(r.info.incarnation, TARGETS + 1);
    CHECK_EQ(r.info.last_status, -SIGKILL);
    CHECK_EQ(r.life_count, TARGETS + 1);
    UNTIL(&r, number(last_life(&r), "master/worker_restarts") == 1); /* the worker was told */
    CHECK_EQ(number(last_life(&r), "master/worker_last_status"), -SIGKILL);
    CHECK_EQ(number(&r.life[0], "master/worker_restarts"), 0);
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.report_count == 2);
    CHECK_EQ(r.report[1].incarnation, TARGETS + 1);
    rig_close(&r);
}

TEST(a_worker_that_never_served_is_not_reported)
{
    struct rig r;
    rig_open(&r, SILENT, 1);
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    for_ms(&r, 50);
    CHECK_TRUE(!info(&r, 0)->serving);
    loop_sim_kill(r.life[0].process.loop);
    UNTIL(&r, r.life_count == 2);
    r.behaviour = EXITS;
    loop_sim_kill(r.life[1].process.loop);
    UNTIL(&r, r.life_count == 5);
    CHECK_EQ(r.report_count, 0);
    /* Nor is what a former life said taken for the word of this one. */
    r.behaviour = SERVES;
    UNTIL(&r, info(&r, 0)->serving);
    r.behaviour = SILENT;
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.report_count == 1);
    unsigned count = r.life_count;
    UNTIL(&r, r.life_count > count);
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.life_count > count + 1);
    for_ms(&r, 100);
    CHECK_EQ(r.report_count, 1);
    rig_close(&r);
}

static uint64_t gap_ms(const struct rig *r, unsigned life)
{
    return (r->life[life].began_ns - r->life[life - 1].began_ns) / MS;
}

static bool is_about(uint64_t ms, uint64_t expected)
{
    return ms >= expected && ms <= expected + 20; /* starting and noticing takes a moment */
}

TEST(the_pause_doubles_up_to_a_cap_and_begins_anew_after_a_long_life)
{
    static const uint64_t pauses[] = {100, 200, 400, 800, 800, 800};
    struct rig r;
    rig_open(&r, EXITS, 1);
    r.opt.back_off_min_ms = 100;
    r.opt.back_off_max_ms = 800;
    r.opt.stable_ms = 5000;
    start_master(&r);
    UNTIL(&r, r.life_count == ARRAY_COUNT(pauses) + 1);
    for (unsigned i = 0; i < ARRAY_COUNT(pauses); i++) {
        CHECK_TRUE(is_about(gap_ms(&r, i + 1), pauses[i]));
    }
    CHECK_EQ(info(&r, 0)->last_status, 3);
    r.behaviour = SERVES;
    UNTIL(&r, info(&r, 0)->serving);
    for_ms(&r, 4000); /* not long enough */
    unsigned last = r.life_count;
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, info(&r, 0)->serving && r.life_count > last);
    CHECK_TRUE(is_about(gap_ms(&r, last), 4800) || gap_ms(&r, last) > 4800);
    for_ms(&r, 5000);
    uint64_t at_ns = loop_sim_now_ns(r.world);
    loop_sim_kill(last_life(&r)->process.loop);
    UNTIL(&r, r.life_count == last + 2);
    CHECK_TRUE(is_about((last_life(&r)->began_ns - at_ns) / MS, 100));
    rig_close(&r);
}

static void connected(struct net_connect *c, int rc, struct stream *s)
{
    CHECK_OK(rc);
    container_of(c, struct rig, connect)->stream = s;
}

static void connect_inside(void *ctx)
{
    struct rig *r = ctx;
    process_env(r, &r->other, OTHER_HOST);
    r->connect = (struct net_connect){.done = connected, .to = address(DATA_HOST, 9500)};
    net_connect(r->other.env.net, &r->connect);
}

TEST(connections_wait_while_a_worker_is_started_again)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    r.opt.back_off_min_ms = 1000;
    start_master(&r);
    UNTIL(&r, info(&r, 0)->serving);
    loop_sim_kill(r.life[0].process.loop);
    for_ms(&r, 100);
    CHECK_OK(loop_sim_process(r.world, "other", OTHER_HOST, &r.other.loop));
    loop_sim_enter(r.other.loop, connect_inside, &r);
    UNTIL(&r, r.stream != NULL);
    CHECK_EQ(r.life_count, 1); /* nobody is there yet */
    UNTIL(&r, r.life_count == 2);
    UNTIL(&r, r.life[1].accepted == 1);
    rig_close(&r);
}

TEST(stop_ends_all_workers_and_starts_none)
{
    struct rig r;
    rig_open(&r, SERVES, TARGETS);
    start_master(&r);
    for (unsigned i = 0; i < TARGETS; i++) {
        UNTIL(&r, info(&r, i)->serving);
    }
    stop_master(&r, 10000);
    CHECK_EQ(r.stops, 0); /* never from inside */
    UNTIL(&r, r.stops == 1);
    for (unsigned i = 0; i < TARGETS; i++) {
        int code = 0;
        CHECK_TRUE(loop_sim_exited(r.life[i].process.loop, &code));
        CHECK_EQ(code, -SIGTERM);
        CHECK_EQ(info(&r, i)->pid, 0);
    }
    UNTIL(&r, r.report_count == TARGETS); /* their chains need not wait for leases */
    for_ms(&r, 60000);
    CHECK_EQ(r.stops, 1);
    CHECK_EQ(r.life_count, TARGETS);
    loop_sim_enter(r.data.loop, free_inside, &r);
    rig_close(&r);
}

TEST(stop_kills_a_worker_that_does_not_end)
{
    struct rig r;
    rig_open(&r, STUBBORN, 2);
    start_master(&r);
    UNTIL(&r, info(&r, 0)->serving);
    UNTIL(&r, info(&r, 1)->serving);
    uint64_t at_ns = loop_sim_now_ns(r.world);
    stop_master(&r, 60000);
    for_ms(&r, 1000);
    CHECK_EQ(r.life[0].terms, 1);
    CHECK_EQ(r.life[1].terms, 1);
    stop_master(&r, 2000); /* shorter counts */
    stop_master(&r, 30000);
    for_ms(&r, 1900);
    CHECK_EQ(r.stops, 0);
    UNTIL(&r, r.stops == 1);
    CHECK_TRUE(is_about((loop_sim_now_ns(r.world) - at_ns) / MS, 3000));
    int code = 0;
    CHECK_TRUE(loop_sim_exited(r.life[0].process.loop, &code));
    CHECK_EQ(code, -SIGKILL);
    rig_close(&r);
}

TEST(stop_during_a_pause_is_done_at_once)
{
    struct rig r;
    rig_open(&r, EXITS, 1);
    r.opt.back_off_min_ms = 1000;
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    UNTIL(&r, info(&r, 0)->pid == 0);
    stop_master(&r, 10000);
    UNTIL(&r, r.stops == 1);
    for_ms(&r, 5000);
    CHECK_EQ(r.life_count, 1);
    rig_close(&r);
}

TEST(a_worker_hears_that_its_master_is_gone)
{
    struct rig r;
    rig_open(&r, STUBBORN, 2);
    start_master(&r);
    UNTIL(&r, info(&r, 0)->serving);
    UNTIL(&r, info(&r, 1)->serving);
    loop_sim_kill(r.data.loop);
    UNTIL(&r, r.life[0].lost == 1 && r.life[1].lost == 1);
    for_ms(&r, 60000);
    CHECK_EQ(r.life[0].lost, 1);
    rig_close(&r);
}

TEST(a_worker_hears_that_its_master_was_gone_before_it_could_greet_it)
{
    struct rig r;
    rig_open(&r, FROZEN, 1);
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    loop_sim_kill(r.data.loop);
    for_ms(&r, 100);
    loop_sim_pause(r.life[0].process.loop, false);
    UNTIL(&r, r.life[0].lost == 1);
    for_ms(&r, 60000);
    CHECK_EQ(r.life[0].lost, 1);
    rig_close(&r);
}

TEST(a_worker_may_take_long_to_open_its_store)
{
    struct rig r;
    rig_open(&r, FROZEN, 1);
    start_master(&r);
    UNTIL(&r, r.life_count == 1);
    for_ms(&r, 600000);
    loop_sim_pause(r.life[0].process.loop, false);
    UNTIL(&r, info(&r, 0)->serving);
    CHECK_EQ(r.life[0].lost, 0);
    CHECK_EQ(r.life_count, 1);
    rig_close(&r);
}

TEST(a_worker_whose_master_stands_still_waits_for_it)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_master(&r);
    UNTIL(&r, info(&r, 0)->serving);
    loop_sim_pause(r.data.loop, true);
    for_ms(&r, 120000);
    CHECK_EQ(r.life[0].lost, 0);
    loop_sim_pause(r.data.loop, false);
    for_ms(&r, 1000);
    CHECK_EQ(r.life[0].lost, 0);
    loop_sim_kill(r.life[0].process.loop);
    UNTIL(&r, r.report_count == 1);
    rig_close(&r);
}

static void listen_inside(void *ctx)
{
    struct rig *r = ctx;
    struct net_address at = address(DATA_HOST, 9501);
    struct net_listener *listener = NULL;
    process_env(r, &r->other, DATA_HOST);
    CHECK_OK(net_listen(r->other.env.net, &at, NULL, &listener));
}

TEST(start_says_which_address_is_taken)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    CHECK_OK(loop_sim_process(r.world, "other", DATA_HOST, &r.other.loop));
    loop_sim_enter(r.other.loop, listen_inside, &r);
    start_master(&r);
    CHECK_RC(r.start_rc, EADDRINUSE);
    CHECK_TRUE(strstr(r.start_error.text, "host2:9501") != NULL);
    CHECK_TRUE(strstr(r.start_error.text, "target.1") != NULL);
    CHECK_TRUE(r.master == NULL);
    for_ms(&r, 1000);
    CHECK_EQ(r.life_count, 0);
    loop_sim_kill(r.data.loop);
    loop_sim_kill(r.other.loop);
    start_master(&r);
    CHECK_OK(r.start_rc);
    UNTIL(&r, info(&r, 1)->serving);
    rig_close(&r);
}

TEST(a_program_that_cannot_be_run_is_tried_again)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    r.program.name = "gone";
    r.opt.back_off_max_ms = 1000;
    start_master(&r);
    CHECK_OK(r.start_rc);
    for_ms(&r, 10000);
    CHECK_EQ(r.life_count, 0);
    CHECK_EQ(info(&r, 0)->pid, 0);
    r.program.name = "worker";
    for_ms(&r, 1100);
    CHECK_TRUE(info(&r, 0)->serving);
    CHECK_EQ(r.report_count, 0);
    rig_close(&r);
}

TEST(reports_wait_for_a_metadata_server)
{
    struct rig r;
    rig_open(&r, SERVES, 1);
    start_master(&r);
    UNTIL(&r, info(&r, 0)->serving);
    loop_sim_kill(r.meta.loop);
    for (unsigned i = 1; i <= 3; i++) { /* the newest is what matters */
        loop_sim_kill(last_life(&r)->process.loop);
        UNTIL(&r, r.life_count == i + 1);
        UNTIL(&r, info(&r, 0)->serving);
    }
    for_ms(&r, 5000);
    start_meta(&r);
    UNTIL(&r, r.report_count == 2);
    CHECK_EQ(r.report[0].incarnation, 1);
    CHECK_EQ(r.report[1].incarnation, 3);
    for_ms(&r, 70000);
    CHECK_EQ(r.report_count, 2);
    rig_close(&r);
}

TEST(workers_outlive_the_end_of_the_object)
{
    struct rig r;
    rig_open(&r, SERVES, 2);
    start_master(&r);
    UNTIL(&r, info(&r, 0)->serving);
    UNTIL(&r, info(&r, 1)->serving);
    loop_sim_enter(r.data.loop, free_inside, &r);
    UNTIL(&r, r.life[0].lost == 1); /* they are told, and end on their own */
    CHECK_TRUE(!loop_sim_exited(r.life[0].process.loop, NULL));
    rig_close(&r);
}
