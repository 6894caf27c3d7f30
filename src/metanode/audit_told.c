/*
 * metanode/audit_told.c -- looks for orphans as people see them: what the log knows of them, in
 * words and for programs, and what administrators ask for. Kept in memory, read anew whenever a
 * command has changed it.
 */
#include "metanode/audit_priv.h"

#include "metanode/metanode_priv.h"

#include <string.h>

#define TOLD_U(x) ((unsigned long long)(x))

/* ---- What is known ---- */

static int told_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_audits *all = container_of(read, struct metanode_audits, read);
    struct metanode_audit_known *k = &all->now;
    struct namespace_state state;
    struct namespace_leaps leaps = {0};
    struct namespace_audit audit = {0};
    int begun = namespace_view_audit(v, &audit);
    int rc = namespace_view_both(namespace_view_state(v, &state),
                                 namespace_leaps(v, 0, NAMESPACE_LEAPS_MAX, &leaps));
    rc = namespace_view_both(rc, begun < 0 ? begun : 0);
    if (rc < 0) {
        return rc;
    }
    k->begun = begun == 1;
    k->audit = audit;
    k->audit.missed.count = base_min(audit.missed.count, ARRAY_COUNT(k->missed));
    for (size_t i = 0; i < k->audit.missed.count; i++) {
        k->missed[i] = audit.missed.at[i];
    }
    k->audit.missed.at = k->missed;
    k->suspects = state.suspects;
    k->leap_count = leaps.count;
    for (size_t i = 0; i < base_min(leaps.count, METANODE_LEAPS_TOLD); i++) {
        k->leap[i] = leaps.at[i];
        k->leap_first[i] = leaps.ids[i];
    }
    k->known = true;
    return 0;
}

static void told_begin(struct metanode *m);

static void told_read_done(struct metanode_read *read, int rc)
{
    struct metanode_audits *all = container_of(read, struct metanode_audits, read);
    struct metanode *m = all->m;
    all->reading = false;
    if (all->again && rc == 0 && !all->stopped) {
        told_begin(m);
    }
}

static void told_begin(struct metanode *m)
{
    struct metanode_audits *all = m->cleanup.audits;
    all->m = m;
    all->again = false;
    all->reading = true;
    all->read = (struct metanode_read){.run = told_read, .done = told_read_done};
    metanode_read(m, &all->read);
}

void metanode_audit_touch(struct metanode *m)
{
    struct metanode_audits *all = m->cleanup.audits;
    if (all->reading) {
        all->again = true;
    } else if (!all->stopped) {
        told_begin(m);
    }
}

/* ---- In words ---- */

static uint64_t told_wait_ms(const struct metanode *m)
{
    return m->opt.audit_wait_ms == 0 ? METANODE_AUDIT_WAIT_MS : m->opt.audit_wait_ms;
}

static const char *told_state(const struct metanode *m)
{
    static const char *const names[] = {[NAMESPACE_AUDIT_GOING] = "cut off",
                                        [NAMESPACE_AUDIT_DONE] = "done",
                                        [NAMESPACE_AUDIT_STRANGE] = "strange",
                                        [NAMESPACE_AUDIT_FAILED] = "failed"};
    const struct metanode_audit_known *k = &m->cleanup.audits->now;
    if (metanode_audit_goes_on(m)) {
        return "looking";
    }
    return !k->begun                               ? "never"
           : k->audit.outcome < ARRAY_COUNT(names) ? names[k->audit.outcome]
                                                   : "?";
}

static void told_json_leaps(const struct metanode_audit_known *k, struct text *out)
{
    text_add(out, "\"leaps\":[");
    for (size_t i = 0; i < base_min(k->leap_count, METANODE_LEAPS_TOLD); i++) {
        const struct namespace_leap *l = &k->leap[i];
        text_add(out,
                 "%s{\"first\":\"%llu\",\"last\":\"%llu\",\"time_ms\":%lld,\"unknown\":%s,"
                 "\"released\":%s}",
                 i == 0 ? "" : ",", TOLD_U(k->leap_first[i]), TOLD_U(l->last),
                 (long long)(l->time_ns / (int64_t)METANODE_NS_PER_MS),
                 l->unknown ? "true" : "false", l->released ? "true" : "false");
    }
    text_add(out, "],");
}

