/*
 * namespace/rig_fsck_priv.h -- for tests: do all records of a state agree with each other? Names
 * with inodes, link counts, the two indexes of writers and of orphans, every counter.
 */
#pragma once

#include "namespace/fsck_run_priv.h"
#include "namespace/rig_fsck_stats_priv.h"

static inline void fsck_dirent(struct fsck *f, const struct namespace_scan *s)
{
    struct namespace_dirent d;
    CHECK_OK(namespace_scan_value(s, &namespace_dirent_type, &d));
    struct fsck_node *dir = fsck_node(f, namespace_key_read_u64(s->it->key, 1));
    struct fsck_node *n = fsck_node(f, d.ino);
    CHECK_TRUE(dir != NULL && n != NULL);
    CHECK_EQ(dir->inode.type, PROTO_INODE_DIRECTORY);
    CHECK_EQ(n->inode.type, d.type);
    dir->entries++;
    n->names++;
    dir->subdirs += d.type == PROTO_INODE_DIRECTORY ? 1 : 0;
    struct proto_bytes name =
        proto_bytes_of((const uint8_t *)s->it->key.at + 9, s->it->key.len - 9);
    if ((n->inode.flags & PROTO_INODE_LINKED) == 0) {
        CHECK_EQ(n->inode.parent, dir->ino);
        CHECK_TRUE(proto_bytes_equal(n->inode.name, name));
    } else {
        struct namespace_key link = namespace_key_u64s(NAMESPACE_LINK, d.ino, dir->ino);
        namespace_key_add_bytes(&link, name);
        CHECK_TRUE(fsck_has(f, &link));
    }
    n->homes += n->inode.parent == dir->ino && proto_bytes_equal(n->inode.name, name) ? 1 : 0;
}

static inline void fsck_pair(struct fsck *f, const struct namespace_scan *s,
                             enum namespace_range other)
{
    uint64_t a = namespace_key_read_u64(s->it->key, 1), b = namespace_key_read_u64(s->it->key, 9);
    struct namespace_key key = namespace_key_u64s(other, b, a);
    CHECK_TRUE(fsck_has(f, &key));
}

/* I6; and at most one has something that the others wait for. */
static inline void fsck_writer(struct fsck_node *n, const struct namespace_scan *s)
{
    struct namespace_wopen w;
    CHECK_OK(namespace_scan_value(s, &namespace_wopen_type, &w));
    CHECK_TRUE(n != NULL && (n->writers == 0 || (n->writers == 1 && w.mode == PROTO_OPEN_S)));
    CHECK_TRUE(!w.unflushed || (w.mode == PROTO_OPEN_S && n->unflushed++ == 0));
    n->writers = w.mode == PROTO_OPEN_W ? 2 : 1; /* 2: nobody may be beside it */
}

static inline void fsck_trash(struct fsck *f, const struct namespace_scan *s)
{
    struct namespace_trash t;
    struct fsck_node *n = fsck_node(f, namespace_key_read_u64(s->it->key, 5));
    CHECK_OK(namespace_scan_value(s, &namespace_trash_type, &t));
    CHECK_TRUE(n != NULL && n->inode.nlink == 0 && (n->inode.flags & PROTO_INODE_TRASH) != 0);
    CHECK_EQ(n->inode.uid, namespace_key_read_u32(s->it->key, 1));
    struct namespace_key key =
        namespace_key_u64s(NAMESPACE_TRASH_EXPIRY, (uint64_t)t.expiry_ns, n->ino);
    CHECK_TRUE(fsck_has(f, &key));
    n->trash++;
}

static inline void fsck_record(struct fsck *f, const struct namespace_scan *s)
{
    enum namespace_range range = *(const uint8_t *)s->it->key.at;
    uint64_t id = namespace_key_read_u64(s->it->key, 1);
    struct fsck_node *n = fsck_node(f, id);
    struct fsck_session *owner = fsck_session(f, id);
    if (range == NAMESPACE_DIRENT) {
        fsck_dirent(f, s);
    } else if (range == NAMESPACE_LINK) {
        CHECK_TRUE(n != NULL && (n->inode.flags & PROTO_INODE_LINKED) != 0);
        n->links++;
    } else if (range == NAMESPACE_XATTR) {
        fsck_xattr(n, s);
    } else if (range == NAMESPACE_ACL) {
        fsck_list(n, s);
    } else if (range == NAMESPACE_TRIM || range == NAMESPACE_INLINE) {
        CHECK_TRUE(n != NULL);
        CHECK_TRUE(range != NAMESPACE_INLINE || s->it->value.len <= n->inode.size);
    } else if (range == NAMESPACE_ORPHAN) {
        CHECK_TRUE(n != NULL && n->inode.nlink == 0);
        n->orphans++;
        fsck_pair(f, s, NAMESPACE_SESSION_ORPHAN);
    } else if (range == NAMESPACE_WOPEN) {
        fsck_writer(n, s);
        fsck_pair(f, s, NAMESPACE_SESSION_WOPEN);
    } else if (range == NAMESPACE_SESSION_ORPHAN || range == NAMESPACE_SESSION_WOPEN) {
        CHECK_TRUE(owner != NULL);
        owner->orphans++;
        fsck_pair(f, s, range == NAMESPACE_SESSION_WOPEN ? NAMESPACE_WOPEN : NAMESPACE_ORPHAN);
    } else if (range == NAMESPACE_OBLIGATIONS) {
        CHECK_TRUE(owner != NULL);
        owner->obligations = wire_load_u64(s->it->value.at);
    } else if (range == NAMESPACE_TRASH) {
        fsck_trash(f, s);
    } else if (range == NAMESPACE_TRASH_EXPIRY) {
        f->expiries++;
    } else if (range == NAMESPACE_GARBAGE) {
        f->garbage++;
    } else if (range == NAMESPACE_DIR_STATS) {
        CHECK_TRUE(n != NULL && n->inode.type == PROTO_INODE_DIRECTORY);
        f->directories++;
    } else if (range == NAMESPACE_QUOTA) {
        CHECK_TRUE(n != NULL && n->inode.type == PROTO_INODE_DIRECTORY);
        n->quota = ++f->quotas > 0;
    } else if (range == NAMESPACE_SLOT || range == NAMESPACE_CRED) {
        CHECK_TRUE(owner != NULL);
    }
}

