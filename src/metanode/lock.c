/*
 * metanode/lock.c -- locks of files: who gets one, and who waits (coherence.md 8). What is held is
 * in the log; here is only who wants something, first come first. A file somebody waits for is
 * looked at whenever something was applied that may have changed the answer. Who is not in the way
 * of those that hold locks, nor of those that came before, is let in by a command of its own, which
 * looks once more; the answer goes out when it was applied.
 *
 * A client whose connection ends asks again, with the same cookie, here or at another leader: it
 * finds its place, or that it has the lock by now, or begins anew. So no answer can be lost, and
 * nothing has to be pushed. Locks of a session whose lease is over hold until somebody waits for
 * them; then the session is ended first (L5).
 */
#include "metanode/lock_wait_priv.h"

#define LOCK_WAITERS_FILE 1024u
#define LOCK_WAITERS_MAX 16384u
#define LOCK_TICK_NS (200 * METANODE_NS_PER_MS)
/* flock(2) goes with the last close of an open file, and kernels do not wait until their file
 * systems have heard of that: who tries for one right after it finds it held. So it is not told at
 * once. */
#define LOCK_PATIENCE_NS (50 * METANODE_NS_PER_MS)
#define LOCK_LOOK_NS (1000 * METANODE_NS_PER_MS) /* looks again, told of something or not */

static bool file_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct lock_file, node)->ino == *(const uint64_t *)key;
}
static const struct dict_ops file_dict_ops = {.equal = file_equal};

static void file_look(struct lock_file *f);

bool metanode_lock_settled(const struct lock_file *f)
{
    return !f->reading && !f->stale;
}

static struct lock_file *file_find(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->locks.by_ino;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, ino), &ino);
    return node == NULL ? NULL : container_of(node, struct lock_file, node);
}

static struct lock_file *file_get(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->locks.by_ino;
    struct lock_file *f = file_find(m, ino);
    if (f != NULL) {
        return f;
    }
    f = mem_zalloc(sizeof *f);
    if (f == NULL) {
        return NULL;
    }
    f->m = m;
    f->ino = ino;
    list_init(&f->waiters);
    if (dict_insert(d, dict_hash_u64(d, ino), &f->node) < 0) {
        mem_free(f);
        return NULL;
    }
    list_push_back(&m->locks.files, &f->all);
    return f;
}

/* Nobody waits any more, and nothing refers to it. */
static void file_tidy(struct lock_file *f)
{
    if (list_empty(&f->waiters) && !f->reading && f->proposing == 0) {
        dict_remove(&f->m->locks.by_ino, &f->node);
        list_remove(&f->all);
        mem_free(f);
    }
}

static struct peer_request *waiter_let_go(struct lock_waiter *w)
{
    struct peer_request *r = w->request;
    w->request = NULL;
    w->gone_ns = metanode_now(w->file->m);
    if (r != NULL) {
        r->cancelled = NULL;
        r->context = NULL;
    }
    return r;
}

/* Frees it, unless its command is on its way: then the end of that does. */
static void waiter_remove(struct lock_waiter *w)
{
    struct metanode *m = w->file->m;
    if (!w->proposing) {
        list_remove(&w->node);
        w->file->count--;
        m->locks.waiting--;
        metanode_lock_disown(m, w);
        mem_free(w);
    }
}

static void waiter_refuse(struct lock_waiter *w, int rc, const char *text)
{
    struct metanode *m = w->file->m;
    struct metanode_session *s = metanode_session_find(m, w->wanted.session);
    struct peer_request *r = waiter_let_go(w);
    waiter_remove(w);
    if (r != NULL) {
        metanode_refuse(m, s, r, s == NULL ? -ERR_session_expired : rc, text);
    }
}

