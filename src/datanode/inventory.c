/*
 * datanode/inventory.c -- see inventory.h. A page is bounded by what it names and by how many
 * chunks it looks at, so that nobody else waits for it.
 *
 * Only chains that this target serves are told of: what it has of others is brought up to date by a
 * resync, or goes by itself (discard.c). What is just being removed is told as long as it is there:
 * the leader knows of it.
 */
#include "datanode/inventory.h"

#include "datanode/ahead.h"
#include "datanode/worker_priv.h"

#define INVENTORY_MAX 4096u
#define INVENTORY_LOOKS_MAX 16384u
#define INVENTORY_CHAINS 64u /* of one data id that are remembered: more are told twice */

struct inventory {
    struct datanode_worker *worker;
    const struct proto_inventory_request *request;
    struct proto_inventory_reply *reply;
    size_t max;
    uint64_t data_id; /* whose chains these are */
    uint32_t chain[INVENTORY_CHAINS];
    size_t chain_count;
};

static bool inventory_serves(const struct inventory *x, uint32_t chain)
{
    const struct datanode_chain *c = datanode_chain_find(x->worker, chain);
    return c != NULL && c->in_path && c->state == PROTO_MEMBER_SERVING;
}

/* The first chunk of this data id and chain in this page. */
static bool inventory_is_new(struct inventory *x, uint32_t chain)
{
    for (size_t i = 0; i < x->chain_count; i++) {
        if (x->chain[i] == chain) {
            return false;
        }
    }
    if (x->chain_count < INVENTORY_CHAINS) {
        x->chain[x->chain_count++] = chain;
    }
    return true;
}

static bool inventory_is_busy(const struct inventory *x, const struct chunk_info *info)
{
    const struct datanode_item *it = datanode_item_find(x->worker, info->key);
    bool damaged = (info->flags & CHUNK_DAMAGED) != 0; /* its repair is another's business */
    return info->has_pending || damaged || (it != NULL && it->locked);
}

static bool inventory_tells(struct inventory *x, const struct chunk_info *info)
{
    uint32_t chain = x->request->chain;
    if (x->data_id != info->key.data_id) {
        x->data_id = info->key.data_id;
        x->chain_count = 0;
    }
    if (chain != 0) {
        return info->chain == chain;
    }
    return inventory_serves(x, info->chain) && inventory_is_new(x, info->chain);
}

/* False: nothing can come behind it. */
static bool inventory_after(struct chunk_key *k)
{
    k->index++;
    k->data_id += k->index == 0 ? 1U : 0U;
    return k->index != 0 || k->data_id != 0;
}

static int inventory_collect(struct inventory *x)
{
    struct proto_inventory_reply *reply = x->reply;
    struct chunk_key at = datanode_key(x->request->first);
    struct chunk_info info;
    int rc = 0;
    reply->eof = true;
    for (unsigned looks = 0; rc == 0; looks++) {
        rc = chunk_store_next(x->worker->store, at, &info);
        if (rc == -ERR_need && looks > 0) { /* what was found so far is a page, too */
            reply->eof = false;
            reply->next = datanode_key_wire(at);
            return 0;
        }
        if (rc < 0 || (x->request->end != 0 && info.key.data_id >= x->request->end)) {
            break;
        }
        if (looks >= INVENTORY_LOOKS_MAX || reply->entries.count >= x->max) {
            reply->eof = false;
            reply->next = datanode_key_wire(info.key);
            break;
        }
        if (inventory_tells(x, &info)) {
            reply->entries.at[reply->entries.count++] =
                (struct proto_inventory_entry){.chunk = datanode_key_wire(info.key),
                                               .chain = info.chain,
                                               .identity = datanode_identity_wire(info.committed),
                                               .digest = info.digest,
                                               .busy = inventory_is_busy(x, &info)};
        }
        at = info.key;
        if (!inventory_after(&at)) {
            break;
        }
    }
    return rc == -ENOENT ? 0 : rc;
}

static int inventory_admit(struct datanode_worker *w, const struct proto_inventory_request *m)
{
    if (m->target != w->control.target || m->incarnation != w->incarnation) {
        return -ESTALE;
    }
    if (w->stopping || w->closing || w->left || w->failed) {
        return -ERR_shutting_down;
    }
    if (m->chain == 0) {
        return 0;
    }
    struct datanode_chain *c = NULL;
    const struct proto_route route = {.chain = m->chain, .epoch = m->epoch};
    int rc = datanode_chain_route(w, &route, &c);
    return rc < 0 ? rc : c->state == PROTO_MEMBER_SERVING ? 0 : -ERR_not_serving;
}

void datanode_on_inventory(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_inventory_request *m = r->body;
    struct proto_inventory_reply reply = {0};
    struct inventory x = {.worker = w,
                          .request = m,
                          .reply = &reply,
                          .max = base_max(base_min(m->max_entries, INVENTORY_MAX), 1)};
    int rc = inventory_admit(w, m);
    if (rc == 0) {
        reply.entries.at = mem_arena_alloc(&r->arena, x.max * sizeof *reply.entries.at);
        rc = reply.entries.at == NULL ? -ERR_busy : 0;
    }
    rc = rc < 0 ? rc : inventory_collect(&x);
    if (rc == -ERR_need) {
        datanode_request_ahead(w, r, datanode_key(m->first), datanode_on_inventory);
    } else if (rc < 0) {
        datanode_refuse(r, rc, NULL);
    } else {
        peer_request_answer(r, &reply, NULL);
    }
}
