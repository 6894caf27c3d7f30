#include "client/op_priv.h"

#include <string.h>

/*
 * Operations on names. Each is a chain of steps on one task: find the parent (or the inode), ask,
 * take the answer.
 */

static void attr_out(struct client_task *t, const struct proto_attr *a)
{
    client_stat_from(a, &t->op->stat);
}

/* --- stat ---------------------------------------------------------------------------------------
 */

static void stat_walked(struct client_task *t, int rc);

/* The name may have gone, or stand for another file, since it was looked up: what was set meanwhile
 * may be of after that. */
static bool stat_differs(const struct proto_attr *a, const struct proto_attr *b)
{
    return a->nlink != b->nlink || a->mode != b->mode || a->uid != b->uid || a->gid != b->gid;
}

static void stat_asked(struct client_task *t, const struct peer_reply *r)
{
    bool gone = r->rc == -ENOENT || r->rc == -ESTALE;
    struct proto_attr a = {0};
    if (r->rc == 0) {
        a = ((const struct proto_getattr_reply *)r->body)->attr;
        gone = stat_differs(&a, &t->walk.attr);
    }
    if (gone && ++t->rounds <= CLIENT_LINKS_MAX) {
        client_walk_fini(&t->walk);
        t->walk.path = client_op_of(t->op)->path;
        t->walk.at = t->op->at;
        t->walk.follow = client_op_of(t->op)->follow;
        client_walk_start(t, stat_walked);
        return;
    }
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_inode_freshen(t->fs, &a);
    attr_out(t, &a);
    client_task_finish(t, 0);
}

static void stat_walked(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    if (rc == 0 && t->walk.remote) {
        t->request.getattr = (struct proto_getattr_request){.ino = t->walk.attr.ino};
        client_task_query(t, PROTO_OP_getattr, stat_asked);
        return;
    }
    if (rc == 0) {
        client_inode_freshen(t->fs, &t->walk.attr);
        attr_out(t, &t->walk.attr);
    }
    client_task_finish(t, rc);
}

static void stat_run(struct opendfs_op *op)
{
    client_op_walk(op, client_op_of(op)->follow, stat_walked);
}

static void start_stat(struct opendfs *fs, struct opendfs_op *op, const char *path, bool follow)
{
    client_op_of(op)->path = path;
    client_op_of(op)->follow = follow;
    client_op_start(fs, op, stat_run);
}

void opendfs_async_stat(struct opendfs *fs, struct opendfs_op *op, const char *path)
{
    start_stat(fs, op, path, true);
}

void opendfs_async_lstat(struct opendfs *fs, struct opendfs_op *op, const char *path)
{
    start_stat(fs, op, path, false);
}

/* --- new names ----------------------------------------------------------------------------------
 */

void client_create_values(struct proto_create_request *r, const struct opendfs_stat *v,
                          uint32_t mask)
{
    uint32_t known = OPENDFS_SET_UID | OPENDFS_SET_GID | OPENDFS_SET_ATIME | OPENDFS_SET_MTIME;
    if (v == NULL) {
        return;
    }
    r->mode = v->mode & 07777;
    r->rdev = v->rdev;
    r->set = mask & known; /* the numbers are the same: checked below */
    r->uid = v->uid;
    r->gid = v->gid;
    r->atime_ns = v->atime_ns;
    r->mtime_ns = v->mtime_ns;
}
_Static_assert(OPENDFS_SET_MODE == PROTO_SET_MODE && OPENDFS_SET_UID == PROTO_SET_UID &&
                   OPENDFS_SET_GID == PROTO_SET_GID && OPENDFS_SET_SIZE == PROTO_SET_SIZE &&
                   OPENDFS_SET_ATIME == PROTO_SET_ATIME && OPENDFS_SET_MTIME == PROTO_SET_MTIME &&
                   OPENDFS_SET_ATIME_NOW == PROTO_SET_ATIME_NOW &&
                   OPENDFS_SET_MTIME_NOW == PROTO_SET_MTIME_NOW &&
                   OPENDFS_SET_KILL_PRIV == PROTO_SET_KILL_PRIV,
               "public and protocol masks are one");
_Static_assert(OPENDFS_RENAME_NOREPLACE == PROTO_RENAME_NOREPLACE &&
                   OPENDFS_RENAME_EXCHANGE == PROTO_RENAME_EXCHANGE,
               "public and protocol flags are one");