void metanode_audit_json(const struct metanode *m, struct text *out)
{
    const struct metanode_audit_known *k = &m->cleanup.audits->now;
    const struct namespace_audit *a = &k->audit;
    text_add(out,
             "\"audit\":{\"state\":\"%s\",\"look\":\"%llu\",\"begun_ms\":%lld,\"ended_ms\":%lld,"
             "\"wait_ms\":%llu,\"ids\":%llu,\"found\":%llu,\"waiting\":%llu,\"removed\":%llu,"
             "\"held\":%llu,\"unclear\":%llu,\"suspects\":%llu,\"missed\":[",
             told_state(m), TOLD_U(a->look), (long long)(a->begun_ns / (int64_t)METANODE_NS_PER_MS),
             (long long)(a->ended_ns / (int64_t)METANODE_NS_PER_MS), TOLD_U(told_wait_ms(m)),
             TOLD_U(a->ids), TOLD_U(a->found), TOLD_U(a->waiting), TOLD_U(a->removed),
             TOLD_U(a->held), TOLD_U(a->unclear), TOLD_U(k->suspects));
    for (size_t i = 0; i < a->missed.count; i++) {
        text_add(out, "%s%u", i == 0 ? "" : ",", a->missed.at[i]);
    }
    text_add(out, "]},");
    told_json_leaps(k, out);
}

static const char *told_strange(const struct metanode_audit_known *k, struct text *out)
{
    if (!k->begun || k->audit.outcome != NAMESPACE_AUDIT_STRANGE) {
        return NULL;
    }
    text_add(out, "targets have data that this metadata never knew of: they may be older than the "
                  "data; nothing of it is removed");
    return "audit.strange";
}

static const char *told_failed(const struct metanode_audit_known *k, struct text *out)
{
    if (!k->begun || k->audit.outcome != NAMESPACE_AUDIT_FAILED) {
        return NULL;
    }
    text_add(out, "the newest look for data that belongs to no file could not read all of the "
                  "metadata: `opendfs fsck --namespace` says what is wrong");
    return "audit.failed";
}

static const char *told_suspects(const struct metanode *m, const struct metanode_audit_known *k,
                                 struct text *out)
{
    char time[TEXT_UNIT_SIZE];
    if (k->suspects == 0) {
        return NULL;
    }
    text_add(out,
             "the data of %llu data id%s belong%s to no file: it goes with a look for orphans that "
             "begins %s after the one that has found it",
             TOLD_U(k->suspects), k->suspects == 1 ? "" : "s", k->suspects == 1 ? "s" : "",
             text_from_ms(told_wait_ms(m), time));
    return "data.orphan";
}

static const char *told_held(const struct metanode_audit_known *k, struct text *out)
{
    if (!k->begun || k->audit.held == 0) {
        return NULL;
    }
    text_add(out,
             "%llu pieces of data belong to no file, but may to files made after a backup that was "
             "restored: kept until `opendfs audit release` names the range",
             TOLD_U(k->audit.held));
    return "data.leapt";
}

static const char *told_unclear(const struct metanode_audit_known *k, struct text *out)
{
    if (!k->begun || k->audit.unclear == 0) {
        return NULL;
    }
    text_add(out, "%llu pieces of data that belong to no file were left alone: too many to note",
             TOLD_U(k->audit.unclear));
    return "data.unclear";
}

bool metanode_audit_words(const struct metanode *m, size_t place, struct text *out,
                          const char **ret_code)
{
    const struct metanode_audit_known *k = &m->cleanup.audits->now;
    const char *code = NULL;
    size_t at = 0;
    for (size_t i = 0; i < 5 && at <= place; i++) {
        char words[256];
        struct text t;
        text_init(&t, words, sizeof words);
        code = i == 0   ? told_strange(k, &t)
               : i == 1 ? told_failed(k, &t)
               : i == 2 ? told_suspects(m, k, &t)
               : i == 3 ? told_held(k, &t)
                        : told_unclear(k, &t);
        if (code != NULL && at++ == place) {
            text_add(out, "%s", words);
            *ret_code = code;
            return true;
        }
    }
    return false;
}

