#include "namespace/stats_priv.h"

#include "base/text.h"

/*
 * Quotas of directories: limits of what lies below one, at any depth. They bind everybody. What
 * would grow is refused when it goes beyond a hard limit, or beyond a soft one that has been
 * exceeded for longer than the grace time; what becomes less or moves within the directory never.
 *
 * Data that a writer has written already always counts and is never refused: that would lose it.
 * Writers are told how large the file may become, and ask again before they go beyond.
 */

void namespace_quota_accept(struct namespace_held *h)
{
    h->size_free = base_max(h->size_free, h->inode.size);
}

static int namespace_quota_get(const struct namespace_plan *p, uint64_t ino,
                               struct namespace_quota *ret)
{
    int rc = namespace_view_quota(&p->view, ino, ret);
    return rc == -ENOENT ? -EUCLEAN : rc; /* its statistics say that there is one */
}

/* Of files or of bytes. */
struct namespace_quota_part {
    uint64_t soft, hard, used, change, want;
    int64_t *since_ns;
};

/* Beyond which of its limits would it go? */
static enum namespace_limit namespace_quota_refuses(const struct namespace_plan *p,
                                                    const struct namespace_quota *q,
                                                    const struct namespace_quota_part *a,
                                                    enum namespace_limit hard)
{
    int64_t want = (int64_t)a->want, change = (int64_t)a->change;
    uint64_t after = a->used + (change > want ? a->change : a->want);
    if (want <= 0) {
        return NAMESPACE_LIMIT_NONE;
    }
    if (a->hard > 0 && after > a->hard) {
        return hard;
    }
    bool over = a->soft > 0 && after > a->soft;
    return over && namespace_quota_is_over(q, *a->since_ns, p->now_ns) ? hard + 1
                                                                       : NAMESPACE_LIMIT_NONE;
}

/* When did it begin to exceed its soft limit? */
static void namespace_quota_note(const struct namespace_plan *p,
                                 const struct namespace_quota_part *a)
{
    bool over = a->soft > 0 && a->used + a->change > a->soft;
    *a->since_ns = !over ? 0 : *a->since_ns != 0 ? *a->since_ns : p->now_ns;
}

/* Where a directory is, for people; from its end to its beginning. */
static int namespace_quota_path(const struct namespace_plan *p, uint64_t ino,
                                char out[NAMESPACE_PATH_SIZE])
{
    char path[NAMESPACE_PATH_SIZE];
    size_t at = sizeof path - 1;
    bool whole = true;
    path[at] = '\0';
    while (ino != PROTO_ROOT_INO && whole) {
        struct namespace_inode n;
        int rc = namespace_view_inode(&p->view, ino, &n);
        if (rc < 0) {
            return rc == -ENOENT ? -EUCLEAN : rc;
        }
        whole = n.name.len + 4 < at; /* with "/" and "..." in front */
        if (whole) {
            at -= n.name.len;
            memcpy(path + at, n.name.at, n.name.len);
            path[--at] = '/';
        }
        ino = n.parent;
    }
    if (path[at] == '\0') {
        path[--at] = '/';
    }
    for (char *c = path + at; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f) {
            *c = '?'; /* for a terminal */
        }
    }
    struct text t;
    text_init(&t, out, NAMESPACE_PATH_SIZE);
    text_add(&t, "%s%s", whole ? "" : "...", path + at);
    return 0;
}

static int namespace_quota_refuse(struct namespace_plan *p, uint64_t ino,
                                  const struct namespace_quota *q, enum namespace_limit limit)
{
    const uint64_t values[] = {0, q->bytes_hard, q->bytes_soft, q->files_hard, q->files_soft};
    struct namespace_refusal refusal = {.limit = limit, .value = values[limit]};
    int rc = namespace_quota_path(p, ino, refusal.path);
    if (rc < 0) {
        return rc;
    }
    p->reply->refusal = refusal;
    return -EDQUOT;
}

