/*
 * namespace/model_priv.h -- for model_test.c: a file system in plain arrays. What it says of rights
 * is written without a look at the state machine: each node has a whole access control list, and
 * its mode is read off that list.
 */
#pragma once

#include "base/rand.h"

#include "namespace/rig_fsck_priv.h"

#include <inttypes.h>
#include <stdio.h>

#define NODES 700u
#define NAMES 8u
#define ENTRIES 2000u
#define USERS 4u
#define GROUPS 4u
#define XATTRS 5u
#define NO_ENTRY 8u /* instead of rights: there is no such entry */

static const uint32_t user_uid[USERS] = {0, 1000, 1001, 1002};
static const uint32_t user_gid[USERS] = {0, 100, 101, 102};
static const uint32_t user_group[USERS] = {0, 7, 8, 7};
static const uint32_t group_gid[GROUPS] = {7, 8, 100, 102}; /* that lists name */
static const char *const xattr_name[XATTRS] = {"user.a", "user.b", "trusted.a", "security.a",
                                               "security.capability"};

/* Rights by who has them. Of a name that is not in it: NO_ENTRY. */
struct list_of {
    bool used; /* of default lists: there is one */
    uint8_t owner, group, mask, other, user[USERS], named_group[GROUPS];
};
struct node {
    uint64_t ino;
    uint8_t type;
    bool gone;
    uint32_t special, uid, gid, nlink, entries, flags, generation;
    struct list_of access, inherit;
    uint64_t size, change, touched; /* touched: in which step last */
    int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
    size_t parent;         /* of directories */
    bool kept[2];          /* by which session */
    uint8_t xattr[XATTRS]; /* length of the value and 1; 0: there is none */
    uint32_t retention_s;  /* of directories, as set */
    bool trash;
    int64_t expiry_ns;
};
struct entry {
    bool used;
    size_t parent, name, node;
};
struct model {
    struct rig rig;
    struct rand rand;
    struct node node[NODES];
    size_t node_count;
    struct entry entry[ENTRIES];
    struct proto_op op[2]; /* sessions */
    uint32_t cred[2][USERS];
    unsigned expired;
    size_t session, user; /* of the present operation */
    uint64_t step;
    int expect;                    /* the first error that was found; 0 */
    unsigned done[40], failed[40]; /* by kind of operation */
};

static inline struct proto_bytes name_of(size_t i)
{
    static const char *const names[NAMES] = {"a", "b", "b!", "c", "cc", "\xc3\xa4", "z", "Z"};
    return proto_bytes_text(names[i]);
}

/* The first that is true is the answer: the order of errors counts. True: go on. */
static inline bool fails(struct model *m, bool when, int error)
{
    if (m->expect == 0 && when) {
        m->expect = error;
    }
    return m->expect == 0;
}

static inline bool is_dir(const struct node *n)
{
    return n->type == PROTO_INODE_DIRECTORY;
}

static inline bool in_group(const struct model *m, uint32_t gid)
{
    return user_gid[m->user] == gid || (m->user != 0 && user_group[m->user] == gid);
}

static inline bool is_owner(const struct model *m, const struct node *n)
{
    return m->user == 0 || user_uid[m->user] == n->uid;
}

static inline bool has_mask(const struct list_of *l)
{
    return l->mask != NO_ENTRY;
}

static inline uint32_t list_mode(const struct list_of *l)
{
    return (uint32_t)l->owner << 6 | (uint32_t)(has_mask(l) ? l->mask : l->group) << 3 | l->other;
}

static inline uint32_t mode_of(const struct node *n)
{
    return n->special | list_mode(&n->access);
}

static inline void list_chmod(struct list_of *l, uint32_t mode)
{
    l->owner = (mode >> 6) & 7U;
    *(has_mask(l) ? &l->mask : &l->group) = (mode >> 3) & 7U;
    l->other = mode & 7U;
}

static inline struct list_of list_minimal(uint32_t mode)
{
    struct list_of l = {.mask = NO_ENTRY};
    memset(l.user, NO_ENTRY, sizeof l.user);
    memset(l.named_group, NO_ENTRY, sizeof l.named_group);
    list_chmod(&l, mode);
    return l;
}

/* POSIX 1003.1e, 23.1.5: which entries count for this user; the rights are those of any of them. */
static inline bool may(const struct model *m, const struct node *n, uint32_t want)
{
    const struct list_of *l = &n->access;
    uint32_t mask = has_mask(l) ? l->mask : 7;
    if (m->user == 0) {
        return (want & 1U) == 0 || is_dir(n) || (mode_of(n) & 0111U) != 0;
    }
    if (user_uid[m->user] == n->uid) {
        return (l->owner & want) == want;
    }
    if (l->user[m->user] != NO_ENTRY) {
        return (l->user[m->user] & mask & want) == want;
    }
    bool any = in_group(m, n->gid), all = any && (l->group & mask & want) == want;
    for (size_t i = 0; i < GROUPS; i++) {
        if (l->named_group[i] != NO_ENTRY && in_group(m, group_gid[i])) {
            any = true;
            all = all || (l->named_group[i] & mask & want) == want;
        }
    }
    return any ? all : (l->other & want) == want;
}

/* The errors of a check of rights. */
static inline bool check_rights(struct model *m, const struct node *n, uint32_t want)
{
    (void)fails(m, (want & 2U) != 0 && (n->flags & PROTO_INODE_IMMUTABLE) != 0, -EPERM);
    return fails(m, !may(m, n, want), -EACCES);
}

static inline bool is_fixed(const struct node *n)
{
    return (n->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND)) != 0;
}

/* Changed by this operation. */
static inline void touch(struct model *m, struct node *n)
{
    n->change += n->touched != m->step ? 1 : 0;
    n->touched = m->step;
    n->ctime_ns = m->rig.time_ns;
}

static inline void touch_dir(struct model *m, struct node *n)
{
    touch(m, n);
    n->mtime_ns = m->rig.time_ns;
}
