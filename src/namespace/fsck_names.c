#include "namespace/fsck_priv.h"

#include <string.h>

/* Names, inodes, and what belongs to an inode: contents, attributes, statistics, the trash. */

#define FSCK_U(x) ((unsigned long long)(x))

static bool fsck_is_dir(const struct namespace_inode *n)
{
    return n->type == PROTO_INODE_DIRECTORY;
}

static bool fsck_is_at(const struct namespace_inode *n, uint64_t parent, struct proto_bytes name)
{
    return n->parent == parent && proto_bytes_equal(n->name, name);
}

static struct proto_bytes fsck_key_text(const struct fsck_check *c, size_t at)
{
    return proto_bytes_of((const uint8_t *)c->key.at + at, c->key.len - at);
}

/* ---- directory entries ---- */

static int fsck_child_dir(struct fsck_check *c, struct namespace_fsck_run *run, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, ino);
    struct namespace_dir_stats s;
    int rc = FSCK_GET(c, &key, namespace_dir_stats, &s);
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, rc == 1, "stats.missing", ino, "the directory has no statistics");
    run->directories++;
    if (rc == 1) {
        run->sum.files += s.files;
        run->sum.directories += s.directories + 1;
        run->sum.bytes += s.bytes;
        run->sum.newest_ns = base_max(run->sum.newest_ns, s.newest_ns);
        run->sum.height = base_max(run->sum.height, s.height + 1);
    }
    return 0;
}

static int fsck_child(struct fsck_check *c, uint64_t parent, struct proto_bytes name,
                      const struct namespace_dirent *d)
{
    struct namespace_fsck_run *run = namespace_fsck_run(c, parent);
    struct namespace_inode n;
    int rc = namespace_fsck_inode(c, d->ino, &n);
    run->count++;
    if (rc <= 0) {
        FSCK_WANT(c, rc < 0, "name.dangling", parent,
                  "the name '%.*s' stands for inode %llu, "
                  "which does not exist",
                  (int)name.len, (const char *)name.at, FSCK_U(d->ino));
        return rc < 0 ? rc : 0;
    }
    FSCK_WANT(c, n.type == d->type, "name.type", d->ino, "its name says type %u, it is of type %u",
              d->type, n.type);
    FSCK_WANT(c, n.nlink > 0, "name.removed", d->ino, "it has a name, and a link count of 0");
    bool linked = (n.flags & PROTO_INODE_LINKED) != 0, home = fsck_is_at(&n, parent, name);
    FSCK_WANT(c, linked || home, "name.elsewhere", d->ino,
              "it is at '%.*s' in inode %llu, too, which it does not know", (int)name.len,
              (const char *)name.at, FSCK_U(parent));
    if (linked) {
        struct namespace_key link = namespace_key_u64s(NAMESPACE_LINK, d->ino, parent);
        namespace_key_add_bytes(&link, name);
        rc = namespace_fsck_has(c, &link);
        FSCK_WANT(c, rc != 0, "link.missing", d->ino, "no link record for the name '%.*s'",
                  (int)name.len, (const char *)name.at);
    }
    if (rc >= 0 && fsck_is_dir(&n)) {
        return fsck_child_dir(c, run, d->ino);
    }
    run->sum.files += home ? 1 : 0;
    run->sum.bytes += home ? n.size : 0;
    return rc < 0 ? rc : 0;
}

static int fsck_dirent(struct fsck_check *c)
{
    struct namespace_dirent d;
    struct namespace_inode dir;
    int rc = namespace_fsck_key_fits(c, 9, true)
                 ? namespace_fsck_value(c, &namespace_dirent_type, &d)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    uint64_t parent = fsck_id(c, 1);
    struct proto_bytes name = fsck_key_text(c, 9);
    FSCK_WANT(c, namespace_name_check(name) == 0, "name.broken", parent,
              "a name of %zu bytes that no name can be", name.len);
    rc = namespace_fsck_inode(c, parent, &dir);
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, rc == 1 && fsck_is_dir(&dir), "name.homeless", d.ino,
              "its name '%.*s' is in inode %llu, which is no directory", (int)name.len,
              (const char *)name.at, FSCK_U(parent));
    return fsck_child(c, parent, name, &d);
}

