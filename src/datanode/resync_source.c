/*
 * datanode/resync_source.c -- the predecessor's side of a resync (section 9): SYNC_BEGIN with the
 * dead list, then both indexes side by side in key order, a COPY or DROP for each key that differs,
 * then SYNC_END. A key is compared and answered for under its chunk's lock, without a pending here;
 * a few keys at a time, and not more bytes per second than `move_rate` says. Any new row ends the
 * session (datanode_resync_stop).
 *
 * What is damaged here is repaired first. When nobody has a good copy, the COPY says so, with the
 * bytes as they are and the checksums as they should be, and the syncing member has it as damaged
 * as it is here. What cannot be told (its checksums are lost, too; a member of an earlier version)
 * is left; when all else is there, the session goes through both indexes again, from time to time.
 */
#include "chunk/hold.h"
#include "datanode/ask.h"
#include "datanode/repair.h"
#include "datanode/resync.h"
#include "datanode/spoilt.h"

#include <string.h>

#define JOBS 8u
#define JOBS_ALL 32u                    /* of all sessions of this target */
#define BYTES_YIELDING CHUNK_LENGTH_MAX /* of all, while clients read and write here, */
#define USED_NS (100 * NS_PER_MS)       /* and so long after the last of them */
#define DEAD_PAGE 32768u
#define INDEX_PAGE 2048u
#define WALK_BATCH 1024u
#define PAUSE_MS 20u
#define LEFT_MIN_MS 1000u /* until both indexes are gone through again */
#define LEFT_MAX_MS 60000u
#define LEFT_TOLD_NS (60000 * NS_PER_MS)

enum resync_phase { RESYNC_BEGIN, RESYNC_INDEX, RESYNC_WALK, RESYNC_LEFT, RESYNC_END };

struct resync_job {
    struct datanode_resync *session;
    struct datanode_wait wait;
    struct datanode_item *item; /* NULL: idle */
    bool locked, queued, reading, asking, counted;
    bool mended;    /* it was damaged, and its repair has been tried */
    uint32_t bytes; /* that it is thought to move */
    struct datanode_repair_wait repair;
    struct loop_timer again;
    struct chunk_info info;
    struct chunk_read read;
    struct datanode_spoilt spoilt;
    struct buf *buf;
    uint32_t *crc;
    struct proto_recent recent[CHUNK_RECENT_MAX];
    struct datanode_ask ask;
    union {
        struct proto_copy_request copy;
        struct proto_drop_request drop;
    } m;
};
struct datanode_resync {
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    uint32_t epoch;
    enum resync_phase phase;
    bool stopped, asking, page_eof;
    struct datanode_ask ask;
    struct proto_sync_begin_request begin;
    struct proto_index_request index;
    struct proto_sync_end_request end;
    uint64_t *dead;
    uint64_t dead_after;
    /* The syncing member's page, and where both are. */
    struct proto_index_entry *page;
    size_t page_count, page_at;
    struct chunk_key own_at, page_end; /* exclusive, unless page_eof */
    bool own_over;
    struct loop_task walk;
    struct loop_timer walk_again;
    struct chunk_ahead ahead;
    struct resync_job job[JOBS];
    uint64_t same, copied, dropped;
    /* What is damaged and could not be told, of this time through the indexes. */
    uint64_t left;
    struct chunk_key left_key; /* one of them */
    uint64_t left_ms;
    uint64_t left_told_ns;
    struct loop_timer left_again;
};

static void resync_walk_soon(struct datanode_resync *s)
{
    loop_defer(s->worker->loop, &s->walk);
}

/* ---- The end of a session ---- */

static void resync_release(struct datanode_resync *s)
{
    if (!s->stopped || s->asking) {
        return;
    }
    for (unsigned i = 0; i < JOBS; i++) {
        if (s->job[i].item != NULL) {
            return;
        }
    }
    loop_undefer(s->worker->loop, &s->walk);
    loop_timer_cancel(s->worker->loop, &s->walk_again);
    loop_timer_cancel(s->worker->loop, &s->left_again);
    chunk_store_ahead_end(s->worker->store, &s->ahead);
    s->worker->sink_count--;
    mem_free(s->dead);
    mem_free(s->page);
    mem_free(s);
}

