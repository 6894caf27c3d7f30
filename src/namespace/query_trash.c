#include "namespace/query.h"

#include <string.h>

/* How long what is removed from a directory is kept, and what is there. */

#define NAMESPACE_TRASH_PAGE 1024u
#define NAMESPACE_TRASH_PAGE_BYTES (512u << 10)
#define NAMESPACE_TRASH_LOOKS 4096u /* records that one page looks at */
#define NAMESPACE_TRASH_ENTRY_BYTES 256u

/* In front of what is there; what has no room for it shows that it is cut. */
static void namespace_keeping_add(struct namespace_keeping *k, struct proto_bytes name)
{
    if (k->cut || name.len + 1 > k->at - 3) {
        k->cut = true;
        return;
    }
    k->at -= name.len;
    memcpy(k->text + k->at, name.at, name.len);
    k->text[--k->at] = '/';
}

struct proto_bytes namespace_keeping_path(struct namespace_keeping *k)
{
    if (k->cut) {
        k->at -= 3;
        memcpy(k->text + k->at, "...", 3);
        k->cut = false;
    } else if (k->at == sizeof k->text) {
        k->text[--k->at] = '/';
    }
    return proto_bytes_of(k->text + k->at, sizeof k->text - k->at);
}

int namespace_view_keeping(const struct namespace_view *v, uint64_t ino,
                           struct namespace_keeping *ret)
{
    struct namespace_keeping *k = ret;
    bool said = false;
    k->keeps_s = 0;
    k->from = 0;
    k->at = sizeof k->text;
    k->cut = false;
    for (unsigned depth = 0; depth < NAMESPACE_DEPTH_MAX; depth++) {
        struct namespace_inode n;
        int rc = namespace_view_inode(v, ino, &n);
        if (rc < 0) {
            return rc == -ENOENT && depth > 0 ? -EUCLEAN : rc;
        }
        if (!said && n.retention_s != 0) {
            said = true;
            k->keeps_s = n.retention_s == PROTO_RETENTION_NONE ? 0 : n.retention_s;
            k->from = ino;
        }
        if (ino == PROTO_ROOT_INO || (said && k->keeps_s == 0)) {
            return 0;
        }
        namespace_keeping_add(k, n.name);
        ino = n.parent;
    }
    k->cut = true;
    return 0;
}

int namespace_query_keeping(const struct namespace_view *v, uint64_t ino,
                            const struct namespace_inode *n, struct proto_getattr_reply *ret)
{
    struct namespace_keeping k;
    int rc = namespace_view_keeping(v, namespace_inode_is_dir(n) ? ino : n->parent, &k);
    if (rc == 0) {
        ret->retention_s = n->retention_s;
        ret->keeps_s = k.keeps_s;
        ret->keeps_from = k.from;
    }
    return rc;
}

/* The leader's: when the first is due, and how much there is. */
int namespace_trash_first(const struct namespace_view *v, struct namespace_trash_due *ret)
{
    struct namespace_key prefix = namespace_key(NAMESPACE_TRASH_EXPIRY);
    struct namespace_state s;
    struct namespace_scan scan;
    *ret = (struct namespace_trash_due){0};
    int rc = namespace_view_state(v, &s);
    rc = rc < 0 ? rc : namespace_scan_init(&scan, v, &prefix, NULL);
    if (rc < 0) {
        return rc;
    }
    rc = namespace_scan_next(&scan);
    if (rc == 1) {
        ret->expiry_ns = (int64_t)namespace_key_read_u64(scan.it->key, 1);
        ret->files = s.trash_files;
    }
    ret->garbage = s.garbage;
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : 0;
}

static bool namespace_trash_below(struct proto_bytes path, struct proto_bytes top)
{
    bool root = top.len == 1 && top.at[0] == '/';
    if (top.len == 0 || root) {
        return true;
    }
    bool begins = path.len >= top.len && memcmp(path.at, top.at, top.len) == 0;
    return begins && (path.len == top.len || path.at[top.len] == '/');
}

struct namespace_trash_page {
    const struct proto_trash_list_request *q;
    struct proto_trash_list_reply *ret;
    size_t max, bytes;
};

