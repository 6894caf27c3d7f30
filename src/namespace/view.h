/*
 * namespace/view.h -- reading records out of one state: what queries and commands begin with.
 *
 * A view belongs to one operation and one thread. Nothing here waits: -ERR_need means fetch
 * view->need and run the operation again from its start, with a reset arena. What was decoded is
 * valid until the need list is released, the snapshot freed or the arena reset.
 */
#pragma once

#include "namespace/record.h"
#include "proto/acl.h"

struct namespace_known;
struct namespace_view {
    struct kv_snapshot *snapshot;
    struct kv_need *need;
    struct mem_arena *arena;
    const struct namespace_known *known; /* the caller, if it was read before; else NULL */
};

/* 1 and the record, 0: absent. Else -ERR_need, -ENOMEM, -ENOBUFS, -ECANCELED (the snapshot was
 * given up: take a new one), class EIO. */
NODISCARD int namespace_view_get(const struct namespace_view *v, const struct namespace_key *key,
                                 const struct proto_type *type, void *ret);
NODISCARD int namespace_view_get_bytes(const struct namespace_view *v,
                                       const struct namespace_key *key, struct kv_slice *ret);
#define NAMESPACE_GET(view, key, tag, ret) \
    namespace_view_get((view), (key), &tag##_type, (1 ? (ret) : (struct tag *)NULL))

/* The records whose keys begin with a prefix, from a key on (NULL: from the first). */
struct namespace_scan {
    struct kv_iter *it; /* owned */
    const struct namespace_view *view;
    bool started;
    struct namespace_key from;
};
NODISCARD int namespace_scan_init(struct namespace_scan *s, const struct namespace_view *v,
                                  const struct namespace_key *prefix,
                                  const struct namespace_key *from);
/* For who will read about so many: what is missing of them is fetched together. */
NODISCARD int namespace_scan_init_long(struct namespace_scan *s, const struct namespace_view *v,
                                       const struct namespace_key *prefix,
                                       const struct namespace_key *from, size_t ahead);
void namespace_scan_fini(struct namespace_scan *s);
/* 1: s->it stands on the next record; 0: no more. */
NODISCARD int namespace_scan_next(struct namespace_scan *s);
/* Decodes the value that it stands on. */
NODISCARD int namespace_scan_value(const struct namespace_scan *s, const struct proto_type *type,
                                   void *ret);

/* The rc of two reads that do not depend on each other, so that one fetch brings both. -ERR_need
 * wins: which of two failures is told must not depend on what is in memory. */
int namespace_view_both(int a, int b);

/* -ENOENT when the inode does not exist. */
NODISCARD int namespace_view_inode(const struct namespace_view *v, uint64_t ino,
                                   struct namespace_inode *ret);
/* What lies below a directory. -ENOENT: there is no such directory. */
NODISCARD int namespace_view_dir_stats(const struct namespace_view *v, uint64_t ino,
                                       struct namespace_dir_stats *ret);
/* -ENOENT: it has none. */
NODISCARD int namespace_view_quota(const struct namespace_view *v, uint64_t ino,
                                   struct namespace_quota *ret);
/* Has a soft limit been exceeded, since then, for longer than the quota allows? */
bool namespace_quota_is_over(const struct namespace_quota *q, int64_t since_ns, int64_t now_ns);
/* 1: nobody new may write this file yet: a session that could write it has ended, and its fence and
 * the trim behind it are not done (coherence.md L6). */
NODISCARD int namespace_view_fenced(const struct namespace_view *v, uint64_t ino);
/* 1: any trim of the inode is pending; 0: none. */
NODISCARD int namespace_view_trimming(const struct namespace_view *v, uint64_t ino);
/* The cluster's state; -ENXIO before the first command FORMAT. */
NODISCARD int namespace_view_state(const struct namespace_view *v, struct namespace_state *ret);
/* The storage class of new files in a directory of class `class_id`; -ENOENT when there is none. */
NODISCARD int namespace_view_class(const struct namespace_view *v, uint32_t class_id,
                                   struct proto_storage_class *ret);
uint32_t namespace_class_inline_limit(const struct proto_storage_class *c);

/* How long what is removed from a directory is kept: what it says itself, or the next one above
 * that says something, or the cluster's default. With its path, for people. */
struct namespace_keeping {
    uint32_t keeps_s; /* 0: not at all */
    uint64_t from;    /* the directory that says so; 0: none does */
    size_t at;
    bool cut;
    uint8_t text[NAMESPACE_TRASH_PATH_MAX];
};
NODISCARD int namespace_view_keeping(const struct namespace_view *v, uint64_t ino,
                                     struct namespace_keeping *ret);
/* Complete when keeps_s is above 0; of a long one the end, behind "...". Lent from `k`. */
struct proto_bytes namespace_keeping_path(struct namespace_keeping *k);

/* What stat() and the data path are told. */
void namespace_inode_attr(uint64_t ino, const struct namespace_inode *i, struct proto_attr *ret);
void namespace_inode_layout(const struct namespace_inode *i, struct proto_layout *ret);
static inline bool namespace_inode_is_dir(const struct namespace_inode *i)
{
    return i->type == PROTO_INODE_DIRECTORY;
}

/*
 * rights.c. Rights by POSIX 1003.1e: owner, named users, groups, others, the named ones and groups
 * within the mask; uid 0 may all but execute what nobody may. Nobody writes to what is immutable
 * (-EPERM). A list that grants nothing denies: unlike Linux, which asks the entry of all others for
 * a named user when the mask is empty.
 */
#define NAMESPACE_MAY_READ 4u
#define NAMESPACE_MAY_WRITE 2u
#define NAMESPACE_MAY_EXEC 1u
bool namespace_cred_in_group(const struct namespace_cred *c, uint32_t gid);
NODISCARD int namespace_cred_check(const struct namespace_view *v, const struct namespace_cred *c,
                                   uint64_t ino, const struct namespace_inode *i,
                                   uint32_t may); /* 0, -EACCES, -EPERM; errors of reading */
/* -EPERM: only what appends may write to it. */
static inline int namespace_check_append(const struct namespace_inode *i, bool append)
{
    return (i->flags & PROTO_INODE_APPEND) != 0 && !append ? -EPERM : 0;
}
/* 1 and the list of an inode, with the owner, mask and others of its mode; 0: it has none. */
NODISCARD int namespace_view_acl(const struct namespace_view *v, uint64_t ino,
                                 const struct namespace_inode *i, enum namespace_acl_kind kind,
                                 struct proto_acl *ret);
struct namespace_key namespace_acl_key(uint64_t ino, enum namespace_acl_kind kind);
/* Which kind of extended attribute this is: enum namespace_xattr_space. -EOPNOTSUPP: none;
 * -EINVAL: nothing behind its prefix. */
enum namespace_xattr_space {
    NAMESPACE_XATTR_USER = 1,
    NAMESPACE_XATTR_TRUSTED,
    NAMESPACE_XATTR_SECURITY,
    NAMESPACE_XATTR_ACL_ACCESS,
    NAMESPACE_XATTR_ACL_DEFAULT,
};
int namespace_xattr_space(struct proto_bytes name);
/* The credential that a session has registered. -ERR_session_expired, -EPERM: never registered. */
NODISCARD int namespace_view_cred(const struct namespace_view *v, uint64_t session, uint32_t cred,
                                  struct namespace_cred *ret);
/* The same of a session that is known to exist. */
NODISCARD int namespace_view_cred_of(const struct namespace_view *v, uint64_t session,
                                     uint32_t cred, struct namespace_cred *ret);
/* -EINVAL: empty, "." or "..", NUL or slash inside; -ENAMETOOLONG. */
NODISCARD int namespace_name_check(struct proto_bytes name);
