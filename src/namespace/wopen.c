#include "namespace/plan_priv.h"

#include "namespace/stats_priv.h"

/*
 * Write authority (coherence.md section 6): a record for each session that may have unflushed data
 * of a file. W: only one; S: all write through. The size of the file in the inode is what was
 * committed; a session that dies leaves a trim behind it.
 */

int namespace_wopen_get(struct namespace_plan *p, uint64_t ino, uint64_t session,
                        struct namespace_wopen *ret)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    return NAMESPACE_GET(&p->view, &key, namespace_wopen, ret);
}

int namespace_wopen_put(struct namespace_plan *p, uint64_t ino, uint64_t session,
                        const struct namespace_wopen *w)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    return NAMESPACE_PUT(p, &key, namespace_wopen, w);
}

int namespace_wopen_drop(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    struct namespace_key back = namespace_key_u64s(NAMESPACE_SESSION_WOPEN, session, ino);
    int rc = namespace_plan_delete(p, &key);
    namespace_plan_oblige(p, session, -1);
    return rc < 0 ? rc : namespace_plan_delete(p, &back);
}

/* All others share from now on. Returns how many there are. Who wrote alone until now may have what
 * nobody else sees: its record says so until it has returned W (coherence.md 6.3). The record is in
 * the log, so that a leader that has just begun tells the next one to wait, too. */
static int namespace_wopen_share(struct namespace_plan *p, uint64_t ino, bool try_only)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    int others = 0;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_wopen w;
        uint64_t session = namespace_key_read_u64(scan.it->key, 9);
        rc = namespace_scan_value(&scan, &namespace_wopen_type, &w);
        if (rc < 0 || session == p->session_id) {
            continue;
        }
        others++;
        if (w.mode == PROTO_OPEN_W && !try_only) {
            w.mode = PROTO_OPEN_S;
            w.unflushed = true;
            rc = namespace_wopen_put(p, ino, session, &w);
        }
        p->reply->result.shared_now = p->reply->result.shared_now && !w.unflushed;
    }
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : others;
}

/* Nobody may write while a dead session still can, or before what it, or a truncation, left behind
 * the recorded size is cut (coherence.md L6): a chunk that has this truncate generation counts as
 * cut, and writes with it would pass for trimmed, with the old bytes around them. */
static int namespace_wopen_check_new(struct namespace_plan *p, const struct namespace_held *h)
{
    int rc = namespace_view_trimming(&p->view, h->ino);
    rc = rc == 1 ? -ERR_busy : rc;
    if (rc == 0 && h->inode.nlink == 0 && h->version_before != 0) {
        rc = namespace_orphan_get(p, h->ino, p->session_id);
        rc = rc == 0 ? -ESTALE : rc; /* it would go while this session writes */
    }
    return rc < 0 ? rc : namespace_plan_check_obligations(p);
}

/* Small contents are in the memory of who writes: two such copies would overwrite each other, so
 * that of several writers one after the other acts alone. It puts them into chunks when it is asked
 * to give that back, if it can, and from then on all share. */
static int namespace_wopen_takes_turn(struct namespace_plan *p, const struct namespace_held *h)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INLINE, h->ino);
    struct kv_slice data;
    if ((h->inode.flags & PROTO_INODE_INLINE) == 0) {
        return 0;
    }
    return namespace_view_get_bytes(&p->view, &key, &data);
}

