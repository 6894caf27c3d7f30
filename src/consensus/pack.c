/*
 * consensus/pack.c -- proposals into entries: what waits when an entry may start goes into it, up
 * to CONSENSUS_PACK_BYTES; CONSENSUS_WINDOW of them are under way at most, because few and large
 * ones are what makes the log fast.
 */
#include "base/mem.h"
#include "consensus/consensus_priv.h"

#define FULL_NS ((uint64_t)CONSENSUS_FULL_MS * 1000000)

static void proposal_finish(struct consensus *c, struct consensus_proposal *p, int rc,
                            uint64_t index)
{
    p->rc = rc;
    p->index = index;
    list_push_back(&c->finished, &p->node);
    consensus_wake(c);
}

static void proposals_finish(struct consensus *c, struct list *from, int rc, uint64_t index)
{
    struct list *node = list_pop_front(from);
    for (; node != NULL; node = list_pop_front(from)) {
        proposal_finish(c, LIST_ENTRY(node, struct consensus_proposal, node), rc, index);
    }
}

void consensus_refuse_waiting(struct consensus *c, int rc)
{
    proposals_finish(c, &c->waiting, rc, 0);
    c->waiting_bytes = 0;
}

void consensus_finish(struct consensus *c)
{
    struct list now;
    list_init(&now);
    list_splice_back(&now, &c->finished);
    struct list *node = list_pop_front(&now);
    for (; node != NULL; node = list_pop_front(&now)) {
        struct consensus_proposal *p = LIST_ENTRY(node, struct consensus_proposal, node);
        if (p->counted) {
            c->used_count--;
            c->used_bytes -= consensus_entry_cost(p->len);
        }
        p->done(p, p->rc, p->index);
    }
}

static int propose_check(const struct consensus *c, const struct consensus_proposal *p)
{
    if (c->failed != 0) {
        return -ERR_failed_before;
    }
    if (c->stop != NULL) {
        return -ERR_shutting_down;
    }
    if (p->len > CONSENSUS_OPERATION_MAX || p->rc < 0) {
        return p->rc < 0 ? p->rc : -EMSGSIZE;
    }
    if (!consensus_leads(c)) {
        return -ERR_not_leader;
    }
    if (c->no_space) {
        return -ENOSPC;
    }
    if (c->full_rc != 0 && !p->urgent) {
        return c->full_rc;
    }
    bool full = c->used_count >= c->queue_count ||
                c->used_bytes + consensus_entry_cost(p->len) > c->queue_bytes;
    if (!full && c->log_limit_bytes > 0) {
        struct journal_info info;
        journal_info(c->journal, &info);
        full = info.size_bytes + c->used_bytes > c->log_limit_bytes;
    }
    return full ? -ERR_busy : 0;
}

void consensus_propose(struct consensus *c, struct consensus_proposal *p)
{
    LOOP_OWNED(c->env.loop);
    list_init(&p->node);
    p->counted = false;
    int rc = propose_check(c, p);
    if (rc < 0) {
        stats_count(&c->stats.busy, rc == -ERR_busy ? 1 : 0);
        proposal_finish(c, p, rc, 0);
        return;
    }
    p->counted = true;
    c->used_count++;
    c->used_bytes += consensus_entry_cost(p->len);
    c->waiting_bytes += consensus_entry_cost(p->len);
    list_push_back(&c->waiting, &p->node);
    consensus_wake(c);
}

/* --- batches -------------------------------------------------------------------------------------
 */

/* The engine keeps the request until it has applied the entry or lost the leadership. */
void consensus_batch_over(struct consensus_batch *b, int rc)
{
    struct consensus *c = b->consensus;
    list_remove(&b->node);
    c->batch_count--;
    proposals_finish(c, &b->proposals, rc, rc == 0 ? b->index : 0);
    if (b->engine_done) {
        raft_free(b);
    } else {
        list_push_back(&c->lingering, &b->node);
    }
}

void consensus_batches_free(struct consensus *c)
{
    struct list *node = list_pop_front(&c->lingering);
    for (; node != NULL; node = list_pop_front(&c->lingering)) {
        raft_free(LIST_ENTRY(node, struct consensus_batch, node));
    }
}

