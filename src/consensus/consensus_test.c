/* consensus/consensus_test.c -- the rules of the contract, one by one, with one voter; simulated,
 * and on a real disk.
 */
#include "consensus/consensus.h"

#include "base/env.h"
#include "base/mem.h"
#include "base/stats.h"
#include "disk/sim.h"
#include "loop/sim.h"
#include "testing/machine.h"
#include "testing/testing.h"

#include <stdio.h>
#include <string.h>

#define MS 1000000ull
#define MANY 128u

struct fixture {
    struct testing_machine machine;
    struct env env;
    struct consensus *consensus;
    struct consensus_fsm fsm;
    struct consensus_voter voter;
    struct consensus_options opt;
    struct consensus_proposal p[MANY];
    size_t count;
    struct consensus_state state;
    struct consensus_entry *held; /* hold: the owner does not finish it */
    bool hold, stopped;
    uint64_t operations, entries, locals, last_index;
    int failed, open_rc, stop_rc;
    unsigned failed_calls;
    struct consensus_reference reference;
    unsigned snapshots, restores;
    struct consensus_stop stop;
    struct err err;
};

static const uint8_t payload[1u << 20]; /* zeros */

static void fixture_apply(struct consensus_fsm *fsm, struct consensus_entry *e)
{
    struct fixture *f = container_of(fsm, struct fixture, fsm);
    struct consensus_operation op;
    CHECK_TRUE(e->index > f->last_index);
    f->last_index = e->index;
    f->entries++;
    if (f->hold) {
        f->held = e;
        return;
    }
    while (consensus_entry_next(e, &op)) {
        f->operations++;
        f->locals += op.local != NULL ? 1U : 0U;
    }
    consensus_applied(f->consensus, e->index);
}

static void fixture_state(struct consensus_fsm *fsm, const struct consensus_state *s)
{
    container_of(fsm, struct fixture, fsm)->state = *s;
}

static int fixture_snapshot(struct consensus_fsm *fsm, struct consensus_reference *ret)
{
    struct fixture *f = container_of(fsm, struct fixture, fsm);
    memcpy(ret->bytes, "state", 5);
    ret->len = 5;
    f->reference = *ret;
    f->snapshots++;
    return 0;
}

static int fixture_restore(struct consensus_fsm *fsm, const struct consensus_reference *r)
{
    struct fixture *f = container_of(fsm, struct fixture, fsm);
    CHECK_EQ(r->len, 5);
    CHECK_BYTES(r->bytes, "state", 5);
    f->reference = *r;
    f->restores++;
    return 0;
}

static void fixture_failed(struct consensus_fsm *fsm, int rc, const char *reason)
{
    struct fixture *f = container_of(fsm, struct fixture, fsm);
    CHECK_TRUE(reason[0] != 0);
    f->failed = rc;
    f->failed_calls++;
}

static const struct consensus_fsm_ops fixture_ops = {.apply = fixture_apply,
                                                     .state = fixture_state,
                                                     .snapshot = fixture_snapshot,
                                                     .restore = fixture_restore,
                                                     .failed = fixture_failed};

static void fixture_open(void *ctx)
{
    struct fixture *f = ctx;
    f->opt.env = &f->env;
    f->opt.fsm = &f->fsm;
    f->opt.voters = &f->voter;
    f->stopped = false;
    f->operations = f->entries = f->locals = f->last_index = 0;
    f->state = (struct consensus_state){.role = CONSENSUS_FOLLOWER};
    f->err = (struct err){0};
    CHECK_OK(disk_make_directories(f->env.disk, f->opt.directory));
    f->open_rc = consensus_open(&f->opt, &f->consensus, &f->err);
    if (f->open_rc == 0) {
        f->open_rc = consensus_start(f->consensus, &f->err);
    }
}

static void fixture_begin(struct fixture *f)
{
    *f = (struct fixture){.fsm.ops = &fixture_ops, .voter = {.id = 1, .address = "here"}};
    testing_machine_init(&f->machine, testing_seed());
    testing_machine_start(&f->machine, "meta", &f->env);
    f->opt = (struct consensus_options){.directory = "/c",
                                        .cluster = "mine",
                                        .id = 1,
                                        .voter_count = 1,
                                        .bootstrap = true,
                                        .segment_bytes = 5u << 20,
                                        .sparse = true};
}