static int fsck_dirents_end(struct fsck_check *c, const struct namespace_fsck_run *run)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, run->id);
    struct namespace_inode dir;
    struct namespace_dir_stats s;
    int rc = namespace_fsck_inode(c, run->id, &dir);
    if (rc <= 0 || !fsck_is_dir(&dir)) {
        return rc < 0 ? rc : 0;
    }
    FSCK_WANT(c, dir.entries == run->count, "directory.entries", run->id,
              "it says %llu names, and has %llu", FSCK_U(dir.entries), FSCK_U(run->count));
    FSCK_WANT(c, dir.nlink == 2 + run->directories, "directory.links", run->id,
              "it says %u links, and has %llu directories in it", dir.nlink,
              FSCK_U(run->directories));
    rc = FSCK_GET(c, &key, namespace_dir_stats, &s);
    if (rc <= 0) {
        return rc;
    }
    FSCK_WANT(c,
              s.files == run->sum.files && s.directories == run->sum.directories &&
                  s.bytes == run->sum.bytes,
              "stats.wrong", run->id,
              "it says %llu files, %llu directories, %llu bytes below it, and there are %llu, "
              "%llu, %llu",
              FSCK_U(s.files), FSCK_U(s.directories), FSCK_U(s.bytes), FSCK_U(run->sum.files),
              FSCK_U(run->sum.directories), FSCK_U(run->sum.bytes));
    FSCK_WANT(c, s.newest_ns >= run->sum.newest_ns, "stats.newest", run->id,
              "something below it is newer than it says");
    FSCK_WANT(c, s.height >= run->sum.height, "stats.height", run->id,
              "it says %llu levels below it, and there are %llu", FSCK_U(s.height),
              FSCK_U(run->sum.height));
    return 0;
}

/* ---- inodes ---- */

static int fsck_inode_dir(struct fsck_check *c, uint64_t ino, const struct namespace_inode *n)
{
    struct namespace_key stats = namespace_key_u64(NAMESPACE_DIR_STATS, ino);
    struct namespace_key names = namespace_key_u64(NAMESPACE_DIRENT, ino);
    struct namespace_key own = namespace_key_name(NAMESPACE_DIRENT, n->parent, n->name);
    struct namespace_dirent d;
    int has_stats = namespace_fsck_has(c, &stats), has_names = namespace_fsck_has_any(c, &names);
    int found = ino == PROTO_ROOT_INO ? 1 : FSCK_GET(c, &own, namespace_dirent, &d);
    int rc = namespace_view_both(namespace_view_both(has_stats, has_names), found);
    if (rc < 0) {
        return rc;
    }
    bool named = ino == PROTO_ROOT_INO || (found == 1 && d.ino == ino);
    FSCK_WANT(c, has_stats == 1, "stats.missing", ino, "the directory has no statistics");
    FSCK_WANT(c, named, "inode.nameless", ino, "no directory has the name that it says");
    FSCK_WANT(c, ino != PROTO_ROOT_INO || n->parent == ino, "root.parent", ino,
              "the root is below inode %llu", FSCK_U(n->parent));
    FSCK_WANT(c, has_names == 1 || (n->entries == 0 && n->nlink == 2), "directory.entries", ino,
              "it says %llu names and %u links, and has none", FSCK_U(n->entries), n->nlink);
    FSCK_WANT(c, n->run_end <= c->state.next_ino && n->run_next <= n->run_end, "directory.run", ino,
              "it keeps inode numbers that were not given to it");
    c->next.seen.retentions += n->retention_s != 0 ? 1 : 0;
    return 0;
}

