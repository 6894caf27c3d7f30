/*
 * metanode/turn.c -- who is served next. A request of a session runs at once while the session has
 * had little in this round of the loop and has its share of what is under way; else it waits in
 * the session's own queue, and sessions that have something waiting take turns, one request each.
 * So a client with hundreds of requests on many links costs one with a single request a few turns,
 * not hundreds.
 *
 * Bounds: mutations under way, of all and of one session when others have some, too; requests of
 * one session in one round; requests that wait, of one session and of all. Beyond: busy, with a
 * hint. A read waits, too, while its client does not take earlier answers. What has no session
 * (targets, administrators, who begins a session) does not wait here.
 */
#include "metanode/metanode_priv.h"

#define TURN_ROUND 64u      /* requests of one session at once, then the others */
#define TURN_SERVED 256u    /* of those that waited, in one round */
#define TURN_SHARE_LEAST 8u /* mutations of one session under way, whatever others do */
#define TURN_SESSION_MAX 1024u
#define TURN_WAITING_MAX 8192u
#define TURN_LOOK_NS (2 * METANODE_NS_PER_MS) /* between two looks at links that take nothing */

/* Lives in the request's own memory. */
struct turn_wait {
    struct list node;
    struct peer_request *request;
    void (*handler)(struct peer_user *u, struct peer_request *r);
    bool mutation;
};

static void turns_soon(struct metanode *m)
{
    loop_defer(m->env->loop, &m->turns.task);
}

void metanode_turn_begin(struct metanode *m, struct metanode_session *s)
{
    m->turns.mutations++;
    m->turns.busy_sessions += s->mutations++ == 0;
    stats_gauge_set(&m->turns.under_way, (int64_t)m->turns.mutations);
}

void metanode_turn_end(struct metanode *m, struct metanode_session *s)
{
    CHECK(m->turns.mutations > 0);
    m->turns.mutations--;
    if (s != NULL) {
        CHECK(s->mutations > 0);
        m->turns.busy_sessions -= --s->mutations == 0;
    }
    stats_gauge_set(&m->turns.under_way, (int64_t)m->turns.mutations);
    if (!list_empty(&m->turns.ready)) {
        turns_soon(m);
    }
}

/* Answers pile up where this one would go: it waits until they have been taken. */
static bool turn_piles(struct metanode *m, const struct peer_request *r)
{
    bool piles = metanode_memory_is_slow(m, r->link);
    if (piles && !loop_timer_active(&m->turns.look)) {
        loop_timer_in(m->env->loop, &m->turns.look, TURN_LOOK_NS);
    }
    return piles;
}

static bool turn_may_run(struct metanode *m, struct metanode_session *s,
                         const struct peer_request *r, bool mutation)
{
    const struct metanode_turns *t = &m->turns;
    if (s->round != t->round) {
        s->round = t->round;
        s->in_round = 0;
    }
    size_t all = m->opt.mutations_max;
    size_t share = base_max(all / base_max(t->busy_sessions, 1), TURN_SHARE_LEAST);
    bool room = !mutation || (t->mutations < all && s->mutations < share);
    /* At the end everybody is refused, and nothing that is under way makes room any more. */
    return m->phase == METANODE_ENDED ||
           (room && s->in_round < TURN_ROUND && (mutation || !turn_piles(m, r)));
}

static void turn_wait(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                      void (*handler)(struct peer_user *u, struct peer_request *r), bool mutation)
{
    struct metanode_turns *t = &m->turns;
    bool full = s->waiting_count >= TURN_SESSION_MAX || t->waiting >= TURN_WAITING_MAX;
    struct turn_wait *w = full ? NULL : mem_arena_alloc(&r->arena, sizeof *w);
    if (w == NULL) {
        stats_count(&t->refused, 1);
        metanode_refuse(m, s, r, -ERR_busy, "too many requests wait");
        return;
    }
    *w = (struct turn_wait){.request = r, .handler = handler, .mutation = mutation};
    list_push_back(&s->waiting, &w->node);
    s->waiting_count++;
    t->waiting++;
    stats_count(&t->waited, 1);
    if (s->waiting_count == 1) {
        list_push_back(&t->ready, &s->turn);
        t->ready_count++;
    }
    turns_soon(m);
}

