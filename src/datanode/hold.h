/*
 * datanode/hold.h -- what this target knows of its chains, kept over restarts: of which it has no
 * whole copy, by which it is judged what the rows after a start say (decide.h), and as of which
 * epoch, by which it knows that it has left while its process was down. A file `chains` of records
 * of fixed size is appended to; the last one of a chain counts. Private to the folder. Thread: the
 * worker's loop.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "disk/disk.h"
#include "loop/loop.h"

#define DATANODE_HOLD_BYTES 16u
#define DATANODE_HOLD_BATCH 64u

struct datanode_chain;
struct datanode_worker;

struct datanode_hold_record {
    uint32_t chain;
    uint32_t epoch; /* of a row by which it was a member, or had left; 0: it knows of none */
    bool lost;      /* it has no whole copy any more; else: it has one, or one again */
};
/* `place`: the record's number in the file. */
void datanode_hold_encode(const struct datanode_hold_record *x, uint64_t place,
                          uint8_t to[DATANODE_HOLD_BYTES]);
/* -ERR_bad_crc. */
NODISCARD int datanode_hold_decode(const uint8_t from[DATANODE_HOLD_BYTES], uint64_t place,
                                   struct datanode_hold_record *ret);

struct datanode_hold_wait { /* the caller's */
    struct list node;
    void (*done)(struct datanode_hold_wait *w);
};
struct datanode_holds {
    struct disk_file *file; /* NULL: nothing is kept */
    uint64_t records;
    struct datanode_hold_record *known; /* as of the start, ascending by chain */
    size_t known_count;
    struct disk_req req;
    bool busy;
    struct loop_timer again;
    struct datanode_chain *chain[DATANODE_HOLD_BATCH]; /* being written */
    struct datanode_hold_record value[DATANODE_HOLD_BATCH];
    size_t count;
    uint8_t bytes[DATANODE_HOLD_BATCH * DATANODE_HOLD_BYTES];
    struct list waits;
};
/* Start-up: may block. */
NODISCARD int datanode_holds_open(struct datanode_worker *w, struct err *e);
void datanode_holds_close(struct datanode_worker *w); /* not while it writes */
/* What the file said at the start; NULL: nothing. */
const struct datanode_hold_record *datanode_hold_find(const struct datanode_worker *w,
                                                      uint32_t chain);
/* The row, c->held or c->released may have changed: it is recorded, soon. */
void datanode_hold_note(struct datanode_chain *c);
/* Is c->held as it is recorded, and that stable? */
bool datanode_hold_stable(const struct datanode_chain *c);
/* Once, when the next write has ended, whatever became of it; only while it is not stable. */
void datanode_hold_await(struct datanode_chain *c, struct datanode_hold_wait *wait);
