#include "metanode/metanode_priv.h"

/*
 * Executing the log. The engine hands over one committed entry at a time; its operations are
 * applied a few per round of the loop, so that a long entry or a long replay does not hold up
 * everything else. What a local caller waits for is told here, before the entry as a whole is done:
 * it is committed, and this state machine has executed it.
 */

#define METANODE_APPLY_BURST 128u
#define METANODE_APPLY_RETRY_NS (10 * METANODE_NS_PER_MS) /* while memory is short */

static struct metanode *apply_owner(struct consensus_fsm *f)
{
    return container_of(f, struct metanode, fsm);
}

static void apply_fetched(struct kv_fetch *f, int rc)
{
    struct metanode_apply *a = container_of(f, struct metanode_apply, fetch);
    struct metanode *m = container_of(a, struct metanode, apply);
    a->fetching = false;
    if (rc == -ENOMEM) {
        loop_timer_in(m->env->loop, &a->retry, METANODE_APPLY_RETRY_NS);
        return;
    }
    if (rc < 0 && rc != -ECANCELED) {
        metanode_fail(m, rc, "cannot read the metadata");
        return;
    }
    loop_defer(m->env->loop, &a->task);
}

static void apply_has_room(struct kv_room *r)
{
    struct metanode_apply *a = container_of(r, struct metanode_apply, room);
    struct metanode *m = container_of(a, struct metanode, apply);
    a->waiting = false;
    loop_defer(m->env->loop, &a->task);
}

/* The operation has changed nothing and comes again. 0, or why it cannot. */
static int apply_again(struct metanode *m, struct metanode_apply *a, int rc)
{
    switch (-rc) {
    case ERR_need:
        a->missed = true;
        a->fetching = true;
        a->fetch = (struct kv_fetch){.need = &a->need, .done = apply_fetched};
        kv_fetch(m->kv, &a->fetch);
        return 0; /* with what it has */
    case ERR_busy:
        a->waiting = true;
        a->waiting_ns = a->waiting_ns == 0 ? metanode_now(m) : a->waiting_ns;
        a->room = (struct kv_room){.done = apply_has_room};
        kv_room(m->kv, &a->room);
        return 0;   /* the same */
    case ECANCELED: /* its snapshot was given up */
        loop_defer(m->env->loop, &a->task);
        break;
    case ENOMEM:
        loop_timer_in(m->env->loop, &a->retry, METANODE_APPLY_RETRY_NS);
        break;
    default:
        break;
    }
    kv_need_release(&a->need);
    return rc == -ECANCELED || rc == -ENOMEM ? 0 : rc;
}

static void apply_tell(struct metanode *m, struct metanode_apply *a)
{
    struct metanode_proposal *p =
        a->op.local == NULL ? NULL : container_of(a->op.local, struct metanode_proposal, base);
    if (m->phase != METANODE_REPLAYING && a->reply.rc != -EALREADY) {
        struct namespace_command c;
        mem_arena_reset(&a->arena);
        if (PROTO_DECODE(namespace_command, a->op.bytes, a->op.len, &a->arena, &c) == 0) {
            metanode_applied(m, &c, &a->reply);
        }
    }
    if (p != NULL && p->waiter != NULL) {
        struct metanode_waiter *w = p->waiter;
        p->waiter = NULL;
        w->done(w, 0, &a->reply);
    }
}

/* 1: the operation is done; 0: wait; negative: this machine cannot go on. */
static int apply_operation(struct metanode *m, struct metanode_apply *a)
{
    struct namespace_entry e = {.index = a->entry->index,
                                .part = a->part,
                                .last = a->part + 1 == a->entry->count,
                                .bytes = a->op.bytes,
                                .len = a->op.len};
    int rc = namespace_apply(m->ns, &e, &a->need, &a->reply);
    if (rc == 0) {
        a->waiting_ns = 0;
        if (!m->warmth.cold) {
            metanode_warmth_note(&m->warmth, a->missed);
        }
        a->missed = false;
        apply_tell(m, a);
        kv_need_release(&a->need);
        a->have_op = false;
        a->part++;
        return 1;
    }
    return apply_again(m, a, rc);
}

