/*
 * disk/disk.h -- asynchronous file I/O. Backends: a real machine with a pool of threads and, where
 * the kernel has it, io_uring (disk_pool_new); simulation (disk/sim.h).
 *
 * A request is caller-owned and embedded; disk_submit() cannot fail; `done` is called exactly once,
 * on the loop of the struct disk, never from inside submit. Requests are independent: order is the
 * caller's (sync after the writes it covers are done). A short read means end of file; writes are
 * whole or failed (any part of a failed one may be there). Errors are -errno as the kernel gave
 * them (-EIO, -ENOSPC, -ENOENT ...), -EISDIR for opening a directory, -EBADF for changing a file
 * that was opened for reading, -ERR_busy when the queue is full; those too come through `done`. A
 * failed sync is final: repeating it may succeed without having stored anything.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"

#include <sys/uio.h>

struct env;
struct loop;
struct disk_file; /* an open file; freed by DISK_CLOSE */

enum disk_op {
    DISK_OPEN,  /* path, flags -> file */
    DISK_CLOSE, /* file: freed whatever the result, never refused; nothing else of it in flight */
    DISK_READ,  /* file, offset, iov -> bytes read */
    DISK_WRITE, /* file, offset, iov; DISK_APPENDING: it extends the file -> bytes written */
    DISK_SYNC,  /* file: fdatasync */
    DISK_SYNC_ALL, /* file: fsync */
    DISK_SYNC_DIR, /* path: fsync of a directory */
    DISK_DROP,     /* file: what is clean leaves the page cache; a part (offset, len): perhaps */
    DISK_ALLOCATE, /* file, offset, len: space is reserved, length grows (DISK_KEEP_SIZE: not) */
    DISK_PUNCH,    /* file, offset, len: freed (DISK_KEEP_SIZE: not), reads as zeros; -EOPNOTSUPP */
    DISK_TRUNCATE, /* file, len */
    DISK_STAT,     /* file or path -> stat */
    DISK_STATFS,   /* path -> stat.total, stat.free */
    DISK_RENAME,   /* path, path_to: atomic, replaces */
    DISK_LINK,     /* path, path_to: fails with -EEXIST */
    DISK_REMOVE,   /* path: file or empty directory */
    DISK_MKDIR,    /* path */
    DISK_LIST,     /* path -> names (entry count as result) */
    DISK_LOCK, /* file: exclusive advisory lock of the open file; -ERR_in_use when held elsewhere */
    DISK_SEND, /* file, offset, len, sink -> bytes moved (may be short), -EAGAIN: the sink is full
                */
    DISK_FETCH, /* file, offset, len -> bytes that the page cache has now (short: end of file) */
};

#define DISK_READ_ONLY 0u
#define DISK_READ_WRITE 1u
#define DISK_CREATE 2u    /* with DISK_READ_WRITE */
#define DISK_EXCLUSIVE 4u /* with DISK_CREATE: -EEXIST; a block device: -EBUSY if it is in use */
#define DISK_DIRECT 8u    /* all in units of 4 KiB; -EINVAL where the file system cannot */
#define DISK_APPENDING 16u
#define DISK_SOON 128u   /* DISK_WRITE: the medium may begin, the page cache need not keep it */
#define DISK_STABLE 256u /* DISK_WRITE, then DISK_SYNC, as one: all before is stable, too */
/* DISK_READ: from the medium, what is not there yet goes there first; the page cache stays as it
 * is. Units as of DISK_DIRECT; -EOPNOTSUPP where the file system cannot. */
#define DISK_PAST_CACHE 1024u
#define DISK_KEEP_SIZE 32u
#define DISK_PUBLIC \
    64u /* DISK_OPEN that creates, DISK_MKDIR: mode 0666, 0777 less umask; else 0600, 0700 */

/* On whose account: those who share a disk take turns, and the background yields (share_priv.h). */
enum disk_lane {
    DISK_FOREGROUND, /* people wait for it, or may: the default */
    DISK_COPYING,    /* resync, repair: other copies are there */
    DISK_SCRUBBING,
};

struct disk_stat {
    uint64_t size_bytes, allocated_bytes, mtime_ns;
    uint64_t total_bytes, free_bytes;
    bool directory;
};

/* Names in one directory, no "." and "..", sorted by bytes; one allocation, freed by mem_free. */
struct disk_names {
    size_t count;
    const char *name[];
};

/* Where DISK_SEND sends to. Real backends use `fd` (non-blocking socket), the simulation `write`.
 */
struct disk_sink {
    int fd; /* the thread blocks SIGPIPE: loops and their executors do */
    int64_t (*write)(struct disk_sink *s, const void *bytes,
                     size_t len); /* bytes taken, or -EAGAIN, -errno */
};

