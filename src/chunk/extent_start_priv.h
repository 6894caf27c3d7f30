/*
 * chunk/extent_start_priv.h -- the `extent` engine, while it starts: what it needs of the index is
 * read, then the chunks that the journal behind it tells of, then that is done again, then what a
 * power cut may have left half done is verified. extent_load.c, extent_check.c, extent_replay.c,
 * extent_verify.c; extent_start.c has them in order.
 */
#pragma once

#include "chunk/extent_index_priv.h"

/* A chunk that records tell of which may not be stable: as it was before the first of them. */
struct chunk_touched {
    struct chunk_entry *e;
    struct chunk_state was; /* with references */
    bool existed;
};

enum chunk_load_phase {
    CHUNK_LOAD_ABOUT,
    CHUNK_LOAD_CHECK,
    CHUNK_LOAD_SLABS,
    CHUNK_LOAD_NOTED,
    CHUNK_LOAD_SUMS,
    CHUNK_LOAD_OVER,
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
    enum chunk_load_phase phase;
    struct chunk_about about;
    bool told;                       /* there is a record about the whole */
    struct chunk_checking *checking; /* all of it is read */
    bool converting;                 /* because it is of an older version */
    struct chunk_key from;           /* entries before it have what the index has */
    /* journal */
    bool looking;           /* first, what is stable is looked for */
    bool carried;           /* records behind the index have cells */
    bool placing;           /* at last, those are put in their places */
    uint64_t stable;        /* records up to it */
    uint64_t begin;         /* those up to it are in the index */
    bool seen;              /* a record was there */
    uint64_t journal_index; /* that of its last one */
    /* An older checkpoint, with the journal behind it, would bring back what was rejected: it is
     * not kept, and until it has gone nothing says that those records are stable. 0: none was. */
    uint64_t doubted;
    struct chunk_touched *touched;
    size_t touched_count, touched_capacity;
    struct chunk_entry **broken;
    size_t broken_count, broken_capacity;
    /* verification */
    size_t touched_next; /* those before it are in a lane, or done */
    unsigned lanes;      /* that are not over */
    int lane_rc;
};

/* ---- extent_load.c: reads of the index what is needed, then chunk_start_loaded() ---- */
void chunk_load_begin(struct chunk_loading *l);
/* What it has of all entries that there are, then chunk_start_known(). */
void chunk_load_entries(struct chunk_loading *l);

/* ---- extent_check.c: reads all of it ---- */
bool chunk_check_wanted(const struct chunk_loading *l);
NODISCARD int chunk_check_begin(struct chunk_loading *l);
NODISCARD int chunk_check_record(struct chunk_loading *l, struct kv_slice key,
                                 struct kv_slice value);
NODISCARD int chunk_check_over(struct chunk_loading *l);
void chunk_check_sums(struct chunk_loading *l);
NODISCARD int chunk_check_convert(struct chunk_loading *l);
struct chunk_checking *chunk_check_free(struct chunk_checking *c);

/* ---- extent_replay.c: reads the journal; blocks. Errors as of journal_open() ---- */
NODISCARD int chunk_replay_look(struct chunk_loading *l); /* makes entries of what it tells of */
NODISCARD int chunk_replay(struct chunk_loading *l);      /* which are loaded */

/* ---- extent_place.c ---- */
NODISCARD int chunk_place_record(struct chunk_loading *l, const struct journal_record *r);

/* ---- extent_verify.c: then chunk_start_verified() ---- */
void chunk_verify_begin(struct chunk_loading *l);
void chunk_start_verified(struct chunk_loading *l, int rc);

/* ---- extent_start.c ---- */
void chunk_start_loaded(struct chunk_loading *l, int rc);
void chunk_start_known(struct chunk_loading *l, int rc);
