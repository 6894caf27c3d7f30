/*
 * datanode/ask.h -- a question to the successor that is asked again until it is answered or a new
 * row makes it void: SYNC, REMOVE and the messages of a resync. FORWARD has its own way (below.c).
 * Private to the folder.
 */
#pragma once

#include "datanode/worker_priv.h"

/* Zero-initialise; set done, chain, opcode, request, route (the first field of the request), slot
 * (0: it is about no chunk), and data if there is any; then start. Caller-owned. */
struct datanode_ask {
    /* Once. 0: the reply is in `r`. -ERR_stale_epoch: there is a new row. -ERR_cancelled: stopped.
     * Others: final words of the successor, if `final` says so. */
    void (*done)(struct datanode_ask *a, int rc, const struct peer_reply *r);
    bool (*final)(int rc); /* NULL: none is */
    struct datanode_chain *chain;
    const void *request;
    struct proto_route *route;
    uint16_t opcode;
    unsigned slot;
    struct slice data; /* lent until done */
    /* private */
    uint32_t epoch, turn, rest_ms;
    struct datanode_neighbor *neighbor;
    struct datanode_send send;
    struct peer_call call;
    struct loop_timer again;
    bool active, calling, stopped;
};
void datanode_ask_start(struct datanode_ask *a);
/* `done` comes later with -ERR_cancelled, except when nothing was under way: then false. */
bool datanode_ask_stop(struct datanode_ask *a);