static void create_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_create_reply *m = r->body;
    attr_out(t, &m->attr);
    client_task_finish(t, m->created ? 0 : -EEXIST);
}

/* What is to be made, but for its place. */
static int create_fill(struct client_op *o, struct proto_create_request *r)
{
    *r = (struct proto_create_request){.type = (uint8_t)o->flags,
                                       .mode = o->mode & 07777,
                                       .umask = client_op_umask(o),
                                       .flags = PROTO_CREATE_EXCLUSIVE};
    client_create_values(r, o->values, o->mask);
    if (r->type == PROTO_INODE_SYMLINK) {
        r->mode = 0777;
        r->target = proto_bytes_text(o->to == NULL ? "" : o->to);
        return r->target.len == 0 ? -ENOENT : r->target.len > 4095 ? -ENAMETOOLONG : 0;
    }
    if (r->type == PROTO_INODE_FILE) {
        r->flags |= PROTO_CREATE_HAS_DATA;
        r->data = proto_bytes_of(o->in, o->len);
        return o->len > o->fs->inline_limit ? -EFBIG : 0;
    }
    return r->type == 0 ? -EINVAL : 0;
}

static void create_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EEXIST; /* the root, "." or ".." */
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    struct proto_create_request *r = &t->request.create;
    rc = create_fill(client_op_of(t->op), r);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    r->parent = t->walk.dir;
    r->name = t->walk.last;
    client_task_mutate(t, PROTO_OP_create, create_done);
}

static void create_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        client_walk_parent(t, client_op_of(op)->path, op->at, create_walked);
    }
}

/* `type` is of the protocol. */
static void start_create(struct opendfs *fs, struct opendfs_op *op, const char *path, uint8_t type)
{
    client_op_of(op)->path = path;
    client_op_of(op)->flags = type;
    client_op_start(fs, op, create_run);
}

void opendfs_async_mkdir(struct opendfs *fs, struct opendfs_op *op, const char *path, uint32_t mode)
{
    client_op_of(op)->mode = mode;
    client_op_of(op)->values = NULL;
    start_create(fs, op, path, PROTO_INODE_DIRECTORY);
}

void opendfs_async_symlink(struct opendfs *fs, struct opendfs_op *op, const char *target,
                           const char *path, const struct opendfs_stat *values, unsigned mask)
{
    client_op_of(op)->to = target;
    client_op_of(op)->values = values;
    client_op_of(op)->mask = mask;
    start_create(fs, op, path, PROTO_INODE_SYMLINK);
}

void opendfs_async_make_node(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const struct opendfs_stat *values, unsigned mask)
{
    uint32_t type = client_inode_type(values->type);
    bool special = type == PROTO_INODE_FIFO || type == PROTO_INODE_SOCKET ||
                   type == PROTO_INODE_CHAR || type == PROTO_INODE_BLOCK;
    client_op_of(op)->values = values;
    client_op_of(op)->mask = mask;
    start_create(fs, op, path, special ? (uint8_t)type : 0);
}

/* NOLINTNEXTLINE(readability-function-size): all in one call is what it is for */
void opendfs_async_create(struct opendfs *fs, struct opendfs_op *op, const char *path,
                          const struct opendfs_stat *values, unsigned mask, const void *data,
                          size_t len)
{
    client_op_of(op)->values = values;
    client_op_of(op)->mask = mask;
    client_op_of(op)->mode = 0644;
    client_op_of(op)->in = data;
    client_op_of(op)->len = len;
    start_create(fs, op, path, PROTO_INODE_FILE);
}

/* --- mkdir -p: from the left, so that other makers at the same time do no harm
 * --------------------
 */

static void dirs_next(struct client_task *t);

static void dirs_done(struct client_task *t, const struct peer_reply *r)
{
    const struct proto_create_reply *m = r->body;
    if (r->rc < 0 && r->rc != -EEXIST && r->rc != -ERR_gone_since) {
        client_task_fail(t, r);
        return;
    }
    if (r->rc == 0 && m->created) {
        attr_out(t, &m->attr);
        if (t->walk.rest[0] == '\0') {
            client_task_finish(t, 0);
            return;
        }
        t->first_dir = m->attr.ino;
        dirs_next(t);
        return;
    }
    client_walk_start(t, t->walked); /* somebody else made it, or removed it: look again */
}

