#include "namespace/trash_priv.h"

/*
 * The trash: a regular file that loses its last name where a retention holds keeps its inode, with
 * nlink 0, the flag TRASH and two records: by owner for those who look for it, by expiry for the
 * leader, who removes what is due. It may be unlinked-but-open as well (orphan.c): then it goes
 * when both are over.
 */

#define NAMESPACE_NS_PER_S INT64_C(1000000000)

static struct namespace_key namespace_trash_key(uint32_t owner, uint64_t ino)
{
    struct namespace_key key = namespace_key(NAMESPACE_TRASH);
    namespace_key_add_u32(&key, owner);
    namespace_key_add_u64(&key, ino);
    return key;
}

static struct namespace_key namespace_trash_expiry_key(int64_t expiry_ns, uint64_t ino)
{
    return namespace_key_u64s(NAMESPACE_TRASH_EXPIRY, (uint64_t)expiry_ns, ino);
}

int namespace_trash_put(struct namespace_plan *p, struct namespace_held *h, uint64_t parent,
                        struct proto_bytes name)
{
    struct namespace_keeping k;
    if (h->inode.type != PROTO_INODE_FILE || p->state.retentions == 0) {
        return 0; /* the usual case costs nothing */
    }
    int rc = namespace_view_keeping(&p->view, parent, &k);
    if (rc < 0 || k.keeps_s == 0) {
        return rc;
    }
    struct namespace_trash t = {.since_ns = p->now_ns,
                                .expiry_ns = p->now_ns + k.keeps_s * NAMESPACE_NS_PER_S,
                                .by_uid = p->cred.uid,
                                .parent = parent,
                                .name = name,
                                .path = namespace_keeping_path(&k)};
    struct namespace_key key = namespace_trash_key(h->inode.uid, h->ino);
    struct namespace_key expiry = namespace_trash_expiry_key(t.expiry_ns, h->ino);
    h->inode.flags |= PROTO_INODE_TRASH;
    h->inode.parent = parent;
    h->inode.name = name;
    h->dirty = true;
    p->state.trash_files++;
    p->state.trash_bytes += h->inode.size;
    p->reply->trash_expiry_ns = t.expiry_ns;
    rc = namespace_plan_put_empty(p, &expiry);
    rc = rc < 0 ? rc : NAMESPACE_PUT(p, &key, namespace_trash, &t);
    return rc < 0 ? rc : 1;
}

/* Out of the trash: what becomes of the inode is the caller's business. */
int namespace_trash_take(struct namespace_plan *p, struct namespace_held *h)
{
    struct namespace_key key = namespace_trash_key(h->inode.uid, h->ino);
    struct namespace_trash t;
    int rc = NAMESPACE_GET(&p->view, &key, namespace_trash, &t);
    if (rc <= 0) {
        return rc < 0 ? rc : -EUCLEAN;
    }
    struct namespace_key expiry = namespace_trash_expiry_key(t.expiry_ns, h->ino);
    CHECK(p->state.trash_files > 0);
    p->state.trash_files--;
    p->state.trash_bytes -= h->inode.size;
    h->inode.flags &= ~PROTO_INODE_TRASH;
    h->dirty = true;
    rc = namespace_plan_delete(p, &expiry);
    return rc < 0 ? rc : namespace_plan_delete(p, &key);
}

int namespace_trash_chown(struct namespace_plan *p, const struct namespace_held *h,
                          uint32_t old_uid)
{
    struct namespace_key from = namespace_trash_key(old_uid, h->ino);
    struct namespace_key to = namespace_trash_key(h->inode.uid, h->ino);
    struct namespace_trash t;
    if ((h->inode.flags & PROTO_INODE_TRASH) == 0 || h->inode.uid == old_uid) {
        return 0;
    }
    int rc = NAMESPACE_GET(&p->view, &from, namespace_trash, &t);
    if (rc <= 0) {
        return rc < 0 ? rc : -EUCLEAN;
    }
    rc = namespace_plan_delete(p, &from);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &to, namespace_trash, &t);
}

void namespace_trash_set_retention(struct namespace_plan *p, struct namespace_inode *n,
                                   uint32_t retention_s)
{
    p->state.retentions += retention_s != 0 ? 1 : 0;
    p->state.retentions -= n->retention_s != 0 ? 1 : 0;
    n->retention_s = retention_s;
}

