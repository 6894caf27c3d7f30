/*
 * consensus/consensus.h -- the replicated log: operations in, the same operations in the same order
 * out on every voter. libraft 0.22.1 is the engine; its disk, clock and messages are ours (io.c, on
 * journal/), with the guards that README.md lists.
 *
 * Operations that gather while an entry is under way are packed into one log entry. Applying is the
 * owner's work at its own pace: the engine hands committed entries to a queue and never waits.
 *
 * A failed write or sync of the log ends it: `failed` is called once, nothing is acknowledged any
 * more, the owner calls consensus_stop() and ends the process (what the disk holds is unknown).
 *
 * Thread: the loop of env. Callbacks come one at a time, never from inside a call of the owner,
 * with the exceptions said below. Only consensus_open() and consensus_free() block, and a change of
 * term or vote, which writes a small file.
 */
#pragma once

#include "base/base.h"
#include "base/err.h"
#include "base/list.h"

struct consensus;
struct env;

#define CONSENSUS_ADDRESS_SIZE 128u
#define CONSENSUS_VOTERS_MAX 7u
#define CONSENSUS_OPERATION_MAX ((1u << 20) - 4096u) /* bytes of one operation */
#define CONSENSUS_REFERENCE_MAX 256u
#define CONSENSUS_CLUSTER_BYTES 16u
#define CONSENSUS_FULL_MS 2000u /* proposals wait that long for a full disk to get room */

struct consensus_proposal;

/* A committed entry. Lent until consensus_applied() is called for its index. */
struct consensus_entry {
    uint64_t index, term;
    uint32_t count; /* operations */
    /* consensus_entry_next()'s */
    const uint8_t *at;
    size_t left;
    struct list *local, *local_end; /* proposals of this process, NULL: of another or an earlier */
};
struct consensus_operation {
    const uint8_t *bytes; /* 8-aligned */
    size_t len;
    struct consensus_proposal *local; /* the proposal, when it was made here and waits; else NULL */
};
/* The next operation of the entry; false: that was all. */
bool consensus_entry_next(struct consensus_entry *e, struct consensus_operation *ret);

/* A state at some index, named by few bytes that only the owner understands (a checkpoint's id). */
struct consensus_reference {
    uint64_t index, term;
    uint8_t bytes[CONSENSUS_REFERENCE_MAX];
    size_t len;
    uint64_t keep_from; /* by snapshot(): the log is kept from here on, for an older state; or 0 */
};

enum consensus_role { CONSENSUS_FOLLOWER, CONSENSUS_CANDIDATE, CONSENSUS_LEADER };
struct consensus_state {
    enum consensus_role role;
    uint64_t term;      /* not of a new one at each start: alone, the engine leads on in the old */
    uint64_t leader_id; /* 0: unknown */
    char leader_address[CONSENSUS_ADDRESS_SIZE];
};

/* The owner: the state machine. Every op is mandatory. */
struct consensus_fsm {
    const struct consensus_fsm_ops *ops;
};
struct consensus_fsm_ops {
    /* Execute this entry and say consensus_applied(), inside or later; the next one comes after
     * that. */
    void (*apply)(struct consensus_fsm *f, struct consensus_entry *e);
    /* Role, term or leader changed. */
    void (*state)(struct consensus_fsm *f, const struct consensus_state *s);
    /* After consensus_snapshot_want(), when everything committed is applied: pin the state at
     * ret->index and name it. -ERR_busy: ask again later. The reference is recorded when
     * consensus_snapshot_durable() is called. Called by the engine: must not call back into it. */
    int (*snapshot)(struct consensus_fsm *f, struct consensus_reference *ret);
    /* The log begins behind this state: at open (inside consensus_open(), if it is above `applied`:
     * take it or fail), or because the leader sent it: fetch it; when it is durable and
     * consensus_applied_index() is still below, become it and say consensus_snapshot_durable(); if
     * not, say that with an error. Entries go on coming until then. */
    int (*restore)(struct consensus_fsm *f, const struct consensus_reference *r);
    /* Once; see above. */
    void (*failed)(struct consensus_fsm *f, int rc, const char *reason);
};

/* Messages to other voters. The bytes are lent for the call; losing them is allowed. */
struct consensus_transport {
    const struct consensus_transport_ops *ops;
};
struct consensus_transport_ops {
    void (*send)(struct consensus_transport *t, uint64_t to, const char *address,
                 const uint8_t *bytes, size_t len);
};

struct consensus_voter {
    uint64_t id; /* > 0, never used again after its data was lost */
    char address[CONSENSUS_ADDRESS_SIZE];
};

