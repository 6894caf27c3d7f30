#include "namespace/audit_priv.h"

/*
 * Data that belongs to nothing (doc/design/0037). The leader looks at the metadata and at what
 * targets hold, and names data ids that a target has and that neither an inode nor garbage names.
 * What becomes of them is decided here, by what the log knows, so that no leader can be in too much
 * of a hurry: a data id becomes garbage only when it was named by two looks that are far enough
 * apart, is below the counter that the second one began with, and lies in no range that a restore
 * has leapt over. Whatever is not clear stays.
 */

#define AUDIT_NS_PER_MS INT64_C(1000000)
#define AUDIT_WAIT_MAX_MS (UINT64_C(3650) * 24 * 3600 * 1000)
#define AUDIT_CHAINS_MAX 64u

struct audit_plan {
    struct namespace_plan *p;
    struct namespace_audit audit;
    struct namespace_leaps leaps;
};

int namespace_leap_put(struct namespace_plan *p, uint64_t first, const struct namespace_leap *l)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_LEAP, first);
    CHECK(first > 0 && l->last >= first);
    return NAMESPACE_PUT(p, &key, namespace_leap, l);
}

int namespace_leaps_begin(struct namespace_plan *p)
{
    struct namespace_state *s = &p->state;
    if (s->leaps_from != 0) {
        return 0;
    }
    if (s->next_data_id < NAMESPACE_LEAP_LEAST) { /* every restore leaps further than that */
        s->leaps_from = 1;
        return 0;
    }
    struct namespace_leap l = {.last = s->next_data_id - 1, .time_ns = p->now_ns, .unknown = true};
    s->leaps_from = s->next_data_id;
    return namespace_leap_put(p, 1, &l);
}

static int audit_put(struct namespace_plan *p, const struct namespace_audit *a)
{
    struct namespace_key key = namespace_key(NAMESPACE_AUDIT);
    return NAMESPACE_PUT(p, &key, namespace_audit, a);
}

int namespace_audit_start(struct namespace_plan *p, const struct namespace_audit_begin *r)
{
    if (r->wait_ms == 0 || r->wait_ms > AUDIT_WAIT_MAX_MS) {
        return -EINVAL;
    }
    struct namespace_audit a = {.look = p->state.version,
                                .counter = p->state.next_data_id,
                                .begun_ns = p->now_ns,
                                .wait_ms = r->wait_ms};
    int rc = namespace_leaps_begin(p);
    p->reply->result.version = a.look;
    return rc < 0 ? rc : audit_put(p, &a);
}

/* The look that is under way, if it is this one. */
static int audit_get(const struct namespace_plan *p, uint64_t look, struct namespace_audit *ret)
{
    int rc = namespace_view_audit(&p->view, ret);
    if (rc < 0) {
        return rc;
    }
    return rc == 0 || ret->look != look || ret->ended_ns != 0 ? -ESTALE : 0;
}

/* ---- What becomes of one data id ---- */

/* Ascending, each once. 1: `b` adds something; 0: it does not; -E2BIG: they are too many. */
static int audit_union(struct namespace_plan *p, const struct proto_u32s *a,
                       const struct proto_u32s *b, struct proto_u32s *ret)
{
    uint32_t *at = mem_arena_alloc(p->view.arena, (a->count + b->count + 1) * sizeof *at);
    size_t i = 0, j = 0, n = 0, before = a->count; /* `ret` may be `a` */
    if (at == NULL) {
        return -ENOMEM;
    }
    while (i < a->count || j < b->count) {
        bool first = j == b->count || (i < a->count && a->at[i] <= b->at[j]);
        bool both = first && j < b->count && a->at[i] == b->at[j];
        at[n++] = first ? a->at[i] : b->at[j];
        i += first ? 1 : 0;
        j += !first || both ? 1 : 0;
    }
    if (n > AUDIT_CHAINS_MAX) {
        return -E2BIG;
    }
    *ret = (struct proto_u32s){.at = at, .count = n};
    return n > before ? 1 : 0;
}

