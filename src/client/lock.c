#include "client/lock_priv.h"

#include "base/log.h"
#include "client/io_priv.h"
#include "opendfs/lock.h"

/*
 * Locks (coherence.md section 8). Every one is asked for at the leader. Who has got one forgets
 * what it knew of the file; who lets one go has published before what it wrote: a file that is
 * shared is written through, and one that is written by this client alone nobody else sees before
 * it was taken back.
 *
 * A question that waits is asked again after each attempt, with the same cookie, so that it keeps
 * its place. Given up, it is asked once more whether it had been granted: only the leader knows.
 */

struct lock_ask {
    struct opendfs_op *op, flush;
    struct client_inode *inode;
    struct client_holder *holder; /* NULL: of a test */
    struct opendfs_lock lock;
    struct opendfs_lock *found; /* of a test: where it goes */
    bool wait, cancelled;
    struct client_call call;
    union {
        struct proto_lock_request lock;
        struct proto_lock_test_request test;
        struct proto_unlock_request unlock;
    } request;
};
/* Nobody waits for it. */
struct lock_drop {
    struct client_inode *inode;
    struct client_call call;
    struct proto_unlock_request request;
};

static struct client_holder *holder_find(const struct client_inode *i, unsigned kind,
                                         uint64_t owner)
{
    LIST_FOR_EACH(at, &i->locks)
    {
        struct client_holder *h = LIST_ENTRY(at, struct client_holder, node);
        if (h->kind == kind && h->owner == owner) {
            return h;
        }
    }
    return NULL;
}

static struct client_holder *holder_get(struct client_inode *i, const struct opendfs_lock *l)
{
    struct client_holder *h = holder_find(i, l->kind, l->owner);
    if (h == NULL) {
        h = mem_zalloc(sizeof *h);
        if (h != NULL) {
            h->owner = l->owner;
            h->kind = (uint8_t)l->kind;
            list_push_back(&i->locks, &h->node);
        }
    }
    return h;
}

static void holder_tidy(struct client_holder *h)
{
    if (!h->has && h->asking == 0) {
        list_remove(&h->node);
        mem_free(h);
    }
}

bool client_lock_held(const struct opendfs_file *f, unsigned kind, uint64_t owner)
{
    return holder_find(f->inode, kind, owner) != NULL;
}

bool client_lock_dropped(struct opendfs_file *f)
{
    bool dropped = f->inode->lock_dropped;
    f->inode->lock_dropped = false;
    return dropped;
}

static void ask_end(struct lock_ask *a, int rc)
{
    struct opendfs_op *op = a->op;
    struct client_inode *i = a->inode;
    char path[512] = "";
    proto_bytes_to_c(proto_bytes_text(op->file->path), path, sizeof path);
    if (a->holder != NULL) {
        a->holder->asking--;
        holder_tidy(a->holder);
    }
    mem_free(a);
    client_op_finish(op, rc, path, NULL);
    client_inode_put(i);
}

/* --- letting go ---------------------------------------------------------------------------------
 */

static bool lock_is_all(const struct opendfs_lock *l)
{
    return l->start == 0 && l->last == OPENDFS_LOCK_LAST;
}

static struct proto_unlock_request unlock_of(const struct client_inode *i,
                                             const struct opendfs_lock *l)
{
    return (struct proto_unlock_request){.ino = i->ino,
                                         .kind = (uint8_t)l->kind,
                                         .owner = l->owner,
                                         .start = l->start,
                                         .last = l->last};
}

static void unlock_done(struct client_call *c, const struct peer_reply *r)
{
    struct lock_ask *a = container_of(c, struct lock_ask, call);
    bool ended = r->rc == 0 || r->rc == -ERR_session_expired;
    if (ended && lock_is_all(&a->lock)) {
        a->holder->has = false;
    }
    ask_end(a, r->rc == -ERR_session_expired ? 0 : r->rc);
}