struct consensus_options {
    const struct env *env;
    const char *directory; /* exists, locked by the owner */
    struct consensus_fsm *fsm;
    struct consensus_transport *transport; /* NULL with one voter */
    uint8_t cluster[CONSENSUS_CLUSTER_BYTES];
    uint64_t id;                          /* one of the voters */
    const struct consensus_voter *voters; /* used when the directory is new; the log knows later */
    size_t voter_count;
    bool bootstrap;   /* a directory without a log begins one; else that is -ENOENT */
    uint64_t applied; /* the owner's state contains that; 0: none. The log must go back to there */
    uint32_t election_timeout_ms; /* 0: 300; the same on all voters */
    size_t queue_bytes;           /* proposed, not done; 0: 16 MiB */
    size_t queue_count;           /* 0: 8,192 */
    uint64_t log_limit_bytes;     /* untrimmed log beyond which proposals get -ERR_busy; 0: none */
    uint32_t trailing;            /* entries kept behind a snapshot; 0: 1 alone, else 4,096 */
    uint64_t segment_bytes;       /* of the journal; 0: 16 MiB, at least 5 MiB */
    bool sparse;                  /* the journal does not allocate ahead: for tests */
};

/* Reads the log; applying it begins after consensus_start(). -ERR_corrupt class: damage, or a part
 * is missing (`e` says where); -ERR_wrong_cluster; -ENOENT: nothing there and no bootstrap. */
NODISCARD int consensus_open(const struct consensus_options *opt, struct consensus **ret,
                             struct err *e);
/* The log is read, but the engine starts from the loop: what goes wrong there comes by `failed`. */
NODISCARD int consensus_start(struct consensus *c, struct err *e);
/* NULL is fine. After `done` of consensus_stop() (or inside it); without it only as long as the
 * loop has not run since consensus_open(). */
struct consensus *consensus_free(struct consensus *c);
DEFINE_FREEP(consensus)

/*
 * One operation. Zero-initialise; set `done` and the bytes. `done` is called exactly once:
 * 0: committed and applied (index says in which entry); -ERR_not_leader: not taken;
 * -ERR_busy: not taken, too much is waiting; -ENOSPC: not taken, the log's disk has been full for
 * CONSENSUS_FULL_MS: what is taken has its room already, so that a full disk delays nothing;
 * -EMSGSIZE, -ERR_shutting_down, -ERR_failed_before: not taken;
 * -ERR_unknown_outcome: leadership or the log was lost while it was under way: it may be, or may
 * still become, part of the log.
 */
struct consensus_proposal {
    void (*done)(struct consensus_proposal *p, int rc, uint64_t index);
    const void *bytes; /* lent until done */
    size_t len;
    bool urgent; /* few and small, and others need it: may use the last eighth of a segment */
    /* the consensus' */
    struct list node;
    int rc; /* in: negative: it is only refused with this, later like any other */
    uint64_t index;
    bool counted;
};
void consensus_propose(struct consensus *c, struct consensus_proposal *p);

/* The owner has executed the entry that it was given. */
void consensus_applied(struct consensus *c, uint64_t index);
uint64_t consensus_applied_index(const struct consensus *c); /* all up to it is executed */

/*
 * Until when (loop_now_ns) reading the applied state here is linearizable; 0: not now. Ask, read,
 * and use the answer if it is still not past. With several voters the lease comes from committed
 * entries; asking keeps it alive. With one voter nobody else can be elected: as long as it leads.
 */
uint64_t consensus_lease_until_ns(struct consensus *c);

void consensus_set_log_limit(struct consensus *c, uint64_t bytes); /* log_limit_bytes */
/* By reference; an owner without checkpoints never calls these, and the log grows. */
void consensus_snapshot_want(struct consensus *c);
/* The state of the reference at `index` is on stable storage (0) or will never be. Records the
 * reference and trims the log in front of it, but for `trailing` entries and `keep_from`. */
void consensus_snapshot_durable(struct consensus *c, uint64_t index, int rc);

/* A message of another voter, from the transport. Bad bytes: -ERR_corrupt class,
 * -ERR_wrong_cluster.
 */
NODISCARD int consensus_receive(struct consensus *c, const uint8_t *bytes, size_t len);

/* Takes no more; what is under way is still committed and applied if that is possible, for 5 s at
 * most; then everything is closed in order. Entries that were not applied, also one that the owner
 * still holds by then and must not touch any more, will be at the next start. Also after a failure.
 */
struct consensus_stop {
    void (*done)(struct consensus_stop *s, int rc);
};
void consensus_stop(struct consensus *c, struct consensus_stop *s);

void consensus_state(const struct consensus *c, struct consensus_state *ret);
struct consensus_info {
    uint64_t last_index, commit_index, applied_index, snapshot_index;
    uint64_t log_bytes; /* what a restart would read */
    uint32_t waiting;   /* proposals not done */
    uint32_t entries_in_flight;
    int failed;
    int full; /* 0; -ENOSPC: its disk is full, ordinary proposals are refused. Ends by itself */
    bool nearly_full; /* the next segment could not be made; there is room in this one */
};
void consensus_info(const struct consensus *c, struct consensus_info *ret);
void consensus_to_text(const struct consensus *c, char *out, size_t size);
