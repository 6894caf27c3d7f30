/*
 * consensus/parts_priv.h -- the parts of the consensus and how its files share them.
 *
 *   propose -> `waiting` -> pack.c: a batch, one raft_apply() -> io.c: append -> journal
 *   journal: stable -> the engine commits -> ring of committed entries -> apply.c -> the owner
 *
 * The engine is never entered while it runs (`in_raft`): its callbacks only take notes, the task
 * does the rest. Bytes of committed entries are lent from the engine's log; it forgets an entry
 * only behind a snapshot, and a snapshot is taken or installed only when the ring is empty.
 */
#pragma once

#include "base/env.h"
#include "base/stats.h"
#include "consensus/consensus.h"
#include "consensus/entry.h"
#include "consensus/record.h"
#include "disk/disk.h"
#include "journal/journal.h"
#include "loop/loop.h"

#include <raft.h>

#define CONSENSUS_WINDOW 4u               /* entries of ours under way: few and large */
#define CONSENSUS_PACK_BYTES (256u << 10) /* an entry takes no more operations beyond this */
#define CONSENSUS_APPLY_ROUND 64u         /* entries handed to the owner before others get a turn */
#define CONSENSUS_RETRY_NS 500000000u     /* appends again after no space */
#define CONSENSUS_STOP_NS                                                  \
    5000000000u /* what is not committed by then is left to the next start \
                 */

/* One raft entry that we submitted. Leaves the list when it was applied, or when it is lost. */
struct consensus_batch {
    struct raft_apply req;
    struct consensus *consensus;
    struct list node;      /* in `batches`, ascending by index */
    struct list proposals; /* not empty, but for an entry that only renews the lease */
    uint64_t index, term, submitted_ns;
    bool engine_done; /* the engine has no request of ours any more: applied, or lost */
};

/* One entry or cut on its way into the journal, in order. */
struct consensus_write {
    struct consensus *consensus;
    struct list node;
    struct consensus_append *append; /* NULL: a cut */
    uint64_t index;
    struct journal_append record;
    struct journal_cut cut;
    struct iovec iov[2];
    uint8_t header[CONSENSUS_RECORD_HEADER];
};

/* One append request of the engine. */
struct consensus_append {
    struct list node;           /* in `appends` until its callback was called */
    struct raft_io_append *req; /* NULL: the first entry of all, which is ours */
    unsigned left;              /* records not stable */
    struct consensus_write record[];
};

/* A committed entry, not yet executed. */
struct consensus_committed {
    uint64_t index;
    const uint8_t *bytes;
    size_t len;
};

/* Callbacks that the engine must get from the task, not from inside the request. */
struct consensus_deferred {
    struct list node;
    struct raft_io_send *send; /* one of the two */
    struct raft_io_snapshot_get *get;
};

enum consensus_put_step {
    PUT_IDLE,
    PUT_WAIT, /* for consensus_snapshot_durable() */
    PUT_OPEN,
    PUT_TRUNCATE,
    PUT_WRITE,
    PUT_SYNC,
    PUT_CLOSE,
    PUT_RENAME,
    PUT_SYNC_DIR,
    PUT_CUT, /* installed: the log begins anew */
    PUT_DONE,
};

/* Recording a snapshot. */
struct consensus_put {
    enum consensus_put_step step;
    struct raft_io_snapshot_put *req;
    uint64_t index, term, log_begin;
    bool installed, cleared;
    uint8_t *bytes; /* the file */
    size_t len;
    struct disk_file *file;
    struct disk_req disk;
    int rc;
};

#define CONSENSUS_PEERS 64u
/* What we have seen of another one. */
struct consensus_peer {
    uint64_t id, incarnation, former, sequence;
    uint32_t former_count;
};

struct consensus_message {
    struct raft_message raft; /* what it owns is of the engine's heap */
    uint64_t to, incarnation, sequence;
    char address[CONSENSUS_ADDRESS_SIZE];
};

/* A snapshot that a leader has sent, until the owner has its state. */
struct consensus_install {
    bool held, ready;
    uint64_t index;
    struct consensus_message message;
};

struct consensus_counters {
    struct stats *group;
    struct stats_counter operations, entries, bytes, busy, elections, snapshots;
    struct stats_histogram commit_time;
};
