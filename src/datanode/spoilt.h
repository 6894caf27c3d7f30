/*
 * datanode/spoilt.h -- a damaged content as the disk gives it, for others that are to have it as
 * damaged as it is here (doc/design/0051, 0067). Private to the folder.
 */
#pragma once

#include "chunk/read.h"

/* Set all but the last group; the chunk is locked. */
struct datanode_spoilt {
    void (*done)(struct datanode_spoilt *s, int rc);
    struct chunk_store *store;
    struct chunk_key key;
    enum chunk_which which;
    struct chunk_identity identity; /* of that content */
    uint32_t length, digest;        /* not 0 bytes */
    uint8_t *to;
    uint32_t *crc; /* CHUNK_CELLS_MAX: as they should be */

    bool stopped; /* by the caller: it ends soon */
    uint32_t cell;
    struct chunk_read read;
};

/* 0: what the disk does not give is zeros. -ERR_corrupt: the list of its checksums is bad, too.
 * Others: perhaps later. */
void datanode_spoilt_read(struct datanode_spoilt *s);