static void fixture_end(struct fixture *f)
{
    testing_machine_kill(&f->machine, false);
    testing_machine_fini(&f->machine);
}

static bool fixture_until(struct fixture *f, bool (*done)(void *ctx))
{
    return testing_machine_until(&f->machine, done, f, 20000);
}

static bool fixture_leads(void *ctx)
{
    return consensus_lease_until_ns(((struct fixture *)ctx)->consensus) != 0;
}

static void fixture_up(struct fixture *f)
{
    loop_sim_enter(f->machine.loop, fixture_open, f);
    CHECK_OK(f->open_rc);
    CHECK_TRUE(fixture_until(f, fixture_leads));
}

static void proposal_done(struct consensus_proposal *p, int rc, uint64_t index)
{
    p->rc = rc;
    p->index = index;
    p->done = NULL; /* marks it */
}

static void propose_as(struct fixture *f, size_t len, bool urgent)
{
    struct consensus_proposal *p = &f->p[f->count++];
    *p = (struct consensus_proposal){.done = proposal_done, .bytes = payload, .len = len};
    p->urgent = urgent;
    consensus_propose(f->consensus, p);
    CHECK_TRUE(p->done != NULL); /* never inside */
}

static void propose(struct fixture *f, size_t len)
{
    propose_as(f, len, false);
}

static bool all_done(void *ctx)
{
    struct fixture *f = ctx;
    for (size_t i = 0; i < f->count; i++) {
        if (f->p[i].done != NULL) {
            return false;
        }
    }
    return true;
}

static void fixture_settle(struct fixture *f)
{
    CHECK_TRUE(fixture_until(f, all_done));
}

static void stop_done(struct consensus_stop *s, int rc)
{
    struct fixture *f = container_of(s, struct fixture, stop);
    f->stop_rc = rc;
    f->stopped = true;
    f->consensus = consensus_free(f->consensus);
}

static void fixture_stop(void *ctx)
{
    struct fixture *f = ctx;
    f->stop.done = stop_done;
    consensus_stop(f->consensus, &f->stop);
}

static bool fixture_stopped(void *ctx)
{
    return ((struct fixture *)ctx)->stopped;
}

static void fixture_down(struct fixture *f)
{
    loop_sim_enter(f->machine.loop, fixture_stop, f);
    CHECK_TRUE(fixture_until(f, fixture_stopped));
}

static void body_hundred(void *ctx)
{
    struct fixture *f = ctx;
    f->count = 0;
    for (size_t i = 0; i < 100; i++) {
        propose(f, i);
    }
}

TEST(consensus_packs_many_operations_into_few_entries)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    CHECK_TRUE(f.state.role == CONSENSUS_LEADER && f.state.leader_id == 1);
    CHECK_TEXT(f.state.leader_address, "here");
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    for (size_t i = 0; i < 100; i++) {
        CHECK_OK(f.p[i].rc);
        CHECK_EQ(f.p[i].index, f.p[0].index);
    }
    CHECK_EQ(f.entries, 1);
    CHECK_EQ(f.operations, 100);
    CHECK_EQ(f.locals, 100);
    fixture_down(&f);
    CHECK_OK(f.stop_rc);
    fixture_up(&f);
    CHECK_EQ(f.operations, 100);
    CHECK_EQ(f.locals, 0); /* of an earlier process */
    fixture_down(&f);
    fixture_end(&f);
}

static void body_limits(void *ctx)
{
    struct fixture *f = ctx;
    f->count = 0;
    propose(f, CONSENSUS_OPERATION_MAX + 1);
    propose(f, CONSENSUS_OPERATION_MAX);
    propose(f, 4000);
    propose(f, 1);
}

TEST(consensus_refuses_beyond_its_limits)
{
    struct fixture f;
    fixture_begin(&f);
    f.opt.queue_bytes = CONSENSUS_OPERATION_MAX + 4096;
    f.opt.queue_count = 2;
    fixture_up(&f);
    loop_sim_enter(f.machine.loop, body_limits, &f);
    fixture_settle(&f);
    CHECK_RC(f.p[0].rc, EMSGSIZE);
    CHECK_OK(f.p[1].rc);
    CHECK_OK(f.p[2].rc);
    CHECK_RC(f.p[3].rc, ERR_busy);
    fixture_down(&f);
    fixture_end(&f);
}

