/*
 * metanode/share.c -- a file on its way from one writer to several (coherence.md 6.3): the holder
 * of W is asked to give it back, the newcomers are told S and wait for `shared_now`.
 *
 * Who opens it to read waits, too, until nobody holds anything back (6.1).
 *
 * What they wait for is in the state, so that it survives this leader: the holder's record says
 * that it has not flushed until it has returned W, closed the file or ended; if it has ended, a
 * trim that waits for its fence is there until both are done (L6). Here is only who waits: clients
 * that do ask again when they have come to another leader. A share looks at the state whenever
 * something was applied that may have changed the answer, and takes nothing else for one. A holder
 * whose lease is over, or that does not finish in time, is expired in the log first (L5).
 */
#include "metanode/metanode_priv.h"

#define METANODE_SHARES_MAX 4096u
#define METANODE_SHARE_WAITERS 64u
#define METANODE_SHARE_READERS 1024u
#define METANODE_SHARE_NS (30000 * METANODE_NS_PER_MS) /* without progress of the flush */
#define METANODE_SHARE_TICK_NS (200 * METANODE_NS_PER_MS)
#define METANODE_SHARE_ASK_NS (3000 * METANODE_NS_PER_MS)  /* asked again, answered or not */
#define METANODE_SHARE_LOOK_NS (2000 * METANODE_NS_PER_MS) /* looks again, told of it or not */

struct share {
    struct dict_node node;
    struct list all;
    struct metanode *m;
    uint64_t ino;
    struct namespace_sharing state;              /* by the newest look */
    uint64_t holder_ns, looked_ns, ask_again_ns; /* holder_ns: since when it is the holder */
    uint64_t waiter[METANODE_SHARE_WAITERS];
    size_t waiter_count;
    struct list readers; /* struct metanode_share_reader: `open` that waits */
    size_t reader_count;
    bool pressed;  /* there are readers, though none waits */
    uint64_t left; /* bytes that the holder had to flush when it was asked last */
    bool reading, stale, calling, over; /* stale: the state may have changed since the look began */
    struct metanode_read read;
    struct peer_call call;
    struct proto_recall_request recall;
};

static bool share_equal(const struct dict_node *node, const void *key)
{
    return container_of(node, const struct share, node)->ino == *(const uint64_t *)key;
}
static const struct dict_ops share_dict_ops = {.equal = share_equal};

static void share_free(struct share *x)
{
    if (x->over && !x->reading && !x->calling) {
        mem_free(x);
    }
}

/* They look for themselves how it is now. */
static void share_let_read(struct share *x)
{
    struct list *node;
    while ((node = list_pop_front(&x->readers)) != NULL) {
        struct metanode_share_reader *r = LIST_ENTRY(node, struct metanode_share_reader, node);
        r->go(r);
    }
    x->reader_count = 0;
}

/* Out of the tables; its memory goes when nothing refers to it. */
static void share_end(struct share *x)
{
    if (!x->over) {
        x->over = true;
        dict_remove(&x->m->shares.by_ino, &x->node);
        list_remove(&x->all);
        x->m->shares.count--;
        share_let_read(x);
    }
    share_free(x);
}

/* A push that is lost, or cannot be sent, is no harm: its client asks again. */
static void share_tell(struct share *x)
{
    for (size_t i = 0; i < x->waiter_count; i++) {
        struct metanode_session *s = metanode_session_find(x->m, x->waiter[i]);
        if (s != NULL && s->link != NULL) {
            struct proto_shared_now_push push = {.push_seq = s->push_seq + 1,
                                                 .lease_epoch = s->lease_epoch,
                                                 .ino = x->ino,
                                                 .size = x->state.size,
                                                 .data_version = x->state.data_version};
            s->push_seq += peer_link_push(s->link, PROTO_OP_shared_now, &push) == 0;
        }
    }
    share_end(x);
}

