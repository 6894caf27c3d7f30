#include "namespace/query.h"

#include <string.h>

/* Recursive statistics of directories: reading them, and what they should be. */

/* By hand: each change below a directory reads one on each level above it. */
int namespace_view_dir_stats(const struct namespace_view *v, uint64_t ino,
                             struct namespace_dir_stats *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, ino);
    struct kv_slice value;
    int rc = namespace_view_get_bytes(v, &key, &value);
    if (rc <= 0) {
        return rc < 0 ? rc : -ENOENT;
    }
    struct wire_reader r = wire_reader_over(value.at, value.len);
    ret->parent = wire_read_u64(&r);
    ret->flags = wire_read_u64(&r);
    ret->files = wire_read_u64(&r);
    ret->directories = wire_read_u64(&r);
    ret->bytes = wire_read_u64(&r);
    ret->newest_ns = wire_read_u64(&r);
    ret->height = wire_read_u64(&r);
    return r.bad ? -ERR_short_msg : 0;
}

static int namespace_dir_sum_directory(const struct namespace_view *v, uint64_t ino,
                                       struct namespace_dir_stats *sum)
{
    struct namespace_dir_stats s;
    int rc = namespace_view_dir_stats(v, ino, &s);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    sum->files += s.files;
    sum->directories += s.directories + 1;
    sum->bytes += s.bytes;
    sum->newest_ns = base_max(sum->newest_ns, s.newest_ns);
    sum->height = base_max(sum->height, s.height + 1);
    return 0;
}

static int namespace_dir_sum_name(const struct namespace_view *v, uint64_t dir,
                                  const struct namespace_scan *scan,
                                  struct namespace_dir_stats *sum)
{
    struct namespace_dirent d;
    struct namespace_inode n;
    struct proto_bytes name =
        proto_bytes_of((const uint8_t *)scan->it->key.at + 9, scan->it->key.len - 9);
    int rc = namespace_scan_value(scan, &namespace_dirent_type, &d);
    if (rc == 0 && d.type == PROTO_INODE_DIRECTORY) {
        return namespace_dir_sum_directory(v, d.ino, sum);
    }
    rc = rc < 0 ? rc : namespace_view_inode(v, d.ino, &n);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    if (n.parent == dir && proto_bytes_equal(n.name, name)) { /* else it counts elsewhere */
        sum->files++;
        sum->bytes += n.size;
    }
    return 0;
}

int namespace_dir_sum_step(const struct namespace_view *v, uint64_t ino, size_t max,
                           struct namespace_dir_sum *sum)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_DIRENT, ino);
    struct namespace_dir_sum next = *sum;
    struct namespace_inode dir;
    struct namespace_scan scan;
    int rc = namespace_view_inode(v, ino, &dir);
    if (rc == 0 && !namespace_inode_is_dir(&dir)) {
        return -ENOTDIR;
    }
    next.stats.parent = dir.parent;
    rc = rc < 0 ? rc
                : namespace_scan_init_long(&scan, v, &prefix,
                                           sum->after.len > 0 ? &sum->after : NULL, max + 1);
    if (rc < 0) {
        return rc;
    }
    size_t names = 0;
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        bool again = kv_slice_compare(scan.it->key, namespace_key_slice(&sum->after)) == 0;
        if (!again && names++ == max) {
            break;
        }
        CHECK(scan.it->key.len <= NAMESPACE_KEY_MAX);
        memcpy(next.after.bytes, scan.it->key.at, scan.it->key.len);
        next.after.len = scan.it->key.len;
        rc = again ? 0 : namespace_dir_sum_name(v, ino, &scan, &next.stats);
    }
    namespace_scan_fini(&scan);
    if (rc >= 0) {
        next.done = rc == 0;
        *sum = next;
    }
    return rc < 0 ? rc : 0;
}

bool namespace_dir_sum_fits(const struct namespace_dir_stats *s,
                            const struct namespace_dir_sum *sum)
{
    const struct namespace_dir_stats *t = &sum->stats;
    return s->parent == t->parent && s->files == t->files && s->directories == t->directories &&
           s->bytes == t->bytes && s->newest_ns >= t->newest_ns && s->height >= t->height;
}

/* ---- quotas ---- */

