/*
 * history/check.h -- is a history linearizable? Is there an order of all its operations (each
 * between its beginning and its end; one of unknown outcome any time after its beginning, or never)
 * in which the file system of tree.h would have given these answers?
 *
 * The search is Wing and Gong's with Lowe's two additions: an operation is put in order only when
 * its answer is due ("just in time"), and what was seen before (place in the history, tree, how far
 * each operation is) is not looked at again. Trees are compared by 128-bit hashes of their
 * normalized bytes. Renames couple all names, so the whole tree is one object.
 *
 * Bounded: `states_max` places that were tried; then the verdict is "unknown", which is not
 * "linearizable". Thread: any. Memory: about 40 bytes for each state, and 1 KiB for each step of
 * the order that is being tried.
 */
#pragma once

#include "history.h"

#define CHECK_STATES_MAX (1u << 20)

enum check_verdict { CHECK_LINEARIZABLE, CHECK_NOT_LINEARIZABLE, CHECK_UNKNOWN };
struct check_report {
    enum check_verdict verdict;
    uint64_t states, steps;
    size_t stuck;    /* not linearizable: no order gets past the end of this operation */
    char text[2000]; /* why, for people */
};

/* `states_max` 0: CHECK_STATES_MAX. -ENOMEM. */
NODISCARD int check_history(const struct history *h, uint64_t states_max, struct check_report *ret);
/* The same question for at most 8 operations, by trying every order: tests of the other. 1, 0. */
NODISCARD int check_by_force(const struct history *h);