void consensus_lose_batches(struct consensus *c)
{
    LIST_FOR_EACH_SAFE(node, &c->batches)
    {
        struct consensus_batch *b = LIST_ENTRY(node, struct consensus_batch, node);
        if (b != c->applying_batch) { /* the owner has its proposals; it will finish them */
            consensus_batch_over(b, -ERR_unknown_outcome);
        }
    }
}

void consensus_check_batches(struct consensus *c)
{
    bool leads = raft_state(&c->raft) == RAFT_LEADER;
    LIST_FOR_EACH_SAFE(node, &c->batches)
    {
        struct consensus_batch *b = LIST_ENTRY(node, struct consensus_batch, node);
        bool lost = !leads || b->term != raft_current_term(&c->raft);
        if (lost && !b->engine_done) {
            b->engine_done = true;
            consensus_batch_over(b, -ERR_unknown_outcome);
        }
    }
}

struct consensus_batch *consensus_batch_at(struct consensus *c, uint64_t index, uint64_t term)
{
    LIST_FOR_EACH(node, &c->batches)
    {
        struct consensus_batch *b = LIST_ENTRY(node, struct consensus_batch, node);
        if (b->index == index) {
            return b->term == term ? b : NULL;
        }
    }
    return NULL;
}

/* --- room ----------------------------------------------------------------------------------------
 *
 * An entry is begun only when the log certainly has room for it: allocated, so that nothing that is
 * under way ever waits for a full disk. What finds no room waits a little, then it is refused.
 */

#define ROOM_SLACK (CONSENSUS_ENTRY_MAX + 8192u) /* lost at the end of a segment; headers */

static uint64_t room_bytes(const struct consensus *c, const struct journal_info *j)
{
    bool behind = !list_empty(&c->returned) || !list_empty(&c->writes);
    return behind || j->room_bytes < ROOM_SLACK ? 0 : j->room_bytes - ROOM_SLACK;
}

/* An upper bound of what pack_choose() takes. */
static size_t next_bytes(const struct consensus *c)
{
    size_t size = base_min(c->waiting_bytes, CONSENSUS_PACK_BYTES);
    if (!list_empty(&c->waiting)) {
        const struct consensus_proposal *p =
            LIST_ENTRY(c->waiting.next, struct consensus_proposal, node);
        size = base_max(size, consensus_entry_cost(p->len));
    }
    return size + CONSENSUS_ENTRY_HEADER + CONSENSUS_RECORD_HEADER;
}

static void full_end(struct consensus *c)
{
    c->full_since_ns = 0;
    c->full_rc = 0;
    loop_timer_cancel(c->env.loop, &c->full_timer);
}

static void full_fire(struct loop_timer *t)
{
    consensus_wake(container_of(t, struct consensus, full_timer));
}

void consensus_pack_init(struct consensus *c)
{
    c->full_timer.fire = full_fire;
}

static void refuse_ordinary(struct consensus *c)
{
    LIST_FOR_EACH_SAFE(node, &c->waiting)
    {
        struct consensus_proposal *p = LIST_ENTRY(node, struct consensus_proposal, node);
        if (!p->urgent) {
            list_remove(&p->node);
            c->waiting_bytes -= consensus_entry_cost(p->len);
            proposal_finish(c, p, c->full_rc, 0);
        }
    }
}

/* No segment is to be had. False: wait some more. */
static bool full_judge(struct consensus *c, int spare_rc)
{
    uint64_t now = loop_now_ns(c->env.loop);
    if (c->full_since_ns == 0) {
        c->full_since_ns = now;
        loop_timer_in(c->env.loop, &c->full_timer, FULL_NS);
    }
    if (c->full_rc == 0 && c->stop == NULL && now - c->full_since_ns < FULL_NS) {
        return false;
    }
    c->full_rc = err_is(spare_rc, ENOSPC) || spare_rc == -EDQUOT ? -ENOSPC : -ERR_busy;
    return true;
}