/* One that rests takes nobody's place. */
static void job_count(struct resync_job *j, bool counted)
{
    struct datanode_worker *w = j->session->worker;
    if (counted != j->counted) {
        w->copying.keys += counted ? 1u : UINT32_MAX;
        w->copying.bytes += counted ? j->bytes : -(uint64_t)j->bytes;
        j->counted = counted;
    }
}

static void job_idle(struct resync_job *j)
{
    struct datanode_resync *s = j->session;
    struct datanode_item *it = j->item;
    bool locked = j->locked;
    j->buf = buf_unref(j->buf);
    mem_free(j->crc);
    j->crc = NULL;
    j->locked = false;
    j->item = NULL;
    job_count(j, false);
    if (locked) {
        datanode_item_unlock(it);
    }
    datanode_item_put(it);
    if (s->stopped) {
        resync_release(s);
    } else {
        resync_walk_soon(s);
    }
}

void datanode_resync_stop(struct datanode_chain *c)
{
    struct datanode_resync *s = c->resync;
    if (s == NULL) {
        return;
    }
    c->resync = NULL;
    s->stopped = true;
    (void)datanode_ask_stop(&s->ask);
    for (unsigned i = 0; i < JOBS; i++) {
        struct resync_job *j = &s->job[i];
        if (j->item == NULL) {
            continue;
        }
        j->spoilt.stopped = true;
        bool resting = loop_timer_active(&j->again);
        loop_timer_cancel(s->worker->loop, &j->again);
        (void)datanode_ask_stop(&j->ask);
        if (resting) {
            s->asking = true; /* not freed from inside this loop */
            job_idle(j);
            s->asking = s->ask.active;
        }
    }
    resync_release(s);
}

/* ---- One key ---- */

static void job_go(struct resync_job *j);

static void job_again(struct loop_timer *t)
{
    struct resync_job *j = container_of(t, struct resync_job, again);
    job_count(j, true);
    job_go(j);
}

static void job_rest(struct resync_job *j)
{
    j->buf = buf_unref(j->buf);
    mem_free(j->crc);
    j->crc = NULL;
    if (j->locked) { /* others first */
        j->locked = false;
        datanode_item_unlock(j->item);
    }
    if (j->session->stopped) {
        job_idle(j);
        return;
    }
    job_count(j, false);
    j->again.fire = job_again;
    loop_timer_in(j->session->worker->loop, &j->again, PAUSE_MS * NS_PER_MS);
}

/* Others first; it is met again when both indexes are gone through once more. */
static void job_leave(struct resync_job *j)
{
    j->session->left++;
    j->session->left_key = j->item->key;
    job_idle(j);
}

static void job_asked(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    (void)r;
    struct resync_job *j = container_of(a, struct resync_job, ask);
    struct datanode_resync *s = j->session;
    if (rc == 0 && a->opcode == PROTO_OP_copy) {
        s->copied++;
        stats_count(&s->worker->counters.copies, 1);
        stats_count(&s->worker->counters.copy_bytes, j->info.length);
    } else if (rc == 0) {
        s->dropped++;
    } else if (rc == -ERR_bad_data) {
        job_leave(j);
        return;
    }
    job_idle(j); /* otherwise the session is over */
}

/* A member of an earlier version takes no bytes that do not fit. */
static bool job_refused(int rc)
{
    return rc == -ERR_bad_data;
}

static void job_ask(struct resync_job *j, uint16_t opcode, void *request, struct proto_route *route)
{
    j->ask = (struct datanode_ask){.done = job_asked,
                                   .chain = j->session->chain,
                                   .opcode = opcode,
                                   .request = request,
                                   .route = route,
                                   .slot = datanode_slot_of(j->item->key)};
    if (opcode == PROTO_OP_copy && (j->info.flags & CHUNK_DAMAGED) != 0) {
        j->ask.final = job_refused;
    }
    if (opcode == PROTO_OP_copy && j->info.length > 0) {
        j->ask.data = (struct slice){.buf = j->buf, .at = j->buf->at, .len = j->info.length};
    }
    datanode_ask_start(&j->ask);
}