int namespace_wopen_grant(struct namespace_plan *p, struct namespace_held *h, bool try_only)
{
    struct namespace_wopen w = {0};
    struct namespace_result *result = &p->reply->result;
    int fenced = namespace_view_fenced(&p->view, h->ino);
    int own = namespace_wopen_get(p, h->ino, p->session_id, &w);
    int rc = namespace_view_both(own < 0 ? own : 0, fenced < 0 ? fenced : 0);
    rc = rc == 0 && own == 0 ? namespace_wopen_check_new(p, h) : rc;
    result->shared_now = fenced != 1;
    int others = rc < 0 ? rc : namespace_wopen_share(p, h->ino, try_only);
    if (others < 0) {
        return others;
    }
    bool in_line = (h->inode.flags & PROTO_INODE_INLINE) != 0;
    /* Torn: one that shared it is dead, and its fence may still be on its way. */
    bool wrote = own == 1 && w.mode == PROTO_OPEN_W; /* readers had it recalled, or came before */
    bool readers = p->command->readers && !wrote;
    bool alone = others == 0 && fenced == 0 && (in_line || !w.torn) && !readers;
    if (!alone && try_only) {
        return -EAGAIN;
    }
    int turn = !alone && result->shared_now ? namespace_wopen_takes_turn(p, h) : 0;
    if (turn < 0) {
        return turn;
    }
    w.mode = alone ? PROTO_OPEN_W : PROTO_OPEN_S;
    w.unflushed = !alone && (w.unflushed || turn == 1);
    if (own == 0) {
        struct namespace_key back =
            namespace_key_u64s(NAMESPACE_SESSION_WOPEN, p->session_id, h->ino);
        w.cap_epoch = ++p->state.cap_epoch;
        namespace_plan_oblige(p, p->session_id, 1);
        rc = namespace_plan_put_empty(p, &back);
    }
    result->ino = h->ino;
    result->mode = w.unflushed ? PROTO_OPEN_W : w.mode; /* until it is recalled, again perhaps */
    result->cap_epoch = w.cap_epoch;
    rc = rc < 0 ? rc : namespace_wopen_put(p, h->ino, p->session_id, &w);
    return rc < 0 ? rc : namespace_give_data_id(p, h);
}

int namespace_wopen(struct namespace_plan *p, const struct proto_wopen_request *r)
{
    struct namespace_held *h;
    struct namespace_wopen w;
    int rc = namespace_plan_inode(p, r->ino, &h);
    if (rc < 0) {
        return rc;
    }
    if (h->inode.type != PROTO_INODE_FILE) {
        return namespace_inode_is_dir(&h->inode) ? -EISDIR : -EINVAL;
    }
    p->want_size = r->want_size;
    rc = namespace_wopen_get(p, r->ino, p->session_id, &w); /* who writes goes on */
    rc = rc == 0 ? namespace_plan_may_open(p, h, r->append) : rc;
    return rc < 0 ? rc : namespace_wopen_grant(p, h, r->try_only);
}

/* Whole new inline contents, or more at their end. */
static int namespace_commit_inline(struct namespace_plan *p, struct namespace_held *h,
                                   const struct proto_commit_request *r, bool shares)
{
    struct proto_storage_class class = {0};
    struct namespace_key key = namespace_key_u64(NAMESPACE_INLINE, h->ino);
    struct kv_slice old = {0};
    bool append = (r->flags & PROTO_COMMIT_APPEND) != 0;
    if ((h->inode.flags & PROTO_INODE_INLINE) == 0) {
        return -EINVAL; /* its contents are in chunks */
    }
    if (shares && !append && r->data_version != h->inode.data_version) {
        return -EAGAIN; /* another one wrote: read again and merge */
    }
    int rc = namespace_plan_class(p, h->inode.class_id, &class);
    rc = rc == -ENOENT ? 0 : rc;
    rc = rc == 0 && append ? namespace_view_get_bytes(&p->view, &key, &old) : rc;
    if (rc < 0) {
        return rc;
    }
    uint64_t start = append ? h->inode.size : 0, size = start + r->data.len;
    if (size > namespace_class_inline_limit(&class)) {
        return -EFBIG;
    }
    uint8_t *bytes = mem_arena_alloc(p->view.arena, (size_t)size + 1);
    if (bytes == NULL) {
        return -ENOMEM;
    }
    memset(bytes, 0, (size_t)size);
    if (old.len > 0) {
        memcpy(bytes, old.at, (size_t)base_min(old.len, start));
    }
    if (r->data.len > 0) {
        memcpy(bytes + start, r->data.at, r->data.len);
    }
    bool exact = !shares && !append;
    namespace_set_size(p, h, exact ? base_max(size, r->size) : base_max(h->inode.size, size));
    if (size == 0) {
        return namespace_plan_delete(p, &key);
    }
    return kv_batch_put(p->batch, namespace_key_slice(&key), kv_slice_of(bytes, (size_t)size));
}

