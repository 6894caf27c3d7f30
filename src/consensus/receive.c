/*
 * consensus/receive.c -- messages of other voters into the engine, with the guards that belong
 * there.
 */
#include "consensus/message.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

#define REJECTED_STALE (1ull << 62)

#define FORMER_MAX 4u /* so many in a row: that life is not over */

/* A configuration that is not the first new entry would be recorded under a wrong index: guard G2.
 * The leader sends the rest again. */
static void cut_before_change(struct raft_append_entries *a)
{
    for (unsigned i = 1; i < a->n_entries; i++) {
        if (a->entries[i].type == RAFT_CHANGE) {
            a->n_entries = i;
        }
    }
}

static struct consensus_peer *peer_of(struct consensus *c, uint64_t id)
{
    for (size_t i = 0; i < CONSENSUS_PEERS; i++) {
        if (c->peers[i].id == id) {
            return &c->peers[i];
        }
    }
    struct consensus_peer *p = &c->peers[c->peer_next++ % CONSENSUS_PEERS];
    *p = (struct consensus_peer){.id = id};
    return p;
}

/* Another life than the one we know: a new one, or late words of a former one, which are few. */
static bool of_former_life(struct consensus_peer *p, uint64_t incarnation)
{
    if (incarnation == p->incarnation) {
        p->former_count = 0;
        return false;
    }
    if (incarnation == p->former && ++p->former_count < FORMER_MAX) {
        return true;
    }
    *p = (struct consensus_peer){.id = p->id, .incarnation = incarnation, .former = p->incarnation};
    return false;
}

/* The engine may lose messages, but an old answer behind a newer one can put its idea of what a
 * follower needs in front of what that one has, and then it never sends it an entry again. */
static bool overtaken(struct consensus *c, const struct consensus_message *m)
{
    struct consensus_peer *p = peer_of(c, m->raft.server_id);
    if (of_former_life(p, m->incarnation)) {
        return true;
    }
    bool old = m->sequence <= p->sequence;
    p->sequence = base_max(p->sequence, m->sequence);
    return old;
}

/* Entries from in front of our snapshot: the engine would refuse them, and when the leader then
 * goes back to its first one, take that for new. What the snapshot holds is committed, so the
 * message is one behind the snapshot, with the entries that it has beyond. */
static void skip_snapshot(const struct consensus *c, struct raft_append_entries *a)
{
    struct consensus_snapshot s = {0};
    if (c->snapshot_bytes == NULL || a->term < c->raft.current_term ||
        consensus_snapshot_decode(c->snapshot_bytes, c->snapshot_len, &s) < 0 ||
        a->prev_log_index >= s.index) {
        return;
    }
    uint64_t skip = base_min(s.index - a->prev_log_index, a->n_entries);
    bool had = a->n_entries > 0;
    a->n_entries -= (unsigned)skip;
    if (a->n_entries > 0) {
        memmove(a->entries, a->entries + skip, a->n_entries * sizeof *a->entries);
    } else if (had) {
        raft_free(a->entries[0].batch);
        raft_free(a->entries);
        a->entries = NULL;
    }
    a->prev_log_index = s.index;
    a->prev_log_term = s.term;
}

/* --- snapshots that a leader sends ---------------------------------------------------------------
 *
 * Held back until the owner has fetched the state behind it (guard G7). Meanwhile the leader must
 * hear from us, and we from it: the engine is given a heartbeat in its name instead, and what it
 * answers is rewritten so that it counts as contact and as nothing else (consensus_hold_result).
 */

static void give(struct consensus *c, struct raft_message *m)
{
    consensus_enter(c);
    c->on_receive(&c->io, m); /* takes what the message owns */
    consensus_leave(c);
}

