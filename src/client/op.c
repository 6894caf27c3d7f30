#include "client/times_priv.h"

#include <stdio.h>
#include <string.h>

static void op_arrived(struct loop_message *m)
{
    struct client_op *o = container_of(m, struct client_op, message);
    struct opendfs *fs = o->fs;
    struct opendfs_op *op = client_op_public(o);
    LOOP_OWNED(fs->loop);
    list_push_back(&fs->ops, &o->node);
    fs->op_count++;
    o->active = true;
    stats_count(&fs->counters.operations, 1);
    if (fs->stopping) {
        client_op_finish(op, -ESHUTDOWN, o->path, NULL);
        return;
    }
    o->run(op);
}

void client_op_start(struct opendfs *fs, struct opendfs_op *op, void (*run)(struct opendfs_op *op))
{
    struct client_op *o = client_op_of(op);
    o->fs = fs;
    o->run = run;
    o->cancel = NULL;
    o->task = NULL;
    o->held = NULL;
    o->release = NULL;
    op->result = 0;
    op->data = NULL;
    op->data_len = 0;
    op->entries = NULL;
    op->entry_count = 0;
    op->at_end = 0;
    op->error[0] = '\0';
    o->message.run = op_arrived;
    loop_complete(fs->loop, &o->message);
}

/* "path: cause". A path that leaves no room loses its middle, never the cause. */
static void op_describe(struct opendfs_op *op, const char *path, const char *cause)
{
    size_t room = sizeof op->error - base_min(strlen(cause), sizeof op->error / 2) - 3;
    size_t len = strlen(path);
    if (len == 0) {
        snprintf(op->error, sizeof op->error, "%s", cause);
    } else if (len <= room) {
        snprintf(op->error, sizeof op->error, "%s: %s", path, cause);
    } else {
        size_t end = (room - 3) / 2;
        snprintf(op->error, sizeof op->error, "%.*s...%s: %s", (int)end, path, path + len - end,
                 cause);
    }
}

void client_op_finish(struct opendfs_op *op, int64_t rc, const char *path, const char *why)
{
    struct client_op *o = client_op_of(op);
    struct opendfs *fs = o->fs;
    CHECK(o->active);
    o->active = false;
    o->cancel = NULL;
    list_remove(&o->node);
    fs->op_count--;
    op->result = rc;
    if (rc < 0) {
        int code = (int)rc;
        const char *text = why != NULL && why[0] != '\0' ? why : err_text(code);
        stats_count(&fs->counters.failures, 1);
        op->result = -err_to_errno(code);
        op_describe(op, path == NULL ? "" : path, text);
    }
    op->done(op);
    client_check_stopped(fs);
}

void client_op_hold(struct opendfs_op *op, void *held, void (*release)(struct opendfs *fs, void *))
{
    client_op_of(op)->held = held;
    client_op_of(op)->release = release;
}

/* Gives back from any thread: a message of its own, because the op may be used again at once. */
struct op_release {
    struct loop_message message;
    struct opendfs *fs;
    void *held;
    void (*release)(struct opendfs *fs, void *held);
};

static void op_release_run(struct loop_message *m)
{
    struct op_release *r = container_of(m, struct op_release, message);
    r->release(r->fs, r->held);
    mem_free(r);
}

void opendfs_async_release(struct opendfs *fs, struct opendfs_op *op)
{
    struct client_op *o = client_op_of(op);
    if (o->held == NULL) {
        return;
    }
    struct op_release *r = mem_zalloc(sizeof *r);
    CHECK(r != NULL); /* a few bytes, and there is no other way to tell */
    r->fs = fs;
    r->held = o->held;
    r->release = o->release;
    r->message.run = op_release_run;
    o->held = NULL;
    op->data = NULL;
    op->entries = NULL;
    loop_complete(fs->loop, &r->message);
}

struct op_cancel {
    struct loop_message message;
    struct opendfs *fs;
    struct opendfs_op *op;
};

