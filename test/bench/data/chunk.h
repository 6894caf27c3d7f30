/* bench/data/chunk.h -- the chunk protocol as a way of flow.h: READ or WRITE of objects. */
#pragma once

#include "base/rand.h"
#include "flow.h"
#include "link.h"

#define CHUNK_BYTES (UINT32_C(4) << 20)

/* Which objects, in what order, in what pieces; shared with http.h. */
struct chunk_set {
    uint64_t base, objects, bytes; /* first number; how many; of each */
    uint32_t piece;                /* at most CHUNK_BYTES */
    bool random, check;            /* check: in order, and each once */
    struct rand rand;
    uint64_t next;
    struct chunk_cursor {
        uint64_t object, offset;
    } cursor[FLOW_CONNECTIONS_MAX];
};
struct chunk_piece {
    uint64_t object, offset;
    uint32_t len;
    bool again; /* the server was busy */
};
void chunk_set_init(struct chunk_set *s, const struct data_args *a);
/* The next piece for a connection; false: there are no more. A piece ends where a chunk does. */
bool chunk_set_next(struct chunk_set *s, unsigned connection, struct chunk_piece *ret);

struct chunk_way {
    struct flow_way way;
    struct chunk_set set;
    struct link_cluster cluster;
    bool writes, sync;
    uint32_t read_flags; /* PROTO_READ_... */
    uint8_t *data;       /* CHUNK_BYTES: of the WRITE that is made */
    struct chunk_piece asked[FLOW_CONNECTIONS_MAX][FLOW_DEPTH_MAX];
    struct chunk_piece again[FLOW_CONNECTIONS_MAX][FLOW_DEPTH_MAX];
    unsigned again_count[FLOW_CONNECTIONS_MAX];
};
struct chunk_way *chunk_way_new(const struct data_args *a, bool writes);

/* GET from a server of files, one request at a time. */
struct flow_way *http_way_new(const struct data_args *a);
