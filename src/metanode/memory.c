/*
 * metanode/memory.c -- one budget for everything that grows with the load: records, the log as the
 * engine keeps it, sessions, connections, requests, answers that nobody has taken.
 *
 * Applying a committed command must never fail for want of a budget, so the budget is kept where
 * work is admitted: when seven eighths are used, what would make more of anything is told "busy";
 * reads, removals and whatever a writer needs to finish go on. When all is used nobody new comes
 * in, either. What is under way has its own bounds (turn.c, consensus), so that the rest is enough.
 */
#include "metanode/metanode_priv.h"

#define MEMORY_NEAR (64u << 20) /* from the limit: then it is looked at for each admission, */
#define MEMORY_LOOK 64u         /* else for each so many-th */
#define MEMORY_SESSION_BYTES (sizeof(struct metanode_session) + 64 * sizeof(struct metanode_slot))
#define MEMORY_SLOW_BYTES                                                   \
    (64u << 10) /* not taken yet: who has more is slow when there is little \
                 */

void metanode_memory_init(struct metanode *m)
{
    mem_budget_init(&m->memory.state, NULL, UINT64_MAX);
}

void metanode_memory_statistics(struct metanode *m)
{
    struct metanode_memory *x = &m->memory;
    stats_add_gauge(m->stats, "memory_records_bytes", &x->kv);
    stats_add_gauge(m->stats, "memory_log_bytes", &x->log);
    stats_add_gauge(m->stats, "memory_sessions_bytes", &x->sessions);
    stats_add_gauge(m->stats, "memory_connections_bytes", &x->connections);
    stats_add_gauge(m->stats, "memory_requests_bytes", &x->requests);
    stats_add_gauge(m->stats, "memory_replies_bytes", &x->replies);
    stats_add_gauge(m->stats, "memory_total_bytes", &x->total);
    stats_add_gauge(m->stats, "memory_limit_bytes", &x->limit);
    stats_add_counter(m->stats, "memory_refused", &x->refused);
    stats_gauge_set(&x->limit, (int64_t)m->opt.memory_bytes);
}

uint64_t metanode_memory_look(struct metanode *m)
{
    struct metanode_memory *x = &m->memory;
    struct peer_server_memory p;
    struct consensus_info info;
    peer_server_memory(m->server, &p);
    consensus_info(m->consensus, &info);
    struct kv_statistics engine = kv_statistics(m->kv);
    uint64_t records =
        base_max(engine.cache_used, engine.cache_limit); /* a cache fills up anyway */
    uint64_t sessions = m->sessions.by_id.count * MEMORY_SESSION_BYTES + metanode_grants_bytes(m);
    stats_gauge_set(&x->kv, (int64_t)records);
    stats_gauge_set(&x->log, (int64_t)info.log_bytes);
    stats_gauge_set(&x->sessions, (int64_t)sessions);
    stats_gauge_set(&x->connections, (int64_t)p.connections);
    stats_gauge_set(&x->requests, (int64_t)p.requests);
    stats_gauge_set(&x->replies, (int64_t)p.replies);
    x->used = records + info.log_bytes + sessions + p.connections + p.requests + p.replies;
    x->looked = 0;
    stats_gauge_set(&x->total, (int64_t)x->used);
    return x->used;
}

/* What makes more of anything. A writer may finish what it has begun: commit is none of these. */
static bool memory_grows(uint16_t opcode)
{
    return opcode == PROTO_OP_create || opcode == PROTO_OP_link || opcode == PROTO_OP_setxattr ||
           opcode == PROTO_OP_wopen;
}

static bool memory_begins(uint16_t opcode)
{
    return opcode == PROTO_OP_session_open || opcode == PROTO_OP_credential;
}

uint64_t metanode_memory_near(const struct metanode *m)
{
    return m->opt.memory_bytes - m->opt.memory_bytes / 8;
}

bool metanode_memory_is_short(const struct metanode *m)
{
    return m->memory.used >= metanode_memory_near(m);
}

bool metanode_memory_allows(struct metanode *m, uint16_t opcode)
{
    struct metanode_memory *x = &m->memory;
    bool grows = memory_grows(opcode), begins = memory_begins(opcode);
    if (!grows && !begins) {
        return true;
    }
    uint64_t limit = begins ? m->opt.memory_bytes : metanode_memory_near(m);
    if (x->used + MEMORY_NEAR >= limit || ++x->looked >= MEMORY_LOOK) {
        (void)metanode_memory_look(m);
    }
    if (x->used >= limit) {
        stats_count(&x->refused, 1);
        metanode_checkpoint_look(m); /* a part of it is log */
    }
    return x->used < limit;
}

bool metanode_memory_is_slow(struct metanode *m, const struct peer_link *l)
{
    if (l == NULL || l->conn == NULL) {
        return false;
    }
    if (net_conn_full(l->conn)) {
        return true;
    }
    struct peer_server_memory p;
    if (net_conn_queued(l->conn) < MEMORY_SLOW_BYTES) {
        return false;
    }
    peer_server_memory(m->server, &p);
    return p.replies > m->opt.memory_bytes / 8;
}
