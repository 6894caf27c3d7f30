/*
 * datanode/decide.c -- decisions without effects, so that each can be tested against its table.
 */
#include "datanode/decide.h"

#include <string.h>

/* ---- recent ------------------------------------------------------------------------------------
 */

enum datanode_seen datanode_recent_find(const struct chunk_info *info, uint64_t client,
                                        uint64_t seq, struct chunk_recent *ret)
{
    for (unsigned i = 0; i < info->recent_count; i++) {
        const struct chunk_recent *e = &info->recent[i];
        if (e->client != client) {
            continue;
        }
        if (e->seq == seq) {
            *ret = *e;
            return DATANODE_SEEN_SAME;
        }
        return e->seq > seq ? DATANODE_SEEN_NEWER : DATANODE_SEEN_NEW;
    }
    return DATANODE_SEEN_NEW;
}

static bool expired(const struct chunk_recent *e, uint64_t now_ms)
{
    return now_ms >= e->time_ms && now_ms - e->time_ms >= DATANODE_RECENT_MS;
}

static size_t oldest_of(const struct chunk_info *info, uint64_t but_client)
{
    size_t oldest = info->recent_count;
    for (size_t i = 0; i < info->recent_count; i++) {
        bool older =
            oldest == info->recent_count || info->recent[i].time_ms < info->recent[oldest].time_ms;
        if (info->recent[i].client != but_client && older) {
            oldest = i;
        }
    }
    return oldest;
}

void datanode_recent_plan(const struct chunk_info *info, struct datanode_recent_change *change)
{
    size_t kept = 0;
    change->evicted_count = 0;
    for (unsigned i = 0; i < info->recent_count; i++) {
        const struct chunk_recent *e = &info->recent[i];
        if (e->client == change->entry.client) {
            continue; /* replaced by the new one */
        }
        if (expired(e, change->entry.time_ms)) {
            change->evicted[change->evicted_count++] = e->client;
        } else {
            kept++;
        }
    }
    if (kept >= CHUNK_RECENT_MAX) { /* then nothing has expired, and the client is new */
        size_t oldest = oldest_of(info, change->entry.client);
        change->evicted[change->evicted_count++] = info->recent[oldest].client;
    }
}

static bool is_evicted(const struct datanode_recent_change *change, uint64_t client)
{
    for (size_t i = 0; i < change->evicted_count; i++) {
        if (change->evicted[i] == client) {
            return true;
        }
    }
    return false;
}

int datanode_recent_apply(const struct chunk_info *info,
                          const struct datanode_recent_change *change, struct chunk_recent *list,
                          uint16_t *ret_flags)
{
    unsigned count = 0;
    bool overflow = false;
    bool all_old = true;
    uint64_t now_ms = change->entry.time_ms;
    for (unsigned i = 0; i < info->recent_count; i++) {
        const struct chunk_recent *e = &info->recent[i];
        all_old = all_old && expired(e, now_ms);
        if (e->client == change->entry.client) {
            continue;
        }
        if (is_evicted(change, e->client)) {
            overflow = overflow || !expired(e, now_ms);
        } else {
            list[count++] = *e;
        }
    }
    if (count >= CHUNK_RECENT_MAX) {
        return -ERR_bad_value;
    }
    list[count++] = change->entry;
    uint16_t flags = info->flags & (uint16_t)~CHUNK_DAMAGED; /* of old bytes, not of new ones */
    if (overflow) {
        flags |= CHUNK_DEDUPE_OVERFLOW;
    } else if (all_old) { /* the update that overflowed is at least as old as the newest entry */
        flags &= (uint16_t)~CHUNK_DEDUPE_OVERFLOW;
    }
    *ret_flags = flags;
    return (int)count;
}

/* ---- WRITE -------------------------------------------------------------------------------------
 */

int datanode_write_decide(const struct datanode_write_view *v, struct chunk_recent *ret)
{
    if (v->dead) {
        return -ERR_gone;
    }
    if (v->set_length && v->tgen > 0 && v->tgen <= v->info->tgen) {
        return DATANODE_WRITE_DONE; /* truncate, repeated: later writes must stay */
    }
    if (v->tgen < v->info->tgen) {
        return -ERR_stale_trunc;
    }
    switch (datanode_recent_find(v->info, v->client, v->seq, ret)) {
    case DATANODE_SEEN_SAME:
        return DATANODE_WRITE_AGAIN;
    case DATANODE_SEEN_NEWER:
        return -ERR_stale_request;
    case DATANODE_SEEN_NEW:
        break;
    }
    if (v->retry && (v->info->flags & CHUNK_DEDUPE_OVERFLOW) != 0) {
        return -ERR_unknown_outcome;
    }
    if (v->uncut && !v->set_length && v->tgen > v->info->tgen && v->info->length > 0) {
        return -ERR_busy; /* with this generation it would pass for cut, old bytes and all */
    }
    return DATANODE_WRITE_ACCEPT;
}

