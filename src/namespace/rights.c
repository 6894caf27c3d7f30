#include "namespace/view.h"

#include <string.h>

/*
 * Who may do what: mode bits and access control lists by the algorithm of POSIX 1003.1e, and who
 * may see which extended attributes.
 */

bool namespace_cred_in_group(const struct namespace_cred *c, uint32_t gid)
{
    bool found = c->gid == gid;
    for (size_t i = 0; i < c->groups.count && !found; i++) {
        found = c->groups.at[i] == gid;
    }
    return found;
}

struct namespace_key namespace_acl_key(uint64_t ino, enum namespace_acl_kind kind)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_ACL, ino);
    uint8_t last = (uint8_t)kind;
    namespace_key_add_bytes(&key, proto_bytes_of(&last, 1));
    return key;
}

int namespace_view_acl(const struct namespace_view *v, uint64_t ino,
                       const struct namespace_inode *i, enum namespace_acl_kind kind,
                       struct proto_acl *ret)
{
    bool access = kind == NAMESPACE_ACL_ACCESS;
    uint32_t flag = access ? PROTO_INODE_HAS_ACL : PROTO_INODE_HAS_DEFAULT_ACL;
    if ((i->flags & flag) == 0) {
        return 0;
    }
    struct namespace_key key = namespace_acl_key(ino, kind);
    int rc = NAMESPACE_GET(v, &key, proto_acl, ret);
    if (rc == 1 && access) {
        ret->owner = (i->mode >> 6) & 7U;
        ret->mask = (i->mode >> 3) & 7U;
        ret->other = i->mode & 7U;
    }
    return rc == 0 ? -EUCLEAN : rc; /* the flag says that it is there */
}

/* Not the owner's rights: those are in the mode alone. */
static bool namespace_acl_allows(const struct proto_acl *acl, const struct namespace_cred *c,
                                 uint32_t gid, uint32_t may)
{
    uint32_t mask = acl->has_mask ? acl->mask : 7U;
    bool member = namespace_cred_in_group(c, gid);
    bool granted = member && (acl->group & may) == may;
    for (size_t i = 0; i < acl->entries.count; i++) {
        const struct proto_acl_entry *n = &acl->entries.at[i];
        if (!n->is_group && n->id == c->uid) {
            return (n->perm & mask & may) == may;
        }
        if (n->is_group && namespace_cred_in_group(c, n->id)) {
            member = true;
            granted = granted || (n->perm & may) == may;
        }
    }
    return member ? granted && (mask & may) == may : (acl->other & may) == may;
}

int namespace_cred_check(const struct namespace_view *v, const struct namespace_cred *c,
                         uint64_t ino, const struct namespace_inode *i, uint32_t may)
{
    if ((may & NAMESPACE_MAY_WRITE) != 0 && (i->flags & PROTO_INODE_IMMUTABLE) != 0) {
        return -EPERM;
    }
    if (c->uid == 0) {
        bool any_exec = namespace_inode_is_dir(i) || (i->mode & 0111U) != 0;
        return (may & NAMESPACE_MAY_EXEC) == 0 || any_exec ? 0 : -EACCES;
    }
    uint32_t bits = i->mode;
    if (c->uid == i->uid) {
        bits >>= 6;
    } else if ((i->flags & PROTO_INODE_HAS_ACL) != 0) {
        struct proto_acl acl;
        int rc = namespace_view_acl(v, ino, i, NAMESPACE_ACL_ACCESS, &acl);
        return rc < 0 ? rc : namespace_acl_allows(&acl, c, i->gid, may) ? 0 : -EACCES;
    } else if (namespace_cred_in_group(c, i->gid)) {
        bits >>= 3;
    }
    return (bits & may) == may ? 0 : -EACCES;
}

/* 1: it begins with that; -EINVAL: and nothing follows. */
static int namespace_xattr_begins(struct proto_bytes name, const char *prefix)
{
    size_t len = strlen(prefix);
    if (name.len < len || memcmp(name.at, prefix, len) != 0) {
        return 0;
    }
    return name.len == len ? -EINVAL : 1;
}

int namespace_xattr_space(struct proto_bytes name)
{
    static const struct {
        const char *prefix;
        enum namespace_xattr_space space;
    } spaces[] = {{"user.", NAMESPACE_XATTR_USER},
                  {"trusted.", NAMESPACE_XATTR_TRUSTED},
                  {"security.", NAMESPACE_XATTR_SECURITY}};
    if (proto_bytes_equal(name, proto_bytes_text(PROTO_ACL_ACCESS))) {
        return NAMESPACE_XATTR_ACL_ACCESS;
    }
    if (proto_bytes_equal(name, proto_bytes_text(PROTO_ACL_DEFAULT))) {
        return NAMESPACE_XATTR_ACL_DEFAULT;
    }
    int rc = 0;
    for (size_t i = 0; i < ARRAY_COUNT(spaces) && rc == 0; i++) {
        rc = namespace_xattr_begins(name, spaces[i].prefix);
        rc = rc == 1 ? (int)spaces[i].space : rc;
    }
    return rc == 0 ? -EOPNOTSUPP : rc;
}
