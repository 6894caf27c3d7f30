#include "namespace/query.h"

#include <string.h>

/* What clients ask about extended attributes and access control lists. */

static int namespace_query_object(const struct namespace_view *v, const struct proto_caller *caller,
                                  uint64_t ino, struct namespace_cred *ret_cred,
                                  struct namespace_inode *ret)
{
    int a = namespace_view_cred(v, caller->session, caller->cred, ret_cred);
    int b = namespace_view_inode(v, ino, ret);
    return namespace_view_both(a, b);
}

/* user.* needs the right to read, and trusted.* is for root; of what one may not see nothing is
 * there. */
static int namespace_xattr_readable(const struct namespace_view *v, const struct namespace_cred *c,
                                    uint64_t ino, const struct namespace_inode *n,
                                    enum namespace_xattr_space space)
{
    if (space == NAMESPACE_XATTR_TRUSTED) {
        return c->uid == 0 ? 0 : -ENODATA;
    }
    if (space != NAMESPACE_XATTR_USER) {
        return 0;
    }
    if (n->type != PROTO_INODE_FILE && !namespace_inode_is_dir(n)) {
        return -ENODATA;
    }
    return namespace_cred_check(v, c, ino, n, NAMESPACE_MAY_READ);
}

static int namespace_acl_value(const struct namespace_view *v, uint64_t ino,
                               const struct namespace_inode *n, enum namespace_acl_kind kind,
                               struct proto_bytes *ret)
{
    struct proto_acl acl;
    if (n->type == PROTO_INODE_SYMLINK) {
        return -EOPNOTSUPP;
    }
    int rc = namespace_view_acl(v, ino, n, kind, &acl);
    if (rc <= 0) {
        return rc < 0 ? rc : -ENODATA;
    }
    size_t len = proto_acl_value_bytes(&acl);
    uint8_t *bytes = mem_arena_alloc(v->arena, len);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    struct wire_writer w = wire_writer_over(bytes, len);
    proto_acl_render(&acl, &w);
    *ret = proto_bytes_of(bytes, w.len);
    return 0;
}

static int namespace_xattr_value(const struct namespace_view *v,
                                 const struct proto_getxattr_request *q,
                                 const struct namespace_inode *n, struct proto_bytes *ret)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_XATTR, q->ino, q->name);
    struct kv_slice value;
    if ((n->flags & PROTO_INODE_HAS_XATTR) == 0) {
        return -ENODATA;
    }
    int rc = namespace_view_get_bytes(v, &key, &value);
    if (rc <= 0) {
        return rc < 0 ? rc : -ENODATA;
    }
    *ret = proto_bytes_of(value.at, value.len);
    return 0;
}

int namespace_getxattr(const struct namespace_view *v, const struct proto_getxattr_request *q,
                       struct proto_getxattr_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    struct proto_bytes value = {0};
    int space = namespace_xattr_space(q->name);
    *ret = (struct proto_getxattr_reply){0};
    int rc = namespace_query_object(v, &q->caller, q->ino, &cred, &n);
    rc = rc == 0 && space < 0 ? space : rc;
    if (rc == 0 && space == NAMESPACE_XATTR_ACL_ACCESS) {
        rc = namespace_acl_value(v, q->ino, &n, NAMESPACE_ACL_ACCESS, &value);
    } else if (rc == 0 && space == NAMESPACE_XATTR_ACL_DEFAULT) {
        rc = namespace_acl_value(v, q->ino, &n, NAMESPACE_ACL_DEFAULT, &value);
    } else if (rc == 0) {
        rc = namespace_xattr_readable(v, &cred, q->ino, &n, (enum namespace_xattr_space)space);
        rc = rc < 0 ? rc : namespace_xattr_value(v, q, &n, &value);
    }
    if (rc == 0) {
        ret->value = value;
        ret->version = n.version;
    }
    return rc;
}

struct namespace_names {
    uint8_t *at;
    size_t len, size;
};

static int namespace_names_add(struct namespace_names *l, const void *name, size_t len)
{
    if (len + 1 > l->size - l->len) {
        return -E2BIG; /* what was set fits: so it is damage, or a limit that was lowered */
    }
    memcpy(l->at + l->len, name, len);
    l->at[l->len + len] = 0;
    l->len += len + 1;
    return 0;
}

static int namespace_names_stored(const struct namespace_view *v, uint64_t ino, bool root,
                                  struct namespace_names *l)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_XATTR, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, v, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct proto_bytes name = proto_bytes_of((const uint8_t *)scan.it->key.at + prefix.len,
                                                 scan.it->key.len - prefix.len);
        bool hidden = !root && namespace_xattr_space(name) == NAMESPACE_XATTR_TRUSTED;
        rc = name.len == 0 || hidden ? 0 : namespace_names_add(l, name.at, name.len);
    }
    namespace_scan_fini(&scan);
    return rc;
}

int namespace_listxattr(const struct namespace_view *v, const struct proto_listxattr_request *q,
                        struct proto_listxattr_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_listxattr_reply){0};
    int rc = namespace_query_object(v, &q->caller, q->ino, &cred, &n);
    uint32_t lists = PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL;
    if (rc < 0) {
        return rc;
    }
    ret->version = n.version;
    if ((n.flags & (lists | PROTO_INODE_HAS_XATTR)) == 0) {
        return 0;
    }
    struct namespace_names l = {.size = NAMESPACE_LISTXATTR_MAX};
    l.at = mem_arena_alloc(v->arena, l.size);
    if (l.at == NULL) {
        return -ENOMEM;
    }
    if ((n.flags & PROTO_INODE_HAS_ACL) != 0) {
        rc = namespace_names_add(&l, PROTO_ACL_ACCESS, strlen(PROTO_ACL_ACCESS));
    }
    if (rc == 0 && (n.flags & PROTO_INODE_HAS_DEFAULT_ACL) != 0) {
        rc = namespace_names_add(&l, PROTO_ACL_DEFAULT, strlen(PROTO_ACL_DEFAULT));
    }
    if (rc == 0 && (n.flags & PROTO_INODE_HAS_XATTR) != 0) {
        rc = namespace_names_stored(v, q->ino, cred.uid == 0, &l);
    }
    ret->names = proto_bytes_of(l.at, l.len);
    return rc;
}