static inline void fsck_scan(struct fsck *f, enum namespace_range range)
{
    struct namespace_key prefix = namespace_key(range);
    struct namespace_scan s;
    CHECK_OK(namespace_scan_init(&s, &f->view, &prefix, NULL));
    while (namespace_scan_next(&s) == 1) {
        if (range == NAMESPACE_INODE) {
            struct fsck_node *n = &f->node[f->node_count++];
            CHECK_TRUE(f->node_count < FSCK_MAX);
            n->ino = namespace_key_read_u64(s.it->key, 1);
            CHECK_OK(namespace_scan_value(&s, &namespace_inode_type, &n->inode));
        } else if (range == NAMESPACE_SESSION) {
            CHECK_TRUE(f->session_count < ARRAY_COUNT(f->session));
            f->session[f->session_count++].id = namespace_key_read_u64(s.it->key, 1);
        } else {
            fsck_record(f, &s);
        }
    }
    namespace_scan_fini(&s);
}

static inline void fsck_nodes(struct fsck *f, const struct namespace_state *state)
{
    uint64_t bytes = 0, trash = 0, trash_bytes = 0, retentions = 0;
    for (size_t i = 0; i < f->node_count; i++) {
        struct fsck_node *n = &f->node[i];
        bool dir = n->inode.type == PROTO_INODE_DIRECTORY, root = n->ino == PROTO_ROOT_INO;
        CHECK_EQ(n->names, dir ? (root ? 0 : 1) : n->inode.nlink);
        CHECK_TRUE(!dir || n->inode.nlink == 2 + n->subdirs);
        CHECK_TRUE(!dir || n->inode.entries == n->entries);
        CHECK_TRUE(dir || (n->inode.nlink == 0) == (n->orphans + n->trash > 0)); /* I8 */
        CHECK_EQ(n->trash, (n->inode.flags & PROTO_INODE_TRASH) != 0 ? 1 : 0);
        trash += n->trash;
        trash_bytes += n->trash > 0 ? n->inode.size : 0;
        retentions += n->inode.retention_s != 0 ? 1 : 0;
        CHECK_EQ(n->links, (n->inode.flags & PROTO_INODE_LINKED) != 0 ? n->names : 0);
        CHECK_EQ(n->inode.flags & (PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL), n->lists);
        CHECK_EQ((n->inode.flags & PROTO_INODE_HAS_XATTR) != 0, n->xattr_names > 0);
        CHECK_EQ(n->xattrs.names, n->xattr_names);
        CHECK_EQ(n->xattrs.bytes, n->xattr_bytes);
        bytes += n->inode.type == PROTO_INODE_FILE ? n->inode.size : 0;
    }
    CHECK_EQ(state->inodes, f->node_count);
    CHECK_EQ(state->bytes, bytes);
    CHECK_EQ(state->trash_files, trash);
    CHECK_EQ(state->trash_bytes, trash_bytes);
    CHECK_EQ(state->retentions, retentions);
    CHECK_EQ(f->expiries, trash);
    CHECK_EQ(state->sessions, f->session_count);
    CHECK_EQ(state->garbage, f->garbage);
    CHECK_EQ(state->quotas, f->quotas);
    for (size_t i = 0; i < f->session_count; i++) {
        CHECK_EQ(f->session[i].obligations, f->session[i].orphans);
    }
}

/* On the first replica, which has everything in memory; the digests say the same of the other. */
static inline void fsck(struct rig *r)
{
    static const enum namespace_range ranges[] = {
        NAMESPACE_INODE,   NAMESPACE_SESSION,       NAMESPACE_DIRENT,      NAMESPACE_LINK,
        NAMESPACE_XATTR,   NAMESPACE_TRIM,          NAMESPACE_INLINE,      NAMESPACE_ORPHAN,
        NAMESPACE_WOPEN,   NAMESPACE_SLOT,          NAMESPACE_CRED,        NAMESPACE_SESSION_ORPHAN,
        NAMESPACE_GARBAGE, NAMESPACE_SESSION_WOPEN, NAMESPACE_OBLIGATIONS, NAMESPACE_DIR_STATS,
        NAMESPACE_ACL,     NAMESPACE_QUOTA,         NAMESPACE_TRASH,       NAMESPACE_TRASH_EXPIRY};
    CLEANUP(kv_snapshot_freep) struct kv_snapshot *s = NULL;
    struct fsck *f = mem_zalloc(sizeof *f);
    struct mem_arena arena;
    struct namespace_state state;
    CHECK_TRUE(f != NULL);
    CHECK_OK(kv_snapshot_new(r->replica[0].kv, &s));
    mem_arena_init(&arena, 64U << 20);
    f->view = (struct namespace_view){.snapshot = s, .need = &r->replica[0].need, .arena = &arena};
    CHECK_OK(namespace_view_state(&f->view, &state));
    for (size_t i = 0; i < ARRAY_COUNT(ranges); i++) {
        fsck_scan(f, ranges[i]);
    }
    fsck_nodes(f, &state);
    fsck_stats(f);
    mem_arena_fini(&arena);
    mem_free(f);
    fsck_run_clean(r);
    (void)rig_digest(r);
}
