/*
 * namespace/model_compare_priv.h -- for model_test.c: is all that the state machine shows what the
 * model has?
 */
#pragma once

#include "namespace/model_acl_priv.h"

static inline void compare_attr(const struct proto_attr *a, const struct node *n)
{
    uint32_t lists = (has_mask(&n->access) ? PROTO_INODE_HAS_ACL : 0) |
                     (n->inherit.used ? PROTO_INODE_HAS_DEFAULT_ACL : 0);
    CHECK_EQ(a->type, n->type);
    CHECK_EQ(a->mode, mode_of(n));
    CHECK_EQ(a->uid, n->uid);
    CHECK_EQ(a->gid, n->gid);
    CHECK_EQ(a->nlink, n->nlink);
    CHECK_EQ(a->size, n->size);
    CHECK_EQ(a->change, n->change);
    CHECK_EQ(a->atime_ns, n->atime_ns);
    CHECK_EQ(a->mtime_ns, n->mtime_ns);
    CHECK_EQ(a->ctime_ns, n->ctime_ns);
    CHECK_EQ(a->btime_ns, n->btime_ns);
    CHECK_EQ(a->generation, n->generation);
    CHECK_EQ(a->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND), n->flags);
    CHECK_EQ(a->flags & (PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL), lists);
}

static inline void compare_list(struct model *m, const struct node *n, bool inherited)
{
    struct proto_getxattr_reply reply;
    uint8_t bytes[PROTO_ACL_VALUE_MAX];
    size_t len = 0;
    const struct list_of *l = inherited ? &n->inherit : &n->access;
    bool there = inherited ? l->used : has_mask(l);
    int rc = RIG_QUERY(&m->rig, getxattr, &reply, .ino = n->ino,
                       .name = rig_text(inherited ? PROTO_ACL_DEFAULT : PROTO_ACL_ACCESS));
    if (n->type == PROTO_INODE_SYMLINK) {
        CHECK_RC(rc, EOPNOTSUPP);
        return;
    }
    CHECK_EQ(rc, there ? 0 : -ENODATA);
    if (there) {
        (void)list_value(l, bytes, &len);
        CHECK_EQ(reply.value.len, len);
        CHECK_BYTES(reply.value.at, bytes, len);
    }
}

static inline void compare_xattrs(struct model *m, const struct node *n)
{
    struct proto_listxattr_reply reply;
    size_t len = 0;
    CHECK_OK(RIG_QUERY(&m->rig, listxattr, &reply, .ino = n->ino));
    len += has_mask(&n->access) ? sizeof PROTO_ACL_ACCESS : 0;
    len += n->inherit.used ? sizeof PROTO_ACL_DEFAULT : 0;
    for (size_t i = 0; i < XATTRS; i++) {
        len += n->xattr[i] != 0 ? strlen(xattr_name[i]) + 1 : 0;
    }
    CHECK_EQ(reply.names.len, len);
}

static inline void compare_node(struct model *m, const struct node *n)
{
    struct proto_getattr_reply reply;
    int rc = RIG_QUERY(&m->rig, getattr, &reply, .ino = n->ino);
    CHECK_EQ(rc, n->gone ? -ENOENT : 0);
    if (rc == 0) {
        compare_attr(&reply.attr, n);
        compare_list(m, n, false);
        compare_list(m, n, true);
        compare_xattrs(m, n);
    }
}

static inline void compare_name(struct model *m, size_t dir, size_t name)
{
    struct proto_lookup_reply reply;
    const struct entry *e = find_entry(m, dir, name);
    CHECK_OK(RIG_QUERY(&m->rig, lookup, &reply, .parent = m->node[dir].ino, .name = name_of(name)));
    CHECK_EQ(reply.attr.ino, e == NULL ? 0 : m->node[e->node].ino);
}

static inline void compare(struct model *m)
{
    m->rig.op = m->op[0];
    m->rig.op.cred = m->cred[0][0];
    trash_compare(m);
    for (size_t i = 0; i < m->node_count; i++) {
        const struct node *n = &m->node[i];
        compare_node(m, n);
        for (size_t name = 0; !n->gone && is_dir(n) && name < NAMES; name++) {
            compare_name(m, i, name);
        }
    }
    fsck(&m->rig);
}
