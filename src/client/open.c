#include "client/op_priv.h"
#include "client/share_priv.h"
#include "client/update_priv.h"

/*
 * Opening. A path that may have to be made is first tried as a creation when its directory is
 * known: one round trip for a new file. Else: the walk, then `open` for the right to read, `wopen`
 * for the authority to write, the small contents, and the truncation that was asked for.
 */

#define RELEASING_MS 1u

static void open_existing(struct client_task *t);
static void open_write(struct client_task *t);

static unsigned open_flags(const struct client_task *t)
{
    return client_op_of(t->op)->flags;
}

/* It is a handle now, or nothing. */
static void open_settled(struct client_task *t)
{
    if (t->opening) {
        t->opening = false;
        t->inode->opening--;
        client_inode_wake(t->inode);
    }
}

/* What it had got hold of is nobody's; NULL: nothing. */
static void open_drop(struct opendfs *fs, struct client_inode *i)
{
    if (i == NULL) {
        return;
    }
    if (i->writers == 0 && i->opening == 0 && !fs->freeing) {
        client_inode_recall(fs, i->ino); /* nobody needs the authority */
    }
    client_inode_put(i);
}

static struct client_inode *open_let_go(struct client_task *t)
{
    struct client_inode *i = t->inode;
    struct opendfs_file *f = t->op->file;
    open_settled(t);
    t->op->file = NULL;
    t->inode = NULL;
    if (f != NULL) {
        client_file_free(f);
    }
    return i;
}

static void open_failed(struct client_task *t, int rc)
{
    struct opendfs *fs = t->fs;
    struct client_inode *i = open_let_go(t);
    client_task_finish(t, rc);
    open_drop(fs, i);
}

static void open_walk(struct client_task *t);

/* A request about the file of a path has failed. Is it gone, then its name may stand for another
 * one, and may have done so all the time. */
static void open_refused(struct client_task *t, int rc)
{
    bool gone = rc == -ENOENT || rc == -ESTALE;
    if (!gone || t->created_ino != 0 || ++t->rounds > CLIENT_LINKS_MAX) {
        open_failed(t, rc);
        return;
    }
    open_drop(t->fs, open_let_go(t));
    open_walk(t);
}

/* The handle is there; all that could fail is over. */
static void open_finish(struct client_task *t)
{
    struct client_inode *i = t->inode;
    struct proto_attr a = i->attr;
    client_inode_freshen(t->fs, &a);
    client_stat_from(&a, &t->op->stat);
    client_task_finish(t, 0);
    client_inode_put(i);
}

/* Writers whose handle could not be finished: closing gives the authority back. */
static void open_undone(void *context, int rc)
{
    struct client_task *t = context;
    if (rc < 0) {
        open_failed(t, rc);
        return;
    }
    open_finish(t);
}

static void open_handle(struct client_task *t)
{
    unsigned flags = open_flags(t);
    struct client_inode *i = t->inode;
    struct opendfs_file *f = client_file_new(i, flags, client_op_of(t->op)->path);
    if (f == NULL) {
        open_failed(t, -ENOMEM);
        return;
    }
    f->unprivileged = client_op_uid(t->op) != 0;
    f->outsider = f->unprivileged && !client_op_in_group(t->op, i->attr.gid);
    t->op->file = f;
    open_settled(t);
    if ((flags & OPENDFS_TRUNCATE) != 0 && (flags & OPENDFS_WRITE) != 0 && t->created_ino == 0) {
        client_io_truncate(f, 0, open_undone, t);
        return;
    }
    open_finish(t);
}

/* --- small contents -----------------------------------------------------------------------------
 */

static void inline_done(struct client_task *t, const struct peer_reply *r)
{
    struct client_inode *i = t->inode;
    i->taking = false;
    client_inode_wake(i);
    if (r->rc < 0) {
        open_refused(t, r->rc);
        return;
    }
    const struct proto_read_inline_reply *m = r->body;
    if (!m->has_data) {
        i->layout = m->layout;
        i->attr.flags &= ~PROTO_INODE_INLINE;
        i->in_line = false;
        open_handle(t);
        return;
    }
    int rc = client_inode_set_small(i, m->version, m->data.at, m->data.len);
    if (rc < 0) {
        open_failed(t, rc);
        return;
    }
    open_handle(t);
}

