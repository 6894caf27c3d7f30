#include "client/times_priv.h"

#include <string.h>

/* Attributes, links' targets, directories, space and state. */

/* --- readlink -----------------------------------------------------------------------------------
 */

static void readlink_walked(struct client_task *t, int rc);

static void readlink_done(struct client_task *t, const struct peer_reply *r)
{
    struct client_op *o = client_op_of(t->op);
    if (client_task_again(t, r->rc, readlink_walked)) {
        return;
    }
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_readlink_reply *m = r->body;
    if (o->len > 0) {
        proto_bytes_to_c(m->target, o->out, o->len);
    }
    client_task_finish(t, (int64_t)m->target.len);
}

static void readlink_walked(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    rc = rc == 0 && t->walk.attr.type != PROTO_INODE_SYMLINK && t->walk.attr.type != 0 ? -EINVAL
                                                                                       : rc;
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.readlink = (struct proto_readlink_request){.ino = t->walk.attr.ino};
    client_task_query(t, PROTO_OP_readlink, readlink_done);
}

static void readlink_run(struct opendfs_op *op)
{
    client_op_walk_ino(op, false, readlink_walked);
}

void opendfs_async_readlink(struct opendfs *fs, struct opendfs_op *op, const char *path, char *out,
                            size_t size)
{
    client_op_of(op)->path = path;
    client_op_of(op)->out = out;
    client_op_of(op)->len = size;
    client_op_start(fs, op, readlink_run);
}

/* --- access -------------------------------------------------------------------------------------
 */

static void access_walked(struct client_task *t, int rc);

static void access_done(struct client_task *t, const struct peer_reply *r)
{
    if (client_task_again(t, r->rc, access_walked)) {
        return;
    }
    if (r->rc < 0) {
        client_task_fail(t, r);
    } else {
        client_task_finish(t, 0);
    }
}

static void access_walked(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.access = (struct proto_access_request){.ino = t->walk.attr.ino,
                                                      .rights = (uint8_t)client_op_of(t->op)->mode};
    client_task_query(t, PROTO_OP_access, access_done);
}

static void access_run(struct opendfs_op *op)
{
    client_op_walk_ino(op, true, access_walked);
}

_Static_assert(OPENDFS_READ == PROTO_RIGHT_READ && OPENDFS_WRITE == PROTO_RIGHT_WRITE, "rights");
void opendfs_async_access(struct opendfs *fs, struct opendfs_op *op, const char *path,
                          unsigned rights)
{
    uint32_t both = rights & (OPENDFS_READ | OPENDFS_WRITE);
    client_op_of(op)->path = path;
    client_op_of(op)->mode = both | ((rights & OPENDFS_EXECUTE) != 0 ? PROTO_RIGHT_EXEC : 0);
    client_op_start(fs, op, access_run);
}

/* --- setattr ------------------------------------------------------------------------------------
 */

#define SETTABLE                                                                                   \
    (OPENDFS_SET_MODE | OPENDFS_SET_UID | OPENDFS_SET_GID | OPENDFS_SET_SIZE | OPENDFS_SET_ATIME | \
     OPENDFS_SET_MTIME | OPENDFS_SET_ATIME_NOW | OPENDFS_SET_MTIME_NOW | OPENDFS_SET_KILL_PRIV)

static void setattr_walked(struct client_task *t, int rc);

static void setattr_done(struct client_task *t, const struct peer_reply *r)
{
    client_times_end(t, r->rc);
    if (client_task_again(t, r->rc, setattr_walked)) {
        return;
    }
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_setattr_reply *m = r->body;
    struct proto_attr a = m->attr;
    client_times_known(t->fs, &a);
    client_inode_freshen(t->fs, &a);
    client_stat_from(&a, &t->op->stat);
    client_task_finish(t, 0);
}

void client_setattr_fill(struct proto_setattr_request *r, uint64_t ino,
                         const struct opendfs_stat *v, uint32_t mask)
{
    *r = (struct proto_setattr_request){.ino = ino,
                                        .mask = mask & SETTABLE,
                                        .mode = v->mode & 07777,
                                        .uid = v->uid,
                                        .gid = v->gid,
                                        .size = v->size_bytes,
                                        .atime_ns = v->atime_ns,
                                        .mtime_ns = v->mtime_ns};
}

