/*
 * sim/features.h -- what a world is like and what happens in it, each part of it chosen from the
 * seed by itself, so that every pair of them occurs. Any of them can be asked for by its name, or
 * forbidden, with every seed.
 */
#pragma once

#include "base/base.h"

enum feature {
    FEATURE_DRAINS,   /* an administrator empties targets; then more losses are excused */
    FEATURE_REBUILD,  /* some that are down are not waited for */
    FEATURE_ADDS,     /* the last target comes only while there is work */
    FEATURE_ROTS,     /* bytes go bad while there is work, not only before the last look */
    FEATURE_CLASSES,  /* a second storage class, with another number of copies */
    FEATURE_PAIRS,    /* two targets are on each machine */
    FEATURE_RACKS,    /* machines are in three racks, which lose power as a whole */
    FEATURE_ANYWHERE, /* copies need not be on different machines */
    FEATURE_COUNT
};
struct features {
    uint32_t bits;   /* 1 << enum feature */
    uint32_t copies; /* of files of the first class */
    uint32_t other;  /* of the second one; 0: there is none */
};
/* Asked for on the command line. */
struct features_wish {
    uint32_t with, without;
    uint32_t copies; /* 0: as the seed says */
};
#define FEATURES_TEXT 120u

struct features features_of(uint64_t seed, const struct features_wish *wish);
bool features_have(const struct features *f, enum feature which);
/* -ENOENT: there is no such. */
int features_find(const char *name, uint32_t *ret_bit);
void features_to_text(const struct features *f, char to[FEATURES_TEXT]);
