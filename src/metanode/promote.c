/*
 * metanode/promote.c -- an administrator lets an old copy of a dark chain serve, or gives up one
 * that was set aside by that (chain.md, R3).
 *
 * Refused in words, unless nothing else helps: cluster/promote.h knows. The request names the epoch
 * that the administrator was shown, so that nothing is decided about a row that is another one by
 * then, and so that it may come twice: the row itself says what was done last. That row is the only
 * trace that later leaders need; the log of the server has the same for people.
 */
#include "metanode/promote_priv.h"

#include "base/log.h"

#include <stdio.h>

struct order {
    struct metanode_read read;
    struct metanode_chain_told told;
    struct metanode *m;
    struct peer_request *request;
    const struct proto_chain_order_request *query;
    struct cluster_row next;
    char words[240];
};

static void order_end(struct order *x, int rc)
{
    struct metanode *m = x->m;
    struct metanode_session *s = metanode_session_find(m, x->query->caller.session);
    if (rc < 0 || s == NULL) {
        rc = s == NULL ? -ERR_session_expired : rc == -ENOMEM ? -ERR_busy : rc;
        metanode_refuse(m, s, x->request, rc, x->words[0] == 0 ? NULL : x->words);
        return;
    }
    struct proto_chain_order_reply answer = {.trailer = metanode_trailer(m, s)};
    peer_request_answer(x->request, &answer, NULL);
}

/* For later: what an administrator has given up. */
static void order_done(struct metanode_chain_told *told, int rc)
{
    struct order *x = container_of(told, struct order, told);
    const struct proto_chain_order_request *q = x->query;
    const struct cluster_promotion *p = &x->next.promotion;
    char row[512], since[METANODE_TIME_SIZE];
    cluster_row_to_text(&x->next, row, sizeof row);
    if (rc == 0 && q->action == PROTO_CHAIN_PROMOTE) {
        log_warn(x->m->env->log,
                 "an administrator has promoted an old copy: what was written since is given up",
                 LOG_U64("chain", q->chain), LOG_U64("target", q->target),
                 LOG_U64("whole_until_epoch", p->of_epoch),
                 LOG_TEXT("whole_until", metanode_time_text(p->of_ms, since)),
                 LOG_U64("session", q->caller.session), LOG_TEXT("row", row));
    } else if (rc == 0) {
        log_warn(x->m->env->log, "an administrator has given up a copy that was set aside",
                 LOG_U64("chain", q->chain), LOG_U64("target", q->target),
                 LOG_U64("session", q->caller.session), LOG_TEXT("row", row));
    }
    order_end(x, rc);
}

/* Why not, for people; the code of the answer. */
static int order_refusal(struct order *x, const struct metanode_chain *c,
                         enum cluster_promotable why, size_t other)
{
    char name[METANODE_WORD_SIZE], own[METANODE_WORD_SIZE];
    struct text t;
    uint32_t id = other < c->row.count ? c->row.member[other].target : 0;
    text_init(&t, x->words, sizeof x->words);
    metanode_target_word(x->m, id, name);
    metanode_target_word(x->m, x->query->target, own);
    text_add(&t, "chain %u: ", c->row.chain);
    switch (why) {
    case CLUSTER_PROMOTE_STRANGER:
        text_add(&t, "%s has no copy of it", own);
        return -ENOENT;
    case CLUSTER_PROMOTE_SERVED:
        text_add(&t, "%s serves it: other copies come back by themselves, and nothing is lost",
                 name);
        return -EBUSY;
    case CLUSTER_PROMOTE_RETURNS:
        text_add(&t, "%s is back, which has what was synced, and serves by itself soon", name);
        return -EBUSY;
    case CLUSTER_PROMOTE_SET:
        text_add(&t, "%s has what was synced: it serves by itself when it is back", own);
        return -EBUSY;
    case CLUSTER_PROMOTE_EARLY:
        text_add(&t, "those that have all are still waited for; it is dark for less than %llu s",
                 (unsigned long long)((x->m->opt.dark_wait_ms + 999) / 1000));
        return -EBUSY;
    case CLUSTER_PROMOTE_AWAY:
        text_add(&t, "%s is not up, or does not know yet how it stands", own);
        return -EBUSY;
    case CLUSTER_PROMOTE_SILENT:
        text_add(&t, "%s does not say what it has: upgrade its data node first", own);
        return -EBUSY;
    case CLUSTER_PROMOTE_PART:
        text_add(&t, "%s has only a part of it: what it lacks would be read as zeros", own);
        return -EINVAL;
    case CLUSTER_PROMOTE_OLDER:
        text_add(&t, "the copy of %s is newer: with that less is lost", name);
        return -EINVAL;
    case CLUSTER_PROMOTE_MAY:
        break;
    }
    return 0;
}

