/*
 * opendfs/lock.h -- locks of files, between all clients of a cluster.
 */
#ifndef OPENDFS_LOCK_H
#define OPENDFS_LOCK_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

/* POSIX: of ranges, as fcntl(2) has them. FLOCK: of whole files (start 0, last OPENDFS_LOCK_LAST).
 * Neither is in the way of the other. */
#define OPENDFS_LOCK_POSIX 1
#define OPENDFS_LOCK_FLOCK 2

#define OPENDFS_LOCK_NONE 0 /* lets go of what the owner has of the range */
#define OPENDFS_LOCK_READ 1
#define OPENDFS_LOCK_WRITE 2

#define OPENDFS_LOCK_LAST INT64_C(0x7fffffffffffffff) /* to the end, however long the file gets */

struct opendfs_lock {
    unsigned kind, type;
    uint64_t start, last; /* bytes; `last` is in it */
    uint64_t owner;       /* locks of one owner are never in each other's way; of this client */
    uint32_t pid;         /* told to who asks who has it */
};

/*
 * Takes a lock, or lets go. With `wait` it is done when it has the lock; else -EAGAIN if it would
 * have to wait. -EDEADLK: those whom it would wait for wait for its owner. -ENOLCK: too many.
 * Whoever has a lock sees all that was written before its last holder let it go.
 *
 * Closing the handle lets go of what was locked through it. Locks go with the session, also when
 * the servers end that because the client was silent for too long: then writing through its handles
 * fails.
 */
int opendfs_lock(struct opendfs_file *file, const struct opendfs_lock *lock, int wait);
/* opendfs_async_cancel() of one that waits: -ECANCELED, unless it was granted meanwhile. */
void opendfs_async_lock(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                        const struct opendfs_lock *lock, int wait);
/* What is in the way of `lock` goes there; type NONE: nothing. `pid` is what its holder
 * said, perhaps on another machine. */
int opendfs_lock_test(struct opendfs_file *file, struct opendfs_lock *lock);
void opendfs_async_lock_test(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                             struct opendfs_lock *lock);

#ifdef __cplusplus
}
#endif

#endif
