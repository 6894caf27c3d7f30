/*
 * tree/rig_fill_priv.h -- for tests only: records behind those of the model of rig_calls_priv.h:
 * more of them, and larger.
 */
#pragma once

#include "tree/rig_calls_priv.h"

struct fill {
    struct rig *r;
    uint32_t first, count;
    size_t len;
};

static inline struct kv_slice fill_key(uint32_t i, char buf[16])
{
    return kv_slice_of(buf, (size_t)snprintf(buf, 16, "~%06u", i));
}

static inline void fill_value(uint32_t i, size_t len, uint8_t *out)
{
    struct rand r;
    rand_seed(&r, i + 1);
    rand_bytes(&r, out, len);
}

static inline int commit_batch(struct rig *r)
{
    r->model.index++;
    run(r, commit_in);
    for (unsigned rounds = 0; r->rc == -ERR_busy && rounds < 20000; rounds++) {
        testing_machine_steps(&r->tree.machine, 5);
        run(r, commit_in);
    }
    return r->rc;
}

static inline void fill(struct fill f)
{
    uint8_t value[4096];
    char key[16];
    CHECK(f.len <= sizeof value);
    for (uint32_t i = f.first; i < f.first + f.count;) {
        kv_batch_clear(&f.r->batch);
        for (unsigned n = 0; n < 10 && i < f.first + f.count; n++, i++) {
            fill_value(i, f.len, value);
            CHECK_OK(kv_batch_put(&f.r->batch, fill_key(i, key), kv_slice_of(value, f.len)));
        }
        CHECK_OK(commit_batch(f.r));
    }
}

static inline void fill_delete(struct fill f)
{
    char low[16], high[16];
    kv_batch_clear(&f.r->batch);
    CHECK_OK(kv_batch_delete_range(&f.r->batch, fill_key(f.first, low),
                                   fill_key(f.first + f.count, high)));
    CHECK_OK(commit_batch(f.r));
}

static inline void fill_get_in(void *ctx)
{
    const struct fill *f = ctx;
    struct rig *r = f->r;
    char key[16];
    r->rc = kv_get(r->snapshot, fill_key(f->first, key), &r->tree.need, &r->value);
}

static inline void fill_check(struct fill f, bool present)
{
    uint8_t value[4096];
    struct rig *r = f.r;
    run(r, snapshot_in);
    CHECK_OK(r->rc);
    for (uint32_t end = f.first + f.count; f.first < end; f.first++) {
        loop_sim_enter(r->tree.machine.loop, fill_get_in, &f);
        for (unsigned rounds = 0; r->rc == -ERR_need && rounds < 1000; rounds++) {
            CHECK_OK(rig_tree_fetch(&r->tree));
            loop_sim_enter(r->tree.machine.loop, fill_get_in, &f);
        }
        CHECK_EQ(r->rc, present);
        if (present) {
            fill_value(f.first, f.len, value);
            CHECK_EQ(r->value.len, f.len);
            CHECK_BYTES(r->value.at, value, f.len);
        }
        rig_tree_release(&r->tree);
    }
    run(r, snapshot_free_in);
}
