/*
 * chunk/hold.h -- what is known of a chunk need not be in memory: an engine with an index on disk
 * keeps a part of it there (chunk_options.entry_bytes). Whoever asks for more is told -ERR_need, by
 * chunk_store_lookup(), _next() and _pin(), and waits: for one chunk with a hold (or a pin), for a
 * walk with an ahead. Thread, callbacks, errors: as store.h.
 */
#pragma once

#include "chunk/store.h"

/* What is known of one chunk, or that there is none, stays in memory until it is let go. */
struct chunk_hold {
    void (*done)(struct chunk_hold *h, int rc); /* of chunk_store_hold_wait() */
    struct chunk_key key;
    struct chunk_entry *entry; /* the store's */
    struct chunk_work *work;
};
/* 0: it is held. -ERR_need: chunk_store_hold_wait() brings it. -ENOMEM, -ERR_busy, class EIO. */
NODISCARD int chunk_store_hold(struct chunk_store *s, struct chunk_hold *h);
void chunk_store_hold_wait(struct chunk_store *s, struct chunk_hold *h);
void chunk_store_let_go(struct chunk_store *s, struct chunk_hold *h);

/* Chunks with a pending content are always in memory: the first of them from *from on. -ENOENT:
 * there is none; -EAGAIN: there may be one at *from or behind it, which was raised, for no call
 * takes long. */
NODISCARD int chunk_store_next_pending(struct chunk_store *s, struct chunk_key *from,
                                       struct chunk_info *ret);

/* The next damaged chunk of a walk, in no order that counts; all zero: the first. One that is found
 * to be damaged meanwhile may be missed, one that gets well may still be told. -ENOENT: there are
 * no more; -EAGAIN: ask again soon, for no call takes long, and what is on the disk is being read;
 * class EIO. */
struct chunk_damage {
    struct chunk_key key; /* out, and where the walk is */
    uint32_t chain;
    bool behind;  /* that chunk has been looked at */
    bool indexed; /* those that only memory has were told; now those that the disk has */
};
NODISCARD int chunk_store_next_damaged(struct chunk_store *s, struct chunk_damage *d);

/* Reads what chunk_store_next() needs from `from` on: after `done` with 0 the same call does not
 * say -ERR_need, as long as this is not ended. Ended in any case before the store is freed; also
 * while it is under way, then `done` does not come. Zero-initialised; may be begun again after
 * `done`. -ENOMEM: it was not begun. */
struct chunk_ahead {
    void (*done)(struct chunk_ahead *a, int rc);
    struct chunk_key from;
    struct chunk_reading *reading; /* the store's */
    int rc;
};
NODISCARD int chunk_store_ahead(struct chunk_store *s, struct chunk_ahead *a);
void chunk_store_ahead_end(struct chunk_store *s, struct chunk_ahead *a); /* fine when not begun */
static inline bool chunk_ahead_active(const struct chunk_ahead *a)
{
    return a->reading != NULL && a->rc == -EINPROGRESS;
}
