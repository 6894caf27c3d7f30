/* datanode/neighbor_priv.h -- links to other members. See neighbor.c. */
#pragma once

#include "base/dict.h"
#include "base/list.h"
#include "chunk/chunk.h"
#include "peer/client.h"

#define NS_PER_MS UINT64_C(1000000)
#define DATANODE_SLOTS 4u /* bulk links of chunks to each neighbor; one always uses the same */
#define DATANODE_SLOT_ASK (DATANODE_SLOTS + 1) /* of questions that are about no chunk */
#define DATANODE_LINKS DATANODE_SLOT_ASK       /* bulk links in all */
#define DATANODE_SUSPECT_NS (2000 * NS_PER_MS) /* R6 */

struct datanode_worker;

struct datanode_send { /* waits for a link */
    void (*ready)(struct datanode_send *s, struct peer_link *l);
    struct list node;
};
struct datanode_neighbor {
    struct dict_node node;
    struct list all;
    struct datanode_worker *worker;
    struct peer_user user;
    uint32_t target;
    bool known; /* its address is */
    struct net_address address;
    struct peer *peer;
    struct peer_call ping[DATANODE_LINKS + 1];
    struct list waiting[DATANODE_LINKS + 1];
    struct loop_task renew;                 /* the address has changed */
    bool watched, accused;                  /* watched: a chain needs it; accused: it diverged */
    uint64_t watched_ns, heard_ns;          /* heard: on the control link */
    uint64_t missed_ns[DATANODE_LINKS + 1]; /* since when a bulk link is missed; 0: it is not */
};
struct datanode_neighbor *datanode_neighbor_get(struct datanode_worker *w, uint32_t target);
void datanode_neighbor_set_address(struct datanode_neighbor *n, struct proto_bytes address);
/* The link, or NULL: then `s` waits. Zero-initialise it. */
struct peer_link *datanode_neighbor_link(struct datanode_neighbor *n, unsigned slot,
                                         struct datanode_send *s);
/* One call on the control link; `model` is copied into `c`. False: it is not known where it is. */
NODISCARD bool datanode_neighbor_call(struct datanode_neighbor *n, struct peer_call *c,
                                      const struct peer_call *model);
void datanode_neighbor_unwait(struct datanode_send *s);
void datanode_neighbor_drop(struct datanode_neighbor *n, unsigned slot, const char *reason);
/* How a call of an attempt has ended: one without an answer in time may still be under way there,
 * and its link ends before the next attempt (R10). */
void datanode_neighbor_answered(struct datanode_neighbor *n, unsigned slot,
                                const struct peer_reply *r);
unsigned datanode_slot_of(struct chunk_key key);
/* Asks those that a chain needs whether they are there; forgets the others. */
void datanode_neighbors_tick(struct datanode_worker *w);
size_t datanode_neighbors_suspects(struct datanode_worker *w, uint32_t *ret, size_t max);
void datanode_neighbors_free(struct datanode_worker *w);
extern const struct dict_ops datanode_neighbor_ops;
