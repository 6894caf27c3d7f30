#include "client/op_priv.h"

#include <string.h>

/*
 * Paths: at most CLIENT_PATH_MAX bytes, also after a symbolic link was put in; ".." goes to the
 * parent directory that the server knows, so it means what it means in the kernel.
 */

static void walk_on(struct client_task *t);
static int walk_begin(struct client_walk *w);

static void walk_end(struct client_task *t, int rc)
{
    struct client_walk *w = &t->walk;
    if (rc == 0 && w->attr.ino != 0 && w->slash && !w->parent &&
        w->attr.type != PROTO_INODE_DIRECTORY) {
        rc = -ENOTDIR;
    }
    t->walked(t, rc);
}

static size_t name_len(const char *at)
{
    return strcspn(at, "/");
}

static const char *skip_slashes(const char *at)
{
    return at + strspn(at, "/");
}

static bool is_dots(const char *at, size_t len, size_t dots)
{
    return len == dots && at[0] == '.' && (dots == 1 || at[1] == '.');
}

/* The link's target, then what is left of the path. */
static int walk_splice(struct client_walk *w, const char *target, size_t len)
{
    size_t rest = strlen(w->rest);
    if (++w->links > CLIENT_LINKS_MAX) {
        return -ELOOP;
    }
    if (len == 0) {
        return -ENOENT;
    }
    if (len + 1 + rest > CLIENT_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    char *text = mem_alloc(len + rest + 2);
    if (text == NULL) {
        return -ENOMEM;
    }
    memcpy(text, target, len);
    text[len] = '/';
    memcpy(text + len + 1, w->rest, rest + 1);
    if (rest == 0) {
        text[len] = '\0';
    }
    mem_free(w->text);
    w->text = text;
    w->rest = text;
    w->final = false;
    if (text[0] == '/') {
        w->start = PROTO_ROOT_INO;
    }
    return 0;
}

static void walk_link(struct client_task *t, struct proto_bytes target)
{
    int rc = walk_splice(&t->walk, (const char *)target.at, target.len);
    if (rc < 0) {
        walk_end(t, rc);
        return;
    }
    walk_on(t);
}

static void walk_readlink_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc == -ENOENT && ++t->rounds <= CLIENT_LINKS_MAX) { /* another one is in its place? */
        client_walk_fini(&t->walk);
        int rc = walk_begin(&t->walk);
        if (rc == 0) {
            walk_on(t);
        } else {
            walk_end(t, rc);
        }
        return;
    }
    if (r->rc < 0) {
        walk_end(t, r->rc);
        return;
    }
    const struct proto_readlink_reply *m = r->body;
    walk_link(t, m->target);
}

/* Component `i` of the batch is a symbolic link in directory `dir`: go on behind it. */
static void walk_follow(struct client_task *t, size_t i, uint64_t dir, const struct proto_attr *a)
{
    struct client_walk *w = &t->walk;
    const struct proto_bytes *name = &w->name[i].name;
    w->rest = skip_slashes((const char *)name->at + name->len);
    w->start = dir;
    t->request.readlink = (struct proto_readlink_request){.ino = a->ino};
    client_task_query(t, PROTO_OP_readlink, walk_readlink_done);
}

static void walk_found(struct client_task *t, const struct proto_attr *a,
                       const struct proto_layout *layout)
{
    struct client_walk *w = &t->walk;
    w->attr = *a;
    if (layout != NULL) {
        w->layout = *layout;
        w->has_layout = true;
    }
    walk_end(t, 0);
}

/* The server did not say what stood in the way: look at it. */
static void walk_probe_done(struct client_task *t, const struct peer_reply *r)
{
    struct client_walk *w = &t->walk;
    if (r->rc < 0) {
        walk_end(t, r->rc);
        return;
    }
    const struct proto_lookup_reply *m = r->body;
    bool last = w->final && w->count == 1;
    if (m->attr.ino == 0) {
        w->attr = m->attr;
        walk_end(t, last && !w->parent ? 0 : -ENOENT);
    } else if (m->attr.type == PROTO_INODE_SYMLINK && (!last || w->follow || w->slash)) {
        walk_follow(t, 0, w->dir, &m->attr);
    } else if (last) {
        walk_found(t, &m->attr, &m->layout);
    } else {
        walk_end(t, -ENOTDIR);
    }
}

