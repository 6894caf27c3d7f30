/*
 * datanode/stream.h -- way (c) of a READ: a pinned range past the page cache into buffers, all of
 * its parts at once. What is read for one request leaves while the next one's is read. What the
 * block cache has is not read; what it has not, and is a whole block, is read into a block of it.
 *
 * Owner: the loop of the disk. The pieces stay pinned until `done`, the buffers as long as somebody
 * has a reference.
 */
#pragma once

#include "base/buf.h"
#include "datanode/way.h"
#include "disk/disk.h"

struct datanode_blocks;
struct datanode_worker;
struct datanode_stream;
struct net_conn_response_pin; /* the reader */

struct datanode_stream_options {
    struct disk *disk;
    struct buf_pool *pool;           /* a budget of its own */
    struct datanode_blocks *blocks;  /* or NULL */
    const struct chunk_pin *pin;     /* of the range; until `done` */
    const struct chunk_piece *piece; /* in files, or holes; datanode_way_reads() is within bounds */
    unsigned count;
    /* Once, not from inside: 0; -EOPNOTSUPP: the file system cannot; or why it failed, a piece that
     * is shorter than it should be included. */
    void (*done)(struct net_conn_response_pin *reader, int rc);
    struct net_conn_response_pin *reader;
};
/* 1: nothing had to be read, `done` does not come. -ERR_busy: no buffers, or no memory; `done` does
 * not come. */
NODISCARD int datanode_stream_start(const struct datanode_stream_options *opt,
                                    struct datanode_stream **ret);
/* What was read or found, for one answer: up to DATANODE_STREAM_PARTS slices, in order; lent. */
unsigned datanode_stream_parts(const struct datanode_stream *s, struct slice *ret);
/* After `done`. NULL is fine. */
struct datanode_stream *datanode_stream_free(struct datanode_stream *s);
/* worker.c. With the first such read: what it reads into is made known to the disk. */
void datanode_worker_lend(struct datanode_worker *w);