/* Whatever it says to the recall: only what it has logged counts. */
static void share_recalled(struct peer_call *c, const struct peer_reply *r)
{
    struct share *x = container_of(c, struct share, call);
    const struct proto_recall_reply *reply = r->rc == 0 ? r->body : NULL;
    x->calling = false;
    if (!r->answered) {
        x->ask_again_ns = 0; /* on its next connection */
    } else if (reply != NULL && reply->left < x->left) {
        x->holder_ns = metanode_now(x->m); /* it gets on */
    }
    x->left = reply != NULL ? reply->left : x->left;
    share_free(x);
}

static void share_ask(struct share *x, struct metanode_session *s)
{
    uint64_t now = metanode_now(x->m);
    if (x->calling || s->link == NULL || now < x->ask_again_ns) {
        return;
    }
    x->calling = true;
    x->ask_again_ns = now + METANODE_SHARE_ASK_NS;
    x->recall = (struct proto_recall_request){.push_seq = ++s->push_seq,
                                              .lease_epoch = s->lease_epoch,
                                              .kind = PROTO_OBJECT_INO,
                                              .ino = x->ino,
                                              .to_shared = true,
                                              .urgent = true};
    x->call = (struct peer_call){.done = share_recalled,
                                 .request = &x->recall,
                                 .opcode = PROTO_OP_recall,
                                 .timeout_ms = (uint32_t)x->m->opt.lease_ms};
    peer_link_call(s->link, &x->call);
}

/* Whoever has what the others wait for: who has not flushed or, where somebody wants to read, who
 * writes alone. 0: nobody. */
static uint64_t share_holder(const struct share *x, const struct namespace_sharing *state)
{
    bool reads = x->pressed || !list_empty(&x->readers);
    return state->holder != 0 ? state->holder : reads ? state->alone : 0;
}

/* The holder is asked, or ended. */
static void share_press(struct share *x)
{
    struct metanode *m = x->m;
    uint64_t holder = share_holder(x, &x->state);
    struct metanode_session *s = metanode_session_find(m, holder);
    if (s == NULL) {
        return; /* it has ended meanwhile: that makes the share look again */
    }
    if (metanode_session_is_lapsed(m, s) || metanode_now(m) > x->holder_ns + METANODE_SHARE_NS) {
        metanode_session_expire(m, holder);
    } else {
        share_ask(x, s);
    }
}

static int share_read(struct metanode_read *r, const struct namespace_view *v)
{
    struct share *x = container_of(r, struct share, read);
    struct namespace_sharing state;
    int rc = namespace_sharing(v, x->ino, &state);
    if (rc < 0) {
        return rc; /* nothing was learned */
    }
    if (share_holder(x, &state) != share_holder(x, &x->state)) {
        x->holder_ns = metanode_now(x->m);
        x->ask_again_ns = 0;
        x->left = UINT64_MAX;
    }
    x->state = state;
    return 0;
}

static void share_look(struct share *x);

static void share_looked(struct metanode_read *r, int rc)
{
    struct share *x = container_of(r, struct share, read);
    x->reading = false;
    if (x->over) {
        share_free(x);
    } else if (rc == -ENOENT) {
        share_end(x); /* the file is gone */
    } else if (rc < 0) {
        x->looked_ns = 0; /* with the next tick */
    } else if (x->stale) {
        share_look(x);
    } else if (share_holder(x, &x->state) != 0) {
        share_press(x);
    } else if (!x->state.trimming) {
        share_tell(x);
    }
}

static void share_look(struct share *x)
{
    if (x->reading) {
        x->stale = true;
        return;
    }
    x->stale = false;
    x->reading = true;
    x->looked_ns = metanode_now(x->m);
    x->read = (struct metanode_read){.run = share_read, .done = share_looked};
    metanode_read(x->m, &x->read);
}

static void shares_tick(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, shares.timer);
    bool ends = m->stop != NULL || m->phase != METANODE_SERVING;
    LIST_FOR_EACH_SAFE(node, &m->shares.all)
    {
        struct share *x = LIST_ENTRY(node, struct share, all);
        if (ends) {
            share_let_read(x); /* and is refused */
        }
        if (x->reading) {
            continue;
        }
        if (x->looked_ns == 0 || metanode_now(m) > x->looked_ns + METANODE_SHARE_LOOK_NS) {
            share_look(x);
        } else if (share_holder(x, &x->state) != 0) {
            share_press(x);
        }
    }
    if (!list_empty(&m->shares.all)) {
        loop_timer_in(m->env->loop, t, METANODE_SHARE_TICK_NS);
    }
}