static void job_copy(struct resync_job *j)
{
    const struct chunk_info *info = &j->info;
    for (unsigned i = 0; i < info->recent_count; i++) {
        const struct chunk_recent *e = &info->recent[i];
        j->recent[i] = (struct proto_recent){.client = e->client,
                                             .seq = e->seq,
                                             .ver = e->ver,
                                             .result = e->result,
                                             .time_ms = e->time_ms};
    }
    j->m.copy =
        (struct proto_copy_request){.chunk = datanode_key_wire(info->key),
                                    .identity = datanode_identity_wire(info->committed),
                                    .length = info->length,
                                    .digest = info->digest,
                                    .tgen = info->tgen,
                                    .chunk_flags = info->flags,
                                    .last_ver = info->last_ver,
                                    .crcs = {.at = j->crc, .count = chunk_cells(info->length)},
                                    .recent = {.at = j->recent, .count = info->recent_count}};
    job_ask(j, PROTO_OP_copy, &j->m.copy, &j->m.copy.route);
}

static void job_read(struct chunk_read *read, int rc)
{
    struct resync_job *j = container_of(read, struct resync_job, read);
    struct datanode_resync *s = j->session;
    j->reading = false;
    if (s->stopped) {
        job_idle(j);
    } else if (rc < 0) {
        job_rest(j); /* it may be flagged now */
    } else {
        job_copy(j);
    }
}

/* ---- One key that is damaged here ---- */

static void job_locked(struct resync_job *j);

static void job_repaired(struct datanode_repair_wait *wait, int rc)
{
    struct resync_job *j = container_of(wait, struct resync_job, repair);
    j->mended = true;
    if (rc == -ERR_busy && !j->session->stopped) {
        job_leave(j); /* a serving member may have a good one */
    } else {
        job_locked(j);
    }
}

static void job_spoilt(struct datanode_spoilt *spoilt, int rc)
{
    struct resync_job *j = container_of(spoilt, struct resync_job, spoilt);
    j->reading = false;
    if (j->session->stopped) {
        job_idle(j);
    } else if (rc < 0 && !err_is(rc, EIO)) {
        job_rest(j);
    } else if (rc < 0) {
        job_leave(j); /* the list of its checksums is bad, too */
    } else {
        job_copy(j);
    }
}

static void job_read_spoilt(struct resync_job *j)
{
    j->reading = true;
    j->spoilt = (struct datanode_spoilt){.done = job_spoilt,
                                         .store = j->session->worker->store,
                                         .key = j->item->key,
                                         .which = CHUNK_COMMITTED,
                                         .identity = j->info.committed,
                                         .length = j->info.length,
                                         .digest = j->info.digest,
                                         .to = j->buf->at,
                                         .crc = j->crc};
    datanode_spoilt_read(&j->spoilt);
}

static bool job_room(struct resync_job *j)
{
    j->buf = buf_get(j->session->worker->member_pool, j->info.length);
    j->crc = mem_calloc(CHUNK_CELLS_MAX, sizeof *j->crc);
    return j->buf != NULL && j->crc != NULL;
}

static void job_damaged(struct resync_job *j)
{
    if (!j->mended) {
        j->repair.repaired = job_repaired;
        if (!datanode_repair_wait(j->session->chain, j->item, &j->repair)) {
            job_rest(j);
        }
    } else if (chunk_identity_none(j->info.committed)) {
        job_leave(j); /* not even known what it was */
    } else if (j->info.length == 0) {
        job_copy(j);
    } else if (job_room(j)) {
        job_read_spoilt(j);
    } else {
        job_rest(j);
    }
}

/* ---- */

