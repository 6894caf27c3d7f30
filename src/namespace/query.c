#include "namespace/query.h"

#include <string.h>

/* What clients ask about names and files. */

static int namespace_query_inode(const struct namespace_view *v, const struct proto_caller *caller,
                                 uint64_t ino, struct namespace_cred *ret_cred,
                                 struct namespace_inode *ret)
{
    int a = namespace_view_cred(v, caller->session, caller->cred, ret_cred);
    int b = namespace_view_inode(v, ino, ret);
    return namespace_view_both(a, b);
}

static int namespace_query_dirent(const struct namespace_view *v, uint64_t parent,
                                  struct proto_bytes name, struct namespace_dirent *ret)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_DIRENT, parent, name);
    return NAMESPACE_GET(v, &key, namespace_dirent, ret);
}

/* Contents that are in the metadata: of an inline file, or where a symbolic link points. */
static int namespace_query_data(const struct namespace_view *v, uint64_t ino,
                                const struct namespace_inode *n, bool may, struct proto_bytes *ret,
                                bool *ret_has)
{
    *ret = proto_bytes_of(NULL, 0);
    *ret_has = false;
    if (n->type == PROTO_INODE_SYMLINK) {
        *ret = n->target;
        *ret_has = true;
        return 0;
    }
    if (!may || n->type != PROTO_INODE_FILE || (n->flags & PROTO_INODE_INLINE) == 0) {
        return 0;
    }
    struct namespace_key key = namespace_key_u64(NAMESPACE_INLINE, ino);
    struct kv_slice data;
    int rc = namespace_view_get_bytes(v, &key, &data);
    if (rc == 1) {
        *ret = proto_bytes_of(data.at, (size_t)base_min(data.len, n->size));
    }
    *ret_has = rc >= 0;
    return rc < 0 ? rc : 0;
}

/* Data comes along only for who may read it. 1, 0. */
static int namespace_may_read(const struct namespace_view *v, const struct namespace_cred *c,
                              uint64_t ino, const struct namespace_inode *n, uint32_t want)
{
    if ((want & PROTO_WANT_DATA) == 0) {
        return 0;
    }
    int rc = namespace_cred_check(v, c, ino, n, NAMESPACE_MAY_READ);
    return rc == 0 ? 1 : rc == -EACCES ? 0 : rc;
}

static int namespace_search(const struct namespace_view *v, const struct namespace_cred *c,
                            uint64_t ino, const struct namespace_inode *dir)
{
    return !namespace_inode_is_dir(dir) ? -ENOTDIR
                                        : namespace_cred_check(v, c, ino, dir, NAMESPACE_MAY_EXEC);
}

/* ".." is where a directory says that it is; "." itself. Else by name. 1, 0. */
static int namespace_step(const struct namespace_view *v, uint64_t ino,
                          const struct namespace_inode *dir, struct proto_bytes name, uint64_t *ret)
{
    struct namespace_dirent d;
    bool dot = name.len <= 2 && memcmp(name.at, "..", name.len) == 0;
    if (dot) {
        *ret = name.len == 1 ? ino : dir->parent;
        return 1;
    }
    int rc = namespace_query_dirent(v, ino, name, &d);
    *ret = rc == 1 ? d.ino : 0;
    return rc;
}

int namespace_lookup(const struct namespace_view *v, const struct proto_lookup_request *q,
                     struct proto_lookup_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode dir, n;
    uint64_t ino = 0;
    *ret = (struct proto_lookup_reply){0};
    int rc = namespace_query_inode(v, &q->caller, q->parent, &cred, &dir);
    rc = rc < 0 ? rc : namespace_search(v, &cred, q->parent, &dir);
    rc = rc < 0 ? rc : namespace_step(v, q->parent, &dir, q->name, &ino);
    if (rc <= 0) {
        ret->parent_version = rc == 0 ? dir.version : 0;
        return rc;
    }
    rc = namespace_view_inode(v, ino, &n);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    namespace_inode_attr(ino, &n, &ret->attr);
    namespace_inode_layout(&n, &ret->layout);
    ret->parent_version = dir.version;
    int may = namespace_may_read(v, &cred, ino, &n, q->want);
    return may < 0 ? may : namespace_query_data(v, ino, &n, may == 1, &ret->data, &ret->has_data);
}

