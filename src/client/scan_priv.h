/*
 * client/scan_priv.h -- which chunks of a file there are: what is not there is not asked for, cut
 * or read one by one, however large the file is. Owner: the client's loop.
 */
#pragma once

#include "client/inode_priv.h"

struct client_scan_chunk {
    uint32_t index, length;
};
struct client_scan_ask { /* one chain */
    struct client_scan *scan;
    struct client_chain_call chain;
    struct proto_stat_request request;
    struct client_held held;
    unsigned cap_tries;
    bool last_serving;
};
/* All chunks with numbers in [first, end): a page of them. Zero-initialise. */
struct client_scan {
    struct client_inode *inode;
    uint64_t first, end; /* end: what is beyond the largest number is not there */
    void (*done)(struct client_scan *s, int rc); /* never from inside the start */
    /* outcome */
    struct client_scan_chunk *chunk; /* ascending; client_scan_fini() */
    size_t count;
    uint64_t upto; /* `chunk` has all below it */
    /* private */
    size_t capacity, waiting;
    int rc;
    struct client_scan_ask *ask;
    size_t ask_count;
    struct list node; /* of inode.scans */
    struct loop_task nothing;
};
void client_scan_start(struct client_scan *s);
void client_scan_cancel_all(struct client_inode *i); /* `done` comes from inside or later */
/* It must have ended. */
void client_scan_fini(struct client_scan *s);
