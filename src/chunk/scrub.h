/*
 * chunk/scrub.h -- the check of all chunks of a store in the background, round after round: each
 * is read from the medium and compared with its checksums (chunk_store_verify). What is bad is
 * flagged by the store and told to its user, who repairs it.
 *
 * A round is spread over its time: after each few chunks it rests for as long as the bytes that are
 * left allow, and always so long that no more than its share of the disk's time is used; while
 * clients are being served, a small part of that. Which chunks: those that were there when the
 * round began. Where it is is kept in the file `scrub` of the store's directory, from time to time
 * and at the end: a restart goes on from there, and what was looked at since then is looked at
 * again.
 *
 * Thread: the loop of env. New and free block (a small file); nothing else does.
 */
#pragma once

#include "chunk/read.h"
#include "loop/loop.h"

struct chunk_scrub;

struct chunk_scrub_user {
    const struct chunk_scrub_user_ops *ops;
};
struct chunk_scrub_user_ops {
    /* Was somebody served since the last question? Then it goes slower. */
    bool (*busy)(struct chunk_scrub_user *u);
};

#define CHUNK_SCRUB_ROUND_MS (UINT64_C(21) * 24 * 3600 * 1000)
#define CHUNK_SCRUB_SHARE_PERMILLE 100u
struct chunk_scrub_options {
    const struct env *env;
    struct chunk_store *store; /* must outlive it */
    struct chunk_scrub_user *user;
    const char *directory;   /* of the store; NULL: nothing is kept */
    uint64_t round_ms;       /* 0: three weeks */
    uint32_t share_permille; /* of the time of the disk; 0: 100; at most 1,000 */
};
/* Begins to work by itself. -ENOMEM; a file that cannot be read or written is told to the log, and
 * the round begins anew. */
NODISCARD int chunk_scrub_new(const struct chunk_scrub_options *opt, struct chunk_scrub **ret);
/* Begins no check any more, notes where it is. When it is not active any more, the store may be
 * stopped. */
void chunk_scrub_stop(struct chunk_scrub *s);
bool chunk_scrub_active(const struct chunk_scrub *s); /* something is in flight; NULL is fine */
/* Not while it is active, except when the process ends anyway. NULL is fine. */
struct chunk_scrub *chunk_scrub_free(struct chunk_scrub *s);
DEFINE_FREEP(chunk_scrub)

/* Where a round is. Times: wall clock, ms. */
struct chunk_scrub_round {
    uint64_t begun_ms;     /* 0: none is under way */
    struct chunk_key next; /* looked at next */
    uint64_t last_id;      /* no data id above it belongs to this round */
    uint64_t weight, done; /* of all chunks at its beginning, of those that were looked at */
    uint64_t chunks, found;
};
struct chunk_scrub_info {
    struct chunk_scrub_round round;
    uint64_t rounds; /* that were completed */
    uint64_t last_end_ms, last_took_ms, last_chunks, last_found;
    uint64_t found; /* damaged chunks, ever */
};
void chunk_scrub_info(const struct chunk_scrub *s, struct chunk_scrub_info *ret);
uint32_t chunk_scrub_permille(const struct chunk_scrub_info *x); /* of the round under way */