void client_op_cancel(struct opendfs_op *op)
{
    struct client_op *o = client_op_of(op);
    if (o->active && o->cancel != NULL) {
        o->cancel(op);
    }
}

/* It may be done, and its memory gone, by the time that this comes. */
static void op_cancel_run(struct loop_message *m)
{
    struct op_cancel *c = container_of(m, struct op_cancel, message);
    LIST_FOR_EACH(node, &c->fs->ops)
    {
        if (client_op_public(LIST_ENTRY(node, struct client_op, node)) == c->op) {
            client_op_cancel(c->op);
            break;
        }
    }
    mem_free(c);
}

void opendfs_async_cancel(struct opendfs *fs, struct opendfs_op *op)
{
    struct op_cancel *c = mem_zalloc(sizeof *c);
    if (c != NULL) { /* else it is simply not cancelled */
        c->op = op;
        c->fs = fs;
        c->message.run = op_cancel_run;
        loop_complete(fs->loop, &c->message);
    }
}

/* --- attributes ---------------------------------------------------------------------------------
 */

static const struct {
    uint8_t type;
    uint32_t public_type;
} op_types[] = {
    {PROTO_INODE_FILE, OPENDFS_TYPE_FILE},       {PROTO_INODE_DIRECTORY, OPENDFS_TYPE_DIRECTORY},
    {PROTO_INODE_SYMLINK, OPENDFS_TYPE_SYMLINK}, {PROTO_INODE_FIFO, OPENDFS_TYPE_FIFO},
    {PROTO_INODE_SOCKET, OPENDFS_TYPE_SOCKET},   {PROTO_INODE_CHAR, OPENDFS_TYPE_CHAR},
    {PROTO_INODE_BLOCK, OPENDFS_TYPE_BLOCK},
};

uint32_t client_inode_type(uint32_t public_type)
{
    for (size_t i = 0; i < ARRAY_COUNT(op_types); i++) {
        if (op_types[i].public_type == public_type) {
            return op_types[i].type;
        }
    }
    return 0;
}

void client_stat_from(const struct proto_attr *a, struct opendfs_stat *ret)
{
    uint64_t most = base_align_up(a->size, PROTO_CELL_BYTES); /* what was cut is on record yet */
    uint32_t type = 0;
    for (size_t i = 0; i < ARRAY_COUNT(op_types); i++) {
        type = op_types[i].type == a->type ? op_types[i].public_type : type;
    }
    *ret = (struct opendfs_stat){.ino = a->ino,
                                 .type = type,
                                 .mode = a->mode,
                                 .nlink = a->nlink,
                                 .uid = a->uid,
                                 .gid = a->gid,
                                 .rdev = a->rdev,
                                 .size_bytes = a->size,
                                 .allocated_bytes = base_min(a->allocated, most),
                                 .atime_ns = a->atime_ns,
                                 .mtime_ns = a->mtime_ns,
                                 .ctime_ns = a->ctime_ns,
                                 .btime_ns = a->btime_ns,
                                 .version = a->version};
}

/* --- tasks --------------------------------------------------------------------------------------
 */

/* Of what the mutation has made or changed. NULL: its answer does not say. */
static const struct proto_attr *task_attr(uint16_t opcode, const void *body)
{
    switch (opcode) {
    case PROTO_OP_create:
        return &((const struct proto_create_reply *)body)->attr;
    case PROTO_OP_link:
        return &((const struct proto_link_reply *)body)->attr;
    case PROTO_OP_setattr:
        return &((const struct proto_setattr_reply *)body)->attr;
    case PROTO_OP_trash_restore:
        return &((const struct proto_trash_restore_reply *)body)->attr;
    default:
        return NULL;
    }
}

/* Asked again and answered once more (L7): it was done, and nothing can be told of its object. */
static bool task_gone(const struct client_call *c, const struct peer_reply *r)
{
    const struct proto_attr *a =
        c->mutation && r->rc == 0 ? task_attr(c->peer.opcode, r->body) : NULL;
    return a != NULL && a->ino != 0 && a->type == 0;
}

