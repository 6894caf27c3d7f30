#include "client/scan_priv.h"

#include <stdlib.h>

/*
 * Each chain of the file is asked for its chunks, all at once. An answer may end before the range
 * does: then the page ends where the shortest answer does, and what others have said beyond it is
 * asked for again.
 */

#define CAP_TRIES 10u
#define INDEX_END (UINT64_C(1) << 32)

static int chunk_order(const void *a, const void *b)
{
    const struct client_scan_chunk *x = a, *y = b;
    return x->index == y->index ? 0 : x->index < y->index ? -1 : 1;
}

void client_scan_fini(struct client_scan *s)
{
    CHECK(s->waiting == 0);
    mem_free(s->chunk);
    mem_free(s->ask);
    s->chunk = NULL;
    s->ask = NULL;
    s->count = s->capacity = 0;
}

static void scan_end(struct client_scan *s)
{
    struct client_inode *i = s->inode;
    mem_free(s->ask);
    s->ask = NULL;
    list_remove(&s->node);
    while (s->rc == 0 && s->count > 0 && s->chunk[s->count - 1].index >= s->upto) {
        s->count--;
    }
    s->done(s, s->rc);
    client_inode_wake(i);
    client_inode_put(i);
}

/* ---- One chain ---- */

static size_t scan_pick(struct client_chain_call *c, const struct cluster_row *row)
{
    const struct client_scan_ask *a = container_of(c, struct client_scan_ask, chain);
    size_t serving = cluster_row_serving_count(row);
    if (serving == 0) {
        return row->count;
    }
    return a->last_serving ? serving - 1 : (size_t)((c->spread + c->attempts) % serving);
}

static void scan_prepare(struct client_chain_call *c)
{
    struct client_scan_ask *a = container_of(c, struct client_scan_ask, chain);
    struct client_inode *i = a->scan->inode;
    const struct client_cap *cap = i->read_cap.known ? &i->read_cap : &i->write_cap;
    a->request.capability = cap->cap;
    client_inode_check_cap(i, cap);
}

static void scan_renewed(struct client_held *h)
{
    client_chain_resume(&container_of(h, struct client_scan_ask, held)->chain, CHAIN_LATER);
}

static enum client_verdict scan_judge(struct client_chain_call *c, const struct peer_reply *r,
                                      enum client_verdict common)
{
    struct client_scan_ask *a = container_of(c, struct client_scan_ask, chain);
    if (r->answered && err_is(r->rc, ERR_bad_capability) && a->cap_tries++ < CAP_TRIES &&
        !c->fs->freeing) {
        a->held.renewed = scan_renewed;
        client_inode_renew(a->scan->inode, &a->held);
        return CHAIN_HELD;
    }
    a->last_serving = r->rc == -ERR_pending; /* there it is committed soonest */
    return a->last_serving ? CHAIN_LATER : common;
}

static int scan_take(struct client_scan *s, const struct proto_stat_reply *m)
{
    int rc = mem_grow(&s->chunk, &s->capacity, s->count + m->chunks.count, sizeof *s->chunk);
    for (size_t i = 0; rc == 0 && i < m->chunks.count; i++) {
        const struct proto_chunk_stat *x = &m->chunks.at[i];
        s->chunk[s->count++] = (struct client_scan_chunk){.index = x->index, .length = x->length};
    }
    return rc;
}

static void scan_answered(struct client_chain_call *c, const struct peer_reply *r)
{
    struct client_scan_ask *a = container_of(c, struct client_scan_ask, chain);
    struct client_scan *s = a->scan;
    const struct proto_stat_reply *m = r->body;
    int rc = r->rc == -ERR_cancelled ? -ECANCELED : r->rc;
    list_remove(&a->held.node);
    if (rc == 0 && m->more && m->next_index <= a->request.first_index) {
        rc = -ERR_bad_value; /* it would never end */
    }
    if (rc == 0) {
        s->upto = m->more ? base_min(s->upto, m->next_index) : s->upto;
        rc = scan_take(s, m);
    }
    s->rc = s->rc == 0 ? rc : s->rc;
    if (--s->waiting == 0) {
        if (s->count > 0) {
            qsort(s->chunk, s->count, sizeof *s->chunk, chunk_order);
        }
        scan_end(s);
    }
}

static const struct client_chain_ops scan_ops = {
    .pick = scan_pick, .prepare = scan_prepare, .judge = scan_judge, .done = scan_answered};

static void scan_ask(struct client_scan *s, size_t k, uint32_t count)
{
    struct client_inode *i = s->inode;
    struct client_scan_ask *a = &s->ask[k];
    uint32_t index = (uint32_t)(s->first + k); /* the next ones are on other chains */
    a->scan = s;
    list_init(&a->held.node);
    a->request = (struct proto_stat_request){
        .data_id = i->layout.data_id, .first_index = (uint32_t)s->first, .count = count};
    a->chain.ops = &scan_ops;
    a->chain.route = &a->request.route;
    a->chain.layout = &i->layout;
    a->chain.index = index;
    a->chain.spread = index;
    a->chain.peer = (struct peer_call){.request = &a->request, .opcode = PROTO_OP_stat};
    client_chain_start(i->fs, &a->chain);
}

/* ---- All ---- */

static void scan_nothing(struct loop_task *t)
{
    scan_end(container_of(t, struct client_scan, nothing));
}

void client_scan_start(struct client_scan *s)
{
    struct client_inode *i = s->inode;
    uint64_t end = base_min(s->end, INDEX_END);
    s->count = 0;
    s->rc = 0;
    i->refs++;
    list_push_back(&i->scans, &s->node);
    uint64_t width = base_max(i->layout.stripe_width, 1);
    uint64_t count = s->first < end ? base_min(end - s->first, UINT32_MAX) : 0;
    s->upto = s->first + count < end ? s->first + count : s->end;
    s->ask_count = (size_t)base_min(width, count);
    s->ask = count == 0 ? NULL : mem_calloc(s->ask_count, sizeof *s->ask);
    if (s->ask == NULL) {
        s->rc = count > 0 ? -ENOMEM : 0;
        s->nothing.run = scan_nothing;
        loop_defer(i->fs->loop, &s->nothing);
        return;
    }
    s->waiting = s->ask_count;
    for (size_t k = 0; k < s->ask_count; k++) {
        scan_ask(s, k, (uint32_t)count);
    }
}

void client_scan_cancel_all(struct client_inode *i)
{
    i->refs++;
    LIST_FOR_EACH_SAFE(at, &i->scans)
    {
        struct client_scan *s = LIST_ENTRY(at, struct client_scan, node);
        if (s->waiting == 0) {
            loop_undefer(i->fs->loop, &s->nothing);
            s->rc = -ECANCELED;
            scan_end(s);
            continue;
        }
        for (size_t k = s->ask_count; k > 0; k--) {
            bool last = s->waiting == 1;
            client_chain_cancel(&s->ask[k - 1].chain);
            if (last) {
                break; /* it may be gone */
            }
        }
    }
    client_inode_put(i);
}
