#include "opendfs/trash.h"
#include "client/op_priv.h"

#include <string.h>

/* Removed files: listing them, having them back or not, how long they are kept. */

_Static_assert(OPENDFS_RETENTION_NONE == PROTO_RETENTION_NONE &&
                   OPENDFS_TRASH_ANYBODY == PROTO_TRASH_ANYBODY,
               "public and protocol numbers are one");

/* --- list ---------------------------------------------------------------------------------------
 */

static char *trash_text(char **at, struct proto_bytes from)
{
    char *text = *at;
    memcpy(text, from.at, from.len);
    text[from.len] = '\0';
    *at += from.len + 1;
    return text;
}

/* One block: the page, the entries, the texts. */
static int trash_take(struct client_task *t, const struct proto_trash_list_reply *m)
{
    struct opendfs_trash_query *q = client_op_of(t->op)->out;
    size_t count = m->entries.count;
    size_t bytes = sizeof(struct opendfs_trash_page) + count * sizeof(struct opendfs_trash_entry);
    for (size_t i = 0; i < count; i++) {
        bytes += m->entries.at[i].name.len + m->entries.at[i].path.len + 2;
    }
    struct opendfs_trash_page *page = mem_zalloc(bytes);
    if (page == NULL) {
        return -ENOMEM;
    }
    struct opendfs_trash_entry *entries = (struct opendfs_trash_entry *)(page + 1);
    char *text = (char *)(entries + count);
    *page = (struct opendfs_trash_page){.entries = entries, .count = count, .at_end = !m->more};
    for (size_t i = 0; i < count; i++) {
        const struct proto_trash_entry *from = &m->entries.at[i];
        struct opendfs_trash_entry *e = &entries[i];
        *e = (struct opendfs_trash_entry){.parent_ino = from->parent,
                                          .parent_gone = from->parent_gone,
                                          .removed_ns = from->since_ns,
                                          .expiry_ns = from->expiry_ns,
                                          .removed_by = from->by_uid};
        client_stat_from(&from->attr, &e->stat);
        e->name = trash_text(&text, from->name);
        e->directory = trash_text(&text, from->path);
    }
    q->after_owner = m->next_owner;
    q->after_ino = m->next_ino;
    t->op->data = page;
    t->op->data_len = bytes;
    client_op_hold(t->op, page, client_op_free_held);
    return 0;
}

static void trash_list_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_task_finish(t, trash_take(t, r->body));
}

static void trash_list_run(struct opendfs_op *op)
{
    const struct opendfs_trash_query *q = client_op_of(op)->out;
    struct client_task *t = client_task_new(op);
    if (t == NULL) {
        return;
    }
    t->request.trash_list =
        (struct proto_trash_list_request){.owner = q->owner,
                                          .path = proto_bytes_text(q->path == NULL ? "" : q->path),
                                          .after_owner = q->after_owner,
                                          .after_ino = q->after_ino,
                                          .max = (uint32_t)base_min(q->max, 1024)};
    if (t->request.trash_list.path.len > 1023) {
        client_task_finish(t, -ENAMETOOLONG);
        return;
    }
    client_task_query(t, PROTO_OP_trash_list, trash_list_done);
}

void opendfs_async_trash_list(struct opendfs *fs, struct opendfs_op *op,
                              struct opendfs_trash_query *query)
{
    client_op_of(op)->path = query->path;
    client_op_of(op)->out = query;
    client_op_start(fs, op, trash_list_run);
}

/* --- restore, purge -----------------------------------------------------------------------------
 */

static void trash_restored(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_trash_restore_reply *m = r->body;
    client_stat_from(&m->attr, &t->op->stat);
    client_task_finish(t, 0);
}

static void trash_restore_walked(struct client_task *t, int rc)
{
    if (rc == 0 && t->walk.last.len == 0) {
        rc = -EEXIST; /* the root, "." or ".." */
    }
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.trash_restore = (struct proto_trash_restore_request){
        .ino = client_op_of(t->op)->ino, .parent = t->walk.dir, .name = t->walk.last};
    client_task_mutate(t, PROTO_OP_trash_restore, trash_restored);
}

static void trash_restore_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        client_walk_parent(t, client_op_of(op)->path, op->at, trash_restore_walked);
    }
}

void opendfs_async_trash_restore(struct opendfs *fs, struct opendfs_op *op, uint64_t ino,
                                 const char *path)
{
    client_op_of(op)->ino = ino;
    client_op_of(op)->path = path;
    client_op_start(fs, op, trash_restore_run);
}

static void trash_purged(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    client_task_finish(t, 0);
}

static void trash_purge_run(struct opendfs_op *op)
{
    const struct client_op *o = client_op_of(op);
    struct client_task *t = client_task_new(op);
    if (t == NULL) {
        return;
    }
    if (o->len > OPENDFS_TRASH_PURGE_MAX) {
        client_task_finish(t, -EINVAL);
        return;
    }
    t->request.trash_purge =
        (struct proto_trash_purge_request){.inos = {.at = (uint64_t *)o->in, .count = o->len}};
    client_task_mutate(t, PROTO_OP_trash_purge, trash_purged);
}

void opendfs_async_trash_purge(struct opendfs *fs, struct opendfs_op *op, const uint64_t *inos,
                               size_t count)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = inos;
    client_op_of(op)->len = count;
    client_op_start(fs, op, trash_purge_run);
}

/* --- retention ----------------------------------------------------------------------------------
 */

static void trash_kept(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_setattr_reply *m = r->body;
    client_stat_from(&m->attr, &t->op->stat);
    client_task_finish(t, 0);
}

static void trash_asked(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_getattr_reply *m = r->body;
    struct opendfs_retention *ret = client_op_of(t->op)->out;
    client_stat_from(&m->attr, &t->op->stat);
    *ret = (struct opendfs_retention){
        .own_s = m->retention_s, .holds_s = m->keeps_s, .from_ino = m->keeps_from};
    client_task_finish(t, 0);
}

static void trash_dir_walked(struct client_task *t, int rc)
{
    const struct client_op *o = client_op_of(t->op);
    uint64_t ino = t->walk.attr.ino;
    rc = client_walk_found_dir(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
    } else if (o->out != NULL) {
        t->request.getattr =
            (struct proto_getattr_request){.ino = ino, .want = PROTO_WANT_RETENTION};
        client_task_query(t, PROTO_OP_getattr, trash_asked);
    } else {
        t->request.setattr = (struct proto_setattr_request){
            .ino = ino, .mask = PROTO_SET_RETENTION, .retention_s = o->mask};
        client_task_mutate(t, PROTO_OP_setattr, trash_kept);
    }
}

static void trash_dir_run(struct opendfs_op *op)
{
    client_op_walk(op, true, trash_dir_walked);
}

void opendfs_async_trash_set_retention(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                       uint32_t seconds)
{
    client_op_of(op)->path = path;
    client_op_of(op)->out = NULL;
    client_op_of(op)->mask = seconds;
    client_op_start(fs, op, trash_dir_run);
}

void opendfs_async_trash_get_retention(struct opendfs *fs, struct opendfs_op *op, const char *path,
                                       struct opendfs_retention *ret)
{
    client_op_of(op)->path = path;
    client_op_of(op)->out = ret;
    client_op_start(fs, op, trash_dir_run);
}
