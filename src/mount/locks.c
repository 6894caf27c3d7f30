#include "mount/call_priv.h"

/*
 * Locks. The kernel asks about each of them, and names who locks by a number: a process (its table
 * of open files), or an open file; which of the two it is does not matter here. A process that
 * closes a file lets go of what it has there (flush); an open file takes with it what was locked
 * through it (the library, with its handle).
 *
 * Who has got a lock must not see what the kernel read before: pages of a file that others have
 * written go first. That may wait for reads that are under way, which this loop has to answer: so
 * another thread asks for it.
 */

static void lock_pages_gone(struct mount_forget *f)
{
    struct mount_call *c = container_of(f, struct mount_call, forget);
    c->answers->done(c, 0);
}

static void lock_done(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    int rc = op->result == -ECANCELED ? -EINTR : (int)op->result;
    if (rc == 0 && c->lock.type != OPENDFS_LOCK_NONE && client_lock_dropped(c->handle->file)) {
        c->forget.done = lock_pages_gone;
        mount_fuse_forget(c->mount->fuse, c->handle->ino, &c->forget);
        return;
    }
    c->answers->done(c, rc);
}

void mount_lock(struct mount_call *c, bool wait)
{
    if (c->handle->file == NULL) { /* of the mount itself */
        c->answers->done(c, -EINVAL);
    } else if (mount_op(c, lock_done)) {
        c->waits = wait;
        opendfs_async_lock(c->mount->fs, &c->op, c->handle->file, &c->lock, wait);
    }
}

static void lock_tested(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    if (op->result < 0) {
        c->answers->done(c, (int)op->result);
    } else {
        c->answers->lock(c, &c->lock);
    }
}

void mount_lock_test(struct mount_call *c)
{
    if (c->handle->file == NULL) {
        c->answers->done(c, -EINVAL);
    } else if (mount_op(c, lock_tested)) {
        opendfs_async_lock_test(c->mount->fs, &c->op, c->handle->file, &c->lock);
    }
}

static void lock_flushed(struct opendfs_op *op)
{
    struct mount_call *c = mount_call_of(op);
    c->answers->done(c, c->error);
}

void mount_lock_flush(struct mount_call *c, int rc)
{
    struct opendfs_file *f = c->handle->file;
    if (f == NULL || !client_lock_held(f, OPENDFS_LOCK_POSIX, c->lock.owner)) {
        c->answers->done(c, rc);
        return;
    }
    c->error = rc;
    c->lock = (struct opendfs_lock){
        .kind = OPENDFS_LOCK_POSIX, .last = OPENDFS_LOCK_LAST, .owner = c->lock.owner};
    if (mount_op(c, lock_flushed)) {
        opendfs_async_lock(c->mount->fs, &c->op, f, &c->lock, 0);
    }
}
