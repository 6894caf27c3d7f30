#include "namespace/query.h"

#include <string.h>

/* Pages of a directory, in byte order of names. */

#define NAMESPACE_PAGE_ENTRIES 8192u
#define NAMESPACE_PAGE_BYTES 262144u
#define NAMESPACE_ENTRY_BYTES 32u /* lengths, number, type and flags of one on the wire */
#define NAMESPACE_ATTR_BYTES 160u

struct namespace_page {
    const struct proto_readdir_request *q;
    struct proto_readdir_reply *ret;
    size_t max_entries, max_bytes, bytes, capacity;
    struct namespace_scan inodes; /* of this directory they are neighbours, mostly in order */
};

static bool namespace_page_full(const struct namespace_page *pg, size_t name_len)
{
    size_t bytes = NAMESPACE_ENTRY_BYTES + NAMESPACE_ATTR_BYTES + name_len;
    return pg->ret->entries.count > 0 &&
           (pg->ret->entries.count >= pg->max_entries || pg->bytes + bytes > pg->max_bytes);
}

static int namespace_page_room(const struct namespace_view *v, struct namespace_page *pg)
{
    struct proto_dirent_list *l = &pg->ret->entries;
    if (l->count < pg->capacity) {
        return 0;
    }
    size_t capacity = pg->capacity == 0 ? 64 : 4 * pg->capacity;
    struct proto_dirent *at = mem_arena_alloc(v->arena, capacity * sizeof *at);
    if (at == NULL) {
        return -ENOMEM;
    }
    if (l->count > 0) {
        memcpy(at, l->at, l->count * sizeof *at);
    }
    l->at = at;
    pg->capacity = capacity;
    return 0;
}

static bool namespace_page_at(const struct namespace_page *pg, const struct namespace_key *key)
{
    struct kv_slice at = pg->inodes.it->key;
    return at.len == key->len && memcmp(at.at, key->bytes, key->len) == 0;
}

/* Where the walk over the inodes stands, or one further, or it is looked for. */
static int namespace_page_inode(struct namespace_page *pg, uint64_t ino,
                                struct namespace_inode *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, ino);
    struct kv_iter *it = pg->inodes.it;
    int rc = it->key.len == 0 || namespace_page_at(pg, &key) ? 1 : kv_iter_next(it);
    if (rc == 0 || (rc == 1 && (it->key.len == 0 || !namespace_page_at(pg, &key)))) {
        rc = kv_iter_seek(it, namespace_key_slice(&key));
    }
    if (rc < 0) {
        return rc;
    }
    return rc == 1 && namespace_page_at(pg, &key)
               ? namespace_scan_value(&pg->inodes, &namespace_inode_type, ret)
               : -ENOENT;
}

/* Attributes that the directory's own grant covers, or that were asked for at this moment only. */
static int namespace_page_attr(struct namespace_page *pg, struct proto_dirent *e)
{
    struct namespace_inode n;
    int rc = namespace_page_inode(pg, e->ino, &n);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    namespace_inode_attr(e->ino, &n, &e->attr);
    e->has_attr = true;
    e->is_covered = !namespace_inode_is_dir(&n) && (n.flags & PROTO_INODE_LINKED) == 0;
    return 0;
}

static int namespace_page_add(const struct namespace_view *v, struct namespace_page *pg,
                              const struct namespace_scan *scan, size_t prefix)
{
    struct namespace_dirent d;
    const uint8_t *name = (const uint8_t *)scan->it->key.at + prefix;
    size_t len = scan->it->key.len - prefix;
    int rc = namespace_scan_value(scan, &namespace_dirent_type, &d);
    rc = rc < 0 ? rc : namespace_page_room(v, pg);
    if (rc < 0) {
        return rc;
    }
    struct proto_dirent e = {.ino = d.ino, .type = d.type};
    uint8_t *copy = mem_arena_dup(v->arena, name, len); /* a key is lent until the walk goes on */
    if (copy == NULL) {
        return -ENOMEM;
    }
    e.name = proto_bytes_of(copy, len);
    rc = pg->q->want_attr ? namespace_page_attr(pg, &e) : 0;
    pg->bytes += NAMESPACE_ENTRY_BYTES + NAMESPACE_ATTR_BYTES + len;
    pg->ret->entries.at[pg->ret->entries.count++] = e;
    return rc;
}

/* Goes on after a missing attribute, so that one fetch brings them all. */
static int namespace_page_fill(const struct namespace_view *v, struct namespace_page *pg)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_DIRENT, pg->q->ino);
    struct namespace_key from = namespace_key_name(NAMESPACE_DIRENT, pg->q->ino, pg->q->after);
    struct namespace_scan scan;
    bool needs = false;
    if (pg->q->after.len > 0) {
        namespace_key_add_bytes(&from, proto_bytes_of("", 1)); /* the next possible name */
    }
    struct namespace_key all = namespace_key(NAMESPACE_INODE);
    size_t fit = pg->max_bytes / (NAMESPACE_ENTRY_BYTES + NAMESPACE_ATTR_BYTES) + 1;
    size_t ahead = base_min(fit, pg->max_entries) + 1; /* the one that does not fit is looked at */
    int rc = namespace_scan_init_long(&scan, v, &prefix, &from, ahead);
    rc = rc < 0 ? rc : namespace_scan_init_long(&pg->inodes, v, &all, NULL, 0);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        if (namespace_page_full(pg, scan.it->key.len - prefix.len)) {
            break;
        }
        rc = namespace_page_add(v, pg, &scan, prefix.len);
        needs = needs || rc == -ERR_need;
        rc = rc == -ERR_need ? 0 : rc;
    }
    namespace_scan_fini(&scan);
    namespace_scan_fini(&pg->inodes);
    pg->ret->eof = rc == 0;
    return rc < 0 ? rc : needs ? -ERR_need : 0;
}

static size_t namespace_page_limit(uint32_t wanted, size_t limit)
{
    return wanted == 0 ? limit : (size_t)base_min(wanted, limit);
}

int namespace_readdir(const struct namespace_view *v, const struct proto_readdir_request *q,
                      struct proto_readdir_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode dir;
    struct namespace_page pg = {
        .q = q,
        .ret = ret,
        .max_entries = namespace_page_limit(q->max_entries, NAMESPACE_PAGE_ENTRIES),
        .max_bytes = namespace_page_limit(q->max_bytes, NAMESPACE_PAGE_BYTES),
    };
    *ret = (struct proto_readdir_reply){0};
    int a = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    int b = namespace_view_inode(v, q->ino, &dir);
    int rc = namespace_view_both(a, b);
    if (rc == 0 && !namespace_inode_is_dir(&dir)) {
        return -ENOTDIR;
    }
    rc = rc < 0 ? rc : namespace_cred_check(v, &cred, q->ino, &dir, NAMESPACE_MAY_READ);
    if (rc < 0) {
        return rc;
    }
    ret->version = dir.version;
    return namespace_page_fill(v, &pg);
}
