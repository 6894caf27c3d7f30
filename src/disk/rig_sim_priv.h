/* disk/rig_sim_priv.h -- tests of the simulated disk: a machine with one process, and requests
 * that are done at once. */
#pragma once

#include "disk/sim.h"
#include "loop/loop.h"
#include "loop/sim.h"
#include "testing/testing.h"

#include <string.h>

#define SEEDS 1000u

struct world {
    struct loop_sim *sim;
    struct disk_sim *machine;
    struct loop *loop;
    struct disk *disk;
};

static inline void world_boot(struct world *w)
{
    CHECK_OK(loop_sim_process(w->sim, "test", 1, &w->loop));
    CHECK_OK(disk_sim_open(w->machine, w->loop, &w->disk));
}

static inline struct world world_new(uint64_t seed, const struct disk_sim_options *opt)
{
    struct world w = {.sim = loop_sim_new(seed)};
    struct disk_sim_options options = *opt;
    options.sim = w.sim;
    CHECK_TRUE(w.sim != NULL);
    w.machine = disk_sim_new(&options);
    CHECK_TRUE(w.machine != NULL);
    world_boot(&w);
    return w;
}

static inline struct world world_of(uint64_t seed)
{
    return world_new(seed, &(struct disk_sim_options){.capacity_bytes = 0});
}

static inline void world_kill(struct world *w)
{
    loop_sim_kill(w->loop);
    w->loop = NULL;
    w->disk = NULL;
}

static inline void world_crash(struct world *w)
{
    world_kill(w);
    disk_sim_crash(w->machine);
    loop_sim_reboot(w->sim, 1);
    world_boot(w);
}

static inline void world_end(struct world *w)
{
    loop_sim_free(w->sim);
    disk_sim_free(w->machine);
}

/* ---- Requests, at once ---- */

static inline int64_t now_path(struct world *w, enum disk_op op, const char *path)
{
    struct disk_req req = {.op = op, .path = path};
    return disk_now(w->disk, &req);
}

static inline int64_t now_rename(struct world *w, const char *path, const char *path_to)
{
    struct disk_req req = {.op = DISK_RENAME, .path = path, .path_to = path_to};
    return disk_now(w->disk, &req);
}

static inline int64_t now_file(struct world *w, enum disk_op op, struct disk_file *f)
{
    struct disk_req req = {.op = op, .file = f};
    return disk_now(w->disk, &req);
}

static inline int64_t now_range(struct world *w, enum disk_op op, struct disk_file *f,
                                uint64_t offset, uint64_t len)
{
    struct disk_req req = {.op = op, .file = f, .offset = offset, .len = len};
    return disk_now(w->disk, &req);
}

static inline struct disk_file *opened(struct world *w, const char *path, uint32_t flags)
{
    struct disk_req req = {.op = DISK_OPEN, .path = path, .flags = flags};
    return disk_now(w->disk, &req) == 0 ? req.file : NULL;
}

static inline struct disk_file *created(struct world *w, const char *path)
{
    struct disk_file *f = opened(w, path, DISK_READ_WRITE | DISK_CREATE);
    CHECK_TRUE(f != NULL);
    return f;
}

static inline int64_t put(struct world *w, struct disk_file *f, uint64_t offset, const void *bytes,
                          size_t len)
{
    struct disk_req req = {.op = DISK_WRITE, .file = f, .offset = offset, .len = len};
    req.buf = (void *)bytes;
    return disk_now(w->disk, &req);
}

/* Length of the file and its first bytes, -ENOENT. */
static inline int64_t content(struct world *w, const char *path, void *bytes, size_t size)
{
    struct disk_file *f = opened(w, path, DISK_READ_ONLY);
    if (f == NULL) {
        return -ENOENT;
    }
    struct disk_req req = {.op = DISK_READ, .file = f, .buf = bytes, .len = size};
    int64_t rc = disk_now(w->disk, &req);
    CHECK_EQ(now_file(w, DISK_CLOSE, f), 0);
    return rc;
}

static inline void store(struct world *w, const char *path, char fill, size_t len)
{
    uint8_t bytes[8192];
    CHECK_TRUE(len <= sizeof bytes);
    memset(bytes, fill, len);
    struct disk_file *f = created(w, path);
    CHECK_EQ(put(w, f, 0, bytes, len), len);
    CHECK_EQ(now_file(w, DISK_SYNC_ALL, f), 0);
    CHECK_EQ(now_file(w, DISK_CLOSE, f), 0);
}
