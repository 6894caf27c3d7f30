#include "namespace/plan_priv.h"

#include <string.h>

/*
 * Extended attributes: one record each. user.* needs write rights, trusted.* and security.* root.
 * system.* is refused: an access control list that nobody obeys must not be accepted.
 */

#define NAMESPACE_XATTRS_MAX 65536u /* bytes of all names of an inode, as listxattr(2) allows */

static bool namespace_xattr_begins(struct proto_bytes name, const char *prefix)
{
    size_t len = strlen(prefix);
    return name.len > len && memcmp(name.at, prefix, len) == 0;
}

static int namespace_xattr_check(struct namespace_plan *p, const struct namespace_inode *n,
                                 struct proto_bytes name)
{
    if ((n->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND)) != 0) {
        return -EPERM;
    }
    if (namespace_xattr_begins(name, "user.")) {
        bool holder = n->type == PROTO_INODE_FILE || n->type == PROTO_INODE_DIRECTORY;
        return holder ? namespace_cred_check(&p->cred, n, NAMESPACE_MAY_WRITE) : -EPERM;
    }
    if (namespace_xattr_begins(name, "trusted.") || namespace_xattr_begins(name, "security.")) {
        return p->cred.uid == 0 ? 0 : -EPERM;
    }
    return -EOPNOTSUPP;
}

static int namespace_xattr_names(struct namespace_plan *p, uint64_t ino, size_t *ret_bytes)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_XATTR, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    *ret_bytes = 0;
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        *ret_bytes += scan.it->key.len - prefix.len + 1;
        rc = 0;
    }
    namespace_scan_fini(&scan);
    return rc;
}

int namespace_setxattr(struct namespace_plan *p, const struct proto_setxattr_request *r)
{
    struct namespace_held *h;
    struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, r->ino, r->name);
    struct kv_slice old;
    size_t names = 0;
    int rc = namespace_plan_inode(p, r->ino, &h);
    rc = rc < 0 ? rc : namespace_xattr_check(p, &h->inode, r->name);
    int found = rc < 0 ? rc : namespace_view_get_bytes(&p->view, &key, &old);
    if (found < 0) {
        return found;
    }
    if ((r->flags & PROTO_XATTR_CREATE) != 0 && found == 1) {
        return -EEXIST;
    }
    if ((r->flags & PROTO_XATTR_REPLACE) != 0 && found == 0) {
        return -ENODATA;
    }
    rc = found == 0 ? namespace_xattr_names(p, r->ino, &names) : 0;
    if (rc < 0 || names + r->name.len + 1 > NAMESPACE_XATTRS_MAX) {
        return rc < 0 ? rc : -ENOSPC;
    }
    namespace_plan_touch_ctime(p, h);
    p->reply->result.ino = h->ino;
    return kv_batch_put(p->batch, namespace_key_slice(&key),
                        kv_slice_of(r->value.at, r->value.len));
}

int namespace_removexattr(struct namespace_plan *p, const struct proto_removexattr_request *r)
{
    struct namespace_held *h;
    struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, r->ino, r->name);
    struct kv_slice old;
    int rc = namespace_plan_inode(p, r->ino, &h);
    rc = rc < 0 ? rc : namespace_xattr_check(p, &h->inode, r->name);
    rc = rc < 0 ? rc : namespace_view_get_bytes(&p->view, &key, &old);
    if (rc <= 0) {
        return rc < 0 ? rc : -ENODATA;
    }
    namespace_plan_touch_ctime(p, h);
    p->reply->result.ino = h->ino;
    return namespace_plan_delete(p, &key);
}
