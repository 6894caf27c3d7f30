/*
 * chunk/extent_release_test.c -- units of the `extent` engine that have rested come back, whatever
 * becomes of others.
 */
#include "chunk/rig_put_priv.h"

#include "chunk/extent_priv.h"

#define MIB (UINT32_C(1) << 20)
#define REST_MS 200u

static const struct chunk_key busy_key = {.data_id = 7};

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i};
}

static struct store_rig *rig_resting(void)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    r->opt.rest_ms = REST_MS;
    CHECK_OK(rig_boot(r));
    return r;
}

static uint64_t units_used(const struct store_rig *r)
{
    struct tree_space_info info;
    tree_space_info(r->store->extent->space, &info);
    return info.used - r->store->extent->open.count; /* taken for the next ones */
}

static uint64_t resting_bytes(const struct store_rig *r)
{
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    return info.resting_bytes;
}

/* Something of it rests at every moment. */
TEST(a_chunk_that_is_always_overwritten_holds_up_no_other)
{
    struct store_rig *r = rig_resting();
    uint64_t ver = 1;
    CHECK_OK(rig_put_whole(r, busy_key, ver, MIB));
    CHECK_OK(rig_put_whole(r, key_of(1), 1, MIB));
    for (unsigned i = 0; i < 300; i++) {
        CHECK_OK(rig_put(r, (struct rig_piece){busy_key, ++ver, CHUNK_WRITE, 0, CHUNK_CELL}));
        if (i == 10) {
            CHECK_OK(rig_delete(r, key_of(1)));
        }
        rig_pass(r, 10);
    }
    CHECK_TRUE(resting_bytes(r) > 0);
    CHECK_TRUE(resting_bytes(r) < MIB / 2);
    CHECK_TRUE(units_used(r) < 1 + MIB / CHUNK_UNIT * 3 / 2);
    rig_pass(r, 2000);
    CHECK_EQ(resting_bytes(r), 0);
    CHECK_EQ(units_used(r), 1 + MIB / CHUNK_UNIT);
    rig_stop(r);
    rig_end(r);
}
