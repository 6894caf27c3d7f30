/*
 * tree/tree_fault_test.c -- requests to the disk that fail once or for ever, reads that end
 * before the file does, a disk that is full, memory that is short: the tree never answers wrong,
 * says why it cannot go on, goes on when that is over; or, after a failed sync, never writes again.
 * What it has told to be durable is found.
 */
#include "tree/check.h"
#include "tree/rig_life_priv.h"
#include "tree/rig_life_read_priv.h"

#define ACTS 90u

struct plan {
    enum disk_op op;
    uint64_t nth, count; /* nth: how far to go */
    int rc;
    bool ends; /* it may be the end of all writing */
};

struct world {
    struct rig_life life;
    int failure; /* of a checkpoint; the last one */
    unsigned bad_reads, refused;
};

static void begin(struct world *w, uint64_t seed)
{
    struct rig_life *l = &w->life;
    *w = (struct world){0};
    rig_life_init(l, seed);
    l->rig.opt.memtable_bytes = seed % 3 == 0 ? 8u << 10 : 16u << 10;
    l->rig.opt.cache_bytes = seed % 2 == 0 ? 320u << 10 : 1u << 20;
    l->rig.opt.snapshot_bytes = 64u << 20;
    rig_life_kill(l, true);
    CHECK_OK(rig_life_open(l));
    rig_life_commit_to(l, 80);
    CHECK_OK(rig_life_save(l));
    rig_life_commit_to(l, 110);
}

static bool expected_failure(const struct world *w, int rc)
{
    return rc == 0 || err_is(rc, EIO) || rc == -ENOSPC || (rc == -ENOMEM && w->life.hasty) ||
           rc == -ECANCELED;
}

static void read_some(struct world *w)
{
    int rc = rig_life_check(&w->life, 50);
    CHECK_TRUE(expected_failure(w, rc));
    w->bad_reads += rc < 0;
}

static void act(struct world *w)
{
    struct rig_life *l = &w->life;
    struct rand *r = &l->rig.rand;
    uint64_t dice = rand_below(r, 100);
    if (dice < 72) {
        int rc = rig_life_commit(l);
        if (rc != -ERR_busy && !expected_failure(w, rc)) {
            CHECK_RC(rc, ERR_failed_before);
        }
        w->refused += rc < 0;
        rig_life_steps(l, rc == 0 ? rand_below(r, 8) : 15);
    } else if (dice < 83 && !l->checkpointing) {
        rig_life_run(l, rig_life_checkpoint_in);
    } else if (dice < 86) {
        rig_life_run(l, rig_life_evict_in);
    } else if (dice < 88) {
        read_some(w);
    } else {
        rig_life_steps(l, rand_below(r, 40));
    }
    if (!l->checkpointing && l->checkpoint_rc < 0) {
        w->failure = l->checkpoint_rc;
        l->checkpoint_rc = 0;
    }
}

static void run(struct world *w, unsigned acts)
{
    for (unsigned i = 0; i < acts; i++) {
        act(w);
    }
    for (unsigned i = 0; i < 2000 && w->life.checkpointing; i++) {
        rig_life_steps(&w->life, 5);
    }
}

static int failed(struct world *w)
{
    struct err e = {0};
    int rc = kv_failed(w->life.rig.kv, &e);
    CHECK_TRUE(rc == 0 || strstr(e.text, RIG_PATH) != NULL);
    return rc;
}

/* It stays so, whatever the disk says now; what is there can be read. */
static void check_read_only(struct world *w)
{
    struct rig_life *l = &w->life;
    rig_life_steps(l, 2000);
    uint64_t before = l->rig.tapped;
    for (unsigned i = 0; i < 5; i++) {
        int rc = rig_life_commit(l);
        CHECK_TRUE(err_is(rc, EIO) || rc == -ENOSPC);
        CHECK_TRUE(rig_life_checkpoint(l) < 0);
        rig_life_steps(l, 200);
    }
    CHECK_EQ(l->rig.tapped, before);
    CHECK_OK(rig_life_check(l, 11));
}

static void check_file_in(void *ctx)
{
    struct world *w = ctx;
    struct tree_check_result result = {0};
    struct tree_check_options opt = {
        .disk = w->life.rig.env.disk, .path = RIG_PATH, .level = TREE_CHECK_LEVEL_MAX};
    CHECK_OK(tree_check(&opt, &result, NULL));
    CHECK_TRUE(!result.changed);
    CHECK_EQ(result.damages, 0);
    CHECK_EQ(result.applied_index, w->life.durable);
}

