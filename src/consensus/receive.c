/*
 * consensus/receive.c -- messages of other voters into the engine, with the guards that belong
 * there.
 */
#include "consensus/message.h"

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

int consensus_receive(struct consensus *c, const uint8_t *bytes, size_t len)
{
    LOOP_OWNED(c->env.loop);
    struct consensus_message m;
    int rc = consensus_message_decode(bytes, len, c->cluster, &m);
    if (rc < 0) {
        return rc;
    }
    bool late = m.to != c->id || c->on_receive == NULL || c->failed != 0 || c->closing;
    if (late || overtaken(c, &m) || m.raft.type == RAFT_INSTALL_SNAPSHOT) {
        consensus_message_free(&m);
        return 0; /* lost, as messages may be */
    }
    if (m.raft.type == RAFT_APPEND_ENTRIES) {
        cut_before_change(&m.raft.append_entries);
    }
    m.raft.server_address = m.address;
    consensus_enter(c);
    c->on_receive(&c->io, &m.raft); /* takes what the message owns */
    consensus_leave(c);
    return 0;
}
