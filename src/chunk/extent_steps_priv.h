/*
 * chunk/extent_steps_priv.h -- what is under way in the `extent` engine: records on their way to
 * the journal, the round that makes all stable, units on their way back. See extent_priv.h.
 */
#pragma once

#include "chunk/engine_priv.h"
#include "journal/journal.h"
#include "kv/kv.h"

struct chunk_extent;

/* A record on its way to the journal. */
struct chunk_append {
    struct list node; /* of x->appending, in order */
    struct chunk_extent *x;
    void (*done)(struct chunk_append *a, int rc);
    struct journal_append append;
    struct iovec iov[JOURNAL_IOV_MAX]; /* of `bytes`, and of what it carries */
    uint8_t *bytes;
    struct chunk_work *w; /* of an update or change */
    uint64_t captured;    /* the change that it tells of */
    size_t flip_count;
    struct chunk_flip { /* of a list of commits */
        struct chunk_entry *e;
        struct chunk_identity identity;
        uint64_t change;
        uint32_t life;
    } * flip;
};

/* An entry as it was when a round began. */
struct chunk_shot {
    struct chunk_entry *e;
    struct chunk_state state; /* with references */
    uint64_t written, known;
    bool exists;
};

struct chunk_round {
    enum { ROUND_FLIPS = 1, ROUND_DATA, ROUND_JOURNAL, ROUND_INDEX } step;
    bool light; /* only the journal becomes stable, and nothing is told to the index */
    bool whole; /* the next one must not be light */
    struct chunk_shot *shot;
    size_t count, indexed, batched; /* those that the index has; and will have with the batch */
    uint64_t flips, low;            /* lists that it waits for; records up to it are in the shots */
    unsigned left;                  /* syncs under way */
    bool after_grow;                /* they are over, that of a container which grew is not */
    int rc;
    struct kv_batch batch;
    struct kv_room room;
    struct list waiters, next; /* works: of this round, and of the next */
};

/* Memory that the chunks take which the journal names behind the newest checkpoint of the index,
 * or behind the one that is being made. */
struct chunk_backlog {
    uint64_t bytes;                 /* behind chunk_extent.newer */
    uint64_t next_from, next_bytes; /* from that index on */
    uint64_t most_bytes;            /* then changes wait; before that a checkpoint is made */
};

/* Contents that are in the journal, too, and so need no sync of their container before one who
 * syncs is told: see extent_carry.c. */
struct chunk_carry {
    bool raw;             /* a container has something else that is not stable */
    uint64_t sync_bytes;  /* that may be carried before the next sync is asked for */
    uint64_t late_bytes;  /* carried, and their containers not synced since */
    uint64_t since_bytes; /* carried since the last checkpoint began */
};

/* Marks of damaged chunks that are being read. */
struct chunk_damage_read {
    struct kv_need need;
    struct kv_fetch fetch;
    bool fetching;
    int rc;
};

/* A range of units that has rested: punched, and allocated as before, then free. */
struct chunk_release {
    struct disk_req req;
    struct chunk_entry *e;   /* NULL: its entry was forgotten */
    struct chunk_rest *rest; /* NULL: none is under way */
    bool apart;              /* the file system does not do both at once */
    unsigned failed;         /* how many since the last tick */
};
