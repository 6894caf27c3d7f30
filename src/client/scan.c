#include "client/scan_priv.h"

#include <stdlib.h>

/*
 * Each chain of the file is asked for its chunks, all at once. An answer may end before the range
 * does: then the page ends where the shortest answer does, and what others have said beyond it is
 * asked for again.
 */

#define CAP_TRIES 10u
#define INDEX_END (UINT64_C(1) << 32)

/* ---- One question ---- */

static size_t look_pick(struct client_chain_call *c, const struct cluster_row *row)
{
    const struct client_look *l = container_of(c, struct client_look, chain);
    size_t serving = cluster_row_serving_count(row);
    if (serving == 0) {
        return row->count;
    }
    return l->last_serving ? serving - 1 : (size_t)((c->spread + c->attempts) % serving);
}

static void look_prepare(struct client_chain_call *c)
{
    struct client_look *l = container_of(c, struct client_look, chain);
    struct client_inode *i = l->inode;
    const struct client_cap *cap = i->read_cap.known ? &i->read_cap : &i->write_cap;
    *l->capability = cap->cap;
    client_inode_check_cap(i, cap);
}

static void look_renewed(struct client_held *h)
{
    client_chain_resume(&container_of(h, struct client_look, held)->chain, CHAIN_LATER);
}

static enum client_verdict look_judge(struct client_chain_call *c, const struct peer_reply *r,
                                      enum client_verdict common)
{
    struct client_look *l = container_of(c, struct client_look, chain);
    if (r->answered && err_is(r->rc, ERR_bad_capability) && l->cap_tries++ < CAP_TRIES &&
        !c->fs->freeing) {
        l->held.renewed = look_renewed;
        client_inode_renew(l->inode, &l->held);
        return CHAIN_HELD;
    }
    l->last_serving = r->rc == -ERR_pending; /* there it is committed soonest */
    return l->last_serving ? CHAIN_LATER : common;
}

static void look_answered(struct client_chain_call *c, const struct peer_reply *r)
{
    struct client_look *l = container_of(c, struct client_look, chain);
    struct client_inode *i = l->inode;
    list_remove(&l->held.node);
    list_remove(&l->node);
    l->done(l, r);
    client_inode_wake(i);
    client_inode_put(i);
}

static const struct client_chain_ops look_ops = {
    .pick = look_pick, .prepare = look_prepare, .judge = look_judge, .done = look_answered};

static void look_start(struct client_look *l, uint16_t opcode, struct proto_route *route,
                       uint32_t index)
{
    struct client_inode *i = l->inode;
    list_init(&l->held.node);
    list_push_back(&i->looks, &l->node);
    i->refs++;
    l->cap_tries = 0;
    l->last_serving = false;
    l->chain.ops = &look_ops;
    l->chain.route = route;
    l->chain.layout = &i->layout;
    l->chain.index = index;
    l->chain.spread = index;
    l->chain.peer = (struct peer_call){.request = &l->request, .opcode = opcode};
    client_chain_start(i->fs, &l->chain);
}

void client_look_stat(struct client_look *l, uint32_t index)
{
    l->capability = &l->request.stat.capability;
    look_start(l, PROTO_OP_stat, &l->request.stat.route, index);
}

void client_look_extents(struct client_look *l)
{
    l->capability = &l->request.extents.capability;
    look_start(l, PROTO_OP_extents, &l->request.extents.route, l->request.extents.chunk.index);
}

void client_look_cancel_all(struct client_inode *i)
{
    i->refs++;
    while (!list_empty(&i->looks)) {
        client_chain_cancel(&LIST_ENTRY(i->looks.next, struct client_look, node)->chain);
    }
    client_inode_put(i);
}

/* ---- All chains ---- */

static int chunk_order(const void *a, const void *b)
{
    const struct client_scan_chunk *x = a, *y = b;
    return x->index == y->index ? 0 : x->index < y->index ? -1 : 1;
}

static int scan_take(struct client_scan *s, const struct proto_stat_reply *m)
{
    int rc = mem_grow(&s->chunk, &s->capacity, s->count + m->chunks.count, sizeof *s->chunk);
    for (size_t i = 0; rc == 0 && i < m->chunks.count; i++) {
        const struct proto_chunk_stat *x = &m->chunks.at[i];
        bool whole = x->length == s->inode->layout.chunk_size;
        s->chunk[s->count++] =
            (struct client_scan_chunk){.index = x->index,
                                       .length = x->length,
                                       .allocated = x->allocated,
                                       .dense = whole && x->allocated == x->length};
    }
    return rc;
}

static void scan_end(struct client_scan *s)
{
    if (s->count > 0) {
        qsort(s->chunk, s->count, sizeof *s->chunk, chunk_order);
    }
    while (s->count > 0 && s->chunk[s->count - 1].index >= s->upto) {
        s->count--;
    }
}

static void scan_answered(struct client_look *l, const struct peer_reply *r)
{
    struct client_scan *s = container_of(l, struct client_scan_ask, look)->scan;
    const struct proto_stat_reply *m = r->body;
    int rc = r->rc == -ERR_cancelled ? -ECANCELED : r->rc;
    if (rc == 0 && m->more && m->next_index <= l->request.stat.first_index) {
        rc = -ERR_bad_value; /* it would never end */
    }
    if (rc == 0) {
        s->upto = m->more ? base_min(s->upto, m->next_index) : s->upto;
        rc = scan_take(s, m);
    }
    s->rc = s->rc == 0 ? rc : s->rc;
    if (--s->waiting == 0) {
        scan_end(s);
    }
}

int client_scan_start(struct client_scan *s)
{
    struct client_inode *i = s->inode;
    uint64_t end = base_min(s->end, INDEX_END);
    uint64_t width = base_max(i->layout.stripe_width, 1);
    uint64_t count = s->first < end ? base_min(end - s->first, UINT32_MAX) : 0;
    s->upto = s->first + count < end ? s->first + count : s->end;
    s->ask_count = (size_t)base_min(width, count);
    if (count == 0) {
        return 1;
    }
    s->ask = mem_calloc(s->ask_count, sizeof *s->ask);
    if (s->ask == NULL) {
        return -ENOMEM;
    }
    s->waiting = s->ask_count;
    for (size_t k = 0; k < s->ask_count; k++) { /* that many chunks in a row are on all chains */
        struct client_scan_ask *a = &s->ask[k];
        a->scan = s;
        a->look.inode = i;
        a->look.done = scan_answered;
        a->look.request.stat = (struct proto_stat_request){.data_id = i->layout.data_id,
                                                           .first_index = (uint32_t)s->first,
                                                           .count = (uint32_t)count};
        client_look_stat(&a->look, (uint32_t)(s->first + k));
    }
    return 0;
}

int client_scan_state(const struct client_scan *s)
{
    return s->waiting > 0 ? 0 : s->rc < 0 ? s->rc : 1;
}

struct client_scan *client_scan_free(struct client_scan *s)
{
    if (s != NULL) {
        CHECK(s->waiting == 0);
        mem_free(s->chunk);
        mem_free(s->ask);
        mem_free(s);
    }
    return NULL;
}