/* A file without a name lives by a session that has it open, or by the trash. */
static int fsck_inode_nameless(struct fsck_check *c, uint64_t ino, const struct namespace_inode *n)
{
    struct namespace_key orphans = namespace_key_u64(NAMESPACE_ORPHAN, ino);
    struct namespace_key trash = namespace_key(NAMESPACE_TRASH);
    bool trashed = (n->flags & PROTO_INODE_TRASH) != 0;
    namespace_key_add_u32(&trash, n->uid);
    namespace_key_add_u64(&trash, ino);
    int open = namespace_fsck_has_any(c, &orphans),
        kept = trashed ? namespace_fsck_has(c, &trash) : 0;
    int rc = namespace_view_both(open, kept);
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, open == 1 || trashed, "inode.lost", ino,
              "it has no name, nobody has it open, and it is not in the trash");
    FSCK_WANT(c, !trashed || kept == 1, "trash.missing", ino,
              "its flag says that it is in the trash, and it is not");
    return 0;
}

static int fsck_inode_named(struct fsck_check *c, uint64_t ino, const struct namespace_inode *n)
{
    struct namespace_key own = namespace_key_name(NAMESPACE_DIRENT, n->parent, n->name);
    struct namespace_key links = namespace_key_u64(NAMESPACE_LINK, ino);
    bool linked = (n->flags & PROTO_INODE_LINKED) != 0;
    struct namespace_dirent d;
    int rc = FSCK_GET(c, &own, namespace_dirent, &d);
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, rc == 1 && d.ino == ino, "inode.nameless", ino,
              "no directory has the name that it says");
    FSCK_WANT(c, linked || n->nlink == 1, "inode.links", ino,
              "it says %u links, and never had a second name", n->nlink);
    FSCK_WANT(c, (n->flags & PROTO_INODE_TRASH) == 0, "trash.named", ino,
              "it has a name, and its flag says that it is in the trash");
    rc = linked ? namespace_fsck_has_any(c, &links) : 1;
    FSCK_WANT(c, rc != 0, "inode.links", ino, "it says %u links, and has no link record", n->nlink);
    return rc < 0 ? rc : 0;
}

static int fsck_inode_layout(struct fsck_check *c, uint64_t ino, const struct namespace_inode *n)
{
    struct namespace_key table = namespace_key(NAMESPACE_TABLE);
    if (n->data_id == 0) {
        bool empty = n->size == 0 || (n->flags & PROTO_INODE_INLINE) != 0;
        FSCK_WANT(c, empty, "inode.data", ino, "it has %llu bytes, and no place for them",
                  FSCK_U(n->size));
        return 0;
    }
    namespace_key_add_u32(&table, n->class_id);
    namespace_key_add_u32(&table, n->table_version);
    int rc = namespace_fsck_has(c, &table);
    FSCK_WANT(c, rc != 0, "layout.table", ino, "its table (class %u, version %u) does not exist",
              n->class_id, n->table_version);
    FSCK_WANT(c, n->data_id < c->state.next_data_id, "layout.data_id", ino,
              "its data id %llu was never given", FSCK_U(n->data_id));
    FSCK_WANT(c, n->chunk_size >= PROTO_CELL_BYTES && n->stripe_width >= 1 && n->stripe_width <= 64,
              "layout.broken", ino, "chunks of %u bytes on %u chains", n->chunk_size,
              n->stripe_width);
    return rc < 0 ? rc : 0;
}

/* Records that a flag says are there. */
static int fsck_inode_flags(struct fsck_check *c, uint64_t ino, const struct namespace_inode *n)
{
    struct namespace_key acl = namespace_key_u64(NAMESPACE_ACL, ino);
    struct namespace_key xattrs = namespace_key_u64(NAMESPACE_XATTR, ino);
    bool lists = (n->flags & (PROTO_INODE_HAS_ACL | PROTO_INODE_HAS_DEFAULT_ACL)) != 0;
    int a = lists ? namespace_fsck_has_any(c, &acl) : 1;
    int b = (n->flags & PROTO_INODE_HAS_XATTR) != 0 ? namespace_fsck_has(c, &xattrs) : 1;
    FSCK_WANT(c, a != 0, "acl.missing", ino, "its flags say an access list, and there is none");
    FSCK_WANT(c, b != 0, "xattr.missing", ino, "its flags say attributes, and there are none");
    return namespace_view_both(a < 0 ? a : 0, b < 0 ? b : 0);
}