/* May the next entry begin? Refuses what has waited long enough for that. */
static bool room_for_next(struct consensus *c)
{
    struct journal_info j;
    journal_info(c->journal, &j);
    uint64_t room = room_bytes(c, &j);
    if (room >= next_bytes(c) + c->reserve_bytes) {
        return true;
    }
    if (j.spare_rc == 0 || !full_judge(c, j.spare_rc)) {
        return false; /* the segment that is being made wakes us, or the timer does */
    }
    refuse_ordinary(c);
    if (room < next_bytes(c)) {
        consensus_refuse_waiting(c, c->full_rc);
        return false;
    }
    return !list_empty(&c->waiting) || c->lease_wanted;
}

/* How much of what waits goes into the next entry. */
static size_t pack_choose(struct consensus *c, struct list *into, uint32_t *ret_count)
{
    size_t size = CONSENSUS_ENTRY_HEADER;
    uint32_t count = 0;
    while (!list_empty(&c->waiting)) {
        struct consensus_proposal *p = LIST_ENTRY(c->waiting.next, struct consensus_proposal, node);
        size_t cost = consensus_entry_cost(p->len);
        if (count > 0 && size + cost > CONSENSUS_PACK_BYTES) {
            break;
        }
        list_remove(&p->node);
        list_push_back(into, &p->node);
        c->waiting_bytes -= cost;
        size += cost;
        count++;
    }
    *ret_count = count;
    return size;
}

static void pack_fill(const struct consensus_batch *b, uint32_t count, uint8_t *at)
{
    consensus_entry_begin(at, count, b->term);
    at += CONSENSUS_ENTRY_HEADER;
    LIST_FOR_EACH(node, &b->proposals)
    {
        const struct consensus_proposal *p = LIST_ENTRY(node, struct consensus_proposal, node);
        at = consensus_entry_add(at, p->bytes, p->len);
    }
}

/* One entry per raft_apply(), a multiple of 8 long: guard G1. No callback: the engine keeps those
 * of finished requests until it is closed, as long as nobody makes it call them. */
static void pack_one(struct consensus *c)
{
    struct consensus_batch *b = raft_calloc(1, sizeof *b);
    uint32_t count = 0;
    list_init(&b->proposals);
    b->consensus = c;
    b->submitted_ns = loop_now_ns(c->env.loop);
    b->term = raft_current_term(&c->raft);
    b->index = raft_last_index(&c->raft) + 1;
    struct raft_buffer buf = {.len = pack_choose(c, &b->proposals, &count)};
    buf.base = raft_malloc(buf.len);
    CHECK(buf.len % 8 == 0 && buf.len <= CONSENSUS_ENTRY_MAX);
    pack_fill(b, count, buf.base);
    c->lease_wanted = false;
    consensus_enter(c);
    int bad = raft_apply(&c->raft, &b->req, &buf, 1, NULL);
    list_push_back(&c->batches, &b->node);
    c->batch_count++;
    if (bad != 0) {
        raft_free(buf.base);
        b->engine_done = true;
        consensus_batch_over(b, c->failed != 0 ? -ERR_failed_before : -ERR_not_leader);
        consensus_leave(c);
        return;
    }
    consensus_leave(c);
    stats_count(&c->stats.operations, count);
    stats_count(&c->stats.entries, 1);
    stats_count(&c->stats.bytes, buf.len);
}

/* A segment could be made again. */
static void full_check(struct consensus *c)
{
    struct journal_info j;
    if (c->full_since_ns != 0) {
        journal_info(c->journal, &j);
        if (j.spare_rc == 0) {
            full_end(c);
        }
    }
}

void consensus_pack(struct consensus *c)
{
    if (c->failed != 0) {
        return; /* they will hear of that */
    }
    if (!list_empty(&c->waiting) && !consensus_leads(c)) {
        consensus_refuse_waiting(c, -ERR_not_leader);
    }
    if (!list_empty(&c->waiting) && c->no_space) {
        consensus_refuse_waiting(c, -ENOSPC);
    }
    full_check(c);
    while (consensus_leads(c) && c->batch_count < CONSENSUS_WINDOW && !c->snapshot_wanted &&
           (!list_empty(&c->waiting) || (c->lease_wanted && c->batch_count == 0)) &&
           room_for_next(c)) {
        pack_one(c);
    }
}
