/*
 * datanode/report.h -- what a worker has noticed and its metadata leader has not heard yet: a
 * bounded queue, the most urgent first. Pure: no clock, no I/O, no memory of its own.
 *
 * Nothing is lost. A newer report on the same subject takes the place of the older one. When there
 * is no room, all reports of one kind on single chunks of a chain become one that says "look at all
 * of this chain", and where that does not help, all of a kind become one on all chains. What was
 * taken stays in the queue until it was answered, and longer if something newer was said meanwhile;
 * so a report may be heard twice, and says how it is, not what has changed.
 */
#pragma once

#include "chunk/chunk.h"
#include "proto/values.h"

#define DATANODE_REPORTS_MAX 256u

struct datanode_report {
    enum proto_report_kind kind;
    uint32_t chain;           /* 0: all chains of this target */
    struct chunk_key chunk;   /* data id 0: all of the chain */
    enum proto_damage damage; /* of the worst, where several became one */
    uint32_t epoch;           /* of a resync, as all that follow */
    uint64_t same, copied, dropped;
    uint32_t merged; /* the queue's: so many are told by this one */
    uint64_t number; /* the queue's: rises with each report */
};

/* Zero-initialise. */
struct datanode_reports {
    struct datanode_report at[DATANODE_REPORTS_MAX];
    size_t count;
    uint64_t number;
};

void datanode_reports_add(struct datanode_reports *q, const struct datanode_report *r);
/* The most urgent ones, the oldest of them first; returns how many. They stay. */
size_t datanode_reports_take(const struct datanode_reports *q, struct datanode_report *ret,
                             size_t max);
/* These were heard. What was said of the same since then stays. */
void datanode_reports_heard(struct datanode_reports *q, const struct datanode_report *heard,
                            size_t count);
