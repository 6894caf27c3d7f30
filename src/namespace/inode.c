#include "namespace/plan_priv.h"
#include "namespace/trash_priv.h"

/* Inodes: made with a number of their directory's run, sized, trimmed, removed. */

#define NAMESPACE_RUN_MIN 16u
#define NAMESPACE_RUN_MAX 1024u
#define NAMESPACE_STRIPE_MAX 64u
#define NAMESPACE_SETUID 04000u
#define NAMESPACE_SETGID 02000u

/* Runs grow with the directory, so that small ones waste few numbers and large ones stay dense. */
static uint64_t namespace_next_ino(struct namespace_plan *p, struct namespace_held *dir)
{
    struct namespace_inode *d = &dir->inode;
    if (d->run_next == d->run_end) {
        uint64_t count = NAMESPACE_RUN_MIN;
        while (count < NAMESPACE_RUN_MAX && count < d->entries) {
            count *= 2;
        }
        d->run_next = p->state.next_ino;
        d->run_end = d->run_next + count;
        p->state.next_ino = d->run_end;
    }
    dir->dirty = true;
    return d->run_next++;
}

/* Owner and mode as the Linux VFS gives them to a new inode. */
static int namespace_own(const struct namespace_plan *p, const struct namespace_inode *parent,
                         const struct proto_create_request *r, struct namespace_inode *n)
{
    const struct namespace_cred *c = &p->cred;
    bool inherit = (parent->mode & NAMESPACE_SETGID) != 0;
    n->mode = r->mode & 07777U;
    n->uid = (r->set & PROTO_SET_UID) != 0 ? r->uid : c->uid;
    n->gid = (r->set & PROTO_SET_GID) != 0 ? r->gid : inherit ? parent->gid : c->gid;
    if (c->uid != 0 && n->uid != c->uid) {
        return -EPERM;
    }
    bool member = namespace_cred_in_group(c, n->gid);
    if (c->uid != 0 && !member && (r->set & PROTO_SET_GID) != 0) {
        return -EPERM;
    }
    if (namespace_inode_is_dir(n)) {
        n->mode |= inherit ? NAMESPACE_SETGID : 0;
    } else if (c->uid != 0 && !member && (n->mode & 010U) != 0) {
        n->mode &= ~NAMESPACE_SETGID;
    }
    return 0;
}

static int namespace_make_class(struct namespace_plan *p, const struct namespace_inode *parent,
                                const struct proto_create_request *r, struct namespace_inode *n)
{
    struct proto_storage_class class;
    bool wants = n->type == PROTO_INODE_FILE || r->class_id != 0;
    n->class_id = r->class_id != 0 ? r->class_id : parent->class_id;
    int rc = wants ? namespace_plan_class(p, n->class_id, &class) : 0;
    if (rc == -ENOENT) {
        return r->class_id != 0 ? -EINVAL : 0; /* no class yet: inline files only */
    }
    if (rc == 0 && n->type == PROTO_INODE_FILE) {
        n->class_id = class.id;
    }
    return rc;
}

static int namespace_make_data(struct namespace_plan *p, const struct proto_create_request *r,
                               struct namespace_held *h)
{
    struct proto_storage_class class = {0};
    struct namespace_inode *n = &h->inode;
    if ((r->flags & PROTO_CREATE_HAS_DATA) == 0 || r->data.len == 0) {
        return 0;
    }
    int rc = namespace_plan_class(p, n->class_id, &class);
    if (rc < 0 && rc != -ENOENT) {
        return rc;
    }
    if (r->data.len > namespace_class_inline_limit(&class)) {
        return -EFBIG;
    }
    struct namespace_key key = namespace_key_u64(NAMESPACE_INLINE, h->ino);
    namespace_set_size(p, h, r->data.len);
    return kv_batch_put(p->batch, namespace_key_slice(&key), kv_slice_of(r->data.at, r->data.len));
}

