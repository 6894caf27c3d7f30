/*
 * consensus/begin.h -- a directory whose log begins behind a state that the owner has already: what
 * consensus_open() then finds. Start-up and tools only: blocks.
 */
#pragma once

#include "consensus/consensus.h"

struct consensus_begin {
    const struct env *env;
    const char *directory; /* exists, has no log */
    uint8_t cluster[CONSENSUS_CLUSTER_BYTES];
    uint64_t id;                                 /* the only voter */
    const struct consensus_reference *reference; /* index and term of the state, and its name */
};
/* -EEXIST: there is one. Durable when it returns. */
NODISCARD int consensus_begin(const struct consensus_begin *b, struct err *e);
