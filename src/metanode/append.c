/*
 * metanode/append.c -- turns to append to a file that several write (coherence.md section 6.1),
 * first come, first served. Who has the turn is in the state (namespace/append.c), so that it
 * survives this leader; here is who waits, and whom this leader knows to have it. A holder whose
 * lease is over, or that keeps the turn for too long while others wait, is expired in the log (L5):
 * its write may still be on its way, so nothing less makes the end of the file free.
 */
#include "metanode/metanode_priv.h"

#define APPEND_FILES_MAX 4096u
#define APPEND_WAITERS 256u
#define APPEND_TURN_NS (30000 * METANODE_NS_PER_MS)
#define APPEND_TICK_NS (200 * METANODE_NS_PER_MS)

struct append_wait {
    struct list node; /* lives in the request's own memory */
    struct peer_request *request;
};

struct append {
    struct dict_node node;
    struct list all, waiting;
    size_t waiting_count;
    uint64_t ino, holder; /* session; 0: nobody */
    uint64_t since_ns;
};

static bool append_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct append, node)->ino == *(const uint64_t *)key;
}
static const struct dict_ops append_dict_ops = {.equal = append_equal};

static struct append *append_find(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->appends.by_ino;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, ino), &ino);
    return node == NULL ? NULL : container_of(node, struct append, node);
}

static struct append *append_new(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->appends.by_ino;
    struct append *a = m->appends.count < APPEND_FILES_MAX ? mem_zalloc(sizeof *a) : NULL;
    if (a == NULL || dict_insert(d, dict_hash_u64(d, ino), &a->node) < 0) {
        mem_free(a);
        return NULL;
    }
    a->ino = ino;
    list_init(&a->waiting);
    list_push_back(&m->appends.all, &a->all);
    m->appends.count++;
    return a;
}

static void append_free(struct metanode *m, struct append *a)
{
    dict_remove(&m->appends.by_ino, &a->node);
    list_remove(&a->all);
    m->appends.count--;
    mem_free(a);
}

static void append_held(struct metanode *m, struct append *a, uint64_t session)
{
    a->holder = session;
    a->since_ns = metanode_now(m);
}

static void append_park(struct metanode *m, struct append *a, struct metanode_session *s,
                        struct peer_request *r)
{
    struct append_wait *w =
        a->waiting_count < APPEND_WAITERS ? mem_arena_alloc(&r->arena, sizeof *w) : NULL;
    if (w == NULL) {
        metanode_refuse(m, s, r, -ERR_busy, "too many wait to append to this file");
        return;
    }
    w->request = r;
    list_push_back(&a->waiting, &w->node);
    a->waiting_count++;
    if (!loop_timer_active(&m->appends.timer)) {
        loop_timer_in(m->env->loop, &m->appends.timer, APPEND_TICK_NS);
    }
}

bool metanode_append_take(struct metanode *m, struct metanode_session *s, struct peer_request *r)
{
    const struct proto_append_turn_request *q = r->body;
    struct append *a = append_find(m, q->ino);
    a = a == NULL ? append_new(m, q->ino) : a;
    if (a == NULL) {
        metanode_refuse(m, s, r, -ERR_busy, "too many files are appended to");
        return false;
    }
    bool first = list_empty(&a->waiting) || m->appends.serving == r;
    if (a->holder != s->id && (a->holder != 0 || !first)) {
        append_park(m, a, s, r);
        return false;
    }
    append_held(m, a, s->id);
    return true;
}

static void append_let_go(struct metanode *m, struct append *a)
{
    a->holder = 0;
    loop_defer(m->env->loop, &m->appends.task);
}

void metanode_append_turned(struct metanode *m, uint64_t session, const struct peer_request *r,
                            int rc, const struct namespace_reply *reply)
{
    const struct proto_append_turn_request *q = r->body;
    struct append *a = append_find(m, q->ino);
    if (a == NULL || a->holder != session) {
        return;
    }
    if (rc == 0 && reply->rc == 0) {
        append_held(m, a, session);
    } else if (rc == 0 && reply->holder != 0) {
        append_held(m, a, reply->holder); /* from before this leader */
    } else {
        append_let_go(m, a);
    }
}

void metanode_append_moved(struct metanode *m, uint64_t ino, uint64_t session)
{
    if (ino != 0) {
        struct append *a = append_find(m, ino);
        if (a != NULL && a->holder == session) {
            append_let_go(m, a);
        }
        return;
    }
    LIST_FOR_EACH(node, &m->appends.all)
    {
        struct append *a = LIST_ENTRY(node, struct append, all);
        if (a->holder == session) {
            append_let_go(m, a);
        }
    }
}

/* One who waits has its turn; who has given up meanwhile has not. */
static void append_next(struct metanode *m, struct append *a)
{
    struct list *node;
    while (a->holder == 0 && (node = list_pop_front(&a->waiting)) != NULL) {
        struct peer_request *r = LIST_ENTRY(node, struct append_wait, node)->request;
        a->waiting_count--;
        if (net_conn_request_gone(r->wire)) {
            metanode_refuse(m, NULL, r, -ERR_busy, NULL); /* nobody hears it */
            continue;
        }
        m->appends.serving = r;
        metanode_mutate(&m->peer_user, r);
        m->appends.serving = NULL;
    }
}

static void appends_run(struct loop_task *t)
{
    struct metanode *m = container_of(t, struct metanode, appends.task);
    LIST_FOR_EACH_SAFE(node, &m->appends.all)
    {
        struct append *a = LIST_ENTRY(node, struct append, all);
        if (a->holder == 0) {
            append_next(m, a);
        }
        if (a->holder == 0 && a->waiting_count == 0) {
            append_free(m, a);
        }
    }
}

static void append_press(struct metanode *m, struct append *a)
{
    struct metanode_session *s = metanode_session_find(m, a->holder);
    if (s == NULL) {
        append_let_go(m, a);
    } else if (metanode_session_is_lapsed(m, s) || metanode_now(m) > a->since_ns + APPEND_TURN_NS) {
        metanode_session_expire(m, a->holder);
    }
}

static void appends_tick(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, appends.timer);
    bool waits = false;
    LIST_FOR_EACH(node, &m->appends.all)
    {
        struct append *a = LIST_ENTRY(node, struct append, all);
        if (a->waiting_count > 0) {
            waits = true;
            append_press(m, a);
        }
    }
    if (waits && m->phase == METANODE_SERVING && m->stop == NULL) {
        loop_timer_in(m->env->loop, t, APPEND_TICK_NS);
    } else if (waits) { /* it is over: all are told so */
        LIST_FOR_EACH(node, &m->appends.all)
        {
            LIST_ENTRY(node, struct append, all)->holder = 0;
        }
        loop_defer(m->env->loop, &m->appends.task);
        loop_timer_in(m->env->loop, t, APPEND_TICK_NS);
    }
}

void metanode_appends_init(struct metanode *m)
{
    dict_init(&m->appends.by_ino, &append_dict_ops, m, 0);
    list_init(&m->appends.all);
    m->appends.timer.fire = appends_tick;
    m->appends.task.run = appends_run;
}

void metanode_appends_fini(struct metanode *m)
{
    struct list *node;
    loop_timer_cancel(m->env->loop, &m->appends.timer);
    loop_undefer(m->env->loop, &m->appends.task);
    while ((node = list_pop_front(&m->appends.all)) != NULL) {
        struct append *a = LIST_ENTRY(node, struct append, all);
        list_push_back(&m->appends.all, &a->all); /* append_free takes it out */
        CHECK(a->waiting_count == 0);
        append_free(m, a);
    }
    dict_fini(&m->appends.by_ino);
}