/* Makes the name at `rest` in first_dir. */
static void dirs_next(struct client_task *t)
{
    struct client_walk *w = &t->walk;
    const char *at = w->rest + strspn(w->rest, "/");
    size_t len = strcspn(at, "/");
    if (len > PROTO_NAME_MAX) {
        client_task_finish(t, -ENAMETOOLONG);
        return;
    }
    w->rest = at + len + strspn(at + len, "/");
    t->request.create =
        (struct proto_create_request){.parent = t->first_dir,
                                      .name = proto_bytes_of(at, len),
                                      .type = PROTO_INODE_DIRECTORY,
                                      .mode = client_op_of(t->op)->mode & 07777,
                                      .umask = client_op_umask(client_op_of(t->op))};
    client_task_mutate(t, PROTO_OP_create, dirs_done);
}

static void dirs_walked(struct client_task *t, int rc)
{
    struct client_walk *w = &t->walk;
    if (rc == 0 && w->attr.ino != 0) {
        attr_out(t, &w->attr);
        client_task_finish(t, w->attr.type == PROTO_INODE_DIRECTORY ? 0 : -ENOTDIR);
        return;
    }
    bool missing = rc == 0 || (rc == -ENOENT && w->last.len > 0);
    if (!missing || ++t->rounds > CLIENT_LINKS_MAX) {
        client_task_finish(t, missing ? -EEXIST : rc);
        return;
    }
    t->first_dir = w->dir;
    w->rest = (const char *)w->last.at;
    dirs_next(t);
}

static void dirs_run(struct opendfs_op *op)
{
    client_op_walk(op, true, dirs_walked);
}

void opendfs_async_make_directories(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                    uint32_t mode)
{
    client_op_of(op)->path = path;
    client_op_of(op)->mode = mode;
    client_op_start(fs, op, dirs_run);
}

/* --- removing -----------------------------------------------------------------------------------
 */

static void plain_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_task_finish(t, 0);
}

static void rmdir_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EBUSY;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.rmdir = (struct proto_rmdir_request){.parent = t->walk.dir, .name = t->walk.last};
    client_task_mutate(t, PROTO_OP_rmdir, plain_done);
}

static void rmdir_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        client_walk_parent(t, client_op_of(op)->path, op->at, rmdir_walked);
    }
}

void opendfs_async_rmdir(struct opendfs *fs, struct opendfs_op *op, const char *path)
{
    client_op_of(op)->path = path;
    client_op_start(fs, op, rmdir_run);
}

static void unlink_walked(struct client_task *t, int rc);

static void unlink_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc == -ESTALE && client_task_again(t, r->rc, unlink_walked)) {
        return; /* the name stands for another file than the one that is open here */
    }
    if (r->rc == 0 && t->victim != 0) {
        const struct proto_unlink_reply *m = r->body;
        for (size_t i = 0; i < m->changes.count; i++) {
            const struct proto_change *c = &m->changes.at[i];
            if (c->ino == t->victim && c->attr.nlink == 0) {
                client_inode_unlinked(t->fs, t->victim);
            }
        }
    }
    plain_done(t, r);
}

static void unlink_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EISDIR;
    } else if (rc == 0 && !t->walk.parent && t->walk.attr.ino == 0) {
        rc = -ENOENT;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    uint64_t ino = t->walk.parent ? 0 : t->walk.attr.ino;
    t->victim = ino != 0 && client_inode_is_open(t->fs, ino) ? ino : 0;
    t->request.unlink = (struct proto_unlink_request){.parent = t->walk.dir,
                                                      .name = t->walk.last,
                                                      .expect_ino = t->victim,
                                                      .is_open = t->victim != 0};
    client_task_mutate(t, PROTO_OP_unlink, unlink_done);
}

/* With files open here it matters which one the name stands for: the answer must keep it alive. */
static void unlink_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t == NULL) {
        return;
    }
    if (t->fs->inodes.count == 0) {
        client_walk_parent(t, client_op_of(op)->path, op->at, unlink_walked);
        return;
    }
    t->walk.path = client_op_of(op)->path;
    t->walk.at = op->at;
    client_walk_start(t, unlink_walked);
}

