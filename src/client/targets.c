#include "opendfs/targets.h"

#include "client/op_priv.h"

/* What becomes of targets: one request each. */

static void target_done(struct client_task *t, const struct peer_reply *r)
{
    client_task_finish(t, r->rc);
}

static void plan_run(struct opendfs_op *op)
{
    const struct opendfs_target_plan *p = client_op_of(op)->in;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.target_plan = (struct proto_target_plan_request){
            .target = p->target, .plan = (uint8_t)base_min(p->plan, UINT8_MAX), .heir = p->heir};
        client_task_query(t, PROTO_OP_target_plan, target_done);
    }
}

void opendfs_async_plan_target(struct opendfs *fs, struct opendfs_op *op,
                               const struct opendfs_target_plan *plan)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = plan;
    client_op_start(fs, op, plan_run);
}

static void values_run(struct opendfs_op *op)
{
    const struct opendfs_target_values *v = client_op_of(op)->in;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.target_set = (struct proto_target_set_request){
            .caller = {.session = t->fs->session.id, .cred = t->fs->session.cred},
            .target = v->target,
            .mask = ((v->mask & OPENDFS_TARGET_WEIGHT) != 0 ? PROTO_TARGET_SET_WEIGHT : 0) |
                    ((v->mask & OPENDFS_TARGET_LABELS) != 0 ? PROTO_TARGET_SET_LABELS : 0),
            .weight = v->weight,
            .labels = proto_bytes_text(v->labels)};
        t->next = target_done;
        client_ask(t->fs, &t->call, PROTO_OP_target_set, &t->request);
    }
}

void opendfs_async_set_target(struct opendfs *fs, struct opendfs_op *op,
                              const struct opendfs_target_values *values)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = values;
    client_op_start(fs, op, values_run);
}

/* The server's reasons are worth more than the name of an error. */
static void order_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0 && r->failure != NULL && r->failure->text.len > 0) {
        t->told = r->rc;
        proto_bytes_to_c(r->failure->text, t->words, sizeof t->words);
    }
    client_task_finish(t, r->rc);
}

static void order_run(struct opendfs_op *op)
{
    const struct opendfs_chain_order *o = client_op_of(op)->in;
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.chain_order =
            (struct proto_chain_order_request){.action = (uint8_t)base_min(o->action, UINT8_MAX),
                                               .chain = o->chain,
                                               .epoch = o->epoch,
                                               .target = o->target};
        client_task_query(t, PROTO_OP_chain_order, order_done);
    }
}

void opendfs_async_order_chain(struct opendfs *fs, struct opendfs_op *op,
                               const struct opendfs_chain_order *order)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->in = order;
    client_op_start(fs, op, order_run);
}

static void balance_run(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.balance_set =
            (struct proto_balance_set_request){.paused = client_op_of(op)->mode == 0};
        client_task_query(t, PROTO_OP_balance_set, target_done);
    }
}

void opendfs_async_set_balance(struct opendfs *fs, struct opendfs_op *op, int on)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->mode = on != 0 ? 1 : 0;
    client_op_start(fs, op, balance_run);
}