/* Data went to chunks: size grows, never shrinks (truncation is setattr), inline contents end. */
static int namespace_commit_chunks(struct namespace_plan *p, struct namespace_held *h,
                                   const struct proto_commit_request *r)
{
    struct namespace_inode *n = &h->inode;
    bool written = r->size > n->size || r->allocated > 0;
    int rc = namespace_check_trim(p, h, r->size);
    if (rc < 0) {
        return rc;
    }
    if (written && n->data_id == 0) {
        return -ENOSPC; /* there is no storage class: nothing can be outside the metadata */
    }
    if (written && (n->flags & PROTO_INODE_INLINE) != 0) {
        struct namespace_key key = namespace_key_u64(NAMESPACE_INLINE, h->ino);
        n->flags &= ~PROTO_INODE_INLINE;
        rc = namespace_plan_delete(p, &key);
    }
    namespace_set_size(p, h, base_max(n->size, r->size));
    n->allocated = r->allocated > 0 ? r->allocated : n->allocated;
    return rc;
}

static void namespace_commit_times(const struct namespace_plan *p, struct namespace_inode *n,
                                   const struct proto_commit_request *r, bool written)
{
    if ((r->flags & PROTO_COMMIT_TIMES) != 0) {
        n->mtime_ns = r->mtime_ns;
        n->ctime_ns = r->ctime_ns > n->ctime_ns ? r->ctime_ns : n->ctime_ns;
    } else if (written && (r->flags & PROTO_COMMIT_TOLD) == 0) {
        n->mtime_ns = p->now_ns;
        n->ctime_ns = p->now_ns;
    }
}

int namespace_wopen_pass_torn(struct namespace_plan *p, uint64_t ino, uint64_t session, bool torn)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    int others = 0;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_wopen w;
        uint64_t other = namespace_key_read_u64(scan.it->key, 9);
        rc = namespace_scan_value(&scan, &namespace_wopen_type, &w);
        if (rc < 0 || other == session) {
            continue;
        }
        others++;
        if (torn && !w.torn) {
            w.torn = true;
            rc = namespace_wopen_put(p, ino, other, &w);
        }
    }
    namespace_scan_fini(&scan);
    return rc < 0 ? rc : others;
}

/*
 * A writer lets go of a file whose contents are inline. It, or one before it, may have failed to
 * bring them, and more, into chunks: some of it is there, and must not show when a later writer
 * succeeds. Or one that shared the file is dead. Of several the last one leaves the trim: it would
 * cut what others write now.
 */
static int namespace_wopen_tidy(struct namespace_plan *p, struct namespace_held *h, bool torn)
{
    bool in_line = (h->inode.flags & PROTO_INODE_INLINE) != 0;
    int others = torn ? namespace_wopen_pass_torn(p, h->ino, p->session_id, true) : 1;
    if (others != 0) {
        return others < 0 ? others : 0;
    }
    return in_line ? namespace_queue_trim(p, h, 0, 0)
                   : namespace_queue_trim(p, h, h->inode.size, p->state.cap_epoch);
}

/*
 * The writer is done. A file that stayed inline for the whole tenure of its only writer has nothing
 * in chunks: it gives its data id up, so that removing it later asks no data node.
 */
static int namespace_commit_release(struct namespace_plan *p, struct namespace_held *h,
                                    const struct proto_commit_request *r,
                                    const struct namespace_wopen *w)
{
    bool torn = (r->flags & PROTO_COMMIT_TORN) != 0 || w->torn;
    bool in_line = (h->inode.flags & PROTO_INODE_INLINE) != 0 && h->inode.tgen == 0;
    if (in_line && w->mode == PROTO_OPEN_W && !torn && (r->flags & PROTO_COMMIT_HAS_DATA) != 0) {
        h->inode.data_id = 0;
        h->dirty = true;
    }
    int rc = namespace_wopen_tidy(p, h, torn);
    return rc < 0 ? rc : namespace_wopen_drop(p, h->ino, p->session_id);
}