/* It came before, and its answer was lost. */
static bool promoted_already(const struct metanode_chain *c,
                             const struct proto_chain_order_request *q)
{
    const struct cluster_promotion *p = &c->row.promotion;
    return p->epoch != 0 && p->target == q->target && p->epoch - 1 == q->epoch;
}

/* 0: x->next is the row that is wanted; 1: it is so already. */
static int order_promotion(struct order *x, const struct metanode_chain *c)
{
    const struct proto_chain_order_request *q = x->query;
    const struct cluster_chain_times times = metanode_chain_times(c);
    size_t other = c->row.count;
    if (promoted_already(c, q)) {
        return 1;
    }
    enum cluster_promotable why =
        cluster_promote_check(&c->row, c->fact, &times, q->target, &other);
    int rc = order_refusal(x, c, why, other);
    if (rc == 0 && c->row.epoch != q->epoch) {
        (void)snprintf(x->words, sizeof x->words, "chain %u: it has changed since you looked at it",
                       c->row.chain);
        rc = -ESTALE;
    }
    if (rc == 0) {
        x->words[0] = 0;
        cluster_promote_row(&c->row, c->fact, q->target, times.wall_ms, &x->next);
    }
    return rc;
}

static int order_discard(struct order *x, const struct metanode_chain *c)
{
    const struct proto_chain_order_request *q = x->query;
    char own[METANODE_WORD_SIZE];
    size_t i = cluster_row_find(&c->row, q->target);
    metanode_target_word(x->m, q->target, own);
    if (i == c->row.count || !c->row.member[i].aside) {
        if (i < c->row.count && c->row.epoch != q->epoch) {
            return 1; /* it came before, and its answer was lost */
        }
        (void)snprintf(x->words, sizeof x->words, "chain %u: %s was not set aside", c->row.chain,
                       own);
        return -EINVAL;
    }
    if (!cluster_discard_row(&c->row, q->target, &x->next)) {
        (void)snprintf(x->words, sizeof x->words,
                       "chain %u: nobody serves it: what %s has may be needed", c->row.chain, own);
        return -EBUSY;
    }
    return 0;
}

static int order_read(struct metanode_read *read, const struct namespace_view *v)
{
    const struct order *x = container_of(read, struct order, read);
    const struct proto_caller *caller = &x->query->caller;
    struct namespace_cred cred;
    int rc = namespace_view_cred(v, caller->session, caller->cred, &cred);
    return rc == 0 && cred.uid != 0 ? -EPERM : rc;
}

/* It may. */
static void order_go(struct metanode_read *read, int rc)
{
    struct order *x = container_of(read, struct order, read);
    struct metanode_chain *c = metanode_chain_find(x->m, x->query->chain);
    if (rc == 0 && c == NULL) {
        (void)snprintf(x->words, sizeof x->words, "there is no chain %u", x->query->chain);
        rc = -ENOENT;
    }
    if (rc == 0 && x->m->phase != METANODE_SERVING) {
        rc = -ERR_unavailable;
    }
    if (rc == 0 && x->query->action == PROTO_CHAIN_PROMOTE) {
        rc = order_promotion(x, c);
    } else if (rc == 0 && x->query->action == PROTO_CHAIN_DISCARD) {
        rc = order_discard(x, c);
    } else if (rc == 0) {
        rc = -EINVAL;
    }
    if (rc == 1) {
        order_end(x, 0);
        return;
    }
    rc = rc < 0 ? rc : metanode_chain_order(c, &x->next, &x->told);
    if (rc < 0) {
        order_end(x, rc);
    }
}

void metanode_chain_ordered(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_chain_order_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->caller.session) : NULL;
    if (s == NULL) {
        return;
    }
    struct order *x = mem_arena_alloc(&r->arena, sizeof *x); /* goes with the request */
    if (x == NULL) {
        metanode_refuse(m, s, r, -ERR_busy, NULL);
        return;
    }
    *x = (struct order){.m = m,
                        .request = r,
                        .query = q,
                        .told.done = order_done,
                        .read = {.run = order_read, .done = order_go}};
    metanode_read(m, &x->read);
}
