/*
 * cluster/chain.h -- the state machine of one replication chain: chain.md section 4 as a pure
 * function.
 *
 * The metadata leader knows facts about each member (what it heard, what it lost);
 * cluster_chain_step() says what the next row is. Nothing here has a clock, I/O or memory of its
 * own. Rules R1 to R6, T1 to T3 and I8 are those of the protocol text; the leader proposes the new
 * row as a command and publishes it when it was applied.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "proto/proto.h"

#define CLUSTER_MEMBERS_MAX 16u

struct cluster_member {
    uint32_t target;
    enum proto_member_state state;
};

/* A row in memory of its own. Order: serving members (head first), then syncing, then all others.
 */
struct cluster_row {
    uint32_t chain, epoch, loss_gen, class_id;
    uint32_t born; /* the version of its class's table that began with it */
    size_t count;
    struct cluster_member member[CLUSTER_MEMBERS_MAX];
};

/*
 * What the leader knows of the member at the same place of the row. `gone` concerns the present
 * state only: it is cleared when the member enters another state and is present, and for offline
 * and last-serving members when they are heard again.
 */
struct cluster_fact {
    bool gone; /* since it entered its present state: its lease ran out, its process exited, its
                  disk failed, it answered REVOKE, or a newer incarnation registered */
    uint64_t gone_ns;      /* when that was learned */
    uint64_t heard_ns;     /* newest heartbeat of the registered incarnation; 0: never */
    bool present;          /* registered, heartbeats arrive, not sick */
    bool intact;           /* on its return: nothing acknowledged is missing */
    uint32_t known_epoch;  /* of this chain, in its newest heartbeat */
    uint32_t synced_epoch; /* SYNC_END done in this epoch; 0: none */
};

struct cluster_chain_times {
    uint64_t now_ns;
    uint64_t dark_since_ns; /* when the row became dark, or when this leader began, if later */
    uint64_t dark_wait_ns;  /* R3 */
};

/* True: *ret is the next row (epoch + 1). False: nothing to change, *ret untouched. `fact` has
 * row->count elements. */
bool cluster_chain_step(const struct cluster_row *row, const struct cluster_fact *fact,
                        const struct cluster_chain_times *times, struct cluster_row *ret);

/* What must hold of every row: order, at most one syncing, last-serving only when none serves,
 * targets distinct. */
bool cluster_row_valid(const struct cluster_row *row);

/* -ERR_bad_value when the message is not a valid row. */
NODISCARD int cluster_row_from_proto(const struct proto_row *from, struct cluster_row *ret);
/* `members` (CLUSTER_MEMBERS_MAX) is the memory of ret->members. */
void cluster_row_to_proto(const struct cluster_row *from, struct proto_member *members,
                          struct proto_row *ret);
void cluster_row_to_text(const struct cluster_row *row, char *out, size_t size);

/* Roles in a row; all return an index, or row->count when there is none. */
size_t cluster_row_find(const struct cluster_row *row, uint32_t target);
size_t cluster_row_head(const struct cluster_row *row); /* first serving */
size_t cluster_row_tail(const struct cluster_row *row); /* last serving or syncing */
size_t cluster_row_successor(const struct cluster_row *row,
                             uint32_t target); /* among serving + syncing */
size_t cluster_row_predecessor(const struct cluster_row *row, uint32_t target);
size_t cluster_row_serving_count(const struct cluster_row *row);
