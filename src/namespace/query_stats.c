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
                : namespace_scan_init(&scan, v, &prefix, sum->after.len > 0 ? &sum->after : NULL);
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
