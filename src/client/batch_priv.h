/*
 * client/batch_priv.h -- small reads that begin in one round of the loop and go to one target, sent
 * as one message. Nobody waits for others: what is alone goes alone. Owner: the client's loop.
 */
#pragma once

#include "base/list.h"
#include "loop/loop.h"
#include "peer/client.h"

struct client_batch;
struct opendfs;

/* Of a target, for the round. */
struct client_gathering {
    unsigned count;
    struct client_batch *filling; /* NULL: none */
    bool alone;                   /* it does not know the message: an older one */
};

/* One read, embedded in its owner. */
struct client_gather {
    /* As it goes by itself; its `done` is told the outcome in either way. */
    struct peer_call *call;
    const struct proto_read_request *request; /* lent until then */
    /* private */
    struct opendfs *fs;
    uint32_t target;
    struct list node;           /* waits for the end of the round; or of the batch */
    struct client_batch *batch; /* NULL: not sent yet */
    unsigned place;             /* in it */
    bool active;
};
bool client_gather_small(const struct proto_read_request *m); /* may it be one of several? */
void client_gather_start(struct opendfs *fs, uint32_t target, struct client_gather *g);
/* Is it with others, or about to be? Else the call itself is under way, or nothing. */
static inline bool client_gather_active(const struct client_gather *g)
{
    return g->active;
}
/* `done` with -ERR_cancelled, from inside. */
void client_gather_cancel(struct client_gather *g);
void client_gather_init(struct opendfs *fs);
void client_gather_fini(struct opendfs *fs); /* no read is left */
