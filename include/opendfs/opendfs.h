/*
 * opendfs/opendfs.h -- the client library of OpenDFS.
 *
 * A `struct opendfs` is one connected client of one cluster; it owns a thread of its own and may be
 * used from any number of threads at once. Paths are absolute within the cluster ("/music/a.flac"),
 * at most 4,095 bytes, any bytes but NUL.
 *
 * Results: 0 or a positive count on success, a negative errno value on failure (-ENOENT, -EIO ...).
 * opendfs_error_text() explains one; opendfs_last_error() tells path and cause of the calling
 * thread's last failed synchronous call.
 *
 * What success means: a change of names or attributes is on stable storage of the metadata server.
 * Written data may still be on its way when opendfs_pwrite() has returned; it is in the memory of
 * all serving copies when opendfs_close() has, and on stable storage of all of them when
 * opendfs_fsync() has, or opendfs_close() of a file opened with OPENDFS_SYNC. An error of a delayed
 * write is reported by fsync and by close, once each: look at both. Each open file is told by
 * itself; those that are only read by fsync, which makes stable what others have written, too.
 *
 * Every operation has two forms: a synchronous one that blocks its thread, and an asynchronous one
 * in opendfs/async.h.
 */
#ifndef OPENDFS_H
#define OPENDFS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OPENDFS_API_VERSION 1

struct opendfs;
struct opendfs_file;
struct opendfs_dir;

/* Zero it, then set at least api_version and cluster. A uid of 0 is root: UINT32_MAX is what most
 * programs want. */
struct opendfs_options {
    uint32_t api_version;    /* OPENDFS_API_VERSION */
    const char *cluster;     /* "host:port,host:port" of the metadata servers; or the directory of a
                                local cluster, or its cluster.ini */
    const char *secret_file; /* client secret made by `opendfs init`; needed with addresses; NULL:
                                the one that the cluster.ini names */
    uint32_t uid, gid;       /* whose rights count; UINT32_MAX: those of the process */
    const uint32_t *groups;  /* supplementary groups; lent for the call; NULL with the uid of the
                                process: those of the process */
    size_t group_count;
    uint64_t cache_bytes; /* memory for data in flight and read ahead; 0: 256 MiB */
    uint64_t timeout_ms; /* an operation gives up after so long; 0: never, waits through restarts of
                            servers */
    uint32_t umask; /* taken from the modes of new files and directories, unless their directory
                       has a default access control list */
    uint64_t connect_ms; /* opendfs_connect() gives up after so long, with -ETIMEDOUT; 0: as any
                            operation */
    /* Where this client runs, as `host` and `rack` of data nodes in cluster.ini: near copies are
     * read first. Lent for the call; NULL: not known (a target at one of our own addresses is seen
     * to be near in any case). */
    const char *host, *rack;
    /* Files of that size and more that are read in order pass the page caches of the data nodes by,
     * so that one reader of much does not put out what others use again and again. 0: 4 MiB;
     * UINT64_MAX: none do. */
    uint64_t stream_bytes;
};

/* Connects: returns when a metadata leader has answered. *ret is freed by opendfs_disconnect().
 * On failure *ret is not written and there is nothing to free. */
int opendfs_connect(const struct opendfs_options *options, struct opendfs **ret);
/* Closes what is open without syncing it, so that data under way may be lost, and frees the client.
 * No other call may be under way. NULL is fine. */
void opendfs_disconnect(struct opendfs *fs);

const char *opendfs_version(void);
const char *opendfs_error_text(int result);
const char *opendfs_last_error(void);

/* --- names
 * ------------------------------------------------------------------------------------------------
 */

#define OPENDFS_TYPE_FIFO 1
#define OPENDFS_TYPE_CHAR 2
#define OPENDFS_TYPE_DIRECTORY 4
#define OPENDFS_TYPE_BLOCK 6
#define OPENDFS_TYPE_FILE 8
#define OPENDFS_TYPE_SYMLINK 10
#define OPENDFS_TYPE_SOCKET 12

struct opendfs_stat {
    uint64_t ino;
    uint32_t type; /* OPENDFS_TYPE_... (as DT_...) */
    uint32_t mode; /* permission bits, setuid, setgid, sticky */
    uint32_t nlink;
    uint32_t uid, gid;
    uint64_t rdev;
    uint64_t size_bytes, allocated_bytes;
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since 1970, may be negative */
    uint64_t version;                               /* grows with every change */
};

int opendfs_stat(struct opendfs *fs, const char *path,
                 struct opendfs_stat *ret); /* follows symlinks */
