/*
 * datanode/repair.h -- damaged chunks (section 10). Private to the folder.
 */
#pragma once

#include "base/base.h"
#include "chunk/chunk.h"

struct datanode_chain;
struct datanode_item;
struct datanode_worker;
struct peer_request;
struct peer_user;

/* Gets a good copy of the same identity from another member. No effect when that is under way, or
 * too many are: see datanode_repair_watch(). */
void datanode_repair_start(struct datanode_chain *c, struct datanode_item *it);
void datanode_repair_key(struct datanode_chain *c, struct chunk_key key);

/* The end of this worker: nobody is asked any more. */
void datanode_repairs_end(struct datanode_worker *w);

/* The same for one that holds the chunk's lock, goes on holding it and waits. `repaired` comes
 * later, exactly once: 0; -ERR_corrupt, -ERR_no_space: it is not to be had (10.4); -ERR_busy: it
 * may be later. False: too many are under way. */
struct datanode_repair_wait {
    void (*repaired)(struct datanode_repair_wait *w, int rc);
    bool nobody; /* out, with -ERR_corrupt: each member of the row has said that it has none */
};
NODISCARD bool datanode_repair_wait(struct datanode_chain *c, struct datanode_item *it,
                                    struct datanode_repair_wait *wait);

/* There are, or may be, damaged chunks: as long as that is so they are tried again, more and more
 * rarely, for another member may be back, or may have the same content by now. */
void datanode_repair_watch(struct datanode_worker *w);
void datanode_repair_unwatch(struct datanode_worker *w);
/* A resync has brought a chunk that is damaged at its source, too, and nobody has a good one. */
void datanode_repair_told(struct datanode_chain *c, struct chunk_key key);
/* One more was found. When they are too many to be repaired one by one (10.1), this target leaves
 * the chains that others serve: it is compared and brought up to date before it serves again. */
void datanode_repair_found(struct datanode_worker *w);

void datanode_on_fetch(struct peer_user *user, struct peer_request *r);