static void open_contents(struct client_task *t)
{
    struct client_inode *i = t->inode;
    bool fresh = i->mode == PROTO_OPEN_NONE || i->small == NULL || t->old_small;
    if ((i->attr.flags & PROTO_INODE_INLINE) == 0 || !fresh ||
        (i->small == NULL && !i->in_line && i->mode != PROTO_OPEN_NONE &&
         (i->update_count > 0 || i->chunked))) {
        open_handle(t);
        return;
    }
    if (i->attr.size == 0) {
        int rc = client_inode_set_small(i, i->attr.version, NULL, 0);
        if (rc < 0) {
            open_failed(t, rc);
            return;
        }
        open_handle(t);
        return;
    }
    i->taking = i->mode != PROTO_OPEN_NONE;
    t->request.read_inline = (struct proto_read_inline_request){.ino = i->ino};
    client_task_query(t, PROTO_OP_read_inline, inline_done);
}

/* --- existing files -----------------------------------------------------------------------------
 */

static void open_again(struct loop_timer *timer)
{
    struct client_task *t = container_of(timer, struct client_task, again);
    list_remove(&t->again_node);
    open_write(t);
}

void client_open_fini(struct opendfs *fs)
{
    struct list *at;
    while ((at = list_pop_front(&fs->resting)) != NULL) {
        struct client_task *t = LIST_ENTRY(at, struct client_task, again_node);
        loop_timer_cancel(fs->loop, &t->again);
        open_failed(t, -ECANCELED);
    }
}

static void wopen_done(struct client_task *t, const struct peer_reply *r)
{
    struct client_inode *i = t->inode;
    if (r->rc < 0) {
        open_refused(t, r->rc);
        return;
    }
    const struct proto_wopen_reply *m = r->body;
    if (i->mode == PROTO_OPEN_NONE && !t->call.doubtful) {
        i->cut_tgen = m->attr.tgen; /* nobody new may write before all is cut */
    }
    bool wrote = i->mode != PROTO_OPEN_NONE && i->dead == 0; /* then ours are the newest */
    t->old_small = !wrote && i->in_line && i->small_version != m->attr.version;
    client_inode_take_mode(i, m);
    open_contents(t);
}

static void open_write(struct client_task *t)
{
    struct client_inode *i = t->inode;
    if ((open_flags(t) & OPENDFS_WRITE) == 0) {
        open_contents(t);
        return;
    }
    if (i->releasing || i->taking) { /* the server must not see the two in the wrong order */
        t->again.fire = open_again;
        list_push_back(&t->fs->resting, &t->again_node);
        loop_timer_in(t->fs->loop, &t->again, RELEASING_MS * CLIENT_NS_PER_MS);
        return;
    }
    if (!t->opening) {
        t->opening = true;
        i->opening++;
    }
    bool append = (open_flags(t) & OPENDFS_APPEND) != 0;
    t->request.wopen = (struct proto_wopen_request){.ino = i->ino, .append = append};
    client_task_mutate(t, PROTO_OP_wopen, wopen_done);
}

/* What the kind of file and its flags forbid. */
static int open_check(const struct proto_attr *a, unsigned flags)
{
    if (a->type != PROTO_INODE_FILE) {
        return a->type == PROTO_INODE_DIRECTORY ? -EISDIR
               : a->type == PROTO_INODE_SYMLINK ? -ELOOP
                                                : -EINVAL;
    }
    if ((flags & OPENDFS_CREATE) != 0 && (flags & OPENDFS_EXCLUSIVE) != 0) {
        return -EEXIST;
    }
    bool writes = (flags & OPENDFS_WRITE) != 0;
    bool only_behind = (flags & (OPENDFS_APPEND | OPENDFS_TRUNCATE)) == OPENDFS_APPEND;
    return writes && (a->flags & PROTO_INODE_APPEND) != 0 && !only_behind ? -EPERM : 0;
}

