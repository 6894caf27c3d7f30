/*
 * metanode/share.c -- a file on its way from one writer to several (coherence.md 6.3): the holder
 * of W is asked to give it back, the newcomers are told S and wait for `shared_now`; that comes
 * when the holder has returned W with the last size and times, has closed the file, or has ended. A
 * holder whose lease is over, or that does not finish in time, is expired in the log first (L5).
 */
#include "metanode/metanode_priv.h"

#define METANODE_SHARES_MAX 4096u
#define METANODE_SHARE_WAITERS 64u
#define METANODE_SHARE_NS (30000 * METANODE_NS_PER_MS)
#define METANODE_SHARE_TICK_NS (200 * METANODE_NS_PER_MS)
#define METANODE_WRITERS_MAX 1024u

struct share {
    struct dict_node node;
    struct list all;
    struct metanode *m;
    uint64_t ino, holder; /* holder 0: not known yet */
    uint64_t since_ns;
    uint64_t waiter[METANODE_SHARE_WAITERS];
    size_t waiter_count;
    bool reading, over;
    uint64_t size, data_version;
    struct metanode_read read;
    struct peer_call call;
    struct proto_recall_request recall;
    bool calling, asked;
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

/* Out of the tables; its memory goes when nothing refers to it. */
static void share_end(struct share *x)
{
    if (!x->over) {
        x->over = true;
        dict_remove(&x->m->shares.by_ino, &x->node);
        list_remove(&x->all);
        x->m->shares.count--;
    }
    share_free(x);
}

static int share_read_size(struct metanode_read *r, const struct namespace_view *v)
{
    struct share *x = container_of(r, struct share, read);
    struct namespace_inode n;
    int rc = namespace_view_inode(v, x->ino, &n);
    x->size = rc == 0 ? n.size : 0;
    x->data_version = rc == 0 ? n.data_version : 0;
    return rc == -ENOENT ? 0 : rc;
}

static void share_tell(struct metanode_read *r, int rc)
{
    struct share *x = container_of(r, struct share, read);
    x->reading = false;
    for (size_t i = 0; i < x->waiter_count && rc == 0; i++) {
        struct metanode_session *s = metanode_session_find(x->m, x->waiter[i]);
        if (s != NULL && s->link != NULL) {
            struct proto_shared_now_push push = {.push_seq = s->push_seq + 1,
                                                 .lease_epoch = s->lease_epoch,
                                                 .ino = x->ino,
                                                 .size = x->size,
                                                 .data_version = x->data_version};
            s->push_seq += peer_link_push(s->link, PROTO_OP_shared_now, &push) == 0;
        }
    }
    share_end(x);
}

static void share_finish(struct share *x)
{
    if (!x->reading && !x->over) {
        x->reading = true;
        x->read = (struct metanode_read){.run = share_read_size, .done = share_tell};
        metanode_read(x->m, &x->read);
    }
}

static void share_recalled(struct peer_call *c, const struct peer_reply *r)
{
    struct share *x = container_of(c, struct share, call);
    x->calling = false;
    if (x->over) {
        share_free(x);
        return;
    }
    if (r->answered && r->rc < 0) {
        share_finish(x); /* it holds nothing back: it writes through */
    } else if (!r->answered) {
        x->asked = false; /* again, on its next connection */
    }
}

static void share_ask(struct share *x, struct metanode_session *s)
{
    if (x->asked || x->calling || s->link == NULL) {
        return;
    }
    x->asked = x->calling = true;
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

/* One look at a share: whom to ask, whom to end. */
static void share_step(struct share *x)
{
    struct metanode *m = x->m;
    if (x->holder == 0 || x->reading) {
        return;
    }
    struct metanode_session *s = metanode_session_find(m, x->holder);
    if (s == NULL) {
        share_finish(x);
    } else if (metanode_session_is_lapsed(m, s) ||
               metanode_now(m) > x->since_ns + METANODE_SHARE_NS) {
        metanode_session_expire(m, x->holder);
    } else {
        share_ask(x, s);
    }
}

static int share_find_holder(struct metanode_read *r, const struct namespace_view *v)
{
    struct share *x = container_of(r, struct share, read);
    struct namespace_wopens w;
    int rc = namespace_writers(v, x->ino, 0, METANODE_WRITERS_MAX, &w);
    for (size_t i = 0; rc == 0 && i < w.count; i++) {
        bool waits = false;
        for (size_t j = 0; j < x->waiter_count; j++) {
            waits = waits || x->waiter[j] == w.ids[i];
        }
        x->holder = waits ? x->holder : w.ids[i];
    }
    return rc;
}

static void share_found(struct metanode_read *r, int rc)
{
    struct share *x = container_of(r, struct share, read);
    x->reading = false;
    if (rc == 0 && x->holder == 0) {
        share_finish(x); /* gone already */
    } else if (rc == 0) {
        share_step(x);
    }
}

static void shares_tick(struct loop_timer *t)
{
    struct metanode *m = container_of(t, struct metanode, shares.timer);
    LIST_FOR_EACH_SAFE(node, &m->shares.all)
    {
        struct share *x = LIST_ENTRY(node, struct share, all);
        if (x->holder == 0 && !x->reading) { /* the look at the records had failed */
            x->reading = true;
            x->read = (struct metanode_read){.run = share_find_holder, .done = share_found};
            metanode_read(m, &x->read);
        } else {
            share_step(x);
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
    x->since_ns = metanode_now(m);
    if (dict_insert(d, dict_hash_u64(d, ino), &x->node) < 0) {
        mem_free(x);
        return NULL;
    }
    list_push_back(&m->shares.all, &x->all);
    m->shares.count++;
    return x;
}

bool metanode_share_now(struct metanode *m, uint64_t ino, uint64_t session, bool shared_now)
{
    struct share *x = share_find(m, ino);
    if (x == NULL && shared_now) {
        return true;
    }
    if (x != NULL && x->holder == session) {
        return true; /* its own data: nothing to wait for */
    }
    bool fresh = x == NULL;
    x = fresh ? share_new(m, ino) : x;
    if (x == NULL || x->waiter_count == METANODE_SHARE_WAITERS) {
        return false; /* without a push: it goes on after its own time limit */
    }
    x->waiter[x->waiter_count++] = session;
    if (fresh) { /* its holder is looked for when this round is over */
        loop_timer_in(m->env->loop, &m->shares.timer, 0);
    }
    return false;
}

void metanode_share_flushed(struct metanode *m, uint64_t ino, uint64_t session)
{
    LIST_FOR_EACH_SAFE(node, &m->shares.all)
    {
        struct share *x = LIST_ENTRY(node, struct share, all);
        if (x->holder == session && (ino == 0 || ino == x->ino)) {
            share_finish(x);
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