static void heartbeat_instead(struct consensus *c, const struct consensus_message *m)
{
    const struct raft_install_snapshot *s = &m->raft.install_snapshot;
    struct raft_message beat = {
        .type = RAFT_APPEND_ENTRIES, .server_id = m->raft.server_id, .server_address = m->address};
    beat.append_entries = (struct raft_append_entries){.version = s->version,
                                                       .term = s->term,
                                                       .prev_log_index = s->last_index,
                                                       .prev_log_term = s->last_term};
    give(c, &beat);
}

void consensus_hold_result(const struct consensus *c, struct raft_message *m)
{
    if (c->install.held && m->type == RAFT_APPEND_ENTRIES_RESULT &&
        m->append_entries_result.rejected > 0) {
        m->append_entries_result.rejected = REJECTED_STALE;
    }
}

static void install_hold(struct consensus *c, struct consensus_message *m)
{
    struct consensus_install *i = &c->install;
    const struct raft_install_snapshot *s = &m->raft.install_snapshot;
    bool old = s->term < raft_current_term(&c->raft) || s->last_index <= c->raft.commit_index;
    if (!old) {
        heartbeat_instead(c, m);
    }
    if (old || i->held || c->put.step != PUT_IDLE) {
        consensus_message_free(m); /* the leader sends it again */
        return;
    }
    struct consensus_reference r = {.index = s->last_index, .term = s->last_term};
    r.len = wire_load_u32(s->data.base);
    memcpy(r.bytes, (const uint8_t *)s->data.base + 4, r.len); /* checked by the decoder */
    *i = (struct consensus_install){.held = true, .index = s->last_index, .message = *m};
    i->ready = consensus_applied_index(c) >= i->index; /* the owner has it, only the log does not */
    if (i->ready) {
        consensus_wake(c);
    } else if (c->fsm->ops->restore(c->fsm, &r) < 0) {
        consensus_install_drop(c);
    }
}

void consensus_install_drop(struct consensus *c)
{
    if (c->install.held) {
        consensus_message_free(&c->install.message);
        c->install.held = false;
        c->install.ready = false;
    }
}

/* When the owner is at that state. A leader that has changed since then would refuse the term: the
 * snapshot is committed, so it is as good from the new one.
 * Nothing of the engine's log is lent then. */
void consensus_install_try(struct consensus *c)
{
    struct consensus_install *i = &c->install;
    bool busy = c->applying != 0 || c->ring_count > 0 || c->failed != 0 || c->closing;
    if (!i->held || !i->ready || busy) {
        return;
    }
    if (c->raft.commit_index >= i->index) {
        consensus_install_drop(c); /* the log got here first */
        return;
    }
    if (c->raft.state != RAFT_FOLLOWER || c->raft.follower_state.current_leader.id == 0) {
        return;
    }
    CHECK(c->put.step == PUT_IDLE);
    struct raft_message m = i->message.raft;
    m.server_id = c->raft.follower_state.current_leader.id;
    m.install_snapshot.term = raft_current_term(&c->raft);
    char address[CONSENSUS_ADDRESS_SIZE];
    (void)snprintf(address, sizeof address, "%s", c->raft.follower_state.current_leader.address);
    m.server_address = address;
    i->held = false;
    i->ready = false;
    give(c, &m);
}

int consensus_receive(struct consensus *c, const uint8_t *bytes, size_t len)
{
    LOOP_OWNED(c->env.loop);
    struct consensus_message m;
    int rc = consensus_message_decode(bytes, len, c->cluster, &m);
    if (rc < 0) {
        return rc;
    }
    bool late = m.to != c->id || c->on_receive == NULL || c->failed != 0 || c->closing;
    if (late || overtaken(c, &m)) {
        consensus_message_free(&m);
        return 0; /* lost, as messages may be */
    }
    if (m.raft.type == RAFT_INSTALL_SNAPSHOT) {
        install_hold(c, &m);
        return 0;
    }
    if (m.raft.type == RAFT_APPEND_ENTRIES) {
        skip_snapshot(c, &m.raft.append_entries);
        cut_before_change(&m.raft.append_entries);
    }
    m.raft.server_address = m.address;
    give(c, &m.raft);
    return 0;
}
