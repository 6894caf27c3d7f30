#include "opendfs/usage.h"
#include "client/op_priv.h"

#include <string.h>

/* What lies below a directory and its limits, space, storage classes. */

/* --- directories --------------------------------------------------------------------------------
 */

static void stats_take(const struct proto_dir_stats_reply *m, struct opendfs_dir_stats *ret)
{
    *ret = (struct opendfs_dir_stats){.files = m->files,
                                      .directories = m->directories,
                                      .bytes = m->bytes,
                                      .newest_ns = m->newest_ns,
                                      .class_id = m->class_id,
                                      .has_quota = m->has_quota ? 1 : 0,
                                      .quota = {.bytes_soft = m->bytes_soft,
                                                .bytes_hard = m->bytes_hard,
                                                .files_soft = m->files_soft,
                                                .files_hard = m->files_hard,
                                                .grace_s = m->grace_s,
                                                .bytes_grace_ns = m->bytes_grace_ns,
                                                .files_grace_ns = m->files_grace_ns}};
}

static void stats_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    stats_take(r->body, client_op_of(t->op)->out);
    client_task_finish(t, 0);
}

static void stats_walked(struct client_task *t, int rc)
{
    rc = client_walk_found_dir(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.dir_stats = (struct proto_dir_stats_request){.ino = t->walk.attr.ino};
    client_task_query(t, PROTO_OP_dir_stats, stats_done);
}

static void stats_run(struct opendfs_op *op)
{
    client_op_walk(op, true, stats_walked);
}

void opendfs_async_dir_stats(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             struct opendfs_dir_stats *ret)
{
    client_op_of(op)->path = path;
    client_op_of(op)->out = ret;
    client_op_start(fs, op, stats_run);
}

/* --- limits -------------------------------------------------------------------------------------
 */

static void quota_done(struct client_task *t, const struct peer_reply *r)
{
    client_task_finish(t, r->rc);
}

static void quota_walked(struct client_task *t, int rc)
{
    const struct client_op *o = client_op_of(t->op);
    const struct opendfs_quota *q = o->in;
    rc = client_walk_found_dir(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.set_quota = (struct proto_set_quota_request){.ino = t->walk.attr.ino,
                                                            .mask = o->mask,
                                                            .bytes_soft = q->bytes_soft,
                                                            .bytes_hard = q->bytes_hard,
                                                            .files_soft = q->files_soft,
                                                            .files_hard = q->files_hard,
                                                            .grace_s = q->grace_s};
    client_task_mutate(t, PROTO_OP_set_quota, quota_done);
}

static void quota_run(struct opendfs_op *op)
{
    client_op_walk(op, true, quota_walked);
}

void opendfs_async_set_quota(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             const struct opendfs_quota *values, unsigned mask)
{
    client_op_of(op)->path = path;
    client_op_of(op)->in = values;
    client_op_of(op)->mask = mask;
    client_op_start(fs, op, quota_run);
}

/* --- space --------------------------------------------------------------------------------------
 */

static void statfs_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_statfs_reply *m = r->body;
    t->op->space = (struct opendfs_space){.total_bytes = m->total,
                                          .free_bytes = m->available,
                                          .files = m->files,
                                          .free_files = m->files_free};
    client_task_finish(t, 0);
}

static void statfs_walked(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.statfs = (struct proto_statfs_request){.ino = t->walk.attr.ino};
    client_task_query(t, PROTO_OP_statfs, statfs_done);
}

static void statfs_run(struct opendfs_op *op)
{
    if (client_op_of(op)->path != NULL) {
        client_op_walk(op, true, statfs_walked);
        return;
    }
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.statfs = (struct proto_statfs_request){0};
        client_task_query(t, PROTO_OP_statfs, statfs_done);
    }
}

void opendfs_async_statfs(struct opendfs *fs, struct opendfs_op *op)
{
    client_op_of(op)->path = NULL;
    client_op_start(fs, op, statfs_run);
}

void opendfs_async_statfs_at(struct opendfs *fs, struct opendfs_op *op, const char *path)
{
    client_op_of(op)->path = path;
    client_op_start(fs, op, statfs_run);
}

/* --- storage classes ----------------------------------------------------------------------------
 */

static void class_take(const struct proto_storage_class *c, struct opendfs_class *ret)
{
    *ret = (struct opendfs_class){.id = c->id,
                                  .copies = c->copies,
                                  .failure_domain = c->failure_domain,
                                  .chunk_bytes = c->chunk_size,
                                  .inline_bytes = c->inline_limit};
    proto_bytes_to_c(c->name, ret->name, sizeof ret->name);
    proto_bytes_to_c(c->labels, ret->labels, sizeof ret->labels);
}

static void classes_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
        return;
    }
    const struct proto_cluster_map_reply *m = r->body;
    struct opendfs_class *at = mem_calloc(m->classes.count + 1, sizeof *at);
    if (at == NULL) {
        client_task_finish(t, -ENOMEM);
        return;
    }
    for (size_t i = 0; i < m->classes.count; i++) {
        class_take(&m->classes.at[i], &at[i]);
        at[i].is_default = at[i].id == m->default_class ? 1 : 0;
    }
    t->op->data = at;
    t->op->data_len = m->classes.count * sizeof *at;
    client_op_hold(t->op, at, client_op_free_held);
    client_task_finish(t, (int64_t)m->classes.count);
}

static void classes_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.cluster_map = (struct proto_cluster_map_request){0};
        t->next = classes_done;
        client_ask(t->fs, &t->call, PROTO_OP_cluster_map, &t->request);
    }
}

void opendfs_async_classes(struct opendfs *fs, struct opendfs_op *op)
{
    client_op_of(op)->path = NULL;
    client_op_start(fs, op, classes_run);
}

static void class_done(struct client_task *t, const struct peer_reply *r)
{
    const struct proto_class_create_reply *m = r->body;
    client_task_finish(t, r->rc < 0 ? r->rc : (int64_t)m->class_id);
}

static void class_create_run(struct opendfs_op *op)
{
    const struct opendfs_class *c = client_op_of(op)->in;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.class_create = (struct proto_class_create_request){
            .caller = {.session = t->fs->session.id, .cred = t->fs->session.cred},
            .storage_class = {.name = proto_bytes_text(c->name),
                              .copies = c->copies,
                              .failure_domain = (uint8_t)c->failure_domain,
                              .labels = proto_bytes_text(c->labels),
                              .chunk_size = c->chunk_bytes,
                              .inline_limit = c->inline_bytes}};
        t->next = class_done;
        client_ask(t->fs, &t->call, PROTO_OP_class_create, &t->request);
    }
}

void opendfs_async_create_class(struct opendfs *fs, struct opendfs_op *op,
                                const struct opendfs_class *values)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = values;
    client_op_start(fs, op, class_create_run);
}

static void class_set_walked(struct client_task *t, int rc)
{
    rc = client_walk_found(t, rc);
    if (rc < 0) {
        client_task_finish(t, rc);
        return;
    }
    t->request.setattr = (struct proto_setattr_request){
        .ino = t->walk.attr.ino, .mask = PROTO_SET_CLASS, .class_id = client_op_of(t->op)->mode};
    client_task_mutate(t, PROTO_OP_setattr, quota_done);
}

static void class_set_run(struct opendfs_op *op)
{
    client_op_walk(op, true, class_set_walked);
}

void opendfs_async_set_class(struct opendfs *fs, struct opendfs_op *op, const char *path,
                             uint32_t class_id)
{
    client_op_of(op)->path = path;
    client_op_of(op)->mode = class_id;
    client_op_start(fs, op, class_set_run);
}
