/*
 * metanode/fence.c -- shutting out the writes of ended sessions (coherence.md L6). Every target is
 * told; one whose lease has ended serves nobody, and gets no new lease before it has been told.
 * Until one of both is true of all, `wopen` is refused and no trim is complete. The record goes
 * when no capability of the dead session can be valid any more: a target keeps its fences in
 * memory, so that one that starts anew has to be told again, also when all had answered before.
 */
#include "metanode/metanode_priv.h"

#include "base/log.h"

#define FENCE_PAGE 256u
#define FENCE_TICK_NS (100 * METANODE_NS_PER_MS)
#define FENCE_SKEW_MS 10000u

struct fence_ack {
    uint32_t target;
    uint64_t incarnation;
};

struct fence {
    struct list node;
    struct metanode *m;
    uint64_t session, cap_epoch;
    uint64_t since_ns; /* by our own uptime, which does not jump: a new leader counts anew */
    struct fence_ack *acks;
    size_t ack_count, ack_room;
    struct metanode_waiter waiter;
    unsigned asking; /* questions under way */
    bool logging, over;
};

struct fence_call {
    struct list node;
    struct peer_call call;
    struct fence *f;
    struct proto_fence_request request;
    struct fence_ack to;
};

struct metanode_fences {
    struct metanode *m;
    struct loop_timer timer;
    struct metanode_read read;
    struct list all, calls;
    bool reading, again, stopped;
};

static bool fence_has(const struct fence *f, const struct metanode_target *t)
{
    bool found = false;
    for (size_t i = 0; i < f->ack_count && !found; i++) {
        found = f->acks[i].target == t->id && f->acks[i].incarnation == t->incarnation;
    }
    return found;
}

bool metanode_fence_acked(struct metanode *m, const struct metanode_target *t)
{
    struct metanode_fences *fs = m->cleanup.fencing;
    bool all = true;
    LIST_FOR_EACH(node, &fs->all)
    {
        all = all && fence_has(LIST_ENTRY(node, struct fence, node), t);
    }
    return all;
}

static void fence_free(struct fence *f)
{
    if (f->asking == 0 && !f->logging) {
        mem_free(f->acks);
        mem_free(f);
    }
}

static void fence_remove(struct fence *f)
{
    list_remove(&f->node);
    f->over = true;
    fence_free(f);
}

static void fence_logged(struct metanode_waiter *w, int rc, const struct namespace_reply *reply)
{
    struct fence *f = container_of(w, struct fence, waiter);
    f->logging = false;
    if (f->over) {
        fence_free(f);
    } else if (rc == 0 && reply->rc == 0) {
        struct metanode *m = f->m;
        fence_remove(f);
        metanode_fence_kick(m);
        metanode_errand_hurry(&m->cleanup.trims); /* trims of the session waited for this */
    }                                             /* else the tick tries again */
}

static void fence_log(struct fence *f)
{
    struct namespace_fence_done body = {.session = f->session, .cap_epoch = f->cap_epoch};
    if (f->logging) {
        return;
    }
    f->waiter.done = fence_logged;
    f->logging = metanode_propose(f->m, NAMESPACE_FENCE_DONE, &namespace_fence_done_type, &body,
                                  &f->waiter) == 0;
}

static void fence_answered(struct peer_call *call, const struct peer_reply *r)
{
    struct fence_call *x = container_of(call, struct fence_call, call);
    struct fence *f = x->f;
    f->asking--;
    if (r->rc == 0 && !f->over &&
        mem_grow(&f->acks, &f->ack_room, f->ack_count + 1, sizeof *f->acks) == 0) {
        f->acks[f->ack_count++] = x->to;
    }
    list_remove(&x->node);
    mem_free(x);
    if (f->over) {
        fence_free(f);
    } else {
        metanode_fence_kick(f->m);
    }
}

static bool fence_is_asked(const struct metanode_fences *fs, const struct fence *f, uint32_t target)
{
    bool found = false;
    LIST_FOR_EACH(node, &fs->calls)
    {
        const struct fence_call *x = LIST_ENTRY(node, struct fence_call, node);
        found = found || (x->f == f && x->to.target == target);
    }
    return found;
}

static void fence_ask(struct metanode_fences *fs, struct fence *f, struct metanode_target *t)
{
    bool ask = t->registered && t->link != NULL && !fence_is_asked(fs, f, t->id);
    struct fence_call *x = ask ? mem_zalloc(sizeof *x) : NULL;
    if (x == NULL) {
        return; /* the tick comes again */
    }
    uint64_t until = METANODE_WRITE_CAPABILITY_MS + FENCE_SKEW_MS;
    x->f = f;
    x->to = (struct fence_ack){.target = t->id, .incarnation = t->incarnation};
    x->request = (struct proto_fence_request){.session = f->session,
                                              .cap_epoch = f->cap_epoch,
                                              .until_wall_ms = metanode_wall_ms(f->m) + until};
    x->call = (struct peer_call){.done = fence_answered,
                                 .request = &x->request,
                                 .opcode = PROTO_OP_fence,
                                 .timeout_ms = (uint32_t)f->m->opt.lease_ms};
    f->asking++;
    list_push_back(&fs->calls, &x->node);
    peer_link_call(t->link, &x->call);
}

static uint64_t fence_end_ns(const struct fence *f)
{
    uint64_t limit_ms = METANODE_WRITE_CAPABILITY_MS + FENCE_SKEW_MS;
    return f->since_ns + limit_ms * METANODE_NS_PER_MS;
}

