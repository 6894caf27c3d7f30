/*
 * datanode/health.h -- is this disk sick? Judged from what its requests return and how long they
 * take. Pure: no clock, no I/O, no memory of its own.
 *
 * Scores, any of which makes a disk sick:
 * errors: each error of the medium adds one, and what was added halves every error_half_life_ms;
 * latency: of reads, writes and syncs each, the mean of the newest (a sixteenth each) against two
 *   limits: slow_ms, and slow_factor times what is usual here (a mean over about a thousand that
 *   leaves out what exceeds both). Both must be exceeded for slow_for_ms: so a disk that was never
 * fast, and one that is merely busy for a moment, is left in peace; silence: something is under
 * way, and nothing has come back for stuck_ms; looked at twice, because after a pause of the
 * process itself the answers are there, but not seen yet.
 *
 * A sick disk rests: it is judged well again, with all scores forgotten, after rest_ms, which
 * doubles each time up to rest_max_ms, and begins anew when it was well for rest_max_ms. That it is
 * well is only an attempt: the copies that are made on it then show.
 */
#pragma once

#include "base/base.h"

struct datanode_health_limits {
    uint32_t errors;               /* 0: 5 */
    uint64_t error_half_life_ms;   /* 0: 60,000 */
    uint64_t slow_ms;              /* 0: 2,000 */
    uint32_t slow_factor;          /* 0: 10 */
    uint64_t slow_for_ms;          /* 0: 20,000 */
    uint64_t stuck_ms;             /* 0: 15,000 */
    uint64_t rest_ms, rest_max_ms; /* 0: 600,000 and 86,400,000 */
};
enum datanode_health_kind { DATANODE_HEALTH_READ, DATANODE_HEALTH_WRITE, DATANODE_HEALTH_SYNC };
#define DATANODE_HEALTH_KINDS 3u
#define DATANODE_HEALTH_TEXT 121u

struct datanode_health_pace {
    uint64_t count;
    uint64_t mean_ns, usual_ns;
    uint64_t last_ns;
    unsigned slow_count;    /* since the mean is slow; 0: it is not */
    uint64_t slow_since_ns; /* then */
};
struct datanode_health {
    struct datanode_health_limits limits;
    uint64_t errors; /* in thousandths, as of errors_ns */
    uint64_t errors_ns;
    struct datanode_health_pace pace[DATANODE_HEALTH_KINDS];
    size_t under_way;
    uint64_t moved_ns; /* when something came back, or began while nothing was under way */
    uint32_t failures; /* of processes before */
    bool silent;       /* so it was when it was looked at last */
    bool sick;
    char reason[DATANODE_HEALTH_TEXT]; /* while it is sick */
    uint64_t changed_ns;               /* when `sick` changed */
    uint64_t rest_ms;                  /* of this time, or the next one */
};

void datanode_health_init(struct datanode_health *h, const struct datanode_health_limits *limits,
                          uint64_t now_ns);
void datanode_health_begun(struct datanode_health *h, uint64_t now_ns);
void datanode_health_ended(struct datanode_health *h, uint64_t now_ns);
/* What a request of this kind took. */
void datanode_health_took(struct datanode_health *h, enum datanode_health_kind kind, uint64_t ns,
                          uint64_t now_ns);
/* Errors of the medium count; those of space, names and arguments say nothing about it. */
void datanode_health_error(struct datanode_health *h, int64_t rc, uint64_t now_ns);
/* So many processes in a row have ended because writing to it failed: from the third one on it is
 * sick from the beginning. */
void datanode_health_failures(struct datanode_health *h, uint32_t count);
/* Now and then. True: `sick` has changed. */
bool datanode_health_judge(struct datanode_health *h, uint64_t now_ns);