TEST(consensus_is_busy_when_the_log_is_too_long)
{
    struct fixture f;
    fixture_begin(&f);
    f.opt.log_limit_bytes = 30000;
    fixture_up(&f);
    int last = 0;
    for (unsigned i = 0; i < 20 && last == 0; i++) {
        loop_sim_enter(f.machine.loop, body_hundred, &f);
        fixture_settle(&f);
        last = f.p[99].rc;
    }
    CHECK_RC(last, ERR_busy);
    struct consensus_info info;
    consensus_info(f.consensus, &info);
    CHECK_TRUE(info.log_bytes > 20000 && info.log_bytes < 40000);
    fixture_down(&f);
    fixture_end(&f);
}

static void body_release(void *ctx)
{
    struct fixture *f = ctx;
    f->hold = false;
    struct consensus_operation op;
    while (consensus_entry_next(f->held, &op)) {
        f->operations++;
    }
    consensus_applied(f->consensus, f->held->index);
}

static bool fixture_held(void *ctx)
{
    return ((struct fixture *)ctx)->held != NULL;
}

static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

/* Committed, but the owner is not ready: no answer, nothing else handed over; reads go on. */
TEST(consensus_waits_for_the_owner)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    f.hold = true;
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    CHECK_TRUE(fixture_until(&f, fixture_held));
    (void)testing_machine_until(&f.machine, never, &f, 2000);
    CHECK_TRUE(!all_done(&f));
    struct consensus_info info;
    consensus_info(f.consensus, &info);
    CHECK_EQ(info.commit_index, info.applied_index + 1);
    loop_sim_enter(f.machine.loop, body_release, &f);
    fixture_settle(&f);
    CHECK_OK(f.p[99].rc);
    CHECK_EQ(consensus_applied_index(f.consensus), f.p[99].index);
    fixture_down(&f);
    fixture_end(&f);
}

TEST(consensus_fails_once_and_for_good)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    disk_sim_fail(f.machine.disk, DISK_SYNC, "/c", 1, 1, -EIO);
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    CHECK_RC(f.p[0].rc, ERR_unknown_outcome);
    CHECK_EQ(f.failed, -EIO);
    CHECK_EQ(f.operations, 0);
    CHECK_EQ(consensus_lease_until_ns(f.consensus), 0);
    struct consensus_state s;
    consensus_state(f.consensus, &s);
    CHECK_TRUE(s.role != CONSENSUS_LEADER);
    loop_sim_enter(f.machine.loop, body_hundred, &f); /* the disk would take it again */
    fixture_settle(&f);
    CHECK_RC(f.p[0].rc, ERR_failed_before);
    CHECK_EQ(f.failed_calls, 1);
    fixture_down(&f);
    CHECK_RC(f.stop_rc, EIO);
    fixture_up(&f); /* the way on */
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    CHECK_OK(f.p[0].rc);
    fixture_down(&f);
    fixture_end(&f);
}

static void body_fill(void *ctx)
{
    struct fixture *f = ctx;
    f->count = 0;
    for (size_t i = 0; i < 8; i++) {
        propose(f, 250000);
    }
}

static void body_urgent(void *ctx)
{
    struct fixture *f = ctx;
    f->count = 0;
    propose_as(f, 1000, true);
}

/* What is under way has its room; what comes then is refused after a while, but not what others
 * need; it goes on by itself. */
