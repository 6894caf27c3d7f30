/*
 * tree/rig_life_priv.h -- for tests only: a process with a tree that can end at any request to the
 * disk, or meet failures of it; and a model of what it has committed.
 *
 * A batch that was refused is tried again with the same index. The request with the number
 * `crash_at`, and all later ones that would change the disk, do not happen; the test then kills the
 * process.
 */
#pragma once

#include "base/fault.h"
#include "tree/rig_tree_priv.h"
#include "tree/tree_priv.h"

#include <stdio.h>

struct rig_life {
    struct rig_tree rig;
    struct rig_model *model, *next; /* of what was committed; with the batch that waits */
    struct kv_batch batch;
    bool pending;
    struct kv_checkpoint checkpoint;
    bool checkpointing;
    int checkpoint_rc; /* of the last one */
    unsigned checkpoints;
    uint64_t durable, before; /* index of the newest checkpoint that was told; the one before */
    uint64_t crash_at;        /* 0: never */
    bool crashed;
    struct fault *fault; /* of its allocations; may be NULL */
    bool hasty;          /* a fetch without memory is a failure, and not tried again */
    struct kv_snapshot *snapshot;
    struct kv_iter *it;
    struct kv_slice value;
    uint32_t key;
    bool first, back; /* of a move */
};

static inline struct rig_life *rig_life_of(struct rig_tap *tap)
{
    struct rig_tree *r = container_of(tap, struct rig_tree, tap);
    return container_of(r, struct rig_life, rig);
}

static inline struct disk_req *rig_life_seen(struct rig_tap *tap, struct disk_req *req, bool now)
{
    static const enum disk_op changes[] = {DISK_WRITE,    DISK_SYNC,  DISK_SYNC_ALL,
                                           DISK_ALLOCATE, DISK_PUNCH, DISK_TRUNCATE};
    struct rig_life *w = rig_life_of(tap);
    uint64_t before = w->rig.tapped;
    req = rig_tree_seen(tap, req, now);
    if (w->rig.tapped > before && w->rig.tapped == w->crash_at) {
        w->crashed = true;
        disk_sim_heal(w->rig.machine.disk);
        for (size_t i = 0; i < ARRAY_COUNT(changes); i++) {
            disk_sim_fail(w->rig.machine.disk, changes[i], NULL, 1, 0, -EIO);
        }
    }
    return req;
}

static inline void rig_life_run(struct rig_life *w, void (*fn)(void *ctx))
{
    loop_sim_enter(w->rig.machine.loop, fn, w);
}

static inline void rig_life_steps(struct rig_life *w, uint64_t count)
{
    for (uint64_t i = 0; i < count && !w->crashed && loop_sim_step(w->rig.machine.sim); i++) {
    }
}

/* ---- commits and checkpoints ---- */

static inline void rig_life_commit_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->rig.rc = kv_commit(w->rig.kv, &w->batch, w->next->index);
}

static inline int rig_life_commit(struct rig_life *w)
{
    if (!w->pending) {
        memcpy(w->next, w->model, sizeof *w->next);
        rig_model_step(w->next, w->rig.seed, &w->batch);
        w->pending = true;
    }
    rig_life_run(w, rig_life_commit_in);
    if (w->rig.rc == 0) {
        struct rig_model *was = w->model;
        w->model = w->next;
        w->next = was;
        w->pending = false;
    }
    return w->rig.rc;
}

/* Until nothing refuses it. */
static inline void rig_life_commit_to(struct rig_life *w, uint64_t index)
{
    for (unsigned rounds = 0; w->model->index < index && !w->crashed; rounds++) {
        CHECK_TRUE(rounds < 200000);
        int rc = rig_life_commit(w);
        CHECK_TRUE(rc == 0 || rc == -ERR_busy);
        rig_life_steps(w, rc == 0 ? 2 : 5);
    }
}

static inline void rig_life_checkpointed(struct kv_checkpoint *c, int rc)
{
    struct rig_life *w = container_of(c, struct rig_life, checkpoint);
    w->checkpointing = false;
    w->checkpoint_rc = rc;
    if (rc == 0) {
        CHECK_TRUE(c->index >= w->durable);
        w->before = w->durable;
        w->durable = c->index;
        w->checkpoints++;
    }
}

static inline void rig_life_checkpoint_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->checkpointing = true;
    w->checkpoint = (struct kv_checkpoint){.done = rig_life_checkpointed, .term = 7};
    kv_checkpoint(w->rig.kv, &w->checkpoint);
}

/* Whole; its result. */
static inline int rig_life_checkpoint(struct rig_life *w)
{
    if (!w->checkpointing) {
        rig_life_run(w, rig_life_checkpoint_in);
    }
    for (unsigned rounds = 0; w->checkpointing && !w->crashed; rounds++) {
        CHECK_TRUE(rounds < 200000);
        rig_life_steps(w, 5);
    }
    return w->checkpoint_rc;
}

static inline void rig_life_evict_in(void *ctx)
{
    (void)tree_cache_shrink(tree_of(((struct rig_life *)ctx)->rig.kv)->cache, 0);
}

/* ---- lives ---- */

static inline void rig_life_domain_in(void *ctx)
{
    struct mem_domain *d = mem_domain_enter(NULL);
    mem_domain_set_fault(d, ((struct rig_life *)ctx)->fault);
    (void)mem_domain_enter(d);
}

static inline void rig_life_open_in(void *ctx)
{
    rig_tree_open_in(&((struct rig_life *)ctx)->rig);
}

static inline void rig_life_kill(struct rig_life *w, bool power)
{
    testing_machine_kill(&w->rig.machine, power);
    disk_sim_heal(w->rig.machine.disk);
    w->rig.kv = NULL;
    w->snapshot = NULL;
    w->it = NULL;
    w->checkpointing = w->crashed = false;
    w->crash_at = 0;
}

/* After a kill. The model is that of what it found. */
static inline int rig_life_open(struct rig_life *w)
{
    rig_tree_start(&w->rig);
    w->rig.tap.seen = rig_life_seen;
    rig_life_run(w, rig_life_domain_in);
    rig_life_run(w, rig_life_open_in);
    if (w->rig.rc < 0) {
        return w->rig.rc;
    }
    uint64_t found = kv_applied_index(w->rig.kv);
    CHECK_EQ(found, w->rig.found.index);
    w->pending = false;
    memset(w->model, 0, sizeof *w->model);
    while (w->model->index < found) {
        rig_model_step(w->model, w->rig.seed, &w->batch);
    }
    return 0;
}

static inline void rig_life_init(struct rig_life *w, uint64_t seed)
{
    *w = (struct rig_life){0};
    rig_tree_init(&w->rig, seed);
    w->rig.tap.seen = rig_life_seen;
    w->model = mem_zalloc(sizeof *w->model);
    w->next = mem_zalloc(sizeof *w->next);
    CHECK(w->model != NULL && w->next != NULL);
}