static void task_landed(struct client_call *c, const struct peer_reply *r)
{
    const struct peer_reply gone = {.rc = -ERR_gone_since, .answered = true};
    struct client_task *t = container_of(c, struct client_task, call);
    client_op_of(t->op)->cancel = NULL;
    t->unanswered = !r->answered;
    if (task_gone(c, r)) {
        t->op->stat = (struct opendfs_stat){.ino = task_attr(c->peer.opcode, r->body)->ino};
        r = &gone;
    }
    if (r->rc == -EDQUOT && r->failure != NULL) { /* which directory, which limit */
        t->told = r->rc;
        proto_bytes_to_c(r->failure->text, t->words, sizeof t->words);
    }
    if (r->rc == -ERR_cancelled || t->fs->freeing) {
        client_task_finish(t, -ECANCELED);
        return;
    }
    t->next(t, r);
}

static void task_cancel(struct opendfs_op *op)
{
    struct client_task *t = client_op_of(op)->task;
    client_call_cancel(&t->call);
}

struct client_task *client_task_new(struct opendfs_op *op)
{
    struct client_task *t = mem_alloc(sizeof *t);
    if (t == NULL) {
        client_op_finish(op, -ENOMEM, client_op_of(op)->path, NULL);
        return NULL;
    }
    memset(t, 0, offsetof(struct client_task, walk.name));
    t->fs = client_op_of(op)->fs;
    t->op = op;
    t->call.done = task_landed;
    t->call.as = op->as;
    client_op_of(op)->task = t;
    return t;
}

static void task_free(struct client_task *t)
{
    if (t->sets) { /* it was cancelled: nobody knows whether it was done */
        client_times_end(t, -ECANCELED);
    }
    client_walk_fini(&t->walk);
    mem_free(t->made);
    mem_free(t);
}

/* Where nobody has answered, why nobody is found says more than the number. */
void client_task_finish(struct client_task *t, int64_t rc)
{
    struct opendfs_op *op = t->op;
    struct opendfs *fs = t->fs;
    char why[OPENDFS_ERROR_SIZE] = "";
    if (rc < 0 && t->unanswered && !fs->freeing) {
        snprintf(why, sizeof why, "%s", peer_trouble(fs->meta)->text);
    } else if (rc < 0 && rc == t->told) {
        memcpy(why, t->words, sizeof why);
    }
    task_free(t);
    client_op_finish(op, rc, client_op_of(op)->path, why);
}

/* What was done was done, though somebody has removed it since: all that is left to tell is its
 * number. */
void client_task_fail(struct client_task *t, const struct peer_reply *r)
{
    client_task_finish(t, r->rc == -ERR_gone_since ? 0 : r->rc);
}

bool client_task_again(struct client_task *t, int rc, void (*walked)(struct client_task *t, int rc))
{
    const struct client_op *o = client_op_of(t->op);
    bool gone = rc == -ENOENT || rc == -ESTALE;
    if (!gone || o->path == NULL || o->path[0] == '\0' || ++t->rounds > CLIENT_LINKS_MAX) {
        return false;
    }
    client_walk_fini(&t->walk);
    t->walk.path = o->path;
    t->walk.at = t->op->at;
    t->walk.parent = false;
    client_walk_start(t, walked);
    return true;
}

void client_task_query(struct client_task *t, uint16_t opcode,
                       void (*next)(struct client_task *t, const struct peer_reply *r))
{
    t->next = next;
    client_op_of(t->op)->cancel = task_cancel;
    client_query(t->fs, &t->call, opcode, &t->request);
}

void client_task_mutate(struct client_task *t, uint16_t opcode,
                        void (*next)(struct client_task *t, const struct peer_reply *r))
{
    t->next = next;
    client_op_of(t->op)->cancel = task_cancel;
    client_mutate(t->fs, &t->call, opcode, &t->request);
}
