/*
 * namespace/rig_fsck_node_priv.h -- for rig_fsck_priv.h: what it gathers of each inode and session,
 * and what an inode alone has to do with: its access control lists and extended attributes.
 */
#pragma once

#include "namespace/rig_cluster_priv.h"

#define FSCK_MAX 4096u

struct fsck_node {
    struct namespace_inode inode;
    uint64_t ino, names, subdirs, entries, links, orphans, writers, unflushed, trash;
    uint64_t lists, xattr_names, xattr_bytes; /* lists: flags of those found */
    struct namespace_xattrs xattrs;
    bool quota;
    uint64_t homes;                   /* names of a file that its inode says */
    struct namespace_dir_stats below; /* directories: counted from the inodes, by walking up */
};
struct fsck_session {
    uint64_t id, obligations, orphans; /* orphans: and writers */
};

struct fsck {
    struct namespace_view view;
    struct fsck_node node[FSCK_MAX];
    size_t node_count;
    struct fsck_session session[64];
    size_t session_count;
    uint64_t garbage, directories, quotas, expiries;
};

static inline struct fsck_node *fsck_node(struct fsck *f, uint64_t ino)
{
    for (size_t i = 0; i < f->node_count; i++) {
        if (f->node[i].ino == ino) {
            return &f->node[i];
        }
    }
    return NULL;
}

static inline struct fsck_session *fsck_session(struct fsck *f, uint64_t id)
{
    for (size_t i = 0; i < f->session_count; i++) {
        if (f->session[i].id == id) {
            return &f->session[i];
        }
    }
    return NULL;
}

static inline bool fsck_has(struct fsck *f, const struct namespace_key *key)
{
    struct kv_slice value;
    int rc = namespace_view_get_bytes(&f->view, key, &value);
    CHECK_TRUE(rc >= 0);
    return rc == 1;
}

/* A list is no more and no less than its flag says, and never one that a mode could say. */
static inline void fsck_list(struct fsck_node *n, const struct namespace_scan *s)
{
    const uint8_t *key = s->it->key.at;
    struct proto_acl acl;
    CHECK_TRUE(n != NULL && s->it->key.len == 10);
    CHECK_OK(namespace_scan_value(s, &proto_acl_type, &acl));
    bool access = key[9] == NAMESPACE_ACL_ACCESS;
    CHECK_TRUE(!access || (acl.has_mask && acl.owner == 0 && acl.mask == 0 && acl.other == 0));
    CHECK_TRUE(access || n->inode.type == PROTO_INODE_DIRECTORY);
    CHECK_TRUE(n->inode.type != PROTO_INODE_SYMLINK);
    CHECK_TRUE(acl.has_mask || acl.entries.count == 0);
    n->lists |= access ? PROTO_INODE_HAS_ACL : PROTO_INODE_HAS_DEFAULT_ACL;
}

static inline void fsck_xattr(struct fsck_node *n, const struct namespace_scan *s)
{
    CHECK_TRUE(n != NULL);
    if (s->it->key.len == 9) {
        CHECK_OK(namespace_scan_value(s, &namespace_xattrs_type, &n->xattrs));
        return;
    }
    n->xattr_names += s->it->key.len - 9 + 1;
    n->xattr_bytes += s->it->key.len - 9 + s->it->value.len;
}