/* -ENOENT: it is not in the trash (any more); -EPERM: it is somebody else's. */
static int namespace_trash_find(struct namespace_plan *p, uint64_t ino, struct namespace_inode *n)
{
    int rc = namespace_view_inode(&p->view, ino, n);
    if (rc == 0 && (n->flags & PROTO_INODE_TRASH) == 0) {
        return -ENOENT;
    }
    bool mine = p->cred.uid == 0 || p->cred.uid == n->uid;
    return rc < 0 ? rc : mine ? 0 : -EPERM;
}

int namespace_trash_restore(struct namespace_plan *p, const struct proto_trash_restore_request *r)
{
    struct namespace_held *dir, *h;
    struct namespace_inode n;
    struct namespace_dirent d;
    int rc = namespace_name_check(r->name);
    rc = rc < 0 ? rc : namespace_trash_find(p, r->ino, &n);
    rc = rc < 0 ? rc : namespace_plan_inode(p, r->ino, &h);
    rc = rc < 0 ? rc : namespace_dir_to_search(p, r->parent, &dir);
    rc = rc < 0 ? rc : namespace_find(p, r->parent, r->name, &d);
    rc = rc == 0 ? namespace_plan_may(p, dir, NAMESPACE_MAY_WRITE) : rc;
    if (rc != 0) {
        return rc < 0 ? rc : -EEXIST;
    }
    rc = namespace_trash_take(p, h);
    rc = rc < 0 ? rc : namespace_orphan_adopt_all(p, r->ino);
    if (rc < 0) {
        return rc;
    }
    h->inode.nlink = 1;
    h->inode.parent = r->parent;
    h->inode.name = r->name;
    dir->inode.entries++;
    namespace_plan_touch_ctime(p, h);
    namespace_plan_touch_dir(p, dir);
    p->reply->result.ino = h->ino;
    rc = namespace_link_record(p, h, r->parent, r->name, true);
    return rc < 0 ? rc : namespace_put_dirent(p, r->parent, r->name, h->ino, h->inode.type);
}

/* Past the plan's own inodes: there may be more of them than it holds. */
static int namespace_trash_remove(struct namespace_plan *p, uint64_t ino)
{
    struct namespace_held h = {.ino = ino};
    int rc = namespace_view_inode(&p->view, ino, &h.inode);
    if (rc < 0) {
        return rc == -ENOENT ? -EUCLEAN : rc;
    }
    int open = namespace_orphan_others(p, ino, 0);
    rc = open < 0 ? open : namespace_trash_take(p, &h);
    if (rc < 0 || open == 0) {
        return rc < 0 ? rc : namespace_remove_inode(p, &h);
    }
    struct namespace_key key = namespace_key_u64(NAMESPACE_INODE, ino);
    namespace_plan_touch(p, &h);
    return NAMESPACE_PUT(p, &key, namespace_inode, &h.inode); /* goes when it is closed */
}

int namespace_trash_purge(struct namespace_plan *p, const struct proto_trash_purge_request *r)
{
    uint64_t last = 0;
    int needs = 0;
    for (size_t i = 0; i < r->inos.count; i++) {
        struct namespace_inode n;
        if (r->inos.at[i] <= last) {
            return namespace_view_both(-EINVAL, needs); /* ascending: none is there twice */
        }
        last = r->inos.at[i];
        int rc = namespace_trash_find(p, last, &n);
        rc = rc == 0 ? namespace_trash_remove(p, last) : rc == -ENOENT ? 0 : rc;
        rc = namespace_plan_go_on(&needs, rc);
        if (rc < 0) {
            return namespace_view_both(rc, needs);
        }
    }
    return needs;
}

int namespace_trash_expire(struct namespace_plan *p, const struct namespace_trash_expire *r)
{
    struct namespace_key prefix = namespace_key(NAMESPACE_TRASH_EXPIRY);
    struct namespace_scan scan;
    if (r->max == 0 || r->max > NAMESPACE_TRASH_BATCH) {
        return -EINVAL;
    }
    int needs = 0;
    int rc = namespace_scan_init_long(&scan, &p->view, &prefix, NULL, (size_t)r->max + 1);
    for (uint32_t i = 0; rc == 0 && i < r->max && (rc = namespace_scan_next(&scan)) == 1; i++) {
        if (!r->early && namespace_key_read_u64(scan.it->key, 1) > (uint64_t)p->now_ns) {
            rc = 0;
            break;
        }
        rc = namespace_trash_remove(p, namespace_key_read_u64(scan.it->key, 9));
        rc = namespace_plan_go_on(&needs, rc);
    }
    namespace_scan_fini(&scan);
    return namespace_view_both(rc, needs);
}
