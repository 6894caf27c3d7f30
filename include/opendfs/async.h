/*
 * opendfs/async.h -- the operations of opendfs/opendfs.h without waiting for them.
 *
 * An operation is a `struct opendfs_op` in the caller's memory. Zero it, set `done` (and what else
 * stands in its first part), start it with one of the functions below from any thread, and leave it
 * and all that its arguments point to (paths, buffers, values) alone until `done`. `done` is called
 * exactly once, on the library's thread, never from inside the start, with the results in the
 * second part; it must not block, and may start operations, also this one again. Starting cannot
 * fail: what goes wrong is told by `result`. Several hundred operations may be under way at once;
 * they are executed in parallel and in no particular order, except that those on one file see the
 * ones started before them on the same file when both write, or when one is a sync, a truncate, a
 * stat or the close.
 */
#ifndef OPENDFS_ASYNC_H
#define OPENDFS_ASYNC_H

#include "opendfs/opendfs.h"
#include "opendfs/xattr.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OPENDFS_ERROR_SIZE 240

struct opendfs_op {
    /* --- the caller's
     * ------------------------------------------------------------------------------------- */
    void (*done)(struct opendfs_op *op);
    void *context; /* not looked at */
    /* Where paths of this operation begin that have no slash in front: an inode number (of a
     * directory, from `stat`), 0: the root. Names directly below `at` need no resolving: one round
     * trip less. An empty path is the inode `at` itself, of any type. */
    uint64_t at;
    uint64_t at_to; /* rename, link: the same for the new name; 0: as `at` */
    /* On whose behalf: NULL: of the user who made the client. Servers of many users (a mount, a
     * gateway) have one for each (client/client.h); then `umask` counts instead of the client's.
     */
    struct opendfs_identity *as;
    uint32_t umask;

    /* --- results
     * ------------------------------------------------------------------------------------------ */
    int64_t result; /* 0 or a count; negative errno */
    struct opendfs_stat
        stat; /* after stat, lstat, mkdir, symlink, link, create, setattr, open, fstat, close */
    struct opendfs_file *file;
    const void *data; /* pread_lent, status_json (then also freed by release) */
    size_t data_len;
    const struct opendfs_entry *entries; /* list */
    size_t entry_count;
    int at_end; /* list: nothing follows */
    struct opendfs_space space;
    char error[OPENDFS_ERROR_SIZE]; /* a failure in words: path and cause */

    /* --- the library's; zero before the first use
     * ---------------------------------------------------------- */
    uint64_t reserved[32];
};

/* Any thread, any time between start and `done`: gives up soon, with -ECANCELED, if it can still be
 * done without doubt about its outcome; else nothing happens. */
void opendfs_async_cancel(struct opendfs *fs, struct opendfs_op *op);
/* Gives back what `data` or `entries` of a finished operation point to. Any thread; nothing to
 * release is fine. */
void opendfs_async_release(struct opendfs *fs, struct opendfs_op *op);

/* --- names: as in opendfs.h, with the new attributes in `stat`
 * --------------------------------------------- */

void opendfs_async_stat(struct opendfs *fs, struct opendfs_op *op, const char *path);
void opendfs_async_lstat(struct opendfs *fs, struct opendfs_op *op, const char *path);
void opendfs_async_mkdir(struct opendfs *fs, struct opendfs_op *op, const char *path,
                         uint32_t mode);
void opendfs_async_make_directories(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                    uint32_t mode);
void opendfs_async_rmdir(struct opendfs *fs, struct opendfs_op *op, const char *path);
void opendfs_async_unlink(struct opendfs *fs, struct opendfs_op *op, const char *path);
void opendfs_async_rename(struct opendfs *fs, struct opendfs_op *op, const char *from,
                          const char *to, unsigned flags);
void opendfs_async_link(struct opendfs *fs, struct opendfs_op *op, const char *existing,
                        const char *path);
/* `values` may be NULL; else uid, gid and times of it that `mask` names. */
void opendfs_async_symlink(struct opendfs *fs, struct opendfs_op *op, const char *target,
                           const char *path, const struct opendfs_stat *values, unsigned mask);
/* Fifos, sockets, devices: `values` gives type, mode and rdev, and what `mask` names. */
void opendfs_async_make_node(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const struct opendfs_stat *values, unsigned mask);
void opendfs_async_readlink(struct opendfs *fs, struct opendfs_op *op, const char *path, char *out,
                            size_t size);
void opendfs_async_setattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                           const struct opendfs_stat *values, unsigned mask);
/* The same for an inode by its number (`op->stat.ino` of before): no resolving. */
void opendfs_async_setattr_ino(struct opendfs *fs, struct opendfs_op *op, uint64_t ino,
                               const struct opendfs_stat *values, unsigned mask);
