/*
 * chunk/engine_priv.h -- what engines do each in their way, below requests, turns, contents and
 * pins, which are the same for all: file.c (a file for each chunk), extent.c (containers) and
 * ram.c.
 *
 * Steps of a work end with its `next`, also at once; rc < 0: it failed, and left nothing behind but
 * what the engine finds again by itself.
 */
#pragma once

#include "chunk/plan_priv.h"

typedef void chunk_next(struct chunk_work *w, int rc);

/* Where a block lies. */
struct chunk_place {
    struct disk_file *file; /* or */
    const uint8_t *bytes;   /* in memory */
    uint64_t offset;        /* in the file */
};

struct chunk_engine_ops {
    bool on_disk; /* it has a directory with a superblock and a list of removed data */
    bool joins;   /* blocks with numbers one after the other lie so */
    /* In an empty directory, before its superblock is made; blocks. */
    int (*format)(const struct chunk_options *opt, struct chunk_super *super, struct err *e);
    /* Superblock and list are open; blocks. close() follows in any case, and blocks, too. */
    int (*open)(struct chunk_store *s, struct err *e);
    void (*close)(struct chunk_store *s);
    /* What cannot be done at once: ends with chunk_store_started(). NULL: nothing. */
    void (*start)(struct chunk_store *s);
    /* Of an engine that may forget what its index has; else all eight are NULL. Before a work's
     * turn: what is to be known of the chunk is; the same at once, or -ERR_need; then it may be
     * forgotten, if nobody uses it. The first chunk from a key on; the first of those of its data
     * id that the index has, also when it is being removed; the next damaged one that it has. */
    void (*load)(struct chunk_work *w, chunk_next *next);
    int (*know)(struct chunk_store *s, struct chunk_entry *e);
    void (*forget)(struct chunk_store *s);
    int (*next)(struct chunk_store *s, struct chunk_key from, struct chunk_info *ret);
    int (*next_of)(struct chunk_store *s, struct chunk_key from, struct chunk_key *ret);
    int (*next_damaged)(struct chunk_store *s, struct chunk_damage *d);
    int (*ahead)(struct chunk_store *s, struct chunk_ahead *a);
    void (*ahead_end)(struct chunk_store *s, struct chunk_ahead *a);
    /* Bytes and cells of its contents can be had; `create`: there may be none. */
    void (*hot)(struct chunk_work *w, bool create, chunk_next *next);
    struct chunk_place (*place)(const struct chunk_store *s, const struct chunk_file *f,
                                uint64_t block);
    /* Space for w->plan, so that the write does not fail for it; and back, all that is left. */
    void (*reserve)(struct chunk_work *w, chunk_next *next);
    void (*unreserve)(struct chunk_work *w);
    /* w->version gets its places, the bytes go there. */
    void (*write)(struct chunk_work *w, chunk_next *next);
    /* It was written, and its record was not: it failed with `rc`. */
    void (*waste)(struct chunk_work *w, int rc);
    /* An update of a chunk that is not there has failed: nothing is left of it. */
    void (*unmake)(struct chunk_work *w, chunk_next *next);
    /* A change or a removal may be told of now, else it waits in its turn. NULL: always. */
    void (*admit)(struct chunk_work *w, chunk_next *next);
    /* The record of the entry's next state; w->captured is the change that it holds. */
    void (*record)(struct chunk_work *w, const struct chunk_state *st, chunk_next *next);
    /* The chunk goes, and its record. */
    void (*remove)(struct chunk_work *w, chunk_next *next);
    /* A content became the committed one; space may be free now. Both may be NULL. */
    void (*committed)(struct chunk_store *s, struct chunk_entry *e);
    void (*rested)(struct chunk_store *s, struct chunk_entry *e);
    /* It was found damaged, in the turn of a work; NULL: the next record says so. */
    void (*damaged)(struct chunk_store *s, struct chunk_entry *e);
    /* w->of.sync: ends with w->finish. */
    void (*sync)(struct chunk_store *s, struct chunk_work *w);
    /* w->of.change: all chunks of its data id were removed; the same when that is stable. NULL: it
     * need not be, for a start clears away what is left of the dead. */
    void (*removed)(struct chunk_store *s, struct chunk_work *w);
    /* Every second or so; what is not stable becomes so, unless that is under way. */
    void (*tick)(struct chunk_store *s);
    void (*round)(struct chunk_store *s);
    bool (*settled)(const struct chunk_store *s); /* nothing is left for a round */
    /* Ends what runs by itself, also of a store that has failed; chunk_stop_check() follows. True:
     * that has been done. NULL: there is nothing. */
    bool (*end)(struct chunk_store *s);
    void (*figures)(const struct chunk_store *s, struct chunk_store_info *ret);
};
extern const struct chunk_engine_ops chunk_engine_file, chunk_engine_extent, chunk_engine_ram;