static void walk_probe(struct client_task *t, size_t i, uint64_t dir)
{
    struct client_walk *w = &t->walk;
    w->name[0] = w->name[i];
    w->count -= i;
    w->dir = dir;
    t->request.lookup = (struct proto_lookup_request){.parent = dir, .name = w->name[0].name};
    client_task_query(t, PROTO_OP_lookup, walk_probe_done);
}

/* `found` of the names exist; `rc` says why not more. */
static void walk_short(struct client_task *t, const struct proto_walk_reply *m, size_t found)
{
    struct client_walk *w = &t->walk;
    uint64_t dir = found == 0 ? w->start : m->steps.at[found - 1].attr.ino;
    bool last = w->final && found + 1 == w->count;
    if (m->rc == -ENOENT || m->rc == 0) {
        w->dir = dir;
        w->last = w->name[found].name;
        w->attr = (struct proto_attr){0};
        walk_end(t, last && !w->parent ? 0 : -ENOENT);
    } else if (m->rc == -ENOTDIR &&
               (found == 0 || m->steps.at[found - 1].attr.type == PROTO_INODE_DIRECTORY)) {
        walk_probe(t, found, dir);
    } else {
        walk_end(t, m->rc);
    }
}

static void walk_done(struct client_task *t, const struct peer_reply *r)
{
    struct client_walk *w = &t->walk;
    if (r->rc < 0) {
        walk_end(t, r->rc);
        return;
    }
    const struct proto_walk_reply *m = r->body;
    size_t found = (size_t)base_min(m->steps.count, w->count);
    for (size_t i = 0; i < found; i++) {
        const struct proto_attr *a = &m->steps.at[i].attr;
        bool last = w->final && i + 1 == w->count && !w->parent;
        if (a->type == PROTO_INODE_SYMLINK && (!last || w->follow || w->slash)) {
            walk_follow(t, i, i == 0 ? w->start : m->steps.at[i - 1].attr.ino, a);
            return;
        }
    }
    if (found < w->count) {
        walk_short(t, m, found);
        return;
    }
    const struct proto_walk_step *end = &m->steps.at[found - 1];
    w->dir = found == 1 ? w->start : m->steps.at[found - 2].attr.ino;
    if (!w->final || w->parent) {
        w->start = end->attr.ino;
        if (end->attr.type != PROTO_INODE_DIRECTORY) {
            walk_end(t, -ENOTDIR);
            return;
        }
        walk_on(t);
        return;
    }
    w->last = w->name[found - 1].name;
    w->has_data = m->has_data;
    w->data = m->data;
    w->remote = m->trailer.grants.count > 0 && m->trailer.grants.at[0].ino == end->attr.ino &&
                (m->trailer.grants.at[0].flags & PROTO_GRANT_REMOTE_WRITER) != 0;
    walk_found(t, &end->attr, &end->layout);
}

static void walk_parent_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        walk_end(t, r->rc);
        return;
    }
    const struct proto_getattr_reply *m = r->body;
    t->walk.start = m->parent == 0 ? PROTO_ROOT_INO : m->parent;
    walk_on(t);
}

static void walk_self_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        walk_end(t, r->rc);
        return;
    }
    const struct proto_getattr_reply *m = r->body;
    t->walk.dir = m->parent;
    walk_found(t, &m->attr, &m->layout);
}

/* Nothing is left: the directory itself. */
static void walk_self(struct client_task *t)
{
    struct client_walk *w = &t->walk;
    if (w->parent) {
        w->dir = w->start; /* "/", "." and ".." have no name that could be changed */
        w->last = (struct proto_bytes){0};
        walk_end(t, 0);
        return;
    }
    t->request.getattr = (struct proto_getattr_request){.ino = w->start};
    client_task_query(t, PROTO_OP_getattr, walk_self_done);
}

/* Gathers names until one that needs thought. 1: ".." comes first. */
static int walk_gather(struct client_walk *w)
{
    w->count = 0;
    w->final = false;
    w->rest = skip_slashes(w->rest);
    while (*w->rest != '\0' && w->count < CLIENT_WALK_MAX) {
        const char *at = w->rest;
        size_t len = name_len(at);
        const char *after = skip_slashes(at + len);
        if (len > PROTO_NAME_MAX) {
            return -ENAMETOOLONG;
        }
        if (is_dots(at, len, 2)) {
            if (w->count == 0) {
                w->rest = after;
                return 1;
            }
            return 0;
        }
        w->rest = after;
        if (is_dots(at, len, 1)) {
            continue;
        }
        if (*after == '\0') {
            w->final = true;
            w->slash = w->slash || at[len] == '/';
            w->last = proto_bytes_of(at, len);
            if (w->parent) {
                return 0;
            }
        }
        w->name[w->count++].name = proto_bytes_of(at, len);
    }
    return 0;
}