static void waiter_answer(struct lock_waiter *w, enum proto_lock_outcome outcome)
{
    struct metanode *m = w->file->m;
    uint64_t data_version = w->file->data_version;
    struct metanode_session *s = metanode_session_find(m, w->wanted.session);
    if (s == NULL || !metanode_leads(m)) {
        waiter_refuse(w, -ERR_not_leader, NULL);
        return;
    }
    struct peer_request *r = waiter_let_go(w);
    waiter_remove(w);
    if (r != NULL) {
        const struct proto_lock_reply reply = {.trailer = metanode_trailer(m, s),
                                               .outcome = (uint8_t)outcome,
                                               .data_version = data_version};
        peer_request_answer(r, &reply, NULL);
    }
}

/* --- letting in ---------------------------------------------------------------------------------
 */

static void waiter_applied(struct metanode_waiter *a, int rc, const struct namespace_reply *reply)
{
    struct lock_waiter *w = container_of(a, struct lock_waiter, applied);
    struct lock_file *f = w->file;
    w->proposing = false;
    f->proposing--;
    if (rc < 0) {
        waiter_refuse(w, rc, NULL); /* not taken, or nobody knows: the client asks again */
    } else if (reply->rc == 0) {
        f->data_version = reply->data_version;
        waiter_answer(w, PROTO_LOCK_GRANTED); /* who is gone finds it when it asks again */
    } else if (!err_is(reply->rc, EAGAIN)) {
        waiter_refuse(w, reply->rc, NULL);
    } /* else another one was faster */
    file_look(f);
}

static void waiter_propose(struct lock_waiter *w)
{
    struct lock_file *f = w->file;
    const struct namespace_held_lock *l = &w->wanted;
    const struct namespace_lock_grant body = {.ino = f->ino,
                                              .session = l->session,
                                              .kind = l->kind,
                                              .type = l->type,
                                              .owner = l->owner,
                                              .pid = l->pid,
                                              .start = l->start,
                                              .last = l->last};
    w->applied.done = waiter_applied;
    w->proposing = true;
    f->proposing++;
    int rc = metanode_propose(f->m, NAMESPACE_LOCK_GRANT, &namespace_lock_grant_type, &body,
                              &w->applied);
    if (rc < 0) {
        w->proposing = false;
        f->proposing--;
        waiter_refuse(w, -ERR_busy, NULL);
    }
}

/* --- looking ------------------------------------------------------------------------------------
 */

struct lock_verdict {
    bool held;   /* it has it already */
    bool in_way; /* somebody has what is in the way, */
    bool lives;  /* whose lease is not over */
    struct lock_blocker blocker[METANODE_LOCK_BLOCKERS];
    size_t blocker_count;
};

static void verdict_add(struct lock_verdict *v, const struct namespace_held_lock *l)
{
    v->in_way = true;
    for (size_t i = 0; i < v->blocker_count; i++) {
        if (v->blocker[i].session == l->session && v->blocker[i].owner == l->owner) {
            return;
        }
    }
    if (v->blocker_count < METANODE_LOCK_BLOCKERS) {
        v->blocker[v->blocker_count++] =
            (struct lock_blocker){.session = l->session, .owner = l->owner};
    }
}

/* Who does not answer any more, and has what others want, is ended. */
static bool holder_lives(struct metanode *m, uint64_t session)
{
    struct metanode_session *s = metanode_session_find(m, session);
    bool lapsed = s != NULL && metanode_session_is_lapsed(m, s);
    if (lapsed) {
        metanode_session_expire(m, session);
    }
    return !lapsed;
}

static void verdict_by_holders(struct lock_verdict *v, const struct lock_waiter *w,
                               const struct namespace_held_locks *held, bool *has_some)
{
    for (size_t i = 0; i < held->count; i++) {
        const struct namespace_held_lock *h = &held->at[i];
        if (namespace_lock_conflicts(h, &w->wanted)) {
            verdict_add(v, h);
            v->lives = holder_lives(w->file->m, h->session) || v->lives;
        }
        bool own = h->kind == w->wanted.kind && h->session == w->wanted.session &&
                   h->owner == w->wanted.owner;
        *has_some = *has_some || (own && h->start <= w->wanted.last && w->wanted.start <= h->last);
    }
}