int namespace_quota_charge(struct namespace_plan *p, uint64_t ino,
                           const struct namespace_dir_stats *used, const struct namespace_charge *c)
{
    struct namespace_quota q;
    if ((c->files | c->bytes | c->want_files | c->want_bytes) == 0) {
        return 0;
    }
    int rc = namespace_quota_get(p, ino, &q);
    if (rc < 0) {
        return rc;
    }
    struct namespace_quota before = q;
    struct namespace_quota_part bytes = {.soft = q.bytes_soft,
                                         .hard = q.bytes_hard,
                                         .used = used->bytes,
                                         .change = c->bytes,
                                         .want = c->want_bytes,
                                         .since_ns = &q.bytes_since_ns};
    struct namespace_quota_part files = {.soft = q.files_soft,
                                         .hard = q.files_hard,
                                         .used = used->files + used->directories,
                                         .change = c->files,
                                         .want = c->want_files,
                                         .since_ns = &q.files_since_ns};
    enum namespace_limit limit = namespace_quota_refuses(p, &q, &bytes, NAMESPACE_LIMIT_BYTES_HARD);
    if (limit == NAMESPACE_LIMIT_NONE) {
        limit = namespace_quota_refuses(p, &q, &files, NAMESPACE_LIMIT_FILES_HARD);
    }
    if (limit != NAMESPACE_LIMIT_NONE) {
        return namespace_quota_refuse(p, ino, &q, limit);
    }
    namespace_quota_note(p, &bytes);
    namespace_quota_note(p, &files);
    bool same =
        before.bytes_since_ns == q.bytes_since_ns && before.files_since_ns == q.files_since_ns;
    struct namespace_key key = namespace_key_u64(NAMESPACE_QUOTA, ino);
    return same ? 0 : NAMESPACE_PUT(p, &key, namespace_quota, &q);
}

int namespace_quota_drop(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_QUOTA, ino);
    CHECK(p->state.quotas > 0);
    p->state.quotas--;
    return namespace_plan_delete(p, &key);
}

/* ---- what a writer may do ---- */

/* Every directory above counts `before` bytes of the file. */
static int namespace_quota_limit(struct namespace_plan *p, uint64_t ino,
                                 const struct namespace_dir_stats *used, uint64_t before,
                                 uint64_t *limit)
{
    struct namespace_quota q;
    int rc = namespace_quota_get(p, ino, &q);
    if (rc < 0) {
        return rc;
    }
    uint64_t own = UINT64_MAX;
    if (q.bytes_hard > 0) {
        uint64_t room = q.bytes_hard > used->bytes ? q.bytes_hard - used->bytes : 0;
        own = before + room;
    }
    bool late = q.bytes_soft > 0 && namespace_quota_is_over(&q, q.bytes_since_ns, p->now_ns);
    enum namespace_limit why =
        late && before < own ? NAMESPACE_LIMIT_BYTES_SOFT : NAMESPACE_LIMIT_BYTES_HARD;
    own = late ? base_min(own, before) : own;
    *limit = base_min(*limit, own);
    return p->want_size > own && p->want_size > before ? namespace_quota_refuse(p, ino, &q, why)
                                                       : 0;
}

static bool namespace_quota_has_writer(const struct namespace_plan *p)
{
    const struct namespace_result *r = &p->reply->result;
    bool opcode =
        r->opcode == PROTO_OP_create || r->opcode == PROTO_OP_wopen || r->opcode == PROTO_OP_commit;
    bool writes = (opcode && r->mode >= PROTO_OPEN_W) || r->opcode == PROTO_OP_append_turn;
    return writes && r->rc == 0 && r->ino != 0;
}

int namespace_quota_room(struct namespace_plan *p)
{
    struct namespace_held *h;
    uint64_t limit = UINT64_MAX;
    if (p->state.quotas == 0 || !namespace_quota_has_writer(p)) {
        return 0;
    }
    int rc = namespace_plan_inode(p, p->reply->result.ino, &h);
    if (rc < 0 || h->inode.nlink == 0) {
        return rc == -ENOENT ? 0 : rc; /* what has no name counts nowhere */
    }
    uint64_t before = h->nlink_before > 0 ? h->size_before : 0, ino = h->inode.parent;
    bool root = false;
    for (unsigned depth = 0; rc == 0 && !root && depth <= NAMESPACE_DEPTH_MAX; depth++) {
        struct namespace_dir_stats s = {0};
        rc = namespace_view_dir_stats(&p->view, ino, &s);
        if (rc == 0 && (s.flags & NAMESPACE_STATS_QUOTA) != 0) {
            rc = namespace_quota_limit(p, ino, &s, before, &limit);
        }
        root = ino == PROTO_ROOT_INO;
        ino = s.parent;
    }
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    p->reply->limited = limit != UINT64_MAX;
    p->reply->size_limit = p->reply->limited ? base_max(limit, h->inode.size) : 0;
    return 0;
}

