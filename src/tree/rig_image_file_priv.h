/* tree/rig_image_file_priv.h -- for tests only: the bytes of a tree's file, taken, changed and put
 * back, while nobody has it open. */
#pragma once

#include "tree/rig_life_priv.h"

#define RIG_IMAGE_BYTES (4u << 20) /* a tree of these tests lies in front of it */
#define RIG_IMAGE_UNIT 4096u

struct rig_image_file {
    struct rig_life *life;
    uint8_t *bytes; /* RIG_IMAGE_BYTES; mem_aligned */
    uint64_t size;  /* of the file */
    uint64_t offset, len;
    int64_t rc;
};

static inline void rig_image_file_do(struct rig_image_file *f, enum disk_op op)
{
    struct disk *d = f->life->rig.env.disk;
    struct disk_req open = {
        .op = DISK_OPEN, .path = RIG_PATH, .flags = DISK_READ_WRITE | DISK_CREATE};
    CHECK(disk_now(d, &open) >= 0);
    struct disk_req req = {.op = op,
                           .file = open.file,
                           .offset = f->offset,
                           .buf = op == DISK_TRUNCATE ? NULL : f->bytes + f->offset,
                           .len = op == DISK_TRUNCATE ? 0 : f->len};
    struct disk_req sync = {.op = DISK_SYNC, .file = open.file};
    struct disk_req close = {.op = DISK_CLOSE, .file = open.file};
    f->rc = disk_now(d, &req);
    CHECK(op == DISK_READ || disk_now(d, &sync) >= 0);
    CHECK(disk_now(d, &close) >= 0);
}
static inline void rig_image_file_read_in(void *ctx)
{
    rig_image_file_do(ctx, DISK_READ);
}
static inline void rig_image_file_write_in(void *ctx)
{
    rig_image_file_do(ctx, DISK_WRITE);
}
static inline void rig_image_file_truncate_in(void *ctx)
{
    rig_image_file_do(ctx, DISK_TRUNCATE);
}

/* In a process of its own: the one with the tree has been killed, and another may be begun then. */
static inline void rig_image_file_enter(struct rig_image_file *f, void (*fn)(void *ctx))
{
    struct rig_life *l = f->life;
    rig_tree_start(&l->rig);
    loop_sim_enter(l->rig.machine.loop, fn, f);
    rig_life_kill(l, false);
}

static inline void rig_image_file_init(struct rig_image_file *f, struct rig_life *l)
{
    *f = (struct rig_image_file){.life = l};
    f->bytes = mem_aligned(RIG_IMAGE_UNIT, RIG_IMAGE_BYTES);
    CHECK(f->bytes != NULL);
    memset(f->bytes, 0, RIG_IMAGE_BYTES);
}
static inline void rig_image_file_fini(struct rig_image_file *f)
{
    mem_free(f->bytes);
}

static inline void rig_image_file_take(struct rig_image_file *f)
{
    f->offset = 0;
    f->len = RIG_IMAGE_BYTES;
    rig_image_file_enter(f, rig_image_file_read_in);
    CHECK(f->rc > 0);
}

/* These bytes as they are in memory; stored, so that damage stays when they are synced later. */
static inline void rig_image_file_put(struct rig_image_file *f, uint64_t offset, uint64_t len)
{
    f->offset = offset;
    f->len = len;
    rig_image_file_enter(f, rig_image_file_write_in);
    CHECK_EQ(f->rc, len);
}

static inline bool rig_image_file_empty(const struct rig_image_file *f, uint64_t unit)
{
    const uint8_t *b = f->bytes + unit * RIG_IMAGE_UNIT;
    return b[0] == 0 && memcmp(b, b + 1, RIG_IMAGE_UNIT - 1) == 0;
}
