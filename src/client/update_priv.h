/*
 * client/update_priv.h -- requests of an open file to its chains: reads of a range, changes of
 * chunks, syncs. Owner: the client's loop.
 */
#pragma once

#include "client/inode_priv.h"

/* fetch.c: reads a range of one chunk from one of its serving members, verified. */
struct client_fetch_try { /* what a member has said to this read */
    uint32_t target;
    int rc;     /* the newest failure */
    bool bad;   /* it cannot give good bytes */
    bool tried; /* others come first */
};
struct client_fetch {
    struct client_inode *inode;
    uint32_t index, offset, len; /* offset and len: whole cells, except at the chunk's end */
    bool stream;                 /* of a large file that is read in order */
    bool lasts;                  /* its data may be kept for long */
    void (*done)(struct client_fetch *f, int rc);
    /* outcome */
    struct slice data; /* referenced; from `offset` on; shorter: the chunk ends there */
    uint32_t chunk_length;
    /* private */
    struct client_chain_call chain;
    struct proto_read_request request;
    struct client_gather gather; /* with others for the same target */
    struct list node;
    struct client_held held;
    struct client_fetch_try tries[CLUSTER_MEMBERS_MAX];
    size_t try_count;
    bool last_serving; /* an update is not committed yet: there it is soonest */
    unsigned cap_tries;
    int rc;
    uint64_t sent_ns; /* the newest attempt */
    /* hedge.c */
    struct loop_timer late;
    struct client_hedge *hedge;  /* asks another member meanwhile; NULL: nobody */
    bool won;                    /* the outcome is that of the hedge */
    bool parked;                 /* the attempt has failed, the hedge goes on; if it fails, too: */
    enum client_verdict verdict; /* then this */
};
/* -ERR_waiting_row and the like come through `done` as well, later. */
void client_fetch_start(struct client_fetch *f);
void client_fetch_cancel(struct client_fetch *f);
/* Of one that has failed: which chunk it was, and what its members have said. mem_free(); NULL: no
 * member has said anything, or no memory. */
char *client_fetch_explain(const struct client_fetch *f);

/* update.c: changes of chunks, one unanswered per chunk. */
enum client_update_state { UPDATE_OPEN, UPDATE_CLOSED, UPDATE_FILLING, UPDATE_SENT };
struct client_update {
    struct client_inode *inode;
    struct list node;
    uint64_t number;
    uint32_t index;
    enum client_update_state state;
    uint8_t kind;        /* enum proto_write_kind */
    struct buf *buf;     /* NULL: lent memory of the user */
    const uint8_t *lent; /* of cell `start` */
    uint32_t start;      /* of the first cell; all offsets are within the chunk */
    uint32_t from, to;   /* bytes that count */
    uint32_t room;       /* bytes in buf */
    uint32_t *crcs;      /* per cell */
    uint8_t *crc_known;  /* per cell */
    uint32_t cell_room;  /* cells in both */
    bool tail_filled;
    struct client_chain_call chain;
    struct proto_write_request request;
    struct client_fetch fill;
    struct client_held held;
    unsigned cap_tries, cut_tries;
    uint32_t tgen;        /* of the truncation that a cut is for; or as of which edges were read */
    uint32_t oldest_tgen; /* of all attempts that may have been executed */
    /* Edges: were read; what the user wrote; not before all is cut. */
    bool filled, awaits_cut;
    uint32_t own_from, own_to;
    struct loop_timer again;
};
/* rewrite.c: an update was stored, with this truncate generation or a later one. */
void client_io_stored(struct client_inode *i, uint64_t from, uint64_t to, uint32_t tgen);
/* What is written here and not stored yet goes beyond this size. */
bool client_update_beyond(const struct client_inode *i, uint64_t size);
/* Bytes that were written here and are not stored yet. */
uint64_t client_update_left(const struct client_inode *i);
/* Takes bytes at a file offset: how many (at most to the end of the chunk), 0: wait for memory or
 * room, or an error. */
NODISCARD int64_t client_update_write(struct client_inode *i, uint64_t offset, const uint8_t *bytes,
                                      size_t len);
/* The same without a copy; all within one chunk, whole cells or to the end of the file. Number of
 * the update, 0: wait. */
NODISCARD int64_t client_update_lend(struct client_inode *i, uint64_t offset, const uint8_t *bytes,
                                     size_t len);
/* Cuts a chunk. Number, 0: wait. */
NODISCARD int64_t client_update_cut(struct client_inode *i, uint32_t index, uint32_t length,
                                    uint32_t tgen);
/* Nothing is left of a chunk, which has `length` bytes. Number, 0: wait. */
NODISCARD int64_t client_update_clear(struct client_inode *i, uint32_t index, uint32_t length);
/* Sends what overlaps the range of the file. True: there is none any more. */
bool client_update_flush(struct client_inode *i, uint64_t from, uint64_t to);
/* No update numbered below `number` is left. */
bool client_update_all_done(const struct client_inode *i, uint64_t number);
/* The same of those that touch a range of the file. */
bool client_update_range_done(const struct client_inode *i, uint64_t number, uint64_t from,
                              uint64_t to);
void client_update_cancel_all(struct client_inode *i, int rc);
/* SYNC to all chains with unsynced updates; when i->syncs is 0 again i->sync_rc tells. */
void client_sync_start(struct client_inode *i);
void client_sync_cancel(struct client_inode *i);
