/*
 * consensus/receive.c -- messages of other voters into the engine, with the guards that belong
 * there.
 */
#include "consensus/message.h"

#include <string.h>

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

int consensus_receive(struct consensus *c, const uint8_t *bytes, size_t len)
{
    LOOP_OWNED(c->env.loop);
    struct consensus_message m;
    int rc = consensus_message_decode(bytes, len, c->cluster, &m);
    if (rc < 0) {
        return rc;
    }
    bool late = m.to != c->id || c->on_receive == NULL || c->failed != 0 || c->closing;
    if (late || m.raft.type == RAFT_INSTALL_SNAPSHOT) {
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
