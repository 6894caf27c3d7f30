/*
 * mount/call_priv.h -- what the kernel asks, between the transport, which decodes and answers, and
 * those who execute it. A call belongs to the transport; it gets exactly one of its answers.
 */
#pragma once

#include "base/env.h"
#include "base/list.h"
#include "loop/executor.h"
#include "mount/mount.h"
#include "opendfs/lock.h"
#include "opendfs/sparse.h"

#include <errno.h>
#include <sys/uio.h>

#define MOUNT_ROOT UINT64_C(1) /* the kernel's number, and that of the root of every cluster */
#define MOUNT_NAME_MAX 255u
#define MOUNT_LINK_MAX 4095u
#define MOUNT_LOOKED 32u
#define MOUNT_PIECES 8u /* of one read */
#define MOUNT_IO_BYTES (UINT32_C(1) << 20)

#define MOUNT_OWN_FIRST (UINT64_MAX - 15) /* numbers behind those of all inodes: own.c */

struct mount_call;
struct mount_handle;

/* All on the loop. `rc`: 0, or a negative errno. */
struct mount_answers {
    void (*done)(struct mount_call *c, int rc);
    void (*entry)(struct mount_call *c, const struct opendfs_stat *st); /* ino 0: no such name */
    void (*attr)(struct mount_call *c, const struct opendfs_stat *st);
    void (*text)(struct mount_call *c, const char *text, size_t len);
    void (*opened)(struct mount_call *c, struct mount_handle *h);
    void (*created)(struct mount_call *c, const struct opendfs_stat *st, struct mount_handle *h);
    void (*count)(struct mount_call *c, size_t n); /* bytes written; length of an attribute */
    void (*copied)(struct mount_call *c, size_t n);
    void (*place)(struct mount_call *c, uint64_t offset);
    void (*data)(struct mount_call *c, const struct iovec *iov, int count);
    void (*space)(struct mount_call *c, const struct opendfs_space *s);
    void (*lock)(struct mount_call *c, const struct opendfs_lock *l); /* NONE: nothing in the way */
};
/* The kernel's pages of a file are to go. */
struct mount_forget {
    void (*done)(struct mount_forget *f);
    /* the transport's */
    struct loop_executor_job job;
    struct mount_fuse *fuse;
    uint64_t ino;
};
struct mount_call {
    struct mount *mount;
    const struct mount_answers *answers;
    struct list node;  /* of mount.calls */
    uint64_t ino;      /* of whom it is about */
    uint32_t uid, gid; /* who asks */
    uint32_t umask;
    int64_t pid; /* 0: the kernel itself */
    struct mount_handle *handle;
    struct opendfs_op op;
    /* of single calls */
    char name[MOUNT_NAME_MAX + 1], to[MOUNT_NAME_MAX + 1];
    char *text;  /* owned: target of a link, value of an attribute */
    size_t size; /* room that the asker has */
    uint64_t offset;
    uint32_t flags;
    struct opendfs_stat values;
    struct opendfs_xattr xattr;
    struct opendfs_copy copy;
    struct mount_pieces *pieces;
    struct opendfs_lock lock;
    struct mount_forget forget;
    int error;
    bool waits; /* for a lock: may be interrupted */
    bool plus;  /* entries with attributes */
};
struct mount {
    struct env env;
    struct opendfs *fs;
    uint64_t root;
    struct list calls;                        /* under way */
    struct list dirs;                         /* open: mount_handle.node */
    struct opendfs_stat looked[MOUNT_LOOKED]; /* directories that were looked up last; a ring */
    unsigned looked_next;
    size_t call_count;
    uint64_t answered;
    struct mount_people *people;
    struct mount_fuse *fuse;
    void (*ended)(void *context, int rc);
    void *ended_context;
    void (*stopped)(void *context);
    void *stopped_context;
    struct loop_task stop_task;
    bool stopping;
};
/* An open file or directory. */
struct mount_handle {
    struct list node;          /* of mount.dirs */
    struct opendfs_stat known; /* of a directory, when it was looked at last; ino 0: never */
    struct opendfs_file *file; /* NULL: a directory */
    uint64_t ino;
    unsigned flags; /* OPENDFS_... */
    struct mount_listing *listing;
    char *own; /* owned: contents of a file of the mount itself */
    size_t own_len;
};

/* mount.c: a call begins; it is answered by mount_call_... below, once. */
void mount_call_begin(struct mount *m, struct mount_call *c);
void mount_call_end(struct mount_call *c); /* the transport, when it has answered */
/* The operation of a call: zeroed, on behalf of who asks. False: it was answered (no memory). */
bool mount_op(struct mount_call *c, void (*done)(struct opendfs_op *op));
static inline struct mount_call *mount_call_of(struct opendfs_op *op)
{
    return op->context;
}
uint64_t mount_ino(const struct mount *m, uint64_t node); /* of the kernel's: its root is ours */
uint64_t mount_node(const struct mount *m, uint64_t ino);