void opendfs_async_unlink(struct opendfs *fs, struct opendfs_op *op, const char *path)
{
    client_op_of(op)->path = path;
    client_op_start(fs, op, unlink_run);
}

/* --- rename, link -------------------------------------------------------------------------------
 */

/* Of what was replaced, if it has lost its last name: directories are gone at once. */
static void rename_lingers(struct client_task *t, const struct proto_rename_reply *m)
{
    bool goes = (client_op_of(t->op)->flags & OPENDFS_RENAME_EXCHANGE) == 0;
    for (size_t i = 0; i < m->changes.count; i++) {
        const struct proto_change *c = &m->changes.at[i];
        bool stays = c->attr.type == PROTO_INODE_DIRECTORY || c->attr.nlink > 0;
        goes = goes && !(c->ino == m->victim_ino && stays);
    }
    if (goes) {
        client_linger(t->fs, m->victim_ino);
    }
}

static void rename_done(struct client_task *t, const struct peer_reply *r)
{
    const struct proto_rename_reply *m = r->body;
    if (r->rc == 0 && t->victim != 0 && m->victim_ino == t->victim &&
        (client_op_of(t->op)->flags & OPENDFS_RENAME_EXCHANGE) == 0) {
        client_inode_unlinked(t->fs, t->victim);
    } else if (r->rc == 0 && t->request.rename.victim_open && m->victim_ino != 0) {
        rename_lingers(t, m);
    }
    plain_done(t, r);
}

static void rename_to_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EBUSY;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    uint64_t ino = t->walk.parent ? 0 : t->walk.attr.ino;
    t->victim = ino != 0 && client_inode_is_open(t->fs, ino) ? ino : 0;
    t->request.rename =
        (struct proto_rename_request){.parent = t->first_dir,
                                      .name = proto_bytes_of(t->first_name, t->first_len),
                                      .new_parent = t->walk.dir,
                                      .new_name = t->walk.last,
                                      .flags = client_op_of(t->op)->flags,
                                      .victim_open = t->victim != 0 || client_lingers_next(t->fs)};
    client_task_mutate(t, PROTO_OP_rename, rename_done);
}

static void rename_from_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EBUSY;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->first_dir = t->walk.dir;
    t->first_len = t->walk.last.len;
    memcpy(t->first_name, t->walk.last.at, t->first_len);
    if (t->fs->inodes.count == 0) {
        client_walk_parent(t, client_op_of(t->op)->to, client_op_at_to(t->op), rename_to_walked);
        return;
    }
    client_walk_fini(&t->walk);
    t->walk.path = client_op_of(t->op)->to;
    t->walk.at = client_op_at_to(t->op);
    t->walk.parent = false;
    client_walk_start(t, rename_to_walked);
}

static void rename_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        client_walk_parent(t, client_op_of(op)->path, op->at, rename_from_walked);
    }
}

void opendfs_async_rename(struct opendfs *fs, struct opendfs_op *op, const char *from,
                          const char *to, unsigned flags)
{
    client_op_of(op)->path = from;
    client_op_of(op)->to = to;
    client_op_of(op)->flags = flags;
    client_op_start(fs, op, rename_run);
}

static void link_from_walked(struct client_task *t, int rc);

static void link_done(struct client_task *t, const struct peer_reply *r)
{
    if (client_task_again(t, r->rc, link_from_walked)) {
        return;
    }
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_link_reply *m = r->body;
    attr_out(t, &m->attr);
    client_task_finish(t, 0);
}

static void link_to_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EEXIST;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.link = (struct proto_link_request){
        .ino = t->first_ino, .parent = t->walk.dir, .name = t->walk.last};
    client_task_mutate(t, PROTO_OP_link, link_done);
}

static void link_from_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.attr.ino == 0) {
        rc = -ENOENT;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->first_ino = t->walk.attr.ino;
    client_walk_parent(t, client_op_of(t->op)->to, client_op_at_to(t->op), link_to_walked);
}

static void link_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->walk.path = client_op_of(op)->path;
        t->walk.at = op->at;
        client_walk_start(t, link_from_walked);
    }
}

void opendfs_async_link(struct opendfs *fs, struct opendfs_op *op, const char *existing,
                        const char *path)
{
    client_op_of(op)->path = existing;
    client_op_of(op)->to = path;
    client_op_start(fs, op, link_run);
}
