/*
 * datanode/reporter.h -- tells the metadata leader what this worker has noticed: sends the queue of
 * report.h, again and again until a leader has answered, and what is standing (a failed disk,
 * damaged chunks, figures) again to each leader that does not know this worker. Private to the
 * folder.
 */
#pragma once

#include "datanode/report.h"
#include "loop/loop.h"
#include "peer/client.h"

struct datanode_worker;

#define DATANODE_REPORTS_SENT 64u /* of one message */
#define DATANODE_DIGESTS_SENT 64u

struct datanode_reporter {
    struct datanode_reports queue;
    struct datanode_report sent[DATANODE_REPORTS_SENT];
    size_t sent_count;
    struct proto_report_item item[DATANODE_REPORTS_SENT];
    struct proto_chain_digest digest[DATANODE_DIGESTS_SENT];
    size_t digest_count;
    bool digests_due;
    uint64_t digests_ns; /* when chains were looked at last */
    struct proto_report_request request;
    struct peer_call call;
    struct loop_task task;
    struct loop_timer again;
    uint64_t wait_ms;
    bool calling;
    bool standing_due, standing_sent; /* a failed disk, figures */
    uint64_t figures_ns;              /* when figures were last sent */
    bool damage_due, damage_telling;  /* all damaged chunks; their walk is under way */
    struct proto_report_figures told; /* the figures that were heard */
};

void datanode_reporter_init(struct datanode_worker *w);
void datanode_reporter_fini(struct datanode_worker *w); /* the peer has ended its calls before */
/* This leader knows nothing: all that stands is told. */
void datanode_reporter_registered(struct datanode_worker *w);
/* With each heartbeat: figures that have changed, from time to time. */
void datanode_reporter_tick(struct datanode_worker *w);

void datanode_report_damage(struct datanode_worker *w, uint32_t chain, struct chunk_key key,
                            enum proto_damage damage);
void datanode_report_resynced(struct datanode_worker *w, uint32_t chain, uint32_t epoch,
                              const struct proto_sync_end_request *counts);
void datanode_report_failed(struct datanode_worker *w); /* its disk */