int namespace_make_inode(struct namespace_plan *p, struct namespace_held *parent,
                         const struct proto_create_request *r, struct namespace_held **ret)
{
    struct namespace_inode n = {
        .type = r->type,
        .nlink = namespace_inode_is_dir(&(struct namespace_inode){.type = r->type}) ? 2 : 1,
        .atime_ns = (r->set & PROTO_SET_ATIME) != 0 ? r->atime_ns : p->now_ns,
        .mtime_ns = (r->set & PROTO_SET_MTIME) != 0 ? r->mtime_ns : p->now_ns,
        .ctime_ns = p->now_ns,
        .btime_ns = p->now_ns,
        .parent = parent->ino,
        .name = r->name,
        .rdev = r->type == PROTO_INODE_CHAR || r->type == PROTO_INODE_BLOCK ? r->rdev : 0,
        .data_version = p->state.version,
        .generation = (uint32_t)(p->command->random >> 32) | 1U,
    };
    int rc = namespace_own(p, &parent->inode, r, &n);
    rc = rc < 0 ? rc : namespace_make_class(p, &parent->inode, r, &n);
    if (rc < 0) {
        return rc;
    }
    struct namespace_held *h = namespace_plan_new_inode(p, namespace_next_ino(p, parent));
    h->inode = n;
    rc = namespace_acl_inherit(p, parent, h, r->umask);
    if (rc < 0) {
        return rc;
    }
    if (n.type == PROTO_INODE_FILE) {
        h->inode.flags |= PROTO_INODE_INLINE;
        rc = namespace_make_data(p, r, h);
    } else if (n.type == PROTO_INODE_SYMLINK) {
        h->inode.target = r->target;
        h->inode.size = r->target.len;
    }
    namespace_plan_touch(p, h);
    p->state.inodes++;
    *ret = h;
    return rc;
}

/* Entries of a stored chain table, without decoding them. 0 when there is none. */
static int namespace_table_count(struct namespace_plan *p, const struct proto_storage_class *class)
{
    struct namespace_key key = namespace_key(NAMESPACE_TABLE);
    namespace_key_add_u32(&key, class->id);
    namespace_key_add_u32(&key, class->table_version);
    struct kv_slice value;
    int rc = namespace_view_get_bytes(&p->view, &key, &value);
    if (rc <= 0) {
        return rc;
    }
    struct wire_reader r = wire_reader_over(value.at, value.len);
    (void)wire_read_u32(&r); /* class, version */
    (void)wire_read_u32(&r);
    uint32_t count = wire_read_u32(&r);
    return r.bad ? -ERR_short_msg : (int)base_min(count, INT32_MAX);
}

int namespace_give_data_id(struct namespace_plan *p, struct namespace_held *h)
{
    struct namespace_inode *n = &h->inode;
    struct proto_storage_class class;
    if (n->type != PROTO_INODE_FILE || n->data_id != 0) {
        return 0;
    }
    int rc = namespace_plan_class(p, n->class_id, &class);
    if (rc < 0) {
        return rc == -ENOENT ? 0 : rc;
    }
    int chains = namespace_table_count(p, &class);
    if (chains <= 0) {
        return chains;
    }
    uint32_t width = class.stripe_width == 0 ? NAMESPACE_STRIPE_MAX : class.stripe_width;
    width = (uint32_t)base_min(width, base_min((uint64_t)chains, NAMESPACE_STRIPE_MAX));
    n->data_id = p->state.next_data_id++;
    n->chunk_size = class.chunk_size;
    n->class_id = class.id;
    n->table_version = class.table_version;
    n->seed = (uint32_t)(p->command->random ^ p->command->random >> 32);
    n->stripe_width = width;
    h->dirty = true;
    return 0;
}

static int namespace_queue_garbage(struct namespace_plan *p, const struct namespace_inode *n)
{
    struct namespace_garbage g = {.since_ns = p->now_ns};
    struct namespace_key key = namespace_key_u64(NAMESPACE_GARBAGE, n->data_id);
    namespace_inode_layout(n, &g.layout);
    p->state.garbage++;
    p->reply->removed_data_id = n->data_id;
    return NAMESPACE_PUT(p, &key, namespace_garbage, &g);
}

static int namespace_delete_of(struct namespace_plan *p, enum namespace_range range, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64(range, ino);
    return namespace_plan_delete(p, &key);
}

/* Contents and trims, where there may be some: a record that is deleted in vain is written, too.
 * An inode that was read into the plan has the size that the plan gives it; of others only what no
 * plan takes back counts. */