static void open_done(struct client_task *t, const struct peer_reply *r)
{
    struct client_inode *i = t->inode;
    if (r->rc == -EACCES && t->created_ino != 0) {
        open_handle(t); /* who makes a file opens it, whatever its mode */
        return;
    }
    if (r->rc < 0) {
        open_refused(t, r->rc);
        return;
    }
    const struct proto_open_reply *m = r->body;
    int kind = open_check(&m->attr, open_flags(t) & ~(unsigned)OPENDFS_CREATE);
    if (kind < 0) {
        open_failed(t, kind);
        return;
    }
    client_inode_take(i, &m->attr, &m->layout);
    client_cap_take(i->fs, &i->read_cap, &m->capability);
    if (m->has_data && i->mode == PROTO_OPEN_NONE) {
        int rc = client_inode_set_small(i, m->attr.version, m->data.at, m->data.len);
        if (rc < 0) {
            open_failed(t, rc);
            return;
        }
        if ((open_flags(t) & OPENDFS_WRITE) == 0) {
            open_handle(t);
            return;
        }
    }
    open_write(t);
}

/* `wopen` checks the rights of the first who writes here; of others, and of readers, `open` does.
 */
static void open_ask(struct client_task *t)
{
    unsigned flags = open_flags(t);
    bool reads = (flags & OPENDFS_READ) != 0, writes = (flags & OPENDFS_WRITE) != 0;
    uint8_t access = (uint8_t)((reads ? PROTO_RIGHT_READ : 0) | (writes ? PROTO_RIGHT_WRITE : 0));
    access |= reads && (flags & OPENDFS_EXECUTE) != 0 ? PROTO_RIGHT_EXEC : 0;
    t->inode->granted = t->inode->granted || reads;
    t->request.open = (struct proto_open_request){.ino = t->inode->ino,
                                                  .access = access,
                                                  .want = reads ? PROTO_WANT_DATA : 0,
                                                  .append = (flags & OPENDFS_APPEND) != 0};
    client_task_query(t, PROTO_OP_open, open_done);
}

static void open_walk_again(struct loop_timer *timer)
{
    struct client_task *t = container_of(timer, struct client_task, again);
    list_remove(&t->again_node);
    open_drop(t->fs, open_let_go(t));
    open_walk(t);
}

/* t->walk.attr is the file. */
static void open_existing(struct client_task *t)
{
    const struct proto_attr *a = &t->walk.attr;
    unsigned flags = open_flags(t);
    int rc = open_check(a, flags);
    rc = rc == 0 ? client_inode_get(t->fs, a->ino, &t->inode) : rc;
    if (rc < 0) {
        open_failed(t, rc);
        return;
    }
    if (t->inode->letting_go) { /* without a name, or about to lose it: not a second time */
        t->again.fire = open_walk_again;
        list_push_back(&t->fs->resting, &t->again_node);
        loop_timer_in(t->fs->loop, &t->again, RELEASING_MS * CLIENT_NS_PER_MS);
        return;
    }
    if ((flags & OPENDFS_READ) == 0 && t->inode->writers == 0) {
        open_write(t);
        return;
    }
    open_ask(t);
}

/* --- new files ----------------------------------------------------------------------------------
 */

static void open_created(struct client_task *t, const struct proto_create_reply *m)
{
    struct client_inode *i;
    int rc = client_inode_get(t->fs, m->attr.ino, &i);
    if (rc < 0) {
        open_failed(t, rc);
        return;
    }
    t->inode = i;
    t->created_ino = m->attr.ino;
    client_inode_take(i, &m->attr, &m->layout);
    client_cap_take(i->fs, &i->read_cap, &m->capability);
    if ((open_flags(t) & OPENDFS_WRITE) != 0) {
        client_cap_take(i->fs, &i->write_cap, &m->capability);
        i->mode = m->mode;
        i->cap_epoch = m->cap_epoch;
        i->limited = m->limited;
        i->size_limit = m->size_limit;
        i->session_number = t->fs->session.number;
        i->dirty = true; /* closing says that the contents stayed here */
        i->untouched = m->created;
        i->mtime_ns = m->attr.mtime_ns;
        i->data_version = m->attr.version;
    }
    rc = client_inode_set_small(i, m->attr.version, NULL, 0);
    if (rc < 0) {
        open_failed(t, rc);
        return;
    }
    if ((open_flags(t) & OPENDFS_WRITE) == 0) {
        open_ask(t); /* so that the server knows who has it open */
        return;
    }
    open_handle(t);
}

