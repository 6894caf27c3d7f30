#include "client/inode_priv.h"
#include "client/op_priv.h"

#include <string.h>

/* Extended attributes, and access control lists, which are two of them. */

#define XATTR_VALUE_MAX 65536u

_Static_assert(OPENDFS_XATTR_CREATE == PROTO_XATTR_CREATE &&
                   OPENDFS_XATTR_REPLACE == PROTO_XATTR_REPLACE,
               "public and protocol flags are one");

/* What the system's calls refuse before they look at a file. `o->to` is the name; NULL: all. */
static int xattr_check(const struct client_op *o)
{
    if (o->to != NULL && (o->to[0] == '\0' || strlen(o->to) > PROTO_NAME_MAX)) {
        return -ERANGE;
    }
    if (o->in != NULL && o->len > XATTR_VALUE_MAX) {
        return -E2BIG;
    }
    return (o->flags & ~(uint32_t)(OPENDFS_XATTR_CREATE | OPENDFS_XATTR_REPLACE)) == 0 ? 0
                                                                                       : -EINVAL;
}

/* A walk to the inode; then `walked`. */
static void xattr_start(struct opendfs_op *op, void (*walked)(struct client_task *t, int rc))
{
    struct client_op *o = client_op_of(op);
    int rc = xattr_check(o);
    if (rc < 0) {
        client_op_finish(op, rc, o->path, NULL);
        return;
    }
    client_op_walk_ino(op, o->follow, walked);
}

/* True: the walk found an inode; else the operation has ended. */
static bool xattr_found(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
    }
    return rc == 0;
}

/* The caller wants to know the length only, has room for it, or gets -ERANGE. */
static void xattr_out(struct client_task *t, struct proto_bytes value)
{
    const struct client_op *o = client_op_of(t->op);
    if (o->len > 0 && value.len > o->len) {
        client_task_finish(t, -ERANGE);
        return;
    }
    if (o->len > 0 && value.len > 0) {
        memcpy(o->out, value.at, value.len);
    }
    client_task_finish(t, (int64_t)value.len);
}

/* --- get, list ----------------------------------------------------------------------------------
 */

static void get_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_getxattr_reply *m = r->body;
    xattr_out(t, m->value);
}

/* The kernel asks for it before the first write to each file that somebody opens. Who has the file
 * open knows that there is none, from when it was opened or of later: writes take it away in any
 * case, at the server. */
static bool get_known_absent(struct client_task *t)
{
    const struct client_inode *i = client_inode_find(t->fs, t->walk.attr.ino);
    bool known = i != NULL && i->attr.ino != 0 && !i->outdated && i->dead == 0;
    return known && (i->attr.flags & PROTO_INODE_HAS_XATTR) == 0 &&
           strcmp(client_op_of(t->op)->to, "security.capability") == 0;
}

static void get_walked(struct client_task *t, int rc)
{
    if (rc == 0 && get_known_absent(t)) {
        client_task_finish(t, -ENODATA);
    } else if (xattr_found(t, rc)) {
        t->request.getxattr = (struct proto_getxattr_request){
            .ino = t->walk.attr.ino, .name = proto_bytes_text(client_op_of(t->op)->to)};
        client_task_query(t, PROTO_OP_getxattr, get_done);
    }
}

static void list_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_listxattr_reply *m = r->body;
    xattr_out(t, m->names);
}

static void list_walked(struct client_task *t, int rc)
{
    if (xattr_found(t, rc)) {
        t->request.listxattr = (struct proto_listxattr_request){.ino = t->walk.attr.ino};
        client_task_query(t, PROTO_OP_listxattr, list_done);
    }
}

static void get_run(struct opendfs_op *op)
{
    bool all = client_op_of(op)->to == NULL;
    xattr_start(op, all ? list_walked : get_walked);
}

/* --- set, remove --------------------------------------------------------------------------------
 */

