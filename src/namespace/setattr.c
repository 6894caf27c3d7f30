#include "namespace/plan_priv.h"

/* chmod, chown, utimens, truncate, flags and storage class: all in one command, all or nothing. */

#define NAMESPACE_SETUID 04000u
#define NAMESPACE_SETGID 02000u

static int namespace_check_owner_bits(const struct namespace_plan *p,
                                      const struct namespace_inode *n,
                                      const struct proto_setattr_request *r)
{
    const struct namespace_cred *c = &p->cred;
    bool root = c->uid == 0, owner = root || c->uid == n->uid;
    uint32_t owners = PROTO_SET_MODE | PROTO_SET_ATIME | PROTO_SET_MTIME | PROTO_SET_GID |
                      PROTO_SET_CLASS | PROTO_SET_UID;
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
    if (!owner && (r->mask & (PROTO_SET_ATIME_NOW | PROTO_SET_MTIME_NOW)) != 0) {
        return namespace_cred_check(c, n, NAMESPACE_MAY_WRITE);
    }
    return 0;
}

/* Truncation is a write: by a holder of write authority, or by the rights while nobody writes. */
static int namespace_check_size(struct namespace_plan *p, const struct namespace_held *h,
                                const struct proto_setattr_request *r)
{
    if (h->inode.type != PROTO_INODE_FILE) {
        return namespace_inode_is_dir(&h->inode) ? -EISDIR : -EINVAL;
    }
    if (r->size > INT64_MAX) {
        return -EFBIG;
    }
    int rc;
    if (r->cap_epoch != 0) {
        struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, h->ino, p->session_id);
        struct namespace_wopen w;
        rc = NAMESPACE_GET(&p->view, &key, namespace_wopen, &w);
        rc = rc < 0 ? rc : rc == 0 || w.cap_epoch != r->cap_epoch ? -ESTALE : 0;
    } else {
        struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, h->ino);
        struct namespace_scan scan;
        rc = namespace_cred_check(&p->cred, &h->inode, NAMESPACE_MAY_WRITE);
        if (rc < 0) {
            return rc;
        }
        rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
        rc = rc < 0 ? rc : namespace_scan_next(&scan);
        while (rc == 1 && namespace_key_read_u64(scan.it->key, 9) == p->session_id) {
            rc = namespace_scan_next(&scan);
        }
        namespace_scan_fini(&scan);
        rc = rc == 1 ? -ERR_busy : rc;
    }
    return rc < 0 ? rc : namespace_check_trim(p, h, r->size);
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
    namespace_kill_priv(p, &h->inode);
    h->inode.mtime_ns = p->now_ns;
    h->inode.data_version = p->state.version;
    return rc;
}

static void namespace_set_owner(const struct namespace_plan *p, struct namespace_inode *n,
                                const struct proto_setattr_request *r)
{
    bool chown = (r->mask & (PROTO_SET_UID | PROTO_SET_GID)) != 0;
    n->uid = (r->mask & PROTO_SET_UID) != 0 ? r->uid : n->uid;
    n->gid = (r->mask & PROTO_SET_GID) != 0 ? r->gid : n->gid;
    if (chown && !namespace_inode_is_dir(n)) { /* root's too, as Linux does */
        n->mode &= ~NAMESPACE_SETUID;
        n->mode &= (n->mode & 010U) != 0 ? ~NAMESPACE_SETGID : ~0U;
    }
    if ((r->mask & PROTO_SET_MODE) != 0) {
        n->mode = r->mode & 07777U;
        bool member = p->cred.uid == 0 || namespace_cred_in_group(&p->cred, n->gid);
        n->mode &= member ? ~0U : ~NAMESPACE_SETGID;
    }
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
    uint32_t known = (PROTO_SET_KILL_PRIV << 1) - 1;
    uint32_t fixed = PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND;
    if ((r->mask & ~known) != 0) {
        return -EINVAL;
    }
    if ((h->inode.flags & fixed) != 0 && (r->mask & ~PROTO_SET_FLAGS) != 0) {
        return -EPERM;
    }
    int rc = namespace_check_owner_bits(p, &h->inode, r);
    rc = rc == 0 && (r->mask & PROTO_SET_SIZE) != 0 ? namespace_check_size(p, h, r) : rc;
    return rc == 0 && (r->mask & PROTO_SET_CLASS) != 0 ? namespace_check_class(p, &h->inode, r)
                                                       : rc;
}

int namespace_setattr(struct namespace_plan *p, const struct proto_setattr_request *r)
{
    struct namespace_held *h;
    int rc = namespace_plan_inode(p, r->ino, &h);
    rc = rc < 0 ? rc : namespace_setattr_check(p, h, r);
    if (rc == 0 && (r->mask & PROTO_SET_SIZE) != 0) {
        rc = namespace_truncate(p, h, r->size, r->cap_epoch != 0);
    }
    if (rc < 0) {
        return rc;
    }
    if ((r->mask & PROTO_SET_KILL_PRIV) != 0) {
        namespace_kill_priv(p, &h->inode);
    }
    namespace_set_owner(p, &h->inode, r);
    namespace_set_times(p, &h->inode, r);
    if ((r->mask & PROTO_SET_FLAGS) != 0) {
        uint32_t settable = PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND;
        h->inode.flags = (h->inode.flags & ~settable) | (r->flags & settable);
    }
    if ((r->mask & PROTO_SET_CLASS) != 0) {
        h->inode.class_id = r->class_id;
    }
    namespace_plan_touch(p, h);
    p->reply->result.ino = h->ino;
    return 0;
}