/* The lock is held. */
static void job_locked(struct resync_job *j)
{
    struct datanode_resync *s = j->session;
    struct datanode_worker *w = s->worker;
    j->locked = true;
    if (s->stopped) {
        job_idle(j);
        return;
    }
    int rc = datanode_lookup_locked(w, j->item->key, &j->info);
    bool foreign = rc == 0 && j->info.chain != 0 && j->info.chain != s->chain->id;
    if (rc < 0 || j->info.has_pending) {
        job_rest(j);
        return;
    }
    if ((j->info.flags & CHUNK_DAMAGED) != 0 && !foreign) {
        job_damaged(j);
        return;
    }
    if (j->info.chain == 0 || foreign || chunk_identity_none(j->info.committed)) {
        j->m.drop = (struct proto_drop_request){.chunk = datanode_key_wire(j->item->key)};
        job_ask(j, PROTO_OP_drop, &j->m.drop, &j->m.drop.route);
        return;
    }
    if (j->info.length == 0) {
        job_copy(j);
        return;
    }
    if (!job_room(j)) {
        job_rest(j);
        return;
    }
    j->reading = true;
    j->read = (struct chunk_read){
        .done = job_read,
        .pin = {.key = j->item->key, .which = CHUNK_COMMITTED, .length = j->info.length},
        .verify = true,
        .lane = DISK_COPYING,
        .to = j->buf->at,
        .crc = j->crc};
    chunk_store_read(w->store, &j->read);
}

static void job_granted(struct datanode_wait *wait)
{
    struct resync_job *j = container_of(wait, struct resync_job, wait);
    j->queued = false;
    job_locked(j);
}

static void job_go(struct resync_job *j)
{
    j->wait.granted = job_granted;
    int rc = datanode_item_lock(j->item, &j->wait);
    if (rc > 0) {
        job_locked(j);
    } else if (rc == 0) {
        j->queued = true;
    } else {
        job_rest(j);
    }
}

/* ---- Side by side ---- */

/* Section 9.6: copies yield to clients. What those want is done at once, mostly: so that nothing of
 * them is under way now means little. Who waits for its turn by `move_rate` holds no lock yet. */
static struct resync_job *job_get(struct datanode_resync *s, uint32_t bytes)
{
    const struct datanode_worker *w = s->worker;
    bool used = w->update_count + w->read_count > 0 ||
                (w->used_ns != 0 && loop_tick_ns(w->loop) < w->used_ns + USED_NS);
    bool much = used && w->copying.keys > 0 && w->copying.bytes + bytes > BYTES_YIELDING;
    bool early = bytes > 0 && datanode_rate_wait_ns(&w->copying, loop_tick_ns(w->loop)) > 0;
    if (much || early || w->copying.keys >= JOBS_ALL) {
        return NULL;
    }
    for (unsigned i = 0; i < JOBS; i++) {
        if (s->job[i].item == NULL) {
            return &s->job[i];
        }
    }
    return NULL;
}

static bool jobs_idle(const struct datanode_resync *s)
{
    for (unsigned i = 0; i < JOBS; i++) {
        if (s->job[i].item != NULL) {
            return false;
        }
    }
    return true;
}

/* The next own chunk of this chain within the page: 1. 0: none. Else it is not known yet: nothing
 * may be taken for missing here, or it would be dropped there. -> `looks` counts. */
static int own_next(struct datanode_resync *s, struct chunk_info *info, unsigned *looks)
{
    while (!s->own_over && *looks < WALK_BATCH) {
        (*looks)++;
        stats_count(&s->worker->counters.resync_looks, 1);
        int rc = chunk_store_next(s->worker->store, s->own_at, info);
        if (rc < 0 && rc != -ENOENT) {
            return rc;
        }
        if (rc < 0 || (!s->page_eof && chunk_key_compare(info->key, s->page_end) >= 0)) {
            s->own_over = true;
            return 0;
        }
        if (info->chain == s->chain->id) {
            return 1;
        }
        s->own_at = info->key;
        s->own_at.index++;
        s->own_at.data_id += s->own_at.index == 0 ? 1U : 0U;
    }
    return 0;
}

static bool is_busy(const struct datanode_resync *s, const struct chunk_info *info)
{
    const struct datanode_item *it = datanode_item_find(s->worker, info->key);
    return info->has_pending || (it != NULL && it->locked);
}

