/*
 * datanode/scrub.h -- the check of all chunks of this target in the background (chunk/scrub.h): who
 * counts as served, its figures for the leader and for statistics. Private to the folder.
 */
#pragma once

#include "base/stats.h"
#include "chunk/scrub.h"
#include "proto/proto.h"

struct datanode_worker;

struct datanode_scrub {
    struct chunk_scrub *scrub; /* NULL: there is none */
    struct chunk_scrub_user user;
    uint64_t served; /* requests, at the last look */
    struct stats_gauge permille, found, rounds, found_ever, age;
};
NODISCARD int datanode_scrub_start(struct datanode_worker *w);
void datanode_scrub_stop(struct datanode_worker *w);
void datanode_scrub_free(struct datanode_worker *w);
void datanode_scrub_figures(const struct datanode_worker *w, struct proto_scrub_figures *ret);
void datanode_scrub_metrics_init(struct datanode_worker *w);
void datanode_scrub_metrics_set(struct datanode_worker *w);
