/*
 * tree/rig_model_priv.h -- for tests only: a model of what has to be in a tree.
 *
 * What a batch does depends on its index only, so that the model of any index can be made by
 * running all batches up to it.
 */
#pragma once

#include "base/mem.h"
#include "base/rand.h"
#include "kv/batch.h"
#include "testing/testing.h"

#include <string.h>

#define RIG_KEYS 1500u
#define RIG_VALUE 48u

struct rig_value {
    bool present;
    uint8_t len;
    uint8_t bytes[RIG_VALUE];
};
struct rig_model {
    uint64_t index;
    struct rig_value value[RIG_KEYS];
};

/* Keys ascend with k; some are prefixes of others, lengths differ. */
static inline struct kv_slice rig_key(uint32_t k, uint8_t buf[40])
{
    memset(buf, 'x', 40);
    buf[0] = (uint8_t)('a' + k / 100);
    buf[1] = (uint8_t)('a' + k / 10 % 10);
    buf[2] = (uint8_t)('a' + k % 10);
    return kv_slice_of(buf, k % 100 == 0 ? 1 : k % 10 == 0 ? 2 : 3 + k * 7 % 37);
}

static inline uint32_t rig_key_back(struct kv_slice key)
{
    const uint8_t *b = key.at;
    return (b[0] - (uint32_t)'a') * 100 + (key.len > 1 ? (b[1] - (uint32_t)'a') * 10 : 0) +
           (key.len > 2 ? b[2] - (uint32_t)'a' : 0);
}

static inline void rig_model_upsert(struct rig_value *v, uint32_t len, const struct kv_field *f,
                                    size_t count)
{
    if (!v->present) {
        v->len = 0;
    }
    if (v->len < len) {
        memset(v->bytes + v->len, 0, len - v->len);
        v->len = (uint8_t)len;
    }
    v->present = true;
    kv_fields_apply(v->bytes, v->len, f, count);
}

static inline void rig_one_op(struct rig_model *m, struct kv_batch *b, struct rand *r)
{
    uint8_t low[40], high[40];
    uint64_t dice = rand_below(r, 100), hot = rand_below(r, 4);
    uint32_t k = (uint32_t)(hot == 0 ? rand_below(r, 20) * 7 : rand_below(r, RIG_KEYS));
    struct rig_value *v = &m->value[k];
    if (dice < 55) {
        v->present = true;
        v->len = (uint8_t)rand_below(r, RIG_VALUE + 1);
        rand_bytes(r, v->bytes, v->len);
        (void)kv_batch_put(b, rig_key(k, low), kv_slice_of(v->bytes, v->len));
    } else if (dice < 70) {
        v->present = false;
        (void)kv_batch_delete(b, rig_key(k, low));
    } else if (dice < 98) {
        uint32_t len = 8 * (uint32_t)rand_range(r, 1, 4);
        struct kv_field f[2] = {{.offset = (uint16_t)rand_below(r, len - 7),
                                 .op = rand_chance(r, 1, 3) ? KV_FIELD_MAX : KV_FIELD_ADD,
                                 .operand = rand_u64(r) >> rand_below(r, 60)},
                                {.offset = 0, .op = KV_FIELD_ADD, .operand = rand_below(r, 1000)}};
        size_t count = rand_range(r, 1, 2);
        rig_model_upsert(v, len, f, count);
        (void)kv_batch_upsert(b, rig_key(k, low), len, f, count);
    } else {
        uint64_t width = rand_chance(r, 1, 6) ? RIG_KEYS / 2 : rand_chance(r, 1, 2) ? 100 : 10;
        uint32_t to = (uint32_t)base_min(k + 1 + rand_below(r, width), RIG_KEYS - 1);
        for (uint32_t i = k; i < to; i++) {
            m->value[i].present = false;
        }
        (void)kv_batch_delete_range(b, rig_key(k, low), rig_key(to, high));
    }
}

/* The model goes on by one index; `b` (cleared) gets what was done. */
static inline void rig_model_step(struct rig_model *m, uint64_t seed, struct kv_batch *b)
{
    struct rand r;
    m->index++;
    rand_seed(&r, seed * UINT64_C(0x9e3779b97f4a7c15) + m->index);
    kv_batch_clear(b);
    uint64_t phase = m->index / 60 % 4; /* also times that mostly fill up */
    uint64_t ops = rand_chance(&r, 1, 4) ? rand_range(&r, 20, 60) : rand_range(&r, 1, 6);
    for (uint64_t i = 0; i < ops; i++) {
        if (phase == 1) { /* ascending */
            uint8_t low[40];
            uint32_t k = (uint32_t)((m->index * 31 + i) % RIG_KEYS);
            struct rig_value *v = &m->value[k];
            v->present = true;
            v->len = (uint8_t)rand_range(&r, 8, RIG_VALUE);
            rand_bytes(&r, v->bytes, v->len);
            (void)kv_batch_put(b, rig_key(k, low), kv_slice_of(v->bytes, v->len));
        } else {
            rig_one_op(m, b, &r);
        }
    }
    CHECK_OK(b->rc);
}
