/* client/fake_xattr_priv.h -- for tests only: extended attributes of fake_priv.h. */
#pragma once

#include "client/fake_meta_priv.h"

/* That of this name; else the first free one (NULL: none is free). */
static inline struct fake_xattr *fake_xattr(struct fake_inode *n, struct proto_bytes name)
{
    struct fake_xattr *empty = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(n->xattr); i++) {
        struct fake_xattr *x = &n->xattr[i];
        if (x->name[0] != 0 && proto_bytes_equal(proto_bytes_text(x->name), name)) {
            return x;
        }
        empty = empty == NULL && x->name[0] == 0 ? x : empty;
    }
    return empty;
}

static inline int fake_setxattr(struct fake_cluster *c, const struct proto_setxattr_request *q)
{
    struct fake_inode *n = fake_find(c, q->ino);
    struct fake_xattr *x = n == NULL ? NULL : fake_xattr(n, q->name);
    if (x == NULL || q->value.len > sizeof x->value) {
        return n == NULL ? -ENOENT : -ENOSPC;
    }
    if (x->name[0] != 0 && (q->flags & PROTO_XATTR_CREATE) != 0) {
        return -EEXIST;
    }
    if (x->name[0] == 0 && (q->flags & PROTO_XATTR_REPLACE) != 0) {
        return -ENODATA;
    }
    proto_bytes_to_c(q->name, x->name, sizeof x->name);
    x->len = q->value.len;
    if (x->len > 0) {
        memcpy(x->value, q->value.at, x->len);
    }
    fake_touch(c, n);
    return 0;
}

static inline int fake_removexattr(struct fake_cluster *c,
                                   const struct proto_removexattr_request *q)
{
    struct fake_inode *n = fake_find(c, q->ino);
    struct fake_xattr *x = n == NULL ? NULL : fake_xattr(n, q->name);
    if (x == NULL || x->name[0] == 0) {
        return n == NULL ? -ENOENT : -ENODATA;
    }
    x->name[0] = 0;
    fake_touch(c, n);
    return 0;
}

static inline void fake_getxattr(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = container_of(u, struct fake_node, user)->cluster;
    const struct proto_getxattr_request *q = r->body;
    struct fake_inode *n = fake_find(c, q->ino);
    c->xattrs_asked++;
    const struct fake_xattr *x = n == NULL ? NULL : fake_xattr(n, q->name);
    if (x == NULL || x->name[0] == 0) {
        peer_request_fail(r, n == NULL ? -ENOENT : -ENODATA, NULL);
        return;
    }
    const struct proto_getxattr_reply m = {.value = proto_bytes_of(x->value, x->len)};
    peer_request_answer(r, &m, NULL);
}

static inline void fake_listxattr(struct peer_user *u, struct peer_request *r)
{
    struct fake_cluster *c = container_of(u, struct fake_node, user)->cluster;
    const struct proto_listxattr_request *q = r->body;
    const struct fake_inode *n = fake_find(c, q->ino);
    char names[sizeof n->xattr];
    size_t len = 0;
    for (size_t i = 0; n != NULL && i < ARRAY_COUNT(n->xattr); i++) {
        size_t name = strlen(n->xattr[i].name) + 1;
        memcpy(names + len, n->xattr[i].name, name);
        len += name > 1 ? name : 0;
    }
    const struct proto_listxattr_reply m = {.names = proto_bytes_of(names, len)};
    peer_request_answer(r, &m, NULL);
}