static int fsck_inode_record(struct fsck_check *c)
{
    struct namespace_inode n;
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_inode_type, &n)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    uint64_t ino = fsck_id(c, 1);
    bool file = n.type == PROTO_INODE_FILE;
    struct namespace_state *seen = &c->next.seen;
    seen->inodes++;
    seen->bytes += file ? n.size : 0;
    seen->trash_files += (n.flags & PROTO_INODE_TRASH) != 0 ? 1 : 0;
    seen->trash_bytes += (n.flags & PROTO_INODE_TRASH) != 0 ? n.size : 0;
    FSCK_WANT(c, n.type >= PROTO_INODE_FILE && n.type <= PROTO_INODE_BLOCK, "inode.type", ino,
              "of type %u, which there is not", n.type);
    FSCK_WANT(c, ino < c->state.next_ino, "inode.number", ino, "its number was never given");
    FSCK_WANT(c, file || (n.flags & PROTO_INODE_INLINE) == 0, "inode.flags", ino,
              "flags of a file, and it is of type %u", n.type);
    FSCK_WANT(c, n.type != PROTO_INODE_SYMLINK || n.target.len == n.size, "inode.target", ino,
              "a symbolic link of %llu bytes with a target of %zu", FSCK_U(n.size), n.target.len);
    rc = fsck_inode_flags(c, ino, &n);
    rc = rc < 0 || !file ? rc : fsck_inode_layout(c, ino, &n);
    if (rc < 0) {
        return rc;
    }
    return fsck_is_dir(&n) ? fsck_inode_dir(c, ino, &n)
           : n.nlink == 0  ? fsck_inode_nameless(c, ino, &n)
                           : fsck_inode_named(c, ino, &n);
}

/* ---- what belongs to an inode ---- */

static int fsck_link(struct fsck_check *c)
{
    struct namespace_inode n;
    struct namespace_dirent d;
    if (!namespace_fsck_key_fits(c, 17, true)) {
        return 0;
    }
    uint64_t ino = fsck_id(c, 1);
    struct namespace_key own =
        namespace_key_name(NAMESPACE_DIRENT, fsck_id(c, 9), fsck_key_text(c, 17));
    int a = namespace_fsck_inode(c, ino, &n), b = FSCK_GET(c, &own, namespace_dirent, &d);
    int rc = namespace_view_both(a, b);
    namespace_fsck_run(c, ino)->count++;
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, a == 1 && (n.flags & PROTO_INODE_LINKED) != 0, "link.stray", ino,
              "a link record of an inode that has no second name");
    FSCK_WANT(c, b == 1 && d.ino == ino, "link.dangling", ino,
              "a link record for a name that does not stand for it");
    return 0;
}

static int fsck_links_end(struct fsck_check *c, const struct namespace_fsck_run *run)
{
    struct namespace_inode n;
    int rc = namespace_fsck_inode(c, run->id, &n);
    FSCK_WANT(c, rc <= 0 || n.nlink == run->count, "inode.links", run->id,
              "it says %u links, and has %llu names", n.nlink, FSCK_U(run->count));
    return rc < 0 ? rc : 0;
}

static int fsck_inline(struct fsck_check *c)
{
    struct namespace_inode n;
    uint64_t ino = fsck_id(c, 1);
    int rc = namespace_fsck_key_fits(c, 9, false) ? namespace_fsck_inode(c, ino, &n) : -EALREADY;
    if (rc < 0) {
        return rc == -EALREADY ? 0 : rc;
    }
    FSCK_WANT(c, rc == 1 && (n.flags & PROTO_INODE_INLINE) != 0, "inline.stray", ino,
              "contents in the metadata of what is no such file");
    FSCK_WANT(c, rc == 0 || c->value.len <= n.size, "inline.long", ino,
              "%zu bytes of contents of a file of %llu", c->value.len,
              FSCK_U(rc == 1 ? n.size : 0));
    FSCK_WANT(c, c->value.len <= NAMESPACE_INLINE_MAX, "inline.long", ino,
              "%zu bytes of contents in the metadata", c->value.len);
    return 0;
}

