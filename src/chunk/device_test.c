/*
 * chunk/device_test.c -- containers on a device: it is taken only when it is free, everything is as
 * with files, and nothing is ever taken for ours that is not.
 */
#include "chunk/device.h"

#include "chunk/extent_priv.h"
#include "chunk/look.h"
#include "chunk/rig_put_priv.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define DEVICE_BYTES (96 * MIB + 12345)
#define SMALL 26624u

/* A file of a fixed size, for nothing of a device is simulated but that. */
static void device_make(struct store_rig *r, const char *path, uint64_t bytes)
{
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    struct disk_file *file = req.file;
    req = (struct disk_req){.op = DISK_TRUNCATE, .file = file, .len = bytes};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    req = (struct disk_req){.op = DISK_SYNC_ALL, .file = file};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    req = (struct disk_req){.op = DISK_CLOSE, .file = file};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    req = (struct disk_req){.op = DISK_SYNC_DIR, .path = "/"};
    CHECK_EQ(disk_now(r->disk, &req), 0);
}

static void device_put(struct store_rig *r, const char *path, uint64_t offset, const char *text)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = DISK_READ_WRITE};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    struct disk_file *file = req.file;
    req = (struct disk_req){.op = DISK_WRITE,
                            .file = file,
                            .offset = offset,
                            .buf = (void *)(uintptr_t)text,
                            .len = strlen(text)};
    CHECK_EQ(disk_now(r->disk, &req), (int64_t)strlen(text));
    req = (struct disk_req){.op = DISK_CLOSE, .file = file};
    CHECK_EQ(disk_now(r->disk, &req), 0);
}

/* Not booted: a directory is made with it at the first start. */
static struct store_rig *rig_device(uint64_t bytes)
{
    struct store_rig *r = rig_new(CHUNK_ENGINE_EXTENT, testing_seed());
    rig_stop(r);
    device_make(r, "/dev", bytes);
    r->opt.directory = "/store";
    r->opt.device = "/dev";
    r->format = true;
    return r;
}

static struct store_rig *rig_on_device(void)
{
    struct store_rig *r = rig_device(DEVICE_BYTES);
    CHECK_OK(chunk_device_format(r->disk, "/dev", false, NULL));
    loop_sim_kill(r->loop);
    CHECK_OK(rig_boot(r));
    return r;
}

static struct chunk_key key_of(uint64_t i)
{
    return (struct chunk_key){.data_id = 100 + i};
}

/* What a start behind a crash finds free rests for a while: busy, until then. */
static int put_at_last(struct store_rig *r, uint64_t i, uint64_t ver)
{
    int rc = rig_put_whole(r, key_of(i), ver, SMALL);
    for (unsigned k = 0; k < 100 && rc == -ERR_busy; k++) {
        rig_pass(r, 100);
        rc = rig_put_whole(r, key_of(i), ver, SMALL);
    }
    return rc;
}

TEST(chunks_live_on_a_device)
{
    struct store_rig *r = rig_on_device();
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.total_bytes, 96 * MIB);
    CHECK_EQ(info.free_bytes, 96 * MIB - CHUNK_UNIT);
    uint64_t ver[60] = {0}, synced[60] = {0};
    for (unsigned life = 0; life < 6; life++) {
        for (uint64_t i = 0; i < 60; i++) {
            CHECK_OK(put_at_last(r, i, ++ver[i]));
        }
        CHECK_OK(rig_sync(r));
        memcpy(synced, ver, sizeof ver);
        rig_pass(r, 3000);
        CHECK_OK(rig_restart(r, life % 2 == 0));
        for (uint64_t i = 0; i < 60; i++) {
            CHECK_OK(rig_check(r, key_of(i), synced[i], SMALL));
        }
    }
    rig_pass(r, 3000);
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.wrong, 0);
    CHECK_EQ(info.free_bytes, 96 * MIB - CHUNK_UNIT - UINT64_C(60) * 7 * CHUNK_UNIT);
    rig_stop(r);
    rig_end(r);
}

TEST(a_device_fills_and_empties)
{
    struct store_rig *r = rig_on_device();
    uint64_t count = 0;
    int rc = 0;
    for (unsigned round = 0; round < 2; round++) {
        for (count = 0, rc = 0; rc == 0; count += rc == 0 ? 1 : 0) {
            rc = rig_put_whole(r, key_of(count), 1, (uint32_t)MIB);
        }
        CHECK_RC(rc, ENOSPC);
        CHECK_EQ(count, 95);
        for (uint64_t i = 0; i < count; i++) {
            CHECK_OK(rig_check(r, key_of(i), 1, (uint32_t)MIB));
            CHECK_OK(rig_delete(r, key_of(i)));
        }
        rig_pass(r, 5000);
    }
    rig_stop(r);
    rig_end(r);
}

/* What a person knows of it, without the configuration. */
TEST(a_directory_knows_its_device)
{
    struct store_rig *r = rig_on_device();
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    rig_stop(r);
    r->opt.device = NULL;
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_check(r, key_of(1), 1, SMALL));
    rig_stop(r);
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    struct disk_req req = {.op = DISK_RENAME, .path = "/dev", .path_to = "/dev.other"};
    CHECK_EQ(disk_now(r->disk, &req), 0);
    loop_sim_kill(r->loop);
    CHECK_RC(rig_boot(r), ENOENT);
    loop_sim_kill(r->loop);
    r->opt.device = "/dev.other";
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_check(r, key_of(1), 1, SMALL));
    rig_stop(r);
    r->opt.device = NULL; /* it has noted that */
    CHECK_OK(rig_boot(r));
    rig_stop(r);
    rig_end(r);
}

