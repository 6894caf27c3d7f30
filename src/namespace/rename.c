#include "namespace/plan_priv.h"

#include "namespace/stats_priv.h"

/*
 * rename(2) and renameat2(2). The state machine applies one command at a time, so the check that a
 * directory does not move into itself needs no lock: it walks up from the new parent.
 */

struct namespace_move {
    const struct proto_rename_request *r;
    struct namespace_held *from, *to;    /* directories, may be the same */
    struct namespace_held *what, *there; /* what moves; what it replaces or NULL */
    bool exchange;
};

/* 1 when `ino` is `top` or lies below it. */
static int namespace_is_below(struct namespace_plan *p, uint64_t ino, uint64_t top)
{
    for (unsigned depth = 0; depth < NAMESPACE_DEPTH_MAX; depth++) {
        if (ino == top) {
            return 1;
        }
        if (ino == PROTO_ROOT_INO) {
            return 0;
        }
        struct namespace_dir_stats s;
        int rc = namespace_view_dir_stats(&p->view, ino, &s);
        if (rc < 0) {
            return rc == -ENOENT ? -EUCLEAN : rc;
        }
        ino = s.parent;
    }
    return -ELOOP;
}

static int namespace_move_find(struct namespace_plan *p, struct namespace_move *m)
{
    struct namespace_dirent src, dst;
    int a = namespace_dir_to_search(p, m->r->parent, &m->from);
    int b = a < 0 && a != -ERR_need ? a : namespace_dir_to_search(p, m->r->new_parent, &m->to);
    int rc = namespace_view_both(a, b);
    if (rc < 0) {
        return rc;
    }
    a = namespace_find(p, m->r->parent, m->r->name, &src);
    b = namespace_find(p, m->r->new_parent, m->r->new_name, &dst);
    rc = namespace_view_both(a, b);
    if (rc < 0 || a == 0) {
        return rc < 0 ? rc : -ENOENT;
    }
    a = namespace_plan_inode(p, src.ino, &m->what);
    if (b == 1) {
        rc = namespace_plan_inode(p, dst.ino, &m->there);
    }
    rc = namespace_view_both(a, rc);
    return rc == -ENOENT ? -EUCLEAN : rc;
}

/* A directory must not become its own child. */
static int namespace_move_check_loop(struct namespace_plan *p, const struct namespace_move *m,
                                     const struct namespace_held *h,
                                     const struct namespace_held *into)
{
    if (m->from == m->to || !namespace_inode_is_dir(&h->inode)) {
        return 0;
    }
    int below = namespace_is_below(p, into->ino, h->ino);
    return below == 1 ? -EINVAL : below;
}

/* A directory that gets another parent has its ".." rewritten. */
static int namespace_move_check_dir(struct namespace_plan *p, const struct namespace_move *m,
                                    const struct namespace_held *h,
                                    const struct namespace_held *into)
{
    if (m->from == m->to || !namespace_inode_is_dir(&h->inode)) {
        return 0;
    }
    int rc = namespace_plan_may(p, h, NAMESPACE_MAY_WRITE);
    return rc == 0 && into->inode.nlink >= NAMESPACE_DIR_LINK_MAX ? -EMLINK : rc;
}

static int namespace_move_check_kinds(const struct namespace_move *m)
{
    bool src_dir = namespace_inode_is_dir(&m->what->inode);
    bool dst_dir = namespace_inode_is_dir(&m->there->inode);
    return src_dir == dst_dir ? 0 : dst_dir ? -EISDIR : -ENOTDIR;
}

/* Rights, after what the names themselves forbid; the order of errors is that of Linux. */
static int namespace_move_check_rights(struct namespace_plan *p, struct namespace_move *m)
{
    int rc = namespace_check_removal(p, m->from, m->what);
    if (rc == 0 && m->there == NULL) {
        rc = namespace_plan_may(p, m->to, NAMESPACE_MAY_WRITE);
    } else if (rc == 0) {
        rc = namespace_check_removal(p, m->to, m->there);
        rc = rc == 0 && !m->exchange ? namespace_move_check_kinds(m) : rc;
    }
    rc = rc < 0 ? rc : namespace_move_check_dir(p, m, m->what, m->to);
    if (rc == 0 && m->exchange && m->there != NULL) {
        return namespace_move_check_dir(p, m, m->there, m->from);
    }
    bool full = m->there != NULL && m->there->inode.entries > 0;
    return rc == 0 && full ? -ENOTEMPTY : rc;
}