/* True: the dead session can write nowhere. *next_ns: when to look again at the latest. */
static bool fence_step(struct metanode_fences *fs, struct fence *f, uint64_t *next_ns)
{
    uint64_t now_ns = metanode_now(fs->m);
    bool effective = true, all = true;
    LIST_FOR_EACH(node, &fs->m->targets.all)
    {
        struct metanode_target *t = LIST_ENTRY(node, struct metanode_target, all);
        if (!fence_has(f, t)) {
            all = false;
            effective = effective && !loop_timer_active(&t->expiry);
            fence_ask(fs, f, t);
        }
    }
    bool stale = now_ns > fence_end_ns(f);
    if (stale) {
        fence_log(f);
    }
    bool soon = stale || !all;
    *next_ns = base_min(*next_ns, soon ? now_ns + FENCE_TICK_NS : fence_end_ns(f) + 1);
    return stale || effective;
}

static void fences_step(struct metanode_fences *fs)
{
    size_t blocking = 0;
    uint64_t next_ns = UINT64_MAX;
    LIST_FOR_EACH_SAFE(node, &fs->all)
    {
        blocking += fence_step(fs, LIST_ENTRY(node, struct fence, node), &next_ns) ? 0 : 1;
    }
    bool blocked = fs->m->cleanup.fences > 0;
    fs->m->cleanup.fences = blocking + (fs->again ? 1 : 0); /* one that the read has not seen */
    if (blocked && fs->m->cleanup.fences == 0) {
        metanode_errand_hurry(&fs->m->cleanup.trims); /* trims waited for this */
    }
    if (!list_empty(&fs->all) && !fs->stopped) {
        loop_timer_at(fs->m->env->loop, &fs->timer, next_ns);
    }
}

/* The list ascends by session, as the records do; *at is where the one before was found. */
static int fence_keep(struct metanode_fences *fs, struct list **at, uint64_t session,
                      uint64_t cap_epoch)
{
    while (*at != &fs->all && LIST_ENTRY(*at, struct fence, node)->session < session) {
        *at = (*at)->next;
    }
    if (*at != &fs->all && LIST_ENTRY(*at, struct fence, node)->session == session) {
        return 0; /* an id is used once, and so is its fence */
    }
    struct fence *f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        return -ENOMEM;
    }
    f->m = fs->m;
    f->since_ns = metanode_now(fs->m);
    f->session = session;
    f->cap_epoch = cap_epoch;
    list_push_back(*at, &f->node); /* before it */
    log_info(fs->m->env->log, "writes of an ended session are being shut out",
             LOG_U64("session", session));
    return 0;
}

/* All of them: one that was left out would not hold up those who want to write. */
static int fence_read(struct metanode_read *read, const struct namespace_view *v)
{
    struct metanode_fences *fs = container_of(read, struct metanode_fences, read);
    struct namespace_fences page = {.more = true};
    struct list *at = fs->all.next;
    uint64_t after = 0;
    int rc = 0;
    while (rc == 0 && page.more) {
        rc = namespace_fences(v, after, FENCE_PAGE, &page);
        for (size_t i = 0; rc == 0 && i < page.count; i++) {
            after = page.ids[i];
            rc = fence_keep(fs, &at, after, page.at[i].cap_epoch);
        }
    }
    return rc;
}

static void fence_read_done(struct metanode_read *read, int rc)
{
    struct metanode_fences *fs = container_of(read, struct metanode_fences, read);
    fs->reading = false;
    fs->again = fs->again || rc < 0;
    if (!fs->stopped) {
        fences_step(fs);
    }
    if (fs->again && !fs->stopped) {
        loop_timer_in(fs->m->env->loop, &fs->timer, rc < 0 ? FENCE_TICK_NS : 0);
    }
}

static void fences_run(struct loop_timer *t)
{
    struct metanode_fences *fs = container_of(t, struct metanode_fences, timer);
    if (fs->m->phase != METANODE_SERVING || fs->stopped || fs->reading) {
        return;
    }
    fs->again = false;
    fs->reading = true;
    fs->read = (struct metanode_read){.run = fence_read, .done = fence_read_done};
    metanode_read(fs->m, &fs->read);
}

void metanode_fence_kick(struct metanode *m)
{
    struct metanode_fences *fs = m->cleanup.fencing;
    if (fs != NULL && !fs->stopped) {
        fs->again = true;
        if (!fs->reading) {
            loop_timer_in(m->env->loop, &fs->timer, 0);
        }
    }
}

int metanode_fence_init(struct metanode *m)
{
    struct metanode_fences *fs = mem_zalloc(sizeof *fs);
    if (fs == NULL) {
        return -ENOMEM;
    }
    fs->m = m;
    fs->timer.fire = fences_run;
    list_init(&fs->all);
    list_init(&fs->calls);
    m->cleanup.fencing = fs;
    return 0;
}

void metanode_fence_stop(struct metanode *m)
{
    m->cleanup.fencing->stopped = true;
    loop_timer_cancel(m->env->loop, &m->cleanup.fencing->timer);
}

void metanode_fence_fini(struct metanode *m)
{
    struct metanode_fences *fs = m->cleanup.fencing;
    struct list *node;
    if (fs == NULL) {
        return;
    }
    metanode_fence_stop(m);
    while ((node = list_pop_front(&fs->calls)) != NULL) { /* their links have ended before */
        mem_free(LIST_ENTRY(node, struct fence_call, node));
    }
    while ((node = list_pop_front(&fs->all)) != NULL) {
        struct fence *f = LIST_ENTRY(node, struct fence, node);
        mem_free(f->acks);
        mem_free(f);
    }
    mem_free(fs);
    m->cleanup.fencing = NULL;
}
