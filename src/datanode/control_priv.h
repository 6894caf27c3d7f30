/* datanode/control_priv.h -- the metadata leader: registration, heartbeats, the lease. See
 * control.c. */
#pragma once

#include "chunk/store.h"
#include "datanode/health.h"
#include "loop/loop.h"
#include "peer/client.h"

struct datanode_worker;

#define DATANODE_DEAD_FIRST 64u   /* in the field that all versions know */
#define DATANODE_DEAD_NAMED 1088u /* in all */
#define DATANODE_FORGET_BATCH 64u /* one stable write */

struct datanode_control;
struct datanode_forgetting {
    struct chunk_change change;
    struct datanode_control *control;
};

struct datanode_control {
    struct peer *peer;
    struct peer_user user;
    uint32_t target; /* 0: not registered */
    bool registered_once;
    bool registering, beating, beat_again, mapping, map_wanted;
    bool leaving, left; /* the heartbeat under way says that this worker stops; one was answered */
    uint64_t lease_end_ns, lease_ms, heartbeat_ms;
    uint64_t map_epoch;
    uint64_t wall_base_ms; /* the leader's wall clock less our uptime */
    struct peer_call register_call, beat_call, map_call;
    struct proto_register_request register_request;
    struct proto_heartbeat_request beat;
    struct proto_cluster_map_request map;
    struct proto_chain_report *reports;
    size_t reports_capacity;
    uint32_t suspects[256];
    char sick[DATANODE_HEALTH_TEXT];
    struct loop_timer beat_timer, register_timer, map_timer;
    struct loop_task beat_soon;
    struct datanode_forgetting forget[DATANODE_FORGET_BATCH];
    uint64_t forget_ids[DATANODE_DEAD_NAMED];
    size_t forget_count;
    unsigned forgetting;                                /* of `forget`, in flight */
    uint64_t dead_ids[DATANODE_DEAD_NAMED], dead_after; /* named in a heartbeat; how far the list
                                                           was looked at */
};
NODISCARD int datanode_control_start(struct datanode_worker *w);
void datanode_control_free(struct datanode_worker *w);
void datanode_control_report(struct datanode_worker *w); /* a heartbeat soon */
void datanode_control_want_map(struct datanode_worker *w);
bool datanode_leased(const struct datanode_worker *w);
/* The leader's wall clock, as it told at last: what several members compare is dated by it, for our
 * own may be wrong and jump. */
uint64_t datanode_leader_ms(const struct datanode_worker *w);