/* One key. False: all jobs are busy, the same key again later. */
static bool walk_key(struct datanode_resync *s, const struct chunk_info *own,
                     const struct proto_index_entry *theirs)
{
    struct datanode_walk_side source = {0};
    struct datanode_walk_side syncing = {0};
    if (own != NULL) {
        source = (struct datanode_walk_side){
            .there = true, .identity = own->committed, .digest = own->digest};
    }
    if (theirs != NULL) {
        syncing = (struct datanode_walk_side){.there = true,
                                              .damaged = (theirs->chunk_flags & CHUNK_DAMAGED) != 0,
                                              .identity = datanode_identity(theirs->identity),
                                              .digest = theirs->digest};
    }
    bool quiet = own == NULL || !is_busy(s, own);
    if (quiet && datanode_walk_decide(&source, &syncing) == DATANODE_WALK_SAME) {
        s->same++;
        return true;
    }
    uint32_t bytes = own == NULL ? 0 : own->length;
    struct resync_job *j = job_get(s, bytes);
    if (j == NULL) {
        return false;
    }
    struct chunk_key key = own != NULL ? own->key : datanode_key(theirs->chunk);
    struct datanode_item *it = datanode_item_get(s->worker, s->chain, key);
    if (it == NULL) {
        return false;
    }
    *j = (struct resync_job){.session = s, .item = it, .bytes = bytes};
    datanode_rate_take(&s->worker->copying, bytes, loop_tick_ns(s->worker->loop));
    job_count(j, true);
    job_go(j);
    return true;
}

static void resync_index(struct datanode_resync *s);
static void resync_end(struct datanode_resync *s);

static void left_again(struct loop_timer *t)
{
    struct datanode_resync *s = container_of(t, struct datanode_resync, left_again);
    s->left = s->same = 0;
    s->own_at = s->page_end = (struct chunk_key){0};
    resync_index(s);
}

/* All else is there. Without those the member would show zeros for what was damaged. */
static void walk_left(struct datanode_resync *s)
{
    struct datanode_worker *w = s->worker;
    uint64_t now_ns = loop_tick_ns(w->loop);
    s->phase = RESYNC_LEFT;
    s->left_ms = base_min(base_max(2 * s->left_ms, LEFT_MIN_MS), LEFT_MAX_MS);
    s->left_again.fire = left_again;
    loop_timer_in(w->loop, &s->left_again, s->left_ms * NS_PER_MS);
    if (s->left_told_ns == 0 || now_ns - s->left_told_ns >= LEFT_TOLD_NS) {
        s->left_told_ns = now_ns;
        log_error(w->env.log, "damaged chunks keep a member from being brought up to date",
                  LOG_U64("chain", s->chain->id), LOG_U64("target", s->chain->successor),
                  LOG_U64("chunks", s->left), LOG_U64("data", s->left_key.data_id),
                  LOG_U64("index", s->left_key.index));
    }
}

static void page_over(struct datanode_resync *s)
{
    if (!jobs_idle(s)) {
        return; /* the last of them comes back here */
    }
    if (!s->page_eof) {
        resync_index(s);
    } else if (s->left > 0) {
        walk_left(s);
    } else {
        resync_end(s);
    }
}

static void resync_walk_again(struct loop_timer *t)
{
    resync_walk_soon(container_of(t, struct datanode_resync, walk_again));
}

static void resync_read(struct chunk_ahead *a, int rc)
{
    struct datanode_resync *s = container_of(a, struct datanode_resync, ahead);
    if (rc < 0) {
        loop_timer_in(s->worker->loop, &s->walk_again, PAUSE_MS * NS_PER_MS);
    } else {
        resync_walk_soon(s);
    }
}

static void resync_read_own(struct datanode_resync *s, int rc)
{
    if (rc == -ERR_need) {
        s->ahead.done = resync_read;
        s->ahead.from = s->own_at;
        rc = chunk_store_ahead(s->worker->store, &s->ahead);
    }
    if (rc < 0) {
        loop_timer_in(s->worker->loop, &s->walk_again, PAUSE_MS * NS_PER_MS);
    }
}