TEST(consensus_refuses_when_the_disk_is_full)
{
    struct fixture f;
    fixture_begin(&f);
    f.opt.sparse = false; /* space is taken ahead, so that a write cannot lack it */
    fixture_up(&f);
    (void)testing_machine_until(&f.machine, never, &f, 1000);
    disk_sim_capacity(f.machine.disk, disk_sim_used_bytes(f.machine.disk) + (12u << 20));
    int refused = 0;
    for (unsigned round = 0; round < 20 && refused == 0; round++) {
        loop_sim_enter(f.machine.loop, body_fill, &f);
        (void)testing_machine_until(&f.machine, all_done, &f, 3000);
        CHECK_TRUE(f.p[7].done == NULL); /* done or refused */
        refused = f.p[7].rc;
    }
    CHECK_EQ(refused, -ENOSPC);
    CHECK_TRUE(all_done(&f)); /* nothing waits for room */
    struct consensus_info info;
    consensus_info(f.consensus, &info);
    CHECK_EQ(info.full, -ENOSPC);
    CHECK_EQ(info.last_index, info.commit_index);
    loop_sim_enter(f.machine.loop, body_urgent, &f);
    fixture_settle(&f);
    CHECK_OK(f.p[0].rc);
    unsigned urgent = 0;
    for (; f.p[0].rc == 0 && urgent < 100000; urgent++) { /* has an end, too */
        loop_sim_enter(f.machine.loop, body_urgent, &f);
        fixture_settle(&f);
    }
    CHECK_EQ(f.p[0].rc, -ENOSPC);
    CHECK_TRUE(urgent > 300);
    CHECK_EQ(f.failed_calls, 0);
    disk_sim_capacity(f.machine.disk, 0);
    (void)testing_machine_until(&f.machine, never, &f, 2000);
    consensus_info(f.consensus, &info);
    CHECK_EQ(info.full, 0);
    loop_sim_enter(f.machine.loop, body_fill, &f);
    fixture_settle(&f);
    CHECK_OK(f.p[7].rc);
    fixture_down(&f);
    CHECK_OK(f.stop_rc);
    fixture_end(&f);
}

static void body_want(void *ctx)
{
    consensus_snapshot_want(((struct fixture *)ctx)->consensus);
}

static void body_durable(void *ctx)
{
    struct fixture *f = ctx;
    consensus_snapshot_durable(f->consensus, f->reference.index, 0);
}

static bool fixture_asked(void *ctx)
{
    return ((struct fixture *)ctx)->snapshots > 0;
}

static bool fixture_recorded(void *ctx)
{
    struct consensus_info info;
    consensus_info(((struct fixture *)ctx)->consensus, &info);
    return info.snapshot_index > 0;
}

TEST(consensus_records_a_snapshot_when_it_is_durable)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    loop_sim_enter(f.machine.loop, body_want, &f);
    CHECK_TRUE(fixture_until(&f, fixture_asked));
    CHECK_EQ(f.reference.index, f.p[99].index);
    (void)testing_machine_until(&f.machine, never, &f, 1000);
    CHECK_TRUE(!fixture_recorded(&f)); /* not before its state is durable */
    loop_sim_enter(f.machine.loop, body_durable, &f);
    CHECK_TRUE(fixture_until(&f, fixture_recorded));
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    fixture_down(&f);
    fixture_up(&f);
    CHECK_EQ(f.restores, 1); /* the owner said that it has nothing */
    CHECK_EQ(f.operations, 100);
    fixture_down(&f);
    f.opt.applied = f.last_index;
    fixture_up(&f);
    CHECK_EQ(f.restores, 1);
    CHECK_EQ(f.operations, 0);
    fixture_down(&f);
    fixture_end(&f);
}

static void expect_refused(struct fixture *f, int code)
{
    loop_sim_enter(f->machine.loop, fixture_open, f);
    CHECK_ERR(f->open_rc, code);
    CHECK_TRUE(f->err.text[0] != 0);
}

static void body_remove_term(void *ctx)
{
    struct fixture *f = ctx;
    struct disk_req req = {.op = DISK_REMOVE, .path = "/c/term"};
    CHECK_EQ(disk_now(f->env.disk, &req), 0);
}

static void body_remove_log(void *ctx)
{
    struct fixture *f = ctx;
    struct disk_req list = {.op = DISK_LIST, .path = "/c/log"};
    CHECK_TRUE(disk_now(f->env.disk, &list) > 0);
    for (size_t i = 0; i < list.names->count; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "/c/log/%s", list.names->name[i]);
        struct disk_req req = {.op = DISK_REMOVE, .path = path};
        CHECK_EQ(disk_now(f->env.disk, &req), 0);
    }
    mem_free(list.names);
}

TEST(consensus_refuses_what_is_not_its_own_or_incomplete)
{
    struct fixture f;
    fixture_begin(&f);
    f.opt.bootstrap = false;
    expect_refused(&f, ENOENT);
    f.opt.bootstrap = true;
    fixture_up(&f);
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    fixture_down(&f);
    f.opt.cluster[0] = 'x';
    expect_refused(&f, ERR_wrong_cluster);
    f.opt.cluster[0] = 'm';
    f.opt.id = f.voter.id = 2;
    expect_refused(&f, ERR_wrong_cluster);
    f.opt.id = f.voter.id = 1;
    f.opt.applied = 1000;
    expect_refused(&f, ERR_corrupt);
    f.opt.applied = 0;
    loop_sim_enter(f.machine.loop, body_remove_term, &f);
    expect_refused(&f, ERR_corrupt);
    fixture_end(&f);
}

