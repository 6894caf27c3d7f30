#include "namespace/plan_priv.h"
#include "namespace/trash_priv.h"

#include "namespace/stats_priv.h"

/* Names: create, link, unlink, rmdir, and what rename shares with them. */

#define NAMESPACE_STICKY 01000u

int namespace_find(struct namespace_plan *p, uint64_t parent, struct proto_bytes name,
                   struct namespace_dirent *ret)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_DIRENT, parent, name);
    return NAMESPACE_GET(&p->view, &key, namespace_dirent, ret);
}

int namespace_dir_to_search(struct namespace_plan *p, uint64_t ino, struct namespace_held **ret)
{
    int rc = namespace_plan_inode(p, ino, ret);
    if (rc < 0) {
        return rc;
    }
    bool dir = namespace_inode_is_dir(&(*ret)->inode);
    return dir ? namespace_plan_may(p, *ret, NAMESPACE_MAY_EXEC) : -ENOTDIR;
}

int namespace_check_removal(struct namespace_plan *p, const struct namespace_held *dir,
                            const struct namespace_held *victim)
{
    uint32_t uid = p->cred.uid;
    bool sticky = (dir->inode.mode & NAMESPACE_STICKY) != 0;
    int rc = namespace_plan_may(p, dir, NAMESPACE_MAY_WRITE);
    if (rc < 0) {
        return rc;
    }
    if (sticky && uid != 0 && uid != victim->inode.uid && uid != dir->inode.uid) {
        return -EPERM;
    }
    uint32_t fixed = PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND;
    bool bound = (victim->inode.flags & fixed) != 0 || (dir->inode.flags & fixed) != 0;
    return bound ? -EPERM : 0;
}

int namespace_put_dirent(struct namespace_plan *p, uint64_t parent, struct proto_bytes name,
                         uint64_t ino, uint8_t type)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_DIRENT, parent, name);
    struct namespace_dirent d = {.ino = ino, .type = type};
    return NAMESPACE_PUT(p, &key, namespace_dirent, &d);
}

int namespace_link_record(struct namespace_plan *p, struct namespace_held *h, uint64_t parent,
                          struct proto_bytes name, bool add)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_LINK, h->ino, parent);
    namespace_key_add_bytes(&key, name);
    if ((h->inode.flags & PROTO_INODE_LINKED) == 0) {
        return 0;
    }
    return add ? namespace_plan_put_empty(p, &key) : namespace_plan_delete(p, &key);
}

/* Sessions with write authority over a file that loses its last name keep it open. */
static int namespace_keep_writers(struct namespace_plan *p, uint64_t ino, size_t *ret_count)
{
    struct namespace_key prefix = namespace_key_u64(NAMESPACE_WOPEN, ino);
    struct namespace_scan scan;
    int needs = 0;
    int rc = namespace_scan_init(&scan, &p->view, &prefix, NULL);
    while (rc == 0 && (rc = namespace_scan_next(&scan)) == 1) {
        rc = namespace_orphan_add(p, ino, namespace_key_read_u64(scan.it->key, 9), false);
        *ret_count += rc == 1 ? 1 : 0;
        rc = rc < 0 ? namespace_plan_go_on(&needs, rc) : 0;
    }
    namespace_scan_fini(&scan);
    return namespace_view_both(rc, needs);
}

static int namespace_has_wopen(struct namespace_plan *p, uint64_t ino, uint64_t session)
{
    struct namespace_key key = namespace_key_u64s(NAMESPACE_WOPEN, ino, session);
    struct namespace_wopen w;
    return NAMESPACE_GET(&p->view, &key, namespace_wopen, &w);
}

