#include "metanode/metanode_priv.h"

#include "base/log.h"
#include "base/stats.h"

/* Administration: statistics, shutdown, targets. */

#define ADMIN_STATS_BYTES ((size_t)1000 * 1024)
#define ADMIN_TARGETS_PAGE 1024u

struct admin_stats {
    struct stats_visitor visitor;
    struct text out;
    char prefix[256];
    uint8_t format;
    bool first;
};

static void admin_stats_name(struct admin_stats *s, const char *path)
{
    for (const char *p = path; *p != '\0'; p++) {
        bool good = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= '0' && *p <= '9') || *p == '_';
        text_add(&s->out, "%c", good ? *p : '_');
    }
}

static void admin_stats_number(struct admin_stats *s, const char *path, const char *suffix,
                               int64_t v)
{
    if (s->format == PROTO_FORMAT_JSON) {
        text_add(&s->out, "%s\"%s%s\":%lld", s->first ? "" : ",", path, suffix, (long long)v);
    } else if (s->format == PROTO_FORMAT_PROMETHEUS) {
        text_add(&s->out, "opendfs_");
        admin_stats_name(s, path);
        text_add(&s->out, "%s %lld\n", suffix, (long long)v);
    } else {
        text_add(&s->out, "%s%s %lld\n", path, suffix, (long long)v);
    }
    s->first = false;
}

static void admin_stats_visit(struct stats_visitor *visitor, const struct stats_value *v)
{
    struct admin_stats *s = container_of(visitor, struct admin_stats, visitor);
    if (strncmp(v->path, s->prefix, strlen(s->prefix)) != 0) {
        return;
    }
    if (v->kind == STATS_IS_HISTOGRAM) {
        const struct stats_histogram *h = v->histogram;
        admin_stats_number(s, v->path, "_count", (int64_t)h->count);
        admin_stats_number(s, v->path, "_sum", (int64_t)h->sum_ns);
        admin_stats_number(s, v->path, "_p50", (int64_t)stats_quantile_ns(h, 500));
        admin_stats_number(s, v->path, "_p99", (int64_t)stats_quantile_ns(h, 990));
        admin_stats_number(s, v->path, "_max", (int64_t)h->max_ns);
    } else {
        admin_stats_number(s, v->path, "", v->value);
    }
}

void metanode_stats(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_stats_request *q = r->body;
    struct admin_stats s = {.visitor.visit = admin_stats_visit, .format = q->format, .first = true};
    char *at = mem_alloc(ADMIN_STATS_BYTES);
    if (at == NULL) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
        return;
    }
    text_init(&s.out, at, ADMIN_STATS_BYTES);
    proto_bytes_to_c(q->prefix, s.prefix, sizeof s.prefix);
    text_add(&s.out, "%s", q->format == PROTO_FORMAT_JSON ? "{" : "");
    int rc = stats_walk(m->env->stats, &s.visitor);
    text_add(&s.out, "%s", q->format == PROTO_FORMAT_JSON ? "}\n" : "");
    struct proto_stats_reply answer = {.format = q->format, .body = proto_bytes_of(at, s.out.len)};
    if (rc < 0) {
        metanode_refuse(m, NULL, r, -ERR_busy, NULL);
    } else {
        peer_request_answer(r, &answer, NULL);
    }
    mem_free(at);
}

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
    struct metanode_waiter waiter;
    struct metanode *m;
    struct peer_request *request;
};

static void admin_changed(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct admin_change *x = container_of(w, struct admin_change, waiter);
    rc = rc == 0 ? reply->rc : rc;
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
    *ret = metanode_target_record(t);
    ret->incarnation = t->logged;
    ret->weight = (q->mask & PROTO_TARGET_SET_WEIGHT) != 0 ? q->weight : ret->weight;
    ret->rack = (q->mask & PROTO_TARGET_SET_RACK) != 0 ? q->rack : ret->rack;
    ret->labels = (q->mask & PROTO_TARGET_SET_LABELS) != 0 ? q->labels : ret->labels;
    return 0;
}

void metanode_target_change(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    struct namespace_target_put put = {0};
    if (!metanode_admit(m, r)) {
        return;
    }
    struct admin_change *x = mem_arena_alloc(&r->arena, sizeof *x); /* goes with the request */
    int rc = x == NULL ? -ENOMEM : admin_target(m, r, &put.target);
    if (rc == 0) {
        *x = (struct admin_change){.m = m, .request = r, .waiter.done = admin_changed};
        rc =
            metanode_propose(m, NAMESPACE_TARGET_PUT, &namespace_target_put_type, &put, &x->waiter);
    }
    if (rc < 0) {
        metanode_refuse(m, NULL, r, rc == -ENOMEM ? -ERR_busy : rc, NULL);
    }
}