bool metanode_turn_take(struct metanode *m, struct metanode_session *s, struct peer_request *r,
                        void (*handler)(struct peer_user *u, struct peer_request *r), bool mutation)
{
    struct metanode_turns *t = &m->turns;
    if (t->serving == r) {
        return true; /* it has waited */
    }
    if (s->waiting_count == 0 && turn_may_run(m, s, r, mutation)) {
        s->in_round++;
        turns_soon(m); /* ends the round */
        return true;
    }
    turn_wait(m, s, r, handler, mutation);
    return false;
}

static struct turn_wait *turn_first(const struct metanode_session *s)
{
    return LIST_ENTRY(s->waiting.next, struct turn_wait, node);
}

/* The next one of this session leaves the queue; the session is in `ready` while it has more. */
static struct turn_wait *turn_pop(struct metanode *m, struct metanode_session *s)
{
    struct turn_wait *w = LIST_ENTRY(list_pop_front(&s->waiting), struct turn_wait, node);
    s->waiting_count--;
    m->turns.waiting--;
    list_remove(&s->turn);
    if (s->waiting_count > 0) {
        list_push_back(&m->turns.ready, &s->turn);
    } else {
        m->turns.ready_count--;
    }
    return w;
}

static void turn_serve(struct metanode *m, struct metanode_session *s)
{
    struct turn_wait *w = turn_pop(m, s);
    s->in_round++;
    m->turns.serving = w->request;
    w->handler(&m->peer_user, w->request);
    m->turns.serving = NULL;
}

/* One request of each session that has one, again and again. */
static void turns_run(struct loop_task *task)
{
    struct metanode *m = container_of(task, struct metanode, turns.task);
    struct metanode_turns *t = &m->turns;
    unsigned served = 0;
    size_t passed = 0; /* sessions in a row that may not just now */
    t->round++;
    while (served < TURN_SERVED && !list_empty(&t->ready) && passed < t->ready_count) {
        struct metanode_session *s = LIST_ENTRY(t->ready.next, struct metanode_session, turn);
        const struct turn_wait *w = turn_first(s);
        if (turn_may_run(m, s, w->request, w->mutation)) {
            turn_serve(m, s);
            served++;
            passed = 0;
        } else {
            list_remove(&s->turn);
            list_push_back(&t->ready, &s->turn);
            passed++;
        }
    }
    if (served > 0 && !list_empty(&t->ready)) {
        turns_soon(m); /* else the end of a mutation wakes us */
    }
}

void metanode_turn_drop(struct metanode *m, struct metanode_session *s)
{
    m->turns.busy_sessions -= s->mutations > 0;
    s->mutations = 0;
    while (s->waiting_count > 0) {
        metanode_refuse(m, NULL, turn_pop(m, s)->request, -ERR_session_expired, NULL);
    }
}

static void turns_look(struct loop_timer *t)
{
    turns_soon(container_of(t, struct metanode, turns.look));
}

void metanode_turns_init(struct metanode *m)
{
    m->turns.look.fire = turns_look;
    list_init(&m->turns.ready);
    m->turns.task.run = turns_run;
}

void metanode_turns_statistics(struct metanode *m)
{
    stats_add_counter(m->stats, "turns_waited", &m->turns.waited);
    stats_add_counter(m->stats, "turns_refused", &m->turns.refused);
    stats_add_gauge(m->stats, "mutations_under_way", &m->turns.under_way);
}

void metanode_turns_fini(struct metanode *m)
{
    loop_undefer(m->env->loop, &m->turns.task);
    loop_timer_cancel(m->env->loop, &m->turns.look);
}