/* Those that said KEEP, or could not say anything. */
static int namespace_keep_readers(struct namespace_plan *p, uint64_t ino, uint64_t but,
                                  size_t *ret_count)
{
    uint64_t last = 0;
    int needs = 0;
    for (size_t i = 0; i < p->command->keeps.count; i++) {
        const struct namespace_keep *k = &p->command->keeps.at[i];
        if ((k->ino != 0 && k->ino != ino) || k->session == last || k->session == but) {
            continue;
        }
        if (k->session < last) {
            return namespace_view_both(-EINVAL, needs);
        }
        last = k->session;
        int rc = namespace_has_wopen(p, ino, k->session);
        if (rc == 0) {
            rc = namespace_orphan_add(p, ino, k->session, k->maybe);
            *ret_count += rc == 1 ? 1 : 0;
        }
        rc = namespace_plan_go_on(&needs, rc);
        if (rc < 0) {
            return namespace_view_both(rc, needs);
        }
    }
    return needs;
}

/* Others cannot be refused: what they have open is bounded by what they could open. */
static int namespace_keep_caller(struct namespace_plan *p, uint64_t ino)
{
    int rc = namespace_plan_check_obligations(p);
    return rc < 0 ? rc : namespace_orphan_add(p, ino, p->session_id, false);
}

/* The last name of `h` is gone: orphaned where it is open, kept in the trash, or else removed. */
static int namespace_last_name(struct namespace_plan *p, struct namespace_held *h, bool caller_open,
                               bool trashed)
{
    size_t kept = 0;
    uint64_t but = 0;
    int rc = namespace_keep_writers(p, h->ino, &kept);
    if (rc == 0 && caller_open) {
        but = p->session_id;
        rc = namespace_has_wopen(p, h->ino, but);
        rc = rc == 0 ? namespace_keep_caller(p, h->ino) : rc;
        kept += rc == 1 ? 1 : 0;
        rc = rc < 0 ? rc : 0;
    }
    rc = rc < 0 ? rc : namespace_keep_readers(p, h->ino, but, &kept);
    return rc < 0 ? rc : kept == 0 && !trashed ? namespace_remove_inode(p, h) : 0;
}

int namespace_drop_name(struct namespace_plan *p, struct namespace_held *h, uint64_t parent,
                        struct proto_bytes name, bool caller_open)
{
    namespace_plan_touch_ctime(p, h);
    if (namespace_inode_is_dir(&h->inode)) {
        h->inode.nlink = 0;
        return namespace_remove_inode(p, h);
    }
    if (p->command->victim != 0 && p->command->victim != h->ino) {
        p->reply->moved = true; /* who has this one open was not asked */
        return -ERR_busy;
    }
    CHECK(h->inode.nlink > 0);
    h->inode.nlink--;
    int rc = namespace_link_record(p, h, parent, name, false);
    if (rc == 0 && h->inode.nlink == 0) {
        rc = namespace_trash_put(p, h, parent, name);
        return rc < 0 ? rc : namespace_last_name(p, h, caller_open, rc == 1);
    }
    bool home = rc == 0 && namespace_stats_is_home(h, parent, name);
    return home ? namespace_stats_new_home(p, h) : rc;
}

static int namespace_check_create(const struct proto_create_request *r)
{
    if (r->type < PROTO_INODE_FILE || r->type > PROTO_INODE_BLOCK) {
        return -EINVAL;
    }
    bool file = r->type == PROTO_INODE_FILE;
    uint32_t file_only = PROTO_CREATE_WOPEN | PROTO_CREATE_ORPHAN | PROTO_CREATE_HAS_DATA;
    if (!file && (r->flags & file_only) != 0) {
        return -EINVAL;
    }
    if (r->type == PROTO_INODE_SYMLINK && r->target.len == 0) {
        return -ENOENT;
    }
    bool nameless = (r->flags & PROTO_CREATE_ORPHAN) != 0;
    return nameless ? 0 : namespace_name_check(r->name);
}

