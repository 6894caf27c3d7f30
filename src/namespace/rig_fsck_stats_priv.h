/*
 * namespace/rig_fsck_stats_priv.h -- for tests: the part of rig_fsck_priv.h that counts from
 * scratch what lies below each directory.
 */
#pragma once

#include "namespace/rig_fsck_node_priv.h"

/* What is above a node counts it. */
static inline void fsck_count_up(struct fsck *f, const struct fsck_node *n)
{
    bool dir = n->inode.type == PROTO_INODE_DIRECTORY;
    uint64_t height = dir ? 1 : 0;
    const struct fsck_node *at = n;
    while (at->ino != PROTO_ROOT_INO) {
        struct fsck_node *up = fsck_node(f, at->inode.parent);
        CHECK_TRUE(up != NULL && up->inode.type == PROTO_INODE_DIRECTORY);
        up->below.files += dir ? 0 : 1;
        up->below.directories += dir ? 1 : 0;
        up->below.bytes += n->inode.size;
        up->below.height = base_max(up->below.height, height);
        height += dir ? 1 : 0;
        at = up;
    }
}

/* Against the sums from scratch, and against what lies directly in it. */
static inline void fsck_stats_of(struct fsck *f, const struct fsck_node *n)
{
    struct namespace_dir_stats s;
    struct namespace_dir_sum sum = {.done = false};
    CHECK_OK(namespace_view_dir_stats(&f->view, n->ino, &s));
    CHECK_EQ(s.parent, n->inode.parent);
    CHECK_EQ(s.flags, n->quota ? NAMESPACE_STATS_QUOTA : 0);
    CHECK_EQ(s.files, n->below.files);
    CHECK_EQ(s.directories, n->below.directories);
    CHECK_EQ(s.bytes, n->below.bytes);
    CHECK_TRUE(s.height >= n->below.height);
    while (!sum.done) {
        CHECK_OK(namespace_dir_sum_step(&f->view, n->ino, 3, &sum));
    }
    CHECK_TRUE(namespace_dir_sum_fits(&s, &sum));
}

static inline void fsck_stats(struct fsck *f)
{
    uint64_t directories = 0;
    for (size_t i = 0; i < f->node_count; i++) {
        const struct fsck_node *n = &f->node[i];
        if (n->inode.type == PROTO_INODE_DIRECTORY || n->inode.nlink > 0) {
            fsck_count_up(f, n);
        }
    }
    for (size_t i = 0; i < f->node_count; i++) {
        const struct fsck_node *n = &f->node[i];
        if (n->inode.type == PROTO_INODE_DIRECTORY) {
            fsck_stats_of(f, n);
            directories++;
        } else {
            CHECK_EQ(n->homes, n->inode.nlink > 0 ? 1 : 0);
        }
    }
    CHECK_EQ(f->directories, directories);
}