TEST(consensus_does_not_begin_anew_when_its_log_is_gone)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    fixture_down(&f);
    loop_sim_enter(f.machine.loop, body_remove_log, &f);
    expect_refused(&f, ERR_corrupt);
    fixture_end(&f);
}

static void body_open_and_free(void *ctx)
{
    struct fixture *f = ctx;
    fixture_open(f);
    CHECK_OK(f->open_rc);
    f->consensus = consensus_free(f->consensus);
}

/* An owner whose start fails behind ours drops it at once. */
TEST(consensus_may_be_freed_right_after_its_start)
{
    struct fixture f;
    fixture_begin(&f);
    loop_sim_enter(f.machine.loop, body_open_and_free, &f);
    (void)testing_machine_until(&f.machine, never, &f, 100);
    fixture_up(&f);
    CHECK_TRUE(f.consensus != NULL);
    fixture_down(&f);
    loop_sim_enter(f.machine.loop, body_open_and_free, &f);
    (void)testing_machine_until(&f.machine, never, &f, 100);
    fixture_end(&f);
}

/* An owner that keeps its entry does not keep the end from coming. */
TEST(consensus_does_not_wait_for_ever_for_the_owner)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    f.hold = true;
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    CHECK_TRUE(fixture_until(&f, fixture_held));
    fixture_down(&f);
    CHECK_OK(f.stop_rc);
    CHECK_RC(f.p[0].rc, ERR_unknown_outcome);
    f.hold = false;
    fixture_up(&f);
    CHECK_EQ(f.operations, 100);
    fixture_down(&f);
    fixture_end(&f);
}

/* --- a real disk ---------------------------------------------------------------------------------
 */

static void real_until(struct fixture *f, bool (*done)(void *ctx))
{
    for (unsigned i = 0; i < 10000 && !done(f); i++) {
        loop_run_once(f->env.loop, 10 * MS);
    }
    CHECK_TRUE(done(f));
}

TEST(consensus_works_on_a_real_disk)
{
    struct fixture f = {.fsm.ops = &fixture_ops, .voter = {.id = 1, .address = "here"}};
    f.opt = (struct consensus_options){.directory = testing_directory(),
                                       .cluster = "mine",
                                       .id = 1,
                                       .voter_count = 1,
                                       .bootstrap = true};
    CHECK_OK(loop_new(&(struct loop_options){.name = "consensus"}, &f.env.loop, &f.err));
    f.env.stats = stats_new(NULL, "test");
    CHECK_OK(disk_pool_new(&f.env, &(struct disk_pool_options){.max_threads = 2}, &f.env.disk));
    for (unsigned life = 0; life < 3; life++) {
        fixture_open(&f);
        CHECK_OK(f.open_rc);
        real_until(&f, fixture_leads);
        CHECK_EQ(f.operations, life * 2000);
        for (unsigned round = 0; round < 20; round++) {
            body_hundred(&f);
            real_until(&f, all_done);
            CHECK_OK(f.p[99].rc);
        }
        fixture_stop(&f);
        real_until(&f, fixture_stopped);
        CHECK_OK(f.stop_rc);
    }
    disk_free(f.env.disk);
    stats_free(f.env.stats);
    loop_free(f.env.loop);
}

/* A disk that stalls for longer than the election timeout is no reason to lose the leadership. */
TEST(consensus_stands_a_slow_disk)
{
    struct fixture f;
    fixture_begin(&f);
    fixture_up(&f);
    uint64_t term = f.state.term;
    disk_sim_slow(f.machine.disk, 2000 * MS);
    loop_sim_enter(f.machine.loop, body_hundred, &f);
    fixture_settle(&f);
    CHECK_OK(f.p[99].rc);
    CHECK_EQ(f.state.term, term);
    disk_sim_slow(f.machine.disk, 0);
    fixture_down(&f);
    fixture_end(&f);
}
