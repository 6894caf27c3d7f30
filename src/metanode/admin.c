#include "metanode/write_priv.h"

#include "base/log.h"

/* Administration: shutdown, targets. */

#define ADMIN_TARGETS_PAGE 1024u
#define ADMIN_WEIGHT_MAX 1000000u /* as in the configuration */

void metanode_shutdown(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    struct proto_shutdown_reply answer = {};
    log_info(m->env->log, "an administrator ends this server");
    peer_request_answer(r, &answer, NULL);
    if (m->stop == NULL && m->opt.user != NULL) {
        m->opt.user->ops->ended(m->opt.user, 0, "an administrator said so");
    }
}

void metanode_target_list(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_target_list_request *q = r->body;
    struct proto_target_list_reply answer = {0};
    if (!metanode_admit(m, r)) {
        return;
    }
    struct proto_target *at = mem_arena_alloc(&r->arena, ADMIN_TARGETS_PAGE * sizeof *at);
    if (at == NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    answer.targets.at = at;
    LIST_FOR_EACH(node, &m->targets.all)
    { /* in order of their ids: as they were given */
        const struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (t->id < q->first_id) {
            continue;
        }
        if (answer.targets.count == ADMIN_TARGETS_PAGE) {
            answer.more = true;
            break;
        }
        at[answer.targets.count++] = metanode_target_record(t);
    }
    peer_request_answer(r, &answer, NULL);
}

struct admin_change {
    struct metanode_read read;
    struct metanode_target_write write;
    struct metanode *m;
    struct peer_request *request;
};

static void admin_changed(struct metanode_target_write *w, int rc,
                          const struct namespace_reply *reply)
{
    struct admin_change *x = container_of(w, struct admin_change, write);
    if (rc < 0) {
        metanode_refuse(x->m, NULL, x->request, rc, NULL);
    } else if (x->request->message->opcode == PROTO_OP_target_add) {
        struct proto_target_add_reply answer = {.target = reply->id};
        peer_request_answer(x->request, &answer, NULL);
    } else {
        struct proto_target_set_reply answer = {.map_epoch = reply->map_epoch};
        peer_request_answer(x->request, &answer, NULL);
    }
}

static int admin_target(struct metanode *m, const struct peer_request *r, struct proto_target *ret)
{
    if (r->message->opcode == PROTO_OP_target_add) {
        const struct proto_target_add_request *q = r->body;
        if (metanode_target_of(m, &q->uuid) != NULL) {
            return -EEXIST;
        }
        *ret = (struct proto_target){.uuid = q->uuid,
                                     .address = q->address,
                                     .host = q->host,
                                     .rack = q->rack,
                                     .labels = q->labels,
                                     .weight = q->weight,
                                     .state = PROTO_TARGET_UNKNOWN};
        return 0;
    }
    const struct proto_target_set_request *q = r->body;
    const struct metanode_target *t = metanode_target_find(m, q->target);
    if (t == NULL) {
        return -ENOENT;
    }
    if (q->weight > ADMIN_WEIGHT_MAX) {
        return -EINVAL;
    }
    *ret = metanode_target_record(t);
    ret->incarnation = t->logged;
    ret->weight = (q->mask & PROTO_TARGET_SET_WEIGHT) != 0 ? q->weight : ret->weight;
    ret->rack = (q->mask & PROTO_TARGET_SET_RACK) != 0 ? q->rack : ret->rack;
    ret->labels = (q->mask & PROTO_TARGET_SET_LABELS) != 0 ? q->labels : ret->labels;
    return 0;
}

/* Administrators may, and root at a client. */
static int change_read(struct metanode_read *read, const struct namespace_view *v)
{
    const struct admin_change *x = container_of(read, struct admin_change, read);
    const struct proto_target_set_request *q = x->request->body;
    struct namespace_cred cred;
    int rc = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    return rc == 0 && cred.uid != 0 ? -EPERM : rc;
}

static void change_go(struct metanode_read *read, int rc)
{
    struct admin_change *x = container_of(read, struct admin_change, read);
    struct proto_target record = {0};
    rc = rc < 0 ? rc : admin_target(x->m, x->request, &record);
    rc = rc < 0 ? rc : metanode_target_write(x->m, &x->write, &record);
    if (rc < 0) {
        metanode_refuse(x->m, NULL, x->request, rc == -ENOMEM ? -ERR_busy : rc, NULL);
    }
}

void metanode_target_change(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    if (!metanode_admit(m, r)) {
        return;
    }
    struct admin_change *x = mem_arena_alloc(&r->arena, sizeof *x); /* goes with the request */
    if (x == NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    *x = (struct admin_change){.m = m,
                               .request = r,
                               .write.done = admin_changed,
                               .read = {.run = change_read, .done = change_go}};
    if (r->link != NULL && r->link->role == PROTO_ROLE_CLIENT) {
        metanode_read(m, &x->read);
    } else {
        change_go(&x->read, 0);
    }
}

/* ---- What becomes of targets: by root at a client ---- */

struct admin_plan {
    struct metanode_read read;
    struct metanode_target_write write;
    struct metanode_waiter waiter; /* of what is no target's */
    struct metanode *m;
    struct peer_request *request;
    const struct proto_caller *caller;
};

static int plan_read(struct metanode_read *read, const struct namespace_view *v)
{
    const struct admin_plan *x = container_of(read, struct admin_plan, read);
    struct namespace_cred cred;
    int rc = namespace_view_cred(v, x->caller->session, x->caller->cred, &cred);
    return rc == 0 && cred.uid != 0 ? -EPERM : rc;
}

static void plan_end(struct admin_plan *x, int rc)
{
    struct metanode *m = x->m;
    struct metanode_session *s = metanode_session_find(m, x->caller->session);
    if (rc < 0 || s == NULL) {
        rc = s == NULL ? -ERR_session_expired : rc == -ENOMEM ? -ERR_busy : rc;
        metanode_refuse(m, s, x->request, rc, NULL);
    } else if (x->request->message->opcode == PROTO_OP_target_plan) {
        struct proto_target_plan_reply answer = {.trailer = metanode_trailer(m, s)};
        peer_request_answer(x->request, &answer, NULL);
    } else {
        struct proto_balance_set_reply answer = {.trailer = metanode_trailer(m, s)};
        peer_request_answer(x->request, &answer, NULL);
    }
}

static void plan_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    plan_end(container_of(w, struct admin_plan, waiter), rc == 0 ? reply->rc : rc);
}

static void plan_written(struct metanode_target_write *w, int rc,
                         const struct namespace_reply *reply)
{
    (void)reply;
    plan_end(container_of(w, struct admin_plan, write), rc);
}

static int plan_of(struct metanode *m, const struct proto_target_plan_request *q,
                   struct proto_target *ret)
{
    const struct metanode_target *t = metanode_target_find(m, q->target);
    const struct metanode_target *heir = metanode_target_find(m, q->heir);
    bool replace = q->plan == PROTO_PLAN_REPLACE;
    if (q->plan > PROTO_PLAN_REMOVE || (q->heir != 0) != replace) {
        return -EINVAL;
    }
    if (t == NULL || (replace && heir == NULL)) {
        return -ENOENT;
    }
    if (replace && (heir == t || !metanode_target_stays(heir))) {
        return -EINVAL;
    }
    *ret = metanode_target_record(t);
    ret->incarnation = t->logged;
    ret->plan = q->plan;
    ret->heir = q->heir;
    return 0;
}

/* It may. */
static void plan_go(struct metanode_read *read, int rc)
{
    struct admin_plan *x = container_of(read, struct admin_plan, read);
    struct metanode *m = x->m;
    if (rc == 0 && x->request->message->opcode == PROTO_OP_balance_set) {
        const struct proto_balance_set_request *q = x->request->body;
        struct namespace_balance body = {.paused = q->paused};
        rc = metanode_propose(m, NAMESPACE_BALANCE, &namespace_balance_type, &body, &x->waiter);
    } else if (rc == 0) {
        struct proto_target record = {0};
        rc = plan_of(m, x->request->body, &record);
        rc = rc < 0 ? rc : metanode_target_write(m, &x->write, &record);
    }
    if (rc < 0) {
        plan_end(x, rc);
    }
}

void metanode_plan_change(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_caller *caller = r->body; /* first in both requests */
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, caller->session) : NULL;
    if (s == NULL) {
        return;
    }
    struct admin_plan *x = mem_arena_alloc(&r->arena, sizeof *x); /* goes with the request */
    if (x == NULL) {
        metanode_refuse(m, s, r, -ERR_busy, NULL);
        return;
    }
    *x = (struct admin_plan){.m = m,
                             .request = r,
                             .caller = caller,
                             .waiter.done = plan_logged,
                             .write.done = plan_written,
                             .read = {.run = plan_read, .done = plan_go}};
    metanode_read(m, &x->read);
}
