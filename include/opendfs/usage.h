/*
 * opendfs/usage.h -- how much is where, and how much may be: sums and limits of directories, space,
 * storage classes. Results as in opendfs/opendfs.h; asynchronous forms at the end, as in async.h.
 */
#ifndef OPENDFS_USAGE_H
#define OPENDFS_USAGE_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Limits of what lies below a directory, at any depth. 0: none. */
struct opendfs_quota {
    uint64_t bytes_soft, bytes_hard;        /* sizes of files, not what they take on disks */
    uint64_t files_soft, files_hard;        /* files and directories */
    uint64_t grace_s;                       /* so long a soft limit may be exceeded; 0: 7 days */
    int64_t bytes_grace_ns, files_grace_ns; /* soft limit exceeded: nothing grows from that time on
                                               (since 1970); 0: it is not. Not set */
};
/* What lies below a directory, at any depth, exact at this moment. One round trip, however much it
 * is. A file with several names counts at one of them; what is unlinked and still open does not. */
struct opendfs_dir_stats {
    uint64_t files;       /* all that is no directory */
    uint64_t directories; /* without itself */
    uint64_t bytes;       /* sizes of files, lengths of symbolic links */
    int64_t newest_ns;    /* when it, or anything below, was changed last */
    uint32_t class_id;    /* storage class of new files in it; 0: the default */
    int has_quota;
    struct opendfs_quota quota; /* of this directory itself */
};
/* Needs the right to read the directory. */
int opendfs_dir_stats(struct opendfs *fs, const char *path, struct opendfs_dir_stats *ret);
#define OPENDFS_QUOTA_BYTES 1
#define OPENDFS_QUOTA_FILES 2
#define OPENDFS_QUOTA_GRACE 4
#define OPENDFS_QUOTA_CLEAR 8 /* all limits first */
/* Sets the limits that `mask` names; for uid 0. They bind everybody. What would grow beyond a hard
 * limit, or beyond a soft one after its time, fails with -EDQUOT; opendfs_last_error() names the
 * directory and the limit. What has been written is not refused later. */
int opendfs_set_quota(struct opendfs *fs, const char *path, const struct opendfs_quota *values,
                      unsigned mask);

/* What there is for `path`: less, if a quota of its directory, or of one above, allows less. */
int opendfs_statfs_at(struct opendfs *fs, const char *path, struct opendfs_space *ret);

/* Storage classes: where and how often data of new files is kept. */
struct opendfs_class {
    uint32_t id; /* chosen by the cluster */
    uint32_t copies;
    uint32_t failure_domain; /* copies are on different 1: targets, 2: hosts, 3: racks; 0: chosen */
    uint32_t chunk_bytes;    /* a power of two, at least 4,096 */
    uint32_t inline_bytes;   /* larger files are not kept in the metadata; 0: 4,096 */
    int is_default;          /* of directories that name none */
    char name[65];
    char labels[256]; /* words: targets must have all of them */
};
/* All of them, in order of their numbers: returns how many. *ret is freed by opendfs_free(). */
int opendfs_classes(struct opendfs *fs, struct opendfs_class **ret);
/* A new one, over the targets that suit it; for uid 0. `id` and `is_default` are not looked at.
 * Returns its number. -EEXIST: the name is taken; -EINVAL; -ENOSPC: not enough targets suit. */
int opendfs_create_class(struct opendfs *fs, const struct opendfs_class *values);
/* New files and directories in that directory get the class; what is there keeps its own, as does
 * a directory that is moved. 0: the default. Of a file only while it has no data in chunks:
 * -EBUSY. -EINVAL: no such class. The class of a directory: opendfs_dir_stats(). */
int opendfs_set_class(struct opendfs *fs, const char *path, uint32_t class_id);
/* --- asynchronous
 * ---------------------------------------------------------------------------------------- */

void opendfs_async_statfs_at(struct opendfs *fs, struct opendfs_op *op, const char *path);
/* `ret` is written before `done`, on success only. */
void opendfs_async_dir_stats(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             struct opendfs_dir_stats *ret);
void opendfs_async_set_quota(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const struct opendfs_quota *values, unsigned mask);
/* `data` is an array of `result` struct opendfs_class, until opendfs_async_release(). */
void opendfs_async_classes(struct opendfs *fs, struct opendfs_op *op);
/* `result`: the number of the new one. */
void opendfs_async_create_class(struct opendfs *fs, struct opendfs_op *op,
                                const struct opendfs_class *values);
void opendfs_async_set_class(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             uint32_t class_id);

#ifdef __cplusplus
}
#endif

#endif