int opendfs_lstat(struct opendfs *fs, const char *path, struct opendfs_stat *ret);
int opendfs_mkdir(struct opendfs *fs, const char *path, uint32_t mode);
int opendfs_make_directories(struct opendfs *fs, const char *path, uint32_t mode); /* mkdir -p */
int opendfs_rmdir(struct opendfs *fs, const char *path);
int opendfs_unlink(struct opendfs *fs, const char *path);
#define OPENDFS_RENAME_NOREPLACE 1
#define OPENDFS_RENAME_EXCHANGE 2
int opendfs_rename(struct opendfs *fs, const char *from, const char *to, unsigned flags);
int opendfs_link(struct opendfs *fs, const char *existing, const char *path);
int opendfs_symlink(struct opendfs *fs, const char *target, const char *path);
/* Writes at most `size` bytes including the final NUL; returns the length of the target. */
int opendfs_readlink(struct opendfs *fs, const char *path, char *out, size_t size);

#define OPENDFS_SET_MODE 1
#define OPENDFS_SET_UID 2
#define OPENDFS_SET_GID 4
#define OPENDFS_SET_SIZE 8
#define OPENDFS_SET_ATIME 16
#define OPENDFS_SET_MTIME 32
/* Only of setattr: the time of the metadata server when it makes the change; the values are not
 * looked at. Who may write the file may do this, for given times one must own it. */
#define OPENDFS_SET_ATIME_NOW 512
#define OPENDFS_SET_MTIME_NOW 1024
#define OPENDFS_SET_KILL_PRIV 2048 /* set-id bits go, as by a write of others than root */
/* Changes what `mask` names, all or nothing; does not follow a final symlink (size: an error then).
 */
int opendfs_setattr(struct opendfs *fs, const char *path, const struct opendfs_stat *values,
                    unsigned mask);

/* --- directories
 * ------------------------------------------------------------------------------------------ */

struct opendfs_entry {
    const char *name; /* valid until the next call on the directory */
    size_t name_len;
    struct opendfs_stat stat;
};
/* Entries in byte order of their names, without "." and "..". A directory handle belongs to one
 * thread at a time. */
int opendfs_opendir(struct opendfs *fs, const char *path, struct opendfs_dir **ret);
int opendfs_readdir(struct opendfs_dir *dir, struct opendfs_entry *ret); /* 1: an entry, 0: end */
void opendfs_closedir(struct opendfs_dir *dir);

/* --- files
 * ------------------------------------------------------------------------------------------------
 */

#define OPENDFS_READ 1
#define OPENDFS_WRITE 2
#define OPENDFS_CREATE 4
#define OPENDFS_EXCLUSIVE 8 /* with CREATE: -EEXIST when there is one */
#define OPENDFS_TRUNCATE 16
#define OPENDFS_NOFOLLOW 32
#define OPENDFS_SYNC 64 /* close and every write return only when data is stable on all copies */
/* Each write goes to the end of the file, wherever that is then, and its offset is not looked at.
 * Writes of several clients never overlap, and none of them tears another one apart. */
#define OPENDFS_APPEND 128
/* With READ: to be executed. The right to do that is asked for in place of that to read. */
#define OPENDFS_EXECUTE 256

int opendfs_open(struct opendfs *fs, const char *path, unsigned flags, uint32_t mode,
                 struct opendfs_file **ret);
/* Reads up to `len` bytes; short only at the end of the file. Checked against the checksums made by
 * the writer. */
int64_t opendfs_pread(struct opendfs_file *file, void *buffer, size_t len, uint64_t offset);
/* Takes all of it or fails. Data is gathered and sent in the background; errors may show at fsync
 * or close. */
int64_t opendfs_pwrite(struct opendfs_file *file, const void *buffer, size_t len, uint64_t offset);
int opendfs_fsync(struct opendfs_file *file);
int opendfs_ftruncate(struct opendfs_file *file, uint64_t size_bytes);
int opendfs_fstat(struct opendfs_file *file, struct opendfs_stat *ret);
/* Sends what is left (OPENDFS_SYNC: and makes it stable), publishes size and times, frees the
 * handle in any case. */
int opendfs_close(struct opendfs_file *file);

/* --- cluster
 * ---------------------------------------------------------------------------------------------- */

struct opendfs_space {
    uint64_t total_bytes, free_bytes; /* for file data, after copies */
    uint64_t files, free_files;
};
int opendfs_statfs(struct opendfs *fs, struct opendfs_space *ret);
/* State of the cluster as JSON; *ret is freed by opendfs_free(). */
int opendfs_status_json(struct opendfs *fs, char **ret);
void opendfs_free(void *memory);

#ifdef __cplusplus
}
#endif

#endif