static void unlock_send(struct lock_ask *a)
{
    a->request.unlock = unlock_of(a->inode, &a->lock);
    a->call.done = unlock_done;
    client_mutate(a->inode->fs, &a->call, PROTO_OP_unlock, &a->request.unlock);
}

/* Errors of writing are told by fsync and close. */
static void unlock_flushed(struct opendfs_op *op)
{
    unlock_send(op->context);
}

static void unlock_begin(struct lock_ask *a)
{
    struct client_inode *i = a->inode;
    if (i->mode == PROTO_OPEN_S && i->dead == 0) {
        a->flush = (struct opendfs_op){
            .done = unlock_flushed, .context = a, .as = a->op->as, .umask = a->op->umask};
        opendfs_async_flush(i->fs, &a->flush, a->op->file);
    } else {
        unlock_send(a);
    }
}

static void drop_done(struct client_call *c, const struct peer_reply *r)
{
    struct lock_drop *d = container_of(c, struct lock_drop, call);
    struct client_inode *i = d->inode;
    if (r->rc < 0 && r->rc != -ERR_session_expired && !i->fs->freeing && !i->fs->stopping) {
        log_warn(i->fs->env.log, "a lock stays until the session ends", LOG_U64("ino", i->ino),
                 LOG_RC(r->rc));
    }
    mem_free(d);
    client_inode_put(i);
}

/* In the background: whoever wants the lock waits for it at the leader. */
static void lock_drop(struct client_inode *i, const struct client_holder *h)
{
    struct opendfs *fs = i->fs;
    struct lock_drop *d = mem_zalloc(sizeof *d);
    if (d == NULL) {
        log_warn(fs->env.log, "a lock stays until the session ends", LOG_U64("ino", i->ino),
                 LOG_RC(-ENOMEM));
        return;
    }
    const struct opendfs_lock all = {.kind = h->kind, .owner = h->owner, .last = OPENDFS_LOCK_LAST};
    i->refs++;
    d->inode = i;
    d->request = unlock_of(i, &all);
    d->call.done = drop_done;
    client_mutate(fs, &d->call, PROTO_OP_unlock, &d->request);
    d->call.deadline_ns = 0; /* nobody would try again */
}

void client_locks_closed(struct opendfs_file *f)
{
    struct client_inode *i = f->inode;
    LIST_FOR_EACH_SAFE(at, &i->locks)
    {
        struct client_holder *h = LIST_ENTRY(at, struct client_holder, node);
        if (h->file == f) {
            h->file = NULL;
            if (h->has && !i->fs->freeing) {
                lock_drop(i, h);
            }
            h->has = false;
            holder_tidy(h);
        }
    }
}

void client_locks_lost(struct client_inode *i)
{
    LIST_FOR_EACH_SAFE(at, &i->locks)
    {
        struct client_holder *h = LIST_ENTRY(at, struct client_holder, node);
        if (h->has) {
            log_warn(i->fs->env.log, "a lock was lost with the session", LOG_U64("ino", i->ino));
        }
        h->has = false;
        holder_tidy(h);
    }
}

void client_locks_fini(struct client_inode *i)
{
    LIST_FOR_EACH_SAFE(at, &i->locks)
    {
        struct client_holder *h = LIST_ENTRY(at, struct client_holder, node);
        CHECK(h->asking == 0);
        list_remove(&h->node);
        mem_free(h);
    }
}

/* --- taking -------------------------------------------------------------------------------------
 */

static void lock_send(struct lock_ask *a);

/* What was known and read ahead may be older than what the last holder has written. */
static void lock_granted(struct lock_ask *a, uint64_t data_version)
{
    struct client_inode *i = a->inode;
    a->holder->has = true;
    a->holder->type = (uint8_t)a->lock.type;
    a->holder->file = a->op->file;
    if (i->mode != PROTO_OPEN_W && i->lock_version != data_version) {
        i->lock_version = data_version;
        i->lock_dropped = true;
        i->outdated = true;
        i->writes++;
    }
    ask_end(a, 0);
}

