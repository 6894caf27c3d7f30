#include "namespace/view.h"

#include "namespace/known.h"

#include <string.h>

#define NAMESPACE_SCAN_AHEAD 256u /* most scans find few records: who else writes a file */
#define NAMESPACE_AHEAD_MAX 4096u

int namespace_view_get_bytes(const struct namespace_view *v, const struct namespace_key *key,
                             struct kv_slice *ret)
{
    return kv_get(v->snapshot, namespace_key_slice(key), v->need, ret);
}

int namespace_view_get(const struct namespace_view *v, const struct namespace_key *key,
                       const struct proto_type *type, void *ret)
{
    struct kv_slice value;
    int rc = namespace_view_get_bytes(v, key, &value);
    if (rc <= 0) {
        return rc;
    }
    rc = proto_decode(type, value.at, value.len, v->arena, ret);
    return rc < 0 ? rc : 1;
}

int namespace_scan_init(struct namespace_scan *s, const struct namespace_view *v,
                        const struct namespace_key *prefix, const struct namespace_key *from)
{
    return namespace_scan_init_long(s, v, prefix, from, NAMESPACE_SCAN_AHEAD);
}

int namespace_scan_init_long(struct namespace_scan *s, const struct namespace_view *v,
                             const struct namespace_key *prefix, const struct namespace_key *from,
                             size_t ahead)
{
    struct namespace_key end = namespace_key_end(prefix);
    struct kv_iter_options opt = {.lower = namespace_key_slice(prefix),
                                  .upper = namespace_key_slice(&end),
                                  .need = v->need,
                                  .ahead = (uint32_t)base_min(ahead, NAMESPACE_AHEAD_MAX)};
    *s = (struct namespace_scan){.view = v};
    s->from = from != NULL ? *from : *prefix;
    return kv_iter_new(v->snapshot, &opt, &s->it);
}

void namespace_scan_fini(struct namespace_scan *s)
{
    s->it = kv_iter_free(s->it);
}

int namespace_scan_next(struct namespace_scan *s)
{
    int rc = s->started ? kv_iter_next(s->it) : kv_iter_seek(s->it, namespace_key_slice(&s->from));
    s->started = s->started || rc >= 0;
    return rc;
}

int namespace_scan_value(const struct namespace_scan *s, const struct proto_type *type, void *ret)
{
    struct kv_slice value = s->it->value;
    return proto_decode(type, value.at, value.len, s->view->arena, ret);
}

int namespace_view_both(int a, int b)
{
    if (a == -ERR_need || b == -ERR_need) {
        return -ERR_need;
    }
    return a < 0 ? a : b < 0 ? b : 0;
}

int namespace_view_inode(const struct namespace_view *v, uint64_t ino, struct namespace_inode *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, ino);
    int rc = NAMESPACE_GET(v, &key, namespace_inode, ret);
    return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

int namespace_view_state(const struct namespace_view *v, struct namespace_state *ret)
{
    struct namespace_key key = namespace_key(NAMESPACE_STATE);
    int rc = NAMESPACE_GET(v, &key, namespace_state, ret);
    if (rc == 1 && ret->format != NAMESPACE_FORMAT) {
        return -ERR_bad_version;
    }
    return rc == 0 ? -ENXIO : rc < 0 ? rc : 0;
}

int namespace_view_class(const struct namespace_view *v, uint32_t class_id,
                         struct proto_storage_class *ret)
{
    int rc = 0;
    if (class_id == 0) {
        struct namespace_state state;
        rc = namespace_view_state(v, &state);
        class_id = rc == 0 ? state.default_class : 0;
    }
    struct namespace_key key = namespace_key(NAMESPACE_CLASS);
    namespace_key_add_u32(&key, class_id);
    rc = rc < 0 ? rc : NAMESPACE_GET(v, &key, proto_storage_class, ret);
    return rc == 0 ? -ENOENT : rc < 0 ? rc : 0;
}

uint32_t namespace_class_inline_limit(const struct proto_storage_class *c)
{
    uint32_t limit = c->inline_limit == 0 ? NAMESPACE_INLINE_DEFAULT : c->inline_limit;
    return limit > NAMESPACE_INLINE_MAX ? NAMESPACE_INLINE_MAX : limit;
}

void namespace_inode_attr(uint64_t ino, const struct namespace_inode *i, struct proto_attr *ret)
{
    *ret = (struct proto_attr){
        .ino = ino,
        .type = i->type,
        .mode = i->mode,
        .nlink = i->nlink,
        .uid = i->uid,
        .gid = i->gid,
        .rdev = i->rdev,
        .size = i->size,
        .allocated = i->allocated,
        .atime_ns = i->atime_ns,
        .mtime_ns = i->mtime_ns,
        .ctime_ns = i->ctime_ns,
        .btime_ns = i->btime_ns,
        .flags = i->flags,
        .generation = i->generation,
        .tgen = i->tgen,
        .version = i->version,
        .change = i->change,
    };
}

void namespace_inode_layout(const struct namespace_inode *i, struct proto_layout *ret)
{
    *ret = (struct proto_layout){
        .data_id = i->data_id,
        .chunk_size = i->chunk_size,
        .class_id = i->class_id,
        .table_version = i->table_version,
        .seed = i->seed,
        .stripe_width = i->stripe_width,
    };
}

int namespace_view_cred_of(const struct namespace_view *v, uint64_t session, uint32_t cred,
                           struct namespace_cred *ret)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_CRED, session);
    namespace_key_add_u32(&key, cred);
    int rc = NAMESPACE_GET(v, &key, namespace_cred, ret);
    return rc < 0 ? rc : rc == 0 ? -EPERM : 0;
}

int namespace_view_cred(const struct namespace_view *v, uint64_t session, uint32_t cred,
                        struct namespace_cred *ret)
{
    struct namespace_session s;
    if (v->known != NULL && v->known->session == session && v->known->cred == cred && cred != 0) {
        *ret = v->known->who;
        return 0;
    }
    struct namespace_key key = namespace_key_u64(NAMESPACE_SESSION, session);
    int have_session = NAMESPACE_GET(v, &key, namespace_session, &s);
    int rc = namespace_view_cred_of(v, session, cred, ret);
    if (have_session < 0 || rc == -ERR_need) {
        return namespace_view_both(have_session, rc);
    }
    return have_session == 0 ? -ERR_session_expired : rc;
}

int namespace_name_check(struct proto_bytes name)
{
    if (name.len > PROTO_NAME_MAX) {
        return -ENAMETOOLONG;
    }
    bool dots = (name.len == 1 && name.at[0] == '.') ||
                (name.len == 2 && name.at[0] == '.' && name.at[1] == '.');
    if (name.len == 0 || dots || memchr(name.at, '/', name.len) != NULL ||
        memchr(name.at, 0, name.len) != NULL) {
        return -EINVAL;
    }
    return 0;
}