static int namespace_create_found(struct namespace_plan *p, const struct proto_create_request *r,
                                  const struct namespace_dirent *d)
{
    struct namespace_held *h;
    if ((r->flags & PROTO_CREATE_EXCLUSIVE) != 0 || r->type != PROTO_INODE_FILE) {
        return -EEXIST;
    }
    if (d->type != PROTO_INODE_FILE) {
        return d->type == PROTO_INODE_DIRECTORY ? -EISDIR : -EEXIST;
    }
    int rc = namespace_plan_inode(p, d->ino, &h);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc; /* a name of nothing */
    }
    p->reply->result.ino = d->ino;
    if ((r->flags & PROTO_CREATE_WOPEN) == 0) {
        return 0;
    }
    if (p->command->victim != 0 && p->command->victim != d->ino) {
        p->reply->moved = true; /* who has this one open was not asked */
        return -ERR_busy;
    }
    rc = namespace_plan_may_open(p, h, (r->flags & PROTO_CREATE_APPEND) != 0);
    return rc < 0 ? rc : namespace_wopen_grant(p, h, false);
}

static int namespace_create_named(struct namespace_plan *p, const struct proto_create_request *r,
                                  struct namespace_held *dir, struct namespace_held *h)
{
    bool is_dir = namespace_inode_is_dir(&h->inode);
    if (is_dir && dir->inode.nlink >= NAMESPACE_DIR_LINK_MAX) {
        return -EMLINK;
    }
    dir->inode.nlink += is_dir ? 1 : 0;
    dir->inode.entries++;
    namespace_plan_touch_dir(p, dir);
    return namespace_put_dirent(p, dir->ino, r->name, h->ino, h->inode.type);
}

static int namespace_create_nameless(struct namespace_plan *p, struct namespace_held *h)
{
    int rc = namespace_plan_check_obligations(p);
    h->inode.nlink = 0;
    h->inode.name = proto_bytes_of(NULL, 0);
    rc = rc < 0 ? rc : namespace_orphan_add(p, h->ino, p->session_id, false);
    return rc < 0 ? rc : 0;
}

int namespace_create(struct namespace_plan *p, const struct proto_create_request *r)
{
    struct namespace_dirent d;
    struct namespace_held *dir, *h;
    bool nameless = (r->flags & PROTO_CREATE_ORPHAN) != 0;
    int rc = namespace_check_create(r);
    if (rc < 0) {
        return rc;
    }
    rc = namespace_dir_to_search(p, r->parent, &dir);
    int found = nameless || rc == -ENOENT ? 0 : namespace_find(p, r->parent, r->name, &d);
    rc = namespace_view_both(rc, found);
    if (rc == 0 && found == 1) {
        return namespace_create_found(p, r, &d);
    }
    rc = rc < 0 ? rc : namespace_plan_may(p, dir, NAMESPACE_MAY_WRITE);
    rc = rc < 0 ? rc : namespace_make_inode(p, dir, r, &h);
    if (rc < 0) {
        return rc;
    }
    rc = nameless ? namespace_create_nameless(p, h) : namespace_create_named(p, r, dir, h);
    p->reply->result.ino = h->ino;
    p->reply->result.created = true;
    bool wopen = rc == 0 && (r->flags & PROTO_CREATE_WOPEN) != 0;
    return wopen ? namespace_wopen_grant(p, h, false) : rc;
}

/* The first further name: from now on its names are listed in records. */
static int namespace_become_linked(struct namespace_plan *p, struct namespace_held *h)
{
    if ((h->inode.flags & PROTO_INODE_LINKED) != 0) {
        return 0;
    }
    h->inode.flags |= PROTO_INODE_LINKED;
    return h->inode.nlink == 0 ? 0
                               : namespace_link_record(p, h, h->inode.parent, h->inode.name, true);
}