/* ---- What administrators ask for ---- */

struct audit_order {
    struct metanode_read read;
    struct metanode_waiter waiter;
    struct metanode *m;
    struct peer_request *request;
};

static void order_end(struct audit_order *x, int rc, const char *text)
{
    struct metanode *m = x->m;
    const struct proto_audit_request *q = x->request->body;
    struct metanode_session *s = metanode_session_find(m, q->caller.session);
    if (rc < 0 || s == NULL) {
        rc = s == NULL ? -ERR_session_expired : rc == -ENOMEM ? -ERR_busy : rc;
        metanode_refuse(m, s, x->request, rc, text);
        return;
    }
    const struct proto_audit_reply answer = {.trailer = metanode_trailer(m, s)};
    peer_request_answer(x->request, &answer, NULL);
}

static void order_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct audit_order *x = container_of(w, struct audit_order, waiter);
    const struct proto_audit_request *q = x->request->body;
    bool start = q->action == PROTO_AUDIT_START;
    rc = rc == 0 ? reply->rc : rc;
    x->m->cleanup.audits->beginning = x->m->cleanup.audits->beginning && !start;
    if (rc == 0 && start) {
        rc = metanode_audit_go(x->m, reply->result.version);
    }
    order_end(x, rc, rc == -ENOENT ? "no restore has leapt over exactly these data ids" : NULL);
}

static int order_read(struct metanode_read *read, const struct namespace_view *v)
{
    const struct audit_order *x = container_of(read, struct audit_order, read);
    const struct proto_audit_request *q = x->request->body;
    struct namespace_cred cred;
    int rc = namespace_view_cred(v, q->caller.session, q->caller.cred, &cred);
    return rc == 0 && cred.uid != 0 ? -EPERM : rc;
}

/* Root asks. */
static void order_go(struct metanode_read *read, int rc)
{
    struct audit_order *x = container_of(read, struct audit_order, read);
    const struct proto_audit_request *q = x->request->body;
    const char *text = NULL;
    struct metanode_audits *all = x->m->cleanup.audits;
    bool busy = metanode_audit_goes_on(x->m) || all->beginning;
    if (rc == 0 && q->action == PROTO_AUDIT_START && busy) {
        rc = -EALREADY;
        text = "a look for orphans is under way";
    } else if (rc == 0 && q->action == PROTO_AUDIT_START) {
        const struct namespace_audit_begin body = {.wait_ms = told_wait_ms(x->m)};
        rc = metanode_propose(x->m, NAMESPACE_AUDIT_BEGIN, &namespace_audit_begin_type, &body,
                              &x->waiter);
        all->beginning = rc == 0;
    } else if (rc == 0 && q->action == PROTO_AUDIT_RELEASE) {
        const struct namespace_audit_release body = {.first = q->first, .last = q->last};
        rc = metanode_propose(x->m, NAMESPACE_AUDIT_RELEASE, &namespace_audit_release_type, &body,
                              &x->waiter);
    } else if (rc == 0) {
        rc = -EINVAL;
    }
    if (rc < 0) {
        order_end(x, rc, text);
    }
}

void metanode_audit(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_audit_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->caller.session) : NULL;
    if (s == NULL) {
        return;
    }
    struct audit_order *x = mem_arena_alloc(&r->arena, sizeof *x); /* goes with the request */
    if (x == NULL) {
        metanode_refuse(m, s, r, -ERR_busy, NULL);
        return;
    }
    *x = (struct audit_order){.m = m,
                              .request = r,
                              .waiter.done = order_logged,
                              .read = {.run = order_read, .done = order_go}};
    metanode_read(m, &x->read);
}
