/*
 * client/scan_priv.h -- what there is of a file: questions to its chains, with the chunks that a
 * range has as the answer, so that what is not there is not asked for, cut or read one by one.
 * Owner: the client's loop.
 */
#pragma once

#include "client/inode_priv.h"

/* A question to a serving member that has read nothing and changes nothing. */
struct client_look {
    struct client_inode *inode;
    void (*done)(struct client_look *l, const struct peer_reply *r); /* later; r->body is lent */
    union {
        struct proto_stat_request stat;
        struct proto_extents_request extents;
    } request;
    /* private */
    struct client_chain_call chain;
    struct proto_capability *capability; /* in the request */
    struct client_held held;
    struct list node; /* of inode.looks */
    unsigned cap_tries;
    bool last_serving;
};
void client_look_stat(struct client_look *l, uint32_t index); /* of the chain that has this chunk */
void client_look_extents(struct client_look *l);
/* `done` comes from inside. */
void client_look_cancel_all(struct client_inode *i);

struct client_scan_chunk {
    uint32_t index, length;
    uint64_t allocated;
    bool dense; /* bytes everywhere */
};
struct client_scan_ask { /* one chain */
    struct client_scan *scan;
    struct client_look look;
};
/* All chunks with numbers in [first, end): a page of them. Zero-initialise. */
struct client_scan {
    struct client_inode *inode;
    uint64_t first, end; /* end: what is beyond the largest number is not there */
    /* outcome; the inode wakes */
    struct client_scan_chunk *chunk; /* ascending */
    size_t count;
    uint64_t upto; /* `chunk` has all below it */
    int rc;
    /* private */
    size_t capacity, waiting, ask_count;
    struct client_scan_ask *ask;
};
/* 1: it has ended; 0: it is under way; or an error. */
int client_scan_start(struct client_scan *s);
int client_scan_state(const struct client_scan *s);
struct client_scan *client_scan_free(struct client_scan *s); /* NULL is fine; it must have ended */
