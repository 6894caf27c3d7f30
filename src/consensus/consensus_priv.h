/* consensus/consensus_priv.h -- the object of the folder, and what its files do for each other. */
#pragma once

#include "consensus/parts_priv.h"

struct consensus {
    struct env env;
    struct consensus_fsm *fsm;
    struct consensus_transport *transport;
    char *directory, *path_term, *path_snapshot, *path_snapshot_new, *path_log;
    uint8_t cluster[CONSENSUS_CLUSTER_BYTES];
    uint64_t id;
    uint32_t election_timeout_ms;
    size_t queue_bytes, queue_count;
    uint64_t log_limit_bytes;

    struct raft raft;
    struct raft_io io;
    struct raft_fsm raft_fsm;
    bool raft_init, start_wanted, started, in_raft, closing, closed;
    struct loop_task task;

    uint64_t incarnation, sent; /* of this life; messages */
    struct consensus_peer peers[CONSENSUS_PEERS];
    size_t peer_next;

    /* term and vote, as on disk */
    uint64_t term, vote;
    uint64_t lease_from_ns; /* submission of the newest applied entry of our own term; 0: none */
    uint64_t leader_term, leader_index; /* our last leadership, and its first entry */

    /* what the log held at open; the engine takes it */
    struct raft_entry *loaded;
    size_t loaded_count, loaded_size;
    uint64_t loaded_begin; /* index of the first */
    uint64_t keep_from;    /* records below are of no use */
    bool begin_anew; /* the only entry is not in the journal yet; the engine starts when it is */
    bool cut_loaded; /* the journal holds void records: its next one is log_next */

    /* the journal */
    struct journal *journal;
    struct journal_user journal_user;
    struct list appends;
    struct list writes;   /* not handed to the journal */
    struct list returned; /* handed back by it, older than those */
    size_t writes_in_flight;
    uint64_t log_next; /* index of the next entry that the engine will append */
    bool held;         /* the journal could not take more; tried again by the timer */
    bool no_space;
    struct loop_timer retry;
    struct list deferred;
    struct loop_timer tick;
    uint32_t tick_ms;
    raft_io_tick_cb on_tick;
    raft_io_recv_cb on_receive;
    raft_io_close_cb on_close;
    struct journal_stop journal_stop;

    /* proposals */
    struct list waiting, batches, finished;
    struct list lingering; /* batches that are over but for the engine; freed when it is closed */
    size_t used_bytes, used_count, batch_count, waiting_bytes;
    bool lease_wanted;
    uint64_t reserve_bytes; /* of the log: for urgent proposals */
    uint64_t full_since_ns; /* something waits for room that is not to be had; 0: no */
    int full_rc;            /* it has waited long enough: what ordinary proposals are told */
    struct loop_timer full_timer;

    /* execution */
    struct consensus_committed *ring; /* a power of two */
    size_t ring_size, ring_first, ring_count;
    uint64_t skip_to;  /* the owner's state contains everything up to here */
    uint64_t applying; /* the entry that the owner has; 0: none */
    struct consensus_batch *applying_batch;
    struct consensus_entry entry;

    /* snapshots */
    bool snapshot_wanted;
    uint64_t snapshot_keep_from; /* of the owner's newest; 0: none */
    struct consensus_put put;
    struct consensus_install install;
    uint8_t *snapshot_bytes; /* the file, as on disk; NULL: none */
    size_t snapshot_len;

    /* the end */
    struct consensus_state told;
    bool told_once;
    int failed;
    bool failed_told;
    char reason[240];
    struct consensus_stop *stop;
    struct loop_timer stop_limit;
    bool stop_late;
    struct consensus_counters stats;
};

/* consensus.c */
void consensus_engine_start(struct consensus *c); /* raft_start(), when the first entry is stable */
void consensus_wake(struct consensus *c);
COLD void consensus_fail(struct consensus *c, int rc, const char *fmt, ...) PRINTF_LIKE(3, 4);
unsigned consensus_voters(const struct consensus *c);
bool consensus_leads(const struct consensus *c);

/* pack.c */
void consensus_pack_init(struct consensus *c);
void consensus_pack(struct consensus *c); /* submits what waits, as far as the window allows */
void consensus_refuse_waiting(struct consensus *c, int rc);
void consensus_lose_batches(struct consensus *c);
void consensus_check_batches(
    struct consensus *c); /* after every event: those of a lost leadership */
void consensus_batches_free(struct consensus *c);
void consensus_finish(struct consensus *c); /* calls `done` of what is finished */
struct consensus_batch *consensus_batch_at(struct consensus *c, uint64_t index, uint64_t term);
void consensus_batch_over(struct consensus_batch *b, int rc);

/* apply.c */
int consensus_raft_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result);
void consensus_apply(struct consensus *c);
void consensus_ring_clear(struct consensus *c);
/* One more committed entry for the owner, behind those that are there. */
void consensus_ring_push(struct consensus *c, uint64_t index, const struct raft_buffer *buf);

/* io.c: the engine's disk, clock and messages */
void consensus_io_init(struct consensus *c);
void consensus_io_run(struct consensus *c);    /* deferred callbacks; what the journal can take */
void consensus_io_closed(struct consensus *c); /* something that the end waits for is over */
void consensus_write_cut(struct consensus *c, uint64_t index);
void consensus_write_first(struct consensus *c); /* the entry of `begin_anew` */
/* Around every entry into the engine. */
void consensus_enter(struct consensus *c);
void consensus_leave(struct consensus *c);

/* open.c */
NODISCARD int consensus_load(struct consensus *c, const struct consensus_options *opt,
                             struct err *e);
void consensus_loaded_free(struct consensus *c);
NODISCARD int consensus_term_store(struct consensus *c, uint64_t term, uint64_t vote);

/* snapshot.c */
int consensus_raft_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *count);
int consensus_raft_restore(struct raft_fsm *fsm, struct raft_buffer *buf);
int consensus_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *req,
                           const struct raft_snapshot *s, raft_io_snapshot_put_cb cb);
void consensus_snapshot_try(struct consensus *c); /* asks the engine for the one that is wanted */
void consensus_snapshot_cut_done(struct consensus *c, int rc);
struct raft_snapshot *consensus_snapshot_make(const struct consensus *c); /* of the one on disk */
void consensus_snapshot_cancel(struct consensus *c);                      /* at the end */
bool consensus_snapshot_busy(const struct consensus *c);

/* receive.c */
void consensus_install_try(struct consensus *c);
void consensus_install_drop(struct consensus *c);
void consensus_hold_result(const struct consensus *c, struct raft_message *m);