/* A restore does not know who was given these: they may be somebody's in another state. */
static bool audit_is_held(const struct audit_plan *x, uint64_t data_id)
{
    bool held = false;
    for (size_t i = 0; i < x->leaps.count && !held; i++) {
        const struct namespace_leap *l = &x->leaps.at[i];
        held = data_id >= x->leaps.ids[i] && data_id <= l->last && !l->released;
    }
    return held;
}

/* It is being removed; another orphan's chains are only known from where it was found. */
static int audit_more_chains(struct audit_plan *x, const struct namespace_key *key,
                             struct namespace_garbage *g, const struct namespace_audit_id *found)
{
    if (g->chains.count == 0) {
        return 0;
    }
    int rc = audit_union(x->p, &g->chains, &found->chains, &g->chains);
    return rc == 1 ? NAMESPACE_PUT(x->p, key, namespace_garbage, g) : rc == -E2BIG ? 0 : rc;
}

static int audit_suspect_new(struct audit_plan *x, const struct namespace_key *key, bool known,
                             const struct namespace_audit_id *found)
{
    struct namespace_state *state = &x->p->state;
    if (!known && state->suspects >= NAMESPACE_SUSPECTS_MAX) {
        x->audit.unclear++;
        return 0;
    }
    struct namespace_suspect s = {.look = x->audit.look,
                                  .since_ns = x->p->now_ns,
                                  .seen = x->audit.look,
                                  .chains = found->chains};
    state->suspects += known ? 0 : 1;
    x->audit.found++;
    return NAMESPACE_PUT(x->p, key, namespace_suspect, &s);
}

/* The way of a removal: every chain is asked until it has answered. */
static int audit_remove(struct audit_plan *x, const struct namespace_key *key, uint64_t data_id,
                        const struct proto_u32s *chains)
{
    struct namespace_plan *p = x->p;
    struct namespace_garbage g = {
        .layout = {.data_id = data_id}, .since_ns = p->now_ns, .chains = *chains};
    struct namespace_key garbage = namespace_key_u64(NAMESPACE_GARBAGE, data_id);
    CHECK(p->state.suspects > 0);
    p->state.suspects--;
    p->state.garbage++;
    p->reply->removed_data_id = data_id;
    x->audit.removed++;
    int rc = namespace_plan_delete(p, key);
    return rc < 0 ? rc : NAMESPACE_PUT(p, &garbage, namespace_garbage, &g);
}

static int audit_suspect_again(struct audit_plan *x, const struct namespace_key *key,
                               struct namespace_suspect *s, const struct namespace_audit_id *found)
{
    const struct namespace_audit *a = &x->audit;
    int64_t wait_ns = (int64_t)a->wait_ms * AUDIT_NS_PER_MS;
    bool again =
        s->look != a->look && a->begun_ns > s->since_ns && a->begun_ns - s->since_ns >= wait_ns;
    bool first = s->seen != a->look; /* by this look, at any target */
    int rc = audit_union(x->p, &s->chains, &found->chains, &s->chains);
    if (rc < 0 && rc != -E2BIG) {
        return rc;
    }
    s->wide = s->wide || rc == -E2BIG;
    if (again && !s->wide) {
        return audit_remove(x, key, found->data_id, &s->chains);
    }
    x->audit.unclear += first && s->wide ? 1 : 0;
    x->audit.waiting += first && !s->wide ? 1 : 0;
    s->seen = a->look;
    return NAMESPACE_PUT(x->p, key, namespace_suspect, s);
}

