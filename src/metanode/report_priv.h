/* metanode/report_priv.h -- what workers have noticed: see report.c. Thread of the loop. */
#pragma once

#include "base/list.h"
#include "base/stats.h"
#include "proto/proto.h"

struct metanode;
struct metanode_target;
struct peer_request;
struct peer_user;

#define METANODE_DAMAGES_MAX 1024u
#define METANODE_DAMAGE_MS (UINT64_C(5) * 60 * 1000)      /* not repeated for so long: it is over */
#define METANODE_DISK_ERROR_MS (UINT64_C(60) * 60 * 1000) /* a failure is shown for so long */

struct metanode_damage {
    struct list all;
    uint32_t target, chain;
    struct proto_chunk chunk;
    enum proto_damage damage;
    uint64_t heard_ns;
};
struct metanode_reports {
    struct list damages; /* that was heard of last is the last */
    size_t damage_count;
    struct stats_counter damaged, repaired, resyncs, resync_copied;
};
void metanode_reports_init(struct metanode *m);
void metanode_reports_statistics(struct metanode *m);
void metanode_reports_fini(struct metanode *m);
/* This target has none, or is about to tell them anew. */
void metanode_damages_forget(struct metanode *m, uint32_t target);
bool metanode_damage_stands(const struct metanode *m, const struct metanode_damage *d);
/* Has its disk failed, not long ago? */
bool metanode_disk_failed(const struct metanode_target *t);
void metanode_report(struct peer_user *u, struct peer_request *r);