int namespace_commit(struct namespace_plan *p, const struct proto_commit_request *r)
{
    struct namespace_held *h;
    struct namespace_wopen w;
    uint32_t known = (PROTO_COMMIT_OUTSIDER << 1) - 1;
    if ((r->flags & ~known) != 0 || r->size > INT64_MAX) {
        return -EINVAL;
    }
    int rc = namespace_plan_inode(p, r->ino, &h);
    int own = namespace_wopen_get(p, r->ino, p->session_id, &w);
    rc = namespace_view_both(rc, own);
    if (rc < 0) {
        return rc;
    }
    if (own == 0 || w.cap_epoch != r->cap_epoch) {
        return -ESTALE; /* a late copy of an earlier tenure */
    }
    bool has_data = (r->flags & (PROTO_COMMIT_HAS_DATA | PROTO_COMMIT_APPEND)) != 0;
    bool timed = (r->flags & PROTO_COMMIT_TIMES) != 0;
    bool written = has_data || r->size > h->inode.size || r->allocated > 0;
    bool shares = w.mode == PROTO_OPEN_S && !w.unflushed; /* until then what it did alone counts */
    rc = has_data ? namespace_commit_inline(p, h, r, shares) : namespace_commit_chunks(p, h, r);
    if (rc < 0) {
        return rc;
    }
    namespace_quota_accept(h); /* what was written is never refused */
    p->reply->result.ino = h->ino;
    p->reply->result.mode = w.mode;
    p->reply->result.cap_epoch = w.cap_epoch;
    if (written || timed) {
        namespace_commit_times(p, &h->inode, r, written);
        namespace_plan_touch(p, h);
    }
    bool kill = (r->flags & PROTO_COMMIT_KILL_PRIV) != 0;
    if (kill) {
        bool outsider = (r->flags & PROTO_COMMIT_OUTSIDER) != 0;
        namespace_drop_set_ids(p, &h->inode);
        h->inode.mode &= outsider ? ~02000U : ~0U;
    }
    if (written || kill) {
        rc = namespace_kill_priv(p, h);
    }
    if (written) {
        h->inode.data_version = p->state.version;
    }
    if (rc < 0) {
        return rc;
    }
    bool release = (r->flags & PROTO_COMMIT_RELEASE) != 0;
    return release ? namespace_commit_release(p, h, r, &w) : 0;
}

static bool namespace_returns_keep(const struct proto_lease_return_request *r)
{
    bool keep = false;
    for (size_t i = 0; i < r->keep.count && !keep; i++) {
        keep = r->keep.at[i] == r->ino;
    }
    return keep;
}

/* W goes back with the last word on size and times; who still has the file open shares it. */
int namespace_lease_return(struct namespace_plan *p, const struct proto_lease_return_request *r)
{
    struct namespace_held *h;
    struct namespace_wopen w;
    if (!r->has_final) {
        return 0; /* read grants are in the leader's memory */
    }
    if (r->size > INT64_MAX) {
        return -EINVAL;
    }
    int rc = namespace_plan_inode(p, r->ino, &h);
    int own = namespace_wopen_get(p, r->ino, p->session_id, &w);
    rc = namespace_view_both(rc, own);
    if (rc < 0) {
        return rc;
    }
    if (own == 0 || w.cap_epoch != r->cap_epoch) {
        return -ESTALE;
    }
    struct proto_commit_request c = {.size = r->size,
                                     .mtime_ns = r->mtime_ns,
                                     .ctime_ns = r->ctime_ns,
                                     .flags = r->told ? PROTO_COMMIT_TOLD : PROTO_COMMIT_TIMES};
    bool written = r->size > h->inode.size || (!r->told && r->mtime_ns != h->inode.mtime_ns);
    rc = namespace_commit_chunks(p, h, &c);
    rc = rc == 0 && written ? namespace_kill_priv(p, h) : rc;
    if (rc < 0) {
        return rc;
    }
    namespace_quota_accept(h);
    namespace_commit_times(p, &h->inode, &c, true);
    h->inode.atime_ns = r->atime_ns > h->inode.atime_ns ? r->atime_ns : h->inode.atime_ns;
    h->inode.data_version = p->state.version;
    namespace_plan_touch(p, h);
    p->reply->result.ino = h->ino;
    w.torn = w.torn || r->torn;
    if (!namespace_returns_keep(r)) {
        rc = namespace_wopen_tidy(p, h, w.torn);
        return rc < 0 ? rc : namespace_wopen_drop(p, h->ino, p->session_id);
    }
    w.mode = PROTO_OPEN_S;
    w.unflushed = false;
    return namespace_wopen_put(p, h->ino, p->session_id, &w);
}