/* One name further: `ino` and `n` are where the walk stands. 1: went on; 0: no such name. */
static int namespace_walk_step(const struct namespace_view *v, const struct namespace_cred *cred,
                               struct proto_bytes name, uint64_t *ino, struct namespace_inode *n,
                               struct proto_walk_step *ret)
{
    uint64_t next, parent_version = n->version;
    int rc = namespace_search(v, cred, *ino, n);
    rc = rc < 0 ? rc : namespace_step(v, *ino, n, name, &next);
    if (rc <= 0) {
        return rc;
    }
    rc = namespace_view_inode(v, next, n);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    *ino = next;
    *ret = (struct proto_walk_step){.parent_version = parent_version};
    namespace_inode_attr(next, n, &ret->attr);
    namespace_inode_layout(n, &ret->layout);
    return 1;
}

/* Failures of the path are told in the reply with what was found before; others are returned. */
static bool namespace_walk_ends(int rc)
{
    return rc == -ENOTDIR || rc == -EACCES || rc == -EUCLEAN;
}

int namespace_walk(const struct namespace_view *v, const struct proto_walk_request *q,
                   struct proto_walk_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    uint64_t ino = q->ino;
    *ret = (struct proto_walk_reply){0};
    int rc = namespace_query_inode(v, &q->caller, ino, &cred, &n);
    ret->steps.at = mem_arena_alloc(v->arena, (q->names.count + 1) * sizeof *ret->steps.at);
    if (rc < 0 || ret->steps.at == NULL) {
        return rc < 0 ? rc : -ENOMEM;
    }
    rc = 1;
    while (rc == 1 && ret->steps.count < q->names.count) {
        rc = namespace_walk_step(v, &cred, q->names.at[ret->steps.count].name, &ino, &n,
                                 &ret->steps.at[ret->steps.count]);
        ret->steps.count += rc == 1 ? 1 : 0;
    }
    if (rc < 0 && !namespace_walk_ends(rc)) {
        return rc;
    }
    ret->rc = rc == 0 ? -ENOENT : rc == 1 ? 0 : rc;
    int may = namespace_may_read(v, &cred, ino, &n, q->want);
    return may < 0 ? may : namespace_query_data(v, ino, &n, may == 1, &ret->data, &ret->has_data);
}

int namespace_getattr(const struct namespace_view *v, const struct proto_getattr_request *q,
                      struct proto_getattr_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_getattr_reply){0};
    int rc = namespace_query_inode(v, &q->caller, q->ino, &cred, &n);
    if (rc == 0) {
        namespace_inode_attr(q->ino, &n, &ret->attr);
        namespace_inode_layout(&n, &ret->layout);
        ret->parent = n.parent;
        int trims = n.tgen == 0 ? 0 : namespace_view_trimming(v, q->ino);
        ret->trimming = trims == 1;
        rc = trims < 0 ? trims : 0;
    }
    bool keeping = rc == 0 && (q->want & PROTO_WANT_RETENTION) != 0;
    return keeping ? namespace_query_keeping(v, q->ino, &n, ret) : rc;
}

int namespace_readlink(const struct namespace_view *v, const struct proto_readlink_request *q,
                       struct proto_readlink_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_readlink_reply){0};
    int rc = namespace_query_inode(v, &q->caller, q->ino, &cred, &n);
    if (rc < 0 || n.type != PROTO_INODE_SYMLINK) {
        return rc < 0 ? rc : -EINVAL;
    }
    ret->target = n.target;
    ret->version = n.version;
    return 0;
}

static uint32_t namespace_may_of(uint8_t rights)
{
    return ((rights & PROTO_RIGHT_READ) != 0 ? NAMESPACE_MAY_READ : 0) |
           ((rights & PROTO_RIGHT_WRITE) != 0 ? NAMESPACE_MAY_WRITE : 0) |
           ((rights & PROTO_RIGHT_EXEC) != 0 ? NAMESPACE_MAY_EXEC : 0);
}

int namespace_access(const struct namespace_view *v, const struct proto_access_request *q,
                     struct proto_access_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_access_reply){0};
    int rc = namespace_query_inode(v, &q->caller, q->ino, &cred, &n);
    return rc < 0 ? rc : namespace_cred_check(v, &cred, q->ino, &n, namespace_may_of(q->rights));
}

/* Who writes: the caller's own record wins, then anybody's. */
static int namespace_open_mode(const struct namespace_view *v, uint64_t ino, uint64_t session,
                               uint8_t *ret)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    bool own = false;
    *ret = PROTO_OPEN_R;
    int rc = namespace_scan_init(&scan, v, &prefix, NULL);
    while (rc == 0 && !own && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_wopen w;
        rc = namespace_scan_value(&scan, &namespace_wopen_type, &w);
        own = rc == 0 && namespace_key_read_u64(scan.it->key, 9) == session;
        *ret = own ? w.mode : PROTO_OPEN_S;
    }
    namespace_scan_fini(&scan);
    return rc;
}

