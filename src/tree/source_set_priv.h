/*
 * tree/source_set_priv.h -- some of the sources of a merge, by number: the newest is 0. Of a merge
 * with few sources only the first words are looked at.
 */
#pragma once

#include "tree/merge.h"

#include <string.h>

#define SOURCE_SET_BITS 64u

struct source_set {
    uint64_t word[TREE_SOURCES_MAX / SOURCE_SET_BITS];
};

_Static_assert(TREE_SOURCES_MAX % SOURCE_SET_BITS == 0 && TREE_SOURCES_MAX <= UINT8_MAX + 1,
               "whole words, and a number is a byte");

static inline unsigned source_set_words(size_t sources)
{
    return (unsigned)((sources + SOURCE_SET_BITS - 1) / SOURCE_SET_BITS);
}

static inline void source_set_clear(struct source_set *s, unsigned words)
{
    for (unsigned i = 0; i < words; i++) {
        s->word[i] = 0;
    }
}

static inline void source_set_add(struct source_set *s, size_t source)
{
    s->word[source / SOURCE_SET_BITS] |= UINT64_C(1) << source % SOURCE_SET_BITS;
}

static inline void source_set_remove(struct source_set *s, size_t source)
{
    s->word[source / SOURCE_SET_BITS] &= ~(UINT64_C(1) << source % SOURCE_SET_BITS);
}

static inline bool source_set_has(const struct source_set *s, size_t source)
{
    return (s->word[source / SOURCE_SET_BITS] >> source % SOURCE_SET_BITS & 1) != 0;
}

/* The newest of them; TREE_SOURCES_MAX: there is none. */
static inline size_t source_set_first(const struct source_set *s, unsigned words)
{
    for (unsigned i = 0; i < words; i++) {
        if (s->word[i] != 0) {
            return i * (size_t)SOURCE_SET_BITS + (size_t)__builtin_ctzll(s->word[i]);
        }
    }
    return TREE_SOURCES_MAX;
}
