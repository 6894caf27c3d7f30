#include "namespace/plan_priv.h"

/*
 * Extended attributes: one record each, and one of each inode that counts them. Who may do what is
 * as in Linux. Access control lists are set through here, and stored by acl.c.
 */

#define NAMESPACE_STICKY 01000u
#define NAMESPACE_CAPS "security.capability"

static int namespace_xattr_check(struct namespace_plan *p, const struct namespace_held *h,
                                 enum namespace_xattr_space space)
{
    const struct namespace_inode *n = &h->inode;
    if ((n->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND)) != 0) {
        return -EPERM;
    }
    if (space != NAMESPACE_XATTR_USER) {
        return p->cred.uid == 0 ? 0 : -EPERM;
    }
    bool dir = namespace_inode_is_dir(n), owner = p->cred.uid == 0 || p->cred.uid == n->uid;
    if (!dir && n->type != PROTO_INODE_FILE) {
        return -EPERM;
    }
    if (dir && (n->mode & NAMESPACE_STICKY) != 0 && !owner) {
        return -EPERM;
    }
    return namespace_plan_may(p, h, NAMESPACE_MAY_WRITE);
}

/* What is there: the value (1; 0: none) and the counters of the inode. */
static int namespace_xattr_find(struct namespace_plan *p, const struct namespace_held *h,
                                struct proto_bytes name, struct namespace_xattrs *ret_count,
                                size_t *ret_len)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, h->ino, name);
    struct namespace_key count = namespace_key_u64(NAMESPACE_XATTR, h->ino);
    struct kv_slice old = {0};
    *ret_count = (struct namespace_xattrs){0};
    *ret_len = 0;
    if ((h->inode.flags & PROTO_INODE_HAS_XATTR) == 0) {
        return 0;
    }
    int found = namespace_view_get_bytes(&p->view, &key, &old);
    int counted = NAMESPACE_GET(&p->view, &count, namespace_xattrs, ret_count);
    int rc = namespace_view_both(found, counted);
    if (rc < 0 || counted == 0) {
        return rc < 0 ? rc : -EUCLEAN; /* the flag says that some are there */
    }
    *ret_len = found == 1 ? old.len : 0;
    return found;
}

static int namespace_xattr_put(struct namespace_plan *p, struct namespace_held *h,
                               const struct proto_setxattr_request *r,
                               const struct namespace_xattrs *count)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, h->ino, r->name);
    struct namespace_key counters = namespace_key_u64(NAMESPACE_XATTR, h->ino);
    namespace_plan_touch_ctime(p, h);
    h->inode.flags |= PROTO_INODE_HAS_XATTR;
    p->reply->result.ino = h->ino;
    int rc = NAMESPACE_PUT(p, &counters, namespace_xattrs, count);
    return rc < 0 ? rc
                  : kv_batch_put(p->batch, namespace_key_slice(&key),
                                 kv_slice_of(r->value.at, r->value.len));
}

static int namespace_xattr_set(struct namespace_plan *p, struct namespace_held *h,
                               const struct proto_setxattr_request *r,
                               enum namespace_xattr_space space)
{
    struct namespace_xattrs count;
    size_t old = 0;
    int rc = namespace_xattr_check(p, h, space);
    int found = rc < 0 ? rc : namespace_xattr_find(p, h, r->name, &count, &old);
    if (found < 0) {
        return found;
    }
    if ((r->flags & PROTO_XATTR_CREATE) != 0 && found == 1) {
        return -EEXIST;
    }
    if ((r->flags & PROTO_XATTR_REPLACE) != 0 && found == 0) {
        return -ENODATA;
    }
    if (found == 0) {
        count.names += (uint32_t)r->name.len + 1;
        count.bytes += r->name.len;
    }
    count.bytes += r->value.len;
    count.bytes -= old;
    if (count.names > NAMESPACE_XATTR_NAMES_MAX || count.bytes > NAMESPACE_XATTR_BYTES_MAX) {
        return -ENOSPC;
    }
    return namespace_xattr_put(p, h, r, &count);
}