/* Of a file that is open here, what is known says nothing about them any more. */
static void set_outdates(struct client_task *t)
{
    struct client_inode *i = client_inode_find(t->fs, t->walk.attr.ino);
    if (i != NULL) {
        i->outdated = true;
        i->attr.flags |= PROTO_INODE_HAS_XATTR; /* perhaps; the next look says it */
    }
}

static void set_done(struct client_task *t, const struct peer_reply *r)
{
    set_outdates(t);
    client_task_finish(t, r->rc);
}

static void set_walked(struct client_task *t, int rc)
{
    const struct client_op *o = client_op_of(t->op);
    if (xattr_found(t, rc)) {
        t->request.setxattr =
            (struct proto_setxattr_request){.ino = t->walk.attr.ino,
                                            .name = proto_bytes_text(o->to),
                                            .value = proto_bytes_of(o->in, o->len),
                                            .flags = o->flags};
        client_task_mutate(t, PROTO_OP_setxattr, set_done);
    }
}

static void set_run(struct opendfs_op *op)
{
    xattr_start(op, set_walked);
}

static void remove_walked(struct client_task *t, int rc)
{
    if (xattr_found(t, rc)) {
        t->request.removexattr = (struct proto_removexattr_request){
            .ino = t->walk.attr.ino, .name = proto_bytes_text(client_op_of(t->op)->to)};
        client_task_mutate(t, PROTO_OP_removexattr, set_done);
    }
}

static void remove_run(struct opendfs_op *op)
{
    xattr_start(op, remove_walked);
}

/* --- the public functions -----------------------------------------------------------------------
 */

static void xattr_fill(struct opendfs_op *op, const char *path, const char *name, bool follow)
{
    struct client_op *o = client_op_of(op);
    o->path = path;
    o->to = name;
    o->follow = follow;
    o->in = NULL;
    o->out = NULL;
    o->len = 0;
    o->flags = 0;
}

static void start_get(struct opendfs *fs, struct opendfs_op *op, void *out, size_t size)
{
    client_op_of(op)->out = out;
    client_op_of(op)->len = size;
    client_op_start(fs, op, get_run);
}

static void start_set(struct opendfs *fs, struct opendfs_op *op, const struct opendfs_xattr *x)
{
    client_op_of(op)->in = x->size == 0 ? "" : x->value;
    client_op_of(op)->len = x->size;
    client_op_of(op)->flags = x->flags;
    client_op_start(fs, op, set_run);
}

void opendfs_async_getxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                            const char *name, void *value, size_t size)
{
    xattr_fill(op, path, name == NULL ? "" : name, true);
    start_get(fs, op, value, size);
}

void opendfs_async_lgetxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const char *name, void *value, size_t size)
{
    xattr_fill(op, path, name == NULL ? "" : name, false);
    start_get(fs, op, value, size);
}

void opendfs_async_listxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             char *names, size_t size)
{
    xattr_fill(op, path, NULL, true);
    start_get(fs, op, names, size);
}

void opendfs_async_llistxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                              char *names, size_t size)
{
    xattr_fill(op, path, NULL, false);
    start_get(fs, op, names, size);
}

void opendfs_async_setxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                            const struct opendfs_xattr *xattr)
{
    xattr_fill(op, path, xattr->name == NULL ? "" : xattr->name, true);
    start_set(fs, op, xattr);
}

void opendfs_async_lsetxattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const struct opendfs_xattr *xattr)
{
    xattr_fill(op, path, xattr->name == NULL ? "" : xattr->name, false);
    start_set(fs, op, xattr);
}

void opendfs_async_removexattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                               const char *name)
{
    xattr_fill(op, path, name == NULL ? "" : name, true);
    client_op_start(fs, op, remove_run);
}

void opendfs_async_lremovexattr(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                const char *name)
{
    xattr_fill(op, path, name == NULL ? "" : name, false);
    client_op_start(fs, op, remove_run);
}
