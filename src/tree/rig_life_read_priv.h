/* tree/rig_life_read_priv.h -- for tests only: compares all that a tree says with the model, and
 * ends it in peace. */
#pragma once

#include "tree/rig_life_priv.h"

static inline void rig_life_snapshot_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->rig.rc = kv_snapshot_new(w->rig.kv, &w->snapshot);
}
static inline void rig_life_snapshot_free_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->snapshot = kv_snapshot_free(w->snapshot);
}
static inline void rig_life_get_in(void *ctx)
{
    struct rig_life *w = ctx;
    uint8_t buf[40];
    w->rig.rc = kv_get(w->snapshot, rig_key(w->key, buf), &w->rig.need, &w->value);
}
static inline void rig_life_iter_in(void *ctx)
{
    struct rig_life *w = ctx;
    struct kv_iter_options opt = {.need = &w->rig.need};
    w->rig.rc = kv_iter_new(w->snapshot, &opt, &w->it);
}
static inline void rig_life_iter_free_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->it = kv_iter_free(w->it);
}
static inline void rig_life_move_in(void *ctx)
{
    struct rig_life *w = ctx;
    struct kv_slice all = {0};
    w->rig.rc = w->first  ? w->back ? kv_iter_seek_back(w->it, all) : kv_iter_seek(w->it, all)
                 : w->back ? kv_iter_prev(w->it)
                          : kv_iter_next(w->it);
}

/* With what it needs. Memory may be short while others have it; or it has all of it itself: then it
 * lets go of what it has gone past, as whoever reads much does. */
static inline int rig_life_fetching(struct rig_life *w, void (*fn)(void *ctx))
{
    rig_life_run(w, fn);
    for (unsigned rounds = 0; w->rig.rc == -ERR_need && !w->crashed; rounds++) {
        CHECK_TRUE(rounds < 1000);
        int rc = rig_tree_fetch(&w->rig);
        if (rc < 0 && (rc != -ENOMEM || w->hasty)) {
            return rc;
        }
        if (rc < 0) {
            rig_tree_release(&w->rig);
            rig_life_steps(w, 20);
        }
        rig_life_run(w, fn);
    }
    return w->rig.rc;
}

static inline bool rig_life_same(const struct rig_life *w, uint32_t k, struct kv_slice got)
{
    const struct rig_value *v = &w->model->value[k];
    return v->present && v->len == got.len &&
           (got.len == 0 || memcmp(v->bytes, got.at, got.len) == 0);
}

static inline int64_t rig_life_expected(const struct rig_life *w, int64_t at)
{
    int64_t k = w->first ? w->back ? (int64_t)RIG_KEYS - 1 : 0 : at + (w->back ? -1 : 1);
    while (k >= 0 && k < (int64_t)RIG_KEYS && !w->model->value[k].present) {
        k += w->back ? -1 : 1;
    }
    return k < (int64_t)RIG_KEYS ? k : -1;
}

/* 0: as the model says; or a failure to read. `w->back`: the way. */
static inline int rig_life_scan(struct rig_life *w)
{
    int64_t at = 0;
    rig_life_run(w, rig_life_iter_in);
    int rc = w->rig.rc;
    w->first = true;
    while (rc >= 0 && at >= 0 && !w->crashed) {
        rc = rig_life_fetching(w, rig_life_move_in);
        if (rc >= 0) {
            int64_t expected = rig_life_expected(w, at);
            at = rc == 1 ? (int64_t)rig_key_back(w->it->key) : -1;
            if (at != expected) {
                fprintf(stderr, "at %lld, expected %lld\n", (long long)at, (long long)expected);
            }
            CHECK_EQ(at, expected);
            CHECK_TRUE(at < 0 || rig_life_same(w, (uint32_t)at, w->it->value));
        }
        w->first = false;
    }
    if (w->it != NULL) {
        rig_life_run(w, rig_life_iter_free_in);
    }
    rig_tree_release(&w->rig);
    return rc < 0 ? rc : 0;
}

static inline int rig_life_gets(struct rig_life *w, uint32_t step)
{
    int failure = 0;
    for (uint32_t k = 0; k < RIG_KEYS && !w->crashed; k += step) {
        w->key = k;
        int rc = rig_life_fetching(w, rig_life_get_in);
        if (rc >= 0 &&
            (rc != w->model->value[k].present || (rc == 1 && !rig_life_same(w, k, w->value)))) {
            fprintf(stderr, "key %u: %d, expected %d\n", k, rc, w->model->value[k].present);
        }
        CHECK_TRUE(rc < 0 || rc == w->model->value[k].present);
        CHECK_TRUE(rc != 1 || rig_life_same(w, k, w->value));
        failure = rc < 0 ? rc : failure;
        rig_tree_release(&w->rig);
    }
    return failure;
}

/* Everything, both ways and by key; 0, or a failure that was met. Never anything wrong. */
static inline int rig_life_check(struct rig_life *w, uint32_t step)
{
    rig_life_run(w, rig_life_snapshot_in);
    int rc = w->rig.rc;
    if (rc == 0) {
        int got[3];
        CHECK_EQ(w->snapshot->index, w->model->index);
        w->back = false;
        got[0] = rig_life_scan(w);
        w->back = true;
        got[1] = rig_life_scan(w);
        got[2] = rig_life_gets(w, step);
        rc = got[0] < 0 ? got[0] : got[1] < 0 ? got[1] : got[2];
        rig_life_run(w, rig_life_snapshot_free_in);
    }
    return rc;
}

/* A checkpoint of what there is now; memory may be short while others have it. */
static inline int rig_life_save(struct rig_life *w)
{
    int rc = rig_life_checkpoint(w);
    for (unsigned tries = 0; tries < 20 && (rc == -ENOMEM || w->durable < w->model->index);
         tries++) {
        rig_life_steps(w, 200);
        rc = rig_life_checkpoint(w);
    }
    return rc;
}

/* ---- its end ---- */

static inline void rig_life_stopped(struct kv_stop *s)
{
    container_of(s, struct rig_tree, stop)->over = true;
}
static inline void rig_life_stop_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->rig.over = false;
    w->rig.stop.done = rig_life_stopped;
    kv_stop(w->rig.kv, &w->rig.stop);
}
static inline void rig_life_free_in(void *ctx)
{
    struct rig_life *w = ctx;
    w->rig.kv = kv_free(w->rig.kv);
    CHECK_EQ(w->rig.budget.used_bytes, 0);
}

/* Nothing is left of it in memory. */
static inline void rig_life_stop(struct rig_life *w)
{
    rig_life_run(w, rig_life_stop_in);
    CHECK_TRUE(testing_machine_until(&w->rig.machine, rig_tree_over, &w->rig, 600000));
    rig_life_run(w, rig_life_free_in);
}

static inline void rig_life_fini(struct rig_life *w)
{
    rig_tree_fini(&w->rig);
    kv_batch_fini(&w->batch);
    mem_free(w->model);
    mem_free(w->next);
}