struct disk_req {
    enum disk_op op;
    uint32_t flags;
    enum disk_lane lane;
    struct disk_file *file;     /* in; out for DISK_OPEN */
    const char *path, *path_to; /* lent until done */
    uint64_t offset, len;
    const struct iovec *iov; /* lent until done; NULL: one piece of buf, len */
    unsigned iov_count;
    void *buf;
    struct disk_sink *sink;
    struct disk_stat stat;    /* out */
    struct disk_names *names; /* out, the caller's */
    void (*done)(struct disk_req *req, int64_t rc);
    struct list node; /* the backend's, while in flight */
    int64_t result;
    void *backend;
};

/* Sees, on the loop, what requests take and return that go to the medium: who judges the disk. A
 * request begins, and its time counts, when its turn has come. */
struct disk_observer {
    void (*begun)(struct disk_observer *o);
    void (*ended)(struct disk_observer *o, const struct disk_req *req, int64_t rc, uint64_t ns);
};

struct disk {
    const struct disk_ops *ops;
    struct loop *loop;
    struct disk_observer *observer; /* of who made it, set while nothing is in flight; or NULL */
};
struct disk_ops {
    void (*submit)(struct disk *d, struct disk_req *req);
    int64_t (*now)(struct disk *d, struct disk_req *req);
    bool (*resident)(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len);
    int64_t (*try_read)(struct disk *d, struct disk_req *req);
    int (*lend)(struct disk *d, void *at, size_t len);
    void (*unlend)(struct disk *d, const void *at);
    size_t (*in_flight)(const struct disk *d);
    struct disk *(*free)(struct disk *d);
};

static inline void disk_submit(struct disk *d, struct disk_req *req)
{
    d->ops->submit(d, req);
}
/* Blocking, for start-up and tools only, never on a serving loop. Returns what `done` would get;
 * `done` is not called. */
static inline int64_t disk_now(struct disk *d, struct disk_req *req)
{
    return d->ops->now(d, req);
}
/* Is the range probably in the page cache, so that sending it does not wait for the medium? Never
 * blocks. */
static inline bool disk_resident(struct disk *d, struct disk_file *f, uint64_t offset, uint64_t len)
{
    return d->ops->resident(d, f, offset, len);
}
/* DISK_READ without waiting for the medium: bytes, or -EAGAIN (submit it then). */
static inline int64_t disk_try_read(struct disk *d, struct disk_req *req)
{
    return d->ops->try_read(d, req);
}
/* Memory, in units of 4 KiB, that direct transfers will use again and again: where there is
 * io_uring, the kernel keeps its pages at hand until disk_unlend(). -errno: it goes without
 * (-EOPNOTSUPP no io_uring, -ENOMEM the limit of locked memory, -ENOSPC too much). */
NODISCARD static inline int disk_lend(struct disk *d, void *at, size_t len)
{
    return d->ops->lend(d, at, len);
}
/* Before it is freed, with nothing in flight there. Fine when it was not lent. */
static inline void disk_unlend(struct disk *d, const void *at)
{
    d->ops->unlend(d, at);
}
static inline size_t disk_in_flight(const struct disk *d)
{
    return d->ops->in_flight(d);
}
static inline struct disk *disk_free(struct disk *d) /* nothing may be in flight; NULL is fine */
{
    return d == NULL ? NULL : d->ops->free(d);
}
DEFINE_FREEP(disk)

struct disk_pool_options {
    unsigned max_threads; /* 0: 16 */
    size_t max_in_flight; /* 0: 4,096; beyond: -ERR_busy */
};
/* The thread-pool backend on env->loop. Thread of the loop. */
NODISCARD int disk_pool_new(const struct env *env, const struct disk_pool_options *opt,
                            struct disk **ret);
/* From now on reads, writes and syncs go through io_uring where that can do them, the rest to the
 * threads. -errno: there is none here (-ENOSYS, -EPERM ...); then the threads go on doing all. The
 * loop changes its thread only while nothing is in flight. */
NODISCARD int disk_pool_use_uring(struct disk *d);
/* Descriptor of an open file for sendfile by net/; -1 in simulation. */
int disk_file_fd(const struct disk_file *f);

/* Blocking conveniences on top of disk_now(), for start-up and tools. */
#define DISK_SMALL_MAX (1u << 20)
/* Whole file into fresh memory (mem_free), zero-terminated; -EFBIG above `max`. */
NODISCARD int disk_load(struct disk *d, const char *path, size_t max, void **ret, size_t *ret_len);
/* Replaces a file atomically and durably. */
NODISCARD int disk_store(struct disk *d, const char *path, const void *bytes, size_t len);
/* Syncs and drops: what an earlier process left is read from the medium then (doc/design/0050). */
NODISCARD int disk_refresh(struct disk *d, struct disk_file *file);
/* mkdir -p, each new level made durable. */
NODISCARD int disk_make_directories(struct disk *d, const char *path);
