/*
 * datanode/update_priv.h -- one update of one chunk on its way through this member. See update.c
 * (this member) and below.c (what it says to the successor).
 */
#pragma once

#include "base/buf.h"
#include "chunk/read.h"
#include "chunk/store.h"
#include "datanode/decide.h"
#include "datanode/item_priv.h"
#include "datanode/neighbor_priv.h"
#include "datanode/repair.h"
#include "datanode/spoilt.h"
#include "loop/loop.h"
#include "peer/client.h"

struct datanode_chain;
struct datanode_worker;

enum datanode_origin {
    DATANODE_FROM_CLIENT,      /* this is the head */
    DATANODE_FROM_PREDECESSOR, /* by FORWARD */
    DATANODE_FROM_DISK,        /* a pending found after a restart */
};
enum datanode_update_state {
    DATANODE_UPDATE_NEW,     /* waits for the lock */
    DATANODE_UPDATE_RESERVE, /* space is being reserved */
    DATANODE_UPDATE_OPEN,    /* forwarded; waits for the trailer */
    DATANODE_UPDATE_STORE,   /* data and record are being written */
    DATANODE_UPDATE_PENDING, /* stored here; waits for the successor */
    DATANODE_UPDATE_DROP,    /* the pending is being dropped, R15 */
    DATANODE_UPDATE_FLUSH,   /* committed; being made stable before the answer */
    DATANODE_UPDATE_OVER,
};
enum datanode_below_state {
    DATANODE_BELOW_IDLE,
    DATANODE_BELOW_LINK, /* waits for the link */
    DATANODE_BELOW_READ, /* the whole content is being read */
    DATANODE_BELOW_CALL, /* sent */
    DATANODE_BELOW_REST, /* to be sent again after a while */
    DATANODE_BELOW_GOOD, /* the successor has it */
};
struct datanode_update {
    struct list node; /* of the worker */
    struct datanode_worker *worker;
    struct datanode_chain *chain;
    struct datanode_item *item; /* a use; the lock from RESERVE on */
    struct datanode_wait wait;
    struct datanode_repair_wait repair; /* WRITE: waits for it, before RESERVE */
    bool repair_asked;
    int repair_rc;
    bool cut_asked; /* WRITE: what is left of a damaged chunk has been read, before RESERVE */
    int cut_rc;
    void (*cut_done)(struct datanode_update *u);
    enum datanode_origin origin;
    enum datanode_update_state state;
    struct peer_request *request; /* WRITE or FORWARD; NULL: nobody waits */
    uint64_t began_ns;
    /* What it is. */
    struct chunk_identity identity, base;
    uint8_t kind;         /* enum proto_write_kind */
    uint32_t begun_epoch; /* of the row by which it was accepted */
    bool whole, install, sync, retried, doomed, trailer, leaving;
    bool comes_spoilt; /* FORWARD: it says that it is damaged, and is */
    bool told;         /* of the newest row */
    bool outlives; /* it is, or may be, stored: without an answer nobody knows what becomes of it */
    enum disk_lane lane;
    uint32_t offset, length, new_length, tgen, result, digest;
    uint64_t client, seq;
    struct datanode_recent_change change;
    struct chunk_recent recent[CHUNK_RECENT_MAX];
    unsigned recent_count;
    uint16_t flags;
    uint64_t last_ver;
    struct slice data;
    uint32_t *crc;
    uint32_t crc_count;
    /* The store's. */
    struct iovec iov;
    struct chunk_update store;
    struct chunk_change drop;
    struct chunk_sync flush;
    struct chunk_verify verify;
    uint32_t verify_epoch;                                /* of the row when it began */
    bool storing, dropping, flushing, flushed, verifying; /* their callbacks are to come */
    int refusal;                                          /* why it is dropped */
    struct loop_timer store_again; /* the store had no memory; counts as storing or dropping */
    unsigned store_tries;
    int flush_rc;
    uint32_t below_digest;
    /* To the successor. */
    enum datanode_below_state below;
    uint32_t good_epoch, good_attempt; /* of the newest good reply */
    struct datanode_neighbor *neighbor;
    unsigned slot;
    bool lift; /* the successor needs the whole content */
    bool trailer_sent, calling, restart;
    struct peer_link *link; /* while calling */
    struct datanode_send send;
    struct peer_call call;
    struct proto_forward_request forward;
    uint64_t evicted[CHUNK_RECENT_MAX];
    struct proto_recent wire_recent[CHUNK_RECENT_MAX];
    struct loop_timer again;
    uint32_t rest_ms, attempt;
    uint64_t called_ns;
    struct buf *whole_buf; /* the whole content, read back */
    uint32_t *whole_crc;
    struct chunk_read read;
    struct datanode_spoilt spoilt;
    bool reading;
};
/* NULL: too many. Free with datanode_update_free() before datanode_update_begin(). */
struct datanode_update *datanode_update_new(struct datanode_chain *c, enum datanode_origin from);
void datanode_update_free(struct datanode_update *u);
/* Gives it its chunk, checksums (copied) and data (referenced). `u` again; NULL and `u` freed: no
 * memory, or the chunk is one of another chain. */
struct datanode_update *datanode_update_take(struct datanode_update *u,
                                             const struct proto_chunk *chunk,
                                             const struct proto_u32s *crcs,
                                             const struct slice *data);
/* The item is locked by it; all fields are set. It answers its request and frees itself. */
void datanode_update_begin(struct datanode_update *u);
void datanode_update_resume(struct datanode_update *u); /* FROM_DISK: is pending already */
/* The item is locked by it: it is committed here already. Answers, when it is stable if `sync`. */
void datanode_update_good(struct datanode_update *u, uint32_t digest);
/* STORE or PENDING: somebody waits for it now who may want it stable. */
void datanode_update_joined(struct datanode_update *u, bool sync);
void datanode_update_trailer(struct datanode_update *u, bool ok);
void datanode_update_new_row(struct datanode_update *u); /* R12, each update in flight */
void datanode_update_upstream_lost(struct datanode_update *u);
/* Called by below.c. */
void datanode_update_below_good(struct datanode_update *u, uint32_t digest);
void datanode_update_below_refused(struct datanode_update *u, int rc);
void datanode_below_start(struct datanode_update *u);  /* a new attempt */
void datanode_below_stored(struct datanode_update *u); /* R14: own store complete */
void datanode_below_stop(struct datanode_update *u, bool say_dropped);
bool datanode_below_busy(const struct datanode_update *u); /* callbacks are to come */
/* Called by both when the last callback is in. */
void datanode_update_release(struct datanode_update *u);