static int namespace_trash_entry(const struct namespace_view *v, const struct namespace_trash *t,
                                 uint64_t ino, struct proto_trash_entry *e)
{
    struct namespace_inode n, dir;
    int rc = namespace_view_inode(v, ino, &n);
    int parent = namespace_view_inode(v, t->parent, &dir);
    *e = (struct proto_trash_entry){.parent = t->parent,
                                    .parent_gone = parent == -ENOENT,
                                    .since_ns = t->since_ns,
                                    .expiry_ns = t->expiry_ns,
                                    .by_uid = t->by_uid};
    rc = namespace_view_both(rc == -ENOENT ? -EUCLEAN : rc, parent == -ENOENT ? 0 : parent);
    if (rc < 0) {
        return rc;
    }
    namespace_inode_attr(ino, &n, &e->attr);
    const uint8_t *name = mem_arena_dup(v->arena, t->name.at, t->name.len);
    const uint8_t *path = mem_arena_dup(v->arena, t->path.at, t->path.len);
    if (name == NULL || path == NULL) {
        return -ENOMEM;
    }
    e->name = proto_bytes_of(name, t->name.len); /* a value is lent until the walk goes on */
    e->path = proto_bytes_of(path, t->path.len);
    return 0;
}

/* 1: goes on; 0: the page is full, and ends before this one. */
static int namespace_trash_add(const struct namespace_view *v, struct namespace_trash_page *pg,
                               const struct namespace_scan *scan)
{
    struct proto_trash_entry_list *l = &pg->ret->entries;
    struct namespace_trash t;
    int rc = namespace_scan_value(scan, &namespace_trash_type, &t);
    if (rc < 0) {
        return rc;
    }
    bool wanted = (pg->q->parent == 0 || pg->q->parent == t.parent) &&
                  namespace_trash_below(t.path, pg->q->path);
    size_t bytes = NAMESPACE_TRASH_ENTRY_BYTES + t.name.len + t.path.len;
    if (!wanted) {
        return 1;
    }
    if (l->count >= pg->max || pg->bytes + bytes > NAMESPACE_TRASH_PAGE_BYTES) {
        return 0;
    }
    rc = namespace_trash_entry(v, &t, namespace_key_read_u64(scan->it->key, 5), &l->at[l->count]);
    l->count += rc == 0 ? 1 : 0;
    pg->bytes += bytes;
    return rc < 0 ? rc : 1;
}

/* Goes on after a missing record, so that one fetch brings all. */
static int namespace_trash_fill(const struct namespace_view *v, struct namespace_trash_page *pg)
{
    struct namespace_key prefix = namespace_key(NAMESPACE_TRASH), from = prefix;
    struct namespace_scan scan;
    bool needs = false;
    if (pg->q->owner != PROTO_TRASH_ANYBODY) {
        namespace_key_add_u32(&prefix, pg->q->owner);
    }
    bool other = pg->q->owner != PROTO_TRASH_ANYBODY && pg->q->after_owner != pg->q->owner;
    namespace_key_add_u32(&from, pg->q->after_owner);
    namespace_key_add_u64(&from, pg->q->after_ino + 1);
    bool start = pg->q->after_ino == 0 || pg->q->after_ino == UINT64_MAX || other;
    int rc = namespace_scan_init_long(&scan, v, &prefix, start ? NULL : &from, pg->max + 1);
    for (unsigned i = 0; rc == 0 && (rc = namespace_scan_next(&scan)) == 1; i++) {
        rc = i < NAMESPACE_TRASH_LOOKS ? namespace_trash_add(v, pg, &scan) : 0;
        needs = needs || rc == -ERR_need;
        if (rc == 0) {
            pg->ret->more = true;
            break;
        }
        pg->ret->next_owner = namespace_key_read_u32(scan.it->key, 1);
        pg->ret->next_ino = namespace_key_read_u64(scan.it->key, 5);
        rc = rc == 1 || rc == -ERR_need ? 0 : rc;
    }
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : needs ? -ERR_need : 0;
}

int namespace_trash_list(const struct namespace_view *v, const struct proto_trash_list_request *q,
                         struct proto_trash_list_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_trash_page pg = {.q = q, .ret = ret, .max = NAMESPACE_TRASH_PAGE};
    *ret = (struct proto_trash_list_reply){0};
    int rc = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    if (rc < 0) {
        return rc;
    }
    if (cred.uid != 0 && q->owner != cred.uid) {
        return -EPERM;
    }
    if (q->max > 0 && q->max < pg.max) {
        pg.max = q->max;
    }
    ret->entries.at = mem_arena_alloc(v->arena, pg.max * sizeof *ret->entries.at);
    return ret->entries.at == NULL ? -ENOMEM : namespace_trash_fill(v, &pg);
}
