/*
 * metanode/load.c -- from "this server leads" to "it serves": a first command proves that
 * everything before it is applied (and makes the root of a new cluster), then targets, chains and
 * sessions are read into the leader's memory.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"

#define LOAD_PAGE 512u
#define LOAD_EPOCH_BITS 24u /* sessions begin, or go on, less often than that under one leader */
#define LOAD_RETRY_NS (20 * METANODE_NS_PER_MS)

enum load_step { LOAD_TARGETS, LOAD_ROWS, LOAD_SESSIONS, LOAD_END };

struct metanode_loading {
    struct metanode_read read;
    struct metanode_waiter waiter;
    struct metanode *m;
    enum load_step step;
    bool full; /* the log takes no first command: goes on with what is applied */
    uint64_t after;
    struct namespace_state state;
    union {
        struct proto_target_list targets;
        struct proto_row_list rows;
        struct namespace_sessions sessions;
    };
};

static void load_retry(struct metanode *m)
{
    loop_timer_in(m->env->loop, &m->load.retry, LOAD_RETRY_NS);
}

static int load_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_loading *l = container_of(read, struct metanode_loading, read);
    switch (l->step) {
    case LOAD_TARGETS:
        return namespace_view_both(
            namespace_view_state(v, &l->state),
            namespace_targets(v, (uint32_t)l->after, LOAD_PAGE, &l->targets));
    case LOAD_ROWS:
        return namespace_rows(v, (uint32_t)l->after, LOAD_PAGE, &l->rows);
    case LOAD_SESSIONS:
        return namespace_sessions(v, l->after, LOAD_PAGE, &l->sessions);
    case LOAD_END:
    default:
        return 0;
    }
}

static int load_keep_session(struct metanode *m, uint64_t id, const struct namespace_session *r)
{
    struct metanode_session *s;
    int rc = metanode_session_add(m, id, &s);
    if (rc == 0) {
        s->verifier = r->verifier;
        s->slots = r->slots;
        s->flags = r->flags;
        m->writers.unheard += s->unheard ? 0 : 1;
        s->unheard = true;
        m->grants.unclaimed += s->unclaimed ? 0 : 1;
        s->unclaimed = true;
    }
    return rc;
}

/* What a page says goes into memory. *more: there may be another page of this kind. */
static int load_keep(struct metanode_loading *l, bool *more)
{
    int rc = 0;
    struct metanode *m = l->m;
    *more = false;
    if (l->step == LOAD_TARGETS) {
        m->map_epoch = l->state.map_epoch;
        for (size_t i = 0; i < l->targets.count && rc == 0; i++) {
            rc = metanode_target_put(m, &l->targets.at[i]);
            l->after = (uint64_t)l->targets.at[i].id + 1;
        }
        *more = l->targets.count == LOAD_PAGE;
    } else if (l->step == LOAD_ROWS) {
        for (size_t i = 0; i < l->rows.count && rc == 0; i++) {
            rc = metanode_chain_put(m, &l->rows.at[i]);
            l->after = (uint64_t)l->rows.at[i].chain + 1;
        }
        *more = l->rows.count == LOAD_PAGE;
    } else if (l->step == LOAD_SESSIONS) {
        for (size_t i = 0; i < l->sessions.count && rc == 0; i++) {
            rc = load_keep_session(m, l->sessions.ids[i], &l->sessions.at[i]);
            l->after = l->sessions.ids[i];
        }
        *more = l->sessions.more;
    }
    return rc;
}

static void load_serve(struct metanode *m)
{
    m->phase = METANODE_SERVING;
    m->serve_ns = metanode_now(m); /* nobody could be heard earlier, however long this took */
    metanode_targets_start(m);
    metanode_chains_start(m);
    metanode_moves_start(m);
    metanode_sessions_start(m);
    metanode_cleanup_start(m);
    metanode_checkpoints_start(m);
    log_info(m->env->log, "metadata server serves", LOG_TEXT("address", m->address.text),
             LOG_U64("targets", m->targets.count), LOG_U64("chains", m->chains.count));
    if (m->opt.user != NULL && m->stop == NULL) {
        m->opt.user->ops->serving(m->opt.user);
    }
}