static void setattr_walked(struct client_task *t, int rc)
{
    struct client_op *o = client_op_of(t->op);
    rc = client_walk_found(t, rc);
    rc = rc == 0 && (o->mask & ~(uint32_t)SETTABLE) != 0 ? -EINVAL : rc;
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    client_setattr_fill(&t->request.setattr, t->walk.attr.ino, o->values, o->mask);
    client_times_set(t, setattr_done);
}

/*
 * A new size is a matter of the chunks too: the file is opened for writing, cut and closed, as
 * ftruncate() does it.
 */
struct resize {
    struct opendfs_op inner;
    struct opendfs_op *outer;
    int64_t rc;
    char error[OPENDFS_ERROR_SIZE];
};

static void resize_closed(struct opendfs_op *inner)
{
    struct resize *z = inner->context;
    struct opendfs_op *outer = z->outer;
    const char *error = z->rc < 0 ? z->error : inner->error;
    int64_t rc = z->rc < 0 ? z->rc : inner->result;
    if (rc == 0) {
        outer->stat = inner->stat;
    }
    char why[OPENDFS_ERROR_SIZE];
    memcpy(why, error, sizeof why);
    mem_free(z);
    client_op_finish(outer, rc, NULL, why);
}

static void resize_cut(struct opendfs_op *inner)
{
    struct resize *z = inner->context;
    const struct client_op *o = client_op_of(z->outer);
    uint32_t mask = o->mask & ~(uint32_t)OPENDFS_SET_SIZE;
    z->rc = inner->result;
    memcpy(z->error, inner->error, sizeof z->error);
    inner->done = resize_closed;
    opendfs_async_close(o->fs, inner, inner->file, o->values, z->rc < 0 ? 0 : mask);
}

static void resize_opened(struct opendfs_op *inner)
{
    struct resize *z = inner->context;
    const struct client_op *o = client_op_of(z->outer);
    if (inner->result < 0) {
        resize_closed(inner);
        return;
    }
    inner->done = resize_cut;
    opendfs_async_ftruncate(o->fs, inner, inner->file, o->values->size_bytes);
}

static void resize_run(struct opendfs_op *op)
{
    const struct client_op *o = client_op_of(op);
    struct resize *z = mem_zalloc(sizeof *z);
    if (z == NULL) {
        client_op_finish(op, -ENOMEM, o->path, NULL);
        return;
    }
    z->outer = op;
    z->inner.context = z;
    z->inner.done = resize_opened;
    z->inner.at = o->ino != 0 ? o->ino : op->at;
    z->inner.as = op->as;
    opendfs_async_open(o->fs, &z->inner, o->path == NULL ? "" : o->path,
                       OPENDFS_WRITE | OPENDFS_NOFOLLOW, 0);
}

static void setattr_run(struct opendfs_op *op)
{
    struct client_op *o = client_op_of(op);
    if ((o->mask & OPENDFS_SET_SIZE) != 0) {
        resize_run(op);
        return;
    }
    if (o->ino == 0) {
        client_op_walk(op, false, setattr_walked);
        return;
    }
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        client_setattr_fill(&t->request.setattr, o->ino, o->values, o->mask);
        client_times_set(t, setattr_done);
    }
}

void opendfs_async_setattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                           const struct opendfs_stat *values, unsigned mask)
{
    client_op_of(op)->path = path;
    client_op_of(op)->ino = 0;
    client_op_of(op)->values = values;
    client_op_of(op)->mask = mask;
    client_op_start(fs, op, setattr_run);
}

void opendfs_async_setattr_ino(struct opendfs *fs, struct opendfs_op *op, uint64_t ino,
                               const struct opendfs_stat *values, unsigned mask)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->ino = ino;
    client_op_of(op)->values = values;
    client_op_of(op)->mask = mask;
    client_op_start(fs, op, setattr_run);
}

/* --- directories --------------------------------------------------------------------------------
 */