static void lock_answered(struct lock_ask *a, const struct proto_lock_reply *m)
{
    switch (m->outcome) {
    case PROTO_LOCK_GRANTED:
        lock_granted(a, m->data_version);
        break;
    case PROTO_LOCK_CONFLICT:
        ask_end(a, -EAGAIN);
        break;
    case PROTO_LOCK_DEADLOCK:
        ask_end(a, -EDEADLK);
        break;
    case PROTO_LOCK_INTERRUPTED:
        ask_end(a, -ECANCELED);
        break;
    default:
        ask_end(a, -EPROTO);
        break;
    }
}

static void lock_done(struct client_call *c, const struct peer_reply *r)
{
    struct lock_ask *a = container_of(c, struct lock_ask, call);
    struct opendfs *fs = a->inode->fs;
    if (r->rc == 0) {
        lock_answered(a, r->body);
        return;
    }
    if (a->cancelled && !a->request.lock.cancel && !fs->freeing) {
        a->request.lock.cancel = true;
        lock_send(a); /* it may have been granted */
        return;
    }
    a->holder->has = a->holder->has || !r->answered; /* perhaps */
    a->holder->file = a->holder->file == NULL ? a->op->file : a->holder->file;
    ask_end(a, r->rc == -ERR_cancelled ? -ECANCELED : r->rc);
}

static void lock_send(struct lock_ask *a)
{
    struct opendfs *fs = a->inode->fs;
    a->call = (struct client_call){.done = lock_done};
    client_query(fs, &a->call, PROTO_OP_lock, &a->request.lock);
    if (a->wait) {
        a->call.deadline_ns = 0; /* however long others have it */
    }
}

static void lock_cancel(struct opendfs_op *op)
{
    struct lock_ask *a = client_op_of(op)->task;
    if (a->wait && !a->cancelled) {
        a->cancelled = true;
        client_call_cancel(&a->call);
    }
}

static void lock_begin(struct lock_ask *a)
{
    const struct opendfs_lock *l = &a->lock;
    struct client_op *o = client_op_of(a->op);
    a->request.lock = (struct proto_lock_request){.ino = a->inode->ino,
                                                  .kind = (uint8_t)l->kind,
                                                  .type = (uint8_t)l->type,
                                                  .owner = l->owner,
                                                  .pid = l->pid,
                                                  .start = l->start,
                                                  .last = l->last,
                                                  .wait = a->wait,
                                                  .cookie = ++a->inode->fs->lock_cookies};
    o->task = a;
    o->cancel = lock_cancel;
    lock_send(a);
}

static void convert_done(struct client_call *c, const struct peer_reply *r)
{
    struct lock_ask *a = container_of(c, struct lock_ask, call);
    if (r->rc < 0 && r->rc != -ERR_session_expired) {
        ask_end(a, r->rc);
        return;
    }
    a->holder->has = false;
    lock_begin(a);
}

/* flock(2) of another type: the old one goes first, as in Linux. Else two that read and both want
 * to write would wait for each other for ever. */
static void convert_flushed(struct opendfs_op *op)
{
    struct lock_ask *a = op->context;
    a->request.unlock = unlock_of(a->inode, &a->lock);
    a->call.done = convert_done;
    client_mutate(a->inode->fs, &a->call, PROTO_OP_unlock, &a->request.unlock);
}

static void convert_begin(struct lock_ask *a)
{
    a->flush = (struct opendfs_op){
        .done = convert_flushed, .context = a, .as = a->op->as, .umask = a->op->umask};
    opendfs_async_flush(a->inode->fs, &a->flush, a->op->file);
}

static void test_done(struct client_call *c, const struct peer_reply *r)
{
    struct lock_ask *a = container_of(c, struct lock_ask, call);
    if (r->rc == 0) {
        const struct proto_lock_test_reply *m = r->body;
        a->found->type = m->type;
        if (m->type != PROTO_LOCK_NONE) {
            a->found->start = m->start;
            a->found->last = m->last;
            a->found->pid = m->pid;
        }
    }
    ask_end(a, r->rc);
}

