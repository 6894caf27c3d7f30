/*
 * datanode/way.h -- which way the bytes of a READ take to the client (design, section 6). Pure.
 *
 * In no way does the loop wait for the disk: what is not in the page cache is read by the file
 * engine, into the page cache or past it.
 */
#pragma once

#include "chunk/read.h"

enum datanode_way {
    DATANODE_WAY_CACHED,   /* (a) memory, or the page cache: gathered, or by sendfile */
    DATANODE_WAY_FETCHED,  /* (b) the file engine has brought it into the page cache before */
    DATANODE_WAY_STREAMED, /* (c) past the page cache into buffers, sent from there */
    DATANODE_WAY_COPIED,   /* by way of the store: in pieces of several kinds, or to be verified */
    DATANODE_WAYS
};

#define DATANODE_SMALL_BYTES (32u << 10)   /* at once with its header, if it is in the page cache */
#define DATANODE_GATHER_BYTES (128u << 10) /* with its header, if it had to be brought in */
#define DATANODE_STREAM_PART (1u << 20)    /* of a buffer of way (c) */
#define DATANODE_STREAM_PARTS 4u           /* CHUNK_LENGTH_MAX in all */
#define DATANODE_STREAM_READS 8u           /* requests to the disk for one READ */

struct datanode_way_view {
    bool resident; /* all of it is in the page cache */
    bool stream;   /* the client reads a large file in order */
    bool able;     /* the file system can read past the page cache */
    uint32_t length;
    unsigned reads; /* datanode_way_reads() */
};
/* CACHED, FETCHED or STREAMED, of a range whose pieces are all in files, or holes. */
enum datanode_way datanode_way_choose(const struct datanode_way_view *v);
/* How many requests to the disk way (c) would make; 0: the pieces lie so that it cannot. */
unsigned datanode_way_reads(const struct chunk_piece *piece, unsigned count);