static bool apply_waits(const struct metanode_apply *a)
{
    return a->fetching || a->waiting;
}

static void apply_run(struct loop_task *task)
{
    struct metanode_apply *a = container_of(task, struct metanode_apply, task);
    struct metanode *m = container_of(a, struct metanode, apply);
    for (unsigned i = 0; i < METANODE_APPLY_BURST && a->entry != NULL && !apply_waits(a); i++) {
        if (m->phase == METANODE_ENDED) {
            return;
        }
        if (!a->have_op && !consensus_entry_next(a->entry, &a->op)) {
            uint64_t index = a->entry->index;
            a->entry = NULL;
            metanode_checkpoint_applied(m, a->entry_bytes);
            consensus_applied(m->consensus, index); /* may hand over the next one at once */
            continue;
        }
        a->have_op = true;
        int rc = apply_operation(m, a);
        if (rc == 0) {
            return;
        }
        if (rc < 0) {
            if (!metanode_engine_failed(m)) {
                metanode_fail(m, rc, "cannot apply the log");
            }
            return;
        }
    }
    if (a->entry != NULL) {
        loop_defer(m->env->loop, task);
    }
}

static void apply_retry(struct loop_timer *t)
{
    struct metanode_apply *a = container_of(t, struct metanode_apply, retry);
    apply_run(&a->task);
}

static void fsm_apply(struct consensus_fsm *f, struct consensus_entry *e)
{
    struct metanode *m = apply_owner(f);
    CHECK(m->apply.entry == NULL);
    m->apply.entry = e;
    m->apply.entry_bytes = e->left;
    m->apply.have_op = false;
    m->apply.part = 0;
    loop_defer(m->env->loop, &m->apply.task);
}

static void fsm_state(struct consensus_fsm *f, const struct consensus_state *s)
{
    struct metanode *m = apply_owner(f);
    m->term = s->term;
    if (s->role == CONSENSUS_LEADER) {
        m->lead_ns = metanode_now(m);
        metanode_load_start(m);
    } else if (m->phase == METANODE_LOADING || m->phase == METANODE_SERVING) {
        metanode_fail(m, -ERR_not_leader, "this server does not lead any more");
    }
    if (m->server != NULL) {
        bool leads = s->role == CONSENSUS_LEADER;
        peer_server_set_leader(m->server, s->term, leads ? m->address.text : s->leader_address,
                               leads);
    }
}

static int fsm_snapshot(struct consensus_fsm *f, struct consensus_reference *ret)
{
    return metanode_checkpoint_snapshot(apply_owner(f), ret);
}

/* The log begins behind a checkpoint that is not there, or not sound: it cannot be made up for. */
static int fsm_restore(struct consensus_fsm *f, const struct consensus_reference *r)
{
    struct metanode *m = apply_owner(f);
    return r->index <= kv_applied_index(m->kv) ? 0 : -ERR_corrupt;
}

static void fsm_failed(struct consensus_fsm *f, int rc, const char *reason)
{
    metanode_fail(apply_owner(f), rc, reason);
}

const struct consensus_fsm_ops metanode_fsm_ops = {
    .apply = fsm_apply,
    .state = fsm_state,
    .snapshot = fsm_snapshot,
    .restore = fsm_restore,
    .failed = fsm_failed,
};

void metanode_apply_init(struct metanode *m)
{
    m->apply.task.run = apply_run;
    m->apply.retry.fire = apply_retry;
    mem_arena_init(&m->apply.arena, METANODE_ARENA_BYTES);
}

void metanode_apply_fini(struct metanode *m)
{
    loop_undefer(m->env->loop, &m->apply.task);
    loop_timer_cancel(m->env->loop, &m->apply.retry);
    kv_need_release(&m->apply.need);
    mem_arena_fini(&m->apply.arena);
}