/* Those before it, too: who is about to be let in, and, unless it has something there already, who
 * waits. */
static void verdict_on(struct lock_verdict *v, const struct lock_waiter *w)
{
    const struct lock_file *f = w->file;
    bool has_some = false;
    *v = (struct lock_verdict){.held = namespace_lock_is_held(&f->held, &w->wanted)};
    verdict_by_holders(v, w, &f->held, &has_some);
    LIST_FOR_EACH(node, &f->waiters)
    {
        const struct lock_waiter *x = LIST_ENTRY(node, struct lock_waiter, node);
        if (x == w) {
            break;
        }
        bool before = x->wait && !x->cancel && x->request != NULL && w->wait && !has_some;
        if ((x->proposing || before) && namespace_lock_conflicts(&x->wanted, &w->wanted)) {
            verdict_add(v, &x->wanted);
            v->lives = true;
        }
    }
}

static bool waiter_is_patient(struct lock_waiter *w)
{
    struct metanode *m = w->file->m;
    bool patient =
        w->wanted.kind == PROTO_LOCK_FLOCK && metanode_now(m) < w->came_ns + LOCK_PATIENCE_NS;
    if (patient) {
        loop_timer_in(m->env->loop, &m->locks.timer, LOCK_PATIENCE_NS);
    }
    return patient;
}

static void waiter_blocked_by(struct lock_waiter *w, const struct lock_verdict *v)
{
    bool same = w->blocker_count == v->blocker_count &&
                memcmp(w->blocker, v->blocker, v->blocker_count * sizeof *v->blocker) == 0;
    if (!same) {
        memcpy(w->blocker, v->blocker, v->blocker_count * sizeof *v->blocker);
        w->blocker_count = v->blocker_count;
        w->unchecked = true;
    }
}

static void waiter_judge(struct lock_waiter *w)
{
    struct lock_verdict v;
    if (w->proposing || w->request == NULL || w->since >= w->file->looks) {
        return; /* the next look is for it */
    }
    verdict_on(&v, w);
    if (v.held) {
        waiter_answer(w, PROTO_LOCK_GRANTED);
    } else if (w->cancel) {
        waiter_answer(w, PROTO_LOCK_INTERRUPTED);
    } else if (!v.in_way) {
        waiter_propose(w);
    } else if (!w->wait && v.lives && !waiter_is_patient(w)) {
        waiter_answer(w, PROTO_LOCK_CONFLICT);
    } else {
        waiter_blocked_by(w, &v);
    }
}

static void file_check_cycles(struct lock_file *f)
{
    LIST_FOR_EACH_SAFE(node, &f->waiters)
    {
        struct lock_waiter *w = LIST_ENTRY(node, struct lock_waiter, node);
        if (!w->unchecked || w->proposing || !w->wait) {
            continue;
        }
        enum lock_cycle c = metanode_lock_cycle(f->m, w);
        w->unchecked = c == LOCK_CYCLE_UNSURE; /* with the next look at any of them, or tick */
        if (c == LOCK_CYCLE_YES) {
            waiter_answer(w, PROTO_LOCK_DEADLOCK);
            f->stale = true; /* others may have waited for it */
        }
    }
}

static int file_read(struct metanode_read *r, const struct namespace_view *v)
{
    struct lock_file *f = container_of(r, struct lock_file, read);
    struct namespace_inode n = {0};
    int inode = namespace_view_inode(v, f->ino, &n);
    int rc = namespace_locks(v, f->ino, 0, &f->held);
    f->data_version = n.data_version;
    return namespace_view_both(rc, inode == -ENOENT ? 0 : inode);
}