/* What was wrong is over. */
static void check_recovery(struct world *w, bool may_end)
{
    struct rig_life *l = &w->life;
    int rc = failed(w);
    if (rc < 0) {
        if (!may_end) {
            fprintf(stderr, "given up: %s\n", err_name(rc));
        }
        CHECK_TRUE(may_end);
        check_read_only(w);
    } else {
        CHECK_OK(rig_life_check(l, 11));
        rig_life_commit_to(l, l->model->index + 20);
        CHECK_OK(rig_life_save(l));
        CHECK_EQ(l->durable, l->model->index);
        CHECK_OK(rig_life_check(l, 11));
    }
    uint64_t last = l->model->index;
    rig_life_kill(l, rand_chance(&l->rig.rand, 1, 2));
    CHECK_OK(rig_life_open(l));
    CHECK_TRUE(!l->rig.found.fell_back);
    CHECK_TRUE(l->rig.found.index >= l->durable && l->rig.found.index <= last);
    CHECK_OK(rig_life_check(l, 11));
    rig_life_commit_to(l, last + 20);
    CHECK_OK(rig_life_save(l));
    CHECK_OK(rig_life_check(l, 5));
    loop_sim_enter(l->rig.machine.loop, check_file_in, w);
    rig_life_stop(l);
    rig_life_fini(l);
}

/* True: it was the end of all writing. */
static bool fault_run(uint64_t seed, const struct plan *p)
{
    struct world w;
    begin(&w, seed);
    disk_sim_fail(w.life.rig.machine.disk, p->op, RIG_PATH, p->nth, p->count, p->rc);
    run(&w, ACTS);
    CHECK_TRUE(w.bad_reads == 0 || (p->op == DISK_READ && p->count == 0)); /* few: tried again */
    disk_sim_heal(w.life.rig.machine.disk);
    rig_life_steps(&w.life, 500); /* a request that has failed is told of later */
    if (p->op == DISK_SYNC && w.failure < 0) {
        CHECK_TRUE(failed(&w) < 0); /* never asked again */
    }
    bool ended = failed(&w) < 0;
    check_recovery(&w, p->ends);
    return ended;
}

TEST(requests_that_fail)
{
    static const struct plan plans[] = {
        {DISK_WRITE, 60, 1, -EIO, true},       {DISK_WRITE, 60, 1, -ENOSPC, false},
        {DISK_WRITE, 40, 0, -EIO, true},       {DISK_WRITE, 40, 0, -ENOSPC, false},
        {DISK_SYNC, 6, 1, -EIO, true},         {DISK_SYNC, 3, 0, -EIO, true},
        {DISK_SYNC, 6, 1, -ENOSPC, true},      {DISK_ALLOCATE, 4, 1, -EIO, true},
        {DISK_ALLOCATE, 2, 0, -ENOSPC, false}, {DISK_READ, 60, 1, -EIO, false},
        {DISK_READ, 40, 4, -EIO, false},       {DISK_READ, 20, 0, -EIO, true},
        {DISK_TRUNCATE, 2, 0, -EIO, true},     {DISK_PUNCH, 3, 1, -EIO, true},
        {DISK_READ, 60, 1, 512, false},        {DISK_READ, 40, 4, 4096, false},
        {DISK_READ, 20, 0, 100, true},
    };
    struct rand r;
    size_t ended = 0;
    rand_seed(&r, testing_seed());
    for (size_t i = 0; i < 3 * ARRAY_COUNT(plans); i++) {
        struct plan p = plans[i % ARRAY_COUNT(plans)];
        p.nth = rand_range(&r, 1, p.nth);
        ended += fault_run(testing_seed() + i / 5, &p);
    }
    CHECK_TRUE(ended > 0 && ended < 3 * ARRAY_COUNT(plans));
}

/* The disk is full for a while; a sync is never part of that. */
TEST(a_disk_that_is_full_for_a_while)
{
    for (uint64_t i = 0; i < 10; i++) {
        struct world w;
        begin(&w, testing_seed() + i);
        struct disk_sim *disk = w.life.rig.machine.disk;
        disk_sim_capacity(disk, disk_sim_used_bytes(disk) + i % 5 * (16u << 10));
        run(&w, ACTS * 2);
        disk_sim_capacity(disk, 0);
        check_recovery(&w, false);
    }
}

