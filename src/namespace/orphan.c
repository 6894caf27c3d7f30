#include "namespace/plan_priv.h"

/* Unlinked but open (coherence.md section 7): an inode without a name lives while a session has an
 * orphan record of it, and not longer. */

int namespace_orphan_get(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_ORPHAN, ino, session);
    struct namespace_orphan o;
    return NAMESPACE_GET(&p->view, &key, namespace_orphan, &o);
}

/* 1; 0 when the session does not exist any more. There must be no such record yet. */
int namespace_orphan_add(struct namespace_plan *p, uint64_t ino, uint64_t session, bool maybe)
{
    struct namespace_key owner = namespace_key_u64(NAMESPACE_SESSION, session);
    struct namespace_key key = namespace_key_u64s(NAMESPACE_ORPHAN, ino, session);
    struct namespace_key back = namespace_key_u64s(NAMESPACE_SESSION_ORPHAN, session, ino);
    struct namespace_session s;
    struct namespace_orphan o = {.maybe = maybe};
    int rc = NAMESPACE_GET(&p->view, &owner, namespace_session, &s);
    if (rc <= 0) {
        return rc;
    }
    namespace_plan_oblige(p, session, 1);
    rc = NAMESPACE_PUT(p, &key, namespace_orphan, &o);
    rc = rc < 0 ? rc : namespace_plan_put_empty(p, &back);
    return rc < 0 ? rc : 1;
}

static int namespace_orphan_delete(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_ORPHAN, ino, session);
    struct namespace_key back = namespace_key_u64s(NAMESPACE_SESSION_ORPHAN, session, ino);
    int rc = namespace_plan_delete(p, &key);
    namespace_plan_oblige(p, session, -1);
    return rc < 0 ? rc : namespace_plan_delete(p, &back);
}

/* Does a session other than this one keep it? */
int namespace_orphan_others(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_ORPHAN, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    rc = rc < 0 ? rc : namespace_scan_next(&scan);
    if (rc == 1 && namespace_key_read_u64(scan.it->key, 9) == session) {
        rc = namespace_scan_next(&scan);
    }
    namespace_scan_fini(&scan);
    return rc;
}

/* The inode is read past the plan: a session's end may drop more orphans than a plan holds. */
static int namespace_orphan_remove(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_held h = {.ino = ino};
    int rc = namespace_view_inode(&p->view, ino, &h.inode);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    if ((h.inode.flags & PROTO_INODE_TRASH) != 0) {
        return 0; /* it may still be wanted back */
    }
    return h.inode.nlink == 0 ? namespace_remove_inode(p, &h) : -EUCLEAN;
}

/* One session lets go of a nameless inode; the last one removes it. */
int namespace_orphan_drop(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    int others = namespace_orphan_others(p, ino, session);
    int rc = others < 0 ? others : namespace_orphan_delete(p, ino, session);
    return rc == 0 && others == 0 ? namespace_orphan_remove(p, ino) : rc;
}

int namespace_orphan_adopt_all(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_ORPHAN, ino);
    struct namespace_scan scan;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        rc = namespace_orphan_delete(p, ino, namespace_key_read_u64(scan.it->key, 9));
    }
    namespace_scan_fini(&scan);
    return rc;
}

/* linkat(2) on an open nameless file gives it a name: nobody's orphan any more. */
int namespace_orphan_adopt(struct namespace_plan *p, uint64_t ino)
{
    int rc = namespace_orphan_get(p, ino, p->session_id);
    return rc < 0 ? rc : rc == 0 ? -ENOENT : namespace_orphan_adopt_all(p, ino);
}

/* Nothing is flushed when a file without a name is closed: where others still have it, or it is in
 * the trash, what its writer alone knew of behind the recorded size must never show. */
static int namespace_orphan_stop_writing(struct namespace_plan *p, uint64_t ino, uint64_t session,
                                         const struct namespace_wopen *w)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, ino);
    struct namespace_held h = {.ino = ino};
    int rc = namespace_view_inode(&p->view, ino, &h.inode);
    int others = namespace_orphan_others(p, ino, session);
    rc = namespace_view_both(rc, others < 0 ? others : 0);
    rc = rc < 0 ? rc : namespace_wopen_drop(p, ino, session);
    bool stays = others > 0 || (h.inode.flags & PROTO_INODE_TRASH) != 0;
    bool torn = w->mode == PROTO_OPEN_W || w->unflushed || w->torn;
    if (rc < 0 || !stays || !torn) {
        return rc;
    }
    others = namespace_wopen_pass_torn(p, ino, session, true);
    if (others != 0) {
        return others < 0 ? others : 0; /* the last of them leaves the trim */
    }
    bool in_line = (h.inode.flags & PROTO_INODE_INLINE) != 0;
    rc = namespace_queue_trim(p, &h, in_line ? 0 : h.inode.size, 0);
    namespace_plan_touch(p, &h);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &key, namespace_inode, &h.inode);
}

static int namespace_orphan_let_go(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    struct namespace_wopen w;
    int rc = namespace_orphan_get(p, ino, session);
    if (rc <= 0) {
        return rc; /* it has a name, or is gone: nothing to let go of */
    }
    rc = NAMESPACE_GET(&p->view, &key, namespace_wopen, &w);
    rc = rc == 1 ? namespace_orphan_stop_writing(p, ino, session, &w) : rc;
    return rc < 0 ? rc : namespace_orphan_drop(p, ino, session);
}

int namespace_release(struct namespace_plan *p, const struct proto_release_request *r)
{
    p->reply->result.ino = r->ino;
    return namespace_orphan_let_go(p, r->ino, p->session_id);
}

int namespace_orphans_of_session(struct namespace_plan *p, const struct namespace_orphan_drop *r)
{
    int rc = 0, needs = 0;
    uint64_t last = 0;
    for (size_t i = 0; i < r->inos.count && rc == 0; i++) {
        if (r->inos.at[i] <= last) {
            return namespace_view_both(-EINVAL, needs); /* ascending: none is dropped twice */
        }
        last = r->inos.at[i];
        rc = namespace_plan_go_on(&needs, namespace_orphan_let_go(p, last, r->session));
    }
    return namespace_view_both(rc, needs);
}
