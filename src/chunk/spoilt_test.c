/* chunk/spoilt_test.c -- contents that come damaged: bytes that do not fit, and the checksums that
 * they should have. */
#include "chunk/rig_put_priv.h"

#define CELLS 6u
#define LENGTH (CELLS * CHUNK_CELL - 100)
#define VER 5u

static const struct chunk_key key = {.data_id = 7, .index = 3};

/* Version VER, as it should be or with bytes of another one and of none. `base`: not installed, but
 * pending above that one. */
static int put(struct store_rig *r, bool spoilt, uint64_t base)
{
    uint8_t *bytes = mem_zalloc(LENGTH);
    uint32_t crc[CELLS];
    struct iovec iov = {.iov_base = bytes, .iov_len = LENGTH};
    CHECK_TRUE(bytes != NULL);
    rig_fill(bytes, LENGTH, key, VER);
    for (uint32_t cell = 0; cell < CELLS; cell++) {
        crc[cell] = crc32c(0, bytes + (size_t)cell * CHUNK_CELL, chunk_cell_bytes(LENGTH, cell));
    }
    if (spoilt) {
        bytes[10] ^= 1;
        memset(bytes + (size_t)2 * CHUNK_CELL, 0, (size_t)2 * CHUNK_CELL);
    }
    r->update = (struct chunk_update){.key = key,
                                      .chain = 5,
                                      .kind = CHUNK_WHOLE,
                                      .install = base == 0,
                                      .base = {.aepoch = base == 0 ? 0 : 1, .ver = base},
                                      .identity = {.aepoch = 1, .ver = VER},
                                      .last_ver = VER,
                                      .new_length = LENGTH,
                                      .flags = spoilt ? CHUNK_DAMAGED : 0,
                                      .crc = crc,
                                      .crc_count = CELLS,
                                      .data = &iov,
                                      .data_count = 1};
    int rc = rig_wait(r, rig_update_in);
    mem_free(bytes);
    return rc;
}

static int install(struct store_rig *r, bool spoilt)
{
    return put(r, spoilt, 0);
}

static void check_spoilt(struct store_rig *r, bool power)
{
    struct chunk_info info;
    struct chunk_store_info all;
    CHECK_RC(rig_check(r, key, VER, LENGTH), ERR_corrupt);
    CHECK_OK(rig_look_up(r, key, &info));
    CHECK_EQ(info.flags, CHUNK_DAMAGED);
    CHECK_EQ(info.committed.ver, VER);
    CHECK_EQ(info.length, LENGTH);
    CHECK_EQ(info.digest, r->update.digest);
    chunk_store_info(r->store, &all);
    CHECK_EQ(all.damaged_count, 1);
    CHECK_EQ(all.chunk_count, 1);
    CHECK_EQ(all.lossy, power); /* nothing has been lost here */
}

static unsigned spoilt(enum chunk_engine engine, bool older, bool power)
{
    struct store_rig *r = rig_new(engine, testing_seed());
    struct chunk_store_info all;
    if (older) {
        CHECK_OK(rig_put_whole(r, key, 1, LENGTH));
        CHECK_OK(rig_sync(r));
    }
    CHECK_OK(install(r, true));
    check_spoilt(r, false);
    CHECK_OK(rig_restart(r, false)); /* it is not known to be stable, and looked at */
    check_spoilt(r, false);
    CHECK_OK(rig_sync(r));
    for (unsigned i = 0; i < 3; i++) {
        CHECK_OK(rig_restart(r, false));
        check_spoilt(r, false);
        rig_pass(r, i * 200);
    }
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, power));
    check_spoilt(r, power);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    check_spoilt(r, power);
    CHECK_OK(install(r, false));
    CHECK_OK(rig_check(r, key, VER, LENGTH));
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, false));
    CHECK_OK(rig_check(r, key, VER, LENGTH));
    chunk_store_info(r->store, &all);
    CHECK_EQ(all.damaged_count, 0);
    rig_stop(r);
    rig_end(r);
    return 1;
}

TEST(spoilt_contents_are_never_read_as_good)
{
    unsigned runs = 0;
    for (unsigned older = 0; older < 2; older++) {
        for (unsigned power = 0; power < 2; power++) {
            runs += spoilt(CHUNK_ENGINE_FILE, older != 0, power != 0);
            runs += spoilt(CHUNK_ENGINE_EXTENT, older != 0, power != 0);
        }
    }
    CHECK_EQ(runs, 8);
}

static void commit_in(void *ctx)
{
    struct store_rig *r = ctx;
    rig_over(r,
             chunk_store_commit(r->store, key, (struct chunk_identity){.aepoch = 1, .ver = VER}));
}

/* Pending, it is what it is through any end of the process, for the others of its chain may have
 * committed it; and committed it is damaged. */
static unsigned pending_spoilt(enum chunk_engine engine, bool power)
{
    struct store_rig *r = rig_new(engine, testing_seed());
    struct chunk_info info;
    CHECK_OK(rig_put_whole(r, key, 1, LENGTH));
    CHECK_OK(rig_sync(r));
    CHECK_OK(put(r, true, 1));
    for (unsigned i = 0; i < 4; i++) {
        CHECK_OK(rig_look_up(r, key, &info));
        CHECK_TRUE(info.has_pending);
        CHECK_EQ(info.pending_flags, CHUNK_DAMAGED);
        CHECK_EQ(info.flags, 0); /* of what is committed, nothing is bad */
        CHECK_OK(rig_check(r, key, 1, LENGTH));
        if (i == 2) {
            CHECK_OK(rig_sync(r));
            rig_pass(r, 200);
        }
        CHECK_OK(rig_restart(r, power && i >= 2));
    }
    CHECK_OK(rig_wait(r, commit_in));
    check_spoilt(r, power);
    CHECK_OK(rig_restart(r, false)); /* pending once more, or committed */
    if (rig_look_up(r, key, &info) == 0 && info.has_pending) {
        CHECK_OK(rig_wait(r, commit_in));
    }
    check_spoilt(r, power);
    CHECK_OK(rig_sync(r));
    CHECK_OK(rig_restart(r, power));
    check_spoilt(r, power);
    rig_stop(r);
    CHECK_OK(rig_boot(r));
    check_spoilt(r, power);
    CHECK_OK(install(r, false));
    CHECK_OK(rig_check(r, key, VER, LENGTH));
    rig_stop(r);
    rig_end(r);
    return 1;
}

TEST(spoilt_contents_may_be_pending)
{
    unsigned runs = 0;
    for (unsigned power = 0; power < 2; power++) {
        runs += pending_spoilt(CHUNK_ENGINE_FILE, power != 0);
        runs += pending_spoilt(CHUNK_ENGINE_EXTENT, power != 0);
    }
    CHECK_EQ(runs, 4);
}