int namespace_view_quota(const struct namespace_view *v, uint64_t ino, struct namespace_quota *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_QUOTA, ino);
    int rc = NAMESPACE_GET(v, &key, namespace_quota, ret);
    return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

static int64_t namespace_quota_end(const struct namespace_quota *q, int64_t since_ns)
{
    return since_ns == 0 ? 0 : since_ns + (int64_t)q->grace_s * INT64_C(1000000000);
}

bool namespace_quota_is_over(const struct namespace_quota *q, int64_t since_ns, int64_t now_ns)
{
    return since_ns != 0 && now_ns >= namespace_quota_end(q, since_ns);
}

static int namespace_dir_stats_quota(const struct namespace_view *v, uint64_t ino,
                                     struct proto_dir_stats_reply *ret)
{
    struct namespace_quota q;
    int rc = namespace_view_quota(v, ino, &q);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    ret->has_quota = true;
    ret->bytes_soft = q.bytes_soft;
    ret->bytes_hard = q.bytes_hard;
    ret->files_soft = q.files_soft;
    ret->files_hard = q.files_hard;
    ret->grace_s = q.grace_s;
    ret->bytes_grace_ns = namespace_quota_end(&q, q.bytes_since_ns);
    ret->files_grace_ns = namespace_quota_end(&q, q.files_since_ns);
    return 0;
}

/* Who may list a directory may know how much is below it. */
int namespace_dir_stats(const struct namespace_view *v, const struct proto_dir_stats_request *q,
                        struct proto_dir_stats_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode dir;
    struct namespace_dir_stats s;
    *ret = (struct proto_dir_stats_reply){0};
    int a = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    int rc = namespace_view_both(a, namespace_view_inode(v, q->ino, &dir));
    if (rc == 0 && !namespace_inode_is_dir(&dir)) {
        return -ENOTDIR;
    }
    rc = rc < 0 ? rc : namespace_cred_check(v, &cred, q->ino, &dir, NAMESPACE_MAY_READ);
    rc = rc < 0 ? rc : namespace_view_dir_stats(v, q->ino, &s);
    if (rc < 0) {
        return rc;
    }
    ret->files = s.files;
    ret->directories = s.directories;
    ret->bytes = s.bytes;
    ret->newest_ns = (int64_t)s.newest_ns;
    ret->class_id = dir.class_id;
    bool quota = (s.flags & NAMESPACE_STATS_QUOTA) != 0;
    return quota ? namespace_dir_stats_quota(v, q->ino, ret) : 0;
}

static int namespace_statfs_limit(const struct namespace_view *v, uint64_t ino,
                                  const struct namespace_dir_stats *s,
                                  struct proto_statfs_reply *space)
{
    struct namespace_quota q;
    int rc = namespace_view_quota(v, ino, &q);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    uint64_t bytes = q.bytes_hard > 0 ? q.bytes_hard : q.bytes_soft;
    uint64_t files = q.files_hard > 0 ? q.files_hard : q.files_soft;
    uint64_t used = s->files + s->directories;
    uint64_t bytes_left = bytes > s->bytes ? bytes - s->bytes : 0;
    uint64_t files_left = files > used ? files - used : 0;
    if (bytes > 0 && bytes_left <= space->available) {
        space->total = bytes;
        space->free = bytes_left;
        space->available = bytes_left;
    }
    if (files > 0 && files_left <= space->files_free) {
        space->files = used;
        space->files_free = files_left;
    }
    return 0;
}

int namespace_statfs_quota(const struct namespace_view *v, uint64_t ino,
                           struct proto_statfs_reply *space)
{
    struct namespace_inode n;
    int rc = namespace_view_inode(v, ino, &n);
    ino = rc == 0 && !namespace_inode_is_dir(&n) ? n.parent : ino;
    bool root = false;
    for (unsigned depth = 0; rc == 0 && !root && depth <= NAMESPACE_DEPTH_MAX; depth++) {
        struct namespace_dir_stats s = {0};
        rc = namespace_view_dir_stats(v, ino, &s);
        if (rc == 0 && (s.flags & NAMESPACE_STATS_QUOTA) != 0) {
            rc = namespace_statfs_limit(v, ino, &s, space);
        }
        root = ino == PROTO_ROOT_INO;
        ino = s.parent;
    }
    return rc;
}