static int namespace_check_open(const struct namespace_view *v, const struct namespace_cred *c,
                                const struct proto_open_request *q, const struct namespace_inode *n)
{
    uint8_t access = q->access;
    uint32_t may = namespace_may_of(access);
    may &= (access & PROTO_RIGHT_EXEC) != 0 ? ~NAMESPACE_MAY_READ : UINT32_MAX;
    if ((access & PROTO_RIGHT_WRITE) != 0 && namespace_inode_is_dir(n)) {
        return -EISDIR;
    }
    int rc = namespace_cred_check(v, c, q->ino, n, may);
    return rc == 0 && (access & PROTO_RIGHT_WRITE) != 0 ? namespace_check_append(n, q->append) : rc;
}

/* It goes when those have closed it who had it open: nobody else gets hold of it. */
static int namespace_check_nameless(const struct namespace_view *v,
                                    const struct proto_open_request *q)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_ORPHAN, q->ino, q->caller.session);
    struct namespace_orphan o;
    int rc = NAMESPACE_GET(v, &key, namespace_orphan, &o);
    return rc < 0 ? rc : rc == 0 ? -ESTALE : 0;
}

int namespace_open(const struct namespace_view *v, const struct proto_open_request *q,
                   struct proto_open_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_open_reply){0};
    int rc = namespace_query_inode(v, &q->caller, q->ino, &cred, &n);
    rc = rc < 0 ? rc : namespace_check_open(v, &cred, q, &n);
    rc = rc == 0 && n.nlink == 0 ? namespace_check_nameless(v, q) : rc;
    rc = rc < 0 ? rc : namespace_open_mode(v, q->ino, q->caller.session, &ret->mode);
    if (rc < 0) {
        return rc;
    }
    namespace_inode_attr(q->ino, &n, &ret->attr);
    namespace_inode_layout(&n, &ret->layout);
    ret->data_version = n.data_version;
    bool may = (q->want & PROTO_WANT_DATA) != 0 && (q->access & PROTO_RIGHT_READ) != 0;
    return namespace_query_data(v, q->ino, &n, may, &ret->data, &ret->has_data);
}

/* A file that was opened stays readable when its mode changes: sessions are trusted with that. */
int namespace_read_inline(const struct namespace_view *v, const struct proto_read_inline_request *q,
                          struct proto_read_inline_reply *ret)
{
    struct namespace_cred cred;
    struct namespace_inode n;
    *ret = (struct proto_read_inline_reply){0};
    int rc = namespace_query_inode(v, &q->caller, q->ino, &cred, &n);
    if (rc < 0 || n.type != PROTO_INODE_FILE) {
        return rc < 0 ? rc : -EINVAL;
    }
    ret->version = n.version;
    namespace_inode_layout(&n, &ret->layout);
    return namespace_query_data(v, q->ino, &n, true, &ret->data, &ret->has_data);
}

/* Does the session write the file, under that epoch? */
static int namespace_writes(const struct namespace_view *v, uint64_t ino, uint64_t session,
                            uint64_t cap_epoch)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    struct namespace_wopen w;
    int rc = NAMESPACE_GET(v, &key, namespace_wopen, &w);
    return rc < 0 ? rc : rc == 1 && w.cap_epoch == cap_epoch ? 1 : 0;
}

int namespace_capability(const struct namespace_view *v, const struct proto_caller *caller,
                         const struct proto_capability_want *want, struct proto_capability *ret)
{
    struct namespace_session session;
    struct namespace_state state;
    struct namespace_inode n = {0};
    *ret = (struct proto_capability){0};
    int a = namespace_view_session(v, caller->session, &session);
    int b = namespace_view_state(v, &state);
    a = namespace_view_both(a == -ENOENT ? -ERR_session_expired : a, b);
    b = namespace_view_inode(v, want->ino, &n);
    int rc = namespace_view_both(a, b == -ENOENT ? 0 : b);
    bool writes = (want->rights & PROTO_RIGHT_WRITE) != 0;
    int may = rc < 0   ? rc
              : writes ? namespace_writes(v, want->ino, caller->session, want->cap_epoch)
                       : 1;
    if (may <= 0 || n.data_id == 0) {
        return may < 0 ? may : 0;
    }
    ret->data_id = n.data_id;
    ret->last_data_id = n.data_id;
    ret->session = caller->session;
    ret->rights = want->rights;
    ret->cap_epoch = writes ? want->cap_epoch : state.cap_epoch;
    return 0;
}