int namespace_setxattr(struct namespace_plan *p, const struct proto_setxattr_request *r)
{
    struct namespace_held *h;
    int space = namespace_xattr_space(r->name);
    int rc = namespace_plan_inode(p, r->ino, &h);
    if (rc < 0 || space < 0) {
        return rc < 0 ? rc : space;
    }
    if ((r->flags & ~(PROTO_XATTR_CREATE | PROTO_XATTR_REPLACE)) != 0) {
        return -EINVAL;
    }
    switch (space) {
    case NAMESPACE_XATTR_ACL_ACCESS: /* the flags do not count, as in Linux */
        return namespace_acl_set(p, h, NAMESPACE_ACL_ACCESS, r->value);
    case NAMESPACE_XATTR_ACL_DEFAULT:
        return namespace_acl_set(p, h, NAMESPACE_ACL_DEFAULT, r->value);
    default:
        return namespace_xattr_set(p, h, r, (enum namespace_xattr_space)space);
    }
}

/* -ENODATA: there is none. */
static int namespace_xattr_drop(struct namespace_plan *p, struct namespace_held *h,
                                struct proto_bytes name)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, h->ino, name);
    struct namespace_key counters = namespace_key_u64(NAMESPACE_XATTR, h->ino);
    struct namespace_xattrs count;
    size_t len = 0;
    int found = namespace_xattr_find(p, h, name, &count, &len);
    if (found <= 0) {
        return found < 0 ? found : -ENODATA;
    }
    if (count.names < name.len + 1 || count.bytes < name.len + len) {
        return -EUCLEAN;
    }
    count.names -= (uint32_t)name.len + 1;
    count.bytes -= name.len + len;
    namespace_plan_touch_ctime(p, h);
    int rc = namespace_plan_delete(p, &key);
    if (rc == 0 && count.names == 0) {
        h->inode.flags &= ~PROTO_INODE_HAS_XATTR;
        return namespace_plan_delete(p, &counters);
    }
    return rc < 0 ? rc : NAMESPACE_PUT(p, &counters, namespace_xattrs, &count);
}

int namespace_removexattr(struct namespace_plan *p, const struct proto_removexattr_request *r)
{
    struct namespace_held *h;
    int space = namespace_xattr_space(r->name);
    int rc = namespace_plan_inode(p, r->ino, &h);
    if (rc < 0 || space < 0) {
        return rc < 0 ? rc : space;
    }
    p->reply->result.ino = h->ino;
    switch (space) {
    case NAMESPACE_XATTR_ACL_ACCESS:
        return namespace_acl_set(p, h, NAMESPACE_ACL_ACCESS, proto_bytes_of(NULL, 0));
    case NAMESPACE_XATTR_ACL_DEFAULT:
        return namespace_acl_set(p, h, NAMESPACE_ACL_DEFAULT, proto_bytes_of(NULL, 0));
    default:
        rc = namespace_xattr_check(p, h, (enum namespace_xattr_space)space);
        return rc < 0 ? rc : namespace_xattr_drop(p, h, r->name);
    }
}

int namespace_xattr_drop_caps(struct namespace_plan *p, struct namespace_held *h)
{
    if ((h->inode.flags & PROTO_INODE_HAS_XATTR) == 0 || h->inode.type != PROTO_INODE_FILE) {
        return 0;
    }
    int rc = namespace_xattr_drop(p, h, proto_bytes_text(NAMESPACE_CAPS));
    return rc == -ENODATA ? 0 : rc;
}

int namespace_xattr_remove_all(struct namespace_plan *p, const struct namespace_held *h)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_XATTR, h->ino);
    bool some = (h->inode.flags & PROTO_INODE_HAS_XATTR) != 0;
    return some ? namespace_plan_delete_prefix(p, &key) : 0;
}