static int audit_one(struct audit_plan *x, const struct namespace_audit_id *found)
{
    struct namespace_plan *p = x->p;
    struct namespace_key garbage = namespace_key_u64(NAMESPACE_GARBAGE, found->data_id);
    struct namespace_key key = namespace_key_u64(NAMESPACE_SUSPECT, found->data_id);
    struct namespace_garbage g;
    struct namespace_suspect s;
    if (audit_is_held(x, found->data_id)) {
        x->audit.held++;
        return 0;
    }
    int removed = NAMESPACE_GET(&p->view, &garbage, namespace_garbage, &g);
    int known = NAMESPACE_GET(&p->view, &key, namespace_suspect, &s);
    int rc = namespace_view_both(removed, known);
    if (rc < 0) {
        return rc;
    }
    if (removed == 1) {
        return audit_more_chains(x, &garbage, &g, found);
    }
    if (known == 0 || s.look < p->state.looks_from) {
        return audit_suspect_new(x, &key, known == 1, found);
    }
    return audit_suspect_again(x, &key, &s, found);
}

/* ---- What a look has found ---- */

static int audit_check(const struct audit_plan *x, const struct namespace_audit_found *r)
{
    uint64_t last = 0;
    for (size_t i = 0; i < r->found.count; i++) {
        const struct namespace_audit_id *f = &r->found.at[i];
        uint32_t chain = 0;
        if (f->data_id <= last || f->data_id >= x->audit.counter || f->chains.count == 0) {
            return -EINVAL; /* what was given since the look began is somebody's */
        }
        last = f->data_id;
        for (size_t k = 0; k < f->chains.count; k++) {
            if (f->chains.at[k] <= chain || f->chains.at[k] >= x->p->state.next_chain) {
                return -EINVAL;
            }
            chain = f->chains.at[k];
        }
    }
    return x->leaps.more ? -E2BIG : 0;
}

static int audit_forget(struct audit_plan *x, uint64_t data_id)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_SUSPECT, data_id);
    struct namespace_suspect s;
    int rc = NAMESPACE_GET(&x->p->view, &key, namespace_suspect, &s);
    if (rc <= 0 || s.seen == x->audit.look) {
        return rc < 0 ? rc : 0;
    }
    CHECK(x->p->state.suspects > 0);
    x->p->state.suspects--;
    return namespace_plan_delete(x->p, &key);
}

int namespace_audit_judge(struct namespace_plan *p, const struct namespace_audit_found *r)
{
    struct audit_plan x = {.p = p};
    uint64_t last = 0;
    int needs = 0;
    int rc = audit_get(p, r->look, &x.audit);
    int leaps = namespace_leaps(&p->view, 0, NAMESPACE_LEAPS_MAX, &x.leaps);
    rc = namespace_view_both(rc, leaps);
    rc = rc < 0 ? rc : audit_check(&x, r);
    for (size_t i = 0; i < r->found.count && rc == 0; i++) {
        rc = namespace_plan_go_on(&needs, audit_one(&x, &r->found.at[i]));
    }
    for (size_t i = 0; i < r->forget.count && rc == 0; i++) {
        bool rises = r->forget.at[i] > last;
        last = r->forget.at[i];
        rc = rises ? namespace_plan_go_on(&needs, audit_forget(&x, last)) : -EINVAL;
    }
    rc = rc < 0 ? rc : needs;
    return rc < 0 ? rc : audit_put(p, &x.audit);
}

int namespace_audit_finish(struct namespace_plan *p, const struct namespace_audit_end *r)
{
    struct namespace_audit a;
    int rc = audit_get(p, r->look, &a);
    if (rc < 0) {
        return rc;
    }
    a.ended_ns = p->now_ns;
    a.outcome = r->outcome;
    a.ids = r->ids;
    a.missed = r->missed;
    return r->outcome == NAMESPACE_AUDIT_GOING ? -EINVAL : audit_put(p, &a);
}

int namespace_audit_let_go(struct namespace_plan *p, const struct namespace_audit_release *r)
{
    struct namespace_key key = namespace_key_u64(NAMESPACE_LEAP, r->first);
    struct namespace_leap l;
    int rc = NAMESPACE_GET(&p->view, &key, namespace_leap, &l);
    if (rc <= 0) {
        return rc < 0 ? rc : -ENOENT;
    }
    if (l.last != r->last) {
        return -ENOENT; /* who names another range means another one */
    }
    l.released = true;
    return namespace_leap_put(p, r->first, &l);
}