static int namespace_remove_contents(struct namespace_plan *p, const struct namespace_held *h)
{
    const struct namespace_inode *n = &h->inode;
    bool file = n->type == PROTO_INODE_FILE;
    bool empty = h->version_before != 0 && h->size_before == 0 && n->size == 0;
    bool in_line = file && (n->flags & PROTO_INODE_INLINE) != 0 && !empty;
    bool trims = file && (n->data_id != 0 || n->tgen != 0); /* else none was ever queued */
    int rc = in_line ? namespace_delete_of(p, NAMESPACE_INLINE, h->ino) : 0;
    return rc == 0 && trims ? namespace_delete_of(p, NAMESPACE_TRIM, h->ino) : rc;
}

int namespace_remove_inode(struct namespace_plan *p, struct namespace_held *h)
{
    CHECK(!h->removed);
    int rc = namespace_delete_of(p, NAMESPACE_INODE, h->ino);
    rc = rc < 0 ? rc : namespace_remove_contents(p, h);
    rc = rc < 0 ? rc : namespace_xattr_remove_all(p, h);
    rc = rc < 0 ? rc : namespace_acl_remove_all(p, h);
    if (rc == 0 && (h->inode.flags & PROTO_INODE_LINKED) != 0) {
        struct namespace_key links = namespace_key_u64(NAMESPACE_LINK, h->ino);
        rc = namespace_plan_delete_prefix(p, &links);
    }
    if (rc == 0 && h->inode.data_id != 0) {
        rc = namespace_queue_garbage(p, &h->inode);
    }
    if (h->inode.type == PROTO_INODE_FILE) {
        p->state.bytes -= h->inode.size;
    }
    namespace_trash_set_retention(p, &h->inode, 0);
    CHECK(p->state.inodes > 0);
    p->state.inodes--;
    h->inode.nlink = 0;
    h->removed = true;
    return rc;
}

int namespace_queue_trim(struct namespace_plan *p, struct namespace_held *h, uint64_t from,
                         uint64_t fence_epoch)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_TRIM, h->ino);
    struct namespace_trim old, t = {.from = from, .fence_epoch = fence_epoch};
    if (h->inode.data_id == 0) {
        return 0;
    }
    int rc = NAMESPACE_GET(&p->view, &key, namespace_trim, &old);
    if (rc < 0) {
        return rc;
    }
    if (rc == 1) { /* one record for both: it reaches as far down as the lower */
        t.from = base_min(from, old.from);
        t.fence_epoch = base_max(fence_epoch, old.fence_epoch);
    }
    h->inode.tgen++;
    h->dirty = true;
    t.tgen = h->inode.tgen;
    namespace_inode_layout(&h->inode, &t.layout);
    p->reply->trim_ino = h->ino;
    return NAMESPACE_PUT(p, &key, namespace_trim, &t);
}

int namespace_check_trim(struct namespace_plan *p, const struct namespace_held *h, uint64_t size)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_TRIM, h->ino);
    struct namespace_trim t;
    if (size <= h->inode.size || h->inode.data_id == 0) {
        return 0;
    }
    int rc = NAMESPACE_GET(&p->view, &key, namespace_trim, &t);
    return rc < 0 ? rc : rc == 1 && size > t.from ? -ERR_busy : 0;
}

void namespace_set_size(struct namespace_plan *p, struct namespace_held *h, uint64_t size)
{
    bool trashed = (h->inode.flags & PROTO_INODE_TRASH) != 0;
    p->state.bytes += size - h->inode.size;
    p->state.trash_bytes += trashed ? size - h->inode.size : 0;
    h->inode.size = size;
}

static bool namespace_is_member(const struct namespace_plan *p, uint32_t gid)
{
    return p->cred.uid == 0 || namespace_cred_in_group(&p->cred, gid);
}

void namespace_strip_setgid(const struct namespace_plan *p, struct namespace_inode *n)
{
    n->mode &= namespace_is_member(p, n->gid) ? ~0U : ~NAMESPACE_SETGID;
}

void namespace_drop_set_ids(const struct namespace_plan *p, struct namespace_inode *n)
{
    n->mode &= ~NAMESPACE_SETUID;
    n->mode &= (n->mode & 010U) != 0 ? ~NAMESPACE_SETGID : ~0U;
    namespace_strip_setgid(p, n);
}

int namespace_kill_priv(struct namespace_plan *p, struct namespace_held *h)
{
    bool root = p->op.cred != 0 && p->cred.uid == 0; /* a client for itself is nobody special */
    if (!root) {
        namespace_drop_set_ids(p, &h->inode);
    }
    return namespace_xattr_drop_caps(p, h);
}