/* The smaller of both next keys. False: this round is over. */
static bool walk_one(struct datanode_resync *s, unsigned *looks)
{
    struct chunk_info info;
    int found = own_next(s, &info, looks);
    bool own = found == 1;
    if (found < 0) {
        resync_read_own(s, found);
        return false;
    }
    const struct proto_index_entry *theirs =
        s->page_at < s->page_count ? &s->page[s->page_at] : NULL;
    if (!own && !s->own_over) {
        resync_walk_soon(s); /* looked at enough for one round */
        return false;
    }
    if (!own && theirs == NULL) {
        page_over(s);
        return false;
    }
    int order = 1;
    if (own) {
        order = theirs == NULL ? -1 : chunk_key_compare(info.key, datanode_key(theirs->chunk));
    }
    if (!walk_key(s, order <= 0 ? &info : NULL, order >= 0 ? theirs : NULL)) {
        struct loop *l = s->worker->loop;
        uint64_t wait_ns = datanode_rate_wait_ns(&s->worker->copying, loop_tick_ns(l));
        if (wait_ns > 0) {
            loop_timer_in(l, &s->walk_again, wait_ns);
        } else if (jobs_idle(s)) { /* memory is short, or others have all jobs */
            loop_timer_in(l, &s->walk_again, PAUSE_MS * NS_PER_MS);
        }
        return false; /* a job that ends goes on here */
    }
    s->page_at += order >= 0 ? 1U : 0U;
    if (order <= 0) {
        s->own_at = info.key;
        s->own_at.index++;
        s->own_at.data_id += s->own_at.index == 0 ? 1U : 0U;
    }
    return true;
}

static void resync_walk(struct loop_task *t)
{
    struct datanode_resync *s = container_of(t, struct datanode_resync, walk);
    if (s->stopped || s->phase != RESYNC_WALK || chunk_ahead_active(&s->ahead)) {
        return;
    }
    for (unsigned looks = 0; looks < WALK_BATCH; looks++) {
        if (!walk_one(s, &looks)) {
            return;
        }
    }
    resync_walk_soon(s);
}

/* Who waits for the old rate looks again. */
void datanode_worker_move_rate(struct datanode_worker *w, uint64_t bytes)
{
    LOOP_OWNED(w->loop);
    CHECK(bytes <= DATANODE_MOVE_RATE_MAX);
    datanode_rate_set(&w->copying, bytes, loop_tick_ns(w->loop));
    LIST_FOR_EACH(at, &w->chain_list)
    {
        struct datanode_resync *s = LIST_ENTRY(at, struct datanode_chain, all)->resync;
        if (s != NULL) {
            resync_walk_soon(s);
        }
    }
}

/* ---- The messages of the session itself ---- */

static void resync_ask(struct datanode_resync *s, uint16_t opcode, void *request,
                       struct proto_route *route,
                       void (*done)(struct datanode_ask *a, int rc, const struct peer_reply *r))
{
    s->asking = true;
    s->ask = (struct datanode_ask){
        .done = done, .chain = s->chain, .opcode = opcode, .request = request, .route = route};
    datanode_ask_start(&s->ask);
}

/* True: the session goes on. */
static bool resync_goes_on(struct datanode_resync *s, int rc)
{
    s->asking = false;
    if (s->stopped) {
        resync_release(s);
        return false;
    }
    return rc == 0; /* else a new row has come, and stops it */
}

static void resync_ended(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    (void)r;
    struct datanode_resync *s = container_of(a, struct datanode_resync, ask);
    if (resync_goes_on(s, rc)) {
        log_info(s->worker->env.log, "a member has been brought up to date",
                 LOG_U64("chain", s->chain->id), LOG_U64("epoch", s->epoch),
                 LOG_U64("same", s->same), LOG_U64("copied", s->copied),
                 LOG_U64("dropped", s->dropped));
        datanode_resync_stop(s->chain);
    }
}

static void resync_end(struct datanode_resync *s)
{
    s->phase = RESYNC_END;
    s->end = (struct proto_sync_end_request){
        .same = s->same, .copied = s->copied, .dropped = s->dropped};
    resync_ask(s, PROTO_OP_sync_end, &s->end, &s->end.route, resync_ended);
}

