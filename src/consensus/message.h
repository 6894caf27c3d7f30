/*
 * consensus/message.h -- raft's messages as bytes. Little-endian.
 *
 * Header: magic u32 | version u16 | type u16 | cluster 16 bytes | from u64 | to u64 | version of
 * the message u32 | address of the sender, counted. Then, by type: append entries: term, previous
 * index, previous term, commit index u64 | count u32 | per entry: term u64, type u32, bytes,
 * counted append entries result: term, rejected, last index u64 | features u32 | capacity u32
 *   request vote: term, candidate, last index, last term u64 | flags u32 (1 disrupt, 2 pre-vote)
 *   request vote result: term u64 | flags u32 (1 granted, 2 pre-vote) | features u32 | capacity u32
 *   install snapshot: term, index, its term, index of the configuration u64 | configuration,
 * counted | data, counted timeout now: term, last index, last term u64
 */
#pragma once

#include "consensus/consensus_priv.h"

#define CONSENSUS_MESSAGE_MAGIC 0x5446524fu /* "ORFT" */
#define CONSENSUS_MESSAGE_VERSION 1u
#define CONSENSUS_MESSAGE_ENTRIES 1024u          /* of one message */
#define CONSENSUS_MESSAGE_ENTRY_BYTES (2u << 20) /* where a message takes no more entries */

void consensus_message_send(struct consensus *c, const struct raft_message *m);
/* How many entries of an append go into one message. */
unsigned consensus_message_entries(const struct raft_append_entries *a);
struct consensus_envelope {
    const uint8_t *cluster;
    uint64_t from, incarnation, sequence;
    const char *address;
};
/* Bytes it takes; writes them when `out` is not NULL. */
size_t consensus_message_encode(const struct raft_message *m, const struct consensus_envelope *v,
                                uint8_t *out, size_t size);
/* ERR_corrupt class; -ERR_wrong_cluster. Nothing is owned then. */
NODISCARD int consensus_message_decode(const uint8_t *bytes, size_t len, const uint8_t *cluster,
                                       struct consensus_message *ret);
void consensus_message_free(struct consensus_message *m);
