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
    uint32_t left_epoch; /* the last one in which it served; 0: it does, or it is not known */
    bool aside;          /* offline until an administrator gives up what it has: promote.h */
    uint64_t left_ms;    /* when it left, by the leader's clock; 0: as above */
};

/* The newest promotion by an administrator; epoch 0: there was none. */
struct cluster_promotion {
    uint32_t target, epoch; /* epoch: of the row that it made */
    uint32_t of_epoch;      /* left_epoch and left_ms of what was promoted */
    uint64_t of_ms, time_ms;
};

/* A row in memory of its own. Order: serving members (head first), then syncing, then all others.
 */
struct cluster_row {
    uint32_t chain, epoch, loss_gen, class_id;
    uint32_t born; /* the version of its class's table that began with it */
    struct cluster_promotion promotion;
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
    enum proto_held held;  /* as it says itself */
};

struct cluster_chain_times {
    uint64_t now_ns;
    uint64_t dark_since_ns; /* when the row became dark, or when this leader began, if later */
    uint64_t dark_wait_ns;  /* R3 */
    uint64_t wall_ms;       /* the leader's clock, for people */
};

/* True: *ret is the next row (epoch + 1). False: nothing to change, *ret untouched. `fact` has
 * row->count elements. */
bool cluster_chain_step(const struct cluster_row *row, const struct cluster_fact *fact,
                        const struct cluster_chain_times *times, struct cluster_row *ret);

/* What must hold of every row: order, at most one syncing, last-serving only when none serves,
 * aside only who is offline, targets distinct. */
bool cluster_row_valid(const struct cluster_row *row);

/* -ERR_bad_value when the message is not a valid row. */
NODISCARD int cluster_row_from_proto(const struct proto_row *from, struct cluster_row *ret);
/* `members` (CLUSTER_MEMBERS_MAX) is the memory of ret->members. Without what only leaders need:
 * that is cluster_row_rest_to_proto(). */
void cluster_row_to_proto(const struct cluster_row *from, struct proto_member *members,
                          struct proto_row *ret);
/* Of how many members more is known; and all of that, in the caller's memory: for the record, and
 * for members, which have to know who is aside. */
struct cluster_row_rest {
    struct proto_left left[CLUSTER_MEMBERS_MAX];
    struct proto_promotion promotion;
};
size_t cluster_row_rest_count(const struct cluster_row *row);
void cluster_row_rest_to_proto(const struct cluster_row *from, struct cluster_row_rest *rest,
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