static int refused(struct store_rig *r)
{
    r->error = (struct err){0};
    int rc = rig_boot(r);
    loop_sim_kill(r->loop);
    return rc;
}

TEST(a_device_that_is_not_free_is_refused)
{
    struct store_rig *r = rig_device(DEVICE_BYTES);
    struct err e = {0};
    device_put(r, "/dev", 0, "XFSB");
    CHECK_RC(chunk_device_format(r->disk, "/dev", false, &e), EEXIST);
    CHECK_TRUE(strstr(e.text, "XFS") != NULL);
    device_put(r, "/dev", 0, "    ");
    CHECK_RC(chunk_device_format(r->disk, "/dev", false, &e), EEXIST);
    CHECK_TRUE(strstr(e.text, "not ours") != NULL);
    CHECK_OK(chunk_device_format(r->disk, "/dev", true, &e));
    CHECK_OK(chunk_device_format(r->disk, "/dev", false, &e)); /* nobody has it yet */
    device_put(r, "/dev", DEVICE_BYTES - 600, "EFI PART");     /* the second table */
    CHECK_OK(chunk_device_format(r->disk, "/dev", false, &e));
    device_make(r, "/dev2", MIB);
    CHECK_RC(chunk_device_format(r->disk, "/dev2", false, &e), ENOSPC);
    device_make(r, "/dev3", 32 * MIB);
    device_put(r, "/dev3", 32 * MIB - 600, "EFI PART");
    CHECK_RC(chunk_device_format(r->disk, "/dev3", false, &e), EEXIST);
    CHECK_RC(chunk_device_format(r->disk, "/none", false, &e), ENOENT);
    loop_sim_kill(r->loop);
    CHECK_OK(rig_boot(r));
    CHECK_RC(chunk_device_format(r->disk, "/dev", true, &e), ERR_in_use);
    rig_stop(r);
    CHECK_OK(loop_sim_process(r->sim, "data", 1, &r->loop));
    CHECK_OK(disk_sim_open(r->machine, r->loop, &r->disk));
    CHECK_RC(chunk_device_format(r->disk, "/dev", false, &e), EEXIST);
    CHECK_TRUE(strstr(e.text, "of target") != NULL);
    loop_sim_kill(r->loop);
    rig_end(r);
}

/* One that nobody has made ready, or that is another's, is not written to. */
TEST(a_server_takes_no_device_by_itself)
{
    struct store_rig *r = rig_on_device();
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    rig_stop(r);
    device_make(r, "/blank", DEVICE_BYTES);
    const struct chunk_format_options f = {.target = {.bytes = "other"}};
    struct chunk_options opt = r->opt;
    struct env env = {.loop = r->loop, .disk = r->disk};
    struct err e = {0};
    opt.env = &env;
    opt.user = &r->user;
    static const char *const devices[] = {"/blank", "/dev"};
    for (size_t i = 0; i < ARRAY_COUNT(devices); i++) {
        CLEANUP(mem_freep) char *directory = mem_printf("/other.%zu", i);
        opt.directory = directory;
        opt.device = devices[i];
        CHECK_OK(disk_make_directories(r->disk, directory));
        CHECK_ERR(chunk_store_format(&opt, &f, &e), ERR_corrupt);
        CHECK_TRUE(strstr(e.text, "chunk format") != NULL);
        struct chunk_looked looked;
        CHECK_ERR(chunk_store_look(r->disk, directory, &looked, NULL), ERR_corrupt);
    }
    loop_sim_kill(r->loop);
    r->opt.device = "/blank";
    CHECK_ERR(refused(r), ERR_corrupt);
    r->opt.device = "/dev";
    r->opt.directory = "/data"; /* made without one */
    CHECK_RC(refused(r), ERR_config);
    r->opt.directory = "/store";
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_check(r, key_of(1), 1, SMALL));
    rig_stop(r);
    rig_end(r);
}

TEST(a_device_that_has_become_smaller_is_refused)
{
    struct store_rig *r = rig_on_device();
    CHECK_OK(rig_put_whole(r, key_of(1), 1, SMALL));
    rig_stop(r);
    device_make(r, "/dev", DEVICE_BYTES - 16 * MIB);
    loop_sim_kill(r->loop);
    CHECK_ERR(refused(r), ERR_corrupt);
    CHECK_TRUE(strstr(r->error.text, "smaller") != NULL);
    device_make(r, "/dev", DEVICE_BYTES + 16 * MIB);
    loop_sim_kill(r->loop);
    CHECK_OK(rig_boot(r));
    CHECK_OK(rig_check(r, key_of(1), 1, SMALL));
    struct chunk_store_info info;
    chunk_store_info(r->store, &info);
    CHECK_EQ(info.total_bytes, 96 * MIB);
    rig_stop(r);
    rig_end(r);
}