static int fsck_acl(struct fsck_check *c)
{
    struct namespace_inode n;
    struct proto_acl acl;
    int rc =
        namespace_fsck_key_fits(c, 10, false) ? namespace_fsck_value(c, &proto_acl_type, &acl) : 0;
    uint64_t ino = fsck_id(c, 1);
    rc = rc == 1 ? namespace_fsck_inode(c, ino, &n) : rc < 0 ? rc : -EALREADY;
    if (rc < 0) {
        return rc == -EALREADY ? 0 : rc;
    }
    bool access = ((const uint8_t *)c->key.at)[9] == NAMESPACE_ACL_ACCESS;
    uint32_t flag = access ? PROTO_INODE_HAS_ACL : PROTO_INODE_HAS_DEFAULT_ACL;
    FSCK_WANT(c, rc == 1 && (n.flags & flag) != 0, "acl.stray", ino,
              "an access list of an inode that does not say so");
    FSCK_WANT(c, rc == 0 || access || fsck_is_dir(&n), "acl.stray", ino,
              "a default access list, and it is no directory");
    return 0;
}

static int fsck_xattr(struct fsck_check *c)
{
    struct namespace_inode n;
    uint64_t ino = fsck_id(c, 1);
    int rc = namespace_fsck_key_fits(c, 8, true) ? namespace_fsck_inode(c, ino, &n) : -EALREADY;
    if (rc < 0) {
        return rc == -EALREADY ? 0 : rc;
    }
    FSCK_WANT(c, rc == 1 && (n.flags & PROTO_INODE_HAS_XATTR) != 0, "xattr.stray", ino,
              "an extended attribute of an inode that does not say so");
    struct namespace_fsck_run *run = namespace_fsck_run(c, ino);
    if (c->key.len > 9) {
        run->count += c->key.len - 9 + 1;
        run->bytes += c->key.len - 9 + c->value.len;
    }
    return 0;
}

static int fsck_xattrs_end(struct fsck_check *c, const struct namespace_fsck_run *run)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_XATTR, run->id);
    struct namespace_xattrs x = {0};
    int rc = FSCK_GET(c, &key, namespace_xattrs, &x);
    FSCK_WANT(c, rc < 0 || (x.names == run->count && x.bytes == run->bytes), "xattr.sums", run->id,
              "its attributes are said to have %llu bytes, and have %llu", FSCK_U(x.bytes),
              FSCK_U(run->bytes));
    return rc < 0 ? rc : 0;
}

static int fsck_stats(struct fsck_check *c)
{
    struct namespace_dir_stats s;
    struct namespace_inode n;
    struct namespace_key names = namespace_key_u64(NAMESPACE_DIRENT, fsck_id(c, 1));
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_dir_stats_type, &s)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    uint64_t ino = fsck_id(c, 1);
    int found = namespace_fsck_inode(c, ino, &n), any = namespace_fsck_has_any(c, &names);
    rc = namespace_view_both(found, any);
    if (rc < 0) {
        return rc;
    }
    FSCK_WANT(c, found == 1 && fsck_is_dir(&n), "stats.stray", ino,
              "statistics of what is no directory");
    FSCK_WANT(c, found == 0 || s.parent == n.parent, "stats.parent", ino,
              "its statistics are below inode %llu", FSCK_U(s.parent));
    struct namespace_key quota = namespace_key_u64(NAMESPACE_QUOTA, ino);
    bool flag = (s.flags & NAMESPACE_STATS_QUOTA) != 0;
    int limited = flag ? namespace_fsck_has(c, &quota) : 1;
    if (limited < 0) {
        return limited;
    }
    FSCK_WANT(c, limited == 1, "quota.missing", ino, "it is said to have a quota, and has none");
    FSCK_WANT(c, any == 1 || (s.files == 0 && s.directories == 0 && s.bytes == 0), "stats.wrong",
              ino, "it is empty, and says %llu files, %llu directories, %llu bytes below it",
              FSCK_U(s.files), FSCK_U(s.directories), FSCK_U(s.bytes));
    return 0;
}