/* Allocations that fail: one, or all for a while. */
TEST(memory_that_is_short)
{
    struct fault *fault = fault_new();
    struct rand r;
    CHECK_TRUE(fault != NULL);
    rand_seed(&r, testing_seed());
    for (uint64_t i = 0; i < 16; i++) {
        struct world w;
        begin(&w, testing_seed() + i / 6);
        w.life.hasty = true;
        w.life.fault = fault;
        rig_life_run(&w.life, rig_life_domain_in);
        fault_arm(fault, "mem.alloc", rand_range(&r, 1, 1500), rand_below(&r, 3) * 20);
        run(&w, ACTS);
        fault_disarm(fault, NULL);
        w.life.fault = NULL;
        w.life.hasty = false;
        check_recovery(&w, false);
    }
    fault = fault_free(fault);
    CHECK_TRUE(fault == NULL);
}

static void starve_begin(struct world *w, uint64_t seed)
{
    struct rig_life *l = &w->life;
    *w = (struct world){0};
    rig_life_init(l, seed);
    l->rig.opt.memtable_bytes = 4u << 10;
    l->rig.opt.cache_bytes = 1u << 20;
    l->rig.opt.snapshot_bytes = 64u << 20;
    rig_life_kill(l, true);
    CHECK_OK(rig_life_open(l));
    rig_life_commit_to(l, 20);
    CHECK_OK(rig_life_save(l));
    rig_life_kill(l, true);
}

/* Opens, commits (ranges are deleted too), takes checkpoints, reads what is in memory and what is
 * not. */
static void starve_work(struct world *w)
{
    struct rig_life *l = &w->life;
    int rc = rig_life_open(l);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    if (rc < 0) { /* the next process has it */
        w->refused++;
        rig_life_kill(l, false);
        CHECK_OK(rig_life_open(l));
    }
    for (unsigned i = 0; i < 8; i++) {
        rc = rig_life_commit(l);
        CHECK_TRUE(rc == 0 || rc == -ENOMEM || rc == -ERR_busy);
        w->refused += rc == -ENOMEM;
        rig_life_steps(l, 10);
    }
    rc = rig_life_checkpoint(l);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    rig_life_run(l, rig_life_evict_in);
    rc = rig_life_check(l, 100);
    CHECK_TRUE(rc == 0 || rc == -ENOMEM);
    w->bad_reads += rc < 0;
}

/* The nth allocation of the process, for each n until there is none. */
TEST(each_allocation_fails_once)
{
    CLEANUP(fault_freep) struct fault *fault = fault_new();
    unsigned refused = 0, bad_reads = 0;
    CHECK_TRUE(fault != NULL);
    bool all = false;
    for (uint64_t nth = 1; !all; nth++) {
        struct world w;
        uint64_t before = fault_passed(fault, "mem.alloc");
        starve_begin(&w, testing_seed());
        w.life.hasty = true;
        w.life.fault = fault;
        fault_arm(fault, "mem.alloc", nth, 1);
        starve_work(&w);
        all = fault_passed(fault, "mem.alloc") - before < nth;
        fault_disarm(fault, NULL);
        w.life.fault = NULL;
        w.life.hasty = false;
        rig_life_run(&w.life, rig_life_domain_in);
        refused += w.refused;
        bad_reads += w.bad_reads;
        CHECK_TRUE(!all || w.refused + w.bad_reads == 0);
        check_recovery(&w, false);
        CHECK_TRUE(nth < 20000);
    }
    CHECK_TRUE(refused > 4 && bad_reads > 0);
}

/* Others have the memory of the process for a while. */
TEST(a_budget_that_is_used_up)
{
    for (uint64_t i = 0; i < 10; i++) {
        struct world w;
        begin(&w, testing_seed() + i);
        struct mem_budget *b = &w.life.rig.budget;
        uint64_t limit = b->limit_bytes;
        w.life.hasty = true;
        b->limit_bytes = b->used_bytes + i % 4 * (8u << 10);
        run(&w, ACTS);
        b->limit_bytes = limit;
        w.life.hasty = false;
        check_recovery(&w, false);
    }
}
