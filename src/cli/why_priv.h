/*
 * cli/why_priv.h -- what would lose a file: which hosts have copies of which chunks. Pure; chunks
 * are added one by one, and only different sets of hosts are kept.
 */
#pragma once

#include "base/text.h"
#include "opendfs/where.h"

#define WHY_SETS_MAX 64u  /* more are only counted */
#define WHY_HOSTS_MAX 16u /* of one chunk */
#define WHY_HOST_SIZE 80u

/* Chunks whose good copies are on the same hosts. */
struct why_set {
    char host[WHY_HOSTS_MAX][WHY_HOST_SIZE]; /* in order */
    size_t host_count, chunk_count;
    uint32_t first; /* the first of them */
};
struct why {
    struct why_set set[WHY_SETS_MAX];
    size_t set_count;
    uint64_t chunks, holes;  /* looked at; stored nowhere, so they are zeros */
    uint64_t unreadable;     /* no serving member has said that it has it */
    uint64_t few, different; /* fewer good copies than the class wants; a member has others */
    uint64_t elsewhere;      /* of sets that were not kept */
    size_t least;            /* hosts, of the chunk that is on the fewest; SIZE_MAX: no data */
    uint32_t unreadable_first;
};
void cli_why_init(struct why *y);
enum why_kind { WHY_GOOD, WHY_FEW, WHY_DIFFERENT, WHY_UNREADABLE, WHY_HOLE };
/* `copies`: as the class wants, 0: not known. What is to be said of this chunk. */
enum why_kind cli_why_add(struct why *y, const struct opendfs_where_chunk *k, uint32_t copies);
/* Is this one of the good copies of the chunk? */
bool cli_why_is_good(const struct opendfs_where_chunk *k, const struct opendfs_where_member *m);
/* Where it is, for people: its host, or what else is known. */
void cli_why_host_text(const struct opendfs_where_target *t, char out[WHY_HOST_SIZE]);
/* "losing hosts a and b loses 3 chunks (the first is chunk 7)" */
void cli_why_set_text(const struct why_set *s, struct text *out);
/* "Any one host may be lost." and the like: one sentence for all of it. */
void cli_why_text(const struct why *y, struct text *out);