/* ---- setting ---- */

static int namespace_quota_change(struct namespace_quota *q,
                                  const struct proto_set_quota_request *r)
{
    uint32_t known = (PROTO_QUOTA_CLEAR << 1) - 1;
    if ((r->mask & ~known) != 0 || r->mask == 0) {
        return -EINVAL;
    }
    if ((r->mask & PROTO_QUOTA_CLEAR) != 0) {
        *q = (struct namespace_quota){0};
    }
    if ((r->mask & PROTO_QUOTA_BYTES) != 0) {
        q->bytes_soft = r->bytes_soft;
        q->bytes_hard = r->bytes_hard;
    }
    if ((r->mask & PROTO_QUOTA_FILES) != 0) {
        q->files_soft = r->files_soft;
        q->files_hard = r->files_hard;
    }
    if ((r->mask & PROTO_QUOTA_GRACE) != 0) {
        q->grace_s = r->grace_s;
    }
    q->grace_s = q->grace_s == 0 ? NAMESPACE_GRACE_DEFAULT : q->grace_s;
    bool sound = (q->bytes_hard == 0 || q->bytes_soft <= q->bytes_hard) &&
                 (q->files_hard == 0 || q->files_soft <= q->files_hard);
    uint64_t largest =
        base_max(base_max(q->bytes_soft, q->bytes_hard), base_max(q->files_soft, q->files_hard));
    return sound && largest <= INT64_MAX && q->grace_s <= NAMESPACE_GRACE_MAX ? 0 : -EINVAL;
}

static int namespace_quota_store(struct namespace_plan *p, uint64_t ino,
                                 const struct namespace_dir_stats *used, struct namespace_quota *q)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_QUOTA, ino);
    struct namespace_quota_part bytes = {
        .soft = q->bytes_soft, .used = used->bytes, .since_ns = &q->bytes_since_ns};
    struct namespace_quota_part files = {.soft = q->files_soft,
                                         .used = used->files + used->directories,
                                         .since_ns = &q->files_since_ns};
    bool had = (used->flags & NAMESPACE_STATS_QUOTA) != 0;
    bool has = (q->bytes_soft | q->bytes_hard | q->files_soft | q->files_hard) != 0;
    namespace_quota_note(p, &bytes);
    namespace_quota_note(p, &files);
    int rc = 0;
    if (had && !has) {
        rc = namespace_quota_drop(p, ino);
    } else if (has) {
        p->state.quotas += had ? 0 : 1;
        rc = NAMESPACE_PUT(p, &key, namespace_quota, q);
    }
    if (rc == 0 && has != had) {
        uint64_t flag = NAMESPACE_STATS_QUOTA;
        rc = namespace_stats_add_flags(p, ino, has ? flag : 0 - flag);
    }
    return rc;
}

int namespace_set_quota(struct namespace_plan *p, const struct proto_set_quota_request *r)
{
    struct namespace_held *h;
    struct namespace_dir_stats used;
    struct namespace_quota q = {0};
    int rc = namespace_plan_inode(p, r->ino, &h);
    if (rc == 0 && !namespace_inode_is_dir(&h->inode)) {
        return -ENOTDIR;
    }
    if (rc == 0 && p->cred.uid != 0) {
        return -EPERM;
    }
    rc = rc < 0 ? rc : namespace_view_dir_stats(&p->view, r->ino, &used);
    if (rc == 0 && (used.flags & NAMESPACE_STATS_QUOTA) != 0) {
        rc = namespace_quota_get(p, r->ino, &q);
    }
    rc = rc < 0 ? rc : namespace_quota_change(&q, r);
    p->reply->result.ino = r->ino;
    return rc < 0 ? rc : namespace_quota_store(p, r->ino, &used, &q);
}