/* Of what the kernel has found before: is it gone, then it may look again, for something else may
 * have its name now. */
static inline int mount_gone(int64_t rc)
{
    return rc == -ENOENT ? -ESTALE : (int)rc;
}

/* names.c */
void mount_lookup(struct mount_call *c);
void mount_getattr(struct mount_call *c);
void mount_setattr(struct mount_call *c, unsigned mask);
void mount_readlink(struct mount_call *c);
void mount_make(struct mount_call *c); /* values.type, mode, rdev; `text` of a symbolic link */
void mount_remove(struct mount_call *c, bool directory);
void mount_rename(struct mount_call *c, uint64_t to_dir);
void mount_link(struct mount_call *c, uint64_t dir);
void mount_statfs(struct mount_call *c);
void mount_getxattr(struct mount_call *c);
void mount_listxattr(struct mount_call *c);
void mount_setxattr(struct mount_call *c);
void mount_removexattr(struct mount_call *c);
void mount_access(struct mount_call *c, unsigned rights); /* OPENDFS_READ, ... */
/* files.c */
void mount_open(struct mount_call *c);
void mount_create(struct mount_call *c);
void mount_read(struct mount_call *c);
void mount_write(struct mount_call *c, const void *from); /* `from` stays until the answer */
void mount_flush(struct mount_call *c);
void mount_fsync(struct mount_call *c);
void mount_release(struct mount_call *c);
struct mount_handle *mount_handle_new(void); /* NULL: no memory */
void mount_handle_free(struct mount_handle *h);
void mount_pieces_free(struct mount_call *c); /* what a read has lent */
/* holes.c */
void mount_lseek(struct mount_call *c, int whence); /* from c->offset on */
void mount_fallocate(struct mount_call *c, int mode, uint64_t len);
/* From the handle at c->offset; at most c->size bytes. */
void mount_copy(struct mount_call *c, struct mount_handle *to, uint64_t to_offset);
/* locks.c: c->lock says which. */
void mount_lock(struct mount_call *c, bool wait);
void mount_lock_test(struct mount_call *c);
void mount_lock_flush(struct mount_call *c, int rc); /* a process closes it: then `rc` */
/* dirs.c */
void mount_opendir(struct mount_call *c);
void mount_readdir(struct mount_call *c);
void mount_releasedir(struct mount_call *c);
/* A directory was looked at; and one that is open, has been removed, and is looked at: true: `ret`
 * is what it was. */
void mount_dir_looked(struct mount *m, const struct opendfs_stat *st);
bool mount_dir_removed(struct mount *m, uint64_t ino, struct opendfs_stat *ret);
/* own.c: files of the mount itself. */
bool mount_is_own(const struct mount_call *c);
bool mount_is_own_name(const struct mount *m, uint64_t dir, const char *name);
void mount_own_lookup(struct mount_call *c);
void mount_own_getattr(struct mount_call *c);
void mount_own_access(struct mount_call *c, unsigned rights);
void mount_own_open(struct mount_call *c);
void mount_own_read(struct mount_call *c);
void mount_own_release(struct mount_call *c);
void mount_own_opendir(struct mount_call *c);
void mount_own_readdir(struct mount_call *c);
/* people.c: supplementary groups of who asks, as the kernel knows them. */
NODISCARD int mount_people_new(struct mount *m, struct mount_people **ret);
struct mount_people *mount_people_free(struct mount_people *p);
NODISCARD int mount_people_find(struct mount_call *c, struct opendfs_identity **ret);
/* Has who asks CAP_SYS_ADMIN? */
bool mount_people_administrates(const struct mount_call *c);
/* fuse.c */
NODISCARD int mount_fuse_new(struct mount *m, const struct mount_options *opt,
                             struct mount_fuse **ret, struct err *e);
struct mount_fuse *mount_fuse_free(struct mount_fuse *f);
void mount_fuse_forget(struct mount_fuse *f, uint64_t ino, struct mount_forget *forget);
void mount_fuse_quiet(struct mount_fuse *f); /* reads no more requests */
/* Supplementary groups of who asks; none when they cannot be known (any more). */
size_t mount_fuse_groups(struct mount_call *c, uint32_t *groups, size_t max);
/* Entries of a directory in the kernel's form: bytes, 0: no room. */
size_t mount_fuse_dirent(struct mount_call *c, char *to, size_t room, const char *name,
                         const struct opendfs_stat *st, uint64_t next);