#define PAGE_ENTRIES 2048u
#define PAGE_BYTES (512u << 10)

void client_op_free_held(struct opendfs *fs, void *held)
{
    (void)fs;
    mem_free(held);
}

/* One block: the entries, then the names, each with a NUL. */
static int list_take(struct client_task *t, const struct proto_readdir_reply *m)
{
    size_t bytes = m->entries.count * sizeof(struct opendfs_entry);
    for (size_t i = 0; i < m->entries.count; i++) {
        bytes += m->entries.at[i].name.len + 1;
    }
    struct opendfs_entry *entries = mem_zalloc(bytes + 1);
    if (entries == NULL) {
        return -ENOMEM;
    }
    char *name = (char *)(entries + m->entries.count);
    for (size_t i = 0; i < m->entries.count; i++) {
        const struct proto_dirent *d = &m->entries.at[i];
        struct opendfs_entry *e = &entries[i];
        e->name = name;
        e->name_len = d->name.len;
        memcpy(name, d->name.at, d->name.len);
        name += d->name.len + 1;
        if (d->has_attr) {
            client_stat_from(&d->attr, &e->stat);
        } else {
            struct proto_attr a = {.ino = d->ino, .type = d->type};
            client_stat_from(&a, &e->stat);
        }
    }
    t->op->entries = entries;
    t->op->entry_count = m->entries.count;
    t->op->at_end = m->eof ? 1 : 0;
    client_op_hold(t->op, entries, client_op_free_held);
    return 0;
}

static void list_walked(struct client_task *t, int rc);

static void list_done(struct client_task *t, const struct peer_reply *r)
{
    if (client_task_again(t, r->rc, list_walked)) {
        return;
    }
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_task_finish(t, list_take(t, r->body));
}

static void list_ask(struct client_task *t, uint64_t ino)
{
    const struct client_op *o = client_op_of(t->op);
    size_t max = o->len == 0 ? PAGE_ENTRIES : o->len;
    t->op->stat.ino = ino;
    t->request.readdir =
        (struct proto_readdir_request){.ino = ino,
                                       .after = proto_bytes_text(o->to == NULL ? "" : o->to),
                                       .max_entries = (uint32_t)base_min(max, 8192),
                                       .max_bytes = PAGE_BYTES,
                                       .want_attr = true};
    client_task_query(t, PROTO_OP_readdir, list_done);
}

static void list_walked(struct client_task *t, int rc)
{
    rc = client_walk_found_dir(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    list_ask(t, t->walk.attr.ino);
}

static void list_run(struct opendfs_op *op)
{
    if (client_op_of(op)->path != NULL) {
        client_op_walk(op, true, list_walked);
        return;
    }
    struct client_task *t = client_task_new(op);
    if (t != NULL) { /* the directory `at` itself */
        list_ask(t, op->at == 0 ? PROTO_ROOT_INO : op->at);
    }
}

void opendfs_async_list(struct opendfs *fs, struct opendfs_op *op, const char *path,
                        const char *after, size_t max)
{
    client_op_of(op)->path = path;
    client_op_of(op)->to = after;
    client_op_of(op)->len = max;
    client_op_start(fs, op, list_run);
}

/* --- cluster ------------------------------------------------------------------------------------
 */

static void status_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_status_reply *m = r->body;
    char *copy = mem_zalloc(m->body.len + 1);
    if (copy == NULL) {
        client_task_finish(t, -ENOMEM);
        return;
    }
    memcpy(copy, m->body.at, m->body.len);
    t->op->data = copy;
    t->op->data_len = m->body.len;
    client_op_hold(t->op, copy, client_op_free_held);
    client_task_finish(t, 0);
}

static void status_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.status = (struct proto_status_request){.format = PROTO_FORMAT_JSON};
        t->next = status_done;
        client_ask(t->fs, &t->call, PROTO_OP_status, &t->request);
    }
}

void opendfs_async_status_json(struct opendfs *fs, struct opendfs_op *op)
{
    client_op_of(op)->path = NULL;
    client_op_start(fs, op, status_run);
}