static int namespace_move_check(struct namespace_plan *p, struct namespace_move *m)
{
    if (m->there != NULL && (m->r->flags & PROTO_RENAME_NOREPLACE) != 0) {
        return -EEXIST;
    }
    if (m->there == NULL && m->exchange) {
        return -ENOENT;
    }
    int rc = namespace_move_check_loop(p, m, m->what, m->to);
    if (rc == 0 && m->exchange && m->there != NULL) {
        rc = namespace_move_check_loop(p, m, m->there, m->from);
    }
    return rc < 0 || m->there == m->what ? rc : namespace_move_check_rights(p, m);
}

/* `h` stands under another name from now on; its old name is the caller's business. */
static int namespace_move_one(struct namespace_plan *p, struct namespace_held *h,
                              struct namespace_held *from, struct proto_bytes old_name,
                              struct namespace_held *to, struct proto_bytes new_name)
{
    int rc = namespace_link_record(p, h, from->ino, old_name, false);
    rc = rc < 0 ? rc : namespace_link_record(p, h, to->ino, new_name, true);
    rc = rc < 0 ? rc : namespace_put_dirent(p, to->ino, new_name, h->ino, h->inode.type);
    if (namespace_stats_is_home(h, from->ino, old_name)) {
        h->inode.parent = to->ino;
        h->inode.name = new_name;
    }
    if (namespace_inode_is_dir(&h->inode)) {
        from->inode.nlink--;
        to->inode.nlink++;
    }
    namespace_plan_touch_ctime(p, h);
    return rc;
}

static int namespace_move_do(struct namespace_plan *p, struct namespace_move *m)
{
    const struct proto_rename_request *r = m->r;
    int rc = 0;
    namespace_plan_touch_dir(p, m->from);
    namespace_plan_touch_dir(p, m->to);
    if (m->exchange) {
        CHECK(m->there != NULL);
        rc = namespace_move_one(p, m->there, m->to, r->new_name, m->from, r->name);
    } else {
        struct namespace_key old = namespace_key_name(NAMESPACE_DIRENT, r->parent, r->name);
        m->from->inode.entries--;
        m->to->inode.entries++;
        rc = namespace_plan_delete(p, &old);
        if (rc == 0 && m->there != NULL) {
            bool dir = namespace_inode_is_dir(&m->there->inode);
            m->to->inode.entries--;
            m->to->inode.nlink -= dir ? 1 : 0;
            rc = namespace_drop_name(p, m->there, r->new_parent, r->new_name, r->victim_open);
        }
    }
    return rc < 0 ? rc : namespace_move_one(p, m->what, m->from, r->name, m->to, r->new_name);
}

int namespace_rename(struct namespace_plan *p, const struct proto_rename_request *r)
{
    struct namespace_move m = {.r = r, .exchange = (r->flags & PROTO_RENAME_EXCHANGE) != 0};
    uint32_t known = PROTO_RENAME_EXCHANGE | PROTO_RENAME_NOREPLACE;
    int rc = namespace_name_check(r->name);
    rc = rc < 0 ? rc : namespace_name_check(r->new_name);
    if (rc == 0 && ((r->flags & ~known) != 0 || r->flags == known)) {
        rc = -EINVAL;
    }
    rc = rc < 0 ? rc : namespace_move_find(p, &m);
    rc = rc < 0 ? rc : namespace_move_check(p, &m);
    if (rc < 0) {
        return rc;
    }
    p->reply->result.ino = m.what->ino;
    if (m.there == m.what) {
        return 0; /* two names of one file: nothing happens, both stay */
    }
    p->reply->result.victim = m.there == NULL ? 0 : m.there->ino;
    return namespace_move_do(p, &m);
}