static void file_looked(struct metanode_read *r, int rc)
{
    struct lock_file *f = container_of(r, struct lock_file, read);
    LIST_FOR_EACH_SAFE(node, &f->waiters)
    {
        struct lock_waiter *w = LIST_ENTRY(node, struct lock_waiter, node);
        if (rc == 0) {
            waiter_judge(w);
        } else if (!w->proposing) {
            waiter_refuse(w, rc == -EUCLEAN ? rc : -ERR_busy, NULL);
        }
    }
    f->held = (struct namespace_held_locks){0};
    f->reading = false;
    if (f->stale) {
        file_look(f);
        return;
    }
    file_check_cycles(f);
    if (f->stale) {
        file_look(f);
    } else {
        file_tidy(f);
    }
}

static void file_look(struct lock_file *f)
{
    if (f->reading) {
        f->stale = true;
        return;
    }
    if (list_empty(&f->waiters)) {
        file_tidy(f);
        return;
    }
    f->stale = false;
    f->reading = true;
    f->looks++;
    f->looked_ns = metanode_now(f->m);
    f->read = (struct metanode_read){.run = file_read, .done = file_looked};
    metanode_read(f->m, &f->read);
}

/* --- coming and going ---------------------------------------------------------------------------
 */

static void lock_gone(struct peer_request *r)
{
    struct lock_waiter *w = r->context;
    (void)waiter_let_go(w);
    peer_request_fail(r, -ERR_busy, NULL); /* it asks again, if it still wants it */
}

static void waiter_attach(struct lock_waiter *w, struct peer_request *r)
{
    const struct proto_lock_request *q = r->body;
    struct peer_request *older = waiter_let_go(w);
    if (older != NULL) {
        peer_request_fail(older, -ERR_busy, NULL); /* the same question has come again */
    }
    w->request = r;
    w->cancel = q->cancel;
    w->since = w->file->looks;
    r->context = w;
    r->cancelled = lock_gone;
}

static struct lock_waiter *waiter_find(struct lock_file *f, uint64_t session, uint64_t cookie)
{
    LIST_FOR_EACH(node, &f->waiters)
    {
        struct lock_waiter *w = LIST_ENTRY(node, struct lock_waiter, node);
        if (w->wanted.session == session && w->cookie == cookie) {
            return w;
        }
    }
    return NULL;
}

static struct lock_waiter *waiter_new(struct lock_file *f, const struct proto_lock_request *q,
                                      const struct namespace_held_lock *wanted)
{
    struct lock_waiter *w = mem_zalloc(sizeof *w);
    if (w == NULL) {
        return NULL;
    }
    w->file = f;
    w->wanted = *wanted;
    w->cookie = q->cookie;
    w->wait = q->wait;
    w->came_ns = metanode_now(f->m);
    if (metanode_lock_own(f->m, w) < 0) {
        mem_free(w);
        return NULL;
    }
    list_push_back(&f->waiters, &w->node);
    f->count++;
    f->m->locks.waiting++;
    return w;
}

static int lock_begin(struct metanode *m, struct metanode_session *s, struct peer_request *r)
{
    const struct proto_lock_request *q = r->body;
    const struct namespace_held_lock wanted = {.session = s->id,
                                               .owner = q->owner,
                                               .start = q->start,
                                               .last = q->last,
                                               .kind = q->kind,
                                               .type = q->type,
                                               .pid = q->pid};
    int rc = namespace_lock_check(&wanted);
    if (rc < 0 || q->type == PROTO_LOCK_NONE) {
        return -EINVAL;
    }
    struct lock_file *f = file_get(m, q->ino);
    if (f == NULL) {
        return -ERR_busy;
    }
    struct lock_waiter *w = waiter_find(f, s->id, q->cookie);
    bool full = f->count >= LOCK_WAITERS_FILE || m->locks.waiting >= LOCK_WAITERS_MAX;
    w = w == NULL && !full ? waiter_new(f, q, &wanted) : w;
    if (w == NULL) {
        file_tidy(f);
        return full ? -ENOLCK : -ERR_busy;
    }
    waiter_attach(w, r);
    if (!loop_timer_active(&m->locks.timer)) {
        loop_timer_in(m->env->loop, &m->locks.timer, LOCK_TICK_NS);
    }
    file_look(f);
    return 0;
}

