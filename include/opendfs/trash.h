/*
 * opendfs/trash.h -- removed files that can be had back.
 *
 * A regular file that loses its last name, by unlink or because another one is renamed over it, is
 * kept for as long as the directory, or the next one above it that says anything, tells. Its owner
 * and root can list, restore and purge it. Results and threads as in opendfs/opendfs.h; the
 * asynchronous forms as in opendfs/async.h.
 */
#ifndef OPENDFS_TRASH_H
#define OPENDFS_TRASH_H

#include "opendfs/async.h"

#ifdef __cplusplus
extern "C" {
#endif

#define OPENDFS_RETENTION_INHERIT 0u      /* as the directory above; at the root: nothing is kept */
#define OPENDFS_RETENTION_NONE UINT32_MAX /* what is removed is gone */
#define OPENDFS_TRASH_ANYBODY UINT32_MAX  /* as an owner: all of them, for root */
#define OPENDFS_TRASH_PURGE_MAX ((size_t)1024) /* of one call */

struct opendfs_retention {
    uint32_t own_s;    /* what the directory says itself, in seconds, or one of the above */
    uint32_t holds_s;  /* what holds for files removed from it; 0: they are gone */
    uint64_t from_ino; /* the directory that says so; 0: none does, so nothing is kept */
};
struct opendfs_trash_entry {
    struct opendfs_stat stat; /* nlink 0 */
    const char *name;
    const char *directory; /* its path when the file was removed; "..." before a long one's end */
    uint64_t parent_ino;   /* of the directory */
    int parent_gone;       /* it is not there any more */
    int64_t removed_ns, expiry_ns; /* since 1970 */
    uint32_t removed_by;           /* uid */
};
/* What to list, and where the last page ended: start with zero, leave the second part alone. */
struct opendfs_trash_query {
    uint32_t owner;   /* uid, or OPENDFS_TRASH_ANYBODY */
    const char *path; /* removed from that directory or below; NULL: from anywhere */
    size_t max;       /* entries of a page; 0: chosen */

    uint32_t after_owner;
    uint64_t after_ino;
};
struct opendfs_trash_page {
    const struct opendfs_trash_entry *entries;
    size_t count; /* may be 0 before the end */
    int at_end;
};

/* A page, by owner and inode number; *ret is freed by opendfs_free(). Call again with the same
 * query for the next one. */
int opendfs_trash_list(struct opendfs *fs, struct opendfs_trash_query *query,
                       struct opendfs_trash_page **ret);
/* Gives a file of the trash the name `path`, which begins at the directory `at` unless it has a
 * slash in front (0: the root). -EEXIST: there is one; -ENOENT: no such file in the trash, or no
 * such directory. */
int opendfs_trash_restore(struct opendfs *fs, uint64_t ino, uint64_t at, const char *path);
/* Removes files of the trash for good: ascending inode numbers, at most OPENDFS_TRASH_PURGE_MAX.
 * What is not in the trash (any more) is skipped. */
int opendfs_trash_purge(struct opendfs *fs, const uint64_t *inos, size_t count);
/* Of a directory, for what is removed below it from now on. */
int opendfs_trash_set_retention(struct opendfs *fs, const char *path, uint32_t seconds);
int opendfs_trash_get_retention(struct opendfs *fs, const char *path,
                                struct opendfs_retention *ret);

/* `data` is a struct opendfs_trash_page, until opendfs_async_release(); `query` is moved on. */
void opendfs_async_trash_list(struct opendfs *fs, struct opendfs_op *op,
                              struct opendfs_trash_query *query);
/* Begins at `op->at`; the new attributes are in `stat`. */
void opendfs_async_trash_restore(struct opendfs *fs, struct opendfs_op *op, uint64_t ino,
                                 const char *path);
void opendfs_async_trash_purge(struct opendfs *fs, struct opendfs_op *op, const uint64_t *inos,
                               size_t count);
void opendfs_async_trash_set_retention(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                       uint32_t seconds);
/* `ret` is written before `done`. */
void opendfs_async_trash_get_retention(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                       struct opendfs_retention *ret);

#ifdef __cplusplus
}
#endif

#endif