struct chunk_identity datanode_identity_next(const struct chunk_info *info, uint32_t epoch)
{
    uint64_t ver = base_max(info->committed.ver, info->last_ver);
    CHECK(epoch >= info->committed.aepoch); /* I2 */
    return (struct chunk_identity){.aepoch = epoch, .ver = ver + 1};
}

/* ---- FORWARD -----------------------------------------------------------------------------------
 */

enum datanode_forward_action datanode_forward_decide(const struct datanode_forward_view *v)
{
    const struct chunk_info *info = v->info;
    bool damaged = (info->flags & CHUNK_DAMAGED) != 0;
    if (chunk_identity_equal(info->committed, v->identity)) {
        return DATANODE_FORWARD_GOOD;
    }
    if (info->has_pending && chunk_identity_equal(info->pending, v->identity)) {
        return DATANODE_FORWARD_JOIN;
    }
    if (v->dead) {
        return DATANODE_FORWARD_GONE;
    }
    if (v->syncing) {
        return v->whole ? DATANODE_FORWARD_INSTALL : DATANODE_FORWARD_NEED_WHOLE;
    }
    if (info->has_pending || !chunk_identity_equal(info->committed, v->base)) {
        return DATANODE_FORWARD_DIVERGED;
    }
    return damaged && !v->whole ? DATANODE_FORWARD_NEED_WHOLE : DATANODE_FORWARD_ACCEPT;
}

/* ---- Resync ------------------------------------------------------------------------------------
 */

bool datanode_copy_takes(const struct datanode_copy_view *v)
{
    return !v->dead && !(v->touched && v->ver <= v->info->committed.ver);
}

enum datanode_walk_action datanode_walk_decide(const struct datanode_walk_side *source,
                                               const struct datanode_walk_side *syncing)
{
    if (!source->there) {
        return syncing->there ? DATANODE_WALK_DROP : DATANODE_WALK_SAME;
    }
    bool same = syncing->there && !syncing->damaged && source->digest == syncing->digest &&
                chunk_identity_equal(source->identity, syncing->identity);
    return same ? DATANODE_WALK_SAME : DATANODE_WALK_COPY;
}

/* ---- R4 ----------------------------------------------------------------------------------------
 */

static bool hold_serves(enum proto_member_state s)
{
    return s == PROTO_MEMBER_SERVING || s == PROTO_MEMBER_LAST_SERVING;
}

/*
 * Whole is what began with the chain, what an earlier process had and did not note as left, and
 * what a session has made whole. Who has left may have deleted all of it.
 */
bool datanode_hold_decide(const struct datanode_hold_view *v)
{
    bool begins = v->registration || (hold_serves(v->now) && !v->leaps);
    if (!v->is) {
        return false;
    }
    return v->first ? begins && !v->met && !v->lost : v->held;
}

/*
 * By the steps of the table nobody comes to serving from elsewhere without a session, however many
 * rows it has missed, unless an administrator says so, which raises loss_gen; by the rows of a
 * backup somebody may, and has missed what the others have.
 */
bool datanode_stale_decide(const struct datanode_hold_view *v)
{
    if (!v->is || !hold_serves(v->now)) {
        return false;
    }
    return v->stale || (v->leaps && !v->first && !hold_serves(v->before) && !v->synced);
}

/*
 * A row that was made after the registration shows it: the member is out of service in it; or it
 * serves alone, which after a restart it can only do by promotion (two rows, of which this worker
 * may have seen only the second).
 */
bool datanode_restart_over(const struct datanode_fence_view *v)
{
    size_t self = cluster_row_find(v->row, v->target);
    if (self == v->row->count) {
        return true;
    }
    enum proto_member_state state = v->row->member[self].state;
    if (state != PROTO_MEMBER_SERVING && state != PROTO_MEMBER_SYNCING) {
        return true;
    }
    bool alone = state == PROTO_MEMBER_SERVING && cluster_row_serving_count(v->row) == 1;
    return alone && v->row->epoch >= v->registered_epoch + 2;
}
