/*
 * chunk/extent_start_priv.h -- the `extent` engine, while it starts: the index is read, then what
 * the journal tells behind it is done again, then what a power cut may have left half done is
 * verified. extent_load.c, extent_replay.c, extent_verify.c; extent_start.c has them in order.
 */
#pragma once

#include "chunk/extent_priv.h"

/* A chunk that records tell of which may not be stable: as it was before the first of them. */
struct chunk_touched {
    struct chunk_entry *e;
    struct chunk_state was; /* with references */
    bool existed;
};

struct chunk_loading {
    struct chunk_extent *x;
    struct loop_task task;
    struct err error;
    /* index */
    struct kv_snapshot *snapshot;
    struct kv_iter *it;
    struct kv_need need;
    struct kv_fetch fetch;
    struct chunk_index_key after; /* the last record that was seen */
    struct chunk_entry *e;        /* whose parts come now */
    struct chunk_about about;
    bool told; /* there is a record about the whole */
    uint64_t slab_units;
    /* journal */
    bool looking;    /* first, what is stable is looked for */
    uint64_t stable; /* records up to it */
    uint64_t begin;  /* those up to it are in the index */
    uint64_t known;  /* the newest that any chunk of the index knows */
    bool seen;       /* a record was there */
    struct chunk_touched *touched;
    size_t touched_count, touched_capacity;
    struct chunk_entry **broken;
    size_t broken_count, broken_capacity;
    /* verification */
    size_t at;
    uint32_t cell, end; /* of the content: being read from, to */
    bool pending;       /* the pending content; else the committed one */
    uint8_t *bytes;
    uint32_t wanted; /* bytes of the read */
    struct disk_req req;
    bool checkpoint; /* the last step: what is believed becomes stable */
};

/* ---- extent_load.c: reads the index, then chunk_start_loaded() ---- */
void chunk_load_begin(struct chunk_loading *l);
void chunk_load_count(struct chunk_store *s, struct chunk_entry *e); /* blocks of its contents */

/* ---- extent_replay.c: opens the journal; blocks. Errors as of journal_open() ---- */
NODISCARD int chunk_replay(struct chunk_loading *l);

/* ---- extent_verify.c: then chunk_start_verified() ---- */
void chunk_verify_begin(struct chunk_loading *l);
void chunk_start_verified(struct chunk_loading *l, int rc);

/* ---- extent_start.c ---- */
void chunk_start_loaded(struct chunk_loading *l, int rc);
