#include "namespace/plan_priv.h"

/*
 * Appending to a file that several write (coherence.md section 6.1): who has the turn writes behind
 * the end, through to the chains, and only then the size moves. The turn is in the record of the
 * writer, in the log, so that no leader gives the same end of a file to two of them. It goes with
 * that record: when the writer closes the file, or its session ends. What a dead one had written
 * behind the end is overwritten by the next, which is not told of its turn before the dead one is
 * shut out (L6, metanode/mutate.c).
 */

/* Has somebody else the turn, or data that nobody knows the end of? */
static int namespace_append_others(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        struct namespace_wopen w;
        uint64_t session = namespace_key_read_u64(scan.it->key, 9);
        rc = namespace_scan_value(&scan, &namespace_wopen_type, &w);
        bool waits = rc == 0 && session != p->session_id && (w.turn != 0 || w.unflushed);
        if (waits) {
            p->reply->holder = w.turn != 0 ? session : 0;
            rc = -ERR_busy;
        }
    }
    namespace_scan_fini(&scan);
    return rc;
}

int namespace_append_turn(struct namespace_plan *p, const struct proto_append_turn_request *r)
{
    struct namespace_held *h;
    struct namespace_wopen w;
    int rc = namespace_plan_inode(p, r->ino, &h);
    int own = namespace_wopen_get(p, r->ino, p->session_id, &w);
    rc = namespace_view_both(rc, own);
    if (rc < 0) {
        return rc;
    }
    if (own == 0 || w.cap_epoch != r->cap_epoch) {
        return -ESTALE;
    }
    if (w.mode != PROTO_OPEN_S || w.unflushed) {
        return -EINVAL; /* it writes alone: it knows the end, and nobody else does */
    }
    bool small = (h->inode.flags & PROTO_INODE_INLINE) != 0 && h->inode.size > 0;
    rc = namespace_append_others(p, r->ino);
    if (rc < 0 || small) {
        return rc < 0 ? rc : -EINVAL; /* small contents have one writer at a time */
    }
    w.turn = p->state.version;
    p->reply->result.ino = h->ino;
    p->reply->result.turn = w.turn;
    p->reply->result.end = h->inode.size;
    p->want_size = h->inode.size + base_min(r->wanted, INT64_MAX);
    return namespace_wopen_put(p, h->ino, p->session_id, &w);
}

int namespace_append_done(struct namespace_plan *p, const struct proto_append_done_request *r)
{
    struct namespace_wopen w;
    int own = namespace_wopen_get(p, r->ino, p->session_id, &w);
    if (own < 0) {
        return own;
    }
    if (own == 0 || w.cap_epoch != r->cap_epoch || w.turn == 0 || w.turn != r->turn) {
        return -ESTALE;
    }
    const struct proto_commit_request c = {.ino = r->ino,
                                           .cap_epoch = r->cap_epoch,
                                           .size = r->size,
                                           .mtime_ns = r->mtime_ns,
                                           .ctime_ns = r->mtime_ns,
                                           .flags = r->size > 0 ? PROTO_COMMIT_TIMES : 0,
                                           .allocated = r->size > 0 ? r->allocated : 0};
    int rc = namespace_commit(p, &c);
    w.turn = 0;
    w.torn = w.torn || r->size == 0; /* a part may be in chunks, of a write that failed */
    return rc < 0 ? rc : namespace_wopen_put(p, r->ino, p->session_id, &w);
}
