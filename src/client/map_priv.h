/*
 * client/map_priv.h -- the cluster map as this client knows it, and calls to members of chains.
 *
 * Rows never go backward (R11): a row is taken only with a higher epoch, from the map, from a
 * refusal, whichever comes first. Owner: the client's loop.
 */
#pragma once

#include "client/batch_priv.h"
#include "client/choose_priv.h"
#include "client/core_priv.h"
#include "cluster/chain.h"

#define CLIENT_READ_MS 3000u /* one attempt of a read, at first */

/* Waits for the end of one fetch of the map. */
struct client_map_waiter {
    void (*done)(struct client_map_waiter *w, int rc);
    struct list node;
};

NODISCARD int client_map_init(struct opendfs *fs);
void client_map_fini(struct opendfs *fs);
void client_map_session_ready(struct opendfs *fs); /* fetches it when it was never there */
void client_map_new_session(struct opendfs *fs);   /* targets hear of it */

/* All waiters that come before the answer share one fetch that began after them. */
void client_map_refresh(struct opendfs *fs, struct client_map_waiter *w);
void client_map_unwait(struct client_map_waiter *w);
void client_map_changed(struct opendfs *fs, uint64_t epoch); /* pushed */
void client_map_take_row(struct opendfs *fs, const struct proto_row *told);
/* NULL: not known (yet). */
const struct cluster_row *client_map_row(struct opendfs *fs, uint32_t chain);
/* Chain of a chunk. -ERR_waiting_row: the table is not known yet. */
NODISCARD int client_map_chain(struct opendfs *fs, const struct proto_layout *layout,
                               uint32_t index, uint32_t *ret);
/* The peer of a target; made when it is first wanted. -ERR_waiting_row: no address known. */
NODISCARD int client_map_peer(struct opendfs *fs, uint32_t target, struct peer **ret);
/* False: it was tried and does not answer. */
bool client_map_reachable(struct opendfs *fs, uint32_t target);
/* A target as a place to read from. It stays where it is as long as the map. */
struct client_source {
    struct client_load load;
    enum client_distance distance;
    struct client_gathering gathering;
    struct stats *stats; /* "targets/N"; NULL: no memory */
    struct stats_counter reads, failures, bad_cells, hedges;
    struct stats_histogram read_time;
};
struct client_source *client_map_source(struct opendfs *fs, uint32_t target); /* NULL: not known */
/* "target 3 (host:9410)", as far as it is known. */
void client_map_target_text(struct opendfs *fs, uint32_t target, struct text *out);
struct client_map_target {
    const char *name, *host, *rack, *address; /* lent; "": not known */
};
void client_map_target(struct opendfs *fs, uint32_t target, struct client_map_target *ret);
struct client_class {
    uint32_t id, copies;
    char name[CLIENT_LABEL_MAX + 1];
};
const struct client_class *client_map_class(struct opendfs *fs, uint32_t id); /* NULL: not known */
/* Connections end; nothing new begins. */
void client_map_stop(struct opendfs *fs);

/*
 * One request to a chain, with what chain.md says about failures: rows are taken from refusals,
 * the map is fetched again, members that do not answer are left, waiting doubles; all in the time
 * of the client. Embedded; the owner looks at each answer first.
 */
enum client_verdict {
    CHAIN_FINAL,   /* this is the outcome */
    CHAIN_NOW,     /* again, at once */
    CHAIN_LATER,   /* again, after a while that doubles */
    CHAIN_REFRESH, /* again, when the map has been fetched */
    CHAIN_HELD,    /* the owner calls client_chain_resume() */
};
struct client_chain_call;
struct client_chain_ops {
    /* Which member; an index into the row, or row->count: none. */
    size_t (*pick)(struct client_chain_call *c, const struct cluster_row *row);
    /* Last changes to the request, before each sending. */
    void (*prepare)(struct client_chain_call *c);
    /* Every answer first; `common` is what chain.md's table says. */
    enum client_verdict (*judge)(struct client_chain_call *c, const struct peer_reply *r,
                                 enum client_verdict common);
    /* Once. `r` is lent; the call may be used again. */
    void (*done)(struct client_chain_call *c, const struct peer_reply *r);
};
struct client_chain_call {
    const struct client_chain_ops *ops;
    struct opendfs *fs;
    struct peer_call peer;
    struct proto_route *route;         /* in the request */
    const struct proto_layout *layout; /* of the file: the chain is found by it and `index` */
    uint32_t index;
    uint32_t chain;               /* layout NULL: given */
    uint64_t spread;              /* chooses the link and the member */
    struct client_gather *gather; /* it may go with others; NULL: always by itself */
    bool settles; /* an update: after a doubt only the answer on a newer link counts (R11) */
    bool hurries; /* others can answer as well: does not wait long for one */
    /* what is known */
    uint32_t target; /* of the newest attempt; 0: none */
    unsigned attempts;
    bool doubtful;     /* some attempt may have been executed */
    bool refused_late; /* or was refused by a member that lost its role, perhaps after it had it */
    uint64_t began_ns; /* the first attempt */
    /* private */
    uint64_t wait_ms;
    bool active, cancelled;
    struct loop_timer timer;
    struct client_map_waiter refresh;
};
void client_chain_start(struct opendfs *fs, struct client_chain_call *c);
void client_chain_resume(struct client_chain_call *c, enum client_verdict v);
/* Instead of it: the owner has the outcome. `done` comes from inside. */
void client_chain_end(struct client_chain_call *c, int rc);
/* `done` with -ERR_cancelled comes from inside or later. */
void client_chain_cancel(struct client_chain_call *c);
/* Of a call that reads: it does not wait for a target that there was a link to and is none any
 * more; others have the same. */
uint32_t client_read_flags(const struct peer *p);
/* The attempt under way is given up: `judge` is told so, from inside or later. */
void client_chain_abandon(struct client_chain_call *c);
