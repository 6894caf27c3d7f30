#include "namespace/plan_priv.h"
#include "namespace/trash_priv.h"

/* chmod, chown, utimens, truncate, flags and storage class: all in one command, all or nothing. */

/* Both times to now, as `touch` does: a writer may do that; any other change of times is the
 * owner's.
 */
static bool namespace_is_touch(const struct proto_setattr_request *r)
{
    uint32_t both = PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW;
    return (r->mask & both) == both;
}

static int namespace_check_fixed(const struct namespace_inode *n,
                                 const struct proto_setattr_request *r)
{
    uint32_t allowed = PROTO_SET_FLAGS;
    if ((n->flags & PROTO_INODE_IMMUTABLE) == 0 && namespace_is_touch(r)) {
        allowed |= PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW;
    }
    bool fixed = (n->flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND)) != 0;
    return fixed && (r->mask & ~allowed) != 0 ? -EPERM : 0;
}

static int namespace_check_owner_bits(struct namespace_plan *p, const struct namespace_held *h,
                                      const struct proto_setattr_request *r)
{
    const struct namespace_cred *c = &p->cred;
    const struct namespace_inode *n = &h->inode;
    bool root = c->uid == 0, owner = root || c->uid == n->uid, touch = namespace_is_touch(r);
    uint32_t times = PROTO_SET_ATIME | PROTO_SET_MTIME | PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW;
    uint32_t owners =
        PROTO_SET_MODE | PROTO_SET_GID | PROTO_SET_CLASS | PROTO_SET_UID | PROTO_SET_RETENTION;
    owners |= touch ? 0 : times;
    if (!owner && (r->mask & owners) != 0) {
        return -EPERM;
    }
    if (!root && (r->mask & (PROTO_SET_CTIME | PROTO_SET_FLAGS)) != 0) {
        return -EPERM;
    }
    if (!root && (r->mask & PROTO_SET_UID) != 0 && r->uid != n->uid) {
        return -EPERM;
    }
    bool joins = (r->mask & PROTO_SET_GID) != 0 && r->gid != n->gid;
    if (!root && joins && !namespace_cred_in_group(c, r->gid)) {
        return -EPERM;
    }
    if ((r->mask & PROTO_SET_MODE) != 0 && n->type == PROTO_INODE_SYMLINK) {
        return -EOPNOTSUPP;
    }
    return !owner && touch ? namespace_plan_may(p, h, NAMESPACE_MAY_WRITE) : 0;
}

/* -ERR_busy while another session writes: reply->holder. */
static int namespace_check_no_writers(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    rc = rc < 0 ? rc : namespace_scan_next(&scan);
    while (rc == 1 && namespace_key_read_u64(scan.it->key, 9) == p->session_id) {
        rc = namespace_scan_next(&scan);
    }
    p->reply->holder = rc == 1 ? namespace_key_read_u64(scan.it->key, 9) : 0;
    namespace_scan_fini(&scan);
    return rc == 1 ? -ERR_busy : rc;
}

/* Truncation is a write: by a holder of write authority, or by the rights while nobody writes. So
 * is what drops the set-id bits, whoever else writes. */
static int namespace_check_write(struct namespace_plan *p, const struct namespace_held *h,
                                 const struct proto_setattr_request *r)
{
    if (r->cap_epoch != 0) {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, h->ino, p->session_id);
        struct namespace_wopen w;
        int rc = NAMESPACE_GET(&p->view, &key, namespace_wopen, &w);
        return rc < 0 ? rc : rc == 0 || w.cap_epoch != r->cap_epoch ? -ESTALE : 0;
    }
    int rc = namespace_plan_may(p, h, NAMESPACE_MAY_WRITE);
    bool cuts = (r->mask & PROTO_SET_SIZE) != 0;
    return rc == 0 && cuts ? namespace_check_no_writers(p, h->ino) : rc;
}

static int namespace_check_size(const struct namespace_inode *n,
                                const struct proto_setattr_request *r)
{
    if ((r->mask & PROTO_SET_SIZE) == 0) {
        return 0;
    }
    if (n->type != PROTO_INODE_FILE) {
        return namespace_inode_is_dir(n) ? -EISDIR : -EINVAL;
    }
    return r->size > INT64_MAX ? -EFBIG : 0;
}

static int namespace_check_class(struct namespace_plan *p, const struct namespace_inode *n,
                                 const struct proto_setattr_request *r)
{
    struct proto_storage_class class;
    bool dir = namespace_inode_is_dir(n);
    if (!dir && n->type != PROTO_INODE_FILE) {
        return -EINVAL;
    }
    if (!dir && n->data_id != 0) {
        return -EBUSY; /* its chunks are where its layout says */
    }
    if (dir && r->class_id == 0) {
        return 0;
    }
    int rc = namespace_view_class(&p->view, r->class_id, &class);
    return rc == -ENOENT ? -EINVAL : rc;
}

static int namespace_cut_inline(struct namespace_plan *p, struct namespace_held *h, uint64_t size)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INLINE, h->ino);
    struct kv_slice data;
    int rc = namespace_view_get_bytes(&p->view, &key, &data);
    if (rc <= 0 || data.len <= size) {
        return rc < 0 ? rc : 0;
    }
    return size == 0 ? namespace_plan_delete(p, &key)
                     : kv_batch_put(p->batch, namespace_key_slice(&key),
                                    kv_slice_of(data.at, (size_t)size));
}

/*
 * Inline contents may be shorter than the file: the rest reads as zeros. A writer may have put more
 * into chunks than it has committed, so that what it cuts is trimmed in any case; one whose file is
 * still inline commits before it truncates.
 */
