#include "namespace/plan_priv.h"

/*
 * Access control lists. An access list that says no more than a mode becomes the mode and is not
 * stored. One that is stored always has a mask; its owner, mask and others are the bits of the
 * mode, which chmod changes without a look at the list.
 */

#define NAMESPACE_RIGHTS 0777u

static uint32_t namespace_acl_flag(enum namespace_acl_kind kind)
{
    return kind == NAMESPACE_ACL_ACCESS ? PROTO_INODE_HAS_ACL : PROTO_INODE_HAS_DEFAULT_ACL;
}

static int namespace_acl_put(struct namespace_plan *p, struct namespace_held *h,
                             enum namespace_acl_kind kind, const struct proto_acl *acl)
{
    struct namespace_key key = namespace_acl_key(h->ino, kind);
    struct proto_acl stored = *acl;
    if (kind == NAMESPACE_ACL_ACCESS) {
        stored.owner = 0;
        stored.mask = 0;
        stored.other = 0;
    }
    h->inode.flags |= namespace_acl_flag(kind);
    h->dirty = true;
    return NAMESPACE_PUT(p, &key, proto_acl, &stored);
}

static int namespace_acl_drop(struct namespace_plan *p, struct namespace_held *h,
                              enum namespace_acl_kind kind)
{
    struct namespace_key key = namespace_acl_key(h->ino, kind);
    if ((h->inode.flags & namespace_acl_flag(kind)) == 0) {
        return 0;
    }
    h->inode.flags &= ~namespace_acl_flag(kind);
    h->dirty = true;
    return namespace_plan_delete(p, &key);
}

/* What a mode shows of a list: the mask stands where the group's rights are. */
static uint32_t namespace_acl_mode(const struct proto_acl *acl)
{
    uint32_t middle = acl->has_mask ? acl->mask : acl->group;
    return (uint32_t)acl->owner << 6 | middle << 3 | acl->other;
}

int namespace_acl_inherit(struct namespace_plan *p, const struct namespace_held *dir,
                          struct namespace_held *h, uint32_t umask)
{
    struct proto_acl acl;
    if (h->inode.type == PROTO_INODE_SYMLINK) {
        h->inode.mode = NAMESPACE_RIGHTS;
        return 0;
    }
    int rc = namespace_view_acl(&p->view, dir->ino, &dir->inode, NAMESPACE_ACL_DEFAULT, &acl);
    if (rc <= 0) {
        h->inode.mode &= ~(umask & NAMESPACE_RIGHTS);
        return rc;
    }
    h->inode.mode &= namespace_acl_mode(&acl) | ~NAMESPACE_RIGHTS;
    if (namespace_inode_is_dir(&h->inode)) {
        rc = namespace_acl_put(p, h, NAMESPACE_ACL_DEFAULT, &acl);
    }
    return rc < 0 || !acl.has_mask ? (rc < 0 ? rc : 0)
                                   : namespace_acl_put(p, h, NAMESPACE_ACL_ACCESS, &acl);
}

/* -EINVAL and so on for the value, then who may, in the order of Linux. 1: there is something to
 * set; 0: the list is to go; NAMESPACE_ACL_NOTHING. */
#define NAMESPACE_ACL_NOTHING 2
static int namespace_acl_check(struct namespace_plan *p, const struct namespace_inode *n,
                               enum namespace_acl_kind kind, struct proto_bytes value,
                               struct proto_acl *ret)
{
    int some = value.len == 0 ? 0 : proto_acl_parse(value.at, value.len, p->view.arena, ret, NULL);
    if (some < 0) {
        return some;
    }
    if ((n->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND)) != 0) {
        return -EPERM;
    }
    if (n->type == PROTO_INODE_SYMLINK) {
        return -EOPNOTSUPP;
    }
    if (kind == NAMESPACE_ACL_DEFAULT && !namespace_inode_is_dir(n)) {
        return some == 1 ? -EACCES : NAMESPACE_ACL_NOTHING;
    }
    return p->cred.uid != 0 && p->cred.uid != n->uid ? -EPERM : some;
}

static int namespace_acl_set_access(struct namespace_plan *p, struct namespace_held *h,
                                    const struct proto_acl *acl)
{
    struct namespace_inode *n = &h->inode;
    n->mode = (n->mode & ~NAMESPACE_RIGHTS) | namespace_acl_mode(acl);
    namespace_strip_setgid(p, n);
    return acl->has_mask ? namespace_acl_put(p, h, NAMESPACE_ACL_ACCESS, acl)
                         : namespace_acl_drop(p, h, NAMESPACE_ACL_ACCESS);
}

int namespace_acl_set(struct namespace_plan *p, struct namespace_held *h,
                      enum namespace_acl_kind kind, struct proto_bytes value)
{
    struct proto_acl acl;
    int some = namespace_acl_check(p, &h->inode, kind, value, &acl);
    if (some < 0) {
        return some;
    }
    p->reply->result.ino = h->ino;
    bool there = (h->inode.flags & namespace_acl_flag(kind)) != 0;
    if (some == NAMESPACE_ACL_NOTHING || (some == 0 && !there)) {
        return 0;
    }
    namespace_plan_touch_ctime(p, h);
    if (some == 0) {
        return namespace_acl_drop(p, h, kind);
    }
    return kind == NAMESPACE_ACL_ACCESS ? namespace_acl_set_access(p, h, &acl)
                                        : namespace_acl_put(p, h, kind, &acl);
}

int namespace_acl_remove_all(struct namespace_plan *p, const struct namespace_held *h)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_ACL, h->ino);
    uint32_t any = PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL;
    return (h->inode.flags & any) == 0 ? 0 : namespace_plan_delete_prefix(p, &key);
}