/* Whether who asks may do all of OPENDFS_READ, _WRITE, _EXECUTE with it (of a directory: list it,
 * change it, look names up in it): 0, or -EACCES. Final links are followed. */
void opendfs_async_access(struct opendfs *fs, struct opendfs_op *op, const char *path,
                          unsigned rights);
/* Extended attributes: `result` is the length of what get and list found. */
void opendfs_async_getxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                            const char *name, void *value, size_t size);
void opendfs_async_lgetxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const char *name, void *value, size_t size);
void opendfs_async_setxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                            const struct opendfs_xattr *xattr);
void opendfs_async_lsetxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const struct opendfs_xattr *xattr);
void opendfs_async_listxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             char *names, size_t size);
void opendfs_async_llistxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                              char *names, size_t size);
void opendfs_async_removexattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                               const char *name);
void opendfs_async_lremovexattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                const char *name);
/* One page of a directory: at most `max` (0: some thousand) entries behind the name `after` (NULL
 * or "": from the start) in `entries`, which stay until opendfs_async_release(). `at_end`: there
 * are no more. */
void opendfs_async_list(struct opendfs *fs, struct opendfs_op *op, const char *path,
                        const char *after, size_t max);

/* --- files
 * ------------------------------------------------------------------------------------------------
 */

/* A whole small file in one round trip: `values` gives mode, and uid, gid and times that `mask`
 * names. `len` up to opendfs_inline_limit(); more is -EFBIG (use open and pwrite). There must be no
 * such name: -EEXIST. */
void opendfs_async_create(struct opendfs *fs, struct opendfs_op *op, const char *path,
                          const struct opendfs_stat *values, unsigned mask, const void *data,
                          size_t len);
/* Bytes that fit in the metadata, for new files of the default storage class. */
size_t opendfs_inline_limit(const struct opendfs *fs);

/* `file` is the handle, `stat` the attributes. Contents of a small file come with it: reading it
 * then needs no server. */
void opendfs_async_open(struct opendfs *fs, struct opendfs_op *op, const char *path, unsigned flags,
                        uint32_t mode);
void opendfs_async_pread(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                         void *buffer, size_t len, uint64_t offset);
/* Without a copy: `data` points to at most `len` verified bytes, until opendfs_async_release().
 * Short also at chunk boundaries (4 MiB by default): 0 bytes means the end of the file. Memory so
 * held counts against cache_bytes. */
void opendfs_async_pread_lent(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                              size_t len, uint64_t offset);
/* Done when the library has taken a copy: it is sent in the background. Waits while too much is
 * under way. */
void opendfs_async_pwrite(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                          const void *buffer, size_t len, uint64_t offset);
/* Without a copy, and done when all serving copies have it: keep several under way. `offset` should
 * be a multiple of 4,096, and `len` too unless the file ends there; best are whole chunks. Anything
 * else is copied first. */
void opendfs_async_pwrite_lent(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                               const void *buffer, size_t len, uint64_t offset);
/* All that was written is on the data nodes and its size on record, though it need not be stable:
 * what a close does, but the handle stays, and may be written again. Errors of delayed writes are
 * told as by close, once. */
void opendfs_async_flush(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file);
void opendfs_async_fsync(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file);
void opendfs_async_ftruncate(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                             uint64_t size_bytes);
void opendfs_async_fstat(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file);
/* Frees the handle in any case. `values` (may be NULL): mode, owner and times that `mask` names are
 * set as well, after everything was written. */
void opendfs_async_close(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                         const struct opendfs_stat *values, unsigned mask);

/* --- cluster
 * ---------------------------------------------------------------------------------------------- */

void opendfs_async_statfs(struct opendfs *fs, struct opendfs_op *op); /* `space` */
/* `data`, `data_len`: JSON with a final NUL behind it, until opendfs_async_release(). */
void opendfs_async_status_json(struct opendfs *fs, struct opendfs_op *op);
/* Statistics of one server in the text format of Prometheus: of the metadata leader (`target` 0),
 * or of the target with this number, which has some seconds to answer (-ETIMEDOUT; -ENOENT: there
 * is none). In `data` and `data_len`, as status_json. OPENDFS_METRICS_OWN: of this client, with
 * what it has seen of each target. */
#define OPENDFS_METRICS_OWN UINT32_MAX
void opendfs_async_metrics(struct opendfs *fs, struct opendfs_op *op, uint32_t target);

#ifdef __cplusplus
}
#endif

#endif
