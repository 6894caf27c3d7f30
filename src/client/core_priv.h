/*
 * client/core_priv.h -- the client itself: session, slots, calls of the metadata service.
 */
#pragma once

#include "base/buf.h"
#include "base/dict.h"
#include "base/env.h"
#include "base/list.h"
#include "base/stats.h"
#include "client/choose_priv.h"
#include "client/client.h"
#include "client/identity_priv.h"
#include "client/linger_priv.h"
#include "peer/client.h"

#define CLIENT_SLOTS 64u
#define CLIENT_BULK_LINKS 4u
#define CLIENT_LEASE_MS 10000u
#define CLIENT_NS_PER_MS UINT64_C(1000000)
#define CLIENT_CALLS_MAX 4096u
#define CLIENT_LABEL_MAX 64u

struct client_call;
struct client_map;

/* An exactly-once slot: one mutation at a time; the sequence advances with its answer (C5). */
struct client_slot {
    uint64_t sequence; /* of the mutation under way, or of the next one */
    bool taken;
};

enum client_session_state { SESSION_NONE, SESSION_OPENING, SESSION_CREDENTIAL, SESSION_READY };
#define CLIENT_CLOSED_MAX 1024u /* beyond: the server finds out when it asks for them */
struct client_session {
    enum client_session_state state;
    uint64_t id; /* 0: none */
    uint64_t verifier, lease_epoch;
    uint64_t number; /* rises with each new session: who remembers it knows that it is another */
    uint64_t renewed_ns; /* newest answer that renewed the lease */
    uint64_t push_seq;
    uint32_t lease_ms, cred, slot_count;
    struct uuid client;
    struct client_slot slot[CLIENT_SLOTS];
    struct peer_call call; /* of opening and renewing */
    struct loop_timer timer;
    bool reclaiming;
    struct proto_claim *claims; /* owned: open files, while they are claimed */
    size_t claim_count, claimed;
    uint64_t closed[CLIENT_CLOSED_MAX]; /* were open for reading: told with the next renewal */
    size_t closed_count, closed_sent;
    union {
        struct proto_session_open_request open;
        struct proto_session_resume_request resume;
        struct proto_credential_request credential;
        struct proto_renew_request renew;
        struct proto_reclaim_request reclaim;
        struct proto_session_close_request close;
    } request;
};

struct client_counters {
    struct stats_counter operations, failures, retries, sessions, map_fetches, write_bytes,
        read_bytes, streamed_bytes, edge_reads, rewrites, bad_cells, lost, fallbacks, hedges,
        hedges_won, hedges_refused, batches, batch_items;
};

struct opendfs {
    struct env env;
    struct loop *loop;
    char *name;
    uint32_t uid, gid, umask;
    uint32_t *groups;
    size_t group_count;
    uint64_t timeout_ms, cache_bytes, stream_bytes;
    char host[CLIENT_LABEL_MAX + 1], rack[CLIENT_LABEL_MAX + 1]; /* where it runs; "": not known */
    struct peer_secrets secrets;
    struct peer_user meta_user;
    struct peer *meta;
    struct buf_pool *pool, *write_pool; /* data that comes in; that goes out */
    struct list starving;               /* inodes that wait for memory to write */
    struct buf_waiter room;
    struct loop_timer room_timer;
    struct loop_timer flush_timer; /* what gathers does not gather for ever */
    struct client_session session;
    struct client_identities identities;
    struct list calls;            /* of the metadata service, sent */
    struct list slot_queue;       /* mutations that wait for a slot */
    struct loop_timer slot_timer; /* the first of those whose time is over */
    struct list ops;              /* under way */
    struct list resting;          /* opens that wait for a close */
    struct client_lingers lingers;
    size_t op_count;
    struct client_map *map;
    uint64_t lock_cookies;
    struct list gathering; /* small reads until the end of the round: batch.c */
    struct loop_task gather_task;
    struct dict inodes; /* open files */
    uint64_t write_seq;
    unsigned reports;            /* of damage, under way */
    unsigned hedging;            /* requests to another member, under way */
    struct client_budget hedges; /* how many more there may be */
    _Atomic uint32_t inline_limit;
    bool stopping, freeing;
    void (*stopped)(void *context);
    void *stopped_context;
    struct loop_task stop_task;
    struct stats *stats, *target_stats;
    struct client_counters counters;
    struct client_thread *thread; /* made by opendfs_connect() */
};

/*
 * A call of the metadata service. Mutations (the request begins with an op) take a slot and are
 * sent with the same bytes until they are answered; queries (it begins with a caller) are simply
 * repeated. Both wait for the session, survive restarts of servers, and give up when the time of
 * the client is over. The request is lent until done.
 */
struct client_call {
    void (*done)(struct client_call *c, const struct peer_reply *r);
    struct opendfs *fs;
    struct peer_call peer;
    void *request;
    bool mutation, bare, cancelled, doubtful; /* doubtful: it may have been executed */
    bool nameless; /* a query that was called back: whom it names the new session does not know */
    struct opendfs_identity *as; /* set by the caller; NULL: the client's own user */
    int no_session;              /* not 0: ends with that, because there cannot be a session */
    bool slotted;                /* has a slot of session_number */
    uint32_t slot;
    uint64_t deadline_ns;    /* 0: none */
    uint64_t session_number; /* in which it was sent */
    struct list node;
    struct loop_task again;
};
/* A query whose request does not begin with a caller. */
void client_ask(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request);
void client_query(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request);
void client_mutate(struct opendfs *fs, struct client_call *c, uint16_t opcode, void *request);
/* If it was not sent yet, or is a query: `done` with -ERR_cancelled comes later. */
void client_call_cancel(struct client_call *c);

/* session.c */
extern const struct peer_user_ops client_meta_user_ops;
void client_session_init(struct opendfs *fs);
void client_session_fini(struct opendfs *fs);
/* The server says that there is no such session (any more). */
void client_times_fini(struct opendfs *fs); /* times.c */
void client_push_fini(struct opendfs *fs); /* what waits for an answer from here does not get one */
void client_inodes_outdate(struct opendfs *fs);              /* attributes of all count as old */
bool client_inode_is_open(struct opendfs *fs, uint64_t ino); /* or is about to be */
/* Was open for reading, and is not any more. */
void client_session_closed(struct opendfs *fs, uint64_t ino);
/* All open files as claims: mem_free(); NULL: no memory. Their attributes count as old. */
struct proto_claim *client_inodes_claim(struct opendfs *fs, size_t *ret_count);
void client_session_expired(struct opendfs *fs, uint64_t number);
void client_session_close(struct opendfs *fs);
/* slots.c */
void client_slots_reset(struct opendfs *fs);
void client_slots_pump(struct opendfs *fs);
/* The session is ready: queries that wait for it are asked in its name. They are encoded when they
 * are sent. */
/* undo.c: of a mutation that was given up, and had been executed. */
void client_undo(struct opendfs *fs, const struct proto_slot_cancel_reply *m);
void client_calls_rename(struct opendfs *fs);
/* No session can be had, because of `rc`: whoever waits for one is told. */
void client_calls_no_session(struct opendfs *fs, int rc);
void client_calls_fini(struct opendfs *fs);
/* push.c: what the leader asks and says. */
const struct peer_handler *client_meta_handlers(size_t *ret_count);

/* core.c */
void client_check_stopped(struct opendfs *fs);
void client_inodes_lost_session(struct opendfs *fs);          /* inode.c */
void client_shares_resumed(struct opendfs *fs);               /* share.c */
struct opendfs *client_file_fs(const struct opendfs_file *f); /* any thread */