static void create_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_finish(t, r->rc); /* also what has gone since: there is nothing to open */
        return;
    }
    const struct proto_create_reply *m = r->body;
    if (m->created) {
        open_created(t, m);
    } else if ((open_flags(t) & OPENDFS_EXCLUSIVE) != 0) {
        client_task_finish(t, -EEXIST);
    } else if (m->attr.type == PROTO_INODE_FILE) {
        t->walk.attr = m->attr;
        open_existing(t);
    } else {
        open_walk(t); /* a symbolic link, perhaps */
    }
}

static void open_create(struct client_task *t, uint64_t dir, struct proto_bytes name)
{
    struct client_op *o = client_op_of(t->op);
    uint32_t flags = (o->flags & OPENDFS_EXCLUSIVE) != 0 ? PROTO_CREATE_EXCLUSIVE : 0;
    flags |= (o->flags & OPENDFS_WRITE) != 0 ? PROTO_CREATE_WOPEN : 0;
    flags |= (o->flags & OPENDFS_APPEND) != 0 ? PROTO_CREATE_APPEND : 0;
    t->request.create = (struct proto_create_request){.parent = dir,
                                                      .name = name,
                                                      .type = PROTO_INODE_FILE,
                                                      .mode = o->mode & 07777,
                                                      .umask = client_op_umask(o),
                                                      .flags = flags};
    client_task_mutate(t, PROTO_OP_create, create_done);
}

static void open_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.attr.ino == 0 && (open_flags(t) & OPENDFS_CREATE) == 0) {
        rc = -ENOENT;
    }
    if (rc < 0) {
        client_task_finish(t, rc);
    } else if (t->walk.attr.ino != 0) {
        open_existing(t);
    } else if (t->walk.slash) {
        client_task_finish(t, -EISDIR);
    } else if (++t->rounds > CLIENT_LINKS_MAX) {
        client_task_finish(t, -EAGAIN); /* it comes and goes */
    } else {
        open_create(t, t->walk.dir, t->walk.last);
    }
}

static void open_walk(struct client_task *t)
{
    const char *path = client_op_of(t->op)->path;
    client_walk_fini(&t->walk);
    if (path != NULL && path[0] == '\0' && t->op->at != 0 && t->rounds == 0) {
        t->walk.attr = (struct proto_attr){.ino = t->op->at, .type = PROTO_INODE_FILE};
        open_walked(t, 0); /* what it is comes with the answer */
        return;
    }
    t->walk.path = path;
    t->walk.at = t->op->at;
    t->walk.parent = false;
    t->walk.follow = (open_flags(t) & OPENDFS_NOFOLLOW) == 0;
    client_walk_start(t, open_walked);
}

void client_open_run(struct opendfs_op *op)
{
    const struct client_op *o = client_op_of(op);
    struct proto_bytes name;
    op->file = NULL;
    if ((o->flags & (OPENDFS_READ | OPENDFS_WRITE)) == 0) {
        client_op_finish(op, -EINVAL, o->path, NULL);
        return;
    }
    struct client_task *t = client_task_new(op);
    if (t == NULL) {
        return;
    }
    if ((o->flags & OPENDFS_CREATE) != 0 && client_walk_is_name(o->path, &name)) {
        bool rooted = o->path[0] == '/' || op->at == 0;
        open_create(t, rooted ? PROTO_ROOT_INO : op->at, name);
        return;
    }
    open_walk(t);
}

void opendfs_async_open(struct opendfs *fs, struct opendfs_op *op, const char *path, unsigned flags,
                        uint32_t mode)
{
    client_op_of(op)->path = path;
    client_op_of(op)->flags = flags;
    client_op_of(op)->mode = mode;
    client_op_start(fs, op, client_open_run);
}