int namespace_link(struct namespace_plan *p, const struct proto_link_request *r)
{
    struct namespace_held *dir, *h;
    struct namespace_dirent d;
    int rc = namespace_name_check(r->name);
    rc = rc < 0 ? rc : namespace_plan_inode(p, r->ino, &h);
    rc = rc < 0 ? rc : namespace_dir_to_search(p, r->parent, &dir);
    if (rc < 0) {
        return rc;
    }
    rc = namespace_find(p, r->parent, r->name, &d); /* EEXIST comes first, as in the kernel */
    rc = rc == 0 ? namespace_plan_may(p, dir, NAMESPACE_MAY_WRITE) : rc;
    if (rc != 0) {
        return rc < 0 ? rc : -EEXIST;
    }
    if (namespace_inode_is_dir(&h->inode) ||
        (h->inode.flags & (PROTO_INODE_IMMUTABLE | PROTO_INODE_APPEND)) != 0) {
        return -EPERM;
    }
    if (h->inode.nlink >= NAMESPACE_LINK_MAX) {
        return -EMLINK;
    }
    rc = h->inode.nlink == 0 ? namespace_orphan_adopt(p, h->ino) : 0;
    bool trashed = (h->inode.flags & PROTO_INODE_TRASH) != 0;
    rc = rc == 0 && trashed ? namespace_trash_take(p, h) : rc;
    rc = rc < 0 ? rc : namespace_become_linked(p, h);
    if (rc < 0) {
        return rc;
    }
    if (h->inode.nlink == 0) {
        h->inode.parent = r->parent;
        h->inode.name = r->name;
    } else {
        h->claim = r->parent; /* it may come to count there */
    }
    h->inode.nlink++;
    dir->inode.entries++;
    namespace_plan_touch_ctime(p, h);
    namespace_plan_touch_dir(p, dir);
    p->reply->result.ino = h->ino;
    rc = namespace_link_record(p, h, r->parent, r->name, true);
    return rc < 0 ? rc : namespace_put_dirent(p, r->parent, r->name, h->ino, h->inode.type);
}

/* What a name to be removed stands for. */
static int namespace_victim(struct namespace_plan *p, uint64_t parent, struct proto_bytes name,
                            struct namespace_held **ret_dir, struct namespace_held **ret)
{
    struct namespace_dirent d;
    int rc = namespace_name_check(name);
    if (rc < 0) {
        return rc;
    }
    rc = namespace_dir_to_search(p, parent, ret_dir);
    int found = rc < 0 && rc != -ERR_need ? 0 : namespace_find(p, parent, name, &d);
    rc = namespace_view_both(rc, found);
    if (rc < 0) {
        return rc;
    }
    if (found == 0) {
        return -ENOENT;
    }
    rc = namespace_plan_inode(p, d.ino, ret);
    return rc == -ENOENT ? -EUCLEAN : rc;
}

static int namespace_remove_name(struct namespace_plan *p, struct namespace_held *dir,
                                 struct namespace_held *h, struct proto_bytes name,
                                 bool caller_open)
{
    struct namespace_key key = namespace_key_name(NAMESPACE_DIRENT, dir->ino, name);
    CHECK(dir->inode.entries > 0);
    dir->inode.entries--;
    dir->inode.nlink -= namespace_inode_is_dir(&h->inode) ? 1 : 0;
    namespace_plan_touch_dir(p, dir);
    p->reply->result.ino = h->ino;
    int rc = namespace_plan_delete(p, &key);
    return rc < 0 ? rc : namespace_drop_name(p, h, dir->ino, name, caller_open);
}

int namespace_unlink(struct namespace_plan *p, const struct proto_unlink_request *r)
{
    struct namespace_held *dir, *h;
    int rc = namespace_victim(p, r->parent, r->name, &dir, &h);
    rc = rc < 0 ? rc : namespace_check_removal(p, dir, h);
    if (rc < 0) {
        return rc;
    }
    if (r->expect_ino != 0 && r->expect_ino != h->ino) {
        return -ESTALE;
    }
    if (namespace_inode_is_dir(&h->inode)) {
        return -EISDIR;
    }
    return namespace_remove_name(p, dir, h, r->name, r->is_open);
}

int namespace_rmdir(struct namespace_plan *p, const struct proto_rmdir_request *r)
{
    struct namespace_held *dir, *h;
    int rc = namespace_victim(p, r->parent, r->name, &dir, &h);
    rc = rc < 0 ? rc : namespace_check_removal(p, dir, h);
    if (rc < 0) {
        return rc;
    }
    if (!namespace_inode_is_dir(&h->inode)) {
        return -ENOTDIR;
    }
    if (h->inode.entries > 0) {
        return -ENOTEMPTY;
    }
    return namespace_remove_name(p, dir, h, r->name, false);
}
