/* datanode/stat.c -- STAT at a serving member: which chunks a data id has, and how long they are.
 */
#include "datanode/ahead.h"
#include "datanode/worker_priv.h"

#define STAT_BATCH 1024u
#define STAT_LOOKS 4096u

/* A page ends after so many chunks, not after so many numbers: what is not there costs nothing.
 * I1: what is pending may be shown elsewhere already; then the client asks there. */
static int stat_collect(struct datanode_chain *c, const struct proto_stat_request *m,
                        struct proto_chunk_stat *stat, struct proto_stat_reply *reply)
{
    struct datanode_worker *w = c->worker;
    struct chunk_key at = {.data_id = m->data_id, .index = m->first_index};
    uint64_t end = base_min((uint64_t)m->first_index + m->count, UINT64_C(1) << 32);
    uint64_t next = m->first_index;
    struct chunk_info info;
    reply->chunks.at = stat;
    for (unsigned looks = 0; looks < STAT_LOOKS && reply->chunks.count < STAT_BATCH; looks++) {
        at.index = (uint32_t)next;
        int rc = next < end ? chunk_store_next(w->store, at, &info) : -ENOENT;
        if (rc == -ERR_need && looks > 0) {
            break; /* the rest in another page */
        }
        if (rc < 0 && rc != -ENOENT) {
            return rc;
        }
        if (rc < 0 || info.key.data_id != m->data_id || info.key.index >= end) {
            next = end;
            break;
        }
        next = (uint64_t)info.key.index + 1;
        const struct datanode_item *it = datanode_item_find(w, info.key);
        if (info.chain == c->id && (info.has_pending || (it != NULL && it->marked))) {
            return -ERR_pending;
        }
        if (info.chain == c->id && !chunk_identity_none(info.committed)) {
            stat[reply->chunks.count++] =
                (struct proto_chunk_stat){.index = info.key.index,
                                          .identity = datanode_identity_wire(info.committed),
                                          .length = info.length,
                                          .allocated = info.allocated_bytes,
                                          .chunk_flags = info.flags};
        }
    }
    reply->more = next < end;
    reply->next_index = (uint32_t)base_min(next, UINT32_MAX);
    return 0;
}

void datanode_on_stat(struct peer_user *user, struct peer_request *r)
{
    struct datanode_worker *w = datanode_worker_of(user);
    const struct proto_stat_request *m = r->body;
    struct datanode_chain *c = NULL;
    struct proto_stat_reply reply = {0};
    struct proto_chunk_stat *stat = NULL;
    int rc = datanode_chain_route(w, &m->route, &c);
    if (rc == 0 && !datanode_chain_serves(c)) {
        rc = -ERR_not_serving;
    }
    if (rc == 0 && r->link->role != PROTO_ROLE_META) {
        rc = datanode_capability(w, r, &m->capability, m->data_id, 0);
    }
    if (rc == 0 && chunk_store_dead(w->store, m->data_id)) {
        rc = -ERR_gone;
    }
    if (rc == 0) {
        stat = mem_arena_alloc(&r->arena, STAT_BATCH * sizeof *stat);
        rc = stat == NULL ? -ERR_busy : stat_collect(c, m, stat, &reply);
    }
    if (rc == 0 && !datanode_chain_serves(c)) { /* R8: with the answer in hand */
        rc = -ERR_not_serving;
    }
    if (rc == -ERR_need) {
        const struct chunk_key first = {.data_id = m->data_id, .index = m->first_index};
        datanode_request_ahead(w, r, first, datanode_on_stat);
        return;
    }
    if (rc < 0) {
        datanode_refuse(r, rc, c);
        return;
    }
    reply.route = datanode_route_of(c, 0);
    peer_request_answer(r, &reply, NULL);
}
