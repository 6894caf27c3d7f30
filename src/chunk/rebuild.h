/*
 * chunk/rebuild.h -- a store of the engine `extent` whose index or journal is damaged is made anew
 * from what is left of them: for `opendfs chunk rebuild`.
 *
 * How: chunk_options.rebuild is set, chunk_store_open() and chunk_store_start() as always; with
 * `done` of the start the directory has another index, and the store, which was never usable, is
 * stopped (that says -ECANCELED) and freed. Whatever happens, the store is lossy from the open on:
 * its target asks the other members of its chains for what it lacks before it serves.
 *
 * What is kept: contents whose description is whole (digest), which are in units that no other one
 * has, and whose cells all match their checksums, read from the medium. Of others only that there
 * was something: the chunk is flagged damaged. It may be an older content where an older state of
 * a part of the index was all that was left.
 */
#pragma once

#include "chunk/chunk.h"
#include "tree/check.h"

/* What is not kept. Lent for the call. */
struct chunk_loss {
    struct chunk_key key;
    uint32_t chain; /* 0: not known */
    bool pending;   /* only a content that was never committed */
    bool gone;      /* nor is it known any more that there was something */
    const char *why;
};

struct chunk_rebuild {
    bool without_journal; /* what is in it is not looked at */
    void (*lost)(struct chunk_rebuild *r, const struct chunk_loss *loss);
    void (*index)(void *arg, const struct tree_finding *f); /* of the index; arg: this */
    /* Out, with `done` of the start: */
    uint64_t chunks, bytes;       /* that are kept */
    uint64_t lost_count;          /* contents, pending ones included */
    uint64_t index_losses;        /* places of the index that could not be read */
    bool index_sound, index_gone; /* gone: nothing of it could be read */
    bool journal_broken;          /* there is more of it behind a damage */
};
