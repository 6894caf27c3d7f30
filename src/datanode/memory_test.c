/*
 * datanode/memory_test.c -- workers that run out of memory: each allocation of a member fails once,
 * in the middle of writes, reads, syncs, removals, resyncs and its end. Nothing crashes, hangs or
 * leaks; clients are told to ask again, and in the end find what they have written.
 */
#include "datanode/worker.h"

#include "base/fault.h"
#include "datanode/rig_world_priv.h"
#include "testing/testing.h"

#define TRIES 500u
#define POINT "mem.alloc"

struct tale {
    struct rig rig;
    struct fault *fault; /* of the victim */
    unsigned victim;
    uint64_t passed; /* allocations of the victim */
    size_t left_bytes;
};

/* May the client ask again? "Out of memory" would be the end for it. */
static bool passing(int rc)
{
    return err_is(rc, EAGAIN) || err_is(rc, ECONNRESET) || err_is(rc, ETIMEDOUT);
}
static void tale_write(struct rig *r, struct rig_io io)
{
    io.seq = ++r->seq;
    int rc = -EAGAIN;
    for (unsigned i = 0; i < TRIES && passing(rc); i++) {
        rc = rig_write(r, &io);
        io.retry = true;
    }
    CHECK_OK(rc);
}
static void tale_sync(struct rig *r, const struct rig_io *io)
{
    int rc = -EAGAIN;
    for (unsigned i = 0; i < TRIES && passing(rc); i++) {
        rc = rig_sync(r, io);
    }
    CHECK_OK(rc);
}
static void tale_remove(struct rig *r, const struct rig_io *io)
{
    int rc = -EAGAIN;
    for (unsigned i = 0; i < TRIES && passing(rc); i++) {
        rc = rig_remove(r, io);
    }
    CHECK_OK(rc);
}
static void tale_read(struct rig *r, struct rig_io io)
{
    for (io.host = 1; io.host <= 2; io.host++) {
        int rc = -EAGAIN;
        for (unsigned i = 0; i < TRIES && passing(rc); i++) {
            rc = rig_read(r, &io);
        }
        CHECK_OK(rc);
    }
}
static void tale_stat(struct rig *r, const struct rig_io *io, uint32_t count)
{
    struct rig_call c = {.rc = -EAGAIN};
    for (unsigned i = 0; i < TRIES && passing(c.rc); i++) {
        rig_stat_begin(r, &c, io);
        RIG_UNTIL(r, c.done);
    }
    CHECK_OK(c.rc);
    CHECK_EQ(c.stat_count, count);
}
static void tale_row(struct rig *r, const char *row)
{
    rig_row(r, 1, row);
    RIG_UNTIL(r, rig_settled(r, 1));
}

/* The second target has no space for it: what the first one has of it goes. */
static void tale_refused(struct rig *r, const struct rig_io *io)
{
    struct rig_io large = *io;
    large.length = 1u << 20;
    large.seq = ++r->seq;
    disk_sim_capacity(r->disk[2], disk_sim_used_bytes(r->disk[2]) + (512u << 10));
    rig_for_ms(r, 1500); /* until it has looked */
    int rc = -EAGAIN;
    for (unsigned i = 0; i < TRIES && passing(rc); i++) {
        rc = rig_write(r, &large);
        large.retry = true;
    }
    CHECK_RC(rc, ERR_no_space);
    disk_sim_capacity(r->disk[2], 0);
    tale_read(r, *io);
}

/* The second target alone goes on, and is then given up: it comes back with higher versions. */
static void tale_dead_epoch(struct rig *r, struct rig_io io)
{
    tale_row(r, "2s 1o");
    io.host = 2;
    io.fill = 9;
    for (unsigned i = 0; i < 3; i++) {
        tale_write(r, io);
    }
    r->row[1].loss_gen++;
    tale_row(r, "1s 2w");
}

static void tale_tell(struct rig *r)
{
    const struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 9000, .fill = 2};
    struct rig_io part = io;
    struct rig_io second = io;
    struct rig_io other = io;
    second.index = 1;
    other.data_id = 200;
    tale_write(r, io);
    part.offset = 4000;
    part.length = 200;
    part.fill = 2; /* the same bytes, merged into two cells */
    tale_write(r, part);
    tale_write(r, second);
    tale_write(r, other);
    tale_sync(r, &io);
    tale_read(r, io);
    struct rig_io large = io;
    large.data_id = 300;
    large.length = 150000;
    tale_write(r, large);
    large.stream = true;
    tale_read(r, large);
    tale_stat(r, &io, 2);
    tale_refused(r, &io);
    tale_dead_epoch(r, io);
    struct rig_io newer = io;
    newer.fill = 5;
    tale_write(r, newer);
    tale_remove(r, &other);
    tale_row(r, "1s 2y");
    uint32_t epoch = r->row[1].epoch;
    second.fill = 6;
    tale_write(r, second);
    RIG_UNTIL(r, r->target[2].synced[1] == epoch);
    tale_row(r, "1s 2s");
    tale_read(r, newer);
    tale_read(r, second);
    other.length = 0;
    for (other.host = 1; other.host <= 2; other.host++) {
        int rc = -EAGAIN;
        for (unsigned i = 0; i < TRIES && passing(rc); i++) {
            rc = rig_read(r, &other);
        }
        CHECK_RC(rc, ERR_gone);
    }
    CHECK_EQ(r->target[1].fails + r->target[2].fails, 0);
    CHECK_EQ(r->target[1].report[1], PROTO_REPORT_OK);
    CHECK_EQ(r->target[2].report[1], PROTO_REPORT_OK);
}

