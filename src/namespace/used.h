/*
 * namespace/used.h -- which data ids of a window are somebody's: an inode names them (one that is
 * open but has no name and one in the trash are inodes as well), or they are being removed. All of
 * one snapshot, in bounded steps, a bit for each data id.
 */
#pragma once

#include "namespace/query.h"

/* Set first, end and bits; else zero. Call until `done`, on the same snapshot. */
struct namespace_used {
    uint64_t first, end; /* the window: end is not in it */
    uint64_t *bits;      /* the caller's, NAMESPACE_USED_WORDS of them, zero */
    struct namespace_state state;
    uint64_t records; /* looked at */
    bool done;
    /* private */
    unsigned stage;
    bool started;
    uint64_t after, seen; /* seen: records of this stage */
};
#define NAMESPACE_USED_WORDS(ids) ((size_t)(((ids) + 63) / 64))

/* Looks at up to `max` records. -ERR_need: fetch and call again; with 0 the caller releases the
 * need list. The arena is reset before each call. -EUCLEAN: there is a record that cannot be read,
 * or there are not as many as the state counts, so that nobody knows which data ids are used; else
 * as of reading. */
NODISCARD int namespace_used_step(const struct namespace_view *v, size_t max,
                                  struct namespace_used *u);
static inline bool namespace_used_has(const struct namespace_used *u, uint64_t data_id)
{
    uint64_t at = data_id - u->first;
    return data_id < u->first || data_id >= u->end || (u->bits[at / 64] >> (at % 64) & 1) != 0;
}