void metanode_lock(struct peer_user *u, struct peer_request *r)
{
    struct metanode *m = metanode_of(u);
    const struct proto_lock_request *q = r->body;
    struct metanode_session *s =
        metanode_admit(m, r) ? metanode_session_of(m, r, q->caller.session) : NULL;
    if (s == NULL || !metanode_turn_take(m, s, r, metanode_lock, false)) {
        return;
    }
    stats_count(&m->queries, 1);
    int rc = lock_begin(m, s, r);
    if (rc < 0) {
        metanode_refuse(m, s, r, rc, rc == -ENOLCK ? "too many wait for locks" : NULL);
    }
}

void metanode_locks_moved(struct metanode *m, uint64_t ino)
{
    struct lock_file *only = ino == 0 ? NULL : file_find(m, ino);
    if (only != NULL) {
        file_look(only);
    }
    LIST_FOR_EACH_SAFE(node, &m->locks.files)
    {
        if (ino == 0) {
            file_look(LIST_ENTRY(node, struct lock_file, all));
        }
    }
}

/* The session is gone: so are its questions. */
void metanode_locks_drop(struct metanode *m, struct metanode_session *s)
{
    LIST_FOR_EACH_SAFE(node, &m->locks.files)
    {
        struct lock_file *f = LIST_ENTRY(node, struct lock_file, all);
        LIST_FOR_EACH_SAFE(at, &f->waiters)
        {
            struct lock_waiter *w = LIST_ENTRY(at, struct lock_waiter, node);
            if (w->wanted.session == s->id) {
                waiter_refuse(w, -ERR_session_expired, NULL);
            }
        }
    }
}

/* Those who do not come back; and all, when this server does not speak for the cluster any more. */
static void file_weed(struct lock_file *f, bool ends)
{
    uint64_t keep = metanode_lapse_ns(f->m), now = metanode_now(f->m);
    bool look = now > f->looked_ns + LOCK_LOOK_NS; /* also whether a lease is over by now */
    LIST_FOR_EACH_SAFE(node, &f->waiters)
    {
        struct lock_waiter *w = LIST_ENTRY(node, struct lock_waiter, node);
        bool gone = w->request == NULL && now > w->gone_ns + keep;
        look = look || w->unchecked || !w->wait || ends || gone;
        if (ends || gone) {
            waiter_refuse(w, -ERR_unavailable, NULL);
        }
    }
    if (look) {
        file_look(f);
    }
}

static void locks_tick(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, locks.timer);
    bool ends = m->stop != NULL || m->phase != METANODE_SERVING;
    LIST_FOR_EACH_SAFE(node, &m->locks.files)
    {
        file_weed(LIST_ENTRY(node, struct lock_file, all), ends);
    }
    if (!list_empty(&m->locks.files)) {
        loop_timer_in(m->env->loop, t, LOCK_TICK_NS);
    }
}

void metanode_locks_init(struct metanode *m)
{
    dict_init(&m->locks.by_ino, &file_dict_ops, m, 0);
    metanode_lock_owners_init(m);
    list_init(&m->locks.files);
    m->locks.timer.fire = locks_tick;
}

void metanode_locks_fini(struct metanode *m)
{
    loop_timer_cancel(m->env->loop, &m->locks.timer);
    LIST_FOR_EACH_SAFE(node, &m->locks.files)
    {
        struct lock_file *f = LIST_ENTRY(node, struct lock_file, all);
        LIST_FOR_EACH_SAFE(at, &f->waiters)
        {
            struct lock_waiter *w = LIST_ENTRY(at, struct lock_waiter, node);
            CHECK(w->request == NULL); /* links have ended before */
            w->proposing = false;
            waiter_remove(w);
        }
        f->reading = false;
        f->proposing = 0;
        file_tidy(f);
    }
    dict_fini(&m->locks.by_ino);
    dict_fini(&m->locks.by_owner);
}
