/*
 * chunk/entry_priv.h -- what a store knows of one chunk: its entry, contents, file, and the space
 * that it has let go of. How they live: store_priv.h.
 */
#pragma once

#include "base/list.h"
#include "chunk/index_priv.h"
#include "chunk/record_format.h"
#include "chunk/store.h"
#include "disk/disk.h"

struct chunk_dead_item {
    struct chunk_item item;
    uint64_t time_ms;
    bool stable;      /* a record of it is */
    unsigned writing; /* records that say so, on their way */
};

struct chunk_version {
    unsigned refs;
    struct chunk_meta meta;
    struct chunk_recent *recent; /* meta.recent_count */
    uint32_t *crc;               /* of each cell, with `block`; NULL: not in memory */
    uint64_t *block;             /* where it lies, for the engine to say; 0: zeros, nowhere */
    uint32_t own_blocks;         /* blocks that its base does not have, table included */
    uint32_t stored;             /* cells that have a block */
    bool unsent; /* made by this process, never committed, nobody had a pin of it: what it has of
                    its own nobody can be reading */
};

/* One file, shared with pins. */
struct chunk_file {
    unsigned refs;
    struct chunk_store *s;
    struct disk_file *file;
    struct disk_req close;
};

/* Blocks that nothing refers to any more, given back once that is stable and no pin is older. */
struct chunk_rest {
    struct list node;
    uint64_t change; /* released when this is stable, and in the index if there is one ... */
    uint64_t number; /* ... and no pin below this is left ... */
    uint64_t at_ns;  /* ... and not before */
    uint64_t block;
    uint32_t count;
    bool punched;          /* what is left to do is to allocate it anew */
    struct chunk_entry *e; /* of one that need not rest, which it holds; else NULL */
};

struct chunk_entry {
    struct chunk_item item;
    uint32_t chain;
    bool loaded;                 /* what is known of it is in here; else nothing but its key */
    bool used;                   /* since the clock came by */
    bool exists, damaged, fresh; /* fresh: its file's name may not be stable */
    bool syncing, releasing;
    bool locked; /* a record under way says what becomes of the pending content */
    uint8_t newest_slot, stable_slot, syncing_slot;
    uint8_t bad_slots; /* a bit each: damaged records that must be written over */
    unsigned holds;    /* by works and syncs */
    uint32_t life;     /* rises when the chunk goes */
    struct chunk_version *committed, *pending;
    uint64_t last_ver, change, written, stable, seq;
    struct chunk_file *file;
    uint32_t next_block;
    uint64_t tail_block; /* the last cell that was written, and how far */
    uint32_t tail_bytes;
    uint64_t accounted_bytes;
    struct chunk_sum sum; /* what it has added to the sum of this chain; 0: of none */
    uint32_t sum_chain;
    struct list queue, waiters, pins, resting;
    struct list lru;      /* hot: the file is open */
    struct list dirty;    /* change is not stable, or the index of `extent` does not know it */
    struct list unstable; /* of those, all whose change is not stable */
    struct list sync;     /* in the queue of syncs */
    struct list rests;    /* something rests */
    struct list clock;    /* all that are loaded, of an engine that may forget them */
    size_t charged;       /* bytes of memory, about */
    /* extent */
    struct list flip;   /* no record tells of its commit yet */
    uint64_t known;     /* its newest record in the journal */
    size_t named;       /* what it was charged when that was written; 0: not since it was loaded */
    uint64_t told;      /* the change that the index has */
    uint64_t covered;   /* the one that the round under way makes stable */
    unsigned recording; /* records of it that are on their way there */
    bool kept;          /* it has gone, and the index does not know it */
    bool broken;        /* what the journal tells of cannot be built (while it starts) */
    uint32_t touched;   /* its place among those that unstable records tell of, from 1 on */
    struct chunk_indexed {
        struct chunk_version *committed, *pending; /* counted */
        uint32_t chain;
        bool exists, damaged;
    } indexed; /* what the index has of it */
};

struct chunk_waiter {
    struct list node;
    struct chunk_work *work;
    uint64_t change;
};
