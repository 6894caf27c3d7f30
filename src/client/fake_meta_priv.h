/* client/fake_meta_priv.h -- for tests only: mutations of the metadata server of fake_priv.h. */
#pragma once

#include "client/fake_data_priv.h"

static const uint8_t fake_mac[32] = {1};
static inline struct proto_capability fake_cap(struct fake_cluster *c, const struct fake_inode *n,
                                               uint64_t session)
{
    return (struct proto_capability){.data_id = n->layout.data_id,
                                     .last_data_id = n->layout.data_id,
                                     .session = session,
                                     .rights = PROTO_RIGHT_READ | PROTO_RIGHT_WRITE,
                                     .cap_epoch = n->cap_epoch,
                                     .expiry_wall_ms = UINT64_MAX,
                                     .key_id = c->key_id,
                                     .mac = {fake_mac, sizeof fake_mac}};
}
static inline void fake_place(struct fake_cluster *c, struct fake_inode *n)
{
    if (n->layout.data_id == 0) {
        n->layout = (struct proto_layout){.data_id = c->next_data_id++,
                                          .chunk_size = FAKE_CHUNK_BYTES,
                                          .class_id = 1,
                                          .table_version = 1,
                                          .stripe_width = FAKE_CHAINS};
    }
}
static inline void fake_touch(struct fake_cluster *c, struct fake_inode *n)
{
    n->attr.version = ++c->version;
    n->attr.ctime_ns++;
}

static inline int fake_create(struct fake_cluster *c, const struct proto_create_request *q,
                              struct proto_create_reply *m)
{
    const struct fake_inode *dir = fake_find(c, q->parent);
    struct fake_inode *n = fake_lookup(c, q->parent, q->name);
    if (dir == NULL || dir->attr.type != PROTO_INODE_DIRECTORY) {
        return dir == NULL ? -ENOENT : -ENOTDIR;
    }
    if (n != NULL && (q->flags & PROTO_CREATE_EXCLUSIVE) != 0) {
        return -EEXIST;
    }
    c->umask = q->umask;
    CHECK(q->op.cred - FAKE_CRED < c->people.count);
    m->created = n == NULL;
    for (size_t i = 0; n == NULL; i++) {
        CHECK(i < FAKE_INODES);
        n = c->inode[i].ino == 0 ? &c->inode[i] : NULL;
    }
    if (m->created) {
        memset(n, 0, sizeof *n);
        n->ino = c->next_ino++;
        n->parent = q->parent;
        proto_bytes_to_c(q->name, n->name, sizeof n->name);
        struct proto_bytes text = q->type == PROTO_INODE_SYMLINK ? q->target : q->data;
        CHECK(text.len <= sizeof n->data);
        n->data_len = text.len;
        if (text.len > 0) {
            memcpy(n->data, text.at, text.len);
        }
        bool file = q->type == PROTO_INODE_FILE;
        n->attr = (struct proto_attr){
            .ino = n->ino,
            .type = q->type,
            .mode = q->mode,
            .nlink = 1,
            .size = text.len,
            .mtime_ns = (q->set & PROTO_SET_MTIME) ? q->mtime_ns : 1,
            .uid = (q->set & PROTO_SET_UID) ? q->uid : c->people.cred[q->op.cred - FAKE_CRED].uid,
            .flags = file ? PROTO_INODE_INLINE : 0};
        fake_touch(c, n);
        if ((q->flags & PROTO_CREATE_WOPEN) != 0) {
            n->cap_epoch = ++c->cap_epoch;
            fake_place(c, n);
            m->mode = PROTO_OPEN_W;
        }
    }
    m->limited = c->size_quota > 0;
    m->size_limit = c->size_quota;
    m->attr = n->attr;
    m->layout = n->layout;
    m->cap_epoch = n->cap_epoch;
    m->capability = fake_cap(c, n, q->op.session);
    return 0;
}

static inline int fake_unlink(struct fake_cluster *c, const struct proto_unlink_request *q,
                              struct proto_unlink_reply *m)
{
    static struct proto_change change; /* the tests run one at a time */
    struct fake_inode *n = fake_lookup(c, q->parent, q->name);
    if (n == NULL) {
        return -ENOENT;
    }
    if (q->expect_ino != 0 && q->expect_ino != n->ino) {
        return -ESTALE;
    }
    if (n->attr.type == PROTO_INODE_DIRECTORY) {
        return -EISDIR;
    }
    m->ino = n->ino;
    n->attr.nlink = 0;
    change = (struct proto_change){.ino = n->ino, .attr = n->attr};
    m->changes.at = &change;
    m->changes.count = 1;
    n->ino = q->is_open ? n->ino : 0;
    return 0;
}

static inline int fake_rename(struct fake_cluster *c, const struct proto_rename_request *q,
                              struct proto_rename_reply *m)
{
    struct fake_inode *n = fake_lookup(c, q->parent, q->name);
    struct fake_inode *victim = fake_lookup(c, q->new_parent, q->new_name);
    if (n == NULL) {
        return -ENOENT;
    }
    if (victim != NULL && (q->flags & PROTO_RENAME_NOREPLACE) != 0) {
        return -EEXIST;
    }
    if (victim != NULL && victim != n) {
        m->victim_ino = victim->ino;
        victim->attr.nlink = 0;
        victim->ino = q->victim_open ? victim->ino : 0;
    }
    n->parent = q->new_parent;
    proto_bytes_to_c(q->new_name, n->name, sizeof n->name);
    m->ino = n->ino;
    return 0;
}

#define FAKE_NOW_NS INT64_C(1234567890123456789) /* by the clock of the server */

static inline int fake_setattr(struct fake_cluster *c, const struct proto_setattr_request *q,
                               struct proto_setattr_reply *m)
{
    struct fake_inode *n = fake_find(c, q->ino);
    if (n == NULL) {
        return -ENOENT;
    }
    if (c->refuse_setattr) {
        return -EPERM;
    }
    n->attr.mode = (q->mask & PROTO_SET_MODE) ? q->mode : n->attr.mode;
    n->attr.uid = (q->mask & PROTO_SET_UID) ? q->uid : n->attr.uid;
    n->attr.mtime_ns = (q->mask & PROTO_SET_MTIME) ? q->mtime_ns : n->attr.mtime_ns;
    n->attr.mtime_ns = (q->mask & PROTO_SET_MTIME_NOW) ? FAKE_NOW_NS : n->attr.mtime_ns;
    n->attr.atime_ns = (q->mask & PROTO_SET_ATIME) ? q->atime_ns : n->attr.atime_ns;
    n->attr.atime_ns = (q->mask & PROTO_SET_ATIME_NOW) ? FAKE_NOW_NS : n->attr.atime_ns;
    if ((q->mask & PROTO_SET_SIZE) != 0) {
        n->attr.tgen += n->chunked && q->size < n->attr.size ? 1 : 0;
        n->attr.size = q->size;
        n->data_len = n->chunked ? 0 : (size_t)base_min(q->size, sizeof n->data);
    }
    fake_touch(c, n);
    m->attr = n->attr;
    m->layout = n->layout;
    return 0;
}