static int namespace_truncate(struct namespace_plan *p, struct namespace_held *h, uint64_t size,
                              bool by_writer)
{
    int rc = 0;
    bool in_line = (h->inode.flags & PROTO_INODE_INLINE) != 0;
    if (size < h->inode.size || (by_writer && !in_line)) {
        rc = in_line ? namespace_cut_inline(p, h, size) : namespace_queue_trim(p, h, size, 0);
    }
    namespace_set_size(p, h, size);
    h->inode.mtime_ns = p->now_ns;
    h->inode.data_version = p->state.version;
    return rc;
}

/* The set-id bits go with the old group, whoever does it: root too, as in Linux. */
static int namespace_set_owner(struct namespace_plan *p, struct namespace_held *h,
                               const struct proto_setattr_request *r)
{
    struct namespace_inode *n = &h->inode;
    bool chown = (r->mask & (PROTO_SET_UID | PROTO_SET_GID)) != 0 && !namespace_inode_is_dir(n);
    int rc = 0;
    if (chown) {
        namespace_drop_set_ids(p, n);
        rc = namespace_xattr_drop_caps(p, h);
    }
    n->uid = (r->mask & PROTO_SET_UID) != 0 ? r->uid : n->uid;
    n->gid = (r->mask & PROTO_SET_GID) != 0 ? r->gid : n->gid;
    if ((r->mask & PROTO_SET_MODE) != 0) {
        n->mode = r->mode & 07777U;
        namespace_strip_setgid(p, n);
    }
    return rc;
}

static void namespace_set_times(const struct namespace_plan *p, struct namespace_inode *n,
                                const struct proto_setattr_request *r)
{
    n->atime_ns = (r->mask & PROTO_SET_ATIME) != 0 ? r->atime_ns : n->atime_ns;
    n->mtime_ns = (r->mask & PROTO_SET_MTIME) != 0 ? r->mtime_ns : n->mtime_ns;
    n->atime_ns = (r->mask & PROTO_SET_ATIME_NOW) != 0 ? p->now_ns : n->atime_ns;
    n->mtime_ns = (r->mask & PROTO_SET_MTIME_NOW) != 0 ? p->now_ns : n->mtime_ns;
    n->ctime_ns = (r->mask & PROTO_SET_CTIME) != 0 ? r->ctime_ns : p->now_ns;
}

static int namespace_setattr_check(struct namespace_plan *p, const struct namespace_held *h,
                                   const struct proto_setattr_request *r)
{
    uint32_t known = (PROTO_SET_RETENTION << 1) - 1;
    if ((r->mask & ~known) != 0) {
        return -EINVAL;
    }
    if ((r->mask & PROTO_SET_RETENTION) != 0 && !namespace_inode_is_dir(&h->inode)) {
        return -ENOTDIR;
    }
    int rc = namespace_check_size(&h->inode, r);
    rc = rc < 0 ? rc : namespace_check_fixed(&h->inode, r);
    rc = rc < 0 ? rc : namespace_check_owner_bits(p, h, r);
    if (rc == 0 && (r->mask & (PROTO_SET_SIZE | PROTO_SET_KILL_PRIV)) != 0) {
        rc = namespace_check_write(p, h, r);
    }
    if (rc == 0 && (r->mask & PROTO_SET_SIZE) != 0) {
        rc = namespace_check_trim(p, h, r->size);
    }
    return rc == 0 && (r->mask & PROTO_SET_CLASS) != 0 ? namespace_check_class(p, &h->inode, r)
                                                       : rc;
}

static int namespace_setattr_do(struct namespace_plan *p, struct namespace_held *h,
                                const struct proto_setattr_request *r)
{
    int rc = 0;
    if ((r->mask & PROTO_SET_SIZE) != 0) {
        rc = namespace_truncate(p, h, r->size, r->cap_epoch != 0);
    }
    uint32_t both = PROTO_SET_KILL_PRIV | PROTO_SET_SIZE;
    if (rc == 0 && (r->mask & PROTO_SET_KILL_PRIV) != 0) {
        namespace_drop_set_ids(p, &h->inode);
    }
    if (rc == 0 && (r->mask & both) != 0) {
        rc = namespace_kill_priv(p, h);
    }
    uint32_t old_uid = h->inode.uid;
    rc = rc < 0 ? rc : namespace_set_owner(p, h, r);
    rc = rc < 0 ? rc : namespace_trash_chown(p, h, old_uid);
    namespace_set_times(p, &h->inode, r);
    if ((r->mask & PROTO_SET_FLAGS) != 0) {
        uint32_t settable = PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND;
        h->inode.flags = (h->inode.flags & ~settable) | (r->flags & settable);
    }
    if ((r->mask & PROTO_SET_CLASS) != 0) {
        h->inode.class_id = r->class_id;
    }
    if ((r->mask & PROTO_SET_RETENTION) != 0) {
        namespace_trash_set_retention(p, &h->inode, r->retention_s);
    }
    namespace_plan_touch(p, h);
    return rc;
}

int namespace_setattr(struct namespace_plan *p, const struct proto_setattr_request *r)
{
    struct namespace_held *h;
    int rc = namespace_plan_inode(p, r->ino, &h);
    rc = rc < 0 ? rc : namespace_setattr_check(p, h, r);
    if (rc < 0) {
        return rc;
    }
    p->reply->result.ino = h->ino;
    return r->mask == 0 ? 0 : namespace_setattr_do(p, h, r);
}