/* The nth allocation of the victim fails; 0: none. */
static void tale_run(struct tale *t, unsigned victim, enum datanode_engine engine, uint64_t nth)
{
    struct rig *r = &t->rig;
    t->victim = victim;
    t->fault = fault_new();
    CHECK_TRUE(t->fault != NULL);
    const struct rig_options opt = {
        .seed = 1, .targets = 2, .engine = engine, .small = 2, .small_bytes = 512u << 10};
    rig_chain_with(r, &opt);
    if (nth > 0) {
        fault_arm(t->fault, POINT, nth, nth % 3 == 0 ? 7 : 1);
    }
    (void)rig_domain(r, victim, t->fault);
    tale_tell(r);
    for (unsigned host = 2; host >= 1; host--) {
        rig_in(r->target[host].process.loop, rig_stop_inside, &r->target[host]);
        RIG_UNTIL(r, r->target[host].stops == 1);
        rig_in(r->target[host].process.loop, rig_free_inside, &r->target[host]);
        r->target[host].alive = false;
        if (host == victim) {
            t->left_bytes = rig_domain(r, host, NULL);
        }
    }
    t->passed = fault_passed(t->fault, POINT);
    rig_close(r);
    t->fault = fault_free(t->fault);
}

static bool torture(unsigned victim, enum datanode_engine engine)
{
    struct tale *t = mem_zalloc(sizeof *t);
    CHECK_TRUE(t != NULL);
    tale_run(t, victim, engine, 0);
    uint64_t count = t->passed;
    size_t left_bytes = t->left_bytes;
    CHECK_TRUE(count > 100);
    for (uint64_t nth = 1; nth <= count; nth++) {
        *t = (struct tale){.victim = victim};
        tale_run(t, victim, engine, nth);
        CHECK_EQ(t->left_bytes, left_bytes);
    }
    mem_free(t);
    return true;
}

TEST(memory_of_a_head_is_short)
{
    CHECK_TRUE(torture(1, DATANODE_ENGINE_FILE));
}
TEST(memory_of_a_tail_is_short)
{
    CHECK_TRUE(torture(2, DATANODE_ENGINE_FILE));
}
TEST(memory_of_a_head_in_ram_is_short)
{
    CHECK_TRUE(torture(1, DATANODE_ENGINE_RAM));
}
TEST(memory_of_a_tail_in_ram_is_short)
{
    CHECK_TRUE(torture(2, DATANODE_ENGINE_RAM));
}

/* ---- The start ---- */

struct start_call {
    struct rig_target *target;
    struct fault *fault;
    uint64_t nth, passed;
    int rc;
    size_t before_bytes, after_bytes;
};
static void start_inside(void *ctx)
{
    struct start_call *c = ctx;
    struct rig_domain_call d = {.fault = c->fault};
    rig_domain_inside(&d);
    c->before_bytes = d.bytes;
    if (c->nth > 0) {
        fault_arm(c->fault, POINT, c->nth, 1);
    }
    c->target->worker = NULL;
    c->rc = rig_start_now(c->target);
    d.fault = NULL;
    rig_domain_inside(&d);
    c->after_bytes = d.bytes;
}
/* The only target starts again; its nth allocation on the way fails. */
static uint64_t start_again(struct rig *r, uint64_t nth)
{
    struct rig_target *t = &r->target[1];
    struct start_call c = {.target = t, .nth = nth, .fault = fault_new()};
    CHECK_TRUE(c.fault != NULL);
    rig_process(r, &t->process, 1);
    rig_in(t->process.loop, start_inside, &c);
    uint64_t passed = fault_passed(c.fault, POINT);
    c.fault = fault_free(c.fault);
    if (c.rc < 0) {
        CHECK_RC(c.rc, ENOMEM);
        CHECK_TRUE(t->worker == NULL);
        CHECK_EQ(c.after_bytes, c.before_bytes);
    }
    loop_sim_kill(t->process.loop);
    t->alive = false;
    t->worker = NULL;
    return passed;
}
TEST(memory_of_a_start_is_short)
{
    struct rig r;
    rig_chain(&r, 1, DATANODE_ENGINE_FILE, testing_seed());
    const struct rig_io io = {.host = 1, .chain = 1, .data_id = 100, .length = 200000, .fill = 2};
    const struct rig_io gone = {.host = 1, .chain = 1, .data_id = 200};
    CHECK_OK(rig_write(&r, &io));
    CHECK_OK(rig_remove(&r, &gone));
    rig_kill(&r, 1);
    uint64_t count = start_again(&r, 0);
    CHECK_TRUE(count > 20);
    for (uint64_t nth = 1; nth <= count; nth++) {
        (void)start_again(&r, nth);
    }
    rig_row(&r, 1, "1l");
    rig_start(&r, 1);
    RIG_UNTIL(&r, rig_info(&r, 1).target != 0);
    CHECK_TRUE(!r.target[1].lossy);
    rig_row(&r, 1, "1s");
    RIG_UNTIL(&r, rig_settled(&r, 1) && rig_info(&r, 1).leased);
    CHECK_OK(rig_read(&r, &io));
    CHECK_RC(rig_read(&r, &gone), ERR_gone);
    rig_close(&r);
}