/* Each page begins in a round of its own. */
static void load_page(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, load.page);
    metanode_read(m, &m->load.loading->read);
}

static void load_read_done(struct metanode_read *read, int rc)
{
    struct metanode_loading *l = container_of(read, struct metanode_loading, read);
    struct metanode *m = l->m;
    bool more = false;
    if (m->phase != METANODE_LOADING) {
        return;
    }
    if (rc == -ENXIO && l->full) { /* there is no root yet: it needs the log */
        m->phase = METANODE_REPLAYING;
        load_retry(m);
        return;
    }
    rc = rc < 0 ? rc : load_keep(l, &more);
    if (rc < 0 && rc != -ERR_busy) {
        metanode_fail(m, rc, "cannot read the cluster's state");
        return;
    }
    if (rc == 0 && !more) {
        l->step++;
        l->after = 0;
    }
    if (l->step == LOAD_END) {
        load_serve(m);
    } else {
        loop_timer_in(m->env->loop, &m->load.page, rc == -ERR_busy ? LOAD_RETRY_NS : 0);
    }
}

/*
 * A lease epoch is never used twice (L4), and one voter alone leads on in its old term: what tells
 * leaders apart is the place of their first command in the log. Where the log takes none, there is
 * chance instead.
 */
static void load_epochs(struct metanode *m, bool full)
{
    uint64_t half = UINT64_C(1) << (LOAD_EPOCH_BITS - 1);
    uint64_t first = full ? half + loop_random(m->env->loop) % half : 0;
    m->epochs = (consensus_applied_index(m->consensus) << LOAD_EPOCH_BITS) + first;
}

/* The first command of this leader has been applied, and so has everything before it. */
static void load_begun(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct metanode_loading *l = container_of(w, struct metanode_loading, waiter);
    struct metanode *m = l->m;
    m->load.active = false;
    if (m->phase != METANODE_REPLAYING || m->stop != NULL) {
        return;
    }
    /* With a full disk it serves reads all the same: the read lease says that all is applied. */
    l->full = rc == -ERR_log_full && consensus_lease_until_ns(m->consensus) > metanode_now(m);
    if (rc < 0 && !l->full) {
        load_retry(m);
        return;
    }
    if (rc == 0 && reply->rc == 0) {
        log_info(m->env->log, "a new cluster begins");
    }
    load_epochs(m, l->full);
    m->phase = METANODE_LOADING;
    l->step = LOAD_TARGETS;
    l->after = 0;
    l->read = (struct metanode_read){.run = load_read, .done = load_read_done};
    loop_timer_in(m->env->loop, &m->load.page, 0);
}

static void load_try(struct loop_timer *t)
{
    metanode_load_start(container_of(t, struct metanode, load.retry));
}

void metanode_load_start(struct metanode *m)
{
    struct namespace_format format = {
        .mode = m->opt.root_mode, .uid = m->opt.root_uid, .gid = m->opt.root_gid};
    if (m->load.active || m->phase != METANODE_REPLAYING || m->stop != NULL) {
        return;
    }
    if (m->load.loading == NULL) {
        m->load.loading = mem_zalloc(sizeof *m->load.loading);
    }
    m->load.retry.fire = load_try;
    m->load.page.fire = load_page;
    if (m->load.loading == NULL) {
        load_retry(m);
        return;
    }
    m->load.loading->m = m;
    m->load.loading->waiter.done = load_begun;
    m->load.active = true;
    /* Refused where there is a root already; what counts is that it was applied. */
    if (metanode_propose(m, NAMESPACE_FORMAT_ROOT, &namespace_format_type, &format,
                         &m->load.loading->waiter) < 0) {
        m->load.active = false;
        load_retry(m);
    }
}

void metanode_load_fini(struct metanode *m)
{
    loop_timer_cancel(m->env->loop, &m->load.retry);
    loop_timer_cancel(m->env->loop, &m->load.page);
    mem_free(m->load.loading);
    m->load.loading = NULL;
}