static void walk_on(struct client_task *t)
{
    struct client_walk *w = &t->walk;
    if (w->parent && w->final) {
        w->dir = w->start;
        walk_end(t, 0);
        return;
    }
    int rc = walk_gather(w);
    if (rc < 0) {
        walk_end(t, rc);
    } else if (rc == 1) {
        t->request.getattr = (struct proto_getattr_request){.ino = w->start};
        client_task_query(t, PROTO_OP_getattr, walk_parent_done);
    } else if (w->count > 0) {
        t->request.walk =
            (struct proto_walk_request){.ino = w->start,
                                        .names = {.at = w->name, .count = w->count},
                                        .want = w->final && w->want_data ? PROTO_WANT_DATA : 0};
        client_task_query(t, PROTO_OP_walk, walk_done);
    } else if (w->final) { /* only the name is left, and the parent is known */
        w->dir = w->start;
        walk_end(t, 0);
    } else {
        walk_self(t);
    }
}

static int walk_begin(struct client_walk *w)
{
    if (w->path == NULL) {
        return -EINVAL;
    }
    if (w->path[0] == '\0' && w->at == 0) {
        return -ENOENT;
    }
    if (strlen(w->path) > CLIENT_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    w->rest = w->path;
    w->start = w->path[0] == '/' || w->at == 0 ? PROTO_ROOT_INO : w->at;
    w->links = 0;
    w->final = false;
    w->slash = false;
    w->has_data = false;
    w->has_layout = false;
    w->last = (struct proto_bytes){0};
    w->attr = (struct proto_attr){0};
    return 0;
}

void client_walk_start(struct client_task *t, void (*walked)(struct client_task *t, int rc))
{
    t->walked = walked;
    int rc = walk_begin(&t->walk);
    if (rc < 0) {
        walk_end(t, rc);
        return;
    }
    walk_on(t);
}

void client_walk_fini(struct client_walk *w)
{
    mem_free(w->text);
    w->text = NULL;
}

void client_op_walk(struct opendfs_op *op, bool follow,
                    void (*walked)(struct client_task *t, int rc))
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->walk.path = client_op_of(op)->path;
        t->walk.at = op->at;
        t->walk.follow = follow;
        client_walk_start(t, walked);
    }
}

void client_op_walk_ino(struct opendfs_op *op, bool follow,
                        void (*walked)(struct client_task *t, int rc))
{
    const struct client_op *o = client_op_of(op);
    if (o->path == NULL || o->path[0] != '\0' || op->at == 0) {
        client_op_walk(op, follow, walked);
        return;
    }
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->walk.attr = (struct proto_attr){.ino = op->at};
        walked(t, 0);
    }
}

int client_walk_found(const struct client_task *t, int rc)
{
    return rc == 0 && t->walk.attr.ino == 0 ? -ENOENT : rc;
}

int client_walk_found_dir(const struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    return rc == 0 && t->walk.attr.type != PROTO_INODE_DIRECTORY ? -ENOTDIR : rc;
}

bool client_walk_is_name(const char *path, struct proto_bytes *ret)
{
    const char *name = path == NULL ? "" : skip_slashes(path);
    size_t len = name_len(name);
    if (len == 0 || len > PROTO_NAME_MAX || name[len] != '\0' || is_dots(name, len, 1) ||
        is_dots(name, len, 2)) {
        return false;
    }
    *ret = proto_bytes_of(name, len);
    return true;
}

void client_walk_parent(struct client_task *t, const char *path, uint64_t at,
                        void (*walked)(struct client_task *t, int rc))
{
    struct client_walk *w = &t->walk;
    client_walk_fini(w);
    w->path = path;
    w->at = at;
    w->parent = true;
    if (client_walk_is_name(path, &w->last)) {
        w->dir = path[0] == '/' || w->at == 0 ? PROTO_ROOT_INO : w->at;
        walked(t, 0);
        return;
    }
    client_walk_start(t, walked);
}
