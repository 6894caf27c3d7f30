#include "mount/call_priv.h"

/* Files with holes, and copies that do not pass the kernel. */

#define MOUNT_COPY_BYTES (UINT64_C(1) << 30) /* an answer has 32 bits for it */

static void placed(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
    } else {
        c->answers->place(c, (uint64_t)op->result);
    }
}

void mount_lseek(struct mount_call *c, int whence)
{
    if (c->handle->file == NULL) {
        c->answers->done(c, -EINVAL);
    } else if (mount_op(c, placed)) {
        opendfs_async_seek(c->mount->fs, &c->op, c->handle->file, c->offset, whence);
    }
}

static void allocated(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    c->answers->done(c, op->result < 0 ? (int)op->result : 0);
}

void mount_fallocate(struct mount_call *c, int mode, uint64_t len)
{
    if (c->handle->file == NULL) {
        c->answers->done(c, -ENODEV);
    } else if (mount_op(c, allocated)) {
        opendfs_async_allocate(c->mount->fs, &c->op, c->handle->file, (unsigned)mode, c->offset,
                               len);
    }
}

static void copied(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
    } else {
        c->answers->copied(c, (size_t)op->result);
    }
}

void mount_copy(struct mount_call *c, struct mount_handle *to, uint64_t to_offset)
{
    if (c->handle->file == NULL || to->file == NULL) {
        c->answers->done(c, -EXDEV); /* the kernel reads and writes by itself then */
        return;
    }
    c->copy = (struct opendfs_copy){.from = c->handle->file,
                                    .to = to->file,
                                    .from_offset = c->offset,
                                    .to_offset = to_offset,
                                    .len = base_min(c->size, MOUNT_COPY_BYTES)};
    if (mount_op(c, copied)) {
        opendfs_async_copy_range(c->mount->fs, &c->op, &c->copy);
    }
}
