/*
 * datanode/fence.c -- who may still write: REVOKE of a chain (R5) and FENCE of a session, and the
 * check of capabilities.
 *
 * Fences live in memory: after a restart the metadata leader sends those that still count again,
 * before it grants a lease.
 */
#include "datanode/worker_priv.h"

#define SKEW_MS 2000u
#define FENCE_WAITS_MAX 1024u

struct fence_wait { /* answered after the last older write */
    struct list node;
    struct peer_request *request;
    uint64_t session;
};

bool datanode_fenced(struct datanode_worker *w, const struct proto_capability *c)
{
    LIST_FOR_EACH(at, &w->fences)
    {
        const struct datanode_fence *f = LIST_ENTRY(at, struct datanode_fence, node);
        if (f->session == c->session && c->cap_epoch < f->cap_epoch) {
            return true;
        }
    }
    return false;
}

int datanode_capability(struct datanode_worker *w, const struct peer_request *r,
                        const struct proto_capability *c, uint64_t data_id, uint8_t rights)
{
    (void)r;
    struct cluster_secret secret;
    _Static_assert(sizeof secret.bytes == PEER_SECRET_BYTES, "one secret");
    memcpy(secret.bytes, w->opt.secrets.server.bytes, sizeof secret.bytes);
    const struct cluster_access a = {
        .data_id = data_id, .rights = rights, .wall_ms = datanode_leader_ms(w), .skew_ms = SKEW_MS};
    int rc = cluster_capability_check_known(&w->known, &secret, c, &a);
    if (rc < 0) {
        return rc;
    }
    return datanode_fenced(w, c) ? -ERR_bad_capability : 0;
}

/* ---- FENCE ---- */

static void fences_expire(struct datanode_worker *w)
{
    uint64_t now_ms = datanode_leader_ms(w);
    LIST_FOR_EACH_SAFE(at, &w->fences)
    {
        struct datanode_fence *f = LIST_ENTRY(at, struct datanode_fence, node);
        if (f->until_ms + SKEW_MS < now_ms) {
            list_remove(&f->node);
            w->fence_count--;
            mem_free(f);
        }
    }
}

static int fence_add(struct datanode_worker *w, const struct proto_fence_request *m)
{
    fences_expire(w);
    LIST_FOR_EACH(at, &w->fences)
    {
        struct datanode_fence *f = LIST_ENTRY(at, struct datanode_fence, node);
        if (f->session == m->session) {
            f->cap_epoch = base_max(f->cap_epoch, m->cap_epoch);
            f->until_ms = base_max(f->until_ms, m->until_wall_ms);
            return 0;
        }
    }
    struct datanode_fence *f = w->fence_count >= DATANODE_FENCES_MAX ? NULL : mem_zalloc(sizeof *f);
    if (f == NULL) {
        return -ERR_busy;
    }
    *f = (struct datanode_fence){
        .session = m->session, .cap_epoch = m->cap_epoch, .until_ms = m->until_wall_ms};
    list_push_back(&w->fences, &f->node);
    w->fence_count++;
    return 0;
}

/*
 * Also those that a predecessor forwarded, and those for whose end nobody waits any more: a member
 * that has not got them yet would show the old content, and the new one after the answer.
 */
static bool writes_of(const struct datanode_worker *w, uint64_t session)
{
    LIST_FOR_EACH(at, &w->updates)
    {
        const struct datanode_update *u = LIST_ENTRY(at, struct datanode_update, node);
        if (u->client == session && u->state != DATANODE_UPDATE_OVER) {
            return true;
        }
    }
    return false;
}

void datanode_fences_writes_done(struct datanode_worker *w)
{
    LIST_FOR_EACH_SAFE(at, &w->fence_waits)
    {
        struct fence_wait *f = LIST_ENTRY(at, struct fence_wait, node);
        if (!writes_of(w, f->session)) {
            const struct proto_fence_reply reply = {};
            list_remove(&f->node);
            w->fence_wait_count--;
            peer_request_answer(f->request, &reply, NULL);
            mem_free(f);
        }
    }
}

void datanode_on_fence(struct datanode_worker *w, struct peer_request *r)
{
    const struct proto_fence_request *m = r->body;
    if (w->stopping) { /* who asks after the end of this process learns that it has ended */
        datanode_refuse(r, -ERR_shutting_down, NULL);
        return;
    }
    int rc = fence_add(w, m);
    bool room = rc == 0 && w->fence_wait_count < FENCE_WAITS_MAX;
    struct fence_wait *f = room ? mem_zalloc(sizeof *f) : NULL;
    if (f == NULL) {
        datanode_refuse(r, -ERR_busy, NULL);
        return;
    }
    f->request = r;
    f->session = m->session;
    list_push_back(&w->fence_waits, &f->node);
    w->fence_wait_count++;
    datanode_fences_writes_done(w);
}

void datanode_fences_free(struct datanode_worker *w)
{
    LIST_FOR_EACH_SAFE(at, &w->fence_waits)
    {
        struct fence_wait *f = LIST_ENTRY(at, struct fence_wait, node);
        list_remove(&f->node);
        peer_request_fail(f->request, -ERR_shutting_down, NULL);
        mem_free(f);
    }
    LIST_FOR_EACH_SAFE(at, &w->fences)
    {
        struct datanode_fence *f = LIST_ENTRY(at, struct datanode_fence, node);
        list_remove(&f->node);
        mem_free(f);
    }
    w->fence_count = 0;
    w->fence_wait_count = 0;
}

/* ---- REVOKE: R5 ---- */

void datanode_on_revoke(struct datanode_worker *w, struct peer_request *r)
{
    const struct proto_revoke_request *m = r->body;
    const struct proto_revoke_reply reply = {};
    struct datanode_chain *c = datanode_chain_find(w, m->chain);
    if (c != NULL && m->epoch > c->row.epoch) {
        datanode_control_report(w);
        datanode_refuse(r, -ERR_ahead_epoch, c);
        return;
    }
    if (c != NULL && m->epoch == c->row.epoch) {
        c->revoked_epoch = m->epoch;
        /* Told with every heartbeat, too: a leader that never heard the answer would leave this
         * member in the row, where it would serve nobody for ever. */
        c->report = c->in_path ? (uint8_t)PROTO_REPORT_GONE : c->report;
    }
    peer_request_answer(r, &reply, NULL);
}