static void resync_indexed(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    struct datanode_resync *s = container_of(a, struct datanode_resync, ask);
    if (!resync_goes_on(s, rc)) {
        return;
    }
    const struct proto_index_reply *m = r->body;
    s->page_count = base_min(m->entries.count, INDEX_PAGE);
    s->page_at = 0;
    s->own_over = false;
    s->page_eof = m->eof;
    s->page_end = datanode_key(m->next);
    bool moves = m->eof || chunk_key_compare(s->page_end, s->own_at) > 0;
    if (!moves || m->entries.count > INDEX_PAGE) {
        log_warn(s->worker->env.log, "an index page makes no sense",
                 LOG_U64("target", s->chain->successor));
        resync_index(s);
        return;
    }
    if (s->page_count > 0) {
        memcpy(s->page, m->entries.at, s->page_count * sizeof *s->page);
    }
    s->phase = RESYNC_WALK;
    resync_walk_soon(s);
}

static void resync_index(struct datanode_resync *s)
{
    if (s->phase == RESYNC_WALK) {
        s->own_at = s->page_end;
    }
    s->phase = RESYNC_INDEX;
    s->index = (struct proto_index_request){.first = datanode_key_wire(s->own_at),
                                            .max_entries = INDEX_PAGE};
    resync_ask(s, PROTO_OP_index, &s->index, &s->index.route, resync_indexed);
}

static void resync_begin(struct datanode_resync *s);

/* Both have the same: no key need be looked at. All that was committed here before is in the sum
 * now, and was in that of the syncing member before; what is committed later gets there, too. */
static bool resync_equal(struct datanode_resync *s, const struct proto_sync_begin_reply *m)
{
    const struct chunk_sum theirs = {.count = m->count, .digest = m->digest, .mark = m->mark};
    struct chunk_sum own;
    if (!m->told || !datanode_resync_sum(s->chain, &own) || !chunk_sum_equal(&own, &theirs)) {
        return false;
    }
    s->same = own.count;
    stats_count(&s->worker->counters.resync_equal, 1);
    return true;
}

static void resync_begun(struct datanode_ask *a, int rc, const struct peer_reply *r)
{
    struct datanode_resync *s = container_of(a, struct datanode_resync, ask);
    if (!resync_goes_on(s, rc)) {
        return;
    }
    if (s->begin.more) {
        resync_begin(s);
    } else if (resync_equal(s, r->body)) {
        resync_end(s);
    } else {
        resync_index(s);
    }
}

static void resync_begin(struct datanode_resync *s)
{
    struct chunk_dead *dead = mem_calloc(DEAD_PAGE, sizeof *dead);
    size_t count =
        dead == NULL ? 0 : chunk_store_dead_list(s->worker->store, s->dead_after, dead, DEAD_PAGE);
    for (size_t i = 0; i < count; i++) {
        s->dead[i] = dead[i].data_id;
        s->dead_after = dead[i].data_id;
    }
    s->begin = (struct proto_sync_begin_request){.dead = {.at = s->dead, .count = count},
                                                 .more = dead == NULL || count == DEAD_PAGE};
    mem_free(dead);
    resync_ask(s, PROTO_OP_sync_begin, &s->begin, &s->begin.route, resync_begun);
}

void datanode_resync_start(struct datanode_chain *c)
{
    CHECK(c->resync == NULL);
    struct datanode_resync *s = mem_zalloc(sizeof *s);
    if (s != NULL) {
        s->dead = mem_calloc(DEAD_PAGE, sizeof *s->dead);
        s->page = mem_calloc(INDEX_PAGE, sizeof *s->page);
    }
    if (s == NULL || s->dead == NULL || s->page == NULL) {
        if (s != NULL) {
            mem_free(s->dead);
            mem_free(s->page);
            mem_free(s);
        }
        c->resync_wanted = true; /* datanode_chains_tick() tries again */
        return;
    }
    c->resync_wanted = false;
    s->worker = c->worker;
    s->chain = c;
    s->epoch = c->row.epoch;
    s->walk.run = resync_walk;
    s->walk_again.fire = resync_walk_again;
    for (unsigned i = 0; i < JOBS; i++) {
        s->job[i].session = s;
    }
    c->worker->sink_count++;
    c->resync = s;
    resync_begin(s);
}