static struct share *share_find(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->shares.by_ino;
    struct dict_node *node = dict_find(d, dict_hash_u64(d, ino), &ino);
    return node == NULL ? NULL : container_of(node, struct share, node);
}

static struct share *share_new(struct metanode *m, uint64_t ino)
{
    struct dict *d = &m->shares.by_ino;
    struct share *x = m->shares.count < METANODE_SHARES_MAX ? mem_zalloc(sizeof *x) : NULL;
    if (x == NULL) {
        return NULL;
    }
    x->m = m;
    x->ino = ino;
    x->left = UINT64_MAX;
    list_init(&x->readers);
    if (dict_insert(d, dict_hash_u64(d, ino), &x->node) < 0) {
        mem_free(x);
        return NULL;
    }
    list_push_back(&m->shares.all, &x->all);
    m->shares.count++;
    return x;
}

static bool share_has(const struct share *x, uint64_t session)
{
    bool has = false;
    for (size_t i = 0; i < x->waiter_count && !has; i++) {
        has = x->waiter[i] == session;
    }
    return has;
}

void metanode_share_wait(struct metanode *m, uint64_t ino, uint64_t session)
{
    struct share *x = share_find(m, ino);
    x = x == NULL ? share_new(m, ino) : x;
    if (x == NULL) {
        return; /* without a push: it asks again after its own time limit */
    }
    if (!share_has(x, session) && x->waiter_count < METANODE_SHARE_WAITERS) {
        x->waiter[x->waiter_count++] = session;
    }
    x->stale = true; /* a look that is under way may be older than what this one was told */
    loop_timer_in(m->env->loop, &m->shares.timer, 0); /* its answer goes out first */
}

bool metanode_share_read(struct metanode *m, uint64_t ino, struct metanode_share_reader *r)
{
    struct share *x = share_find(m, ino);
    x = x == NULL ? share_new(m, ino) : x;
    if (x == NULL || x->reader_count >= METANODE_SHARE_READERS || m->stop != NULL) {
        return false;
    }
    list_push_back(&x->readers, &r->node);
    x->reader_count++;
    x->stale = true;
    loop_timer_in(m->env->loop, &m->shares.timer, 0);
    return true;
}

void metanode_share_press(struct metanode *m, uint64_t ino)
{
    struct share *x = share_find(m, ino);
    x = x == NULL ? share_new(m, ino) : x;
    if (x != NULL) { /* else the next `open` sees to it */
        x->pressed = true;
        x->stale = true;
        loop_timer_in(m->env->loop, &m->shares.timer, 0);
    }
}

void metanode_share_moved(struct metanode *m, uint64_t ino, uint64_t session)
{
    if (ino != 0) {
        struct share *x = share_find(m, ino);
        if (x != NULL) {
            share_look(x);
        }
        return;
    }
    LIST_FOR_EACH_SAFE(node, &m->shares.all)
    {
        struct share *x = LIST_ENTRY(node, struct share, all);
        if (x->reading || share_holder(x, &x->state) == session) {
            share_look(x);
        }
    }
}

void metanode_shares_init(struct metanode *m)
{
    dict_init(&m->shares.by_ino, &share_dict_ops, m, 0);
    list_init(&m->shares.all);
    m->shares.timer.fire = shares_tick;
}

void metanode_shares_fini(struct metanode *m)
{
    loop_timer_cancel(m->env->loop, &m->shares.timer);
    LIST_FOR_EACH_SAFE(node, &m->shares.all)
    {
        struct share *x = LIST_ENTRY(node, struct share, all);
        x->reading = x->calling = false; /* links and reads have ended before */
        share_end(x);
    }
    dict_fini(&m->shares.by_ino);
}
