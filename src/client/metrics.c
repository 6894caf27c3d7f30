#include "client/map_priv.h"
#include "client/op_priv.h"

#include "base/metrics.h"

#include <stdio.h>
#include <string.h>

/*
 * Statistics of one server: of the metadata leader, or of a target, whose address the map knows. A
 * target is given METRICS_MS: who asks for numbers does not want to wait for a machine that is off.
 * Or those of this client, which nobody else can tell.
 */

#define METRICS_MS 5000u
#define OWN_BYTES ((size_t)1 << 20)

struct metrics_ask {
    struct opendfs_op *op;
    struct opendfs *fs;
    uint32_t target;
    bool waits; /* for the map */
    struct peer_call call;
    struct client_map_waiter map;
    struct proto_stats_request request;
};

static void free_held(struct opendfs *fs, void *held)
{
    (void)fs;
    mem_free(held);
}

static int take(struct opendfs_op *op, const struct proto_stats_reply *m)
{
    char *copy = mem_zalloc(m->body.len + 1);
    if (copy == NULL) {
        return -ENOMEM;
    }
    memcpy(copy, m->body.at, m->body.len);
    op->data = copy;
    op->data_len = m->body.len;
    client_op_hold(op, copy, free_held);
    return 0;
}

/* ---- The leader ---- */

static void leader_done(struct client_task *t, const struct peer_reply *r)
{
    if (r->rc < 0) {
        client_task_fail(t, r);
    } else {
        client_task_finish(t, take(t->op, r->body));
    }
}

static void ask_leader(struct opendfs_op *op)
{
    struct client_task *t = client_task_new(op);
    if (t != NULL) {
        t->request.stats = (struct proto_stats_request){.format = PROTO_FORMAT_PROMETHEUS};
        t->next = leader_done;
        client_ask(t->fs, &t->call, PROTO_OP_stats, &t->request);
    }
}

/* ---- A target ---- */

static void target_end(struct metrics_ask *a, int64_t rc)
{
    struct opendfs_op *op = a->op;
    char name[32];
    snprintf(name, sizeof name, "target %u", a->target);
    mem_free(a);
    client_op_finish(op, rc, name, NULL);
}

static void target_done(struct peer_call *call, const struct peer_reply *r)
{
    struct metrics_ask *a = container_of(call, struct metrics_ask, call);
    target_end(a, r->rc < 0 ? r->rc : take(a->op, r->body));
}

static void target_call(struct metrics_ask *a, struct peer *p)
{
    a->call.done = target_done;
    a->call.opcode = PROTO_OP_stats;
    a->call.request = &a->request;
    a->call.timeout_ms = METRICS_MS;
    peer_call(p, &a->call);
}

static void target_known(struct client_map_waiter *w, int rc)
{
    struct metrics_ask *a = container_of(w, struct metrics_ask, map);
    struct peer *p;
    a->waits = false;
    rc = rc < 0 ? rc : client_map_peer(a->fs, a->target, &p);
    if (rc < 0) {
        target_end(a, rc == -ERR_waiting_row ? -ENOENT : rc);
        return;
    }
    target_call(a, p);
}

static void target_cancel(struct opendfs_op *op)
{
    struct metrics_ask *a = client_op_of(op)->task;
    if (a->waits) {
        client_map_unwait(&a->map);
        target_end(a, -ECANCELED);
    } else {
        peer_call_cancel(&a->call);
    }
}

static void ask_target(struct opendfs_op *op)
{
    struct client_op *o = client_op_of(op);
    struct metrics_ask *a = mem_zalloc(sizeof *a);
    struct peer *p;
    if (a == NULL) {
        client_op_finish(op, -ENOMEM, NULL, NULL);
        return;
    }
    a->op = op;
    a->fs = o->fs;
    a->target = o->flags;
    a->request.format = PROTO_FORMAT_PROMETHEUS;
    a->map.done = target_known;
    list_init(&a->map.node);
    o->task = a;
    o->cancel = target_cancel;
    if (client_map_peer(a->fs, a->target, &p) == 0) {
        target_call(a, p);
        return;
    }
    a->waits = true; /* it may be newer than our map */
    client_map_refresh(a->fs, &a->map);
}

/* ---- This client ---- */

static int own_text(struct opendfs_op *op)
{
    const struct metrics_options opt = {.labels = ""};
    char *at = mem_alloc(OWN_BYTES);
    if (at == NULL) {
        return -ENOMEM;
    }
    struct text out;
    text_init(&out, at, OWN_BYTES);
    int rc = metrics_to_text(client_op_of(op)->fs->stats, &opt, &out);
    if (rc < 0 || out.cut) {
        mem_free(at);
        return rc < 0 ? rc : -EMSGSIZE;
    }
    op->data = at;
    op->data_len = out.len;
    client_op_hold(op, at, free_held);
    return 0;
}

static void ask_own(struct opendfs_op *op)
{
    client_op_finish(op, own_text(op), NULL, NULL);
}

void opendfs_async_metrics(struct opendfs *fs, struct opendfs_op *op, uint32_t target)
{
    client_op_of(op)->path = NULL;
    client_op_of(op)->flags = target;
    client_op_start(fs, op,
                    target == 0                     ? ask_leader
                    : target == OPENDFS_METRICS_OWN ? ask_own
                                                    : ask_target);
}