static void test_begin(struct lock_ask *a)
{
    const struct opendfs_lock *l = &a->lock;
    a->request.test = (struct proto_lock_test_request){.ino = a->inode->ino,
                                                       .kind = (uint8_t)l->kind,
                                                       .type = (uint8_t)l->type,
                                                       .owner = l->owner,
                                                       .start = l->start,
                                                       .last = l->last};
    a->call.done = test_done;
    client_query(a->inode->fs, &a->call, PROTO_OP_lock_test, &a->request.test);
}

/* --- starting -----------------------------------------------------------------------------------
 */

static int lock_check(const struct opendfs_file *f, const struct opendfs_lock *l, bool test)
{
    bool kind = l->kind == OPENDFS_LOCK_POSIX || l->kind == OPENDFS_LOCK_FLOCK;
    bool range = l->start <= l->last && l->last <= OPENDFS_LOCK_LAST;
    bool whole = l->kind != OPENDFS_LOCK_FLOCK || lock_is_all(l);
    if (!kind || !range || !whole || l->type > OPENDFS_LOCK_WRITE ||
        (test && l->type == OPENDFS_LOCK_NONE)) {
        return -EINVAL;
    }
    unsigned needs = l->type == OPENDFS_LOCK_WRITE ? OPENDFS_WRITE : OPENDFS_READ;
    bool posix = l->kind == OPENDFS_LOCK_POSIX && l->type != OPENDFS_LOCK_NONE && !test;
    return posix && (f->flags & needs) == 0 ? -EBADF : 0;
}

static struct lock_ask *ask_new(struct opendfs_op *op, const struct opendfs_lock *l)
{
    struct client_inode *i = op->file->inode;
    struct lock_ask *a = mem_zalloc(sizeof *a);
    if (a != NULL) {
        a->op = op;
        a->inode = i;
        a->lock = *l;
        i->refs++;
    }
    return a;
}

static void lock_run(struct opendfs_op *op)
{
    struct client_op *o = client_op_of(op);
    const struct opendfs_lock *l = o->in;
    struct client_inode *i = op->file->inode;
    struct client_holder *h = holder_find(i, l->kind, l->owner);
    int rc = lock_check(op->file, l, false);
    if (rc < 0 || (l->type == OPENDFS_LOCK_NONE && h == NULL)) {
        client_op_finish(op, rc, NULL, NULL);
        return;
    }
    h = h == NULL ? holder_get(i, l) : h;
    struct lock_ask *a = h == NULL ? NULL : ask_new(op, l);
    if (a == NULL) {
        if (h != NULL) {
            holder_tidy(h);
        }
        client_op_finish(op, -ENOMEM, NULL, NULL);
        return;
    }
    a->holder = h;
    a->wait = o->mask != 0;
    h->asking++;
    if (l->type == OPENDFS_LOCK_NONE) {
        unlock_begin(a);
    } else if (l->kind == OPENDFS_LOCK_FLOCK && h->has && h->type != l->type) {
        convert_begin(a);
    } else {
        lock_begin(a);
    }
}

static void test_run(struct opendfs_op *op)
{
    struct opendfs_lock *l = client_op_of(op)->out;
    int rc = lock_check(op->file, l, true);
    struct lock_ask *a = rc < 0 ? NULL : ask_new(op, l);
    if (a == NULL) {
        client_op_finish(op, rc < 0 ? rc : -ENOMEM, NULL, NULL);
        return;
    }
    a->found = l;
    test_begin(a);
}

void opendfs_async_lock(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                        const struct opendfs_lock *lock, int wait)
{
    struct client_op *o = client_op_of(op);
    op->file = file;
    o->path = NULL;
    o->in = lock;
    o->mask = wait != 0;
    client_op_start(fs, op, lock_run);
}

void opendfs_async_lock_test(struct opendfs *fs, struct opendfs_op *op, struct opendfs_file *file,
                             struct opendfs_lock *lock)
{
    struct client_op *o = client_op_of(op);
    op->file = file;
    o->path = NULL;
    o->out = lock;
    client_op_start(fs, op, test_run);
}
