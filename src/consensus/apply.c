/*
 * consensus/apply.c -- committed entries to the owner, one after the other, at its pace.
 *
 * The engine's apply only puts the entry into the ring (guard G9); the task hands over the front
 * one and goes on when the owner has said consensus_applied().
 */
#include "base/mem.h"
#include "consensus/consensus_priv.h"

#define RING_FIRST 64u
#define RING_KEPT 65536u

static struct consensus_committed *ring_at(struct consensus *c, size_t i)
{
    return &c->ring[(c->ring_first + i) & (c->ring_size - 1)];
}

static void ring_grow(struct consensus *c)
{
    if (c->ring_count < c->ring_size) {
        return;
    }
    size_t size = c->ring_size == 0 ? RING_FIRST : 2 * c->ring_size;
    struct consensus_committed *bigger = raft_malloc(size * sizeof *bigger);
    for (size_t i = 0; i < c->ring_count; i++) {
        bigger[i] = *ring_at(c, i);
    }
    raft_free(c->ring);
    c->ring = bigger;
    c->ring_size = size;
    c->ring_first = 0;
}

void consensus_ring_clear(struct consensus *c)
{
    raft_free(c->ring);
    c->ring = NULL;
    c->ring_size = 0;
    c->ring_count = 0;
}

void consensus_ring_push(struct consensus *c, uint64_t index, const struct raft_buffer *buf)
{
    ring_grow(c);
    c->ring_count++;
    *ring_at(c, c->ring_count - 1) =
        (struct consensus_committed){.index = index, .bytes = buf->base, .len = buf->len};
    consensus_wake(c);
}

int consensus_raft_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct consensus *c = fsm->data;
    *result = NULL;
    uint64_t index = raft_last_applied(&c->raft) + 1;
    if (index > c->skip_to) {
        consensus_ring_push(c, index, buf);
    }
    struct consensus_batch *b = consensus_batch_at(c, index, raft_current_term(&c->raft));
    if (b != NULL) {
        b->engine_done = true;
    }
    return 0; /* always: guard G1 */
}

static void applied_one(struct consensus *c)
{
    c->ring_first = (c->ring_first + 1) & (c->ring_size - 1);
    c->ring_count--;
    struct consensus_batch *b = c->applying_batch;
    c->applying = 0;
    c->applying_batch = NULL;
    if (b != NULL) {
        uint64_t now = loop_now_ns(c->env.loop);
        stats_sample(&c->stats.commit_time, now - b->submitted_ns);
        if (raft_state(&c->raft) == RAFT_LEADER && b->term == c->leader_term) {
            c->lease_from_ns = base_max(c->lease_from_ns, b->submitted_ns);
        }
        consensus_batch_over(b, 0);
    }
    if (c->ring_count == 0 && c->ring_size > RING_KEPT) {
        consensus_ring_clear(c); /* after a long replay */
    }
    consensus_wake(c);
}

void consensus_applied(struct consensus *c, uint64_t index)
{
    LOOP_OWNED(c->env.loop);
    if (c->closing) {
        return; /* too late: it will be executed again at the next start */
    }
    CHECK(c->applying == index && index != 0);
    applied_one(c);
}

uint64_t consensus_applied_index(const struct consensus *c)
{
    if (c->ring_count > 0) {
        return base_max(c->ring[c->ring_first].index - 1, c->skip_to);
    }
    return c->started ? base_max(c->raft.last_applied, c->skip_to) : c->skip_to;
}

static void apply_one(struct consensus *c)
{
    const struct consensus_committed *e = ring_at(c, 0);
    if (e->index <= c->skip_to) { /* the owner has got a later state meanwhile */
        applied_one(c);
        return;
    }
    int rc = consensus_entry_decode(e->bytes, e->len, &c->entry);
    if (rc < 0) {
        consensus_fail(c, rc, "entry %llu of the log", (unsigned long long)e->index);
        return;
    }
    c->entry.index = e->index;
    c->applying = e->index;
    c->applying_batch = consensus_batch_at(c, e->index, c->entry.term);
    if (c->applying_batch != NULL) {
        c->entry.local = c->applying_batch->proposals.next;
        c->entry.local_end = &c->applying_batch->proposals;
    }
    if (c->entry.count == 0) {
        applied_one(c); /* it only renewed the lease */
        return;
    }
    c->fsm->ops->apply(c->fsm, &c->entry);
}

void consensus_apply(struct consensus *c)
{
    for (unsigned i = 0; i < CONSENSUS_APPLY_ROUND; i++) {
        if (c->applying != 0 || c->ring_count == 0 || c->failed != 0 || c->closing) {
            return;
        }
        apply_one(c);
    }
    consensus_wake(c);
}
