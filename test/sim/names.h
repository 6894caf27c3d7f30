/*
 * sim/names.h -- several clients at work on the same few names, while the metadata server and they
 * themselves are killed, connections break and clocks jump. What they asked and were told becomes a
 * history (history/history.h), which must be linearizable.
 *
 * A run of its own, in a world of its own. The contents of files are small, and machines with
 * targets do not lose power: what a client was told about contents stays true.
 */
#pragma once

#include "history/history.h"

struct names_result {
    char failure[2400]; /* empty: all is well */
    bool undecided;     /* the checker has found neither an order nor that there is none */
    uint64_t operations, unknown, states, digest;
};
/* `path`: where the history is written; NULL: nowhere. */
void names_run(uint64_t seed, bool verbose, const char *path, struct names_result *ret);
