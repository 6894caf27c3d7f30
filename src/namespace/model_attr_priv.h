/*
 * namespace/model_attr_priv.h -- for model_test.c: operations on attributes and small contents.
 */
#pragma once

#include "namespace/model_entry_priv.h"

static inline void leave_group(const struct model *m, struct node *n)
{
    n->special &= m->user == 0 || in_group(m, n->gid) ? ~0U : ~02000U;
}

static inline void drop_set_ids(const struct model *m, struct node *n)
{
    n->special &= ~04000U & ((mode_of(n) & 010U) != 0 ? ~02000U : ~0U);
    leave_group(m, n);
}

/* Its contents are another user's now. */
static inline void written(struct model *m, struct node *n)
{
    if (m->user != 0) {
        drop_set_ids(m, n);
    }
    n->xattr[XATTRS - 1] = n->type == PROTO_INODE_FILE ? 0 : n->xattr[XATTRS - 1];
}

static inline bool check_change(struct model *m, const struct node *n)
{
    (void)fails(m, n->gone, -ENOENT);
    return fails(m, is_fixed(n), -EPERM);
}

static inline void step_chmod(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    uint32_t mode = any_mode(m);
    (void)check_change(m, n);
    (void)fails(m, !is_owner(m, n), -EPERM);
    (void)fails(m, n->type == PROTO_INODE_SYMLINK, -EOPNOTSUPP);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_MODE, .mode = mode);
    if (settle(m, kind, rc)) {
        n->special = mode & 07000U;
        list_chmod(&n->access, mode);
        leave_group(m, n);
        touch(m, n);
    }
}

static inline void step_chown(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    uint32_t to = user_uid[rand_below(&m->rand, USERS)];
    uint32_t gid = group_gid[rand_below(&m->rand, GROUPS)];
    bool change_uid = rand_chance(&m->rand, 1, 2);
    (void)check_change(m, n);
    (void)fails(m, !is_owner(m, n), -EPERM);
    (void)fails(m, m->user != 0 && change_uid && to != n->uid, -EPERM);
    (void)fails(m, m->user != 0 && gid != n->gid && !in_group(m, gid), -EPERM);
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .uid = to, .gid = gid,
                    .mask = PROTO_SET_GID | (change_uid ? PROTO_SET_UID : 0));
    if (settle(m, kind, rc)) {
        if (!is_dir(n)) {
            drop_set_ids(m, n);
            n->xattr[XATTRS - 1] = n->type == PROTO_INODE_FILE ? 0 : n->xattr[XATTRS - 1];
        }
        n->uid = change_uid ? to : n->uid;
        n->gid = gid;
        touch(m, n);
    }
}

static inline void step_truncate(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    uint64_t size = rand_below(&m->rand, 10000);
    bool only_bits = rand_chance(&m->rand, 1, 4);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, !only_bits && is_dir(n), -EISDIR);
    (void)fails(m, !only_bits && n->type > PROTO_INODE_DIRECTORY, -EINVAL);
    if (m->expect == 0 && check_change(m, n)) {
        (void)check_rights(m, n, 2);
    }
    int rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .size = size,
                    .mask = only_bits ? PROTO_SET_KILL_PRIV : PROTO_SET_SIZE);
    if (settle(m, kind, rc)) {
        touch(m, n);
        n->mtime_ns = only_bits ? n->mtime_ns : m->rig.time_ns;
        n->size = only_bits ? n->size : size;
        if (only_bits) { /* also by root */
            drop_set_ids(m, n);
        }
        written(m, n);
    }
}

/* Small contents, by a writer that lets go at once. */
static inline void step_write(struct model *m, unsigned kind)
{
    struct node *n = &m->node[any_node(m)];
    bool append = rand_chance(&m->rand, 1, 2);
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, is_dir(n), -EISDIR);
    (void)fails(m, n->type != PROTO_INODE_FILE, -EINVAL);
    (void)check_rights(m, n, 2);
    (void)fails(m, (n->flags & PROTO_INODE_APPEND) != 0 && !append, -EPERM);
    (void)fails(m, n->nlink == 0 && !n->kept[m->session], -ESTALE);
    if (!settle(m, kind, RIG_OP(&m->rig, wopen, .ino = n->ino, .append = append))) {
        return;
    }
    CHECK_EQ(m->rig.reply.result.mode, PROTO_OPEN_W);
    CHECK_OK(RIG_OP(&m->rig, commit, .ino = n->ino, .data = rig_text("some bytes"),
                    .cap_epoch = m->rig.reply.result.cap_epoch,
                    .flags = PROTO_COMMIT_HAS_DATA | PROTO_COMMIT_RELEASE));
    n->size = 10;
    touch_dir(m, n);
    written(m, n);
}

static inline void step_times(struct model *m, unsigned kind)
{
    static const int64_t moments[] = {0, -1, -999999999, INT64_MIN, INT64_MAX, 1700000000123456789};
    static const uint32_t ways[] = {PROTO_SET_ATIME | PROTO_SET_MTIME,
                                    PROTO_SET_ATIME,
                                    PROTO_SET_MTIME,
                                    PROTO_SET_ATIME_NOW,
                                    PROTO_SET_ATIME | PROTO_SET_MTIME_NOW,
                                    PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW,
                                    PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW,
                                    0};
    struct node *n = &m->node[any_node(m)];
    uint32_t mask = ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    bool now = mask == (PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW);
    int64_t atime = moments[rand_below(&m->rand, ARRAY_COUNT(moments))];
    int64_t mtime = moments[rand_below(&m->rand, ARRAY_COUNT(moments))];
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, mask != 0 && (n->flags & PROTO_INODE_IMMUTABLE) != 0, -EPERM);
    (void)fails(m, mask != 0 && !now && is_fixed(n), -EPERM);
    (void)fails(m, mask != 0 && !now && !is_owner(m, n), -EPERM);
    if (m->expect == 0 && now && !is_owner(m, n)) {
        (void)check_rights(m, n, 2);
    }
    int rc =
        RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = mask, .atime_ns = atime, .mtime_ns = mtime);
    if (settle(m, kind, rc) && mask != 0) {
        touch(m, n);
        n->atime_ns = (mask & PROTO_SET_ATIME) != 0 ? atime : n->atime_ns;
        n->mtime_ns = (mask & PROTO_SET_MTIME) != 0 ? mtime : n->mtime_ns;
        n->atime_ns = (mask & PROTO_SET_ATIME_NOW) != 0 ? m->rig.time_ns : n->atime_ns;
        n->mtime_ns = (mask & PROTO_SET_MTIME_NOW) != 0 ? m->rig.time_ns : n->mtime_ns;
    }
}

static inline void step_flags(struct model *m, unsigned kind)
{
    static const uint32_t ways[] = {0, 0, 0, PROTO_INODE_APPEND, PROTO_INODE_IMMUTABLE};
    size_t i = any_node(m);
    struct node *n = &m->node[i];
    uint32_t flags = i == 0 ? 0 : ways[rand_below(&m->rand, ARRAY_COUNT(ways))];
    (void)fails(m, n->gone, -ENOENT);
    (void)fails(m, m->user != 0, -EPERM);
    int rc =
        RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_FLAGS, .flags = flags | 255U);
    if (rc == 0) { /* the other flags are not for clients to set */
        rc = RIG_OP(&m->rig, setattr, .ino = n->ino, .mask = PROTO_SET_FLAGS, .flags = flags);
        n->change++;
    }
    if (settle(m, kind, rc)) {
        n->flags = flags;
        touch(m, n);
    }
}