static int fsck_quota(struct fsck_check *c)
{
    struct namespace_quota q;
    struct namespace_dir_stats s = {0};
    struct namespace_key key = namespace_key_u64(NAMESPACE_DIR_STATS, fsck_id(c, 1));
    int rc = namespace_fsck_key_fits(c, 9, false)
                 ? namespace_fsck_value(c, &namespace_quota_type, &q)
                 : 0;
    rc = rc == 1 ? FSCK_GET(c, &key, namespace_dir_stats, &s) : rc < 0 ? rc : -EALREADY;
    if (rc < 0) {
        return rc == -EALREADY ? 0 : rc;
    }
    FSCK_WANT(c, rc == 1 && (s.flags & NAMESPACE_STATS_QUOTA) != 0, "quota.stray", fsck_id(c, 1),
              "a quota of what does not say so");
    c->next.seen.quotas++;
    return 0;
}

static int fsck_trash(struct fsck_check *c)
{
    struct namespace_trash t;
    struct namespace_inode n;
    int rc = namespace_fsck_key_fits(c, 13, false)
                 ? namespace_fsck_value(c, &namespace_trash_type, &t)
                 : 0;
    if (rc <= 0) {
        return rc;
    }
    uint64_t ino = fsck_id(c, 5);
    struct namespace_key expiry =
        namespace_key_u64s(NAMESPACE_TRASH_EXPIRY, (uint64_t)t.expiry_ns, ino);
    int found = namespace_fsck_inode(c, ino, &n), due = namespace_fsck_has(c, &expiry);
    rc = namespace_view_both(found, due);
    if (rc < 0) {
        return rc;
    }
    bool good = found == 1 && (n.flags & PROTO_INODE_TRASH) != 0 && n.nlink == 0 &&
                n.uid == namespace_key_read_u32(c->key, 1);
    FSCK_WANT(c, good, "trash.stray", ino, "a record in the trash of what is not there");
    FSCK_WANT(c, due == 1, "trash.endless", ino, "it is in the trash, and never goes");
    return 0;
}

static int fsck_trash_expiry(struct fsck_check *c)
{
    struct namespace_trash t;
    struct namespace_inode n;
    uint64_t ino = fsck_id(c, 9);
    int rc = namespace_fsck_key_fits(c, 17, false) ? namespace_fsck_inode(c, ino, &n) : -EALREADY;
    c->next.trash_expiries++;
    if (rc == 1) {
        struct namespace_key key = namespace_key(NAMESPACE_TRASH);
        namespace_key_add_u32(&key, n.uid);
        namespace_key_add_u64(&key, ino);
        rc = FSCK_GET(c, &key, namespace_trash, &t);
    }
    FSCK_WANT(c, rc < 0 || (rc == 1 && (uint64_t)t.expiry_ns == fsck_id(c, 1)), "trash.expiry", ino,
              "an end of the time in the trash that nothing there has");
    return rc < 0 && rc != -EALREADY ? rc : 0;
}

int namespace_fsck_names_record(struct fsck_check *c, enum namespace_range range, bool *ret_known)
{
    static const struct {
        enum namespace_range range;
        int (*check)(struct fsck_check *c);
    } checks[] = {
        {NAMESPACE_DIRENT, fsck_dirent},      {NAMESPACE_ACL, fsck_acl},
        {NAMESPACE_INODE, fsck_inode_record}, {NAMESPACE_INLINE, fsck_inline},
        {NAMESPACE_LINK, fsck_link},          {NAMESPACE_QUOTA, fsck_quota},
        {NAMESPACE_DIR_STATS, fsck_stats},    {NAMESPACE_TRASH, fsck_trash},
        {NAMESPACE_XATTR, fsck_xattr},        {NAMESPACE_TRASH_EXPIRY, fsck_trash_expiry},
    };
    for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
        if (checks[i].range == range) {
            *ret_known = true;
            return checks[i].check(c);
        }
    }
    return 0;
}

int namespace_fsck_names_run_end(struct fsck_check *c, const struct namespace_fsck_run *run)
{
    return run->range == NAMESPACE_DIRENT  ? fsck_dirents_end(c, run)
           : run->range == NAMESPACE_LINK  ? fsck_links_end(c, run)
           : run->range == NAMESPACE_XATTR ? fsck_xattrs_end(c, run)
                                           : 0;
}
