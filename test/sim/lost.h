/*
 * sim/lost.h -- contents of which there is no good copy any more, because bytes of the only one
 * went bad: that is legitimate, but it must be told. Clients get errors for them, never other bytes
 * or zeros, and for nothing else; and fsck names the files.
 */
#pragma once

#include "chunk/chunk.h"
#include "world.h"

struct lost_chunk {
    uint64_t ino;
    struct chunk_key key;
};
/* At rest, when no client runs: these are all that there are, by what targets say. */
void lost_check(struct world *w, const struct lost_chunk *lost, size_t count);
